//! Forwards that must be told, and relays and applications that must not.

use super::*;
use crate::detectors::testing::{Bench, end, pod};
use crate::flow::{Exchange, Outcome, Turn};

const SIZES: [(u64, u64); 8] = [
    (90, 400),
    (310, 2210),
    (55, 9000),
    (140, 61),
    (220, 700),
    (75, 150),
    (400, 4096),
    (180, 1300),
];

struct Call {
    flow: Arc<FlowInfo>,
    app: Option<&'static str>,
    number: u32,
    /// Who asks.
    asker: Direction,
}

impl Call {
    fn new(
        bench: &mut Bench,
        secs: f64,
        ends: (&Endpoint, &Endpoint),
        port: u16,
        app: Option<&'static str>,
    ) -> Self {
        let flow = bench.begin(secs, ends, Protocol::Tcp, port);
        if let Some(app) = app {
            let flow = Arc::clone(&flow);
            bench.event(secs, EventKind::Recognised { flow, app });
        }
        Self {
            flow,
            app,
            number: 0,
            asker: Direction::Orig,
        }
    }

    fn asked_back(self) -> Self {
        Self {
            asker: Direction::Resp,
            ..self
        }
    }

    fn exchange(&mut self, bench: &mut Bench, secs: f64, took: f64, (asked, answered): (u64, u64)) {
        let (start, answer) = (
            Timestamp::from_secs_f64(secs),
            Timestamp::from_secs_f64(secs + took),
        );
        for (direction, time, bytes) in [
            (self.asker, start, asked),
            (self.asker.reverse(), answer, answered),
        ] {
            let turn = Turn::new(direction, time, bytes as u32);
            let flow = Arc::clone(&self.flow);
            bench.event(secs + took, EventKind::Turn { flow, turn });
        }
        let exchange = Exchange {
            number: self.number,
            asker: self.asker,
            start,
            answer: Some(answer),
            end: answer,
            before: start,
            asked,
            answered,
        };
        self.number += 1;
        let (flow, app) = (Arc::clone(&self.flow), self.app);
        bench.event(
            secs + took,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }
}

/// A pod that has served for two minutes.
fn settled(relay: &Endpoint) -> Bench {
    let mut bench = Bench::new("relay-pivot");
    let probe = end("10.244.1.1", IdentityKind::Node, None);
    bench.tcp(0.0, (&probe, relay), 8080, Outcome::Answered, 100);
    bench
}

/// What comes in on one call goes out on the other.
fn pass(
    bench: &mut Bench,
    secs: f64,
    front: &mut Call,
    back: &mut Call,
    change: impl Fn((u64, u64)) -> (u64, u64),
) {
    for (at, sizes) in (0..).zip(SIZES) {
        let now = secs + f64::from(at) * 1.7;
        back.exchange(bench, now + 0.001, 0.004, change(sizes));
        front.exchange(bench, now, 0.006, sizes);
    }
    bench.ends(secs + 20.0, &back.flow);
    bench.ends(secs + 20.001, &front.flow);
}

fn ends() -> (Endpoint, Endpoint, Endpoint) {
    (
        pod("10.244.1.9", "client"),
        pod("10.244.1.7", "web"),
        pod("10.244.1.3", "postgres"),
    )
}

const PG: Option<&str> = Some("postgresql");

fn forward(
    bench: &mut Bench,
    secs: f64,
    (port, app): (u16, Option<&'static str>),
    (back_port, back_app): (u16, Option<&'static str>),
    change: impl Fn((u64, u64)) -> (u64, u64),
) {
    let (client, relay, target) = ends();
    let mut front = Call::new(bench, secs, (&client, &relay), port, app);
    let mut back = Call::new(bench, secs + 0.001, (&relay, &target), back_port, back_app);
    pass(bench, secs, &mut front, &mut back, change);
    bench.finish(secs + 60.0);
}

#[test]
fn a_port_forward_to_a_database_is_found() {
    let (_, relay, target) = ends();
    let mut bench = settled(&relay);
    forward(&mut bench, 120.0, (18_080, PG), (5432, PG), |sizes| sizes);
    assert!(bench.alerts(), "{:?}", bench.findings);
    let finding = &bench.findings[0];
    assert_eq!(finding.actor.ip, relay.ip);
    let reached = finding.targets[0].endpoint.as_ref().unwrap();
    assert_eq!(
        (reached.ip, finding.targets[0].port),
        (target.ip, Some(5432))
    );
}

#[test]
fn what_a_host_passes_on_to_itself_is_not_reported() {
    // As `kubectl port-forward` on somebody's own machine.
    let local = end("127.0.0.1", IdentityKind::Unknown, None);
    let mut bench = settled(&local);
    let mut front = Call::new(&mut bench, 120.0, (&local, &local), 18_080, PG);
    let mut back = Call::new(&mut bench, 120.001, (&local, &local), 5432, PG);
    pass(&mut bench, 120.0, &mut front, &mut back, |sizes| sizes);
    bench.finish(180.0);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn one_whose_protocol_nobody_knows_is_found_by_its_ports() {
    let (_, relay, _) = ends();
    let mut bench = settled(&relay);
    forward(&mut bench, 120.0, (9000, None), (3389, None), |sizes| sizes);
    assert!(bench.alerts());
}

#[test]
fn one_inside_tls_is_found() {
    let (_, relay, _) = ends();
    let mut bench = settled(&relay);
    let tls = Some("tls");
    forward(&mut bench, 120.0, (8443, tls), (5432, PG), |(a, b)| {
        (a - 22, b - 22)
    });
    assert!(bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn a_terminal_that_comes_in_clear_and_goes_on_inside_tls_is_found() {
    let (_, relay, _) = ends();
    let mut bench = settled(&relay);
    let (ssh, tls) = (Some("ssh"), Some("tls"));
    forward(&mut bench, 120.0, (9000, ssh), (443, tls), |(a, b)| {
        (a + 22, b + 22)
    });
    assert!(bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn one_inside_tls_with_noise_is_found() {
    let (client, relay, target) = ends();
    let mut bench = settled(&relay);
    let mut front = Call::new(&mut bench, 120.0, (&client, &relay), 8443, Some("tls"));
    let mut back = Call::new(&mut bench, 120.0, (&relay, &target), 5432, PG);
    for (at, (asked, answered)) in (0..).zip(SIZES) {
        let now = 120.0 + f64::from(at) * 3.1;
        // Between them something is said that goes nowhere, and somewhere it is joined to what does.
        let noise = if at % 4 == 3 { 73 } else { 0 };
        front.exchange(&mut bench, now + 0.9, 0.3, (140 + 31 * at as u64, 700));
        back.exchange(&mut bench, now + 0.001, 0.004, (asked, answered));
        front.exchange(&mut bench, now, 0.006, (asked + 22 + noise, answered + 22));
    }
    bench.ends(160.0, &back.flow);
    bench.ends(160.001, &front.flow);
    bench.finish(200.0);
    assert!(bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn a_line_to_the_outside_by_which_a_database_is_asked_inside_tls_is_found() {
    let (_, relay, target) = ends();
    let master = end("203.0.113.9", IdentityKind::External, None);
    let mut bench = settled(&relay);
    let mut front = Call::new(&mut bench, 120.0, (&relay, &master), 4444, PG).asked_back();
    let mut back = Call::new(&mut bench, 120.1, (&relay, &target), 443, Some("tls"));
    pass(&mut bench, 121.0, &mut front, &mut back, |(a, b)| {
        (a + 22, b + 22)
    });
    bench.finish(200.0);
    assert!(bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn a_line_to_the_outside_that_asks_a_database_is_found() {
    let (_, relay, target) = ends();
    let master = end("203.0.113.9", IdentityKind::External, None);
    let mut bench = settled(&relay);
    let mut front = Call::new(&mut bench, 120.0, (&relay, &master), 443, None).asked_back();
    let mut back = Call::new(&mut bench, 120.1, (&relay, &target), 6379, None);
    pass(&mut bench, 121.0, &mut front, &mut back, |sizes| sizes);
    bench.finish(200.0);
    assert!(bench.alerts(), "{:?}", bench.findings);
}

/// A call to somebody outside that begins with a greeting: what he then says is what the pod's peer inside is asked.
fn greeted(answers: impl Fn(u64) -> u64, asks: impl Fn(u64) -> u64) -> Bench {
    let (_, relay, target) = ends();
    let master = end("203.0.113.9", IdentityKind::External, None);
    let mut bench = settled(&relay);
    let mut front = Call::new(&mut bench, 120.0, (&relay, &master), 7835, None);
    let mut back = Call::new(&mut bench, 120.1, (&relay, &target), 6379, Some("redis"));
    let mut said = 52;
    for (at, (asked, answered)) in (0..).zip(SIZES) {
        let now = 120.2 + f64::from(at) * 1.7;
        back.exchange(&mut bench, now, 0.004, (asks(asked), answered));
        // What it says next is the answer, at once.
        front.exchange(&mut bench, now - 1.6, 1.599, (said, asked));
        said = answers(answered);
    }
    bench.ends(140.0, &back.flow);
    bench.ends(140.001, &front.flow);
    bench.finish(180.0);
    bench
}

#[test]
fn a_line_to_the_outside_that_begins_with_a_greeting_is_found() {
    let bench = greeted(|answered| answered, |asked| asked);
    assert!(bench.alerts(), "{:?}", bench.findings);
    assert!(bench.findings[0].summary.contains("203.0.113.9:7835 asks"));
}

#[test]
fn a_line_to_the_outside_by_the_port_that_is_reached_is_found_at_once() {
    let (_, relay, target) = ends();
    let master = end("203.0.113.9", IdentityKind::External, None);
    let mut bench = settled(&relay);
    let mut front =
        Call::new(&mut bench, 120.0, (&relay, &master), 6379, Some("redis")).asked_back();
    let mut back = Call::new(&mut bench, 120.1, (&relay, &target), 6379, Some("redis"));
    for (at, sizes) in (0..).zip(SIZES) {
        let now = 121.0 + f64::from(at) * 0.4;
        back.exchange(&mut bench, now + 0.001, 0.004, sizes);
        front.exchange(&mut bench, now, 0.006, sizes);
    }
    bench.finish(180.0);
    assert!(bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn a_worker_that_is_given_jobs_from_outside_is_not_reported() {
    let bench = greeted(|_| 31, |asked| asked * 3 % 211 + 40);
    assert!(!bench.alerts(), "{:?}", bench.findings);
    // What it hands on whole comes back as no more than a word.
    let bench = greeted(|answered| answered % 7 + 31, |asked| asked);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn the_web_passed_on_word_for_word_is_found_by_whom_it_asks_for() {
    let (_, relay, target) = ends();
    let client = end("203.0.113.9", IdentityKind::External, None);
    for (host, alerts) in [("10.244.1.7", true), ("shop.example", false)] {
        let mut bench = settled(&relay);
        let mut front = Call::new(&mut bench, 120.0, (&client, &relay), 8888, Some("http"));
        let mut back = Call::new(&mut bench, 120.001, (&relay, &target), 80, Some("http"));
        let request = HttpRequest {
            host: Some(host.into()),
            ..HttpRequest::default()
        };
        let request = Transaction::HttpRequest(request);
        bench.says(120.002, &back.flow, request);
        pass(&mut bench, 120.0, &mut front, &mut back, |sizes| sizes);
        bench.finish(180.0);
        assert_eq!(bench.alerts(), alerts, "{host}: {:?}", bench.findings);
    }
}

#[test]
fn members_of_a_cluster_who_tell_each_other_the_same_are_no_relay() {
    // As Galera and Redis do: whoever joins calls all the others, is told the same by each, and tells the same to each.
    let join = |workloads: [&str; 3], port, back_port, speak: Option<f64>| {
        let [first, second, third] = workloads;
        let (one, relay) = (pod("10.244.1.4", first), pod("10.244.1.7", second));
        let other = pod("10.244.1.3", third);
        let mut bench = settled(&relay);
        if let Some(at) = speak.filter(|at| *at < 121.0) {
            bench.tcp(at, (&one, &other), port, Outcome::Answered, 900);
        }
        let mut front = Call::new(&mut bench, 120.0, (&relay, &one), port, None).asked_back();
        let mut back = Call::new(&mut bench, 120.1, (&relay, &other), back_port, None);
        for (at, sizes) in (0..).zip(SIZES) {
            let now = 121.0 + f64::from(at) * 1.7;
            back.exchange(&mut bench, now + 0.001, 0.004, sizes);
            front.exchange(&mut bench, now, 0.006, sizes);
            if let Some(speak) = speak.filter(|speak| (now..now + 1.7).contains(speak)) {
                bench.tcp(speak, (&one, &other), port, Outcome::Answered, 900);
            }
        }
        bench.finish(200.0);
        bench.alerts()
    };
    let replicas = ["galera", "galera", "galera"];
    assert!(!join(replicas, 4567, 4567, None));
    assert!(!join(["a", "b", "c"], 4567, 4567, Some(119.0)));
    assert!(!join(["a", "b", "c"], 4567, 4567, Some(125.0)));
    // Who asks doesn't reach what he asks for, or only by another port.
    assert!(join(["a", "b", "c"], 4567, 4567, None));
    assert!(join(["a", "b", "c"], 4567, 6379, Some(119.0)));
    assert!(join(replicas, 4567, 6379, None));
    assert!(join(["galera", "galera", "c"], 4567, 4567, None));
}

#[test]
fn designed_relays_are_not_reported() {
    let (_, relay, _) = ends();
    let (web, tls, grpc) = (Some("http"), Some("tls"), Some("http2"));
    let added = |(a, b)| (a + 130, b - 40);
    // An ingress, one that passes TLS through, one that ends it; each first used late.
    for (front, back) in [
        ((80, web), (8080, web)),
        ((443, tls), (8443, tls)),
        ((443, tls), (8080, web)),
        ((50_051, grpc), (9090, grpc)),
        ((443, tls), (50_051, grpc)),
    ] {
        for change in [added, |sizes| sizes] {
            let mut bench = settled(&relay);
            forward(&mut bench, 120.0, front, back, change);
            assert!(!bench.alerts(), "{:?}", bench.findings);
        }
    }
    // A pooler and an L4 load balancer.
    for port in [6432, 5432] {
        let mut bench = settled(&relay);
        forward(&mut bench, 120.0, (port, PG), (5432, PG), |sizes| sizes);
        assert!(!bench.alerts(), "{:?}", bench.findings);
    }
    // A relay of something of one's own, there from the start.
    let mut bench = settled(&relay);
    forward(&mut bench, 1.0, (9000, None), (9001, None), |sizes| sizes);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn what_is_spoken_is_known_before_an_exchange_is_over() {
    let (client, relay, target) = ends();
    let mut bench = settled(&relay);
    let front = Call::new(&mut bench, 120.0, (&client, &relay), 15_432, PG);
    let back = Call::new(&mut bench, 120.001, (&relay, &target), 5432, PG);
    for (at, (asked, answered)) in (0..).zip(SIZES) {
        let now = 120.0 + f64::from(at) * 1.7;
        for (call, direction, late, bytes) in [
            (&front, Direction::Orig, 0.0, asked),
            (&back, Direction::Orig, 0.001, asked),
            (&back, Direction::Resp, 0.004, answered),
            (&front, Direction::Resp, 0.005, answered),
        ] {
            let start = Timestamp::from_secs_f64(now + late);
            let turn = Turn::new(direction, start, bytes as u32);
            let flow = Arc::clone(&call.flow);
            bench.event(now + late, EventKind::Turn { flow, turn });
        }
    }
    assert!(bench.alerts(), "{:?}", bench.findings);
    let protocols = bench.findings.iter().flat_map(|finding| &finding.evidence);
    let mut protocols = protocols.filter(|evidence| evidence.feature == "relay.protocol");
    assert!(protocols.all(|evidence| evidence.text.starts_with("postgresql is reached")));
}

#[test]
fn an_application_that_asks_its_database_is_not_reported() {
    let (_, relay, _) = ends();
    let mut bench = settled(&relay);
    let asks = |(asked, answered): (u64, u64)| (asked * 3 % 211 + 40, answered * 7 % 1900 + 80);
    forward(&mut bench, 120.0, (9000, None), (5432, PG), asks);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn a_store_that_puts_what_it_is_sent_into_a_database_is_not_reported() {
    let (client, relay, target) = ends();
    for app in [Some("tls"), Some("http2"), None] {
        let mut bench = settled(&relay);
        let mut front = Call::new(&mut bench, 120.0, (&client, &relay), 9443, app);
        let mut back = Call::new(
            &mut bench,
            120.001,
            (&relay, &target),
            27_017,
            Some("mongodb"),
        );
        for (at, (word, size)) in (0..).zip(SIZES) {
            let now = 120.0 + f64::from(at) * 1.7;
            let file = size * 997;
            let (stored, done) = (37 + at as u64 % 3, word * 7 % 311 + 120);
            back.exchange(
                &mut bench,
                now + 0.001,
                0.004,
                (file + 210 + word % 7, stored),
            );
            front.exchange(&mut bench, now, 0.006, (file + 180 + word % 11, done));
        }
        bench.ends(140.0, &back.flow);
        bench.ends(140.001, &front.flow);
        bench.finish(180.0);
        assert!(!bench.alerts(), "{:?}", bench.findings);
    }
}

#[test]
fn a_relay_in_the_baseline_is_not_reported() {
    let (_, relay, _) = ends();
    let mut bench = settled(&relay);
    forward(&mut bench, 120.0, (18_080, PG), (5432, PG), |sizes| sizes);
    let mut bench = bench.learned("relay-pivot");
    forward(&mut bench, 120.0, (18_080, PG), (5432, PG), |sizes| sizes);
    assert!(!bench.alerts(), "{:?}", bench.findings);
}

#[test]
fn memory_is_bounded_when_every_pair_is_a_candidate() {
    let relays: Vec<_> = (0..40)
        .map(|n| pod(&format!("10.244.2.{n}"), &format!("relay-{n}")))
        .collect();
    let mut bench = Bench::new("relay-pivot");
    let limit = bench.state_size().limit;
    for round in 0..60_u16 {
        for relay in &relays {
            let client = pod(&format!("10.244.3.{round}"), "client");
            let secs = f64::from(round) * 0.1;
            let mut front = Call::new(&mut bench, secs, (&client, relay), 1000 + round, None);
            let mut back = Call::new(&mut bench, secs, (relay, &client), 2000 + round, None);
            for (at, sizes) in (0..).zip(SIZES) {
                let now = secs + f64::from(at) * 0.01;
                back.exchange(&mut bench, now + 0.001, 0.002, sizes);
                front.exchange(&mut bench, now, 0.004, sizes);
            }
        }
    }
    assert!(bench.state_size().entries <= limit);
}
