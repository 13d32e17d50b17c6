//! One conversation under several addresses: what service NAT and masquerading make of it on its way past the taps.
//!
//! A flow is kept under the addresses of its first packet. It gets further addresses, another [`View`], when a packet
//! under unknown ones turns out to be its own:
//!
//! * the very packet was seen of the flow elsewhere, on another interface or a hop before ([`Sightings::elsewhere`]), and
//!   one end is the same: the destination was translated, or the source masqueraded;
//! * or the flow was seen from one end only, and this packet is what the other end says to the same client: on a bridge
//!   a connection through a service to another node shows requests as they go to the backend, and answers as they
//!   come from the service. TCP's numbers have to fit, a DNS answer its query; other datagrams need the sink to know one of
//!   the two addresses for a service's.
//!
//! The sink has a veto, for it may know that two addresses are two pods. Whoever forges packets so that they pass for one
//! another hides nothing: both addresses are told of.
//!
//! All of this is looked at only when a packet belongs to no flow that is known.
//!
//! [`Sightings::elsewhere`]: super::super::sightings::Sightings::elsewhere

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::super::recent::Recent;
use super::super::sightings::Sight;
use super::{Direction, FlowKey, FlowSink, FlowTable, Protocol};
use crate::address::NetworkId;
use crate::decode::{IpPacket, Packet, Transport};
use crate::flow::live::Flow;
use crate::time::Timestamp;

/// Addresses of a flow beside its first: before and after a service, masqueraded, both.
const MAX_VIEWS: usize = 3;
/// Flows remembered by their clients until the other half is seen.
const MAX_HALVES: usize = 1 << 13;
/// A TCP header with time stamps, which with the sequence number are a signature of their own.
const WITH_TIME_STAMPS: usize = 32;
const DNS: u16 = 53;

/// Other addresses of a flow that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// When they were seen first.
    pub time: Timestamp,
    /// The virtual network.
    pub network: NetworkId,
    /// Who began, with port.
    pub orig: (IpAddr, u16),
    /// Who was addressed, with port.
    pub resp: (IpAddr, u16),
    /// Whether this is nearer to the responder than the flow's first addresses.
    pub behind: bool,
}

/// Whether of two addresses one may stand for the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Translation {
    /// They are known to be two hosts.
    Never,
    /// Nothing is known against it.
    Possible,
    /// One is a service's, or else known to be translated.
    Known,
}

/// The further addresses of all flows, and flows whose other half may bear others.
#[derive(Debug)]
pub(super) struct Views {
    table: HashTable<Alias>,
    /// Slots by the ends of flows that may be clients.
    halves: Recent<u32>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Alias {
    key: FlowKey,
    slot: u32,
    /// Whether the key's lesser end is the greater one of the flow's first key.
    flipped: bool,
}

/// A flow's further key, and which of its ends began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::flow) struct Further {
    key: FlowKey,
    orig_is_low: bool,
}

/// The flow that a packet under unknown addresses belongs to.
struct Kin {
    slot: u32,
    /// Which end sent the packet.
    from: Direction,
    /// Whether its addresses are nearer to the responder than those known.
    behind: bool,
    /// What has to be known of the addresses.
    needed: Translation,
}

/// An address with its port.
type End = (IpAddr, u16);

impl Views {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            halves: Recent::new(MAX_HALVES),
            hasher: RandomState::default(),
        }
    }

    /// The slot of the flow that has a further key, and whether the key's lesser end is the flow's greater one.
    pub(super) fn find(&self, hash: u64, key: &FlowKey) -> Option<(u32, bool)> {
        let alias = self.table.find(hash, |alias| alias.key == *key)?;
        Some((alias.slot, alias.flipped))
    }

    /// Forgets the further key of a flow.
    pub(super) fn remove(&mut self, hash: u64, key: &FlowKey) {
        if let Ok(entry) = self.table.find_entry(hash, |alias| alias.key == *key) {
            entry.remove();
        }
    }

    /// A flow was opened: whichever of its ends may be a client waits for its other half.
    pub(super) fn opened(
        &mut self,
        key: &FlowKey,
        src_is_low: bool,
        transport: &Transport,
        slot: u32,
    ) {
        let (src, dst) = match transport {
            Transport::Tcp(tcp) if tcp.flags.is_open() => (true, false),
            Transport::Tcp(tcp) if tcp.flags.is_accept() => (false, true),
            Transport::Tcp(_) | Transport::Ports { .. } => (true, true),
            _ => return,
        };
        for (may, is_low) in [(src, src_is_low), (dst, !src_is_low)] {
            if may {
                let hash = self.client(key, key.end(is_low));
                let known = self.halves.under(hash).next();
                match known {
                    Some((number, _)) => self.halves.renew(number, slot),
                    None => self.halves.push(hash, slot),
                }
            }
        }
    }

    fn client(&self, key: &FlowKey, end: End) -> u64 {
        self.hasher.hash_one((key.network(), key.protocol(), end))
    }

    fn half(&self, key: &FlowKey, client: End) -> Option<u32> {
        let hash = self.client(key, client);
        self.halves.under(hash).next().map(|(_, slot)| slot)
    }
}

impl<S> FlowTable<S> {
    /// The known flow that a packet under an unknown key belongs to, and whether the packet's source is the lesser end of
    /// its first key. From here on the key is known.
    pub(super) fn stitch<K: FlowSink<State = S>>(
        &mut self,
        sight: &Sight,
        (hash, key, src_is_low): (u64, &FlowKey, bool),
        (packet, ip): (&Packet<'_>, &IpPacket<'_>),
        sink: &mut K,
    ) -> Option<(u32, bool)> {
        let (src, dst) = (key.end(src_is_low), key.end(!src_is_low));
        let Kin {
            slot,
            from,
            behind,
            needed,
        } = self
            .seen_elsewhere(sight, key, (src, dst), ip)
            .or_else(|| self.other_half(key, (src, dst), (packet, ip)))?;
        let (orig, resp) = match from {
            Direction::Orig => (src, dst),
            Direction::Resp => (dst, src),
        };
        let view = View {
            time: packet.time,
            network: packet.network,
            orig,
            resp,
            behind,
        };
        let flow = self.slots.flow_mut(slot)?;
        if flow.further().len() >= MAX_VIEWS {
            return None;
        }
        let (known_orig, known_resp) = flow.ends();
        // Of two ports of one host nothing is known.
        let same_hosts = (known_orig.0, known_resp.0) == (orig.0, resp.0);
        if same_hosts && needed == Translation::Known {
            return None;
        }
        for (known, now) in [(known_orig.0, orig.0), (known_resp.0, resp.0)] {
            if known != now && sink.translation(packet.time, packet.network, known, now) < needed {
                return None;
            }
        }
        let orig_is_low = (from == Direction::Orig) == src_is_low;
        let further = Further {
            key: *key,
            orig_is_low,
        };
        flow.note_further(further);
        let flipped = orig_is_low != flow.orig_is_low;
        sink.seen_as(&mut flow.state, &view);
        let alias = Alias {
            key: *key,
            slot,
            flipped,
        };
        let hasher = &self.hasher;
        self.views
            .table
            .insert_unique(hash, alias, |alias| hasher.hash_one(alias.key));
        Some((slot, src_is_low != flipped))
    }

    /// The flow of which this very packet was seen elsewhere.
    fn seen_elsewhere(
        &self,
        sight: &Sight,
        key: &FlowKey,
        (src, dst): (End, End),
        ip: &IpPacket<'_>,
    ) -> Option<Kin> {
        let slot = self.sightings.elsewhere(sight)?;
        let flow = self.slots.flow(slot)?;
        if (flow.key.network(), flow.key.protocol()) != (key.network(), key.protocol()) {
            return None;
        }
        let from = flow.views().find_map(|(orig, resp)| {
            if src == orig || dst == resp {
                Some(Direction::Orig)
            } else if src == resp || dst == orig {
                Some(Direction::Resp)
            } else {
                None
            }
        });
        let from = from.or_else(|| match ip.transport {
            // Both ends were translated at once.
            Transport::Tcp(tcp) if ip.header.len() >= WITH_TIME_STAMPS => {
                if tcp.flags.is_open() {
                    Some(Direction::Orig)
                } else {
                    tcp.flags.is_accept().then_some(Direction::Resp)
                }
            }
            _ => None,
        })?;
        let tells = matches!(ip.transport, Transport::Tcp(_)) || ip.id != 0;
        let same_client = flow.views().any(|(orig, _)| src == orig || dst == orig);
        Some(Kin {
            slot,
            from,
            behind: from == Direction::Orig,
            // Two pods may well send the same unnumbered words to the same server.
            needed: if tells || same_client {
                Translation::Possible
            } else {
                Translation::Known
            },
        })
    }

    /// The flow that was seen from one end only, and of which this packet is the other half.
    fn other_half(
        &self,
        key: &FlowKey,
        (src, dst): (End, End),
        (packet, ip): (&Packet<'_>, &IpPacket<'_>),
    ) -> Option<Kin> {
        // What a server says to a client whose requests are known, or what a client says to whom answers are known.
        let halves = [(dst, src.1, false), (src, dst.1, true)];
        halves.into_iter().find_map(|(client, server_port, asks)| {
            let slot = self.views.half(key, client)?;
            let flow = self.slots.flow(slot)?;
            let speaker = flow.only_speaker()?;
            let (orig, resp) = flow.ends();
            let client_is_orig = asks != (speaker == Direction::Orig);
            let (known_client, known_server) = if client_is_orig {
                (orig, resp)
            } else {
                (resp, orig)
            };
            if known_client != client
                || (flow.key.network(), flow.key.protocol()) != (key.network(), key.protocol())
                || packet.time > flow.last.after(self.config.silent_after)
            {
                return None;
            }
            let needed = match &ip.transport {
                Transport::Tcp(tcp) if flow.tcp.is_answered_by(speaker, tcp) => {
                    Translation::Possible
                }
                Transport::Tcp(_) => return None,
                _ if !asks && is_answer(flow, [server_port, known_server.1], ip) => {
                    Translation::Possible
                }
                _ => Translation::Known,
            };
            Some(Kin {
                slot,
                from: speaker.reverse(),
                behind: asks,
                needed,
            })
        })
    }

    /// Forgets the further keys of a flow that ends.
    pub(super) fn forget_views(&mut self, flow: &Flow<S>) {
        for further in flow.further() {
            self.views
                .remove(self.hasher.hash_one(further.key), &further.key);
        }
    }
}

impl<S> Flow<S> {
    /// The ends of the first key: who began, who was addressed.
    fn ends(&self) -> (End, End) {
        (
            self.key.end(self.orig_is_low),
            self.key.end(!self.orig_is_low),
        )
    }

    /// The ends under all keys.
    fn views(&self) -> impl Iterator<Item = (End, End)> {
        let further = self.further().iter().map(|further| {
            let end = |orig: bool| further.key.end(further.orig_is_low == orig);
            (end(true), end(false))
        });
        std::iter::once(self.ends()).chain(further)
    }
}

/// Whether a datagram answers the DNS query that the flow's latest was: same number, and a response.
fn is_answer<S>(flow: &Flow<S>, server_ports: [u16; 2], ip: &IpPacket<'_>) -> bool {
    const RESPONSE: u8 = 0x80;
    let Some(&[high, low, flags]) = ip.payload.first_chunk::<3>() else {
        return false;
    };
    flow.key.protocol() == Protocol::Udp
        && server_ports.contains(&DNS)
        && flow.latest_number == u16::from_be_bytes([high, low])
        && flags & RESPONSE != 0
}

#[cfg(test)]
mod tests;
