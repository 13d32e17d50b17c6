//! Logins of the old text protocols and of LDAP: who, and whether it was let in. No password is kept. What goes on as TLS
//! is handed over.

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
/// The first byte of a client's first record of TLS; none of these protocols' messages begins so.
pub(in crate::dissect) const TLS_HANDSHAKE: u8 = 22;

/// SMTP, IMAP or POP3.
pub(super) struct Text {
    protocol: &'static str,
    lines: Both<Vec<u8>>,
    user: Option<Arc<str>>,
    /// An attempt waits for its answer; for IMAP, the tag it bears.
    tried: Option<Vec<u8>>,
    /// The client asked to go on as TLS; for IMAP, by the tag it gave that.
    upgrade: Option<Vec<u8>>,
    /// Bytes of the last segment that are TLS's already, once it goes on so.
    tls: Option<usize>,
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
            upgrade: None,
            tls: None,
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
        let mut unread = segment.data.len();
        for piece in segment.data.split_inclusive(|byte| *byte == b'\n') {
            let held = self.lines.of(segment.direction);
            if segment.direction == Direction::Orig
                && self.upgrade.is_some()
                && held.is_empty()
                && piece.first() == Some(&TLS_HANDSHAKE)
            {
                self.tls = Some(unread);
                return Progress::Done;
            }
            unread = unread.saturating_sub(piece.len());
            let room = KEEP.saturating_sub(held.len());
            let kept = piece.get(..room).unwrap_or(piece);
            // There is room for it.
            let _fits = buffer::append(held, kept, KEEP);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(held);
            let line = line.trim_ascii_end();
            let next = match segment.direction {
                Direction::Orig => self.command(line),
                Direction::Resp => self.reply(line, out),
            };
            match next {
                Next::Line => {}
                Next::Tls => {
                    self.tls = Some(unread);
                    return Progress::Done;
                }
                Next::Nothing => return Progress::Done,
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

    fn starts_tls(&self) -> Option<usize> {
        self.tls
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

/// What comes after a line.
enum Next {
    Line,
    Tls,
    /// That was all that is wanted of the flow.
    Nothing,
}

impl Text {
    fn command(&mut self, line: &[u8]) -> Next {
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
                    b"STARTTLS" => self.upgrade = Some(word(line).0),
                    _ => {}
                }
            }
            ("smtp", b"AUTH") | ("pop3", b"PASS") => self.tried = Some(Vec::new()),
            ("smtp", b"DATA") => return Next::Nothing,
            ("smtp", b"STARTTLS") | ("pop3", b"STLS") => self.upgrade = Some(Vec::new()),
            ("pop3", b"USER") => self.user = opt_text(rest, MAX_USER),
            ("pop3", b"APOP") => {
                self.user = opt_text(first_word(rest), MAX_USER);
                self.tried = Some(Vec::new());
            }
            _ => {}
        }
        Next::Line
    }

    fn reply(&mut self, line: &[u8], out: &mut Vec<Transaction>) -> Next {
        let (code, rest) = word(line);
        if let Some(tag) = &self.upgrade {
            // What was asked before may be answered first.
            let agreed = match (self.protocol, code.as_slice()) {
                ("smtp", b"220") | ("pop3", b"+OK") => Some(true),
                ("smtp", [b'4' | b'5', ..]) | ("pop3", b"-ERR") => Some(false),
                ("imap", _) if code == *tag => Some(word(rest).0 == b"OK"),
                _ => None,
            };
            match agreed {
                Some(true) => return Next::Tls,
                Some(false) => self.upgrade = None,
                None => {}
            }
        }
        let Some(tag) = &self.tried else {
            return Next::Line;
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
            _ => return Next::Line,
        };
        self.tried = None;
        out.push(Transaction::Login(Login {
            protocol: self.protocol,
            user: self.user.clone(),
            success,
            code: opt_text(&code, 8),
        }));
        if success { Next::Nothing } else { Next::Line }
    }
}

/// LDAP's binds (RFC 4511 4.2), and whether it goes on as TLS (4.14).
#[derive(Default)]
pub(super) struct Ldap {
    messages: Both<Message>,
    user: Option<Arc<str>>,
    upgrade: Upgrade,
    /// Bytes of the last segment that are TLS's already, once it goes on so.
    tls: Option<usize>,
    seen: u64,
}

/// How far the ends are with going on as TLS.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Upgrade {
    #[default]
    None,
    Asked,
    Agreed,
}

impl Upgrade {
    /// Whether what comes after a message is TLS: the server agreed, or the client has asked and doesn't wait.
    fn is_due(self, by: Direction, data: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Asked => by == Direction::Orig && data.first() == Some(&TLS_HANDSHAKE),
            Self::Agreed => true,
        }
    }
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
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
/// The name of an extended operation.
const OPERATION: u8 = 0x80;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
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
            if message.held.is_empty() && self.upgrade.is_due(segment.direction, data) {
                self.tls = Some(data.len());
                return Progress::Done;
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

    fn starts_tls(&self) -> Option<usize> {
        self.tls
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
            EXTENDED if element(content, OPERATION).is_some_and(|(name, _)| name == START_TLS) => {
                self.upgrade = Upgrade::Asked;
            }
            EXTENDED_RESPONSE if self.upgrade == Upgrade::Asked => {
                let agreed = element(content, 10).is_some_and(|(code, _)| code == [0]);
                self.upgrade = if agreed {
                    Upgrade::Agreed
                } else {
                    Upgrade::None
                };
            }
            _ => {}
        }
    }
}
