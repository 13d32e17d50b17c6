//! `--exceptions`: what somebody has allowed is counted and not told.

use crate::command::{Folder, repository, spanwatch};

const ATTACK: &str = "captures/port-scan/attack.pcap";
const INVENTORY: &str = "captures/cluster.json";

/// Alerts by signature, and standard error.
fn analyze(exceptions: &str, more: &[&str]) -> (Vec<serde_json::Value>, String) {
    let folder = Folder::new();
    let file = folder.file("exceptions.toml", exceptions.as_bytes());
    let args = [
        "analyze",
        ATTACK,
        "--inventory",
        INVENTORY,
        "--exceptions",
        &file,
    ];
    let run = spanwatch(&[&args, more].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    (run.json(), run.err)
}

fn exception(expires: &str, limits: &str) -> String {
    format!(
        "[[exception]]\nreason = \"authorised scan\"\nowner = \"secops\"\nexpires = {expires}\n{limits}\n"
    )
}

#[test]
fn an_allowed_alert_is_counted_and_shown_on_request() {
    let allowed = exception("2099-01-01", "signatures = [\"port-scan\"]");
    let (alerts, told) = analyze(&allowed, &[]);
    assert!(alerts.iter().all(|alert| alert["signature"] != "port-scan"));
    let line = "× port-scan: authorised scan (exceptions.toml:1, secops)";
    assert!(told.contains(line), "{told}");
    let (alerts, _) = analyze(&allowed, &["--show-suppressed"]);
    let scan = alerts
        .iter()
        .find(|alert| alert["signature"] == "port-scan");
    assert_eq!(scan.unwrap()["suppressed"]["owner"], "secops");
}

#[test]
fn a_new_place_for_copies_is_allowed_and_no_other() {
    let folder = Folder::new();
    let allowed = exception(
        "2099-01-01",
        "signatures = [\"exfiltration\"]\nworkloads = [\"shop/Deployment/api\"]\npeers = [\"drop-box.example\"]",
    );
    let file = folder.file("exceptions.toml", allowed.as_bytes());
    let case = "captures/exfiltration";
    let run = spanwatch(&[
        "analyze",
        &format!("{case}/attack.pcap"),
        "--inventory",
        &format!("{case}/inventory.json"),
        "--exceptions",
        &file,
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let told: Vec<_> = run
        .json()
        .iter()
        .map(|alert| alert["actor"]["workload"].clone())
        .collect();
    assert_eq!(told, ["shop/Deployment/web"], "{}", run.err);
}

#[test]
fn an_exception_for_somebody_else_or_of_the_past_changes_nothing() {
    let bare = spanwatch(&["analyze", ATTACK, "--inventory", INVENTORY]).json();
    for limits in [
        exception("2099-01-01", "workloads = [\"nobody/*\"]"),
        exception("2001-01-01", "signatures = [\"*\"]"),
    ] {
        let (alerts, told) = analyze(&limits, &[]);
        assert_eq!(alerts, bare, "{limits}");
        assert_eq!(
            told.contains("exception expired"),
            limits.contains("2001"),
            "{told}"
        );
    }
}

#[test]
fn a_bad_file_is_refused_with_every_problem() {
    let folder = Folder::new();
    let file = folder.file("exceptions.toml", b"[[exception]]\nreason = \"x\"\n\n[[exception]]\nowner = 3\nsignatures = [\"prot-scan\"]\n");
    let run = spanwatch(&["analyze", ATTACK, "--exceptions", &file]);
    assert_eq!(run.code, Some(2));
    for part in [
        "exceptions.toml:1: `exception.owner` is missing",
        "exceptions.toml:1: `exception.expires` is missing",
        "silence everything",
        "exceptions.toml:4: `exception.reason` is missing",
        "exceptions.toml:5: `exception.owner` must be a string",
        "exceptions.toml:6: no signature is called \"prot-scan\"",
    ] {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
}

#[test]
fn the_documented_examples_are_accepted() {
    let page = std::fs::read_to_string(repository("docs/exceptions.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1);
    let examples: Vec<&str> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(examples.len() >= 2);
    for example in examples {
        analyze(example, &[]);
    }
}
