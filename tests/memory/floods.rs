//! Floods of every kind under `--memory-limit`: what is remembered stays within the share that is left for it, and an ordinary
//! attack beside the flood is told.

use std::net::Ipv4Addr;
use std::time::Duration;

use allocation_counter::measure;
use etherparse::TcpHeader;
use spanwatch::memory::Share;
use spanwatch::testkit::cluster::{START, on_bridge, outside};
use spanwatch::testkit::talk::dns::{A, Answer, Question};
use spanwatch::testkit::wire::{self, Host};

use super::{feed, pipeline};

/// Bytes that are to be enough: those of a small node's agent.
const SHARE: u64 = 48 << 20;
/// Rounds of a flood, a tenth of a millisecond apart.
const ROUNDS: u32 = 60_000;
/// Somebody scans at an ordinary pace: a port every 20 ms.
const SCAN: u32 = 200;

/// A client of the flood, different for every number, and never one that talks otherwise.
fn client(number: u32) -> Host {
    // Multiplied by an odd number, different ones stay different.
    let bits = number.wrapping_mul(2_654_435_761) & 0x3fff_ffff | 0x4000_0000;
    outside(Ipv4Addr::from(bits), Duration::ZERO)
}

fn pod(number: u32) -> Host {
    on_bridge(30 + (number % 200) as u8)
}

/// A connection as its frames: where it stands, and what was sent.
struct Line {
    ends: [(Host, u16); 2],
    next: [u32; 2],
    frames: Vec<Vec<u8>>,
}

impl Line {
    /// Both ends agree to talk.
    fn open(from: (Host, u16), to: (Host, u16)) -> Self {
        let mut line = Self {
            ends: [from, to],
            next: [1000, 5000],
            frames: Vec::new(),
        };
        line.send(0, "S", b"");
        line.send(1, "SA", b"");
        line.send(0, "A", b"");
        line
    }

    /// A segment of one end, with flags by their letters.
    fn send(&mut self, end: usize, flags: &str, payload: &[u8]) {
        let [(from, port), (to, other)] = [self.ends[end], self.ends[1 - end]];
        let mut header = TcpHeader::new(port, other, self.next[end], 1 << 14);
        header.acknowledgment_number = self.next[1 - end];
        header.syn = flags.contains('S');
        header.ack = flags.contains('A');
        header.fin = flags.contains('F');
        header.rst = flags.contains('R');
        let takes = payload.len() + usize::from(header.syn) + usize::from(header.fin);
        self.next[end] += takes as u32;
        self.frames.push(wire::tcp(&from, &to, 7, header, payload));
    }

    /// One end says something, the other answers, and both take their leave.
    fn converse(mut self) -> Vec<Vec<u8>> {
        self.send(0, "A", b"how do you do");
        self.send(1, "A", b"well, thank you");
        self.send(0, "FA", b"");
        self.send(1, "FA", b"");
        self.frames
    }
}

/// What comes in one round.
type Flood = fn(u32) -> Vec<Vec<u8>>;

/// Handshakes that nobody answers, each from another address, to all ports.
fn handshakes(round: u32) -> Vec<Vec<u8>> {
    let port = (round.wrapping_mul(40_503) >> 7) as u16;
    let line = Line::open((client(round), 40_000), (pod(round), port));
    line.frames.into_iter().take(1).collect()
}

/// A look-up of a name that nobody asked for before, in a domain that nobody asked for before.
fn names(round: u32) -> Vec<Vec<u8>> {
    let (from, server, port) = (pod(round), on_bridge(3), 20_000 + (round % 40_000) as u16);
    let name = format!(
        "{:08x}.{:06x}.example",
        round.wrapping_mul(0x9e37_79b9),
        round.wrapping_mul(7919) & 0xff_ffff
    );
    let (kind, edns) = (A, None);
    let question = Question {
        name: &name,
        kind,
        edns,
    };
    let id = round as u16;
    let answer = question.answer(id, &Answer::NoSuchName, false);
    vec![
        wire::udp(&from, &server, 7, (port, 53), &question.ask(id)),
        wire::udp(&server, &from, 7, (53, port), &answer),
    ]
}

/// The first fragment of a datagram that is never whole.
fn fragments(round: u32) -> Vec<Vec<u8>> {
    let (from, to) = (client(round), pod(round));
    let whole = wire::udp(&from, &to, round as u16, (4000, 5000), &[0; 1400]);
    wire::fragments(&whole, 1200).into_iter().take(1).collect()
}

/// A pod that has always another peer.
fn peers(round: u32) -> Vec<Vec<u8>> {
    let port = 10_000 + (round % 50_000) as u16;
    Line::open((pod(0), port), (client(round), 443)).converse()
}

/// A scan of a pod on which every port answers.
fn ports(round: u32) -> Vec<Vec<u8>> {
    let mut line = Line::open((client(1), 50_000), (pod(0), round as u16));
    line.send(0, "RA", b"");
    line.frames
}

/// Requests whose heads never end, some 1600 bytes of each, in two pieces.
fn requests(round: u32) -> Vec<Vec<u8>> {
    let beginning = [
        b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Long: ",
        &[b'x'; 550][..],
    ];
    let mut line = Line::open((client(round), 40_000), (pod(round), 80));
    line.send(0, "A", &beginning.concat());
    line.send(0, "A", &[b'x'; 1000]);
    line.frames
}

/// The first bytes of hellos whose ends never come.
fn hellos(round: u32) -> Vec<Vec<u8>> {
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(400, 7);
    let mut line = Line::open((client(round), 40_000), (pod(round), 443));
    line.send(0, "A", &hello);
    line.frames
}

/// Feeds a flood with a scan beside it to a pipeline with its share of memory.
fn hold_out(name: &str, flood: impl Fn(u32) -> Vec<Vec<u8>>) {
    // Who scans is somebody: nobody can hold a conversation in a made-up name.
    let (scanner, target) = (on_bridge(10), on_bridge(20));
    let introduction = Line::open((scanner, 39_000), (target, 80)).converse();
    let mut verdict = None;
    let info = measure(|| {
        let mut pipeline = pipeline(Share::of(SHARE));
        let mut take = |time, frames: &[Vec<u8>]| {
            feed(&mut pipeline, frames.iter().map(|frame| (time, &**frame)));
        };
        take(START, &introduction);
        // By then that conversation is over for good.
        let began = START.after(Duration::from_secs(10));
        for round in 1..ROUNDS {
            let time = began.after(Duration::from_micros(100) * round);
            take(time, &flood(round));
            if round % SCAN == 0 {
                let port = 1000 + (round / SCAN) as u16;
                let mut probe = Line::open((scanner, 41_000), (target, port));
                probe.frames.truncate(1);
                probe.send(1, "RA", b"");
                take(time, &probe.frames);
            }
        }
        verdict = Some(pipeline.finish().0);
    });
    println!("{name}: {} KiB held at most", info.bytes_max >> 10);
    assert!(info.bytes_max <= SHARE, "{} bytes", info.bytes_max);
    let alerts = verdict.unwrap().alerts;
    let scans = alerts
        .iter()
        .filter(|alert| alert.signature.id == "port-scan" && alert.actor.ip == scanner.ip);
    assert_eq!(scans.count(), 1, "{name}: the scan");
}

#[test]
fn handshakes_that_nobody_answers() {
    hold_out("handshakes", handshakes);
}

#[test]
fn made_up_names() {
    hold_out("names", names);
}

#[test]
fn datagrams_that_are_never_whole() {
    hold_out("fragments", fragments);
}

#[test]
fn a_peer_for_each_conversation() {
    hold_out("peers", peers);
}

#[test]
fn every_port_answered() {
    hold_out("ports", ports);
}

#[test]
fn requests_that_never_end() {
    hold_out("requests", requests);
}

#[test]
fn hellos_that_never_end() {
    hold_out("hellos", hellos);
}

#[test]
fn all_of_it_at_once() {
    let all: [Flood; 7] = [handshakes, names, fragments, peers, ports, requests, hellos];
    hold_out("all", |round| {
        let all = all.iter().flat_map(|flood| flood(round));
        all.collect()
    });
}
