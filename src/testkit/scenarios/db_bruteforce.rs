//! `db-bruteforce`: one pod guesses at PostgreSQL with four connections at a time until it is let in, another takes its
//! time with MySQL; their twins are an application with a stale secret, somebody who mistypes, and a pool.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::mysql;
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

const MYSQL: Workload = Workload {
    namespace: "shop",
    kind: "StatefulSet",
    name: "mysql",
};
const REPORTS: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "reports",
};
const ADMIN: Workload = Workload {
    namespace: "ops",
    kind: "Deployment",
    name: "toolbox",
};
/// Who guesses fast, and who slowly.
const FAST: u8 = 11;
const SLOW: u8 = 14;
const FAST_BEGINS: u64 = 40;
const SLOW_BEGINS: u64 = 50;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8, begins: u64| {
        let begins = Duration::from_secs(begins);
        Expect::new("db-bruteforce", "credential", cluster.pod(actor), begins)
    };
    Case {
        id: "db-bruteforce",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod guesses at a user of PostgreSQL, four connections at a time, and is let in at the 41st try. The worker tries a user of MySQL once every 6 to 9 s, in vain.",
                seed: 71,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An application with a wrong secret for PostgreSQL retries every 8 s for ever; when it is given a wrong one for MySQL too, each of its restarts is later than the last. Somebody mistypes a password three times. A pool opens ten connections at once. Health checks read MySQL's greeting and leave.",
                seed: 72,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            expect(FAST, FAST_BEGINS).within(30),
            expect(SLOW, SLOW_BEGINS).within(130),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.add_stateful(MYSQL, since, 22);
    cluster.deploy(REPORTS, "1", since, &[24, 25]);
    cluster.deploy(ADMIN, "1", since, &[31]);
    cluster
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    four_at_a_time(
        &mut scene,
        cluster.pod(FAST),
        cluster.pod(20),
        at(FAST_BEGINS),
    );
    one_by_one(
        &mut scene,
        cluster.pod(SLOW),
        cluster.pod(22),
        at(SLOW_BEGINS),
    );
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for n in 0..18 {
        let late = scene.rng.about(Duration::from_millis(20));
        stale(&mut scene, &cluster, at(12 + n * 8).after(late));
    }
    let mut now = at(15);
    for pause in [1, 2, 4, 8, 16, 32, 64] {
        let route = Route::service(cluster.pod(25).host, cluster.pod(22).host, mysql::PORT);
        let mut session = Session::open(&mut scene, route, now);
        mysql::log_in(&mut scene, &mut session, "reports", "shop", false);
        now = session
            .close(&mut scene, Side::Server)
            .after(Duration::from_secs(pause));
    }
    mistype(&mut scene, &cluster, at(60));
    pool(&mut scene, &cluster, at(90));
    for n in 0..17 {
        let server = cluster.pod(22).host;
        let route = Route::direct(crate::testkit::cluster::GATEWAY, server, mysql::PORT);
        let mut session = Session::open(&mut scene, route, at(5 + n * 10));
        mysql::greet(&mut scene, &mut session);
        session.close(&mut scene, Side::Client);
    }
    scene.finish()
}

/// Four connections at a time, each of which starts anew as soon as it is refused; the last one is let in.
pub fn four_at_a_time(scene: &mut Scene, actor: &Pod, server: &Pod, start: Timestamp) {
    let route = Route::direct(actor.host, server.host, postgres::PORT);
    let login = Login {
        user: "shop_admin",
        database: "template1",
        application: "",
    };
    let mut lanes = [0, 2, 3, 5].map(|late| start.after(Duration::from_millis(late)));
    for _ in 0..10 {
        for lane in &mut lanes {
            let mut session = Session::open(scene, route, *lane);
            postgres::log_in(scene, &mut session, &login, false);
            let refused = session.close(scene, Side::Server);
            *lane = refused.after(scene.rng.about(Duration::from_millis(180)));
        }
    }
    let last = lanes.into_iter().max().unwrap_or(start);
    let mut session = Session::open(scene, route, last);
    postgres::log_in(scene, &mut session, &login, true);
    postgres::leave(scene, session);
}

/// One try every 6 to 9 s.
fn one_by_one(scene: &mut Scene, actor: &Pod, server: &Pod, start: Timestamp) {
    let route = Route::direct(actor.host, server.host, mysql::PORT);
    let mut now = start;
    for _ in 0..16 {
        let mut session = Session::open(scene, route, now);
        mysql::log_in(scene, &mut session, "backup", "mysql", false);
        let pause = scene
            .rng
            .between(Duration::from_secs(6), Duration::from_secs(9));
        now = session.close(scene, Side::Server).after(pause);
    }
}

/// An application tries its secret, which isn't the right one any more.
fn stale(scene: &mut Scene, cluster: &Cluster, at: Timestamp) {
    let route = Route::service(cluster.pod(24).host, cluster.pod(20).host, postgres::PORT);
    let mut session = Session::open(scene, route, at);
    let login = Login {
        user: "reports",
        database: "shop",
        application: "reports",
    };
    postgres::log_in(scene, &mut session, &login, false);
    session.close(scene, Side::Server);
}

/// Somebody at a keyboard.
fn mistype(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let route = Route::direct(cluster.pod(31).host, cluster.pod(20).host, postgres::PORT);
    let login = Login {
        user: "alice",
        database: "shop",
        application: "psql",
    };
    let mut now = start;
    for _ in 0..3 {
        let mut session = Session::open(scene, route, now);
        postgres::log_in(scene, &mut session, &login, false);
        let refused = session.close(scene, Side::Server);
        now = refused.after(scene.rng.about(Duration::from_secs(5)));
    }
    let mut session = Session::open(scene, route, now);
    postgres::log_in(scene, &mut session, &login, true);
    postgres::query(scene, &mut session, "SELECT count(*) FROM orders", 1, 8);
    postgres::leave(scene, session);
}

/// A pool of ten connections to Redis, opened at once with the password of before, then with that of now.
fn pool(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let route = Route::service(cluster.pod(24).host, cluster.pod(21).host, redis::PORT);
    for (round, right) in (0..).zip([false, false, true]) {
        for n in 0..10 {
            let late = Duration::from_secs(20 * round) + Duration::from_micros(10) * n;
            let opens = start.after(late);
            let mut session = Session::open(scene, route, opens);
            let (password, reply) = if right {
                ("shop-cache", Reply::Simple("OK"))
            } else {
                let refusal = "WRONGPASS invalid username-password pair or user is disabled.";
                ("shop-cache-old", Reply::Error(refusal))
            };
            redis::ask(scene, &mut session, &["AUTH", password], reply);
            if right {
                redis::ask(scene, &mut session, &["GET", "report:today"], Reply::Nil);
            }
            session.close(scene, Side::Client);
        }
    }
}
