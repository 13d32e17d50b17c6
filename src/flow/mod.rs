//! Packets to flows: a bounded table of bidirectional conversations, aged by packet time.
//!
//! Owns who began a conversation, what each side sent, how TCP went, and the in-order bytes of each direction. Knows
//! nothing of pods or application protocols.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod community_id;
mod config;
mod defrag;
mod ends;
mod exchange;
mod key;
mod live;
mod recent;
mod record;
mod sightings;
mod stream;
mod table;
mod tcp;
mod turn;
mod wheel;

pub use community_id::community_id;
pub use config::FlowConfig;
pub use defrag::Defrag;
pub use exchange::{Dialogue, Exchange};
pub use key::FlowKey;
pub use record::{ConnState, EndReason, FlowRecord, Inspection};
pub use table::{Chunk, Ending, FlowSink, FlowStart, FlowTable, Interest, Translation, View};
pub use turn::Turn;

/// A flow's number within a run, in order of opening.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FlowId(pub u64);

/// Which end of a flow sent something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Direction {
    /// The end that began the conversation.
    #[default]
    Orig = 0,
    /// The end that was addressed.
    Resp = 1,
}

impl Direction {
    /// The other end.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Orig => Self::Resp,
            Self::Resp => Self::Orig,
        }
    }
}

/// A transport protocol that flows are kept for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// SCTP (ports are read, streams are not).
    Sctp,
    /// Any other IP protocol, by number.
    Other(u8),
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }

    /// The protocol for an IANA number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Sctp => f.write_str("sctp"),
            Self::Other(number) => write!(f, "ip-{number}"),
        }
    }
}

/// How the addressed end took a conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It refused (TCP reset).
    Refused,
    /// Somebody on the way said it can't be reached (ICMP).
    Unreachable,
    /// Nothing came back in time.
    Silent,
}
