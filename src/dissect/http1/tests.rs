//! Connections as clients and servers speak them, smuggled and endless ones.

use proptest::prelude::*;

use super::*;
use crate::dissect::{Carried, Content, HttpRequest, HttpResponse};
use crate::dissect::{Marks, SecretMark};
use crate::flow::Direction;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 80,
        data,
        gap: 0,
    }
}

/// What comes of the turns, each given in pieces of `size`; stops where the dissector does.
fn feed_by(turns: &[(Direction, &[u8])], size: usize) -> (Vec<Transaction>, Progress) {
    let mut http = Http1::default();
    let mut out = Vec::new();
    for (direction, data) in turns {
        for piece in data.chunks(size) {
            let progress = http.feed(&segment(*direction, piece), &mut out);
            if progress != Progress::More {
                return (out, progress);
            }
        }
    }
    (out, Progress::More)
}

/// The same in pieces of all kinds, which must not differ.
fn feed(turns: &[(Direction, &[u8])]) -> (Vec<Transaction>, Progress) {
    let whole = feed_by(turns, usize::MAX);
    for size in [1, 2, 3, 10, 61] {
        assert_eq!(feed_by(turns, size), whole, "pieces of {size}");
    }
    whole
}

/// The transactions in short: `GET host path` or a status.
fn brief(out: &[Transaction]) -> Vec<String> {
    let brief = |transaction: &Transaction| match transaction {
        Transaction::HttpRequest(request) => {
            let host = request.host.as_deref().unwrap_or("-");
            format!("{} {host} {}", request.method, request.path)
        }
        Transaction::HttpResponse(response) => response.status.to_string(),
        Transaction::TunnelOpened(opened) => format!("opened {}", opened.carrier),
        Transaction::Carried(Carried { carrier, content }) => match content {
            Content::Protocol(app) => format!("{app} in {carrier}"),
            Content::Message(message) => match &**message {
                Transaction::Opening(opening) => format!("{:?} in {carrier}", opening.mix),
                _ => format!("message in {carrier}"),
            },
        },
        other => panic!("{other:?}"),
    };
    let plain = |transaction: &&Transaction| !matches!(transaction, Transaction::HttpExchange(_));
    out.iter().filter(plain).map(brief).collect()
}

fn request(head: &str) -> HttpRequest {
    head::request(head.as_bytes()).unwrap().request
}

#[test]
fn request_fields() {
    let got = request(
        "POST /v2/items?token=s3cret HTTP/1.1\r\nHost: Shop.Example.com:8080\r\nUser-Agent: curl/8.5.0\r\n\
         Authorization: Basic czpz\r\nCookie: sid=1\r\nUpgrade: WebSocket\r\nContent-Length: 7\r\n\r\n",
    );
    let expected = HttpRequest {
        method: "POST".into(),
        host: Some("shop.example.com".into()),
        host_port: Some(8080),
        path: "/v2/items".into(),
        target_len: 22,
        for_proxy: false,
        user_agent: Some("curl/8.5.0".into()),
        content_length: Some(7),
        upgrade: Some("websocket".into()),
        authorization: Some("basic"),
        forwarded: false,
        tool: None,
        secret: Some(SecretMark::of(b"Basic czpz")),
        injection: Marks::empty(),
    };
    assert_eq!(got, expected);
}

#[test]
fn proxies_say_on_whose_behalf_they_ask() {
    let says = |header: &str| request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n"));
    for header in [
        "X-Forwarded-For: 203.0.113.7",
        "forwarded: for=192.0.2.60",
        "Via: 1.1 edge",
    ] {
        assert!(says(header).forwarded, "{header}");
    }
    assert!(!says("X-Forwarded-Proto: https").forwarded);
}

#[test]
fn keys_and_tokens_are_told_apart_and_renewed_ones_are_not() {
    let shown = |header: &str| {
        let got = request(&format!("GET /v1 HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n"));
        (got.authorization, got.secret)
    };
    let bearer = |token: &str| shown(&format!("Authorization: Bearer {token}"));
    assert_eq!(bearer("aaaa"), bearer("aaaa"));
    assert_ne!(bearer("aaaa"), bearer("aaab"));
    assert_eq!(bearer("aaaa").0, Some("bearer"));
    // Signed ones: another of the same issuer, one with another header, one that only looks like it.
    assert_eq!(bearer("eyJhb.eyJleDE.x1"), bearer("eyJhb.eyJleDI.x2"));
    assert_ne!(bearer("eyJhb.eyJleDE.x1"), bearer("eyJhc.eyJleDE.x1"));
    assert_ne!(bearer("eyJhb.x1"), bearer("eyJhb.x2"));
    for header in ["Authorization: Token", "X-Api-Key:", "x-vault-token:"] {
        let key = |value: &str| shown(&format!("{header} {value}"));
        assert_eq!(key("k1").0, Some("key"), "{header}");
        assert_eq!(key("k1"), key("k1"));
        assert_ne!(key("k1").1, key("k2").1);
    }
    assert_eq!(shown("Authorization: Digest x").1, None);
}

#[test]
fn the_port_of_a_host() {
    for (line, header, port) in [
        ("GET /", "localhost:28080", Some(28_080)),
        ("GET /", "[::1]:80 ", Some(80)),
        ("GET /", "[::1]", None),
        ("GET /", "localhost", None),
        ("GET /", "localhost:", None),
        ("GET /", "localhost:70000", None),
        ("GET /", ":", None),
        // Of a proxy.
        ("GET http://localhost:5000/", "localhost:5000", None),
        ("CONNECT localhost:5000", "localhost:5000", None),
    ] {
        let got = request(&format!("{line} HTTP/1.1\r\nHost: {header}\r\n\r\n"));
        assert_eq!(got.host_port, port, "{line} {header}");
    }
}

#[test]
fn targets_and_hosts() {
    let cases = [
        // (request line's middle, Host header) to (host, path).
        ("GET /a/b", "h", "h", "/a/b"),
        ("GET /", "[2001:DB8::1]:80", "2001:db8::1", "/"),
        (
            "GET http://user:pw@Other.example:81/x?y",
            "h",
            "other.example",
            "/x",
        ),
        ("GET http://other.example?y", "h", "other.example", "/"),
        ("GET /redirect?to=http://x/y", "h", "h", "/redirect"),
        ("GET /http://x/y", "h", "h", "/http://x/y"),
        ("OPTIONS *", "h", "h", "*"),
        (
            "CONNECT Db.example:5432",
            "proxy",
            "db.example",
            "Db.example:5432",
        ),
        ("CONNECT user:pw@[::1]:22", "proxy", "::1", "[::1]:22"),
        ("GET  /spaced", "h", "h", "/spaced"),
    ];
    for (line, header, host, path) in cases {
        let got = request(&format!("{line} HTTP/1.1\r\nHost: {header}\r\n\r\n"));
        assert_eq!(
            (got.host.as_deref(), &*got.path),
            (Some(host), path),
            "{line}"
        );
        let absolute = line.starts_with("GET http://");
        assert_eq!(got.for_proxy, absolute, "{line}");
    }
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n").host, None);
    let long = request(&format!(
        "GET /{} HTTP/1.1\r\nHost:\r\n\r\n",
        "a".repeat(5000)
    ));
    assert_eq!(
        (long.path.len(), long.target_len, long.host),
        (256, 5001, None)
    );
}

#[test]
fn tools_that_give_themselves_away() {
    let tool = |target: &str, header: &str| {
        request(&format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\n{header}\r\n"
        ))
        .tool
    };
    assert_eq!(tool("/index.html?crap=1700000000", ""), Some("httptunnel"));
    assert_eq!(tool("/index.html?crap=1700000000&x=1", ""), None);
    let connect = "/tunnel.jsp?cmd=connect&target=10.0.0.5&port=22";
    assert_eq!(tool(connect, ""), Some("reGeorg"));
    assert_eq!(
        tool("/tunnel.jsp?cmd=read", "X-CMD: READ\r\n"),
        Some("reGeorg")
    );
    assert_eq!(tool("/player?cmd=connect", ""), None);
    assert_eq!(tool("/", "X-CMD: READ\r\n"), None);
}

#[test]
fn odd_request_lines_that_servers_take() {
    let cases: &[(&[u8], &[u8], &str, u32)] = &[
        (b"GET", b"/Hello Arkime", "/Hello Arkime", 13),
        (b"GET", b"/\xff\xfe?a b", "/\u{fffd}\u{fffd}", 7),
        (b"POST", b"/cgi HTTP/1.0 x", "/cgi HTTP/1.0 x", 15),
        (b"CONNECT", b"a:25 /", "a:25 /", 6),
    ];
    for (method, target, path, len) in cases {
        let head = [
            method,
            &b" "[..],
            target,
            b" HTTP/1.0\r\nno colon\r\nHost: h\r\n\r\n",
        ]
        .concat();
        let got = head::request(&head).unwrap().request;
        assert_eq!(
            (got.method.as_bytes(), &*got.path, got.target_len),
            (*method, *path, *len)
        );
    }
    for head in [
        &b"GET  HTTP/1.0\r\n\r\n"[..],
        b"GET /\r\n\r\n",
        b"G(T /a b HTTP/1.0\r\n\r\n",
    ] {
        assert!(head::request(head).is_none());
    }
}

#[test]
fn response_fields() {
    let head = b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.25\r\nContent-Type: Text/HTML; charset=utf-8\r\n\
        Set-Cookie: sid=1\r\nContent-Length: 12, 12\r\nBad Header\r\n\r\n";
    let head::ResponseHead { response, body, .. } = head::response(head).unwrap();
    let expected = HttpResponse {
        status: 404,
        server: Some("nginx/1.25".into()),
        content_length: Some(12),
        content_type: Some("text/html".into()),
        asked: None,
        to_login: false,
    };
    assert_eq!((response, body), (expected, Body::Length(12)));
}

#[test]
fn pipelined_messages_on_one_connection() {
    let requests: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\
        HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /\
        PUT /d HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, Chunked\n\n3\r\nPUT\r\n0\r\n\r\n\
        \r\nDELETE /e HTTP/1.1\r\nHost: h\r\n\r\n";
    let responses: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHTTP\r\n0\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok\
        HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    let (out, progress) = feed(&[(Orig, requests), (Resp, responses)]);
    assert_eq!(
        brief(&out),
        [
            "GET h /a",
            "HEAD h /b",
            "POST h /c",
            "PUT h /d",
            "DELETE h /e",
            "200",
            "200",
            "100",
            "201",
            "204",
            "304",
        ]
    );
    assert_eq!(progress, Progress::More);
}

#[test]
fn response_until_the_connection_ends() {
    let turns: &[(Direction, &[u8])] = &[
        (Orig, b"GET / HTTP/1.0\r\n\r\n"),
        (
            Resp,
            b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.0 500 this is the body\r\n\r\n",
        ),
        (Orig, b"GET /too-late HTTP/1.0\r\n\r\n"),
    ];
    assert_eq!(brief(&feed(turns).0), ["GET - /", "200", "GET - /too-late"]);
}

const CONNECT: &[u8] = b"CONNECT a:443 HTTP/1.1\r\n\r\n";
const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

#[test]
fn what_follows_a_tunnel_is_another_conversation() {
    let (out, progress) = feed(&[
        (Orig, CONNECT),
        (Resp, CONNECTED),
        (Resp, b"SSH-2.0-OpenSSH_9.6\r\n"),
        (Orig, b"SSH-2.0-libssh\r\n"),
    ]);
    assert_eq!(
        brief(&out),
        [
            "CONNECT a a:443",
            "200",
            "opened connect",
            "ssh in connect",
            "message in connect",
            "message in connect",
        ]
    );
    assert_eq!(progress, Progress::More);
}

#[test]
fn a_tunnel_in_a_tunnel_is_followed_and_not_a_third() {
    let (out, progress) = feed(&[
        (Orig, CONNECT),
        (Resp, CONNECTED),
        (Orig, CONNECT),
        (Resp, CONNECTED),
        (Orig, CONNECT),
        (Resp, CONNECTED),
        (Orig, b"SSH-2.0-libssh\r\n"),
    ]);
    assert_eq!(progress, Progress::Done);
    let depth = |transaction: &Transaction| {
        let mut depth = 0;
        let mut transaction = transaction;
        while let Transaction::Carried(Carried {
            content: Content::Message(message),
            ..
        }) = transaction
        {
            transaction = message;
            depth += 1;
        }
        matches!(transaction, Transaction::TunnelOpened(_)).then_some(depth)
    };
    let depths: Vec<i32> = out.iter().filter_map(depth).collect();
    assert_eq!(depths, [0, 1, 2]);
}

#[test]
fn what_a_client_sends_before_the_answer_belongs_to_the_tunnel() {
    let early = [CONNECT, b"SSH-2.0-libssh\r\n"].concat();
    let late = [CONNECTED, b"SSH-2.0-OpenSSH_9.6\r\n"].concat();
    let (out, _) = feed(&[(Orig, &early), (Resp, &late)]);
    assert!(brief(&out).contains(&"ssh in connect".to_owned()));
    let both = brief(&out)
        .into_iter()
        .filter(|text| text == "message in connect");
    assert_eq!(both.count(), 2);
}

#[test]
fn what_nobody_knows_is_described() {
    let (out, progress) = feed(&[
        (Orig, b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: odd\r\n\r\n"),
        (Resp, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (
            Orig,
            b"hello, who are you? do I know you from somewhere else?",
        ),
        (
            Resp,
            b"somebody that you used to know, a long, long time ago",
        ),
        (Orig, b"a"),
    ]);
    assert_eq!(
        brief(&out)[2..],
        ["opened upgrade", "Text in upgrade", "Text in upgrade"]
    );
    assert_eq!(progress, Progress::More);
}

#[test]
fn upgrades_tell_what_was_agreed_on_and_no_token() {
    let opened = |request: &str, response: &str| {
        let request = format!("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n{request}\r\n");
        let response = format!("HTTP/1.1 101 Switching Protocols\r\n{response}\r\n");
        let (out, _) = feed(&[(Orig, request.as_bytes()), (Resp, response.as_bytes())]);
        let found = out.into_iter().find_map(|transaction| match transaction {
            Transaction::TunnelOpened(opened) => Some(opened),
            _ => None,
        });
        found.unwrap()
    };
    let plain = opened("", "");
    assert_eq!(plain.carrier, "websocket");
    assert_eq!(
        (plain.subprotocol, plain.bears_token, plain.login),
        (None, false, false)
    );
    let chisel = opened("Sec-WebSocket-Protocol: chisel-v3\r\n", "");
    assert_eq!(chisel.subprotocol.as_deref(), Some("chisel-v3"));
    let token = "Sec-WebSocket-Protocol: v1, authorization.bearer.eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpZCI6\r\n\
                 Authorization: Basic czpz\r\n";
    let bearer = opened(token, "Sec-WebSocket-Protocol: v2\r\n");
    assert_eq!(bearer.subprotocol.as_deref(), Some("v2"));
    assert!(bearer.bears_token && bearer.login);
    let kubectl = opened(
        "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n",
        "",
    );
    assert_eq!(kubectl.subprotocol.as_deref(), Some("v5.channel.k8s.io"));
    assert!(!kubectl.bears_token);
    let secret = opened(
        "Sec-WebSocket-Protocol: 550e8400-e29b-41d4-a716-446655440000\r\n",
        "",
    );
    assert_eq!((secret.subprotocol, secret.bears_token), (None, true));
}

#[test]
fn exchanges_with_bodies_are_summed_up() {
    let (out, _) = feed(&[
        (Orig, b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (Orig, b"GET /b HTTP/1.1\r\n\r\n"),
        (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (Orig, b"POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ]);
    let told: Vec<_> = out
        .iter()
        .filter_map(|transaction| match transaction {
            Transaction::HttpExchange(exchange) => Some((
                exchange.request.bytes,
                exchange.response.bytes,
                exchange.complete,
            )),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(5, 2, true), (0, 2, true)]);
}

#[test]
fn a_short_form_has_a_mark_and_a_long_one_has_none() {
    let long = "x".repeat(200);
    let post = |body: &str| {
        format!(
            "POST /login HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let refused: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    let forms = [
        "user=a&password=one",
        "user=a&password=two",
        "user=a&password=one",
        &long,
    ]
    .map(post);
    let turns: Vec<(Direction, &[u8])> = forms
        .iter()
        .flat_map(|form| [(Orig, form.as_bytes()), (Resp, refused)])
        .chain([(Orig, &b"GET / HTTP/1.1\r\n\r\n"[..]), (Resp, refused)])
        .collect();
    let (out, _) = feed(&turns);
    let marks: Vec<_> = out
        .iter()
        .filter_map(|transaction| match transaction {
            Transaction::HttpResponse(response) => Some(response.asked),
            _ => None,
        })
        .collect();
    let [one, two, again, long, none] = marks[..] else {
        panic!("{}", marks.len())
    };
    assert!(one.is_some() && one == again && two.is_some() && one != two);
    assert_eq!((long, none), (None, None));
}

#[test]
fn after_a_refused_tunnel_requests_go_on() {
    let turns: &[(Direction, &[u8])] = &[
        (Orig, b"CONNECT a:443 HTTP/1.1\r\n\r\n"),
        (
            Resp,
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
        ),
        (Orig, b"GET http://a/ HTTP/1.1\r\n\r\n"),
        (Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let (out, progress) = feed(turns);
    assert_eq!(brief(&out), ["CONNECT a a:443", "407", "GET a /", "200"]);
    assert_eq!(progress, Progress::More);
}

#[test]
fn one_direction_alone() {
    let many = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    assert_eq!(feed(&[(Orig, &many)]).0.len(), 100);
    let many = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".repeat(100);
    assert_eq!(feed(&[(Resp, &many)]).0.len(), 100);
}

#[test]
fn framing_that_contradicts_itself_is_reported_and_given_up() {
    let headers = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
    ];
    for header in headers {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\nGET /smuggled");
        let (out, progress) = feed(&[(Orig, head.as_bytes())]);
        assert_eq!(
            (brief(&out), progress),
            (vec!["POST h /".into()], Progress::Desynced),
            "{header}"
        );
    }
    // Chunks win over a length (RFC 9112 6.3).
    let both =
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
        GET /next HTTP/1.1\r\n\r\n";
    assert_eq!(brief(&feed(&[(Orig, both)]).0), ["POST - /", "GET - /next"]);
}

#[test]
fn gaps_are_passed_where_the_length_is_known() {
    let run = |before: &[u8], gap: u32, after: &[u8]| {
        let mut http = Http1::default();
        let mut out = Vec::new();
        http.feed(&segment(Resp, before), &mut out);
        let progress = http.feed(
            &Segment {
                gap,
                ..segment(Resp, after)
            },
            &mut out,
        );
        (out.len(), progress)
    };
    let sized: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01";
    let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01";
    let endless: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    let next: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let chunk_end = [b"\r\n0\r\n\r\n", next].concat();
    assert_eq!(run(sized, 8, next), (2, Progress::More));
    assert_eq!(run(sized, 7, &[b"9", next].concat()), (2, Progress::More));
    // A hole that swallows a message's end, and one whole message or none at all.
    assert_eq!(run(sized, 9, next), (2, Progress::More));
    assert_eq!(run(sized, 9, b"89\n\n"), (1, Progress::Desynced));
    assert_eq!(run(chunked, 6, &chunk_end), (2, Progress::More));
    assert_eq!(run(chunked, 7, b"\n0\r\n\r\n"), (1, Progress::Desynced));
    assert_eq!(run(endless, 1000, next), (1, Progress::More));
    assert_eq!(run(&sized[..20], 1, &sized[21..]), (0, Progress::Desynced));
    assert_eq!(run(&sized[..20], 1, next), (1, Progress::More));
}

#[test]
fn bounds() {
    let header = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(feed(&[(Orig, header(128).as_bytes())]).0.len(), 1);
    assert_eq!(
        feed(&[(Orig, header(129).as_bytes())]),
        (vec![], Progress::Desynced)
    );
    let sized = |len: usize| {
        let filler = len - "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(filler))
    };
    assert_eq!(feed(&[(Orig, sized(MAX_HEAD).as_bytes())]).0.len(), 1);
    assert_eq!(
        feed(&[(Orig, sized(MAX_HEAD + 1).as_bytes())]),
        (vec![], Progress::Desynced)
    );

    // A line that never ends, dripping: memory up to the bound, then the end.
    let mut http = Http1::default();
    let mut out = Vec::new();
    http.feed(&segment(Orig, b"GET /"), &mut out);
    let fed = (5..99_999).find(|_| {
        assert!(http.sides.orig.head.capacity() <= MAX_HEAD);
        http.feed(&segment(Orig, b"a"), &mut out) != Progress::More
    });
    assert_eq!(fed, Some(MAX_HEAD));
}

#[test]
fn bodies_cost_no_memory_and_are_told_apart_from_what_is_looked_at() {
    let mut http = Http1::default();
    let mut out = Vec::new();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    http.feed(&segment(Resp, head), &mut out);
    let chunk = [&b"1000\r\n"[..], &[b'x'; 0x1000], b"\r\n"].concat();
    for _ in 0..1000 {
        assert_eq!(http.feed(&segment(Resp, &chunk), &mut out), Progress::More);
    }
    assert_eq!(http.skipped(), 1000 * 0x1000);
    assert_eq!(http.sides.resp.head.capacity(), 0);
}

#[test]
fn recognition() {
    let long = format!("GET /{}", "a".repeat(PROBE_WINDOW));
    let odd = format!("get {}", "a".repeat(PROBE_WINDOW));
    let cases: &[(&str, Probe)] = &[
        ("GET / HTTP/1.1\r\n", Probe::Certain),
        ("GET / HTTP/1.", Probe::Certain),
        ("\r\nPROPFIND /x HTTP/1.0\r\n", Probe::Certain),
        ("odd-Method x HTTP/1.1", Probe::Certain),
        ("HTTP/1.1 200 OK", Probe::Certain),
        (&long[..PROBE_WINDOW], Probe::Certain),
        (&long[..PROBE_WINDOW - 1], Probe::Unsure),
        ("", Probe::Unsure),
        ("\r\n", Probe::Unsure),
        ("H", Probe::Unsure),
        ("HTTP/1", Probe::Unsure),
        ("HEAD", Probe::Unsure),
        ("GET /index", Probe::Unsure),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Probe::NotForUs),
        ("OPTIONS rtsp://a/b RTSP/1.0\r\n", Probe::NotForUs),
        ("SSH-2.0-OpenSSH_9.6\r\n", Probe::NotForUs),
        ("220 mail ESMTP\r\n", Probe::NotForUs),
        ("*1\r\n$4\r\nPING\r\n", Probe::NotForUs),
        ("\x16\x03\x01", Probe::NotForUs),
        (" GET / HTTP/1.1\r\n", Probe::NotForUs),
        ("A-METHOD-THAT-IS-MUCH-LONGER-THAN-ANY", Probe::NotForUs),
        (&odd[..PROBE_WINDOW], Probe::NotForUs),
    ];
    for (data, expected) in cases {
        assert_eq!(
            probe(&segment(Orig, data.as_bytes())),
            *expected,
            "{data:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_after_any_head_are_survived(
        head in prop::sample::select(vec!["GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", ""]),
        coding in prop::sample::select(vec!["Transfer-Encoding: chunked\r\n\r\n", "\r\n", ""]),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let stream = [head.as_bytes(), coding.as_bytes(), &bytes].concat();
        feed(&[(Orig, &stream), (Resp, &stream)]);
    }
}
