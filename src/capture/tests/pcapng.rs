//! The pcapng format: every variant, every damage.

use super::super::{CaptureError, LinkType, MAX_RECORD};
use super::*;

const TSRESOL: u16 = 9;
const TSOFFSET: u16 = 14;

/// A section with one Ethernet interface.
fn start() -> Vec<u8> {
    [section(Little), interface(Little, 1, 0, &[])].concat()
}

#[test]
fn reads_sections_of_either_order_with_interfaces_of_different_kinds() {
    let mut bytes = Vec::new();
    for order in [Big, Little, Big] {
        bytes.extend(section(order));
        bytes.extend(interface(order, 1, 0, &[(2, b"eth0")]));
        bytes.extend(interface(order, 101, 0, &[]));
        bytes.extend(packet(order, 1, 7_000_000, b"raw"));
        bytes.extend(packet(order, 0, 8_000_001, b"ether"));
    }
    let outcome = read(&bytes).unwrap();
    assert_eq!(outcome.damage, None);
    assert_eq!(outcome.frames.len(), 6);
    for pair in outcome.frames.chunks(2) {
        assert_eq!((pair[0].link, pair[0].interface), (LinkType::RawIp, 1));
        assert_eq!(
            (pair[0].nanos, &*pair[0].data),
            (7_000_000_000, &b"raw"[..])
        );
        assert_eq!((pair[1].link, pair[1].interface), (LinkType::Ethernet, 0));
        assert_eq!(
            (pair[1].nanos, &*pair[1].data),
            (8_000_001_000, &b"ether"[..])
        );
    }
}

#[test]
fn stamps_follow_the_interface_resolution_and_offset() {
    // Resolution, offset in seconds, ticks, nanoseconds.
    let cases: &[(u8, i64, u64, i64)] = &[
        (6, 0, 1_700_000_000_000_001, 1_700_000_000_000_001_000),
        (9, 0, 1_700_000_000_000_000_001, 1_700_000_000_000_000_001),
        (0, 0, 17, 17_000_000_000),
        (3, 100, 1_500, 101_500_000_000),
        (12, -1, 2_000_000_000_999, 1_000_000_000),
        (0x8a, 0, 1_536, 1_500_000_000),
        (0xa0, 1, 1 << 31, 1_500_000_000),
        (0xff, 0, u64::MAX, 0),
        (0x7f, 0, 1 << 63, 0),
        (6, 0, u64::MAX, i64::MAX),
        (6, i64::MAX, 1, i64::MAX),
        (6, i64::MIN, 0, i64::MIN),
        (0, 1, u64::MAX, i64::MAX),
    ];
    for &(resolution, offset, ticks, nanos) in cases {
        for order in [Little, Big] {
            let options: &[(u16, &[u8])] =
                &[(TSRESOL, &[resolution]), (TSOFFSET, &order.long(offset))];
            let bytes = [
                section(order),
                interface(order, 1, 0, options),
                packet(order, 0, ticks, b"x"),
            ]
            .concat();
            let seen = read(&bytes).unwrap().frames[0].nanos;
            assert_eq!(seen, nanos, "{order:?} {resolution:#x} {offset} {ticks}");
        }
    }
}

#[test]
fn reads_packets_with_options_and_passes_over_other_blocks() {
    let mut body = Little.words(&[0, 0, 5_000_000, 5, 700]);
    body.extend(b"hello\0\0\0");
    body.extend(with_options(
        Little,
        &[(2, &[1, 0, 0, 0]), (1, b"a comment")],
    ));
    let bytes = [
        start(),
        // Names, statistics, a journal, TLS secrets of 3 MiB, one that nobody knows.
        block(Little, 4, b"\0\0\0\0"),
        block(Little, 5, &[0; 12]),
        block(Little, 9, b"MESSAGE=hello"),
        block(Little, 10, &vec![b'k'; 3 << 20]),
        block(Little, 0x4000_1234, b""),
        block(Little, 6, &body),
    ]
    .concat();
    let outcome = read(&bytes).unwrap();
    assert_eq!(outcome.damage, None);
    assert_eq!(outcome.frames[0].data, b"hello");
    assert_eq!(outcome.frames[0].wire_len, 700);
}

#[test]
fn reads_simple_packets_within_the_snap_length() {
    let simple = |order: Order, wire_len, data: &[u8]| {
        let body = [order.words(&[wire_len]), data.to_vec()].concat();
        block(order, 3, &body)
    };
    for order in [Little, Big] {
        let bytes = [
            section(order),
            interface(order, 1, 4, &[]),
            packet(order, 0, 9_000_000, b"ab"),
            simple(order, 3, b"abc"),
            simple(order, 60, b"abcd"),
        ]
        .concat();
        let frames = read(&bytes).unwrap().frames;
        let seen: Vec<_> = frames
            .iter()
            .map(|frame| (frame.nanos, frame.wire_len, &*frame.data))
            .collect();
        // They have no stamp: that of the frame before is the best guess.
        let expected = [
            (9_000_000_000, 2, &b"ab"[..]),
            (9_000_000_000, 3, b"abc"),
            (9_000_000_000, 60, b"abcd"),
        ];
        assert_eq!(seen, expected, "{order:?}");
    }
}

#[test]
fn reads_obsolete_packets() {
    for order in [Little, Big] {
        // Interface and drop count share a word.
        let mut body = [order.half(1), order.half(0xffff)].concat();
        body.extend(order.words(&[0, 3_000_000, 3, 50]));
        body.extend(b"old");
        let bytes = [
            section(order),
            interface(order, 1, 0, &[]),
            interface(order, 276, 0, &[]),
            block(order, 2, &body),
        ]
        .concat();
        let frame = Seen {
            nanos: 3_000_000_000,
            link: LinkType::LinuxSll2,
            wire_len: 50,
            interface: 1,
            data: b"old".to_vec(),
        };
        assert_eq!(read(&bytes).unwrap().frames, [frame]);
    }
}

#[test]
fn frames_of_unsupported_interfaces_are_counted() {
    let mut bytes = start();
    bytes.extend(interface(Little, USB as u16, 0, &[]));
    bytes.extend(packet(Little, 1, 1, b"usb"));
    bytes.extend(packet(Little, 0, 2, b"ether"));
    bytes.extend(packet(Little, 1, 3, b"usb"));
    let outcome = read(&bytes).unwrap();
    assert_eq!((outcome.frames.len(), outcome.unsupported), (1, 2));
    assert_eq!(outcome.damage, None);
}

#[test]
fn a_file_of_unsupported_interfaces_alone_is_an_error() {
    let bytes = [
        section(Little),
        interface(Little, USB as u16, 0, &[]),
        packet(Little, 0, 1, b"usb"),
    ]
    .concat();
    let error = open_error(&bytes);
    assert!(
        matches!(error, CaptureError::LinkType { number: USB, .. }),
        "{error}"
    );

    // A later section may still bring one that is supported.
    let bytes = [bytes, start(), packet(Little, 0, 2, b"ether")].concat();
    let outcome = read(&bytes).unwrap();
    assert_eq!((outcome.frames.len(), outcome.unsupported), (1, 1));
}

#[test]
fn a_file_cut_inside_a_block_gives_the_packets_before() {
    let before = [start(), packet(Little, 0, 1, b"first")].concat();
    let offset = before.len() as u64;
    let whole = [before, packet(Little, 0, 2, b"second")].concat();
    for (keep, problem) in [
        (
            5,
            "the file ends inside a block's header (5 of 12 bytes are there)",
        ),
        (
            12,
            "the file ends inside a block (12 of 40 bytes are there)",
        ),
        (
            39,
            "the file ends inside a block (39 of 40 bytes are there)",
        ),
    ] {
        let outcome = read(&whole[..offset as usize + keep]).unwrap();
        assert_eq!(outcome.frames.len(), 1);
        assert_eq!(outcome.damaged(), (offset, true, problem));
    }
    let cut = [
        start(),
        block(Little, 10, &vec![0; 2 << 20])[..1 << 20].to_vec(),
    ]
    .concat();
    let offset = start().len() as u64;
    let problem = "the file ends inside a block (1048576 of 2097164 bytes are there)";
    assert_eq!(read(&cut).unwrap().damaged(), (offset, true, problem));
}

/// Puts bytes between two packets, and returns what is said of them.
fn damage_of(bad: &[u8]) -> (bool, String) {
    let before = [start(), packet(Little, 0, 1, b"first")].concat();
    let bytes = [&*before, bad, &packet(Little, 0, 2, b"second")].concat();
    let outcome = read(&bytes).unwrap();
    assert_eq!(outcome.frames.len(), 1);
    let (offset, truncated, problem) = outcome.damaged();
    assert_eq!(offset, before.len() as u64, "{problem}");
    (truncated, problem.to_owned())
}

#[test]
fn garbage_between_blocks_is_damage_where_it_begins() {
    let says = |len: u32| format!("what should be a block says that it is {len} bytes long");
    let claims = |kind, len| Little.words(&[kind, len, 0, 0, 0, 0, 0, 0]);
    assert_eq!(damage_of(b"GARBAGE! and more"), (false, says(0x2145_4741)));
    assert_eq!(damage_of(&[0; 64]), (false, says(0)));
    assert_eq!(damage_of(&[0xff; 64]), (false, says(u32::MAX)));
    for kind in [1, 2, 3, 6, 10] {
        assert_eq!(damage_of(&claims(kind, 8)), (false, says(8)));
        assert_eq!(damage_of(&claims(kind, 30)), (false, says(30)));
        assert_eq!(damage_of(&claims(kind, 32 << 20)), (false, says(32 << 20)));
    }
    // A packet block has a lower bound than one that is passed over.
    assert_eq!(damage_of(&claims(6, 1 << 20)), (false, says(1 << 20)));
}

#[test]
fn blocks_that_contradict_themselves_are_damage() {
    let mut lengths_differ = packet(Little, 0, 1, b"data");
    *lengths_differ.last_mut().unwrap() = 1;
    let (_, problem) = damage_of(&lengths_differ);
    assert_eq!(problem, "a block's two lengths differ (36 and 16777252)");

    for captured in [5, MAX_RECORD as u32 + 1, u32::MAX] {
        let mut body = Little.words(&[0, 0, 1, captured, 4]);
        body.extend(b"data");
        let (_, problem) = damage_of(&block(Little, 6, &body));
        let expected = format!("a packet says that it holds {captured} bytes, in a block of 36");
        assert_eq!(problem, expected);
    }
    // Too short for its own fields.
    assert!(!damage_of(&block(Little, 6, b"")).1.is_empty());
    assert!(!damage_of(&block(Little, 3, b"")).1.is_empty());

    let (_, problem) = damage_of(&packet(Little, 3, 1, b"data"));
    let expected = "a packet of interface 3, which its section does not describe (it describes 1)";
    assert_eq!(problem, expected);

    let mut future = section(Little);
    future[12] = 2;
    let (_, problem) = damage_of(&future);
    assert_eq!(
        problem,
        "a section of pcapng version 2 (version 1 is known)"
    );
}

#[test]
fn a_bad_first_section_is_an_error() {
    let mut bytes = section(Little);
    bytes[8] = 0;
    let error = open_error(&bytes);
    assert!(
        matches!(&error, CaptureError::BadHeader { offset: 0, problem, .. }
            if problem == "a section header without its byte-order magic"),
        "{error}"
    );
    let error = open_error(&section(Little)[..20]);
    assert!(
        matches!(&error, CaptureError::BadHeader { offset: 0, problem, .. }
            if problem == "the file ends inside a block (20 of 28 bytes are there)"),
        "{error}"
    );
}

#[test]
fn the_interfaces_of_a_section_are_bounded() {
    let mut bytes = section(Little);
    bytes.extend(interface(Little, 1, 0, &[]).repeat(1 << 16));
    let offset = bytes.len() as u64;
    bytes.extend(interface(Little, 1, 0, &[]));
    let problem = "more than 65536 interfaces in one section";
    assert_eq!(read(&bytes).unwrap().damaged(), (offset, false, problem));
}
