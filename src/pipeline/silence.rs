//! Which alerts somebody has allowed: by an exception, or by accepting an alert like them into the baseline.

use std::collections::BTreeSet;

use crate::alert::{Alert, Exceptions, Suppression};
use crate::baseline::{Accepted, Baseline};
use crate::detectors::Target;
use crate::features::{PeerNamer, network_name};

/// An alert like an accepted one may have this many times its targets.
const GROWTH: u64 = 2;

/// What silences alerts.
pub(super) struct Silence<'a> {
    pub(super) exceptions: &'a Exceptions,
    pub(super) baseline: Option<&'a Baseline>,
    pub(super) peers: &'a PeerNamer,
}

impl Silence<'_> {
    /// Why an alert isn't told, if it isn't.
    pub(super) fn judge(&self, alert: &Alert) -> Option<Suppression> {
        self.exceptions
            .judge(alert)
            .or_else(|| self.accepted(alert))
    }

    fn accepted(&self, alert: &Alert) -> Option<Suppression> {
        let workload = alert.actor.who.identity.workload.as_ref()?;
        let profile = self.baseline?.profile(workload)?;
        let accepted = profile
            .accepted()
            .iter()
            .find(|accepted| self.is_like(alert, accepted))?;
        Some(Suppression {
            reason: accepted.reason.clone(),
            owner: None,
            by: format!("accepted {}", accepted.alert),
        })
    }

    /// The same signature, no target that wasn't among the accepted ones, and not many more.
    fn is_like(&self, alert: &Alert, accepted: &Accepted) -> bool {
        let known: BTreeSet<&str> = accepted.targets.iter().map(String::as_str).collect();
        let is_known = |target: &Target| {
            let port = target
                .port
                .map(|port| format!(" {port}"))
                .unwrap_or_default();
            self.names(alert, target)
                .iter()
                .any(|name| known.contains(format!("{name}{port}").as_str()))
        };
        alert.signature.id == accepted.signature
            && alert.target_count <= accepted.target_count.saturating_mul(GROWTH)
            && alert.targets.iter().all(is_known)
    }

    /// What a target may be called: by the actor's look-ups, or as it stands on the alert.
    fn names(&self, alert: &Alert, target: &Target) -> Vec<String> {
        let mut names = Vec::new();
        if let Some(domain) = &target.domain {
            names.push(format!("domain:{domain}"));
        }
        if let Some(end) = &target.endpoint {
            names.push(self.peers.name(&alert.actor, end).to_string());
            names.push(network_name(end.ip));
        }
        names
    }
}
