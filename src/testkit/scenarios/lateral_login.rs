//! `lateral-login`: a web pod logs in to another by SSH, and somebody types there; its twin is the tool that always copies.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, DAY_BEFORE, Pod, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::ssh;
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

/// How long the capture to learn from lasts.
const LEARNING: Duration = Duration::from_mins(12);
const ACTOR: u8 = 10;
const BEGINS: u64 = 60;
/// What copies files from the database's host, and its successor.
const SYNC: u8 = 50;
const NEXT_SYNC: u8 = 51;
const CLIENT: &str = "OpenSSH_9.9p1";
const SERVER: &str = "OpenSSH_9.7p1";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "lateral-login",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the day before: a sync tool copies from the database's host by SSH every minute, nobody else logs in to anybody.",
                seed: 301,
                record: learn,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod, which never did, logs in to the worker, and somebody types there.",
                seed: 302,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The sync tool copies from the database's host from another pod of its workload.",
                seed: 303,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("lateral-login", "recon", cluster.pod(ACTOR), begins).within(30),
            Expect::new("novel-peer", "anomaly", cluster.pod(ACTOR), begins).within(30),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let sync = Workload {
        namespace: "ops",
        kind: "Deployment",
        name: "sync",
    };
    let start = START.before(Duration::from_hours(50));
    cluster.deploy(sync, "1", start, &[SYNC, NEXT_SYNC]);
    cluster
}

/// The capture to learn from.
pub fn learn(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, DAY_BEFORE, LEARNING);
    for minute in 0..11 {
        let now = DAY_BEFORE.after(Duration::from_secs(20 + minute * 60));
        copy(&mut scene, cluster.pod(SYNC), cluster.pod(20), now);
    }
    scene.finish()
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(ACTOR).host, cluster.pod(14).host, 22);
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    let mut steps = ssh::login(&mut scene.rng, CLIENT, SERVER);
    steps.extend(ssh::shell(&mut scene.rng));
    steps.extend(ssh::typing(&mut scene.rng, 7));
    ssh::play(&mut scene, &mut session, &steps, ssh::bare);
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for round in 0..2 {
        let now = at(25 + round * 60);
        copy(&mut scene, cluster.pod(NEXT_SYNC), cluster.pod(20), now);
    }
    scene.finish()
}

/// Logs in and copies a file.
fn copy(scene: &mut Scene, from: &Pod, to: &Pod, start: Timestamp) {
    let mut session = Session::open(scene, Route::direct(from.host, to.host, 22), start);
    let mut steps = ssh::login(&mut scene.rng, CLIENT, SERVER);
    for _ in 0..2 {
        steps.push(ssh::Step::Say(Side::Client, ssh::data(&mut scene.rng, 80)));
        steps.push(ssh::Step::Say(Side::Server, ssh::data(&mut scene.rng, 500)));
    }
    ssh::play(scene, &mut session, &steps, ssh::bare);
    session.close(scene, Side::Client);
}
