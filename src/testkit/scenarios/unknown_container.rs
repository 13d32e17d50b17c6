//! `unknown-container`: somebody started a container beside the cluster and gave it a free address; its twin is a pod that is
//! newer than the inventory.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, Fate, START, on_bridge, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;

/// Whom no inventory knows: in the attack at no time, in its twin because it is too old.
pub const STRAY: Host = on_bridge(77);
const BEGINS: u64 = 8;
/// Where it reports to.
const HOME: (&str, Ipv4Addr) = ("cdn.build-cache.example", Ipv4Addr::new(192, 0, 2, 61));

/// The captures and what must be found.
pub fn case() -> Case {
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "unknown-container",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A container that no list of pods has, at a free address of the node's range, fetches orders from its server outside over TLS and logs in to the database with the shop's password.",
                seed: 311,
                record: attack,
                inventory: Inventory::Watch(recorded()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The last event of the inventory is older than a pod that starts, calls a server outside and the database. Another is deleted, and its last answers come after its end.",
                seed: 312,
                record: benign,
                inventory: Inventory::Watch(recorded()),
            },
        ],
        expect: vec![Expect {
            signature: "unknown-container",
            category: "implant",
            pod: String::new(),
            workload: String::new(),
            begins,
            within: Duration::from_secs(110),
            targets: 2,
        }],
    }
}

/// What the inventory knows. Its last event is 101 s after the capture began: before the honest twin's new pod.
fn recorded() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(API, "1", START.before(Duration::from_hours(2)), &[60]);
    cluster.end(60, at(30), Fate::Deleted);
    cluster
}

/// Calls a server outside three times, and the database once.
fn visits(scene: &mut Scene, caller: Host, database: Host, begins: u64) {
    for round in 0..3 {
        let starts = at(begins + round * 25);
        let home = outside(HOME.1, Duration::from_millis(27));
        let mut session = Session::open(scene, Route::direct(caller, home, 443), starts);
        tls::handshake(scene, &mut session, &tls::OPENSSL, HOME.0);
        tls::exchange(scene, &mut session, 240, 1800);
        session.close(scene, Side::Client);
    }
    let mut session = Session::open(
        scene,
        Route::direct(caller, database, 5432),
        at(begins + 20),
    );
    let login = Login {
        user: "shop",
        database: "shop",
        application: "psql",
    };
    if postgres::log_in(scene, &mut session, &login, true) {
        postgres::query(
            scene,
            &mut session,
            "SELECT id, total FROM orders LIMIT 20",
            20,
            40,
        );
    }
    postgres::leave(scene, session);
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = recorded();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let database = cluster.pod(20).host;
    visits(&mut scene, STRAY, database, BEGINS);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = recorded();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let database = cluster.pod(20).host;
    visits(&mut scene, STRAY, database, 105);
    scene.finish()
}
