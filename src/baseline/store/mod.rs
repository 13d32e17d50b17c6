//! The baseline on disk: one crash-safe file (redb), a profile per workload, in a versioned form of its own.
//!
//! The file is locked while open, so two processes can't corrupt it. Everything is written in one transaction: after a
//! crash the file holds either the old baseline or the new one.

mod v1;
mod v2;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError,
};

use super::Baseline;
use super::learner::SheetKey;
use crate::identity::WorkloadId;

/// Facts about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("spanwatch.meta");
/// `namespace NUL kind NUL name` → profile as of format 1.
const PROFILES_1: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spanwatch.profiles");
/// The same as of format 2.
const PROFILES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spanwatch.profiles.2");
/// Number → piece of the list of names.
const NAMES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("spanwatch.names.2");
/// `time NUL address NUL namespace NUL kind NUL name` → what is held back of a pod, as a profile of format 2.
const HELD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spanwatch.held.2");
/// `namespace NUL kind NUL name` → when its rates were too high to be learned. A file from before there was any has no table
/// of it, and a program from then passes it over.
const STEPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spanwatch.steps.2");
const VERSION_KEY: &str = "format";
const PROFILES_KEY: &str = "profiles";
const NAMES_KEY: &str = "names";
/// The form that this program writes.
const VERSION: u64 = 2;
/// Memory for pages of the file. Each is read once, and written once, so that more would only be held for nothing.
const READ_CACHE_BYTES: usize = 1 << 20;
const WRITE_CACHE_BYTES: usize = 8 << 20;

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
    #[error("cannot write baseline {}, what it held before is unharmed", .path.display())]
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
        let database = guarded(path, || {
            let database = builder(WRITE_CACHE_BYTES).create(path);
            database.map_err(|error| opening(path, error))
        })?;
        Ok(Self {
            path: path.into(),
            database,
        })
    }

    /// An error if there is no file to change.
    pub fn exists(path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            Ok(())
        } else {
            Err(StoreError::Missing(path.into()))
        }
    }

    /// Reads the baseline at `path` without changing it. Any number of readers may at a time.
    pub fn read(path: &Path) -> Result<Baseline, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing(path.into()));
        }
        guarded(path, || Self::read_whole(path))
    }

    fn read_whole(path: &Path) -> Result<Baseline, StoreError> {
        let database = match builder(READ_CACHE_BYTES).open_read_only(path) {
            // Whoever wrote last was stopped in the middle of it: opened for writing, the file puts itself right.
            Err(DatabaseError::RepairAborted) => {
                drop(
                    builder(WRITE_CACHE_BYTES)
                        .open(path)
                        .map_err(|error| opening(path, error))?,
                );
                builder(READ_CACHE_BYTES).open_read_only(path)
            }
            opened => opened,
        };
        let database = database.map_err(|error| opening(path, error))?;
        let read = database
            .begin_read()
            .map_err(|error| damaged(path, &error))?;
        load(&read, false).map_err(|problem| problem.of(path))
    }

    /// What the file holds; empty for a new one.
    pub fn load(&self) -> Result<Baseline, StoreError> {
        self.load_with(false)
    }

    /// The same with what the last writer held back, if it saved a snapshot and no end of its run: for whoever goes on in its
    /// place and knows the alerts that cover some of it.
    pub fn resume(&self) -> Result<Baseline, StoreError> {
        self.load_with(true)
    }

    fn load_with(&self, held: bool) -> Result<Baseline, StoreError> {
        guarded(&self.path, || {
            let read = self.database.begin_read();
            let read = read.map_err(|error| damaged(&self.path, &error))?;
            load(&read, held).map_err(|problem| problem.of(&self.path))
        })
    }

    /// Replaces what the file holds, in one step.
    pub fn save(&self, baseline: &Baseline) -> Result<(), StoreError> {
        self.write(baseline).map_err(|source| StoreError::Write {
            path: self.path.clone(),
            source: Box::new(source),
        })
    }

    fn write(&self, baseline: &Baseline) -> Result<(), redb::Error> {
        let encoding = |Problem(problem)| redb::Error::Io(io::Error::other(problem));
        let write = self.database.begin_write()?;
        {
            write.delete_table(PROFILES_1)?;
            write.delete_table(PROFILES)?;
            write.delete_table(NAMES)?;
            write.delete_table(HELD)?;
            write.delete_table(STEPS)?;
            let mut numbering = v2::Numbering::default();
            let mut profiles = write.open_table(PROFILES)?;
            for (workload, profile) in baseline.profiles() {
                let value = v2::write(profile, &mut numbering).map_err(encoding)?;
                profiles.insert(key(workload).as_str(), value.as_slice())?;
            }
            let mut steps = write.open_table(STEPS)?;
            for (workload, profile) in baseline.profiles() {
                if let Some(value) = v2::write_steps(profile) {
                    let value = value.map_err(encoding)?;
                    steps.insert(key(workload).as_str(), value.as_slice())?;
                }
            }
            let mut held = write.open_table(HELD)?;
            for (at, sheet) in &baseline.held {
                let value = v2::write(sheet, &mut numbering).map_err(encoding)?;
                held.insert(held_key(at).as_str(), value.as_slice())?;
            }
            let mut names = write.open_table(NAMES)?;
            for (number, piece) in (0..).zip(numbering.pieces()) {
                names.insert(number, piece.map_err(encoding)?.as_slice())?;
            }
            let mut meta = write.open_table(META)?;
            meta.insert(VERSION_KEY, VERSION)?;
            meta.insert(PROFILES_KEY, baseline.profiles().len() as u64)?;
            meta.insert(NAMES_KEY, numbering.len() as u64)?;
        }
        write.commit()?;
        Ok(())
    }
}

/// Reads what may be damaged: redb takes pages for what it wrote itself, and panics over some that are not.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let read = std::panic::AssertUnwindSafe(read);
    std::panic::catch_unwind(read).unwrap_or_else(|_| {
        Err(StoreError::Damaged {
            path: path.into(),
            problem: "its pages are damaged".to_owned(),
        })
    })
}

fn builder(cache: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache);
    builder
}

/// What is wrong with the content of a file.
#[derive(Debug)]
struct Problem(String);

/// What keeps a file from being read.
enum Unreadable {
    Damaged(String),
    Newer(u64),
}

impl Unreadable {
    fn of(self, path: &Path) -> StoreError {
        let path = path.to_path_buf();
        match self {
            Self::Damaged(problem) => StoreError::Damaged { path, problem },
            Self::Newer(found) => StoreError::Newer { path, found },
        }
    }
}

impl From<Problem> for Unreadable {
    fn from(Problem(problem): Problem) -> Self {
        Self::Damaged(problem)
    }
}

macro_rules! damage {
    ($($error:ty),+) => {$(
        impl From<$error> for Unreadable {
            fn from(error: $error) -> Self {
                Self::Damaged(error.to_string())
            }
        }
    )+};
}

damage!(redb::StorageError, TableError);

fn load(read: &ReadTransaction, held: bool) -> Result<Baseline, Unreadable> {
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Baseline::default()),
        Err(error) => return Err(error.into()),
    };
    let fact = |key: &str| -> Result<u64, Unreadable> {
        Ok(meta.get(key)?.map_or(0, |value| value.value()))
    };
    let mut baseline = Baseline::default();
    match fact(VERSION_KEY)? {
        1 => {
            for entry in read.open_table(PROFILES_1)?.iter()? {
                let (key, value) = entry?;
                v1::read(&mut baseline, parse_key(key.value())?, value.value())?;
            }
        }
        VERSION => {
            let mut names = v2::Numbered::default();
            for entry in read.open_table(NAMES)?.iter()? {
                let (_, piece) = entry?;
                names.read(&mut baseline, piece.value())?;
            }
            count("names", names.len(), fact(NAMES_KEY)?)?;
            for entry in read.open_table(PROFILES)?.iter()? {
                let (key, value) = entry?;
                let workload = parse_key(key.value())?;
                v2::read(&mut baseline, workload, value.value(), &names)?;
            }
            read_steps(read, &mut baseline)?;
            count("profiles", baseline.profiles().len(), fact(PROFILES_KEY)?)?;
            if held {
                hold(read, &mut baseline, &names)?;
            }
        }
        newer if newer > VERSION => return Err(Unreadable::Newer(newer)),
        other => {
            return Err(Unreadable::Damaged(format!(
                "format {other} was never released"
            )));
        }
    }
    Ok(baseline)
}

fn read_steps(read: &ReadTransaction, baseline: &mut Baseline) -> Result<(), Unreadable> {
    let table = match read.open_table(STEPS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let steps = v2::read_steps(value.value())?;
        // One that an older program has forgotten since is no workload of ours any more.
        if let Some(profile) = baseline.profiles.get_mut(&parse_key(key.value())?) {
            Arc::make_mut(profile).steps = steps;
        }
    }
    Ok(())
}

/// Reads what is held back. A file from before there was any has no table of it.
fn hold(
    read: &ReadTransaction,
    baseline: &mut Baseline,
    names: &v2::Numbered,
) -> Result<(), Unreadable> {
    let table = match read.open_table(HELD) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let sheet = v2::read_sheet(value.value(), names)?;
        baseline
            .held
            .insert(parse_held_key(key.value())?, Arc::new(sheet));
    }
    Ok(())
}

fn count(what: &str, found: usize, told: u64) -> Result<(), Problem> {
    if found as u64 == told {
        Ok(())
    } else {
        Err(Problem(format!("{found} of {told} {what}")))
    }
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged {
        path: path.into(),
        problem: error.to_string(),
    }
}

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
        other => damaged(path, &other),
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

fn parse_key(key: &str) -> Result<WorkloadId, Problem> {
    let mut parts = key.split('\0').map(Arc::from);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(kind), Some(name), None) => Ok(WorkloadId {
            namespace,
            kind,
            name,
        }),
        _ => Err(Problem(format!("key {key:?} names no workload"))),
    }
}

fn held_key((time, ip, workload): &SheetKey) -> String {
    format!("{time}\0{ip}\0{}", key(workload))
}

fn parse_held_key(text: &str) -> Result<SheetKey, Problem> {
    let parse = || {
        let (time, rest) = text.split_once('\0')?;
        let (ip, workload) = rest.split_once('\0')?;
        Some((time.parse().ok()?, ip.parse().ok()?, workload))
    };
    let (time, ip, workload) =
        parse().ok_or_else(|| Problem(format!("key {text:?} names no pod")))?;
    Ok((time, ip, parse_key(workload)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::profile::Accepted;
    use super::super::testing::{Making, at, contact, id};
    use super::*;
    use crate::features::{Contact, Rate, Role, Vocabulary};

    fn baseline() -> Baseline {
        let mut making = Making::default();
        let (web, db) = (id("prod", "web"), id("prod", "db"));
        for at in 0..20 {
            making.meets(&web, &contact("prod/StatefulSet/db"), at * 4000);
            making.meets(
                &db,
                &Contact {
                    role: Role::Server,
                    ..contact("external")
                },
                at * 100,
            );
        }
        making.minutes(&web, Rate::BytesOut, 30, 1e6);
        let mut baseline = making.done();
        baseline.change(&web, |profile, names| {
            for (vocabulary, word) in Vocabulary::all().zip(["a", "b", "c", "d"]) {
                profile
                    .client
                    .say(vocabulary, word, at(7), || names.get(word));
            }
            let peer = contact("prod/StatefulSet/db");
            profile
                .client
                .flow(&peer, 5000, 70_000, Duration::from_secs(3));
            profile.client.failed = 2;
            profile.steps.insert(Rate::BytesOut, vec![498_000, 498_024]);
            for revision in ["7d4b9c6f5", "86bdf5cd48"] {
                profile.run(&names.get(revision).unwrap(), at(9));
            }
            profile.accept(Accepted {
                alert: "0123456789abcdef".to_owned(),
                signature: "port-scan".to_owned(),
                targets: vec!["prod/StatefulSet/db 5432".to_owned()],
                target_count: 1,
                reason: "the blackbox exporter".to_owned(),
                time: at(11),
            });
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
    fn what_is_held_back_is_there_for_whoever_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("b.redb")).unwrap();
        assert!(store.resume().unwrap().held.is_empty());
        let mut snapshot = baseline();
        let web = id("prod", "web");
        // Steps are the baseline's, and no sheet has any.
        let mut sheet = snapshot.profiles[&web].as_ref().clone();
        sheet.steps.clear();
        let sheet = Arc::new(sheet);
        for (time, ip) in [(-3, "10.0.0.7"), (7, "10.0.0.7"), (7, "fd00::1")] {
            let key = (time, ip.parse().unwrap(), web.clone());
            snapshot.held.insert(key, Arc::clone(&sheet));
        }
        store.save(&snapshot).unwrap();
        let resumed = store.resume().unwrap();
        assert_eq!(resumed, snapshot);
        assert_eq!(resumed.held, snapshot.held);
        // Others don't see it, and what they save has none.
        let loaded = store.load().unwrap();
        assert!(loaded.held.is_empty());
        store.save(&loaded).unwrap();
        assert!(store.resume().unwrap().held.is_empty());
    }

    #[test]
    fn a_file_whose_writer_was_killed_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, left) = (dir.path().join("b.redb"), dir.path().join("left.redb"));
        let store = Store::create(&path).unwrap();
        store.save(&baseline()).unwrap();
        // While it is open, it is on disk as a kill leaves it.
        std::fs::copy(&path, &left).unwrap();
        assert!(matches!(
            builder(READ_CACHE_BYTES).open_read_only(&left),
            Err(DatabaseError::RepairAborted)
        ));
        assert_eq!(Store::read(&left).unwrap(), baseline());
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
