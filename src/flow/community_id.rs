//! Community ID, version 1: the flow hash that Zeek, Suricata and most SIEMs join on.
//!
//! Owns the hash and its rules on order and ICMP (<https://github.com/corelight/community-id-spec>). Knows no flow table:
//! it is a function of the tuple alone. VLANs and tunnels aren't part of it, so the same tuple in two networks has one id.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The seed that every sensor of a site must share; 0 is what they all default to.
const SEED: u16 = 0;

/// The Community ID of a flow, such as `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`; the same for both of its directions.
///
/// `protocol` is the IANA number. For ICMP and ICMPv6, `src_port` is the message type and `dst_port` its code, as in
/// `src`'s packet. Protocols without ports ignore both.
pub fn community_id(
    protocol: u8,
    src: IpAddr,
    src_port: u16,
    dst: IpAddr,
    dst_port: u16,
) -> String {
    let (ports, one_way) = match protocol {
        TCP | UDP | SCTP => (Some((src_port, dst_port)), false),
        ICMP | ICMPV6 => match counterpart(protocol, src_port) {
            Some(reply) => (Some((src_port, reply)), false),
            None => (Some((src_port, dst_port)), true),
        },
        _ => (None, false),
    };
    let (src_port, dst_port) = ports.unwrap_or((0, 0));
    // A message that nothing answers has a direction, and keeps it.
    let ordered = one_way || (src, src_port) <= (dst, dst_port);
    let (first, second) = if ordered {
        ((src, src_port), (dst, dst_port))
    } else {
        ((dst, dst_port), (src, src_port))
    };

    let mut hash = Sha1::new();
    hash.update(SEED.to_be_bytes());
    for (ip, _) in [first, second] {
        match ip {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
    }
    // The second byte pads the tuple to a multiple of 32 bits.
    hash.update([protocol, 0]);
    if ports.is_some() {
        hash.update(first.1.to_be_bytes());
        hash.update(second.1.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// The message type that answers an ICMP type, or that it answers. Requests and replies pair up as two ports do.
const fn counterpart(protocol: u8, kind: u16) -> Option<u16> {
    let other = match (protocol, kind) {
        // Echo, router discovery, timestamp, information, address mask (RFC 792, 950, 1256).
        (ICMP, 0) => 8,
        (ICMP, 8) => 0,
        (ICMP, 9) => 10,
        (ICMP, 10) => 9,
        (ICMP, 13) => 14,
        (ICMP, 14) => 13,
        (ICMP, 15) => 16,
        (ICMP, 16) => 15,
        (ICMP, 17) => 18,
        (ICMP, 18) => 17,
        // Echo, listener discovery, router and neighbour discovery, node information, home agent discovery
        // (RFC 4443, 2710, 4861, 4620, 6275).
        (ICMPV6, 128) => 129,
        (ICMPV6, 129) => 128,
        (ICMPV6, 130) => 131,
        (ICMPV6, 131) => 130,
        (ICMPV6, 133) => 134,
        (ICMPV6, 134) => 133,
        (ICMPV6, 135) => 136,
        (ICMPV6, 136) => 135,
        (ICMPV6, 139) => 140,
        (ICMPV6, 140) => 139,
        (ICMPV6, 144) => 145,
        (ICMPV6, 145) => 144,
        _ => return None,
    };
    Some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(protocol: u8, src: &str, src_port: u16, dst: &str, dst_port: u16) -> String {
        community_id(
            protocol,
            src.parse().unwrap(),
            src_port,
            dst.parse().unwrap(),
            dst_port,
        )
    }

    /// The values that the specification's own baseline lists for seed 0.
    #[test]
    fn agrees_with_the_published_baseline() {
        for (protocol, src, src_port, dst, dst_port, expected) in [
            (
                TCP,
                "128.232.110.120",
                34855,
                "66.35.250.204",
                80,
                "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            ),
            (
                TCP,
                "2001:470:e5bf:dead:4957:2174:e82c:4887",
                63943,
                "2607:f8b0:400c:c03::1a",
                25,
                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            ),
            (
                UDP,
                "192.168.1.52",
                54585,
                "8.8.8.8",
                53,
                "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            ),
            (
                SCTP,
                "192.168.170.8",
                7,
                "192.168.170.56",
                7,
                "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            ),
            (
                ICMP,
                "192.168.0.89",
                8,
                "192.168.0.1",
                0,
                "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
            ),
            (
                ICMPV6,
                "3ffe:507:0:1:200:86ff:fe05:80da",
                128,
                "3ffe:501:0:1001::2",
                0,
                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            ),
            // RSVP has no ports, so none are hashed.
            (
                46,
                "10.1.12.1",
                0,
                "10.1.12.2",
                0,
                "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=",
            ),
        ] {
            assert_eq!(id(protocol, src, src_port, dst, dst_port), expected);
            // An ICMP reply is its own type, not the ports swapped.
            let (back_src, back_dst) = match (protocol, src_port) {
                (ICMP, 8) => (0, 0),
                (ICMPV6, 128) => (129, 0),
                _ => (dst_port, src_port),
            };
            assert_eq!(
                id(protocol, dst, back_src, src, back_dst),
                expected,
                "reverse"
            );
        }
    }

    /// Errors and other unanswered messages hash in the direction they went.
    #[test]
    fn one_way_icmp_agrees_with_the_published_baseline() {
        assert_eq!(
            id(ICMP, "10.0.0.1", 11, "10.0.0.2", 0),
            "1:YHxtAirCG//0OzkcVAukqKQN9xM="
        );
        assert_ne!(
            id(ICMP, "10.0.0.2", 11, "10.0.0.1", 0),
            "1:YHxtAirCG//0OzkcVAukqKQN9xM="
        );
        assert_eq!(
            id(
                ICMPV6,
                "3ffe:501:1800:2345::2",
                3,
                "3ffe:507:0:1:200:86ff:fe05:80da",
                0
            ),
            "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="
        );
        // Two solicitations in opposite directions are two conversations.
        assert_eq!(
            id(
                ICMPV6,
                "fe80::200:86ff:fe05:80da",
                135,
                "fe80::260:97ff:fe07:69ea",
                0
            ),
            "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="
        );
        assert_eq!(
            id(
                ICMPV6,
                "fe80::260:97ff:fe07:69ea",
                135,
                "fe80::200:86ff:fe05:80da",
                0
            ),
            "1:zavyT/cezQr1fmImYCwYnMXbgck="
        );
    }
}
