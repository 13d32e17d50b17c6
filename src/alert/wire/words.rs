//! The words and times of published alerts.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::alert::{AlertStatus, BaselineState};
use crate::detectors::Family;
use crate::identity::IdentityKind;
use crate::signature::{Category, Severity};
use crate::time::Timestamp;

/// A time as RFC 3339 in UTC with nanoseconds: `2026-03-01T03:12:04.123456789Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UtcTime(pub Timestamp);

impl std::fmt::Display for UtcTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Every i64 of nanoseconds lies within jiff's years.
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0.nanos())).unwrap_or_default();
        write!(f, "{time:.9}")
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        let nanos = i64::try_from(time.as_nanosecond()).map_err(D::Error::custom)?;
        Ok(Self(Timestamp::from_nanos(nanos)))
    }
}

impl JsonSchema for UtcTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UtcTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, UTC, nine digits of fraction",
        })
    }
}

/// A closed list of words that mirrors an enum of the program.
macro_rules! words {
    ($(#[$doc:meta])+ $name:ident mirrors $inner:ty { $($(#[$variant_doc:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$variant_doc])+ #[serde(rename = $word)] $variant,)+ }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                match inner { $(<$inner>::$variant => Self::$variant,)+ }
            }
        }
    };
}

words! {
    /// Where an alert stands. In one run an id is `open` first; every later line for it is the whole, current alert.
    StatusV1 mirrors AlertStatus {
        /// Told for the first time.
        Open = "open",
        /// Told before, and has grown.
        Updated = "updated",
        /// Nothing more came of it, or the input is over.
        Closed = "closed",
    }
}

words! {
    /// What the alert is about.
    CategoryV1 mirrors Category {
        /// Command and control, tunnels.
        C2 = "c2",
        /// Reconnaissance and pivots.
        Recon = "recon",
        /// Attacks on databases.
        Database = "database",
        /// Attacks on credentials.
        Credential = "credential",
        /// Implanted images, persistence.
        Implant = "implant",
        /// Data leaving.
        Exfiltration = "exfiltration",
        /// Resources used for somebody else.
        Hijack = "hijack",
        /// A departure from the baseline that isn't any of these.
        Anomaly = "anomaly",
    }
}

words! {
    /// How urgent it is.
    SeverityV1 mirrors Severity {
        /// For the next working day.
        Low = "low",
        /// For today.
        Medium = "medium",
        /// Wake somebody.
        High = "high",
        /// Wake everybody.
        Critical = "critical",
    }
}

words! {
    /// What kind of thing an address was.
    IdentityV1 mirrors IdentityKind {
        /// A pod or container.
        Pod = "pod",
        /// A service address.
        Service = "service",
        /// A node, or whatever shares its address.
        Node = "node",
        /// An address outside the cluster.
        External = "external",
        /// A private address that no source knows.
        Unknown = "unknown",
    }
}

words! {
    /// A kind of evidence that counts independently of the others.
    FamilyV1 mirrors Family {
        /// Never seen before for this workload.
        Novelty = "novelty",
        /// When it happens.
        Timing = "timing",
        /// How much, and of what shape.
        Volume = "volume",
        /// What the protocol's content says.
        Protocol = "protocol",
        /// What came of it.
        Outcome = "outcome",
        /// A touched decoy, or an address that nobody ever held.
        Deception = "deception",
    }
}

words! {
    /// How much the baseline knew of the actor's workload.
    BaselineStateV1 mirrors BaselineState {
        /// Nothing.
        None = "none",
        /// Too little to call anything new.
        Learning = "learning",
        /// Enough.
        Stable = "stable",
    }
}
