//! Who logs in where, and how it looks.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::flow::{Outcome, Protocol};

/// A login, and `keys` pressed after it.
fn ssh(bench: &mut Bench, start: f64, from: &Endpoint, to: &Endpoint, let_in: bool, keys: u32) {
    session(bench, start, (from, to), let_in, &vec![36; keys as usize]);
}

/// A login, and requests of these sizes after it.
fn session(
    bench: &mut Bench,
    start: f64,
    (from, to): (&Endpoint, &Endpoint),
    let_in: bool,
    requests: &[u64],
) {
    let flow = bench.begin(start, (from, to), Protocol::Tcp, 22);
    bench.says(start, &flow, Transaction::Ssh(SshMessage::Encrypted));
    let mut at = start;
    let last = if let_in { 28 } else { 52 };
    for (asked, answered) in [(44, 44), (68, 52), (148, last)] {
        for (direction, bytes) in [(Direction::Orig, asked), (Direction::Resp, answered)] {
            at += 0.005;
            let time = Timestamp::from_secs_f64(at);
            let turn = Turn {
                direction,
                start: time,
                end: time,
                packets: 1,
                bytes: u64::from(bytes),
                smallest: bytes,
                largest: bytes,
            };
            let flow = Arc::clone(&flow);
            bench.event(at, EventKind::Turn { flow, turn });
        }
    }
    for (number, &asked) in (3..).zip(requests) {
        let before = Timestamp::from_secs_f64(at);
        at += 0.2;
        let time = Timestamp::from_secs_f64(at);
        let exchange = Exchange {
            number,
            asker: Direction::Orig,
            start: time,
            answer: Some(time),
            end: time,
            before,
            asked,
            answered: 36,
        };
        let (flow, app) = (Arc::clone(&flow), Some("ssh"));
        bench.event(
            at,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }
    bench.ends(at, &flow);
}

fn web() -> Endpoint {
    pod("10.244.1.7", "web")
}

fn host(n: u8) -> Endpoint {
    pod(&format!("10.244.1.{}", n + 20), &format!("app{n}"))
}

/// A pod that was seen before, at its work.
fn at_work() -> Bench {
    let mut bench = Bench::new("lateral-login");
    for n in 0..20_u8 {
        let db = pod("10.244.1.3", "db");
        bench.tcp(f64::from(n), (&web(), &db), 5432, Outcome::Answered, 500);
    }
    bench
}

#[test]
fn from_pod_to_pod_without_a_baseline_fast_and_slow() {
    for gap in [3.0, 3600.0] {
        let mut bench = at_work();
        for n in 0..3_u8 {
            ssh(
                &mut bench,
                100.0 + f64::from(n) * gap,
                &web(),
                &host(n),
                true,
                0,
            );
            assert_eq!(bench.alerts(), n > 0, "{n}: {} bits", bench.bits());
        }
    }
}

#[test]
fn one_login_at_which_somebody_types() {
    for target in [host(1), end("172.18.0.2", IdentityKind::Node, None)] {
        let mut bench = at_work();
        ssh(&mut bench, 100.0, &web(), &target, true, 20);
        bench.finish(1e4);
        assert!(bench.alerts(), "{} bits", bench.bits());
    }
}

#[test]
fn programs_that_log_in_and_who_is_not_let_in_are_left_alone() {
    // Copies to a drop box, from an hour after its start on; guesses; to a server outside; to a sibling.
    let mut bench = at_work();
    for n in 0..30_u8 {
        let at = 3600.0 * f64::from(n + 1);
        ssh(&mut bench, at, &web(), &host(1), true, 0);
    }
    let outside = end("203.0.113.22", IdentityKind::External, None);
    for n in 0..9 {
        ssh(&mut bench, 2e5, &web(), &host(n), false, 0);
        ssh(&mut bench, 2e5, &web(), &outside, true, 30);
        ssh(&mut bench, 2e5, &outside, &host(n), true, 30);
        ssh(&mut bench, 2e5, &web(), &pod("10.244.1.8", "web"), true, 30);
    }
    bench.finish(3e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn a_tool_that_looks_after_machines_is_left_alone() {
    let mut bench = at_work();
    for n in 0..100_u8 {
        let machine = end(&format!("10.7.0.{n}"), IdentityKind::Unknown, None);
        ssh(&mut bench, 100.0 + f64::from(n), &web(), &machine, true, 0);
    }
    // And what launches a job is started to do so.
    let launcher = pod("10.244.1.60", "launcher");
    for n in 0..3 {
        ssh(&mut bench, 400.0, &launcher, &host(n), true, 0);
    }
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn a_tool_that_keeps_its_connections_types_nothing() {
    // Ansible's: channel after channel in one connection, each opened in few bytes and put to use in more.
    let channels = [60, 36, 460, 60, 300].repeat(30);
    // Somebody who pastes now and then.
    let hands = [36; 14]
        .into_iter()
        .chain([600])
        .chain([36; 20])
        .collect::<Vec<_>>();
    for (requests, typed) in [(channels, false), (hands, true)] {
        let mut bench = Bench::new("lateral-login");
        let tool = pod("10.244.1.60", "tool");
        for n in 0..8 {
            session(&mut bench, 1.0, (&tool, &host(n)), true, &requests);
        }
        bench.finish(1e4);
        assert_eq!(bench.alerts(), typed, "{} bits", bench.bits());
    }
}

/// A client of a database, and a tool that always logs in to the same two hosts.
fn learned() -> Bench {
    let mut bench = Bench::new("lateral-login");
    let (tool, db) = (pod("10.244.1.8", "tool"), pod("10.244.1.9", "db"));
    for n in 0..400_u16 {
        let at = f64::from(n) * 15.0;
        bench.tcp(at, (&web(), &db), 5432, Outcome::Answered, 500);
        let to = host((n % 2) as u8);
        bench.tcp(at, (&tool, &to), 22, Outcome::Answered, 500);
    }
    bench.learned("lateral-login")
}

#[test]
fn one_login_that_the_baseline_lacks() {
    let mut bench = learned();
    ssh(&mut bench, 7000.0, &web(), &host(3), true, 0);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let mut bench = learned();
    let flow = bench.begin(7000.0, (&web(), &host(3)), Protocol::Tcp, 5901);
    bench.event(7000.1, EventKind::Recognised { flow, app: "rfb" });
    assert!(bench.alerts(), "a desktop: {} bits", bench.bits());
}

#[test]
fn known_logins_are_left_alone_whichever_pod_makes_them() {
    let mut bench = learned();
    for n in 0..2 {
        let tool = pod("10.244.1.88", "tool");
        ssh(&mut bench, 7000.0, &tool, &host(n), true, 40);
    }
    bench.finish(8000.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}
