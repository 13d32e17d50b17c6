//! What grows by the same few bytes for each record, both ways: TLS adds its header and its seal (22 bytes in version 1.3, 29
//! in 1.2 with AES-GCM), other carriers theirs, whatever is inside. Unlike a wrapping whose sizes are only similar, it is
//! known to the byte, so that a few exchanges tell it among many others that met by chance.

use super::{BITS_LOOKED, Couple, Likeness, MOST_BITS_EACH, Ring, Strength};

/// The most that a record grows by.
const MOST_SEAL: u64 = 64;
/// Who writes so much at once makes another record of it,
const RECORD: u64 = 1024;
/// and may have made as many of little.
const FEW_RECORDS: u64 = 2;

/// How many records so many bytes may have come in.
const fn most_records(bytes: u64) -> u64 {
    FEW_RECORDS.saturating_add(bytes / RECORD)
}

/// Lengths of one way, and by how much they differ.
struct Way {
    short: u64,
    more: u64,
    /// Whether it is longer here.
    here: bool,
}

impl Couple {
    fn ways(&self) -> [Way; 2] {
        let [a, b] = self.here;
        let [c, d] = self.there;
        [(a, c), (b, d)].map(|(here, there)| Way {
            short: here.min(there),
            more: here.abs_diff(there),
            here: here > there,
        })
    }

    /// What each record would have grown by, if the first way came in so many of them.
    fn seal(&self, records: u64) -> Option<u64> {
        let [way, _] = self.ways();
        let seal = way.more.checked_div(records)?;
        (1..=MOST_SEAL).contains(&seal).then_some(seal)
    }

    fn is_sealed(&self, seal: u64) -> bool {
        let ways = self.ways();
        ways[0].here == ways[1].here
            && ways.iter().all(|way| {
                way.short > 0
                    && way.more > 0
                    && way.more.is_multiple_of(seal)
                    && way.more / seal <= most_records(way.short)
            })
    }

    /// Each length could have been another, up to twice as much, and as many records would have done.
    fn sealed_bits(&self) -> f64 {
        let bits = |way: &Way| {
            let known = ((way.short as f64 + 1.0).log2() / 2.0).min(MOST_BITS_EACH);
            (known - (most_records(way.short) as f64).log2()).max(0.0)
        };
        self.ways().iter().map(bits).sum()
    }
}

impl Ring {
    /// Lengths that differ by what the same seal makes of them; which seal that is was chosen, and is paid for.
    pub(super) fn by_sealed(&self) -> Strength {
        let mut seals: Vec<u64> = self
            .couples
            .iter()
            .flat_map(|couple| (1..=FEW_RECORDS).filter_map(|records| couple.seal(records)))
            .collect();
        seals.sort_unstable();
        seals.dedup();
        let count = |seal: u64| {
            self.couples
                .iter()
                .filter(|one| one.is_sealed(seal))
                .count()
        };
        // Of those that fit as many, the largest: it divides the least.
        let Some(seal) = seals.into_iter().max_by_key(|seal| (count(*seal), *seal)) else {
            return Strength::default();
        };
        let sealed = |couple: &Couple| couple.is_sealed(seal);
        if !self.varies(sealed) {
            return Strength::default();
        }
        let (all, fitting) = (self.couples.len(), count(seal));
        let looked = (all as f64 / fitting as f64).log2();
        let told: f64 = self
            .couples
            .iter()
            .filter(|couple| sealed(couple))
            .map(|couple| (couple.sealed_bits() - looked).max(0.0))
            .sum();
        let chosen = (MOST_SEAL as f64).log2() + BITS_LOOKED;
        if told <= chosen {
            return Strength::default();
        }
        Strength {
            bits: told * (1.0 - self.by_chance(sealed)) - chosen,
            likeness: Likeness::Sealed,
            couples: (all, fitting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIZES, piece};
    use super::super::{Coupling, Likeness, Strength};

    /// Exchanges of a relay, among those with somebody else that met them by chance.
    fn among(strangers: usize, other: impl Fn(u64, u64) -> (u64, u64)) -> Strength {
        let mut coupling = Coupling::default();
        for (at, (asked, answered)) in (0..).zip(SIZES) {
            let (said, heard) = other(asked, answered);
            coupling.add(&piece(at, asked, answered), &piece(at, heard, said));
            for next in 1..=strangers {
                let (said, heard) = SIZES[(at as usize + next) % SIZES.len()];
                coupling.add(
                    &piece(at, asked, answered),
                    &piece(at, heard + 22, said + 22),
                );
            }
        }
        coupling.strength()
    }

    #[test]
    fn a_seal_is_told_among_as_many_that_met_by_chance() {
        for strangers in 0..3 {
            let tls = among(strangers, |asked, answered| {
                (asked + 22, answered + 22 * (1 + answered / 8192))
            });
            assert_eq!(tls.likeness, Likeness::Sealed, "{strangers}: {tls:?}");
            assert!(tls.bits > 12.0, "{strangers}: {tls:?}");
        }
    }

    #[test]
    fn what_grows_otherwise_each_way_is_no_seal() {
        // A service in front of a store adds its own to what it asks, and something else to what it answers.
        let service = among(1, |asked, answered| (asked + 31, answered + 57));
        assert_ne!(service.likeness, Likeness::Sealed, "{service:?}");
        let edited = among(1, |asked, answered| (asked + 22, answered - 22));
        assert!(edited.bits <= 0.0, "{edited:?}");
    }
}
