//! Tunnels over UDP: VXLAN, GENEVE, GTP-U. A port alone proves nothing; each header has fields that must be right.

use super::{Bytes, ETHERNET, EtherType, TunnelKind, Wrap};

const VXLAN: u16 = 4789;
/// Linux' VXLAN port from before there was a standard; flannel and Cilium still use it.
const VXLAN_LINUX: u16 = 8472;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const GTP_U: u16 = 2152;

/// Extension headers of GTP-U followed at most; what is in use needs one.
const MAX_GTP_EXTENSIONS: usize = 4;

/// The wrap in a datagram to a port. Only the destination counts: the source port spreads flows over paths.
pub(super) fn read(dst_port: u16, bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    match dst_port {
        VXLAN | VXLAN_LINUX | VXLAN_GPE => vxlan(bytes),
        GENEVE => geneve(bytes),
        GTP_U => gtp(bytes),
        _ => None,
    }
}

/// RFC 7348 section 5. Its extensions for group policies (draft-smith-vxlan-group-policy) and for other payloads than
/// Ethernet (draft-ietf-nvo3-vxlan-gpe) say by a flag that they use what is reserved. Where anything else is not zero there,
/// Linux drops the packet, so that nobody would receive what is inside.
fn vxlan(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    let ([flags @ .., v0, v1, v2, 0], bytes) = bytes.take::<8>()? else {
        return None;
    };
    let inside = match flags {
        [0x08, 0, 0, 0] | [0x88, _, _, _] | [0x0c, 0, 0, 3] => ETHERNET,
        [0x0c, 0, 0, 1] => EtherType::IPV4,
        [0x0c, 0, 0, 2] => EtherType::IPV6,
        _ => return None,
    };
    Some(Wrap {
        kind: TunnelKind::Vxlan,
        id: u32::from_be_bytes([0, v0, v1, v2]),
        inside,
        bytes,
    })
}

/// RFC 8926 section 3.4: version 0; options, in 4-byte units, are for the tunnel's ends alone.
fn geneve(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    let ([first, _, t0, t1, v0, v1, v2, _], rest) = bytes.take::<8>()?;
    if first >> 6 != 0 {
        return None;
    }
    let inside = EtherType(u16::from_be_bytes([t0, t1]));
    let (ETHERNET | EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP) = inside else {
        return None;
    };
    Some(Wrap {
        kind: TunnelKind::Geneve,
        id: u32::from_be_bytes([0, v0, v1, v2]),
        inside,
        bytes: rest.skip(usize::from(first).saturating_mul(4))?,
    })
}

/// 3GPP TS 29.281 section 5: version 1, protocol type GTP, message type T-PDU.
fn gtp(bytes: Bytes<'_>) -> Option<Wrap<'_>> {
    const TPDU: u8 = 0xff;
    const EXTENSION: u8 = 1 << 2;
    const OPTIONAL: u8 = 0b111;
    let ([flags, TPDU, l0, l1, t0, t1, t2, t3], rest) = bytes.take::<8>()? else {
        return None;
    };
    if flags >> 4 != 0b0011 {
        return None;
    }
    let mut inside = rest.first(u16::from_be_bytes([l0, l1]).into())?;
    if flags & OPTIONAL != 0 {
        let ([.., mut next], mut rest) = inside.take::<4>()?;
        if flags & EXTENSION == 0 {
            next = 0;
        }
        for _ in 0..MAX_GTP_EXTENSIONS {
            if next == 0 {
                break;
            }
            // Length in 4-byte units, itself and the next header's type at the end included; never zero.
            let size = usize::from(*rest.captured.first()?).saturating_mul(4);
            next = *rest.captured.get(size.checked_sub(1)?)?;
            rest = rest.skip(size)?;
        }
        inside = (next == 0).then_some(rest)?;
    }
    Some(Wrap {
        kind: TunnelKind::Gtp,
        id: u32::from_be_bytes([t0, t1, t2, t3]),
        inside: inside.ip_version()?,
        bytes: inside,
    })
}
