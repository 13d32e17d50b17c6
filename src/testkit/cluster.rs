//! A small made-up cluster of one node: who runs in it, under which names and addresses, from when to when.
//!
//! Pods and their names follow from the cluster alone, never from a capture's seed, so that all captures of one cluster
//! share its inventory.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::names;
use super::rng::Rng;
use super::scene::BRIDGE;
use super::wire::Host;
use crate::time::Timestamp;

/// When captures begin: 2026-03-02T09:00:00Z.
pub const START: Timestamp = Timestamp::from_secs(1_772_442_000);
/// When captures to learn from begin: the same time on the day before.
pub const DAY_BEFORE: Timestamp = Timestamp::from_secs(1_772_442_000 - 86_400);
/// The node's name.
pub const NODE: &str = "worker-1";
/// The node's address.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
/// The node's address on the bridge, which pods see as their gateway and kubelet's probes come from.
pub const GATEWAY: Host = Host {
    mac: BRIDGE,
    ip: IpAddr::V4(Ipv4Addr::new(10, 244, 1, 1)),
    ttl: 64,
    distance: Duration::from_micros(25),
};
/// The resolver that the cluster's DNS forwards to.
pub const UPSTREAM_DNS: Host = Host {
    mac: BRIDGE,
    ip: IpAddr::V4(Ipv4Addr::new(172, 18, 0, 1)),
    ttl: 63,
    distance: Duration::from_millis(9),
};

/// A host beyond the node, `distance` away.
pub const fn outside(ip: Ipv4Addr, distance: Duration) -> Host {
    Host {
        mac: BRIDGE,
        ip: IpAddr::V4(ip),
        ttl: 52,
        distance,
    }
}

/// An address on the bridge.
pub const fn on_bridge(last: u8) -> Host {
    Host {
        mac: [0x0a, 0x58, 10, 244, 1, last],
        ip: IpAddr::V4(Ipv4Addr::new(10, 244, 1, last)),
        ttl: 64,
        distance: Duration::from_micros(60),
    }
}

/// What stays when pods come and go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Workload {
    /// Namespace.
    pub namespace: &'static str,
    /// `Deployment`, `StatefulSet`, `DaemonSet` or `CronJob`.
    pub kind: &'static str,
    /// Name.
    pub name: &'static str,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

/// How a pod ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It did its job; the object stays.
    Completed,
    /// The node was short of memory; the object stays.
    Evicted,
    /// It was deleted, object and all.
    Deleted,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// What it belongs to in the end.
    pub workload: Workload,
    /// What it belongs to directly, as kind and name: the ReplicaSet of a Deployment, the Job of a CronJob.
    pub owner: (&'static str, String),
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its end of the wire.
    pub host: Host,
    /// Labels beyond `app`.
    pub labels: Vec<(&'static str, String)>,
    /// TCP ports that its container declares.
    pub ports: Vec<u16>,
    /// Whether it shares the node's address.
    pub host_network: bool,
    /// When it was given its address.
    pub start: Timestamp,
    /// When and how it gave it back.
    pub end: Option<(Timestamp, Fate)>,
}

impl Pod {
    /// Whether it held its address then.
    pub fn is_alive(&self, time: Timestamp) -> bool {
        self.start <= time && self.end.is_none_or(|(end, _)| time < end)
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Namespace.
    pub namespace: &'static str,
    /// Name.
    pub name: &'static str,
    /// Its address, which no frame on the bridge shows.
    pub ip: Ipv4Addr,
    /// Its port and the pods' behind it.
    pub ports: (u16, u16),
    /// Value of the `app` label of the pods behind it.
    pub app: &'static str,
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Every pod that ever was, in order of address.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
    /// Further objects of its inventory.
    pub objects: Vec<serde_json::Value>,
}

const fn workload(namespace: &'static str, kind: &'static str, name: &'static str) -> Workload {
    Workload {
        namespace,
        kind,
        name,
    }
}

/// The shop's front.
pub const WEB: Workload = workload("shop", "Deployment", "web");
/// What the front asks.
pub const API: Workload = workload("shop", "Deployment", "api");
/// What works off orders.
pub const WORKER: Workload = workload("shop", "Deployment", "worker");
/// The database.
pub const POSTGRES: Workload = workload("shop", "StatefulSet", "postgres");
/// The cache.
pub const REDIS: Workload = workload("shop", "StatefulSet", "redis");
/// What scrapes everybody.
pub const PROMETHEUS: Workload = workload("monitoring", "StatefulSet", "prometheus");
/// The nightly copy of the database.
pub const BACKUP: Workload = workload("ops", "CronJob", "pg-backup");
/// The cluster's DNS.
pub const DNS: Workload = workload("kube-system", "Deployment", "coredns");
/// What programs the node's service addresses.
pub const KUBE_PROXY: Workload = workload("kube-system", "DaemonSet", "kube-proxy");

/// When an `api` pod is evicted.
const EVICTION: Timestamp = Timestamp::from_secs(1_772_442_000 + 100);
/// When the shop was installed.
const INSTALLED: Timestamp = Timestamp::from_secs(1_772_442_000 - 4 * 86_400);

impl Default for Cluster {
    fn default() -> Self {
        let mut cluster = Self {
            pods: Vec::new(),
            services: services(),
            objects: Vec::new(),
        };
        cluster.deploy(DNS, "1", INSTALLED, &[2, 3]);
        cluster.deploy(WEB, "1", INSTALLED, &[10, 11]);
        cluster.deploy(API, "1", INSTALLED, &[12, 13]);
        cluster.end(13, EVICTION, Fate::Evicted);
        cluster.deploy(API, "1", EVICTION.after(Duration::from_secs(1)), &[17]);
        cluster.deploy(WORKER, "1", INSTALLED, &[14]);
        cluster.add_stateful(POSTGRES, INSTALLED, 20);
        cluster.add_stateful(REDIS, INSTALLED, 21);
        cluster.add_stateful(PROMETHEUS, INSTALLED, 30);
        cluster.add_job(BACKUP, DAY_BEFORE.after(Duration::from_mins(1)), 40);
        cluster.add_job(BACKUP, START.after(Duration::from_mins(1)), 41);
        cluster.add_node_daemon(KUBE_PROXY);
        cluster
    }
}

impl Cluster {
    /// The pods of a workload that hold their addresses then.
    pub fn alive(&self, workload: Workload, time: Timestamp) -> Vec<&Pod> {
        let of_it = |pod: &&Pod| pod.workload == workload && pod.is_alive(time);
        self.pods.iter().filter(of_it).collect()
    }

    /// The pod at an address on the bridge.
    ///
    /// # Panics
    /// If nobody ever had it.
    pub fn pod(&self, last: u8) -> &Pod {
        self.pods
            .iter()
            .find(|pod| pod.host == on_bridge(last))
            .expect("a pod with that address")
    }

    /// A service by name.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn service(&self, name: &str) -> &Service {
        self.services
            .iter()
            .find(|service| service.name == name)
            .expect("a service of that name")
    }

    /// Pods of one release of a Deployment.
    pub fn deploy(&mut self, workload: Workload, release: &str, start: Timestamp, lasts: &[u8]) {
        let hash = names::template_hash(&format!("{workload}:{release}"));
        let owner = format!("{}-{hash}", workload.name);
        for &last in lasts {
            let name = |rng: &mut Rng| format!("{owner}-{}", names::suffix(rng));
            let labels = vec![("pod-template-hash", hash.clone())];
            self.add(
                workload,
                ("ReplicaSet", owner.clone()),
                start,
                last,
                labels,
                name,
            );
        }
    }

    /// The first pod of a StatefulSet.
    pub fn add_stateful(&mut self, workload: Workload, start: Timestamp, last: u8) {
        let name = format!("{}-0", workload.name);
        let hash = names::template_hash(&format!("{workload}:1"));
        let labels = vec![
            ("apps.kubernetes.io/pod-index", "0".to_owned()),
            (
                "controller-revision-hash",
                format!("{}-{hash}", workload.name),
            ),
            ("statefulset.kubernetes.io/pod-name", name.clone()),
        ];
        let owner = ("StatefulSet", workload.name.to_owned());
        self.add(workload, owner, start, last, labels, |_| name.clone());
    }

    /// The pod of a CronJob's run, which takes 25 s.
    pub fn add_job(&mut self, workload: Workload, scheduled: Timestamp, last: u8) {
        let job = names::cron_job(workload.name, scheduled);
        let labels = vec![("batch.kubernetes.io/job-name", job.clone())];
        let start = scheduled.after(Duration::from_millis(1200));
        let owner = ("Job", job.clone());
        self.add(workload, owner, start, last, labels, |rng| {
            format!("{job}-{}", names::suffix(rng))
        });
        self.end(last, start.after(Duration::from_secs(25)), Fate::Completed);
    }

    fn add_node_daemon(&mut self, workload: Workload) {
        let owner = ("DaemonSet", workload.name.to_owned());
        self.add(workload, owner, INSTALLED, 0, Vec::new(), |rng| {
            format!("{}-{}", workload.name, names::suffix(rng))
        });
        if let Some(pod) = self.pods.last_mut() {
            pod.host_network = true;
            pod.host = Host {
                ip: IpAddr::V4(NODE_IP),
                ..GATEWAY
            };
        }
    }

    /// Ends the pod at an address on the bridge.
    ///
    /// # Panics
    /// If nobody ever had it.
    pub fn end(&mut self, last: u8, time: Timestamp, fate: Fate) {
        let pod = self.pods.iter_mut().find(|pod| pod.host == on_bridge(last));
        pod.expect("a pod with that address").end = Some((time, fate));
    }

    fn add(
        &mut self,
        workload: Workload,
        owner: (&'static str, String),
        start: Timestamp,
        last: u8,
        labels: Vec<(&'static str, String)>,
        name: impl Fn(&mut Rng) -> String,
    ) {
        let mut rng = Rng::derived(u64::from(last), &format!("{workload}:{}", owner.1));
        self.pods.push(Pod {
            workload,
            owner,
            name: name(&mut rng),
            uid: names::uid(&mut rng),
            host: on_bridge(last),
            labels,
            ports: Vec::new(),
            host_network: false,
            start,
            end: None,
        });
    }
}

fn services() -> Vec<Service> {
    let service = |namespace, name, [a, b]: [u8; 2], ports, app| Service {
        namespace,
        name,
        ip: Ipv4Addr::new(10, 96, a, b),
        ports,
        app,
    };
    vec![
        service("kube-system", "kube-dns", [0, 10], (53, 53), "coredns"),
        service("shop", "web", [14, 20], (80, 8080), "web"),
        service("shop", "api", [21, 7], (8080, 8080), "api"),
        service("shop", "postgres", [30, 5], (5432, 5432), "postgres"),
        service("shop", "redis", [30, 6], (6379, 6379), "redis"),
        service(
            "monitoring",
            "prometheus",
            [40, 9],
            (9090, 9090),
            "prometheus",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_uids_are_all_different() {
        let cluster = Cluster::default();
        let names: BTreeSet<_> = cluster.pods.iter().map(|pod| &pod.name).collect();
        let uids: BTreeSet<_> = cluster.pods.iter().map(|pod| &pod.uid).collect();
        assert_eq!(
            (names.len(), uids.len()),
            (cluster.pods.len(), cluster.pods.len())
        );
    }

    #[test]
    fn names_follow_their_owners() {
        let cluster = Cluster::default();
        assert_eq!(cluster.pod(20).name, "postgres-0");
        assert!(cluster.pod(41).name.starts_with("pg-backup-29540701-"));
        let web = &cluster.pod(10);
        assert!(web.name.starts_with(&format!("{}-", web.owner.1)));
        assert_eq!(web.workload.to_string(), "shop/Deployment/web");
    }

    #[test]
    fn an_evicted_pod_is_replaced_under_another_address() {
        let cluster = Cluster::default();
        let lasts = |secs| {
            let alive = cluster.alive(API, START.after(Duration::from_secs(secs)));
            alive.iter().map(|pod| pod.host.mac[5]).collect::<Vec<_>>()
        };
        assert_eq!(lasts(10), [12, 13]);
        assert_eq!(lasts(100), [12]);
        assert_eq!(lasts(110), [12, 17]);
    }
}
