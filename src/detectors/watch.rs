//! Sources under watch: bounded, forgotten after a long silence, told when there is enough, at each doubling, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Evidence, Family, StateSize};
use crate::event::Endpoint;
use crate::features::{Bounded, SourceKey, source_key};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// A count of what is told apart only up to `most`, in words.
pub(super) fn at_least(count: u64, most: usize) -> String {
    if count >= most as u64 {
        format!("at least {count}")
    } else {
        count.to_string()
    }
}

/// What a detector keeps of each source.
#[derive(Debug)]
pub(super) struct Watch<T> {
    sources: Bounded<SourceKey, Watched<T>>,
    forget_after: Duration,
    evicted: u64,
}

/// One source.
#[derive(Debug)]
pub(super) struct Watched<T> {
    /// Who it is.
    pub(super) actor: Endpoint,
    /// First sign.
    pub(super) first: Timestamp,
    /// Last sign.
    pub(super) last: Timestamp,
    /// What is known of it.
    pub(super) state: T,
    /// How large it was when it was last told; 0 if it never was.
    told: u64,
}

impl<T> Watched<T> {
    /// Whether it has grown so much since it was last told that it is told again; from now on it was.
    pub(super) const fn is_news(&mut self, size: u64) -> bool {
        let news = size > 0 && size >= self.told.saturating_mul(2);
        if news {
            self.told = size;
        }
        news
    }
}

impl<T: Default> Watch<T> {
    pub(super) fn new(max_sources: usize, forget_after_secs: u64) -> Self {
        Self {
            sources: Bounded::new(max_sources),
            forget_after: Duration::from_secs(forget_after_secs),
            evicted: 0,
        }
    }

    /// A source that gave a sign.
    pub(super) fn sign(&mut self, actor: &Endpoint, time: Timestamp) -> &mut Watched<T> {
        let key = source_key(actor);
        let (source, gone) = self.sources.entry_or_insert_with(key, || Watched {
            actor: actor.clone(),
            first: time,
            last: time,
            state: T::default(),
            told: 0,
        });
        self.evicted += u64::from(gone.is_some());
        source.last = source.last.max(time);
        source
    }

    /// A source that is under watch already.
    pub(super) fn known(&mut self, actor: &Endpoint) -> Option<&mut Watched<T>> {
        self.sources.get_mut(&source_key(actor))
    }

    /// Forgets who was not heard of for long; those that were told are returned for their last word.
    pub(super) fn stale(&mut self, now: Timestamp) -> Vec<Watched<T>> {
        let before = now.before(self.forget_after);
        let mut gone = Vec::new();
        while let Some((_, source)) = self.sources.peek_oldest()
            && source.last < before
            && let Some((_, source)) = self.sources.pop_oldest()
        {
            gone.extend((source.told > 0).then_some(source));
        }
        gone
    }

    /// Those that were told, for their last word at the end of the input.
    pub(super) fn all(&mut self) -> Vec<Watched<T>> {
        let mut all = Vec::new();
        while let Some((_, source)) = self.sources.pop_oldest() {
            all.extend((source.told > 0).then_some(source));
        }
        all
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.sources.limit(),
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

/// What evidence weighs: the strongest of each family, summed, as an alert counts it.
pub(super) fn weigh(evidence: &[Evidence]) -> f64 {
    let mut families: BTreeMap<Family, f64> = BTreeMap::new();
    for one in evidence {
        let best = families.entry(one.family).or_insert(one.bits);
        *best = best.max(one.bits);
    }
    families.values().sum()
}
