//! What the detector makes of a simulated pod: it sees the same events as in a run, of connections with ports, protocols
//! and ages.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::{Line, Place, Pod, Tally};
use crate::address::NetworkId;
use crate::detectors::{Context, DETECTORS, Detector, Finding};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Acquaintances, Debuts, Habits, PeerNamer, Releases, Replicas};
use crate::flow::{
    ConnState, Dialogue, Direction, EndReason, FlowId, FlowRecord, Inspection, Outcome, Protocol,
    Turn,
};
use crate::identity::{
    Attribution, Confidence, Identity, IdentityKind, Journal, Source, WorkloadId,
};
use crate::signature::SignatureSet;
use crate::time::Timestamp;

const SIGNATURE: &str = "relay-pivot";
/// Pods follow one another, each a long time after the last.
const APART: Duration = Duration::from_hours(24);

/// The detector as users get it, and a second one that reports whatever sizes alone take for a relay; and what they may look
/// at meanwhile. Nothing was learned.
pub(super) struct Watch {
    sees: EventKinds,
    alerting: Box<dyn Detector>,
    by_sizes: Box<dyn Detector>,
    journal: Journal,
    peers: PeerNamer,
    acquaintances: Acquaintances,
    habits: Habits,
    debuts: Debuts,
    releases: Releases,
    replicas: Replicas,
    now: Timestamp,
    flows: u64,
    addresses: u32,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new() -> Self {
        let spec = DETECTORS.iter().find(|spec| spec.id == SIGNATURE);
        let spec = spec.expect("the detector is in the catalogue");
        let signatures = SignatureSet::builtin().expect("built-in signatures are whole");
        let signature = signatures.get(SIGNATURE).expect("it has a signature");
        let mut any = signature.as_ref().clone();
        any.alert_bits = f64::NEG_INFINITY;
        Self {
            sees: spec.sees,
            alerting: (spec.build)(signature).expect("its thresholds are right"),
            by_sizes: (spec.build)(&any).expect("its thresholds are right"),
            journal: Journal::default(),
            peers: PeerNamer::default(),
            acquaintances: Acquaintances::default(),
            habits: Habits::default(),
            debuts: Debuts::default(),
            releases: Releases::default(),
            replicas: Replicas::default(),
            now: Timestamp::from_secs(0),
            flows: 0,
            addresses: 0,
        }
    }

    fn end(&mut self, kind: IdentityKind) -> Endpoint {
        self.addresses += 1;
        let ip = Ipv4Addr::from_bits(0x0a00_0000 + self.addresses);
        let workload = (kind == IdentityKind::Pod).then(|| WorkloadId {
            namespace: "prod".into(),
            kind: "Deployment".into(),
            name: self.addresses.to_string().into(),
        });
        Endpoint {
            ip: IpAddr::V4(ip),
            who: Attribution {
                identity: Arc::new(Identity {
                    workload,
                    ..Identity::bare(kind)
                }),
                confidence: Confidence::Exact,
                source: Source::Kubernetes,
            },
        }
    }

    fn flow(&mut self, ends: [&Endpoint; 2], port: u16, start: Timestamp) -> Arc<FlowInfo> {
        self.flows += 1;
        let [orig, resp] = ends.map(Endpoint::clone);
        Arc::new(FlowInfo {
            id: FlowId(self.flows),
            network: NetworkId::default(),
            protocol: Protocol::Tcp,
            start,
            orig,
            resp,
            orig_port: 40_000,
            resp_port: port,
            service: None,
            masquerade: None,
            sender: None,
            begun: true,
        })
    }

    /// Shows what happens at a pod, and counts which pairs of its sides were taken for a relay: those of `relay`, and others.
    pub(super) fn judge(&mut self, pod: &Pod, relay: Option<&mut Tally>, benign: &mut Tally) {
        self.now = self.now.after(APART);
        let me = self.end(IdentityKind::Pod);
        let peers: Vec<Endpoint> = pod
            .sides
            .iter()
            .map(|place| {
                self.end(if place.outside {
                    IdentityKind::External
                } else {
                    IdentityKind::Pod
                })
            })
            .collect();
        let mut events = self.probed(&me);
        for (side, place) in pod.sides.iter().enumerate() {
            // Others that come by the same door.
            for _ in 0..place.callers {
                let caller = self.end(IdentityKind::Pod);
                let flow = self.flow([&caller, &me], place.port, self.now);
                events.push((self.now, EventKind::FlowOpened(flow)));
            }
            for line in pod.lines.iter().filter(|line| line.side == side) {
                let ends = match place.pod {
                    Direction::Orig => [&me, &peers[side]],
                    Direction::Resp => [&peers[side], &me],
                };
                let first = line.said.iter().map(|(time, ..)| *time).min();
                let opened = line.opened.or(first).unwrap_or_default();
                let flow = self.flow(ends, place.port, self.now.after(opened));
                events.push((flow.start, EventKind::FlowOpened(Arc::clone(&flow))));
                events.extend(told(line, place, &flow, self.now));
            }
        }
        // A line's own events stay in their order.
        events.sort_by_key(|(time, _)| *time);
        let mut found = [Vec::new(), Vec::new()];
        for (time, kind) in events {
            self.observe(&Event::new(time, kind), &mut found);
        }
        let pair = |one: usize, other: usize| {
            found.each_ref().map(|findings| {
                findings.iter().any(|finding: &Finding| {
                    let of = |side: usize| {
                        let mut ends = finding.targets.iter().filter_map(|it| it.endpoint.as_ref());
                        ends.any(|end| end.ip == peers[side].ip)
                    };
                    of(one) && of(other)
                })
            })
        };
        let mut relay = relay;
        for other in 0..pod.sides.len() {
            for one in 0..other {
                let tally = match &mut relay {
                    Some(relay) if (one, other) == (super::FRONT, super::BACK) => relay,
                    _ => &mut *benign,
                };
                tally.count(pair(one, other));
            }
        }
    }

    /// The node looks whether the pod is well, before anybody else calls.
    fn probed(&mut self, me: &Endpoint) -> Vec<(Timestamp, EventKind)> {
        let node = self.end(IdentityKind::Node);
        let flow = self.flow([&node, me], 8080, self.now);
        let outcome = EventKind::FlowOutcome {
            flow: Arc::clone(&flow),
            outcome: Outcome::Answered,
        };
        vec![(self.now, EventKind::FlowOpened(flow)), (self.now, outcome)]
    }

    fn observe(&mut self, event: &Event, found: &mut [Vec<Finding>; 2]) {
        self.peers.observe(event);
        self.debuts.observe(event, &self.peers);
        self.releases.observe(event);
        let context = Context {
            baseline: None,
            journal: &self.journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        if self.sees.contains(EventKinds::of(&event.kind)) {
            let [by_sizes, alerts] = found;
            self.by_sizes.observe(event, &context, by_sizes);
            self.alerting.observe(event, &context, alerts);
        }
        self.acquaintances.observe(event);
        self.habits.observe(event);
        self.replicas.observe(event, &self.peers);
    }
}

/// What a connection tells, each with when it is known.
fn told(
    line: &Line,
    place: &Place,
    flow: &Arc<FlowInfo>,
    since: Timestamp,
) -> Vec<(Timestamp, EventKind)> {
    let mut all = Vec::new();
    let (mut dialogue, mut turn) = (Dialogue::default(), None::<Turn>);
    let mut end = flow.start;
    let mut over = |turn: &Turn, at: Timestamp, all: &mut Vec<_>| {
        if all.is_empty()
            && let Some(app) = place.app
        {
            let flow = Arc::clone(flow);
            all.push((at, EventKind::Recognised { flow, app }));
        }
        let told = EventKind::Turn {
            flow: Arc::clone(flow),
            turn: *turn,
        };
        all.push((at, told));
        let exchange = dialogue.take(turn);
        all.extend(exchange.map(|exchange| {
            let flow = Arc::clone(flow);
            let app = place.app;
            (
                at,
                EventKind::Exchange {
                    flow,
                    exchange,
                    app,
                },
            )
        }));
    };
    let mut said = line.said.clone();
    said.sort_by_key(|(time, ..)| *time);
    for (time, direction, bytes) in said {
        let time = since.after(time);
        end = end.max(time);
        let mut left = bytes;
        while left > 0 {
            let packet = left.min(64_000) as u32;
            left -= u64::from(packet);
            let goes_on = turn
                .as_mut()
                .is_some_and(|turn| turn.take(direction, time, packet));
            if !goes_on && let Some(turn) = turn.replace(Turn::new(direction, time, packet)) {
                over(&turn, time, &mut all);
            }
        }
    }
    if let Some(turn) = turn {
        over(&turn, end, &mut all);
    }
    let last = dialogue.finish();
    all.extend(last.map(|exchange| {
        let flow = Arc::clone(flow);
        let app = place.app;
        (
            end,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        )
    }));
    let flow = Arc::clone(flow);
    let record = Box::new(record(end, place.app));
    all.push((end, EventKind::FlowEnded { flow, record }));
    all
}

const fn record(end: Timestamp, app: Option<&'static str>) -> FlowRecord {
    FlowRecord {
        end,
        packets: [3, 3],
        wire_bytes: [200, 200],
        payload_bytes: [20, 20],
        repeated_bytes: [0, 0],
        missing_bytes: [0, 0],
        copies: [0; 2],
        copied_bytes: [0; 2],
        tcp_flags: [0, 0],
        state: ConnState::Sf,
        reason: EndReason::Closed,
        app,
        inspection: Inspection::Whole,
        tunnel: None,
    }
}
