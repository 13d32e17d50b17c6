//! `relay-pivot`: a pod out of which comes what went into it: a port-forward, a SOCKS proxy, the near end of a tunnel.
//!
//! Every connection of a pod is cut into pieces as the pod saw them ([`Passages`]); pieces of two connections that meet in
//! time are laid side by side ([`Coupling`]). Sizes tell whether the one is the other. That makes a relay, and clusters
//! are full of those that are meant to be: ingresses, poolers, mesh proxies. What tells them apart is in
//! [`judge`](judge): what is spoken where, what is new about either leg, and who asks.
//!
//! Connections are looked at two by two, but only the last of each pod, and only their last pieces: the work per piece is
//! bounded whatever the number of connections.

mod judge;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use lru::LruCache;
use serde::Deserialize;

use super::channels::total_bits;
use super::{Context, Detector, DetectorSpec, Finding, Findings, StateSize, Target};
use crate::dissect::Transaction;
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Coupling, Glance, Passage, Passages, SourceKey, bounded, source_key};
use crate::flow::{Direction, FlowId, Protocol};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "relay-pivot",
    sees: EventKinds::TURN
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::TUNNEL)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(RelayPivot::new(thresholds, signature.alert_bits)))
    },
};

/// Connections of one pod that are looked at, the last to speak.
const MAX_LEGS: usize = 24;
/// Ports of one pod of which it is remembered when they first served.
const MAX_SERVED: usize = 16;
/// Example flows kept per relay.
const MAX_SAMPLES: usize = 8;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_pods: usize,
    max_relays: usize,
    min_coupling_bits: f64,
}

/// Which of a pod's connections belong together: those to one of its ports, or those that it made to one peer's port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Side {
    Served(u16),
    Called(IpAddr, u16),
}

impl Side {
    const fn of(flow: &FlowInfo, pod: Direction) -> Self {
        match pod {
            Direction::Orig => Self::Called(flow.resp.ip, flow.resp_port),
            Direction::Resp => Self::Served(flow.resp_port),
        }
    }
}

/// One connection of a pod.
#[derive(Debug)]
struct Leg {
    flow: Arc<FlowInfo>,
    app: Option<&'static str>,
    side: Side,
    passages: Passages,
}

impl Leg {
    /// Another connection in the place of this one.
    fn restart(&mut self, flow: &Arc<FlowInfo>, side: Side, pod: Direction) {
        self.flow = Arc::clone(flow);
        self.app = None;
        self.side = side;
        self.passages.restart(pod);
    }
}

/// Boxed, for they are large, most pods have few, and a list that grows moves what is in it.
type Legs = Vec<Box<Leg>>;

/// What every leg is asked for every piece.
#[derive(Debug)]
struct Card {
    id: FlowId,
    side: Side,
    /// When it was last heard of.
    last: Timestamp,
    /// What there is to compare.
    glance: Glance,
    /// When it last began to ask, and to be asked.
    exchanged: [Timestamp; 2],
}

/// A pod's legs. Their cards lie close together: legs themselves are large, and mostly have nothing to say to a piece.
#[derive(Debug, Default)]
struct Pod {
    /// Each keeps its place while it is there.
    cards: Vec<Card>,
    /// In the order of their cards.
    legs: Legs,
    /// When each of its ports was first used.
    served: Vec<(u16, Timestamp)>,
}

impl Card {
    fn of(leg: &Leg, time: Timestamp) -> Self {
        Self {
            id: leg.flow.id,
            side: leg.side,
            last: time,
            glance: leg.passages.glance(),
            exchanged: [Timestamp::MIN; 2],
        }
    }
}

impl Pod {
    fn place(&self, id: FlowId) -> Option<usize> {
        self.cards.iter().position(|card| card.id == id)
    }

    /// A leg's place; a new one takes that of the leg that was silent the longest, if there is no other.
    fn leg(
        &mut self,
        flow: &Arc<FlowInfo>,
        pod: Direction,
        time: Timestamp,
        spare: &mut Legs,
    ) -> usize {
        if let Some(at) = self.place(flow.id) {
            let last = &mut self.cards[at].last;
            *last = time.max(*last);
            return at;
        }
        let side = Side::of(flow, pod);
        if let Side::Served(port) = side
            && self.served.len() < MAX_SERVED
            && self.served.iter().all(|(known, _)| *known != port)
        {
            self.served.push((port, flow.start));
        }
        if self.legs.len() < MAX_LEGS {
            let leg = if let Some(mut leg) = spare.pop() {
                leg.restart(flow, side, pod);
                leg
            } else {
                Box::new(Leg {
                    flow: Arc::clone(flow),
                    app: None,
                    side,
                    passages: Passages::new(pod),
                })
            };
            self.cards.push(Card::of(&leg, time));
            self.legs.push(leg);
            return self.legs.len() - 1;
        }
        let all = self.cards.iter().enumerate();
        let oldest = all.min_by_key(|(_, card)| (card.last, card.id));
        let at = oldest.map_or(0, |(at, _)| at);
        for card in &mut self.cards {
            card.glance.change(at as u32);
        }
        let leg = &mut self.legs[at];
        leg.restart(flow, side, pod);
        self.cards[at] = Card::of(leg, time);
        at
    }

    /// Pieces of legs that go together with what a leg has just told, each with the legs' places.
    fn spells(&mut self, at: usize) -> Vec<([usize; 2], [Passage; 2])> {
        let mut met = Vec::new();
        let passages = &mut self.legs[at].passages;
        passages.forget(&self.cards[at].glance);
        self.cards[at].glance = passages.glance();
        for other in 0..self.legs.len() {
            // What it knows by now may be what others' spells have waited for, and the other way round.
            let (my, other_card) = (&self.cards[at], &self.cards[other]);
            let (mine, theirs) = (my.glance, other_card.glance);
            if !theirs.waits_for(at as u32, &mine) && !mine.waits_for(other as u32, &theirs)
                || other_card.side == my.side
            {
                continue;
            }
            if let Ok([mine, theirs]) = self.legs.get_disjoint_mut([at, other]) {
                let (mine, theirs) = (&mut mine.passages, &mut theirs.passages);
                theirs.forget(&self.cards[other].glance);
                theirs.beside(at as u32, mine, |spell, beside| {
                    met.push(([other, at], [spell, beside]));
                });
                mine.beside(other as u32, theirs, |spell, beside| {
                    met.push(([at, other], [spell, beside]));
                });
                self.cards[at].glance = mine.glance();
                self.cards[other].glance = theirs.glance();
            }
        }
        met
    }

    fn exchanges(&mut self, at: usize, exchange: &Passage) -> Vec<([usize; 2], [Passage; 2])> {
        let mut met = Vec::new();
        let since = exchange.start.before(Passage::DELAY);
        let side = self.cards[at].side;
        for (other, card) in self.cards.iter().enumerate() {
            // Who was asked goes together with who asked.
            let begun = card.exchanged[usize::from(!exchange.asked)];
            if begun >= since && card.last >= since && card.side != side {
                let meeting = self.legs[other].passages.meeting(exchange);
                met.extend(meeting.map(|piece| ([at, other], [*exchange, *piece])));
            }
        }
        self.legs[at].passages.keep(*exchange);
        let begun = &mut self.cards[at].exchanged[usize::from(exchange.asked)];
        *begun = exchange.start.max(*begun);
        met
    }
}

type RelayKey = (SourceKey, Side, Side);

/// Two sides of a pod that were seen to go together at times.
#[derive(Debug)]
struct Relay {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    coupling: Coupling,
    /// In the order of the key.
    sides: [Face; 2],
    /// Pairs of connections, and how many of them began together.
    pairs: (u32, u32),
    /// The newest connection of either.
    newest: [FlowId; 2],
    flows: Vec<Arc<FlowInfo>>,
    /// When the first of the sides first served; `None` if neither does, or that was forgotten.
    served: Option<Timestamp>,
    /// Number of pieces when it was told.
    told: u64,
}

/// One side of a relay, by its latest connection.
#[derive(Debug)]
struct Face {
    side: Side,
    flow: Arc<FlowInfo>,
    pod: Direction,
    app: Option<&'static str>,
    /// How often the peer asked.
    asked: u64,
}

impl Face {
    fn peer(&self) -> &Endpoint {
        match self.pod {
            Direction::Orig => &self.flow.resp,
            Direction::Resp => &self.flow.orig,
        }
    }

    fn of(leg: &Leg) -> Self {
        Self {
            side: leg.side,
            flow: Arc::clone(&leg.flow),
            pod: leg.passages.pod(),
            app: leg.app,
            asked: 0,
        }
    }

    fn see(&mut self, leg: &Leg, asked: bool) {
        self.flow = Arc::clone(&leg.flow);
        self.app = leg.app.or(self.app);
        self.asked = self.asked.saturating_add(u64::from(asked));
    }
}

struct RelayPivot {
    thresholds: Thresholds,
    alert_bits: f64,
    pods: LruCache<SourceKey, Pod>,
    relays: LruCache<RelayKey, Relay>,
    /// Legs of a forgotten pod, for the next.
    spare: Legs,
    evicted: u64,
}

/// Whether an end may be a pod that relays: nodes do nothing else, what is outside isn't ours, and the loopback's address is
/// that of everybody there.
fn is_candidate(end: &Endpoint) -> bool {
    match end.who.identity.kind {
        IdentityKind::Pod => true,
        IdentityKind::Unknown => !crate::address::is_group(end.ip) && !end.ip.is_loopback(),
        IdentityKind::Node | IdentityKind::Service | IdentityKind::External => false,
    }
}

const fn end_of(flow: &FlowInfo, direction: Direction) -> &Endpoint {
    match direction {
        Direction::Orig => &flow.orig,
        Direction::Resp => &flow.resp,
    }
}

impl RelayPivot {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            thresholds,
            alert_bits,
            pods: bounded(thresholds.max_pods),
            relays: bounded(thresholds.max_relays),
            spare: Vec::new(),
            evicted: 0,
        }
    }

    /// The pod at one end of a flow, and that flow's place among its legs.
    fn pod(&mut self, flow: &Arc<FlowInfo>, pod: Direction, time: Timestamp) -> (&mut Pod, usize) {
        let key = source_key(end_of(flow, pod));
        if self.pods.len() == self.pods.cap().get()
            && !self.pods.contains(&key)
            && let Some((_, forgotten)) = self.pods.pop_lru()
        {
            self.evicted += 1;
            self.spare = forgotten.legs;
        }
        let known = self.pods.get_or_insert_mut(key, Pod::default);
        let at = known.leg(flow, pod, time, &mut self.spare);
        (known, at)
    }

    /// Pieces that met are laid side by side.
    fn meet(
        &mut self,
        actor: &Endpoint,
        met: Vec<([usize; 2], [Passage; 2])>,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let source = source_key(actor);
        let mut due = Vec::new();
        if let Some(pod) = self.pods.peek(&source) {
            for ([one, other], [piece, other_piece]) in met {
                let (Some(leg), Some(other_leg)) = (pod.legs.get(one), pod.legs.get(other)) else {
                    continue;
                };
                let (legs, pieces): ([&Leg; 2], _) = if leg.side < other_leg.side {
                    ([leg, other_leg], [&piece, &other_piece])
                } else {
                    ([other_leg, leg], [&other_piece, &piece])
                };
                let key = (source.clone(), legs[0].side, legs[1].side);
                if !self.relays.contains(&key) {
                    let relay = Relay::begin(actor, legs, pieces, &pod.served);
                    let gone = self.relays.push(key.clone(), relay);
                    self.evicted += u64::from(gone.is_some());
                }
                if let Some(relay) = self.relays.get_mut(&key)
                    && relay.take(legs, pieces)
                {
                    due.push(key);
                }
            }
        }
        for key in due {
            self.judge(&key, context, out);
        }
    }

    fn judge(&mut self, key: &RelayKey, context: &Context<'_>, out: &mut Findings) {
        let Some(relay) = self.relays.peek_mut(key) else {
            return;
        };
        let total = relay.coupling.total();
        if relay.told > 0 && total < relay.told.saturating_mul(2) {
            return;
        }
        if let Some(finding) = judge::finding(relay, self.thresholds.min_coupling_bits, context)
            && total_bits(&finding.evidence) >= self.alert_bits
        {
            relay.told = total;
            out.push(finding);
        }
    }
}

impl Relay {
    fn begin(
        actor: &Endpoint,
        [one, other]: [&Leg; 2],
        [piece, other_piece]: [&Passage; 2],
        served: &[(u16, Timestamp)],
    ) -> Self {
        let since = |leg: &Leg| match leg.side {
            Side::Served(port) => served
                .iter()
                .find(|(known, _)| *known == port)
                .map(|(_, since)| *since),
            Side::Called(..) => None,
        };
        Self {
            actor: actor.clone(),
            first: piece.start.min(other_piece.start),
            last: piece.answer.max(other_piece.answer),
            coupling: Coupling::default(),
            sides: [Face::of(one), Face::of(other)],
            pairs: (0, 0),
            newest: [FlowId::default(); 2],
            flows: Vec::new(),
            served: since(one).or_else(|| since(other)),
            told: 0,
        }
    }

    /// Two pieces met. Whether it is time to judge.
    fn take(&mut self, legs: [&Leg; 2], [one, other]: [&Passage; 2]) -> bool {
        self.first = self.first.min(one.start).min(other.start);
        self.last = self.last.max(one.answer).max(other.answer);
        let [a, b] = &mut self.sides;
        let [leg, other_leg] = legs;
        a.see(leg, one.asked);
        b.see(other_leg, other.asked);
        let (id, other_id) = (leg.flow.id, other_leg.flow.id);
        let [newest, other_newest] = &mut self.newest;
        if id > *newest || other_id > *other_newest || self.pairs.0 == 0 {
            *newest = id.max(*newest);
            *other_newest = other_id.max(*other_newest);
            let (start, other_start) = (leg.flow.start, other_leg.flow.start);
            let apart = start.since(other_start).max(other_start.since(start));
            let (pairs, together) = self.pairs;
            self.pairs = (
                pairs.saturating_add(1),
                together.saturating_add(u32::from(apart <= Passage::DELAY)),
            );
            for leg in legs {
                if self.flows.len() < MAX_SAMPLES
                    && self.flows.iter().all(|known| known.id != leg.flow.id)
                {
                    self.flows.push(Arc::clone(&leg.flow));
                }
            }
        }
        self.coupling.add(one, other)
    }
}

impl Detector for RelayPivot {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let Some(flow) = event.flow() else { return };
        if flow.protocol != Protocol::Tcp {
            return;
        }
        for direction in [Direction::Orig, Direction::Resp] {
            let end = end_of(flow, direction);
            if !is_candidate(end) {
                continue;
            }
            let met = match &event.kind {
                EventKind::Turn { turn, .. } => {
                    let (pod, at) = self.pod(flow, direction, turn.end);
                    pod.legs[at].passages.turn(turn);
                    pod.spells(at)
                }
                EventKind::Exchange { exchange, app, .. } => {
                    let Some(passage) = Passage::exchange(exchange, direction) else {
                        continue;
                    };
                    let (pod, at) = self.pod(flow, direction, exchange.end);
                    let leg = &mut pod.legs[at];
                    leg.app = leg.app.or(*app);
                    pod.exchanges(at, &passage)
                }
                EventKind::FlowEnded { record, .. } => {
                    let Some(pod) = self.pods.peek_mut(&source_key(end)) else {
                        continue;
                    };
                    let Some(at) = pod.place(flow.id) else {
                        continue;
                    };
                    let leg = &mut pod.legs[at];
                    leg.app = leg.app.or(record.app);
                    leg.passages.finish();
                    pod.spells(at)
                }
                EventKind::Recognised { app, .. } => {
                    self.name(flow, end, app);
                    continue;
                }
                EventKind::Transaction {
                    transaction: Transaction::TunnelOpened(tunnel),
                    ..
                } => {
                    self.name(flow, end, tunnel.carrier);
                    continue;
                }
                _ => continue,
            };
            if !met.is_empty() {
                self.meet(end, met, context, out);
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        let mut told: Vec<_> = self
            .relays
            .iter()
            .filter(|(_, relay)| relay.told > 0 && relay.coupling.total() > relay.told)
            .map(|(key, _)| key.clone())
            .collect();
        told.sort_unstable();
        for key in told {
            if let Some(relay) = self.relays.peek_mut(&key) {
                out.extend(judge::finding(
                    relay,
                    self.thresholds.min_coupling_bits,
                    context,
                ));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pods.len() + self.relays.len(),
            limit: self.pods.cap().get() + self.relays.cap().get(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

impl RelayPivot {
    /// It shows what a connection speaks, or what it was turned into.
    fn name(&mut self, flow: &FlowInfo, end: &Endpoint, app: &'static str) {
        let pod = self.pods.peek_mut(&source_key(end));
        if let Some(pod) = pod
            && let Some(at) = pod.place(flow.id)
        {
            pod.legs[at].app = Some(app);
        }
    }
}
