//! How soon each attack of the bundled cases is told, in packet time and in what the attacker had done by then.
//!
//! `cargo test --test it time_to_detect -- --nocapture` prints the table. What had happened by the moment of the alert is
//! read off a run over the capture cut there.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::time::Timestamp;

use crate::cases::{case, cases};
use crate::command::{Folder, repository, spanwatch};

/// How soon a signature must speak: `secs` after the behaviour began, or by the time of so many of a thing.
struct Bound {
    signature: &'static str,
    secs: f64,
    most: f64,
    /// What is counted, as `evidence` has it: a feature's number, or the number that its text begins with.
    feature: &'static str,
    unit: &'static str,
}

const fn bound(
    signature: &'static str,
    secs: f64,
    most: f64,
    feature: &'static str,
    unit: &'static str,
) -> Bound {
    Bound {
        signature,
        secs,
        most,
        feature,
        unit,
    }
}

/// Never by seconds: only what was counted matters.
const COUNT: f64 = 0.0;
/// Never by count.
const TIME: f64 = 0.0;

/// Twelve periods lie between thirteen contacts. Fast guessing has half a minute, slow guessing 15 failures; fast scans
/// have ten seconds, slow ones 20 contacts.
const BOUNDS: &[Bound] = &[
    bound("dns-tunnel", 60.0, TIME, "dns.subdomain_bits", "names"),
    bound("dns-beacon", COUNT, 13.0, "dns.regularity", "questions"),
    bound("beacon", COUNT, 13.0, "contact.regularity", "contacts"),
    bound("icmp-tunnel", 60.0, TIME, "", ""),
    bound("http-tunnel", 60.0, TIME, "", ""),
    bound("websocket-tunnel", 60.0, TIME, "", ""),
    bound("ssh-tunnel", 60.0, TIME, "", ""),
    bound("reverse-shell", 30.0, TIME, "", ""),
    bound(
        "db-bruteforce",
        30.0,
        15.0,
        "login.refused",
        "refused logins",
    ),
    bound(
        "http-bruteforce",
        30.0,
        15.0,
        "login.refused",
        "refused logins",
    ),
    bound(
        "ssh-bruteforce",
        30.0,
        15.0,
        "login.refused",
        "refused logins",
    ),
    bound(
        "port-scan",
        10.0,
        20.0,
        "scan.failed_first_contacts",
        "failed contacts",
    ),
    bound(
        "host-sweep",
        10.0,
        20.0,
        "scan.failed_first_contacts",
        "failed contacts",
    ),
    bound("db-sweep", 10.0, 20.0, "db.probed_endpoints", "endpoints"),
    bound("darknet", 10.0, 20.0, "darknet.addresses", "addresses"),
    bound(
        "service-enumeration",
        10.0,
        20.0,
        "dns.failed_service_names",
        "names",
    ),
    bound("arp-spoof", 10.0, TIME, "", ""),
    bound("control-plane-probe", 10.0, TIME, "", ""),
    bound("lateral-login", 10.0, TIME, "", ""),
    bound("policy-gap", 10.0, TIME, "", ""),
    bound("undeclared-port", 10.0, TIME, "", ""),
    bound("port-forward", 30.0, TIME, "", ""),
    bound("relay-pivot", 30.0, TIME, "", ""),
    bound("registry-pull", 10.0, TIME, "", ""),
    bound("registry-push", 10.0, TIME, "", ""),
    bound("exfiltration", 30.0, TIME, "", ""),
    // News of a pod may be late, and a release's first steps take their time.
    bound("unknown-container", 120.0, TIME, "", ""),
    bound("post-deployment", 600.0, TIME, "", ""),
    bound("novel-peer", 60.0, TIME, "", ""),
    // A departure lasts for minutes before it is one.
    bound("rate-shift", 300.0, TIME, "", ""),
    bound("resource-spike", 300.0, TIME, "", ""),
];

const A_PACKET_LATER: Duration = Duration::from_secs(1);

fn time(alert: &Value, field: &str) -> jiff::Timestamp {
    alert["time"][field].as_str().unwrap().parse().unwrap()
}

/// A capture up to a moment, that moment included.
fn cut(capture: &[u8], until: jiff::Timestamp) -> Vec<u8> {
    let until = Timestamp::from_secs_nanos(until.as_second(), until.subsec_nanosecond() as u32);
    let mut before = Recording::default();
    for (time, frame) in records(capture).take_while(|(time, _)| *time <= until) {
        before.push(time, frame.to_vec());
    }
    before.finish()
}

fn analyze(capture: &str, inventory: &[String], baseline: Option<&str>) -> Vec<Value> {
    let mut args = vec!["analyze", capture];
    for path in inventory {
        args.extend(["--inventory", path]);
    }
    args.extend(baseline.into_iter().flat_map(|path| ["--baseline", path]));
    let run = spanwatch(&args);
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.json()
}

/// How much of a feature an alert has counted.
fn counted(alert: &Value, feature: &str) -> Option<f64> {
    let evidence = alert["evidence"].as_array()?;
    let one = evidence.iter().find(|one| one["feature"] == feature)?;
    let told = one["text"].as_str()?.split(' ').next()?;
    told.parse().ok().or_else(|| one["observed"].as_f64())
}

#[test]
fn attacks_are_told_soon() {
    let folder = Folder::new();
    let mut table = String::new();
    let mut late = Vec::new();
    writeln!(
        table,
        "{:20} {:22} {:>9}  by then",
        "case", "signature", "seconds"
    )
    .unwrap();
    for id in cases() {
        let case = case(&id);
        let path = |file: &str| format!("captures/{id}/{file}");
        let inventory: Vec<String> = case.attack.inventory.iter().map(|one| path(one)).collect();
        let baseline = case.learn.as_ref().map(|part| {
            let baseline = folder.path(&format!("{id}.baseline"));
            let run = spanwatch(&[
                "learn",
                &path(&part.capture),
                "--inventory",
                &path(&part.inventory[0]),
                "--baseline",
                &baseline,
            ]);
            assert_eq!(run.code, Some(0), "{}", run.err);
            baseline
        });
        let file = path(&case.attack.capture);
        let capture = fs::read(repository(&file)).unwrap();
        for alert in analyze(&file, &inventory, baseline.as_deref()) {
            let raised = time(&alert, "raised");
            let secs = raised
                .duration_since(time(&alert, "first"))
                .as_secs_f64()
                .max(0.0);
            let signature = alert["signature"].as_str().unwrap();
            let bound = BOUNDS.iter().find(|bound| bound.signature == signature);
            let mut by_then = None;
            if let Some(bound) = bound.filter(|bound| !bound.feature.is_empty()) {
                // What is settled by the next packet is not in yet where the capture is cut.
                by_then = [Duration::ZERO, A_PACKET_LATER]
                    .into_iter()
                    .find_map(|later| {
                        let cut = folder.file("cut.pcap", &cut(&capture, raised + later));
                        analyze(&cut, &inventory, baseline.as_deref())
                            .iter()
                            .filter(|then| then["actor"]["ip"] == alert["actor"]["ip"])
                            .find_map(|then| counted(then, bound.feature))
                    });
            }
            let what = match (bound, by_then) {
                (Some(bound), Some(count)) => format!("{count:.0} {}", bound.unit),
                _ => String::new(),
            };
            writeln!(table, "{id:20} {signature:22} {secs:9.1}  {what}").unwrap();
            if let Some(bound) = bound
                && secs > bound.secs
                && by_then.is_none_or(|count| count > bound.most)
            {
                late.push(format!("{id}: {signature} after {secs:.1} s, {what}"));
            }
        }
    }
    println!("{table}");
    assert!(late.is_empty(), "late: {late:#?}");
}
