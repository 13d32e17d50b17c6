//! Sweeps over databases, and those who only come back to theirs.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::flow::Outcome;

const PORTS: [u16; 4] = [5432, 3306, 6379, 27017];

#[test]
fn looks_at_a_steady_pace_are_probes_of_health() {
    // A node's address that no inventory names.
    let gateway = end("10.244.1.1", IdentityKind::Unknown, None);
    let mut bench = Bench::new("db-sweep");
    for round in 0..20 {
        for (port, step) in PORTS.into_iter().zip(0..) {
            for n in 0..2_u16 {
                let at = f64::from(round) * 10.0 + f64::from(step) * 2.1 + f64::from(n);
                bench.tcp(at, (&gateway, &host(n)), port, Outcome::Answered, 0);
            }
        }
    }
    bench.finish(200.0);
    assert!(!bench.alerts(), "{:?}", bench.findings);
    // Once each, and no more: a sweep, though it takes longer to be sure.
    let mut bench = Bench::new("db-sweep");
    for (port, step) in PORTS.into_iter().zip(0..) {
        for n in 0..3_u16 {
            let at = f64::from(step) + f64::from(n) / 10.0;
            bench.tcp(at, (&gateway, &host(n)), port, Outcome::Answered, 0);
        }
    }
    bench.finish(60.0);
    assert!(bench.alerts());
}

#[test]
fn probes_of_the_same_endpoint_meet_and_some_are_refused() {
    // Two probes of each container, whose clocks began by chance, and two containers that don't come up.
    let gateway = end("10.244.1.1", IdentityKind::Unknown, None);
    let mut bench = Bench::new("db-sweep");
    let mut visits = Vec::new();
    for n in 0..20_u16 {
        let offset = f64::from(n) * 0.47;
        for period in [10.0, 5.0] {
            let begins = offset % period + f64::from(n % 7) * 0.3 * (period / 10.0);
            visits.extend((0..).map(|k| (begins + f64::from(k) * period, n)).take(30));
        }
    }
    visits.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    for (at, n) in visits {
        let outcome = if n < 2 {
            Outcome::Refused
        } else {
            Outcome::Answered
        };
        let port = PORTS[usize::from(n) % 4];
        bench.tcp(at, (&gateway, &host(n)), port, outcome, 0);
    }
    bench.finish(400.0);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn who_looks_after_many_databases_asks_them_the_same_by_a_clock() {
    // An operator or a monitor: a login and a word to each, the same every time. (pause, rounds, words in round)
    let watched = |pause: f64, rounds: u32, words: fn(u64, u32) -> u64, failed: u16| {
        let operator = pod("10.244.1.8", "operator");
        let mut bench = Bench::new("db-sweep");
        for round in 0..rounds {
            for n in 0..12_u16 {
                let at = f64::from(round) * pause + f64::from(n) / 50.0;
                let (port, own) = (PORTS[usize::from(n) % 4], 40 + u64::from(n % 4) * 60);
                let outcome = if n < failed {
                    Outcome::Silent
                } else {
                    Outcome::Answered
                };
                bench.tcp(at, (&operator, &host(n)), port, outcome, words(own, round));
            }
        }
        bench.finish(f64::from(rounds) * pause + 60.0);
        !bench.alerts()
    };
    let same: fn(u64, u32) -> u64 = |own, _| own;
    for pause in [1.0, 5.0, 15.0, 30.0] {
        assert!(watched(pause, 10, same, 0), "{pause}");
    }
    // One that is down is asked, too.
    assert!(watched(10.0, 10, same, 1));
    // Once, twice, in a hurry, in other words each time, or mostly in vain: a sweep.
    assert!(!watched(10.0, 1, same, 0));
    assert!(!watched(10.0, 2, same, 0));
    assert!(!watched(0.3, 10, same, 0));
    assert!(!watched(10.0, 10, |own, round| own + u64::from(round), 0));
    assert!(!watched(10.0, 10, same, 9));
}

fn host(n: u16) -> Endpoint {
    end(&format!("10.244.1.{}", n + 10), IdentityKind::Unknown, None)
}

#[test]
fn a_sweep_is_found_whether_ports_are_closed_or_databases_answer() {
    for (outcome, said) in [(Outcome::Refused, 0), (Outcome::Answered, 80)] {
        let mut bench = Bench::new("db-sweep");
        let web = pod("10.244.1.7", "web");
        for n in 0..10 {
            for (port, step) in PORTS.into_iter().zip(0..) {
                let at = f64::from(n * 4 + step) * 120.0;
                bench.tcp(at, (&web, &host(n)), port, outcome, said);
            }
        }
        bench.finish(1e5);
        assert!(bench.alerts(), "{outcome:?}: {} bits", bench.bits());
        assert_eq!(bench.findings.last().unwrap().target_count, 40);
    }
}

#[test]
fn applications_that_work_with_databases_are_left_alone() {
    let mut bench = Bench::new("db-sweep");
    let api = pod("10.244.1.7", "api");
    // A start-up: each store greeted, then used.
    for (port, n) in PORTS.into_iter().zip(0..) {
        bench.tcp(1.0, (&api, &host(n)), port, Outcome::Answered, 60);
        bench.tcp(2.0, (&api, &host(n)), port, Outcome::Answered, 90_000);
    }
    // A pool that reconnects while its database restarts.
    for at in 0..300 {
        bench.tcp(
            100.0 + f64::from(at),
            (&api, &host(0)),
            5432,
            Outcome::Refused,
            0,
        );
    }
    // A client of a cluster of twenty shards.
    for n in 0..20 {
        bench.tcp(500.0, (&api, &host(n)), 6379, Outcome::Answered, 5_000);
    }
    // A client of a cluster none of whose members is up.
    for (round, n) in (0..3).flat_map(|round| (0..9).map(move |n| (round, n))) {
        let member = pod(&format!("10.244.3.{}", n + 1), "cassandra");
        let (at, worker) = (520.0 + f64::from(round * 5), pod("10.244.1.8", "worker"));
        bench.tcp(at, (&worker, &member), 9042, Outcome::Refused, 0);
    }
    let node = end("10.244.1.1", IdentityKind::Node, None);
    for n in 0..40 {
        bench.tcp(600.0, (&node, &host(n)), 5432, Outcome::Answered, 0);
    }
    bench.finish(1000.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn who_comes_back_to_a_few_endpoints_has_them_from_its_configuration() {
    let store = |n: u16| {
        let workload = format!("store-{n}");
        pod(&format!("10.244.3.{}", n + 1), &workload)
    };
    // Seeds of a cluster that is down; a service whose stores are not up yet; a probe of health in a pod.
    let seeds: Vec<_> = (0..7).map(|n| (store(n), 7000)).collect();
    let stores: Vec<_> = (0..4)
        .zip(PORTS)
        .map(|(n, port)| (store(n), port))
        .collect();
    for (places, pause, outcome) in [
        (&seeds, 3.0, Outcome::Refused),
        (&seeds, 9.0, Outcome::Silent),
        (&stores, 2.0, Outcome::Refused),
        (&stores, 10.0, Outcome::Answered),
    ] {
        let client = pod("10.244.1.8", "ratings");
        let mut bench = Bench::new("db-sweep");
        for round in 0..12 {
            for (place, port) in places {
                let at = f64::from(round) * pause;
                bench.tcp(at, (&client, place), *port, outcome, 0);
            }
        }
        bench.finish(200.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
    // Once, or twice as scanners repeat themselves, and with words in a hurry: a sweep.
    let all: Vec<_> = (0..8)
        .map(|n| (store(n), PORTS[usize::from(n) % 4]))
        .collect();
    for (places, rounds, pause, said) in
        [(&seeds, 1, 0.0, 0), (&seeds, 3, 1.0, 0), (&all, 9, 0.3, 60)]
    {
        let attacker = pod("10.244.1.8", "ratings");
        let mut bench = Bench::new("db-sweep");
        for round in 0..rounds {
            for (place, port) in places {
                let at = f64::from(round) * pause;
                let outcome = [Outcome::Refused, Outcome::Answered][usize::from(said > 0)];
                bench.tcp(at, (&attacker, place), *port, outcome, said);
            }
        }
        bench.finish(200.0);
        assert!(bench.alerts(), "{rounds} rounds");
    }
}

#[test]
fn a_port_scan_that_meets_databases_is_left_to_port_scan() {
    let mut bench = Bench::new("db-sweep");
    let web = pod("10.244.1.7", "web");
    for n in 0..10 {
        for port in (1..50).chain(PORTS) {
            bench.tcp(f64::from(n), (&web, &host(n)), port, Outcome::Refused, 0);
        }
    }
    bench.finish(1000.0);
    assert!(bench.findings.is_empty());
}
