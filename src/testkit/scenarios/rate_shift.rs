//! `rate-shift`: an api pod begins to read the cache, which it always used, a hundred times as often; its twin is a
//! backlog that is worked off in less than a minute.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, novel_peer, ordinary};
use crate::testkit::cluster::{Cluster, START};
use crate::testkit::scene::Route;
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const ACTOR: u8 = 12;
const BEGINS: u64 = 1;
/// Connections in all.
const CONNECTIONS: u64 = 1050;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "rate-shift",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the ordinary day before, to learn from.",
                seed: 340,
                record: novel_peer::learn,
                inventory: Inventory::Shared,
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod opens six connections a second to the cache, each for one key, for as long as the capture lasts.",
                seed: 341,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The same connections within forty seconds: a backlog is worked off.",
                seed: 342,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new("rate-shift", "anomaly", cluster.pod(ACTOR), begins)
                .within(200)
                .targets(0),
        ],
    }
}

fn read(seed: u64, from: u64, until: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::service(cluster.pod(ACTOR).host, cluster.pod(21).host, 6379);
    for n in 0..CONNECTIONS {
        let starts = at(from).after(Duration::from_millis(
            (until - from) * 1000 * n / CONNECTIONS,
        ));
        let mut session = Session::open(&mut scene, route, starts);
        let key = format!("basket:{}", n * 7 % 900);
        redis::ask(
            &mut scene,
            &mut session,
            &["GET", &key],
            Reply::Bulk("[4711,815]"),
        );
        session.close(&mut scene, Side::Client);
    }
    scene.finish()
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    read(seed, BEGINS, 178)
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    read(seed, 65, 105)
}
