//! SSH (RFC 4253) as far as it is in clear: what both ends call themselves, and that they agreed on keys.

#[cfg(test)]
mod tests;

use super::frames::{Frames, Plan, Step};
use super::text::text;
use super::{
    Both, Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, SshMessage, Transaction,
    buffer,
};
use crate::flow::Direction;

/// SSH over TCP.
pub(super) const SSH: DissectorSpec = DissectorSpec {
    name: "ssh",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Ssh::default()),
};

const MAX_SOFTWARE: usize = 128;
/// RFC 4253 4.2, the line's end included.
const MAX_LINE: usize = 255;
/// A server may greet people before it greets clients.
const MAX_LINES: u8 = 50;
/// Length, length of padding, kind.
const HEADER_LEN: usize = 6;
/// RFC 4253 6.1.
const MAX_PACKET: u32 = 256 * 1024;
const NEWKEYS: u8 = 21;

fn probe(segment: &Segment<'_>) -> Probe {
    // The last one is a tunnel's, whose SSH is version 2 under another name.
    let starts: [&[u8]; 4] = [b"SSH-2.0-", b"SSH-1.99-", b"SSH-1.5-", b"SSH-chisel-"];
    if starts.iter().any(|start| segment.data.starts_with(start)) {
        Probe::Certain
    } else if starts.iter().any(|start| start.starts_with(segment.data)) {
        Probe::Unsure
    } else {
        Probe::NotForUs
    }
}

/// Both directions of a connection.
#[derive(Default)]
struct Ssh {
    sides: Both<Side>,
}

/// One direction, up to its new keys.
#[derive(Default)]
struct Side {
    line: Vec<u8>,
    lines: u8,
    named: bool,
    packets: Frames,
    keyed: bool,
}

impl Dissector for Ssh {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let side = self.sides.of(segment.direction);
        let known = segment.gap == 0 || side.named && side.packets.skip_gap(segment.gap.into());
        if !known && !side.keyed {
            return Progress::Desynced;
        }
        let progress = side.take(segment.data, segment.direction, out);
        if progress == Progress::More && self.sides.orig.keyed && self.sides.resp.keyed {
            out.push(Transaction::Ssh(SshMessage::Encrypted));
            return Progress::Done;
        }
        progress
    }
}

impl Side {
    fn take(&mut self, data: &[u8], direction: Direction, out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while !self.named {
            let end = data.iter().position(|byte| *byte == b'\n');
            let len = end.map_or(data.len(), |end| end.saturating_add(1));
            let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
            data = rest;
            if !buffer::append(&mut self.line, part, MAX_LINE) {
                return Progress::Desynced;
            }
            if end.is_none() {
                return Progress::More;
            }
            let line = std::mem::take(&mut self.line);
            self.lines = self.lines.saturating_add(1);
            if let Some(banner) = line.strip_prefix(b"SSH-") {
                self.named = true;
                out.push(Transaction::Ssh(named(banner, direction)));
                // Version 1 has packets of another form.
                if banner.starts_with(b"1.") && !banner.starts_with(b"1.99-") {
                    return Progress::Done;
                }
            } else if self.lines >= MAX_LINES {
                return Progress::Desynced;
            }
        }
        while !self.keyed {
            match self.packets.next(&mut data, HEADER_LEN, plan) {
                Step::Message(packet) => self.keyed = packet.last() == Some(&NEWKEYS),
                Step::More => break,
                Step::Bad => return Progress::Desynced,
            }
        }
        Progress::More
    }
}

fn named(banner: &[u8], direction: Direction) -> SshMessage {
    let line = banner.trim_ascii_end();
    let mut parts = line.splitn(2, |byte| *byte == b'-');
    let version = parts.next().unwrap_or_default();
    let software = match parts.next() {
        Some(software) if version.first().is_some_and(u8::is_ascii_digit) => software,
        _ => line,
    };
    let software = text(software, MAX_SOFTWARE);
    match direction {
        Direction::Orig => SshMessage::Client(software),
        Direction::Resp => SshMessage::Server(software),
    }
}

fn plan(header: &[u8]) -> Option<Plan> {
    let length = u32::from_be_bytes(header.get(..4)?.try_into().ok()?);
    (2..=MAX_PACKET).contains(&length).then(|| Plan {
        keep: HEADER_LEN,
        total: u64::from(length).saturating_add(4),
        mass: false,
    })
}
