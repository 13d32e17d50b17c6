//! Who has answered whom in this run: the difference between a first contact and an old one that fails today, and between
//! a guess and a server that others have found.
//!
//! Exact and bounded; the oldest acquaintance is forgotten first, so that a replay forgets alike.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::{FlowId, Outcome};

/// Acquaintances remembered.
const MAX: usize = 1 << 17;

/// Originator, responder, its port, IANA protocol number.
type Key = (IpAddr, IpAddr, u16, u8);

/// Responder, its port, IANA protocol number.
type Server = (IpAddr, u16, u8);

/// Pairs of addresses that have had an answer, and the most that was ever said between them.
#[derive(Debug, Default)]
pub struct Acquaintances {
    /// Most payload bytes that the originator sent in one conversation.
    said: HashMap<Key, u64, RandomState>,
    order: VecDeque<Key>,
    /// Who has answered anybody.
    servers: HashSet<Server, RandomState>,
    servers_order: VecDeque<Server>,
    /// The last answer of `met`: several ask of the same flow, one after the other.
    last: Cell<Option<(FlowId, bool)>>,
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
                self.last.set(None);
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
                self.serve(server(flow));
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

    fn serve(&mut self, server: Server) {
        if !self.servers.insert(server) {
            return;
        }
        self.servers_order.push_back(server);
        if self.servers_order.len() > MAX
            && let Some(oldest) = self.servers_order.pop_front()
        {
            self.servers.remove(&oldest);
        }
    }

    /// Whether the flow's responder has answered anybody there before: then whoever comes next may well have been told of
    /// it, even if nobody answers any more.
    pub fn served(&self, flow: &FlowInfo) -> bool {
        self.servers.contains(&server(flow))
    }

    /// Whether the flow's originator had an answer there before.
    pub fn met(&self, flow: &FlowInfo) -> bool {
        if let Some((id, met)) = self.last.get()
            && id == flow.id
        {
            return met;
        }
        let met = self.said.contains_key(&key(flow));
        self.last.set(Some((flow.id, met)));
        met
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

fn server(flow: &FlowInfo) -> Server {
    (flow.resp.ip, flow.resp_port, flow.protocol.number())
}
