//! Conversations inside conversations: what rides on a WebSocket, after an upgrade, or behind a proxy.
//!
//! The same catalogue recognises and follows them, to a bounded depth; marks tell a protocol that stands behind a tunnel's
//! own header. Knows no carrier's framing.

pub(super) mod marks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{Both, Carrier, FlowDissector, Progress, Segment, Transaction, buffer};
use crate::flow::Direction;

/// A connection was handed over: what follows on it is another conversation.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TunnelOpened {
    /// What carries: `connect`, `websocket`, `upgrade`, `socks`.
    pub carrier: &'static str,
    /// What a proxy was asked to reach, `host:port`; at most 256 bytes.
    pub target: Option<Arc<str>>,
    /// The host that the carrier's request names, if it does.
    pub host: Option<Arc<str>>,
    /// Path of that request without query, at most 256 bytes.
    pub path: Option<Arc<str>>,
    /// User-Agent of that request, at most 256 bytes.
    pub user_agent: Option<Arc<str>>,
    /// What the connection was upgraded to, lower-case: `websocket`, `spdy/3.1`, `tcp`.
    pub protocol: Option<Arc<str>>,
    /// The WebSocket subprotocol agreed on, else the first one asked for; only if it reads like a name.
    pub subprotocol: Option<Arc<str>>,
    /// Whether the subprotocols asked for bear a token.
    pub bears_token: bool,
    /// Whether the client showed a name or password to the carrier.
    pub login: bool,
}

/// Something that was understood of the conversation inside another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// What carries it, as in [`TunnelOpened::carrier`].
    pub carrier: &'static str,
    /// What was understood.
    pub content: Content,
}

/// What is inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A protocol, by its name in a flow's application, or of those that only tunnels carry: `yamux`, `smux`, `rdp`, `rfb`.
    Protocol(&'static str),
    /// A message of that protocol, or what the first bytes look like if nobody knows it.
    Message(Box<Transaction>),
}

/// Conversations are followed so deep: a flow's is at depth 0.
const MAX_DEPTH: u8 = 2;
/// Marks are looked for in so many first bytes of a direction,
const WINDOW: usize = 512;
/// and in the first turns.
const MAX_TURNS: u8 = 4;

/// The conversation inside another.
pub(super) struct Inside {
    carrier: &'static str,
    conversation: FlowDissector,
    named: bool,
    /// First bytes, as long as nobody knows what they are.
    first: Both<Vec<u8>>,
    last: Option<Direction>,
    turns: u8,
    skipped: u64,
}

impl Inside {
    /// For what a conversation at `depth` carries, unless that is too deep.
    pub(super) fn new(carrier: &'static str, depth: u8) -> Option<Self> {
        let depth = depth.checked_add(1).filter(|depth| *depth <= MAX_DEPTH)?;
        Some(Self {
            carrier,
            conversation: FlowDissector::at_depth(Carrier::Tcp, depth),
            named: false,
            first: Both::default(),
            last: None,
            turns: 0,
            skipped: 0,
        })
    }

    /// Takes the next bytes that are carried; anything but [`Progress::More`] is final.
    pub(super) fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if let Some(last) = self.last.replace(segment.direction)
            && last != segment.direction
            && self.is_looking()
        {
            self.turns = self.turns.saturating_add(1);
            // Only now, so that all that was said in one go is judged together however it was cut.
            if let Some(mark) = marks::find(self.first.of(last)) {
                out.push(self.carried(Content::Protocol(mark)));
                return Progress::Done;
            }
            if !self.is_looking() {
                self.first = Both::default();
            }
        }
        if self.is_looking() {
            let first = self.first.of(segment.direction);
            let room = WINDOW.saturating_sub(first.len());
            let part = segment.data.get(..room).unwrap_or(segment.data);
            // It fits: there is room for it.
            let _fits = buffer::append(first, part, WINDOW);
        }
        let mut found = Vec::new();
        let before = self.conversation.skipped();
        let progress = self.conversation.feed(segment, &mut found);
        let passed = self.conversation.skipped().saturating_sub(before);
        self.skipped = self.skipped.saturating_add(passed);
        let is_open = self.named || self.conversation.is_name_open();
        let mut fresh = self.conversation.app().filter(|_| !is_open);
        for message in found {
            // What it looked like before it was recognised comes first.
            if let Some(app) = fresh.take_if(|_| !matches!(message, Transaction::Opening(_))) {
                self.name(app, out);
            }
            out.push(self.carried(Content::Message(Box::new(message))));
        }
        if let Some(app) = fresh {
            self.name(app, out);
        }
        progress
    }

    fn name(&mut self, app: &'static str, out: &mut Vec<Transaction>) {
        self.named = true;
        self.first = Both::default();
        out.push(self.carried(Content::Protocol(app)));
    }

    const fn is_looking(&self) -> bool {
        !self.named && self.turns < MAX_TURNS
    }

    /// Bytes kept for later.
    pub(super) fn held(&self) -> usize {
        self.conversation.held()
    }

    /// Bytes passed over unread.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    const fn carried(&self, content: Content) -> Transaction {
        Transaction::Carried(Carried {
            carrier: self.carrier,
            content,
        })
    }
}
