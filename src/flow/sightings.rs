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
//! Bounded: the latest so many sightings are remembered. Nothing is allocated per packet.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;

use foldhash::quality::RandomState;

use super::recent::Recent;
use crate::decode::{IpPacket, Packet, Transport};
use crate::time::Timestamp;

/// Copies of a packet at other places come at most this much apart. A queue on a busy uplink takes tens of milliseconds; TCP
/// sends again after 200 ms (Linux) at the earliest where it can't tell loss otherwise.
const ELSEWHERE: u32 = millis(50);
/// Copies at the same place come at most this much apart.
const HERE: u32 = millis(1);

/// Sightings of one packet kept at most; more taps than that are not told apart.
const MAX_TAPS: usize = 8;
/// Sightings of packets that look the same looked through, the latest first. Who sends the same datagram without a number to one
/// host after the other makes so many; the copies of each follow it at once.
const MAX_ALIKE: usize = 32;
/// Bytes of either end of a payload that tell packets apart.
const ENDS: usize = 32;

/// What was seen lately, and where.
#[derive(Debug)]
pub(super) struct Sightings {
    hasher: RandomState,
    seen: Recent<Seen>,
}

/// A packet as it looks wherever it is seen, and where it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    hash: u64,
    place: Place,
    at: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Place {
    /// Number and index of the interface, folded.
    interface: u32,
    /// Hash of the link layer and of all wraps.
    link: u16,
    ttl: u8,
}

/// A sighting of a packet of the flow at `slot`; at none if it is forgotten.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    slot: Option<Slot>,
    place: Place,
    at: u32,
}

/// A slot of the flow table, plus one.
type Slot = NonZeroU32;

impl Sightings {
    /// Remembers at least `max` sightings.
    pub(super) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            seen: Recent::new(max),
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
        let [number, index] = [packet.interface >> 32, packet.interface].map(|half| half as u32);
        Sight {
            hash: hasher.finish(),
            place: Place {
                // Numbers are small, and spread far apart by an odd factor.
                interface: number.wrapping_mul(0x9e37_79b1) ^ index,
                link: place.finish() as u16,
                ttl: ip.ttl,
            },
            at: tick(packet.time),
        }
    }

    /// Whether a packet of the flow at `slot` was seen before. Remembers this sighting of it.
    pub(super) fn is_copy(&mut self, sight: &Sight, slot: u32) -> bool {
        let now = Seen::new(sight, slot);
        let (mut here, mut youngest, mut taps) = (None, None, 0_usize);
        for (number, seen) in self.of(sight, slot) {
            taps = taps.saturating_add(1);
            youngest = youngest.or(Some(number));
            if seen.place == sight.place {
                here = Some((number, seen.age(sight)));
            }
        }
        match here {
            Some((_, age)) if age <= HERE => true,
            // It passes for the second time: it is another packet, of which nothing was seen elsewhere yet.
            Some((again, _)) => {
                while let Some(number) = self.newest_of(sight, slot) {
                    self.seen.renew(number, Seen::default());
                }
                self.seen.renew(again, now);
                false
            }
            None => {
                match youngest.filter(|_| taps >= MAX_TAPS) {
                    Some(number) => self.seen.renew(number, now),
                    None => self.seen.push(sight.hash, now),
                }
                taps > 0
            }
        }
    }

    /// Remembers the sighting of a packet that belongs to the flow at `slot`.
    pub(super) fn remember(&mut self, sight: &Sight, slot: u32) {
        self.seen.push(sight.hash, Seen::new(sight, slot));
    }

    /// The slot of a flow whose packet this may be on another stretch of its way, addressed otherwise: the very packet was
    /// seen of that flow lately, where it may have come from or gone to from here, and not here.
    pub(super) fn elsewhere(&self, sight: &Sight) -> Option<u32> {
        let mut lately = self
            .seen
            .under(sight.hash)
            .take(MAX_ALIKE)
            .filter(|(_, seen)| seen.age(sight) <= ELSEWHERE);
        let slot = lately
            .find_map(|(_, seen)| seen.slot)?
            .get()
            .wrapping_sub(1);
        let mut linked = false;
        for (_, seen) in self.of(sight, slot) {
            if sight.place.is_at(seen.place) {
                return None;
            }
            linked |= sight.place.may_follow(seen.place);
        }
        linked.then_some(slot)
    }

    fn newest_of(&self, sight: &Sight, slot: u32) -> Option<u32> {
        self.of(sight, slot).next().map(|(number, _)| number)
    }

    fn of(&self, sight: &Sight, slot: u32) -> impl Iterator<Item = (u32, Seen)> {
        let slot = Slot::new(slot.wrapping_add(1));
        let alike = self.seen.under(sight.hash).take(MAX_ALIKE);
        alike.filter(move |(_, seen)| {
            seen.slot == slot && seen.slot.is_some() && seen.age(sight) <= ELSEWHERE
        })
    }
}

impl Place {
    /// Whether it is the same stretch of the way. TTLs may differ there only between packets.
    const fn is_at(self, there: Self) -> bool {
        self.interface == there.interface && self.link == there.link
    }

    /// Whether a packet seen here may have been addressed otherwise there: at another interface, or, at the same one, before
    /// something routed it. What passes one point of the way twice, a hop no older, is two packets.
    const fn may_follow(self, there: Self) -> bool {
        self.interface != there.interface || (self.ttl < there.ttl && self.link != there.link)
    }
}

impl Seen {
    const fn new(sight: &Sight, slot: u32) -> Self {
        Self {
            slot: Slot::new(slot.wrapping_add(1)),
            place: sight.place,
            at: sight.at,
        }
    }

    /// Time between this sighting and another, whichever was first: taps have clocks of their own.
    const fn age(&self, sight: &Sight) -> u32 {
        sight.at.wrapping_sub(self.at).cast_signed().unsigned_abs()
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
