//! Zones that a server asked somebody to fetch: it told him that the zone has changed (NOTIFY, RFC 1996).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dissect::{DnsMessage, DnsOperation};
use crate::event::FlowInfo;
use crate::features::Bounded;
use crate::flow::Direction;
use crate::time::Timestamp;

/// Invitations remembered, and changes.
const MOST: usize = 1024;
/// A server tells again and again who doesn't answer, for five minutes (RFC 1996 3.6); so long may a transfer be in coming.
const LASTS: Duration = Duration::from_mins(5);

/// Who was invited to fetch what.
pub(super) struct Invitations {
    /// The server, whom it told, of which zone; when last.
    told: Bounded<(IpAddr, IpAddr, Arc<str>), Timestamp>,
    /// The server, and who changed a zone of its (UPDATE, RFC 2136): he may have named himself as one to be told.
    changed: Bounded<(IpAddr, IpAddr), ()>,
}

impl Invitations {
    pub(super) fn new() -> Self {
        Self {
            told: Bounded::new(MOST),
            changed: Bounded::new(MOST),
        }
    }

    /// Takes note of a message that isn't a query. Only who began the conversation sends what counts: an answer to whoever
    /// called could claim to be anything.
    pub(super) fn note(&mut self, flow: &FlowInfo, message: &DnsMessage, time: Timestamp) {
        if message.response || message.direction != Direction::Orig {
            return;
        }
        let (from, to) = (flow.orig.ip, flow.resp.ip);
        match message.operation {
            DnsOperation::Notify => {
                self.told.put((from, to, Arc::clone(&message.name)), time);
            }
            DnsOperation::Update => {
                self.changed.put((to, from), ());
            }
            DnsOperation::Query => {}
        }
    }

    /// Whether the server was the one who wanted this zone fetched.
    pub(super) fn cover(&self, flow: &FlowInfo, zone: &Arc<str>, time: Timestamp) -> bool {
        let (asker, server) = (flow.orig.ip, flow.resp.ip);
        let told = self.told.peek(&(server, asker, Arc::clone(zone)));
        told.is_some_and(|told| time.since(*told) <= LASTS)
            && !self.changed.contains(&(server, asker))
    }
}
