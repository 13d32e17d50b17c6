//! From a pod to the workload behind it: owner references, else labels, else the name alone.
//!
//! The result stays the same over rollouts, rescheduling and scaling, for a baseline belongs to it: template hashes,
//! ordinals, run times and random suffixes go.

mod name;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::WorkloadId;

/// A controlling owner: kind and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Controller {
    pub(super) kind: Arc<str>,
    pub(super) name: Arc<str>,
}

/// What the whole inventory knows that helps to name a workload.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// Who controls a controller, by namespace: the `Deployment` of a `ReplicaSet`, the `CronJob` of a `Job`. `None`
    /// where the object is known and nobody controls it.
    pub(super) parents: HashMap<(Arc<str>, Controller), Option<Controller>>,
    /// Names of nodes, which end the names of static pods.
    pub(super) nodes: HashSet<Arc<str>>,
}

/// What a pod says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodFacts<'a> {
    pub(super) namespace: &'a Arc<str>,
    pub(super) name: &'a Arc<str>,
    /// Its controller, where the source has owner references.
    pub(super) controller: Option<&'a Controller>,
    pub(super) labels: &'a BTreeMap<Arc<str>, Arc<str>>,
    /// Whether the source would have told of a controller, had there been one.
    pub(super) owners_told: bool,
}

/// The labels that carry a template hash, with the kind of workload that sets them.
const HASH_LABELS: [(&str, &str); 2] = [
    ("pod-template-hash", "Deployment"),
    ("rollouts-pod-template-hash", "Rollout"),
];

/// The workload of a pod.
pub(super) fn workload(pod: PodFacts<'_>, lineage: &Lineage) -> WorkloadId {
    let (kind, name) = pod
        .controller
        .map(|controller| from_controller(pod, controller, lineage))
        .or_else(|| from_labels(pod))
        .unwrap_or_else(|| {
            if pod.owners_told {
                ("Pod".into(), pod.name.clone())
            } else {
                let (kind, base) = name::from_name(pod.name, lineage);
                (kind.into(), base.into())
            }
        });
    WorkloadId {
        namespace: pod.namespace.clone(),
        kind,
        name,
    }
}

/// Up the chain of controllers, by objects where they are known, else by what the names must have been made of.
fn from_controller(
    pod: PodFacts<'_>,
    controller: &Controller,
    lineage: &Lineage,
) -> (Arc<str>, Arc<str>) {
    let as_is = || (controller.kind.clone(), controller.name.clone());
    let parent = lineage
        .parents
        .get(&(pod.namespace.clone(), controller.clone()));
    match (&*controller.kind, parent) {
        (_, Some(Some(parent))) => (parent.kind.clone(), parent.name.clone()),
        ("ReplicaSet", None) => {
            let by_label = HASH_LABELS.iter().find_map(|(label, kind)| {
                let base = controller
                    .name
                    .strip_suffix(&**pod.labels.get(*label)?)?
                    .strip_suffix('-')?;
                Some((*kind, base))
            });
            by_label
                .or_else(|| Some(("Deployment", name::strip_hash(&controller.name)?)))
                .map_or_else(as_is, |(kind, base)| (kind.into(), base.into()))
        }
        ("Job", None) => name::strip_run_time(&controller.name)
            .map_or_else(as_is, |base| ("CronJob".into(), base.into())),
        ("ReplicationController", None) => pod
            .labels
            .get("deploymentconfig")
            .map_or_else(as_is, |name| ("DeploymentConfig".into(), name.clone())),
        ("Node", None) => {
            let base = pod
                .name
                .strip_suffix(&*controller.name)
                .and_then(|base| base.strip_suffix('-'));
            (
                "StaticPod".into(),
                base.map_or_else(|| pod.name.clone(), Into::into),
            )
        }
        _ => as_is(),
    }
}

/// By the labels that controllers set (all of them reach the container runtime too).
fn from_labels(pod: PodFacts<'_>) -> Option<(Arc<str>, Arc<str>)> {
    let label = |key: &str| pod.labels.get(key);
    for (key, kind) in HASH_LABELS {
        if let Some(base) = label(key).and_then(|hash| name::strip_known_hash(pod.name, hash)) {
            return Some((kind.into(), base.into()));
        }
    }
    if let Some(job) = label("batch.kubernetes.io/job-name").or_else(|| label("job-name")) {
        return Some(match name::strip_run_time(job) {
            Some(base) => ("CronJob".into(), base.into()),
            None => ("Job".into(), job.clone()),
        });
    }
    let of_set = label("statefulset.kubernetes.io/pod-name") == Some(pod.name)
        || label("apps.kubernetes.io/pod-index").is_some();
    if of_set && let Some(base) = name::strip_ordinal(pod.name) {
        return Some(("StatefulSet".into(), base.into()));
    }
    label("controller-revision-hash")?;
    Some((
        "DaemonSet".into(),
        name::strip_suffix_or_cut(pod.name)?.into(),
    ))
}

/// What marks a release: the template hash, the controller's revision, else the image.
pub(super) fn revision(
    labels: &BTreeMap<Arc<str>, Arc<str>>,
    image: Option<&Arc<str>>,
) -> Option<Arc<str>> {
    let mut hashes = HASH_LABELS
        .iter()
        .map(|(label, _)| *label)
        .chain(["controller-revision-hash"]);
    hashes
        .find_map(|label| labels.get(label))
        .or(image)
        .cloned()
}

#[cfg(test)]
mod tests;
