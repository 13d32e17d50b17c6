//! `novel-peer`: a workload meets somebody it never met in its baseline.
//!
//! The general departure, quieter than everything else: without a baseline it is silent, and how much a new peer
//! surprises follows from how often the workload met new ones before (see [`crate::baseline`]).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use serde::Deserialize;

use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Contact, Role, SourceKey, source_key};
use crate::flow::Outcome;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "novel-peer",
    sees: EventKinds::FLOW_OUTCOME,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(NovelPeer::new(thresholds, signature.alert_bits)))
    },
};

/// New peers listed per source.
const MAX_PEERS: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    min_observed_secs: u64,
    min_contacts: u64,
    max_sources: usize,
}

struct NovelPeer {
    thresholds: Thresholds,
    alert_bits: f64,
    sources: LruCache<SourceKey, Newcomer>,
    evicted: u64,
}

struct Newcomer {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    peers: Vec<(Contact, Target)>,
    more: u64,
    flows: Vec<Arc<FlowInfo>>,
}

impl NovelPeer {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            sources: LruCache::new(
                NonZeroUsize::new(thresholds.max_sources).unwrap_or(NonZeroUsize::MIN),
            ),
            evicted: 0,
            thresholds,
            alert_bits,
        }
    }

    fn meet(
        &mut self,
        flow: &Arc<FlowInfo>,
        contact: Contact,
        time: Timestamp,
    ) -> Option<&Newcomer> {
        let key = source_key(&flow.orig);
        if !self.sources.contains(&key) {
            let source = Newcomer {
                actor: flow.orig.clone(),
                first: time,
                last: time,
                peers: Vec::new(),
                more: 0,
                flows: Vec::new(),
            };
            let evicted = self.sources.push(key.clone(), source);
            self.evicted += u64::from(evicted.is_some());
        }
        let source = self.sources.get_mut(&key)?;
        source.last = source.last.max(time);
        if source.peers.iter().any(|(known, _)| *known == contact) {
            return None;
        }
        if source.peers.len() < MAX_PEERS {
            let target = Target {
                endpoint: Some(flow.resp.clone()),
                port: (contact.port != 0).then_some(contact.port),
                protocol: None,
                domain: contact.peer.strip_prefix("domain:").map(Arc::from),
            };
            source.peers.push((contact, target));
            source.flows.push(Arc::clone(flow));
        } else {
            source.more += 1;
        }
        Some(source)
    }
}

impl Detector for NovelPeer {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::FlowOutcome {
            flow,
            outcome: Outcome::Answered,
        } = &event.kind
        else {
            return;
        };
        let Some(profile) = context.profile(&flow.orig) else {
            return;
        };
        let Some(contact) = context.peers.client_contact(flow) else {
            return;
        };
        let contacts = profile.contacts(Role::Client);
        if profile.knows(&contact)
            || profile.observed() < Duration::from_secs(self.thresholds.min_observed_secs)
            || contacts < self.thresholds.min_contacts
        {
            return;
        }
        let bits = context
            .lineage(&flow.orig)
            .map_or(0.0, |lineage| lineage.contact_bits(&contact));
        if bits < self.alert_bits {
            return;
        }
        let peers_known = profile.peer_count(Role::Client);
        let Some(source) = self.meet(flow, contact, event.time) else {
            return;
        };
        let count = source.peers.len() as u64 + source.more;
        let names: Vec<&str> = source
            .peers
            .iter()
            .take(3)
            .map(|(contact, _)| &*contact.peer)
            .collect();
        let more = if count > 3 {
            format!(" and {} more", count - 3)
        } else {
            String::new()
        };
        out.push(Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: source.actor.clone(),
            first: source.first,
            last: source.last,
            targets: source
                .peers
                .iter()
                .map(|(_, target)| target.clone())
                .collect(),
            target_count: count,
            evidence: vec![Evidence {
                feature: "peer.novelty",
                family: Family::Novelty,
                observed: count as f64,
                expected: format!("one of {peers_known} peers known from {contacts} contacts"),
                bits,
                signature_grade: false,
                text: format!("first contact with {}{more}", names.join(", ")),
            }],
            flows: source.flows.clone(),
            summary: format!("met {count} new: {}{more}", names.join(", ")),
        });
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.sources.cap().get(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use crate::flow::Outcome;
    use crate::identity::IdentityKind;

    /// A database client with two peers, and a crawler with a new one each time, watched for an hour.
    fn learned() -> Bench {
        let mut bench = Bench::new("novel-peer");
        let (api, crawler) = (pod("10.244.1.7", "api"), pod("10.244.1.8", "crawler"));
        for n in 0..600_u16 {
            let at = f64::from(n) * 6.0;
            let peer = pod("10.244.1.3", if n % 2 == 0 { "db" } else { "cache" });
            bench.tcp(at, (&api, &peer), 5432, Outcome::Answered, 500);
            let site = end(
                &format!("203.{}.{}.7", n / 200, n % 200),
                IdentityKind::External,
                None,
            );
            bench.tcp(at, (&crawler, &site), 443, Outcome::Answered, 500);
        }
        bench.learned("novel-peer")
    }

    #[test]
    fn a_closed_workload_and_a_crawler_meet_the_same_stranger() {
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        let mut bench = learned();
        bench.tcp(
            9000.0,
            (&pod("10.244.1.7", "api"), &stranger),
            443,
            Outcome::Answered,
            100,
        );
        assert!(
            bench.alerts(),
            "600 contacts with two peers: {} bits",
            bench.bits()
        );
        let mut bench = learned();
        bench.tcp(
            9000.0,
            (&pod("10.244.1.8", "crawler"), &stranger),
            443,
            Outcome::Answered,
            100,
        );
        assert!(bench.findings.is_empty(), "it meets strangers all the time");
    }

    #[test]
    fn rollouts_known_peers_and_bare_captures_are_left_alone() {
        let mut bench = learned();
        // Another pod of the same workload, at another address, to another pod of the known one.
        let (api, db) = (pod("10.244.1.77", "api"), pod("10.244.1.33", "db"));
        bench.tcp(9000.0, (&api, &db), 5432, Outcome::Answered, 100);
        // A workload nobody has seen before.
        bench.tcp(
            9000.0,
            (&pod("10.244.1.50", "new"), &db),
            5432,
            Outcome::Answered,
            100,
        );
        // A stranger that doesn't answer is no acquaintance.
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        bench.tcp(9000.0, (&api, &stranger), 443, Outcome::Refused, 0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
