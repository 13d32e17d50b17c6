//! What a conversation was about, in one line, of what its dissector told: for whoever reads a list of flows.
//!
//! ```text
//! GET shop.example/cart 200 ×3; POST shop.example/pay 502; 4 more
//! login app@orders ok; SELECT ×12
//! ```

use std::borrow::Cow;

use super::{
    Carried, Content, DatabaseEvent, DnsAnswer, DnsMessage, DnsOperation, EchoFill, FtpMessage,
    HttpRequest, Login, Opening, ShellMarks, SshMessage, StratumMessage, TlsClientHello,
    Transaction, TunnelOpened,
};

/// Phrases kept; the others are counted.
const MAX_PHRASES: usize = 3;
/// Bytes of a phrase, without its answer.
const MAX_PHRASE: usize = 160;
/// Bytes of an answer.
const MAX_ANSWER: usize = 64;

/// The gist of a flow so far; at most about 700 bytes.
#[derive(Clone, Default, Debug)]
pub struct Gist {
    phrases: Vec<Phrase>,
    /// What was said beyond the phrases that are kept.
    more: u64,
    /// Which phrase an answer belongs to; none for one that wasn't kept.
    latest: Option<usize>,
}

#[derive(Clone, Debug)]
struct Phrase {
    text: String,
    answer: Option<String>,
    times: u64,
}

impl Gist {
    /// Takes what a dissector told.
    pub fn add(&mut self, transaction: &Transaction) {
        match transaction {
            Transaction::Dns(message) if message.response => self.dns_answer(message),
            Transaction::Dns(message) => self.say(&dns_question(message)),
            Transaction::TlsClient(hello) => self.say(&client_hello(hello)),
            Transaction::TlsServer(hello) => self.answer(tls_version(hello.version)),
            Transaction::HttpRequest(request) => self.say(&http(request)),
            Transaction::HttpResponse(response) => self.answer(&response.status.to_string()),
            Transaction::TunnelOpened(tunnel) => self.say(&opened(tunnel)),
            Transaction::Carried(carried) => self.carried(carried),
            Transaction::Database(message) => self.database(&message.event),
            Transaction::Ssh(SshMessage::Client(software)) => {
                self.say(&format!("client {software}"));
            }
            Transaction::Ssh(SshMessage::Server(software)) => {
                self.say(&format!("server {software}"));
            }
            Transaction::Ssh(SshMessage::Encrypted) => self.answer("encrypted"),
            Transaction::Opening(opening) => {
                let text = looks(opening);
                if !self.phrases.iter().any(|phrase| phrase.text == text) {
                    self.say(text);
                }
            }
            Transaction::Login(login) => self.login(login),
            Transaction::Ftp(FtpMessage::Transfer {
                verb,
                path,
                accepted,
                ..
            }) => {
                self.say(&format!("{verb} {}", path.as_deref().unwrap_or_default()));
                self.answer(&verdict(*accepted, None));
            }
            Transaction::Stratum(message) => self.stratum(message),
            Transaction::Echo(echo) if echo.request => {
                self.say(&format!("{} bytes of {}", echo.len, fill(echo.fill)));
            }
            Transaction::TlsCertificate(_)
            | Transaction::TlsRecords(_)
            | Transaction::HttpExchange(_)
            | Transaction::Command(_)
            | Transaction::Ftp(FtpMessage::Data { .. })
            | Transaction::Echo(_) => {}
        }
    }

    /// The line; none if nothing was told.
    pub fn line(&self) -> Option<String> {
        let mut line = String::new();
        for phrase in &self.phrases {
            let gap = if line.is_empty() { "" } else { "; " };
            line.extend([gap, phrase.text.as_str()]);
            if let Some(answer) = &phrase.answer {
                line.extend([" ", answer.as_str()]);
            }
            if phrase.times > 1 {
                line.extend([" ×", &phrase.times.to_string()]);
            }
        }
        if self.more > 0 {
            line.extend(["; ", &self.more.to_string(), " more"]);
        }
        (!line.is_empty()).then_some(line)
    }

    fn say(&mut self, text: &str) {
        let text = cut(text, MAX_PHRASE);
        self.latest = self.phrases.iter().position(|phrase| phrase.text == text);
        if let Some(said) = self.latest.and_then(|at| self.phrases.get_mut(at)) {
            said.times = said.times.saturating_add(1);
        } else if self.phrases.len() < MAX_PHRASES {
            self.latest = Some(self.phrases.len());
            self.phrases.push(Phrase {
                text: text.to_owned(),
                answer: None,
                times: 1,
            });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The first answer to a phrase is kept.
    fn answer(&mut self, text: &str) {
        if let Some(said) = self.latest.and_then(|at| self.phrases.get_mut(at)) {
            said.answer
                .get_or_insert_with(|| cut(text, MAX_ANSWER).to_owned());
        } else if self.phrases.is_empty() {
            // The capture has the answer alone.
            self.say(text);
        }
    }

    /// Answers name their question, and needn't keep its order.
    fn dns_answer(&mut self, message: &DnsMessage) {
        let question = dns_question(message);
        self.latest = self
            .phrases
            .iter()
            .position(|phrase| phrase.text == cut(&question, MAX_PHRASE));
        if self.phrases.is_empty() {
            // The capture has the answer alone.
            self.say(&question);
        }
        self.answer(&dns_answer(message));
    }

    fn carried(&mut self, carried: &Carried) {
        match &carried.content {
            Content::Protocol(name) => {
                self.say(&format!("{name} inside"));
            }
            Content::Message(message) => match &**message {
                Transaction::Opening(_) => {}
                inner => self.add(inner),
            },
        }
    }

    fn database(&mut self, event: &DatabaseEvent) {
        match event {
            DatabaseEvent::Hello { version } => {
                if let Some(version) = version {
                    self.say(&format!("server {version}"));
                }
            }
            DatabaseEvent::Login { user, database, .. } => {
                let user = user.as_deref().unwrap_or("?");
                self.say(&match database.as_deref() {
                    Some(database) => format!("login {user}@{database}"),
                    None => format!("login {user}"),
                });
            }
            DatabaseEvent::Secret(_) => {}
            DatabaseEvent::LoginResult { success, code } => {
                self.answer(&verdict(*success, code.as_deref()));
            }
            DatabaseEvent::Statement { verb, .. } => self.say(verb),
            DatabaseEvent::Result { error, .. } => {
                if let Some(error) = error {
                    self.answer(&format!("error {error}"));
                }
            }
        }
    }

    fn login(&mut self, login: &Login) {
        let user = login.user.as_deref().unwrap_or("?");
        self.say(&format!("login {user}"));
        self.answer(&verdict(login.success, login.code.as_deref()));
    }

    fn stratum(&mut self, message: &StratumMessage) {
        match message {
            StratumMessage::Login { agent } => self.say(&match agent {
                Some(agent) => format!("miner {agent}"),
                None => "miner".to_owned(),
            }),
            StratumMessage::LoginResult { success } => self.answer(&verdict(*success, None)),
            StratumMessage::Job => self.say("job"),
            StratumMessage::Submit => self.say("submit"),
            StratumMessage::SubmitResult { accepted } => {
                self.answer(if *accepted { "accepted" } else { "rejected" });
            }
        }
    }
}

/// The longest beginning of at most `limit` bytes that is whole text.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

fn verdict(success: bool, code: Option<&str>) -> String {
    match (success, code) {
        (true, _) => "ok".to_owned(),
        (false, Some(code)) => format!("denied {code}"),
        (false, None) => "denied".to_owned(),
    }
}

fn dns_question(message: &DnsMessage) -> String {
    let name = match &*message.name {
        "" => ".",
        name => name,
    };
    let asked = match message.operation {
        DnsOperation::Query => dns_type(message.query_type),
        other => other.name().into(),
    };
    format!("{asked} {name}")
}

fn dns_answer(message: &DnsMessage) -> String {
    let named = match message.rcode {
        0 if message.operation != DnsOperation::Query => "ok",
        0 => "",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        5 => "REFUSED",
        other => return format!("rcode {other}"),
    };
    if !named.is_empty() {
        return named.to_owned();
    }
    let address = message.answers.iter().find_map(|answer| match answer {
        DnsAnswer::Address(ip) => Some(ip.to_string()),
        DnsAnswer::Alias(_) => None,
    });
    match (address, message.answer_count) {
        (Some(ip), 0 | 1) => ip,
        (Some(ip), more) => format!("{ip} +{}", more.saturating_sub(1)),
        (None, 0) => "no data".to_owned(),
        (None, 1) => "1 record".to_owned(),
        (None, count) => format!("{count} records"),
    }
}

fn dns_type(number: u16) -> Cow<'static, str> {
    let name = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        41 => "OPT",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        // RFC 3597 5.
        other => return format!("TYPE{other}").into(),
    };
    name.into()
}

fn client_hello(hello: &TlsClientHello) -> String {
    let mut text = hello.sni.as_deref().unwrap_or("no name").to_owned();
    for (index, protocol) in hello.alpn.iter().enumerate() {
        text.push_str(if index == 0 { " " } else { "," });
        text.push_str(protocol);
    }
    text.extend([" ", &*hello.ja4]);
    text
}

const fn tls_version(version: u16) -> &'static str {
    match version {
        0x0002 => "SSL 2.0",
        0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        _ => "TLS ?",
    }
}

fn http(request: &HttpRequest) -> String {
    let host = request.host.as_deref().unwrap_or_default();
    if &*request.method == "CONNECT" {
        return format!("CONNECT {}", request.path);
    }
    format!("{} {host}{}", request.method, request.path)
}

fn opened(tunnel: &TunnelOpened) -> String {
    let what = tunnel.protocol.as_deref().unwrap_or(tunnel.carrier);
    match tunnel.target.as_deref() {
        Some(target) => format!("{what} to {target}"),
        None => format!("{what} opened"),
    }
}

const fn looks(opening: &Opening) -> &'static str {
    let shell = ShellMarks::PROMPT | ShellMarks::NO_TERMINAL | ShellMarks::WINDOWS;
    if opening.shell.any(shell) {
        return "a shell speaks";
    }
    if opening.shell.any(ShellMarks::COMMAND) {
        return "shell commands";
    }
    match opening.mix {
        super::ByteMix::Few => "few bytes",
        super::ByteMix::Text => "text",
        super::ByteMix::Structured => "binary",
        super::ByteMix::Random => "random bytes",
    }
}

const fn fill(fill: EchoFill) -> &'static str {
    match fill {
        EchoFill::None => "nothing",
        EchoFill::Pattern => "pattern",
        EchoFill::Text => "text",
        EchoFill::Binary => "data",
        EchoFill::Random => "random data",
        EchoFill::IpPacket => "an IP packet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::{DatabaseMessage, HttpResponse, StatementClass};

    fn line(transactions: &[Transaction]) -> String {
        let mut gist = Gist::default();
        for transaction in transactions {
            gist.add(transaction);
        }
        gist.line().unwrap_or_default()
    }

    fn get(path: &str) -> Transaction {
        Transaction::HttpRequest(HttpRequest {
            method: "GET".into(),
            host: Some("shop.example".into()),
            path: path.into(),
            ..HttpRequest::default()
        })
    }

    fn status(status: u16) -> Transaction {
        Transaction::HttpResponse(HttpResponse {
            status,
            ..HttpResponse::default()
        })
    }

    fn sql(event: DatabaseEvent) -> Transaction {
        Transaction::Database(DatabaseMessage {
            product: "postgresql",
            event,
        })
    }

    fn statement(verb: &'static str) -> Transaction {
        sql(DatabaseEvent::Statement {
            class: StatementClass::Read,
            marks: crate::dissect::Marks::default(),
            verb,
            fingerprint: 1,
            length: 9,
        })
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(Gist::default().line(), None);
    }

    #[test]
    fn what_repeats_is_counted_and_what_is_too_much_too() {
        let said = [
            get("/cart"),
            status(200),
            get("/cart"),
            status(304),
            get("/pay"),
            status(502),
            get("/a"),
            get("/b"),
            status(404),
            get("/c"),
        ];
        assert_eq!(
            line(&said),
            "GET shop.example/cart 200 ×2; GET shop.example/pay 502; GET shop.example/a; 2 more"
        );
    }

    #[test]
    fn names_addresses_and_failures_are_told_of_dns() {
        let question = DnsMessage {
            name: "api.shop.example".into(),
            query_type: 1,
            ..DnsMessage::default()
        };
        let mut answer = DnsMessage {
            response: true,
            answers: vec![DnsAnswer::Address("10.1.2.3".parse().unwrap())],
            answer_count: 3,
            ..question.clone()
        };
        let asked = Transaction::Dns(question.clone());
        let told = |answer: &DnsMessage| line(&[asked.clone(), Transaction::Dns(answer.clone())]);
        assert_eq!(told(&answer), "A api.shop.example 10.1.2.3 +2");
        answer.answers.clear();
        assert_eq!(told(&answer), "A api.shop.example 3 records");
        answer.rcode = 3;
        assert_eq!(told(&answer), "A api.shop.example NXDOMAIN");
        let other = Transaction::Dns(DnsMessage {
            query_type: 28,
            ..question
        });
        let late = Transaction::Dns(answer.clone());
        assert_eq!(
            line(&[asked, other, late.clone()]),
            "A api.shop.example NXDOMAIN; AAAA api.shop.example"
        );
        assert_eq!(line(&[late]), "A api.shop.example NXDOMAIN");
    }

    #[test]
    fn logins_and_statements_are_told_of_databases() {
        let login = |success, code: Option<&str>| {
            [
                sql(DatabaseEvent::Login {
                    user: Some("app".into()),
                    database: Some("orders".into()),
                    client: None,
                }),
                sql(DatabaseEvent::LoginResult {
                    success,
                    code: code.map(Into::into),
                }),
            ]
        };
        assert_eq!(
            line(&login(false, Some("28P01"))),
            "login app@orders denied 28P01"
        );
        let mut said = login(true, None).to_vec();
        said.extend([
            statement("SELECT"),
            statement("SELECT"),
            statement("INSERT"),
        ]);
        assert_eq!(line(&said), "login app@orders ok; SELECT ×2; INSERT");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = line(&[get(&"é".repeat(200))]);
        assert!(text.len() <= MAX_PHRASE && text.ends_with('é'));
    }

    #[test]
    fn it_stays_small() {
        let mut gist = Gist::default();
        for n in 0..10_000 {
            gist.add(&get(&format!("/{n}{}", "x".repeat(300))));
            gist.add(&status(200));
        }
        assert!(gist.line().unwrap().len() < 700);
    }
}
