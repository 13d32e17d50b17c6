//! Capture time: the only clock the pipeline knows.
//!
//! Everything from decode to alert takes its time from the frame, so that a capture replayed gives the same output and
//! last week's file is judged by last week's time.

use std::time::Duration;

/// Nanoseconds since the Unix epoch, as stamped by whatever captured the frame.
///
/// Arithmetic saturates: stamps come from files that anyone may have written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(i64);

const NANOS_PER_SEC: i64 = 1_000_000_000;

impl Timestamp {
    /// Before every capture.
    pub const MIN: Self = Self(i64::MIN);
    /// After every capture.
    pub const MAX: Self = Self(i64::MAX);

    /// A stamp from nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A stamp from whole seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC))
    }

    /// A stamp from seconds and a fraction, as pcap stores it.
    pub const fn from_secs_nanos(secs: i64, nanos: u32) -> Self {
        Self(
            secs.saturating_mul(NANOS_PER_SEC)
                .saturating_add(nanos as i64),
        )
    }

    /// A stamp from seconds as a decimal number (watch events, CSV); sub-microsecond digits are noise in a double.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self((secs * 1e6).round() as i64).scaled(1_000)
    }

    const fn scaled(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch as a double (microsecond precision for present dates).
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Time since `earlier`; zero when `earlier` is in fact later (captures are not always in order).
    pub const fn since(self, earlier: Self) -> Duration {
        let delta = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(if delta > 0 { delta as u64 } else { 0 })
    }

    /// This stamp moved later by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// This stamp moved earlier by `by`.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_stamps_saturate_instead_of_wrapping() {
        let far = Timestamp::from_secs_nanos(i64::MAX, 5);
        assert_eq!(far, Timestamp::MAX);
        assert_eq!(far.after(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.before(Duration::MAX), Timestamp::MIN);
    }

    #[test]
    fn since_is_zero_for_reordered_stamps() {
        let (a, b) = (Timestamp::from_secs(10), Timestamp::from_secs(12));
        assert_eq!(b.since(a), Duration::from_secs(2));
        assert_eq!(a.since(b), Duration::ZERO);
    }
}
