//! `exfiltration`: a pod sends much to an outside destination that is new for it.
//!
//! Whoever carries data off must send it, whatever the protocol: far more goes up than comes down, to a place where the
//! workload had no business before. Bytes are summed per source and destination (registered domain where a look-up led
//! there, else the address), so that many small portions count like one large one.
//!
//! An FTP server may be told to call back and fetch a file there, and one of TFTP answers from another port: what a pod says
//! on such a connection goes to the server that it called.
//!
//! A file that somebody stores by hand in a session of FTP is told whatever its size, and wherever it goes but to nodes: who
//! looks round in directories and hesitates is a person, and pods have no hands.
//!
//! Backups go to object stores, too, and nobody knows of the first one. So a store that is called by its name is told only of
//! a pod that is there to answer others, and sends off what none of them brought; of one that runs errands or keeps data
//! it is told once a day or more has been learned of its workload.

mod destination;
#[cfg(test)]
mod tests;
mod weigh;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use destination::{Destination, Source};
use foldhash::quality::FixedState;
use serde::Deserialize;

use super::newness::{bare_address, by_hand, total_bits};
use super::stores::is_object_store;
use super::{Context, Detector, DetectorSpec, Findings, StateSize, Target};
use crate::baseline::Maturity;
use crate::dissect::{FtpMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, SourceKey, database_product, is_monitoring, is_outside, is_registry, push_tight,
    source_key,
};
use crate::flow::{Direction, EndReason, FlowId, FlowRecord, Protocol, Turn};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;
use weigh::{size, surprise};

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "exfiltration",
    sees: EventKinds::TURN
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::FLOW_ENDED)
        .and(EventKinds::FTP)
        .and(EventKinds::TLS)
        .and(EventKinds::HTTP),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Exfiltration::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Sources whose destinations are counted.
const MAX_SOURCES: usize = 16 * 1024;
/// Example flows kept per destination.
const MAX_SAMPLES: usize = 4;
/// Places at which pods wait for servers to call them back.
const MAX_CALLBACKS: usize = 4096;
/// Pairs of a pod and a server between which somebody stores files by hand.
const MAX_HANDS: usize = 1024;
/// Connections that begin by TLS, at a time.
const MAX_GREETINGS: usize = 4096;
/// Certificates of a chain may take so much.
const LONGEST_GREETING: u64 = 16 * 1024;
/// Whoever calls so many servers on one port goes the rounds: a monitor asks everybody.
const ROUNDS: usize = 3;
/// The share of what is sent that others must have brought before, for it to be theirs.
const BROUGHT: f64 = 0.5;

/// A pod sends to where it always has within this time of being seen, again and again.
const FROM_THE_START: Duration = Duration::from_secs(10);
/// So many times, and never so large a share at once.
const AGAIN: u64 = 8;
const AT_ONCE: f64 = 0.25;
/// A file that is sent as it is takes no longer than this.
const ONE_GO: Duration = Duration::from_mins(5);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Bytes up below which nothing is said.
    min_bytes: u64,
    /// The same where files are stored by a protocol for that.
    min_stored_bytes: u64,
    /// The same of a file that is sent in no known protocol: measurements are, too.
    min_raw_bytes: u64,
    /// How many times the bytes down they must be.
    min_ratio: f64,
    /// What an ordinary destination is sent in a visit.
    typical_bytes: f64,
    /// A destination must be this surprising for the source, in bits.
    min_surprise: f64,
    /// How long an answer is waited for.
    settle_secs: u64,
    /// What was sent fades: it halves in this time.
    half_life_secs: f64,
    max_destinations: usize,
    /// Names of workloads and namespaces that build, deploy or inspect images.
    builder_words: Vec<String>,
}

struct Exfiltration {
    thresholds: Thresholds,
    alert_bits: f64,
    destinations: Bounded<Key, Destination>,
    sources: Bounded<SourceKey, Source>,
    /// Those that have been sent much, since when: an answer may yet make up for it.
    waiting: BTreeMap<Key, Timestamp>,
    /// Where servers outside were asked to call back: the pod's address and port, which server, and what it stands for.
    callbacks: Bounded<(IpAddr, u16), (IpAddr, Key)>,
    /// Who stores files by hand, and where, within the cluster as far as is known.
    hands: Bounded<(IpAddr, IpAddr), ()>,
    /// Connections whose ends, that way and the other, have yet to greet each other by TLS: that carries nothing off, and
    /// certificates would hide much that is sent little by little.
    greetings: Bounded<FlowId, [bool; 2]>,
    /// The same in every run, for what waits is told in the order of its hashes.
    hasher: FixedState,
    evicted: u64,
}

/// A source, and the hash of where it sends to.
type Key = (SourceKey, u64);

impl Exfiltration {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            destinations: Bounded::new(thresholds.max_destinations),
            sources: Bounded::new(share.part(MAX_SOURCES)),
            waiting: BTreeMap::new(),
            callbacks: Bounded::new(share.part(MAX_CALLBACKS)),
            hands: Bounded::new(share.part(MAX_HANDS)),
            greetings: Bounded::new(share.part(MAX_GREETINGS)),
            hasher: FixedState::default(),
            evicted: 0,
            thresholds,
            alert_bits,
        }
    }

    /// The destination that a flow goes to, made if it is new.
    fn destination(&mut self, flow: &Arc<FlowInfo>, context: &Context<'_>) -> Key {
        let domain = context.peers.domain(flow.orig.ip, flow.resp.ip);
        let place = match domain {
            Some(domain) => self.hasher.hash_one(&**domain),
            None => self.hasher.hash_one(flow.resp.ip),
        };
        let key = (source_key(&flow.orig), place);
        if self.destinations.contains(&key) {
            return key;
        }
        let source = self
            .sources
            .get_or_insert_with(key.0.clone(), Source::default);
        let known = source.destinations;
        source.destinations += 1;
        let destination = Destination {
            actor: flow.orig.clone(),
            first: flow.start,
            last: flow.start,
            up: 0.0,
            down: 0.0,
            surprise: surprise(flow, known, &self.thresholds.builder_words, context),
            bare: bare_address(flow, context),
            domain: domain.cloned(),
            store: None,
            stored: 0,
            by_hand: 0,
            raw: false,
            from_the_start: context
                .debuts
                .seen(flow.orig.ip)
                .is_some_and(|seen| flow.start <= seen.after(FROM_THE_START)),
            times: 0,
            largest: 0,
            target: Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: None,
                domain: domain.cloned(),
            },
            flows: Vec::new(),
            reported: 0.0,
        };
        if let Some((old, _)) = self.destinations.push(key.clone(), destination) {
            self.waiting.remove(&old);
            self.evicted += 1;
        }
        key
    }

    /// Whether a turn is an end's first by TLS.
    fn greets(&mut self, flow: &FlowInfo, turn: &Turn) -> bool {
        let Some(expected) = self.greetings.peek_mut(&flow.id) else {
            return false;
        };
        let greets = std::mem::take(&mut expected[usize::from(turn.direction == Direction::Resp)]);
        if *expected == [false; 2] {
            self.greetings.pop(&flow.id);
        }
        greets && turn.bytes <= LONGEST_GREETING
    }

    /// Adds a turn of one of its flows to a destination. `up` is the pod's direction there.
    fn turn(&mut self, key: &Key, flow: &Arc<FlowInfo>, turn: &Turn, up: Direction) {
        let half_life = self.thresholds.half_life_secs;
        let Some(destination) = self.destinations.get_mut(key) else {
            return;
        };
        let fade = (-turn.end.since(destination.last).as_secs_f64() / half_life).exp2();
        destination.up *= fade;
        destination.down *= fade;
        if destination.flows.is_empty() {
            destination.first = turn.start;
        }
        destination.last = destination.last.max(turn.end);
        if turn.direction == up {
            destination.up += turn.bytes as f64;
            destination.times = destination.times.saturating_add(1);
            destination.largest = destination.largest.max(turn.bytes);
        } else {
            destination.down += turn.bytes as f64;
        }
        if destination.flows.len() < MAX_SAMPLES
            && destination.flows.iter().all(|known| known.id != flow.id)
        {
            push_tight(&mut destination.flows, Arc::clone(flow));
        }
    }

    /// Looks at a destination that a turn was added to.
    fn grown(&mut self, key: Key, flow: &FlowInfo, now: Timestamp, context: &Context<'_>) {
        let Some(destination) = self.destinations.peek(&key) else {
            return;
        };
        let least = self.least(destination);
        if destination.up < least {
            context.remark(SPEC.id, flow, || {
                let (up, least) = (size(destination.up), size(least));
                format!("sent {up} of the {least} that it takes")
            });
        } else if destination.up >= destination.reported * 2.0 {
            self.waiting.entry(key).or_insert(now);
        }
    }

    /// The least volume that is told.
    fn least(&self, destination: &Destination) -> f64 {
        let bytes = match destination.stored {
            0 => self.thresholds.min_bytes,
            _ => self.thresholds.min_stored_bytes,
        };
        bytes as f64
    }

    /// Notes that a server outside was asked to call back at a port of the pod's.
    fn called_back(&mut self, flow: &Arc<FlowInfo>, port: u16, context: &Context<'_>) {
        let key = self.destination(flow, context);
        self.callbacks
            .put((flow.orig.ip, port), (flow.resp.ip, key));
    }

    /// A step of an FTP session between a pod and a server outside.
    fn session(
        &mut self,
        flow: &Arc<FlowInfo>,
        step: &FtpMessage,
        time: Timestamp,
        context: &Context<'_>,
    ) {
        match step {
            FtpMessage::Data {
                listener: Direction::Orig,
                port,
                ..
            } => self.called_back(flow, *port, context),
            FtpMessage::Transfer {
                verb: "STOR" | "STOU" | "APPE",
                accepted: true,
                by_hand,
                ..
            } => {
                let key = self.destination(flow, context);
                if let Some(destination) = self.destinations.get_mut(&key) {
                    destination.stored = destination.stored.saturating_add(1);
                    if *by_hand && !context.is_learned(flow) {
                        destination.by_hand = destination.by_hand.saturating_add(1);
                        destination.last = destination.last.max(time);
                        if destination.flows.is_empty() {
                            destination.flows.push(Arc::clone(flow));
                        }
                        self.waiting.entry(key).or_insert(time);
                    }
                }
            }
            _ => {}
        }
    }

    /// Between two ends that may both be inside only what is stored by hand is of interest.
    fn inside(&mut self, flow: &Arc<FlowInfo>, event: &Event, context: &Context<'_>) {
        let ends = (flow.orig.ip, flow.resp.ip);
        match &event.kind {
            EventKind::Transaction {
                transaction:
                    Transaction::Ftp(
                        step @ FtpMessage::Transfer {
                            verb: "STOR" | "STOU" | "APPE",
                            accepted: true,
                            by_hand: true,
                            ..
                        },
                    ),
                ..
            } if flow.resp.who.identity.kind != IdentityKind::Node => {
                self.hands.put(ends, ());
                self.session(flow, step, event.time, context);
            }
            EventKind::Turn { turn, .. }
                if !self.hands.is_empty() && self.hands.contains(&ends) =>
            {
                let key = self.destination(flow, context);
                self.turn(&key, flow, turn, Direction::Orig);
            }
            _ => {}
        }
    }

    /// Notes by what name a destination is called.
    fn called(&mut self, flow: &Arc<FlowInfo>, name: &str, context: &Context<'_>) {
        // A name for an address that no look-up led to is anybody's to say.
        let store = is_object_store(name) && bare_address(flow, context).is_none();
        let key = self.destination(flow, context);
        if let Some(destination) = self.destinations.get_mut(&key) {
            destination.store = Some(store && destination.store != Some(false));
        }
    }

    /// Notes that somebody asked a pod for something, and brought so many bytes.
    fn asked(&mut self, flow: &FlowInfo, questions: u64, bytes: u64, time: Timestamp) {
        let half_life = self.thresholds.half_life_secs;
        let key = source_key(&flow.resp);
        let source = self.sources.get_or_insert_with(key, Source::default);
        let fade = (-time.since(source.brought_at).as_secs_f64() / half_life).exp2();
        source.brought = source.brought * fade + bytes as f64;
        source.brought_at = time;
        source.asked = source.asked.saturating_add(questions);
    }

    /// A connection is over: a file that was sent as it is, by no protocol, to an address that was found by no name, can be
    /// told of pods that have done nothing else, too.
    fn ended(&mut self, flow: &Arc<FlowInfo>, record: &FlowRecord, context: &Context<'_>) {
        let [up, down] = record.payload_bytes;
        let file = flow.protocol == Protocol::Tcp
            && flow.begun
            && record.app.is_none()
            && record.reason == EndReason::Closed
            && record.end <= flow.start.after(ONE_GO)
            && up >= self.thresholds.min_raw_bytes
            && down == 0;
        let bare = flow.resp.who.identity.kind == IdentityKind::External
            && context.peers.domain(flow.orig.ip, flow.resp.ip).is_none();
        if file && bare && !context.is_learned(flow) {
            let key = self.destination(flow, context);
            if let Some(destination) = self.destinations.get_mut(&key) {
                destination.raw = true;
            }
            self.grown(key, flow, record.end, context);
        }
    }

    /// Whether what goes to an object store is as well an ordinary copy: of a pod that answers nobody but databases' clients,
    /// or of what others brought. Where a day and more was learned of the workload, its copies are known.
    fn is_ordinary(&self, key: &Key, destination: &Destination, context: &Context<'_>) -> bool {
        let source = self.sources.peek(&key.0);
        let settled = context
            .profile(&destination.actor)
            .is_some_and(|profile| profile.maturity() == Maturity::Stable);
        destination.store == Some(true)
            && !settled
            && !by_hand(&destination.actor)
            && source
                .is_none_or(|source| !source.serves() || source.brought >= BROUGHT * destination.up)
    }

    fn is_told(&self, destination: &Destination) -> bool {
        let Thresholds {
            min_ratio,
            min_surprise,
            ..
        } = self.thresholds;
        let (up, down) = (destination.up, destination.down);
        let much = up >= self.least(destination)
            && up >= min_ratio * down
            && (destination.surprise.bits >= min_surprise || destination.raw)
            && !destination.is_habit();
        (much || destination.by_hand > 0)
            && !destination.domain.as_deref().is_some_and(is_registry)
            && total_bits(&destination.evidence(&self.thresholds)) >= self.alert_bits
    }

    /// Reports a destination that has waited for its answer, if there is something to tell.
    fn judge(&mut self, key: &Key, context: &Context<'_>, out: &mut Findings) {
        self.waiting.remove(key);
        let Some(destination) = self.destinations.peek(key) else {
            return;
        };
        if self.is_told(destination) && !self.is_ordinary(key, destination, context) {
            let up = destination.up;
            out.push(destination.finding(&self.thresholds));
            if let Some(destination) = self.destinations.peek_mut(key) {
                // What is stored by hand is told before its bytes are counted.
                destination.reported = up.max(1.0);
            }
        } else if let Some(flow) = destination.flows.last() {
            context.remark(SPEC.id, flow, || {
                format!(
                    "{} up and {} down, for {:.1} bits of surprise at the place; it takes {} times as much up, and {:.1} bits",
                    size(destination.up),
                    size(destination.down),
                    destination.surprise.bits,
                    self.thresholds.min_ratio,
                    self.thresholds.min_surprise
                )
            });
        }
    }
}

/// Whether a flow may ask a pod for what it is there for: not as nodes do, nor as a database's clients do, for whoever keeps
/// data makes copies of it.
fn may_ask(flow: &FlowInfo, context: &Context<'_>) -> bool {
    context.may_be_pod(&flow.resp)
        && flow.orig.who.identity.kind != IdentityKind::Node
        && database_product(flow.resp_port).is_none()
}

/// Whether an end is outside as seen from a pod: a private one only if the pod is known to be inside.
fn is_away(other: &Endpoint, pod: &Endpoint) -> bool {
    let external = other.who.identity.kind == IdentityKind::External;
    external || is_outside(other) && !is_outside(pod)
}

impl Detector for Exfiltration {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        let Some(flow) = event.flow() else { return };
        if may_ask(flow, context) {
            match &event.kind {
                // Requests of HTTP are judged by their paths.
                EventKind::Exchange { app, .. }
                    if *app != Some("http")
                        && context.debuts.servers(flow.orig.ip, flow.resp_port) < ROUNDS =>
                {
                    self.asked(flow, 1, 0, event.time);
                }
                EventKind::Turn { turn, .. } if turn.direction == Direction::Orig => {
                    self.asked(flow, 0, turn.bytes, event.time);
                }
                EventKind::Transaction {
                    transaction: Transaction::HttpRequest(request),
                    ..
                } if !is_monitoring(&request.path) => self.asked(flow, 1, 0, event.time),
                _ => {}
            }
        }
        if is_away(&flow.orig, &flow.resp) && context.may_be_pod(&flow.resp) {
            if let EventKind::Turn { turn, .. } = &event.kind
                && let Some((server, key)) = self.callbacks.get(&(flow.resp.ip, flow.resp_port))
                && *server == flow.orig.ip
            {
                let key = key.clone();
                self.turn(&key, flow, turn, Direction::Resp);
                self.grown(key, flow, turn.end, context);
            }
            return;
        }
        if !context.may_be_pod(&flow.orig) {
            return;
        }
        if !is_away(&flow.resp, &flow.orig) {
            self.inside(flow, event, context);
            return;
        }
        match &event.kind {
            EventKind::Turn { turn, .. } if !self.greets(flow, turn) => {
                let key = self.destination(flow, context);
                self.turn(&key, flow, turn, Direction::Orig);
                self.grown(key, flow, turn.end, context);
            }
            EventKind::FlowEnded { record, .. } => self.ended(flow, record, context),
            EventKind::Recognised { app: "tftp", .. } => {
                self.called_back(flow, flow.orig_port, context);
            }
            EventKind::Transaction { transaction, .. } => {
                let name = match transaction {
                    Transaction::TlsClient(hello) => {
                        self.greetings.put(flow.id, [true; 2]);
                        hello.sni.as_deref()
                    }
                    Transaction::HttpRequest(request) => request.host.as_deref(),
                    Transaction::Ftp(step) => {
                        self.session(flow, step, event.time, context);
                        None
                    }
                    _ => None,
                };
                if let Some(name) = name {
                    self.called(flow, name, context);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let settle = Duration::from_secs(self.thresholds.settle_secs);
        let due: Vec<Key> = self
            .waiting
            .iter()
            .filter(|&(_, since)| now >= since.after(settle))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.judge(&key, context, out);
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in self.waiting.keys().cloned().collect::<Vec<_>>() {
            self.judge(&key, context, out);
        }
        for (_, destination) in self.destinations.iter() {
            if destination.reported > 0.0 {
                out.push(destination.finding(&self.thresholds));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.destinations.len(),
            limit: self.destinations.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
