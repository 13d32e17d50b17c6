//! The life of what is known: none, learning, stable, stale; of each feature by itself, in plain words.

use std::fmt;
use std::time::Duration;

use crate::features::{PeerClass, Rate, Role, Vocabulary};
use crate::time::Timestamp;

/// What is younger than this is still learning: a day has one of everything.
pub(super) const SETTLED_AFTER: Duration = Duration::from_hours(24);
/// What was last seen this long ago is stale.
const STALE_AFTER: Duration = Duration::from_hours(14 * 24);
/// Contacts that make peers stable,
pub(super) const CONTACTS: u64 = 200;
/// words that make a vocabulary so,
const WORDS: u64 = 50;
/// minutes that make a rate so,
const MINUTES: u64 = 720;
/// and flows that make a volume so.
const FLOWS: u64 = 100;

/// How far what was learned can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Maturity {
    /// Nothing is known.
    None,
    /// Too little has been seen to call anything unusual by itself.
    Learning,
    /// It was stable, and has not been seen for two weeks.
    Stale,
    /// At least a day, and samples enough.
    Stable,
}

impl Maturity {
    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Learning => "learning",
            Self::Stale => "stale",
            Self::Stable => "stable",
        }
    }
}

/// One thing that a profile knows about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Feature {
    /// Whom it meets.
    Peers(Role),
    /// Which words it uses.
    Words(Vocabulary, Role),
    /// How much a minute.
    Rate(Rate),
    /// How much a flow.
    Volume(Role, PeerClass),
}

impl Feature {
    /// Samples that make it stable.
    const fn needs(self) -> u64 {
        match self {
            Self::Peers(_) => CONTACTS,
            Self::Words(..) => WORDS,
            Self::Rate(_) => MINUTES,
            Self::Volume(..) => FLOWS,
        }
    }

    /// What its samples are called.
    const fn unit(self) -> &'static str {
        match self {
            Self::Peers(_) => "contacts",
            Self::Words(..) => "words",
            Self::Rate(_) => "minutes",
            Self::Volume(..) => "flows",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peers(role) => write!(f, "{}.peers", role.label()),
            Self::Words(vocabulary, role) => write!(f, "{}.{}", role.label(), vocabulary.name()),
            Self::Rate(rate) => f.write_str(rate.name()),
            Self::Volume(role, class) => write!(f, "{}.bytes.{}", role.label(), class.label()),
        }
    }
}

/// Where a feature stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// How far it can be trusted.
    pub state: Maturity,
    /// Samples of it.
    pub samples: u64,
    /// Time between the first and the last of them.
    pub watched: Duration,
    /// How much longer it must be watched to be stable.
    pub time_missing: Duration,
    /// How many more samples that takes.
    pub samples_missing: u64,
    unit: &'static str,
}

impl Standing {
    /// What its samples are called: contacts, words, minutes, flows.
    pub const fn unit(&self) -> &'static str {
        self.unit
    }

    /// What it waits for, in plain words; empty when it is stable.
    pub fn missing(&self) -> String {
        if self.state == Maturity::Stale {
            return "not seen for two weeks".to_owned();
        }
        let mut parts = Vec::new();
        if !self.time_missing.is_zero() {
            parts.push(words(self.time_missing));
        }
        if self.samples_missing > 0 {
            parts.push(format!("{} {}", self.samples_missing, self.unit));
        }
        if parts.is_empty() {
            String::new()
        } else {
            format!("{} more", parts.join(" and "))
        }
    }
}

/// A duration to the minute below a day, to the hour above.
fn words(duration: Duration) -> String {
    let minutes = duration.as_secs().div_ceil(60);
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

pub(super) fn judge(
    feature: Feature,
    samples: u64,
    span: Option<(Timestamp, Timestamp)>,
    now: Timestamp,
) -> Standing {
    let watched = span.map_or(Duration::ZERO, |(first, last)| last.since(first));
    let time_missing = SETTLED_AFTER.saturating_sub(watched);
    let samples_missing = feature.needs().saturating_sub(samples);
    let state = match span {
        None => Maturity::None,
        _ if samples == 0 => Maturity::None,
        _ if samples_missing > 0 || !time_missing.is_zero() => Maturity::Learning,
        Some((_, last)) if now.since(last) > STALE_AFTER => Maturity::Stale,
        Some(_) => Maturity::Stable,
    };
    Standing {
        state,
        samples,
        watched,
        time_missing,
        samples_missing,
        unit: feature.unit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_grows_up_and_old() {
        let day = |n: u64| Timestamp::from_secs(0).after(SETTLED_AFTER * n as u32);
        let peers = Feature::Peers(Role::Client);
        let none = judge(peers, 0, None, day(9));
        assert_eq!(
            (none.state, none.missing().as_str()),
            (Maturity::None, "1 d 0 h and 200 contacts more")
        );
        let young = judge(
            peers,
            500,
            Some((day(0), day(0).after(Duration::from_hours(7)))),
            day(1),
        );
        assert_eq!(
            (young.state, young.missing().as_str()),
            (Maturity::Learning, "17 h more")
        );
        let rare = judge(peers, 150, Some((day(0), day(3))), day(3));
        assert_eq!(
            (rare.state, rare.missing().as_str()),
            (Maturity::Learning, "50 contacts more")
        );
        let known = judge(peers, 200, Some((day(0), day(1))), day(10));
        assert_eq!(
            (known.state, known.missing().as_str()),
            (Maturity::Stable, "")
        );
        assert_eq!(
            judge(peers, 200, Some((day(0), day(1))), day(16)).state,
            Maturity::Stale
        );
    }
}
