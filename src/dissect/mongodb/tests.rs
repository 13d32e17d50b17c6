//! Conversations as drivers and servers of several ages have them.

use super::super::testing::{any_bytes_return, conversation, probed, segment};
use super::*;

use Direction::{Orig, Resp};

/// A document with these fields.
fn document(fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let length = (body.len() as u32 + 5).to_le_bytes();
    [&length[..], &body, b"\0"].concat()
}

fn field(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    [&[kind][..], name.as_bytes(), b"\0", value].concat()
}

fn string(name: &str, value: &str) -> Vec<u8> {
    let length = (value.len() as u32 + 1).to_le_bytes();
    field(2, name, &[&length[..], value.as_bytes(), b"\0"].concat())
}

fn int(name: &str, value: i32) -> Vec<u8> {
    field(0x10, name, &value.to_le_bytes())
}

fn double(name: &str, value: f64) -> Vec<u8> {
    field(1, name, &value.to_le_bytes())
}

fn within(name: &str, fields: &[&[u8]]) -> Vec<u8> {
    field(3, name, &document(fields))
}

fn array(name: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = values
        .iter()
        .enumerate()
        .map(|(index, value)| field(3, &index.to_string(), value))
        .collect();
    let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    field(4, name, &document(&fields))
}

fn binary(name: &str, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_le_bytes();
    field(5, name, &[&length[..], b"\0", value].concat())
}

fn message(kind: u32, id: u32, answers: u32, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 16;
    let header = [length, id, answers, kind].map(u32::to_le_bytes).concat();
    [&header[..], body].concat()
}

/// A command in today's form.
fn command(id: u32, fields: &[&[u8]]) -> Vec<u8> {
    let body = [&b"\0\0\0\0\0"[..], &document(fields)].concat();
    message(MSG, id, 0, &body)
}

fn answer(to: u32, fields: &[&[u8]]) -> Vec<u8> {
    let body = [&b"\0\0\0\0\0"[..], &document(fields)].concat();
    message(MSG, to + 1000, to, &body)
}

/// A command in the form before 3.6.
fn query(id: u32, name: &str, limit: i32, fields: &[&[u8]]) -> Vec<u8> {
    let body = [
        &[0; 4][..],
        name.as_bytes(),
        &[0; 5],
        &limit.to_le_bytes(),
        &document(fields),
    ]
    .concat();
    message(QUERY, id, 0, &body)
}

fn old_answer(to: u32, documents: &[Vec<u8>]) -> Vec<u8> {
    let count = documents.len() as u32;
    let body = [
        &[8, 0, 0, 0][..],
        &[0; 12],
        &count.to_le_bytes(),
        &documents.concat(),
    ]
    .concat();
    message(REPLY, to + 1000, to, &body)
}

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(MONGODB.build, turns)
}

#[test]
fn a_driver_logs_in_and_asks() {
    let client = within(
        "client",
        &[
            &within("driver", &[&string("name", "PyMongo")]),
            &within("application", &[&string("name", "shop")]),
        ],
    );
    let hello = query(1, "admin.$cmd", -1, &[&int("ismaster", 1), &client]);
    let hello_answer = old_answer(
        1,
        &[document(&[&int("maxWireVersion", 21), &double("ok", 1.0)])],
    );
    let start = command(
        2,
        &[
            &int("saslStart", 1),
            &string("mechanism", "SCRAM-SHA-256"),
            &binary("payload", b"n,,n=ap=2Cp,r=nonce"),
            &string("$db", "admin"),
        ],
    );
    let go_on = |id| {
        command(
            id,
            &[
                &int("saslContinue", 1),
                &binary("payload", b"c=,r=,p=proof"),
            ],
        )
    };
    let step = |to, done| {
        answer(
            to,
            &[
                &int("conversationId", 1),
                &field(8, "done", &[done]),
                &double("ok", 1.0),
            ],
        )
    };
    let find = command(
        5,
        &[
            &string("find", "users"),
            &within("filter", &[&string("name", "secret")]),
            &string("$db", "shop"),
        ],
    );
    let cursor = within(
        "cursor",
        &[
            &array(
                "firstBatch",
                &[document(&[&int("a", 1)]), document(&[&int("a", 2)])],
            ),
            &field(0x12, "id", &[0; 8]),
        ],
    );
    let found = events(&[
        (Orig, &hello),
        (Resp, &hello_answer),
        (Orig, &start),
        (Resp, &step(2, 0)),
        (Orig, &go_on(3)),
        (Resp, &step(3, 0)),
        (Orig, &go_on(4)),
        (Resp, &step(4, 1)),
        (Orig, &find),
        (Resp, &answer(5, &[&cursor, &double("ok", 1.0)])),
    ]);
    assert_eq!(
        found,
        [
            "ismaster Other",
            "hello wire 21",
            "result - 73 -",
            "login ap,p admin shop",
            "let in -",
            "find Read",
            "result 2 110 -",
        ]
    );
}

#[test]
fn a_wrong_password_is_code_18() {
    let early = within(
        "speculativeAuthenticate",
        &[
            &int("saslStart", 1),
            &string("mechanism", "SCRAM-SHA-256"),
            &binary("payload", b"n,,n=root,r=nonce"),
            &string("db", "admin"),
        ],
    );
    let hello = command(1, &[&int("hello", 1), &early]);
    let start = command(
        2,
        &[
            &int("saslStart", 1),
            &string("mechanism", "SCRAM-SHA-256"),
            &binary("payload", b"n,,n=root,r=other"),
            &string("$db", "admin"),
        ],
    );
    let refusal = answer(
        2,
        &[
            &double("ok", 0.0),
            &string("errmsg", "Authentication failed."),
            &int("code", 18),
            &string("codeName", "AuthenticationFailed"),
        ],
    );
    // The server doesn't know the user, so that the early login came to nothing and is repeated.
    let found = events(&[
        (Orig, &hello),
        (
            Resp,
            &answer(1, &[&int("maxWireVersion", 17), &double("ok", 1.0)]),
        ),
        (Orig, &start),
        (Resp, &refusal),
        (
            Orig,
            &command(3, &[&int("listDatabases", 1), &string("$db", "admin")]),
        ),
        (Resp, &answer(3, &[&double("ok", 0.0), &int("code", 13)])),
    ]);
    assert_eq!(
        found,
        [
            "login root admin -",
            "hello Other",
            "hello wire 17",
            "result - 58 -",
            "refused 18",
            "listDatabases Catalogue",
            "result - 48 13",
        ]
    );
    // The early login goes on.
    let took = within("speculativeAuthenticate", &[&field(8, "done", &[0])]);
    let found = events(&[
        (Orig, &hello),
        (
            Resp,
            &answer(1, &[&int("maxWireVersion", 17), &took, &double("ok", 1.0)]),
        ),
        (Orig, &command(2, &[&int("saslContinue", 1)])),
        (Resp, &answer(2, &[&double("ok", 0.0), &int("code", 18)])),
    ]);
    assert_eq!(found[0], "login root admin -");
    assert_eq!(found.last().unwrap(), "refused 18");
    assert_eq!(found.len(), 5);
}

#[test]
fn other_ways_to_log_in_name_the_user_alone() {
    let plain = command(
        1,
        &[
            &int("saslStart", 1),
            &string("mechanism", "PLAIN"),
            &binary("payload", b"\0ldap\0hunter2"),
            &string("$db", "$external"),
        ],
    );
    let done = answer(1, &[&field(8, "done", &[1]), &double("ok", 1.0)]);
    assert_eq!(
        events(&[(Orig, &plain), (Resp, &done)]),
        ["login ldap $external -", "let in -"]
    );
    let old = query(
        1,
        "shop.$cmd",
        -1,
        &[
            &int("authenticate", 1),
            &string("user", "app"),
            &string("key", "hash"),
        ],
    );
    assert_eq!(
        events(&[
            (Orig, &old),
            (Resp, &old_answer(1, &[document(&[&double("ok", 1.0)])]))
        ]),
        ["login app shop -", "let in -"]
    );
}

#[test]
fn commands_have_classes_and_marks() {
    let db = string("$db", "shop");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            command(1, &[&string("find", "users"), &db]),
            "find Read BULK_READ",
        ),
        (
            command(1, &[&string("find", "users"), &int("limit", 1), &db]),
            "find Read",
        ),
        (
            command(
                1,
                &[
                    &string("find", "t"),
                    &within("filter", &[&string("$where", "sleep(1)")]),
                    &db,
                ],
            ),
            "find Read SCRIPT",
        ),
        (
            command(
                1,
                &[
                    &string("find", "system.users"),
                    &within("filter", &[&int("a", 1)]),
                    &db,
                ],
            ),
            "find CredentialTable",
        ),
        (
            command(
                1,
                &[
                    &string("find", "oplog.rs"),
                    &within("filter", &[&int("ts", 1)]),
                    &db,
                ],
            ),
            "find Read REPLICATES",
        ),
        (
            command(
                1,
                &[
                    &string("aggregate", "t"),
                    &array("pipeline", &[document(&[&within("$match", &[])])]),
                    &db,
                ],
            ),
            "aggregate Read",
        ),
        (
            command(
                1,
                &[&string("aggregate", "t"), &array("pipeline", &[]), &db],
            ),
            "aggregate Read BULK_READ",
        ),
        (
            command(
                1,
                &[
                    &string("aggregate", "t"),
                    &array("pipeline", &[document(&[&string("$out", "x")])]),
                    &db,
                ],
            ),
            "aggregate Write",
        ),
        (
            command(1, &[&int("usersInfo", 1), &db]),
            "usersInfo CredentialTable",
        ),
        (
            command(1, &[&int("listCollections", 1), &db]),
            "listCollections Catalogue",
        ),
        (
            command(1, &[&string("getLog", "global"), &db]),
            "getLog Catalogue",
        ),
        (
            command(
                1,
                &[&string("createUser", "x"), &string("pwd", "hunter2"), &db],
            ),
            "createUser Admin",
        ),
        (command(1, &[&string("hunter2", "x"), &db]), "OTHER Other"),
        (query(1, "shop.users", 0, &[]), "find Read BULK_READ"),
        (query(1, "shop.users", 1, &[]), "find Read"),
        (
            query(1, "shop.system.users", 0, &[&int("a", 1)]),
            "find CredentialTable",
        ),
        (
            query(
                1,
                "shop.$cmd",
                -1,
                &[&within("$query", &[&int("dbStats", 1)])],
            ),
            "dbStats Catalogue",
        ),
    ];
    for (wire, expected) in cases {
        let found = events(&[(Orig, &wire)]);
        let [line] = &found[..] else {
            panic!("{expected}: {found:?}");
        };
        assert_eq!(line, expected);
    }
}

#[test]
fn fingerprints_leave_values_out() {
    let of = |wire: &[u8]| {
        let mut out = Vec::new();
        (MONGODB.build)().feed(&segment(Orig, wire), &mut out);
        let Some(Transaction::Database(DatabaseMessage {
            event: DatabaseEvent::Statement { fingerprint, .. },
            ..
        })) = out.pop()
        else {
            panic!("no statement");
        };
        fingerprint
    };
    let find = |collection, field, value| {
        of(&command(
            1,
            &[
                &string("find", collection),
                &within("filter", &[&string(field, value)]),
            ],
        ))
    };
    assert_eq!(find("t", "name", "one"), find("t", "name", "another"));
    assert_ne!(find("t", "name", "one"), find("t", "mail", "one"));
    assert_ne!(find("t", "name", "one"), find("u", "name", "one"));
}

#[test]
fn compressed_messages_are_unpacked() {
    let inner = [&b"\0\0\0\0\0"[..], &document(&[&int("ping", 1)])].concat();
    let wrapped = |id, answers, compressor: u8, data: &[u8]| {
        let body = [&MSG.to_le_bytes()[..], &[0; 4], &[compressor], data].concat();
        message(COMPRESSED, id, answers, &body)
    };
    let zlib = |data: &[u8]| {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, data).unwrap();
        out.finish().unwrap()
    };
    let zstd = |data: &[u8]| zstd::stream::encode_all(data, 1).unwrap();
    let ok = |code| {
        let fields = [double("ok", 0.0), int("code", code)];
        [&b"\0\0\0\0\0"[..], &document(&[&fields[0], &fields[1]])].concat()
    };
    let found = events(&[
        (Orig, &wrapped(1, 0, 9, b"zzzz")),
        (Resp, &wrapped(9, 1, 9, b"zzzzzz")),
        (Orig, &wrapped(2, 0, 0, &inner)),
        (Orig, &wrapped(3, 0, 2, &zlib(&inner))),
        (Orig, &wrapped(4, 0, 3, &zstd(&inner))),
        (Resp, &wrapped(9, 4, 3, &zstd(&ok(13)))),
        (Resp, &wrapped(9, 3, 2, &zlib(&ok(26)))),
    ]);
    // Lengths are those of what was sent, and so the packers' business.
    let (last, others) = found.split_last().unwrap();
    let (last_but_one, others) = others.split_last().unwrap();
    assert_eq!(
        others,
        [
            "COMPRESSED Other",
            "result - 31 -",
            "ping Other",
            "ping Other",
            "ping Other",
        ]
    );
    assert!(last_but_one.starts_with("result -") && last_but_one.ends_with(" 13"));
    assert!(last.starts_with("result -") && last.ends_with(" 26"));
}

#[test]
fn documents_before_the_command_and_long_ones_are_passed_over() {
    let rows = [&[20, 0, 0, 0][..], b"documents\0", &document(&[])[..]].concat();
    let rows = [&(rows.len() as u32).to_le_bytes()[..], &rows[4..]].concat();
    let body = [
        &[0, 0, 0, 0, 1][..],
        &rows,
        b"\0",
        &document(&[&string("insert", "t")]),
    ]
    .concat();
    let mut long = command(
        2,
        &[&string("find", "t"), &binary("filler", &vec![7; 100_000])],
    );
    let found = events(&[
        (Orig, &message(MSG, 1, 0, &body)),
        (Resp, &answer(1, &[&int("n", 1), &double("ok", 1.0)])),
    ]);
    assert_eq!(found, ["insert Write", "result 1 45 -"]);
    // No filter is seen, but there may be one.
    let mut out = Vec::new();
    let mut dissector = (MONGODB.build)();
    long.extend(command(3, &[&int("ping", 1)]));
    for piece in long.chunks(1000) {
        assert_eq!(
            dissector.feed(&segment(Orig, piece), &mut out),
            Progress::More
        );
    }
    let lines: Vec<String> = out.iter().map(super::super::testing::line).collect();
    assert_eq!(lines, ["find Read", "ping Other"]);
    assert!(dissector.skipped() > 90_000);
    let Transaction::Database(DatabaseMessage {
        event: DatabaseEvent::Statement { length, .. },
        ..
    }) = &out[0]
    else {
        panic!("{out:?}");
    };
    assert_eq!(*length, 100_051);
}

#[test]
fn recognised_by_header_and_first_field() {
    use Probe::{Certain, NotForUs};
    let hello = command(1, &[&int("hello", 1)]);
    assert_eq!(probed(probe, Orig, &hello), Certain);
    assert_eq!(
        probed(
            probe,
            Orig,
            &query(7, "admin.$cmd", -1, &[&int("isMaster", 1)])
        ),
        Certain
    );
    assert_eq!(
        probed(probe, Resp, &answer(1, &[&double("ok", 1.0)])),
        Certain
    );
    assert_eq!(
        probed(probe, Resp, &old_answer(1, &[document(&[])])),
        Certain
    );
    // An answer can't come first from a client.
    assert_eq!(
        probed(probe, Orig, &answer(1, &[&double("ok", 1.0)])),
        NotForUs
    );
    assert_eq!(
        probed(probe, Orig, &message(MSG, 1, 0, &[0xff; 20])),
        NotForUs
    );
    assert_eq!(probed(probe, Orig, b"GET / HTTP/1.1\r\n\r\n"), NotForUs);
    assert_eq!(probed(probe, Orig, &[0; 64]), NotForUs);
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(MONGODB.build, probe);
}
