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
//! Bounded: a fixed number of places, the oldest of a bucket goes. Nothing is allocated per packet.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use crate::decode::{IpPacket, Packet, Transport};
use crate::time::Timestamp;

/// Copies of a packet at other places come at most this much apart. A queue on a busy uplink takes tens of milliseconds; TCP
/// sends again after 200 ms (Linux) at the earliest where it can't tell loss otherwise.
const ELSEWHERE: u32 = millis(50);
/// Copies at the same place come at most this much apart.
const HERE: u32 = millis(1);

/// Places looked at for a packet: a line of the processor's cache.
const WAYS: usize = 4;
/// Bytes of either end of a payload that tell packets apart.
const ENDS: usize = 32;

/// What was seen lately, and where.
#[derive(Debug)]
pub(super) struct Sightings {
    hasher: RandomState,
    buckets: Box<[[Entry; WAYS]]>,
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
    tag: u32,
    slot: u32,
    place: Place,
    at: u32,
}

const NOTHING: Entry = Entry {
    tag: 0,
    slot: u32::MAX,
    place: Place(0),
    at: 0,
};

impl Sightings {
    /// Remembers up to `max` sightings.
    pub(super) fn new(max: usize) -> Self {
        let buckets = max.div_ceil(WAYS).next_power_of_two();
        Self {
            hasher: RandomState::default(),
            buckets: vec![[NOTHING; WAYS]; buckets].into(),
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
        let bucket = self.bucket(sight);
        let (mut here, mut elsewhere) = (None, false);
        for entry in bucket.iter().filter(|entry| entry.is_of(sight, slot)) {
            if entry.place == sight.place {
                here = Some(entry.age(sight));
            } else {
                elsewhere = true;
            }
        }
        match here {
            Some(age) if age <= HERE => return true,
            // It passes here for the second time: it is another packet, of which nothing was seen elsewhere yet.
            Some(_) => {
                for entry in bucket.iter_mut().filter(|entry| entry.is_of(sight, slot)) {
                    *entry = NOTHING;
                }
                elsewhere = false;
            }
            None => {}
        }
        self.remember(sight, slot);
        elsewhere
    }

    /// Remembers the sighting of a packet that belongs to the flow at `slot`.
    pub(super) fn remember(&mut self, sight: &Sight, slot: u32) {
        let entry = Entry {
            tag: sight.tag(),
            slot,
            place: sight.place,
            at: sight.at,
        };
        let bucket = self.bucket(sight);
        // The first place says where a packet's way begins, the last that it went on; those between are left out.
        let own = bucket
            .iter()
            .filter(|entry| entry.is_of(sight, slot))
            .count();
        let given_up = if own < 2 {
            bucket.iter_mut().max_by_key(|entry| entry.staleness(sight))
        } else {
            bucket
                .iter_mut()
                .filter(|entry| entry.is_of(sight, slot))
                .min_by_key(|entry| entry.age(sight))
        };
        if let Some(given_up) = given_up {
            *given_up = entry;
        }
    }

    fn bucket(&mut self, sight: &Sight) -> &mut [Entry; WAYS] {
        let at = sight.hash as usize & self.buckets.len().wrapping_sub(1);
        #[expect(clippy::indexing_slicing, reason = "masked by a power of two")]
        &mut self.buckets[at]
    }
}

impl Sight {
    const fn tag(&self) -> u32 {
        (self.hash >> 32) as u32
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

    /// Age for the choice of whom to give up: the greatest goes.
    const fn staleness(&self, sight: &Sight) -> u32 {
        if self.slot == NOTHING.slot {
            u32::MAX
        } else {
            self.age(sight)
        }
    }

    const fn is_of(&self, sight: &Sight, slot: u32) -> bool {
        self.tag == sight.tag() && self.slot == slot && self.age(sight) <= ELSEWHERE
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
