//! What makes two packets belong to one conversation.

use std::net::IpAddr;

use super::Protocol;
use crate::address::NetworkId;

/// A conversation's key, the same for both directions: the lesser (address, port) comes first.
///
/// Addresses are held as IPv6 bits, IPv4 as mapped ones, so that a key is plain integers to hash and compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    low: Bits,
    high: Bits,
    low_port: u16,
    high_port: u16,
    network: NetworkId,
    protocol: Protocol,
}

impl FlowKey {
    /// The key of a packet from `src` to `dst`, and whether `src` is the key's lesser end.
    pub fn new(
        network: NetworkId,
        protocol: Protocol,
        (src, src_port): (IpAddr, u16),
        (dst, dst_port): (IpAddr, u16),
    ) -> (Self, bool) {
        let (from, to) = ((Bits::of(src), src_port), (Bits::of(dst), dst_port));
        let src_is_low = from <= to;
        let ((low, low_port), (high, high_port)) = if src_is_low { (from, to) } else { (to, from) };
        let key = Self {
            low,
            high,
            low_port,
            high_port,
            network,
            protocol,
        };
        (key, src_is_low)
    }

    /// The virtual network.
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The transport.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The lesser or the greater end.
    pub fn end(&self, low: bool) -> (IpAddr, u16) {
        let (bits, port) = if low {
            (self.low, self.low_port)
        } else {
            (self.high, self.high_port)
        };
        (bits.address(), port)
    }
}

/// An address as two integers, the greater half first: a `u128` would be aligned to twice as much, and every flow be larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Bits(u64, u64);

impl Bits {
    const fn of(ip: IpAddr) -> Self {
        let bits = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self((bits >> 64) as u64, bits as u64)
    }

    fn address(self) -> IpAddr {
        let Self(high, low) = self;
        let bits = u128::from(high) << 64 | u128::from(low);
        IpAddr::from(bits.to_be_bytes()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_share_a_key_and_ends_come_back() {
        let a = ("10.244.1.7".parse().unwrap(), 40000);
        let b = ("10.96.0.10".parse().unwrap(), 53);
        let (forth, a_low) = FlowKey::new(NetworkId(0), Protocol::Udp, a, b);
        let (back, b_low) = FlowKey::new(NetworkId(0), Protocol::Udp, b, a);
        assert_eq!(forth, back);
        assert_ne!(a_low, b_low);
        assert_eq!(forth.end(a_low), a);
        assert_eq!(forth.end(!a_low), b);
    }

    #[test]
    fn networks_and_protocols_keep_flows_apart() {
        let a = ("10.0.0.1".parse().unwrap(), 1);
        let b = ("10.0.0.2".parse().unwrap(), 2);
        let key = |network, protocol| FlowKey::new(NetworkId(network), protocol, a, b).0;
        assert_ne!(key(0, Protocol::Tcp), key(5, Protocol::Tcp));
        assert_ne!(key(0, Protocol::Tcp), key(0, Protocol::Udp));
    }
}
