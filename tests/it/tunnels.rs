//! What pods did, seen on a node's uplink, where it is wrapped.

use etherparse::PacketBuilder;
use spanwatch::testkit::pcap::{Recording, records};

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
