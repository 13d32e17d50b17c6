//! Pseudo-random numbers that are the same on every machine, for ever.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): small, quick, and
//! plenty for making up traffic. Nothing secret depends on it.

use std::ops::Range;
use std::time::Duration;

/// A stream of numbers that follows from its seed alone.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for one purpose, so that drawing more for one leaves the others as they were.
    pub fn derived(seed: u64, purpose: &str) -> Self {
        Self::new(seed ^ fnv1a(purpose.as_bytes()))
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.bits() as u128 * n as u128) >> 64) as u64
    }

    /// A number in a range; its start if the range is empty.
    pub const fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True in `percent` of a hundred cases.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several; there must be one.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A duration between the two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_nanos(self.within(nanos(least)..nanos(most).saturating_add(1)))
    }

    /// A duration within 30 % of `around`.
    pub fn about(&mut self, around: Duration) -> Duration {
        self.between(around.mul_f64(0.7), around.mul_f64(1.3))
    }

    /// The pause to the next of many independent events that come `mean` apart: exponential, up to 20 times `mean`.
    ///
    /// The logarithm is taken from the leading bit, and linearly between powers of two (at most 9 % off), for the
    /// library's differs between platforms.
    pub fn pause(&mut self, mean: Duration) -> Duration {
        let uniform = (self.bits() >> 32) | 1;
        let whole = uniform.ilog2();
        let fraction = uniform as f64 / (1_u64 << whole) as f64 - 1.0;
        let doublings = 32.0 - f64::from(whole) - fraction;
        mean.mul_f64((doublings * std::f64::consts::LN_2).min(20.0))
    }

    /// Bytes without any pattern.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 7);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.bits().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// An array of bytes without any pattern.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.bits() as u8)
    }

    /// Characters drawn from an alphabet of ASCII characters.
    pub fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(self.pick(alphabet))).collect()
    }

    /// Hexadecimal digits.
    pub fn hex(&mut self, len: usize) -> String {
        self.text(b"0123456789abcdef", len)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        // First outputs for seed 1234567, as the algorithm's authors give them.
        let mut rng = Rng::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn draws_keep_to_their_bounds() {
        let mut rng = Rng::new(7);
        for _ in 0..1000 {
            assert!(rng.below(3) < 3);
            assert!((5..9).contains(&rng.within(5..9)));
            let about = rng.about(Duration::from_millis(100));
            assert!((70..=130).contains(&about.as_millis()), "{about:?}");
        }
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.bytes(13).len(), 13);
    }

    #[test]
    fn pauses_have_the_mean_asked_for() {
        let mut rng = Rng::new(11);
        let sum: Duration = (0..20_000).map(|_| rng.pause(Duration::from_secs(1))).sum();
        let mean = sum.as_secs_f64() / 20_000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
    }

    #[test]
    fn purposes_draw_from_streams_of_their_own() {
        let (mut a, mut b) = (Rng::derived(1, "a"), Rng::derived(1, "b"));
        assert_ne!(a.bits(), b.bits());
    }
}
