//! Redis and what speaks like it (RESP 2 and 3): commands, logins, refusals, sizes of answers.
//!
//! Owns the pairing of answers with commands. Knows commands by name only: no key, value or password is reported, and
//! what follows the first few arguments isn't looked at. Replication and monitoring turn a connection into something
//! else, and end the reading.

mod command;
mod resp;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use command::{Command, Does};
use resp::{Element, Reader};

use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Probe, Progress, Segment,
    Transaction,
    text::{opt_text, text},
};
use crate::flow::Direction;

/// Redis over TCP.
pub(super) const REDIS: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Redis::new()),
};

const PRODUCT: &str = "redis";
const MAX_NAME: usize = 64;
/// The longest error code reported.
const MAX_CODE: usize = 16;
/// Logins that may be under way at once; a client that sends more doesn't get their answers paired.
const MAX_LOGINS: usize = 32;

/// First lines typed by hand or by scanners, that no other protocol begins with.
const INLINE: [&[u8]; 8] = [
    b"ping\r\n",
    b"info\r\n",
    b"info ",
    b"config get ",
    b"config set ",
    b"slaveof ",
    b"replicaof ",
    b"keys ",
];
/// A login typed by hand or by a few lines of a script; mail begins so, too, if its greeting was missed. The answer decides.
const INLINE_LOGIN: &[u8] = b"auth ";
/// Answers that only Redis begins with.
const ANSWERS: [&[u8]; 7] = [
    b"-NOAUTH ",
    b"-WRONGPASS ",
    b"+PONG\r\n",
    b"-DENIED Redis",
    // Before Redis 6.
    b"-ERR invalid password",
    b"-ERR Client sent AUTH",
    // Where no password is set.
    b"-ERR AUTH <password>",
];

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    match segment.direction {
        Direction::Orig if data.first() == Some(&b'*') => probe_array(data),
        Direction::Orig => {
            let lower: Vec<u8> = data.iter().take(16).map(u8::to_ascii_lowercase).collect();
            if lower.starts_with(INLINE_LOGIN) || INLINE_LOGIN.starts_with(&lower) {
                return Probe::Unsure;
            }
            probe_prefixes(&lower, &INLINE)
        }
        Direction::Resp => probe_prefixes(data, &ANSWERS),
    }
}

fn probe_prefixes(data: &[u8], prefixes: &[&[u8]]) -> Probe {
    if prefixes.iter().any(|prefix| data.starts_with(prefix)) {
        Probe::Certain
    } else if prefixes.iter().any(|prefix| prefix.starts_with(data)) {
        Probe::Unsure
    } else {
        Probe::NotForUs
    }
}

/// `*3\r\n$`: a command is an array of strings, of which there is at least one.
fn probe_array(data: &[u8]) -> Probe {
    let rest = data.get(1..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = rest.get(digits..).unwrap_or_default();
    let sound = digits <= 7 && rest.first() != Some(&b'0');
    match b"\r\n$" {
        _ if !sound => Probe::NotForUs,
        end if digits > 0 && after.starts_with(end) => Probe::Certain,
        end if after.is_empty() || digits > 0 && end.starts_with(after) => Probe::Unsure,
        _ => Probe::NotForUs,
    }
}

/// Both directions of a connection.
struct Redis {
    commands: Reader,
    command: Command,
    /// Whether the command under way is an array of strings, as programs send it.
    in_array: bool,
    replies: Reader,
    /// Commands seen, and how many of them are answered.
    asked: u64,
    answered: u64,
    /// Which of the commands not yet answered are logins, by number.
    logins: VecDeque<u64>,
    /// The reply under way.
    reply: Reply,
}

/// What is known of a reply before its end.
struct Reply {
    begun: bool,
    /// Announced by the server itself: answers nothing (RESP 3).
    push: bool,
    /// Elements of the outermost array.
    rows: Option<u64>,
    error: Option<Arc<str>>,
}

impl Dissector for Redis {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if segment.gap > 0 {
            self.lose(segment.direction, segment.gap);
        }
        match segment.direction {
            Direction::Orig => self.take_commands(segment.data, out),
            Direction::Resp => self.take_replies(segment.data, out),
        }
    }

    fn skipped(&self) -> u64 {
        let (commands, replies) = (self.commands.skipped(), self.replies.skipped());
        commands.saturating_add(replies)
    }
}

impl Redis {
    const fn new() -> Self {
        Self {
            commands: Reader::new(resp::MAX_HEAD),
            command: Command::new(),
            in_array: false,
            replies: Reader::new(0),
            asked: 0,
            answered: 0,
            logins: VecDeque::new(),
            reply: Reply::new(),
        }
    }

    /// Bytes are missing: unless all of them belong to one value, what was under way is lost, and the pairing with it.
    fn lose(&mut self, direction: Direction, gap: u32) {
        let reader = match direction {
            Direction::Orig => &mut self.commands,
            Direction::Resp => &mut self.replies,
        };
        if reader.skip_gap(gap.into()) {
            return;
        }
        reader.restart();
        match direction {
            Direction::Orig => {
                self.command.clear();
                self.in_array = false;
            }
            Direction::Resp => self.reply = Reply::new(),
        }
        self.answered = self.asked;
        self.logins.clear();
    }

    fn take_commands(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while let Some(element) = self.commands.next(&mut data) {
            match element {
                Element::Line(line) => match line.first() {
                    Some(b'*') if !self.in_array => self.in_array = true,
                    Some(b'$') if self.in_array => {}
                    _ if self.in_array => return Progress::Desynced,
                    // Typed by hand: the whole command in a line.
                    _ => self.command.inline(&line),
                },
                Element::Text(head) => self.command.argument(&head),
                Element::Bad => return Progress::Desynced,
            }
            if !self.commands.complete() {
                continue;
            }
            let length = self.commands.take_length();
            let does = self.command.does();
            self.command.clear();
            self.in_array = false;
            let Some(does) = does else {
                continue;
            };
            self.asked = self.asked.saturating_add(1);
            match does {
                Does::Login { user, secret } => {
                    if self.logins.len() < MAX_LOGINS {
                        self.logins.push_back(self.asked);
                    }
                    say(
                        DatabaseEvent::Login {
                            user: user.and_then(|user| opt_text(&user, MAX_NAME)),
                            database: None,
                            client: None,
                        },
                        out,
                    );
                    say(DatabaseEvent::Secret(secret), out);
                }
                Does::Other {
                    class,
                    marks,
                    verb,
                    fingerprint,
                    last,
                } => {
                    say(
                        DatabaseEvent::Statement {
                            class,
                            marks,
                            verb,
                            fingerprint,
                            length: u32::try_from(length).unwrap_or(u32::MAX),
                        },
                        out,
                    );
                    if last {
                        return Progress::Done;
                    }
                }
            }
        }
        Progress::More
    }

    fn take_replies(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while let Some(element) = self.replies.next(&mut data) {
            match element {
                Element::Line(line) => self.reply.line(&line),
                Element::Text(_) => {}
                Element::Bad => return Progress::Desynced,
            }
            if self.replies.complete() {
                let length = self.replies.take_length();
                let reply = std::mem::replace(&mut self.reply, Reply::new());
                self.end_reply(reply, length, out);
            }
        }
        Progress::More
    }

    fn end_reply(&mut self, reply: Reply, bytes: u64, out: &mut Vec<Transaction>) {
        // What nobody asked for, or was asked for before we listened.
        if reply.push || self.answered >= self.asked {
            return;
        }
        self.answered = self.answered.saturating_add(1);
        let event = if self.logins.front() == Some(&self.answered) {
            self.logins.pop_front();
            DatabaseEvent::LoginResult {
                success: reply.error.is_none(),
                code: reply.error,
            }
        } else {
            DatabaseEvent::Result {
                rows: reply.rows,
                bytes,
                error: reply.error,
            }
        };
        say(event, out);
    }
}

impl Reply {
    const fn new() -> Self {
        Self {
            begun: false,
            push: false,
            rows: None,
            error: None,
        }
    }

    fn line(&mut self, line: &[u8]) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let (kind, rest) = line.split_first().unwrap_or((&0, &[]));
        match kind {
            b'-' => self.error = Some(code(rest)),
            b'>' => self.push = true,
            b'*' | b'%' | b'~' => self.rows = resp::number(rest),
            _ => {}
        }
    }
}

/// An error's first word, if it is a code (`WRONGPASS`): messages may repeat what the client sent.
fn code(message: &[u8]) -> Arc<str> {
    let is_code = |byte: &&u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let len = message.iter().take_while(is_code).count();
    text(message.get(..len).unwrap_or_default(), MAX_CODE)
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
