//! `registry-pull`: a pod reads from an image registry.
//!
//! Nodes pull images, over their own addresses; a pod that asks a registry which images there are, or fetches one, builds,
//! deploys or inspects images, or takes what it can carry. What it asks for is told in clear inside the cluster (the OCI
//! distribution specification), and by the registry's name where it is encrypted; how odd that is for this pod follows from
//! what else it asks for.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::registries::{Visit, Visits, registry_inside};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
};
use crate::dissect::{OciCall, OciKind, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, Vocabulary, is_public_registry, is_registry, source_key};
use crate::flow::{Direction, FlowId};
use crate::identity::{IdentityKind, WorkloadId};
use crate::memory::Share;
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
            signature.share,
        )))
    },
};

/// Repositories told apart per visit.
const MAX_REPOSITORIES: usize = 64;
/// Registries remembered that were new to the nodes.
const MAX_STRANGE: usize = 1024;
const HTTPS: u16 = 443;
/// Encrypted connections to registries followed at a time.
const MAX_ENCRYPTED: usize = 4096;

// Priors: −log2 of the share of workloads in an ordinary cluster that do it (builders, deployers, scanners, registries'
// own tools).
const BITS_PULL: f64 = 6.0;
const MAX_BREADTH: f64 = 2.0;
const BITS_OUTSIDE: f64 = 6.0;
const BITS_CATALOGUE: f64 = 8.0;
const BITS_TAGS: f64 = 3.0;
/// Repositories that must be looked for images: whoever pushes looks into its own first.
const FEWEST_CHECKED: usize = 3;
const BITS_ODD_NAME: f64 = 10.0;
/// That a registry which is new to the nodes isn't one of the public ones: of those that a cluster comes to use, one in sixteen.
const BITS_NOT_PUBLIC: f64 = 4.0;
/// More surprise of the nodes' baseline than this says no more.
const MOST_BITS_STRANGE: f64 = 10.0;
const BITS_CLEAR_OUTSIDE: f64 = 6.0;

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
    /// Repositories that were asked whether they have an image.
    checked: BTreeSet<Arc<str>>,
    pulled: BTreeSet<Arc<str>>,
    odd: Option<Arc<str>>,
    outside: BTreeSet<Arc<str>>,
    /// Registries that no node used in the baseline, as a node called them, with how odd that is.
    strange: BTreeSet<Arc<str>>,
    strangeness: f64,
    /// How many registries the nodes used.
    known: usize,
    /// Whether one of them is outside and was called in clear.
    clear: bool,
    /// Registries inside that sent layers over encrypted connections.
    inside: BTreeSet<Arc<str>>,
    bytes: u64,
}

struct RegistryPull {
    thresholds: Thresholds,
    alert_bits: f64,
    visits: Visits<Facts>,
    /// Encrypted connections to registries, by flow, with the registry's name.
    encrypted: Bounded<FlowId, Arc<str>>,
    /// The same to registries inside.
    inside: Bounded<FlowId, Arc<str>>,
    /// Registries that were new to the nodes, and told.
    strange: Bounded<Arc<str>, ()>,
}

impl RegistryPull {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            visits: Visits::new(thresholds.max_sources),
            encrypted: Bounded::new(share.part(MAX_ENCRYPTED)),
            inside: Bounded::new(share.part(MAX_ENCRYPTED)),
            strange: Bounded::new(share.part(MAX_STRANGE)),
            thresholds,
            alert_bits,
        }
    }

    fn clear(
        &mut self,
        flow: &Arc<FlowInfo>,
        (call, host): (&OciCall<'_>, Option<&Arc<str>>),
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if !may_be_odd(flow, context) {
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
            OciKind::CheckManifest => note(&mut facts.checked, call.repository),
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
        if let Some(host) = host.filter(|_| call.kind.pulls()) {
            self.named(flow, host, context);
        }
        if let Some(visit) = self.visits.latest(&source_key(&flow.orig)) {
            report(visit, self.alert_bits, out);
        }
    }

    /// Looks at a registry that is called by its name: a node's call of one that none called in the baseline is odd. Public ones
    /// are everybody's; and when one node was told of, the others pull the same.
    fn named(&mut self, flow: &FlowInfo, name: &Arc<str>, context: &Context<'_>) {
        let node = flow.orig.who.identity.kind == IdentityKind::Node;
        let nodes = context
            .baseline
            .filter(|_| node && !is_public_registry(name))
            .and_then(|baseline| baseline.profile(&WorkloadId::nodes()));
        let Some(nodes) = nodes else { return };
        if nodes.knows_word(Vocabulary::Registry, Role::Client, name) || self.strange.contains(name)
        {
            return;
        }
        let Some(visit) = self.visits.latest(&source_key(&flow.orig)) else {
            return;
        };
        self.strange.put(Arc::clone(name), ());
        let bits = nodes.word_bits(Vocabulary::Registry, Role::Client);
        let facts = &mut visit.facts;
        facts.strangeness = bits.min(MOST_BITS_STRANGE) + BITS_NOT_PUBLIC;
        facts.known = nodes.word_counts(Vocabulary::Registry, Role::Client).0;
        facts.clear |=
            flow.resp.who.identity.kind == IdentityKind::External && flow.resp_port != HTTPS;
        note(&mut facts.strange, name);
    }

    fn hello(
        &mut self,
        flow: &Arc<FlowInfo>,
        asked: Option<&Arc<str>>,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if let Some(name) = registry_inside(flow, asked).filter(|_| may_be_odd(flow, context)) {
            self.inside.put(flow.id, name);
        }
        let Some(name) = asked else { return };
        let outside = flow.resp.who.identity.kind == IdentityKind::External;
        if !outside || !is_registry(name) || !may_be_odd(flow, context) {
            return;
        }
        let words = &self.thresholds.builder_words;
        if let Some(visit) = self.visits.call(flow, time, Some(name), words, context) {
            note(&mut visit.facts.outside, name);
            self.encrypted.put(flow.id, Arc::clone(name));
            self.named(flow, name, context);
        }
        if let Some(visit) = self.visits.latest(&source_key(&flow.orig)) {
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
fn may_be_odd(flow: &FlowInfo, context: &Context<'_>) -> bool {
    context.is_pod(&flow.orig) || flow.orig.who.identity.kind == IdentityKind::Node
}

fn note(names: &mut BTreeSet<Arc<str>>, name: &str) {
    if names.len() < MAX_REPOSITORIES && !names.contains(name) {
        names.insert(name.into());
    }
}

fn is_node(visit: &Visit<Facts>) -> bool {
    visit.actor.who.identity.kind == IdentityKind::Node
}

/// What speaks for a visit. Nodes fetch images by right, so of them only what they fetch and from where is looked at.
fn evidence(visit: &Visit<Facts>) -> Vec<Evidence> {
    let facts = &visit.facts;
    let node = is_node(visit);
    let mut evidence = Vec::new();
    if !node {
        evidence.push(visit.surprise());
    }
    if !facts.strange.is_empty() {
        evidence.push(Evidence {
            feature: "registry.new_to_nodes",
            family: Family::Novelty,
            observed: facts.strange.len() as f64,
            expected: format!("one of {} registries that nodes use", facts.known),
            bits: facts.strangeness,
            signature_grade: false,
            text: format!(
                "no node has ever pulled from {}, and it is none of the public registries",
                listing(&facts.strange)
            ),
        });
    }
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
    if facts.clear {
        protocol(
            "registry.clear_outside",
            1,
            BITS_CLEAR_OUTSIDE,
            "it is outside, and was called without TLS or off its port".into(),
        );
    }
    if facts.catalogue > 0 {
        protocol(
            "registry.catalogue",
            facts.catalogue as usize,
            BITS_CATALOGUE,
            "asked a registry for the list of all its repositories".into(),
        );
    }
    let (listed, pulled) = (facts.listed.len(), facts.pulled.len());
    if listed > 0 && !node {
        protocol(
            "registry.tag_lists",
            listed,
            BITS_TAGS + breadth(listed),
            format!("asked for the tags of {}", listing(&facts.listed)),
        );
    }
    let checked = facts.checked.len();
    if checked >= FEWEST_CHECKED && !node {
        protocol(
            "registry.manifests_checked",
            checked,
            BITS_TAGS + breadth(checked),
            format!("looked for images of {}", listing(&facts.checked)),
        );
    }
    if pulled > 0 && !node {
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
    if !facts.outside.is_empty() && !node {
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
    if facts.checked.len() >= FEWEST_CHECKED {
        did.push(format!("looked for images of {}", listing(&facts.checked)));
    }
    if !facts.pulled.is_empty() {
        did.push(format!("fetched images of {}", listing(&facts.pulled)));
    }
    if !facts.strange.is_empty() {
        did.push(format!("no node ever used {}", listing(&facts.strange)));
    }
    if !facts.outside.is_empty() && !is_node(visit) {
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
                    let call = (&call, request.host.as_ref());
                    self.clear(flow, call, event.time, context, out);
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
