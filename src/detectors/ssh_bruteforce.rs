//! `ssh-bruteforce`: SSH passwords are guessed, told by the shape of what is encrypted.
//!
//! After keys are agreed on, a login is a strict dialogue of small packets: the client asks, the server accepts, refuses,
//! or lets in, and "let in" is the shortest message there is (see [`Dialogue`]). A connection that ends in that phase was
//! refused.

use std::sync::Arc;
use std::time::Duration;

use super::guessing::{Guessing, Thresholds};
use super::{Context, Detector, DetectorSpec, Findings, Follows, StateSize};
use crate::dissect::{SecretMark, SshMessage, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Attempt, Bounded};
use crate::flow::{Direction, FlowId, Turn};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "ssh-bruteforce",
    sees: EventKinds::SSH
        .and(EventKinds::TURN)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(SshBruteforce {
            guessing: Guessing::new(SPEC.id, thresholds, signature.alert_bits, TOOL)
                .with_campaigns(),
            open: Bounded::new(signature.room(MAX_OPEN)),
        }))
    },
};

/// What a tool is known by.
const TOOL: &str = "the client calls itself a library that guessing tools are built on";
/// Connections followed at a time.
const MAX_OPEN: usize = 16_384;
/// Libraries that guessing tools are built on, and few others.
const TOOLS: &[&str] = &[
    "libssh_", "libssh-", "libssh2_", "ncrack", "medusa", "hydra", "nmap",
];
/// Tries within one connection that are counted; servers allow about as many.
const MAX_TRIES: usize = 6;
/// How much shorter "let in" is than any other answer. Messages of 1 and of 17 bytes and more, padded to blocks of 8 or
/// 16.
const SHORTER: u32 = 8;
/// Encrypted bytes of the server from which it must be a session: a login has a few dozen per answer.
const SESSION_BYTES: u64 = 6 * 1024;
/// Answers from which it must be one.
const SESSION_TURNS: u32 = 40;
/// A password is thought about: by the server, which answers a wrong one late, or by somebody who types it.
const PASSWORD_TAKES: Duration = Duration::from_millis(300);
/// How much longer than the request for the service (17 bytes, as its answer) a request is that offers a key: an Ed25519
/// key, the shortest there is, takes 107 bytes and the user's name, padded to blocks of 8 or 16.
const KEY_IS_LONGER: u64 = 96;
/// From here on it is no password either: OpenSSH pads them to 128 bytes, if they are long.
const NO_PASSWORD: u64 = 128;
/// How much longer it is than that when it can't ask merely what may be tried: that takes 31 bytes and a name.
const MORE_THAN_ASKED: u64 = 32;
/// The packet that takes the new keys into use.
const NEW_KEYS: u64 = 16;
/// How much longer it is when it is no such question, unless the name has thirty letters.
const NO_QUESTION: u64 = 48;
/// As often OpenSSH says the same again where nobody is there to type: it tries an empty password thrice.
const EMPTY: u32 = 2;
/// Clients that ask first what may be tried.
const ASKS_FIRST: &[&str] = &["openssh", "dropbear", "putty"];

/// What goes on in a connection after keys were agreed on.
///
/// RFC 4252: the client asks for the service (answered by 17 bytes), then tries methods one after the other. A refusal
/// lists the methods that may go on (24 bytes and more), success is a message of one byte. Sizes differ by cipher, their
/// order doesn't, nor by how much one message is longer than another: a request with a key is longer than one with a
/// password.
pub(super) struct Dialogue {
    began: Timestamp,
    client: Client,
    encrypted: bool,
    answers: u32,
    answer_bytes: u64,
    /// The shortest answer so far.
    shortest: u32,
    /// The first answer: 17 bytes.
    service: u32,
    asked: Option<Turn>,
    let_in: Option<Timestamp>,
    /// The answer to a question what may be tried, where it was asked: every refusal is as long.
    refusal: u32,
    /// Whether a key was offered.
    offered: bool,
    /// The first request, if it may bear a password: a try if none follows.
    only: Option<Try>,
    /// Requests that bear passwords.
    tries: Vec<Try>,
    /// Those that came at once, as long as the one before.
    repeated: u32,
    /// When the last answer ended.
    answered: Timestamp,
}

/// A password that was refused.
#[derive(Clone, Copy, Debug)]
struct Try {
    began: Timestamp,
    decided: Timestamp,
    /// Bytes of the request: another number is another password, or another user.
    bytes: u64,
    /// Nobody thought about it before.
    at_once: bool,
}

/// What kind of program the client says it is.
#[derive(Clone, Copy, Default, Debug)]
struct Client {
    /// A library that guessing tools are built on.
    tool: bool,
    /// One that asks first what may be tried.
    asks_first: bool,
}

impl Client {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let among = |names: &[&str]| names.iter().any(|part| name.contains(part));
        Self {
            tool: among(TOOLS),
            asks_first: among(ASKS_FIRST),
        }
    }
}

impl Dialogue {
    const fn new(began: Timestamp, client: Client) -> Self {
        Self {
            began,
            client,
            encrypted: false,
            answers: 0,
            answer_bytes: 0,
            shortest: u32::MAX,
            service: 0,
            refusal: 0,
            offered: false,
            asked: None,
            let_in: None,
            only: None,
            tries: Vec::new(),
            repeated: 0,
            answered: began,
        }
    }

    /// For a connection whose keys were agreed on just now.
    pub(super) fn after_keys(began: Timestamp) -> Self {
        Self {
            encrypted: true,
            ..Self::new(
                began,
                Client {
                    tool: false,
                    asks_first: false,
                },
            )
        }
    }

    /// Whether somebody was let in.
    pub(super) const fn is_in(&self) -> bool {
        self.let_in.is_some() || self.is_session()
    }

    pub(super) fn take(&mut self, turn: &Turn) {
        if !self.encrypted || self.let_in.is_some() {
            return;
        }
        if turn.direction == Direction::Orig {
            self.asked = Some(*turn);
            return;
        }
        // What the server says before it was asked (its extensions) is no answer.
        let Some(asked) = self.asked.take() else {
            return;
        };
        self.answers = self.answers.saturating_add(1);
        self.answer_bytes = self.answer_bytes.saturating_add(turn.bytes);
        if self.answers > 1 && turn.smallest.saturating_add(SHORTER) <= self.shortest {
            self.let_in = Some(turn.start);
            return;
        }
        self.shortest = self.shortest.min(turn.smallest);
        let before = std::mem::replace(&mut self.answered, turn.end);
        let this = Try {
            began: asked.start,
            decided: turn.end,
            // What comes before it (some keep the line busy with packets that say nothing) is shorter.
            bytes: asked.largest.into(),
            at_once: asked.start.since(before) < PASSWORD_TAKES,
        };
        let longer = this.bytes.saturating_sub(self.service.into());
        let late = !this.at_once || turn.start.since(asked.end) >= PASSWORD_TAKES;
        match self.answers {
            1 => {
                self.service = turn.smallest;
                // Some ask in the same breath what may be tried; before it there may be the keys' packet.
                let both = u64::from(self.service) * 2 + NEW_KEYS;
                let more = turn.bytes.saturating_sub(self.service.into());
                if self.client.asks_first && asked.bytes >= both && more > 0 {
                    self.answers = 2;
                    self.refusal = u32::try_from(more).unwrap_or(u32::MAX);
                }
            }
            2 => {
                // Some say that they are OpenSSH and don't ask first.
                self.client.asks_first &= longer < NO_QUESTION;
                if self.client.asks_first {
                    self.refusal = turn.smallest;
                } else if longer >= NO_PASSWORD {
                    self.offered = true;
                } else if late {
                    self.tried(this);
                } else {
                    let bears = (MORE_THAN_ASKED..KEY_IS_LONGER).contains(&longer);
                    self.only = bears.then_some(this);
                }
            }
            // No refusal, but a question in return.
            _ if self.client.asks_first && turn.smallest != self.refusal => self.only = None,
            _ => {
                self.only = None;
                // Keys are offered before passwords.
                let later = !self.tries.is_empty();
                if longer < KEY_IS_LONGER || (later || late) && longer < NO_PASSWORD {
                    self.tried(this);
                } else {
                    self.offered = true;
                }
            }
        }
    }

    /// Takes a try.
    fn tried(&mut self, this: Try) {
        let few = self.tries.len() <= 1;
        // What a program without anybody to type says at once is no other password, but perhaps another method.
        if this.at_once
            && self.client.asks_first
            && let Some(last) = self.tries.last_mut()
            && (few || last.bytes == this.bytes)
        {
            self.repeated += u32::from(last.bytes == this.bytes);
            (last.decided, last.bytes) = (this.decided, this.bytes);
        } else if self.tries.len() < MAX_TRIES {
            self.tries.push(this);
        }
    }

    /// All that was tried, if nobody was let in, with a mark of it where the same again is no guess.
    fn refused(&self) -> Vec<(Try, Option<SecretMark>)> {
        let tries: Vec<Try> = self.tries.iter().chain(&self.only).copied().collect();
        let (Some(first), Some(last)) = (tries.first(), tries.last()) else {
            return Vec::new();
        };
        if tries.len() == 1 && self.repeated >= EMPTY {
            return Vec::new();
        }
        // Who has a key, and falls back on something else when it is refused, does so each time in the same way.
        if self.offered && tries.iter().all(|one| one.at_once) {
            let bytes = tries.iter().map(|one| one.bytes).sum::<u64>();
            let whole = Try {
                decided: last.decided,
                bytes,
                ..*first
            };
            return vec![(whole, Some(SecretMark::of(&bytes.to_le_bytes())))];
        }
        tries.into_iter().map(|one| (one, None)).collect()
    }

    /// Whether it came to more than a login.
    const fn is_session(&self) -> bool {
        self.answer_bytes > SESSION_BYTES || self.answers > SESSION_TURNS
    }
}

struct SshBruteforce {
    guessing: Guessing,
    open: Bounded<FlowId, Dialogue>,
}

impl SshBruteforce {
    fn message(&mut self, flow: &Arc<FlowInfo>, message: &SshMessage, time: Timestamp) {
        match message {
            SshMessage::Client(name) => {
                self.open
                    .put(flow.id, Dialogue::new(time, Client::of(name)));
            }
            SshMessage::Encrypted => {
                let dialogue = self
                    .open
                    .get_or_insert_with(flow.id, || Dialogue::new(time, Client::default()));
                dialogue.encrypted = true;
            }
            SshMessage::Server(_) => {}
        }
    }

    fn turn(
        &mut self,
        flow: &Arc<FlowInfo>,
        turn: &Turn,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some(dialogue) = self.open.peek_mut(&flow.id) else {
            return;
        };
        dialogue.take(turn);
        let time = dialogue
            .let_in
            .or_else(|| dialogue.is_session().then_some(turn.start));
        if let Some(time) = time
            && let Some(dialogue) = self.open.pop(&flow.id)
        {
            // What came before a session may be the request that was granted.
            for this in &dialogue.tries {
                self.decide(flow, &dialogue, (this, None, false), context, out);
            }
            let whole = Try {
                began: dialogue.began,
                decided: time,
                bytes: 0,
                at_once: false,
            };
            self.decide(flow, &dialogue, (&whole, None, true), context, out);
        }
    }

    /// The connection is over, and nobody was let in.
    fn ended(&mut self, flow: &Arc<FlowInfo>, context: &Context<'_>, out: &mut Findings) {
        let Some(dialogue) = self.open.pop(&flow.id) else {
            return;
        };
        let refused = dialogue.refused();
        if dialogue.answers > 1 && refused.is_empty() {
            context.remark(SPEC.id, flow, || {
                "nothing was refused but keys or empty passwords: nobody guesses those".into()
            });
        }
        for (this, mark) in &refused {
            self.decide(flow, &dialogue, (this, *mark, false), context, out);
        }
    }

    fn decide(
        &mut self,
        flow: &Arc<FlowInfo>,
        dialogue: &Dialogue,
        (this, secret, success): (&Try, Option<SecretMark>, bool),
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let attempt = Attempt {
            flow,
            service: "ssh",
            user: None,
            secret,
            size: Some(this.bytes),
            code: None,
            began: this.began,
            decided: this.decided,
            success,
            as_tool: dialogue.client.tool,
        };
        self.guessing.take(&attempt, context, out);
    }
}

impl Detector for SshBruteforce {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::TURN.and(EventKinds::FLOW_ENDED),
            after: EventKinds::SSH,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Ssh(message),
            } => self.message(flow, message, event.time),
            EventKind::Turn { flow, turn } => self.turn(flow, turn, context, out),
            EventKind::FlowEnded { flow, .. } => self.ended(flow, context, out),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        self.guessing.tick(now, context, out);
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.guessing.finish(context, out);
    }

    fn state_size(&self) -> StateSize {
        self.guessing.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.guessing.losses()
    }
}

#[cfg(test)]
mod tests;
