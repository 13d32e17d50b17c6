//! WebSocket (RFC 6455) after its upgrade: the frames of both directions, unmasked, as the stream that they carry.
//!
//! Owns framing and masks. What messages mean is told by the conversation inside; as soon as that has said all, nothing
//! more is read. Of compressed messages (RFC 7692), which some libraries send unasked, the first are unpacked: what rides
//! inside shows by its beginning.

#[cfg(test)]
mod tests;

use super::tunnel::Inside;
use super::{Both, Progress, Segment, Transaction, unpack};

/// The carrier's name.
pub(super) const CARRIER: &str = "websocket";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;
/// RFC 6455 5.5.
const MAX_CONTROL: u64 = 125;
/// First two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;
/// Of each direction so many compressed bytes are unpacked, of so many messages at most, and so far.
const MAX_PACKED: usize = 2048;
const MAX_PACKED_MESSAGES: u8 = 8;
const MAX_UNPACKED: usize = 4096;
/// What a sender leaves off each message (RFC 7692 7.2.1).
const MESSAGE_END: [u8; 4] = [0, 0, 0xff, 0xff];

/// Both directions of a connection.
pub(super) struct WebSocket {
    sides: Both<Side>,
    inside: Inside,
}

/// One direction.
#[derive(Default)]
struct Side {
    /// A frame's header as far as it has come.
    header: [u8; MAX_HEADER],
    have: usize,
    frame: Frame,
    /// Bytes of the frame's payload to come.
    left: u64,
    /// Whether the message that the frame is of is compressed.
    compressed: bool,
    packed: Packed,
}

/// What came compressed so far; one stream over all messages, for later ones may refer to earlier ones.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    messages: u8,
    /// Unpacked bytes that were handed on.
    told: usize,
}

impl Packed {
    /// Takes the next compressed bytes; gives what can newly be read, and whether there will be more. Unpacks at the end
    /// of a message, so that it is the same however the bytes were cut.
    fn take(&mut self, part: &[u8], ended: bool) -> (Vec<u8>, bool) {
        let room = MAX_PACKED.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(part.get(..room).unwrap_or(part));
        let mut more = part.len() <= room;
        if more && ended {
            self.bytes.extend_from_slice(&MESSAGE_END);
            self.messages = self.messages.saturating_add(1);
            more = self.messages < MAX_PACKED_MESSAGES;
        }
        if more && !ended {
            return (Vec::new(), more);
        }
        let mut plain = unpack::deflate(&self.bytes, MAX_UNPACKED);
        let fresh = plain.split_off(self.told.min(plain.len()));
        self.told = self.told.saturating_add(fresh.len());
        (fresh, more && self.told < MAX_UNPACKED)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Default)]
struct Frame {
    opcode: u8,
    /// Whether its message ends with it.
    last: bool,
    mask: Option<[u8; 4]>,
    /// Where in the mask the next byte is.
    at: usize,
}

impl WebSocket {
    /// For an upgrade of a conversation at `depth`, unless that is too deep.
    pub(super) fn new(depth: u8) -> Option<Self> {
        Some(Self {
            sides: Both::default(),
            inside: Inside::new(CARRIER, depth)?,
        })
    }

    /// Takes the connection's next bytes after the upgrade.
    pub(super) fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let Self { sides, inside } = self;
        let side = sides.of(segment.direction);
        let mut lost = 0;
        if segment.gap > 0 {
            let gap = u64::from(segment.gap);
            // Within a payload the next byte is known; anywhere else it isn't.
            if gap > side.left {
                return Progress::Desynced;
            }
            side.skip(gap);
            lost = segment.gap;
        }
        let mut data = segment.data;
        let mut plain = Vec::new();
        while let [first, rest @ ..] = data {
            if side.left == 0 {
                data = rest;
                match side.read_header(*first) {
                    Header::More => continue,
                    Header::Complete if side.left > 0 || !side.is_packed() => continue,
                    // Nothing more may come of a compressed message, and then it ends.
                    Header::Complete => {}
                    Header::Bad => return Progress::Desynced,
                }
            }
            let len = usize::try_from(side.left).unwrap_or(usize::MAX);
            let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
            data = rest;
            if side.frame.opcode >= CLOSE {
                side.skip(part.len() as u64);
                continue;
            }
            plain.clear();
            let payload = if side.frame.mask.is_some() {
                plain.extend(part.iter().map(|byte| side.frame.unmask(*byte)));
                plain.as_slice()
            } else {
                part
            };
            side.left = side.left.saturating_sub(part.len() as u64);
            let (unpacked, more) = if !side.is_packed() {
                (None, true)
            } else if lost > 0 {
                return Progress::Done;
            } else {
                let ended = side.frame.last && side.left == 0;
                let (unpacked, more) = side.packed.take(payload, ended);
                (Some(unpacked), more)
            };
            let carried = Segment {
                data: unpacked.as_deref().unwrap_or(payload),
                gap: std::mem::take(&mut lost),
                ..*segment
            };
            if unpacked.as_ref().is_none_or(|bytes| !bytes.is_empty()) {
                let progress = inside.feed(&carried, out);
                if progress != Progress::More {
                    return progress;
                }
            }
            if !more {
                return Progress::Done;
            }
        }
        Progress::More
    }

    /// Bytes kept for later.
    pub(super) fn held(&self) -> usize {
        self.inside.held()
    }

    /// Bytes passed over unread.
    pub(super) const fn skipped(&self) -> u64 {
        self.inside.skipped()
    }
}

/// What came of a header's next byte.
enum Header {
    More,
    Complete,
    Bad,
}

impl Side {
    fn read_header(&mut self, byte: u8) -> Header {
        if let Some(slot) = self.header.get_mut(self.have) {
            *slot = byte;
        }
        self.have = self.have.saturating_add(1);
        let [first, second, ..] = self.header;
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0_usize,
        };
        let masked = second & 0x80 != 0;
        let mask_at = wide.saturating_add(2);
        let wanted = if masked {
            mask_at.saturating_add(4)
        } else {
            mask_at
        };
        if self.have < 2 || self.have < wanted {
            return Header::More;
        }
        self.have = 0;
        let length = if wide == 0 {
            u64::from(second & 0x7f)
        } else {
            let bytes = self.header.get(2..mask_at).unwrap_or_default();
            bytes
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte))
        };
        let opcode = first & 0x0f;
        let control = opcode >= CLOSE;
        let valid = first & 0x30 == 0
            && (opcode <= BINARY || (CLOSE..=PONG).contains(&opcode))
            && length >> 63 == 0
            && (!control || length <= MAX_CONTROL && first & 0xc0 == 0x80);
        if !valid {
            return Header::Bad;
        }
        self.left = length;
        // Continuations are as their message's first frame says; control frames may come between.
        if matches!(opcode, TEXT | BINARY) {
            self.compressed = first & 0x40 != 0;
        }
        self.frame = Frame {
            opcode,
            last: first & 0x80 != 0,
            mask: masked
                .then(|| self.header.get(mask_at..wanted)?.try_into().ok())
                .flatten(),
            at: 0,
        };
        Header::Complete
    }

    /// Whether the frame holds compressed bytes.
    const fn is_packed(&self) -> bool {
        self.compressed && self.frame.opcode < CLOSE
    }

    /// Passes over bytes of the payload.
    fn skip(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        self.frame.at = self.frame.at.wrapping_add(bytes as usize);
    }
}

impl Frame {
    fn unmask(&mut self, byte: u8) -> u8 {
        let key = self.mask.and_then(|mask| mask.get(self.at & 3).copied());
        self.at = self.at.wrapping_add(1);
        byte ^ key.unwrap_or(0)
    }
}
