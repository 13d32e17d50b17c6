//! Rounds through many hosts, and clients that only happen to fail.

use super::super::testing::{Bench, end, pod};
use super::*;

fn host(last: u16) -> Endpoint {
    end(
        &format!("10.244.{}.{}", last / 250, last % 250 + 1),
        IdentityKind::Unknown,
        None,
    )
}

#[test]
fn a_sweep_of_one_port_is_found_however_slow() {
    for gap in [0.01, 600.0] {
        let mut bench = Bench::new("host-sweep");
        let web = pod("10.244.1.7", "web");
        for n in 0..30 {
            bench.tcp(f64::from(n) * gap, (&web, &host(n)), 80, Outcome::Silent, 0);
        }
        bench.finish(1e6);
        assert!(bench.alerts(), "one host every {gap} s");
        assert_eq!(bench.findings.last().unwrap().target_count, 30);
    }
}

#[test]
fn arp_and_answered_pings_are_sweeps_too() {
    let web = pod("10.244.1.7", "web");
    let mut arp = Bench::new("host-sweep");
    for n in 0..40 {
        arp.event(
            f64::from(n),
            EventKind::Resolution {
                actor: web.clone(),
                target: host(n),
                network: NetworkId::default(),
                hardware: None,
                reply: false,
            },
        );
    }
    arp.finish(100.0);
    assert!(arp.alerts());
    let mut ping = Bench::new("host-sweep");
    for n in 0..18 {
        ping.flow(
            f64::from(n),
            (&web, &host(n)),
            Protocol::Icmp,
            0,
            Outcome::Answered,
            56,
        );
    }
    ping.finish(100.0);
    assert!(ping.alerts());
}

#[test]
fn a_sweep_over_sctp_is_found() {
    let mut bench = Bench::new("host-sweep");
    let web = pod("10.244.1.7", "web");
    for n in 0..10 {
        let (at, down) = (f64::from(n), Outcome::Unreachable);
        bench.flow(at, (&web, &host(n)), Protocol::Sctp, 3868, down, 0);
    }
    bench.finish(60.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn a_sweep_over_udp_is_found_though_nobody_promised_an_answer() {
    let mut bench = Bench::new("host-sweep");
    let web = pod("10.244.1.7", "web");
    for n in 0..16 {
        bench.flow(
            f64::from(n),
            (&web, &host(n)),
            Protocol::Udp,
            161,
            Outcome::Silent,
            0,
        );
    }
    bench.finish(60.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
    // Peers of a swarm outside come and go.
    let mut bench = Bench::new("host-sweep");
    for n in 0..200 {
        let peer = end(&format!("203.0.113.{n}"), IdentityKind::External, None);
        bench.flow(
            f64::from(n),
            (&web, &peer),
            Protocol::Udp,
            6881,
            Outcome::Silent,
            0,
        );
    }
    bench.finish(60.0);
    assert!(bench.findings.is_empty());
}

#[test]
fn of_hundreds_some_are_down_and_after_a_rollout_all_were_there_before() {
    let mut bench = Bench::new("host-sweep");
    let prometheus = pod("10.244.1.8", "prometheus");
    for n in 0..600 {
        let (outcome, said) = if n % 11 == 5 {
            (Outcome::Refused, 0)
        } else {
            (Outcome::Answered, 300)
        };
        bench.tcp(
            f64::from(n) / 40.0,
            (&prometheus, &host(n)),
            9100,
            outcome,
            said,
        );
    }
    let late = pod("10.244.1.9", "late");
    for n in (0..600).filter(|n| n % 11 != 5) {
        bench.tcp(60.0, (&late, &host(n)), 9100, Outcome::Silent, 0);
    }
    bench.finish(100.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn scrapers_nodes_and_resolved_neighbours_are_left_alone() {
    let mut bench = Bench::new("host-sweep");
    let prometheus = pod("10.244.1.8", "prometheus");
    // Sixty targets, every tenth of them down for good.
    for round in 0..5 {
        for n in 0..60 {
            let up = n % 10 != 0;
            let outcome = if up {
                Outcome::Answered
            } else {
                Outcome::Silent
            };
            bench.tcp(
                f64::from(round * 60 + n),
                (&prometheus, &host(n)),
                9100,
                outcome,
                if up { 300 } else { 0 },
            );
        }
    }
    let node = end("10.244.1.1", IdentityKind::Node, None);
    for n in 0..60 {
        bench.tcp(400.0, (&node, &host(n)), 8080, Outcome::Refused, 0);
        let ask = |reply| EventKind::Resolution {
            actor: if reply { host(n) } else { prometheus.clone() },
            target: if reply { prometheus.clone() } else { host(n) },
            network: NetworkId::default(),
            hardware: None,
            reply,
        };
        bench.event(401.0, ask(false));
        bench.event(401.1, ask(true));
    }
    bench.finish(1000.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn a_block_scan_is_left_to_port_scan() {
    let mut bench = Bench::new("host-sweep");
    let web = pod("10.244.1.7", "web");
    for port in 1..=30 {
        for n in 0..20 {
            bench.tcp(f64::from(port), (&web, &host(n)), port, Outcome::Refused, 0);
        }
    }
    bench.finish(100.0);
    assert!(bench.findings.is_empty());
}

#[test]
fn looking_who_is_there_makes_no_port_scan_of_a_sweep_of_few_ports() {
    let mut bench = Bench::new("host-sweep");
    let web = pod("10.244.1.7", "web");
    for n in 0..15 {
        let ask = |reply| EventKind::Resolution {
            actor: if reply { host(n) } else { web.clone() },
            target: if reply { web.clone() } else { host(n) },
            network: NetworkId::default(),
            hardware: None,
            reply,
        };
        bench.event(f64::from(n), ask(false));
        // The first is nobody's.
        bench.event(f64::from(n) + 0.6, ask(n > 0));
    }
    for port in [53, 123, 161, 1900] {
        for n in 1..15 {
            let ends = (&web, &host(n));
            bench.flow(20.0, ends, Protocol::Udp, port, Outcome::Refused, 0);
        }
    }
    bench.finish(200.0);
    assert!(bench.alerts(), "four ports are too few for port-scan");
}

#[test]
fn a_cluster_of_which_nobody_is_up_is_not_swept_by_its_client() {
    let web = pod("10.244.1.7", "web");
    let alerts = |name: &dyn Fn(u16) -> String| {
        let mut bench = Bench::new("host-sweep");
        for n in 0..14 {
            let member = pod(&format!("10.244.3.{}", n + 1), &name(n));
            let at = f64::from(n);
            bench.tcp(at, (&web, &member), 7946, Outcome::Silent, 0);
        }
        bench.finish(100.0);
        bench.alerts()
    };
    assert!(!alerts(&|_| "ring".into()));
    assert!(alerts(&|n| format!("workload-{n}")));
}

#[test]
fn who_comes_back_by_the_clock_watches_hosts_and_looks_for_none() {
    // A load balancer, or Prometheus, whose targets are down, and a monitor that pings.
    let alerts = |way: (Protocol, u16, Outcome), hosts: u16, rounds: u32, pause: f64| {
        let monitor = pod("10.244.1.8", "monitor");
        let (protocol, port, outcome) = way;
        let mut bench = Bench::new("host-sweep");
        for round in 0..rounds {
            for n in 0..hosts {
                let at = f64::from(round) * pause + f64::from(n) / 50.0;
                bench.flow(at, (&monitor, &host(n)), protocol, port, outcome, 0);
            }
        }
        bench.finish(f64::from(rounds) * pause + 60.0);
        bench.alerts()
    };
    let refused = (Protocol::Tcp, 9102, Outcome::Refused);
    let pinged = (Protocol::Icmp, 0, Outcome::Answered);
    for pause in [5.0, 15.0, 30.0] {
        assert!(!alerts(refused, 12, 20, pause), "{pause}");
        assert!(!alerts(pinged, 40, 20, pause), "{pause}");
    }
    // Once, twice, in a hurry, silently (as scanners ask again), or too many: a sweep.
    for (rounds, pause) in [(1, 1.0), (2, 10.0), (5, 0.3)] {
        assert!(alerts(refused, 12, rounds, pause), "{rounds} {pause}");
        assert!(alerts(pinged, 40, rounds, pause), "{rounds} {pause}");
    }
    assert!(alerts((Protocol::Tcp, 9102, Outcome::Silent), 12, 20, 15.0));
    assert!(alerts(refused, 30, 20, 15.0));
    assert!(alerts((Protocol::Icmp, 0, Outcome::Silent), 40, 20, 15.0));
}

#[test]
fn who_pings_hosts_by_their_names_looks_for_none() {
    // Smokeping with three pings in a row each five minutes, and somebody who goes by addresses, or by names that lead to nobody.
    for (named, outcome, told) in [
        (true, Outcome::Answered, false),
        (false, Outcome::Answered, true),
        (true, Outcome::Silent, true),
    ] {
        let mut bench = Bench::new("host-sweep");
        let (smokeping, dns) = (pod("10.244.1.8", "smokeping"), pod("10.244.1.2", "dns"));
        for round in 0..3 {
            for n in 0..40 {
                let at = f64::from(round) * 300.0 + f64::from(n) / 10.0;
                if named {
                    let (name, ip) = (format!("vm{n}.site.example"), host(n).ip);
                    bench.dns(at, (&smokeping, &dns), &name, 1, Some(ip));
                }
                let ends = (&smokeping, &host(n));
                bench.flow(at + 0.01, ends, Protocol::Icmp, 0, outcome, 0);
            }
        }
        bench.finish(2000.0);
        assert_eq!(bench.alerts(), told, "{named} {outcome:?}");
    }
}

#[test]
fn hosts_that_come_up_under_silent_probes_are_not_swept() {
    let balancer = end("192.0.2.2", IdentityKind::External, None);
    let mut bench = Bench::new("host-sweep");
    for round in 0..10_u16 {
        for n in 0..10 {
            let outcome = if round == 0 {
                Outcome::Refused
            } else {
                Outcome::Answered
            };
            let at = f64::from(round) * 10.0 + f64::from(n) / 50.0;
            bench.tcp(at, (&balancer, &host(n)), 8080, outcome, 0);
        }
    }
    bench.finish(200.0);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}
