//! Real servers and clients, recorded in network namespaces of their own: right and wrong logins, looks around, copies,
//! pushes, pulls and uploads are what they are.
//!
//! Left out, loudly, where the programs or the rights are missing; `.ci/run` installs what it can.

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
        let folder = Folder::new();
        let path = folder.path("");
        let run = Command::new(repository(script))
            .arg(&path)
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

fn raised(alert: &Value) -> f64 {
    let time: jiff::Timestamp = alert["time"]["raised"].as_str().unwrap().parse().unwrap();
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

#[test]
fn database_servers_of_debian() {
    const SCRIPT: &str = "scripts/real-servers";
    if left_out(SCRIPT) {
        return;
    }
    let recorded = Recorded::new(SCRIPT);
    let alerts = recorded.alerts();
    let told = told(&alerts);
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
    let guessed = against(&format!("db-bruteforce by {guess}"));
    for product in ["mysql", "postgresql", "redis"] {
        assert!(guessed.contains(&product), "{product}: {told:?}");
    }
    let looked = against(&format!("db-enumeration by {web}"));
    assert!(
        looked.contains(&"postgresql") && looked.contains(&"mysql"),
        "{told:?}"
    );
    let hashes = against(&format!("credential-dump by {web}"));
    assert_eq!(hashes, ["mysql", "postgresql", "redis"], "{told:?}");
    let taken = against(&format!("db-bulk-read by {web}"));
    for product in ["mysql", "postgresql", "redis"] {
        assert!(taken.contains(&product), "{product}: {told:?}");
    }
    // Who may, is let alone: the application and the nightly copy.
    let others = told.iter().filter(|(alert, _)| {
        let by = alert.rsplit_once(" by ").map(|(_, by)| by);
        by != Some(guess) && by != Some(web)
    });
    assert_eq!(others.count(), 0, "{told:?}");

    let first = alerts
        .iter()
        .filter(|alert| alert["signature"] == "db-bruteforce")
        .map(|alert| raised(alert) - recorded.began("guessing"))
        .fold(f64::MAX, f64::min);
    say(&format!("guessing found after {first:.1} s"));
    assert!(first < 30.0, "{first} s");

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
        let delay = raised(alert) - recorded.began("intrusion");
        say(&format!("{} found after {delay:.1} s", alert["signature"]));
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
    // Whoever sends as much by right is let alone: the backup's job, the agent that ships logs, the builder.
    let by = [
        "active", "copy", "drip", "form", "passive", "raw", "secret", "sync", "trivial",
    ];
    assert_eq!(
        told,
        by.map(|by| format!("exfiltration by prod/Deployment/{by}")),
        "{alerts:#?}"
    );
    for alert in &alerts {
        let delay = raised(alert) - recorded.began("intrusion");
        say(&format!(
            "{} found after {delay:.1} s",
            alert["actor"]["workload"]
        ));
    }
}
