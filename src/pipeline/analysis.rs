//! The analysis half: events in their order to alerts, or to a baseline. One thread, whatever the number of packet threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Task;
use super::explain::{Explainer, Selector};
use super::silence::Silence;
use crate::address::NetworkId;
use crate::alert::{
    self, Alert, BaselineNote, BaselineState, Correlator, CorrelatorConfig, Exceptions,
    Explanation, Incident,
};
use crate::baseline::{Baseline, Cover, Learner, Maturity, Profile, Withheld};
use crate::detectors::{Context, DETECTORS, Detector, Findings};
use crate::event::{Event, EventKind, EventKinds};
use crate::features::{Acquaintances, Debuts, Habits, PeerNamer, Releases, Replicas};
use crate::identity::Journal;
use crate::memory::Share;
use crate::signature::SignatureSet;
use crate::telemetry::{Loss, LossCounts};
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
    habits: Habits,
    debuts: Debuts,
    releases: Releases,
    replicas: Replicas,
    exceptions: Exceptions,
    knowledge: Knowledge,
    detection: Detection,
    /// Only where somebody asks.
    explainer: Option<Box<Explainer>>,
}

/// Where the normal comes from.
enum Knowledge {
    /// It is given, or there is none.
    Given(Option<Box<Baseline>>),
    /// It is being learned.
    Learning(Box<Learner>),
}

impl Knowledge {
    fn baseline(&self) -> Option<&Baseline> {
        match self {
            Self::Given(baseline) => baseline.as_deref(),
            Self::Learning(learner) => Some(learner.baseline()),
        }
    }
}

struct Detection {
    signatures: SignatureSet,
    share: Share,
    detectors: Vec<(EventKinds, Box<dyn Detector>)>,
    /// By kind of event, to whom it is shown.
    shown: [Vec<Shown>; EventKinds::COUNT],
    correlator: Correlator,
    findings: Findings,
}

/// A detector that is shown a kind of event.
#[derive(Clone, Copy)]
struct Shown {
    /// Its place.
    at: u16,
    /// Only of flows that have shown one of these; of all if it is empty.
    after: EventKinds,
}

/// What the analysis comes to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) alerts: Vec<Alert>,
    pub(super) suppressed: Vec<Alert>,
    pub(super) baseline: Option<Baseline>,
    pub(super) withheld: Vec<Withheld>,
    pub(super) losses: LossCounts,
    pub(super) explanations: Vec<Explanation>,
}

impl std::fmt::Debug for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analysis").finish_non_exhaustive()
    }
}

impl Analysis {
    /// None if there is nothing to analyze.
    pub(super) fn new(task: Task, share: Share) -> Result<Option<Self>, BuildError> {
        let (signatures, exceptions, knowledge) = match task {
            Task::List => return Ok(None),
            Task::Learn {
                signatures,
                baseline,
                exceptions,
            } => {
                let learner = Learner::new(baseline);
                (
                    signatures,
                    exceptions,
                    Knowledge::Learning(Box::new(learner)),
                )
            }
            Task::Analyze {
                signatures,
                baseline,
                exceptions,
            } => (
                signatures,
                exceptions,
                Knowledge::Given(baseline.map(Box::new)),
            ),
        };
        Ok(Some(Self {
            peers: PeerNamer::within(share),
            acquaintances: Acquaintances::within(share),
            habits: Habits::within(share),
            debuts: Debuts::within(share),
            releases: Releases::within(share),
            replicas: Replicas::within(share),
            exceptions,
            knowledge,
            detection: Detection::new(&signatures, share)?,
            explainer: None,
        }))
    }

    pub(super) fn observe(
        &mut self,
        event: &Event,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) {
        self.peers.observe(event);
        self.debuts.observe(event, &self.peers);
        self.releases.observe(event);
        let context = Context {
            baseline: self.knowledge.baseline(),
            journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        let detection = &mut self.detection;
        let kind = EventKinds::of(&event.kind).place();
        for shown in &detection.shown[kind] {
            if shown.after == EventKinds::NONE || event.before.meets(shown.after) {
                let (_, detector) = &mut detection.detectors[usize::from(shown.at)];
                detector.observe(event, &context, &mut detection.findings);
            }
        }
        detection.accept(losses, packets);
        if let Some(explainer) = &mut self.explainer {
            explainer.observe(event, &context);
        }
        if let EventKind::FlowEnded { flow, record } = &event.kind {
            detection.correlator.flow_ended(flow, record);
        }
        if let Knowledge::Learning(learner) = &mut self.knowledge {
            learner.observe(event, &self.peers);
        }
        self.acquaintances.observe(event);
        self.habits.observe(event);
        self.replicas.observe(event, &self.peers);
    }

    pub(super) fn tick(
        &mut self,
        now: Timestamp,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) {
        let context = Context {
            baseline: self.knowledge.baseline(),
            journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        let detection = &mut self.detection;
        for (_, detector) in &mut detection.detectors {
            detector.tick(now, &context, &mut detection.findings);
        }
        detection.accept(losses, packets);
        if let Some(explainer) = &mut self.explainer {
            explainer.tick(now, &context);
        }
        detection.correlator.mark(now, losses, packets);
        if let Knowledge::Learning(learner) = &mut self.knowledge
            && learner.is_due(now)
        {
            let mut alerts: Vec<Alert> = detection.correlator.alerts().collect();
            let silence = Silence {
                exceptions: &self.exceptions,
                baseline: Some(learner.baseline()),
                peers: &self.peers,
            };
            alerts.retain(|alert| silence.judge(alert).is_none());
            learner.settle(now, &covers(&alerts, &self.peers));
        }
    }

    /// Explains what is asked for beside the run.
    pub(super) fn explain(&mut self, asked: Vec<Selector>) -> Result<(), BuildError> {
        let explainer = Explainer::new(asked, &self.detection.signatures, self.detection.share)?;
        self.explainer = Some(Box::new(explainer));
        Ok(())
    }

    /// More is known of who held which address.
    pub(super) fn rename(&mut self, journal: &Journal, since: Timestamp) {
        let network = NetworkId::default();
        self.detection.correlator.rename(since, |end, time| {
            journal.better(network, end.ip, time, &end.who)
        });
    }

    /// What has been learned by now, when learning.
    pub(super) fn learner(&self) -> Option<&Learner> {
        match &self.knowledge {
            Knowledge::Given(_) => None,
            Knowledge::Learning(learner) => Some(learner),
        }
    }

    /// Looks for what these signatures say from here on; returns how many are new or changed.
    pub(super) fn reload(
        &mut self,
        signatures: &SignatureSet,
        exceptions: Exceptions,
    ) -> Result<usize, BuildError> {
        let changed = self.detection.reload(signatures)?;
        self.exceptions = exceptions;
        Ok(changed)
    }

    pub(super) const fn correlator(&mut self) -> &mut Correlator {
        &mut self.detection.correlator
    }

    /// What there is to tell of alerts by now.
    pub(super) fn updates(&mut self, now: Timestamp) -> Vec<Alert> {
        let mut alerts = self.detection.correlator.updates(now);
        let baseline = self.knowledge.baseline();
        for alert in &mut alerts {
            let workload = alert.actor.who.identity.workload.as_ref();
            let profile = baseline
                .zip(workload)
                .and_then(|(baseline, workload)| baseline.profile(workload));
            alert.baseline = profile.map_or_else(BaselineNote::default, note);
        }
        let silence = Silence {
            exceptions: &self.exceptions,
            baseline,
            peers: &self.peers,
        };
        alerts.retain(|alert| silence.judge(alert).is_none());
        if !alerts.is_empty() {
            let mut all: Vec<Alert> = self.detection.correlator.alerts().collect();
            all.retain(|alert| silence.judge(alert).is_none());
            tie(&mut alerts, all);
        }
        alerts
    }

    pub(super) fn finish(
        mut self,
        journal: &Journal,
        losses: &LossCounts,
        packets: u64,
    ) -> Outcome {
        let context = Context {
            baseline: self.knowledge.baseline(),
            journal,
            peers: &self.peers,
            acquaintances: &self.acquaintances,
            habits: &self.habits,
            debuts: &self.debuts,
            releases: &self.releases,
            replicas: &self.replicas,
            trace: None,
        };
        let detection = &mut self.detection;
        for (_, detector) in &mut detection.detectors {
            detector.finish(&context, &mut detection.findings);
        }
        detection.accept(losses, packets);
        let mut lost = LossCounts::default();
        for (_, detector) in &detection.detectors {
            lost.merge(&detector.losses());
        }
        lost.merge(detection.correlator.losses());
        lost.add_n(Loss::DetectorEvicted, self.debuts.forgotten());
        let mut all: Vec<Alert> = self.detection.correlator.alerts().collect();
        let mut alerts = self.detection.correlator.finish();
        for alert in &mut alerts {
            alert.baseline = context
                .profile(&alert.actor)
                .map_or_else(BaselineNote::default, note);
        }
        let silence = Silence {
            exceptions: &self.exceptions,
            baseline: self.knowledge.baseline(),
            peers: &self.peers,
        };
        for alert in &mut alerts {
            alert.suppressed = silence.judge(alert);
        }
        let (suppressed, mut alerts): (Vec<_>, Vec<_>) = alerts
            .into_iter()
            .partition(|alert| alert.suppressed.is_some());
        let explainer = self.explainer.take();
        let explanations = explainer
            .map(|explainer| explainer.finish(&context, &alerts, &suppressed))
            .unwrap_or_default();
        // What somebody has allowed is no stage of anything; what was told to its end before is.
        all.retain(|alert| silence.judge(alert).is_none());
        tie(&mut alerts, all);
        let (baseline, withheld) = match self.knowledge {
            Knowledge::Given(_) => (None, Vec::new()),
            Knowledge::Learning(learner) => {
                let (baseline, withheld) = learner.finish_without(&covers(&alerts, &self.peers));
                lost.merge(baseline.losses());
                (Some(baseline), withheld)
            }
        };
        Outcome {
            alerts,
            suppressed,
            baseline,
            withheld,
            losses: lost,
            explanations,
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

/// Says of each alert which incident it is a part of, among all there were.
fn tie(alerts: &mut [Alert], mut all: Vec<Alert>) {
    alert::tie(&mut all);
    let incidents: BTreeMap<String, Option<Arc<Incident>>> = all
        .into_iter()
        .map(|alert| (alert.id, alert.incident))
        .collect();
    for alert in alerts {
        alert.incident = incidents.get(&alert.id).cloned().flatten();
    }
}

/// What alerts cover, in the words of the baseline.
fn covers(alerts: &[Alert], peers: &PeerNamer) -> Vec<Cover> {
    let cover = |alert: &Alert| {
        let ends = alert
            .targets
            .iter()
            .filter_map(|target| target.endpoint.as_ref());
        let domains = alert
            .targets
            .iter()
            .filter_map(|target| target.domain.as_ref());
        let named = ends.clone().map(|end| peers.name(&alert.actor, end));
        Cover {
            alert: alert.id.clone(),
            actor: alert.actor.ip,
            workload: alert.actor.who.identity.workload.clone(),
            first: alert.first,
            last: alert.last,
            departure: alert.signature.departure,
            targets: ends.map(|end| end.ip).collect(),
            peers: named
                .chain(domains.map(|domain| format!("domain:{domain}").into()))
                .collect(),
        }
    };
    alerts.iter().map(cover).collect()
}

impl Detection {
    fn new(signatures: &SignatureSet, share: Share) -> Result<Self, BuildError> {
        let mut detectors = Vec::new();
        for spec in DETECTORS {
            if let Some(signature) = signatures.get(spec.id) {
                let detector =
                    (spec.build)(&signature.within(share)).map_err(|source| BuildError {
                        id: spec.id,
                        source: Box::new(source),
                    })?;
                detectors.push((spec.sees, detector));
            }
        }
        Ok(Self {
            signatures: signatures.clone(),
            shown: shown(&detectors),
            detectors,
            correlator: Correlator::new(CorrelatorConfig::within(share), signatures),
            share,
            findings: Findings::new(),
        })
    }

    /// Builds the detectors whose signatures changed; the others go on as they are. If one can't be built, nothing changes.
    fn reload(&mut self, signatures: &SignatureSet) -> Result<usize, BuildError> {
        let mut fresh = Self::new(signatures, self.share)?;
        let known = |set: &SignatureSet| {
            let specs = DETECTORS.iter().filter(|spec| set.get(spec.id).is_some());
            specs.map(|spec| spec.id).collect::<Vec<_>>()
        };
        let mut old: HashMap<_, _> = known(&self.signatures)
            .into_iter()
            .zip(self.detectors.drain(..))
            .collect();
        let mut changed = 0;
        for (id, detector) in known(signatures).into_iter().zip(&mut fresh.detectors) {
            let same = self.signatures.get(id) == signatures.get(id);
            match old.remove(id).filter(|_| same) {
                Some(running) => *detector = running,
                None => changed += 1,
            }
        }
        self.detectors = fresh.detectors;
        self.shown = fresh.shown;
        self.correlator.reload(signatures);
        self.signatures = signatures.clone();
        Ok(changed)
    }

    fn accept(&mut self, losses: &LossCounts, packets: u64) {
        for finding in self.findings.drain(..) {
            self.correlator.accept(finding, losses, packets);
        }
    }
}

fn shown(detectors: &[(EventKinds, Box<dyn Detector>)]) -> [Vec<Shown>; EventKinds::COUNT] {
    let mut shown = [const { Vec::new() }; EventKinds::COUNT];
    for (at, (sees, detector)) in (0..).zip(detectors) {
        let follows = detector.follows();
        for kind in sees.places() {
            let after = EventKinds::NONE;
            shown[kind].push(Shown { at, after });
        }
        for kind in follows.kinds.places() {
            for shown in shown[kind].iter_mut().filter(|shown| shown.at == at) {
                shown.after = follows.after;
            }
        }
    }
    shown
}
