//! DNS over UDP and TCP; mDNS and LLMNR, which speak the same form on ports of their own.
//!
//! Owns framing and recognition; `message` owns the wire form. Doesn't match responses to queries.

mod hidden;
mod message;
#[cfg(test)]
mod tests;

use message::{HEADER_LEN, Header, Message};

use super::{
    Both, Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, Transaction, buffer,
};
use crate::flow::Direction;

/// DNS in datagrams.
pub(super) const DNS_UDP: DissectorSpec = DissectorSpec {
    name: "dns",
    carrier: Carrier::Udp,
    probe: probe_datagram,
    build: || Box::new(Datagrams),
};

/// Multicast DNS (RFC 6762).
pub(super) const MDNS: DissectorSpec = DissectorSpec {
    name: "mdns",
    probe: |segment| on_own_port(segment, 5353),
    ..DNS_UDP
};

/// Link-local multicast name resolution (RFC 4795).
pub(super) const LLMNR: DissectorSpec = DissectorSpec {
    name: "llmnr",
    probe: |segment| on_own_port(segment, 5355),
    ..DNS_UDP
};

/// DNS in a stream, each message after its length (RFC 1035 4.2.2, RFC 7766).
pub(super) const DNS_TCP: DissectorSpec = DissectorSpec {
    name: "dns",
    carrier: Carrier::Tcp,
    probe: probe_stream,
    build: || Box::new(Stream::default()),
};

const DOMAIN_PORT: u16 = 53;
/// NetBIOS names have DNS's form, and nothing to do with it; mDNS and LLMNR go by names of their own.
const LOOK_ALIKES: [u16; 3] = [137, 5353, 5355];
/// Query, inverse query, status, notify, update (RFC 6895 2.2).
const OPCODES: [u16; 5] = [0, 1, 2, 4, 5];
/// Internet, Chaos, Hesiod, none, any (RFC 6895 3.2).
const CLASSES: [u16; 5] = [1, 3, 4, 254, 255];
/// More questions than anybody asks at once, mDNS included.
const MAX_QUESTIONS: u16 = 64;
/// Bytes of the length before a message in a stream.
const PREFIX_LEN: usize = 2;
/// The longest message that shows a stream on a strange port to be DNS.
const LONGEST_ELSEWHERE: usize = 4096;
/// The longest message in a stream, with its length.
const MAX_FRAME: usize = PREFIX_LEN + u16::MAX as usize;

/// Whether a flow's ports promise DNS.
fn on_port(segment: &Segment<'_>) -> bool {
    segment.orig_port == DOMAIN_PORT || segment.resp_port == DOMAIN_PORT
}

fn on_own_port(segment: &Segment<'_>, port: u16) -> Probe {
    if segment.orig_port != port && segment.resp_port != port {
        return Probe::NotForUs;
    }
    sane(segment.data).map_or(Probe::Unsure, |_| Probe::Certain)
}

/// Whether DNS software sends headers like this.
fn plausible(header: &Header) -> bool {
    OPCODES.contains(&header.opcode()) && header.questions <= MAX_QUESTIONS
}

/// The message in `data`, if it has anything to say.
fn sane(data: &[u8]) -> Option<Message<'_>> {
    let message = Message::parse(data)?;
    let header = &message.header;
    // Without a question there are answers (mDNS), or an error about a query too broken to repeat.
    let says_something = message.question.is_some()
        || header.response() && (message.has_record() || header.rcode() != 0);
    (plausible(header) && says_something).then_some(message)
}

/// Whether `data` is a message down to its last byte, and of the everyday kind: what it takes on a strange port.
fn strict(data: &[u8]) -> bool {
    let Some(message) = sane(data) else {
        return false;
    };
    let Some(question) = message.question else {
        return false;
    };
    let header = &message.header;
    let [answers, authorities, _] = header.records;
    let like_a_request = answers == 0 && authorities == 0 && header.rcode() == 0;
    header.questions == 1
        && header.opcode() == 0
        && !header.reserved()
        && (header.response() || like_a_request)
        && question.name_len > 0
        && CLASSES.contains(&question.class())
        && message.is_whole()
}

fn probe_datagram(segment: &Segment<'_>) -> Probe {
    let ports = [segment.orig_port, segment.resp_port];
    if on_port(segment) {
        // One bad datagram must not hide the good ones that follow it.
        sane(segment.data).map_or(Probe::Unsure, |_| Probe::Certain)
    } else if !ports.iter().any(|port| LOOK_ALIKES.contains(port)) && strict(segment.data) {
        Probe::Certain
    } else {
        Probe::NotForUs
    }
}

fn probe_stream(segment: &Segment<'_>) -> Probe {
    let Some((length, rest)) = split_prefix(segment.data) else {
        return Probe::Unsure;
    };
    // Elsewhere than on its port two letters are text and not the length of a message.
    if length < HEADER_LEN || length > LONGEST_ELSEWHERE && !on_port(segment) {
        return Probe::NotForUs;
    }
    let message = rest.get(..length).unwrap_or(rest);
    let whole = message.len() == length;
    match Header::read(message) {
        Some(header) if !plausible(&header) => Probe::NotForUs,
        Some(_) if on_port(segment) && sane(message).is_some() => Probe::Certain,
        Some(_) if whole && !on_port(segment) && strict(message) => Probe::Certain,
        _ if whole => Probe::NotForUs,
        _ => Probe::Unsure,
    }
}

fn split_prefix(data: &[u8]) -> Option<(usize, &[u8])> {
    let (prefix, rest) = data.split_first_chunk::<PREFIX_LEN>()?;
    Some((usize::from(u16::from_be_bytes(*prefix)), rest))
}

/// Reports the message in `data`, if there is one.
fn report(data: &[u8], direction: Direction, out: &mut Vec<Transaction>) {
    out.extend(sane(data).map(|message| Transaction::Dns(message.summary(direction))));
}

/// Each datagram stands for itself: nothing to remember, and a bad one spoils nothing.
struct Datagrams;

impl Dissector for Datagrams {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        report(segment.data, segment.direction, out);
        Progress::More
    }
}

#[derive(Default)]
struct Stream {
    /// The start of a message (with its length) whose end hasn't come yet.
    partial: Both<Vec<u8>>,
}

impl Dissector for Stream {
    fn held(&self) -> usize {
        let Both { orig, resp } = &self.partial;
        orig.capacity().saturating_add(resp.capacity())
    }

    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let partial = self.partial.of(segment.direction);
        if segment.gap > 0 {
            return Progress::Desynced;
        }
        let mut data = segment.data;
        while !partial.is_empty() {
            let wanted = match split_prefix(partial) {
                None => PREFIX_LEN,
                Some((length, _)) if length < HEADER_LEN => return Progress::Desynced,
                Some((length, _)) => PREFIX_LEN.saturating_add(length),
            };
            let missing = wanted.saturating_sub(partial.len());
            if missing == 0 {
                let frame = std::mem::take(partial);
                report(
                    frame.get(PREFIX_LEN..).unwrap_or_default(),
                    segment.direction,
                    out,
                );
            } else if data.is_empty() {
                return Progress::More;
            } else {
                let (head, rest) = data.split_at_checked(missing).unwrap_or((data, &[]));
                if !buffer::append(partial, head, MAX_FRAME) {
                    return Progress::Desynced;
                }
                data = rest;
            }
        }
        while let Some((length, rest)) = split_prefix(data) {
            // Framing that can't hold a header is somebody else's.
            if length < HEADER_LEN {
                return Progress::Desynced;
            }
            let Some((message, rest)) = rest.split_at_checked(length) else {
                break;
            };
            report(message, segment.direction, out);
            data = rest;
        }
        if buffer::append(partial, data, MAX_FRAME) {
            Progress::More
        } else {
            Progress::Desynced
        }
    }
}
