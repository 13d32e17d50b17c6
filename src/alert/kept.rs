//! Attacks as they are kept over a restart: everything of a group but its flows, whose numbers mean nothing to another run.
//!
//! The form is versioned by [`SCHEMA`] and separate from the types inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use crate::detectors::{DETECTORS, Evidence, Family, Target};
use crate::event::Endpoint;
use crate::identity::{Attribution, Confidence, IdentityV1, Source};
use crate::signature::Severity;
use crate::telemetry::{Loss, LossCounts};

/// The form's name.
pub(super) const SCHEMA: &str = "spanwatch.attack/1";
/// Words of detectors that are taken from files at most, and bytes of one.
const MOST_WORDS: usize = 4096;
const LONGEST_WORD: usize = 64;

/// One attack.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct AttackV1 {
    pub(super) schema: String,
    pub(super) id: String,
    pub(super) signature: String,
    /// Signature, actor, subject.
    pub(super) keys: Vec<[String; 3]>,
    /// Nanoseconds since 1970.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) raised: i64,
    /// Severity and number of targets, as told last.
    pub(super) told: Option<(String, u64)>,
    pub(super) done: bool,
    pub(super) target_count: u64,
    pub(super) actor: EndV1,
    pub(super) targets: Vec<TargetV1>,
    pub(super) evidence: Vec<EvidenceV1>,
    /// What each signature says.
    pub(super) summaries: Vec<(String, String)>,
    pub(super) packets: u64,
    pub(super) lost: BTreeMap<String, u64>,
}

/// An address, and who held it.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct EndV1 {
    ip: IpAddr,
    identity: IdentityV1,
    #[serde(default)]
    uid: Option<Arc<str>>,
    confidence: String,
    source: String,
}

#[derive(Serialize, Deserialize, Debug)]
pub(super) struct TargetV1 {
    end: Option<EndV1>,
    port: Option<u16>,
    protocol: Option<String>,
    domain: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize, Debug)]
pub(super) struct EvidenceV1 {
    feature: String,
    family: String,
    observed: f64,
    expected: String,
    bits: f64,
    signature_grade: bool,
    text: String,
}

impl From<&Endpoint> for EndV1 {
    fn from(end: &Endpoint) -> Self {
        let who = &end.who;
        Self {
            ip: end.ip,
            identity: (&*who.identity).into(),
            uid: who.identity.uid.clone(),
            confidence: who.confidence.label().to_owned(),
            source: who.source.label().to_owned(),
        }
    }
}

impl EndV1 {
    pub(super) fn read(self) -> Option<Endpoint> {
        let mut identity = crate::identity::Identity::from(self.identity);
        identity.uid = self.uid;
        Some(Endpoint {
            ip: self.ip,
            who: Attribution {
                identity: Arc::new(identity),
                confidence: by_label(&Confidence::ALL, Confidence::label, &self.confidence)?,
                source: by_label(&Source::ALL, Source::label, &self.source)?,
            },
        })
    }
}

impl From<&Target> for TargetV1 {
    fn from(target: &Target) -> Self {
        Self {
            end: target.endpoint.as_ref().map(EndV1::from),
            port: target.port,
            protocol: target.protocol.map(str::to_owned),
            domain: target.domain.clone(),
        }
    }
}

impl TargetV1 {
    pub(super) fn read(self) -> Option<Target> {
        Some(Target {
            endpoint: match self.end {
                Some(end) => Some(end.read()?),
                None => None,
            },
            port: self.port,
            protocol: match self.protocol {
                Some(word) => Some(constant(&word)?),
                None => None,
            },
            domain: self.domain,
        })
    }
}

impl From<&Evidence> for EvidenceV1 {
    fn from(one: &Evidence) -> Self {
        Self {
            feature: one.feature.to_owned(),
            family: one.family.label().to_owned(),
            observed: one.observed,
            expected: one.expected.clone(),
            bits: one.bits,
            signature_grade: one.signature_grade,
            text: one.text.clone(),
        }
    }
}

impl EvidenceV1 {
    pub(super) fn read(self) -> Option<Evidence> {
        Some(Evidence {
            feature: constant(&self.feature)?,
            family: by_label(&Family::ALL, Family::label, &self.family)?,
            observed: self.observed,
            expected: self.expected,
            bits: self.bits,
            signature_grade: self.signature_grade,
            text: self.text,
        })
    }
}

/// The severity of a word.
pub(super) fn severity(word: &str) -> Option<Severity> {
    by_label(Severity::ALL, Severity::label, word)
}

/// The id of a detector that there is.
pub(super) fn detector(id: &str) -> Option<&'static str> {
    DETECTORS
        .iter()
        .map(|spec| spec.id)
        .find(|known| *known == id)
}

/// What was seen and lost, of causes that there are.
pub(super) fn coverage(packets: u64, lost: &BTreeMap<String, u64>) -> Coverage {
    let mut counts = LossCounts::default();
    for (label, n) in lost {
        if let Some(loss) = by_label(Loss::ALL, Loss::label, label) {
            counts.add_n(loss, *n);
        }
    }
    Coverage {
        packets,
        lost: counts,
    }
}

fn by_label<T: Copy>(all: &[T], label: fn(T) -> &'static str, word: &str) -> Option<T> {
    all.iter().copied().find(|&one| label(one) == word)
}

/// What a detector calls a feature or a protocol is a constant; a word read from a file becomes one, once, and there is a bound
/// on how many do.
fn constant(word: &str) -> Option<&'static str> {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return Some(known);
    }
    if words.len() >= MOST_WORDS || word.len() > LONGEST_WORD {
        return None;
    }
    let word: &'static str = Box::leak(word.into());
    words.insert(word);
    Some(word)
}
