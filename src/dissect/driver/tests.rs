//! Recognition and its bounds, and the promise that cuts change nothing.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::time::Timestamp;

use Direction::{Orig, Resp};
use tls::old_hellos;

mod tls;

/// A turn of a conversation.
type Turn = (Direction, Vec<u8>);

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
/// MySQL's, as short as can be.
const GREETING: &[u8] = b"\x17\0\0\0\x0a8.4.2\0\x01\0\0\0nonces12\0\xff\xf7\x08";
/// A client's answer from before MySQL 4.1.
const LOGIN: &[u8] = b"\x0a\0\0\x01\x05\x80\0\0\0user\0";

/// TLS 1.2: the smallest client hello (one suite, no extensions) and the answer to it.
fn hellos() -> (Vec<u8>, Vec<u8>) {
    let client = [
        &[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
    ];
    let server = [
        &[22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3][..],
        &[7; 32],
        &[0, 0x13, 1, 0],
    ];
    (client.concat(), server.concat())
}

/// A query for `a.b` A and its answer, as they stand in a stream.
fn dns_frames() -> (Vec<u8>, Vec<u8>) {
    let query =
        b"\x00\x15\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x01b\x00\x00\x01\x00\x01";
    let response =
        b"\x00\x25\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x01b\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";
    (query.to_vec(), response.to_vec())
}

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 8080,
        data,
        gap: 0,
    }
}

/// What comes of a conversation over TCP, each turn cut by `cut`.
fn run<'a, Pieces>(
    turns: &'a [Turn],
    cut: impl Fn(usize, &'a [u8]) -> Pieces,
) -> (Vec<Transaction>, Option<&'static str>, Progress, bool)
where
    Pieces: IntoIterator<Item = &'a [u8]>,
{
    let mut flow = FlowDissector::new(Carrier::Tcp);
    let mut out = Vec::new();
    let mut last = Progress::More;
    'all: for (index, (direction, data)) in turns.iter().enumerate() {
        for piece in cut(index, data) {
            if piece.is_empty() {
                continue;
            }
            last = flow.feed(&segment(*direction, piece), &mut out);
            if last != Progress::More {
                break 'all;
            }
        }
    }
    let (app, gave_up) = (flow.app(), flow.gave_up());
    flow.finish(&mut out);
    (out, app, last, gave_up)
}

fn whole(turns: &[Turn]) -> (Vec<Transaction>, Option<&'static str>, Progress, bool) {
    run(turns, |_, data| [data])
}

fn turns(turns: &[(Direction, &[u8])]) -> Vec<Turn> {
    turns
        .iter()
        .map(|(direction, data)| (*direction, data.to_vec()))
        .collect()
}

#[test]
fn each_protocol_is_recognised_and_followed() {
    let (client, server) = hellos();
    let (query, response) = dns_frames();
    let cases = [
        (
            "http",
            turns(&[(Orig, GET), (Resp, OK), (Orig, GET), (Resp, OK)]),
            4,
            Progress::More,
        ),
        (
            "tls",
            turns(&[(Orig, &client), (Resp, &server)]),
            2,
            Progress::More,
        ),
        (
            "dns",
            turns(&[(Orig, &query), (Resp, &response)]),
            2,
            Progress::More,
        ),
        (
            "redis",
            turns(&[(Orig, PING), (Resp, b"+PONG\r\n")]),
            2,
            Progress::More,
        ),
        (
            "postgresql",
            turns(&[(Orig, SSL_REQUEST), (Resp, b"S")]),
            1,
            Progress::More,
        ),
        (
            "mysql",
            turns(&[(Resp, GREETING), (Orig, LOGIN)]),
            2,
            Progress::More,
        ),
        (
            "ssh",
            turns(&[
                (Resp, b"SSH-2.0-OpenSSH_9.6\r\n"),
                (Orig, b"SSH-2.0-Go\r\n"),
            ]),
            2,
            Progress::More,
        ),
        // Only the answers are seen.
        ("http", turns(&[(Resp, OK), (Resp, OK)]), 2, Progress::More),
        ("tls", turns(&[(Resp, &server)]), 1, Progress::More),
        ("dns", turns(&[(Resp, &response)]), 1, Progress::More),
        // The end of an earlier answer, before anybody could tell whose it is.
        (
            "http",
            turns(&[(Resp, b"</html>"), (Orig, GET), (Resp, OK)]),
            3,
            Progress::More,
        ),
    ];
    for (app, turns, count, progress) in cases {
        let (out, found, last, gave_up) = whole(&turns);
        assert_eq!(
            (out.len(), found, last, gave_up),
            (count, Some(app), progress, false)
        );
        assert_eq!(run(&turns, |_, data| data.chunks(1)).0, out);
    }
}

/// NATS is known by its name only: a banner that anybody can send.
const BANNER: &[u8] = b"INFO {\"server_id\":\"a\"}\r\n";
const SSH: &[u8] = b"SSH-2.0-Go\r\n";

#[test]
fn a_name_shown_by_one_end_hides_nothing_of_the_other() {
    let git: &[u8] = b"002fgit-upload-pack /a.git\0host=h\0";
    let (hello, mut answer) = hellos();
    let bad_hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 0x50], &hello[10..]].concat();
    answer.extend([20, 3, 3, 0, 1, 1]);
    for (app, count, said) in [
        ("ssh", 2, turns(&[(Resp, BANNER), (Orig, SSH), (Resp, SSH)])),
        ("ssh", 2, turns(&[(Orig, git), (Resp, SSH), (Orig, SSH)])),
        ("http", 2, turns(&[(Resp, BANNER), (Orig, GET), (Resp, OK)])),
        ("http", 1, turns(&[(Orig, git), (Resp, OK)])),
        ("redis", 1, turns(&[(Resp, BANNER), (Orig, PING)])),
        ("tls", 2, turns(&[(Orig, &bad_hello), (Resp, &answer)])),
        // It answers as its name says, and goes on as something else.
        (
            "ssh",
            2,
            turns(&[
                (Resp, BANNER),
                (Orig, b"CONNECT {}\r\nPING\r\n"),
                (Resp, b"PONG\r\n"),
                (Orig, SSH),
                (Resp, SSH),
            ]),
        ),
        (
            "http",
            2,
            turns(&[(Orig, git), (Resp, b"0000"), (Orig, GET), (Resp, OK)]),
        ),
    ] {
        let (out, found, ..) = whole(&said);
        assert_eq!((found, out.len()), (Some(app), count), "{said:?}: {out:?}");
        assert_eq!(run(&said, |_, data| data.chunks(1)).0, out, "{said:?}");
    }
}

#[test]
fn a_name_that_both_ends_bear_out_stays() {
    let mut said = turns(&[
        (Resp, BANNER),
        (Orig, b"CONNECT {}\r\nPING\r\n"),
        (Resp, b"PONG\r\n"),
    ]);
    // Its own words, which are Redis's, too; and a turn's end later it isn't looked at any more.
    for _ in 0..4 {
        said.extend(turns(&[(Orig, b"PING\r\n"), (Resp, b"PONG\r\n")]));
    }
    let (out, app, last, gave_up) = whole(&said);
    assert_eq!(
        (out.len(), app, last, gave_up),
        (0, Some("nats"), Progress::Done, false)
    );
    // One end alone isn't waited for without end.
    let mut flow = FlowDissector::new(Carrier::Tcp);
    flow.feed(&segment(Resp, BANNER), &mut vec![]);
    let fed =
        (1..9999).find(|_| flow.feed(&segment(Resp, &[b'x'; 1000]), &mut vec![]) == Progress::Done);
    assert_eq!(fed, Some(PATIENCE as usize / 1000 + 1));
    assert_eq!(
        (flow.app(), flow.inspection()),
        (Some("nats"), Inspection::Whole)
    );
}

#[test]
fn a_datagrams_name_hides_nothing_of_the_answer() {
    let on = |direction, data| Segment {
        resp_port: 53,
        ..segment(direction, data)
    };
    let stun: &[u8] = b"\x00\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
    let (_, response) = dns_frames();
    let mut flow = FlowDissector::new(Carrier::Udp);
    let mut out = Vec::new();
    assert_eq!(flow.feed(&on(Orig, stun), &mut out), Progress::More);
    assert_eq!((flow.app(), out.len()), (Some("stun"), 0));
    assert_eq!(
        flow.feed(&on(Resp, &response[2..]), &mut out),
        Progress::More
    );
    assert_eq!((flow.app(), out.len()), (Some("dns"), 1));
}

#[test]
fn server_first_and_unknown_protocols_are_done_soon() {
    let cases: &[&[(Direction, &[u8])]] = &[&[(Resp, b"220 volts\r\n"), (Orig, b"thanks\r\n")]];
    for case in cases {
        let mut turns = turns(case);
        // Enough for whoever is still unsure after so little.
        turns.extend([(Orig, vec![0xff; 512]), (Resp, vec![0xff; 512])]);
        let (out, app, last, gave_up) = whole(&turns);
        assert!(
            out.iter()
                .all(|told| matches!(told, Transaction::Opening(_)))
        );
        assert_eq!(
            (out.len(), app, last, gave_up),
            (2, None, Progress::Done, false),
            "{case:?}"
        );
    }
    // One end that talks alone is listened to for a while.
    let mut flow = FlowDissector::new(Carrier::Tcp);
    let fed =
        (1..9999).find(|_| flow.feed(&segment(Resp, &[0xff; 1000]), &mut vec![]) == Progress::Done);
    assert_eq!(fed, Some(PATIENCE as usize / 1000 + 1));
}

/// What was told of a direction: bytes judged, marks of a shell.
fn openings(out: &[Transaction]) -> Vec<(Direction, u16, u8)> {
    out.iter()
        .filter_map(|told| match told {
            Transaction::Opening(it) => Some((it.direction, it.bytes, it.shell.0)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_unknown_flow_is_told_by_its_turns_and_again_when_a_shell_shows() {
    let (prompt, command) = (ShellMarks::PROMPT, ShellMarks::COMMAND);
    let shell = turns(&[
        (Orig, b"$ "),
        (Resp, b"echo hi\n"),
        (Orig, b"hi\n$ "),
        (Resp, b"id\n"),
        (Orig, b"uid=0(root) gid=0(root)\n$ "),
        (Resp, b"exit\n"),
    ]);
    let expected = [
        (Orig, 2, prompt),
        (Resp, 8, 0),
        (Resp, 8, command),
        (Orig, 2, prompt | ShellMarks::OUTPUT),
    ];
    let (out, app, ..) = whole(&shell);
    assert_eq!((openings(&out), app), (expected.to_vec(), None));
    assert_eq!(run(&shell, |_, data| data.chunks(1)).0, out);
    // A long turn is told when it fills the window, a short one that nobody answers at the end.
    let (out, ..) = whole(&turns(&[(Orig, &[0xff; 700])]));
    assert_eq!(openings(&out), [(Orig, 512, 0)]);
    let (out, ..) = whole(&turns(&[(Orig, b"hello")]));
    assert_eq!(openings(&out), [(Orig, 5, 0)]);
}

#[test]
fn unknown_datagrams_are_told_by_the_first_of_each_end() {
    let mut flow = FlowDissector::new(Carrier::Udp);
    let mut out = Vec::new();
    flow.feed(&segment(Orig, &[0xfe; 600]), &mut out);
    flow.feed(&segment(Orig, b"id\n"), &mut out);
    flow.feed(&segment(Resp, b"whoami\n"), &mut out);
    assert_eq!(
        openings(&out),
        [(Orig, 512, 0), (Resp, 7, ShellMarks::COMMAND)]
    );
}

#[test]
fn a_recognised_flow_that_turns_into_something_else_is_given_up() {
    let (out, app, last, gave_up) = whole(&turns(&[(Orig, GET), (Orig, b"\x00\x01\x02\n\n")]));
    assert_eq!(
        (out.len(), app, last, gave_up),
        (1, Some("http"), Progress::Desynced, true)
    );
}

#[test]
fn looking_without_finding_has_a_budget_and_skipping_has_none() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let feed = |body: &[u8], times: usize| {
        let mut flow = FlowDissector::new(Carrier::Tcp);
        let mut out = Vec::new();
        flow.feed(&segment(Resp, head), &mut out);
        let end = (1..=times).find(|_| flow.feed(&segment(Resp, body), &mut out) != Progress::More);
        (end, flow.gave_up())
    };
    // Chunks of one byte: five of six bytes are framing.
    let (end, gave_up) = feed(&b"1\r\nx\r\n".repeat(200), 10_000);
    assert_eq!(
        (end, gave_up),
        (Some(LOOK_BUDGET as usize / 1000 + 1), true)
    );
    // A chunk's size with an extension that never ends.
    assert_eq!(feed(&[b'1'; 15], 1), (None, false));
    let (end, gave_up) = feed(&b"1;".repeat(500), 10_000);
    assert!(end.is_some() && gave_up);
    // Honest chunks: 64 MiB of them.
    let chunk = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat();
    assert_eq!(feed(&chunk, 1000), (None, false));
}

#[test]
fn a_dns_flow_outlives_bad_datagrams_but_not_any_number_of_them() {
    let (query, _) = dns_frames();
    let (good, bad) = (&query[2..], &[0xff; 1000][..]);
    let on_port = |data| Segment {
        resp_port: 53,
        ..segment(Orig, data)
    };
    let mut flow = FlowDissector::new(Carrier::Udp);
    let mut out = Vec::new();
    for data in [bad, good, bad, bad, good] {
        assert_eq!(flow.feed(&on_port(data), &mut out), Progress::More);
    }
    assert_eq!((out.len(), flow.app()), (2, Some("dns")));
    // A tunnel may run for days over one pair of ports.
    for _ in 0..LOOK_BUDGET / 10 {
        assert_eq!(flow.feed(&on_port(good), &mut out), Progress::More);
        out.clear();
    }
    let fed = (1..9999).find(|_| flow.feed(&on_port(bad), &mut out) != Progress::More);
    assert_eq!(
        (fed, flow.gave_up()),
        (Some(LOOK_BUDGET as usize / 1000 + 1), true)
    );
    // Datagrams that nobody knows, both ways.
    let mut flow = FlowDissector::new(Carrier::Udp);
    assert_eq!(flow.feed(&segment(Orig, bad), &mut out), Progress::More);
    assert_eq!(flow.feed(&segment(Resp, bad), &mut out), Progress::Done);
    assert_eq!((flow.app(), flow.gave_up()), (None, false));
}

#[test]
fn a_gap_starts_recognition_anew() {
    let mut flow = FlowDissector::new(Carrier::Tcp);
    let mut out = Vec::new();
    flow.feed(&segment(Orig, b"PO"), &mut out);
    let progress = flow.feed(
        &Segment {
            gap: 700,
            ..segment(Orig, GET)
        },
        &mut out,
    );
    assert_eq!((out.len(), progress), (1, Progress::More));
}

#[test]
fn small_before_and_after() {
    assert!(
        size_of::<FlowDissector>() <= 56,
        "{}",
        size_of::<FlowDissector>()
    );
    let mut flow = FlowDissector::new(Carrier::Tcp);
    for byte in &GET[..GET.len() - 1] {
        flow.feed(&segment(Orig, &[*byte]), &mut vec![]);
    }
    assert!(matches!(flow.state, State::Following(_)));
    flow.feed(
        &Segment {
            gap: 1,
            ..segment(Orig, b"x\n\n")
        },
        &mut vec![],
    );
    assert!(matches!(flow.state, State::Over));
    assert_eq!(flow.feed(&segment(Orig, GET), &mut vec![]), Progress::Done);
}

/// Conversations of all protocols, some damaged.
fn conversations() -> impl Strategy<Value = Vec<Turn>> {
    let chunked: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let post: &[u8] = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let connect: &[u8] = b"CONNECT h:1 HTTP/1.1\r\n\r\n";
    let (client, server) = hellos();
    let (query, response) = dns_frames();
    let http = proptest::collection::vec(
        prop_oneof![
            Just((Orig, GET.to_vec())),
            Just((Orig, post.to_vec())),
            Just((Resp, OK.to_vec())),
            Just((Resp, chunked.to_vec())),
            Just((Orig, connect.to_vec())),
        ],
        1..8,
    );
    let (asks_later, _) = old_hellos([3, 1], 29);
    let (old_client, old_server) = old_hellos([0, 2], 7);
    let tls = prop_oneof![
        Just(vec![(Orig, client), (Resp, server.clone())]),
        Just(vec![(Orig, asks_later), (Resp, server)]),
        Just(vec![(Orig, old_client), (Resp, old_server)]),
    ];
    let dns = proptest::collection::vec(
        prop_oneof![Just((Orig, query)), Just((Resp, response))],
        1..5,
    );
    let auth: &[u8] = b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\nINFO\r\n";
    let redis = proptest::collection::vec(
        prop_oneof![
            Just((Orig, PING.to_vec())),
            Just((Orig, auth.to_vec())),
            Just((Resp, b"+PONG\r\n".to_vec())),
            Just((Resp, b"-NOAUTH x\r\n%1\r\n$1\r\na\r\n*-1\r\n".to_vec())),
        ],
        1..8,
    );
    let postgres = proptest::collection::vec(
        prop_oneof![
            Just((Orig, SSL_REQUEST.to_vec())),
            Just((Orig, b"\0\0\0\x11\0\x03\0\0user\0ab\0\0".to_vec())),
            Just((Orig, b"Q\0\0\0\x0dselect 1\0".to_vec())),
            Just((Resp, b"N".to_vec())),
            Just((Resp, b"R\0\0\0\x08\0\0\0\0D\0\0\0\x06\0\0".to_vec())),
            Just((
                Resp,
                b"E\0\0\0\x13SERROR\0C42P01\0\0C\0\0\0\x0bBEGIN\0".to_vec()
            )),
        ],
        1..8,
    );
    let mysql = proptest::collection::vec(
        prop_oneof![
            Just((Resp, GREETING.to_vec())),
            Just((Orig, LOGIN.to_vec())),
            Just((Resp, b"\x07\0\0\x02\0\0\0\x02\0\0\0".to_vec())),
            Just((Orig, b"\x09\0\0\0\x03select 1".to_vec())),
            Just((
                Resp,
                b"\x01\0\0\x01\x01\x02\0\0\x02\x01a\x05\0\0\x03\xfe\0\0\x02\0".to_vec()
            )),
            Just((
                Resp,
                b"\x04\0\0\x04\x03abc\x05\0\0\x05\xfe\0\0\x02\0".to_vec()
            )),
        ],
        1..10,
    );
    let named = proptest::collection::vec(
        prop_oneof![
            Just((Resp, BANNER.to_vec())),
            Just((Orig, b"CONNECT {}\r\nPING\r\n".to_vec())),
            Just((Resp, b"PONG\r\n".to_vec())),
            Just((Resp, b"cd /tmp; id\n".to_vec())),
            Just((Orig, b"uid=0(root) gid=0(root)\nls: no\n".to_vec())),
            Just((Orig, SSH.to_vec())),
            Just((Resp, SSH.to_vec())),
            Just((Orig, GET.to_vec())),
        ],
        1..10,
    );
    let noise = proptest::collection::vec(
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(orig, data)| (if orig { Orig } else { Resp }, data)),
        0..3,
    );
    let damage = proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..3);
    (
        prop_oneof![http, tls, dns, redis, postgres, mysql, named],
        noise,
        damage,
    )
        .prop_map(|(mut turns, noise, damage)| {
            turns.extend(noise);
            for (turn, at, byte) in damage {
                let (_, data) = turn.get_mut(&mut turns);
                if !data.is_empty() {
                    *at.get_mut(data) = byte;
                }
            }
            turns
        })
}

/// `data` cut at the given places.
fn cut<'a>(data: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place.index(data.len() + 1))
        .collect();
    places.extend([0, data.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &data[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        turns in conversations(),
        places in proptest::collection::vec(any::<Index>(), 0..6),
        size in 1_usize..20,
    ) {
        let expected = whole(&turns);
        prop_assert_eq!(run(&turns, |_, data| data.chunks(size)), expected.clone());
        prop_assert_eq!(run(&turns, |_, data| cut(data, &places)), expected);
    }

    #[test]
    fn probes_do_not_change_their_mind(turns in conversations(), port in prop::sample::select(vec![53_u16, 80])) {
        for (direction, data) in &turns {
            for spec in catalogue().filter(|spec| spec.carrier == Carrier::Tcp) {
                let mut before = Probe::Unsure;
                for len in 1..=data.len() {
                    let window = Segment { resp_port: port, ..segment(*direction, &data[..len]) };
                    let now = (spec.probe)(&window);
                    prop_assert!(before == Probe::Unsure || before == now, "{} at {len} of {data:?}", spec.name);
                    before = now;
                }
            }
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_are_survived(
        pieces in proptest::collection::vec(
            (any::<bool>(), 0_u32..3, proptest::collection::vec(any::<u8>(), 1..100)), 1..20),
        carrier in prop::sample::select(vec![Carrier::Tcp, Carrier::Udp]),
        port in prop::sample::select(vec![53_u16, 80, 443]),
    ) {
        let mut flow = FlowDissector::new(carrier);
        let mut out = Vec::new();
        for (orig, gap, data) in &pieces {
            let direction = if *orig { Orig } else { Resp };
            flow.feed(&Segment { gap: *gap, resp_port: port, ..segment(direction, data) }, &mut out);
        }
    }
}

#[test]
fn a_command_that_is_all_that_was_said_needs_no_end_of_line() {
    for said in ["id", "ls -la /", "cd /tmp; uname -a", "cat /etc/passwd"] {
        let shell = turns(&[
            (Resp, b"hello"),
            (Orig, b"ok"),
            (Resp, said.as_bytes()),
            (Orig, b"done"),
        ]);
        let (out, ..) = whole(&shell);
        let told = openings(&out);
        let commands =
            |&(by, _, marks): &(Direction, u16, u8)| by == Resp && marks & ShellMarks::COMMAND != 0;
        assert!(told.iter().any(commands), "{said}: {told:?}");
        assert_eq!(run(&shell, |_, data| data.chunks(1)).0, out, "{said}");
    }
}

#[test]
fn a_port_hides_no_shell() {
    for port in [53, 5355, 40_001] {
        let mut flow = FlowDissector::new(Carrier::Udp);
        let mut out = Vec::new();
        let said: [(Direction, &[u8]); 3] = [
            (Orig, b"sh: 0: can't access tty; job control turned off\n# "),
            (Resp, b"id\n"),
            (Orig, b"uid=0(root) gid=0(root)\n# "),
        ];
        for (direction, data) in said {
            let datagram = Segment {
                resp_port: port,
                ..segment(direction, data)
            };
            flow.feed(&datagram, &mut out);
        }
        let told = openings(&out);
        let marks = |by| told.iter().filter(move |one| one.0 == by).map(|one| one.2);
        assert!(
            marks(Orig).any(|marks| marks & ShellMarks::NO_TERMINAL != 0),
            "{port}: {told:?}"
        );
        assert!(
            marks(Resp).any(|marks| marks & ShellMarks::COMMAND != 0),
            "{port}: {told:?}"
        );
    }
}

#[test]
fn a_banner_hides_no_shell() {
    let (command, output) = (ShellMarks::COMMAND, ShellMarks::OUTPUT);
    let shell = turns(&[
        (Resp, BANNER),
        (Orig, b"$ "),
        (Resp, b"id\n"),
        (Orig, b"uid=0(root) gid=0(root)\n"),
        (Resp, b"uname -a\n"),
        (Orig, b"Linux web 6.1.0\n"),
    ]);
    let (out, app, ..) = whole(&shell);
    assert_eq!(app, Some("nats"));
    let marks = openings(&out);
    assert!(
        marks
            .iter()
            .any(|&(from, _, marks)| from == Resp && marks & command != 0)
    );
    assert!(
        marks
            .iter()
            .any(|&(from, _, marks)| from == Orig && marks & output != 0)
    );
}

#[test]
fn a_login_typed_at_redis_is_one_as_soon_as_it_is_answered() {
    for answer in [
        &b"-WRONGPASS invalid username-password pair\r\n"[..],
        b"-ERR invalid password\r\n",
    ] {
        let (said, app, ..) = whole(&turns(&[(Orig, b"AUTH letmein\r\n"), (Resp, answer)]));
        assert_eq!(app, Some("redis"));
        let refused = |one: &Transaction| {
            matches!(one, Transaction::Database(message)
                if matches!(message.event, crate::dissect::DatabaseEvent::LoginResult { success: false, .. }))
        };
        assert!(said.iter().any(refused), "{said:?}");
    }
    let (_, app, ..) = whole(&turns(&[
        (Orig, b"AUTH PLAIN AGEAYg==\r\n"),
        (Resp, b"235 2.7.0 Authentication successful\r\n"),
    ]));
    assert_ne!(app, Some("redis"), "mail, its greeting missed");
}
