//! Beacons of every kind, and what ticks honestly.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::flow::Outcome;
use crate::identity::Source;
use crate::testkit::rng::Rng;
use Direction::{Orig, Resp};

fn master() -> Endpoint {
    end("192.0.2.20", IdentityKind::External, None)
}

fn api() -> Endpoint {
    pod("10.244.1.12", "api")
}

/// A pod that is seen from the first second on, at something else.
fn watched() -> Bench {
    let mut bench = Bench::new("beacon");
    for n in 0..20 {
        let db = pod("10.244.1.3", "db");
        bench.tcp(
            f64::from(n) * 3.0,
            (&api(), &db),
            5432,
            Outcome::Answered,
            500,
        );
    }
    bench
}

/// An exchange on a flow that opens and ends with it.
fn contact(
    bench: &mut Bench,
    secs: f64,
    ends: (&Endpoint, &Endpoint),
    port: u16,
    sizes: (u64, u64),
) {
    let flow = bench.begin(secs, ends, Protocol::Tcp, port);
    say(bench, &flow, 0, Orig, secs, sizes);
}

fn say(
    bench: &mut Bench,
    flow: &Arc<FlowInfo>,
    number: u32,
    asker: Direction,
    secs: f64,
    sizes: (u64, u64),
) {
    say_in(Some("tls"), bench, flow, number, asker, secs, sizes);
}

fn say_in(
    app: Option<&'static str>,
    bench: &mut Bench,
    flow: &Arc<FlowInfo>,
    number: u32,
    asker: Direction,
    secs: f64,
    sizes: (u64, u64),
) {
    let at = Timestamp::from_secs_f64;
    let exchange = Exchange {
        number,
        asker,
        start: at(secs),
        answer: (sizes.1 > 0).then(|| at(secs + 0.02)),
        end: at(secs + 0.1),
        before: at(secs - 1.0),
        asked: sizes.0,
        answered: sizes.1,
    };
    let kind = EventKind::Exchange {
        flow: Arc::clone(flow),
        exchange,
        app,
    };
    bench.event(secs + 0.1, kind);
}

/// Times of `n` contacts, begun when two periods and 60 s have passed, every `period` with so much jitter either way.
fn times(n: u32, period: f64, jitter: f64) -> Vec<f64> {
    let mut rng = Rng::new(11);
    let mut now = 60.0 + 2.0 * period;
    (0..n)
        .map(|_| {
            let chance = rng.below(1_000_000) as f64 / 500_000.0 - 1.0;
            now += period * (1.0 + jitter * chance);
            now
        })
        .collect()
}

fn beacons(mut bench: Bench, times: &[f64]) -> Bench {
    for &secs in times {
        contact(&mut bench, secs, (&api(), &master()), 443, (846, 2118));
    }
    bench
}

#[test]
fn a_new_peer_at_a_clocks_pace_is_found_within_a_dozen_periods() {
    for jitter in [0.0, 0.2, 0.5] {
        let bench = beacons(watched(), &times(13, 5.0, jitter));
        assert!(bench.alerts(), "jitter {jitter}: {}", bench.bits());
    }
    let bench = beacons(watched(), &times(25, 5.0, 0.9));
    assert!(bench.alerts(), "{}", bench.bits());
    assert_eq!(bench.findings[0].actor.ip, api().ip);
}

#[test]
fn one_connection_is_as_good_as_many() {
    for asker in [Orig, Resp] {
        let mut bench = watched();
        let flow = bench.begin(60.0, (&api(), &master()), Protocol::Tcp, 8443);
        for (number, secs) in (0..).zip(times(14, 20.0, 0.1)) {
            say(&mut bench, &flow, number, asker, secs, (9, 0));
        }
        assert!(bench.alerts(), "{asker:?}: {}", bench.bits());
    }
}

#[test]
fn a_slow_beacon_takes_as_many_periods() {
    let bench = beacons(watched(), &times(13, 3600.0 * 4.0, 0.3));
    assert!(bench.alerts(), "{}", bench.bits());
}

#[test]
fn what_was_there_before_us_is_the_clusters_own() {
    // A probe of a vendor's status page: exact, the same bytes each time, and begun before the capture.
    let mut bench = Bench::new("beacon");
    let probe = pod("10.244.1.23", "uptime");
    for n in 0..40 {
        let secs = 12.0 + f64::from(n) * 30.0;
        contact(&mut bench, secs, (&probe, &master()), 443, (740, 6518));
    }
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn a_baseline_makes_a_contact_known() {
    let mut bench = watched();
    bench.tcp(30.0, (&api(), &master()), 443, Outcome::Answered, 500);
    let bench = beacons(bench.learned("beacon"), &times(30, 5.0, 0.0));
    assert!(bench.findings.is_empty());

    let bench = beacons(watched().learned("beacon"), &times(13, 5.0, 0.0));
    assert!(
        bench.alerts(),
        "a closed workload's new peer: {}",
        bench.bits()
    );
}

#[test]
fn who_only_hears_a_heartbeat_reports_nothing() {
    // A stream of events inside TLS, by which a service says that it is still there; several workloads listen to it.
    // Answers, or a protocol of its own, make it a beacon.
    let tls = Some("tls");
    for (app, answer, alerts) in [(tls, 0, false), (tls, 9, true), (None, 0, true)] {
        let mut bench = watched();
        let dns = pod("10.244.1.2", "kube-dns");
        for (n, name) in (0..).zip(["web", "cart", "search", "api"]) {
            let client = pod(&format!("10.244.1.{}", 9 + n), name);
            let at = 50.0 + f64::from(n);
            bench.dns(
                at,
                (&client, &dns),
                "stream.flags.example",
                1,
                Some(master().ip),
            );
            bench.tcp(at + 0.1, (&client, &master()), 443, Outcome::Answered, 500);
        }
        let flow = bench.begin(60.0, (&api(), &master()), Protocol::Tcp, 443);
        for (number, secs) in (0..).zip(times(30, 5.0, 0.0)) {
            say_in(app, &mut bench, &flow, number, Resp, secs, (16, answer));
        }
        assert_eq!(bench.alerts(), alerts, "{app:?} {answer}: {}", bench.bits());
    }
}

#[test]
fn people_and_load_have_no_rhythm() {
    let mut rng = Rng::new(4);
    let mut bench = watched();
    let mut secs = 60.0;
    for _ in 0..200 {
        secs += 1.5 + rng.pause(Duration::from_secs(6)).as_secs_f64();
        let sizes = (rng.within(300..900), rng.within(500..9000));
        contact(&mut bench, secs, (&api(), &master()), 443, sizes);
    }
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn inside_the_cluster_everything_ticks() {
    let mut bench = watched();
    let peer = pod("10.244.1.4", "exporter");
    for secs in times(40, 15.0, 0.0) {
        contact(&mut bench, secs, (&api(), &peer), 9113, (147, 3000));
    }
    assert!(bench.findings.is_empty());
}

#[test]
fn many_series_are_bounded() {
    let mut bench = watched();
    let mut ends = (0..30_000_u32).map(|n| {
        let [_, _, c, d] = n.to_be_bytes();
        end(&format!("198.51.{c}.{d}"), IdentityKind::External, None)
    });
    for peer in &mut ends {
        contact(&mut bench, 60.0, (&api(), &peer), 443, (10, 10));
    }
    let size = bench.state_size();
    assert!(size.entries == size.limit);
    let bench = beacons(bench, &times(13, 5.0, 0.1));
    assert!(bench.alerts(), "the others are still seen");
}

/// Bytes asked and answered.
type Sizes = fn(&mut Rng) -> (u64, u64);

#[test]
fn agents_that_deliver_are_quiet_however_new_and_regular() {
    let collector = || end("198.51.100.34", IdentityKind::External, None);
    let kinds: [(&str, f64, f64, Sizes); 5] = [
        ("metrics", 7.0, 0.3, |rng| (rng.within(900..4000), 120)),
        ("lines of a log", 3.0, 0.0, |rng| (rng.within(150..260), 0)),
        ("spans", 1.3, 0.1, |rng| (rng.within(300..1100), 46)),
        ("gauges", 10.0, 0.0, |rng| {
            let numbers = [100, 1_100_000, 200, 20_000, 150, 1500].map(|most| rng.below(most));
            let digits: usize = numbers.iter().map(|n| n.to_string().len()).sum();
            (300 + digits as u64, 160)
        }),
        ("a feed", 4.0, 0.05, |rng| (310, rng.within(700..4000))),
    ];
    for (what, period, jitter, sizes) in kinds {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let mut bench = watched();
            let flow = bench.begin(60.0, (&api(), &collector()), Protocol::Tcp, 4317);
            for (number, secs) in (0..).zip(times(64, period, jitter)) {
                say(&mut bench, &flow, number, Orig, secs, sizes(&mut rng));
            }
            assert!(!bench.alerts(), "{what}: {}", bench.bits());
        }
    }
}

#[test]
fn questions_by_chance_are_seldom_taken_for_a_clock() {
    let taken = (0..100)
        .filter(|seed| {
            let mut rng = Rng::new(*seed);
            let mut bench = watched();
            let mut secs = 120.0;
            for _ in 0..300 {
                secs += rng.pause(Duration::from_secs(20)).as_secs_f64();
                contact(&mut bench, secs, (&api(), &master()), 443, (846, 2118));
            }
            bench.alerts()
        })
        .count();
    assert!(taken <= 15, "{taken} of 100");
}

#[test]
fn kubelets_asked_to_the_clock_on_a_bare_capture() {
    let unknown = |ip| {
        let mut end = end(ip, IdentityKind::Unknown, None);
        end.who.source = Source::None;
        end
    };
    let (asker, node) = (unknown("172.18.0.3"), unknown("172.18.0.2"));
    let mut bench = Bench::new("beacon");
    for (from, port, followed) in [
        (&asker, 10_250, false),
        (&asker, 8443, true),
        (&api(), 10_250, true),
    ] {
        let flow = bench.open(1.0, (from, &node), Protocol::Tcp, port);
        assert_eq!(is_candidate(&flow), followed, "port {port}");
    }
}

/// What scrapes metrics, seen without an inventory: it keeps its connections, and each exporter has its own port.
#[test]
fn who_goes_the_rounds_by_one_clock_watches_over_servers() {
    let unknown = |ip: &str| {
        let mut end = end(ip, IdentityKind::Unknown, None);
        end.who.source = Source::None;
        end
    };
    for servers in [1_u8, 4] {
        let mut bench = Bench::new("beacon");
        let monitor = unknown("10.244.1.25");
        let flows: Vec<_> = (0..servers)
            .map(|n| {
                let exporter = unknown(&format!("10.244.1.{}", 2 + n));
                let secs = f64::from(n) * 2.5;
                bench.begin(
                    secs,
                    (&monitor, &exporter),
                    Protocol::Tcp,
                    9100 + u16::from(n),
                )
            })
            .collect();
        let mut rng = Rng::new(3);
        for number in 0..40 {
            for (n, flow) in (0_u8..).zip(&flows) {
                let late = rng.below(1000) as f64 / 1000.0;
                let secs = f64::from(n) * 2.5 + f64::from(number) * 15.0 + late;
                say(&mut bench, flow, number, Orig, secs, (147, 3855));
            }
        }
        bench.finish(1000.0);
        // Who calls one alone, always alike, may well be called to account.
        assert_eq!(
            bench.alerts(),
            servers == 1,
            "{servers}: {} bits",
            bench.bits()
        );
    }
}

/// Redis's Sentinel, seen without an inventory: it hears of the replicas from their master, after a while.
#[test]
fn who_watches_over_a_cluster_of_stores_meets_its_members_later() {
    let unknown = |ip: &str| {
        let mut end = end(ip, IdentityKind::Unknown, None);
        end.who.source = Source::None;
        end
    };
    for (replicas, app, told) in [
        (2_u8, Some("redis"), false),
        (1, Some("redis"), true),
        (2, None, true),
    ] {
        let mut bench = Bench::new("beacon");
        let sentinel = unknown("10.244.1.25");
        let master = unknown("10.244.1.2");
        bench.begin(0.0, (&sentinel, &master), Protocol::Tcp, 6379);
        let flows: Vec<_> = (0..replicas)
            .map(|n| {
                let replica = unknown(&format!("10.244.1.{}", 3 + n));
                bench.begin(60.0, (&sentinel, &replica), Protocol::Tcp, 6379)
            })
            .collect();
        let mut rng = Rng::new(3);
        for number in 0..60 {
            for flow in &flows {
                let late = rng.below(300) as f64 / 1000.0;
                let secs = 60.0 + f64::from(number) * 2.0 + late;
                say_in(app, &mut bench, flow, number, Orig, secs, (14, 7));
            }
        }
        bench.finish(1000.0);
        let bits = bench.bits();
        assert_eq!(bench.alerts(), told, "{replicas} {app:?}: {bits} bits");
    }
}

#[test]
fn what_was_taken_up_in_the_middle_is_neither_new_nor_strange() {
    let spoken = |begun: bool, asker: Direction, client: &Endpoint| {
        let mut bench = watched();
        // The client finds others by their names; how it found this one was before.
        let dns = pod("10.244.1.2", "coredns");
        let address = Some([203, 0, 113, 9].into());
        bench.dns(30.0, (client, &dns), "vendor.example", 1, address);
        bench.begun = begun;
        let flow = bench.begin(100.0, (client, &master()), Protocol::Tcp, 443);
        for n in 0..40 {
            let secs = 101.0 + f64::from(n) * 4.0;
            say_in(None, &mut bench, &flow, n, asker, secs, (102, 10));
        }
        bench.alerts()
    };
    let nameless = end("10.244.1.77", IdentityKind::Unknown, None);
    for client in [api(), nameless] {
        for asker in [Orig, Resp] {
            assert!(spoken(true, asker, &client), "{asker:?} {client:?}");
            assert!(!spoken(false, asker, &client), "{asker:?} {client:?}");
        }
    }
}

#[test]
fn a_connection_inside_tls_that_was_open_before_is_no_new_peer() {
    // Of nobody anything is known: no inventory, no look-up seen.
    let nameless = end("10.244.1.77", IdentityKind::Unknown, None);
    let told = |begun: bool, app: &'static str| {
        let mut bench = Bench::new("beacon");
        bench.begun = begun;
        let flow = bench.begin(0.0, (&nameless, &master()), Protocol::Tcp, 443);
        for n in 0..40 {
            let secs = 1.0 + f64::from(n) * 5.0;
            say_in(Some(app), &mut bench, &flow, n, Orig, secs, (310, 120));
        }
        bench.alerts()
    };
    assert!(told(true, "tls"));
    assert!(!told(false, "tls"));
    assert!(told(false, "http"), "in clear it asks the same");
    // A workload whose baseline never saw it there.
    let mut bench = watched().learned("beacon");
    bench.begun = false;
    let flow = bench.begin(0.0, (&api(), &master()), Protocol::Tcp, 443);
    for n in 0..40 {
        let secs = 1.0 + f64::from(n) * 5.0;
        say(&mut bench, &flow, n, Orig, secs, (310, 120));
    }
    assert!(bench.alerts(), "{}", bench.bits());
}

#[test]
fn who_asks_a_private_server_how_it_is_scrapes_metrics() {
    let nameless = |last: u8| {
        let mut end = end(&format!("10.244.1.{last}"), IdentityKind::Unknown, None);
        end.who.source = Source::None;
        end
    };
    let told = |path: &str, begins: f64| {
        let mut bench = Bench::new("beacon");
        let (scraper, target) = (nameless(77), nameless(78));
        bench.begin(0.0, (&scraper, &nameless(79)), Protocol::Tcp, 9100);
        let flow = bench.begin(begins, (&scraper, &target), Protocol::Tcp, 9187);
        for n in 0..40 {
            let secs = begins + 1.0 + f64::from(n) * 15.0;
            let request = HttpRequest {
                method: "GET".into(),
                path: path.into(),
                ..HttpRequest::default()
            };
            bench.says(secs, &flow, Transaction::HttpRequest(request));
            say_in(Some("http"), &mut bench, &flow, n, Orig, secs, (291, 2411));
        }
        bench.alerts()
    };
    assert!(!told("/metrics", 0.0));
    assert!(told("/metrics", 300.0), "it began late");
    assert!(told("/orders", 0.0));
}

#[test]
fn a_stray_packet_before_makes_no_peer_an_old_one() {
    let mut bench = watched();
    bench.begun = false;
    bench.begin(70.0, (&api(), &master()), Protocol::Tcp, 443);
    bench.begun = true;
    assert!(beacons(bench, &times(30, 10.0, 0.1)).alerts());
}

#[test]
fn who_is_asked_inside_tls_whether_he_is_there_keeps_a_websocket_open() {
    let asked = |named: bool, began: f64| {
        let mut bench = watched();
        let dns = pod("10.244.1.2", "coredns");
        let address = named.then(|| master().ip);
        let name = if named {
            "wss.chat.example"
        } else {
            "chat.example"
        };
        let other = Some([203, 0, 113, 9].into());
        bench.dns(1.0, (&api(), &dns), name, 1, address.or(other));
        let flow = bench.begin(began, (&api(), &master()), Protocol::Tcp, 443);
        for n in 0..40 {
            let secs = began + 10.0 + f64::from(n) * 10.0;
            say(&mut bench, &flow, n, Resp, secs, (29, 33));
        }
        bench.alerts()
    };
    assert!(!asked(true, 2.0));
    assert!(asked(true, 300.0), "it began late");
    assert!(asked(false, 2.0), "to a bare address");
}
