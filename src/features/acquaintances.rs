//! Who has answered whom in this run: the difference between a first contact and an old one that fails today, and between
//! a guess and a server that others have found.
//!
//! Bounded; the oldest acquaintance is forgotten first, so that a replay forgets alike.

use std::cell::Cell;
use std::net::IpAddr;

use super::is_monitoring;
use super::recollection::Recollection;
use crate::address::Mac;
use crate::dissect::Transaction;
use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::{FlowId, Outcome, Protocol};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::time::Timestamp;

/// Acquaintances remembered.
const MAX: usize = 1 << 17;
const SSH: u16 = 22;

/// Pairs of addresses that have had an answer, and the most that was ever said between them.
#[derive(Debug)]
pub struct Acquaintances {
    /// Most payload bytes that the originator sent in one conversation.
    said: Recollection<u64>,
    /// Who has answered anybody, and since when if it was but one.
    servers: Recollection<Option<Timestamp>>,
    /// Who has said something over TCP and had an answer to it: nobody can in the name of an address that he made up.
    spoken: Recollection<()>,
    /// The Ethernet addresses from which those spoke, or else said by ARP that they are there.
    homes: Recollection<Mac>,
    /// Addresses that serve others.
    serving: Recollection<Serving>,
    /// Pairs of addresses of which the one has asked the other how it is, and for nothing else.
    scrapers: Recollection<bool>,
    /// The last answer of `met`: several ask of the same flow, one after the other.
    last: Cell<Option<(FlowId, bool)>>,
}

/// What an address serves.
#[derive(Clone, Copy, Debug)]
struct Serving {
    /// The first of its ports.
    ports: [Option<u16>; 4],
    /// The conversation by which the last of them was found.
    by: FlowId,
}

impl Default for Acquaintances {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl Acquaintances {
    /// Nobody known yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        let max = share.part(MAX);
        Self {
            said: Recollection::new(max),
            servers: Recollection::new(max),
            serving: Recollection::new(max),
            scrapers: Recollection::new(max),
            spoken: Recollection::new(max),
            homes: Recollection::new(max),
            last: Cell::new(None),
        }
    }

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
                    let (since, first) = self.servers.entry(&server(flow), || Some(event.time));
                    if !first {
                        *since = None;
                    }
                    // Probes of the kubelet and logins by SSH make nobody a server.
                    let node = flow.orig.who.identity.kind == IdentityKind::Node;
                    if !node && flow.resp_port != SSH {
                        self.note_serving(flow);
                    }
                }
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::HttpRequest(request),
            } => self.asked(flow, &request.path),
            EventKind::Resolution {
                actor,
                hardware: Some(hardware),
                ..
            } => {
                self.homes.entry(&actor.ip, || *hardware);
            }
            EventKind::FlowEnded { flow, record } => {
                let [said, heard] = record.payload_bytes;
                if said > 0 && heard > 0 && flow.protocol == Protocol::Tcp {
                    self.spoken.entry(&flow.orig.ip, || ());
                    if let Some(sender) = flow.sender {
                        *self.homes.entry(&flow.orig.ip, || sender).0 = sender;
                    }
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

    fn note_serving(&mut self, flow: &FlowInfo) {
        let (serving, _) = self.serving.entry(&flow.resp.ip, || Serving {
            ports: [None; 4],
            by: flow.id,
        });
        let port = Some(flow.resp_port);
        if serving.ports.contains(&port) {
            return;
        }
        if let Some(free) = serving.ports.iter_mut().find(|place| place.is_none()) {
            *free = port;
            serving.by = flow.id;
        }
    }

    /// Takes back what was noted of a server when it turns out that it was asked how it is (as Prometheus does),
    /// which every kind of program tells; notes it if something else is asked for later.
    fn asked(&mut self, flow: &FlowInfo, path: &str) {
        let measurements = is_monitoring(path);
        let found_by_it = |serving: &&mut Serving| serving.by == flow.id;
        if measurements
            && let Some(serving) = self.serving.get_mut(&flow.resp.ip).filter(found_by_it)
        {
            let port = Some(flow.resp_port);
            if let Some(place) = serving.ports.iter_mut().find(|place| **place == port) {
                *place = None;
                self.scrapers.entry(&key(flow), || true);
            }
        } else if !measurements
            && let Some(only) = self.scrapers.get_mut(&key(flow))
            && std::mem::take(only)
        {
            self.note_serving(flow);
        }
    }

    /// Whether the flow's responder has answered anybody there before: then whoever comes next may well have been told of
    /// it, even if nobody answers any more.
    pub fn served(&self, flow: &FlowInfo) -> bool {
        self.servers.get(&server(flow)).is_some()
    }

    /// When the flow's responder first answered on that port, if but one has ever called it there.
    pub fn served_one_since(&self, flow: &FlowInfo) -> Option<Timestamp> {
        *self.servers.get(&server(flow))?
    }

    /// Whether an address has answered others, on whatever port but SSH's. Nodes don't count as others, nor do those
    /// who only ask how it is.
    pub fn serves(&self, ip: IpAddr) -> bool {
        let serving = self.serving.get(&ip);
        serving.is_some_and(|serving| serving.ports.iter().any(Option::is_some))
    }

    /// Whether an address has answered others on a port that is like that. Of an address, four ports are remembered.
    pub fn serves_at(&self, ip: IpAddr, is_like: impl Fn(u16) -> bool) -> bool {
        let serving = self.serving.get(&ip);
        serving.is_some_and(|serving| serving.ports.iter().flatten().any(|port| is_like(*port)))
    }

    /// Whether an address has answered others on other ports than this, and not on this one; SSH's apart.
    pub fn serves_else(&self, ip: IpAddr, port: u16) -> bool {
        let serves = |serving: &Serving| !serving.ports.contains(&Some(port));
        self.serves(ip) && self.serving.get(&ip).is_some_and(serves)
    }

    /// The Ethernet address at which an address lives, as far as it has shown.
    pub fn home(&self, ip: IpAddr) -> Option<Mac> {
        self.homes.get(&ip).copied()
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

    /// Whether either of two addresses had an answer of the other at a TCP port.
    pub fn converse(&self, one: IpAddr, other: IpAddr, port: u16) -> bool {
        let number = Protocol::Tcp.number();
        [(one, other), (other, one)]
            .iter()
            .any(|&(orig, resp)| self.said.get(&(orig, resp, port, number)).is_some())
    }

    /// Whether there is somebody at an address: it has answered others, or held a conversation.
    pub fn is_there(&self, ip: IpAddr) -> bool {
        self.spoken.get(&ip).is_some() || self.serving.get(&ip).is_some()
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
