//! Connections to services, as taps before, behind and between the translation show them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::testkit::wire::forwarded;

use crate::command::{Folder, repository, spanwatch};

const DEMO: &str = "captures/demo/demo.pcap";
const INVENTORY: &str = "captures/demo/inventory.json";
/// A pod with a service, where its answers show the service's address: its own, and the service's.
const COREDNS: [[u8; 4]; 2] = [[10, 244, 1, 2], [10, 244, 1, 3]];
const KUBE_DNS: [u8; 4] = [10, 96, 0, 10];
const SOURCE: usize = 26;
const DESTINATION: usize = 30;

fn is_ipv4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

/// UDP and TCP to or from port 53 of a DNS pod.
fn is_dns(frame: &[u8], address: usize) -> bool {
    let port = if address == SOURCE { 34 } else { 36 };
    is_ipv4(frame)
        && matches!(frame[23], 6 | 17)
        && COREDNS
            .iter()
            .any(|pod| frame[address..address + 4] == *pod)
        && frame[port..port + 2] == [0, 53]
}

fn with_address(frame: &[u8], at: usize, address: [u8; 4]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + 4].copy_from_slice(&address);
    frame
}

fn demo(folder: &Folder, name: &str, shown: impl Fn(&[u8]) -> Vec<(u64, Vec<u8>)>) -> String {
    let mut tap = Recording::default();
    for (time, frame) in records(&std::fs::read(repository(DEMO)).unwrap()) {
        for (micros, frame) in shown(frame) {
            tap.push(time.after(Duration::from_micros(micros)), frame);
        }
    }
    folder.file(name, &tap.finish())
}

fn alerts(captures: &[&str]) -> Vec<Value> {
    let options = ["--inventory", INVENTORY, "--format", "json"];
    let mut alerts = spanwatch(&[&["analyze"], captures, &options].concat()).json();
    for alert in &mut alerts {
        alert["coverage"].as_object_mut().unwrap().remove("packets");
    }
    alerts
}

/// The flows by their ends and start, without what was said of copies and services, and how many had a service.
fn flows(captures: &[&str]) -> (BTreeMap<String, Value>, usize) {
    let options = [
        "--inventory",
        INVENTORY,
        "-q",
        "-o",
        "/dev/null",
        "--flows",
        "-",
    ];
    let flows = spanwatch(&[&["analyze"], captures, &options].concat()).json();
    let mut through = 0;
    let mut table = BTreeMap::new();
    for mut flow in flows {
        let fields = flow.as_object_mut().unwrap();
        fields.remove("copies");
        fields.remove("copied_bytes");
        if let Some(service) = fields.remove("service") {
            assert_eq!(
                (&service["ip"], &service["port"]),
                (&json!("10.96.0.10"), &json!(53))
            );
            assert_eq!(service["identity"], "service");
            through += 1;
        }
        let key = format!(
            "{} {} {}",
            fields["community_id"], fields["start"], fields["proto"]
        );
        assert!(table.insert(key, flow).is_none());
    }
    (table, through)
}

/// Pods speak to DNS pods elsewhere: requests show the pod, answers the service.
#[test]
fn a_connection_split_by_translation_is_one_conversation() {
    let folder = Folder::new();
    let split = demo(&folder, "split.pcap", |frame| {
        if is_dns(frame, SOURCE) {
            vec![(0, with_address(frame, SOURCE, KUBE_DNS))]
        } else {
            vec![(0, frame.to_vec())]
        }
    });
    let (plain, _) = flows(&[DEMO]);
    let (stitched, through) = flows(&[&split]);
    assert!(through > 100, "{through}");
    assert_eq!(stitched, plain);
    assert_eq!(alerts(&[&split]), alerts(&[DEMO]));
}

/// Before translation and behind it on one bridge without netfilter, or on the client's interface and the bridge.
#[test]
fn a_connection_seen_before_and_after_translation_is_one_conversation() {
    let folder = Folder::new();
    let (plain, _) = flows(&[DEMO]);
    let routed = |frame: &[u8]| forwarded(frame, [2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2]);
    let both = demo(&folder, "both.pcap", |frame| {
        let first = if is_dns(frame, DESTINATION) {
            with_address(frame, DESTINATION, KUBE_DNS)
        } else {
            frame.to_vec()
        };
        if is_ipv4(frame) {
            vec![(0, first), (5, routed(frame))]
        } else {
            vec![(0, first)]
        }
    });
    let (seen, through) = flows(&[&both]);
    assert!(through > 100, "{through}");
    assert_eq!(seen, plain);

    let clients = demo(&folder, "clients.pcap", |frame| {
        let mut frame = frame.to_vec();
        for address in [SOURCE, DESTINATION] {
            if is_dns(&frame, address) {
                frame = with_address(&frame, address, KUBE_DNS);
            }
        }
        vec![(0, frame)]
    });
    let (seen, through) = flows(&[&clients, DEMO]);
    assert!(through > 100, "{through}");
    assert_eq!(seen.len(), plain.len());
    let names = |flows: &BTreeMap<String, Value>| {
        flows
            .values()
            .map(|flow| {
                (
                    flow["src"].clone(),
                    flow["dst"].clone(),
                    flow["packets"].clone(),
                )
            })
            .map(|row| serde_json::to_string(&row).unwrap())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&seen), names(&plain));
    assert_eq!(alerts(&[&clients, DEMO]), alerts(&[DEMO]));
}

/// The uplink shows the node where the bridge shows the pod.
#[test]
fn a_masqueraded_connection_is_the_pod_s() {
    const NODE: [u8; 4] = [172, 18, 0, 2];
    const CIDR: [u8; 3] = [10, 244, 1];
    let folder = Folder::new();
    let outside = |frame: &[u8]| {
        let pod = |at: usize| frame[at..at + 3] == CIDR;
        is_ipv4(frame) && pod(SOURCE) != pod(DESTINATION)
    };
    let uplink = demo(&folder, "uplink.pcap", |frame| {
        if !outside(frame) {
            return Vec::new();
        }
        let outbound = frame[SOURCE..SOURCE + 3] == CIDR;
        let (address, micros) = if outbound {
            (SOURCE, 30)
        } else {
            (DESTINATION, 1)
        };
        let masqueraded = with_address(frame, address, NODE);
        vec![(
            micros,
            forwarded(&masqueraded, [2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2]),
        )]
    });
    let (plain, _) = flows(&[DEMO]);
    let options = [
        "--inventory",
        INVENTORY,
        "-q",
        "-o",
        "/dev/null",
        "--flows",
        "-",
    ];
    let log = spanwatch(&[&["analyze", DEMO, &uplink][..], &options].concat()).json();
    assert_eq!(log.len(), plain.len());
    let masked: Vec<_> = log
        .iter()
        .filter(|flow| flow.get("masquerade").is_some())
        .collect();
    assert!(!masked.is_empty());
    for flow in masked {
        assert_eq!(flow["masquerade"]["ip"], "172.18.0.2");
        assert!(
            flow["src"]["ip"].as_str().unwrap().starts_with("10.244.1."),
            "{flow}"
        );
    }
    assert!(
        log.iter()
            .all(|flow| flow["src"]["ip"] != "172.18.0.2" && flow["dst"]["ip"] != "172.18.0.2")
    );
}
