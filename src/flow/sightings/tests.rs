//! Copies at one place, at several, and what only looks like one.

use super::*;
use crate::address::NetworkId;
use crate::decode::{Anomalies, Content, Icmp, Tcp, TcpFlags};

const POD: &[u8] = b"pod's MAC";
const BRIDGE: &[u8] = b"bridge's MAC";

/// Where a packet is seen: interface, link layer, TTL.
type Tap = (u64, &'static [u8], u8);
const VETH: Tap = (5, POD, 64);
const CNI0: Tap = (2, POD, 64);
const ROUTED: Tap = (2, BRIDGE, 63);
const UPLINK: Tap = (7, BRIDGE, 63);

fn packet((interface, link, _): Tap, micros: i64) -> Packet<'static> {
    Packet {
        time: Timestamp::from_nanos(1_772_442_000_000_000_000 + micros * 1_000),
        wire_len: 100,
        frames: 1,
        network: NetworkId::default(),
        tunnel: None,
        interface,
        link,
        content: Content::Other,
        anomalies: Anomalies::default(),
    }
}

/// A datagram without a number, as Linux sends from a socket that isn't connected.
fn datagram(tap: Tap, payload: &[u8]) -> IpPacket<'_> {
    IpPacket {
        src: "10.244.1.7".parse().unwrap(),
        dst: "10.244.1.2".parse().unwrap(),
        ttl: tap.2,
        id: 0,
        protocol: 17,
        transport: Transport::Ports {
            src_port: 40000,
            dst_port: 53,
        },
        header: &[],
        fragment: None,
        payload,
        payload_len: payload.len() as u32,
    }
}

fn segment(tap: Tap, id: u16, seq: u32, options: &[u8]) -> IpPacket<'_> {
    IpPacket {
        id,
        protocol: 6,
        transport: Transport::Tcp(Tcp {
            src_port: 40000,
            dst_port: 80,
            seq,
            ack: 1,
            flags: TcpFlags(TcpFlags::ACK),
            window: 512,
        }),
        header: options,
        payload: b"x",
        payload_len: 1,
        ..datagram(tap, b"")
    }
}

/// Who sends the same to everybody makes nobody look through all of it for each packet.
#[test]
fn a_spray_of_equal_packets_is_looked_through_so_far_and_no_further() {
    let mut seen = Sightings::new(1024);
    let at = |tap, micros| Sightings::look(&seen, &packet(tap, micros), &datagram(tap, b"same"));
    let (first, again) = (at(VETH, 0), at(CNI0, 5));
    for slot in 0..500 {
        seen.remember(&first, slot);
    }
    assert!(seen.is_copy(&again, 499));
    assert!(!seen.is_copy(&again, 0));
}

struct Tape(Sightings);

impl Tape {
    fn new() -> Self {
        Self(Sightings::new(64))
    }

    fn copy(&mut self, tap: Tap, micros: i64, ip: &IpPacket<'_>) -> bool {
        let sight = self.0.look(&packet(tap, micros), ip);
        self.0.is_copy(&sight, 3)
    }

    fn query(&mut self, tap: Tap, micros: i64) -> bool {
        self.copy(tap, micros, &datagram(tap, b"the same query"))
    }
}

#[test]
fn a_packet_seen_along_its_way_counts_once() {
    let mut seen = Tape::new();
    assert!(!seen.query(VETH, 0));
    assert!(seen.query(CNI0, 2));
    assert!(seen.query(ROUTED, 4));
    assert!(seen.query(UPLINK, 30_000));
    // A mirror shows it twice at one place.
    assert!(seen.query(UPLINK, 30_500));
}

/// Senders that number nothing say the same thing again, and every time it goes its way past all taps.
#[test]
fn the_same_query_again_is_another_one() {
    let mut seen = Tape::new();
    for again in 0..5 {
        let micros = again * 5_000;
        assert!(!seen.query(VETH, micros), "{again}");
        assert!(seen.query(ROUTED, micros + 40), "{again}");
        assert!(seen.query(UPLINK, micros + 90), "{again}");
    }
}

#[test]
fn what_comes_too_late_is_no_copy() {
    let mut seen = Tape::new();
    assert!(!seen.query(VETH, 0));
    assert!(!seen.query(UPLINK, 60_000));
    // Clocks of two taps differ: order isn't what counts.
    assert!(seen.query(VETH, 59_000));
}

#[test]
fn other_flows_and_other_payloads_are_others() {
    let mut seen = Tape::new();
    assert!(!seen.query(VETH, 0));
    let sight = seen
        .0
        .look(&packet(CNI0, 1), &datagram(CNI0, b"the same query"));
    assert!(!seen.0.is_copy(&sight, 4));
    let long: Vec<u8> = (0..200).collect();
    for at in [0, 31, 199] {
        let mut other = long.clone();
        other[at] ^= 1;
        let mut seen = Tape::new();
        assert!(!seen.copy(VETH, 0, &datagram(VETH, &long)));
        assert!(!seen.copy(CNI0, 1, &datagram(CNI0, &other)), "{at}");
    }
}

/// A retransmission has a new number, and a new time stamp where the numbers are gone.
#[test]
fn a_retransmission_is_no_copy() {
    let (early, late) = ([1; 32], [2; 32]);
    let mut seen = Tape::new();
    assert!(!seen.copy(VETH, 0, &segment(VETH, 9, 100, &early)));
    assert!(seen.copy(CNI0, 3, &segment(CNI0, 9, 100, &early)));
    assert!(!seen.copy(VETH, 4_000, &segment(VETH, 10, 100, &early)));
    assert!(!seen.copy(VETH, 4_100, &segment(VETH, 9, 101, &early)));
    assert!(!seen.copy(VETH, 4_200, &segment(VETH, 9, 100, &late)));
}

#[test]
fn echo_requests_are_told_by_their_sequence_and_not_by_their_checksum() {
    let icmp = |header| IpPacket {
        protocol: 1,
        transport: Transport::Icmp(Icmp {
            kind: 8,
            code: 0,
            id: 7,
            seq: 1,
            quoted: None,
            neighbour: None,
        }),
        header,
        ..datagram(VETH, b"abcdefgh")
    };
    let mut seen = Tape::new();
    assert!(!seen.copy(VETH, 0, &icmp(&[8, 0, 1, 1, 0, 7, 0, 1])));
    assert!(seen.copy(CNI0, 1, &icmp(&[8, 0, 9, 9, 0, 7, 0, 1])));
    assert!(!seen.copy(CNI0, 2, &icmp(&[8, 0, 1, 1, 0, 7, 0, 2])));
}

/// The latest are remembered; one packet at ever new places takes no more than its share.
#[test]
fn memory_is_fixed_and_the_oldest_goes() {
    let mut seen = Tape::new();
    for number in 0..10_000_u32 {
        assert!(!seen.copy(VETH, 0, &segment(VETH, 1, number, &[])));
    }
    for number in (10_000 - 64..10_000_u32).rev() {
        assert!(
            seen.copy(VETH, 1, &segment(VETH, 1, number, &[])),
            "{number}"
        );
    }
    assert!(!seen.copy(VETH, 1, &segment(VETH, 1, 10_000 - 65, &[])));

    for ttl in 0..200 {
        let tap = (0, POD, ttl);
        assert_eq!(seen.copy(tap, 0, &datagram(tap, b"everywhere")), ttl > 0);
    }
    let sight = seen
        .0
        .look(&packet(VETH, 0), &datagram(VETH, b"everywhere"));
    assert_eq!(seen.0.of(&sight, 3).count(), MAX_TAPS);
}

/// Addresses are changed between two interfaces, or by something that routes.
#[test]
fn elsewhere_is_another_interface_or_a_hop_further() {
    let another = |first: Tap, second: Tap| {
        let mut seen = Tape::new();
        seen.copy(first, 0, &datagram(first, b"x"));
        let sight = seen.0.look(&packet(second, 9), &datagram(second, b"x"));
        seen.0.elsewhere(&sight)
    };
    assert_eq!(another(VETH, CNI0), Some(3));
    assert_eq!(another(UPLINK, VETH), Some(3));
    assert_eq!(another(CNI0, ROUTED), Some(3));
    assert_eq!(another(CNI0, CNI0), None);
    // As merging files numbers interfaces.
    let of_file = |number: u64| (number << 48, POD, 64);
    assert_eq!(another(of_file(0), of_file(1)), Some(3));
    assert_eq!(another(of_file(2), of_file(1)), Some(3));
    assert_eq!(another(CNI0, (2, BRIDGE, 64)), None);
    assert_eq!(another(ROUTED, CNI0), None);
    // Seen at its very place, it is another packet, even if the former was seen further on too.
    let mut seen = Tape::new();
    seen.query(VETH, 0);
    seen.query(UPLINK, 9);
    let sight = seen
        .0
        .look(&packet(VETH, 20), &datagram(VETH, b"the same query"));
    assert_eq!(seen.0.elsewhere(&sight), None);
    // Whatever its TTL, too: a scanner gives each probe another, and by chance the number of one before.
    let probe = (VETH.0, VETH.1, 41);
    let sight = seen
        .0
        .look(&packet(probe, 20), &datagram(probe, b"the same query"));
    assert_eq!(seen.0.elsewhere(&sight), None);
}
