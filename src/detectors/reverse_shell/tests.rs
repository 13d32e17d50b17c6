//! Shells of every kind, and conversations that look like them.

use std::sync::Arc;

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::dissect::{ByteMix, TlsClientHello};
use crate::event::Endpoint;
use crate::testkit::rng::Rng;
use Direction::{Orig, Resp};

const PORT: u16 = 4444;

fn outside() -> Endpoint {
    end("192.0.2.90", IdentityKind::External, None)
}

fn web() -> Endpoint {
    pod("10.244.1.7", "web")
}

fn exchange(number: u32, asker: Direction, secs: f64, pause: f64, sizes: (u64, u64)) -> Exchange {
    let at = Timestamp::from_secs_f64;
    Exchange {
        number,
        asker,
        start: at(secs),
        answer: (sizes.1 > 0).then(|| at(secs + 0.01)),
        end: at(secs + 0.05),
        before: at(secs - pause),
        asked: sizes.0,
        answered: sizes.1,
    }
}

/// A conversation on a bench.
struct Talk {
    bench: Bench,
    flow: Arc<FlowInfo>,
    app: Option<&'static str>,
    now: f64,
    number: u32,
}

impl Talk {
    fn new(
        bench: Bench,
        ends: (&Endpoint, &Endpoint),
        port: u16,
        app: Option<&'static str>,
    ) -> Self {
        let mut bench = bench;
        let flow = bench.begin(100.0, ends, Protocol::Tcp, port);
        let mut talk = Self {
            bench,
            flow,
            app,
            now: 100.0,
            number: 0,
        };
        talk.says(Orig, 0.0, (200, 100));
        talk
    }

    fn says(&mut self, asker: Direction, pause: f64, sizes: (u64, u64)) {
        self.now += pause;
        let exchange = exchange(self.number, asker, self.now, pause, sizes);
        self.number += 1;
        self.now += 0.05;
        let flow = Arc::clone(&self.flow);
        let app = self.app;
        self.bench.event(
            self.now,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }

    fn tells(&mut self, transaction: Transaction) {
        let flow = Arc::clone(&self.flow);
        let kind = EventKind::Transaction { flow, transaction };
        self.bench.event(self.now, kind);
    }

    fn marks(&mut self, direction: Direction, marks: u8) {
        self.tells(opening(direction, marks));
    }

    /// The same inside something else.
    fn carried(&mut self, carrier: &'static str, direction: Direction, marks: u8) {
        let content = Content::Message(Box::new(opening(direction, marks)));
        self.tells(Transaction::Carried(Carried { carrier, content }));
    }

    /// Commands as somebody types them, and answers.
    fn types(&mut self, asker: Direction, commands: usize) {
        let mut rng = Rng::new(5);
        for _ in 0..commands {
            let pause = Duration::from_millis(600) + rng.pause(Duration::from_secs(5));
            let sizes = (rng.within(3..30), rng.within(20..900));
            self.says(asker, pause.as_secs_f64(), sizes);
        }
    }

    fn over(mut self) -> Bench {
        self.bench.ends(self.now + 1.0, &self.flow);
        self.bench
    }
}

fn opening(direction: Direction, marks: u8) -> Transaction {
    Transaction::Opening(Opening {
        direction,
        bytes: 30,
        printable: 30,
        longest_printable: 30,
        starts_printable: true,
        framed: false,
        set_bits: 100,
        mix: ByteMix::Text,
        shell: ShellMarks(marks),
    })
}

/// A pod that was there before, and asks DNS for names.
fn watched(client: &Endpoint) -> Bench {
    let mut bench = Bench::new("reverse-shell");
    let dns = pod("10.244.1.2", "dns");
    let site = "203.0.113.9".parse().unwrap();
    bench.dns(1.0, (client, &dns), "api.example.com", 1, Some(site));
    let site = end("203.0.113.9", IdentityKind::External, None);
    bench.tcp(
        1.0,
        (client, &site),
        443,
        crate::flow::Outcome::Answered,
        500,
    );
    bench
}

fn reverse(app: Option<&'static str>) -> Talk {
    Talk::new(watched(&web()), (&web(), &outside()), PORT, app)
}

#[test]
fn a_shell_is_known_by_who_asks() {
    let mut talk = reverse(None);
    talk.types(Resp, 3);
    assert!(talk.now - 100.0 < 30.0, "half a minute of typing");
    let bench = talk.over();
    assert!(bench.alerts(), "{}", bench.bits());
    let finding = bench.findings.last().unwrap();
    assert_eq!(finding.actor.ip, web().ip);
    assert_eq!(finding.targets[0].port, Some(PORT));
}

#[test]
fn tls_hides_nothing() {
    let mut talk = reverse(Some("tls"));
    talk.tells(Transaction::TlsClient(TlsClientHello::default()));
    talk.types(Resp, 5);
    assert!(talk.over().alerts());
}

#[test]
fn scripted_commands_need_no_hands() {
    let mut talk = reverse(None);
    for _ in 0..8 {
        talk.says(Resp, 2.0, (60, 700));
    }
    assert!(talk.over().alerts());
}

#[test]
fn shells_say_so_themselves() {
    let mut talk = Talk::new(
        Bench::new("reverse-shell"),
        (&web(), &outside()),
        PORT,
        None,
    );
    talk.marks(Orig, ShellMarks::WINDOWS | ShellMarks::PROMPT);
    talk.marks(Resp, ShellMarks::COMMAND);
    talk.says(Resp, 3.0, (4, 500));
    let bench = talk.over();
    assert!(bench.alerts());
    assert!(
        bench.findings[0]
            .evidence
            .iter()
            .any(|one| one.signature_grade)
    );
}

#[test]
fn a_proxy_hides_no_shell() {
    let (prompt, command) = (ShellMarks::PROMPT, ShellMarks::COMMAND);
    for (carrier, answer, alerts) in [
        ("socks", ShellMarks::OUTPUT | prompt, true),
        // Commands alone are what text protocols have, too.
        ("socks", 0, false),
        // An upgrade to something else is told of as a tunnel.
        ("upgrade", ShellMarks::OUTPUT | prompt, false),
    ] {
        let mut talk = Talk::new(watched(&web()), (&web(), &outside()), 1080, Some("socks"));
        talk.carried(carrier, Orig, answer);
        talk.carried(carrier, Resp, command);
        talk.types(Resp, 4);
        let bench = talk.over();
        assert_eq!(bench.alerts(), alerts, "{carrier}: {}", bench.bits());
    }
}

#[test]
fn a_few_commands_in_a_websocket_are_found_by_their_text() {
    // Whoever opened it, and types on the page of a console, is served a shell by design.
    for (asks, answers, alerts) in [(Resp, Orig, true), (Orig, Resp, false)] {
        let mut talk = Talk::new(watched(&web()), (&web(), &outside()), 8080, Some("http"));
        talk.carried("websocket", asks, ShellMarks::COMMAND);
        talk.carried("websocket", answers, ShellMarks::OUTPUT);
        talk.types(asks, 2);
        let bench = talk.over();
        assert_eq!(bench.alerts(), alerts, "{asks:?}: {}", bench.bits());
    }
}

#[test]
fn a_bind_shell_in_another_pod_is_found_by_its_text_or_by_the_hands() {
    let (client, server) = (pod("10.244.1.8", "client"), pod("10.244.1.9", "old"));
    let mut talk = Talk::new(watched(&client), (&client, &server), 31337, None);
    talk.marks(Orig, ShellMarks::COMMAND);
    talk.marks(Resp, ShellMarks::OUTPUT);
    talk.types(Orig, 2);
    assert!(talk.over().alerts());

    let mut talk = Talk::new(watched(&client), (&client, &server), 31337, None);
    talk.types(Orig, 6);
    let bench = talk.over();
    assert!(bench.alerts(), "{}", bench.bits());
    assert_eq!(bench.findings[0].actor.ip, client.ip);
}

#[test]
fn a_bind_shell_inside_tls_is_found_by_how_it_is_asked_for() {
    let (client, server) = (pod("10.244.1.8", "client"), pod("10.244.1.9", "old"));
    for (sni, alerts) in [("10.244.1.9", true), ("old.legacy.svc", false)] {
        let mut talk = Talk::new(watched(&client), (&client, &server), 8443, Some("tls"));
        let hello = TlsClientHello {
            sni: Some(sni.into()),
            ..TlsClientHello::default()
        };
        talk.tells(Transaction::TlsClient(hello));
        // As a script sends them.
        for answer in [61, 140, 1900, 88] {
            talk.says(Orig, 4.0, (31, answer));
        }
        let bench = talk.over();
        assert_eq!(bench.alerts(), alerts, "{sni}: {}", bench.bits());
    }
}

#[test]
fn a_bind_shell_inside_tls_that_is_called_from_outside_is_a_port_that_nobody_else_calls() {
    let (server, other) = (pod("10.244.1.9", "old"), pod("10.244.1.8", "client"));
    for (before, caller, sni, alerts) in [
        (true, None, None, true),
        (true, None, Some("10.244.1.9"), true),
        // Where a name is asked for, hands alone are no shell's.
        (true, None, Some("old.example.com"), false),
        // A pod that was just seen may have listened for long.
        (false, None, None, false),
        // A service has others who call it.
        (true, Some(&other), None, false),
    ] {
        let mut bench = Bench::new("reverse-shell");
        if before {
            let answered = crate::flow::Outcome::Answered;
            bench.tcp(1.0, (&server, &other), 5432, answered, 500);
        }
        if let Some(caller) = caller {
            let answered = crate::flow::Outcome::Answered;
            bench.tcp(90.0, (caller, &server), 8443, answered, 500);
        }
        let mut talk = Talk::new(bench, (&outside(), &server), 8443, Some("tls"));
        let flow = Arc::clone(&talk.flow);
        let outcome = crate::flow::Outcome::Answered;
        talk.bench
            .event(100.0, EventKind::FlowOutcome { flow, outcome });
        let hello = TlsClientHello {
            sni: sni.map(Into::into),
            ..TlsClientHello::default()
        };
        talk.tells(Transaction::TlsClient(hello));
        talk.types(Orig, 6);
        let bench = talk.over();
        let case = format!("{before} {} {sni:?}", caller.is_some());
        assert_eq!(bench.alerts(), alerts, "{case}: {}", bench.bits());
        if alerts {
            assert_eq!(bench.findings[0].actor.ip, server.ip);
        }
    }
}

#[test]
fn a_queue_of_somebodys_own_hands_out_commands() {
    let managed = |named: bool| {
        let mut bench = watched(&web());
        if named {
            let (resolver, found) = (pod("10.244.1.2", "dns"), Some(outside().ip));
            let ends = (&web(), &resolver);
            bench.dns(90.0, ends, "cache.example.com", 1, found);
        }
        bench
    };
    let results = (20..900, true);
    // A worker keeps what came of a job in the same place.
    let kept = (60..140, false);
    let acknowledgements = (5..6, false);
    for (named, (answers, alerts)) in [
        (false, results),
        (false, kept),
        (false, acknowledgements),
        // One that is found by name is the workload's own, perhaps.
        (true, (20..900, false)),
    ] {
        let ends = (&web(), &outside());
        let mut talk = Talk::new(managed(named), ends, 6379, Some("redis"));
        let mut rng = Rng::new(5);
        for _ in 0..6 {
            let pause = 0.6 + rng.pause(Duration::from_secs(5)).as_secs_f64();
            let sizes = (rng.within(20..50), rng.within(answers.clone()));
            talk.says(Resp, pause, sizes);
        }
        let bench = talk.over();
        assert_eq!(
            bench.alerts(),
            alerts,
            "{named} {answers:?}: {}",
            bench.bits()
        );
    }
}

#[test]
fn keys_typed_one_by_one_count() {
    let (client, server) = (pod("10.244.1.8", "client"), pod("10.244.1.9", "old"));
    let mut talk = Talk::new(watched(&client), (&client, &server), 31337, Some("tls"));
    talk.tells(Transaction::TlsClient(TlsClientHello::default()));
    let mut rng = Rng::new(3);
    for command in 0..5 {
        talk.says(Orig, 3.0 + f64::from(command) * 4.0, (23, 23));
        for _ in 0..6 {
            talk.says(Orig, 0.08 + rng.below(200) as f64 / 1e3, (23, 23));
        }
        talk.says(Orig, 0.2, (23, 300 + 200 * rng.below(5)));
    }
    let bench = talk.over();
    assert!(bench.alerts(), "{}", bench.bits());
}

#[test]
fn servers_that_greet_are_servers() {
    let mut talk = reverse(None);
    talk.number = 0;
    talk.says(Resp, 0.0, (40, 20));
    talk.types(Orig, 12);
    assert!(!talk.over().alerts());
}

#[test]
fn queues_that_hand_out_messages_are_acknowledged() {
    let queue = pod("10.244.1.20", "queue");
    for other in [outside(), queue] {
        let mut talk = Talk::new(watched(&web()), (&web(), &other), 7000, None);
        let mut rng = Rng::new(9);
        for _ in 0..40 {
            let pause = 0.6 + rng.pause(Duration::from_secs(4)).as_secs_f64();
            talk.says(Resp, pause, (rng.within(100..2000), 21));
        }
        let bench = talk.over();
        assert!(!bench.alerts(), "{}", bench.bits());
    }
}

#[test]
fn agents_that_were_always_there_and_go_by_name_are_left_alone() {
    // An agent that takes work over TLS from a server it finds by name, and has done so from the start.
    let agent = pod("10.244.1.30", "agent");
    let mut bench = Bench::new("reverse-shell");
    let dns = pod("10.244.1.2", "dns");
    bench.dns(
        100.0,
        (&agent, &dns),
        "hub.example.com",
        1,
        Some(outside().ip),
    );
    let mut talk = Talk::new(bench, (&agent, &outside()), 443, Some("tls"));
    talk.types(Resp, 30);
    let bench = talk.over();
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn workers_inside_and_both_ways_chatter_are_left_alone() {
    let (worker, queue) = (pod("10.244.1.31", "worker"), pod("10.244.1.20", "queue"));
    let mut talk = Talk::new(watched(&worker), (&worker, &queue), 4730, None);
    talk.types(Resp, 30);
    assert!(!talk.over().alerts());

    let mut talk = reverse(Some("tls"));
    for _ in 0..20 {
        talk.types(Resp, 1);
        talk.types(Orig, 1);
    }
    assert!(!talk.over().alerts());
}

#[test]
fn database_clients_and_their_admins_are_left_alone() {
    let (admin, mongo) = (pod("10.244.1.10", "dbadmin"), pod("10.244.1.27", "mongo"));
    let mut talk = Talk::new(watched(&admin), (&admin, &mongo), 27017, None);
    talk.types(Orig, 20);
    let bench = talk.over();
    assert!(!bench.alerts(), "{}", bench.bits());
    // What is recognised is not looked at.
    let mut talk = Talk::new(watched(&admin), (&admin, &mongo), 2222, Some("ssh"));
    talk.types(Orig, 20);
    assert!(talk.over().findings.is_empty());
}

#[test]
fn many_sessions_are_bounded() {
    let mut bench = Bench::new("reverse-shell");
    for n in 0..20_000_u32 {
        let flow = bench.begin(f64::from(n), (&web(), &outside()), Protocol::Tcp, PORT);
        let exchange = exchange(1, Orig, f64::from(n), 1.0, (10, 10));
        let app = None;
        bench.event(
            f64::from(n),
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }
    let size = bench.state_size();
    assert!(size.entries <= size.limit);
}

#[test]
fn neither_a_banner_nor_datagrams_hide_a_shells_text() {
    let ends = (&web(), &outside());
    let mut talk = Talk::new(watched(&web()), ends, PORT, Some("nats"));
    talk.marks(Resp, ShellMarks::COMMAND);
    talk.marks(Orig, ShellMarks::OUTPUT);
    talk.says(Resp, 3.0, (9, 200));
    assert!(talk.bench.alerts(), "{} bits", talk.bench.bits());
    // Without a shell's text the same is what queues do.
    let mut talk = Talk::new(watched(&web()), ends, PORT, Some("nats"));
    for n in 0..20 {
        talk.says(Resp, 3.0, (9, 200 + n));
    }
    assert!(!talk.bench.alerts());

    let mut bench = watched(&web());
    let flow = bench.begin(100.0, ends, Protocol::Udp, PORT);
    bench.says(101.0, &flow, opening(Resp, ShellMarks::COMMAND));
    bench.says(101.1, &flow, opening(Orig, ShellMarks::OUTPUT));
    bench.ends(160.0, &flow);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn http_that_is_left_for_a_shell() {
    use crate::dissect::{HttpRequest, TunnelOpened};
    let opened = |carrier| {
        Transaction::TunnelOpened(TunnelOpened {
            carrier,
            ..TunnelOpened::default()
        })
    };
    let talk = |before: Option<Transaction>, between: bool, named: bool| {
        let mut talk = reverse(Some("http"));
        if named {
            let resolver = pod("10.244.1.2", "dns");
            let ends = (&web(), &resolver);
            let found = Some(outside().ip);
            talk.bench.dns(talk.now, ends, "partner.example", 1, found);
        }
        if let Some(before) = before {
            talk.tells(before);
        }
        let mut rng = Rng::new(5);
        for _ in 0..12 {
            let pause = 0.6 + rng.pause(Duration::from_secs(5)).as_secs_f64();
            talk.says(Resp, pause, (rng.within(3..30), rng.within(20..900)));
            if between {
                talk.tells(Transaction::HttpRequest(HttpRequest::default()));
            }
        }
        talk.over()
    };
    assert!(
        talk(None, false, false).alerts(),
        "raw after the first answer"
    );
    let websocket = || Some(opened("websocket"));
    assert!(talk(websocket(), false, false).alerts());
    // Agents are asked by servers that have names.
    assert!(!talk(websocket(), false, true).alerts());
    // Answers that come late, each asked for by a request; consoles of containers' APIs.
    assert!(talk(None, true, false).findings.is_empty());
    assert!(
        talk(Some(opened("upgrade")), false, false)
            .findings
            .is_empty()
    );
}

#[test]
fn a_session_taken_up_in_the_middle_is_a_shell_by_its_text_alone() {
    let session = |marks: Option<u8>| {
        let mut bench = watched(&web());
        bench.begun = false;
        let mut talk = Talk::new(bench, (&web(), &outside()), PORT, None);
        if let Some(marks) = marks {
            talk.marks(Orig, marks);
        }
        talk.types(Resp, 40);
        talk.over().alerts()
    };
    let marks = ShellMarks::NO_TERMINAL | ShellMarks::PROMPT;
    assert!(session(Some(marks)));
    assert!(!session(None));
}

#[test]
fn a_clock_has_no_hands() {
    // The leader of a ZooKeeper pings its followers every second, in 20 bytes; a write falls between now and then.
    let mut rng = Rng::new(9);
    for (clock, told) in [(true, false), (false, true)] {
        let mut talk = Talk::new(watched(&web()), (&web(), &outside()), PORT, None);
        for n in 0..200 {
            let pause = if clock && n % 4 > 0 {
                0.995 + rng.below(20) as f64 / 1e3
            } else {
                0.1 + rng.below(1200) as f64 / 1e3
            };
            talk.says(Resp, pause, (20, 20));
        }
        let bench = talk.over();
        let keys = |finding: &crate::detectors::Finding| {
            let evidence = &finding.evidence;
            evidence
                .iter()
                .any(|one| one.feature == "session.keystrokes")
        };
        assert_eq!(
            bench.findings.iter().any(keys),
            told,
            "{} bits",
            bench.bits()
        );
    }
}
