//! `spanwatch signatures`.

use spanwatch::detectors::DETECTORS;

use crate::command::{Folder, repository, spanwatch};

#[test]
fn every_signature_holds_against_its_captures() {
    let captures = repository("captures");
    let run = spanwatch(&[
        "signatures",
        "test",
        "--captures",
        captures.to_str().unwrap(),
    ]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let all = format!("{} passed, 0 failed\n", DETECTORS.len());
    assert!(run.out.ends_with(&all), "{}", run.out);
}

#[test]
fn the_list_and_a_page() {
    let list = spanwatch(&["signatures", "list"]).out;
    let first: Vec<&str> = list
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let known: Vec<&str> = DETECTORS.iter().map(|spec| spec.id).collect();
    assert_eq!(first, known);
    let row = |list: &str, id: &str| -> Vec<String> {
        let line = list
            .lines()
            .find(|line| line.starts_with(&format!("{id} ")));
        let words = line.unwrap().split_whitespace();
        words.map(str::to_owned).collect()
    };
    let told = row(&list, "registry-push");
    assert_eq!(
        told[..6],
        [
            "registry-push",
            "implant",
            "critical",
            "preview",
            "T1525",
            "pod-side"
        ]
    );
    for (tap, id, sight) in [
        ("bridge", "registry-push", "sees"),
        ("bridge", "port-forward", "blind:uplink"),
        ("uplink", "port-forward", "sees"),
        ("uplink", "registry-push", "blind:pod-side"),
        ("mesh", "db-injection", "blind:plaintext"),
        ("one-way", "relay-pivot", "blind:pod-side,both-directions"),
    ] {
        let list = spanwatch(&["signatures", "list", "--tap", tap]).out;
        assert_eq!(row(&list, id)[4], sight, "{tap} {id}");
    }
    let page = spanwatch(&["signatures", "show", "dns-tunnel"]).out;
    for section in ["GOAL", "BLIND SPOTS", "FALSE POSITIVES", "RESPONSE"] {
        assert!(page.contains(section), "{section} in\n{page}");
    }
    let unknown = spanwatch(&["signatures", "show", "dns-tunel"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("dns-tunnel"), "{}", unknown.err);
}

#[test]
fn check_tells_every_problem_with_its_line() {
    let good = repository("signatures/dns-tunnel.toml");
    let run = spanwatch(&["signatures", "check", good.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let folder = Folder::new();
    let bad = folder.file(
        "mine.toml",
        b"id = \"other\"\ncategory = \"nonsense\"\nseverity = 3\n",
    );
    let run = spanwatch(&["signatures", "check", &bad]);
    assert_eq!(run.code, Some(2));
    for line in ["mine.toml:1", "mine.toml:2", "mine.toml:3"] {
        assert!(run.err.contains(line), "{}", run.err);
    }
}
