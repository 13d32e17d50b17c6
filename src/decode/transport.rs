//! TCP, UDP, SCTP and ICMP headers: the fields that the flow table needs.

use std::net::IpAddr;

use etherparse::{IpNumber, LaxIpSlice, TcpHeaderSlice, UdpHeaderSlice};

use super::Anomalies;
use crate::address::{Mac, canonical};

/// A transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP, or SCTP (of which only the ports are read).
    Ports {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// ICMP of either version.
    Icmp(Icmp),
    /// A fragment that isn't the first: its ports are elsewhere.
    Fragment,
    /// A protocol without ports, or a header cut before them.
    Opaque,
}

/// A TCP header (RFC 9293).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte (or of SYN).
    pub seq: u32,
    /// Next sequence number expected from the other side, if ACK is set.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Receive window, unscaled.
    pub window: u16,
}

/// TCP control bits as on the wire, FIN lowest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset the connection.
    pub const RST: u8 = 1 << 2;
    /// Push.
    pub const PSH: u8 = 1 << 3;
    /// The acknowledgment field is valid.
    pub const ACK: u8 = 1 << 4;

    /// Whether any of `bits` is set.
    pub const fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Whether this opens a connection: SYN without ACK.
    pub const fn is_open(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Whether this accepts a connection: SYN with ACK.
    pub const fn is_accept(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }
}

/// An ICMP or ICMPv6 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// Echo identifier, 0 for other messages.
    pub id: u16,
    /// Echo sequence number, 0 for other messages.
    pub seq: u16,
    /// The packet an error message is about.
    pub quoted: Option<Quoted>,
    /// What an ICMPv6 neighbour message asks or says.
    pub neighbour: Option<Neighbour>,
}

/// A neighbour solicitation or advertisement (RFC 4861 4.3 and 4.4): IPv6's ARP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The address asked for, or spoken for.
    pub target: IpAddr,
    /// The Ethernet address at which the asker is, or the target.
    pub hardware: Option<Mac>,
    /// Whether it says something, and doesn't ask.
    pub reply: bool,
}

/// The packet that an ICMP error quotes: enough to find its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Its source.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Its source port.
    pub src_port: u16,
    /// Its destination port.
    pub dst_port: u16,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Options of neighbour messages.
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// Length of every ICMP header in front of an error's quoted packet.
const ICMP_ERROR_HEADER: usize = 8;

/// Reads the transport header at the start of `data` and returns it with its length. `wire_len` is how many bytes there
/// were on the wire from here.
pub(super) fn decode(
    protocol: IpNumber,
    data: &[u8],
    wire_len: usize,
    anomalies: &mut Anomalies,
) -> (Transport, usize) {
    match protocol.0 {
        TCP => tcp(data, wire_len, anomalies),
        UDP => match UdpHeaderSlice::from_slice(data) {
            Ok(header) => (
                Transport::Ports {
                    src_port: header.source_port(),
                    dst_port: header.destination_port(),
                },
                header.slice().len(),
            ),
            Err(_) => ports_only(data, 8, anomalies),
        },
        SCTP => ports_only(data, 12, anomalies),
        number @ (ICMP | ICMPV6) => icmp(number == ICMPV6, data, anomalies),
        _ => (Transport::Opaque, 0),
    }
}

fn tcp(data: &[u8], wire_len: usize, anomalies: &mut Anomalies) -> (Transport, usize) {
    if let Ok(header) = TcpHeaderSlice::from_slice(data) {
        let flags = data.get(13).copied().unwrap_or_default();
        let tcp = Tcp {
            src_port: header.source_port(),
            dst_port: header.destination_port(),
            seq: header.sequence_number(),
            ack: header.acknowledgment_number(),
            flags: TcpFlags(flags),
            window: header.window_size(),
        };
        return (Transport::Tcp(tcp), header.slice().len());
    }
    anomalies.insert(Anomalies::TRANSPORT);
    // Options cut by the snap length, or an impossible data offset: the fixed part still says what we need.
    let Some(&fixed) = data.first_chunk::<16>() else {
        return ports_only(data, 20, anomalies);
    };
    let [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        offset,
        flags,
        w0,
        w1,
    ] = fixed;
    let tcp = Tcp {
        src_port: u16::from_be_bytes([s0, s1]),
        dst_port: u16::from_be_bytes([d0, d1]),
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        ack: u32::from_be_bytes([a0, a1, a2, a3]),
        flags: TcpFlags(flags),
        window: u16::from_be_bytes([w0, w1]),
    };
    let header_len = usize::from(offset >> 4).saturating_mul(4).max(20);
    (Transport::Tcp(tcp), header_len.min(wire_len))
}

/// Ports are in the first four bytes of every transport that has them.
fn ports_only(data: &[u8], header_len: usize, anomalies: &mut Anomalies) -> (Transport, usize) {
    if data.len() < header_len {
        anomalies.insert(Anomalies::TRANSPORT);
    }
    match data.first_chunk::<4>() {
        Some(&[s0, s1, d0, d1]) => (
            Transport::Ports {
                src_port: u16::from_be_bytes([s0, s1]),
                dst_port: u16::from_be_bytes([d0, d1]),
            },
            header_len,
        ),
        None => (Transport::Opaque, 0),
    }
}

fn icmp(v6: bool, data: &[u8], anomalies: &mut Anomalies) -> (Transport, usize) {
    let Some(&[kind, code, _, _]) = data.first_chunk::<4>() else {
        anomalies.insert(Anomalies::TRANSPORT);
        return (Transport::Opaque, 0);
    };
    // Echo and the IPv4 time stamp, information and mask queries (RFC 792, RFC 950) carry an identifier.
    let query = if v6 {
        matches!(kind, 128 | 129)
    } else {
        matches!(kind, 0 | 8 | 13..=18)
    };
    let error = if v6 {
        kind < 128
    } else {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    };
    let (id, seq) = match data.get(4..).and_then(|at| at.first_chunk::<4>()) {
        Some(&[i0, i1, s0, s1]) if query => {
            (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]))
        }
        _ => (0, 0),
    };
    let icmp = Icmp {
        kind,
        code,
        id,
        seq,
        quoted: if error { quoted(data) } else { None },
        neighbour: if v6 { neighbour(kind, data) } else { None },
    };
    (Transport::Icmp(icmp), ICMP_ERROR_HEADER.min(data.len()))
}

fn neighbour(kind: u8, data: &[u8]) -> Option<Neighbour> {
    let reply = match kind {
        NEIGHBOUR_SOLICITATION => false,
        NEIGHBOUR_ADVERTISEMENT => true,
        _ => return None,
    };
    let wanted = if reply {
        TARGET_LINK_ADDRESS
    } else {
        SOURCE_LINK_ADDRESS
    };
    let (&target, mut options) = data.get(8..)?.split_first_chunk::<16>()?;
    let mut hardware = None;
    // Options count their length in eights of bytes.
    while let Some((&[kind, eights], _)) = options.split_first_chunk::<2>() {
        let Some((option, rest)) = options.split_at_checked(usize::from(eights) * 8) else {
            break;
        };
        if eights == 0 {
            break;
        }
        if kind == wanted && eights == 1 {
            hardware = option.get(2..).and_then(|at| at.first_chunk()).copied();
        }
        options = rest;
    }
    Some(Neighbour {
        target: IpAddr::from(target),
        hardware,
        reply,
    })
}

/// The addresses and ports of the packet inside an error message; it is nearly always cut short.
fn quoted(data: &[u8]) -> Option<Quoted> {
    let (slice, _) = LaxIpSlice::from_slice(data.get(ICMP_ERROR_HEADER..)?).ok()?;
    let &[s0, s1, d0, d1] = slice.payload().payload.first_chunk::<4>()?;
    Some(Quoted {
        src: canonical(slice.source_addr()),
        dst: canonical(slice.destination_addr()),
        protocol: slice.payload_ip_number().0,
        src_port: u16::from_be_bytes([s0, s1]),
        dst_port: u16::from_be_bytes([d0, d1]),
    })
}
