//! The summary of a flow, in the words analysts know from Zeek's conn.log.

use crate::decode::Tunnel;
use crate::time::Timestamp;

/// How a TCP connection went, as Zeek's `conn_state` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnState {
    /// SYN seen, no reply.
    S0,
    /// Established, not ended.
    S1,
    /// Established, originator closed, no answer to that.
    S2,
    /// Established, responder closed, no answer to that.
    S3,
    /// Normal establishment and end.
    Sf,
    /// Refused.
    Rej,
    /// Established, originator aborted.
    Rsto,
    /// Established, responder aborted.
    Rstr,
    /// Originator sent SYN then RST, no SYN-ACK seen.
    Rstos0,
    /// Responder sent SYN-ACK then RST, no SYN seen.
    Rstrh,
    /// Originator sent SYN then FIN, no SYN-ACK seen.
    Sh,
    /// Responder sent SYN-ACK then FIN, no SYN seen.
    Shr,
    /// No SYN seen: picked up in the middle. Also everything that isn't TCP.
    Oth,
}

impl ConnState {
    /// Zeek's spelling.
    pub const fn label(self) -> &'static str {
        match self {
            Self::S0 => "S0",
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::Sf => "SF",
            Self::Rej => "REJ",
            Self::Rsto => "RSTO",
            Self::Rstr => "RSTR",
            Self::Rstos0 => "RSTOS0",
            Self::Rstrh => "RSTRH",
            Self::Sh => "SH",
            Self::Shr => "SHR",
            Self::Oth => "OTH",
        }
    }
}

/// Why a flow left the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// Both ends closed, or one aborted.
    Closed,
    /// Nothing was seen for its time-out.
    Idle,
    /// The table was full.
    Evicted,
    /// The capture ended.
    CaptureEnd,
}

impl EndReason {
    /// The word used in flow logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::CaptureEnd => "capture-end",
        }
    }
}

/// How far a flow's payload was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Inspection {
    /// As far as it has anything to tell.
    #[default]
    Whole,
    /// Up to where it went on as something else than it had been recognised as. The rest was counted only.
    Lost,
    /// Up to the bound on bytes that nothing comes of. The rest was counted only.
    OverBudget,
}

impl Inspection {
    /// The word used in flow logs; none where there is nothing to say.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Lost => Some("lost"),
            Self::OverBudget => Some("over-budget"),
        }
    }
}

/// TCP's flag for the beginning of a connection.
const SYN: u8 = 2;

impl FlowRecord {
    /// Whether both ends were seen to open a TCP connection: who began it and that it passed is certain then.
    pub fn both_opened(&self) -> bool {
        self.tcp_flags.iter().all(|flags| flags & SYN != 0)
    }
}

/// A flow's counters. Pairs are `[originator, responder]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowRecord {
    /// Last packet.
    pub end: Timestamp,
    /// Packets sent.
    pub packets: [u64; 2],
    /// Bytes of whole frames as they were on the wire.
    pub wire_bytes: [u64; 2],
    /// Transport payload bytes; for TCP each byte of the stream once, however often it was sent.
    pub payload_bytes: [u64; 2],
    /// TCP payload bytes sent again, or seen again by the capture.
    pub repeated_bytes: [u64; 2],
    /// TCP bytes that the capture never saw.
    pub missing_bytes: [u64; 2],
    /// Packets that the capture shows once more, at another tap or by a mirror; counted nowhere else.
    pub copies: [u64; 2],
    /// Bytes of their frames.
    pub copied_bytes: [u64; 2],
    /// TCP flags seen, or-ed together.
    pub tcp_flags: [u8; 2],
    /// Zeek-style state.
    pub state: ConnState,
    /// Why the record was written.
    pub reason: EndReason,
    /// Application protocol, once recognised by content.
    pub app: Option<&'static str>,
    /// How far its payload was looked at.
    pub inspection: Inspection,
    /// In what its first wrapped packet came.
    pub tunnel: Option<Box<Tunnel>>,
}
