//! Of whole baselines: merging is learning on, and nothing that anybody does grows them beyond their bounds.

use proptest::collection::vec;
use proptest::prelude::*;

use super::testing::{at, id};
use super::*;
use crate::features::{Rate, Role};

/// Something a workload did.
#[derive(Clone, Debug)]
struct Deed {
    workload: u8,
    second: i64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Met(Role, u8),
    Said(u8),
    Moved(u8, u64, u64),
    Counted(u32),
}

fn deeds(seconds: std::ops::Range<i64>) -> impl Strategy<Value = Vec<Deed>> {
    let role = prop_oneof![Just(Role::Client), Just(Role::Server)];
    let what = prop_oneof![
        (role, 0_u8..20).prop_map(|(role, peer)| What::Met(role, peer)),
        (0_u8..20).prop_map(What::Said),
        (0_u8..20, 0_u64..1 << 30, 0_u64..1 << 30)
            .prop_map(|(peer, out, back)| What::Moved(peer, out, back)),
        (0_u32..5000).prop_map(What::Counted),
    ];
    let deed = (0_u8..3, seconds, what).prop_map(|(workload, second, what)| Deed {
        workload,
        second,
        what,
    });
    vec(deed, 0..80).prop_map(|mut deeds| {
        deeds.sort_by_key(|deed| deed.second);
        deeds
    })
}

fn contact(role: Role, peer: u8) -> Contact {
    Contact {
        role,
        peer: format!("domain:{peer}.example").into(),
        port: 443,
        protocol: 6,
    }
}

fn seen(deeds: &[Deed]) -> Baseline {
    let mut baseline = Baseline::default();
    for deed in deeds {
        let workload = id("shop", &deed.workload.to_string());
        let time = at(deed.second);
        baseline.change(&workload, |profile, names| {
            profile.saw(time);
            match &deed.what {
                What::Met(role, peer) => {
                    let contact = contact(*role, *peer);
                    let side = profile.side_mut(*role);
                    side.answered += 1;
                    side.meet(&contact, time, None, || names.get(&contact.peer));
                }
                What::Said(word) => {
                    let word = format!("{word}.example");
                    let side = profile.side_mut(Role::Client);
                    side.say(Vocabulary::Domain, &word, time, || names.get(&word));
                }
                What::Moved(peer, out, back) => {
                    let contact = contact(Role::Client, *peer);
                    let side = profile.side_mut(Role::Client);
                    side.flow(&contact, *out, *back, Duration::from_secs(*out % 500));
                }
                What::Counted(value) => {
                    profile.count(Rate::DnsQueries, f64::from(*value), time);
                }
            }
        });
    }
    baseline
}

/// Everything that can be asked of a workload, in a text.
fn answers(baseline: &Baseline) -> Vec<String> {
    let mut answers = Vec::new();
    for (workload, profile) in baseline.profiles() {
        answers.push(format!("{workload} {:?}", profile.span()));
        for role in [Role::Client, Role::Server] {
            answers.push(format!("{:?}", profile.peers().collect::<Vec<_>>()));
            answers.push(format!("{:.3}", profile.novelty_bits(role)));
            answers.push(format!(
                "{:?}",
                profile.word_counts(Vocabulary::Domain, role)
            ));
            for bytes in [100, 1 << 20, 1 << 34] {
                let class = crate::features::PeerClass::Outside;
                answers.push(format!("{:.3}", profile.volume_bits(role, class, bytes)));
            }
        }
        for value in [1.0, 300.0, 1e5] {
            answers.push(format!("{:.3}", profile.rate_bits(Rate::DnsQueries, value)));
        }
    }
    answers
}

proptest! {
    #[test]
    fn merging_two_sensors_days_is_learning_one_after_the_other(
        first in deeds(0..20_000),
        second in deeds(20_000..40_000),
    ) {
        let mut merged = seen(&first);
        merged.merge(&seen(&second));
        let on = seen(&[first, second].concat());
        prop_assert_eq!(answers(&merged), answers(&on));
    }

    #[test]
    fn what_is_merged_into_nothing_is_what_it_was(deeds in deeds(0..40_000)) {
        let was = seen(&deeds);
        let mut merged = Baseline::default();
        merged.merge(&was);
        prop_assert_eq!(&merged, &was);
        let mut other = was.clone();
        other.merge(&Baseline::default());
        prop_assert_eq!(other, was);
    }
}

#[test]
fn a_workload_that_meets_and_says_something_new_each_time_stays_within_its_bounds() {
    let mut baseline = Baseline::default();
    let workload = id("shop", "api");
    let often = 200_000;
    for number in 0..often {
        baseline.change(&workload, |profile, names| {
            let name = format!("domain:{number}.example");
            let contact = Contact {
                role: if number % 2 == 0 {
                    Role::Client
                } else {
                    Role::Server
                },
                peer: name.as_str().into(),
                port: (number % 60_000) as u16,
                protocol: 6,
            };
            let time = at(number);
            let side = profile.side_mut(contact.role);
            side.meet(&contact, time, None, || names.get(&name));
            side.flow(&contact, 1, 1, Duration::from_secs(1));
            for vocabulary in Vocabulary::all() {
                side.say(vocabulary, &name, time, || names.get(&name));
            }
        });
    }
    let words: usize = Vocabulary::all().map(Vocabulary::limit).sum();
    let most = 2 * (limits::PEERS + limits::NETWORKS + words);
    let profile = baseline.profile(&workload).unwrap();
    let size = profile.size();
    assert!(size.entries <= most, "{} of {most}", size.entries);
    assert!(size.habits <= 2 * limits::HABITS);
    // What isn't listed is counted, so that the next stranger is no surprise.
    assert!(profile.novelty_bits(Role::Client) < 0.1);
    assert!(profile.contacts(Role::Client) >= often as u64 / 2 - 1);
    // Names that nobody bears any more are let go.
    baseline.age();
    assert!(baseline.names.len() <= most);
}

/// Ten hours of contacts, one a minute.
fn met(peers: impl Fn(i64) -> String) -> Baseline {
    let mut making = super::testing::Making::default();
    let workload = id("shop", "api");
    for n in 0..600 {
        let contact = super::testing::contact(&peers(n));
        making.meets(&workload, &contact, n * 60);
    }
    making.done()
}

/// The same new peer, by what each has done so far.
#[test]
fn a_crawler_and_a_closed_workload_meet_the_same_stranger() {
    let workload = id("shop", "api");
    let stranger = super::testing::contact("domain:stranger.example");
    let costs = |baseline: &Baseline| {
        let lineage = baseline.lineage(&workload);
        let profile = lineage.profile().unwrap();
        let (contacts, once) = (
            profile.contacts(Role::Client),
            profile.met_once(Role::Client),
        );
        (lineage.contact_bits(&stranger), contacts, once)
    };
    let closed = met(|n| format!("shop/StatefulSet/db{}", n % 2));
    let crawler = met(|n| format!("domain:site{n}.example"));
    let half = met(|n| format!("domain:site{}.example", if n % 2 == 0 { n } else { 1 }));
    for (who, baseline) in [("closed", &closed), ("half", &half), ("crawler", &crawler)] {
        let (bits, contacts, once) = costs(baseline);
        println!("{who}: {bits:.2} bits, for {once} of {contacts} contacts were with one met once");
        // What an analyst can check: −log2((N₁ + ½)/(N + 1)).
        let by_hand = -((once as f64 + 0.5) / (contacts as f64 + 1.0)).log2();
        assert!((bits - by_hand.max(0.0)).abs() < 1e-9, "{who}");
    }
    assert!(costs(&closed).0 > 10.0);
    assert!((0.9..1.1).contains(&costs(&half).0));
    assert!(costs(&crawler).0 < 0.01);
}

#[test]
fn a_clone_shares_what_did_not_change_since() {
    let mut baseline = Baseline::default();
    let touch = |baseline: &mut Baseline, name: &str, second: i64| {
        baseline.change(&id("shop", name), |profile, _| profile.saw(at(second)));
    };
    for name in ["api", "cart", "db"] {
        touch(&mut baseline, name, 0);
    }
    let saved = baseline.clone();
    touch(&mut baseline, "cart", 60);
    baseline.age();
    let shared = |name: &str| {
        let workload = id("shop", name);
        Arc::ptr_eq(&baseline.profiles[&workload], &saved.profiles[&workload])
    };
    assert_eq!(["api", "cart", "db"].map(shared), [true, false, true]);
    let cart = id("shop", "cart");
    assert_eq!(saved.profile(&cart).unwrap().span(), Some((at(0), at(0))));
}
