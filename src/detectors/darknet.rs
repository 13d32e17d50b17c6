//! `darknet`: a source touches addresses that nobody holds.
//!
//! The container network's own records say which addresses of the pods' and services' ranges exist. What is left is an
//! exact darknet: nobody is told of its addresses, so whoever tries one guesses. Silent where the inventory doesn't cover
//! the range. An answer means that somebody is there after all, which is no business of this detector.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::suspects::target;
use super::watch::{Watch, Watched};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::address::{NetworkId, is_group};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::flow::Outcome;
use crate::identity::{Allocation, IdentityKind};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "darknet",
    sees: EventKinds::FLOW_OUTCOME.and(EventKinds::RESOLUTION),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Darknet {
            touchers: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            thresholds,
            alert_bits: signature.alert_bits,
        }))
    },
};

/// Where further addresses stop adding.
const MAX_BITS: f64 = 32.0;
/// Addresses remembered one by one per source; beyond it further ones are only counted.
const MAX_ADDRESSES: usize = 256;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    bits_per_address: f64,
    bits_per_vacated: f64,
    max_sources: usize,
    forget_after_secs: u64,
}

struct Darknet {
    thresholds: Thresholds,
    alert_bits: f64,
    touchers: Watch<Touched>,
}

/// What a source has touched.
#[derive(Default)]
struct Touched {
    addresses: BTreeSet<IpAddr>,
    /// Never anybody's.
    never: u64,
    /// Somebody's once, but not for long.
    vacated: u64,
    targets: Vec<(Endpoint, u16)>,
    flows: Vec<Arc<FlowInfo>>,
}

impl Darknet {
    /// `actor` touched an address and got no answer, or asks who has it.
    fn touch(
        &mut self,
        (actor, end, port): (&Endpoint, &Endpoint, u16),
        network: NetworkId,
        flow: Option<&Arc<FlowInfo>>,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let never = match context.journal.allocation(network, end.ip, time) {
            Allocation::Unassigned => true,
            Allocation::Vacated => false,
            _ => return,
        };
        let source = self.touchers.sign(actor, time);
        let touched = &mut source.state;
        if touched.addresses.contains(&end.ip) {
            return;
        }
        if touched.addresses.len() < MAX_ADDRESSES {
            touched.addresses.insert(end.ip);
        }
        if never {
            touched.never += 1;
        } else {
            touched.vacated += 1;
        }
        if touched.targets.len() < MOST_LISTED {
            touched.targets.push((end.clone(), port));
            touched.flows.extend(flow.map(Arc::clone));
        }
        let size = touched.never + touched.vacated;
        if bits(touched, &self.thresholds) >= self.alert_bits && source.is_news(size) {
            out.push(finding(source, &self.thresholds));
        }
    }
}

fn bits(touched: &Touched, thresholds: &Thresholds) -> f64 {
    let never = touched.never as f64 * thresholds.bits_per_address;
    let vacated = touched.vacated as f64 * thresholds.bits_per_vacated;
    (never + vacated).min(MAX_BITS)
}

fn finding(source: &Watched<Touched>, thresholds: &Thresholds) -> Finding {
    let touched = &source.state;
    let count = touched.never + touched.vacated;
    let text = match touched.vacated {
        0 => format!("{count} addresses were touched that were never given to anybody"),
        vacated => format!(
            "{count} addresses were touched that nobody holds; {vacated} of them were somebody's once"
        ),
    };
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: touched.targets.iter().map(target).collect(),
        target_count: count,
        evidence: vec![Evidence {
            feature: "darknet.addresses",
            family: Family::Deception,
            observed: count as f64,
            expected: "0".into(),
            bits: bits(touched, thresholds),
            signature_grade: false,
            text,
        }],
        flows: touched.flows.clone(),
        summary: format!("touched {count} addresses that nobody holds"),
    }
}

/// Nodes speak for many, and their kernels keep asking for pods that are gone.
fn is_node(end: &Endpoint) -> bool {
    end.who.identity.kind == IdentityKind::Node
}

impl Detector for Darknet {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome }
                if *outcome != Outcome::Answered
                    && !is_node(&flow.orig)
                    && !is_group(flow.resp.ip)
                    && !context.acquaintances.served(flow) =>
            {
                let touch = (&flow.orig, &flow.resp, flow.resp_port);
                self.touch(touch, flow.network, Some(flow), flow.start, context, out);
            }
            EventKind::Resolution {
                actor,
                target,
                reply: false,
                ..
            } => {
                // Probes for one's own address (RFC 5227) ask about nobody else.
                let own = actor.ip == target.ip || actor.ip.is_unspecified();
                if !own && !is_node(actor) && !is_group(target.ip) {
                    let network = NetworkId::default();
                    self.touch((actor, target, 0), network, None, event.time, context, out);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        let gone = self.touchers.stale(now);
        out.extend(gone.iter().map(|source| finding(source, &self.thresholds)));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        let all = self.touchers.all();
        out.extend(all.iter().map(|source| finding(source, &self.thresholds)));
    }

    fn state_size(&self) -> StateSize {
        self.touchers.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.touchers.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use super::*;
    use crate::flow::Protocol;
    use crate::identity::{Claim, Identity, Journal, Source, Tenure};

    /// 10.244.1.0/24 and 10.96.0.0/24 are known whole; 10.244.1.9 was somebody's until second 10 000, .10 until long ago.
    fn journal() -> Journal {
        let mut journal = Journal::default();
        let networks = journal.networks_mut();
        for range in ["10.244.1.0/24", "10.96.0.0/24"] {
            networks.add_complete(range.parse().unwrap(), Timestamp::MIN);
        }
        networks.add_pods("10.244.0.0/16".parse().unwrap());
        for (ip, until) in [("10.244.1.9", 10_000), ("10.244.1.10", 1000)] {
            journal.insert([Claim {
                network: NetworkId::default(),
                ip: ip.parse().unwrap(),
                source: Source::Watch,
                uid: Some(ip.into()),
                sandbox: None,
                tenure: Tenure::between(Timestamp::from_secs(0), Timestamp::from_secs(until)),
                identity: Arc::new(Identity::bare(IdentityKind::Pod)),
            }]);
        }
        journal
    }

    fn nobody(ip: &str) -> Endpoint {
        end(ip, IdentityKind::Unknown, None)
    }

    #[test]
    fn three_addresses_that_never_were_suffice_however_slowly_touched() {
        for gap in [0.01, 7200.0] {
            let mut bench = Bench::new("darknet").knowing(journal());
            let web = pod("10.244.1.7", "web");
            for (n, ip) in ["10.244.1.77", "10.96.0.200", "10.244.1.78"]
                .iter()
                .enumerate()
            {
                assert!(!bench.alerts());
                let at = 10_100.0 + n as f64 * gap;
                for again in 0..3 {
                    bench.tcp(
                        at + f64::from(again),
                        (&web, &nobody(ip)),
                        80,
                        Outcome::Silent,
                        0,
                    );
                }
            }
            assert!(bench.alerts(), "{}", bench.bits());
            assert_eq!(bench.findings.last().unwrap().target_count, 3);
        }
    }

    #[test]
    fn asking_by_arp_is_touching() {
        let mut bench = Bench::new("darknet").knowing(journal());
        let web = pod("10.244.1.7", "web");
        for last in 60..70 {
            let target = nobody(&format!("10.244.1.{last}"));
            let ask = |actor: &Endpoint| EventKind::Resolution {
                actor: actor.clone(),
                target: target.clone(),
                network: NetworkId::default(),
                hardware: None,
                reply: false,
            };
            bench.event(10_100.0, ask(&target));
            bench.event(10_100.0, ask(&end("10.244.1.1", IdentityKind::Node, None)));
            if last < 63 {
                bench.event(10_100.0, ask(&web));
            }
        }
        bench.finish(10_200.0);
        assert!(bench.alerts());
        let last = bench.findings.last().unwrap();
        assert_eq!((last.actor.ip, last.target_count), (web.ip, 3));
    }

    #[test]
    fn late_clients_answers_and_unknown_ranges_are_left_alone() {
        let mut bench = Bench::new("darknet").knowing(journal());
        let web = pod("10.244.1.7", "web");
        let mut knock = |ip: &str, outcome| {
            bench.flow(
                10_100.0,
                (&web, &nobody(ip)),
                Protocol::Tcp,
                8080,
                outcome,
                0,
            );
        };
        // Gone for less than ten minutes, gone for long, and one mistyped address.
        knock("10.244.1.9", Outcome::Silent);
        knock("10.244.1.10", Outcome::Silent);
        knock("10.244.1.50", Outcome::Refused);
        for n in 1..200 {
            knock(&format!("10.244.7.{n}"), Outcome::Silent); // another node's range
            knock(&format!("192.168.1.{n}"), Outcome::Silent);
            knock(&format!("10.244.1.{}", 60 + n % 60), Outcome::Answered);
        }
        bench.finish(20_000.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
