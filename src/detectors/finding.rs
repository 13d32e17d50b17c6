//! What a detector reports.

use std::sync::Arc;

use crate::event::{Endpoint, FlowInfo};
use crate::time::Timestamp;

/// The kinds of evidence that count independently of one another. Inside a family only the strongest counts; across
/// families bits add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// Never seen before for this workload.
    Novelty,
    /// When it happens.
    Timing,
    /// How much, and of what shape.
    Volume,
    /// What the protocol's content says.
    Protocol,
    /// What came of it: refusals, failures, successes after them.
    Outcome,
    /// A touched decoy, or an address that nobody ever held.
    Deception,
}

impl Family {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Novelty,
        Self::Timing,
        Self::Volume,
        Self::Protocol,
        Self::Outcome,
        Self::Deception,
    ];

    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Novelty => "novelty",
            Self::Timing => "timing",
            Self::Volume => "volume",
            Self::Protocol => "protocol",
            Self::Outcome => "outcome",
            Self::Deception => "deception",
        }
    }
}

/// One measured departure.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    /// Dotted name of what was measured: `dns.subdomain_bits_per_min`.
    pub feature: &'static str,
    /// Its family.
    pub family: Family,
    /// The measurement.
    pub observed: f64,
    /// What would have been normal, in words: `≤ 84 (p99 of 3 d)`.
    pub expected: String,
    /// Its weight in bits: −log2 of the probability that normal traffic shows this or more, or the log2 likelihood ratio
    /// of attack against normal.
    pub bits: f64,
    /// Whether it stands on its own: a tool's unmistakable mark.
    pub signature_grade: bool,
    /// One sentence for people.
    pub text: String,
}

/// Somebody or something an attack is aimed at.
#[derive(Clone, Debug)]
pub struct Target {
    /// The end, where it is an address.
    pub endpoint: Option<Endpoint>,
    /// Port, where one matters.
    pub port: Option<u16>,
    /// Protocol in words: `tcp`, `dns`, `postgresql`.
    pub protocol: Option<&'static str>,
    /// Registered domain, where the target is a name.
    pub domain: Option<Arc<str>>,
}

/// One attack as a detector sees it at the moment. Reported anew, whole, when it has grown.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The signature it belongs to.
    pub signature: &'static str,
    /// What sets this attack of the actor apart from another under the same signature: a domain, a port; empty when the
    /// actor alone does. Findings with the same signature, actor and subject become one alert.
    pub subject: String,
    /// Who does it.
    pub actor: Endpoint,
    /// First sign of it.
    pub first: Timestamp,
    /// Last sign of it.
    pub last: Timestamp,
    /// Against what; at most 16, the most telling first.
    pub targets: Vec<Target>,
    /// How many targets there are in all.
    pub target_count: u64,
    /// Why it is thought to be one.
    pub evidence: Vec<Evidence>,
    /// Example flows; at most 16.
    pub flows: Vec<Arc<FlowInfo>>,
    /// One sentence a person on call understands, without the actor's name: "scanned 57 hosts on port 6379".
    pub summary: String,
}
