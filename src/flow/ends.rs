//! By which ports a packet finds its flow, and which of its ends began it.

use super::Protocol;
use crate::decode::{Icmp, IpPacket, Tcp, Transport};

/// The ports by which a packet finds its flow.
pub(super) struct Ends {
    pub(super) protocol: Protocol,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
}

impl Ends {
    pub(super) fn of(ip: &IpPacket<'_>) -> Self {
        let protocol = Protocol::from_number(ip.protocol);
        let (protocol, src_port, dst_port) = match ip.transport {
            Transport::Tcp(Tcp {
                src_port, dst_port, ..
            })
            | Transport::Ports { src_port, dst_port } => (protocol, src_port, dst_port),
            // Echo and its reply share the identifier; other messages keep to their type and code.
            Transport::Icmp(Icmp { id, .. }) if id != 0 => (protocol, id, id),
            Transport::Icmp(Icmp { kind, code, .. }) => {
                let kind = u16::from(query(kind)).wrapping_shl(8) | u16::from(code);
                (protocol, kind, kind)
            }
            Transport::Fragment | Transport::Opaque => (protocol, 0, 0),
        };
        Self {
            protocol,
            src_port,
            dst_port,
        }
    }
}

/// The request type of an echo pair, so that a reply with identifier 0 finds its request; other types unchanged.
pub(super) const fn query(kind: u8) -> u8 {
    match kind {
        0 => 8,
        129 => 128,
        other => other,
    }
}

/// Whether a flow's first packet comes from the end that began it. A capture may start in the middle of a conversation.
pub(super) fn begins(ip: &IpPacket<'_>, ends: &Ends) -> bool {
    match ip.transport {
        Transport::Tcp(tcp) if tcp.flags.is_open() => true,
        Transport::Tcp(tcp) if tcp.flags.is_accept() => false,
        Transport::Icmp(icmp) => !matches!(icmp.kind, 0 | 129),
        _ => rank(ends.src_port) >= rank(ends.dst_port),
    }
}

/// Servers listen low, clients call from high: well-known ports, then registered ones, then Linux's ephemeral range.
const fn rank(port: u16) -> u8 {
    match port {
        0..1024 => 0,
        1024..32768 => 1,
        32768.. => 2,
    }
}
