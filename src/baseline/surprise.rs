//! How surprising something is, in bits: −log2 of how probable what was learned makes it. `docs/evidence.md` derives each.
//!
//! Every function returns a finite number that is not negative, whatever it is given, and none claims more than the
//! experience behind it: n observations make at most about log2(n) bits, but for values beyond all that was seen.

/// What a new thing costs where `seen` sightings held `once` things that were seen a single time: Good and Turing's
/// estimate P(new) = N₁/N (I. J. Good, Biometrika 1953), with both raised a little so that no stranger so far is not
/// taken for none ever.
pub(super) fn novelty_bits(seen: u64, once: u64) -> f64 {
    bits((once as f64 + 0.5) / (seen as f64 + 1.0))
}

/// −log2 of a probability, 0 for what is no probability.
pub(super) fn bits(probability: f64) -> f64 {
    if probability.is_nan() || probability >= 1.0 {
        return 0.0;
    }
    -probability.max(f64::MIN_POSITIVE).log2()
}

/// What a value costs that is `z` standard deviations off the mean of `n`: of the normal distribution's two tails
/// (bounded by exp(−z²/2)) and the chance 1/(n+1) that the next one follows no rule.
pub(super) fn spread_bits(z: f64, n: u64) -> f64 {
    let outlier = 1.0 / (n as f64 + 1.0);
    bits((-z * z / 2.0).exp() * (1.0 - outlier) + outlier)
}

/// How much one's own experience of `n` observations counts against that of the group one belongs to: n/(n + 60), for an
/// hour of minutes.
pub(super) fn own_weight(n: u64) -> f64 {
    let n = n as f64;
    n / (n + 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::rng::Rng;
    use proptest::prelude::*;

    /// A source that says something never said before with a chance of `percent`, else one of twenty things.
    fn source(seed: u64, percent: u64, length: u64) -> (u64, u64) {
        let mut rng = Rng::new(seed);
        let (mut usual, mut strangers) = ([0_u64; 20], 0);
        for _ in 0..length {
            if rng.chance(percent) {
                strangers += 1;
            } else {
                usual[rng.below(20) as usize] += 1;
            }
        }
        let once = usual.iter().filter(|&&count| count == 1).count() as u64;
        (length, strangers + once)
    }

    /// Draws from a fixed, skewed distribution (Zipf), whose unseen mass is known exactly.
    fn zipf(seed: u64, kinds: usize, length: usize) -> (u64, u64, f64) {
        let weights: Vec<f64> = (1..=kinds).map(|rank| 1.0 / rank as f64).collect();
        let total: f64 = weights.iter().sum();
        let mut rng = Rng::new(seed);
        let mut counts = vec![0_u64; kinds];
        for _ in 0..length {
            let mut left = (rng.bits() >> 11) as f64 / (1_u64 << 53) as f64 * total;
            let at = weights.iter().position(|weight| {
                left -= weight;
                left <= 0.0
            });
            counts[at.unwrap_or(kinds - 1)] += 1;
        }
        let once = counts.iter().filter(|&&count| count == 1).count() as u64;
        let unseen: f64 = weights
            .iter()
            .zip(&counts)
            .filter(|&(_, &count)| count == 0)
            .map(|(weight, _)| weight / total)
            .sum();
        (length as u64, once, unseen)
    }

    #[test]
    fn good_turing_finds_the_novelty_of_a_source() {
        let mut worst: f64 = 0.0;
        for (kinds, length) in [(20_000, 3_000), (5_000, 3_000), (50_000, 2_000)] {
            let (mut estimated, mut real) = (0.0, 0.0);
            for seed in 0..10 {
                let (seen, once, unseen) = zipf(seed, kinds, length);
                estimated += (-novelty_bits(seen, once)).exp2();
                real += unseen;
            }
            worst = worst.max((estimated / real - 1.0).abs());
        }
        assert!(worst < 0.2, "{worst}");
    }

    #[test]
    fn so_it_does_for_a_trickle_of_strangers() {
        for percent in [50, 10, 2] {
            let (seen, once) = source(7, percent, 5000);
            let estimated = (-novelty_bits(seen, once)).exp2();
            let real = percent as f64 / 100.0;
            assert!(
                (estimated / real - 1.0).abs() < 0.2,
                "{estimated} of {real}"
            );
        }
    }

    proptest! {
        #[test]
        fn bits_are_finite_and_never_negative(seen in 0_u64.., once in 0_u64.., p in prop::num::f64::ANY, z in prop::num::f64::ANY) {
            for value in [novelty_bits(seen, once), bits(p), spread_bits(z, seen)] {
                prop_assert!(value.is_finite() && value >= 0.0, "{value}");
            }
        }
    }
}
