//! What dissectors report: closed types, so that a new protocol shows the compiler every reader.

use std::net::IpAddr;
use std::sync::Arc;

use super::http1::HttpExchange;
use super::tls::{TlsCertificate, TlsRecords};
use super::tunnel::{Carried, TunnelOpened};
use super::{CommandRun, Echo, FtpMessage, Login, Marks, Opening, SecretMark, StratumMessage};
use crate::flow::Direction;

/// One message or exchange of an application protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transaction {
    /// A DNS message, query or response.
    Dns(DnsMessage),
    /// A TLS client hello.
    TlsClient(TlsClientHello),
    /// A TLS server hello.
    TlsServer(TlsServerHello),
    /// A certificate, where it is in clear (TLS 1.2 and before).
    TlsCertificate(TlsCertificate),
    /// The sizes of the first encrypted records of a connection.
    TlsRecords(TlsRecords),
    /// An HTTP/1 request's head.
    HttpRequest(HttpRequest),
    /// An HTTP/1 response's head.
    HttpResponse(HttpResponse),
    /// An HTTP/1 exchange in which the client sent a body, or that took long.
    HttpExchange(HttpExchange),
    /// A command asked for over HTTP/1, or answered.
    Command(CommandRun),
    /// A connection was handed over to another conversation.
    TunnelOpened(TunnelOpened),
    /// What was understood of that other conversation.
    Carried(Carried),
    /// A step of a conversation with a database.
    Database(DatabaseMessage),
    /// What is in clear of an SSH connection.
    Ssh(SshMessage),
    /// What a direction looks like that nobody recognises.
    Opening(Opening),
    /// A login over one of the old text protocols, or to a directory.
    Login(Login),
    /// A step of an FTP session that moves files.
    Ftp(FtpMessage),
    /// A step of a miner's conversation with its pool.
    Stratum(StratumMessage),
    /// A ping that differs from the one before.
    Echo(Echo),
}

/// A DNS message (RFC 1035) reduced to its first question and its answers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DnsMessage {
    /// Transaction id.
    pub id: u16,
    /// Who sent it.
    pub direction: Direction,
    /// Whether it is a response.
    pub response: bool,
    /// What is asked for, or was.
    pub operation: DnsOperation,
    /// The first question's name: lower-case, no trailing dot, bytes outside printable ASCII (and `.` or `\` inside a
    /// label) as `\DDD` (RFC 4343). Empty for the root or when there was no question.
    pub name: Arc<str>,
    /// The name's length on the wire in bytes, without the root's zero byte.
    pub name_len: u16,
    /// The first question's type (1 A, 16 TXT, 10 NULL, …).
    pub query_type: u16,
    /// Response code with the extended bits of EDNS.
    pub rcode: u16,
    /// Answers of types A, AAAA, CNAME; at most 32.
    pub answers: Vec<DnsAnswer>,
    /// Bytes of record data over all answers, of any type: what a channel could carry downstream.
    pub answer_bytes: u32,
    /// Tells answers apart: the same records, in whatever order and for however long, have the same.
    pub answer_digest: u64,
    /// How many whole answer records the message holds.
    pub answer_count: u16,
    /// The smallest TTL of an answer in seconds.
    pub ttl: Option<u32>,
    /// UDP size offered by EDNS, if any.
    pub edns_size: Option<u16>,
    /// What a question's name hides.
    pub hidden: Option<Hidden>,
}

/// What a DNS message is about (RFC 6895 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum DnsOperation {
    /// To look something up; an inverse query and a server's status are kinds of that.
    #[default]
    Query,
    /// A server tells another that a zone has changed (RFC 1996). The question names the zone.
    Notify,
    /// Somebody changes a zone (RFC 2136). The question names the zone.
    Update,
}

impl DnsOperation {
    /// Its name in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Query => "QUERY",
            Self::Notify => "NOTIFY",
            Self::Update => "UPDATE",
        }
    }
}

/// What a name turns out to hold once decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hidden {
    /// So many bytes that read as text.
    Text {
        /// Bytes decoded.
        bytes: u8,
    },
    /// The beginning of a file.
    File {
        /// Its format.
        kind: &'static str,
    },
}

/// An answer that says where a name leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DnsAnswer {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME, in the form of [`DnsMessage::name`].
    Alias(Arc<str>),
}

/// What a TLS client says of itself (RFC 8446 4.1.2, RFC 5246 7.4.1.2).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsClientHello {
    /// Server name (RFC 6066), lower-case; at most 255 bytes.
    pub sni: Option<Arc<str>>,
    /// Protocols offered by ALPN, at most 16.
    pub alpn: Vec<Arc<str>>,
    /// Highest version offered, as on the wire (0x0304 is TLS 1.3).
    pub version: u16,
    /// JA4 fingerprint (FoxIO, BSD-3-Clause): `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    /// Empty for a hello in the framing of SSL 2.0.
    pub ja4: Arc<str>,
    /// Whether the hello came in the framing of SSL 2.0.
    pub ssl2: bool,
    /// Whether another protocol went on so, as its ends agreed in clear (STARTTLS and its like).
    pub upgraded: bool,
}

/// What a TLS server chose.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsServerHello {
    /// Version chosen, as on the wire.
    pub version: u16,
    /// Cipher suite chosen; 0 in SSL 2.0, whose clients choose.
    pub cipher: u16,
    /// Protocol chosen by ALPN, where it is in clear (TLS 1.2 and before).
    pub alpn: Option<Arc<str>>,
}

/// The head of an HTTP/1 request (RFC 9112). No value of a secret header is ever kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HttpRequest {
    /// Method, upper-case as sent; at most 32 bytes.
    pub method: Arc<str>,
    /// The host asked for (the target's, else the Host header's): lower-case, without port or an IPv6 address's brackets.
    pub host: Option<Arc<str>>,
    /// The port in the Host header, if it names one and the target isn't a proxy's.
    pub host_port: Option<u16>,
    /// The path without its query, at most 256 bytes; for CONNECT the `host:port` asked for.
    pub path: Arc<str>,
    /// Length of the whole request target in bytes, query included.
    pub target_len: u32,
    /// Whether the target names scheme and host itself, as only proxies are asked (RFC 9112 3.2.2).
    pub for_proxy: bool,
    /// User-Agent, at most 256 bytes.
    pub user_agent: Option<Arc<str>>,
    /// Declared body length.
    pub content_length: Option<u64>,
    /// Protocol asked for by `Upgrade`, lower-case.
    pub upgrade: Option<Arc<str>>,
    /// How the client shows who it is, to the server or else to a proxy: `basic`, `bearer`, `key`, `digest`, `negotiate`,
    /// `ntlm`, `aws`, or `other`.
    pub authorization: Option<&'static str>,
    /// Whether a proxy says on whose behalf it asks.
    pub forwarded: bool,
    /// A tunnel that the request gives away: `httptunnel`, `reGeorg`.
    pub tool: Option<&'static str>,
    /// A mark of what it shows, where that is the same for the same user and password or for the same key: for `basic`,
    /// `bearer` and `key`. Of a signed token only the header is marked, which stays when the token is renewed.
    pub secret: Option<SecretMark>,
    /// Signs of SQL injection in the parameters of its target.
    pub injection: Marks,
}

/// The head of an HTTP/1 response.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Server header, at most 256 bytes.
    pub server: Option<Arc<str>>,
    /// Declared body length.
    pub content_length: Option<u64>,
    /// Media type without parameters, lower-case.
    pub content_type: Option<Arc<str>>,
    /// Mark of the body of the request that this answers, if there was one, and it was short: whether a form is the same as
    /// one before.
    pub asked: Option<SecretMark>,
    /// Whether that body had a field for a password.
    pub to_login: bool,
}

/// A step of a conversation with a database, of whatever product. No password, key, literal or row is ever kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseMessage {
    /// The protocol's product, as in the flow's application: `redis`, `postgresql`, `mysql`, `mssql`, `mongodb`,
    /// `memcached`, `cassandra`, `clickhouse`, `oracle`; over HTTP also `elasticsearch`, `etcd`.
    pub product: &'static str,
    /// What happened.
    pub event: DatabaseEvent,
}

/// What client or server of a database did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseEvent {
    /// The server said what it is, or agreed to go on encrypted (then nothing follows).
    Hello {
        /// Its version as it names it, at most 64 bytes.
        version: Option<Arc<str>>,
    },
    /// The client names itself to log in.
    Login {
        /// User, at most 64 bytes.
        user: Option<Arc<str>>,
        /// Database asked for, at most 64 bytes.
        database: Option<Arc<str>>,
        /// Application, else driver, as the client calls itself; at most 64 bytes.
        client: Option<Arc<str>>,
    },
    /// A mark of the password just shown, where it was in clear.
    Secret(SecretMark),
    /// The server let the client in, or didn't.
    LoginResult {
        /// Whether it did.
        success: bool,
        /// The product's own error: SQLSTATE `28P01`, MySQL `1045`, Redis `WRONGPASS`, SQL Server `18456`, MongoDB
        /// `18`, Cassandra `0x0100`, ClickHouse `516`, Oracle `ORA-01017`, Memcached `0x20`; at most 16 bytes.
        code: Option<Arc<str>>,
    },
    /// The client asked for something (SQL text, or a command).
    Statement {
        /// What it is about.
        class: StatementClass,
        /// What can be said of its form.
        marks: Marks,
        /// Its first keyword, or the command with its subcommand, as the product writes it: `SELECT`, `CONFIG SET`,
        /// `listDatabases`. `OTHER` if not known, for what isn't a keyword may be a secret.
        verb: &'static str,
        /// Equal for statements that differ in literals, case, spaces and comments only; the same on every machine.
        fingerprint: u64,
        /// Length of the text, or of the command on the wire, in bytes.
        length: u32,
    },
    /// The server answered a statement; one answer each, or one for each part of a statement that has several. Without a
    /// statement, the server complains of what it didn't understand (MySQL's 1156 when a client leaves at the greeting).
    Result {
        /// Rows returned or changed, where the protocol says.
        rows: Option<u64>,
        /// Bytes of rows or values on the wire.
        bytes: u64,
        /// The product's own error, as in [`DatabaseEvent::LoginResult`].
        error: Option<Arc<str>>,
    },
}

/// What a statement is about. In ascending order of interest: of several that fit, the last is given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StatementClass {
    /// Anything else: settings of the session, pings.
    Other,
    /// Begin, commit, roll back.
    Transaction,
    /// Reads data.
    Read,
    /// Changes data.
    Write,
    /// Changes tables and the like.
    Schema,
    /// Reads what there is: tables, keys, databases, the server's state.
    Catalogue,
    /// Changes users, rights, the server, or what it replicates.
    Admin,
    /// Reads where passwords and users are kept.
    CredentialTable,
    /// Reaches the server's files or programs, or makes it wait (as blind injection does).
    Abuse,
}

impl StatementClass {
    /// Its name in reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Transaction => "transaction",
            Self::Read => "read",
            Self::Write => "write",
            Self::Schema => "schema",
            Self::Catalogue => "catalogue",
            Self::Admin => "admin",
            Self::CredentialTable => "credential-table",
            Self::Abuse => "abuse",
        }
    }
}

/// The steps of an SSH connection (RFC 4253) that are in clear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SshMessage {
    /// The client's software and comments, as in `OpenSSH_9.6p1 Debian-3`; at most 128 bytes.
    Client(Arc<str>),
    /// The server's, likewise.
    Server(Arc<str>),
    /// Both ends took new keys into use: logins and all that follows is hidden.
    Encrypted,
}
