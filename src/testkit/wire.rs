//! Single frames: Ethernet, IPv4 or IPv6, and what rides on them, with right lengths and checksums.
//!
//! Knows hosts and headers, no conversations.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, IpHeaders, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep, TcpHeader,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];
const UNKNOWN: Mac = [0; 6];
const ETHERNET_LEN: usize = 14;

/// An end of conversations, as the bridge sees it: a host beyond the bridge bears the bridge's own Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// Ethernet address that its frames bear at the bridge.
    pub mac: Mac,
    /// Its address.
    pub ip: IpAddr,
    /// Time to live that its packets have left at the bridge.
    pub ttl: u8,
    /// How long an answer takes from when the question passed the bridge.
    pub distance: Duration,
}

impl Host {
    fn v4(&self) -> Option<Ipv4Addr> {
        match self.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }
}

/// A TCP segment. `id` is the IPv4 identification.
///
/// # Panics
/// If it is too long for an IP packet.
pub fn tcp(from: &Host, to: &Host, id: u16, header: TcpHeader, payload: &[u8]) -> Vec<u8> {
    let builder = ip(from, to, id, IpNumber::TCP).tcp_header(header);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write_to_vec(&mut frame, payload)
        .expect("a segment fits an IP packet");
    frame
}

/// A UDP datagram with its source and destination ports.
///
/// # Panics
/// If it is too long for an IP packet.
pub fn udp(from: &Host, to: &Host, id: u16, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = ip(from, to, id, IpNumber::UDP).udp(ports.0, ports.1);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write_to_vec(&mut frame, payload)
        .expect("a datagram fits an IP packet");
    frame
}

/// An ICMP message for IPv4.
///
/// # Panics
/// If it is too long for an IP packet.
pub fn icmp(from: &Host, to: &Host, id: u16, kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let builder = ip(from, to, id, IpNumber::ICMP).icmpv4(kind);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write_to_vec(&mut frame, payload)
        .expect("a message fits an IP packet");
    frame
}

/// Asks the link who has `address`.
///
/// # Panics
/// If `from` has an IPv6 address.
pub fn arp_request(from: &Host, address: Ipv4Addr) -> Vec<u8> {
    let sender = from.v4().expect("ARP is for IPv4");
    let ask = (ArpOperation::REQUEST, from.mac, sender, UNKNOWN, address);
    arp(BROADCAST, ask)
}

/// Tells `to` that `from` has its address.
///
/// # Panics
/// If either has an IPv6 address.
pub fn arp_reply(from: &Host, to: &Host) -> Vec<u8> {
    let (sender, target) = (from.v4(), to.v4());
    let (sender, target) = sender.zip(target).expect("ARP is for IPv4");
    arp(
        to.mac,
        (ArpOperation::REPLY, from.mac, sender, to.mac, target),
    )
}

/// The copy that a bridge shows of a frame it routes back out to one of its own ports (netfilter on bridges): one hop
/// older, from the bridge to the next one.
pub fn forwarded(frame: &[u8], bridge: Mac, next: Mac) -> Vec<u8> {
    let mut copy = frame.to_vec();
    copy[..6].copy_from_slice(&next);
    copy[6..12].copy_from_slice(&bridge);
    let ip = &mut copy[ETHERNET_LEN..];
    if ip[0] >> 4 == 4 {
        ip[8] = ip[8].saturating_sub(1);
        let header_len = usize::from(ip[0] & 0x0f) * 4;
        ip[10..12].fill(0);
        let sum = checksum(&ip[..header_len]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[7] = ip[7].saturating_sub(1);
    }
    copy
}

/// The fragments of an IPv4 frame, each with at most `piece` bytes of the packet's payload.
///
/// # Panics
/// If `piece` is no multiple of 8, or the frame holds no whole IPv4 packet.
pub fn fragments(frame: &[u8], piece: usize) -> Vec<Vec<u8>> {
    assert!(
        piece > 0 && piece.is_multiple_of(8),
        "fragments come in units of 8 bytes"
    );
    let (link, ip) = frame.split_at(ETHERNET_LEN);
    let (header, payload) = ip.split_at(usize::from(ip[0] & 0x0f) * 4);
    let mut cut = Vec::new();
    for (number, part) in payload.chunks(piece).enumerate() {
        let offset = number * piece;
        let more = offset + part.len() < payload.len();
        let mut own = header.to_vec();
        let len = u16::try_from(header.len() + part.len()).expect("shorter than the whole");
        own[2..4].copy_from_slice(&len.to_be_bytes());
        let place = (offset / 8) as u16 | u16::from(more) << 13;
        own[6..8].copy_from_slice(&place.to_be_bytes());
        own[10..12].fill(0);
        let sum = checksum(&own);
        own[10..12].copy_from_slice(&sum.to_be_bytes());
        cut.push([link, &own, part].concat());
    }
    cut
}

fn ip(from: &Host, to: &Host, id: u16, protocol: IpNumber) -> PacketBuilderStep<IpHeaders> {
    let headers = match (from.ip, to.ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => IpHeaders::Ipv4(
            Ipv4Header {
                identification: id,
                dont_fragment: true,
                time_to_live: from.ttl,
                protocol,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            },
            etherparse::Ipv4Extensions::default(),
        ),
        (source, destination) => IpHeaders::Ipv6(
            Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: protocol,
                hop_limit: from.ttl,
                source: v6(source),
                destination: v6(destination),
            },
            etherparse::Ipv6Extensions::default(),
        ),
    };
    PacketBuilder::ethernet2(from.mac, to.mac).ip(headers)
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

type ArpMessage = (ArpOperation, Mac, Ipv4Addr, Mac, Ipv4Addr);

fn arp(to: Mac, (operation, sender_mac, sender, target_mac, target): ArpMessage) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender_mac,
        &sender.octets(),
        &target_mac,
        &target.octets(),
    )
    .expect("addresses of one length each");
    let builder = PacketBuilder::ethernet2(sender_mac, to).arp(packet);
    let mut frame = Vec::with_capacity(builder.size());
    builder
        .write_to_vec(&mut frame)
        .expect("an ARP message has a fixed size");
    frame
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Frame, LinkType};
    use crate::decode::{Content, Transport, decode};
    use crate::time::Timestamp;

    fn host(octet: u8, ip: &str) -> Host {
        Host {
            mac: [2, 0, 0, 0, 0, octet],
            ip: ip.parse().unwrap(),
            ttl: 64,
            distance: Duration::ZERO,
        }
    }

    fn content(bytes: &[u8]) -> Content<'_> {
        decode(&Frame {
            time: Timestamp::from_secs(0),
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            interface: 0,
            data: bytes,
        })
        .content
    }

    #[test]
    fn decode_reads_back_what_was_built() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            let (from, to) = (host(1, a), host(2, b));
            let frame = udp(&from, &to, 7, (40_000, 53), b"hello");
            let Content::Ip(ip) = content(&frame) else {
                panic!("{a}: no IP packet")
            };
            assert_eq!((ip.src, ip.dst, ip.ttl), (from.ip, to.ip, 64));
            assert_eq!(ip.payload, b"hello");
            assert!(matches!(
                ip.transport,
                Transport::Ports {
                    src_port: 40_000,
                    dst_port: 53
                }
            ));
        }
    }

    #[test]
    fn a_forwarded_copy_differs_by_its_hop_alone() {
        let (from, to) = (host(1, "10.0.0.1"), host(2, "10.0.0.2"));
        let header = TcpHeader::new(40_000, 80, 1, 512);
        let frame = tcp(&from, &to, 9, header, b"GET /");
        let copy = forwarded(&frame, [9; 6], [8; 6]);
        assert_eq!(copy[..12], [8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 9]);
        assert_eq!(copy[22], 63);
        assert_eq!(checksum(&copy[14..34]), 0, "header checksum must hold");
        assert_eq!(copy[34..], frame[34..]);
    }

    #[test]
    fn arp_asks_and_answers() {
        let (from, to) = (host(1, "10.0.0.1"), host(2, "10.0.0.2"));
        let asked = arp_request(&from, Ipv4Addr::new(10, 0, 0, 2));
        let Content::Arp(arp) = content(&asked) else {
            panic!("no ARP message")
        };
        assert_eq!((arp.sender, arp.target, arp.reply), (from.ip, to.ip, false));
        let answer = arp_reply(&to, &from);
        let Content::Arp(arp) = content(&answer) else {
            panic!("no ARP message")
        };
        assert_eq!((arp.sender, arp.target, arp.reply), (to.ip, from.ip, true));
    }
}
