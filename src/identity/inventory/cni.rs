//! A copied `/var/lib/cni`: host-local leases, the libcni result cache, network configurations.
//!
//! The tree is walked whole and each file judged by itself, so it may begin at any depth: `/var/lib/cni`, `/var/lib`,
//! `networks/` alone, `/run/cni-ipam-state`. Results hold annotations and port mappings of pods, which are never kept.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipnetwork::IpNetwork;

use self::files::{CniFile, Found, Lease};
use super::collector::{Collector, Facts, PodRecord};
use super::lenient::Field;
use crate::address::canonical;
use crate::identity::Source;
use crate::identity::claim::{Standing, Tenure};
use crate::identity::networks::Look;
use crate::identity::prefixes::first_host;
use crate::time::Timestamp;

/// Leases of which all files are younger than this in comparison with the oldest tell no times: a copy that doesn't keep
/// times gives them all its own.
const NO_COPY_TAKES: Duration = Duration::from_mins(10);

/// Plugins whose addresses belong to a network outside the node: its gateway is a router, its range not the pods' alone.
const UNBRIDGED: [&str; 6] = [
    "macvlan",
    "ipvlan",
    "vlan",
    "host-device",
    "sriov",
    "loopback",
];

/// Reads a tree. What was passed over, and why, goes to `notes`.
pub(super) fn read(
    root: &Path,
    collector: &mut Collector,
    notes: &mut Vec<String>,
) -> io::Result<()> {
    let mut found = files::walk(root)?;
    let live = collector.live;
    let mut tree = Tree {
        collector,
        leases: HashMap::new(),
        subnets: BTreeMap::new(),
        timed: live || are_timed(&found.leases),
        live,
        stale: 0,
    };
    for conf in &mut found.confs {
        tree.conf(conf);
    }
    tree.results(&found);
    tree.leases(&found);
    let stale = tree.stale;
    if found.cut_short {
        notes.push("more files than any node has: the rest was not read".into());
    }
    for (count, text) in [
        (
            found.unreadable,
            "unreadable (the result cache is for root alone)",
        ),
        (
            found.unfinished,
            "empty or cut short, as while a pod starts",
        ),
        (
            stale,
            "results of pods whose address was leased to another since",
        ),
    ] {
        if count > 0 {
            notes.push(format!("{count} files {text}"));
        }
    }
    Ok(())
}

/// Whether the leases' files are as old as the leases.
fn are_timed(leases: &[Lease]) -> bool {
    let ages = || leases.iter().filter_map(|lease| lease.modified);
    ages()
        .max()
        .zip(ages().min())
        .is_some_and(|(new, old)| new.since(old) >= NO_COPY_TAKES)
}

struct Tree<'a> {
    collector: &'a mut Collector,
    /// The lease of an address in a network.
    leases: HashMap<(&'a str, IpAddr), &'a Lease>,
    /// Ranges by network.
    subnets: BTreeMap<String, Vec<IpNetwork>>,
    timed: bool,
    live: bool,
    stale: usize,
}

impl<'a> Tree<'a> {
    /// Learns ranges and gateways from a configuration; returns whether pods are bridged by it.
    fn conf(&mut self, conf: &mut CniFile) -> bool {
        let plugins = conf.plugins();
        let bridged = plugins
            .first()
            .is_none_or(|plugin| !UNBRIDGED.contains(&&*plugin.kind));
        for plugin in plugins.iter().filter(|_| bridged) {
            for (subnet, gateway) in plugin.ipam.subnets() {
                let Ok(subnet) = subnet.parse::<IpNetwork>() else {
                    continue;
                };
                self.collector.networks().add_pods(subnet);
                self.subnets
                    .entry(conf.name.clone())
                    .or_default()
                    .push(subnet);
                let own = plugin.is_gateway.then(|| first_host(subnet));
                if let Some(gateway) = gateway.parse().ok().or(own) {
                    self.collector.add_gateway(gateway, subnet);
                }
            }
        }
        bridged
    }

    fn results(&mut self, found: &'a Found) {
        self.leases = found
            .leases
            .iter()
            .map(|lease| ((&*lease.network, lease.ip), lease))
            .collect();
        // All pods of a node bear copies of one configuration.
        let mut bridged: HashMap<&str, bool> = HashMap::new();
        for result in &found.results {
            if result.if_name == "lo" || result.network_name == "cni-loopback" {
                continue;
            }
            let bridged = *bridged.entry(&result.config).or_insert_with(|| {
                let conf = BASE64_STANDARD.decode(result.config.trim()).ok();
                let conf =
                    conf.and_then(|conf| serde_json::from_slice::<Field<CniFile>>(&conf).ok());
                conf.is_none_or(|Field(mut conf)| self.conf(&mut conf))
            });
            self.result(result, bridged);
        }
    }

    fn result(&mut self, result: &CniFile, bridged: bool) {
        let mut stays = BTreeMap::new();
        for (address, gateway) in result.result.addresses() {
            let Ok(range) = address.parse::<IpNetwork>() else {
                continue;
            };
            let ip = canonical(range.ip());
            if ip.is_loopback() {
                continue;
            }
            if let Some(gateway) = gateway.parse().ok().filter(|_| bridged) {
                self.collector.add_gateway(gateway, range);
            }
            match self.leases.get(&(&*result.network_name, ip)) {
                Some(lease) if lease.sandbox != result.container_id => self.stale += 1,
                Some(lease) => {
                    stays.insert(ip, self.tenure(lease));
                }
                None => {
                    stays.insert(
                        ip,
                        Tenure {
                            standing: Standing::Silent,
                            ..Tenure::default()
                        },
                    );
                }
            }
        }
        self.resolver(result);
        if stays.is_empty() {
            return;
        }
        let facts = Facts {
            namespace: self.collector.some_text(result.arg("K8S_POD_NAMESPACE")),
            name: self.collector.some_text(result.arg("K8S_POD_NAME")),
            ..Facts::default()
        };
        let record = PodRecord {
            source: Source::CniCache,
            uid: self.collector.some_text(result.arg("K8S_POD_UID")),
            sandbox: self.collector.some_text(&result.container_id),
            facts,
            seen: None,
            stays,
        };
        self.collector.add_pod(record);
    }

    /// A pod that looks up cluster names asks the cluster's DNS service, whose address is a service's.
    fn resolver(&mut self, result: &CniFile) {
        let dns = &result.capability_args.dns;
        if !dns.searches.iter().any(|domain| domain.starts_with("svc.")) {
            return;
        }
        let servers = dns
            .servers
            .iter()
            .filter_map(|server| server.parse::<IpAddr>().ok());
        // A resolver on the node itself has a link-local address.
        let is_link_local = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        for server in servers.filter(|ip| !is_link_local(ip)) {
            self.collector.networks().add_services(server.into());
        }
    }

    /// Leases for which no result names a pod, and the ranges of which the leases tell everything.
    fn leases(&mut self, found: &Found) {
        let named: HashSet<_> = found
            .results
            .iter()
            .map(|result| &*result.container_id)
            .collect();
        for lease in found
            .leases
            .iter()
            .filter(|lease| !named.contains(&*lease.sandbox))
        {
            let record = PodRecord {
                source: Source::HostLocal,
                uid: None,
                sandbox: self.collector.some_text(&lease.sandbox),
                facts: Facts::default(),
                seen: None,
                stays: BTreeMap::from([(lease.ip, self.tenure(lease))]),
            };
            self.collector.add_pod(record);
        }
        if found.unreadable > 0 || found.cut_short {
            return;
        }
        let leased: HashSet<_> = found.leases.iter().map(|lease| &*lease.network).collect();
        for (network, subnets) in &self.subnets {
            for &subnet in subnets.iter().filter(|_| leased.contains(&**network)) {
                let networks = self.collector.networks();
                networks.add_complete(subnet, Timestamp::MIN);
                if self.live {
                    networks.add_look(Look {
                        range: subnet,
                        from: Timestamp::MIN,
                        to: Timestamp::MAX,
                        follows: true,
                        leases: true,
                    });
                }
            }
        }
    }

    fn tenure(&self, lease: &Lease) -> Tenure {
        Tenure {
            start: lease.modified.filter(|_| self.timed),
            // The address is free by then, whoever had it before.
            settled: lease.modified.filter(|_| self.live),
            ..Tenure::untimed()
        }
    }
}
