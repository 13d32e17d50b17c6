//! Why something alerted, or didn't: the form in which a run explains itself to whoever asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::score;
use crate::baseline::{Feature, PeerStat, Schedule, Standing};
use crate::detectors::{Evidence, Finding};
use crate::event::{Endpoint, FlowInfo};
use crate::features::Contact;
use crate::signature::Signature;
use crate::time::Timestamp;

/// What came of one thing asked for.
#[derive(Debug)]
pub struct Explanation {
    /// As it was asked.
    pub asked: String,
    /// Conversations it is about: those that the baseline knows last, else in the order of their beginning.
    pub conversations: Vec<Conversation>,
    /// Flows of others, for which there was no room.
    pub more: u64,
    /// What detectors weighed, the nearest to an alert first.
    pub weighings: Vec<Weighing>,
    /// The signatures that weighed nothing.
    pub quiet: Vec<Quiet>,
}

/// One attack that a detector thought of, at its weightiest.
#[derive(Debug)]
pub struct Weighing {
    /// Its signature.
    pub signature: Arc<Signature>,
    /// As the detector tells it.
    pub finding: Finding,
    /// Its bits, as an alert counts them.
    pub bits: f64,
    /// What came of it.
    pub end: Ending,
    /// What the detector said of the same elsewhere.
    pub remarks: Vec<String>,
}

/// What came of evidence.
#[derive(Clone, PartialEq, Debug)]
pub enum Ending {
    /// This alert told it.
    Told(String),
    /// The alert of a larger attack, of this id and this signature, told it.
    Part(String, String),
    /// This alert told it, and somebody has allowed that.
    Allowed(String, String),
    /// It lacks so many bits.
    Short(f64),
    /// It has bits enough, and its detector waits for more of the same.
    Waits,
}

/// A signature that weighed nothing of what is asked for.
#[derive(Debug)]
pub struct Quiet {
    /// The signature.
    pub signature: Arc<Signature>,
    /// Events that its detector was shown.
    pub looked: u64,
    /// What it would have to be shown, in words, where it was shown nothing.
    pub needs: Vec<&'static str>,
    /// Why it passed over what it saw.
    pub remarks: Vec<String>,
}

impl Weighing {
    /// Its evidence, the weightiest first, and whether each counts: the strongest of its family does.
    pub fn evidence(&self) -> Vec<(&Evidence, bool)> {
        let evidence = &self.finding.evidence;
        let mut all: Vec<_> = evidence.iter().zip(score::counted(evidence)).collect();
        all.sort_by(|(a, _), (b, _)| {
            b.bits
                .total_cmp(&a.bits)
                .then_with(|| a.feature.cmp(b.feature))
        });
        all
    }

    /// Who did it.
    pub const fn actor(&self) -> &Endpoint {
        &self.finding.actor
    }
}

/// All that passed between a pod and one peer of it, under however many addresses, at one port.
#[derive(Debug)]
pub struct Conversation {
    /// Whose it is.
    pub me: Endpoint,
    /// The other end, as it was met first.
    pub other: Endpoint,
    /// Who of the two is whose peer, and by what name, as a baseline has it.
    pub contact: Contact,
    /// Flows, those that were answered, and those that were refused or stayed silent.
    pub flows: u64,
    /// See [`Self::flows`].
    pub answered: u64,
    /// See [`Self::flows`].
    pub failed: u64,
    /// Payload bytes of the flows that are over: the client's, the server's.
    pub bytes: [u64; 2],
    /// First flow's beginning.
    pub first: Timestamp,
    /// Last sign.
    pub last: Timestamp,
    /// What was spoken.
    pub apps: BTreeSet<&'static str>,
    /// A few of the flows.
    pub samples: Vec<Arc<FlowInfo>>,
    /// What the baseline says of it.
    pub familiarity: Familiarity,
}

/// How well a baseline knows a conversation.
#[derive(Debug)]
pub enum Familiarity {
    /// There is no baseline.
    NoBaseline,
    /// The end is no workload's, so that no profile can be its.
    NoWorkload,
    /// The baseline has never seen the workload.
    UnknownWorkload,
    /// It knows the workload.
    Known(Box<Acquaintance>),
}

impl Familiarity {
    /// Whether the baseline knows this very peer.
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Known(known) if known.met.is_some() || known.by_network)
    }
}

/// What a workload's profile says of a peer.
#[derive(Debug)]
pub struct Acquaintance {
    /// The feature that decides over a new peer, and how far it is grown.
    pub feature: Feature,
    /// See [`Self::feature`].
    pub standing: Standing,
    /// How often and when the peer was met; `None` for a new one.
    pub met: Option<PeerStat>,
    /// Whether it is known by its network, under another name.
    pub by_network: bool,
    /// Peers, contacts in all, and peers met once.
    pub peers: usize,
    /// See [`Self::peers`].
    pub contacts: u64,
    /// See [`Self::peers`].
    pub once: u64,
    /// What a new peer costs by the workload's own history.
    pub own_bits: f64,
    /// What this one costs, with what the workload's namespace and cluster do.
    pub bits: f64,
    /// The plan by which it is visited, and what the last visit cost by it.
    pub schedule: Option<Schedule>,
    /// See [`Self::schedule`].
    pub hour_bits: f64,
}
