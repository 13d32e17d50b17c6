//! What began while we watched: when an address was first seen, when it first called whom, and who else calls there.
//!
//! Without a baseline this is all that tells a habit from a novelty. Somebody who polls a server every minute is seen to
//! do so within the first minute; who was there for ten minutes and then begins to, began something new.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;

use super::PeerNamer;
use super::recollection::Recollection;
use crate::address::is_group;
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::identity::{IdentityKind, Source};
use crate::memory::Share;
use crate::time::Timestamp;

/// Addresses, calls and servers remembered, each.
const MAX: usize = 1 << 16;
/// Different callers counted per server; more than that is a crowd.
const MAX_CALLERS: usize = 4;

/// Whether an end is beyond the cluster as far as is known: outside, or private and in none of the cluster's ranges.
pub fn is_outside(end: &Endpoint) -> bool {
    match end.who.identity.kind {
        IdentityKind::External => true,
        IdentityKind::Unknown => end.who.source == Source::None && !is_group(end.ip),
        IdentityKind::Pod | IdentityKind::Service | IdentityKind::Node => false,
    }
}

/// Whether an end is a pod, or holds an address of the pods' under no known name.
pub fn is_of_pods(end: &Endpoint) -> bool {
    match end.who.identity.kind {
        IdentityKind::Pod => true,
        IdentityKind::Unknown => end.who.source == Source::Cidr && !is_group(end.ip),
        IdentityKind::Service | IdentityKind::Node | IdentityKind::External => false,
    }
}

/// Whether a flow goes out: to an end beyond the cluster, and not from a public address to a private one.
pub fn goes_out(flow: &FlowInfo) -> bool {
    let external = |end: &Endpoint| end.who.identity.kind == IdentityKind::External;
    is_outside(&flow.resp) && (external(&flow.resp) || !external(&flow.orig))
}

/// Whom a client calls: a domain where DNS said so, as addresses behind one change, or else an address; and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Callee {
    /// A registered domain.
    Domain(Arc<str>, u16),
    /// An address.
    Address(IpAddr, u16),
}

impl Callee {
    /// Whom a flow's originator calls.
    pub fn of(flow: &FlowInfo, peers: &PeerNamer) -> Self {
        match peers.domain(flow.orig.ip, flow.resp.ip) {
            Some(domain) => Self::Domain(Arc::clone(domain), flow.resp_port),
            None => Self::Address(flow.resp.ip, flow.resp_port),
        }
    }
}

/// First sights and first calls.
#[derive(Debug)]
pub struct Debuts {
    seen: Recollection<Timestamp>,
    /// The same of addresses outside, which are many, and none of ours must be forgotten for them.
    seen_outside: Recollection<Timestamp>,
    called: Recollection<Timestamp>,
    /// Who calls a server, by workload where there is one.
    callers: Recollection<Callers>,
    /// How many servers a client calls on one port.
    rounds: Recollection<u32>,
    hasher: RandomState,
}

/// The first few different callers of a server.
#[derive(Default, Debug)]
struct Callers([Option<NonZeroU32>; MAX_CALLERS]);

impl Callers {
    /// Of a hash, half is enough to tell so few apart.
    fn note(&mut self, caller: u64) {
        let caller = NonZeroU32::new(caller as u32);
        if !self.0.contains(&caller)
            && let Some(room) = self.0.iter_mut().find(|room| room.is_none())
        {
            *room = caller;
        }
    }

    fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

impl Default for Debuts {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl Debuts {
    /// Nothing seen yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        let max = share.part(MAX);
        Self {
            seen: Recollection::new(max),
            seen_outside: Recollection::new(max),
            called: Recollection::new(max),
            callers: Recollection::new(max),
            rounds: Recollection::new(max),
            hasher: RandomState::default(),
        }
    }

    /// Learns from an event. `peers` must have observed it.
    pub fn observe(&mut self, event: &Event, peers: &PeerNamer) {
        let EventKind::FlowOpened(flow) = &event.kind else {
            return;
        };
        for end in [&flow.orig, &flow.resp] {
            let seen = if end.who.identity.kind == IdentityKind::External {
                &mut self.seen_outside
            } else {
                &mut self.seen
            };
            seen.entry(&end.ip, || event.time);
        }
        let callee = Callee::of(flow, peers);
        let caller = self.caller(&flow.orig);
        let (callers, _) = self.callers.entry(&callee, Callers::default);
        callers.note(caller);
        let (_, new) = self.called.entry(&(flow.orig.ip, &callee), || event.time);
        if new {
            let (servers, _) = self.rounds.entry(&(flow.orig.ip, flow.resp_port), || 0);
            *servers += 1;
        }
    }

    fn caller(&self, end: &Endpoint) -> u64 {
        use std::hash::BuildHasher;
        match &end.who.identity.workload {
            Some(workload) => self.hasher.hash_one(workload),
            None => self.hasher.hash_one(end.ip),
        }
    }

    /// When an address was first seen.
    pub fn seen(&self, ip: IpAddr) -> Option<Timestamp> {
        let seen = self.seen.get(&ip).or_else(|| self.seen_outside.get(&ip));
        seen.copied()
    }

    /// How long a client had been watched when it first called somebody; `None` if it never did, or that was forgotten.
    pub fn watched_before(&self, client: IpAddr, callee: &Callee) -> Option<Duration> {
        let seen = self.seen.get(&client)?;
        let called = self.called.get(&(client, callee))?;
        Some(called.since(*seen))
    }

    /// How many different workloads (or nameless addresses) call a server; 4 stands for more.
    pub fn callers(&self, callee: &Callee) -> usize {
        self.callers.get(callee).map_or(0, Callers::count)
    }

    /// How many different servers a client has called on a port.
    pub fn servers(&self, client: IpAddr, port: u16) -> usize {
        let servers = self.rounds.get(&(client, port));
        servers.map_or(0, |servers| *servers as usize)
    }

    /// What was forgotten for want of room.
    pub const fn forgotten(&self) -> u64 {
        self.seen.forgotten()
            + self.called.forgotten()
            + self.callers.forgotten()
            + self.rounds.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::NetworkId;
    use crate::flow::{FlowId, Protocol};
    use crate::identity::{Attribution, Confidence, Identity};

    fn end(ip: [u8; 4], kind: IdentityKind) -> Endpoint {
        Endpoint {
            ip: ip.into(),
            who: Attribution {
                identity: Arc::new(Identity::bare(kind)),
                confidence: Confidence::Exact,
                source: Source::None,
            },
        }
    }

    fn call(secs: u64, orig: Endpoint, resp: Endpoint) -> Event {
        let time = Timestamp::from_secs(secs as i64);
        let flow = FlowInfo {
            id: FlowId(secs),
            network: NetworkId::default(),
            protocol: Protocol::Tcp,
            start: time,
            orig,
            resp,
            orig_port: 40_000,
            resp_port: 443,
            service: None,
            masquerade: None,
            sender: None,
            begun: true,
        };
        Event::new(time, EventKind::FlowOpened(Arc::new(flow)))
    }

    #[test]
    fn what_begins_later_is_told_from_what_was_there() {
        let pod = || end([10, 244, 1, 7], IdentityKind::Pod);
        let site = |last| end([203, 0, 113, last], IdentityKind::External);
        let mut debuts = Debuts::default();
        let peers = PeerNamer::default();
        for event in [
            call(10, pod(), site(1)),
            call(70, pod(), site(2)),
            call(90, pod(), site(2)),
        ] {
            debuts.observe(&event, &peers);
        }
        let watched = |last: u8| {
            let callee = Callee::Address([203, 0, 113, last].into(), 443);
            debuts.watched_before([10, 244, 1, 7].into(), &callee)
        };
        assert_eq!(watched(1), Some(Duration::ZERO));
        assert_eq!(watched(2), Some(Duration::from_mins(1)));
        assert_eq!(watched(3), None);
        assert_eq!(debuts.servers([10, 244, 1, 7].into(), 443), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let mut debuts = Debuts::default();
        let peers = PeerNamer::default();
        for n in 0..(MAX as u32 + 500) {
            let [_, b, c, d] = n.to_be_bytes();
            let caller = end([10, b, c, d], IdentityKind::Unknown);
            debuts.observe(
                &call(1, caller, end([203, 0, 113, 1], IdentityKind::External)),
                &peers,
            );
        }
        assert_eq!(debuts.seen.len(), MAX);
        assert_eq!(debuts.called.len(), MAX);
        assert_eq!(debuts.forgotten(), 1500);
        let site = Callee::Address([203, 0, 113, 1].into(), 443);
        assert_eq!(debuts.callers(&site), MAX_CALLERS);
    }
}
