//! The few fields of Kubernetes objects that tell who held an address, for all kinds in one shape.
//!
//! Environment variables, volumes and the rest are passed over as they stream by and never kept: they may hold secrets.

use std::collections::BTreeMap;

use super::lenient::{Lenient, records};
use crate::time::Timestamp;

records! {
    /// What a stream is made of: a list, a single object, or a watch event.
    pub(super) Document {
        api_version: String,
        kind: String,
        metadata: Metadata,
        spec: Spec,
        status: Status,
        endpoints: Vec<Endpoint>,
        subsets: Vec<Subset>,
        items: Vec<Object>,
        /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR` (or something else's type).
        #[serde(rename = "type")]
        event: String,
        object: Option<Box<Object>>,
        /// When a wrapper saw the event; Kubernetes itself doesn't say.
        observed_at: Option<Timestamp>,
    }

    /// One object of any kind. Objects inside a `PodList` bear no kind of their own.
    pub(super) Object {
        api_version: String,
        kind: String,
        metadata: Metadata,
        spec: Spec,
        status: Status,
        /// Of an `EndpointSlice`.
        endpoints: Vec<Endpoint>,
        /// Of an `Endpoints`.
        subsets: Vec<Subset>,
        /// Of a `Status`, which takes an object's place where a watch fails.
        code: u64,
        message: String,
    }

    /// What every object has.
    pub(super) Metadata {
        name: String,
        namespace: String,
        uid: String,
        resource_version: String,
        /// Of a list that goes on: what to ask for the rest with.
        #[serde(rename = "continue")]
        rest: String,
        labels: BTreeMap<String, String>,
        annotations: Annotations,
        owner_references: Vec<OwnerReference>,
        creation_timestamp: Option<Timestamp>,
        /// When a pod that is asked to go must have gone: in the future.
        deletion_timestamp: Option<Timestamp>,
    }

    /// The one annotation that matters.
    pub(super) Annotations {
        /// On the mirror of a static pod: the uid by which the node knows the pod.
        #[serde(rename = "kubernetes.io/config.mirror")]
        mirror: String,
    }

    /// Who an object belongs to.
    pub(super) OwnerReference {
        kind: String,
        name: String,
        controller: bool,
    }

    /// What was asked for.
    pub(super) Spec {
        node_name: String,
        host_network: bool,
        containers: Vec<ContainerSpec>,
        init_containers: Vec<ContainerSpec>,
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        /// Of a `NetworkPolicy`, as all that follows.
        pod_selector: Option<Box<LabelSelector>>,
        policy_types: Vec<String>,
        ingress: Vec<PolicyRule>,
        egress: Vec<PolicyRule>,
    }

    /// What a policy allows.
    pub(super) PolicyRule {
        from: Vec<PolicyPeer>,
        to: Vec<PolicyPeer>,
        ports: Vec<PolicyPortSpec>,
    }

    /// Whom a policy's rule means.
    pub(super) PolicyPeer {
        pod_selector: Option<Box<LabelSelector>>,
        namespace_selector: Option<Box<LabelSelector>>,
        ip_block: Option<Box<IpBlock>>,
    }

    /// A range of addresses in a policy.
    pub(super) IpBlock {
        cidr: String,
        except: Vec<String>,
    }

    /// A port in a policy.
    pub(super) PolicyPortSpec {
        protocol: String,
        port: NumberOrName,
        end_port: u64,
    }

    /// Which labels are meant.
    pub(super) LabelSelector {
        match_labels: BTreeMap<String, String>,
        match_expressions: Vec<LabelExpression>,
    }

    /// One condition on labels.
    pub(super) LabelExpression {
        key: String,
        operator: String,
        values: Vec<String>,
    }

    /// A container, without its environment.
    pub(super) ContainerSpec {
        image: String,
        ports: Vec<ContainerPort>,
    }

    /// Where a container says that it listens.
    pub(super) ContainerPort {
        name: String,
        #[serde(rename = "containerPort")]
        number: u64,
        protocol: String,
    }

    /// What is.
    pub(super) Status {
        phase: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<Address>,
        #[serde(rename = "hostIP")]
        host_ip: String,
        #[serde(rename = "hostIPs")]
        host_ips: Vec<Address>,
        start_time: Option<Timestamp>,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
        /// Of a `Node`.
        addresses: Vec<NodeAddress>,
        load_balancer: LoadBalancer,
    }

    /// An address in a list of such.
    pub(super) Address {
        ip: String,
        node_name: String,
        target_ref: TargetRef,
    }

    /// One of a node's addresses.
    pub(super) NodeAddress {
        address: String,
    }

    /// A condition of a pod.
    pub(super) Condition {
        #[serde(rename = "type")]
        name: String,
        status: String,
        last_transition_time: Option<Timestamp>,
        /// Of a `Node`.
        last_heartbeat_time: Option<Timestamp>,
    }

    /// How a container fares.
    pub(super) ContainerStatus {
        restart_count: u64,
        state: ContainerState,
        last_state: ContainerState,
    }

    /// One of its lives.
    pub(super) ContainerState {
        running: Span,
        terminated: Span,
    }

    /// When that was.
    pub(super) Span {
        started_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
    }

    /// The addresses at which the world reaches a service.
    pub(super) LoadBalancer {
        ingress: Vec<Address>,
    }

    /// One backend in an `EndpointSlice`.
    pub(super) Endpoint {
        addresses: Vec<String>,
        node_name: String,
        target_ref: TargetRef,
    }

    /// Several backends in an `Endpoints`.
    pub(super) Subset {
        addresses: Vec<Address>,
        not_ready_addresses: Vec<Address>,
    }

    /// The pod behind a backend.
    pub(super) TargetRef {
        kind: String,
        name: String,
        namespace: String,
        uid: String,
    }
}

/// A port's number or name; empty where neither is given.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct NumberOrName(pub(super) String);

impl Lenient<'_> for NumberOrName {
    fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn from_number(value: f64) -> Self {
        Self(value.to_string())
    }
}
