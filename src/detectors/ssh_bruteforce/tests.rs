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
/// Letters of a user's name.
const USER: u32 = 6;
/// What a key, and what any other method takes in a request, besides the name.
const KEY: u32 = 107;
const INTERACTIVE: u32 = 55;

/// A password as OpenSSH pads it: to 64 or 128 bytes with what every packet has.
fn padded(letters: u32) -> u32 {
    (40 + USER + letters + 9).div_ceil(64) * 64 - 9
}

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
    if !login.client.starts_with("paramiko") {
        exchange(31 + USER, 0.001, 0.001, REFUSAL);
    }
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

/// One login after the other by `client`, refused as soon as it is tried, `pause` seconds apart: how many findings.
fn at_once(
    cipher: Cipher,
    client: &str,
    tries: impl Fn(u32) -> Vec<u32>,
    pause: impl Fn(u32) -> f64,
) -> usize {
    let (web, bastion) = ends();
    let mut bench = Bench::new("ssh-bruteforce");
    let mut now = 0.0;
    for n in 0..16 {
        let tries: Vec<_> = tries(n).iter().map(|&asks| (asks, 0.001, 0.01)).collect();
        let login = Login {
            client,
            tries: &tries,
            let_in: false,
            then: &[],
        };
        now = log_in(&mut bench, now + pause(n), (&web, &bastion), cipher, &login);
    }
    bench.finish(1e4);
    bench.findings.len()
}

/// Between half a second and four.
fn irregular(n: u32) -> f64 {
    0.5 + f64::from(n * 7 % 11) / 3.0
}

#[test]
fn a_server_that_refuses_at_once_is_no_hiding_place() {
    for cipher in CIPHERS {
        let one = |n: u32| vec![padded(4 + n % 5)];
        assert!(at_once(cipher, "OpenSSH_9.6", one, irregular) > 0);
        let two = |n: u32| vec![INTERACTIVE + USER, padded(4 + n % 5)];
        assert!(at_once(cipher, "OpenSSH_9.6", two, irregular) > 0);
        // A library goes straight to the password; so does a tool that says it is OpenSSH.
        let plain = |n: u32| vec![40 + USER + 5 + n % 9];
        assert!(at_once(cipher, "paramiko_3.4.0", plain, irregular) > 0);
        let many = |n: u32| (0..5).map(|k| 40 + USER + 3 + (n + k) % 9).collect();
        assert!(at_once(cipher, "paramiko_3.4.0", many, |_| 0.05) > 0);
        // Whom the pace would excuse, the lengths of what it says don't.
        let users = |n: u32| vec![40 + 3 + n * 5 % 27 + 8];
        assert!(at_once(cipher, "paramiko_3.4.0", users, |_| 1.0) > 0);
        assert_eq!(at_once(cipher, "paramiko_3.4.0", |_| vec![54], |_| 1.0), 0);
    }
}

#[test]
fn programs_whose_keys_are_refused_guess_nothing_whenever_they_retry() {
    for cipher in CIPHERS {
        let ed25519 = |_: u32| vec![KEY + USER];
        assert_eq!(at_once(cipher, "OpenSSH_9.6", ed25519, irregular), 0);
        let three = |_: u32| vec![KEY + USER, 460 + USER, 168 + USER];
        assert_eq!(at_once(cipher, "OpenSSH_9.6", three, irregular), 0);
        let none = |_: u32| Vec::new();
        assert_eq!(at_once(cipher, "OpenSSH_9.6", none, irregular), 0);
        assert_eq!(at_once(cipher, "Go", none, irregular), 0);
        let signed = |_: u32| vec![194 + USER];
        assert_eq!(at_once(cipher, "paramiko_3.4.0", signed, irregular), 0);
        // Nobody is there to type: three empty passwords.
        let empty = |_: u32| {
            let mut all = vec![KEY + USER, INTERACTIVE + USER];
            all.extend([padded(0); 3]);
            all
        };
        assert_eq!(at_once(cipher, "OpenSSH_9.6", empty, irregular), 0);
    }
}

/// A login in turns, from the service on: packets of the client's and of the server's, and how long the server thinks.
fn counted(client: &str, turns: &[(&[u32], &[u32], f64)]) -> usize {
    let mut dialogue = Dialogue::new(Timestamp::from_secs_f64(0.0), Client::of(client));
    dialogue.encrypted = true;
    let mut at = 1.0;
    for (asks, answers, thinks) in turns {
        for (direction, sizes, later) in [
            (Direction::Orig, asks, 0.001),
            (Direction::Resp, answers, *thinks),
        ] {
            at += later;
            let time = Timestamp::from_secs_f64(at);
            let sizes: Vec<u32> = sizes.iter().copied().map(chacha).collect();
            dialogue.take(&Turn {
                direction,
                start: time,
                end: time,
                packets: sizes.len() as u32,
                bytes: sizes.iter().copied().map(u64::from).sum(),
                smallest: sizes.iter().copied().min().unwrap_or(0),
                largest: sizes.iter().copied().max().unwrap_or(0),
            });
        }
    }
    dialogue.refused().len()
}

#[test]
fn ways_of_clients_and_servers() {
    const SLOW: f64 = 1.9;
    const FAST: f64 = 0.01;
    const NO: &[u32] = &[56];
    const PROMPT: &[u32] = &[32];
    const SERVICE: (&[u32], &[u32], f64) = (&[17], &[17], FAST);
    const NONE: (&[u32], &[u32], f64) = (&[37], NO, FAST);
    let key: (&[u32], &[u32], f64) = (&[KEY + USER], NO, FAST);
    // A dialogue in which one password is given by a tool that leaves at the second prompt; by nobody, thrice.
    let asked: (&[u32], &[u32], f64) = (&[61], PROMPT, FAST);
    let given: (&[u32], &[u32], f64) = (&[55], NO, SLOW);
    let openssh = "OpenSSH_9.2p1";
    assert_eq!(counted(openssh, &[SERVICE, NONE, asked, given, asked]), 1);
    let thrice = [SERVICE, NONE, key, asked, given, asked, given, asked, given];
    assert_eq!(counted(openssh, &thrice), 0);
    // Packets that say nothing before each request.
    let idle_none: (&[u32], &[u32], f64) = (&[5, 37], NO, FAST);
    let idle_key: (&[u32], &[u32], f64) = (&[5, KEY + USER], NO, FAST);
    let asyncssh = "AsyncSSH_2.24.1";
    assert_eq!(counted(asyncssh, &[SERVICE, idle_none, idle_key]), 0);
    // What may be tried is asked in the same breath as for the service.
    let breath: (&[u32], &[u32], f64) = (&[17, 37], &[17, 56], FAST);
    let empty: (&[u32], &[u32], f64) = (&[46], NO, FAST);
    let dropbear = "dropbear_2022.83";
    assert_eq!(counted(dropbear, &[breath, key]), 0);
    assert_eq!(counted(dropbear, &[breath, key, empty, empty, empty]), 0);
    assert_eq!(counted(dropbear, &[breath, empty]), 1);
}

#[test]
fn who_falls_back_in_the_same_way_each_time_guesses_nothing() {
    let signed = 460 + USER;
    let same = |_: u32| vec![signed, 40 + USER, INTERACTIVE + USER];
    assert_eq!(at_once(ctr, "libssh2_1.10.0", same, irregular), 0);
    let other = |n: u32| vec![signed, 40 + USER + n * 5 % 37, INTERACTIVE + USER];
    assert!(at_once(ctr, "libssh2_1.10.0", other, irregular) > 0);
}
