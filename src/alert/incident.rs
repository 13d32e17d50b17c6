//! Alerts of one intrusion, tied together: who went from what to what, in the order of time.
//!
//! Two alerts belong together if the same workload (or address) is behind both, if one was an attack on the very pod that
//! is behind the other, later one, or if both report to the same place outside. A scan touches too many for that to mean
//! anything, and a mere departure from the baseline ties nothing by itself. Alerts of different workloads that have
//! nothing of this in common stay apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Alert, actor};
use crate::event::Endpoint;
use crate::identity::IdentityKind;
use crate::signature::{Category, Severity};
use crate::time::Timestamp;

/// Alerts further apart than this are two stories.
const GAP: Duration = Duration::from_hours(24);
/// An attack on more than this many targets says nothing of any one of them.
const FEW_TARGETS: u64 = 3;
/// Stages listed; the earliest tell the story.
const MOST_STAGES: usize = 16;
/// An intruder who has got through so many tactics is one step graver than his gravest alert.
const LONG_CHAIN: usize = 3;

/// Alerts that belong together.
#[derive(Clone, Debug)]
pub struct Incident {
    /// 16 hex digits; stays the same while the incident grows.
    pub id: String,
    /// That of the gravest alert, or one step graver after three tactics.
    pub severity: Severity,
    /// First sign of the first alert.
    pub first: Timestamp,
    /// Last sign of the last alert.
    pub last: Timestamp,
    /// Tactics passed, by their ATT&CK ids, in the order in which they first showed.
    pub tactics: Vec<String>,
    /// The alerts in the order of time; at most 16, the earliest.
    pub stages: Vec<Stage>,
    /// How many alerts there are in all.
    pub stage_count: u64,
}

/// One alert's place in an incident.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The alert's id.
    pub alert: String,
    /// Id of its signature.
    pub signature: String,
    /// The signature's title.
    pub title: String,
    /// How urgent it is by itself.
    pub severity: Severity,
    /// First sign of it.
    pub first: Timestamp,
    /// Last sign of it.
    pub last: Timestamp,
    /// Who did it.
    pub actor: Endpoint,
    /// The tactic, by its ATT&CK id; a departure from the baseline may have none.
    pub tactic: Option<String>,
}

/// ATT&CK's (Enterprise) tactics.
const TACTICS: &[(&str, &str)] = &[
    ("TA0043", "Reconnaissance"),
    ("TA0042", "Resource Development"),
    ("TA0001", "Initial Access"),
    ("TA0002", "Execution"),
    ("TA0003", "Persistence"),
    ("TA0004", "Privilege Escalation"),
    ("TA0005", "Defense Evasion"),
    ("TA0006", "Credential Access"),
    ("TA0007", "Discovery"),
    ("TA0008", "Lateral Movement"),
    ("TA0009", "Collection"),
    ("TA0011", "Command and Control"),
    ("TA0010", "Exfiltration"),
    ("TA0040", "Impact"),
];

/// The name of a tactic; its id where it isn't known.
pub fn tactic_name(id: &str) -> &str {
    let known = TACTICS.iter().find(|(known, _)| *known == id);
    known.map_or(id, |(_, name)| name)
}

/// Says of each alert which incident it is a part of, given all there are.
pub fn tie(alerts: &mut [Alert]) {
    let incidents = of_each(alerts);
    for (alert, incident) in alerts.iter_mut().zip(incidents) {
        alert.incident = incident;
    }
}

/// The incidents that alerts are parts of, each once, in the order of time.
pub fn incidents(alerts: &[Alert]) -> Vec<Arc<Incident>> {
    let all = alerts.iter().filter_map(|alert| alert.incident.as_ref());
    let all: BTreeMap<(Timestamp, &str), &Arc<Incident>> = all
        .map(|incident| ((incident.first, incident.id.as_str()), incident))
        .collect();
    all.into_values().map(Arc::clone).collect()
}

/// For each alert, its incident.
fn of_each(alerts: &[Alert]) -> Vec<Option<Arc<Incident>>> {
    let mut order: Vec<usize> = (0..alerts.len()).collect();
    order.sort_by_key(|&at| alerts.get(at).map(|alert| (alert.first, &alert.id)));
    let ordered: Vec<&Alert> = order.iter().filter_map(|&at| alerts.get(at)).collect();

    let mut sets = Sets::new(ordered.len());
    let mut by_actor: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_place: BTreeMap<String, usize> = BTreeMap::new();
    for (at, alert) in ordered.iter().enumerate() {
        by_actor.entry(key(&alert.actor)).or_default().push(at);
    }
    for together in by_actor.values() {
        let mut last = Timestamp::MIN;
        let mut before = None;
        for &at in together {
            let Some(alert) = ordered.get(at) else {
                continue;
            };
            if let Some(before) = before
                && alert.first <= last.after(GAP)
            {
                sets.join(before, at);
            }
            last = last.max(alert.last);
            before = Some(at);
        }
    }
    for (at, alert) in ordered.iter().enumerate() {
        for victim in victims(alert) {
            // Those after the first that follows belong to it already.
            let theirs = by_actor.get(&victim).map_or(&[][..], Vec::as_slice);
            let first = |&at: &usize| ordered.get(at).map(|other| other.first);
            let next = theirs.partition_point(|at| first(at) < Some(alert.first));
            if let Some(&other) = theirs.get(next)
                && first(&other) <= Some(alert.last.after(GAP))
            {
                sets.join(at, other);
            }
        }
        for place in places(alert) {
            if let Some(&other) = by_place.get(&place)
                && let Some(before) = ordered.get(other)
                && alert.first <= before.last.after(GAP)
            {
                sets.join(other, at);
            }
            by_place.insert(place, at);
        }
    }

    let mut members: BTreeMap<usize, Vec<&Alert>> = BTreeMap::new();
    for (at, alert) in ordered.iter().enumerate() {
        members.entry(sets.root(at)).or_default().push(alert);
    }
    let told: BTreeMap<usize, Option<Arc<Incident>>> = members
        .into_iter()
        .map(|(root, alerts)| (root, incident(&alerts)))
        .collect();
    let mut result = vec![None; alerts.len()];
    for (at, &index) in order.iter().enumerate() {
        if let Some(slot) = result.get_mut(index) {
            *slot = told.get(&sets.root(at)).cloned().flatten();
        }
    }
    result
}

/// The incident of these alerts, which are in the order of time; none if there are too few, or nothing but departures.
fn incident(alerts: &[&Alert]) -> Option<Arc<Incident>> {
    let [earliest, _, ..] = alerts else {
        return None;
    };
    let attacks = alerts.iter().filter(|alert| is_attack(alert));
    let gravest = attacks.clone().map(|alert| alert.severity).max()?;
    let mut tactics: Vec<String> = Vec::new();
    for tactic in attacks.filter_map(|alert| tactic(alert)) {
        if !tactics.contains(&tactic) {
            tactics.push(tactic);
        }
    }
    let severity = if tactics.len() >= LONG_CHAIN {
        gravest.graver()
    } else {
        gravest
    };
    let stages = alerts.iter().take(MOST_STAGES).map(|alert| Stage {
        alert: alert.id.clone(),
        signature: alert.signature.id.clone(),
        title: alert.signature.title.clone(),
        severity: alert.severity,
        first: alert.first,
        last: alert.last,
        actor: alert.actor.clone(),
        tactic: tactic(alert),
    });
    Some(Arc::new(Incident {
        id: id(&earliest.id),
        severity,
        first: earliest.first,
        last: alerts.iter().map(|alert| alert.last).max()?,
        tactics,
        stages: stages.collect(),
        stage_count: alerts.len() as u64,
    }))
}

/// The first 64 bits of a hash over the first alert's id.
fn id(alert: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"incident ");
    hash.update(alert);
    let digest = hash.finalize();
    let bytes = digest.iter().take(8);
    bytes
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

fn is_attack(alert: &Alert) -> bool {
    alert.signature.category != Category::Anomaly
}

/// The tactic that an alert's signature stands for first.
fn tactic(alert: &Alert) -> Option<String> {
    let first = alert.signature.attack.first();
    first.map(|attack| attack.tactic.clone())
}

/// Who is behind an alert: the workload, so that replicas are one, else the pod or the address.
fn key(end: &Endpoint) -> String {
    let identity = &end.who.identity;
    match (&identity.workload, identity.kind) {
        (Some(workload), IdentityKind::Pod) => format!("workload {workload}"),
        _ => actor::key(end),
    }
}

/// The few that an attack was aimed at, who may have been taken by it.
fn victims(alert: &Alert) -> BTreeSet<String> {
    let touches = !matches!(
        alert.signature.category,
        Category::Recon | Category::Anomaly
    ) && alert.target_count <= FEW_TARGETS;
    let ends = alert.targets.iter().filter(|_| touches);
    ends.filter_map(|target| target.endpoint.as_ref())
        .filter(|end| end.who.identity.kind == IdentityKind::Pod)
        .map(key)
        .collect()
}

/// The places outside that an alert's actor takes orders from.
fn places(alert: &Alert) -> BTreeSet<String> {
    let remote = matches!(alert.signature.category, Category::C2 | Category::Hijack)
        && alert.target_count <= FEW_TARGETS;
    let targets = alert.targets.iter().filter(|_| remote);
    targets
        .filter_map(|target| match (&target.endpoint, &target.domain) {
            (Some(end), _) => {
                let outside = end.who.identity.kind == IdentityKind::External;
                outside.then(|| format!("ip {}", end.ip))
            }
            (None, Some(domain)) => Some(format!("domain {domain}")),
            (None, None) => None,
        })
        .collect()
}

/// Disjoint sets of alerts.
struct Sets(Vec<usize>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    /// The earliest of the set; the way there is halved as it is walked.
    fn root(&mut self, mut at: usize) -> usize {
        while let Some(&up) = self.0.get(at)
            && up != at
        {
            let above = self.0.get(up).copied().unwrap_or(up);
            if let Some(own) = self.0.get_mut(at) {
                *own = above;
            }
            at = above;
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = (a.min(b), a.max(b));
        if let Some(up) = self.0.get_mut(high) {
            *up = low;
        }
    }
}

#[cfg(test)]
mod tests;
