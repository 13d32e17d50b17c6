//! How far from chance a series of intervals is.
//!
//! Memoryless events (Poisson, the null hypothesis) have exponential intervals, a clock has equal ones. The Gini index of
//! the intervals tells them apart, and jitter doesn't undo it: an interval drawn from a bounded range is less uneven than
//! an exponential one, however wide the range. Gail and Gastwirth ("A scale-free goodness-of-fit test for the exponential
//! distribution based on the Gini statistic", J. R. Statist. Soc. B 1978) show that under the null the index is distributed
//! like the mean of independent uniform variables, and still is when the largest intervals are known only to be large. So
//! an outlier (the machine slept, the server was down) is cut down to the largest of the others, and the significance
//! stays exact.

use std::sync::LazyLock;

/// An interval this many times the median is an outlier,
const OUTLIER: f64 = 8.0;
/// of which at most one in this many is cut down.
const OUTLIER_PART: usize = 4;
/// Beyond this many intervals the sum of uniform variables is taken as normal: the exact alternating sum would lose its
/// digits.
const MOST_EXACT: usize = 40;

/// The logarithm of each factorial that the exact sum asks for.
static LN_FACTORIALS: LazyLock<[f64; MOST_EXACT + 1]> = LazyLock::new(|| {
    let mut sum = 0.0;
    std::array::from_fn(|m| {
        sum += (m.max(1) as f64).ln();
        sum
    })
});

/// What a series of intervals tells.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Regularity {
    /// The Gini index: 0 for a clock, about 0.5 for chance.
    pub index: f64,
    /// Bits against chance: −log2 of the probability of an index this low.
    pub bits: f64,
    /// The median interval.
    pub median: f64,
}

/// Tests intervals (any unit, none negative). `None` with fewer than three.
pub fn regularity(intervals: &[f64]) -> Option<Regularity> {
    let mut sorted = intervals.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n < 3 {
        return None;
    }
    let median = sorted.get(n / 2).copied().unwrap_or_default();
    let outliers = sorted
        .iter()
        .filter(|&&interval| interval > OUTLIER * median)
        .count()
        .min(n / OUTLIER_PART);
    // Normalised spacings of the order statistics, exponential and independent under the null.
    let mut before = 0.0;
    let (mut weighted, mut total) = (0.0, 0.0);
    for (rank, &interval) in sorted.iter().take(n - outliers).enumerate() {
        let spacing = (n - rank) as f64 * (interval - before);
        before = interval;
        weighted += rank as f64 * spacing;
        total += spacing;
    }
    let uniforms = n - outliers - 1;
    let sum = if total > 0.0 { weighted / total } else { 0.0 };
    Some(Regularity {
        index: sum / uniforms as f64,
        bits: -sum_of_uniforms(uniforms, sum).max(f64::MIN_POSITIVE).log2() + 0.0,
        median,
    })
}

/// Probability that `n` independent variables, uniform on (0, 1), sum to at most `sum` (Irwin and Hall).
fn sum_of_uniforms(n: usize, sum: f64) -> f64 {
    let count = n as f64;
    if sum <= 0.0 {
        return 0.0;
    }
    if sum >= count {
        return 1.0;
    }
    if n > MOST_EXACT {
        // Chernoff's bound for the tail, which matters; chance is chance above the mean.
        return chernoff(count, sum);
    }
    // Σ (−1)^k C(n, k) (sum − k)^n / n!, each term from logarithms.
    let ln_factorial = |m: usize| LN_FACTORIALS.get(m).copied().unwrap_or_default();
    let mut probability = 0.0;
    for k in 0..=sum.floor() as usize {
        let rest = sum - k as f64;
        if rest <= 0.0 {
            break;
        }
        let magnitude =
            (count * rest.ln() - ln_factorial(k) - ln_factorial(n.saturating_sub(k))).exp();
        probability += if k % 2 == 0 { magnitude } else { -magnitude };
    }
    probability.clamp(0.0, 1.0)
}

/// An upper bound of the lower tail: E[exp(−tU)]^n · exp(t·sum) for the best t, found by bisection of the derivative.
fn chernoff(count: f64, sum: f64) -> f64 {
    let mean = sum / count;
    if mean >= 0.5 {
        return 1.0;
    }
    // The mean of a uniform variable tilted by exp(−t·u): 1/t − 1/(exp(t) − 1), falling in t from 1/2.
    let tilted = |t: f64| 1.0 / t - 1.0 / t.exp_m1();
    let (mut low, mut high) = (1e-6, 700.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if tilted(middle) > mean {
            low = middle;
        } else {
            high = middle;
        }
    }
    let ln = count * ((-(-low).exp_m1() / low).ln() + low * mean);
    ln.min(0.0).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::rng::Rng;

    fn uniform(rng: &mut Rng) -> f64 {
        rng.below(1 << 40) as f64 / (1_u64 << 40) as f64
    }

    fn exponential(rng: &mut Rng) -> f64 {
        -(1.0 - uniform(rng)).ln()
    }

    /// How often a test at 1 % calls series of `n` intervals regular.
    fn called(n: usize, mut interval: impl FnMut(&mut Rng) -> f64) -> f64 {
        const SERIES: u32 = 2000;
        let mut rng = Rng::new(7);
        let hits = (0..SERIES)
            .filter(|_| {
                let series: Vec<f64> = (0..n).map(|_| interval(&mut rng)).collect();
                regularity(&series).unwrap().bits >= 100_f64.log2()
            })
            .count();
        hits as f64 / f64::from(SERIES)
    }

    #[test]
    fn chance_is_called_regular_once_in_a_hundred() {
        for n in [8, 12, 24, 31, 60] {
            let rate = called(n, exponential);
            assert!(rate <= 0.016, "{n}: {rate}");
        }
    }

    #[test]
    fn jitter_does_not_hide_a_clock() {
        let jittered = |share: f64| move |rng: &mut Rng| 1.0 + share * (2.0 * uniform(rng) - 1.0);
        assert!(called(8, jittered(0.2)) > 0.99);
        assert!(called(12, jittered(0.5)) > 0.98);
        assert!(
            called(24, jittered(0.9)) >= 0.9,
            "{}",
            called(24, jittered(0.9))
        );
        // Sleep cut by up to nine tenths, as some implants do it.
        assert!(called(24, |rng| 1.0 - 0.9 * uniform(rng)) > 0.97);
        // One interval in twenty is forty times as long.
        let gaps = |rng: &mut Rng| {
            let interval = jittered(0.5)(rng);
            if rng.chance(5) {
                interval * 40.0
            } else {
                interval
            }
        };
        assert!(called(24, gaps) > 0.98);
    }

    #[test]
    fn a_clock_is_a_clock_and_nothing_is_nothing() {
        assert_eq!(regularity(&[1.0, 1.0]), None);
        let clock = regularity(&[5.0; 12]).unwrap();
        assert!(clock.index == 0.0 && clock.bits > 100.0);
        let idle = regularity(&[0.0; 5]).unwrap();
        assert!(idle.bits.is_finite());
    }

    #[test]
    fn the_sum_of_two_uniform_variables_is_triangular() {
        for sum in [0.1, 0.5, 0.9] {
            assert!((sum_of_uniforms(2, sum) - sum * sum / 2.0).abs() < 1e-12);
            assert!((sum_of_uniforms(2, 2.0 - sum) - (1.0 - sum * sum / 2.0)).abs() < 1e-12);
        }
        assert!((sum_of_uniforms(9, 4.5) - 0.5).abs() < 1e-12);
        assert!((sum_of_uniforms(40, 20.0) - 0.5).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn neither_unit_nor_order_matter(mut intervals in prop::collection::vec(0.0..1e4_f64, 3..80), unit in 0.001..1000.0_f64) {
            let one = regularity(&intervals).unwrap();
            prop_assert!((0.0..=1.0).contains(&one.index) && one.bits >= 0.0 && one.bits.is_finite());
            intervals.reverse();
            for interval in &mut intervals { *interval *= unit; }
            let other = regularity(&intervals).unwrap();
            prop_assert!((one.index - other.index).abs() < 1e-9);
            prop_assert!((one.bits - other.bits).abs() < 1e-3 * (1.0 + one.bits));
        }
    }
}
