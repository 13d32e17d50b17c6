//! Conversations as drivers and servers of several ages have them.

use super::super::testing::{any_bytes_return, conversation, line, probed, segment};
use super::*;

use Direction::{Orig, Resp};

fn message(version: u8, stream: i16, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [
        &[version, 0][..],
        &stream.to_be_bytes(),
        &[kind],
        &length,
        body,
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn long_text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn startup(version: u8, compression: bool) -> Vec<u8> {
    let mut settings = vec![("CQL_VERSION", "3.4.5"), ("DRIVER_NAME", "DataStax")];
    if compression {
        settings.push(("COMPRESSION", "lz4"));
    }
    let mut body = (settings.len() as u16).to_be_bytes().to_vec();
    for (name, value) in settings {
        body.extend(text(name));
        body.extend(text(value));
    }
    message(version, 0, STARTUP, &body)
}

fn query(version: u8, stream: i16, cql: &str) -> Vec<u8> {
    message(
        version,
        stream,
        QUERY,
        &[&long_text(cql)[..], &[0, 1, 0]].concat(),
    )
}

fn login(version: u8) -> Vec<u8> {
    message(
        version,
        1,
        AUTH_RESPONSE,
        &long_text("\0cassandra\0hunter2"),
    )
}

fn rows(version: u8, stream: i16, count: u32) -> Vec<u8> {
    let map = [&[0, 0x21, 0, 0x0d, 0, 0x22, 0, 0x0d][..]].concat();
    let body = [
        &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..],
        &text("ks"),
        &text("t"),
        &text("a"),
        &[0, 9],
        &text("b"),
        &map,
        &count.to_be_bytes(),
        &[7; 100],
    ]
    .concat();
    message(version | ANSWERS, stream, RESULT, &body)
}

fn error(version: u8, stream: i16, code: u32) -> Vec<u8> {
    let body = [&code.to_be_bytes()[..], &text("no")].concat();
    message(version | ANSWERS, stream, ERROR, &body)
}

/// A version 5 segment without compression; nobody checks its checksums.
fn enclosed(payload: &[u8]) -> Vec<u8> {
    let bits = payload.len() as u32 | 1 << 17;
    [&bits.to_le_bytes()[..3], &[0; 3], payload, &[0; 4]].concat()
}

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(CASSANDRA.build, turns)
}

#[test]
fn a_driver_logs_in_and_asks() {
    let supported = [
        &[0, 2][..],
        &text("COMPRESSION"),
        &[0, 1],
        &text("lz4"),
        &text("CQL_VERSION"),
        &[0, 1],
        &text("3.4.5"),
    ]
    .concat();
    let authenticator = text("org.apache.cassandra.auth.PasswordAuthenticator");
    let found = events(&[
        (Orig, &message(4, 0, OPTIONS, b"")),
        (Resp, &message(0x84, 0, SUPPORTED, &supported)),
        (Orig, &startup(4, false)),
        (Resp, &message(0x84, 0, AUTHENTICATE, &authenticator)),
        (Orig, &login(4)),
        (Resp, &message(0x84, 1, AUTH_SUCCESS, &[0xff; 4])),
        (
            Orig,
            &query(4, 2, "SELECT * FROM system.local WHERE key='local'"),
        ),
        (
            Orig,
            &query(4, 3, "SELECT role, salted_hash FROM system_auth.roles"),
        ),
        (Resp, &error(4, 3, 0x2100)),
        (Resp, &rows(4, 2, 1)),
        (
            Orig,
            &message(4, 4, PREPARE, &long_text("INSERT INTO t (a) VALUES (?)")),
        ),
        (Resp, &message(0x84, 4, RESULT, &[0, 0, 0, 4, 0, 0])),
        (Orig, &message(4, 5, EXECUTE, b"\0\x02id")),
        (Resp, &message(0x84, 5, RESULT, &[0, 0, 0, 1])),
        (
            Orig,
            &message(
                4,
                6,
                BATCH,
                &[&[0, 0, 2, 0][..], &long_text("UPDATE t SET a=1"), &[0, 0]].concat(),
            ),
        ),
        (Resp, &message(0x84, 6, RESULT, &[0, 0, 0, 1])),
    ]);
    assert_eq!(
        found,
        [
            "hello CQL 3.4.5",
            "login cassandra - DataStax",
            "let in -",
            "SELECT Catalogue",
            "SELECT CredentialTable",
            "result - 8 0x2100",
            "result 1 139 -",
            "INSERT Write",
            "result 0 6 -",
            "result 0 4 -",
            "UPDATE Write",
            "result 0 4 -",
        ]
    );
}

#[test]
fn a_wrong_password_is_0x0100() {
    let found = events(&[
        (Orig, &startup(4, false)),
        (Resp, &message(0x84, 0, AUTHENTICATE, &text("x"))),
        (Orig, &login(4)),
        (Resp, &error(4, 1, 0x0100)),
    ]);
    assert_eq!(
        found,
        ["hello -", "login cassandra - DataStax", "refused 0x0100"]
    );
    // Too new a version is no matter of passwords.
    let found = events(&[(Orig, &startup(5, false)), (Resp, &error(4, 0, 0x000a))]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn version_5_encloses_messages_in_segments() {
    let after_startup = [
        enclosed(&message(0x85, 1, AUTH_SUCCESS, &[0xff; 4])),
        enclosed(&rows(5, 2, 3)),
    ]
    .concat();
    // A long message spans segments, short ones share one.
    let long = query(5, 2, &format!("SELECT '{}' FROM t", "x".repeat(300)));
    let (one, other) = long.split_at(150);
    let two = [query(5, 3, "SELECT a FROM t"), query(5, 4, "TRUNCATE t")].concat();
    let asked = [enclosed(one), enclosed(other), enclosed(&two)].concat();
    let found = events(&[
        (Orig, &startup(5, false)),
        (Resp, &message(0x85, 0, AUTHENTICATE, &text("x"))),
        (Orig, &enclosed(&login(5))),
        (Orig, &asked),
        (Resp, &after_startup),
    ]);
    assert_eq!(
        found,
        [
            "hello -",
            "login cassandra - DataStax",
            "SELECT Read",
            "SELECT Read",
            "TRUNCATE Write",
            "let in -",
            "result 3 139 -",
        ]
    );
    // Compressed ones are seen as such; a segment may be left as it is.
    let bits = 5_u64 | 400 << 17 | 1 << 34;
    let compressed = [&bits.to_le_bytes()[..5], &[0; 3], b"zzzzz", &[0; 4]].concat();
    let plain = query(5, 3, "SELECT a FROM t");
    let bits = plain.len() as u64 | 1 << 34;
    let plain = [&bits.to_le_bytes()[..5], &[0; 3], &plain, &[0; 4]].concat();
    let found = events(&[
        (Orig, &startup(5, true)),
        (Resp, &message(0x85, 0, READY, b"")),
        (Orig, &compressed),
        (Orig, &plain),
    ]);
    assert_eq!(found, ["hello -", "COMPRESSED Other", "SELECT Read"]);
}

#[test]
fn compressed_bodies_are_unpacked() {
    // A literal of less than 15 bytes is all that LZ4 needs.
    let pack = |body: &[u8]| {
        let length = (body.len() as u32).to_be_bytes();
        [&length[..], &[(body.len() as u8) << 4], body].concat()
    };
    let flagged = |mut message: Vec<u8>| {
        message[1] = COMPRESSED;
        message
    };
    let asked = flagged(message(4, 2, QUERY, &pack(&long_text("LIST ROLES"))));
    let answer = flagged(message(0x84, 2, ERROR, &pack(&[0, 0, 0x21, 0, 0, 0])));
    let found = events(&[
        (Orig, &startup(4, true)),
        (Resp, &message(0x84, 0, READY, b"")),
        (Orig, &asked),
        (Resp, &answer),
    ]);
    assert_eq!(found, ["hello -", "LIST Catalogue", "result - 11 0x2100"]);
}

#[test]
fn old_versions_number_streams_in_a_byte() {
    let old = |kind: u8, answers: u8, body: &[u8]| {
        let length = (body.len() as u32).to_be_bytes();
        [&[1 | answers, 0, 0, kind][..], &length, body].concat()
    };
    let credentials = [
        &[0, 2][..],
        &text("username"),
        &text("app"),
        &text("password"),
        &text("x"),
    ]
    .concat();
    let cql = [&long_text("USE ks")[..], &[0, 1]].concat();
    let found = events(&[
        (Orig, &old(CREDENTIALS, 0, &credentials)),
        (Resp, &old(READY, ANSWERS, b"")),
        (Orig, &old(QUERY, 0, &cql)),
        (Resp, &old(RESULT, ANSWERS, &[0, 0, 0, 3, 0, 2, b'k', b's'])),
    ]);
    assert_eq!(
        found,
        ["login app - -", "hello -", "USE Other", "result 0 8 -"]
    );
}

#[test]
fn warnings_traces_and_payloads_come_first() {
    let mut answer = message(0x84, 2, RESULT, &[]);
    answer.truncate(5);
    answer[1] = TRACED | WARNS | PAYLOAD;
    let body = [
        &[9; 16][..],
        &[0, 1],
        &text("old"),
        &[0, 1],
        &text("k"),
        &[0, 0, 0, 1, 7],
        &[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 9],
    ]
    .concat();
    answer.extend((body.len() as u32).to_be_bytes());
    answer.extend(body);
    let found = events(&[(Orig, &query(4, 2, "SELECT a FROM t")), (Resp, &answer)]);
    assert_eq!(found, ["SELECT Read", "result 9 49 -"]);
}

#[test]
fn what_is_long_is_passed_over() {
    let mut cassandra = (CASSANDRA.build)();
    let mut out = Vec::new();
    cassandra.feed(&segment(Orig, &query(4, 2, "SELECT a FROM t")), &mut out);
    let mut head = rows(4, 2, 1_000_000);
    head[5..9].copy_from_slice(&200_000_000_u32.to_be_bytes());
    cassandra.feed(&segment(Resp, &head), &mut out);
    for _ in 0..199 {
        cassandra.feed(&segment(Resp, &vec![7; 1_000_000]), &mut out);
    }
    let lines: Vec<String> = out.iter().map(line).collect();
    assert_eq!(lines, ["SELECT Read", "result 1000000 200000000 -"]);
    assert!(cassandra.skipped() > 198_000_000);
}

#[test]
fn recognised_by_header_and_kind() {
    use Probe::{Certain, NotForUs};
    assert_eq!(probed(probe, Orig, &message(4, 0, OPTIONS, b"")), Certain);
    assert_eq!(probed(probe, Orig, &startup(5, true)), Certain);
    assert_eq!(
        probed(probe, Orig, &query(3, 0, "SELECT a FROM t")),
        Certain
    );
    assert_eq!(probed(probe, Resp, &message(0x84, 0, READY, b"")), Certain);
    assert_eq!(probed(probe, Resp, &error(4, 0, 0x0100)), Certain);
    assert_eq!(probed(probe, Resp, &message(4, 0, OPTIONS, b"")), NotForUs);
    assert_eq!(
        probed(probe, Orig, b"\x04\x01\0\x35\0\0\x01\0\0\0\x1a"),
        NotForUs
    );
    assert_eq!(probed(probe, Orig, b"\x05\x01\0"), Probe::Unsure);
    assert_eq!(probed(probe, Orig, b"\x05\x02\0\x02"), Probe::Unsure);
    assert_eq!(
        probed(probe, Orig, b"\x04\x01\0\x50\x0a\0\0\x01user\0"),
        NotForUs
    );
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(CASSANDRA.build, probe);
}
