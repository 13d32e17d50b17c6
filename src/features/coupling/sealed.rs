//! What grows by the same few bytes for each record: TLS adds its header and its seal (22 bytes in version 1.3, 29 in 1.2 with
//! AES-GCM), other carriers theirs, whatever is inside; and whatever noise is added between.
//!
//! Who adds noise can only add. What is short mostly stays as it was, longer by the seal alone, so that short runs of speech
//! are looked at one by one ([`Utterance`]). What is long is never less than it was, and not much more; it is looked at by
//! the sums of what passed meanwhile. Each is weighed by its likelihood ratio: were the one leg to come out of the other,
//! half of what meets would fit at least; were it not, as many would as do when they are paired at random. Such a ratio
//! stays below 2^b with probability 1 − 2^−b, however often one looks (Ville's inequality). That both legs carry the same
//! large things is no more than what every store does that is handed them: it counts little, and never by itself.

use std::collections::VecDeque;

use super::{Couple, Likeness, PADDING, Ring, Strength};
use crate::features::Utterance;
use crate::time::Timestamp;

/// Different lengths that met, remembered each way.
const MOST: usize = 32;
/// The most that a record grows by.
const MOST_SEAL: u16 = 64;
/// What is short comes in so many records at most.
const MOST_RECORDS: u16 = 2;
/// Lengths that differ by more say nothing for or against.
const NEAR: u16 = Utterance::NEAR;
/// Of what meets, the share that belongs together, at least, if it is a relay.
const BELONG: f64 = 0.5;
/// How often near lengths fit a seal by chance, and after how many looks that gives way to what is seen: twice as often as if
/// they were spread evenly.
const CHANCE: f64 = 2.0 * MOST_RECORDS as f64 / (2.0 * NEAR as f64 + 1.0);
const LOOKS: f64 = 32.0;
/// Different lengths that must fit, where they are told by their seal.
const FEWEST: usize = 3;
/// What TLS adds to a record: in version 1.3, in 1.2 with AES-GCM and with ChaCha20.
const USUAL_SEALS: [u16; 3] = [22, 29, 21];
/// Which seal it is, and which leg has it, was chosen: among those, or among all.
const BITS_CHOSEN_USUAL: f64 = 4.0;
const BITS_CHOSEN: f64 = 8.0;
/// What is long, at least.
const LONG: u64 = 4096;
/// Noise adds this share at most, to each piece or, where there is a pause, to what is usual.
const NOISE: f64 = 0.25;
/// How many doublings apart lengths are that have nothing to do with one another.
const DOUBLINGS: f64 = 4.0;
/// How many looks that is worth.
const GUESSES: f64 = 4.0;
/// What long ones tell at most, and each way must tell at least.
const MOST_BITS_LONG: f64 = 4.0;
const LEAST_BITS_EACH_WAY: f64 = 1.0;

/// Two lengths that met, and on which connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Near([u16; 2], [u32; 2]);

impl Near {
    /// The length on the plain leg, and by how much it is longer on the other.
    fn grows(self, plain: usize) -> (u16, i32) {
        let Self([here, there], _) = self;
        let (plain, wrapped) = if plain == 0 {
            (here, there)
        } else {
            (there, here)
        };
        (plain, i32::from(wrapped) - i32::from(plain))
    }
}

fn fits(growth: i32, seal: u16) -> bool {
    (1..=MOST_RECORDS).any(|records| growth == i32::from(seal * records))
}

/// What one way tells, and how many different lengths there were, and how many of them fit.
#[derive(Clone, Copy, Default, Debug)]
struct Told {
    bits: f64,
    all: usize,
    fitting: usize,
}

/// Short lengths of both legs, each way, that differ by little.
#[derive(Clone, Default, Debug)]
pub(super) struct Nears {
    ways: [VecDeque<Near>; 2],
    /// Different ones so far, and how many there were when it was last time to judge.
    different: u64,
    judged: u64,
}

impl Nears {
    /// Two utterances met; the first is always of the same leg. Whether it is time to judge.
    pub(super) fn add(&mut self, lines: [u32; 2], one: &Utterance, other: &Utterance) -> bool {
        let near = Near([one.bytes, other.bytes], lines);
        let [here, there] = near.0;
        let way = usize::from(!one.heard);
        let Some(known) = self.ways.get_mut(way) else {
            return false;
        };
        if here.abs_diff(there) > NEAR || known.contains(&near) {
            return false;
        }
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back(near);
        self.different = self.different.saturating_add(1);
        let due = self.different > FEWEST as u64
            && self.different >= self.judged.saturating_add(1 + self.judged / 5);
        if due {
            self.judged = self.different;
        }
        due
    }

    /// The seal that most lengths fit, and which leg is plain then: the largest of several, for it divides the least.
    fn seal(&self) -> Option<(usize, u16)> {
        // How many lengths fit each seal, by the leg that is plain.
        let mut fitting = [[0_u16; MOST_SEAL as usize + 1]; 2];
        for near in self.ways.iter().flatten() {
            for (plain, fitting) in fitting.iter_mut().enumerate() {
                let (_, growth) = near.grows(plain);
                for records in 1..=i32::from(MOST_RECORDS) {
                    if growth > 0
                        && growth % records == 0
                        && let Some(count) = fitting.get_mut((growth / records) as usize)
                    {
                        *count = count.saturating_add(1);
                    }
                }
            }
        }
        let all = fitting.iter().enumerate().flat_map(|(plain, fitting)| {
            let seals = (0..).zip(fitting).filter(|(_, count)| **count > 0);
            seals.map(move |(seal, count)| (plain, seal, *count))
        });
        let (plain, seal, _) = all.max_by_key(|&(_, seal, count)| {
            // What one of the usual ones costs less is about what one more that fits would tell.
            (count + u16::from(USUAL_SEALS.contains(&seal)), seal)
        })?;
        Some((plain, seal))
    }

    /// Whether more can be said of a seal: enough lengths fit it, one way.
    fn may_tell(&self, plain: usize, seal: u16) -> bool {
        let fits = |near: &&Near| fits(near.grows(plain).1, seal);
        let mut ways = self.ways.iter();
        ways.any(|way| way.iter().filter(fits).count() >= FEWEST)
    }

    /// What one way tells for a seal.
    fn told(&self, way: usize, plain: usize, seal: u16) -> Told {
        let Some(nears) = self.ways.get(way) else {
            return Told::default();
        };
        let mut grown: Vec<_> = nears
            .iter()
            .map(|near| (near.1, near.grows(plain)))
            .collect();
        grown.sort_unstable();
        // Those that are near, were they paired at random.
        let (mut strangers, mut fitting) = (0.0, 0.0);
        for (_, (length, _)) in &grown {
            for (_, (other, growth)) in &grown {
                let growth = i32::from(*other) + growth - i32::from(*length);
                if other != length && growth.unsigned_abs() <= u32::from(NEAR) {
                    strangers += 1.0;
                    fitting += f64::from(u8::from(fits(growth, seal)));
                }
            }
        }
        let chance = (fitting + CHANCE * LOOKS) / (strangers + LOOKS);
        let chance = f64::max(chance, CHANCE);
        let (mut all, mut fitted) = (Vec::new(), Vec::new());
        let mut lines = Lines::new(plain);
        for same in grown.chunk_by(|one, other| (one.0, one.1.0) == (other.0, other.1.0)) {
            let Some(&(pair, (length, _))) = same.first() else {
                continue;
            };
            let hits = same.iter().filter(|(_, (_, growth))| fits(*growth, seal));
            let share = hits.count() as f64 / same.len() as f64;
            all.push(length);
            if share > 0.0 {
                fitted.push(length);
            }
            lines.tell(pair, (1.0 - BELONG + BELONG * share / chance).log2());
        }
        let [all, fitting] = [all, fitted].map(|mut lengths: Vec<u16>| {
            lengths.sort_unstable();
            lengths.dedup();
            lengths.len()
        });
        Told {
            bits: lines.bits(),
            all,
            fitting,
        }
    }

    /// How sure it is, together with what long lengths tell.
    pub(super) fn strength(&self, rings: &[Ring]) -> Strength {
        if self.ways.iter().all(|way| way.len() < FEWEST) {
            return Strength::default();
        }
        let Some((plain, seal)) = self.seal() else {
            return Strength::default();
        };
        if !self.may_tell(plain, seal) {
            return Strength::default();
        }
        let short = [0, 1].map(|way| self.told(way, plain, seal));
        let each = [0, 1].map(|way| {
            let long = rings.iter().map(|ring| ring.bounded(way, plain));
            let long = long.fold(0.0, f64::max).min(MOST_BITS_LONG);
            short[way].bits.max(long)
        });
        let told = short.iter().any(|way| way.fitting >= FEWEST)
            && each.iter().all(|bits| *bits >= LEAST_BITS_EACH_WAY);
        if !told {
            return Strength::default();
        }
        let chosen = if USUAL_SEALS.contains(&seal) {
            BITS_CHOSEN_USUAL
        } else {
            BITS_CHOSEN
        };
        Strength {
            bits: each[0] + each[1] - chosen,
            likeness: Likeness::Sealed,
            couples: (
                short.iter().map(|way| way.all).sum(),
                short.iter().map(|way| way.fitting).sum(),
            ),
        }
    }
}

impl Ring {
    /// What long lengths of one way tell: never less on the leg that is wrapped, and not much more.
    fn bounded(&self, way: usize, plain: usize) -> f64 {
        let lengths = |couple: &Couple| {
            let (here, there) = (couple.here.get(way), couple.there.get(way));
            let (here, there) = (*here.unwrap_or(&0), *there.unwrap_or(&0));
            if plain == 0 {
                (here, there)
            } else {
                (there, here)
            }
        };
        let mut pieces: Vec<([u32; 2], Timestamp, u64, u64)> = self
            .couples
            .iter()
            .filter_map(|couple| {
                let (plain_len, wrapped) = lengths(couple);
                (plain_len >= LONG).then_some((
                    couple.lines,
                    couple.starts[plain],
                    plain_len,
                    wrapped,
                ))
            })
            .collect();
        pieces.sort_unstable();
        let usual =
            pieces.iter().map(|piece| piece.2 as f64).sum::<f64>() / pieces.len().max(1) as f64;
        let most = |length: u64| length as f64 * (1.0 + NOISE) + usual * NOISE + PADDING;
        let bounds =
            |length: u64, wrapped: u64| wrapped >= length && wrapped as f64 <= most(length);
        let mut lines = Lines::new(plain);
        for same in pieces.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let Some(&(pair, start, length, _)) = same.first() else {
                continue;
            };
            let hits = same.iter().filter(|piece| bounds(piece.2, piece.3)).count();
            let (mut strangers, mut fitting) = (0.0, 0.0);
            for piece in pieces.iter().filter(|other| other.1 != start) {
                strangers += 1.0;
                fitting += f64::from(u8::from(bounds(length, piece.3)));
            }
            let guess = ((most(length) / length as f64).log2() / DOUBLINGS).min(1.0);
            let chance = (fitting + guess * GUESSES) / (strangers + GUESSES);
            let share = hits as f64 / same.len() as f64;
            lines.tell(pair, (1.0 - BELONG + BELONG * share / chance).log2());
        }
        lines.bits()
    }
}

/// Bits by connection: each on the plain leg has one on the other, or none.
struct Lines {
    plain: usize,
    /// In their order.
    told: Vec<([u32; 2], f64)>,
}

impl Lines {
    const fn new(plain: usize) -> Self {
        Self {
            plain,
            told: Vec::new(),
        }
    }

    /// What one piece tells of a pair.
    fn tell(&mut self, pair: [u32; 2], bits: f64) {
        match self.told.last_mut() {
            Some((known, told)) if *known == pair => *told += bits,
            _ => self.told.push((pair, bits)),
        }
    }

    fn bits(mut self) -> f64 {
        let plain = self.plain;
        let of = |pair: &[u32; 2]| pair.get(plain).copied();
        self.told.sort_by_key(|(pair, _)| of(pair));
        let each = self.told.chunk_by(|one, other| of(&one.0) == of(&other.0));
        each.map(|pairs| {
            let likelihood: f64 = pairs.iter().map(|(_, bits)| bits.exp2()).sum();
            ((1.0 + likelihood) / (1.0 + pairs.len() as f64)).log2()
        })
        .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Coupling;
    use super::super::tests::{SIZES, piece};
    use super::*;

    fn utterance(at: i64, heard: bool, bytes: u64) -> Utterance {
        Utterance {
            heard,
            start: Timestamp::from_secs(at),
            bytes: bytes as u16,
        }
    }

    /// Questions and answers that come in and go out, among others that met them by chance; `more` says by how much the
    /// one at a place grows each way.
    fn among(strangers: usize, more: impl Fn(usize) -> [i64; 2]) -> Strength {
        let mut coupling = Coupling::default();
        for (at, (asked, answered)) in (0..).zip(SIZES) {
            let grown = more(at as usize);
            for (heard, bytes, more) in [(true, asked, grown[0]), (false, answered, grown[1])] {
                let mut meet = |line: u32, other: u64| {
                    let (one, other) = (utterance(at, heard, bytes), utterance(at, !heard, other));
                    coupling.hear([0, line], &one, &other);
                };
                meet(1, bytes.strict_add_signed(more));
                for next in 1..=strangers {
                    meet(2, bytes + 17 * next as u64 + at as u64 % 5);
                }
            }
        }
        coupling.strength()
    }

    #[test]
    fn a_seal_is_told_among_as_many_that_met_by_chance() {
        for strangers in 0..3 {
            for seal in [22, 29, 41] {
                let tls = among(strangers, |_| [seal, seal]);
                assert_eq!(tls.likeness, Likeness::Sealed, "{strangers}: {tls:?}");
                assert!(tls.bits > 12.0, "{strangers}: {tls:?}");
            }
        }
    }

    #[test]
    fn noise_on_some_does_not_hide_it() {
        let noisy = among(1, |at| [[22, 22], [22, 71], [90, 22]][at % 3]);
        assert!(noisy.bits > 10.0, "{noisy:?}");
    }

    #[test]
    fn what_grows_otherwise_each_way_or_each_time_is_no_seal() {
        // A service in front of a store adds its own to what it asks, and something else to what it answers.
        let service = among(1, |_| [31, 57]);
        assert!(service.bits <= 0.0, "{service:?}");
        let edited = among(1, |_| [22, -22]);
        assert!(edited.bits <= 0.0, "{edited:?}");
        let more = [
            [5, 40],
            [63, 12],
            [33, 52],
            [18, 27],
            [46, 3],
            [57, 35],
            [9, 60],
            [24, 49],
        ];
        let other = among(1, |at| more[at]);
        assert!(other.bits <= 0.0, "{other:?}");
    }

    /// So many transfers, each asked for in a few words; by how much either grows.
    fn transfers(
        times: usize,
        asked_more: impl Fn(usize) -> u64,
        passed: impl Fn(u64) -> u64,
    ) -> Strength {
        let large = [5_200_000, 310_000, 2_400_000, 870_000, 8_100_000, 460_000];
        let mut coupling = Coupling::default();
        for (at, ((asked, _), answered)) in (0..).zip(SIZES.into_iter().zip(large).take(times)) {
            let grown = asked + asked_more(at as usize);
            coupling.hear(
                [0, 1],
                &utterance(at, true, asked),
                &utterance(at, false, grown),
            );
            let one = piece(at, asked, answered);
            coupling.add([0, 1], &one, &piece(at, passed(answered), grown));
        }
        coupling.strength()
    }

    #[test]
    fn a_few_large_answers_under_a_seal_and_noise_are_told_by_their_questions() {
        let noise = |bytes: u64| bytes + bytes / 700 + (bytes % 7) * bytes / 50;
        for times in 4..=6 {
            let passed = transfers(times, |_| 22, noise);
            assert!(passed.bits >= 6.0, "{times}: {passed:?}");
        }
        // Two could be anything.
        assert!(transfers(2, |_| 22, noise).bits <= 0.0);
    }

    #[test]
    fn a_store_that_is_handed_large_things_is_none() {
        let stored = transfers(6, |at| [19, 55, 3, 90, 41, 26][at], |bytes| bytes + 400);
        assert!(stored.bits <= 0.0, "{stored:?}");
        // Nor is what grows by a header, but answers from somewhere else.
        let asks = transfers(6, |_| 22, |bytes| 90_000 + bytes.reverse_bits() % 5_000_000);
        assert!(asks.bits <= 0.0, "{asks:?}");
    }
}
