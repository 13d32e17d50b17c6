//! Streams and datagrams in, application transactions out: one protocol per file.
//!
//! Contract: whatever the bytes, a dissector neither panics nor returns an error. It reports what it understood, and
//! says [`Progress::Desynced`] when the bytes are not (or no longer) its protocol. Its memory is bounded; payload never
//! leaves it except as the named fields of a [`Transaction`]. How a stream was cut into segments changes nothing.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::flow::Direction;
use crate::time::Timestamp;

mod buffer;
mod by_name;
mod cassandra;
mod clickhouse;
mod commands;
mod dns;
mod driver;
mod echo;
mod fingerprint;
mod frames;
mod ftp;
mod gist;
mod http1;
mod http2;
mod ja4;
mod kubernetes;
mod marks;
mod memcached;
mod mongodb;
mod mysql;
mod oci;
mod opening;
mod oracle;
mod postgres;
mod quic;
mod redis;
mod secret;
mod socks;
mod sql;
mod ssh;
mod stratum;
mod tds;
#[cfg(test)]
mod testing;
mod text;
mod tls;
mod transaction;
mod tunnel;
mod unpack;
mod vpn;
mod web_database;
mod websocket;

pub use by_name::Login;
pub use commands::{CommandRun, Commands};
pub use driver::FlowDissector;
pub use echo::{Echo, EchoFill, Echoes, Returned};
pub use ftp::FtpMessage;
pub use gist::Gist;
pub use http1::{BodyLooks, HttpBody, HttpExchange};
pub use kubernetes::KubernetesCall;
pub use marks::Marks;
pub use oci::{OciCall, OciKind};
pub use opening::{ByteMix, Opening, ShellMarks};
pub use secret::SecretMark;
pub use stratum::StratumMessage;
pub use tls::{TlsCertificate, TlsRecord, TlsRecords};
pub use transaction::{
    DatabaseEvent, DatabaseMessage, DnsAnswer, DnsMessage, DnsOperation, Hidden, HttpRequest,
    HttpResponse, SshMessage, StatementClass, TlsClientHello, TlsServerHello, Transaction,
};
pub use tunnel::{Carried, Content, TunnelOpened};

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

    /// Bytes that it keeps for later, where these may be more than 4 KiB.
    fn held(&self) -> usize {
        0
    }

    /// How many bytes of the flow it has passed over unread so far, such as bodies of known length. All others count
    /// against [`LOOK_BUDGET`].
    fn skipped(&self) -> u64 {
        0
    }

    /// The flow is over: tells what waited for more.
    fn finish(&mut self, out: &mut Vec<Transaction>) {
        let _ = out;
    }

    /// Whether it is sure by now that the flow is its own. Until then the flow has no name, and the dissector tells itself
    /// what it looked like if it isn't.
    fn confirmed(&self) -> bool {
        true
    }

    /// Whether the flow's name is all that is wanted of it: then who can read more may still take it.
    fn only_names(&self) -> bool {
        false
    }

    /// Once it is done: whether that is because the conversation goes on as TLS, as was agreed on in clear (STARTTLS and its
    /// like), with so many of the last segment's bytes and all that come.
    fn starts_tls(&self) -> Option<usize> {
        None
    }

    /// Told once, before all else, how deep inside other conversations this one is.
    fn nest(&mut self, depth: u8) {
        let _ = depth;
    }
}

/// A protocol in the catalogue.
pub struct DissectorSpec {
    /// The name shown as a flow's application protocol: `dns`, `tls`, `http`.
    pub name: &'static str,
    /// What it rides on.
    pub carrier: Carrier,
    /// Judges the first bytes of a flow: `segment.data` is one whole datagram, or starts at the direction's first byte
    /// and is at most [`PROBE_WINDOW`] long. Certain and not-for-us stay so whatever bytes follow.
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

/// Every protocol, in the order of probing: the dissectors proper, then those of `by_name`. A name may come twice, for two
/// carriers.
pub fn catalogue() -> impl Iterator<Item = &'static DissectorSpec> {
    DISSECTORS.iter().copied().chain(by_name::PROTOCOLS)
}

/// The dissectors proper, cheapest and surest first.
const DISSECTORS: &[&DissectorSpec] = &[
    &tls::TLS,
    &ssh::SSH,
    &postgres::POSTGRES,
    &mysql::MYSQL,
    &redis::REDIS,
    &mongodb::MONGODB,
    &tds::TDS,
    &cassandra::CASSANDRA,
    &clickhouse::CLICKHOUSE,
    &oracle::ORACLE,
    &memcached::MEMCACHED,
    &http2::HTTP2,
    &http1::HTTP1,
    &dns::DNS_TCP,
    &stratum::STRATUM,
    &vpn::OPENVPN_TCP,
    &dns::DNS_UDP,
    &dns::MDNS,
    &dns::LLMNR,
    &quic::QUIC,
    &vpn::WIREGUARD,
    &vpn::OPENVPN_UDP,
    &vpn::IKE,
    &vpn::ESP,
    &memcached::MEMCACHED_UDP,
];

/// How many of a stream direction's first bytes recognition may look at.
pub const PROBE_WINDOW: usize = 512;

/// Payload bytes of a flow after which recognition gives up, if only one end sends or a probe stays unsure.
pub const PATIENCE: u32 = 64 * 1024;

/// Payload bytes that a dissector may look at without anything coming of it; more, and the flow is given up.
pub const LOOK_BUDGET: u32 = 1024 * 1024;

/// One of something for each direction.
#[derive(Default)]
struct Both<T> {
    orig: T,
    resp: T,
}

impl<T> Both<T> {
    const fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Orig => &mut self.orig,
            Direction::Resp => &mut self.resp,
        }
    }
}
