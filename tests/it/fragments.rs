//! Traffic in pieces: nmap's `-f`, small links, tunnels over links too narrow for them.

use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::testkit::wire::fragments;

use crate::command::{Folder, repository, spanwatch};
use crate::tunnels::wrapped;

const IPV4: [u8; 2] = [8, 0];

/// The demonstration, each packet cut up by `cut`, which also gets a number that no neighbour has.
fn demo(folder: &Folder, cut: impl Fn(&[u8], u16) -> Vec<Vec<u8>>) -> String {
    let mut pieces = Recording::default();
    let demo = std::fs::read(repository("captures/demo/demo.pcap")).unwrap();
    for (number, (time, frame)) in records(&demo).enumerate() {
        for piece in cut(frame, number as u16) {
            pieces.push(time, piece);
        }
    }
    folder.file("pieces.pcap", &pieces.finish())
}

fn alerts(capture: &str) -> Vec<serde_json::Value> {
    let inventory = "captures/demo/inventory.json";
    let mut alerts = spanwatch(&["analyze", capture, "--inventory", inventory]).json();
    // Frames, and bytes with their headers, are what cutting up changes.
    for alert in &mut alerts {
        alert["coverage"].as_object_mut().unwrap().remove("packets");
        for flow in alert["flows"].as_array_mut().unwrap() {
            for count in ["bytes", "packets"] {
                flow.as_object_mut().unwrap().remove(count).unwrap();
            }
        }
    }
    alerts
}

#[test]
fn the_same_alerts_come_of_traffic_in_tiny_pieces() {
    let folder = Folder::new();
    let expected = alerts("captures/demo/demo.pcap");
    assert!(!expected.is_empty());
    let backwards = demo(&folder, |frame, _| {
        if frame[12..14] != IPV4 {
            return vec![frame.to_vec()];
        }
        let mut pieces = fragments(frame, 24);
        pieces.reverse();
        pieces
    });
    assert_eq!(alerts(&backwards), expected);
}

/// The tunnel's packet is in pieces, and what it carries is only seen once it is whole.
#[test]
fn the_same_alerts_come_of_a_tunnel_in_pieces() {
    let folder = Folder::new();
    let expected = alerts("captures/demo/demo.pcap");
    let narrow = demo(&folder, |frame, number| {
        let mut whole = wrapped(frame);
        whole.drain(12..16); // its VLAN tag
        whole[18..20].copy_from_slice(&number.to_be_bytes());
        fragments(&whole, 72)
    });
    assert_eq!(alerts(&narrow), expected);
}

/// Pieces are counted with their conversation, and one conversation is all there is.
#[test]
fn pieces_make_no_flow_of_their_own() {
    let folder = Folder::new();
    let whole = flows("captures/demo/demo.pcap");
    let cut = demo(&folder, |frame, _| {
        if frame[12..14] == IPV4 {
            fragments(frame, 40)
        } else {
            vec![frame.to_vec()]
        }
    });
    let pieces = flows(&cut);
    assert_eq!(whole.len(), pieces.len());
    let sum = |flows: &[serde_json::Value], field: &str| -> u64 {
        let pairs = flows.iter().filter_map(|flow| flow[field].as_array());
        pairs.flatten().map(|n| n.as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&whole, "payload_bytes"), sum(&pieces, "payload_bytes"));
    // Fragments that were seen again count with no conversation, but in the summary.
    let run = spanwatch(&["analyze", &cut, "--output", "/dev/null"]);
    let copies = run.err.lines().find_map(|line| line.strip_prefix("copies"));
    let copies = copies
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .replace(',', "");
    let frames = sum(&pieces, "packets") + copies.parse::<u64>().unwrap();
    assert_eq!(frames, frames_of_ip(&std::fs::read(&cut).unwrap()));
    // A datagram costs what its fragments do, each with a header of its own.
    assert!(sum(&pieces, "bytes") > sum(&whole, "bytes"));
}

fn frames_of_ip(file: &[u8]) -> u64 {
    records(file)
        .filter(|(_, frame)| frame[12..14] == IPV4)
        .count() as u64
}

fn flows(capture: &str) -> Vec<serde_json::Value> {
    let args = [
        "analyze",
        capture,
        "--quiet",
        "--output",
        "/dev/null",
        "--flows",
        "-",
    ];
    spanwatch(&args).json()
}
