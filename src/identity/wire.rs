//! The journal as a file: JSON lines, the first one a header with the networks, then a claim a line.
//!
//! The form is versioned by [`SCHEMA`] and separate from the types inside, so that journals of old stay readable.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Standing, Tenure};
use super::networks::Look;
use super::{Attribution, Identity, IdentityKind, Journal, Networks, Source, WorkloadId};
use crate::address::{NetworkId, canonical};
use crate::time::Timestamp;

/// The form's name in the header.
pub(super) const SCHEMA: &str = "spanwatch.journal/1";

/// The first line.
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct HeaderV1 {
    pub(super) schema: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pod_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_ranges: Vec<RangeV1>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    complete: Vec<RangeV1>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    looks: Vec<LookV1>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    named: Vec<RangeV1>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeV1>,
}

/// A range, with what is said of it.
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(default)]
struct RangeV1 {
    cidr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityV1>,
}

/// A time at which a source looked at everybody in a range: without it nobody could say later that somebody was overlooked.
#[derive(Serialize, Deserialize, Debug)]
struct LookV1 {
    cidr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    to: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    follows: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leases: bool,
}

/// A node's address.
#[derive(Serialize, Deserialize, Debug)]
struct NodeV1 {
    ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    source: String,
}

/// Who, but for the uid, which is the claim's.
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(default)]
pub(crate) struct IdentityV1 {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadV1>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Arc<str>>,
}

/// The workload.
#[derive(Serialize, Deserialize, Debug)]
struct WorkloadV1 {
    #[serde(default)]
    namespace: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
}

/// One line after the first.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct ClaimV1 {
    ip: IpAddr,
    #[serde(default, skip_serializing_if = "is_default_network")]
    network: u32,
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(default)]
    standing: StandingV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sandbox: Option<Arc<str>>,
    identity: IdentityV1,
}

/// Whether the holder was there when the source was written.
#[derive(Serialize, Deserialize, Clone, Copy, Default, Debug)]
#[serde(rename_all = "lowercase")]
enum StandingV1 {
    #[default]
    Silent,
    Current,
    Leaving,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_default_network(network: &u32) -> bool {
    *network == 0
}

impl Journal {
    /// Writes everything that is known, as JSON lines in an order that depends on nothing else.
    ///
    /// # Errors
    /// When writing fails.
    pub fn export(&self, out: &mut impl Write) -> io::Result<()> {
        self.export_as_of(out, None)
    }

    /// The same, and that sources which are followed were last looked at at a time: whoever was at an address before and
    /// after it, and is nobody's here, was given the address by nobody.
    ///
    /// # Errors
    /// When writing fails.
    pub fn export_as_of(&self, out: &mut impl Write, time: Option<Timestamp>) -> io::Result<()> {
        let mut header = HeaderV1::from(self.networks());
        header.looks = self.looks(time);
        line(out, &header)?;
        self.claims()
            .into_iter()
            .try_for_each(|claim| line(out, &ClaimV1::from(claim)))
    }

    /// The looks. One that goes on has no end, nor does a record of leases tell who had one before it was read: what is
    /// written down is that it was looked at now.
    fn looks(&self, now: Option<Timestamp>) -> Vec<LookV1> {
        let looks = self.networks().looks().into_iter();
        looks
            .filter_map(|look| {
                let goes_on = look.to == Timestamp::MAX;
                let (from, to) = if goes_on {
                    (now?, now?)
                } else {
                    (look.from, look.to)
                };
                Some(LookV1 {
                    cidr: look.range.to_string(),
                    from: text_of(Some(from)),
                    to: text_of(Some(to))?,
                    follows: look.follows && !goes_on,
                    leases: look.leases,
                })
            })
            .collect()
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// What keeps a journal from being read.
#[derive(Debug)]
pub(super) enum ImportError {
    /// Its header names another form.
    Schema(String),
    /// It isn't what its header promises.
    Json(serde_json::Error),
}

/// Reads a journal into `networks` and `claim`. Returns the line at which it broke off, if it did.
pub(super) fn import(
    input: impl Read,
    networks: &mut Networks,
    mut claim: impl FnMut(Claim),
) -> Result<Option<usize>, ImportError> {
    let mut input = serde_json::Deserializer::from_reader(input);
    let header = HeaderV1::deserialize(&mut input).map_err(ImportError::Json)?;
    if header.schema != SCHEMA {
        return Err(ImportError::Schema(header.schema));
    }
    header.add_to(networks);
    for line in input.into_iter::<ClaimV1>() {
        match line {
            Ok(line) => claim(line.into()),
            Err(error) if error.is_eof() => return Ok(Some(error.line())),
            Err(error) => return Err(ImportError::Json(error)),
        }
    }
    Ok(None)
}

impl From<&Networks> for HeaderV1 {
    fn from(networks: &Networks) -> Self {
        let cidr = |range: IpNetwork| RangeV1 {
            cidr: range.to_string(),
            ..RangeV1::default()
        };
        let texts = |ranges: Vec<IpNetwork>| ranges.iter().map(ToString::to_string).collect();
        let node_ranges = networks.node_ranges().into_iter();
        let complete = networks.complete_ranges().into_iter();
        let named = networks.named_ranges().into_iter();
        let nodes = networks.nodes().into_iter();
        Self {
            schema: SCHEMA.into(),
            pod_cidrs: texts(networks.pod_cidrs()),
            service_cidrs: texts(networks.service_cidrs()),
            node_ranges: node_ranges
                .map(|(range, node)| RangeV1 {
                    node: node.identity.name.clone(),
                    ..cidr(range)
                })
                .collect(),
            complete: complete
                .map(|(range, since)| RangeV1 {
                    since: text_of(Some(since)),
                    ..cidr(range)
                })
                .collect(),
            looks: Vec::new(),
            named: named
                .map(|(range, Attribution { identity, .. })| RangeV1 {
                    identity: Some((&**identity).into()),
                    ..cidr(range)
                })
                .collect(),
            nodes: nodes
                .map(
                    |(
                        ip,
                        Attribution {
                            identity, source, ..
                        },
                    )| NodeV1 {
                        ip,
                        name: identity.name.clone(),
                        source: source.label().into(),
                    },
                )
                .collect(),
        }
    }
}

impl HeaderV1 {
    fn add_to(self, networks: &mut Networks) {
        let ranges = |texts: Vec<String>| texts.into_iter().filter_map(|text| text.parse().ok());
        ranges(self.pod_cidrs).for_each(|range| networks.add_pods(range));
        ranges(self.service_cidrs).for_each(|range| networks.add_services(range));
        for RangeV1 { cidr, node, .. } in self.node_ranges {
            if let (Ok(range), Some(node)) = (cidr.parse(), node) {
                networks.add_node_range(range, node);
            }
        }
        for RangeV1 { cidr, since, .. } in self.complete {
            if let Ok(range) = cidr.parse() {
                networks.add_complete(range, moment_of(since.as_deref()).unwrap_or(Timestamp::MIN));
            }
        }
        for look in self.looks {
            if let (Ok(range), Some(to)) = (look.cidr.parse(), moment_of(Some(&look.to))) {
                networks.add_look(Look {
                    range,
                    from: moment_of(look.from.as_deref()).unwrap_or(Timestamp::MIN),
                    to,
                    follows: look.follows,
                    leases: look.leases,
                });
            }
        }
        for RangeV1 { cidr, identity, .. } in self.named {
            if let (Ok(range), Some(identity)) = (cidr.parse(), identity) {
                networks.add_named(range, identity.into());
            }
        }
        for NodeV1 { ip, name, source } in self.nodes {
            networks.add_node(ip, name, source_of(&source));
        }
    }
}

impl From<&Claim> for ClaimV1 {
    fn from(claim: &Claim) -> Self {
        let tenure = &claim.tenure;
        Self {
            ip: claim.ip,
            network: claim.network.0,
            source: claim.source.label().into(),
            start: text_of(tenure.start),
            settled: text_of(tenure.settled),
            last_seen: text_of(tenure.last_seen),
            end: text_of(tenure.end),
            standing: match tenure.standing {
                Standing::Silent => StandingV1::Silent,
                Standing::Current => StandingV1::Current,
                Standing::Leaving => StandingV1::Leaving,
            },
            uid: claim.uid.clone(),
            sandbox: claim.sandbox.clone(),
            identity: (&*claim.identity).into(),
        }
    }
}

impl From<ClaimV1> for Claim {
    fn from(line: ClaimV1) -> Self {
        let moment = |text: Option<String>| moment_of(text.as_deref());
        Self {
            network: NetworkId(line.network),
            ip: canonical(line.ip),
            source: source_of(&line.source),
            tenure: Tenure {
                start: moment(line.start),
                settled: moment(line.settled),
                last_seen: moment(line.last_seen),
                end: moment(line.end),
                standing: match line.standing {
                    StandingV1::Silent => Standing::Silent,
                    StandingV1::Current => Standing::Current,
                    StandingV1::Leaving => Standing::Leaving,
                },
            },
            identity: Arc::new(Identity {
                uid: line.uid.clone().or_else(|| line.sandbox.clone()),
                ..line.identity.into()
            }),
            uid: line.uid,
            sandbox: line.sandbox,
        }
    }
}

impl From<&Identity> for IdentityV1 {
    fn from(identity: &Identity) -> Self {
        Self {
            kind: identity.kind.label().into(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            workload: identity.workload.clone().map(
                |WorkloadId {
                     namespace,
                     kind,
                     name,
                 }| {
                    WorkloadV1 {
                        namespace,
                        kind,
                        name,
                    }
                },
            ),
            labels: identity.labels.clone(),
            revision: identity.revision.clone(),
            node: identity.node.clone(),
        }
    }
}

impl From<IdentityV1> for Identity {
    fn from(identity: IdentityV1) -> Self {
        let kinds = [
            IdentityKind::Pod,
            IdentityKind::Service,
            IdentityKind::Node,
            IdentityKind::External,
        ];
        let kind = kinds.into_iter().find(|kind| kind.label() == identity.kind);
        Self {
            kind: kind.unwrap_or(IdentityKind::Unknown),
            namespace: identity.namespace,
            name: identity.name,
            uid: None,
            workload: identity.workload.map(
                |WorkloadV1 {
                     namespace,
                     kind,
                     name,
                 }| {
                    WorkloadId {
                        namespace,
                        kind,
                        name,
                    }
                },
            ),
            labels: identity.labels,
            revision: identity.revision,
            node: identity.node,
        }
    }
}

fn source_of(label: &str) -> Source {
    Source::ALL
        .into_iter()
        .find(|source| source.label() == label)
        .unwrap_or(Source::None)
}

/// RFC 3339; [`Timestamp::MIN`] and others outside the representable years are as good as unknown.
fn text_of(time: Option<Timestamp>) -> Option<String> {
    let time = time.filter(|&time| time > Timestamp::MIN && time < Timestamp::MAX)?;
    Some(
        jiff::Timestamp::from_nanosecond(time.nanos().into())
            .ok()?
            .to_string(),
    )
}

fn moment_of(text: Option<&str>) -> Option<Timestamp> {
    let nanos = text?.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests;
