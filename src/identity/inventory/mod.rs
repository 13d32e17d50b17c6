//! Inventories: files that tell who held which address. Each is recognised by its content; all are merged, in any order.
//!
//! This is the one place of the module that reads files. A file that gives nothing is an error, for its owner believes
//! that it gives something.

mod cluster;
mod cni;
mod collector;
mod cri;
mod csv;
mod docker;
mod error;
mod input;
mod kubernetes;
mod lenient;
mod objects;
mod pod;
mod policy;
mod snapshot;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use self::collector::{Collector, Tally};
use self::input::Format;
use self::stream::Ending;
use super::claim::Claim;
use super::declared::Declared;
use super::journal::Journal;
use super::networks::Networks;
use super::wire::{self, ImportError};

pub use cluster::{Cluster, Kind, Listing, Malformed, Told};
pub use cri::api::{Listed, Sandboxes, Unreadable};
pub use error::{InventoryError, InventoryErrors};

/// What the operator knows besides the files.
#[derive(Clone, Default, Debug)]
pub struct InventoryOptions {
    /// The ranges of pod addresses.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// The ranges of service addresses.
    pub service_cidrs: Vec<IpNetwork>,
}

/// What is known by interfaces that are asked, besides the files.
#[derive(Clone, Copy, Default, Debug)]
pub struct Apis<'a> {
    /// What a cluster's API told.
    pub cluster: Option<&'a Cluster>,
    /// What this node's container runtime told.
    pub sandboxes: Option<&'a Sandboxes>,
}

/// What one input was and gave.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The file or directory.
    pub path: PathBuf,
    /// What it was taken for.
    pub format: &'static str,
    /// Addresses that it says were somebody's.
    pub bindings: usize,
    /// What the reader should know: files that could not be read, a last line cut short.
    pub notes: Vec<String>,
}

/// What all inputs were and gave.
#[derive(Clone, Default, Debug)]
pub struct InventoryReport {
    /// In the order in which they were given.
    pub files: Vec<FileReport>,
    /// Objects of kinds that tell nothing about addresses, counted by kind.
    pub ignored_kinds: BTreeMap<String, u64>,
    /// Claims in the journal.
    pub claims: usize,
    /// Addresses that several owners claim for the same time, so that nobody is named.
    pub disputed: Vec<IpAddr>,
}

/// Reads and merges inventories. Without any, the journal knows what the options say.
///
/// # Errors
/// When any input can't be read, is of no known form, is broken, or gives nothing; all that's wrong is told at once.
pub fn load_inventory(
    paths: &[PathBuf],
    options: &InventoryOptions,
) -> Result<(Journal, InventoryReport), InventoryErrors> {
    let Gathered {
        networks,
        declared,
        claims,
        mut report,
    } = gather(paths, options, Apis::default(), false)?;
    let mut journal = Journal::default();
    *journal.networks_mut() = networks;
    journal.declare(declared);
    journal.insert(claims);
    report.claims = journal.claims_count();
    report.disputed = journal.disputed().into_iter().map(|(_, ip)| ip).collect();
    Ok((journal, report))
}

/// All that inventories gave.
pub(super) struct Gathered {
    pub(super) networks: Networks,
    pub(super) declared: Declared,
    pub(super) claims: Vec<Claim>,
    pub(super) report: InventoryReport,
}

/// Reads inventories, adds what APIs told, and draws the conclusions. `live` ones are the sources themselves, as they are at the moment: their files
/// are as old as they say, and one that isn't there, or is empty, tells that nobody is.
pub(super) fn gather(
    paths: &[PathBuf],
    options: &InventoryOptions,
    apis: Apis<'_>,
    live: bool,
) -> Result<Gathered, InventoryErrors> {
    let mut collector = Collector::default();
    collector.live = live;
    options
        .cluster_cidrs
        .iter()
        .for_each(|&range| collector.networks().add_pods(range));
    options
        .service_cidrs
        .iter()
        .for_each(|&range| collector.networks().add_services(range));

    let mut report = InventoryReport::default();
    let mut errors = Vec::new();
    let mut empty = Vec::new();
    let mut gave = 0;
    for path in paths {
        collector.tally = Tally::default();
        match load(path, &mut collector) {
            Ok(file) => {
                if file.format == EMPTY {
                    empty.push(nothing_found(path, Format::Empty));
                }
                gave += collector.tally.bindings + collector.tally.hints;
                report.files.push(file);
            }
            Err(error) if live && error.is_absence() => report.files.push(FileReport {
                path: path.clone(),
                format: "nothing yet",
                bindings: 0,
                notes: vec![error.to_string()],
            }),
            Err(error) => errors.push(error),
        }
    }
    if let Some(cluster) = apis.cluster {
        kubernetes::current(cluster.objects(), &mut collector);
    }
    if let Some(sandboxes) = apis.sandboxes {
        sandboxes.collect(&mut collector);
    }
    // One empty file among others is a watch during which nothing happened; nothing at all is a mistake.
    if gave == 0 && !live {
        errors.append(&mut empty);
    }
    if !errors.is_empty() {
        return Err(InventoryErrors(errors));
    }
    report.ignored_kinds = std::mem::take(&mut collector.ignored);
    let declared = std::mem::take(&mut collector.declared);
    let (networks, claims) = collector.finish(&options.cluster_cidrs);
    Ok(Gathered {
        networks,
        declared,
        claims,
        report,
    })
}

const EMPTY: &str = "empty file";

/// Reads one input.
fn load(path: &Path, collector: &mut Collector) -> Result<FileReport, InventoryError> {
    let io_error = |source: io::Error| InventoryError::Io {
        path: path.into(),
        source,
    };
    let mut report = FileReport {
        path: path.into(),
        format: "CNI state",
        bindings: 0,
        notes: Vec::new(),
    };
    if std::fs::metadata(path).map_err(io_error)?.is_dir() {
        cni::read(path, collector, &mut report.notes).map_err(io_error)?;
    } else {
        let mut file = input::open(path).map_err(io_error)?;
        let (format, begins) = input::recognise(&mut file).map_err(io_error)?;
        report.format = label(format);
        report
            .notes
            .extend(read(path, format, begins, file, collector)?);
        if collector.tally == Tally::default() && format != Format::Empty {
            return Err(nothing_found(path, format));
        }
    }
    if report.format == "CNI state" && collector.tally == Tally::default() {
        return Err(InventoryError::NothingFound {
            path: path.into(),
            format: report.format,
            expected: "networks/<name>/<address>, results/ or cache/results/, or net.d/*.conf",
            remedy: "copy /var/lib/cni whole, as root: tar -C /var/lib -czf cni.tgz cni, and unpack it here",
        });
    }
    report.bindings = collector.tally.bindings;
    Ok(report)
}

/// Reads a file of a known format; returns notes.
fn read(
    path: &Path,
    format: Format,
    begins: String,
    file: impl BufRead,
    collector: &mut Collector,
) -> Result<Option<String>, InventoryError> {
    let json = |ended: Result<Ending, serde_json::Error>| match ended {
        Ok(ending) => Ok(ending.cut_at_line),
        Err(error) => Err(InventoryError::json(path, &error)),
    };
    let cut = match format {
        Format::Kubernetes => json(kubernetes::read(file, collector))?,
        Format::Cri => json(cri::read(file, collector))?,
        Format::Docker => json(docker::read(file, collector))?,
        Format::Journal => journal(path, file, collector)?,
        Format::Csv => {
            csv::read(file, collector).map_err(|error| match error.io {
                Some(source) => InventoryError::Io {
                    path: path.into(),
                    source,
                },
                None => InventoryError::Syntax {
                    path: path.into(),
                    line: error.line,
                    column: 0,
                    problem: error.problem,
                },
            })?;
            None
        }
        Format::Empty => {
            return Ok(Some(
                "empty: nothing happened while it was written, or writing failed".into(),
            ));
        }
        Format::Utf16 => return Err(InventoryError::Utf16 { path: path.into() }),
        Format::Unknown => {
            return Err(InventoryError::NotRecognised {
                path: path.into(),
                begins,
            });
        }
    };
    Ok(cut.map(|line| {
        format!("its last value breaks off in line {line}; everything before it was read")
    }))
}

fn journal(
    path: &Path,
    file: impl BufRead,
    collector: &mut Collector,
) -> Result<Option<usize>, InventoryError> {
    let mut claims = Vec::new();
    let cut =
        wire::import(file, collector.networks(), |claim| claims.push(claim)).map_err(|error| {
            match error {
                ImportError::Schema(schema) => InventoryError::Schema {
                    path: path.into(),
                    schema,
                },
                ImportError::Json(error) => InventoryError::json(path, &error),
            }
        })?;
    for claim in claims {
        collector.add_claim(claim);
    }
    Ok(cut)
}

const fn label(format: Format) -> &'static str {
    match format {
        Format::Kubernetes => "Kubernetes objects",
        Format::Cri => "container runtime state",
        Format::Docker => "Docker state",
        Format::Journal => "spanwatch journal",
        Format::Csv => "CSV",
        Format::Empty => EMPTY,
        Format::Utf16 | Format::Unknown => "unknown",
    }
}

fn nothing_found(path: &Path, format: Format) -> InventoryError {
    let (expected, remedy) = match format {
        Format::Cri => (
            "pod sandboxes",
            "export as root: crictl inspectp $(crictl pods -q), and crictl pods -o json",
        ),
        Format::Docker => (
            "networks with containers",
            "export with: docker network inspect $(docker network ls -q)",
        ),
        Format::Csv => (
            "rows below the header",
            "give at least ip and pod, or ip and workload",
        ),
        _ => (
            "pods with addresses, services or nodes",
            "export with: kubectl get pods,svc,endpointslices,nodes,replicasets,jobs -A -o json (-A is easily forgotten)",
        ),
    };
    InventoryError::NothingFound {
        path: path.into(),
        format: label(format),
        expected,
        remedy,
    }
}

impl fmt::Display for InventoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FileReport {
            path,
            format,
            bindings,
            notes,
        } in &self.files
        {
            writeln!(f, "{}: {format}, {bindings} addresses", path.display())?;
            notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        }
        for (kind, count) in &self.ignored_kinds {
            writeln!(f, "not used: {count} × {kind}")?;
        }
        if !self.disputed.is_empty() {
            let some: Vec<_> = self
                .disputed
                .iter()
                .take(5)
                .map(ToString::to_string)
                .collect();
            let more = if self.disputed.len() > some.len() {
                ", …"
            } else {
                ""
            };
            writeln!(
                f,
                "claimed by several at once, hence not named: {}{more}",
                some.join(", ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
