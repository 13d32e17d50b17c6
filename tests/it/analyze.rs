//! `spanwatch analyze` on the demonstration capture: results, forms, exit status.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::command::{Folder, Run, command, essence, repository, spanwatch, spanwatch_with_input};

const DEMO: &str = "captures/demo/demo.pcap";
const INVENTORY: &str = "captures/demo/inventory.json";

fn demo(more: &[&str]) -> Run {
    let mut args = vec!["analyze", DEMO, "--inventory", INVENTORY];
    args.extend(more);
    spanwatch(&args)
}

fn signatures(run: &Run) -> Vec<String> {
    let mut ids: Vec<String> = run
        .json()
        .iter()
        .map(|alert| alert["signature"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn the_attacks_are_found_and_the_pods_named() {
    let run = demo(&[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(signatures(&run), ["db-sweep", "dns-tunnel", "port-scan"]);
    for alert in run.json() {
        assert_eq!(alert["actor"]["identity"], "pod");
        assert!(
            alert["actor"]["workload"]
                .as_str()
                .unwrap()
                .contains("/Deployment/"),
            "{alert}"
        );
        assert_eq!(alert["attribution"]["confidence"], "exact");
        assert_eq!(alert["severity"], "high");
    }
}

#[test]
fn json_is_what_the_schema_says() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(repository("docs/alert.schema.json")).unwrap())
            .unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let alerts = demo(&[]).json();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let errors: Vec<String> = validator
            .iter_errors(&alert)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let evidence = alert["evidence"].as_array().unwrap();
        let mut families = std::collections::BTreeMap::<&str, f64>::new();
        for item in evidence {
            let best = families
                .entry(item["family"].as_str().unwrap())
                .or_default();
            *best = best.max(item["bits"].as_f64().unwrap());
        }
        let sum: f64 = families.values().sum();
        assert!(
            (sum - alert["score_bits"].as_f64().unwrap()).abs() < 0.05,
            "the sum can be checked: {alert}"
        );
    }
}

#[test]
fn the_same_bytes_give_the_same_output() {
    let (first, second) = (demo(&[]), demo(&[]));
    assert_eq!(first.out, second.out);
    assert_eq!(first.err, second.err);
}

#[test]
fn on_one_thread_or_two_the_output_is_the_same() {
    let folders = fs::read_dir(repository("captures")).unwrap();
    let mut captures = 0;
    for folder in folders.map(|entry| entry.unwrap().path()) {
        let files = fs::read_dir(&folder).into_iter().flatten();
        for file in files.map(|entry| entry.unwrap().path()) {
            if file.file_name().is_none_or(|name| name != "attack.pcap") {
                continue;
            }
            let out = Folder::new();
            let flows = out.path("flows.jsonl");
            let run = |threads: &str| {
                let run = spanwatch(&[
                    "analyze",
                    file.to_str().unwrap(),
                    "--threads",
                    threads,
                    "--flows",
                    &flows,
                ]);
                (run.code, run.out, run.err, fs::read(&flows).unwrap())
            };
            assert!(run("1") == run("2"), "{}", file.display());
            captures += 1;
        }
    }
    assert!(captures >= 41, "{captures}");
}

#[test]
fn a_year_later_the_alerts_are_the_same() {
    let mut capture = fs::read(repository(DEMO)).unwrap();
    let year = 365 * 86_400;
    let mut at = 24;
    while at < capture.len() {
        let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
        let (seconds, length) = (word(at) + year, word(at + 8) as usize);
        capture[at..at + 4].copy_from_slice(&seconds.to_le_bytes());
        at += 16 + length;
    }
    let folder = Folder::new();
    let later = folder.file("later.pcap", &capture);
    // Without times, the inventory holds for any year.
    let csv = repository("captures/cluster.csv");
    let run = |file: &str| spanwatch(&["analyze", file, "--inventory", csv.to_str().unwrap()]);
    let essences = |run: &Run| run.json().iter().map(essence).collect::<Vec<_>>();
    let (now, then) = (run(DEMO), run(&later));
    assert!(!now.json().is_empty());
    assert_eq!(essences(&now), essences(&then));
    assert_ne!(now.out, then.out);
}

#[test]
fn compressed_piped_and_split_input_gives_the_same_alerts() {
    let folder = Folder::new();
    let capture = fs::read(repository(DEMO)).unwrap();
    let whole = demo(&[]).out;
    let piped = spanwatch_with_input(&["analyze", "-", "--inventory", INVENTORY], &capture);
    assert_eq!(piped.out, whole);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &capture).unwrap();
    let gzip = folder.file("demo.pcap.gz", &gzip.finish().unwrap());
    assert_eq!(
        spanwatch(&["analyze", &gzip, "--inventory", INVENTORY]).out,
        whole
    );

    // Every other record in another file: merging by time puts them together again.
    let (mut even, mut odd) = (capture[..24].to_vec(), capture[..24].to_vec());
    let (mut at, mut turn) = (24, false);
    while at < capture.len() {
        let length = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        let file = if turn { &mut odd } else { &mut even };
        file.extend(&capture[at..at + 16 + length]);
        (at, turn) = (at + 16 + length, !turn);
    }
    let (even, odd) = (
        folder.file("even.pcap", &even),
        folder.file("odd.pcap", &odd),
    );
    let merged = spanwatch(&["analyze", &even, &odd, "--inventory", INVENTORY]);
    assert_eq!(
        signatures(&merged),
        signatures(&demo(&[])),
        "{}",
        merged.err
    );
}

#[test]
fn exit_status_follows_fail_on() {
    assert_eq!(demo(&["--fail-on", "high"]).code, Some(1));
    assert_eq!(demo(&["--fail-on", "critical"]).code, Some(0));
    assert_eq!(demo(&["--fail-on", "sometimes"]).code, Some(2));
    assert_eq!(spanwatch(&["analyze"]).code, Some(2));
}

#[test]
fn text_is_for_people_and_fits_a_terminal() {
    let run = demo(&["--format", "text"]);
    assert!(run.out.contains("Port scan"));
    for line in run.out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains('\u{1b}'), "no colour codes off a terminal");
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let run = demo(&["--format", "text"]);
    let alert = run
        .out
        .split("\n\n")
        .find(|alert| alert.contains("Port scan"))
        .unwrap();
    assert!(readme.contains(alert.trim_matches('\n')), "{alert}");
    assert!(readme.contains(run.err.trim_matches('\n')), "{}", run.err);
}

#[test]
fn the_summary_is_on_standard_error_and_can_be_silenced() {
    let run = demo(&[]);
    for word in ["read", "packets", "flows", "alerts"] {
        assert!(run.err.contains(word), "{}", run.err);
    }
    assert_eq!(demo(&["--quiet"]).err, "");
}

#[test]
fn a_filter_leaves_packets_out() {
    let run = demo(&["--filter", "udp port 53"]);
    assert_eq!(signatures(&run), ["dns-tunnel"]);
    let run = demo(&["--filter", "udp prot 53"]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.contains("udp prot 53"), "{}", run.err);
}

#[test]
fn the_flow_log_counts_every_packet() {
    let folder = Folder::new();
    let path = folder.path("flows.jsonl");
    let run = demo(&["--flows", &path, "--filter", "ip"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let log = fs::read_to_string(&path).unwrap();
    let packets: u64 = log
        .lines()
        .map(|line| {
            let flow: Value = serde_json::from_str(line).unwrap();
            assert_eq!(flow["schema"], "spanwatch.flow/1");
            assert!(flow["community_id"].as_str().unwrap().starts_with("1:"));
            let seen = ["packets", "copies"].map(|field| flow[field].as_array());
            let pairs = seen.into_iter().flatten().flatten();
            pairs.map(|n| n.as_u64().unwrap()).sum::<u64>()
        })
        .sum();
    let shown = run.err.replace(',', "");
    assert!(
        shown.contains(&format!("{packets} packets")),
        "{packets}: {}",
        run.err
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command(&["analyze", DEMO, "--inventory", INVENTORY])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut words = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut words)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{words}");
}
