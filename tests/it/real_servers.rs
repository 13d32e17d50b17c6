//! Real servers and clients, recorded in network namespaces of their own: right and wrong logins, looks around, copies,
//! pushes, pulls and uploads are what they are.
//!
//! Left out, loudly, where the programs or the rights are missing; `.ci/run` installs what it can.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::command::{Folder, repository, spanwatch};

/// Says something past the test runner, which keeps what is printed to itself.
fn say(text: &str) {
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .unwrap();
}

/// Whether a test is left out, which it says.
fn left_out(script: &str) -> bool {
    let check = Command::new(repository(script)).arg("--check").output();
    let missing = String::from_utf8(check.unwrap().stdout).unwrap();
    if missing.trim().is_empty() {
        return false;
    }
    say(&format!("LEFT OUT: {script} needs {}", missing.trim()));
    true
}

/// What a script recorded: the capture, who is who, and when the bad part began.
struct Recorded {
    folder: Folder,
    capture: String,
    inventory: String,
}

impl Recorded {
    fn new(script: &str) -> Self {
        Self::with(script, &[])
    }

    fn with(script: &str, more: &[&str]) -> Self {
        let folder = Folder::new();
        let path = folder.path("");
        let run = Command::new(repository(script))
            .arg(&path)
            .args(more)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{script}: {told}");
        Self {
            capture: folder.path("capture.pcap"),
            inventory: folder.path("inventory.csv"),
            folder,
        }
    }

    fn alerts(&self) -> Vec<Value> {
        let args = [
            "analyze",
            &self.capture,
            "--inventory",
            &self.inventory,
            "--format",
            "json",
        ];
        let run = spanwatch(&args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.json()
    }

    /// What the run that watched live told, in that order: an alert again whenever it grew.
    fn live_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path("live/alerts.jsonl")).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The alerts of that run, each as it was last told.
    fn live_alerts(&self) -> Vec<Value> {
        let mut last = BTreeMap::new();
        for alert in self.live_lines() {
            last.insert(alert["id"].as_str().unwrap().to_owned(), alert);
        }
        last.into_values().collect()
    }

    /// When that run first told of guessing at a product, by the latest that it knew of it then, in seconds: whoever guesses at
    /// several makes one alert, which grows.
    fn told_live(&self, product: &str) -> f64 {
        let lines = self.live_lines();
        let mut of_it = lines.iter().filter(|alert| {
            let mut targets = alert["targets"].as_array().unwrap().iter();
            alert["signature"] == "db-bruteforce"
                && targets.any(|target| target["protocol"] == product)
        });
        seconds(&of_it.next().unwrap()["time"]["last"])
    }

    /// Everything that the run that watched live said and kept, by name.
    fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.folder.path("live")).unwrap();
        files
            .map(|file| {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(path).unwrap())
            })
            .collect()
    }

    /// What was learned of it, as text.
    fn learned(&self, filter: &str) -> String {
        let baseline = self.folder.path("learned.baseline");
        let args = [
            "learn",
            &self.capture,
            "--inventory",
            &self.inventory,
            "-f",
            filter,
            "--baseline",
            &baseline,
        ];
        let run = spanwatch(&args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        spanwatch(&["baseline", "export", "--baseline", &baseline]).out
    }

    /// When the bad part began, in seconds.
    fn began(&self, mark: &str) -> f64 {
        let text = fs::read_to_string(self.folder.path(mark)).unwrap();
        text.trim().parse().unwrap()
    }
}

fn seconds(time: &Value) -> f64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_nanosecond() as f64 / 1e9
}

/// Alerts as `signature by workload`, with what they name as targets.
fn told(alerts: &[Value]) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let products = |alert: &Value| {
        let targets = alert["targets"].as_array().unwrap().iter();
        targets.map(|target| text(&target["protocol"])).collect()
    };
    alerts
        .iter()
        .map(|alert| {
            let workload = text(&alert["actor"]["workload"]);
            (
                format!("{} by {workload}", text(&alert["signature"])),
                products(alert),
            )
        })
        .collect()
}

/// Whoever did something is named with what he did it to, and nobody else is.
fn judge(how: &str, alerts: &[Value]) {
    let told = told(alerts);
    let against = |what: &str| -> Vec<&str> {
        let found = told.iter().filter(|(alert, _)| alert == what);
        let mut products: Vec<&str> = found
            .flat_map(|(_, products)| products.iter().map(String::as_str))
            .collect();
        products.sort_unstable();
        products.dedup();
        products
    };
    let (guess, web) = ("prod/Deployment/guess", "prod/Deployment/web");
    let all = ["memcached", "mysql", "postgresql", "redis"];
    let guessed = against(&format!("db-bruteforce by {guess}"));
    assert_eq!(guessed, all, "{how}: {told:?}");
    let looked = against(&format!("db-enumeration by {web}"));
    for product in ["mysql", "postgresql"] {
        assert!(looked.contains(&product), "{how}: {product}: {told:?}");
    }
    let hashes = against(&format!("credential-dump by {web}"));
    assert_eq!(hashes, ["mysql", "postgresql", "redis"], "{how}: {told:?}");
    let taken = against(&format!("db-bulk-read by {web}"));
    assert_eq!(taken, all, "{how}: {told:?}");
    // Who may, is let alone: the application and the nightly copy.
    let others = told.iter().filter(|(alert, _)| {
        let by = alert.rsplit_once(" by ").map(|(_, by)| by);
        by != Some(guess) && by != Some(web)
    });
    assert_eq!(others.count(), 0, "{how}: {told:?}");
}

/// No password, row or value is in anything that a run said or kept.
fn silent(recorded: &Recorded) {
    let kept = recorded.kept();
    for name in [
        "alerts.jsonl",
        "baseline",
        "flows.jsonl",
        "log",
        "metrics",
        "said",
        "spool",
        "state",
    ] {
        assert!(kept.contains_key(name), "no {name}: {:?}", kept.keys());
    }
    for (name, bytes) in &kept {
        for secret in ["right-one", "wrong-", "planted-"] {
            let found = bytes
                .windows(secret.len())
                .any(|piece| piece == secret.as_bytes());
            assert!(!found, "{secret} in {name}");
        }
    }
    let learned = kept["baseline"].windows(10);
    let learned = learned.filter(|piece| piece == b"postgresql").count();
    assert!(learned > 0 && !kept["state"].is_empty());
    let page = String::from_utf8_lossy(&kept["metrics"]);
    assert!(page.contains("spanwatch_packets_total"), "{page}");
}

#[test]
fn database_servers_of_debian() {
    const SCRIPT: &str = "scripts/real-servers";
    if left_out(SCRIPT) {
        return;
    }
    let recorded = Recorded::with(SCRIPT, &[env!("CARGO_BIN_EXE_spanwatch")]);
    let (live, read) = (recorded.live_alerts(), recorded.alerts());
    for (how, alerts) in [("live", &live), ("from the file", &read)] {
        judge(how, alerts);
    }
    for product in ["postgresql", "mysql", "redis", "memcached"] {
        let delay = recorded.told_live(product) - recorded.began(&format!("guessing-{product}"));
        say(&format!(
            "guessing at {product} told live after {delay:.1} s"
        ));
        assert!((0.0..30.0).contains(&delay), "{product}: {delay} s");
    }
    silent(&recorded);

    // What the servers themselves said, in the words of the baseline: of the application alone.
    let words = recorded.learned("host 10.244.9.12");
    for word in [
        "postgresql read",
        "postgresql write",
        "mysql read",
        "mysql write",
        "redis read",
        "redis write",
        "memcached read",
        "memcached write",
        "memcached app",
        "postgresql app",
        "postgresql older",
        "mysql app",
    ] {
        assert!(words.contains(word), "no {word} in\n{words}");
    }
    assert!(!words.contains("right-one"), "a password in\n{words}");
    let words = recorded.learned("host 10.244.9.40");
    assert!(words.contains("pg_dump"), "{words}");
}

/// How long after its beginning an intrusion was told of, in seconds; says so, too.
fn delay(alert: &Value, recorded: &Recorded) -> f64 {
    let delay = seconds(&alert["time"]["raised"]) - recorded.began("intrusion");
    let (signature, by) = (&alert["signature"], &alert["actor"]["workload"]);
    say(&format!("{signature} by {by} found after {delay:.1} s"));
    delay
}

#[test]
fn an_image_registry_of_debian() {
    const SCRIPT: &str = "scripts/real-registry";
    if left_out(SCRIPT) {
        return;
    }
    let recorded = Recorded::new(SCRIPT);
    let alerts = recorded.alerts();
    let mut told: Vec<String> = told(&alerts).into_iter().map(|(alert, _)| alert).collect();
    told.sort_unstable();
    // In clear, and over TLS.
    let (web, api) = ("prod/Deployment/web", "prod/Deployment/api");
    assert_eq!(
        told,
        [
            format!("registry-pull by {api}"),
            format!("registry-pull by {web}"),
            format!("registry-push by {api}"),
            format!("registry-push by {web}"),
        ]
    );
    for alert in &alerts {
        let delay = delay(alert, &recorded);
        assert!(delay < 30.0, "{delay} s");
    }
    let words = recorded.learned("host 10.244.9.50");
    for word in ["prod/shop", "ci/tools"] {
        assert!(words.contains(word), "no {word} in\n{words}");
    }
}

#[test]
fn uploads_by_programs_of_debian() {
    const SCRIPT: &str = "scripts/real-uploads";
    if left_out(SCRIPT) {
        return;
    }
    let recorded = Recorded::new(SCRIPT);
    let alerts = recorded.alerts();
    let mut told: Vec<String> = told(&alerts).into_iter().map(|(alert, _)| alert).collect();
    told.sort_unstable();
    // Whoever sends as much by right is let alone: the backup's job, the agents that ship logs and measurements, the builders.
    let by = [
        "active", "copy", "drip", "form", "passive", "raw", "secret", "sync", "trivial",
    ];
    let mut expected = by
        .map(|by| format!("exfiltration by prod/Deployment/{by}"))
        .to_vec();
    expected.push("exfiltration by prod/Job/born".to_owned());
    assert_eq!(told, expected, "{alerts:#?}");
    for alert in &alerts {
        delay(alert, &recorded);
    }
}
