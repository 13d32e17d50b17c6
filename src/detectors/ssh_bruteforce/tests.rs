//! Logins by SSH as ciphers of several kinds show them.

use super::super::testing::{Bench, pod};
use super::*;
use crate::event::Endpoint;
use crate::flow::Protocol;
use crate::testkit::rng::Rng;

/// Bytes of a packet of `payload` bytes: padded to whole blocks, plus what isn't part of them.
type Cipher = fn(u32) -> u32;

fn chacha(payload: u32) -> u32 {
    (1 + payload + 4).div_ceil(8) * 8 + 4 + 16
}

fn gcm(payload: u32) -> u32 {
    (1 + payload + 4).div_ceil(16) * 16 + 4 + 16
}

fn ctr(payload: u32) -> u32 {
    (5 + payload + 4).div_ceil(16) * 16 + 32
}

const CIPHERS: [Cipher; 3] = [chacha, gcm, ctr];

/// Client's and server's messages of a login before anything is tried, and what a refusal takes.
const SERVICE: (u32, u32) = (17, 17);
const REFUSAL: u32 = 24;

struct Login<'a> {
    client: &'a str,
    /// What the client tries, how long it takes to think of it and the server to refuse it, in seconds.
    tries: &'a [(u32, f64, f64)],
    let_in: bool,
    /// Bytes each way in the session that follows.
    then: &'a [(u32, u32)],
}

fn log_in(
    bench: &mut Bench,
    start: f64,
    ends: (&Endpoint, &Endpoint),
    cipher: Cipher,
    login: &Login<'_>,
) -> f64 {
    let flow = bench.open(start, ends, Protocol::Tcp, 22);
    let name = Transaction::Ssh(SshMessage::Client(login.client.into()));
    bench.says(start, &flow, name);
    let mut at = start + 0.03;
    bench.says(at, &flow, Transaction::Ssh(SshMessage::Encrypted));
    let mut exchange = |asks: u32, think: f64, takes: f64, answers: u32| {
        at += think;
        for (direction, bytes, later) in [
            (Direction::Orig, asks, 0.0),
            (Direction::Resp, answers, takes),
        ] {
            at += later;
            let time = Timestamp::from_secs_f64(at);
            let bytes = cipher(bytes);
            let turn = Turn {
                direction,
                start: time,
                end: time,
                packets: 1,
                bytes: bytes.into(),
                smallest: bytes,
                largest: bytes,
            };
            let flow = Arc::clone(&flow);
            bench.event(at, EventKind::Turn { flow, turn });
        }
    };
    exchange(SERVICE.0, 0.01, 0.001, SERVICE.1);
    exchange(45, 0.001, 0.001, REFUSAL);
    for (number, &(asks, think, takes)) in (1..).zip(login.tries) {
        let right = login.let_in && number == login.tries.len();
        exchange(asks, think, takes, if right { 1 } else { REFUSAL });
    }
    for &(asks, answers) in login.then {
        exchange(asks, 0.01, 0.01, answers);
    }
    bench.ends(at + 0.01, &flow);
    at + 0.01
}

fn ends() -> (Endpoint, Endpoint) {
    (pod("10.244.1.7", "web"), pod("10.244.1.9", "bastion"))
}

#[test]
fn connection_after_connection() {
    for cipher in CIPHERS {
        let (web, bastion) = ends();
        let mut bench = Bench::new("ssh-bruteforce");
        let mut now = 0.0;
        for n in 0..12 {
            let login = Login {
                client: "libssh_0.10.6",
                tries: &[(40 + n % 3 * 8, 0.001, 1.8 + f64::from(n % 5) * 0.1)],
                let_in: false,
                then: &[],
            };
            now = log_in(&mut bench, now + 0.05, (&web, &bastion), cipher, &login);
        }
        assert!(bench.alerts(), "{} bits", bench.bits());
        // And one that is right.
        let right = Login {
            client: "libssh_0.10.6",
            tries: &[(48, 0.001, 0.02)],
            let_in: true,
            then: &[],
        };
        log_in(&mut bench, now + 0.05, (&web, &bastion), cipher, &right);
        let last = bench.findings.last().unwrap();
        assert!(last.summary.contains("then was let in"), "{}", last.summary);
    }
}

#[test]
fn many_tries_in_few_connections_and_few_tries_in_many_hours() {
    let (web, bastion) = ends();
    let mut bench = Bench::new("ssh-bruteforce");
    let mut rng = Rng::new(2);
    let mut now = 0.0;
    for _ in 0..4 {
        let tries: Vec<_> = (0..3)
            .map(|_| (130, 0.4 + rng.below(900) as f64 / 1e3, 2.1))
            .collect();
        let login = Login {
            client: "OpenSSH_9.6",
            tries: &tries,
            let_in: false,
            then: &[],
        };
        now = log_in(&mut bench, now + 0.8, (&web, &bastion), chacha, &login);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    let mut bench = Bench::new("ssh-bruteforce");
    for _ in 0..14 {
        now += 2000.0 + rng.below(3000) as f64;
        let login = Login {
            client: "OpenSSH_9.6",
            tries: &[(130, 0.001, 2.0)],
            let_in: false,
            then: &[],
        };
        log_in(&mut bench, now, (&web, &bastion), gcm, &login);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn people_and_programs_that_get_in_are_left_alone() {
    for cipher in CIPHERS {
        let (web, bastion) = ends();
        let mut bench = Bench::new("ssh-bruteforce");
        let mut now = 0.0;
        for n in 0..200 {
            // Ansible: two keys, the second is right (first asked about, then shown), a command.
            let login = Login {
                client: "OpenSSH_9.6",
                tries: &[(110, 0.001, 0.004), (110, 0.001, 0.004), (197, 0.002, 0.01)],
                let_in: true,
                then: &[(28, 17), (120, 400), (5, 60)],
            };
            now = log_in(&mut bench, now + 0.2, (&web, &bastion), cipher, &login);
            if n % 7 == 0 {
                // Somebody mistypes twice.
                let login = Login {
                    client: "OpenSSH_9.6",
                    tries: &[(130, 2.0, 2.0), (130, 3.0, 2.0), (130, 4.0, 0.03)],
                    let_in: true,
                    then: &[(28, 17), (340, 900)],
                };
                now = log_in(&mut bench, now + 30.0, (&web, &bastion), cipher, &login);
            }
        }
        // A mirror whose key was withdrawn, once a minute.
        let mirror = pod("10.244.1.30", "mirror");
        for n in 0..300 {
            let login = Login {
                client: "OpenSSH_9.6",
                tries: &[(110, 0.001, 0.004)],
                let_in: false,
                then: &[],
            };
            let at = 20_000.0 + f64::from(n) * 60.0;
            log_in(&mut bench, at, (&mirror, &bastion), cipher, &login);
        }
        bench.finish(1e5);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
