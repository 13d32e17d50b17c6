//! gzip and zstd, found by content, whole and broken.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::CaptureError;
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A capture of some 400 kB that doesn't compress well, and where its records end.
fn capture() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = pcap(Little, MICROS, ETHERNET);
    let mut ends = Vec::new();
    let mut state = 1_u64;
    for i in 0..400_u32 {
        let data: Vec<u8> = (0..1_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        bytes.extend(record(Little, i, 1, &data));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

#[test]
fn reads_what_is_compressed_in_one_piece_or_several() {
    let (bytes, ends) = capture();
    let plain = read(&bytes).unwrap();
    let (front, back) = bytes.split_at(ends[100] + 5);
    for compressed in [
        gzip(&bytes),
        [gzip(front), gzip(back)].concat(),
        zstd(&bytes),
        [zstd(front), zstd(back)].concat(),
        // A skippable frame first, as parallel compressors write.
        [b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec(), zstd(&bytes)].concat(),
    ] {
        assert_eq!(read(&compressed).unwrap(), plain);
    }
}

#[test]
fn progress_counts_bytes_on_disk() {
    let file = on_disk(&gzip(&capture().0));
    let total = file.as_file().metadata().unwrap().len();
    let mut source = CaptureFile::open(file.path()).unwrap();
    let first = source.progress();
    assert!(first.read > 0 && first.read < total, "{first:?}");
    assert_eq!(first.total, Some(total));
    drain(&mut source);
    assert_eq!(source.progress().read, total);
}

#[test]
fn a_stream_that_ends_early_gives_the_whole_records_before() {
    let (bytes, ends) = capture();
    for (name, compressed) in [("gzip", gzip(&bytes)), ("zstd", zstd(&bytes))] {
        for part in [2, 3, 10] {
            let outcome = read(&compressed[..compressed.len() / part]).unwrap();
            let count = outcome.frames.len();
            // Nearly all that the bytes hold: a zstd block that is not whole holds nothing.
            let lost = if name == "gzip" {
                1
            } else {
                131_072 / 1_016 + 1
            };
            assert!(count + lost >= 400 / part, "{name}/{part}: {count}");
            let offset = count.checked_sub(1).map_or(24, |last| ends[last]) as u64;
            let problem = format!("the {name} stream ends early");
            assert_eq!(outcome.damaged(), (offset, true, &*problem));
        }
    }
}

#[test]
fn a_corrupt_stream_gives_the_whole_records_before() {
    let (bytes, ends) = capture();
    let offset = ends[199] as u64;

    // Behind a flush, which ends on a byte, a block of the type that is reserved (RFC 1951, 3.2.3).
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&bytes[..ends[199] + 9]).unwrap();
    encoder.flush().unwrap();
    let mut compressed = encoder.get_ref().clone();
    compressed.extend([0x06; 64]);
    let outcome = read(&compressed).unwrap();
    assert_eq!(outcome.frames.len(), 200);
    let problem = "the gzip stream can't be decompressed (corrupt data)";
    assert_eq!(outcome.damaged(), (offset, false, problem));

    // The same in zstd (RFC 8878, 3.1.1.2.2).
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&bytes[..ends[199] + 9]).unwrap();
    encoder.flush().unwrap();
    let mut compressed = encoder.get_ref().clone();
    compressed.extend([0x06; 64]);
    let outcome = read(&compressed).unwrap();
    // The decoder keeps back the last step it was in.
    let count = outcome.frames.len();
    assert!((195..=200).contains(&count), "{count}");
    let (at, truncated, problem) = outcome.damaged();
    assert_eq!((at, truncated), (ends[count - 1] as u64, false));
    assert!(
        problem.starts_with("the zstd stream can't be decompressed ("),
        "{problem}"
    );
}

#[test]
fn a_wrong_checksum_is_damage_behind_the_last_record() {
    let (bytes, _) = pcap_of(&[60, 60]);
    let mut compressed = gzip(&bytes);
    let checksum = compressed.len() - 8;
    compressed[checksum] ^= 1;
    let outcome = read(&compressed).unwrap();
    assert_eq!(outcome.frames.len(), 2);
    let problem = "the gzip stream can't be decompressed \
                   (the checksum is wrong: something before is not what was written)";
    assert_eq!(outcome.damaged(), (bytes.len() as u64, false, problem));
}

#[test]
fn what_follows_the_stream_is_damage_behind_the_last_record() {
    let (bytes, _) = pcap_of(&[60, 60]);
    for (name, compressed) in [("gzip", gzip(&bytes)), ("zstd", zstd(&bytes))] {
        let outcome = read(&[compressed, b"and more".to_vec()].concat()).unwrap();
        assert_eq!(outcome.frames.len(), 2, "{name}");
        let (offset, truncated, _) = outcome.damaged();
        assert_eq!((offset, truncated), (bytes.len() as u64, false), "{name}");
    }
}

#[test]
fn a_stream_that_breaks_before_the_header_ends_is_an_error() {
    let nothing = open_error(&gzip(b"")).to_string();
    assert!(
        nothing.contains("there is nothing in its gzip stream"),
        "{nothing}"
    );
    let broken = open_error(&[b"\x28\xb5\x2f\xfd", &[0xff; 32][..]].concat());
    assert!(
        matches!(&broken, CaptureError::BadHeader { offset: 0, problem, .. }
            if problem.starts_with("the zstd stream can't be decompressed")),
        "{broken}"
    );
    for len in 4..12 {
        let cut = open_error(&gzip(&pcap(Little, MICROS, ETHERNET))[..len]);
        assert!(
            matches!(&cut, CaptureError::BadHeader { offset: 0, problem, .. }
                if problem == "the gzip stream ends early"),
            "{cut}"
        );
    }
}

#[test]
fn a_bomb_is_streamed_not_held() {
    // 64 MiB in 64 kB: one block that is passed over, again and again.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&section(Little)).unwrap();
    let secrets = block(Little, 10, &vec![0; 8 << 20]);
    for _ in 0..8 {
        encoder.write_all(&secrets).unwrap();
    }
    let outcome = read(&encoder.finish().unwrap()).unwrap();
    assert_eq!((outcome.frames.len(), outcome.damage), (0, None));
}
