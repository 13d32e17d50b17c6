//! Services and masquerading as taps show them, and what only looks like it.

use proptest::prelude::*;

use super::*;
use crate::decode::{Anomalies, Content, Tcp, TcpFlags};
use crate::flow::{Chunk, ConnState, FlowConfig, FlowRecord, FlowStart, Interest, Outcome, Turn};

const POD: End = (IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 7)), 44094);
const NODE: End = (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 61_000);
const SERVICE: End = (IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 11)), 80);
const BACKEND: End = (IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 2, 9)), 8080);
const OTHER: End = (IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 2, 10)), 8080);

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Writes down flows, and what else they were seen as.
#[derive(Default)]
struct Recorder {
    known: Vec<IpAddr>,
    never: Vec<IpAddr>,
    started: Vec<FlowStart>,
    views: Vec<(u64, View)>,
    outcomes: Vec<(u64, Outcome)>,
    ended: Vec<FlowRecord>,
}

impl FlowSink for Recorder {
    type State = u64;

    fn opened(&mut self, start: &FlowStart) -> u64 {
        self.started.push(*start);
        start.id.0
    }

    fn translation(&self, _: Timestamp, _: NetworkId, a: IpAddr, b: IpAddr) -> Translation {
        if self.known.contains(&a) || self.known.contains(&b) {
            Translation::Known
        } else if self.never.contains(&a) && self.never.contains(&b) {
            Translation::Never
        } else {
            Translation::Possible
        }
    }

    fn seen_as(&mut self, id: &mut u64, view: &View) {
        self.views.push((*id, *view));
    }

    fn outcome(&mut self, id: &mut u64, _: Timestamp, outcome: Outcome) {
        self.outcomes.push((*id, outcome));
    }

    fn turn(&mut self, _: &mut u64, _: &Turn) {}

    fn payload(&mut self, _: &mut u64, _: &Chunk<'_>) -> Interest {
        Interest::More
    }

    fn ended(&mut self, _: u64, record: FlowRecord) {
        self.ended.push(record);
    }
}

/// Where a packet is seen: interface, link layer, TTL.
type Tap = (u64, &'static [u8], u8);
const VETH: Tap = (5, b"pod", 64);
const CNI0: Tap = (2, b"pod", 64);
const ROUTED: Tap = (2, b"bridge", 63);
const UPLINK: Tap = (7, b"node", 63);

struct Net {
    table: FlowTable<u64>,
    sink: Recorder,
    micros: i64,
    tap: Tap,
    id: u16,
}

impl Net {
    fn new() -> Self {
        Self {
            table: FlowTable::new(FlowConfig::default()),
            sink: Recorder::default(),
            micros: 0,
            tap: CNI0,
            id: 0,
        }
    }

    /// A packet a moment later.
    fn send(&mut self, src: End, dst: End, transport: Transport, header: &[u8], payload: &[u8]) {
        self.micros += 50;
        let (interface, link, ttl) = self.tap;
        let ip = IpPacket {
            src: src.0,
            dst: dst.0,
            ttl,
            id: self.id,
            protocol: if matches!(transport, Transport::Tcp(_)) {
                6
            } else {
                17
            },
            transport,
            header,
            fragment: None,
            payload,
            payload_len: payload.len() as u32,
        };
        let packet = Packet {
            time: Timestamp::from_nanos(1_772_442_000_000_000_000 + self.micros * 1_000),
            wire_len: 54 + ip.payload_len,
            frames: 1,
            network: NetworkId::default(),
            tunnel: None,
            interface,
            link,
            content: Content::Other,
            anomalies: Anomalies::default(),
        };
        self.table.packet(&packet, &ip, &mut self.sink);
    }

    fn tcp(&mut self, src: End, dst: End, (flags, seq, ack): (u8, u32, u32), payload: &[u8]) {
        let tcp = Tcp {
            src_port: src.1,
            dst_port: dst.1,
            seq,
            ack,
            flags: TcpFlags(flags),
            window: 512,
        };
        self.send(src, dst, Transport::Tcp(tcp), &[0; 20], payload);
    }

    fn udp(&mut self, src: End, dst: End, payload: &[u8]) {
        let ports = Transport::Ports {
            src_port: src.1,
            dst_port: dst.1,
        };
        self.send(src, dst, ports, &[0; 8], payload);
    }

    fn flows(&self) -> usize {
        self.sink.started.len()
    }

    /// The only flow's record, and the addresses it was seen under beside its first.
    fn only(mut self) -> (FlowRecord, Vec<(End, End, bool)>) {
        self.table.finish(&mut self.sink);
        assert_eq!(self.sink.ended.len(), 1);
        assert!(self.table.views.table.is_empty());
        let views = self
            .sink
            .views
            .iter()
            .map(|(_, view)| (view.orig, view.resp, view.behind));
        (self.sink.ended[0].clone(), views.collect())
    }
}

/// On a bridge, with the backend on another node: requests to the backend, answers from the service.
#[test]
fn a_handshake_in_two_halves_is_one_connection() {
    let mut net = Net::new();
    net.tcp(POD, BACKEND, (SYN, 100, 0), b"");
    net.tcp(SERVICE, POD, (SYN | ACK, 900, 101), b"");
    net.tcp(POD, BACKEND, (ACK, 101, 901), b"GET /");
    net.tcp(SERVICE, POD, (ACK, 901, 106), b"200");
    assert_eq!(net.sink.outcomes, [(0, Outcome::Answered)]);
    let (record, views) = net.only();
    assert_eq!(views, [(POD, SERVICE, false)]);
    assert_eq!((record.packets, record.payload_bytes), ([2, 2], [5, 3]));
    assert_eq!(record.state, ConnState::S1);
}

#[test]
fn a_refusal_by_the_service_address_is_the_outcome() {
    let mut net = Net::new();
    net.tcp(POD, BACKEND, (SYN, 100, 0), b"");
    net.tcp(SERVICE, POD, (RST | ACK, 0, 101), b"");
    assert_eq!(net.sink.outcomes, [(0, Outcome::Refused)]);
    assert_eq!(net.only().0.state, ConnState::Rej);
}

#[test]
fn halves_picked_up_midway_fit_by_their_numbers() {
    for swapped in [false, true] {
        let mut net = Net::new();
        let request = |net: &mut Net| net.tcp(POD, BACKEND, (ACK, 5_000, 70_000), b"more");
        let answer = |net: &mut Net| net.tcp(SERVICE, POD, (ACK, 70_000, 5_004), b"text");
        if swapped {
            answer(&mut net);
            request(&mut net);
        } else {
            request(&mut net);
            answer(&mut net);
        }
        let (record, views) = net.only();
        assert_eq!(record.packets, [1, 1]);
        let other = if swapped { BACKEND } else { SERVICE };
        assert_eq!(views, [(POD, other, swapped)]);
    }
    // Another connection of the same client.
    let mut net = Net::new();
    net.tcp(POD, BACKEND, (ACK, 5_000, 70_000), b"more");
    net.tcp(SERVICE, POD, (ACK, 99_000_000, 5_004), b"text");
    assert_eq!(net.flows(), 2);
    // An acceptance of something else.
    let mut net = Net::new();
    net.tcp(POD, BACKEND, (SYN, 100, 0), b"");
    net.tcp(SERVICE, POD, (SYN | ACK, 900, 5_101), b"");
    assert_eq!(net.flows(), 2);
}

#[test]
fn a_dns_answer_fits_its_query() {
    let (dns, backend) = ((SERVICE.0, 53), (BACKEND.0, 5353));
    let mut net = Net::new();
    net.udp(POD, backend, &[0xab, 1, 1, 0, 0, 1]);
    net.udp(dns, POD, &[0xab, 1, 0x81, 0x80, 0, 1]);
    net.udp(POD, backend, &[0xab, 2, 1, 0, 0, 1]);
    net.udp(dns, POD, &[0xab, 2, 0x81, 0x80, 0, 1]);
    let (record, views) = net.only();
    assert_eq!((record.packets, views), ([2, 2], vec![(POD, dns, false)]));

    for stranger in [[0xab, 9, 0x81, 0x80], [0xab, 1, 1, 0]] {
        let mut net = Net::new();
        net.udp(POD, backend, &[0xab, 1, 1, 0]);
        net.udp(dns, POD, &stranger);
        assert_eq!(net.flows(), 2);
    }
}

/// Of other datagrams nothing fits; the service has to be known.
#[test]
fn other_datagrams_need_a_service_that_is_known() {
    for known in [false, true] {
        for swapped in [false, true] {
            let mut net = Net::new();
            net.sink.known.extend(known.then_some(SERVICE.0));
            if swapped {
                net.udp(SERVICE, POD, b"pong");
                net.udp(POD, BACKEND, b"ping");
            } else {
                net.udp(POD, BACKEND, b"ping");
                net.udp(SERVICE, POD, b"pong");
            }
            assert_eq!(net.flows(), if known { 1 } else { 2 });
        }
    }
}

/// The client's interface shows the service, the bridge the backend, the uplink a masqueraded client.
#[test]
fn what_all_taps_show_is_one_connection_counted_once() {
    let mut net = Net::new();
    let way = [
        (VETH, POD, SERVICE),
        (CNI0, POD, BACKEND),
        (UPLINK, NODE, BACKEND),
    ];
    let exchange = [
        (SYN, 100, 0),
        (SYN | ACK, 900, 101),
        (ACK, 101, 901),
        (ACK, 901, 101),
    ];
    for (number, numbers) in exchange.into_iter().enumerate() {
        net.id += 1;
        let request = number % 2 == 0;
        for at in [0, 1, 2] {
            let (tap, client, server) = way[if request { at } else { 2 - at }];
            net.tap = tap;
            let (src, dst) = if request {
                (client, server)
            } else {
                (server, client)
            };
            net.tcp(src, dst, numbers, b"");
        }
    }
    let (record, views) = net.only();
    assert_eq!((record.packets, record.copies), ([2, 2], [4, 4]));
    assert_eq!(views, [(POD, BACKEND, true), (NODE, BACKEND, true)]);
}

/// On one interface, something that routes has to stand between.
#[test]
fn a_bridge_without_netfilter_shows_before_and_after() {
    let mut net = Net::new();
    net.tcp(POD, SERVICE, (SYN, 100, 0), b"");
    net.tap = ROUTED;
    net.tcp(POD, BACKEND, (SYN, 100, 0), b"");
    let (record, views) = net.only();
    assert_eq!((record.packets, record.copies), ([1, 0], [1, 0]));
    assert_eq!(views, [(POD, BACKEND, true)]);
}

/// A scanner that sends the same packet to one address after another.
#[test]
fn a_scan_with_nothing_but_the_address_changed_is_many_flows() {
    let mut net = Net::new();
    for host in 1..=200 {
        let target = (IpAddr::from([10, 244, 2, host]), 80);
        net.tcp(POD, target, (SYN, 0, 0), b"");
    }
    assert_eq!(net.flows(), 200);
    assert!(net.sink.views.is_empty());
    // A resolver that asks two servers at once, at every tap.
    let mut net = Net::new();
    for server in [BACKEND.0, OTHER.0] {
        for tap in [VETH, CNI0, UPLINK] {
            net.tap = tap;
            net.udp(POD, (server, 53), &[0xab, 1, 1, 0]);
        }
    }
    assert_eq!(net.flows(), 2);
}

#[test]
fn two_pods_are_two_pods() {
    let mut net = Net::new();
    net.sink.never = vec![BACKEND.0, OTHER.0];
    net.tcp(POD, BACKEND, (SYN, 100, 0), b"");
    net.tap = ROUTED;
    net.tcp(POD, OTHER, (SYN, 100, 0), b"");
    assert_eq!(net.flows(), 2);
    // Two replicas that say the same unnumbered words to one server.
    let mut net = Net::new();
    net.udp(POD, BACKEND, b"up:1|c");
    net.tap = UPLINK;
    net.udp((OTHER.0, 50_000), BACKEND, b"up:1|c");
    assert_eq!(net.flows(), 2);
}

/// A load balancer may translate both ends at once; time stamps tell that it is the same connection.
#[test]
fn both_ends_translated_at_once_need_time_stamps() {
    for (header, flows) in [(&[7; 40][..], 1), (&[7; 24][..], 2)] {
        let mut net = Net::new();
        let outside = (IpAddr::from([203, 0, 113, 9]), 50_123);
        for (tap, src, dst) in [
            (UPLINK, outside, (NODE.0, 30_080)),
            (CNI0, (NODE.0, 7_777), BACKEND),
        ] {
            let tcp = Tcp {
                src_port: src.1,
                dst_port: dst.1,
                seq: 100,
                ack: 0,
                flags: TcpFlags(SYN),
                window: 512,
            };
            net.tap = tap;
            net.send(src, dst, Transport::Tcp(tcp), header, b"");
        }
        assert_eq!(net.flows(), flows);
    }
}

/// Ports used again through the same service, and floods: no key outlives its flow.
#[test]
fn keys_go_with_their_flows() {
    let mut net = Net::new();
    for round in 0..500_u32 {
        let isn = round * 1_000;
        net.tcp(POD, BACKEND, (SYN, isn, 0), b"");
        net.tcp(SERVICE, POD, (SYN | ACK, 900, isn + 1), b"");
        assert_eq!(net.flows(), round as usize + 1);
        assert_eq!(net.table.views.table.len(), 1);
    }
    assert_eq!(net.sink.ended.len(), 499);
    assert!(net.sink.ended.iter().all(|record| record.packets == [1, 1]));
    // No more addresses than a flow may have.
    let mut net = Net::new();
    net.tcp(POD, SERVICE, (SYN, 100, 0), b"");
    for interface in 100..150 {
        net.tap = (interface, b"", 64);
        net.tcp(
            POD,
            (IpAddr::from([10, 244, 9, interface as u8]), 80),
            (SYN, 100, 0),
            b"",
        );
    }
    assert_eq!(net.flows(), 51_usize.div_ceil(1 + MAX_VIEWS));
    net.table.finish(&mut net.sink);
    assert!(net.table.views.table.is_empty());
}

proptest! {
    /// A connection counts the same whether its server has one address or two, one for each direction, and whichever half
    /// is seen first.
    #[test]
    fn stitching_is_symmetric(
        says in prop::collection::vec((any::<bool>(), 0_u8..60), 1..40),
        handshake in any::<bool>(),
        isn in any::<[u32; 2]>(),
    ) {
        let run = |asked: End, answers: End| {
            let mut net = Net::new();
            let [mut client, mut server] = isn;
            if handshake {
                net.tcp(POD, asked, (SYN, client, 0), b"");
                client = client.wrapping_add(1);
                net.tcp(answers, POD, (SYN | ACK, server, client), b"");
                server = server.wrapping_add(1);
            }
            for &(asks, len) in &says {
                net.id += 1;
                let text = vec![b'x'; usize::from(len)];
                if asks {
                    net.tcp(POD, asked, (ACK, client, server), &text);
                    client = client.wrapping_add(len.into());
                } else {
                    net.tcp(answers, POD, (ACK, server, client), &text);
                    server = server.wrapping_add(len.into());
                }
            }
            net.only().0
        };
        let plain = run(BACKEND, BACKEND);
        prop_assert_eq!(&run(BACKEND, SERVICE), &plain);
        prop_assert_eq!(&run(SERVICE, BACKEND), &plain);
    }
}
