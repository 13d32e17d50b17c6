//! Alerts of one intrusion tied together, and those of others left alone.

use serde_json::Value;

use crate::command::{repository, spanwatch};

const CASE: &str = "captures/intrusion";

fn analyze(format: &str, more: &[&str]) -> crate::command::Run {
    let capture = format!("{CASE}/attack.pcap");
    let inventory = format!("{CASE}/inventory.json");
    let args = [
        "analyze",
        &capture,
        "--inventory",
        &inventory,
        "--format",
        format,
    ];
    spanwatch(&[&args[..], more].concat())
}

#[test]
fn an_intrusion_is_one_incident_with_its_stages_in_order() {
    let run = analyze("json", &[]);
    let alerts = run.json();
    let of = |signature: &str| -> &Value {
        alerts
            .iter()
            .find(|alert| alert["signature"] == signature)
            .unwrap()
    };
    let stages = [
        "db-sweep",
        "db-bruteforce",
        "credential-dump",
        "db-bulk-read",
        "exfiltration",
    ];
    let incident = &of("db-sweep")["incident"];
    let told: Vec<&str> = incident["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["signature"].as_str().unwrap())
        .collect();
    assert_eq!(told, stages);
    for signature in stages {
        assert_eq!(&of(signature)["incident"], incident, "{signature}");
    }
    let tactics: Vec<&str> = incident["tactics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tactic| tactic["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        tactics,
        [
            "Discovery",
            "Credential Access",
            "Collection",
            "Exfiltration"
        ]
    );
    assert_eq!(incident["severity"], "critical");
    // Another workload's tunnel meanwhile is another story.
    assert_eq!(of("dns-tunnel").get("incident"), None);
}

#[test]
fn people_read_it_as_a_timeline() {
    let run = analyze("text", &[]);
    let (alerts, incident) = run.out.rsplit_once("\n\n").unwrap();
    assert!(incident.starts_with("CRITICAL  Incident "), "{incident}");
    assert!(
        incident.contains("Discovery > Credential Access > Collection > Exfiltration"),
        "{incident}"
    );
    assert_eq!(incident.lines().count(), 3 + 5, "{incident}");
    let parts = alerts.lines().filter(|line| line.starts_with("  part of"));
    assert_eq!(parts.count(), 5, "{alerts}");
}

#[test]
fn its_severity_counts_for_the_exit_status() {
    assert_eq!(analyze("json", &["--fail-on", "critical"]).code, Some(1));
}

#[test]
fn alerts_of_different_workloads_are_not_tied() {
    for id in ["demo", "ssh-bruteforce", "registry-pull"] {
        let expected = repository(&format!("captures/{id}/expected.jsonl"));
        let text = std::fs::read_to_string(expected).unwrap();
        let alerts: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for alert in &alerts {
            let Some(stages) = alert["incident"]["stages"].as_array() else {
                continue;
            };
            for stage in stages {
                assert_eq!(stage["workload"], alert["actor"]["workload"], "{id}");
            }
        }
    }
}
