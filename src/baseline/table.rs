//! What a workload has met, each with how often and when: a bounded table of 24 bytes an entry, from which follows how
//! often it meets something new.

use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::{Equivalent, HashSet};

use super::limits;
use super::surprise;
use crate::time::Timestamp;

/// Sightings within this of one another are one: a page opens six connections, a crawler's page is still one page.
const SLOT: u32 = 10;

/// A name, kept once however many profiles hold it; eight bytes each time.
pub(super) type Name = Arc<Box<str>>;

/// A text by which a name is found.
#[derive(Hash)]
struct Spelling<'a>(&'a str);

impl Equivalent<Name> for Spelling<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        *self.0 == ***name
    }
}

/// Every name of a baseline, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: HashSet<Name, RandomState>,
    bytes: usize,
}

impl Names {
    /// The name of a text; `None` if there is no more room for new ones.
    pub(super) fn get(&mut self, text: &str) -> Option<Name> {
        if let Some(name) = self.names.get(&Spelling(text)) {
            return Some(Arc::clone(name));
        }
        if self.bytes.saturating_add(text.len()) > limits::NAME_BYTES_IN_ALL {
            return None;
        }
        let name: Name = Arc::new(text.into());
        self.bytes += text.len();
        self.names.insert(Arc::clone(&name));
        Some(name)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Forgets the names that nobody else holds.
    pub(super) fn prune(&mut self) {
        self.names.retain(|name| Arc::strong_count(name) > 1);
        self.bytes = self.names.iter().map(|name| name.len()).sum();
    }
}

/// How often something was seen, and when, to the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStat {
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
    /// How often; sightings within ten seconds of one another are one.
    pub count: u64,
}

/// What an entry is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key<'a> {
    pub(super) name: &'a str,
    pub(super) port: u16,
    pub(super) protocol: u8,
}

impl<'a> Key<'a> {
    /// The key of a word, which has neither port nor protocol.
    pub(super) const fn word(name: &'a str) -> Self {
        Self {
            name,
            port: 0,
            protocol: 0,
        }
    }
}

/// One thing met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) count: u32,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) port: u16,
    pub(super) protocol: u8,
}

impl Entry {
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            name: &self.name,
            port: self.port,
            protocol: self.protocol,
        }
    }

    pub(super) fn stat(&self) -> PeerStat {
        PeerStat {
            first: from_seconds(self.first),
            last: from_seconds(self.last),
            count: u64::from(self.count),
        }
    }

    /// Takes in what another saw of the same thing.
    fn join(&mut self, other: &Self) {
        // Where the one ends in the slot in which the other begins, that sighting is counted twice.
        let shared =
            self.last / SLOT == other.first / SLOT || other.last / SLOT == self.first / SLOT;
        self.count = self
            .count
            .saturating_add(other.count)
            .saturating_sub(u32::from(shared))
            .max(1);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Whether something was known, or could be taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Known,
    Added,
    NoRoom,
}

/// Things met, sorted by key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Sightings of what found no room.
    unlisted: u64,
}

impl Table {
    /// A table from its parts. Entries may come in any order; of equal ones the first stays.
    pub(super) fn new(mut entries: Vec<Entry>, unlisted: u64) -> Self {
        if !entries.is_sorted_by(|a, b| a.key() < b.key()) {
            entries.sort_by(|a, b| a.key().cmp(&b.key()));
            entries.dedup_by(|b, a| a.key() == b.key());
        }
        Self { entries, unlisted }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unlisted == 0
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    pub(super) const fn unlisted(&self) -> u64 {
        self.unlisted
    }

    pub(super) fn get(&self, key: Key<'_>) -> Option<&Entry> {
        let at = self.find(key).ok()?;
        self.entries.get(at)
    }

    fn find(&self, key: Key<'_>) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(&key))
    }

    /// Sees something. `name` is asked for only if it is new.
    pub(super) fn see(
        &mut self,
        key: Key<'_>,
        time: Timestamp,
        limit: usize,
        name: impl FnOnce() -> Option<Name>,
    ) -> Taken {
        let now = seconds(time);
        match self.find(key) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    if now / SLOT != entry.last / SLOT && now > entry.last {
                        entry.count = entry.count.saturating_add(1);
                    }
                    entry.first = entry.first.min(now);
                    entry.last = entry.last.max(now);
                }
                Taken::Known
            }
            Err(at) => {
                let name = (self.entries.len() < limit).then(name).flatten();
                let Some(name) = name else {
                    self.unlisted = self.unlisted.saturating_add(1);
                    return Taken::NoRoom;
                };
                let entry = Entry {
                    name,
                    count: 1,
                    first: now,
                    last: now,
                    port: key.port,
                    protocol: key.protocol,
                };
                self.entries.insert(at, entry);
                Taken::Added
            }
        }
    }

    /// Takes in another table. Of more than `limit` new things, those seen most stay. Entries added; and those that found
    /// no room.
    pub(super) fn merge(&mut self, other: &Self, limit: usize) -> (usize, usize) {
        self.unlisted = self.unlisted.saturating_add(other.unlisted);
        let mut new: Vec<&Entry> = Vec::new();
        for theirs in &other.entries {
            match self.find(theirs.key()) {
                Ok(at) => {
                    if let Some(ours) = self.entries.get_mut(at) {
                        ours.join(theirs);
                    }
                }
                Err(_) => new.push(theirs),
            }
        }
        let room = limit.saturating_sub(self.entries.len());
        let dropped = new.len().saturating_sub(room);
        if dropped > 0 {
            new.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key().cmp(&b.key())));
            for lost in new.drain(room..) {
                self.unlisted = self.unlisted.saturating_add(u64::from(lost.count));
            }
        }
        let added = new.len();
        self.entries.extend(new.into_iter().cloned());
        if added > 0 {
            self.entries.sort_by(|a, b| a.key().cmp(&b.key()));
        }
        (added, dropped)
    }

    /// Forgets the entries for which `keep` says so; how many those were.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(keep);
        before - self.entries.len()
    }

    pub(super) fn names_mut(&mut self) -> impl Iterator<Item = &mut Name> {
        self.entries.iter_mut().map(|entry| &mut entry.name)
    }

    /// Gives back memory that is held for growth.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Sightings in all.
    pub(super) fn sightings(&self) -> u64 {
        let listed: u64 = self
            .entries
            .iter()
            .map(|entry| u64::from(entry.count))
            .sum();
        listed.saturating_add(self.unlisted)
    }

    /// Things seen once only. What found no room may have been seen before; it counts as new, so that a full table is
    /// surprised by less and never by more.
    pub(super) fn once(&self) -> u64 {
        let once = self.entries.iter().filter(|entry| entry.count == 1).count() as u64;
        once.saturating_add(self.unlisted)
    }

    /// Bits of surprise at something new: Good–Turing.
    pub(super) fn novelty_bits(&self) -> f64 {
        surprise::novelty_bits(self.sightings(), self.once())
    }

    /// First and last sighting of what is listed.
    pub(super) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.entries.iter().map(|entry| entry.first).min()?;
        let last = self.entries.iter().map(|entry| entry.last).max()?;
        Some((from_seconds(first), from_seconds(last)))
    }
}

/// Whole seconds of a stamp, within what 32 bits hold (1970 to 2106).
pub(super) fn seconds(time: Timestamp) -> u32 {
    let seconds = time.nanos().div_euclid(1_000_000_000);
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}

/// The stamp of whole seconds.
pub(super) fn from_seconds(seconds: u32) -> Timestamp {
    Timestamp::from_secs(i64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn see(table: &mut Table, name: &str, at: i64, limit: usize) -> Taken {
        let time = Timestamp::from_secs(at);
        table.see(Key::word(name), time, limit, || Some(Arc::new(name.into())))
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn a_burst_is_one_sighting() {
        let mut table = Table::default();
        for at in [100, 101, 105, 109, 110, 125] {
            see(&mut table, "a", at, 10);
        }
        assert_eq!(table.sightings(), 3);
        let stat = table.get(Key::word("a")).unwrap().stat();
        assert_eq!(stat.last.since(stat.first).as_secs(), 25);
    }

    #[test]
    fn a_full_table_counts_what_it_cannot_list() {
        let mut table = Table::default();
        for at in 0..50 {
            see(&mut table, &at.to_string(), at * 10, 10);
        }
        assert_eq!((table.len(), table.unlisted()), (10, 40));
        assert_eq!((table.sightings(), table.once()), (50, 50));
        assert!(table.novelty_bits() < 0.1, "it meets new ones all the time");
        assert_eq!(see(&mut table, "0", 9000, 10), Taken::Known);
    }

    #[test]
    fn names_are_bounded_and_pruned() {
        let mut names = Names::default();
        let kept = names.get("kept").unwrap();
        assert!(Arc::ptr_eq(&kept, &names.get("kept").unwrap()));
        names.get("dropped").unwrap();
        names.prune();
        assert_eq!((names.names.len(), names.bytes), (1, 4));
        names.bytes = limits::NAME_BYTES_IN_ALL;
        assert!(names.get("no more").is_none());
        assert!(names.get("kept").is_some());
    }

    proptest! {
        #[test]
        fn merging_is_learning_on(
            first in prop::collection::vec((0_u8..20, 0_i64..500), 0..60),
            second in prop::collection::vec((0_u8..20, 500_i64..1000), 0..60),
        ) {
            let of = |sightings: &[(u8, i64)]| {
                let mut table = Table::default();
                let mut sightings = sightings.to_vec();
                sightings.sort_by_key(|&(_, at)| at);
                for (name, at) in sightings { see(&mut table, &name.to_string(), at, 100); }
                table
            };
            let mut merged = of(&first);
            merged.merge(&of(&second), 100);
            prop_assert_eq!(merged, of(&[first, second].concat()));
        }

        #[test]
        fn no_keys_grow_a_table_beyond_its_limit(names in prop::collection::vec("[a-z]{1,3}", 0..300), limit in 0_usize..40) {
            let mut table = Table::default();
            let mut other = Table::default();
            for (at, name) in (0..).zip(&names) {
                see(if at % 2 == 0 { &mut table } else { &mut other }, name, at, limit);
            }
            table.merge(&other, limit);
            prop_assert!(table.len() <= limit);
            prop_assert!(table.novelty_bits() >= 0.0);
            prop_assert!(table.entries.is_sorted_by(|a, b| a.key() < b.key()));
        }
    }
}
