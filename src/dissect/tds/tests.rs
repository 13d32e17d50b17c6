//! Conversations as ODBC, JDBC, FreeTDS and servers of both houses have them.

use super::super::testing::{any_bytes_return, conversation, line, probed, segment};
use super::*;

use Direction::{Orig, Resp};

const LAST: u8 = 1;

fn packet(kind: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 8).to_be_bytes();
    [&[kind, status][..], &length, &[0, 0, 1, 0], body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    packet(kind, LAST, body)
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn headers() -> Vec<u8> {
    let mut headers = vec![22, 0, 0, 0, 18, 0, 0, 0, 2, 0];
    headers.extend([0; 8]);
    headers.extend([1, 0, 0, 0]);
    headers
}

fn batch(text: &str) -> Vec<u8> {
    message(BATCH, &[headers(), wide(text)].concat())
}

fn prelogin(kind: u8, major: u8, encryption: u8) -> Vec<u8> {
    let options = [
        0, 0, 11, 0, 6, // version
        1, 0, 17, 0, 1, // encryption
        0xff, major, 0, 0x10, 0x68, 0, 0, encryption,
    ];
    message(kind, &options)
}

/// A login in which the password follows the user.
fn login7(version: u32, names: [&str; 9]) -> Vec<u8> {
    let mut fixed = version.to_le_bytes().to_vec();
    fixed.extend([0; 28]);
    let mut data = Vec::new();
    let mut offsets = Vec::new();
    for name in names {
        let from = 94 + data.len() as u16;
        offsets.extend(from.to_le_bytes());
        offsets.extend((name.encode_utf16().count() as u16).to_le_bytes());
        data.extend(wide(name));
    }
    offsets.extend([0; 22]);
    let length = (4 + fixed.len() + offsets.len() + data.len()) as u32;
    message(
        LOGIN,
        &[length.to_le_bytes().to_vec(), fixed, offsets, data].concat(),
    )
}

fn hdbc_login() -> Vec<u8> {
    login7(
        0x7400_0004,
        [
            "host", "sa", "hunter2", "sqlcmd", "db", "", "ODBC", "", "shop",
        ],
    )
}

fn counted(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_le_bytes();
    [&[kind][..], &length, body].concat()
}

fn error(number: u32) -> Vec<u8> {
    let body = [
        &number.to_le_bytes()[..],
        &[1, 14, 2, 0],
        &wide("no"),
        &[0, 0, 1, 0, 0, 0],
    ]
    .concat();
    counted(0xaa, &body)
}

fn ack() -> Vec<u8> {
    let body = [
        &[1, 0x74, 0, 0, 4, 4][..],
        &wide("Micr"),
        &[16, 0, 0x10, 0x68],
    ]
    .concat();
    counted(0xad, &body)
}

fn done(kind: u8, flags: u16, rows: u64) -> Vec<u8> {
    [
        &[kind][..],
        &flags.to_le_bytes(),
        &[0xc1, 0],
        &rows.to_le_bytes(),
    ]
    .concat()
}

fn answer(tokens: &[&[u8]]) -> Vec<u8> {
    message(ANSWER, &tokens.concat())
}

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(TDS.build, turns)
}

#[test]
fn a_client_logs_in_and_asks() {
    let rows = [&[COLUMNS_TOKEN][..], &[7; 500], &done(0xfd, 0x10, 42)].concat();
    let found = events(&[
        (Orig, &prelogin(PRELOGIN, 8, 2)),
        (Resp, &prelogin(ANSWER, 16, 2)),
        (Orig, &hdbc_login()),
        (
            Resp,
            &answer(&[
                &counted(0xe3, &[1, 1, b'x', 0, 0]),
                &ack(),
                &done(0xfd, 0, 0),
            ]),
        ),
        (
            Orig,
            &batch("SELECT name FROM sys.databases WHERE name='secret'"),
        ),
        (Resp, &answer(&[&rows])),
        (Orig, &batch("insert into t values (1)")),
        (Resp, &answer(&[&done(0xfd, 0x11, 1), &done(0xfd, 0x10, 2)])),
        (Orig, &batch("EXEC xp_cmdshell 'whoami'")),
        (Resp, &answer(&[&error(15281), &done(0xfd, 2, 0)])),
    ]);
    assert_eq!(
        found,
        [
            "hello 16.0.4200",
            "login sa shop sqlcmd",
            "let in -",
            "SELECT Catalogue",
            "result 42 514 -",
            "INSERT Write",
            "result 3 0 -",
            "EXEC Abuse PROGRAM",
            "result - 0 15281",
        ]
    );
}

const COLUMNS_TOKEN: u8 = 0x81;

#[test]
fn a_wrong_password_is_18456() {
    let found = events(&[
        (Orig, &hdbc_login()),
        (Resp, &answer(&[&error(18456), &done(0xfd, 2, 0)])),
    ]);
    assert_eq!(found, ["login sa shop sqlcmd", "refused 18456"]);
    // Proofs go back and forth.
    let found = events(&[
        (Orig, &hdbc_login()),
        (Resp, &answer(&[&counted(0xed, b"NTLMSSP\0challenge")])),
        (Orig, &message(SSPI, b"NTLMSSP\0answer")),
        (Resp, &answer(&[&error(18452), &done(0xfd, 2, 0)])),
    ]);
    assert_eq!(found, ["login sa shop sqlcmd", "refused 18452"]);
}

#[test]
fn encryption_of_all_ends_the_reading_and_of_the_login_does_not() {
    let found = events(&[
        (Orig, &prelogin(PRELOGIN, 8, 0)),
        (Resp, &prelogin(ANSWER, 15, 1)),
        (Orig, &message(PRELOGIN, b"\x16\x03\x01\0\x01x")),
    ]);
    assert_eq!(found, ["hello 15.0.4200", "done"]);
    let found = events(&[
        (Orig, &prelogin(PRELOGIN, 8, 0)),
        (Resp, &prelogin(ANSWER, 15, 0)),
        (Orig, &message(PRELOGIN, b"\x16\x03\x01\0\x01x")),
        (Resp, &message(PRELOGIN, b"\x16\x03\x03\0\x01x")),
        (Orig, b"\x17\x03\x03\0\x05login"),
        (Resp, &answer(&[&error(18456), &done(0xfd, 2, 0)])),
        (Orig, &batch("select 1")),
    ]);
    assert_eq!(
        found,
        [
            "hello 15.0.4200",
            "login - - -",
            "refused 18456",
            "SELECT Read"
        ]
    );
}

#[test]
fn calls_are_taken_for_what_they_run() {
    let nvarchar = |text: &str| {
        let text = wide(text);
        let length = (text.len() as u16).to_le_bytes();
        [
            &[0, 0, 0xe7, 0x40, 0x1f, 9, 4, 0xd0, 0, 0x34][..],
            &length,
            &text,
        ]
        .concat()
    };
    let any_length = |text: &str| {
        let text = wide(text);
        let length = (text.len() as u32).to_le_bytes();
        [
            &[0, 0, 0xe7, 0xff, 0xff, 9, 4, 0xd0, 0, 0x34][..],
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &length,
            &text,
            &[0; 4],
        ]
        .concat()
    };
    let handle = [0, 1, 0x26, 4, 0];
    let numbered = |number: u16, parameters: &[&[u8]]| {
        let body = [
            &headers()[..],
            &[0xff, 0xff],
            &number.to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        message(CALL, &[&body[..], &parameters.concat()].concat())
    };
    let named = |name: &str, parameters: &[&[u8]]| {
        let length = (name.len() as u16).to_le_bytes();
        let body = [&headers()[..], &length, &wide(name), &[0, 0]].concat();
        message(CALL, &[&body[..], &parameters.concat()].concat())
    };
    let text = "select * from t where a=@p";
    let types = "@p int";
    let cases: &[(Vec<u8>, &[&str])] = &[
        (
            numbered(10, &[&nvarchar(text), &nvarchar(types)]),
            &["SELECT Read"],
        ),
        (
            numbered(10, &[&any_length("select pw from sys.sql_logins")]),
            &["SELECT CredentialTable"],
        ),
        (
            numbered(13, &[&handle, &nvarchar(types), &nvarchar("delete from t")]),
            &["DELETE Write"],
        ),
        (
            named("sp_executesql", &[&nvarchar("select 1")]),
            &["SELECT Read"],
        ),
        (
            named("master..xp_cmdshell", &[&nvarchar("whoami")]),
            &["EXEC Abuse PROGRAM"],
        ),
        (named("sp_helpdb", &[]), &["EXEC Catalogue"]),
        // What was prepared is run.
        (numbered(12, &[&handle]), &[]),
    ];
    for (wire, expected) in cases {
        assert_eq!(events(&[(Orig, wire)]), *expected);
    }
    // A call returns its rows before its status.
    let returned = [
        &[COLUMNS_TOKEN, 7, 7, 7][..],
        &done(0xff, 0x11, 5),
        &[0x79, 0, 0, 0, 0],
        &done(0xfe, 0, 0),
    ]
    .concat();
    let found = events(&[
        (Orig, &numbered(10, &[&nvarchar(text)])),
        (Resp, &answer(&[&returned])),
    ]);
    assert_eq!(found, ["SELECT Read", "result 5 35 -"]);
}

#[test]
fn messages_of_many_packets_are_one() {
    let text = format!("select '{}' from sys.tables", "x".repeat(3000));
    let body = [headers(), wide(&text)].concat();
    let mut wire = Vec::new();
    let mut pieces = body.chunks(4088).peekable();
    while let Some(piece) = pieces.next() {
        let status = u8::from(pieces.peek().is_none());
        wire.extend(packet(BATCH, status, piece));
    }
    let mut tds = (TDS.build)();
    let mut out = Vec::new();
    for piece in wire.chunks(777) {
        assert_eq!(tds.feed(&segment(Orig, piece), &mut out), Progress::More);
    }
    for _ in 0..5000 {
        let rows = packet(ANSWER, 0, &[COLUMNS_TOKEN; 4088]);
        assert_eq!(tds.feed(&segment(Resp, &rows), &mut out), Progress::More);
    }
    let end = packet(ANSWER, LAST, &done(0xfd, 0x10, 9));
    tds.feed(&segment(Resp, &end), &mut out);
    let lines: Vec<String> = out.iter().map(line).collect();
    assert_eq!(lines, ["SELECT Catalogue", "result 9 20440013 -"]);
    assert!(tds.skipped() > 20_000_000);
    let Transaction::Database(DatabaseMessage {
        event: DatabaseEvent::Statement { length, .. },
        ..
    }) = &out[0]
    else {
        panic!("{out:?}");
    };
    assert_eq!(*length as usize, text.len());
}

#[test]
fn sybase_logs_in_otherwise() {
    let mut login = vec![0; 504];
    let mut name = |from: usize, name: &str| {
        login[from..from + name.len()].copy_from_slice(name.as_bytes());
        login[from + 30] = name.len() as u8;
    };
    name(0, "host");
    name(31, "sa");
    name(62, "hunter2");
    name(140, "isql");
    let mut wire = packet(OLD_LOGIN, 0, &login);
    wire.extend(packet(OLD_LOGIN, LAST, &[0; 80]));
    let ack = counted(0xad, &[6, 5, 0, 0, 0, 3, b's', b'q', b'l', 12, 5, 0, 0]);
    let mut refusal = 4002_u32.to_le_bytes().to_vec();
    refusal.extend([1, 14, 0, 0, 0, 0, 0]);
    let end = [0xfd, 2, 0, 0, 0, 0, 0, 0, 0];
    let language = [&[0x21, 9, 0, 0, 0, 0][..], b"select 1"].concat();
    let found = events(&[
        (Orig, &wire),
        (Resp, &answer(&[&ack, &counted(0xe5, &refusal), &end])),
        (Orig, &message(OLD_NORMAL, &language)),
        (Resp, &answer(&[&[0xfd, 0x10, 0, 0, 0, 3, 0, 0, 0]])),
    ]);
    assert_eq!(
        found,
        [
            "login sa - isql",
            "hello 12.5.0",
            "refused 4002",
            "SELECT Read",
            "result 3 0 -"
        ]
    );
}

#[test]
fn recognised_by_what_a_first_message_must_hold() {
    use Probe::{Certain, NotForUs};
    assert_eq!(probed(probe, Orig, &prelogin(PRELOGIN, 8, 2)), Certain);
    assert_eq!(probed(probe, Resp, &prelogin(ANSWER, 16, 2)), Certain);
    assert_eq!(probed(probe, Orig, &hdbc_login()), Certain);
    assert_eq!(probed(probe, Orig, &batch("select 1")), Certain);
    assert_eq!(probed(probe, Resp, &answer(&[&error(18456)])), Certain);
    assert_eq!(probed(probe, Orig, &batch("hunter2 1")), NotForUs);
    assert_eq!(probed(probe, Orig, &message(PRELOGIN, &[1; 20])), NotForUs);
    assert_eq!(probed(probe, Orig, &[0x12; 40]), NotForUs);
    assert_eq!(
        probed(probe, Orig, b"\x16\x03\x01\0\x50\x01\0\0\0\0"),
        NotForUs
    );
    assert_eq!(probed(probe, Resp, b"\x04\0\0\0\x05\0\0\0\0"), NotForUs);
}

#[test]
fn a_hole_within_rows_costs_nothing() {
    let mut tds = (TDS.build)();
    let mut out = Vec::new();
    tds.feed(&segment(Orig, &batch("select * from t")), &mut out);
    let rows = [&[COLUMNS_TOKEN][..], &[7; 3000], &done(0xfd, 0x10, 30)].concat();
    let wire = answer(&[&rows]);
    tds.feed(&segment(Resp, &wire[..100]), &mut out);
    let rest = Segment {
        gap: 1000,
        ..segment(Resp, &wire[1100..])
    };
    assert_eq!(tds.feed(&rest, &mut out), Progress::More);
    let lines: Vec<String> = out.iter().map(line).collect();
    assert_eq!(lines, ["SELECT Read BULK_READ", "result 30 3014 -"]);
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(TDS.build, probe);
}
