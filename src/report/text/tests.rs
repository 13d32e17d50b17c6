//! Tests of alerts as text.

use std::time::Duration;

use super::*;
use crate::alert::testing::*;
use crate::alert::{BaselineNote, Correlator, CorrelatorConfig};
use crate::detectors::{Family, Finding};
use crate::signature::SignatureSet;
use crate::telemetry::{Loss, LossCounts};

fn raise(finding: Finding, losses: &LossCounts) -> Alert {
    let set = SignatureSet::builtin().unwrap();
    let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
    correlator.accept(finding, losses, 812);
    correlator.finish().remove(0)
}

fn shown(alert: &Alert) -> String {
    let text = alert_text(alert, TextOptions::default());
    assert!(text.lines().count() <= MOST_LINES, "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
    text
}

#[test]
fn a_scan() {
    let mut scan = finding(0, 5, 18.0);
    let mut darknet = evidence("scan.darknet_hits", Family::Deception, 12.3);
    darknet.text = "3 of the addresses were never held by any pod.".to_owned();
    darknet.observed = 3.0;
    darknet.expected = "0".to_owned();
    scan.evidence.push(darknet);
    let mut losses = LossCounts::default();
    losses.add_n(Loss::StreamGap, 3);
    insta::assert_snapshot!(shown(&raise(scan, &losses)));
}

#[test]
fn a_tunnel_by_a_pod_that_no_inventory_names() {
    let mut tunnel = finding(0, 5400, 22.5);
    tunnel.signature = "dns-tunnel";
    tunnel.actor = unknown("10.244.1.7");
    tunnel.targets = vec![Target {
        endpoint: None,
        port: None,
        protocol: Some("dns"),
        domain: Some("t.example.net".into()),
    }];
    tunnel.target_count = 1;
    tunnel.summary = "sent about 300 kB to t.example.net in 4,120 DNS names".to_owned();
    tunnel.evidence[0].text = "new information in the names asked for, in bits a second".to_owned();
    tunnel.evidence[0].observed = 5210.4;
    tunnel.evidence[0].expected = "≤ 5.6".to_owned();
    let mut weaker = evidence("dns.names", Family::Outcome, 4.0);
    weaker.text = "distinct names asked for once only".to_owned();
    tunnel.evidence.push(weaker);
    let mut alert = raise(tunnel, &LossCounts::default());
    alert.baseline = BaselineNote {
        state: BaselineState::Stable,
        observed: Duration::from_hours(24),
    };
    insta::assert_snapshot!(shown(&alert));
}

#[test]
fn everything_there_is_too_much_of() {
    let mut flood = finding(0, 500_000, 18.0);
    flood.summary = "did ".to_owned() + &"many things and ".repeat(40);
    flood.targets = (0..16)
        .map(|n| target(pod(&"n".repeat(63), &"w".repeat(200), "x", &address(n)), n))
        .collect();
    flood.target_count = 1_234_567;
    flood.evidence = [
        Family::Novelty,
        Family::Timing,
        Family::Volume,
        Family::Protocol,
        Family::Outcome,
    ]
    .into_iter()
    .zip(["a", "b", "c", "d", "e"])
    .map(|(family, feature)| {
        let mut one = evidence(feature, family, 100.5);
        one.text = "x".repeat(300);
        one
    })
    .collect();
    let mut alert = raise(flood, &LossCounts::default());
    alert.response = vec!["step ".repeat(60), "never shown".to_owned()];
    insta::assert_snapshot!(shown(&alert));
}

#[test]
fn words_from_outside_cannot_drive_the_terminal() {
    let mut scan = finding(0, 5, 18.0);
    scan.summary = "asked for \u{1b}[2J\u{202e}".to_owned();
    scan.evidence[0].text = "\u{7}\u{9b}".to_owned();
    scan.targets[0].domain = Some("\u{1b}]0;x\u{7}".into());
    let text = shown(&raise(scan, &LossCounts::default()));
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    assert!(!text.contains('\u{202e}'));
}

#[test]
fn colour_is_only_where_asked_for_and_never_alone() {
    let alert = raise(finding(0, 5, 30.0), &LossCounts::default());
    let plain = shown(&alert);
    let coloured = alert_text(&alert, TextOptions { colour: true });
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.starts_with("\u{1b}[1;33mMEDIUM\u{1b}[0m"));
    assert_eq!(
        coloured
            .replace("\u{1b}[1;33m", "")
            .replace("\u{1b}[0m", ""),
        plain
    );
}

#[test]
fn an_alert_with_hardly_anything_on_it() {
    let mut alert = raise(finding(0, 0, 18.0), &LossCounts::default());
    alert.targets.clear();
    alert.target_count = 0;
    alert.evidence.clear();
    alert.response.clear();
    alert.score = 0.0;
    let text = shown(&alert);
    assert!(!text.contains("against"));
    assert!(!text.contains("do now"));
}
