//! Wald's sequential test on the outcomes of first contacts (Jung, Paxson, Berger, Balakrishnan: "Fast Portscan
//! Detection Using Sequential Hypothesis Testing", IEEE S&P 2004).
//!
//! Each first contact multiplies the likelihood ratio of "scanner" against "benign". There is no time window, so a scan
//! gains nothing by being slow. Wald's bound for a detection rate d and a false-positive rate f is log2(d/f) bits: 16.6
//! for 0.99 and 10⁻⁵. The ratio never falls below 1, as in Page's test: a scanner can't earn credit with the
//! contacts it made before.

/// Success probabilities under both hypotheses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SequentialTest {
    /// log2 of (1−θ1)/(1−θ0): what a failure adds.
    failure_bits: f64,
    /// log2 of θ1/θ0, negative: what a success takes away.
    success_bits: f64,
}

impl SequentialTest {
    /// A test for a benign success rate `theta0` against a scanner's `theta1`.
    ///
    /// Both are kept within 0.01..=0.99, and `theta0` above `theta1`, so that evidence is always finite and never points
    /// the wrong way.
    pub fn new(theta0: f64, theta1: f64) -> Self {
        let theta1 = theta1.clamp(0.01, 0.98);
        let theta0 = theta0.clamp(theta1 + 0.01, 0.99);
        Self {
            failure_bits: ((1.0 - theta1) / (1.0 - theta0)).log2(),
            success_bits: (theta1 / theta0).log2(),
        }
    }

    /// The ratio in bits after one more contact.
    pub fn step(&self, bits: f64, success: bool) -> f64 {
        (bits + self.step_bits(success)).max(0.0)
    }

    /// What one contact adds, in bits; negative for a success.
    pub const fn step_bits(&self, success: bool) -> f64 {
        if success {
            self.success_bits
        } else {
            self.failure_bits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_numbers() {
        let test = SequentialTest::new(0.8, 0.2);
        assert!(
            (test.step(0.0, false) - 2.0).abs() < 1e-9,
            "a failure is a factor of 4"
        );
        assert!(
            (test.step(5.0, true) - 3.0).abs() < 1e-9,
            "a success one of 1/4"
        );
        // η1 = 0.99/0.01 = 99: four straight failures decide.
        let threshold = (0.99_f64 / 0.01).log2();
        let after = |n: usize| (0..n).fold(0.0, |bits, _| test.step(bits, false));
        assert!(after(3) < threshold && after(4) > threshold);
    }

    #[test]
    fn successes_before_buy_nothing() {
        let test = SequentialTest::new(0.8, 0.2);
        let bits = (0..50).fold(0.0, |bits, _| test.step(bits, true));
        assert_eq!(bits, 0.0);
    }
}
