//! Implants that ask for orders by DNS, and clocks that ask for something else.

use std::net::IpAddr;
use std::time::Duration;

use super::super::testing::{Bench, end, pod};
use crate::dissect::{DnsAnswer, DnsMessage, Transaction};
use crate::flow::{Outcome, Protocol};
use crate::identity::IdentityKind;
use crate::testkit::rng::Rng;

const A: u16 = 1;
const TXT: u16 = 16;
const NULL: u16 = 10;

/// How a name is answered.
#[derive(Clone)]
struct Reply {
    ip: Option<IpAddr>,
    ttl: u32,
    digest: u64,
    records: u16,
}

fn reply(ip: &str, ttl: u32) -> Reply {
    Reply {
        ip: ip.parse().ok(),
        ttl,
        digest: 7,
        records: 1,
    }
}

/// A bench on which three others, and the client, have resolved and called a site.
fn bench() -> Bench {
    let mut bench = Bench::new("dns-beacon");
    let dns = pod("10.244.1.2", "coredns");
    let site = end("203.0.113.1", IdentityKind::External, None);
    for (n, name) in ["api", "web", "cart", "mail"].into_iter().enumerate() {
        let client = pod(&format!("10.244.1.{}", 7 + n), name);
        bench.dns(0.0, (&client, &dns), "www.example.com", A, Some(site.ip));
        bench.tcp(0.1, (&client, &site), 443, Outcome::Answered, 500);
    }
    bench
}

fn ask(bench: &mut Bench, secs: f64, name: &str, kind: u16, reply: &Reply) {
    let (client, dns) = (pod("10.244.1.7", "api"), pod("10.244.1.2", "coredns"));
    let flow = bench.begin(secs, (&client, &dns), Protocol::Udp, 53);
    let query = DnsMessage {
        name: name.into(),
        query_type: kind,
        ..DnsMessage::default()
    };
    let response = DnsMessage {
        response: true,
        answers: reply.ip.map(DnsAnswer::Address).into_iter().collect(),
        answer_count: reply.records,
        answer_digest: reply.digest,
        ttl: Some(reply.ttl),
        ..query.clone()
    };
    bench.says(secs, &flow, Transaction::Dns(query));
    bench.says(secs + 0.02, &flow, Transaction::Dns(response));
}

/// Asks `times` times, `sleep` seconds apart give or take a share of it; `say` makes name and answer of each.
fn poll(
    bench: &mut Bench,
    times: usize,
    (sleep, jitter): (f64, f64),
    kind: u16,
    mut say: impl FnMut(&mut Rng) -> (String, Reply),
) -> f64 {
    let mut rng = Rng::new(11);
    let mut secs = 600.0;
    for _ in 0..times {
        let (name, reply) = say(&mut rng);
        ask(bench, secs, &name, kind, &reply);
        let spread = rng.below(2001) as f64 / 1000.0 - 1.0;
        secs += sleep * (1.0 + jitter * spread);
    }
    secs
}

fn fresh(rng: &mut Rng) -> (String, Reply) {
    let name = format!("{}.b.evil.example", rng.hex(8));
    (name, reply("0.0.0.0", 1))
}

#[test]
fn beacons_of_any_sleep_and_jitter_are_found_within_a_dozen_or_two() {
    for (jitter, times) in [(0.0, 9), (0.2, 10), (0.5, 13), (0.9, 28)] {
        for sleep in [5.0, 60.0, 3600.0, 14_400.0] {
            for kind in [A, TXT, NULL] {
                let mut bench = bench();
                poll(&mut bench, times, (sleep, jitter), kind, fresh);
                assert!(
                    bench.alerts(),
                    "{jitter} {sleep} {kind}: {} bits",
                    bench.bits()
                );
            }
        }
    }
}

#[test]
fn names_of_any_length_and_words_for_names_are_found() {
    let mut bench = bench();
    let words = ["apple", "pear", "plum", "fig", "cherry", "quince", "lemon"];
    poll(&mut bench, 14, (30.0, 0.2), A, |rng| {
        let name = [(); 3].map(|()| rng.pick(&words)).join("-");
        (
            format!("{name}.cdn.evil.example"),
            reply("198.51.100.4", 60),
        )
    });
    assert!(bench.alerts(), "{}", bench.bits());
}

#[test]
fn an_implants_own_name_is_found() {
    for kind in [A, TXT] {
        let mut bench = bench();
        poll(&mut bench, 13, (60.0, 0.3), kind, |_| {
            ("19997cf2.ns.evil.example".into(), reply("0.0.0.0", 1))
        });
        assert!(bench.alerts(), "{kind}: {}", bench.bits());
    }
}

#[test]
fn a_readable_name_is_found_where_its_answers_change() {
    let mut bench = bench();
    poll(&mut bench, 13, (60.0, 0.3), TXT, |rng| {
        let reply = Reply {
            digest: rng.bits(),
            ..reply("", 0)
        };
        ("news.evil.example".into(), reply)
    });
    assert!(bench.alerts(), "{}", bench.bits());
}

#[test]
fn an_order_and_its_outcome_in_between_hide_nothing() {
    let mut bench = bench();
    let mut secs = 600.0;
    let mut rng = Rng::new(5);
    for n in 0..16 {
        let pieces = if n % 6 == 5 { 40 } else { 1 };
        for _ in 0..pieces {
            let (name, reply) = fresh(&mut rng);
            ask(&mut bench, secs, &name, TXT, &reply);
            secs += 0.2;
        }
        secs += 30.0 * (0.8 + rng.below(400) as f64 / 1000.0);
    }
    assert!(bench.alerts(), "{}", bench.bits());
    assert_eq!(bench.findings.last().unwrap().subject, "evil.example");
}

#[test]
fn honest_clocks_are_quiet() {
    let mut bench = bench();
    let mut quiet = |what: &str, kind, period, say: &mut dyn FnMut(&mut Rng) -> (String, Reply)| {
        poll(&mut bench, 100, (period, 0.02), kind, say);
        assert!(bench.findings.is_empty(), "{what}: {} bits", bench.bits());
    };
    quiet("health check", A, 10.0, &mut |_| {
        ("health.partner.example".into(), reply("203.0.113.11", 5))
    });
    quiet("run out", A, 20.3, &mut |rng| {
        let reply = Reply {
            digest: rng.below(3),
            ..reply("203.0.113.12", 20)
        };
        ("k8s-5f1c09ab-1184.lb.cloud.example".into(), reply)
    });
    quiet("kept by the resolver", A, 60.0, &mut |_| {
        let name = "db.c9akciq32xyz.region.cloud.example";
        (name.into(), reply("203.0.113.13", 30))
    });
    let mut shard = 0;
    quiet("hosts by number", A, 10.0, &mut |_| {
        shard += 1;
        let reply = Reply {
            digest: shard,
            ..reply("203.0.113.14", 60)
        };
        (format!("shard{shard}.content.example"), reply)
    });
    quiet("challenge", TXT, 10.0, &mut |_| {
        let nothing = Reply {
            records: 0,
            ..reply("", 0)
        };
        ("_acme-challenge.shop.example".into(), nothing)
    });
    quiet("version", TXT, 60.0, &mut |rng| {
        let reply = Reply {
            digest: u64::from(rng.chance(10)),
            ..reply("", 5)
        };
        ("current.scanner.example".into(), reply)
    });
    quiet("search list", A, 10.0, &mut |rng| {
        let nothing = Reply {
            records: 0,
            ..reply("", 0)
        };
        (format!("www.{}.com.corp.example", rng.hex(9)), nothing)
    });
    quiet("cluster", A, 10.0, &mut |rng| {
        let name = format!("{}.prod.svc.cluster.local", rng.hex(12));
        (name, reply("10.96.0.7", 5))
    });
    quiet("block list", A, 10.0, &mut |rng| {
        let name = format!("{}.{}.113.203.list.example", rng.below(250), rng.below(250));
        (name, reply("127.0.0.2", 60))
    });
    quiet("list of hashes", A, 10.0, &mut |rng| {
        (
            format!("{}.hash.example", rng.hex(32)),
            reply("127.0.0.4", 60),
        )
    });
}

#[test]
fn names_that_lead_somewhere_are_quiet() {
    let mut bench = bench();
    let client = pod("10.244.1.7", "api");
    let server = end("203.0.113.9", IdentityKind::External, None);
    let mut rng = Rng::new(3);
    for n in 0..100 {
        let secs = 600.0 + f64::from(n) * 30.0;
        let name = format!("{}.ingest.metrics.example", rng.hex(16));
        ask(&mut bench, secs, &name, A, &reply("203.0.113.9", 60));
        if n % 40 == 3 {
            bench.tcp(secs + 0.1, (&client, &server), 443, Outcome::Answered, 500);
        }
    }
    assert!(bench.findings.is_empty(), "{} bits", bench.bits());
}

#[test]
fn names_by_chance_are_seldom_taken_for_a_clock() {
    // Five hours of them, each.
    let taken = (0..100)
        .filter(|seed| {
            let mut bench = bench();
            let mut rng = Rng::new(*seed);
            let mut secs = 600.0;
            for _ in 0..300 {
                let (name, reply) = fresh(&mut rng);
                ask(&mut bench, secs, &name, A, &reply);
                secs += rng.pause(Duration::from_mins(1)).as_secs_f64();
            }
            bench.alerts()
        })
        .count();
    assert!(taken <= 5, "{taken} of 100");
}

#[test]
fn what_everybody_asks_for_is_quiet() {
    let mut bench = bench();
    let dns = pod("10.244.1.2", "coredns");
    for (n, name) in ["web", "cart", "mail"].into_iter().enumerate() {
        let client = pod(&format!("10.244.1.{}", 8 + n), name);
        bench.dns(1.0, (&client, &dns), "x.b.evil.example", A, None);
    }
    poll(&mut bench, 40, (60.0, 0.5), A, fresh);
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn a_forwarded_query_counts_for_who_asked() {
    let mut bench = bench();
    let (client, dns) = (pod("10.244.1.7", "api"), pod("10.244.1.2", "coredns"));
    let upstream = end("203.0.113.53", IdentityKind::External, None);
    let mut rng = Rng::new(5);
    for n in 0..20 {
        let (secs, (name, _)) = (600.0 + f64::from(n) * 30.0, fresh(&mut rng));
        bench.dns(secs, (&client, &dns), &name, TXT, None);
        bench.dns(secs + 0.01, (&dns, &upstream), &name, TXT, None);
    }
    let found = bench.finish(9999.0);
    assert!(!found.is_empty() && found.iter().all(|found| found.actor.ip == client.ip));
}

#[test]
fn a_domain_that_the_baseline_knows_is_quiet() {
    let mut bench = bench();
    poll(&mut bench, 60, (60.0, 0.1), A, fresh);
    assert!(bench.alerts());
    let mut bench = bench.learned("dns-beacon");
    poll(&mut bench, 60, (60.0, 0.1), A, fresh);
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn very_many_domains_stay_within_bounds() {
    let mut bench = bench();
    for n in 0..20_000 {
        let secs = 600.0 + f64::from(n) * 0.05;
        let name = format!("a.d{n}.example");
        ask(&mut bench, secs, &name, A, &reply("0.0.0.0", 1));
    }
    let size = bench.state_size();
    assert!(size.entries == size.limit && bench.findings.is_empty());
}
