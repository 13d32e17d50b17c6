//! From evidence to score, severity and confidence.
//!
//! **Score.** Each piece of evidence weighs some bits: −log2 of the probability that normal traffic shows as much, or the
//! log2 likelihood ratio of attack against normal. Pieces of one family (novelty, timing, volume, protocol, outcome,
//! deception) mostly restate one another, so only the weightiest of each counts; families are taken to be independent, so
//! theirs are added. Bits are rounded to tenths before they are added: what an analyst adds up is exactly the score.
//! Negative bits (a baseline that knows the behaviour) count like any other where a family has nothing stronger.
//!
//! **Severity.** The signature's severity is the full-blown case. An alert reaches it only when it is *backed*: two
//! families of at least [`BACKING_BITS`] each, or a tool's unmistakable mark (`signature_grade`), or a touched decoy. One
//! family alone, however loud, can be one misunderstanding, so it makes `medium` at most, and `low` while the score is
//! below [`CLEAR_MARGIN`] times what raises an alert. Evidence that the signature names under `escalates_on` (a login that
//! succeeded after guessing) makes it one step graver than that, whatever else there is.
//!
//! **Confidence.** The posterior probability of an attack, 1 / (1 + 2^−(bits − prior)), with prior odds of 1 to
//! 2^[`PRIOR_BITS`] that something a detector reports is one. Here a family's bits are worth less than on the page: with a
//! probability of 2^−[`BLUNDER_BITS`] the family's idea of normal doesn't fit this workload at all (a scanner of one's own,
//! a mail relay), and its evidence says nothing. So b bits enter as −log2(2^−blunder + 2^−b), which no single family can
//! raise above [`BLUNDER_BITS`]; only a tool's unmistakable mark counts in full. One family then makes 0.8 at most, two
//! that agree make nearly 1. Both constants are choices and not measurements: the prior says that about one in a thousand
//! behaviours that come to be scored is an attack, the blunder that a family misjudges one benign case in 4096. The value
//! is cut to thousandths and never reaches 1.

use std::collections::BTreeMap;

use crate::detectors::{Evidence, Family};
use crate::signature::{Severity, Signature};

/// What a family must weigh to back another.
const BACKING_BITS: f64 = 3.0;
/// From how many times the signature's `alert_bits` an alert without backing is `medium`.
const CLEAR_MARGIN: f64 = 1.25;
/// Prior odds against an attack, in bits.
const PRIOR_BITS: f64 = 10.0;
/// How rarely a family's idea of normal is wrong for a workload, in bits.
const BLUNDER_BITS: f64 = 12.0;
/// Beyond this, more bits mean nothing.
const MOST_BITS: f64 = 1000.0;

/// Bits as they are counted and shown: rounded to tenths, within ±1000; 0 for what is no number.
pub(super) fn tenths(bits: f64) -> f64 {
    if bits.is_nan() {
        return 0.0;
    }
    // Adding zero turns −0.0 into 0.0.
    (bits.clamp(-MOST_BITS, MOST_BITS) * 10.0).round() / 10.0 + 0.0
}

/// For each piece of evidence, whether it counts: the weightiest of its family does, the first among equals.
pub fn counted(evidence: &[Evidence]) -> Vec<bool> {
    let mut best: BTreeMap<Family, usize> = BTreeMap::new();
    for (index, one) in evidence.iter().enumerate() {
        best.entry(one.family)
            .and_modify(|best| {
                if evidence
                    .get(*best)
                    .is_some_and(|known| one.bits > known.bits)
                {
                    *best = index;
                }
            })
            .or_insert(index);
    }
    let mut counted = vec![false; evidence.len()];
    for index in best.into_values() {
        if let Some(counts) = counted.get_mut(index) {
            *counts = true;
        }
    }
    counted
}

/// The evidence that counts.
fn strongest(evidence: &[Evidence]) -> impl Iterator<Item = &Evidence> {
    evidence
        .iter()
        .zip(counted(evidence))
        .filter_map(|(one, counts)| counts.then_some(one))
}

/// The sum over families of their weightiest evidence.
pub fn score(evidence: &[Evidence]) -> f64 {
    tenths(strongest(evidence).map(|one| one.bits).sum())
}

/// How urgent an alert of this signature is with this evidence.
pub(super) fn severity(signature: &Signature, evidence: &[Evidence]) -> Severity {
    let escalates = evidence.iter().any(|one| {
        one.bits > 0.0
            && signature
                .escalates_on
                .iter()
                .any(|feature| feature == one.feature)
    });
    if escalates {
        return signature.severity.graver();
    }
    let families = strongest(evidence)
        .filter(|one| one.bits >= BACKING_BITS)
        .count();
    let unmistakable = evidence
        .iter()
        .any(|one| one.bits > 0.0 && (one.signature_grade || one.family == Family::Deception));
    if families >= 2 || unmistakable {
        signature.severity
    } else if score(evidence) < CLEAR_MARGIN * signature.alert_bits {
        signature.severity.min(Severity::Low)
    } else {
        signature.severity.min(Severity::Medium)
    }
}

/// How likely this evidence means an attack.
pub(super) fn confidence(evidence: &[Evidence]) -> f64 {
    let worth: f64 = strongest(evidence)
        .map(|one| {
            if one.signature_grade {
                one.bits
            } else {
                -((-BLUNDER_BITS).exp2() + (-one.bits).exp2()).log2()
            }
        })
        .sum();
    let posterior = 1.0 / (1.0 + (PRIOR_BITS - worth).exp2());
    (posterior * 1000.0).floor().min(999.0) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SignatureSet;

    fn evidence(feature: &'static str, family: Family, bits: f64) -> Evidence {
        Evidence {
            feature,
            family,
            observed: 1.0,
            expected: String::new(),
            bits,
            signature_grade: false,
            text: String::new(),
        }
    }

    #[test]
    fn one_family_counts_once_and_families_add() {
        let evidence = [
            evidence("a", Family::Volume, 5.6),
            evidence("b", Family::Volume, 11.1),
            evidence("c", Family::Novelty, 5.5),
            evidence("d", Family::Timing, -2.0),
        ];
        assert_eq!(counted(&evidence), [false, true, true, true]);
        assert!((score(&evidence) - 14.6).abs() < 1e-9);
    }

    #[test]
    fn equal_evidence_of_a_family_counts_once() {
        let twice = [
            evidence("a", Family::Volume, 4.0),
            evidence("b", Family::Volume, 4.0),
        ];
        assert_eq!(counted(&twice), [true, false]);
    }

    #[test]
    fn absurd_bits_stay_numbers() {
        for (bits, expected) in [
            (f64::NAN, 0.0),
            (f64::INFINITY, 1000.0),
            (f64::NEG_INFINITY, -1000.0),
            (-0.01, 0.0),
            (16.595, 16.6),
        ] {
            let got = tenths(bits);
            assert!((got - expected).abs() < 1e-12, "{bits}");
            assert!(got.is_sign_positive() == (expected >= 0.0), "{bits}");
        }
    }

    #[test]
    fn severity_needs_backing() {
        let set = SignatureSet::builtin().unwrap();
        let scan = set.get("port-scan").unwrap();
        let alone = |bits| severity(scan, &[evidence("a", Family::Outcome, bits)]);
        assert_eq!(alone(16.6), Severity::Low);
        assert_eq!(alone(20.7), Severity::Low);
        assert_eq!(alone(20.8), Severity::Medium);
        assert_eq!(alone(900.0), Severity::Medium);

        let failures = evidence("a", Family::Outcome, 16.6);
        let with = |other: Evidence| severity(scan, &[failures.clone(), other]);
        assert_eq!(with(evidence("b", Family::Novelty, 2.9)), Severity::Low);
        assert_eq!(with(evidence("b", Family::Novelty, 3.0)), Severity::High);
        assert_eq!(with(evidence("b", Family::Deception, 0.5)), Severity::High);
        assert_eq!(
            with(evidence("b", Family::Deception, 0.0)),
            Severity::Low,
            "an untouched decoy is nothing"
        );
        let mut mark = evidence("b", Family::Outcome, 1.0);
        mark.signature_grade = true;
        assert_eq!(with(mark), Severity::High, "even where it isn't counted");
    }

    #[test]
    fn named_evidence_escalates() {
        let set = SignatureSet::builtin().unwrap();
        let guessing = set.get("db-bruteforce").unwrap();
        let [feature] = guessing.escalates_on.as_slice() else {
            panic!("one feature");
        };
        assert_eq!(feature, "login.success_after_refusals");
        let refused = evidence("login.refused", Family::Outcome, 20.0);
        assert_eq!(
            severity(guessing, std::slice::from_ref(&refused)),
            Severity::Low
        );
        let success = evidence("login.success_after_refusals", Family::Outcome, 24.0);
        assert_eq!(severity(guessing, &[refused, success]), Severity::Critical);
    }

    #[test]
    fn severity_never_passes_the_signatures_own() {
        let set = SignatureSet::builtin().unwrap();
        let peer = set.get("novel-peer").unwrap();
        let everything = [
            evidence("a", Family::Novelty, 90.0),
            evidence("b", Family::Deception, 90.0),
        ];
        assert_eq!(severity(peer, &everything), Severity::Low);
    }

    #[test]
    fn confidence_grows_with_evidence_and_never_is_certainty() {
        let one = |bits| confidence(&[evidence("a", Family::Outcome, bits)]);
        let alone: Vec<f64> = [-1000.0, 0.0, 8.0, 16.6, 1000.0].map(one).to_vec();
        assert_eq!(alone, [0.0, 0.0, 0.19, 0.793, 0.8]);

        let two = confidence(&[
            evidence("a", Family::Outcome, 16.6),
            evidence("b", Family::Deception, 6.0),
        ]);
        assert!(two > 0.99, "{two}");
        let mut mark = evidence("a", Family::Protocol, 30.0);
        mark.signature_grade = true;
        assert!((confidence(&[mark]) - 0.999).abs() < 1e-9);
        assert!(confidence(&[]) < 0.01);
    }
}
