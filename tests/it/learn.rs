//! `spanwatch learn`, and what a baseline changes.

use crate::command::{Folder, repository, spanwatch};

const CASE: &str = "captures/novel-peer";

const INVENTORY: &str = "captures/cluster.json";

#[test]
fn what_was_learned_is_normal_and_the_rest_is_told() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    let (learn, attack) = (format!("{CASE}/learn.pcap"), format!("{CASE}/attack.pcap"));
    let run = spanwatch(&[
        "learn",
        &learn,
        "--inventory",
        INVENTORY,
        "--baseline",
        &baseline,
    ]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    assert!(run.err.contains("workloads"), "{}", run.err);

    let novel = |capture: &str, baseline: Option<&str>| {
        let mut args = vec!["analyze", capture, "--inventory", INVENTORY];
        args.extend(baseline.iter().flat_map(|path| ["--baseline", path]));
        let run = spanwatch(&args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.json()
            .into_iter()
            .filter(|alert| alert["signature"] == "novel-peer")
            .collect::<Vec<_>>()
    };
    assert!(
        novel(&learn, Some(&baseline)).is_empty(),
        "what it learned from is no news"
    );
    let told = novel(&attack, Some(&baseline));
    assert!(!told.is_empty());
    assert_eq!(told[0]["baseline"]["state"], "learning");
    assert!(
        novel(&attack, None).is_empty(),
        "without a baseline nothing is novel"
    );
}

#[test]
fn learning_goes_on_where_it_stopped() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    let learn = |capture: &str| {
        let run = spanwatch(&[
            "learn",
            capture,
            "--inventory",
            INVENTORY,
            "--baseline",
            &baseline,
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
    };
    learn(&format!("{CASE}/learn.pcap"));
    learn(&format!("{CASE}/attack.pcap"));
    let run = spanwatch(&[
        "analyze",
        &format!("{CASE}/attack.pcap"),
        "--inventory",
        INVENTORY,
        "--baseline",
        &baseline,
    ]);
    assert!(
        run.json()
            .iter()
            .all(|alert| alert["signature"] != "novel-peer")
    );
}

#[test]
fn an_attack_in_the_learning_capture_is_neither_learned_nor_hidden() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    let (demo, inventory) = ("captures/demo/demo.pcap", "captures/demo/inventory.json");
    let attacks = ["dns-tunnel", "port-scan", "db-sweep"];
    let learn = || {
        let args = [
            "learn",
            demo,
            "--inventory",
            inventory,
            "--baseline",
            &baseline,
        ];
        let run = spanwatch(&args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        for id in attacks {
            assert!(
                run.err.contains(&format!("not learned because of {id} ")),
                "{id}: {}",
                run.err
            );
        }
    };
    let alerts = |args: &[&str]| {
        let run = spanwatch(&[&["analyze", demo, "--inventory", inventory], args].concat());
        let mut alerts = run.json();
        alerts.retain(|alert| attacks.iter().any(|id| alert["signature"] == *id));
        let of = |alert: &serde_json::Value| (alert["id"].clone(), alert["score_bits"].as_f64());
        alerts.iter().map(of).collect::<Vec<_>>()
    };
    let bare = alerts(&[]);
    assert!(bare.len() >= attacks.len());
    // However often the attack is shown.
    for _ in 0..3 {
        learn();
        let learned = alerts(&["--baseline", &baseline]);
        for (id, bits) in &bare {
            let again = learned.iter().find(|(known, _)| known == id);
            assert!(again.is_some_and(|(_, now)| now >= bits), "{id}: {bits:?}");
        }
    }
}

/// A baseline as the first format had it, learned from the same capture.
#[test]
fn a_baseline_of_the_first_format_is_read_and_goes_on() {
    let folder = Folder::new();
    let stored = repository("tests/it/data/baseline-1.redb.zst");
    let old = zstd::decode_all(std::fs::File::open(stored).unwrap()).unwrap();
    let baseline = folder.file("old.baseline", &old);
    let novel = |capture: &str| {
        let run = spanwatch(&[
            "analyze",
            capture,
            "--inventory",
            INVENTORY,
            "--baseline",
            &baseline,
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let alerts = run.json().into_iter();
        alerts
            .filter(|alert| alert["signature"] == "novel-peer")
            .count()
    };
    let (learn, attack) = (format!("{CASE}/learn.pcap"), format!("{CASE}/attack.pcap"));
    assert_eq!((novel(&learn), novel(&attack) > 0), (0, true));
    let run = spanwatch(&[
        "learn",
        &learn,
        "--inventory",
        INVENTORY,
        "--baseline",
        &baseline,
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!((novel(&learn), novel(&attack) > 0), (0, true));
}
