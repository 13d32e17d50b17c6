//! `db-enumeration`: a client looks around in databases: what is there, who may do what, how it is set up.
//!
//! Administrators, tools for them, dumps, exporters, migrations and the first minute of every application look around,
//! too. So looking around is never enough by itself: it takes somebody who has no business to. With a baseline that is
//! what the workload never said; without one, a program that people type at in a pod that serves others, a string of
//! one-statement visits, refused logins before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::db_session::{Sessions, Statement, Step, is_typed_at};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{DatabaseMessage, StatementClass, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, Server, SourceKey, Vocabulary, source_key, statement_word};
use crate::flow::{FlowId, Outcome};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-enumeration",
    sees: EventKinds::DATABASE
        .and(EventKinds::FLOW_OUTCOME)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_sources;
        Ok(Box::new(DbEnumeration {
            thresholds,
            alert_bits: signature.alert_bits,
            sessions: Sessions::new(signature.share),
            sources: Bounded::new(room),
            evicted: 0,
        }))
    },
};

/// Different questions counted per source.
const MAX_QUESTIONS: usize = 512;
const MAX_TARGETS: usize = 16;
const MAX_SAMPLES: usize = 4;
/// Questions that anybody asks who begins to work with a database.
const FREE_QUESTIONS: u64 = 3;
/// Bits per further question, and for each further server.
const BITS_PER_QUESTION: f64 = 1.0;
const BITS_PER_SERVER: f64 = 2.0;
/// However much somebody looks around, there are tools that do it all.
const MAX_BREADTH_BITS: f64 = 10.0;
/// The share of statements about data from which it is work, and looking around a part of it.
const WORK_SHARE: f64 = 0.5;
/// A program that people type at, in a pod that serves others.
const TYPED_BITS: f64 = 8.0;
/// Visits of at most this many statements, so many of them, each with another question.
const SHORT_VISIT: u64 = 2;
const MIN_VISITS: u64 = 3;
const VISITS_BITS: f64 = 5.0;
/// Redis: all keys at once, beside questions about the server; and beside its settings, which only its owners read.
const KEYS_BITS: f64 = 5.0;
const SETTINGS_BITS: f64 = 2.0;
/// Logins refused at one of the servers before.
const REFUSED_BITS: f64 = 6.0;
const MIN_REFUSED: u64 = 3;
/// A pod that was there for a while and never spoke to this server.
const STRANGER_BITS: f64 = 4.0;
/// Two visits further apart are two.
const VISIT_ENDS: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    min_questions: u64,
}

struct DbEnumeration {
    thresholds: Thresholds,
    alert_bits: f64,
    sessions: Sessions,
    sources: Bounded<SourceKey, Visitor>,
    evicted: u64,
}

/// One source that asks databases about themselves.
struct Visitor {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    servers: BTreeMap<Server, (Endpoint, &'static str)>,
    /// Questions by server and fingerprint.
    questions: BTreeSet<(Server, u64)>,
    /// Statements about data.
    work: u64,
    asked: u64,
    user: Option<Arc<str>>,
    /// What a program that people type at calls itself.
    typed_at: Option<Arc<str>>,
    /// The latest conversation with a question that wasn't asked before.
    fresh: Option<FlowId>,
    /// Short visits with such a question.
    visits: u64,
    keys: bool,
    /// Settings of Redis.
    settings: bool,
    refused: u64,
    stranger: bool,
    novelty: f64,
    samples: Vec<Arc<FlowInfo>>,
    /// Questions when it was last reported.
    mark: u64,
}

impl DbEnumeration {
    fn message(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DatabaseMessage,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        match self.sessions.take(flow.id, message, time) {
            Step::Login(success) => {
                let visitor = self.visitor(flow, time);
                if !success {
                    visitor.refused = visitor.refused.saturating_add(1);
                }
            }
            Step::Asked(statement) => {
                self.asked(flow, message.product, &statement, context);
                self.judge(flow, context, out);
            }
            _ => {}
        }
    }

    fn asked(
        &mut self,
        flow: &Arc<FlowInfo>,
        product: &'static str,
        statement: &Statement,
        context: &Context<'_>,
    ) {
        let question = matches!(
            statement.class,
            StatementClass::Catalogue | StatementClass::CredentialTable
        );
        let work = matches!(
            statement.class,
            StatementClass::Read | StatementClass::Write | StatementClass::Schema
        );
        if !question {
            if work {
                let visitor = self.visitor(flow, statement.time);
                visitor.work = visitor.work.saturating_add(1);
            }
            return;
        }
        let word = statement_word(statement.fingerprint);
        let profile = context.profile(&flow.orig);
        if profile.is_some_and(|one| one.knows_word(Vocabulary::Statement, Role::Client, &word)) {
            return;
        }
        let novelty = novelty(flow, product, &word, context);
        let session = self.sessions.get(flow.id);
        let user = session.and_then(|session| session.user.clone());
        let client = session.and_then(|session| session.client.clone());

        let server = (flow.resp.ip, flow.resp_port);
        let visitor = self.visitor(flow, statement.time);
        if visitor.questions.is_empty() {
            visitor.first = statement.time;
        }
        visitor.last = visitor.last.max(statement.time);
        visitor.asked = visitor.asked.saturating_add(1);
        visitor.user = user.or_else(|| visitor.user.take());
        visitor.typed_at = client
            .filter(|client| is_typed_at(client))
            .or_else(|| visitor.typed_at.take());
        visitor.novelty = visitor.novelty.max(novelty);
        visitor.keys |= statement.verb == "KEYS";
        visitor.settings |= statement.verb == "CONFIG GET";
        let fresh = visitor.questions.len() < MAX_QUESTIONS
            && visitor.questions.insert((server, statement.fingerprint));
        if visitor.servers.len() < MAX_TARGETS {
            visitor
                .servers
                .entry(server)
                .or_insert_with(|| (flow.resp.clone(), product));
        }
        if fresh {
            visitor.fresh = Some(flow.id);
        }
        let another = visitor.samples.last().is_none_or(|last| last.id != flow.id);
        if visitor.samples.len() < MAX_SAMPLES && another {
            visitor.samples.push(Arc::clone(flow));
        }
    }

    /// A conversation with a database begins: whether its client is a stranger to it.
    fn begins(&mut self, flow: &FlowInfo, time: Timestamp, context: &Context<'_>) {
        if context.is_stranger(flow, time) {
            let visitor = self.visitor(flow, time);
            visitor.stranger = true;
        }
    }

    fn visitor(&mut self, flow: &FlowInfo, time: Timestamp) -> &mut Visitor {
        let key = source_key(&flow.orig);
        let over = self
            .sources
            .peek(&key)
            .is_some_and(|visitor| time.since(visitor.last) > VISIT_ENDS);
        if over {
            self.sources.pop(&key);
        }
        let (visitor, gone) = self.sources.entry_or_insert_with(key, || Visitor {
            actor: flow.orig.clone(),
            first: time,
            last: time,
            servers: BTreeMap::new(),
            questions: BTreeSet::new(),
            work: 0,
            asked: 0,
            user: None,
            typed_at: None,
            fresh: None,
            visits: 0,
            keys: false,
            settings: false,
            refused: 0,
            stranger: false,
            novelty: 0.0,
            samples: Vec::new(),
            mark: 0,
        });
        self.evicted += u64::from(gone.is_some());
        visitor
    }

    fn judge(&mut self, flow: &FlowInfo, context: &Context<'_>, out: &mut Findings) {
        let serves = context.has_other_work(&flow.orig);
        let Some(visitor) = self.sources.peek_mut(&source_key(&flow.orig)) else {
            return;
        };
        let questions = visitor.questions.len() as u64;
        if questions < self.thresholds.min_questions
            || questions < visitor.mark.saturating_mul(2)
            || visitor.bits(serves) < self.alert_bits
        {
            return;
        }
        visitor.mark = questions;
        out.push(visitor.finding(serves));
    }
}

/// What the baseline says of a question: how unlikely the workload is to say something new, this kind of thing at all, or
/// to speak to this server.
fn novelty(flow: &FlowInfo, product: &str, word: &str, context: &Context<'_>) -> f64 {
    let Some(lineage) = context.lineage(&flow.orig) else {
        return 0.0;
    };
    let class = format!("{product} catalogue");
    let contact = context.peers.client_contact(flow);
    let contact = contact.map_or(0.0, |contact| lineage.contact_bits(&contact));
    lineage
        .word_bits(Vocabulary::Statement, Role::Client, word)
        .max(lineage.word_bits(Vocabulary::StatementClass, Role::Client, &class))
        .max(contact)
}

impl Visitor {
    fn breadth_bits(&self) -> f64 {
        let questions = (self.questions.len() as u64).saturating_sub(FREE_QUESTIONS) as f64;
        let servers = self.servers.len().saturating_sub(1) as f64;
        let bits = questions * BITS_PER_QUESTION + servers * BITS_PER_SERVER;
        let working = self.work as f64 > WORK_SHARE * (self.work + self.asked) as f64;
        let share = if working { 0.5 } else { 1.0 };
        (bits * share).min(MAX_BREADTH_BITS)
    }

    /// What it is worth that it asked Redis for all that it has.
    fn keys_bits(&self) -> f64 {
        match (self.keys && self.questions.len() > 2, self.settings) {
            (false, _) => 0.0,
            (true, false) => KEYS_BITS,
            (true, true) => KEYS_BITS + SETTINGS_BITS,
        }
    }

    /// In which ways it asks as people with a foothold do; the weightiest first. What it asks for counts with each way.
    fn manners(&self, serves: bool) -> Vec<(&'static str, f64, String)> {
        let mut manners = Vec::new();
        let keys = self.keys_bits();
        let too = if keys > 0.0 {
            "; it asked for all keys at once"
        } else {
            ""
        };
        if let Some(client) = &self.typed_at
            && serves
        {
            manners.push((
                "db.typed_in_a_server",
                TYPED_BITS + keys,
                format!("{client} is typed at, and runs in a pod that has other work{too}"),
            ));
        }
        if self.visits >= MIN_VISITS && serves {
            manners.push((
                "db.short_visits",
                VISITS_BITS + keys,
                format!(
                    "{} visits for a question or two each, by a pod that has other work{too}",
                    self.visits
                ),
            ));
        }
        if keys > 0.0 && manners.is_empty() {
            let beside = if self.settings {
                "settings"
            } else {
                "questions"
            };
            manners.push((
                "db.all_keys",
                keys,
                format!("asked for all keys at once, beside {beside} about the server"),
            ));
        }
        manners
    }

    fn newness(&self) -> Option<(&'static str, f64, &'static str)> {
        if self.novelty > STRANGER_BITS || self.novelty > 0.0 && !self.stranger {
            return Some((
                "db.new_questions",
                self.novelty,
                "the workload never asked this in its baseline",
            ));
        }
        self.stranger.then_some((
            "db.new_client",
            STRANGER_BITS,
            "it was there for a while and never spoke to this server before",
        ))
    }

    const fn refused_bits(&self) -> f64 {
        if self.refused >= MIN_REFUSED {
            REFUSED_BITS
        } else {
            0.0
        }
    }

    fn bits(&self, serves: bool) -> f64 {
        let manner = self
            .manners(serves)
            .iter()
            .map(|(_, bits, _)| *bits)
            .fold(0.0, f64::max);
        let newness = self.newness().map_or(0.0, |(_, bits, _)| bits);
        self.breadth_bits() + manner + newness + self.refused_bits()
    }

    fn finding(&self, serves: bool) -> Finding {
        let questions = self.questions.len();
        let products: BTreeSet<&str> = self.servers.values().map(|(_, product)| *product).collect();
        let products = products.into_iter().collect::<Vec<_>>().join(", ");
        let mut evidence = vec![Evidence {
            feature: "db.questions",
            family: Family::Volume,
            observed: questions as f64,
            expected: format!("≤ {FREE_QUESTIONS} before work begins"),
            bits: self.breadth_bits(),
            signature_grade: false,
            text: format!(
                "{questions} different questions about what there is, {} statements about data",
                self.work
            ),
        }];
        for (feature, bits, text) in self.manners(serves) {
            evidence.push(Evidence {
                feature,
                family: Family::Protocol,
                observed: 1.0,
                expected: "programs that ask as they work".into(),
                bits,
                signature_grade: false,
                text,
            });
        }
        if let Some((feature, bits, text)) = self.newness() {
            evidence.push(Evidence {
                feature,
                family: Family::Novelty,
                observed: self.servers.len() as f64,
                expected: "clients and questions met before".into(),
                bits,
                signature_grade: false,
                text: text.into(),
            });
        }
        if self.refused_bits() > 0.0 {
            evidence.push(Evidence {
                feature: "db.refused_before",
                family: Family::Outcome,
                observed: self.refused as f64,
                expected: "0".into(),
                bits: self.refused_bits(),
                signature_grade: false,
                text: format!("{} logins were refused before", self.refused),
            });
        }
        let user = self.user.as_deref();
        let user = user.map_or_else(String::new, |user| format!(" as {user}"));
        Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: self
                .servers
                .iter()
                .map(|((_, port), (end, product))| Target {
                    endpoint: Some(end.clone()),
                    port: Some(*port),
                    protocol: Some(*product),
                    domain: None,
                })
                .collect(),
            target_count: self.servers.len() as u64,
            evidence,
            flows: self.samples.clone(),
            summary: format!(
                "looked around in {} database server{} ({products}){user}: {questions} questions about what there is",
                self.servers.len(),
                if self.servers.len() == 1 { "" } else { "s" }
            ),
        }
    }
}

impl Detector for DbEnumeration {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } if crate::features::database_product(flow.resp_port).is_some() => {
                self.begins(flow, event.time, context);
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Database(message),
            } => self.message(flow, message, event.time, context, out),
            EventKind::FlowEnded { flow, .. } => {
                if let Some(session) = self.sessions.ended(flow.id)
                    && session.statements <= SHORT_VISIT
                    && let Some(visitor) = self.sources.peek_mut(&source_key(&flow.orig))
                    && visitor.fresh == Some(flow.id)
                {
                    visitor.visits = visitor.visits.saturating_add(1);
                    self.judge(flow, context, out);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        // In the order in which they were last heard of, so that it is the same each time.
        let reported = self.sources.iter().map(|(_, visitor)| visitor);
        out.extend(reported.filter(|visitor| visitor.mark > 0).map(|visitor| {
            let serves = context.has_other_work(&visitor.actor);
            visitor.finding(serves)
        }));
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.sources.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests;
