//! How high a rate usually is, at which hours of the week, and how far it may move in a week.

use super::limits;
use super::surprise;
use super::table::seconds;
use crate::features::{LogHistogram, Rate};
use crate::time::Timestamp;

/// Hours of a week.
pub(super) const HOURS: usize = 168;
/// Occasions of an hour that must have been watched before it is called usual or strange.
const FEWEST_OCCASIONS: u32 = 3;
/// Buckets that a rate may exceed its reference by, at once and with each week: four are a doubling.
const DRIFT: u8 = 4;
/// Minutes after which a rate has a reference: a day.
const SETTLED: u64 = 1440;
const WEEK: u32 = 7 * 24 * 3600;
/// Hours of the day within which what has a time of its own keeps,
const SEASON_HOURS: u32 = 4;
/// and days on which it must have been seen there.
const SEASON_DAYS: u32 = 3;
/// Steps remembered until they turn out to come by a plan.
pub(super) const STEPS: usize = 32;

/// The hour of the week of a stamp, Thursday 00:00 UTC being hour 0 (as the epoch has it).
pub(super) fn hour_of_week(time: Timestamp) -> usize {
    (seconds(time) / 3600) as usize % HOURS
}

/// How often each hour of the week was watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hours {
    pub(super) watched: [u8; HOURS],
    /// The last hour counted, since the epoch.
    pub(super) last: u32,
}

impl Default for Hours {
    fn default() -> Self {
        Self {
            watched: [0; HOURS],
            last: 0,
        }
    }
}

impl Hours {
    pub(super) fn watch(&mut self, time: Timestamp) {
        let hour = seconds(time) / 3600;
        if hour > self.last
            && let Some(count) = self.watched.get_mut(hour as usize % HOURS)
        {
            *count = count.saturating_add(1);
            self.last = hour;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.watched.iter_mut().zip(other.watched) {
            *ours = ours.saturating_add(theirs);
        }
        // The hour in which the one ended and the other began is one.
        if self.last == other.last
            && let Some(count) = self.watched.get_mut(self.last as usize % HOURS)
        {
            *count = count.saturating_sub(1);
        }
        self.last = self.last.max(other.last);
    }

    /// Hours of the week at this hour of the day, today's first.
    fn same_hour(hour: usize) -> impl Iterator<Item = usize> {
        (0..7).map(move |day| (hour + day * 24) % HOURS)
    }

    fn get(&self, hour: usize) -> u32 {
        self.watched.get(hour).copied().map_or(0, u32::from)
    }
}

/// The highest a rate has been in each hour of the week, by bucket.
pub(super) type Peaks = [u8; HOURS];

/// From where a rate may drift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reference {
    pub(super) bucket: u8,
    /// When it was taken, in seconds.
    pub(super) since: u32,
}

/// What is usual of a rate.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Level {
    /// The numbers of all minutes, zeros too.
    pub(super) minutes: LogHistogram,
    /// Kept once a number was above the rate's floor.
    pub(super) peaks: Option<Box<Peaks>>,
    pub(super) reference: Option<Reference>,
    /// Minutes that were too high to be learned.
    pub(super) withheld: u64,
}

impl Level {
    pub(super) fn add(&mut self, rate: Rate, value: f64, time: Timestamp) {
        self.minutes.add(value);
        if value > rate.floor() {
            let peaks = self.peaks.get_or_insert_with(|| Box::new([0; HOURS]));
            if let Some(peak) = peaks.get_mut(hour_of_week(time)) {
                *peak = (*peak).max(LogHistogram::bucket(value));
            }
        }
    }

    /// Takes in another's, as it is.
    pub(super) fn merge(&mut self, other: &Self) {
        self.minutes.merge(&other.minutes);
        if let Some(theirs) = &other.peaks {
            self.raise(theirs, u8::MAX);
        }
        self.reference = self.reference.max_by_time(other.reference);
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.fade();
    }

    /// Learns another's, but for what is a step: more than a doubling above what was usual a week ago. A drift is
    /// followed, a doubling a week at most. `free` lifts the bound, for a release.
    /// A step that comes back at its hour of the day or of the week is learned for that hour when it has come three times;
    /// `steps` are the hours since the epoch of those so far.
    pub(super) fn learn(
        &mut self,
        other: &Self,
        rate: Rate,
        now: Timestamp,
        free: bool,
        steps: &mut Vec<u32>,
    ) {
        let most = match self.reference {
            Some(reference) if !free => {
                let floor = LogHistogram::bucket(rate.floor());
                reference.bucket.max(floor).saturating_add(DRIFT)
            }
            _ => u8::MAX,
        };
        for &(bucket, count) in other.minutes.counts() {
            if bucket <= most {
                self.minutes.add_n(bucket, count);
            } else {
                self.withheld = self.withheld.saturating_add(u64::from(count));
            }
        }
        if let Some(theirs) = &other.peaks {
            self.raise(theirs, most);
            self.recur(theirs, most, seconds(now) / 3600, steps);
        }
        self.fade();
        self.refer(now, free);
    }

    fn raise(&mut self, theirs: &Peaks, most: u8) {
        let peaks = self.peaks.get_or_insert_with(|| Box::new([0; HOURS]));
        for (ours, &theirs) in peaks.iter_mut().zip(theirs) {
            if theirs <= most {
                *ours = (*ours).max(theirs);
            }
        }
    }

    /// Learns the hours of steps that come by a plan.
    fn recur(&mut self, theirs: &Peaks, most: u8, now: u32, steps: &mut Vec<u32>) {
        for (cell, &peak) in theirs.iter().enumerate().filter(|&(_, &peak)| peak > most) {
            let hours = HOURS as u32;
            let hour = now.saturating_sub((now % hours + hours - cell as u32) % hours);
            if comes_back(steps, hour) {
                let peaks = self.peaks.get_or_insert_with(|| Box::new([0; HOURS]));
                if let Some(ours) = peaks.get_mut(cell) {
                    *ours = (*ours).max(peak);
                }
            }
            if !steps.contains(&hour) {
                steps.push(hour);
                let surplus = steps.len().saturating_sub(STEPS);
                steps.drain(..surplus);
            }
        }
    }

    /// Takes a reference when there is enough to take it from, and anew each week, or with a release.
    fn refer(&mut self, now: Timestamp, free: bool) {
        let now = seconds(now);
        let due = self
            .reference
            .is_none_or(|reference| free || now.saturating_sub(reference.since) >= WEEK);
        if due && self.minutes.total() >= SETTLED {
            self.reference = Some(Reference {
                bucket: self.minutes.highest().unwrap_or_default(),
                since: now,
            });
        }
    }

    fn fade(&mut self) {
        if self.minutes.total() > limits::MINUTES {
            self.minutes.halve();
        }
    }

    /// How probable such a number or a higher one is in a minute of this hour, where the hour says anything: much where
    /// it was as high at this hour on other days, little where only at others.
    pub(super) fn at_hour(&self, value: f64, hours: &Hours, time: Timestamp) -> Option<f64> {
        let peaks = self.peaks.as_deref()?;
        let now = hour_of_week(time);
        // An hour's neighbours count with it: jobs run late, and clocks change in summer.
        let high = LogHistogram::bucket(value).saturating_sub(1);
        let reached = |hour: usize| {
            [HOURS - 1, 0, 1].iter().any(|off| {
                peaks
                    .get((hour + off) % HOURS)
                    .is_some_and(|&peak| peak >= high)
            })
        };
        let (mut watched, mut usual) = (0, 0);
        for hour in Hours::same_hour(now) {
            let occasions = hours.get(hour);
            watched += occasions;
            usual += if reached(hour) { occasions } else { 0 };
        }
        let this = hours.get(now);
        if this >= FEWEST_OCCASIONS && reached(now) {
            // Each week at this hour, as far as can be told.
            return Some((f64::from(this) + 0.5) / (f64::from(this) + 1.0));
        }
        if watched < FEWEST_OCCASIONS {
            return None;
        }
        let share = (f64::from(usual) + 0.5) / (f64::from(watched) + 1.0);
        if usual > 0 {
            return Some(share);
        }
        let elsewhere = (0..HOURS).any(reached);
        // Never in the minutes of this hour, though at others.
        elsewhere.then(|| 0.5 / (60.0 * f64::from(watched) + 1.0))
    }

    /// The most there was at this hour of the day, where numbers this high have hours of their own and this is none of them;
    /// `None` where they come at any.
    pub(super) fn most_at(&self, value: f64, hours: &Hours, time: Timestamp) -> Option<f64> {
        let peaks = self.peaks.as_deref()?;
        let high = LogHistogram::bucket(value).saturating_sub(1);
        let (mut at, mut on) = (0_u32, 0_u32);
        for cell in (0..HOURS).filter(|&cell| peaks.get(cell).is_some_and(|&peak| peak >= high)) {
            at |= 1 << (cell % 24);
            on |= 1 << (cell / 24);
        }
        let season = (1 << SEASON_HOURS) - 1;
        let turned = |by: u32| (at >> by | at << (24 - by)) & 0xff_ffff;
        let together = (0..24).any(|by| turned(by) & !season == 0);
        let now = hour_of_week(time);
        let watched: u32 = Hours::same_hour(now).map(|hour| hours.get(hour)).sum();
        // An hour's neighbours count with it.
        let ours = at >> (now % 24) & 1 != 0
            || at >> ((now + 1) % 24) & 1 != 0
            || at >> ((now + 23) % 24) & 1 != 0;
        if on.count_ones() < SEASON_DAYS || !together || ours || watched < FEWEST_OCCASIONS {
            return None;
        }
        let most = Hours::same_hour(now)
            .filter_map(|hour| peaks.get(hour).copied())
            .max();
        most.map(LogHistogram::edge)
    }

    /// What is usual, in words: `≤ 84 (99 % of 1,440 minutes)`.
    pub(super) fn expected(&self) -> String {
        match self.minutes.quantile(0.99) {
            Some(most) => format!("≤ {most:.0} (99 % of {} minutes)", self.minutes.total()),
            None => "unknown".to_owned(),
        }
    }

    /// How probable a number this high is in any minute, by this level alone. The rate's floor is taken off first, so
    /// that the smallest change of something that never changed is none.
    pub(super) fn tail(&self, rate: Rate, value: f64) -> f64 {
        tail(&self.minutes, value, rate.floor())
    }
}

/// Whether an hour is the third at least of a plan: the same of other days this week, or of other weeks.
fn comes_back(steps: &[u32], hour: u32) -> bool {
    let near = |then: u32| steps.iter().any(|&step| step.abs_diff(then) <= 1);
    let times = |every: u32, most: u32| {
        (1..=most)
            .filter(|n| hour.checked_sub(n * every).is_some_and(near))
            .count()
    };
    times(24, 7) >= 2 || times(HOURS as u32, 5) >= 2
}

trait Later {
    fn max_by_time(self, other: Self) -> Self;
}

impl Later for Option<Reference> {
    fn max_by_time(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if b.since > a.since { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// The probability of a value this high or higher, once what is too little to matter is taken off it.
pub(super) fn tail(histogram: &LogHistogram, value: f64, floor: f64) -> f64 {
    if value <= floor || value.is_nan() {
        return 1.0;
    }
    histogram.tail(value - floor)
}

/// What nobody's history says: the built-in prior. Half as probable with each doubling above what matters, four bits at
/// most, for it is a guess.
pub(super) fn prior(value: f64, floor: f64) -> f64 {
    if value.is_nan() || value <= floor {
        return 1.0;
    }
    (floor.max(1.0) / value).max(1.0 / 16.0)
}

/// Mixes one's own probability with that of the group one belongs to, by how much of one's own there is.
pub(super) fn mix(own: f64, observations: u64, group: f64) -> f64 {
    let weight = surprise::own_weight(observations);
    weight * own + (1.0 - weight) * group
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Rate::BytesOut;
    /// A Thursday, midnight.
    const START: i64 = 1_795_651_200;

    fn at(hours: f64) -> Timestamp {
        Timestamp::from_secs(START).after(Duration::from_secs_f64(hours * 3600.0))
    }

    /// Two weeks in which something is sent each minute, and much of it for ten minutes from two at night.
    fn nightly() -> (Level, Hours) {
        let (mut level, mut hours) = (Level::default(), Hours::default());
        for minute in 0..14 * 1440 {
            let time = at(f64::from(minute) / 60.0);
            let backup = (120..130).contains(&(minute % 1440));
            hours.watch(time);
            level.add(RATE, if backup { 5e9 } else { 80_000.0 }, time);
        }
        (level, hours)
    }

    #[test]
    fn a_backup_is_normal_at_night_and_strange_at_noon() {
        let (level, hours) = nightly();
        let any = level.tail(RATE, 5e9);
        let night = level.at_hour(5e9, &hours, at(14.0 * 24.0 + 2.1)).unwrap();
        let noon = level.at_hour(5e9, &hours, at(14.0 * 24.0 + 12.0)).unwrap();
        assert!(surprise::bits(night) < 0.2, "{night}");
        assert!(noon < any && surprise::bits(noon) > 10.0, "{noon} {any}");
        // What was never anywhere is not the hour's business.
        assert_eq!(level.at_hour(5e11, &hours, at(14.0 * 24.0 + 12.0)), None);
    }

    #[test]
    fn hours_say_nothing_before_they_were_watched() {
        let (mut level, mut hours) = (Level::default(), Hours::default());
        for minute in 0..300 {
            hours.watch(at(f64::from(minute) / 60.0));
            level.add(RATE, 1e6, at(f64::from(minute) / 60.0));
        }
        assert_eq!(level.at_hour(1e6, &hours, at(26.0)), None);
    }

    fn sheet(value: f64) -> Level {
        let mut level = Level::default();
        for minute in 0..10 {
            level.add(RATE, value, at(f64::from(minute) / 60.0));
        }
        level
    }

    #[test]
    fn a_drift_is_followed_and_a_step_is_not() {
        let (mut level, mut steps) = (Level::default(), Vec::new());
        let mut value = 1e6;
        for ten in 0..6 * 24 * 28 {
            // Five per cent a day for four weeks.
            value *= 1.05_f64.powf(1.0 / 144.0);
            let now = at(f64::from(ten) / 6.0);
            level.learn(&sheet(value), RATE, now, false, &mut steps);
        }
        assert_eq!(level.withheld, 0);
        assert!(surprise::bits(level.tail(RATE, value)) < 6.0);

        let before = level.minutes.clone();
        for ten in 0..6 * 24 {
            level.learn(
                &sheet(value * 10.0),
                RATE,
                at(672.0 + f64::from(ten) / 6.0),
                false,
                &mut steps,
            );
        }
        assert_eq!((level.withheld, &level.minutes), (1440, &before));
        level.learn(&sheet(value * 10.0), RATE, at(700.0), true, &mut steps);
        assert_eq!(
            level.minutes.total(),
            before.total() + 10,
            "a release lifts the bound"
        );
        level.learn(&sheet(value * 10.0), RATE, at(701.0), false, &mut steps);
        assert_eq!(level.withheld, 1440, "and moves it");
    }

    /// Weeks of the usual, and from the second on a job of ten minutes `every` so many hours.
    fn with_a_job(every: u32, weeks: u32) -> (Level, Hours) {
        let (mut level, mut hours, mut steps) = (Level::default(), Hours::default(), Vec::new());
        for ten in 0..6 * 168 * weeks {
            let now = at(f64::from(ten) / 6.0);
            let job = ten >= 6 * 168 && ten % (6 * every) == 12;
            let mut sheet = Level::default();
            for minute in 0..10 {
                let time = now.after(Duration::from_secs(minute * 60));
                hours.watch(time);
                sheet.add(RATE, if job { 5e9 } else { 80_000.0 }, time);
            }
            level.learn(&sheet, RATE, now, false, &mut steps);
            assert!(steps.len() <= STEPS);
        }
        (level, hours)
    }

    #[test]
    fn a_step_that_comes_by_a_plan_is_learned_for_its_hour_alone() {
        for (every, weeks) in [(24, 4), (168, 5)] {
            let (level, hours) = with_a_job(every, weeks);
            assert!(level.withheld > 0, "it is a step");
            let next = f64::from(168 * weeks);
            let bits = |hour: f64| {
                let tail = level.at_hour(5e9, &hours, at(next + hour));
                surprise::bits(tail.unwrap_or_else(|| level.tail(RATE, 5e9)))
            };
            assert!(bits(2.1) < 1.0, "{every}: {}", bits(2.1));
            assert!(bits(12.0) > 8.0, "{every}: {}", bits(12.0));
        }
        // Twice is no plan yet.
        let (level, hours) = with_a_job(168, 3);
        assert_eq!(level.at_hour(5e9, &hours, at(504.0 + 2.1)), None);
    }

    #[test]
    fn a_frog_in_slowly_heated_water_gets_a_doubling_a_week() {
        let (mut level, mut steps) = (Level::default(), Vec::new());
        let mut value = 1e6;
        for ten in 0..6 * 24 * 28 {
            // Doubling every day.
            value *= 2.0_f64.powf(1.0 / 144.0);
            let now = at(f64::from(ten) / 6.0);
            level.learn(&sheet(value), RATE, now, false, &mut steps);
        }
        // One day free, then four weeks.
        assert!(
            level.minutes.most() < 1e6 * 2.0_f64.powi(7),
            "{}",
            level.minutes.most()
        );
        assert!(level.withheld > 10_000);
    }

    #[test]
    fn little_is_never_surprising() {
        let mut level = Level::default();
        for minute in 0..5000 {
            level.add(Rate::Hosts, 3.0, at(f64::from(minute)));
        }
        assert!(level.tail(Rate::Hosts, 5.0) >= 1.0);
        assert!(
            level.tail(Rate::Hosts, 8.0) >= 0.99,
            "three beside the floor of five"
        );
        assert!(surprise::bits(level.tail(Rate::Hosts, 40.0)) > 12.0);
        assert!(prior(1.0, 5.0) >= 1.0 && prior(1e12, 5.0) >= 1.0 / 16.0);
    }
}
