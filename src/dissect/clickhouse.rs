//! ClickHouse's native protocol: who logs in and whether it works, statements without their literals, errors.
//!
//! Packets have no length, so each part is read in its order. Blocks of rows aren't: after one begins, a direction is
//! passed over until the other end has spoken, for the two take turns. So an answer's size is known once the client
//! goes on, or leaves.

mod layout;
#[cfg(test)]
mod tests;
mod units;

use std::sync::Arc;

use layout::{Means, Part, When};
use units::{Unit, Units};

use super::sql::{Dialect, MAX_STATEMENT, statement};
use super::text::{opt_text, text};
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Probe, Progress, Segment,
    Transaction,
};
use crate::flow::Direction;

/// ClickHouse over TCP.
pub(super) const CLICKHOUSE: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(ClickHouse::default()),
};

pub(super) const PRODUCT: &str = "clickhouse";
const MAX_NAME: usize = 64;
/// How much of a statement is kept.
const MAX_KEPT: u16 = MAX_STATEMENT as u16;
/// A block unpacked is no longer than this if it has no rows.
const EMPTY_BLOCK: u32 = 64;
/// Revisions that there are or may be.
const REVISIONS: std::ops::RangeInclusive<u64> = 50_000..=60_000;

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let verdict = match segment.direction {
        Direction::Orig => begins_hello(data),
        Direction::Resp => begins_answer(data),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// A kind, the client's name, a version and a revision.
fn begins_hello(data: &[u8]) -> Option<bool> {
    let (kind, rest) = data.split_first()?;
    if *kind != 0 {
        return Some(false);
    }
    let (length, rest) = rest.split_first()?;
    let length = usize::from(*length);
    let shown = rest.get(..length).unwrap_or(rest);
    if !(1..=127).contains(&length) || !shown.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Some(false);
    }
    let mut rest = rest.get(length..)?;
    let mut units = Units::default();
    let mut revision = 0;
    for _ in 0..3 {
        match units.next(&mut rest, units::Want::Number)? {
            Unit::Number(number) => revision = number,
            _ => return Some(false),
        }
    }
    Some(REVISIONS.contains(&revision))
}

/// The server's name, or an error's.
fn begins_answer(data: &[u8]) -> Option<bool> {
    let hello = b"\0\x0aClickHouse";
    if data.first() != Some(&2) {
        return if data.starts_with(hello) {
            Some(true)
        } else if hello.starts_with(data) {
            None
        } else {
            Some(false)
        };
    }
    let name = b"DB::";
    let found = data.get(6..)?;
    if found.starts_with(name) {
        Some(true)
    } else if name.starts_with(found) {
        None
    } else {
        Some(false)
    }
}

/// Both directions of a connection.
#[derive(Default)]
struct ClickHouse {
    client: Side,
    server: Side,
    /// The lesser of both ends' revisions.
    revision: u64,
    /// What the client said of itself.
    name: Option<Arc<str>>,
    database: Option<Arc<str>>,
    user: Option<Arc<str>>,
    traced: bool,
    token: bool,
    compressed: bool,
    /// The server's version so far.
    version: (u64, u64),
    greeted: bool,
    /// Where the answer to a query began, in bytes taken from the server.
    asked_at: Option<u64>,
    /// Whether anything of it came.
    answering: bool,
}

/// One direction.
#[derive(Default)]
struct Side {
    units: Units,
    at: At,
    /// Whether the other end spoke since this one was lost.
    other_spoke: bool,
}

/// Where a direction is.
#[derive(Clone, Copy, Default)]
enum At {
    /// Before a packet.
    #[default]
    Kind,
    /// In a packet, before this part of it.
    Part(&'static [Part], usize),
    /// Somewhere in rows.
    Lost,
}

/// Where to go on after a part.
enum Go {
    Next,
    To(usize),
    /// A new packet's parts.
    Into(&'static [Part]),
    PacketEnds,
    Lose,
    End(Progress),
}

impl Dissector for ClickHouse {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let direction = segment.direction;
        let (side, other) = match direction {
            Direction::Orig => (&mut self.client, &mut self.server),
            Direction::Resp => (&mut self.server, &mut self.client),
        };
        if segment.gap > 0 && !side.units.skip_gap(segment.gap.into()) {
            side.at = At::Lost;
        }
        other.other_spoke = true;
        if matches!(side.at, At::Lost) && std::mem::take(&mut side.other_spoke) {
            side.units.restart();
            side.at = At::Kind;
        }
        side.other_spoke = false;
        if direction == Direction::Orig && self.answering {
            self.end_answer(None, out);
        }
        let mut data = segment.data;
        while !data.is_empty() {
            let progress = self.step(direction, &mut data, out);
            if progress != Progress::More {
                return progress;
            }
        }
        Progress::More
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        if self.answering {
            self.end_answer(None, out);
        }
    }

    fn held(&self) -> usize {
        let (client, server) = (&self.client.units, &self.server.units);
        client.held().saturating_add(server.held())
    }

    fn skipped(&self) -> u64 {
        let (client, server) = (&self.client.units, &self.server.units);
        client.skipped().saturating_add(server.skipped())
    }
}

impl ClickHouse {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Orig => &mut self.client,
            Direction::Resp => &mut self.server,
        }
    }

    /// Takes one part, if it is here.
    fn step(
        &mut self,
        direction: Direction,
        data: &mut &[u8],
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let (parts, index) = match self.side(direction).at {
            At::Kind => (layout::KIND, 0),
            At::Part(parts, index) => (parts, index),
            At::Lost => {
                self.answering |= direction == Direction::Resp && self.asked_at.is_some();
                self.side(direction).units.pass(data);
                return Progress::More;
            }
        };
        let Some(part) = parts.get(index) else {
            self.side(direction).at = At::Kind;
            return Progress::More;
        };
        let is_there = match part.when {
            When::Always => true,
            When::Since(revision) => self.revision >= revision,
            When::Traced => self.traced,
            When::Token => self.token,
            When::Compressed => self.compressed,
            When::Plain => !self.compressed,
        };
        let next = At::Part(parts, index.saturating_add(1));
        if !is_there {
            self.side(direction).at = next;
            return Progress::More;
        }
        let Some(unit) = self.side(direction).units.next(data, part.want) else {
            return Progress::More;
        };
        let go = match direction {
            Direction::Orig => self.take_client(part.means, index, unit, out),
            Direction::Resp => self.take_server(part.means, unit, out),
        };
        self.side(direction).at = match go {
            Go::Next => next,
            Go::To(index) => At::Part(parts, index),
            Go::Into(parts) => At::Part(parts, 0),
            Go::PacketEnds => At::Kind,
            Go::Lose => At::Lost,
            Go::End(progress) => return progress,
        };
        Progress::More
    }

    fn take_client(
        &mut self,
        means: Means,
        index: usize,
        unit: Unit,
        out: &mut Vec<Transaction>,
    ) -> Go {
        let name = |bytes: &[u8]| opt_text(bytes, MAX_NAME);
        match (means, unit) {
            (Means::Kind, Unit::Number(kind)) => match kind {
                0 => Go::Into(layout::CLIENT_HELLO),
                1 if self.revision > 0 => {
                    (self.traced, self.token) = (false, false);
                    Go::Into(layout::QUERY)
                }
                2 if self.revision > 0 => Go::Into(layout::DATA),
                // To stop, and whether anybody is there.
                3 | 4 => Go::PacketEnds,
                _ => Go::Lose,
            },
            (Means::Name, Unit::Bytes(bytes, _)) => {
                self.name = name(&bytes);
                Go::Next
            }
            (Means::Revision, Unit::Number(revision)) => {
                self.revision = revision;
                if REVISIONS.contains(&revision) {
                    Go::Next
                } else {
                    Go::End(Progress::Desynced)
                }
            }
            (Means::Database, Unit::Bytes(bytes, _)) => {
                self.database = name(&bytes);
                Go::Next
            }
            (Means::User, Unit::Bytes(bytes, _)) => {
                self.user = name(&bytes);
                Go::Next
            }
            (Means::End, _) => {
                let event = DatabaseEvent::Login {
                    user: self.user.take(),
                    database: self.database.take(),
                    client: self.name.take(),
                };
                say(event, out);
                Go::Into(layout::ADDENDUM)
            }
            (Means::Chunks, Unit::Bytes(bytes, _)) if bytes.starts_with(b"chunked") => {
                Go::End(Progress::Done)
            }
            (Means::Asker, Unit::Bytes(bytes, _)) => match bytes.first() {
                // Nobody: nothing about the client follows.
                Some(0) => Go::To(index.saturating_add(ABOUT_NOBODY)),
                Some(1 | 2) => Go::Next,
                _ => Go::Lose,
            },
            (Means::Interface, Unit::Bytes(bytes, _)) if bytes != [1] => Go::Lose,
            (Means::Traced, Unit::Bytes(bytes, _)) => {
                self.traced = bytes == [1];
                Go::Next
            }
            (Means::Token, Unit::Bytes(bytes, _)) => {
                self.token = bytes == [1];
                Go::Next
            }
            (Means::Setting, Unit::Bytes(_, 0)) => Go::To(index.saturating_add(3)),
            (Means::Setting, _) if self.revision < layout::SETTINGS_IN_TEXT => Go::Lose,
            (Means::SettingValue, _) => Go::To(index.saturating_sub(2)),
            (Means::Compression, Unit::Number(compression)) => {
                self.compressed = compression == 1;
                if compression <= 1 { Go::Next } else { Go::Lose }
            }
            (Means::Statement, Unit::Bytes(bytes, length)) => {
                // Else something before it is of a form that isn't known.
                let is_text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
                if bytes.is_empty() || !bytes.iter().all(is_text) {
                    return Go::Lose;
                }
                self.asked_at = Some(self.server.units.taken());
                say(statement(&bytes, length, Dialect::ClickHouse), out);
                Go::Next
            }
            (Means::Frame, Unit::Bytes(bytes, _)) => self.frame(&bytes),
            (Means::BlockField, Unit::Number(field)) => match field {
                0 => Go::To(index.saturating_add(2)),
                1 => Go::Next,
                2 => {
                    self.client.units.pass_next(4);
                    Go::To(index)
                }
                _ => Go::Lose,
            },
            (Means::BlockFieldValue, _) => Go::To(index.saturating_sub(1)),
            // Rows of an INSERT, or of a table that the query uses.
            (Means::Columns, Unit::Number(columns)) if columns > 0 => Go::Lose,
            (_, Unit::Bad) => Go::Lose,
            _ => Go::Next,
        }
    }

    /// A block's compressed form: an empty one is passed over, of another it isn't known how many frames it has.
    fn frame(&mut self, header: &[u8]) -> Go {
        let number = |from: usize| {
            let bytes = header.get(from..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        // Its length counts how it is compressed and both lengths.
        match (number(17), number(21)) {
            (Some(length @ 9..), Some(unpacked)) if unpacked <= EMPTY_BLOCK => {
                self.client
                    .units
                    .pass_next(u64::from(length.saturating_sub(9)));
                Go::PacketEnds
            }
            _ => Go::Lose,
        }
    }

    fn take_server(&mut self, means: Means, unit: Unit, out: &mut Vec<Transaction>) -> Go {
        match (means, unit) {
            (Means::Kind, Unit::Number(kind)) => match kind {
                0 => Go::Into(layout::SERVER_HELLO),
                2 => Go::Into(layout::EXCEPTION),
                3 => Go::Into(layout::PROGRESS),
                // Here I am.
                4 => Go::PacketEnds,
                5 => {
                    self.end_answer(None, out);
                    Go::PacketEnds
                }
                _ => {
                    self.answering = self.asked_at.is_some();
                    Go::Lose
                }
            },
            (Means::Major, Unit::Number(major)) => {
                self.version.0 = major;
                Go::Next
            }
            (Means::Minor, Unit::Number(minor)) => {
                self.version.1 = minor;
                Go::Next
            }
            (Means::Revision, Unit::Number(revision)) => {
                if !self.greeted {
                    self.greeted = true;
                    let (major, minor) = self.version;
                    let version = text(format!("{major}.{minor}").as_bytes(), MAX_NAME);
                    let version = Some(version);
                    say(DatabaseEvent::Hello { version }, out);
                    let (success, code) = (true, None);
                    say(DatabaseEvent::LoginResult { success, code }, out);
                }
                self.revision = if self.revision == 0 {
                    revision
                } else {
                    self.revision.min(revision)
                };
                // What follows differs by revision, and until the client speaks there is nothing more.
                Go::Lose
            }
            (Means::Code, Unit::Bytes(bytes, _)) => {
                let code = bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
                let code = code.map(|code| text(code.to_string().as_bytes(), 16));
                if self.greeted || self.asked_at.is_some() {
                    self.end_answer(code, out);
                    Go::Lose
                } else {
                    let success = false;
                    say(DatabaseEvent::LoginResult { success, code }, out);
                    Go::End(Progress::Done)
                }
            }
            (_, Unit::Bad) => Go::Lose,
            _ => Go::Next,
        }
    }

    fn end_answer(&mut self, error: Option<Arc<str>>, out: &mut Vec<Transaction>) {
        self.answering = false;
        let Some(from) = self.asked_at.take() else {
            return;
        };
        let bytes = self.server.units.taken().saturating_sub(from);
        let rows = None;
        say(DatabaseEvent::Result { rows, bytes, error }, out);
    }
}

/// From who asks to the settings.
const ABOUT_NOBODY: usize = layout::ABOUT_CLIENT + 1;

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
