//! Cassandra's and ScyllaDB's native protocol (CQL), versions 1 to 5: who logs in and whether it works, statements without
//! their literals, sizes of results.
//!
//! Passwords, bound values and rows are passed over by their length. Answers are paired with requests by stream number.
//! Of compressed bodies as much is unpacked; version 5's compressed segments are seen as such, not read.

mod fields;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use fields::Fields;
use segments::Segments;

use super::frames::{Frames, Plan, Step};
use super::sql::{Dialect, MAX_STATEMENT, begins_statement, statement};
use super::text::{opt_text, text};
use super::{
    Both, Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Marks, Probe,
    Progress, Segment, StatementClass, Transaction, fingerprint::fingerprint, unpack,
};
use crate::flow::Direction;

/// Cassandra over TCP.
pub(super) const CASSANDRA: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Cassandra::default()),
};

const PRODUCT: &str = "cassandra";
const MAX_NAME: usize = 64;
/// The longest message that a server takes by default.
const MAX_BODY: u32 = 0x1000_0000;
/// How much of a startup, a login or an answer is read.
const MAX_FIELDS: usize = 2048;
/// How much of a compressed body is unpacked.
const MAX_UNPACKED: usize = MAX_STATEMENT + 64;
/// Requests that may be under way at once; answers to more aren't paired.
const MAX_ASKED: usize = 256;

/// Bits of a message's first byte and of its flags.
const ANSWERS: u8 = 0x80;
const COMPRESSED: u8 = 0x01;
const TRACED: u8 = 0x02;
const PAYLOAD: u8 = 0x04;
const WARNS: u8 = 0x08;
const KNOWN_FLAGS: u8 = 0x1f;

const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const CREDENTIALS: u8 = 0x04;
const OPTIONS: u8 = 0x05;
const SUPPORTED: u8 = 0x06;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
const AUTH_RESPONSE: u8 = 0x0f;
const AUTH_SUCCESS: u8 = 0x10;

const BAD_CREDENTIALS: u32 = 0x0100;

#[derive(Clone, Copy)]
struct Header {
    version: u8,
    flags: u8,
    stream: i16,
    kind: u8,
    body: u32,
}

/// How long a message's header is; old versions number streams in one byte.
const fn header_len(first: u8) -> usize {
    if first & !ANSWERS <= 2 { 8 } else { 9 }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let version = fields.byte()?;
        let flags = fields.byte()?;
        let stream = if header_len(version) == 8 {
            i16::from(fields.byte()? as i8)
        } else {
            fields.be16()? as i16
        };
        let header = Self {
            version,
            flags,
            stream,
            kind: fields.byte()?,
            body: fields.be32()?,
        };
        let known = (1..=5).contains(&(version & !ANSWERS)) && header.kind <= AUTH_SUCCESS;
        (known && flags & !KNOWN_FLAGS == 0 && header.body <= MAX_BODY).then_some(header)
    }

    const fn answers(self) -> bool {
        self.version & ANSWERS != 0
    }
}

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let answers = segment.direction == Direction::Resp;
    let first = data.first().copied().unwrap_or_default();
    let version = first & !ANSWERS;
    if !(1..=5).contains(&version) || (first & ANSWERS != 0) != answers {
        return Probe::NotForUs;
    }
    if data.get(1).is_some_and(|flags| flags & !KNOWN_FLAGS != 0) {
        return Probe::NotForUs;
    }
    let Some((header, body)) = data.split_at_checked(header_len(first)) else {
        return Probe::Unsure;
    };
    let Some(header) = Header::parse(header) else {
        return Probe::NotForUs;
    };
    let verdict = match (answers, header.kind) {
        (false, OPTIONS) | (true, READY) => Some(header.body == 0),
        (false, STARTUP) if header.body < 4096 => begins_startup(body),
        // Taken up in the middle.
        (false, QUERY | PREPARE) if header.flags & (COMPRESSED | PAYLOAD) == 0 => {
            let text = body.get(4..);
            text.and_then(begins_statement)
        }
        (true, AUTHENTICATE | SUPPORTED) => Some((4..65_536).contains(&header.body)),
        (true, ERROR) if header.flags == 0 && header.body < 65_536 => {
            Fields(body).be32().map(|code| code < 0x2600)
        }
        _ => Some(false),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// A few names of settings and their values; the names are in capitals.
fn begins_startup(body: &[u8]) -> Option<bool> {
    let mut fields = Fields(body);
    let count = fields.be16()?;
    let length = fields.be16()?;
    let first = fields.byte()?;
    Some((1..=64).contains(&count) && (1..=64).contains(&length) && first.is_ascii_uppercase())
}

/// Both directions of a connection.
#[derive(Default)]
struct Cassandra {
    messages: Both<Frames>,
    /// Once version 5 is agreed on, messages come in segments.
    segments: Option<Both<Segments>>,
    /// Requests not answered yet.
    asked: VecDeque<i16>,
    /// What the client calls itself, and how it compresses.
    client: Option<Arc<str>>,
    compression: Compression,
    greeted: bool,
    /// Whether the client named itself to log in.
    logging_in: bool,
}

/// How bodies are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Compression {
    #[default]
    None,
    /// After the length unpacked.
    Lz4,
    Snappy,
    Other,
}

impl Compression {
    fn named(name: Option<&[u8]>) -> Self {
        match name {
            None => Self::None,
            Some(b"lz4") => Self::Lz4,
            Some(b"snappy") => Self::Snappy,
            Some(_) => Self::Other,
        }
    }

    /// A body's beginning, unpacked.
    fn unpack(self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Lz4 => Some(unpack::lz4(body.get(4..)?, MAX_UNPACKED)),
            Self::Snappy => Some(unpack::snappy(body, MAX_UNPACKED)),
            Self::None | Self::Other => None,
        }
    }
}

impl Dissector for Cassandra {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let direction = segment.direction;
        let mut data = segment.data;
        if segment.gap > 0 {
            let gap = segment.gap.into();
            // Without a segment's header there is no telling where the next begins.
            let known = match &mut self.segments {
                Some(segments) => segments.of(direction).skip_gap(gap),
                None => true,
            };
            if !known {
                return Progress::Desynced;
            }
            self.messages.of(direction).skip_gap(gap);
        }
        loop {
            let Some(segments) = &mut self.segments else {
                // Until segments begin, which an answer may bring about.
                match self.message(direction, &mut data, out) {
                    Some(progress) => return progress,
                    None => continue,
                }
            };
            let mut part = match segments.of(direction).next(&mut data) {
                segments::Part::Payload(part) => part,
                segments::Part::Compressed => {
                    if direction == Direction::Orig {
                        say_compressed(0, out);
                    }
                    continue;
                }
                segments::Part::More => return Progress::More,
                segments::Part::Bad => return Progress::Desynced,
            };
            loop {
                match self.message(direction, &mut part, out) {
                    None => {}
                    Some(Progress::More) => break,
                    Some(progress) => return progress,
                }
            }
        }
    }

    fn held(&self) -> usize {
        let Both { orig, resp } = &self.messages;
        orig.held().saturating_add(resp.held())
    }

    fn skipped(&self) -> u64 {
        let messages = &self.messages;
        messages
            .orig
            .skipped()
            .saturating_add(messages.resp.skipped())
    }
}

impl Cassandra {
    /// Takes one message; or says how it stands without.
    fn message(
        &mut self,
        direction: Direction,
        data: &mut &[u8],
        out: &mut Vec<Transaction>,
    ) -> Option<Progress> {
        let frames = self.messages.of(direction);
        let Some(first) = frames.first(data) else {
            // Whatever is there is passed over.
            let step = frames.next(data, 1, plan);
            debug_assert!(matches!(step, Step::More), "there is no message");
            return Some(Progress::More);
        };
        let message = match frames.next(data, header_len(first), plan) {
            Step::Message(message) => message,
            Step::More => return Some(Progress::More),
            Step::Bad => return Some(Progress::Desynced),
        };
        let Some(header) = Header::parse(&message) else {
            return Some(Progress::Desynced);
        };
        let body = message.get(header_len(first)..).unwrap_or_default();
        match (direction, header.answers()) {
            (Direction::Orig, false) => self.take_request(header, body, out),
            (Direction::Resp, true) => self.take_answer(header, body, out),
            _ => return Some(Progress::Desynced),
        }
        None
    }

    fn take_request(&mut self, header: Header, body: &[u8], out: &mut Vec<Transaction>) {
        if header.flags & COMPRESSED != 0 {
            let header = Header {
                flags: header.flags & !COMPRESSED,
                ..header
            };
            if let Some(body) = self.compression.unpack(body) {
                self.take_request(header, &body, out);
            } else if matches!(header.kind, QUERY | PREPARE | BATCH) {
                self.ask(header.stream);
                say_compressed(header.body, out);
            }
            return;
        }
        let mut fields = Fields(body);
        if header.flags & PAYLOAD != 0 && fields.payload().is_none() {
            return;
        }
        match header.kind {
            STARTUP => {
                let client = fields.setting(b"APPLICATION_NAME");
                let client = client.or_else(|| fields.setting(b"DRIVER_NAME"));
                self.client = client.and_then(|client| opt_text(client, MAX_NAME));
                self.compression = Compression::named(fields.setting(b"COMPRESSION"));
            }
            CREDENTIALS => {
                let user = fields.setting(b"username");
                self.say_login(user, out);
            }
            AUTH_RESPONSE => {
                fields.be32();
                // On whose behalf, the user, the password; anything else is a step of another way.
                let mut parts = fields.0.split(|byte| *byte == 0);
                let user = parts.nth(1);
                if let (Some(user), Some(_)) = (user, parts.next()) {
                    self.say_login(Some(user), out);
                }
            }
            QUERY | PREPARE => {
                self.ask(header.stream);
                let length = fields.be32().unwrap_or_default();
                let text = fields.up_to(length as usize);
                say(statement(text, length.into(), Dialect::Cql), out);
            }
            BATCH => {
                self.ask(header.stream);
                fields.take(3);
                let text = fields.byte().filter(|kind| *kind == 0);
                if let (Some(_), Some(length)) = (text, fields.be32()) {
                    let text = fields.up_to(length as usize);
                    say(statement(text, length.into(), Dialect::Cql), out);
                } else {
                    let (class, verb) = (StatementClass::Write, "BATCH");
                    say_named(class, verb, header.body, out);
                }
            }
            // Running what was prepared.
            EXECUTE => self.ask(header.stream),
            _ => {}
        }
    }

    fn say_login(&mut self, user: Option<&[u8]>, out: &mut Vec<Transaction>) {
        self.logging_in = true;
        let event = DatabaseEvent::Login {
            user: user.and_then(|user| opt_text(user, MAX_NAME)),
            database: None,
            client: self.client.clone(),
        };
        say(event, out);
    }

    fn ask(&mut self, stream: i16) {
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(stream);
    }

    fn take_answer(&mut self, header: Header, body: &[u8], out: &mut Vec<Transaction>) {
        let packed = header.flags & COMPRESSED != 0;
        let unpacked = packed.then(|| self.compression.unpack(body));
        let mut fields = match &unpacked {
            None => Fields(body),
            Some(unpacked) => Fields(unpacked.as_deref().unwrap_or_default()),
        };
        let readable = !fields.0.is_empty()
            && (header.flags & TRACED == 0 || fields.take(16).is_some())
            && (header.flags & WARNS == 0 || fields.texts().is_some())
            && (header.flags & PAYLOAD == 0 || fields.payload().is_some());
        if !readable {
            fields = Fields(&[]);
        }
        match header.kind {
            SUPPORTED => {
                let versions = fields.first_of(b"CQL_VERSION");
                self.greet(versions, out);
            }
            READY | AUTHENTICATE => {
                self.greet(None, out);
                if header.version & !ANSWERS == 5 && self.segments.is_none() {
                    let compresses = self.compression != Compression::None;
                    self.segments = Some(Both {
                        orig: Segments::new(compresses),
                        resp: Segments::new(compresses),
                    });
                }
            }
            AUTH_SUCCESS => {
                if !self.logging_in {
                    self.say_login(None, out);
                }
                self.say_result(true, None, out);
            }
            ERROR => {
                let code = fields.be32();
                let shown = code.map(|code| text(format!("{code:#06x}").as_bytes(), 16));
                if code == Some(BAD_CREDENTIALS) {
                    self.say_result(false, shown, out);
                } else if self.answered(header.stream) {
                    say_answer(None, header.body, shown, out);
                }
            }
            RESULT if self.answered(header.stream) => {
                let rows = fields.rows();
                say_answer(rows, header.body, None, out);
            }
            _ => {}
        }
    }

    fn answered(&mut self, stream: i16) -> bool {
        let place = self.asked.iter().position(|asked| *asked == stream);
        place.and_then(|place| self.asked.remove(place)).is_some()
    }

    fn greet(&mut self, version: Option<&[u8]>, out: &mut Vec<Transaction>) {
        if !std::mem::replace(&mut self.greeted, true) {
            let version = version.map(|version| [b"CQL ", version].concat());
            let version = version.and_then(|version| opt_text(&version, MAX_NAME));
            say(DatabaseEvent::Hello { version }, out);
        }
    }

    fn say_result(&mut self, success: bool, code: Option<Arc<str>>, out: &mut Vec<Transaction>) {
        self.logging_in = false;
        say(DatabaseEvent::LoginResult { success, code }, out);
    }
}

fn plan(bytes: &[u8]) -> Option<Plan> {
    let header = Header::parse(bytes)?;
    let keep = match header.kind {
        QUERY | PREPARE | BATCH => MAX_STATEMENT + 64,
        // What begins segments is to be behind as a whole.
        STARTUP | CREDENTIALS | AUTHENTICATE | AUTH_RESPONSE | ERROR | SUPPORTED | RESULT => {
            MAX_FIELDS
        }
        _ => 0,
    };
    let header_len = header_len(*bytes.first()?);
    let total = (header_len as u64).saturating_add(header.body.into());
    Some(Plan {
        keep: usize::try_from(total)
            .unwrap_or(usize::MAX)
            .min(keep.saturating_add(header_len)),
        total,
        mass: false,
    })
}

fn say_compressed(length: u32, out: &mut Vec<Transaction>) {
    say_named(StatementClass::Other, "COMPRESSED", length, out);
}

fn say_named(class: StatementClass, verb: &'static str, length: u32, out: &mut Vec<Transaction>) {
    let event = DatabaseEvent::Statement {
        class,
        marks: Marks::empty(),
        verb,
        fingerprint: fingerprint(verb.as_bytes()),
        length,
    };
    say(event, out);
}

fn say_answer(rows: Option<u64>, length: u32, error: Option<Arc<str>>, out: &mut Vec<Transaction>) {
    let bytes = length.into();
    say(DatabaseEvent::Result { rows, bytes, error }, out);
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
