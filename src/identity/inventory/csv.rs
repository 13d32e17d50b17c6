//! A table by hand or from an asset database: who had which address, and which networks bear names.
//!
//! Columns, by the header, in any order: `ip` (an address, or a range for a whole network), `namespace`, `pod`,
//! `workload` (`Kind/name`, or a name), `kind` (of the workload; or `pod`, `service`, `node`, `external` for what the
//! address is), `node`, `start`, `end` (RFC 3339 or seconds since the epoch; empty is open), `labels` (`k=v;k2=v2`).
//! Other columns are passed over.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;

use ::csv::{ReaderBuilder, StringRecord, Trim};
use ipnetwork::IpNetwork;

use super::collector::{Collector, Facts, PodRecord};
use super::lenient::{moment, non_empty};
use crate::address::{NetworkId, canonical};
use crate::identity::claim::{Claim, Standing, Tenure};
use crate::identity::workload::Controller;
use crate::identity::{Identity, IdentityKind, Source, WorkloadId};
use crate::time::Timestamp;

/// What is wrong with a table, and on which line.
#[derive(Debug)]
pub(super) struct TableError {
    pub(super) line: u64,
    pub(super) problem: String,
    /// The cause, when the file can't be read at all.
    pub(super) io: Option<std::io::Error>,
}

/// Whether a text's first line is a header that this module understands.
pub(super) fn is_table(first_line: &str) -> bool {
    let columns = Columns::of(&first_line.split(',').collect::<StringRecord>());
    columns.find("ip").is_some()
        && (columns.find("pod").is_some() || columns.find("workload").is_some())
}

/// Reads a table.
pub(super) fn read(input: impl Read, collector: &mut Collector) -> Result<(), TableError> {
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(Trim::All)
        .comment(Some(b'#'))
        .from_reader(input);
    let columns = Columns::of(reader.headers().map_err(broken)?);
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(broken)? {
        let line = row.position().map_or(0, ::csv::Position::line);
        let cell = |name| columns.find(name).and_then(|i| row.get(i)).unwrap_or("");
        add(&cell, collector).map_err(|problem| TableError {
            line,
            problem,
            io: None,
        })?;
    }
    Ok(())
}

fn broken(error: ::csv::Error) -> TableError {
    let line = error.position().map_or(0, ::csv::Position::line);
    let problem = error.to_string();
    let io = match error.into_kind() {
        ::csv::ErrorKind::Io(error) => Some(error),
        _ => None,
    };
    TableError { line, problem, io }
}

/// Where the columns are.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    fn of(header: &StringRecord) -> Self {
        let name = |cell: &str| {
            cell.trim_start_matches('\u{feff}')
                .trim()
                .trim_matches('"')
                .to_ascii_lowercase()
        };
        Self(
            header
                .iter()
                .enumerate()
                .map(|(i, cell)| (name(cell), i))
                .collect(),
        )
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }
}

fn add<'a>(
    cell: &dyn Fn(&'static str) -> &'a str,
    collector: &mut Collector,
) -> Result<(), String> {
    let ip = cell("ip");
    let range: IpNetwork = ip
        .parse()
        .map_err(|_| format!("{ip:?} is neither an address nor a range like 10.0.5.0/24"))?;
    let tenure = Tenure {
        start: time(cell("start"))?,
        end: time(cell("end"))?,
        standing: if cell("end").is_empty() {
            Standing::Current
        } else {
            Standing::Leaving
        },
        ..Tenure::default()
    };
    if cell("pod").is_empty() && cell("workload").is_empty() {
        return Err("neither pod nor workload is given".into());
    }
    let kind = match cell("kind") {
        "service" => IdentityKind::Service,
        "node" => IdentityKind::Node,
        "external" => IdentityKind::External,
        "" if ip.contains('/') => IdentityKind::External,
        _ => IdentityKind::Pod,
    };
    let row = Row {
        kind,
        namespace: collector.some_text(cell("namespace")),
        name: collector.some_text(cell("pod")),
        workload: workload(cell("workload"), cell("kind"), collector),
        node: collector.some_text(cell("node")),
        labels: labels(cell("labels"), collector),
    };
    if ip.contains('/') && !is_host(range) {
        row.add_range(range, collector);
    } else {
        row.add_address(canonical(range.ip()), tenure, collector);
    }
    Ok(())
}

/// A row without its address and times.
struct Row {
    kind: IdentityKind,
    namespace: Option<Arc<str>>,
    name: Option<Arc<str>>,
    workload: Option<Controller>,
    node: Option<Arc<str>>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Row {
    fn add_range(self, range: IpNetwork, collector: &mut Collector) {
        match self.kind {
            IdentityKind::Pod => collector.networks().add_pods(range),
            IdentityKind::Service => collector.networks().add_services(range),
            _ => {
                let identity = self.identity();
                collector.networks().add_named(range, identity);
            }
        }
    }

    fn add_address(self, ip: IpAddr, tenure: Tenure, collector: &mut Collector) {
        match self.kind {
            IdentityKind::Node => {
                let name = self
                    .name
                    .or(self.node)
                    .or(self.workload.map(|workload| workload.name));
                collector.add_node(ip, name, Source::Csv);
            }
            IdentityKind::Pod if self.name.is_some() => collector.add_pod(PodRecord {
                source: Source::Csv,
                uid: None,
                sandbox: None,
                facts: Facts {
                    namespace: self.namespace,
                    name: self.name,
                    workload: self.workload,
                    node: self.node,
                    labels: self.labels,
                    ..Facts::default()
                },
                seen: None,
                stays: BTreeMap::from([(ip, tenure)]),
            }),
            _ => collector.add_claim(Claim {
                network: NetworkId::default(),
                ip,
                source: Source::Csv,
                uid: None,
                sandbox: None,
                tenure,
                identity: Arc::new(self.identity()),
            }),
        }
    }

    fn identity(self) -> Identity {
        let Self {
            kind,
            namespace,
            name,
            workload,
            node,
            labels,
        } = self;
        let name = name.or_else(|| workload.as_ref().map(|workload| workload.name.clone()));
        let workload = workload.map(|Controller { kind, name }| WorkloadId {
            namespace: namespace.clone().unwrap_or_default(),
            kind,
            name,
        });
        Identity {
            namespace,
            name,
            workload,
            labels,
            node,
            ..Identity::bare(kind)
        }
    }
}

/// `prod/Deployment/web`, `Deployment/web`, or `web` with the kind in its own column.
fn workload(text: &str, kind: &str, collector: &mut Collector) -> Option<Controller> {
    let (rest, name) = text.rsplit_once('/').unwrap_or(("", text));
    let kind_here = rest.rsplit_once('/').map_or(rest, |(_, kind)| kind);
    let of_column = kind
        .starts_with(|first: char| first.is_ascii_uppercase())
        .then_some(kind);
    let kind = non_empty(kind_here).or(of_column).unwrap_or("Owner");
    Some(Controller {
        kind: collector.text(kind),
        name: collector.some_text(name)?,
    })
}

fn labels(text: &str, collector: &mut Collector) -> BTreeMap<Arc<str>, Arc<str>> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (collector.text(key.trim()), collector.text(value.trim())))
        .collect()
}

fn time(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = || {
        text.parse()
            .ok()
            .filter(|secs: &f64| secs.is_finite())
            .map(Timestamp::from_secs_f64)
    };
    match moment(text).or_else(seconds) {
        Some(time) => Ok(Some(time)),
        None => Err(format!(
            "{text:?} is neither RFC 3339 nor seconds since the epoch"
        )),
    }
}

fn is_host(range: IpNetwork) -> bool {
    range.prefix() == if range.is_ipv4() { 32 } else { 128 }
}
