//! `credential-dump`: a web pod reads the tables of users; its twins are a pooler that looks up one at a time, a copy of
//! the whole server, and an exporter that reads all settings.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const POOLER: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "pgbouncer",
};
const EXPORTER: Workload = Workload {
    namespace: "monitoring",
    kind: "Deployment",
    name: "redis-exporter",
};
const ACTOR: u8 = 11;
const BEGINS: u64 = 60;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "credential-dump",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod logs in to PostgreSQL as its superuser and reads everybody's password hashes.",
                seed: 75,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A pooler looks up the hash of one user at a time. pg_dumpall copies the users with everything else. An exporter reads all settings of Redis every 20 s.",
                seed: 76,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("credential-dump", "credential", cluster.pod(ACTOR), begins).within(30),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(POOLER, "1", since, &[26]);
    cluster.deploy(EXPORTER, "1", since, &[31]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(
        cluster.pod(ACTOR).host,
        cluster.pod(20).host,
        postgres::PORT,
    );
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    let login = Login {
        user: "postgres",
        database: "postgres",
        application: "psql",
    };
    postgres::log_in(&mut scene, &mut session, &login, true);
    for (sql, rows) in [
        ("SELECT current_user, version()", 1),
        ("SELECT usename, passwd FROM pg_shadow", 6),
        (
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin",
            6,
        ),
    ] {
        postgres::query(&mut scene, &mut session, sql, rows, 133);
        let pause = scene.rng.about(Duration::from_secs(6));
        session.wait(&mut scene, pause);
    }
    postgres::leave(&mut scene, session);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    pool(&mut scene, &cluster);
    copy(&mut scene, &cluster);
    for n in 0..8 {
        export(&mut scene, &cluster, n);
    }
    scene.finish()
}

fn pool(scene: &mut Scene, cluster: &Cluster) {
    let route = Route::service(cluster.pod(26).host, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(scene, route, at(10));
    let login = Login {
        user: "pgbouncer",
        database: "postgres",
        application: "",
    };
    postgres::log_in(scene, &mut session, &login, true);
    for user in ["shop", "orders", "reports", "shop", "worker", "shop"] {
        let sql = format!("SELECT usename, passwd FROM pg_shadow WHERE usename='{user}'");
        postgres::query(scene, &mut session, &sql, 1, 133);
        let pause = scene.rng.about(Duration::from_secs(20));
        session.wait(scene, pause);
    }
    postgres::leave(scene, session);
}

fn copy(scene: &mut Scene, cluster: &Cluster) {
    let route = Route::direct(cluster.pod(41).host, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(scene, route, at(70));
    let login = Login {
        user: "backup",
        database: "postgres",
        application: "pg_dumpall",
    };
    postgres::log_in(scene, &mut session, &login, true);
    let sql = "SELECT oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 2";
    postgres::query(scene, &mut session, sql, 7, 180);
    postgres::leave(scene, session);
}

fn export(scene: &mut Scene, cluster: &Cluster, n: u64) {
    let route = Route::service(cluster.pod(31).host, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(scene, route, at(6 + n * 20));
    let settings = "maxmemory 0 ".repeat(200);
    for (command, answer) in [
        (&["AUTH", "shop-cache"][..], Reply::Simple("OK")),
        (&["CONFIG", "GET", "*"], Reply::Bulk(&settings)),
        (&["INFO", "ALL"], Reply::Bulk("redis_version:7.4.1")),
    ] {
        redis::ask(scene, &mut session, command, answer);
    }
    session.close(scene, Side::Client);
}
