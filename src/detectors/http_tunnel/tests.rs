//! Tunnels of all four ways, slow and quick, and what looks like them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::detectors::testing::{Bench, end, pod};
use crate::dissect::{ByteMix, Carried, HttpBody, HttpRequest, Opening, ShellMarks, TunnelOpened};
use crate::event::Endpoint;
use crate::flow::{Direction, Outcome, Protocol};
use crate::identity::IdentityKind;

const ID: &str = "http-tunnel";

fn ends() -> (Endpoint, Endpoint) {
    (
        pod("10.244.1.7", "web"),
        end("192.0.2.70", IdentityKind::External, None),
    )
}

fn flow(bench: &mut Bench, secs: f64, ends: &(Endpoint, Endpoint)) -> Arc<FlowInfo> {
    bench.open(secs, (&ends.0, &ends.1), Protocol::Tcp, 8080)
}

fn tell(bench: &mut Bench, secs: f64, flow: &Arc<FlowInfo>, transaction: Transaction) {
    let flow = Arc::clone(flow);
    bench.event(secs, EventKind::Transaction { flow, transaction });
}

fn body(bytes: u64, bursts: u32, looks: BodyLooks) -> HttpBody {
    HttpBody {
        bytes,
        bursts,
        looks,
    }
}

/// CONNECT through a proxy, and what is inside.
fn connect(proxy: &Endpoint, client: &Endpoint, target: &str, contents: Vec<Content>) -> Bench {
    let mut bench = Bench::new(ID);
    let flow = bench.open(1.0, (client, proxy), Protocol::Tcp, 3128);
    let opened = TunnelOpened {
        carrier: "connect",
        target: Some(target.into()),
        ..TunnelOpened::default()
    };
    tell(&mut bench, 1.0, &flow, Transaction::TunnelOpened(opened));
    for content in contents {
        let carried = Carried {
            carrier: "connect",
            content,
        };
        tell(&mut bench, 1.2, &flow, Transaction::Carried(carried));
    }
    bench.finish(60.0);
    bench
}

fn noise() -> Content {
    Content::Message(Box::new(Transaction::Opening(Opening {
        direction: Direction::Orig,
        bytes: 200,
        printable: 80,
        longest_printable: 4,
        starts_printable: false,
        framed: false,
        set_bits: 800,
        mix: ByteMix::Random,
        shell: ShellMarks::default(),
    })))
}

#[test]
fn raw_connections_to_what_no_web_client_goes_to() {
    let (web, proxy) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "proxy"));
    let (_, public) = ends();
    let inside = |name| vec![Content::Protocol(name)];
    let cases = [
        (&proxy, &web, "mail.example:443", inside("ssh"), true),
        (&proxy, &web, "192.0.2.9:443", inside("ssh"), true),
        (&proxy, &web, "relay.example:1080", inside("socks"), true),
        (&public, &web, "192.0.2.9:443", vec![noise()], true),
        // Somebody outside makes one of ours reach inside.
        (&web, &public, "10.244.1.20:5432", vec![], true),
        // Ordinary: TLS to named hosts; SSH to fetch sources; a mail server; an old protocol on its own port.
        (&proxy, &web, "hooks.chat.example:443", inside("tls"), false),
        (&proxy, &web, "code.example:22", inside("ssh"), false),
        (&proxy, &web, "mail.example:25", vec![], false),
        (&proxy, &web, "db.example:5432", inside("postgresql"), false),
        (&proxy, &web, "api.example:443", vec![noise()], false),
        (
            &public,
            &web,
            "hooks.chat.example:443",
            inside("tls"),
            false,
        ),
    ];
    for (proxy, client, target, contents, alerts) in cases {
        let bench = connect(proxy, client, target, contents);
        assert_eq!(bench.alerts(), alerts, "{target}: {} bits", bench.bits());
    }
}

#[test]
fn tools_and_contents_that_give_themselves_away() {
    let mut bench = Bench::new(ID);
    let flow = flow(&mut bench, 1.0, &ends());
    let request = HttpRequest {
        tool: Some("httptunnel"),
        ..HttpRequest::default()
    };
    tell(&mut bench, 1.0, &flow, Transaction::HttpRequest(request));
    assert!(bench.alerts());

    let mut bench = Bench::new(ID);
    let exchange = HttpExchange {
        request: body(60, 1, BodyLooks::Carries("ssh")),
        complete: true,
        ..HttpExchange::default()
    };
    tell(&mut bench, 1.0, &flow, Transaction::HttpExchange(exchange));
    assert!(bench.alerts());
}

#[test]
fn both_ways_in_one_exchange() {
    let run = |interleaved, secs, looks| {
        let mut bench = Bench::new(ID);
        let flow = flow(&mut bench, 0.0, &ends());
        let exchange = HttpExchange {
            status: Some(200),
            took: Duration::from_secs(secs),
            request: body(4000, interleaved / 2, looks),
            response: body(9000, interleaved / 2, looks),
            interleaved,
            ..HttpExchange::default()
        };
        tell(
            &mut bench,
            secs as f64,
            &flow,
            Transaction::HttpExchange(exchange),
        );
        bench.finish(1000.0);
        bench.alerts()
    };
    assert!(run(60, 40, BodyLooks::Hidden));
    assert!(run(600, 200, BodyLooks::Plain));
    // An upload whose server answers early; a stream of log lines with a few acknowledgements.
    assert!(!run(2, 60, BodyLooks::Binary));
    assert!(!run(20, 60, BodyLooks::Plain));
}

/// A request that sends for long, and an answer beside it that receives.
fn held(up: (u64, u32), down: Option<(u64, u32)>) -> Bench {
    let mut bench = Bench::new(ID);
    let (one, two) = (
        flow(&mut bench, 0.0, &ends()),
        flow(&mut bench, 0.1, &ends()),
    );
    for (flow, trickle, up) in [(&one, Some(up), true), (&two, down, false)] {
        let Some((secs, bursts)) = trickle else {
            continue;
        };
        let trickle = body(9000, bursts, BodyLooks::Unknown);
        let exchange = HttpExchange {
            status: (!up).then_some(200),
            took: Duration::from_secs(secs),
            request: if up { trickle } else { HttpBody::default() },
            response: if up { HttpBody::default() } else { trickle },
            ..HttpExchange::default()
        };
        tell(
            &mut bench,
            secs as f64,
            flow,
            Transaction::HttpExchange(exchange),
        );
    }
    bench.finish(1000.0);
    bench
}

#[test]
fn one_request_up_and_one_answer_down() {
    assert!(held((40, 12), Some((40, 15))).alerts());
    // Slow: a burst now and then.
    assert!(held((640, 7), Some((640, 6))).alerts());
    // A large upload beside a large download; an upload that trickles alone; a watch that trickles alone.
    assert!(!held((80, 1), Some((80, 1))).alerts());
    assert!(!held((80, 30), None).alerts());
    assert!(!held((1, 1), Some((300, 60))).alerts());
}

/// Polling every `pause` seconds; sizes and looks by number.
fn polled(count: u64, pause: f64, make: impl Fn(u64) -> (HttpBody, HttpBody)) -> Bench {
    polled_by(Bench::new(ID), 0.0, count, pause, make)
}

/// The same from a time on, by a client of which something may be known.
fn polled_by(
    mut bench: Bench,
    from: f64,
    count: u64,
    pause: f64,
    make: impl Fn(u64) -> (HttpBody, HttpBody),
) -> Bench {
    let ends = ends();
    let flow = bench.begin(from, (&ends.0, &ends.1), Protocol::Tcp, 8080);
    for n in 0..count {
        let (request, response) = make(n);
        let exchange = HttpExchange {
            path: "/api/sync".into(),
            status: Some(200),
            took: Duration::from_millis(40),
            request,
            response,
            interleaved: 0,
            complete: true,
        };
        tell(
            &mut bench,
            from + n as f64 * pause,
            &flow,
            Transaction::HttpExchange(exchange),
        );
    }
    bench.finish(from + count as f64 * pause);
    bench
}

/// A client that has been there for a minute.
fn watched() -> Bench {
    let mut bench = Bench::new(ID);
    let db = pod("10.244.1.3", "db");
    for n in 0..20 {
        let at = f64::from(n) * 3.0;
        bench.tcp(at, (&ends().0, &db), 5432, Outcome::Answered, 500);
    }
    bench
}

#[test]
fn polling_with_nothing_to_say() {
    let nothing = || body(0, 1, BodyLooks::Unknown);
    let noise = |bytes| body(bytes, 1, BodyLooks::Binary);
    let relay = |n: u64| match n % 6 {
        0 => (noise(150 + n * 13 % 700), nothing()),
        1 => (nothing(), noise(80 + n * 31 % 900)),
        _ => (nothing(), nothing()),
    };
    assert!(polled_by(watched(), 100.0, 280, 0.14, relay).alerts());
    // So it was from the first moment on; or not so often; or in plain text, as events are asked for.
    assert!(!polled(280, 0.14, relay).alerts());
    assert!(!polled_by(watched(), 100.0, 280, 3.0, relay).alerts());
    let events = |n: u64| match n % 6 {
        0 => (body(150 + n * 13 % 700, 1, BodyLooks::Plain), nothing()),
        1 => (nothing(), body(80 + n * 31 % 900, 1, BodyLooks::Plain)),
        _ => (nothing(), nothing()),
    };
    assert!(!polled_by(watched(), 100.0, 280, 0.14, events).alerts());
    // Calls of an application's own making, begun late: it speaks when it has something to say.
    let calls = |n: u64| (noise(40 + n * 7 % 90), noise(90 + n * 11 % 900));
    assert!(!polled_by(watched(), 100.0, 280, 0.14, calls).alerts());
}

#[test]
fn polling_with_hidden_bodies() {
    let relay = |n: u64| {
        let (up, down) = if n.is_multiple_of(5) {
            (200 + n * 13 % 700, 300 + n * 31 % 4000)
        } else {
            (48, 32)
        };
        (
            body(up, 1, BodyLooks::Hidden),
            body(down, 1, BodyLooks::Hidden),
        )
    };
    assert!(polled(200, 0.3, relay).alerts());
    // With jitter, and slow.
    assert!(polled(200, 4.0, relay).alerts());
    assert!(!polled(20, 0.3, relay).alerts());

    let telemetry = |n: u64| {
        (
            body(900 + n * 7 % 90, 1, BodyLooks::Plain),
            body(2, 1, BodyLooks::Unknown),
        )
    };
    assert!(!polled(500, 0.5, telemetry).alerts());
    // Binary that says so, both ways: calls of an application's own making.
    let calls = |n: u64| {
        (
            body(40 + n * 7 % 90, 1, BodyLooks::Binary),
            body(90 + n * 11 % 900, 1, BodyLooks::Binary),
        )
    };
    assert!(!polled(500, 0.5, calls).alerts());
    // Sealed uploads of one form, answered by a word.
    let sealed = |_| {
        (
            body(512, 1, BodyLooks::Hidden),
            body(2, 1, BodyLooks::Unknown),
        )
    };
    assert!(!polled(500, 0.5, sealed).alerts());
}

#[test]
fn state_is_bounded() {
    let mut bench = Bench::new(ID);
    for n in 0..300_u64 {
        let flow = flow(&mut bench, n as f64, &ends());
        let opened = TunnelOpened {
            carrier: "connect",
            target: Some(format!("192.0.2.{}:{n}", n % 250).into()),
            ..TunnelOpened::default()
        };
        tell(
            &mut bench,
            n as f64,
            &flow,
            Transaction::TunnelOpened(opened),
        );
        let exchange = HttpExchange {
            path: format!("/{n}").into(),
            request: body(n, 1, BodyLooks::Hidden),
            complete: true,
            ..HttpExchange::default()
        };
        tell(
            &mut bench,
            n as f64,
            &flow,
            Transaction::HttpExchange(exchange),
        );
    }
    let findings = bench.finish(400.0);
    assert!(findings.iter().all(|finding| finding.evidence.len() <= 8));
}
