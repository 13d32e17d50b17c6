//! Streams and datagrams in, application transactions out: one protocol per file.
//!
//! Contract: whatever the bytes, a dissector neither panics nor returns an error. It reports what it understood, and
//! says [`Progress::Desynced`] when the bytes are not (or no longer) its protocol. Its memory is bounded; payload never
//! leaves it except as the named fields of a [`Transaction`].

use crate::flow::Direction;
use crate::time::Timestamp;

mod transaction;

pub use transaction::{
    DnsAnswer, DnsMessage, HttpRequest, HttpResponse, TlsClientHello, TlsServerHello, Transaction,
};

/// A piece of a flow's payload: the next in-order bytes of a TCP direction, or one whole datagram.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// When the packet that completed it was captured.
    pub time: Timestamp,
    /// Which end sent it.
    pub direction: Direction,
    /// The originator's port.
    pub orig_port: u16,
    /// The responder's port.
    pub resp_port: u16,
    /// The bytes; never empty.
    pub data: &'a [u8],
    /// Bytes missing right before `data` (0 for datagrams).
    pub gap: u32,
}

/// Whether a flow's first bytes are a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// They are.
    Certain,
    /// They may be; ask again with more bytes.
    Unsure,
    /// They aren't.
    NotForUs,
}

/// How a dissector stands after a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Wants more.
    More,
    /// Has seen all it needs; the flow is only counted from here on.
    Done,
    /// Lost: these bytes are not the protocol.
    Desynced,
}

/// The transport that a dissector reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// Ordered bytes in two directions.
    Tcp,
    /// One message a datagram.
    Udp,
}

/// The state of one protocol on one flow.
pub trait Dissector: Send {
    /// Takes the next bytes and appends what they amount to.
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress;
}

/// A protocol in the catalogue.
pub struct DissectorSpec {
    /// The name shown as a flow's application protocol: `dns`, `tls`, `http`.
    pub name: &'static str,
    /// What it rides on.
    pub carrier: Carrier,
    /// Judges the first bytes of a flow. `segment.data` starts at the direction's first byte.
    pub probe: fn(&Segment<'_>) -> Probe,
    /// Makes the state for one flow.
    pub build: fn() -> Box<dyn Dissector>,
}

impl std::fmt::Debug for DissectorSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DissectorSpec")
            .field("name", &self.name)
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}

/// Every dissector, probed in this order (cheapest and surest first).
pub const DISSECTORS: &[&DissectorSpec] = &[];
