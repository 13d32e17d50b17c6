//! The table of live flows: bounded, aged by packet time, without locks and without allocation per packet.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::config::FlowConfig;
use super::ends::{Ends, begins, query};
use super::live::Flow;
use super::sightings::Sightings;
use super::stream::Budget;
use super::turn::Turn;
use super::wheel::{Timer, Wheel};
use super::{Direction, EndReason, FlowId, FlowKey, FlowRecord, Outcome, Protocol};
use crate::address::{Mac, NetworkId};
use crate::decode::{Icmp, IpPacket, Packet, Quoted, TcpFlags, Transport};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// How a flow began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowStart {
    /// Its number.
    pub id: FlowId,
    /// Its first packet's time.
    pub time: Timestamp,
    /// The virtual network.
    pub network: NetworkId,
    /// Transport.
    pub protocol: Protocol,
    /// Who began, with port (ICMP: the message's type, that of the request for a query).
    pub orig: (IpAddr, u16),
    /// Who was addressed, with port (ICMP: the message's code).
    pub resp: (IpAddr, u16),
    /// The Ethernet address that the first packet came from, if it was the originator's and nothing wrapped it.
    pub sender: Option<Mac>,
    /// Whether that packet begins it: TCP's does with a SYN, of other protocols nobody can tell.
    pub begun: bool,
}

/// Payload of a flow: the next in-order bytes of a TCP direction, a whole datagram, or what follows an echo's header.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Time of the packet that made it available.
    pub time: Timestamp,
    /// Who sent it.
    pub direction: Direction,
    /// Bytes missing before it.
    pub gap: u32,
    /// The bytes; empty only in an echo.
    pub data: &'a [u8],
    /// The header, if this is an ICMP echo.
    pub echo: Option<&'a Icmp>,
}

/// Whether a flow's payload is still wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Yes.
    More,
    /// No: from here on the flow is only counted.
    Enough,
}

/// Who hears of flows. Its `State` lives in the flow's slot.
pub trait FlowSink {
    /// What is kept per flow.
    type State;
    /// A flow began.
    fn opened(&mut self, start: &FlowStart) -> Self::State;
    /// Whether of two addresses one may stand for the other, as far as is known.
    fn translation(&self, _: Timestamp, _: NetworkId, _: IpAddr, _: IpAddr) -> Translation {
        Translation::Possible
    }
    /// A flow was seen under other addresses as well.
    fn seen_as(&mut self, _: &mut Self::State, _: &View) {}
    /// How the other end took it; at most once per flow, and never if the capture ended before an answer was due.
    fn outcome(&mut self, state: &mut Self::State, time: Timestamp, outcome: Outcome);
    /// Somebody has finished speaking, or has spoken for long.
    fn turn(&mut self, state: &mut Self::State, turn: &Turn);
    /// Payload came.
    fn payload(&mut self, state: &mut Self::State, chunk: &Chunk<'_>) -> Interest;
    /// Whether nothing more is expected: a question in datagrams that was answered, in a protocol of questions.
    fn is_settled(&self, _: &Self::State) -> bool {
        false
    }
    /// A flow is over.
    fn ended(&mut self, state: Self::State, record: FlowRecord);
}

/// Slots looked at to find one worth giving up when the table is full.
const EVICTION_SAMPLE: usize = 16;

/// A flow that is still open when the capture ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ending {
    id: u64,
    slot: u32,
}

/// The live flows, each with a `S` of its sink.
#[derive(Debug)]
pub struct FlowTable<S> {
    config: FlowConfig,
    hasher: RandomState,
    index: HashTable<u32>,
    slots: Slots<S>,
    free: Vec<u32>,
    sightings: Sightings,
    copies: u64,
    views: Views,
    wheel: Wheel,
    due: Vec<Timer>,
    budget: Budget,
    now: Timestamp,
    next_id: u64,
    hand: usize,
    losses: LossCounts,
}

impl<S> FlowTable<S> {
    /// An empty table.
    pub fn new(config: FlowConfig) -> Self {
        Self {
            config,
            hasher: RandomState::default(),
            index: HashTable::new(),
            slots: Slots::new(),
            free: Vec::new(),
            sightings: Sightings::new(config.max_sightings),
            copies: 0,
            views: Views::new(),
            wheel: Wheel::new(),
            due: Vec::new(),
            budget: Budget {
                used: 0,
                limit: config.max_reorder_bytes,
            },
            now: Timestamp::MIN,
            next_id: 0,
            hand: 0,
            losses: LossCounts::default(),
        }
    }

    /// Flows tracked at the moment.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no flow is tracked.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Flows opened so far.
    pub const fn opened(&self) -> u64 {
        self.next_id
    }

    /// Packets that were seen more than once, counting every time but the first.
    pub const fn copies(&self) -> u64 {
        self.copies
    }

    /// What was given up so far.
    pub const fn losses(&self) -> &LossCounts {
        &self.losses
    }

    /// Takes a packet.
    pub fn packet<K: FlowSink<State = S>>(
        &mut self,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sink: &mut K,
    ) -> Option<FlowId> {
        if packet.time > self.now {
            self.now = packet.time;
            self.expire(sink);
        }
        let ends = Ends::of(ip);
        if let Transport::Icmp(Icmp {
            quoted: Some(quoted),
            ..
        }) = ip.transport
        {
            self.unreachable(packet.network, &quoted, packet.time, sink);
        }
        let (key, src_is_low) = FlowKey::new(
            packet.network,
            ends.protocol,
            (ip.src, ends.src_port),
            (ip.dst, ends.dst_port),
        );
        let hash = self.hasher.hash_one(key);
        let sight = self.sightings.look(packet, ip);
        let found = self
            .lookup(hash, &key, src_is_low)
            .or_else(|| self.stitch(&sight, (hash, &key, src_is_low), (packet, ip), sink));
        if let Some((slot, src_is_low)) = found
            && self.sightings.is_copy(&sight, slot)
        {
            self.copied(slot, src_is_low, packet);
            return None;
        }
        let (slot, src_is_low) = match found {
            Some((slot, src_is_low)) if !self.reopened(slot, src_is_low, &ip.transport) => {
                (slot, src_is_low)
            }
            known => {
                if let Some((slot, _)) = known {
                    self.end(slot, EndReason::Closed, sink);
                }
                let slot = self.open(hash, key, src_is_low, packet, ip, sink);
                self.sightings.remember(&sight, slot);
                self.views.opened(&key, src_is_low, &ip.transport, slot);
                (slot, src_is_low)
            }
        };
        let id = self.slots.flow(slot).map(|flow| FlowId(flow.id));
        self.update(slot, src_is_low, packet, ip, sink);
        id
    }

    /// What the sink keeps of each live flow, in no order that means anything.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.slots.flows_mut().map(|flow| &mut flow.state)
    }

    /// What the sink keeps of one flow after the other, by turns; none where the turn is at a free place.
    pub fn next_state(&mut self) -> Option<&mut S> {
        let slot = self.turn();
        Some(&mut self.flow(slot)?.state)
    }

    /// Whose turn it is.
    fn turn(&mut self) -> u32 {
        let next = self.hand.checked_add(1);
        self.hand = next.filter(|&at| at < self.slots.len()).unwrap_or(0);
        self.hand as u32
    }

    /// Time moved on without a packet.
    pub fn advance<K: FlowSink<State = S>>(&mut self, now: Timestamp, sink: &mut K) {
        if now > self.now {
            self.now = now;
            self.expire(sink);
        }
    }

    /// Ends every flow, in order of opening.
    pub fn finish<K: FlowSink<State = S>>(&mut self, sink: &mut K) {
        for ending in self.endings() {
            self.finish_one(&ending, sink);
        }
    }

    /// The flows that are still open, in order of opening: to be finished one after the other.
    pub fn endings(&self) -> Vec<Ending> {
        let flows = self.slots.flows();
        let mut open: Vec<Ending> = flows
            .map(|(slot, flow)| Ending { id: flow.id, slot })
            .collect();
        open.sort_unstable();
        open
    }

    /// Ends a flow because the capture does.
    pub fn finish_one<K: FlowSink<State = S>>(&mut self, ending: &Ending, sink: &mut K) {
        let open = self.slots.flow(ending.slot);
        if open.is_some_and(|flow| flow.id == ending.id) {
            self.end(ending.slot, EndReason::CaptureEnd, sink);
        }
    }

    fn flow(&mut self, slot: u32) -> Option<&mut Flow<S>> {
        self.slots.flow_mut(slot)
    }

    fn find(&self, hash: u64, key: &FlowKey) -> Option<u32> {
        self.index
            .find(hash, |&slot| is_flow(&self.slots, slot, key))
            .copied()
    }

    /// The slot of the flow that has a key, first or further, and whether the packet's source is the lesser end of the first.
    fn lookup(&self, hash: u64, key: &FlowKey, src_is_low: bool) -> Option<(u32, bool)> {
        let further = || {
            let (slot, flipped) = self.views.find(hash, key)?;
            Some((slot, src_is_low != flipped))
        };
        self.find(hash, key)
            .map(|slot| (slot, src_is_low))
            .or_else(further)
    }

    /// Whether a packet begins another connection on the ports of a known one: a SYN with a number of its own. (Zeek and
    /// Wireshark split there too; a repeated SYN, or one seen before and after NAT, has the same number.)
    fn reopened(&mut self, slot: u32, src_is_low: bool, transport: &Transport) -> bool {
        let (Transport::Tcp(tcp), Some(flow)) = (transport, self.flow(slot)) else {
            return false;
        };
        tcp.flags.is_open() && flow.tcp.isn(flow.direction(src_is_low)) != Some(tcp.seq)
    }

    fn open<K: FlowSink<State = S>>(
        &mut self,
        hash: u64,
        key: FlowKey,
        src_is_low: bool,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sink: &mut K,
    ) -> u32 {
        if self.index.len() >= self.config.max_flows {
            self.evict(sink);
        }
        let orig_is_low = src_is_low == begins(ip, &Ends::of(ip));
        let (mut orig, mut resp) = (key.end(orig_is_low), key.end(!orig_is_low));
        if let Transport::Icmp(icmp) = ip.transport {
            (orig.1, resp.1) = (u16::from(query(icmp.kind)), u16::from(icmp.code));
        }
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        let state = sink.opened(&FlowStart {
            id: FlowId(id),
            time: packet.time,
            network: packet.network,
            protocol: key.protocol(),
            orig,
            resp,
            sender: packet.sender().filter(|_| orig_is_low == src_is_low),
            begun: !matches!(ip.transport, Transport::Tcp(tcp) if !tcp.flags.any(TcpFlags::SYN)),
        });
        let flow = Flow::new(id, key, orig_is_low, packet.time, state);
        let number = self.free.pop().unwrap_or_else(|| self.slots.push());
        let deadline = flow.deadline(&self.config);
        if let Some(slot) = self.slots.get_mut(number) {
            slot.flow = Some(flow);
            let generation = slot.generation;
            let timer = Timer {
                slot: number,
                generation,
            };
            self.wheel.schedule(deadline, timer);
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, number, |&slot| {
            slots.flow(slot).map_or(0, |flow| hasher.hash_one(flow.key))
        });
        number
    }

    /// Counts a packet of a flow that was seen before.
    fn copied(&mut self, slot: u32, src_is_low: bool, packet: &Packet<'_>) {
        self.copies = self.copies.saturating_add(packet.frames.into());
        if let Some(flow) = self.flow(slot) {
            flow.count_copy(flow.direction(src_is_low), packet);
        }
    }

    fn update<K: FlowSink<State = S>>(
        &mut self,
        number: u32,
        src_is_low: bool,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
        sink: &mut K,
    ) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let Some(flow) = slot.flow.as_mut() else {
            return;
        };
        let direction = flow.direction(src_is_low);
        if let Some(turn) = flow.count(direction, packet, ip) {
            sink.turn(&mut flow.state, &turn);
        }
        flow.judge(direction, packet.time, &ip.transport, sink);
        if flow.wants_payload {
            flow.deliver(
                direction,
                packet.time,
                ip,
                &mut self.budget,
                &mut self.losses,
                sink,
            );
        }
        if !flow.closed && flow.tcp.is_closed() {
            flow.closed = true;
            slot.generation = slot.generation.wrapping_add(1);
            let timer = Timer {
                slot: number,
                generation: slot.generation,
            };
            self.wheel.schedule(flow.deadline(&self.config), timer);
        }
    }

    /// An ICMP error came for a packet of a flow that is known, perhaps.
    fn unreachable<K: FlowSink<State = S>>(
        &mut self,
        network: NetworkId,
        quoted: &Quoted,
        time: Timestamp,
        sink: &mut K,
    ) {
        let protocol = Protocol::from_number(quoted.protocol);
        let (key, src_is_low) = FlowKey::new(
            network,
            protocol,
            (quoted.src, quoted.src_port),
            (quoted.dst, quoted.dst_port),
        );
        let hash = self.hasher.hash_one(key);
        if let Some((slot, src_is_low)) = self.lookup(hash, &key, src_is_low)
            && let Some(flow) = self.flow(slot)
            && flow.orig_is_low == src_is_low
            && !flow.outcome_known
        {
            flow.outcome_known = true;
            sink.outcome(&mut flow.state, time, Outcome::Unreachable);
        }
    }

    fn expire<K: FlowSink<State = S>>(&mut self, sink: &mut K) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.now, &mut due);
        for timer in due.drain(..) {
            let (config, now) = (self.config, self.now);
            let Some(slot) = self.slots.get_mut(timer.slot) else {
                continue;
            };
            if slot.generation != timer.generation {
                continue;
            }
            let Some(flow) = slot.flow.as_mut() else {
                continue;
            };
            if flow.is_overdue(now, &config) {
                flow.outcome_known = true;
                let outcome = flow.unseen_outcome();
                sink.outcome(&mut flow.state, now, outcome);
            }
            let mut deadline = flow.deadline(&config);
            if is_settled(flow, sink) {
                deadline = deadline.min(flow.last.after(config.settled_idle));
            }
            if deadline < now {
                let reason = if flow.closed {
                    EndReason::Closed
                } else {
                    EndReason::Idle
                };
                self.end(timer.slot, reason, sink);
            } else {
                self.wheel.schedule(deadline, timer);
            }
        }
        self.due = due;
    }

    /// Makes room: of a few slots, the flow least worth keeping goes. What is over goes first, and is no loss; then unanswered
    /// attempts, then conversations.
    fn evict<K: FlowSink<State = S>>(&mut self, sink: &mut K) {
        let mut worst: Option<(bool, bool, Timestamp, u32)> = None;
        for _ in 0..EVICTION_SAMPLE.min(self.slots.len()) {
            let slot = self.turn();
            if let Some(flow) = self.slots.flow(slot) {
                let is_on = !flow.closed && !is_settled(flow, sink);
                let candidate = (is_on, flow.is_conversation(), flow.last, slot);
                if worst.is_none_or(|worst| candidate < worst) {
                    worst = Some(candidate);
                }
            }
        }
        if let Some((is_on, .., slot)) = worst {
            if is_on {
                self.losses.add(Loss::FlowEvicted);
            }
            self.end(slot, EndReason::Evicted, sink);
        }
    }

    fn end<K: FlowSink<State = S>>(&mut self, number: u32, reason: EndReason, sink: &mut K) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let Some(mut flow) = slot.flow.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        let hash = self.hasher.hash_one(flow.key);
        if let Ok(entry) = self.index.find_entry(hash, |&slot| slot == number) {
            entry.remove();
        }
        self.free.push(number);
        self.forget_views(&flow);
        flow.drain(&mut self.budget, &mut self.losses, sink);
        if let Some(turn) = flow.last_turn().copied() {
            sink.turn(&mut flow.state, &turn);
        }
        // A flow that ends before its answer was due has no outcome that anybody saw.
        if !flow.outcome_known
            && (reason == EndReason::Idle && flow.asks()
                || flow.is_overdue(self.now, &self.config)
                || reason == EndReason::CaptureEnd && flow.is_late(self.now, &self.config))
        {
            let outcome = flow.unseen_outcome();
            sink.outcome(&mut flow.state, self.now, outcome);
        }
        // A closed flow only waits for stragglers: whatever cuts that short, its ends had ended it.
        let closed = flow.closed.then_some(EndReason::Closed);
        let record = flow.record(closed.unwrap_or(reason));
        sink.ended(flow.state, record);
    }
}

/// Whether whatever there was to say on a flow that knows no end was said.
fn is_settled<K: FlowSink>(flow: &Flow<K::State>, sink: &K) -> bool {
    !flow.is_tcp() && flow.is_conversation() && sink.is_settled(&flow.state)
}

fn is_flow<S>(slots: &Slots<S>, slot: u32, key: &FlowKey) -> bool {
    slots.flow(slot).is_some_and(|flow| flow.key == *key)
}

mod nat;
mod slots;

pub(super) use nat::Further;
use nat::Views;
pub use nat::{Translation, View};
use slots::Slots;

#[cfg(test)]
mod tests;
