//! `beacon`: implants that report to their masters in three ways; the twin has everything in a cluster that ticks.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::time::Timestamp;

/// Who reports, and from when on: over TLS, on one connection, and over HTTP.
const BY_TLS: (u8, u64) = (12, 35);
const ON_ONE: (u8, u64) = (10, 40);
const BY_HTTP: (u8, u64) = (11, 45);
const MASTER: (&str, Ipv4Addr) = ("cdn-assets.example", Ipv4Addr::new(192, 0, 2, 20));
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 40);
const THIRD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 41);
/// What pods call outside by design.
const STATUS: (&str, Ipv4Addr) = ("status.vendor.example", Ipv4Addr::new(198, 51, 100, 15));
const METRICS: (&str, Ipv4Addr) = ("intake.metrics.example", Ipv4Addr::new(198, 51, 100, 11));
const PAYMENTS: (&str, Ipv4Addr) = ("api.payments.example", Ipv4Addr::new(198, 51, 100, 10));
/// What is switched on in the middle: collectors nobody has called before, and a feed.
const SPANS: (&str, Ipv4Addr) = ("otlp.traces.example", Ipv4Addr::new(198, 51, 100, 31));
const SERIES: (&str, Ipv4Addr) = ("write.series.example", Ipv4Addr::new(198, 51, 100, 32));
const RATES: (&str, Ipv4Addr) = ("rates.exchange.example", Ipv4Addr::new(198, 51, 100, 33));
const LOGS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 34);
const GAUGES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 35);
const FAR: Duration = Duration::from_millis(21);
const END: u64 = 175;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |(actor, begins): (u8, u64)| {
        let begins = Duration::from_secs(begins);
        Expect::new("beacon", "c2", cluster.pod(actor), begins)
    };
    Case {
        id: "beacon",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod asks for orders over TLS, by name, every 6 s ±20 %; a web pod keeps one connection to a bare address and says it is alive every 5 s ±50 %; another asks over HTTP every 4 s ±90 %.",
                seed: 71,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker asks a vendor's status page every 10 s, to the byte, and an api pod sends metrics every 7 s, both since before the capture; a web pod calls a payment service when people buy. In the middle new agents are switched on: metrics every 7 s ±30 %, lines of a log every 3 s and a few gauges every 5 s to bare addresses, spans every 1.3 s on one connection, rates fetched every 4 s.",
                seed: 72,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            expect(BY_TLS).within(80),
            expect(ON_ONE).within(80),
            expect(BY_HTTP).within(110),
        ],
    }
}

/// About `period`, give or take a share of it in percent.
fn jittered(scene: &mut Scene, period: Duration, percent: u32) -> Duration {
    let off = period * percent / 100;
    scene.rng.between(period.saturating_sub(off), period + off)
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);

    let (actor, begins) = BY_TLS;
    let actor = cluster.pod(actor);
    let (name, ip) = MASTER;
    let mut now = at(begins);
    while now < at(END) {
        now = resolver.outside(&mut scene, actor, name, &[ip], now);
        now = call(
            &mut scene,
            Route::direct(actor.host, outside(ip, FAR), 443),
            name,
            (240, 130),
            now,
        );
        now = now.after(jittered(&mut scene, Duration::from_secs(6), 20));
    }

    let (actor, begins) = ON_ONE;
    let route = Route::direct(cluster.pod(actor).host, outside(SECOND, FAR), 8443);
    let mut session = Session::open(&mut scene, route, at(begins));
    session.say(&mut scene, Side::Client, &[b'\x91'; 64]);
    while session.now() < at(END) {
        let pause = jittered(&mut scene, Duration::from_secs(5), 50);
        session.wait(&mut scene, pause);
        session.say(&mut scene, Side::Client, b"\x07\0\0\0alive\x01\x02");
    }

    let (actor, begins) = BY_HTTP;
    let route = Route::direct(cluster.pod(actor).host, outside(THIRD, FAR), 8080);
    let mut now = at(begins);
    while now < at(END) {
        let mut session = Session::open(&mut scene, route, now);
        let mut request = Request::get("192.0.2.41:8080", "/jquery-3.3.1.min.js", "Mozilla/5.0");
        request.close = true;
        let answer = http::response("200 OK", "nginx", "text/javascript", "/* nothing to do */");
        session.ask(
            &mut scene,
            &request.bytes(),
            Duration::from_millis(2),
            &answer,
        );
        now = session.close(&mut scene, Side::Server);
        now = now.after(jittered(&mut scene, Duration::from_secs(4), 90));
    }
    scene.finish()
}

/// A call over TLS on a connection of its own. When it is over.
fn call(
    scene: &mut Scene,
    route: Route,
    name: &str,
    sizes: (usize, usize),
    at: Timestamp,
) -> Timestamp {
    let mut session = Session::open(scene, route, at);
    tls::handshake(scene, &mut session, &tls::OPENSSL, name);
    tls::exchange(scene, &mut session, sizes.0, sizes.1);
    session.close(scene, Side::Client)
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);

    let (name, ip) = STATUS;
    for secs in (4..END).step_by(10) {
        let worker = cluster.pod(14);
        let known = resolver.outside(&mut scene, worker, name, &[ip], at(secs));
        let route = Route::direct(worker.host, outside(ip, FAR), 443);
        call(&mut scene, route, name, (180, 5200), known);
    }
    let (name, ip) = METRICS;
    for secs in (2..END).step_by(7) {
        let api = cluster.pod(12);
        let known = resolver.outside(&mut scene, api, name, &[ip], at(secs));
        let sizes = (scene.rng.within(900..4000) as usize, 120);
        let route = Route::direct(api.host, outside(ip, FAR), 443);
        call(&mut scene, route, name, sizes, known);
    }
    let (name, ip) = PAYMENTS;
    let mut now = at(40);
    while now < at(END) {
        let web = cluster.pod(10);
        let known = resolver.outside(&mut scene, web, name, &[ip], now);
        let sizes = (
            scene.rng.within(300..900) as usize,
            scene.rng.within(200..2000) as usize,
        );
        let route = Route::direct(web.host, outside(ip, FAR), 443);
        now = call(&mut scene, route, name, sizes, known);
        now = now.after(scene.rng.pause(Duration::from_secs(5)));
    }
    new_collectors(&mut scene, &cluster, &mut resolver);
    scene.finish()
}

/// Agents that are switched on in the middle of a capture and deliver, or fetch, by the clock.
fn new_collectors(scene: &mut Scene, cluster: &Cluster, resolver: &mut Resolver) {
    let (name, ip) = SERIES;
    let mut now = at(50);
    while now < at(END) {
        let web = cluster.pod(11);
        now = resolver.outside(scene, web, name, &[ip], now);
        let sizes = (scene.rng.within(900..2600) as usize, 96);
        let route = Route::direct(web.host, outside(ip, FAR), 443);
        now = call(scene, route, name, sizes, now);
        now = now.after(jittered(scene, Duration::from_secs(7), 30));
    }

    let (name, ip) = RATES;
    let mut now = at(55);
    while now < at(END) {
        let worker = cluster.pod(14);
        now = resolver.outside(scene, worker, name, &[ip], now);
        let sizes = (180, scene.rng.within(700..4000) as usize);
        let route = Route::direct(worker.host, outside(ip, FAR), 443);
        now = call(scene, route, name, sizes, now);
        now = now.after(jittered(scene, Duration::from_secs(4), 5));
    }

    let (name, ip) = SPANS;
    let api = cluster.pod(12);
    let now = resolver.outside(scene, api, name, &[ip], at(60));
    let route = Route::direct(api.host, outside(ip, FAR), 4317);
    let mut session = Session::open(scene, route, now);
    tls::handshake(scene, &mut session, &tls::GO, name);
    while session.now() < at(END) {
        let brought = scene.rng.within(300..1100) as usize;
        tls::exchange(scene, &mut session, brought, 46);
        let pause = jittered(scene, Duration::from_millis(1300), 10);
        session.wait(scene, pause);
    }

    let route = Route::direct(cluster.pod(10).host, outside(LOGS, FAR), 5170);
    let mut session = Session::open(scene, route, at(65));
    while session.now() < at(END) {
        let line = format!(
            "{{\"level\":\"info\",\"path\":\"/product/{}\",\"ms\":{},\"message\":\"{}\"}}\n",
            scene.rng.below(4000),
            scene.rng.below(900),
            "served ".repeat(scene.rng.within(1..6) as usize),
        );
        session.say(scene, Side::Client, line.as_bytes());
        session.wait(scene, Duration::from_secs(3));
    }

    let mut now = at(70);
    while now < at(END) {
        let route = Route::direct(cluster.pod(11).host, outside(GAUGES, FAR), 8086);
        let mut session = Session::open(scene, route, now);
        let body = format!(
            "shop,pod=web cpu={},rss={},open={},served={}",
            scene.rng.below(100),
            scene.rng.within(90_000..1_100_000),
            scene.rng.below(200),
            scene.rng.below(20_000)
        );
        let request = Request {
            method: "POST",
            body: &body,
            ..Request::get("198.51.100.35:8086", "/write?db=shop", "shop/4")
        };
        let answer = http::response("204 No Content", "influx", "text/plain", "");
        session.ask(scene, &request.bytes(), Duration::from_millis(2), &answer);
        now = session
            .close(scene, Side::Client)
            .after(Duration::from_secs(5));
    }
}
