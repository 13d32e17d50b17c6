//! Conversations inside others: named once, wrapped, and told by marks where nobody in the catalogue knows them.

use super::*;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 443,
        data,
        gap: 0,
    }
}

fn contents(turns: &[(Direction, &[u8])]) -> (Vec<Content>, Progress) {
    let run = |size: usize| {
        let mut inside = Inside::new("test", 0).unwrap();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = inside.feed(&segment(*direction, piece), &mut out);
                if progress != Progress::More {
                    return (out, progress);
                }
            }
        }
        (out, Progress::More)
    };
    let whole = run(usize::MAX);
    for size in [1, 2, 7, 100] {
        assert_eq!(run(size), whole, "pieces of {size}");
    }
    let contents = whole.0.into_iter().map(|transaction| match transaction {
        Transaction::Carried(carried) => carried.content,
        other => panic!("{other:?}"),
    });
    (contents.collect(), whole.1)
}

#[test]
fn a_known_protocol_is_named_once_and_its_messages_are_wrapped() {
    let (found, progress) = contents(&[(Resp, SSH), (Orig, SSH)]);
    assert_eq!(found[0], Content::Protocol("ssh"));
    assert_eq!(found.len(), 3);
    assert!(
        matches!(&found[2], Content::Message(message) if matches!(**message, Transaction::Ssh(_)))
    );
    assert_eq!(progress, Progress::More);
}

#[test]
fn a_name_had_for_a_few_bytes_of_one_end_waits_for_the_other() {
    let (asks, answers): (&[u8], &[u8]) = (b"\0REQ\0\0\0\x10", b"\0RES\0\0\0\x11");
    let get: &[u8] = b"GET /product/72 HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert!(contents(&[(Resp, answers)]).0.is_empty());
    let (found, _) = contents(&[(Resp, answers), (Orig, asks)]);
    assert_eq!(found, [Content::Protocol("gearman")]);
    let (found, _) = contents(&[(Resp, answers), (Orig, get)]);
    assert_eq!(found.first(), Some(&Content::Protocol("http")));
    assert_eq!(found.len(), 2);
}

#[test]
fn marks_tell_what_stands_behind_a_header_when_the_turn_is_over() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03and more";
    let behind_a_header = [&b"\x01id:0123456789"[..], hello].concat();
    let window = b"\0\x01\0\x01\0\0\0\x01\0\0\0\0";
    for (orig, mark) in [(&window[..], "yamux"), (&behind_a_header, "tls")] {
        let turns: [(Direction, &[u8]); 3] = [(Orig, orig), (Resp, b"\x01ok"), (Orig, b"a")];
        assert!(contents(&turns[..1]).0.is_empty());
        let (found, progress) = contents(&turns);
        assert_eq!(
            (found.last(), progress),
            (Some(&Content::Protocol(mark)), Progress::Done)
        );
    }
}

#[test]
fn what_nobody_knows_is_described_and_costs_no_memory() {
    let mut inside = Inside::new("test", 0).unwrap();
    let mut out = Vec::new();
    let noise: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(167) ^ 0xa5).collect();
    let fed = (0..10_000).find(|_| {
        assert!(inside.first.resp.capacity() <= WINDOW);
        inside.feed(&segment(Resp, &noise), &mut out) != Progress::More
    });
    assert!(fed.is_some_and(|fed| fed < 1000));
    assert!(
        matches!(&out[..], [Transaction::Carried(Carried { content: Content::Message(message), .. })]
        if matches!(**message, Transaction::Opening(_)))
    );
}

#[test]
fn depth_is_bounded() {
    assert!(Inside::new("test", MAX_DEPTH - 1).is_some());
    assert!(Inside::new("test", MAX_DEPTH).is_none());
    assert!(Inside::new("test", u8::MAX).is_none());
}
