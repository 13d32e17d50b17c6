//! `db-bulk-read`: a script in a web pod takes every table, and another every key; the twins are the nightly copy, an
//! application that loads its small tables, a report, and a replica.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::prose;
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const ORDERS: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "orders",
};
const REPORTS: Workload = Workload {
    namespace: "ops",
    kind: "Deployment",
    name: "reports",
};
const REPLICA: Workload = Workload {
    namespace: "shop",
    kind: "StatefulSet",
    name: "redis-replicas",
};
const TAKES_TABLES: u8 = 11;
const TAKES_KEYS: u8 = 10;
const BEGINS: u64 = 60;

const TABLES: &[&str] = &[
    "customers",
    "addresses",
    "orders",
    "payments",
    "carts",
    "sessions",
    "staff",
];

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8, later: u64| {
        let begins = Duration::from_secs(BEGINS + later);
        Expect::new("db-bulk-read", "database", cluster.pod(actor), begins).within(30)
    };
    Case {
        id: "db-bulk-read",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A script in a web pod asks PostgreSQL which tables there are and reads each whole. Another web pod lists Redis's keys by SCAN, and reads every one.",
                seed: 401,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A nightly job copies all tables. An application starts, reads the catalogue and its small tables, and works. A report reads three large tables. A replica asks Redis for its copy. A cache is warmed key by key.",
                seed: 402,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![expect(TAKES_TABLES, 0), expect(TAKES_KEYS, 30)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(REPORTS, "1", since, &[26]);
    cluster.deploy(ORDERS, "1", at(20), &[24]);
    cluster.add_stateful(REPLICA, at(30), 25);
    cluster
}

const fn login<'a>(user: &'a str, application: &'a str) -> Login<'a> {
    Login {
        user,
        database: "orders",
        application,
    }
}

fn look(scene: &mut Scene, session: &mut Session) {
    for sql in [
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'public'",
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT relname, n_live_tup FROM pg_stat_user_tables",
        "SELECT conname, contype FROM pg_constraint",
    ] {
        postgres::query(scene, session, sql, 9, 40);
    }
}

/// Lists all keys, and reads each.
fn walk(scene: &mut Scene, session: &mut Session, keys: usize, pause: Duration) {
    for n in 0..keys {
        if n % 10 == 0 {
            let cursor = n.to_string();
            let list = format!("cart:{n} cart:{}", n + 1);
            redis::ask(scene, session, &["SCAN", &cursor], Reply::Bulk(&list));
        }
        let key = format!("cart:{n}");
        let value = prose(&mut scene.rng, 90);
        redis::ask(scene, session, &["GET", &key], Reply::Bulk(&value));
        let pause = scene.rng.about(pause);
        session.wait(scene, pause);
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(TAKES_TABLES).host;
    let route = Route::direct(actor, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    postgres::log_in(&mut scene, &mut session, &login("shop", ""), true);
    look(&mut scene, &mut session);
    for table in TABLES {
        let sql = format!("SELECT * FROM {table}");
        postgres::query(&mut scene, &mut session, &sql, 90, 120);
        let pause = scene.rng.about(Duration::from_millis(400));
        session.wait(&mut scene, pause);
    }
    postgres::leave(&mut scene, session);

    let actor = cluster.pod(TAKES_KEYS).host;
    let route = Route::direct(actor, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, at(BEGINS + 30));
    let welcome = Reply::Simple("OK");
    redis::ask(&mut scene, &mut session, &["AUTH", "shop-cache"], welcome);
    walk(&mut scene, &mut session, 600, Duration::from_millis(15));
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let database = cluster.pod(20).host;

    let route = Route::direct(cluster.pod(41).host, database, postgres::PORT);
    let mut session = Session::open(&mut scene, route, at(66));
    postgres::log_in(&mut scene, &mut session, &login("backup", "pg_dump"), true);
    look(&mut scene, &mut session);
    for table in TABLES {
        postgres::copy_out(&mut scene, &mut session, table, 24_000);
    }
    postgres::leave(&mut scene, session);

    let route = Route::service(cluster.pod(24).host, database, postgres::PORT);
    let mut session = Session::open(&mut scene, route, at(26));
    postgres::log_in(&mut scene, &mut session, &login("shop", "orders"), true);
    look(&mut scene, &mut session);
    for table in ["countries", "currencies", "rates", "rights", "settings"] {
        let sql = format!("SELECT * FROM {table}");
        postgres::query(&mut scene, &mut session, &sql, 30, 40);
    }
    for n in 0..40 {
        let sql = format!("SELECT id, total FROM orders WHERE id = {n}");
        postgres::query(&mut scene, &mut session, &sql, 1, 30);
        let pause = scene.rng.about(Duration::from_secs(2));
        session.wait(&mut scene, pause);
    }
    postgres::leave(&mut scene, session);

    let route = Route::service(cluster.pod(26).host, database, postgres::PORT);
    let mut session = Session::open(&mut scene, route, at(90));
    postgres::log_in(&mut scene, &mut session, &login("reports", "report"), true);
    for table in ["orders", "payments", "refunds"] {
        let sql = format!("SELECT * FROM {table}");
        postgres::query(&mut scene, &mut session, &sql, 600, 120);
    }
    postgres::leave(&mut scene, session);

    let route = Route::direct(cluster.pod(25).host, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, at(40));
    for (words, reply) in [
        (&["PING"][..], Reply::Simple("PONG")),
        (&["REPLCONF", "listening-port", "6379"], Reply::Simple("OK")),
        (
            &["PSYNC", "?", "-1"],
            Reply::Simple("FULLRESYNC 8371445fb3 0"),
        ),
    ] {
        redis::ask(&mut scene, &mut session, words, reply);
    }
    let copy = prose(&mut scene.rng, 40_000);
    session.say(&mut scene, Side::Server, copy.as_bytes());
    session.close(&mut scene, Side::Client);

    let route = Route::service(cluster.pod(26).host, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, at(110));
    walk(&mut scene, &mut session, 200, Duration::from_millis(90));
    session.close(&mut scene, Side::Client);
    scene.finish()
}
