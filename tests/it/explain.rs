//! `analyze --explain`: why something alerted, or didn't.

use serde_json::Value;
use spanwatch::report::ExplanationV1;

use crate::command::{Folder, spanwatch};

const INVENTORY: &str = "captures/cluster.json";
const ATTACK: &str = "captures/novel-peer/attack.pcap";

fn learned(folder: &Folder) -> String {
    let baseline = folder.path("b.baseline");
    let learn = "captures/novel-peer/learn.pcap";
    let args = [
        "learn",
        learn,
        "--inventory",
        INVENTORY,
        "--baseline",
        &baseline,
    ];
    assert_eq!(spanwatch(&args).code, Some(0));
    baseline
}

fn analyze(capture: &str, more: &[&str]) -> String {
    let run = spanwatch(&[&["analyze", capture, "--inventory", INVENTORY], more].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out
}

fn explained(capture: &str, asked: &str, more: &[&str]) -> Value {
    let out = analyze(capture, &[&["--explain", asked], more].concat());
    let explanation: ExplanationV1 = serde_json::from_str(&out).unwrap();
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(serde_json::to_value(&explanation).unwrap(), value);
    assert_eq!(value["asked"], asked);
    value
}

fn of<'a>(explanation: &'a Value, signature: &str) -> &'a Value {
    let mut all = explanation["signatures"].as_array().unwrap().iter();
    all.find(|one| one["signature"] == signature).unwrap()
}

#[test]
fn what_alerted_is_explained_by_the_bits_it_alerted_with() {
    let folder = Folder::new();
    let baseline = learned(&folder);
    let with = ["--baseline", baseline.as_str()];
    let out = analyze(ATTACK, &with);
    let mut alerts = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let alert = alerts
        .find(|alert| alert["signature"] == "novel-peer")
        .unwrap();
    let id = alert["id"].as_str().unwrap();
    for asked in [
        "shop/api,update-mirror.example",
        "cdn.update-mirror.example",
        id,
    ] {
        let told = explained(ATTACK, asked, &with);
        let one = of(&told, "novel-peer");
        assert_eq!(one["outcome"], "alert", "{asked}: {one}");
        assert_eq!(one["weighed"]["alert"], id);
        assert_eq!(one["weighed"]["bits"], alert["score_bits"]);
        let evidence = one["weighed"]["evidence"].as_array().unwrap().iter();
        let sum: f64 = evidence.map(|one| one["bits"].as_f64().unwrap()).sum();
        assert!((sum - alert["score_bits"].as_f64().unwrap()).abs() < 0.11);
        let conversation = told["conversations"].as_array().unwrap().iter();
        let mut conversation =
            conversation.filter(|one| one["peer"] == "domain:update-mirror.example");
        let known = &conversation.next().unwrap()["known"];
        assert_eq!(known["new"], true);
        assert_eq!(known["state"], "learning");
        assert!(known["missing"].as_str().unwrap().contains("contacts"));
    }
    // The one conversation is told of, and not the workload's others.
    let told = explained(ATTACK, "shop/api,update-mirror.example", &with);
    assert_eq!(told["conversations"].as_array().unwrap().len(), 1);
}

/// A backup job's first upload, and a client's new peer where there is no baseline.
#[test]
fn what_is_new_and_did_not_alert_lacks_bits_or_something_else_and_says_what() {
    let folder = Folder::new();
    let baseline = learned(&folder);
    let capture = "captures/exfiltration/benign.pcap";
    let asked = "ops/pg-backup*,storage.example";
    let told = explained(capture, asked, &["--baseline", &baseline]);
    let known = &told["conversations"][0]["known"];
    assert_eq!(known["new"], true, "{told}");
    assert!(known["bits"].as_f64().unwrap() < 1.0);
    let novel = of(&told, "novel-peer");
    assert_eq!(novel["outcome"], "short");
    let (bits, bar) = (&novel["weighed"]["bits"], &novel["alert_bits"]);
    let short = bar.as_f64().unwrap() - bits.as_f64().unwrap();
    assert!((novel["weighed"]["short_by"].as_f64().unwrap() - short).abs() < 0.06);
    let remarks = |of: &Value| of["remarks"].to_string();
    assert!(remarks(novel).contains("of 30 contacts, too little to call anything new"));
    let upload = of(&told, "exfiltration");
    assert_eq!(upload["outcome"], "nothing");
    assert!(upload["looked"].as_u64().unwrap() > 0);
    assert!(remarks(upload).contains("bits of surprise"), "{upload}");
    let icmp = of(&told, "icmp-tunnel");
    assert_eq!(icmp["outcome"], "not-shown");
    assert_eq!(icmp["needs"][0], "echoed bytes");

    let bare = explained(ATTACK, "shop/api,update-mirror.example", &[]);
    assert_eq!(bare["conversations"][0]["baseline"], "none");
    assert_eq!(of(&bare, "novel-peer")["outcome"], "nothing");
}

#[test]
fn what_somebody_has_allowed_is_told_with_the_reason() {
    let folder = Folder::new();
    let exceptions = folder.file(
        "exceptions.toml",
        b"[[exception]]\nreason = \"authorised scan\"\nowner = \"secops\"\nexpires = 2099-01-01\nsignatures = [\"port-scan\"]\n",
    );
    let capture = "captures/port-scan/attack.pcap";
    let asked = "*";
    let told = explained(capture, asked, &["--exceptions", &exceptions]);
    let scan = of(&told, "port-scan");
    assert_eq!(scan["outcome"], "allowed");
    let why = scan["weighed"]["allowed"].as_str().unwrap();
    assert!(
        why.contains("authorised scan (exceptions.toml:1, secops)"),
        "{why}"
    );
}

#[test]
fn an_explanation_is_for_people() {
    let folder = Folder::new();
    let baseline = learned(&folder);
    let args = ["--baseline", &baseline, "--format", "text"];
    let asked = ["--explain", "shop/api,update-mirror.example"];
    insta::assert_snapshot!(analyze(ATTACK, &[&asked[..], &args].concat()));
    let nobody = ["--explain", "shop/nobody"];
    let text = analyze(ATTACK, &[&nobody[..], &args].concat());
    assert_eq!(text, "shop/nobody\n  nothing like it in the captures\n");
}

#[test]
fn what_asks_for_nothing_is_refused() {
    let run = spanwatch(&["analyze", ATTACK, "--explain", "a,b,c"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("more than two ends"), "{}", run.err);
}
