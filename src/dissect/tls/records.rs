//! The sizes of the first encrypted records, in the order of both directions: what is left of a conversation in TLS.

use crate::dissect::Transaction;
use crate::flow::Direction;

/// A run of a connection's records of application data; each is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsRecords {
    /// How many came before these.
    pub from: u16,
    /// In order.
    pub records: Vec<TlsRecord>,
}

/// A record of application data. In TLS 1.3 the end of the handshake comes as such, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsRecord {
    /// Who sent it.
    pub direction: Direction,
    /// Bytes of what it says: those on the wire less what encryption adds.
    pub bytes: u16,
}

/// Records told of a connection.
const MOST: u16 = 80;
/// The first are told when there are so many.
const FIRST: usize = 40;
/// Fewer tell nothing.
const FEWEST: usize = 12;
/// Bytes after which a connection moves bulk, and no more is looked for.
const MOST_BYTES: u64 = 128 * 1024;

/// Collects them.
#[derive(Default)]
pub(super) struct Records {
    told: u16,
    waiting: Vec<TlsRecord>,
    bytes: u64,
}

impl Records {
    pub(super) fn note(&mut self, direction: Direction, bytes: u16, out: &mut Vec<Transaction>) {
        self.bytes = self.bytes.saturating_add(bytes.into());
        self.waiting.push(TlsRecord { direction, bytes });
        if self.told == 0 && self.waiting.len() >= FIRST || self.enough() {
            self.flush(out);
        }
    }

    /// Tells those that wait.
    pub(super) fn flush(&mut self, out: &mut Vec<Transaction>) {
        if self.waiting.len() < FEWEST {
            return;
        }
        let records = std::mem::take(&mut self.waiting);
        let from = self.told;
        self.told = self.count(records.len());
        out.push(Transaction::TlsRecords(TlsRecords { from, records }));
    }

    /// Whether no more are wanted.
    pub(super) fn enough(&self) -> bool {
        self.count(self.waiting.len()) >= MOST || self.bytes > MOST_BYTES
    }

    fn count(&self, more: usize) -> u16 {
        self.told
            .saturating_add(u16::try_from(more).unwrap_or(u16::MAX))
    }
}
