//! Whether what one connection of a pod carries comes out of another one, by sizes alone.
//!
//! That a pod asks somebody whenever it is asked says nothing: every application asks its database so. A relay is told by
//! sizes, in both directions at once. What it copies is as long as it was, to the byte. What it wraps or unwraps (TLS,
//! SSH, WebSocket) grows on one and the same side, by so much for each packet; for some to the byte, but for noise. All may
//! happen by chance, so each is weighed by how much it tells: equal lengths by how many other lengths they could have been,
//! others by how often they would agree if the pieces had been paired at random. What is repeated counts once, so that two programs that tick
//! alike prove nothing.

mod sealed;

use std::collections::VecDeque;

use super::{Passage, Span, Utterance, push_back_tight};
use crate::time::Timestamp;
use sealed::Nears;

/// Different couples remembered.
const MOST: usize = 32;
/// The share of pieces of one side that must have a fitting one on the other.
const SHARE: f64 = 0.5;
/// The most that a wrapping adds to a packet.
const MOST_HEADER: f64 = 160.0;
/// What it adds differs by this at most (padding),
const PADDING: f64 = 24.0;
/// and by this share: records, and packets that the capture shows joined; or else noise. Of the latter so many must fit, for
/// who passes on a few large things whole seems to add noise, too.
const GROWTHS: [(f64, usize); 2] = [(1.0 / 64.0, 1), (1.0 / 4.0, 8)];
/// The most that one length tells, being equal.
const MOST_BITS_EACH: f64 = 7.0;
/// Different lengths that must agree, each way, where they are only similar;
const FEWEST_LENGTHS: usize = 3;
/// and how often they may agree by chance, each way.
const MOST_CHANCE: f64 = 0.5;
/// What each way must tell then.
const LEAST_BITS_EACH_WAY: f64 = 5.0;
/// What having looked so often costs.
const BITS_LOOKED: f64 = 2.0;

/// Two pieces that met, by the lengths of what would be the same: heard here and said there, said here and heard there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Couple {
    here: [u64; 2],
    there: [u64; 2],
    /// Packets of the piece with the fewer.
    packets: [u32; 2],
    /// When either piece began, to know it by.
    starts: [Timestamp; 2],
    /// On which connection.
    lines: [u32; 2],
}

fn proportional([a, b]: [u64; 2], [c, d]: [u64; 2]) -> bool {
    u128::from(a) * u128::from(d) == u128::from(b) * u128::from(c)
}

/// By how much every packet grows from here to there, each way.
type Growth = [f64; 2];

impl Couple {
    fn new(lines: [u32; 2], one: &Passage, other: &Passage) -> Self {
        let ([heard, said], [other_heard, other_said]) = (one.packets, other.packets);
        let [there_heard, there_said] = other.bytes;
        Self {
            here: one.bytes,
            there: [there_said, there_heard],
            packets: [heard.min(other_said), said.min(other_heard)],
            starts: [one.start, other.start],
            lines,
        }
    }

    fn is_equal(&self) -> bool {
        self.here == self.there
    }

    /// Whether it tells the same as another: as much on both sides, or so many times as much.
    fn repeats(&self, other: &Self) -> bool {
        proportional(self.here, other.here)
            && proportional(self.there, other.there)
            && self.is_equal() == other.is_equal()
    }

    /// The first piece of this couple with the second of another.
    const fn crossed(&self, other: &Self) -> Self {
        Self {
            there: other.there,
            ..*self
        }
    }

    /// How much each packet grows, if it is the same side that grows both ways.
    fn growth(&self) -> Option<Growth> {
        let each = |way: usize| {
            let packets = f64::from((*self.packets.get(way)?).max(1));
            let (here, there) = (*self.here.get(way)?, *self.there.get(way)?);
            let growth = (there as f64 - here as f64) / packets;
            (growth.abs() <= MOST_HEADER.max(here.min(there) as f64 / 4.0)).then_some(growth)
        };
        let growth = [each(0)?, each(1)?];
        let one_side =
            growth.iter().all(|each| *each >= 0.0) || growth.iter().all(|each| *each <= 0.0);
        one_side.then_some(growth)
    }

    /// Whether one way fits a growth.
    fn fits_way(&self, way: usize, growth: Growth, share: f64) -> bool {
        let (Some(&here), Some(&there), Some(&packets), Some(&each)) = (
            self.here.get(way),
            self.there.get(way),
            self.packets.get(way),
            growth.get(way),
        ) else {
            return false;
        };
        let least = here.min(there) as f64;
        let more = (there as f64 - here as f64) - each * f64::from(packets.max(1));
        let noise = PADDING + least * share;
        // Noise is added where the wrapping is.
        let (below, above) = if growth.iter().sum::<f64>() >= 0.0 {
            (PADDING + least * GROWTHS[0].0, noise)
        } else {
            (noise, PADDING + least * GROWTHS[0].0)
        };
        -below <= more && more <= above
    }

    fn fits(&self, growth: Growth, share: f64) -> bool {
        self.fits_way(0, growth, share) && self.fits_way(1, growth, share)
    }
}

/// What is known of two connections of a pod, or of two sets of them, laid side by side.
#[derive(Clone, Default, Debug)]
pub struct Coupling {
    /// By what the pieces span: what a relay's delay confounds at one scale is plain at another.
    rings: [Ring; Span::ALL],
    nears: Nears,
    /// How much has met, what is repeated included.
    total: u64,
}

/// Couples of one scale.
#[derive(Clone, Default, Debug)]
struct Ring {
    couples: VecDeque<Couple>,
    /// Different ones so far, and how many there were when it was last time to judge.
    different: u64,
    judged: u64,
    /// Whether it is time to, and what was found when it last was.
    is_due: bool,
    told: Strength,
}

/// Different pieces of one side, and the share of them that fit.
#[derive(Clone, Copy, Debug)]
struct Fitting {
    pieces: f64,
    share: f64,
}

/// How sizes agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Likeness {
    /// They are about as long, but for a wrapping.
    #[default]
    Similar,
    /// They differ by the same few bytes for each record.
    Sealed,
    /// They are equal to the byte.
    Equal,
}

impl Likeness {
    /// What it tells at most: there are honest relays, too, and the less is asked, the more.
    const fn most_bits(self) -> f64 {
        match self {
            Self::Similar => 8.0,
            Self::Sealed => 12.0,
            Self::Equal => 14.0,
        }
    }
}

/// How sure it is that the one comes out of the other.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Strength {
    /// −log2 of the probability that sizes agree so by chance.
    pub bits: f64,
    /// How they agree.
    pub likeness: Likeness,
    /// Different couples looked at, and those that fit.
    pub couples: (usize, usize),
}

impl Strength {
    /// What counts for more.
    fn better(self, other: Self) -> Self {
        let order = other
            .weight()
            .total_cmp(&self.weight())
            .then(other.likeness.cmp(&self.likeness));
        if order.is_gt() { other } else { self }
    }

    /// Bits, as far as agreement of this kind may count.
    pub fn weight(&self) -> f64 {
        self.bits.min(self.likeness.most_bits())
    }
}

impl Coupling {
    /// Two pieces met. The first must always be of the same set. Whether so much was new since that it is time to judge:
    /// each look is another chance to be wrong.
    pub fn add(&mut self, lines: [u32; 2], one: &Passage, other: &Passage) -> bool {
        self.total = self.total.saturating_add(1);
        let ring = self.rings.get_mut(one.span as usize);
        ring.is_some_and(|ring| ring.add(Couple::new(lines, one, other)))
    }

    /// Two utterances met; as with pieces, the first is always of the same set.
    pub fn hear(&mut self, lines: [u32; 2], one: &Utterance, other: &Utterance) -> bool {
        self.total = self.total.saturating_add(1);
        self.nears.add(lines, one, other)
    }

    /// What has met so far.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How sure it is by now, where it is time to judge: at a scale at which it isn't, by what was found when it last was.
    pub fn judge(&mut self) -> Strength {
        for ring in &mut self.rings {
            ring.look();
        }
        let rings = self.rings.iter().map(|ring| ring.told);
        rings.fold(self.nears.strength(&self.rings), Strength::better)
    }

    /// How sure it is by all that has met.
    pub fn strength(&self) -> Strength {
        let rings = self.rings.iter().map(Ring::strength);
        rings.fold(self.nears.strength(&self.rings), Strength::better)
    }
}

impl Ring {
    fn add(&mut self, couple: Couple) -> bool {
        if self.couples.iter().any(|known| known.repeats(&couple)) {
            return false;
        }
        if self.couples.len() >= MOST {
            self.couples.pop_front();
        }
        push_back_tight(&mut self.couples, couple);
        self.different = self.different.saturating_add(1);
        let due = self.different >= self.judged.saturating_add(1 + self.judged / 5);
        if due {
            self.judged = self.different;
            self.is_due = true;
        }
        due
    }

    /// Judges, if it is time to.
    fn look(&mut self) {
        if std::mem::take(&mut self.is_due) {
            self.told = self.strength();
        }
    }

    fn strength(&self) -> Strength {
        self.by_equal().better(self.by_similar())
    }

    /// Equal lengths: each could have been another, up to twice as much; the more were looked at, the sooner some agree.
    fn by_equal(&self) -> Strength {
        let all = self.couples.len();
        let fitting = self.couples.iter().filter(|one| one.is_equal()).count();
        if fitting == 0 {
            return Strength::default();
        }
        let bits = |length: u64| ((length as f64 + 1.0).log2() / 2.0).min(MOST_BITS_EACH);
        let looked = (all as f64 / fitting as f64).log2();
        let told: f64 = self
            .couples
            .iter()
            .filter(|couple| couple.is_equal())
            .map(|couple| {
                // Many small ones tell no more than one of them.
                let lengths = couple.here.into_iter().zip(couple.packets);
                let each: f64 = lengths
                    .map(|(length, packets)| bits(length / u64::from(packets.max(1))))
                    .sum();
                (each - looked).max(0.0)
            })
            .sum();
        if told <= BITS_LOOKED {
            return Strength::default();
        }
        Strength {
            bits: told * (1.0 - self.by_chance(Couple::is_equal)) - BITS_LOOKED,
            likeness: Likeness::Equal,
            couples: (all, fitting),
        }
    }

    /// Similar lengths: the binomial tail (Chernoff) of as many pieces with a fitting one, were they paired at random. How
    /// much a packet grows is taken from the couple with which the most others agree, and that choice is paid for.
    fn by_similar(&self) -> Strength {
        let all = self.couples.len();
        let mut best = Strength::default();
        if all < FEWEST_LENGTHS {
            return best;
        }
        for (share, fewest) in GROWTHS {
            let agree = |growth: Growth| {
                let fits = |one: &&Couple| one.fits(growth, share);
                self.couples.iter().filter(fits).count()
            };
            let growth = self
                .couples
                .iter()
                .filter_map(Couple::growth)
                .max_by_key(|growth| agree(*growth));
            let Some(growth) = growth else { break };
            let fits = |couple: &Couple| couple.fits(growth, share);
            // Pairing them at random takes the longest, and mostly there is no need to.
            let sides = [0, 1].map(|side| self.fitting(side, fits));
            if sides.iter().all(Option::is_none) || !self.varies(fits) || agree(growth) < fewest {
                continue;
            }
            let chances = [0, 1].map(|way| self.by_chance(|one| one.fits_way(way, growth, share)));
            if chances.iter().any(|chance| *chance > MOST_CHANCE) {
                continue;
            }
            // Each way must tell something of itself.
            let told = |side: Option<Fitting>| {
                let Some(side) = side else { return 0.0 };
                let each = chances.map(|chance| self.tail(side, chance));
                let least = each[0].min(each[1]);
                if least < LEAST_BITS_EACH_WAY {
                    0.0
                } else {
                    each[0] + each[1]
                }
            };
            let bits = told(sides[0]).max(told(sides[1])) - (all as f64).log2() - BITS_LOOKED;
            if bits > best.bits {
                best = Strength {
                    bits,
                    likeness: Likeness::Similar,
                    couples: (all, agree(growth)),
                };
            }
        }
        best
    }

    /// Of one side's pieces, those that have a fitting one, if they are enough.
    fn fitting(&self, side: usize, fits: impl Fn(&Couple) -> bool) -> Option<Fitting> {
        let count = |wanted: &dyn Fn(&Couple) -> bool| {
            let of_side = self.couples.iter().filter(|couple| wanted(couple));
            let mut starts = [Timestamp::MIN; MOST];
            let mut len = 0;
            for (start, couple) in starts.iter_mut().zip(of_side) {
                *start = couple.starts[side];
                len += 1;
            }
            let starts = &mut starts[..len];
            starts.sort_unstable();
            starts.chunk_by(|one, next| one == next).count() as f64
        };
        // One of them has set the growth.
        let (pieces, fitting) = (count(&|_| true) - 1.0, count(&fits) - 1.0);
        let share = fitting / pieces;
        (pieces >= 1.0 && fitting >= 1.0 && share >= SHARE).then_some(Fitting { pieces, share })
    }

    fn tail(&self, Fitting { pieces, share }: Fitting, chance: f64) -> f64 {
        // Of few, nothing is known to be rare.
        let chance = chance.max(0.5 / (self.couples.len() as f64 + 1.0));
        let each = self.couples.len() as f64 / pieces;
        let chance = 1.0 - (1.0 - chance).powf(each);
        if share <= chance {
            return 0.0;
        }
        let term = |share: f64, chance: f64| {
            if share > 0.0 {
                share * (share / chance).log2()
            } else {
                0.0
            }
        };
        pieces * (term(share, chance) + term(1.0 - share, 1.0 - chance))
    }

    /// How often pieces fit that don't belong together.
    fn by_chance(&self, fits: impl Fn(&Couple) -> bool) -> f64 {
        let all = self.couples.len();
        let pairs = all.saturating_mul(all.saturating_sub(1)).max(1);
        let mut fitting = 0_usize;
        for (at, one) in self.couples.iter().enumerate() {
            for (other_at, other) in self.couples.iter().enumerate() {
                let strangers = other_at != at;
                fitting += usize::from(strangers && fits(&one.crossed(other)));
            }
        }
        fitting as f64 / pairs as f64
    }

    /// Whether what fits isn't always as long, either way, nor always in the same proportion: then it was so many times the
    /// same.
    fn varies(&self, fits: impl Fn(&Couple) -> bool) -> bool {
        let fitting: Vec<&Couple> = self.couples.iter().filter(|couple| fits(couple)).collect();
        let proportions = fitting.iter().enumerate().filter(|(at, couple)| {
            let mut before = fitting.iter().take(*at);
            before.all(|known| !proportional(known.here, couple.here))
        });
        proportions.count() >= FEWEST_LENGTHS
            && [0, 1].into_iter().all(|way| {
                let least =
                    |couple: &&Couple| Some(*couple.here.get(way)?.min(couple.there.get(way)?));
                let mut lengths: Vec<u64> = fitting.iter().filter_map(least).collect();
                lengths.sort_unstable();
                lengths.dedup();
                lengths.len() >= FEWEST_LENGTHS
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece in which a pod heard and said so much.
    pub(super) fn piece(at: i64, heard: u64, said: u64) -> Passage {
        Passage {
            span: Span::Exchange,
            asked: true,
            start: Timestamp::from_secs(at),
            answer: Timestamp::from_secs(at),
            bytes: [heard, said],
            packets: [1, 1],
        }
    }

    pub(super) const SIZES: [(u64, u64); 8] = [
        (90, 400),
        (310, 2210),
        (55, 9000),
        (140, 61),
        (220, 700),
        (75, 150),
        (400, 4096),
        (180, 1300),
    ];

    fn strength(other: impl Fn(u64, u64) -> (u64, u64)) -> Strength {
        let mut coupling = Coupling::default();
        for (at, (asked, answered)) in (0..).zip(SIZES) {
            let (said, heard) = other(asked, answered);
            coupling.add([0, 0], &piece(at, asked, answered), &piece(at, heard, said));
        }
        coupling.strength()
    }

    #[test]
    fn a_copy_is_surest() {
        let copy = strength(|asked, answered| (asked, answered));
        assert!(
            copy.likeness == Likeness::Equal && copy.bits > 30.0,
            "{copy:?}"
        );
        assert_eq!(copy.couples, (8, 8));
    }

    #[test]
    fn a_wrapping_is_told_by_what_it_adds() {
        let wrapped = strength(|asked, answered| (asked + 22, answered + 22));
        assert!(
            wrapped.likeness == Likeness::Similar && wrapped.bits > 10.0,
            "{wrapped:?}"
        );
        // One way longer and the other way shorter is no wrapping.
        let edited = strength(|asked, answered| (asked + 90, answered - 30));
        assert!(edited.bits <= 0.0, "{edited:?}");
    }

    #[test]
    fn sizes_that_have_nothing_to_do_with_one_another_tell_nothing() {
        let other = strength(|asked, answered| (asked * 3 % 211 + 40, answered * 7 % 1900 + 80));
        assert!(other.bits <= 0.0, "{other:?}");
    }

    #[test]
    fn the_same_again_and_again_proves_nothing() {
        let mut coupling = Coupling::default();
        for at in 0..500 {
            let times = 1 + at as u64 % 3;
            let (one, other) = (100 * times, 156 * times);
            coupling.add([0, 0], &piece(at, one, other), &piece(at, other, one));
        }
        assert!(coupling.strength().bits < 6.0);
        assert_eq!(coupling.total(), 500);
    }
}
