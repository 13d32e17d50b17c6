//! GRE, and ERSPAN inside it.

use super::{Bytes, ETHERNET, EtherType, MPLS_MULTICAST, MPLS_UNICAST, TunnelKind, Wrap};

const CHECKSUM: u16 = 1 << 15;
const ROUTING: u16 = 1 << 14;
const KEY: u16 = 1 << 13;
const SEQUENCE: u16 = 1 << 12;
const VERSION: u16 = 0b111;

const ERSPAN: EtherType = EtherType(0x88be);
const ERSPAN_III: EtherType = EtherType(0x22eb);
/// Bits of an ERSPAN session's number.
const SESSION: u16 = 0x3ff;

/// RFC 2784 and RFC 2890. Source routes (RFC 1701) and version 1 (PPTP) are not followed.
pub(super) fn read(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    let ([f0, f1, t0, t1], mut rest) = bytes.take::<4>()?;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & (ROUTING | VERSION) != 0 {
        return None;
    }
    if flags & CHECKSUM != 0 {
        rest = rest.skip(4)?;
    }
    let mut id = 0;
    if flags & KEY != 0 {
        let (key, after) = rest.take::<4>()?;
        (id, rest) = (u32::from_be_bytes(key), after);
    }
    if flags & SEQUENCE != 0 {
        rest = rest.skip(4)?;
    }
    match EtherType(u16::from_be_bytes([t0, t1])) {
        inside @ (ETHERNET
        | EtherType::IPV4
        | EtherType::IPV6
        | EtherType::ARP
        | MPLS_UNICAST
        | MPLS_MULTICAST) => Some(Wrap {
            kind: TunnelKind::Gre,
            id,
            inside,
            bytes: rest,
        }),
        // Type I has no header of its own, and no sequence number to tell it by.
        ERSPAN if flags & SEQUENCE == 0 => Some(erspan(0, ETHERNET, rest)),
        ERSPAN => erspan_ii(rest),
        ERSPAN_III => erspan_iii(rest),
        _ => None,
    }
}

/// draft-foschiano-erspan 4.2: version 1 in 8 bytes.
fn erspan_ii(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    let ([version, _, s0, s1, ..], rest) = bytes.take::<8>()?;
    if version >> 4 != 1 {
        return None;
    }
    Some(erspan(u16::from_be_bytes([s0, s1]), ETHERNET, rest))
}

/// draft-foschiano-erspan 4.3: version 2 in 12 bytes, and 8 more if the last bit says so. The frame type is 0 for
/// Ethernet and 2 for a bare IP packet.
fn erspan_iii(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    const PLATFORM: u8 = 1;
    let ([version, _, s0, s1, _, _, _, _, _, _, kind, last], mut rest) = bytes.take::<12>()?;
    if version >> 4 != 2 {
        return None;
    }
    if last & PLATFORM != 0 {
        rest = rest.skip(8)?;
    }
    let inside = match (kind >> 2) & 0b1_1111 {
        0 => ETHERNET,
        2 => rest.ip_version()?,
        _ => return None,
    };
    Some(erspan(u16::from_be_bytes([s0, s1]), inside, rest))
}

/// `session` with the bits before it, which are of the mirrored frame.
const fn erspan(session: u16, inside: EtherType, bytes: Bytes<'_>) -> Wrap<'_> {
    Wrap {
        kind: TunnelKind::Erspan,
        id: (session & SESSION) as u32,
        inside,
        bytes,
    }
}
