//! `port-forward`: somebody reaches into a pod through the API: port-forward, exec, attach.
//!
//! The bytes never cross the pod's interface: the runtime dials inside the pod's own network. What can be seen is the
//! stream that carries them. In clear (a node's loopback between kubelet and runtime, `kubectl proxy`) its request says
//! what it is. To the API server and the kubelet it is TLS. There a client that will upgrade offers no HTTP/2, and what it
//! is answered is shorter than the head of any HTTP answer: frames that open streams, echoes of keys, heartbeats. Long
//! questions with long answers among those are a connection that is passed on. Where it comes out, on the pod's loopback,
//! `inside` knows it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::watch::{Watch, Watched, weigh};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
    Target,
};
use crate::baseline::Maturity;
use crate::dissect::{HttpRequest, Transaction, TunnelOpened};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Component, Role};
use crate::flow::{Direction, Exchange, FlowId, Outcome};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

mod inside;
#[cfg(test)]
mod tests;

use inside::Inside;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "port-forward",
    sees: EventKinds::FLOW_OUTCOME
        .and(EventKinds::HTTP)
        .and(EventKinds::TUNNEL)
        .and(EventKinds::TLS)
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let max = thresholds.max_streams;
        Ok(Box::new(PortForward {
            alert_bits: signature.alert_bits,
            clients: Bounded::new(max),
            streams: Bounded::new(max),
            opened: Watch::new(thresholds.max_streams, thresholds.forget_after_secs),
            inside: Inside::new(signature.alert_bits, thresholds),
            thresholds,
            evicted: 0,
        }))
    },
};

/// What the subprotocols of such streams end with.
const SUBPROTOCOLS: [&str; 2] = ["channel.k8s.io", "portforward.k8s.io"];
/// A port-forward in clear: unmistakable, and seldom an operator's on the node itself.
const BITS_FORWARD_OPENED: f64 = 14.0;
/// An exec or attach in clear: unmistakable, but everyday work where it comes from a node.
const BITS_EXEC_OPENED: f64 = 8.0;
/// A TLS connection that behaves like a stream.
const BITS_STREAM: f64 = 8.0;
/// Connections are passed on in it.
const BITS_FORWARDING: f64 = 6.0;
/// Somebody types in it.
const BITS_TYPED: f64 = 3.0;
/// From a pod to a kubelet, to a pod's `kubectl proxy`, or to an API server that it never spoke to in all the time it was
/// there.
const BITS_STRANGE_CLIENT: f64 = 5.0;
const MOST_BITS_NOVEL: f64 = 8.0;
/// A contact of the baseline.
const BITS_LEARNED: f64 = -6.0;
/// To the API server come people at work and pods whose work it is (CI, operators of databases); what they open shows again
/// between API server and kubelet.
const BITS_CUSTOMARY: f64 = -4.0;

/// No answer of HTTP is as short, in TLS: its first line and date alone are 60 bytes, those of the API server and the
/// kubelet beyond 150. A frame of SPDY or a key's echo, each part in a record of its own, is at most this.
const CURT: u64 = 132;
/// The first exchanges are handshakes and the upgrade.
const HANDSHAKES: u32 = 2;
/// Connections that were opened and said little, until they count like some that said much.
const MANY_OPENINGS: u32 = 10;
/// Pauses between keys (Zhang and Paxson, 2000), and keys that show a habit.
const KEYSTROKE: std::ops::Range<Duration> = Duration::from_millis(30)..Duration::from_millis(1500);
const FEWEST_KEYS: u32 = 8;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    min_curt: u32,
    min_forwarded: u32,
    max_streams: usize,
    forget_after_secs: u64,
}

struct PortForward {
    thresholds: Thresholds,
    alert_bits: f64,
    /// Client and server: whether the client was there for a while before it first called.
    clients: Bounded<(IpAddr, IpAddr), bool>,
    /// TLS connections that may be streams.
    streams: Bounded<FlowId, Stream>,
    /// Who opened streams in clear.
    opened: Watch<Opened>,
    /// Who came out of forwarded ports.
    inside: Inside,
    evicted: u64,
}

/// A TLS connection to API server or kubelet that offers no HTTP/2.
struct Stream {
    flow: Arc<FlowInfo>,
    server: Component,
    client: Option<Evidence>,
    /// Questions with a curt answer, however short themselves.
    curt: u32,
    /// Short questions with curt answers at the pauses of keys.
    keys: u32,
    /// Longer questions with curt answers: streams opened.
    openings: u32,
    /// Longer questions with longer answers: what is passed on.
    forwarded: u32,
    last: Timestamp,
    told: u32,
}

/// Streams that somebody opened in clear.
#[derive(Default)]
struct Opened {
    forwards: u64,
    others: u64,
    /// Pods reached into, as far as paths name them.
    pods: Vec<String>,
    client: Option<Evidence>,
    targets: Vec<Target>,
    flows: Vec<Arc<FlowInfo>>,
}

/// What a path asks to do in a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Forward,
    Exec,
}

impl Verb {
    fn of_subresource(name: &str) -> Option<Self> {
        match name {
            "portforward" => Some(Self::Forward),
            "exec" | "attach" => Some(Self::Exec),
            _ => None,
        }
    }

    /// Of the API server's paths, and of the kubelet's (`/exec/namespace/pod/container`) and a runtime's (`/exec/token`);
    /// with the pod, if it is named.
    fn of(path: &Arc<str>) -> Option<(Self, Option<String>)> {
        let request = HttpRequest {
            path: Arc::clone(path),
            ..HttpRequest::default()
        };
        if let Some(call) = request.kubernetes() {
            let verb = Self::of_subresource(call.subresource?)?;
            let pod = (call.resource == "pods").then_some((call.namespace?, call.name?))?;
            return Some((verb, Some(format!("{}/{}", pod.0, pod.1))));
        }
        let mut parts = path.split('/').skip(1).filter(|part| *part != "cri");
        let verb = Self::of_subresource(&parts.next()?.to_ascii_lowercase())?;
        let first = parts.next().filter(|part| !part.is_empty())?;
        let pod = parts.next().filter(|part| !part.is_empty());
        Some((verb, pod.map(|pod| format!("{first}/{pod}"))))
    }
}

/// Whether what was opened is a stream of Kubernetes' kind.
fn is_stream(opened: &TunnelOpened) -> bool {
    let spdy = opened
        .protocol
        .as_deref()
        .is_some_and(|protocol| protocol.starts_with("spdy/"));
    let ours = |name: &str| SUBPROTOCOLS.iter().any(|end| name.ends_with(end));
    spdy || opened.subprotocol.as_deref().is_some_and(ours)
}

/// A managed control plane reaches kubelets through an agent of its own that runs as a pod.
fn is_agent_of_control_plane(flow: &FlowInfo) -> bool {
    let workload = flow.orig.who.identity.workload.as_ref();
    workload.is_some_and(|workload| {
        &*workload.namespace == "kube-system" && workload.name.starts_with("konnectivity-agent")
    })
}

/// What it says that this client opens a stream there. `server` is `None` in clear.
fn client(
    flow: &FlowInfo,
    server: Option<Component>,
    stranger: bool,
    context: &Context<'_>,
) -> Option<Evidence> {
    let to_api = server == Some(Component::ApiServer);
    let profile = context
        .profile(&flow.orig)
        .filter(|profile| profile.maturity() != Maturity::None);
    let (bits, text) = match flow.orig.who.identity.kind {
        IdentityKind::Pod if is_agent_of_control_plane(flow) => return None,
        IdentityKind::Pod if context.is_learned(flow) => {
            (BITS_LEARNED, "the baseline knows this contact")
        }
        IdentityKind::Pod if let Some(profile) = profile => (
            profile.novelty_bits(Role::Client).min(MOST_BITS_NOVEL),
            "never contacted in the workload's baseline",
        ),
        IdentityKind::Pod if !to_api => (
            BITS_STRANGE_CLIENT,
            "pods reach into others through the API server, if at all",
        ),
        IdentityKind::External if !to_api => (
            BITS_STRANGE_CLIENT,
            "nobody outside should get through to it",
        ),
        IdentityKind::Pod | IdentityKind::Unknown if to_api && stranger => (
            BITS_STRANGE_CLIENT,
            "was there for a while and never spoke to the API server",
        ),
        IdentityKind::External => return None,
        _ if to_api => (
            BITS_CUSTOMARY,
            "people at work and pods whose work it is come this way",
        ),
        _ => return None,
    };
    Some(Evidence {
        feature: "stream.client",
        family: Family::Novelty,
        observed: 1.0,
        expected: "those who administer the cluster".into(),
        bits,
        signature_grade: false,
        text: text.into(),
    })
}

fn target(flow: &FlowInfo, protocol: &'static str) -> Target {
    Target {
        endpoint: Some(flow.resp.clone()),
        port: Some(flow.resp_port),
        protocol: Some(protocol),
        domain: None,
    }
}

impl Opened {
    const fn count(&self) -> u64 {
        self.forwards.saturating_add(self.others)
    }

    fn evidence(&self) -> Vec<Evidence> {
        let forwards = self.forwards > 0;
        let bits = if forwards {
            BITS_FORWARD_OPENED
        } else {
            BITS_EXEC_OPENED
        };
        let opened = Evidence {
            feature: "stream.opened",
            family: Family::Protocol,
            observed: self.count() as f64,
            expected: "0".into(),
            bits,
            signature_grade: forwards,
            text: format!(
                "opened {} by port-forward, {} by exec or attach, in clear",
                self.forwards, self.others
            ),
        };
        std::iter::once(opened).chain(self.client.clone()).collect()
    }
}

fn opened_finding(source: &Watched<Opened>) -> Finding {
    let opened = &source.state;
    let what = match (opened.forwards, opened.others) {
        (_, 0) => "port-forward",
        (0, _) => "exec or attach",
        _ => "port-forward and exec",
    };
    let pods = if opened.pods.is_empty() {
        "a pod of this node".to_owned()
    } else {
        opened.pods.join(", ")
    };
    Finding {
        signature: SPEC.id,
        subject: "in clear".into(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: opened.targets.clone(),
        target_count: (opened.pods.len() as u64).max(1),
        evidence: opened.evidence(),
        flows: opened.flows.clone(),
        summary: format!("reached into {pods} by {what}"),
    }
}

impl Stream {
    fn note(&mut self, exchange: &Exchange) {
        self.last = self.last.max(exchange.end);
        if exchange.asker != Direction::Orig || exchange.number < HANDSHAKES {
            return;
        }
        let count = |counter: &mut u32| *counter = counter.saturating_add(1);
        match (exchange.asked > CURT, exchange.answered > CURT) {
            _ if exchange.answered == 0 => {}
            (true, true) => count(&mut self.forwarded),
            (false, true) => {}
            (long, false) => {
                count(&mut self.curt);
                if long {
                    count(&mut self.openings);
                } else if KEYSTROKE.contains(&exchange.pause()) {
                    count(&mut self.keys);
                }
            }
        }
    }

    const fn is_typed(&self) -> bool {
        self.keys >= FEWEST_KEYS
    }

    fn evidence(&self, thresholds: Thresholds) -> Vec<Evidence> {
        if self.curt < thresholds.min_curt {
            return Vec::new();
        }
        let mut evidence = vec![Evidence {
            feature: "stream.curt_answers",
            family: Family::Protocol,
            observed: f64::from(self.curt),
            expected: "0: HTTP has no answers so short".into(),
            bits: BITS_STREAM,
            signature_grade: false,
            text: format!(
                "offers no HTTP/2, and {} answers had at most {CURT} bytes: the frames of an upgraded connection",
                self.curt
            ),
        }];
        if self.is_forwarding(thresholds) {
            evidence.push(Evidence {
                feature: "stream.forwarded",
                family: Family::Volume,
                observed: f64::from(self.forwarded),
                expected: "keys and their echoes".into(),
                bits: BITS_FORWARDING,
                signature_grade: false,
                text: format!(
                    "{} questions and answers of some length, {} streams opened: a connection passed on",
                    self.forwarded, self.openings
                ),
            });
        }
        if self.is_typed() {
            evidence.push(Evidence {
                feature: "stream.keys",
                family: Family::Timing,
                observed: f64::from(self.keys),
                expected: "0".into(),
                bits: BITS_TYPED,
                signature_grade: false,
                text: format!("{} short questions at the pauses of keys", self.keys),
            });
        }
        evidence.extend(self.client.clone());
        evidence
    }

    const fn is_forwarding(&self, thresholds: Thresholds) -> bool {
        self.forwarded >= thresholds.min_forwarded || self.openings >= MANY_OPENINGS
    }

    fn finding(&self, thresholds: Thresholds, evidence: Vec<Evidence>) -> Finding {
        let looks = match (self.is_forwarding(thresholds), self.is_typed()) {
            (true, false) => "a port-forward by its shape",
            (true, true) => "an exec or a port-forward by its shape",
            (false, _) => "an exec or attach by its shape",
        };
        let flow = &self.flow;
        let secs = self.last.since(flow.start).as_secs();
        Finding {
            signature: SPEC.id,
            subject: format!("{}:{}", flow.resp.ip, flow.resp_port),
            actor: flow.orig.clone(),
            first: flow.start,
            last: self.last,
            targets: vec![target(flow, "tls")],
            target_count: 1,
            evidence,
            flows: vec![Arc::clone(flow)],
            summary: format!(
                "kept a stream into a pod open for {secs} s through the {} {}, {looks}; TLS hides which pod",
                self.server.label(),
                flow.resp.ip
            ),
        }
    }
}

impl PortForward {
    fn open_in_clear(
        &mut self,
        flow: &Arc<FlowInfo>,
        opened: &TunnelOpened,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some((verb, pod)) = opened.path.as_ref().and_then(Verb::of) else {
            return;
        };
        let source = self.opened.sign(&flow.orig, time);
        let state = &mut source.state;
        match verb {
            Verb::Forward => state.forwards = state.forwards.saturating_add(1),
            Verb::Exec => state.others = state.others.saturating_add(1),
        }
        if state.client.is_none() {
            state.client = client(flow, None, false, context);
        }
        let fresh = pod.filter(|pod| !state.pods.contains(pod));
        if state.pods.len() < MOST_LISTED {
            state.pods.extend(fresh);
        }
        if state.flows.len() < MOST_LISTED {
            state.targets.push(target(flow, "http"));
            state.flows.push(Arc::clone(flow));
        }
        let size = state.count();
        if weigh(&state.evidence()) >= self.alert_bits && source.is_news(size) {
            out.push(opened_finding(source));
        }
    }

    /// A client's hello to something that takes streams.
    fn watch(&mut self, flow: &Arc<FlowInfo>, context: &Context<'_>) {
        let Some(server) = takes_streams(flow, context) else {
            return;
        };
        let stranger = self.clients.get(&(flow.orig.ip, flow.resp.ip));
        let stream = Stream {
            flow: Arc::clone(flow),
            server,
            client: client(
                flow,
                Some(server),
                stranger.copied().unwrap_or(false),
                context,
            ),
            curt: 0,
            keys: 0,
            openings: 0,
            forwarded: 0,
            last: flow.start,
            told: 0,
        };
        let evicted = self.streams.push(flow.id, stream);
        self.evicted += u64::from(evicted.is_some_and(|(id, _)| id != flow.id));
    }

    fn exchange(&mut self, id: FlowId, exchange: &Exchange, out: &mut Findings) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.note(exchange);
        let size = stream.curt.saturating_add(stream.forwarded);
        if size < stream.told.saturating_mul(2) {
            return;
        }
        let evidence = stream.evidence(self.thresholds);
        if weigh(&evidence) >= self.alert_bits {
            stream.told = size;
            out.push(stream.finding(self.thresholds, evidence));
        }
    }

    fn last_word(&self, stream: &Stream) -> Option<Finding> {
        let evidence = stream.evidence(self.thresholds);
        (stream.told > 0).then(|| stream.finding(self.thresholds, evidence))
    }
}

/// API server or kubelet.
fn takes_streams(flow: &FlowInfo, context: &Context<'_>) -> Option<Component> {
    Component::of(flow, context.journal.networks())
        .filter(|server| matches!(server, Component::ApiServer | Component::Kubelet))
}

impl Detector for PortForward {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::EXCHANGE.and(EventKinds::FLOW_ENDED),
            after: EventKinds::TUNNEL.and(EventKinds::TLS),
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } => {
                self.inside.answered(flow);
                if takes_streams(flow, context) == Some(Component::ApiServer) {
                    let key = (flow.orig.ip, flow.resp.ip);
                    self.clients
                        .get_or_insert_with(key, || context.is_stranger(flow, event.time));
                }
            }
            EventKind::Transaction { flow, transaction } => match transaction {
                Transaction::TunnelOpened(opened) if is_stream(opened) => {
                    self.open_in_clear(flow, opened, event.time, context, out);
                }
                Transaction::HttpRequest(request) => {
                    self.inside.asked(flow, request, event.time, out);
                }
                Transaction::TlsClient(hello)
                    if hello.alpn.iter().all(|protocol| &**protocol != "h2") =>
                {
                    self.watch(flow, context);
                }
                _ => {}
            },
            EventKind::Exchange { flow, exchange, .. } => self.exchange(flow.id, exchange, out),
            EventKind::FlowEnded { flow, .. } => {
                if let Some(stream) = self.streams.pop(&flow.id) {
                    out.extend(self.last_word(&stream));
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.opened.stale(now).iter().map(opened_finding));
        out.extend(self.inside.stale(now));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        let streams = self.streams.iter();
        out.extend(streams.filter_map(|(_, stream)| self.last_word(stream)));
        out.extend(self.opened.all().iter().map(opened_finding));
        out.extend(self.inside.all());
    }

    fn state_size(&self) -> StateSize {
        let (opened, inside) = (self.opened.state_size(), self.inside.state_size());
        let own = (self.streams.len(), self.streams.limit());
        StateSize {
            entries: own.0 + self.clients.len() + opened.entries + inside.entries,
            limit: own.1 + self.clients.limit() + opened.limit + inside.limit,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.opened.losses();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses.merge(&self.inside.losses());
        losses
    }
}
