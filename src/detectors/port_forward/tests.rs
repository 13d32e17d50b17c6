//! Streams in clear and in TLS, and what else API servers, kubelets and proxies are asked.

use std::sync::Arc;

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::dissect::TlsClientHello;
use crate::event::Endpoint;
use crate::flow::Protocol;

const KUBELET: u16 = 10_250;
const API: u16 = 6443;
/// Sizes in TLS: a heartbeat, a key, two streams opened, an ordinary question with its answer.
const BEAT: (u64, u64) = (100, 34);
const KEY: (u64, u64) = (31, 75);
const OPENING: (u64, u64) = (246, 50);
const PAGE: (u64, u64) = (240, 1400);

fn api_server() -> Endpoint {
    end("172.18.0.3", IdentityKind::Unknown, None)
}

fn node() -> Endpoint {
    end("172.18.0.2", IdentityKind::Node, None)
}

/// A TLS connection, and what is said after handshake and upgrade, at such pauses.
fn stream(
    bench: &mut Bench,
    (client, server, port): (&Endpoint, &Endpoint, u16),
    alpn: &[&str],
    said: impl IntoIterator<Item = (f64, (u64, u64))>,
) {
    let hello = TlsClientHello {
        alpn: alpn.iter().map(|&protocol| protocol.into()).collect(),
        ..TlsClientHello::default()
    };
    let mut now = 100.0;
    let flow = bench.begin(now, (client, server), Protocol::Tcp, port);
    bench.says(now, &flow, Transaction::TlsClient(hello));
    let upgrade = [(0.0, (300, 1500)), (0.01, (1900, 200)), (0.01, (330, 150))];
    for (number, (pause, (asked, answered))) in (0..).zip(upgrade.into_iter().chain(said)) {
        let before = Timestamp::from_secs_f64(now);
        now += pause;
        let time = Timestamp::from_secs_f64(now);
        let exchange = Exchange {
            number,
            asker: Direction::Orig,
            start: time,
            answer: (answered > 0).then_some(time),
            end: time,
            before,
            asked,
            answered,
        };
        let flow = Arc::clone(&flow);
        let app = Some("tls");
        bench.event(
            now,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    }
    bench.ends(now, &flow);
}

fn forwarding(pause: f64) -> Vec<(f64, (u64, u64))> {
    let once = [(0.0, OPENING), (0.0, OPENING), (0.0, PAGE), (pause, BEAT)];
    std::iter::repeat_n(once, 3).flatten().collect()
}

fn typing() -> Vec<(f64, (u64, u64))> {
    let line = [
        (0.3, KEY),
        (0.2, KEY),
        (0.5, KEY),
        (0.4, KEY),
        (2.0, (31, 900)),
    ];
    std::iter::repeat_n(line, 5).flatten().collect()
}

fn judged(client: &Endpoint, server: &Endpoint, port: u16, said: Vec<(f64, (u64, u64))>) -> bool {
    let mut bench = Bench::new("port-forward");
    stream(&mut bench, (client, server, port), &["http/1.1"], said);
    bench.finish(1e4);
    bench.alerts()
}

#[test]
fn connections_passed_on_through_a_kubelet_fast_and_slow() {
    for (alpn, pause) in [(&["http/1.1"][..], 0.1), (&[], 5.0), (&[], 300.0)] {
        let mut bench = Bench::new("port-forward");
        let ends = (&api_server(), &node(), KUBELET);
        stream(&mut bench, ends, alpn, forwarding(pause));
        bench.finish(1e4);
        assert!(bench.alerts());
        let last = bench.findings.last().unwrap();
        assert!(last.summary.contains("port-forward"), "{}", last.summary);
    }
    // Many connections that say next to nothing: a scan through it.
    let scan = std::iter::repeat_n((0.3, OPENING), 12).collect();
    assert!(judged(&api_server(), &node(), KUBELET, scan));
}

#[test]
fn an_operator_who_types_reads_logs_or_copies_is_at_work() {
    let heartbeats: Vec<_> = std::iter::repeat_n((5.0, BEAT), 200).collect();
    let start = vec![(0.0, OPENING); 4];
    let copy = [start.clone(), vec![(1.0, (9_000_000, 34)); 2]].concat();
    let output = [start, vec![(1.0, (31, 4_000_000)); 3]].concat();
    for said in [typing(), heartbeats, copy, output] {
        assert!(!judged(&api_server(), &node(), KUBELET, said.clone()));
        let laptop = end("192.168.7.9", IdentityKind::Unknown, None);
        assert!(!judged(&laptop, &api_server(), API, said));
    }
}

#[test]
fn a_pod_that_types_into_others_is_not() {
    let web = pod("10.244.1.7", "web");
    assert!(judged(&web, &node(), KUBELET, typing()));
    assert!(judged(&web, &node(), KUBELET, forwarding(2.0)));
}

/// A pod that was there for a minute before.
fn settled(to_api: bool) -> Bench {
    let mut bench = Bench::new("port-forward");
    let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "db"));
    bench.tcp(1.0, (&web, &db), 5432, Outcome::Answered, 500);
    if to_api {
        bench.tcp(2.0, (&web, &api_server()), API, Outcome::Answered, 500);
    }
    bench
}

#[test]
fn kubectl_in_a_pod_that_never_spoke_to_the_api_server() {
    let web = pod("10.244.1.7", "web");
    for said in [typing(), forwarding(1.0)] {
        for known in [false, true] {
            let mut bench = settled(known);
            let ends = (&web, &api_server(), API);
            stream(&mut bench, ends, &["http/1.1"], said.clone());
            bench.finish(1e4);
            // A CI server, a database's operator: it has always spoken to it.
            assert_eq!(bench.alerts(), !known);
        }
    }
}

#[test]
fn ordinary_http_is_no_stream_however_it_is_kept() {
    let scrape: Vec<_> = std::iter::repeat_n((15.0, (180, 60_000)), 60).collect();
    let calls: Vec<_> = std::iter::repeat_n((0.4, (1300, 420)), 100).collect();
    let health: Vec<_> = std::iter::repeat_n((5.0, (118, 173)), 100).collect();
    let watch: Vec<_> = std::iter::repeat_n((30.0, (0, 0)), 100).collect();
    let agent = pod("10.244.1.8", "agent");
    for said in [scrape, calls, health, watch] {
        for (client, server, port) in [
            (&api_server(), &node(), KUBELET),
            (&agent, &node(), KUBELET),
            (&agent, &api_server(), API),
        ] {
            assert!(!judged(client, server, port, said.clone()));
        }
    }
    // Frames of HTTP/2 are short as well.
    let mut bench = Bench::new("port-forward");
    let ends = (&api_server(), &node(), KUBELET);
    stream(&mut bench, ends, &["h2", "http/1.1"], forwarding(1.0));
    // And elsewhere anything may be inside TLS.
    let metrics_server = pod("10.244.1.20", "metrics-server");
    let ends = (&api_server(), &metrics_server, KUBELET);
    stream(&mut bench, ends, &[], forwarding(1.0));
    bench.finish(1e4);
    assert!(bench.findings.is_empty());
}

fn opened(path: &str, protocol: &str, subprotocol: Option<&str>) -> Transaction {
    Transaction::TunnelOpened(TunnelOpened {
        carrier: "upgrade",
        path: Some(path.into()),
        protocol: Some(protocol.into()),
        subprotocol: subprotocol.map(Into::into),
        ..TunnelOpened::default()
    })
}

#[test]
fn forwards_in_clear_are_certain() {
    let lo = end("127.0.0.1", IdentityKind::Unknown, None);
    for (path, pod, subprotocol) in [
        (
            "/api/v1/namespaces/shop/pods/web-1/portforward",
            "shop/web-1",
            None,
        ),
        (
            "/portForward/shop/web-1",
            "shop/web-1",
            Some("SPDY/3.1+portforward.k8s.io"),
        ),
        ("/portforward/MfUA_KIk", "a pod of this node", None),
        ("/cri/portforward/MfUA_KIk", "a pod of this node", None),
    ] {
        let protocol = subprotocol.map_or("spdy/3.1", |_| "websocket");
        let mut bench = Bench::new("port-forward");
        for n in 0..9 {
            let said = [opened(path, protocol, subprotocol)];
            bench.talk(f64::from(n), (&lo, &lo), 35_167, said);
        }
        bench.finish(100.0);
        assert!(bench.alerts(), "{path}");
        assert!(bench.findings.len() <= 5);
        let last = bench.findings.last().unwrap();
        assert!(last.evidence[0].signature_grade);
        assert!(last.summary.contains(pod), "{}", last.summary);
    }
}

#[test]
fn exec_in_clear_is_an_operators_on_a_node_and_nobodys_in_a_pod() {
    let exec = "/api/v1/namespaces/shop/pods/web-1/exec";
    let lo = end("127.0.0.1", IdentityKind::Unknown, None);
    let (web, proxy) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "proxy"));
    for (client, server, alerts) in [
        (&lo, &lo, false),
        (&node(), &proxy, false),
        (&web, &proxy, true),
    ] {
        let mut bench = Bench::new("port-forward");
        let said = [opened(exec, "websocket", Some("v5.channel.k8s.io"))];
        bench.talk(1.0, (client, server), 8001, said);
        bench.finish(100.0);
        assert_eq!(bench.alerts(), alerts);
    }
}

#[test]
fn other_upgrades_are_left_alone() {
    let mut bench = Bench::new("port-forward");
    let (web, browser) = (pod("10.244.1.7", "web"), pod("10.244.1.8", "browser"));
    for (path, protocol, subprotocol) in [
        ("/socket.io/", "websocket", None),
        ("/exec/report/7", "websocket", Some("graphql-ws")),
        ("/containers/3f/exec", "tcp", None),
        ("/", "spdy/3.1", None),
        (
            "/api/v1/namespaces/shop/pods/web-1/log",
            "websocket",
            Some("binary.k8s.io"),
        ),
    ] {
        bench.talk(
            1.0,
            (&browser, &web),
            8080,
            [opened(path, protocol, subprotocol)],
        );
    }
    bench.finish(10.0);
    assert!(bench.findings.is_empty());
}

fn asked(host: &str, port: Option<u16>) -> Transaction {
    Transaction::HttpRequest(HttpRequest {
        host: Some(host.into()),
        host_port: port,
        ..HttpRequest::default()
    })
}

#[test]
fn a_port_that_is_forwarded_into_a_pod_is_called_by_another_number() {
    for (ip, host, pause) in [
        ("127.0.0.1", "localhost", 0.1),
        ("127.0.0.1", "127.0.0.1", 60.0),
        ("::1", "::1", 1800.0),
    ] {
        let lo = end(ip, IdentityKind::Unknown, None);
        let mut bench = Bench::new("port-forward");
        for n in 0..9 {
            bench.talk(
                f64::from(n) * pause,
                (&lo, &lo),
                8080,
                [asked(host, Some(28_080))],
            );
        }
        bench.finish(1e5);
        assert!(bench.alerts(), "{ip}");
        assert!(bench.findings.len() <= 5);
        let last = bench.findings.last().unwrap();
        assert_eq!((last.flows.len(), last.targets.len()), (9, 1));
        assert!(
            last.summary.contains(&format!("{host}:28080")),
            "{}",
            last.summary
        );
    }
}

#[test]
fn what_a_pod_asks_itself_is_not_forwarded() {
    let lo = end("127.0.0.1", IdentityKind::Unknown, None);
    let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "db"));
    for (host, port) in [
        // Probes, sidecars; clients that name no port; a mesh's proxy and others that pass on what they were called.
        ("localhost", Some(8080)),
        ("localhost", None),
        ("cart.shop.svc", Some(80)),
        ("10.244.1.7", Some(80)),
        ("localhost.example", Some(28_080)),
    ] {
        let mut bench = Bench::new("port-forward");
        for n in 0..9 {
            bench.talk(f64::from(n), (&lo, &lo), 8080, [asked(host, port)]);
        }
        bench.finish(100.0);
        assert!(bench.findings.is_empty(), "{host}");
    }
    // A proxy on port 9000 of the pod that leaves the name as it is.
    let mut bench = Bench::new("port-forward");
    for n in 0..9 {
        bench.talk(
            f64::from(n),
            (&lo, &lo),
            9000,
            [asked("localhost", Some(9000))],
        );
        bench.talk(
            f64::from(n),
            (&lo, &lo),
            8080,
            [asked("localhost", Some(9000))],
        );
    }
    // On the network a name may lead anywhere.
    bench.talk(10.0, (&web, &db), 8080, [asked("localhost", Some(28_080))]);
    bench.finish(100.0);
    assert!(bench.findings.is_empty());
}
