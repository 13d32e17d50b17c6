//! What all inputs said, until everything is there to draw conclusions: whose workload, which node's gateway, who was
//! gone when another list was made. The order of inputs doesn't matter, for everything here is a set or joins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::snapshot::{Snapshot, Snapshots, Watch};
use crate::address::{NetworkId, canonical};
use crate::identity::claim::{Claim, Standing, Tenure};
use crate::identity::declared::Declared;
use crate::identity::networks::{AddressClass, Look, Networks};
use crate::identity::prefixes::Prefixes;
use crate::identity::workload::{Controller, Lineage, PodFacts, revision, workload};
use crate::identity::{Identity, IdentityKind, Source, WorkloadId};
use crate::time::Timestamp;

/// How far before its newest entry a list is taken to speak: on a quiet cluster nothing may have started for a while.
const LIST_REACH: Duration = Duration::from_mins(10);

/// After a node's heartbeat the next one comes within this.
const HEARTBEAT: Duration = Duration::from_mins(6);
/// Files of watch events whose spans are kept.
const MAX_WATCHES: usize = 1024;

/// What a source says of a pod (or container), apart from its addresses. Of two descriptions the greater is the fuller.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Facts {
    /// Whether the source would have told of a controller, had there been one.
    pub(super) owners_told: bool,
    pub(super) controller: Option<Controller>,
    /// Kind and name, where the source has workloads of its own sort.
    pub(super) workload: Option<Controller>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) namespace: Option<Arc<str>>,
    /// None for a lease, which has an id alone.
    pub(super) name: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) image: Option<Arc<str>>,
}

/// What a source says of a pod (or container).
#[derive(Clone, Debug)]
pub(super) struct PodRecord {
    pub(super) source: Source,
    pub(super) uid: Option<Arc<str>>,
    pub(super) sandbox: Option<Arc<str>>,
    pub(super) facts: Facts,
    /// When the facts were seen.
    pub(super) seen: Option<Timestamp>,
    /// Its addresses, and when it had them.
    pub(super) stays: BTreeMap<IpAddr, Tenure>,
}

impl PodRecord {
    fn join(&mut self, other: Self) {
        for (ip, tenure) in other.stays {
            let known = self.stays.entry(ip).or_insert(tenure);
            *known = known.join(tenure);
        }
        self.sandbox = self.sandbox.take().max(other.sandbox);
        if (other.seen, &other.facts) > (self.seen, &self.facts) {
            (self.seen, self.facts) = (other.seen, other.facts);
        }
    }
}

/// How much an input gave.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    /// Addresses said to be somebody's.
    pub(super) bindings: usize,
    /// Nodes, ranges, owners, names: what helps to understand bindings from elsewhere.
    pub(super) hints: usize,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) tally: Tally,
    /// Whether the inputs are the sources themselves, not copies.
    pub(super) live: bool,
    /// Kinds of objects that tell nothing about addresses, counted.
    pub(super) ignored: BTreeMap<String, u64>,
    /// Ports and policies.
    pub(super) declared: Declared,
    texts: HashSet<Arc<str>>,
    pods: HashMap<(Source, Arc<str>), PodRecord>,
    /// Pods without any id.
    loose: Vec<PodRecord>,
    claims: Vec<Claim>,
    lineage: Lineage,
    snapshots: Snapshots,
    watches: Vec<Watch>,
    networks: Networks,
    node_ranges: BTreeSet<(IpNetwork, Arc<str>)>,
    nodes: BTreeSet<Arc<str>>,
    gateways: BTreeMap<IpAddr, IpNetwork>,
}

impl Collector {
    /// The text, shared with all equal ones: namespaces, nodes and label keys come in thousands.
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    /// The same, or none when it is empty.
    pub(super) fn some_text(&mut self, text: &str) -> Option<Arc<str>> {
        (!text.is_empty()).then(|| self.text(text))
    }

    /// A map of labels.
    pub(super) fn labels(
        &mut self,
        labels: BTreeMap<String, String>,
    ) -> BTreeMap<Arc<str>, Arc<str>> {
        labels
            .into_iter()
            .map(|(key, value)| (self.text(&key), self.text(&value)))
            .collect()
    }

    /// Adds what a source says of a pod.
    pub(super) fn add_pod(&mut self, record: PodRecord) {
        self.tally.bindings += record.stays.len();
        // A runtime's list of sandboxes has names for the addresses of others; a pod that waits has nothing yet.
        let names_others = record.stays.is_empty() && record.source == Source::Cri;
        self.tally.hints += usize::from(names_others);
        if let Some(node) = &record.facts.node {
            self.lineage.nodes.insert(node.clone());
        }
        let Some(id) = record.uid.clone().or_else(|| record.sandbox.clone()) else {
            self.loose.push(record);
            return;
        };
        match self.pods.entry((record.source, id)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut().join(record),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(record);
            }
        }
    }

    /// Adds a claim that needs no conclusions.
    pub(super) fn add_claim(&mut self, claim: Claim) {
        self.tally.bindings += 1;
        self.claims.push(claim);
    }

    /// Adds an address of a node.
    pub(super) fn add_node(&mut self, ip: IpAddr, name: Option<Arc<str>>, source: Source) {
        self.tally.hints += 1;
        if let Some(name) = &name {
            self.lineage.nodes.insert(name.clone());
        }
        self.networks.add_node(ip, name, source);
    }

    /// Notes a `Node` object.
    pub(super) fn note_node(&mut self, name: Arc<str>) {
        self.tally.hints += 1;
        self.nodes.insert(name);
    }

    /// Adds the range of a node's pods.
    pub(super) fn add_node_range(&mut self, range: IpNetwork, node: Arc<str>) {
        self.tally.hints += 1;
        self.node_ranges.insert((range, node));
    }

    /// Adds a bridge's own address and the range behind it.
    pub(super) fn add_gateway(&mut self, ip: IpAddr, range: IpNetwork) {
        let known = self.gateways.entry(canonical(ip)).or_insert(range);
        *known = range.min(*known);
    }

    /// Adds who controls a controller, or that nobody does.
    pub(super) fn add_parent(
        &mut self,
        namespace: Arc<str>,
        child: Controller,
        parent: Option<Controller>,
    ) {
        self.tally.hints += 1;
        let known = self.lineage.parents.entry((namespace, child)).or_default();
        *known = known.take().max(parent);
    }

    /// Notes that a pod was seen at a revision.
    pub(super) fn note_version(&mut self, uid: Arc<str>, version: u64) {
        self.snapshots.note_version(uid, version);
    }

    /// Adds what a list covers.
    pub(super) fn add_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshots.add(snapshot);
    }

    /// Adds how long pods were watched.
    pub(super) fn add_watch(&mut self, watch: Watch) {
        if self.watches.len() < MAX_WATCHES {
            self.watches.push(watch);
        }
    }

    /// What is known of networks, to add to.
    pub(super) const fn networks(&mut self) -> &mut Networks {
        self.tally.hints += 1;
        &mut self.networks
    }

    /// Draws the conclusions.
    pub(super) fn finish(mut self, cluster_cidrs: &[IpNetwork]) -> (Networks, Vec<Claim>) {
        self.networks_from_facts(cluster_cidrs);
        self.name_sandboxes();
        self.snapshots.date();
        // Backends of services may be on nodes' addresses: what no pod object vouches for must look like a pod.
        let pods_known = !self.networks.pod_cidrs().is_empty();
        let mut claims = std::mem::take(&mut self.claims);
        let pods: Vec<_> = std::mem::take(&mut self.pods).into_values().collect();
        for mut record in pods.into_iter().chain(std::mem::take(&mut self.loose)) {
            self.weigh_absence(&mut record);
            if record.source == Source::Kubernetes && !record.facts.owners_told && pods_known {
                let networks = &self.networks;
                record
                    .stays
                    .retain(|&ip, _| networks.classify(ip) == AddressClass::PodRange);
            }
            self.claim(record, &mut claims);
        }
        // A node's address is the node's, whichever pods and services share it.
        claims.retain(|claim| self.networks.node(claim.ip).is_none());
        (self.networks, claims)
    }

    fn networks_from_facts(&mut self, cluster_cidrs: &[IpNetwork]) {
        for (range, node) in std::mem::take(&mut self.node_ranges) {
            for snapshot in self
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.is_cluster_wide())
            {
                if let Some(latest) = snapshot.latest.filter(|_| snapshot.nodes.contains(&node)) {
                    self.networks.add_complete(range, latest.before(LIST_REACH));
                }
            }
            self.networks.add_node_range(range, node);
        }
        let of_all_nodes = |snapshot: &&Snapshot| {
            let every = !self.nodes.is_empty()
                && self
                    .nodes
                    .is_subset(&snapshot.nodes.iter().cloned().collect());
            snapshot.is_cluster_wide() && (every || snapshot.nodes.len() >= 2)
        };
        let whole = self
            .snapshots
            .iter()
            .filter(of_all_nodes)
            .filter_map(|list| list.latest)
            .min();
        let services = self.snapshots.iter().filter(|list| list.has_api_service);
        let services = services.filter_map(|list| list.latest).min();
        let service_cidrs = self.networks.service_cidrs();
        let known = [(whole, cluster_cidrs), (services, &*service_cidrs)];
        for (since, ranges) in known {
            for &range in ranges {
                if let Some(since) = since {
                    self.networks.add_complete(range, since.before(LIST_REACH));
                }
            }
        }
        self.add_looks();
        self.name_gateways();
    }

    /// When lists and watches of the cluster's pods looked at the ranges in which they have a pod.
    fn add_looks(&mut self) {
        let complete = self.networks.complete_ranges();
        let leased = |range: &IpNetwork| complete.contains(&(*range, Timestamp::MIN));
        let ranges: Vec<(IpNetwork, bool)> = complete
            .iter()
            .map(|(range, _)| range)
            .chain(self.networks.node_ranges().iter().map(|(range, _)| range))
            .map(|range| (*range, leased(range)))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|(range, _)| self.lists_pods_in(*range))
            .collect();
        let whole = self
            .watches
            .iter()
            .filter(|watch| watch.is_whole(&self.snapshots))
            .map(|watch| (watch.from, watch.to, true));
        let lists = self
            .snapshots
            .iter()
            .filter(|list| list.is_cluster_wide())
            .filter_map(|list| list.heartbeat)
            .map(|beat| (beat, beat.after(HEARTBEAT), false));
        for (from, to, follows) in whole.chain(lists) {
            for &(range, leases) in &ranges {
                self.networks.add_look(Look {
                    range,
                    from,
                    to,
                    follows,
                    leases,
                });
            }
        }
    }

    fn lists_pods_in(&self, range: IpNetwork) -> bool {
        self.pods.values().any(|record| {
            record.source >= Source::Kubernetes && record.stays.keys().any(|&ip| range.contains(ip))
        })
    }

    /// A bridge belongs to the node on which the pods behind it run.
    fn name_gateways(&mut self) {
        let mut behind: Prefixes<BTreeSet<Arc<str>>> = Prefixes::default();
        for &range in self.gateways.values() {
            behind.insert(range, BTreeSet::new());
        }
        self.pods.values().for_each(|record| {
            for &ip in record.stays.keys() {
                if let (Some(node), Some(nodes)) = (&record.facts.node, behind.narrowest_mut(ip)) {
                    nodes.insert(node.clone());
                }
            }
        });
        for (ip, range) in std::mem::take(&mut self.gateways) {
            let nodes = behind.get(range).filter(|nodes| nodes.len() == 1);
            let name = nodes.and_then(|nodes| nodes.first().cloned());
            self.networks.add_node(ip, name, Source::CniCache);
        }
    }

    /// A container runtime's list of sandboxes has names and labels, but no addresses; leases have the addresses.
    fn name_sandboxes(&mut self) {
        let mut addresses: HashMap<Arc<str>, BTreeMap<IpAddr, Tenure>> = HashMap::new();
        let with_both = self
            .pods
            .values()
            .filter(|record| record.source != Source::Cri);
        with_both.for_each(|record| {
            if let Some(sandbox) = &record.sandbox {
                let known = addresses.entry(sandbox.clone()).or_default();
                known.extend(record.stays.keys().map(|&ip| (ip, Tenure::untimed())));
            }
        });
        let nameless = self
            .pods
            .values_mut()
            .filter(|record| record.source == Source::Cri && record.stays.is_empty());
        nameless.for_each(|record| {
            let stays = record
                .sandbox
                .as_ref()
                .and_then(|sandbox| addresses.get(sandbox));
            record.stays = stays.cloned().unwrap_or_default();
        });
    }

    /// A pod that some list lacks can't be said to be there still.
    fn weigh_absence(&self, record: &mut PodRecord) {
        if record.source != Source::Kubernetes {
            return;
        }
        if let (Some(uid), Some(namespace)) = (&record.uid, &record.facts.namespace)
            && self
                .snapshots
                .lack(uid, namespace, record.facts.node.as_deref())
        {
            record
                .stays
                .values_mut()
                .for_each(|tenure| tenure.standing = Standing::Leaving);
        }
    }

    fn claim(&self, record: PodRecord, claims: &mut Vec<Claim>) {
        let PodRecord {
            source,
            uid,
            sandbox,
            facts,
            stays,
            ..
        } = record;
        let identity = Arc::new(Identity {
            kind: IdentityKind::Pod,
            workload: self.workload(&facts),
            revision: revision(&facts.labels, facts.image.as_ref()),
            namespace: facts.namespace,
            name: facts.name,
            uid: uid.clone().or_else(|| sandbox.clone()),
            labels: facts.labels,
            node: facts.node,
        });
        claims.extend(stays.into_iter().map(|(ip, tenure)| Claim {
            network: NetworkId::default(),
            ip,
            source,
            uid: uid.clone(),
            sandbox: sandbox.clone(),
            tenure,
            identity: identity.clone(),
        }));
    }

    fn workload(&self, facts: &Facts) -> Option<WorkloadId> {
        let namespace = facts.namespace.clone();
        if let Some(Controller { kind, name }) = facts.workload.clone() {
            return Some(WorkloadId {
                namespace: namespace.unwrap_or_default(),
                kind,
                name,
            });
        }
        let pod = PodFacts {
            namespace: &namespace?,
            name: facts.name.as_ref()?,
            controller: facts.controller.as_ref(),
            labels: &facts.labels,
            owners_told: facts.owners_told,
        };
        Some(workload(pod, &self.lineage))
    }
}
