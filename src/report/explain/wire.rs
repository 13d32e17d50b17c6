//! The published form of an explanation: `spanwatch.explanation/1`, one JSON object a line.
//!
//! Each of `signatures` says what became of one: `alert` (told by `alert`), `part` (told by the alert of the larger attack
//! `of`), `allowed` (told, and silenced for the reason in `allowed`), `short` (`short_by` bits too few), `waits` (bits enough,
//! and not told), `nothing` (its detector looked at `looked` events and weighed none), `not-shown` (there was none of what it
//! `needs`). Whatever isn't known or doesn't apply is left out. Names and meanings hold still within version 1; new fields
//! may appear.

use serde::{Deserialize, Serialize};

use crate::alert::{
    Acquaintance, ActorV1, Conversation, Ending, EvidenceV1, Explanation, Familiarity, Quiet,
    TargetV1, UtcTime, Weighing, flow_community_id,
};
use crate::signature::Signature;

/// An explanation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplanationV1 {
    /// Always `spanwatch.explanation/1`.
    pub schema: String,
    /// What was asked for, as it was typed.
    pub asked: String,
    /// Conversations: those that the baseline knows last, else in the order of their beginning.
    pub conversations: Vec<ConversationV1>,
    /// Flows of other conversations, for which there was no room.
    pub flows_not_listed: u64,
    /// What each signature made of it, the nearest to an alert first.
    pub signatures: Vec<ExplainedV1>,
}

/// All that passed between a pod and a peer at one port.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConversationV1 {
    /// Whose conversation it is.
    pub me: ActorV1,
    /// `client` if it began, else `server`.
    pub role: String,
    /// The other end.
    pub other: ActorV1,
    /// What a baseline calls that.
    pub peer: String,
    /// The server's port; 0 for protocols without.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Flows, those answered, and those refused or silent.
    pub flows: u64,
    /// See `flows`.
    pub answered: u64,
    /// See `flows`.
    pub failed: u64,
    /// Payload bytes of the flows that are over: the client's, the server's.
    pub payload_bytes: [u64; 2],
    /// First flow's beginning.
    pub first: UtcTime,
    /// Last sign.
    pub last: UtcTime,
    /// Application protocols.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Community IDs of a few of the flows.
    pub community_ids: Vec<String>,
    /// `none`, `no-workload`, `unknown-workload` or `known`.
    pub baseline: String,
    /// What the baseline says, where it knows the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<AcquaintanceV1>,
}

/// What a workload's baseline says of a peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AcquaintanceV1 {
    /// Whether the peer is new.
    pub new: bool,
    /// Bits of surprise at it; 0 for a known one.
    pub bits: f64,
    /// Bits of a new peer by the workload's own history alone.
    pub own_bits: f64,
    /// How often it was met.
    pub met: u64,
    /// Peers known in this role.
    pub peers: u64,
    /// Contacts with them.
    pub contacts: u64,
    /// Peers met once.
    pub met_once: u64,
    /// How far the peers are known: `none`, `learning`, `stale`, `stable`.
    pub state: String,
    /// What they wait for; left out if for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
    /// Seconds between the visits of a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u64>,
    /// Bits of surprise at the time of the first flow, by that plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour_bits: Option<f64>,
}

/// What became of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeV1 {
    /// An alert.
    Alert,
    /// Told with a larger attack.
    Part,
    /// An alert that somebody has allowed.
    Allowed,
    /// Too few bits.
    Short,
    /// Bits enough, and not told.
    Waits,
    /// Nothing to weigh.
    Nothing,
    /// Nothing of its kind was there.
    NotShown,
}

/// What a signature made of what was asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplainedV1 {
    /// The signature.
    pub signature: String,
    /// What became of it.
    pub outcome: OutcomeV1,
    /// Bits that raise an alert.
    pub alert_bits: f64,
    /// The detector's settings.
    pub thresholds: serde_json::Value,
    /// What was weighed, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighed: Option<WeighedV1>,
    /// Events that the detector was shown, where it weighed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<u64>,
    /// What it would have had to be shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Why the detector passed over what it saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Evidence and its sum.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WeighedV1 {
    /// The sum over families of each one's strongest.
    pub bits: f64,
    /// How many are missing for an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_by: Option<f64>,
    /// The alert that tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// That alert's signature, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Why the alert is silenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// Who did it.
    pub actor: ActorV1,
    /// Against what; at most 16.
    pub targets: Vec<TargetV1>,
    /// How many targets there were.
    pub target_count: u64,
    /// First sign.
    pub first: UtcTime,
    /// Last sign.
    pub last: UtcTime,
    /// What was found, in a sentence without the actor.
    pub summary: String,
    /// Evidence that counts.
    pub evidence: Vec<EvidenceV1>,
    /// Evidence whose family has a stronger one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_counted: Vec<EvidenceV1>,
}

impl From<&Explanation> for ExplanationV1 {
    fn from(explanation: &Explanation) -> Self {
        let weighed = explanation.weighings.iter().map(Into::into);
        let quiet = explanation.quiet.iter().map(Into::into);
        Self {
            schema: "spanwatch.explanation/1".to_owned(),
            asked: explanation.asked.clone(),
            conversations: explanation.conversations.iter().map(Into::into).collect(),
            flows_not_listed: explanation.more,
            signatures: weighed.chain(quiet).collect(),
        }
    }
}

impl From<&Conversation> for ConversationV1 {
    fn from(one: &Conversation) -> Self {
        let (baseline, known) = match &one.familiarity {
            Familiarity::NoBaseline => ("none", None),
            Familiarity::NoWorkload => ("no-workload", None),
            Familiarity::UnknownWorkload => ("unknown-workload", None),
            Familiarity::Known(known) => ("known", Some((&**known).into())),
        };
        let samples = one.samples.iter();
        Self {
            me: (&one.me).into(),
            role: one.contact.role.label().to_owned(),
            other: (&one.other).into(),
            peer: one.contact.peer.to_string(),
            port: one.contact.port,
            protocol: one.contact.protocol,
            flows: one.flows,
            answered: one.answered,
            failed: one.failed,
            payload_bytes: one.bytes,
            first: UtcTime(one.first),
            last: UtcTime(one.last),
            apps: one.apps.iter().map(|app| (*app).to_owned()).collect(),
            community_ids: samples.map(|flow| flow_community_id(flow)).collect(),
            baseline: baseline.to_owned(),
            known,
        }
    }
}

impl From<&Acquaintance> for AcquaintanceV1 {
    fn from(known: &Acquaintance) -> Self {
        let plan = known.schedule;
        Self {
            new: known.met.is_none() && !known.by_network,
            bits: tenths(known.bits),
            own_bits: tenths(known.own_bits),
            met: known.met.map_or(0, |stat| stat.count),
            peers: known.peers as u64,
            contacts: known.contacts,
            met_once: known.once,
            state: known.standing.state.label().to_owned(),
            missing: known.standing.missing(),
            every_s: plan.map(|plan| plan.every.as_secs()),
            hour_bits: plan.map(|_| tenths(known.hour_bits)),
        }
    }
}

impl From<&Weighing> for ExplainedV1 {
    fn from(one: &Weighing) -> Self {
        let finding = &one.finding;
        let of = |counting: bool| {
            let evidence = one.evidence().into_iter();
            evidence
                .filter(move |(_, counts)| *counts == counting)
                .map(|(evidence, _)| evidence.into())
                .collect()
        };
        let mut weighed = WeighedV1 {
            bits: one.bits,
            short_by: None,
            alert: None,
            of: None,
            allowed: None,
            actor: (&finding.actor).into(),
            targets: finding.targets.iter().take(16).map(Into::into).collect(),
            target_count: finding.target_count,
            first: UtcTime(finding.first),
            last: UtcTime(finding.last),
            summary: finding.summary.clone(),
            evidence: of(true),
            not_counted: of(false),
        };
        let outcome = match &one.end {
            Ending::Told(id) => {
                weighed.alert = Some(id.clone());
                OutcomeV1::Alert
            }
            Ending::Part(id, of) => {
                weighed.alert = Some(id.clone());
                weighed.of = Some(of.clone());
                OutcomeV1::Part
            }
            Ending::Allowed(id, why) => {
                weighed.alert = Some(id.clone());
                weighed.allowed = Some(why.clone());
                OutcomeV1::Allowed
            }
            Ending::Short(bits) => {
                weighed.short_by = Some(tenths(*bits));
                OutcomeV1::Short
            }
            Ending::Waits => OutcomeV1::Waits,
        };
        Self {
            weighed: Some(weighed),
            remarks: one.remarks.clone(),
            ..of_signature(&one.signature, outcome)
        }
    }
}

impl From<&Quiet> for ExplainedV1 {
    fn from(one: &Quiet) -> Self {
        let outcome = if one.looked > 0 {
            OutcomeV1::Nothing
        } else {
            OutcomeV1::NotShown
        };
        Self {
            looked: Some(one.looked),
            needs: one.needs.iter().map(|kind| (*kind).to_owned()).collect(),
            remarks: one.remarks.clone(),
            ..of_signature(&one.signature, outcome)
        }
    }
}

fn of_signature(signature: &Signature, outcome: OutcomeV1) -> ExplainedV1 {
    ExplainedV1 {
        signature: signature.id.clone(),
        outcome,
        alert_bits: signature.alert_bits,
        // A table of numbers, which JSON has words for.
        thresholds: serde_json::to_value(&signature.thresholds).unwrap_or_default(),
        weighed: None,
        looked: None,
        needs: Vec::new(),
        remarks: Vec::new(),
    }
}

fn tenths(bits: f64) -> f64 {
    (bits * 10.0).round() / 10.0
}
