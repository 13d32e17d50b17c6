//! The wire form of a DNS message (RFC 1035 4.1), read in place.
//!
//! A message that was cut (by its sender, or by the capture's snap length) gives what is there. Names may hold any
//! bytes. Knows nothing of transports.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::hidden::hidden;
use crate::dissect::{DnsAnswer, DnsMessage, DnsOperation};
use crate::flow::Direction;

/// Bytes of the fixed header.
pub(super) const HEADER_LEN: usize = 12;
/// The longest name on the wire without the root's zero byte (RFC 1035 2.3.4).
const MAX_NAME: usize = 254;
/// The longest name in text: every byte of a name of few labels as `\DDD`.
const MAX_TEXT: usize = MAX_NAME * 4;
/// How often one name may point back. Encoders never need more than a few; the labels of a name are at most 127.
const MAX_POINTERS: usize = 127;
/// Answers kept of one message.
const MAX_ANSWERS: usize = 32;
/// Equal answers are looked for, nothing is kept by it: no seed is needed.
const DIGEST: FixedState = FixedState::with_seed(0);

const NOTIFY: u16 = 4;
const UPDATE: u16 = 5;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;
/// mDNS sets the class's top bit for "answer by unicast" and "flush your cache" (RFC 6762 5.4, 10.2).
const CLASS_MASK: u16 = 0x7fff;

/// The fixed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    /// Records in the answer, authority and additional sections.
    pub(super) records: [u16; 3],
}

impl Header {
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        Some(Self {
            id: be16(data, 0)?,
            flags: be16(data, 2)?,
            questions: be16(data, 4)?,
            records: [be16(data, 6)?, be16(data, 8)?, be16(data, 10)?],
        })
    }

    pub(super) const fn response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub(super) const fn opcode(&self) -> u16 {
        (self.flags >> 11) & 0x0f
    }

    const fn operation(&self) -> DnsOperation {
        match self.opcode() {
            NOTIFY => DnsOperation::Notify,
            UPDATE => DnsOperation::Update,
            _ => DnsOperation::Query,
        }
    }

    /// The bit that must be zero, and often isn't in what merely resembles DNS.
    pub(super) const fn reserved(&self) -> bool {
        self.flags & 0x0040 != 0
    }

    pub(super) const fn rcode(&self) -> u16 {
        self.flags & 0x0f
    }
}

/// The first question, its name not yet read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    name_at: usize,
    pub(super) name_len: u16,
    kind: u16,
    class: u16,
}

impl Question {
    /// The class, without mDNS's bit.
    pub(super) const fn class(&self) -> u16 {
        self.class & CLASS_MASK
    }
}

/// A message whose header and questions were followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    data: &'a [u8],
    pub(super) header: Header,
    pub(super) question: Option<Question>,
    /// Where the records begin, unless the questions after the first were cut.
    records_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Follows header and questions; `None` when that is cut or malformed before the first question's end.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        let header = Header::read(data)?;
        let mut message = Self {
            data,
            header,
            question: None,
            records_at: Some(HEADER_LEN),
        };
        if header.questions == 0 {
            return Some(message);
        }
        // Nothing stands before the first name that it could point to.
        let (name_end, name_len) = plain_name(data, HEADER_LEN)?;
        message.question = Some(Question {
            name_at: HEADER_LEN,
            name_len,
            kind: be16(data, name_end)?,
            class: be16(data, name_end.saturating_add(2))?,
        });
        let mut at = Some(name_end.saturating_add(4));
        for _ in 1..header.questions {
            at = at
                .and_then(|at| skip_name(data, at))
                .map(|end| end.saturating_add(4))
                .filter(|end| *end <= data.len());
            if at.is_none() {
                break;
            }
        }
        message.records_at = at;
        Some(message)
    }

    /// Whether every record that the header announces is there, and nothing after them.
    pub(super) fn is_whole(&self) -> bool {
        let mut records = self.records();
        while records.next().is_some() {}
        records.left == [0; 3] && records.at == Some(self.data.len())
    }

    /// Whether there is at least one whole record.
    pub(super) fn has_record(&self) -> bool {
        self.records().next().is_some()
    }

    /// What the message says, that was sent so.
    pub(super) fn summary(&self, direction: Direction) -> DnsMessage {
        let mut text = NameText::new();
        let mut summary = DnsMessage {
            id: self.header.id,
            direction,
            response: self.header.response(),
            operation: self.header.operation(),
            rcode: self.header.rcode(),
            ..DnsMessage::default()
        };
        if let Some(question) = self.question {
            read_name(self.data, question.name_at, &mut text);
            summary.name = text.to_shared();
            summary.name_len = question.name_len;
            summary.query_type = question.kind;
            if !summary.response {
                summary.hidden = hidden(plain_labels(self.data, question.name_at));
            }
        }
        for (section, record) in self.records() {
            if section == 0 {
                summary.answer_count = summary.answer_count.saturating_add(1);
                let bytes = u32::try_from(record.data.len()).unwrap_or(u32::MAX);
                summary.answer_bytes = summary.answer_bytes.saturating_add(bytes);
                let digest = DIGEST.hash_one((record.kind, record.data));
                summary.answer_digest = summary.answer_digest.wrapping_add(digest);
                summary.ttl = Some(summary.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
                if summary.answers.len() < MAX_ANSWERS {
                    summary.answers.extend(self.answer(&record, &mut text));
                }
            } else if record.kind == TYPE_OPT && summary.edns_size.is_none() {
                // RFC 6891 6.1.3: the class is a size, the TTL's top byte the upper bits of the response code.
                summary.edns_size = Some(record.class);
                summary.rcode |= (record.ttl >> 24 << 4) as u16;
            }
        }
        summary
    }

    fn answer(&self, record: &Record<'a>, text: &mut NameText) -> Option<DnsAnswer> {
        if record.class & CLASS_MASK != CLASS_IN {
            return None;
        }
        match record.kind {
            TYPE_A => {
                let octets: [u8; 4] = record.data.try_into().ok()?;
                Some(DnsAnswer::Address(IpAddr::V4(Ipv4Addr::from(octets))))
            }
            TYPE_AAAA => {
                let octets: [u8; 16] = record.data.try_into().ok()?;
                Some(DnsAnswer::Address(IpAddr::V6(Ipv6Addr::from(octets))))
            }
            TYPE_CNAME => {
                let end = read_name(self.data, record.data_at, text)?;
                let fits = end <= record.data_at.saturating_add(record.data.len());
                fits.then(|| DnsAnswer::Alias(text.to_shared()))
            }
            _ => None,
        }
    }

    fn records(&self) -> Records<'a> {
        Records {
            data: self.data,
            at: self.records_at,
            left: self.header.records,
        }
    }
}

/// One resource record.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data_at: usize,
    data: &'a [u8],
}

/// Walks the records of all sections up to the first that is cut or malformed.
struct Records<'a> {
    data: &'a [u8],
    at: Option<usize>,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    fn read(&self, at: usize) -> Option<Record<'a>> {
        let fixed_at = skip_name(self.data, at)?;
        let data_at = fixed_at.saturating_add(10);
        let ttl = [
            be16(self.data, fixed_at.saturating_add(4))?,
            be16(self.data, fixed_at.saturating_add(6))?,
        ];
        let data_len = usize::from(be16(self.data, fixed_at.saturating_add(8))?);
        Some(Record {
            kind: be16(self.data, fixed_at)?,
            class: be16(self.data, fixed_at.saturating_add(2))?,
            ttl: u32::from(ttl[0]) << 16 | u32::from(ttl[1]),
            data_at,
            data: self.data.get(data_at..data_at.saturating_add(data_len))?,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    /// The section (0 answers, 1 authorities, 2 additional) and the record.
    type Item = (usize, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (section, left) = self
            .left
            .iter_mut()
            .enumerate()
            .find(|(_, left)| **left > 0)?;
        *left = left.saturating_sub(1);
        let record = self.at.and_then(|at| self.read(at));
        self.at = record
            .as_ref()
            .map(|record| record.data_at.saturating_add(record.data.len()));
        record.map(|record| (section, record))
    }
}

/// A name in the form of [`DnsMessage::name`], built without the heap.
struct NameText {
    bytes: [u8; MAX_TEXT],
    len: usize,
}

impl NameText {
    const fn new() -> Self {
        Self {
            bytes: [0; MAX_TEXT],
            len: 0,
        }
    }

    fn push_label(&mut self, label: &[u8]) {
        if self.len > 0 {
            self.push(b'.');
        }
        for &byte in label {
            match byte {
                b'.' | b'\\' | ..=b' ' | 0x7f.. => {
                    self.push(b'\\');
                    for digit in [byte / 100, byte / 10 % 10, byte % 10] {
                        self.push(b'0'.saturating_add(digit));
                    }
                }
                _ => self.push(byte.to_ascii_lowercase()),
            }
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    fn to_shared(&self) -> Arc<str> {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().into()
    }
}

/// Reads the name at `at`, following pointers; gives the offset after it where it stands.
fn read_name(data: &[u8], at: usize, text: &mut NameText) -> Option<usize> {
    text.len = 0;
    let mut at = at;
    let mut floor = at;
    let mut end = None;
    let mut wire_len = 0_usize;
    let mut pointers = 0_usize;
    loop {
        let after = at.saturating_add(1);
        match *data.get(at)? {
            0 => return Some(end.unwrap_or(after)),
            length @ 1..=63 => {
                let label_end = after.saturating_add(usize::from(length));
                text.push_label(data.get(after..label_end)?);
                wire_len = wire_len
                    .saturating_add(1)
                    .saturating_add(usize::from(length));
                at = label_end;
            }
            high @ 0xc0.. => {
                let target = usize::from(u16::from_be_bytes([high & 0x3f, *data.get(after)?]));
                // A pointer leads before everything read so far (RFC 1035 4.1.4: "a prior occurrence"), so none loops.
                pointers = pointers.saturating_add(1);
                if target >= floor || pointers > MAX_POINTERS {
                    return None;
                }
                end = end.or(Some(after.saturating_add(1)));
                floor = target;
                at = target;
            }
            // RFC 6891 5: the other label types are history.
            _ => return None,
        }
        if wire_len > MAX_NAME {
            return None;
        }
    }
}

/// The end and the length (without the root's byte) of a name without pointers.
fn plain_name(data: &[u8], at: usize) -> Option<(usize, u16)> {
    let mut end = at;
    loop {
        match *data.get(end)? {
            0 => break,
            length @ 1..=63 => end = end.saturating_add(1).saturating_add(usize::from(length)),
            _ => return None,
        }
    }
    let length = end.saturating_sub(at);
    let length = (length <= MAX_NAME).then_some(length)?;
    Some((end.saturating_add(1), length as u16))
}

/// The labels of a name without pointers.
fn plain_labels(data: &[u8], at: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = data.get(at..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&length @ 1..=63, after) = rest.split_first()? else {
            return None;
        };
        let (label, next) = after.split_at_checked(usize::from(length))?;
        rest = next;
        Some(label)
    })
}

/// The end of a name that nobody wants to read.
fn skip_name(data: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let after = at.saturating_add(1);
        match *data.get(at)? {
            0 => return Some(after),
            length @ 1..=63 => at = after.saturating_add(usize::from(length)),
            0xc0.. => return data.get(after).map(|_| after.saturating_add(1)),
            _ => return None,
        }
    }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..at.saturating_add(2))?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
