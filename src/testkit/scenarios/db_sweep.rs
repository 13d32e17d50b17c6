//! `db-sweep`: a pod tries every database's port on everybody, and tries its luck where one listens; its twins are
//! an exporter and an application that have business with several databases, and a client whose cluster is down.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::mongo::{self, Value};
use crate::testkit::talk::mysql;
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{self, Session, Side};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const MYSQL: Workload = Workload {
    namespace: "shop",
    kind: "StatefulSet",
    name: "mysql",
};
const MONGO: Workload = Workload {
    namespace: "shop",
    kind: "StatefulSet",
    name: "mongo",
};
const ORDERS: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "orders",
};
const EXPORTER: Workload = Workload {
    namespace: "monitoring",
    kind: "Deployment",
    name: "db-exporter",
};
const ACTOR: u8 = 11;
const BEGINS: u64 = 40;
/// The ports tried, in this order.
const PORTS: &[u16] = &[postgres::PORT, mysql::PORT, redis::PORT, mongo::PORT];
/// Who looks for a cluster that is down, how many of its members it knows, and their port.
const CLIENT: u8 = 14;
const SEEDS: usize = 6;
const CASSANDRA: u16 = 9042;
/// When the MySQL server restarts.
const RESTART: u64 = 100;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "db-sweep",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod tries the ports of PostgreSQL, MySQL, Redis and MongoDB on every pod. Where one is open it reads what there is to read and tries three passwords.",
                seed: 41,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An exporter reads the statistics of four databases every 20 s. An application with connections to all four starts up; when the MySQL server restarts, its pool is refused five times, then connects again. A client of a Cassandra cluster that is down tries six of its members again and again.",
                seed: 42,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![Expect::new("db-sweep", "database", cluster.pod(ACTOR), begins).targets(20)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.add_stateful(MYSQL, since, 22);
    cluster.add_stateful(MONGO, since, 23);
    cluster.deploy(EXPORTER, "1", since, &[31]);
    cluster.deploy(ORDERS, "1", at(28), &[24]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    sweep(&mut scene, &cluster, cluster.pod(ACTOR), at(BEGINS));
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for round in 0..8 {
        export(&mut scene, &cluster, at(6 + round * 20));
    }
    start_up(&mut scene, &cluster, at(30));
    ride_out_restart(&mut scene, &cluster, at(32));
    await_cluster(&mut scene, &cluster, at(50));
    scene.finish()
}

/// Every database's port on every pod of the cluster that is alive.
pub fn sweep(scene: &mut Scene, cluster: &Cluster, actor: &Pod, start: Timestamp) {
    let mut now = start;
    let others = cluster
        .pods
        .iter()
        .filter(|pod| !pod.host_network && pod.is_alive(start) && pod.host != actor.host);
    for pod in others {
        for &port in PORTS {
            let route = Route::direct(actor.host, pod.host, port);
            now = if listens(pod, port) {
                try_luck(scene, route, now)
            } else {
                tcp::refused(scene, route, now)
            };
            now = now.after(scene.rng.about(Duration::from_millis(90)));
        }
    }
}

/// A client of Cassandra that knows six members of its cluster, none of which is up, tries one after the other.
fn await_cluster(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let me = cluster.pod(CLIENT).host;
    let alive = |pod: &&Pod| !pod.host_network && pod.is_alive(start) && pod.host != me;
    let seeds: Vec<Host> = cluster
        .pods
        .iter()
        .filter(alive)
        .map(|pod| pod.host)
        .collect();
    let mut now = start;
    for _ in 0..14 {
        for seed in seeds.iter().take(SEEDS) {
            now = tcp::refused(scene, Route::direct(me, *seed, CASSANDRA), now);
        }
        now = now.after(scene.rng.about(Duration::from_secs(6)));
    }
}

fn listens(pod: &Pod, port: u16) -> bool {
    let own = match pod.workload.name {
        "postgres" => postgres::PORT,
        "mysql" => mysql::PORT,
        "redis" => redis::PORT,
        "mongo" => mongo::PORT,
        _ => return false,
    };
    own == port
}

/// What a stranger can do with an open database port. When it is over.
fn try_luck(scene: &mut Scene, route: Route, start: Timestamp) -> Timestamp {
    let mut now = start;
    for user in ["postgres", "root", "admin"] {
        let mut session = Session::open(scene, route, now);
        now = match route.port {
            postgres::PORT => {
                let login = Login {
                    user,
                    database: "postgres",
                    application: "",
                };
                postgres::log_in(scene, &mut session, &login, false);
                session.close(scene, Side::Server)
            }
            mysql::PORT => {
                mysql::log_in(scene, &mut session, user, "mysql", false);
                session.close(scene, Side::Server)
            }
            redis::PORT => {
                let refusal = Reply::Error("NOAUTH Authentication required.");
                redis::ask(scene, &mut session, &["INFO"], refusal);
                let refusal =
                    Reply::Error("WRONGPASS invalid username-password pair or user is disabled.");
                redis::ask(scene, &mut session, &["AUTH", user], refusal);
                session.close(scene, Side::Client)
            }
            _ => {
                let list = vec![
                    ("listDatabases", Value::Int(1)),
                    ("$db", Value::Text("admin".into())),
                ];
                let refusal = mongo::unauthorized("listDatabases");
                mongo::ask(scene, &mut session, &list, &refusal);
                session.close(scene, Side::Client)
            }
        };
        now = now.after(scene.rng.about(Duration::from_millis(250)));
    }
    now
}

/// An exporter reads every database's statistics.
fn export(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let me = cluster.pod(31).host;
    let login = Login {
        user: "exporter",
        database: "shop",
        application: "postgres_exporter",
    };
    let mut session = open(scene, cluster, me, postgres::PORT, start);
    postgres::log_in(scene, &mut session, &login, true);
    for view in [
        "pg_stat_database",
        "pg_stat_bgwriter",
        "pg_stat_activity",
        "pg_locks",
    ] {
        let sql = format!(
            "SELECT datname, numbackends, xact_commit, xact_rollback, blks_read, blks_hit FROM pg_catalog.{view} WHERE datname IS NOT NULL"
        );
        postgres::query(scene, &mut session, &sql, 3, 30);
    }
    let now = postgres::leave(scene, session).after(Duration::from_millis(30));

    let mut session = open(scene, cluster, me, mysql::PORT, now);
    mysql::log_in(scene, &mut session, "exporter", "", true);
    for what in [
        "GLOBAL STATUS",
        "GLOBAL VARIABLES",
        "ENGINE INNODB STATUS",
        "REPLICA STATUS",
    ] {
        let sql = format!(
            "SHOW /* mysqld_exporter: collected for the metrics endpoint of this instance */ {what}"
        );
        mysql::query(scene, &mut session, &sql, 4, 30);
    }
    let now = mysql::leave(scene, session).after(Duration::from_millis(30));

    let mut session = open(scene, cluster, me, redis::PORT, now);
    redis::ask(
        scene,
        &mut session,
        &["AUTH", "shop-cache"],
        Reply::Simple("OK"),
    );
    for command in [
        &["CLIENT", "SETNAME", "redis_exporter"][..],
        &["CONFIG", "GET", "*"],
        &["INFO", "ALL"],
        &["LATENCY", "LATEST"],
        &["LATENCY", "HISTOGRAM"],
        &["CLIENT", "LIST"],
        &["SLOWLOG", "LEN"],
        &["SLOWLOG", "GET", "1"],
    ] {
        redis::ask(
            scene,
            &mut session,
            command,
            Reply::Bulk("redis_version:7.4.1 connected_clients:9"),
        );
    }
    let now = session
        .close(scene, Side::Client)
        .after(Duration::from_millis(30));

    let mut session = open(scene, cluster, me, mongo::PORT, now);
    mongo::hello(scene, &mut session, "mongodb_exporter");
    for command in ["serverStatus", "replSetGetStatus", "top", "listDatabases"] {
        use_mongo(scene, &mut session, command, "admin");
    }
    session.close(scene, Side::Client);
}

/// An application opens its connections to four databases, checks its tables, and begins to work.
fn start_up(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let me = cluster.pod(24).host;
    for n in 0..3 {
        let login = Login {
            user: "orders",
            database: "orders",
            application: "orders",
        };
        let opens = start.after(Duration::from_millis(150) * n);
        let mut session = open(scene, cluster, me, postgres::PORT, opens);
        postgres::log_in(scene, &mut session, &login, true);
        for table in ["orders", "order_lines", "addresses", "payments"] {
            let sql = format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
            );
            postgres::query(scene, &mut session, &sql, 4, 24);
            let pause = scene.rng.about(Duration::from_secs(9));
            session.wait(scene, pause);
        }
        postgres::leave(scene, session);
    }
    let mut session = open(scene, cluster, me, redis::PORT, start);
    redis::ask(
        scene,
        &mut session,
        &["AUTH", "shop-cache"],
        Reply::Simple("OK"),
    );
    for n in 0..12 {
        let key = format!("session:{}", scene.rng.hex(20));
        redis::ask(
            scene,
            &mut session,
            &["GET", &key],
            if n % 3 == 0 {
                Reply::Nil
            } else {
                Reply::Bulk("{\"user\":7}")
            },
        );
        let pause = scene.rng.about(Duration::from_secs(4));
        session.wait(scene, pause);
    }
    session.close(scene, Side::Client);
    let mut session = open(scene, cluster, me, mongo::PORT, start);
    mongo::hello(scene, &mut session, "nodejs");
    for _ in 0..6 {
        use_mongo(scene, &mut session, "find", "shop");
        let pause = scene.rng.about(Duration::from_secs(7));
        session.wait(scene, pause);
    }
    session.close(scene, Side::Client);
}

/// A pool of two connections to MySQL: the server restarts under it, refuses for a while, and takes it back.
fn ride_out_restart(scene: &mut Scene, cluster: &Cluster, start: Timestamp) {
    let me = cluster.pod(24).host;
    let route = Route::service(me, cluster.pod(22).host, mysql::PORT);
    for _ in 0..2 {
        let session = Session::open(scene, route, start);
        let session = legacy_work(scene, session, at(RESTART));
        let mut now = session.abort(scene, Side::Server);
        for pause in [100, 300, 700, 1500, 3100] {
            now = now.after(scene.rng.about(Duration::from_millis(pause)));
            now = tcp::refused(scene, route, now);
        }
        let back = now.after(Duration::from_secs(4));
        let session = Session::open(scene, route, back);
        let session = legacy_work(scene, session, at(170));
        mysql::leave(scene, session);
    }
}

/// Logs in and queries MySQL now and then.
fn legacy_work(scene: &mut Scene, mut session: Session, until: Timestamp) -> Session {
    mysql::log_in(scene, &mut session, "orders", "legacy", true);
    while session.now() < until.before(Duration::from_secs(9)) {
        let id = scene.rng.below(5000);
        let sql = format!(
            "SELECT c.id, c.name, c.email, c.country FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.id = {id}"
        );
        mysql::query(scene, &mut session, &sql, 2, 60);
        let pause = scene.rng.about(Duration::from_secs(7));
        session.wait(scene, pause);
    }
    session.wait_until(scene, until);
    session
}

fn use_mongo(scene: &mut Scene, session: &mut Session, command: &'static str, database: &str) {
    let question = vec![
        (command, Value::Text("carts".into())),
        ("maxTimeMS", Value::Int(10_000)),
        ("$db", Value::Text(database.into())),
    ];
    let found = vec![vec![
        ("sku", Value::Text("A-17".into())),
        ("count", Value::Int(2)),
    ]];
    let cursor = vec![
        ("firstBatch", Value::List(found)),
        ("ns", Value::Text("shop.carts".into())),
    ];
    let reply = vec![
        ("cursor", Value::Document(cursor)),
        ("ok", Value::Double(1.0)),
    ];
    mongo::ask(scene, session, &question, &reply);
}

fn open(scene: &mut Scene, cluster: &Cluster, me: Host, port: u16, at: Timestamp) -> Session {
    let server = cluster.pods.iter().find(|pod| listens(pod, port));
    let server = server.expect("a server for each port").host;
    Session::open(scene, Route::service(me, server, port), at)
}
