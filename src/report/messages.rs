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

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::FlowEndV1;
use crate::alert::{EndV1, UtcTime, flow_community_id};
use crate::dissect::{
    Content, DatabaseEvent, DatabaseMessage, DnsAnswer, DnsMessage, HttpRequest, HttpResponse,
    Login, SshMessage, StratumMessage, TlsCertificate, TlsClientHello, TlsServerHello, Transaction,
    TunnelOpened,
};
use crate::event::FlowInfo;
use crate::flow::Direction;
use crate::time::Timestamp;

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

impl MessageV1 {
    /// The published form of a transaction; none of facts that are no message: sizes, looks, marks of secrets.
    pub fn new(
        flow: &FlowInfo,
        time: Timestamp,
        app: Option<&str>,
        transaction: &Transaction,
    ) -> Option<Self> {
        let mut carried_by = Vec::new();
        let mut inner = transaction;
        let said = loop {
            let Transaction::Carried(carried) = inner else {
                break said(inner)?;
            };
            carried_by.push(carried.carrier.to_owned());
            match &carried.content {
                Content::Message(message) => inner = message,
                Content::Protocol(name) => {
                    break SaidV1::Carries {
                        protocol: (*name).to_owned(),
                    };
                }
            }
        };
        let [src, dst] = EndV1::both(flow);
        Some(Self {
            schema: "spanwatch.message/1".to_owned(),
            time: UtcTime(time),
            community_id: flow_community_id(flow),
            proto: flow.protocol.to_string(),
            app: app.map(str::to_owned),
            src: FlowEndV1::new(&flow.orig, src.port),
            dst: FlowEndV1::new(&flow.resp, dst.port),
            service: flow.service.as_deref().map(FlowEndV1::lent),
            masquerade: flow.masquerade.as_deref().map(FlowEndV1::lent),
            carried_by,
            said,
        })
    }
}

fn said(transaction: &Transaction) -> Option<SaidV1> {
    Some(match transaction {
        Transaction::Dns(message) => SaidV1::Dns(dns(message)),
        Transaction::TlsClient(hello) => SaidV1::TlsClient(tls_client(hello)),
        Transaction::TlsServer(hello) => SaidV1::TlsServer(tls_server(hello)),
        Transaction::TlsCertificate(shown) => SaidV1::TlsCertificate(certificate(shown)),
        Transaction::HttpRequest(request) => SaidV1::HttpRequest(http_request(request)),
        Transaction::HttpResponse(response) => SaidV1::HttpResponse(http_response(response)),
        Transaction::Database(message) => SaidV1::Database(database(message)?),
        Transaction::Ssh(message) => SaidV1::Ssh(ssh(message)),
        Transaction::Login(attempt) => SaidV1::Login(login(attempt)),
        Transaction::Stratum(message) => SaidV1::Stratum(stratum(message)),
        Transaction::TunnelOpened(tunnel) => SaidV1::TunnelOpened(opened(tunnel)),
        Transaction::TlsRecords(_)
        | Transaction::HttpExchange(_)
        | Transaction::Carried(_)
        | Transaction::Opening(_)
        | Transaction::Echo(_) => return None,
    })
}

fn dns(message: &DnsMessage) -> DnsV1 {
    let answer = |answer: &DnsAnswer| match answer {
        DnsAnswer::Address(ip) => ip.to_string(),
        DnsAnswer::Alias(name) => name.to_string(),
    };
    DnsV1 {
        response: message.response,
        id: message.id,
        name: message.name.to_string(),
        query_type: message.query_type,
        rcode: message.response.then_some(message.rcode),
        answers: message.answers.iter().map(answer).collect(),
        answer_count: message.answer_count,
        ttl: message.ttl,
    }
}

fn tls_client(hello: &TlsClientHello) -> TlsClientV1 {
    TlsClientV1 {
        sni: owned(hello.sni.as_ref()),
        alpn: hello.alpn.iter().map(ToString::to_string).collect(),
        version: tls_version(hello.version),
        ja4: hello.ja4.to_string(),
    }
}

fn tls_server(hello: &TlsServerHello) -> TlsServerV1 {
    TlsServerV1 {
        version: tls_version(hello.version),
        cipher: hello.cipher,
        alpn: owned(hello.alpn.as_ref()),
    }
}

fn tls_version(version: u16) -> String {
    match version {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301..=0x0304 => format!("TLS 1.{}", version - 0x0301),
        other => format!("{other:#06x}"),
    }
}

fn certificate(shown: &TlsCertificate) -> TlsCertificateV1 {
    let of = match shown.direction {
        Direction::Orig => "client",
        Direction::Resp => "server",
    };
    TlsCertificateV1 {
        of: of.to_owned(),
        subject: owned(shown.subject.as_ref()),
        issuer: owned(shown.issuer.as_ref()),
        names: shown.names.iter().map(ToString::to_string).collect(),
        valid_days: shown.valid_days,
    }
}

fn http_request(request: &HttpRequest) -> HttpRequestV1 {
    HttpRequestV1 {
        method: request.method.to_string(),
        host: owned(request.host.as_ref()),
        path: request.path.to_string(),
        user_agent: owned(request.user_agent.as_ref()),
        content_length: request.content_length,
        upgrade: owned(request.upgrade.as_ref()),
        authorization: request.authorization.map(str::to_owned),
    }
}

fn http_response(response: &HttpResponse) -> HttpResponseV1 {
    HttpResponseV1 {
        status: response.status,
        server: owned(response.server.as_ref()),
        content_length: response.content_length,
        content_type: owned(response.content_type.as_ref()),
    }
}

fn database(message: &DatabaseMessage) -> Option<DatabaseV1> {
    let step = match &message.event {
        DatabaseEvent::Hello { version } => DatabaseStepV1::Hello {
            version: owned(version.as_ref()),
        },
        DatabaseEvent::Login {
            user,
            database,
            client,
        } => DatabaseStepV1::Login {
            user: owned(user.as_ref()),
            database: owned(database.as_ref()),
            client: owned(client.as_ref()),
        },
        DatabaseEvent::Secret(_) => return None,
        DatabaseEvent::LoginResult { success, code } => DatabaseStepV1::LoginResult {
            success: *success,
            code: owned(code.as_ref()),
        },
        DatabaseEvent::Statement {
            class,
            marks,
            verb,
            fingerprint,
            length,
        } => DatabaseStepV1::Statement {
            class: class.label().to_owned(),
            verb: (*verb).to_owned(),
            marks: marks
                .iter_names()
                .map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"))
                .collect(),
            fingerprint: format!("{fingerprint:016x}"),
            length: *length,
        },
        DatabaseEvent::Result { rows, bytes, error } => DatabaseStepV1::Result {
            rows: *rows,
            bytes: *bytes,
            error: owned(error.as_ref()),
        },
    };
    Some(DatabaseV1 {
        product: message.product.to_owned(),
        step,
    })
}

fn ssh(message: &SshMessage) -> SshV1 {
    let (client, server) = match message {
        SshMessage::Client(software) => (Some(software.to_string()), None),
        SshMessage::Server(software) => (None, Some(software.to_string())),
        SshMessage::Encrypted => (None, None),
    };
    SshV1 {
        encrypted: client.is_none() && server.is_none(),
        client,
        server,
    }
}

fn login(attempt: &Login) -> LoginV1 {
    LoginV1 {
        protocol: attempt.protocol.to_owned(),
        user: owned(attempt.user.as_ref()),
        success: attempt.success,
        code: owned(attempt.code.as_ref()),
    }
}

fn stratum(message: &StratumMessage) -> StratumV1 {
    let (step, agent, success) = match message {
        StratumMessage::Login { agent } => ("login", agent.as_ref(), None),
        StratumMessage::LoginResult { success } => ("login_result", None, Some(*success)),
        StratumMessage::Job => ("job", None, None),
        StratumMessage::Submit => ("submit", None, None),
        StratumMessage::SubmitResult { accepted } => ("submit_result", None, Some(*accepted)),
    };
    StratumV1 {
        step: step.to_owned(),
        agent: owned(agent),
        success,
    }
}

fn opened(tunnel: &TunnelOpened) -> TunnelOpenedV1 {
    TunnelOpenedV1 {
        carrier: tunnel.carrier.to_owned(),
        target: owned(tunnel.target.as_ref()),
        protocol: owned(tunnel.protocol.as_ref()),
    }
}

fn owned(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u16) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::{at, external, flow, pod};
    use crate::dissect::{Carried, Marks, StatementClass};

    fn every_kind() -> Vec<Transaction> {
        let database = |event| {
            Transaction::Database(DatabaseMessage {
                product: "postgresql",
                event,
            })
        };
        vec![
            Transaction::Dns(DnsMessage {
                response: true,
                name: "shop.example".into(),
                query_type: 1,
                answers: vec![
                    DnsAnswer::Alias("web.example".into()),
                    DnsAnswer::Address([192, 0, 2, 7].into()),
                ],
                answer_count: 2,
                ttl: Some(30),
                ..DnsMessage::default()
            }),
            Transaction::TlsClient(TlsClientHello {
                sni: Some("shop.example".into()),
                alpn: vec!["h2".into()],
                version: 0x0304,
                ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
            }),
            Transaction::TlsServer(TlsServerHello {
                version: 0x0303,
                cipher: 0xc02f,
                alpn: None,
            }),
            Transaction::HttpRequest(HttpRequest {
                method: "GET".into(),
                host: Some("shop.example".into()),
                path: "/cart".into(),
                authorization: Some("basic"),
                ..HttpRequest::default()
            }),
            Transaction::HttpResponse(HttpResponse {
                status: 401,
                ..HttpResponse::default()
            }),
            database(DatabaseEvent::Login {
                user: Some("app".into()),
                database: Some("orders".into()),
                client: None,
            }),
            database(DatabaseEvent::LoginResult {
                success: false,
                code: Some("28P01".into()),
            }),
            database(DatabaseEvent::Statement {
                class: StatementClass::CredentialTable,
                marks: Marks::BULK_READ,
                verb: "SELECT",
                fingerprint: 7,
                length: 30,
            }),
            database(DatabaseEvent::Result {
                rows: Some(3),
                bytes: 90,
                error: None,
            }),
            Transaction::Ssh(SshMessage::Encrypted),
            Transaction::Login(Login {
                protocol: "ftp",
                user: Some("app".into()),
                success: false,
                code: Some("530".into()),
            }),
            Transaction::Stratum(StratumMessage::SubmitResult { accepted: true }),
            Transaction::TunnelOpened(TunnelOpened {
                carrier: "connect",
                target: Some("shop.example:443".into()),
                ..TunnelOpened::default()
            }),
            Transaction::Carried(Carried {
                carrier: "connect",
                content: Content::Protocol("ssh"),
            }),
            Transaction::Carried(Carried {
                carrier: "connect",
                content: Content::Message(Box::new(Transaction::Ssh(SshMessage::Client(
                    "OpenSSH_9.6".into(),
                )))),
            }),
        ]
    }

    #[test]
    fn messages_look_as_documented_and_read_back() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let info = flow(1, &cart, &external("203.0.113.9"), 443);
        let lines: Vec<String> = every_kind()
            .iter()
            .map(|said| {
                let message = MessageV1::new(&info, at(1), Some("tls"), said).unwrap();
                let line = serde_json::to_string(&message).unwrap();
                assert_eq!(serde_json::from_str::<MessageV1>(&line).unwrap(), message);
                assert!(!line.contains("null"), "{line}");
                line
            })
            .collect();
        // The ends are those of the flow log, which are shown there.
        let short: Vec<&str> = lines
            .iter()
            .map(|line| line.rsplit_once(r#""attribution":"external"},"#).unwrap().1)
            .collect();
        insta::assert_snapshot!(short.join("\n"));
    }

    #[test]
    fn facts_that_are_no_messages_are_left_out() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let info = flow(1, &cart, &external("203.0.113.9"), 443);
        let exchange = Transaction::HttpExchange(crate::dissect::HttpExchange::default());
        assert_eq!(MessageV1::new(&info, at(1), None, &exchange), None);
    }
}
