//! Files that are damaged, and requests that can't be met: one clear message, and nothing lost that could be had.

use std::fs;

use crate::command::{Folder, repository, spanwatch};

const DEMO: &str = "captures/demo/demo.pcap";

#[test]
fn what_can_not_be_read_is_said_once_with_its_name() {
    let folder = Folder::new();
    let cases = [
        (folder.file("empty.pcap", b""), "empty"),
        (
            folder.file("letter.pcap", b"Dear Sir or Madam, I write to you"),
            "not a capture",
        ),
        (folder.path("absent.pcap"), "No such file"),
        (
            folder.file("header.pcap", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0]),
            "byte",
        ),
    ];
    for (path, word) in &cases {
        let run = spanwatch(&["analyze", path]);
        assert_eq!(
            (run.code, run.out.as_str()),
            (Some(2), ""),
            "{path}: {}",
            run.err
        );
        assert!(
            run.err.contains(path.as_str()) && run.err.contains(word),
            "{}",
            run.err
        );
        assert_eq!(
            run.err
                .lines()
                .filter(|line| line.contains(path.as_str()))
                .count(),
            1,
            "{}",
            run.err
        );
    }
}

#[test]
fn a_mistake_costs_no_earlier_results() {
    let folder = Folder::new();
    let kept = folder.file("alerts.jsonl", b"{}\n");
    let run = spanwatch(&["analyze", "absent.pcap", "-o", &kept]);
    assert_eq!(run.code, Some(2));
    assert_eq!(fs::read(&kept).unwrap(), b"{}\n");

    let copy = folder.file("demo.pcap", &fs::read(repository(DEMO)).unwrap());
    let run = spanwatch(&["analyze", &copy, "-o", &copy]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert_eq!(
        fs::read(&copy).unwrap(),
        fs::read(repository(DEMO)).unwrap()
    );

    let baseline = folder.path("b.baseline");
    let run = spanwatch(&["learn", "absent.pcap", "--baseline", &baseline]);
    assert_eq!(run.code, Some(2));
    assert!(
        fs::metadata(&baseline).is_err(),
        "no empty baseline is left behind"
    );
}

#[test]
fn a_capture_cut_in_a_record_is_read_to_its_last_whole_one() {
    let folder = Folder::new();
    let capture = fs::read(repository(DEMO)).unwrap();
    let cut = folder.file("cut.pcap", &capture[..capture.len() - 5]);
    let run = spanwatch(&["analyze", &cut]);
    assert_eq!(run.code, Some(0), "a warning, no failure");
    assert!(!run.out.is_empty());
    assert!(
        run.err.contains(&cut) && run.err.contains("byte"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("ended inside a record"),
        "counted in the summary: {}",
        run.err
    );
}

#[test]
fn one_bad_file_among_good_ones_spoils_only_the_exit_status() {
    let folder = Folder::new();
    let empty = folder.file("empty.pcap", b"");
    let run = spanwatch(&["analyze", &empty, DEMO]);
    assert_eq!(run.code, Some(2));
    assert!(!run.out.is_empty(), "the good one was analyzed");
    assert!(run.err.contains(&empty), "{}", run.err);
}

#[test]
fn a_record_of_absurd_length_ends_the_file_not_the_program() {
    let folder = Folder::new();
    let mut capture = fs::read(repository(DEMO)).unwrap();
    let first = 24 + 16 + u32::from_le_bytes(capture[32..36].try_into().unwrap()) as usize;
    capture[first + 8..first + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let path = folder.file("absurd.pcap", &capture);
    let run = spanwatch(&["analyze", &path]);
    assert_eq!(run.code, Some(0));
    assert!(run.err.contains(&format!("byte {first}")), "{}", run.err);
    assert!(run.err.contains("1 packet"), "{}", run.err);
}

#[test]
fn an_inventory_that_says_nothing_is_an_error() {
    let folder = Folder::new();
    let path = folder.file("pods.json", b"{\"kind\":\"List\",\"items\":[]}");
    let run = spanwatch(&["analyze", DEMO, "--inventory", &path]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.contains(&path), "{}", run.err);
}

#[test]
fn a_missing_or_foreign_baseline_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let absent = folder.path("absent.baseline");
    let foreign = folder.file("foreign.baseline", &[7; 9000]);
    for path in [absent, foreign] {
        let run = spanwatch(&["analyze", DEMO, "--baseline", &path]);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{}", run.err);
        assert!(
            run.err.contains(&path) && run.err.contains("learn"),
            "{}",
            run.err
        );
    }
}

#[test]
fn a_bad_signature_is_refused_with_its_line() {
    let folder = Folder::new();
    let dir = folder.path("");
    folder.file("port-scan.toml", b"[thresholds]\nmin_ports = \"few\"\n");
    let run = spanwatch(&["analyze", DEMO, "--signatures", &dir]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.contains("port-scan.toml:2"), "{}", run.err);
}
