//! `credential-dump`: a client reads where a database keeps its users' password hashes.
//!
//! Hardly any application does. Poolers that look up one user at a time get one row; tools that copy whole databases call
//! themselves so and weigh less; what the baseline knows of a workload weighs nothing.

use super::db_deeds::{Deed, Kind, Thresholds, Watch};
use super::db_session::{Answer, Statement};
use super::{Context, Detector, DetectorSpec, Findings, Follows, StateSize};
use crate::dissect::StatementClass;
use crate::event::{Event, EventKinds};
use crate::telemetry::LossCounts;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "credential-dump",
    sees: EventKinds::DATABASE.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let watch = Watch::new(KIND, thresholds, signature.alert_bits, signature.share);
        Ok(Box::new(CredentialDump(watch)))
    },
};

const KIND: Kind = Kind {
    signature: SPEC.id,
    feature: "db.credential_tables",
    expected: "nobody reads password hashes but tools that copy whole databases",
    judge,
};

/// Several users' hashes at once: a handful of tools read them, and no application.
const TABLE: Deed = deed("reads the password hashes of several users", 14.0);
/// One row, or nobody knows how many.
const LOOKUP: Deed = deed("looks up the password hash of a user", 4.0);
const DENIED: Deed = deed("asks for password hashes in vain", 7.0);
/// Redis's users with their rules and hashes.
const USERS: Deed = deed("lists users with their password hashes", 12.0);
/// Redis's settings, of which passwords are a few: exporters read them all.
const SETTINGS: Deed = deed("reads all settings, passwords among them", 5.0);
/// One that is asked for by its name.
const PASSWORD: Deed = deed("reads the password setting", 9.0);
/// The answer to one that is.
const PASSWORD_BYTES: u64 = 256;

const fn deed(what: &'static str, bits: f64) -> Deed {
    Deed {
        what,
        bits,
        unmistakable: false,
    }
}

fn judge(product: &'static str, statement: &Statement, answer: &Answer, out: &mut Vec<Deed>) {
    if statement.class != StatementClass::CredentialTable {
        return;
    }
    out.push(match (product, statement.verb) {
        _ if answer.error.is_some() => DENIED,
        ("redis", "CONFIG GET") if answer.bytes <= PASSWORD_BYTES => PASSWORD,
        ("redis", "CONFIG GET") => SETTINGS,
        ("redis", _) => USERS,
        _ if answer.rows.is_some_and(|rows| rows > 1) => TABLE,
        _ => LOOKUP,
    });
}

struct CredentialDump(Watch);

impl Detector for CredentialDump {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::FLOW_ENDED,
            after: EventKinds::DATABASE,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        self.0.observe(event, context, out);
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        self.0.finish(out);
    }

    fn state_size(&self) -> StateSize {
        self.0.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.0.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, pod};
    use super::super::testing_db::Talk;
    use crate::dissect::{Marks, StatementClass};

    const HASHES: StatementClass = StatementClass::CredentialTable;

    #[test]
    fn whoever_reads_the_hashes_is_found() {
        for (product, verb, rows, bytes, least) in [
            ("postgresql", "SELECT", Some(4), 900, 14.0),
            ("mysql", "SELECT", Some(7), 1200, 14.0),
            ("mongodb", "usersInfo", Some(3), 2000, 14.0),
            ("redis", "ACL LIST", None, 300, 12.0),
        ] {
            let mut bench = Bench::new("credential-dump");
            let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.3", "db"));
            let mut talk = Talk::open(&mut bench, 5.0, (&web, &db), product, 5432);
            talk.log_in("app", None);
            talk.ask(verb, HASHES, Marks::empty(), 1, rows, bytes, None);
            assert!(bench.alerts(), "{product}: {} bits", bench.bits());
            assert!(bench.bits() >= least);
            let summary = &bench.findings[0].summary;
            assert!(summary.contains("as app"), "{summary}");
        }
    }

    #[test]
    fn poolers_exporters_and_dumps_are_left_alone() {
        let mut bench = Bench::new("credential-dump");
        let (tool, db) = (pod("10.244.1.8", "tool"), pod("10.244.1.3", "db"));
        let mut talk = Talk::open(&mut bench, 5.0, (&tool, &db), "postgresql", 5432);
        talk.log_in("pgbouncer", None);
        for _ in 0..50 {
            talk.ask("SELECT", HASHES, Marks::empty(), 1, Some(1), 90, None);
        }
        let mut talk = Talk::open(&mut bench, 50.0, (&tool, &db), "postgresql", 5432);
        talk.log_in("postgres", Some("pg_dumpall"));
        talk.ask("SELECT", HASHES, Marks::empty(), 2, Some(9), 900, None);
        let mut talk = Talk::open(&mut bench, 60.0, (&tool, &db), "redis", 6379);
        for _ in 0..50 {
            let settings = StatementClass::CredentialTable;
            talk.ask("CONFIG GET", settings, Marks::empty(), 3, None, 9000, None);
        }
        let mut talk = Talk::open(&mut bench, 90.0, (&tool, &db), "postgresql", 5432);
        talk.log_in("app", None);
        for n in 0..50 {
            let class = StatementClass::Catalogue;
            talk.ask("SELECT", class, Marks::empty(), 10 + n, Some(40), 900, None);
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    #[test]
    fn what_the_baseline_knows_is_left_alone() {
        let play = |bench: &mut Bench, at: f64| {
            let (tool, db) = (pod("10.244.1.8", "tool"), pod("10.244.1.3", "db"));
            let mut talk = Talk::open(bench, at, (&tool, &db), "postgresql", 5432);
            talk.log_in("operator", None);
            talk.ask("SELECT", HASHES, Marks::empty(), 1, Some(9), 900, None);
        };
        let mut bench = Bench::new("credential-dump");
        for n in 0..60 {
            play(&mut bench, f64::from(n) * 600.0);
        }
        let mut bench = bench.learned("credential-dump");
        play(&mut bench, 1e5);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
