//! Pools by protocol, name and shape, and what only looks like one.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::dissect::TlsClientHello;
use crate::identity::IdentityKind;

const POOL: &str = "203.0.113.50";

fn open(bench: &mut Bench, secs: f64, port: u16) -> Arc<FlowInfo> {
    let ends = (
        &pod("10.244.1.7", "api"),
        &end(POOL, IdentityKind::External, None),
    );
    let flow = bench.open(secs, ends, Protocol::Tcp, port);
    bench.event(secs, EventKind::FlowOpened(Arc::clone(&flow)));
    flow
}

fn say(bench: &mut Bench, secs: f64, flow: &Arc<FlowInfo>, transaction: Transaction) {
    let flow = Arc::clone(flow);
    bench.event(secs, EventKind::Transaction { flow, transaction });
}

fn hello(bench: &mut Bench, secs: f64, flow: &Arc<FlowInfo>, sni: &str) {
    let hello = TlsClientHello {
        sni: Some(sni.into()),
        ..TlsClientHello::default()
    };
    say(bench, secs, flow, Transaction::TlsClient(hello));
}

fn turn(bench: &mut Bench, secs: f64, flow: &Arc<FlowInfo>, direction: Direction, bytes: u64) {
    let at = Timestamp::from_secs_f64(secs);
    let turn = Turn {
        direction,
        start: at,
        end: at,
        packets: 1,
        bytes,
        smallest: bytes as u32,
        largest: bytes as u32,
    };
    let flow = Arc::clone(flow);
    bench.event(secs, EventKind::Turn { flow, turn });
}

/// A handshake, then `jobs` of them in uneven time, some answered by a result.
fn mine_in_tls(bench: &mut Bench, flow: &Arc<FlowInfo>, jobs: u32, job: u64) -> f64 {
    let mut secs = 1.0;
    for (direction, bytes) in [
        (Direction::Orig, 517),
        (Direction::Resp, 3200),
        (Direction::Orig, 480),
        (Direction::Resp, 620),
    ] {
        turn(bench, secs, flow, direction, bytes);
        secs += 0.03;
    }
    for n in 0..jobs {
        secs += 17.0 + f64::from(n * 31 % 40);
        turn(bench, secs, flow, Direction::Resp, job);
        if n % 2 == 0 {
            secs += 9.0;
            turn(bench, secs, flow, Direction::Orig, 260);
            turn(bench, secs + 0.05, flow, Direction::Resp, 90);
        }
    }
    secs
}

#[test]
fn stratum_in_clear_is_found_at_its_first_message() {
    let mut bench = Bench::new("miner");
    let flow = open(&mut bench, 0.0, 443);
    let agent = Some("XMRig/6.21.0".into());
    say(
        &mut bench,
        0.1,
        &flow,
        Transaction::Stratum(StratumMessage::Login { agent }),
    );
    assert!(bench.alerts());
    for n in 0..20 {
        let secs = 1.0 + f64::from(n) * 30.0;
        say(
            &mut bench,
            secs,
            &flow,
            Transaction::Stratum(StratumMessage::Job),
        );
        say(
            &mut bench,
            secs + 9.0,
            &flow,
            Transaction::Stratum(StratumMessage::Submit),
        );
        let taken = StratumMessage::SubmitResult { accepted: true };
        say(&mut bench, secs + 9.1, &flow, Transaction::Stratum(taken));
    }
    let last = bench.finish(700.0).last().unwrap();
    assert_eq!(
        last.summary,
        "mines cryptocurrency for the pool at 203.0.113.50: 20 jobs, 20 results handed in, 20 of them taken"
    );
    assert!(
        bench.findings.len() < 10,
        "told again only when it has doubled"
    );
}

#[test]
fn inside_tls_by_name_and_shape() {
    for sni in [
        "xmr-eu1.nanopool.org",
        "stratum.example.net",
        "eth-pool.example.com.monero.example",
    ] {
        let mut bench = Bench::new("miner");
        let flow = open(&mut bench, 0.0, 443);
        hello(&mut bench, 0.5, &flow, sni);
        assert!(!bench.alerts(), "{sni}: a name alone is no mining");
        let secs = mine_in_tls(&mut bench, &flow, 8, 420);
        assert!(bench.alerts(), "{sni}");
        bench.finish(secs);
    }
}

#[test]
fn a_name_from_dns_serves_where_the_hello_has_none() {
    let mut bench = Bench::new("miner");
    let (client, dns) = (pod("10.244.1.7", "api"), pod("10.244.1.2", "coredns"));
    let answer = Some(POOL.parse().unwrap());
    bench.dns(0.0, (&client, &dns), "gulf.moneroocean.stream", 1, answer);
    let flow = open(&mut bench, 0.1, 20128);
    mine_in_tls(&mut bench, &flow, 8, 420);
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].subject, "moneroocean.stream");
}

#[test]
fn sites_of_pools_and_push_services_are_quiet() {
    let mut bench = Bench::new("miner");
    // A pool's web site is read: questions and long answers.
    let flow = open(&mut bench, 0.0, 443);
    hello(&mut bench, 0.1, &flow, "www.nanopool.org");
    for n in 0..60 {
        let secs = f64::from(n) * 5.0;
        turn(&mut bench, secs, &flow, Direction::Orig, 600);
        turn(&mut bench, secs + 0.2, &flow, Direction::Resp, 30_000);
    }
    // A dashboard's socket, with numbers that come unasked and are long.
    let flow = open(&mut bench, 400.0, 443);
    hello(&mut bench, 400.1, &flow, "dashboard.nanopool.org");
    mine_in_tls(&mut bench, &flow, 30, 9000);
    // Push messages from elsewhere; time servers of a pool.
    for name in [
        "mtalk.push.example",
        "2.pool.ntp.org",
        "examiner.example",
        "threadpool.example",
    ] {
        let flow = open(&mut bench, 900.0, 5228);
        hello(&mut bench, 900.1, &flow, name);
        mine_in_tls(&mut bench, &flow, 30, 420);
    }
    assert!(bench.finish(5000.0).is_empty());
}

#[test]
fn many_names_and_flows_stay_within_bounds() {
    let mut bench = Bench::new("miner");
    for n in 0..30_000_u32 {
        let secs = f64::from(n) * 0.01;
        let ip = std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string();
        let ends = (
            &pod("10.244.1.7", "api"),
            &end(&ip, IdentityKind::External, None),
        );
        let flow = bench.open(secs, ends, Protocol::Tcp, 443);
        bench.event(secs, EventKind::FlowOpened(Arc::clone(&flow)));
        hello(&mut bench, secs, &flow, "xmr.nanopool.org");
    }
    let flow = open(&mut bench, 400.0, 443);
    hello(&mut bench, 400.1, &flow, "xmr.nanopool.org");
    mine_in_tls(&mut bench, &flow, 8, 420);
    assert!(bench.alerts());
}
