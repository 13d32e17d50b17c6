//! Several files as one source.

use std::fs;

use tempfile::TempDir;

use super::super::{Filter, Merged};
use super::*;

/// A folder of pcap files, each with a frame at each of its seconds; the frame's byte is the file's number.
fn files(seconds: &[&[u32]]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (i, file) in seconds.iter().enumerate() {
        let mut bytes = pcap(Little, MICROS, ETHERNET);
        for &second in *file {
            bytes.extend(record(Little, second, 0, &[i as u8]));
        }
        let path = folder.path().join(format!("{i}.pcap"));
        fs::write(&path, bytes).unwrap();
        paths.push(path);
    }
    (folder, paths)
}

fn open(paths: &[PathBuf]) -> Merged {
    let (merged, errors) = Merged::open(paths, None)
        .map_err(|e| format!("{e:?}"))
        .unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    merged
}

/// Second and file of each frame.
fn order(source: &mut Merged) -> Vec<(i64, u8)> {
    drain(source)
        .iter()
        .map(|frame| {
            assert_eq!(frame.interface, u32::from(frame.data[0]) << 16);
            (frame.nanos / 1_000_000_000, frame.data[0])
        })
        .collect()
}

#[test]
fn frames_come_in_the_order_of_time_then_of_arguments() {
    let (_folder, paths) = files(&[&[1, 4, 9], &[2, 4, 4, 5], &[], &[4, 10]]);
    let seen = order(&mut open(&paths));
    let expected = [
        (1, 0),
        (2, 1),
        (4, 0),
        (4, 1),
        (4, 1),
        (4, 3),
        (5, 1),
        (9, 0),
        (10, 3),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn stamps_that_go_back_inside_a_file_stay_where_they_are() {
    let (_folder, paths) = files(&[&[5, 1, 6], &[2, 7]]);
    let seen = order(&mut open(&paths));
    assert_eq!(seen, [(2, 1), (5, 0), (1, 0), (6, 0), (7, 1)]);
}

#[test]
fn a_file_may_be_named_twice() {
    let (_folder, paths) = files(&[&[1, 2]]);
    let mut merged = open(&[paths.clone(), paths].concat());
    assert_eq!(drain(&mut merged).len(), 4);
    let progress = merged.progress();
    assert_eq!(Some(progress.read), progress.total);
}

#[test]
fn what_can_be_read_is_read_and_the_rest_is_told() {
    let (folder, mut paths) = files(&[&[1], &[2], &[3]]);
    fs::write(&paths[1], b"").unwrap();
    paths.push(folder.path().join("none"));
    let Ok((mut merged, errors)) = Merged::open(&paths, None) else {
        panic!("some can be read");
    };
    let seen: Vec<_> = drain(&mut merged).iter().map(|f| f.data[0]).collect();
    assert_eq!(seen, [0, 2]);
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].to_string().contains("1.pcap is empty"),
        "{}",
        errors[0]
    );

    let errors = Merged::open(&paths[3..], None).err().unwrap();
    assert_eq!(errors.len(), 1);
}

#[test]
fn damage_is_told_in_the_order_of_the_files() {
    let (_folder, paths) = files(&[&[9], &[1], &[5]]);
    for path in [&paths[0], &paths[2]] {
        let mut bytes = fs::read(path).unwrap();
        bytes.push(0);
        fs::write(path, bytes).unwrap();
    }
    let mut merged = open(&paths);
    assert_eq!(order(&mut merged).len(), 3);
    let damage = merged.damage();
    assert_eq!(damage.len(), 2);
    assert_eq!(damage[0].path, paths[0]);
    assert_eq!(damage[1].path, paths[2]);
}

#[test]
fn hundreds_of_files_are_merged_without_holding_them_open() {
    // Twice as many as are held open: half of them one after the other, half of them all at once.
    let seconds: Vec<[u32; 3]> = (0..600)
        .map(|i| {
            if i % 2 == 0 {
                [i, i, i + 1]
            } else {
                [i % 7, 300, 600]
            }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let mut expected = Vec::new();
    for (i, file) in seconds.iter().enumerate() {
        let mut bytes = pcap(Little, MICROS, ETHERNET);
        for &second in file {
            // Longer than the buffer of one of many.
            bytes.extend(record(Little, second, 0, &vec![i as u8; 40_000]));
            expected.push((i64::from(second), i));
        }
        if i % 3 == 0 {
            bytes = zstd::encode_all(&*bytes, 1).unwrap();
        }
        let path = folder.path().join(i.to_string());
        fs::write(&path, bytes).unwrap();
        paths.push(path);
    }
    expected.sort_unstable();

    let mut merged = open(&paths);
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(open_files < 300, "{open_files}");
    let mut seen = Vec::new();
    while let Some(frame) = merged.next_frame().unwrap() {
        let file = frame.interface as usize >> 16;
        assert_eq!(frame.data, vec![file as u8; 40_000]);
        seen.push((frame.time.nanos() / 1_000_000_000, file));
    }
    assert_eq!(seen, expected);
    assert_eq!(merged.damage(), []);
}

#[test]
fn a_file_that_vanishes_before_its_turn_is_damage() {
    let seconds: Vec<[u32; 1]> = (0..100).map(|i| [i]).collect();
    let seconds: Vec<&[u32]> = seconds.iter().map(|s| &s[..]).collect();
    let (_folder, paths) = files(&seconds);
    let mut merged = open(&paths);
    fs::remove_file(&paths[50]).unwrap();
    assert_eq!(order(&mut merged).len(), 99);
    let damage = merged.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].path, paths[50]);
    assert!(damage[0].problem.contains("can't be opened a second time"));
}

#[test]
fn the_filter_decides_over_all_files() {
    let (_folder, paths) = files(&[&[1, 3], &[2]]);
    let filter = Filter::new("ether[0] = 1").unwrap();
    let Ok((mut merged, _)) = Merged::open(&paths, Some(filter)) else {
        panic!("readable");
    };
    assert_eq!(order(&mut merged), [(2, 1)]);
}

#[test]
fn a_filter_that_a_file_can_not_have_is_told_before_reading() {
    let (folder, mut paths) = files(&[&[1]]);
    let raw = folder.path().join("raw");
    let bytes = [pcap(Little, MICROS, 101), record(Little, 1, 0, &[0x45; 20])].concat();
    fs::write(&raw, bytes).unwrap();
    paths.push(raw);
    let filter = Filter::new("ether host 02:00:00:00:00:01").unwrap();
    let Ok((_, errors)) = Merged::open(&paths, Some(filter)) else {
        panic!("one is readable");
    };
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().contains("to raw IP frames"),
        "{}",
        errors[0]
    );
}
