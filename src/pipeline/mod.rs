//! The stages composed, without I/O, clocks or threads: what the command line drives, and tests, benches and fuzzers call.
//!
//! ```text
//! frame ─▶ front: decode, flow, identity, dissect ─▶ events ─▶ analysis: features, baseline, detectors, alert
//! ```

mod analysis;
mod batch;
mod front;
mod live;
mod silence;
mod stats;
mod translation;

use std::collections::HashMap;
use std::sync::Arc;

use crate::alert::{Alert, Exceptions};
use crate::baseline::{Baseline, Withheld};
use crate::capture::Frame;
use crate::dissect::{Gist, Transaction};
use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::{FlowConfig, FlowId, FlowRecord};
use crate::identity::Journal;
use crate::signature::SignatureSet;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

use analysis::Analysis;
use batch::Batch;
use front::Front;

pub use analysis::BuildError;
pub use stats::Stats;

/// What to do with the events.
#[derive(Debug)]
pub enum Task {
    /// Nothing but list the flows.
    List,
    /// Detect, judged by a baseline if there is one.
    Analyze {
        /// What to look for, and how.
        signatures: SignatureSet,
        /// The learned normal.
        baseline: Option<Baseline>,
        /// What somebody has allowed.
        exceptions: Exceptions,
    },
    /// Learn, going on from what was learned before, but for what an alert covers.
    Learn {
        /// What to look for, and how.
        signatures: SignatureSet,
        /// The learned normal so far.
        baseline: Baseline,
        /// What somebody has allowed, which is learned.
        exceptions: Exceptions,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    /// The alerts, in the order of their raising.
    pub alerts: Vec<Alert>,
    /// Those that somebody has allowed, likewise.
    pub suppressed: Vec<Alert>,
    /// The updated baseline, when learning.
    pub baseline: Option<Baseline>,
    /// What was not learned because of alerts, when learning.
    pub withheld: Vec<Withheld>,
    /// What was seen.
    pub stats: Stats,
    /// What was lost on the way.
    pub losses: LossCounts,
    /// What was said since [`Pipeline::take_messages`] was last called.
    pub messages: Vec<Said>,
}

/// A flow that ended.
#[derive(Debug)]
pub struct EndedFlow {
    /// Who, with whom.
    pub flow: Arc<FlowInfo>,
    /// Its counters.
    pub record: Box<FlowRecord>,
    /// What it was about, in one line.
    pub gist: Option<String>,
}

/// Something that was said in a flow.
#[derive(Debug)]
pub struct Said {
    /// When its last byte was seen.
    pub time: Timestamp,
    /// Who, with whom.
    pub flow: Arc<FlowInfo>,
    /// The flow's application protocol, as far as it was known by then.
    pub app: Option<&'static str>,
    /// What.
    pub transaction: Transaction,
}

/// What was said, for whoever lists it, and what the flows that go on speak.
#[derive(Default, Debug)]
struct MessageList {
    said: Vec<Said>,
    /// As many as the table has flows, for each of which its end is told.
    apps: HashMap<FlowId, &'static str>,
}

impl MessageList {
    fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Recognised { flow, app } => {
                self.apps.insert(flow.id, app);
            }
            EventKind::Transaction { flow, transaction } => self.said.push(Said {
                time: event.time,
                flow: Arc::clone(flow),
                app: self.apps.get(&flow.id).copied(),
                transaction: transaction.clone(),
            }),
            EventKind::FlowEnded { flow, .. } => {
                self.apps.remove(&flow.id);
            }
            _ => {}
        }
    }
}

/// Flows that ended, for whoever lists them, and what is known so far of those that didn't.
#[derive(Default, Debug)]
struct FlowList {
    ended: Vec<EndedFlow>,
    /// As many as the table has flows, for each of which its end is told.
    live: HashMap<FlowId, Gist>,
}

impl FlowList {
    fn observe(&mut self, event: Event) {
        match event.kind {
            EventKind::Transaction { flow, transaction } => {
                self.live.entry(flow.id).or_default().add(&transaction);
            }
            EventKind::FlowEnded { flow, record } => {
                let gist = self.live.remove(&flow.id).and_then(|gist| gist.line());
                self.ended.push(EndedFlow { flow, record, gist });
            }
            _ => {}
        }
    }
}

/// All stages of one run.
#[derive(Debug)]
pub struct Pipeline {
    journal: Arc<Journal>,
    front: Front,
    analysis: Option<Analysis>,
    batch: Batch,
    flows: Option<FlowList>,
    messages: Option<MessageList>,
    ticked: Timestamp,
}

/// Packet time between two ticks of the analysis, in nanoseconds.
const TICK: i64 = 1_000_000_000;

impl Pipeline {
    /// A pipeline that knows addresses from `journal`.
    ///
    /// # Errors
    /// When a signature's thresholds don't fit its detector.
    pub fn new(flow: FlowConfig, journal: Arc<Journal>, task: Task) -> Result<Self, BuildError> {
        Ok(Self {
            front: Front::new(flow),
            analysis: Analysis::new(task)?,
            journal,
            batch: Batch::default(),
            flows: None,
            messages: None,
            ticked: Timestamp::MIN,
        })
    }

    /// Keeps ended flows for [`Pipeline::take_flows`].
    #[must_use]
    pub fn keeping_flows(mut self) -> Self {
        self.flows = Some(FlowList::default());
        self
    }

    /// Keeps what is said for [`Pipeline::take_messages`].
    #[must_use]
    pub fn keeping_messages(mut self) -> Self {
        self.messages = Some(MessageList::default());
        self
    }

    /// Takes a frame through all stages; the last may wait for more frames, up to a second of packet time.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.front
            .frame(frame, &self.journal, &mut self.batch.events);
        self.batch.mark(self.front.packets(), self.front.losses());
        let now = frame.time;
        let second = now.nanos().div_euclid(TICK);
        let tick = second > self.ticked.nanos().div_euclid(TICK);
        if tick || self.batch.is_due() {
            self.analyze();
        }
        if tick {
            self.tick(now);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        self.ticked = now;
        let (losses, packets) = (self.front.losses(), self.front.packets());
        if let Some(analysis) = &mut self.analysis {
            analysis.tick(now, &self.journal, losses, packets);
        }
    }

    /// Flows that ended since the last call, in the order of their end.
    pub fn take_flows(&mut self) -> Vec<EndedFlow> {
        self.analyze();
        self.flows
            .as_mut()
            .map(|flows| std::mem::take(&mut flows.ended))
            .unwrap_or_default()
    }

    /// What was said since the last call, in order.
    pub fn take_messages(&mut self) -> Vec<Said> {
        self.analyze();
        self.messages
            .as_mut()
            .map(|messages| std::mem::take(&mut messages.said))
            .unwrap_or_default()
    }

    /// The input is over. Flows still open end here; a last [`Pipeline::take_flows`] is in the result.
    pub fn finish(mut self) -> (Verdict, Vec<EndedFlow>) {
        let mut over = false;
        while !over {
            over = self.front.finish(&self.journal, &mut self.batch.events);
            self.batch.mark(self.front.packets(), self.front.losses());
            self.analyze();
        }
        let flows = self.take_flows();
        let messages = self.take_messages();
        let packets = self.front.packets();
        let outcome = self
            .analysis
            .map(|analysis| analysis.finish(&self.journal, self.front.losses(), packets))
            .unwrap_or_default();
        let mut losses = self.front.losses().clone();
        losses.merge(self.front.flow_losses());
        losses.merge(&outcome.losses);
        let verdict = Verdict {
            alerts: outcome.alerts,
            suppressed: outcome.suppressed,
            baseline: outcome.baseline,
            withheld: outcome.withheld,
            stats: self.front.stats(),
            losses,
            messages,
        };
        (verdict, flows)
    }

    /// Analyzes the events that wait.
    fn analyze(&mut self) {
        let Self {
            batch,
            analysis,
            flows,
            messages,
            journal,
            ..
        } = self;
        batch.take(|event, packets, losses| {
            if let Some(analysis) = analysis {
                analysis.observe(&event, journal, losses, packets);
            }
            if let Some(messages) = messages {
                messages.observe(&event);
            }
            if let Some(flows) = flows {
                flows.observe(event);
            }
        });
    }
}
