//! How the memory of a run is divided among all that traffic can fill.

/// Bytes that all bounds together are made for, kept small where they are given as a number of entries by what an entry of that kind
/// takes in the worst of the floods that `tests/memory` makes.
const MADE_FOR: u64 = 512 << 20;
/// What even the least run keeps of a kind, where it would keep so many.
const LEAST: usize = 64;

/// A run's part of the memory that the bounds are made for, or a multiple of it. Each bound grows and shrinks with it, so that all
/// keep their proportion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    bytes: u64,
}

impl Share {
    /// What the bounds are made for.
    pub const WHOLE: Self = Self { bytes: MADE_FOR };

    /// So many bytes, 1 TiB at most.
    pub const fn of(bytes: u64) -> Self {
        let most = 1 << 40;
        Self {
            bytes: if bytes < most { bytes } else { most },
        }
    }

    /// This share of a bound, be it in entries or in bytes.
    pub const fn part(self, bound: usize) -> usize {
        let part = (bound as u128 * self.bytes as u128 / MADE_FOR as u128) as usize;
        let least = if bound < LEAST { bound } else { LEAST };
        if part > least { part } else { least }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_keep_their_proportion() {
        assert_eq!(Share::WHOLE.part(10_000), 10_000);
        let quarter = Share::of(128 << 20);
        assert_eq!(quarter.part(10_000), 2500);
        assert_eq!(Share::of(2 << 30).part(10_000), 40_000);
        // Something is remembered of everything.
        assert_eq!(Share::of(0).part(10_000), LEAST);
        assert_eq!(Share::of(0).part(3), 3);
        assert_eq!(Share::of(u64::MAX).part(1 << 20), (1 << 20) << 11);
    }
}
