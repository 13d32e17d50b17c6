//! Logins of the old text protocols and of LDAP: who, and whether it was let in. No password is kept.

use std::sync::Arc;

use super::super::text::opt_text;
use super::super::{Both, Dissector, Progress, Segment, Transaction, buffer};
use super::{definite_length, element, ldap_operation};
use crate::flow::Direction;

/// An attempt to log in, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The protocol, as in the flow's application: `ftp`, `smtp`, `imap`, `pop3`, `ldap`.
    pub protocol: &'static str,
    /// Who, where it is in clear; at most 64 bytes.
    pub user: Option<Arc<str>>,
    /// Whether the server let it in.
    pub success: bool,
    /// The server's own code: `530`, `535`, `NO`, `-ERR`, `49`.
    pub code: Option<Arc<str>>,
}

const MAX_USER: usize = 64;
/// What is kept of a line or message: enough for its command and a name.
const KEEP: usize = 160;
/// Bytes after which a login still missing isn't waited for.
const PATIENCE: u64 = 256 * 1024;

/// SMTP, IMAP or POP3.
pub(super) struct Text {
    protocol: &'static str,
    lines: Both<Vec<u8>>,
    user: Option<Arc<str>>,
    /// An attempt waits for its answer; for IMAP, the tag it bears.
    tried: Option<Vec<u8>>,
    /// The client asked to go on encrypted.
    hides: bool,
    seen: u64,
}

impl Text {
    pub(super) const fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            lines: Both {
                orig: Vec::new(),
                resp: Vec::new(),
            },
            user: None,
            tried: None,
            hides: false,
            seen: 0,
        }
    }
}

impl Dissector for Text {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        self.seen = self.seen.saturating_add(segment.data.len() as u64);
        if segment.gap > 0 {
            self.lines.of(segment.direction).clear();
        }
        for piece in segment.data.split_inclusive(|byte| *byte == b'\n') {
            let held = self.lines.of(segment.direction);
            let room = KEEP.saturating_sub(held.len());
            let kept = piece.get(..room).unwrap_or(piece);
            // There is room for it.
            let _fits = buffer::append(held, kept, KEEP);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(held);
            let line = line.trim_ascii_end();
            let over = match segment.direction {
                Direction::Orig => self.command(line),
                Direction::Resp => self.reply(line, out),
            };
            if over {
                return Progress::Done;
            }
        }
        if self.seen > PATIENCE {
            Progress::Done
        } else {
            Progress::More
        }
    }

    fn skipped(&self) -> u64 {
        self.seen
    }
}

fn first_word(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or(line)
}

/// The first word, in upper case, and the rest.
fn word(line: &[u8]) -> (Vec<u8>, &[u8]) {
    let first = first_word(line);
    let rest = line.get(first.len()..).unwrap_or_default();
    (first.to_ascii_uppercase(), rest.trim_ascii())
}

impl Text {
    /// Whether that is all that is wanted of the flow.
    fn command(&mut self, line: &[u8]) -> bool {
        let (verb, rest) = word(line);
        match (self.protocol, verb.as_slice()) {
            ("imap", _) => {
                let (verb, rest) = word(rest);
                match verb.as_slice() {
                    b"LOGIN" => {
                        let user = first_word(rest);
                        let user = user.strip_prefix(b"\"").unwrap_or(user);
                        self.user = opt_text(user.strip_suffix(b"\"").unwrap_or(user), MAX_USER);
                        self.tried = Some(word(line).0);
                    }
                    b"AUTHENTICATE" => self.tried = Some(word(line).0),
                    b"STARTTLS" => self.hides = true,
                    _ => {}
                }
            }
            ("smtp", b"AUTH") | ("pop3", b"PASS") => self.tried = Some(Vec::new()),
            ("smtp", b"DATA") => return true,
            ("smtp", b"STARTTLS") | ("pop3", b"STLS") => self.hides = true,
            ("pop3", b"USER") => self.user = opt_text(rest, MAX_USER),
            ("pop3", b"APOP") => {
                self.user = opt_text(first_word(rest), MAX_USER);
                self.tried = Some(Vec::new());
            }
            _ => {}
        }
        false
    }

    fn reply(&mut self, line: &[u8], out: &mut Vec<Transaction>) -> bool {
        let (code, rest) = word(line);
        if std::mem::take(&mut self.hides) {
            let agreed = match self.protocol {
                "smtp" => code == b"220",
                "pop3" => code == b"+OK",
                _ => word(rest).0 == b"OK",
            };
            if agreed {
                return true;
            }
        }
        let Some(tag) = &self.tried else {
            return false;
        };
        let (code, success) = match (self.protocol, code.as_slice()) {
            ("smtp", b"235") | ("pop3", b"+OK") => (code, true),
            ("smtp", b"535" | b"534" | b"538" | b"454" | b"504") | ("pop3", b"-ERR") => {
                (code, false)
            }
            ("imap", _) if code == *tag => {
                let (verdict, _) = word(rest);
                let success = verdict == b"OK";
                (verdict, success)
            }
            _ => return false,
        };
        self.tried = None;
        out.push(Transaction::Login(Login {
            protocol: self.protocol,
            user: self.user.clone(),
            success,
            code: opt_text(&code, 8),
        }));
        success
    }
}

/// LDAP's binds (RFC 4511 4.2).
#[derive(Default)]
pub(super) struct Ldap {
    messages: Both<Message>,
    user: Option<Arc<str>>,
    seen: u64,
}

/// A message under way.
#[derive(Default)]
struct Message {
    held: Vec<u8>,
    /// Bytes of it still to pass over.
    left: usize,
}

const BIND: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const SIMPLE: u8 = 0x80;
/// Wants a further step of a SASL exchange.
const IN_PROGRESS: u8 = 14;

impl Dissector for Ldap {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        self.seen = self.seen.saturating_add(segment.data.len() as u64);
        if segment.gap > 0 {
            return Progress::Done;
        }
        let mut data = segment.data;
        while !data.is_empty() {
            let message = self.messages.of(segment.direction);
            if message.left > 0 {
                let (over, rest) = data.split_at_checked(message.left).unwrap_or((data, &[]));
                message.left = message.left.saturating_sub(over.len());
                data = rest;
                continue;
            }
            // One byte at a time until the length is known; a header has six at most.
            let wanted = match total(&message.held) {
                Total::Known(total) => total.min(KEEP),
                Total::Open => message.held.len().saturating_add(1),
                Total::None => return Progress::Done,
            };
            let missing = wanted.saturating_sub(message.held.len());
            let (part, rest) = data.split_at_checked(missing).unwrap_or((data, &[]));
            if !buffer::append(&mut message.held, part, KEEP) {
                return Progress::Done;
            }
            data = rest;
            if let Total::Known(total) = total(&message.held)
                && message.held.len() >= total.min(KEEP)
            {
                let text = std::mem::take(&mut message.held);
                message.left = total.saturating_sub(text.len());
                self.message(&text, out);
            }
        }
        if self.seen > PATIENCE {
            Progress::Done
        } else {
            Progress::More
        }
    }

    fn skipped(&self) -> u64 {
        self.seen
    }
}

/// A message's length with its header.
enum Total {
    Known(usize),
    /// Too little of the header is here.
    Open,
    /// This is no message.
    None,
}

fn total(head: &[u8]) -> Total {
    match head {
        [] | [0x30] => Total::Open,
        [0x30, rest @ ..] => match definite_length(rest) {
            Some((length, told)) => Total::Known(length.saturating_add(told).saturating_add(1)),
            None if rest.len() < 5 && matches!(rest, [0x81..=0x84, ..]) => Total::Open,
            None => Total::None,
        },
        _ => Total::None,
    }
}

impl Ldap {
    fn message(&mut self, message: &[u8], out: &mut Vec<Transaction>) {
        let Some((tag, operation)) = ldap_operation(message) else {
            return;
        };
        let Some((content, _)) = element(operation, tag) else {
            return;
        };
        match tag {
            BIND => {
                // Version, name, then how it proves it.
                let name = element(content, 2).and_then(|(_, rest)| element(rest, 4));
                if let Some((name, rest)) = name
                    && rest.first() == Some(&SIMPLE)
                {
                    self.user = opt_text(name, MAX_USER);
                }
            }
            BIND_RESPONSE => {
                if let Some(([code], _)) = element(content, 10)
                    && *code != IN_PROGRESS
                {
                    out.push(Transaction::Login(Login {
                        protocol: "ldap",
                        user: self.user.clone(),
                        success: *code == 0,
                        code: opt_text(code.to_string().as_bytes(), 8),
                    }));
                }
            }
            _ => {}
        }
    }
}
