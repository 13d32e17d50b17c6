//! What the threads show of themselves, each about once a second, for whoever asks meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::cri::Asking;
use super::evidence::EvidenceCounts;
use super::health::Alarm;
use super::kubernetes::Following;
use super::{IdentityState, Standing, TapState};
use crate::identity::Kind;

/// How a live run stands.
#[derive(Default, Debug)]
pub(super) struct View {
    standing: Mutex<Standing>,
    taps: Mutex<Vec<TapState>>,
    identity: Mutex<IdentityState>,
    kubernetes: Mutex<BTreeMap<Kind, Following>>,
    asking: Mutex<Option<Asking>>,
    evidence: Mutex<Option<EvidenceCounts>>,
    failing: Mutex<BTreeSet<&'static str>>,
    alarms: Mutex<Vec<Alarm>>,
}

impl View {
    pub(super) fn standing(&self) -> Standing {
        get(&self.standing)
    }

    pub(super) fn taps(&self) -> Vec<TapState> {
        get(&self.taps)
    }

    pub(super) fn identity(&self) -> IdentityState {
        get(&self.identity)
    }

    /// What can't be written at the moment, in words.
    pub(super) fn failing(&self) -> Vec<&'static str> {
        get(&self.failing).into_iter().collect()
    }

    pub(super) fn alarms(&self) -> Vec<Alarm> {
        get(&self.alarms)
    }

    pub(super) fn show_alarms(&self, alarms: Vec<Alarm>) {
        set(&self.alarms, alarms);
    }

    /// Whether something can't be written.
    pub(super) fn show_failure(&self, what: &'static str, fails: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if fails {
            failing.insert(what);
        } else {
            failing.remove(what);
        }
    }

    pub(super) fn show_standing(&self, standing: Standing) {
        set(&self.standing, standing);
    }

    pub(super) fn show_taps(&self, taps: Vec<TapState>) {
        set(&self.taps, taps);
    }

    /// What became of the packets of alerts, if they are kept.
    pub(super) fn evidence(&self) -> Option<EvidenceCounts> {
        get(&self.evidence)
    }

    pub(super) fn count_evidence(&self, count: impl FnOnce(&mut EvidenceCounts)) {
        let evidence = self.evidence.lock();
        let mut evidence = evidence.unwrap_or_else(PoisonError::into_inner);
        count(evidence.get_or_insert_default());
    }

    /// How the Kubernetes API is followed; empty if it isn't to be.
    pub(super) fn kubernetes(&self) -> BTreeMap<Kind, Following> {
        get(&self.kubernetes)
    }

    pub(super) fn following(&self, kind: Kind) -> Following {
        self.kubernetes().remove(&kind).unwrap_or_default()
    }

    pub(super) fn show_following(&self, kind: Kind, change: impl FnOnce(&mut Following)) {
        let kinds = self.kubernetes.lock();
        let mut kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        change(kinds.entry(kind).or_default());
    }

    /// How the container runtime is asked, if it is to be.
    pub(super) fn asking(&self) -> Option<Asking> {
        get(&self.asking)
    }

    pub(super) fn show_asking(&self, change: impl FnOnce(&mut Asking)) {
        let asking = self.asking.lock();
        let mut asking = asking.unwrap_or_else(PoisonError::into_inner);
        change(asking.get_or_insert_default());
    }

    pub(super) fn show_identity(&self, identity: IdentityState) {
        set(&self.identity, identity);
    }
}

/// Whoever panicked while it held the lock replaced the whole value or nothing of it.
fn get<T: Clone>(shown: &Mutex<T>) -> T {
    shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set<T>(shown: &Mutex<T>, value: T) {
    *shown.lock().unwrap_or_else(PoisonError::into_inner) = value;
}
