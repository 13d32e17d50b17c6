//! Bounded tables that begin small.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

/// An empty table of at most `max` entries. Unlike `LruCache::new` it takes no room for them in advance: of some hundred
/// tables that a run has, few ever fill.
pub fn bounded<K: Hash + Eq, V>(max: NonZeroUsize) -> LruCache<K, V> {
    let mut table = LruCache::unbounded();
    table.resize(max);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_when_it_is_full() {
        let mut table = bounded(NonZeroUsize::new(2).unwrap());
        for key in 0..3 {
            table.put(key, ());
        }
        let held: Vec<_> = table.iter().map(|(key, ())| *key).collect();
        assert_eq!(held, [2, 1]);
        assert_eq!(table.cap().get(), 2);
    }
}
