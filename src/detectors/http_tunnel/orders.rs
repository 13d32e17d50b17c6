//! Orders: somebody outside is asked again and again, mostly gets to say nothing, and when it does, a hidden report follows.
//!
//! Shells made of plain HTTP work so: one request asks for a command, another brings what it printed. Workers who fetch jobs
//! do the same, but the results that they bring are documents.

use super::Thresholds;
use super::polls::{Bodies, hidden_bits, hidden_text};
use crate::detectors::{Evidence, Family};
use crate::dissect::HttpExchange;
use crate::flow::FlowId;
use crate::time::Timestamp;

/// Answers before the usual one is known.
const FEWEST_ANSWERS: u64 = 8;
/// Most answers are the usual one.
const USUAL: f64 = 0.6;
/// Orders from which it is no chance that a report follows,
const FEWEST_ORDERS: u64 = 3;
/// nor that hardly any comes without.
const FOLLOWED: f64 = 0.8;
const BITS_ORDERS: f64 = 8.0;
/// Asking so often: a worker that has nothing to do waits.
const BITS_HASTY: f64 = 4.0;
const HASTY_SECS: f64 = 1.0;

/// What is asked for and brought on a line.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// A request that brings nothing, not answered yet.
    open: Option<FlowId>,
    asked: u64,
    first: Timestamp,
    last: Timestamp,
    /// The usual answer's length, by majority, and how many such answers there were.
    usual: Option<u64>,
    votes: u64,
    same: u64,
    /// Whether the last answer was another.
    ordered: bool,
    given: u64,
    /// Reports, and those that followed an order.
    reports: u64,
    followed: u64,
    bodies: Bodies,
}

impl Orders {
    pub(super) fn request(&mut self, flow: FlowId, time: Timestamp, brings: bool) {
        if brings {
            self.reports += 1;
            self.followed += u64::from(self.ordered);
            self.ordered = false;
            self.open = None;
            return;
        }
        if self.asked == 0 {
            self.first = time;
        }
        self.asked += 1;
        self.last = time;
        self.open = Some(flow);
    }

    pub(super) fn answer(&mut self, flow: FlowId, length: Option<u64>) {
        if self.open != Some(flow) {
            return;
        }
        self.open = None;
        let usual = self.usual == length;
        if usual {
            self.votes += 1;
            self.same += 1;
        } else if self.votes == 0 {
            (self.usual, self.votes) = (length, 1);
            self.same = 1;
        } else {
            self.votes -= 1;
        }
        self.ordered = !usual && self.asked > FEWEST_ANSWERS;
        self.given += u64::from(self.ordered);
    }

    pub(super) fn exchange(&mut self, exchange: &HttpExchange) {
        if exchange.complete && exchange.request.bytes > 0 {
            self.bodies
                .take(exchange.request.bytes, exchange.request.looks);
        }
    }

    pub(super) fn evidence(&self, thresholds: &Thresholds) -> Vec<Evidence> {
        let every = self.last.since(self.first).as_secs_f64() / self.asked.max(1) as f64;
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        if self.asked < thresholds.min_polls
            || every > thresholds.slowest_poll_secs
            || share(self.same, self.asked) < USUAL
            || self.followed < FEWEST_ORDERS
            || share(self.followed, self.reports) < FOLLOWED
        {
            return Vec::new();
        }
        let Some(looks) = self.bodies.hide(FEWEST_ORDERS) else {
            return Vec::new();
        };
        vec![
            Evidence {
                feature: "http.orders",
                family: Family::Timing,
                observed: self.followed as f64,
                expected: "requests that depend on no answer".into(),
                bits: BITS_ORDERS + if every <= HASTY_SECS { BITS_HASTY } else { 0.0 },
                signature_grade: false,
                text: format!(
                    "asked {} times, once in {every:.1} s, mostly for the same; {} times it got something else, and {} times a report followed at once",
                    self.asked, self.given, self.followed
                ),
            },
            Evidence {
                feature: "http.hidden_bodies",
                family: Family::Protocol,
                observed: self.reports as f64,
                expected: "bodies that are what they are declared to be".into(),
                bits: hidden_bits(looks),
                signature_grade: false,
                text: format!("the reports look like {}", hidden_text(looks)),
            },
        ]
    }
}

/// Whether a request's head announces a body.
pub(super) fn brings(method: &str, length: Option<u64>) -> bool {
    length.is_some_and(|length| length > 0) || length.is_none() && matches!(method, "POST" | "PUT")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::dissect::{BodyLooks, HttpBody};

    const THRESHOLDS: Thresholds = Thresholds {
        max_channels: 16,
        min_polls: 40,
        slowest_poll_secs: 10.0,
        held_secs: 20.0,
        held_bursts: 5,
    };

    /// 80 questions; every seventh gets an order, and what follows an order or, every so often, comes by itself.
    fn line(looks: BodyLooks, follows: bool, unbidden: usize) -> Vec<Evidence> {
        let mut orders = Orders::default();
        let body = |bytes, looks| HttpBody {
            bytes,
            bursts: 1,
            looks,
        };
        let report = |orders: &mut Orders, time| {
            orders.request(FlowId(2), time, true);
            orders.exchange(&HttpExchange {
                path: Arc::from("/r"),
                status: Some(200),
                took: Duration::ZERO,
                request: body(400, looks),
                response: body(2, BodyLooks::Plain),
                interleaved: 0,
                complete: true,
            });
        };
        for n in 0..80_usize {
            let time = Timestamp::from_secs_f64(n as f64 * 0.8);
            orders.request(FlowId(1), time, false);
            let order = n % 7 == 6;
            orders.answer(FlowId(1), Some(if order { 5 + n as u64 } else { 4 }));
            if order && follows || unbidden > 0 && n % unbidden == 0 {
                report(&mut orders, time);
            }
        }
        orders.evidence(&THRESHOLDS)
    }

    #[test]
    fn reports_that_follow_orders_and_hide() {
        let evidence = line(BodyLooks::Encoded, true, 0);
        let bits: f64 = evidence.iter().map(|one| one.bits).sum();
        assert!(bits >= 17.0, "{evidence:?}");
        // Jobs whose results are documents; an agent that reports by a clock of its own; feeds.
        assert!(line(BodyLooks::Plain, true, 0).is_empty());
        assert!(line(BodyLooks::Encoded, true, 3).is_empty());
        assert!(line(BodyLooks::Encoded, false, 5).is_empty());
        assert!(line(BodyLooks::Encoded, false, 0).is_empty());
    }

    #[test]
    fn a_head_that_announces_a_body() {
        assert!(brings("POST", None) && brings("POST", Some(3)) && brings("PUT", None));
        assert!(!brings("GET", None) && !brings("POST", Some(0)));
    }
}
