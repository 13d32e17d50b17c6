//! `control-plane-probe`: a workload asks what runs the cluster, which it has no business with.
//!
//! An application speaks to the API server at most. Each further part of the control plane that a pod touches adds bits by
//! how few honest clients it has; a request in clear adds by what it wants and by which program asks. What the baseline
//! knows doesn't count, and where it knows the workload well, a first contact surprises besides. Nodes run the control
//! plane and are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::watch::{Watch, Watched};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::baseline::Maturity;
use crate::dissect::{HttpRequest, HttpResponse, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Component, Role, Wanted};
use crate::flow::{FlowId, Outcome};
use crate::identity::IdentityKind;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "control-plane-probe",
    sees: EventKinds::FLOW_OUTCOME.and(EventKinds::HTTP),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(ControlPlaneProbe {
            sources: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            alert_bits: signature.alert_bits,
        }))
    },
};

/// What a metadata service that doesn't answer adds: only a cloud's library on a cluster without a cloud, or an intruder,
/// looks for it.
const BITS_ABSENT_METADATA: f64 = 12.0;
/// What a first contact that the baseline lacks adds at most.
const MAX_NOVELTY_BITS: f64 = 12.0;
/// Where further components and requests stop adding.
const MAX_BITS: f64 = 32.0;
/// What credentials that were handed out add.
const BITS_GIVEN: f64 = 8.0;
/// Requests for credentials waiting for their answer, per source.
const MAX_WAITING: usize = 16;
const MAX_FLOWS: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    forget_after_secs: u64,
}

struct ControlPlaneProbe {
    alert_bits: f64,
    sources: Watch<Probes>,
}

/// What a source has touched and asked for.
#[derive(Default)]
struct Probes {
    touched: BTreeMap<Component, Touch>,
    asked: BTreeMap<Wanted, Asked>,
    waiting: Vec<FlowId>,
    given: bool,
    novelty_bits: f64,
    flows: Vec<Arc<FlowInfo>>,
}

#[derive(Clone, Debug)]
struct Touch {
    endpoint: Endpoint,
    port: u16,
    bits: f64,
}

/// The most telling request of a sort.
#[derive(Clone, Debug)]
struct Asked {
    path: Arc<str>,
    agent: Option<Arc<str>>,
    bits: f64,
}

/// What touching a component says: −log2 of the share of workloads, by guess, that have business with it. A monitoring
/// system has with kubelets, controllers and kube-proxies all at once, and stays below what raises an alert.
const fn touch_bits(component: Component) -> f64 {
    match component {
        Component::KubeProxy => 1.0,
        Component::ApiServer | Component::Controllers => 2.0,
        Component::InsecureApi => 3.0,
        Component::Metadata => 4.0,
        Component::Kubelet | Component::Cadvisor | Component::Tiller => 5.0,
        Component::ReadOnlyKubelet | Component::Etcd | Component::Docker => 7.0,
    }
}

const fn wanted_bits(wanted: Wanted) -> f64 {
    match wanted {
        Wanted::Fact => 0.5,
        Wanted::Listing => 3.0,
        Wanted::UserData | Wanted::Objects => 6.0,
        Wanted::Credentials => 7.0,
        Wanted::Execution => 10.0,
    }
}

/// What asks, by its User-Agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Program {
    /// A cloud's own library, which asks for credentials all day.
    CloudLibrary,
    /// What people type, and the plainest libraries of scripting languages.
    Handmade,
    Other,
}

impl Program {
    fn of(agent: Option<&str>, path: &str) -> Self {
        const LIBRARIES: &[&str] = &[
            "aws-",
            "boto",
            "botocore",
            "gcloud",
            "google",
            "gce",
            "azsdk",
            "azure",
            "alibaba",
            "oracle",
            "kube",
            "prometheus",
            "cloud-init",
            "datadog",
            "newrelic",
            "telegraf",
        ];
        const HANDMADE: &[&str] = &[
            "curl/",
            "wget",
            "python-urllib",
            "python-requests",
            "httpie",
            "go-http-client",
            "libwww-perl",
            "powershell",
            "busybox",
            "aiohttp",
            "python-httpx",
            "ruby",
        ];
        let Some(agent) = agent.map(str::to_ascii_lowercase) else {
            return Self::Other;
        };
        // Google's library for Python shows itself as the library it is made of.
        let google = path.starts_with("/computeMetadata/") && agent.starts_with("python-requests");
        if google || LIBRARIES.iter().any(|head| agent.starts_with(head)) {
            Self::CloudLibrary
        } else if HANDMADE.iter().any(|head| agent.starts_with(head)) {
            Self::Handmade
        } else {
            Self::Other
        }
    }

    const fn bits(self) -> f64 {
        match self {
            Self::CloudLibrary => -6.0,
            Self::Handmade => 5.0,
            Self::Other => 0.0,
        }
    }
}

/// The component that a flow is for, if its originator is somebody who shouldn't.
fn component(flow: &FlowInfo, context: &Context<'_>) -> Option<Component> {
    match flow.orig.who.identity.kind {
        IdentityKind::Node | IdentityKind::External => return None,
        IdentityKind::Pod | IdentityKind::Service | IdentityKind::Unknown => {}
    }
    Component::of(flow, context.journal.networks())
}

impl ControlPlaneProbe {
    fn touch(
        &mut self,
        flow: &Arc<FlowInfo>,
        component: Component,
        outcome: Outcome,
        context: &Context<'_>,
        time: Timestamp,
    ) {
        let pod = flow.orig.who.identity.kind == IdentityKind::Pod;
        let answered = outcome == Outcome::Answered;
        let bits = match component {
            Component::Metadata if pod && !answered => BITS_ABSENT_METADATA,
            // Without an inventory it may be a node, which has business with all of these and gets its answer.
            _ if !pod && answered => touch_bits(component) / 2.0,
            _ => touch_bits(component),
        };
        let novelty = context
            .profile(&flow.orig)
            .filter(|profile| profile.maturity() != Maturity::None)
            .map_or(0.0, |profile| profile.novelty_bits(Role::Client));
        let source = self.sources.sign(&flow.orig, time);
        let probes = &mut source.state;
        probes.novelty_bits = probes.novelty_bits.max(novelty.min(MAX_NOVELTY_BITS));
        let touch = probes.touched.entry(component).or_insert_with(|| Touch {
            endpoint: flow.resp.clone(),
            port: flow.resp_port,
            bits,
        });
        touch.bits = touch.bits.max(bits);
        if probes.flows.len() < MAX_FLOWS {
            probes.flows.push(Arc::clone(flow));
        }
    }

    fn ask(&mut self, flow: &Arc<FlowInfo>, component: Component, request: &HttpRequest) {
        let Some(wanted) = Wanted::of(component, request) else {
            return;
        };
        let Some(source) = self.sources.known(&flow.orig) else {
            return;
        };
        let probes = &mut source.state;
        let agent = request.user_agent.clone();
        let program = Program::of(agent.as_deref(), &request.path);
        let by_hand = program == Program::Handmade && wanted == Wanted::Credentials;
        if by_hand && probes.waiting.len() < MAX_WAITING {
            probes.waiting.push(flow.id);
        }
        let asked = Asked {
            path: Arc::clone(&request.path),
            agent,
            bits: wanted_bits(wanted) + program.bits(),
        };
        let known = probes.asked.entry(wanted).or_insert_with(|| asked.clone());
        if asked.bits > known.bits {
            *known = asked;
        }
    }

    fn answer(&mut self, flow: &FlowInfo, response: &HttpResponse) {
        if let Some(source) = self.sources.known(&flow.orig)
            && let probes = &mut source.state
            && let Some(at) = probes.waiting.iter().position(|&id| id == flow.id)
        {
            probes.waiting.swap_remove(at);
            probes.given |= response.status == 200;
        }
    }

    fn judge(&mut self, actor: &Endpoint, out: &mut Findings) {
        let alert_bits = self.alert_bits;
        if let Some(source) = self.sources.known(actor) {
            let bits = total(&source.state);
            // Grown means another component, another sort of request, or credentials.
            let probes = &source.state;
            let size = probes.touched.len() + probes.asked.len() + usize::from(probes.given) * 8;
            if bits >= alert_bits && source.is_news(size as u64) {
                out.push(finding(source));
            }
        }
    }
}

fn components_bits(probes: &Probes) -> f64 {
    let sum: f64 = probes.touched.values().map(|touch| touch.bits).sum();
    sum.min(MAX_BITS)
}

fn requests_bits(probes: &Probes) -> f64 {
    let sum: f64 = probes.asked.values().map(|asked| asked.bits.max(0.0)).sum();
    sum.min(MAX_BITS)
}

fn total(probes: &Probes) -> f64 {
    let given = if probes.given { BITS_GIVEN } else { 0.0 };
    components_bits(probes) + requests_bits(probes) + probes.novelty_bits + given
}

fn finding(source: &Watched<Probes>) -> Finding {
    let probes = &source.state;
    let touched: Vec<String> = probes
        .touched
        .iter()
        .map(|(component, touch)| format!("{} (port {})", component.label(), touch.port))
        .collect();
    let mut evidence = vec![Evidence {
        feature: "control_plane.components",
        family: Family::Volume,
        observed: probes.touched.len() as f64,
        expected: "at most the API server".into(),
        bits: components_bits(probes),
        signature_grade: false,
        text: format!("touched {}", touched.join(", ")),
    }];
    let mut asked: Vec<(&Wanted, &Asked)> = probes.asked.iter().collect();
    asked.sort_by(|(a, _), (b, _)| b.cmp(a));
    if let Some((_, most)) = asked.first() {
        let agent = most.agent.as_deref().unwrap_or("a program without a name");
        evidence.push(Evidence {
            feature: "control_plane.requests",
            family: Family::Protocol,
            observed: asked.len() as f64,
            expected: "0".into(),
            bits: requests_bits(probes),
            signature_grade: false,
            text: format!("{agent} asked for {}", most.path),
        });
    }
    if probes.novelty_bits > 0.0 {
        evidence.push(Evidence {
            feature: "control_plane.first_contact",
            family: Family::Novelty,
            observed: 1.0,
            expected: "only peers met before".into(),
            bits: probes.novelty_bits,
            signature_grade: false,
            text: "the workload never did so in its baseline".into(),
        });
    }
    if probes.given {
        evidence.push(Evidence {
            feature: "control_plane.credentials_given",
            family: Family::Outcome,
            observed: 1.0,
            expected: "0".into(),
            bits: BITS_GIVEN,
            signature_grade: false,
            text: "a request for credentials was answered with 200".into(),
        });
    }
    let wants: Vec<&str> = asked.iter().map(|(wanted, _)| wanted.label()).collect();
    let summary = if wants.is_empty() {
        format!("reached for {}", touched.join(", "))
    } else {
        format!(
            "reached for {} and asked for {}",
            touched.join(", "),
            wants.join(", ")
        )
    };
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: probes
            .touched
            .values()
            .map(|touch| Target {
                endpoint: Some(touch.endpoint.clone()),
                port: Some(touch.port),
                protocol: None,
                domain: None,
            })
            .collect(),
        target_count: probes.touched.len() as u64,
        evidence,
        flows: probes.flows.clone(),
        summary,
    }
}

impl Detector for ControlPlaneProbe {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome } => {
                if let Some(component) = component(flow, context)
                    && !context.is_learned(flow)
                {
                    self.touch(flow, component, *outcome, context, event.time);
                    self.judge(&flow.orig, out);
                }
            }
            EventKind::Transaction { flow, transaction } => match transaction {
                Transaction::HttpRequest(request) => {
                    if let Some(component) = component(flow, context)
                        && !context.is_learned(flow)
                    {
                        self.ask(flow, component, request);
                        self.judge(&flow.orig, out);
                    }
                }
                Transaction::HttpResponse(response) if component(flow, context).is_some() => {
                    self.answer(flow, response);
                    self.judge(&flow.orig, out);
                }
                _ => {}
            },
            _ => {}
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
    use super::super::testing::{Bench, end, pod};
    use super::*;

    fn node(ip: &str) -> Endpoint {
        end(ip, IdentityKind::Node, None)
    }

    fn metadata() -> Endpoint {
        end("169.254.169.254", IdentityKind::Unknown, None)
    }

    /// What a request for a path by a program adds up to, answered with a status.
    fn asks(agent: Option<&str>, paths: &[&str], status: u16) -> Bench {
        let mut bench = Bench::new("control-plane-probe");
        let web = pod("10.244.1.7", "web");
        for (n, path) in paths.iter().enumerate() {
            let request = HttpRequest {
                method: "GET".into(),
                path: (*path).into(),
                user_agent: agent.map(Into::into),
                ..HttpRequest::default()
            };
            let response = HttpResponse {
                status,
                ..HttpResponse::default()
            };
            let said = [
                Transaction::HttpRequest(request),
                Transaction::HttpResponse(response),
            ];
            bench.talk(n as f64, (&web, &metadata()), 80, said);
        }
        bench.finish(100.0);
        bench
    }

    const ROLE: &str = "/latest/meta-data/iam/security-credentials/node";

    #[test]
    fn credentials_asked_for_by_hand() {
        let bench = asks(Some("curl/8.5.0"), &[ROLE], 200);
        assert!(bench.alerts(), "{} bits", bench.bits());
        let last = bench.findings.last().unwrap();
        assert!(
            last.evidence
                .iter()
                .any(|one| one.feature == "control_plane.credentials_given")
        );
        assert!(asks(Some("curl/8.5.0"), &["/latest/meta-data/"], 404).alerts());
        // A server made to ask by somebody else: its own library, but it looks around first.
        assert!(asks(Some("okhttp/4.12"), &["/latest/meta-data/", ROLE], 200).alerts());
    }

    #[test]
    fn a_clouds_own_library_is_left_alone() {
        for agent in [
            "aws-sdk-go-v2/1.30.3",
            "Boto3/1.34",
            "gcloud-golang-metadata/0.1",
        ] {
            let paths = [
                "/latest/api/token",
                ROLE,
                "/latest/meta-data/placement/region",
            ];
            assert!(!asks(Some(agent), &paths, 200).alerts(), "{agent}");
        }
        let token = "/computeMetadata/v1/instance/service-accounts/default/token";
        assert!(!asks(Some("python-requests/2.32"), &[token], 200).alerts());
        assert!(!asks(None, &["/latest/api/token", ROLE], 200).alerts());
    }

    #[test]
    fn where_there_is_no_cloud_looking_for_its_metadata_is_enough() {
        let mut bench = Bench::new("control-plane-probe");
        let web = pod("10.244.1.7", "web");
        bench.tcp(1.0, (&web, &metadata()), 80, Outcome::Silent, 0);
        bench.finish(100.0);
        assert!(bench.alerts());
    }

    #[test]
    fn several_components_are_a_probe_whether_they_answer_or_not() {
        for outcome in [Outcome::Answered, Outcome::Refused, Outcome::Silent] {
            let mut bench = Bench::new("control-plane-probe");
            let web = pod("10.244.1.7", "web");
            for (n, port) in [6443, 10250, 10255, 2379].into_iter().enumerate() {
                let at = n as f64 * 600.0;
                bench.tcp(at, (&web, &node("172.18.0.2")), port, outcome, 300);
            }
            bench.finish(1e4);
            assert!(bench.alerts(), "{outcome:?}");
            assert_eq!(bench.findings.last().unwrap().target_count, 4);
        }
    }

    #[test]
    fn operators_monitoring_nodes_and_learned_clients_are_left_alone() {
        let mut bench = Bench::new("control-plane-probe");
        let api = end("172.18.0.10", IdentityKind::Unknown, None);
        let operator = pod("10.244.1.8", "operator");
        let prometheus = pod("10.244.1.30", "prometheus");
        for n in 0..50 {
            let at = f64::from(n);
            bench.tcp(at, (&operator, &api), 6443, Outcome::Answered, 900);
            for port in [10250, 10249, 10257, 10259, 9100, 2381, 6443] {
                let outcome = if port == 10259 {
                    Outcome::Refused
                } else {
                    Outcome::Answered
                };
                bench.tcp(at, (&prometheus, &node("172.18.0.2")), port, outcome, 900);
            }
            // A node that runs the control plane, known and (without an inventory) unknown.
            let unknown = end("172.18.0.9", IdentityKind::Unknown, None);
            for source in [node("172.18.0.3"), unknown] {
                for port in [2379, 10250, 6443] {
                    bench.tcp(
                        at,
                        (&source, &node("172.18.0.2")),
                        port,
                        Outcome::Answered,
                        900,
                    );
                }
            }
            // Applications of one's own on such ports.
            let store = pod("10.244.1.20", "etcd");
            for port in [2379, 2380, 8080, 8443] {
                bench.tcp(at, (&operator, &store), port, Outcome::Answered, 900);
            }
        }
        bench.finish(1e3);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    #[test]
    fn what_the_workload_always_does_is_known_and_the_first_time_surprises() {
        let mut bench = Bench::new("control-plane-probe");
        let (agent, web) = (pod("10.244.1.8", "agent"), pod("10.244.1.7", "web"));
        let db = pod("10.244.1.9", "db");
        let all = [2379, 10250, 10255];
        for n in 0..400_u16 {
            let at = f64::from(n) * 10.0;
            for port in all {
                bench.tcp(
                    at,
                    (&agent, &node("172.18.0.2")),
                    port,
                    Outcome::Answered,
                    900,
                );
            }
            bench.tcp(at, (&web, &db), 5432, Outcome::Answered, 900);
        }
        let mut bench = bench.learned("control-plane-probe");
        for port in all {
            bench.tcp(
                5000.0,
                (&agent, &node("172.18.0.2")),
                port,
                Outcome::Answered,
                900,
            );
        }
        bench.finish(5100.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
        bench.tcp(
            5200.0,
            (&web, &node("172.18.0.2")),
            10250,
            Outcome::Answered,
            900,
        );
        bench.finish(5300.0);
        assert!(bench.alerts(), "one kubelet, by a workload that never did");
    }
}
