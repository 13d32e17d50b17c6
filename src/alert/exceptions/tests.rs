//! Exceptions as users write them, against alerts.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::alert::testing::{at, external, finding, target};
use crate::alert::{Correlator, CorrelatorConfig};
use crate::signature::SignatureSet;
use crate::telemetry::LossCounts;

/// A port scan by `shop/cart`, label `app=cart`, of two ports of `shop/db`; on a Sunday, 03:12 UTC, for 40 seconds.
fn alert() -> Alert {
    let signatures = SignatureSet::builtin().unwrap();
    let mut correlator = Correlator::new(CorrelatorConfig::default(), &signatures);
    let mut scan = finding(0, 40, 30.0);
    scan.target_count = 2;
    correlator.accept(scan, &LossCounts::default(), 1);
    correlator.finish().remove(0)
}

fn parse(text: &str) -> Result<Exceptions, ExceptionError> {
    Exceptions::parse(
        Path::new("dir/exceptions.toml"),
        text,
        &["port-scan", "host-sweep"],
    )
}

fn holds(limits: &str) -> bool {
    let text =
        format!("[[exception]]\nreason = \"r\"\nowner = \"o\"\nexpires = \"never\"\n{limits}\n");
    parse(&text).unwrap().judge(&alert()).is_some()
}

#[test]
fn each_limit_holds_by_itself() {
    for yes in [
        "signatures = [\"port-*\"]",
        "workloads = [\"ops/*\", \"shop/Deployment/cart\"]",
        "labels = { app = \"c*t\" }",
        "peers = [\"10.244.2.0/24\"]",
        "peers = [\"shop/Deployment/db\"]",
        "peers = [\"shop/db-*\"]",
        "workloads = [\"*\"]\nschedule = [\"Mon 00:00-01:00\", \"Sun 03:00-03:30\"]",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "signatures = [\"host-sweep\"]",
        "workloads = [\"shop/StatefulSet/cart\"]",
        "labels = { app = \"cart\", tier = \"*\" }",
        "peers = [\"10.244.3.0/24\", \"other/*\"]",
        "signatures = [\"port-scan\"]\nworkloads = [\"ops/*\"]",
        "workloads = [\"*\"]\nschedule = [\"Sun 04:00-05:00\"]",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn every_target_must_be_allowed() {
    let exceptions = parse("[[exception]]\nreason = \"r\"\nowner = \"o\"\nexpires = \"never\"\npeers = [\"10.244.2.9\"]\n").unwrap();
    let mut one = alert();
    assert!(exceptions.judge(&one).is_some());
    one.target_count = 3;
    assert_eq!(exceptions.judge(&one), None, "one isn't listed");
    let mut other = alert();
    other.targets.push(target(external("203.0.113.9"), 443));
    other.target_count = 3;
    assert_eq!(exceptions.judge(&other), None);
    let mut none = alert();
    none.targets.clear();
    none.target_count = 0;
    assert_eq!(exceptions.judge(&none), None);
}

#[test]
fn an_exception_expires_by_the_alerts_time() {
    let text = |expires: &str| {
        format!(
            "# Scanners.\n\n[[exception]]\nreason = \"authorised scan\"\nowner = \"secops\"\nexpires = {expires}\nsignatures = [\"port-scan\"]\n"
        )
    };
    // The alert is of 2026-03-01, 03:12 to 03:12:40.
    for (expires, silenced) in [
        ("2026-03-01", false),
        ("2026-03-02", true),
        ("2026-03-01T03:12:30Z", false),
        ("2026-03-01T04:13:00+01:00", true),
        ("\"2026-03-02\"", true),
        ("\"never\"", true),
    ] {
        let exceptions = parse(&text(expires)).unwrap();
        let judged = exceptions.judge(&alert());
        assert_eq!(judged.is_some(), silenced, "{expires}");
        assert_eq!(
            exceptions.expired(at(40)).count(),
            usize::from(!silenced),
            "{expires}"
        );
        if let Some(suppression) = judged {
            assert_eq!(
                suppression.to_string(),
                "authorised scan (exceptions.toml:3, secops)"
            );
        }
    }
    let far = at(0).after(Duration::from_hours(24 * 365));
    assert_eq!(parse(&text("2026-04-01")).unwrap().expired(far).count(), 1);
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = "\
[[exception]]
reason = \"no owner, no expiry\"
workloads = \"ops/*\"

[[exception]]
reason = \"\"
owner = \"o\"
expires = \"soon\"
signatures = [\"port-scan\", \"prot-scan\"]
schedule = [\"sometimes\"]
peer = [\"x\"]

[[exception]]
reason = \"silences everything\"
owner = \"o\"
expires = \"never\"
";
    let told = parse(text).unwrap_err().to_string();
    insta::assert_snapshot!(told);
    assert!(
        parse("")
            .unwrap_err()
            .to_string()
            .contains("no [[exception]]")
    );
    assert!(parse("[[exception]\n").is_err());
}
