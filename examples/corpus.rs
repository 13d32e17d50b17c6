//! Seeds for the fuzz target `dissectors`, of captures: `corpus FOLDER CAPTURE…` writes conversations by their protocol,
//! `FOLDER/<protocol>/<number>`, and all once more under `FOLDER/any`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use spanwatch::dissect::{Carrier, FlowDissector, Segment};
use spanwatch::flow::{
    Chunk, Direction, FlowRecord, FlowSink, FlowStart, Interest, Outcome, Protocol, Turn,
};
use spanwatch::testkit::dissected::flows;
use spanwatch::time::Timestamp;

/// Seeds of a protocol, and the bytes of one: enough to begin with.
const MOST: usize = 200;
const LONGEST: usize = 4096;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().context("corpus FOLDER CAPTURE…")?;
    let mut seeds = Seeds::default();
    for path in args {
        flows(&path, &mut seeds)?;
    }
    for (name, conversations) in &seeds.found {
        for (number, bytes) in conversations.iter().enumerate() {
            for name in [name, "any"] {
                let folder = folder.join(name);
                std::fs::create_dir_all(&folder)?;
                std::fs::write(file(&folder, name, number), bytes)?;
            }
        }
    }
    Ok(())
}

fn file(folder: &Path, name: &str, number: usize) -> PathBuf {
    folder.join(format!("{name}-{number}"))
}

/// Conversations, by what they speak.
#[derive(Default)]
struct Seeds {
    found: BTreeMap<&'static str, Vec<Vec<u8>>>,
}

/// A flow, and what it said so far as the fuzz target reads it.
struct Conversation {
    start: FlowStart,
    dissector: FlowDissector,
    bytes: Vec<u8>,
}

impl FlowSink for Seeds {
    type State = Conversation;

    fn opened(&mut self, start: &FlowStart) -> Conversation {
        let carrier = match start.protocol {
            Protocol::Tcp => Carrier::Tcp,
            _ => Carrier::Udp,
        };
        Conversation {
            start: *start,
            dissector: FlowDissector::new(carrier),
            // Chooses the only dissector of a name, or the first of two.
            bytes: vec![0],
        }
    }

    fn outcome(&mut self, _: &mut Conversation, _: Timestamp, _: Outcome) {}

    fn turn(&mut self, _: &mut Conversation, _: &Turn) {}

    fn payload(&mut self, state: &mut Conversation, chunk: &Chunk<'_>) -> Interest {
        let segment = Segment {
            time: chunk.time,
            direction: chunk.direction,
            orig_port: state.start.orig.1,
            resp_port: state.start.resp.1,
            data: chunk.data,
            gap: chunk.gap,
        };
        let _finished = state.dissector.feed(&segment, &mut Vec::new());
        let way = if chunk.direction == Direction::Orig {
            0
        } else {
            0x80
        };
        for piece in chunk.data.chunks(255) {
            if state.bytes.len() > LONGEST {
                return Interest::Enough;
            }
            state.bytes.extend([way, piece.len() as u8]);
            state.bytes.extend_from_slice(piece);
        }
        Interest::More
    }

    fn ended(&mut self, state: Conversation, _: FlowRecord) {
        if let Some(name) = state.dissector.app() {
            let seeds = self.found.entry(name).or_default();
            if seeds.len() < MOST && !seeds.contains(&state.bytes) {
                seeds.push(state.bytes);
            }
        }
    }
}
