//! `registry-push`: a pod adds to an image registry, replaces or removes what is there.
//!
//! An implanted image must reach a registry before anybody runs it: layers are uploaded, and a manifest gives them a name
//! (OCI distribution specification, "Push"). In clear each step is told; encrypted, a registry's name and a connection that
//! carries far more up than down tell. Builders do that all day; how odd it is for this pod follows from what else it does,
//! and a name that another workload gave before is taken over by nobody but its owner.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::registries::{Visit, Visits, registry_inside};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
};
use crate::dissect::{OciCall, OciKind, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, SourceKey, is_registry, source_key};
use crate::flow::{Direction, FlowId};
use crate::identity::WorkloadId;
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "registry-push",
    sees: EventKinds::HTTP.and(EventKinds::TLS).and(EventKinds::TURN),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(RegistryPush::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Names of images told apart per visit.
const MAX_IMAGES: usize = 64;
/// Repositories whose owners are remembered.
const MAX_OWNED: usize = 16 * 1024;
/// Images named by whom that was told of, and of each who asked for it since.
const MAX_IMPLANTS: usize = 4096;
const MAX_ASKED: usize = 16;
/// Encrypted connections to registries followed at a time.
const MAX_ENCRYPTED: usize = 4096;

// Priors: −log2 of the share of workloads in an ordinary cluster that do it.
const BITS_UPLOAD: f64 = 6.0;
const BITS_NAMED: f64 = 8.0;
const BITS_DELETED: f64 = 8.0;
const BITS_ENCRYPTED: f64 = 7.0;
/// That somebody else's repository is pushed to: shared by several pipelines one time in thirty.
const BITS_TAKEN_OVER: f64 = 5.0;
/// That somebody is about to run it is how it goes on, and how ordinary pushes go on, too.
const BITS_ASKED_FOR: f64 = 1.0;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    /// Names of workloads and namespaces that build, deploy or inspect images.
    builder_words: Vec<String>,
    /// An encrypted connection that carries this much up,
    upload_bytes: u64,
    /// and this many times what comes down, is an upload.
    upload_ratio: f64,
}

#[derive(Debug, Default)]
struct Facts {
    /// Repositories that layers were sent to.
    uploaded: BTreeSet<Arc<str>>,
    /// Images named, as `repository:tag`.
    named: BTreeSet<Arc<str>>,
    deleted: BTreeSet<Arc<str>>,
    /// Repositories that belonged to somebody else, with whom.
    taken_over: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Who asked for one of the images named since.
    asked_for: BTreeSet<IpAddr>,
    /// Registries uploaded to over encrypted connections.
    encrypted: BTreeSet<Arc<str>>,
    bytes: u64,
}

/// What an encrypted connection to a registry has carried.
#[derive(Debug)]
struct Encrypted {
    name: Arc<str>,
    up: u64,
    down: u64,
}

struct RegistryPush {
    thresholds: Thresholds,
    alert_bits: f64,
    visits: Visits<Facts>,
    /// Who pushed to a repository of a registry first. Registries that mirror one another have the same repositories.
    owners: Bounded<(Party, Arc<str>), Party>,
    /// Who named an image and was told of.
    implants: Bounded<Arc<str>, SourceKey>,
    encrypted: Bounded<FlowId, Encrypted>,
}

/// Who pushes, or keeps what is pushed: a workload, or an address where that is not known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Party {
    Workload(WorkloadId),
    Source(SourceKey),
}

impl Party {
    fn of(end: &Endpoint) -> Self {
        match &end.who.identity.workload {
            Some(workload) => Self::Workload(workload.clone()),
            None => Self::Source(source_key(end)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Workload(workload) => workload.to_string(),
            Self::Source(SourceKey(ip, _)) => ip.to_string(),
        }
    }
}

impl RegistryPush {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            visits: Visits::new(thresholds.max_sources),
            owners: Bounded::new(share.part(MAX_OWNED)),
            implants: Bounded::new(share.part(MAX_IMPLANTS)),
            encrypted: Bounded::new(share.part(MAX_ENCRYPTED)),
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
        if matches!(call.kind, OciKind::CheckManifest | OciKind::GetManifest) {
            self.asked_for(flow, call, time, out);
        }
        if !context.is_pod(&flow.orig) {
            return;
        }
        let words = &self.thresholds.builder_words;
        let Some(visit) = self.visits.call(flow, time, None, words, context) else {
            return;
        };
        let facts = &mut visit.facts;
        if call.kind.deletes() {
            note(&mut facts.deleted, call.repository.into());
        } else if call.kind.pushes() {
            note(&mut facts.uploaded, call.repository.into());
            let owner = Party::of(&flow.orig);
            let place = (Party::of(&flow.resp), Arc::from(call.repository));
            match self.owners.get(&place) {
                Some(first) if *first != owner && facts.taken_over.len() < MAX_IMAGES => {
                    let theirs = (call.repository.into(), first.text().into());
                    facts.taken_over.insert(theirs);
                }
                Some(_) => {}
                None => {
                    self.owners.put(place, owner);
                }
            }
            if call.kind == OciKind::PutManifest
                && let Some(tag) = call.reference
            {
                let image: Arc<str> = image(call.repository, tag);
                note(&mut facts.named, Arc::clone(&image));
                report(visit, self.alert_bits, out);
                if visit.reported > 0 {
                    self.implants.put(image, source_key(&flow.orig));
                }
                return;
            }
        } else {
            return;
        }
        report(visit, self.alert_bits, out);
    }

    /// Somebody asks for an image: if one who was told of gave it its name, he is about to be run.
    fn asked_for(
        &mut self,
        flow: &Arc<FlowInfo>,
        call: &OciCall<'_>,
        time: Timestamp,
        out: &mut Findings,
    ) {
        let Some(tag) = call.reference.filter(|_| !self.implants.is_empty()) else {
            return;
        };
        let pusher = self.implants.peek(&image(call.repository, tag)).cloned();
        let another = pusher.filter(|pusher| *pusher != source_key(&flow.orig));
        let Some(visit) = another.and_then(|pusher| self.visits.latest(&pusher)) else {
            return;
        };
        let asked_for = &mut visit.facts.asked_for;
        if asked_for.len() < MAX_ASKED && asked_for.insert(flow.orig.ip) {
            visit.last = visit.last.max(time);
            out.push(finding(visit, evidence(visit)));
        }
    }

    /// An encrypted connection to a registry carried more.
    fn carried(
        &mut self,
        flow: &Arc<FlowInfo>,
        direction: Direction,
        bytes: u64,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some(connection) = self.encrypted.get_mut(&flow.id) else {
            return;
        };
        match direction {
            Direction::Orig => connection.up += bytes,
            Direction::Resp => connection.down += bytes,
        }
        let (up, down) = (connection.up, connection.down);
        if up < self.thresholds.upload_bytes
            || (up as f64) < self.thresholds.upload_ratio * down as f64
        {
            return;
        }
        let name = Arc::clone(&connection.name);
        let words = &self.thresholds.builder_words;
        if let Some(visit) = self.visits.call(flow, time, Some(&name), words, context) {
            note(&mut visit.facts.encrypted, name);
            visit.facts.bytes = visit.facts.bytes.max(up);
            report(visit, self.alert_bits, out);
        }
    }
}

fn image(repository: &str, tag: &str) -> Arc<str> {
    format!("{repository}:{tag}").into()
}

fn note(names: &mut BTreeSet<Arc<str>>, name: Arc<str>) {
    if names.len() < MAX_IMAGES {
        names.insert(name);
    }
}

fn evidence(visit: &Visit<Facts>) -> Vec<Evidence> {
    let facts = &visit.facts;
    let mut evidence = vec![visit.surprise()];
    let mut add = |family, feature, observed: usize, bits, text| {
        if observed > 0 {
            evidence.push(Evidence {
                feature,
                family,
                observed: observed as f64,
                expected: "0, but for builders".into(),
                bits,
                signature_grade: false,
                text,
            });
        }
    };
    add(
        Family::Protocol,
        "registry.uploaded",
        facts.uploaded.len(),
        BITS_UPLOAD,
        format!("sent layers of {}", listing(&facts.uploaded)),
    );
    add(
        Family::Protocol,
        "registry.named",
        facts.named.len(),
        BITS_NAMED,
        format!("pushed {}", listing(&facts.named)),
    );
    add(
        Family::Protocol,
        "registry.deleted",
        facts.deleted.len(),
        BITS_DELETED,
        format!("deleted from {}", listing(&facts.deleted)),
    );
    add(
        Family::Protocol,
        "registry.encrypted_upload",
        facts.encrypted.len(),
        BITS_ENCRYPTED,
        format!(
            "uploaded {} bytes to {}",
            facts.bytes,
            listing(&facts.encrypted)
        ),
    );
    let asked: Vec<String> = facts.asked_for.iter().map(IpAddr::to_string).collect();
    add(
        Family::Outcome,
        "registry.asked_for_since",
        facts.asked_for.len(),
        BITS_ASKED_FOR,
        format!("it was asked for since by {}", asked.join(", ")),
    );
    let others = facts.taken_over.iter().next();
    add(
        Family::Outcome,
        "registry.taken_over",
        facts.taken_over.len(),
        BITS_TAKEN_OVER,
        others.map_or_else(String::new, |(repository, owner)| {
            format!("{repository} is {owner}'s, who pushed to it before")
        }),
    );
    evidence
}

fn listing(names: &BTreeSet<Arc<str>>) -> String {
    let first: Vec<&str> = names.iter().take(3).map(|name| &**name).collect();
    let more = names.len() - first.len();
    if more > 0 {
        format!("{} and {more} more", first.join(", "))
    } else {
        first.join(", ")
    }
}

fn total(evidence: &[Evidence]) -> f64 {
    [Family::Novelty, Family::Protocol, Family::Outcome]
        .into_iter()
        .map(|family| {
            evidence
                .iter()
                .filter(|one| one.family == family)
                .map(|one| one.bits)
                .fold(0.0, f64::max)
        })
        .sum()
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
    let did = if !facts.named.is_empty() {
        format!("pushed {}", listing(&facts.named))
    } else if !facts.deleted.is_empty() {
        format!("deleted from {}", listing(&facts.deleted))
    } else if !facts.uploaded.is_empty() {
        format!("sent layers of {}", listing(&facts.uploaded))
    } else {
        format!(
            "uploaded {} bytes to {}",
            facts.bytes,
            listing(&facts.encrypted)
        )
    };
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
        summary: match facts.asked_for.len() {
            0 => format!("changed an image registry: {did}"),
            n => format!("changed an image registry: {did}; {n} have asked for it since"),
        },
    }
}

impl Detector for RegistryPush {
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
                let asked = hello.sni.as_ref();
                let by_name = asked.filter(|name| is_registry(name)).cloned();
                let is_pod = context.is_pod(&flow.orig);
                if let Some(name) = by_name.or_else(|| registry_inside(flow, asked))
                    && is_pod
                {
                    let connection = Encrypted {
                        name,
                        up: 0,
                        down: 0,
                    };
                    self.encrypted.put(flow.id, connection);
                }
            }
            EventKind::Turn { flow, turn } if self.encrypted.contains(&flow.id) => {
                let (direction, bytes) = (turn.direction, turn.bytes);
                self.carried(flow, direction, bytes, event.time, context, out);
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
    use super::super::testing::{Bench, end, pod};
    use super::*;
    use crate::dissect::{HttpRequest, TlsClientHello};
    use crate::flow::{Protocol, Turn};
    use crate::identity::IdentityKind;

    fn call(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), method: &str, path: &str) {
        let flow = bench.open(secs, ends, Protocol::Tcp, 5000);
        let request = HttpRequest {
            method: method.into(),
            path: path.into(),
            ..HttpRequest::default()
        };
        bench.says(secs, &flow, Transaction::HttpRequest(request));
    }

    fn push(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), image: (&str, &str)) {
        let (repository, tag) = image;
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        call(bench, secs, ends, "POST", &uploads);
        call(bench, secs + 0.1, ends, "PUT", &format!("{uploads}7c1e"));
        let manifest = format!("/v2/{repository}/manifests/{tag}");
        call(bench, secs + 0.2, ends, "PUT", &manifest);
    }

    fn asked(bench: &mut Bench, client: &Endpoint, times: u32) {
        let store = pod("10.244.1.3", "db");
        for n in 0..times {
            bench.asks(f64::from(n) * 0.2, (client, &store), 5432);
        }
    }

    #[test]
    fn a_web_server_pushes_what_the_pipeline_owns() {
        let (ci, web, registry) = (
            pod("10.244.1.8", "ci-runner"),
            pod("10.244.1.7", "web"),
            pod("10.244.1.9", "registry"),
        );
        let mut bench = Bench::new("registry-push");
        push(&mut bench, 1.0, (&ci, &registry), ("prod/api", "v1"));
        asked(&mut bench, &web, 40);
        assert!(bench.findings.is_empty());
        push(&mut bench, 60.0, (&web, &registry), ("prod/api", "v1"));
        let finding = bench.finish(70.0).last().unwrap();
        assert_eq!(finding.actor.ip, web.ip);
        assert!(finding.summary.contains("prod/api:v1"));
        let mut features = finding.evidence.iter().map(|one| one.feature);
        assert!(features.any(|feature| feature == "registry.taken_over"));
        assert!(bench.alerts());
    }

    #[test]
    fn who_asks_for_the_image_afterwards_is_told() {
        let (web, registry) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "registry"));
        let node = end("10.244.1.1", IdentityKind::Node, None);
        let mut bench = Bench::new("registry-push");
        asked(&mut bench, &web, 40);
        push(&mut bench, 60.0, (&web, &registry), ("prod/api", "v1"));
        let path = |tag: &str| format!("/v2/prod/api/manifests/{tag}");
        // He himself, and another image, don't count.
        call(&mut bench, 61.0, (&web, &registry), "HEAD", &path("v1"));
        call(&mut bench, 62.0, (&node, &registry), "HEAD", &path("v0"));
        assert!(!bench.findings.last().unwrap().summary.contains("since"));
        call(&mut bench, 63.0, (&node, &registry), "HEAD", &path("v1"));
        let finding = bench.finish(70.0).last().unwrap();
        assert!(finding.summary.ends_with("1 have asked for it since"));
        assert!(
            finding
                .evidence
                .iter()
                .any(|one| one.text.contains("10.244.1.1"))
        );
    }

    #[test]
    fn an_encrypted_upload() {
        for (server, asked, alerts) in [
            ("registry", Some("registry.example.com"), true),
            // By its address, which TLS gives no name to.
            ("docker-registry", None, true),
            ("schema-registry", None, false),
        ] {
            let (web, registry) = (pod("10.244.1.7", "web"), pod("10.244.1.9", server));
            let mut bench = Bench::new("registry-push");
            super::tests::asked(&mut bench, &web, 40);
            let flow = bench.open(60.0, (&web, &registry), Protocol::Tcp, 443);
            let hello = TlsClientHello {
                sni: asked.map(Into::into),
                ..TlsClientHello::default()
            };
            bench.says(60.0, &flow, Transaction::TlsClient(hello));
            for n in 0..4 {
                let time = Timestamp::from_secs(61 + n);
                let turn = Turn {
                    direction: Direction::Orig,
                    start: time,
                    end: time,
                    packets: 30,
                    bytes: 40_000,
                    smallest: 1000,
                    largest: 1400,
                };
                let flow = Arc::clone(&flow);
                bench.event(61.0 + n as f64, EventKind::Turn { flow, turn });
            }
            assert_eq!(bench.alerts(), alerts, "{server}: {} bits", bench.bits());
        }
    }

    #[test]
    fn builders_push_and_pullers_do_not() {
        let (kaniko, registry) = (pod("10.244.1.8", "kaniko"), pod("10.244.1.9", "registry"));
        let mut bench = Bench::new("registry-push");
        for n in 0..20 {
            let tag = format!("v{n}");
            let at = f64::from(n) * 300.0;
            push(&mut bench, at, (&kaniko, &registry), ("prod/api", &tag));
        }
        // What is mirrored to another registry has the same name there, whoever brings it.
        let (mirror, other) = (
            pod("10.244.1.10", "registry-sync"),
            pod("10.244.1.11", "registry-dr"),
        );
        for n in 0..20 {
            let at = 30.0 + f64::from(n) * 300.0;
            push(&mut bench, at, (&mirror, &other), ("prod/api", "v1"));
        }
        assert!(!bench.alerts(), "{} bits", bench.bits());

        let web = pod("10.244.1.7", "web");
        asked(&mut bench, &web, 40);
        call(
            &mut bench,
            60.0,
            (&web, &registry),
            "GET",
            "/v2/prod/api/manifests/v1",
        );
        assert!(bench.findings.is_empty());
    }
}
