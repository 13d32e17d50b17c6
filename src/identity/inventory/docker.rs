//! What Docker (or Podman) says: `docker network inspect`, `docker inspect`.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::collector::{Collector, Facts, PodRecord};
use super::lenient::{Lenient, non_empty, records};
use super::stream::{Ending, for_each_value};
use crate::address::canonical;
use crate::identity::Source;
use crate::identity::claim::{Standing, Tenure};
use crate::identity::workload::Controller;
use crate::time::Timestamp;

records! {
    /// A network, or a container.
    Inspected {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Id")]
        id: String,
        #[serde(rename = "IPAM")]
        ipam: Ipam,
        #[serde(rename = "Containers")]
        containers: BTreeMap<String, Member>,
        #[serde(rename = "NetworkSettings")]
        settings: Settings,
        #[serde(rename = "State")]
        state: State,
        #[serde(rename = "Config")]
        config: Config,
    }

    /// How a network's addresses are chosen.
    Ipam {
        #[serde(rename = "Config")]
        config: Vec<IpamConfig>,
    }

    /// One range.
    IpamConfig {
        #[serde(rename = "Subnet")]
        subnet: String,
        #[serde(rename = "Gateway")]
        gateway: String,
    }

    /// A container as its network has it: addresses with prefix length.
    Member {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "IPv4Address")]
        ipv4: String,
        #[serde(rename = "IPv6Address")]
        ipv6: String,
    }

    /// A container's networks.
    Settings {
        #[serde(rename = "Networks")]
        networks: BTreeMap<String, Attachment>,
    }

    /// A container in a network: addresses without prefix length.
    Attachment {
        #[serde(rename = "IPAddress")]
        ipv4: String,
        #[serde(rename = "GlobalIPv6Address")]
        ipv6: String,
        #[serde(rename = "Gateway")]
        gateway: String,
    }

    /// A container's life.
    State {
        #[serde(rename = "Running")]
        running: bool,
        #[serde(rename = "StartedAt")]
        started: Option<Timestamp>,
        #[serde(rename = "FinishedAt")]
        finished: Option<Timestamp>,
    }

    /// Labels and image; the environment stays unread.
    Config {
        #[serde(rename = "Labels")]
        labels: BTreeMap<String, String>,
        #[serde(rename = "Image")]
        image: String,
    }
}

/// One, or as the commands print them: an array.
#[derive(Default)]
struct All(Vec<Inspected>);

impl<'de> Lenient<'de> for All {
    fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self(vec![Inspected::from_map(map)?]))
    }

    fn from_seq<A: serde::de::SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        Ok(Self(Vec::from_seq(seq)?))
    }
}

/// Reads a whole stream.
pub(super) fn read(
    input: impl Read,
    collector: &mut Collector,
) -> Result<Ending, serde_json::Error> {
    for_each_value(input, |All(all)| {
        for inspected in all {
            if inspected.settings.networks.is_empty() {
                network(inspected, collector);
            } else {
                container(inspected, collector);
            }
        }
    })
}

fn network(network: Inspected, collector: &mut Collector) {
    for config in network.ipam.config {
        let Ok(subnet) = config.subnet.parse::<IpNetwork>() else {
            continue;
        };
        collector.networks().add_pods(subnet);
        if let Ok(gateway) = config.gateway.parse() {
            collector.add_gateway(gateway, subnet);
        }
    }
    for (id, member) in network.containers {
        let ips = [member.ipv4, member.ipv6];
        let ips = ips
            .iter()
            .filter_map(|ip| ip.parse::<IpNetwork>().ok())
            .map(|range| range.ip());
        let facts = Facts {
            name: collector.some_text(&member.name),
            ..Facts::default()
        };
        add(&id, facts, ips, Tenure::untimed(), collector);
    }
}

fn container(container: Inspected, collector: &mut Collector) {
    let state = container.state;
    let tenure = Tenure {
        start: state.started,
        end: state.finished.filter(|_| !state.running),
        standing: if state.running {
            Standing::Current
        } else {
            Standing::Leaving
        },
        ..Tenure::default()
    };
    let mut ips: Vec<IpAddr> = Vec::new();
    for attachment in container.settings.networks.values() {
        ips.extend(
            [&attachment.ipv4, &attachment.ipv6]
                .into_iter()
                .filter_map(|ip| ip.parse::<IpAddr>().ok()),
        );
        if let (Ok(ip), Some(gateway)) = (
            attachment.ipv4.parse::<IpAddr>(),
            attachment.gateway.parse().ok(),
        ) {
            collector.add_gateway(gateway, ip.into());
        }
    }
    let name = container.name.trim_start_matches('/');
    let labels = container.config.labels;
    let label = |key: &str| labels.get(key).map_or("", |value| value);
    // Compose projects and swarm stacks are what namespaces and deployments are elsewhere.
    let (service, kind) = match non_empty(label("com.docker.compose.service")) {
        Some(service) => (Some(service), "ComposeService"),
        None => (
            non_empty(label("com.docker.swarm.service.name")),
            "SwarmService",
        ),
    };
    let facts = Facts {
        namespace: collector.some_text(label("com.docker.compose.project")),
        workload: service.map(|service| Controller {
            kind: collector.text(kind),
            name: collector.text(service),
        }),
        name: collector.some_text(name),
        image: collector.some_text(&container.config.image),
        labels: collector.labels(labels),
        ..Facts::default()
    };
    add(&container.id, facts, ips.into_iter(), tenure, collector);
}

fn add(
    id: &str,
    mut facts: Facts,
    ips: impl Iterator<Item = IpAddr>,
    tenure: Tenure,
    collector: &mut Collector,
) {
    if facts.workload.is_none() {
        facts.workload = facts.name.clone().map(|name| Controller {
            kind: collector.text("Container"),
            name,
        });
    }
    let record = PodRecord {
        source: Source::Docker,
        uid: None,
        sandbox: collector.some_text(id),
        facts,
        seen: tenure.start,
        stays: ips.map(|ip| (canonical(ip), tenure)).collect(),
    };
    if !record.stays.is_empty() {
        collector.add_pod(record);
    }
}
