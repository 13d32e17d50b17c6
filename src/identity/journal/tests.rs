//! Claims in, names out: unit tests and properties.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::claim::{Standing, Tenure};
use crate::identity::{Identity, IdentityKind, Source};

const NET: NetworkId = NetworkId(0);

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn claim(address: &str, source: Source, uid: Option<&str>, name: &str, tenure: Tenure) -> Claim {
    Claim {
        network: NET,
        ip: ip(address),
        source,
        uid: uid.map(Into::into),
        sandbox: None,
        tenure,
        identity: Arc::new(Identity {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            uid: uid.map(Into::into),
            ..Identity::bare(IdentityKind::Pod)
        }),
    }
}

fn journal(claims: Vec<Claim>) -> Journal {
    let mut journal = Journal::default();
    journal.insert(claims);
    journal
}

fn name_at(journal: &Journal, address: &str, secs: i64) -> (Option<String>, Confidence) {
    let answer = journal.resolve(NET, ip(address), at(secs));
    (
        answer.identity.name.as_deref().map(Into::into),
        answer.confidence,
    )
}

#[test]
fn sources_that_mean_one_owner_merge() {
    let mut cached = claim(
        "10.1.0.5",
        Source::CniCache,
        Some("u1"),
        "web-x",
        Tenure::untimed(),
    );
    cached.sandbox = Some("s1".into());
    let mut lease = claim("10.1.0.5", Source::HostLocal, None, "", Tenure::untimed());
    lease.sandbox = Some("s1".into());
    lease.identity = Arc::new(Identity::bare(IdentityKind::Pod));
    let mut listed = claim(
        "10.1.0.5",
        Source::Kubernetes,
        Some("u1"),
        "web-x",
        Tenure::since(at(1000)),
    );
    Arc::make_mut(&mut listed.identity).node = Some("n1".into());
    let deleted = Tenure {
        end: Some(at(2000)),
        standing: Standing::Leaving,
        ..Tenure::default()
    };
    let watched = claim("10.1.0.5", Source::Watch, Some("u1"), "web-x", deleted);
    let by_hand = claim("10.1.0.5", Source::Csv, None, "web-x", Tenure::untimed());
    let journal = journal(vec![lease, by_hand, cached, watched, listed]);

    let answer = journal.resolve(NET, ip("10.1.0.5"), at(1500));
    assert_eq!(
        (answer.confidence, answer.source),
        (Confidence::Exact, Source::Watch)
    );
    assert_eq!(answer.identity.node.as_deref(), Some("n1"));
    assert_eq!(name_at(&journal, "10.1.0.5", 900).0, None);
    assert_eq!(name_at(&journal, "10.1.0.5", 2100).0, None);
    assert!(journal.disputed().is_empty());
}

#[test]
fn an_earlier_tenant_in_a_cache_ends_where_the_listed_one_begins() {
    let journal = journal(vec![
        claim(
            "10.1.0.5",
            Source::CniCache,
            Some("ua"),
            "a",
            Tenure::untimed(),
        ),
        claim(
            "10.1.0.5",
            Source::Kubernetes,
            Some("ub"),
            "b",
            Tenure::since(at(1000)),
        ),
    ]);
    assert_eq!(
        name_at(&journal, "10.1.0.5", 900),
        (Some("a".into()), Confidence::Time)
    );
    assert_eq!(name_at(&journal, "10.1.0.5", 1000).0.as_deref(), Some("b"));
    assert!(journal.disputed().is_empty());
}

#[test]
fn two_caches_that_disagree_name_nobody() {
    let journal = journal(vec![
        claim(
            "10.1.0.5",
            Source::CniCache,
            Some("ua"),
            "a",
            Tenure::untimed(),
        ),
        claim(
            "10.1.0.5",
            Source::CniCache,
            Some("ub"),
            "b",
            Tenure::untimed(),
        ),
    ]);
    let answer = journal.resolve(NET, ip("10.1.0.5"), at(5));
    assert_eq!(answer.confidence, Confidence::Ambiguous);
    assert_eq!(
        (answer.identity.kind, &answer.identity.name),
        (IdentityKind::Unknown, &None)
    );
    assert_eq!(journal.disputed(), [(NET, ip("10.1.0.5"))]);
}

#[test]
fn a_deletion_closes_its_own_owner_only_and_an_update_after_it_opens_nothing() {
    let gone = Tenure {
        end: Some(at(1500)),
        standing: Standing::Leaving,
        ..Tenure::default()
    };
    let update = Tenure {
        last_seen: Some(at(1900)),
        ..Tenure::since(at(1000))
    };
    let mut journal = Journal::default();
    for tenure in [Tenure::since(at(1000)), gone, update] {
        journal.insert([claim("10.1.0.5", Source::Watch, Some("ua"), "a", tenure)]);
    }
    journal.insert([claim(
        "10.1.0.5",
        Source::Watch,
        Some("ub"),
        "b",
        Tenure::since(at(1600)),
    )]);
    journal.insert([claim("10.1.0.5", Source::Watch, Some("ua"), "a", update)]);
    assert_eq!(
        name_at(&journal, "10.1.0.5", 1400),
        (Some("a".into()), Confidence::Exact)
    );
    assert_eq!(
        name_at(&journal, "10.1.0.5", 1700),
        (Some("b".into()), Confidence::Exact)
    );
    assert_eq!(name_at(&journal, "10.1.0.5", 1950).0.as_deref(), Some("b"));
    assert_eq!(journal.claims_count(), 2);
}

#[test]
fn a_set_pod_that_comes_back_with_its_address_keeps_its_name() {
    let journal = journal(vec![
        claim(
            "10.1.0.5",
            Source::Kubernetes,
            Some("u1"),
            "redis-0",
            Tenure::between(at(10), at(20)),
        ),
        claim(
            "10.1.0.5",
            Source::Kubernetes,
            Some("u2"),
            "redis-0",
            Tenure::since(at(30)),
        ),
        claim(
            "10.1.0.5",
            Source::Csv,
            None,
            "redis-0",
            Tenure::between(at(500), at(600)),
        ),
    ]);
    for secs in [15, 25, 35, 550] {
        assert_eq!(
            name_at(&journal, "10.1.0.5", secs).0.as_deref(),
            Some("redis-0"),
            "{secs}"
        );
    }
}

#[test]
fn a_tagged_network_falls_back_on_what_inventories_say_unless_it_has_its_own() {
    let mut own = claim("10.1.0.5", Source::Csv, None, "other", Tenure::since(at(1)));
    own.network = NetworkId(7);
    let journal = journal(vec![
        own,
        claim("10.1.0.5", Source::Csv, None, "plain", Tenure::since(at(1))),
    ]);
    let name = |vlan| {
        journal
            .resolve(NetworkId(vlan), ip("10.1.0.5"), at(5))
            .identity
            .name
            .clone()
    };
    assert_eq!(name(0).as_deref(), Some("plain"));
    assert_eq!(name(7).as_deref(), Some("other"));
    assert_eq!(name(8).as_deref(), Some("plain"));
}

#[test]
fn a_node_address_is_a_node_whatever_claims_it() {
    let mut journal = journal(vec![claim(
        "172.18.0.2",
        Source::Kubernetes,
        Some("u"),
        "exporter",
        Tenure::since(at(1)),
    )]);
    journal
        .networks_mut()
        .add_node(ip("172.18.0.2"), Some("n1".into()), Source::Kubernetes);
    let answer = journal.resolve(NET, ip("::ffff:172.18.0.2"), at(5));
    assert_eq!(
        (answer.identity.kind, answer.confidence),
        (IdentityKind::Node, Confidence::Node)
    );
    assert_eq!(answer.identity.name.as_deref(), Some("n1"));
    assert_eq!(
        journal.allocation(NET, ip("172.18.0.2"), at(5)),
        Allocation::Assigned
    );
}

#[test]
fn known_answers_share_their_identity() {
    let journal = journal(vec![claim(
        "10.1.0.5",
        Source::Csv,
        None,
        "a",
        Tenure::since(at(1)),
    )]);
    for address in ["10.1.0.5", "192.168.0.9", "203.0.113.9"] {
        let (a, b) = (
            journal.resolve(NET, ip(address), at(5)),
            journal.resolve(NET, ip(address), at(6)),
        );
        assert!(Arc::ptr_eq(&a.identity, &b.identity), "{address}");
    }
}

#[test]
fn the_darknet_is_what_nobody_held_for_a_while_in_a_range_that_is_known_whole() {
    let mut journal = journal(vec![claim(
        "10.1.0.5",
        Source::Watch,
        Some("u"),
        "a",
        Tenure::between(at(10_000), at(11_000)),
    )]);
    let range = |text: &str| text.parse().unwrap();
    journal.networks_mut().add_pods(range("10.1.0.0/16"));
    let node_range = range("10.1.0.0/24");
    journal.networks_mut().add_complete(node_range, at(5000));
    journal
        .networks_mut()
        .add_node_range(node_range, "n1".into());
    for (address, secs, expected) in [
        ("10.1.0.5", 10_500, Allocation::Assigned),
        ("10.1.0.5", 11_030, Allocation::Assigned),
        ("10.1.0.5", 11_500, Allocation::Recent),
        ("10.1.0.5", 9500, Allocation::Recent),
        ("10.1.0.5", 12_000, Allocation::Vacated),
        ("10.1.0.5", 9000, Allocation::Vacated),
        ("10.1.0.5", 4000, Allocation::Unknown),
        ("10.1.0.77", 10_500, Allocation::Unassigned),
        ("10.1.0.1", 10_500, Allocation::Assigned),
        ("10.1.0.0", 10_500, Allocation::Assigned),
        ("10.1.0.255", 10_500, Allocation::Unknown),
        ("10.1.1.77", 10_500, Allocation::Unknown),
        ("203.0.113.1", 10_500, Allocation::Unknown),
    ] {
        assert_eq!(
            journal.allocation(NET, ip(address), at(secs)),
            expected,
            "{address} {secs}"
        );
    }
}

#[test]
fn the_oldest_claims_go_first_and_are_counted() {
    let config = JournalConfig {
        max_claims: 16,
        max_claims_per_address: 4,
    };
    let mut journal = Journal::new(config);
    for i in 0..40_i64 {
        let (uid, tenure) = (
            format!("u{i}"),
            Tenure::between(at(i * 100), at(i * 100 + 50)),
        );
        journal.insert([claim("10.1.0.5", Source::Watch, Some(&uid), &uid, tenure)]);
    }
    assert_eq!((journal.claims_count(), journal.evicted()), (4, 36));
    assert_eq!(
        name_at(&journal, "10.1.0.5", 3910).0.as_deref(),
        Some("u39")
    );
    assert_eq!(name_at(&journal, "10.1.0.5", 10).0, None);
    for i in 0..40_i64 {
        let (uid, address) = (format!("v{i}"), format!("10.1.1.{i}"));
        let tenure = Tenure::between(at(i * 100), at(10_000 + i));
        journal.insert([claim(&address, Source::Watch, Some(&uid), &uid, tenure)]);
    }
    assert!(journal.claims_count() <= 16);
    assert_eq!(journal.claims_count() as u64 + journal.evicted(), 80);
    assert_eq!(
        name_at(&journal, "10.1.1.39", 5000).0.as_deref(),
        Some("v39")
    );
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let moment = || proptest::option::weighted(0.6, 0_i64..300);
    let source = prop_oneof![
        Just(Source::Csv),
        Just(Source::CniCache),
        Just(Source::Kubernetes),
        Just(Source::Watch),
        Just(Source::HostLocal),
    ];
    let who = (
        proptest::option::of("u[1-3]"),
        proptest::option::of("s[1-3]"),
        "[ab]?",
    );
    (
        0..3_u8,
        source,
        who,
        moment(),
        moment(),
        moment(),
        any::<bool>(),
    )
        .prop_map(
            |(host, source, (uid, sandbox, name), start, end, seen, current)| {
                let mut claim = claim(
                    &format!("10.1.0.{host}"),
                    source,
                    uid.as_deref(),
                    &name,
                    Tenure::untimed(),
                );
                claim.sandbox = sandbox.map(Into::into);
                if name.is_empty() {
                    Arc::make_mut(&mut claim.identity).name = None;
                }
                claim.tenure = Tenure {
                    start: start.map(at),
                    settled: start.map(|start| at(start + 3)),
                    last_seen: seen.map(at),
                    end: end.map(at),
                    standing: if current {
                        Standing::Current
                    } else {
                        Standing::Silent
                    },
                };
                claim
            },
        )
}

proptest! {
    #[test]
    fn the_order_in_which_claims_come_does_not_matter(
        claims in proptest::collection::vec(any_claim(), 0..12),
        order in any::<proptest::sample::Index>(),
    ) {
        let all_at_once = journal(claims.clone());
        let mut one_by_one = Journal::default();
        let mut shuffled = claims;
        if !shuffled.is_empty() {
            let at = order.index(shuffled.len());
            shuffled.rotate_left(at);
            shuffled.reverse();
        }
        for claim in shuffled {
            one_by_one.insert([claim]);
        }
        prop_assert_eq!(all_at_once.claims(), one_by_one.claims());
        for host in 0..3 {
            let address = ip(&format!("10.1.0.{host}"));
            for secs in 0..400 {
                prop_assert_eq!(
                    all_at_once.resolve(NET, address, at(secs)),
                    one_by_one.resolve(NET, address, at(secs))
                );
            }
        }
    }
}
