//! `websocket-tunnel`: SSH inside a WebSocket, once in disguise and once by a tool that names itself; its twin has
//! WebSockets of all honest kinds.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, GATEWAY, Pod, START, WEB, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http;
use crate::testkit::talk::ssh::{self, Step};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::websocket::{self, BINARY, COMPRESSED, PING, TEXT};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

use Side::{Client, Server};

const WEB_ACTOR: u8 = 10;
const WORKER_ACTOR: u8 = 14;
const BEGINS: u64 = 40;
const SECOND_BEGINS: u64 = 75;
/// The far ends.
const LIVE: (&str, Ipv4Addr) = ("live.status-feed.example", Ipv4Addr::new(192, 0, 2, 61));
const RELAY: (&str, Ipv4Addr) = ("relay.status-feed.example", Ipv4Addr::new(192, 0, 2, 62));
/// The partner whose broker the worker listens to.
const BROKER: (&str, Ipv4Addr) = ("mqtt.partner.example", Ipv4Addr::new(198, 51, 100, 21));
const BROWSER: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/133.0.0.0 Safari/537.36";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "websocket-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod opens a WebSocket to a server outside under a browser's name, and logs in by SSH inside it; somebody types there, and later reaches back through it (ssh -R). The worker pod runs chisel, whose SSH rides in a WebSocket too.",
                seed: 111,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "Visitors chat with the web pods over WebSocket (JSON with a server that pushes, compressed text, a VNC console in the browser); the worker listens to a partner's MQTT broker over WebSocket; an api pod streams binary telemetry to another, and somebody on the node runs a command through the API's channels.",
                seed: 112,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new(
                "websocket-tunnel",
                "c2",
                cluster.pod(WEB_ACTOR),
                Duration::from_secs(BEGINS),
            )
            .within(10),
            Expect::new(
                "websocket-tunnel",
                "c2",
                cluster.pod(WORKER_ACTOR),
                Duration::from_secs(SECOND_BEGINS),
            )
            .within(10),
        ],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(WEB_ACTOR);
    let mut session = upgraded(
        &mut scene,
        &cluster,
        actor,
        LIVE,
        "/live?v=2",
        BROWSER,
        "",
        at(BEGINS),
    );
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.2p1 Debian-2", "OpenSSH_9.6p1");
    steps.extend(ssh::shell(&mut scene.rng));
    steps.extend(ssh::typing(&mut scene.rng, 6));
    steps.extend(ssh::ask_for_reverse(&mut scene.rng));
    for _ in 0..4 {
        let exchanges = [(8, 1), (90, 320), (70, 900)];
        steps.extend(ssh::forwarded(&mut scene.rng, Server, &exchanges));
        steps.push(Step::Pause(scene.rng.about(Duration::from_secs(2))));
    }
    ssh::play(&mut scene, &mut session, &steps, |rng, side, bytes| {
        websocket::frame(rng, side, BINARY, bytes)
    });
    session.close(&mut scene, Client);

    let worker = cluster.pod(WORKER_ACTOR);
    let mut session = upgraded(
        &mut scene,
        &cluster,
        worker,
        RELAY,
        "/",
        "Go-http-client/1.1",
        "chisel-v3",
        at(SECOND_BEGINS),
    );
    let mut steps = ssh::login(&mut scene.rng, "Go", "Go");
    // It calls its own version of SSH by its name.
    steps[0] = Step::Say(Client, b"SSH-chisel-v3-client\r\n".to_vec());
    steps[1] = Step::Say(Server, b"SSH-chisel-v3-server\r\n".to_vec());
    for _ in 0..3 {
        steps.extend(ssh::forwarded(&mut scene.rng, Server, &[(400, 1300)]));
        steps.push(Step::Pause(scene.rng.about(Duration::from_secs(5))));
    }
    ssh::play(&mut scene, &mut session, &steps, |rng, side, bytes| {
        websocket::frame(rng, side, BINARY, bytes)
    });
    session.close(&mut scene, Client);
    scene.finish()
}

/// A connection of a pod to somebody outside, upgraded.
#[expect(
    clippy::too_many_arguments,
    reason = "a connection has as many properties"
)]
fn upgraded(
    scene: &mut Scene,
    cluster: &Cluster,
    actor: &Pod,
    (name, ip): (&str, Ipv4Addr),
    path: &str,
    agent: &str,
    subprotocol: &str,
    starts: Timestamp,
) -> Session {
    let known = Resolver::new(cluster).outside(scene, actor, name, &[ip], starts);
    let server = outside(ip, Duration::from_millis(24));
    let route = Route::direct(actor.host, server, 80);
    open(scene, route, (name, path, agent, subprotocol), known)
}

fn open(
    scene: &mut Scene,
    route: Route,
    (host, path, agent, subprotocol): (&str, &str, &str, &str),
    starts: Timestamp,
) -> Session {
    let mut session = Session::open(scene, route, starts);
    let request = websocket::request(&mut scene.rng, host, path, agent, subprotocol);
    let switched = websocket::switched(&mut scene.rng, subprotocol);
    session.ask(scene, &request, Duration::from_millis(2), &switched);
    session
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let web = cluster.alive(WEB, START)[0].host;
    for (number, starts) in [20, 50, 95].into_iter().enumerate() {
        chat(&mut scene, web, number, at(starts));
    }
    compressed(&mut scene, web, at(35));
    console(&mut scene, web, at(60));
    broker(&mut scene, &cluster, at(25));
    let api = cluster.alive(API, START);
    telemetry(&mut scene, api[0].host, web, at(30));
    command(&mut scene, GATEWAY, web, at(110));
    scene.finish()
}

fn visitor(number: usize) -> Host {
    outside(
        Ipv4Addr::new(203, 0, 113, 150 + number as u8),
        Duration::from_millis(21),
    )
}

fn say(scene: &mut Scene, session: &mut Session, side: Side, first: u8, payload: &[u8]) {
    let frame = websocket::frame(&mut scene.rng, side, first, payload);
    session.say(scene, side, &frame);
}

fn rest(scene: &mut Scene, session: &mut Session, secs: f64) {
    let pause = scene.rng.about(Duration::from_secs_f64(secs));
    session.wait(scene, pause);
}

/// Socket.IO: the server greets, pings and pushes; the visitor writes now and then.
fn chat(scene: &mut Scene, web: Host, number: usize, starts: Timestamp) {
    let route = Route::direct(visitor(number), web, 8080);
    let mut session = open(
        scene,
        route,
        ("shop.example", "/socket.io/", BROWSER, ""),
        starts,
    );
    let hello = format!(
        "0{{\"sid\":\"{}\",\"pingInterval\":25000}}",
        scene.rng.hex(20)
    );
    say(scene, &mut session, Server, TEXT, hello.as_bytes());
    say(scene, &mut session, Client, TEXT, b"40/chat,");
    for _ in 0..12 {
        rest(scene, &mut session, 3.0);
        let words = http::prose(&mut scene.rng, 60);
        let message = format!("42/chat,[\"message\",{{\"text\":\"{words}\"}}]");
        if scene.rng.chance(40) {
            say(scene, &mut session, Client, TEXT, message.as_bytes());
        } else {
            say(scene, &mut session, Server, TEXT, message.as_bytes());
        }
    }
    session.close(scene, Client);
}

/// A browser and a server that agreed to compress.
fn compressed(scene: &mut Scene, web: Host, starts: Timestamp) {
    let route = Route::direct(visitor(10), web, 8080);
    let mut session = open(
        scene,
        route,
        ("shop.example", "/graphql", BROWSER, "graphql-transport-ws"),
        starts,
    );
    for _ in 0..10 {
        let (ask, answer) = (scene.rng.bytes(90), scene.rng.bytes(700));
        say(scene, &mut session, Client, COMPRESSED, &ask);
        say(scene, &mut session, Server, COMPRESSED, &answer);
        rest(scene, &mut session, 2.0);
    }
    session.close(scene, Client);
}

/// A machine's screen in a browser.
fn console(scene: &mut Scene, web: Host, starts: Timestamp) {
    let route = Route::direct(visitor(11), web, 8080);
    let mut session = open(
        scene,
        route,
        ("shop.example", "/console/7", BROWSER, "binary"),
        starts,
    );
    say(scene, &mut session, Server, BINARY, b"RFB 003.008\n");
    say(scene, &mut session, Client, BINARY, b"RFB 003.008\n");
    for _ in 0..20 {
        let update = scene.rng.bytes(900);
        say(
            scene,
            &mut session,
            Client,
            BINARY,
            &[3, 1, 0, 0, 0, 0, 4, 0, 3, 0],
        );
        say(scene, &mut session, Server, BINARY, &update);
        rest(scene, &mut session, 0.4);
    }
    session.close(scene, Client);
}

/// The worker listens to a partner's broker: MQTT over WebSocket.
fn broker(scene: &mut Scene, cluster: &Cluster, starts: Timestamp) {
    let worker = cluster.pod(WORKER_ACTOR);
    let mut session = upgraded(
        scene, cluster, worker, BROKER, "/mqtt", "paho/2.1", "mqtt", starts,
    );
    let connect = b"\x10\x1e\x00\x04MQTT\x04\x02\x00\x3c\x00\x12shop-worker-000017";
    say(scene, &mut session, Client, BINARY, connect);
    say(scene, &mut session, Server, BINARY, &[0x20, 2, 0, 0]);
    say(
        scene,
        &mut session,
        Client,
        BINARY,
        b"\x82\x0d\x00\x01\x00\x08orders/#\x01",
    );
    say(scene, &mut session, Server, BINARY, &[0x90, 3, 0, 1, 1]);
    for _ in 0..25 {
        rest(scene, &mut session, 4.0);
        let body = http::json(&mut scene.rng, 80);
        let topic = b"orders/new";
        let mut message = vec![0x32, (body.len() + topic.len() + 4) as u8, 0, 10];
        message.extend(topic);
        message.extend([0, 9]);
        message.extend(body.as_bytes());
        say(scene, &mut session, Server, BINARY, &message);
        say(scene, &mut session, Client, BINARY, &[0x40, 2, 0, 9]);
    }
    say(scene, &mut session, Client, PING, b"");
    session.close(scene, Client);
}

/// Binary messages of an application's own, pushed one way.
fn telemetry(scene: &mut Scene, api: Host, web: Host, starts: Timestamp) {
    let route = Route::direct(api, web, 8080);
    let mut session = open(
        scene,
        route,
        ("web:8080", "/ingest", "shop-api/2.9", ""),
        starts,
    );
    for number in 0..30_u8 {
        let mut message = vec![0x0a, 9];
        message.extend(b"api.items");
        message.extend([0x10, number, 0x18, 0x96, 0x01, 0x25, 0, 0, 0x80, 0x3f]);
        let metrics = http::metrics(&mut scene.rng, 120);
        message.extend(metrics.as_bytes());
        say(scene, &mut session, Client, BINARY, &message);
        if number % 5 == 0 {
            say(
                scene,
                &mut session,
                Server,
                BINARY,
                &[0x08, number, 0x10, 1],
            );
        }
        rest(scene, &mut session, 3.0);
    }
    session.close(scene, Client);
}

/// A command run through the Kubernetes API's channels, as `kubectl exec` does it.
fn command(scene: &mut Scene, operator: Host, proxy: Host, starts: Timestamp) {
    let route = Route::direct(operator, proxy, 8001);
    let path = "/api/v1/namespaces/shop/pods/web-1/exec";
    let mut session = open(
        scene,
        route,
        ("proxy:8001", path, "kubectl/v1.35", "v5.channel.k8s.io"),
        starts,
    );
    let output = |rng: &mut Rng, len| [&[1_u8], http::prose(rng, len).as_bytes()].concat();
    for _ in 0..4 {
        let text = output(&mut scene.rng, 150);
        say(scene, &mut session, Client, BINARY, b"\x00ls -l\n");
        say(scene, &mut session, Server, BINARY, &text);
        rest(scene, &mut session, 1.5);
    }
    say(
        scene,
        &mut session,
        Server,
        BINARY,
        b"\x03{\"status\":\"Success\"}",
    );
    session.close(scene, Server);
}
