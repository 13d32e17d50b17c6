//! `miner`: one pod mines in the clear, another inside TLS; their twin visits the same places and hears from others.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::dns::{Answer, Data};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;

const BEGINS: u64 = 28;
const HIDDEN_BEGINS: u64 = 34;
const OPEN_MINER: u8 = 12;
const HIDDEN_MINER: u8 = 14;
const POOL: &str = "xmr.poolside.example";
const HIDDEN_POOL: &str = "gulf.moneroocean.stream";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "miner",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A pod logs in at a mining pool on port 3333, gets work and hands results in, in clear. Another does the same inside TLS on port 443: the pool's name stands in its hello, and work comes unasked every few seconds.",
                seed: 71,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The same pods read a pool's web site, keep a connection over which a push service sends small messages unasked, and send lines of JSON about logins and jobs to a log collector.",
                seed: 72,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new(
                "miner",
                "hijack",
                cluster.pod(OPEN_MINER),
                Duration::from_secs(BEGINS),
            )
            .within(5),
            Expect::new(
                "miner",
                "hijack",
                cluster.pod(HIDDEN_MINER),
                Duration::from_secs(HIDDEN_BEGINS),
            ),
        ],
    }
}

fn far(last: u8) -> Host {
    outside(Ipv4Addr::new(203, 0, 113, last), Duration::from_millis(32))
}

/// Looks a host up and calls it.
fn call(
    scene: &mut Scene,
    cluster: &Cluster,
    pod: &Pod,
    name: &str,
    host: Host,
    port: u16,
    from: u64,
) -> Session {
    let std::net::IpAddr::V4(ip) = host.ip else {
        unreachable!("hosts outside have IPv4 addresses here")
    };
    let answer = Answer::Records(60, vec![Data::A(ip)]);
    let known = Resolver::new(cluster).both(scene, pod, name, &answer, at(from));
    Session::open(scene, Route::direct(pod.host, host, port), known)
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    mine_in_clear(&mut scene, &cluster, cluster.pod(OPEN_MINER));
    mine_in_tls(&mut scene, &cluster, cluster.pod(HIDDEN_MINER));
    scene.finish()
}

fn job(scene: &mut Scene, number: u32) -> String {
    let blob = scene.rng.hex(152);
    format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"job\",\"params\":{{\"blob\":\"{blob}\",\"job_id\":\"{number:08x}\",\"target\":\"b88d0600\",\"height\":{},\"seed_hash\":\"{}\",\"algo\":\"rx/0\"}}}}\n",
        3_120_000 + number,
        scene.rng.hex(64)
    )
}

fn mine_in_clear(scene: &mut Scene, cluster: &Cluster, pod: &Pod) {
    let mut session = call(scene, cluster, pod, POOL, far(90), 3333, BEGINS);
    let wallet = scene.rng.hex(95);
    let login = format!(
        "{{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{{\"login\":\"{wallet}\",\"pass\":\"x\",\"agent\":\"XMRig/6.21.0 (Linux x86_64) libuv/1.44.2 gcc/9.3.0\",\"algo\":[\"rx/0\",\"rx/wow\",\"cn/r\"]}}}}\n"
    );
    let first = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null,\"result\":{{\"id\":\"{}\",\"job\":{{\"blob\":\"{}\",\"job_id\":\"00000001\",\"target\":\"b88d0600\"}},\"status\":\"OK\"}}}}\n",
        scene.rng.hex(16),
        scene.rng.hex(152)
    );
    session.ask(
        scene,
        login.as_bytes(),
        Duration::from_millis(5),
        first.as_bytes(),
    );
    for number in 2..9_u32 {
        let pause = scene.rng.pause(Duration::from_secs(11));
        session.wait(scene, pause);
        let work = job(scene, number);
        session.say(scene, Side::Server, work.as_bytes());
        if number % 3 == 0 {
            let pause = scene.rng.about(Duration::from_secs(3));
            session.wait(scene, pause);
            let share = format!(
                "{{\"id\":{number},\"jsonrpc\":\"2.0\",\"method\":\"submit\",\"params\":{{\"id\":\"1\",\"job_id\":\"{number:08x}\",\"nonce\":\"{}\",\"result\":\"{}\"}}}}\n",
                scene.rng.hex(8),
                scene.rng.hex(64)
            );
            let taken = format!(
                "{{\"id\":{number},\"jsonrpc\":\"2.0\",\"error\":null,\"result\":{{\"status\":\"OK\"}}}}\n"
            );
            session.ask(
                scene,
                share.as_bytes(),
                Duration::from_millis(4),
                taken.as_bytes(),
            );
        }
    }
}

fn mine_in_tls(scene: &mut Scene, cluster: &Cluster, pod: &Pod) {
    let mut session = call(
        scene,
        cluster,
        pod,
        HIDDEN_POOL,
        far(91),
        443,
        HIDDEN_BEGINS,
    );
    tls::handshake(scene, &mut session, &tls::OPENSSL, HIDDEN_POOL);
    tls::exchange(scene, &mut session, 420, 480);
    for number in 0..14 {
        let pause = scene.rng.pause(Duration::from_secs(8));
        session.wait(scene, pause);
        let len = 380 + scene.rng.below(30) as usize;
        let work = tls::data(&mut scene.rng, len);
        session.say(scene, Side::Server, &work);
        if number % 3 == 1 {
            let pause = scene.rng.about(Duration::from_secs(3));
            session.wait(scene, pause);
            tls::exchange(scene, &mut session, 230, 64);
        }
    }
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (reader, pushed) = (cluster.pod(OPEN_MINER), cluster.pod(HIDDEN_MINER));
    // A pool's web site.
    let mut session = call(
        &mut scene,
        &cluster,
        reader,
        "www.moneroocean.stream",
        far(91),
        443,
        20,
    );
    tls::handshake(&mut scene, &mut session, &tls::GO, "www.moneroocean.stream");
    for _ in 0..12 {
        let answer = 2_000 + scene.rng.below(5_000) as usize;
        tls::exchange(&mut scene, &mut session, 340, answer);
        let pause = scene.rng.about(Duration::from_secs(2));
        session.wait(&mut scene, pause);
    }
    session.close(&mut scene, Side::Client);
    // A push service.
    let mut session = call(
        &mut scene,
        &cluster,
        pushed,
        "push.notify.example",
        far(92),
        443,
        12,
    );
    tls::handshake(
        &mut scene,
        &mut session,
        &tls::OPENSSL,
        "push.notify.example",
    );
    for _ in 0..20 {
        let pause = scene.rng.pause(Duration::from_secs(6));
        session.wait(&mut scene, pause);
        let len = 120 + scene.rng.below(500) as usize;
        let message = tls::data(&mut scene.rng, len);
        session.say(&mut scene, Side::Server, &message);
    }
    // A log collector that takes JSON, one object a line.
    let mut session = call(
        &mut scene,
        &cluster,
        reader,
        "logs.collect.example",
        far(93),
        5170,
        30,
    );
    for number in 0..40 {
        let len = scene.rng.below(90) as usize;
        let note = scene.rng.hex(len);
        let line = format!(
            "{{\"id\":{number},\"method\":\"login\",\"params\":{{\"user\":\"u{}\",\"ok\":true}},\"job\":\"checkout\",\"note\":\"{note}\"}}\n",
            scene.rng.below(900)
        );
        session.say(&mut scene, Side::Client, line.as_bytes());
        let pause = scene.rng.pause(Duration::from_secs(3));
        session.wait(&mut scene, pause);
    }
    scene.finish()
}
