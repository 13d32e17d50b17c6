//! What the analysis half sees: flows opening, answering and ending, transactions, ARP; each with who was behind it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Mac, NetworkId};
use crate::dissect::Transaction;
use crate::flow::{Exchange, FlowId, FlowRecord, Outcome, Protocol, Turn};
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

/// What stays the same over a flow's life; shared by all its events. Its ends may yet be found out to be behind other
/// addresses than those it was first seen under: later events then have another copy, under the same id.
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
    /// The address and port that were called, if the responder was reached through them: a service's, a node port.
    pub service: Option<Arc<(Endpoint, u16)>>,
    /// The address and port under which the originator was let out or passed on, if others than its own.
    pub masquerade: Option<Arc<(Endpoint, u16)>>,
    /// The Ethernet address that the originator's first packet came from, as far as it is known.
    pub sender: Option<Mac>,
    /// Whether its beginning was seen, as far as that can be told: only TCP says which packet is the first. What was taken up in
    /// the middle is older than its `start`, and whatever led to it was not seen.
    pub begun: bool,
}

/// Something that happened, at a moment.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
    /// What its flow has shown before.
    pub before: EventKinds,
}

impl Event {
    /// The first of its flow, or one that no flow has.
    pub const fn new(time: Timestamp, kind: EventKind) -> Self {
        Self {
            time,
            kind,
            before: EventKinds::NONE,
        }
    }

    /// The flow it happened to.
    pub const fn flow(&self) -> Option<&Arc<FlowInfo>> {
        match &self.kind {
            EventKind::FlowOpened(flow)
            | EventKind::FlowOutcome { flow, .. }
            | EventKind::Recognised { flow, .. }
            | EventKind::Turn { flow, .. }
            | EventKind::Exchange { flow, .. }
            | EventKind::Transaction { flow, .. }
            | EventKind::FlowEnded { flow, .. } => Some(flow),
            EventKind::Resolution { .. } => None,
        }
    }

    /// The flow it happened to, to be told of as something else.
    pub const fn flow_mut(&mut self) -> Option<&mut Arc<FlowInfo>> {
        match &mut self.kind {
            EventKind::FlowOpened(flow)
            | EventKind::FlowOutcome { flow, .. }
            | EventKind::Recognised { flow, .. }
            | EventKind::Turn { flow, .. }
            | EventKind::Exchange { flow, .. }
            | EventKind::Transaction { flow, .. }
            | EventKind::FlowEnded { flow, .. } => Some(flow),
            EventKind::Resolution { .. } => None,
        }
    }
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
    /// What a flow speaks was recognised by its content; once per flow, and again if it went on as something else than what a
    /// few bytes had given it the name of.
    Recognised {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// The application protocol: `ssh`, `tls`, `http`.
        app: &'static str,
    },
    /// Somebody has finished speaking, or has spoken for long. Not told of DNS, whose messages say more.
    Turn {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// The turn.
        turn: Turn,
    },
    /// A question and its answer are over, or a question that got none. Not told of DNS either.
    Exchange {
        /// The flow.
        flow: Arc<FlowInfo>,
        /// The exchange.
        exchange: Exchange,
        /// The application protocol, if it was recognised by then.
        app: Option<&'static str>,
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
    /// An ARP request or reply, or an IPv6 neighbour solicitation or advertisement.
    Resolution {
        /// Who asked (or answered).
        actor: Endpoint,
        /// The address asked for (or spoken for).
        target: Endpoint,
        /// The virtual network it was seen in.
        network: NetworkId,
        /// The Ethernet address at which the actor says it is; IPv6 may leave it out.
        hardware: Option<Mac>,
        /// Whether it was an answer.
        reply: bool,
    },
}

/// A set of event kinds, so that nobody is shown what he would pass over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventKinds(u32);

impl EventKinds {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// How many kinds there are.
    pub const COUNT: usize = 19;

    /// [`EventKind::FlowOpened`].
    pub const FLOW_OPENED: Self = Self(1);
    /// [`EventKind::FlowOutcome`].
    pub const FLOW_OUTCOME: Self = Self(1 << 1);
    /// [`EventKind::Recognised`].
    pub const RECOGNISED: Self = Self(1 << 2);
    /// [`EventKind::Turn`].
    pub const TURN: Self = Self(1 << 3);
    /// [`EventKind::Exchange`].
    pub const EXCHANGE: Self = Self(1 << 4);
    /// [`EventKind::FlowEnded`].
    pub const FLOW_ENDED: Self = Self(1 << 5);
    /// [`EventKind::Resolution`].
    pub const RESOLUTION: Self = Self(1 << 6);
    /// [`Transaction::Dns`].
    pub const DNS: Self = Self(1 << 7);
    /// A hello, a certificate or records of TLS.
    pub const TLS: Self = Self(1 << 8);
    /// A request or a response of HTTP, or both.
    pub const HTTP: Self = Self(1 << 9);
    /// [`Transaction::TunnelOpened`] and [`Transaction::Carried`].
    pub const TUNNEL: Self = Self(1 << 10);
    /// [`Transaction::Database`].
    pub const DATABASE: Self = Self(1 << 11);
    /// [`Transaction::Ssh`].
    pub const SSH: Self = Self(1 << 12);
    /// [`Transaction::Opening`].
    pub const OPENING: Self = Self(1 << 13);
    /// [`Transaction::Login`].
    pub const LOGIN: Self = Self(1 << 14);
    /// [`Transaction::Stratum`].
    pub const STRATUM: Self = Self(1 << 15);
    /// [`Transaction::Echo`].
    pub const ECHO: Self = Self(1 << 16);
    /// [`Transaction::Ftp`].
    pub const FTP: Self = Self(1 << 17);
    /// [`Transaction::Command`].
    pub const COMMAND: Self = Self(1 << 18);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all kinds of another set are in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any kind is in both sets.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The set of one event's kind alone.
    pub const fn of(kind: &EventKind) -> Self {
        match kind {
            EventKind::FlowOpened(_) => Self::FLOW_OPENED,
            EventKind::FlowOutcome { .. } => Self::FLOW_OUTCOME,
            EventKind::Recognised { .. } => Self::RECOGNISED,
            EventKind::Turn { .. } => Self::TURN,
            EventKind::Exchange { .. } => Self::EXCHANGE,
            EventKind::Transaction { transaction, .. } => match transaction {
                Transaction::Dns(_) => Self::DNS,
                Transaction::TlsClient(_)
                | Transaction::TlsServer(_)
                | Transaction::TlsCertificate(_)
                | Transaction::TlsRecords(_) => Self::TLS,
                Transaction::HttpRequest(_)
                | Transaction::HttpResponse(_)
                | Transaction::HttpExchange(_) => Self::HTTP,
                Transaction::TunnelOpened(_) | Transaction::Carried(_) => Self::TUNNEL,
                Transaction::Database(_) => Self::DATABASE,
                Transaction::Ssh(_) => Self::SSH,
                Transaction::Opening(_) => Self::OPENING,
                Transaction::Login(_) => Self::LOGIN,
                Transaction::Stratum(_) => Self::STRATUM,
                Transaction::Echo(_) => Self::ECHO,
                Transaction::Ftp(_) => Self::FTP,
                Transaction::Command(_) => Self::COMMAND,
            },
            EventKind::FlowEnded { .. } => Self::FLOW_ENDED,
            EventKind::Resolution { .. } => Self::RESOLUTION,
        }
    }

    /// The place of a set's first kind among all, below [`EventKinds::COUNT`] unless the set is empty.
    pub const fn place(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// The places of a set's kinds.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..Self::COUNT).filter(move |place| self.0 >> place & 1 != 0)
    }
}
