//! One packet, once, however many taps and mirrors show it.
//!
//! A copy is told by what forwarding leaves as it is: protocol, IPv4's number, length, and TCP's numbers, flags and options,
//! or the ends of any other payload. MAC addresses, TTL, VLAN tags, tunnels, interface, and checksums (which NAT rewrites and
//! offloading leaves unfinished) are no part of that, nor are addresses, which NAT changes; the flow table knows which flow it
//! is. A retransmission bears a new number and a new time stamp, so it is no copy; nor is it for coming later than
//! [`ELSEWHERE`].
//!
//! Some senders number nothing: what they repeat is the same to the last bit. So it also matters where a packet was seen. A
//! packet passes a place once, save that a mirror of both a switch's ports, or a bridge that delivers twice, shows it
//! again at once ([`HERE`]); if it passes later, it is another one, and what was seen of the former elsewhere is forgotten.
//!
//! Bounded: the latest so many sightings are remembered, in a ring. Nothing is allocated per packet. The hash is seeded at
//! random, but decides nothing: the order of packets alone says what is forgotten.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;

use crate::decode::{IpPacket, Packet, Transport};
use crate::time::Timestamp;

/// Copies of a packet at other places come at most this much apart. A queue on a busy uplink takes tens of milliseconds; TCP
/// sends again after 200 ms (Linux) at the earliest where it can't tell loss otherwise.
const ELSEWHERE: u32 = millis(50);
/// Copies at the same place come at most this much apart.
const HERE: u32 = millis(1);

/// Sightings of one packet kept at most; more taps than that are not told apart.
const MAX_TAPS: usize = 8;
/// Bytes of either end of a payload that tell packets apart.
const ENDS: usize = 32;

/// What was seen lately, and where.
#[derive(Debug)]
pub(super) struct Sightings {
    hasher: RandomState,
    /// By the end of their numbers, which count all sightings there ever were.
    ring: Box<[Entry]>,
    /// The latest sighting of each bucket.
    heads: Box<[u32]>,
    next: u32,
}

/// A packet as it looks wherever it is seen, and where it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    hash: u64,
    place: Place,
    at: u32,
}

/// Interface, TTL and link layer, the latter hashed: 8, 8 and 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    slot: u32,
    place: Place,
    at: u32,
    /// The sighting before it in its bucket.
    older: u32,
}

const NOTHING: Entry = Entry {
    hash: 0,
    slot: u32::MAX,
    place: Place(0),
    at: 0,
    older: 0,
};

impl Sightings {
    /// Remembers at least `max` sightings.
    pub(super) fn new(max: usize) -> Self {
        let len = max.clamp(1, 1 << 30).next_power_of_two();
        Self {
            hasher: RandomState::default(),
            ring: vec![NOTHING; len].into(),
            heads: vec![0; len.saturating_mul(2)].into(),
            // Number 0, in the heads, is out of reach.
            next: (len as u32).saturating_add(1),
        }
    }

    /// What a packet looks like, and where it was seen.
    pub(super) fn look(&self, packet: &Packet<'_>, ip: &IpPacket<'_>) -> Sight {
        let mut hasher = self.hasher.build_hasher();
        let fixed =
            u64::from(ip.protocol) << 48 | u64::from(ip.id) << 32 | u64::from(ip.payload_len);
        hasher.write_u64(fixed);
        let header = |range: std::ops::Range<usize>| {
            let end = range.end.min(ip.header.len());
            ip.header.get(range.start..end).unwrap_or_default()
        };
        match ip.transport {
            Transport::Tcp(tcp) => {
                hasher.write_u64(u64::from(tcp.seq) << 32 | u64::from(tcp.ack));
                hasher.write_u32(u32::from(tcp.flags.0) << 16 | u32::from(tcp.window));
                hasher.write(header(20..60)); // options
            }
            Transport::Icmp(_) => {
                hasher.write(header(0..2));
                hasher.write(header(4..8));
                ends(ip.payload, &mut hasher);
            }
            _ => ends(ip.payload, &mut hasher),
        }
        let mut place = self.hasher.build_hasher();
        place.write(packet.link);
        let interface = packet.interface ^ (packet.interface >> 32);
        Sight {
            hash: hasher.finish(),
            place: Place::new(interface as u8, ip.ttl, place.finish() as u16),
            at: tick(packet.time),
        }
    }

    /// Whether a packet of the flow at `slot` was seen before. Remembers this sighting of it.
    pub(super) fn is_copy(&mut self, sight: &Sight, slot: u32) -> bool {
        let (mut here, mut youngest, mut taps) = (None, None, 0_usize);
        let mut step = self.latest(sight);
        while let Some((number, entry)) = step {
            if entry.is_of(sight, slot) {
                taps = taps.saturating_add(1);
                youngest = youngest.or(Some(number));
                if entry.place == sight.place {
                    here = Some((number, entry.age(sight)));
                }
            }
            step = self.older(number, entry);
        }
        match here {
            Some((_, age)) if age <= HERE => true,
            Some((number, _)) => {
                self.forget(sight, slot);
                self.renew(number, sight, slot);
                false
            }
            None if taps >= MAX_TAPS => {
                youngest.inspect(|&number| self.renew(number, sight, slot));
                true
            }
            None => {
                self.remember(sight, slot);
                taps > 0
            }
        }
    }

    /// Remembers the sighting of a packet that belongs to the flow at `slot`.
    pub(super) fn remember(&mut self, sight: &Sight, slot: u32) {
        let number = self.next;
        let head = self.head(sight.hash);
        let older = std::mem::replace(head, number);
        self.next = number.wrapping_add(1);
        *self.entry(number) = Entry {
            hash: sight.hash,
            slot,
            place: sight.place,
            at: sight.at,
            older,
        };
    }

    /// Puts another sighting in the place of one of the same packet.
    fn renew(&mut self, number: u32, sight: &Sight, slot: u32) {
        let entry = self.entry(number);
        (entry.slot, entry.place, entry.at) = (slot, sight.place, sight.at);
    }

    /// A packet passes a place for the second time: it is another one, of which nothing was seen elsewhere yet.
    fn forget(&mut self, sight: &Sight, slot: u32) {
        let mut step = self.latest(sight);
        while let Some((number, entry)) = step {
            if entry.is_of(sight, slot) {
                self.entry(number).slot = NOTHING.slot;
            }
            step = self.older(number, entry);
        }
    }

    /// The latest sighting in a packet's bucket, with its number.
    fn latest(&mut self, sight: &Sight) -> Option<(u32, Entry)> {
        let number = *self.head(sight.hash);
        self.within_reach(number)
            .then(|| (number, *self.entry(number)))
    }

    /// The one before it.
    fn older(&mut self, number: u32, entry: Entry) -> Option<(u32, Entry)> {
        let further = self.next.wrapping_sub(entry.older) > self.next.wrapping_sub(number);
        (further && self.within_reach(entry.older)).then(|| (entry.older, *self.entry(entry.older)))
    }

    /// Whether a number is one of the latest, whose places in the ring are their own.
    const fn within_reach(&self, number: u32) -> bool {
        self.next.wrapping_sub(number) as usize <= self.ring.len()
    }

    fn entry(&mut self, number: u32) -> &mut Entry {
        let at = number as usize & self.ring.len().wrapping_sub(1);
        #[expect(clippy::indexing_slicing, reason = "masked by a power of two")]
        &mut self.ring[at]
    }

    fn head(&mut self, hash: u64) -> &mut u32 {
        let at = hash as usize & self.heads.len().wrapping_sub(1);
        #[expect(clippy::indexing_slicing, reason = "masked by a power of two")]
        &mut self.heads[at]
    }
}

impl Place {
    const fn new(interface: u8, ttl: u8, link: u16) -> Self {
        Self((interface as u32) << 24 | (ttl as u32) << 16 | link as u32)
    }
}

impl Entry {
    /// Time between this sighting and another, whichever was first: taps have clocks of their own.
    const fn age(&self, sight: &Sight) -> u32 {
        sight.at.wrapping_sub(self.at).cast_signed().unsigned_abs()
    }

    const fn is_of(&self, sight: &Sight, slot: u32) -> bool {
        self.hash == sight.hash && self.slot == slot && self.age(sight) <= ELSEWHERE
    }
}

/// Units of 1024 ns, wrapping after more than an hour.
const fn tick(time: Timestamp) -> u32 {
    (time.nanos() >> 10) as u32
}

const fn millis(millis: u32) -> u32 {
    tick(Timestamp::from_secs_nanos(
        0,
        millis.saturating_mul(1_000_000),
    ))
}

fn ends(payload: &[u8], hasher: &mut impl Hasher) {
    let (head, tail) = payload.split_at(payload.len().min(ENDS));
    hasher.write(head);
    hasher.write(tail.last_chunk::<ENDS>().map_or(tail, |last| last));
}

#[cfg(test)]
mod tests;
