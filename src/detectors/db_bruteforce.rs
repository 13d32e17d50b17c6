//! `db-bruteforce`: passwords of databases are guessed, fast or slow, at one server or many, by one source or a crowd; and
//! those of FTP, mail and directories (LDAP), whose logins read the same.
//!
//! Where a login can be read, the server's own answer counts (`features/attempts.rs` tells guessing from honest mishaps).
//! Where it goes on encrypted, how the conversation ends does: see [`Veiled`].

use std::sync::Arc;
use std::time::Duration;

use super::guessing::{Guessing, Thresholds};
use super::{Context, Detector, DetectorSpec, Findings, Follows, StateSize};
use crate::dissect::{
    DatabaseEvent, DatabaseMessage, Login as OtherLogin, SecretMark, Transaction,
};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Attempt, Bounded, SourceKey, refuses_credentials, source_key};
use crate::flow::{Direction, EndReason, FlowId, FlowRecord, Turn};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-bruteforce",
    sees: EventKinds::DATABASE
        .and(EventKinds::LOGIN)
        .and(EventKinds::TURN)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let guessing =
            Guessing::new(SPEC.id, thresholds, signature.alert_bits, TOOL).with_campaigns();
        Ok(Box::new(DbBruteforce {
            guessing,
            logins: Bounded::new(signature.room(MAX_OPEN)),
            veiled: Bounded::new(signature.room(MAX_OPEN)),
            doors: Bounded::new(signature.room(MAX_OPEN)),
        }))
    },
};

/// How tools log in.
const TOOL: &str = "as an administrator with no database of its own, as tools log in";

/// Logins under way, and encrypted conversations, remembered at a time.
const MAX_OPEN: usize = 16_384;

/// Users that administer a product, whom few applications are given.
const ADMINISTRATORS: &[&str] = &[
    "postgres",
    "root",
    "admin",
    "administrator",
    "sa",
    "sys",
    "system",
    "sysdba",
    "mysql",
    "cassandra",
    "elastic",
];
/// Databases that every server has, which tools ask for to have one.
const EVERYWHERE: &[&str] = &["postgres", "template1", "mysql", "master", "admin", "test"];

struct DbBruteforce {
    guessing: Guessing,
    logins: Bounded<FlowId, Login>,
    veiled: Bounded<FlowId, Veiled>,
    doors: Bounded<(SourceKey, &'static str), Door>,
}

/// How often a source was let in, and refused. People log in to mail and directories through others' programs, and mistype;
/// but mostly they are let in.
#[derive(Clone, Copy, Default)]
struct Door {
    let_in: u64,
    refused: u64,
}

impl Door {
    /// Whether people go in by it, as far as is known.
    const fn is_used(self) -> bool {
        self.let_in > 0 && self.let_in.saturating_mul(4) >= self.refused
    }
}

/// A login whose answer is still to come.
struct Login {
    began: Timestamp,
    user: Option<Arc<str>>,
    secret: Option<SecretMark>,
    as_tool: bool,
}

/// A conversation of which nothing can be read but who speaks and how much.
///
/// A client of PostgreSQL or MySQL that was let in says goodbye (Terminate, COM_QUIT). One that was refused has nothing to
/// say any more: the server has the last word, and it is short, for an error is. What comes of TLS's own goodbyes, of
/// either end, is passed over: see [`is_alert`].
struct Veiled {
    product: &'static str,
    began: Timestamp,
    turns: u32,
    server_last: u64,
    last: Direction,
}

/// Whether so much is an alert of TLS and nothing else: 2 bytes in a record of at most 22 more, or of 29 as TLS 1.2 has it
/// with AES-GCM. A goodbye of the database's has 5, in a record of its own.
const fn is_alert(bytes: u64) -> bool {
    bytes <= 24 || bytes == 31
}

/// The most that an error takes, encrypted.
const ERROR: u64 = 320;
/// A login takes at most so many turns after the agreement to encrypt, handshake included,
const LOGIN_TURNS: std::ops::RangeInclusive<u32> = 4..=14;
/// and so long.
const LOGIN_LASTS: Duration = Duration::from_secs(30);

impl Veiled {
    fn take(&mut self, turn: &Turn) {
        self.turns = self.turns.saturating_add(1);
        if is_alert(turn.bytes) {
            return;
        }
        self.last = turn.direction;
        if turn.direction == Direction::Resp {
            self.server_last = turn.bytes;
        }
    }

    /// Whether it was a login that succeeded; `None` if there is no telling.
    fn succeeded(&self, record: &FlowRecord) -> Option<bool> {
        if self.turns > *LOGIN_TURNS.end() {
            return Some(true);
        }
        if !LOGIN_TURNS.contains(&self.turns) || record.reason != EndReason::Closed {
            return None;
        }
        if self.last == Direction::Orig {
            return Some(true);
        }
        let short = self.server_last <= ERROR && record.end.since(self.began) <= LOGIN_LASTS;
        short.then_some(false)
    }
}

impl DbBruteforce {
    fn message(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DatabaseMessage,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        match &message.event {
            DatabaseEvent::Hello { version: None } => {
                let veiled = Veiled {
                    product: message.product,
                    began: time,
                    turns: 0,
                    server_last: 0,
                    last: Direction::Resp,
                };
                self.veiled.put(flow.id, veiled);
            }
            DatabaseEvent::Login { user, database, .. } => {
                self.veiled.pop(&flow.id);
                let login = Login {
                    began: time,
                    user: user.clone(),
                    secret: None,
                    as_tool: is_as_tool(user.as_deref(), database.as_deref()),
                };
                self.logins.put(flow.id, login);
            }
            DatabaseEvent::Secret(secret) => {
                if let Some(login) = self.logins.peek_mut(&flow.id) {
                    login.secret = Some(*secret);
                }
            }
            DatabaseEvent::LoginResult { success, code } => {
                if !success && !refuses_credentials(message.product, code.as_deref()) {
                    return;
                }
                let login = self.logins.pop(&flow.id);
                let attempt = Attempt {
                    flow,
                    service: message.product,
                    user: login.as_ref().and_then(|login| login.user.as_ref()),
                    secret: login.as_ref().and_then(|login| login.secret),
                    size: None,
                    code: code.as_ref(),
                    began: login.as_ref().map_or(flow.start, |login| login.began),
                    decided: time,
                    success: *success,
                    as_tool: login.as_ref().is_some_and(|login| login.as_tool),
                };
                self.guessing.take(&attempt, context, out);
            }
            _ => {}
        }
    }

    /// A login that was answered, to what is no database.
    fn other(
        &mut self,
        flow: &Arc<FlowInfo>,
        login: &OtherLogin,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let code = login.code.as_ref();
        if !login.success && !refuses_credentials(login.protocol, code.map(AsRef::as_ref)) {
            return;
        }
        let key = (source_key(&flow.orig), login.protocol);
        let door = self.doors.get_or_insert_with(key, Door::default);
        let times = if login.success {
            &mut door.let_in
        } else {
            &mut door.refused
        };
        *times = times.saturating_add(1);
        if door.is_used() && !login.success {
            context.remark(SPEC.id, flow, || {
                "is mostly let in there, as many do who log others in".into()
            });
            return;
        }
        let attempt = Attempt {
            flow,
            service: login.protocol,
            user: login.user.as_ref(),
            secret: None,
            size: None,
            code,
            // It isn't told when it began; it mostly takes next to no time.
            began: time,
            decided: time,
            success: login.success,
            as_tool: false,
        };
        self.guessing.take(&attempt, context, out);
    }

    fn ended(
        &mut self,
        flow: &Arc<FlowInfo>,
        record: &FlowRecord,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        self.logins.pop(&flow.id);
        let Some(veiled) = self.veiled.pop(&flow.id) else {
            return;
        };
        let Some(success) = veiled.succeeded(record) else {
            return;
        };
        let attempt = Attempt {
            flow,
            service: veiled.product,
            user: None,
            secret: None,
            size: None,
            code: None,
            began: veiled.began,
            decided: record.end,
            success,
            as_tool: false,
        };
        self.guessing.take(&attempt, context, out);
    }
}

/// Whether a login is one that tools make: as an administrator, and with no database of its own.
fn is_as_tool(user: Option<&str>, database: Option<&str>) -> bool {
    let Some(user) = user else { return false };
    let common = database.is_none_or(|database| database == user || EVERYWHERE.contains(&database));
    common
        && ADMINISTRATORS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(user))
}

impl Detector for DbBruteforce {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::TURN.and(EventKinds::FLOW_ENDED),
            after: EventKinds::DATABASE,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Database(message),
            } => self.message(flow, message, event.time, context, out),
            EventKind::Transaction {
                flow,
                transaction: Transaction::Login(login),
            } => self.other(flow, login, event.time, context, out),
            EventKind::Turn { flow, turn } => {
                if let Some(veiled) = self.veiled.peek_mut(&flow.id) {
                    veiled.take(turn);
                }
            }
            EventKind::FlowEnded { flow, record } => self.ended(flow, record, context, out),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        self.guessing.tick(now, context, out);
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.guessing.finish(context, out);
    }

    fn state_size(&self) -> StateSize {
        self.guessing.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.guessing.losses()
    }
}

#[cfg(test)]
mod tests;
