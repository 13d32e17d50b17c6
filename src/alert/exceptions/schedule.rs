//! When an exception holds: `Sat,Sun 00:00-24:00`, `Mon-Fri 22:00-06:00`, `daily 02:00-04:00`; always in UTC.

use crate::time::Timestamp;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTES_A_DAY: i64 = 24 * 60;
const MINUTES_A_WEEK: i64 = 7 * MINUTES_A_DAY;
/// 1970-01-01 was a Thursday.
const EPOCH_DAY: i64 = 3;

/// Times of the week; none for always.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Schedule(Vec<Window>);

/// Some minutes of some days; those of a day may reach into the next.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Window {
    /// From Monday.
    days: [bool; 7],
    start: i64,
    /// After `start`; beyond 24 hours where it reaches into the next day.
    end: i64,
}

impl Schedule {
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        self.0.push(parse(text)?);
        Ok(())
    }

    /// Whether one window holds all the time between two stamps.
    pub(super) fn covers(&self, first: Timestamp, last: Timestamp) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.covers(first, last))
    }
}

impl Window {
    fn covers(&self, first: Timestamp, last: Timestamp) -> bool {
        let nanos = 60_000_000_000;
        let begins = first.nanos().div_euclid(nanos);
        let lasts = last.nanos().div_euclid(nanos) - begins;
        let of_week = (begins + EPOCH_DAY * MINUTES_A_DAY).rem_euclid(MINUTES_A_WEEK);
        // A window of the week before may still be open.
        (0..7)
            .filter(|&day| self.days.get(day) == Some(&true))
            .any(|day| {
                [0, MINUTES_A_WEEK].iter().any(|week| {
                    let at = of_week + week - day as i64 * MINUTES_A_DAY;
                    at >= self.start && at + lasts < self.end
                })
            })
    }
}

fn parse(text: &str) -> Result<Window, String> {
    let wrong = || {
        format!(
            "{text:?} is no time: it may be \"Sat,Sun 02:00-04:30\", \"Mon-Fri 22:00-06:00\" or \"daily 02:00-04:00\" (UTC)"
        )
    };
    let (days, hours) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let (from, to) = hours.trim().split_once('-').ok_or_else(wrong)?;
    let (start, end) = (
        minute(from).ok_or_else(wrong)?,
        minute(to).ok_or_else(wrong)?,
    );
    if start == end || start == MINUTES_A_DAY {
        return Err(wrong());
    }
    Ok(Window {
        days: days_of(days).ok_or_else(wrong)?,
        start,
        end: if end > start {
            end
        } else {
            end + MINUTES_A_DAY
        },
    })
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    if text == "daily" {
        return Some([true; 7]);
    }
    let mut days = [false; 7];
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let mut at = first;
        loop {
            *days.get_mut(at)? = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

/// Minutes since midnight of `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<i64>().ok())
            .flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= MINUTES_A_DAY).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since Monday, 2026-03-02, 00:00 UTC.
    fn at(day: i64, hours: i64, minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_772_409_600 + (day * 24 + hours) * 3600 + minutes * 60)
    }

    fn covers(text: &str, first: Timestamp, last: Timestamp) -> bool {
        let mut schedule = Schedule::default();
        schedule.add(text).unwrap();
        schedule.covers(first, last)
    }

    #[test]
    fn a_window_holds_all_of_an_alert_or_nothing() {
        let nights = "Mon-Fri 22:00-06:00";
        assert!(covers(nights, at(0, 22, 0), at(1, 5, 59)));
        assert!(
            covers(nights, at(4, 23, 0), at(5, 3, 0)),
            "Friday's reaches into Saturday"
        );
        assert!(
            !covers(nights, at(5, 23, 0), at(5, 23, 5)),
            "Saturday has none"
        );
        assert!(
            !covers(nights, at(0, 5, 0), at(0, 5, 5)),
            "nor has Sunday, so Monday morning is out"
        );
        assert!(!covers(nights, at(0, 22, 0), at(1, 6, 1)));
        assert!(
            covers("Sun-Mon 23:00-02:00", at(7, 1, 0), at(7, 1, 30)),
            "over the week's end"
        );
        assert!(covers("sat,SUN 00:00-24:00", at(6, 23, 59), at(6, 23, 59)));
        assert!(covers("daily 02:00-04:00", at(2, 3, 0), at(2, 3, 59)));
        assert!(
            !covers("daily 02:00-04:00", at(2, 3, 0), at(3, 3, 0)),
            "a day later it is another"
        );
        assert!(Schedule::default().covers(Timestamp::MIN, Timestamp::MAX));
    }

    #[test]
    fn what_is_no_time_is_told() {
        for text in [
            "",
            "daily",
            "Mon",
            "Foo 01:00-02:00",
            "Mon 1:00-2:00",
            "Mon 01:00-25:00",
            "Mon 01:00-01:00",
            "Mon 24:00-02:00",
            "Mon- 01:00-02:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
