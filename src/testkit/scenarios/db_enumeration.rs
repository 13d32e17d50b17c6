//! `db-enumeration`: somebody with a shell in a web pod looks around in two databases; the twins are an administrator at a
//! toolbox, an application that starts up, a dump, and an exporter.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const TOOLBOX: Workload = Workload {
    namespace: "ops",
    kind: "Deployment",
    name: "toolbox",
};
const EXPORTER: Workload = Workload {
    namespace: "monitoring",
    kind: "Deployment",
    name: "pg-exporter",
};
const ORDERS: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "orders",
};
const ACTOR: u8 = 11;
const BEGINS: u64 = 60;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "db-enumeration",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "Somebody in a web pod looks around by psql in PostgreSQL (databases, tables, columns, users, settings), then asks Redis for everything it has.",
                seed: 81,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An administrator looks at tables by psql in a toolbox. An application reads the columns of its tables as it starts up, then works. pg_dump asks all it has to know. An exporter reads statistics every 15 s.",
                seed: 82,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("db-enumeration", "database", cluster.pod(ACTOR), begins)
                .within(60)
                .targets(1),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(TOOLBOX, "1", since, &[26]);
    cluster.deploy(EXPORTER, "1", since, &[31]);
    cluster.deploy(ORDERS, "1", at(20), &[24]);
    cluster
}

/// What somebody asks who looks around.
const QUESTIONS: &[&str] = &[
    "SELECT datname, pg_size_pretty(pg_database_size(datname)) FROM pg_catalog.pg_database",
    "SELECT schemaname, tablename, tableowner FROM pg_catalog.pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "SELECT rolname, rolsuper, rolcanlogin FROM pg_catalog.pg_roles",
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'customers'",
    "SELECT c.relname, c.reltuples FROM pg_catalog.pg_class c WHERE c.relkind = 'r' ORDER BY 2 DESC LIMIT 20",
    "SELECT name, setting FROM pg_settings WHERE name LIKE '%file%'",
    "SELECT pid, usename, client_addr, query FROM pg_stat_activity",
    "SELECT extname FROM pg_extension",
];

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR).host;
    let route = Route::direct(actor, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    postgres::log_in(&mut scene, &mut session, &login("shop", "psql"), true);
    for sql in QUESTIONS {
        postgres::query(&mut scene, &mut session, sql, 12, 60);
        let pause = scene.rng.about(Duration::from_secs(4));
        session.wait(&mut scene, pause);
    }
    let now = postgres::leave(&mut scene, session);
    let route = Route::direct(actor, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, now.after(Duration::from_secs(5)));
    for (command, answer) in [
        (&["AUTH", "shop-cache"][..], Reply::Simple("OK")),
        (&["INFO"], Reply::Bulk("redis_version:7.4.1")),
        (
            &["CLIENT", "LIST"],
            Reply::Bulk("id=3 addr=10.244.1.12:40112"),
        ),
        (&["KEYS", "*"], Reply::Bulk("session:1")),
        (&["DBSIZE"], Reply::Simple("42")),
    ] {
        redis::ask(&mut scene, &mut session, command, answer);
        let pause = scene.rng.about(Duration::from_secs(3));
        session.wait(&mut scene, pause);
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    ask(
        &mut scene,
        &cluster,
        26,
        &login("alice", "psql"),
        (60, 4000),
        QUESTIONS,
        0,
    );
    let columns: Vec<String> = ["orders", "order_lines", "addresses", "payments"]
        .iter()
        .map(|table| format!("SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = '{table}'"))
        .collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    ask(
        &mut scene,
        &cluster,
        24,
        &login("orders", "orders"),
        (25, 10),
        &columns,
        20,
    );
    let dump: Vec<String> = (0..30)
        .map(|n| format!("SELECT c{n}.oid, c{n}.relname FROM pg_catalog.pg_class c{n} WHERE c{n}.relkind = 'r'"))
        .collect();
    let dump: Vec<&str> = dump.iter().map(String::as_str).collect();
    ask(
        &mut scene,
        &cluster,
        41,
        &login("backup", "pg_dump"),
        (66, 8),
        &dump,
        0,
    );
    for n in 0..11 {
        let statistics = [
            "SELECT datname, numbackends, xact_commit, xact_rollback FROM pg_stat_database",
            "SELECT checkpoints_timed, checkpoints_req FROM pg_stat_bgwriter",
            "SELECT mode, count(*) FROM pg_locks GROUP BY mode",
            "SELECT name, setting FROM pg_settings",
            "SELECT slot_name, active FROM pg_replication_slots",
        ];
        let exporter = login("exporter", "postgres_exporter");
        ask(
            &mut scene,
            &cluster,
            31,
            &exporter,
            (8 + n * 15, 12),
            &statistics,
            0,
        );
    }
    scene.finish()
}

/// A session that asks, `pause` milliseconds between questions, and then does some work.
fn ask(
    scene: &mut Scene,
    cluster: &Cluster,
    client: u8,
    login: &Login<'_>,
    (start, pause): (u64, u64),
    questions: &[&str],
    work: u64,
) {
    let route = Route::service(
        cluster.pod(client).host,
        cluster.pod(20).host,
        postgres::PORT,
    );
    let mut session = Session::open(scene, route, at(start));
    postgres::log_in(scene, &mut session, login, true);
    for sql in questions {
        postgres::query(scene, &mut session, sql, 5, 40);
        let pause = scene.rng.about(Duration::from_millis(pause));
        session.wait(scene, pause);
    }
    for n in 0..work {
        let sql = format!("SELECT id, state, total FROM orders WHERE customer = {n}");
        postgres::query(scene, &mut session, &sql, 3, 40);
        let pause = scene.rng.about(Duration::from_secs(6));
        session.wait(scene, pause);
    }
    postgres::leave(scene, session);
}

const fn login<'a>(user: &'a str, application: &'a str) -> Login<'a> {
    Login {
        user,
        database: "shop",
        application,
    }
}
