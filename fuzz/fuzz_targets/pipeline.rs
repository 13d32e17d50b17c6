//! Any bytes as a capture: one frame after another through the whole pipeline, all detectors on.
//!
//! The input is read as a pcap image if it is one (so that captures are seeds); whatever follows the damage, or an input
//! that is no capture, is cut into frames of every link type.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use spanwatch::alert::Exceptions;
use spanwatch::capture::{Frame, LinkType};
use spanwatch::identity::Journal;
use spanwatch::memory::Share;
use spanwatch::pipeline::{Pipeline, Task};
use spanwatch::signature::SignatureSet;
use spanwatch::time::Timestamp;

static SIGNATURES: LazyLock<SignatureSet> =
    LazyLock::new(|| SignatureSet::builtin().expect("built-in signatures are checked by tests"));

fuzz_target!(|data: &[u8]| {
    let task = Task::Analyze {
        signatures: SIGNATURES.clone(),
        baseline: None,
        exceptions: Exceptions::default(),
    };
    // Little enough that its bounds are met.
    let share = Share::of(1 << 20);
    let mut pipeline = Pipeline::new(share, Arc::new(Journal::default()), task)
        .expect("built-in thresholds fit")
        .keeping_flows();
    let (link, frames) = frames(data);
    for (nanos, bytes) in frames {
        pipeline.frame(&Frame {
            time: Timestamp::from_nanos(nanos),
            link,
            wire_len: bytes.len() as u32,
            interface: 0,
            data: bytes,
        });
        pipeline.take_flows();
    }
    pipeline.finish();
});

/// Records as in a little-endian pcap file: seconds, fraction, length, length on the wire, bytes.
fn frames(data: &[u8]) -> (LinkType, Vec<(i64, &[u8])>) {
    let word = |at: usize| {
        data.get(at..at + 4)
            .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let link = LinkType::from_number(word(20) % 300).unwrap_or(LinkType::Ethernet);
    let mut frames = Vec::new();
    let mut at = 24;
    while at + 16 <= data.len() {
        let nanos = i64::from(word(at)) * 1_000_000_000 + i64::from(word(at + 4)) * 1_000;
        let len = (word(at + 8) as usize).min(data.len() - at - 16);
        frames.push((nanos, &data[at + 16..at + 16 + len]));
        at += 16 + len;
    }
    (link, frames)
}
