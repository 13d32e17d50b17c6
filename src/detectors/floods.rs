//! A million names, or peers, of one pod take no more room than is said, and don't hide what another pod does meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::testing::{Bench, end, pod};
use crate::dissect::{DnsMessage, Transaction};
use crate::event::{Endpoint, EventKind};
use crate::flow::{Direction, Exchange, Protocol};
use crate::identity::IdentityKind;
use crate::time::Timestamp;

const MANY: u32 = 1_000_000;
/// Within this time, in seconds.
const HOUR: f64 = 3600.0;

/// Numbers that look drawn.
fn mixed(n: u32) -> u64 {
    u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_told(bench: &Bench, of: &Endpoint) -> bool {
    bench.findings.iter().any(|found| found.actor.ip == of.ip)
}

#[test]
fn a_million_names_hide_no_tunnel() {
    let (loud, quiet) = (pod("10.244.1.7", "crawler"), pod("10.244.1.8", "web"));
    let dns = pod("10.244.1.2", "kube-dns");
    let mut bench = Bench::new("dns-tunnel");
    let flows = [&loud, &quiet].map(|one| bench.open(0.0, (one, &dns), Protocol::Udp, 53));
    let mut ask = |at: f64, of: usize, name: String| {
        let query = DnsMessage {
            name: name.into(),
            query_type: 1,
            ..DnsMessage::default()
        };
        bench.says(at, &flows[of], Transaction::Dns(query));
    };
    for n in 0..MANY {
        let at = HOUR * f64::from(n) / f64::from(MANY);
        ask(at, 0, format!("{:016x}.d{}.example", mixed(n), n % 40_000));
        if n.is_multiple_of(5000) {
            let data = [1, 2, 3].map(|part| format!("{:016x}", mixed(n + part)));
            ask(at, 1, format!("{}.t.evil.example", data.concat()));
        }
    }
    assert!(is_told(&bench, &quiet), "{} findings", bench.findings.len());
    let size = bench.state_size();
    assert!(size.entries <= size.limit);
}

#[test]
fn a_million_peers_hide_no_beacon() {
    let (loud, quiet) = (pod("10.244.1.7", "crawler"), pod("10.244.1.12", "api"));
    let db = pod("10.244.1.3", "db");
    let outside = |ip: IpAddr| end(&ip.to_string(), IdentityKind::External, None);
    let mut bench = Bench::new("beacon");
    let call = |bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), whole: bool| {
        let flow = if whole {
            bench.begin(secs, ends, Protocol::Tcp, 443)
        } else {
            bench.open(secs, ends, Protocol::Tcp, 443)
        };
        let at = Timestamp::from_secs_f64;
        let exchange = Exchange {
            number: 0,
            asker: Direction::Orig,
            start: at(secs),
            answer: Some(at(secs + 0.02)),
            end: at(secs + 0.1),
            before: at(secs),
            asked: 310,
            answered: 190,
        };
        let app = Some("tls");
        let flow = Arc::clone(&flow);
        bench.event(
            secs,
            EventKind::Exchange {
                flow,
                exchange,
                app,
            },
        );
    };
    // Both are there from the beginning.
    call(&mut bench, 0.0, (&quiet, &db), true);
    let master = outside([192, 0, 2, 20].into());
    for n in 0..MANY {
        let at = HOUR * f64::from(n) / f64::from(MANY);
        let peer = outside(Ipv4Addr::from(0x0100_0000 + n * 97).into());
        call(&mut bench, at, (&loud, &peer), false);
        // Every half minute, from the fifth on.
        if n.is_multiple_of(MANY / 120) && at > 300.0 {
            call(&mut bench, at, (&quiet, &master), true);
        }
    }
    assert!(is_told(&bench, &quiet), "{} findings", bench.findings.len());
    let size = bench.state_size();
    assert!(size.entries <= size.limit);
}
