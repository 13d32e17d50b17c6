//! One request with its answer, as far as its bodies and its time tell more than the two heads do.
//!
//! Knows no framing: it is told when a message begins, goes on and ends. Of pipelined requests nothing is told.

use std::sync::Arc;
use std::time::Duration;

use super::body::{BodyLooks, Declared, First};
use super::overheard::Overheard;
use crate::dissect::{CommandRun, Commands, SecretMark};
use crate::time::Timestamp;

/// A request that had a body or was to have one, or took long, with its answer; reported when it is over, and at doubling intervals before.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HttpExchange {
    /// The request's path without query, at most 256 bytes.
    pub path: Arc<str>,
    /// The response's status, once there is one.
    pub status: Option<u16>,
    /// Time since the request's head.
    pub took: Duration,
    /// The request's body so far.
    pub request: HttpBody,
    /// The response's.
    pub response: HttpBody,
    /// How often the ends took turns in sending while both bodies were open: ordinary clients finish before the server
    /// answers.
    pub interleaved: u32,
    /// Whether both messages are whole.
    pub complete: bool,
}

/// A body, or what has come of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HttpBody {
    /// Bytes on the wire, chunks' headers included.
    pub bytes: u64,
    /// How many short bursts they came in: at most 512 bytes, and half a second of silence or more on either side. An
    /// upload over a bad line comes in bursts, too, but not in short ones.
    pub bursts: u32,
    /// What it looks like; of responses only if the request had a body or was to have one.
    pub looks: BodyLooks,
}

/// An exchange of a request that brings nothing and is over sooner isn't worth a word.
const LONG: Duration = Duration::from_secs(5);
/// When one that goes on is first reported.
const FIRST_REPORT: Duration = Duration::from_secs(10);
/// Silence between bursts.
const SILENCE: Duration = Duration::from_millis(500);
/// The longest burst that is short.
const SHORT: u64 = 512;

/// The exchange under way on a connection.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    running: Option<Box<Running>>,
}

#[derive(Debug)]
struct Running {
    start: Timestamp,
    so_far: HttpExchange,
    request: Half,
    response: Half,
    /// Whether the end that asks spoke last.
    asking: bool,
    /// Whether the request is of those that bring something, if only nothing for once.
    brings: bool,
    due: Duration,
    overheard: Overheard,
}

/// What is known of one of the two messages.
#[derive(Debug, Default)]
struct Half {
    begun: bool,
    ended: bool,
    declared: Declared,
    last: Option<Timestamp>,
    /// Bytes of the present burst.
    burst: u64,
    first: First,
}

impl Half {
    fn take(&mut self, body: &mut HttpBody, data: &[u8], time: Timestamp, keep: bool) {
        body.bytes = body.bytes.saturating_add(data.len() as u64);
        if self.last.is_some_and(|last| time.since(last) >= SILENCE) {
            let short = std::mem::take(&mut self.burst) <= SHORT;
            body.bursts = body.bursts.saturating_add(u32::from(short));
        }
        self.burst = self.burst.saturating_add(data.len() as u64);
        self.last = Some(time);
        if keep {
            self.first.take(data);
        }
    }
}

impl Running {
    fn told(&self) -> HttpExchange {
        let mut told = self.so_far.clone();
        told.request.looks = self.request.first.looks(self.request.declared);
        if self.brings() {
            told.response.looks = self.response.first.looks(self.response.declared);
        }
        told
    }
}

impl Exchange {
    /// A request's head has come; `alone` if nothing else waits for its answer, `brings` if its method sends a body.
    pub(super) fn requested(
        &mut self,
        time: Timestamp,
        alone: bool,
        brings: bool,
        path: &Arc<str>,
        declared: Declared,
        asked: Commands,
    ) {
        if !alone {
            self.running = None;
            return;
        }
        let fresh = Running {
            start: time,
            so_far: HttpExchange {
                path: Arc::clone(path),
                ..HttpExchange::default()
            },
            request: Half {
                begun: true,
                declared,
                ..Half::default()
            },
            response: Half::default(),
            asking: true,
            brings,
            due: FIRST_REPORT,
            overheard: Overheard::new(asked),
        };
        match &mut self.running {
            Some(running) => **running = fresh,
            none => *none = Some(Box::new(fresh)),
        }
    }

    /// Mark of the request's body, if it is whole and short.
    pub(super) fn mark(&self) -> Option<SecretMark> {
        let running = self.running.as_ref()?;
        let whole = running.request.first.whole(running.so_far.request.bytes)?;
        running.request.ended.then(|| SecretMark::of(whole))
    }

    /// Whether the request's body has a field for a password.
    pub(super) fn has_password(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.brings && running.request.first.has_password())
    }

    /// A final response's head has come.
    pub(super) fn answered(&mut self, status: u16, declared: Declared) {
        if let Some(running) = &mut self.running {
            running.so_far.status = Some(status);
            running.response.begun = true;
            running.response.declared = declared;
            let body = running.request.first.bytes();
            running.overheard.answered(body, declared);
        }
    }

    /// What the answer turns out to be, once enough of it was seen; `over` if no more comes.
    pub(super) fn overheard(&mut self, over: bool) -> Option<CommandRun> {
        let running = self.running.as_mut()?;
        let ended = over || running.response.ended;
        let first = &running.response.first;
        let heard = running.overheard.tell(first, ended)?;
        Some(CommandRun {
            path: Arc::clone(&running.so_far.path),
            status: running.so_far.status.unwrap_or_default(),
            ..heard
        })
    }

    /// Bytes of a body have come from the end that asks, or from the one that answers. What is due to be told.
    pub(super) fn body(
        &mut self,
        asks: bool,
        data: &[u8],
        time: Timestamp,
    ) -> Option<HttpExchange> {
        let running = self.running.as_mut().filter(|running| !running.is_over())?;
        if asks {
            let body = &mut running.so_far.request;
            running.request.take(body, data, time, true);
        } else {
            let listens = running
                .overheard
                .hear(data, running.so_far.response.bytes == 0);
            let keep = listens || running.brings();
            let body = &mut running.so_far.response;
            running.response.take(body, data, time, keep);
        }
        let both_open = running.response.begun && !running.request.ended;
        if running.asking != asks && both_open {
            running.so_far.interleaved = running.so_far.interleaved.saturating_add(1);
        }
        running.asking = asks;
        running.so_far.took = time.since(running.start);
        if running.so_far.took < running.due {
            return None;
        }
        running.due = running.so_far.took.saturating_mul(2);
        Some(running.told())
    }

    /// A message is whole. What is to be told, if the exchange is over with it.
    pub(super) fn finished(&mut self, asks: bool, time: Timestamp) -> Option<HttpExchange> {
        let running = self.running.as_mut().filter(|running| !running.is_over())?;
        if asks {
            running.request.ended = true;
        } else {
            running.response.ended = running.response.begun;
        }
        if !running.is_over() {
            return None;
        }
        running.so_far.took = time.since(running.start);
        running.so_far.complete = true;
        let worth = running.brings() || running.so_far.took >= LONG;
        worth.then(|| running.told())
    }

    /// Bytes are missing, and with them the place in the exchange.
    pub(super) fn lose(&mut self) {
        self.running = None;
    }
}

impl Running {
    const fn is_over(&self) -> bool {
        self.request.ended && self.response.ended
    }

    /// Whether the request brings something, or was to.
    const fn brings(&self) -> bool {
        self.brings || self.so_far.request.bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn requested(exchange: &mut Exchange, millis: i64, alone: bool) {
        let nothing = Commands::empty();
        exchange.requested(
            at(millis),
            alone,
            false,
            &"/a".into(),
            Declared::Text,
            nothing,
        );
    }

    #[test]
    fn an_exchange_with_a_body_is_told_when_it_is_over() {
        let mut exchange = Exchange::default();
        requested(&mut exchange, 0, true);
        assert_eq!(
            exchange.body(true, b"{\"some\":\"thing\"}, and so on", at(1)),
            None
        );
        assert_eq!(exchange.body(true, b"more", at(700)), None);
        assert_eq!(exchange.finished(true, at(700)), None);
        exchange.answered(200, Declared::Text);
        assert_eq!(exchange.body(false, b"ok", at(730)), None);
        let told = exchange.finished(false, at(731)).unwrap();
        let expected = HttpExchange {
            path: "/a".into(),
            status: Some(200),
            took: Duration::from_millis(731),
            request: HttpBody {
                bytes: 31,
                bursts: 1,
                looks: BodyLooks::Plain,
            },
            response: HttpBody {
                bytes: 2,
                bursts: 0,
                looks: BodyLooks::Unknown,
            },
            interleaved: 0,
            complete: true,
        };
        assert_eq!(told, expected);
        assert_eq!(exchange.finished(false, at(800)), None);
    }

    #[test]
    fn short_ones_without_a_body_and_pipelined_ones_are_not() {
        let mut exchange = Exchange::default();
        requested(&mut exchange, 0, true);
        exchange.finished(true, at(0));
        exchange.answered(200, Declared::Text);
        exchange.body(false, &[b'x'; 900], at(20));
        assert_eq!(exchange.finished(false, at(20)), None);
        requested(&mut exchange, 30, true);
        requested(&mut exchange, 31, false);
        exchange.answered(200, Declared::Text);
        assert_eq!(exchange.body(false, b"x", at(90_000)), None);
    }

    #[test]
    fn one_that_goes_on_is_told_of_at_doubling_intervals() {
        let mut exchange = Exchange::default();
        requested(&mut exchange, 0, true);
        exchange.answered(200, Declared::Text);
        let mut told = Vec::new();
        for second in 1..=100 {
            told.extend(exchange.body(true, b"x", at(second * 1000)));
            told.extend(exchange.body(false, b"x", at(second * 1000 + 1)));
        }
        let seconds: Vec<u64> = told.iter().map(|told| told.took.as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80]);
        assert_eq!((told[0].interleaved, told[0].request.bursts), (18, 9));
        assert!(!told[3].complete);
    }
}
