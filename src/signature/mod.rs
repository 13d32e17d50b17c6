//! The declaration half of a detector: what it is called, how it is set, and its ADS page.
//!
//! A signature is a TOML file named after its detector. The built-in ones are compiled in; `--signatures DIR` overrides
//! them file by file. All problems of a file are reported together, with file and line.

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
    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
