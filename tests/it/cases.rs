//! Every bundled case through the command: what must alert, what must not, and every word of what is said.
//!
//! `UPDATE_EXPECT=1` rewrites `captures/<id>/expected.jsonl`; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::Value;

use crate::command::{Folder, Run, repository, spanwatch};

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) learn: Option<Part>,
    pub(crate) attack: Part,
    pub(crate) benign: Option<Part>,
    #[serde(default)]
    pub(crate) expect: Vec<Expect>,
}

#[derive(Deserialize)]
pub(crate) struct Part {
    pub(crate) capture: String,
    pub(crate) inventory: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Expect {
    pub(crate) signature: String,
    category: String,
    pub(crate) actor_pod: String,
    workload: String,
    begins_secs: f64,
    max_seconds_to_raise: f64,
    targets_at_least: u64,
}

/// 2026-03-02T09:00:00Z, when every bundled capture begins.
const START: f64 = 1_772_442_000.0;

fn analyze(id: &str, part: &Part, baseline: Option<&str>, more: &[&str]) -> Run {
    let folder = format!("captures/{id}");
    let capture = format!("{folder}/{}", part.capture);
    let mut args = vec!["analyze".to_owned(), capture];
    for inventory in &part.inventory {
        args.extend(["--inventory".to_owned(), format!("{folder}/{inventory}")]);
    }
    if let Some(baseline) = baseline {
        args.extend(["--baseline".to_owned(), baseline.to_owned()]);
    }
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let run = spanwatch(&args);
    assert_eq!(run.code, Some(0), "{id}: {}", run.err);
    run
}

fn seconds(alert: &Value, field: &str) -> f64 {
    let text = alert["time"][field].as_str().unwrap();
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_nanosecond() as f64 / 1e9 - START
}

/// What an analyst adds up is the score: of each family the weightiest piece of evidence.
fn adds_up(alert: &Value) {
    let mut families: BTreeMap<&str, f64> = BTreeMap::new();
    for one in alert["evidence"].as_array().unwrap() {
        let family = one["family"].as_str().unwrap();
        let bits = one["bits"].as_f64().unwrap();
        let weightiest = families.entry(family).or_insert(bits);
        *weightiest = weightiest.max(bits);
    }
    let sum: f64 = families.values().sum();
    let score = alert["score_bits"].as_f64().unwrap();
    assert!(
        (sum - score).abs() < 0.05,
        "{sum} bits of evidence: {alert}"
    );
}

/// A case by its id.
pub(crate) fn case(id: &str) -> Case {
    let text = fs::read_to_string(repository(&format!("captures/{id}/case.toml"))).unwrap();
    toml::from_str(&text).unwrap()
}

fn check(id: &str) {
    let case = case(id);
    let folder = Folder::new();
    let baseline = case.learn.as_ref().map(|part| {
        let path = folder.path("learned.baseline");
        let capture = format!("captures/{id}/{}", part.capture);
        let inventory = format!("captures/{id}/{}", part.inventory[0]);
        let run = spanwatch(&[
            "learn",
            &capture,
            "--inventory",
            &inventory,
            "--baseline",
            &path,
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        path
    });
    let baseline = baseline.as_deref();

    let run = analyze(id, &case.attack, baseline, &[]);
    let alerts = run.json();
    alerts.iter().for_each(adds_up);
    for expect in &case.expect {
        let found = alerts.iter().find(|alert| {
            alert["signature"] == expect.signature.as_str()
                && alert["actor"]["pod"].as_str().unwrap_or_default() == expect.actor_pod
        });
        let Some(alert) = found else {
            panic!(
                "{id}: no {} by {} in\n{}",
                expect.signature, expect.actor_pod, run.out
            )
        };
        assert_eq!(alert["category"], expect.category.as_str());
        let workload = alert["actor"]["workload"].as_str();
        assert_eq!(workload.unwrap_or_default(), expect.workload);
        assert!(
            alert["target_count"].as_u64().unwrap() >= expect.targets_at_least,
            "{alert}"
        );
        let delay = seconds(alert, "raised") - expect.begins_secs;
        assert!(
            delay <= expect.max_seconds_to_raise,
            "{id}: raised after {delay} s"
        );
        assert!(
            seconds(alert, "first") >= expect.begins_secs - 1.0,
            "begins before the attack: {alert}"
        );
    }
    assert_eq!(
        alerts.len(),
        case.expect.len(),
        "{id}: one alert per attack, and nothing else\n{}",
        run.out
    );

    let expected = repository(&format!("captures/{id}/expected.jsonl"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&expected, &run.out).unwrap();
    }
    let stored = fs::read_to_string(&expected).unwrap();
    for (stored, told) in stored.lines().zip(run.out.lines()) {
        assert!(
            stored == told,
            "{id}: expected.jsonl has\n{stored}\nnow\n{told}"
        );
    }
    assert_eq!(
        stored.lines().count(),
        run.out.lines().count(),
        "{id}: expected.jsonl"
    );

    if let Some(benign) = &case.benign {
        let run = analyze(id, benign, baseline, &[]);
        assert_eq!(run.out, "", "{id}: the benign twin");
    }
}

/// The folders under `captures/` that hold a case.
pub(crate) fn cases() -> Vec<String> {
    let mut ids: Vec<String> = fs::read_dir(repository("captures"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("case.toml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    ids.sort();
    ids
}

#[test]
fn every_attack_alerts_and_its_twin_does_not() {
    let failed: Vec<String> = cases()
        .into_iter()
        .filter(|id| std::panic::catch_unwind(|| check(id)).is_err())
        .collect();
    assert!(failed.is_empty(), "failed, see above: {failed:?}");
}

#[test]
fn no_attack_no_alert_by_any_signature() {
    for id in cases() {
        let Some(benign) = case(&id).benign else {
            continue;
        };
        // Without an inventory too: addresses alone.
        let bare = Part {
            inventory: Vec::new(),
            ..benign
        };
        assert_eq!(analyze(&id, &bare, None, &[]).out, "", "{id}");
    }
}
