//! MySQL's and MariaDB's protocol 10: greeting, login and its outcome, statements without their literals, sizes of
//! results.
//!
//! Passwords and rows are passed over by their length. TLS is handed over; nothing is read after compression is agreed on.
//! Answers are paired with one command at a time; those to commands sent ahead are not reported.

mod login;
mod result;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use login::{Greeting, Response};
use result::{Answer, Results};

use super::frames::{Frames, Plan, Step};
use super::sql::{Dialect, MAX_STATEMENT, begins_statement, statement};
use super::text::opt_text;
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Probe, Progress, Segment,
    Transaction,
};
use crate::flow::Direction;

/// MySQL over TCP.
pub(super) const MYSQL: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(MySql::default()),
};

const PRODUCT: &str = "mysql";
const MAX_NAME: usize = 64;
/// A length of three bytes, lowest first, and a number within the exchange.
const HEADER_LEN: usize = 4;
/// How much of a login, a greeting or an error is read.
const MAX_FIELDS: usize = 2048;
/// A packet as long as this goes on in the next.
const FULL: u32 = 0x00ff_ffff;

const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const CHANGE_USER: u8 = 0x11;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const ERROR: u8 = 0xff;

/// Refusals before the greeting: too many connections, host blocked, host not allowed.
const REFUSALS: [u16; 3] = [1040, 1129, 1130];

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let Some(header) = data.get(..HEADER_LEN) else {
        return Probe::Unsure;
    };
    let (length, number) = read_header(header);
    if number != 0 || length < 2 {
        return Probe::NotForUs;
    }
    let body = data.get(HEADER_LEN..).unwrap_or_default();
    let verdict = match (segment.direction, body.first()) {
        (_, None) => None,
        (Direction::Resp, Some(10)) if length < 512 => login::greets(body),
        (Direction::Resp, Some(&ERROR)) if length < 512 => {
            let errno = body.get(1..3).map(le16);
            errno.map(|errno| REFUSALS.contains(&errno))
        }
        (Direction::Orig, Some(&(QUERY | PREPARE))) => {
            begins_statement(body.get(1..).unwrap_or_default())
        }
        _ => Some(false),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// A packet's length without its header, and its number.
fn read_header(header: &[u8]) -> (u32, u8) {
    match *header {
        [low, middle, high, number, ..] => (u32::from_le_bytes([low, middle, high, 0]), number),
        _ => (0, 0),
    }
}

fn le16(bytes: &[u8]) -> u16 {
    bytes.try_into().map_or(0, u16::from_le_bytes)
}

/// Both directions of a connection.
#[derive(Default)]
struct MySql {
    client: Frames,
    server: Frames,
    phase: Phase,
    /// Whether queries come with attributes before the text.
    attributes: bool,
    /// Whether both compress once the client is let in.
    compresses: bool,
    results: Results,
    /// Whether the client's next packet goes on with a full one.
    continues: bool,
    /// Bytes of the last segment that are TLS's already, once it goes on so.
    tls: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nothing was seen of a login: a greeting is to come, or came before the capture.
    #[default]
    Start,
    /// The server greeted.
    Greeted,
    /// The client left without naming itself.
    Left,
    /// The client named itself.
    LoggingIn,
    Commands,
}

impl Dissector for MySql {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let frames = match segment.direction {
            Direction::Orig => &mut self.client,
            Direction::Resp => &mut self.server,
        };
        if segment.gap > 0 && !frames.skip_gap(segment.gap.into()) {
            self.results = Results::new(self.results.deprecates_eof());
            self.continues = false;
        }
        let mut data = segment.data;
        loop {
            let step = match segment.direction {
                Direction::Orig => {
                    let phase = self.phase;
                    let plan = |header: &[u8]| Some(plan_client(header, phase));
                    self.client.next(&mut data, HEADER_LEN, plan)
                }
                Direction::Resp => {
                    let rows = self.phase == Phase::Commands && self.results.in_mass();
                    let plan = |header: &[u8]| Some(plan_server(header, rows));
                    self.server.next(&mut data, HEADER_LEN, plan)
                }
            };
            let packet = match step {
                Step::Message(packet) => packet,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            let (header, body) = packet.split_at_checked(HEADER_LEN).unwrap_or_default();
            let (length, number) = read_header(header);
            let progress = match segment.direction {
                Direction::Orig => self.take_client(body, length, number, out),
                Direction::Resp => self.take_server(body, length, out),
            };
            // A client doesn't wait: its hello may be here already.
            self.tls = self.tls.map(|_| data.len());
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

    fn starts_tls(&self) -> Option<usize> {
        self.tls
    }
}

impl MySql {
    fn take_client(
        &mut self,
        body: &[u8],
        length: u32,
        number: u8,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let continued = std::mem::replace(&mut self.continues, length == FULL);
        if continued {
            return Progress::More;
        }
        match self.phase {
            // It leaves again: the answer to a greeting is number 1. Servers may complain.
            Phase::Greeted if number == 0 => {
                self.phase = Phase::Left;
                return Progress::More;
            }
            Phase::Left => return Progress::Done,
            Phase::Greeted => {
                let Some(response) = Response::parse(body) else {
                    return Progress::Desynced;
                };
                if response.encrypts {
                    say(DatabaseEvent::Hello { version: None }, out);
                    self.tls = Some(0);
                    return Progress::Done;
                }
                self.attributes &= response.attributes;
                self.compresses &= response.compresses;
                self.results =
                    Results::new(self.results.deprecates_eof() && response.deprecates_eof);
                self.phase = Phase::LoggingIn;
                say(response.login, out);
                return Progress::More;
            }
            // A password, in one of many forms.
            Phase::LoggingIn => return Progress::More,
            Phase::Start | Phase::Commands => {}
        }
        let Some((command, rest)) = body.split_first().filter(|_| number == 0) else {
            // The contents of a file that the server asked for.
            return Progress::More;
        };
        self.phase = Phase::Commands;
        match *command {
            QUIT => return Progress::Done,
            QUERY | PREPARE => {
                let text = if *command == QUERY && self.attributes {
                    login::without_attributes(rest)
                } else {
                    Some(rest)
                };
                if let Some(text) = text {
                    let before = body.len().saturating_sub(text.len());
                    let length = u64::from(length).saturating_sub(before as u64);
                    say(statement(text, length, Dialect::MySql), out);
                }
                self.results.expect(*command == PREPARE);
            }
            CHANGE_USER => {
                self.phase = Phase::LoggingIn;
                say(login::change_user(rest), out);
            }
            // Executing what was prepared.
            EXECUTE => self.results.expect(false),
            _ => self.results.forget(),
        }
        Progress::More
    }

    fn take_server(&mut self, body: &[u8], length: u32, out: &mut Vec<Transaction>) -> Progress {
        match self.phase {
            Phase::Start => {
                if body.first() == Some(&ERROR) {
                    say(refused(body), out);
                    return Progress::Done;
                }
                let Some(greeting) = Greeting::parse(body) else {
                    return Progress::Desynced;
                };
                self.phase = Phase::Greeted;
                self.attributes = greeting.attributes;
                self.compresses = greeting.compresses;
                self.results = Results::new(greeting.deprecates_eof);
                let version = opt_text(greeting.version, MAX_NAME);
                say(DatabaseEvent::Hello { version }, out);
            }
            Phase::Left => {
                if body.first() == Some(&ERROR) {
                    let (rows, bytes, error) = (None, 0, errno(body));
                    say(DatabaseEvent::Result { rows, bytes, error }, out);
                }
                return Progress::Done;
            }
            Phase::Greeted | Phase::LoggingIn => match body.first() {
                Some(0) => {
                    self.phase = Phase::Commands;
                    let (success, code) = (true, None);
                    say(DatabaseEvent::LoginResult { success, code }, out);
                    if self.compresses {
                        return Progress::Done;
                    }
                }
                Some(&ERROR) => say(refused(body), out),
                // Another method, or more of this one.
                _ => {}
            },
            Phase::Commands => match self.results.take(body, length) {
                Answer::More => {}
                Answer::Result { rows, bytes } => {
                    let error = None;
                    say(DatabaseEvent::Result { rows, bytes, error }, out);
                }
                Answer::Error { bytes } => {
                    let (rows, error) = (None, errno(body));
                    say(DatabaseEvent::Result { rows, bytes, error }, out);
                }
            },
        }
        Progress::More
    }
}

fn plan_client(header: &[u8], phase: Phase) -> Plan {
    let (_, number) = read_header(header);
    let keep = match phase {
        Phase::Greeted => MAX_FIELDS,
        Phase::Start | Phase::Commands if number == 0 => MAX_STATEMENT,
        // Passwords, and the contents of files.
        Phase::LoggingIn | Phase::Left | Phase::Start | Phase::Commands => 0,
    };
    plan(header, keep, false)
}

fn plan_server(header: &[u8], mass: bool) -> Plan {
    plan(header, if mass { 32 } else { MAX_FIELDS }, mass)
}

fn plan(header: &[u8], keep: usize, mass: bool) -> Plan {
    let total = (read_header(header).0 as usize).saturating_add(HEADER_LEN);
    Plan {
        keep: total.min(keep.saturating_add(HEADER_LEN)),
        total: total as u64,
        mass,
    }
}

fn refused(body: &[u8]) -> DatabaseEvent {
    DatabaseEvent::LoginResult {
        success: false,
        code: errno(body),
    }
}

/// An error packet's number.
fn errno(body: &[u8]) -> Option<Arc<str>> {
    body.get(1..3).map(|code| le16(code).to_string().into())
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
