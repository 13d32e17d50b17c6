//! What a pod spends its words on: how often it has spoken, to whomever.
//!
//! A pod that has answered a thousand questions and then asks a registry for its catalogue has changed its job; a builder
//! that has said nothing else hasn't. Counted in turns, as client and as server, so that it holds for any protocol, in clear
//! or not. Look-ups of names don't count.

use lru::LruCache;

use super::bounded;
use super::{SourceKey, source_key};
use crate::event::{Endpoint, Event, EventKind};
use crate::flow::Direction;
use crate::identity::IdentityKind;

/// Pods remembered; the one heard of least recently goes first.
const MAX_PODS: usize = 16 * 1024;

/// Turns spoken, per pod.
#[derive(Debug)]
pub struct Habits {
    spoken: LruCache<SourceKey, u64>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            spoken: bounded(MAX_PODS),
        }
    }
}

impl Habits {
    /// Learns from an event.
    pub fn observe(&mut self, event: &Event) {
        let EventKind::Turn { flow, turn } = &event.kind else {
            return;
        };
        let speaker = match turn.direction {
            Direction::Orig => &flow.orig,
            Direction::Resp => &flow.resp,
        };
        if speaker.who.identity.kind == IdentityKind::Pod {
            *self.spoken.get_or_insert_mut(source_key(speaker), || 0) += 1;
        }
    }

    /// In how many turns a pod has spoken so far.
    pub fn spoken(&self, pod: &Endpoint) -> u64 {
        self.spoken.peek(&source_key(pod)).copied().unwrap_or(0)
    }
}
