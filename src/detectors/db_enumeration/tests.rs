//! Intruders, and everybody else who looks around in a database.

use super::super::testing::{Bench, end, pod};
use super::super::testing_db::Talk;
use super::*;
use crate::dissect::Marks;
use crate::identity::IdentityKind;

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
        bench.tcp(
            f64::from(n) * 10.0,
            (&visitor, &pod),
            8080,
            Outcome::Answered,
            900,
        );
    }
    pod
}

fn question(talk: &mut Talk<'_>, number: u64) {
    talk.ask(
        "SELECT",
        CATALOGUE,
        Marks::empty(),
        number,
        Some(9),
        300,
        None,
    );
}

#[test]
fn somebody_with_a_shell_in_a_web_pod() {
    // One session of psql.
    let mut bench = Bench::new("db-enumeration");
    let web = serving(&mut bench, "10.244.1.7", "web");
    let mut talk = Talk::open(&mut bench, 130.0, (&web, &db()), "postgresql", 5432);
    talk.log_in("app", Some("psql"));
    for n in 0..8 {
        question(&mut talk, n);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // A command line each time, slowly, here and there.
    let mut bench = Bench::new("db-enumeration");
    let web = serving(&mut bench, "10.244.1.7", "web");
    for n in 0..9_u64 {
        let server = pod(&format!("10.244.1.{}", 3 + n % 3), "db");
        let at = 200.0 + n as f64 * 300.0;
        let mut talk = Talk::open(&mut bench, at, (&web, &server), "mysql", 3306);
        talk.log_in("root", Some("mysql"));
        question(&mut talk, n);
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // Nothing is known of the client, but it had to guess the password.
    let mut bench = Bench::new("db-enumeration");
    let pod = serving(&mut bench, "10.244.1.8", "tomcat");
    let mut talk = Talk::open(&mut bench, 130.0, (&pod, &db()), "redis", 6379);
    for _ in 0..5 {
        talk.refused("default");
    }
    talk.log_in("default", None);
    for (n, verb) in (0..).zip([
        "INFO",
        "CONFIG GET",
        "CLIENT LIST",
        "DBSIZE",
        "KEYS",
        "SLOWLOG",
    ]) {
        talk.ask(verb, CATALOGUE, Marks::empty(), n, None, 300, None);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn somebody_who_asks_redis_for_all_it_has() {
    let ask = |talk: &mut Talk<'_>, verb: &'static str, n: u64| {
        talk.ask(verb, CATALOGUE, Marks::empty(), n, None, 300, None);
    };
    // Typed, by a pod that works with it otherwise: settings, and all keys.
    let mut bench = Bench::new("db-enumeration");
    let web = serving(&mut bench, "10.244.1.7", "web");
    for (at, verbs) in [
        (
            5.0,
            &["GET", "SET", "GET", "SET", "GET", "SET", "GET", "SET"][..],
        ),
        (
            130.0,
            &["COMMAND DOCS", "INFO", "CONFIG GET", "CLIENT LIST", "KEYS"],
        ),
    ] {
        assert!(!bench.alerts());
        let mut talk = Talk::open(&mut bench, at, (&web, &db()), "redis", 6379);
        talk.log_in("default", None);
        for (n, verb) in (0..).zip(verbs) {
            match *verb {
                "GET" => talk.ask("GET", READ, Marks::empty(), 90, Some(1), 60, None),
                "SET" => talk.ask(
                    "SET",
                    StatementClass::Write,
                    Marks::empty(),
                    91,
                    None,
                    5,
                    None,
                ),
                question => ask(&mut talk, question, n),
            }
        }
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // One command line each, by a pod that never spoke to it.
    let mut bench = Bench::new("db-enumeration");
    let web = serving(&mut bench, "10.244.1.7", "web");
    for (n, verb) in (0..).zip(["INFO", "DBSIZE", "CONFIG GET", "CLIENT LIST", "KEYS"]) {
        let at = 200.0 + n as f64 * 3.0;
        let mut talk = Talk::open(&mut bench, at, (&web, &db()), "redis", 6379);
        ask(&mut talk, verb, n);
        talk.close();
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    // A console in the browser that keeps a connection; a health check that asks two things for ever; redis-cli in a toolbox.
    let mut bench = Bench::new("db-enumeration");
    let console = serving(&mut bench, "10.244.1.9", "redis-commander");
    let mut talk = Talk::open(&mut bench, 130.0, (&console, &db()), "redis", 6379);
    for (n, verb) in (0..).zip(["COMMAND", "INFO", "CONFIG GET", "CLIENT LIST", "KEYS"]) {
        ask(&mut talk, verb, n);
    }
    talk.close();
    let api = serving(&mut bench, "10.244.1.10", "api");
    for n in 0..50 {
        let at = 300.0 + f64::from(n) * 10.0;
        let mut talk = Talk::open(&mut bench, at, (&api, &db()), "redis", 6379);
        ask(&mut talk, "INFO", 1);
        ask(&mut talk, "DBSIZE", 2);
        talk.close();
    }
    let toolbox = pod("10.244.1.21", "toolbox");
    let mut talk = Talk::open(&mut bench, 900.0, (&toolbox, &db()), "redis", 6379);
    for (n, verb) in (0..).zip(["COMMAND DOCS", "INFO", "CONFIG GET", "CLIENT LIST", "KEYS"]) {
        ask(&mut talk, verb, n);
    }
    talk.close();
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn those_who_have_business_to_are_left_alone() {
    let mut bench = Bench::new("db-enumeration");
    let api = serving(&mut bench, "10.244.1.20", "api");
    // An ORM starts up, then works.
    let mut talk = Talk::open(&mut bench, 130.0, (&api, &db()), "postgresql", 5432);
    talk.log_in("app", Some("api"));
    for n in 0..14 {
        question(&mut talk, n);
    }
    for n in 0..40 {
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
    // An administrator at a toolbox, all afternoon.
    let toolbox = pod("10.244.1.21", "toolbox");
    for n in 0..30_u64 {
        let at = 1000.0 + n as f64 * 60.0;
        let mut talk = Talk::open(&mut bench, at, (&toolbox, &db()), "postgresql", 5432);
        talk.log_in("postgres", Some("psql"));
        for m in 0..12 {
            question(&mut talk, n * 3 + m);
        }
        talk.close();
    }
    // A dump, by a pod of its own.
    let job = pod("10.244.1.22", "backup");
    let mut talk = Talk::open(&mut bench, 3000.0, (&job, &db()), "postgresql", 5432);
    talk.log_in("backup", Some("pg_dump"));
    for n in 0..90 {
        question(&mut talk, 500 + n);
    }
    // An exporter that is scraped, of several products.
    let exporter = serving(&mut bench, "10.244.1.23", "exporter");
    for round in 0..40 {
        for (number, product) in (0..).zip(["postgresql", "mysql", "redis"]) {
            let server = pod(&format!("10.244.1.{}", 3 + number), product);
            let at = 10.0 + f64::from(round) * 15.0;
            let mut talk = Talk::open(&mut bench, at, (&exporter, &server), product, 5432);
            talk.log_in("exporter", Some("postgres_exporter"));
            for n in 0..9 {
                question(&mut talk, 700 + n);
            }
            talk.close();
        }
    }
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn a_baseline_makes_it_surprise() {
    let work = |bench: &mut Bench, hour: f64| {
        let api = pod("10.244.1.20", "api");
        let mut talk = Talk::open(bench, hour * 3600.0, (&api, &db()), "postgresql", 5432);
        talk.log_in("app", Some("api"));
        for n in 0..5 {
            question(&mut talk, n);
        }
        for n in 0..40 {
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
    };
    let mut bench = Bench::new("db-enumeration");
    for hour in 0..48 {
        work(&mut bench, f64::from(hour));
    }
    let mut bench = bench.learned("db-enumeration");
    work(&mut bench, 60.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    let api = pod("10.244.1.20", "api");
    let mut talk = Talk::open(&mut bench, 61.0 * 3600.0, (&api, &db()), "postgresql", 5432);
    talk.log_in("app", Some("api"));
    for n in 0..12 {
        question(&mut talk, 900 + n);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());
}
