//! What a pod spends its words on: how often it has spoken, to whomever.
//!
//! A pod that has answered a thousand questions and then asks a registry for its catalogue has changed its job; a builder
//! that has said nothing else hasn't. Counted in turns, as client and as server, so that it holds for any protocol, in clear
//! or not. Look-ups of names don't count. What it asks of other services inside, that keep no data, is counted apart: a job
//! that copies a database has no use for them.

use super::Bounded;
use super::{SourceKey, database_product, source_key};
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::flow::Direction;
use crate::identity::IdentityKind;
use crate::memory::Share;

/// Pods remembered; the one heard of least recently goes first.
const MAX_PODS: usize = 16 * 1024;

/// Turns spoken, per pod.
#[derive(Debug)]
pub struct Habits {
    spoken: Bounded<SourceKey, Turns>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Turns {
    all: u64,
    /// Those said to other services inside.
    asked: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl Habits {
    /// Nobody heard of yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        Self {
            spoken: Bounded::new(share.part(MAX_PODS)),
        }
    }

    /// Learns from an event.
    pub fn observe(&mut self, event: &Event) {
        let EventKind::Turn { flow, turn } = &event.kind else {
            return;
        };
        let speaker = match turn.direction {
            Direction::Orig => &flow.orig,
            Direction::Resp => &flow.resp,
        };
        // Without an inventory nobody is known to be a pod, and any private address may be one.
        let kind = speaker.who.identity.kind;
        if matches!(kind, IdentityKind::Pod | IdentityKind::Unknown) {
            let turns = self
                .spoken
                .get_or_insert_with(source_key(speaker), Turns::default);
            turns.all += 1;
            turns.asked += u64::from(turn.direction == Direction::Orig && is_service(flow));
        }
    }

    /// In how many turns a pod has spoken so far.
    pub fn spoken(&self, pod: &Endpoint) -> u64 {
        self.turns(pod).all
    }

    /// In how many turns a pod has asked other services of the cluster, databases apart.
    pub fn asked(&self, pod: &Endpoint) -> u64 {
        self.turns(pod).asked
    }

    fn turns(&self, pod: &Endpoint) -> Turns {
        let turns = self.spoken.peek(&source_key(pod));
        turns.copied().unwrap_or_default()
    }
}

fn is_service(flow: &FlowInfo) -> bool {
    matches!(
        flow.resp.who.identity.kind,
        IdentityKind::Pod | IdentityKind::Service
    ) && database_product(flow.resp_port).is_none()
}
