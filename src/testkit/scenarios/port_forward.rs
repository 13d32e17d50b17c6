//! `port-forward`: somebody reaches into pods through the API, once in clear and once hidden; its twins are what else goes
//! between API server, proxies and kubelets.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, GATEWAY, NODE_IP, START, Workload, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::talk::websocket::{self, BINARY};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const ACTOR: u8 = 11;
/// A pod that runs `kubectl proxy`.
const CONSOLE: u8 = 50;
const CLEAR_BEGINS: u64 = 30;
const HIDDEN_BEGINS: u64 = 70;
const API_SERVER: Host = outside(Ipv4Addr::new(172, 18, 0, 3), Duration::from_micros(300));
const KUBELET: Host = outside(NODE_IP, Duration::from_micros(40));
const FORWARD: &str = "/api/v1/namespaces/shop/pods/postgres-0/portforward";
const EXEC: &str = "/api/v1/namespaces/shop/pods/postgres-0/exec";
/// A frame of SPDY, each part in a record of its own (two of two bytes, two of four), and the answer in one of its own.
const FRAME: [usize; 4] = [2, 2, 4, 4];

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let hidden = Expect {
        pod: String::new(),
        workload: String::new(),
        ..Expect::new(
            "port-forward",
            "recon",
            cluster.pod(ACTOR),
            Duration::from_secs(HIDDEN_BEGINS),
        )
    };
    Case {
        id: "port-forward",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod asks a kubectl proxy for a port of the database's pod and speaks through it. Later the API server opens a stream to the node's kubelet, inside TLS, and passes connections on in it.",
                seed: 111,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A web pod lists pods through the proxy and keeps a chat open over a WebSocket; somebody on the node runs a command through it. The API server's pooled connection to the kubelet is used all the time, an operator's shell goes over another one, and an agent reads the kubelet's metrics over HTTP/1.1.",
                seed: 112,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new(
                "port-forward",
                "recon",
                cluster.pod(ACTOR),
                Duration::from_secs(CLEAR_BEGINS),
            )
            .within(5),
            hidden.within(40),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let console = Workload {
        namespace: "ops",
        kind: "Deployment",
        name: "console",
    };
    let start = START.before(Duration::from_hours(20));
    cluster.deploy(console, "1", start, &[CONSOLE]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (actor, console) = (cluster.pod(ACTOR).host, cluster.pod(CONSOLE).host);
    let subprotocol = "SPDY/3.1+portforward.k8s.io";
    let mut session = in_clear(
        &mut scene,
        actor,
        console,
        (FORWARD, subprotocol),
        at(CLEAR_BEGINS),
    );
    for round in 0..12 {
        frames(&mut scene, &mut session, 40 + round, 90);
    }
    session.close(&mut scene, Side::Client);

    let mut session = upgraded(&mut scene, API_SERVER, at(HIDDEN_BEGINS));
    for _ in 0..5 {
        forward(&mut scene, &mut session, &[(120, 900), (90, 2400)]);
        for _ in 0..2 {
            let pause = scene.rng.about(Duration::from_secs(5));
            session.wait(&mut scene, pause);
            frame(&mut scene, &mut session, 0, 12);
        }
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (web, console) = (cluster.pod(ACTOR).host, cluster.pod(CONSOLE).host);
    let route = Route::direct(web, console, 8001);
    let mut session = Session::open(&mut scene, route, at(20));
    let request = Request::get(
        "console.ops:8001",
        "/api/v1/namespaces/shop/pods",
        "dashboard/2",
    );
    let pods = http::json(&mut scene.rng, 1800);
    let answer = http::response("200 OK", "kube", "application/json", &pods);
    session.ask(
        &mut scene,
        &request.bytes(),
        Duration::from_millis(9),
        &answer,
    );
    session.close(&mut scene, Side::Client);

    let api = cluster.pod(12).host;
    for (client, server, asks, start) in [
        (web, api, ("/chat/rooms/7", "chat.v1"), 30),
        (GATEWAY, console, (EXEC, "v5.channel.k8s.io"), 60),
    ] {
        let mut session = in_clear(&mut scene, client, server, asks, at(start));
        for _ in 0..12 {
            frames(&mut scene, &mut session, 30, 60);
        }
        session.close(&mut scene, Side::Client);
    }

    let route = Route::direct(API_SERVER, KUBELET, 10250);
    let mut pooled = Session::open(&mut scene, route, at(15));
    tls::handshake(&mut scene, &mut pooled, &tls::GO, "");
    for _ in 0..25 {
        tls::exchange(&mut scene, &mut pooled, 90, 60);
        tls::exchange(&mut scene, &mut pooled, 190, 600);
        let pause = scene.rng.about(Duration::from_secs(4));
        pooled.wait(&mut scene, pause);
    }
    pooled.close(&mut scene, Side::Client);

    let mut shell = upgraded(&mut scene, API_SERVER, at(40));
    for _ in 0..4 {
        frame(&mut scene, &mut shell, 60, 28);
    }
    for line in 0..12_u64 {
        for _ in 0..3 + line % 5 {
            let pause = scene
                .rng
                .between(Duration::from_millis(80), Duration::from_millis(400));
            shell.wait(&mut scene, pause);
            tls::exchange(&mut scene, &mut shell, 9, 9);
        }
        let output = scene.rng.within(80..1600) as usize;
        tls::exchange(&mut scene, &mut shell, 9, output);
        let pause = scene.rng.about(Duration::from_secs(3));
        shell.wait(&mut scene, pause);
    }
    shell.close(&mut scene, Side::Client);

    let agent = outside(Ipv4Addr::new(172, 18, 0, 7), Duration::from_micros(300));
    let mut session = Session::open(&mut scene, Route::direct(agent, KUBELET, 10250), at(10));
    tls::handshake(&mut scene, &mut session, &tls::OPENSSL, "");
    for _ in 0..10 {
        tls::exchange(&mut scene, &mut session, 170, 9000);
        session.wait(&mut scene, Duration::from_secs(15));
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// A WebSocket to a pod's port 8001.
fn in_clear(
    scene: &mut Scene,
    client: Host,
    server: Host,
    (path, subprotocol): (&str, &str),
    start: Timestamp,
) -> Session {
    let mut session = Session::open(scene, Route::direct(client, server, 8001), start);
    let host = "console.ops:8001";
    let request = websocket::request(&mut scene.rng, host, path, "kubectl/v1.35.0", subprotocol);
    let switched = websocket::switched(&mut scene.rng, subprotocol);
    session.ask(scene, &request, Duration::from_millis(12), &switched);
    session
}

/// A message to the server and one back.
fn frames(scene: &mut Scene, session: &mut Session, asked: usize, answered: usize) {
    let (question, answer) = (scene.rng.bytes(asked), scene.rng.bytes(answered));
    let question = websocket::frame(&mut scene.rng, Side::Client, BINARY, &question);
    let answer = websocket::frame(&mut scene.rng, Side::Server, BINARY, &answer);
    session.ask(scene, &question, Duration::from_millis(6), &answer);
    let pause = scene.rng.about(Duration::from_millis(700));
    session.wait(scene, pause);
}

/// A TLS connection to the kubelet, upgraded.
fn upgraded(scene: &mut Scene, client: Host, start: Timestamp) -> Session {
    let mut session = Session::open(scene, Route::direct(client, KUBELET, 10250), start);
    tls::handshake(scene, &mut session, &tls::GO_HTTP1, "");
    tls::exchange(scene, &mut session, 330, 150);
    session
}

/// A frame of SPDY with so many bytes of content, and its answer.
fn frame(scene: &mut Scene, session: &mut Session, content: usize, answered: usize) {
    let parts = FRAME.into_iter().chain((content > 0).then_some(content));
    let question: Vec<u8> = parts
        .flat_map(|len| tls::data(&mut scene.rng, len))
        .collect();
    let answer = tls::data(&mut scene.rng, answered);
    session.ask(scene, &question, Duration::from_millis(2), &answer);
}

/// A connection that is passed on: its two streams are opened, then both ends speak.
fn forward(scene: &mut Scene, session: &mut Session, said: &[(usize, usize)]) {
    for _ in 0..2 {
        frame(scene, session, 56, 28);
    }
    for &(asked, answered) in said {
        tls::exchange(scene, session, 8 + asked, 8 + answered);
        let pause = scene.rng.about(Duration::from_millis(300));
        session.wait(scene, pause);
    }
}
