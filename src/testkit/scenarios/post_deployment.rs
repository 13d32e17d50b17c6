//! `post-deployment`: a new release of api calls a server outside, where it never called any; its twin is the
//! same rollouts, of api and of the worker, who call whom they always called.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, novel_peer, ordinary};
use crate::testkit::cluster::{API, Cluster, Fate, START, WORKER, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::Route;
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;

const ACTOR: u8 = 52;
const BEGINS: u64 = 62;
/// Whom the implant calls.
const HOME: (&str, Ipv4Addr) = ("api.metrics-relay.example", Ipv4Addr::new(192, 0, 2, 71));

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = released();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "post-deployment",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the ordinary day before, to learn from.",
                seed: 330,
                record: novel_peer::learn,
                inventory: Inventory::Shared,
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "api and the worker are rolled out anew. Seventeen seconds later a pod of the new release calls a server outside over TLS, and again twice.",
                seed: 331,
                record: attack,
                inventory: Inventory::Watch(released()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "api and the worker are rolled out anew. The one goes on with its stores, the other polls the partner outside that it always polled.",
                seed: 332,
                record: benign,
                inventory: Inventory::Watch(released()),
            },
        ],
        expect: vec![
            Expect::new("post-deployment", "implant", cluster.pod(ACTOR), begins).within(30),
        ],
    }
}

fn released() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(API, "2", at(45), &[ACTOR]);
    cluster.end(12, at(55), Fate::Deleted);
    cluster.deploy(WORKER, "2", at(50), &[53]);
    cluster.end(14, at(58), Fate::Deleted);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = released();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR);
    let mut resolver = Resolver::new(&cluster);
    let (name, ip) = HOME;
    for starts in [0, 31, 49] {
        let known = resolver.outside(&mut scene, actor, name, &[ip], at(BEGINS + starts));
        let home = outside(ip, Duration::from_millis(24));
        let mut session = Session::open(&mut scene, Route::direct(actor.host, home, 443), known);
        tls::handshake(&mut scene, &mut session, &tls::OPENSSL, name);
        tls::exchange(&mut scene, &mut session, 300, 900);
        session.close(&mut scene, Side::Client);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    ordinary(seed, &released(), START, LENGTH).finish()
}
