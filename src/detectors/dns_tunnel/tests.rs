//! Tunnels of every encoding, and names that only look like it.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::dissect::Hidden;
use crate::flow::{Outcome, Protocol};
use crate::identity::IdentityKind;

/// A name that carries a counter in an alphabet, as an encoder would.
fn encoded(n: u64, alphabet: &[u8], len: usize) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(alphabet[(state % alphabet.len() as u64) as usize])
        })
        .collect()
}

fn tunnel(gap: f64, queries: u64, len: usize, alphabet: &[u8], query_type: u16) -> Bench {
    let mut bench = Bench::new("dns-tunnel");
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    for n in 0..queries {
        let name = format!("{}.t.cdn-edge.example", encoded(n, alphabet, len));
        bench.dns(n as f64 * gap, (&web, &dns), &name, query_type, None);
    }
    bench.finish(queries as f64 * gap);
    bench
}

#[test]
fn tunnels_are_found_whatever_their_alphabet_type_and_pace() {
    let base32 = b"abcdefghijklmnopqrstuvwxyz234567";
    for (gap, queries, len, alphabet, query_type) in [
        (0.05, 600, 50, &base32[..], 16),            // bulk, TXT
        (0.5, 600, 20, &b"0123456789abcdef"[..], 1), // hexadecimal, A records only
        (10.0, 400, 60, &base32[..], 10),            // slow, NULL
    ] {
        let bench = tunnel(gap, queries, len, alphabet, query_type);
        assert!(bench.alerts(), "type {query_type}: {} bits", bench.bits());
        assert_eq!(bench.findings.last().unwrap().subject, "cdn-edge.example");
    }
}

#[test]
fn a_forwarded_query_counts_for_who_asked() {
    let mut bench = Bench::new("dns-tunnel");
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    let upstream = end("192.0.2.53", IdentityKind::External, None);
    for n in 0..600 {
        let name = format!("{}.t.evil.example", encoded(n, b"abcdefghijklmnop", 40));
        bench.dns(n as f64, (&web, &dns), &name, 16, None);
        bench.dns(n as f64 + 0.1, (&dns, &upstream), &name, 16, None);
    }
    let findings = bench.finish(700.0);
    assert!(!findings.is_empty());
    assert!(findings.iter().all(|finding| finding.actor.ip == web.ip));
}

/// A look-up of a name that there isn't.
fn missing(bench: &mut Bench, at: f64, name: &str) {
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    let flow = bench.open(at, (&web, &dns), Protocol::Udp, 53);
    for response in [false, true] {
        let transaction = Transaction::Dns(DnsMessage {
            response,
            name: name.into(),
            query_type: 1,
            rcode: if response { NO_SUCH_NAME } else { 0 },
            ..DnsMessage::default()
        });
        let flow = Arc::clone(&flow);
        bench.event(at, EventKind::Transaction { flow, transaction });
    }
}

#[test]
fn a_file_sent_in_a_few_full_names_is_found() {
    let base32 = b"abcdefghijklmnopqrstuvwxyz234567";
    // 420 bytes, by a loop in a shell; nobody answers.
    let mut bench = Bench::new("dns-tunnel");
    for n in 0..12 {
        let name = format!("{}.x.pixels.example", encoded(n, base32, 56));
        missing(&mut bench, n as f64 * 0.1, &name);
    }
    bench.finish(10.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

/// A query for a name that hides something.
fn hides(bench: &mut Bench, at: f64, name: &str, hidden: Hidden) {
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    let flow = bench.open(at, (&web, &dns), Protocol::Udp, 53);
    let query = DnsMessage {
        name: name.into(),
        query_type: 1,
        hidden: Some(hidden),
        ..DnsMessage::default()
    };
    bench.says(at, &flow, Transaction::Dns(query));
}

#[test]
fn one_name_is_enough_that_holds_a_file_or_long_text() {
    let name = "h4sicn03.x.example.com";
    let file = Hidden::File { kind: "gzip" };
    for (hidden, alerts) in [
        (file, true),
        (Hidden::Text { bytes: 40 }, true),
        // A short identifier that happens to read so.
        (Hidden::Text { bytes: 16 }, false),
    ] {
        let mut bench = Bench::new("dns-tunnel");
        hides(&mut bench, 0.0, name, hidden);
        bench.finish(10.0);
        assert_eq!(bench.alerts(), alerts, "{hidden:?}: {} bits", bench.bits());
    }
    // Some product's way of asking its maker.
    let mut bench = Bench::new("dns-tunnel");
    for n in 0..50 {
        let name = format!("{n}.{name}");
        hides(&mut bench, f64::from(n) * 600.0, &name, file);
    }
    let mut bench = bench.learned("dns-tunnel");
    hides(&mut bench, 40_000.0, name, file);
    bench.finish(40_010.0);
    assert!(!bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn long_names_that_people_and_services_use_are_left_alone() {
    let hex = b"0123456789abcdef";
    let mut bench = Bench::new("dns-tunnel");
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    for n in 0..12 {
        let at = n as f64;
        // A database each for a dozen tenants, asked for with the company's search list.
        let tenant = format!("tenant-{n}-orders.cluster-ro-{}", encoded(n, hex, 12));
        let host = format!("{tenant}.eu-central-1.rds.amazonaws.com");
        missing(&mut bench, at, &format!("{host}.corp.example.net"));
        // Reputation of files: by MD5 to whom knows none, by SHA-256 to whom knows some.
        missing(
            &mut bench,
            at,
            &format!("{}.md5.list.example", encoded(n, hex, 32)),
        );
        let file = format!("{}.files.verdicts.example", encoded(n, hex, 64));
        if n == 3 {
            bench.dns(at, (&web, &dns), &file, 1, Some([127, 0, 0, 2].into()));
        } else {
            missing(&mut bench, at, &file);
        }
    }
    bench.finish(100.0);
    assert!(!bench.alerts(), "{:?}", bench.findings.last());
}

#[test]
fn honest_resolving_is_left_alone() {
    let mut bench = Bench::new("dns-tunnel");
    let (web, dns) = (pod("10.244.1.7", "web"), pod("10.244.1.2", "kube-dns"));
    let cdn = end("203.0.113.7", IdentityKind::External, None);
    for n in 0..3000_u64 {
        let at = n as f64;
        // Search-list expansion of the same few names, over and over.
        for suffix in [
            ".prod.svc.cluster.local",
            ".svc.cluster.local",
            ".cluster.local",
            "",
        ] {
            let name = format!("api{}.example.com{suffix}", n % 20);
            bench.dns(at, (&web, &dns), &name, 1, None);
        }
        // A CDN with hashed host names, each called.
        let name = format!(
            "{}.cdn.example.net",
            encoded(n % 60, b"0123456789abcdef", 8)
        );
        bench.dns(at, (&web, &dns), &name, 1, Some(cdn.ip));
        bench.flow(
            at,
            (&web, &cdn),
            Protocol::Tcp,
            443,
            Outcome::Answered,
            5000,
        );
        // Reverse look-ups.
        let name = format!("{}.{}.244.10.in-addr.arpa", n % 250, n / 250);
        bench.dns(at, (&web, &dns), &name, 12, None);
    }
    bench.finish(3100.0);
    assert!(
        !bench.alerts(),
        "{} bits: {:?}",
        bench.bits(),
        bench.findings.last()
    );
}

#[test]
fn the_key_and_the_zone_of_a_block_list_carry_nothing() {
    let hex = b"0123456789abcdef";
    let key = "abcdefghijklmnopqrstuvwxyz";
    let mut bench = Bench::new("dns-tunnel");
    // A mail server: who sends, which sites are named, and now and then a digest of an address, by SHA-1.
    for n in 0..200 {
        let at = n as f64 * 30.0;
        missing(
            &mut bench,
            at,
            &format!("{n}.2.0.192.{key}.zen.dq.lists.example"),
        );
        missing(
            &mut bench,
            at,
            &format!("shop-{n}.com.{key}.dbl.dq.lists.example"),
        );
        if n % 6 == 0 {
            let digest = encoded(n, hex, 40);
            missing(&mut bench, at, &format!("{digest}.ebl.mail.example"));
        }
    }
    bench.finish(6000.0);
    assert!(!bench.alerts(), "{} bits", bench.bits());
}
