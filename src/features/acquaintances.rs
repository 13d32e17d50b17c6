//! Who has answered whom in this run: the difference between a first contact and an old one that fails today, and between
//! a guess and a server that others have found.
//!
//! Bounded; the oldest acquaintance is forgotten first, so that a replay forgets alike.

use std::cell::Cell;
use std::net::IpAddr;

use super::recollection::Recollection;
use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::{FlowId, Outcome, Protocol};
use crate::identity::IdentityKind;

/// Acquaintances remembered.
const MAX: usize = 1 << 17;
const SSH: u16 = 22;

/// Pairs of addresses that have had an answer, and the most that was ever said between them.
#[derive(Debug)]
pub struct Acquaintances {
    /// Most payload bytes that the originator sent in one conversation.
    said: Recollection<u64>,
    /// Who has answered anybody.
    servers: Recollection<()>,
    /// Who has said something over TCP and had an answer to it: nobody can in the name of an address that he made up.
    spoken: Recollection<()>,
    /// Addresses that serve others, with the first two of their ports.
    serving: Recollection<(u16, Option<u16>)>,
    /// The last answer of `met`: several ask of the same flow, one after the other.
    last: Cell<Option<(FlowId, bool)>>,
}

impl Default for Acquaintances {
    fn default() -> Self {
        Self {
            said: Recollection::new(MAX),
            servers: Recollection::new(MAX),
            serving: Recollection::new(MAX),
            spoken: Recollection::new(MAX),
            last: Cell::new(None),
        }
    }
}

impl Acquaintances {
    /// Learns from an event; to be called when everybody else has judged it.
    pub fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } => {
                self.last.set(None);
                let (_, new) = self.said.entry(&key(flow), || 0);
                if new {
                    self.servers.entry(&server(flow), || ());
                    // Probes of the kubelet and logins by SSH make nobody a server.
                    let node = flow.orig.who.identity.kind == IdentityKind::Node;
                    if !node && flow.resp_port != SSH {
                        let port = flow.resp_port;
                        let (ports, _) = self.serving.entry(&flow.resp.ip, || (port, None));
                        if ports.0 != port {
                            ports.1.get_or_insert(port);
                        }
                    }
                }
            }
            EventKind::FlowEnded { flow, record } => {
                let [said, heard] = record.payload_bytes;
                if said > 0 && heard > 0 && flow.protocol == Protocol::Tcp {
                    self.spoken.entry(&flow.orig.ip, || ());
                }
                if said > 0
                    && let Some(most) = self.said.get_mut(&key(flow))
                {
                    *most = said.max(*most);
                }
            }
            _ => {}
        }
    }

    /// Whether the flow's responder has answered anybody there before: then whoever comes next may well have been told of
    /// it, even if nobody answers any more.
    pub fn served(&self, flow: &FlowInfo) -> bool {
        self.servers.get(&server(flow)).is_some()
    }

    /// Whether an address has answered others, on whatever port but SSH's; nodes don't count as others.
    pub fn serves(&self, ip: IpAddr) -> bool {
        self.serving.get(&ip).is_some()
    }

    /// Whether an address has answered others on another port than this, SSH's apart.
    pub fn serves_else(&self, ip: IpAddr, port: u16) -> bool {
        let ports = self.serving.get(&ip);
        ports.is_some_and(|(first, second)| *first != port || second.is_some())
    }

    /// Whether the flow's originator had an answer there before.
    pub fn met(&self, flow: &FlowInfo) -> bool {
        if let Some((id, met)) = self.last.get()
            && id == flow.id
        {
            return met;
        }
        let met = self.said.get(&key(flow)).is_some();
        self.last.set(Some((flow.id, met)));
        met
    }

    /// Whether there is somebody at an address: it has answered others, or held a conversation.
    pub fn is_there(&self, ip: IpAddr) -> bool {
        self.spoken.get(&ip).is_some() || self.serves(ip)
    }

    /// The most that the flow's originator has said there in an earlier conversation, in payload bytes.
    pub fn said(&self, flow: &FlowInfo) -> u64 {
        self.said.get(&key(flow)).copied().unwrap_or(0)
    }
}

/// Originator, responder, its port, IANA protocol number.
fn key(flow: &FlowInfo) -> (IpAddr, IpAddr, u16, u8) {
    (
        flow.orig.ip,
        flow.resp.ip,
        flow.resp_port,
        flow.protocol.number(),
    )
}

/// Responder, its port, IANA protocol number.
fn server(flow: &FlowInfo) -> (IpAddr, u16, u8) {
    (flow.resp.ip, flow.resp_port, flow.protocol.number())
}
