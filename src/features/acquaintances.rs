//! Who has answered whom in this run: the difference between a first contact and an old one that fails today.
//!
//! Exact and bounded; the oldest acquaintance is forgotten first, so that a replay forgets alike.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::Outcome;

/// Acquaintances remembered.
const MAX: usize = 1 << 17;

/// Originator, responder, its port, IANA protocol number.
type Key = (IpAddr, IpAddr, u16, u8);

/// Pairs of addresses that have had an answer, and the most that was ever said between them.
#[derive(Debug, Default)]
pub struct Acquaintances {
    /// Most payload bytes that the originator sent in one conversation.
    said: HashMap<Key, u64, RandomState>,
    order: VecDeque<Key>,
}

impl Acquaintances {
    /// Learns from an event; to be called when everybody else has judged it.
    pub fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } => {
                let key = key(flow);
                if self.said.contains_key(&key) {
                    return;
                }
                if self.order.len() >= MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.said.remove(&oldest);
                }
                self.said.insert(key, 0);
                self.order.push_back(key);
            }
            EventKind::FlowEnded { flow, record } => {
                let [said, _] = record.payload_bytes;
                if said > 0
                    && let Some(most) = self.said.get_mut(&key(flow))
                {
                    *most = said.max(*most);
                }
            }
            _ => {}
        }
    }

    /// Whether the flow's originator had an answer there before.
    pub fn met(&self, flow: &FlowInfo) -> bool {
        self.said.contains_key(&key(flow))
    }

    /// The most that the flow's originator has said there in an earlier conversation, in payload bytes.
    pub fn said(&self, flow: &FlowInfo) -> u64 {
        self.said.get(&key(flow)).copied().unwrap_or(0)
    }
}

fn key(flow: &FlowInfo) -> Key {
    (
        flow.orig.ip,
        flow.resp.ip,
        flow.resp_port,
        flow.protocol.number(),
    )
}
