//! The latest so many values under the hashes of their keys, the newest first; the oldest goes.
//!
//! A ring of all values, chained by buckets. The seed of the hash decides nothing: the order of coming alone says what is
//! forgotten. Nothing is allocated after the beginning. A key's values don't grow without end if whoever uses this
//! renews what is there.

#[derive(Debug)]
pub(super) struct Recent<V> {
    /// By the end of their numbers, which count all values there ever were.
    ring: Box<[Entry<V>]>,
    /// The newest value of each bucket.
    heads: Box<[u32]>,
    next: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Entry<V> {
    hash: u64,
    /// The value before it in its bucket.
    older: u32,
    value: V,
}

impl<V: Copy + Default> Recent<V> {
    /// Holds at least `max` values.
    pub(super) fn new(max: usize) -> Self {
        let len = max.clamp(1, 1 << 30).next_power_of_two();
        Self {
            ring: vec![Entry::default(); len].into(),
            heads: vec![0; len.saturating_mul(2)].into(),
            // Number 0, in the heads, is out of reach.
            next: (len as u32).saturating_add(1),
        }
    }

    /// The values under a hash with their numbers, the newest first.
    pub(super) fn under(&self, hash: u64) -> impl Iterator<Item = (u32, V)> {
        let mut number = self.heads.get(bucket(hash, &self.heads)).copied();
        std::iter::from_fn(move || {
            while let Some(at) = number.filter(|&at| self.is_held(at)) {
                let entry = self.ring.get(place(at, &self.ring))?;
                // Numbers wrap; a chain goes back in time, or it isn't one.
                let back = self.next.wrapping_sub(entry.older) > self.next.wrapping_sub(at);
                number = Some(entry.older).filter(|_| back);
                if entry.hash == hash {
                    return Some((at, entry.value));
                }
            }
            None
        })
    }

    /// Adds a value; the oldest of all goes.
    pub(super) fn push(&mut self, hash: u64, value: V) {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let at = bucket(hash, &self.heads);
        let Some(head) = self.heads.get_mut(at) else {
            return;
        };
        let older = std::mem::replace(head, number);
        let at = place(number, &self.ring);
        if let Some(entry) = self.ring.get_mut(at) {
            *entry = Entry { hash, older, value };
        }
    }

    /// Puts another value in the place of one that [`Recent::under`] gave.
    pub(super) fn renew(&mut self, number: u32, value: V) {
        let at = place(number, &self.ring);
        if let Some(entry) = self.ring.get_mut(at) {
            entry.value = value;
        }
    }

    /// Whether a number is one of the latest, whose places in the ring are their own.
    const fn is_held(&self, number: u32) -> bool {
        self.next.wrapping_sub(number) as usize <= self.ring.len()
    }
}

const fn bucket(hash: u64, heads: &[u32]) -> usize {
    hash as usize & heads.len().wrapping_sub(1)
}

const fn place<V>(number: u32, ring: &[Entry<V>]) -> usize {
    number as usize & ring.len().wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(recent: &Recent<u32>, hash: u64) -> Vec<u32> {
        recent.under(hash).map(|(_, value)| value).collect()
    }

    #[test]
    fn the_latest_are_held_and_the_oldest_goes() {
        let mut recent = Recent::new(4);
        for value in 1..=6 {
            recent.push(value % 2, value as u32);
        }
        assert_eq!(under(&recent, 0), [6, 4]);
        assert_eq!(under(&recent, 1), [5, 3]);
        assert!(under(&recent, 2).is_empty());
        let (newest, _) = recent.under(1).next().unwrap();
        recent.renew(newest, 50);
        assert_eq!(under(&recent, 1), [50, 3]);
    }

    /// Hashes that share a bucket are still told apart.
    #[test]
    fn buckets_are_no_keys() {
        let mut recent = Recent::new(8);
        recent.push(3, 1);
        recent.push(3 + 16, 2);
        recent.push(3 + 32, 3);
        assert_eq!((under(&recent, 3), under(&recent, 19)), (vec![1], vec![2]));
    }

    /// After 2^32 values the heads of long ago seem to be in reach again.
    #[test]
    fn a_wrap_of_the_numbers_is_survived() {
        let mut recent = Recent::new(8);
        recent.next = u32::MAX - 20;
        for value in 0..100_u32 {
            recent.push(u64::from(value), value);
            assert_eq!(under(&recent, u64::from(value)), [value]);
            assert!(under(&recent, u64::from(value) + 1000).is_empty());
        }
    }
}
