//! Exceptions: what somebody has allowed, until when, and why.
//!
//! An exception silences an alert, never a detection: the alert is counted, listed in the summary, and shown to whoever asks.
//! It is judged by the alert's own time, so that last week's capture is silenced by last week's exceptions.

mod load;
mod pattern;
mod schedule;

use std::fmt;
use std::sync::Arc;

pub use load::ExceptionError;
pub(crate) use pattern::Glob;
use pattern::PeerPattern;
use schedule::Schedule;

use super::Alert;
use crate::detectors::Target;
use crate::event::Endpoint;
use crate::time::Timestamp;

/// Why an alert isn't told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppression {
    /// Why.
    pub reason: String,
    /// Who answers for it; nobody for what was accepted into a baseline.
    pub owner: Option<String>,
    /// What silences it: `exceptions.toml:12`, `accepted 0123456789abcdef`.
    pub by: String,
}

impl fmt::Display for Suppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.reason, self.by)?;
        if let Some(owner) = &self.owner {
            write!(f, ", {owner}")?;
        }
        write!(f, ")")
    }
}

/// One exception. What it doesn't name, it allows: an exception without workloads holds for all.
#[derive(Clone, Debug)]
struct Exception {
    reason: String,
    owner: String,
    /// `file:line` of its header.
    place: String,
    /// The end of time for one that never expires, which must be said.
    expires: Timestamp,
    signatures: Vec<Glob>,
    workloads: Vec<Glob>,
    labels: Vec<(Arc<str>, Glob)>,
    peers: Vec<PeerPattern>,
    schedule: Schedule,
}

/// The exceptions of a file, in its order.
#[derive(Clone, Default, Debug)]
pub struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that had expired by a time, each with its place, reason and owner.
    pub fn expired(&self, by: Timestamp) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter(move |one| one.expires <= by)
            .map(|one| format!("{}: {} ({})", one.place, one.reason, one.owner))
    }

    /// The first exception that holds for an alert, for all of its time and all of its targets.
    pub fn judge(&self, alert: &Alert) -> Option<Suppression> {
        let exception = self.0.iter().find(|exception| exception.holds(alert))?;
        Some(Suppression {
            reason: exception.reason.clone(),
            owner: Some(exception.owner.clone()),
            by: exception.place.clone(),
        })
    }
}

impl Exception {
    fn holds(&self, alert: &Alert) -> bool {
        alert.last < self.expires
            && any_or_none(&self.signatures, |glob| glob.matches(&alert.signature.id))
            && self.is_by(&alert.actor)
            && self.is_against(alert)
            && self.schedule.covers(alert.first, alert.last)
    }

    fn is_by(&self, actor: &Endpoint) -> bool {
        let identity = &actor.who.identity;
        let workload = identity.workload.as_ref().map(ToString::to_string);
        any_or_none(&self.workloads, |glob| {
            workload.as_deref().is_some_and(|name| glob.matches(name))
        }) && self.labels.iter().all(|(key, value)| {
            let label = identity.labels.get(key);
            label.is_some_and(|label| value.matches(label))
        })
    }

    fn is_against(&self, alert: &Alert) -> bool {
        if self.peers.is_empty() {
            return true;
        }
        // Of targets that aren't listed nobody knows whether they were allowed.
        let all_listed = alert.target_count <= alert.targets.len() as u64;
        let allowed = |target: &Target| self.peers.iter().any(|peer| peer.matches(target));
        !alert.targets.is_empty() && all_listed && alert.targets.iter().all(allowed)
    }
}

/// Whether one of several matches, or there is none to match.
fn any_or_none<T>(all: &[T], matches: impl Fn(&T) -> bool) -> bool {
    all.is_empty() || all.iter().any(matches)
}

#[cfg(test)]
mod tests;
