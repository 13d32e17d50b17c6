//! `host-sweep`: a pod looks who is there, by ARP, by ping, and by knocking on web ports; its twins are those whose work
//! is to visit everybody.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, GATEWAY, Pod, START, Workload, on_bridge, outside};
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::datagram;
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{self, Session, Side};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const ACTOR: u8 = 11;
const BEGINS: u64 = 30;

const fn deployment(name: &'static str) -> Workload {
    Workload {
        namespace: "shop",
        kind: "Deployment",
        name,
    }
}

/// More of the shop, for Prometheus to visit.
const CROWD: &[(Workload, &[u8])] = &[
    (deployment("catalog"), &[50, 51, 52, 53]),
    (deployment("search"), &[54, 55, 56, 57]),
    (deployment("images"), &[58, 59, 60, 61, 62]),
    (deployment("mail"), &[63, 64, 65]),
];
/// Those of the crowd whose exporter has died, and those behind a policy that keeps Prometheus out.
const REFUSING: &[u8] = &[53, 58, 65];
const FILTERED: &[u8] = &[56, 61];

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "host-sweep",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod asks by ARP for every address of the node's pod range, pings those that answered and the next node's range, then tries ports 80 and 443 of 50 service addresses, of which one exists.",
                seed: 31,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "Prometheus visits 16 more pods, of which three refuse and two don't answer. The node checks all of them as a load balancer does, and asks by ARP for all pods, and in vain for some that are gone.",
                seed: 32,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![Expect::new("host-sweep", "recon", cluster.pod(ACTOR), begins).targets(40)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (workload, lasts) in CROWD {
        cluster.deploy(
            *workload,
            "1",
            START.before(Duration::from_hours(50)),
            lasts,
        );
    }
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR).host;
    let now = arp_sweep(&mut scene, &cluster, actor, at(BEGINS));
    let now = ping_sweep(
        &mut scene,
        &cluster,
        actor,
        now.after(Duration::from_secs(5)),
    );
    knock(
        &mut scene,
        &cluster,
        actor,
        now.after(Duration::from_secs(8)),
    );
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let prometheus = cluster.pod(30).host;
    for &last in CROWD.iter().flat_map(|(_, lasts)| *lasts) {
        let first = scene.rng.within(1..28);
        for round in 0..5 {
            scrape(
                &mut scene,
                prometheus,
                cluster.pod(last),
                at(first + round * 30),
            );
        }
        for round in 0..9 {
            let at =
                at(round * 20).after(scene.rng.between(Duration::ZERO, Duration::from_secs(15)));
            let route = Route::direct(GATEWAY, cluster.pod(last).host, 8080);
            Session::open(&mut scene, route, at).abort(&mut scene, Side::Client);
        }
    }
    for gone in [70, 71, 84, 85, 86] {
        let at = at(scene.rng.within(5..170));
        datagram::ask_in_vain(&mut scene, GATEWAY, on_bridge(gone).ip, 3, at);
    }
    scene.finish()
}

/// Who has each address of the range? When it is over.
fn arp_sweep(scene: &mut Scene, cluster: &Cluster, actor: Host, start: Timestamp) -> Timestamp {
    let mut now = start;
    for last in 1..=254 {
        let asked = on_bridge(last);
        if asked == actor {
            continue;
        }
        match holder(cluster, last, now) {
            Some(host) => datagram::resolve(scene, actor, host, now),
            None => datagram::ask_in_vain(scene, actor, asked.ip, 1, now),
        }
        now = now.after(scene.rng.about(Duration::from_millis(12)));
    }
    now
}

/// Pings whoever answered, then the range where the next node's pods would be. When it is over.
fn ping_sweep(scene: &mut Scene, cluster: &Cluster, actor: Host, start: Timestamp) -> Timestamp {
    let (id, mut seq) = (scene.rng.bits() as u16, 0);
    let here = (1..=254).filter_map(|last| holder(cluster, last, start));
    let there = (1..=60).map(|last| outside(Ipv4Addr::new(10, 244, 2, last), Duration::ZERO));
    let here: Vec<(Host, bool)> = here.map(|host| (host, true)).collect();
    let mut now = start;
    for (host, alive) in here.into_iter().chain(there.map(|host| (host, false))) {
        if host != actor {
            seq += 1;
            datagram::ping(scene, actor, host, (id, seq), alive, now);
            now = now.after(scene.rng.about(Duration::from_millis(30)));
        }
    }
    now
}

/// Who holds an address of the range, if anybody does.
fn holder(cluster: &Cluster, last: u8, time: Timestamp) -> Option<Host> {
    if last == 1 {
        return Some(GATEWAY);
    }
    let host = on_bridge(last);
    let holds = |pod: &Pod| pod.host == host && pod.is_alive(time);
    cluster.pods.iter().any(holds).then_some(host)
}

/// Tries web ports of service addresses. The node has no rule for one that doesn't exist; nobody answers beyond.
fn knock(scene: &mut Scene, cluster: &Cluster, actor: Host, start: Timestamp) {
    let mut addresses: Vec<Ipv4Addr> = (0..49).map(|_| service_address(&mut scene.rng)).collect();
    let front = cluster.service("web");
    addresses.insert(23, front.ip);
    let mut now = start;
    for ip in addresses {
        for port in [80, 443] {
            if (ip, port) == (front.ip, front.ports.0) {
                let route = Route::service(actor, cluster.pod(10).host, front.ports.1);
                Session::open(scene, route, now).abort(scene, Side::Client);
            } else {
                let nobody = outside(ip, Duration::ZERO);
                tcp::silent(scene, Route::direct(actor, nobody, port), now, 1);
            }
            now = now.after(scene.rng.about(Duration::from_millis(120)));
        }
    }
}

fn service_address(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, rng.within(50..250) as u8, rng.within(1..255) as u8)
}

fn scrape(scene: &mut Scene, prometheus: Host, pod: &Pod, at: Timestamp) {
    let last = pod.host.mac[5];
    let route = Route::direct(prometheus, pod.host, 9100);
    if REFUSING.contains(&last) {
        tcp::refused(scene, route, at);
    } else if FILTERED.contains(&last) {
        tcp::silent(scene, route, at, 2);
    } else {
        let mut session = Session::open(scene, route, at);
        let host = format!("{}:9100", pod.host.ip);
        let mut request = Request::get(&host, "/metrics", "Prometheus/2.55.1");
        request.close = true;
        let metrics = http::metrics(&mut scene.rng, 300);
        let answer = http::response("200 OK", "metrics", "text/plain", &metrics);
        session.ask(scene, &request.bytes(), Duration::from_millis(2), &answer);
        session.close(scene, Side::Server);
    }
}
