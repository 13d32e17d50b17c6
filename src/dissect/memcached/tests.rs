//! Text, meta and binary commands with their answers, and datagrams.

use super::super::testing::{any_bytes_return, conversation, line, probed, segment};
use super::*;

use Direction::{Orig, Resp};

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(MEMCACHED.build, turns)
}

fn binary(magic: u8, code: u8, status: u16, extras: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    [
        &[magic, code][..],
        &(key.len() as u16).to_be_bytes(),
        &[extras.len() as u8, 0],
        &status.to_be_bytes(),
        &body.to_be_bytes(),
        &[0; 12],
        extras,
        key.as_bytes(),
        value,
    ]
    .concat()
}

#[test]
fn commands_in_text_and_their_answers() {
    let found = events(&[
        (Orig, b"version\r\nget secret other\r\n"),
        (
            Resp,
            b"VERSION 1.6.18\r\nVALUE secret 0 11\r\nEND\r\nERROR\r\r\nEND\r\n",
        ),
        (
            Orig,
            b"set k 0 0 9 noreply\r\nget x\r\nyz\r\nset k 0 0 3\r\nabc\r\n",
        ),
        (Resp, b"STORED\r\n"),
        (Orig, b"stats cachedump 1 100\r\n"),
        (
            Resp,
            b"ITEM secret [11 b; 0 s]\r\nITEM other [1 b; 0 s]\r\nEND\r\n",
        ),
        (Orig, b"lru_crawler metadump all\r\n"),
        (Resp, b"key=secret exp=-1\r\nkey=other exp=-1\r\nEND\r\n"),
        (Orig, b"mg k v\r\nmn\r\nhunter2\r\n\r\n"),
        (Resp, b"VA 3\r\nabc\r\nMN\r\nERROR\r\n"),
        (Orig, b"stats\r\n"),
        (Resp, b"STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n"),
        (Orig, b"watch fetchers\r\n"),
    ]);
    assert_eq!(
        found,
        [
            "version Other",
            "get Read",
            "hello 1.6.18",
            "result 0 16 -",
            "result 1 37 -",
            "set Write",
            "set Write",
            "result 0 8 -",
            "stats cachedump Catalogue KEY_WALK",
            "result 2 53 -",
            "lru_crawler metadump Catalogue KEY_WALK",
            "result 2 42 -",
            "mg Read",
            "mn Other",
            "OTHER Other",
            "result 1 11 -",
            "result 0 4 -",
            "result 0 7 ERROR",
            "stats Catalogue",
            "hello 1.6.18",
            "result 2 38 -",
            "watch Admin EAVESDROPS",
            "done",
        ]
    );
}

#[test]
fn a_login_in_text_shows_when_it_fails() {
    let found = events(&[
        (Orig, b"get k\r\n"),
        (Resp, b"CLIENT_ERROR unauthenticated\r\n"),
        (Orig, b"set auth 0 0 11\r\napp hunter2\r\n"),
        (Resp, b"CLIENT_ERROR authentication failure\r\n"),
        (Orig, b"set auth 0 0 11\r\napp hunter3\r\n"),
        (Resp, b"STORED\r\n"),
    ]);
    assert_eq!(
        found,
        [
            "get Read",
            "result 0 30 unauthenticated",
            "set Write",
            "login - - -",
            "refused CLIENT_ERROR",
            "set Write",
            "result 0 8 -",
        ]
    );
}

#[test]
fn binary_messages() {
    let login = |password: &str| {
        let value = format!("\0app\0{password}");
        binary(REQUEST, 0x21, 0, b"", "PLAIN", value.as_bytes())
    };
    let found = events(&[
        (Orig, &binary(REQUEST, 0x20, 0, b"", "", b"")),
        (Resp, &binary(RESPONSE, 0x20, 0, b"", "", b"PLAIN")),
        (Orig, &login("hunter2")),
        (
            Resp,
            &binary(RESPONSE, 0x21, 0x20, b"", "", b"Auth failure."),
        ),
        (Orig, &login("hunter3")),
        (Resp, &binary(RESPONSE, 0x21, 0, b"", "", b"Authenticated")),
        (Orig, &binary(REQUEST, 0x00, 0, b"", "secret", b"")),
        (Resp, &binary(RESPONSE, 0x00, 1, b"", "", b"Not found")),
        (Orig, &binary(REQUEST, 0x01, 0, &[0; 8], "secret", &[7; 40])),
        (Resp, &binary(RESPONSE, 0x01, 0, b"", "", b"")),
        (Orig, &binary(REQUEST, 0x00, 0, b"", "secret", b"")),
        (Resp, &binary(RESPONSE, 0x00, 0, &[0; 4], "", &[7; 40])),
        (Orig, &binary(REQUEST, 0x10, 0, b"", "cachedump 1 0 0", b"")),
        (
            Resp,
            &[
                binary(RESPONSE, 0x10, 0, b"", "secret", b"11"),
                binary(RESPONSE, 0x10, 0, b"", "", b""),
            ]
            .concat(),
        ),
        (Orig, &binary(REQUEST, 0x0b, 0, b"", "", b"")),
        (Resp, &binary(RESPONSE, 0x0b, 0, b"", "", b"1.6.18")),
    ]);
    assert_eq!(
        found,
        [
            "sasl_list_mechs Other",
            "result 0 5 -",
            "login app - -",
            "refused 0x20",
            "login app - -",
            "let in -",
            "get Read",
            "result 0 9 -",
            "set Write",
            "result 0 0 -",
            "get Read",
            "result 1 40 -",
            "stats cachedump Catalogue KEY_WALK",
            "result 1 8 -",
            "version Other",
            "hello 1.6.18",
            "result 0 6 -",
        ]
    );
}

#[test]
fn datagrams_of_one_answer_are_counted_together() {
    let datagram = |number: u8, total: u8, body: &[u8]| {
        [&[0, 7, 0, number, 0, total, 0, 0][..], body].concat()
    };
    let turns: &[(Direction, Vec<u8>)] = &[
        (Orig, datagram(0, 1, b"stats\r\n")),
        (
            Resp,
            datagram(0, 2, b"STAT pid 1\r\nSTAT version 1.6.18\r\n"),
        ),
        (Resp, datagram(1, 2, b"STAT x 1\r\nEND\r\n")),
        (Orig, datagram(0, 1, b"get secret\r\n")),
        (Resp, datagram(0, 1, b"VALUE secret 0 3\r\nabc\r\nEND\r\n")),
        (Orig, datagram(0, 1, b"x")),
        (Orig, b"\0".to_vec()),
    ];
    let mut udp = (MEMCACHED_UDP.build)();
    let mut out = Vec::new();
    for (direction, data) in turns {
        assert_eq!(
            udp.feed(&segment(*direction, data), &mut out),
            Progress::More
        );
    }
    let lines: Vec<String> = out.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "stats Catalogue",
            "hello 1.6.18",
            "result 3 48 -",
            "get Read",
            "result 1 28 -",
        ]
    );
    let verdict = |direction, data: &[u8]| probe_udp(&segment(direction, data));
    assert_eq!(verdict(Orig, &turns[0].1), Probe::Certain);
    assert_eq!(verdict(Resp, &turns[1].1), Probe::Certain);
    assert_eq!(verdict(Orig, &turns[5].1), Probe::NotForUs);
    assert_eq!(
        verdict(Orig, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"),
        Probe::NotForUs
    );
}

#[test]
fn recognised_by_whole_first_lines() {
    use Probe::{Certain, NotForUs};
    let cases: &[(Direction, &[u8], Probe)] = &[
        (Orig, b"get k\r\n", Certain),
        (Orig, b"get k HTTP/1.0\r\n", NotForUs),
        (Orig, b"GET / HTTP/1.1\r\n", NotForUs),
        (Orig, b"set k 0 0 5\r\n", Certain),
        (Orig, b"set k v\r\n", NotForUs),
        (Orig, b"stats\r\n", Certain),
        (Orig, b"version\r\n", Certain),
        (Orig, b"stat\r\n", NotForUs),
        (Orig, b"quit\r\n", NotForUs),
        (Orig, b"hello\r\n", NotForUs),
        (Orig, b"get \xff\xff\r\n", NotForUs),
        (Resp, b"VALUE k 0 5\r\n", Certain),
        (Resp, b"VERSION 1.6", Certain),
        (Resp, b"VERSION x", NotForUs),
        (Resp, b"220 smtp\r\n", NotForUs),
        (Resp, b"STORED\r\n", Certain),
    ];
    for (direction, data, expected) in cases {
        assert_eq!(probed(probe, *direction, data), *expected, "{data:?}");
    }
    let get = binary(REQUEST, 0, 0, b"", "k", b"");
    assert_eq!(probed(probe, Orig, &get), Certain);
    assert_eq!(probed(probe, Resp, &get), NotForUs);
    assert_eq!(probed(probe, Orig, &[0x80; 30]), NotForUs);
}

#[test]
fn what_is_long_is_passed_over() {
    let mut memcached = (MEMCACHED.build)();
    let mut out = Vec::new();
    memcached.feed(&segment(Orig, b"set k 0 0 100000000\r\n"), &mut out);
    for _ in 0..100 {
        memcached.feed(&segment(Orig, &vec![b'x'; 1_000_000]), &mut out);
    }
    memcached.feed(&segment(Orig, b"\r\n"), &mut out);
    memcached.feed(&segment(Orig, b"get "), &mut out);
    for _ in 0..100 {
        memcached.feed(&segment(Orig, &vec![b'k'; 1_000_000]), &mut out);
    }
    memcached.feed(&segment(Orig, b"\r\n"), &mut out);
    let lines: Vec<String> = out.iter().map(line).collect();
    assert_eq!(lines, ["set Write", "get Read"]);
    assert!(memcached.skipped() > 199_000_000);
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(MEMCACHED.build, probe);
    any_bytes_return(MEMCACHED_UDP.build, probe_udp);
}
