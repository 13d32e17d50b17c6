//! The stages composed, without I/O or clocks: what the command line drives, and tests, benches and fuzzers call.
//!
//! ```text
//! frame ─▶ front: decode, flow, identity, dissect ─▶ events ─▶ back: features, baseline, detectors, alert
//! ```
//!
//! Either half knows nothing of the other, so that each may have a thread.

mod analysis;
mod back;
mod batch;
mod beside;
mod explain;
mod front;
mod lists;
mod live;
mod silence;
mod stats;
mod translation;

use std::sync::Arc;

use crate::alert::{Alert, Exceptions, Explanation};
use crate::baseline::{Baseline, Withheld};
use crate::capture::Frame;
use crate::flow::FlowId;
use crate::identity::Journal;
use crate::memory::Share;
use crate::signature::SignatureSet;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

use analysis::Analysis;
use back::{Back, Tick};
use batch::Batch;
use beside::Beside;
use front::Front;
use lists::{FlowList, MessageList};

pub use analysis::BuildError;
pub use explain::{Selector, SelectorError};
pub use lists::{EndedFlow, Said};
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
    /// What was asked for by [`Pipeline::explaining`], in that order.
    pub explanations: Vec<Explanation>,
}

/// All stages of one run.
#[derive(Debug)]
pub struct Pipeline {
    journal: Arc<Journal>,
    front: Front,
    batch: Batch,
    back: Place,
    ticked: Timestamp,
}

/// Where the other half is.
#[derive(Debug)]
enum Place {
    Here(Box<Back>),
    Beside(Beside),
}

impl Place {
    fn take(&mut self, batch: &mut Batch) {
        match self {
            Self::Here(back) => back.take(batch),
            Self::Beside(beside) => beside.take(batch),
        }
    }

    /// The half, unless it is on a thread of its own.
    fn here(&mut self) -> Option<&mut Back> {
        match self {
            Self::Here(back) => Some(back),
            Self::Beside(_) => None,
        }
    }

    fn home(self) -> Back {
        match self {
            Self::Here(back) => *back,
            Self::Beside(beside) => beside.home(),
        }
    }
}

/// Packet time between two ticks of the analysis, in nanoseconds.
const TICK: i64 = 1_000_000_000;

impl Pipeline {
    /// A pipeline that knows addresses from `journal`, and takes a share of memory.
    ///
    /// # Errors
    /// When a signature's thresholds don't fit its detector.
    pub fn new(share: Share, journal: Arc<Journal>, task: Task) -> Result<Self, BuildError> {
        let back = Back {
            journal: Arc::clone(&journal),
            analysis: Analysis::new(task, share)?,
            flows: None,
            messages: None,
        };
        Ok(Self {
            front: Front::new(share),
            journal,
            batch: Batch::default(),
            back: Place::Here(Box::new(back)),
            ticked: Timestamp::MIN,
        })
    }

    /// Keeps ended flows for [`Pipeline::take_flows`]; to be asked for before there are two threads.
    #[must_use]
    pub fn keeping_flows(mut self) -> Self {
        if let Some(back) = self.back.here() {
            back.flows = Some(FlowList::default());
        }
        self
    }

    /// Keeps what is said for [`Pipeline::take_messages`], likewise.
    #[must_use]
    pub fn keeping_messages(mut self) -> Self {
        if let Some(back) = self.back.here() {
            back.messages = Some(MessageList::default());
        }
        self
    }

    /// Explains beside the run why what is asked for alerts or doesn't, likewise. Only what is analyzed can be explained.
    ///
    /// # Errors
    /// When a signature's thresholds don't fit its detector.
    pub fn explaining(mut self, asked: Vec<Selector>) -> Result<Self, BuildError> {
        let analysis = self.back.here().and_then(|back| back.analysis.as_mut());
        if let Some(analysis) = analysis {
            analysis.explain(asked)?;
        }
        Ok(self)
    }

    /// Takes the events on a thread of its own from here on. The result is the same; what a live run needs besides isn't there.
    ///
    /// # Errors
    /// When there can't be another thread.
    pub fn on_two_threads(self) -> std::io::Result<Self> {
        let back = Place::Beside(Beside::new(self.back.home())?);
        Ok(Self { back, ..self })
    }

    /// Takes a frame through all stages; the last may wait for more frames, up to a second of packet time. Returns the flow that
    /// it belongs to: none where it is a copy of another, or a fragment of what isn't whole yet.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Option<FlowId> {
        let flow = self
            .front
            .frame(frame, &self.journal, &mut self.batch.events);
        self.batch.mark(self.front.packets(), self.front.losses());
        let now = frame.time;
        let second = now.nanos().div_euclid(TICK);
        let tick = second > self.ticked.nanos().div_euclid(TICK);
        if tick || self.batch.is_due() {
            self.back.take(&mut self.batch);
        }
        if tick {
            self.tick(now);
        }
        flow
    }

    fn tick(&mut self, now: Timestamp) {
        self.ticked = now;
        let tick = Tick {
            now,
            packets: self.front.packets(),
            losses: self.front.losses().clone(),
        };
        match &mut self.back {
            Place::Here(back) => back.tick(&tick),
            Place::Beside(beside) => beside.tick(tick),
        }
    }

    /// Flows that ended and were not taken yet, in the order of their end; on two threads, some may be missing that come
    /// with the next call.
    pub fn take_flows(&mut self) -> Vec<EndedFlow> {
        self.back.take(&mut self.batch);
        match &mut self.back {
            Place::Here(back) => back.take_flows(),
            Place::Beside(beside) => beside.take_flows(),
        }
    }

    /// What was said and was not taken yet, likewise.
    pub fn take_messages(&mut self) -> Vec<Said> {
        self.back.take(&mut self.batch);
        match &mut self.back {
            Place::Here(back) => back.take_messages(),
            Place::Beside(beside) => beside.take_messages(),
        }
    }

    /// The input is over. Flows still open end here; a last [`Pipeline::take_flows`] is in the result.
    pub fn finish(mut self) -> (Verdict, Vec<EndedFlow>) {
        let mut over = false;
        while !over {
            over = self.front.finish(&self.journal, &mut self.batch.events);
            self.batch.mark(self.front.packets(), self.front.losses());
            self.back.take(&mut self.batch);
        }
        let (packets, stats) = (self.front.packets(), self.front.stats());
        let mut losses = self.front.losses().clone();
        let mut back = self.back.home();
        let (flows, messages) = (back.take_flows(), back.take_messages());
        let outcome = back.finish(&losses, packets);
        losses.merge(self.front.flow_losses());
        losses.merge(&outcome.losses);
        let verdict = Verdict {
            alerts: outcome.alerts,
            suppressed: outcome.suppressed,
            baseline: outcome.baseline,
            withheld: outcome.withheld,
            stats,
            losses,
            messages,
            explanations: outcome.explanations,
        };
        (verdict, flows)
    }
}
