//! Conversations as connectors and servers have them, in any pieces, and damaged ones.

use super::*;
use crate::dissect::LOOK_BUDGET;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 3306,
        data,
        gap: 0,
    }
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    [&length[..3], &[number], body].concat()
}

/// Secure connections and plugins, and what is asked for besides.
fn greeting(capabilities: u32) -> Vec<u8> {
    let [a, b, c, d] = (capabilities | 0x8_8200).to_le_bytes();
    let parts: [&[u8]; 6] = [
        b"\x0a8.4.2\0",
        &[7; 13],
        &[a, b, 255, 2, 0, c, d, 21],
        &[0; 10],
        &[8; 13],
        b"caching_sha2_password\0",
    ];
    packet(0, &parts.concat())
}

/// `app` logs in to `shop` from `mysqldump`.
fn response(capabilities: u32) -> Vec<u8> {
    let flags = capabilities | 0x0018_8208;
    let attributes = b"\x0c_client_name\x08libmysql\x0cprogram_name\x09mysqldump";
    let parts: [&[u8]; 6] = [
        &flags.to_le_bytes(),
        &[0; 28],
        b"app\0\x07hunter2shop\0caching_sha2_password\0",
        &[attributes.len() as u8],
        attributes,
        b"",
    ];
    packet(1, &parts.concat())
}

fn query(text: &str) -> Vec<u8> {
    packet(0, format!("\x03{text}").as_bytes())
}

/// What comes of a conversation, and how it ends; the same however it is cut.
fn events(turns: &[(Direction, Vec<u8>)]) -> (Vec<DatabaseEvent>, Progress) {
    let run = |size: usize| {
        let mut mysql = MySql::default();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = mysql.feed(&segment(*direction, piece), &mut out);
                if progress != Progress::More {
                    return (out, progress);
                }
            }
        }
        (out, Progress::More)
    };
    let (whole, progress) = run(usize::MAX);
    for size in [1, 2, 3, 7] {
        assert_eq!(run(size), (whole.clone(), progress));
    }
    let events = whole.into_iter().map(|transaction| match transaction {
        Transaction::Database(message) => message.event,
        other => panic!("{other:?}"),
    });
    (events.collect(), progress)
}

fn hello() -> DatabaseEvent {
    let version = Some("8.4.2".into());
    DatabaseEvent::Hello { version }
}

fn login() -> DatabaseEvent {
    DatabaseEvent::Login {
        user: Some("app".into()),
        database: Some("shop".into()),
        client: Some("mysqldump".into()),
    }
}

fn outcome(code: Option<&str>) -> DatabaseEvent {
    DatabaseEvent::LoginResult {
        success: code.is_none(),
        code: code.map(Into::into),
    }
}

fn result(rows: Option<u64>, bytes: u64, error: Option<&str>) -> DatabaseEvent {
    DatabaseEvent::Result {
        rows,
        bytes,
        error: error.map(Into::into),
    }
}

fn asked(text: &str) -> DatabaseEvent {
    statement(text.as_bytes(), text.len() as u64, Dialect::MySql)
}

const OK: &[u8] = b"\0\0\0\x02\0\0\0";
const END: &[u8] = b"\xfe\0\0\x02\0";
const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied for user";

#[test]
fn a_session_from_greeting_to_results() {
    // With and without ends of columns.
    for capabilities in [0, 1 << 24] {
        let column = packet(2, b"\x03def\0\0\0\x01a");
        let end_of_columns = if capabilities == 0 {
            packet(3, END)
        } else {
            vec![]
        };
        let end = if capabilities == 0 {
            END
        } else {
            b"\xfe\0\0\x02\0\0\0"
        };
        let rows = [
            packet(1, b"\x01"),
            column,
            end_of_columns,
            packet(4, b"\x06secret"),
            packet(5, b"\xfb"),
            packet(6, end),
        ];
        let (found, progress) = events(&[
            (Resp, greeting(capabilities)),
            (Orig, response(capabilities)),
            (Resp, packet(2, b"\xfemysql_native_password\0nonce\0")),
            (Orig, packet(3, b"hunter2")),
            (Resp, packet(4, OK)),
            (Orig, query("select a from t where b = 'x'")),
            (Resp, rows.concat()),
            (Orig, query("update t set a = 1")),
            (Resp, packet(1, b"\0\x05\0\x02\0\0\0")),
            (Orig, packet(0, b"\x16select ?")),
            (
                Resp,
                [
                    packet(1, b"\0\x01\0\0\0\0\0\0\0\0\0\0"),
                    packet(2, b"\x03def"),
                ]
                .concat(),
            ),
            (Orig, packet(0, b"\x17\x01\0\0\0")),
            (Resp, packet(1, b"\xff\x7a\x04#42S02No such table secret")),
            (Orig, packet(0, b"\x01")),
        ]);
        let expected = [
            hello(),
            login(),
            outcome(None),
            asked("select a from t where b = 'y'"),
            result(Some(2), 8, None),
            asked("update t set a = 1"),
            result(Some(5), 0, None),
            asked("select ?"),
            result(None, 0, Some("1146")),
        ];
        // The lengths of literals are told, their content isn't.
        assert_eq!(found, expected);
        assert_eq!(progress, Progress::Done);
    }
}

#[test]
fn refusals_carry_their_number() {
    let (found, _) = events(&[
        (Resp, greeting(0)),
        (Orig, response(0)),
        (Resp, packet(2, DENIED)),
    ]);
    assert_eq!(found, [hello(), login(), outcome(Some("1045"))]);
    let blocked = packet(0, b"\xff\x6a\x04Host 'x' is not allowed to connect");
    let expected = (vec![outcome(Some("1130"))], Progress::Done);
    assert_eq!(events(&[(Resp, blocked)]), expected);
}

#[test]
fn encryption_and_compression_end_it() {
    let flags = (0x0008_8a00_u32).to_le_bytes();
    let wish = packet(1, &[&flags[..], &[0; 28]].concat());
    let (found, progress) = events(&[(Resp, greeting(0x800)), (Orig, wish)]);
    let encrypted = DatabaseEvent::Hello { version: None };
    assert_eq!(
        (found, progress),
        (vec![hello(), encrypted], Progress::Done)
    );
    let (found, progress) = events(&[
        (Resp, greeting(0x20)),
        (Orig, response(0x20)),
        (Resp, packet(2, OK)),
    ]);
    assert_eq!((found.len(), progress), (3, Progress::Done));
    // Who leaves at once may be told off.
    let leaves = [
        (Resp, greeting(0)),
        (Orig, packet(0, b"\x01")),
        (
            Resp,
            packet(1, b"\xff\x84\x04#08S01Got packets out of order"),
        ),
    ];
    let complaint = result(None, 0, Some("1156"));
    assert_eq!(events(&leaves), (vec![hello(), complaint], Progress::Done));
    assert_eq!(events(&[(Resp, packet(0, b"\x09x"))]).1, Progress::Desynced);
}

#[test]
fn text_is_found_behind_attributes() {
    let cases: [(&[u8], Option<&[u8]>); 4] = [
        (b"\0\x01select 1", Some(b"select 1")),
        (
            b"\x02\x01\0\x01\xfe\0\x01a\x03\0\x01b\x06secret\x07\0\0\0select 1",
            Some(b"select 1"),
        ),
        (b"\x01\x01\x01\x01\xfe\0\x01aselect 1", Some(b"select 1")),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\x01", None),
    ];
    for (rest, text) in cases {
        assert_eq!(login::without_attributes(rest), text);
    }
}

#[test]
fn results_of_any_size_are_passed_over() {
    let mut mysql = MySql::default();
    let mut out = Vec::new();
    let mut feed = |direction, data: &[u8]| {
        assert_eq!(
            mysql.feed(&segment(direction, data), &mut out),
            Progress::More
        );
    };
    feed(Orig, &query("select a from t"));
    feed(
        Resp,
        &[packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, END)].concat(),
    );
    let rows = packet(4, b"\x03abc").repeat(10_000);
    for _ in 0..200 {
        feed(Resp, &rows);
    }
    feed(Resp, &packet(4, END));
    assert!(mysql.skipped() > 10 * u64::from(LOOK_BUDGET));
    assert_eq!(out.len(), 2);
    let Transaction::Database(last) = &out[1] else {
        panic!("{out:?}");
    };
    assert_eq!(last.event, result(Some(2_000_000), 8_000_000, None));
}

#[test]
fn recognised_by_greetings_and_in_the_middle() {
    use Probe::{Certain, NotForUs, Unsure};
    let cases: &[(Direction, &[u8], Probe)] = &[
        (Resp, &greeting(0), Certain),
        (Resp, &greeting(0)[..8], Unsure),
        (Resp, b"\x4a\0\0\0\x0a11.4.2-MariaDB\0", Certain),
        (Resp, b"\x4a\0\0\0\x0ahello\0", NotForUs),
        (Resp, b"\x4a\0\0\0\x0a8\n", NotForUs),
        (Resp, b"\x20\0\0\0\xff\x6a\x04Host", Certain),
        (Resp, b"HTTP/1.1 200 OK", NotForUs),
        (Orig, &query("select 1"), Certain),
        (Orig, b"\x09\0\0\0\x03sel", Unsure),
        (Orig, b"\x09\0\0\0\x03hunter2 ", NotForUs),
        (Orig, b"\x16\x03\x01\x02\0\x01", NotForUs),
        (Orig, b"\0\0\0\x08\x04\xd2\x16\x2f", NotForUs),
    ];
    for (direction, data, expected) in cases {
        assert_eq!(probe(&segment(*direction, data)), *expected, "{data:?}");
    }
}
