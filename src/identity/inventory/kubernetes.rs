//! What the Kubernetes API says: lists of any kinds, single objects, watch events, one after the other in one file.
//!
//! Objects are read as they stream by, into the few fields that matter. A kind that tells nothing about addresses is
//! counted and passed over.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::collector::{Collector, Facts, PodRecord};
use super::lenient::{Lenient, non_empty};
use super::objects::{Address, Document, Metadata, Object, OwnerReference, TargetRef};
use super::pod;
use super::policy;
use super::snapshot::{Snapshot, Watch};
use super::stream::{Ending, for_each_value};
use crate::address::{NetworkId, canonical};
use crate::identity::claim::{Claim, Standing, Tenure};
use crate::identity::workload::Controller;
use crate::identity::{Identity, IdentityKind, Source, WorkloadId};
use crate::time::Timestamp;

/// Documents, or an array of them (`jq .items`).
#[derive(Default)]
struct Documents(Vec<Document>);

impl<'de> Lenient<'de> for Documents {
    fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self(vec![Document::from_map(map)?]))
    }

    fn from_seq<A: serde::de::SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        Ok(Self(Vec::from_seq(seq)?))
    }
}

/// When and how an object was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) source: Source,
    /// Of a watch event that of the event, of a list the newest moment it mentions.
    pub(super) at: Option<Timestamp>,
    /// Whether the object is gone.
    pub(super) deleted: bool,
}

impl Sighting {
    /// When an object was there that began at `start`, if that is known.
    pub(super) fn tenure(self, start: Option<Timestamp>) -> Tenure {
        Tenure {
            start,
            settled: None,
            last_seen: self.at.filter(|_| !self.deleted),
            end: self.at.filter(|_| self.deleted),
            standing: if self.deleted {
                Standing::Leaving
            } else {
                Standing::Current
            },
        }
    }
}

/// Reads a whole stream.
pub(super) fn read(
    input: impl Read,
    collector: &mut Collector,
) -> Result<Ending, serde_json::Error> {
    let mut reader = Reader {
        collector,
        addresses: HashMap::new(),
        watch: None,
    };
    let ending = for_each_value(input, |Documents(documents)| reader.documents(documents));
    if let Some(watch) = reader.watch {
        reader.collector.add_watch(watch);
    }
    ending
}

/// Takes objects as they are at the moment, each with when it was last heard of.
pub(super) fn current<'o>(
    objects: impl Iterator<Item = (&'o Object, Timestamp)>,
    collector: &mut Collector,
) {
    let mut reader = Reader {
        collector,
        addresses: HashMap::new(),
        watch: None,
    };
    for (object, at) in objects {
        let sighting = Sighting {
            source: Source::Watch,
            at: Some(at),
            deleted: false,
        };
        reader.object(object.clone(), sighting);
    }
}

struct Reader<'a> {
    collector: &'a mut Collector,
    /// The addresses that the watched pods had last: a new sandbox has new ones.
    addresses: HashMap<Arc<str>, Vec<IpAddr>>,
    /// How long pods were watched.
    watch: Option<Watch>,
}

impl Reader<'_> {
    fn documents(&mut self, documents: Vec<Document>) {
        // Bare objects in an array are a list that lost its head.
        let mut bare = Vec::new();
        for document in documents {
            if let Some(object) = document.object {
                self.event(&document.event, *object, document.observed_at);
            } else if document.kind.ends_with("List") || !document.items.is_empty() {
                self.list(&document.kind, document.items);
            } else {
                let Document {
                    api_version,
                    kind,
                    metadata,
                    spec,
                    status,
                    endpoints,
                    subsets,
                    ..
                } = document;
                bare.push(Object {
                    api_version,
                    kind,
                    metadata,
                    spec,
                    status,
                    endpoints,
                    subsets,
                    ..Object::default()
                });
            }
        }
        let latest = bare.iter().filter_map(pod::latest).max();
        for object in bare {
            self.object(
                object,
                Sighting {
                    source: Source::Kubernetes,
                    at: latest,
                    deleted: false,
                },
            );
        }
    }

    fn event(&mut self, event: &str, object: Object, at: Option<Timestamp>) {
        let deleted = match event {
            "ADDED" | "MODIFIED" => false,
            "DELETED" => true,
            _ => {
                self.ignore(format!("{} event", non_empty(event).unwrap_or("nameless")));
                return;
            }
        };
        if let Some(at) = at.filter(|_| object.kind == "Pod") {
            let namespace = self.collector.text(&object.metadata.namespace);
            let watch = self.watch.get_or_insert_with(|| Watch::since(at));
            watch.note(at, namespace, event == "ADDED");
        }
        self.object(
            object,
            Sighting {
                source: Source::Watch,
                at,
                deleted,
            },
        );
    }

    fn list(&mut self, kind: &str, items: Vec<Object>) {
        let item_kind = kind.strip_suffix("List").unwrap_or("");
        let mut snapshot = Snapshot::default();
        snapshot.latest = items.iter().filter_map(pod::latest).max();
        let sighting = Sighting {
            source: Source::Kubernetes,
            at: snapshot.latest,
            deleted: false,
        };
        for mut object in items {
            if object.kind.is_empty() {
                object.kind = item_kind.into();
            }
            self.cover(&mut snapshot, &object);
            self.object(object, sighting);
        }
        self.collector.add_snapshot(snapshot);
    }

    fn cover(&mut self, snapshot: &mut Snapshot, object: &Object) {
        let meta = &object.metadata;
        match &*object.kind {
            "Pod" => {
                snapshot
                    .namespaces
                    .insert(self.collector.text(&meta.namespace));
                let uid = self.collector.text(pod::uid(meta));
                snapshot.pods.insert(uid, version(meta));
                snapshot
                    .nodes
                    .extend(self.collector.some_text(&object.spec.node_name));
            }
            "Node" => {
                let conditions = &object.status.conditions;
                let heartbeats = conditions.iter().filter_map(|one| one.last_heartbeat_time);
                snapshot.heartbeat = heartbeats.chain(snapshot.heartbeat).max();
            }
            "Service" => {
                snapshot.has_api_service |=
                    meta.namespace == "default" && meta.name == "kubernetes";
            }
            _ => {}
        }
    }

    fn object(&mut self, object: Object, sighting: Sighting) {
        match &*object.kind {
            "Pod" => self.pod(object, sighting),
            "Service" => self.service(object, sighting),
            "Node" => self.node(&object),
            "EndpointSlice" => self.endpoint_slice(object, sighting),
            "Endpoints" => self.endpoints(object, sighting),
            "NetworkPolicy" if policy::is_own(&object) => self.policy(object, sighting),
            "NetworkPolicy"
            | "GlobalNetworkPolicy"
            | "CiliumNetworkPolicy"
            | "CiliumClusterwideNetworkPolicy"
            | "AdminNetworkPolicy"
            | "BaselineAdminNetworkPolicy" => {
                self.collector.declared.add_foreign_policy();
                self.ignore(object.kind);
            }
            "Namespace" => self.namespace(object),
            "ReplicaSet" | "Job" | "ReplicationController" => self.controller(&object),
            "" => self.ignore("object without a kind".into()),
            _ => self.ignore(object.kind),
        }
    }

    fn policy(&mut self, object: Object, sighting: Sighting) {
        let namespace = self.collector.text(&object.metadata.namespace);
        self.collector.tally.hints += 1;
        let declared = &mut self.collector.declared;
        if sighting.deleted {
            declared.remove_policy(&namespace, &object.metadata.name);
        } else {
            declared.add_policy(namespace, policy::policy(object));
        }
    }

    fn namespace(&mut self, object: Object) {
        let name = self.collector.text(&object.metadata.name);
        self.collector.tally.hints += 1;
        let declared = &mut self.collector.declared;
        declared.add_namespace(name, object.metadata.labels);
    }

    fn ignore(&mut self, kind: String) {
        // As many as there are kinds in a cluster; more would be a joke at our expense.
        let ignored = &mut self.collector.ignored;
        if ignored.len() < 1000 || ignored.contains_key(&kind) {
            *ignored.entry(kind).or_default() += 1;
        }
    }

    fn pod(&mut self, object: Object, sighting: Sighting) {
        let Object {
            metadata,
            spec,
            status,
            ..
        } = object;
        let node = self.collector.some_text(&spec.node_name);
        let hosts =
            || std::iter::once(&status.host_ip).chain(status.host_ips.iter().map(|host| &host.ip));
        for host in hosts().filter_map(|ip| address(ip)) {
            self.collector.add_node(host, node.clone(), sighting.source);
        }
        let own = std::iter::once(&status.pod_ip).chain(status.pod_ips.iter().map(|pod| &pod.ip));
        let own: Vec<_> = own.filter_map(|ip| address(ip)).collect();
        // The address of a hostNetwork pod is the node's, and stays so when the pod goes.
        if spec.host_network
            || hosts()
                .filter_map(|ip| address(ip))
                .any(|host| own.contains(&host))
        {
            for ip in own {
                self.collector.add_node(ip, node.clone(), sighting.source);
            }
            return;
        }

        let uid = self.collector.some_text(pod::uid(&metadata));
        if let Some(uid) = uid.clone().filter(|_| sighting.source == Source::Watch) {
            self.collector.note_version(uid, version(&metadata));
        }
        let tenure = pod::tenure(&metadata, &status, sighting);
        let mut stays: BTreeMap<_, _> = own.iter().map(|&ip| (ip, tenure)).collect();
        if let Some(uid) = uid
            .clone()
            .filter(|_| sighting.source == Source::Watch && !own.is_empty())
        {
            let before = self.addresses.insert(uid, own).unwrap_or_default();
            for ip in before {
                stays.entry(ip).or_insert(
                    Sighting {
                        deleted: true,
                        ..sighting
                    }
                    .tenure(None),
                );
            }
        }
        if let Some(uid) = uid.as_ref().filter(|_| sighting.deleted) {
            self.addresses.remove(uid);
        }
        if let (Some(namespace), Some(name)) = (
            self.collector.some_text(&metadata.namespace),
            self.collector.some_text(&metadata.name),
        ) {
            // Sidecars are init containers that stay.
            let containers = spec.containers.iter().chain(&spec.init_containers);
            let ports = policy::ports(containers);
            self.collector.declared.add_ports(namespace, name, ports);
        }
        let image = spec
            .containers
            .first()
            .and_then(|container| non_empty(&container.image));
        let facts = Facts {
            owners_told: true,
            controller: self.owner(&metadata.owner_references),
            workload: None,
            namespace: self.collector.some_text(&metadata.namespace),
            name: self.collector.some_text(&metadata.name),
            node,
            image: image.map(|image| self.collector.text(image)),
            labels: self.collector.labels(metadata.labels),
        };
        self.collector.add_pod(PodRecord {
            source: sighting.source,
            uid,
            sandbox: None,
            facts,
            seen: sighting.at,
            stays,
        });
    }

    fn owner(&mut self, owners: &[OwnerReference]) -> Option<Controller> {
        let controls = |owner: &&OwnerReference| owner.controller && !owner.name.is_empty();
        let owner = owners.iter().find(controls).or(match owners {
            [only] if !only.name.is_empty() => Some(only),
            _ => None,
        })?;
        Some(self.reference(&owner.kind, &owner.name))
    }

    fn reference(&mut self, kind: &str, name: &str) -> Controller {
        Controller {
            kind: self.collector.text(kind),
            name: self.collector.text(name),
        }
    }

    fn controller(&mut self, object: &Object) {
        let child = self.reference(&object.kind, &object.metadata.name);
        let parent = self.owner(&object.metadata.owner_references);
        let namespace = self.collector.text(&object.metadata.namespace);
        self.collector.add_parent(namespace, child, parent);
    }

    fn service(&mut self, object: Object, sighting: Sighting) {
        let Object {
            metadata,
            spec,
            status,
            ..
        } = object;
        let tenure = sighting.tenure(metadata.creation_timestamp);
        let namespace = self.collector.some_text(&metadata.namespace);
        let name = self.collector.some_text(&metadata.name);
        let uid = self.collector.some_text(&metadata.uid);
        let workload = name.clone().map(|name| WorkloadId {
            namespace: namespace.clone().unwrap_or_default(),
            kind: self.collector.text("Service"),
            name,
        });
        let identity = Arc::new(Identity {
            kind: IdentityKind::Service,
            namespace,
            name,
            uid: uid.clone(),
            workload,
            labels: self.collector.labels(metadata.labels),
            revision: None,
            node: None,
        });
        let virtual_ips = std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips);
        let mut stays: BTreeMap<_, _> = virtual_ips
            .filter_map(|ip| Some((address(ip)?, tenure)))
            .collect();
        // Services may share an outer address, which the younger doesn't take from the elder.
        let ingress = status
            .load_balancer
            .ingress
            .iter()
            .map(|ingress| &ingress.ip);
        for ip in spec
            .external_ips
            .iter()
            .chain(ingress)
            .filter_map(|ip| address(ip))
        {
            stays.entry(ip).or_insert(Tenure {
                start: None,
                ..tenure
            });
        }
        for (ip, tenure) in stays {
            self.collector.add_claim(Claim {
                network: NetworkId::default(),
                ip,
                source: sighting.source,
                uid: uid.clone(),
                sandbox: None,
                tenure,
                identity: identity.clone(),
            });
        }
    }

    fn node(&mut self, object: &Object) {
        let Some(name) = self.collector.some_text(&object.metadata.name) else {
            return;
        };
        self.collector.note_node(name.clone());
        for ip in object
            .status
            .addresses
            .iter()
            .filter_map(|entry| address(&entry.address))
        {
            self.collector
                .add_node(ip, Some(name.clone()), Source::Kubernetes);
        }
        let ranges = std::iter::once(&object.spec.pod_cidr).chain(&object.spec.pod_cidrs);
        for range in ranges.filter_map(|range| range.parse::<IpNetwork>().ok()) {
            self.collector.add_node_range(range, name.clone());
        }
    }

    fn endpoint_slice(&mut self, object: Object, sighting: Sighting) {
        for endpoint in object.endpoints {
            let ips = endpoint.addresses.iter().filter_map(|ip| address(ip));
            self.backend(
                ips,
                &endpoint.target_ref,
                &endpoint.node_name,
                &object.metadata,
                sighting,
            );
        }
    }

    fn endpoints(&mut self, object: Object, sighting: Sighting) {
        let addresses = |subset: super::objects::Subset| {
            subset
                .addresses
                .into_iter()
                .chain(subset.not_ready_addresses)
        };
        for Address {
            ip,
            node_name,
            target_ref,
        } in object.subsets.into_iter().flat_map(addresses)
        {
            self.backend(
                address(&ip),
                &target_ref,
                &node_name,
                &object.metadata,
                sighting,
            );
        }
    }

    /// A backend names the pod behind it, and tells nothing of when.
    fn backend(
        &mut self,
        ips: impl IntoIterator<Item = IpAddr>,
        target: &TargetRef,
        node: &str,
        owner: &Metadata,
        sighting: Sighting,
    ) {
        if target.kind != "Pod" || target.name.is_empty() || sighting.deleted {
            return;
        }
        let untimed = Tenure {
            standing: Standing::Silent,
            ..Tenure::default()
        };
        let namespace = non_empty(&target.namespace).unwrap_or(&owner.namespace);
        let facts = Facts {
            namespace: self.collector.some_text(namespace),
            name: self.collector.some_text(&target.name),
            node: self.collector.some_text(node),
            ..Facts::default()
        };
        let record = PodRecord {
            source: Source::Kubernetes,
            uid: self.collector.some_text(&target.uid),
            sandbox: None,
            facts,
            seen: None,
            stays: ips.into_iter().map(|ip| (ip, untimed)).collect(),
        };
        self.collector.add_pod(record);
    }
}

/// The revision of the cluster's store at which an object last changed. Zero where it isn't said.
fn version(metadata: &Metadata) -> u64 {
    metadata.resource_version.parse().unwrap_or(0)
}

/// An address in canonical form; none of "None" and the empty string, which headless services and waiting pods have.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(canonical)
}
