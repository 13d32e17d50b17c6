//! What each workload has been seen to do, and how surprising something else would be, in bits.
//!
//! A baseline belongs to workloads, never to pods or addresses, so that rollouts and restarts change nothing. Surprise at
//! a new peer follows Good and Turing: the share of contacts that were with peers met only once estimates how often a
//! workload meets strangers. A crawler meets them all the time and surprises nobody; a database that has only ever
//! spoken to two clients surprises a lot.

mod learner;
mod profile;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::WorkloadId;
use crate::telemetry::{Loss, LossCounts};

pub use learner::Learner;
pub use profile::{Maturity, PeerStat, Profile};
pub use store::{Store, StoreError};

/// Workloads that a baseline holds at most.
const MAX_WORKLOADS: usize = 50_000;

/// The learned normal of all workloads.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Baseline {
    profiles: BTreeMap<WorkloadId, Profile>,
    losses: LossCounts,
}

impl Baseline {
    /// The profile of a workload, if it was ever seen.
    pub fn profile(&self, workload: &WorkloadId) -> Option<&Profile> {
        self.profiles.get(workload)
    }

    /// Every profile, by workload.
    pub fn profiles(&self) -> impl ExactSizeIterator<Item = (&WorkloadId, &Profile)> {
        self.profiles.iter()
    }

    /// How long the longest-watched workload was watched.
    pub fn observed(&self) -> Duration {
        self.profiles
            .values()
            .map(Profile::observed)
            .max()
            .unwrap_or_default()
    }

    /// What could not be learned for want of room.
    pub const fn losses(&self) -> &LossCounts {
        &self.losses
    }

    fn insert(&mut self, workload: WorkloadId, profile: Profile) {
        self.profiles.insert(workload, profile);
    }

    fn learn(&mut self, workload: &WorkloadId, update: impl FnOnce(&mut Profile) -> bool) {
        let full = self.profiles.len() >= MAX_WORKLOADS;
        let profile = match self.profiles.get_mut(workload) {
            Some(profile) => profile,
            None if full => {
                self.losses.add(Loss::BaselineFull);
                return;
            }
            None => self.profiles.entry(workload.clone()).or_default(),
        };
        if !update(profile) {
            self.losses.add(Loss::BaselineFull);
        }
    }
}
