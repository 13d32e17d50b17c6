//! A whole intrusion: a web pod looks for databases, guesses a password, takes hashes and tables, and sends them out; and
//! beside it another workload, whose tunnel has nothing to do with it.

use std::time::Duration;

use super::{
    Case, Expect, Inventory, LENGTH, Part, at, db_bruteforce, db_sweep, dns_tunnel, ordinary,
};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::tcp::{Session, Side};

const INTRUDER: u8 = 11;
const OTHER: u8 = 14;
const SWEEPS: u64 = 30;
const GUESSES: u64 = 95;
const READS: u64 = 125;
const SENDS: u64 = 155;
const TUNNELS: u64 = 20;

/// The capture and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |signature, category, actor: u8, begins: u64| {
        let begins = Duration::from_secs(begins);
        Expect::new(signature, category, cluster.pod(actor), begins)
    };
    Case {
        id: "intrusion",
        parts: vec![Part {
            role: "attack",
            file: "attack.pcap",
            story: "A web pod tries every database's port on everybody, guesses PostgreSQL's superuser, reads the password hashes and every table, and sends half a megabyte to an address outside. Meanwhile the worker tunnels through DNS, which is another story.",
            seed: 403,
            record: attack,
            inventory: Inventory::List(cluster.clone()),
        }],
        expect: vec![
            expect("dns-tunnel", "c2", OTHER, TUNNELS),
            expect("db-sweep", "database", INTRUDER, SWEEPS).targets(20),
            expect("db-bruteforce", "credential", INTRUDER, SWEEPS),
            expect("credential-dump", "credential", INTRUDER, READS),
            expect("db-bulk-read", "database", INTRUDER, READS),
            expect("exfiltration", "exfiltration", INTRUDER, SENDS),
        ],
    }
}

/// The intrusion's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    dns_tunnel::tunnel(&mut scene, &cluster, cluster.pod(OTHER), at(TUNNELS));
    let (intruder, server) = (cluster.pod(INTRUDER), cluster.pod(20));
    db_sweep::sweep(&mut scene, &cluster, intruder, at(SWEEPS));
    db_bruteforce::four_at_a_time(&mut scene, intruder, server, at(GUESSES));
    take(
        &mut scene,
        Route::direct(intruder.host, server.host, postgres::PORT),
    );
    let place = outside([203, 0, 113, 91].into(), Duration::from_millis(38));
    let route = Route::direct(intruder.host, place, 8443);
    let mut session = Session::open(&mut scene, route, at(SENDS));
    for _ in 0..5 {
        let portion = scene.rng.bytes(100_000);
        session.say(&mut scene, Side::Client, &portion);
        session.wait(&mut scene, Duration::from_secs(1));
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// Hashes first, then every table.
fn take(scene: &mut Scene, route: Route) {
    let mut session = Session::open(scene, route, at(READS));
    let login = Login {
        user: "shop_admin",
        database: "orders",
        application: "psql",
    };
    postgres::log_in(scene, &mut session, &login, true);
    let hashes = "SELECT usename, passwd FROM pg_shadow";
    postgres::query(scene, &mut session, hashes, 6, 133);
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    postgres::query(scene, &mut session, tables, 6, 20);
    for table in ["customers", "addresses", "orders", "payments", "staff"] {
        let sql = format!("SELECT * FROM {table}");
        postgres::query(scene, &mut session, &sql, 90, 120);
        let pause = scene.rng.about(Duration::from_secs(3));
        session.wait(scene, pause);
    }
    postgres::leave(scene, session);
}
