//! What is a tunnel, what looks like one, and whose it is.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::dissect::{ShellMarks, TlsClientHello, TlsRecord};

const OUTSIDE: &str = "203.0.113.50";

fn outside(ip: &str) -> Endpoint {
    end(ip, IdentityKind::External, None)
}

fn node(ip: &str) -> Endpoint {
    end(ip, IdentityKind::Node, None)
}

fn open(
    bench: &mut Bench,
    secs: f64,
    ends: (&Endpoint, &Endpoint),
    protocol: Protocol,
    port: u16,
) -> Arc<FlowInfo> {
    let flow = bench.open(secs, ends, protocol, port);
    bench.event(secs, EventKind::FlowOpened(Arc::clone(&flow)));
    flow
}

fn recognise(
    bench: &mut Bench,
    secs: f64,
    flow: &Arc<FlowInfo>,
    app: &'static str,
    answered: bool,
) {
    let known = Arc::clone(flow);
    bench.event(secs, EventKind::Recognised { flow: known, app });
    if answered {
        let flow = Arc::clone(flow);
        let outcome = Outcome::Answered;
        bench.event(secs + 0.1, EventKind::FlowOutcome { flow, outcome });
    }
}

fn greet(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), sni: &str) {
    let flow = open(bench, secs, ends, Protocol::Tcp, 443);
    let hello = TlsClientHello {
        sni: Some(sni.into()),
        ..TlsClientHello::default()
    };
    let transaction = Transaction::TlsClient(hello);
    bench.event(secs, EventKind::Transaction { flow, transaction });
}

#[test]
fn a_handshake_that_is_answered_is_found() {
    for (app, protocol, port) in [
        ("wireguard", Protocol::Udp, 51820),
        ("wireguard", Protocol::Udp, 53),
        ("openvpn", Protocol::Udp, 1194),
        ("openvpn", Protocol::Tcp, 443),
    ] {
        let mut bench = Bench::new("vpn-tunnel");
        let ends = (&pod("10.244.1.7", "api"), &outside(OUTSIDE));
        let flow = open(&mut bench, 0.0, ends, protocol, port);
        recognise(&mut bench, 0.1, &flow, app, true);
        assert!(bench.alerts(), "{app} {port}");
        assert_eq!(bench.findings[0].subject, format!("{OUTSIDE}:{port}"));
    }
}

#[test]
fn without_an_answer_or_between_nodes_it_is_not() {
    let mut bench = Bench::new("vpn-tunnel");
    let ends = (&pod("10.244.1.7", "api"), &outside(OUTSIDE));
    let flow = open(&mut bench, 0.0, ends, Protocol::Udp, 51820);
    recognise(&mut bench, 0.1, &flow, "wireguard", false);
    // A network plugin's encryption between nodes, and a node's way to another cluster.
    for ends in [
        (&node("172.18.0.2"), &node("172.18.0.3")),
        (&node("172.18.0.2"), &outside(OUTSIDE)),
        (&outside(OUTSIDE), &node("172.18.0.2")),
    ] {
        let flow = open(&mut bench, 1.0, ends, Protocol::Udp, 51871);
        recognise(&mut bench, 1.1, &flow, "wireguard", true);
        open(&mut bench, 2.0, ends, Protocol::Other(4), 0);
    }
    // The same, where no inventory says who they are.
    let unknown = |ip| end(ip, IdentityKind::Unknown, None);
    let ends = (&unknown("172.18.0.2"), &unknown("172.18.0.3"));
    let flow = open(&mut bench, 3.0, ends, Protocol::Udp, 51871);
    recognise(&mut bench, 3.1, &flow, "wireguard", true);
    assert!(bench.finish(9.0).is_empty());
}

#[test]
fn a_pod_that_serves_a_tunnel_is_the_actor() {
    let mut bench = Bench::new("vpn-tunnel");
    let ends = (&outside(OUTSIDE), &pod("10.244.1.7", "api"));
    let flow = open(&mut bench, 0.0, ends, Protocol::Udp, 1194);
    recognise(&mut bench, 0.1, &flow, "openvpn", true);
    assert!(bench.alerts());
    let actor: IpAddr = "10.244.1.7".parse().unwrap();
    assert_eq!(bench.findings[0].actor.ip, actor);
}

#[test]
fn packets_in_packets_are_found_for_pods() {
    let mut bench = Bench::new("vpn-tunnel");
    let ends = (&pod("10.244.1.7", "api"), &outside(OUTSIDE));
    let flow = open(&mut bench, 0.0, ends, Protocol::Other(47), 0);
    let outcome = Outcome::Answered;
    bench.event(0.1, EventKind::FlowOutcome { flow, outcome });
    assert!(bench.alerts());
}

#[test]
fn a_header_that_nobody_answers_is_no_tunnel() {
    let (api, site) = (pod("10.244.1.7", "api"), outside("203.0.113.7"));
    for (said, alerts) in [(0, false), (4000, true)] {
        let mut bench = Bench::new("vpn-tunnel");
        for n in 0..50 {
            let at = f64::from(n) * 60.0;
            bench.tcp(at, (&api, &site), 443, Outcome::Answered, 900);
        }
        let mut bench = bench.learned("vpn-tunnel");
        let ends = (&api, &outside(OUTSIDE));
        let flow = open(&mut bench, 0.0, ends, Protocol::Other(47), 0);
        let outcome = Outcome::Silent;
        let kind = EventKind::FlowOutcome {
            flow: Arc::clone(&flow),
            outcome,
        };
        bench.event(5.0, kind);
        bench.carries(9.0, &flow, [said, 0]);
        assert_eq!(bench.alerts(), alerts, "{said} bytes out");
    }
}

fn opening(direction: Direction, bytes: u16, framed: bool, mix: ByteMix) -> Transaction {
    Transaction::Opening(Opening {
        direction,
        bytes,
        printable: bytes / 3,
        longest_printable: 4,
        starts_printable: false,
        framed,
        set_bits: bytes * 4,
        mix,
        shell: ShellMarks::default(),
    })
}

#[test]
fn masked_handshakes_are_told_by_their_lengths() {
    let run = |asked: (u16, bool, ByteMix), answered: (u16, bool, ByteMix)| {
        let mut bench = Bench::new("vpn-tunnel");
        let ends = (&pod("10.244.1.7", "api"), &outside(OUTSIDE));
        let flow = open(&mut bench, 0.0, ends, Protocol::Tcp, 443);
        for (direction, (bytes, framed, mix)) in
            [(Direction::Orig, asked), (Direction::Resp, answered)]
        {
            let transaction = opening(direction, bytes, framed, mix);
            let flow = Arc::clone(&flow);
            bench.event(0.1, EventKind::Transaction { flow, transaction });
        }
        bench.alerts()
    };
    let random = ByteMix::Random;
    assert!(run((88, true, random), (100, true, random)));
    assert!(run((56, true, ByteMix::Structured), (68, true, random)));
    assert!(!run((88, true, random), (101, true, random)));
    assert!(!run((88, false, random), (100, true, random)));
    assert!(!run((60, true, random), (72, true, random)));
    assert!(!run((88, true, ByteMix::Text), (100, true, ByteMix::Text)));
}

#[test]
fn random_names_that_nobody_looked_up_are_tor() {
    let mut bench = Bench::new("vpn-tunnel");
    let client = pod("10.244.1.7", "api");
    for (n, name) in [
        "www.ct7ctrgb6cr7.com",
        "www.e6r5p57kbafwrxj3plz.com",
        "www.q4cyamnc6mtokjurvdclt.com",
    ]
    .into_iter()
    .enumerate()
    {
        let relay = outside(&format!("203.0.113.{n}"));
        greet(&mut bench, n as f64, (&client, &relay), name);
    }
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].subject, "tor");
}

#[test]
fn crawlers_and_odd_names_that_were_looked_up_are_quiet() {
    let mut bench = Bench::new("vpn-tunnel");
    let (client, dns) = (pod("10.244.1.7", "crawler"), pod("10.244.1.2", "coredns"));
    let words = [
        "micro", "wiki", "press", "online", "times", "bahn", "trade", "store", "world", "garden",
    ];
    for n in 0..600_usize {
        let secs = n as f64;
        let ip = std::net::Ipv4Addr::from(0x0b00_0000 + n as u32).to_string();
        let name = if n % 20 == 0 {
            // Odd names, which it looked up.
            let name = format!("www.xq{}zk7j3w.com", n / 20 % 6 + 2);
            bench.dns(secs, (&client, &dns), &name, 1, Some(ip.parse().unwrap()));
            name
        } else {
            // Ordinary ones, looked up before the capture began.
            format!("www.{}{}.com", words[n % 10], words[n / 10 % 10])
        };
        greet(&mut bench, secs + 0.1, (&client, &outside(&ip)), &name);
    }
    assert!(bench.finish(700.0).is_empty());
}

#[test]
fn clients_of_services_are_told_by_the_hosts_they_call() {
    let mut bench = Bench::new("vpn-tunnel");
    let client = pod("10.244.1.7", "api");
    greet(
        &mut bench,
        0.0,
        (&client, &outside(OUTSIDE)),
        "tailscale.com",
    );
    assert!(!bench.alerts(), "a web site is no client");
    greet(
        &mut bench,
        1.0,
        (&client, &outside(OUTSIDE)),
        "controlplane.tailscale.com",
    );
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].subject, "tailscale.com");
}

#[test]
fn what_a_workload_has_always_done_is_no_news() {
    let mut bench = Bench::new("vpn-tunnel");
    let ends = (&pod("10.244.1.7", "gateway"), &outside(OUTSIDE));
    for n in 0..20 {
        bench.flow(
            f64::from(n),
            ends,
            Protocol::Udp,
            51820,
            Outcome::Answered,
            100,
        );
    }
    let mut bench = bench.learned("vpn-tunnel");
    let flow = open(&mut bench, 100.0, ends, Protocol::Udp, 51820);
    recognise(&mut bench, 100.1, &flow, "wireguard", true);
    assert!(bench.finish(101.0).is_empty());
}

/// Both ends' first bytes on a flow that begins a minute after the client was first seen; the name by which it goes elsewhere.
fn speaks(mix: ByteMix, by_name: Option<&str>) -> Bench {
    speaks_as(&pod("10.244.1.7", "api"), mix, by_name.as_slice())
}

fn speaks_as(api: &Endpoint, mix: ByteMix, by_name: &[&str]) -> Bench {
    let server = outside(OUTSIDE);
    let mut bench = Bench::new("vpn-tunnel");
    let resolver = pod("10.244.1.2", "dns");
    for name in by_name {
        let found = Some("203.0.113.7".parse().unwrap());
        bench.dns(1.0, (api, &resolver), name, 1, found);
    }
    open(&mut bench, 2.0, (api, &resolver), Protocol::Udp, 53);
    let flow = open(&mut bench, 62.0, (api, &server), Protocol::Tcp, 8388);
    for direction in [Direction::Orig, Direction::Resp] {
        let opening = Opening {
            direction,
            bytes: 200,
            printable: 74,
            longest_printable: 6,
            starts_printable: false,
            framed: false,
            set_bits: 800,
            mix,
            shell: ShellMarks::default(),
        };
        bench.says(62.1, &flow, Transaction::Opening(opening));
    }
    bench.ends(70.0, &flow);
    bench.finish(80.0);
    bench
}

#[test]
fn random_bytes_to_a_new_bare_address_are_a_tunnel() {
    let bench = speaks(ByteMix::Random, Some("api.vendor.com"));
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert!(!speaks(ByteMix::Structured, Some("api.vendor.com")).alerts());
    assert!(!speaks(ByteMix::Random, None).alerts());
    assert!(!speaks(ByteMix::Random, Some("web.shop.svc.cluster.local")).alerts());
    // Whom no inventory names is a pod if he finds the cluster's services by name.
    let nameless = end("10.244.1.7", IdentityKind::Unknown, None);
    let names = ["api.vendor.com", "web.shop.svc.cluster.local"];
    assert!(speaks_as(&nameless, ByteMix::Random, &names).alerts());
    assert!(!speaks_as(&nameless, ByteMix::Random, &names[..1]).alerts());
}

/// Records of TLS as OpenConnect's: what a server says, a handshake inside with options on its first packets, then requests
/// and what acknowledges them. `larger` is added to each packet but the bare ones.
fn packets(larger: u16) -> Vec<TlsRecord> {
    use Direction::{Orig, Resp};
    let bare = 60;
    let mut said = vec![(Orig, 996), (Resp, 525), (Orig, 992), (Resp, 631)];
    for _ in 0..8 {
        said.extend([
            (Orig, bare + 8 + larger),
            (Resp, bare + 8 + larger),
            (Orig, bare),
        ]);
        said.extend([
            (Orig, bare + 78),
            (Resp, bare),
            (Resp, bare + 184),
            (Orig, bare),
        ]);
        said.extend([(Orig, bare), (Resp, bare)]);
    }
    let each = said.into_iter();
    each.map(|(direction, bytes)| TlsRecord { direction, bytes })
        .collect()
}

fn shows(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), records: &[TlsRecord]) {
    let flow = bench.begin(secs, ends, Protocol::Tcp, 443);
    for (number, part) in records.chunks(40).enumerate() {
        let records = TlsRecords {
            from: number as u16 * 40,
            records: part.to_vec(),
        };
        bench.says(secs, &flow, Transaction::TlsRecords(records));
    }
}

#[test]
fn packets_in_the_records_of_tls_are_a_tunnel() {
    let api = pod("10.244.1.7", "api");
    let mut bench = Bench::new("vpn-tunnel");
    shows(&mut bench, 0.0, (&api, &outside(OUTSIDE)), &packets(0));
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].subject, format!("{OUTSIDE}:443"));
    // No options are so long; nodes have their own tunnels; and what the workload always did isn't new.
    let mut bench = Bench::new("vpn-tunnel");
    shows(&mut bench, 0.0, (&api, &outside(OUTSIDE)), &packets(5));
    shows(
        &mut bench,
        1.0,
        (&node("172.18.0.2"), &outside(OUTSIDE)),
        &packets(0),
    );
    assert!(bench.finish(9.0).is_empty());
    let mut bench = Bench::new("vpn-tunnel");
    for n in 0..50 {
        shows(
            &mut bench,
            f64::from(n) * 600.0,
            (&api, &outside(OUTSIDE)),
            &packets(0),
        );
    }
    let mut bench = bench.learned("vpn-tunnel");
    shows(&mut bench, 40_000.0, (&api, &outside(OUTSIDE)), &packets(0));
    assert!(bench.finish(50_000.0).is_empty());
}
