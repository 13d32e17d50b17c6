//! Polling: one address asked again and again, with hidden bodies both ways.
//!
//! A tunnel made of short exchanges can only receive when it asks, so it asks all the time, mostly for nothing, and its
//! bodies are as long as what it happens to carry. Telemetry polls too, but says what its bodies are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Thresholds;
use crate::detectors::{Evidence, Family};
use crate::dissect::{BodyLooks, HttpExchange};
use crate::time::Timestamp;

/// Paths of a line told apart; the one asked for least makes room.
const MAX_PATHS: usize = 4;
/// Different sizes told apart.
const MAX_SIZES: usize = 32;
/// Sizes as various as this, in each direction and in both together, are those of content and not of a form.
const MIN_SIZES: usize = 4;
const MIN_ALL_SIZES: usize = 12;
/// Bodies judged from which their looks count.
const MIN_JUDGED: u64 = 8;
/// Most of them.
const SHARE: f64 = 0.8;

/// Steady polling with content both ways: one in a few hundred applications works like this with one address.
const BITS_POLLING: f64 = 8.0;
/// So often, and mostly for nothing: an application that has nothing to say waits.
const BITS_IDLE: f64 = 4.0;
const IDLE_SHARE: f64 = 0.25;
const IDLE_SECS: f64 = 1.0;
/// Bodies hidden in both directions mean less than twice what they mean in one.
const MAX_BITS_HIDDEN: f64 = 13.0;

/// What is asked for on a line, by path.
#[derive(Debug, Default)]
pub(super) struct Polls {
    paths: Vec<Poll>,
}

#[derive(Debug)]
struct Poll {
    path: Arc<str>,
    exchanges: u64,
    /// Exchanges in which neither said anything.
    idle: u64,
    first: Timestamp,
    last: Timestamp,
    up: Bodies,
    down: Bodies,
}

/// The bodies of one direction.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    sizes: BTreeSet<u64>,
    judged: u64,
    hidden: u64,
    encoded: u64,
    binary: u64,
}

impl Bodies {
    pub(super) fn take(&mut self, bytes: u64, looks: BodyLooks) {
        if self.sizes.len() < MAX_SIZES {
            self.sizes.insert(bytes);
        }
        let counter = match looks {
            BodyLooks::Unknown => return,
            BodyLooks::Hidden => Some(&mut self.hidden),
            BodyLooks::Encoded => Some(&mut self.encoded),
            BodyLooks::Binary => Some(&mut self.binary),
            BodyLooks::Plain | BodyLooks::Carries(_) => None,
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
        self.judged += 1;
    }

    /// What the bodies mostly are, if they hide something and so many were judged.
    pub(super) fn hide(&self, judged: u64) -> Option<BodyLooks> {
        let mostly =
            |count: u64| self.judged >= judged && count as f64 >= SHARE * self.judged as f64;
        if mostly(self.hidden) {
            Some(BodyLooks::Hidden)
        } else if mostly(self.encoded) {
            Some(BodyLooks::Encoded)
        } else if mostly(self.hidden + self.encoded + self.binary) {
            Some(BodyLooks::Binary)
        } else {
            None
        }
    }
}

impl Polls {
    pub(super) fn take(&mut self, time: Timestamp, exchange: &HttpExchange) {
        if !exchange.complete {
            return;
        }
        let at = self
            .paths
            .iter()
            .position(|poll| poll.path == exchange.path);
        // What only brings isn't followed; but who has nothing to send still asks.
        if at.is_none() && exchange.request.bytes == 0 {
            return;
        }
        let at = at.unwrap_or_else(|| {
            if self.paths.len() >= MAX_PATHS {
                let least = (0..self.paths.len())
                    .min_by_key(|at| self.paths.get(*at).map(|poll| poll.exchanges));
                self.paths.swap_remove(least.unwrap_or(0));
            }
            self.paths.push(Poll {
                path: Arc::clone(&exchange.path),
                exchanges: 0,
                idle: 0,
                first: time,
                last: time,
                up: Bodies::default(),
                down: Bodies::default(),
            });
            self.paths.len() - 1
        });
        if let Some(poll) = self.paths.get_mut(at) {
            poll.exchanges += 1;
            poll.idle += u64::from(exchange.request.bytes == 0 && exchange.response.bytes == 0);
            poll.last = time;
            poll.up.take(exchange.request.bytes, exchange.request.looks);
            poll.down
                .take(exchange.response.bytes, exchange.response.looks);
        }
    }

    pub(super) fn evidence(&self, thresholds: &Thresholds) -> Vec<Evidence> {
        let best = self
            .paths
            .iter()
            .map(|poll| poll.evidence(thresholds))
            .max_by(|one, other| sum(one).total_cmp(&sum(other)));
        best.unwrap_or_default()
    }
}

impl Poll {
    fn evidence(&self, thresholds: &Thresholds) -> Vec<Evidence> {
        let span = self.last.since(self.first).as_secs_f64();
        let every = span / self.exchanges.max(1) as f64;
        let sizes = [self.up.sizes.len(), self.down.sizes.len()];
        let various = sizes.iter().all(|count| *count >= MIN_SIZES)
            && sizes.iter().sum::<usize>() >= MIN_ALL_SIZES;
        let (up, down) = (self.up.hide(MIN_JUDGED), self.down.hide(MIN_JUDGED));
        if self.exchanges < thresholds.min_polls
            || every > thresholds.slowest_poll_secs
            || !various
            || up.is_none() && down.is_none()
        {
            return Vec::new();
        }
        let bits = [up, down]
            .into_iter()
            .flatten()
            .map(hidden_bits)
            .sum::<f64>();
        let idle = every <= IDLE_SECS && self.idle as f64 >= IDLE_SHARE * self.exchanges as f64;
        let mostly = if idle { "often for nothing, else " } else { "" };
        let said = |looks: Option<BodyLooks>| looks.map_or("plain", hidden_text);
        vec![
            Evidence {
                feature: "http.polling",
                family: Family::Timing,
                observed: self.exchanges as f64,
                expected: format!("fewer than {} in a row", thresholds.min_polls),
                bits: BITS_POLLING + if idle { BITS_IDLE } else { 0.0 },
                signature_grade: false,
                text: format!(
                    "{} exchanges with {}, one every {every:.1} s, {mostly}with content of all sizes both ways",
                    self.exchanges, self.path
                ),
            },
            Evidence {
                feature: "http.hidden_bodies",
                family: Family::Protocol,
                observed: (self.up.judged + self.down.judged) as f64,
                expected: "bodies that are what they are declared to be".into(),
                bits: bits.min(MAX_BITS_HIDDEN),
                signature_grade: false,
                text: format!("requests' bodies: {}; responses': {}", said(up), said(down)),
            },
        ]
    }
}

/// What hidden bodies of one direction are worth: noise behind a declaration that says otherwise; encoded, for no reason
/// that HTTP gives; noise that says so.
pub(super) const fn hidden_bits(looks: BodyLooks) -> f64 {
    match looks {
        BodyLooks::Hidden => 8.0,
        BodyLooks::Encoded => 5.0,
        BodyLooks::Binary => 3.0,
        BodyLooks::Unknown | BodyLooks::Plain | BodyLooks::Carries(_) => 0.0,
    }
}

/// The same in words.
pub(super) const fn hidden_text(looks: BodyLooks) -> &'static str {
    match looks {
        BodyLooks::Hidden => "noise declared as text",
        BodyLooks::Encoded => "one long word each",
        BodyLooks::Binary => "noise",
        BodyLooks::Unknown | BodyLooks::Plain | BodyLooks::Carries(_) => "plain",
    }
}

fn sum(evidence: &[Evidence]) -> f64 {
    evidence.iter().map(|one| one.bits).sum()
}
