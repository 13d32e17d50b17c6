//! `dns-beacon`: an implant asks for orders in DNS queries, again and again, and says little in each.
//!
//! It must ask, so one client's questions about one registered domain come at intervals too even for chance, whatever the
//! jitter (see [`regularity`](crate::features::regularity)). Its questions must get past caches: the names are ever new, or
//! one name's answers may not be kept. They are answered, and the answers are orders, not places: no connection follows.
//! Honest clients that ask by the clock ask for the same names, or for names that lead somewhere.
//!
//! What carries much in a short time is `dns-tunnel`'s; of one domain both make one alert.

mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde::Deserialize;
use series::{Asked, Series, Surroundings};

use super::newness::total_bits;
use super::{Context, Detector, DetectorSpec, Evidence, Findings, StateSize};
use crate::address::is_group;
use crate::dissect::{DnsMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, DomainName, Interner, Lately, SourceKey, is_listed_address, push_tight, source_key,
};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "dns-beacon",
    sees: EventKinds::DNS.and(EventKinds::FLOW_OPENED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(DnsBeacon::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Calls remembered: who called whom.
const MAX_CALLS: usize = 1 << 16;
/// Clients remembered that call anybody but name servers.
const MAX_CALLERS: usize = 1 << 14;
/// Queries remembered to tell a forwarded one: (server, hash of the name).
const MAX_FORWARDS: usize = 1 << 16;
/// Different workloads counted that ask for a domain; more is a crowd.
const MAX_ASKERS: usize = 3;
const DOMAIN_PORT: u16 = 53;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Fewer questions than this are no series.
    min_questions: usize,
    /// Answers that may be kept for longer are not asked for again to get past a cache.
    max_kept_secs: u32,
    max_series: usize,
}

/// Who asks, and about which registered domain.
type Key = (SourceKey, Arc<str>);

struct DnsBeacon {
    thresholds: Thresholds,
    alert_bits: f64,
    series: Bounded<Key, Series>,
    /// Which client asked a server for a name, so that the server's own asking is known as forwarding.
    forwards: Lately,
    calls: Lately,
    callers: Lately,
    /// The first few different workloads (or nameless addresses) that asked for a domain.
    askers: Bounded<Arc<str>, Vec<u64>>,
    /// How many different ones were seen to ask for anything, up to a few.
    all_askers: Vec<u64>,
    hasher: RandomState,
    registered: Interner,
    evicted: u64,
    reported: BTreeSet<Key>,
}

fn note(askers: &mut Vec<u64>, asker: u64) {
    if askers.len() < MAX_ASKERS && !askers.contains(&asker) {
        push_tight(askers, asker);
    }
}

impl DnsBeacon {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            series: Bounded::new(thresholds.max_series),
            forwards: Lately::new(share.part(MAX_FORWARDS)),
            calls: Lately::new(share.part(MAX_CALLS)),
            callers: Lately::new(share.part(MAX_CALLERS)),
            askers: Bounded::new(thresholds.max_series),
            all_askers: Vec::new(),
            hasher: RandomState::new(),
            registered: Interner::default(),
            evicted: 0,
            reported: BTreeSet::new(),
            thresholds,
            alert_bits,
        }
    }

    fn asker(&self, end: &Endpoint) -> u64 {
        match &end.who.identity.workload {
            Some(workload) => self.hasher.hash_one(workload),
            None => self.hasher.hash_one(end.ip),
        }
    }

    /// Takes a query. The series that a new question of it belongs to.
    fn query(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DnsMessage,
        time: Timestamp,
    ) -> Option<Key> {
        let hash = self.hasher.hash_one(&*message.name);
        self.forwards.put(&(flow.resp.ip, hash), ());
        let name = DomainName::split(&message.name)?;
        if self.forwards.contains(&(flow.orig.ip, hash))
            || name.left.is_empty()
            || is_listed_address(name.left)
            // Neighbours are asked over multicast, and our own name servers by the world.
            || is_group(flow.resp.ip)
            || flow.orig.who.identity.kind == IdentityKind::External
        {
            return None;
        }
        let domain = self.registered.intern(name.registered);
        let asker = self.asker(&flow.orig);
        note(&mut self.all_askers, asker);
        note(
            self.askers
                .get_or_insert_with(Arc::clone(&domain), Vec::new),
            asker,
        );
        let key = (source_key(&flow.orig), domain);
        if !self.series.contains(&key)
            && let Some((old, _)) = self.series.push(key.clone(), Series::new(flow, time))
        {
            self.evicted += 1;
            self.reported.remove(&old);
        }
        let asked = Asked {
            left: name.left,
            hash,
            kind: message.query_type,
            time,
        };
        let series = self.series.get_mut(&key)?;
        series.ask(flow, &asked).then_some(key)
    }

    fn response(&mut self, flow: &FlowInfo, message: &DnsMessage) {
        let Some(name) = DomainName::split(&message.name) else {
            return;
        };
        let key = (
            source_key(&flow.orig),
            self.registered.intern(name.registered),
        );
        let calls = &self.calls;
        if let Some(series) = self.series.peek_mut(&key) {
            series.answer(message, |ip| calls.contains(&(flow.orig.ip, ip)));
        }
    }

    /// A client calls somebody: names that led there were for resolving.
    fn called(&mut self, flow: &FlowInfo, context: &Context<'_>) {
        let service = flow.service.as_ref().map(|service| service.0.ip);
        self.callers.put(&flow.orig.ip, ());
        for ip in std::iter::once(flow.resp.ip).chain(service) {
            self.calls.put(&(flow.orig.ip, ip), ());
            if let Some(domain) = context.peers.domain(flow.orig.ip, ip) {
                let key = (source_key(&flow.orig), Arc::clone(domain));
                if let Some(series) = self.series.peek_mut(&key) {
                    series.called(ip);
                }
            }
        }
    }

    fn judge(&self, key: &Key, context: &Context<'_>) -> Option<Vec<Evidence>> {
        let (_, domain) = key;
        let series = self.series.peek(key)?;
        let askers = self.askers.peek(domain).map_or(0, Vec::len);
        let surroundings = Surroundings {
            domain,
            askers,
            crowd: askers >= MAX_ASKERS,
            alone: askers < 2 && self.all_askers.len() >= MAX_ASKERS,
            calls_are_seen: self.callers.contains(&series.actor().ip),
            max_kept_secs: self.thresholds.max_kept_secs,
        };
        series.evidence(&surroundings, context)
    }

    fn report(&mut self, key: &Key, context: &Context<'_>, out: &mut Findings) {
        let news = self.series.peek(key).is_some_and(|series| {
            series.complete() >= self.thresholds.min_questions && series.has_grown()
        });
        if !news {
            return;
        }
        let Some(evidence) = self.judge(key, context) else {
            return;
        };
        if total_bits(&evidence) < self.alert_bits {
            return;
        }
        if let Some(series) = self.series.peek_mut(key) {
            series.told();
            out.push(series.finding(&key.1, evidence));
            self.reported.insert(key.clone());
        }
    }
}

impl Detector for DnsBeacon {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Dns(message),
            } => {
                if message.response {
                    self.response(flow, message);
                } else if let Some(key) = self.query(flow, message, event.time) {
                    self.report(&key, context, out);
                }
            }
            EventKind::FlowOpened(flow) if flow.resp_port != DOMAIN_PORT => {
                self.called(flow, context);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            if let Some(evidence) = self.judge(&key, context)
                && let Some(series) = self.series.peek(&key)
            {
                out.push(series.finding(&key.1, evidence));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.series.len(),
            limit: self.thresholds.max_series,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
