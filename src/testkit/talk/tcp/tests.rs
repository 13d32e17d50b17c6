//! Conversations as the flow table understands them.

use super::*;
use crate::capture::{Frame, LinkType};
use crate::decode::{Anomalies, Content, decode};
use crate::flow::{
    Chunk, ConnState, FlowConfig, FlowRecord, FlowSink, FlowStart, FlowTable, Interest, Outcome,
    Turn,
};
use crate::testkit::cluster::{GATEWAY, START, on_bridge, outside};
use crate::testkit::pcap::records;
use std::net::Ipv4Addr;

#[derive(Default)]
struct Heard {
    outcomes: Vec<Outcome>,
    said: [Vec<u8>; 2],
    records: Vec<FlowRecord>,
}

impl FlowSink for Heard {
    type State = ();
    fn opened(&mut self, _: &FlowStart) {}
    fn outcome(&mut self, (): &mut (), _: Timestamp, outcome: Outcome) {
        self.outcomes.push(outcome);
    }
    fn turn(&mut self, (): &mut (), _: &Turn) {}
    fn payload(&mut self, (): &mut (), chunk: &Chunk<'_>) -> Interest {
        assert_eq!(chunk.gap, 0);
        self.said[chunk.direction as usize].extend_from_slice(chunk.data);
        Interest::More
    }
    fn ended(&mut self, (): (), record: FlowRecord) {
        self.records.push(record);
    }
}

fn heard(scene: Scene) -> Heard {
    let mut heard = Heard::default();
    let mut table = FlowTable::new(FlowConfig::default());
    for (time, data) in records(&scene.finish()) {
        let packet = decode(&Frame {
            time,
            link: LinkType::Ethernet,
            wire_len: data.len() as u32,
            interface: 0,
            data,
        });
        assert_eq!(packet.anomalies, Anomalies::default());
        if let Content::Ip(ip) = &packet.content {
            table.packet(&packet, ip, &mut heard);
        }
    }
    table.advance(START.after(Duration::from_mins(30)), &mut heard);
    heard
}

fn near() -> Route {
    Route::direct(on_bridge(5), on_bridge(9), 8080)
}

#[test]
fn a_session_is_whole_and_ends_well() {
    let far = outside(Ipv4Addr::new(198, 51, 100, 7), Duration::from_millis(20));
    let service = Route::service(on_bridge(5), on_bridge(9), 8080);
    for route in [near(), service, Route::direct(on_bridge(5), far, 443)] {
        let mut scene = Scene::new(1);
        let mut session = Session::open(&mut scene, route, START);
        let answer = scene.rng.bytes(10_000);
        session.ask(&mut scene, b"give me", Duration::from_millis(1), &answer);
        session.wait(&mut scene, Duration::from_secs(1));
        session.say(&mut scene, Side::Client, b"thanks");
        session.close(&mut scene, Side::Client);
        let heard = heard(scene);
        assert_eq!(heard.outcomes, [Outcome::Answered]);
        assert_eq!(heard.said, [b"give methanks".to_vec(), answer]);
        let record = &heard.records[0];
        assert_eq!(record.state, ConnState::Sf);
        assert_eq!(record.payload_bytes, [13, 10_000]);
        assert_eq!(record.repeated_bytes, [0, 0]);
        // The bridge shows what goes to a service twice.
        let [out, _] = record.packets;
        let seen_again = if route.service { [out, 0] } else { [0, 0] };
        assert_eq!(record.copies, seen_again);
        assert_eq!(heard.records.len(), 1);
    }
}

#[test]
fn one_end_never_goes_back_in_time() {
    let mut scene = Scene::new(3);
    let mut session = Session::open(&mut scene, near(), START);
    for _ in 0..50 {
        let bytes = scene.rng.bytes(9000);
        session.say(&mut scene, Side::Server, &bytes);
        session.say(&mut scene, Side::Client, b"go on");
    }
    session.close(&mut scene, Side::Client);
    let file = scene.finish();
    let mut acknowledged = [0_u32; 2];
    for (_, frame) in records(&file).skip(3) {
        let side = usize::from(frame[29] == 9);
        let number = u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]]);
        let step = number.wrapping_sub(acknowledged[side]);
        assert!(
            acknowledged[side] == 0 || step < 1 << 31,
            "an end takes back what it heard"
        );
        acknowledged[side] = number;
    }
}

#[test]
fn attempts_fail_as_they_should() {
    type Attempt = fn(&mut Scene);
    let cases: [(Attempt, Outcome, ConnState); 5] = [
        (
            |s| {
                refused(s, near(), START);
            },
            Outcome::Refused,
            ConnState::Rej,
        ),
        (
            |s| {
                silent(s, near(), START, 2);
            },
            Outcome::Silent,
            ConnState::S0,
        ),
        (
            |s| unreachable(s, near(), GATEWAY, START),
            Outcome::Unreachable,
            ConnState::S0,
        ),
        (
            |s| half_open(s, near(), 40_000, Port::Closed, START),
            Outcome::Refused,
            ConnState::Rej,
        ),
        (
            |s| half_open(s, near(), 40_000, Port::Filtered, START),
            Outcome::Silent,
            ConnState::S0,
        ),
    ];
    for (number, (attempt, outcome, state)) in cases.into_iter().enumerate() {
        let mut scene = Scene::new(1);
        attempt(&mut scene);
        let heard = heard(scene);
        assert_eq!(heard.outcomes[0], outcome, "case {number}");
        assert_eq!(heard.records[0].state, state, "case {number}");
    }
}

#[test]
fn a_half_open_probe_of_an_open_port_says_nothing() {
    let mut scene = Scene::new(1);
    half_open(&mut scene, near(), 40_000, Port::Open, START);
    let heard = heard(scene);
    assert_eq!(heard.outcomes, [Outcome::Answered]);
    assert_eq!(heard.records[0].payload_bytes, [0, 0]);
    assert_eq!(heard.records[0].packets, [2, 1]);
}

#[test]
fn a_syn_is_sent_again_after_one_and_three_seconds() {
    let mut scene = Scene::new(1);
    silent(&mut scene, near(), START, 2);
    let file = scene.finish();
    let times: Vec<u64> = records(&file)
        .map(|(time, _)| time.since(START).as_secs())
        .collect();
    assert_eq!(times, [0, 1, 3]);
}
