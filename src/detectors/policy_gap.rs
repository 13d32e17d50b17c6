//! `policy-gap`: traffic passes that a NetworkPolicy stands against.
//!
//! The policies of the inventory are evaluated as Kubernetes does it; where it can't be told, they allow. What passes all
//! the same shows a network plugin that doesn't enforce them, a node on which it fails, or policies that are newer than the
//! connection. Who is refused is of no interest here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::suspects::target;
use super::watch::{Watch, Watched, at_least};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::flow::Protocol;
use crate::identity::Party;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "policy-gap",
    sees: EventKinds::FLOW_ENDED,
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(PolicyGap {
            sources: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
        }))
    },
};

/// What policies say is exact; that somebody has just changed them is what may be wrong with it.
const BITS: f64 = 12.0;
/// Conversations remembered one by one per source.
const MAX_REMEMBERED: usize = 256;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    forget_after_secs: u64,
}

struct PolicyGap {
    sources: Watch<Passed>,
}

#[derive(Default)]
struct Passed {
    ends: BTreeSet<(IpAddr, u16)>,
    policies: BTreeSet<Arc<str>>,
    targets: Vec<(Endpoint, u16)>,
    flows: Vec<Arc<FlowInfo>>,
}

fn party(end: &Endpoint) -> Party<'_> {
    Party {
        ip: end.ip,
        identity: &end.who.identity,
    }
}

fn finding(source: &Watched<Passed>) -> Finding {
    let passed = &source.state;
    let count = passed.ends.len() as u64;
    let policies: Vec<&str> = passed.policies.iter().map(|name| &**name).collect();
    let policies = policies.join(", ");
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: passed.targets.iter().map(target).collect(),
        target_count: count,
        evidence: vec![Evidence {
            feature: "policy.passed_against",
            family: Family::Outcome,
            observed: count as f64,
            expected: "0".into(),
            bits: BITS,
            signature_grade: false,
            text: format!(
                "was answered although NetworkPolicy {policies} allows nobody of its kind"
            ),
        }],
        flows: passed.flows.clone(),
        summary: format!(
            "reached {} {} that NetworkPolicy {policies} keeps it from",
            at_least(count, MAX_REMEMBERED),
            if count == 1 { "end" } else { "ends" }
        ),
    }
}

impl Detector for PolicyGap {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::FlowEnded { flow, record } = &event.kind else {
            return;
        };
        if flow.protocol != Protocol::Tcp || !record.both_opened() {
            return;
        }
        let declared = context.journal.declared();
        let ends = (party(&flow.orig), party(&flow.resp));
        let Some(policy) =
            declared.denied(ends, flow.protocol.number(), flow.resp_port, flow.start)
        else {
            return;
        };
        let source = self.sources.sign(&flow.orig, flow.start);
        let passed = &mut source.state;
        let end = (flow.resp.ip, flow.resp_port);
        // Beyond what can be told apart nothing is counted, lest one end count again and again.
        if passed.ends.len() >= MAX_REMEMBERED || !passed.ends.insert(end) {
            return;
        }
        if passed.policies.len() < MOST_LISTED {
            passed.policies.insert(policy.into());
        }
        if passed.targets.len() < MOST_LISTED {
            passed.targets.push((flow.resp.clone(), flow.resp_port));
            passed.flows.push(Arc::clone(flow));
        }
        let size = passed.ends.len() as u64;
        if source.is_news(size) {
            out.push(finding(source));
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        self.sources.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.sources.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod, record};
    use super::*;
    use crate::flow::FlowRecord;
    use crate::identity::{Declared, IdentityKind, Journal, Policy};

    /// A connection whose SYNs were seen from these ends.
    fn connects(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), syns: [bool; 2]) {
        let flow = bench.open(secs, ends, Protocol::Tcp, 8080);
        let record = Box::new(FlowRecord {
            tcp_flags: syns.map(|seen| if seen { 2 } else { 0 }),
            ..record(secs, 90)
        });
        bench.event(secs, EventKind::FlowEnded { flow, record });
    }

    /// A policy of `prod` that lets nobody in.
    fn denying() -> Bench {
        let mut declared = Declared::default();
        // It selects every pod of its namespace, and lets nobody in.
        let policy = Policy {
            name: "deny-all".into(),
            ingress: Some(Vec::new()),
            ..Policy::default()
        };
        declared.add_policy("prod".into(), policy);
        let mut journal = Journal::default();
        journal.declare(declared);
        Bench::new("policy-gap").knowing(journal)
    }

    #[test]
    fn one_that_cannot_be_told_apart_any_more_is_not_counted_twice() {
        let mut bench = denying();
        let web = pod("10.244.1.7", "web");
        for round in 0..2 {
            for n in 0..400_u16 {
                let api = pod(&format!("10.244.{}.{}", 2 + n / 200, 1 + n % 200), "api");
                let at = f64::from(round) * 500.0 + f64::from(n);
                connects(&mut bench, at, (&web, &api), [true, true]);
            }
        }
        bench.finish(2000.0);
        let last = bench.findings.last().unwrap();
        assert_eq!(last.target_count, MAX_REMEMBERED as u64);
        assert!(
            last.summary.contains("at least 256 ends"),
            "{}",
            last.summary
        );
    }

    #[test]
    fn what_passes_against_a_policy_is_told_once() {
        let mut bench = denying();
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        let outside = end("203.0.113.7", IdentityKind::External, None);
        let node = end("172.18.0.2", IdentityKind::Node, None);
        // Swallowed; half seen, so that who began is a guess; a probe of the kubelet; to where no policy is.
        connects(&mut bench, 1.0, (&web, &api), [true, false]);
        connects(&mut bench, 1.0, (&web, &api), [false, false]);
        connects(&mut bench, 2.0, (&node, &api), [true, true]);
        connects(&mut bench, 3.0, (&web, &outside), [true, true]);
        assert!(bench.findings.is_empty());
        for n in 0..9 {
            connects(&mut bench, 4.0 + f64::from(n), (&web, &api), [true, true]);
        }
        bench.finish(100.0);
        assert!(bench.alerts());
        assert!(bench.findings.len() <= 2);
        let last = bench.findings.last().unwrap();
        assert!(last.summary.contains("deny-all"));
        assert_eq!(last.target_count, 1);
    }
}
