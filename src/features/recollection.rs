//! A bounded table of what was learned once: the oldest goes first, so that a replay forgets alike.
//!
//! Keys are kept as 64-bit hashes under a random seed, so a long key costs no more than a short one, and nobody can choose
//! keys that collide; by chance two of a million keys do once in some ten million runs.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Values under hashed keys, in the order of their coming.
#[derive(Debug)]
pub(super) struct Recollection<V> {
    /// Places in the list.
    table: HashTable<u32>,
    /// Grows to its bound; then the newest takes the place of the oldest.
    held: Vec<(u64, V)>,
    oldest: usize,
    hasher: RandomState,
    max: usize,
    forgotten: u64,
}

impl<V> Recollection<V> {
    /// Remembers at most `max` values.
    pub(super) fn new(max: usize) -> Self {
        Self {
            table: HashTable::new(),
            held: Vec::new(),
            oldest: 0,
            hasher: RandomState::default(),
            max,
            forgotten: 0,
        }
    }

    /// The value under a key, and whether it had to be made.
    pub(super) fn entry<K: Hash>(&mut self, key: &K, value: impl FnOnce() -> V) -> (&mut V, bool) {
        let hash = self.hasher.hash_one(key);
        if let Some(at) = self.find(hash) {
            return (&mut self.held[at].1, false);
        }
        let new = (hash, value());
        let at = if self.held.len() < self.max {
            self.held.push(new);
            self.held.len() - 1
        } else {
            let at = self.oldest;
            let (gone, _) = std::mem::replace(&mut self.held[at], new);
            if let Ok(place) = self.table.find_entry(gone, |held| *held as usize == at) {
                place.remove();
            }
            self.forgotten += 1;
            self.oldest = (at + 1) % self.max;
            at
        };
        let held = &self.held;
        let hash_of = |at: &u32| held[*at as usize].0;
        self.table.insert_unique(hash, at as u32, hash_of);
        (&mut self.held[at].1, true)
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let is = |at: &u32| self.held[*at as usize].0 == hash;
        self.table.find(hash, is).map(|at| *at as usize)
    }

    /// The value under a key.
    pub(super) fn get<K: Hash>(&self, key: &K) -> Option<&V> {
        let at = self.find(self.hasher.hash_one(key))?;
        Some(&self.held[at].1)
    }

    /// The value under a key, to be changed.
    pub(super) fn get_mut<K: Hash>(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(self.hasher.hash_one(key))?;
        Some(&mut self.held[at].1)
    }

    /// Values remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// What was forgotten for want of room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut held = Recollection::new(2);
        assert!(held.entry(&"a", || 1).1);
        assert!(held.entry(&"b", || 2).1);
        assert!(!held.entry(&"a", || 9).1);
        assert!(held.entry(&"c", || 3).1);
        assert_eq!(held.get(&"a"), None);
        assert_eq!(held.get(&"b"), Some(&2));
        if let Some(value) = held.get_mut(&"c") {
            *value += 1;
        }
        assert_eq!(held.get(&"c"), Some(&4));
        assert_eq!(held.forgotten(), 1);
    }
}
