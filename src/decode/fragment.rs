//! Fragments: which piece of which datagram an IP packet is, and datagrams that were put together again.

use std::net::IpAddr;

use etherparse::IpNumber;

use super::{Anomalies, Content, Input, IpPacket, Packet, Trust, Tunnel, network};
use crate::address::NetworkId;
use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;

/// The piece of a datagram that an IP packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment<'a> {
    /// Which datagram of those between its two ends.
    pub id: u32,
    /// What the datagram carries, by IANA number. In IPv6 only the first fragment's word counts (RFC 8200 4.5).
    pub protocol: u8,
    /// Where the piece belongs in the datagram's payload, in bytes.
    pub offset: u32,
    /// Whether another piece follows it.
    pub more: bool,
    /// The piece, as far as it was captured.
    pub data: &'a [u8],
    /// Its length on the wire; at least `data.len()`.
    pub len: u32,
}

/// What a header says of fragmentation, before the piece itself was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) id: u32,
    pub(super) protocol: u8,
    /// In units of 8 bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
    /// Where the piece begins, counted from the IP header.
    pub(super) at: usize,
}

impl Cut {
    /// The piece in `data`, an IP packet that had `wire_len` bytes on the wire.
    pub(super) fn fragment(self, data: &[u8], wire_len: usize) -> Fragment<'_> {
        let captured = data.get(..wire_len).unwrap_or(data);
        let piece = captured.get(self.at..).unwrap_or_default();
        Fragment {
            id: self.id,
            protocol: self.protocol,
            offset: u32::from(self.offset).wrapping_shl(3),
            more: self.more,
            data: piece,
            len: wire_len.saturating_sub(self.at) as u32,
        }
    }

    /// The first header that makes a fragment of an IPv6 packet (RFC 8200 4.5), among extension headers that begin `at`
    /// with one of type `first`. Headers of "atomic" fragments, the whole datagram in one, are passed over (RFC 6946).
    /// Walked here and not by etherparse's iterator, which in 0.21 reads past the end of a chain that was cut.
    pub(super) fn find(first: IpNumber, mut at: usize, mut headers: &[u8]) -> Option<Self> {
        const FRAGMENT_LEN: usize = 8;
        let mut kind = first;
        loop {
            let &[next, length, high, low] = headers.first_chunk::<4>()?;
            let units = usize::from(length);
            let size = match kind {
                IpNumber::IPV6_FRAGMENTATION_HEADER => {
                    let place = u16::from_be_bytes([high, low]);
                    let (offset, more) = (place >> 3, place & 1 != 0);
                    if offset != 0 || more {
                        let &[_, _, _, _, id @ ..] = headers.first_chunk::<FRAGMENT_LEN>()?;
                        return Some(Self {
                            id: u32::from_be_bytes(id),
                            protocol: next,
                            offset,
                            more,
                            at: at.saturating_add(FRAGMENT_LEN),
                        });
                    }
                    FRAGMENT_LEN
                }
                // RFC 4302 2.2: in 4-byte units, less two.
                IpNumber::AUTHENTICATION_HEADER => units.saturating_add(2).saturating_mul(4),
                _ => units.saturating_add(1).saturating_mul(8),
            };
            kind = IpNumber(next);
            headers = headers.get(size..)?;
            at = at.saturating_add(size);
        }
    }
}

/// What the fragments of a datagram have in common; the rest of their headers dies with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The number that tells the datagram from others between the two.
    pub id: u32,
    /// What it carries, by IANA number.
    pub protocol: u8,
    /// Time to live of one of its fragments.
    pub ttl: u8,
    /// The virtual network they were in.
    pub network: NetworkId,
    /// In what they came wrapped.
    pub tunnel: Option<Tunnel>,
}

impl Head {
    /// What can be said of a datagram by one of its fragments.
    pub const fn of(packet: &Packet<'_>, ip: &IpPacket<'_>, fragment: &Fragment<'_>) -> Self {
        Self {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol: fragment.protocol,
            ttl: ip.ttl,
            network: packet.network,
            tunnel: packet.tunnel,
        }
    }

    /// The longest payload that a header can announce.
    pub const fn max_len(&self) -> u32 {
        match self.src {
            IpAddr::V4(_) => (u16::MAX as u32).saturating_sub(IPV4_LEN),
            IpAddr::V6(_) => u16::MAX as u32,
        }
    }

    /// A header without options, for `len` bytes of payload. No checksum: nobody looks at it.
    fn write(&self, len: u32) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total = len.saturating_add(IPV4_LEN).min(u16::MAX.into()) as u16;
                let mut bytes = vec![0x45, 0];
                bytes.extend(total.to_be_bytes());
                bytes.extend((self.id as u16).to_be_bytes());
                bytes.extend([0, 0, self.ttl, self.protocol, 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes
            }
            (src, dst) => {
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend((len.min(u16::MAX.into()) as u16).to_be_bytes());
                bytes.extend([self.protocol, self.ttl]);
                bytes.extend(v6(src));
                bytes.extend(v6(dst));
                bytes
            }
        }
    }
}

const IPV4_LEN: u32 = 20;

const fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A datagram put together from fragments, behind a plain IP header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    head: Head,
    time: Timestamp,
    frames: u32,
    wire_len: u32,
    interface: u64,
    /// What was in front of the IP header, a header, the payload.
    bytes: Vec<u8>,
    link_len: usize,
    len: u32,
}

impl Datagram {
    /// The datagram of `head` whose payload had `len` bytes on the wire and begins with `payload`; the rest was not
    /// captured. It took `frames` frames of `wire_len` bytes together, the last of them at `time`; one of them was seen on
    /// `interface` behind `link` (see [`Packet::link`]).
    pub fn new<'p>(
        head: Head,
        time: Timestamp,
        (frames, wire_len): (u32, u32),
        (interface, link): (u64, &[u8]),
        len: u32,
        payload: impl Iterator<Item = &'p [u8]>,
    ) -> Self {
        let header = head.write(len);
        let len = len.saturating_add(header.len() as u32);
        let mut bytes = link.to_vec();
        bytes.extend(header);
        bytes.extend(payload.flatten());
        Self {
            head,
            time,
            frames,
            wire_len,
            interface,
            bytes,
            link_len: link.len(),
            len,
        }
    }

    /// When the last of its fragments came, or it was given up.
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Reads it as if it had never been in pieces.
    pub fn decode(&self, trusts: Trust<'_>) -> Packet<'_> {
        let mut packet = Packet {
            time: self.time,
            wire_len: self.wire_len,
            frames: self.frames,
            network: self.head.network,
            tunnel: self.head.tunnel,
            interface: self.interface,
            link: &[],
            content: Content::Undecodable,
            anomalies: Anomalies::default(),
        };
        let frame = Frame {
            time: self.time,
            link: LinkType::RawIp,
            wire_len: self.len,
            interface: 0,
            data: self.bytes.get(self.link_len..).unwrap_or_default(),
        };
        let whole = &self.bytes;
        let input = Input {
            frame,
            whole,
            trusts,
        };
        network::ip(&input, frame.data, &mut packet);
        packet
    }
}
