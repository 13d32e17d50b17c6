//! Requests as clients, browsers, scanners and others' services have them.

use super::*;
use crate::dissect::http1::HTTP1;
use crate::dissect::testing::{conversation, segment};
use crate::flow::Direction::{self, Orig, Resp};

/// What a request is taken for, and its fingerprint.
fn asked(method: &str, target: &str) -> Option<(String, u64)> {
    let ask = ask(&Request {
        method: method.as_bytes(),
        target: target.as_bytes(),
        authorization: None,
        clickhouse_user: None,
        user_agent: None,
        content_length: 0,
        compressed: false,
    })?;
    let DatabaseEvent::Statement {
        class,
        marks,
        verb,
        fingerprint,
        ..
    } = ask.event
    else {
        panic!("{:?}", ask.event);
    };
    let marks: Vec<&str> = marks.iter_names().map(|(name, _)| name).collect();
    let line = format!("{} {verb} {class:?} {}", ask.product, marks.join("|"));
    Some((line.trim_end().to_owned(), fingerprint))
}

#[test]
fn paths_and_parameters_tell() {
    let cases = [
        ("GET", "/_cat/indices?v", "elasticsearch _cat Catalogue"),
        ("GET", "/_search?q=*", "elasticsearch _search Read"),
        (
            "POST",
            "/shop/_search?scroll=1m&size=10000",
            "elasticsearch _search Read BULK_READ",
        ),
        (
            "GET",
            "/shop/_search?size=1000",
            "elasticsearch _search Read BULK_READ",
        ),
        (
            "POST",
            "/_search/scroll",
            "elasticsearch _search Read BULK_READ",
        ),
        (
            "POST",
            "/shop,users/_search?size=20",
            "elasticsearch _search Read",
        ),
        ("GET", "/_all/_mapping", "elasticsearch _mapping Catalogue"),
        ("PUT", "/shop/_doc/7", "elasticsearch _doc Write"),
        ("DELETE", "/shop/_doc/7", "elasticsearch _doc Write"),
        ("POST", "/_bulk", "elasticsearch _bulk Write"),
        ("GET", "/_nodes", "elasticsearch _nodes Catalogue"),
        ("PUT", "/_cluster/settings", "elasticsearch _cluster Admin"),
        (
            "GET",
            "/_security/user",
            "elasticsearch _security CredentialTable",
        ),
        (
            "GET",
            "/_plugins/_security/api/internalusers",
            "elasticsearch _plugins CredentialTable",
        ),
        (
            "PUT",
            "/_snapshot/s3/all",
            "elasticsearch _snapshot Admin SNAPSHOT",
        ),
        ("GET", "/?query=SHOW+DATABASES", "clickhouse SHOW Catalogue"),
        (
            "GET",
            "/?query=SELECT%20*%20FROM%20system.users",
            "clickhouse SELECT CredentialTable BULK_READ",
        ),
        (
            "POST",
            "http://db:8123/?user=x&query=SELECT%201",
            "clickhouse SELECT Read",
        ),
        (
            "GET",
            "/v2/keys/?recursive=true",
            "etcd v2 keys Read BULK_READ",
        ),
        ("GET", "/v2/keys/registry/secrets", "etcd v2 keys Read"),
        ("PUT", "/v2/keys/a", "etcd v2 keys Write"),
        ("GET", "/v2/auth/users", "etcd v2 auth CredentialTable"),
        ("POST", "/v3/kv/range", "etcd kv range Read"),
        (
            "POST",
            "/v3/maintenance/snapshot",
            "etcd snapshot Admin SNAPSHOT",
        ),
        (
            "POST",
            "/v3/auth/user/list",
            "etcd auth list CredentialTable",
        ),
    ];
    for (method, target, expected) in cases {
        let found = asked(method, target).map(|(line, _)| line);
        assert_eq!(found.as_deref(), Some(expected), "{method} {target}");
    }
}

#[test]
fn other_services_are_left_alone() {
    for target in [
        "/",
        "/index.html",
        "/search?q=select+1",
        "/?query=hunter2",
        "/api/_internal/x",
        "/_next/static/x.js",
        "/v2/",
        "/v2/_catalog",
        "/v2/library/nginx/manifests/latest",
        "/v2/keys/manifests/latest",
        "/v3/clusters",
        "/api/v1/pods?watch=true",
    ] {
        assert_eq!(asked("GET", target), None, "{target}");
    }
}

#[test]
fn ids_are_left_out_of_fingerprints() {
    let of = |target: &str| asked("GET", target).unwrap().1;
    assert_eq!(of("/shop/_doc/1"), of("/shop/_doc/2"));
    assert_ne!(of("/shop/_doc/1"), of("/users/_doc/1"));
    assert_eq!(of("/?query=SELECT%201"), of("/?query=select+%272%27"));
}

#[test]
fn logins_and_answers_are_paired() {
    // app:hunter2
    let ask = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: es\r\nUser-Agent: curl\r\nAuthorization: Basic YXBwOmh1bnRlcjI=\r\n\r\n")
            .into_bytes()
    };
    let found = conversation(
        HTTP1.build,
        &[
            (Orig, &ask("/_search")),
            (Resp, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
            (Orig, &ask("/_search")),
            (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
            (Orig, b"GET / HTTP/1.1\r\nHost: es\r\n\r\n"),
            (Orig, &ask("/_cat/indices")),
            (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            (Resp, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"),
            (Orig, b"GET /?query=SELECT+1 HTTP/1.1\r\nHost: ch\r\nX-ClickHouse-User: app\r\n\r\n"),
            (Resp, b"HTTP/1.1 403 Forbidden\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: 2\r\n\r\nno"),
        ],
    );
    let lines: Vec<&str> = found
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("Http") && *line != "SecretMark")
        .collect();
    assert_eq!(
        lines,
        [
            "login app - curl",
            "_search Read",
            "refused 401",
            "login app - curl",
            "_search Read",
            "let in -",
            "result - 2 -",
            "_cat Catalogue",
            "result - 2 404",
            "SELECT Read",
            "result - 2 516",
        ]
    );
}

/// What is told of a database of requests and their answers, each line after another.
fn told(turns: &[(Direction, &[u8])]) -> Vec<String> {
    let mut lines = conversation(HTTP1.build, turns);
    assert!(!lines.iter().any(|line| line.contains("hunter2")));
    lines.retain(|line| !line.starts_with("Http") && line != "SecretMark");
    lines
}

#[test]
fn a_statement_in_the_body_is_read_however_it_comes() {
    const OK: &[u8] =
        b"HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: a\r\nContent-Length: 2\r\n\r\n1\n";
    let post = |target: &str, headers: &str, body: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: ch\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let user = "X-ClickHouse-User: app\r\n";
    let users = "select name from system.users where name = 'hunter2'";
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: ch\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nselect\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        users.len() - 6,
        &users[6..]
    );
    let read = "SELECT CredentialTable";
    // Nothing but body and answer says that this is ClickHouse.
    for ask in [post("/", "", users), chunked.into_bytes()] {
        assert_eq!(told(&[(Orig, &ask), (Resp, OK)]), [read, "result - 2 -"]);
        let web: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(told(&[(Orig, &ask), (Resp, web)]), [""; 0]);
    }
    let cases: &[(&str, &str, &str, &str)] = &[
        ("/", user, users, read),
        ("/?query=select+name", "", " from system.users", read),
        ("/?database=a&default_format=TSV", "", users, read),
        // Rows, and what can't be read.
        (
            "/?query=insert+into+t+format+TSV",
            "",
            users,
            "INSERT Write",
        ),
        ("/?decompress=1", user, users, "OTHER Other"),
        (
            "/",
            "X-ClickHouse-User: app\r\nContent-Encoding: zstd\r\n",
            users,
            "OTHER Other",
        ),
        ("/", user, "hunter2", "OTHER Other"),
        ("/?query=select+1", "", "", "SELECT Read"),
    ];
    for (target, headers, body, expected) in cases {
        let mut lines = told(&[(Orig, &post(target, headers, body)), (Resp, OK)]);
        lines.retain(|line| !line.starts_with("login") && !line.starts_with("let in"));
        assert_eq!(lines, [expected, "result - 2 -"], "{target} {body}");
    }
    // Neither spaces before it nor where it is cut matter, as far as is looked.
    for (spaces, expected) in [(50, vec![read, "result - 2 -"]), (80, vec![])] {
        let ask = post("/", "", &format!("{:spaces$}{users}", ""));
        assert_eq!(told(&[(Orig, &ask), (Resp, OK)]), expected, "{spaces}");
    }
    // Refused before all of it came; and followed by a request of another kind.
    let refusal: &[u8] =
        b"HTTP/1.1 403 Forbidden\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: 0\r\n\r\n";
    let ask = post("/", user, users);
    let (begin, rest) = ask.split_at(ask.len() - 9);
    let lines = told(&[(Orig, begin), (Resp, refusal), (Orig, rest)]);
    assert_eq!(lines, ["login app - -", read, "refused 516"]);
    let pipelined = [
        post("/", "", users),
        b"GET /_cat HTTP/1.1\r\nHost: es\r\n\r\n".to_vec(),
    ];
    let es: &[u8] = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
    let lines = told(&[(Orig, &pipelined.concat()), (Resp, OK), (Resp, es)]);
    assert_eq!(
        lines,
        ["_cat Catalogue", read, "result - 2 -", "result - 0 404"]
    );
}

#[test]
fn of_a_long_body_no_more_is_kept_than_of_a_statement() {
    let values = "(1,'hunter2'),".repeat(10_000);
    let body = format!("insert into t values {values}(2,'')");
    let head = format!(
        "POST /?user=app HTTP/1.1\r\nX-ClickHouse-User: app\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut http = (HTTP1.build)();
    let mut out = Vec::new();
    http.feed(&segment(Orig, head.as_bytes()), &mut out);
    for piece in body.as_bytes().chunks(1400) {
        http.feed(&segment(Orig, piece), &mut out);
    }
    let statements: Vec<u32> = out
        .iter()
        .filter_map(|one| match one {
            Transaction::Database(DatabaseMessage {
                event:
                    DatabaseEvent::Statement {
                        length,
                        verb: "INSERT",
                        ..
                    },
                ..
            }) => Some(*length),
            _ => None,
        })
        .collect();
    assert_eq!(statements, [body.len() as u32]);
    assert_eq!(http.skipped(), body.len() as u64);
}

#[test]
fn no_password_is_told() {
    let ask = ask(&Request {
        method: b"GET",
        target: b"/?user=app&password=hunter2&query=SELECT+%27hunter2%27&database=shop",
        authorization: None,
        clickhouse_user: None,
        user_agent: None,
        content_length: 0,
        compressed: false,
    })
    .unwrap();
    assert_eq!(ask.user.as_deref(), Some("app"));
    assert_eq!(ask.database.as_deref(), Some("shop"));
    assert!(!format!("{:?}", ask.event).contains("hunter2"));
}
