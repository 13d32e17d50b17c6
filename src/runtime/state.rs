//! The state file: attacks that go on, as another run can go on with them. Written by the delivery thread before they are told.

use std::collections::BTreeMap;
use std::path::Path;

use tracing::{error, info, warn};

use crate::alert::Kept;
use crate::sinks::{Purpose, Records, RecordsError};

/// Changes that wait for a disk that can't be written, at most; there are no more attacks at a time.
const MOST_PENDING: usize = 8192;

/// Attacks in a file.
#[derive(Debug)]
pub struct State {
    records: Records,
    found: Vec<(String, Vec<u8>)>,
    pending: BTreeMap<u64, Option<Vec<u8>>>,
    failing: bool,
}

impl State {
    /// Opens the file, or makes it, and reads what an earlier run left.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let (records, found) = Records::open(path, Purpose::State)?;
        let found = found.into_iter();
        Ok(Self {
            records,
            found: found.map(|(number, one)| (name(number), one)).collect(),
            pending: BTreeMap::new(),
            failing: false,
        })
    }

    /// What an earlier run left, once.
    pub(super) fn take(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.found)
    }

    /// Writes what changed; whether that went well. What can't be written waits for the next time.
    pub(super) fn write(&mut self, changes: Vec<Kept>) -> bool {
        for (id, attack) in changes {
            if let Some(number) = number(&id)
                && (self.pending.len() < MOST_PENDING || self.pending.contains_key(&number))
            {
                self.pending.insert(number, attack);
            }
        }
        let gone = self.pending.iter().filter(|(_, attack)| attack.is_none());
        let gone: Vec<u64> = gone.map(|(number, _)| *number).collect();
        let new = self.pending.iter();
        let new = new.filter_map(|(number, attack)| Some((*number, attack.as_deref()?)));
        match self.records.change(0, &gone, new) {
            Ok(()) => {
                self.pending.clear();
                if std::mem::take(&mut self.failing) {
                    info!("open alerts are kept again");
                }
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.failing, true) {
                    error!("open alerts are not kept over a restart: {problem}");
                }
            }
        }
        !self.failing
    }
}

/// Tells what became of the attacks of an earlier run.
pub(super) fn tell(found: usize, unread: &[String]) {
    if found > unread.len() {
        info!("{} alerts of an earlier run go on", found - unread.len());
    }
    if !unread.is_empty() {
        warn!(
            "alerts of an earlier run that this one can't go on with: {}",
            unread.join(", ")
        );
    }
}

/// An alert's id is a number of 64 bits.
fn number(id: &str) -> Option<u64> {
    u64::from_str_radix(id, 16).ok()
}

fn name(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, attack: Option<&str>) -> Kept {
        (id.to_owned(), attack.map(Into::into))
    }

    #[test]
    fn what_changed_is_there_again_under_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = State::open(&path).unwrap();
        state.write(vec![
            kept("00000000000000ff", Some("a")),
            kept("ffffffffffffffff", Some("b")),
        ]);
        state.write(vec![
            kept("00000000000000ff", Some("c")),
            kept("ffffffffffffffff", None),
            kept("1234567812345678", None),
        ]);
        drop(state);
        let mut state = State::open(&path).unwrap();
        assert_eq!(
            state.take(),
            [("00000000000000ff".to_owned(), b"c".to_vec())]
        );

        // A disk that can't be written is made up for.
        let elsewhere = folder.path().join("gone/state");
        state.records.lose(&elsewhere);
        state.write(vec![kept("01", Some("d"))]);
        assert!(state.failing);
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        state.write(vec![kept("02", Some("e"))]);
        drop(state);
        assert_eq!(State::open(&elsewhere).unwrap().take().len(), 2);
    }
}
