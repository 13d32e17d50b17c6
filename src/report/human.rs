//! Numbers, times and strangers' text in a form for people.

use std::borrow::Cow;
use std::time::Duration;

use crate::alert::UtcTime;
use crate::time::Timestamp;

/// Text that came over the wire or out of a file, safe to show on a terminal: control characters, and those that turn or
/// hide text, are spelled out.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `2 files`.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `812 B`, `1.2 kB`, `34 MB`: powers of ten, two or three digits.
pub(super) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" || value >= 9.95 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A measurement with no more digits than it deserves: `55`, `0.42`, `5210`.
pub(super) fn measure(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let places = match size {
        100.0.. => 0,
        10.0.. => 1,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// `400 ms`, `5 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// `2026-03-01 03:12:00 to 03:12:05 UTC (5 s)`; the day is said again only where it is another.
pub(super) fn span(first: Timestamp, last: Timestamp) -> String {
    let [begin, end] = [first, last].map(|time| {
        let text = UtcTime(time).to_string();
        // What stands before the fraction: date, T, time.
        text.split('.').next().unwrap_or_default().replace('T', " ")
    });
    if first == last {
        return format!("{begin} UTC");
    }
    let same_day = begin.split(' ').next() == end.split(' ').next();
    let end = match end.split_once(' ') {
        Some((_, clock)) if same_day => clock,
        _ => &end,
    };
    format!("{begin} to {end} UTC ({})", duration(last.since(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_cannot_drive_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{9b}2Jc\u{202e}d\n"),
            "a\\u{1b}[31mb\\u{9b}2Jc\\u{202e}d\\u{a}"
        );
        assert!(matches!(printable("example.net ≤ é"), Cow::Borrowed(_)));
    }

    #[test]
    fn numbers_are_short() {
        let counts: Vec<_> = [0, 999, 1000, 1_234_567].map(count).to_vec();
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let sizes: Vec<_> = [0, 999, 1000, 9_949, 9_950, 999_499, 999_500, u64::MAX]
            .map(bytes)
            .to_vec();
        assert_eq!(
            sizes,
            [
                "0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "18 EB"
            ]
        );
        let measures: Vec<_> = [55.0, 0.42, 5210.3, 0.0, 1e12, 12.34, -3.0, 100.0, 1e-9]
            .map(measure)
            .to_vec();
        assert_eq!(
            measures,
            [
                "55", "0.42", "5210", "0", "1.00e12", "12.3", "-3", "100", "1.00e-9"
            ]
        );
    }

    #[test]
    fn times_are_in_words() {
        let spans: Vec<_> = [
            Duration::from_millis(400),
            Duration::from_secs(119),
            Duration::from_mins(12),
            Duration::from_mins(121),
            Duration::from_hours(52),
        ]
        .map(duration)
        .to_vec();
        assert_eq!(spans, ["400 ms", "119 s", "12 min", "2 h 1 min", "2 d 4 h"]);

        let at = |seconds: i64| Timestamp::from_secs(1_772_334_720 + seconds);
        assert_eq!(span(at(0), at(0)), "2026-03-01 03:12:00 UTC");
        assert_eq!(
            span(at(0), at(5)),
            "2026-03-01 03:12:00 to 03:12:05 UTC (5 s)"
        );
        assert_eq!(
            span(at(0), at(86_400)),
            "2026-03-01 03:12:00 to 2026-03-02 03:12:00 UTC (24 h)"
        );
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        assert!(span(Timestamp::MIN, Timestamp::MAX).contains(" to "));
    }
}
