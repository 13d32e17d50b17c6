//! `undeclared-port`: a pod serves on a port that none of its containers declares.
//!
//! Declaring ports is a courtesy, not a rule, and metrics and debug ports are forgotten most. So a pod that declares none is
//! not judged, and a forgotten port shows by its age: it is scraped and probed from the first minute on, and the workload
//! served there in its baseline. What is told, once per workload and port, is a port that is first used later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::watch::{Watch, Watched};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::baseline::Maturity;
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role};
use crate::flow::Protocol;
use crate::identity::{IdentityKind, WorkloadId};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "undeclared-port",
    sees: EventKinds::FLOW_ENDED,
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(UndeclaredPort {
            servers: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            told: Bounded::new(signature.room(MAX_TOLD)),
            settled: Duration::from_secs(thresholds.settled_secs),
        }))
    },
};

/// A port that isn't among those declared: thought as rare as one in 500 pods that declare any.
const BITS: f64 = 9.0;
/// Ports remembered per pod.
const MAX_PORTS: usize = 64;
/// Ports of workloads remembered.
const MAX_TOLD: usize = 16_384;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    settled_secs: u64,
    max_sources: usize,
    forget_after_secs: u64,
}

struct UndeclaredPort {
    servers: Watch<Served>,
    /// Undeclared ports of workloads that were used before: what a replica does is no news.
    told: Bounded<(WorkloadId, u16), ()>,
    /// Who was seen for so long without a use of the port didn't serve there.
    settled: Duration,
}

#[derive(Default)]
struct Served {
    /// Undeclared ports, with the first client of each.
    ports: BTreeMap<u16, Endpoint>,
    declared: String,
    flows: Vec<Arc<FlowInfo>>,
}

impl UndeclaredPort {
    /// Whether the port would have been used before, were it the pod's trade.
    fn is_late(&self, flow: &FlowInfo, context: &Context<'_>) -> bool {
        let known = context
            .profile(&flow.resp)
            .is_some_and(|profile| profile.maturity() != Maturity::None);
        let seen = context.debuts.seen(flow.resp.ip);
        known || seen.is_some_and(|seen| flow.start.since(seen) >= self.settled)
    }
}

fn finding(server: &Watched<Served>) -> Finding {
    let served = &server.state;
    let ports: Vec<String> = served.ports.keys().map(ToString::to_string).collect();
    let ports = ports.join(", ");
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: server.actor.clone(),
        first: server.first,
        last: server.last,
        targets: served
            .ports
            .iter()
            .take(MOST_LISTED)
            .map(|(port, client)| Target {
                endpoint: Some(client.clone()),
                port: Some(*port),
                protocol: None,
                domain: None,
            })
            .collect(),
        target_count: served.ports.len() as u64,
        evidence: vec![Evidence {
            feature: "port.undeclared",
            family: Family::Novelty,
            observed: served.ports.len() as f64,
            expected: format!("one of {}", served.declared),
            bits: BITS,
            signature_grade: false,
            text: format!("connections to port {ports} were accepted"),
        }],
        flows: served.flows.clone(),
        summary: format!("serves on port {ports}, which none of its containers declares"),
    }
}

/// Whether the workload served there in its baseline.
fn is_learned(server: &Endpoint, port: u16, context: &Context<'_>) -> bool {
    let number = Protocol::Tcp.number();
    context.profile(server).is_some_and(|profile| {
        profile
            .peers()
            .any(|peer| peer.role == Role::Server && peer.port == port && peer.protocol == number)
    })
}

impl Detector for UndeclaredPort {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::FlowEnded { flow, record } = &event.kind else {
            return;
        };
        // Both spoke: it was no probe.
        let spoke = record.payload_bytes.iter().all(|&bytes| bytes > 0);
        let (client, server) = (&flow.orig.who.identity, &flow.resp.who.identity);
        // The kubelet may look anywhere, and replicas have ports of their own among themselves.
        let business = client.kind == IdentityKind::Node || client.workload == server.workload;
        let pod = server.kind == IdentityKind::Pod;
        let Some(workload) = server.workload.clone().filter(|_| pod && !business) else {
            return;
        };
        if flow.protocol != Protocol::Tcp || !record.both_opened() || !spoke {
            return;
        }
        let declared = context.journal.declared().ports(&flow.resp.who.identity);
        let known = |port: u16| {
            declared
                .iter()
                .any(|one| one.protocol == Protocol::Tcp.number() && one.port == port)
        };
        let port = flow.resp_port;
        if declared.is_empty() || known(port) || self.told.put((workload, port), ()).is_some() {
            return;
        }
        if !self.is_late(flow, context) || is_learned(&flow.resp, port, context) {
            return;
        }
        let server = self.servers.sign(&flow.resp, flow.start);
        let served = &mut server.state;
        if served.ports.len() >= MAX_PORTS || served.ports.contains_key(&port) {
            return;
        }
        if served.ports.is_empty() {
            let ports: Vec<String> = declared.iter().map(|one| one.port.to_string()).collect();
            served.declared = ports.join(", ");
        }
        served.ports.insert(port, flow.orig.clone());
        if served.flows.len() < MOST_LISTED {
            served.flows.push(Arc::clone(flow));
        }
        let size = served.ports.len() as u64;
        if server.is_news(size) {
            out.push(finding(server));
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.servers.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.servers.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        self.servers.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.servers.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod, record};
    use super::*;
    use crate::flow::{FlowRecord, Outcome};
    use crate::identity::{Declared, DeclaredPort, Journal};

    /// `api` declares 8080; `web` nothing.
    fn journal() -> Journal {
        let mut declared = Declared::default();
        let port = DeclaredPort {
            protocol: Protocol::Tcp.number(),
            port: 8080,
            name: None,
        };
        declared.add_ports("prod".into(), "api".into(), vec![port]);
        let mut journal = Journal::default();
        journal.declare(declared);
        journal
    }

    /// A connection in which both spoke, or only the client did.
    fn talk(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), port: u16, both: bool) {
        let flow = bench.begin(secs, ends, Protocol::Tcp, port);
        let record = Box::new(FlowRecord {
            tcp_flags: [2; 2],
            payload_bytes: [90, if both { 400 } else { 0 }],
            ..record(secs + 0.1, 0)
        });
        bench.event(secs + 0.1, EventKind::FlowEnded { flow, record });
    }

    fn ends() -> (Endpoint, Endpoint) {
        (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"))
    }

    fn at_work() -> Bench {
        let mut bench = Bench::new("undeclared-port").knowing(journal());
        let (web, api) = ends();
        for n in 0..10 {
            talk(&mut bench, f64::from(n) * 10.0, (&web, &api), 8080, true);
        }
        bench
    }

    #[test]
    fn one_alert_for_all_ports_of_a_pod_and_none_for_its_siblings() {
        let mut bench = at_work();
        let (web, api) = ends();
        let other = Endpoint {
            ip: "10.244.1.10".parse().unwrap(),
            ..api.clone()
        };
        for n in 0..20_u16 {
            let secs = 200.0 + f64::from(n);
            talk(&mut bench, secs, (&web, &api), 4444 + n % 4, true);
            talk(&mut bench, secs + 0.5, (&web, &other), 4444 + n % 4, true);
        }
        bench.finish(300.0);
        assert!(bench.alerts());
        let last = bench.findings.last().unwrap();
        assert_eq!((last.actor.ip, last.target_count), (api.ip, 4));
        assert!(bench.findings.iter().all(|one| one.actor.ip == api.ip));
    }

    #[test]
    fn metrics_scraped_from_the_start_are_a_careless_manifest() {
        let mut bench = Bench::new("undeclared-port").knowing(journal());
        let (_, api) = ends();
        let prometheus = pod("10.244.1.30", "prometheus");
        for n in 0..40 {
            talk(
                &mut bench,
                f64::from(n) * 30.0,
                (&prometheus, &api),
                9100,
                true,
            );
        }
        bench.finish(2000.0);
        assert!(bench.findings.is_empty());
    }

    #[test]
    fn declared_probed_learned_and_undeclaring_are_left_alone() {
        let (web, api) = ends();
        let mut bench = Bench::new("undeclared-port");
        for n in 0..30 {
            bench.tcp(f64::from(n), (&web, &api), 9100, Outcome::Answered, 90);
        }
        let mut learned = bench.learned("undeclared-port").knowing(journal());
        talk(&mut learned, 1e4, (&web, &api), 9100, true);
        let mut bench = at_work();
        let node = end("172.18.0.2", IdentityKind::Node, None);
        let sibling = Endpoint {
            ip: "10.244.1.10".parse().unwrap(),
            ..api.clone()
        };
        talk(&mut bench, 300.0, (&web, &api), 4444, false);
        talk(&mut bench, 301.0, (&node, &api), 4444, true);
        talk(&mut bench, 302.0, (&sibling, &api), 4444, true);
        talk(&mut bench, 303.0, (&api, &web), 4444, true);
        for bench in [&mut learned, &mut bench] {
            bench.finish(2e4);
            assert!(bench.findings.is_empty(), "{:?}", bench.findings);
        }
    }
}
