//! The pcap format: every variant, every damage.

use super::super::{CaptureError, LinkType, MAX_RECORD};
use super::*;

#[test]
fn reads_both_resolutions_in_both_byte_orders() {
    for (order, magic, nanos) in [
        (Little, MICROS, 5_000),
        (Big, MICROS, 5_000),
        (Little, NANOS, 5),
        (Big, NANOS, 5),
    ] {
        let mut bytes = pcap(order, magic, 113);
        bytes.extend(order.words(&[1_700_000_000, 5, 3, 900]));
        bytes.extend(b"abc");
        let outcome = read(&bytes).unwrap();
        let frame = Seen {
            nanos: 1_700_000_000_000_000_000 + nanos,
            link: LinkType::LinuxSll,
            wire_len: 900,
            interface: 0,
            data: b"abc".to_vec(),
        };
        assert_eq!(outcome.frames, [frame], "{order:?} {magic:x}");
        assert_eq!(outcome.damage, None);
    }
}

#[test]
fn reads_the_modified_format() {
    let mut bytes = pcap(Little, MODIFIED, ETHERNET);
    for data in [b"abc", b"def"] {
        // Interface, protocol, packet type behind the usual fields.
        bytes.extend(Little.words(&[7, 8, 3, 3, 2, 0x0800]));
        bytes.extend(data);
    }
    let frames = read(&bytes).unwrap().frames;
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].nanos, 7_000_008_000);
    assert_eq!(frames[1].data, b"def");
}

#[test]
fn the_bits_above_the_link_type_are_ignored() {
    // Frames end with a check sequence of 4 bytes.
    let bytes = pcap(Little, MICROS, 0x5400_0001);
    assert_eq!(read(&bytes).unwrap().frames, []);
}

#[test]
fn odd_lengths_and_fractions_are_tolerated() {
    let mut bytes = pcap(Little, MICROS, ETHERNET);
    // More captured than there was; nothing captured; a fraction of more than a second.
    bytes.extend(Little.words(&[1, 0, 4, 2]));
    bytes.extend(b"abcd");
    bytes.extend(Little.words(&[2, 0, 0, 60]));
    bytes.extend(Little.words(&[3, u32::MAX, 0, 0]));
    let outcome = read(&bytes).unwrap();
    let lengths: Vec<_> = outcome
        .frames
        .iter()
        .map(|frame| (frame.data.len(), frame.wire_len))
        .collect();
    assert_eq!(lengths, [(4, 4), (0, 60), (0, 0)]);
    assert_eq!(outcome.frames[2].nanos, 3_000_000_000 + 4_294_967_295_000);
    assert_eq!(outcome.damage, None);
}

#[test]
fn records_longer_than_the_buffer_is_full_are_read() {
    // 5 MiB in records of the longest kind and short ones between: every refill cuts one.
    let lengths: Vec<_> = (0..40)
        .map(|i| if i % 2 == 0 { MAX_RECORD } else { 100 + i })
        .collect();
    let (bytes, _) = pcap_of(&lengths);
    let outcome = read(&bytes).unwrap();
    assert_eq!(outcome.damage, None);
    let seen: Vec<_> = outcome.frames.iter().map(|f| f.data.len()).collect();
    assert_eq!(seen, lengths);
    for (i, frame) in outcome.frames.iter().enumerate() {
        assert!(frame.data.iter().all(|&byte| byte == i as u8), "frame {i}");
    }
}

#[test]
fn a_cut_header_is_an_error_and_says_where() {
    let bytes = pcap(Little, MICROS, ETHERNET);
    let error = open_error(&bytes[..10]);
    assert!(
        matches!(&error, CaptureError::BadHeader { offset: 0, problem, .. }
            if problem == "the file ends inside the file header (10 of 24 bytes are there)"),
        "{error}"
    );
}

#[test]
fn an_unsupported_link_type_is_an_error() {
    let error = open_error(&pcap(Big, MICROS, 195));
    assert!(
        matches!(error, CaptureError::LinkType { number: 195, .. }),
        "{error}"
    );
}

#[test]
fn a_file_cut_inside_a_record_gives_the_records_before() {
    let (bytes, ends) = pcap_of(&[60, 1_514]);
    let start = ends[0] as u64;

    let outcome = read(&bytes[..ends[0] + 7]).unwrap();
    assert_eq!(outcome.frames.len(), 1);
    let problem = "the file ends inside a record's header (7 of 16 bytes are there)";
    assert_eq!(outcome.damaged(), (start, true, problem));

    let outcome = read(&bytes[..ends[1] - 1]).unwrap();
    assert_eq!(outcome.frames.len(), 1);
    let problem = "the file ends inside a record (1529 of 1530 bytes are there)";
    assert_eq!(outcome.damaged(), (start, true, problem));
    assert_eq!(
        outcome.damage.unwrap().to_string(),
        format!(
            " is cut short at byte {start}: {problem}; everything before was analyzed; \
             for the rest, copy the file again, after the capture has been stopped"
        )
    );
}

#[test]
fn an_absurd_length_is_damage_not_an_allocation() {
    for absurd in [MAX_RECORD as u32 + 1, 3_000_000_000, u32::MAX] {
        // At the file's end, and with more than a buffer behind it.
        for more in [0, 2 << 20] {
            let (mut bytes, ends) = pcap_of(&[60]);
            bytes.extend(Little.words(&[1, 2, absurd, absurd]));
            bytes.resize(bytes.len() + more, 0xff);
            let outcome = read(&bytes).unwrap();
            assert_eq!(outcome.frames.len(), 1);
            let problem = format!(
                "a record says that it holds {absurd} bytes (at most {MAX_RECORD} are possible)"
            );
            assert_eq!(outcome.damaged(), (ends[0] as u64, false, &*problem));
        }
    }
}

#[test]
fn zeros_after_the_last_record_are_damage_not_frames() {
    let (mut bytes, ends) = pcap_of(&[60]);
    bytes.resize(bytes.len() + 4_096, 0);
    let outcome = read(&bytes).unwrap();
    assert_eq!(outcome.frames.len(), 1);
    let (offset, truncated, problem) = outcome.damaged();
    assert_eq!((offset, truncated), (ends[0] as u64, false));
    assert!(
        problem.starts_with("zeros where a record should begin"),
        "{problem}"
    );
}
