//! A workload and the groups it belongs to: what its namespace and its cluster do stands in where it has no history yet.
//!
//! A workload answers for itself by n/(n + 60) of its n observations, its namespace answers for the rest, for what the
//! namespace lacks the cluster, and for what that lacks a guess (the built-in prior). For novelty the groups can only take
//! bits away: in a namespace full of crawlers a young workload's stranger is nothing, but nothing that others have done
//! makes a workload's first day remarkable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::habit;
use super::level;
use super::profile::Profile;
use super::surprise;
use super::table::Table;
use super::{Baseline, WorkloadId};
use crate::features::{Contact, LogHistogram, PeerClass, Rate, Role, Vocabulary};
use crate::time::Timestamp;

/// Workloads asked whether they know a peer, at most; a sample of more tells no more.
const ASKED: usize = 256;
/// Fewest workloads that make a habit common.
const FEWEST: usize = 4;
/// What a peer's being well known can take away, in bits.
const MOST_COMMON_BITS: f64 = 6.0;
/// How many sightings a group's novelty counts as, against a workload's own.
const GROUP_SIGHTINGS: f64 = 20.0;

/// How often each workload of a group meets something new, in ascending order.
#[derive(Clone, Default, Debug)]
struct Novelty(Vec<f64>);

impl Novelty {
    fn add(&mut self, table: &Table) {
        if table.sightings() > 0 {
            self.0.push((-table.novelty_bits()).exp2());
        }
    }

    /// Half of the workloads meet new things less often: one crawler doesn't make a namespace of crawlers.
    fn usual(&self) -> Option<f64> {
        let middle = self.0.get(self.0.len() / 2)?;
        (self.0.len() >= FEWEST).then_some(*middle)
    }
}

/// What the workloads of a group do, taken together.
#[derive(Clone, Default, Debug)]
struct Pool {
    rates: BTreeMap<Rate, LogHistogram>,
    volumes: BTreeMap<(Role, PeerClass), LogHistogram>,
    peers: BTreeMap<Role, Novelty>,
    words: BTreeMap<(Vocabulary, Role), Novelty>,
}

impl Pool {
    fn add(&mut self, profile: &Profile) {
        for (rate, level) in profile.rates.iter() {
            habit::merge(self.rates.entry(rate).or_default(), &level.minutes);
        }
        for role in [Role::Client, Role::Server] {
            for class in PeerClass::ALL {
                let flows = profile.volumes(role, class);
                if flows.total() > 0 {
                    habit::merge(self.volumes.entry((role, class)).or_default(), flows);
                }
            }
            let side = profile.side(role);
            self.peers.entry(role).or_default().add(&side.peers);
            for (&vocabulary, table) in &side.words {
                self.words.entry((vocabulary, role)).or_default().add(table);
            }
        }
    }

    fn sort(&mut self) {
        for novelty in self.peers.values_mut().chain(self.words.values_mut()) {
            novelty.0.sort_by(f64::total_cmp);
        }
    }
}

/// The groups of a baseline.
#[derive(Clone, Default, Debug)]
pub(super) struct Pools {
    namespaces: BTreeMap<Arc<str>, Pool>,
    cluster: Pool,
}

impl Pools {
    pub(super) fn of(profiles: &BTreeMap<WorkloadId, Arc<Profile>>) -> Self {
        let mut pools = Self::default();
        for (workload, profile) in profiles {
            let namespace = Arc::clone(&workload.namespace);
            pools.namespaces.entry(namespace).or_default().add(profile);
            pools.cluster.add(profile);
        }
        pools.namespaces.values_mut().for_each(Pool::sort);
        pools.cluster.sort();
        pools
    }
}

/// A workload with its namespace and its cluster. Made by [`Baseline::lineage`].
#[derive(Clone, Copy, Debug)]
pub struct Lineage<'a> {
    baseline: &'a Baseline,
    workload: &'a WorkloadId,
    own: Option<&'a Profile>,
    namespace: Option<&'a Pool>,
    cluster: &'a Pool,
}

impl<'a> Lineage<'a> {
    pub(super) fn new(baseline: &'a Baseline, workload: &'a WorkloadId) -> Self {
        let pools = baseline.pools();
        Self {
            baseline,
            workload,
            own: baseline.profile(workload),
            namespace: pools.namespaces.get(&workload.namespace),
            cluster: &pools.cluster,
        }
    }

    /// The workload's own profile.
    pub const fn profile(&self) -> Option<&'a Profile> {
        self.own
    }

    /// Bits of surprise at a pod's minute of this much or more, at this hour.
    pub fn rate_bits(&self, rate: Rate, observed: f64, time: Timestamp) -> f64 {
        let floor = rate.floor();
        let (own, minutes) = self
            .own
            .map_or((1.0, 0), |own| own.rate_odds(rate, observed, Some(time)));
        let group = self.group(observed, floor, |pool| pool.rates.get(&rate));
        surprise::bits(level::mix(own, minutes, group))
    }

    /// Bits of surprise at a flow in which the client sends this many payload bytes or more to this class of peers.
    pub fn volume_bits(&self, role: Role, class: PeerClass, bytes: u64) -> f64 {
        let (own, flows) = self
            .own
            .map_or((1.0, 0), |own| own.volume_odds(role, class, bytes));
        let floor = super::profile::FLOW_BYTES_FLOOR;
        let group = self.group(bytes as f64, floor, |pool| pool.volumes.get(&(role, class)));
        surprise::bits(level::mix(own, flows, group))
    }

    /// How probable a value is in namespace and cluster.
    fn group<'b>(
        &'b self,
        value: f64,
        floor: f64,
        of: impl Fn(&'b Pool) -> Option<&'b LogHistogram>,
    ) -> f64 {
        let guess = level::prior(value, floor);
        let mut odds = guess;
        for pool in [Some(self.cluster), self.namespace].into_iter().flatten() {
            if let Some(histogram) = of(pool) {
                let tail = level::tail(histogram, value, floor);
                odds = level::mix(tail, histogram.total(), odds);
            }
        }
        odds
    }

    /// Bits of surprise at meeting this contact, which the workload never made: Good–Turing from its own history, less
    /// where its group often meets new peers, and less for a peer that most of its neighbours know. 0 for a known contact.
    pub fn contact_bits(&self, contact: &Contact) -> f64 {
        let Some(own) = self.own else {
            return 0.0;
        };
        if own.knows(contact) {
            return 0.0;
        }
        let peers = |pool: &Pool| pool.peers.get(&contact.role).and_then(Novelty::usual);
        let table = &own.side(contact.role).peers;
        let novelty = self.novelty(table.sightings(), table.once(), peers);
        (novelty - self.common_bits(contact)).max(0.0)
    }

    /// Bits of surprise at a word the workload never said (or was never told): Good–Turing from its own history, less where
    /// its group often says new ones. 0 for a known word.
    pub fn word_bits(&self, vocabulary: Vocabulary, role: Role, word: &str) -> f64 {
        let Some(own) = self.own else {
            return 0.0;
        };
        if own.knows_word(vocabulary, role, word) {
            return 0.0;
        }
        let (seen, once) = own
            .side(role)
            .words
            .get(&vocabulary)
            .map_or((0, 0), |table| (table.sightings(), table.once()));
        self.novelty(seen, once, |pool| {
            pool.words.get(&(vocabulary, role)).and_then(Novelty::usual)
        })
    }

    fn novelty(&self, seen: u64, once: u64, of: impl Fn(&Pool) -> Option<f64>) -> f64 {
        let own = surprise::novelty_bits(seen, once);
        let Some(group) = self.namespace.and_then(&of).or_else(|| of(self.cluster)) else {
            return own;
        };
        let drawn = (once as f64 + GROUP_SIGHTINGS * group) / (seen as f64 + GROUP_SIGHTINGS);
        own.min(surprise::bits(drawn))
    }

    /// What a peer's being well known takes away: the log2 likelihood ratio of meeting it by chance (one peer as good as
    /// another) against meeting it as the workloads of the namespace do (each by how many know it).
    fn common_bits(&self, contact: &Contact) -> f64 {
        let workloads: Vec<&Profile> = self
            .baseline
            .neighbours(self.workload)
            .take(ASKED)
            .collect();
        if workloads.len() < FEWEST {
            return 0.0;
        }
        let know = workloads
            .iter()
            .filter(|profile| profile.knows(contact))
            .count();
        let edges: usize = workloads
            .iter()
            .map(|profile| profile.peer_count(contact.role))
            .sum();
        // Different peers can't be told without counting them all; there are at least as many as the one who knows most.
        let peers = workloads
            .iter()
            .map(|profile| profile.peer_count(contact.role))
            .max()
            .unwrap_or(0)
            .max(workloads.len());
        let (know, edges, peers) = (know as f64, edges as f64, peers as f64);
        let ratio = (know + 1.0) * peers / (edges + peers);
        ratio.log2().clamp(0.0, MOST_COMMON_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::testing::{Making, contact, id};

    #[test]
    fn a_young_workload_is_judged_by_its_namespace() {
        let mut making = Making::default();
        for name in ["a", "b", "c", "d", "e"] {
            making.minutes(&id("shop", name), Rate::BytesOut, 3000, 2e9);
        }
        making.minutes(&id("shop", "new"), Rate::BytesOut, 10, 0.0);
        making.minutes(&id("quiet", "other"), Rate::BytesOut, 3000, 0.0);
        let baseline = making.done();
        let now = Timestamp::from_secs(0);
        let bits = |workload: &WorkloadId| {
            baseline
                .lineage(workload)
                .rate_bits(Rate::BytesOut, 2e9, now)
        };
        assert!(bits(&id("shop", "new")) < 1.0, "all its neighbours do");
        assert!(bits(&id("quiet", "other")) > 5.0, "it never did");
        // Nobody ever seen in a namespace nobody knows: what the cluster does.
        assert!(bits(&id("nowhere", "x")) < 2.0);
        let empty = Baseline::default();
        let none = empty
            .lineage(&id("a", "b"))
            .rate_bits(Rate::BytesOut, 1e15, now);
        assert!(
            (none - 4.0).abs() < 1e-9,
            "a guess is worth four bits: {none}"
        );
    }

    #[test]
    fn a_closed_workload_and_a_crawler_meet_the_same_stranger() {
        let mut making = Making::default();
        for n in 0..500 {
            let peer = if n % 2 == 0 { "db" } else { "cache" };
            making.meets(&id("shop", "closed"), &contact(peer), n * 10);
            making.meets(
                &id("shop", "crawler"),
                &contact(&format!("domain:{n}.example")),
                n * 10,
            );
        }
        let baseline = making.done();
        let stranger = contact("domain:stranger.example");
        let (closed, crawler) = (id("shop", "closed"), id("shop", "crawler"));
        let bits = |workload| baseline.lineage(workload).contact_bits(&stranger);
        // 500 contacts, none with a peer met once: P(new) = 0.5/501. The crawler met all 500 once: 500.5/501.
        let profile = baseline.profile(&closed).unwrap();
        assert!((profile.novelty_bits(Role::Client) - (501.0_f64 / 0.5).log2()).abs() < 1e-9);
        assert!(bits(&crawler) < 0.01, "{}", bits(&crawler));
        assert!(bits(&closed) > 9.9, "{}", bits(&closed));
        assert_eq!(baseline.lineage(&closed).contact_bits(&contact("db")), 0.0);
        assert_eq!(
            baseline
                .lineage(&id("shop", "unseen"))
                .contact_bits(&stranger),
            0.0
        );
    }

    #[test]
    fn among_crawlers_a_young_workload_is_surprised_by_less() {
        let mut making = Making::default();
        for name in ["a", "b", "c", "d", "e"] {
            for n in 0..200 {
                let site = contact(&format!("domain:{n}.example"));
                making.meets(&id("web", name), &site, n * 10);
            }
        }
        for namespace in ["web", "other"] {
            for n in 0..50 {
                making.meets(&id(namespace, "young"), &contact("own"), n * 10);
            }
        }
        let baseline = making.done();
        let bits = |namespace| {
            let young = id(namespace, "young");
            let stranger = contact("domain:stranger.example");
            baseline.lineage(&young).contact_bits(&stranger)
        };
        assert!(bits("web") < 2.0, "{}", bits("web"));
        // The other namespace has one workload, so the cluster stands in, and that is one of crawlers, too.
        assert!((bits("other") - bits("web")).abs() < 1e-9);
    }

    #[test]
    fn a_peer_that_all_neighbours_know_surprises_less() {
        let mut making = Making::default();
        for n in 0..40 {
            let workload = id("shop", &format!("w{n}"));
            for at in 0..100 {
                making.meets(&workload, &contact(&format!("own{n}")), at * 10);
                making.meets(&workload, &contact("dns"), at * 10);
            }
        }
        let young = id("shop", "young");
        for at in 0..300 {
            making.meets(&young, &contact("own"), at * 10);
        }
        let baseline = making.done();
        let lineage = baseline.lineage(&young);
        let (common, strange) = (contact("dns"), contact("stranger"));
        assert!(lineage.contact_bits(&common) < lineage.contact_bits(&strange) - 3.0);
    }
}
