//! Databases that speak HTTP: Elasticsearch and OpenSearch, ClickHouse, etcd. Tells what a request asks of one, by its
//! path, parameters and headers, and ClickHouse's by its body.
//!
//! Names of indices count towards fingerprints, like tables'; ids, keys and values are left out. Other bodies aren't read, so
//! a search's class is known and its terms are not.

mod clickhouse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use clickhouse::{Expected, Reading};

use super::text::{opt_text, text};
use super::{
    DatabaseEvent, DatabaseMessage, Marks, SecretMark, StatementClass, Transaction,
    fingerprint::fingerprint,
};
use StatementClass::{Admin, Catalogue, CredentialTable, Other, Read, Schema, Write};

const ELASTICSEARCH: &str = "elasticsearch";
const CLICKHOUSE: &str = super::clickhouse::PRODUCT;
const ETCD: &str = "etcd";
const MAX_NAME: usize = 64;
/// Requests under way at once.
const MAX_PENDING: usize = 32;
/// A search for so many rows takes all it can: a page for people has fewer.
const MANY: u64 = 1000;

/// A request's head.
pub(super) struct Request<'a> {
    pub(super) method: &'a [u8],
    /// Path and parameters.
    pub(super) target: &'a [u8],
    pub(super) authorization: Option<&'a [u8]>,
    /// ClickHouse's own header for the user.
    pub(super) clickhouse_user: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) content_length: u64,
    /// Whether its body is.
    pub(super) compressed: bool,
}

/// What a request asks of a database.
pub(super) struct Ask {
    product: &'static str,
    event: DatabaseEvent,
    /// Whose password it bears.
    user: Option<Arc<str>>,
    database: Option<Arc<str>>,
    client: Option<Arc<str>>,
    secret: Option<SecretMark>,
    /// What its body may add.
    expected: Option<Expected>,
}

impl Ask {
    /// Whether it is to a database whatever its body and the answer say.
    pub(super) fn is_certain(&self) -> bool {
        self.expected.as_ref().is_none_or(|body| body.certain)
    }
}

/// Tells what a request asks of a database; nothing if it is to anything else.
pub(super) fn ask(request: &Request<'_>) -> Option<Box<Ask>> {
    let (path, parameters) = split(request.target);
    let parameters = Parameters(parameters);
    let by_path =
        elasticsearch(request, path, parameters).or_else(|| etcd(request, path, parameters));
    let (product, event, expected) = if let Some((product, event)) = by_path {
        (product, event, None)
    } else {
        let (event, expected) = clickhouse::ask(request, path, parameters)?;
        (CLICKHOUSE, event, expected)
    };
    let client = request.user_agent;
    Some(Box::new(Ask {
        product,
        event,
        user: user(request, product, parameters),
        database: database(product, parameters),
        client: client.and_then(|agent| opt_text(agent, MAX_NAME)),
        secret: request.authorization.map(SecretMark::of),
        expected,
    }))
}

/// A connection's requests to databases, paired with their answers.
#[derive(Default)]
pub(super) struct WebDatabases {
    /// The requests not answered yet, others among them, from the first to a database on.
    pending: VecDeque<Option<Pending>>,
    /// The last of them, while its body is on its way.
    reading: Option<Box<Reading>>,
    /// The user last let in.
    let_in: Option<Arc<str>>,
}

/// What the head of an answer of ClickHouse's says.
pub(super) struct ClickHouseAnswer {
    /// The number of its error.
    pub(super) exception: Option<Arc<str>>,
}

/// A request to a database that isn't answered yet.
enum Pending {
    Told(Told),
    /// It is told if the answer is ClickHouse's.
    Held(Box<Ask>),
}

/// What was told of a request.
struct Told {
    product: &'static str,
    /// Whose password it bears, unless it was told to be right before.
    logs_in: Option<Arc<str>>,
}

impl WebDatabases {
    /// Takes note of a request, before which so many are unanswered.
    pub(super) fn asked(&mut self, ask: Option<Box<Ask>>, before: u32, out: &mut Vec<Transaction>) {
        let Some(ask) = ask else {
            if !self.pending.is_empty() {
                self.push(None);
            }
            return;
        };
        while self.pending.len() < MAX_PENDING.min(before as usize) {
            self.push(None);
        }
        self.push(None);
        match Reading::new(ask) {
            Ok(reading) => self.reading = Some(Box::new(reading)),
            Err(ask) => {
                let told = self.tell(*ask, out);
                self.replace(Pending::Told(told));
            }
        }
    }

    /// The next bytes of the last request's body.
    pub(super) fn body(&mut self, data: &[u8], out: &mut Vec<Transaction>) {
        if let Some(reading) = &mut self.reading
            && !reading.take(data)
        {
            self.body_ends(out);
        }
    }

    /// No more is to come of it, or to be read.
    pub(super) fn body_ends(&mut self, out: &mut Vec<Transaction>) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        match reading.end() {
            Some((ask, true)) => {
                let told = self.tell(*ask, out);
                self.replace(Pending::Told(told));
            }
            Some((ask, false)) => self.replace(Pending::Held(ask)),
            None => {}
        }
    }

    fn tell(&mut self, ask: Ask, out: &mut Vec<Transaction>) -> Told {
        let Ask {
            product,
            event,
            user,
            database,
            client,
            secret,
            expected: _,
        } = ask;
        let logs_in = user.filter(|user| self.let_in.as_ref() != Some(user));
        if logs_in.is_some() {
            let user = logs_in.clone();
            let login = DatabaseEvent::Login {
                user,
                database,
                client,
            };
            say(product, login, out);
            if let Some(secret) = secret {
                say(product, DatabaseEvent::Secret(secret), out);
            }
        }
        say(product, event, out);
        Told { product, logs_in }
    }

    /// What is known now of the last request.
    fn replace(&mut self, pending: Pending) {
        if let Some(last) = self.pending.back_mut() {
            *last = Some(pending);
        }
    }

    fn push(&mut self, pending: Option<Pending>) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(pending);
    }

    /// Takes note of an answer.
    pub(super) fn answered(
        &mut self,
        status: u16,
        clickhouse: Option<ClickHouseAnswer>,
        content_length: Option<u64>,
        out: &mut Vec<Transaction>,
    ) {
        if self.pending.len() == 1 {
            // It doesn't wait for the rest.
            self.body_ends(out);
        }
        let Told { product, logs_in } = match self.pending.pop_front().flatten() {
            Some(Pending::Told(told)) => told,
            Some(Pending::Held(ask)) if clickhouse.is_some() => self.tell(*ask, out),
            _ => return,
        };
        let exception = clickhouse.and_then(|answer| answer.exception);
        let refused = matches!(status, 401 | 403);
        let status = (status >= 400).then(|| text(status.to_string().as_bytes(), 16));
        let code = exception.or(status);
        if refused {
            self.let_in = None;
        }
        if let Some(user) = logs_in {
            let event = DatabaseEvent::LoginResult {
                success: !refused,
                code: code.clone().filter(|_| refused),
            };
            say(product, event, out);
            if refused {
                return;
            }
            self.let_in = Some(user);
        }
        let event = DatabaseEvent::Result {
            rows: None,
            bytes: content_length.unwrap_or_default(),
            error: code,
        };
        say(product, event, out);
    }

    /// Bytes are missing: what is answered next isn't known.
    pub(super) fn lose(&mut self) {
        self.pending.clear();
        self.reading = None;
    }
}

fn say(product: &'static str, event: DatabaseEvent, out: &mut Vec<Transaction>) {
    out.push(Transaction::Database(DatabaseMessage { product, event }));
}

/// Path and parameters of a target.
fn split(target: &[u8]) -> (&[u8], &[u8]) {
    // An absolute one names the host first.
    let target = match target.windows(3).position(|part| part == b"://") {
        Some(scheme) if target.starts_with(b"http") => {
            let rest = target.get(scheme.saturating_add(3)..).unwrap_or_default();
            let host = rest.iter().take_while(|byte| **byte != b'/').count();
            rest.get(host..).unwrap_or_default()
        }
        _ => target,
    };
    let end = target.iter().position(|byte| *byte == b'?');
    match end {
        Some(end) => (
            target.get(..end).unwrap_or_default(),
            target.get(end.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (target, &[]),
    }
}

/// The parameters of a target: `name=value&name=value`.
pub(super) fn parameters(target: &[u8]) -> &[u8] {
    split(target).1
}

/// `name=value&name=value`
#[derive(Clone, Copy)]
struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    fn get(self, wanted: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.0.split(|byte| *byte == b'&').find_map(|pair| {
            let value = pair.strip_prefix(wanted)?.strip_prefix(b"=")?;
            Some(decoded(value))
        })
    }

    fn number(self, wanted: &[u8]) -> Option<u64> {
        let value = self.get(wanted)?;
        std::str::from_utf8(&value).ok()?.parse().ok()
    }
}

/// Without percent signs; a plus is a space.
pub(super) fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if escaped.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
        out.push(match escaped {
            Some(escaped) => escaped,
            None if *byte == b'+' => b' ',
            None => *byte,
        });
    }
    Cow::Owned(out)
}

/// The user whose password a request bears.
fn user(request: &Request<'_>, product: &str, parameters: Parameters<'_>) -> Option<Arc<str>> {
    if product == CLICKHOUSE {
        if let Some(user) = request.clickhouse_user {
            return opt_text(user, MAX_NAME);
        }
        if let Some(user) = parameters.get(b"user") {
            return opt_text(&user, MAX_NAME);
        }
    }
    let (scheme, value) = request.authorization?.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = STANDARD
        .decode(value.trim_ascii().get(..512).unwrap_or(value.trim_ascii()))
        .ok()?;
    let user = pair.split(|byte| *byte == b':').next()?;
    opt_text(user, MAX_NAME)
}

fn database(product: &str, parameters: Parameters<'_>) -> Option<Arc<str>> {
    if product != CLICKHOUSE {
        return None;
    }
    opt_text(&parameters.get(b"database")?, MAX_NAME)
}

fn state(
    verb: &'static str,
    class: StatementClass,
    marks: Marks,
    shape: &[&[u8]],
    request: &Request<'_>,
) -> DatabaseEvent {
    let length = (request.target.len() as u64).saturating_add(request.content_length);
    DatabaseEvent::Statement {
        class,
        marks,
        verb,
        fingerprint: fingerprint(&shape.join(&b' ')),
        length: u32::try_from(length).unwrap_or(u32::MAX),
    }
}

/// The interfaces of Elasticsearch, each with what reading from it and what writing to it means.
const APIS: &[(&str, StatementClass, StatementClass)] = &[
    ("_search", Read, Read),
    ("_msearch", Read, Read),
    ("_async_search", Read, Read),
    ("_count", Read, Read),
    ("_mget", Read, Read),
    ("_doc", Read, Write),
    ("_source", Read, Read),
    ("_create", Write, Write),
    ("_update", Write, Write),
    ("_bulk", Write, Write),
    ("_update_by_query", Write, Write),
    ("_delete_by_query", Write, Write),
    ("_reindex", Write, Write),
    ("_sql", Read, Read),
    ("_eql", Read, Read),
    ("_query", Read, Read),
    ("_pit", Read, Read),
    ("_explain", Read, Read),
    ("_field_caps", Catalogue, Catalogue),
    ("_cat", Catalogue, Catalogue),
    ("_cluster", Catalogue, Admin),
    ("_nodes", Catalogue, Admin),
    ("_tasks", Catalogue, Admin),
    ("_mapping", Catalogue, Schema),
    ("_mappings", Catalogue, Schema),
    ("_settings", Catalogue, Schema),
    ("_alias", Catalogue, Schema),
    ("_aliases", Catalogue, Schema),
    ("_stats", Catalogue, Catalogue),
    ("_segments", Catalogue, Catalogue),
    ("_recovery", Catalogue, Catalogue),
    ("_shard_stores", Catalogue, Catalogue),
    ("_resolve", Catalogue, Catalogue),
    ("_data_stream", Catalogue, Schema),
    ("_template", Catalogue, Schema),
    ("_index_template", Catalogue, Schema),
    ("_component_template", Catalogue, Schema),
    ("_rollover", Schema, Schema),
    ("_refresh", Other, Other),
    ("_flush", Other, Other),
    ("_forcemerge", Schema, Schema),
    ("_analyze", Other, Other),
    ("_ilm", Catalogue, Admin),
    ("_slm", Catalogue, Admin),
    ("_ingest", Catalogue, Admin),
    ("_scripts", Catalogue, Admin),
    ("_license", Catalogue, Admin),
    ("_xpack", Catalogue, Admin),
    ("_snapshot", Catalogue, Admin),
    ("_security", CredentialTable, Admin),
    ("_opendistro", CredentialTable, Admin),
    ("_plugins", CredentialTable, Admin),
    ("_shutdown", Admin, Admin),
];

/// Elasticsearch's interfaces begin with an underscore; the names of indices may not.
fn elasticsearch(
    request: &Request<'_>,
    path: &[u8],
    parameters: Parameters<'_>,
) -> Option<(&'static str, DatabaseEvent)> {
    let mut segments = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty());
    let first = segments.next()?;
    let (index, api) = if first.starts_with(b"_") && first != b"_all" {
        (&b""[..], first)
    } else {
        (first, segments.next()?)
    };
    let &(verb, reading, writing) = APIS.iter().find(|(known, ..)| known.as_bytes() == api)?;
    let detail = segments.next().unwrap_or_default();
    let reads = matches!(request.method, b"GET" | b"HEAD");
    let class = match (verb, detail) {
        _ if request.method == b"DELETE" && matches!(verb, "_doc" | "_pit" | "_search") => Write,
        ("_security", b"_authenticate") => Other,
        // Security is one part of these.
        ("_opendistro" | "_plugins", detail) if detail != b"_security" => {
            if reads {
                Catalogue
            } else {
                Admin
            }
        }
        _ if reads => reading,
        _ => writing,
    };
    let mut marks = Marks::empty();
    let scrolls = parameters.get(b"scroll").is_some() || detail == b"scroll";
    let many = parameters.number(b"size").is_some_and(|size| size >= MANY);
    if verb == "_search" && (scrolls && request.method != b"DELETE" || many)
        || verb == "_pit" && !reads
    {
        marks |= Marks::BULK_READ;
    }
    if verb == "_snapshot" && !reads {
        marks |= Marks::SNAPSHOT;
    }
    // After the name of an interface for documents comes an id.
    let detail = match verb {
        "_doc" | "_source" | "_create" | "_update" | "_explain" | "_search" | "_tasks" => b"",
        _ => detail,
    };
    let shape = [request.method, index, api, detail];
    Some((ELASTICSEARCH, state(verb, class, marks, &shape, request)))
}

/// etcd's second interface, and its third in JSON.
fn etcd(
    request: &Request<'_>,
    path: &[u8],
    parameters: Parameters<'_>,
) -> Option<(&'static str, DatabaseEvent)> {
    let mut segments = path.split(|byte| *byte == b'/').skip(1);
    let version = segments.next()?;
    let part = segments.next()?;
    let rest: Vec<&[u8]> = segments
        .by_ref()
        .take(8)
        .filter(|part| !part.is_empty())
        .collect();
    let detail = rest.first().copied().unwrap_or_default();
    let reads = matches!(request.method, b"GET" | b"HEAD");
    let (verb, class, marks) = match version {
        b"v2" => {
            // Registries of images have paths like these.
            let registry = rest
                .iter()
                .any(|part| matches!(*part, b"manifests" | b"blobs" | b"tags" | b"referrers"));
            let all = parameters
                .get(b"recursive")
                .is_some_and(|value| *value == b"true"[..]);
            match (part, detail) {
                _ if registry => return None,
                (b"keys", _) if reads && (all || rest.is_empty()) => {
                    ("v2 keys", Read, Marks::BULK_READ)
                }
                (b"keys", _) if reads => ("v2 keys", Read, Marks::empty()),
                (b"keys", _) => ("v2 keys", Write, Marks::empty()),
                (b"members", _) if reads => ("v2 members", Catalogue, Marks::empty()),
                (b"members", _) => ("v2 members", Admin, Marks::empty()),
                (b"stats", b"self" | b"store" | b"leader") => {
                    ("v2 stats", Catalogue, Marks::empty())
                }
                (b"auth", b"users" | b"roles") if reads => {
                    ("v2 auth", CredentialTable, Marks::empty())
                }
                (b"auth", b"users" | b"roles" | b"enable") => ("v2 auth", Admin, Marks::empty()),
                _ => return None,
            }
        }
        b"v3" | b"v3alpha" | b"v3beta" if request.method == b"POST" => match (part, detail) {
            (b"kv", b"range") => ("kv range", Read, Marks::empty()),
            (b"kv", b"put" | b"deleterange" | b"txn") => ("kv put", Write, Marks::empty()),
            (b"auth", b"authenticate") => ("auth authenticate", Other, Marks::empty()),
            (b"auth", b"user" | b"role") if rest.last() == Some(&&b"list"[..]) => {
                ("auth list", CredentialTable, Marks::empty())
            }
            (b"auth", _) => ("auth", Admin, Marks::empty()),
            (b"maintenance", b"snapshot") => ("snapshot", Admin, Marks::SNAPSHOT),
            (b"maintenance", b"status") => ("status", Catalogue, Marks::empty()),
            (b"cluster", _) => ("cluster", Catalogue, Marks::empty()),
            _ => return None,
        },
        _ => return None,
    };
    let shape = [request.method, version, part];
    Some((ETCD, state(verb, class, marks, &shape, request)))
}
