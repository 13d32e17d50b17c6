//! `db-novel-client`: the worker, who never used the database, logs in to it as its superuser; its twin is a rollout of those
//! who always did.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, DAY_BEFORE, Fate, START};
use crate::testkit::scene::Route;
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::tcp::Session;

const ACTOR: u8 = 14;
const BEGINS: u64 = 55;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "db-novel-client",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the ordinary day before, on which api uses the database a little more often.",
                seed: 320,
                record: learn,
                inventory: Inventory::Shared,
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker, who polls a partner and never uses a store of the shop's, logs in to the database as its superuser and reads some orders.",
                seed: 321,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "Two more api pods are started and one is deleted: the database is used from new addresses, by the workload that always did. The nightly copy runs at its hour.",
                seed: 322,
                record: benign,
                inventory: Inventory::Watch(scaled()),
            },
        ],
        expect: vec![
            Expect::new("db-novel-client", "database", cluster.pod(ACTOR), begins).within(30),
        ],
    }
}

fn scaled() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(API, "1", at(40), &[52, 53]);
    cluster.end(12, at(70), Fate::Deleted);
    cluster
}

/// The capture to learn from.
pub fn learn(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, DAY_BEFORE, Duration::from_mins(12));
    let api = cluster.alive(API, DAY_BEFORE);
    for visit in 0..60_u64 {
        let starts = DAY_BEFORE.after(Duration::from_secs(5 + visit * 11));
        let client = scene.rng.pick(&api).host;
        let route = Route::service(client, cluster.pod(20).host, 5432);
        let mut session = Session::open(&mut scene, route, starts);
        let login = Login {
            user: "shop",
            database: "shop",
            application: "api",
        };
        if postgres::log_in(&mut scene, &mut session, &login, true) {
            let sql = "SELECT count(*) FROM orders WHERE state = 'open'";
            postgres::query(&mut scene, &mut session, sql, 1, 8);
        }
        postgres::leave(&mut scene, session);
    }
    scene.finish()
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::service(cluster.pod(ACTOR).host, cluster.pod(20).host, 5432);
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    let login = Login {
        user: "postgres",
        database: "shop",
        application: "",
    };
    if postgres::log_in(&mut scene, &mut session, &login, true) {
        for page in 0..3 {
            let sql = format!(
                "SELECT id, total FROM orders WHERE id > {} LIMIT 20",
                page * 20
            );
            postgres::query(&mut scene, &mut session, &sql, 20, 40);
            session.wait(&mut scene, Duration::from_secs(4));
        }
    }
    postgres::leave(&mut scene, session);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    ordinary(seed, &scaled(), START, LENGTH).finish()
}
