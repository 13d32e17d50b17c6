//! `miner`: a workload mines cryptocurrency.
//!
//! A miner must get work from a pool and hand results in, for days. Where that is readable, each step is Stratum and stands
//! on its own. Inside TLS two things are left: the pool's name (in the hello, or in the DNS answer that led there), and the
//! shape of the talk: small messages that the server sends unasked whenever there is new work, over a connection that
//! carries next to nothing. Neither suffices alone, for web sites have such names and push services such a shape.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::channels::total_bits;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{Content, StratumMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, SourceKey, source_key};
use crate::flow::{Direction, FlowId, Protocol, Turn};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "miner",
    sees: EventKinds::FLOW_OPENED
        .and(EventKinds::TUNNEL)
        .and(EventKinds::STRATUM)
        .and(EventKinds::TLS)
        .and(EventKinds::TURN)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Miners::new(thresholds, signature.alert_bits)))
    },
};

const BITS_STRATUM: f64 = 30.0;
const BITS_ACCEPTED: f64 = 8.0;
const BITS_POOL_DOMAIN: f64 = 16.0;
const BITS_POOL_WORD: f64 = 12.0;
/// Each message that the server sends unasked.
const BITS_PER_PUSH: f64 = 2.0;
const MAX_SHAPE_BITS: f64 = 10.0;
/// A message is unasked if the client was silent for this long.
const UNASKED: Duration = Duration::from_secs(2);
/// A job fits in this; what is longer is a page or a file.
const MAX_MESSAGE: u64 = 2048;
/// The handshake is over after so many turns.
const HANDSHAKE_TURNS: u32 = 4;
const MAX_SAMPLES: usize = 4;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Domains of pools: they and all names below them.
    pool_domains: Vec<String>,
    /// Words that only pools have in their names.
    pool_words: Vec<String>,
    max_miners: usize,
    max_flows: usize,
}

/// A workload and the pool, by domain or address.
type Key = (SourceKey, Arc<str>);

struct Miners {
    thresholds: Thresholds,
    alert_bits: f64,
    suspects: Bounded<Key, Miner>,
    /// Flows to what may be a pool.
    flows: Bounded<FlowId, Watched>,
    evicted: u64,
    reported: BTreeSet<Key>,
}

/// A flow to what may be a pool.
struct Watched {
    key: Key,
    turns: u32,
    /// When the client last spoke.
    asked: Option<Timestamp>,
    /// Something too long for a job went over it.
    bulky: bool,
}

struct Miner {
    actor: Endpoint,
    pool: Endpoint,
    port: u16,
    first: Timestamp,
    last: Timestamp,
    /// The name that looks like a pool's, and what that is worth.
    name: Option<(Arc<str>, f64)>,
    agent: Option<Arc<str>>,
    logins: u64,
    jobs: u64,
    submitted: u64,
    accepted: u64,
    pushes: u64,
    samples: Vec<Arc<FlowInfo>>,
    /// Events at the last report; the next is due a factor of two later.
    reported: Option<u64>,
}

impl Miner {
    fn new(flow: &FlowInfo, time: Timestamp) -> Self {
        Self {
            actor: flow.orig.clone(),
            pool: flow.resp.clone(),
            port: flow.resp_port,
            first: time,
            last: time,
            name: None,
            agent: None,
            logins: 0,
            jobs: 0,
            submitted: 0,
            accepted: 0,
            pushes: 0,
            samples: Vec::new(),
            reported: None,
        }
    }

    const fn in_clear(&self) -> u64 {
        self.logins
            .saturating_add(self.jobs)
            .saturating_add(self.submitted)
    }

    fn take(&mut self, message: &StratumMessage) {
        match message {
            StratumMessage::Login { agent } => {
                self.logins += 1;
                if agent.is_some() {
                    self.agent.clone_from(agent);
                }
            }
            StratumMessage::Job => self.jobs += 1,
            StratumMessage::Submit => self.submitted += 1,
            StratumMessage::SubmitResult { accepted } => self.accepted += u64::from(*accepted),
            StratumMessage::LoginResult { .. } => {}
        }
    }

    fn evidence(&self, context: &Context<'_>) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: f64, expected: &str, bits, grade, text| {
            evidence.push(Evidence {
                feature,
                family,
                observed,
                expected: expected.into(),
                bits,
                signature_grade: grade,
                text,
            });
        };
        if self.in_clear() > 0 {
            let agent = self.agent.as_ref();
            let by = agent.map_or_else(String::new, |agent| format!(", by {agent}"));
            add(
                "mining.stratum_messages",
                Family::Protocol,
                self.in_clear() as f64,
                "0: nobody else speaks this protocol",
                BITS_STRATUM,
                true,
                format!(
                    "{} logins, {} jobs, {} results handed in{by}",
                    self.logins, self.jobs, self.submitted
                ),
            );
        }
        if self.accepted > 0 {
            add(
                "mining.results_taken",
                Family::Outcome,
                self.accepted as f64,
                "0",
                BITS_ACCEPTED,
                false,
                format!("the pool took {} results", self.accepted),
            );
        }
        if let Some((name, bits)) = &self.name {
            add(
                "mining.pool_name",
                Family::Protocol,
                1.0,
                "no name of a pool",
                *bits,
                false,
                format!("{name} is the name of a mining pool, or looks like one"),
            );
        }
        if self.pushes > 0 && self.name.is_some() {
            add(
                "mining.unasked_messages",
                Family::Timing,
                self.pushes as f64,
                "0: who is asked answers",
                (self.pushes as f64 * BITS_PER_PUSH).min(MAX_SHAPE_BITS),
                false,
                format!(
                    "{} small messages came unasked over connections that carry little else, as new work does",
                    self.pushes
                ),
            );
        }
        if let Some(profile) = context.profile(&self.actor)
            && let Some(flow) = self.samples.first()
            && !context.is_learned(flow)
        {
            add(
                "mining.new_peer",
                Family::Novelty,
                1.0,
                "a peer it has met before",
                profile.novelty_bits(Role::Client),
                false,
                "the workload never spoke to this peer in its baseline".into(),
            );
        }
        evidence
    }

    fn finding(&self, subject: &Arc<str>, evidence: Vec<Evidence>) -> Finding {
        let domain = self.name.as_ref().map(|_| Arc::clone(subject));
        let summary = if self.in_clear() > 0 {
            format!(
                "mines cryptocurrency for the pool at {subject}: {} jobs, {} results handed in, {} of them taken",
                self.jobs, self.submitted, self.accepted
            )
        } else {
            format!("keeps a connection to the mining pool {subject}, inside TLS")
        };
        Finding {
            signature: SPEC.id,
            subject: subject.to_string(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(self.pool.clone()),
                port: Some(self.port),
                protocol: Some(if self.in_clear() > 0 {
                    "stratum"
                } else {
                    "tls"
                }),
                domain,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary,
        }
    }
}

impl Miners {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            suspects: Bounded::new(thresholds.max_miners),
            flows: Bounded::new(thresholds.max_flows),
            evicted: 0,
            reported: BTreeSet::new(),
            thresholds,
            alert_bits,
        }
    }

    /// What it says that a host has this name.
    fn name_bits(&self, name: &str) -> Option<f64> {
        let below = |domain: &String| {
            name.strip_suffix(domain.as_str())
                .is_some_and(|left| left.is_empty() || left.ends_with('.'))
        };
        if self.thresholds.pool_domains.iter().any(below) {
            return Some(BITS_POOL_DOMAIN);
        }
        let mut words = name.split(|c: char| !c.is_ascii_alphabetic());
        let known = &self.thresholds.pool_words;
        let is_word = |word: &str| known.iter().any(|known| known == word);
        words.any(is_word).then_some(BITS_POOL_WORD)
    }

    /// The miner behind a flow; a new one if need be.
    fn miner(&mut self, flow: &Arc<FlowInfo>, key: &Key, time: Timestamp) -> Option<&mut Miner> {
        if !self.suspects.contains(key)
            && let Some((old, _)) = self.suspects.push(key.clone(), Miner::new(flow, time))
        {
            self.evicted += 1;
            self.reported.remove(&old);
        }
        let miner = self.suspects.get_mut(key)?;
        miner.last = miner.last.max(time);
        if miner.samples.len() < MAX_SAMPLES
            && miner.samples.iter().all(|sample| sample.id != flow.id)
        {
            miner.samples.push(Arc::clone(flow));
        }
        Some(miner)
    }

    /// A flow goes to a host of this name.
    fn named(&mut self, flow: &Arc<FlowInfo>, name: &Arc<str>, key: Key, time: Timestamp) {
        let Some(bits) = self.name_bits(name) else {
            return;
        };
        if let Some(miner) = self.miner(flow, &key, time) {
            let known = miner.name.as_ref().map_or(0.0, |(_, bits)| *bits);
            if bits > known {
                miner.name = Some((Arc::clone(name), bits));
            }
        }
        if !self.flows.contains(&flow.id) {
            let watched = Watched {
                key,
                turns: 0,
                asked: None,
                bulky: false,
            };
            self.flows.push(flow.id, watched);
        }
    }

    fn stratum(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &StratumMessage,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let key = (source_key(&flow.orig), subject(flow, context));
        if let Some(miner) = self.miner(flow, &key, time) {
            miner.take(message);
            self.report(&key, context, out);
        }
    }

    fn turn(&mut self, id: FlowId, turn: &Turn) -> Option<Key> {
        let watched = self.flows.get_mut(&id)?;
        watched.turns += 1;
        watched.bulky |= watched.turns > HANDSHAKE_TURNS && turn.bytes > MAX_MESSAGE;
        if turn.direction == Direction::Orig {
            watched.asked = Some(turn.end);
            return None;
        }
        let unasked = watched
            .asked
            .is_some_and(|asked| turn.start > asked.after(UNASKED));
        if watched.bulky || watched.turns <= HANDSHAKE_TURNS || !unasked {
            return None;
        }
        let miner = self.suspects.get_mut(&watched.key)?;
        miner.pushes += 1;
        miner.last = miner.last.max(turn.end);
        Some(watched.key.clone())
    }

    fn report(&mut self, key: &Key, context: &Context<'_>, out: &mut Findings) {
        let Some(miner) = self.suspects.peek_mut(key) else {
            return;
        };
        let events = miner.in_clear().saturating_add(miner.pushes);
        if miner
            .reported
            .is_some_and(|before| events < before.saturating_mul(2))
        {
            return;
        }
        let evidence = miner.evidence(context);
        if total_bits(&evidence) >= self.alert_bits {
            miner.reported = Some(events.max(1));
            let (_, subject) = key;
            out.push(miner.finding(subject, evidence));
            self.reported.insert(key.clone());
        }
    }
}

/// The pool's domain if an answer led there, else its address.
fn subject(flow: &FlowInfo, context: &Context<'_>) -> Arc<str> {
    match context.peers.domain(flow.orig.ip, flow.resp.ip) {
        Some(domain) => Arc::clone(domain),
        None => flow.resp.ip.to_string().into(),
    }
}

impl Detector for Miners {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOpened(flow) if flow.protocol == Protocol::Tcp => {
                if let Some(domain) = context.peers.domain(flow.orig.ip, flow.resp.ip) {
                    let key = (source_key(&flow.orig), Arc::clone(domain));
                    self.named(flow, domain, key, event.time);
                }
            }
            EventKind::Transaction { flow, transaction } => {
                let inner = match transaction {
                    Transaction::Carried(carried) => match &carried.content {
                        Content::Message(message) => message,
                        Content::Protocol(_) => return,
                    },
                    plain => plain,
                };
                match inner {
                    Transaction::Stratum(message) => {
                        self.stratum(flow, message, event.time, context, out);
                    }
                    Transaction::TlsClient(hello) => {
                        if let Some(sni) = &hello.sni {
                            let key = (source_key(&flow.orig), subject(flow, context));
                            self.named(flow, sni, key, event.time);
                        }
                    }
                    _ => {}
                }
            }
            EventKind::Turn { flow, turn } => {
                if let Some(key) = self.turn(flow.id, turn) {
                    self.report(&key, context, out);
                }
            }
            EventKind::FlowEnded { flow, .. } => {
                self.flows.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            if let Some(miner) = self.suspects.peek(&key) {
                out.push(miner.finding(&key.1, miner.evidence(context)));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.suspects.len() + self.flows.len(),
            limit: self.thresholds.max_miners + self.thresholds.max_flows,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
