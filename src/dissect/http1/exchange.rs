//! One request with its answer, as far as its bodies and its time tell more than the two heads do.
//!
//! Knows no bytes: it is told when a message begins, goes on and ends. Of pipelined requests nothing is told.

use std::time::Duration;

use crate::flow::Direction;
use crate::time::Timestamp;

/// A request that had a body, or took long, with its answer; reported when it is over, and at doubling intervals before.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HttpExchange {
    /// Bytes of the request's body so far, chunks' headers included.
    pub request_bytes: u64,
    /// Bytes of the response's body so far.
    pub response_bytes: u64,
    /// The response's status, once there is one.
    pub status: Option<u16>,
    /// Time since the request's head.
    pub took: Duration,
    /// How often the ends took turns in sending while both bodies were open: ordinary clients finish before the server
    /// answers.
    pub interleaved: u32,
    /// Whether both messages are whole.
    pub complete: bool,
}

/// An exchange without a request body that is over sooner isn't worth a word.
const LONG: Duration = Duration::from_secs(5);
/// When one that goes on is first reported.
const FIRST_REPORT: Duration = Duration::from_secs(10);

/// The exchange under way on a connection.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    start: Timestamp,
    so_far: HttpExchange,
    asked: bool,
    answering: bool,
    answered: bool,
    last: Direction,
    due: Duration,
}

impl Exchange {
    /// A request's head has come; `alone` if nothing else waits for its answer.
    pub(super) fn requested(&mut self, time: Timestamp, alone: bool) {
        self.running = alone.then(|| Running {
            start: time,
            so_far: HttpExchange::default(),
            asked: false,
            answering: false,
            answered: false,
            last: Direction::Orig,
            due: FIRST_REPORT,
        });
    }

    /// A final response's head has come.
    pub(super) const fn answered(&mut self, status: u16) {
        if let Some(running) = &mut self.running {
            running.so_far.status = Some(status);
            running.answering = true;
        }
    }

    /// Bytes of a body have come from the end that asks, or from the one that answers. What is due to be told.
    pub(super) fn body(&mut self, asks: bool, bytes: u64, time: Timestamp) -> Option<HttpExchange> {
        let running = self.running.as_mut()?;
        let (counter, from) = if asks {
            (&mut running.so_far.request_bytes, Direction::Orig)
        } else {
            (&mut running.so_far.response_bytes, Direction::Resp)
        };
        *counter = counter.saturating_add(bytes);
        if running.last != from && running.answering && !running.asked {
            running.so_far.interleaved = running.so_far.interleaved.saturating_add(1);
        }
        running.last = from;
        running.so_far.took = time.since(running.start);
        if running.so_far.took < running.due {
            return None;
        }
        running.due = running.so_far.took.saturating_mul(2);
        Some(running.so_far.clone())
    }

    /// A message is whole. What is to be told, if the exchange is over with it.
    pub(super) fn finished(&mut self, asks: bool, time: Timestamp) -> Option<HttpExchange> {
        let running = self.running.as_mut()?;
        if asks {
            running.asked = true;
        } else {
            running.answered |= running.answering;
        }
        if !(running.asked && running.answered) {
            return None;
        }
        let mut over = self.running.take()?;
        over.so_far.took = time.since(over.start);
        over.so_far.complete = true;
        (over.so_far.request_bytes > 0 || over.so_far.took >= LONG).then_some(over.so_far)
    }

    /// Bytes are missing, and with them the place in the exchange.
    pub(super) fn lose(&mut self) {
        self.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn an_exchange_with_a_body_is_told_when_it_is_over() {
        let mut exchange = Exchange::default();
        exchange.requested(at(0), true);
        assert_eq!(exchange.body(true, 700, at(1)), None);
        assert_eq!(exchange.finished(true, at(1)), None);
        exchange.answered(200);
        assert_eq!(exchange.body(false, 50, at(30)), None);
        let told = exchange.finished(false, at(31)).unwrap();
        assert_eq!(
            told,
            HttpExchange {
                request_bytes: 700,
                response_bytes: 50,
                status: Some(200),
                took: Duration::from_millis(31),
                interleaved: 0,
                complete: true,
            }
        );
    }

    #[test]
    fn short_ones_without_a_body_and_pipelined_ones_are_not() {
        let mut exchange = Exchange::default();
        exchange.requested(at(0), true);
        exchange.finished(true, at(0));
        exchange.answered(200);
        exchange.body(false, 9000, at(20));
        assert_eq!(exchange.finished(false, at(20)), None);
        exchange.requested(at(30), true);
        exchange.requested(at(31), false);
        exchange.answered(200);
        assert_eq!(exchange.body(false, 1, at(90_000)), None);
    }

    #[test]
    fn one_that_goes_on_is_told_of_at_doubling_intervals() {
        let mut exchange = Exchange::default();
        exchange.requested(at(0), true);
        exchange.answered(200);
        let mut told = Vec::new();
        for second in 1..=100 {
            told.extend(exchange.body(true, 1, at(second * 1000)));
            told.extend(exchange.body(false, 1, at(second * 1000 + 1)));
        }
        let seconds: Vec<u64> = told.iter().map(|told| told.took.as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80]);
        assert_eq!(told[0].interleaved, 18);
        assert!(!told[3].complete);
    }
}
