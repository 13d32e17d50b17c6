//! The analysis half: events in their order to alerts, or to a baseline. One thread, whatever the number of packet threads.

use super::Task;
use crate::alert::{Alert, BaselineNote, BaselineState, Correlator, CorrelatorConfig};
use crate::baseline::{Baseline, Learner, Maturity, Profile};
use crate::detectors::{Context, DETECTORS, Detector, Findings};
use crate::event::{Event, EventKind, EventKinds};
use crate::features::{Acquaintances, PeerNamer};
use crate::identity::Journal;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// A signature whose thresholds its detector can't use.
#[derive(Debug, thiserror::Error)]
#[error("signature {id}: thresholds: {source}")]
pub struct BuildError {
    /// The signature.
    pub id: &'static str,
    /// What is wrong.
    #[source]
    pub source: Box<toml::de::Error>,
}

pub(super) struct Analysis {
    peers: PeerNamer,
    acquaintances: Acquaintances,
    work: Work,
}

enum Work {
    Detect(Box<Detection>),
    Learn(Box<Learner>),
}

struct Detection {
    baseline: Option<Baseline>,
    detectors: Vec<(EventKinds, Box<dyn Detector>)>,
    correlator: Correlator,
    findings: Findings,
}

impl std::fmt::Debug for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analysis").finish_non_exhaustive()
    }
}

impl Analysis {
    pub(super) fn new(task: Task) -> Result<Self, BuildError> {
        let work = match task {
            Task::Learn(baseline) => Work::Learn(Box::new(Learner::new(baseline))),
            Task::Analyze {
                signatures,
                baseline,
            } => {
                let mut detectors = Vec::new();
                for spec in DETECTORS {
                    if let Some(signature) = signatures.get(spec.id) {
                        let detector = (spec.build)(signature).map_err(|source| BuildError {
                            id: spec.id,
                            source: Box::new(source),
                        })?;
                        detectors.push((spec.sees, detector));
                    }
                }
                Work::Detect(Box::new(Detection {
                    baseline,
                    detectors,
                    correlator: Correlator::new(CorrelatorConfig::default(), &signatures),
                    findings: Findings::new(),
                }))
            }
        };
        Ok(Self {
            peers: PeerNamer::default(),
            acquaintances: Acquaintances::default(),
            work,
        })
    }

    pub(super) fn observe(
        &mut self,
        event: &Event,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) {
        self.peers.observe(event);
        match &mut self.work {
            Work::Learn(learner) => learner.observe(event, &self.peers),
            Work::Detect(detection) => {
                let context = Context {
                    baseline: detection.baseline.as_ref(),
                    journal,
                    peers: &self.peers,
                    acquaintances: &self.acquaintances,
                };
                for (sees, detector) in &mut detection.detectors {
                    if sees.has(&event.kind) {
                        detector.observe(event, &context, &mut detection.findings);
                    }
                }
                detection.accept(losses, packets);
                self.acquaintances.observe(event);
                if let EventKind::FlowEnded { flow, record } = &event.kind {
                    detection.correlator.flow_ended(flow, record);
                }
            }
        }
    }

    pub(super) fn tick(
        &mut self,
        now: Timestamp,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) {
        if let Work::Detect(detection) = &mut self.work {
            let context = Context {
                baseline: detection.baseline.as_ref(),
                journal,
                peers: &self.peers,
                acquaintances: &self.acquaintances,
            };
            for (_, detector) in &mut detection.detectors {
                detector.tick(now, &context, &mut detection.findings);
            }
            detection.accept(losses, packets);
            detection.correlator.mark(now, losses, packets);
        }
    }

    pub(super) fn finish(
        self,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) -> (Vec<Alert>, Option<Baseline>, LossCounts) {
        match self.work {
            Work::Learn(learner) => {
                let baseline = learner.finish();
                let lost = baseline.losses().clone();
                (Vec::new(), Some(baseline), lost)
            }
            Work::Detect(mut detection) => {
                let context = Context {
                    baseline: detection.baseline.as_ref(),
                    journal,
                    peers: &self.peers,
                    acquaintances: &self.acquaintances,
                };
                for (_, detector) in &mut detection.detectors {
                    detector.finish(&context, &mut detection.findings);
                }
                for finding in detection.findings.drain(..) {
                    detection.correlator.accept(finding, losses, packets);
                }
                let mut lost = LossCounts::default();
                for (_, detector) in &detection.detectors {
                    lost.merge(&detector.losses());
                }
                lost.merge(detection.correlator.losses());
                let mut alerts = detection.correlator.finish();
                for alert in &mut alerts {
                    alert.baseline = context
                        .profile(&alert.actor)
                        .map_or_else(BaselineNote::default, note);
                }
                (alerts, None, lost)
            }
        }
    }
}

fn note(profile: &Profile) -> BaselineNote {
    BaselineNote {
        state: match profile.maturity() {
            Maturity::None => BaselineState::None,
            // What is out of date calls nothing new by itself either.
            Maturity::Learning | Maturity::Stale => BaselineState::Learning,
            Maturity::Stable => BaselineState::Stable,
        },
        observed: profile.observed(),
    }
}

impl Detection {
    fn accept(&mut self, losses: &LossCounts, packets: u64) {
        for finding in self.findings.drain(..) {
            self.correlator.accept(finding, losses, packets);
        }
    }
}
