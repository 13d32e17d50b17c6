//! Transactions to the published form: one function a kind.

use std::sync::Arc;

use super::{
    DatabaseStepV1, DatabaseV1, DnsV1, FtpV1, HttpRequestV1, HttpResponseV1, LoginV1, MessageV1,
    SaidV1, SshV1, StratumV1, TlsCertificateV1, TlsClientV1, TlsServerV1, TunnelOpenedV1,
};
use crate::alert::{EndV1, UtcTime, flow_community_id};
use crate::dissect::{
    Content, DatabaseEvent, DatabaseMessage, DnsAnswer, DnsMessage, DnsOperation, FtpMessage,
    HttpRequest, HttpResponse, Login, SshMessage, StratumMessage, TlsCertificate, TlsClientHello,
    TlsServerHello, Transaction, TunnelOpened,
};
use crate::event::FlowInfo;
use crate::flow::Direction;
use crate::report::FlowEndV1;
use crate::time::Timestamp;

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
        Transaction::Ftp(message) => SaidV1::Ftp(ftp(message)),
        Transaction::Stratum(message) => SaidV1::Stratum(stratum(message)),
        Transaction::TunnelOpened(tunnel) => SaidV1::TunnelOpened(opened(tunnel)),
        Transaction::TlsRecords(_)
        | Transaction::HttpExchange(_)
        | Transaction::Command(_)
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
        operation: match message.operation {
            DnsOperation::Query => None,
            other => Some(other.name().to_ascii_lowercase()),
        },
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
        0x0002 => "SSL 2.0".to_owned(),
        0x0300 => "SSL 3.0".to_owned(),
        0x0301..=0x0304 => format!("TLS 1.{}", version - 0x0301),
        other => format!("{other:#06x}"),
    }
}

const fn role(end: Direction) -> &'static str {
    match end {
        Direction::Orig => "client",
        Direction::Resp => "server",
    }
}

fn ftp(message: &FtpMessage) -> FtpV1 {
    match message {
        FtpMessage::Data {
            listener,
            address,
            port,
        } => FtpV1::Data {
            listener: role(*listener).to_owned(),
            address: *address,
            port: *port,
        },
        FtpMessage::Transfer {
            verb,
            path,
            accepted,
            ..
        } => FtpV1::Transfer {
            verb: (*verb).to_owned(),
            path: owned(path.as_ref()),
            accepted: *accepted,
        },
    }
}

fn certificate(shown: &TlsCertificate) -> TlsCertificateV1 {
    TlsCertificateV1 {
        of: role(shown.direction).to_owned(),
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
