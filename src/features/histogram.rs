//! A histogram with logarithmic buckets: constant size, mergeable, the same whatever the order of its values.

/// Buckets per doubling; the relative error of a quantile is below 2^(1/4) − 1 ≈ 19 %.
const PER_OCTAVE: f64 = 4.0;
/// Bucket 0 holds zero (and less than one); 256 buckets reach 2^63.75.
const BUCKETS: usize = 256;

/// Counts of values by magnitude. Values are non-negative; one unit is the finest distinction.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogHistogram {
    /// `(bucket, count)`, sorted by bucket; only those with a count.
    counts: Vec<(u8, u32)>,
    total: u64,
}

impl LogHistogram {
    /// A histogram from its `(bucket, count)` pairs; pairs out of range or order are put right.
    pub fn from_counts(counts: impl IntoIterator<Item = (u8, u32)>) -> Self {
        let mut histogram = Self::default();
        for (bucket, count) in counts {
            histogram.add_n(bucket, count);
        }
        histogram
    }

    /// The `(bucket, count)` pairs, sorted.
    pub fn counts(&self) -> &[(u8, u32)] {
        &self.counts
    }

    /// How many values it holds.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.add_n(Self::bucket(value), 1);
    }

    /// Adds `n` values of a bucket.
    pub fn add_n(&mut self, bucket: u8, n: u32) {
        if n == 0 {
            return;
        }
        match self.counts.binary_search_by_key(&bucket, |&(at, _)| at) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(n);
                }
            }
            Err(at) => self.counts.insert(at, (bucket, n)),
        }
        self.total = self.total.saturating_add(u64::from(n));
    }

    /// Adds all of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.counts {
            self.add_n(bucket, count);
        }
    }

    /// The upper edge of the bucket that holds the `q`-quantile; `None` if empty.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        self.counts.iter().find_map(|&(bucket, count)| {
            seen = seen.saturating_add(u64::from(count));
            (seen >= rank).then(|| upper_edge(bucket))
        })
    }

    /// Bits of surprise at a value this high or higher: −log2 of its share of the values, with add-one smoothing, so
    /// that n values never give more than log2(n + 1) bits.
    pub fn tail_bits(&self, value: f64) -> f64 {
        -((self.above(value) as f64 + 1.0) / (self.total as f64 + 1.0)).log2()
    }

    /// The probability of a value this high or higher, with add-one smoothing. Beyond everything seen it falls as the
    /// value grows, by half for each doubling: the heavy tail (index 1) that traffic has, and what Markov's inequality
    /// allows for any.
    pub fn tail(&self, value: f64) -> f64 {
        let above = self.above(value);
        let share = (above as f64 + 1.0) / (self.total as f64 + 1.0);
        if above > 0 || value.is_nan() {
            return share.min(1.0);
        }
        share * (self.most().max(1.0) / value.max(1.0)).min(1.0)
    }

    /// The upper edge of the highest bucket with a value; 0 if empty.
    pub fn most(&self) -> f64 {
        self.counts
            .last()
            .map_or(0.0, |&(bucket, _)| upper_edge(bucket))
    }

    /// The highest bucket with a value.
    pub fn highest(&self) -> Option<u8> {
        self.counts.last().map(|&(bucket, _)| bucket)
    }

    /// Forgets half of what it holds, so that what no longer happens fades.
    pub fn halve(&mut self) {
        self.total = 0;
        self.counts.retain_mut(|(_, count)| {
            *count /= 2;
            self.total += u64::from(*count);
            *count > 0
        });
    }

    /// The bucket of a value.
    pub fn bucket(value: f64) -> u8 {
        if value >= 1.0 {
            (1.0 + value.log2() * PER_OCTAVE).min((BUCKETS - 1) as f64) as u8
        } else {
            0
        }
    }

    /// The highest value that belongs into a bucket.
    pub fn edge(bucket: u8) -> f64 {
        upper_edge(bucket)
    }

    /// Values in the bucket of `value` or a higher one.
    fn above(&self, value: f64) -> u64 {
        let at = Self::bucket(value);
        self.counts
            .iter()
            .filter(|&&(bucket, _)| bucket >= at)
            .map(|&(_, count)| u64::from(count))
            .sum()
    }
}

fn upper_edge(bucket: u8) -> f64 {
    if bucket == 0 {
        0.0
    } else {
        (f64::from(bucket) / PER_OCTAVE).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tail_bits_are_bounded_by_experience() {
        let mut histogram = LogHistogram::default();
        assert_eq!(
            histogram.tail_bits(1e9),
            0.0,
            "nothing known, nothing surprising"
        );
        for _ in 0..1023 {
            histogram.add(10.0);
        }
        assert!((histogram.tail_bits(1e6) - 10.0).abs() < 1e-9);
        assert!(histogram.tail_bits(10.0).abs() < 1e-9);
    }

    #[test]
    fn beyond_experience_each_doubling_is_a_bit() {
        let mut histogram = LogHistogram::default();
        assert!((histogram.tail(0.0) - 1.0).abs() < 1e-9);
        for _ in 0..1023 {
            histogram.add(1000.0);
        }
        let bits = |value: f64| -histogram.tail(value).log2();
        assert!(bits(900.0) < 1e-9);
        assert!((bits(1e6 * 2.0) - bits(1e6) - 1.0).abs() < 1e-9);
        assert!((bits(histogram.most() * 4.0) - 12.0).abs() < 1e-9);
        assert!((histogram.tail(f64::NAN) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn halving_keeps_the_shape() {
        let mut histogram = LogHistogram::from_counts([(0, 9), (5, 1), (7, 4)]);
        histogram.halve();
        assert_eq!(histogram, LogHistogram::from_counts([(0, 4), (7, 2)]));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_bucket_error(mut values in prop::collection::vec(1.0..1e9_f64, 1..200), q in 0.0..1.0_f64) {
            let mut histogram = LogHistogram::default();
            for &value in &values { histogram.add(value); }
            values.sort_by(f64::total_cmp);
            let rank = ((q * values.len() as f64).ceil().max(1.0) as usize).min(values.len());
            let (exact, estimate) = (values[rank - 1], histogram.quantile(q).unwrap());
            prop_assert!(estimate >= exact * 0.999 && estimate <= exact * 1.19, "{exact} {estimate}");
        }

        #[test]
        fn merging_is_adding(a in prop::collection::vec(0.0..1e6_f64, 0..50), b in prop::collection::vec(0.0..1e6_f64, 0..50)) {
            let of = |values: &[f64]| { let mut h = LogHistogram::default(); for &v in values { h.add(v); } h };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
