//! The declaration half of a detector: what it is called, how it is set, and its ADS page.
//!
//! A signature is a TOML file named after its detector. The built-in ones are compiled in; `--signatures DIR` overrides
//! them file by file. All problems of a file are reported together, with file and line. Knows nothing of how a detector
//! works: `[thresholds]` is handed to it as a table.

mod error;
#[cfg(test)]
pub(crate) mod golden;
mod load;
mod read;
mod render;
mod set;
#[cfg(test)]
mod tests;
mod wrap;

use crate::memory::Share;

pub use error::{Problem, SignatureError};
pub use load::parse;
pub(crate) use read::{Node, Reader, Scope};
pub use render::{catalogue, markdown, page};
pub use set::SignatureSet;
pub(crate) use wrap::wrap;

/// What an alert is about; the closed list that responders route by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Command and control, tunnels.
    C2,
    /// Reconnaissance and pivots.
    Recon,
    /// Attacks on databases.
    Database,
    /// Attacks on credentials.
    Credential,
    /// Implanted images, persistence.
    Implant,
    /// Data leaving.
    Exfiltration,
    /// Resources used for somebody else.
    Hijack,
    /// A departure from the baseline that isn't any of these.
    Anomaly,
}

impl Category {
    /// Every category, in the order of an attack.
    pub const ALL: &[Self] = &[
        Self::C2,
        Self::Recon,
        Self::Database,
        Self::Credential,
        Self::Implant,
        Self::Exfiltration,
        Self::Hijack,
        Self::Anomaly,
    ];

    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::C2 => "c2",
            Self::Recon => "recon",
            Self::Database => "database",
            Self::Credential => "credential",
            Self::Implant => "implant",
            Self::Exfiltration => "exfiltration",
            Self::Hijack => "hijack",
            Self::Anomaly => "anomaly",
        }
    }
}

/// How urgent an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// For the next working day.
    Low,
    /// For today.
    Medium,
    /// Wake somebody.
    High,
    /// Wake everybody.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: &[Self] = &[Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The next graver one, if there is one.
    #[must_use]
    pub const fn graver(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }

    /// What to do about it, in a few words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Low => "for the next working day",
            Self::Medium => "for today",
            Self::High => "wake somebody",
            Self::Critical => "wake everybody",
        }
    }
}

/// How settled a signature is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// Its thresholds and features may still change between releases.
    Preview,
    /// Changes only with a note in the changelog.
    Stable,
    /// Will be removed.
    Deprecated,
}

impl Status {
    /// Every status.
    pub const ALL: &[Self] = &[Self::Preview, Self::Stable, Self::Deprecated];

    /// The word used in signature files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Stable => "stable",
            Self::Deprecated => "deprecated",
        }
    }
}

/// What a tap must show for a detection to work; where it doesn't, the detection is blind and says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Requirement {
    /// Each pod's traffic under the pod's own address, same-node traffic included: a bridge, a veth, a pod's interface.
    PodSide,
    /// The node's own interface, where traffic of the kubelet and the runtime passes.
    Uplink,
    /// Application data that isn't encrypted.
    Plaintext,
    /// Both directions of a conversation.
    BothDirections,
}

impl Requirement {
    /// Every requirement.
    pub const ALL: &[Self] = &[
        Self::PodSide,
        Self::Uplink,
        Self::Plaintext,
        Self::BothDirections,
    ];

    /// The word used in signature files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PodSide => "pod-side",
            Self::Uplink => "uplink",
            Self::Plaintext => "plaintext",
            Self::BothDirections => "both-directions",
        }
    }

    /// What it means, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::PodSide => {
                "pods' traffic under their own addresses (a bridge, veth or pod interface)"
            }
            Self::Uplink => "the node's own interface, where the kubelet and the runtime talk",
            Self::Plaintext => "application data that isn't encrypted",
            Self::BothDirections => "both directions of each conversation",
        }
    }
}

/// A technique of MITRE ATT&CK (Enterprise) that the traffic shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttackRef {
    /// Tactic: `TA0007`.
    pub tactic: String,
    /// Technique or sub-technique: `T1046`, `T1071.004`.
    pub technique: String,
    /// The technique's name, with its parent's for a sub-technique.
    pub name: String,
}

/// A section of an ADS page (Palantir's Alerting and Detection Strategy framework).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AdsSection {
    /// What is to be detected.
    Goal,
    /// Where it stands in ATT&CK, and why there.
    Categorization,
    /// How it is detected, in short.
    StrategyAbstract,
    /// What a responder needs to know of the technique and of the detection.
    TechnicalContext,
    /// What is not seen, and what is taken for granted.
    BlindSpots,
    /// Benign activity that looks like it.
    FalsePositives,
    /// How urgent it is and why.
    Priority,
    /// How to set it off on purpose.
    Validation,
    /// What to do when it fires.
    Response,
}

impl AdsSection {
    /// Every section, in the framework's order.
    pub const ALL: &[Self; 9] = &[
        Self::Goal,
        Self::Categorization,
        Self::StrategyAbstract,
        Self::TechnicalContext,
        Self::BlindSpots,
        Self::FalsePositives,
        Self::Priority,
        Self::Validation,
        Self::Response,
    ];

    /// Its key in the `[ads]` table.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Goal => "goal",
            Self::Categorization => "categorization",
            Self::StrategyAbstract => "strategy_abstract",
            Self::TechnicalContext => "technical_context",
            Self::BlindSpots => "blind_spots",
            Self::FalsePositives => "false_positives",
            Self::Priority => "priority",
            Self::Validation => "validation",
            Self::Response => "response",
        }
    }

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Goal => "Goal",
            Self::Categorization => "Categorization",
            Self::StrategyAbstract => "Strategy abstract",
            Self::TechnicalContext => "Technical context",
            Self::BlindSpots => "Blind spots and assumptions",
            Self::FalsePositives => "False positives",
            Self::Priority => "Priority",
            Self::Validation => "Validation",
            Self::Response => "Response",
        }
    }
}

/// The ADS page: one text per section, in Markdown (paragraphs, `-` lists, code indented by four spaces).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ads([String; 9]);

impl Ads {
    /// The text of a section, without blank lines around it.
    pub fn get(&self, section: AdsSection) -> &str {
        self.0.get(section as usize).map_or("", String::as_str)
    }

    fn set(&mut self, section: AdsSection, text: &str) {
        if let Some(slot) = self.0.get_mut(section as usize) {
            text.trim_matches('\n').clone_into(slot);
        }
    }
}

/// What a detection is: read from `signatures/<id>.toml`.
#[derive(Clone, PartialEq, Debug)]
pub struct Signature {
    /// Kebab-case; the stem of the file and the id of the detector.
    pub id: String,
    /// A few words for people.
    pub title: String,
    /// What its alerts are about.
    pub category: Category,
    /// The severity of the full-blown case; an alert with thinner evidence gets less.
    pub severity: Severity,
    /// Features whose evidence makes an alert one step graver than that.
    pub escalates_on: Vec<String>,
    /// How settled it is.
    pub status: Status,
    /// The release that brought it.
    pub since: String,
    /// The techniques its traffic shows; empty only for anomalies, which may be none.
    pub attack: Vec<AttackRef>,
    /// Other technique ids under which people look for this (a strategy document's own number).
    pub related: Vec<String>,
    /// Signatures of larger attacks that this one's may be a part of: what the same actor does of both is one alert, theirs.
    pub part_of: Vec<String>,
    /// Whether it tells of what is new, and not of what is wrong: then a workload that is still learning may learn it. So are
    /// anomalies, unless they say otherwise.
    pub departure: bool,
    /// What a tap must show.
    pub requires: Vec<Requirement>,
    /// Bits of evidence from which an alert is raised.
    pub alert_bits: f64,
    /// The detector's settings, units in the names.
    pub thresholds: toml::Table,
    /// The run's part of the memory that these are made for; no part of the file.
    pub share: Share,
    /// First steps for a responder, commands in backticks. `{namespace}`, `{pod}`, `{workload}`, `{node}` and `{ip}` stand
    /// for the actor's.
    pub response: Vec<String>,
    /// Its page.
    pub ads: Ads,
}

/// The words in braces that a response step may use, filled in with the actor's when an alert is made.
pub const PLACEHOLDERS: &[&str] = &["namespace", "pod", "workload", "node", "ip"];

impl Signature {
    /// The same for a run that has a share of memory: what its detector may remember (`max_…`) is less or more.
    #[must_use]
    pub fn within(&self, share: Share) -> Self {
        let mut scaled = Self {
            share,
            ..self.clone()
        };
        for (name, value) in &mut scaled.thresholds {
            if let toml::Value::Integer(most) = value
                && name.starts_with("max_")
                && !name.ends_with("_secs")
            {
                let part = share.part(usize::try_from(*most).unwrap_or(0));
                *most = i64::try_from(part).unwrap_or(i64::MAX);
            }
        }
        scaled
    }

    /// The run's share of a bound that isn't among the settings.
    pub const fn room(&self, bound: usize) -> usize {
        self.share.part(bound)
    }

    /// What a tap that shows only `shown` lacks for this detection.
    pub fn lacks(&self, shown: &[Requirement]) -> Vec<Requirement> {
        self.requires
            .iter()
            .copied()
            .filter(|requirement| !shown.contains(requirement))
            .collect()
    }
}
