//! Those who take a database away, and everybody else who reads much.

use super::super::testing::{Bench, end, pod};
use super::super::testing_db::Talk;
use super::*;
use crate::dissect::{DatabaseEvent, HttpRequest};
use crate::flow::{Direction, Protocol, Turn};
use crate::identity::{IdentityKind, WorkloadId};

const CATALOGUE: StatementClass = StatementClass::Catalogue;
const READ: StatementClass = StatementClass::Read;

fn db() -> Endpoint {
    pod("10.244.1.3", "db")
}

/// A pod that serves visitors and has done so for two minutes.
fn serving(bench: &mut Bench, ip: &str, name: &str) -> Endpoint {
    let pod = pod(ip, name);
    let visitor = end("203.0.113.5", IdentityKind::External, None);
    for n in 0..12 {
        let at = f64::from(n) * 10.0;
        bench.flow(
            at,
            (&visitor, &pod),
            Protocol::Tcp,
            8080,
            Outcome::Answered,
            900,
        );
    }
    pod
}

fn job(ip: &str) -> Endpoint {
    let workload = WorkloadId {
        namespace: "ops".into(),
        kind: "CronJob".into(),
        name: "backup".into(),
    };
    end(ip, IdentityKind::Pod, Some(workload))
}

/// Asks what there is.
fn look(talk: &mut Talk<'_>, questions: u64) {
    for n in 0..questions {
        talk.ask(
            "SELECT",
            CATALOGUE,
            Marks::empty(),
            900 + n,
            Some(9),
            300,
            None,
        );
    }
}

/// Reads whole tables of so many bytes each.
fn read(talk: &mut Talk<'_>, verb: &'static str, tables: u64, bytes: u64) {
    for n in 0..tables {
        let rows = Some(bytes / 60);
        talk.ask(verb, READ, Marks::BULK_READ, n, rows, bytes, None);
    }
}

/// Lists keys, and reads them.
fn walk(talk: &mut Talk<'_>, list: &'static str, get: &'static str, keys: u64) {
    talk.ask(list, CATALOGUE, Marks::KEY_WALK, 1, None, 20 * keys, None);
    for _ in 0..keys {
        talk.ask(get, READ, Marks::empty(), 2, None, 40, None);
    }
}

fn work(talk: &mut Talk<'_>, statements: u64) {
    for n in 0..statements {
        talk.ask(
            "SELECT",
            READ,
            Marks::empty(),
            100 + n % 6,
            Some(9),
            300,
            None,
        );
    }
}

#[test]
fn whoever_takes_tables_from_a_web_pod_is_found() {
    // By hand.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "postgresql", 5432);
    talk.log_in("app", Some("psql"));
    read(&mut talk, "SELECT", 4, 2000);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let summary = &bench.findings[0].summary;
    assert!(summary.contains("as app"), "{summary}");

    // With the program made for it.
    for (product, tool, verb, port) in [
        ("mysql", "mysqldump", "SELECT", 3306),
        ("postgresql", "pg_dump", "COPY", 5432),
    ] {
        let mut bench = Bench::new("db-bulk-read");
        let web = serving(&mut bench, "10.244.1.7", "web");
        let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), product, port);
        talk.log_in("app", Some(tool));
        look(&mut talk, 12);
        read(&mut talk, verb, 5, 3000);
        assert!(bench.alerts(), "{tool}: {} bits", bench.bits());
    }

    // With a script that calls itself nothing, and is gone.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "mysql", 3306);
    talk.log_in("app", None);
    look(&mut talk, 5);
    read(&mut talk, "SELECT", 6, 3000);
    talk.close();
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn whoever_fetches_a_database_from_a_web_pods_command_line_is_found() {
    for (client, alerts) in [
        ("curl/7.88.1", true),
        ("elasticdump", true),
        // An application's own library reads as much as it likes.
        ("elasticsearch-py/8.12.0", false),
    ] {
        let mut bench = Bench::new("db-bulk-read");
        let web = serving(&mut bench, "10.244.1.7", "web");
        let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "elasticsearch", 9200);
        talk.fetches(client);
        for n in 0..2 {
            let marks = Marks::BULK_READ;
            talk.ask("_search", READ, marks, 7 + n, None, 400_000, None);
        }
        talk.close();
        assert_eq!(bench.alerts(), alerts, "{client}: {} bits", bench.bits());
    }
}

#[test]
fn whoever_takes_keys_or_a_replicas_copy_is_found() {
    for (product, list, get) in [
        ("redis", "SCAN", "GET"),
        ("redis", "KEYS", "DUMP"),
        ("memcached", "lru_crawler metadump", "get"),
    ] {
        let mut bench = Bench::new("db-bulk-read");
        let web = serving(&mut bench, "10.244.1.7", "web");
        let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), product, 6379);
        walk(&mut talk, list, get, 200);
        assert!(bench.alerts(), "{list}: {} bits", bench.bits());
    }
    // One command line each.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "redis", 6379);
    talk.ask("KEYS", CATALOGUE, Marks::KEY_WALK, 1, None, 4000, None);
    talk.close();
    for n in 0..200 {
        let at = 140.0 + f64::from(n);
        let mut talk = Talk::open(&mut bench, at, (&web, &db()), "redis", 6379);
        talk.ask("GET", READ, Marks::empty(), 2, None, 400, None);
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "redis", 6379);
    let admin = StatementClass::Admin;
    talk.ask("PSYNC", admin, Marks::REPLICATES, 3, None, 0, None);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn whoever_takes_with_many_hands_or_many_keys_at_once_is_found() {
    // One asks what there is, four copy, as mydumper does.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "mysql", 3306);
    talk.log_in("app", None);
    look(&mut talk, 8);
    // The time and the version.
    work(&mut talk, 2);
    talk.close();
    for n in 0..4_u32 {
        let at = 131.0 + f64::from(n) * 0.1;
        let mut talk = Talk::open(&mut bench, at, (&web, &db()), "mysql", 3306);
        talk.log_in("app", None);
        let rows = Some(900);
        talk.ask(
            "SELECT",
            READ,
            Marks::BULK_READ,
            n.into(),
            rows,
            60_000,
            None,
        );
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // One request a connection, and answers that don't tell their rows.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    for n in 0..7_u64 {
        let at = 130.0 + n as f64;
        let mut talk = Talk::open(&mut bench, at, (&web, &db()), "elasticsearch", 9200);
        if n < 3 {
            look(&mut talk, 1);
        } else {
            let marks = Marks::empty();
            talk.ask("_search", READ, marks, n, None, 2_000_000, None);
        }
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // Fifty keys a time.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "redis", 6379);
    talk.ask("KEYS", CATALOGUE, Marks::KEY_WALK, 1, None, 4000, None);
    for _ in 0..6 {
        talk.ask("MGET", READ, Marks::empty(), 2, Some(50), 2000, None);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // With Memcached's commands for debugging, by a pod that has just begun.
    let mut bench = Bench::new("db-bulk-read");
    let (app, web) = (pod("10.244.1.11", "app"), pod("10.244.1.7", "web"));
    bench.tcp(1.0, (&app, &web), 8080, Outcome::Answered, 90);
    let mut talk = Talk::open(&mut bench, 5.0, (&web, &db()), "memcached", 11_211);
    walk(&mut talk, "stats cachedump", "get", 130);
    assert!(bench.alerts(), "{} bits", bench.bits());

    // By the application itself, which never did.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    for n in 0..30 {
        bench.asks(1.0 + f64::from(n), (&web, &db()), 6379);
    }
    bench.tcp(100.0, (&web, &db()), 6379, Outcome::Answered, 900);
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "redis", 6379);
    walk(&mut talk, "SCAN", "GET", 300);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn a_copy_and_nothing_after_it_is_no_replica() {
    let admin = StatementClass::Admin;
    let ask = |bench: &mut Bench, client: &Endpoint, verb, payload| {
        let flow = bench.begin(130.0, (client, &db()), Protocol::Tcp, 6379);
        let event = DatabaseEvent::Statement {
            class: admin,
            marks: Marks::REPLICATES,
            verb,
            fingerprint: 3,
            length: 40,
        };
        let product = "redis";
        let message = DatabaseMessage { product, event };
        bench.says(130.1, &flow, Transaction::Database(message));
        let before = bench.alerts();
        bench.carries(131.0, &flow, payload);
        (before, bench.alerts())
    };
    // Whoever wants the copy alone says so, or just leaves.
    let mut bench = Bench::new("db-bulk-read");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let copied = ask(&mut bench, &web, "REPLCONF rdb-only", [90, 300]);
    assert_eq!(copied, (true, true));
    for verb in ["SYNC", "PSYNC"] {
        let mut bench = Bench::new("db-bulk-read");
        let web = serving(&mut bench, "10.244.1.7", "web");
        let (_, copied) = ask(&mut bench, &web, verb, [150, 300]);
        assert!(copied, "{verb}");
    }
    // A replica that lives on beside something else; a backup's pod; one that is a Redis itself, and begins again.
    let mut bench = Bench::new("db-bulk-read");
    let (app, both) = (pod("10.244.1.11", "app"), pod("10.244.1.8", "both"));
    bench.tcp(125.0, (&app, &both), 8080, Outcome::Answered, 90);
    assert_eq!(
        ask(&mut bench, &both, "PSYNC", [9000, 900_000]),
        (false, false)
    );
    let backup = pod("10.244.1.9", "backup");
    let verb = "REPLCONF rdb-only";
    assert_eq!(
        ask(&mut bench, &backup, verb, [90, 90_000_000]),
        (false, false)
    );
    let replica = serving(&mut bench, "10.244.1.10", "replica");
    bench.tcp(125.0, (&app, &replica), 6379, Outcome::Answered, 90);
    let payload = [150, 300];
    assert_eq!(ask(&mut bench, &replica, "PSYNC", payload), (false, false));
    bench.finish(1e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn who_is_asked_for_measurements_alone_serves_nobody() {
    let dump = |bench: &mut Bench, backup: &Endpoint| {
        let mut talk = Talk::open(bench, 130.0, (backup, &db()), "postgresql", 5432);
        talk.log_in("app", Some("pg_dump"));
        look(&mut talk, 12);
        read(&mut talk, "COPY", 5, 3000);
        talk.close();
        bench.alerts()
    };
    let scrape = |bench: &mut Bench, backup: &Endpoint, path: &str| {
        let prometheus = pod("10.244.1.40", "prometheus");
        for n in 0..6 {
            let at = 10.0 + f64::from(n) * 15.0;
            let flow = bench.begin(at, (&prometheus, backup), Protocol::Tcp, 9113);
            let request = HttpRequest {
                method: "GET".into(),
                path: path.into(),
                ..HttpRequest::default()
            };
            bench.says(at, &flow, Transaction::HttpRequest(request));
            bench.ends(at + 0.1, &flow);
        }
    };
    let backup = pod("10.244.1.30", "backup");
    let mut bench = Bench::new("db-bulk-read");
    scrape(&mut bench, &backup, "/metrics");
    assert!(!dump(&mut bench, &backup), "{:?}", bench.findings);
    // The same client comes for something else, too; or another client does.
    let mut bench = Bench::new("db-bulk-read");
    scrape(&mut bench, &backup, "/metrics");
    scrape(&mut bench, &backup, "/orders");
    assert!(dump(&mut bench, &backup));
    // A worker that nobody asks, but that asks other services itself.
    let mut bench = Bench::new("db-bulk-read");
    scrape(&mut bench, &backup, "/metrics");
    let api = pod("10.244.1.12", "api");
    for n in 0..20 {
        let at = 10.0 + f64::from(n) * 5.0;
        let flow = bench.begin(at, (&backup, &api), Protocol::Tcp, 8080);
        let turn = Turn::new(Direction::Orig, Timestamp::from_secs_f64(at), 200);
        bench.event(at, EventKind::Turn { flow, turn });
    }
    assert!(dump(&mut bench, &backup));
    let mut bench = Bench::new("db-bulk-read");
    scrape(&mut bench, &backup, "/metrics");
    let web = serving(&mut bench, "10.244.1.30", "backup");
    scrape(&mut bench, &web, "/metrics");
    assert!(dump(&mut bench, &web));
}

#[test]
fn copies_reports_and_start_ups_are_left_alone() {
    let mut bench = Bench::new("db-bulk-read");
    // Every night, and by a workload that sleeps in between.
    for (n, copier) in (0..).zip([job("10.244.1.30"), pod("10.244.1.31", "pg-backup")]) {
        let at = 1000.0 + f64::from(n) * 500.0;
        let mut talk = Talk::open(&mut bench, at, (&copier, &db()), "postgresql", 5432);
        talk.log_in("backup", Some("pg_dump"));
        look(&mut talk, 40);
        read(&mut talk, "COPY", 30, 5_000_000);
        talk.close();
    }
    // A mapper of objects loads its small tables, and works.
    let api = serving(&mut bench, "10.244.1.20", "api");
    let mut talk = Talk::open(&mut bench, 2130.0, (&api, &db()), "postgresql", 5432);
    talk.log_in("app", Some("api"));
    look(&mut talk, 14);
    read(&mut talk, "SELECT", 6, 4000);
    work(&mut talk, 60);
    talk.close();
    // A report, every hour.
    let reports = serving(&mut bench, "10.244.1.21", "reports");
    for n in 1..6 {
        let at = 3600.0 * f64::from(n);
        let mut talk = Talk::open(&mut bench, at, (&reports, &db()), "mysql", 3306);
        talk.log_in("reports", None);
        read(&mut talk, "SELECT", 5, 600_000);
        talk.close();
    }
    // An administrator, whose pod serves nobody.
    let toolbox = pod("10.244.1.22", "toolbox");
    let mut talk = Talk::open(&mut bench, 20_000.0, (&toolbox, &db()), "postgresql", 5432);
    talk.log_in("postgres", Some("psql"));
    look(&mut talk, 10);
    read(&mut talk, "SELECT", 8, 100_000);
    talk.close();
    bench.finish(1e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn an_application_with_a_connection_for_each_request_is_left_alone() {
    let mut bench = Bench::new("db-bulk-read");
    let api = serving(&mut bench, "10.244.1.20", "api");
    for n in 0..60 {
        bench.asks(20.0 + f64::from(n), (&api, &db()), 9200);
    }
    for n in 0..200 {
        let at = 130.0 + f64::from(n);
        let mut talk = Talk::open(&mut bench, at, (&api, &db()), "elasticsearch", 9200);
        match n % 20 {
            3 => look(&mut talk, 1),
            // An export, of three kinds.
            5 => talk.ask("_search", READ, Marks::BULK_READ, 1, None, 90_000, None),
            6 => talk.ask("_search", READ, Marks::empty(), 2, None, 900_000, None),
            7 => talk.ask("_search", READ, Marks::BULK_READ, 3, None, 90_000, None),
            _ => work(&mut talk, 1),
        }
        talk.close();
    }
    bench.finish(1e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn what_works_with_keys_and_replicas_are_left_alone() {
    let mut bench = Bench::new("db-bulk-read");
    // An application lists keys at times, and reads all the time.
    let api = serving(&mut bench, "10.244.1.20", "api");
    let mut talk = Talk::open(&mut bench, 130.0, (&api, &db()), "redis", 6379);
    for _ in 0..20 {
        talk.ask("GET", READ, Marks::empty(), 2, None, 40, None);
    }
    for _ in 0..5 {
        walk(&mut talk, "SCAN", "GET", 400);
    }
    talk.close();
    // A worker that serves nobody warms a cache.
    let worker = pod("10.244.1.24", "worker");
    let mut talk = Talk::open(&mut bench, 300.0, (&worker, &db()), "redis", 6379);
    walk(&mut talk, "SCAN", "GET", 5000);
    talk.close();
    // A replica of another name starts, serves, and comes again.
    let replica = pod("10.244.1.25", "db-replicas");
    let admin = StatementClass::Admin;
    for at in [400.0, 900.0, 5000.0] {
        let mut talk = Talk::open(&mut bench, at, (&replica, &db()), "redis", 6379);
        talk.ask("PSYNC", admin, Marks::REPLICATES, 3, None, 0, None);
        talk.close();
        bench.flow(
            at + 9.0,
            (&api, &replica),
            Protocol::Tcp,
            6379,
            Outcome::Answered,
            900,
        );
    }
    // A sibling of the server.
    let sibling = serving(&mut bench, "10.244.1.26", "db");
    let mut talk = Talk::open(&mut bench, 6000.0, (&sibling, &db()), "redis", 6379);
    talk.ask("PSYNC", admin, Marks::REPLICATES, 3, None, 0, None);
    talk.close();
    bench.finish(1e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

/// A day of an application that reads a little, and of a nightly copy.
fn day(bench: &mut Bench) -> (Endpoint, Endpoint) {
    let api = serving(bench, "10.244.1.20", "api");
    for n in 0..300 {
        let at = 130.0 + f64::from(n) * 280.0;
        let mut talk = Talk::open(bench, at, (&api, &db()), "postgresql", 5432);
        talk.log_in("app", Some("api"));
        work(&mut talk, 12);
        talk.close();
    }
    let copier = job("10.244.1.30");
    for n in 0..3 {
        let at = 90_000.0 + f64::from(n) * 500.0;
        let mut talk = Talk::open(bench, at, (&copier, &db()), "postgresql", 5432);
        talk.log_in("backup", Some("pg_dump"));
        read(&mut talk, "COPY", 30, 500_000);
        talk.close();
    }
    (api, copier)
}

#[test]
fn against_its_own_history() {
    let mut bench = Bench::new("db-bulk-read");
    let (api, copier) = day(&mut bench);
    let mut bench = bench.learned("db-bulk-read");

    // The copy as every night, and a table more.
    let mut talk = Talk::open(&mut bench, 200_000.0, (&copier, &db()), "postgresql", 5432);
    talk.log_in("backup", Some("pg_dump"));
    read(&mut talk, "COPY", 31, 50_000_000);
    talk.close();
    bench.finish(200_100.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);

    // One table, by the application's own user and driver, in its own pod.
    let mut talk = Talk::open(&mut bench, 210_000.0, (&api, &db()), "postgresql", 5432);
    talk.log_in("app", Some("api"));
    talk.ask(
        "SELECT",
        READ,
        Marks::BULK_READ,
        7000,
        Some(90_000),
        9_000_000,
        None,
    );
    talk.close();
    assert!(bench.alerts(), "{} bits", bench.bits());
    bench.finish(210_100.0);
}
