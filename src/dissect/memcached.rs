//! Memcached, text (with its meta commands) and binary, over TCP and UDP: commands by name, sizes of answers, logins.
//!
//! No key and no value is reported, nor looked at but for its length.

mod binary;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use binary::{HEADER_LEN, REQUEST, RESPONSE};
use text::{Answer, Lines};

use super::frames::{Frames, Step};
use super::text::{opt_text, text as shown};
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Marks, Probe, Progress,
    Segment, StatementClass, Transaction, fingerprint::fingerprint,
};
use crate::flow::Direction;

/// Memcached over TCP.
pub(super) const MEMCACHED: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Memcached::default()),
};

/// Memcached over UDP.
pub(super) const MEMCACHED_UDP: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Udp,
    probe: probe_udp,
    build: || Box::new(Datagrams::default()),
};

const PRODUCT: &str = "memcached";
const MAX_NAME: usize = 64;
/// Before a datagram's text: request, which datagram of how many, reserved.
const DATAGRAM_HEADER: usize = 8;

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let magic = match segment.direction {
        Direction::Orig => REQUEST,
        Direction::Resp => RESPONSE,
    };
    let verdict = if data.first() == Some(&magic) {
        // No operation has a higher number, no outcome neither.
        let known = |header: binary::Header| {
            // What may come without a key comes without a body, too.
            let empty = header.body == 0 || header.key > 0 || magic == RESPONSE || header.code > 1;
            header.code <= 0x50
                && empty
                && (header.status == 0 || magic == RESPONSE && header.status <= 0x86)
        };
        match data.get(..HEADER_LEN) {
            Some(header) => Some(binary::header(header, magic).is_some_and(known)),
            None => data.get(5).is_some_and(|kind| *kind != 0).then_some(false),
        }
    } else {
        match segment.direction {
            Direction::Orig => text::begins_command(data),
            Direction::Resp => text::begins_answer(data),
        }
    };
    judged(verdict)
}

fn probe_udp(segment: &Segment<'_>) -> Probe {
    let Some((header, body)) = segment.data.split_at_checked(DATAGRAM_HEADER) else {
        return Probe::NotForUs;
    };
    let sound = matches!(header, [_, _, 0, 0, high, low, 0, 0] if (*high, *low) != (0, 0));
    let verdict = match segment.direction {
        _ if !sound => Some(false),
        Direction::Orig => text::begins_command(body),
        Direction::Resp => text::begins_answer(body),
    };
    match judged(verdict) {
        Probe::Unsure => Probe::NotForUs,
        probe => probe,
    }
}

const fn judged(verdict: Option<bool>) -> Probe {
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// Both directions of a connection.
#[derive(Default)]
struct Memcached {
    /// Whether messages are binary, once the first byte of either direction told.
    binary: Option<bool>,
    lines: super::Both<Lines>,
    frames: super::Both<Frames>,
    /// Commands in text not answered yet, of which the oldest may be a login.
    unanswered: u64,
    oldest_sets: bool,
    answer: AnswerSoFar,
}

/// An answer under way.
#[derive(Default)]
struct AnswerSoFar {
    rows: u64,
    bytes: u64,
}

impl Dissector for Memcached {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let first = segment.data.first();
        let binary = *self
            .binary
            .get_or_insert(matches!(first, Some(&(REQUEST | RESPONSE))));
        let gap = u64::from(segment.gap);
        if gap > 0 {
            self.lines.of(segment.direction).skip_gap(gap);
            self.frames.of(segment.direction).skip_gap(gap);
            self.answer = AnswerSoFar::default();
        }
        match (binary, segment.direction) {
            (true, direction) => self.take_binary(direction, segment.data, out),
            (false, Direction::Orig) => self.take_commands(segment.data, out),
            (false, Direction::Resp) => self.take_answers(segment.data, out),
        }
    }

    fn skipped(&self) -> u64 {
        let lines = self
            .lines
            .orig
            .skipped()
            .saturating_add(self.lines.resp.skipped());
        let frames = self
            .frames
            .orig
            .skipped()
            .saturating_add(self.frames.resp.skipped());
        lines.saturating_add(frames)
    }
}

impl Memcached {
    fn take_commands(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while let Some(line) = self.lines.orig.next(&mut data) {
            let Some(command) = text::command(&line.head) else {
                continue;
            };
            if let Some(data) = command.data {
                self.lines.orig.pass(data);
            }
            let length = line.length.saturating_add(command.data.unwrap_or_default());
            state(command.verb, command.class, command.marks, length, out);
            if command.answered {
                self.oldest_sets |= self.unanswered == 0 && command.verb == "set";
                self.unanswered = self.unanswered.saturating_add(1);
            }
            if command.verb == "watch" {
                return Progress::Done;
            }
        }
        Progress::More
    }

    fn take_answers(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while let Some(line) = self.lines.resp.next(&mut data) {
            self.answer.bytes = self.answer.bytes.saturating_add(line.length);
            let error = match text::answer(&line.head) {
                Answer::Row { data } => {
                    self.answer.rows = self.answer.rows.saturating_add(1);
                    if let Some(version) = line.head.strip_prefix(b"STAT version ") {
                        greet(version, out);
                    }
                    self.pass(data);
                    continue;
                }
                Answer::Value { data } => {
                    self.answer.rows = 1;
                    self.pass(Some(data));
                    None
                }
                Answer::End => {
                    if let Some(version) = line.head.strip_prefix(b"VERSION ") {
                        greet(version, out);
                    }
                    None
                }
                Answer::Error(error) => Some(error),
            };
            let answer = std::mem::take(&mut self.answer);
            let sets = std::mem::take(&mut self.oldest_sets);
            // What nobody asked for, or was asked for before we listened.
            let Some(left) = self.unanswered.checked_sub(1) else {
                continue;
            };
            self.unanswered = left;
            if error == Some(text::WRONG_PASSWORD) && sets {
                login(None, out);
                login_result(false, Some("CLIENT_ERROR".into()), out);
                continue;
            }
            say(
                DatabaseEvent::Result {
                    rows: Some(answer.rows),
                    bytes: answer.bytes,
                    error: error.map(Into::into),
                },
                out,
            );
        }
        Progress::More
    }

    /// Data follows a line of an answer.
    fn pass(&mut self, data: Option<u64>) {
        if let Some(data) = data {
            self.lines.resp.pass(data);
            self.answer.bytes = self.answer.bytes.saturating_add(data).saturating_add(2);
        }
    }

    fn take_binary(
        &mut self,
        direction: Direction,
        data: &[u8],
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let magic = match direction {
            Direction::Orig => REQUEST,
            Direction::Resp => RESPONSE,
        };
        let mut data = data;
        loop {
            let frames = self.frames.of(direction);
            let plan = |header: &[u8]| binary::plan(header, magic);
            let message = match frames.next(&mut data, HEADER_LEN, plan) {
                Step::Message(message) => message,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            let Some(header) = binary::header(&message, magic) else {
                return Progress::Desynced;
            };
            let body = message.get(HEADER_LEN..).unwrap_or_default();
            let key = body
                .get(header.extras.into()..)
                .and_then(|rest| rest.get(..header.key.into()));
            let before = usize::from(header.extras).saturating_add(header.key.into());
            let value = body.get(before..).unwrap_or_default();
            match direction {
                Direction::Orig => take_request(&header, key.unwrap_or_default(), value, out),
                Direction::Resp => self.take_response(&header, key.unwrap_or_default(), value, out),
            }
        }
    }

    fn take_response(
        &mut self,
        header: &binary::Header,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<Transaction>,
    ) {
        let failed = !binary::NO_ERRORS.contains(&header.status);
        let error = failed.then(|| shown(format!("{:#04x}", header.status).as_bytes(), 16));
        match header.code {
            binary::LOGIN | binary::LOGIN_STEP => {
                if header.status != binary::GO_ON {
                    login_result(!failed, error, out);
                }
                return;
            }
            binary::VERSION if !failed => greet(value, out),
            // One message a counter, an empty one at the end.
            binary::STAT if header.key > 0 && !failed => {
                self.answer.rows = self.answer.rows.saturating_add(1);
                self.answer.bytes = self.answer.bytes.saturating_add(header.body.into());
                if key == b"version" {
                    greet(value, out);
                }
                return;
            }
            _ => {}
        }
        let answer = std::mem::take(&mut self.answer);
        let fields = u32::from(header.key).saturating_add(header.extras.into());
        let value_len = header.body.saturating_sub(fields);
        let reads = matches!(binary::operation(header.code).1, StatementClass::Read);
        let found = reads && header.status == 0;
        say(
            DatabaseEvent::Result {
                rows: Some(answer.rows.saturating_add(u64::from(found))),
                bytes: answer.bytes.saturating_add(value_len.into()),
                error,
            },
            out,
        );
    }
}

fn take_request(header: &binary::Header, key: &[u8], value: &[u8], out: &mut Vec<Transaction>) {
    match header.code {
        binary::LOGIN => login(binary::user(key, value), out),
        binary::LOGIN_STEP => {}
        _ => {
            let (verb, class) = binary::operation(header.code);
            let length = (HEADER_LEN as u64).saturating_add(header.body.into());
            let dumps = header.code == binary::STAT && key.starts_with(b"cachedump");
            let (verb, marks) = if dumps {
                ("stats cachedump", Marks::KEY_WALK)
            } else {
                (verb, Marks::empty())
            };
            state(verb, class, marks, length, out);
        }
    }
}

/// Commands and answers, each in one or more datagrams.
#[derive(Default)]
struct Datagrams {
    /// The request last answered, how many of its datagrams are still to come, and the answer so far.
    request: u16,
    left: u16,
    answer: AnswerSoFar,
    error: Option<&'static str>,
}

impl Dissector for Datagrams {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let Some((header, body)) = segment.data.split_first_chunk::<DATAGRAM_HEADER>() else {
            return Progress::More;
        };
        let [request @ .., _, _, high, low, _, _] = *header;
        let request = match request {
            [high, low] => u16::from_be_bytes([high, low]),
        };
        let total = u16::from_be_bytes([high, low]);
        match segment.direction {
            Direction::Orig => {
                let mut lines = Lines::default();
                let line = lines.next(&mut &*body);
                let command = line.and_then(|line| text::command(&line.head));
                if let Some(command) = command {
                    let length = body.len() as u64;
                    state(command.verb, command.class, command.marks, length, out);
                }
            }
            Direction::Resp => self.take_answer(request, total, body, out),
        }
        Progress::More
    }
}

impl Datagrams {
    fn take_answer(&mut self, request: u16, total: u16, body: &[u8], out: &mut Vec<Transaction>) {
        if self.left == 0 || self.request != request {
            *self = Self {
                request,
                left: total,
                ..Self::default()
            };
        }
        self.left = self.left.saturating_sub(1);
        self.answer.bytes = self.answer.bytes.saturating_add(body.len() as u64);
        let mut lines = Lines::default();
        let mut rest = body;
        while let Some(line) = lines.next(&mut rest) {
            match text::answer(&line.head) {
                Answer::Row { data } => {
                    self.answer.rows = self.answer.rows.saturating_add(1);
                    if let Some(version) = line.head.strip_prefix(b"STAT version ") {
                        greet(version, out);
                    }
                    if let Some(data) = data {
                        lines.pass(data);
                    }
                }
                Answer::Value { data } => {
                    self.answer.rows = 1;
                    lines.pass(data);
                }
                Answer::Error(error) => self.error = Some(error),
                Answer::End => {
                    if let Some(version) = line.head.strip_prefix(b"VERSION ") {
                        greet(version, out);
                    }
                }
            }
        }
        if self.left == 0 {
            let answer = std::mem::take(&mut self.answer);
            say(
                DatabaseEvent::Result {
                    rows: Some(answer.rows),
                    bytes: answer.bytes,
                    error: self.error.take().map(Into::into),
                },
                out,
            );
        }
    }
}

fn state(
    verb: &'static str,
    class: StatementClass,
    marks: Marks,
    length: u64,
    out: &mut Vec<Transaction>,
) {
    let event = DatabaseEvent::Statement {
        class,
        marks,
        verb,
        fingerprint: fingerprint(verb.as_bytes()),
        length: u32::try_from(length).unwrap_or(u32::MAX),
    };
    say(event, out);
}

fn greet(version: &[u8], out: &mut Vec<Transaction>) {
    let version = opt_text(version, MAX_NAME);
    say(DatabaseEvent::Hello { version }, out);
}

fn login(user: Option<&[u8]>, out: &mut Vec<Transaction>) {
    let event = DatabaseEvent::Login {
        user: user.and_then(|user| opt_text(user, MAX_NAME)),
        database: None,
        client: None,
    };
    say(event, out);
}

fn login_result(success: bool, code: Option<Arc<str>>, out: &mut Vec<Transaction>) {
    say(DatabaseEvent::LoginResult { success, code }, out);
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
