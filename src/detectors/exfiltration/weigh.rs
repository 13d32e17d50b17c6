//! What speaks for a destination: how new it is, how much went there and how little came back, and how.

use super::destination::Destination;
use super::{AGAIN, AT_ONCE, SPEC, Thresholds};
use crate::baseline::Maturity;
use crate::detectors::newness::{BITS_BY_HAND, by_hand};
use crate::detectors::registries::is_builder;
use crate::detectors::{Context, Evidence, Family, Finding};
use crate::event::FlowInfo;
use crate::features::Role;

/// More surprise, or volume, than this says no more.
const MAX_BITS: f64 = 12.0;
/// That nearly all bytes went up: one conversation with the outside in sixteen.
const BITS_ONE_WAY: f64 = 4.0;
/// That it went in no known protocol to an address without a name, and that not a word came back: of new places to which nearly
/// all bytes go one in sixty-four is sent to so.
const BITS_RAW: f64 = 6.0;
/// That files are stored by a protocol that is for nothing else: one new place outside in sixty-four.
const BITS_STORED: f64 = 6.0;
/// That somebody looked round and hesitated before: people sit at no pod's keyboard but that of one in 256 conversations.
const BITS_HANDS: f64 = 8.0;

impl Destination {
    /// Whether it was sent to from the first moment on and again and again, never much at once: it was so before we watched.
    pub(super) fn is_habit(&self) -> bool {
        self.from_the_start && self.times >= AGAIN && self.largest as f64 <= AT_ONCE * self.up
    }

    /// What speaks for it.
    pub(super) fn evidence(&self, thresholds: &Thresholds) -> Vec<Evidence> {
        let Thresholds {
            typical_bytes,
            min_ratio,
            ..
        } = *thresholds;
        let (up, down) = (self.up, self.down);
        let volume = (up / typical_bytes).max(1.0).log2().min(MAX_BITS);
        let mut evidence = vec![
            self.surprise.clone(),
            Evidence {
                feature: "exfiltration.bytes_out",
                family: Family::Volume,
                observed: up.round(),
                expected: format!("≤ {} in one visit", size(typical_bytes)),
                bits: volume,
                signature_grade: false,
                text: format!("{} went out", size(up)),
            },
            Evidence {
                feature: "exfiltration.ratio",
                family: Family::Outcome,
                observed: (up / down.max(1.0)).round(),
                expected: format!("< {min_ratio}: most conversations bring more than they send"),
                bits: BITS_ONE_WAY,
                signature_grade: false,
                text: format!("{} came back", size(down)),
            },
        ];
        evidence.extend(self.bare.clone());
        if self.raw {
            evidence.push(Evidence {
                feature: "exfiltration.raw",
                family: Family::Protocol,
                observed: 1.0,
                expected: "a protocol: HTTP, TLS, SSH, one of logs".into(),
                bits: BITS_RAW,
                signature_grade: false,
                text: "a connection carried it in no known protocol to an address without a name, and nothing back".into(),
            });
        }
        if self.stored > 0 {
            evidence.push(Evidence {
                feature: "exfiltration.files_stored",
                family: Family::Protocol,
                observed: self.stored as f64,
                expected: "0: pods fetch files by FTP, if they use it at all".into(),
                bits: BITS_STORED,
                signature_grade: false,
                text: format!("{} files were stored there by FTP", self.stored),
            });
        }
        if self.by_hand > 0 {
            evidence.push(Evidence {
                feature: "exfiltration.by_hand",
                family: Family::Timing,
                observed: self.by_hand as f64,
                expected: "0: programs neither look round in directories nor hesitate".into(),
                bits: BITS_HANDS,
                signature_grade: false,
                text: format!("{} of them by hand: somebody looked round in directories first, and paused as people do", self.by_hand),
            });
        }
        evidence
    }

    /// The report of it.
    pub(super) fn finding(&self, thresholds: &Thresholds) -> Finding {
        let place = match (&self.domain, &self.target.endpoint) {
            (Some(domain), _) => domain.to_string(),
            (None, Some(end)) => end.ip.to_string(),
            (None, None) => String::new(),
        };
        Finding {
            signature: SPEC.id,
            subject: place.clone(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![self.target.clone()],
            target_count: 1,
            evidence: self.evidence(thresholds),
            flows: self.flows.clone(),
            summary: format!(
                "sent {} to {place}, and got {} back",
                size(self.up),
                size(self.down)
            ),
        }
    }
}

/// How unlikely the destination was for this pod, as of its first visit: by the baseline where there is one, else −log2 of
/// the share that first visits to places outside have had in what the pod has said so far, of which there are `known`. A
/// job's pod is made for its errand, so that nothing it does first surprises, and a builder's does what somebody's pipeline
/// says. One that somebody started by hand has no errand that anybody wrote down.
pub(super) fn surprise(
    flow: &FlowInfo,
    known: u64,
    builder_words: &[String],
    context: &Context<'_>,
) -> Evidence {
    let spoken = context.habits.spoken(&flow.orig);
    let workload = &flow.orig.who.identity.workload;
    let job = workload
        .as_ref()
        .is_some_and(|workload| matches!(&*workload.kind, "Job" | "CronJob"));
    let profile = context.profile(&flow.orig);
    // What was watched for less than a day may not have built anything in that time.
    let settled = profile.is_some_and(|profile| profile.maturity() == Maturity::Stable);
    let builder = !settled && is_builder(&flow.orig, builder_words);
    let own = if job || builder {
        0.0
    } else if by_hand(&flow.orig) {
        BITS_BY_HAND
    } else {
        -((known as f64 + 0.5) / (spoken as f64 + 1.0))
            .min(1.0)
            .log2()
    };
    let (bits, expected, text) = match profile {
        _ if builder => (
            0.0,
            "a builder, by its name".to_owned(),
            "the workload is named like one that builds or inspects images".to_owned(),
        ),
        Some(_) if context.is_learned(flow) => (
            0.0,
            "known from the baseline".to_owned(),
            "the workload's baseline knows this destination".to_owned(),
        ),
        Some(profile) if profile.novelty_bits(Role::Client) > own => (
            profile.novelty_bits(Role::Client),
            format!("one of {} peers known", profile.peer_count(Role::Client)),
            "the workload's baseline knows no such destination".to_owned(),
        ),
        _ if by_hand(&flow.orig) => (
            own,
            "a pod that a controller made".to_owned(),
            "somebody started this pod by hand (`kubectl run`)".to_owned(),
        ),
        _ => (
            own,
            format!("one of {known} places outside"),
            format!("none of the {spoken} turns in which the pod had spoken had gone there"),
        ),
    };
    Evidence {
        feature: "exfiltration.new_destination",
        family: Family::Novelty,
        observed: 1.0,
        expected,
        bits: bits.min(MAX_BITS),
        signature_grade: false,
        text,
    }
}

/// Bytes for people, with decimal prefixes.
pub(super) fn size(bytes: f64) -> String {
    if bytes >= 1e6 {
        format!("{:.1} MB", bytes / 1e6)
    } else if bytes >= 1e3 {
        format!("{:.1} kB", bytes / 1e3)
    } else {
        format!("{bytes:.0} bytes")
    }
}
