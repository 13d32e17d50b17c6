//! `http-tunnel`: SSH through a proxy's CONNECT, and a page on a web pod that relays; its twin does as much in good order.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, START, WEB, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::ssh;
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;
use crate::time::Timestamp;

use Side::{Client, Server};

const WEB_ACTOR: u8 = 10;
const WORKER_ACTOR: u8 = 14;
const BEGINS: u64 = 40;
const SECOND_BEGINS: u64 = 70;
/// The proxy, of the company's, in front of the cluster.
const PROXY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 40);
const FAR_END: &str = "git.status-feed.example:443";
const INTRUDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const COLLECTOR: (&str, Ipv4Addr) = ("collect.partner.example", Ipv4Addr::new(198, 51, 100, 22));
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "http-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker asks the company's proxy for port 443 of a host outside and logs in there by SSH, to type. Somebody outside works through a page that he left on a web pod: a request every 300 ms or so, its body noise that is declared as text, mostly to ask whether there is anything.",
                seed: 121,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker asks the same proxy for port 443 of hosts outside and speaks TLS there, and once fetches sources by SSH from port 22. An api pod pushes compressed telemetry, and binary calls that say so; visitors' browsers poll for news in JSON, wait for server-sent events, and upload a picture slowly.",
                seed: 122,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new(
                "http-tunnel",
                "c2",
                cluster.pod(WORKER_ACTOR),
                Duration::from_secs(BEGINS),
            )
            .within(10),
            Expect::new(
                "http-tunnel",
                "c2",
                cluster.pod(WEB_ACTOR),
                Duration::from_secs(SECOND_BEGINS),
            )
            .within(60),
        ],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let worker = cluster.pod(WORKER_ACTOR).host;
    let mut session = connect(&mut scene, worker, FAR_END, at(BEGINS));
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.2p1 Debian-2", "OpenSSH_9.9");
    steps.extend(ssh::shell(&mut scene.rng));
    steps.extend(ssh::typing(&mut scene.rng, 8));
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Client);
    relay(&mut scene, cluster.pod(WEB_ACTOR).host, at(SECOND_BEGINS));
    scene.finish()
}

/// A raw connection through the proxy.
fn connect(scene: &mut Scene, client: Host, target: &str, starts: Timestamp) -> Session {
    let proxy = outside(PROXY, Duration::from_micros(700));
    let mut session = Session::open(scene, Route::direct(client, proxy, 3128), starts);
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    session.ask(
        scene,
        request.as_bytes(),
        Duration::from_millis(18),
        established,
    );
    session
}

/// A page that relays: asked for what has come every 300 ms, and given what there is to send.
fn relay(scene: &mut Scene, web: Host, starts: Timestamp) {
    let intruder = outside(INTRUDER, Duration::from_millis(38));
    let mut session = Session::open(scene, Route::direct(intruder, web, 8080), starts);
    for number in 0..160_u64 {
        let busy = number % 7 < 2;
        let up = if busy { scene.rng.within(90..900) } else { 44 } as usize;
        let down = if busy { scene.rng.within(60..2600) } else { 28 } as usize;
        let ask = noise(
            &mut scene.rng,
            "POST /media/cache/thumb.php HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: ",
            up,
            true,
        );
        let answer = noise(
            &mut scene.rng,
            "HTTP/1.1 200 OK\r\nServer: shop-web/4.2\r\n",
            down,
            false,
        );
        session.ask(scene, &ask, Duration::from_millis(3), &answer);
        let pause = scene.rng.about(Duration::from_millis(250));
        session.wait(scene, pause);
    }
    session.close(scene, Client);
}

/// A message whose body is noise declared as a page.
fn noise(rng: &mut Rng, head: &str, len: usize, asks: bool) -> Vec<u8> {
    let agent = if asks {
        format!("{BROWSER}\r\n")
    } else {
        String::new()
    };
    let mut bytes =
        format!("{head}{agent}Content-Type: text/html\r\nContent-Length: {len}\r\n\r\n")
            .into_bytes();
    bytes.extend(rng.bytes(len));
    bytes
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let worker = cluster.pod(WORKER_ACTOR).host;
    for (number, target) in [
        "hooks.chat.example:443",
        "deb.mirror.example:443",
        "api.billing.example:8443",
    ]
    .into_iter()
    .enumerate()
    {
        for round in 0..3 {
            let starts = at(20 + number as u64 * 9 + round * 40);
            let mut session = connect(&mut scene, worker, target, starts);
            let name = target.split(':').next().unwrap_or(target);
            tls::handshake(&mut scene, &mut session, &tls::GO, name);
            for (asked, answered) in [(210, 900), (340, 5200)] {
                tls::exchange(&mut scene, &mut session, asked, answered);
            }
            session.close(&mut scene, Client);
        }
    }
    let mut session = connect(&mut scene, worker, "code.example:22", at(66));
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.9", "codehost-1.0");
    steps.extend(ssh::forwarded(
        &mut scene.rng,
        Client,
        &[(300, 9000), (80, 22_000)],
    ));
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Client);

    let api = cluster.alive(API, START)[0];
    let known =
        Resolver::new(&cluster).outside(&mut scene, api, COLLECTOR.0, &[COLLECTOR.1], at(25));
    push(&mut scene, api.host, known);
    let web = cluster.alive(WEB, START)[0].host;
    calls(&mut scene, api.host, web, at(35));
    news(&mut scene, web, at(30));
    events(&mut scene, web, at(50));
    picture(&mut scene, web, at(52));
    scene.finish()
}

fn message(head: &str, kind: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{head}\r\nContent-Type: {kind}\r\n{coding}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

/// Telemetry about every second, whenever a batch is full, compressed.
fn push(scene: &mut Scene, api: Host, starts: Timestamp) {
    let collector = outside(COLLECTOR.1, Duration::from_millis(19));
    let mut session = Session::open(scene, Route::direct(api, collector, 80), starts);
    for _ in 0..90 {
        let len = scene.rng.within(300..900) as usize;
        let metrics = scene.rng.bytes(len);
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nHost: {}\r\nUser-Agent: otel/1.9",
            COLLECTOR.0
        );
        let ask = message(
            &head,
            "application/x-protobuf",
            "Content-Encoding: gzip\r\n",
            &metrics,
        );
        let answer = http::response("200 OK", "collector", "application/json", "{}");
        session.ask(scene, &ask, Duration::from_millis(4), &answer);
        let pause = scene.rng.pause(Duration::from_secs(1));
        session.wait(scene, pause);
    }
    session.close(scene, Client);
}

/// Binary calls between two services, declared as bytes.
fn calls(scene: &mut Scene, api: Host, web: Host, starts: Timestamp) {
    let mut session = Session::open(scene, Route::direct(api, web, 8080), starts);
    for _ in 0..120 {
        let (up, down) = (
            scene.rng.within(60..400) as usize,
            scene.rng.within(90..2000) as usize,
        );
        let (ask, answer) = (scene.rng.bytes(up), scene.rng.bytes(down));
        let ask = message(
            "POST /rpc HTTP/1.1\r\nHost: web:8080",
            "application/octet-stream",
            "",
            &ask,
        );
        let answer = message("HTTP/1.1 200 OK", "application/octet-stream", "", &answer);
        session.ask(scene, &ask, Duration::from_millis(2), &answer);
        let pause = scene.rng.about(Duration::from_millis(400));
        session.wait(scene, pause);
    }
    session.close(scene, Client);
}

/// A browser that polls with what it has to say, in JSON.
fn news(scene: &mut Scene, web: Host, starts: Timestamp) {
    let visitor = outside(Ipv4Addr::new(203, 0, 113, 160), Duration::from_millis(25));
    let mut session = Session::open(scene, Route::direct(visitor, web, 8080), starts);
    for _ in 0..100 {
        let (up, down) = (
            scene.rng.within(40..300) as usize,
            scene.rng.within(40..900) as usize,
        );
        let said = http::json(&mut scene.rng, up);
        let mut request = Request::get("shop.example", "/poll", BROWSER);
        (request.method, request.body) = ("POST", &said);
        let news = http::json(&mut scene.rng, down);
        let answer = http::response("200 OK", "shop-web/4.2", "application/json", &news);
        session.ask(scene, &request.bytes(), Duration::from_millis(5), &answer);
        let pause = scene.rng.about(Duration::from_millis(900));
        session.wait(scene, pause);
    }
    session.close(scene, Client);
}

/// Server-sent events: an answer that trickles.
fn events(scene: &mut Scene, web: Host, starts: Timestamp) {
    let visitor = outside(Ipv4Addr::new(203, 0, 113, 161), Duration::from_millis(25));
    let mut session = Session::open(scene, Route::direct(visitor, web, 8080), starts);
    let request = Request::get("shop.example", "/events", BROWSER).bytes();
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    session.ask(scene, &request, Duration::from_millis(2), head);
    for _ in 0..30 {
        let words = http::prose(&mut scene.rng, 50);
        let event = format!("data: {words}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        session.say(scene, Server, chunk.as_bytes());
        let pause = scene.rng.about(Duration::from_secs(3));
        session.wait(scene, pause);
    }
    session.close(scene, Client);
}

/// The same visitor uploads a picture over a bad line.
fn picture(scene: &mut Scene, web: Host, starts: Timestamp) {
    let visitor = outside(Ipv4Addr::new(203, 0, 113, 161), Duration::from_millis(25));
    let mut session = Session::open(scene, Route::direct(visitor, web, 8080), starts);
    let picture = scene.rng.bytes(90_000);
    let upload = message(
        "POST /upload HTTP/1.1\r\nHost: shop.example",
        "image/jpeg",
        "",
        &picture,
    );
    for piece in upload.chunks(2800) {
        session.say(scene, Client, piece);
        let pause = scene.rng.about(Duration::from_millis(1100));
        session.wait(scene, pause);
    }
    let answer = http::response("201 Created", "shop-web/4.2", "application/json", "{}");
    session.say(scene, Server, &answer);
    session.close(scene, Client);
}
