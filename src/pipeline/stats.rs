//! What a run has seen, for its summary.

use crate::time::Timestamp;

/// Counters of a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Frames taken.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Those of them that showed a packet once more, at another tap or by a mirror.
    pub copies: u64,
    /// Earliest and latest frame.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Flows opened.
    pub flows: u64,
    /// Flows that were answered, if only by a refusal.
    pub answered: u64,
    /// Ends of flows at addresses that somebody in the cluster should hold.
    pub inside_ends: u64,
    /// Those of them that were pods.
    pub pod_ends: u64,
    /// Those of them that were given a name.
    pub named_ends: u64,
}

impl Stats {
    pub(super) fn frame(&mut self, time: Timestamp, wire_len: u32) {
        self.packets += 1;
        self.bytes += u64::from(wire_len);
        self.span = Some(match self.span {
            Some((first, last)) => (first.min(time), last.max(time)),
            None => (time, time),
        });
    }
}
