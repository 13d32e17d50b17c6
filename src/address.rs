//! Addresses and the virtual networks they live in.

use std::net::IpAddr;

/// The virtual network in which an address means something: ranges of different VLANs may overlap.
///
/// Zero is the untagged network. VLAN tags are folded as `outer << 12 | inner`. Identifiers of overlays (VXLAN, GENEVE, …)
/// and VLAN tags around a tunnel are no part of it: container networks use them for other things, and the same packet is
/// seen with them on an uplink and without them on a bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct NetworkId(pub u32);

/// An Ethernet address.
pub type Mac = [u8; 6];

/// An address in the form used for every comparison: IPv4-mapped IPv6 (`::ffff:a.b.c.d`) becomes IPv4.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Whether an address can't be anybody's on the public internet: RFC 1918, shared (RFC 6598), loopback, link-local,
/// unique-local, unspecified.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_loopback()
                || v6.is_unspecified()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
        }
    }
}

/// Whether an address names a group rather than a host: multicast or limited broadcast.
pub fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_end_where_their_rfcs_say() {
        for (ip, private) in [
            ("10.0.0.1", true),
            ("172.15.255.255", false),
            ("172.16.0.0", true),
            ("172.32.0.0", false),
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.128.0.0", false),
            ("169.254.169.254", true),
            ("203.0.113.9", false),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(is_private(ip), private, "{ip}");
        }
    }

    #[test]
    fn mapped_addresses_fold() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(canonical(mapped), "10.1.2.3".parse::<IpAddr>().unwrap());
    }
}
