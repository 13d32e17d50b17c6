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
mod jumps;
mod legs;
mod proxy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Deserialize;

use super::channels::total_bits;
use super::{Context, Detector, DetectorSpec, Evidence, Finding, Findings, StateSize, Target};
use crate::dissect::{HttpRequest, SshMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Coupling, Passage, SourceKey, Utterance, push_tight, source_key};
use crate::flow::{Direction, FlowId, Protocol};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

use jumps::Jumps;
use legs::{Leg, Legs, Pod, Side};
use proxy::Proxies;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "relay-pivot",
    sees: EventKinds::TURN
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::TUNNEL)
        .and(EventKinds::HTTP)
        .and(EventKinds::SSH)
        .and(EventKinds::FLOW_OPENED)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(RelayPivot::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Example flows kept per relay.
const MAX_SAMPLES: usize = 8;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_pods: usize,
    max_relays: usize,
    min_coupling_bits: f64,
}

type RelayKey = (SourceKey, Side, Side);

/// Something of a connection that may meet its like on another.
trait Piece: Copy {
    fn start(&self) -> Timestamp;
    fn end(&self) -> Timestamp;
    /// Whether the peer asked, as far as it shows.
    fn asked(&self) -> bool;
    /// Lays it beside another one. Whether it is time to judge.
    fn lay(&self, lines: [u32; 2], other: &Self, coupling: &mut Coupling) -> bool;
}

impl Piece for Passage {
    fn start(&self) -> Timestamp {
        self.start
    }

    fn end(&self) -> Timestamp {
        self.answer
    }

    fn asked(&self) -> bool {
        self.asked
    }

    fn lay(&self, lines: [u32; 2], other: &Self, coupling: &mut Coupling) -> bool {
        coupling.add(lines, self, other)
    }
}

impl Piece for Utterance {
    fn start(&self) -> Timestamp {
        self.start
    }

    fn end(&self) -> Timestamp {
        self.start
    }

    fn asked(&self) -> bool {
        false
    }

    fn lay(&self, lines: [u32; 2], other: &Self, coupling: &mut Coupling) -> bool {
        coupling.hear(lines, self, other)
    }
}

/// Two sides of a pod that were seen to go together at times.
#[derive(Debug)]
struct Relay {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    coupling: Coupling,
    /// In the order of the key.
    sides: [Face; 2],
    pairing: Pairing,
    flows: Vec<Arc<FlowInfo>>,
    /// When the first of the sides first served; `None` if neither does, or that was forgotten.
    served: Option<Timestamp>,
    /// Number of pieces when it was told.
    told: u64,
}

/// Whether a side's connections begin together with some of the other side.
#[derive(Default, Debug)]
struct Pairing([Begun; 2]);

/// Connections of one side, and how many of them began together with one of the other.
#[derive(Default, Debug)]
struct Begun {
    newest: Option<FlowId>,
    all: u32,
    together: u32,
    /// Whether the newest did.
    paired: bool,
}

impl Pairing {
    /// Two connections met. Whether one of them is new.
    fn see(&mut self, [one, other]: [&FlowInfo; 2]) -> bool {
        let apart = one
            .start
            .since(other.start)
            .max(other.start.since(one.start));
        let together = apart <= Passage::DELAY;
        let mut new = false;
        for (side, flow) in self.0.iter_mut().zip([one, other]) {
            if side.newest < Some(flow.id) {
                side.newest = Some(flow.id);
                side.all = side.all.saturating_add(1);
                side.paired = false;
                new = true;
            }
            if together && !side.paired && side.newest == Some(flow.id) {
                side.paired = true;
                side.together = side.together.saturating_add(1);
            }
        }
        new
    }

    /// Connections of one side, and those that began together with one of the other.
    fn counted(&self, side: usize) -> (u32, u32) {
        self.0
            .get(side)
            .map_or((0, 0), |side| (side.all, side.together))
    }
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
    /// By HTTP the pod asked for its own address there.
    for_itself: bool,
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
            for_itself: leg.for_itself,
        }
    }

    fn see(&mut self, leg: &Leg) {
        if !Arc::ptr_eq(&self.flow, &leg.flow) {
            self.flow = Arc::clone(&leg.flow);
        }
        self.app = leg.app.or(self.app);
        self.for_itself |= leg.for_itself;
    }
}

struct RelayPivot {
    thresholds: Thresholds,
    alert_bits: f64,
    pods: Bounded<SourceKey, Pod>,
    relays: Bounded<RelayKey, Relay>,
    proxies: Proxies,
    jumps: Jumps,
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
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            thresholds,
            alert_bits,
            pods: Bounded::new(thresholds.max_pods),
            relays: Bounded::new(thresholds.max_relays),
            proxies: Proxies::new(share),
            jumps: Jumps::new(share),
            spare: Vec::new(),
            evicted: 0,
        }
    }

    /// The pod at one end of a flow, and that flow's place among its legs.
    fn pod(&mut self, flow: &Arc<FlowInfo>, pod: Direction, time: Timestamp) -> (&mut Pod, usize) {
        let key = source_key(end_of(flow, pod));
        let (known, forgotten) = self.pods.entry_or_insert_with(key, Pod::default);
        if let Some((_, forgotten)) = forgotten {
            self.evicted += 1;
            self.spare = forgotten.legs;
        }
        let at = known.leg(flow, pod, time, &mut self.spare);
        (known, at)
    }

    /// Pieces that met are laid side by side.
    fn meet<P: Piece>(
        &mut self,
        actor: &Endpoint,
        met: &[([usize; 2], [P; 2])],
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if met.is_empty() {
            return;
        }
        let source = source_key(actor);
        let mut due = Vec::new();
        if let Some(pod) = self.pods.peek(&source) {
            // What one piece met of the same leg comes together.
            for run in met.chunk_by(|one, next| one.0 == next.0) {
                let Some(&([one, other], pieces)) = run.first() else {
                    continue;
                };
                let (Some(leg), Some(other_leg)) = (pod.legs.get(one), pod.legs.get(other)) else {
                    continue;
                };
                let turned = leg.side > other_leg.side;
                let legs: [&Leg; 2] = if turned {
                    [other_leg, leg]
                } else {
                    [leg, other_leg]
                };
                let key = || (source.clone(), legs[0].side, legs[1].side);
                let (relay, gone) = self
                    .relays
                    .entry_or_insert_with(key(), || Relay::begin(actor, legs, pieces, &pod.served));
                self.evicted += u64::from(gone.is_some());
                relay.see(legs);
                let is_due = run.iter().fold(false, |due, (_, [piece, other])| {
                    let pieces = if turned {
                        [other, piece]
                    } else {
                        [piece, other]
                    };
                    relay.take(legs, pieces) | due
                });
                if is_due {
                    due.push(key());
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
        let least = self.thresholds.min_coupling_bits;
        if relay.coupling.judge().bits < least {
            return;
        }
        // What is told is counted to the last.
        let strength = relay.coupling.strength();
        if strength.bits >= least
            && let Some(finding) = judge::finding(relay, strength, context)
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
        [piece, other_piece]: [impl Piece; 2],
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
            first: piece.start().min(other_piece.start()),
            last: piece.end().max(other_piece.end()),
            coupling: Coupling::default(),
            sides: [Face::of(one), Face::of(other)],
            pairing: Pairing::default(),
            flows: Vec::new(),
            served: since(one).or_else(|| since(other)),
            told: 0,
        }
    }

    /// Two connections met.
    fn see(&mut self, legs: [&Leg; 2]) {
        for (face, leg) in self.sides.iter_mut().zip(legs) {
            face.see(leg);
        }
        if self.pairing.see(legs.map(|leg| &*leg.flow)) {
            for leg in legs {
                if self.flows.len() < MAX_SAMPLES
                    && self.flows.iter().all(|known| known.id != leg.flow.id)
                {
                    push_tight(&mut self.flows, Arc::clone(&leg.flow));
                }
            }
        }
    }

    /// Two pieces of theirs did. Whether it is time to judge.
    fn take<P: Piece>(&mut self, legs: [&Leg; 2], [one, other]: [&P; 2]) -> bool {
        self.first = self.first.min(one.start()).min(other.start());
        self.last = self.last.max(one.end()).max(other.end());
        for (face, piece) in self.sides.iter_mut().zip([one, other]) {
            face.asked = face.asked.saturating_add(u64::from(piece.asked()));
        }
        // Connections are told apart as far as they need to be.
        let lines = legs.map(|leg| leg.flow.id.0 as u32);
        one.lay(lines, other, &mut self.coupling)
    }
}

impl Detector for RelayPivot {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let Some(flow) = event.flow() else { return };
        if flow.protocol != Protocol::Tcp {
            return;
        }
        if let EventKind::Transaction { flow, transaction } = &event.kind {
            match transaction {
                Transaction::HttpRequest(request) => {
                    self.request(flow, event.time, request, out);
                    return;
                }
                Transaction::TunnelOpened(tunnel) if tunnel.carrier == "socks" => {
                    if let Some(target) = &tunnel.target {
                        out.extend(self.proxies.agreed(flow, event.time, target));
                    }
                }
                _ => {}
            }
        }
        self.jump(event, context, out);
        for direction in [Direction::Orig, Direction::Resp] {
            let end = end_of(flow, direction);
            if !is_candidate(end) {
                continue;
            }
            let met = match &event.kind {
                EventKind::Turn { turn, .. } => {
                    let (pod, at) = self.pod(flow, direction, turn.end);
                    let uttered = pod.utter(at, turn);
                    pod.legs[at].passages.turn(turn, flow.start);
                    let spells = pod.spells(at);
                    self.meet(end, &uttered, context, out);
                    spells
                }
                EventKind::Exchange { exchange, app, .. } => {
                    let (pod, at) = self.pod(flow, direction, exchange.end);
                    let leg = &mut pod.legs[at];
                    leg.app = leg.app.or(*app);
                    pod.exchanged(at, exchange)
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
                    self.name(flow, direction, event.time, app);
                    continue;
                }
                EventKind::Transaction {
                    transaction: Transaction::TunnelOpened(tunnel),
                    ..
                } => {
                    self.name(flow, direction, event.time, tunnel.carrier);
                    continue;
                }
                _ => continue,
            };
            self.meet(end, &met, context, out);
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
                let strength = relay.coupling.strength();
                if strength.bits >= self.thresholds.min_coupling_bits {
                    out.extend(judge::finding(relay, strength, context));
                }
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pods.len() + self.relays.len() + self.proxies.len() + self.jumps.len(),
            limit: self.pods.limit()
                + self.relays.limit()
                + self.proxies.limit()
                + self.jumps.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        let evicted = self.evicted + self.proxies.evicted() + self.jumps.evicted();
        losses.add_n(Loss::DetectorEvicted, evicted);
        losses
    }
}

impl RelayPivot {
    /// SSH servers in pods, and what these call.
    fn jump(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOpened(flow) => self.jumps.opened(flow),
            EventKind::FlowEnded { flow, .. } => self.jumps.ended(flow),
            EventKind::Transaction {
                flow,
                transaction: Transaction::Ssh(SshMessage::Encrypted),
            } if is_candidate(&flow.resp) => self.jumps.encrypted(flow),
            EventKind::Turn { flow, turn } => {
                if let Some(key) = self.jumps.turn(flow, turn)
                    && let Some(finding) = self.jumps.finding(&key, flow, context)
                    && total_bits(&finding.evidence) >= self.alert_bits
                {
                    self.jumps.told(&key);
                    out.push(finding);
                }
            }
            _ => {}
        }
    }

    /// A request of the web's says whom it is meant for.
    fn request(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        request: &HttpRequest,
        out: &mut Findings,
    ) {
        out.extend(self.proxies.request(flow, time, request));
        let address = request.host.as_ref().and_then(|host| host.parse().ok());
        if address == Some(flow.orig.ip) && is_candidate(&flow.orig) {
            let (pod, at) = self.pod(flow, Direction::Orig, time);
            pod.legs[at].for_itself = true;
        }
    }

    /// It shows what a connection speaks, or what it was turned into; mostly before anything is compared.
    fn name(&mut self, flow: &Arc<FlowInfo>, pod: Direction, time: Timestamp, app: &'static str) {
        let (pod, at) = self.pod(flow, pod, time);
        pod.legs[at].app = Some(app);
    }
}
