//! MongoDB's wire protocol: who logs in and whether it works, commands without their values, sizes of answers.
//!
//! Of a message the first kilobytes are looked at; of a document only names of fields, and the few values that tell what
//! a command does. Answers are paired with commands by number. Of a compressed message as much is unpacked.

mod bson;
mod command;
mod reply;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bson::Document;
use command::{Command, Does};
use reply::Reply;

use super::frames::{Frames, Plan, Step};
use super::text::{opt_text, text};
use super::{
    Carrier, DatabaseEvent, DatabaseMessage, Dissector, DissectorSpec, Marks, Probe, Progress,
    Segment, StatementClass, Transaction, fingerprint::fingerprint, unpack,
};
use crate::flow::Direction;

/// MongoDB over TCP.
pub(super) const MONGODB: DissectorSpec = DissectorSpec {
    name: PRODUCT,
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(MongoDb::default()),
};

const PRODUCT: &str = "mongodb";
const MAX_NAME: usize = 64;
/// Length, number, number answered, kind; all lowest byte first.
const HEADER_LEN: usize = 16;
/// The longest message a server takes.
const MAX_MESSAGE: u32 = 48_000_000;
/// How much of a message is looked at.
const MAX_KEPT: usize = 8 * 1024;
/// Commands that may be under way at once; answers to more aren't paired.
const MAX_ASKED: usize = 64;

const REPLY: u32 = 1;
const UPDATE: u32 = 2001;
const INSERT: u32 = 2002;
const QUERY: u32 = 2004;
const GET_MORE: u32 = 2005;
const DELETE: u32 = 2006;
const KILL_CURSORS: u32 = 2007;
const COMPRESSED: u32 = 2012;
const MSG: u32 = 2013;

/// Flags of a message: a checksum follows; another message follows unasked; more may be sent unasked.
const CHECKSUM: u32 = 1;
const MORE_TO_COME: u32 = 2;
const KNOWN_FLAGS: u32 = CHECKSUM | MORE_TO_COME | 1 << 16;

#[derive(Clone, Copy)]
struct Header {
    length: u32,
    id: u32,
    answers: u32,
    kind: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            length: le32(bytes, 0)?,
            id: le32(bytes, 4)?,
            answers: le32(bytes, 8)?,
            kind: le32(bytes, 12)?,
        };
        let known = matches!(
            header.kind,
            REPLY | UPDATE | INSERT | QUERY | GET_MORE | DELETE | KILL_CURSORS | COMPRESSED | MSG
        );
        (known && (21..=MAX_MESSAGE).contains(&header.length)).then_some(header)
    }
}

/// The number at `at`, lowest byte first.
fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let Some(header) = data.get(..HEADER_LEN) else {
        let sound = data.get(3).is_none_or(|high| *high <= 2)
            && data.get(14..16).is_none_or(|high| high == [0, 0])
            && data.get(13).is_none_or(|middle| matches!(middle, 0 | 7));
        return if sound {
            Probe::Unsure
        } else {
            Probe::NotForUs
        };
    };
    let sound = Header::parse(header).filter(|header| {
        segment.direction == Direction::Resp || matches!(header.answers, 0 | u32::MAX)
    });
    let body = data.get(HEADER_LEN..).unwrap_or_default();
    let verdict = match (segment.direction, sound) {
        (_, Some(header)) if header.kind == MSG => begins_message(body),
        (Direction::Orig, Some(header)) if header.kind == QUERY => begins_query(body),
        (Direction::Resp, Some(header)) if header.kind == REPLY => {
            let flags = le32(body, 0);
            flags.map(|flags| flags <= 15 && header.length >= 36)
        }
        (_, Some(header)) if header.kind == COMPRESSED => {
            let original = le32(body, 0);
            let compressor = body.get(8);
            original.zip(compressor).map(|(original, compressor)| {
                matches!(original, REPLY | QUERY | MSG) && *compressor <= 3
            })
        }
        _ => Some(false),
    };
    match verdict {
        None => Probe::Unsure,
        Some(true) => Probe::Certain,
        Some(false) => Probe::NotForUs,
    }
}

/// Flags, then a document, of which the first field is looked at.
fn begins_message(body: &[u8]) -> Option<bool> {
    let flags = le32(body, 0)?;
    let kind = *body.get(4)?;
    if flags & !KNOWN_FLAGS != 0 || kind > 1 {
        return Some(false);
    }
    if kind == 1 {
        // Documents come first: their length, then the name they go by.
        let name = body.get(9..)?;
        return name.first().map(u8::is_ascii_alphabetic);
    }
    let name = body.get(10)?;
    let field = body.get(9)?;
    Some((1..=0x13).contains(field) && (name.is_ascii_alphabetic() || *name == b'$'))
}

/// Flags, then a collection's full name.
fn begins_query(body: &[u8]) -> Option<bool> {
    let flags = le32(body, 0)?;
    let name = body.get(4..)?;
    let len = name.iter().take_while(|byte| **byte > b' ').count();
    if flags > 255 || len > 128 {
        return Some(false);
    }
    let end = name.get(len)?;
    Some(*end == 0 && name.get(..len).unwrap_or_default().contains(&b'.'))
}

/// Both directions of a connection.
#[derive(Default)]
struct MongoDb {
    client: Frames,
    server: Frames,
    /// Commands not answered yet, by their number.
    asked: VecDeque<(u32, Asked)>,
    /// What the client calls itself.
    client_name: Option<Arc<str>>,
    greeted: bool,
    /// Repeated if the server didn't take it up.
    early: Option<Early>,
}

/// A login that began with the greeting.
#[derive(PartialEq, Eq)]
struct Early {
    user: Option<Arc<str>>,
}

/// What an answer is to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Hello,
    /// A step of a login.
    Login,
    /// The server's version.
    Version,
    Other,
}

impl Dissector for MongoDb {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let mut data = segment.data;
        let frames = match segment.direction {
            Direction::Orig => &mut self.client,
            Direction::Resp => &mut self.server,
        };
        if segment.gap > 0 {
            frames.skip_gap(segment.gap.into());
        }
        loop {
            let frames = match segment.direction {
                Direction::Orig => &mut self.client,
                Direction::Resp => &mut self.server,
            };
            let message = match frames.next(&mut data, HEADER_LEN, plan) {
                Step::Message(message) => message,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            let (head, body) = message.split_at_checked(HEADER_LEN).unwrap_or_default();
            let Some(header) = Header::parse(head) else {
                return Progress::Desynced;
            };
            match segment.direction {
                Direction::Orig => self.take_client(header, body, whole(header), out),
                Direction::Resp => self.take_server(header, body, whole(header), out),
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

fn plan(header: &[u8]) -> Option<Plan> {
    let length = Header::parse(header)?.length;
    Some(Plan {
        keep: (length as usize).min(MAX_KEPT),
        total: length.into(),
        mass: false,
    })
}

impl MongoDb {
    /// Takes a message; `whole` if all of it is here.
    fn take_client(
        &mut self,
        header: Header,
        body: &[u8],
        whole: bool,
        out: &mut Vec<Transaction>,
    ) {
        match header.kind {
            MSG => {
                let flags = le32(body, 0).unwrap_or_default();
                if let Some(document) = message_document(body) {
                    let answered = flags & MORE_TO_COME == 0;
                    self.command(header, &Command::new(document, whole), answered, out);
                }
            }
            QUERY => {
                let (name, rest) = until_zero(body.get(4..).unwrap_or_default());
                let document = Document::parse(rest.get(8..).unwrap_or_default());
                let command = if name.ends_with(b".$cmd") {
                    let database = name.strip_suffix(b".$cmd");
                    Command::of_query(document, database, whole)
                } else {
                    let limit = le32(rest, 4).unwrap_or_default();
                    Command::find(name, document, limit == 0, whole)
                };
                self.command(header, &command, true, out);
            }
            COMPRESSED => {
                if let Some((header, body, whole)) = unpacked(header, body, whole) {
                    self.take_client(header, &body, whole, out);
                    return;
                }
                self.ask(header.id, Asked::Other);
                let verb = "COMPRESSED";
                state(verb, StatementClass::Other, Marks::empty(), header, out);
            }
            GET_MORE => {
                self.ask(header.id, Asked::Other);
                state("getMore", StatementClass::Read, Marks::empty(), header, out);
            }
            INSERT => state("insert", StatementClass::Write, Marks::empty(), header, out),
            UPDATE => state("update", StatementClass::Write, Marks::empty(), header, out),
            DELETE => state("delete", StatementClass::Write, Marks::empty(), header, out),
            _ => {}
        }
    }

    fn command(
        &mut self,
        header: Header,
        command: &Command<'_>,
        answered: bool,
        out: &mut Vec<Transaction>,
    ) {
        let asked = match command.does() {
            Does::Hello { client, login } => {
                if self.client_name.is_none() {
                    self.client_name = client.and_then(|client| opt_text(client, MAX_NAME));
                }
                if let Some(login) = login {
                    let user = login.user.and_then(|user| opt_text(&user, MAX_NAME));
                    self.early = Some(Early { user: user.clone() });
                    self.say_login(user, login.database, out);
                }
                Asked::Hello
            }
            Does::Login(login) => {
                let user = login.user.and_then(|user| opt_text(&user, MAX_NAME));
                if self.early.take().is_none_or(|early| early.user != user) {
                    self.say_login(user, login.database, out);
                }
                Asked::Login
            }
            Does::GoOnLogin => Asked::Login,
            Does::AskVersion => Asked::Version,
            Does::Other => Asked::Other,
        };
        if asked != Asked::Login {
            let shape = command.shape();
            say(
                DatabaseEvent::Statement {
                    class: command.class(),
                    marks: command.marks(),
                    verb: command.verb(),
                    fingerprint: fingerprint(&shape),
                    length: header.length,
                },
                out,
            );
        }
        if answered {
            self.ask(header.id, asked);
        }
    }

    fn say_login(
        &self,
        user: Option<Arc<str>>,
        database: Option<&[u8]>,
        out: &mut Vec<Transaction>,
    ) {
        let event = DatabaseEvent::Login {
            user,
            database: database.and_then(|name| opt_text(name, MAX_NAME)),
            client: self.client_name.clone(),
        };
        say(event, out);
    }

    fn ask(&mut self, id: u32, asked: Asked) {
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((id, asked));
    }

    fn take_server(
        &mut self,
        header: Header,
        body: &[u8],
        whole: bool,
        out: &mut Vec<Transaction>,
    ) {
        if header.kind == COMPRESSED
            && let Some((header, body, whole)) = unpacked(header, body, whole)
        {
            self.take_server(header, &body, whole, out);
            return;
        }
        let place = self.asked.iter().position(|(id, _)| *id == header.answers);
        let Some((_, asked)) = place.and_then(|place| self.asked.remove(place)) else {
            return;
        };
        let reply = match header.kind {
            MSG => message_document(body).map(|document| Reply::new(document, whole)),
            REPLY => {
                let document = Document::parse(body.get(20..).unwrap_or_default());
                let mut reply = Reply::new(document, whole);
                // Rows, unless it is a command's one answer.
                let count = le32(body, 16).unwrap_or_default();
                if reply.ok.is_none() {
                    reply.rows = Some(count.into());
                }
                Some(reply)
            }
            _ => None,
        };
        let reply = reply.unwrap_or_default();
        let failed = reply.ok == Some(false);
        if asked == Asked::Hello {
            if let Some(wire) = reply.wire.filter(|_| !self.greeted) {
                self.greeted = true;
                let version = Some(text(format!("wire {wire}").as_bytes(), MAX_NAME));
                say(DatabaseEvent::Hello { version }, out);
            }
            if self.early.is_some() && reply.early_login {
                self.early = None;
                if reply.done == Some(true) {
                    say_result(true, None, out);
                }
            }
        }
        if let (Asked::Version, Some(version)) = (asked, reply.version) {
            self.greeted = true;
            let version = opt_text(version, MAX_NAME);
            say(DatabaseEvent::Hello { version }, out);
        }
        if asked == Asked::Login {
            if failed {
                say_result(false, reply.code, out);
            } else if reply.ok.is_some() && reply.done != Some(false) {
                say_result(true, None, out);
            }
            return;
        }
        say(
            DatabaseEvent::Result {
                rows: reply.rows,
                bytes: header.length.into(),
                error: reply.code,
            },
            out,
        );
    }
}

/// Whether all of a message is here.
const fn whole(header: Header) -> bool {
    header.length as usize <= MAX_KEPT
}

/// The message in a compressed one, as far as it can be read.
fn unpacked(header: Header, body: &[u8], whole: bool) -> Option<(Header, Cow<'_, [u8]>, bool)> {
    let kind = le32(body, 0).filter(|kind| *kind != COMPRESSED)?;
    let length = le32(body, 4)?;
    let packed = body.get(9..)?;
    let inside = match body.get(8)? {
        0 => Cow::Borrowed(packed),
        1 => unpack::snappy(packed, MAX_KEPT).into(),
        2 => unpack::zlib(packed, MAX_KEPT).into(),
        3 => unpack::zstd(packed, MAX_KEPT).into(),
        _ => return None,
    };
    let whole = whole && inside.len() >= length as usize;
    let is_read = !inside.is_empty();
    is_read.then_some((Header { kind, ..header }, inside, whole))
}

/// The document of a message that isn't one of a row of documents.
fn message_document(body: &[u8]) -> Option<Document<'_>> {
    let mut rest = body.get(4..)?;
    loop {
        let (kind, after) = rest.split_first()?;
        match kind {
            0 => return Some(Document::parse(after)),
            1 => {
                let length = usize::try_from(le32(after, 0)?).ok()?;
                rest = after.get(length.max(4)..)?;
            }
            _ => return None,
        }
    }
}

/// Text up to a zero byte, and what follows that.
fn until_zero(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|byte| **byte != 0).count();
    let (text, rest) = bytes.split_at_checked(len).unwrap_or_default();
    (text, rest.get(1..).unwrap_or_default())
}

fn state(
    verb: &'static str,
    class: StatementClass,
    marks: Marks,
    header: Header,
    out: &mut Vec<Transaction>,
) {
    let event = DatabaseEvent::Statement {
        class,
        marks,
        verb,
        fingerprint: fingerprint(verb.as_bytes()),
        length: header.length,
    };
    say(event, out);
}

fn say_result(success: bool, code: Option<Arc<str>>, out: &mut Vec<Transaction>) {
    say(DatabaseEvent::LoginResult { success, code }, out);
}

fn say(event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage {
        product: PRODUCT,
        event,
    }));
}
