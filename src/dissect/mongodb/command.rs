//! What MongoDB's commands do, by their names, the collection and the shape of what they ask for.

use super::super::{Marks, StatementClass};
use super::bson::{Document, Value};
use StatementClass::{Admin, Catalogue, CredentialTable, Other, Read, Schema, Transaction, Write};

/// How deep and how much of a filter's shape is taken down.
const MAX_DEPTH: usize = 8;
const MAX_SHAPE: usize = 1024;

/// A command of which the document, or its beginning, is here.
pub(super) struct Command<'a> {
    name: &'a [u8],
    document: Document<'a>,
    verb: &'static str,
    class: StatementClass,
    /// Named in the document, or before it in old messages.
    database: Option<&'a [u8]>,
    collection: &'a [u8],
    /// An old query for rows, in which the document is the filter.
    filter: Option<Document<'a>>,
    unlimited: bool,
    whole: bool,
}

/// What has to be done about a command.
pub(super) enum Does<'a> {
    Hello {
        client: Option<&'a [u8]>,
        /// Some begin to log in with it.
        login: Option<Login<'a>>,
    },
    Login(Login<'a>),
    GoOnLogin,
    AskVersion,
    Other,
}

/// Who asks to be let in, and whereto.
pub(super) struct Login<'a> {
    pub(super) user: Option<Vec<u8>>,
    pub(super) database: Option<&'a [u8]>,
}

impl<'a> Command<'a> {
    pub(super) fn new(document: Document<'a>, whole: bool) -> Self {
        let (name, value) = document.fields().next().unwrap_or((b"", Value::Null));
        let known = COMMANDS.iter().find(|(known, _)| known.as_bytes() == name);
        let (verb, class) = known.copied().unwrap_or(("OTHER", Other));
        Self {
            name,
            document,
            verb,
            class,
            database: document.get(b"$db").and_then(Value::text),
            collection: value.text().unwrap_or_default(),
            filter: None,
            unlimited: false,
            whole,
        }
    }

    /// A command in an old message; some wrap it once more.
    pub(super) fn of_query(
        document: Document<'a>,
        database: Option<&'a [u8]>,
        whole: bool,
    ) -> Self {
        let wrapped = match document.fields().next() {
            Some((b"$query" | b"query", Value::Document(wrapped))) => wrapped,
            _ => document,
        };
        Self {
            database,
            ..Self::new(wrapped, whole)
        }
    }

    /// An old message that asks for rows.
    pub(super) fn find(
        full_name: &'a [u8],
        document: Document<'a>,
        unlimited: bool,
        whole: bool,
    ) -> Self {
        let mut parts = full_name.splitn(2, |byte| *byte == b'.');
        let database = parts.next();
        let filter = match document.get(b"$query") {
            Some(Value::Document(filter)) => filter,
            _ => document,
        };
        Self {
            name: b"find",
            document,
            verb: "find",
            class: Read,
            database,
            collection: parts.next().unwrap_or_default(),
            filter: Some(filter),
            unlimited,
            whole,
        }
    }

    pub(super) const fn verb(&self) -> &'static str {
        self.verb
    }

    pub(super) fn does(&self) -> Does<'a> {
        match self.name {
            b"hello" | b"isMaster" | b"ismaster" => {
                let client = self.document.get(b"client").and_then(Value::document);
                let early = self.document.get(b"speculativeAuthenticate");
                Does::Hello {
                    client: client.and_then(client_name),
                    login: early.and_then(Value::document).map(|login| Login {
                        user: user(login),
                        database: login.get(b"db").and_then(Value::text),
                    }),
                }
            }
            b"saslStart" | b"authenticate" => Does::Login(Login {
                user: user(self.document),
                database: self.database,
            }),
            b"saslContinue" => Does::GoOnLogin,
            b"buildInfo" | b"buildinfo" => Does::AskVersion,
            _ => Does::Other,
        }
    }

    pub(super) fn class(&self) -> StatementClass {
        let class = match self.collection {
            b"system.users" | b"system.roles" if self.class <= Catalogue => CredentialTable,
            b"system.namespaces" | b"system.indexes" | b"system.profile" | b"system.js" => {
                self.class.max(Catalogue)
            }
            _ => self.class,
        };
        let mut stages = self
            .stages()
            .flat_map(|stage| stage.fields().map(|(name, _)| name));
        let class = stages
            .find_map(|stage| match stage {
                b"$out" | b"$merge" => Some(class.max(Write)),
                b"$currentOp"
                | b"$listSessions"
                | b"$listLocalSessions"
                | b"$indexStats"
                | b"$collStats"
                | b"$planCacheStats" => Some(class.max(Catalogue)),
                _ => None,
            })
            .unwrap_or(class);
        if self.marks().intersects(Marks::ABUSE) {
            StatementClass::Abuse
        } else {
            class
        }
    }

    pub(super) fn marks(&self) -> Marks {
        let mut marks = Marks::empty();
        if self.takes_all() {
            marks |= Marks::BULK_READ;
        }
        if self.collection == b"oplog.rs" && self.verb == "find" {
            marks |= Marks::REPLICATES;
        }
        if self.verb == "fsync" {
            marks |= Marks::SNAPSHOT;
        }
        if matches!(self.verb, "mapReduce" | "eval") || runs_script(self.document, MAX_DEPTH) {
            marks |= Marks::SCRIPT;
        }
        marks
    }

    /// Whether it asks for all rows of a collection.
    fn takes_all(&self) -> bool {
        if !self.whole {
            return false;
        }
        if let Some(filter) = self.filter {
            return self.unlimited && filter.is_empty();
        }
        let given = |name: &[u8]| {
            let number = self.document.get(name).and_then(Value::number);
            number.is_some_and(|number| number != 0)
        };
        match self.verb {
            "find" => {
                let filter = self.document.get(b"filter").and_then(Value::document);
                let all = filter.is_none_or(Document::is_empty);
                all && !given(b"limit") && !given(b"singleBatch")
            }
            "aggregate" => {
                let stages = self.document.get(b"pipeline").and_then(Value::array);
                stages.is_some_and(Document::is_empty)
            }
            _ => false,
        }
    }

    fn stages(&self) -> impl Iterator<Item = Document<'a>> {
        let pipeline = self.document.get(b"pipeline").and_then(Value::array);
        pipeline
            .unwrap_or_default()
            .fields()
            .filter_map(|(_, stage)| stage.document())
    }

    /// The command, its collection, and the names in what it looks for; no value.
    pub(super) fn shape(&self) -> Vec<u8> {
        let mut shape = Vec::new();
        // A name not known may be anything.
        note(&mut shape, self.verb.as_bytes());
        note(&mut shape, self.collection);
        for (name, value) in self.document.fields() {
            let looks = self.filter.is_some()
                || matches!(
                    name,
                    b"filter" | b"query" | b"q" | b"pipeline" | b"projection" | b"sort" | b"key"
                );
            if looks && let Value::Document(within) | Value::Array(within) = value {
                note(&mut shape, name);
                describe(&mut shape, within, MAX_DEPTH);
            } else if self.filter.is_some() {
                note(&mut shape, name);
            }
        }
        shape
    }
}

/// Notes the names of a document's fields; of an array's elements only what is in them.
fn describe(shape: &mut Vec<u8>, document: Document<'_>, depth: usize) {
    let Some(deeper) = depth.checked_sub(1) else {
        return;
    };
    for (name, value) in document.fields() {
        if shape.len() >= MAX_SHAPE {
            return;
        }
        if !name.iter().all(u8::is_ascii_digit) {
            note(shape, name);
        }
        if let Value::Document(within) | Value::Array(within) = value {
            shape.push(b'{');
            describe(shape, within, deeper);
            shape.push(b'}');
        }
    }
}

fn note(shape: &mut Vec<u8>, name: &[u8]) {
    let room = MAX_SHAPE.saturating_sub(shape.len());
    shape.extend_from_slice(name.get(..room).unwrap_or(name));
    shape.push(b' ');
}

/// Whether a document holds code for the server.
fn runs_script(document: Document<'_>, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else {
        return false;
    };
    document.fields().any(|(name, value)| {
        matches!(name, b"$where" | b"$function" | b"$accumulator")
            || match value {
                Value::Document(within) | Value::Array(within) => runs_script(within, deeper),
                _ => false,
            }
    })
}

/// The application's name, else the driver's.
fn client_name(client: Document<'_>) -> Option<&[u8]> {
    let name = |part: &[u8]| client.get(part)?.document()?.get(b"name")?.text();
    name(b"application").or_else(|| name(b"driver"))
}

/// The user in a login's first message.
fn user(login: Document<'_>) -> Option<Vec<u8>> {
    if let Some(user) = login.get(b"user").and_then(Value::text) {
        return Some(user.to_vec());
    }
    let Some(Value::Binary(payload)) = login.get(b"payload") else {
        return None;
    };
    match login.get(b"mechanism").and_then(Value::text) {
        // On whose behalf, the user, the password.
        Some(b"PLAIN") => payload.split(|byte| *byte == 0).nth(1).map(<[u8]>::to_vec),
        Some(mechanism) if mechanism.starts_with(b"SCRAM-") => {
            let mut fields = payload.split(|byte| *byte == b',');
            let user = fields.find_map(|field| field.strip_prefix(b"n="))?;
            Some(unescape(user))
        }
        _ => None,
    }
}

/// RFC 5802: `=2C` is a comma, `=3D` an equals sign.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len().min(256));
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = [(&b"=2C"[..], b','), (b"=3D", b'=')]
            .into_iter()
            .find_map(|(code, char)| Some((rest.strip_prefix(code)?, char)));
        let (after, byte) = escaped.unwrap_or((after, *byte));
        out.push(byte);
        rest = after;
    }
    out
}

/// Commands by use, the commonest first.
const COMMANDS: &[(&str, StatementClass)] = &[
    ("find", Read),
    ("aggregate", Read),
    ("getMore", Read),
    ("insert", Write),
    ("update", Write),
    ("delete", Write),
    ("hello", Other),
    ("isMaster", Other),
    ("ismaster", Other),
    ("ping", Other),
    ("count", Read),
    ("distinct", Read),
    ("findAndModify", Write),
    ("findandmodify", Write),
    ("bulkWrite", Write),
    ("killCursors", Other),
    ("endSessions", Other),
    ("refreshSessions", Other),
    ("startSession", Other),
    ("killSessions", Other),
    ("logout", Other),
    ("getnonce", Other),
    ("whatsmyuri", Other),
    ("getLastError", Other),
    ("getlasterror", Other),
    ("saslStart", Other),
    ("saslContinue", Other),
    ("authenticate", Other),
    ("commitTransaction", Transaction),
    ("abortTransaction", Transaction),
    ("mapReduce", Read),
    ("mapreduce", Read),
    ("group", Read),
    ("geoNear", Read),
    ("geoSearch", Read),
    ("explain", Read),
    ("parallelCollectionScan", Read),
    ("create", Schema),
    ("drop", Schema),
    ("dropDatabase", Schema),
    ("createIndexes", Schema),
    ("dropIndexes", Schema),
    ("deleteIndexes", Schema),
    ("collMod", Schema),
    ("renameCollection", Schema),
    ("reIndex", Schema),
    ("convertToCapped", Schema),
    ("compact", Schema),
    ("listDatabases", Catalogue),
    ("listCollections", Catalogue),
    ("listIndexes", Catalogue),
    ("listCommands", Catalogue),
    ("buildInfo", Catalogue),
    ("buildinfo", Catalogue),
    ("serverStatus", Catalogue),
    ("dbStats", Catalogue),
    ("dbstats", Catalogue),
    ("collStats", Catalogue),
    ("collstats", Catalogue),
    ("dataSize", Catalogue),
    ("dbHash", Catalogue),
    ("validate", Catalogue),
    ("top", Catalogue),
    ("hostInfo", Catalogue),
    ("getLog", Catalogue),
    ("getCmdLineOpts", Catalogue),
    ("getParameter", Catalogue),
    ("currentOp", Catalogue),
    ("connectionStatus", Catalogue),
    ("connPoolStats", Catalogue),
    ("replSetGetStatus", Catalogue),
    ("replSetGetConfig", Catalogue),
    ("listShards", Catalogue),
    ("getShardMap", Catalogue),
    ("features", Catalogue),
    ("rolesInfo", Catalogue),
    ("usersInfo", CredentialTable),
    ("createUser", Admin),
    ("updateUser", Admin),
    ("dropUser", Admin),
    ("dropAllUsersFromDatabase", Admin),
    ("grantRolesToUser", Admin),
    ("revokeRolesFromUser", Admin),
    ("createRole", Admin),
    ("updateRole", Admin),
    ("dropRole", Admin),
    ("grantRolesToRole", Admin),
    ("grantPrivilegesToRole", Admin),
    ("revokePrivilegesFromRole", Admin),
    ("setParameter", Admin),
    ("setFeatureCompatibilityVersion", Admin),
    ("shutdown", Admin),
    ("fsync", Admin),
    ("logRotate", Admin),
    ("profile", Admin),
    ("killOp", Admin),
    ("killAllSessions", Admin),
    ("replSetInitiate", Admin),
    ("replSetReconfig", Admin),
    ("replSetStepDown", Admin),
    ("addShard", Admin),
    ("removeShard", Admin),
    ("enableSharding", Admin),
    ("shardCollection", Admin),
    ("moveChunk", Admin),
    ("eval", Write),
    ("$eval", Write),
];
