//! What hostile traffic may cost in memory, and that packets on the fast path cost none, by counting allocations.
//!
//! A binary of its own: it counts what every allocation of its threads takes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests stop at the first thing that is not as it should be"
)]

mod floods;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use etherparse::TcpHeader;
use spanwatch::alert::Exceptions;
use spanwatch::capture::{Frame, LinkType};
use spanwatch::identity::Journal;
use spanwatch::memory::Share;
use spanwatch::pipeline::{Pipeline, Task};
use spanwatch::signature::SignatureSet;
use spanwatch::testkit::bulk;
use spanwatch::testkit::cluster::{START, on_bridge, outside};
use spanwatch::testkit::pcap;
use spanwatch::testkit::scene::{Route, Scene};
use spanwatch::testkit::talk::tcp::{Session, Side};
use spanwatch::testkit::wire::{self, Host};
use spanwatch::time::Timestamp;

/// Connections that do the same at once.
const FLOWS: u8 = 64;
/// Bytes that each sends, more or less.
const EACH: usize = 1 << 20;
/// What one inspected connection may hold back in dissectors and in what detectors remember of it.
const PER_FLOW: u64 = 32 << 10;
const SERVER: Host = outside(Ipv4Addr::new(203, 0, 113, 9), Duration::from_millis(4));

/// Everything on, with a share of memory.
fn pipeline(share: Share) -> Pipeline {
    let task = Task::Analyze {
        signatures: SignatureSet::builtin().unwrap(),
        baseline: None,
        exceptions: Exceptions::default(),
    };
    Pipeline::new(share, Arc::new(Journal::default()), task).unwrap()
}

fn feed<'a>(pipeline: &mut Pipeline, records: impl Iterator<Item = (Timestamp, &'a [u8])>) {
    for (time, data) in records {
        pipeline.frame(&Frame {
            time,
            link: LinkType::Ethernet,
            wire_len: data.len() as u32,
            interface: 0,
            data,
        });
    }
}

fn route(number: u8, port: u16) -> Route {
    Route::direct(on_bridge(10 + number), SERVER, port)
}

/// The most that a capture made the pipeline hold at once, beyond what it held before.
fn most_held(name: &str, capture: &[u8]) -> u64 {
    let mut pipeline = pipeline(Share::WHOLE);
    let info = measure(|| feed(&mut pipeline, pcap::records(capture)));
    println!(
        "{name}: {} KiB held at most for {FLOWS} connections, {} KiB of capture",
        info.bytes_max / 1024,
        capture.len() / 1024
    );
    drop(pipeline.finish());
    info.bytes_max
}

/// Many connections say the same thing, in pieces of a size.
fn all_say(port: u16, piece: usize, greeting: &[u8], what: &[u8]) -> Vec<u8> {
    let mut scene = Scene::new(7);
    for number in 0..FLOWS {
        let at = START.after(Duration::from_millis(u64::from(number)));
        let mut session = Session::open(&mut scene, route(number, port), at).offloading(60_000);
        if !greeting.is_empty() {
            session.say(&mut scene, Side::Server, greeting);
        }
        for part in what.chunks(piece) {
            session.say(&mut scene, Side::Client, part);
        }
    }
    scene.finish()
}

/// Bounded by so much for each, though each sent much more.
fn assert_bounded(held: u64) {
    let bound = u64::from(FLOWS) * PER_FLOW;
    assert!(held <= bound, "{held} bytes of {bound}");
}

#[test]
fn a_head_that_never_ends_is_not_kept() {
    let mut head = b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Long: ".to_vec();
    head.resize(EACH, b'a');
    assert_bounded(most_held(
        "endless header",
        &all_say(80, 50_000, b"", &head),
    ));
    let mut heads = b"GET / HTTP/1.1\r\n".to_vec();
    while heads.len() < EACH {
        heads.extend(format!("X-{}: 1\r\n", heads.len()).bytes());
    }
    assert_bounded(most_held(
        "endless headers",
        &all_say(80, 50_000, b"", &heads),
    ));
}

#[test]
fn a_line_that_never_ends_is_not_kept() {
    for (name, port, greeting, start) in [
        ("ftp", 21, &b"220 ready\r\n"[..], &b"USER "[..]),
        ("redis", 6379, b"", b"*2\r\n$3\r\nGET\r\n$999999999\r\n"),
        ("redis inline", 6379, b"", b"PING "),
        ("memcached", 11211, b"", b"get "),
        ("smtp", 25, b"220 mail ESMTP\r\n", b"EHLO "),
        ("ssh", 22, b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-"),
        (
            "stratum",
            3333,
            b"",
            b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"",
        ),
        ("nothing known", 4444, b"", b"zzzz"),
    ] {
        let mut line = start.to_vec();
        line.resize(EACH, b'a');
        assert_bounded(most_held(name, &all_say(port, 50_000, greeting, &line)));
    }
}

#[test]
fn messages_that_announce_gigabytes_make_no_room_for_them() {
    let postgres = {
        let mut bytes = vec![0, 0, 0, 40, 0, 3, 0, 0];
        bytes.extend(b"user\0app\0database\0shop\0\0");
        bytes.resize(40, 0);
        bytes.extend([b'Q', 0x7f, 0xff, 0xff, 0xff]);
        bytes.extend(b"SELECT ");
        bytes
    };
    let mongo = [
        &[0xff, 0xff, 0xff, 0x7f][..],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0],
    ]
    .concat();
    let mysql = vec![0xff, 0xff, 0xff, 0, 3];
    let kafka = vec![0x7f, 0xff, 0xff, 0xff, 0, 18, 0, 3];
    for (name, port, start) in [
        ("postgres", 5432, postgres),
        ("mongo", 27017, mongo),
        ("mysql", 3306, mysql),
        ("kafka", 9092, kafka),
        ("tls", 443, vec![22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff]),
    ] {
        let mut message = start;
        message.resize(EACH, b'x');
        assert_bounded(most_held(name, &all_say(port, 50_000, b"", &message)));
    }
}

#[test]
fn headers_packed_into_few_bytes_are_not_unpacked_into_many() {
    // RFC 7541: a header of 3900 bytes put into the table, then named by one byte again and again.
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut packed = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    packed.extend(frame(4, 0, 0, &[]));
    let mut large = vec![0x40, 1, b'x', 0x7f];
    // 3900 = 127 + 3773, in groups of seven bits.
    large.extend([0xbd, 0x1d]);
    large.extend([b'v'; 3900]);
    packed.extend(frame(1, 4, 1, &large));
    for stream in (3..200).step_by(2) {
        packed.extend(frame(1, 4, stream, &[0xbe; 8000]));
    }
    assert_bounded(most_held(
        "packed headers",
        &all_say(80, 16_000, b"", &packed),
    ));
}

#[test]
fn a_byte_at_a_time_costs_no_more_than_the_bytes() {
    let mut head =
        b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2000\r\n\r\n".to_vec();
    head.resize(2500, b'a');
    assert_bounded(most_held("slow drip", &all_say(80, 1, b"", &head)));
}

#[test]
fn segments_that_wait_and_overlap_stay_within_what_is_configured() {
    let mut scene = Scene::new(7);
    for number in 0..FLOWS {
        let route = route(number, 80);
        let mut session = Session::open(&mut scene, route, START).offloading(60_000);
        session.say(&mut scene, Side::Client, b"GET / HTTP/1.1\r\n");
        let (port, at) = (40_000 + u16::from(number), session.now());
        // Never the byte that is missing: every other one after it, each of them several times.
        for turn in 0..3 {
            for step in 0..1500_u32 {
                let mut header = TcpHeader::new(port, 80, 1000 + 2 * step + turn, 60_000);
                header.ack = true;
                let len = 1 + (step as usize * 7 + turn as usize) % 1300;
                let frame = wire::tcp(
                    &route.client,
                    &route.server,
                    step as u16,
                    header,
                    &vec![b'x'; len],
                );
                scene.show(
                    at.after(Duration::from_micros(u64::from(turn * 1500 + step))),
                    frame,
                );
            }
        }
    }
    assert_bounded(most_held("overlapping segments", &scene.finish()));
}

/// Frames after the first few of one long connection allocate nothing.
#[test]
fn a_long_transfer_allocates_nothing_per_packet() {
    let mut scene = Scene::new(7);
    let mut session = Session::open(&mut scene, route(0, 80), START);
    let head = b"GET /big HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    session.say(&mut scene, Side::Client, head);
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n".to_vec();
    answer.resize(16_000_000, b'x');
    session.say(&mut scene, Side::Server, &answer);
    let capture = scene.finish();
    let frames = pcap::records(&capture).count();
    let mut pipeline = pipeline(Share::WHOLE);
    let warm = frames / 2;
    feed(&mut pipeline, pcap::records(&capture).take(warm));
    // What the first half told is analyzed before the second.
    drop(pipeline.take_flows());
    let info = measure(|| feed(&mut pipeline, pcap::records(&capture).skip(warm)));
    println!(
        "{} packets, {} allocations",
        frames - warm,
        info.count_total
    );
    assert!(frames - warm > 5_000);
    assert_eq!(info.count_total, 0);
}

/// The same of datagrams, but for a table that grows once in a while.
#[test]
fn datagrams_of_known_flows_allocate_nothing_per_packet() {
    let mut scene = Scene::new(7);
    for step in 0..20_000_u64 {
        let route = route((step % 16) as u8, 9999);
        let payload = scene.rng.bytes(200);
        // Each has spoken for long, which is a turn, before counting begins.
        let at = START.after(Duration::from_millis(2 * step));
        scene.show(
            at,
            wire::udp(
                &route.client,
                &route.server,
                step as u16,
                (40_000, 9999),
                &payload,
            ),
        );
    }
    let capture = scene.finish();
    let mut pipeline = pipeline(Share::WHOLE);
    feed(&mut pipeline, pcap::records(&capture).take(10_000));
    let info = measure(|| feed(&mut pipeline, pcap::records(&capture).skip(10_000)));
    println!("10000 datagrams, {} allocations", info.count_total);
    assert!(info.count_total <= 4, "{}", info.count_total);
}

/// What a flow of mixed traffic costs, with all that is remembered of who spoke with whom: nearly all of them are open, or
/// ended lately, and most are a source's or a server's first.
#[test]
fn a_flow_costs_little() {
    const MANY: u64 = 20_000;
    const EACH: u64 = 1750;
    let capture = bulk::mixed(1, 10 * MANY, MANY);
    let mut pipeline = pipeline(Share::WHOLE);
    let info = measure(|| feed(&mut pipeline, pcap::records(&capture)));
    let flows = pipeline.stats().flows;
    let each = info.bytes_max / flows;
    println!("{flows} flows: {each} bytes held at most for each");
    assert!(flows >= MANY);
    assert!(each <= EACH, "{each}");
}

/// A scan of all ports of 254 hosts in the name of ever new addresses: what it makes us remember is bounded, it is told
/// once, and who scans beside it at an ordinary pace is told as well.
#[test]
fn made_up_addresses_neither_fill_nor_blind() {
    const PROBES: u32 = 100_000;
    let syn = |from: Host, to: Host, ports: (u16, u16), seq: u32| {
        let mut header = TcpHeader::new(ports.0, ports.1, seq, 1024);
        header.syn = true;
        wire::tcp(&from, &to, 7, header, &[])
    };
    let inside = |number: u32| on_bridge(1 + (number % 254) as u8);
    let mut scene = Scene::new(7);
    // Somebody who was there before, and now tries a port every 20 ms.
    let mut session = Session::open(&mut scene, route(0, 80), START);
    session.say(
        &mut scene,
        Side::Client,
        b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    );
    session.say(&mut scene, Side::Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    session.close(&mut scene, Side::Client);
    let mut capture = pcap::Recording::default();
    for (time, frame) in pcap::records(&scene.finish()) {
        capture.push(time, frame.to_vec());
    }
    let began = START.after(Duration::from_secs(5));
    for probe in 0..PROBES {
        let at = began.after(Duration::from_micros(100) * probe);
        let made_up = Ipv4Addr::from(probe.wrapping_mul(2_654_435_761) | 0x0100_0000);
        let from = outside(made_up, Duration::ZERO);
        let port = (probe.wrapping_mul(40_503) >> 7) as u16;
        capture.push(at, syn(from, inside(probe), (40_000, port), probe));
        if probe % 200 == 0 {
            let port = 1000 + (probe / 200) as u16;
            capture.push(at, syn(on_bridge(10), on_bridge(20), (41_000, port), probe));
        }
    }
    let capture = capture.finish();
    let mut pipeline = pipeline(Share::WHOLE);
    let info = measure(|| feed(&mut pipeline, pcap::records(&capture)));
    let (verdict, _) = pipeline.finish();
    for alert in &verdict.alerts {
        println!(
            "{} {}: {}",
            alert.signature.id, alert.actor.ip, alert.summary
        );
    }
    println!(
        "{PROBES} probes from as many addresses: {} MiB held at most",
        info.bytes_max >> 20
    );
    assert!(info.bytes_max < 512 << 20, "{}", info.bytes_max);
    let by = |ip| verdict.alerts.iter().filter(move |one| one.actor.ip == ip);
    let scanner = on_bridge(10).ip;
    assert_eq!(by(scanner).count(), 1, "the ordinary scan, once");
    assert_eq!(verdict.alerts.len(), 2, "and the other, once");
}
