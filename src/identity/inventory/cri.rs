//! What a container runtime says: `crictl pods -o json`, `crictl inspectp`, or the replies of its API as JSON.
//!
//! A list of sandboxes has names and labels without addresses, which leases or results with the same id supply. A status
//! has addresses; that of a stopped sandbox keeps them in the saved CNI result alone.

pub(super) mod api;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;

use super::collector::{Collector, Facts, PodRecord};
use super::lenient::{Lenient, moment, non_empty, records};
use super::stream::{Ending, for_each_value};
use crate::address::canonical;
use crate::identity::Source;
use crate::identity::claim::{Standing, Tenure};
use crate::time::Timestamp;

records! {
    /// A list, a status with its info, or both in one for values of either sort.
    Reply {
        items: Vec<Sandbox>,
        status: Sandbox,
        info: Info,
    }

    /// A pod sandbox.
    Sandbox {
        id: String,
        metadata: PodRef,
        /// Absent in some marshallings where it is ready.
        state: String,
        created_at: Moment,
        network: Network,
        linux: Linux,
        labels: BTreeMap<String, String>,
    }

    /// Whose sandbox it is.
    PodRef {
        name: String,
        uid: String,
        namespace: String,
    }

    /// Its addresses, while it lives.
    Network {
        ip: String,
        additional_ips: Vec<Ip>,
    }

    /// Another address.
    Ip {
        ip: String,
    }

    /// The way to the network namespace.
    Linux {
        namespaces: Namespaces,
    }

    /// The way to the network namespace.
    Namespaces {
        options: NamespaceOptions,
    }

    /// `NODE` for a hostNetwork pod.
    NamespaceOptions {
        network: String,
    }

    /// The result of the CNI, by interface.
    CniResult {
        #[serde(rename = "Interfaces")]
        interfaces: BTreeMap<String, Interface>,
    }

    /// An interface.
    Interface {
        #[serde(rename = "IPConfigs")]
        configs: Vec<IpConfig>,
    }

    /// An address of an interface.
    IpConfig {
        #[serde(rename = "IP")]
        ip: String,
    }

    /// Info as crictl prints it.
    PlainInfo {
        cni_result: CniResult,
        /// As the API has it: JSON in a string.
        #[serde(rename = "info")]
        nested: NestedInfo,
    }
}

/// Info, plain or as a string of JSON inside.
#[derive(Clone, PartialEq, Default, Debug)]
struct Info(PlainInfo);

impl<'de> Lenient<'de> for Info {
    fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let mut info = PlainInfo::from_map(map)?;
        if let Some(nested) = info.nested.0.take() {
            info.cni_result = nested;
        }
        Ok(Self(info))
    }
}

/// The inner info.
#[derive(Clone, PartialEq, Default, Debug)]
struct NestedInfo(Option<CniResult>);

records! {
    /// What the inner info has.
    InnerInfo {
        cni_result: CniResult,
    }
}

impl<'de> Lenient<'de> for NestedInfo {
    fn from_text(text: &str) -> Self {
        let inner = serde_json::from_str::<super::lenient::Field<InnerInfo>>(text);
        Self(inner.ok().map(|inner| inner.0.cni_result))
    }

    fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self(Some(InnerInfo::from_map(map)?.cni_result)))
    }
}

/// RFC 3339, or nanoseconds since the epoch as a number or a string.
#[derive(Clone, PartialEq, Default, Debug)]
struct Moment(Option<Timestamp>);

impl Lenient<'_> for Moment {
    fn from_text(text: &str) -> Self {
        let nanos = || {
            text.parse()
                .ok()
                .filter(|&nanos: &i64| nanos > 0)
                .map(Timestamp::from_nanos)
        };
        Self(moment(text).or_else(nanos))
    }

    fn from_number(nanos: f64) -> Self {
        Self(
            Some(Timestamp::from_nanos(nanos as i64))
                .filter(|&time| time > Timestamp::from_nanos(0)),
        )
    }
}

/// Values of either sort, or an array of such.
#[derive(Default)]
struct Replies(Vec<Reply>);

impl<'de> Lenient<'de> for Replies {
    fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self(vec![Reply::from_map(map)?]))
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
    for_each_value(input, |Replies(replies)| {
        for Reply {
            items,
            status,
            info,
        } in replies
        {
            for sandbox in items {
                add(sandbox, None, collector);
            }
            add(status, Some(&info.0.cni_result), collector);
        }
    })
}

fn add(sandbox: Sandbox, result: Option<&CniResult>, collector: &mut Collector) {
    if sandbox.id.is_empty() || sandbox.linux.namespaces.options.network == "NODE" {
        return;
    }
    let live = std::iter::once(&sandbox.network.ip)
        .chain(sandbox.network.additional_ips.iter().map(|ip| &ip.ip));
    let saved = result
        .into_iter()
        .flat_map(|result| result.interfaces.values());
    let saved = saved.flat_map(|interface| interface.configs.iter().map(|config| &config.ip));
    let addresses = live.chain(saved).filter_map(|ip| ip.parse::<IpAddr>().ok());
    let created = sandbox.created_at.0;
    let tenure = Tenure {
        start: created,
        last_seen: created,
        // When a stopped sandbox stopped is unsaid.
        standing: if sandbox.state.contains("NOTREADY") {
            Standing::Leaving
        } else {
            Standing::Current
        },
        ..Tenure::default()
    };
    let stays: BTreeMap<_, _> = addresses
        .filter(|ip| !ip.is_loopback())
        .map(|ip| (canonical(ip), tenure))
        .collect();
    let label = |key: &str| sandbox.labels.get(key).map_or("", |value| value);
    let pick = |own, key| non_empty(own).unwrap_or_else(|| label(key)).to_owned();
    let name = pick(&sandbox.metadata.name, "io.kubernetes.pod.name");
    let namespace = pick(&sandbox.metadata.namespace, "io.kubernetes.pod.namespace");
    let uid = pick(&sandbox.metadata.uid, "io.kubernetes.pod.uid");
    let mut labels = sandbox.labels;
    labels.retain(|key, _| !key.starts_with("io.kubernetes."));
    let facts = Facts {
        namespace: collector.some_text(&namespace),
        name: collector.some_text(&name),
        labels: collector.labels(labels),
        ..Facts::default()
    };
    let record = PodRecord {
        source: Source::Cri,
        uid: collector.some_text(&uid),
        sandbox: collector.some_text(&sandbox.id),
        facts,
        seen: created,
        stays,
    };
    collector.add_pod(record);
}
