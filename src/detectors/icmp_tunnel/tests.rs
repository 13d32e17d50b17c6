//! Data in echoes either way, and pings that carry none.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::decode::Icmp;
use crate::dissect::Echoes;

/// One ping program of a pod towards a host, and what the detector makes of it.
struct Pings {
    bench: Bench,
    flow: Arc<FlowInfo>,
    echoes: Echoes,
    seq: u16,
}

impl Pings {
    fn new() -> Self {
        let mut bench = Bench::new("icmp-tunnel");
        let flow = Self::flow(&mut bench, "203.0.113.9");
        Self {
            bench,
            flow,
            echoes: Echoes::default(),
            seq: 0,
        }
    }

    fn flow(bench: &mut Bench, to: &str) -> Arc<FlowInfo> {
        let ends = (
            &pod("10.244.1.7", "api"),
            &end(to, IdentityKind::External, None),
        );
        bench.open(0.0, ends, Protocol::Icmp, 0)
    }

    fn echo(&mut self, secs: f64, kind: u8, payload: &[u8]) {
        let header = Icmp {
            kind,
            code: 0,
            id: 77,
            seq: self.seq,
            quoted: None,
            neighbour: None,
        };
        let direction = if kind == 8 {
            Direction::Orig
        } else {
            Direction::Resp
        };
        if let Some(echo) = self.echoes.feed(&header, direction, payload) {
            let flow = Arc::clone(&self.flow);
            let transaction = Transaction::Echo(echo);
            self.bench
                .event(secs, EventKind::Transaction { flow, transaction });
        }
    }

    fn ping(&mut self, secs: f64, ask: &[u8], reply: &[u8]) {
        self.seq = self.seq.wrapping_add(1);
        self.echo(secs, 8, ask);
        self.echo(secs + 0.01, 0, reply);
    }

    /// Another run of the program: a new identifier, a new flow.
    fn restart(&mut self) {
        self.flow = Self::flow(&mut self.bench, "203.0.113.9");
        self.echoes = Echoes::default();
    }
}

fn stamped(secs: f64, filler: &[u8]) -> Vec<u8> {
    let (whole, fraction) = (secs as u64, (secs * 1e6) as u64 % 1_000_000);
    [&whole.to_le_bytes()[..], &fraction.to_le_bytes(), filler].concat()
}

fn counting(len: usize) -> Vec<u8> {
    (0x10..).take(len).map(|n: usize| n as u8).collect()
}

/// Bytes that no compressor would shorten, different for each `n`.
fn noise(n: u64, len: usize) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn a_tunnel_both_ways_is_found_within_seconds() {
    let mut pings = Pings::new();
    for n in 0..8 {
        let (up, down) = (noise(n, 300), noise(n + 1000, 200));
        pings.ping(n as f64 * 0.2, &up, &down);
    }
    assert!(pings.bench.alerts());
    let finding = pings.bench.finish(10.0).last().unwrap();
    assert!(finding.last <= Timestamp::from_secs(2));
    assert_eq!(finding.subject, "203.0.113.9");
    assert!(
        finding.summary.starts_with("sent 2400 bytes"),
        "{}",
        finding.summary
    );
}

#[test]
fn slow_exfiltration_in_the_filler_is_found_though_replies_are_honest() {
    // `ping -c 1 -p <16 bytes>`, once in ten minutes, each run with an identifier of its own.
    let mut pings = Pings::new();
    for n in 0..12 {
        pings.restart();
        let secs = n as f64 * 600.0;
        let payload = stamped(secs, &noise(n, 16).repeat(3)[..40]);
        pings.ping(secs, &payload, &payload);
    }
    assert!(pings.bench.alerts(), "{}", pings.bench.bits());
}

#[test]
fn a_shell_polling_with_empty_pings_is_found() {
    let mut pings = Pings::new();
    for n in 0..200 {
        let secs = f64::from(n) * 0.2;
        match n {
            50 => pings.ping(secs, b"", b"id\n"),
            51 => pings.ping(secs, b"uid=0(root) gid=0(root) groups=0(root)\n", b""),
            120 => pings.ping(secs, b"", b"cat /etc/shadow\n"),
            121 => pings.ping(
                secs,
                b"root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999\n",
                b"",
            ),
            _ => pings.ping(secs, b"", b""),
        }
    }
    assert!(pings.bench.alerts());
}

#[test]
fn a_packet_inside_stands_on_its_own() {
    let packet =
        b"E\0\0\x20\x12\x34\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x35\0\x35\0\x0c\0\0abcd";
    let mut pings = Pings::new();
    pings.ping(0.0, packet, packet);
    assert!(pings.bench.alerts());
}

#[test]
fn monitors_by_any_tool_are_quiet() {
    let mut pings = Pings::new();
    for n in 0..2000_u64 {
        let secs = n as f64 * 10.0;
        let mut busybox = vec![0; 56];
        busybox[..4].copy_from_slice(&(n as u32).wrapping_mul(10_000_019).to_le_bytes());
        // A ping library of Go: time, an id for each run, filler.
        let go = [
            &(n * 1_000_000_007).to_be_bytes()[..],
            &noise(n / 100, 16),
            &[1; 32],
        ]
        .concat();
        let payload = match n % 5 {
            0 => stamped(secs, &counting(40)),
            1 => busybox,
            2 => b"abcdefghijklmnopqrstuvwabcdefghi".to_vec(),
            3 => go,
            _ => b"Prometheus Blackbox Exporter".to_vec(),
        };
        if n % 100 == 0 {
            pings.restart();
        }
        pings.ping(secs, &payload, &payload);
    }
    assert!(pings.bench.findings.is_empty());
}

#[test]
fn path_discovery_and_cut_replies_are_quiet() {
    let mut pings = Pings::new();
    for n in 0..300 {
        let secs = f64::from(n);
        // All sizes up to a jumbo frame.
        let payload = stamped(secs, &counting(24 + 29 * n as usize));
        let returned = payload.len().min(if n % 2 == 0 { 64 } else { 9000 });
        pings.ping(secs, &payload, &payload[..returned]);
    }
    assert!(pings.bench.findings.is_empty());
}

#[test]
fn very_many_pairs_stay_within_bounds_and_blind_nobody() {
    let mut pings = Pings::new();
    let tunnel = Arc::clone(&pings.flow);
    for n in 0..30_000_u32 {
        let to = std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string();
        pings.flow = Pings::flow(&mut pings.bench, &to);
        pings.echoes = Echoes::default();
        let payload = stamped(f64::from(n), &counting(40));
        pings.ping(f64::from(n) * 0.01, &payload, &payload);
        if n % 2000 == 0 {
            pings.flow = Arc::clone(&tunnel);
            pings.echoes = Echoes::default();
            pings.ping(
                f64::from(n) * 0.01,
                &noise(n.into(), 200),
                &noise(u64::from(n) + 7, 200),
            );
        }
    }
    assert!(pings.bench.alerts());
    assert!(
        pings
            .bench
            .findings
            .iter()
            .all(|found| found.subject == "203.0.113.9")
    );
}
