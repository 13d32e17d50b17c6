//! What the analysis half sees: flows opening, answering and ending, transactions, ARP; each with who was behind it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::NetworkId;
use crate::dissect::Transaction;
use crate::flow::{FlowId, FlowRecord, Outcome, Protocol};
use crate::identity::Attribution;
use crate::time::Timestamp;

/// One end of a flow.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Who held the address when the flow began.
    pub who: Attribution,
}

/// What stays the same over a flow's life; shared by all its events.
#[derive(Clone, Debug)]
pub struct FlowInfo {
    /// Unique within a run, in order of opening.
    pub id: FlowId,
    /// The virtual network it was seen in.
    pub network: NetworkId,
    /// Transport.
    pub protocol: Protocol,
    /// First packet.
    pub start: Timestamp,
    /// Who began.
    pub orig: Endpoint,
    /// Who was addressed.
    pub resp: Endpoint,
    /// Originator's port (ICMP: the message's type, that of the request for a query).
    pub orig_port: u16,
    /// Responder's port (ICMP: the message's code).
    pub resp_port: u16,
}

/// Something that happened, at a moment.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A flow's first packet.
    FlowOpened(Arc<FlowInfo>),
    /// How the responder took it: answered, refused, unreachable, or silent beyond patience.
    FlowOutcome {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// The verdict; at most one per flow.
        outcome: Outcome,
    },
    /// A dissector understood a message.
    Transaction {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// The message.
        transaction: Transaction,
    },
    /// A flow is over, or was evicted.
    FlowEnded {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// Its counters.
        record: Box<FlowRecord>,
    },
    /// An ARP request or reply, or an IPv6 neighbour solicitation.
    Resolution {
        /// Who asked (or answered).
        actor: Endpoint,
        /// The address asked for (or spoken for).
        target: Endpoint,
        /// Whether it was an answer.
        reply: bool,
    },
}
