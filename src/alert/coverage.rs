//! How much of the traffic was seen, and lost, while something went on.

use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// What was captured and what was lost over an alert's window, so that a reader can tell quiet from blind.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Coverage {
    /// Packets read.
    pub packets: u64,
    /// What was lost, by cause.
    pub lost: LossCounts,
}

impl Coverage {
    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.packets = self.packets.saturating_add(other.packets);
        self.lost.merge(&other.lost);
        self
    }

    /// What came after `earlier`, both counted from the start of the run.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            lost: self.lost.since(&earlier.lost),
        }
    }
}

/// More marks than this are thinned out.
const MOST_MARKS: usize = 512;

/// The run's counters at some moments of the past. Of a long run it keeps fewer and fewer moments per hour.
#[derive(Debug, Default)]
pub(super) struct CoverageLog {
    marks: Vec<(Timestamp, Coverage)>,
}

impl CoverageLog {
    /// Notes the counters as they are at `now`.
    pub(super) fn mark(&mut self, now: Timestamp, counters: Coverage) {
        if self.marks.last().is_some_and(|(last, _)| now <= *last) {
            return;
        }
        if self.marks.len() >= MOST_MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push((now, counters));
    }

    /// What was seen from `first` until the counters were `now`. It begins at the last mark before `first`, so it covers
    /// the window and perhaps a little more, never less.
    pub(super) fn since(&self, first: Timestamp, now: &Coverage) -> Coverage {
        let after = self.marks.partition_point(|(time, _)| *time <= first);
        match after.checked_sub(1).and_then(|index| self.marks.get(index)) {
            Some((_, before)) => now.since(before),
            None => now.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Loss;

    fn counters(packets: u64, gaps: u64) -> Coverage {
        let mut lost = LossCounts::default();
        lost.add_n(Loss::StreamGap, gaps);
        Coverage { packets, lost }
    }

    #[test]
    fn a_window_begins_at_the_mark_before_it() {
        let mut log = CoverageLog::default();
        log.mark(Timestamp::from_secs(10), counters(100, 1));
        log.mark(Timestamp::from_secs(20), counters(250, 1));
        let now = counters(400, 3);
        let at = |secs| log.since(Timestamp::from_secs(secs), &now);
        assert_eq!(at(5), now, "before the first mark all of it counts");
        assert_eq!(at(19), counters(300, 2));
        assert_eq!(at(20), counters(150, 2));
        assert_eq!(at(99), counters(150, 2));
    }

    #[test]
    fn the_log_is_bounded_and_never_understates() {
        let mut log = CoverageLog::default();
        for second in 0..100_000_u64 {
            log.mark(
                Timestamp::from_secs(second as i64),
                counters(second * 10, 0),
            );
        }
        assert!(log.marks.len() <= MOST_MARKS);
        let now = counters(1_000_000, 0);
        for first in (0..100_000_u64).step_by(997) {
            let seen = log.since(Timestamp::from_secs(first as i64), &now).packets;
            assert!(seen >= 1_000_000 - first * 10, "{first}: {seen}");
        }
    }
}
