//! What is usual with one peer: how much goes there and back, for how long, how often, and at which hours.

use std::time::Duration;

use super::limits;
use super::surprise;
use super::table::{from_seconds, seconds};
use crate::features::LogHistogram;
use crate::time::Timestamp;

/// Contacts further apart than this are two visits.
const VISIT_GAP: u32 = 3600;
/// Visits that must have been before their hours say anything.
const FEWEST_VISITS: usize = 3;
/// The least spread a phase is thought to have: a job that starts on the minute may run late.
const LEAST_SPREAD: f64 = 1800.0;
/// How tightly visits must lie around one hour (mean resultant length) to be at an hour at all.
const CONCENTRATED: f64 = 0.9;
/// The least spread of gaps, as a standard deviation of their log2: 10 %.
const LEAST_GAP_SPREAD: f64 = 0.14;
const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;

/// Gaps between contacts: mean and spread of their log2 (Welford; merged as Chan et al. have it).
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Rhythm {
    pub(super) n: u32,
    pub(super) mean: f64,
    pub(super) m2: f64,
}

impl Rhythm {
    fn add(&mut self, gap: Duration) {
        let value = gap.as_secs_f64().log2();
        self.n = self.n.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / f64::from(self.n);
        self.m2 += delta * (value - self.mean);
    }

    fn merge(&mut self, other: &Self) {
        let (a, b) = (f64::from(self.n), f64::from(other.n));
        if b == 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        self.mean += delta * b / (a + b);
        self.m2 += other.m2 + delta * delta * a * b / (a + b);
        self.n = self.n.saturating_add(other.n);
    }

    /// The standard deviation of the gaps' log2.
    fn spread(&self) -> f64 {
        (self.m2.max(0.0) / f64::from(self.n.max(1))).sqrt()
    }
}

/// How regularly a peer is contacted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Period {
    /// The usual gap between contacts (geometric mean; gaps below a second are not counted).
    pub gap: Duration,
    /// The relative spread of the gaps: 0.1 when two thirds lie within 10 % of the usual one.
    pub spread: f64,
    /// Gaps measured.
    pub count: u64,
}

/// At which hours a peer is visited, where it is by a plan.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Schedule {
    /// A day, a week, or another time that visits keep.
    pub every: Duration,
    /// The last visit that was on time.
    pub last: Timestamp,
    /// Usual distance from the plan, at least half an hour.
    pub spread: Duration,
    /// Visits that the plan rests on.
    pub visits: usize,
}

/// What is usual with one peer.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Habit {
    /// Payload bytes per flow that the client sent.
    pub(super) out: LogHistogram,
    /// Payload bytes per flow that the server sent.
    pub(super) back: LogHistogram,
    /// Milliseconds per flow.
    pub(super) duration: LogHistogram,
    pub(super) rhythm: Rhythm,
    /// Starts of the last visits, in seconds, in order.
    pub(super) visits: Vec<u32>,
}

impl Habit {
    /// The peer was contacted, `gap` after the same pod's contact before.
    pub(super) fn contact(&mut self, time: Timestamp, gap: Option<Duration>) {
        if let Some(gap) = gap.filter(|gap| gap.as_secs() >= 1) {
            self.rhythm.add(gap);
        }
        if self.visits.is_empty() {
            self.visits.push(seconds(time));
        }
    }

    /// A flow is over.
    pub(super) fn flow(&mut self, out: u64, back: u64, duration: Duration) {
        add(&mut self.out, out as f64);
        add(&mut self.back, back as f64);
        add(&mut self.duration, duration.as_secs_f64() * 1000.0);
    }

    /// Takes in another's. `ours` and `theirs` are the seconds between which each saw the peer.
    pub(super) fn merge(&mut self, other: &Self, ours: (u32, u32), theirs: (u32, u32)) {
        merge(&mut self.out, &other.out);
        merge(&mut self.back, &other.back);
        merge(&mut self.duration, &other.duration);
        self.rhythm.merge(&other.rhythm);
        // What the one saw begin may be the going on of what the other saw.
        let goes_on = |start: u32, (_, last): (u32, u32)| start >= last && start - last < VISIT_GAP;
        self.visits.retain(|&start| !goes_on(start, theirs));
        let new = other.visits.iter().filter(|&&start| !goes_on(start, ours));
        self.visits.extend(new);
        self.visits.sort_unstable();
        self.visits
            .dedup_by(|later, earlier| *later - *earlier < VISIT_GAP);
        let surplus = self.visits.len().saturating_sub(limits::VISITS);
        self.visits.drain(..surplus);
    }

    pub(super) fn period(&self) -> Option<Period> {
        (self.rhythm.n >= 3).then(|| Period {
            gap: Duration::from_secs_f64(self.rhythm.mean.clamp(0.0, 40.0).exp2()),
            spread: self.rhythm.spread().min(64.0).exp2() - 1.0,
            count: u64::from(self.rhythm.n),
        })
    }

    /// What a gap costs that is longer or shorter than usual.
    pub(super) fn gap_bits(&self, gap: Duration) -> f64 {
        if self.rhythm.n < 3 {
            return 0.0;
        }
        let off = gap.as_secs_f64().max(1e-9).log2() - self.rhythm.mean;
        let z = off / self.rhythm.spread().max(LEAST_GAP_SPREAD);
        surprise::spread_bits(z, u64::from(self.rhythm.n))
    }

    /// The plan behind the visits: the time that they keep best, of a day, a week, and the usual time between them.
    pub(super) fn schedule(&self) -> Option<Schedule> {
        if self.visits.len() < FEWEST_VISITS {
            return None;
        }
        let mut gaps: Vec<u32> = self
            .visits
            .windows(2)
            .filter_map(|pair| Some(pair.last()?.saturating_sub(*pair.first()?)))
            .collect();
        gaps.sort_unstable();
        let usual = f64::from(*gaps.get(gaps.len() / 2)?);
        // The longest that fits says most: what comes weekly comes at an hour of the day, too.
        let kept = [usual, DAY, WEEK]
            .into_iter()
            .filter(|&every| every >= f64::from(VISIT_GAP) * 2.0)
            .filter_map(|every| self.phase(every))
            .max_by(|a, b| a.every.cmp(&b.every))?;
        Some(kept)
    }

    /// How the visits lie around the clock of a given length, if they lie together.
    fn phase(&self, every: f64) -> Option<Schedule> {
        let span = f64::from(self.visits.last()?.saturating_sub(*self.visits.first()?));
        if span < every * 1.9 {
            return None;
        }
        let turn = |at: u32| f64::from(at) / every * std::f64::consts::TAU;
        let n = self.visits.len() as f64;
        let (sin, cos) = self.visits.iter().fold((0.0, 0.0), |(sin, cos), &at| {
            (sin + turn(at).sin(), cos + turn(at).cos())
        });
        let length = (sin * sin + cos * cos).sqrt() / n;
        if length < CONCENTRATED {
            return None;
        }
        // Circular standard deviation, in seconds.
        let spread = (-2.0 * length.ln()).max(0.0).sqrt() / std::f64::consts::TAU * every;
        let mean = sin.atan2(cos).rem_euclid(std::f64::consts::TAU) / std::f64::consts::TAU * every;
        let last = f64::from(*self.visits.last()?);
        let off = offset(last - mean, every);
        Some(Schedule {
            every: Duration::from_secs_f64(every),
            last: from_seconds((last - off).max(0.0) as u32),
            spread: Duration::from_secs_f64(spread.max(LEAST_SPREAD)),
            visits: self.visits.len(),
        })
    }

    /// What a visit costs at an hour that it never came at; 0 where visits follow no plan, or when one is going on.
    pub(super) fn hour_bits(&self, time: Timestamp, last_seen: u32) -> f64 {
        let Some(plan) = self.schedule() else {
            return 0.0;
        };
        let now = seconds(time);
        if now.saturating_sub(last_seen) < VISIT_GAP {
            return 0.0;
        }
        let off = offset(
            f64::from(now) - plan.last.secs_f64(),
            plan.every.as_secs_f64(),
        );
        surprise::spread_bits(off / plan.spread.as_secs_f64(), plan.visits as u64)
    }
}

/// How far a time is from the nearest multiple of `every`, negative if before it.
fn offset(time: f64, every: f64) -> f64 {
    time - (time / every).round() * every
}

fn add(histogram: &mut LogHistogram, value: f64) {
    histogram.add(value);
    fade(histogram);
}

pub(super) fn merge(histogram: &mut LogHistogram, other: &LogHistogram) {
    histogram.merge(other);
    fade(histogram);
}

fn fade(histogram: &mut LogHistogram) {
    if histogram.total() > limits::FLOWS {
        histogram.halve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u32 = 3600;
    /// A Monday, midnight.
    const MONDAY: u32 = 1_795_392_000;

    fn visited(at: impl IntoIterator<Item = u32>) -> Habit {
        let mut habit = Habit::default();
        let (mut first, mut last) = (u32::MAX, 0);
        for start in at {
            let mut one = Habit::default();
            one.contact(from_seconds(start), None);
            // A visit lasts for twenty minutes.
            let seen = (start, start + 1200);
            if habit.visits.is_empty() {
                habit = one;
            } else {
                habit.merge(&one, (first, last), seen);
            }
            (first, last) = (first.min(seen.0), last.max(seen.1));
        }
        habit
    }

    #[test]
    fn a_nightly_job_is_normal_at_night_and_strange_at_noon() {
        let nightly =
            visited((0..14).map(|day| MONDAY + day * 24 * HOUR + 2 * HOUR + day * 40 % 300));
        let plan = nightly.schedule().unwrap();
        assert_eq!(plan.every.as_secs() / 3600, 24, "{plan:?}");
        let last = *nightly.visits.last().unwrap();
        let bits = |at: u32| nightly.hour_bits(from_seconds(MONDAY + at), last);
        let fifteenth = 14 * 24 * HOUR;
        assert!(bits(fifteenth + 2 * HOUR + 600) < 0.3);
        assert!(bits(fifteenth + 12 * HOUR) > 3.0, "one in fifteen at most");
        // A night was missed: the next is on time still.
        assert!(bits(fifteenth + 26 * HOUR) < 0.3);
    }

    #[test]
    fn a_weekly_job_has_a_day() {
        let weekly = visited((0..5).map(|week| MONDAY + week * 168 * HOUR + 30 * HOUR));
        assert_eq!(weekly.schedule().unwrap().every.as_secs() / 3600, 168);
        let last = *weekly.visits.last().unwrap();
        let bits = |at: u32| weekly.hour_bits(from_seconds(MONDAY + at), last);
        assert!(bits(5 * 168 * HOUR + 30 * HOUR) < 0.3);
        assert!(
            bits(5 * 168 * HOUR + 78 * HOUR) > 2.0,
            "the same hour of another day"
        );
    }

    #[test]
    fn visits_at_any_hour_follow_no_plan() {
        let any = visited([3, 20, 31, 55, 70, 88, 97].map(|hour| MONDAY + hour * HOUR));
        assert_eq!(any.schedule(), None);
        assert_eq!(
            any.hour_bits(from_seconds(MONDAY + 200 * HOUR), MONDAY),
            0.0
        );
        assert_eq!(visited([MONDAY]).schedule(), None);
    }

    #[test]
    fn a_visit_that_goes_on_is_one() {
        // Seen every half hour for a day, in pieces.
        let all_day = visited((0..48).map(|n| MONDAY + n * HOUR / 2));
        assert_eq!(all_day.visits, [MONDAY]);
    }

    #[test]
    fn a_rhythm_has_a_gap_and_a_spread() {
        let mut habit = Habit::default();
        for n in 0..40_u64 {
            let gap = Duration::from_millis(10_000 + n % 5 * 100);
            habit.contact(from_seconds(MONDAY), Some(gap));
        }
        let period = habit.period().unwrap();
        assert!((period.gap.as_secs_f64() - 10.2).abs() < 0.1, "{period:?}");
        assert!(period.spread < 0.05);
        assert!(habit.gap_bits(Duration::from_secs(10)) < 0.5);
        assert!(habit.gap_bits(Duration::from_mins(1)) > 5.0);

        let mut halves = [Habit::default(), Habit::default()];
        for n in 0..40_u64 {
            let gap = Duration::from_millis(10_000 + n % 5 * 100);
            halves[usize::from(n >= 20)].contact(from_seconds(MONDAY), Some(gap));
        }
        let [mut first, second] = halves;
        first.merge(&second, (MONDAY, MONDAY), (MONDAY, MONDAY));
        let merged = first.period().unwrap();
        assert!((merged.gap.as_secs_f64() - period.gap.as_secs_f64()).abs() < 1e-6);
        assert!((merged.spread - period.spread).abs() < 1e-6);
    }
}
