//! Conversations as libpq and servers have them, in any pieces, and damaged ones.

use super::*;
use crate::dissect::LOOK_BUDGET;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 5432,
        data,
        gap: 0,
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn first_message(code: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 8).to_be_bytes();
    [&length[..], &code.to_be_bytes(), body].concat()
}

fn hello() -> Vec<u8> {
    first_message(
        3 << 16,
        b"user\0app\0database\0shop\0application_name\0psql\0\0",
    )
}

/// What comes of a conversation, and how it ends; the same however it is cut.
fn events(turns: &[(Direction, Vec<u8>)]) -> (Vec<DatabaseEvent>, Progress) {
    let run = |size: usize| {
        let mut postgres = Postgres::default();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = postgres.feed(&segment(*direction, piece), &mut out);
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

fn login() -> DatabaseEvent {
    DatabaseEvent::Login {
        user: Some("app".into()),
        database: Some("shop".into()),
        client: Some("psql".into()),
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
    statement(text.as_bytes(), text.len() as u64, Dialect::Postgres)
}

#[test]
fn passwords_in_clear_leave_a_mark_and_others_none() {
    let secrets = |code: u8, said: &[u8]| -> Vec<DatabaseEvent> {
        let (found, _) = events(&[
            (Orig, hello()),
            (Resp, message(b'R', &[0, 0, 0, code, 1, 2, 3, 4])),
            (Orig, message(b'p', said)),
            (Resp, message(b'E', b"SFATAL\0C28P01\0Mno\0\0")),
        ]);
        let is_secret = |event: &DatabaseEvent| matches!(event, DatabaseEvent::Secret(_));
        found.into_iter().filter(is_secret).collect()
    };
    assert_eq!(secrets(3, b"one\0"), secrets(3, b"one\0"));
    assert_ne!(secrets(3, b"one\0"), secrets(3, b"two\0"));
    assert_eq!(secrets(3, b"one\0").len(), 1);
    assert_eq!(secrets(5, b"md5abc\0"), []);
}

#[test]
fn a_session_from_login_to_results() {
    let (found, progress) = events(&[
        (Orig, first_message(SSL, b"")),
        (Resp, b"N".to_vec()),
        (Orig, first_message(GSS, b"")),
        (Resp, b"N".to_vec()),
        (Orig, hello()),
        (Resp, message(b'R', b"\0\0\0\x0a\x53\x43\x52\x41\x4d\0\0")),
        (Orig, message(b'p', b"SCRAM-SHA-256\0hunter2")),
        (
            Resp,
            [
                message(b'R', b"\0\0\0\0"),
                message(b'S', b"TimeZone\0UTC\0"),
                message(b'S', b"server_version\x0017.2\0"),
                message(b'Z', b"I"),
            ]
            .concat(),
        ),
        (Orig, message(b'Q', b"select * from t where a = 'x'\0")),
        (
            Resp,
            [
                message(b'T', b"\0\x01a"),
                message(b'D', b"\0\x01\0\0\0\x01x"),
                message(b'D', b"\0\x01\0\0\0\x01x"),
                message(b'C', b"SELECT 2\0"),
                message(b'Z', b"I"),
            ]
            .concat(),
        ),
        (
            Orig,
            [
                message(b'P', b"s1\0insert into t values ($1)\0\0\0"),
                message(b'B', b"\0s1\0secret"),
                message(b'E', b"\0\0\0\0\0"),
                message(b'S', b""),
            ]
            .concat(),
        ),
        (Resp, message(b'C', b"INSERT 0 1\0")),
        (Orig, message(b'Q', b"drop table x\0")),
        (Resp, message(b'E', b"SERROR\0C42P01\0Mno secret\0\0")),
        (Orig, message(b'X', b"")),
    ]);
    let expected = [
        login(),
        DatabaseEvent::LoginResult {
            success: true,
            code: None,
        },
        DatabaseEvent::Hello {
            version: Some("17.2".into()),
        },
        asked("select * from t where a = 'y'"),
        asked("insert into t values ($1)"),
        asked("drop table x"),
    ];
    let (results, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|event| matches!(event, DatabaseEvent::Result { .. }));
    assert_eq!(others.len(), expected.len());
    assert_eq!(others[..3], expected[..3]);
    assert_eq!(others[3], asked("select * from t where a = 'y'"));
    assert_eq!(others[4..], expected[4..]);
    assert_eq!(
        results,
        [
            result(Some(2), 14, None),
            result(Some(1), 0, None),
            result(None, 0, Some("42P01"))
        ]
    );
    assert_eq!(progress, Progress::More);
}

#[test]
fn refusals_carry_their_state() {
    for code in ["28P01", "28000", "3D000"] {
        let refusal = message(b'E', format!("SFATAL\0VFATAL\0C{code}\0Mx\0\0").as_bytes());
        let (found, _) = events(&[(Orig, hello()), (Resp, refusal)]);
        let refused = DatabaseEvent::LoginResult {
            success: false,
            code: Some(code.into()),
        };
        assert_eq!(found, [login(), refused]);
    }
}

#[test]
fn encryption_and_cancelling_end_it() {
    let encrypted = [(Orig, first_message(SSL, b"")), (Resp, b"S".to_vec())];
    let hello = DatabaseEvent::Hello { version: None };
    assert_eq!(events(&encrypted), (vec![hello], Progress::Done));
    let cancel = [(Orig, first_message(CANCEL, b"\0\0\0\x01secr"))];
    assert_eq!(events(&cancel), (vec![], Progress::Done));
    let nonsense = [(Orig, hello_then(b"GET / HTTP/1.1\r\n"))];
    assert_eq!(events(&nonsense), (vec![login()], Progress::Desynced));
}

fn hello_then(bytes: &[u8]) -> Vec<u8> {
    [&hello()[..], bytes].concat()
}

#[test]
fn results_of_any_size_are_passed_over() {
    let mut postgres = Postgres::default();
    let mut out = Vec::new();
    let rows = message(b'D', b"\0\x01\0\0\0\x01x").repeat(10_000);
    let mut fed = 0;
    for _ in 0..100 {
        fed += rows.len() as u64;
        assert_eq!(
            postgres.feed(&segment(Resp, &rows), &mut out),
            Progress::More
        );
    }
    assert!(fed > 10 * u64::from(LOOK_BUDGET));
    assert_eq!(postgres.skipped(), fed);
    let end = message(b'C', b"SELECT 1000000\0");
    let lost = Segment {
        gap: 3,
        ..segment(Resp, &end)
    };
    assert_eq!(postgres.feed(&lost, &mut out), Progress::More);
    assert_eq!(out.len(), 1);
    // A statement longer than what is read of one.
    let long = format!("insert into t values ('{}')\0", "x".repeat(100_000));
    let (found, _) = events(&[(Orig, message(b'Q', long.as_bytes()))]);
    assert!(matches!(
        found[..],
        [DatabaseEvent::Statement {
            length: 100_026,
            ..
        }]
    ));
}

#[test]
fn recognised_by_first_messages_and_in_the_middle() {
    use Probe::{Certain, NotForUs, Unsure};
    let cases: &[(Direction, &[u8], Probe)] = &[
        (Orig, &hello(), Certain),
        (Orig, &hello()[..7], Unsure),
        (Orig, &first_message(SSL, b""), Certain),
        (Orig, &first_message(2 << 16, b"user"), NotForUs),
        (Orig, b"\0\x10", NotForUs),
        (Orig, b"Q\0\0\0\x0dselect 1\0", Certain),
        (Orig, b"P\0\0\0\x20s1\0select $1\0\0\0", Certain),
        (Orig, b"Q\0\0\0\x0dselect", Unsure),
        (Orig, b"Q\0\0\0\x0dhunter2\0", NotForUs),
        (Orig, b"POST / HTTP/1.1\r\n", NotForUs),
        (Orig, b"\x16\x03\x01\x02\0", NotForUs),
        (Resp, b"R\0\0\0\x08\0\0\0\0", Certain),
        (Resp, b"R\0\0\0\x0c", Unsure),
        (Resp, b"E\0\0\0\x5fSFATAL\0C0A000\0", Certain),
        (Resp, b"E\0\0\0\x5fS", Unsure),
        (Resp, b"ERROR\r\n", NotForUs),
        (Resp, b"S", NotForUs),
    ];
    for (direction, data, expected) in cases {
        assert_eq!(probe(&segment(*direction, data)), *expected, "{data:?}");
    }
}
