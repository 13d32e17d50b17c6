//! Guessing, fast and slow, narrow and broad; and what honest clients do.

use std::sync::Arc;

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::event::Endpoint;
use crate::identity::IdentityKind;
use crate::testkit::rng::Rng;

const DENIED: &str = "28P01";

/// A login of `user` that takes `took` seconds to be decided, by an application or tool that names `database`.
fn login(
    bench: &mut Bench,
    (at, took): (f64, f64),
    ends: (&Endpoint, &Endpoint),
    (user, database): (&str, &str),
    code: Option<&str>,
) {
    let flow = bench.open(at, ends, crate::flow::Protocol::Tcp, 5432);
    start(bench, at, &flow, user, database);
    decide(bench, at + took, &flow, code);
}

fn start(bench: &mut Bench, at: f64, flow: &Arc<FlowInfo>, user: &str, database: &str) {
    let event = DatabaseEvent::Login {
        user: Some(user.into()),
        database: Some(database.into()),
        client: None,
    };
    say(bench, at, flow, event);
}

fn decide(bench: &mut Bench, at: f64, flow: &Arc<FlowInfo>, code: Option<&str>) {
    let event = DatabaseEvent::LoginResult {
        success: code.is_none(),
        code: code.map(Into::into),
    };
    say(bench, at, flow, event);
}

fn say(bench: &mut Bench, at: f64, flow: &Arc<FlowInfo>, event: DatabaseEvent) {
    let product = "postgresql";
    bench.says(
        at,
        flow,
        Transaction::Database(DatabaseMessage { product, event }),
    );
}

fn db() -> Endpoint {
    pod("10.244.1.3", "db")
}

fn web() -> Endpoint {
    pod("10.244.1.7", "web")
}

/// How many tries in, and after how many seconds, there is an alert.
fn detected(mut attempt: impl FnMut(&mut Bench, u32) -> f64, most: u32) -> Option<(u32, f64)> {
    let mut bench = Bench::new("db-bruteforce");
    (1..=most).find_map(|n| {
        let at = attempt(&mut bench, n);
        bench.alerts().then_some((n, at))
    })
}

#[test]
fn one_after_the_other() {
    let found = detected(
        |bench, n| {
            let at = f64::from(n) * 0.2;
            login(
                bench,
                (at, 0.15),
                (&web(), &db()),
                ("app", "shop"),
                Some(DENIED),
            );
            at
        },
        50,
    );
    let (tries, secs) = found.unwrap();
    println!("sequential: {tries} tries, {secs:.1} s");
    assert!(tries <= 10);
}

#[test]
fn four_at_a_time() {
    for took in [0.05, 0.4, 3.0] {
        let mut bench = Bench::new("db-bruteforce");
        let mut found = None;
        for round in 0..60_u32 {
            let at = f64::from(round) * (took + 0.02);
            let lanes: Vec<_> = (0..4)
                .map(|lane| {
                    let begins = at + f64::from(lane) * 0.003;
                    let flow =
                        bench.open(begins, (&web(), &db()), crate::flow::Protocol::Tcp, 5432);
                    start(&mut bench, begins, &flow, "postgres", "postgres");
                    (begins, flow)
                })
                .collect();
            for (begins, flow) in lanes {
                decide(&mut bench, begins + took, &flow, Some(DENIED));
                if found.is_none() && bench.alerts() {
                    found = Some(begins + took);
                }
            }
        }
        let secs = found.unwrap();
        println!("four at a time, {took} s each: {secs:.1} s");
        assert!(secs <= 30.0);
    }
}

#[test]
fn one_every_six_to_nine_seconds() {
    let mut late = 0;
    let mut most = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut at = 0.0;
        let found = detected(
            |bench, _| {
                at += 6.0 + rng.below(3000) as f64 / 1e3;
                login(
                    bench,
                    (at, 0.02),
                    (&web(), &db()),
                    ("backup", "shop"),
                    Some(DENIED),
                );
                at
            },
            15,
        );
        late += u32::from(found.is_none());
        most = most.max(found.map_or(0, |(tries, _)| tries));
    }
    println!("slow: at most {most} tries; {late} of 200 not within 15");
    assert!(late <= 6);
}

#[test]
fn spraying_over_users_and_over_servers() {
    let users = [
        "app", "admin", "backup", "web", "root", "test", "guest", "bob",
    ];
    let found = detected(
        |bench, n| {
            let at = f64::from(n) * 60.0;
            let user = users[(n as usize - 1) % users.len()];
            login(
                bench,
                (at, 0.02),
                (&web(), &db()),
                (user, "shop"),
                Some(DENIED),
            );
            at
        },
        8,
    );
    println!("users: {found:?}");
    assert!(found.is_some());

    let mut bench = Bench::new("db-bruteforce");
    for n in 0..20 {
        let at = f64::from(n) * 0.01;
        let server = pod(&format!("10.244.1.{}", 50 + n), "db");
        login(
            &mut bench,
            (at, 0.3),
            (&web(), &server),
            ("postgres", "postgres"),
            Some(DENIED),
        );
    }
    bench.finish(100.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert_eq!(bench.findings.last().unwrap().target_count, 20);
}

#[test]
fn a_crowd_of_which_nobody_stands_out() {
    let mut bench = Bench::new("db-bruteforce");
    for n in 0..24 {
        let source = end(
            &format!("203.0.113.{}", n % 12 + 1),
            IdentityKind::External,
            None,
        );
        let at = f64::from(n) * 30.0;
        login(
            &mut bench,
            (at, 0.1),
            (&source, &db()),
            ("postgres", "postgres"),
            Some(DENIED),
        );
    }
    bench.finish(2000.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert!(
        bench
            .findings
            .iter()
            .all(|finding| !finding.subject.is_empty())
    );
}

/// Pods that are refused at accounts (server and user each), one after the other; `again` if they try each again later.
fn spread(pods: usize, accounts: &[(usize, &str)], again: bool) -> Bench {
    let mut bench = Bench::new("db-bruteforce");
    for n in 0..pods {
        let source = pod(&format!("10.244.1.{}", 50 + n), &format!("app{n}"));
        for (k, (server, user)) in accounts.iter().enumerate() {
            // Each pod at servers of its own.
            let server = server + n * 7;
            let server = pod(&format!("10.244.2.{server}"), &format!("db{server}"));
            let at = n as f64 * 11.0 + k as f64 * 7.3;
            for round in 0..=usize::from(again) {
                let at = (at + round as f64 * 9.0, 0.1);
                let ends = (&source, &server);
                login(&mut bench, at, ends, (user, "shop"), Some(DENIED));
            }
        }
    }
    bench.finish(pods as f64 * 11.0 + 200.0);
    bench
}

#[test]
fn guesses_spread_so_that_neither_a_source_nor_a_server_stands_out() {
    let bench = spread(5, &[(1, "app"), (2, "app")], false);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let told = &bench.findings[0];
    assert_eq!(told.subject, "many to postgresql");
    assert_eq!(told.target_count, 10);
    assert!(spread(3, &[(1, "app"), (2, "app"), (3, "app")], false).alerts());
    assert!(spread(4, &[(1, "app"), (1, "root")], false).alerts());
}

#[test]
fn many_programs_with_stale_secrets_are_no_campaign() {
    // Everybody's secrets were changed at once: each program tries its own again.
    let bench = spread(8, &[(1, "app"), (2, "app")], true);
    assert!(!bench.alerts(), "{} bits", bench.bits());
    // Jobs that are refused once and give up, each at the one account that it has.
    let bench = spread(8, &[(1, "app")], false);
    assert!(!bench.alerts(), "{} bits", bench.bits());
    // Two that have two.
    let bench = spread(2, &[(1, "app"), (2, "app")], false);
    assert!(!bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn let_in_at_last() {
    let mut bench = Bench::new("db-bruteforce");
    for n in 0..12 {
        let at = f64::from(n) * 7.0 + f64::from(n % 3);
        login(
            &mut bench,
            (at, 0.1),
            (&web(), &db()),
            ("root", "shop"),
            Some(DENIED),
        );
    }
    login(
        &mut bench,
        (90.0, 0.1),
        (&web(), &db()),
        ("root", "shop"),
        None,
    );
    let last = bench.findings.last().unwrap();
    let broke_in = |one: &super::super::Evidence| one.feature == "login.success_after_refusals";
    assert!(last.evidence.iter().any(broke_in), "{last:?}");
    assert!(last.summary.contains("let in as root"), "{}", last.summary);
}

#[test]
fn mishaps_are_left_alone() {
    let mut bench = Bench::new("db-bruteforce");
    let (person, app) = (pod("10.244.1.20", "bastion"), pod("10.244.1.21", "api"));
    // Mistyped four times, right the fifth.
    for (n, pause) in [0.0, 3.0, 7.5, 9.0].into_iter().enumerate() {
        let at = 10.0 + n as f64 * 4.0 + pause;
        login(
            &mut bench,
            (at, 0.1),
            (&person, &db()),
            ("alice", "shop"),
            Some(DENIED),
        );
    }
    login(
        &mut bench,
        (60.0, 0.1),
        (&person, &db()),
        ("alice", "shop"),
        None,
    );
    // A secret that was changed under an application: it worked, and then for an hour it doesn't, at every request.
    login(
        &mut bench,
        (61.0, 0.1),
        (&app, &db()),
        ("api", "shop"),
        None,
    );
    let mut rng = Rng::new(5);
    let mut at = 100.0;
    for _ in 0..2000 {
        at += rng.below(2000) as f64 / 1e3;
        login(
            &mut bench,
            (at, 0.05),
            (&app, &db()),
            ("api", "shop"),
            Some(DENIED),
        );
    }
    // A server that is full, or starting up.
    for n in 0..200 {
        let at = 3000.0 + f64::from(n) * 0.3;
        let code = Some(if n % 2 == 0 { "53300" } else { "57P03" });
        login(
            &mut bench,
            (at, 0.05),
            (&person, &db()),
            ("bob", "shop"),
            code,
        );
    }
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn programs_with_a_stale_secret_are_left_alone() {
    let pauses: [&dyn Fn(u32) -> f64; 3] = [
        &|n| 5.0 + f64::from(n % 5) * 0.03,
        &|n| (10.0 * f64::from(1 << n.min(5))).min(300.0),
        &|n| {
            if n % 3 == 2 {
                (10.0 * f64::from(1 << (n / 3).min(5))).min(300.0)
            } else {
                2.0
            }
        },
    ];
    for (case, pause) in pauses.iter().enumerate() {
        let mut bench = Bench::new("db-bruteforce");
        // Three replicas, each its own pod; one of them with a pool of ten.
        for (replica, pool) in [(1, 1), (2, 1), (3, 10)] {
            let app = pod(&format!("10.244.1.{}", 60 + replica), "api");
            let mut at = f64::from(replica);
            for n in 0..200 {
                at += pause(n);
                let flows: Vec<_> = (0..pool)
                    .map(|_| {
                        let ends = (&app, &db());
                        let flow = bench.open(at, ends, crate::flow::Protocol::Tcp, 5432);
                        start(&mut bench, at, &flow, "api", "shop");
                        flow
                    })
                    .collect();
                at += 0.04;
                for flow in flows {
                    decide(&mut bench, at, &flow, Some(DENIED));
                }
            }
        }
        bench.finish(1e5);
        assert!(
            bench.findings.is_empty(),
            "case {case}: {:?}",
            bench.findings
        );
    }
}

/// `user` is refused at each of `servers` over and over; `pauses` tells how long after `n` tries at server `at` the next one
/// follows.
fn rounds(servers: u32, user: &str, pauses: &dyn Fn(&mut Rng, u32, u32) -> f64) -> Bench {
    let mut bench = Bench::new("db-bruteforce");
    let mut rng = Rng::new(3);
    let mut tries = Vec::new();
    for at in 0..servers {
        let mut time = 1.0 + f64::from(at) * 0.03;
        for n in 0..40 {
            tries.push((time, at));
            time += 0.02 + pauses(&mut rng, at, n);
        }
    }
    tries.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (time, at) in tries {
        let server = pod(&format!("10.244.1.{}", 50 + at), &format!("db{at}"));
        let ends = (&web(), &server);
        login(&mut bench, (time, 0.02), ends, (user, "shop"), Some(DENIED));
    }
    bench.finish(1e5);
    bench
}

#[test]
fn one_stale_secret_for_a_few_servers_is_left_alone() {
    let by_one_clock: &dyn Fn(&mut Rng, u32, u32) -> f64 = &|_, _, _| 15.0;
    let jitters = &|rng: &mut Rng, _, _| 20.0 + rng.below(1600) as f64 / 1e3 - 0.8;
    let each_its_own = &|_: &mut Rng, at, _| [5.0, 13.0, 30.0][at as usize];
    let backs_off = &|_: &mut Rng, _, n: u32| f64::from(1 << n.min(6));
    let retries = &|_: &mut Rng, _, n| if n % 3 == 2 { 13.0 } else { 1.0 };
    for servers in [2, 3] {
        for (case, pauses) in [by_one_clock, jitters, each_its_own, backs_off, retries]
            .into_iter()
            .enumerate()
        {
            let bench = rounds(servers, "exporter", pauses);
            let told = &bench.findings;
            assert!(told.is_empty(), "{servers}, {case}: {told:?}");
        }
    }
}

#[test]
fn guesses_at_a_few_servers_are_told() {
    let hurries: &dyn Fn(&mut Rng, u32, u32) -> f64 = &|_, _, _| 0.05;
    let takes_its_time = &|rng: &mut Rng, _, _| 6.0 + rng.below(3000) as f64 / 1e3;
    let pauses_now_and_then = &|_: &mut Rng, _, n| if n % 8 == 7 { 30.0 } else { 0.1 };
    for servers in [2, 3] {
        for (case, pauses) in [hurries, takes_its_time, pauses_now_and_then]
            .into_iter()
            .enumerate()
        {
            assert!(rounds(servers, "app", pauses).alerts(), "{servers}, {case}");
        }
    }
    // The same secret for many is a spray, whatever its pace.
    assert!(rounds(8, "exporter", &|_, _, _| 15.0).alerts());
}

#[test]
fn an_exact_pace_excuses_only_who_kept_it_from_the_start() {
    for (seen, pause, alerts) in [
        (0.0, 7.0, true),
        (0.0, 20.0, true),
        // Seen to begin as soon as it was seen, or before two of its pauses were over.
        (99.5, 7.0, false),
        (0.0, 60.0, false),
    ] {
        let mut bench = Bench::new("db-bruteforce");
        let store = pod("10.244.1.30", "cache");
        bench.begin(seen, (&web(), &store), crate::flow::Protocol::Tcp, 6379);
        let mut told = None;
        for n in 0..60_u32 {
            let at = 100.0 + f64::from(n) * pause;
            let flow = bench.begin(at, (&web(), &db()), crate::flow::Protocol::Tcp, 5432);
            start(&mut bench, at, &flow, "app", "shop");
            decide(&mut bench, at + 0.02, &flow, Some(DENIED));
            if told.is_none() && bench.alerts() {
                told = Some(n + 1);
            }
        }
        assert_eq!(told.is_some(), alerts, "{seen} {pause}");
        assert!(told.is_none_or(|tries| tries <= 15), "{told:?}");
    }
}

#[test]
fn an_exact_pace_excuses_no_second_account() {
    // The account that works, the one refused, and when it began.
    for (works, refused, began, alerts) in [
        ("app", "reports", 100.0, true),
        // From the start: somebody configured it so.
        ("app", "reports", 1.0, false),
        // Changed while the application went on.
        ("app", "app", 100.0, false),
    ] {
        let mut bench = Bench::new("db-bruteforce");
        for n in 0..60_u32 {
            let at = f64::from(n) * 7.0;
            for (user, code) in [(works, None), (refused, Some(DENIED))] {
                let changed = works == refused && at >= began;
                let denied = code.is_some();
                if denied && at < began || !denied && changed {
                    continue;
                }
                let at = at + f64::from(u8::from(denied));
                let flow = bench.begin(at, (&web(), &db()), crate::flow::Protocol::Tcp, 5432);
                start(&mut bench, at, &flow, user, "shop");
                decide(&mut bench, at + 0.02, &flow, code);
            }
        }
        assert_eq!(bench.alerts(), alerts, "{refused}: {:?}", bench.findings);
    }
}

#[test]
fn an_exact_pace_excuses_no_workload_that_never_had_business_there() {
    for (business, alerts) in [(6379, true), (5432, false)] {
        let mut bench = Bench::new("db-bruteforce");
        let store = pod("10.244.1.30", "cache");
        for n in 0..400_u32 {
            let at = f64::from(n) * 400.0;
            let server = if business == 5432 {
                db()
            } else {
                store.clone()
            };
            let outcome = crate::flow::Outcome::Answered;
            let ends = (&web(), &server);
            bench.flow(at, ends, crate::flow::Protocol::Tcp, business, outcome, 500);
        }
        let mut bench = bench.learned("db-bruteforce");
        // The first that is seen of it in this run.
        for n in 0..60_u32 {
            let at = 200_000.0 + f64::from(n) * 7.0;
            let flow = bench.begin(at, (&web(), &db()), crate::flow::Protocol::Tcp, 5432);
            start(&mut bench, at, &flow, "app", "shop");
            decide(&mut bench, at + 0.02, &flow, Some(DENIED));
        }
        assert_eq!(bench.alerts(), alerts, "{business}: {:?}", bench.findings);
    }
}

#[test]
fn guesses_at_what_is_no_database_are_told_as_well() {
    let logs_in = |at: f64, bench: &mut Bench, protocol, code: Option<&str>| {
        let flow = bench.begin(at, (&web(), &db()), crate::flow::Protocol::Tcp, 21);
        let login = OtherLogin {
            protocol,
            user: Some("backup".into()),
            success: code.is_none(),
            code: code.map(Into::into),
        };
        bench.says(at, &flow, Transaction::Login(login));
    };
    for (protocol, code, alerts) in [
        ("ftp", "530", true),
        ("smtp", "535", true),
        ("imap", "NO", true),
        ("ldap", "49", true),
        // The server is full, or wants no logins.
        ("ftp", "421", false),
        ("ldap", "53", false),
    ] {
        let mut bench = Bench::new("db-bruteforce");
        let mut rng = Rng::new(3);
        let mut at = 0.0;
        for _ in 0..14 {
            at += 1.0 + rng.below(4000) as f64 / 1e3;
            logs_in(at, &mut bench, protocol, Some(code));
        }
        bench.finish(1e4);
        assert_eq!(bench.alerts(), alerts, "{protocol} {code}");
    }
    // People read their mail by a page that logs them in.
    let mut bench = Bench::new("db-bruteforce");
    let mut rng = Rng::new(5);
    for n in 0..400 {
        let refused = rng.below(4) == 0;
        let at = f64::from(n) * 2.0 + rng.below(1000) as f64 / 1e3;
        logs_in(at, &mut bench, "imap", refused.then_some("NO"));
    }
    bench.finish(1e4);
    assert!(!bench.alerts(), "{:?}", bench.findings);
    // Mistyped, and then right, day by day.
    let mut bench = Bench::new("db-bruteforce");
    for day in 0..30 {
        let at = f64::from(day) * 86_400.0;
        logs_in(at, &mut bench, "ftp", Some("530"));
        logs_in(at + 4.0, &mut bench, "ftp", None);
    }
    bench.finish(1e7);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

/// An encrypted conversation on a flow: who speaks how much.
fn veiled(bench: &mut Bench, at: f64, ends: (&Endpoint, &Endpoint), bytes: &[u64]) {
    let flow = bench.open(at, ends, crate::flow::Protocol::Tcp, 5432);
    say(bench, at, &flow, DatabaseEvent::Hello { version: None });
    for (n, &bytes) in (0_u32..).zip(bytes) {
        let time = Timestamp::from_secs_f64(at + f64::from(n) * 0.01);
        let turn = Turn {
            direction: if n % 2 == 0 {
                Direction::Resp
            } else {
                Direction::Orig
            },
            start: time,
            end: time,
            packets: 1,
            bytes,
            smallest: bytes as u32,
            largest: bytes as u32,
        };
        let flow = Arc::clone(&flow);
        bench.event(at + f64::from(n) * 0.01, EventKind::Turn { flow, turn });
    }
    bench.ends(at + 0.5, &flow);
}

#[test]
fn encrypted_logins_are_told_by_who_has_the_last_word() {
    // Agreement, hello, certificate, finished and start-up, SASL, its steps, and an error or a welcome. MySQL's client
    // speaks first, for its wish to encrypt needs no answer.
    let refused: [&[u64]; 4] = [
        &[1, 517, 2300, 190, 46, 110, 120, 150, 144, 24],
        &[1, 517, 2300, 190, 46, 110, 120, 150, 120, 24, 24],
        &[0, 553, 1432, 110, 510, 239, 99],
        &[0, 290, 1500, 126, 282, 150, 106, 31, 31],
    ];
    for refused in refused {
        let mut bench = Bench::new("db-bruteforce");
        let mut rng = Rng::new(9);
        let mut at = 0.0;
        for _ in 0..14 {
            at += 1.0 + rng.below(4000) as f64 / 1e3;
            veiled(&mut bench, at, (&web(), &db()), refused);
        }
        assert!(bench.alerts(), "{} bits: {refused:?}", bench.bits());
    }
    // With TLS's own goodbye or without, answered by the server's or not; with nothing asked in between, too.
    let worked: [&[u64]; 5] = [
        &[1, 517, 2300, 190, 46, 110, 120, 150, 520, 90, 85, 51],
        &[1, 293, 99, 332, 1392, 150, 65, 103, 115, 203, 486, 51, 24],
        &[0, 553, 1432, 110, 510, 240, 42, 54, 90, 27],
        &[0, 290, 1500, 126, 282, 150, 44, 34],
        &[0, 553, 1432, 350, 42, 51, 24],
    ];
    for worked in worked {
        let mut bench = Bench::new("db-bruteforce");
        let mut rng = Rng::new(9);
        let mut at = 0.0;
        for _ in 0..300 {
            at += 1.0 + rng.below(4000) as f64 / 1e3;
            veiled(&mut bench, at, (&web(), &db()), worked);
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
