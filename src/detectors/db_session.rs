//! Conversations with databases: who logged in how, and each statement with its answer. Shared by the detectors of what
//! is done once somebody is in.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dissect::{DatabaseEvent, DatabaseMessage, Marks, StatementClass};
use crate::features::Bounded;
use crate::flow::FlowId;
use crate::memory::Share;
use crate::time::Timestamp;

/// Conversations followed at a time.
const MAX_OPEN: usize = 16_384;
/// Statements of a conversation whose answers are awaited; of more that are sent ahead, the first are forgotten.
const MAX_ASKED: usize = 32;

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) time: Timestamp,
    pub(super) class: StatementClass,
    pub(super) marks: Marks,
    pub(super) verb: &'static str,
    pub(super) fingerprint: u64,
}

/// What the server said to it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) rows: Option<u64>,
    pub(super) bytes: u64,
    pub(super) error: Option<Arc<str>>,
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) product: &'static str,
    pub(super) user: Option<Arc<str>>,
    pub(super) client: Option<Arc<str>>,
    pub(super) statements: u64,
    asked: VecDeque<Statement>,
    /// Whether the only one asked has had an answer; there may be more, until the next is asked.
    answered: bool,
}

impl Session {
    /// What the client calls itself.
    pub(super) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }
}

/// What a message adds.
#[derive(Debug)]
pub(super) enum Step {
    /// The server let the client in, or refused it for its user or password.
    Login(bool),
    Asked(Statement),
    /// An answer to a statement, one of several perhaps.
    Answered(Statement, Answer),
    Nothing,
}

/// The conversations going on.
pub(super) struct Sessions {
    open: Bounded<FlowId, Session>,
}

impl Sessions {
    pub(super) fn new(share: Share) -> Self {
        Self {
            open: Bounded::new(share.part(MAX_OPEN)),
        }
    }

    /// Takes a message of a conversation.
    pub(super) fn take(&mut self, id: FlowId, message: &DatabaseMessage, time: Timestamp) -> Step {
        let session = self.open.get_or_insert_with(id, || Session {
            product: message.product,
            user: None,
            client: None,
            statements: 0,
            asked: VecDeque::new(),
            answered: false,
        });
        match &message.event {
            DatabaseEvent::Hello { .. } | DatabaseEvent::Secret(_) => Step::Nothing,
            DatabaseEvent::Login { user, client, .. } => {
                session.user.clone_from(user);
                if client.is_some() {
                    session.client.clone_from(client);
                }
                Step::Nothing
            }
            DatabaseEvent::LoginResult { success, code } => {
                let about = *success
                    || crate::features::refuses_credentials(message.product, code.as_deref());
                if about {
                    Step::Login(*success)
                } else {
                    Step::Nothing
                }
            }
            DatabaseEvent::Statement {
                class,
                marks,
                verb,
                fingerprint,
                ..
            } => {
                let statement = Statement {
                    time,
                    class: *class,
                    marks: *marks,
                    verb,
                    fingerprint: *fingerprint,
                };
                // It says no name, but it alone asks this, once somebody types at it.
                if *verb == "COMMAND DOCS" {
                    session.client = Some("redis-cli".into());
                }
                session.statements = session.statements.saturating_add(1);
                if std::mem::take(&mut session.answered) || session.asked.len() >= MAX_ASKED {
                    session.asked.pop_front();
                }
                session.asked.push_back(statement);
                Step::Asked(statement)
            }
            DatabaseEvent::Result { rows, bytes, error } => {
                let asked = if session.asked.len() > 1 {
                    session.asked.pop_front()
                } else {
                    session.answered = true;
                    session.asked.front().copied()
                };
                let answer = Answer {
                    rows: *rows,
                    bytes: *bytes,
                    error: error.clone(),
                };
                asked.map_or(Step::Nothing, |asked| Step::Answered(asked, answer))
            }
        }
    }

    /// A conversation that goes on.
    pub(super) fn get(&self, id: FlowId) -> Option<&Session> {
        self.open.peek(&id)
    }

    /// A conversation is over.
    pub(super) fn ended(&mut self, id: FlowId) -> Option<Session> {
        self.open.pop(&id)
    }
}

/// Programs that people type at, as they call themselves.
const TYPED_AT: &[&str] = &[
    "psql",
    "pgcli",
    "usql",
    "mysql",
    "mariadb",
    "mycli",
    "mongosh",
    "mongodb shell",
    "sqlcmd",
    "sqlplus",
    "cqlsh",
    "clickhouse-client",
    "redis-cli",
];

/// Whether a client calls itself like a program that people type at.
pub(super) fn is_typed_at(client: &str) -> bool {
    let client = client.to_ascii_lowercase();
    let name = client.split([' ', '/', '(']).next().unwrap_or_default();
    TYPED_AT
        .iter()
        .any(|known| *known == name || *known == client)
}

/// Programs that fetch addresses from a command line.
const FETCHERS: &[&str] = &["curl/", "wget/", "httpie/", "elasticdump"];

/// Whether a client calls itself like a program that fetches addresses from a command line. Scripts ask databases for
/// their health so; who reads whole tables so is at a prompt, or has a script for just that.
pub(super) fn is_fetcher(client: &str) -> bool {
    let begins = |known: &str| {
        let begin = client.get(..known.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(known))
    };
    FETCHERS.iter().any(|known| begins(known))
}

/// Programs that copy whole databases, or look after them, whose statements would alarm in anybody else's mouth.
const CARETAKERS: &[&str] = &[
    "pg_dump",
    "pg_dumpall",
    "pg_basebackup",
    "pg_rewind",
    "pgbackrest",
    "barman",
    "wal-g",
    "pgbouncer",
    "exporter",
    "mysqldump",
    "mariadb-dump",
    "mydumper",
    "xtrabackup",
    "patroni",
    "repmgr",
];

/// Whether a client calls itself like a program that copies whole databases or looks after them.
pub(super) fn is_caretaker(client: Option<&str>) -> bool {
    let client = client.unwrap_or_default().to_ascii_lowercase();
    CARETAKERS.iter().any(|known| client.contains(known))
}

/// Programs that copy whole databases.
const COPIERS: &[&str] = &[
    "pg_dump",
    "pg_basebackup",
    "mysqldump",
    "mysqlpump",
    "mydumper",
    "mariadb-dump",
    "mongodump",
    "mongoexport",
    "dsbulk",
];

/// Whether a client calls itself like a program that copies whole databases.
pub(super) fn is_copier(client: &str) -> bool {
    let client = client.to_ascii_lowercase();
    COPIERS.iter().any(|known| client.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: DatabaseEvent) -> DatabaseMessage {
        let product = "postgresql";
        DatabaseMessage { product, event }
    }

    fn asked(fingerprint: u64) -> DatabaseMessage {
        message(DatabaseEvent::Statement {
            class: StatementClass::Read,
            marks: Marks::empty(),
            verb: "SELECT",
            fingerprint,
            length: 9,
        })
    }

    fn answered(rows: u64) -> DatabaseMessage {
        message(DatabaseEvent::Result {
            rows: Some(rows),
            bytes: 10,
            error: None,
        })
    }

    #[test]
    fn answers_find_their_statements() {
        let mut sessions = Sessions::new(Share::WHOLE);
        let (id, time) = (FlowId(1), Timestamp::from_secs(1));
        let mut pairs = Vec::new();
        for message in [
            asked(1),
            answered(1),
            answered(11),
            asked(2),
            asked(3),
            answered(2),
            answered(3),
        ] {
            if let Step::Answered(asked, answer) = sessions.take(id, &message, time) {
                pairs.push((asked.fingerprint, answer.rows.unwrap()));
            }
        }
        // The first statement had two parts; the others were sent one after the other.
        assert_eq!(pairs, [(1, 1), (1, 11), (2, 2), (3, 3)]);
        assert_eq!(sessions.ended(id).unwrap().statements, 3);
    }

    #[test]
    fn names_of_programs() {
        assert!(is_typed_at("psql") && is_typed_at("mongosh 2.3.1"));
        assert!(!is_typed_at("mysql-connector-java") && !is_typed_at("orders"));
        assert!(is_caretaker(Some("pg_dump")) && is_caretaker(Some("postgres_exporter")));
        assert!(!is_caretaker(Some("psql")) && !is_caretaker(None));
    }
}
