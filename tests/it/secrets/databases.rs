//! Conversations with databases: passwords, literals, keys, rows.

use spanwatch::testkit::talk::mongo::{self, Value};
use spanwatch::testkit::talk::mysql;
use spanwatch::testkit::talk::postgres::{self, Login};
use spanwatch::testkit::talk::redis::{self, Reply};
use spanwatch::testkit::talk::tcp::Session;

use super::planted::{Stage, USER, request};

pub(super) fn enter(stage: &mut Stage<'_>, session: &mut Session) {
    let login = Login {
        user: USER,
        database: "shop",
        application: "orders",
    };
    postgres::log_in(&mut stage.scene, session, &login, true);
}

/// A query with secrets at `{}`, and an answer with secrets in every row.
pub(super) fn rows(stage: &mut Stage<'_>, session: &mut Session, sql: &str, count: usize) {
    let mut text = sql.to_owned();
    while text.contains("{}") {
        let secret = stage.secret("a literal in SQL");
        text = text.replacen("{}", &secret, 1);
    }
    let mut answer = message(b'T', &[&[0, 1][..], b"value\0", &[0; 18]].concat());
    for _ in 0..count {
        let value = stage.secret("a row of PostgreSQL");
        let length = (value.len() as u32).to_be_bytes();
        answer.extend(message(
            b'D',
            &[&[0, 1], &length[..], value.as_bytes()].concat(),
        ));
    }
    answer.extend(message(b'C', format!("SELECT {count}\0").as_bytes()));
    answer.extend(message(b'Z', b"I"));
    stage.ask(
        session,
        &message(b'Q', &[text.as_bytes(), b"\0"].concat()),
        &answer,
    );
}

/// A message of PostgreSQL.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

pub(super) fn postgres(stage: &mut Stage<'_>) {
    let mut session = stage.open(12, 20, postgres::PORT);
    let login = Login {
        user: USER,
        database: "shop",
        application: "orders",
    };
    let startup = postgres::startup(&login);
    stage.ask(&mut session, &startup, &message(b'R', &[0, 0, 0, 3]));
    let password = stage.secret("a password for PostgreSQL in clear");
    let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    stage.ask(
        &mut session,
        &message(b'p', format!("{password}\0").as_bytes()),
        &welcome,
    );
    for sql in [
        "SELECT * FROM users WHERE name = '{}' AND mail = E'\\'{}' -- {}",
        "SELECT $tag${}$tag$, \"{}\" /* {} */",
        "INSERT INTO cards VALUES ('{}', U&'{}'), ($${}$$, B'1')",
        "ALTER USER ordersvc WITH PASSWORD '{}'",
        "{} is no SQL at all",
    ] {
        rows(stage, &mut session, sql, 3);
    }
    // Extended: a statement, and a value apart from it.
    let (text, value) = (
        stage.secret("a literal prepared"),
        stage.secret("a value bound"),
    );
    let parse = message(
        b'P',
        format!("\0SELECT id FROM t WHERE a = '{text}' AND b = $1\0\0\0").as_bytes(),
    );
    let length = (value.len() as u32).to_be_bytes();
    let bind = message(
        b'B',
        &[b"\0\0\0\0\0\x01", &length[..], value.as_bytes(), &[0, 0]].concat(),
    );
    let question = [parse, bind, message(b'E', &[0; 5]), message(b'S', b"")].concat();
    let done = [
        message(b'1', b""),
        message(b'2', b""),
        message(b'C', b"SELECT 0\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    stage.ask(&mut session, &question, &done);
    let secret = stage.secret("a literal in an error");
    let text = format!("invalid input syntax for type integer: \"{secret}\"");
    let sql = format!("SELECT * FROM t WHERE id = '{secret}'");
    postgres::fail(&mut stage.scene, &mut session, &sql, "22P02", &text);
    let line = stage.secret("a line copied");
    let answer = [
        message(b'H', &[0, 0, 1, 0, 0]),
        message(b'd', format!("{line}\n").as_bytes()),
        message(b'c', b""),
        message(b'C', b"COPY 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    stage.ask(&mut session, &message(b'Q', b"COPY t TO STDOUT\0"), &answer);
    stage.close(session);
}

pub(super) fn mysql(stage: &mut Stage<'_>) {
    let mut session = stage.open(12, 20, mysql::PORT);
    mysql::log_in(&mut stage.scene, &mut session, USER, "shop", true);
    for sql in [
        "SELECT * FROM users WHERE a = \"{}\" AND b = '{}' # {}",
        "SET PASSWORD FOR 'a'@'%' = PASSWORD('{}')",
        "CREATE USER x IDENTIFIED BY '{}'",
        "/*!40000 SELECT '{}' */",
    ] {
        let mut text = sql.to_owned();
        while text.contains("{}") {
            text = text.replacen("{}", &stage.secret("a literal in MySQL"), 1);
        }
        mysql::query(&mut stage.scene, &mut session, &text, 2, 30);
        let secret = stage.secret("a word in MySQL's error");
        let error = format!("near '{secret}' at line 1");
        mysql::fail(&mut stage.scene, &mut session, &text, 1064, &error);
    }
    mysql::leave(&mut stage.scene, session);
}

pub(super) fn redis(stage: &mut Stage<'_>) {
    let mut session = stage.open(12, 21, redis::PORT);
    let secret = |stage: &mut Stage<'_>, what: &str| stage.secret(&format!("Redis: {what}"));
    let (auth, hello, required) = (
        secret(stage, "AUTH"),
        secret(stage, "HELLO AUTH"),
        secret(stage, "requirepass"),
    );
    let (new_user, key, written) = (
        secret(stage, "ACL SETUSER"),
        secret(stage, "a key"),
        secret(stage, "a value"),
    );
    let (script, command) = (secret(stage, "a script"), secret(stage, "no command"));
    let value = secret(stage, "a value read");
    let rule = format!(">{new_user}");
    for (words, reply) in [
        (&["AUTH", &auth][..], Reply::Simple("OK")),
        (&["HELLO", "3", "AUTH", USER, &hello], Reply::Simple("OK")),
        (
            &["CONFIG", "SET", "requirepass", &required],
            Reply::Simple("OK"),
        ),
        (&["ACL", "SETUSER", USER, &rule], Reply::Simple("OK")),
        (&["SET", &key, &written], Reply::Simple("OK")),
        (&["GET", &key], Reply::Bulk(&value)),
        (&["EVAL", &script, "0"], Reply::Nil),
        (
            &[
                "MIGRATE", "10.0.0.1", "6379", &key, "0", "5000", "AUTH", &auth,
            ],
            Reply::Simple("OK"),
        ),
        (
            &[&command, "x"],
            Reply::Error(&format!("ERR unknown command '{command}'")),
        ),
    ] {
        redis::ask(&mut stage.scene, &mut session, words, reply);
    }
    let typed = secret(stage, "AUTH typed");
    stage.ask(
        &mut session,
        format!("AUTH {typed}\r\n").as_bytes(),
        b"+OK\r\n",
    );
    let stray = secret(stage, "a line typed");
    stage.ask(
        &mut session,
        format!("{stray}\r\n").as_bytes(),
        format!("-ERR unknown command '{stray}'\r\n").as_bytes(),
    );
    stage.close(session);
}

pub(super) fn memcached(stage: &mut Stage<'_>) {
    let mut session = stage.open(12, 21, 11_211);
    let (password, key, value) = (
        stage.secret("a password for Memcached"),
        stage.secret("a key of Memcached"),
        stage.secret("a value of Memcached"),
    );
    let login = format!("{USER} {password}");
    let set = format!("set auth 0 0 {}\r\n{login}\r\n", login.len());
    stage.ask(&mut session, set.as_bytes(), b"STORED\r\n");
    let set = format!("set {key} 0 60 {}\r\n{value}\r\n", value.len());
    stage.ask(&mut session, set.as_bytes(), b"STORED\r\n");
    let answer = format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len());
    stage.ask(
        &mut session,
        format!("get {key}\r\n").as_bytes(),
        answer.as_bytes(),
    );
    stage.close(session);
}

/// A message of Memcached's binary protocol.
fn binary(magic: u8, code: u8, key: &str, extras: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let head = [magic, code, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
    [
        &head[..],
        &body.to_be_bytes(),
        &[0; 12],
        extras,
        key.as_bytes(),
        value,
    ]
    .concat()
}

pub(super) fn memcached_binary(stage: &mut Stage<'_>) {
    const ASKS: u8 = 0x80;
    const ANSWERS: u8 = 0x81;
    let mut session = stage.open(12, 21, 11_212);
    let (password, key, value) = (
        stage.secret("a password for Memcached by SASL"),
        stage.secret("a key of Memcached in binary"),
        stage.secret("a value of Memcached in binary"),
    );
    let value = value.as_bytes();
    let login = format!("\0{USER}\0{password}");
    let walk = [
        binary(ANSWERS, 0x10, &key, &[], b"18 b"),
        binary(ANSWERS, 0x10, "", &[], &[]),
    ]
    .concat();
    let noop = (
        binary(ASKS, 0x0a, "", &[], &[]),
        binary(ANSWERS, 0x0a, "", &[], &[]),
    );
    let mut turns = vec![
        (
            binary(ASKS, 0x21, "PLAIN", &[], login.as_bytes()),
            binary(ANSWERS, 0x21, "", &[], b"Authenticated"),
        ),
        (
            binary(ASKS, 1, &key, &[0; 8], value),
            binary(ANSWERS, 1, "", &[], &[]),
        ),
        (
            binary(ASKS, 0x0c, &key, &[], &[]),
            binary(ANSWERS, 0x0c, &key, &[0; 4], value),
        ),
        (binary(ASKS, 0x10, "cachedump 1 9", &[], &[]), walk),
    ];
    turns.extend(vec![noop; 90]);
    for (question, answer) in turns {
        stage.ask(&mut session, &question, &answer);
    }
    stage.close(session);
}

pub(super) fn oracle(stage: &mut Stage<'_>) {
    let packet = |kind: u8, body: &[u8]| {
        let length = (body.len() as u16 + 8).to_be_bytes();
        [&length[..], &[0, 0, kind, 0, 0, 0], body].concat()
    };
    let data = |payload: &[u8]| packet(6, &[&[0, 0], payload].concat());
    let mut session = stage.open(12, 20, 1521);
    let asked = "(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=shop)(CID=(PROGRAM=sqlplus)(HOST=h)(USER=root))))";
    let mut body = vec![0; 50];
    body[..4].copy_from_slice(&[1, 0x3b, 1, 0x2c]);
    body[16..18].copy_from_slice(&(asked.len() as u16).to_be_bytes());
    body[18..20].copy_from_slice(&58_u16.to_be_bytes());
    body.extend(asked.as_bytes());
    let accepted = [&[1, 0x3b, 0, 0, 0x20, 0][..], &[0; 18]].concat();
    stage.ask(&mut session, &packet(1, &body), &packet(2, &accepted));
    let (proof, literal, row) = (
        stage.secret("Oracle: what proves the password"),
        stage.secret("Oracle: a literal"),
        stage.secret("Oracle: a row"),
    );
    let login = [
        &[
            3, 0x73, 2, 0xfe, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0x21, 0, 0, 0,
        ][..],
        &[USER.len() as u8],
        USER.as_bytes(),
        &[0x27, 0, 0, 0, 13],
        b"AUTH_PASSWORD\x12\0\0\0\x12",
        proof.as_bytes(),
        &[0; 4],
    ]
    .concat();
    stage.ask(&mut session, &data(&login), &data(&[8, 1, 0, 0]));
    // Enough of it, for who says little to many looks around.
    for n in 0..40 {
        let sql = match n % 2 {
            0 => format!("select id from cards where holder = '{literal}'"),
            _ => format!("alter user app identified by {literal}"),
        };
        let length = sql.len() as u8;
        let head = [3, 0x5e, 9, 0x61, 0x80, 0, 0, 0, 0, 0, 1, length];
        let run = [&head[..], sql.as_bytes(), &[1, 0, 0]].concat();
        let answer = [&[6, 1, 18][..], row.as_bytes(), &[0; 8]].concat();
        stage.ask(&mut session, &data(&run), &data(&answer));
    }
    stage.close(session);
}

pub(super) fn mongo(stage: &mut Stage<'_>) {
    let mut session = stage.open(12, 20, mongo::PORT);
    mongo::hello(&mut stage.scene, &mut session, "nodejs");
    let fine = vec![("ok", Value::Double(1.0))];
    let text =
        |stage: &mut Stage<'_>, what: &str| Value::Text(stage.secret(&format!("MongoDB: {what}")));
    let name = |name: &str| Value::Text(name.to_owned());
    let commands = vec![
        vec![
            ("saslStart", Value::Int(1)),
            ("mechanism", name("PLAIN")),
            ("payload", text(stage, "a login")),
            ("$db", name("admin")),
        ],
        vec![
            ("find", name("users")),
            (
                "filter",
                Value::Document(vec![("token", text(stage, "a filter"))]),
            ),
            ("$db", name("shop")),
        ],
        vec![
            ("insert", name("users")),
            (
                "documents",
                Value::List(vec![vec![("card", text(stage, "a document"))]]),
            ),
            ("$db", name("shop")),
        ],
        vec![
            ("createUser", name("x")),
            ("pwd", text(stage, "a new password")),
            ("$db", name("shop")),
        ],
    ];
    for command in commands {
        let row = text(stage, "a document read");
        let batch = Value::Document(vec![(
            "firstBatch",
            Value::List(vec![vec![("secret", row)]]),
        )]);
        let reply = [vec![("cursor", batch)], fine.clone()].concat();
        mongo::ask(&mut stage.scene, &mut session, &command, &reply);
    }
    stage.close(session);
}

pub(super) fn cassandra(stage: &mut Stage<'_>) {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let long = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let message = |version: u8, kind: u8, body: &[u8]| {
        let length = (body.len() as u32).to_be_bytes();
        [&[version, 0, 0, 1, kind][..], &length, body].concat()
    };
    let mut session = stage.open(12, 20, 9042);
    let startup = [&[0, 1][..], &text("CQL_VERSION"), &text("3.4.5")].concat();
    let wants = message(
        0x84,
        0x03,
        &text("org.apache.cassandra.auth.PasswordAuthenticator"),
    );
    stage.ask(&mut session, &message(4, 0x01, &startup), &wants);
    let password = stage.secret("a password for Cassandra");
    let login = message(4, 0x0f, &long(&format!("\0{USER}\0{password}")));
    stage.ask(&mut session, &login, &message(0x84, 0x10, &[0xff; 4]));
    let (literal, row) = (
        stage.secret("a literal in CQL"),
        stage.secret("a row of Cassandra"),
    );
    let query = [
        long(&format!("SELECT a FROM t WHERE b = '{literal}'")),
        vec![0, 1, 0],
    ]
    .concat();
    let rows = [
        &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..],
        &text("ks"),
        &text("t"),
        &text("a"),
        &[0, 13, 0, 0, 0, 1],
        &long(&row),
    ]
    .concat();
    stage.ask(
        &mut session,
        &message(4, 0x07, &query),
        &message(0x84, 0x08, &rows),
    );
    stage.close(session);
}

pub(super) fn sql_server(stage: &mut Stage<'_>) {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let packet = |kind: u8, body: &[u8]| {
        let length = (body.len() as u16 + 8).to_be_bytes();
        [&[kind, 1][..], &length, &[0, 0, 1, 0], body].concat()
    };
    let mut session = stage.open(12, 20, 1433);
    let options = [
        0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0x10, 0x68, 0, 0, 2,
    ];
    stage.ask(&mut session, &packet(18, &options), &packet(4, &options));
    let password = stage.secret("a password for SQL Server");
    let mut login = 0x7400_0004_u32.to_le_bytes().to_vec();
    login.extend([0; 28]);
    let (mut data, mut offsets) = (Vec::new(), Vec::new());
    for (n, name) in [
        "host", USER, &password, "sqlcmd", "db", "", "ODBC", "", "shop",
    ]
    .iter()
    .enumerate()
    {
        offsets.extend((94 + data.len() as u16).to_le_bytes());
        offsets.extend((name.len() as u16).to_le_bytes());
        let mut bytes = wide(name);
        if n == 2 {
            // The password is sent with its nibbles swapped and inverted.
            for byte in &mut bytes {
                *byte = byte.rotate_left(4) ^ 0xa5;
            }
        }
        data.extend(bytes);
    }
    offsets.extend([0; 22]);
    let length = (4 + login.len() + offsets.len() + data.len()) as u32;
    let login = [&length.to_le_bytes()[..], &login, &offsets, &data].concat();
    let done = [0xfd, 0, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let body = [
        &[1, 0x74, 0, 0, 4, 4][..],
        &wide("Micr"),
        &[16, 0, 0x10, 0x68],
    ]
    .concat();
    let ack = [
        &[0xad][..],
        &(body.len() as u16).to_le_bytes(),
        &body,
        &done,
    ]
    .concat();
    stage.ask(&mut session, &packet(16, &login), &packet(4, &ack));
    let literal = stage.secret("a literal in T-SQL");
    let mut batch = vec![22, 0, 0, 0, 18, 0, 0, 0, 2, 0];
    batch.extend([0; 8]);
    batch.extend([1, 0, 0, 0]);
    batch.extend(wide(&format!("SELECT N'{literal}', [{literal}]")));
    stage.ask(&mut session, &packet(1, &batch), &packet(4, &done));
    stage.close(session);
}

pub(super) fn clickhouse(stage: &mut Stage<'_>) {
    let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let mut session = stage.open(12, 20, 9000);
    let password = stage.secret("a password for ClickHouse");
    let hello = [
        &[0][..],
        &string("ClickHouse client"),
        &[23, 8, 0xd1, 0xa6, 0x03],
        &string("shop"),
        &string(USER),
        &string(&password),
    ]
    .concat();
    let answer = [
        &[0][..],
        &string("ClickHouse"),
        &[23, 8, 0xd1, 0xa6, 0x03],
        &string("UTC"),
        &string("host"),
        &[4],
    ]
    .concat();
    stage.ask(&mut session, &hello, &answer);
    stage.close(session);
    let (key, literal) = (
        stage.secret("ClickHouse's key in a header"),
        stage.secret("a literal for ClickHouse"),
    );
    let more = format!("X-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: {key}\r\n");
    let in_query = stage.secret("ClickHouse's password in a query");
    let path = format!("/?user={USER}&password={in_query}");
    let row = stage.secret("a row of ClickHouse");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-ClickHouse-Format: TSV\r\nContent-Length: {}\r\n\r\n{row}",
        row.len()
    );
    request(
        stage,
        20,
        "POST",
        &path,
        &more,
        &format!("SELECT '{literal}'"),
        &answer,
    );
}
