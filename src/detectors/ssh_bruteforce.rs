//! `ssh-bruteforce`: SSH passwords are guessed, told by the shape of what is encrypted.
//!
//! After keys are agreed on, a login is a strict dialogue of small packets: the client asks, the server accepts, refuses,
//! or lets in, and "let in" is the shortest message there is (see [`Dialogue`]). A connection that ends in that phase was
//! refused.

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;

use super::guessing::{Guessing, Thresholds};
use super::{Context, Detector, DetectorSpec, Findings, StateSize};
use crate::dissect::{SshMessage, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Attempt, bounded};
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
            guessing: Guessing::new(SPEC.id, thresholds, signature.alert_bits, TOOL),
            open: bounded(MAX_OPEN),
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

/// What goes on in a connection after keys were agreed on.
///
/// RFC 4252: the client asks for the service (answered by 17 bytes), then tries methods one after the other. A refusal
/// lists the methods that may go on (24 bytes and more), success is a message of one byte. Sizes differ by cipher, their
/// order doesn't.
pub(super) struct Dialogue {
    began: Timestamp,
    as_tool: bool,
    encrypted: bool,
    answers: u32,
    answer_bytes: u64,
    /// The shortest answer so far.
    shortest: u32,
    asked: Option<Turn>,
    let_in: Option<Timestamp>,
    /// Tries that look like passwords: when each began and was answered.
    tries: Vec<(Timestamp, Timestamp)>,
    /// When the last answer ended.
    answered: Timestamp,
}

impl Dialogue {
    const fn new(began: Timestamp, as_tool: bool) -> Self {
        Self {
            began,
            as_tool,
            encrypted: false,
            answers: 0,
            answer_bytes: 0,
            shortest: u32::MAX,
            asked: None,
            let_in: None,
            tries: Vec::new(),
            answered: began,
        }
    }

    /// For a connection whose keys were agreed on just now.
    pub(super) fn after_keys(began: Timestamp) -> Self {
        Self {
            encrypted: true,
            ..Self::new(began, false)
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
        let thought = turn.start.since(asked.end) >= PASSWORD_TAKES
            || asked.start.since(self.answered) >= PASSWORD_TAKES;
        self.answered = turn.end;
        // A server without delay refuses passwords as soon as keys. A guessing tool offers no keys, but asks what may be
        // tried first.
        let guessed = self.as_tool && self.answers > 2;
        if self.answers > 1 && (thought || guessed) && self.tries.len() < MAX_TRIES {
            self.tries.push((asked.start, turn.end));
        }
    }

    /// Whether it came to more than a login.
    const fn is_session(&self) -> bool {
        self.answer_bytes > SESSION_BYTES || self.answers > SESSION_TURNS
    }
}

struct SshBruteforce {
    guessing: Guessing,
    open: LruCache<FlowId, Dialogue>,
}

impl SshBruteforce {
    fn message(&mut self, flow: &Arc<FlowInfo>, message: &SshMessage, time: Timestamp) {
        match message {
            SshMessage::Client(name) => {
                let name = name.to_ascii_lowercase();
                let as_tool = TOOLS.iter().any(|tool| name.contains(tool));
                self.open.put(flow.id, Dialogue::new(time, as_tool));
            }
            SshMessage::Encrypted => {
                let dialogue = self
                    .open
                    .get_or_insert_mut(flow.id, || Dialogue::new(time, false));
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
            self.refusals(flow, &dialogue, context, out);
            self.decide(flow, &dialogue, (dialogue.began, time, true), context, out);
        }
    }

    /// The connection is over, and nobody was let in.
    fn ended(&mut self, flow: &Arc<FlowInfo>, context: &Context<'_>, out: &mut Findings) {
        let Some(dialogue) = self.open.pop(&flow.id) else {
            return;
        };
        if dialogue.answers < 2 {
            return;
        }
        self.refusals(flow, &dialogue, context, out);
        if dialogue.tries.is_empty() {
            let times = (dialogue.began, dialogue.answered, false);
            self.decide(flow, &dialogue, times, context, out);
        }
    }

    fn refusals(
        &mut self,
        flow: &Arc<FlowInfo>,
        dialogue: &Dialogue,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        for &(began, decided) in &dialogue.tries {
            self.decide(flow, dialogue, (began, decided, false), context, out);
        }
    }

    fn decide(
        &mut self,
        flow: &Arc<FlowInfo>,
        dialogue: &Dialogue,
        (began, decided, success): (Timestamp, Timestamp, bool),
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let attempt = Attempt {
            flow,
            service: "ssh",
            user: None,
            secret: None,
            code: None,
            began,
            decided,
            success,
            as_tool: dialogue.as_tool,
        };
        self.guessing.take(&attempt, context, out);
    }
}

impl Detector for SshBruteforce {
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
