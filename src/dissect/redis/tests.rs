//! Commands and replies as clients and servers send them, typed, pipelined and damaged.

use std::fmt::Write;

use super::*;
use crate::dissect::{LOOK_BUDGET, Marks, StatementClass};
use crate::time::Timestamp;

use Direction::{Orig, Resp};

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 6379,
        data,
        gap: 0,
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len());
    for word in words {
        write!(wire, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    wire.into_bytes()
}

/// The events of a conversation in one line each; the same however it is cut.
fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    let run = |size: usize| {
        let mut redis = Redis::new();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = redis.feed(&segment(*direction, piece), &mut out);
                if progress != Progress::More {
                    out.push(Transaction::Database(DatabaseMessage {
                        product: if progress == Progress::Done {
                            "done"
                        } else {
                            "desynced"
                        },
                        event: DatabaseEvent::Hello { version: None },
                    }));
                    return out;
                }
            }
        }
        out
    };
    let whole = run(usize::MAX);
    for size in [1, 2, 3, 7] {
        assert_eq!(run(size), whole);
    }
    whole
        .into_iter()
        .filter(|transaction| !is_secret(transaction))
        .map(|transaction| shown(&transaction))
        .collect()
}

fn is_secret(transaction: &Transaction) -> bool {
    matches!(transaction, Transaction::Database(message) if matches!(message.event, DatabaseEvent::Secret(_)))
}

fn shown(transaction: &Transaction) -> String {
    let Transaction::Database(message) = transaction else {
        panic!("{transaction:?}");
    };
    match &message.event {
        DatabaseEvent::Hello { .. } => message.product.to_owned(),
        DatabaseEvent::Login { user, .. } => format!("login {user:?}"),
        DatabaseEvent::Secret(secret) => format!("{secret:?}"),
        DatabaseEvent::LoginResult { success, code } => format!("{success} {code:?}"),
        DatabaseEvent::Statement {
            class,
            verb,
            length,
            ..
        } => format!("{verb} {class:?} {length}"),
        DatabaseEvent::Result { rows, bytes, error } => format!("{rows:?} {bytes} {error:?}"),
    }
}

#[test]
fn commands_and_their_results_are_paired() {
    let two = [command(&["GET", "secretkey"]), command(&["keys", "*"])].concat();
    let found = events(&[
        (Orig, &two),
        (Resp, b"$5\r\nhello\r\n*2\r\n$1\r\na\r\n$-1\r\n"),
        (Orig, b"PING\r\n\r\n"),
        (Resp, b"+PONG\r\n"),
        (Orig, &command(&["HGETALL", "h"])),
        (
            Resp,
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n%1\r\n+f\r\n*2\r\n:1\r\n_\r\n",
        ),
    ]);
    assert_eq!(
        found,
        [
            "GET Read 28",
            "KEYS Catalogue 21",
            "None 11 None",
            "Some(2) 16 None",
            "PING Other 6",
            "None 7 None",
            "HGETALL Read 24",
            "Some(1) 19 None",
        ]
    );
}

#[test]
fn logins_tell_the_user_and_never_the_password() {
    let cases: &[(&[&str], &[u8], [&str; 2])] = &[
        (
            &["AUTH", "hunter2"],
            b"+OK\r\n",
            ["login None", "true None"],
        ),
        (
            &["auth", "app", "hunter2"],
            b"-WRONGPASS invalid username-password pair\r\n",
            ["login Some(\"app\")", "false Some(\"WRONGPASS\")"],
        ),
        (
            &["HELLO", "3", "AUTH", "app", "hunter2", "SETNAME", "x"],
            b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n",
            ["login Some(\"app\")", "true None"],
        ),
        (
            &["HELLO", "3"],
            b"-NOAUTH HELLO must be called\r\n",
            ["HELLO Other 22", "None 30 Some(\"NOAUTH\")"],
        ),
        (
            &["hunter2"],
            b"-ERR unknown command 'hunter2'\r\n",
            ["OTHER Other 17", "None 32 Some(\"ERR\")"],
        ),
    ];
    for (words, answer, expected) in cases {
        assert_eq!(events(&[(Orig, &command(words)), (Resp, answer)]), expected);
    }
}

#[test]
fn classes_follow_the_command() {
    use StatementClass::*;
    let cases: &[(&[&str], &str, StatementClass)] = &[
        (&["config", "get", "maxmemory"], "CONFIG GET", Catalogue),
        (&["command", "docs"], "COMMAND DOCS", Catalogue),
        (&["COMMAND"], "COMMAND", Catalogue),
        (
            &["config", "get", "requirepass"],
            "CONFIG GET",
            CredentialTable,
        ),
        (&["CONFIG", "GET", "*"], "CONFIG GET", CredentialTable),
        (&["CONFIG", "SET", "dir", "/root/.ssh"], "CONFIG SET", Admin),
        (&["SLAVEOF", "10.0.0.9", "6379"], "SLAVEOF", Admin),
        (&["MODULE", "LOAD", "/tmp/exp.so"], "MODULE LOAD", Abuse),
        (&["MODULE", "LIST"], "MODULE LIST", Catalogue),
        (&["ACL", "LIST"], "ACL LIST", CredentialTable),
        (&["MULTI"], "MULTI", Transaction),
        (&["CLIENT", "SETINFO", "LIB-NAME", "x"], "CLIENT", Other),
    ];
    for (words, expected, expected_class) in cases {
        let mut command = Command::new();
        for word in *words {
            command.argument(word.as_bytes());
        }
        let Some(Does::Other { class, verb, .. }) = command.does() else {
            panic!("{words:?}");
        };
        assert_eq!((verb, class), (*expected, *expected_class));
    }
}

#[test]
fn what_takes_hold_of_the_server_is_marked() {
    let cases: &[(&[&str], Marks)] = &[
        (&["KEYS", "*"], Marks::KEY_WALK),
        (&["SCAN", "0"], Marks::KEY_WALK),
        (&["HSCAN", "h", "0"], Marks::empty()),
        (&["MONITOR"], Marks::EAVESDROPS),
        (&["DEBUG", "SLEEP", "1"], Marks::DEBUG),
        (&["BGSAVE"], Marks::SNAPSHOT),
        (&["SLAVEOF", "10.0.0.9", "6379"], Marks::REPLICATES),
        (&["REPLICAOF", "NO", "ONE"], Marks::empty()),
        (&["REPLCONF", "rdb-only", "1"], Marks::REPLICATES),
        (&["REPLCONF", "listening-port", "6379"], Marks::empty()),
        (&["config", "set", "dir", "/root/.ssh"], Marks::FILE_WRITE),
        (&["CONFIG", "SET", "maxmemory", "1"], Marks::empty()),
        (&["MODULE", "LOAD", "/tmp/exp.so"], Marks::PROGRAM),
        (&["GET", "k"], Marks::empty()),
    ];
    for (words, expected) in cases {
        let mut command = Command::new();
        for word in *words {
            command.argument(word.as_bytes());
        }
        let Some(Does::Other { marks, .. }) = command.does() else {
            panic!("{words:?}");
        };
        assert_eq!(marks, *expected, "{words:?}");
    }
}

#[test]
fn replication_ends_the_reading_and_nonsense_loses_it() {
    let psync = command(&["PSYNC", "?", "-1"]);
    assert_eq!(events(&[(Orig, &psync)]), ["PSYNC Admin 30", "done"]);
    assert_eq!(events(&[(Orig, b"*2\r\n*1\r\n")]), ["desynced"]);
    assert_eq!(events(&[(Orig, b"*1x\r\n")]), ["desynced"]);
    assert_eq!(events(&[(Orig, &[b'x'; 5000])]), ["desynced"]);
    // Nobody asked.
    assert_eq!(events(&[(Resp, b"+PONG\r\n")]), [""; 0]);
}

#[test]
fn what_is_long_is_passed_over() {
    let mut redis = Redis::new();
    let mut out = Vec::new();
    let mut fed = 0;
    let mut feed = |redis: &mut Redis, direction, data: &[u8]| {
        fed += data.len() as u64;
        assert_eq!(
            redis.feed(&segment(direction, data), &mut out),
            Progress::More
        );
    };
    feed(
        &mut redis,
        Orig,
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n",
    );
    for _ in 0..512 {
        feed(&mut redis, Orig, &vec![b'v'; 1 << 20]);
    }
    feed(&mut redis, Orig, b"\r\n");
    feed(&mut redis, Resp, b"+OK\r\n");
    feed(&mut redis, Orig, &command(&["KEYS", "*"]));
    feed(&mut redis, Resp, b"*1000000\r\n");
    for _ in 0..1000 {
        feed(&mut redis, Resp, &b"$3\r\nkey\r\n".repeat(1000));
    }
    assert!(fed - redis.skipped() < 3 * u64::from(LOOK_BUDGET));
    assert_eq!(out.len(), 4);
    assert_eq!(shown(&out[3]), "Some(1000000) 9000010 None");
}

#[test]
fn a_hole_costs_what_was_under_way() {
    let mut redis = Redis::new();
    let mut out = Vec::new();
    let mut feed = |direction, gap, data: &[u8]| {
        let segment = Segment {
            gap,
            ..segment(direction, data)
        };
        assert_eq!(redis.feed(&segment, &mut out), Progress::More);
    };
    // Within a value: nothing.
    feed(Orig, 0, b"*2\r\n$4\r\nECHO\r\n$1000\r\n");
    feed(Orig, 0, &[b'v'; 100]);
    feed(Orig, 900, b"\r\n");
    feed(Resp, 0, b"$1000\r\n");
    feed(Resp, 0, b"v");
    feed(Resp, 999, b"\r\n");
    // Elsewhere: the login's answer isn't told from others any more.
    feed(Orig, 0, &command(&["AUTH", "x"]));
    feed(Resp, 3, b"+OK\r\n");
    feed(Orig, 0, b"PING\r\n");
    feed(Resp, 0, b"+PONG\r\n");
    let told = out.iter().filter(|transaction| !is_secret(transaction));
    let shown: Vec<_> = told.map(shown).collect();
    assert_eq!(
        shown,
        [
            "ECHO Other 1023",
            "None 1009 None",
            "login None",
            "PING Other 6",
            "None 7 None"
        ]
    );
}

#[test]
fn recognised_by_arrays_and_by_a_few_first_lines() {
    use Probe::{Certain, NotForUs, Unsure};
    let cases: &[(Direction, &[u8], Probe)] = &[
        (Orig, b"*", Unsure),
        (Orig, b"*1\r", Unsure),
        (Orig, b"*1\r\n$4", Certain),
        (Orig, b"*0\r\n", NotForUs),
        (Orig, b"*\r\n", NotForUs),
        (Orig, b"*12345678", NotForUs),
        (Orig, b"* OK IMAP4", NotForUs),
        (Orig, b"pInG\r\n", Certain),
        (Orig, b"PING", Unsure),
        (Orig, b"PING 1", NotForUs),
        (Orig, b"GET / HTTP/1.1\r\n", NotForUs),
        (Orig, b"INFO\r\n", Certain),
        (Resp, b"* OK IMAP4", NotForUs),
        (Resp, b"+OK POP3", NotForUs),
        (Resp, b"INFO {\"server_id\"", NotForUs),
        (Resp, b"-NOAUTH Authentication required.\r\n", Certain),
    ];
    for (direction, data, expected) in cases {
        assert_eq!(probe(&segment(*direction, data)), *expected, "{data:?}");
    }
}
