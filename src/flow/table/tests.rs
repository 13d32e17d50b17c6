//! Conversations played packet by packet, and properties over random ones.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::address::NetworkId;
use crate::decode::{Anomalies, Content, Tcp, TcpFlags};
use crate::flow::ConnState;

/// Writes down what the table says.
#[derive(Default)]
struct Recorder {
    started: Vec<FlowStart>,
    outcomes: BTreeMap<u64, Outcome>,
    payload: BTreeMap<(u64, Direction), Vec<u8>>,
    turned: BTreeMap<u64, [u64; 2]>,
    ended: Vec<(u64, FlowRecord)>,
    /// Whether flows to port 53 are questions.
    settles: bool,
}

impl FlowSink for Recorder {
    type State = u64;

    fn opened(&mut self, start: &FlowStart) -> u64 {
        self.started.push(*start);
        start.id.0
    }

    fn outcome(&mut self, id: &mut u64, _: Timestamp, outcome: Outcome) {
        assert!(
            self.outcomes.insert(*id, outcome).is_none(),
            "one outcome a flow"
        );
    }

    fn turn(&mut self, id: &mut u64, turn: &Turn) {
        assert!(turn.start <= turn.end && turn.smallest <= turn.largest);
        assert!(turn.packets > 0 && turn.bytes >= u64::from(turn.largest));
        self.turned.entry(*id).or_default()[turn.direction as usize] += turn.bytes;
    }

    fn payload(&mut self, id: &mut u64, chunk: &Chunk<'_>) -> Interest {
        self.payload
            .entry((*id, chunk.direction))
            .or_default()
            .extend(chunk.data);
        Interest::More
    }

    fn is_settled(&self, id: &u64) -> bool {
        self.settles && self.started[*id as usize].resp.1 == 53
    }

    fn ended(&mut self, id: u64, record: FlowRecord) {
        // Every payload byte was part of one turn.
        let turned = self.turned.remove(&id).unwrap_or_default();
        assert_eq!(turned, record.payload_bytes);
        self.ended.push((id, record));
    }
}

const CLIENT: &str = "10.244.1.7";
const SERVER: &str = "10.244.1.3";
const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;
const FIN: u8 = TcpFlags::FIN;

fn send(
    table: &mut FlowTable<u64>,
    sink: &mut Recorder,
    secs: f64,
    from_client: bool,
    tcp: (u32, u8),
    data: &[u8],
) {
    let client = (CLIENT.parse().unwrap(), 40000);
    let server = (SERVER.parse().unwrap(), 5432);
    let ((src, src_port), (dst, dst_port)) = if from_client {
        (client, server)
    } else {
        (server, client)
    };
    let ip = IpPacket {
        src,
        dst,
        ttl: 64,
        id: 0,
        protocol: 6,
        transport: Transport::Tcp(Tcp {
            src_port,
            dst_port,
            seq: tcp.0,
            ack: 0,
            flags: TcpFlags(tcp.1),
            window: 0,
        }),
        header: &[],
        fragment: None,
        payload: data,
        payload_len: data.len() as u32,
    };
    push(table, sink, secs, ip);
}

fn push(table: &mut FlowTable<u64>, sink: &mut Recorder, secs: f64, ip: IpPacket<'_>) {
    let packet = Packet {
        time: Timestamp::from_secs_f64(secs),
        wire_len: 54 + ip.payload_len,
        frames: 1,
        network: NetworkId::default(),
        tunnel: None,
        interface: 0,
        link: &[],
        content: Content::Ip(ip.clone()),
        anomalies: Anomalies::default(),
    };
    table.packet(&packet, &ip, sink);
}

fn udp<'a>(src: (&str, u16), dst: (&str, u16), data: &'a [u8]) -> IpPacket<'a> {
    IpPacket {
        src: src.0.parse().unwrap(),
        dst: dst.0.parse().unwrap(),
        ttl: 64,
        id: 0,
        protocol: 17,
        transport: Transport::Ports {
            src_port: src.1,
            dst_port: dst.1,
        },
        header: &[],
        fragment: None,
        payload: data,
        payload_len: data.len() as u32,
    }
}

fn table() -> (FlowTable<u64>, Recorder) {
    (FlowTable::new(FlowConfig::default()), Recorder::default())
}

#[test]
fn a_whole_connection() {
    let (mut table, mut sink) = table();
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    send(&mut table, &mut sink, 1.1, false, (900, SYN | ACK), b"");
    send(&mut table, &mut sink, 1.2, true, (101, ACK), b"select 1");
    send(&mut table, &mut sink, 1.3, false, (901, ACK), b"row");
    send(&mut table, &mut sink, 1.4, true, (109, FIN | ACK), b"");
    send(&mut table, &mut sink, 1.5, false, (904, FIN | ACK), b"");
    send(&mut table, &mut sink, 30.0, true, (5000, SYN), b""); // the same ports again, later
    assert_eq!(sink.outcomes[&0], Outcome::Answered);
    assert_eq!(sink.payload[&(0, Direction::Orig)], b"select 1");
    assert_eq!(sink.payload[&(0, Direction::Resp)], b"row");
    let (id, record) = &sink.ended[0];
    assert_eq!(
        (*id, record.state, record.reason),
        (0, ConnState::Sf, EndReason::Closed)
    );
    assert_eq!((record.packets, record.payload_bytes), ([3, 3], [8, 3]));
    assert_eq!(sink.started.len(), 2);
    assert_eq!(sink.started[0].orig.0.to_string(), CLIENT);
}

#[test]
fn what_is_sent_again_is_repeated_and_what_is_seen_again_a_copy() {
    let (mut table, mut sink) = table();
    for time in [1.0, 2.0, 2.0] {
        send(&mut table, &mut sink, time, true, (100, SYN), b"");
    }
    for time in [3.0, 3.0, 3.4] {
        send(&mut table, &mut sink, time, true, (101, ACK), b"abc");
    }
    table.finish(&mut sink);
    let (_, record) = &sink.ended[0];
    assert_eq!(
        (record.payload_bytes, record.repeated_bytes),
        ([3, 0], [3, 0])
    );
    assert_eq!((record.packets, record.copies), ([4, 0], [2, 0]));
    assert_eq!(record.copied_bytes, [54 + 57, 0]);
    assert_eq!(table.copies(), 2);
    assert_eq!(sink.ended.len(), 1);
}

#[test]
fn outcomes() {
    let (mut table, mut sink) = table();
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    send(&mut table, &mut sink, 1.1, false, (0, RST | ACK), b"");
    assert_eq!(sink.outcomes[&0], Outcome::Refused);
    send(&mut table, &mut sink, 2.0, true, (200, SYN), b""); // a new attempt on the same ports
    push(
        &mut table,
        &mut sink,
        7.5,
        udp(("10.0.0.1", 1), ("10.0.0.2", 2), b"x"),
    );
    assert_eq!(sink.outcomes[&1], Outcome::Silent);
    assert!(!sink.outcomes.contains_key(&2), "UDP is given more time");
    table.advance(Timestamp::from_secs(18), &mut sink);
    assert_eq!(sink.outcomes[&2], Outcome::Silent);
    table.advance(Timestamp::from_secs(100), &mut sink);
    assert_eq!(sink.ended[0].1.state, ConnState::Rej);
    send(&mut table, &mut sink, 101.0, true, (300, SYN), b"");
    table.finish(&mut sink);
    assert!(
        !sink.outcomes.contains_key(&3),
        "the capture ended before an answer was due"
    );
}

#[test]
fn datagrams_that_go_on_without_an_answer_are_no_question() {
    let (mut table, mut sink) = table();
    for n in 0..8 {
        let datagram = udp(("10.0.0.1", 40_000), ("10.0.0.2", 8125), b"hits:1|c");
        push(&mut table, &mut sink, f64::from(n), datagram);
    }
    table.advance(Timestamp::from_secs(200), &mut sink);
    assert_eq!(sink.ended.len(), 1);
    assert!(sink.outcomes.is_empty());
}

#[test]
fn at_the_end_a_second_of_silence_is_enough() {
    let (mut table, mut sink) = table();
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    table.advance(Timestamp::from_secs_f64(2.5), &mut sink);
    assert!(sink.outcomes.is_empty());
    table.finish(&mut sink);
    assert_eq!(sink.outcomes[&0], Outcome::Silent);
}

#[test]
fn who_closed_just_before_the_end_had_closed() {
    let (mut table, mut sink) = table();
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    send(&mut table, &mut sink, 1.1, false, (900, SYN | ACK), b"");
    send(&mut table, &mut sink, 1.4, true, (101, FIN | ACK), b"");
    table.finish(&mut sink);
    assert_eq!(sink.ended[0].1.reason, EndReason::CaptureEnd);

    let (mut table, mut sink) = self::table();
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    send(&mut table, &mut sink, 1.1, false, (900, SYN | ACK), b"");
    send(&mut table, &mut sink, 1.4, true, (101, FIN | ACK), b"");
    send(&mut table, &mut sink, 1.5, false, (901, FIN | ACK), b"");
    table.finish(&mut sink);
    assert_eq!(sink.ended[0].1.reason, EndReason::Closed);
}

#[test]
fn who_acknowledges_was_answered_even_if_only_one_direction_was_captured() {
    for (packets, expected) in [
        (vec![(100, SYN), (101, ACK)], Outcome::Answered),
        (vec![(500, ACK | 8)], Outcome::Answered),
        (vec![(100, SYN), (101, RST | ACK)], Outcome::Silent),
        (vec![(100, FIN | ACK)], Outcome::Silent),
    ] {
        let (mut table, mut sink) = table();
        for &(seq, flags) in &packets {
            let data: &[u8] = if flags & 8 == 0 { b"" } else { b"GET" };
            send(&mut table, &mut sink, 1.0, true, (seq, flags), data);
        }
        table.advance(Timestamp::from_secs(9), &mut sink);
        assert_eq!(sink.outcomes[&0], expected, "{packets:?}");
    }
}

#[test]
fn an_icmp_error_is_the_outcome_of_the_flow_it_quotes() {
    let (mut table, mut sink) = table();
    push(
        &mut table,
        &mut sink,
        1.0,
        udp(("10.244.1.7", 40000), ("10.244.1.3", 161), b"x"),
    );
    let error = IpPacket {
        protocol: 1,
        transport: Transport::Icmp(Icmp {
            kind: 3,
            code: 3,
            id: 0,
            seq: 0,
            quoted: Some(Quoted {
                src: "10.244.1.7".parse().unwrap(),
                dst: "10.244.1.3".parse().unwrap(),
                protocol: 17,
                src_port: 40000,
                dst_port: 161,
            }),
            neighbour: None,
        }),
        ..udp(("10.244.1.3", 0), ("10.244.1.7", 0), b"")
    };
    push(&mut table, &mut sink, 1.1, error);
    assert_eq!(sink.outcomes[&0], Outcome::Unreachable);
}

#[test]
fn who_began_is_guessed_from_ports_when_the_start_is_missing() {
    let (mut table, mut sink) = table();
    send(&mut table, &mut sink, 1.0, false, (900, ACK), b"row"); // server speaks first in the capture
    assert_eq!(sink.started[0].orig.0.to_string(), CLIENT);
    push(
        &mut table,
        &mut sink,
        1.0,
        udp(("10.96.0.10", 53), ("10.244.1.9", 51000), b"x"),
    );
    assert_eq!(sink.started[1].orig.0.to_string(), "10.244.1.9");
}

#[test]
fn idle_flows_end_at_their_time_out() {
    let (mut table, mut sink) = table();
    push(
        &mut table,
        &mut sink,
        0.0,
        udp(("10.0.0.1", 1000), ("10.0.0.2", 53), b"x"),
    );
    table.advance(Timestamp::from_secs(50), &mut sink);
    assert_eq!(table.len(), 1);
    table.advance(Timestamp::from_secs(70), &mut sink);
    assert_eq!(table.len(), 0);
    assert_eq!(sink.ended[0].1.reason, EndReason::Idle);
}

#[test]
fn a_question_that_was_answered_ends_soon_after() {
    let (mut table, mut sink) = table();
    sink.settles = true;
    let (client, resolver, clock) = (("10.0.0.1", 1000), ("10.0.0.2", 53), ("10.0.0.2", 123));
    for server in [resolver, clock] {
        push(&mut table, &mut sink, 0.0, udp(client, server, b"?"));
        push(&mut table, &mut sink, 0.1, udp(server, client, b"!"));
    }
    // Another one from the same port is the same conversation while the first is fresh.
    push(&mut table, &mut sink, 9.0, udp(client, resolver, b"?"));
    push(&mut table, &mut sink, 9.1, udp(resolver, client, b"!"));
    // Nobody answers this one.
    push(
        &mut table,
        &mut sink,
        9.0,
        udp(("10.0.0.1", 1001), resolver, b"?"),
    );
    table.advance(Timestamp::from_secs_f64(40.0), &mut sink);
    assert_eq!((table.len(), sink.ended.len()), (2, 1));
    assert_eq!(sink.ended[0].1.packets, [2, 2]);
    assert_eq!(sink.ended[0].1.reason, EndReason::Idle);
}

#[test]
fn a_full_table_gives_up_attempts_before_conversations() {
    let config = FlowConfig {
        max_flows: 8,
        ..FlowConfig::default()
    };
    let (mut table, mut sink) = (FlowTable::new(config), Recorder::default());
    send(&mut table, &mut sink, 1.0, true, (100, SYN), b"");
    send(&mut table, &mut sink, 1.1, false, (900, SYN | ACK), b"");
    for port in 0..100 {
        let flood = udp(("10.0.0.1", 1000 + port), ("10.0.0.2", 53), b"x");
        push(&mut table, &mut sink, 2.0, flood);
    }
    assert_eq!(table.len(), 8);
    assert_eq!(table.losses().get(Loss::FlowEvicted), 93);
    assert!(
        sink.ended.iter().all(|(id, _)| *id != 0),
        "the conversation stays"
    );
}

#[test]
fn what_is_over_goes_first_and_is_no_loss() {
    let config = FlowConfig {
        max_flows: 8,
        ..FlowConfig::default()
    };
    let (mut table, mut sink) = (FlowTable::new(config), Recorder::default());
    sink.settles = true;
    for (at, (client, flags)) in [(true, SYN), (false, SYN | ACK), (true, RST)]
        .into_iter()
        .enumerate()
    {
        send(
            &mut table,
            &mut sink,
            1.0 + at as f64 / 10.0,
            client,
            (100, flags),
            b"",
        );
    }
    let resolver = ("10.0.0.2", 53);
    for port in 0..6 {
        let unanswered = udp(("10.0.0.1", 2000 + port), ("10.0.0.3", 9), b"x");
        push(&mut table, &mut sink, 2.0, unanswered);
    }
    for port in 3000..3050_u16 {
        // Equal datagrams could be copies of one another.
        let (client, [question, answer]) = (
            ("10.0.0.1", port),
            ["?", "!"].map(|words| format!("{port}{words}")),
        );
        push(
            &mut table,
            &mut sink,
            3.0,
            udp(client, resolver, question.as_bytes()),
        );
        push(
            &mut table,
            &mut sink,
            3.0,
            udp(resolver, client, answer.as_bytes()),
        );
    }
    assert_eq!((table.len(), sink.ended.len()), (8, 49));
    assert_eq!(table.losses().get(Loss::FlowEvicted), 0);
    assert_eq!(sink.ended[0].0, 0, "what ended first goes first");
}

/// A random packet among a few hosts and ports, so that flows meet.
fn any_packet() -> impl Strategy<Value = (u8, u8, u16, u16, u8, u32, u8, u8)> {
    (
        0u8..4,
        0u8..4,
        0u16..3,
        0u16..3,
        0u8..64,
        0u32..200,
        0u8..40,
        0u8..3,
    )
}

proptest! {
    /// Every packet and every byte is counted in exactly one flow; the table never outgrows its bound; both directions
    /// of a conversation are one flow.
    #[test]
    fn nothing_is_lost_or_counted_twice(packets in prop::collection::vec(any_packet(), 1..200), max_flows in 1usize..12) {
        let config = FlowConfig { max_flows, ..FlowConfig::default() };
        let (mut table, mut sink) = (FlowTable::new(config), Recorder::default());
        let (mut count, mut wire, mut payload) = (0_u64, 0_u64, 0_u64);
        for (at, &(src, dst, src_port, dst_port, flags, seq, len, kind)) in packets.iter().enumerate() {
            let data = vec![0; usize::from(len)];
            let src_name = format!("10.0.0.{src}");
            let dst_name = format!("10.0.0.{dst}");
            let mut ip = udp((&src_name, src_port), (&dst_name, dst_port), &data);
            if kind > 0 {
                ip.protocol = 6;
                ip.transport = Transport::Tcp(Tcp { src_port, dst_port, seq, ack: 0, flags: TcpFlags(flags), window: 0 });
            }
            count += 1;
            wire += u64::from(54 + ip.payload_len);
            let reset = kind > 0 && flags & RST != 0;
            payload += if reset { 0 } else { u64::from(ip.payload_len) };
            push(&mut table, &mut sink, at as f64 * 0.7, ip);
            prop_assert!(table.len() <= max_flows);
        }
        table.finish(&mut sink);
        prop_assert!(table.is_empty());
        let sum = |of: fn(&FlowRecord) -> [u64; 2]| -> u64 {
            sink.ended.iter().flat_map(|(_, record)| of(record)).sum()
        };
        prop_assert_eq!(sum(|record| record.packets), count);
        prop_assert_eq!(sum(|record| record.wire_bytes), wire);
        prop_assert_eq!(sum(|record| record.payload_bytes) + sum(|record| record.repeated_bytes), payload);
        prop_assert_eq!(sink.ended.len(), sink.started.len());
        prop_assert!(sink.outcomes.len() <= sink.started.len());
    }

    /// Every packet seen twice by a mirror and once more behind a router is every packet once.
    #[test]
    fn copies_change_nothing(packets in prop::collection::vec(any_packet(), 1..100)) {
        let run = |copies: &[(f64, u8)]| {
            let (mut table, mut sink) = (FlowTable::new(FlowConfig::default()), Recorder::default());
            for (at, &(src, dst, src_port, dst_port, flags, seq, len, kind)) in packets.iter().enumerate() {
                let data = vec![0; usize::from(len)];
                let (src, dst) = (format!("10.0.0.{src}"), format!("10.0.0.{dst}"));
                let mut ip = udp((&src, src_port), (&dst, dst_port), &data);
                if kind > 0 {
                    ip.protocol = 6;
                    ip.transport = Transport::Tcp(Tcp { src_port, dst_port, seq, ack: 0, flags: TcpFlags(flags), window: 0 });
                }
                for &(later, ttl) in copies {
                    ip.ttl = ttl;
                    push(&mut table, &mut sink, at as f64 * 0.7 + later, ip.clone());
                }
            }
            table.finish(&mut sink);
            let once = |(id, record)| (id, FlowRecord { copies: [0; 2], copied_bytes: [0; 2], ..record });
            let ended = sink.ended.into_iter().map(once).collect::<Vec<_>>();
            (ended, sink.payload, sink.outcomes, table.copies())
        };
        let (once, thrice) = (run(&[(0.0, 64)]), run(&[(0.0, 64), (0.000_002, 64), (0.01, 63)]));
        prop_assert_eq!((&once.0, &once.1, &once.2, once.3), (&thrice.0, &thrice.1, &thrice.2, 0));
        prop_assert_eq!(thrice.3, 2 * packets.len() as u64);
    }

    /// Mirroring every packet (swapping its ends) mirrors the records.
    #[test]
    fn direction_is_symmetric(packets in prop::collection::vec(any_packet(), 1..60)) {
        let run = |swap: bool| {
            let (mut table, mut sink) = (FlowTable::new(FlowConfig::default()), Recorder::default());
            for (at, &(src, dst, src_port, dst_port, flags, seq, len, _)) in packets.iter().enumerate() {
                let data = vec![0; usize::from(len)];
                // Two sets of hosts, so that renaming one into the other flips their order.
                let name = |host: u8, low: bool| format!("10.{}.0.{host}", u8::from(low != swap));
                let (src, dst) = (name(src, true), name(dst, false));
                let mut ip = udp((&src, src_port), (&dst, dst_port), &data);
                ip.protocol = 6;
                ip.transport = Transport::Tcp(Tcp { src_port, dst_port, seq, ack: 0, flags: TcpFlags(flags), window: 0 });
                push(&mut table, &mut sink, at as f64, ip);
            }
            table.finish(&mut sink);
            sink.ended.into_iter().map(|(_, record)| record).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(false), run(true));
    }
}
