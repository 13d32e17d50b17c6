//! Tests of the published form: its schema, and that nothing is lost or invented on the way.

use std::time::Duration;

use super::*;
use crate::alert::testing::*;
use crate::alert::{
    Alert, AlertFlow, AlertStatus, BaselineNote, BaselineState, Correlator, CorrelatorConfig,
    Suppression,
};
use crate::detectors::{Family, Target};
use crate::flow::Protocol;
use crate::signature::{Category, Severity, SignatureSet, golden};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// An alert with everything on it.
fn full() -> Alert {
    let mut correlator = Correlator::new(
        CorrelatorConfig::default(),
        &SignatureSet::builtin().unwrap(),
    );
    let mut losses = LossCounts::default();
    losses.add_n(Loss::StreamGap, 3);
    let mut scan = finding(0, 5, 18.0);
    let tls = flow(1, &scan.actor, &external("2001:db8::9"), 443);
    let open = flow(2, &scan.actor, &unknown("10.1.2.3"), 22);
    scan.flows = vec![tls.clone(), open];
    scan.targets
        .push(target(service("shop", "redis", "10.96.0.4"), 6379));
    scan.targets.push(Target {
        endpoint: None,
        port: None,
        protocol: Some("dns"),
        domain: Some("example.net".into()),
    });
    let mut mark = evidence("scan.tool", Family::Protocol, 9.5);
    mark.signature_grade = true;
    scan.evidence.push(mark);
    correlator.accept(scan, &losses, 812);
    correlator.flow_ended(&tls, &record(Some("tls")));
    let mut alert = correlator.finish().remove(0);
    alert.baseline = BaselineNote {
        state: BaselineState::Learning,
        observed: Duration::from_hours(24),
    };
    alert.suppressed = Some(Suppression {
        reason: "authorised scan".to_owned(),
        owner: Some("secops".to_owned()),
        by: "exceptions.toml:3".to_owned(),
    });
    alert
}

/// An alert with as little on it as there can be.
fn bare() -> Alert {
    let mut alert = full();
    alert.status = AlertStatus::Open;
    alert.actor = unknown("10.244.1.7");
    alert.targets.clear();
    alert.evidence.clear();
    alert.flows.clear();
    alert.response.clear();
    alert.suppressed = None;
    alert.coverage = crate::alert::Coverage::default();
    alert
}

#[test]
fn the_schema_in_docs_is_current() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    golden::assert_generated("docs/alert.schema.json", &text);
}

#[test]
fn alerts_satisfy_the_schema_and_read_back() {
    let schema = serde_json::to_value(schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for alert in [full(), bare()] {
        let wire = AlertV1::from(&alert);
        let json = serde_json::to_value(&wire).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let text = serde_json::to_string(&wire).unwrap();
        assert_eq!(serde_json::from_str::<AlertV1>(&text).unwrap(), wire);
        assert!(!text.contains("null"), "{text}");
    }
}

#[test]
fn the_schema_refuses_what_is_none() {
    let schema = serde_json::to_value(schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = serde_json::to_value(AlertV1::from(&full())).unwrap();
    assert!(validator.is_valid(&good));
    for (field, value) in [
        ("schema", serde_json::json!("spanwatch.alert/2")),
        ("severity", serde_json::json!("urgent")),
        ("score_bits", serde_json::json!("many")),
        ("time", serde_json::json!({"first": 1})),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!validator.is_valid(&bad), "{field}");
    }
}

#[test]
fn an_alert_looks_as_documented() {
    let json = serde_json::to_string_pretty(&AlertV1::from(&full())).unwrap();
    insta::assert_snapshot!(json);
}

#[test]
fn words_are_those_used_elsewhere() {
    let word = |value: serde_json::Value| value.as_str().unwrap().to_owned();
    for &severity in Severity::ALL {
        let wire = serde_json::to_value(SeverityV1::from(severity)).unwrap();
        assert_eq!(word(wire), severity.label());
    }
    for &category in Category::ALL {
        let wire = serde_json::to_value(CategoryV1::from(category)).unwrap();
        assert_eq!(word(wire), category.label());
    }
    for family in [
        Family::Novelty,
        Family::Timing,
        Family::Volume,
        Family::Protocol,
        Family::Outcome,
        Family::Deception,
    ] {
        let wire = serde_json::to_value(FamilyV1::from(family)).unwrap();
        assert_eq!(word(wire), family.label());
    }
}

#[test]
fn times_keep_every_nanosecond() {
    for nanos in [i64::MIN, -1, 0, 1_772_334_720_123_456_789, i64::MAX] {
        let time = UtcTime(Timestamp::from_nanos(nanos));
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(
            serde_json::from_str::<UtcTime>(&json).unwrap(),
            time,
            "{json}"
        );
    }
    let time = UtcTime(Timestamp::from_nanos(1_772_334_720_120_000_000));
    assert_eq!(time.to_string(), "2026-03-01T03:12:00.120000000Z");
    assert!(serde_json::from_str::<UtcTime>("\"9999-01-01T00:00:00Z\"").is_err());
}

#[test]
fn an_echo_has_a_community_id_and_no_ports() {
    let [a, b] = [unknown("192.168.0.89"), unknown("192.168.0.1")];
    let mut echo = flow(1, &a, &b, 0).as_ref().clone();
    echo.protocol = Protocol::Icmp;
    echo.orig_port = 8;
    assert_eq!(flow_community_id(&echo), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
    let info = std::sync::Arc::new(echo);
    let wire = FlowV1::from(&AlertFlow { info, totals: None });
    assert_eq!(wire.src.port, None);
}
