//! `db-injection`: statements reach a database that somebody smuggled in through an application, or parameters of web
//! requests try to.
//!
//! Each sign by itself has honest uses; what injection can't do without is several of them, again and again, with errors
//! on the way. The same signs in a parameter of a web request weigh more, for no browser puts them there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::db_session::{Sessions, Statement, Step};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
    Target,
};
use crate::dissect::{DatabaseMessage, HttpRequest, Marks, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, Server, SourceKey, Vocabulary, source_key, statement_word};
use crate::flow::FlowId;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-injection",
    sees: EventKinds::DATABASE
        .and(EventKinds::HTTP)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_pairs;
        Ok(Box::new(DbInjection {
            alert_bits: signature.alert_bits,
            sessions: Sessions::new(signature.share),
            asked: Bounded::new(signature.room(MAX_OPEN)),
            pairs: Bounded::new(room),
            evicted: 0,
        }))
    },
};

/// Connections with a telling request under way, remembered at a time.
const MAX_OPEN: usize = 4096;
/// Different statements counted per client and server.
const MAX_PRINTS: usize = 256;
const MAX_SAMPLES: usize = 4;
const MAX_SIGN_BITS: f64 = 30.0;
/// For each telling statement that the server refuses, and each that isn't SQL any more.
const BITS_PER_ERROR: f64 = 2.0;
const MAX_ERROR_BITS: f64 = 8.0;
/// A sign of so many bits is hardly ever a habit.
const STRONG: f64 = 6.0;
/// Nor are so many different statements with signs.
const MANY_PRINTS: usize = 4;
/// From so many statements with strong signs, or several, on their number counts, by its logarithm.
const MANY: u64 = 8;
const MAX_COUNT_BITS: f64 = 8.0;
/// A client that calls itself an injection tool.
const TOOL_BITS: f64 = 12.0;
const TOOLS: &[&str] = &["sqlmap", "havij", "sqlninja", "nosqlmap", "bbqsql", "jsql"];

/// A sign, in words, and its bits in a statement and in a parameter of a web request.
const SIGNS: &[(Marks, &str, f64, f64)] = &[
    (
        Marks::UNION_CONSTANTS,
        "rows of constants added by UNION",
        4.0,
        8.0,
    ),
    (Marks::TAUTOLOGY, "comparisons of literals", 3.0, 6.0),
    (Marks::COMMENT_TAIL, "tails cut off by a comment", 2.0, 2.0),
    (Marks::STACKED, "statements stacked on others", 4.0, 6.0),
    (Marks::TIME_DELAY, "waiting on purpose", 6.0, 8.0),
    (Marks::ERROR_BASED, "errors made to show data", 8.0, 8.0),
    (Marks::CHAR_CODES, "text spelled by codes", 5.0, 6.0),
    (Marks::CHAR_PROBE, "guesses at single characters", 7.0, 8.0),
];

/// Errors that say that a statement isn't SQL, or adds rows of another shape: a program that was tested has none.
const MALFORMED: &[&str] = &[
    "42601",
    "42804",
    "1064",
    "1222",
    "1105",
    "102",
    "105",
    "156",
    "205",
    "ORA-00933",
    "ORA-00936",
    "ORA-01756",
    "ORA-01789",
];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_pairs: usize,
}

struct DbInjection {
    alert_bits: f64,
    sessions: Sessions,
    /// Connections whose latest web request was telling.
    asked: Bounded<FlowId, ()>,
    pairs: Bounded<(SourceKey, Server), Pair>,
    evicted: u64,
}

/// What one client sent to one server.
struct Pair {
    actor: Endpoint,
    server: Endpoint,
    port: u16,
    service: &'static str,
    user: Option<Arc<str>>,
    web: bool,
    tool: bool,
    first: Timestamp,
    last: Timestamp,
    /// Telling statements by sign.
    signs: BTreeMap<u32, u64>,
    prints: BTreeSet<u64>,
    count: u64,
    /// Those with several signs at once, or a strong one.
    plain: u64,
    errors: u64,
    novelty: f64,
    samples: Vec<Arc<FlowInfo>>,
    /// How many there were when it was last reported.
    mark: u64,
}

impl DbInjection {
    fn message(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DatabaseMessage,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        match self.sessions.take(flow.id, message, time) {
            Step::Asked(statement) if statement.marks.intersects(Marks::INJECTION) => {
                self.statement(flow, message.product, &statement, context);
                self.judge(flow, out);
            }
            Step::Answered(statement, answer) => {
                let Some(code) = answer.error else { return };
                let told = statement.marks.intersects(Marks::INJECTION)
                    || MALFORMED.contains(&code.as_ref());
                let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
                if told && let Some(pair) = self.pairs.get_mut(&key) {
                    pair.errors = pair.errors.saturating_add(1);
                    pair.last = pair.last.max(time);
                    self.judge(flow, out);
                }
            }
            _ => {}
        }
    }

    fn statement(
        &mut self,
        flow: &Arc<FlowInfo>,
        product: &'static str,
        statement: &Statement,
        context: &Context<'_>,
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
        let user = session.and_then(|session| session.user.clone());
        let pair = self.pair(flow, product, statement.time);
        pair.user = user.or_else(|| pair.user.take());
        pair.novelty = pair.novelty.max(novelty);
        pair.take(flow, statement.marks, statement.fingerprint, statement.time);
    }

    fn request(
        &mut self,
        flow: &Arc<FlowInfo>,
        request: &HttpRequest,
        time: Timestamp,
        out: &mut Findings,
    ) {
        self.asked.pop(&flow.id);
        let marks = request.injection;
        if marks.is_empty() || marks == Marks::COMMENT_TAIL {
            return;
        }
        self.asked.put(flow.id, ());
        let agent = request.user_agent.as_deref().unwrap_or_default();
        let agent = agent.to_ascii_lowercase();
        let pair = self.pair(flow, "http", time);
        pair.web = true;
        pair.tool |= TOOLS.iter().any(|tool| agent.contains(tool));
        // Requests are told apart by length: what is probed for changes it.
        pair.take(flow, marks, request.target_len.into(), time);
        self.judge(flow, out);
    }

    fn response(&mut self, flow: &Arc<FlowInfo>, status: u16, out: &mut Findings) {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        if self.asked.pop(&flow.id).is_some()
            && status >= 500
            && let Some(pair) = self.pairs.get_mut(&key)
        {
            pair.errors = pair.errors.saturating_add(1);
            self.judge(flow, out);
        }
    }

    fn pair(&mut self, flow: &Arc<FlowInfo>, service: &'static str, time: Timestamp) -> &mut Pair {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        let (pair, gone) = self.pairs.entry_or_insert_with(key, || Pair {
            actor: flow.orig.clone(),
            server: flow.resp.clone(),
            port: flow.resp_port,
            service,
            user: None,
            web: false,
            tool: false,
            first: time,
            last: time,
            signs: BTreeMap::new(),
            prints: BTreeSet::new(),
            count: 0,
            plain: 0,
            errors: 0,
            novelty: 0.0,
            samples: Vec::new(),
            mark: 0,
        });
        self.evicted += u64::from(gone.is_some());
        pair
    }

    /// Reports a pair if that is enough now, or twice what it was.
    fn judge(&mut self, flow: &FlowInfo, out: &mut Findings) {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        let Some(pair) = self.pairs.peek_mut(&key) else {
            return;
        };
        if pair.count >= pair.mark.saturating_mul(2) && pair.bits() >= self.alert_bits {
            pair.mark = pair.count;
            out.push(pair.finding());
        }
    }
}

impl Pair {
    fn take(&mut self, flow: &Arc<FlowInfo>, marks: Marks, print: u64, time: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(time);
        let (mut signs, mut strong) = (0_u32, false);
        for (mark, _, bits, _) in SIGNS.iter().filter(|(mark, ..)| marks.contains(*mark)) {
            signs += 1;
            strong |= *bits >= STRONG;
            let count = self.signs.entry(mark.bits()).or_default();
            *count = count.saturating_add(1);
        }
        self.plain = self.plain.saturating_add((signs > 1 || strong).into());
        if self.prints.len() < MAX_PRINTS {
            self.prints.insert(print);
        }
        if self.samples.len() < MAX_SAMPLES
            && self.samples.last().is_none_or(|last| last.id != flow.id)
        {
            self.samples.push(Arc::clone(flow));
        }
    }

    /// The signs seen.
    fn signs(&self) -> impl Iterator<Item = &'static (Marks, &'static str, f64, f64)> {
        let seen = |sign: &&(Marks, &str, f64, f64)| self.signs.contains_key(&sign.0.bits());
        SIGNS.iter().filter(seen)
    }

    fn sign_bits(&self) -> f64 {
        // One kind of sign, however often, may be a programmer's habit, and so may two in different statements; in a web
        // request none is.
        let habit = self.signs.len() < 2 || self.plain == 0 && self.prints.len() < MANY_PRINTS;
        if !self.web && habit {
            return 0.0;
        }
        let bits = self.signs().map(
            |(_, _, statement, parameter)| {
                if self.web { parameter } else { statement }
            },
        );
        let tool = if self.tool { TOOL_BITS } else { 0.0 };
        (bits.sum::<f64>() + tool).min(MAX_SIGN_BITS)
    }

    fn error_bits(&self) -> f64 {
        (self.errors as f64 * BITS_PER_ERROR).min(MAX_ERROR_BITS)
    }

    fn count_bits(&self) -> f64 {
        if self.plain >= MANY {
            (self.plain as f64).log2().min(MAX_COUNT_BITS)
        } else {
            0.0
        }
    }

    fn bits(&self) -> f64 {
        let signs = self.sign_bits();
        if signs > 0.0 {
            signs + self.error_bits() + self.count_bits() + self.novelty
        } else {
            0.0
        }
    }

    fn finding(&self) -> Finding {
        let signs: Vec<&str> = self.signs().map(|(_, words, ..)| *words).collect();
        let signs = signs.join(", ");
        let what = if self.web { "requests" } else { "statements" };
        let mut evidence = vec![Evidence {
            feature: "db.injection_signs",
            family: Family::Protocol,
            observed: self.signs.len() as f64,
            expected: "at most one kind, a programmer's habit".into(),
            bits: self.sign_bits(),
            signature_grade: self.tool,
            text: if self.tool {
                format!("{signs}; the client calls itself an injection tool")
            } else {
                signs.clone()
            },
        }];
        if self.errors > 0 {
            evidence.push(Evidence {
                feature: "db.injection_errors",
                family: Family::Outcome,
                observed: self.errors as f64,
                expected: "0".into(),
                bits: self.error_bits(),
                signature_grade: false,
                text: format!("{} such {what} were answered with an error", self.errors),
            });
        }
        if self.count_bits() > 0.0 {
            evidence.push(Evidence {
                feature: "db.injection_count",
                family: Family::Volume,
                observed: self.count as f64,
                expected: "0".into(),
                bits: self.count_bits(),
                signature_grade: false,
                text: format!("{} {what}, {} different", self.count, self.prints.len()),
            });
        }
        if self.novelty > 0.0 {
            evidence.push(Evidence {
                feature: "db.new_statement",
                family: Family::Novelty,
                observed: self.prints.len() as f64,
                expected: "statements that the workload said in its baseline".into(),
                bits: self.novelty,
                signature_grade: false,
                text: "the workload never said this to a database in its baseline".into(),
            });
        }
        let user = self.user.as_deref();
        let user = user.map_or_else(String::new, |user| format!(" as {user}"));
        Finding {
            signature: SPEC.id,
            subject: format!("{}:{}", self.server.ip, self.port),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(self.server.clone()),
                port: Some(self.port),
                protocol: Some(self.service),
                domain: None,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary: format!(
                "sent {} {what} with signs of SQL injection to {} at {}:{}{user}: {signs}",
                self.count, self.service, self.server.ip, self.port
            ),
        }
    }
}

impl Detector for DbInjection {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::FLOW_ENDED,
            after: EventKinds::DATABASE.and(EventKinds::HTTP),
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction { flow, transaction } => match transaction {
                Transaction::Database(message) => {
                    self.message(flow, message, event.time, context, out);
                }
                Transaction::HttpRequest(request) => self.request(flow, request, event.time, out),
                Transaction::HttpResponse(response) => self.response(flow, response.status, out),
                _ => {}
            },
            EventKind::FlowEnded { flow, .. } => {
                self.sessions.ended(flow.id);
                self.asked.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        // In the order in which they were last heard of, so that it is the same each time.
        let reported = self.pairs.iter().map(|(_, pair)| pair);
        out.extend(reported.filter(|pair| pair.mark > 0).map(Pair::finding));
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pairs.len(),
            limit: self.pairs.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, pod};
    use super::super::testing_db::Talk;
    use super::*;
    use crate::dissect::StatementClass;
    use crate::flow::Protocol;

    const READ: StatementClass = StatementClass::Read;

    fn talk(bench: &mut Bench) -> Talk<'_> {
        let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.3", "db"));
        let mut talk = Talk::open(bench, 5.0, (&web, &db), "mysql", 3306);
        talk.log_in("app", None);
        talk
    }

    #[test]
    fn what_tools_and_people_send_through_an_application() {
        // By hand: how many columns, then what is in them.
        let mut bench = Bench::new("db-injection");
        let mut hand = talk(&mut bench);
        let union = Marks::UNION_CONSTANTS | Marks::COMMENT_TAIL;
        hand.ask("SELECT", READ, Marks::TAUTOLOGY, 1, Some(9), 90, None);
        hand.ask("SELECT", READ, union, 2, None, 9, Some("1222"));
        hand.ask("SELECT", READ, union, 3, None, 9, Some("1222"));
        hand.ask("SELECT", READ, union, 4, Some(1), 90, None);
        assert!(bench.alerts(), "{} bits", bench.bits());

        // Blind, one bit at a time, without any error.
        let mut bench = Bench::new("db-injection");
        let mut blind = talk(&mut bench);
        for n in 0..40 {
            let marks = Marks::CHAR_PROBE | Marks::TAUTOLOGY;
            blind.ask("SELECT", READ, marks, n % 3, Some(n % 2), 9, None);
        }
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn habits_of_programmers_are_left_alone() {
        let mut bench = Bench::new("db-injection");
        let mut app = talk(&mut bench);
        for n in 0..500 {
            app.ask(
                "SELECT",
                READ,
                Marks::UNION_CONSTANTS,
                n % 7,
                Some(9),
                90,
                None,
            );
            app.ask("SELECT", READ, Marks::empty(), 100 + n, Some(9), 90, None);
            app.ask("SELECT", READ, Marks::empty(), 1000, None, 9, Some("1213"));
        }
        let mut bench_two = Bench::new("db-injection");
        let mut migration = talk(&mut bench_two);
        for n in 0..50 {
            migration.ask("INSERT", READ, Marks::STACKED, n, Some(9), 90, None);
        }
        bench.finish(1e4);
        bench_two.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
        assert!(bench_two.findings.is_empty(), "{:?}", bench_two.findings);
    }

    fn ask(bench: &mut Bench, at: f64, agent: &str, injection: Marks, len: u32, status: u16) {
        let (outside, web) = (pod("10.244.1.9", "runner"), pod("10.244.1.7", "web"));
        let flow = bench.open(at, (&outside, &web), Protocol::Tcp, 8080);
        let request = HttpRequest {
            method: "GET".into(),
            path: "/items".into(),
            target_len: len,
            user_agent: Some(agent.into()),
            injection,
            ..HttpRequest::default()
        };
        bench.says(at, &flow, Transaction::HttpRequest(request));
        let response = crate::dissect::HttpResponse {
            status,
            ..crate::dissect::HttpResponse::default()
        };
        bench.says(at + 0.01, &flow, Transaction::HttpResponse(response));
    }

    #[test]
    fn parameters_of_web_requests() {
        let mut bench = Bench::new("db-injection");
        ask(&mut bench, 1.0, "Firefox", Marks::TAUTOLOGY, 30, 200);
        let union = Marks::TAUTOLOGY | Marks::UNION_CONSTANTS;
        ask(&mut bench, 20.0, "Firefox", union, 60, 200);
        assert!(bench.alerts(), "{} bits", bench.bits());

        let mut bench = Bench::new("db-injection");
        ask(&mut bench, 1.0, "sqlmap/1.8", Marks::TAUTOLOGY, 30, 200);
        assert!(bench.findings[0].evidence[0].signature_grade);

        let mut bench = Bench::new("db-injection");
        for n in 0..300 {
            let at = f64::from(n);
            ask(&mut bench, at, "Firefox", Marks::COMMENT_TAIL, 40 + n, 200);
            ask(&mut bench, at, "Firefox", Marks::empty(), 40 + n, 500);
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
