//! Wraps below IP: MPLS labels and PPPoE sessions.

use super::{Bytes, ETHERNET, EtherType, TunnelKind, Wrap};

/// Labels read at most; provider networks stack two to four.
const MAX_LABELS: usize = 8;

/// RFC 3032. Labels don't say what follows them: IP is known by its header, and the rest may be an Ethernet pseudowire.
pub(super) fn mpls(mut bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    for _ in 0..MAX_LABELS {
        let (entry, rest) = bytes.take::<4>()?;
        bytes = rest;
        let entry = u32::from_be_bytes(entry);
        if entry & (1 << 8) != 0 {
            let (inside, bytes) = match ip(bytes) {
                Some(version) => (version, bytes),
                None => (ETHERNET, pseudowire(bytes)?),
            };
            return Some(Wrap {
                kind: TunnelKind::Mpls,
                id: entry >> 12,
                inside,
                bytes,
            });
        }
    }
    None
}

/// The version of an IP packet, whose length has to fit: the first byte alone may as well be that of a MAC address.
fn ip(bytes: Bytes<'_>) -> Option<EtherType> {
    let &[_, _, t0, t1, p0, p1] = bytes.captured.first_chunk()?;
    let version = bytes.ip_version()?;
    let len = if version == EtherType::IPV4 {
        u32::from(u16::from_be_bytes([t0, t1]))
    } else {
        u32::from(u16::from_be_bytes([p0, p1])).saturating_add(40)
    };
    (len <= bytes.wire_len).then_some(version)
}

/// The Ethernet frame of a pseudowire, after its control word if there is one (RFC 4448 4.6). No sender has a group
/// address.
fn pseudowire(bytes: Bytes<'_>) -> Option<Bytes<'_>> {
    const GROUP: u8 = 1;
    let frame = match bytes.captured {
        [0, 0, ..] => bytes.skip(4)?,
        _ => bytes,
    };
    (frame.captured.get(6)? & GROUP == 0).then_some(frame)
}

/// RFC 2516: version and type 1, code 0, session, length. Then the number of PPP's protocol, of which only those of IP matter
/// here; its first byte is left out where the ends agreed to that (RFC 1661 6.5).
pub(super) fn pppoe(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    let ([0x11, 0, s0, s1, l0, l1], rest) = bytes.take::<6>()? else {
        return None;
    };
    let frame = rest.first(u16::from_be_bytes([l0, l1]).into())?;
    let (inside, number_len) = match frame.captured {
        [0x00, 0x21, ..] => (EtherType::IPV4, 2),
        [0x00, 0x57, ..] => (EtherType::IPV6, 2),
        [0x21, ..] => (EtherType::IPV4, 1),
        [0x57, ..] => (EtherType::IPV6, 1),
        _ => return None,
    };
    Some(Wrap {
        kind: TunnelKind::Pppoe,
        id: u16::from_be_bytes([s0, s1]).into(),
        inside,
        bytes: frame.skip(number_len)?,
    })
}
