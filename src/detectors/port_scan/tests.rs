//! Scans of every pace, and clients that only look like scanners.

use super::super::testing::{Bench, end, pod};
use crate::flow::{Outcome, Protocol};
use crate::identity::IdentityKind;

fn scan(gap: f64, ports: u16) -> Bench {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    for port in 0..ports {
        let at = f64::from(port) * gap;
        bench.tcp(at, (&web, &api), 1000 + port, Outcome::Refused, 0);
    }
    bench.finish(f64::from(ports) * gap + 60.0);
    bench
}

#[test]
fn a_scan_is_found_however_slow() {
    for gap in [0.001, 1.0, 600.0] {
        let bench = scan(gap, 12);
        assert!(
            bench.alerts(),
            "one port every {gap} s: {} bits",
            bench.bits()
        );
    }
    assert!(scan(0.01, 5).alerts(), "five refusals in a row suffice");
    assert!(!scan(0.01, 4).alerts(), "four may be a client's bad day");
}

#[test]
fn protocols_of_ip_are_tried_as_ports_are() {
    let tried = |protocols: &[u8], outcome| {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for (n, number) in protocols.iter().enumerate() {
            let protocol = Protocol::Other(*number);
            bench.flow(n as f64, (&web, &api), protocol, 0, outcome, 0);
        }
        bench.finish(120.0);
        bench
    };
    let bench = tried(&[2, 3, 4, 5, 8, 9, 47, 50, 89, 112], Outcome::Unreachable);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let told = &bench.findings[0];
    assert!(told.summary.contains("protocols of IP"), "{}", told.summary);
    assert_eq!(told.targets[0].port, None);
    // A way between two sites that is down: its packets, its keys, its routes.
    assert!(!tried(&[47, 50, 51, 89], Outcome::Silent).alerts());
}

#[test]
fn ports_of_sctp_are_ports() {
    for (ports, alerts) in [
        (&[36_412, 38_412, 2905, 3868, 29_118, 9][..], true),
        (&[3868, 2905], false),
    ] {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for (n, port) in ports.iter().enumerate() {
            let (at, down) = (n as f64, Outcome::Unreachable);
            bench.flow(at, (&web, &api), Protocol::Sctp, *port, down, 0);
        }
        bench.finish(120.0);
        assert_eq!(bench.alerts(), alerts, "{ports:?}");
    }
}

#[test]
fn a_few_ports_of_either_kind_are_a_scan_and_databases_alone_are_not() {
    let tried = |ports: &[u16]| {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for (n, port) in ports.iter().enumerate() {
            bench.tcp(n as f64 * 9.0, (&web, &api), *port, Outcome::Refused, 0);
        }
        bench.finish(120.0);
        bench.alerts()
    };
    assert!(
        tried(&[22, 80, 443, 3306, 5432, 6379, 9200]),
        "as nmap is told"
    );
    assert!(tried(&[22, 8080, 9100, 2379, 10250]), "each kind of door");
    assert!(
        !tried(&[3306, 5432, 6379, 9200, 11211, 27017, 80]),
        "db-sweep tells that"
    );
    assert!(!tried(&[80, 8080, 5432, 6379]), "a stack that is down");
}

#[test]
fn open_ports_do_not_hide_the_scan_that_found_them() {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    for port in 1..=24 {
        // Two of three ports are open: answered, and dropped without a word.
        let outcome = if port % 3 == 0 {
            Outcome::Refused
        } else {
            Outcome::Answered
        };
        bench.tcp(f64::from(port), (&web, &api), port, outcome, 0);
    }
    bench.finish(60.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn a_scan_that_jumps_between_hosts_is_found() {
    for gap in [0.0001, 4.0] {
        let mut bench = Bench::new("port-scan");
        let web = pod("10.244.1.7", "web");
        // As masscan does it: every probe another port of another host, most of them silent.
        for n in 0..3000_u32 {
            let host = format!(
                "10.244.{}.{}",
                n % 7,
                n.wrapping_mul(2_654_435_761) % 250 + 1
            );
            let host = end(&host, IdentityKind::Unknown, None);
            let port = (n.wrapping_mul(40_503) % 60_000) as u16 + 1;
            let at = f64::from(n) * gap;
            bench.tcp(at, (&web, &host), port, Outcome::Silent, 0);
            if n == 20 {
                bench.finish(at + 10.0);
                assert!(bench.alerts(), "within 20 contacts");
            }
        }
    }
}

#[test]
fn datagrams_that_nobody_answers_are_probes_too() {
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    for (outcome, enough) in [(Outcome::Unreachable, 6), (Outcome::Silent, 9)] {
        let mut bench = Bench::new("port-scan");
        for port in 0..enough {
            let at = f64::from(port);
            bench.flow(at, (&web, &api), Protocol::Udp, 100 + port, outcome, 0);
        }
        bench.finish(60.0);
        assert!(bench.alerts(), "{outcome:?}: {} bits", bench.bits());
    }
    let mut bench = Bench::new("port-scan");
    for port in 33_434..33_524 {
        bench.flow(1.0, (&web, &api), Protocol::Udp, port, Outcome::Silent, 0);
    }
    bench.finish(60.0);
    assert!(bench.findings.is_empty(), "traceroute");
}

#[test]
fn open_ports_are_named_first() {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    for port in 8070..8090 {
        let outcome = if port == 8080 {
            Outcome::Answered
        } else {
            Outcome::Refused
        };
        bench.tcp(f64::from(port), (&web, &api), port, outcome, 0);
    }
    bench.finish(9000.0);
    let last = bench.findings.last().unwrap();
    let ports: Vec<_> = last.targets.iter().map(|target| target.port).collect();
    assert_eq!(ports, [Some(8080)]);
    assert!(
        last.summary
            .contains("19 were refused or silent, 1 answered")
    );
}

#[test]
fn who_visits_everybody_finds_some_of_them_gone() {
    let mut bench = Bench::new("port-scan");
    let prometheus = pod("10.244.1.30", "prometheus");
    // 400 endpoints on ten ports; one in twelve is down, and each host in turn has all its ports down.
    for n in 0..400_u16 {
        let host = end(
            &format!("10.244.2.{}", n / 4 + 1),
            IdentityKind::Unknown,
            None,
        );
        let down = (n / 4) % 12 == 5;
        let (outcome, said) = if down {
            (Outcome::Silent, 0)
        } else {
            (Outcome::Answered, 400)
        };
        bench.tcp(
            f64::from(n) / 20.0,
            (&prometheus, &host),
            9100 + n % 10,
            outcome,
            said,
        );
    }
    // A check that everybody is there: it connects and hangs up.
    let blackbox = pod("10.244.1.31", "blackbox");
    for n in 0..60_u16 {
        let host = end(&format!("10.244.3.{}", n + 1), IdentityKind::Unknown, None);
        bench.tcp(
            100.0,
            (&blackbox, &host),
            8000 + n % 12,
            Outcome::Answered,
            0,
        );
    }
    bench.finish(200.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn servers_that_are_not_up_yet_or_no_longer_are_no_guesses() {
    let mut bench = Bench::new("port-scan");
    let gateway = pod("10.244.1.7", "gateway");
    let server = |n: u16| pod(&format!("10.244.2.{}", n + 1), "shop");
    // It starts before its twelve servers do, and finds all of them in the end.
    for round in 0..5 {
        for n in 0..12 {
            let up = round * 3 >= n;
            let (outcome, said) = if up {
                (Outcome::Answered, 400)
            } else {
                (Outcome::Refused, 0)
            };
            let at = f64::from(round * 2) + f64::from(n) / 100.0;
            bench.tcp(at, (&gateway, &server(n)), 8000 + n % 9, outcome, said);
        }
    }
    // After a rollout others are late to hear of it.
    let late = pod("10.244.1.8", "late");
    for n in 0..12 {
        bench.tcp(60.0, (&late, &server(n)), 8000 + n % 9, Outcome::Silent, 0);
    }
    bench.finish(100.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn one_alert_with_true_numbers() {
    let bench = scan(0.1, 200);
    let last = bench.findings.last().unwrap();
    assert_eq!(last.evidence[1].observed as u64, 200);
    assert!(bench.findings.len() < 12, "told anew at doublings only");
}

#[test]
fn a_scan_among_decoys_is_told_once_and_by_the_pod() {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    let stranger = |n: u32| {
        let (net, kind) = if n < 5 {
            ("198.51.100", IdentityKind::External)
        } else {
            ("10.244.1", IdentityKind::Unknown)
        };
        end(&format!("{net}.{}", n + 100), kind, None)
    };
    for port in 0..20_u16 {
        let at = f64::from(port) * 0.01;
        for n in 0..7 {
            // The answers to some of them find no way back, so that silence is known late.
            let outcome = if n < 5 {
                Outcome::Refused
            } else {
                Outcome::Silent
            };
            bench.tcp(at, (&stranger(n), &api), 1000 + port, outcome, 0);
        }
        bench.tcp(at, (&web, &api), 1000 + port, Outcome::Refused, 0);
    }
    // Somebody else: other ports, and the same ports later.
    let (other, later) = (stranger(50), stranger(60));
    for port in 0..20_u16 {
        bench.tcp(0.2, (&other, &api), 3000 + port, Outcome::Refused, 0);
    }
    bench.finish(60.0);
    for port in 0..20_u16 {
        bench.tcp(90.0, (&later, &api), 1000 + port, Outcome::Refused, 0);
    }
    // Another pod is no decoy, whatever it does.
    let twin = pod("10.244.1.8", "twin");
    for port in 0..20_u16 {
        bench.tcp(90.0, (&twin, &api), 1000 + port, Outcome::Refused, 0);
    }
    bench.finish(200.0);
    let told: std::collections::BTreeSet<_> = bench
        .findings
        .iter()
        .map(|finding| finding.actor.ip.to_string())
        .collect();
    let expected = ["10.244.1.150", "10.244.1.7", "10.244.1.8"];
    assert_eq!(
        told.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    let first = &bench.findings[0];
    let decoys = first.evidence.last().unwrap();
    assert_eq!((decoys.feature, decoys.observed as u64), ("scan.decoys", 7));
}

/// Pods scan at the same moments: `worker`, and in the name of `web` and `cart` whoever has the `sender`.
fn scan_in_names(sender: [u8; 6]) -> Vec<String> {
    let mut bench = Bench::new("port-scan");
    let home = |last: u8| Some([2, 0, 0, 0, 0, last]);
    let names = ["web", "cart", "worker"].map(|name| {
        let last = 6 + name.len() as u8;
        (pod(&format!("10.244.1.{last}"), name), home(last))
    });
    let api = pod("10.244.1.40", "api");
    for (own, home) in &names {
        bench.sender = *home;
        bench.tcp(1.0, (own, &api), 8080, Outcome::Answered, 900);
    }
    for port in 0..20_u16 {
        let at = f64::from(port).mul_add(0.01, 20.0);
        for (own, home) in &names {
            let scans = own.ip.to_string().ends_with(".12");
            bench.sender = if scans { *home } else { Some(sender) };
            bench.tcp(at, (own, &api), 1000 + port, Outcome::Refused, 0);
        }
    }
    bench.finish(60.0);
    let told = bench
        .findings
        .iter()
        .map(|finding| finding.actor.ip.to_string());
    let told: std::collections::BTreeSet<_> = told.collect();
    told.into_iter().collect()
}

#[test]
fn a_pod_in_whose_name_another_scans_is_its_decoy() {
    let (web, cart, worker) = ("10.244.1.9", "10.244.1.10", "10.244.1.12");
    assert_eq!(scan_in_names([2, 0, 0, 0, 0, 12]), [worker]);
    // Seen behind a router, or nobody's: no telling who it was.
    assert_eq!(scan_in_names([2, 0, 0, 0, 0, 99]), [cart, worker, web]);
}

#[test]
fn honest_clients_are_left_alone() {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    let outside = end("203.0.113.7", IdentityKind::External, None);
    // Passive FTP: a new port of the same host for every file.
    for port in 0..200 {
        bench.tcp(
            f64::from(port),
            (&web, &outside),
            50_000 + port,
            Outcome::Answered,
            900,
        );
    }
    // A dead upstream, tried again and again.
    for at in 0..500 {
        bench.tcp(
            300.0 + f64::from(at),
            (&web, &api),
            8080,
            Outcome::Silent,
            0,
        );
    }
    // Databases are another detector's business.
    for port in [5432, 3306, 6379, 27017, 11211, 9200, 9042, 1433] {
        bench.tcp(900.0, (&web, &api), port, Outcome::Refused, 0);
    }
    bench.finish(1000.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn addresses_that_are_made_up_are_told_once_and_hide_nobody() {
    let mut bench = Bench::new("port-scan");
    let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
    for n in 0..20_000_u32 {
        let [_, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
        let made_up = end(&format!("9.{b}.{c}.{d}"), IdentityKind::External, None);
        let host = pod(&format!("10.244.2.{}", n % 250 + 1), "host");
        let at = f64::from(n) / 1000.0;
        let port = (n.wrapping_mul(40_503) % 60_000) as u16 + 1;
        bench.tcp(at, (&made_up, &host), port, Outcome::Silent, 0);
        if n % 2000 == 0 {
            let port = 100 + (n / 2000) as u16;
            bench.tcp(at, (&web, &api), port, Outcome::Refused, 0);
        }
    }
    bench.finish(60.0);
    let who: std::collections::BTreeSet<_> =
        bench.findings.iter().map(|one| one.actor.ip).collect();
    assert_eq!(who.len(), 2, "{who:?}");
    assert!(who.contains(&web.ip));
}

#[test]
fn clients_whose_servers_are_down_are_no_throng() {
    let mut bench = Bench::new("port-scan");
    for n in 0..2000_u32 {
        let client = end(
            &format!("10.1.{}.{}", n / 250, n % 250),
            IdentityKind::Unknown,
            None,
        );
        let server = end(
            &format!("10.2.0.{}", n % 12 + 1),
            IdentityKind::Unknown,
            None,
        );
        let at = f64::from(n) / 500.0;
        for port in [80, 443] {
            bench.tcp(at, (&client, &server), port, Outcome::Silent, 0);
        }
    }
    bench.finish(60.0);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}
