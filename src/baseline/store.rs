//! The baseline on disk: one crash-safe file (redb), a profile per workload, in a versioned form of its own.
//!
//! The file is locked while open, so two processes can't corrupt it. Everything is written in one transaction: after a
//! crash the file holds either the old baseline or the new one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::Baseline;
use super::profile::{PeerStat, Profile};
use crate::features::{Contact, LogHistogram, Rate, Role};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// Facts about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("spanwatch.meta");
/// `namespace NUL kind NUL name` → [`ProfileV1`] as JSON.
const PROFILES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spanwatch.profiles");
const VERSION_KEY: &str = "format";
/// The form that this program writes.
const VERSION: u64 = 1;

/// What can be wrong with a stored baseline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such file.
    #[error("no baseline at {}: make one with 'spanwatch learn CAPTURE... --baseline {}'", .0.display(), .0.display())]
    Missing(PathBuf),
    /// The file is in use.
    #[error("baseline {} is in use by another spanwatch: wait for it, or work on a copy", .0.display())]
    InUse(PathBuf),
    /// The file isn't ours, or is damaged.
    #[error("{} is not a readable baseline ({problem}): restore it from a copy, or move it away and learn anew", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// A later program wrote it.
    #[error("baseline {} has format {found}, this spanwatch reads up to {VERSION}: use the version that wrote it, or a later one", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It could not be written.
    #[error("cannot write baseline {}: {source}; what it held before is unharmed", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<redb::Error>,
    },
}

/// An open, locked baseline file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens a baseline file to update it; makes an empty one if there is none.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| opening(path, error))?;
        Ok(Self {
            path: path.into(),
            database,
        })
    }

    /// Reads the baseline at `path` without changing it.
    pub fn read(path: &Path) -> Result<Baseline, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing(path.into()));
        }
        let database = Database::open(path).map_err(|error| opening(path, error))?;
        let store = Self {
            path: path.into(),
            database,
        };
        store.load()
    }

    /// What the file holds; empty for a new one.
    pub fn load(&self) -> Result<Baseline, StoreError> {
        let damaged = |problem: String| StoreError::Damaged {
            path: self.path.clone(),
            problem,
        };
        let read = self
            .database
            .begin_read()
            .map_err(|error| damaged(error.to_string()))?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Baseline::default()),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let found = meta
            .get(VERSION_KEY)
            .map_err(|error| damaged(error.to_string()))?
            .map_or(0, |value| value.value());
        match found {
            VERSION => {}
            newer if newer > VERSION => {
                return Err(StoreError::Newer {
                    path: self.path.clone(),
                    found: newer,
                });
            }
            other => return Err(damaged(format!("format {other} was never released"))),
        }
        let table = read
            .open_table(PROFILES)
            .map_err(|error| damaged(error.to_string()))?;
        let mut baseline = Baseline::default();
        for entry in table.iter().map_err(|error| damaged(error.to_string()))? {
            let (key, value) = entry.map_err(|error| damaged(error.to_string()))?;
            let workload = parse_key(key.value())
                .ok_or_else(|| damaged(format!("key {:?} names no workload", key.value())))?;
            let stored: ProfileV1 = serde_json::from_slice(value.value())
                .map_err(|error| damaged(format!("profile of {workload}: {error}")))?;
            baseline.insert(workload, stored.into());
        }
        Ok(baseline)
    }

    /// Replaces what the file holds, in one step.
    pub fn save(&self, baseline: &Baseline) -> Result<(), StoreError> {
        self.write(baseline).map_err(|source| StoreError::Write {
            path: self.path.clone(),
            source: Box::new(source),
        })
    }

    fn write(&self, baseline: &Baseline) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            meta.insert(VERSION_KEY, VERSION)?;
            write.delete_table(PROFILES)?;
            let mut table = write.open_table(PROFILES)?;
            for (workload, profile) in baseline.profiles() {
                let json = serde_json::to_vec(&ProfileV1::from(profile))
                    .map_err(|error| redb::Error::Io(io::Error::other(error)))?;
                table.insert(key(workload).as_str(), json.as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

fn opening(path: &Path, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
        other => StoreError::Damaged {
            path: path.into(),
            problem: other.to_string(),
        },
    }
}

fn key(workload: &WorkloadId) -> String {
    let WorkloadId {
        namespace,
        kind,
        name,
    } = workload;
    format!("{namespace}\0{kind}\0{name}")
}

fn parse_key(key: &str) -> Option<WorkloadId> {
    let mut parts = key.split('\0').map(Arc::from);
    Some(WorkloadId {
        namespace: parts.next()?,
        kind: parts.next()?,
        name: parts.next()?,
    })
}

/// A profile as stored, format 1. Times are nanoseconds since the epoch.
#[derive(Serialize, Deserialize)]
struct ProfileV1 {
    first: Option<i64>,
    last: Option<i64>,
    answered: u64,
    failed: u64,
    peers: Vec<PeerV1>,
    domains: Vec<DomainV1>,
    rates: BTreeMap<String, Vec<(u8, u64)>>,
}

#[derive(Serialize, Deserialize)]
struct PeerV1 {
    role: String,
    peer: Arc<str>,
    port: u16,
    protocol: u8,
    first: i64,
    last: i64,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct DomainV1 {
    domain: Arc<str>,
    first: i64,
    last: i64,
    count: u64,
}

impl From<&Profile> for ProfileV1 {
    fn from(profile: &Profile) -> Self {
        let peers = profile.peers.iter().map(|(contact, stat)| PeerV1 {
            role: contact.role.label().into(),
            peer: Arc::clone(&contact.peer),
            port: contact.port,
            protocol: contact.protocol,
            first: stat.first.nanos(),
            last: stat.last.nanos(),
            count: stat.count,
        });
        let domains = profile.domains.iter().map(|(domain, stat)| DomainV1 {
            domain: Arc::clone(domain),
            first: stat.first.nanos(),
            last: stat.last.nanos(),
            count: stat.count,
        });
        let rates = profile
            .rates
            .iter()
            .map(|(rate, histogram)| (rate.name().into(), histogram.counts().to_vec()));
        Self {
            first: profile.span.map(|(first, _)| first.nanos()),
            last: profile.span.map(|(_, last)| last.nanos()),
            answered: profile.answered,
            failed: profile.failed,
            peers: peers.collect(),
            domains: domains.collect(),
            rates: rates.collect(),
        }
    }
}

impl From<ProfileV1> for Profile {
    fn from(stored: ProfileV1) -> Self {
        let stat = |first, last, count| PeerStat {
            first: Timestamp::from_nanos(first),
            last: Timestamp::from_nanos(last),
            count,
        };
        let peers = stored.peers.into_iter().map(|peer| {
            let contact = Contact {
                role: if peer.role == Role::Server.label() {
                    Role::Server
                } else {
                    Role::Client
                },
                peer: peer.peer,
                port: peer.port,
                protocol: peer.protocol,
            };
            (contact, stat(peer.first, peer.last, peer.count))
        });
        let domains = stored
            .domains
            .into_iter()
            .map(|entry| (entry.domain, stat(entry.first, entry.last, entry.count)));
        // A rate that this version doesn't count has no reader here.
        let rates = stored.rates.into_iter().filter_map(|(name, counts)| {
            Rate::from_name(&name).map(|rate| (rate, LogHistogram::from_counts(counts)))
        });
        Self {
            span: stored
                .first
                .zip(stored.last)
                .map(|(first, last)| (Timestamp::from_nanos(first), Timestamp::from_nanos(last))),
            peers: peers.collect(),
            domains: domains.collect(),
            rates: rates.collect(),
            answered: stored.answered,
            failed: stored.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let mut baseline = Baseline::default();
        let workload = WorkloadId {
            namespace: "prod".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        };
        baseline.learn(&workload, |profile| {
            let time = Timestamp::from_secs(1_795_000_000);
            profile.saw(time);
            profile.saw(time.after(std::time::Duration::from_mins(7)));
            profile.answered = 12;
            profile.failed = 1;
            profile.rates.entry(Rate::Flows).or_default().add(3.0);
            profile.ask("example.com".into(), time);
            for role in [Role::Client, Role::Server] {
                let contact = Contact {
                    role,
                    peer: "prod/StatefulSet/db".into(),
                    port: 5432,
                    protocol: 6,
                };
                profile.meet(contact, time);
            }
            true
        });
        baseline
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.redb");
        let store = Store::create(&path).unwrap();
        assert_eq!(store.load().unwrap(), Baseline::default());
        store.save(&baseline()).unwrap();
        drop(store);
        assert_eq!(Store::read(&path).unwrap(), baseline());
    }

    #[test]
    fn a_second_process_is_told_to_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.redb");
        let _held = Store::create(&path).unwrap();
        assert!(matches!(Store::create(&path), Err(StoreError::InUse(_))));
    }

    #[test]
    fn files_that_are_no_baseline_are_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.redb");
        assert!(matches!(Store::read(&path), Err(StoreError::Missing(_))));
        std::fs::write(&path, vec![7; 5000]).unwrap();
        let error = Store::read(&path).unwrap_err().to_string();
        assert!(error.contains("learn anew"), "{error}");
    }

    #[test]
    fn a_file_from_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.redb");
        let store = Store::create(&path).unwrap();
        let write = store.database.begin_write().unwrap();
        write
            .open_table(META)
            .unwrap()
            .insert(VERSION_KEY, 99)
            .unwrap();
        write.commit().unwrap();
        drop(store);
        assert!(matches!(
            Store::read(&path),
            Err(StoreError::Newer { found: 99, .. })
        ));
    }
}
