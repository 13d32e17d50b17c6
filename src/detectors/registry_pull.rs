//! `registry-pull`: a pod reads from an image registry.
//!
//! Nodes pull images, over their own addresses; a pod that asks a registry which images there are, or fetches one, builds,
//! deploys or inspects images, or takes what it can carry. What it asks for is told in clear inside the cluster (the OCI
//! distribution specification), and by the registry's name where it is encrypted; how odd that is for this pod follows from
//! what else it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use lru::LruCache;
use serde::Deserialize;

use super::registries::{Visit, Visits, is_registry, registry_inside};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
};
use crate::dissect::{OciCall, OciKind, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{bounded, is_of_pods};
use crate::flow::{Direction, FlowId};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "registry-pull",
    sees: EventKinds::HTTP.and(EventKinds::TLS).and(EventKinds::TURN),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(RegistryPull::new(
            thresholds,
            signature.alert_bits,
        )))
    },
};

/// Repositories told apart per visit.
const MAX_REPOSITORIES: usize = 64;
/// Encrypted connections to registries followed at a time.
const MAX_ENCRYPTED: usize = 4096;

// Priors: −log2 of the share of workloads in an ordinary cluster that do it (builders, deployers, scanners, registries'
// own tools).
const BITS_PULL: f64 = 6.0;
const MAX_BREADTH: f64 = 2.0;
const BITS_OUTSIDE: f64 = 6.0;
const BITS_CATALOGUE: f64 = 8.0;
const BITS_TAGS: f64 = 3.0;
const BITS_ODD_NAME: f64 = 10.0;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    /// Names of workloads and namespaces that build, deploy or inspect images.
    builder_words: Vec<String>,
    /// Words in names of repositories whose images mine, crack or attack.
    odd_words: Vec<String>,
    /// An answer of this many bytes, encrypted, by a registry inside is a layer.
    layer_bytes: u64,
}

#[derive(Debug, Default)]
struct Facts {
    catalogue: u64,
    listed: BTreeSet<Arc<str>>,
    pulled: BTreeSet<Arc<str>>,
    odd: Option<Arc<str>>,
    outside: BTreeSet<Arc<str>>,
    /// Registries inside that sent layers over encrypted connections.
    inside: BTreeSet<Arc<str>>,
    bytes: u64,
}

struct RegistryPull {
    thresholds: Thresholds,
    alert_bits: f64,
    visits: Visits<Facts>,
    /// Encrypted connections to registries, by flow, with the registry's name.
    encrypted: LruCache<FlowId, Arc<str>>,
    /// The same to registries inside.
    inside: LruCache<FlowId, Arc<str>>,
}

impl RegistryPull {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            visits: Visits::new(thresholds.max_sources),
            encrypted: bounded(MAX_ENCRYPTED),
            inside: bounded(MAX_ENCRYPTED),
            thresholds,
            alert_bits,
        }
    }

    fn clear(
        &mut self,
        flow: &Arc<FlowInfo>,
        call: &OciCall<'_>,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if !may_be_odd(flow) {
            return;
        }
        let words = &self.thresholds.builder_words;
        let Some(visit) = self.visits.call(flow, time, None, words, context) else {
            return;
        };
        let facts = &mut visit.facts;
        let odd = &self.thresholds.odd_words;
        match call.kind {
            OciKind::Catalogue => facts.catalogue += 1,
            OciKind::Tags => note(&mut facts.listed, call.repository),
            OciKind::GetManifest | OciKind::GetBlob => {
                note(&mut facts.pulled, call.repository);
                let part = |part: &str| odd.iter().any(|word| word == part);
                if call
                    .repository
                    .split(|c: char| !c.is_ascii_alphanumeric())
                    .any(part)
                {
                    facts.odd.get_or_insert_with(|| call.repository.into());
                }
            }
            _ => return,
        }
        report(visit, self.alert_bits, out);
    }

    fn hello(
        &mut self,
        flow: &Arc<FlowInfo>,
        asked: Option<&Arc<str>>,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if let Some(name) = registry_inside(flow, asked).filter(|_| may_be_odd(flow)) {
            self.inside.put(flow.id, name);
        }
        let Some(name) = asked else { return };
        let outside = flow.resp.who.identity.kind == IdentityKind::External;
        if !outside || !is_registry(name) || !may_be_odd(flow) {
            return;
        }
        let words = &self.thresholds.builder_words;
        if let Some(visit) = self.visits.call(flow, time, Some(name), words, context) {
            note(&mut visit.facts.outside, name);
            self.encrypted.put(flow.id, Arc::clone(name));
            report(visit, self.alert_bits, out);
        }
    }

    fn bytes(&mut self, flow: &Arc<FlowInfo>, bytes: u64, time: Timestamp, context: &Context<'_>) {
        let Some(name) = self.encrypted.get(&flow.id).cloned() else {
            return;
        };
        let words = &self.thresholds.builder_words;
        if let Some(visit) = self.visits.call(flow, time, Some(&name), words, context) {
            visit.calls -= 1;
            visit.facts.bytes += bytes;
        }
    }

    /// A registry inside answered at length.
    fn layer(
        &mut self,
        flow: &Arc<FlowInfo>,
        bytes: u64,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some(name) = self.inside.get(&flow.id).cloned() else {
            return;
        };
        let words = &self.thresholds.builder_words;
        if let Some(visit) = self.visits.call(flow, time, None, words, context) {
            note(&mut visit.facts.inside, &name);
            visit.facts.bytes += bytes;
            report(visit, self.alert_bits, out);
        }
    }
}

/// Whether calls of a flow's originator are looked at: nodes pull by right, but not just anything.
fn may_be_odd(flow: &FlowInfo) -> bool {
    is_of_pods(&flow.orig) || flow.orig.who.identity.kind == IdentityKind::Node
}

fn note(names: &mut BTreeSet<Arc<str>>, name: &str) {
    if names.len() < MAX_REPOSITORIES && !names.contains(name) {
        names.insert(name.into());
    }
}

fn evidence(visit: &Visit<Facts>) -> Vec<Evidence> {
    let facts = &visit.facts;
    let mut evidence = vec![visit.surprise()];
    let mut protocol = |feature, observed: usize, bits, text| {
        evidence.push(Evidence {
            feature,
            family: Family::Protocol,
            observed: observed as f64,
            expected: "0: nodes pull images, pods don't".into(),
            bits,
            signature_grade: false,
            text,
        });
    };
    if facts.catalogue > 0 {
        protocol(
            "registry.catalogue",
            facts.catalogue as usize,
            BITS_CATALOGUE,
            "asked a registry for the list of all its repositories".into(),
        );
    }
    let (listed, pulled) = (facts.listed.len(), facts.pulled.len());
    if listed > 0 {
        protocol(
            "registry.tag_lists",
            listed,
            BITS_TAGS + breadth(listed),
            format!("asked for the tags of {}", listing(&facts.listed)),
        );
    }
    if pulled > 0 {
        protocol(
            "registry.pulled",
            pulled,
            BITS_PULL + breadth(pulled),
            format!("fetched images of {}", listing(&facts.pulled)),
        );
    }
    if let Some(name) = &facts.odd {
        protocol(
            "registry.odd_repository",
            1,
            BITS_ODD_NAME,
            format!("the repository {name} is named for mining, cracking or attacking"),
        );
    }
    if !facts.outside.is_empty() {
        protocol(
            "registry.outside",
            facts.outside.len(),
            BITS_OUTSIDE,
            format!(
                "called {} outside the cluster and got {} bytes",
                listing(&facts.outside),
                facts.bytes
            ),
        );
    }
    if !facts.inside.is_empty() {
        protocol(
            "registry.encrypted_pull",
            facts.inside.len(),
            BITS_PULL,
            format!("got {} bytes from {}", facts.bytes, listing(&facts.inside)),
        );
    }
    evidence
}

/// What several repositories add: builders use a few as well, so it isn't much.
fn breadth(repositories: usize) -> f64 {
    (repositories as f64).log2().clamp(0.0, MAX_BREADTH)
}

fn listing(names: &BTreeSet<Arc<str>>) -> String {
    let first: Vec<&str> = names.iter().take(3).map(|name| &**name).collect();
    let more = names.len() - first.len();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", first.join(", "))
}

/// The strongest of each of the two families, summed.
fn total(evidence: &[Evidence]) -> f64 {
    let best = |family| {
        evidence
            .iter()
            .filter(|one| one.family == family)
            .map(|one| one.bits)
            .fold(0.0, f64::max)
    };
    best(Family::Novelty) + best(Family::Protocol)
}

/// Reports a visit if it is one to talk of and there is news.
fn report(visit: &mut Visit<Facts>, alert_bits: f64, out: &mut Findings) {
    if !visit.is_due() {
        return;
    }
    let evidence = evidence(visit);
    if total(&evidence) >= alert_bits {
        visit.reported = visit.calls;
        out.push(finding(visit, evidence));
    }
}

fn finding(visit: &Visit<Facts>, evidence: Vec<Evidence>) -> Finding {
    let facts = &visit.facts;
    let mut did = Vec::new();
    if facts.catalogue > 0 {
        did.push("listed all repositories".to_owned());
    }
    if !facts.listed.is_empty() {
        did.push(format!("listed the tags of {}", listing(&facts.listed)));
    }
    if !facts.pulled.is_empty() {
        did.push(format!("fetched images of {}", listing(&facts.pulled)));
    }
    if !facts.outside.is_empty() {
        did.push(format!("called {}", listing(&facts.outside)));
    }
    if !facts.inside.is_empty() {
        did.push(format!(
            "fetched {} bytes from {}",
            facts.bytes,
            listing(&facts.inside)
        ));
    }
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: visit.actor.clone(),
        first: visit.first,
        last: visit.last,
        targets: visit.targets.clone(),
        target_count: visit.targets.len() as u64,
        evidence,
        flows: visit.flows.clone(),
        summary: format!("read from an image registry: {}", did.join("; ")),
    }
}

impl Detector for RegistryPull {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::TURN,
            after: EventKinds::HTTP.and(EventKinds::TLS),
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::HttpRequest(request),
            } => {
                if let Some(call) = request.oci() {
                    self.clear(flow, &call, event.time, context, out);
                }
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::TlsClient(hello),
            } => {
                self.hello(flow, hello.sni.as_ref(), event.time, context, out);
            }
            EventKind::Turn { flow, turn }
                if turn.direction == Direction::Resp
                    && turn.bytes >= self.thresholds.layer_bytes
                    && self.inside.contains(&flow.id) =>
            {
                self.layer(flow, turn.bytes, event.time, context, out);
            }
            EventKind::Turn { flow, turn }
                if turn.direction == Direction::Resp && self.encrypted.contains(&flow.id) =>
            {
                self.bytes(flow, turn.bytes, event.time, context);
            }
            _ => {}
        }
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        for visit in self.visits.reported() {
            out.push(finding(visit, evidence(visit)));
        }
    }

    fn state_size(&self) -> StateSize {
        self.visits.state_size()
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.visits.evicted());
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, nameless, pod};
    use super::*;
    use crate::dissect::{HttpRequest, TlsClientHello};
    use crate::event::Endpoint;
    use crate::flow::{Outcome, Protocol, Turn};
    use crate::identity::{Source, WorkloadId};

    fn get(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), path: &str) {
        let flow = bench.open(secs, ends, Protocol::Tcp, 5000);
        let request = HttpRequest {
            method: "GET".into(),
            path: path.into(),
            ..HttpRequest::default()
        };
        bench.says(secs, &flow, Transaction::HttpRequest(request));
    }

    fn hello(bench: &mut Bench, secs: f64, client: &Endpoint, name: &str) {
        let outside = end("203.0.113.20", IdentityKind::External, None);
        let flow = bench.open(secs, (client, &outside), Protocol::Tcp, 443);
        let hello = TlsClientHello {
            sni: Some(name.into()),
            ..TlsClientHello::default()
        };
        bench.says(secs, &flow, Transaction::TlsClient(hello));
    }

    /// A pod that has asked another `asked` times, and a registry.
    fn scene(name: &str, asked: u32) -> (Bench, Endpoint, Endpoint) {
        let mut bench = Bench::new("registry-pull");
        let (client, store) = (pod("10.244.1.7", name), pod("10.244.1.3", "db"));
        for n in 0..asked {
            bench.asks(f64::from(n) * 0.2, (&client, &store), 5432);
        }
        (bench, client, pod("10.244.1.9", "registry"))
    }

    #[test]
    fn a_web_server_that_lists_a_registry_and_fetches_from_it() {
        let (mut bench, web, registry) = scene("web", 40);
        get(&mut bench, 60.0, (&web, &registry), "/v2/");
        assert!(bench.findings.is_empty(), "a look is none");
        get(&mut bench, 61.0, (&web, &registry), "/v2/_catalog");
        assert!(bench.alerts(), "{} bits", bench.bits());
        get(
            &mut bench,
            63.0,
            (&web, &registry),
            "/v2/prod/api/manifests/v1",
        );
        let last = bench.finish(70.0).last().unwrap();
        assert!(last.summary.contains("fetched images of prod/api"));
    }

    #[test]
    fn a_slow_pull_by_a_worker_and_one_from_outside() {
        let (mut bench, worker, registry) = scene("worker", 40);
        for n in 0..3 {
            let path = format!("/v2/prod/api/blobs/sha256:{n}");
            get(
                &mut bench,
                60.0 + f64::from(n) * 400.0,
                (&worker, &registry),
                &path,
            );
        }
        assert!(bench.alerts(), "{} bits", bench.bits());

        let (mut bench, worker, _) = scene("worker", 40);
        hello(&mut bench, 60.0, &worker, "registry.hub.example");
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    /// An encrypted connection, by a server name if there is one, to a pod that answers with so many bytes.
    fn encrypted(bench: &mut Bench, ends: (&Endpoint, &Endpoint), asked: Option<&str>, bytes: u64) {
        let flow = bench.open(60.0, ends, Protocol::Tcp, 5443);
        let hello = TlsClientHello {
            sni: asked.map(Into::into),
            ..TlsClientHello::default()
        };
        bench.says(60.0, &flow, Transaction::TlsClient(hello));
        let turn = Turn {
            direction: Direction::Resp,
            bytes,
            ..Turn::new(Direction::Resp, Timestamp::from_secs(61), 1)
        };
        bench.event(61.0, EventKind::Turn { flow, turn });
    }

    #[test]
    fn layers_of_a_registry_inside_that_speaks_tls() {
        for (client, server, asked, bytes, alerts) in [
            // By the name of who answers, or by the one that was asked for.
            ("web", "registry", None, 900_000, true),
            (
                "web",
                "store",
                Some("docker-registry.ci.svc"),
                900_000,
                true,
            ),
            // Metrics, other registries and other servers, and those who may.
            ("web", "registry", None, 40_000, false),
            ("web", "schema-registry", None, 900_000, false),
            ("web", "store", Some("store.ci.svc"), 900_000, false),
            ("ci-runner", "registry", None, 900_000, false),
        ] {
            let (mut bench, pod_at, _) = scene(client, 40);
            encrypted(
                &mut bench,
                (&pod_at, &pod("10.244.1.9", server)),
                asked,
                bytes,
            );
            let shown = (client, server, asked, bytes, bench.bits());
            assert_eq!(bench.alerts(), alerts, "{shown:?}");
        }
    }

    #[test]
    fn nodes_pull_but_not_just_anything() {
        let node = end("10.244.1.1", IdentityKind::Node, None);
        for (paths, alerts) in [
            (
                &["prod/api", "prod/web", "john/site", "base/jre"][..],
                false,
            ),
            (&["prod/api", "library/xmrig"][..], true),
        ] {
            let (mut bench, _, registry) = scene("web", 0);
            for (path, n) in paths.iter().zip(0..) {
                let path = format!("/v2/{path}/manifests/latest");
                get(&mut bench, f64::from(n), (&node, &registry), &path);
            }
            assert_eq!(bench.alerts(), alerts, "{paths:?}: {} bits", bench.bits());
        }
    }

    #[test]
    fn a_pod_without_a_name_is_known_by_the_range_of_pods_alone() {
        for (source, alerts) in [(Source::Cidr, true), (Source::None, false)] {
            let (mut bench, _, registry) = scene("web", 0);
            let (client, store) = (nameless("10.244.1.7", source), pod("10.244.1.3", "db"));
            for n in 0..40 {
                bench.asks(f64::from(n) * 0.2, (&client, &store), 5432);
            }
            get(&mut bench, 60.0, (&client, &registry), "/v2/_catalog");
            assert_eq!(bench.alerts(), alerts, "{source:?}: {} bits", bench.bits());
        }
    }

    #[test]
    fn a_pod_that_somebody_started_by_hand_has_no_images_to_fetch() {
        for (label, alerts) in [("run", true), ("app", false)] {
            let mut bench = Bench::new("registry-pull");
            let workload = WorkloadId {
                namespace: "prod".into(),
                kind: "Pod".into(),
                name: "tmp".into(),
            };
            let mut pod_at = end("10.244.1.7", IdentityKind::Pod, Some(workload));
            let labels = &mut Arc::make_mut(&mut pod_at.who.identity).labels;
            labels.insert(label.into(), "tmp".into());
            let registry = pod("10.244.1.9", "registry");
            get(
                &mut bench,
                1.0,
                (&pod_at, &registry),
                "/v2/prod/api/manifests/v1",
            );
            assert_eq!(bench.alerts(), alerts, "{label}: {} bits", bench.bits());
        }
    }

    #[test]
    fn builders_and_updaters_do_it_all_day() {
        // Asks nobody else.
        let (mut bench, kaniko, registry) = scene("kaniko", 0);
        for n in 0..50 {
            let path = format!("/v2/app{n}/manifests/latest");
            get(&mut bench, f64::from(n) * 60.0, (&kaniko, &registry), &path);
        }
        assert!(!bench.alerts(), "{} bits", bench.bits());
        // Runs tests against services before it builds, and is called a runner.
        let (mut bench, runner, registry) = scene("ci-runner", 200);
        get(
            &mut bench,
            60.0,
            (&runner, &registry),
            "/v2/base/manifests/latest",
        );
        assert!(!bench.alerts(), "{} bits", bench.bits());
        // So it is with a baseline of a few minutes in which nothing was built; of another workload that is strange.
        for (name, alerts) in [("ci-runner", false), ("web", true)] {
            let (mut bench, runner, registry) = scene(name, 0);
            let db = pod("10.244.1.3", "db");
            for n in 0..60 {
                bench.tcp(f64::from(n), (&runner, &db), 5432, Outcome::Answered, 500);
            }
            let mut bench = bench.learned("registry-pull");
            for (n, path) in (0..).zip([
                "/v2/_catalog",
                "/v2/base/manifests/latest",
                "/v2/app/manifests/latest",
            ]) {
                get(&mut bench, 60.0 + f64::from(n), (&runner, &registry), path);
            }
            assert_eq!(bench.alerts(), alerts, "{name}: {} bits", bench.bits());
        }
    }

    #[test]
    fn other_apis_and_other_registries() {
        let (mut bench, web, api) = scene("web", 40);
        get(&mut bench, 60.0, (&web, &api), "/v2/orders/42");
        for name in ["registry.npmjs.org", "api.example.com"] {
            hello(&mut bench, 61.0, &web, name);
        }
        assert!(bench.findings.is_empty());
    }
}
