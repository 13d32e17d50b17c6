//! Bounded tables that are asked now and then.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

/// An empty table of at most `max` entries, but one at least, in the order of their use. Unlike `LruCache::new` it takes no room
/// for them in advance. What every event asks is better kept in a [`super::Bounded`].
pub fn by_use<K: Hash + Eq, V>(max: usize) -> LruCache<K, V> {
    let mut table = LruCache::unbounded();
    table.resize(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_when_it_is_full() {
        let mut table = by_use(2);
        for key in 0..3 {
            table.put(key, ());
        }
        let held: Vec<_> = table.iter().map(|(key, ())| *key).collect();
        assert_eq!(held, [2, 1]);
        assert_eq!(table.cap().get(), 2);
    }
}
