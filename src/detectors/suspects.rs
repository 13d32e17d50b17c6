//! What the scan detectors share: which contacts count, the lines of sources, when to report one, when to forget it.
//!
//! A source that has become suspicious is reported after a pause in which the attack shows its shape, then at each doubling,
//! and once more when it is forgotten or the input ends, so that an attack is told once and its numbers stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::decoys::Decoys;
use super::{Context, Evidence, StateSize, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::features::{ContactLines, FirstContact, Line, SourceKey, success};
use crate::flow::{Outcome, Protocol};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// What silence over UDP says, of what a refusal says: about one honest client in three sends to somebody who never answers.
const SILENT_DATAGRAM: f64 = 0.5;
/// Ports that traceroute counts up to see who complains on the way.
const TRACEROUTE: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// The first contact that a flow is, now that it is known how it was taken; `None` if it is none, or says nothing.
pub(super) fn first_contact<'a>(
    flow: &'a Arc<FlowInfo>,
    outcome: Outcome,
    time: Timestamp,
    context: &Context<'_>,
) -> Option<FirstContact<'a>> {
    let datagram = flow.protocol == Protocol::Udp;
    let traced = datagram && TRACEROUTE.contains(&flow.resp_port);
    let stranger = flow.resp.who.identity.kind == IdentityKind::External;
    // Peer-to-peer software asks strangers over UDP all day, and most are gone.
    if traced || datagram && stranger && outcome == Outcome::Silent {
        return None;
    }
    let success = success(outcome, true)?;
    if context.is_known(flow) || !success && !context.is_guess(flow) {
        return None;
    }
    let weight = if datagram && outcome == Outcome::Silent {
        SILENT_DATAGRAM
    } else {
        1.0
    };
    Some(FirstContact {
        weight,
        vouched: context.is_there(&flow.orig),
        ..FirstContact::of(flow, success, time)
    })
}

/// A port of an end that answered, or an end alone.
pub(super) fn target((endpoint, port): &(Endpoint, u16)) -> Target {
    Target {
        endpoint: Some(endpoint.clone()),
        port: (*port != 0).then_some(*port),
        protocol: None,
        domain: None,
    }
}

/// Whether a line leads to one port of the replicas of one workload and to nobody else: whoever finds them all down was
/// told of that workload, as clients of a cluster are, and guesses at nothing.
pub(super) fn is_one_workload(line: &Line) -> bool {
    let mut targets = line.targets.iter();
    let Some((first, port)) = targets.next() else {
        return false;
    };
    let workload = &first.who.identity.workload;
    workload.is_some()
        && line.attempted <= line.targets.len() as u64
        && targets.all(|(end, at)| at == port && end.who.identity.workload == *workload)
}

#[derive(Debug)]
pub(super) struct Suspects<K> {
    pub(super) lines: ContactLines<K>,
    settle: Duration,
    forget_after: Duration,
    /// Since when each has been suspicious and unreported.
    waiting: BTreeMap<SourceKey, Timestamp>,
    reported: BTreeSet<SourceKey>,
    decoys: Decoys,
}

impl<K: Ord + Copy> Suspects<K> {
    pub(super) fn new(lines: ContactLines<K>, settle_secs: u64, forget_after_secs: u64) -> Self {
        Self {
            lines,
            settle: Duration::from_secs(settle_secs),
            forget_after: Duration::from_secs(forget_after_secs),
            waiting: BTreeMap::new(),
            reported: BTreeSet::new(),
            decoys: Decoys::default(),
        }
    }

    /// A source's evidence is enough, as of `time`, or as of when that was noted before, if it is earlier.
    pub(super) fn note(&mut self, key: SourceKey, time: Timestamp) {
        let since = self.waiting.entry(key).or_insert(time);
        *since = time.min(*since);
    }

    /// Whether a source is to be reported soon anyway.
    pub(super) fn is_noted(&self, key: &SourceKey) -> bool {
        self.waiting.contains_key(key)
    }

    /// The sources to report now, but for decoys: those that have been suspicious for long enough, and those reported
    /// before that were not heard of for so long that they are forgotten next.
    pub(super) fn due(&mut self, now: Timestamp, context: &Context<'_>) -> Vec<SourceKey> {
        let mut due: Vec<_> = self
            .waiting
            .iter()
            .filter(|&(_, since)| now >= since.after(self.settle))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &due {
            self.waiting.remove(key);
            self.reported.insert(key.clone());
        }
        let before = now.before(self.forget_after);
        due.extend(
            self.lines
                .stale(before)
                .filter(|key| self.reported.contains(key))
                .cloned(),
        );
        // Where addresses are made up by the hundred, no single one is worth a word.
        if self.lines.throng(now).is_some() {
            due.retain(|key| !self.lines.is_stranger(key));
        }
        self.decoys.told(due, &mut self.lines, context)
    }

    /// What is told of a source's decoys.
    pub(super) fn decoys(&self, key: &SourceKey) -> Option<Evidence> {
        self.decoys.evidence(key)
    }

    /// Forgets the sources that were not heard of for long.
    pub(super) fn forget(&mut self, now: Timestamp) {
        for key in self.lines.forget(now.before(self.forget_after)) {
            self.waiting.remove(&key);
            self.reported.remove(&key);
        }
    }

    /// Every source that is or was suspicious, but for decoys: their last word is asked for.
    pub(super) fn all(&mut self, context: &Context<'_>) -> Vec<SourceKey> {
        let mut all = std::mem::take(&mut self.reported);
        all.extend(std::mem::take(&mut self.waiting).into_keys());
        if self.lines.last_throng().is_some() {
            all.retain(|key| !self.lines.is_stranger(key));
        }
        let all = all.into_iter().collect();
        self.decoys.told(all, &mut self.lines, context)
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.lines.len(),
            limit: self.lines.limit(),
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.lines.evicted());
        losses
    }
}
