//! What the detectors of image registries share: whose calls they are, which name is a registry's, how odd it is for a pod.
//!
//! Nodes pull images, from their own addresses; a pod does it only if that is its job. So the surprise of a pod's first call
//! is how little of what it has said so far was of that kind.

use std::sync::Arc;
use std::time::Duration;

use super::newness::{BITS_BY_HAND, by_hand};
use super::{Context, Evidence, Family, StateSize, Target};
use crate::baseline::Maturity;
use crate::event::{Endpoint, FlowInfo};
use crate::features::{Bounded, Role, SourceKey, source_key};
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Calls of a source further apart than this belong to two visits.
const VISIT_GAP: Duration = Duration::from_mins(10);
/// Example flows and targets kept per visit.
const MAX_SAMPLES: usize = 8;
/// More surprise than this says no more.
const MAX_SURPRISE: f64 = 12.0;
/// What stands before `registry` in names of workloads and services that keep images; others keep schemas, models, names.
const KEEPERS: &[&str] = &[
    "container",
    "docker",
    "harbor",
    "image",
    "images",
    "internal",
    "local",
    "oci",
    "private",
];

/// A source's calls to registries, close to one another.
#[derive(Debug)]
pub(super) struct Visit<T> {
    pub(super) actor: Endpoint,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) calls: u64,
    /// What the detector counts of it.
    pub(super) facts: T,
    pub(super) targets: Vec<Target>,
    pub(super) flows: Vec<Arc<FlowInfo>>,
    /// Calls when it was last reported.
    pub(super) reported: u64,
    surprise: Evidence,
}

impl<T> Visit<T> {
    /// How odd the visit is for this source.
    pub(super) fn surprise(&self) -> Evidence {
        self.surprise.clone()
    }

    /// Whether there is news worth a further report.
    pub(super) fn is_due(&self) -> bool {
        self.reported == 0 || self.calls >= self.reported.saturating_mul(2)
    }
}

/// The visits of all sources.
#[derive(Debug)]
pub(super) struct Visits<T> {
    sources: Bounded<SourceKey, Source<T>>,
    evicted: u64,
}

#[derive(Debug)]
struct Source<T> {
    /// Calls of earlier visits.
    calls: u64,
    visit: Visit<T>,
}

impl<T: Default> Visits<T> {
    pub(super) fn new(max_sources: usize) -> Self {
        Self {
            sources: Bounded::new(max_sources),
            evicted: 0,
        }
    }

    /// A call of a flow's originator. Gives the visit it belongs to.
    pub(super) fn call(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        domain: Option<&Arc<str>>,
        builder_words: &[String],
        context: &Context<'_>,
    ) -> Option<&mut Visit<T>> {
        let key = source_key(&flow.orig);
        let earlier = self
            .sources
            .peek(&key)
            .map(|source| (source.calls, source.visit.calls, source.visit.last));
        let goes_on = earlier.is_some_and(|(_, _, last)| time <= last.after(VISIT_GAP));
        if !goes_on {
            let calls = earlier.map_or(0, |(before, latest, _)| before + latest);
            let visit = Visit {
                actor: flow.orig.clone(),
                first: time,
                last: time,
                calls: 0,
                facts: T::default(),
                targets: Vec::new(),
                flows: Vec::new(),
                reported: 0,
                surprise: surprise(flow, calls, builder_words, context),
            };
            let evicted = self.sources.push(key.clone(), Source { calls, visit });
            self.evicted += u64::from(evicted.is_some_and(|(old, _)| old != key));
        }
        let visit = &mut self.sources.get_mut(&key)?.visit;
        visit.last = visit.last.max(time);
        visit.calls += 1;
        let known = |target: &Target| {
            target.port == Some(flow.resp_port)
                && target.endpoint.as_ref().map(|end| end.ip) == Some(flow.resp.ip)
        };
        if visit.targets.len() < MAX_SAMPLES && !visit.targets.iter().any(known) {
            visit.targets.push(Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: Some("oci"),
                domain: domain.cloned(),
            });
        }
        if visit.flows.len() < MAX_SAMPLES && visit.flows.iter().all(|known| known.id != flow.id) {
            visit.flows.push(Arc::clone(flow));
        }
        Some(visit)
    }

    /// The latest visit of a source.
    pub(super) fn latest(&mut self, source: &SourceKey) -> Option<&mut Visit<T>> {
        self.sources
            .peek_mut(source)
            .map(|source| &mut source.visit)
    }

    /// Every visit that was reported, the least recent first.
    pub(super) fn reported(&self) -> impl Iterator<Item = &Visit<T>> {
        self.sources
            .iter()
            .map(|(_, source)| &source.visit)
            .filter(|visit| visit.reported > 0)
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.sources.limit(),
        }
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// How unlikely the pod's next word was a call to a registry: −log2 of the share of such calls in what it has said so far, each count
/// raised a little so that a source that has asked little is not thought incapable of it. The baseline's word is taken
/// where it has one.
fn surprise(
    flow: &FlowInfo,
    calls: u64,
    builder_words: &[String],
    context: &Context<'_>,
) -> Evidence {
    let spoken = context.habits.spoken(&flow.orig).max(calls);
    let share = (calls as f64 + 0.5) / (spoken as f64 + 1.0);
    let own = -share.min(1.0).log2();
    let profile = context.profile(&flow.orig);
    // What was watched for less than a day may not have been built in that time.
    let settled = profile.is_some_and(|profile| profile.maturity() == Maturity::Stable);
    let (bits, expected, text) = match profile {
        _ if !settled && is_builder(&flow.orig, builder_words) => (
            0.0,
            "a builder, by its name".into(),
            "the workload is named like one that builds or inspects images".into(),
        ),
        Some(_) if context.is_learned(flow) => (
            0.0,
            "known from the baseline".into(),
            "the workload's baseline knows this registry".into(),
        ),
        Some(profile) if profile.novelty_bits(Role::Client) > own => (
            profile.novelty_bits(Role::Client),
            format!("one of {} peers known", profile.peer_count(Role::Client)),
            "the workload's baseline knows no such registry".into(),
        ),
        _ if own < BITS_BY_HAND && by_hand(&flow.orig) => (
            BITS_BY_HAND,
            "a pod that a controller made".into(),
            "somebody started this pod by hand (`kubectl run`)".into(),
        ),
        _ => (
            own,
            format!("{calls} of {spoken} turns so far"),
            format!(
                "{calls} of the {spoken} turns in which this pod had spoken were calls to registries"
            ),
        ),
    };
    Evidence {
        feature: "registry.surprise",
        family: Family::Novelty,
        observed: 1.0,
        expected,
        bits: bits.min(MAX_SURPRISE),
        signature_grade: false,
        text,
    }
}

/// Whether a workload's namespace or name has one of the words by which builders, deployers and scanners of images go.
pub(super) fn is_builder(source: &Endpoint, words: &[String]) -> bool {
    let Some(workload) = &source.who.identity.workload else {
        return false;
    };
    [&workload.namespace, &workload.name]
        .into_iter()
        .flat_map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()))
        .any(|part| words.iter().any(|word| word == part))
}

/// The name of the registry inside that an encrypted connection leads to: by the name that was asked for, the service's, or
/// that of the workload that answers.
pub(super) fn registry_inside(flow: &FlowInfo, asked: Option<&Arc<str>>) -> Option<Arc<str>> {
    if flow.resp.who.identity.kind == IdentityKind::External {
        return None;
    }
    let service = flow.service.as_deref();
    let service = service.and_then(|(end, _)| end.who.identity.name.as_ref());
    let workload = flow.resp.who.identity.workload.as_ref();
    let names = [asked, service, workload.map(|workload| &workload.name)];
    names
        .into_iter()
        .flatten()
        .find(|name| keeps_images(name.split('.').next().unwrap_or_default()))
        .cloned()
}

/// Whether a workload's or service's name is that of a registry of images.
fn keeps_images(name: &str) -> bool {
    let before = name.strip_suffix("registry");
    before.is_some_and(|before| {
        let last = before
            .strip_suffix('-')
            .and_then(|before| before.rsplit('-').next());
        before.is_empty() || last.is_some_and(|last| KEEPERS.contains(&last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_keeps_images() {
        for name in [
            "registry",
            "docker-registry",
            "ci-image-registry",
            "harbor-registry",
        ] {
            assert!(keeps_images(name), "{name}");
        }
        for name in [
            "schema-registry",
            "registry-ui",
            "model-registry",
            "fooregistry",
            "",
        ] {
            assert!(!keeps_images(name), "{name}");
        }
    }
}
