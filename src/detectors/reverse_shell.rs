//! `reverse-shell`: a command interpreter at one end of a connection, and somebody typing at the other.
//!
//! Whoever works a shell asks, and the shell answers. In a reverse shell the pod has called, and yet the called end asks:
//! roles are inverted, and stay so. (Servers that speak first do it once.) In a bind shell the caller asks, as everywhere;
//! there the typing counts: short lines at human pauses, answered at once with much or little. Neither needs the text, so
//! TLS hides nothing. Where the text is readable, what shells and their users say is seen by its marks.
//!
//! Human pauses: Zhang and Paxson, "Detecting Backdoors" (USENIX Security 2000).

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use serde::Deserialize;

use super::newness::{bare_address, newness, total_bits};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{Carried, Content, Opening, ShellMarks, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{bounded, goes_out, is_outside, is_session_port};
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

/// What one inverted exchange is worth, and what one in the ordinary direction takes away.
const BITS_INVERTED: f64 = 2.5;
const BITS_ORDINARY: f64 = -4.0;
/// Beyond this the same behaviour repeats itself and says nothing new: there are honest services that always behave so.
const MOST_BITS_INVERTED: f64 = 10.0;
/// Inside a cluster work is handed out so, too.
const MOST_BITS_INVERTED_INSIDE: f64 = 6.0;
/// WebSockets are there so that servers can ask, too.
const MOST_BITS_INVERTED_WEBSOCKET: f64 = 5.0;
/// Without the answers being the larger part it is rather a queue that is acknowledged.
const MOST_BITS_ACKNOWLEDGED: f64 = 2.0;
const BITS_TYPED: f64 = 4.0;
const BITS_PAUSES: f64 = 3.0;
const BITS_KEYSTROKES: f64 = 5.0;
const BITS_NOBODYS_PROTOCOL: f64 = 4.0;
const BITS_NAMELESS_TLS: f64 = 4.0;
/// What the marks of a shell in readable text are worth.
const BITS_SHELL_SPEAKS: f64 = 12.0;
const BITS_PROMPT: f64 = 5.0;
const BITS_COMMAND: f64 = 6.0;
/// Silence before a question that makes it somebody's own move.
const INITIATIVE: Duration = Duration::from_millis(500);
/// What is said within this after an unanswered question may be the answer to it: some commands take their time.
const LATEST_ANSWER: Duration = Duration::from_mins(1);
/// Pauses between keys.
const KEYSTROKE: std::ops::Range<Duration> = Duration::from_millis(30)..Duration::from_millis(1500);
/// A key is one character, or the record or escape sequence that carries it.
const MOST_BYTES_PER_KEY: u64 = 4;
const MOST_BYTES_PER_SEALED_KEY: u64 = 64;
/// Fewer exchanges show no habit.
const FEWEST_EXCHANGES: u32 = 3;
const FEWEST_KEYSTROKES: u32 = 12;
/// Commands are no longer than this on the mean: typed, that is.
const LONGEST_COMMAND: f64 = 96.0;
/// Standard deviation of the pauses' logarithms from which on no timer makes them: a timer with ±50 % jitter has 0.3.
const HUMAN_SPREAD: f64 = 0.4;
const TELNET: u16 = 23;
const HTTP: &str = "http";
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
    /// Single keys in a row.
    keys: u32,
}

impl Asker {
    /// Notes a question of its own. If it may be a late answer to the other end, it is nobody's move.
    fn note(&mut self, exchange: &Exchange, late_answer: bool) {
        let pause = exchange.pause();
        let sealed_key = exchange.asked <= MOST_BYTES_PER_SEALED_KEY;
        let plain_key = exchange.asked <= MOST_BYTES_PER_KEY;
        // An echo repeats the key, in a packet of about its size.
        let echoed = exchange.answered <= exchange.asked.saturating_mul(2).max(8);
        if KEYSTROKE.contains(&pause) && (plain_key || sealed_key && echoed) {
            self.keys = self.keys.saturating_add(1);
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

struct Session {
    flow: Arc<FlowInfo>,
    last: Timestamp,
    askers: [Asker; 2],
    /// When each end last asked and got no answer at once.
    unanswered: [Option<Timestamp>; 2],
    marks: [ShellMarks; 2],
    app: Option<&'static str>,
    /// A TLS client named no server.
    nameless: bool,
    /// HTTP was left for a WebSocket, or for whatever else was agreed on.
    upgraded: Option<&'static str>,
    /// Requests of HTTP since the called end first asked: it doesn't, between those.
    requests: u32,
    reported: Option<u32>,
}

struct ReverseShell {
    alert_bits: f64,
    sessions: LruCache<FlowId, Session>,
    evicted: u64,
}

impl ReverseShell {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        let max = thresholds.max_flows;
        Self {
            alert_bits,
            sessions: bounded(max),
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
                nameless: false,
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
            Transaction::TlsClient(hello) if hello.sni.is_none() => {
                if let Some(session) = self.session(flow, time) {
                    session.nameless = true;
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
            .is_some_and(|session| session.app == Some(HTTP) || session.marks.iter().any(speaks))
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

/// Whether somebody could be working a shell there: over TCP, in no protocol that is known, not over a terminal's own; or
/// where the called end asks though HTTP has no way to.
fn is_candidate(flow: &FlowInfo, app: Option<&'static str>, exchange: &Exchange) -> bool {
    let spoken = match app {
        None | Some("tls") => true,
        Some(HTTP) => exchange.asker == Direction::Resp,
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

/// What was said through a proxy that knows nothing of what it carries. Other carriers are tunnels, and told as such.
fn through_socks(transaction: &Transaction) -> Option<&Transaction> {
    match transaction {
        Transaction::Carried(Carried {
            carrier: "socks",
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

    /// Who asks like somebody at a shell, and what speaks for it.
    fn judge(&self, context: &Context<'_>) -> Option<(Direction, Vec<Evidence>)> {
        let reverse = self.reverse(context);
        let bind = self.bind(context);
        let bits = |evidence: &Option<Vec<Evidence>>| evidence.as_deref().map_or(0.0, total_bits);
        if bits(&reverse) >= bits(&bind) {
            Some((Direction::Resp, reverse?))
        } else {
            Some((Direction::Orig, bind?))
        }
    }

    /// The called end asks.
    fn reverse(&self, context: &Context<'_>) -> Option<Vec<Evidence>> {
        let flow = &self.flow;
        let [ordinary, inverted] = &self.askers;
        let mut evidence: Vec<_> = self.marks(Direction::Resp).collect();
        if evidence.is_empty() && (inverted.moves == 0 || !self.may_ask()) {
            return None;
        }
        let inside = !goes_out(flow);
        let most = if inverted.answered < inverted.asked {
            MOST_BITS_ACKNOWLEDGED
        } else if self.upgraded.is_some() {
            MOST_BITS_INVERTED_WEBSOCKET
        } else if inside {
            MOST_BITS_INVERTED_INSIDE
        } else {
            MOST_BITS_INVERTED
        };
        let bits =
            BITS_INVERTED * f64::from(inverted.moves) + BITS_ORDINARY * f64::from(ordinary.moves);
        evidence.push(Evidence {
            feature: "session.inverted_exchanges",
            family: Family::Volume,
            observed: f64::from(inverted.moves),
            expected: "the client asks, the server answers".into(),
            bits: bits.min(most),
            signature_grade: false,
            text: format!(
                "{} times the called end asked ({} bytes) and the caller answered ({} bytes); {} times the caller asked",
                inverted.moves, inverted.asked, inverted.answered, ordinary.moves
            ),
        });
        evidence.extend(Self::typing(inverted));
        evidence.extend(self.protocol());
        evidence.extend(bare_address(flow, context));
        if !inside || context.profile(&flow.orig).is_some() {
            evidence.push(newness(flow, Duration::ZERO, context));
        }
        Some(evidence)
    }

    /// Whether the called end may be asking at all. Between HTTP's requests it only answers late; other upgrades than to
    /// WebSockets are those of consoles and containers' APIs, and tunnels.
    fn may_ask(&self) -> bool {
        let left = self.requests == 0 && matches!(self.upgraded, None | Some("websocket"));
        self.app != Some(HTTP) || left
    }

    /// The caller asks: told from other clients by typing.
    fn bind(&self, context: &Context<'_>) -> Option<Vec<Evidence>> {
        let flow = &self.flow;
        if flow.resp_port == TELNET
            || self.app == Some(HTTP)
            || goes_out(flow) && flow.resp.who.identity.kind == IdentityKind::External
        {
            return None;
        }
        let [typist, pushing] = &self.askers;
        let mut evidence: Vec<_> = self.marks(Direction::Orig).collect();
        let typed = typist.moves >= FEWEST_EXCHANGES
            && typist.command_length() <= LONGEST_COMMAND
            && typist.answers_vary()
            && pushing.moves == 0;
        if evidence.is_empty() && !typed {
            return None;
        }
        if typed {
            evidence.push(Evidence {
                feature: "session.short_questions",
                family: Family::Volume,
                observed: typist.command_length().round(),
                expected: "requests of a program".into(),
                bits: BITS_TYPED,
                signature_grade: false,
                text: format!(
                    "{} questions of {:.0} bytes on the mean were answered with {} to {} bytes",
                    typist.questions,
                    typist.command_length(),
                    typist.least_answer,
                    typist.most_answer
                ),
            });
        }
        evidence.extend(Self::typing(typist));
        evidence.extend(self.protocol());
        if !is_outside(&flow.orig) {
            evidence.push(newness(flow, Duration::ZERO, context));
        }
        Some(evidence)
    }

    /// What shells and those who work them say in the clear.
    fn marks(&self, asker: Direction) -> impl Iterator<Item = Evidence> + use<> {
        let asks = self.marks[asker as usize];
        let answers = self.marks[asker.reverse() as usize];
        let speaks = answers.any(SPEAKS);
        let prompts = answers.any(ShellMarks::PROMPT);
        let commands = asks.any(ShellMarks::COMMAND);
        let bits = [
            (speaks, BITS_SHELL_SPEAKS),
            (prompts, BITS_PROMPT),
            (commands, BITS_COMMAND),
        ]
        .into_iter()
        .filter_map(|(there, bits)| there.then_some(bits))
        .sum::<f64>();
        let said: Vec<&str> = [
            (commands, "commands asked for"),
            (prompts, "a prompt"),
            (speaks, "what shells print"),
        ]
        .into_iter()
        .filter_map(|(there, what)| there.then_some(what))
        .collect();
        // A prompt alone ends many a line.
        (speaks || commands)
            .then(|| Evidence {
                feature: "session.shell_text",
                family: Family::Protocol,
                observed: said.len() as f64,
                expected: "no shell's text".into(),
                bits,
                signature_grade: commands && (speaks || prompts) || speaks && prompts,
                text: format!("readable: {}", said.join(", ")),
            })
            .into_iter()
    }

    /// Whether a person types.
    fn typing(asker: &Asker) -> Option<Evidence> {
        let keys = asker.keys >= FEWEST_KEYSTROKES;
        let pauses = asker.moves >= FEWEST_EXCHANGES && asker.spread() >= HUMAN_SPREAD;
        (keys || pauses).then(|| Evidence {
            feature: if keys {
                "session.keystrokes"
            } else {
                "session.pauses"
            },
            family: Family::Timing,
            observed: if keys {
                f64::from(asker.keys)
            } else {
                asker.spread()
            },
            expected: "the rhythm of a program".into(),
            bits: if keys { BITS_KEYSTROKES } else { BITS_PAUSES },
            signature_grade: false,
            text: if keys {
                format!("{} single keys at the pace of hands", asker.keys)
            } else {
                format!("{} questions after pauses that no timer makes", asker.moves)
            },
        })
    }

    fn protocol(&self) -> Option<Evidence> {
        let (feature, bits, text) = match self.app {
            None if !is_session_port(self.flow.resp_port) => (
                "session.no_protocol",
                BITS_NOBODYS_PROTOCOL,
                "no known protocol is spoken",
            ),
            Some(HTTP) if self.upgraded.is_none() => (
                "session.left_http",
                BITS_NOBODYS_PROTOCOL,
                "it begins as HTTP and goes on as something else",
            ),
            Some("tls") if self.nameless => (
                "tls.no_server_name",
                BITS_NAMELESS_TLS,
                "the TLS client names no server",
            ),
            _ => return None,
        };
        Some(Evidence {
            feature,
            family: Family::Protocol,
            observed: 1.0,
            expected: "a protocol that services speak".into(),
            bits,
            signature_grade: false,
            text: text.into(),
        })
    }

    fn finding(&self, asker: Direction, evidence: Vec<Evidence>, domain: Option<&str>) -> Finding {
        let flow = &self.flow;
        // Whoever called is the one to look at, unless that is somebody outside.
        let from_outside = asker == Direction::Orig && is_outside(&flow.orig);
        let (actor, other) = if from_outside && !is_outside(&flow.resp) {
            (&flow.resp, &flow.orig)
        } else {
            (&flow.orig, &flow.resp)
        };
        let habit = &self.askers[asker as usize];
        // One that is cut off before two answers has shown by its text alone what it is.
        let worked = match habit.moves {
            0 => String::new(),
            moves => format!(
                ": {moves} commands ({} bytes), answered with {} bytes",
                habit.asked, habit.answered
            ),
        };
        let summary = if asker == Direction::Resp {
            format!(
                "lets {} work a shell over a connection it opened to port {}{worked}",
                flow.resp.ip, flow.resp_port
            )
        } else if from_outside {
            format!(
                "has a shell on port {}, which {} works{worked}",
                flow.resp_port, flow.orig.ip
            )
        } else {
            format!(
                "works a shell on port {} of {}{worked}",
                flow.resp_port, flow.resp.ip
            )
        };
        Finding {
            signature: SPEC.id,
            subject: format!(
                "{}:{}",
                domain.map_or_else(|| other.ip.to_string(), str::to_owned),
                flow.resp_port
            ),
            actor: actor.clone(),
            first: flow.start,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(other.clone()),
                port: Some(flow.resp_port),
                protocol: Some(self.app.unwrap_or(match flow.protocol {
                    Protocol::Udp => "udp",
                    _ => "tcp",
                })),
                domain: None,
            }],
            target_count: 1,
            evidence,
            flows: vec![Arc::clone(flow)],
            summary,
        }
    }
}

impl Detector for ReverseShell {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Exchange {
                flow,
                exchange,
                app,
            } if is_candidate(flow, *app, exchange) || self.is_followed(flow.id) => {
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
                match through_socks(transaction) {
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
            limit: self.sessions.cap().get(),
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
