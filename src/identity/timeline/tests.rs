//! Holders of one address in time, against a moment-by-moment model.

use proptest::prelude::*;

use super::*;
use crate::identity::claim::Tenure;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn holder(name: &str, tenure: Tenure) -> Holder {
    Holder {
        identity: Arc::new(Identity {
            name: (!name.is_empty()).then(|| name.into()),
            ..Identity::bare(IdentityKind::Pod)
        }),
        source: Source::Kubernetes,
        tenure,
    }
}

/// Name and confidence at a second: `a!` exact, `a?` by time, `-` nobody, `*` ambiguous.
fn at_second(segments: &[Segment], secs: i64) -> String {
    let Some(answer) = &segments[index_at(segments, at(secs))].answer else {
        return "-".into();
    };
    let name = answer.identity.name.as_deref().unwrap_or("");
    match answer.confidence {
        Confidence::Exact => format!("{name}!"),
        Confidence::Time => format!("{name}?"),
        Confidence::Ambiguous => "*".into(),
        other => format!("{name} {other:?}"),
    }
}

#[track_caller]
fn expect(holders: &[Holder], expected: &[(i64, &str)]) {
    let segments = lay_out(holders);
    assert_eq!(segments[0].from, Timestamp::MIN);
    assert!(segments.windows(2).all(|pair| pair[0].from < pair[1].from));
    for &(secs, answer) in expected {
        assert_eq!(
            at_second(&segments, secs),
            answer,
            "at {secs} in {segments:#?}"
        );
    }
}

#[test]
fn an_address_passes_through_three_hands() {
    let holders = [
        holder("a", Tenure::between(at(1000), at(1300))),
        holder("b", Tenure::between(at(2000), at(2200))),
        holder("c", Tenure::since(at(2210))),
    ];
    expect(
        &holders,
        &[
            (997, "-"),
            (998, "a?"),
            (1000, "a!"),
            (1299, "a!"),
            (1300, "a?"),
            (1359, "a?"),
            (1360, "-"),
            (1999, "b?"),
            (2000, "b!"),
            // The tail of b ends where c may begin.
            (2207, "b?"),
            (2208, "c?"),
            (2210, "c!"),
            (1_000_000, "c!"),
        ],
    );
}

#[test]
fn a_successor_closes_whoever_is_not_known_to_have_gone() {
    let settling = Tenure {
        settled: Some(at(2010)),
        ..Tenure::since(at(2000))
    };
    let seen = Tenure {
        last_seen: Some(at(1500)),
        ..Tenure::since(at(1000))
    };
    // The new pod is accepted at 2000 and runs at 2010: until then the old one has the address. When it went is not
    // known, so it is doubtful from when it was last seen.
    expect(
        &[holder("old", seen), holder("new", settling)],
        &[
            (1500, "old!"),
            (1501, "old?"),
            (2009, "old?"),
            (2010, "new!"),
        ],
    );
    // A report of the end that comes too late doesn't take the address from the successor.
    let late = Tenure::between(at(1000), at(2060));
    expect(
        &[holder("old", late), holder("new", settling)],
        &[(2009, "old!"), (2010, "new!"), (2059, "new!")],
    );
    // An end in between is the boundary.
    let ended = Tenure::between(at(1000), at(2005));
    expect(
        &[holder("old", ended), holder("new", settling)],
        &[(2004, "old!"), (2005, "new!")],
    );
}

#[test]
fn an_end_long_after_a_successors_start_is_a_contradiction() {
    let holders = [
        holder("a", Tenure::between(at(1000), at(9000))),
        holder("b", Tenure::between(at(5000), at(20_000))),
    ];
    expect(
        &holders,
        &[
            (4999, "a!"),
            (5000, "*"),
            (8999, "*"),
            (9000, "b!"),
            (19_999, "b!"),
        ],
    );
}

#[test]
fn the_superseded_stays_superseded() {
    let first = Tenure {
        last_seen: Some(at(9000)),
        ..Tenure::since(at(1000))
    };
    let holders = [
        holder("a", first),
        holder("b", Tenure::between(at(2000), at(2100))),
    ];
    expect(
        &holders,
        &[
            (1999, "a!"),
            (2050, "b!"),
            (2159, "b?"),
            (2160, "-"),
            (9000, "-"),
        ],
    );
}

#[test]
fn equal_starts_are_ambiguous_while_both_last() {
    let holders = [
        holder("a", Tenure::between(at(1000), at(1100))),
        holder("b", Tenure::since(at(1000))),
    ];
    expect(
        &holders,
        &[(999, "-"), (1000, "*"), (1099, "*"), (1100, "b!")],
    );
    let namesakes = [
        holder("a", Tenure::between(at(1000), at(1100))),
        holder("a", Tenure::since(at(1000))),
    ];
    expect(&namesakes, &[(1000, "a!"), (1100, "a!")]);
}

#[test]
fn claims_without_times_have_what_is_left() {
    let timed = holder(
        "b",
        Tenure {
            last_seen: Some(at(1050)),
            ..Tenure::between(at(1000), at(1100))
        },
    );
    let untimed = holder("a", Tenure::untimed());
    expect(
        &[untimed.clone(), timed.clone()],
        &[
            (5, "a?"),
            (998, "b?"),
            (1000, "b!"),
            (1099, "b!"),
            (1159, "b?"),
            (1160, "a?"),
        ],
    );
    // Nothing says when the other was there: once b was last seen, it may have gone.
    let open = holder(
        "b",
        Tenure {
            last_seen: Some(at(1050)),
            ..Tenure::since(at(1000))
        },
    );
    expect(
        &[untimed.clone(), open],
        &[(999, "b?"), (1050, "b!"), (1051, "b?"), (9999, "b?")],
    );
    let other = holder("c", Tenure::untimed());
    expect(
        &[untimed, other, timed],
        &[(5, "*"), (1000, "b!"), (2000, "*")],
    );
}

#[test]
fn a_nameless_lease_makes_nothing_ambiguous() {
    let lease = holder("", Tenure::untimed());
    let pod = holder("a", Tenure::between(at(1000), at(1100)));
    expect(
        &[lease.clone(), pod],
        &[(5, "?"), (1000, "a!"), (5000, "?")],
    );
    expect(&[lease, holder("a", Tenure::untimed())], &[(5, "a?")]);
}

#[test]
fn an_end_alone_places_a_holder_after_those_who_left_before() {
    let left = Tenure {
        end: Some(at(3000)),
        standing: Standing::Leaving,
        ..Tenure::default()
    };
    let holders = [
        holder("a", Tenure::between(at(1000), at(1100))),
        holder("b", left),
    ];
    expect(
        &holders,
        &[
            (900, "-"),
            (1050, "a!"),
            (1100, "b?"),
            (2999, "b?"),
            (3059, "b?"),
            (3060, "-"),
        ],
    );
}

#[test]
fn one_that_left_unseen_is_exact_while_it_was_seen() {
    let gone = Tenure {
        last_seen: Some(at(1500)),
        standing: Standing::Leaving,
        ..Tenure::since(at(1000))
    };
    expect(
        &[holder("a", gone)],
        &[(1500, "a!"), (1501, "a?"), (9999, "a?")],
    );
}

#[test]
fn two_services_are_some_service() {
    let service = |name: &str| {
        let mut holder = holder(name, Tenure::untimed());
        Arc::make_mut(&mut holder.identity).kind = IdentityKind::Service;
        holder
    };
    let segments = lay_out(&[service("a"), service("b")]);
    let answer = segments[0].answer.as_ref().unwrap();
    assert_eq!(
        (answer.confidence, answer.identity.kind),
        (Confidence::Ambiguous, IdentityKind::Service)
    );
    assert_eq!(answer.identity.name, None);
}

/// The rules, moment by moment, with no regard to cost: who may be named at `time` (grace and confidence aside).
fn contenders(holders: &[Holder], time: Timestamp) -> Vec<&Holder> {
    let ends: Vec<_> = holders
        .iter()
        .filter_map(|holder| holder.tenure.end)
        .collect();
    let from = |holder: &Holder| {
        holder.tenure.start.unwrap_or_else(|| {
            let own = holder.tenure.end.unwrap_or(Timestamp::MAX);
            ends.iter()
                .copied()
                .filter(|&end| end < own)
                .max()
                .unwrap_or(Timestamp::MIN)
        })
    };
    let settled = |holder: &Holder| {
        let next = holders
            .iter()
            .map(from)
            .filter(|&start| start > from(holder))
            .min();
        let settled = holder
            .tenure
            .settled
            .unwrap_or_else(|| from(holder))
            .max(from(holder));
        settled.min(next.unwrap_or(Timestamp::MAX))
    };
    let present = |holder: &&Holder| {
        let superseded = holders
            .iter()
            .any(|other| from(other) > from(holder) && settled(other) <= time);
        from(holder) <= time && holder.tenure.end.is_none_or(|end| time < end) && !superseded
    };
    let present: Vec<_> = holders.iter().filter(present).collect();
    let first = present.iter().map(|holder| from(holder)).min();
    let mut named: Vec<_> = present
        .into_iter()
        .filter(|holder| Some(from(holder)) == first)
        .collect();
    // Whoever came before and is said to be there still, long after a successor settled, can't be overruled.
    let settled_all = named.iter().map(|holder| settled(holder)).min();
    if let (Some(first), Some(settled_all)) = (first, settled_all) {
        named.extend(holders.iter().filter(|other| {
            from(other) < first
                && other.tenure.end.is_some_and(|end| {
                    let end = end.max(from(other));
                    end > time && end > settled_all.after(LATE_REPORT)
                })
        }));
    }
    named
}

fn any_tenure() -> impl Strategy<Value = Tenure> {
    let moment = || proptest::option::weighted(0.7, 0_i64..400);
    (moment(), 0_i64..40, moment(), moment(), 0_usize..3).prop_map(
        |(start, settling, end, seen, standing)| {
            let end = end.map(|end| end.max(start.unwrap_or(0)));
            Tenure {
                start: start.map(at),
                settled: start.map(|start| at((start + settling).min(end.unwrap_or(i64::MAX)))),
                last_seen: seen.map(at),
                end: end.map(at),
                standing: [Standing::Silent, Standing::Current, Standing::Leaving][standing],
            }
        },
    )
}

fn any_holders() -> impl Strategy<Value = Vec<Holder>> {
    proptest::collection::vec(("[abcd]", any_tenure()), 0..7).prop_map(|all| {
        all.into_iter()
            .map(|(name, tenure)| holder(&name, tenure))
            .collect()
    })
}

proptest! {
    #[test]
    fn the_timeline_agrees_with_the_rules_taken_moment_by_moment(holders in any_holders()) {
        let segments = lay_out(&holders);
        let timed: Vec<_> = holders.iter().filter(|holder| !holder.tenure.is_untimed()).cloned().collect();
        let untimed: Vec<_> = holders.iter().filter(|holder| holder.tenure.is_untimed()).collect();
        for secs in 0..460 {
            let answer = &segments[index_at(&segments, at(secs))].answer;
            let present = contenders(&timed, at(secs));
            let one_name = present.iter().all(|holder| holder.same_name(present[0]));
            match answer {
                Some(answer) if answer.confidence == Confidence::Ambiguous => {
                    prop_assert_eq!(&answer.identity.name, &None);
                    let many_untimed = untimed.iter().any(|holder| !holder.same_name(untimed[0]));
                    prop_assert!(if present.is_empty() { many_untimed } else { !one_name }, "at {}", secs);
                }
                // Outside every stay there may be grace, or one without times; inside, the one present alone counts.
                Some(answer) if present.is_empty() => {
                    prop_assert_eq!(answer.confidence, Confidence::Time, "at {}", secs);
                }
                Some(answer) => {
                    prop_assert!(one_name, "at {}: {:?} named among several", secs, answer.identity.name);
                    prop_assert_eq!(&answer.identity.name, &present[0].identity.name, "at {}", secs);
                }
                None => prop_assert!(present.is_empty() && untimed.is_empty(), "at {}", secs),
            }
        }
    }

    #[test]
    fn timelines_do_not_depend_on_the_order_of_their_holders(holders in any_holders(), by in 0_usize..7) {
        let names = |segments: &[Segment]| {
            (0..460).map(|secs| at_second(segments, secs)).collect::<Vec<_>>()
        };
        let mut turned = holders.clone();
        turned.rotate_left(by.min(holders.len()));
        turned.reverse();
        prop_assert_eq!(names(&lay_out(&holders)), names(&lay_out(&turned)));
    }
}
