//! Grouping findings into alerts, with a bound on how many there may be.
//!
//! Owns when a group begins, is told, ends and is forgotten. What a group is made of is `group.rs`'s, what it weighs
//! `score.rs`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::coverage::{Coverage, CoverageLog};
use super::flows::{FlowBook, FlowTotals};
use super::group::{Group, GroupKey, Told};
use super::kept::{self, AttackV1};
use super::{Alert, AlertStatus};
use crate::detectors::{Finding, StateSize};
use crate::event::{Endpoint, FlowInfo};
use crate::flow::FlowRecord;
use crate::identity::Attribution;
use crate::memory::Share;
use crate::signature::{Signature, SignatureSet};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// How long a group without news is kept, so that a slow attack stays one alert.
const REMEMBER: Duration = Duration::from_hours(24);

/// From how many times the targets last told an alert is told again.
const GROWTH: u64 = 4;

/// Bounds of the correlator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CorrelatorConfig {
    /// Attacks remembered at a time, alerts or not yet; a few kilobytes each.
    pub max_open: usize,
    /// Findings of the same kind further apart than this are two attacks.
    pub gap: Duration,
}

impl CorrelatorConfig {
    /// What a run with a share of memory keeps open.
    pub fn within(share: Share) -> Self {
        let whole = Self::default();
        Self {
            max_open: share.part(whole.max_open),
            ..whole
        }
    }
}

impl Default for CorrelatorConfig {
    /// 4096 attacks, one hour.
    fn default() -> Self {
        Self {
            max_open: 4096,
            gap: Duration::from_hours(1),
        }
    }
}

/// Where a group stands; the order is that in which groups are given up when there are too many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// Told to the end.
    Done,
    /// Not enough for an alert yet.
    Quiet,
    /// An alert with its end to be told.
    Raised,
}

/// An alert to be kept for another run, under its id: as it stands, or no more.
pub type Kept = (String, Option<Vec<u8>>);

#[derive(Default, Debug)]
struct Unkept {
    changed: BTreeSet<u64>,
    gone: BTreeSet<String>,
}

/// Merges findings into alerts.
///
/// A reader of files calls [`accept`](Self::accept) for every finding and [`finish`](Self::finish) once. A live sensor also
/// calls [`updates`](Self::updates) about once a second and delivers what it returns.
#[derive(Debug)]
pub struct Correlator {
    config: CorrelatorConfig,
    signatures: SignatureSet,
    groups: BTreeMap<u64, Group>,
    /// The latest group of a key. Keys hold names chosen by attackers; the map's hash is seeded.
    latest: HashMap<GroupKey, u64>,
    /// Every group once, by stage and last sign.
    by_age: BTreeSet<(Stage, Timestamp, u64)>,
    /// Alerts that changed since they were last kept, and ids of those forgotten; none where nobody keeps them.
    unkept: Option<Unkept>,
    /// Alerts with news since [`Correlator::updates`] was last called.
    changed: BTreeSet<u64>,
    next: u64,
    book: FlowBook,
    log: CoverageLog,
    losses: LossCounts,
}

impl Correlator {
    /// A correlator without findings.
    pub fn new(config: CorrelatorConfig, signatures: &SignatureSet) -> Self {
        Self {
            config,
            signatures: signatures.clone(),
            groups: BTreeMap::new(),
            latest: HashMap::new(),
            by_age: BTreeSet::new(),
            unkept: None,
            changed: BTreeSet::new(),
            next: 0,
            book: FlowBook::new(),
            log: CoverageLog::default(),
            losses: LossCounts::default(),
        }
    }

    /// Names, severities and first steps are these signatures' for attacks that begin from here on.
    pub fn reload(&mut self, signatures: &SignatureSet) {
        self.signatures = signatures.clone();
    }

    /// Notes the run's counters at `now`, about once a second. The coverage of an alert is counted from the mark before its
    /// first sign; without marks it is that of the whole run.
    pub fn mark(&mut self, now: Timestamp, losses: &LossCounts, packets: u64) {
        self.log.mark(now, counters(losses, packets));
    }

    /// Takes a finding. `losses` and `packets` are the run's counters by now.
    pub fn accept(&mut self, finding: Finding, losses: &LossCounts, packets: u64) {
        let Some(signature) = self.signatures.get(finding.signature).map(Arc::clone) else {
            // Detectors and signatures come in pairs, which a test of the catalogue sees to.
            debug_assert!(false, "no signature {}", finding.signature);
            return;
        };
        let key = GroupKey::of(&finding);
        let known = self
            .near(&key, &finding)
            .or_else(|| self.join(&key, &signature, &finding));
        let Some(seq) = known.or_else(|| self.open(key, signature, &finding)) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&seq) else {
            return;
        };
        self.by_age.remove(&(stage(group), group.last, seq));
        let coverage = self
            .log
            .since(group.first_with(&finding), &counters(losses, packets));
        // News of an attack thought over makes it an alert to be told again.
        group.done = false;
        group.merge(finding, coverage, &mut self.book);
        self.by_age.insert((stage(group), group.last, seq));
        if group.raised.is_some() {
            self.changed.insert(seq);
            self.touch(seq);
        }
    }

    /// A flow ended: if it is on an alert, the alert learns what it carried.
    pub fn flow_ended(&mut self, flow: &FlowInfo, record: &FlowRecord) {
        self.book.ended(flow.id, FlowTotals::from(record));
    }

    /// More is known of who held which address: attacks begun since `since` are given names that they lacked, and what more
    /// is found of them by name joins them.
    pub fn rename(
        &mut self,
        since: Timestamp,
        better: impl Fn(&Endpoint, Timestamp) -> Option<Attribution>,
    ) {
        for (&seq, group) in &mut self.groups {
            let first = group.first;
            if first >= since && group.rename(|end| better(end, first)) {
                for key in &group.keys {
                    self.latest.entry(key.clone()).or_insert(seq);
                }
                if group.raised.is_some() {
                    self.changed.insert(seq);
                    if let Some(unkept) = &mut self.unkept {
                        unkept.changed.insert(seq);
                    }
                }
            }
        }
    }

    /// What there is to tell by `now`, to be called in the order of time: new alerts; those whose severity rose, or that
    /// have four times the targets last told; and those of which nothing came for the gap.
    pub fn updates(&mut self, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for seq in std::mem::take(&mut self.changed) {
            let Some(group) = self.groups.get_mut(&seq) else {
                continue;
            };
            let status = match group.told {
                None => AlertStatus::Open,
                Some(told)
                    if group.severity > told.severity
                        || group.renamed
                        || group.target_count
                            >= told.target_count.saturating_mul(GROWTH).max(1) =>
                {
                    AlertStatus::Updated
                }
                Some(_) => continue,
            };
            group.renamed = false;
            if let Some(unkept) = &mut self.unkept {
                unkept.changed.insert(seq);
            }
            group.told = Some(Told {
                severity: group.severity,
                target_count: group.target_count,
            });
            alerts.extend(group.alert(status, &self.book));
        }
        for seq in self.older_than(Stage::Raised, now.before(self.config.gap)) {
            if let Some(group) = self.groups.get_mut(&seq) {
                self.by_age.remove(&(Stage::Raised, group.last, seq));
                group.done = true;
                self.by_age.insert((Stage::Done, group.last, seq));
                alerts.extend(group.alert(AlertStatus::Closed, &self.book));
            }
            self.touch(seq);
        }
        let forgotten = now.before(REMEMBER.max(self.config.gap));
        for stage in [Stage::Done, Stage::Quiet] {
            for seq in self.older_than(stage, forgotten) {
                self.forget(seq);
            }
        }
        in_order(alerts)
    }

    /// Goes on with the alerts of an earlier run, and notes from here on what there is to keep of them. Returns those that can't be
    /// understood.
    pub fn recall(&mut self, kept: Vec<(String, Vec<u8>)>) -> Vec<String> {
        let mut unread = Vec::new();
        let mut attacks: Vec<AttackV1> = Vec::new();
        for (id, kept) in kept {
            match serde_json::from_slice::<AttackV1>(&kept) {
                Ok(attack) if attack.schema == kept::SCHEMA => attacks.push(attack),
                _ => unread.push(id),
            }
        }
        attacks.sort_by(|a, b| (a.first, &a.id).cmp(&(b.first, &b.id)));
        for attack in attacks {
            let id = attack.id.clone();
            let signature = self.signatures.get(&attack.signature).map(Arc::clone);
            let group = signature.and_then(|signature| Group::recall(attack, signature));
            let Some(group) = group.filter(|_| self.groups.len() < self.config.max_open) else {
                unread.push(id);
                continue;
            };
            let seq = self.next;
            self.next = self.next.wrapping_add(1);
            for key in &group.keys {
                self.latest.insert(key.clone(), seq);
            }
            self.by_age.insert((stage(&group), group.last, seq));
            self.groups.insert(seq, group);
        }
        self.unkept = Some(Unkept {
            changed: BTreeSet::new(),
            gone: unread.iter().cloned().collect(),
        });
        unread
    }

    /// What there is to keep since this was last called. With `ended`, all of them, their ends told: the run is over.
    pub fn to_keep(&mut self, ended: bool) -> Vec<Kept> {
        let Some(unkept) = &mut self.unkept else {
            return Vec::new();
        };
        let mut changed = std::mem::take(&mut unkept.changed);
        if ended {
            changed.extend(self.groups.keys());
        }
        let gone = std::mem::take(&mut unkept.gone).into_iter();
        let groups = changed.iter().filter_map(|seq| self.groups.get(seq));
        let kept = groups.filter_map(|group| {
            let attack = group.keep(ended)?;
            Some((attack.id.clone(), serde_json::to_vec(&attack).ok()))
        });
        gone.map(|id| (id, None)).chain(kept).collect()
    }

    fn touch(&mut self, seq: u64) {
        if let Some(unkept) = &mut self.unkept {
            unkept.changed.insert(seq);
        }
    }

    /// Every alert so far, as it stands.
    pub fn alerts(&self) -> impl Iterator<Item = Alert> {
        self.groups
            .values()
            .filter_map(|group| group.alert(AlertStatus::Updated, &self.book))
    }

    /// The input is over: every alert whose end was not told yet, in its final state.
    pub fn finish(self) -> Vec<Alert> {
        let alerts = self
            .groups
            .values()
            .filter(|group| stage(group) == Stage::Raised)
            .filter_map(|group| group.alert(AlertStatus::Closed, &self.book));
        in_order(alerts.collect())
    }

    /// Attacks that were not followed because there were too many.
    pub const fn losses(&self) -> &LossCounts {
        &self.losses
    }

    /// How many attacks it remembers.
    pub fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.groups.len(),
            limit: self.config.max_open,
        }
    }

    /// The group of a key, if the finding continues it.
    fn near(&self, key: &GroupKey, finding: &Finding) -> Option<u64> {
        let seq = self.latest.get(key).copied()?;
        let group = self.groups.get(&seq)?;
        group.is_near(finding, self.config.gap).then_some(seq)
    }

    /// Finds the attack that a finding's is a part of, or the part of it that was seen first.
    fn join(
        &mut self,
        key: &GroupKey,
        signature: &Arc<Signature>,
        finding: &Finding,
    ) -> Option<u64> {
        let whole = signature
            .part_of
            .iter()
            .find_map(|id| self.near(&key.of_signature(id), finding));
        let seq = whole.or_else(|| {
            let of_ours = |part: &&Arc<Signature>| part.part_of.contains(&signature.id);
            let mut parts = self.signatures.iter().filter(of_ours);
            let seq = parts.find_map(|part| self.near(&key.of_signature(&part.id), finding))?;
            let group = self.groups.get_mut(&seq)?;
            self.by_age.remove(&(stage(group), group.last, seq));
            group.becomes(Arc::clone(signature));
            self.by_age.insert((stage(group), group.last, seq));
            Some(seq)
        })?;
        let group = self.groups.get_mut(&seq)?;
        if !group.keys.contains(key) {
            group.keys.push(key.clone());
        }
        self.latest.insert(key.clone(), seq);
        Some(seq)
    }

    /// Begins a group, giving up another where there are too many: an alert told to the end, or else the one without
    /// enough evidence that is longest without news. Alerts still to be told are never given up.
    fn open(&mut self, key: GroupKey, signature: Arc<Signature>, finding: &Finding) -> Option<u64> {
        if self.groups.len() >= self.config.max_open {
            let oldest = self.by_age.first().copied();
            let given_up = oldest.filter(|(stage, ..)| *stage < Stage::Raised);
            if given_up.is_none_or(|(stage, ..)| stage == Stage::Quiet) {
                self.losses.add(Loss::AlertBudget);
            }
            let (_, _, seq) = given_up?;
            self.forget(seq);
        }
        let seq = self.next;
        self.next = self.next.wrapping_add(1);
        let group = Group::new(key.clone(), signature, finding);
        self.by_age.insert((stage(&group), group.last, seq));
        self.groups.insert(seq, group);
        self.latest.insert(key, seq);
        Some(seq)
    }

    fn forget(&mut self, seq: u64) {
        let Some(group) = self.groups.remove(&seq) else {
            return;
        };
        self.by_age.remove(&(stage(&group), group.last, seq));
        self.changed.remove(&seq);
        if let Some(unkept) = &mut self.unkept {
            unkept.changed.remove(&seq);
            // What stays on disk for want of room is forgotten by whoever reads it.
            if group.raised.is_some() && unkept.gone.len() < self.config.max_open {
                unkept.gone.insert(group.id().to_owned());
            }
        }
        for key in &group.keys {
            if self.latest.get(key) == Some(&seq) {
                self.latest.remove(key);
            }
        }
        group.release(&mut self.book);
    }

    /// The groups of a stage whose last sign was before `then`.
    fn older_than(&self, stage: Stage, then: Timestamp) -> Vec<u64> {
        self.by_age
            .range((stage, Timestamp::MIN, 0)..(stage, then, 0))
            .map(|&(_, _, seq)| seq)
            .collect()
    }
}

fn stage(group: &Group) -> Stage {
    match group.raised {
        _ if group.done => Stage::Done,
        None => Stage::Quiet,
        Some(_) => Stage::Raised,
    }
}

fn counters(losses: &LossCounts, packets: u64) -> Coverage {
    Coverage {
        packets,
        lost: losses.clone(),
    }
}

/// Alerts in the order in which they were raised; what is told of the same one stays in its order.
fn in_order(mut alerts: Vec<Alert>) -> Vec<Alert> {
    alerts.sort_by(|a, b| (a.raised, a.first, &a.id).cmp(&(b.raised, b.first, &b.id)));
    alerts
}

#[cfg(test)]
mod tests;
