//! `reverse-shell`: shells opened to the outside, in clear and inside TLS, and one that listens in a pod; the twin has
//! agents that take orders, a queue that hands out messages, and an administrator at the database.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::shell::{self, Form};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;

/// Who gives a shell away, and from when on: in clear, inside TLS, and to another pod.
const PLAIN: (u8, u64) = (10, 30);
const SEALED: (u8, u64) = (12, 40);
const BOUND: (u8, u64) = (14, 50);
const LISTENER: u8 = 11;
const SHELL_PORT: u16 = 31_337;
const THINKING: Duration = Duration::from_secs(5);
/// Somebody outside.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 90);
/// A vendor's hub, whose agents run in the cluster.
const HUB: (&str, Ipv4Addr) = ("hub.vendor.example", Ipv4Addr::new(198, 51, 100, 77));
const QUEUE: (&str, Ipv4Addr) = ("mq.partner.example", Ipv4Addr::new(198, 51, 100, 61));
const FAR: Duration = Duration::from_millis(24);

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |(actor, begins): (u8, u64)| {
        let begins = Duration::from_secs(begins);
        Expect::new("reverse-shell", "c2", cluster.pod(actor), begins)
    };
    Case {
        id: "reverse-shell",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod opens a shell to port 4444 of a host outside, an api pod one with a terminal inside TLS to port 443, and the worker works one that listens on a port of another web pod.",
                seed: 61,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker runs a vendor's agent, which takes orders over a TLS connection it opened before the capture, and reads a partner's queue; somebody types SQL from an api pod.",
                seed: 62,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            expect(PLAIN).within(30),
            expect(SEALED).within(60),
            expect(BOUND).within(30),
        ],
    }
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let attacker = outside(ATTACKER, FAR);

    let (actor, begins) = PLAIN;
    let route = Route::direct(cluster.pod(actor).host, attacker, 4444);
    let mut session = Session::open(&mut scene, route, at(begins));
    let until = at(begins + 100);
    shell::work(
        &mut scene,
        &mut session,
        Side::Server,
        Form::Lines,
        THINKING,
        until,
    );
    session.close(&mut scene, Side::Server);

    let (actor, begins) = SEALED;
    let route = Route::direct(cluster.pod(actor).host, attacker, 443);
    let mut session = Session::open(&mut scene, route, at(begins));
    tls::handshake(&mut scene, &mut session, &tls::OPENSSL, "");
    let until = at(begins + 110);
    shell::work(
        &mut scene,
        &mut session,
        Side::Server,
        Form::SealedKeys,
        THINKING,
        until,
    );
    session.close(&mut scene, Side::Server);

    let (actor, begins) = BOUND;
    let listener = cluster.pod(LISTENER).host;
    let route = Route::direct(cluster.pod(actor).host, listener, SHELL_PORT);
    let mut session = Session::open(&mut scene, route, at(begins));
    let until = at(begins + 90);
    shell::work(
        &mut scene,
        &mut session,
        Side::Client,
        Form::Lines,
        THINKING,
        until,
    );
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    take_orders(&mut scene, &cluster);
    read_queue(&mut scene, &cluster);
    type_sql(&mut scene, &cluster);
    scene.finish()
}

/// The hub asks, the agent looks and answers.
fn take_orders(scene: &mut Scene, cluster: &Cluster) {
    let agent = cluster.pod(14);
    let (name, ip) = HUB;
    let known = Resolver::new(cluster).outside(scene, agent, name, &[ip], at(1));
    let route = Route::direct(agent.host, outside(ip, FAR), 443);
    let mut session = Session::open(scene, route, known);
    tls::handshake(scene, &mut session, &tls::GO, name);
    while session.now() < at(170) {
        let pause = Duration::from_millis(700) + scene.rng.pause(Duration::from_secs(2));
        session.wait(scene, pause);
        let order = scene.rng.within(40..200) as usize;
        let report = scene.rng.within(200..1800) as usize;
        for (side, len) in [(Side::Server, order), (Side::Client, report)] {
            let data = tls::data(&mut scene.rng, len);
            session.say(scene, side, &data);
            let work = scene.rng.about(Duration::from_millis(15));
            session.wait(scene, work);
        }
    }
}

/// Messages come when there are some (STOMP 1.2), and each is acknowledged.
fn read_queue(scene: &mut Scene, cluster: &Cluster) {
    let reader = cluster.pod(14);
    let (name, ip) = QUEUE;
    let known = Resolver::new(cluster).outside(scene, reader, name, &[ip], at(20));
    let mut session = Session::open(
        scene,
        Route::direct(reader.host, outside(ip, FAR), 61_613),
        known,
    );
    let think = Duration::from_millis(3);
    session.ask(
        scene,
        b"CONNECT\naccept-version:1.2\nhost:partner\n\n\0",
        think,
        b"CONNECTED\nversion:1.2\n\n\0",
    );
    session.say(
        scene,
        Side::Client,
        b"SUBSCRIBE\nid:0\ndestination:/queue/orders\nack:client\n\n\0",
    );
    for number in 0..40 {
        let pause = Duration::from_millis(700) + scene.rng.pause(Duration::from_secs(2));
        session.wait(scene, pause);
        let order = crate::testkit::talk::http::json(&mut scene.rng, 300);
        let message = format!("MESSAGE\nsubscription:0\nmessage-id:{number:03}\n\n{order}\0");
        session.say(scene, Side::Server, message.as_bytes());
        let work = scene.rng.about(think);
        session.wait(scene, work);
        session.say(
            scene,
            Side::Client,
            format!("ACK\nid:{number:03}\n\n\0").as_bytes(),
        );
    }
    session.close(scene, Side::Client);
}

/// An administrator's session, with pauses to read.
fn type_sql(scene: &mut Scene, cluster: &Cluster) {
    let (client, server) = (cluster.pod(12), cluster.pod(20));
    let route = Route::service(client.host, server.host, postgres::PORT);
    let mut session = Session::open(scene, route, at(60));
    let login = Login {
        user: "shop",
        database: "shop",
        application: "psql",
    };
    postgres::log_in(scene, &mut session, &login, true);
    for rows in [3, 12, 1, 7, 30, 2, 5] {
        let pause = Duration::from_secs(1) + scene.rng.pause(Duration::from_secs(5));
        session.wait(scene, pause);
        let sql = format!("SELECT name, stock FROM items LIMIT {rows}");
        postgres::query(scene, &mut session, &sql, rows, 40);
    }
    postgres::leave(scene, session);
}
