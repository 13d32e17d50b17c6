//! Who has been there for a while, and who serves others: what tells an intruder's foothold from a program that has
//! business with a database. Shared by the detectors of what is done once somebody is in.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::Context;
use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::Outcome;
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Addresses whose habits are remembered.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// A program that is started turns to its database within this time.
const SETTLED: Duration = Duration::from_secs(20);

/// What addresses were seen doing.
pub(super) struct Presence {
    /// When an address was first seen.
    seen: LruCache<IpAddr, Timestamp>,
    /// Addresses that serve others, with the first two of their ports.
    serves: LruCache<IpAddr, (u16, Option<u16>)>,
}

impl Presence {
    pub(super) fn new() -> Self {
        Self {
            seen: LruCache::new(MAX_ADDRESSES),
            serves: LruCache::new(MAX_ADDRESSES),
        }
    }

    /// Learns from flows that open and are answered.
    pub(super) fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::FlowOpened(flow) => {
                for end in [&flow.orig, &flow.resp] {
                    self.seen.get_or_insert(end.ip, || event.time);
                }
            }
            // Probes of the kubelet and logins by SSH make nobody a server.
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } if flow.orig.who.identity.kind != IdentityKind::Node && flow.resp_port != 22 => {
                let port = flow.resp_port;
                let (first, second) = self.serves.get_or_insert_mut(flow.resp.ip, || (port, None));
                if *first != port {
                    second.get_or_insert(port);
                }
            }
            _ => {}
        }
    }

    /// Whether others have been served there.
    pub(super) fn serves(&self, ip: IpAddr) -> bool {
        self.serves.contains(&ip)
    }

    /// Whether others have been served there on another port than this.
    pub(super) fn serves_else(&self, ip: IpAddr, port: u16) -> bool {
        self.serves
            .peek(&ip)
            .is_some_and(|(first, second)| *first != port || second.is_some())
    }

    /// Whether a flow's originator had been there for a while and never spoken to that server.
    pub(super) fn is_stranger(
        &self,
        flow: &FlowInfo,
        now: Timestamp,
        context: &Context<'_>,
    ) -> bool {
        let first = self.seen.peek(&flow.orig.ip);
        first.is_some_and(|first| now.since(*first) >= SETTLED)
            && !context.acquaintances.met(flow)
            && !context.is_learned(flow)
    }
}
