//! Events written by hand, and a detector to show them to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Context, DETECTORS, Detector, Finding, StateSize};
use crate::address::{Mac, NetworkId};
use crate::baseline::{Baseline, Learner};
use crate::dissect::{DnsMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Acquaintances, Debuts, Habits, PeerNamer, Releases, Replicas};
use crate::flow::{
    ConnState, Direction, EndReason, FlowId, FlowRecord, Inspection, Outcome, Protocol, Turn,
};
use crate::identity::{
    Attribution, Confidence, Identity, IdentityKind, Journal, Source, WorkloadId,
};
use crate::signature::SignatureSet;
use crate::time::Timestamp;

/// A pod of Deployment `prod/<name>` at an address, or whatever else an address is.
pub(super) fn pod(ip: &str, name: &str) -> Endpoint {
    let workload = WorkloadId {
        namespace: "prod".into(),
        kind: "Deployment".into(),
        name: name.into(),
    };
    end(ip, IdentityKind::Pod, Some(workload))
}

pub(super) fn end(ip: &str, kind: IdentityKind, workload: Option<WorkloadId>) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        who: Attribution {
            identity: Arc::new(Identity {
                namespace: workload
                    .as_ref()
                    .map(|workload| Arc::clone(&workload.namespace)),
                name: workload.as_ref().map(|workload| Arc::clone(&workload.name)),
                workload,
                ..Identity::bare(kind)
            }),
            confidence: Confidence::Exact,
            source: Source::Kubernetes,
        },
    }
}

/// Somebody of whom no more is known than that the address is private, or in the pods' range.
pub(super) fn nameless(ip: &str, source: Source) -> Endpoint {
    let mut end = end(ip, IdentityKind::Unknown, None);
    end.who.source = source;
    end
}

/// Counters of a flow that both ends closed after `said` bytes each way.
pub(super) fn record(secs: f64, said: u64) -> FlowRecord {
    FlowRecord {
        end: Timestamp::from_secs_f64(secs),
        packets: [3, 3],
        wire_bytes: [200, 200],
        payload_bytes: [said, said],
        repeated_bytes: [0, 0],
        missing_bytes: [0, 0],
        copies: [0; 2],
        copied_bytes: [0; 2],
        tcp_flags: [0, 0],
        state: ConnState::Sf,
        reason: EndReason::Closed,
        app: None,
        inspection: Inspection::Whole,
        tunnel: None,
    }
}

/// A detector as users get it, and what it said so far.
pub(super) struct Bench {
    sees: EventKinds,
    detector: Box<dyn Detector>,
    journal: Journal,
    peers: PeerNamer,
    acquaintances: Acquaintances,
    habits: Habits,
    debuts: Debuts,
    releases: Releases,
    replicas: Replicas,
    baseline: Option<Baseline>,
    learner: Learner,
    flows: u64,
    /// The Ethernet address that flows come from.
    pub(super) sender: Option<Mac>,
    /// Whether flows are seen from their beginning.
    pub(super) begun: bool,
    /// What each flow has shown.
    had: HashMap<FlowId, EventKinds>,
    pub(super) alert_bits: f64,
    pub(super) findings: Vec<Finding>,
}

impl Bench {
    pub(super) fn new(id: &str) -> Self {
        let spec = DETECTORS.iter().find(|spec| spec.id == id).unwrap();
        let signatures = SignatureSet::builtin().unwrap();
        let signature = signatures.get(id).unwrap();
        Self {
            sees: spec.sees,
            detector: (spec.build)(signature).unwrap(),
            journal: Journal::default(),
            peers: PeerNamer::default(),
            acquaintances: Acquaintances::default(),
            habits: Habits::default(),
            debuts: Debuts::default(),
            releases: Releases::default(),
            replicas: Replicas::default(),
            baseline: None,
            learner: Learner::default(),
            flows: 0,
            sender: None,
            begun: true,
            had: HashMap::new(),
            alert_bits: signature.alert_bits,
            findings: Vec::new(),
        }
    }

    /// What was shown so far becomes the baseline, and the detector starts afresh.
    pub(super) fn learned(self, id: &str) -> Self {
        Self {
            baseline: Some(self.learner.finish()),
            ..Self::new(id)
        }
    }

    /// With an inventory.
    pub(super) fn knowing(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    pub(super) fn event(&mut self, secs: f64, kind: EventKind) {
        let time = Timestamp::from_secs_f64(secs);
        let mut event = Event::new(time, kind);
        if let Some(flow) = event.flow() {
            let had = self.had.entry(flow.id).or_default();
            let before = *had;
            *had = before.and(EventKinds::of(&event.kind));
            event.before = before;
        }
        self.peers.observe(&event);
        self.releases.observe(&event);
        self.learner.observe(&event, &self.peers);
        self.debuts.observe(&event, &self.peers);
        let context = Context {
            baseline: self.baseline.as_ref(),
            journal: &self.journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        let follows = self.detector.follows();
        if self.sees.contains(EventKinds::of(&event.kind)) && !follows.passes_over(&event) {
            self.detector.observe(&event, &context, &mut self.findings);
        }
        self.detector.tick(time, &context, &mut self.findings);
        self.acquaintances.observe(&event);
        self.habits.observe(&event);
        self.replicas.observe(&event, &self.peers);
    }

    /// A flow with its outcome, and its end if it was answered, after `said` bytes each way.
    pub(super) fn flow(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        protocol: Protocol,
        port: u16,
        outcome: Outcome,
        said: u64,
    ) {
        let flow = self.open(secs, ends, protocol, port);
        self.event(secs, EventKind::FlowOpened(Arc::clone(&flow)));
        self.event(
            secs + 0.01,
            EventKind::FlowOutcome {
                flow: Arc::clone(&flow),
                outcome,
            },
        );
        let mut record = record(secs + 0.02, said);
        let unheard = match outcome {
            Outcome::Answered => None,
            Outcome::Refused if protocol == Protocol::Tcp => Some((ConnState::Rej, [1, 1])),
            Outcome::Refused | Outcome::Silent | Outcome::Unreachable => {
                Some((ConnState::S0, [1, 0]))
            }
        };
        if let Some((state, packets)) = unheard {
            (record.state, record.packets, record.payload_bytes) = (state, packets, [0, 0]);
        }
        let record = Box::new(record);
        self.event(secs + 0.02, EventKind::FlowEnded { flow, record });
    }

    /// A flow ends, having carried a little each way.
    pub(super) fn ends(&mut self, secs: f64, flow: &Arc<FlowInfo>) {
        let record = Box::new(record(secs, 1000));
        let flow = Arc::clone(flow);
        self.event(secs, EventKind::FlowEnded { flow, record });
    }

    /// A flow ends, having carried so much each way.
    pub(super) fn carries(&mut self, secs: f64, flow: &Arc<FlowInfo>, payload: [u64; 2]) {
        let record = Box::new(FlowRecord {
            payload_bytes: payload,
            ..record(secs, 0)
        });
        let flow = Arc::clone(flow);
        self.event(secs, EventKind::FlowEnded { flow, record });
    }

    pub(super) fn tcp(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        port: u16,
        outcome: Outcome,
        said: u64,
    ) {
        self.flow(secs, ends, Protocol::Tcp, port, outcome, said);
    }

    /// A flow that nothing is said of yet.
    pub(super) fn open(
        &mut self,
        secs: f64,
        (orig, resp): (&Endpoint, &Endpoint),
        protocol: Protocol,
        port: u16,
    ) -> Arc<FlowInfo> {
        self.flows += 1;
        Arc::new(FlowInfo {
            id: FlowId(self.flows),
            network: NetworkId::default(),
            protocol,
            start: Timestamp::from_secs_f64(secs),
            orig: orig.clone(),
            resp: resp.clone(),
            orig_port: if protocol == Protocol::Icmp {
                8
            } else {
                40_000
            },
            resp_port: port,
            service: None,
            masquerade: None,
            sender: self.sender,
            begun: self.begun,
        })
    }

    /// A flow that opens and is answered.
    pub(super) fn begin(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        protocol: Protocol,
        port: u16,
    ) -> Arc<FlowInfo> {
        let flow = self.open(secs, ends, protocol, port);
        self.event(secs, EventKind::FlowOpened(Arc::clone(&flow)));
        let outcome = Outcome::Answered;
        self.event(
            secs,
            EventKind::FlowOutcome {
                flow: Arc::clone(&flow),
                outcome,
            },
        );
        flow
    }

    /// How much the detector remembers.
    pub(super) fn state_size(&self) -> StateSize {
        self.detector.state_size()
    }

    /// A message on a flow.
    pub(super) fn says(&mut self, secs: f64, flow: &Arc<FlowInfo>, transaction: Transaction) {
        let flow = Arc::clone(flow);
        self.event(secs, EventKind::Transaction { flow, transaction });
    }

    /// The originator of a connection of its own asks something in one packet.
    pub(super) fn asks(&mut self, secs: f64, ends: (&Endpoint, &Endpoint), port: u16) {
        let flow = self.open(secs, ends, Protocol::Tcp, port);
        let time = Timestamp::from_secs_f64(secs);
        let turn = Turn {
            direction: Direction::Orig,
            start: time,
            end: time,
            packets: 1,
            bytes: 100,
            smallest: 100,
            largest: 100,
        };
        self.event(secs, EventKind::Turn { flow, turn });
    }

    /// A conversation over TCP of which this was understood.
    pub(super) fn talk(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        port: u16,
        said: impl IntoIterator<Item = Transaction>,
    ) {
        let flow = self.open(secs, ends, Protocol::Tcp, port);
        let outcome = EventKind::FlowOutcome {
            flow: Arc::clone(&flow),
            outcome: Outcome::Answered,
        };
        self.event(secs, outcome);
        for transaction in said {
            let flow = Arc::clone(&flow);
            self.event(secs, EventKind::Transaction { flow, transaction });
        }
    }

    /// A DNS query for `name`, and an answer with `answer` if there is one.
    pub(super) fn dns(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        name: &str,
        query_type: u16,
        answer: Option<IpAddr>,
    ) {
        let flow = self.open(secs, ends, Protocol::Udp, 53);
        let query = DnsMessage {
            name: name.into(),
            query_type,
            ..DnsMessage::default()
        };
        let response = DnsMessage {
            response: true,
            answers: answer
                .map(crate::dissect::DnsAnswer::Address)
                .into_iter()
                .collect(),
            answer_count: 1,
            answer_bytes: 40,
            ..query.clone()
        };
        for message in [query, response] {
            let transaction = Transaction::Dns(message);
            let flow = Arc::clone(&flow);
            self.event(secs, EventKind::Transaction { flow, transaction });
        }
    }

    /// A DNS query for a name that doesn't exist, and the answer that says so.
    pub(super) fn no_such_name(
        &mut self,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        name: &str,
        query_type: u16,
    ) {
        let flow = self.open(secs, ends, Protocol::Udp, 53);
        for response in [false, true] {
            let transaction = Transaction::Dns(DnsMessage {
                name: name.into(),
                query_type,
                response,
                rcode: if response { 3 } else { 0 },
                ..DnsMessage::default()
            });
            let flow = Arc::clone(&flow);
            self.event(secs, EventKind::Transaction { flow, transaction });
        }
    }

    /// Packet time passes, and the input ends.
    pub(super) fn finish(&mut self, secs: f64) -> &[Finding] {
        let context = Context {
            baseline: self.baseline.as_ref(),
            journal: &self.journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        let time = Timestamp::from_secs_f64(secs);
        self.detector.tick(time, &context, &mut self.findings);
        self.detector.finish(&context, &mut self.findings);
        &self.findings
    }

    /// The last finding's bits: the strongest of each family, summed. 0 without a finding.
    pub(super) fn bits(&self) -> f64 {
        let Some(finding) = self.findings.last() else {
            return 0.0;
        };
        let mut families = std::collections::BTreeMap::new();
        for evidence in &finding.evidence {
            families
                .entry(evidence.family)
                .and_modify(|best: &mut f64| *best = best.max(evidence.bits))
                .or_insert(evidence.bits);
        }
        families.values().sum()
    }

    /// Whether what was found suffices for an alert.
    pub(super) fn alerts(&self) -> bool {
        self.bits() >= self.alert_bits
    }
}
