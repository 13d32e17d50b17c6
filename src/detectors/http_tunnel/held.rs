//! Exchanges that are held open to send while receiving: in one request, or in two side by side.

use std::collections::VecDeque;
use std::time::Duration;

use super::Thresholds;
use super::polls::{hidden_bits, hidden_text};
use crate::detectors::{Evidence, Family};
use crate::dissect::{BodyLooks, HttpExchange};
use crate::flow::FlowId;
use crate::time::Timestamp;

/// Turns within one exchange from which it is a conversation.
const MIN_TURNS: u32 = 8;
/// No client of the web sends its request while it takes the answer; some agents do (streams of log lines, builds).
const BITS_BOTH_WAYS: f64 = 14.0;
/// More turns make it less like a stream with acknowledgements.
const MAX_BITS_BOTH_WAYS: f64 = 20.0;
/// A request that trickles for long without an answer. Agents that stream do that.
const BITS_TRICKLE: f64 = 8.0;
/// And beside it an answer that trickles for long: one way each.
const BITS_PAIR: f64 = 20.0;
/// Held exchanges remembered.
const MAX_HELD: usize = 16;
/// Reports come at doubling intervals, so what goes on is heard of at least so often.
const FRESH: Duration = Duration::from_mins(2);

/// The held exchanges of a line.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Most turns in one exchange.
    interleaved: u32,
    interleaved_for: Duration,
    up: VecDeque<One>,
    down: VecDeque<One>,
    /// The looks of a body in one of these that hides most.
    looks: BodyLooks,
}

/// An exchange that is held open.
#[derive(Clone, Copy, Debug)]
struct One {
    flow: FlowId,
    time: Timestamp,
    took: Duration,
    bursts: u32,
}

impl Held {
    pub(super) fn take(&mut self, flow: FlowId, time: Timestamp, exchange: &HttpExchange) {
        let hides =
            exchange.request.bursts > 1 && (exchange.interleaved > 0 || exchange.status.is_none());
        for looks in [exchange.request.looks, exchange.response.looks] {
            if hides && hidden_bits(looks) > hidden_bits(self.looks) {
                self.looks = looks;
            }
        }
        if exchange.interleaved > self.interleaved {
            self.interleaved = exchange.interleaved;
            self.interleaved_for = exchange.took;
        }
        let one = |bursts| One {
            flow,
            time,
            took: exchange.took,
            bursts,
        };
        if exchange.request.bytes > 0 && exchange.status.is_none() {
            remember(&mut self.up, one(exchange.request.bursts));
        } else if exchange.request.bytes == 0 && exchange.response.bytes > 0 {
            remember(&mut self.down, one(exchange.response.bursts));
        }
    }

    pub(super) fn evidence(&self, thresholds: &Thresholds) -> Vec<Evidence> {
        let long = Duration::from_secs_f64(thresholds.held_secs);
        let mut evidence = Vec::new();
        if self.interleaved >= MIN_TURNS && self.interleaved_for >= long {
            let doublings = f64::from(self.interleaved / MIN_TURNS).log2();
            evidence.push(Evidence {
                feature: "http.both_ways_at_once",
                family: Family::Timing,
                observed: f64::from(self.interleaved),
                expected: "0: an answer follows a whole request".into(),
                bits: (BITS_BOTH_WAYS + doublings).min(MAX_BITS_BOTH_WAYS),
                signature_grade: false,
                text: format!(
                    "both ends took {} turns within one exchange of {:.0} s",
                    self.interleaved,
                    self.interleaved_for.as_secs_f64()
                ),
            });
        }
        let held = |one: &&One| one.took >= long && one.bursts >= thresholds.held_bursts;
        let both_ways = !evidence.is_empty();
        let Some(up) = self.up.iter().filter(held).max_by_key(|one| one.took) else {
            if both_ways {
                evidence.extend(self.hidden());
            }
            return evidence;
        };
        let beside = |down: &&One| {
            down.flow != up.flow
                && down.time.since(up.time) <= FRESH
                && up.time.since(down.time) <= FRESH
        };
        let pair = self.down.iter().filter(held).find(beside);
        let (bits, besides) = match pair {
            Some(down) => (
                BITS_PAIR,
                format!(
                    ", beside an answer that trickles for {:.0} s",
                    down.took.as_secs_f64()
                ),
            ),
            None => (BITS_TRICKLE, String::new()),
        };
        evidence.push(Evidence {
            feature: "http.held_open",
            family: Family::Timing,
            observed: up.took.as_secs_f64().round(),
            expected: format!("less than {} s, or in one go", thresholds.held_secs),
            bits,
            signature_grade: false,
            text: format!(
                "a request trickles for {:.0} s in {} bursts without an answer{besides}",
                up.took.as_secs_f64(),
                up.bursts
            ),
        });
        evidence.extend(self.hidden());
        evidence
    }

    fn hidden(&self) -> Option<Evidence> {
        let bits = hidden_bits(self.looks);
        (bits > 0.0).then(|| Evidence {
            feature: "http.hidden_bodies",
            family: Family::Protocol,
            observed: 1.0,
            expected: "bodies that are what they are declared to be".into(),
            bits,
            signature_grade: false,
            text: format!("what is streamed looks like {}", hidden_text(self.looks)),
        })
    }
}

fn remember(held: &mut VecDeque<One>, one: One) {
    if let Some(known) = held.iter_mut().find(|known| known.flow == one.flow) {
        *known = one;
        return;
    }
    if held.len() >= MAX_HELD {
        held.pop_front();
    }
    held.push_back(one);
}
