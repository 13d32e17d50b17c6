//! Channels held open, and honest connections as long.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::event::Endpoint;
use crate::testkit::rng::Rng;

fn stranger() -> Endpoint {
    end("203.0.113.66", IdentityKind::External, None)
}

/// A pod that has been there for ten minutes, and finds others by their names.
fn bench() -> Bench {
    let mut bench = Bench::new("long-connection");
    let (client, dns) = (pod("10.244.1.7", "api"), pod("10.244.1.2", "coredns"));
    let site = end("203.0.113.1", IdentityKind::External, None);
    bench.dns(0.0, (&client, &dns), "www.example.com", 1, Some(site.ip));
    for n in 0..20 {
        let secs = 1.0 + f64::from(n) * 30.0;
        bench.tcp(
            secs,
            (&client, &site),
            443,
            crate::flow::Outcome::Answered,
            500,
        );
    }
    bench
}

struct Talk {
    port: u16,
    app: Option<&'static str>,
    asker: Direction,
    bytes: (u64, u64),
    every: f64,
}

const RAW: Talk = Talk {
    port: 9001,
    app: None,
    asker: Direction::Orig,
    bytes: (60, 40),
    every: 25.0,
};

/// Talks on one connection from 600 s on for `lasts` seconds, at exponential intervals.
fn talk(bench: &mut Bench, server: &Endpoint, lasts: f64, talk: &Talk) {
    let client = pod("10.244.1.7", "api");
    let flow = bench.begin(600.0, (&client, server), Protocol::Tcp, talk.port);
    let mut rng = Rng::new(7);
    let (mut secs, mut number) = (600.1, 0);
    while secs < 600.0 + lasts {
        let at = Timestamp::from_secs_f64;
        let answer = talk.bytes.1 > 0;
        let exchange = Exchange {
            number,
            asker: talk.asker,
            start: at(secs),
            answer: answer.then(|| at(secs + 0.02)),
            end: at(secs + 0.05),
            before: at(secs - 1.0),
            asked: talk.bytes.0 + rng.below(50),
            answered: talk.bytes.1,
        };
        let kind = EventKind::Exchange {
            flow: Arc::clone(&flow),
            exchange,
            app: talk.app,
        };
        bench.event(secs + 0.1, kind);
        number += 1;
        secs += rng.pause(Duration::from_secs_f64(talk.every)).as_secs_f64();
    }
}

#[test]
fn a_channel_held_open_to_a_bare_address_is_found() {
    for asker in [Direction::Orig, Direction::Resp] {
        for (every, lasts) in [(5.0, 700.0), (25.0, 900.0), (600.0, 30_000.0)] {
            let mut bench = bench();
            talk(
                &mut bench,
                &stranger(),
                lasts,
                &Talk {
                    asker,
                    every,
                    ..RAW
                },
            );
            assert!(bench.alerts(), "{asker:?} {every}: {} bits", bench.bits());
        }
    }
}

#[test]
fn tls_to_a_bare_address_counts_and_to_a_name_does_not() {
    let tls = Talk {
        port: 443,
        app: Some("tls"),
        ..RAW
    };
    let mut one = bench();
    talk(&mut one, &stranger(), 900.0, &tls);
    assert!(one.alerts(), "{} bits", one.bits());
    let mut other = bench();
    let (client, dns) = (pod("10.244.1.7", "api"), pod("10.244.1.2", "coredns"));
    other.dns(
        599.0,
        (&client, &dns),
        "push.vendor.example",
        1,
        Some(stranger().ip),
    );
    talk(&mut other, &stranger(), 20_000.0, &tls);
    assert!(other.findings.is_empty());
}

#[test]
fn of_what_was_taken_up_in_the_middle_nobody_knows_what_it_is() {
    for asker in [Direction::Orig, Direction::Resp] {
        let mut bench = bench();
        bench.begun = false;
        talk(&mut bench, &stranger(), 900.0, &Talk { asker, ..RAW });
        assert!(bench.findings.is_empty(), "{asker:?}");
    }
}

#[test]
fn short_ones_deliveries_streams_and_sessions_are_quiet() {
    for (what, lasts, said) in [
        ("short", 400.0, RAW),
        (
            "log",
            20_000.0,
            Talk {
                bytes: (200, 0),
                ..RAW
            },
        ),
        (
            "stream",
            20_000.0,
            Talk {
                bytes: (100, 60_000),
                ..RAW
            },
        ),
        (
            "database",
            20_000.0,
            Talk {
                app: Some("postgresql"),
                ..RAW
            },
        ),
        ("queue", 20_000.0, Talk { port: 5671, ..RAW }),
        (
            "socket",
            20_000.0,
            Talk {
                app: Some("http"),
                ..RAW
            },
        ),
    ] {
        let mut bench = bench();
        talk(&mut bench, &stranger(), lasts, &said);
        assert!(!bench.alerts(), "{what}: {} bits", bench.bits());
    }
}

#[test]
fn where_such_connections_are_usual_one_more_is_quiet() {
    let mut bench = bench();
    let client = pod("10.244.1.7", "api");
    for n in 0..8 {
        let server = end(
            &format!("203.0.113.{}", 20 + n),
            IdentityKind::External,
            None,
        );
        let flow = bench.begin(1.0, (&client, &server), Protocol::Tcp, 9000);
        bench.ends(550.0, &flow);
    }
    talk(&mut bench, &stranger(), 900.0, &RAW);
    assert!(!bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn private_peers_and_those_that_were_there_are_quiet() {
    let mut bench = bench();
    let inside = pod("10.244.1.9", "cache");
    talk(&mut bench, &inside, 20_000.0, &RAW);
    assert!(bench.findings.is_empty());
    let mut fresh = Bench::new("long-connection");
    talk(&mut fresh, &stranger(), 3000.0, &RAW);
    assert!(!fresh.alerts(), "{} bits", fresh.bits());
}

#[test]
fn very_many_connections_stay_within_bounds() {
    let mut bench = bench();
    let client = pod("10.244.1.7", "api");
    for n in 0..20_000_u32 {
        let [_, b, c, d] = n.to_be_bytes();
        let server = end(&format!("8.{b}.{c}.{d}"), IdentityKind::External, None);
        let flow = bench.begin(600.0, (&client, &server), Protocol::Tcp, 9001);
        let exchange = Exchange {
            number: 0,
            asker: Direction::Orig,
            start: flow.start,
            answer: None,
            end: flow.start,
            before: flow.start,
            asked: 10,
            answered: 0,
        };
        let app = None;
        bench.event(
            600.0,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }
    let size = bench.state_size();
    assert!(size.entries == size.limit && bench.findings.is_empty());
}
