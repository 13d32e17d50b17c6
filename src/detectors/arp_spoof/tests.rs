//! What it must tell, and what not.

use std::sync::Arc;

use super::super::testing::Bench;
use super::*;
use crate::identity::{Claim, Identity, Journal, Source, Tenure, WorkloadId};

const API: (&str, Mac) = ("10.244.1.12", [2, 0, 0, 0, 0, 12]);
const WORKER: (&str, Mac) = ("10.244.1.14", [2, 0, 0, 0, 0, 14]);
const GATEWAY: (&str, Mac) = ("10.244.1.1", [2, 0, 0, 0, 0, 1]);

/// Two pods and their node.
fn journal() -> Journal {
    let mut journal = Journal::default();
    let gateway = GATEWAY.0.parse().unwrap();
    journal
        .networks_mut()
        .add_node(gateway, Some("n1".into()), Source::Kubernetes);
    for ((ip, _), name) in [(API, "api"), (WORKER, "worker")] {
        journal.insert([Claim {
            network: NetworkId::default(),
            ip: ip.parse().unwrap(),
            source: Source::Watch,
            uid: Some(name.into()),
            sandbox: None,
            tenure: Tenure::between(Timestamp::from_secs(0), Timestamp::from_secs(1_000_000)),
            identity: Arc::new(Identity {
                namespace: Some("prod".into()),
                name: Some(name.into()),
                uid: Some(name.into()),
                workload: Some(WorkloadId {
                    namespace: "prod".into(),
                    kind: "Deployment".into(),
                    name: name.into(),
                }),
                ..Identity::bare(IdentityKind::Pod)
            }),
        }]);
    }
    journal
}

struct Link {
    bench: Bench,
    journal: Journal,
}

impl Link {
    fn new(journal: Journal) -> Self {
        let bench = Bench::new("arp-spoof").knowing(journal.clone());
        Self { bench, journal }
    }

    fn says(&mut self, at: f64, (ip, hardware): (&str, Mac), to: &str, reply: bool) {
        let end = |ip: &str| {
            let ip = ip.parse().unwrap();
            let time = Timestamp::from_secs_f64(at);
            let who = self.journal.resolve(NetworkId::default(), ip, time);
            Endpoint { ip, who }
        };
        let kind = EventKind::Resolution {
            actor: end(ip),
            target: end(to),
            network: NetworkId::default(),
            hardware: Some(hardware),
            reply,
        };
        self.bench.event(at, kind);
    }

    /// One asks, the other answers.
    fn resolve(&mut self, at: f64, asks: (&str, Mac), answers: (&str, Mac)) {
        self.says(at, asks, answers.0, false);
        self.says(at + 0.01, answers, asks.0, true);
    }
}

/// The worker tells api that it is the gateway, every few seconds, and the gateway that it is api.
fn poisoned(journal: Journal, every: f64, gratuitous: bool) -> Link {
    let mut link = Link::new(journal);
    link.resolve(90.0, WORKER, GATEWAY);
    link.resolve(91.0, WORKER, API);
    for n in 0..10 {
        let at = 100.0 + f64::from(n) * every;
        let (as_gateway, as_api) = ((GATEWAY.0, WORKER.1), (API.0, WORKER.1));
        let [to_api, to_gateway] = if gratuitous {
            [GATEWAY.0, API.0]
        } else {
            [API.0, GATEWAY.0]
        };
        link.says(at, as_gateway, to_api, true);
        link.says(at + 0.1, as_api, to_gateway, true);
        link.resolve(at + 0.2, GATEWAY, API);
    }
    link.bench.finish(1000.0);
    link
}

#[test]
fn poisoning_is_found_fast_and_slow_with_an_inventory_and_without() {
    for every in [0.5, 2.0, 20.0] {
        for (journal, gratuitous) in [
            (journal(), false),
            (journal(), true),
            (Journal::default(), false),
        ] {
            let link = poisoned(journal, every, gratuitous);
            assert!(link.bench.alerts(), "{every} {gratuitous}");
            let last = link.bench.findings.last().unwrap();
            assert_eq!(last.actor.ip.to_string(), WORKER.0);
            assert_eq!(last.target_count, 2);
            let by_victims = link.bench.findings.iter();
            let by_victims = by_victims.filter(|one| one.actor.ip.to_string() != WORKER.0);
            assert_eq!(by_victims.count(), 0, "{every} {gratuitous}");
        }
    }
}

#[test]
fn neighbours_of_ipv6_are_held_to_the_same() {
    let [api, worker, gateway] = [
        ("fd00:1::12", API.1),
        ("fd00:1::14", WORKER.1),
        ("fd00:1::1", GATEWAY.1),
    ];
    let mut link = Link::new(Journal::default());
    // Hosts speak under a link's address as well, and answer for both.
    link.resolve(80.0, ("fe80::14", WORKER.1), ("fe80::1", GATEWAY.1));
    link.resolve(90.0, worker, gateway);
    link.resolve(91.0, worker, api);
    link.resolve(92.0, gateway, ("fe80::14", WORKER.1));
    link.bench.finish(99.0);
    assert!(link.bench.findings.is_empty());
    for n in 0..10 {
        let at = 100.0 + f64::from(n) * 2.0;
        link.says(at, (gateway.0, WORKER.1), api.0, true);
        link.resolve(at + 0.5, gateway, api);
    }
    assert!(link.bench.alerts(), "{}", link.bench.bits());
    let last = link.bench.findings.last().unwrap();
    assert_eq!(last.actor.ip.to_string(), worker.0);
    assert!(last.summary.contains("neighbour discovery"));
}

#[test]
fn questions_in_anothers_name_poison_like_answers() {
    let mut link = Link::new(journal());
    link.resolve(90.0, WORKER, GATEWAY);
    for n in 0..4 {
        link.says(
            100.0 + f64::from(n) * 10.0,
            (GATEWAY.0, WORKER.1),
            API.0,
            false,
        );
    }
    assert!(link.bench.alerts(), "{}", link.bench.bits());
}

#[test]
fn two_who_answer_for_one_pods_address_are_told() {
    let stray: Mac = [2, 0, 0, 0, 0, 77];
    // A container nobody knows; a pod that was given another address; and where no inventory says whose address it is.
    for (journal, at_home, alerts) in [
        (journal(), None, Some(API.0)),
        (journal(), Some(WORKER.0), Some(WORKER.0)),
        (Journal::default(), None, None),
    ] {
        let mut link = Link::new(journal);
        if let Some(home) = at_home {
            link.resolve(90.0, (home, stray), GATEWAY);
        }
        for n in 0..6 {
            let at = 100.0 + f64::from(n) * 7.0;
            link.resolve(at, GATEWAY, API);
            link.says(at + 0.02, (API.0, stray), GATEWAY.0, true);
        }
        link.bench.finish(1000.0);
        let told = link.bench.findings.last().filter(|_| link.bench.alerts());
        let told = told.map(|finding| finding.actor.ip.to_string());
        assert_eq!(told.as_deref(), alerts, "{at_home:?}");
    }
}

#[test]
fn new_pods_failovers_proxies_and_shared_addresses_are_left_alone() {
    let mut link = Link::new(journal());
    // Another pod is given api's address, and says so as Docker and keepalived do.
    let heir = (API.0, [2, 0, 0, 0, 0, 99]);
    link.resolve(10.0, API, GATEWAY);
    for n in 0..5 {
        link.says(20.0 + f64::from(n), heir, API.0, false);
    }
    link.resolve(30.0, heir, GATEWAY);
    // A virtual address goes from one host to another, back, and there again.
    let (one, two) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
    link.resolve(40.0, ("172.18.0.11", one), ("172.18.0.1", [2; 6]));
    link.resolve(41.0, ("172.18.0.12", two), ("172.18.0.1", [2; 6]));
    for (turn, holder) in [one, two, one, two, one].into_iter().enumerate() {
        for n in 0..5 {
            let at = 50.0 + turn as f64 * 60.0 + f64::from(n);
            link.says(at, ("172.18.0.100", holder), "172.18.0.100", false);
        }
    }
    // A node's end answers for everybody, as its proxy; and a pod's interface has many addresses (ipvlan).
    link.resolve(400.0, GATEWAY, WORKER);
    for n in 0..20 {
        let at = 410.0 + f64::from(n);
        let other = format!("10.244.1.{}", 100 + n);
        link.says(at, (&other, GATEWAY.1), WORKER.0, true);
        link.says(at + 0.5, (&other, WORKER.1), &other, false);
        link.resolve(at + 0.6, WORKER, GATEWAY);
    }
    // VRRP's own Ethernet address, and Calico's.
    for hardware in [[0, 0, 0x5e, 0, 1, 7], [0xee; 6]] {
        link.resolve(500.0, ("10.244.1.50", hardware), GATEWAY);
        for n in 0..10 {
            let at = 501.0 + f64::from(n) * 2.0;
            link.says(at, (API.0, hardware), WORKER.0, true);
            link.resolve(at + 1.0, API, GATEWAY);
        }
    }
    link.bench.finish(2000.0);
    assert!(link.bench.findings.is_empty(), "{:?}", link.bench.findings);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut link = Link::new(Journal::default());
    for n in 0..30_000_u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let ip = format!("10.{b}.{c}.{d}");
        link.says(f64::from(n), (&ip, [2, 0, a, b, c, d]), "10.0.0.1", false);
    }
    let size = link.bench.state_size();
    assert!(size.entries <= size.limit);
}
