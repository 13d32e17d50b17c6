//! What speaks for a session's being a shell that somebody works: whose turn it was, how it was typed, what could be read.

use std::sync::Arc;
use std::time::Duration;

use super::{Asker, AsksFor, HTTP, SPEAKS, SPEC, STORE, Session, TELNET};
use crate::baseline::Peer;
use crate::detectors::newness::{bare_address, newness, total_bits};
use crate::detectors::{Context, Evidence, Family, Finding, Target};
use crate::dissect::ShellMarks;
use crate::event::FlowInfo;
use crate::features::{Role, goes_out, is_outside, is_session_port};
use crate::flow::{Direction, Protocol};
use crate::identity::IdentityKind;

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
/// How many times a command's length what it prints is at least, by and large.
const PRINTED: u64 = 4;
const BITS_TYPED: f64 = 4.0;
const BITS_PAUSES: f64 = 3.0;
const BITS_KEYSTROKES: f64 = 5.0;
const BITS_NOBODYS_PROTOCOL: f64 = 4.0;
const BITS_NAMELESS_TLS: f64 = 4.0;
/// One client in sixty-four: libraries leave addresses out.
const BITS_ADDRESS_IN_TLS: f64 = 6.0;
/// A port of a pod that was watched for so long before anybody called it, and that one alone has called: who opens a port
/// in a pod at work is the first to know of it. Services that are new, or seldom wanted, are called late as well.
const BITS_NEW_PORT: f64 = 5.0;
const PORT_UNUSED: Duration = Duration::from_mins(1);
/// What the marks of a shell in readable text are worth.
const BITS_SHELL_SPEAKS: f64 = 12.0;
const BITS_PROMPT: f64 = 5.0;
const BITS_COMMAND: f64 = 6.0;
/// Fewer exchanges show no habit.
const FEWEST_EXCHANGES: u32 = 3;
const FEWEST_KEYSTROKES: u32 = 12;
/// Commands are no longer than this on the mean: typed, that is.
const LONGEST_COMMAND: f64 = 96.0;
/// Standard deviation of the pauses' logarithms from which on no timer makes them: a timer with ±50 % jitter has 0.3.
const HUMAN_SPREAD: f64 = 0.4;

impl Session {
    /// Who asks like somebody at a shell, and what speaks for it.
    pub(super) fn judge(&self, context: &Context<'_>) -> Option<(Direction, Vec<Evidence>)> {
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
        // Workers, too, wait for what others leave in a store; what they say in return is no longer than that, by and large.
        if self.app == Some(STORE) && inverted.answered < inverted.asked.saturating_mul(PRINTED) {
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
        if is_outside(&flow.orig) {
            evidence.extend(new_port(flow, context));
        } else {
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
        let keys = asker.keys >= FEWEST_KEYSTROKES && asker.keys >= asker.ticks;
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
            None if self.flow.begun && !is_session_port(self.flow.resp_port) => (
                "session.no_protocol",
                BITS_NOBODYS_PROTOCOL,
                "no known protocol is spoken",
            ),
            Some(HTTP) if self.upgraded.is_none() => (
                "session.left_http",
                BITS_NOBODYS_PROTOCOL,
                "it begins as HTTP and goes on as something else",
            ),
            Some("tls") if self.asks_for == AsksFor::Nobody => (
                "tls.no_server_name",
                BITS_NAMELESS_TLS,
                "the TLS client names no server",
            ),
            Some("tls") if self.asks_for == AsksFor::Address => (
                "tls.no_server_name",
                BITS_ADDRESS_IN_TLS,
                "the TLS client gives an address for the server's name, as libraries don't",
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

    pub(super) fn finding(
        &self,
        asker: Direction,
        evidence: Vec<Evidence>,
        domain: Option<&str>,
    ) -> Finding {
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

/// Whether a pod began to listen while it was watched, for one caller.
fn new_port(flow: &FlowInfo, context: &Context<'_>) -> Option<Evidence> {
    let watched = context
        .acquaintances
        .served_one_since(flow)?
        .since(context.debuts.seen(flow.resp.ip)?);
    let served = |peer: Peer<'_>| peer.role == Role::Server && peer.port == flow.resp_port;
    let learned = context
        .profile(&flow.resp)
        .is_some_and(|profile| profile.peers().any(served));
    let new = flow.begun
        && watched >= PORT_UNUSED
        && context.may_be_pod(&flow.resp)
        && !is_session_port(flow.resp_port)
        && !learned;
    new.then(|| Evidence {
        feature: "server.new_port",
        family: Family::Novelty,
        observed: watched.as_secs() as f64,
        expected: "ports that are called from the start, or by several".into(),
        bits: BITS_NEW_PORT,
        signature_grade: false,
        text: format!(
            "nobody had called port {} in the {} s that the pod was seen, and nobody else has since",
            flow.resp_port,
            watched.as_secs()
        ),
    })
}
