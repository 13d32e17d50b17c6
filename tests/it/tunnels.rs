//! What pods did, seen on a node's uplink, where it is wrapped.

use etherparse::PacketBuilder;
use serde_json::json;
use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::testkit::wrapped::WRAPS;

use crate::command::{Folder, repository, spanwatch};

/// As Cilium does it: the network identifier is the sender's identity, so it differs between the directions, and the nodes
/// are those of the sender and the receiver.
pub(crate) fn wrapped(frame: &[u8]) -> Vec<u8> {
    let (from, to) = (frame[11], frame[5]);
    wrapped_between([192, 168, 50, from], [192, 168, 50, to], frame)
}

fn wrapped_between(src: [u8; 4], dst: [u8; 4], frame: &[u8]) -> Vec<u8> {
    let (from, to) = (src[3], dst[3]);
    let mut bytes = vec![8, 0, 0, 0, 0, 1, from, 0];
    bytes.extend(frame);
    let mut whole = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2])
        .single_vlan(etherparse::VlanId::try_new(if from < to { 7 } else { 8 }).unwrap())
        .ipv4(src, dst, 64)
        .udp(40000 + u16::from(from), 8472)
        .write(&mut whole, &bytes)
        .unwrap();
    whole
}

#[test]
fn the_same_alerts_come_of_wrapped_traffic() {
    let folder = Folder::new();
    let bare = repository("captures/demo/demo.pcap");
    let mut uplink = Recording::default();
    for (time, frame) in records(&std::fs::read(&bare).unwrap()) {
        uplink.push(time, wrapped(frame));
    }
    let uplink = folder.file("uplink.pcap", &uplink.finish());
    let inventory = "captures/demo/inventory.json";
    let alerts = |capture: &str| {
        let mut alerts = spanwatch(&["analyze", capture, "--inventory", inventory]).json();
        // Bytes on the wire are the one thing that wrapping changes.
        for flow in alerts
            .iter_mut()
            .flat_map(|alert| alert["flows"].as_array_mut().unwrap())
        {
            flow.as_object_mut().unwrap().remove("bytes").unwrap();
        }
        alerts
    };
    let expected = alerts(bare.to_str().unwrap());
    assert!(!expected.is_empty());
    assert_eq!(alerts(&uplink), expected);
}

/// A pod that wraps packets in another's name is not believed.
#[test]
fn a_pod_can_not_speak_for_others_through_a_tunnel_of_its_own() {
    let folder = Folder::new();
    let mut forged = Recording::default();
    for (time, frame) in records(&std::fs::read(repository("captures/demo/demo.pcap")).unwrap()) {
        // From a pod of the inventory (worker) to another.
        forged.push(
            time,
            wrapped_between([10, 244, 1, 14], [10, 244, 1, 10], frame),
        );
    }
    let forged = folder.file("forged.pcap", &forged.finish());
    let run = spanwatch(&[
        "analyze",
        &forged,
        "--inventory",
        "captures/demo/inventory.json",
    ]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    assert!(run.err.contains("tunnel from a pod"), "{}", run.err);
}

/// Name, kind in the flow log, number, depth, tags.
type Wrapped = (
    &'static str,
    Option<(&'static str, u64, u64)>,
    &'static [u64],
);

const WRAPPED: [Wrapped; 17] = [
    ("bare", None, &[]),
    ("vlan", None, &[100]),
    ("qinq", None, &[7, 100]),
    ("mpls", Some(("mpls", 2000, 1)), &[]),
    ("pppoe", Some(("pppoe", 42, 1)), &[]),
    ("gre", Some(("gre", 42, 1)), &[]),
    ("gre-ethernet", Some(("gre", 0, 1)), &[]),
    ("erspan-1", Some(("erspan", 0, 1)), &[]),
    ("erspan-2", Some(("erspan", 42, 1)), &[]),
    ("erspan-3", Some(("erspan", 42, 1)), &[]),
    ("vxlan", Some(("vxlan", 42, 1)), &[]),
    ("vxlan-8472", Some(("vxlan", 42, 1)), &[]),
    ("geneve", Some(("geneve", 42, 1)), &[]),
    ("ip-in-ip", Some(("ip-in-ip", 0, 1)), &[]),
    ("6in4", Some(("ip-in-ip", 0, 1)), &[]),
    ("gtp-u", Some(("gtp", 42, 1)), &[]),
    ("vxlan-in-erspan", Some(("vxlan", 42, 2)), &[]),
];

#[test]
fn inside_every_encapsulation_the_pods_are_named() {
    let names: Vec<&str> = WRAPPED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, WRAPS.map(|(name, _)| name));
    let mut bare = None;
    for (name, tunnel, tags) in WRAPPED {
        let capture = format!("captures/wrapped/{name}.pcap");
        let inventory = "captures/wrapped/inventory.csv";
        let run = spanwatch(&[
            "flows",
            "-q",
            "--format",
            "json",
            &capture,
            "--inventory",
            inventory,
        ]);
        assert_eq!(run.code, Some(0), "{name}: {}", run.err);
        let flows = run.json();
        let [flow] = &flows[..] else {
            panic!("{name}: {flows:?}");
        };
        assert_eq!(flow["src"]["workload"], "shop/Deployment/api", "{name}");
        assert_eq!(flow["dst"]["pod"], "postgres-0", "{name}");
        assert_eq!(flow["app"], "postgresql", "{name}");
        assert_eq!(flow["state"], "SF", "{name}");
        let bytes = bare.get_or_insert_with(|| flow["payload_bytes"].clone());
        assert_eq!(flow["payload_bytes"], *bytes, "{name}");
        assert_eq!(
            flow["vlan"].as_array().map_or(0, Vec::len),
            tags.len(),
            "{name}"
        );
        for (at, tag) in tags.iter().enumerate() {
            assert_eq!(flow["vlan"][at], *tag, "{name}");
        }
        let Some((kind, id, depth)) = tunnel else {
            assert!(flow.get("tunnel").is_none(), "{name}");
            continue;
        };
        let found = &flow["tunnel"];
        assert_eq!(found["kind"], kind, "{name}");
        assert_eq!(found["id"], id, "{name}");
        assert_eq!(found["depth"], depth, "{name}");
        if !matches!(kind, "mpls" | "pppoe") {
            assert_eq!(
                found["outer"],
                json!(["172.18.0.2", "172.18.0.3"]),
                "{name}"
            );
        }
    }
}
