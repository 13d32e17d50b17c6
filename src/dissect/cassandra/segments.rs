//! Version 5's segments: a length, up to 128 kB of messages or a part of one, checksums.

use super::super::buffer;

/// Lowest bits first: 17 of the length (with compression twice, as sent and as unpacked), whether messages are whole,
/// zeros; then the header's own checksum in three bytes.
const HEADER_LEN: usize = 6;
const COMPRESSED_HEADER_LEN: usize = 8;
const CHECKSUM_LEN: u64 = 4;
const LENGTH_BITS: u64 = (1 << 17) - 1;

/// What comes of looking further.
pub(super) enum Part<'a> {
    /// The next bytes of messages.
    Payload(&'a [u8]),
    /// A segment that can't be read.
    Compressed,
    More,
    Bad,
}

/// One direction.
pub(super) struct Segments {
    compresses: bool,
    header: Vec<u8>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Header,
    /// So many bytes of messages to come.
    Payload(u64),
    /// So many bytes to pass over.
    Rest(u64),
}

impl Segments {
    pub(super) const fn new(compresses: bool) -> Self {
        Self {
            compresses,
            header: Vec::new(),
            place: Place::Header,
        }
    }

    pub(super) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Part<'a> {
        while !data.is_empty() {
            match self.place {
                Place::Header => {
                    let length = if self.compresses {
                        COMPRESSED_HEADER_LEN
                    } else {
                        HEADER_LEN
                    };
                    let part = take(data, length.saturating_sub(self.header.len()) as u64);
                    if !buffer::append(&mut self.header, part, COMPRESSED_HEADER_LEN) {
                        return Part::Bad;
                    }
                    if self.header.len() < length {
                        continue;
                    }
                    let header = std::mem::take(&mut self.header);
                    let bits = header
                        .iter()
                        .take(length.saturating_sub(3))
                        .rev()
                        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
                    let unpacked = if self.compresses {
                        bits >> 17 & LENGTH_BITS
                    } else {
                        0
                    };
                    let zeros = if self.compresses {
                        bits >> 35
                    } else {
                        bits >> 18
                    };
                    if zeros != 0 {
                        return Part::Bad;
                    }
                    let length = bits & LENGTH_BITS;
                    if unpacked > 0 {
                        self.place = Place::Rest(length.saturating_add(CHECKSUM_LEN));
                        return Part::Compressed;
                    }
                    self.place = Place::Payload(length);
                }
                Place::Payload(0) => self.place = Place::Rest(CHECKSUM_LEN),
                Place::Payload(left) => {
                    let part = take(data, left);
                    self.place = Place::Payload(left.saturating_sub(part.len() as u64));
                    return Part::Payload(part);
                }
                Place::Rest(left) => {
                    let passed = take(data, left).len() as u64;
                    self.place = match left.saturating_sub(passed) {
                        0 => Place::Header,
                        left => Place::Rest(left),
                    };
                }
            }
        }
        Part::More
    }

    /// Passes over bytes that the capture lacks; says whether they are all of one segment's messages.
    pub(super) const fn skip_gap(&mut self, gap: u64) -> bool {
        match self.place {
            Place::Payload(left) if gap <= left => {
                self.place = Place::Payload(left.saturating_sub(gap));
                true
            }
            _ => false,
        }
    }
}

fn take<'a>(data: &mut &'a [u8], len: u64) -> &'a [u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
    *data = rest;
    part
}
