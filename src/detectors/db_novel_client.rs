//! `db-novel-client`: a database is used by somebody who never used it, or under a user it never heard of.
//!
//! Seen from the database: how often it meets new clients tells how surprising one is. Only what is used counts: a login
//! that succeeded, a statement, or a good deal said inside TLS; knocking is `db-sweep`'s business. A client of a young
//! release is told of with that release, and a workload that is new altogether is news only to a database that has been
//! known for long.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::suspects::target;
use super::watch::{Watch, Watched, weigh};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::dissect::{DatabaseEvent, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, Vocabulary, database_product};
use crate::flow::FlowId;
use crate::identity::IdentityKind;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-novel-client",
    sees: EventKinds::DATABASE.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(DbNovelClient {
            clients: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            sessions: Bounded::new(signature.room(MAX_SESSIONS)),
            thresholds,
            alert_bits: signature.alert_bits,
        }))
    },
};

/// Conversations followed at a time.
const MAX_SESSIONS: usize = 16 * 1024;
const MAX_TARGETS: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// How long a database must have been watched, and by how many visits.
    min_observed_secs: u64,
    min_contacts: u64,
    /// The same for clients whose workload is new altogether.
    min_observed_secs_for_newcomers: u64,
    /// Payload bytes each way that make use of what can't be read.
    min_bytes: u64,
    max_sources: usize,
    forget_after_secs: u64,
}

struct DbNovelClient {
    thresholds: Thresholds,
    alert_bits: f64,
    clients: Watch<Newcomer>,
    sessions: Bounded<FlowId, Session>,
}

/// A conversation with a database.
#[derive(Default)]
struct Session {
    /// The user as the baseline has it, and by name.
    user: Option<(String, Arc<str>)>,
    judged: bool,
}

/// A client with its news.
#[derive(Default)]
struct Newcomer {
    servers: Vec<(Endpoint, u16)>,
    users: Vec<Arc<str>>,
    evidence: Vec<Evidence>,
    flows: Vec<Arc<FlowInfo>>,
}

impl DbNovelClient {
    /// A database was used on a flow.
    fn used(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let session = self.sessions.get_or_insert_with(flow.id, Session::default);
        if std::mem::replace(&mut session.judged, true) {
            return;
        }
        let user = session.user.take();
        let evidence = self.weigh(flow, user.as_ref(), time, context);
        if evidence.is_empty() {
            return;
        }
        let source = self.clients.sign(&flow.orig, time);
        let newcomer = &mut source.state;
        let server = (flow.resp.clone(), flow.resp_port);
        let known = newcomer
            .servers
            .iter()
            .any(|(end, port)| (end.ip, *port) == (server.0.ip, server.1));
        let named = user
            .as_ref()
            .is_none_or(|(_, name)| newcomer.users.contains(name));
        if known && named || newcomer.servers.len() >= MAX_TARGETS {
            return;
        }
        if !known {
            newcomer.servers.push(server);
        }
        newcomer.users.extend(user.map(|(_, name)| name));
        newcomer.flows.push(Arc::clone(flow));
        for one in evidence {
            let same = newcomer
                .evidence
                .iter_mut()
                .find(|old| old.feature == one.feature);
            match same {
                Some(old) if old.bits >= one.bits => {}
                Some(old) => *old = one,
                None => newcomer.evidence.push(one),
            }
        }
        if weigh(&newcomer.evidence) >= self.alert_bits {
            let size = newcomer.servers.len() + newcomer.users.len();
            let news = source.is_news(size as u64);
            if news {
                out.push(finding(source));
            }
        }
    }

    /// What is new of a client and its user, by the database's history.
    fn weigh(
        &self,
        flow: &FlowInfo,
        user: Option<&(String, Arc<str>)>,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let (orig, resp) = (&flow.orig.who.identity, &flow.resp.who.identity);
        let (Some(baseline), Some(workload)) = (context.baseline, resp.workload.as_ref()) else {
            return evidence;
        };
        let Some(profile) = baseline.profile(workload) else {
            return evidence;
        };
        let (observed, contacts) = (profile.observed(), profile.contacts(Role::Server));
        // Replicas of one database copy one another, and nodes speak for many.
        let comes = match orig.kind {
            IdentityKind::Pod => orig.workload.as_ref().is_some_and(|own| own != workload),
            IdentityKind::External => true,
            _ => false,
        };
        let settled = observed >= Duration::from_secs(self.thresholds.min_observed_secs)
            && contacts >= self.thresholds.min_contacts;
        if !comes || !settled || context.release(&flow.orig, time).is_some() {
            context.remark(SPEC.id, flow, || {
                if !comes {
                    return "replicas of the database and nodes are passed over".into();
                }
                if settled {
                    return "the client's release is young".into();
                }
                let (watched, thresholds) = (observed.as_secs(), &self.thresholds);
                let (secs, visits) = (thresholds.min_observed_secs, thresholds.min_contacts);
                format!("the database was watched for {watched} of {secs} s, and {contacts} of {visits} visits")
            });
            return evidence;
        }
        let own = context.profile(&flow.orig);
        let newcomer = orig.kind == IdentityKind::Pod && own.is_none();
        let long = Duration::from_secs(self.thresholds.min_observed_secs_for_newcomers);
        if newcomer && observed < long {
            return evidence;
        }
        let lineage = baseline.lineage(workload);
        if let Some(contact) = context.peers.server_contact(flow)
            && !profile.knows(&contact)
            && !context.is_learned(flow)
        {
            evidence.push(Evidence {
                feature: "db.new_client",
                family: Family::Novelty,
                observed: 1.0,
                expected: format!(
                    "one of {} clients known from {contacts} visits",
                    profile.peer_count(Role::Server)
                ),
                bits: lineage.contact_bits(&contact),
                signature_grade: false,
                text: "never used this database before".into(),
            });
        }
        if let Some((word, name)) = user {
            let vocabulary = Vocabulary::DatabaseUser;
            let (users, logins) = profile.word_counts(vocabulary, Role::Server);
            let said = own.is_some_and(|own| own.knows_word(vocabulary, Role::Client, word));
            let bits = lineage.word_bits(vocabulary, Role::Server, word);
            if !said && bits > 0.0 && logins >= self.thresholds.min_contacts {
                evidence.push(Evidence {
                    feature: "db.new_user",
                    family: Family::Protocol,
                    observed: 1.0,
                    expected: format!("one of {users} users known from {logins} logins"),
                    bits,
                    signature_grade: false,
                    text: format!("logged in as {name}, of whom this database never heard"),
                });
            }
        }
        evidence
    }
}

fn finding(source: &Watched<Newcomer>) -> Finding {
    let newcomer = &source.state;
    let count = newcomer.servers.len() as u64;
    let new = |feature| newcomer.evidence.iter().any(|one| one.feature == feature);
    let what = match (new("db.new_client"), new("db.new_user")) {
        (true, true) => "used a database that it never used, under a user it never had",
        (true, false) => "used a database that it never used",
        _ => "used a database under a user it never had",
    };
    let first: Vec<String> = newcomer
        .servers
        .iter()
        .take(3)
        .map(|(end, port)| format!("{}:{port}", end.ip))
        .collect();
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: newcomer.servers.iter().map(target).collect(),
        target_count: count,
        evidence: newcomer.evidence.clone(),
        flows: newcomer.flows.clone(),
        summary: format!("{what}: {}", first.join(", ")),
    }
}

impl Detector for DbNovelClient {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        if context.baseline.is_none() {
            return;
        }
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Database(message),
            } => match &message.event {
                DatabaseEvent::Login {
                    user: Some(name), ..
                } => {
                    let word = Vocabulary::DatabaseUser
                        .read(event)
                        .map(std::borrow::Cow::into_owned);
                    let session = self.sessions.get_or_insert_with(flow.id, Session::default);
                    session.user = word.map(|word| (word, Arc::clone(name)));
                }
                // A server that asks for no password is used by the first answer that is no error.
                DatabaseEvent::LoginResult { success: true, .. }
                | DatabaseEvent::Result { error: None, .. } => {
                    self.used(flow, event.time, context, out);
                }
                _ => {}
            },
            EventKind::FlowEnded { flow, record } => {
                let said = |bytes: u64| bytes >= self.thresholds.min_bytes;
                let unread = !self.sessions.contains(&flow.id);
                if unread
                    && database_product(flow.resp_port).is_some()
                    && record.payload_bytes.into_iter().all(said)
                {
                    self.used(flow, event.time, context, out);
                }
                self.sessions.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.clients.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.clients.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        self.clients.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.clients.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use super::super::testing_db::Talk;
    use super::*;
    use crate::flow::Outcome;

    /// Two clients use a database for that many seconds, a visit of each every twenty; a third workload calls only a cache.
    fn learned(secs: u16) -> Bench {
        let mut bench = Bench::new("db-novel-client");
        let (db, cache) = (pod("10.244.1.3", "db"), pod("10.244.1.4", "cache"));
        for n in 0..secs / 20 {
            let at = f64::from(n) * 20.0;
            for (ip, name) in [("10.244.1.7", "api"), ("10.244.1.8", "report")] {
                let client = pod(ip, name);
                let mut talk = Talk::open(&mut bench, at, (&client, &db), "postgresql", 5432);
                talk.log_in(name, Some("app"));
                talk.close();
            }
            let web = pod("10.244.1.9", "web");
            bench.tcp(at, (&web, &cache), 6379, Outcome::Answered, 300);
        }
        bench.learned("db-novel-client")
    }

    fn visit(bench: &mut Bench, at: f64, client: &Endpoint, user: &str) {
        let db = pod("10.244.1.33", "db");
        let mut talk = Talk::open(bench, at, (client, &db), "postgresql", 5432);
        talk.log_in(user, Some("app"));
        talk.close();
    }

    #[test]
    fn a_workload_that_never_used_the_database_and_a_new_user() {
        let web = pod("10.244.1.9", "web");
        let outside = end("198.51.100.9", IdentityKind::External, None);
        for client in [&web, &outside] {
            let mut bench = learned(12_000);
            visit(&mut bench, 13_000.0, client, "api");
            assert!(bench.alerts(), "{}", bench.bits());
            visit(&mut bench, 13_100.0, client, "api");
            assert_eq!(bench.findings.len(), 1, "told once");
        }
        // A known client under a user that nobody had.
        let mut bench = learned(12_000);
        visit(&mut bench, 13_000.0, &pod("10.244.1.7", "api"), "postgres");
        assert!(bench.alerts(), "{}", bench.bits());
        assert_eq!(bench.findings[0].evidence[0].feature, "db.new_user");
    }

    #[test]
    fn what_is_inside_tls_counts_by_its_size() {
        let (web, db) = (pod("10.244.1.9", "web"), pod("10.244.1.33", "db"));
        for (said, alerts) in [(100, false), (9000, true)] {
            let mut bench = learned(12_000);
            bench.tcp(13_000.0, (&web, &db), 5432, Outcome::Answered, said);
            assert_eq!(bench.alerts(), alerts, "{said}");
        }
    }

    #[test]
    fn known_clients_replicas_nodes_and_new_workloads_are_left_alone() {
        let mut bench = learned(12_000);
        // Another replica of a known client, and the database's own.
        visit(&mut bench, 13_000.0, &pod("10.244.1.77", "api"), "api");
        visit(
            &mut bench,
            13_001.0,
            &pod("10.244.1.34", "db"),
            "replicator",
        );
        let node = end("10.244.1.1", IdentityKind::Node, None);
        visit(&mut bench, 13_002.0, &node, "api");
        // A workload that the baseline never saw, and a database that is known for hours only.
        visit(&mut bench, 13_003.0, &pod("10.244.1.50", "new"), "api");
        // A young release of a known workload.
        let mut web = pod("10.244.1.9", "web");
        Arc::make_mut(&mut web.who.identity).revision = Some("v1".into());
        bench.tcp(
            13_004.0,
            (&web, &pod("10.244.1.4", "cache")),
            6379,
            Outcome::Answered,
            9,
        );
        Arc::make_mut(&mut web.who.identity).revision = Some("v2".into());
        visit(&mut bench, 13_005.0, &web, "api");
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
        // A database that was watched for minutes only, and no baseline at all.
        let mut bench = learned(200);
        visit(&mut bench, 13_000.0, &pod("10.244.1.9", "web"), "api");
        let mut bare = Bench::new("db-novel-client");
        visit(&mut bare, 13_000.0, &pod("10.244.1.9", "web"), "api");
        assert!(bench.findings.is_empty() && bare.findings.is_empty());
    }
}
