//! Conversations as drivers and servers of several revisions have them.

use super::super::testing::{any_bytes_return, conversation, probed};
use super::*;

use Direction::{Orig, Resp};

fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

fn string(text: &str) -> Vec<u8> {
    [number(text.len() as u64), text.into()].concat()
}

fn hello(revision: u64) -> Vec<u8> {
    [
        vec![0],
        string("ClickHouse client"),
        number(23),
        number(8),
        number(revision),
        string("shop"),
        string("default"),
        string("hunter2"),
    ]
    .concat()
}

fn server_hello(revision: u64) -> Vec<u8> {
    [
        vec![0],
        string("ClickHouse"),
        number(23),
        number(8),
        number(revision),
        string("UTC"),
        string("host"),
        number(4),
    ]
    .concat()
}

/// A query with one setting and an empty block after it.
fn query(revision: u64, compression: u64, sql: &str) -> Vec<u8> {
    let since = |first: u64, bytes: Vec<u8>| if revision >= first { bytes } else { Vec::new() };
    let mut out = [
        vec![1],
        string("id"),
        vec![1],
        string("default"),
        string("id"),
        string("0.0.0.0:0"),
        since(54_449, vec![0; 8]),
        vec![1],
        string("root"),
        string("host"),
        string("client"),
        number(23),
        number(8),
        number(revision),
        string(""),
        since(54_448, number(0)),
        since(54_401, number(1)),
        since(54_442, vec![0]),
        since(54_453, vec![0, 0, 0]),
        since(54_475, vec![0, 0]),
        since(54_476, vec![0]),
        since(
            54_429,
            [string("max_rows"), number(0), string("5")].concat(),
        ),
        string(""),
        since(54_472, string("")),
        since(54_441, string("")),
        number(2),
        number(compression),
        string(sql),
        since(54_459, string("")),
    ]
    .concat();
    out.extend(number(2));
    out.extend(string(""));
    if compression == 1 {
        out.extend([7; 16]);
        out.push(0x82);
        out.extend(19_u32.to_le_bytes());
        out.extend(10_u32.to_le_bytes());
        out.extend([7; 10]);
    } else {
        out.extend([1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    }
    out
}

fn exception(code: i32) -> Vec<u8> {
    [
        vec![2],
        code.to_le_bytes().to_vec(),
        string("DB::Exception"),
        string("no"),
        string(""),
        vec![0],
    ]
    .concat()
}

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(CLICKHOUSE.build, turns)
}

#[test]
fn a_client_logs_in_and_asks() {
    for revision in [54_412, 54_449, 54_468, 54_476] {
        let addendum = match revision {
            54_468 => string(""),
            54_476 => [
                string(""),
                string("notchunked"),
                string("notchunked"),
                number(4),
            ]
            .concat(),
            _ => Vec::new(),
        };
        for compression in [0, 1] {
            let ask = |sql: &str| query(revision, compression, sql);
            let first = [addendum.clone(), ask("SELECT name FROM system.databases")].concat();
            let block = [&[1, 0][..], &[7; 98]].concat();
            let mut rows = vec![2, 0];
            if compression == 1 {
                rows.extend([7; 16]);
                rows.extend([0x82, 100, 0, 0, 0, 200, 0, 0, 0]);
                rows.extend([7; 91]);
            } else {
                rows.extend([1, 0, 2, 0, 0, 0, 0, 0, 1, 1, 7, 7]);
            }
            let found = events(&[
                (Orig, &hello(revision)),
                (Resp, &server_hello(54_480)),
                (Orig, &first),
                (Resp, &block),
                (Resp, &[5]),
                (Orig, &ask("SELECT pw FROM users WHERE name='secret'")),
                (Resp, &exception(60)),
                (Orig, &ask("INSERT INTO t VALUES")),
                (Resp, &block),
                (Orig, &rows),
                (Resp, &[5]),
                (Orig, &[4]),
                (Resp, &[4]),
                (Orig, &ask("SELECT 1")),
                (Resp, &[5]),
            ]);
            assert_eq!(
                found,
                [
                    "login default shop ClickHouse client",
                    "hello 23.8",
                    "let in -",
                    "SELECT Catalogue",
                    "result - 101 -",
                    "SELECT Read",
                    "result - 5 60",
                    "INSERT Write",
                    "result - 100 -",
                    "SELECT Read",
                    "result - 1 -",
                ],
                "{revision} {compression}"
            );
        }
    }
}

#[test]
fn a_wrong_password_is_516() {
    let found = events(&[(Orig, &hello(54_468)), (Resp, &exception(516))]);
    assert_eq!(
        found,
        [
            "login default shop ClickHouse client",
            "refused 516",
            "done"
        ]
    );
}

#[test]
fn other_servers_and_odd_clients_ask_too() {
    // Nothing about the client; tracing.
    let revision = 54_468;
    let mut nobody = [
        vec![1],
        string("id"),
        vec![0],
        string(""),
        string(""),
        number(2),
        number(0),
    ]
    .concat();
    nobody.extend(string("SELECT 1"));
    let found = events(&[
        (Orig, &hello(revision)),
        (Resp, &server_hello(revision)),
        (Orig, &[string(""), nobody].concat()),
    ]);
    assert_eq!(found.last().unwrap(), "SELECT Read");
    let mut traced = query(revision, 0, "SELECT 2");
    // After the client's patch version; its place is found by what precedes it.
    let client = traced
        .windows(6)
        .position(|part| part == b"client")
        .unwrap();
    let flag = client + 6 + 1 + 1 + 3 + 1 + 1 + 1;
    assert_eq!(traced[flag], 0);
    traced[flag] = 1;
    let context = [&[9; 24][..], &string("state"), &[1]].concat();
    let rest = traced.split_off(flag + 1);
    traced.extend([context, rest].concat());
    let found = events(&[
        (Orig, &hello(revision)),
        (Resp, &server_hello(revision)),
        (Orig, &[string(""), traced].concat()),
    ]);
    assert_eq!(found.last().unwrap(), "SELECT Read");
    // Packets in chunks aren't followed.
    let chunks = [string(""), string("chunked"), string("chunked"), number(4)].concat();
    let found = events(&[
        (Orig, &hello(54_476)),
        (Resp, &server_hello(54_476)),
        (Orig, &chunks),
    ]);
    assert_eq!(found.last().unwrap(), "done");
}

#[test]
fn recognised_by_hello_and_error() {
    use Probe::{Certain, NotForUs};
    assert_eq!(probed(probe, Orig, &hello(54_468)), Certain);
    assert_eq!(probed(probe, Resp, &server_hello(54_468)), Certain);
    assert_eq!(probed(probe, Resp, &exception(516)), Certain);
    assert_eq!(probed(probe, Orig, &hello(7)), NotForUs);
    assert_eq!(probed(probe, Orig, b"\0\0\0\x08\x04\xd2\x16\x2f"), NotForUs);
    assert_eq!(probed(probe, Orig, b"GET / HTTP/1.1\r\n"), NotForUs);
    assert_eq!(probed(probe, Resp, b"\x02\0\0\0\0\0\0"), NotForUs);
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(CLICKHOUSE.build, probe);
}
