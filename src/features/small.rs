//! Maps and lists of which most hold one thing, in as much room as that takes.
//!
//! A tree's leaf has room for eleven, and a `Vec` makes room for four at its first: kept for every source, domain or peer,
//! of which most do one thing once, that is most of what they take.

use std::collections::VecDeque;

/// A map in a sorted list. To put something in moves what lies behind it: for maps that their owner bounds to some hundred.
#[derive(Clone, Debug)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// An empty map, which takes no room yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many values it holds.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, by key.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.cmp(key))
    }

    /// Whether there is a value under a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value under a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// The value under a key, made if there is none.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                make_room(&mut self.0);
                self.0.insert(at, (key, value()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }
}

/// Appends to a list: the first takes room for one, further ones double it.
pub fn push_tight<T>(list: &mut Vec<T>, value: T) {
    make_room(list);
    list.push(value);
}

/// The same of a queue.
pub fn push_back_tight<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(queue.len().max(1));
    }
    queue.push_back(value);
}

fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len().max(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_takes_the_room_of_one() {
        let mut map = SortedMap::new();
        map.get_or_insert_with(7, || 'a');
        assert_eq!(map.0.capacity(), 1);
        let mut list = Vec::new();
        for (n, capacity) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)] {
            push_tight(&mut list, n);
            assert_eq!(list.capacity(), capacity);
        }
    }

    proptest! {
        /// Whatever is done, it is as with a tree.
        #[test]
        fn it_is_a_map(deeds in prop::collection::vec((any::<bool>(), 0_u8..20, any::<u8>()), 0..100)) {
            let (mut map, mut tree) = (SortedMap::new(), BTreeMap::new());
            for (remove, key, value) in deeds {
                if remove {
                    prop_assert_eq!(map.remove(&key), tree.remove(&key));
                } else {
                    let (ours, theirs) = (map.get_or_insert_with(key, || value), tree.entry(key).or_insert(value));
                    prop_assert_eq!(*ours, *theirs);
                    (*ours, *theirs) = (value, value);
                }
                prop_assert_eq!(map.get(&key), tree.get(&key));
                prop_assert_eq!(map.contains_key(&key), tree.contains_key(&key));
                prop_assert!(map.iter().eq(tree.iter()));
                prop_assert_eq!(map.len(), tree.len());
            }
        }
    }
}
