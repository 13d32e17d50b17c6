//! Numbered records in a file, there again after a crash: alerts that their receiver hasn't taken yet, or that are open.
//!
//! Owns the file (redb, locked while open, each change one transaction). Knows nothing of what is in them.

use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle,
};

/// What a file is for; one can't be taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Alerts to be sent, by number in the order of telling.
    Spool,
    /// Attacks that go on, by the alert's id.
    State,
}

impl Purpose {
    /// Number → record.
    const fn table(self) -> TableDefinition<'static, u64, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Spool => "spanwatch.spool.1",
            Self::State => "spanwatch.state.1",
        })
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Spool => "spool of alerts",
            Self::State => "state of a live run",
        }
    }
}
/// Bytes of the file kept in memory: what is written once, is read once.
const CACHE: usize = 1 << 20;

/// Why records can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The file is in use.
    #[error("{} is in use by another spanwatch: give each a file of its own", .0.display())]
    InUse(PathBuf),
    /// The file isn't ours, or is damaged.
    #[error("{} is no {} ({problem}): name another file, or move it away to go on without what was in it", .path.display(), .purpose.label())]
    Damaged {
        /// What it should be.
        purpose: Purpose,
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// It could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<redb::Error>,
    },
}

/// A record and its number.
pub type Numbered = (u64, Vec<u8>);

/// An open file.
#[derive(Debug)]
pub struct Records {
    purpose: Purpose,
    path: PathBuf,
    /// None after a failure: the next change opens it anew.
    database: Option<Database>,
}

impl Records {
    /// Opens a file, or makes one, and reads what is in it, in the order of the numbers.
    ///
    /// # Errors
    /// When the file is in use, is something else, or can't be read or made.
    pub fn open(path: &Path, purpose: Purpose) -> Result<(Self, Vec<Numbered>), RecordsError> {
        let damaged = |error: &dyn std::error::Error| RecordsError::Damaged {
            purpose,
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let database = open(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => RecordsError::InUse(path.to_owned()),
            other => damaged(&other),
        })?;
        let found = read(&database, purpose).map_err(|error| damaged(&error))?;
        let records = Self {
            purpose,
            path: path.to_owned(),
            database: Some(database),
        };
        Ok((records, found))
    }

    /// Forgets the records below `floor` and those of `gone`, and adds others or puts them in their place: all of it or nothing. It
    /// is on disk when this returns.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn change<'r>(
        &mut self,
        floor: u64,
        gone: &[u64],
        new: impl Iterator<Item = (u64, &'r [u8])>,
    ) -> Result<(), RecordsError> {
        let changed = self.attempt(floor, gone, new);
        changed.map_err(|source| {
            // Nothing can be done with it after a failure but to open it anew.
            self.database = None;
            RecordsError::Write {
                path: self.path.clone(),
                source: Box::new(source),
            }
        })
    }

    fn attempt<'r>(
        &mut self,
        floor: u64,
        gone: &[u64],
        new: impl Iterator<Item = (u64, &'r [u8])>,
    ) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let write = self.database.insert(database).begin_write()?;
        {
            let mut records = write.open_table(self.purpose.table())?;
            records.retain_in(..floor, |_, _| false)?;
            for number in gone {
                records.remove(number)?;
            }
            for (number, record) in new {
                records.insert(number, record)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
impl Records {
    /// Has to be opened anew, elsewhere.
    pub(crate) fn lose(&mut self, path: &Path) {
        self.database = None;
        path.clone_into(&mut self.path);
    }
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

fn read(database: &Database, purpose: Purpose) -> Result<Vec<Numbered>, redb::Error> {
    let read = database.begin_read()?;
    let table = purpose.table();
    if let Some(other) = read
        .list_tables()?
        .find(|other| other.name() != table.name())
    {
        let problem = format!("it holds {}", other.name());
        return Err(redb::Error::Corrupted(problem));
    }
    let records = match read.open_table(table) {
        Ok(records) => records,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in records.iter()? {
        let (number, record) = entry?;
        found.push((number.value(), record.value().to_vec()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Store;

    fn records(numbers: std::ops::Range<u64>) -> Vec<Numbered> {
        numbers
            .map(|n| (n, format!("record {n}").into_bytes()))
            .collect()
    }

    fn add(spool: &mut Records, floor: u64, new: &[Numbered]) {
        let new = new.iter().map(|(number, record)| (*number, &**record));
        spool.change(floor, &[7, 9999], new).unwrap();
    }

    #[test]
    fn what_waits_is_there_again_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let (mut spool, waiting) = Records::open(&path, Purpose::Spool).unwrap();
        assert_eq!(waiting, []);
        add(&mut spool, 0, &records(0..300));
        add(&mut spool, 120, &records(300..310));
        assert!(matches!(
            Records::open(&path, Purpose::Spool),
            Err(RecordsError::InUse(_))
        ));
        drop(spool);
        let (mut spool, waiting) = Records::open(&path, Purpose::Spool).unwrap();
        assert_eq!(waiting, records(120..310));
        add(&mut spool, 310, &[]);
        drop(spool);
        assert_eq!(Records::open(&path, Purpose::Spool).unwrap().1, []);
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(
            &path,
            "somebody's notes, longer than any header of a database is".repeat(99),
        )
        .unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(
            Records::open(&path, Purpose::Spool),
            Err(RecordsError::Damaged { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let path = folder.path().join("baseline");
        Store::create(&path)
            .unwrap()
            .save(&crate::baseline::Baseline::default())
            .unwrap();
        let error = Records::open(&path, Purpose::Spool)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no spool of alerts") && error.contains("it holds spanwatch."),
            "{error}"
        );
        assert!(Store::read(&path).is_ok());

        // A spool is no state.
        let path = folder.path().join("spool");
        add(
            &mut Records::open(&path, Purpose::Spool).unwrap().0,
            0,
            &records(0..1),
        );
        let error = Records::open(&path, Purpose::State)
            .unwrap_err()
            .to_string();
        assert!(error.contains("is no state of a live run"), "{error}");
    }
}
