//! The published form of what was said in a flow: `spanwatch.message/1`, one JSON object a line.
//!
//! ```json
//! {"schema":"spanwatch.message/1","time":"RFC 3339","community_id":"1:…","proto":"udp","app":"dns","src":{…an end, as in the flow log…},"dst":{…},
//!  "dns":{"response":true,"id":7,"name":"shop.example","type":1,"rcode":0,"answers":["192.0.2.7"],"answer_count":1,"ttl":30}}
//! ```
//!
//! Beside those fields each has one named after what was said ([`SaidV1`]): `dns`, `tls_client`, `http_request`, … `src` is
//! the end that began the flow, not the speaker. What was said inside another conversation bears the names of what
//! carried it (`carried_by`, the outermost first). Left out is whatever isn't known; never told are passwords, values, bodies, rows.
//! Names and meanings hold still within version 1; new fields may appear.

mod convert;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::FlowEndV1;
use crate::alert::UtcTime;

/// Something that was said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MessageV1 {
    /// Always `spanwatch.message/1`.
    pub schema: String,
    /// When its last byte was seen.
    pub time: UtcTime,
    /// The flow's Community ID, version 1, seed 0.
    pub community_id: String,
    /// Transport: `tcp`, `udp`.
    pub proto: String,
    /// The flow's application protocol, once recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The end that began.
    pub src: FlowEndV1,
    /// The end that was addressed.
    pub dst: FlowEndV1,
    /// The service address (or node port) that was called, if `dst` was reached through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FlowEndV1>,
    /// The address by which `src` was let out or passed on, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<FlowEndV1>,
    /// Inside what it was said: `connect`, `websocket`, `socks`, `upgrade`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried_by: Vec<String>,
    /// What.
    #[serde(flatten)]
    pub said: SaidV1,
}

/// What was said; the variant's name is the field's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaidV1 {
    /// A DNS message (also of mDNS and LLMNR).
    Dns(DnsV1),
    /// A TLS client hello (also of QUIC).
    TlsClient(TlsClientV1),
    /// A TLS server hello.
    TlsServer(TlsServerV1),
    /// A certificate in clear.
    TlsCertificate(TlsCertificateV1),
    /// The head of an HTTP request.
    HttpRequest(HttpRequestV1),
    /// The head of an HTTP response.
    HttpResponse(HttpResponseV1),
    /// A step of a conversation with a database.
    Database(DatabaseV1),
    /// A step of an SSH connection.
    Ssh(SshV1),
    /// An attempt to log in, over a text protocol or to a directory.
    Login(LoginV1),
    /// A step of an FTP session that moves files.
    Ftp(FtpV1),
    /// A step of a miner's conversation with its pool.
    Stratum(StratumV1),
    /// The connection was handed over to another conversation.
    TunnelOpened(TunnelOpenedV1),
    /// What the conversation inside turned out to speak.
    Carries {
        /// By its name in `app`.
        protocol: String,
    },
}

/// A DNS message, by its first question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DnsV1 {
    /// Whether it is a response.
    pub response: bool,
    /// `notify` or `update`, where it isn't a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Transaction id.
    pub id: u16,
    /// The name asked for: lower-case, no trailing dot, bytes outside printable ASCII as `\DDD`.
    pub name: String,
    /// The type asked for, as a number.
    #[serde(rename = "type")]
    pub query_type: u16,
    /// Response code; of responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<u16>,
    /// Addresses and aliases answered, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Answer records of any type.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub answer_count: u16,
    /// The smallest TTL of an answer in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// A TLS client hello.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsClientV1 {
    /// Server name asked for, lower-case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Protocols offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// The highest version offered: `TLS 1.3`.
    pub version: String,
    /// JA4 fingerprint.
    pub ja4: String,
}

/// A TLS server hello.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsServerV1 {
    /// The version chosen.
    pub version: String,
    /// The cipher suite chosen, by its number.
    pub cipher: u16,
    /// The protocol chosen, where it is in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
}

/// A certificate, the first of its chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsCertificateV1 {
    /// Whose: `client` or `server`.
    pub of: String,
    /// The subject's common name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The DNS names it is for, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// For how many days it is valid in all.
    pub valid_days: u32,
}

/// The head of an HTTP request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HttpRequestV1 {
    /// Method as sent.
    pub method: String,
    /// The host asked for: lower-case, without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path without query, for CONNECT `host:port`.
    pub path: String,
    /// User-Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Declared body length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
    /// Protocol asked for by `Upgrade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    /// How the client shows who it is: `basic`, `bearer`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
}

/// The head of an HTTP response.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HttpResponseV1 {
    /// Status code.
    pub status: u16,
    /// Server header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Declared body length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
    /// Media type without parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// A step of a conversation with a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseV1 {
    /// The product, as in `app`; over HTTP also `elasticsearch`, `etcd`.
    pub product: String,
    /// What happened.
    #[serde(flatten)]
    pub step: DatabaseStepV1,
}

/// What happened, by `step`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum DatabaseStepV1 {
    /// The server said what it is.
    Hello {
        /// Its version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// The client named itself to log in.
    Login {
        /// User.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Database asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        database: Option<String>,
        /// What the client calls itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
    },
    /// The server let it in, or didn't.
    LoginResult {
        /// Whether it did.
        success: bool,
        /// The product's own error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// The client asked for something.
    Statement {
        /// `read`, `write`, `schema`, `catalogue`, `admin`, `credential-table`, `abuse`, `transaction`, `other`.
        class: String,
        /// Its first keyword, or the command.
        verb: String,
        /// What can be said of its form: `bulk-read`, `union-constants`, …
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marks: Vec<String>,
        /// Equal for statements that differ in literals and layout alone; 16 hex digits.
        fingerprint: String,
        /// Length in bytes.
        length: u32,
    },
    /// The server answered a statement.
    Result {
        /// Rows returned or changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<u64>,
        /// Bytes of rows or values.
        bytes: u64,
        /// The product's own error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// A step of an SSH connection; one of the fields is there, or it goes on encrypted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshV1 {
    /// The client's software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether all that follows is hidden.
    pub encrypted: bool,
}

/// An attempt to log in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoginV1 {
    /// `ftp`, `smtp`, `imap`, `pop3`, `ldap`, `socks`.
    pub protocol: String,
    /// Who, where it is in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the server let it in.
    pub success: bool,
    /// The server's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// A step of an FTP session that moves files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum FtpV1 {
    /// The ends agreed on where the next file or list goes over.
    Data {
        /// Which of them waits there: `client`, `server`.
        listener: String,
        /// Its address, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// Its port.
        port: u16,
    },
    /// The client asked to send or fetch a file.
    Transfer {
        /// `STOR`, `STOU` or `APPE` sends it, `RETR` fetches it.
        verb: String,
        /// The file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Whether the server let it.
        accepted: bool,
    },
}

/// A step of a miner's conversation with its pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StratumV1 {
    /// `login`, `login_result`, `job`, `submit`, `submit_result`.
    pub step: String,
    /// The mining program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether the pool agreed; of results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
}

/// A connection that was handed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TunnelOpenedV1 {
    /// `connect`, `websocket`, `upgrade`, `socks`.
    pub carrier: String,
    /// What a proxy was asked to reach, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the connection was upgraded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u16) -> bool {
    *count == 0
}
