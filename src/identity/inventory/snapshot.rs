//! What lists of pods say by leaving pods out: one that an equally wide list lacks has gone, or wasn't there yet.
//!
//! A list bears no time of its own, and which of two was made first can't be told for sure. Either way the pod's end is
//! unknown, and that is all that's concluded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::time::Timestamp;

/// Lists beyond this many are not compared; then nobody counts as still there.
const LIMIT: usize = 4096;

/// What one list covers.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) namespaces: HashSet<Arc<str>>,
    pub(super) nodes: HashSet<Arc<str>>,
    pub(super) pods: HashSet<Arc<str>>,
    /// The newest moment that the list mentions: it is no older.
    pub(super) latest: Option<Timestamp>,
    /// Whether it has the `kubernetes` service, without which no list of services is whole.
    pub(super) has_api_service: bool,
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
    /// In how many lists a pod is.
    seen: HashMap<Arc<str>, usize>,
    /// How many lists cover a namespace and node.
    covering: HashMap<(Arc<str>, Option<Arc<str>>), usize>,
    too_many: bool,
}

impl Snapshots {
    /// Adds a list.
    pub(super) fn add(&mut self, mut snapshot: Snapshot) {
        for uid in std::mem::take(&mut snapshot.pods)
            .into_iter()
            .collect::<Vec<_>>()
        {
            *self.seen.entry(uid).or_default() += 1;
        }
        if self.all.len() < LIMIT {
            self.all.push(snapshot);
        } else {
            self.too_many = true;
        }
    }

    /// Whether some list lacks the pod although it would have it.
    pub(super) fn lack(
        &mut self,
        uid: &str,
        namespace: &Arc<str>,
        node: Option<&Arc<str>>,
    ) -> bool {
        let seen = self.seen.get(uid).copied().unwrap_or(0);
        let key = (namespace.clone(), node.cloned());
        let covering = *self.covering.entry(key).or_insert_with(|| {
            let node = node.map(|node| &**node);
            self.all
                .iter()
                .filter(|snapshot| snapshot.covers(namespace, node))
                .count()
        });
        self.too_many || covering > seen
    }

    /// The lists.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.all.iter()
    }
}
