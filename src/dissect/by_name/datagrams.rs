//! Probes of protocols over UDP: each datagram is here whole, or cut by the capture.

use super::streams::SIP;
use super::{
    Probe, Segment, be16, be32, element, is_kerberos, is_sun_rpc, is_syslog, ldap_operation, on,
    stun_length, sure,
};

fn starts(segment: &Segment<'_>, marks: &[&[u8]]) -> bool {
    marks.iter().any(|mark| segment.data.starts_with(mark))
}

/// With its cookie on any port, without (RFC 3489) on its own.
pub(super) fn stun(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let whole = |length: usize| length.saturating_add(20) == data.len();
    let old = || {
        on(segment, &[3478, 3479])
            && matches!(data, [0 | 1, 1..=2 | 0x11 | 0x12, ..])
            && be16(data, 2).is_some_and(|length| whole(length.into()))
    };
    sure(stun_length(data).is_some_and(whole) || old())
}

/// RFC 6347 4.1: a record, and the next one where it ends.
pub(super) fn dtls(segment: &Segment<'_>) -> Probe {
    let is = |data: &[u8]| matches!(data, [20..=25, 0xfe, 0xfd..=0xff, ..]);
    sure(are_records(segment.data, is))
}

/// Cisco's VPN and its kin: DTLS of a draft, whose version nobody else uses (OpenSSL's `DTLS1_BAD_VER`).
pub(super) fn anyconnect(segment: &Segment<'_>) -> Probe {
    let is = |data: &[u8]| matches!(data, [20..=23, 1, 0, 0, ..]);
    sure(are_records(segment.data, is))
}

fn are_records(data: &[u8], is_record: fn(&[u8]) -> bool) -> bool {
    let Some(length) = be16(data, 11) else {
        return false;
    };
    let end = usize::from(length).saturating_add(13);
    let next = data.get(end..).unwrap_or_default();
    // One that the capture cut is longer than what is here.
    is_record(data) && length > 0 && (next.is_empty() || is_record(next))
}

/// RFC 2131 2, with the cookie of its options.
pub(super) fn dhcp(segment: &Segment<'_>) -> Probe {
    sure(matches!(segment.data, [1 | 2, ..]) && be32(segment.data, 236) == Some(0x6382_5363))
}

pub(super) fn dhcpv6(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[546, 547]) && matches!(segment.data, [1..=13, _, _, _, ..]))
}

/// Versions 1 to 4; control messages are shorter.
pub(super) fn ntp(segment: &Segment<'_>) -> Probe {
    let Some(first) = segment.data.first() else {
        return sure(false);
    };
    let (version, mode) = (first.wrapping_shr(3) & 7, first & 7);
    let long_enough = match mode {
        6 | 7 => segment.data.len() >= 8,
        _ => segment.data.len() >= 48,
    };
    sure(on(segment, &[123]) && (1..=4).contains(&version) && long_enough)
}

pub(super) fn ssdp(segment: &Segment<'_>) -> Probe {
    let asks = starts(segment, &[b"M-SEARCH * HTTP/1.1", b"NOTIFY * HTTP/1.1"]);
    // Answers go to whatever port asked, and mostly come from another than 1900.
    let names = |field: &[u8]| {
        let mut lines = segment.data.split(|byte| *byte == b'\n');
        lines.any(|line| {
            line.get(..field.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(field))
        })
    };
    let answers = starts(segment, &[b"HTTP/1.1 200 "]) && names(b"ST:") && names(b"USN:");
    sure(asks || answers)
}

pub(super) fn sip(segment: &Segment<'_>) -> Probe {
    // Between calls, phones send empty lines to keep the way open.
    let alive = on(segment, &[5060])
        && segment
            .data
            .iter()
            .all(|byte| matches!(byte, b'\r' | b'\n' | 0));
    sure(starts(segment, SIP) || alive)
}

/// Versions 1, 2c and 3 (RFC 1157 4, RFC 3412 6).
pub(super) fn snmp(segment: &Segment<'_>) -> Probe {
    let is = || {
        let (message, _) = element(segment.data, 0x30)?;
        let (version, rest) = element(message, 2)?;
        let next = *rest.first()?;
        Some(matches!((version, next), ([0 | 1], 4) | ([3], 0x30)))
    };
    sure(is().unwrap_or(false))
}

pub(super) fn ldap(segment: &Segment<'_>) -> Probe {
    sure(ldap_operation(segment.data).is_some())
}

pub(super) fn kerberos(segment: &Segment<'_>) -> Probe {
    sure(is_kerberos(segment.data))
}

pub(super) fn netbios_names(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[137]) && segment.data.len() >= 12)
}

pub(super) fn netbios_datagrams(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[138]) && matches!(segment.data, [0x10..=0x16, ..]))
}

/// RFC 2865 3: the length it tells.
pub(super) fn radius(segment: &Segment<'_>) -> Probe {
    let ports = [1812, 1813, 1645, 1646, 3799];
    let length = be16(segment.data, 2).map_or(0, usize::from);
    let is = matches!(segment.data, [1..=5 | 11..=13 | 40..=45, ..]);
    sure(on(segment, &ports) && is && (20..=segment.data.len()).contains(&length))
}

/// The distributed hash table's messages, and the trackers' greeting (BEP 5, BEP 15).
pub(super) fn bittorrent(segment: &Segment<'_>) -> Probe {
    let marks: &[&[u8]] = &[
        b"d1:ad2:id20:",
        b"d1:rd2:id20:",
        b"d1:eli",
        b"d2:ip6:",
        b"BT-SEARCH * HTTP/1.1",
        &[0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0],
    ];
    sure(starts(segment, marks))
}

/// RFC 7348 5.
pub(super) fn vxlan(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[4789, 8472]) && matches!(segment.data, [8, 0, 0, 0, _, _, _, 0, ..]))
}

/// RFC 8926 3.4, with Ethernet or IP inside.
pub(super) fn geneve(segment: &Segment<'_>) -> Probe {
    let is = matches!(
        segment.data,
        [0..=0x3f, _, 0x65, 0x58, ..] | [0..=0x3f, _, 8, 0, ..]
    );
    sure(on(segment, &[6081]) && is)
}

/// Versions 1 and 2 of the control plane, 1 of the user's.
pub(super) fn gtp(segment: &Segment<'_>) -> Probe {
    sure(
        on(segment, &[2123, 2152, 3386])
            && matches!(segment.data, [0x0e..=0x1f | 0x28..=0x5f, _, _, _, ..]),
    )
}

/// RFC 7252 3: version 1, a token of up to 8 bytes, a code of a known class.
pub(super) fn coap(segment: &Segment<'_>) -> Probe {
    let is = match segment.data {
        [first, code, _, _, ..] => {
            (0x40..0x80).contains(first)
                && first & 0x0f <= 8
                && matches!(code, 0..=7 | 0x40..=0x5f | 0x80..=0x9f | 0xa0..=0xaf)
        }
        _ => false,
    };
    sure(on(segment, &[5683]) && is)
}

/// A request names a file and a mode (RFC 1350 5); what follows goes between other ports.
pub(super) fn tftp(segment: &Segment<'_>) -> Probe {
    let [0, 1 | 2, rest @ ..] = segment.data else {
        return sure(false);
    };
    let mut parts = rest.split(|byte| *byte == 0);
    let (name, mode) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let known = [&b"octet"[..], b"netascii", b"mail"];
    sure(!name.is_empty() && known.iter().any(|word| mode.eq_ignore_ascii_case(word)))
}

pub(super) fn sun_rpc(segment: &Segment<'_>) -> Probe {
    sure(is_sun_rpc(segment.data))
}

pub(super) fn bacnet(segment: &Segment<'_>) -> Probe {
    let length = be16(segment.data, 2).map(usize::from);
    sure(matches!(segment.data, [0x81, 0..=0x0c, ..]) && length == Some(segment.data.len()))
}

pub(super) fn ws_discovery(segment: &Segment<'_>) -> Probe {
    sure(on(segment, &[3702]) && starts(segment, &[b"<?xml", b"<soap", b"<s:Env"]))
}

/// `name:value|type` on its port.
pub(super) fn statsd(segment: &Segment<'_>) -> Probe {
    let line = segment
        .data
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let is = line.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && line.contains(&b':')
        && line
            .windows(2)
            .any(|two| matches!(two, b"|c" | b"|g" | b"|m" | b"|h" | b"|s" | b"|d"));
    sure(on(segment, &[8125]) && is)
}

pub(super) fn syslog(segment: &Segment<'_>) -> Probe {
    sure(is_syslog(segment.data))
}

/// RFC 3550 6.4: a report of its own length, alone or with others.
pub(super) fn rtcp(segment: &Segment<'_>) -> Probe {
    let words = be16(segment.data, 2).map_or(0, usize::from);
    let length = words.saturating_add(1).saturating_mul(4);
    let is = matches!(segment.data, [0x80..=0x9f, 200..=207, ..]);
    sure(is && length <= segment.data.len() && is_media(segment))
}

/// RFC 3550 5.1, of the types that are in use. Media have no fixed port, so any above the well-known ones will do.
pub(super) fn rtp(segment: &Segment<'_>) -> Probe {
    let is = matches!(
        segment.data,
        [0x80 | 0x90, kind, ..] if matches!(kind & 0x7f, 0 | 3 | 4 | 8 | 9 | 13 | 18 | 26 | 31..=34 | 96..=127)
    );
    sure(is && segment.data.len() > 12 && is_media(segment))
}

fn is_media(segment: &Segment<'_>) -> bool {
    segment.orig_port.min(segment.resp_port) > 1023
}
