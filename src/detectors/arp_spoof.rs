//! `arp-spoof`: a pod says by ARP, or IPv6's neighbour discovery, that another's address is its own.
//!
//! Whoever wants others' packets on a bridge must tell the link, again and again, that their addresses are at his Ethernet
//! address, for the rightful owners' answers put it right each time. So an Ethernet address that asks under one IP address
//! and speaks, unasked, for another that somebody else speaks for too, is at it. An address that changes hands once is a
//! failover or a new pod; one Ethernet address with many IP addresses and no rival is ipvlan or a proxy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use lru::LruCache;
use serde::Deserialize;

use super::suspects::target;
use super::watch::{Watch, Watched, at_least, weigh};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::address::{Mac, NetworkId, is_group};
use crate::event::{Endpoint, Event, EventKind, EventKinds};
use crate::features::bounded;
use crate::identity::{Confidence, IdentityKind};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "arp-spoof",
    sees: EventKinds::RESOLUTION,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(ArpSpoof::new(thresholds, signature.alert_bits)))
    },
};

/// An answer this long after its question is none to it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Owners remembered of an address.
const MAX_OWNERS: usize = 4;
/// Others' addresses told apart, and those listed.
const MAX_TAKEN: usize = 256;
const MAX_TARGETS: usize = 16;
/// That the inventory gives the address to another pod, or to the node, and that other was heard.
const BITS_ANOTHERS: f64 = 10.0;
/// Each time somebody takes an address back: duplicate addresses do so, too, but no pod is given two.
const BITS_PER_TURN: f64 = 4.0;
const MAX_BITS_TURNS: f64 = 12.0;
/// Each time an address is spoken for unasked; hosts do so for their own a few times when they start.
const BITS_PER_CLAIM: f64 = 2.0;
const MAX_BITS_CLAIMS: f64 = 12.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Unasked claims below which nothing is said.
    min_claims: u64,
    /// How long after one owner spoke another's speaking takes the address from it.
    contest_secs: u64,
    max_sources: usize,
    forget_after_secs: u64,
}

struct ArpSpoof {
    thresholds: Thresholds,
    alert_bits: f64,
    /// Who spoke for an address.
    addresses: LruCache<(NetworkId, IpAddr), Address>,
    /// Under which address an Ethernet address asked first.
    stations: LruCache<(NetworkId, Mac), IpAddr>,
    /// Who asked for whom, and when last.
    asked: LruCache<(NetworkId, IpAddr, IpAddr), Timestamp>,
    liars: Watch<Lies>,
    evicted: u64,
}

#[derive(Default)]
struct Address {
    /// The latest last.
    owners: Vec<Owner>,
}

struct Owner {
    hardware: Mac,
    last: Timestamp,
    /// How often it took the address from another who had just spoken for it.
    took: u64,
}

/// What an end has said of others' addresses.
#[derive(Default)]
struct Lies {
    /// Unasked claims of others' addresses.
    claims: u64,
    /// Of those, the ones addressed to somebody: failovers tell everybody.
    aimed: u64,
    /// The most that one address was taken back.
    turns: u64,
    /// Whether the inventory gives one of the addresses to another.
    anothers: bool,
    /// Whose addresses.
    taken: BTreeSet<IpAddr>,
    targets: Vec<(Endpoint, u16)>,
}

/// A message, as it is judged.
struct Message<'a> {
    network: NetworkId,
    hardware: Mac,
    actor: &'a Endpoint,
    target: &'a Endpoint,
    reply: bool,
    time: Timestamp,
}

impl ArpSpoof {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        let room = thresholds.max_sources;
        Self {
            addresses: bounded(room),
            stations: bounded(room),
            asked: bounded(room),
            liars: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            evicted: 0,
            thresholds,
            alert_bits,
        }
    }

    /// Whether nobody asked for what a message says of its sender.
    fn is_unasked(&mut self, message: &Message<'_>) -> bool {
        let (speaker, other) = (message.actor.ip, message.target.ip);
        if !message.reply {
            if speaker != other {
                self.asked
                    .put((message.network, speaker, other), message.time);
            }
            return speaker == other;
        }
        let asked = self.asked.peek(&(message.network, other, speaker));
        asked.is_none_or(|&asked| message.time.since(asked) > ANSWERED_WITHIN)
    }

    /// Notes who speaks for an address; how often the speaker has taken it from others by now, and whether anybody else ever
    /// spoke for it.
    fn spoke(&mut self, message: &Message<'_>) -> (u64, bool) {
        let key = (message.network, message.actor.ip);
        self.evicted += u64::from(
            self.addresses.len() >= self.addresses.cap().get() && !self.addresses.contains(&key),
        );
        let contest = Duration::from_secs(self.thresholds.contest_secs);
        let owners = &mut self
            .addresses
            .get_or_insert_mut(key, Address::default)
            .owners;
        let taken = owners.last().is_some_and(|last| {
            last.hardware != message.hardware && message.time.since(last.last) <= contest
        });
        let known = owners
            .iter()
            .position(|owner| owner.hardware == message.hardware);
        let mut owner = match known {
            Some(known) => owners.remove(known),
            None => Owner {
                hardware: message.hardware,
                last: message.time,
                took: 0,
            },
        };
        owner.last = message.time;
        owner.took += u64::from(taken);
        let took = owner.took;
        if owners.len() >= MAX_OWNERS {
            owners.remove(0);
        }
        let rivals = owners.iter().any(|rival| !is_shared(rival.hardware));
        owners.push(owner);
        (took, rivals)
    }

    fn evidence(lies: &Lies) -> Vec<Evidence> {
        let mut evidence = vec![Evidence {
            feature: "arp.unasked",
            family: Family::Protocol,
            observed: lies.claims as f64,
            expected: "0: one speaks unasked for one's own address alone".into(),
            bits: (lies.claims as f64 * BITS_PER_CLAIM).min(MAX_BITS_CLAIMS),
            signature_grade: false,
            text: format!(
                "{} {} messages that nobody asked for give {} of others to it",
                lies.claims,
                protocol(lies),
                addresses(lies.taken.len() as u64)
            ),
        }];
        if lies.anothers {
            evidence.push(Evidence {
                feature: "arp.anothers_address",
                family: Family::Deception,
                observed: lies.taken.len() as f64,
                expected: "0".into(),
                bits: BITS_ANOTHERS,
                signature_grade: false,
                text: "the inventory gives the address to another, who was heard, too".into(),
            });
        }
        if lies.turns > 0 {
            evidence.push(Evidence {
                feature: "arp.turns",
                family: Family::Outcome,
                observed: lies.turns as f64,
                expected: "≤ 1: an address changes hands once".into(),
                bits: (lies.turns as f64 * BITS_PER_TURN).min(MAX_BITS_TURNS),
                signature_grade: false,
                text: format!(
                    "took an address {} times from somebody who went on speaking for it",
                    lies.turns
                ),
            });
        }
        evidence
    }

    /// Whether it is told. Without an inventory only what was aimed at somebody and contested: a standby that takes over
    /// tells everybody, and there is no contest.
    fn is_told(&self, lies: &Lies) -> bool {
        let claims = if lies.anothers {
            lies.claims
        } else {
            lies.aimed
        };
        claims >= self.thresholds.min_claims
            && (lies.anothers || lies.turns >= 2)
            && weigh(&Self::evidence(lies)) >= self.alert_bits
    }

    fn take(&mut self, message: &Message<'_>, context: &Context<'_>, out: &mut Findings) {
        let unasked = self.is_unasked(message);
        let (took, rivals) = self.spoke(message);
        let station = (message.network, message.hardware);
        let Some(&own) = self.stations.get(&station) else {
            // Whoever asks, or answers when asked, is at home under that address: the answers come to it.
            if !unasked && !is_link_local(message.actor.ip) {
                self.stations.put(station, message.actor.ip);
            }
            return;
        };
        // A question asked in another's name poisons like an answer.
        let lies = own != message.actor.ip && (unasked || !message.reply);
        if !lies || !rivals || is_shared(message.hardware) {
            return;
        }
        let actor = Endpoint {
            ip: own,
            who: context.journal.resolve(message.network, own, message.time),
        };
        let named = |end: &Endpoint| {
            matches!(
                end.who.confidence,
                Confidence::Exact | Confidence::Time | Confidence::Node
            )
        };
        let kind = |end: &Endpoint| end.who.identity.kind;
        // Nodes answer for others, and hold addresses of services in turn.
        if kind(&actor) == IdentityKind::Node || kind(message.actor) == IdentityKind::Service {
            return;
        }
        let anothers = kind(&actor) == IdentityKind::Pod
            && named(&actor)
            && named(message.actor)
            && matches!(kind(message.actor), IdentityKind::Pod | IdentityKind::Node)
            && message.actor.who.identity != actor.who.identity;
        let source = self.liars.sign(&actor, message.time);
        let lies = &mut source.state;
        lies.claims += 1;
        lies.aimed += u64::from(message.actor.ip != message.target.ip);
        lies.turns = lies.turns.max(took);
        lies.anothers |= anothers;
        if lies.taken.len() < MAX_TAKEN
            && lies.taken.insert(message.actor.ip)
            && lies.targets.len() < MAX_TARGETS
        {
            lies.targets.push((message.actor.clone(), 0));
        }
        let lies = std::mem::take(lies);
        let told = self.is_told(&lies);
        if let Some(source) = self.liars.known(&actor) {
            source.state = lies;
            if told && source.is_news(source.state.claims) {
                out.push(finding(source));
            }
        }
    }
}

/// What was lied by.
fn protocol(lies: &Lies) -> &'static str {
    if lies.taken.iter().any(IpAddr::is_ipv6) {
        "neighbour discovery"
    } else {
        "ARP"
    }
}

/// An address that every host of IPv6 has besides its own: by it nobody is known.
const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn addresses(count: u64) -> String {
    match count {
        1 => "an address".into(),
        n => format!("{} addresses", at_least(n, MAX_TAKEN)),
    }
}

fn finding(source: &Watched<Lies>) -> Finding {
    let lies = &source.state;
    let first: Vec<String> = lies
        .targets
        .iter()
        .take(3)
        .map(|(end, _)| end.ip.to_string())
        .collect();
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: lies.targets.iter().map(target).collect(),
        target_count: lies.taken.len() as u64,
        evidence: ArpSpoof::evidence(lies),
        flows: Vec::new(),
        summary: format!(
            "told others by {}, {} times, that {} is at its own Ethernet address",
            protocol(lies),
            lies.claims,
            first.join(", ")
        ),
    }
}

/// Ethernet addresses that several share by design: VRRP, HSRP, GLBP, load-balancing clusters, and the one that Calico gives
/// to the node's end of every pod's interface.
const fn is_shared(hardware: Mac) -> bool {
    matches!(
        hardware,
        [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
            | [0x00, 0x00, 0x0c, 0x07, 0xac, _]
            | [0x00, 0x00, 0x0c, 0x9f, 0xf0..=0xff, _]
            | [0x00, 0x07, 0xb4, _, _, _]
            | [0x02 | 0x03, 0xbf, _, _, _, _]
            | [0xee, 0xee, 0xee, 0xee, 0xee, 0xee]
    )
}

impl Detector for ArpSpoof {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::Resolution {
            actor,
            target,
            network,
            hardware: Some(hardware),
            reply,
        } = &event.kind
        else {
            return;
        };
        // A probe for an address that one would like to have speaks for none (RFC 5227).
        if actor.ip.is_unspecified() || is_group(actor.ip) || hardware[0] & 1 != 0 {
            return;
        }
        let message = Message {
            network: *network,
            hardware: *hardware,
            actor,
            target,
            reply: *reply,
            time: event.time,
        };
        self.take(&message, context, out);
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.liars.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.liars.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.addresses.len(),
            limit: self.addresses.cap().get(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.liars.losses();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests {
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
            if n % 3 == 1 {
                link.resolve(at + 0.5, GATEWAY, API);
            }
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
}
