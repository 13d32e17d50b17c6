//! Records that their receiver hasn't taken yet, in a file: numbered, in order, there again after a crash.
//!
//! Owns the file (redb, locked while open, each change one transaction). Knows nothing of receivers.

use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle,
};

/// Number → record.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("spanwatch.spool.1");
/// Bytes of the file kept in memory: what is written once, is read once.
const CACHE: usize = 1 << 20;

/// Why records can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The file is in use.
    #[error("{} is in use by another spanwatch: give each a spool of its own", .0.display())]
    InUse(PathBuf),
    /// The file isn't ours, or is damaged.
    #[error("{} is no spool of alerts ({problem}): name another file, or move it away to go on without what waits in it", .path.display())]
    Damaged {
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

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    /// None after a failure: the next change opens it anew.
    database: Option<Database>,
}

impl Spool {
    /// Opens a spool, or makes one, and reads what waits in it.
    ///
    /// # Errors
    /// When the file is in use, is something else, or can't be read or made.
    pub fn open(path: &Path) -> Result<(Self, Vec<Numbered>), SpoolError> {
        let database = open(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => SpoolError::InUse(path.to_owned()),
            other => damaged(path, &other),
        })?;
        let waiting = read(&database).map_err(|error| damaged(path, &error))?;
        let spool = Self {
            path: path.to_owned(),
            database: Some(database),
        };
        Ok((spool, waiting))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets the records below `floor` and adds others, both or neither. It is on disk when this returns.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn change<'r>(
        &mut self,
        floor: u64,
        new: impl Iterator<Item = (u64, &'r [u8])>,
    ) -> Result<(), SpoolError> {
        let changed = self.attempt(floor, new);
        changed.map_err(|source| {
            // Nothing can be done with it after a failure but to open it anew.
            self.database = None;
            SpoolError::Write {
                path: self.path.clone(),
                source: Box::new(source),
            }
        })
    }

    fn attempt<'r>(
        &mut self,
        floor: u64,
        new: impl Iterator<Item = (u64, &'r [u8])>,
    ) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let write = self.database.insert(database).begin_write()?;
        {
            let mut records = write.open_table(RECORDS)?;
            records.retain_in(..floor, |_, _| false)?;
            for (number, record) in new {
                records.insert(number, record)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
impl Spool {
    /// Has to be opened anew, elsewhere.
    pub(crate) fn lose(&mut self, path: &Path) {
        self.database = None;
        path.clone_into(&mut self.path);
    }
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

fn read(database: &Database) -> Result<Vec<Numbered>, redb::Error> {
    let read = database.begin_read()?;
    if let Some(other) = read
        .list_tables()?
        .find(|table| table.name() != RECORDS.name())
    {
        let problem = format!("it holds {}", other.name());
        return Err(redb::Error::Corrupted(problem));
    }
    let records = match read.open_table(RECORDS) {
        Ok(records) => records,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut waiting = Vec::new();
    for entry in records.iter()? {
        let (number, record) = entry?;
        waiting.push((number.value(), record.value().to_vec()));
    }
    Ok(waiting)
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> SpoolError {
    SpoolError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    }
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

    fn add(spool: &mut Spool, floor: u64, new: &[Numbered]) {
        let new = new.iter().map(|(number, record)| (*number, &**record));
        spool.change(floor, new).unwrap();
    }

    #[test]
    fn what_waits_is_there_again_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let (mut spool, waiting) = Spool::open(&path).unwrap();
        assert_eq!(waiting, []);
        add(&mut spool, 0, &records(0..300));
        add(&mut spool, 120, &records(300..310));
        assert!(matches!(Spool::open(&path), Err(SpoolError::InUse(_))));
        drop(spool);
        let (mut spool, waiting) = Spool::open(&path).unwrap();
        assert_eq!(waiting, records(120..310));
        add(&mut spool, 310, &[]);
        drop(spool);
        assert_eq!(Spool::open(&path).unwrap().1, []);
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
            Spool::open(&path),
            Err(SpoolError::Damaged { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let path = folder.path().join("baseline");
        Store::create(&path)
            .unwrap()
            .save(&crate::baseline::Baseline::default())
            .unwrap();
        let error = Spool::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("no spool of alerts") && error.contains("spanwatch.meta"),
            "{error}"
        );
        assert!(Store::read(&path).is_ok());
    }
}
