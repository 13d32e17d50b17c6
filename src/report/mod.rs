//! What people and other programs get to read besides alerts' JSON: alerts as text, the run's summary, the flow log, and
//! what was said in flows.
//!
//! Owns wording and layout. Writes nothing itself, and decides nothing: everything shown was decided before.

mod baseline;
mod explain;
mod flows;
mod human;
mod incident;
mod messages;
mod summary;
mod table;
mod text;

pub use baseline::{baseline_diff, baseline_overview, workload_text};
pub use explain::{
    AcquaintanceV1, ConversationV1, ExplainedV1, ExplanationV1, OutcomeV1, WeighedV1,
    explanation_text,
};
pub use flows::{FlowEndV1, FlowRecordV1, TunnelV1};
pub use human::counted;
pub use incident::incident_text;
pub use messages::{
    DatabaseStepV1, DatabaseV1, DnsV1, HttpRequestV1, HttpResponseV1, LoginV1, MessageV1, SaidV1,
    SshV1, StratumV1, TlsCertificateV1, TlsClientV1, TlsServerV1, TunnelOpenedV1,
};
pub use summary::RunSummary;
pub use table::FlowRows;
pub use text::{TextOptions, alert_text};
