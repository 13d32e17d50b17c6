//! The findings of one attack, merged.
//!
//! Owns what survives a merge. Knows not when groups begin and end (`correlate.rs` does).

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::coverage::Coverage;
use super::flows::FlowBook;
use super::kept::{self, AttackV1};
use super::{Alert, AlertFlow, AlertStatus, BaselineNote, actor, score};
use crate::detectors::{Evidence, Finding, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::identity::Attribution;
use crate::signature::{Severity, Signature};
use crate::time::Timestamp;

/// Targets and flows on an alert.
const MOST_LISTED: usize = 16;
/// A detector measures a handful of features; more would be a mistake of its own.
const MOST_FEATURES: usize = 32;

/// What makes findings one attack.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct GroupKey {
    pub(super) signature: String,
    pub(super) actor: String,
    pub(super) subject: String,
}

impl GroupKey {
    pub(super) fn of(finding: &Finding) -> Self {
        Self {
            signature: finding.signature.to_owned(),
            actor: actor::key(&finding.actor),
            subject: finding.subject.clone(),
        }
    }

    /// The key of another signature's attack by the same actor.
    pub(super) fn of_signature(&self, id: &str) -> Self {
        Self {
            signature: id.to_owned(),
            ..self.clone()
        }
    }

    /// The alert's id: the first 64 bits of a hash over what makes the group, and when it began.
    fn id(&self, first: Timestamp) -> String {
        let mut hash = Sha256::new();
        for part in [&self.signature, &self.actor, &self.subject] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(first.nanos().to_be_bytes());
        let digest = hash.finalize();
        digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat()
    }
}

/// What was last told of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) severity: Severity,
    pub(super) target_count: u64,
}

/// One attack in the making.
#[derive(Debug)]
pub(super) struct Group {
    /// Under which it is found: its own, and those of its parts.
    pub(super) keys: Vec<GroupKey>,
    pub(super) last: Timestamp,
    /// When the evidence sufficed; `None` while it doesn't.
    pub(super) raised: Option<Timestamp>,
    pub(super) severity: Severity,
    pub(super) target_count: u64,
    pub(super) told: Option<Told>,
    /// Its end was told.
    pub(super) done: bool,
    /// Its actor has got a name since it was told.
    pub(super) renamed: bool,
    signature: Arc<Signature>,
    id: String,
    pub(super) first: Timestamp,
    score: f64,
    actor: Endpoint,
    targets: Vec<Target>,
    evidence: Vec<Evidence>,
    flows: Vec<Arc<FlowInfo>>,
    /// What each signature says, that of the alert first.
    summaries: Vec<(&'static str, String)>,
    coverage: Coverage,
    past: Past,
}

/// What an earlier run knew of an attack, which this one can't count.
#[derive(Default, Debug)]
struct Past {
    coverage: Coverage,
    target_count: u64,
}

impl Group {
    /// A group of one finding. Its score is that of [`Group::merge`], which must follow.
    pub(super) fn new(key: GroupKey, signature: Arc<Signature>, finding: &Finding) -> Self {
        Self {
            id: key.id(finding.first),
            keys: vec![key],
            last: finding.last.max(finding.first),
            raised: None,
            severity: Severity::Low,
            target_count: 0,
            told: None,
            done: false,
            renamed: false,
            signature,
            first: finding.first,
            score: 0.0,
            actor: finding.actor.clone(),
            targets: Vec::new(),
            evidence: Vec::new(),
            flows: Vec::new(),
            summaries: Vec::new(),
            coverage: Coverage::default(),
            past: Past::default(),
        }
    }

    /// The attack turns out to be a part of a larger one.
    pub(super) fn becomes(&mut self, signature: Arc<Signature>) {
        self.signature = signature;
        self.targets.clear();
        self.target_count = 0;
        self.past.target_count = 0;
    }

    /// Whether a finding continues this attack: the two spans overlap, or lie within `gap` of each other.
    pub(super) fn is_near(&self, finding: &Finding, gap: Duration) -> bool {
        finding.first <= self.last.after(gap) && finding.last.after(gap) >= self.first
    }

    /// The earliest sign of the attack, were this finding part of it.
    pub(super) fn first_with(&self, finding: &Finding) -> Timestamp {
        self.first.min(finding.first)
    }

    /// Takes a finding in. `coverage` is that of the whole window, the finding's included.
    pub(super) fn merge(&mut self, finding: Finding, coverage: Coverage, book: &mut FlowBook) {
        let last = finding.last.max(finding.first);
        let newest = last >= self.last;
        self.first = self.first.min(finding.first);
        self.last = self.last.max(last);
        self.coverage = coverage.and(&self.past.coverage);

        if finding.actor.who.confidence <= self.actor.who.confidence {
            self.actor = finding.actor;
        }
        // A finding tells the whole attack as it stands, so the newest one's order counts.
        let (mut targets, older) = if newest && finding.signature == self.signature.id {
            (finding.targets, std::mem::take(&mut self.targets))
        } else {
            (std::mem::take(&mut self.targets), finding.targets)
        };
        for target in older {
            if !targets.iter().any(|known| same_target(known, &target)) {
                targets.push(target);
            }
        }
        targets.truncate(MOST_LISTED);
        self.targets = targets;
        let of = finding.signature;
        let told = self.summaries.iter().position(|(known, _)| *known == of);
        match told.and_then(|at| self.summaries.get_mut(at)) {
            Some((_, summary)) if newest => *summary = finding.summary,
            Some(_) => {}
            None if of == self.signature.id => self.summaries.insert(0, (of, finding.summary)),
            None => self.summaries.push((of, finding.summary)),
        }
        if of != self.signature.id {
            self.target_count = self.target_count.max(finding.target_count);
        } else if newest {
            self.target_count = finding.target_count;
        }
        let least = self.past.target_count.max(self.targets.len() as u64);
        self.target_count = self.target_count.max(least);
        for one in finding.evidence {
            self.take_evidence(one);
        }
        for flow in finding.flows {
            if self.flows.len() >= MOST_LISTED {
                break;
            }
            if !self.flows.iter().any(|known| known.id == flow.id) {
                book.hold(flow.id);
                self.flows.push(flow);
            }
        }

        self.score = score::score(&self.evidence);
        self.severity = score::severity(&self.signature, &self.evidence);
        if self.raised.is_none() && self.score >= self.signature.alert_bits {
            self.raised = Some(last);
        }
    }

    /// Of a feature measured twice, the stronger measurement stays; the newer one among equals.
    fn take_evidence(&mut self, mut one: Evidence) {
        one.bits = score::tenths(one.bits);
        if !one.observed.is_finite() {
            // JSON has no word for it.
            one.observed = 0.0;
        }
        let known = self
            .evidence
            .iter_mut()
            .find(|known| known.feature == one.feature);
        if let Some(known) = known {
            if one.bits >= known.bits {
                *known = one;
            }
        } else if self.evidence.len() < MOST_FEATURES {
            self.evidence.push(one);
        }
    }

    /// Gives the actor and the targets names that they lacked; whether the actor got one.
    pub(super) fn rename(&mut self, better: impl Fn(&Endpoint) -> Option<Attribution>) -> bool {
        let ends = self
            .targets
            .iter_mut()
            .filter_map(|target| target.endpoint.as_mut());
        for end in ends {
            if let Some(who) = better(end) {
                end.who = who;
            }
        }
        let Some(who) = better(&self.actor) else {
            return false;
        };
        self.actor.who = who;
        let subject = |known: &GroupKey| GroupKey {
            actor: actor::key(&self.actor),
            ..known.clone()
        };
        let keys: Vec<GroupKey> = self.keys.iter().map(subject).collect();
        self.keys.extend(keys);
        self.renamed = true;
        true
    }

    /// The alert's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The attack as another run can go on with it; none while it is no alert. Where this run has `ended` it has told the end, and
    /// another one would open it anew.
    pub(super) fn keep(&self, ended: bool) -> Option<AttackV1> {
        let key = |key: &GroupKey| {
            let GroupKey {
                signature,
                actor,
                subject,
            } = key.clone();
            [signature, actor, subject]
        };
        let told = self
            .told
            .filter(|_| !ended)
            .map(|told| (told.severity, told.target_count));
        let summaries = self.summaries.iter();
        let lost = self.coverage.lost.iter();
        Some(AttackV1 {
            schema: kept::SCHEMA.to_owned(),
            id: self.id.clone(),
            signature: self.signature.id.clone(),
            keys: self.keys.iter().map(key).collect(),
            first: self.first.nanos(),
            last: self.last.nanos(),
            raised: self.raised?.nanos(),
            told: told.map(|(severity, targets)| (severity.label().to_owned(), targets)),
            done: self.done || ended,
            target_count: self.target_count,
            actor: (&self.actor).into(),
            targets: self.targets.iter().map(Into::into).collect(),
            evidence: self.evidence.iter().map(Into::into).collect(),
            summaries: summaries
                .map(|(of, text)| ((*of).to_owned(), text.clone()))
                .collect(),
            packets: self.coverage.packets,
            lost: lost.map(|(loss, n)| (loss.label().to_owned(), n)).collect(),
        })
    }

    /// Goes on with an attack of an earlier run; none if it can't be understood.
    pub(super) fn recall(kept: AttackV1, signature: Arc<Signature>) -> Option<Self> {
        let key = |[signature, actor, subject]: [String; 3]| GroupKey {
            signature,
            actor,
            subject,
        };
        let told = match kept.told {
            Some((severity, target_count)) => Some(Told {
                severity: kept::severity(&severity)?,
                target_count,
            }),
            None => None,
        };
        let evidence: Option<Vec<Evidence>> = kept
            .evidence
            .into_iter()
            .map(kept::EvidenceV1::read)
            .collect();
        let evidence = evidence?;
        let targets: Option<Vec<Target>> =
            kept.targets.into_iter().map(kept::TargetV1::read).collect();
        let summaries = kept.summaries.into_iter();
        let summaries: Option<Vec<_>> = summaries
            .map(|(of, text)| Some((kept::detector(&of)?, text)))
            .collect();
        let coverage = kept::coverage(kept.packets, &kept.lost);
        Some(Self {
            keys: kept.keys.into_iter().map(key).collect(),
            last: Timestamp::from_nanos(kept.last),
            raised: Some(Timestamp::from_nanos(kept.raised)),
            severity: score::severity(&signature, &evidence),
            target_count: kept.target_count,
            told,
            done: kept.done,
            renamed: false,
            signature,
            id: kept.id,
            first: Timestamp::from_nanos(kept.first),
            score: score::score(&evidence),
            actor: kept.actor.read()?,
            targets: targets?,
            evidence,
            flows: Vec::new(),
            summaries: summaries?,
            coverage: coverage.clone(),
            past: Past {
                coverage,
                target_count: kept.target_count,
            },
        })
    }

    /// Lets go of the flows it holds.
    pub(super) fn release(&self, book: &mut FlowBook) {
        for flow in &self.flows {
            book.release(flow.id);
        }
    }

    fn summary(&self) -> String {
        let said = self.summaries.iter().map(|(_, summary)| summary.as_str());
        said.collect::<Vec<_>>().join("; also ")
    }

    /// The alert, if there is enough for one.
    pub(super) fn alert(&self, status: AlertStatus, book: &FlowBook) -> Option<Alert> {
        let raised = self.raised?;
        let mut evidence = self.evidence.clone();
        evidence.sort_by(|a, b| {
            b.bits
                .total_cmp(&a.bits)
                .then_with(|| a.feature.cmp(b.feature))
        });
        let flows = self.flows.iter().map(|info| AlertFlow {
            info: Arc::clone(info),
            totals: book.totals(info.id),
        });
        let response = &self.signature.response;
        Some(Alert {
            id: self.id.clone(),
            status,
            signature: Arc::clone(&self.signature),
            first: self.first,
            last: self.last,
            raised,
            severity: self.severity,
            score: self.score,
            confidence: score::confidence(&self.evidence),
            actor: self.actor.clone(),
            targets: self.targets.clone(),
            target_count: self.target_count,
            evidence,
            baseline: BaselineNote::default(),
            coverage: self.coverage.clone(),
            flows: flows.collect(),
            summary: self.summary(),
            incident: None,
            response: response
                .iter()
                .map(|step| actor::fill(step, &self.actor))
                .collect(),
            suppressed: None,
        })
    }
}

fn same_target(a: &Target, b: &Target) -> bool {
    let ip = |target: &Target| target.endpoint.as_ref().map(|end| end.ip);
    ip(a) == ip(b) && a.port == b.port && a.protocol == b.protocol && a.domain == b.domain
}
