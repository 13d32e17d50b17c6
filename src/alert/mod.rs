//! Findings in, alerts out: one alert per attack, which grows while the attack goes on.
//!
//! Owns the grouping, the score, the severity and the published form ([`AlertV1`]). Knows no detector's method, and no
//! sink. `score.rs` derives severity and confidence, and says how.

mod actor;
mod correlate;
mod coverage;
mod exceptions;
mod explanation;
mod flows;
mod group;
mod incident;
mod kept;
mod score;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use actor::{holder, subject_of_sentence};
pub use correlate::{Correlator, CorrelatorConfig, Kept};
pub use coverage::Coverage;
pub(crate) use exceptions::Glob;
pub use exceptions::{ExceptionError, Exceptions, Suppression};
pub use explanation::{
    Acquaintance, Conversation, Ending, Explanation, Familiarity, Quiet, Weighing,
};
pub use flows::FlowTotals;
pub use incident::{Incident, Stage, incidents, tactic_name, tie};
pub use score::{counted, score};
pub use wire::{
    ActorV1, AlertV1, AttackV1, AttributionV1, BaselineStateV1, BaselineV1, CategoryV1, CoverageV1,
    EndV1, EvidenceV1, FamilyV1, FlowV1, IdentityV1, IncidentV1, SCHEMA, SeverityV1, StatusV1,
    SuppressedV1, TargetV1, TimesV1, UtcTime, flow_community_id, schema,
};

use crate::detectors::{Evidence, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::signature::{Severity, Signature};
use crate::time::Timestamp;

/// Where an alert stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AlertStatus {
    /// Told for the first time.
    Open,
    /// Told before, and has grown.
    Updated,
    /// Nothing more came of it, or the input is over.
    Closed,
}

/// How much the baseline knew of the actor's workload.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BaselineState {
    /// Nothing: there was no baseline, or it doesn't know the workload.
    #[default]
    None,
    /// Too little to call anything new.
    Learning,
    /// Enough.
    Stable,
}

/// What an alert says of the baseline behind it. The correlator can't know it; whoever has the baseline fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BaselineNote {
    /// How much it knew.
    pub state: BaselineState,
    /// For how long the workload had been watched.
    pub observed: Duration,
}

/// A flow that shows the attack.
#[derive(Clone, Debug)]
pub struct AlertFlow {
    /// The flow.
    pub info: Arc<FlowInfo>,
    /// What it carried; `None` while it goes on.
    pub totals: Option<FlowTotals>,
}

/// One attack, as a responder gets to see it.
#[derive(Clone, Debug)]
pub struct Alert {
    /// 16 hex digits, the same whenever the same input is read.
    pub id: String,
    /// Where it stands.
    pub status: AlertStatus,
    /// What was detected.
    pub signature: Arc<Signature>,
    /// First sign of it.
    pub first: Timestamp,
    /// Last sign of it.
    pub last: Timestamp,
    /// Packet time when the evidence sufficed.
    pub raised: Timestamp,
    /// How urgent it is.
    pub severity: Severity,
    /// Bits of evidence: the sum over families of each one's strongest.
    pub score: f64,
    /// How likely it is an attack, from 0 to 1.
    pub confidence: f64,
    /// Who does it.
    pub actor: Endpoint,
    /// Against what; at most 16, the most telling first.
    pub targets: Vec<Target>,
    /// How many targets there are in all.
    pub target_count: u64,
    /// Why, the weightiest first.
    pub evidence: Vec<Evidence>,
    /// What the baseline knew.
    pub baseline: BaselineNote,
    /// How much was seen and lost meanwhile.
    pub coverage: Coverage,
    /// Example flows; at most 16.
    pub flows: Vec<AlertFlow>,
    /// One sentence without the actor: "scanned 57 hosts on port 6379".
    pub summary: String,
    /// First steps, with the actor's names filled in; commands in backticks.
    pub response: Vec<String>,
    /// What it is a part of, where others belong to it.
    pub incident: Option<Arc<Incident>>,
    /// Why it isn't told, if somebody allowed it.
    pub suppressed: Option<Suppression>,
}

impl Alert {
    /// One sentence that a person on call understands.
    pub fn sentence(&self) -> String {
        let summary = self.summary.trim().trim_end_matches('.');
        format!("{} {summary}.", subject_of_sentence(&self.actor))
    }
}
