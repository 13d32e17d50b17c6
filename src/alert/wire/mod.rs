//! The published form of an alert: `spanwatch.alert/1`.
//!
//! Owns names and shapes, which hold still: a change that an old reader can't skip makes a new version. Fields whose value
//! isn't known are left out, never `null`. `docs/alert.schema.json` is made from these types.

mod convert;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

pub use convert::flow_community_id;
pub use words::{BaselineStateV1, CategoryV1, FamilyV1, IdentityV1, SeverityV1, StatusV1, UtcTime};

/// The value of `schema`.
pub const SCHEMA: &str = "spanwatch.alert/1";

/// The JSON Schema of [`AlertV1`], as in `docs/alert.schema.json`.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<AlertV1>()
}

/// An alert: one attack by one actor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Spanwatch alert, version 1")]
pub struct AlertV1 {
    /// Always `spanwatch.alert/1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// 16 hex digits, the same whenever the same input is read.
    pub id: String,
    /// Where it stands.
    pub status: StatusV1,
    /// When it happened, by packet time.
    pub time: TimesV1,
    /// Id of the signature: `port-scan`.
    pub signature: String,
    /// What it is about.
    pub category: CategoryV1,
    /// The signature's title.
    pub title: String,
    /// How urgent it is.
    pub severity: SeverityV1,
    /// Bits of evidence: the sum over families of each one's weightiest `evidence`.
    pub score_bits: f64,
    /// How likely it is an attack, from 0 to 1.
    pub confidence: f64,
    /// MITRE ATT&CK techniques that the traffic shows.
    pub attack: Vec<AttackV1>,
    /// Who does it.
    pub actor: ActorV1,
    /// Against what; at most 16, the most telling first.
    pub targets: Vec<TargetV1>,
    /// How many targets there are in all.
    pub target_count: u64,
    /// Why, the weightiest first.
    pub evidence: Vec<EvidenceV1>,
    /// What the baseline knew.
    pub baseline: BaselineV1,
    /// How much was seen and lost meanwhile.
    pub coverage: CoverageV1,
    /// How sure it is that the actor's address was who `actor` says.
    pub attribution: AttributionV1,
    /// Flows that show it; at most 16.
    pub flows: Vec<FlowV1>,
    /// One sentence a person on call understands.
    pub summary: String,
    /// First steps; commands in backticks.
    pub response: Vec<String>,
    /// The intrusion it is a stage of, the same on each of its alerts. Left out where no other alert belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentV1>,
    /// Why it isn't told, on an alert that somebody allowed; shown on request only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<SuppressedV1>,
}

/// What silences an alert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuppressedV1 {
    /// Why.
    pub reason: String,
    /// Who answers for it; nobody for what was accepted into a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The exception's file and line, or the alert that was accepted.
    pub by: String,
}

/// Alerts that belong together: of one workload, of an attack and what its victim did next, or with one place outside.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IncidentV1 {
    /// 16 hex digits; stays the same while the incident grows.
    pub id: String,
    /// That of its gravest alert, or one step graver once three tactics were passed.
    pub severity: SeverityV1,
    /// First sign of the first alert.
    pub first: UtcTime,
    /// Last sign of the last alert.
    pub last: UtcTime,
    /// MITRE ATT&CK tactics passed, in the order in which they first showed.
    pub tactics: Vec<TacticV1>,
    /// Its alerts in the order of time; at most 16, the earliest.
    pub stages: Vec<StageV1>,
    /// How many alerts there are in all.
    pub stage_count: u64,
}

/// A tactic of MITRE ATT&CK (Enterprise).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TacticV1 {
    /// Its id: `TA0007`.
    pub tactic: String,
    /// Its name: `Discovery`.
    pub name: String,
}

/// An alert's place in an incident.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageV1 {
    /// Id of the alert.
    pub alert: String,
    /// Id of its signature.
    pub signature: String,
    /// Its tactic; left out for a departure from the baseline that stands for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tactic: Option<String>,
    /// How urgent it is by itself.
    pub severity: SeverityV1,
    /// First sign of it.
    pub first: UtcTime,
    /// Last sign of it.
    pub last: UtcTime,
    /// The address that did it.
    pub ip: IpAddr,
    /// The workload that held the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// When an attack happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TimesV1 {
    /// First sign of it.
    pub first: UtcTime,
    /// Last sign of it.
    pub last: UtcTime,
    /// When the evidence sufficed.
    pub raised: UtcTime,
}

/// A technique of MITRE ATT&CK (Enterprise).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AttackV1 {
    /// Tactic: `TA0007`.
    pub tactic: String,
    /// Technique or sub-technique: `T1071.004`.
    pub technique: String,
    /// Its name.
    pub name: String,
}

/// Whoever held an address at the time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActorV1 {
    /// The address.
    pub ip: IpAddr,
    /// What it was.
    pub identity: IdentityV1,
    /// Namespace of a pod or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `namespace/kind/name` of the workload; of the service or node itself where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Labels of a pod or service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Something an attack is aimed at: an address, a name, or both.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TargetV1 {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// What the address was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityV1>,
    /// Namespace of a pod or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `namespace/kind/name` of the workload; of the service or node itself where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Labels of a pod or service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Port, where one matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Protocol: `tcp`, `dns`, `postgresql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Registered domain, where the target is a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// One measured departure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceV1 {
    /// What was measured.
    pub feature: String,
    /// Its family: inside one, only the weightiest counts.
    pub family: FamilyV1,
    /// The measurement.
    pub observed: f64,
    /// What would have been normal, in words.
    pub expected: String,
    /// Its weight in bits.
    pub bits: f64,
    /// Whether it stands on its own: a tool's unmistakable mark. Left out where it doesn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signature_grade: bool,
    /// One sentence for people.
    pub text: String,
}

/// What the baseline knew of the actor's workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BaselineV1 {
    /// How much.
    pub state: BaselineStateV1,
    /// For how many seconds the workload had been watched.
    pub observed_s: u64,
}

/// How much was seen and lost over the attack's time (and, for attacks long ago, some time before it).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CoverageV1 {
    /// Packets read.
    pub packets: u64,
    /// What was lost, by cause. A cause that isn't listed lost nothing.
    pub lost: BTreeMap<String, u64>,
}

/// How sure an identity is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AttributionV1 {
    /// `exact`, `time`, `ambiguous`, `node`, `unknown-private` or `external`.
    pub confidence: String,
    /// Who said so: `kubernetes-watch`, `cni-cache`, …
    pub source: String,
}

/// A flow that shows the attack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FlowV1 {
    /// Community ID, version 1, seed 0.
    pub community_id: String,
    /// The end that began the conversation.
    pub src: EndV1,
    /// The end that was addressed.
    pub dst: EndV1,
    /// Transport: `tcp`, `udp`, `icmp`, …
    pub proto: String,
    /// Application protocol, once recognised by content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Bytes of whole frames, out from `src` and in to it. Left out while the flow goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<[u64; 2]>,
    /// Packets, out from `src` and in to it. Left out while the flow goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<[u64; 2]>,
}

/// One end of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EndV1 {
    /// The address.
    pub ip: IpAddr,
    /// Its port; left out for protocols that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

#[cfg(test)]
mod tests;
