//! `arp-spoof`: a pod says by ARP, or IPv6's neighbour discovery, that another's address is its own.
//!
//! Whoever wants others' packets on a bridge must tell the link, again and again, that their addresses are at his Ethernet
//! address, for the rightful owners' answers put it right each time. So an Ethernet address that asks under one IP address
//! and speaks, unasked, for another that somebody else speaks for too, is at it. So is one that answers for a pod's address
//! when that pod does, too: a pod has one Ethernet address, and two that answer in turn are two owners. An address that changes hands once is a
//! failover or a new pod; one Ethernet address with many IP addresses and no rival is ipvlan or a proxy.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::suspects::target;
use super::watch::{Watch, Watched, at_least, weigh};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::address::{Mac, NetworkId, is_group};
use crate::event::{Endpoint, Event, EventKind, EventKinds};
use crate::features::Bounded;
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
/// So often a pod must have taken its own address back.
const MIN_TURNS: u64 = 3;
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
    addresses: Bounded<(NetworkId, IpAddr), Address>,
    /// Under which address an Ethernet address asked first.
    stations: Bounded<(NetworkId, Mac), IpAddr>,
    /// Who asked for whom, and when last.
    asked: Bounded<(NetworkId, IpAddr, IpAddr), Timestamp>,
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
    /// Whether it is the address itself that two answer for.
    shared: bool,
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
            addresses: Bounded::new(room),
            stations: Bounded::new(room),
            asked: Bounded::new(room),
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
        let contest = Duration::from_secs(self.thresholds.contest_secs);
        let (address, gone) = self.addresses.entry_or_insert_with(key, Address::default);
        self.evicted += u64::from(gone.is_some());
        let owners = &mut address.owners;
        let taken = owners.last().is_some_and(|last| {
            last.hardware != message.hardware
                && !is_shared(last.hardware)
                && message.time.since(last.last) <= contest
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
        let mut evidence = Vec::new();
        if lies.shared {
            evidence.push(Evidence {
                feature: "arp.two_owners",
                family: Family::Deception,
                observed: 2.0,
                expected: "1: a pod has one Ethernet address".into(),
                bits: BITS_ANOTHERS,
                signature_grade: false,
                text: "two Ethernet addresses answer for what the inventory gives to one pod"
                    .into(),
            });
        }
        if lies.claims > 0 {
            evidence.push(Evidence {
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
            });
        }
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
        if lies.shared {
            return lies.turns >= MIN_TURNS && weigh(&Self::evidence(lies)) >= self.alert_bits;
        }
        let claims = if lies.anothers {
            lies.claims
        } else {
            lies.aimed
        };
        claims >= self.thresholds.min_claims
            && (lies.anothers || lies.turns >= 2)
            && weigh(&Self::evidence(lies)) >= self.alert_bits
    }

    /// Whether those who speak for an address besides are at home nowhere else: else it is they that lie, and not its owner.
    fn is_strays(&self, message: &Message<'_>) -> bool {
        let (network, ip) = (message.network, message.actor.ip);
        let home = |owner: &Owner| self.stations.peek(&(network, owner.hardware));
        self.addresses.peek(&(network, ip)).is_some_and(|address| {
            let mut owners = address.owners.iter();
            owners.all(|owner| home(owner).is_none_or(|home| *home == ip))
        })
    }

    /// A pod's address is spoken for by another than just before, who speaks for nothing else.
    fn shared(&mut self, message: &Message<'_>, took: u64, out: &mut Findings) {
        let source = self.liars.sign(message.actor, message.time);
        let lies = &mut source.state;
        lies.shared = true;
        lies.turns = lies.turns.max(took);
        lies.taken.insert(message.actor.ip);
        let lies = std::mem::take(lies);
        let told = self.is_told(&lies);
        if let Some(source) = self.liars.known(message.actor) {
            source.state = lies;
            if told && source.is_news(source.state.turns) {
                out.push(finding(source));
            }
        }
    }

    fn take(&mut self, message: &Message<'_>, context: &Context<'_>, out: &mut Findings) {
        let unasked = self.is_unasked(message);
        let (took, rivals) = self.spoke(message);
        let station = (message.network, message.hardware);
        let named = |end: &Endpoint| {
            matches!(
                end.who.confidence,
                Confidence::Exact | Confidence::Time | Confidence::Node
            )
        };
        let kind = |end: &Endpoint| end.who.identity.kind;
        let own = self.stations.get(&station).copied();
        // Whoever asks, or answers when asked, is at home under that address: the answers come to it.
        if own.is_none() && !unasked && !is_link_local(message.actor.ip) {
            self.stations.put(station, message.actor.ip);
        }
        let Some(own) = own.filter(|own| *own != message.actor.ip) else {
            let one = kind(message.actor) == IdentityKind::Pod && named(message.actor);
            if took > 0 && one && !is_shared(message.hardware) && self.is_strays(message) {
                self.shared(message, took, out);
            }
            return;
        };
        if !rivals || is_shared(message.hardware) {
            return;
        }
        let actor = Endpoint {
            ip: own,
            who: context.journal.resolve(message.network, own, message.time),
        };
        // Nodes answer for others, and hold addresses of services in turn.
        if kind(&actor) == IdentityKind::Node || kind(message.actor) == IdentityKind::Service {
            return;
        }
        let anothers = kind(&actor) == IdentityKind::Pod
            && named(&actor)
            && named(message.actor)
            && matches!(kind(message.actor), IdentityKind::Pod | IdentityKind::Node)
            && message.actor.who.identity != actor.who.identity;
        // A question asked in another's name poisons like an answer; so does an answer that was asked for, if the owner gives
        // it, too.
        if !unasked && message.reply && !(anothers && took >= MIN_TURNS) {
            return;
        }
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
        summary: if lies.claims == 0 {
            format!(
                "has its address answered for by {} from two Ethernet addresses, which took it from each other {} times",
                protocol(lies),
                lies.turns
            )
        } else {
            format!(
                "told others by {}, {} times, that {} is at its own Ethernet address",
                protocol(lies),
                lies.claims,
                first.join(", ")
            )
        },
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
            limit: self.addresses.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.liars.losses();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
