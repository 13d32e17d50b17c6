//! Cuts one direction into messages, each of one or more packets, and TLS records where those stand between them.
//!
//! Of a message the first bytes are kept, and the last few, for its outcome stands at the end.

use super::super::buffer;

/// Kind, status, length (with this header), channel, number, window.
const HEADER_LEN: usize = 8;
/// A TLS record's kind, version and length.
const RECORD_LEN: usize = 5;
const END_OF_MESSAGE: u8 = 1;
/// The longest packet that can be agreed on.
const MAX_PACKET: u16 = 32_767;
/// How many of a message's last bytes are kept.
pub(super) const TAIL: usize = 31;

/// What a direction carries.
pub(super) enum Unit {
    Message(Message),
    /// A TLS record of this kind.
    Record(u8),
    Bad,
}

/// A message of which the beginning is here.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// Bytes in all, without the packets' headers.
    pub(super) length: u64,
}

/// One direction.
pub(super) struct Packets {
    /// How much of a message's beginning is kept.
    keep: usize,
    header: Vec<u8>,
    /// Bytes still to come of the packet or record.
    left: u64,
    place: Place,
    /// The message's kind, once its first packet began.
    kind: Option<u8>,
    head: Vec<u8>,
    /// Whether bytes were lost, so that what comes is no part of the beginning.
    broken: bool,
    tail: Vec<u8>,
    length: u64,
    skipped: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    /// In a packet; the message's last, perhaps.
    Packet {
        last: bool,
    },
    Record(u8),
}

impl Packets {
    pub(super) const fn new(keep: usize) -> Self {
        Self {
            keep,
            header: Vec::new(),
            left: 0,
            place: Place::Header,
            kind: None,
            head: Vec::new(),
            broken: false,
            tail: Vec::new(),
            length: 0,
            skipped: 0,
        }
    }

    /// The next message or record, if all of it is here.
    pub(super) fn next(&mut self, data: &mut &[u8]) -> Option<Unit> {
        loop {
            if self.place == Place::Header && !self.take_header(data)? {
                return Some(Unit::Bad);
            }
            let len = usize::try_from(self.left).unwrap_or(usize::MAX);
            let part = take(data, len);
            self.left = self.left.saturating_sub(part.len() as u64);
            if matches!(self.place, Place::Packet { .. }) {
                self.absorb(part);
            } else {
                self.skipped = self.skipped.saturating_add(part.len() as u64);
            }
            if self.left > 0 {
                return None;
            }
            match std::mem::replace(&mut self.place, Place::Header) {
                Place::Record(kind) => return Some(Unit::Record(kind)),
                Place::Packet { last: true } => return Some(self.end_message()),
                Place::Packet { last: false } | Place::Header => {}
            }
        }
    }

    /// Reads a header, if all of it is here; says whether it makes sense.
    fn take_header(&mut self, data: &mut &[u8]) -> Option<bool> {
        loop {
            let first = self.header.first().or(data.first())?;
            let is_record = (0x14..=0x17).contains(first);
            let wanted = if is_record { RECORD_LEN } else { HEADER_LEN };
            let part = take(data, wanted.saturating_sub(self.header.len()));
            if !buffer::append(&mut self.header, part, HEADER_LEN) {
                return Some(false);
            }
            if self.header.len() < wanted {
                if data.is_empty() {
                    return None;
                }
                continue;
            }
            let header = std::mem::take(&mut self.header);
            return Some(match header[..] {
                [kind, 3, 0..=4, high, low] if is_record => {
                    self.place = Place::Record(kind);
                    self.left = u16::from_be_bytes([high, low]).into();
                    true
                }
                [kind, status, high, low, ..] if !is_record => {
                    let length = u16::from_be_bytes([high, low]);
                    self.place = Place::Packet {
                        last: status & END_OF_MESSAGE != 0,
                    };
                    self.left = u64::from(length).saturating_sub(HEADER_LEN as u64);
                    self.kind.get_or_insert(kind);
                    (1..=0x12).contains(&kind)
                        && status <= 0x1f
                        && (HEADER_LEN as u16..=MAX_PACKET).contains(&length)
                }
                _ => false,
            });
        }
    }

    fn absorb(&mut self, part: &[u8]) {
        self.length = self.length.saturating_add(part.len() as u64);
        let room = if self.broken {
            0
        } else {
            self.keep.saturating_sub(self.head.len())
        };
        let kept = part.get(..room).unwrap_or(part);
        let fits = buffer::append(&mut self.head, kept, self.keep);
        debug_assert!(fits, "no more than there is room for");
        let unread = part.len().saturating_sub(kept.len());
        self.skipped = self.skipped.saturating_add(unread as u64);
        let last = part.get(part.len().saturating_sub(TAIL)..).unwrap_or(part);
        self.tail.extend_from_slice(last);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
    }

    fn end_message(&mut self) -> Unit {
        self.broken = false;
        Unit::Message(Message {
            kind: self.kind.take().unwrap_or_default(),
            head: std::mem::take(&mut self.head),
            tail: std::mem::take(&mut self.tail),
            length: std::mem::take(&mut self.length),
        })
    }

    /// Passes over bytes that the capture lacks. If they don't end within a packet, the next byte is taken for the first
    /// of one.
    pub(super) fn skip_gap(&mut self, gap: u64) {
        if self.place != Place::Header && gap <= self.left {
            self.left = self.left.saturating_sub(gap);
            self.length = self.length.saturating_add(gap);
            self.broken = true;
            self.tail.clear();
        } else {
            *self = Self {
                skipped: self.skipped,
                ..Self::new(self.keep)
            };
        }
    }

    /// Bytes kept for later.
    pub(super) const fn held(&self) -> usize {
        self.head.capacity().saturating_add(self.tail.capacity())
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
