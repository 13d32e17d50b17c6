//! PostgreSQL's protocol 3: who logs in and whether it works, statements without their literals, sizes of results.
//!
//! Passwords, bound values and rows are passed over by their length. After encryption is agreed on, nothing is read; TLS is handed over.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::frames::{Frames, Plan, Step};
use super::sql::{Dialect, MAX_STATEMENT, begins_statement, statement};
use super::text::{opt_text, text};
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Probe, Progress, SecretMark,
    Segment, Transaction,
};
use crate::flow::Direction;

/// PostgreSQL over TCP.
pub(super) const POSTGRES: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Postgres::default()),
};

const PRODUCT: &str = "postgresql";
const MAX_NAME: usize = 64;
const MAX_CODE: usize = 16;
/// A kind, and a length that counts itself.
const HEADER_LEN: usize = 5;
/// A length and a code: messages from before kinds.
const STARTUP_LEN: usize = 8;
/// As long a startup as the server takes.
const MAX_STARTUP: u32 = 10_000;
/// No message is longer: the server's own limit.
const MAX_MESSAGE: u32 = 0x3fff_ffff;
/// How much of a password in clear is looked at, to tell it from others.
const MAX_PASSWORD: usize = 1024;
/// `AuthenticationCleartextPassword`.
const PASSWORD_IN_CLEAR: u32 = 3;
/// How much of a startup, an error or a setting is read.
const MAX_FIELDS: usize = 2048;
/// Codes of first messages that aren't a login: to cancel a query, to encrypt.
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    Some(u32::from_be_bytes(bytes?.try_into().ok()?))
}

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    match segment.direction {
        Direction::Orig if data.first() == Some(&0) => match data.get(..STARTUP_LEN) {
            Some(header) if startup(header).is_some() => Probe::Certain,
            // A length below 64 kB has two zero bytes first.
            None if data.get(1).is_none_or(|byte| *byte == 0) => Probe::Unsure,
            _ => Probe::NotForUs,
        },
        Direction::Orig => probe_statement(data),
        Direction::Resp => probe_answer(data),
    }
}

/// The code of a first message, from its header.
fn startup(header: &[u8]) -> Option<u32> {
    let length = number(header.get(..4))?;
    let code = number(header.get(4..STARTUP_LEN))?;
    let sound = match code {
        SSL | GSS => length == 8,
        CANCEL => (16..=272).contains(&length),
        code => code >> 16 == 3 && code & 0xffff < 100 && (9..=MAX_STARTUP).contains(&length),
    };
    sound.then_some(code)
}

/// A connection taken up in the middle: a query, or the parsing of one.
fn probe_statement(data: &[u8]) -> Probe {
    let kind = data.first();
    if !matches!(kind, Some(b'Q' | b'P')) || data.get(1).is_some_and(|byte| *byte != 0) {
        return Probe::NotForUs;
    }
    let Some(body) = data.get(HEADER_LEN..) else {
        return Probe::Unsure;
    };
    let query = if kind == Some(&b'P') {
        // The name of what is prepared; short.
        match body.iter().take(MAX_NAME).position(|byte| *byte == 0) {
            Some(end) => body.get(end.saturating_add(1)..).unwrap_or_default(),
            None if body.len() < MAX_NAME => return Probe::Unsure,
            None => return Probe::NotForUs,
        }
    } else {
        body
    };
    match begins_statement(query) {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

fn probe_answer(data: &[u8]) -> Probe {
    match begins_answer(data) {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// Whether a server answers a startup so: by a step of the login, or by refusing.
fn begins_answer(data: &[u8]) -> Option<bool> {
    const REFUSALS: [&[u8]; 2] = [b"SFATAL\0", b"SERROR\0"];
    let kind = data.first()?;
    let high = data.get(1..data.len().min(3)).unwrap_or_default();
    if !matches!(kind, b'R' | b'E') || high.iter().any(|byte| *byte != 0) {
        return Some(false);
    }
    let length = number(data.get(1..HEADER_LEN))?;
    let body = data.get(HEADER_LEN..).unwrap_or_default();
    if *kind == b'R' {
        // How to prove oneself, a challenge, or that it is enough.
        let step = number(body.get(..4))?;
        return Some(match step {
            0 | 2 | 3 | 6 | 7 | 9 => length == 8,
            5 => length == 12,
            8 | 10..=12 => (9..=4096).contains(&length),
            _ => false,
        });
    }
    if REFUSALS.iter().any(|known| body.starts_with(known)) {
        return Some(true);
    }
    let possible = REFUSALS.iter().any(|known| known.starts_with(body));
    if possible { None } else { Some(false) }
}

/// Both directions of a connection.
#[derive(Default)]
struct Postgres {
    client: Frames,
    server: Frames,
    /// Whether the client's first message is behind.
    started: bool,
    /// Whether the server's next byte is the answer to a wish for encryption.
    wished: bool,
    /// Bytes of the last segment that are TLS's already, once it goes on so.
    tls: Option<usize>,
    /// Whether the client asked to be let in, and no answer came yet.
    logging_in: bool,
    /// Whether the server asked for the password in clear, and it didn't come yet.
    wants_password: bool,
    /// Rows and their bytes of the result under way.
    rows: u64,
    bytes: u64,
}

impl Dissector for Postgres {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let frames = match segment.direction {
            Direction::Orig => &mut self.client,
            Direction::Resp => &mut self.server,
        };
        if segment.gap > 0 && !frames.skip_gap(segment.gap.into()) {
            match segment.direction {
                Direction::Orig => self.started = true,
                Direction::Resp => self.wished = false,
            }
        }
        match segment.direction {
            Direction::Orig => self.take_client(segment.data, out),
            Direction::Resp => self.take_server(segment.data, out),
        }
    }

    fn held(&self) -> usize {
        self.client.held().saturating_add(self.server.held())
    }

    fn skipped(&self) -> u64 {
        self.client.skipped().saturating_add(self.server.skipped())
    }

    fn starts_tls(&self) -> Option<usize> {
        self.tls
    }
}

impl Postgres {
    fn take_client(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        loop {
            // Only messages of kind 0, that is of none, begin with a zero byte.
            let startup = !self.started && self.client.first(data) == Some(0);
            let step = if startup {
                self.client.next(&mut data, STARTUP_LEN, plan_startup)
            } else if self.wants_password {
                self.client.next(&mut data, HEADER_LEN, plan_password)
            } else {
                self.client.next(&mut data, HEADER_LEN, plan_client)
            };
            let message = match step {
                Step::Message(message) => message,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            if startup {
                if self.take_startup(&message, out) == Progress::Done {
                    return Progress::Done;
                }
                continue;
            }
            self.started = true;
            let (kind, rest) = message.split_first().unwrap_or((&0, &[]));
            let length = number(rest.get(..4)).unwrap_or_default();
            let body = rest.get(4..).unwrap_or_default();
            let before = match kind {
                b'p' if std::mem::take(&mut self.wants_password) => {
                    say(DatabaseEvent::Secret(SecretMark::of(body)), out);
                    continue;
                }
                b'Q' => 0,
                b'P' => name_len(body),
                _ => continue,
            };
            let text = body.get(before..).unwrap_or_default();
            let end = text.iter().position(|byte| *byte == 0);
            let length = match end {
                Some(end) => end as u64,
                None => u64::from(length)
                    .saturating_sub(4)
                    .saturating_sub(before as u64),
            };
            let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
            say(statement(text, length, Dialect::Postgres), out);
        }
    }

    fn take_startup(&mut self, message: &[u8], out: &mut Vec<Transaction>) -> Progress {
        match startup(message) {
            Some(SSL | GSS) => self.wished = true,
            Some(CANCEL) => return Progress::Done,
            _ => {
                self.started = true;
                self.logging_in = true;
                let fields = message.get(STARTUP_LEN..).unwrap_or_default();
                let parameter = |wanted: &[u8]| {
                    let mut fields = fields.split(|byte| *byte == 0);
                    while let Some(name) = fields.next().filter(|name| !name.is_empty()) {
                        let value = fields.next()?;
                        if name == wanted {
                            return opt_text(value, MAX_NAME);
                        }
                    }
                    None
                };
                say(
                    DatabaseEvent::Login {
                        user: parameter(b"user"),
                        database: parameter(b"database"),
                        client: parameter(b"application_name"),
                    },
                    out,
                );
            }
        }
        Progress::More
    }

    fn take_server(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        loop {
            if self.wished
                && let Some(first) = self.server.first(data)
            {
                self.wished = false;
                match first {
                    b'S' => {
                        say(DatabaseEvent::Hello { version: None }, out);
                        self.tls = Some(data.len().saturating_sub(1));
                        return Progress::Done;
                    }
                    b'G' => {
                        say(DatabaseEvent::Hello { version: None }, out);
                        return Progress::Done;
                    }
                    b'N' => data = data.get(1..).unwrap_or_default(),
                    // An old server that takes the wish for an error says so in a message.
                    _ => {}
                }
            }
            match self.server.next(&mut data, HEADER_LEN, plan_server) {
                Step::Message(message) => self.take_answer(&message, out),
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            }
        }
    }

    fn take_answer(&mut self, message: &[u8], out: &mut Vec<Transaction>) {
        let (kind, rest) = message.split_first().unwrap_or((&0, &[]));
        let length = number(rest.get(..4)).unwrap_or_default();
        let body = rest.get(4..).unwrap_or_default();
        match kind {
            b'R' if number(body.get(..4)) == Some(PASSWORD_IN_CLEAR) => self.wants_password = true,
            b'R' if number(body.get(..4)) == Some(0) => {
                self.logging_in = false;
                say(
                    DatabaseEvent::LoginResult {
                        success: true,
                        code: None,
                    },
                    out,
                );
            }
            b'S' => {
                if let Some(value) = body.strip_prefix(b"server_version\0") {
                    let version = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    let version = opt_text(version, MAX_NAME);
                    say(DatabaseEvent::Hello { version }, out);
                }
            }
            b'D' | b'd' => {
                self.rows = self.rows.saturating_add(1);
                self.bytes = self.bytes.saturating_add(length.saturating_sub(4).into());
            }
            b'E' if self.logging_in => {
                self.logging_in = false;
                say(
                    DatabaseEvent::LoginResult {
                        success: false,
                        code: sqlstate(body),
                    },
                    out,
                );
            }
            b'E' => self.end_result(None, sqlstate(body), out),
            b'C' => {
                let rows = command_rows(body);
                self.end_result(rows, None, out);
            }
            // The client wanted only so many rows for now.
            b's' => self.end_result(Some(self.rows), None, out),
            _ => {}
        }
    }

    fn end_result(
        &mut self,
        rows: Option<u64>,
        error: Option<Arc<str>>,
        out: &mut Vec<Transaction>,
    ) {
        let bytes = std::mem::take(&mut self.bytes);
        self.rows = 0;
        say(DatabaseEvent::Result { rows, bytes, error }, out);
    }
}

fn plan_startup(header: &[u8]) -> Option<Plan> {
    startup(header)?;
    let length = number(header.get(..4))?;
    Some(Plan {
        keep: (length as usize).min(MAX_FIELDS),
        total: length.into(),
        mass: false,
    })
}

/// What clients send: of most nothing is looked at, passwords and values among them.
fn plan_client(header: &[u8]) -> Option<Plan> {
    let keep = match header.first()? {
        b'Q' | b'P' => MAX_STATEMENT,
        b'p' | b'B' | b'E' | b'D' | b'C' | b'S' | b'H' | b'F' | b'X' | b'd' | b'c' | b'f' => 0,
        _ => return None,
    };
    plan(header, keep)
}

/// The same while a password is awaited, of which a mark is made.
fn plan_password(header: &[u8]) -> Option<Plan> {
    match header.first()? {
        b'p' => plan(header, MAX_PASSWORD),
        _ => plan_client(header),
    }
}

fn plan_server(header: &[u8]) -> Option<Plan> {
    let keep = match header.first()? {
        b'R' => 16,
        b'E' => MAX_FIELDS,
        b'S' | b'C' => 128,
        b'D' | b'd' | b'T' | b'Z' | b'K' | b'N' | b'A' | b'1' | b'2' | b'3' | b'n' | b's'
        | b't' | b'I' | b'G' | b'H' | b'W' | b'c' | b'V' | b'v' => 0,
        _ => return None,
    };
    plan(header, keep)
}

fn plan(header: &[u8], keep: usize) -> Option<Plan> {
    let length = number(header.get(1..HEADER_LEN))?;
    if !(4..=MAX_MESSAGE).contains(&length) {
        return None;
    }
    let total = u64::from(length).saturating_add(1);
    Some(Plan {
        keep: usize::try_from(total).unwrap_or(usize::MAX).min(keep),
        total,
        mass: keep == 0,
    })
}

/// Length of the name before a prepared statement's text, its end included.
fn name_len(body: &[u8]) -> usize {
    let end = body.iter().position(|byte| *byte == 0);
    end.map_or(body.len(), |end| end.saturating_add(1))
}

/// The SQLSTATE among an error's fields.
fn sqlstate(fields: &[u8]) -> Option<Arc<str>> {
    let mut fields = fields.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"))?;
    code.iter()
        .all(u8::is_ascii_alphanumeric)
        .then(|| text(code, MAX_CODE))
}

/// The count at the end of `SELECT 5`, `INSERT 0 5`.
fn command_rows(tag: &[u8]) -> Option<u64> {
    let tag = tag.split(|byte| *byte == 0).next()?;
    let last = tag.rsplit(|byte| *byte == b' ').next()?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
