//! Oracle's TNS: which service is asked for, whether the listener and the database let the client in, statements without
//! their literals.
//!
//! Inside a session the protocol isn't published and differs by version and driver; there only what stands out is read:
//! the user before the `AUTH_` fields of a login, `ORA-` errors, statements after the calls that run them. An answer's
//! size is known once the client goes on, or leaves. Native encryption hides all that.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::frames::{Frames, Plan, Step};
use super::sql::{Dialect, MAX_STATEMENT, statement};
use super::text::{opt_text, text};
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Marks, Probe, Progress,
    Segment, StatementClass, Transaction, fingerprint::fingerprint,
};
use crate::flow::Direction;

/// Oracle over TCP.
pub(super) const ORACLE: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Oracle::default()),
};

const PRODUCT: &str = "oracle";
const MAX_NAME: usize = 64;
/// A length, a checksum, a kind, flags, another checksum.
const HEADER_LEN: usize = 8;
/// How much of what a client and a server send is looked at.
const MAX_ASKED: usize = MAX_STATEMENT + 1024;
const MAX_ANSWER: usize = 2048;
/// The longest packet that can be agreed on.
const MAX_PACKET: u32 = 2 * 1024 * 1024 + 64;

const CONNECT: u8 = 1;
const ACCEPT: u8 = 2;
const REFUSE: u8 = 4;
const DATA: u8 = 6;
const RESEND: u8 = 11;
const LAST_KIND: u8 = 15;

/// Kind and length of a packet. Lengths have two bytes, and since version 315 four once a connection is accepted. Which shows: in that of two bytes a checksum of zero
/// follows, and that of four is short enough to begin with zeros.
fn header(bytes: &[u8]) -> Option<(u8, u32)> {
    let [a, b, c, d, kind, ..] = *bytes else {
        return None;
    };
    let short = u16::from_be_bytes([a, b]);
    let length = if short > 0 && (c, d) == (0, 0) {
        short.into()
    } else {
        u32::from_be_bytes([a, b, c, d])
    };
    let sound = (1..=LAST_KIND).contains(&kind) && (8..=MAX_PACKET).contains(&length);
    sound.then_some((kind, length))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    if data.get(2..4).is_some_and(|checksum| checksum != [0, 0]) {
        return Probe::NotForUs;
    }
    let Some(packet) = data.get(..HEADER_LEN) else {
        return Probe::Unsure;
    };
    let verdict = match (segment.direction, header(packet)) {
        (Direction::Orig, Some((CONNECT, length))) if length >= 58 => {
            let versions = be16(data, 8).zip(be16(data, 10));
            versions.map(|(version, least)| {
                (300..=400).contains(&version) && (300..=version).contains(&least)
            })
        }
        (Direction::Resp, Some((RESEND, 8))) => Some(true),
        (Direction::Resp, Some((ACCEPT, 24..=256))) => {
            be16(data, 8).map(|version| (300..=400).contains(&version))
        }
        // Two reasons and a length, then what went wrong.
        (Direction::Resp, Some((REFUSE, _))) => {
            let reason = data.get(12..);
            reason.and_then(|reason| reason.first().map(|byte| *byte == b'('))
        }
        _ => Some(false),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// Both directions of a connection.
#[derive(Default)]
struct Oracle {
    client: Frames,
    server: Frames,
    /// Whether the connect data comes in the client's next packet.
    data_follows: bool,
    service: Option<Arc<str>>,
    program: Option<Arc<str>>,
    /// What was asked of the listener itself, already told.
    listener: Option<&'static str>,
    logging_in: bool,
    /// An answer under way: its bytes so far, whether any came, and the first error.
    asked: bool,
    answered: u64,
    error: Option<Arc<str>>,
}

impl Dissector for Oracle {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let mut data = segment.data;
        let (frames, keep) = match segment.direction {
            Direction::Orig => (&mut self.client, MAX_ASKED),
            Direction::Resp => (&mut self.server, MAX_ANSWER),
        };
        if segment.gap > 0 {
            frames.skip_gap(segment.gap.into());
        }
        let plan = |bytes: &[u8]| {
            let (_, length) = header(bytes)?;
            Some(Plan {
                keep: (length as usize).min(keep),
                total: length.into(),
                mass: false,
            })
        };
        loop {
            let frames = match segment.direction {
                Direction::Orig => &mut self.client,
                Direction::Resp => &mut self.server,
            };
            let packet = match frames.next(&mut data, HEADER_LEN, plan) {
                Step::Message(packet) => packet,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            let Some((kind, length)) = header(&packet) else {
                return Progress::Desynced;
            };
            match segment.direction {
                Direction::Orig => self.take_client(kind, &packet, out),
                Direction::Resp => self.take_server(kind, &packet, length, out),
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        self.end_answer(out);
    }

    fn held(&self) -> usize {
        self.client.held().saturating_add(self.server.held())
    }

    fn skipped(&self) -> u64 {
        self.client.skipped().saturating_add(self.server.skipped())
    }
}

impl Oracle {
    fn take_client(&mut self, kind: u8, packet: &[u8], out: &mut Vec<Transaction>) {
        // After the header, data has flags.
        let payload = packet
            .get(HEADER_LEN.saturating_add(2)..)
            .unwrap_or_default();
        match kind {
            CONNECT => {
                let length = be16(packet, 24).unwrap_or_default();
                let from = be16(packet, 26).unwrap_or_default();
                let description = packet.get(from.into()..).unwrap_or_default();
                self.data_follows = length > 0 && description.is_empty();
                self.take_description(description, out);
            }
            DATA if std::mem::take(&mut self.data_follows) => self.take_description(payload, out),
            DATA => self.take_call(payload, out),
            _ => {}
        }
    }

    /// What the client wants to be connected with.
    fn take_description(&mut self, description: &[u8], out: &mut Vec<Transaction>) {
        let named = |name: &[u8]| {
            let value = session::value(description, name)?;
            opt_text(value, MAX_NAME)
        };
        self.service = named(b"SERVICE_NAME").or_else(|| named(b"SID"));
        self.program = named(b"PROGRAM");
        let Some(command) = session::value(description, b"COMMAND") else {
            return;
        };
        let (verb, class) = session::listener_command(command);
        // A client repeats itself if asked to.
        if self.listener.replace(verb) != Some(verb) {
            say_statement(verb, class, description.len(), out);
            self.asked = true;
        }
    }

    fn take_call(&mut self, payload: &[u8], out: &mut Vec<Transaction>) {
        self.end_answer(out);
        if let Some(user) = session::user(payload) {
            self.logging_in = true;
            self.say_login(opt_text(user, MAX_NAME), out);
        } else if let Some((sql, length)) = session::statement(payload) {
            self.asked = true;
            say(statement(sql, length, Dialect::Oracle), out);
        } else if let Some(verb) = session::transaction(payload) {
            self.asked = true;
            say_statement(verb, StatementClass::Transaction, payload.len(), out);
        }
    }

    fn take_server(&mut self, kind: u8, packet: &[u8], length: u32, out: &mut Vec<Transaction>) {
        match kind {
            ACCEPT => {
                let version = be16(packet, 8).map(|version| format!("TNS {version}"));
                let version = version.and_then(|version| opt_text(version.as_bytes(), MAX_NAME));
                say(DatabaseEvent::Hello { version }, out);
            }
            REFUSE => {
                let code = session::value(packet, b"ERR").and_then(session::error_number);
                if self.listener.is_some() {
                    // So it answers commands, too.
                    self.error = code.filter(|code| &**code != "ORA-00000");
                    self.answered = length.into();
                    self.end_answer(out);
                } else {
                    self.say_login(None, out);
                    self.say_result(false, code, out);
                }
            }
            DATA => self.take_data(packet, length, out),
            _ => {}
        }
    }

    fn take_data(&mut self, packet: &[u8], length: u32, out: &mut Vec<Transaction>) {
        let payload = packet.get(HEADER_LEN..).unwrap_or_default();
        let error = session::error(payload);
        if self.logging_in {
            if let Some(error) = error {
                self.say_result(false, Some(error), out);
            } else if session::lets_in(payload) {
                self.say_result(true, None, out);
            }
            return;
        }
        if self.asked {
            let bytes = u64::from(length).saturating_sub(HEADER_LEN as u64);
            self.answered = self.answered.saturating_add(bytes);
            // The end of rows is told like an error.
            let error = error.filter(|error| &**error != "ORA-01403");
            self.error = self.error.take().or(error);
        }
    }

    /// The client goes on: what was asked is answered.
    fn end_answer(&mut self, out: &mut Vec<Transaction>) {
        let bytes = std::mem::take(&mut self.answered);
        let error = self.error.take();
        if bytes > 0 && std::mem::take(&mut self.asked) {
            let rows = None;
            say(DatabaseEvent::Result { rows, bytes, error }, out);
        }
    }

    fn say_login(&self, user: Option<Arc<str>>, out: &mut Vec<Transaction>) {
        let event = DatabaseEvent::Login {
            user,
            database: self.service.clone(),
            client: self.program.clone(),
        };
        say(event, out);
    }

    fn say_result(&mut self, success: bool, code: Option<Arc<str>>, out: &mut Vec<Transaction>) {
        self.logging_in = false;
        say(DatabaseEvent::LoginResult { success, code }, out);
    }
}

fn say_statement(
    verb: &'static str,
    class: StatementClass,
    length: usize,
    out: &mut Vec<Transaction>,
) {
    let event = DatabaseEvent::Statement {
        class,
        marks: Marks::empty(),
        verb,
        fingerprint: fingerprint(verb.as_bytes()),
        length: u32::try_from(length).unwrap_or(u32::MAX),
    };
    say(event, out);
}

fn code(number: &[u8]) -> Arc<str> {
    text(&[b"ORA-", number].concat(), 16)
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
