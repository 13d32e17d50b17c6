//! The words that workloads use: one table of what is a word, what it is called, and how to read it from an event.
//!
//! A word is something a client says in the clear that its program or configuration chose, so that the same workload
//! says the same few ever again: a TLS fingerprint, a server's name, a database user, a kind of statement. To add a
//! vocabulary is to add a variant and a row; the baseline learns, bounds, stores and shows it by itself.

use std::borrow::Cow;
use std::sync::Arc;

use super::{DomainName, is_registry};
use crate::dissect::{DatabaseEvent, DatabaseMessage, HttpRequest, SshMessage, Transaction};
use crate::event::{Event, EventKind};

/// Longest word kept, in bytes.
const MAX_WORD: usize = 160;

/// A kind of word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Vocabulary {
    /// Registered domains asked for by DNS.
    Domain,
    /// Application protocols recognised by content.
    Application,
    /// JA4 fingerprints of TLS clients.
    Ja4,
    /// Server names in TLS.
    ServerName,
    /// Hosts asked for by HTTP.
    HttpHost,
    /// User agents of HTTP.
    UserAgent,
    /// Software of SSH clients.
    SshClient,
    /// Software of SSH servers, as their clients hear it.
    SshServer,
    /// Applications and drivers that database clients call themselves, with the product.
    DatabaseClient,
    /// Database users, with the product.
    DatabaseUser,
    /// Classes of statements, with the product.
    StatementClass,
    /// Fingerprints of statements.
    Statement,
    /// Repositories pulled from a registry.
    Pulled,
    /// Repositories pushed to a registry.
    Pushed,
    /// Registries of images that were called.
    Registry,
}

/// A row of the table.
struct Row {
    vocabulary: Vocabulary,
    /// The dotted name used in stored baselines and evidence.
    name: &'static str,
    /// What one word is called in sentences.
    noun: &'static str,
    /// Whether the server's workload learns what its clients say, too.
    served: bool,
    /// Words remembered per workload and role.
    limit: usize,
    read: fn(&EventKind) -> Option<Cow<'_, str>>,
}

/// The table, in the order of the variants.
const ROWS: &[Row] = &[
    Row {
        vocabulary: Vocabulary::Domain,
        name: "dns.domain",
        noun: "domain",
        served: false,
        limit: 1024,
        read: |kind| match transaction(kind)? {
            Transaction::Dns(message) if !message.response => {
                Some(DomainName::split(&message.name)?.registered.into())
            }
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::Application,
        name: "flow.application",
        noun: "application protocol",
        served: true,
        limit: 64,
        read: |kind| match kind {
            EventKind::Recognised { app, .. } => Some((*app).into()),
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::Ja4,
        name: "tls.ja4",
        noun: "TLS fingerprint",
        served: true,
        limit: 256,
        read: |kind| match transaction(kind)? {
            Transaction::TlsClient(hello) => word(Some(&hello.ja4)),
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::ServerName,
        name: "tls.server_name",
        noun: "TLS server name",
        served: false,
        limit: 1024,
        read: |kind| match transaction(kind)? {
            Transaction::TlsClient(hello) => word(hello.sni.as_ref()),
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::HttpHost,
        name: "http.host",
        noun: "HTTP host",
        served: false,
        limit: 1024,
        read: |kind| word(request(kind)?.host.as_ref()),
    },
    Row {
        vocabulary: Vocabulary::UserAgent,
        name: "http.user_agent",
        noun: "user agent",
        served: true,
        limit: 256,
        read: |kind| word(request(kind)?.user_agent.as_ref()),
    },
    Row {
        vocabulary: Vocabulary::SshClient,
        name: "ssh.client",
        noun: "SSH client",
        served: true,
        limit: 64,
        read: |kind| match transaction(kind)? {
            Transaction::Ssh(SshMessage::Client(software)) => word(Some(software)),
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::SshServer,
        name: "ssh.server",
        noun: "SSH server",
        served: false,
        limit: 64,
        read: |kind| match transaction(kind)? {
            Transaction::Ssh(SshMessage::Server(software)) => word(Some(software)),
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::DatabaseClient,
        name: "db.client",
        noun: "database client",
        served: true,
        limit: 256,
        read: |kind| {
            let DatabaseMessage { product, event } = database(kind)?;
            match event {
                DatabaseEvent::Login { client, .. } => of_product(product, client.as_deref()?),
                _ => None,
            }
        },
    },
    Row {
        vocabulary: Vocabulary::DatabaseUser,
        name: "db.user",
        noun: "database user",
        served: true,
        limit: 256,
        read: |kind| {
            let DatabaseMessage { product, event } = database(kind)?;
            match event {
                DatabaseEvent::Login { user, .. } => of_product(product, user.as_deref()?),
                _ => None,
            }
        },
    },
    Row {
        vocabulary: Vocabulary::StatementClass,
        name: "db.statement_class",
        noun: "kind of statement",
        served: true,
        limit: 64,
        read: |kind| {
            let DatabaseMessage { product, event } = database(kind)?;
            match event {
                DatabaseEvent::Statement { class, .. } => of_product(product, class.label()),
                _ => None,
            }
        },
    },
    Row {
        vocabulary: Vocabulary::Statement,
        name: "db.statement",
        noun: "statement",
        served: true,
        limit: 1024,
        read: |kind| match &database(kind)?.event {
            DatabaseEvent::Statement { fingerprint, .. } => {
                Some(statement_word(*fingerprint).into())
            }
            _ => None,
        },
    },
    Row {
        vocabulary: Vocabulary::Pulled,
        name: "registry.pulled",
        noun: "repository pulled",
        served: true,
        limit: 256,
        read: |kind| match repository(request(kind)?)? {
            (name, false) => Some(cut(name).into()),
            (_, true) => None,
        },
    },
    Row {
        vocabulary: Vocabulary::Pushed,
        name: "registry.pushed",
        noun: "repository pushed",
        served: true,
        limit: 256,
        read: |kind| match repository(request(kind)?)? {
            (name, true) => Some(cut(name).into()),
            (_, false) => None,
        },
    },
    Row {
        vocabulary: Vocabulary::Registry,
        name: "registry.called",
        noun: "registry",
        served: false,
        limit: 64,
        read: |kind| match transaction(kind)? {
            Transaction::TlsClient(hello) => {
                word(hello.sni.as_ref().filter(|name| is_registry(name)))
            }
            Transaction::HttpRequest(request) => {
                repository(request).and(word(request.host.as_ref()))
            }
            _ => None,
        },
    },
];

impl Vocabulary {
    /// Every vocabulary, in its order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ROWS.iter().map(|row| row.vocabulary)
    }

    /// The dotted name used in stored baselines and evidence.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// What one of its words is called in sentences: `database user`.
    pub fn noun(self) -> &'static str {
        self.row().map_or("word", |row| row.noun)
    }

    /// The vocabulary of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        ROWS.iter()
            .find(|row| row.name == name)
            .map(|row| row.vocabulary)
    }

    /// Words remembered per workload and role.
    pub fn limit(self) -> usize {
        self.row().map_or(0, |row| row.limit)
    }

    /// Whether the server's workload learns what its clients say, too.
    pub fn is_served(self) -> bool {
        self.row().is_some_and(|row| row.served)
    }

    /// The word of this vocabulary in an event, as the baseline has it: what [`words`] would tell.
    pub fn read(self, event: &Event) -> Option<Cow<'_, str>> {
        (self.row()?.read)(&event.kind)
    }

    fn row(self) -> Option<&'static Row> {
        ROWS.get(self as usize)
    }
}

/// The words in an event.
pub fn words(event: &Event) -> impl Iterator<Item = (Vocabulary, Cow<'_, str>)> {
    let rows = match &event.kind {
        EventKind::Transaction { .. } | EventKind::Recognised { .. } => ROWS,
        _ => &[],
    };
    rows.iter()
        .filter_map(|row| Some((row.vocabulary, (row.read)(&event.kind)?)))
}

/// The word of [`Vocabulary::Statement`] for a fingerprint.
pub fn statement_word(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

const fn transaction(kind: &EventKind) -> Option<&Transaction> {
    match kind {
        EventKind::Transaction { transaction, .. } => Some(transaction),
        _ => None,
    }
}

fn request(kind: &EventKind) -> Option<&HttpRequest> {
    match transaction(kind)? {
        Transaction::HttpRequest(request) => Some(request),
        _ => None,
    }
}

fn database(kind: &EventKind) -> Option<&DatabaseMessage> {
    match transaction(kind)? {
        Transaction::Database(message) => Some(message),
        _ => None,
    }
}

fn word(text: Option<&Arc<str>>) -> Option<Cow<'_, str>> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(cut(text).into())
}

fn of_product(product: &str, text: &str) -> Option<Cow<'static, str>> {
    (!text.is_empty()).then(|| format!("{product} {}", cut(text)).into())
}

/// At most [`MAX_WORD`] bytes of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_WORD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The repository that a request to a registry is about, and whether it is pushed to (OCI Distribution Specification
/// 1.1): `/v2/<name>/manifests/<reference>`, `/v2/<name>/blobs/<digest>`, `/v2/<name>/blobs/uploads/…`.
fn repository(request: &HttpRequest) -> Option<(&str, bool)> {
    let rest = request.path.strip_prefix("/v2/")?;
    let (name, after) = ["/manifests/", "/blobs/"]
        .iter()
        .find_map(|part| rest.rsplit_once(part))?;
    let name = name.strip_suffix("/blobs").unwrap_or(name);
    if name.is_empty() {
        return None;
    }
    match &*request.method {
        // An upload's state is asked for by GET, too.
        "GET" | "HEAD" => (!after.starts_with("uploads/")).then_some((name, false)),
        "POST" | "PUT" | "PATCH" => Some((name, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.vocabulary as usize, at, "{}", row.name);
            assert_eq!(Vocabulary::from_name(row.name), Some(row.vocabulary));
        }
    }

    #[test]
    fn repositories_are_read_from_requests_to_a_registry() {
        let of = |method: &str, path: &str| {
            let request = HttpRequest {
                method: method.into(),
                path: path.into(),
                ..HttpRequest::default()
            };
            repository(&request).map(|(name, pushed)| (name.to_owned(), pushed))
        };
        let pulled = |name: &str| Some((name.to_owned(), false));
        let pushed = |name: &str| Some((name.to_owned(), true));
        assert_eq!(of("GET", "/v2/prod/api/manifests/v1"), pulled("prod/api"));
        assert_eq!(of("HEAD", "/v2/api/blobs/sha256:00"), pulled("api"));
        assert_eq!(
            of("POST", "/v2/ci/tools/blobs/uploads/"),
            pushed("ci/tools")
        );
        assert_eq!(
            of("PATCH", "/v2/ci/tools/blobs/uploads/7"),
            pushed("ci/tools")
        );
        assert_eq!(
            of("PUT", "/v2/ci/tools/manifests/latest"),
            pushed("ci/tools")
        );
        for (method, path) in [
            ("GET", "/v2/"),
            ("GET", "/v2/_catalog"),
            ("GET", "/v2/api/tags/list"),
            ("GET", "/v2/api/blobs/uploads/7"),
            ("GET", "/v2//manifests/x"),
            ("GET", "/manifests/x"),
        ] {
            assert_eq!(of(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let long = "é".repeat(200);
        assert_eq!(cut(&long).len(), MAX_WORD);
        assert!(cut(&format!("a{long}")).len() < MAX_WORD);
    }
}
