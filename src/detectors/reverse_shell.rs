//! `reverse-shell`: a command interpreter at one end of a connection, and somebody typing at the other.
//!
//! Whoever works a shell asks, and the shell answers. In a reverse shell the pod has called, and yet the called end asks:
//! roles are inverted, and stay so. (Servers that speak first do it once.) In a bind shell the caller asks, as everywhere;
//! there the typing counts: short lines at human pauses, answered at once with much or little. Neither needs the text, so
//! TLS hides nothing. Where the text is readable, what shells and their users say is seen by its marks.
//!
//! Human pauses: Zhang and Paxson, "Detecting Backdoors" (USENIX Security 2000).

mod judge;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::newness::{bare_address, total_bits};
use super::{Context, Detector, DetectorSpec, Findings, StateSize};
use crate::dissect::{Carried, Content, Opening, ShellMarks, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, goes_out};
use crate::flow::{Direction, Exchange, FlowId, Protocol};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "reverse-shell",
    sees: EventKinds::EXCHANGE
        .and(EventKinds::OPENING)
        .and(EventKinds::TUNNEL)
        .and(EventKinds::TLS)
        .and(EventKinds::HTTP)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(ReverseShell::new(
            thresholds,
            signature.alert_bits,
        )))
    },
};

/// Silence before a question that makes it somebody's own move.
const INITIATIVE: Duration = Duration::from_millis(500);
/// What is said within this after an unanswered question may be the answer to it: some commands take their time.
const LATEST_ANSWER: Duration = Duration::from_mins(1);
/// Pauses between keys.
const KEYSTROKE: std::ops::Range<Duration> = Duration::from_millis(30)..Duration::from_millis(1500);
/// A key is one character, or the record or escape sequence that carries it.
const MOST_BYTES_PER_KEY: u64 = 4;
const MOST_BYTES_PER_SEALED_KEY: u64 = 64;
const TELNET: u16 = 23;
const HTTP: &str = "http";
/// A store that can keep who asks waiting until somebody else has left something for him. (Queues hand out work by design.)
const STORE: &str = "redis";
/// What only shells say.
const SPEAKS: u8 = ShellMarks::NO_TERMINAL | ShellMarks::WINDOWS | ShellMarks::OUTPUT;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_flows: usize,
}

/// Whose move it was, and what came of it, for one end as the asker.
#[derive(Clone, Copy, Default, Debug)]
struct Asker {
    /// Questions of its own accord that were answered, beyond the first exchange.
    moves: u32,
    /// All its questions, commands or keys, and their bytes.
    questions: u32,
    asked: u64,
    answered: u64,
    least_answer: u64,
    most_answer: u64,
    /// Logarithms of the pauses before them: sum and sum of squares.
    pauses: (f64, f64),
    /// Single keys in a row, without those that came by a clock, which no hand keeps,
    keys: u32,
    /// and those; and the pause before the last one of either, in seconds.
    ticks: u32,
    beat: f64,
}

/// Pauses that differ by no more than this share of the longer one are a clock's.
const CLOCK: f64 = 0.05;

impl Asker {
    /// Notes a question of its own. If it may be a late answer to the other end, it is nobody's move.
    fn note(&mut self, exchange: &Exchange, late_answer: bool) {
        let pause = exchange.pause();
        let sealed_key = exchange.asked <= MOST_BYTES_PER_SEALED_KEY;
        let plain_key = exchange.asked <= MOST_BYTES_PER_KEY;
        // An echo repeats the key, in a packet of about its size.
        let echoed = exchange.answered <= exchange.asked.saturating_mul(2).max(8);
        if KEYSTROKE.contains(&pause) && (plain_key || sealed_key && echoed) {
            let secs = pause.as_secs_f64();
            if (secs - self.beat).abs() <= CLOCK * secs.max(self.beat) {
                self.ticks = self.ticks.saturating_add(1);
            } else {
                self.keys = self.keys.saturating_add(1);
            }
            self.beat = secs;
        }
        if self.most_answer == 0 {
            self.least_answer = exchange.answered;
        }
        self.least_answer = self.least_answer.min(exchange.answered);
        self.most_answer = self.most_answer.max(exchange.answered);
        self.questions = self.questions.saturating_add(1);
        self.asked = self.asked.saturating_add(exchange.asked);
        self.answered = self.answered.saturating_add(exchange.answered);
        if pause < INITIATIVE || !exchange.is_answered() || late_answer {
            return;
        }
        self.moves = self.moves.saturating_add(1);
        let log = pause.as_secs_f64().max(1e-3).ln();
        self.pauses.0 += log;
        self.pauses.1 += log * log;
    }

    fn command_length(&self) -> f64 {
        self.asked as f64 / f64::from(self.questions.max(1))
    }

    /// Standard deviation of the pauses' logarithms.
    fn spread(&self) -> f64 {
        let n = f64::from(self.moves.max(1));
        let mean = self.pauses.0 / n;
        (self.pauses.1 / n - mean * mean).max(0.0).sqrt()
    }

    /// Whether the answers differ in length as those to different commands do.
    fn answers_vary(&self) -> bool {
        self.most_answer >= self.least_answer.saturating_mul(2).max(16)
    }
}

/// Which server a TLS client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AsksFor {
    Name,
    Nobody,
    /// An address in the place of a name, which RFC 6066 3 forbids: netcats do it.
    Address,
}

struct Session {
    flow: Arc<FlowInfo>,
    last: Timestamp,
    askers: [Asker; 2],
    /// When each end last asked and got no answer at once.
    unanswered: [Option<Timestamp>; 2],
    marks: [ShellMarks; 2],
    app: Option<&'static str>,
    asks_for: AsksFor,
    /// HTTP was left for a WebSocket, or for whatever else was agreed on.
    upgraded: Option<&'static str>,
    /// Requests of HTTP since the called end first asked: it doesn't, between those.
    requests: u32,
    reported: Option<u32>,
}

struct ReverseShell {
    alert_bits: f64,
    sessions: Bounded<FlowId, Session>,
    evicted: u64,
}

impl ReverseShell {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        let max = thresholds.max_flows;
        Self {
            alert_bits,
            sessions: Bounded::new(max),
            evicted: 0,
        }
    }

    fn session(&mut self, flow: &Arc<FlowInfo>, time: Timestamp) -> Option<&mut Session> {
        if !self.sessions.contains(&flow.id) {
            let session = Session {
                flow: Arc::clone(flow),
                last: time,
                askers: Default::default(),
                unanswered: Default::default(),
                marks: Default::default(),
                app: None,
                asks_for: AsksFor::Name,
                upgraded: None,
                requests: 0,
                reported: None,
            };
            let evicted = self.sessions.push(flow.id, session);
            self.evicted += u64::from(evicted.is_some());
        }
        let session = self.sessions.get_mut(&flow.id)?;
        session.last = session.last.max(time);
        Some(session)
    }

    fn transaction(&mut self, flow: &Arc<FlowInfo>, transaction: &Transaction, time: Timestamp) {
        match transaction {
            Transaction::Opening(Opening {
                direction, shell, ..
            }) if shell.0 != 0 => {
                if let Some(session) = self.session(flow, time) {
                    session.marks[*direction as usize] = *shell;
                }
            }
            Transaction::TlsClient(hello) => {
                let asked = hello.sni.as_deref();
                let asks_for = match asked.map(str::parse::<IpAddr>) {
                    None => AsksFor::Nobody,
                    Some(Ok(_)) => AsksFor::Address,
                    Some(Err(_)) => return,
                };
                if let Some(session) = self.session(flow, time) {
                    session.asks_for = asks_for;
                }
            }
            Transaction::TunnelOpened(opened) => {
                if let Some(session) = self.session(flow, time) {
                    session.upgraded = Some(opened.carrier);
                }
            }
            Transaction::HttpRequest(_) => {
                if let Some(session) = self.sessions.peek_mut(&flow.id) {
                    session.requests = session.requests.saturating_add(1);
                }
            }
            _ => {}
        }
    }

    /// Whether a session is of interest whatever its protocol: the called end asked where HTTP was spoken, or what only
    /// shells say was read there.
    fn is_followed(&self, id: FlowId) -> bool {
        let speaks = |marks: &ShellMarks| marks.any(SPEAKS);
        self.sessions
            .peek(&id)
            .is_some_and(|session| session.app.is_some() || session.marks.iter().any(speaks))
    }

    /// Reports a session if its evidence suffices and has grown, or if it is over.
    fn report(&mut self, id: FlowId, over: bool, context: &Context<'_>, out: &mut Findings) {
        let Some(session) = self.sessions.peek_mut(&id) else {
            return;
        };
        let moves = session.askers.iter().map(|asker| asker.moves).sum::<u32>();
        let due = match session.reported {
            None => true,
            Some(reported) => over && moves > reported || moves >= reported.saturating_mul(2),
        };
        if !due {
            return;
        }
        let Some((asker, evidence)) = session.judge(context) else {
            return;
        };
        if total_bits(&evidence) >= self.alert_bits {
            session.reported = Some(moves.max(1));
            let flow = &session.flow;
            let domain = context.peers.domain(flow.orig.ip, flow.resp.ip);
            let domain = domain
                .filter(|_| asker == Direction::Resp)
                .map(|name| &**name);
            out.push(session.finding(asker, evidence, domain));
        }
    }
}

/// Whether somebody could be working a shell there: over TCP, in no protocol that is known, not over a terminal's own;
/// where the called end asks though HTTP has no way to; or where it asks by way of a store of somebody's own, that no name
/// led to.
fn is_candidate(
    flow: &FlowInfo,
    app: Option<&'static str>,
    exchange: &Exchange,
    context: &Context<'_>,
) -> bool {
    let inverted = exchange.asker == Direction::Resp;
    let spoken = match app {
        None | Some("tls") => true,
        Some(HTTP) => inverted,
        Some(STORE) => inverted && goes_out(flow) && bare_address(flow, context).is_some(),
        Some(_) => false,
    };
    flow.protocol == Protocol::Tcp && spoken && may_serve(flow)
}

/// Nodes have shells by design, and services are never who answers.
fn may_serve(flow: &FlowInfo) -> bool {
    !matches!(
        flow.resp.who.identity.kind,
        IdentityKind::Node | IdentityKind::Service
    )
}

/// What was said through a proxy that knows nothing of what it carries, or in a WebSocket. Other carriers are tunnels, and
/// told as such.
fn carried(transaction: &Transaction) -> Option<&Transaction> {
    match transaction {
        Transaction::Carried(Carried {
            carrier: "socks" | "websocket",
            content: Content::Message(message),
        }) => Some(message),
        _ => None,
    }
}

impl Session {
    fn note(&mut self, exchange: &Exchange) {
        let (asker, other) = (exchange.asker, exchange.asker.reverse());
        if exchange.number > 0 {
            let late = self.unanswered[other as usize]
                .is_some_and(|asked| exchange.start.since(asked) <= LATEST_ANSWER);
            self.askers[asker as usize].note(exchange, late);
        }
        self.unanswered[other as usize] = None;
        self.unanswered[asker as usize] = (!exchange.is_answered()).then_some(exchange.start);
    }
}

impl Detector for ReverseShell {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Exchange {
                flow,
                exchange,
                app,
            } if is_candidate(flow, *app, exchange, context) || self.is_followed(flow.id) => {
                // The first exchange is a greeting or a handshake, whoever begins it. Most flows have no other, and
                // programs ask the next thing at once.
                let telling = exchange.number > 0 && exchange.pause() >= KEYSTROKE.start;
                if !telling && !self.sessions.contains(&flow.id) {
                    return;
                }
                if let Some(session) = self.session(flow, exchange.end) {
                    session.app = *app;
                    session.note(exchange);
                    self.report(flow.id, false, context, out);
                }
            }
            // A shell's text gives it away over UDP, too, and whatever name a banner has given the flow.
            EventKind::Transaction { flow, transaction }
                if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) && may_serve(flow) =>
            {
                match carried(transaction) {
                    // Of what a proxy carries the text is all there is: whose turn it was is not told.
                    Some(carried) => {
                        self.transaction(flow, carried, event.time);
                        self.report(flow.id, false, context, out);
                    }
                    None => self.transaction(flow, transaction, event.time),
                }
            }
            EventKind::FlowEnded { flow, .. } => {
                self.report(flow.id, true, context, out);
                self.sessions.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sessions.len(),
            limit: self.sessions.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests;
