//! The packets of alerts, as files that others' tools read.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{Folder, repository, spanwatch};

/// Each packet of a file as tshark reads it: addresses and comment.
pub(crate) fn packets(file: &Path) -> Vec<(String, String, String)> {
    let output = Command::new("tshark")
        .args([
            "-n",
            "-T",
            "fields",
            "-e",
            "ip.src",
            "-e",
            "ip.dst",
            "-e",
            "frame.comment",
            "-r",
        ])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let fields = text.lines().map(|line| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        (next(), next(), next())
    });
    fields.collect()
}

#[test]
fn each_alert_has_a_file_with_the_packets_of_its_flows() {
    let folder = Folder::new();
    let directory = folder.path("evidence");
    let capture = repository("captures/port-scan/attack.pcap");
    let inventory = repository("captures/port-scan/inventory.jsonl");
    let run = spanwatch(&[
        "analyze",
        capture.to_str().unwrap(),
        "--inventory",
        inventory.to_str().unwrap(),
        "--format",
        "json",
        "--evidence",
        &directory,
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let alerts = run.json();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        let flows = alert["flows"].as_array().unwrap();
        let file = Path::new(&directory).join(format!("{}.pcapng", alert["id"].as_str().unwrap()));
        let packets = packets(&file);
        let expected: u64 = flows
            .iter()
            .flat_map(|flow| flow["packets"].as_array().unwrap())
            .map(|n| n.as_u64().unwrap())
            .sum();
        assert_eq!(packets.len() as u64, expected, "{alert}");
        for (src, dst, comment) in &packets {
            assert!(comment.contains(src) && comment.contains(dst), "{comment}");
            assert!(comment.contains(" → "), "{comment}");
        }
        if let Some(pod) = alert["actor"]["pod"].as_str() {
            assert!(packets.iter().all(|(_, _, comment)| comment.contains(pod)));
        }
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), alerts.len());
}

#[test]
fn what_can_not_be_read_twice_is_refused() {
    let folder = Folder::new();
    let run = spanwatch(&["analyze", "-", "--evidence", &folder.path("evidence")]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("standard input"), "{}", run.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_live_run_keeps_what_came_before_an_alert_and_shortly_after() {
    use crate::lab::Lab;
    use crate::live::{SOON, get, is, metric};
    let Some(lab) = Lab::new(&["nmap", "tshark"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let (cni, directory) = (lab.cni(), lab.path("evidence"));
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--evidence",
        &directory,
        "--listen",
        "127.0.0.1:9474",
    ];
    let mut agent = lab.spanwatch(&args);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    let file = Path::new(&directory).join(format!("{}.pcapng", alert["id"].as_str().unwrap()));
    let until = std::time::Instant::now() + SOON;
    while !file.exists() {
        assert!(std::time::Instant::now() < until, "no file");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Written under the rights that are left, and read by somebody else.
    let packets = packets(&file);
    assert!(
        packets.len() >= 2 * alert["flows"].as_array().unwrap().len(),
        "{packets:?}"
    );
    for (_, _, comment) in &packets {
        assert!(
            comment.starts_with(&format!("shop/{} (", worker.name)),
            "{comment}"
        );
        assert!(
            comment.contains(&format!("shop/{} (", web.name)),
            "{comment}"
        );
    }
    let page = get(&lab, "/metrics");
    assert!(metric(&page, "spanwatch_evidence_files_total{fate=\"written\"}") >= 1.0);
    let documented = fs::read_to_string(repository("docs/live.md")).unwrap();
    assert!(documented.contains("`spanwatch_evidence_files_total`"));
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
}
