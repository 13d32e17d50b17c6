//! `relay-pivot`: a port-forward to the database, and a line to the outside by which a cache is asked; its twin relays as
//! gateways and poolers do.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

use Side::{Client, Server};

const FORWARDER: u8 = 11;
const REVERSER: u8 = 14;
const GATEWAY: u8 = 11;
const POOLER: u8 = 14;
const FORWARDS: u64 = 50;
const REVERSES: u64 = 90;
const DATABASE: u8 = 20;
const CACHE: u8 = 21;
const INTRUDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 90);
const MASTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 30);
/// What a relay takes to pass something on.
const PASSING: Duration = Duration::from_micros(180);

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "relay-pivot",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod passes on its port 18080 to the database, and somebody outside queries it so, over six connections. The worker calls a host outside on port 443 and is asked by it; the questions go to the cache.",
                seed: 141,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker is a pooler: it passes on port 6432 to the database, from the start. A web pod is a gateway: it passes on requests to an api pod, with a header more, and once it has been up for a minute on another port.",
                seed: 142,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new(
                "relay-pivot",
                "recon",
                cluster.pod(FORWARDER),
                Duration::from_secs(FORWARDS),
            )
            .within(30),
            Expect::new(
                "relay-pivot",
                "recon",
                cluster.pod(REVERSER),
                Duration::from_secs(REVERSES),
            )
            .within(40),
        ],
    }
}

/// A question and its answer.
type Asked = (Vec<u8>, Vec<u8>);

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let host = |last| cluster.pod(last).host;
    let intruder = outside(INTRUDER, Duration::from_millis(31));
    let mut now = at(FORWARDS);
    for _ in 0..6 {
        let front = Route::direct(intruder, host(FORWARDER), 18_080);
        let back = Route::direct(host(FORWARDER), host(DATABASE), postgres::PORT);
        let queries = queries(&mut scene.rng);
        now = copied(&mut scene, front, back, &queries, now);
        now = now.after(scene.rng.pause(Duration::from_secs(4)));
    }
    let master = outside(MASTER, Duration::from_millis(44));
    reversed(&mut scene, host(REVERSER), master, host(CACHE));
    scene.finish()
}

/// The pod calls both, and joins them.
fn reversed(scene: &mut Scene, pod: Host, master: Host, cache: Host) {
    let mut front = Session::open(scene, Route::direct(pod, master, 443), at(REVERSES));
    let mut back = Session::open(scene, Route::direct(pod, cache, 6379), front.now());
    for key in [
        "session:41",
        "cart:7",
        "user:admin:token",
        "config",
        "order:119:lines",
    ] {
        let pause = scene.rng.about(Duration::from_millis(240));
        front.wait(scene, pause);
        let question = redis::command(&["GET", key]);
        let len = scene.rng.within(30..4000) as usize;
        let value = http::prose(&mut scene.rng, len);
        let answer = Reply::Bulk(&value).bytes();
        front.say(scene, Server, &question);
        back.wait_until(scene, front.now().after(PASSING));
        back.say(scene, Client, &question);
        back.wait(scene, Duration::from_micros(400));
        back.say(scene, Server, &answer);
        front.wait_until(scene, back.now().after(PASSING));
        front.say(scene, Client, &answer);
    }
    front.close(scene, Server);
    back.close(scene, Client);
}

/// A session with the database that trusts who comes.
fn queries(rng: &mut Rng) -> Vec<Asked> {
    let login = Login {
        user: "shop",
        database: "orders",
        application: "psql",
    };
    let welcome = [
        postgres::message(b'R', &[&0_i32.to_be_bytes()]),
        postgres::ready(),
    ];
    let mut asked = vec![(postgres::startup(&login), welcome.concat())];
    for _ in 0..rng.within(2..5) {
        let table = rng.pick(&["orders", "customers", "invoices", "stock_movements"]);
        let limit = rng.within(1..5000);
        let sql = format!("SELECT id, value FROM {table} WHERE id > {limit} LIMIT 40");
        let rows = rng.within(1..40) as usize;
        asked.push((
            postgres::message(b'Q', &[sql.as_bytes(), b"\0"]),
            postgres::result(rng, rows, 60),
        ));
    }
    asked
}

/// Whatever is asked on one connection is asked on the other, and so is the answer. The time of the end.
fn copied(
    scene: &mut Scene,
    front: Route,
    back: Route,
    asked: &[Asked],
    starts: Timestamp,
) -> Timestamp {
    let mut front = Session::open(scene, front, starts);
    let mut back = Session::open(scene, back, front.now().after(PASSING));
    for (question, answer) in asked {
        front.say(scene, Client, question);
        back.wait_until(scene, front.now().after(PASSING));
        back.say(scene, Client, question);
        let think = scene.rng.about(Duration::from_millis(2));
        back.wait(scene, think);
        back.say(scene, Server, answer);
        front.wait_until(scene, back.now().after(PASSING));
        front.say(scene, Server, answer);
        let pause = scene.rng.pause(Duration::from_millis(600));
        front.wait(scene, pause);
    }
    back.wait_until(scene, front.now().after(PASSING));
    front.close(scene, Client);
    back.close(scene, Client)
}

/// The benign capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let host = |last| cluster.pod(last).host;
    let mut now = at(2);
    for _ in 0..8 {
        let front = Route::direct(host(12), host(POOLER), 6432);
        let back = Route::direct(host(POOLER), host(DATABASE), postgres::PORT);
        let queries = queries(&mut scene.rng);
        now = copied(&mut scene, front, back, &queries, now);
        now = now.after(scene.rng.pause(Duration::from_secs(9)));
    }
    let visitor = outside(Ipv4Addr::new(198, 51, 100, 7), Duration::from_millis(24));
    let mut now = at(70);
    for number in 0..12_u32 {
        now = gateway(&mut scene, visitor, host(GATEWAY), host(12), number, now);
        now = now.after(scene.rng.pause(Duration::from_secs(3)));
    }
    scene.finish()
}

/// A request is passed on with a header more, and the answer with one less.
fn gateway(
    scene: &mut Scene,
    visitor: Host,
    web: Host,
    api: Host,
    number: u32,
    starts: Timestamp,
) -> Timestamp {
    let path = format!(
        "/partners/{}/prices?page={number}",
        scene.rng.below(100_000)
    );
    let plain = Request::get("partners.shop.example", &path, "partner-sync/2.1");
    let question = plain.bytes();
    let len = scene.rng.within(200..6000) as usize;
    let body = http::json(&mut scene.rng, len);
    let answer = http::response("200 OK", "shop-api/4.2", "application/json", &body);
    let passed = http::response("200 OK", "shop-web", "application/json", &body);
    let end = question.len() - 2;
    let more = [&question[..end], b"X-Forwarded-For: 198.51.100.7\r\n\r\n"].concat();
    let mut front = Session::open(scene, Route::direct(visitor, web, 8081), starts);
    let mut back = Session::open(scene, Route::direct(web, api, 8080), front.now());
    front.say(scene, Client, &question);
    back.wait_until(scene, front.now().after(PASSING));
    back.say(scene, Client, &more);
    back.wait(scene, Duration::from_millis(3));
    back.say(scene, Server, &answer);
    front.wait_until(scene, back.now().after(PASSING));
    front.say(scene, Server, &passed);
    back.close(scene, Client);
    front.close(scene, Client)
}
