//! What a flow table may remember, and for how long.

use std::time::Duration;

use crate::memory::Share;

/// Bounds and time-outs of a [`FlowTable`](super::FlowTable).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowConfig {
    /// Flows tracked at once; the least valuable of a sample goes when one more comes.
    pub max_flows: usize,
    /// Bytes of out-of-order TCP payload kept over all flows.
    pub max_reorder_bytes: usize,
    /// Bytes kept of datagrams that wait for fragments, bookkeeping included.
    pub max_fragment_bytes: usize,
    /// A datagram that isn't whole this long after its first fragment is given up.
    pub fragment_timeout: Duration,
    /// Sightings of packets remembered, to tell copies.
    pub max_sightings: usize,
    /// An open TCP connection without packets ends after this.
    pub tcp_idle: Duration,
    /// A TCP connection that nobody answered ends after this.
    pub tcp_attempt: Duration,
    /// A closed TCP connection waits this long for stragglers.
    pub tcp_linger: Duration,
    /// Any other flow without packets ends after this.
    pub other_idle: Duration,
    /// The same where all was said ([`FlowSink::is_settled`](super::FlowSink::is_settled)): look-ups of names are half of all flows, and one comes from a
    /// port of its own (RFC 5452 4.5).
    pub settled_idle: Duration,
    /// A TCP connection or an ICMP query without any answer counts as silent after this.
    pub silent_after: Duration,
    /// The same for a question over UDP. A stream of datagrams is none, and has no outcome while nobody answers.
    pub silent_datagram: Duration,
    /// When the capture ends, a TCP connection or an ICMP query this old and without any answer is silent already: TCP sends
    /// its SYN again after a second, for nearly all answers are there by then (RFC 6298 2.1, appendix A).
    pub silent_at_end: Duration,
}

impl FlowConfig {
    /// Bounds for a run that has a share of memory, and the usual time-outs.
    pub fn within(share: Share) -> Self {
        let whole = Self::default();
        Self {
            max_flows: share.part(whole.max_flows),
            max_reorder_bytes: share.part(whole.max_reorder_bytes),
            max_fragment_bytes: share.part(whole.max_fragment_bytes),
            max_sightings: share.part(whole.max_sightings),
            ..whole
        }
    }
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            max_flows: 1 << 18,
            max_reorder_bytes: 16 << 20,
            max_fragment_bytes: 4 << 20,
            // Linux's own (net.ipv4.ipfrag_time): what comes later the receiver has given up as well.
            fragment_timeout: Duration::from_secs(30),
            max_sightings: 1 << 13,
            tcp_idle: Duration::from_mins(15),
            tcp_attempt: Duration::from_secs(30),
            tcp_linger: Duration::from_secs(5),
            other_idle: Duration::from_mins(1),
            // Resolvers have asked again by then (RFC 1536 2.1: after 5 s), and take no more answers.
            settled_idle: Duration::from_secs(10),
            silent_after: Duration::from_secs(4),
            silent_datagram: Duration::from_secs(10),
            silent_at_end: Duration::from_secs(1),
        }
    }
}
