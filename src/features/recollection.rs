//! A bounded table of what was learned once: the oldest goes first, so that a replay forgets alike.
//!
//! Keys are kept as 64-bit hashes under a random seed, so a long key costs no more than a short one, and nobody can choose
//! keys that collide; by chance two of a million keys do once in some ten million runs.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Values under hashed keys, in the order of their coming.
#[derive(Debug)]
pub(super) struct Recollection<V> {
    /// Keys and values lie in the table itself: to look one up touches nothing else.
    table: HashTable<(u64, V)>,
    /// Keys. Grows to its bound; then the newest takes the place of the oldest.
    order: Vec<u64>,
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
            order: Vec::new(),
            oldest: 0,
            hasher: RandomState::default(),
            max,
            forgotten: 0,
        }
    }

    /// The value under a key, and whether it had to be made.
    pub(super) fn entry<K: Hash>(&mut self, key: &K, value: impl FnOnce() -> V) -> (&mut V, bool) {
        let hash = self.hasher.hash_one(key);
        if self.table.len() >= self.max && self.table.find(hash, |held| held.0 == hash).is_none() {
            self.forget();
        }
        match self.table.entry(hash, |held| held.0 == hash, |held| held.0) {
            Entry::Occupied(held) => (&mut held.into_mut().1, false),
            Entry::Vacant(place) => {
                if self.order.len() < self.max {
                    self.order.push(hash);
                } else {
                    self.order[self.oldest] = hash;
                    self.oldest = (self.oldest + 1) % self.max;
                }
                (&mut place.insert((hash, value())).into_mut().1, true)
            }
        }
    }

    /// The oldest goes; the next key takes its place in the order.
    fn forget(&mut self) {
        if let Some(&oldest) = self.order.get(self.oldest)
            && let Ok(held) = self.table.find_entry(oldest, |held| held.0 == oldest)
        {
            held.remove();
            self.forgotten += 1;
        }
    }

    /// The value under a key.
    pub(super) fn get<K: Hash>(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let held = self.table.find(hash, |held| held.0 == hash)?;
        Some(&held.1)
    }

    /// The value under a key, to be changed.
    pub(super) fn get_mut<K: Hash>(&mut self, key: &K) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        let held = self.table.find_mut(hash, |held| held.0 == hash)?;
        Some(&mut held.1)
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
        for key in 0..100 {
            assert!(held.entry(&key, || key).1);
            assert!(!held.entry(&key, || 0).1);
            assert_eq!((held.len(), held.get(&key)), (2, Some(&key)));
            assert_eq!(held.get(&(key - 2)), None);
        }
        assert_eq!(held.forgotten(), 101);
    }
}
