//! What lists of pods say by leaving pods out: one that an equally wide list lacks has gone, or wasn't there yet.
//!
//! A list bears no time of its own. But each object bears the revision of the cluster's store at which it last changed,
//! and revisions are common to the whole cluster: a list is no older than the newest revision in it, and older than the
//! next change of anything in it. Where that doesn't tell two lists' order, the end of a pod in one of them is unknown.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Timestamp;

/// Lists beyond this many are not compared; then no pod counts as still there.
const LIMIT: usize = 64;

/// What one list covers.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) namespaces: HashSet<Arc<str>>,
    pub(super) nodes: HashSet<Arc<str>>,
    /// The pods by uid, with the revision at which each last changed (zero where that isn't said).
    pub(super) pods: HashMap<Arc<str>, u64>,
    /// The newest moment that the list mentions: it is no older.
    pub(super) latest: Option<Timestamp>,
    /// The newest heartbeat of a node in it. Nodes report at least every five minutes.
    pub(super) heartbeat: Option<Timestamp>,
    /// Whether it has the `kubernetes` service, without which no list of services is whole.
    pub(super) has_api_service: bool,
    /// The first revision that it is too old to know, as far as other inputs tell.
    before: Option<u64>,
    /// The newest revision in it.
    newest: u64,
}

/// How long one file of watch events goes on.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Namespaces of the pods that were there when it began: it lists them first.
    listed: HashSet<Arc<str>>,
}

/// Within this a watch has listed whom it found.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

impl Watch {
    pub(super) fn since(at: Timestamp) -> Self {
        Self {
            from: at,
            to: at,
            listed: HashSet::new(),
        }
    }

    /// Takes an event of a pod.
    pub(super) fn note(&mut self, at: Timestamp, namespace: Arc<str>, added: bool) {
        self.to = self.to.max(at);
        if added && at <= self.from.after(LISTED_WITHIN) && self.listed.len() < 2 {
            self.listed.insert(namespace);
        }
    }

    /// Whether it began with the pods of all namespaces, or some list of them was made before.
    pub(super) fn is_whole(&self, lists: &Snapshots) -> bool {
        let before = |list: &Snapshot| list.latest.is_some_and(|latest| latest <= self.from);
        self.listed.len() >= 2
            || lists
                .iter()
                .any(|list| list.is_cluster_wide() && before(list))
    }
}

impl Snapshot {
    /// Whether it is of all namespaces: a list of one namespace names one.
    pub(super) fn is_cluster_wide(&self) -> bool {
        self.namespaces.len() >= 2
    }

    /// Whether it would have a pod of that namespace and node.
    fn covers(&self, namespace: &str, node: Option<&str>) -> bool {
        (self.is_cluster_wide() || self.namespaces.contains(namespace))
            && node.is_none_or(|node| self.nodes.contains(node))
    }
}

/// All lists.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    all: Vec<Snapshot>,
    /// The revisions at which each pod is known to have changed.
    versions: HashMap<Arc<str>, BTreeSet<u64>>,
    too_many: bool,
}

impl Snapshots {
    /// Adds a list.
    pub(super) fn add(&mut self, snapshot: Snapshot) {
        if self.all.len() >= LIMIT {
            self.too_many = true;
            return;
        }
        snapshot.pods.iter().for_each(|(uid, &version)| {
            self.note_version(uid.clone(), version);
        });
        self.all.push(snapshot);
    }

    /// Notes that a pod changed at a revision.
    pub(super) fn note_version(&mut self, uid: Arc<str>, version: u64) {
        self.versions.entry(uid).or_default().insert(version);
    }

    /// Dates the lists by one another, once all are there.
    pub(super) fn date(&mut self) {
        for snapshot in &mut self.all {
            let pods = snapshot.pods.iter().filter(|&(_, &version)| version > 0);
            let next = pods.filter_map(|(uid, &version)| {
                self.versions
                    .get(uid)?
                    .range(version.saturating_add(1)..)
                    .next()
                    .copied()
            });
            snapshot.before = next.min();
            snapshot.newest = snapshot.pods.values().copied().max().unwrap_or(0);
        }
    }

    /// Whether some list lacks the pod although it would have it, were the pod still there.
    pub(super) fn lack(&self, uid: &str, namespace: &str, node: Option<&str>) -> bool {
        let with_it = self.all.iter().filter(|list| list.pods.contains_key(uid));
        let newest = with_it.map(|list| list.newest).max().unwrap_or(0);
        let older = |list: &Snapshot| list.before.is_some_and(|before| before <= newest);
        self.too_many
            || self.all.iter().any(|list| {
                list.covers(namespace, node) && !list.pods.contains_key(uid) && !older(list)
            })
    }

    /// The lists.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.all.iter()
    }
}
