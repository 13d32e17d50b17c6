//! One address, several holders: each moment has its own name, and doubt has none.

use std::fmt::Write;
use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use spanwatch::testkit::pcap::Recording;
use spanwatch::time::Timestamp;

use crate::command::{Folder, spanwatch};

/// 2026-03-02T09:00:00Z.
const START: i64 = 1_772_442_000;
const ADDRESS: [u8; 4] = [10, 244, 1, 9];

/// A port scan from `ADDRESS` at each of some hours.
fn scans(hours: &[i64]) -> Vec<u8> {
    let mut recording = Recording::with_capacity(0);
    for hour in hours {
        for port in 1..=40_u16 {
            let at = Timestamp::from_secs(START + hour * 3600 + i64::from(port));
            for (from, to, syn) in [
                (ADDRESS, [10, 244, 1, 3], true),
                ([10, 244, 1, 3], ADDRESS, false),
            ] {
                let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64);
                let builder = if syn {
                    builder.tcp(40_000, port, 7, 1024).syn()
                } else {
                    builder.tcp(port, 40_000, 0, 0).rst().ack(8)
                };
                let mut frame = Vec::new();
                builder.write(&mut frame, &[]).unwrap();
                recording.push(at, frame);
            }
        }
    }
    recording.finish()
}

/// `pod,from hour,to hour` lines as an inventory.
fn inventory(lines: &[(&str, i64, i64)]) -> String {
    let ip = Ipv4Addr::from(ADDRESS);
    let mut csv = "ip,namespace,pod,workload,kind,start,end\n".to_owned();
    for (name, from, to) in lines {
        let (start, end) = (START + from * 3600, START + to * 3600);
        writeln!(csv, "{ip},shop,{name}-0,{name},StatefulSet,{start},{end}").unwrap();
    }
    csv
}

fn actors(hours: &[i64], lines: &[(&str, i64, i64)]) -> Vec<(String, String)> {
    let folder = Folder::new();
    let capture = folder.file("scans.pcap", &scans(hours));
    let inventory = folder.file("pods.csv", inventory(lines).as_bytes());
    let run = spanwatch(&["analyze", &capture, "--inventory", &inventory]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.json()
        .iter()
        .map(|alert| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
            (
                text(&alert["actor"]["pod"]),
                text(&alert["attribution"]["confidence"]),
            )
        })
        .collect()
}

#[test]
fn an_address_reused_twice_names_each_pod_in_its_time() {
    let named = actors(
        &[1, 5, 9],
        &[("cart", 0, 3), ("mail", 4, 7), ("blog", 8, 12)],
    );
    let expected = [
        ("cart-0", "exact"),
        ("mail-0", "exact"),
        ("blog-0", "exact"),
    ];
    assert_eq!(
        named,
        expected.map(|(pod, sure)| (pod.to_owned(), sure.to_owned()))
    );
}

#[test]
fn two_claimants_at_once_name_nobody() {
    let named = actors(&[2], &[("cart", 0, 3), ("mail", 1, 7)]);
    assert_eq!(named, [("-".to_owned(), "ambiguous".to_owned())]);
}

#[test]
fn between_two_holders_nobody_is_named() {
    let named = actors(&[5], &[("cart", 0, 3), ("mail", 8, 9)]);
    assert_eq!(named[0].0, "-");
}
