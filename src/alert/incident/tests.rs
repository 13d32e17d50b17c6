//! What is tied together, and what isn't.

use super::*;
use crate::alert::testing::*;
use crate::alert::{Correlator, CorrelatorConfig};
use crate::detectors::{Finding, Target};
use crate::signature::SignatureSet;
use crate::telemetry::LossCounts;

/// Somebody does something to somebody, beginning so many seconds in.
fn deed(signature: &'static str, seconds: i64, actor: &Endpoint, targets: &[&Endpoint]) -> Finding {
    let mut one = finding(seconds, seconds + 5, 40.0);
    one.signature = signature;
    one.actor = actor.clone();
    one.targets = targets
        .iter()
        .map(|&end| Target {
            endpoint: Some(end.clone()),
            port: Some(443),
            protocol: None,
            domain: None,
        })
        .collect();
    one.target_count = targets.len() as u64;
    one
}

fn tied(findings: Vec<Finding>) -> Vec<Alert> {
    let set = SignatureSet::builtin().unwrap();
    let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
    for finding in findings {
        correlator.accept(finding, &LossCounts::default(), 0);
    }
    let mut alerts = correlator.finish();
    tie(&mut alerts);
    alerts
}

/// Signatures of each incident, in the order of their stages.
fn told(alerts: &[Alert]) -> Vec<Vec<String>> {
    let stages = |incident: &Arc<Incident>| {
        let stages = incident.stages.iter();
        stages.map(|stage| stage.signature.clone()).collect()
    };
    incidents(alerts).iter().map(stages).collect()
}

fn web() -> Endpoint {
    pod("shop", "web", "x2x9k", "10.244.1.7")
}

fn api() -> Endpoint {
    pod("shop", "api", "b7c2d", "10.244.1.9")
}

fn db() -> Endpoint {
    pod("shop", "db", "k2l9q", "10.244.2.9")
}

#[test]
fn a_workloads_alerts_are_one_story_in_the_order_of_time() {
    let sibling = pod("shop", "web", "zzzzz", "10.244.1.8");
    let alerts = tied(vec![
        deed("exfiltration", 900, &sibling, &[&external("203.0.113.9")]),
        deed("port-scan", 0, &web(), &[&db(), &api()]),
        deed("credential-dump", 700, &web(), &[&db()]),
        deed("db-bruteforce", 300, &web(), &[&db()]),
    ]);
    assert_eq!(
        told(&alerts),
        [[
            "port-scan",
            "db-bruteforce",
            "credential-dump",
            "exfiltration"
        ]]
    );
    let incident = alerts[0].incident.as_ref().unwrap();
    assert_eq!(incident.tactics, ["TA0007", "TA0006", "TA0010"]);
    assert_eq!((incident.first, incident.last), (at(0), at(905)));
    let gravest = alerts.iter().map(|alert| alert.severity).max().unwrap();
    assert_eq!(incident.severity, gravest.graver(), "three tactics");
    assert!(alerts.iter().all(|alert| alert.incident.is_some()));
}

#[test]
fn what_a_victim_does_next_belongs_to_it() {
    let alerts = tied(vec![
        deed("ssh-bruteforce", 0, &web(), &[&api()]),
        deed("reverse-shell", 400, &api(), &[&external("203.0.113.9")]),
    ]);
    assert_eq!(told(&alerts), [["ssh-bruteforce", "reverse-shell"]]);
    // What it had done before doesn't, nor what a pod does that was scanned among others.
    for alerts in [
        tied(vec![
            deed("reverse-shell", 0, &api(), &[&external("203.0.113.9")]),
            deed("ssh-bruteforce", 400, &web(), &[&api()]),
        ]),
        tied(vec![
            deed("port-scan", 0, &web(), &[&api()]),
            deed("dns-tunnel", 400, &api(), &[]),
        ]),
    ] {
        assert!(told(&alerts).is_empty());
    }
}

#[test]
fn one_place_outside_makes_one_story() {
    let there = external("203.0.113.9");
    let alerts = tied(vec![
        deed("beacon", 0, &web(), &[&there]),
        deed("beacon", 60, &api(), &[&there]),
        deed("beacon", 90, &db(), &[&external("198.51.100.4")]),
    ]);
    assert_eq!(told(&alerts), [["beacon", "beacon"]]);
    assert!(alerts[2].incident.is_none());
}

#[test]
fn what_has_nothing_in_common_stays_apart() {
    let alerts = tied(vec![
        deed("port-scan", 0, &web(), &[&db()]),
        deed("db-bruteforce", 60, &api(), &[&db()]),
        deed(
            "dns-tunnel",
            90,
            &pod("shop", "mail", "k2l9q", "10.244.2.7"),
            &[],
        ),
    ]);
    assert!(told(&alerts).is_empty(), "{:?}", told(&alerts));
    // The same workload, two days later.
    let alerts = tied(vec![
        deed("port-scan", 0, &web(), &[&db()]),
        deed("dns-tunnel", 48 * 3600, &web(), &[]),
    ]);
    assert!(told(&alerts).is_empty());
    // Departures from the baseline alone.
    let alerts = tied(vec![
        deed("novel-peer", 0, &web(), &[&external("203.0.113.9")]),
        deed("novel-peer", 9000, &web(), &[&external("203.0.113.10")]),
    ]);
    assert!(told(&alerts).is_empty());
}

#[test]
fn it_keeps_its_id_while_it_grows_whatever_the_order() {
    let early = vec![
        deed("port-scan", 0, &web(), &[&db()]),
        deed("db-bruteforce", 60, &web(), &[&db()]),
    ];
    let mut late = early.clone();
    late.insert(
        0,
        deed("exfiltration", 900, &web(), &[&external("203.0.113.9")]),
    );
    let id = |alerts: Vec<Alert>| alerts[0].incident.as_ref().unwrap().id.clone();
    assert_eq!(id(tied(early)), id(tied(late)));
}

#[test]
fn long_stories_are_cut_and_counted() {
    let many = |n: i64| {
        let mut one = deed("db-bruteforce", n * 10, &web(), &[&db()]);
        one.subject = n.to_string();
        one
    };
    let alerts = tied((0..500).map(many).collect());
    let incident = alerts[499].incident.as_ref().unwrap();
    assert_eq!((incident.stages.len(), incident.stage_count), (16, 500));
}
