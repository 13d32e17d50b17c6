//! What was learned lately, for tables that are large and only asked.
//!
//! Keys are kept as 64-bit hashes under a random seed, as in [`super::recollection`], in two generations: when the young one
//! is full it becomes the old one, which is forgotten. That takes a fifth of what a table in order of use takes.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Values under keys that came lately; without values, the keys alone.
#[derive(Debug)]
pub struct Lately<V = ()> {
    young: HashTable<(u64, V)>,
    old: HashTable<(u64, V)>,
    hasher: RandomState,
    /// Keys per generation.
    most: usize,
}

impl<V> Lately<V> {
    /// Remembers at least the latest seven eighths of `max` different keys, and twice as many at most: what two hash tables
    /// of `max` places hold.
    pub fn new(max: usize) -> Self {
        Self {
            young: HashTable::new(),
            old: HashTable::new(),
            hasher: RandomState::default(),
            most: (max / 8 * 7).max(1),
        }
    }

    /// Remembers a value in the place of what was under its key.
    pub fn put<K: Hash>(&mut self, key: &K, value: V) {
        let hash = self.hasher.hash_one(key);
        if let Some(held) = self.young.find_mut(hash, |held| held.0 == hash) {
            held.1 = value;
            return;
        }
        if self.young.len() >= self.most {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert_unique(hash, (hash, value), |held| held.0);
    }

    /// The latest value under a key.
    pub fn get<K: Hash>(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let young = self.young.find(hash, |held| held.0 == hash);
        let held = young.or_else(|| self.old.find(hash, |held| held.0 == hash))?;
        Some(&held.1)
    }

    /// Whether a key came lately.
    pub fn contains<K: Hash>(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_old_ones_are_forgotten() {
        let mut lately = Lately::new(16);
        for key in 0..1000 {
            lately.put(&key, -key);
            for before in 0..14.min(key) {
                assert_eq!(lately.get(&(key - before)), Some(&(before - key)));
            }
            assert!(key < 28 || !lately.contains(&(key - 28)));
        }
        assert!(lately.young.len() + lately.old.len() <= 28);
    }

    #[test]
    fn what_comes_again_stays_with_its_latest_value() {
        let mut lately = Lately::new(16);
        for key in 0..1000 {
            lately.put(&"always", key);
            lately.put(&key, key);
            assert_eq!(lately.get(&"always"), Some(&key));
        }
    }
}
