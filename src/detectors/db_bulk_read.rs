//! `db-bulk-read`: a client takes away what is in a database: whole tables one after the other, every key, a replica's copy.
//!
//! Nightly copies, reports, the tables that programs load as they start, and replicas read as much. So the volume is never
//! enough by itself: it takes somebody who has no business to. With a baseline that is a workload that never read so, or
//! never so much; without one, a program for copying or for people in a pod that serves others, a conversation that is
//! about nothing else, keys that are listed and then read one by one.

mod weigh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::db_session::{
    Answer, Session, Sessions, Statement, Step, is_copier, is_fetcher, is_typed_at,
};
use super::{Context, Detector, DetectorSpec, Findings, StateSize};
use crate::dissect::{DatabaseMessage, Marks, StatementClass, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, Rate, Role, Server, SourceKey, Vocabulary, database_product, source_key,
    statement_word,
};
use crate::flow::{EndReason, FlowId, FlowRecord, Outcome};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;
use weigh::novelty;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-bulk-read",
    sees: EventKinds::DATABASE
        .and(EventKinds::HTTP)
        .and(EventKinds::FLOW_OUTCOME)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_sources;
        Ok(Box::new(DbBulkRead {
            thresholds,
            alert_bits: signature.alert_bits,
            sessions: Sessions::new(signature.share),
            sources: Bounded::new(room),
            fetchers: Bounded::new(signature.room(MAX_FETCHERS)),
            evicted: 0,
        }))
    },
};

const MAX_TABLES: usize = 512;
/// Conversations of programs that fetch addresses.
const MAX_FETCHERS: usize = 4096;
const MAX_TARGETS: usize = 16;
const MAX_SAMPLES: usize = 4;
/// Conversations of a source in which it read in bulk.
const MAX_TALKS: usize = 64;
/// Two visits further apart are two.
const VISIT_ENDS: Duration = Duration::from_hours(1);
/// An answer of so many rows is as good as a whole table.
const MANY_ROWS: u64 = 1000;
/// So is one of so many bytes, of the products that don't tell the number of rows.
const MANY_BYTES: u64 = 512 * 1024;
const TELL_NO_ROWS: &[&str] = &["elasticsearch", "clickhouse"];
/// Commands that read a whole value of a key.
const READS_OF_KEYS: &[&str] = &[
    "GET", "MGET", "GETRANGE", "HGETALL", "HVALS", "HSCAN", "LRANGE", "SMEMBERS", "SSCAN",
    "ZRANGE", "ZSCAN", "XRANGE", "DUMP", "get", "gets", "mg", "getk", "getq", "getkq",
];

/// Those of them that read several keys.
const READS_OF_MANY: &[&str] = &["MGET", "get", "gets"];
/// So many questions about what there is make somebody who looked around.
const LOOKED_AROUND: u64 = 3;
/// Whoever comes to list keys does so among his first statements, and reads one in a short visit or goes on with it.
const FIRST_STATEMENTS: u64 = 8;
const SHORT_VISIT: u64 = 3;
/// A copy as replicas get it: by a pod that is something else, and by anybody.
const REPLICA_ELSEWHERE_BITS: f64 = 12.0;
const REPLICA_BITS: f64 = 5.0;
/// A replica of Redis tells how far it is, every second for as long as it lives. Who says no more than it takes to ask for
/// the copy, and leaves when he has it, or asks for nothing but the copy, is none.
const NO_REPLICA_BITS: f64 = 20.0;
const ASKING_TAKES: u64 = 512;
/// From when on having spoken is a habit.
const MIN_SPOKEN: u64 = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    /// Tables read whole.
    min_tables: usize,
    /// Keys read after they were listed.
    min_keys: u64,
    /// Or bytes read in bulk.
    min_bytes: u64,
    /// What programs load as they start.
    typical_bytes: f64,
}

struct DbBulkRead {
    thresholds: Thresholds,
    alert_bits: f64,
    sessions: Sessions,
    sources: Bounded<SourceKey, Reader>,
    /// What a program that fetches addresses from a command line calls itself, by conversation.
    fetchers: Bounded<FlowId, Arc<str>>,
    evicted: u64,
}

/// What a source did in one conversation in which it read in bulk or looked around.
#[derive(Clone, Copy, Default, Debug)]
struct Talk {
    tables: u64,
    looked: u64,
    walked: bool,
    /// Whether it asked for a replica's copy, in a pod that serves something else.
    copies: bool,
}

/// One source that reads in bulk.
struct Reader {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    servers: BTreeMap<Server, (Endpoint, &'static str)>,
    /// Forms of the statements that read whole tables.
    tables: BTreeSet<(Server, u64)>,
    copies: u64,
    /// When keys were first listed.
    walked: Option<Timestamp>,
    keys: u64,
    dumped: u64,
    rows: u64,
    bytes: u64,
    /// Bytes in the minute going on, which it is, and the most surprise at one.
    minute: (i64, u64),
    surprise: f64,
    /// Statements of other kinds in the same conversations.
    work: u64,
    /// And in others since it began.
    others: u64,
    bulk: u64,
    /// Questions about what there is, in all its conversations.
    looked: u64,
    talks: BTreeMap<FlowId, Talk>,
    nothing_else: bool,
    replicates: Option<f64>,
    user: Option<Arc<str>>,
    /// What a program for people or for copying calls itself.
    tool: Option<Arc<str>>,
    refused: u64,
    stranger: bool,
    habit: bool,
    novelty: f64,
    samples: Vec<Arc<FlowInfo>>,
    /// What it weighed when it was last reported, and how much it had read.
    mark: f64,
    reported: u64,
}

impl DbBulkRead {
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
                let reader = self.reader(flow, time);
                reader.refused = reader.refused.saturating_add(1);
            }
            // To a replica nothing is answered that could be understood.
            Step::Asked(statement) if is_replication(&statement) => {
                self.replicates(flow, message.product, &statement, context);
                self.judge(flow, context, out);
            }
            Step::Answered(statement, answer)
                if answer.error.is_none()
                    && self.answered(flow, message.product, &statement, &answer, context) =>
            {
                self.judge(flow, context, out);
            }
            _ => {}
        }
    }

    /// Whether the answer is part of reading in bulk.
    fn answered(
        &mut self,
        flow: &Arc<FlowInfo>,
        product: &'static str,
        statement: &Statement,
        answer: &Answer,
        context: &Context<'_>,
    ) -> bool {
        let knows = |word: &str| {
            let profile = context.profile(&flow.orig);
            profile.is_some_and(|one| one.knows_word(Vocabulary::Statement, Role::Client, word))
        };
        let word = statement_word(statement.fingerprint);
        let catalogue = matches!(
            statement.class,
            StatementClass::Catalogue | StatementClass::CredentialTable
        );
        if statement.marks.contains(Marks::KEY_WALK) {
            let statements = self.sessions.get(flow.id).map_or(0, |one| one.statements);
            if statements <= FIRST_STATEMENTS && !knows(&word) {
                let novelty = novelty(flow, &word, context);
                let reader = self.reader(flow, statement.time);
                reader.walked.get_or_insert(statement.time);
                reader.novelty = reader.novelty.max(novelty);
                if let Some(talk) = reader.talk(flow.id) {
                    talk.walked = true;
                }
            }
            return false;
        }
        if catalogue {
            let reader = self.reader(flow, statement.time);
            reader.looked = reader.looked.saturating_add(1);
            if let Some(talk) = reader.talk(flow.id) {
                talk.looked = talk.looked.saturating_add(1);
            }
            return false;
        }
        // Programs for copying name all columns of a table, too.
        let client = self.sessions.get(flow.id).and_then(Session::client);
        let large = TELL_NO_ROWS.contains(&product) && answer.bytes >= MANY_BYTES;
        let much = answer.rows.is_some_and(|rows| rows >= MANY_ROWS)
            || answer.rows.is_none() && large
            || client.is_some_and(is_copier);
        let whole = statement.marks.contains(Marks::BULK_READ)
            || statement.class == StatementClass::Read && much;
        let reader = self.sources.peek(&source_key(&flow.orig));
        let talks = reader.and_then(|reader| reader.talks.get(&flow.id));
        let statements = self.sessions.get(flow.id).map_or(0, |one| one.statements);
        let more = statement.verb == "getMore" && talks.is_some_and(|talk| talk.tables > 0);
        let key = READS_OF_KEYS.contains(&statement.verb)
            && reader
                .and_then(|reader| reader.walked)
                .is_some_and(|walked| {
                    talks.is_some_and(|talk| talk.walked)
                        || flow.start >= walked && statements <= SHORT_VISIT
                });
        let work = matches!(
            statement.class,
            StatementClass::Read | StatementClass::Write | StatementClass::Schema
        );
        let counts = whole && !knows(&word) || more || key;
        if !counts || self.is_usual_copy(flow, product, context) {
            let (within, known) = (talks.is_some(), reader.is_some());
            if work && known {
                let reader = self.reader(flow, statement.time);
                let counter = if within {
                    &mut reader.work
                } else {
                    &mut reader.others
                };
                *counter = counter.saturating_add(1);
            }
            return false;
        }
        let novelty = if whole {
            novelty(flow, &word, context)
        } else {
            0.0
        };
        let habit = context.habits.spoken(&flow.orig) >= MIN_SPOKEN;
        let session = self.sessions.get(flow.id);
        let user = session.and_then(|session| session.user.clone());
        let tool = session
            .and_then(|session| session.client.clone())
            .filter(|client| is_typed_at(client) || is_copier(client))
            .or_else(|| self.fetchers.peek(&flow.id).cloned());

        let server = (flow.resp.ip, flow.resp_port);
        let reader = self.reader(flow, statement.time);
        if reader.servers.is_empty() {
            reader.first = statement.time;
            reader.habit = habit;
        }
        reader.note(flow, product, statement.time);
        reader.user = user.or_else(|| reader.user.take());
        reader.tool = tool.or_else(|| reader.tool.take());
        reader.novelty = reader.novelty.max(novelty);
        reader.rows = reader.rows.saturating_add(answer.rows.unwrap_or(0));
        reader.take_bytes(flow, answer.bytes, statement.time, context);
        if key {
            // Several at once come as rows.
            let several = answer
                .rows
                .filter(|_| READS_OF_MANY.contains(&statement.verb));
            let read = several.unwrap_or(1).max(1);
            reader.keys = reader.keys.saturating_add(read);
            reader.dumped += u64::from(statement.verb == "DUMP");
        } else {
            reader.bulk = reader.bulk.saturating_add(1);
            let fresh = reader.tables.len() < MAX_TABLES
                && !more
                && reader.tables.insert((server, statement.fingerprint));
            reader.copies += u64::from(fresh && statement.verb == "COPY");
            if let Some(talk) = reader.talk(flow.id)
                && fresh
            {
                talk.tables = talk.tables.saturating_add(1);
            }
        }
        true
    }

    /// Whether a program for copying is at work that the workload's baseline knows: there are new tables every day.
    fn is_usual_copy(&self, flow: &FlowInfo, product: &str, context: &Context<'_>) -> bool {
        let client = self.sessions.get(flow.id).and_then(Session::client);
        let Some((client, profile)) = client
            .filter(|client| is_copier(client))
            .zip(context.profile(&flow.orig))
        else {
            return false;
        };
        let word = format!("{product} {client}");
        profile.knows_word(Vocabulary::DatabaseClient, Role::Client, &word)
    }

    /// A client asks for what a server sends to its replicas.
    fn replicates(
        &mut self,
        flow: &Arc<FlowInfo>,
        product: &'static str,
        statement: &Statement,
        context: &Context<'_>,
    ) {
        let (client, server) = (&flow.orig.who.identity, &flow.resp.who.identity);
        if client.workload.is_some() && client.workload == server.workload {
            return;
        }
        let word = statement_word(statement.fingerprint);
        let profile = context.profile(&flow.orig);
        if profile.is_some_and(|one| one.knows_word(Vocabulary::Statement, Role::Client, &word)) {
            return;
        }
        let elsewhere = context.has_other_work_than(&flow.orig, flow.resp_port);
        let bits = match (elsewhere, statement.verb) {
            (true, NOTHING_BUT_THE_COPY) => NO_REPLICA_BITS,
            (true, _) => REPLICA_ELSEWHERE_BITS,
            (false, _) => REPLICA_BITS,
        };
        let novelty = novelty(flow, &word, context);
        let habit = context.habits.spoken(&flow.orig) >= MIN_SPOKEN;
        let user = self.sessions.get(flow.id);
        let user = user.and_then(|session| session.user.clone());
        let reader = self.reader(flow, statement.time);
        if reader.servers.is_empty() {
            reader.first = statement.time;
            reader.habit = habit;
        }
        reader.note(flow, product, statement.time);
        reader.user = user.or_else(|| reader.user.take());
        reader.novelty = reader.novelty.max(novelty);
        reader.replicates = Some(reader.replicates.unwrap_or(0.0).max(bits));
        if elsewhere
            && product == "redis"
            && let Some(talk) = reader.talk(flow.id)
        {
            talk.copies = true;
        }
    }

    fn ended(
        &mut self,
        flow: &Arc<FlowInfo>,
        record: &FlowRecord,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        self.sessions.ended(flow.id);
        let min_tables = self.thresholds.min_tables as u64;
        let Some(reader) = self.sources.peek_mut(&source_key(&flow.orig)) else {
            return;
        };
        let Some(talk) = reader.talks.get(&flow.id).copied() else {
            return;
        };
        let closed = record.reason == EndReason::Closed;
        // Such programs ask for the time and the version, too.
        let hardly = |others: u64| others.saturating_mul(2) <= reader.tables.len() as u64;
        let alone = talk.looked >= LOOKED_AROUND && talk.tables >= min_tables;
        // With several hands, one of which asks what there is; an application that works meanwhile can't be told from them.
        let together = talk.tables > 0
            && reader.looked >= LOOKED_AROUND
            && reader.tables.len() as u64 >= min_tables
            && hardly(reader.work.saturating_add(reader.others));
        if closed && (alone && hardly(reader.work) || together) {
            reader.nothing_else = true;
        }
        let [said, heard] = record.payload_bytes;
        if talk.copies && closed && said < ASKING_TAKES && heard > 0 {
            reader.replicates = Some(NO_REPLICA_BITS);
        }
        if talk.copies {
            reader.bytes = reader.bytes.saturating_add(heard);
        }
        reader.talks.remove(&flow.id);
        self.judge(flow, context, out);
    }

    fn reader(&mut self, flow: &FlowInfo, time: Timestamp) -> &mut Reader {
        let key = source_key(&flow.orig);
        let over = |reader: &Reader| time.since(reader.last) > VISIT_ENDS;
        if self.sources.peek(&key).is_some_and(over) {
            self.sources.pop(&key);
        }
        let (reader, gone) = self.sources.entry_or_insert_with(key, || Reader {
            actor: flow.orig.clone(),
            first: time,
            last: time,
            servers: BTreeMap::new(),
            tables: BTreeSet::new(),
            copies: 0,
            walked: None,
            keys: 0,
            dumped: 0,
            rows: 0,
            bytes: 0,
            minute: (0, 0),
            surprise: 0.0,
            work: 0,
            others: 0,
            bulk: 0,
            looked: 0,
            talks: BTreeMap::new(),
            nothing_else: false,
            replicates: None,
            user: None,
            tool: None,
            refused: 0,
            stranger: false,
            habit: false,
            novelty: 0.0,
            samples: Vec::new(),
            mark: 0.0,
            reported: 0,
        });
        self.evicted += u64::from(gone.is_some());
        reader
    }

    fn judge(&mut self, flow: &FlowInfo, context: &Context<'_>, out: &mut Findings) {
        let serves = context.has_other_work(&flow.orig);
        let learned = context.profile(&flow.orig).is_some();
        let thresholds = self.thresholds;
        let Some(reader) = self.sources.peek_mut(&source_key(&flow.orig)) else {
            return;
        };
        let enough = reader.tables.len() >= thresholds.min_tables
            || reader.keys >= thresholds.min_keys
            || reader.bytes >= thresholds.min_bytes
            || reader.replicates.is_some();
        if !enough || reader.servers.is_empty() {
            return;
        }
        let weighed = weigh::Weighed::of(reader, serves, learned, &thresholds);
        let grown = reader.bytes >= reader.reported.saturating_mul(2);
        if weighed.bits() < self.alert_bits || weighed.bits() <= reader.mark && !grown {
            return;
        }
        reader.mark = weighed.bits();
        reader.reported = reader.bytes.max(1);
        out.push(reader.finding(weighed));
    }
}

/// Whether a client asks for what a server sends to its replicas.
fn is_replication(statement: &Statement) -> bool {
    // Applications follow MongoDB's log of operations, too.
    statement.marks.contains(Marks::REPLICATES)
        && matches!(
            statement.verb,
            "SYNC" | "PSYNC" | "START_REPLICATION" | NOTHING_BUT_THE_COPY
        )
        || matches!(statement.verb, "BASE_BACKUP")
}

/// How Redis is told that nothing is wanted but a copy of what there is now.
const NOTHING_BUT_THE_COPY: &str = "REPLCONF rdb-only";

impl Reader {
    fn talk(&mut self, id: FlowId) -> Option<&mut Talk> {
        if self.talks.len() >= MAX_TALKS && !self.talks.contains_key(&id) {
            return None;
        }
        Some(self.talks.entry(id).or_default())
    }

    fn note(&mut self, flow: &Arc<FlowInfo>, product: &'static str, time: Timestamp) {
        self.last = self.last.max(time);
        if self.servers.len() < MAX_TARGETS {
            self.servers
                .entry((flow.resp.ip, flow.resp_port))
                .or_insert_with(|| (flow.resp.clone(), product));
        }
        let another = self.samples.last().is_none_or(|last| last.id != flow.id);
        if self.samples.len() < MAX_SAMPLES && another {
            self.samples.push(Arc::clone(flow));
        }
    }

    fn take_bytes(&mut self, flow: &FlowInfo, bytes: u64, time: Timestamp, context: &Context<'_>) {
        self.bytes = self.bytes.saturating_add(bytes);
        let minute = time.nanos().div_euclid(60_000_000_000);
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        self.minute.1 = self.minute.1.saturating_add(bytes);
        if let Some(lineage) = context.lineage(&flow.orig)
            && lineage.profile().is_some()
        {
            let bits = lineage.rate_bits(Rate::ResultBytes, self.minute.1 as f64, time);
            self.surprise = self.surprise.max(bits);
        }
    }
}

impl Detector for DbBulkRead {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } if database_product(flow.resp_port).is_some()
                && context.is_stranger(flow, event.time) =>
            {
                self.reader(flow, event.time).stranger = true;
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Database(message),
            } => self.message(flow, message, event.time, context, out),
            EventKind::Transaction {
                flow,
                transaction: Transaction::HttpRequest(request),
            } => {
                if let Some(agent) = request.user_agent.as_ref().filter(|one| is_fetcher(one)) {
                    self.fetchers.put(flow.id, Arc::clone(agent));
                }
            }
            EventKind::FlowEnded { flow, record } => self.ended(flow, record, context, out),
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        // In the order in which they were last heard of, so that it is the same each time.
        let reported = self.sources.iter().map(|(_, reader)| reader);
        out.extend(reported.filter(|reader| reader.mark > 0.0).map(|reader| {
            let serves = context.has_other_work(&reader.actor);
            let learned = context.profile(&reader.actor).is_some();
            reader.finding(weigh::Weighed::of(
                reader,
                serves,
                learned,
                &self.thresholds,
            ))
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
