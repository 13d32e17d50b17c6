//! Frames of all sizes, masked and not, in any pieces; and what isn't one.

use proptest::prelude::*;

use super::*;
use crate::dissect::Content;
use crate::flow::Direction;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";
const BANNER: &str = "protocol ssh";

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

/// A frame; `head` is its first byte.
fn frame(head: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![head];
    match payload.len() {
        len @ 0..126 => bytes.push(flag | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(flag | 0x7e);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(flag | 0x7f);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

fn masked(payload: &[u8]) -> Vec<u8> {
    frame(0x82, Some([0x9a, 0, 0x31, 0xff]), payload)
}

fn brief(transaction: &Transaction) -> String {
    let Transaction::Carried(carried) = transaction else {
        panic!("{transaction:?}")
    };
    assert_eq!(carried.carrier, "websocket");
    match &carried.content {
        Content::Protocol(app) => format!("protocol {app}"),
        Content::Message(message) => match &**message {
            Transaction::Opening(opening) => format!("{:?} {:?}", opening.direction, opening.mix),
            other => format!("{other:?}"),
        },
    }
}

fn feed(turns: &[(Direction, Vec<u8>)]) -> (Vec<String>, Progress) {
    let run = |size: usize| {
        let mut websocket = WebSocket::new(0).unwrap();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = websocket.feed(&segment(*direction, piece), &mut out);
                if progress != Progress::More {
                    return (out, progress);
                }
            }
        }
        (out, Progress::More)
    };
    let whole = run(usize::MAX);
    for size in [1, 2, 3, 13] {
        assert_eq!(run(size), whole, "pieces of {size}");
    }
    (whole.0.iter().map(brief).collect(), whole.1)
}

#[test]
fn what_rides_inside_is_recognised_under_its_mask() {
    let (found, progress) = feed(&[(Orig, masked(SSH)), (Resp, frame(0x82, None, SSH))]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], BANNER);
    assert_eq!(progress, Progress::More);
}

#[test]
fn messages_in_fragments_with_pings_between_are_one_stream() {
    let pieces = [
        frame(0x89, Some([1, 2, 3, 4]), b"are you there"),
        frame(0x02, Some([5, 6, 7, 8]), &SSH[..3]),
        frame(0x89, Some([1, 2, 3, 4]), b""),
        frame(0x00, Some([0; 4]), &SSH[3..9]),
        frame(0x80, Some([9, 9, 9, 9]), &SSH[9..]),
    ];
    let (found, _) = feed(&[(Orig, pieces.concat())]);
    assert_eq!(found[0], BANNER);
}

#[test]
fn lengths_of_all_forms_and_clients_that_do_not_mask() {
    let tail = |len: usize| {
        [
            b"HTTP/1.1 200 OK\r\nX: ",
            vec![b'a'; len].as_slice(),
            b"\r\nContent-Length: 0\r\n\r\n",
        ]
        .concat()
    };
    for len in [1, 200, 70_000] {
        let (found, progress) = feed(&[(Resp, frame(0x82, None, &tail(len)))]);
        let expected = if len < 30_000 {
            (2, Progress::More)
        } else {
            (1, Progress::Desynced)
        };
        assert_eq!((found.len(), progress), expected, "{len}");
        assert_eq!(found[0], "protocol http");
    }
    assert_eq!(feed(&[(Orig, frame(0x82, None, SSH))]).0[0], BANNER);
}

#[test]
fn ordinary_applications_are_described_and_let_go() {
    let text = b"{\"op\":\"subscribe\",\"channel\":\"orders\"}".repeat(8);
    let (ask, answer) = (masked(&text), frame(0x81, None, &text));
    let exchange = [(Orig, ask), (Resp, answer)];
    let (found, progress) = feed(&exchange.iter().cycle().take(5).cloned().collect::<Vec<_>>());
    assert_eq!(
        (found, progress),
        (vec!["Orig Text".into(), "Resp Text".into()], Progress::Done)
    );
}

/// Messages as RFC 7692 compresses them, one stream for all.
fn packed(messages: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut deflate = flate2::Compress::new(flate2::Compression::default(), false);
    messages
        .iter()
        .map(|message| {
            let mut bytes = Vec::with_capacity(message.len() * 2 + 64);
            let flush = flate2::FlushCompress::Sync;
            deflate.compress_vec(message, &mut bytes, flush).unwrap();
            bytes.strip_suffix(&MESSAGE_END).unwrap().to_vec()
        })
        .collect()
}

#[test]
fn compressed_messages_are_unpacked_as_far_as_needed() {
    let (hello, keys) = (b"SSH-2.0-OpenSSH_9.6\r\n", [7; 1500]);
    let messages = packed(&[hello, &keys, hello]);
    // In one frame, and in fragments with a ping between; the mask hides it besides.
    let (found, progress) = feed(&[(Orig, frame(0xc2, Some([1, 2, 3, 4]), &messages[0]))]);
    assert_eq!((found[0].as_str(), progress), (BANNER, Progress::More));
    let (before, after) = messages[0].split_at(5);
    let fragments = [
        frame(0x42, None, before),
        frame(0x89, None, b"ping"),
        frame(0x00, None, after),
        frame(0x80, None, b""),
    ];
    let (found, progress) = feed(&[(Resp, fragments.concat())]);
    assert_eq!((found[0].as_str(), progress), (BANNER, Progress::More));
    // An application's own messages, of which later ones refer to earlier ones.
    let text = b"{\"op\":\"subscribe\",\"channel\":\"orders\"}".repeat(8);
    let frames: Vec<_> = packed(&[&*text; 9])
        .iter()
        .map(|message| (Resp, frame(0xc1, None, message)))
        .collect();
    assert_eq!(feed(&frames), (vec!["Resp Text".into()], Progress::Done));
}

#[test]
fn what_unpacks_to_much_or_not_at_all_is_let_go() {
    let bomb = packed(&[&vec![b'a'; 10_000_000]]);
    let (_, progress) = feed(&[(Resp, frame(0xc1, None, &bomb[0]))]);
    assert_eq!(progress, Progress::Done);
    let (found, progress) = feed(&[(Resp, frame(0xc1, None, SSH))]);
    assert_eq!((found, progress), (vec![], Progress::More));
}

#[test]
fn frames_that_cannot_be() {
    let bad = [
        frame(0x83, None, b"reserved opcode"),
        frame(0xa2, None, b"reserved bit"),
        frame(0x09, None, b"a ping in fragments"),
        frame(0x89, None, &[0; 126]),
        [&[0x82, 127][..], &[0xff; 8]].concat(),
    ];
    for bytes in bad {
        assert_eq!(feed(&[(Orig, bytes)]), (vec![], Progress::Desynced));
    }
}

#[test]
fn gaps_are_passed_within_a_payload_only() {
    let run = |gap: u32| {
        let mut websocket = WebSocket::new(0).unwrap();
        let mut out = Vec::new();
        let whole = masked(&[SSH, &[7; 40]].concat());
        let (before, after) = whole.split_at(SSH.len() + 10);
        websocket.feed(&segment(Orig, before), &mut out);
        let rest = after.get(gap as usize..).unwrap_or(b"\x89\x80....");
        let progress = websocket.feed(
            &Segment {
                gap,
                ..segment(Orig, rest)
            },
            &mut out,
        );
        (brief(&out[0]), progress)
    };
    assert_eq!(run(30).0, BANNER);
    assert_eq!(run(37), (BANNER.into(), Progress::Desynced));
}

proptest! {
    #[test]
    fn any_bytes_are_survived_however_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        opcode in 0_u8..3,
        packed in any::<bool>(),
    ) {
        let first = 0x80 | opcode | if packed && opcode > 0 { 0x40 } else { 0 };
        feed(&[(Orig, bytes.clone()), (Resp, frame(first, None, &bytes)), (Orig, masked(&bytes))]);
    }
}
