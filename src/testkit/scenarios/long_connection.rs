//! `long-connection`: a channel without a rhythm, held open for eleven minutes; the twin has honest connections as long.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;

/// Who holds it, and from when on.
const ACTOR: (u8, u64) = (14, 65);
const MASTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
/// Whom the twin's pods hold connections to.
const PUSH: (&str, Ipv4Addr) = ("push.vendor.example", Ipv4Addr::new(198, 51, 100, 41));
const STREAM: (&str, Ipv4Addr) = ("stream.partner.example", Ipv4Addr::new(198, 51, 100, 42));
const LOGS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 43);
const FEED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 44);
const FAR: Duration = Duration::from_millis(19);
/// The implant sleeps no longer.
const LONGEST: Duration = Duration::from_secs(45);
/// The rest of the day ends after three minutes, these go on.
const END: u64 = 730;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let (actor, begins) = ACTOR;
    let begins = Duration::from_secs(begins);
    Case {
        id: "long-connection",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker opens a connection to a bare address, over which a few encrypted bytes go out and come back at random moments, about every 20 s, for eleven minutes.",
                seed: 141,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "Connections as long, begun as late: an api pod's stream of calls over TLS to a partner, by name; a web pod's service that pushes now and then over TLS, by name; another's lines of a log, to a bare address that only acknowledges; a feed of prices fetched from a bare address by the worker.",
                seed: 142,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![Expect::new("long-connection", "c2", cluster.pod(actor), begins).within(645)],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (actor, begins) = ACTOR;
    let route = Route::direct(cluster.pod(actor).host, outside(MASTER, FAR), 9001);
    let mut session = Session::open(&mut scene, route, at(begins));
    while session.now() < at(END) {
        let (out, back) = (scene.rng.within(40..90), scene.rng.within(24..60));
        let question = framed(&scene.rng.bytes(out as usize));
        let answer = framed(&scene.rng.bytes(back as usize));
        session.ask(&mut scene, &question, Duration::from_millis(3), &answer);
        let pause = scene.rng.pause(Duration::from_secs(20)).min(LONGEST);
        session.wait(&mut scene, pause);
    }
    scene.finish()
}

/// A message of the implant: its length, its kind, and what is encrypted.
fn framed(sealed: &[u8]) -> Vec<u8> {
    let length = (sealed.len() as u32).to_be_bytes();
    [&length, &[0, 1, 0, 0][..], sealed].concat()
}

/// Nothing happens, for about `secs` seconds.
fn pause(scene: &mut Scene, session: &mut Session, secs: u64) {
    let pause = scene.rng.pause(Duration::from_secs(secs));
    session.wait(scene, pause);
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);

    let (name, ip) = STREAM;
    let api = cluster.pod(12);
    let known = resolver.outside(&mut scene, api, name, &[ip], at(75));
    let route = Route::direct(api.host, outside(ip, FAR), 443);
    let mut session = Session::open(&mut scene, route, known);
    tls::handshake(&mut scene, &mut session, &tls::GO, name);
    while session.now() < at(END) {
        let (asked, answered) = (scene.rng.within(80..400), scene.rng.within(60..900));
        tls::exchange(&mut scene, &mut session, asked as usize, answered as usize);
        pause(&mut scene, &mut session, 15);
    }

    let (name, ip) = PUSH;
    let web = cluster.pod(11);
    let known = resolver.outside(&mut scene, web, name, &[ip], at(80));
    let route = Route::direct(web.host, outside(ip, FAR), 443);
    let mut session = Session::open(&mut scene, route, known);
    tls::handshake(&mut scene, &mut session, &tls::OPENSSL, name);
    tls::exchange(&mut scene, &mut session, 420, 230);
    while session.now() < at(END) {
        pause(&mut scene, &mut session, 25);
        let pushed = scene.rng.within(90..500) as usize;
        let (news, thanks) = (
            tls::data(&mut scene.rng, pushed),
            tls::data(&mut scene.rng, 40),
        );
        session.say(&mut scene, Side::Server, &news);
        session.say(&mut scene, Side::Client, &thanks);
    }

    let route = Route::direct(cluster.pod(10).host, outside(LOGS, FAR), 5170);
    let mut session = Session::open(&mut scene, route, at(85));
    while session.now() < at(END) {
        let line = format!(
            "{{\"level\":\"info\",\"path\":\"/product/{}\",\"ms\":{}}}\n",
            scene.rng.below(4000),
            scene.rng.below(900)
        );
        session.say(&mut scene, Side::Client, line.as_bytes());
        pause(&mut scene, &mut session, 8);
    }

    let route = Route::direct(cluster.pod(14).host, outside(FEED, FAR), 9001);
    let mut session = Session::open(&mut scene, route, at(90));
    while session.now() < at(END) {
        let prices = scene.rng.within(2800..9000) as usize;
        let prices = scene.rng.bytes(prices);
        session.ask(
            &mut scene,
            b"\x02since\0",
            Duration::from_millis(4),
            &prices,
        );
        pause(&mut scene, &mut session, 20);
    }
    scene.finish()
}
