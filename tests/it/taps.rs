//! The same packets at several taps, or twice from a mirror.

use std::time::Duration;

use serde_json::Value;
use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::testkit::wire::forwarded;

use crate::command::{Folder, repository, spanwatch};

const DEMO: &str = "captures/demo/demo.pcap";

/// The demonstration with more frames beside each of its own: how much later, and what.
fn demo_and(folder: &Folder, more: impl Fn(&[u8]) -> Vec<(u64, Vec<u8>)>) -> String {
    let mut taps = Recording::default();
    for (time, frame) in records(&std::fs::read(repository(DEMO)).unwrap()) {
        taps.push(time, frame.to_vec());
        for (micros, copy) in more(frame) {
            taps.push(time.after(Duration::from_micros(micros)), copy);
        }
    }
    folder.file("taps.pcap", &taps.finish())
}

/// The flows of captures, with and without what was said of copies.
fn flows(captures: &[&str]) -> (Vec<Value>, u64) {
    let options = ["--quiet", "--output", "/dev/null", "--flows", "-"];
    let mut flows = spanwatch(&[&["analyze"], captures, &options].concat()).json();
    let mut copies = 0;
    for flow in flows.iter_mut().map(|flow| flow.as_object_mut().unwrap()) {
        flow.remove("copied_bytes");
        if let Some(pair) = flow.remove("copies") {
            copies += [0, 1]
                .map(|at| pair[at].as_u64().unwrap())
                .iter()
                .sum::<u64>();
        }
    }
    (flows, copies)
}

fn is_ip(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] || frame[12..14] == [0x86, 0xdd]
}

#[test]
fn a_mirror_that_shows_everything_twice_changes_nothing() {
    let folder = Folder::new();
    let (once, bridged) = flows(&[DEMO]);
    assert!(bridged > 100, "the bridge itself shows some packets twice");
    let (twice, copies) = flows(&[&demo_and(&folder, |frame| vec![(1, frame.to_vec())])]);
    assert_eq!(twice, once);
    let packets: u64 = once
        .iter()
        .flat_map(|flow| flow["packets"].as_array().unwrap().clone())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(copies, packets + 2 * bridged);
}

#[test]
fn taps_further_along_the_way_change_nothing() {
    let folder = Folder::new();
    let (once, _) = flows(&[DEMO]);
    let capture = demo_and(&folder, |frame| {
        if !is_ip(frame) {
            return Vec::new();
        }
        let routed = forwarded(frame, [2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2]);
        let further = forwarded(&routed, [2, 0, 0, 0, 9, 3], [2, 0, 0, 0, 9, 4]);
        vec![(3, routed), (250, further)]
    });
    assert_eq!(flows(&[&capture]).0, once);
    // Or each in a file of its own.
    assert_eq!(flows(&[DEMO, DEMO]).0, once);
}

#[test]
fn copies_are_in_the_summary() {
    let folder = Folder::new();
    let doubled = demo_and(&folder, |frame| vec![(1, frame.to_vec())]);
    let run = spanwatch(&["analyze", &doubled]);
    assert!(run.err.contains("counted once"), "{}", run.err);
    let alerts = |capture: &str| {
        let mut alerts = spanwatch(&["analyze", capture, "--format", "json"]).json();
        for alert in &mut alerts {
            alert["coverage"].as_object_mut().unwrap().remove("packets");
        }
        alerts
    };
    assert_eq!(alerts(&doubled), alerts(DEMO));
}
