//! IP datagrams from their fragments, for both versions, bounded in memory and in packet time.
//!
//! Policy, that of Linux since 4.19 and of RFC 8200 4.5: a fragment that lies wholly inside what is known is left out, so
//! that the first copy of a byte stands; one that overlaps what is known in part, or disagrees about where the datagram
//! ends, takes the whole datagram with it. What is thrown away because of overlaps is counted as such, save true copies.
//!
//! What never becomes whole is given up and counted. Had it a first fragment, that is handed on with what follows it
//! without a hole: its ports are known, and a capture filter for ports keeps no other fragment.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::RandomState;

use super::FlowConfig;
use crate::address::NetworkId;
use crate::decode::{Datagram, Fragment, Head, IpPacket, Packet};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Datagrams remembered once they are whole, and for how long.
const LATE: usize = 256;
const LATE_FOR: Duration = Duration::from_millis(50);
/// What a waiting datagram costs beside its pieces, and a piece beside its bytes.
const DATAGRAM_COST: usize = 256;
const PIECE_COST: usize = 96;

/// Datagrams whose fragments have not all come yet.
#[derive(Debug)]
pub struct Defrag {
    max_bytes: usize,
    timeout: Duration,
    waiting: HashMap<Key, Waiting, RandomState>,
    /// In order of their first fragment; entries whose datagram is gone or newer are skipped.
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    begun: u64,
    /// Datagrams that became whole lately, by the hash of their key: their fragments may be seen at another tap yet.
    late: Box<[(u64, Timestamp); LATE]>,
    copies: u64,
    now: Timestamp,
}

/// Fragments of one datagram agree in these. In IPv6 the protocol isn't part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    network: NetworkId,
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: Option<u8>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    head: Head,
    interface: u64,
    link: Box<[u8]>,
    since: Timestamp,
    frames: u32,
    wire_len: u32,
    /// By their offsets, without overlaps.
    pieces: BTreeMap<u32, Piece>,
    /// Bytes of all pieces together.
    have: u32,
    /// Length of the whole payload, once its last piece came.
    len: Option<u32>,
    cost: usize,
}

#[derive(Debug)]
struct Piece {
    end: u32,
    data: Box<[u8]>,
}

/// What became of a fragment.
enum Fit {
    /// It found its place.
    New,
    /// It says what is known already.
    Copy,
    /// It lies inside what is known, and says otherwise.
    Forged,
    /// It overlaps in part, or disagrees about the end.
    Clash,
    /// It can't be part of any datagram.
    Unfit,
}

impl Defrag {
    /// Nothing waits yet.
    pub fn new(config: &FlowConfig) -> Self {
        Self {
            max_bytes: config.max_fragment_bytes,
            timeout: config.fragment_timeout,
            waiting: HashMap::default(),
            order: VecDeque::new(),
            bytes: 0,
            begun: 0,
            late: Box::new([(0, Timestamp::MIN); LATE]),
            copies: 0,
            now: Timestamp::MIN,
        }
    }

    /// Whether no datagram waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that waiting datagrams take, bookkeeping included.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fragments that were seen more than once, counting every time but the first.
    pub const fn copies(&self) -> u64 {
        self.copies
    }

    /// Takes a fragment, and returns the datagram that it completes. Ask [`Defrag::given_up`] after it: the bound holds then.
    pub fn push(
        &mut self,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        fragment: &Fragment<'_>,
        losses: &mut LossCounts,
    ) -> Option<Datagram> {
        self.now = self.now.max(packet.time);
        let head = Head::of(packet, ip, fragment);
        let key = Key {
            network: head.network,
            src: head.src,
            dst: head.dst,
            id: head.id,
            protocol: head.src.is_ipv4().then_some(head.protocol),
        };
        let hash = self.waiting.hasher().hash_one(key);
        let &mut (late, whole_at) = self.late(hash);
        if late == hash && packet.time < whole_at.after(LATE_FOR) {
            self.copies = self.copies.saturating_add(packet.frames.into());
            return None;
        }
        let waiting = self.waiting.entry(key).or_insert_with(|| {
            self.begun = self.begun.saturating_add(1);
            self.order.push_back((self.begun, key));
            let cost = DATAGRAM_COST.saturating_add(packet.link.len());
            self.bytes = self.bytes.saturating_add(cost);
            Waiting::new(self.begun, head, packet)
        });
        let before = waiting.cost;
        let fit = waiting.take(head, fragment);
        self.bytes = self
            .bytes
            .saturating_add(waiting.cost.saturating_sub(before));
        match fit {
            Fit::New => {
                waiting.frames = waiting.frames.saturating_add(packet.frames);
                waiting.wire_len = waiting.wire_len.saturating_add(packet.wire_len);
            }
            Fit::Copy => self.copies = self.copies.saturating_add(packet.frames.into()),
            Fit::Forged => losses.add(Loss::FragmentOverlap),
            Fit::Unfit => losses.add(Loss::Fragment),
            Fit::Clash => {
                let frames = u64::from(waiting.frames).saturating_add(1);
                losses.add_n(Loss::FragmentOverlap, frames);
                self.remove(&key);
                return None;
            }
        }
        if waiting.len == Some(waiting.have) || waiting.pieces.is_empty() {
            let whole = self.remove(&key)?;
            let len = whole.len?;
            *self.late(hash) = (hash, packet.time);
            return Some(whole.datagram(packet.time, len));
        }
        None
    }

    /// The next datagram that is given up, if a part of it can be read: it is too old at `now`, or too much waits.
    pub fn given_up(&mut self, now: Timestamp, losses: &mut LossCounts) -> Option<Datagram> {
        self.now = self.now.max(now);
        let patience = self.timeout;
        self.give_up(|waiting| waiting.since.after(patience) < now, losses)
    }

    /// The next datagram that is given up because nothing more comes.
    pub fn rest(&mut self, losses: &mut LossCounts) -> Option<Datagram> {
        self.give_up(|_| true, losses)
    }

    fn give_up(
        &mut self,
        overdue: impl Fn(&Waiting) -> bool,
        losses: &mut LossCounts,
    ) -> Option<Datagram> {
        while let Some(&(number, key)) = self.order.front() {
            let current = self
                .waiting
                .get(&key)
                .filter(|waiting| waiting.number == number);
            let due = current.is_none_or(|waiting| self.bytes > self.max_bytes || overdue(waiting));
            if !due {
                break;
            }
            let current = current.is_some();
            self.order.pop_front();
            if current
                && let Some(waiting) = self.remove(&key)
                && let Some(part) = waiting.give_up(self.now, losses)
            {
                return Some(part);
            }
        }
        None
    }

    fn late(&mut self, hash: u64) -> &mut (u64, Timestamp) {
        #[expect(clippy::indexing_slicing, reason = "the remainder is below LATE")]
        &mut self.late[hash as usize % LATE]
    }

    fn remove(&mut self, key: &Key) -> Option<Waiting> {
        let gone = self.waiting.remove(key)?;
        self.bytes = self
            .bytes
            .saturating_sub(gone.cost.saturating_add(DATAGRAM_COST));
        // Datagrams that became whole stay in the order of all until their turn: not more of them than of those that wait.
        if self.order.len() > self.waiting.len().saturating_mul(2).saturating_add(64) {
            let waiting = &self.waiting;
            self.order.retain(|(number, key)| {
                waiting
                    .get(key)
                    .is_some_and(|waiting| waiting.number == *number)
            });
        }
        Some(gone)
    }
}

impl Waiting {
    fn new(number: u64, head: Head, packet: &Packet<'_>) -> Self {
        Self {
            number,
            head,
            interface: packet.interface,
            link: packet.link.into(),
            since: packet.time,
            frames: 0,
            wire_len: 0,
            pieces: BTreeMap::new(),
            have: 0,
            len: None,
            cost: packet.link.len(),
        }
    }

    fn take(&mut self, head: Head, fragment: &Fragment<'_>) -> Fit {
        let Some((data, len)) = measure(&head, fragment) else {
            return Fit::Unfit;
        };
        let (start, end) = (fragment.offset, fragment.offset.saturating_add(len));
        let highest = self
            .pieces
            .values()
            .next_back()
            .map_or(0, |piece| piece.end);
        let agrees = match self.len {
            Some(whole) => end <= whole && (fragment.more || end == whole),
            None => fragment.more || end >= highest,
        };
        if !agrees {
            return Fit::Clash;
        }
        if let Some((&before, piece)) = self.pieces.range(..=start).next_back() {
            if self.covers(before, end) {
                let known = self.says(before, start, data);
                return if known { Fit::Copy } else { Fit::Forged };
            }
            if piece.end > start {
                return Fit::Clash;
            }
        }
        if self.pieces.range(start..end).next().is_some() {
            return Fit::Clash;
        }
        if !fragment.more {
            self.len = Some(end);
        }
        if start == 0 {
            self.head = head;
        }
        self.have = self.have.saturating_add(len);
        self.cost = self
            .cost
            .saturating_add(data.len().saturating_add(PIECE_COST));
        let data = data.into();
        self.pieces.insert(start, Piece { end, data });
        Fit::New
    }

    /// Whether the piece at `from` and those that follow it without a hole reach `end`.
    fn covers(&self, from: u32, end: u32) -> bool {
        let mut reached = from;
        for (&offset, piece) in self.pieces.range(from..) {
            if offset != reached || reached >= end {
                break;
            }
            reached = piece.end;
        }
        reached >= end
    }

    /// Whether `data` at `start` is what the pieces from `from` on hold there, as far as they were captured.
    fn says(&self, from: u32, start: u32, data: &[u8]) -> bool {
        let end = start.saturating_add(data.len() as u32);
        self.pieces.range(from..end).all(|(&offset, piece)| {
            let known = piece
                .data
                .iter()
                .skip(start.saturating_sub(offset) as usize);
            let said = data.iter().skip(offset.saturating_sub(start) as usize);
            known.zip(said).all(|(known, said)| known == said)
        })
    }

    /// The datagram as far as it was captured without a hole; `len` bytes of it were on the wire.
    fn datagram(&self, time: Timestamp, len: u32) -> Datagram {
        let mut end = 0;
        let whole = self.pieces.iter().take_while(|&(&offset, piece)| {
            let follows = offset == end;
            // After one that was cut short comes nothing.
            end = offset.saturating_add(piece.data.len() as u32);
            follows
        });
        let payload = whole.map(|(_, piece)| &*piece.data);
        let frames = (self.frames, self.wire_len);
        let seen_at = (self.interface, &*self.link);
        Datagram::new(self.head, time, frames, seen_at, len, payload)
    }

    fn give_up(&self, now: Timestamp, losses: &mut LossCounts) -> Option<Datagram> {
        losses.add_n(Loss::Fragment, u64::from(self.frames));
        let begins = self.pieces.contains_key(&0);
        begins.then(|| self.datagram(now, self.have))
    }
}

/// The bytes of a fragment and their length on the wire, if it can be part of a datagram. All but the last are multiples
/// of 8 bytes long; IPv4 hosts cut off what is more, IPv6 hosts refuse it (RFC 8200 4.5).
fn measure<'a>(head: &Head, fragment: &Fragment<'a>) -> Option<(&'a [u8], u32)> {
    let mut len = fragment.len;
    if fragment.more && !len.is_multiple_of(8) {
        if head.src.is_ipv6() {
            return None;
        }
        len = len.saturating_sub(len % 8);
    }
    let end = fragment.offset.saturating_add(len);
    if len == 0 || end > head.max_len() {
        return None;
    }
    let data = fragment.data.get(..len as usize).unwrap_or(fragment.data);
    Some((data, len))
}

#[cfg(test)]
mod tests;
