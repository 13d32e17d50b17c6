//! SQL Server's protocol, TDS 7, and Sybase's, TDS 5: who logs in and whether it works, statements without their
//! literals, sizes of results.
//!
//! Passwords, parameters and rows are passed over. Where all is encrypted, nothing is read after that is agreed on; where
//! only the login is, its outcome and what follows are.

mod answer;
mod login;
mod packets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use answer::Answer;
use login::{Encryption, Prelogin};
use packets::{Message, Packets, Unit};

use super::sql::{Dialect, MAX_STATEMENT, begins_statement, statement};
use super::text::text;
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Marks, Probe, Progress,
    Segment, StatementClass, Transaction, fingerprint::fingerprint,
};
use crate::flow::Direction;

/// SQL Server and Sybase over TCP.
pub(super) const TDS: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Tds::new()),
};

const PRODUCT: &str = "mssql";
const MAX_NAME: usize = 64;
const HEADER_LEN: usize = 8;
/// How much of a client's message is kept: a statement in two bytes a character, and what stands before it.
const MAX_ASKED: usize = 2 * MAX_STATEMENT + 1024;
/// How much of a server's.
const MAX_ANSWER: usize = 4096;

const BATCH: u8 = 0x01;
const OLD_LOGIN: u8 = 0x02;
const CALL: u8 = 0x03;
const ANSWER: u8 = 0x04;
const TRANSACTION: u8 = 0x0e;
const OLD_NORMAL: u8 = 0x0f;
const LOGIN: u8 = 0x10;
const SSPI: u8 = 0x11;
const PRELOGIN: u8 = 0x12;

/// A TLS record with what was to be hidden.
const APPLICATION_DATA: u8 = 0x17;
/// Since this version numbers of rows have eight bytes.
const WIDE_ROWS: u32 = 0x7200_0000;

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let (Some(kind), Some(header)) = (data.first(), data.get(..HEADER_LEN)) else {
        let possible = match segment.direction {
            Direction::Orig => matches!(
                data.first(),
                Some(&(BATCH | OLD_LOGIN | CALL | LOGIN | PRELOGIN))
            ),
            Direction::Resp => data.first() == Some(&ANSWER),
        };
        let status = data.get(1).is_none_or(|status| *status <= 0x1f);
        return if possible && status {
            Probe::Unsure
        } else {
            Probe::NotForUs
        };
    };
    let [_, status, high, low, _, _, _, window] = *header.first_chunk::<8>().unwrap_or(&[0xff; 8]);
    let length = u16::from_be_bytes([high, low]);
    if status > 0x1f || !(9..=0x7fff).contains(&length) || window != 0 {
        return Probe::NotForUs;
    }
    let body = data.get(HEADER_LEN..).unwrap_or_default();
    let verdict = match (segment.direction, *kind) {
        (Direction::Orig, PRELOGIN) => login::begins_prelogin(body),
        (Direction::Orig, LOGIN) => login::begins_login7(body),
        (Direction::Orig, OLD_LOGIN) => login::begins_old_login(body),
        // Taken up in the middle.
        (Direction::Orig, BATCH) => begins_batch(body),
        (Direction::Orig, CALL) => begins_with_headers(body),
        (Direction::Resp, ANSWER) => begins_answer(body),
        _ => Some(false),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// Since version 7.2 requests begin with a list of headers; nearly always there is the transaction's alone.
fn begins_with_headers(body: &[u8]) -> Option<bool> {
    let mut fields = Reader(body);
    let lengths = (fields.le32()?, fields.le32()?);
    Some(lengths == (22, 18) && fields.le16()? == 2)
}

fn begins_batch(body: &[u8]) -> Option<bool> {
    let text = if begins_with_headers(body)? {
        body.get(22..).unwrap_or_default()
    } else {
        body
    };
    begins_statement(utf16(text.get(..256).unwrap_or(text), 256).as_bytes())
}

/// How a server answers first: options, or a change, an error or word to the client, each with a length.
fn begins_answer(body: &[u8]) -> Option<bool> {
    let (kind, rest) = body.split_first()?;
    let length = Reader(rest).le16();
    match kind {
        0x00 => login::begins_prelogin(body),
        0xe3 => {
            let change = *rest.get(2)?;
            Some((1..=20).contains(&change) && length <= Some(1024))
        }
        0xaa | 0xab => {
            let class = *rest.get(7)?;
            let number = Reader(rest.get(2..)?).le32()?;
            Some(class <= 25 && number < 100_000 && length <= Some(4096))
        }
        _ => Some(false),
    }
}

/// Both directions of a connection.
struct Tds {
    client: Packets,
    server: Packets,
    /// How the client wants it encrypted.
    wish: Option<Encryption>,
    /// Whether the login is to come in a TLS record.
    hides_login: bool,
    expects: Expects,
    wide_rows: bool,
    greeted: bool,
}

/// What the server's next message answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Nothing,
    Prelogin,
    Login,
    Result,
}

impl Dissector for Tds {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let mut data = segment.data;
        if segment.gap > 0 {
            self.packets(segment.direction).skip_gap(segment.gap.into());
        }
        loop {
            let packets = self.packets(segment.direction);
            let Some(unit) = packets.next(&mut data) else {
                return Progress::More;
            };
            let progress = match (segment.direction, unit) {
                (_, Unit::Bad) => return Progress::Desynced,
                (Direction::Orig, Unit::Message(message)) => self.take_client(&message, out),
                (Direction::Resp, Unit::Message(message)) => self.take_server(&message, out),
                (Direction::Orig, Unit::Record(kind)) => {
                    if self.hides_login && kind == APPLICATION_DATA {
                        self.hides_login = false;
                        self.expects = Expects::Login;
                        say(
                            DatabaseEvent::Login {
                                user: None,
                                database: None,
                                client: None,
                            },
                            out,
                        );
                    }
                    Progress::More
                }
                (Direction::Resp, Unit::Record(_)) => Progress::More,
            };
            if progress != Progress::More {
                return progress;
            }
        }
    }

    fn held(&self) -> usize {
        self.client.held().saturating_add(self.server.held())
    }

    fn skipped(&self) -> u64 {
        self.client.skipped().saturating_add(self.server.skipped())
    }
}

impl Tds {
    const fn new() -> Self {
        Self {
            client: Packets::new(MAX_ASKED),
            server: Packets::new(MAX_ANSWER),
            wish: None,
            hides_login: false,
            expects: Expects::Nothing,
            wide_rows: true,
            greeted: false,
        }
    }

    const fn packets(&mut self, direction: Direction) -> &mut Packets {
        match direction {
            Direction::Orig => &mut self.client,
            Direction::Resp => &mut self.server,
        }
    }

    fn take_client(&mut self, message: &Message, out: &mut Vec<Transaction>) -> Progress {
        let body = &message.head[..];
        match message.kind {
            // A step of the TLS handshake.
            PRELOGIN if body.first() == Some(&0x16) => {}
            PRELOGIN => {
                self.wish = Prelogin::parse(body).encryption;
                self.expects = Expects::Prelogin;
            }
            LOGIN => {
                let Some((event, version)) = login::login7(body) else {
                    return Progress::Desynced;
                };
                self.hides_login = false;
                self.wide_rows = version >= WIDE_ROWS;
                self.expects = Expects::Login;
                say(event, out);
            }
            OLD_LOGIN => {
                let Some(event) = login::old_login(body) else {
                    return Progress::Desynced;
                };
                self.wide_rows = false;
                self.expects = Expects::Login;
                say(event, out);
            }
            SSPI => self.expects = Expects::Login,
            BATCH => {
                let text = without_headers(body);
                self.wide_rows |= text.len() < body.len();
                self.state(text, message, out);
            }
            OLD_NORMAL => {
                // A statement, its length, whether it has parameters; in one byte a character.
                if let Some(text) = body.strip_prefix(b"\x21").and_then(|rest| rest.get(5..)) {
                    let length = message.length.saturating_sub(6);
                    say(statement(text, length, Dialect::MsSql), out);
                    self.expects = Expects::Result;
                }
            }
            CALL => self.call(message, out),
            TRANSACTION => {
                let kind = Reader(without_headers(body)).le16();
                let verb = match kind {
                    Some(5) => "BEGIN",
                    Some(7) => "COMMIT",
                    Some(8) => "ROLLBACK",
                    Some(9) => "SAVEPOINT",
                    _ => "OTHER",
                };
                self.say_named(verb, StatementClass::Transaction, message, out);
            }
            // Rows for a bulk load, a wish to stop.
            _ => {}
        }
        Progress::More
    }

    /// A statement in two bytes a character.
    fn state(&mut self, wide_text: &[u8], message: &Message, out: &mut Vec<Transaction>) {
        let before = message.head.len().saturating_sub(wide_text.len()) as u64;
        let text = utf16(wide_text, MAX_STATEMENT);
        let length = message.length.saturating_sub(before) / 2;
        say(statement(text.as_bytes(), length, Dialect::MsSql), out);
        self.expects = Expects::Result;
    }

    /// The call of a procedure; those that run a statement are taken for that.
    fn call(&mut self, message: &Message, out: &mut Vec<Transaction>) {
        self.expects = Expects::Result;
        let mut fields = Reader(without_headers(&message.head));
        let Some(called) = called(&mut fields) else {
            return;
        };
        let texts = match called {
            // sp_executesql, sp_cursoropen; sp_prepare and sp_prepexec have the types of parameters before.
            Called::Number(10 | 2) => 1,
            Called::Number(11 | 13 | 3 | 5) => 2,
            Called::Name(ref name) if name.eq_ignore_ascii_case("sp_executesql") => 1,
            // Running what was prepared, and what belongs to it.
            Called::Number(_) => return,
            Called::Name(name) => {
                // In brackets or not, with the database's name before it or not.
                let text = format!("exec {name}");
                let length = text.len() as u64;
                say(statement(text.as_bytes(), length, Dialect::MsSql), out);
                return;
            }
        };
        let mut wide_text = None;
        for _ in 0..texts {
            wide_text = next_text(&mut fields);
        }
        if let Some((wide_text, length)) = wide_text {
            let text = utf16(wide_text, MAX_STATEMENT);
            say(statement(text.as_bytes(), length / 2, Dialect::MsSql), out);
        }
    }

    fn say_named(
        &mut self,
        verb: &'static str,
        class: StatementClass,
        message: &Message,
        out: &mut Vec<Transaction>,
    ) {
        let event = DatabaseEvent::Statement {
            class,
            marks: Marks::empty(),
            verb,
            fingerprint: fingerprint(verb.as_bytes()),
            length: u32::try_from(message.length).unwrap_or(u32::MAX),
        };
        say(event, out);
        self.expects = Expects::Result;
    }

    fn take_server(&mut self, message: &Message, out: &mut Vec<Transaction>) -> Progress {
        if message.kind != ANSWER {
            return Progress::More;
        }
        let greets = !self.greeted && login::begins_prelogin(&message.head) == Some(true);
        match self.expects {
            Expects::Nothing | Expects::Prelogin if greets => {
                return self.take_prelogin(message, out);
            }
            Expects::Nothing | Expects::Prelogin => {}
            Expects::Login => self.take_login_answer(message, out),
            Expects::Result => {
                self.expects = Expects::Nothing;
                let answer = Answer::read(message, self.wide_rows);
                let error = answer.error.map(|number| code(&number.to_string()));
                let unnamed = answer.failed.then(|| code("ERROR"));
                say(
                    DatabaseEvent::Result {
                        rows: answer.rows,
                        bytes: if answer.has_rows { message.length } else { 0 },
                        error: error.or(unnamed),
                    },
                    out,
                );
            }
        }
        Progress::More
    }

    fn take_prelogin(&mut self, message: &Message, out: &mut Vec<Transaction>) -> Progress {
        let Prelogin {
            version,
            encryption,
        } = Prelogin::parse(&message.head);
        self.expects = Expects::Nothing;
        self.greeted = true;
        say(DatabaseEvent::Hello { version }, out);
        match (self.wish, encryption) {
            (Some(Encryption::None), _) | (_, None | Some(Encryption::None)) => {}
            (_, Some(Encryption::All)) | (Some(Encryption::All), _) => return Progress::Done,
            (_, Some(Encryption::Login)) => self.hides_login = true,
        }
        Progress::More
    }

    fn take_login_answer(&mut self, message: &Message, out: &mut Vec<Transaction>) {
        let answer = Answer::read(message, self.wide_rows);
        if let Some(version) = answer.version.filter(|_| !self.greeted) {
            self.greeted = true;
            let version = Some(version);
            say(DatabaseEvent::Hello { version }, out);
        }
        let success = match (answer.lets_in, answer.error) {
            (Some(success), _) => success,
            (None, Some(_)) => false,
            // The client has to prove more.
            (None, None) => return,
        };
        self.expects = Expects::Nothing;
        let error = answer.error.filter(|_| !success);
        let code = error.map(|number| code(&number.to_string()));
        say(DatabaseEvent::LoginResult { success, code }, out);
    }
}

/// What a client calls.
enum Called {
    /// One of the server's own procedures.
    Number(u16),
    Name(String),
}

/// What is called; leaves its parameters.
fn called(fields: &mut Reader<'_>) -> Option<Called> {
    let length = fields.le16()?;
    let called = if length == 0xffff {
        Called::Number(fields.le16()?)
    } else {
        let name = fields.take(usize::from(length).saturating_mul(2))?;
        Called::Name(utf16(name, 256))
    };
    // Options.
    fields.take(2)?;
    Some(called)
}

/// The next parameter of text and its length in bytes, numbers passed over. Its end may not be here.
fn next_text<'a>(fields: &mut Reader<'a>) -> Option<(&'a [u8], u64)> {
    loop {
        let name = usize::from(fields.byte()?);
        // And whether it is returned.
        fields.take(name.saturating_mul(2).saturating_add(1))?;
        match fields.byte()? {
            // Numbers: the longest, how long this one is.
            0x26 | 0x68 => {
                fields.byte()?;
                let length = fields.byte()?;
                fields.take(length.into())?;
            }
            0x38 => drop(fields.take(4)?),
            // NVARCHAR: the longest, an order, the length.
            0xe7 => {
                let longest = fields.le16()?;
                fields.take(5)?;
                if longest == 0xffff {
                    // Of any length: in all, and then in pieces. Unknown in all, it comes in one nevertheless.
                    fields.take(8)?;
                    let length = fields.le32()?;
                    let piece = fields.take_up_to(length as usize);
                    fields.take(4);
                    return Some((piece, length.into()));
                }
                let length = fields.le16().filter(|length| *length != 0xffff)?;
                return Some((fields.take_up_to(length.into()), length.into()));
            }
            // NTEXT.
            0x63 => {
                fields.take(9)?;
                let length = fields.le32().filter(|length| *length != u32::MAX)?;
                return Some((fields.take_up_to(length as usize), length.into()));
            }
            _ => return None,
        }
    }
}

/// A request's body after its headers, if it has such.
fn without_headers(body: &[u8]) -> &[u8] {
    let mut fields = Reader(body);
    let lengths = fields.le32().zip(fields.le32());
    let kind = fields.le16();
    match (lengths, kind) {
        (Some((total @ 10..=512, length)), Some(1..=3)) if length >= 6 && length < total => {
            body.get(total as usize..).unwrap_or_default()
        }
        _ => body,
    }
}

/// Text in two bytes a character, at most `limit` bytes of it.
fn utf16(bytes: &[u8], limit: usize) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match *pair {
        [low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    });
    let mut out = String::new();
    for char in char::decode_utf16(units) {
        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
        if out.len().saturating_add(char.len_utf8()) > limit {
            break;
        }
        out.push(char);
    }
    out
}

/// What is left of a message. Numbers have their lowest byte first.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    fn take_up_to(&mut self, len: usize) -> &'a [u8] {
        let (part, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = rest;
        part
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn le16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    fn le32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn le64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }
}

fn code(code: &str) -> Arc<str> {
    text(code.as_bytes(), 16)
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
