//! One workload's normal: whom it meets, what it asks for, how much of it a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::features::{Contact, LogHistogram, Rate, Role};
use crate::time::Timestamp;

/// Peers remembered per workload.
const MAX_PEERS: usize = 1024;
/// Registered domains remembered per workload.
const MAX_DOMAINS: usize = 1024;
/// A profile younger than this, or thinner, is still learning.
const STABLE_AFTER: Duration = Duration::from_hours(24);
const STABLE_CONTACTS: u64 = 200;

/// How far a profile can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Maturity {
    /// Nothing is known.
    None,
    /// Too little has been seen to call anything unusual by itself.
    Learning,
    /// At least a day and 200 contacts.
    Stable,
}

impl Maturity {
    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Learning => "learning",
            Self::Stable => "stable",
        }
    }
}

/// How often something was seen, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStat {
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

impl PeerStat {
    fn see(&mut self, time: Timestamp) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.count = self.count.saturating_add(1);
    }

    const fn new(time: Timestamp) -> Self {
        Self {
            first: time,
            last: time,
            count: 1,
        }
    }
}

/// What a workload has been seen to do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    pub(super) span: Option<(Timestamp, Timestamp)>,
    /// Peers that answered, or that it answered.
    pub(super) peers: BTreeMap<Contact, PeerStat>,
    /// Registered domains asked for.
    pub(super) domains: BTreeMap<Arc<str>, PeerStat>,
    pub(super) rates: BTreeMap<Rate, LogHistogram>,
    /// Flows it began that were answered, and that failed.
    pub(super) answered: u64,
    pub(super) failed: u64,
}

impl Profile {
    /// First and last sight of the workload.
    pub const fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.span
    }

    /// Time between first and last sight.
    pub fn observed(&self) -> Duration {
        self.span
            .map(|(first, last)| last.since(first))
            .unwrap_or_default()
    }

    /// How far it can be trusted.
    pub fn maturity(&self) -> Maturity {
        if self.span.is_none() {
            Maturity::None
        } else if self.observed() >= STABLE_AFTER && self.answered >= STABLE_CONTACTS {
            Maturity::Stable
        } else {
            Maturity::Learning
        }
    }

    /// Peers known, with how often each was met.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = (&Contact, &PeerStat)> {
        self.peers.iter()
    }

    /// Registered domains known, with how often each was asked for.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &PeerStat)> {
        self.domains.iter()
    }

    /// The histogram of a rate, if any minute was counted.
    pub fn rate(&self, rate: Rate) -> Option<&LogHistogram> {
        self.rates.get(&rate)
    }

    /// Whether this very contact was seen before.
    pub fn knows(&self, contact: &Contact) -> bool {
        self.peers.contains_key(contact)
    }

    /// Whether the domain was asked for before.
    pub fn knows_domain(&self, domain: &str) -> bool {
        self.domains.contains_key(domain)
    }

    /// Bits of surprise at meeting a peer never met before in this role: −log2 of the Good–Turing estimate
    /// P(new) = N₁/N (I. J. Good, Biometrika 1953), with N₁ and N each raised a little so that a workload without a single
    /// stranger so far is not thought incapable of one.
    pub fn novelty_bits(&self, role: Role) -> f64 {
        let (mut total, mut once) = (0_u64, 0_u64);
        for (contact, stat) in &self.peers {
            if contact.role == role {
                total = total.saturating_add(stat.count);
                once += u64::from(stat.count == 1);
            }
        }
        novelty_bits(total, once)
    }

    /// Contacts made in a role, over all peers.
    pub fn contacts(&self, role: Role) -> u64 {
        self.peers
            .iter()
            .filter(|(contact, _)| contact.role == role)
            .map(|(_, stat)| stat.count)
            .sum()
    }

    /// The share of begun flows that were answered, drawn towards 0.8 while there are few (a Beta(8, 2) prior, as the
    /// sequential scan test assumes), kept between 0.5 and 0.97.
    pub fn success_rate(&self) -> f64 {
        let (answered, failed) = (self.answered as f64, self.failed as f64);
        ((answered + 8.0) / (answered + failed + 10.0)).clamp(0.5, 0.97)
    }

    pub(super) fn saw(&mut self, time: Timestamp) {
        self.span = Some(match self.span {
            Some((first, last)) => (first.min(time), last.max(time)),
            None => (time, time),
        });
    }

    /// False if there was no room.
    pub(super) fn meet(&mut self, contact: Contact, time: Timestamp) -> bool {
        see(&mut self.peers, contact, time, MAX_PEERS)
    }

    /// False if there was no room.
    pub(super) fn ask(&mut self, domain: Arc<str>, time: Timestamp) -> bool {
        see(&mut self.domains, domain, time, MAX_DOMAINS)
    }
}

fn see<K: Ord>(map: &mut BTreeMap<K, PeerStat>, key: K, time: Timestamp, limit: usize) -> bool {
    if let Some(stat) = map.get_mut(&key) {
        stat.see(time);
        return true;
    }
    let room = map.len() < limit;
    if room {
        map.insert(key, PeerStat::new(time));
    }
    room
}

fn novelty_bits(total: u64, once: u64) -> f64 {
    let p = (once as f64 + 0.5) / (total as f64 + 1.0);
    -p.min(1.0).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(peer: &str) -> Contact {
        Contact {
            role: Role::Client,
            peer: peer.into(),
            port: 443,
            protocol: 6,
        }
    }

    fn profile(peers: impl IntoIterator<Item = (String, u64)>) -> Profile {
        let mut profile = Profile::default();
        for (peer, count) in peers {
            for _ in 0..count {
                profile.meet(contact(&peer), Timestamp::from_secs(1));
            }
        }
        profile
    }

    #[test]
    fn a_closed_workload_is_surprised_and_a_crawler_is_not() {
        let closed = profile([("db".into(), 500), ("cache".into(), 523)]);
        let crawler = profile((0..900).map(|n| (format!("site{n}"), 1 + u64::from(n % 10 == 0))));
        assert!(closed.novelty_bits(Role::Client) > 10.0);
        assert!(crawler.novelty_bits(Role::Client) < 1.0);
        assert_eq!(Profile::default().novelty_bits(Role::Client), 1.0);
    }

    #[test]
    fn an_attacker_cannot_grow_a_profile_without_bound() {
        let mut profile = profile((0..MAX_PEERS as u64).map(|n| (n.to_string(), 1)));
        assert!(!profile.meet(contact("one more"), Timestamp::from_secs(2)));
        assert!(profile.meet(contact("0"), Timestamp::from_secs(2)));
        assert_eq!(profile.peers().len(), MAX_PEERS);
    }

    #[test]
    fn maturity_needs_time_and_contacts() {
        let mut profile = Profile::default();
        assert_eq!(profile.maturity(), Maturity::None);
        profile.saw(Timestamp::from_secs(0));
        profile.answered = 1000;
        assert_eq!(profile.maturity(), Maturity::Learning);
        profile.saw(Timestamp::from_secs(90_000));
        assert_eq!(profile.maturity(), Maturity::Stable);
    }
}
