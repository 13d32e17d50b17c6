//! What a pod spends its words on: how much it has asked of others.
//!
//! A pod that has asked its database a thousand questions and then asks a registry for its catalogue has changed its job; a
//! builder that has asked nobody else hasn't. Counted in turns of those who begin conversations, so that it holds for any
//! protocol, in clear or not.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::{SourceKey, source_key};
use crate::event::{Endpoint, Event, EventKind};
use crate::flow::Direction;
use crate::identity::IdentityKind;

/// Sources remembered; the one heard of least recently goes first.
const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(16 * 1024).unwrap();

/// Requests made, per pod.
#[derive(Debug)]
pub struct Habits {
    requests: LruCache<SourceKey, u64>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            requests: LruCache::new(MAX_SOURCES),
        }
    }
}

impl Habits {
    /// Learns from an event.
    pub fn observe(&mut self, event: &Event) {
        let EventKind::Turn { flow, turn } = &event.kind else {
            return;
        };
        if turn.direction == Direction::Orig && flow.orig.who.identity.kind == IdentityKind::Pod {
            *self
                .requests
                .get_or_insert_mut(source_key(&flow.orig), || 0) += 1;
        }
    }

    /// How often a pod has asked somebody something so far (look-ups of names don't count).
    pub fn requests(&self, source: &Endpoint) -> u64 {
        self.requests
            .peek(&source_key(source))
            .copied()
            .unwrap_or(0)
    }
}
