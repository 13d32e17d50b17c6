//! Who held an address at a time: pods, services, nodes, and the workload behind each.
//!
//! Sources (a `kubectl` list, watch events, a copied CNI directory, CSV, …) each claim that somebody held an address
//! over an interval. The [`Journal`] keeps the claims and answers for a moment. It knows nothing of flows.
//!
//! [`load_inventory`] reads the sources; [`Claim`] is what one of them says; the journal lays the claims of an address
//! out on a timeline; [`Networks`] answers for addresses that nobody claims.

mod claim;
mod declared;
mod follow;
mod holder;
mod inventory;
mod journal;
mod networks;
mod prefixes;
mod timeline;
mod wire;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use claim::{Claim, Standing, Tenure};
pub use declared::{
    Declared, DeclaredPort, Operator, Party, Peer, Policy, PolicyPort, Rule, Selector,
};
pub use follow::LiveInventory;
pub use inventory::{
    Apis, Cluster, FileReport, InventoryError, InventoryErrors, InventoryOptions, InventoryReport,
    Kind, Listed, Listing, Malformed, Sandboxes, Told, Unreadable, load_inventory,
};
pub use journal::{Allocation, Journal, JournalConfig, Overlooked};
pub use networks::{AddressClass, Look, Networks};
pub(crate) use wire::IdentityV1;

/// The thing that stays when pods come and go: what a baseline belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkloadId {
    /// Namespace; empty outside Kubernetes.
    pub namespace: Arc<str>,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, `Pod`, …; `Owner` when only a name is known.
    pub kind: Arc<str>,
    /// Name without any generated suffix.
    pub name: Arc<str>,
}

impl WorkloadId {
    /// What stands for all nodes where something is known of them: which registries they pull from.
    pub fn nodes() -> Self {
        Self {
            namespace: "".into(),
            kind: "Node".into(),
            name: "nodes".into(),
        }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// What kind of thing an address was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IdentityKind {
    /// A pod (or container).
    Pod,
    /// A service address.
    Service,
    /// A node, a bridge gateway, or whatever shares the node's address (hostNetwork pods).
    Node,
    /// An address outside the cluster.
    External,
    /// A private address that no source knows.
    Unknown,
}

impl IdentityKind {
    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Node => "node",
            Self::External => "external",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of one holder of an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Pod, service, node, …
    pub kind: IdentityKind,
    /// Namespace of the pod or service.
    pub namespace: Option<Arc<str>>,
    /// Name of the pod, service or node.
    pub name: Option<Arc<str>>,
    /// Kubernetes uid, or the sandbox id where that is all there is.
    pub uid: Option<Arc<str>>,
    /// The workload, where it is known or follows from the name rules.
    pub workload: Option<WorkloadId>,
    /// Labels, as the source gave them.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What marks a release of the workload: template hash, controller revision or image.
    pub revision: Option<Arc<str>>,
    /// The node it ran on.
    pub node: Option<Arc<str>>,
}

impl Identity {
    /// An identity of which only the kind is known.
    pub const fn bare(kind: IdentityKind) -> Self {
        Self {
            kind,
            namespace: None,
            name: None,
            uid: None,
            workload: None,
            labels: BTreeMap::new(),
            revision: None,
            node: None,
        }
    }
}

/// How sure an attribution is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Confidence {
    /// One holder at that time, by a source that knows when.
    Exact,
    /// One holder, but by a source without times, or just outside the known interval.
    Time,
    /// Several holders claim it: none is named.
    Ambiguous,
    /// A node's address.
    Node,
    /// A private address that nobody claims.
    UnknownPrivate,
    /// A public address.
    External,
}

impl Confidence {
    /// Every one, the surest first.
    pub const ALL: [Self; 6] = [
        Self::Exact,
        Self::Time,
        Self::Ambiguous,
        Self::Node,
        Self::UnknownPrivate,
        Self::External,
    ];

    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Time => "time",
            Self::Ambiguous => "ambiguous",
            Self::Node => "node",
            Self::UnknownPrivate => "unknown-private",
            Self::External => "external",
        }
    }
}

/// Who told us; better-trusted sources compare greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// Nobody: the address alone.
    None,
    /// A CIDR that a CNI configuration or the command line names.
    Cidr,
    /// A bare host-local lease: somebody holds it, but who is unsaid.
    HostLocal,
    /// A CSV file written by hand.
    Csv,
    /// `docker network inspect` and the like.
    Docker,
    /// The libcni result cache.
    CniCache,
    /// The container runtime.
    Cri,
    /// A Kubernetes list.
    Kubernetes,
    /// Kubernetes watch events, which have times.
    Watch,
}

impl Source {
    /// Every source, the least trusted first.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Cidr,
        Self::HostLocal,
        Self::Csv,
        Self::Docker,
        Self::CniCache,
        Self::Cri,
        Self::Kubernetes,
        Self::Watch,
    ];

    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cidr => "cidr",
            Self::HostLocal => "host-local",
            Self::Csv => "csv",
            Self::Docker => "docker",
            Self::CniCache => "cni-cache",
            Self::Cri => "cri",
            Self::Kubernetes => "kubernetes",
            Self::Watch => "kubernetes-watch",
        }
    }
}

/// The answer to "who held this address then?".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribution {
    /// The holder.
    pub identity: Arc<Identity>,
    /// How sure that is.
    pub confidence: Confidence,
    /// Who said so.
    pub source: Source,
}
