//! A bounded table that forgets what was not used for the longest time.
//!
//! What a `LruCache` does, for tables that every event asks: the order of use is kept in a list of numbers close together, so that a
//! use touches nothing far away but the entry itself, where `lru` touches its neighbours in that order, too.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::mem;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Entries that lie together.
const CHUNK: usize = 64;
/// No place.
const NONE: u32 = u32::MAX;

/// A table of at most so many entries. It takes no room for them in advance: of some hundred tables that a run has, few ever fill.
#[derive(Debug)]
pub struct Bounded<K, V> {
    places: HashTable<Place>,
    /// In chunks, which are not moved for others that come. All but the last are full.
    entries: Vec<Vec<(K, V)>>,
    /// The order of use, by the entries' places.
    order: Vec<Link>,
    newest: u32,
    oldest: u32,
    max: usize,
    hasher: RandomState,
}

/// Where a key's entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    /// What a hash table goes by, all of it from the half that is kept.
    const fn spread(hash: u32) -> u64 {
        (hash as u64) << u32::BITS | hash as u64
    }
}

/// The entries used after an entry, and before.
#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

impl<K, V> Bounded<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Most entries there can be.
    pub const fn limit(&self) -> usize {
        self.max
    }

    /// Whether a new entry would take the place of another.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// All entries, those first that were not used for the longest time. That uses none.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let link = self.order.get(next as usize)?;
            let (key, value) = self.entry(mem::replace(&mut next, link.newer));
            Some((key, value))
        })
    }

    /// All values, to be changed, in no order that means anything. That uses none.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().flatten().map(|(_, value)| value)
    }

    fn entry(&self, at: u32) -> &(K, V) {
        let at = at as usize;
        &self.entries[at / CHUNK][at % CHUNK]
    }

    fn entry_mut(&mut self, at: u32) -> &mut (K, V) {
        let at = at as usize;
        &mut self.entries[at / CHUNK][at % CHUNK]
    }

    /// The entry at a place, which is the newest now.
    fn used(&mut self, at: u32) -> &mut (K, V) {
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
        self.entry_mut(at)
    }

    /// Its neighbours in the order of use become each other's.
    fn unlink(&mut self, at: u32) {
        let Link { newer, older } = self.order[at as usize];
        match self.order.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.order.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// What is in no order becomes the newest.
    fn link(&mut self, at: u32) {
        let older = mem::replace(&mut self.newest, at);
        self.order[at as usize] = Link { newer: NONE, older };
        match self.order.get_mut(older as usize) {
            Some(older) => older.newer = at,
            None => self.oldest = at,
        }
    }

    /// Puts an entry at the end. Its place.
    fn add(&mut self, entry: (K, V)) -> u32 {
        let at = self.len();
        if at / CHUNK == self.entries.len() {
            // The first grows by and by; who needs a second will need much of it.
            let room = if at == 0 { 0 } else { CHUNK };
            self.entries.push(Vec::with_capacity(room));
        }
        self.entries[at / CHUNK].push(entry);
        let (newer, older) = (NONE, NONE);
        self.order.push(Link { newer, older });
        at as u32
    }
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// An empty table of at most `max` entries, but one at least, and 2³² − 1 at most.
    pub fn new(max: usize) -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
            order: Vec::new(),
            newest: NONE,
            oldest: NONE,
            max: max.clamp(1, NONE as usize),
            hasher: RandomState::default(),
        }
    }

    /// Whether there is a key, without using it.
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(self.hash(key), key).is_some()
    }

    /// The value under a key, without using it.
    pub fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(self.hash(key), key)?;
        Some(&self.entry(at).1)
    }

    /// The value under a key, without using it, to be changed.
    pub fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(self.hash(key), key)?;
        Some(&mut self.entry_mut(at).1)
    }

    /// The value under a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    /// The value under a key, to be changed.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(self.hash(key), key)?;
        Some(&mut self.used(at).1)
    }

    /// Puts a value under a key. Returns what was there, or what had to be forgotten for it.
    pub fn push(&mut self, key: K, value: V) -> Option<(K, V)> {
        let hash = self.hash(&key);
        match self.find(hash, &key) {
            Some(at) => Some(mem::replace(self.used(at), (key, value))),
            None => self.insert(hash, key, value).1,
        }
    }

    /// Puts a value under a key. Returns the one that was there.
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hash(&key);
        if let Some(at) = self.find(hash, &key) {
            return Some(mem::replace(&mut self.used(at).1, value));
        }
        self.insert(hash, key, value);
        None
    }

    /// The value under a key, made if there is none; and what had to be forgotten for that.
    pub fn entry_or_insert_with(
        &mut self,
        key: K,
        value: impl FnOnce() -> V,
    ) -> (&mut V, Option<(K, V)>) {
        let hash = self.hash(&key);
        let (at, gone) = match self.find(hash, &key) {
            Some(at) => (at, None),
            None => self.insert(hash, key, value()),
        };
        (&mut self.used(at).1, gone)
    }

    /// The value under a key, made if there is none, whatever has to be forgotten for that.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        self.entry_or_insert_with(key, value).0
    }

    /// The entry that was not used for the longest time, without using it.
    pub fn peek_oldest(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Takes an entry out.
    pub fn pop<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let at = self.find(hash, key)?;
        self.take(hash, at).map(|(_, value)| value)
    }

    /// Takes the entry out that was not used for the longest time.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (key, _) = self.peek_oldest()?;
        self.take(self.hash(key), self.oldest)
    }

    fn take(&mut self, hash: u32, at: u32) -> Option<(K, V)> {
        self.unlink(at);
        self.leave(hash, at);
        // The last entry takes its place.
        let last = (self.len() - 1) as u32;
        let link = self.order.pop()?;
        let moved = self.entries[last as usize / CHUNK].pop()?;
        // One chunk is kept for what comes next.
        self.entries.truncate(last as usize / CHUNK + 2);
        if at == last {
            return Some(moved);
        }
        let moved_hash = self.hash(&moved.0);
        let is_it = |place: &Place| place.at == last;
        if let Some(place) = self.places.find_mut(Place::spread(moved_hash), is_it) {
            place.at = at;
        }
        self.order[at as usize] = link;
        match self.order.get_mut(link.newer as usize) {
            Some(newer) => newer.older = at,
            None => self.newest = at,
        }
        match self.order.get_mut(link.older as usize) {
            Some(older) => older.newer = at,
            None => self.oldest = at,
        }
        Some(mem::replace(self.entry_mut(at), moved))
    }

    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u32, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        let is_it = |place: &Place| place.hash == hash && self.entry(place.at).0.borrow() == key;
        let place = self.places.find(Place::spread(hash), is_it)?;
        Some(place.at)
    }

    /// Puts an entry under a key that there is none for. Its place, and what was forgotten for it.
    fn insert(&mut self, hash: u32, key: K, value: V) -> (u32, Option<(K, V)>) {
        let (at, gone) = if self.is_full() {
            let at = self.oldest;
            let old = self.hash(&self.entry(at).0);
            self.leave(old, at);
            (at, Some(mem::replace(self.used(at), (key, value))))
        } else {
            let at = self.add((key, value));
            self.link(at);
            (at, None)
        };
        let rehash = |place: &Place| Place::spread(place.hash);
        self.places
            .insert_unique(Place::spread(hash), Place { hash, at }, rehash);
        (at, gone)
    }

    /// Nothing is found at a place any more.
    fn leave(&mut self, hash: u32, at: u32) {
        let is_it = |place: &Place| place.at == at;
        if let Ok(place) = self.places.find_entry(Place::spread(hash), is_it) {
            place.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use lru::LruCache;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_goes() {
        let mut table = Bounded::new(3);
        for key in 0..3 {
            assert_eq!(table.push(key, ()), None);
        }
        assert_eq!(table.get(&0), Some(&()));
        assert_eq!(table.peek(&1), Some(&()));
        let gone = table.push(3, ());
        assert_eq!(gone, Some((1, ())));
        let held: Vec<_> = table.iter().map(|(key, ())| *key).collect();
        assert_eq!(held, [2, 0, 3]);
        assert_eq!((table.len(), table.is_full(), table.limit()), (3, true, 3));
    }

    proptest! {
        #[test]
        fn it_is_a_cache_of_the_crate_lru(
            max in 1_usize..200,
            steps in prop::collection::vec((0_u8..8, 0_u8..255), 0..2000),
        ) {
            let mut table = Bounded::new(max);
            let mut model = LruCache::new(max.try_into().unwrap());
            for (number, (what, key)) in steps.into_iter().enumerate() {
                let key = u64::from(key);
                match what {
                    0 | 1 => prop_assert_eq!(table.push(key, number), model.push(key, number)),
                    2 => prop_assert_eq!(table.put(key, number), model.put(key, number)),
                    3 => prop_assert_eq!(table.pop(&key), model.pop(&key)),
                    4 => prop_assert_eq!(table.get(&key), model.get(&key)),
                    5 => prop_assert_eq!(table.peek(&key), model.peek(&key)),
                    6 if number % 7 == 0 => prop_assert_eq!(table.pop_oldest(), model.pop_lru()),
                    _ => {
                        let value = table.get_or_insert_with(key, || number);
                        prop_assert_eq!(value, model.get_or_insert_mut(key, || number));
                    }
                }
                prop_assert_eq!(table.peek_oldest(), model.peek_lru());
            }
            prop_assert!(table.iter().eq(model.iter().rev()));
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
