//! What the dissectors make of a capture, conversation by conversation, to hold against what others make of it.

use std::net::IpAddr;
use std::path::Path;

use crate::capture::{CaptureError, CaptureFile, PacketSource};
use crate::decode::{Content, decode};
use crate::dissect::{Carrier, FlowDissector, Progress, Segment, Transaction};
use crate::flow::{
    Chunk, FlowConfig, FlowRecord, FlowSink, FlowStart, FlowTable, Interest, Outcome, Protocol,
    Turn,
};
use crate::time::Timestamp;

/// A transaction, and between whom.
#[derive(Debug)]
pub struct Dissected {
    /// Who began.
    pub orig: (IpAddr, u16),
    /// Who was addressed.
    pub resp: (IpAddr, u16),
    /// What happened.
    pub transaction: Transaction,
}

/// Every transaction of a capture. Fragments aren't put together.
///
/// # Errors
/// When nothing in the file can be read.
pub fn transactions(path: &Path) -> Result<Vec<Dissected>, CaptureError> {
    let mut sink = Sink::default();
    flows(path, &mut sink)?;
    Ok(sink.found)
}

/// Shows the flows of a capture. Fragments aren't put together.
///
/// # Errors
/// When nothing in the file can be read.
pub fn flows<K: FlowSink>(path: &Path, sink: &mut K) -> Result<(), CaptureError> {
    let mut file = CaptureFile::open(path)?;
    let mut table = FlowTable::new(FlowConfig::default());
    while let Some(frame) = file.next_frame()? {
        let packet = decode(&frame);
        if let Content::Ip(ip) = &packet.content
            && ip.fragment.is_none()
        {
            table.packet(&packet, ip, sink);
        }
    }
    table.finish(sink);
    Ok(())
}

#[derive(Default)]
struct Sink {
    found: Vec<Dissected>,
}

/// A flow and its dissector, until that has enough.
struct State {
    start: FlowStart,
    dissector: Option<FlowDissector>,
}

impl Sink {
    fn tell(&mut self, start: &FlowStart, transactions: Vec<Transaction>) {
        self.found
            .extend(transactions.into_iter().map(|transaction| Dissected {
                orig: start.orig,
                resp: start.resp,
                transaction,
            }));
    }
}

impl FlowSink for Sink {
    type State = State;

    fn opened(&mut self, start: &FlowStart) -> State {
        let carrier = if start.protocol == Protocol::Tcp {
            Carrier::Tcp
        } else {
            Carrier::Udp
        };
        State {
            start: *start,
            dissector: Some(FlowDissector::new(carrier)),
        }
    }

    fn outcome(&mut self, _: &mut State, _: Timestamp, _: Outcome) {}

    fn turn(&mut self, _: &mut State, _: &Turn) {}

    fn payload(&mut self, state: &mut State, chunk: &Chunk<'_>) -> Interest {
        let Some(dissector) = &mut state.dissector else {
            return Interest::Enough;
        };
        let mut transactions = Vec::new();
        let segment = Segment {
            time: chunk.time,
            direction: chunk.direction,
            orig_port: state.start.orig.1,
            resp_port: state.start.resp.1,
            data: chunk.data,
            gap: chunk.gap,
        };
        let progress = dissector.feed(&segment, &mut transactions);
        self.tell(&state.start, transactions);
        if progress == Progress::More {
            return Interest::More;
        }
        state.dissector = None;
        Interest::Enough
    }

    fn ended(&mut self, state: State, _: FlowRecord) {
        let mut transactions = Vec::new();
        if let Some(dissector) = state.dissector {
            dissector.finish(&mut transactions);
        }
        self.tell(&state.start, transactions);
    }
}
