//! Live runs: threads, clocks and rights around the pipeline, which knows none of them.
//!
//! ```text
//! interfaces ─▶ capture thread ═ batches ═▶ analysis thread ═ alerts, flows ═▶ delivery thread
//!    taps.rs                     ring.rs      analyst.rs                          deliver.rs
//! inventories ─▶ identity thread ═ journal ════════▲
//!                identity.rs
//! ```
//!
//! Nobody waits for the stage behind: where the analysis is behind, the kernel's buffer takes what comes and counts what it
//! can't; where a sink is behind, alerts are counted as not delivered.

mod analyst;
mod deliver;
mod identity;
mod links;
mod ring;
mod taps;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::capture::{LiveError, LiveOptions};
use crate::flow::FlowConfig;
use crate::identity::{InventoryErrors, Journal, LiveInventory};
use crate::pipeline::{BuildError, Pipeline, Stats, Task, Verdict};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

use analyst::Analyst;
use identity::Follower;
use ring::{BATCH_BYTES, Batch};
use taps::Taps;

pub use deliver::Outputs;
pub use identity::{IdentityState, places};
pub use taps::{Selection, TapCounts, TapState};

/// Messages on their way to the analysis, besides batches.
const MESSAGES: usize = 64;
/// Deliveries on their way to the sinks; each is what one second brought.
const DELIVERIES: usize = 256;

/// Why a live run can't be, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Nothing can be captured.
    #[error(transparent)]
    Capture(#[from] LiveError),
    /// An inventory can't be read.
    #[error(transparent)]
    Inventory(#[from] InventoryErrors),
    /// A signature doesn't fit its detector.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system has no thread or no signal handler for us.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A thread ended by a defect.
    #[error(
        "the {0} thread died of a defect in this program; please report it with what it printed"
    )]
    Died(&'static str),
}

/// What a live run is made of.
pub struct Setup {
    /// What to capture.
    pub selection: Selection,
    /// How.
    pub live: LiveOptions,
    /// Bytes on their way from capture to analysis at most.
    pub ring: usize,
    /// Bounds of the flow table.
    pub flow: FlowConfig,
    /// Who held which address, followed while it changes.
    pub inventory: LiveInventory,
    /// What to do.
    pub task: Task,
    /// Where alerts and flows go.
    pub outputs: Outputs,
}

/// What a live run came to.
#[derive(Debug)]
pub struct Report {
    /// What the pipeline saw and found. Its alerts are delivered already.
    pub verdict: Verdict,
    /// Alerts by severity, in the order of [`crate::signature::Severity::ALL`].
    pub alerts: [u64; 4],
    /// The interfaces and their counts.
    pub taps: Vec<TapState>,
    /// Claims on addresses that are known.
    pub claims: usize,
    /// Everything that was lost, by cause.
    pub losses: LossCounts,
}

/// How a run stands, for whoever asks. Renewed about once a second.
#[derive(Clone, Default, Debug)]
pub struct Standing {
    /// What was seen.
    pub stats: Stats,
    /// What was lost, by cause.
    pub losses: LossCounts,
    /// Alerts by severity.
    pub alerts: [u64; 4],
    /// How far time has come.
    pub now: Option<Timestamp>,
}

/// What goes to the analysis thread.
enum Message {
    /// Frames of one interface.
    Frames(Batch),
    /// Frames up to `release` are complete, time has come to `now`, and so much more was lost.
    Tick {
        release: Timestamp,
        now: Timestamp,
        lost: LossCounts,
    },
    /// Who held which address is known better now.
    Journal(Arc<Journal>),
}

/// A live run.
pub struct Engine {
    stop: Arc<AtomicBool>,
    orders: SyncSender<Message>,
    taps: Arc<Mutex<Vec<TapState>>>,
    standing: Arc<Mutex<Standing>>,
    identity: Arc<Mutex<IdentityState>>,
    reread: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    capture: JoinHandle<()>,
    following: JoinHandle<()>,
    analysis: JoinHandle<analyst::Outcome>,
    delivery: JoinHandle<u64>,
}

impl Engine {
    /// Opens the interfaces and starts.
    ///
    /// # Errors
    /// When the interfaces can't be captured, or a signature doesn't fit its detector.
    pub fn start(setup: Setup) -> Result<Self, RuntimeError> {
        let batches = (setup.ring / BATCH_BYTES).max(4);
        let (orders, messages) = sync_channel(batches + MESSAGES);
        let (free, freed) = sync_channel(batches);
        let (news, delivered) = sync_channel(DELIVERIES);
        let taps = Arc::new(Mutex::new(Vec::new()));
        let standing = Arc::new(Mutex::new(Standing::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();

        let capture = Taps::open(
            &setup.selection,
            setup.live,
            orders.clone(),
            freed,
            batches,
            Arc::clone(&taps),
        )?;
        let identity = Arc::new(Mutex::new(IdentityState::default()));
        let reread = Arc::new(AtomicBool::new(false));
        let follower = Follower::start(
            setup.inventory,
            orders.clone(),
            Arc::clone(&identity),
            Arc::clone(&reread),
        )?;
        let mut pipeline = Pipeline::new(setup.flow, follower.journal(), setup.task)?;
        if setup.outputs.wants_flows() {
            pipeline = pipeline.keeping_flows();
        }
        let analyst = Analyst::new(pipeline, free, news, Arc::clone(&standing));
        let (outputs, halt) = (setup.outputs, Arc::clone(&stop));
        let delivery = named("delivery", move || outputs.run(&delivered, &halt))?;
        let analysis = named("analysis", move || {
            // Dropped when the thread ends, however it does.
            let _end: oneshot::Sender<()> = end;
            analyst.run(&messages)
        })?;
        let halt = Arc::clone(&stop);
        let following = named("identity", move || follower.run(&halt))?;
        let halt = Arc::clone(&stop);
        let capture = named("capture", move || capture.run(&halt))?;
        Ok(Self {
            stop,
            orders,
            taps,
            standing,
            identity,
            reread,
            ended,
            capture,
            following,
            analysis,
            delivery,
        })
    }

    /// The interfaces and their counts, as of the last second.
    pub fn taps(&self) -> Vec<TapState> {
        self.taps
            .lock()
            .map(|taps| taps.clone())
            .unwrap_or_default()
    }

    /// How the run stands, as of the last second.
    pub fn standing(&self) -> Standing {
        let standing = self.standing.lock();
        standing
            .map(|standing| standing.clone())
            .unwrap_or_default()
    }

    /// How well identities are known.
    pub fn identity(&self) -> IdentityState {
        let identity = self.identity.lock();
        identity
            .map(|identity| identity.clone())
            .unwrap_or_default()
    }

    /// Runs until SIGTERM or SIGINT, or until nobody takes the results any more; then analyzes what was captured so far.
    ///
    /// # Errors
    /// When a thread died.
    pub fn run(mut self) -> Result<Report, RuntimeError> {
        let edge = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        edge.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut reload = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = &mut self.ended => break,
                    _ = reload.recv() => self.reread.store(true, Ordering::Relaxed),
                }
            }
            io::Result::Ok(())
        })?;
        self.finish()
    }

    fn finish(self) -> Result<Report, RuntimeError> {
        self.stop.store(true, Ordering::Relaxed);
        self.capture
            .join()
            .map_err(|_| RuntimeError::Died("capture"))?;
        self.following
            .join()
            .map_err(|_| RuntimeError::Died("identity"))?;
        // The analysis goes on until nobody can send anything any more.
        drop(self.orders);
        let outcome = self
            .analysis
            .join()
            .map_err(|_| RuntimeError::Died("analysis"))?;
        let failed = self
            .delivery
            .join()
            .map_err(|_| RuntimeError::Died("delivery"))?;
        let claims = self.identity.lock().map_or(0, |identity| identity.claims);
        let mut losses = outcome.losses;
        losses.add_n(crate::telemetry::Loss::SinkFull, failed);
        Ok(Report {
            verdict: outcome.verdict,
            alerts: outcome.alerts,
            claims,
            taps: self
                .taps
                .lock()
                .map(|taps| taps.clone())
                .unwrap_or_default(),
            losses,
        })
    }
}

fn named<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run)
}

/// The clock that the kernel stamps frames by.
#[expect(
    clippy::disallowed_methods,
    reason = "where no frame tells the time, the clock that stamps frames does"
)]
fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(Timestamp::MIN, |since| {
        Timestamp::from_nanos(0).after(since)
    })
}
