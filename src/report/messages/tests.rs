//! Every kind as it is published.

use super::*;
use crate::alert::testing::{at, external, flow, pod};
use crate::dissect::{
    Carried, Content, DatabaseEvent, DatabaseMessage, DnsAnswer, DnsMessage, FtpMessage,
    HttpRequest, HttpResponse, Login, Marks, SshMessage, StatementClass, StratumMessage,
    TlsClientHello, TlsServerHello, Transaction, TunnelOpened,
};
use crate::flow::Direction;

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
            ..TlsClientHello::default()
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
        Transaction::Ftp(FtpMessage::Data {
            listener: Direction::Resp,
            address: None,
            port: 6446,
        }),
        Transaction::Ftp(FtpMessage::Transfer {
            verb: "STOR",
            path: Some("dump.sql".into()),
            accepted: true,
            by_hand: false,
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
