//! RESP 2 and 3: cuts one direction into lines and strings, and knows where each command or reply ends.
//!
//! No tree is built and no depth counted: how many elements are still owed is all it takes.

use std::borrow::Cow;

use super::super::buffer;

/// The longest line read: a command typed in one, an error, a number.
const MAX_LINE: usize = 4096;
/// How much of a string is kept for a look; the rest is passed over.
pub(super) const MAX_HEAD: usize = 64;

/// A piece of a command or reply.
pub(super) enum Element<'a> {
    /// A line without its end: kind and value, or an inline command.
    Line(Cow<'a, [u8]>),
    /// The first bytes of a string.
    Text(Cow<'a, [u8]>),
    /// Not RESP.
    Bad,
}

/// One direction.
pub(super) struct Reader {
    keep: usize,
    /// A line or a string's head, if it didn't come in one piece.
    held: Vec<u8>,
    place: Place,
    /// Elements still to come of this command or reply.
    owed: u64,
    /// Bytes of this command or reply so far.
    length: u64,
    skipped: u64,
}

#[derive(Clone, Copy)]
enum Place {
    Line,
    /// In a string's head: bytes of the string still to come, its line end included.
    Head(u64),
    /// In the rest of a string.
    Tail(u64),
}

impl Reader {
    /// Keeps so many first bytes of each string; at most [`MAX_HEAD`].
    pub(super) const fn new(keep: usize) -> Self {
        Self {
            keep,
            held: Vec::new(),
            place: Place::Line,
            owed: 1,
            length: 0,
            skipped: 0,
        }
    }

    /// The next piece, if all of it is here. After each, ask whether it [completes](Self::complete) something.
    pub(super) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<Element<'a>> {
        if let Place::Tail(left) = self.place {
            let part = take(data, usize::try_from(left).unwrap_or(usize::MAX));
            self.pass(part.len() as u64, left);
        }
        if data.is_empty() {
            return None;
        }
        match self.place {
            Place::Line => self.next_line(data),
            Place::Head(left) => self.next_head(data, left),
            Place::Tail(_) => None,
        }
    }

    fn next_line<'a>(&mut self, data: &mut &'a [u8]) -> Option<Element<'a>> {
        let end = data.iter().take(MAX_LINE).position(|byte| *byte == b'\n');
        let part = take(data, end.map_or(data.len(), |end| end.saturating_add(1)));
        self.length = self.length.saturating_add(part.len() as u64);
        let line = match end {
            Some(_) if self.held.is_empty() => Cow::Borrowed(part),
            _ if !buffer::append(&mut self.held, part, MAX_LINE) => return Some(Element::Bad),
            Some(_) => Cow::Owned(std::mem::take(&mut self.held)),
            None => return None,
        };
        Some(self.take_line(line))
    }

    /// Settles what a line means for where the direction stands.
    fn take_line<'a>(&mut self, line: Cow<'a, [u8]>) -> Element<'a> {
        let line = match line {
            Cow::Borrowed(line) => Cow::Borrowed(without_end(line)),
            Cow::Owned(mut line) => {
                line.truncate(without_end(&line).len());
                Cow::Owned(line)
            }
        };
        let (kind, rest) = line.split_first().unwrap_or((&0, &[]));
        let count = number(rest);
        // A null (-1) has no content.
        let null = rest == b"-1";
        let owes = match (kind, count) {
            (b'*' | b'~' | b'>', Some(count)) => count,
            (b'%', Some(pairs)) => pairs.saturating_mul(2),
            // An attribute comes before what was asked for.
            (b'|', Some(pairs)) => pairs.saturating_mul(2).saturating_add(1),
            (b'$' | b'=' | b'!', Some(len)) => {
                self.place = Place::Head(len.saturating_add(2));
                // A long list of short strings is passed over as well as one long string.
                if self.keep == 0 {
                    self.skipped = self.skipped.saturating_add(line.len() as u64);
                }
                return Element::Line(line);
            }
            (b'$' | b'*', None) if null => 0,
            (b'*' | b'~' | b'>' | b'%' | b'|' | b'$' | b'=' | b'!', None) => return Element::Bad,
            // Simple strings, errors, numbers, inline commands. An element of an array is never inline.
            _ => 0,
        };
        self.owed = self.owed.saturating_sub(1).saturating_add(owes);
        Element::Line(line)
    }

    fn next_head<'a>(&mut self, data: &mut &'a [u8], left: u64) -> Option<Element<'a>> {
        let content = usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX);
        let wanted = content.min(self.keep).saturating_sub(self.held.len());
        let part = take(data, wanted);
        self.length = self.length.saturating_add(part.len() as u64);
        let head = if part.len() == wanted && self.held.is_empty() {
            Cow::Borrowed(part)
        } else if !buffer::append(&mut self.held, part, MAX_HEAD) {
            return Some(Element::Bad);
        } else if part.len() == wanted {
            Cow::Owned(std::mem::take(&mut self.held))
        } else {
            return None;
        };
        // The string counts as here once its head is, so that one of a gigabyte isn't waited for.
        self.owed = self.owed.saturating_sub(1);
        let left = left.saturating_sub(head.len() as u64);
        self.place = Place::Tail(left);
        self.length = self.length.saturating_add(left);
        Some(Element::Text(head))
    }

    fn pass(&mut self, part: u64, left: u64) {
        self.skipped = self.skipped.saturating_add(part);
        self.place = match left.saturating_sub(part) {
            0 => Place::Line,
            left => Place::Tail(left),
        };
    }

    /// Whether the command or reply is here as far as it is looked at.
    pub(super) const fn complete(&self) -> bool {
        self.owed == 0
    }

    /// The complete one's length on the wire in bytes; begins the next.
    pub(super) fn take_length(&mut self) -> u64 {
        self.owed = 1;
        std::mem::take(&mut self.length)
    }

    /// Passes over bytes that the capture lacks; says whether it still knows where it is.
    pub(super) fn skip_gap(&mut self, gap: u64) -> bool {
        let Place::Tail(left) = self.place else {
            return false;
        };
        let known = gap <= left;
        if known {
            self.place = match left.saturating_sub(gap) {
                0 => Place::Line,
                left => Place::Tail(left),
            };
        }
        known
    }

    /// Takes the next byte for the first of a command or reply.
    pub(super) fn restart(&mut self) {
        *self = Self {
            skipped: self.skipped,
            ..Self::new(self.keep)
        };
    }

    /// Bytes passed over unread.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// A count or length.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let sound = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| sound)?;
    text.parse().ok()
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
