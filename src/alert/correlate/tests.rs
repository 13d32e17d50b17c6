//! Tests of grouping: what is one alert, when it is raised and told, and what is given up.

use proptest::prelude::*;

use super::*;
use crate::alert::testing::*;
use crate::detectors::Family;
use crate::signature::Severity;

fn correlator(max_open: usize) -> Correlator {
    let config = CorrelatorConfig {
        max_open,
        ..CorrelatorConfig::default()
    };
    Correlator::new(config, &SignatureSet::builtin().unwrap())
}

/// The alerts of some findings, read from a file.
fn alerts(findings: impl IntoIterator<Item = Finding>) -> Vec<Alert> {
    let mut correlator = correlator(64);
    for finding in findings {
        correlator.accept(finding, &LossCounts::default(), 0);
    }
    correlator.finish()
}

fn by(actor: &str, mut finding: Finding) -> Finding {
    finding.actor = unknown(actor);
    finding
}

#[test]
fn a_growing_attack_is_one_alert_in_its_final_state() {
    let mut grown = finding(0, 60, 40.0);
    grown.target_count = 900;
    grown.summary = "tried 900 ports".to_owned();
    grown.targets = (0..30)
        .map(|n| target(external("203.0.113.9"), n))
        .collect();
    let alerts = alerts([finding(0, 5, 18.0), grown]);

    let [alert] = alerts.as_slice() else {
        panic!("{alerts:?}")
    };
    assert_eq!(alert.status, AlertStatus::Closed);
    assert_eq!(
        (alert.first, alert.last, alert.raised),
        (at(0), at(60), at(5))
    );
    assert_eq!(alert.target_count, 900);
    assert_eq!(alert.summary, "tried 900 ports");
    assert_eq!(alert.targets.len(), 16);
    assert_eq!(
        alert.targets[0].port,
        Some(0),
        "the newest word on what tells most"
    );
    assert_eq!(alert.evidence.len(), 1);
    assert!((alert.score - 40.0).abs() < 1e-9);
}

/// A sweep by the same pod that scans ports in [`finding`].
fn sweep(first: i64, last: i64, bits: f64) -> Finding {
    Finding {
        signature: "host-sweep",
        summary: "went through 250 addresses".to_owned(),
        target_count: 250,
        evidence: vec![evidence("sweep.failed", Family::Volume, bits)],
        ..finding(first, last, bits)
    }
}

#[test]
fn a_part_of_an_attack_is_no_second_alert_whichever_comes_first() {
    let (scan, sweep) = (finding(20, 40, 18.0), sweep(0, 5, 17.0));
    let mut before = None;
    for findings in [
        vec![sweep.clone(), scan.clone()],
        vec![scan.clone(), sweep.clone()],
        vec![sweep.clone(), scan, sweep],
    ] {
        let first = findings[0].signature;
        let alerts = alerts(findings);
        let [alert] = alerts.as_slice() else {
            panic!("{alerts:?}")
        };
        assert_eq!(alert.signature.id, "port-scan");
        assert_eq!((alert.first, alert.last), (at(0), at(40)));
        assert!((alert.score - 35.0).abs() < 1e-9);
        assert_eq!(
            alert.summary,
            "tried 57 ports on 10.244.2.9, 55 of which refused or stayed silent; also went through 250 addresses"
        );
        // The alert that was told first goes on under its id.
        let id = (first, alert.id.clone());
        assert!(
            before
                .as_ref()
                .is_none_or(|(other, known)| *other != first || *known == id.1)
        );
        before = Some(id);
    }
    // Another's sweep is another attack.
    let other = by("10.244.1.8", self::sweep(0, 5, 17.0));
    assert_eq!(alerts([finding(20, 40, 18.0), other]).len(), 2);
}

#[test]
fn findings_far_apart_are_two_attacks() {
    let two = alerts([finding(0, 5, 18.0), finding(3700, 3710, 18.0)]);
    assert_eq!(two.len(), 2);
    assert_ne!(two[0].id, two[1].id);
    assert_eq!(
        alerts([finding(0, 200, 18.0), finding(3700, 3710, 18.0)]).len(),
        1
    );
}

#[test]
fn a_slow_attack_reported_whole_stays_one() {
    let hourly = (0..10).map(|hour| finding(0, hour * 7200, 18.0));
    let alerts = alerts(hourly);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].last, at(9 * 7200));
}

#[test]
fn signature_actor_and_subject_set_attacks_apart() {
    let mut other_signature = finding(0, 5, 18.0);
    other_signature.signature = "db-sweep";
    let mut other_subject = finding(0, 5, 18.0);
    other_subject.subject = "10.244.2.10".to_owned();
    let mut other_actor = finding(0, 5, 18.0);
    other_actor.actor = pod("shop", "cart", "zzzzz", "10.244.1.8");
    let mut moved = finding(0, 5, 18.0);
    moved.actor.ip = "10.244.1.99".parse().unwrap();
    let alerts = alerts([
        finding(0, 5, 18.0),
        other_signature,
        other_subject,
        other_actor,
        moved,
    ]);
    assert_eq!(alerts.len(), 4, "a pod is one actor under any address");
    let mut ids: Vec<_> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.len() == 16));
}

#[test]
fn evidence_gathers_until_it_suffices() {
    let mut second = finding(10, 20, 12.0);
    second.evidence = vec![
        evidence("scan.failed_contacts", Family::Outcome, 9.0),
        evidence("scan.darknet_hits", Family::Deception, 6.0),
    ];
    assert!(alerts([finding(0, 5, 12.0)]).is_empty());
    let alerts = alerts([finding(0, 5, 12.0), second]);
    assert_eq!(alerts.len(), 1);
    let alert = &alerts[0];
    assert_eq!(alert.raised, at(20));
    assert!(
        (alert.score - 18.0).abs() < 1e-9,
        "the stronger of a feature stays"
    );
    assert_eq!(alert.severity, Severity::High);
}

#[test]
fn an_older_finding_that_comes_late_changes_no_newer_words() {
    let mut late = finding(0, 2, 18.0);
    late.summary = "tried 3 ports".to_owned();
    late.target_count = 3;
    let alerts = alerts([finding(1, 60, 18.0), late]);
    assert_eq!(alerts[0].first, at(0));
    assert_eq!(alerts[0].target_count, 57);
    assert!(alerts[0].summary.starts_with("tried 57"));
}

#[test]
fn the_surest_attribution_stays() {
    let mut vague = finding(10, 20, 18.0);
    vague.actor.who.confidence = crate::identity::Confidence::Time;
    let alerts = alerts([finding(0, 5, 18.0), vague]);
    assert_eq!(
        alerts[0].actor.who.confidence,
        crate::identity::Confidence::Exact
    );
}

#[test]
fn responses_carry_the_actors_names() {
    let alerts = alerts([finding(0, 5, 18.0)]);
    assert!(
        alerts[0].response[1].contains("kubectl -n shop get pod cart-7d4b9c6f5-x2x9k -o yaml"),
        "{:?}",
        alerts[0].response
    );
}

#[test]
fn alerts_come_in_the_order_in_which_they_were_raised() {
    let alerts = alerts([
        by("10.0.0.3", finding(5, 9, 18.0)),
        by("10.0.0.1", finding(4, 9, 18.0)),
        by("10.0.0.2", finding(0, 3, 18.0)),
    ]);
    let actors: Vec<String> = alerts
        .iter()
        .map(|alert| alert.actor.ip.to_string())
        .collect();
    assert_eq!(actors, ["10.0.0.2", "10.0.0.1", "10.0.0.3"]);
}

#[test]
fn flows_learn_what_they_carried() {
    let [cart, db] = [
        pod("shop", "cart", "x2x9k", "10.244.1.7"),
        pod("shop", "db", "k2l9q", "10.244.2.9"),
    ];
    let flows: Vec<_> = (0..20).map(|id| flow(id, &cart, &db, 6379)).collect();
    let mut correlator = correlator(4);
    correlator.flow_ended(&flows[0], &record(Some("redis")));
    let mut scan = finding(0, 5, 18.0);
    scan.flows.clone_from(&flows);
    correlator.accept(scan, &LossCounts::default(), 0);
    correlator.flow_ended(&flows[1], &record(None));
    let alerts = correlator.finish();
    let totals: Vec<_> = alerts[0].flows.iter().map(|flow| flow.totals).collect();
    assert_eq!(totals.len(), 16);
    assert_eq!(totals[0].unwrap().app, Some("redis"));
    assert_eq!(totals[1].unwrap().bytes, [400, 300]);
    assert_eq!(totals[2], None);
}

#[test]
fn coverage_is_that_of_the_attacks_time() {
    let mut correlator = correlator(4);
    let mut losses = LossCounts::default();
    losses.add_n(Loss::StreamGap, 7);
    correlator.mark(at(-10), &losses, 1000);
    losses.add(Loss::FlowEvicted);
    correlator.mark(at(3), &losses, 1500);
    correlator.accept(finding(0, 5, 18.0), &losses, 1600);
    losses.add(Loss::StreamGap);
    correlator.accept(finding(0, 8, 18.0), &losses, 1800);
    let alerts = correlator.finish();
    let coverage = &alerts[0].coverage;
    assert_eq!(coverage.packets, 800);
    assert_eq!(coverage.lost.get(Loss::StreamGap), 1);
    assert_eq!(coverage.lost.get(Loss::FlowEvicted), 1);
}

#[test]
fn a_live_alert_is_told_when_it_opens_grows_and_ends() {
    let none = LossCounts::default();
    let mut correlator = correlator(4);
    let told = |correlator: &mut Correlator, seconds| {
        let alerts = correlator.updates(at(seconds));
        alerts
            .iter()
            .map(|alert| (alert.status, alert.severity))
            .collect::<Vec<_>>()
    };
    correlator.accept(finding(0, 1, 10.0), &none, 0);
    assert_eq!(told(&mut correlator, 2), [], "not enough yet");

    correlator.accept(finding(0, 5, 18.0), &none, 0);
    assert_eq!(
        told(&mut correlator, 6),
        [(AlertStatus::Open, Severity::Low)]
    );
    assert_eq!(told(&mut correlator, 7), []);

    let mut little_more = finding(0, 8, 18.0);
    little_more.target_count = 58;
    correlator.accept(little_more, &none, 0);
    assert_eq!(told(&mut correlator, 9), [], "hardly grown");

    correlator.accept(finding(0, 10, 30.0), &none, 0);
    assert_eq!(
        told(&mut correlator, 11),
        [(AlertStatus::Updated, Severity::Medium)]
    );
    let mut many = finding(0, 12, 30.0);
    many.target_count = 4 * 58;
    correlator.accept(many, &none, 0);
    assert_eq!(
        told(&mut correlator, 13),
        [(AlertStatus::Updated, Severity::Medium)]
    );

    assert_eq!(told(&mut correlator, 12 + 3600), []);
    assert_eq!(
        told(&mut correlator, 13 + 3600),
        [(AlertStatus::Closed, Severity::Medium)]
    );
    assert_eq!(told(&mut correlator, 20_000), [], "the end is told once");

    // The same attack goes on: the same alert, told again as soon as it is worse.
    let mut worse = finding(0, 20_000, 30.0);
    worse
        .evidence
        .push(evidence("scan.darknet_hits", Family::Deception, 6.0));
    correlator.accept(worse, &none, 0);
    assert_eq!(
        told(&mut correlator, 20_001),
        [(AlertStatus::Updated, Severity::High)]
    );
    assert_eq!(correlator.state_size().entries, 1);
    assert_eq!(correlator.finish().len(), 1, "its end is still to be told");
}

#[test]
fn an_alert_told_to_the_end_is_forgotten_a_day_later() {
    let none = LossCounts::default();
    let mut correlator = correlator(4);
    correlator.accept(finding(0, 1, 18.0), &none, 0);
    correlator.accept(by("10.0.0.1", finding(0, 1, 3.0)), &none, 0);
    assert_eq!(correlator.updates(at(2)).len(), 1);
    assert_eq!(correlator.updates(at(5000)).len(), 1);
    assert_eq!(correlator.state_size().entries, 2);
    assert!(correlator.updates(at(90_000)).is_empty());
    assert_eq!(correlator.state_size().entries, 0);
    assert_eq!(correlator.losses(), &none, "forgetting in time is no loss");
}

#[test]
fn at_the_bound_alerts_stay_and_hints_go() {
    let none = LossCounts::default();
    let mut correlator = correlator(3);
    correlator.accept(by("10.0.0.1", finding(0, 1, 3.0)), &none, 0);
    correlator.accept(by("10.0.0.2", finding(0, 2, 18.0)), &none, 0);
    correlator.accept(by("10.0.0.3", finding(0, 3, 18.0)), &none, 0);
    correlator.accept(by("10.0.0.4", finding(0, 4, 18.0)), &none, 0);
    assert_eq!(correlator.losses().get(Loss::AlertBudget), 1, "the hint");
    correlator.accept(by("10.0.0.5", finding(0, 5, 18.0)), &none, 0);
    assert_eq!(
        correlator.losses().get(Loss::AlertBudget),
        2,
        "the newcomer"
    );
    let actors: Vec<String> = correlator
        .finish()
        .iter()
        .map(|alert| alert.actor.ip.to_string())
        .collect();
    assert_eq!(actors, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
}

#[test]
fn a_finding_of_absurd_numbers_does_no_harm() {
    let mut absurd = finding(0, -50, f64::NAN);
    absurd
        .evidence
        .push(evidence("x", Family::Volume, f64::INFINITY));
    absurd.evidence[1].observed = f64::INFINITY;
    absurd.first = Timestamp::MAX;
    absurd.last = Timestamp::MIN;
    absurd.target_count = u64::MAX;
    let alerts = alerts([absurd]);
    assert_eq!(alerts[0].last, Timestamp::MAX);
    assert!(
        alerts[0]
            .evidence
            .iter()
            .all(|one| one.observed.is_finite())
    );
    assert!((alerts[0].score - 1000.0).abs() < 1e-9);
}

proptest! {
    /// Whatever comes in, what is remembered stays within the bound and agrees with itself, and the outcome is the same
    /// each time.
    #[test]
    fn any_stream_of_findings_is_bounded_and_repeatable(
        steps in prop::collection::vec((0..40_u16, -9000..9000_i64, 0..200_i64, 0.0..40.0_f64, 0..4_u8), 0..200)
    ) {
        let run = || {
            let mut correlator = correlator(12);
            let mut told = Vec::new();
            for &(actor, first, length, bits, action) in &steps {
                let mut finding = by(&address(actor), finding(first, first + length, bits));
                let end = finding.actor.clone();
                finding.flows = vec![flow(u64::from(actor), &end, &end, 1)];
                correlator.accept(finding, &LossCounts::default(), 0);
                if action == 0 {
                    told.extend(correlator.updates(at(first)));
                }
                assert!(correlator.groups.len() <= 12);
                assert_eq!(correlator.groups.len(), correlator.by_age.len());
                assert!(correlator.latest.len() <= correlator.groups.len());
                assert!(correlator.changed.len() <= correlator.groups.len());
            }
            // Each actor has a flow of its own, held as long as one of its groups is remembered.
            let actors: BTreeSet<_> = correlator.groups.values().flat_map(|group| &group.keys).map(|key| &key.actor).collect();
            assert_eq!(correlator.book.held(), actors.len());
            told.extend(correlator.finish());
            told
        };
        prop_assert_eq!(format!("{:?}", run()), format!("{:?}", run()));
    }
}

/// What a correlator has to keep, as another one is given it.
fn kept(correlator: &mut Correlator, ended: bool) -> Vec<(String, Vec<u8>)> {
    let kept = correlator.to_keep(ended).into_iter();
    kept.filter_map(|(id, attack)| Some((id, attack?)))
        .collect()
}

#[test]
fn an_attack_stays_the_same_alert_over_a_restart() {
    let counts = LossCounts::default();
    let mut before = correlator(64);
    assert_eq!(before.recall(Vec::new()), Vec::<String>::new());
    before.accept(sweep(0, 5, 17.0), &counts, 10);
    before.accept(finding(10, 20, 18.0), &counts, 40);
    before.accept(by("10.9.9.9", finding(0, 5, 2.0)), &counts, 50);
    let [open] = before.updates(at(21)).try_into().unwrap();
    let state = kept(&mut before, false);
    assert_eq!(state.len(), 1, "what is no alert is not kept");
    assert_eq!(kept(&mut before, false), [], "once");

    let mut after = correlator(64);
    assert_eq!(after.recall(state.clone()), Vec::<String>::new());
    assert_eq!(after.updates(at(60)).len(), 0, "nothing is told again");
    let [same] = after.alerts().collect::<Vec<_>>().try_into().unwrap();
    let json = |alert: &Alert| {
        let mut json = serde_json::to_value(crate::alert::AlertV1::from(alert)).unwrap();
        json["status"] = "".into();
        json
    };
    assert_eq!(json(&same), json(&open));

    // It goes on, more gravely: the same alert, with what both runs saw.
    let mut grown = finding(70, 90, 40.0);
    grown.target_count = 20;
    grown
        .evidence
        .push(evidence("scan.width", Family::Volume, 30.0));
    after.accept(grown, &counts, 7);
    let told = after.updates(at(91));
    assert!(
        told.iter()
            .all(|alert| alert.id == open.id && alert.status == AlertStatus::Updated)
    );
    let [grown] = after.alerts().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((grown.first, grown.last), (at(0), at(90)));
    assert_eq!(
        grown.target_count, open.target_count,
        "this run's count is no smaller truth"
    );
    assert_eq!(grown.coverage.packets, 47);

    // Its end is told by whichever run sees it, once.
    let closed = after.updates(at(90 + 3601));
    assert_eq!((closed.len(), closed[0].status), (1, AlertStatus::Closed));
    let mut third = correlator(64);
    third.recall(kept(&mut after, false));
    assert_eq!(third.updates(at(90 + 7300)).len(), 0);
    // Forgotten after a day, here and on disk.
    assert_eq!(third.updates(at(90 + 86_401)).len(), 0);
    assert_eq!(third.to_keep(false), [(open.id, None)]);
}

#[test]
fn a_run_that_ended_has_told_all_ends() {
    let mut before = correlator(64);
    before.recall(Vec::new());
    before.accept(finding(0, 20, 18.0), &LossCounts::default(), 1);
    let open = before.updates(at(21)).remove(0);
    let state = kept(&mut before, true);
    let mut after = correlator(64);
    after.recall(state);
    assert_eq!(after.updates(at(7200)).len(), 0);
    // But what goes on right after it is the same attack.
    let mut after_at_once = correlator(64);
    after_at_once.recall(kept(&mut before, true));
    after_at_once.accept(finding(300, 400, 18.0), &LossCounts::default(), 1);
    let again = after_at_once.updates(at(401));
    assert_eq!((again.len(), again[0].status), (1, AlertStatus::Open));
    assert_eq!((&again[0].id, again[0].first), (&open.id, at(0)));
}

#[test]
fn what_cannot_be_understood_is_left_out_and_named() {
    let mut before = correlator(64);
    before.recall(Vec::new());
    before.accept(finding(0, 20, 18.0), &LossCounts::default(), 1);
    let (id, good) = kept(&mut before, false).remove(0);
    let text = String::from_utf8(good.clone()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        text.replace(from, to).into_bytes()
    };
    for bad in [
        b"{".to_vec(),
        with("spanwatch.attack/1", "spanwatch.attack/2"),
        with("\"signature\":\"port-scan\"", "\"signature\":\"gone\""),
        with("\"family\":\"outcome\"", "\"family\":\"other\""),
        with("scan.failed_contacts", &"x".repeat(65)),
    ] {
        let mut after = correlator(64);
        assert_eq!(
            after.recall(vec![(id.clone(), bad)]),
            std::slice::from_ref(&id)
        );
        assert_eq!(after.alerts().count(), 0);
        assert_eq!(
            after.to_keep(false),
            [(id.clone(), None)],
            "nor kept any longer"
        );
    }
    let mut full = correlator(1);
    let two = vec![(id.clone(), good.clone()), (id, good)];
    assert_eq!(full.recall(two).len(), 1, "no more than fit");
}
