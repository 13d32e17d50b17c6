//! What the detectors of single grave statements share: deeds of a client at a server, weighed and reported.
//!
//! A deed that the workload's baseline knows is passed over. Tools that copy whole databases or look after them call
//! themselves so, and weigh less for it; whoever borrows such a name is found by what else he does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::db_session::{Answer, Session, Sessions, Statement, Step, is_caretaker};
use super::{Context, Evidence, Family, Finding, Findings, StateSize, Target};
use crate::dissect::{DatabaseMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::features::{Bounded, Role, Server, SourceKey, Vocabulary, source_key, statement_word};
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

const MAX_SAMPLES: usize = 4;
/// Different statements counted per client and server.
const MAX_STATEMENTS: usize = 256;
/// Where deeds stop adding up.
const MAX_BITS: f64 = 30.0;
/// Having been refused before by this server, and how often that takes.
const REFUSED_BITS: f64 = 6.0;
const MIN_REFUSED: u64 = 3;

/// The settings of such a detector.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    /// Clients and servers remembered.
    max_pairs: usize,
    /// The share of a further deed's bits that adds to the weightiest's.
    further_share: f64,
    /// What calling itself a caretaker takes away, in bits.
    caretaker_bits: f64,
}

/// One thing that a statement does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deed {
    /// In words, after "it": `reads files of the server`.
    pub(super) what: &'static str,
    pub(super) bits: f64,
    /// Whether no honest client does it.
    pub(super) unmistakable: bool,
}

/// What sets one such detector apart.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) signature: &'static str,
    pub(super) feature: &'static str,
    pub(super) expected: &'static str,
    /// What a statement, answered so, does.
    pub(super) judge: fn(&'static str, &Statement, &Answer, &mut Vec<Deed>),
}

/// Watches for deeds.
pub(super) struct Watch {
    kind: Kind,
    thresholds: Thresholds,
    alert_bits: f64,
    sessions: Sessions,
    pairs: Bounded<(SourceKey, Server), Pair>,
    deeds: Vec<Deed>,
    evicted: u64,
}

/// What one client did at one server.
struct Pair {
    actor: Endpoint,
    server: Endpoint,
    port: u16,
    product: &'static str,
    user: Option<Arc<str>>,
    caretaker: bool,
    refused: u64,
    first: Timestamp,
    last: Timestamp,
    deeds: BTreeMap<&'static str, Deed>,
    statements: BTreeSet<u64>,
    count: u64,
    rows: u64,
    bytes: u64,
    novelty: f64,
    samples: Vec<Arc<FlowInfo>>,
    mark: f64,
}

impl Watch {
    pub(super) fn new(kind: Kind, thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        let room = thresholds.max_pairs;
        Self {
            kind,
            thresholds,
            alert_bits,
            sessions: Sessions::new(share),
            pairs: Bounded::new(room),
            deeds: Vec::new(),
            evicted: 0,
        }
    }

    pub(super) fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Database(message),
            } => self.message(flow, message, event.time, context, out),
            EventKind::FlowEnded { flow, .. } => {
                self.sessions.ended(flow.id);
            }
            _ => {}
        }
    }

    fn message(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DatabaseMessage,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        match self.sessions.take(flow.id, message, time) {
            Step::Login(false) => {
                let pair = self.pair(flow, message.product, time);
                pair.refused = pair.refused.saturating_add(1);
            }
            Step::Answered(statement, answer) => {
                let mut deeds = std::mem::take(&mut self.deeds);
                deeds.clear();
                (self.kind.judge)(message.product, &statement, &answer, &mut deeds);
                if !deeds.is_empty() {
                    self.done(flow, &statement, &answer, &deeds, context, out);
                }
                self.deeds = deeds;
            }
            _ => {}
        }
    }

    fn done(
        &mut self,
        flow: &Arc<FlowInfo>,
        statement: &Statement,
        answer: &Answer,
        deeds: &[Deed],
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let word = statement_word(statement.fingerprint);
        let profile = context.profile(&flow.orig);
        if profile.is_some_and(|one| one.knows_word(Vocabulary::Statement, Role::Client, &word)) {
            return;
        }
        let novelty = context.lineage(&flow.orig).map_or(0.0, |lineage| {
            lineage.word_bits(Vocabulary::Statement, Role::Client, &word)
        });
        let session = self.sessions.get(flow.id);
        let product = session.map_or("database", |session| session.product);
        let user = session.and_then(|session| session.user.clone());
        let caretaker = is_caretaker(session.and_then(Session::client));

        let (thresholds, kind, alert_bits) = (self.thresholds, self.kind, self.alert_bits);
        let pair = self.pair(flow, product, statement.time);
        if pair.deeds.is_empty() {
            pair.first = statement.time;
        }
        pair.last = pair.last.max(statement.time);
        pair.user = user.or_else(|| pair.user.take());
        pair.caretaker |= caretaker;
        pair.novelty = pair.novelty.max(novelty);
        pair.count = pair.count.saturating_add(1);
        pair.rows = pair.rows.saturating_add(answer.rows.unwrap_or(0));
        pair.bytes = pair.bytes.saturating_add(answer.bytes);
        if pair.statements.len() < MAX_STATEMENTS {
            pair.statements.insert(statement.fingerprint);
        }
        for deed in deeds {
            let known = pair.deeds.entry(deed.what).or_insert(*deed);
            if deed.bits > known.bits {
                *known = *deed;
            }
        }
        if pair.samples.len() < MAX_SAMPLES
            && pair.samples.last().is_none_or(|last| last.id != flow.id)
        {
            pair.samples.push(Arc::clone(flow));
        }
        let bits = pair.protocol_bits(&thresholds) + pair.refused_bits() + pair.novelty;
        if bits >= alert_bits && bits > pair.mark {
            pair.mark = bits;
            out.push(pair.finding(&kind, &thresholds));
        }
    }

    fn pair(&mut self, flow: &Arc<FlowInfo>, product: &'static str, time: Timestamp) -> &mut Pair {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        let (pair, gone) = self.pairs.entry_or_insert_with(key, || Pair {
            actor: flow.orig.clone(),
            server: flow.resp.clone(),
            port: flow.resp_port,
            product,
            user: None,
            caretaker: false,
            refused: 0,
            first: time,
            last: time,
            deeds: BTreeMap::new(),
            statements: BTreeSet::new(),
            count: 0,
            rows: 0,
            bytes: 0,
            novelty: 0.0,
            samples: Vec::new(),
            mark: 0.0,
        });
        self.evicted += u64::from(gone.is_some());
        pair
    }

    /// Says the last word on everybody reported, in the order in which they were last heard of.
    pub(super) fn finish(&mut self, out: &mut Findings) {
        let reported = self.pairs.iter().map(|(_, pair)| pair);
        out.extend(
            reported
                .filter(|pair| pair.mark > 0.0)
                .map(|pair| pair.finding(&self.kind, &self.thresholds)),
        );
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pairs.len(),
            limit: self.pairs.limit(),
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

impl Pair {
    fn protocol_bits(&self, thresholds: &Thresholds) -> f64 {
        let sum: f64 = self.deeds.values().map(|deed| deed.bits).sum();
        let most = self
            .deeds
            .values()
            .map(|deed| deed.bits)
            .fold(0.0, f64::max);
        let care = if self.caretaker {
            thresholds.caretaker_bits
        } else {
            0.0
        };
        (most + (sum - most) * thresholds.further_share).min(MAX_BITS) - care
    }

    const fn refused_bits(&self) -> f64 {
        if self.refused >= MIN_REFUSED {
            REFUSED_BITS
        } else {
            0.0
        }
    }

    fn finding(&self, kind: &Kind, thresholds: &Thresholds) -> Finding {
        let mut deeds: Vec<&Deed> = self.deeds.values().collect();
        deeds.sort_by(|a, b| b.bits.total_cmp(&a.bits).then(a.what.cmp(b.what)));
        let what: Vec<&str> = deeds.iter().map(|deed| deed.what).collect();
        let what = what.join(", ");
        let mut evidence = vec![Evidence {
            feature: kind.feature,
            family: Family::Protocol,
            observed: self.count as f64,
            expected: kind.expected.into(),
            bits: self.protocol_bits(thresholds),
            signature_grade: !self.caretaker && deeds.iter().any(|deed| deed.unmistakable),
            text: format!(
                "{}: it {what}; {} rows, {} bytes came back",
                match self.count {
                    1 => "one statement".to_owned(),
                    many => format!("{many} statements of {} kinds", self.statements.len()),
                },
                self.rows,
                self.bytes
            ),
        }];
        if self.refused_bits() > 0.0 {
            evidence.push(Evidence {
                feature: "db.refused_before",
                family: Family::Outcome,
                observed: self.refused as f64,
                expected: "0".into(),
                bits: self.refused_bits(),
                signature_grade: false,
                text: format!("{} logins to this server were refused before", self.refused),
            });
        }
        if self.novelty > 0.0 {
            evidence.push(Evidence {
                feature: "db.new_statement",
                family: Family::Novelty,
                observed: self.statements.len() as f64,
                expected: "statements that the workload said in its baseline".into(),
                bits: self.novelty,
                signature_grade: false,
                text: "the workload never said this to a database in its baseline".into(),
            });
        }
        let user = self.user.as_deref();
        let user = user.map_or_else(String::new, |user| format!(" as {user}"));
        Finding {
            signature: kind.signature,
            subject: format!("{}:{}", self.server.ip, self.port),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(self.server.clone()),
                port: Some(self.port),
                protocol: Some(self.product),
                domain: None,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary: format!(
                "talked to {} at {}:{}{user}: it {what}",
                self.product, self.server.ip, self.port
            ),
        }
    }
}
