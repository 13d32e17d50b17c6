//! `ssh-tunnel`: reverse tunnels hidden in TLS, and at the port of HTTPS; the twin has SSH and small calls as they should be.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::ssh::{self, Step};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::{tls, websocket};

/// Who dials out, and when: through a WebSocket in TLS, and in plain SSH.
const HIDDEN: (u8, u64) = (12, 40);
const PLAIN: (u8, u64) = (10, 60);
const RELAY: (&str, Ipv4Addr) = ("live.sync-edge.example", Ipv4Addr::new(192, 0, 2, 50));
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 51);
const CODE: (&str, Ipv4Addr) = ("ssh.code.example", Ipv4Addr::new(198, 51, 100, 40));
const PARTNER: (&str, Ipv4Addr) = ("rpc.partner.example", Ipv4Addr::new(198, 51, 100, 41));
const HOST: (&str, Ipv4Addr) = ("jump.partner.example", Ipv4Addr::new(198, 51, 100, 42));
const FAR: Duration = Duration::from_millis(19);

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |signature, (actor, begins): (u8, u64)| {
        let begins = Duration::from_secs(begins);
        Expect::new(signature, "c2", cluster.pod(actor), begins).within(60)
    };
    Case {
        id: "ssh-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod opens a WebSocket over TLS and speaks SSH in it, for a reverse tunnel into the cluster; a web pod does so in plain SSH at the port of HTTPS.",
                seed: 231,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker pulls code over SSH at port 443 and somebody works at a terminal outside; an api pod makes many small calls over one TLS connection to a partner.",
                seed: 232,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            expect("ssh-tunnel", HIDDEN),
            // By who asks, what is hidden might be a shell as well.
            expect("reverse-shell", HIDDEN),
            expect("ssh-tunnel", PLAIN),
        ],
    }
}

/// A login, and some connections of somebody outside to what is inside.
fn reverse(scene: &mut Scene) -> Vec<Step> {
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.9", "OpenSSH_9.6p1 Ubuntu-3");
    steps.extend(ssh::ask_for_reverse(&mut scene.rng));
    for _ in 0..5 {
        steps.push(Step::Pause(scene.rng.about(Duration::from_secs(3))));
        let answer = scene.rng.within(300..2500) as usize;
        let exchanges = [(8, 1), (90, 320), (70, answer), (24, 12)];
        steps.extend(ssh::forwarded(&mut scene.rng, Side::Server, &exchanges));
    }
    steps
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);

    let (actor, begins) = HIDDEN;
    let actor = cluster.pod(actor);
    let (name, ip) = RELAY;
    let known = resolver.outside(&mut scene, actor, name, &[ip], at(begins));
    let route = Route::direct(actor.host, outside(ip, FAR), 443);
    let mut session = Session::open(&mut scene, route, known);
    tls::handshake(&mut scene, &mut session, &tls::OPENSSL, name);
    tls::exchange(&mut scene, &mut session, 214, 129);
    let steps = reverse(&mut scene);
    ssh::play(&mut scene, &mut session, &steps, |rng, side, bytes| {
        let frame = websocket::frame(rng, side, websocket::BINARY, bytes);
        tls::data(rng, frame.len())
    });
    session.close(&mut scene, Side::Client);

    let (actor, begins) = PLAIN;
    let route = Route::direct(cluster.pod(actor).host, outside(SECOND, FAR), 443);
    let mut session = Session::open(&mut scene, route, at(begins));
    let steps = reverse(&mut scene);
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);
    let worker = cluster.pod(14);

    let (name, ip) = CODE;
    let known = resolver.outside(&mut scene, worker, name, &[ip], at(50));
    let route = Route::direct(worker.host, outside(ip, FAR), 443);
    let mut session = Session::open(&mut scene, route, known);
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.9", "code-babeld-1f2c");
    steps.extend(ssh::forwarded(
        &mut scene.rng,
        Side::Client,
        &[(60, 1900), (700, 90), (40, 60_000)],
    ));
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Side::Client);

    let (name, ip) = HOST;
    let known = resolver.outside(&mut scene, worker, name, &[ip], at(70));
    let route = Route::direct(worker.host, outside(ip, FAR), 22);
    let mut session = Session::open(&mut scene, route, known);
    let mut steps = ssh::login(&mut scene.rng, "OpenSSH_9.9", "OpenSSH_9.6p1 Ubuntu-3");
    steps.extend(ssh::shell(&mut scene.rng));
    steps.extend(ssh::typing(&mut scene.rng, 12));
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Side::Client);

    let (name, ip) = PARTNER;
    let api = cluster.pod(12);
    let known = resolver.outside(&mut scene, api, name, &[ip], at(45));
    let route = Route::direct(api.host, outside(ip, FAR), 443);
    let mut session = Session::open(&mut scene, route, known);
    tls::handshake(&mut scene, &mut session, &tls::GO, name);
    tls::exchange(&mut scene, &mut session, 410, 260);
    for _ in 0..60 {
        let asked = scene.rng.within(18..120) as usize;
        let answered = scene.rng.within(18..400) as usize;
        tls::exchange(&mut scene, &mut session, asked, answered);
        let pause = scene.rng.pause(Duration::from_secs(1));
        session.wait(&mut scene, pause);
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}
