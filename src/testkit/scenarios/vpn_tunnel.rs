//! `vpn-tunnel`: three pods leave by WireGuard, OpenVPN and Tor; their twin shows what looks alike and is none.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, GATEWAY, NODE_IP, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::datagram;
use crate::testkit::talk::dns::{Answer, Data};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const WIREGUARD_BEGINS: u64 = 24;
const OPENVPN_BEGINS: u64 = 40;
const TOR_BEGINS: u64 = 58;
const WIREGUARD_POD: u8 = 10;
const OPENVPN_POD: u8 = 12;
const TOR_POD: u8 = 14;
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |last, begins| {
        Expect::new(
            "vpn-tunnel",
            "c2",
            cluster.pod(last),
            Duration::from_secs(begins),
        )
        .within(60)
    };
    Case {
        id: "vpn-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "One pod shakes hands by WireGuard with a host outside, on the port of DNS, and sends packets through; another opens OpenVPN over TCP on port 443; a third starts Tor, which calls four relays by random names.",
                seed: 81,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The network plugin encrypts between nodes by WireGuard; a pod plays media over UDP, with STUN and DTLS before it; another speaks a protocol of its own with lengths and encryption; a third visits sites with odd names, which it looks up, and many with ordinary ones, which it had looked up before.",
                seed: 82,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            expect(WIREGUARD_POD, WIREGUARD_BEGINS),
            expect(OPENVPN_POD, OPENVPN_BEGINS),
            expect(TOR_POD, TOR_BEGINS),
        ],
    }
}

fn far(last: u8) -> Host {
    outside(Ipv4Addr::new(203, 0, 113, last), Duration::from_millis(24))
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(WIREGUARD_POD).host, far(100), 53);
    wireguard(&mut scene, &route, at(WIREGUARD_BEGINS));
    openvpn(
        &mut scene,
        cluster.pod(OPENVPN_POD).host,
        far(101),
        at(OPENVPN_BEGINS),
    );
    for number in 0..4_u64 {
        let len = 9 + scene.rng.below(12) as usize;
        let name = format!("www.{}.com", scene.rng.text(BASE32, len));
        let relay = Route::direct(cluster.pod(TOR_POD).host, far(102 + number as u8), 443);
        visit(&mut scene, relay, &name, at(TOR_BEGINS + number), 6);
    }
    scene.finish()
}

/// Handshake, then packets both ways, each padded to sixteen bytes.
fn wireguard(scene: &mut Scene, route: &Route, from: Timestamp) {
    let port = scene.port(route.client.ip);
    let (mine, theirs) = (scene.rng.bytes(4), scene.rng.bytes(4));
    let rest = scene.rng.bytes(140);
    let initiation = [&[1, 0, 0, 0][..], &mine, &rest].concat();
    let rest = scene.rng.bytes(80);
    let response = [&[2, 0, 0, 0][..], &theirs, &mine, &rest].concat();
    datagram::question(scene, route, port, &initiation, from);
    let mut now = from.after(scene.rng.about(route.server.distance));
    datagram::answer(scene, route, port, &response, now);
    for counter in 0..60_u64 {
        now = now.after(scene.rng.about(Duration::from_millis(700)));
        let up = 16 * (1 + scene.rng.below(12) as usize);
        let packet = transport(scene, &theirs, counter, up);
        datagram::question(scene, route, port, &packet, now);
        now = now.after(scene.rng.about(route.server.distance));
        let down = 16 * (1 + scene.rng.below(40) as usize);
        let packet = transport(scene, &mine, counter, down);
        datagram::answer(scene, route, port, &packet, now);
    }
}

fn transport(scene: &mut Scene, receiver: &[u8], counter: u64, len: usize) -> Vec<u8> {
    let hidden = scene.rng.bytes(len + 16);
    [&[4, 0, 0, 0][..], receiver, &counter.to_le_bytes(), &hidden].concat()
}

/// Resets with an HMAC (`tls-auth`), then control messages and data, each after its length.
fn openvpn(scene: &mut Scene, client: Host, server: Host, from: Timestamp) {
    let mut session = Session::open(scene, Route::direct(client, server, 443), from);
    let (mine, theirs) = (scene.rng.bytes(8), scene.rng.bytes(8));
    let seconds = ((from.nanos() / 1_000_000_000) as u32).to_be_bytes();
    let reset = |scene: &mut Scene, opcode: u8, own: &[u8], tail: &[u8]| {
        let hmac = scene.rng.bytes(20);
        let body = [
            &[opcode << 3][..],
            own,
            &hmac,
            &[0, 0, 0, 1],
            &seconds,
            tail,
        ]
        .concat();
        framed(&body)
    };
    let asked = reset(scene, 7, &mine, &[0; 5]);
    let tail = [&[1, 0, 0, 0, 0][..], &mine, &[0; 4]].concat();
    let answered = reset(scene, 8, &theirs, &tail);
    session.ask(scene, &asked, Duration::from_millis(2), &answered);
    for number in 0..50_u8 {
        // Control messages first, then data.
        let opcode = if number < 6 { 4 << 3 } else { 9 << 3 };
        let (up, down) = (
            60 + scene.rng.below(300) as usize,
            60 + scene.rng.below(900) as usize,
        );
        let (up, down) = (scene.rng.bytes(up), scene.rng.bytes(down));
        let question = framed(&[&[opcode][..], &up].concat());
        let answer = framed(&[&[opcode][..], &down].concat());
        session.ask(scene, &question, Duration::from_millis(2), &answer);
        let pause = scene.rng.about(Duration::from_millis(600));
        session.wait(scene, pause);
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

/// A TLS connection to a server of some name, and a little talk.
fn visit(scene: &mut Scene, route: Route, name: &str, from: Timestamp, turns: usize) {
    let mut session = Session::open(scene, route, from);
    tls::handshake(scene, &mut session, &tls::OPENSSL, name);
    for _ in 0..turns {
        let answer = 497 * (1 + scene.rng.below(4) as usize);
        tls::exchange(scene, &mut session, 497, answer);
        let pause = scene.rng.about(Duration::from_millis(400));
        session.wait(scene, pause);
    }
    session.close(scene, Side::Client);
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let node = Host {
        ip: IpAddr::V4(NODE_IP),
        ..GATEWAY
    };
    let other = outside(Ipv4Addr::new(172, 18, 0, 3), Duration::from_micros(300));
    wireguard(&mut scene, &Route::direct(node, other, 51871), at(15));
    media(&mut scene, cluster.pod(WIREGUARD_POD).host, far(110));
    own_protocol(&mut scene, cluster.pod(OPENVPN_POD).host, far(111));
    let mut resolver = Resolver::new(&cluster);
    let visitor = cluster.pod(TOR_POD);
    for number in 0..6_u64 {
        let (odd, host) = (format!("www.xq{number}zk7j3w.com"), far(120 + number as u8));
        let IpAddr::V4(ip) = host.ip else { continue };
        let answer = Answer::Records(300, vec![Data::A(ip)]);
        let known = resolver.both(&mut scene, visitor, &odd, &answer, at(30 + 9 * number));
        visit(
            &mut scene,
            Route::direct(visitor.host, host, 443),
            &odd,
            known,
            2,
        );
    }
    for (number, name) in [
        "www.garden.com",
        "www.weather.net",
        "www.theatre.com",
        "www.northstar.net",
    ]
    .into_iter()
    .enumerate()
    {
        let route = Route::direct(visitor.host, far(130 + number as u8), 443);
        visit(&mut scene, route, name, at(40 + 11 * number as u64), 2);
    }
    scene.finish()
}

/// A call: STUN, a DTLS hello, then media.
fn media(scene: &mut Scene, from: Host, to: Host) {
    let route = Route::direct(from, to, 19_302);
    let port = scene.port(from.ip);
    let mut now = at(36);
    let transaction = scene.rng.bytes(12);
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &transaction].concat();
    let bound = [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &transaction].concat();
    datagram::question(scene, &route, port, &binding, now);
    now = now.after(scene.rng.about(to.distance));
    datagram::answer(scene, &route, port, &bound, now);
    let hello = scene.rng.bytes(140);
    let record = [
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 140][..],
        &hello,
    ]
    .concat();
    datagram::question(scene, &route, port, &record, now);
    for number in 0..200_u16 {
        now = now.after(Duration::from_millis(40));
        let sound = scene.rng.bytes(150);
        let stamp = u32::from(number) * 960;
        let packet = [
            &[0x80, 111][..],
            &number.to_be_bytes(),
            &stamp.to_be_bytes(),
            &[7; 4],
            &sound,
        ]
        .concat();
        datagram::question(scene, &route, port, &packet, now);
    }
}

/// Messages after their lengths, encrypted, of many lengths.
fn own_protocol(scene: &mut Scene, from: Host, to: Host) {
    let mut session = Session::open(scene, Route::direct(from, to, 7443), at(50));
    for _ in 0..40 {
        let (up, down) = (
            48 + scene.rng.below(200) as usize,
            64 + scene.rng.below(600) as usize,
        );
        let (up, down) = (scene.rng.bytes(up), scene.rng.bytes(down));
        session.ask(
            scene,
            &framed(&up),
            Duration::from_millis(3),
            &framed(&down),
        );
        let pause = scene.rng.about(Duration::from_millis(700));
        session.wait(scene, pause);
    }
}
