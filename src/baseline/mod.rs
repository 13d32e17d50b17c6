//! What each workload has been seen to do, and how surprising something else would be, in bits.
//!
//! A baseline belongs to workloads, never to pods or addresses, so that rollouts and restarts change nothing. It knows
//! whom a workload meets, in which words, how much of what it does a minute, and when, each for both roles and with a
//! maturity of its own ([`Profile`]); where a workload has no history yet, its namespace and its cluster stand in
//! ([`Lineage`]). `docs/evidence.md` derives the bits.

mod cover;
mod habit;
mod learner;
mod level;
mod levels;
mod limits;
mod lineage;
mod profile;
mod side;
mod standing;
mod store;
mod surprise;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::features::{Contact, Vocabulary};
use crate::identity::WorkloadId;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

use learner::Sheets;
use lineage::Pools;
use side::{Change, Room};
use table::Names;

pub use cover::{Cover, Withheld};
pub use habit::{Period, Schedule};
pub use learner::Learner;
pub use lineage::Lineage;
pub use profile::{Accepted, Peer, Profile, RELEASE_WINDOW};
pub use standing::{Feature, Maturity, Standing};
pub use store::{Store, StoreError};
pub use table::PeerStat;
pub use text::TextError;

/// The learned normal of all workloads.
#[derive(Debug, Default)]
pub struct Baseline {
    /// Shared with clones until one of them changes a profile.
    profiles: BTreeMap<WorkloadId, Arc<Profile>>,
    names: Names,
    /// Entries and habits over all profiles.
    size: Change,
    losses: LossCounts,
    /// What is too young to be part of it. Only a snapshot of a run that learns has any.
    held: Sheets,
    /// Made when first asked for, and anew after each change.
    pools: OnceLock<Box<Pools>>,
}

/// A clone shares every profile: to save a baseline while it goes on learning costs the profiles that change meanwhile.
impl Clone for Baseline {
    fn clone(&self) -> Self {
        Self {
            profiles: self.profiles.clone(),
            names: self.names.clone(),
            size: self.size,
            losses: self.losses.clone(),
            held: self.held.clone(),
            pools: OnceLock::new(),
        }
    }
}

impl PartialEq for Baseline {
    fn eq(&self, other: &Self) -> bool {
        self.profiles == other.profiles
    }
}

impl Baseline {
    /// The profile of a workload, if it was ever seen.
    pub fn profile(&self, workload: &WorkloadId) -> Option<&Profile> {
        self.profiles.get(workload).map(Arc::as_ref)
    }

    /// Every profile, by workload.
    pub fn profiles(&self) -> impl ExactSizeIterator<Item = (&WorkloadId, &Profile)> {
        let profiles = self.profiles.iter();
        profiles.map(|(workload, profile)| (workload, &**profile))
    }

    /// A workload with its namespace and its cluster, which stand in for what its own history doesn't tell.
    pub fn lineage<'a>(&'a self, workload: &'a WorkloadId) -> Lineage<'a> {
        Lineage::new(self, workload)
    }

    /// How long the longest-watched workload was watched.
    pub fn observed(&self) -> Duration {
        self.profiles
            .values()
            .map(|profile| profile.observed())
            .max()
            .unwrap_or_default()
    }

    /// The last sight of any workload.
    pub fn last(&self) -> Option<Timestamp> {
        let spans = self.profiles.values().filter_map(|profile| profile.span());
        spans.map(|(_, last)| last).max()
    }

    /// What could not be learned for want of room.
    pub const fn losses(&self) -> &LossCounts {
        &self.losses
    }

    /// Takes in another baseline: another sensor's, or another day's.
    pub fn merge(&mut self, other: &Self) {
        for (workload, profile) in &other.profiles {
            let mut theirs = Profile::clone(profile);
            // Names are shared by all of a baseline.
            theirs.rename(&mut self.names);
            self.take(workload, &theirs, Profile::merge);
        }
        self.losses.merge(&other.losses);
    }

    /// Makes what an alert told of a workload normal, and remembers why.
    pub fn accept(
        &mut self,
        workload: &WorkloadId,
        accepted: Accepted,
        contacts: &[Contact],
        time: Timestamp,
    ) {
        self.change(workload, |profile, names| {
            for contact in contacts {
                let side = profile.side_mut(contact.role);
                // Twice, for what was met once makes the next stranger likelier.
                for time in [time.before(Duration::from_mins(1)), time] {
                    side.meet(contact, time, None, || names.get(&contact.peer));
                }
                if let Some(domain) = contact.peer.strip_prefix("domain:") {
                    side.say(Vocabulary::Domain, domain, time, || names.get(domain));
                }
            }
            profile.accept(accepted);
        });
    }

    /// Forgets a workload. False if it wasn't known.
    pub fn forget(&mut self, workload: &WorkloadId) -> bool {
        let Some(profile) = self.profiles.remove(workload) else {
            return false;
        };
        self.shrink_by(profile.size());
        drop(profile);
        self.names.prune();
        self.pools = OnceLock::new();
        true
    }

    /// Forgets what nobody has seen for long, and gives back the memory it took.
    pub(crate) fn age(&mut self) {
        let Some(last) = self.last() else {
            return;
        };
        let least = last.before(limits::FORGET_AFTER);
        let mut gone = Change::default();
        for profile in self.profiles.values_mut() {
            if profile.is_older_than(least) {
                gone = gone.and(Arc::make_mut(profile).forget_before(least));
            }
            // What a clone shares stays as it is.
            if let Some(profile) = Arc::get_mut(profile) {
                profile.shrink();
            }
        }
        self.shrink_by(gone);
        self.names.prune();
        self.pools = OnceLock::new();
    }

    /// Learns what was seen of a workload.
    fn learn(&mut self, workload: &WorkloadId, seen: &Profile) {
        self.take(workload, seen, Profile::learn);
    }

    fn take(
        &mut self,
        workload: &WorkloadId,
        theirs: &Profile,
        how: impl FnOnce(&mut Profile, &Profile, &mut Room) -> Change,
    ) {
        let mut room = self.room();
        if let Some(profile) = self.entry(workload) {
            let change = how(profile, theirs, &mut room);
            self.grow_by(change);
        }
    }

    /// Changes a profile, which is begun if it is new.
    fn change(&mut self, workload: &WorkloadId, update: impl FnOnce(&mut Profile, &mut Names)) {
        let mut names = std::mem::take(&mut self.names);
        if let Some(profile) = self.entry(workload) {
            let before = profile.size();
            update(profile, &mut names);
            let after = profile.size();
            self.shrink_by(before);
            self.grow_by(after);
        }
        self.names = names;
    }

    /// Puts a profile in the place of what was known of a workload.
    fn insert(&mut self, workload: WorkloadId, profile: Profile) {
        self.grow_by(profile.size());
        if let Some(old) = self.profiles.insert(workload, Arc::new(profile)) {
            self.shrink_by(old.size());
        }
        self.pools = OnceLock::new();
    }

    fn entry(&mut self, workload: &WorkloadId) -> Option<&mut Profile> {
        self.pools = OnceLock::new();
        if !self.profiles.contains_key(workload) {
            if self.profiles.len() >= limits::WORKLOADS {
                self.losses.add(Loss::BaselineFull);
                return None;
            }
            self.profiles.insert(workload.clone(), Arc::default());
        }
        self.profiles.get_mut(workload).map(Arc::make_mut)
    }

    const fn room(&self) -> Room {
        Room {
            entries: limits::ENTRIES_IN_ALL.saturating_sub(self.size.entries),
            habits: limits::HABITS_IN_ALL.saturating_sub(self.size.habits),
        }
    }

    fn grow_by(&mut self, change: Change) {
        self.size = self.size.and(change);
        self.losses.add_n(Loss::BaselineFull, change.dropped as u64);
    }

    const fn shrink_by(&mut self, change: Change) {
        self.size.entries = self.size.entries.saturating_sub(change.entries);
        self.size.habits = self.size.habits.saturating_sub(change.habits);
    }

    fn pools(&self) -> &Pools {
        self.pools
            .get_or_init(|| Box::new(Pools::of(&self.profiles)))
    }

    /// The profiles of the namespace that a workload is in, but its own.
    fn neighbours(&self, workload: &WorkloadId) -> impl Iterator<Item = &Profile> {
        let first = WorkloadId {
            namespace: workload.namespace.clone(),
            kind: "".into(),
            name: "".into(),
        };
        self.profiles
            .range(first..)
            .take_while(|(other, _)| other.namespace == workload.namespace)
            .filter(move |(other, _)| *other != workload)
            .map(|(_, profile)| &**profile)
    }
}
