//! Wrapped traffic: what lies inside a tunnel's packet, and the note that it was wrapped.
//!
//! A SPAN port or a node's uplink shows pods' traffic wrapped; everything after decoding wants the inner packet. A wrap is
//! believed only if its header is valid and an IP packet or an ARP message is inside; else the outer packet stays what it
//! is, so that nothing is lost by trying. A fragment of an outer packet is opened once the whole was put together.

mod gre;
mod label;
mod udp;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use etherparse::EtherType;

use super::{Anomalies, Content, Input, IpPacket, Packet, Transport, link};
use crate::address::NetworkId;
use crate::capture::Frame;

/// Wraps opened at most. A packet wrapped deeper is left as it is there, with [`Anomalies::NESTING`].
pub const MAX_DEPTH: u8 = 4;

/// The EtherType by which GRE and GENEVE announce a whole Ethernet frame (RFC 1701, "transparent Ethernet bridging").
const ETHERNET: EtherType = EtherType(0x6558);
const MPLS_UNICAST: EtherType = EtherType(0x8847);
const MPLS_MULTICAST: EtherType = EtherType(0x8848);
const PPPOE_SESSION: EtherType = EtherType(0x8864);

const IPV4: u8 = 4;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;

/// In what a packet came wrapped.
///
/// With several wraps, `kind` and `id` are those of the innermost, which is nearest to the workload, and `outer` are the
/// ends of the outermost, which are the machines whose link was watched.
///
/// The id names no [`NetworkId`]: it need not mean a network, nor be the same for both directions. Cilium puts the
/// sender's security identity there, flannel and Calico one number for the whole cluster, and the same packet can be seen
/// once wrapped on the uplink and once bare on the bridge; all of these are one conversation. Where ids do separate
/// tenants whose ranges overlap, captures of different tenants have to be read apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The innermost wrap.
    pub kind: TunnelKind,
    /// Its number: VXLAN or GENEVE network identifier, GRE key, tunnel endpoint identifier of GTP-U, bottom MPLS label,
    /// session of ERSPAN or PPPoE. Zero where there is none.
    pub id: u32,
    /// Source and destination of the outermost IP header. None if only labels or a PPPoE session wrap the packet.
    pub outer: Option<(IpAddr, IpAddr)>,
    /// How many wraps there were, at least 1 and at most [`MAX_DEPTH`].
    pub depth: u8,
}

/// Encapsulations that are opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelKind {
    /// VXLAN (RFC 7348), also with group policies or as VXLAN-GPE.
    Vxlan,
    /// GENEVE (RFC 8926).
    Geneve,
    /// GRE (RFC 2784, RFC 2890).
    Gre,
    /// ERSPAN of any type: a switch's mirror over GRE.
    Erspan,
    /// An IP packet right inside another, of whatever versions (RFC 2003, RFC 2473, RFC 4213).
    IpInIp,
    /// MPLS labels (RFC 3032), around IP or an Ethernet pseudowire (RFC 4448).
    Mpls,
    /// A PPPoE session (RFC 2516).
    Pppoe,
    /// GTP-U: user traffic of mobile networks (3GPP TS 29.281).
    Gtp,
}

impl TunnelKind {
    /// The word used in flow logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::IpInIp => "ip-in-ip",
            Self::Mpls => "mpls",
            Self::Pppoe => "pppoe",
            Self::Gtp => "gtp",
        }
    }
}

/// A wrap's header, read, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrap<'a> {
    kind: TunnelKind,
    id: u32,
    inside: EtherType,
    bytes: Bytes<'a>,
}

/// Bytes that were captured, and how many there were on the wire (at least as many).
#[derive(Clone, Copy, Debug)]
struct Bytes<'a> {
    captured: &'a [u8],
    wire_len: u32,
}

impl Bytes<'_> {
    /// The first `N` bytes and the rest.
    fn take<const N: usize>(self) -> Option<([u8; N], Self)> {
        let &head = self.captured.first_chunk::<N>()?;
        Some((head, self.skip(N)?))
    }

    fn skip(self, len: usize) -> Option<Self> {
        Some(Self {
            captured: self.captured.get(len..)?,
            wire_len: self.wire_len.checked_sub(u32::try_from(len).ok()?)?,
        })
    }

    /// The first `wire_len` bytes: what follows is padding. None if there weren't that many.
    fn first(self, wire_len: u32) -> Option<Self> {
        (wire_len <= self.wire_len).then(|| Self {
            captured: self
                .captured
                .get(..wire_len as usize)
                .unwrap_or(self.captured),
            wire_len,
        })
    }

    /// The EtherType for a bare IP packet, by its version.
    fn ip_version(self) -> Option<EtherType> {
        match self.captured.first()? >> 4 {
            4 => Some(EtherType::IPV4),
            6 => Some(EtherType::IPV6),
            _ => None,
        }
    }
}

/// The wrap that an IP packet's payload is, if its protocol or port says so and the header agrees.
pub(super) fn in_ip<'a>(ip: &IpPacket<'a>) -> Option<Wrap<'a>> {
    let bytes = Bytes {
        captured: ip.payload,
        wire_len: ip.payload_len,
    };
    // Most packets leave here, at the cost of a comparison or two.
    match (ip.protocol, &ip.transport) {
        (UDP, Transport::Ports { dst_port, .. }) => udp::read(*dst_port, bytes),
        (GRE, _) => gre::read(bytes),
        (IPV4, _) => Some(ip_in_ip(EtherType::IPV4, bytes)),
        (IPV6, _) => Some(ip_in_ip(EtherType::IPV6, bytes)),
        _ => None,
    }
}

/// The wrap that follows an EtherType of the link layer.
pub(super) fn in_link<'a>(
    frame: &Input<'_, 'a>,
    ether_type: EtherType,
    rest: &'a [u8],
) -> Option<Wrap<'a>> {
    let whole = Bytes {
        captured: frame.data,
        wire_len: frame.wire_len,
    };
    let bytes = whole.skip(frame.data.len().saturating_sub(rest.len()))?;
    match ether_type {
        MPLS_UNICAST | MPLS_MULTICAST => label::mpls(bytes),
        PPPOE_SESSION => label::pppoe(bytes),
        _ => None,
    }
}

const fn ip_in_ip(inside: EtherType, bytes: Bytes<'_>) -> Wrap<'_> {
    Wrap {
        kind: TunnelKind::IpInIp,
        id: 0,
        inside,
        bytes,
    }
}

/// Makes `packet` what is inside `wrap`, if that can be read; `outer` are the addresses of the IP header around it, if
/// there is one. Otherwise `packet` stays as it is.
pub(super) fn open<'a>(
    frame: &Input<'_, 'a>,
    wrap: Wrap<'a>,
    outer: Option<(IpAddr, IpAddr)>,
    packet: &mut Packet<'a>,
) {
    if outer.is_some_and(|(src, dst)| !(frame.trusts)(src, dst)) {
        packet.anomalies.insert(Anomalies::FORGED);
        return;
    }
    let around = packet.tunnel;
    let depth = around.map_or(0, |tunnel| tunnel.depth);
    if depth >= MAX_DEPTH {
        packet.anomalies.insert(Anomalies::NESTING);
        return;
    }
    // Tags of the transport network say nothing about what is tunnelled through it; an Ethernet frame inside has its own.
    let network = if outer.is_some() || wrap.inside == ETHERNET {
        NetworkId::default()
    } else {
        packet.network
    };
    let mut inner = Packet {
        network,
        content: Content::Undecodable,
        tunnel: Some(Tunnel {
            kind: wrap.kind,
            id: wrap.id,
            outer: around.and_then(|tunnel| tunnel.outer).or(outer),
            depth: depth.saturating_add(1),
        }),
        ..*packet
    };
    let inside = Input {
        frame: Frame {
            data: wrap.bytes.captured,
            wire_len: wrap.bytes.wire_len,
            ..frame.frame
        },
        whole: frame.whole,
        trusts: frame.trusts,
    };
    match wrap.inside {
        ETHERNET => link::ethernet(&inside, &mut inner),
        version @ (EtherType::IPV4 | EtherType::IPV6)
            if wrap.bytes.ip_version() != Some(version) => {}
        other => link::ether_payload(&inside, other, inside.data, &mut inner),
    }
    if matches!(inner.content, Content::Ip(_) | Content::Arp(_)) {
        *packet = inner;
    } else if inner.anomalies.contains(Anomalies::NESTING) {
        packet.anomalies.insert(Anomalies::NESTING);
    }
}
