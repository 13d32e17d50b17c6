//! `db-abuse`: a client makes a database server do what a database is not for: run programs, read or write its files,
//! copy itself elsewhere.

use super::db_deeds::{Deed, Kind, Thresholds, Watch};
use super::db_session::{Answer, Statement};
use super::{Context, Detector, DetectorSpec, Findings, Follows, StateSize};
use crate::dissect::Marks;
use crate::event::{Event, EventKinds};
use crate::telemetry::LossCounts;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-abuse",
    sees: EventKinds::DATABASE.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let watch = Watch::new(KIND, thresholds, signature.alert_bits, signature.share);
        Ok(Box::new(DbAbuse(watch)))
    },
};

const KIND: Kind = Kind {
    signature: SPEC.id,
    feature: "db.abuse",
    expected: "statements about data",
    judge,
};

/// What is abuse, and how rarely anybody has an honest reason for it.
const DEEDS: &[(Marks, Deed)] = &[
    (
        Marks::PROGRAM,
        deed("runs programs or loads code", 18.0, true),
    ),
    (
        Marks::FILE_WRITE,
        deed("writes files of the server", 15.0, true),
    ),
    (
        Marks::FILE_READ,
        deed("reads files of the server", 14.0, false),
    ),
    (
        Marks::EAVESDROPS,
        deed("listens to others' commands", 5.0, false),
    ),
    (
        Marks::OUTBOUND,
        deed("makes the server call others", 4.0, false),
    ),
    (Marks::DEBUG, deed("uses debugging commands", 4.0, false)),
];
/// Sentinels and operators do it, seldom.
const REPLICA: Deed = deed("makes the server another's replica", 7.0, false);
/// Only together with a changed file name it does harm.
const SNAPSHOT: Deed = deed("makes the server write out its data", 2.0, false);
/// What an attempt that fails is worth.
const DENIED_SHARE: f64 = 0.8;

const fn deed(what: &'static str, bits: f64, unmistakable: bool) -> Deed {
    Deed {
        what,
        bits,
        unmistakable,
    }
}

fn judge(_: &'static str, statement: &Statement, answer: &Answer, out: &mut Vec<Deed>) {
    let marks = statement.marks;
    let found = DEEDS.iter().filter(|(mark, _)| marks.intersects(*mark));
    out.extend(found.map(|(_, deed)| *deed));
    // Replicas themselves ask for it by PSYNC and the like.
    if marks.contains(Marks::REPLICATES) && matches!(statement.verb, "REPLICAOF" | "SLAVEOF") {
        out.push(REPLICA);
    }
    if marks.contains(Marks::SNAPSHOT) && matches!(statement.verb, "SAVE" | "BGSAVE") {
        out.push(SNAPSHOT);
    }
    if answer.error.is_some() {
        for deed in out {
            deed.bits *= DENIED_SHARE;
            deed.unmistakable = false;
        }
    }
}

struct DbAbuse(Watch);

impl Detector for DbAbuse {
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

    fn talk<'a>(bench: &'a mut Bench, product: &'static str) -> Talk<'a> {
        let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.3", "db"));
        let mut talk = Talk::open(bench, 5.0, (&web, &db), product, 5432);
        talk.log_in("app", None);
        talk
    }

    const ABUSE: StatementClass = StatementClass::Abuse;
    const ADMIN: StatementClass = StatementClass::Admin;

    #[test]
    fn programs_and_files_whether_it_works_or_not() {
        for (verb, marks) in [
            ("COPY", Marks::PROGRAM),
            ("SELECT", Marks::FILE_READ),
            ("SELECT", Marks::FILE_WRITE),
            ("EXEC", Marks::PROGRAM),
        ] {
            for error in [None, Some("42501")] {
                let mut bench = Bench::new("db-abuse");
                talk(&mut bench, "postgresql").ask(verb, ABUSE, marks, 1, None, 9, error);
                assert!(bench.alerts(), "{marks:?} {error:?}: {} bits", bench.bits());
            }
        }
    }

    #[test]
    fn the_ways_into_a_redis() {
        let mut bench = Bench::new("db-abuse");
        let mut cron = talk(&mut bench, "redis");
        cron.ask("CONFIG SET", ABUSE, Marks::FILE_WRITE, 1, None, 5, None);
        cron.ask("CONFIG SET", ABUSE, Marks::FILE_WRITE, 1, None, 5, None);
        cron.ask("SAVE", ADMIN, Marks::SNAPSHOT, 2, None, 5, None);
        assert!(bench.alerts() && bench.bits() > 15.0, "{}", bench.bits());

        let mut bench = Bench::new("db-abuse");
        let mut rogue = talk(&mut bench, "redis");
        rogue.ask("SLAVEOF", ADMIN, Marks::REPLICATES, 1, None, 5, None);
        rogue.ask("MODULE LOAD", ABUSE, Marks::PROGRAM, 2, None, 5, None);
        rogue.ask("SLAVEOF", ADMIN, Marks::empty(), 1, None, 5, None);
        let last = bench.findings.last().unwrap();
        assert!(
            last.summary.contains("another's replica"),
            "{}",
            last.summary
        );
        assert!(last.evidence[0].signature_grade);
    }

    #[test]
    fn replicas_sentinels_backups_and_clocks_are_left_alone() {
        let mut bench = Bench::new("db-abuse");
        let mut replica = talk(&mut bench, "redis");
        replica.ask("PSYNC", ADMIN, Marks::REPLICATES, 1, None, 5, None);
        replica.ask("REPLICAOF", ADMIN, Marks::REPLICATES, 2, None, 5, None);
        replica.ask("BGSAVE", ADMIN, Marks::SNAPSHOT, 3, None, 5, None);
        replica.ask("CONFIG REWRITE", ADMIN, Marks::empty(), 4, None, 5, None);
        let (api, db) = (pod("10.244.1.8", "api"), pod("10.244.1.3", "db"));
        let mut app = Talk::open(&mut bench, 9.0, (&api, &db), "postgresql", 5432);
        app.ask(
            "COPY",
            StatementClass::Read,
            Marks::BULK_READ,
            5,
            Some(900),
            90_000,
            None,
        );
        app.ask("SELECT", ABUSE, Marks::TIME_DELAY, 6, Some(1), 9, None);
        app.ask(
            "SELECT",
            StatementClass::Read,
            Marks::OUTBOUND,
            7,
            Some(1),
            9,
            None,
        );
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
