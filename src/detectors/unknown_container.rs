//! `unknown-container`: somebody speaks from an address of the pods' that no pod was given.
//!
//! Told only where a source looked at everybody while that somebody was there: watch events that go on meanwhile, the node's
//! own records of addresses as they change, or a list that was made between its first and its last word. A pod that is newer
//! than the list, or older than it and gone, is no such case. Where pods alone are listed, an address may still be a node's
//! own (a tunnel's end, a health check's); those never call anybody outside under it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::suspects::target;
use super::watch::at_least;
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::address::{NetworkId, is_group};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, is_outside};
use crate::flow::Outcome;
use crate::identity::{IdentityKind, Overlooked, Source};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "unknown-container",
    sees: EventKinds::FLOW_OUTCOME
        .and(EventKinds::FLOW_ENDED)
        .and(EventKinds::TURN),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_sources;
        Ok(Box::new(UnknownContainer {
            strangers: Bounded::new(room),
            waiting: BTreeSet::new(),
            due: Timestamp::MIN,
            thresholds,
            evicted: 0,
        }))
    },
};

/// Peers told apart, and those listed.
const MAX_PEERS: usize = 256;
const MAX_LISTED: usize = 16;
/// How often strangers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Peers from which on more add nothing.
const MAX_BITS_PEERS: f64 = 4.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// For an address that nobody ever held.
    bits_never: f64,
    /// For one that somebody held at another time.
    bits_once: f64,
    /// How long it takes until whoever is new is known.
    settle_secs: u64,
    max_sources: usize,
}

struct UnknownContainer {
    thresholds: Thresholds,
    strangers: Bounded<Key, Stranger>,
    /// Those not told yet.
    waiting: BTreeSet<Key>,
    due: Timestamp,
    evicted: u64,
}

type Key = (NetworkId, IpAddr);

struct Stranger {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    /// Whether it called somebody outside.
    outside: bool,
    peers: BTreeSet<(IpAddr, u16)>,
    targets: Vec<(Endpoint, u16)>,
    flows: Vec<Arc<FlowInfo>>,
    told: Option<(Overlooked, u64)>,
}

impl Stranger {
    fn peer_count(&self) -> u64 {
        self.peers.len() as u64
    }
}

/// An address of the pods' of which only its place is known.
fn is_nameless(end: &Endpoint) -> bool {
    end.who.identity.kind == IdentityKind::Unknown
        && end.who.source == Source::Cidr
        && !is_group(end.ip)
}

impl UnknownContainer {
    /// An end has spoken with another.
    fn spoke(
        &mut self,
        flow: &Arc<FlowInfo>,
        end: &Endpoint,
        other: &Endpoint,
        (first, last): (Timestamp, Timestamp),
    ) {
        let key = (flow.network, end.ip);
        if !self.strangers.contains(&key) {
            let stranger = Stranger {
                actor: end.clone(),
                first,
                last,
                outside: false,
                peers: BTreeSet::new(),
                targets: Vec::new(),
                flows: Vec::new(),
                told: None,
            };
            if let Some((old, _)) = self.strangers.push(key, stranger) {
                self.waiting.remove(&old);
                self.evicted += 1;
            }
            self.waiting.insert(key);
        }
        let Some(stranger) = self.strangers.get_mut(&key) else {
            return;
        };
        stranger.first = stranger.first.min(first);
        stranger.last = stranger.last.max(last);
        stranger.outside |= flow.orig.ip == end.ip && is_outside(other);
        if stranger.peers.len() < MAX_PEERS
            && stranger.peers.insert((other.ip, flow.resp_port))
            && stranger.targets.len() < MAX_LISTED
        {
            stranger.targets.push((other.clone(), flow.resp_port));
            stranger.flows.push(Arc::clone(flow));
        }
    }

    /// An end that is known goes on speaking.
    fn goes_on(&mut self, flow: &FlowInfo, time: Timestamp) {
        for end in [&flow.orig, &flow.resp] {
            if let Some(stranger) = self.strangers.peek_mut(&(flow.network, end.ip)) {
                stranger.last = stranger.last.max(time);
            }
        }
    }

    /// Tells of those who have been there for long enough to be known, and aren't.
    fn judge(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let settled = now.before(Duration::from_secs(self.thresholds.settle_secs));
        let mut told = Vec::new();
        for key in &self.waiting {
            let Some(stranger) = self.strangers.peek_mut(key) else {
                continue;
            };
            if stranger.first > settled {
                continue;
            }
            let (first, last) = (stranger.first, stranger.last);
            let overlooked = context.journal.overlooked(key.0, key.1, first, last);
            if let Some(overlooked) = overlooked
                && (overlooked.by_leases || stranger.outside)
            {
                stranger.told = Some((overlooked, stranger.peer_count()));
                told.push(*key);
                out.extend(finding(stranger, &self.thresholds));
            }
        }
        for key in told {
            self.waiting.remove(&key);
        }
    }
}

fn finding(stranger: &Stranger, thresholds: &Thresholds) -> Option<Finding> {
    let (overlooked, _) = stranger.told?;
    let by = if overlooked.by_leases {
        "the records of the node's addresses"
    } else {
        "the cluster's pods"
    };
    let count = stranger.peer_count();
    let evidence = vec![
        Evidence {
            feature: "address.unallocated",
            family: Family::Deception,
            observed: 1.0,
            expected: "0: whoever speaks was given an address".into(),
            bits: if overlooked.once {
                thresholds.bits_once
            } else {
                thresholds.bits_never
            },
            signature_grade: false,
            text: if overlooked.once {
                format!("nobody held this address then, by {by}; somebody did once")
            } else {
                format!("nobody ever held this address, by {by}")
            },
        },
        Evidence {
            feature: "address.answered_peers",
            family: Family::Outcome,
            observed: count as f64,
            expected: "0".into(),
            bits: (count as f64 + 1.0).log2().min(MAX_BITS_PEERS),
            signature_grade: false,
            text: format!(
                "conversations with {} others went both ways",
                at_least(count, MAX_PEERS)
            ),
        },
    ];
    Some(Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: stranger.actor.clone(),
        first: stranger.first,
        last: stranger.last,
        targets: stranger.targets.iter().map(target).collect(),
        target_count: count,
        evidence,
        flows: stranger.flows.clone(),
        summary: format!(
            "spoke with {} others from an address of the pods' that was given to nobody",
            at_least(count, MAX_PEERS)
        ),
    })
}

impl Detector for UnknownContainer {
    fn observe(&mut self, event: &Event, _: &Context<'_>, _: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } => {
                let times = (flow.start, event.time);
                let (orig, resp) = (&flow.orig, &flow.resp);
                for (end, other) in [(orig, resp), (resp, orig)] {
                    if is_nameless(end) && !is_group(other.ip) {
                        self.spoke(flow, end, other, times);
                    }
                }
            }
            EventKind::Turn { flow, turn } => self.goes_on(flow, turn.end),
            EventKind::FlowEnded { flow, record } => self.goes_on(flow, record.end),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        if now < self.due {
            return;
        }
        self.due = now.after(LOOK_EVERY);
        self.judge(now, context, out);
        for stranger in self.strangers.values_mut() {
            if let Some((_, size)) = &mut stranger.told
                && stranger.peers.len() as u64 >= size.saturating_mul(2)
            {
                *size = stranger.peers.len() as u64;
                out.extend(finding(stranger, &self.thresholds));
            }
        }
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        let told = self.strangers.iter();
        out.extend(told.filter_map(|(_, stranger)| finding(stranger, &self.thresholds)));
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.strangers.len(),
            limit: self.strangers.limit(),
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
    use super::*;
    use crate::identity::{Attribution, Claim, Confidence, Identity, Journal, Look, Tenure};

    const ROGUE: &str = "10.244.1.77";

    /// Looked at from second 1000 to 2000, or at once in between.
    fn journal(follows: bool, leases: bool) -> Journal {
        let mut journal = Journal::default();
        let range = "10.244.1.0/24".parse().unwrap();
        let networks = journal.networks_mut();
        networks.add_pods(range);
        networks.add_look(Look {
            range,
            from: Timestamp::from_secs(1000),
            to: Timestamp::from_secs(2000),
            follows,
            leases,
        });
        journal
    }

    fn nameless(ip: &str) -> Endpoint {
        Endpoint {
            ip: ip.parse().unwrap(),
            who: Attribution {
                identity: Arc::new(Identity::bare(IdentityKind::Unknown)),
                confidence: Confidence::UnknownPrivate,
                source: Source::Cidr,
            },
        }
    }

    /// Somebody at an address who calls a pod, and maybe a server outside, from one time to another.
    fn run(journal: Journal, ip: &str, (from, to): (f64, f64), outside: bool) -> Bench {
        let mut bench = Bench::new("unknown-container").knowing(journal);
        let rogue = nameless(ip);
        let (db, site) = (
            pod("10.244.1.3", "db"),
            end("198.51.100.9", IdentityKind::External, None),
        );
        for at in [from, f64::midpoint(from, to), to] {
            bench.tcp(at, (&rogue, &db), 5432, Outcome::Answered, 100);
            if outside {
                bench.tcp(at, (&rogue, &site), 443, Outcome::Answered, 100);
            }
        }
        bench.finish(to + 200.0);
        bench
    }

    #[test]
    fn who_was_there_while_everybody_was_looked_at() {
        for (follows, leases, times, outside) in [
            (true, true, (1100.0, 1101.0), false),
            (true, true, (900.0, 1900.0), false),
            (true, false, (1100.0, 1200.0), true),
            (false, false, (900.0, 2100.0), true),
        ] {
            let bench = run(journal(follows, leases), ROGUE, times, outside);
            assert!(bench.alerts(), "{follows} {leases} {times:?}");
            let last = bench.findings.last().unwrap();
            assert_eq!(last.actor.ip.to_string(), ROGUE);
            assert_eq!(last.target_count, 1 + u64::from(outside));
        }
    }

    #[test]
    fn more_peers_than_are_listed_are_counted() {
        let mut bench = Bench::new("unknown-container").knowing(journal(true, true));
        let rogue = nameless(ROGUE);
        for n in 0..40 {
            let db = pod(&format!("10.244.1.{}", 100 + n), "db");
            let ends = (&rogue, &db);
            bench.tcp(1100.0 + f64::from(n), ends, 5432, Outcome::Answered, 100);
        }
        bench.finish(1400.0);
        let last = bench.findings.last().unwrap();
        assert_eq!((last.target_count, last.targets.len()), (40, MAX_LISTED));
    }

    #[test]
    fn late_and_early_pods_nodes_and_unknown_ranges_are_left_alone() {
        for (journal, ip, times) in [
            // Newer than the last event, by itself or by how late it is told; gone before the first.
            (journal(true, true), ROGUE, (2100.0, 2300.0)),
            (journal(true, true), ROGUE, (1950.0, 2300.0)),
            (journal(true, true), ROGUE, (700.0, 900.0)),
            // Came before a list was made, or went before it surely was.
            (journal(false, true), ROGUE, (1100.0, 2500.0)),
            (journal(false, true), ROGUE, (900.0, 1900.0)),
            // Ends of the range, another range, no inventory at all.
            (journal(true, true), "10.244.1.255", (1100.0, 1200.0)),
            (journal(true, true), "10.244.2.7", (1100.0, 1200.0)),
            (Journal::default(), ROGUE, (1100.0, 1200.0)),
        ] {
            let bench = run(journal, ip, times, true);
            assert!(bench.findings.is_empty(), "{ip} {times:?}");
        }
        // A node's own address in the pods' range speaks with pods alone.
        let bench = run(journal(true, false), ROGUE, (1100.0, 1900.0), false);
        assert!(bench.findings.is_empty());
    }

    #[test]
    fn an_address_that_somebody_just_had_is_his() {
        for (until, alerts) in [(1000, false), (100, true)] {
            let mut journal = journal(true, true);
            journal.insert([Claim {
                network: NetworkId::default(),
                ip: ROGUE.parse().unwrap(),
                source: Source::Watch,
                uid: Some("x".into()),
                sandbox: None,
                tenure: Tenure::between(Timestamp::from_secs(0), Timestamp::from_secs(until)),
                identity: Arc::new(Identity {
                    name: Some("old".into()),
                    ..Identity::bare(IdentityKind::Pod)
                }),
            }]);
            let bench = run(journal, ROGUE, (1300.0, 1400.0), true);
            assert_eq!(bench.alerts(), alerts, "{until}");
        }
    }
}
