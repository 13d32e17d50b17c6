//! One live flow: its counters, its clock, and what it hands on.

use super::config::FlowConfig;
use super::stream::{Budget, Stream};
use super::table::{Chunk, FlowSink, Further, Interest};
use super::tcp::Connection;
use super::turn::Turn;
use super::{ConnState, Direction, EndReason, FlowKey, FlowRecord, Inspection, Outcome, Protocol};
use crate::decode::{IpPacket, Packet, TcpFlags, Transport, Tunnel};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Datagrams with which somebody asks and asks again before he gives up.
const MOST_QUESTIONS: u64 = 3;

#[derive(Debug)]
pub(super) struct Flow<S> {
    pub(super) key: FlowKey,
    pub(super) orig_is_low: bool,
    pub(super) wants_payload: bool,
    pub(super) outcome_known: bool,
    pub(super) closed: bool,
    pub(super) last: Timestamp,
    pub(super) start: Timestamp,
    pub(super) id: u64,
    packets: [u64; 2],
    wire_bytes: [u64; 2],
    payload_bytes: [u64; 2],
    besides: Option<Box<Besides>>,
    pub(super) tcp: Connection,
    /// The first two bytes of the latest datagram: in DNS, the number of a query and its answer.
    pub(super) latest_number: u16,
    streams: [Stream; 2],
    turn: Option<Turn>,
    pub(super) state: S,
}

/// What most flows have nothing of.
#[derive(Clone, Default, Debug)]
struct Besides {
    repeated_bytes: [u64; 2],
    missing_bytes: [u64; 2],
    copies: [u64; 2],
    copied_bytes: [u64; 2],
    tunnel: Option<Box<Tunnel>>,
    /// Keys under which it was seen beside its first.
    further: Box<[Further]>,
}

impl<S> Flow<S> {
    pub(super) fn new(
        id: u64,
        key: FlowKey,
        orig_is_low: bool,
        start: Timestamp,
        state: S,
    ) -> Self {
        Self {
            key,
            orig_is_low,
            wants_payload: true,
            outcome_known: false,
            closed: false,
            last: start,
            start,
            id,
            packets: [0; 2],
            wire_bytes: [0; 2],
            payload_bytes: [0; 2],
            besides: None,
            tcp: Connection::default(),
            latest_number: 0,
            streams: Default::default(),
            turn: None,
            state,
        }
    }

    /// Counts a packet and its payload. Gives the turn that it ends, if it ends one.
    pub(super) fn count(
        &mut self,
        direction: Direction,
        packet: &Packet<'_>,
        ip: &IpPacket<'_>,
    ) -> Option<Turn> {
        self.last = self.last.max(packet.time);
        self.note_tunnel(packet);
        add(&mut self.packets, direction, u64::from(packet.frames));
        add(&mut self.wire_bytes, direction, u64::from(packet.wire_len));
        let Transport::Tcp(tcp) = &ip.transport else {
            if let Some(&number) = ip.payload.first_chunk() {
                self.latest_number = u16::from_be_bytes(number);
            }
            add(
                &mut self.payload_bytes,
                direction,
                u64::from(ip.payload_len),
            );
            return self.speak(direction, packet.time, ip.payload_len);
        };
        let seen = self.tcp.packet(direction, tcp, ip.payload_len);
        add(&mut self.payload_bytes, direction, u64::from(seen.fresh));
        if seen.repeated > 0 || seen.missing > 0 || seen.filled > 0 {
            let besides = self.besides.get_or_insert_default();
            let repeated = &mut besides.repeated_bytes;
            add(repeated, direction, u64::from(seen.repeated));
            let missing = of(&mut besides.missing_bytes, direction);
            *missing = missing
                .saturating_add(u64::from(seen.missing))
                .saturating_sub(u64::from(seen.filled));
        }
        self.speak(direction, packet.time, seen.fresh)
    }

    /// Counts a packet that was counted before.
    pub(super) fn count_copy(&mut self, direction: Direction, packet: &Packet<'_>) {
        self.note_tunnel(packet);
        let besides = self.besides.get_or_insert_default();
        add(&mut besides.copies, direction, u64::from(packet.frames));
        let bytes = &mut besides.copied_bytes;
        add(bytes, direction, u64::from(packet.wire_len));
    }

    fn note_tunnel(&mut self, packet: &Packet<'_>) {
        if let Some(tunnel) = packet.tunnel {
            let besides = self.besides.get_or_insert_default();
            besides.tunnel.get_or_insert_with(|| Box::new(tunnel));
        }
    }

    /// Keys under which it was seen beside its first.
    pub(super) fn further(&self) -> &[Further] {
        self.besides.as_deref().map_or(&[], |held| &*held.further)
    }

    /// It was seen under another key.
    pub(super) fn note_further(&mut self, further: Further) {
        let known = &mut self.besides.get_or_insert_default().further;
        *known = known.iter().copied().chain([further]).collect();
    }

    /// Takes payload into the current turn, or ends that and begins the next.
    fn speak(&mut self, direction: Direction, time: Timestamp, bytes: u32) -> Option<Turn> {
        if bytes == 0 {
            return None;
        }
        if let Some(turn) = &mut self.turn
            && turn.take(direction, time, bytes)
        {
            return None;
        }
        self.turn.replace(Turn::new(direction, time, bytes))
    }

    /// The turn that was going on when the flow ended.
    pub(super) const fn last_turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// The flow's counters, as they stand.
    pub(super) fn record(&self, reason: EndReason) -> FlowRecord {
        let Besides {
            repeated_bytes,
            missing_bytes,
            copies,
            copied_bytes,
            tunnel,
            further: _,
        } = self.besides.as_deref().cloned().unwrap_or_default();
        FlowRecord {
            end: self.last,
            packets: self.packets,
            wire_bytes: self.wire_bytes,
            payload_bytes: self.payload_bytes,
            repeated_bytes,
            missing_bytes,
            copies,
            copied_bytes,
            tcp_flags: self.tcp.flags(),
            state: if self.is_tcp() {
                self.tcp.state()
            } else {
                ConnState::Oth
            },
            reason,
            app: None,
            inspection: Inspection::Whole,
            tunnel,
        }
    }

    pub(super) fn direction(&self, src_is_low: bool) -> Direction {
        if src_is_low == self.orig_is_low {
            Direction::Orig
        } else {
            Direction::Resp
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.key.protocol() == Protocol::Tcp
    }

    /// The only end that was heard so far.
    pub(super) const fn only_speaker(&self) -> Option<Direction> {
        let [orig, resp] = self.packets;
        match (orig > 0, resp > 0) {
            (true, false) => Some(Direction::Orig),
            (false, true) => Some(Direction::Resp),
            _ => None,
        }
    }

    pub(super) fn is_conversation(&self) -> bool {
        let [orig, resp] = self.packets;
        orig > 0 && resp > 0
    }

    /// Whether an answer should have come by now.
    pub(super) fn is_overdue(&self, now: Timestamp, config: &FlowConfig) -> bool {
        !self.outcome_known && self.patience(config).is_some_and(|end| now > end)
    }

    /// Whether the answer that a round trip brings isn't there, although nearly all are by now.
    pub(super) fn is_late(&self, now: Timestamp, config: &FlowConfig) -> bool {
        self.answers_at_once() && now > self.start.after(config.silent_at_end)
    }

    /// Whether the protocol promises an answer within a round trip.
    fn answers_at_once(&self) -> bool {
        matches!(
            self.key.protocol(),
            Protocol::Tcp | Protocol::Icmp | Protocol::Icmpv6
        )
    }

    /// Whether it is a question at all: datagrams that go on without an answer are a stream to somebody who listens.
    pub(super) fn asks(&self) -> bool {
        let [sent, _] = self.packets;
        self.key.protocol() != Protocol::Udp || sent <= MOST_QUESTIONS
    }

    /// Until when an answer is waited for.
    fn patience(&self, config: &FlowConfig) -> Option<Timestamp> {
        let patience = match self.key.protocol() {
            Protocol::Udp if !self.asks() => return None,
            Protocol::Udp => config.silent_datagram,
            _ if self.answers_at_once() => config.silent_after,
            _ => return None,
        };
        Some(self.start.after(patience))
    }

    /// How the responder took a flow of which the capture has no packet of its own. Where only one direction was captured,
    /// or the answer was lost, the originator still shows that it got one: it acknowledges.
    pub(super) fn unseen_outcome(&self) -> Outcome {
        let [flags, _] = self.tcp.flags();
        let [said, _] = self.payload_bytes;
        let all = TcpFlags::SYN | TcpFlags::ACK;
        let shook_hands = flags & (all | TcpFlags::RST) == all;
        let goes_on = said > 0 && flags & TcpFlags::ACK != 0;
        if self.is_tcp() && (shook_hands || goes_on) {
            Outcome::Answered
        } else {
            Outcome::Silent
        }
    }

    /// When to look at the flow again if no packet comes.
    pub(super) fn deadline(&self, config: &FlowConfig) -> Timestamp {
        if !self.outcome_known
            && let Some(patience) = self.patience(config)
        {
            patience
        } else if !self.is_tcp() {
            self.last.after(config.other_idle)
        } else if self.closed {
            self.last.after(config.tcp_linger)
        } else if self.is_conversation() {
            self.last.after(config.tcp_idle)
        } else if self.outcome_known {
            self.last.after(config.tcp_attempt)
        } else {
            self.start.after(config.silent_after)
        }
    }

    /// Tells once how the responder took the flow.
    pub(super) fn judge<K: FlowSink<State = S>>(
        &mut self,
        direction: Direction,
        time: Timestamp,
        transport: &Transport,
        sink: &mut K,
    ) {
        if self.outcome_known || direction == Direction::Orig {
            return;
        }
        // A reset as the first answer refuses whatever was tried: a connection, or a probe without one (FIN, NULL, ACK scans).
        let refused = matches!(transport, Transport::Tcp(tcp) if tcp.flags.any(TcpFlags::RST));
        self.outcome_known = true;
        let outcome = if refused {
            Outcome::Refused
        } else {
            Outcome::Answered
        };
        sink.outcome(&mut self.state, time, outcome);
    }

    pub(super) fn deliver<K: FlowSink<State = S>>(
        &mut self,
        direction: Direction,
        time: Timestamp,
        ip: &IpPacket<'_>,
        budget: &mut Budget,
        losses: &mut LossCounts,
        sink: &mut K,
    ) {
        let mut interest = Interest::More;
        let state = &mut self.state;
        let mut hand = |gap: u32, data: &[u8]| {
            if gap > 0 {
                losses.add(Loss::StreamGap);
            }
            if interest == Interest::More {
                interest = sink.payload(
                    state,
                    &Chunk {
                        time,
                        direction,
                        gap,
                        data,
                        echo: None,
                    },
                );
            }
        };
        match &ip.transport {
            Transport::Tcp(tcp) => {
                let stream = of(&mut self.streams, direction);
                stream.push(tcp, ip.payload, ip.payload_len, budget, &mut hand);
            }
            Transport::Ports { .. } if !ip.payload.is_empty() => hand(0, ip.payload),
            Transport::Icmp(icmp) if matches!(icmp.kind, 0 | 8 | 128 | 129) => {
                let chunk = Chunk {
                    time,
                    direction,
                    gap: 0,
                    data: ip.payload,
                    echo: Some(icmp),
                };
                interest = sink.payload(state, &chunk);
            }
            _ => {}
        }
        if interest == Interest::Enough {
            self.wants_payload = false;
            for stream in &mut self.streams {
                stream.clear(budget);
            }
        }
    }

    /// Hands on what still waits for missing bytes.
    pub(super) fn drain<K: FlowSink<State = S>>(
        &mut self,
        budget: &mut Budget,
        losses: &mut LossCounts,
        sink: &mut K,
    ) {
        let (time, state) = (self.last, &mut self.state);
        let mut interest = if self.wants_payload {
            Interest::More
        } else {
            Interest::Enough
        };
        for (direction, stream) in [Direction::Orig, Direction::Resp]
            .into_iter()
            .zip(&mut self.streams)
        {
            stream.flush(budget, &mut |gap, data| {
                if gap > 0 {
                    losses.add(Loss::StreamGap);
                }
                if interest == Interest::More {
                    interest = sink.payload(
                        state,
                        &Chunk {
                            time,
                            direction,
                            gap,
                            data,
                            echo: None,
                        },
                    );
                }
            });
        }
    }
}

/// One direction's part of a pair.
const fn of<T>(pair: &mut [T; 2], direction: Direction) -> &mut T {
    let [orig, resp] = pair;
    match direction {
        Direction::Orig => orig,
        Direction::Resp => resp,
    }
}

fn add(pair: &mut [u64; 2], direction: Direction, n: u64) {
    let count = of(pair, direction);
    *count = count.saturating_add(n);
}
