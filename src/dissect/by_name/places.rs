//! Probes of protocols that stay in one place: of networks' own machinery, of plants, phones and games. None matters to a
//! detection; each explains flows that would else be unknown.

use super::super::PROBE_WINDOW;
use super::{Probe, Segment, be16, be32, fits, on, starts, sure};

/// RFC 2608 8, RFC 2165 4: version, function, and the length it tells.
pub(super) fn service_location(segment: &Segment<'_>) -> Probe {
    let length = match *segment.data {
        [2, 1..=11, high, middle, low, ..] => u32::from_be_bytes([0, high, middle, low]) as usize,
        [1, 1..=10, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
        _ => return sure(false),
    };
    sure(on(segment, &[427]) && (12..=segment.data.len()).contains(&length))
}

/// Ethereum's search for peers: a hash, a signature, the kind of message, a list.
pub(super) fn ethereum(segment: &Segment<'_>) -> Probe {
    let kind = segment.data.get(97..99);
    sure(on(segment, &[30303]) && matches!(kind, Some([1..=6, 0xc0..=0xff])))
}

pub(super) fn oicq(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [2, _, _, 0, _, _, _, .., 3]);
    sure(on(segment, &[8000]) && is)
}

/// Dropbox looking for others in its network.
pub(super) fn dropbox(segment: &Segment<'_>) -> Probe {
    let names_itself = || {
        segment
            .data
            .windows(10)
            .take(PROBE_WINDOW)
            .any(|text| text == b"\"host_int\"")
    };
    sure(on(segment, &[17_500]) && segment.data.starts_with(b"{\"") && names_itself())
}

/// Parts with their type and length; the first is the host's name, or what signs or hides the rest.
pub(super) fn collectd(segment: &Segment<'_>) -> Probe {
    let is = matches!(be16(segment.data, 0), Some(0 | 0x200 | 0x210));
    sure(on(segment, &[25_826]) && is && be16(segment.data, 2).is_some_and(|length| length > 4))
}

pub(super) fn ubiquiti(segment: &Segment<'_>) -> Probe {
    let told = be16(segment.data, 2).map(|length| usize::from(length).saturating_add(4));
    let is = matches!(segment.data, [1, 0, ..] | [2, 6..=0x0b, ..]);
    sure(on(segment, &[10_001]) && is && told == Some(segment.data.len()))
}

/// RFC 2281 5, and the second version's groups.
pub(super) fn hsrp(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [0, 0..=3, ..] | [1, 40, 2, ..]);
    sure(on(segment, &[1985]) && is)
}

/// RFC 2453 4.
pub(super) fn rip(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[520, 521]) && matches!(segment.data, [1 | 2, 1 | 2, 0, 0, ..]))
}

/// RFC 8966 4.2: the magic number, the version, and the length it tells.
pub(super) fn babel(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [42, 2, ..]);
    sure(on(segment, &[6696]) && is)
}

/// Precision time, version 2, of the length it tells.
pub(super) fn ptp(segment: &Segment<'_>) -> Probe {
    let told = be16(segment.data, 2).map_or(0, usize::from);
    let is = matches!(segment.data, [_, version, ..] if version & 0x0f == 2);
    sure(on(segment, &[319, 320]) && is && (34..=segment.data.len()).contains(&told))
}

/// RFC 3435 3: a verb, or the code of an answer, with a number.
pub(super) fn mgcp(segment: &Segment<'_>) -> Probe {
    let verbs: &[&[u8]] = &[
        b"AUEP ", b"AUCX ", b"CRCX ", b"MDCX ", b"DLCX ", b"RQNT ", b"NTFY ", b"RSIP ", b"EPCF ",
    ];
    let answers = matches!(
        segment.data,
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', b'0'..=b'9', ..]
    );
    let asks = verbs.iter().any(|verb| segment.data.starts_with(verb));
    sure(on(segment, &[2427, 2727]) && (asks || answers))
}

/// Versions 5, 9 and 10 (IPFIX, RFC 7011 3.1).
pub(super) fn netflow(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [0, 5 | 9 | 10, ..]) && segment.data.len() >= 16;
    sure(on(segment, &[2055, 4739, 9555, 9995, 9996]) && is)
}

/// The mark of a game's offline messages.
pub(super) fn raknet(segment: &Segment<'_>) -> Probe {
    const MARK: &[u8] = b"\0\xff\xff\0\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78";
    let at = |place: usize| {
        segment
            .data
            .get(place..)
            .is_some_and(|rest| rest.starts_with(MARK))
    };
    sure(at(1) || at(9) || at(17))
}

/// A connectionless message of DCE's remote procedure calls, version 4.
pub(super) fn dcerpc_datagram(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [4, 0..=10, _, 0..=3, 0 | 0x10, 0..=3, 0, ..]);
    sure(is && segment.data.len() >= 80)
}

/// Thrift's compact protocol, as Jaeger's agents hear it: version 1, a kind, a number, and the name of a call.
pub(super) fn thrift_datagram(segment: &Segment<'_>) -> Probe {
    let [0x82, 0x21 | 0x41 | 0x61 | 0x81, rest @ ..] = segment.data else {
        return sure(false);
    };
    let number = rest
        .iter()
        .take(5)
        .take_while(|byte| **byte >= 0x80)
        .count();
    let name = rest
        .get(number.saturating_add(1)..)
        .and_then(|name| name.split_first());
    sure(name.is_some_and(|(length, name)| is_name(name, usize::from(*length))))
}

/// Thrift's binary protocol, bare or after a length: version 1, a kind, and the name of a call.
pub(super) fn thrift(segment: &Segment<'_>) -> Probe {
    let data = match *segment.data {
        [0, ..] => segment.data.get(4..).unwrap_or_default(),
        _ => segment.data,
    };
    match data {
        [0x80, 1, 0, 1..=4, name @ ..] => match be32(name, 0) {
            None => Probe::Unsure,
            Some(length) => {
                let name = name.get(4..).unwrap_or_default();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if name.len() < length && name.len() < 128 && length < 128 {
                    Probe::Unsure
                } else {
                    sure(is_name(name, length))
                }
            }
        },
        [] | [0x80] | [0x80, 1] | [0x80, 1, 0] => Probe::Unsure,
        _ => Probe::NotForUs,
    }
}

fn is_name(text: &[u8], length: usize) -> bool {
    let fits =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    (1..128).contains(&length) && text.get(..length).is_some_and(|name| name.iter().all(fits))
}

/// Between a web server and Tomcat: `\x12\x34` asks, `AB` answers, with a length and a kind.
pub(super) fn ajp(segment: &Segment<'_>) -> Probe {
    let asks = |data: &[u8]| matches!(data, [0x12, 0x34, _, _, 2 | 7 | 8 | 10, ..]);
    let answers = |data: &[u8]| matches!(data, [b'A', b'B', 0, _, 3..=6 | 9, ..]);
    let marks: &[&[u8]] = &[&[0x12, 0x34], b"AB\0"];
    match starts(segment.data, marks) {
        Probe::Certain if segment.data.len() < 5 => Probe::Unsure,
        Probe::Certain => sure(asks(segment.data) || answers(segment.data)),
        verdict => verdict,
    }
}

/// DB2's protocol: the client says what it knows (EXCSAT), the server answers in kind.
pub(super) fn drda(segment: &Segment<'_>) -> Probe {
    let any = |_: u8| true;
    let is: [fn(u8) -> bool; 10] = [
        any,
        any,
        |byte| byte == 0xd0,
        |byte| byte & 0x0f <= 5,
        any,
        any,
        any,
        any,
        |byte| matches!(byte, 0x10 | 0x14),
        |byte| matches!(byte, 0x41 | 0x43),
    ];
    fits(segment.data, &is)
}

/// IEC 60870-5-104 5: a start, a length, and what controls the link.
pub(super) fn iec104(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[2404]) {
        return Probe::NotForUs;
    }
    let is: [fn(u8) -> bool; 3] = [|byte| byte == 0x68, |byte| byte >= 4, |_| true];
    fits(segment.data, &is)
}

/// RFC 3977 5.1.
pub(super) fn nntp(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[119, 433]) {
        return Probe::NotForUs;
    }
    starts(
        segment.data,
        &[
            b"200 ",
            b"201 ",
            b"CAPABILITIES",
            b"MODE READER",
            b"GROUP ",
            b"LIST",
        ],
    )
}

/// A handshake of version 3: the time, then four zeros.
pub(super) fn rtmp(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[1935]) {
        return Probe::NotForUs;
    }
    let any = |_: u8| true;
    let is: [fn(u8) -> bool; 5] = [|byte| byte == 3, any, any, any, any];
    fits(segment.data, &is)
}

/// Calls over H.323: Q.931 in the envelope of RFC 1006.
pub(super) fn h323(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[1720]) {
        return Probe::NotForUs;
    }
    let is: [fn(u8) -> bool; 6] = [
        |byte| byte == 3,
        |byte| byte == 0,
        |_| true,
        |_| true,
        |byte| byte == 8,
        |byte| byte == 2,
    ];
    fits(segment.data, &is)
}

/// RFC 5036 3.1: version 1.
pub(super) fn label_distribution(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[646]) && matches!(segment.data, [0, 1, ..]) && segment.data.len() >= 10)
}

/// A signal to a radio's router (RFC 8175 11.1); over TCP messages have no mark.
pub(super) fn dlep(segment: &Segment<'_>) -> Probe {
    if on(segment, &[854]) {
        starts(segment.data, &[b"DLEP"])
    } else {
        Probe::NotForUs
    }
}

/// Instruments (IVI-6.1 2.3).
pub(super) fn hislip(segment: &Segment<'_>) -> Probe {
    if on(segment, &[4880]) {
        starts(segment.data, &[b"HS"])
    } else {
        Probe::NotForUs
    }
}

/// A frame of a power grid's measurements (IEEE C37.118.2 6.2): a mark, a kind with a version, and its length.
pub(super) fn synphasor(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[4712, 4713]) {
        return Probe::NotForUs;
    }
    let is: [fn(u8) -> bool; 3] = [
        |byte| byte == 0xaa,
        |byte| byte <= 0x52 && matches!(byte & 0x0f, 1 | 2),
        |_| true,
    ];
    fits(segment.data, &is)
}

/// RFC 9301 5: a request, reply, register or notification for a map of locators.
pub(super) fn locator(segment: &Segment<'_>) -> Probe {
    let is = matches!(segment.data, [0x10..=0x4f | 0x80..=0x8f, ..]);
    sure(on(segment, &[4342]) && is && segment.data.len() >= 16)
}
