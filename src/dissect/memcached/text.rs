//! Memcached's text protocol: lines, and data after some of them.

use std::borrow::Cow;

use super::super::{Marks, StatementClass, buffer};
use StatementClass::{Admin, Catalogue, Other, Read, Write};

/// How much of a line is looked at.
pub(super) const MAX_LINE: usize = 1024;

/// A line of which the beginning is here.
pub(super) struct Line<'a> {
    /// Without its end.
    pub(super) head: Cow<'a, [u8]>,
    /// Bytes in all, its end included.
    pub(super) length: u64,
}

/// One direction.
#[derive(Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// Bytes of the line so far.
    length: u64,
    /// Bytes of data still to pass over.
    left: u64,
    skipped: u64,
}

impl Lines {
    /// The next line, if its end is here.
    pub(super) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<Line<'a>> {
        let over = usize::try_from(self.left).unwrap_or(usize::MAX);
        let passed = take(data, over).len() as u64;
        self.left = self.left.saturating_sub(passed);
        self.skipped = self.skipped.saturating_add(passed);
        let end = data.iter().position(|byte| *byte == b'\n');
        let part = take(data, end.map_or(data.len(), |end| end.saturating_add(1)));
        self.length = self.length.saturating_add(part.len() as u64);
        if end.is_some() && self.held.is_empty() {
            return Some(Line {
                head: Cow::Borrowed(without_end(part.get(..MAX_LINE).unwrap_or(part))),
                length: std::mem::take(&mut self.length),
            });
        }
        let room = MAX_LINE.saturating_sub(self.held.len());
        let kept = part.get(..room).unwrap_or(part);
        self.skipped = self
            .skipped
            .saturating_add(part.len().saturating_sub(kept.len()) as u64);
        let fits = buffer::append(&mut self.held, kept, MAX_LINE);
        debug_assert!(fits, "no more than there is room for");
        end?;
        let mut head = std::mem::take(&mut self.held);
        head.truncate(without_end(&head).len());
        Some(Line {
            head: Cow::Owned(head),
            length: std::mem::take(&mut self.length),
        })
    }

    /// Passes over data that follows a line, and the end of that.
    pub(super) fn pass(&mut self, data: u64) {
        self.left = data.saturating_add(2);
    }

    /// Passes over bytes that the capture lacks; what is lost with them is the line under way.
    pub(super) fn skip_gap(&mut self, gap: u64) {
        if gap <= self.left {
            self.left = self.left.saturating_sub(gap);
        } else {
            *self = Self {
                skipped: self.skipped,
                ..Self::default()
            };
        }
    }

    /// Bytes passed over unread.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn take<'a>(data: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
    *data = rest;
    part
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A command.
pub(super) struct Command {
    pub(super) verb: &'static str,
    pub(super) class: StatementClass,
    pub(super) marks: Marks,
    /// Bytes of data that follow the line.
    pub(super) data: Option<u64>,
    pub(super) answered: bool,
}

/// What a line asks for; nothing if it is empty.
pub(super) fn command(line: &[u8]) -> Option<Command> {
    let words = || {
        line.split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
    };
    let first = words().next()?;
    let second = words().nth(1).unwrap_or_default();
    let known = COMMANDS.iter().find(|(known, ..)| {
        let mut parts = known.as_bytes().splitn(2, |byte| *byte == b' ');
        parts.next() == Some(first) && parts.next().is_none_or(|part| part == second)
    });
    let (verb, class, marks) = known.copied().unwrap_or(("OTHER", Other, Marks::empty()));
    let data = match verb {
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => words().nth(4).and_then(number),
        "ms" => words().nth(2).and_then(number),
        _ => None,
    };
    Some(Command {
        verb,
        class,
        marks,
        data,
        answered: words().next_back() != Some(b"noreply") && verb != "quit",
    })
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let sound = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| sound)?;
    text.parse().ok()
}

/// What a line of an answer means.
pub(super) enum Answer {
    /// A row, with data after it perhaps; more lines follow.
    Row {
        data: Option<u64>,
    },
    /// The only row, with so much data after it.
    Value {
        data: u64,
    },
    End,
    Error(&'static str),
}

pub(super) fn answer(line: &[u8]) -> Answer {
    let words = || {
        line.split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
    };
    match words().next().unwrap_or_default() {
        b"VALUE" => Answer::Row {
            data: words().nth(3).and_then(number),
        },
        b"STAT" | b"ITEM" | b"PREFIX" | b"mg" => Answer::Row { data: None },
        b"VA" => Answer::Value {
            data: words().nth(1).and_then(number).unwrap_or_default(),
        },
        b"ERROR" => Answer::Error("ERROR"),
        b"SERVER_ERROR" => Answer::Error("SERVER_ERROR"),
        b"CLIENT_ERROR" if line.ends_with(b"unauthenticated") => Answer::Error("unauthenticated"),
        b"CLIENT_ERROR" if line.ends_with(b"authentication failure") => {
            Answer::Error(WRONG_PASSWORD)
        }
        b"CLIENT_ERROR" => Answer::Error("CLIENT_ERROR"),
        key if key.starts_with(b"key=") => Answer::Row { data: None },
        _ => Answer::End,
    }
}

/// The answer to a login, which is a `set` like others.
pub(super) const WRONG_PASSWORD: &str = "auth failure";

/// Whether a line is a command that no other protocol begins with; `None` if its end is missing and it may be.
pub(super) fn begins_command(data: &[u8]) -> Option<bool> {
    let end = data.iter().position(|byte| *byte == b'\n');
    let line = without_end(
        data.get(..end.map_or(data.len(), |end| end.saturating_add(1)))
            .unwrap_or(data),
    );
    let printable = line.iter().all(|byte| (b' '..=b'~').contains(byte));
    let mut words = line.split(|byte| *byte == b' ');
    let first = words.next().unwrap_or_default();
    if end.is_none() {
        let possible = PROBED.iter().any(|known| {
            known.starts_with(first) && (first.len() < line.len()) <= (known.len() == first.len())
        });
        return if possible && printable {
            None
        } else {
            Some(false)
        };
    }
    let rest: Vec<&[u8]> = words.filter(|word| !word.is_empty()).take(8).collect();
    let numbers = |from: usize, to: usize| {
        rest.get(from..to)
            .is_some_and(|words| words.iter().all(|word| number(word).is_some()))
    };
    let is_http = rest.iter().any(|word| word.starts_with(b"HTTP/"));
    let sound = match first {
        b"get" | b"gets" | b"mg" | b"delete" | b"lru_crawler" => !rest.is_empty(),
        b"gat" | b"gats" => rest.len() >= 2 && numbers(0, 1),
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => numbers(1, 4),
        b"incr" | b"decr" | b"touch" | b"ms" => numbers(1, 2),
        b"stats" => rest.len() <= 3,
        b"version" | b"flush_all" => rest.len() <= 1,
        b"verbosity" => numbers(0, 1),
        _ => false,
    };
    Some(sound && printable && !is_http)
}

/// Whether a line is an answer that no other protocol begins with.
pub(super) fn begins_answer(data: &[u8]) -> Option<bool> {
    const ANSWERS: [&[u8]; 5] = [
        b"STORED\r\n",
        b"STAT pid ",
        b"STAT items",
        b"CLIENT_ERROR ",
        b"SERVER_ERROR ",
    ];
    if ANSWERS.iter().any(|answer| data.starts_with(answer)) {
        return Some(true);
    }
    let possible = ANSWERS.iter().any(|answer| answer.starts_with(data));
    if possible || b"VALUE ".starts_with(data) || b"VERSION ".starts_with(data) {
        return None;
    }
    if let Some(version) = data.strip_prefix(b"VERSION ") {
        return version.first().map(u8::is_ascii_digit);
    }
    if !data.starts_with(b"VALUE ") {
        return Some(false);
    }
    let end = data.iter().position(|byte| *byte == b'\n')?;
    let line = without_end(data.get(..=end).unwrap_or_default());
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let numbers = words.next().zip(words.next());
    Some(numbers.is_some_and(|(flags, length)| number(flags).is_some() && number(length).is_some()))
}

const PROBED: &[&[u8]] = &[
    b"get",
    b"gets",
    b"mg",
    b"delete",
    b"gat",
    b"gats",
    b"set",
    b"add",
    b"replace",
    b"append",
    b"prepend",
    b"cas",
    b"incr",
    b"decr",
    b"touch",
    b"ms",
    b"stats",
    b"version",
    b"flush_all",
    b"verbosity",
    b"lru_crawler",
];

/// Commands by use, the commonest first; a bare name stands for the second words not named before it.
const COMMANDS: &[(&str, StatementClass, Marks)] = &[
    ("get", Read, Marks::empty()),
    ("set", Write, Marks::empty()),
    ("gets", Read, Marks::empty()),
    ("mg", Read, Marks::empty()),
    ("ms", Write, Marks::empty()),
    ("delete", Write, Marks::empty()),
    ("md", Write, Marks::empty()),
    ("mn", Other, Marks::empty()),
    ("ma", Write, Marks::empty()),
    ("add", Write, Marks::empty()),
    ("replace", Write, Marks::empty()),
    ("append", Write, Marks::empty()),
    ("prepend", Write, Marks::empty()),
    ("cas", Write, Marks::empty()),
    ("incr", Write, Marks::empty()),
    ("decr", Write, Marks::empty()),
    ("touch", Write, Marks::empty()),
    ("gat", Read, Marks::empty()),
    ("gats", Read, Marks::empty()),
    ("quit", Other, Marks::empty()),
    ("version", Other, Marks::empty()),
    ("stats cachedump", Catalogue, Marks::KEY_WALK),
    ("stats", Catalogue, Marks::empty()),
    ("lru_crawler metadump", Catalogue, Marks::KEY_WALK),
    ("lru_crawler mgdump", Catalogue, Marks::KEY_WALK),
    ("lru_crawler", Admin, Marks::empty()),
    ("watch", Admin, Marks::EAVESDROPS),
    ("me", Catalogue, Marks::DEBUG),
    ("debug", Admin, Marks::DEBUG),
    ("flush_all", Admin, Marks::empty()),
    ("verbosity", Admin, Marks::empty()),
    ("slabs", Admin, Marks::empty()),
    ("lru", Admin, Marks::empty()),
    ("cache_memlimit", Admin, Marks::empty()),
    ("refresh_certs", Admin, Marks::empty()),
    ("shutdown", Admin, Marks::empty()),
];
