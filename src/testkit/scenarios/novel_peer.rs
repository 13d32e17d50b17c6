//! `novel-peer`: a pod whose workload has only ever met its stores meets strangers; its twin is a day of rollouts, on
//! which everything is new but the workloads.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, DAY_BEFORE, Fate, PROMETHEUS, START, WEB, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::Route;
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;

/// How long the capture to learn from lasts.
const LEARNING: Duration = Duration::from_mins(12);
const ACTOR: u8 = 12;
const BEGINS: u64 = 60;
/// The stranger outside.
const STRANGER: (&str, Ipv4Addr) = ("static.update-mirror.example", Ipv4Addr::new(192, 0, 2, 44));

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "novel-peer",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the ordinary day before, to learn from.",
                seed: 50,
                record: learn,
                inventory: Inventory::Shared,
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod, which only ever speaks to the database, the cache and the cluster's DNS, calls a server outside over TLS three times, and asks Prometheus whom it knows.",
                seed: 51,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The web Deployment is rolled out anew and grows by one pod, and so does api: new pods, new names and new addresses, but the same workloads, who meet whom they always met.",
                seed: 52,
                record: benign,
                inventory: Inventory::Watch(rolled_out()),
            },
        ],
        expect: vec![
            Expect::new("novel-peer", "anomaly", cluster.pod(ACTOR), begins)
                .within(30)
                .targets(2),
        ],
    }
}

fn rolled_out() -> Cluster {
    let mut cluster = Cluster::default();
    for (starts, last) in [(45, 52), (58, 53), (75, 54)] {
        cluster.deploy(WEB, "2", at(starts), &[last]);
    }
    for (ends, last) in [(52, 10), (66, 11)] {
        cluster.end(last, at(ends), Fate::Deleted);
    }
    cluster.deploy(API, "1", at(80), &[55]);
    cluster
}

/// The capture to learn from.
pub fn learn(seed: u64) -> Vec<u8> {
    ordinary(seed, &Cluster::default(), DAY_BEFORE, LEARNING).finish()
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR);
    let mut resolver = Resolver::new(&cluster);
    let (name, ip) = STRANGER;
    for round in 0..3 {
        let starts = at(BEGINS + round * 25);
        let known = resolver.outside(&mut scene, actor, name, &[ip], starts);
        let stranger = outside(ip, Duration::from_millis(31));
        let route = Route::direct(actor.host, stranger, 443);
        let mut session = Session::open(&mut scene, route, known);
        tls::handshake(&mut scene, &mut session, &tls::OPENSSL, name);
        for (asked, answered) in [(180, 90), (2600, 60), (120, 700)] {
            tls::exchange(&mut scene, &mut session, asked, answered);
            let pause = scene.rng.about(Duration::from_millis(800));
            session.wait(&mut scene, pause);
        }
        session.close(&mut scene, Side::Client);
    }
    for prometheus in cluster.alive(PROMETHEUS, START) {
        let route = Route::direct(actor.host, prometheus.host, 9090);
        let mut session = Session::open(&mut scene, route, at(BEGINS + 12));
        let request = Request::get(
            "10.244.1.30:9090",
            "/api/v1/targets?state=active",
            "curl/8.11.1",
        );
        let targets = http::json(&mut scene.rng, 2400);
        let answer = http::response("200 OK", "prometheus", "application/json", &targets);
        session.ask(
            &mut scene,
            &request.bytes(),
            Duration::from_millis(5),
            &answer,
        );
        session.close(&mut scene, Side::Client);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    ordinary(seed, &rolled_out(), START, LENGTH).finish()
}
