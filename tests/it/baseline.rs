//! The `baseline` command, and what befalls its file.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{Folder, command, spanwatch};

const LEARN: &str = "captures/novel-peer/learn.pcap";
const ATTACK: &str = "captures/novel-peer/attack.pcap";
const INVENTORY: &str = "captures/cluster.json";

/// What a command that succeeds writes.
fn run(args: &[&str]) -> String {
    let run = spanwatch(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    run.out
}

fn learn(baseline: &str) {
    run(&[
        "learn",
        LEARN,
        "--inventory",
        INVENTORY,
        "--baseline",
        baseline,
    ]);
}

fn export(baseline: &str) -> String {
    run(&["baseline", "export", "--baseline", baseline])
}

#[test]
fn a_baseline_is_shown_in_plain_words() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    learn(&baseline);
    let all = run(&["baseline", "show", "--baseline", &baseline]);
    assert!(
        all.contains("shop/Deployment/api: learning, watched for"),
        "{all}"
    );
    assert!(all.contains("waits for"), "{all}");
    let one = run(&[
        "baseline",
        "show",
        "shop/Deployment/api",
        "--baseline",
        &baseline,
    ]);
    for part in [
        "client.peers: learning",
        "5432/6",
        "flow.count_per_min",
        "a new one costs",
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let run = spanwatch(&["baseline", "show", "nobody", "--baseline", &baseline]);
    assert_eq!(run.code, Some(2));
}

#[test]
fn a_text_is_exported_edited_and_imported() {
    let folder = Folder::new();
    let (baseline, copy) = (folder.path("b.baseline"), folder.path("c.baseline"));
    learn(&baseline);
    let text = export(&baseline);
    let same = folder.file("same.toml", text.as_bytes());
    run(&["baseline", "import", &same, "--baseline", &copy]);
    assert_eq!(export(&copy), text);
    assert_eq!(run(&["baseline", "diff", &baseline, &copy]), "");

    let peer = "{ peer = \"domain:new.example\", port = 443 },";
    let at = text.find("name = \"shop/Deployment/api\"").unwrap();
    let edited = text[..at].to_owned()
        + &text[at..].replacen("peers = [", &format!("peers = [\n  {peer}"), 1);
    let edited = folder.file("edited.toml", edited.as_bytes());
    run(&["baseline", "import", &edited, "--baseline", &copy]);
    let told = run(&["baseline", "diff", &baseline, &copy]);
    assert_eq!(
        told,
        "+ shop/Deployment/api client peer domain:new.example 443/6\n"
    );

    let bad = folder.file(
        "bad.toml",
        b"format = \"spanwatch.baseline/1\"\n[[workload]]\nnmae = 1\n",
    );
    let run = spanwatch(&["baseline", "import", &bad, "--baseline", &copy]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("line 3"), "{}", run.err);
}

#[test]
fn baselines_are_merged_and_workloads_forgotten() {
    let folder = Folder::new();
    let [one, two, both] = ["1", "2", "3"].map(|name| folder.path(name));
    learn(&one);
    run(&[
        "learn",
        "captures/novel-peer/benign.pcap",
        "--inventory",
        "captures/novel-peer/inventory.jsonl",
        "--baseline",
        &two,
    ]);
    run(&["baseline", "merge", &one, &two, "-o", &both]);
    let shown = run(&["baseline", "show", "--baseline", &both]);
    assert!(shown.contains("shop/Deployment/api"), "{shown}");
    run(&[
        "baseline",
        "forget",
        "shop/Deployment/api",
        "--baseline",
        &both,
    ]);
    let shown = run(&["baseline", "show", "--baseline", &both]);
    assert!(!shown.contains("shop/Deployment/api"), "{shown}");
    let again = spanwatch(&[
        "baseline",
        "forget",
        "shop/Deployment/api",
        "--baseline",
        &both,
    ]);
    assert_eq!(again.code, Some(2));
}

#[test]
fn an_accepted_alert_is_normal_and_has_a_reason() {
    let folder = Folder::new();
    let (baseline, alerts) = (folder.path("b.baseline"), folder.path("alerts.jsonl"));
    learn(&baseline);
    let analyze = || {
        let args = [
            "analyze",
            ATTACK,
            "--inventory",
            INVENTORY,
            "--baseline",
            &baseline,
            "--format",
            "json",
        ];
        let run = spanwatch(&args);
        let mut told = run.json();
        told.retain(|alert| alert["signature"] == "novel-peer");
        std::fs::write(&alerts, run.out).unwrap();
        told
    };
    let told = analyze();
    let id = told[0]["id"].as_str().unwrap();
    run(&[
        "baseline",
        "accept",
        id,
        "--alerts",
        &alerts,
        "--reason",
        "new mirror",
        "--baseline",
        &baseline,
    ]);
    assert!(analyze().is_empty());
    let shown = run(&[
        "baseline",
        "show",
        "shop/Deployment/api",
        "--baseline",
        &baseline,
    ]);
    assert!(shown.contains("new mirror"), "{shown}");
    let unknown = spanwatch(&[
        "baseline",
        "accept",
        "ffff",
        "--alerts",
        &alerts,
        "--reason",
        "x",
        "--baseline",
        &baseline,
    ]);
    assert_eq!(unknown.code, Some(2));
}

/// Whatever is cut off a file or flipped in it, it is refused or read as it was; it never panics.
#[test]
fn a_damaged_store_is_refused_with_the_remedy() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    learn(&baseline);
    let (whole, text) = (std::fs::read(&baseline).unwrap(), export(&baseline));
    let mut refused = 0;
    for step in 0..24 {
        let mut damaged = whole.clone();
        if step % 2 == 0 {
            damaged.truncate(whole.len() * step / 24);
        } else {
            let at = whole.len() * step / 24;
            let end = whole.len().min(at + 3000);
            damaged[at..end].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let file = folder.file("damaged.baseline", &damaged);
        let run = spanwatch(&["baseline", "export", "--baseline", &file]);
        match run.code {
            Some(0) => assert!(run.out == text || step == 0, "step {step}: half-read"),
            Some(2) => {
                refused += 1;
                assert!(
                    run.err.contains("restore it from a copy"),
                    "step {step}: {}",
                    run.err
                );
            }
            code => panic!("step {step}: {code:?}: {}", run.err),
        }
    }
    assert!(refused > 8, "{refused}");
}

#[test]
fn a_learner_that_is_killed_leaves_the_old_state_or_the_new() {
    let folder = Folder::new();
    let baseline = folder.path("b.baseline");
    learn(&baseline);
    let before = export(&baseline);
    for delay in [5, 60, 200, 500, 900] {
        let mut child = command(&[
            "learn",
            ATTACK,
            "--inventory",
            INVENTORY,
            "--baseline",
            &baseline,
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        // It may be through already.
        child.kill().ok();
        child.wait().unwrap();
        let after = export(&baseline);
        if after != before {
            assert!(after.contains("shop/Deployment/api"));
            break;
        }
    }
}

/// A full disk, as a file system of our own in a mount namespace of its own.
#[test]
fn on_a_full_disk_the_old_state_stays_and_the_reason_is_told() {
    let folder = Folder::new();
    let [baseline, after, disk] = ["b.baseline", "after.baseline", "disk"].map(|n| folder.path(n));
    learn(&baseline);
    std::fs::create_dir(&disk).unwrap();
    let script = r#"
        mount -t tmpfs -o size=4m none "$2" || exit 77
        cp "$1" "$2/b.baseline"
        dd if=/dev/zero of="$2/filler" bs=4k 2>/dev/null
        "$4" learn "$5" --inventory "$6" --baseline "$2/b.baseline"
        code=$?
        cp "$2/b.baseline" "$3"
        exit $code"#;
    let own = env!("CARGO_BIN_EXE_spanwatch");
    let run = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&baseline, &disk, &after, own, ATTACK, INVENTORY])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&run.stderr);
    if run.status.code() == Some(77) || err.contains("unshare failed") {
        eprintln!("SKIPPED: only root can mount a disk to fill: {err}");
        return;
    }
    assert_eq!(run.status.code(), Some(2), "{err}");
    for part in ["disk/b.baseline", "unharmed", "No space left"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(export(&after), export(&baseline));
}
