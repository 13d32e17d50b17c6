//! Live runs: threads, clocks and rights around the pipeline, which knows none of them.
//!
//! ```text
//! interfaces ─▶ capture thread ═ batches ═▶ analysis thread ═ alerts, flows ═▶ delivery thread
//!    taps.rs                     ring.rs      analyst.rs                          deliver.rs
//! inventories ─▶ identity thread ═ journal ════════▲
//!                identity.rs ◀═ Kubernetes API, kubernetes.rs; container runtime, cri.rs
//! ```
//!
//! Nobody waits for the stage behind: where the analysis is behind, the kernel's buffer takes what comes and counts what it
//! can't; where a sink is behind, alerts are counted as not delivered.

mod analyst;
mod asking;
mod cri;
mod deliver;
mod evidence;
mod forward;
mod health;
mod identity;
mod kubernetes;
mod links;
mod privileges;
mod ring;
mod server;
mod setup;
mod state;
mod taps;
mod view;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use caps::Capability;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::baseline::{Baseline, Store, StoreError};
use crate::capture::LiveError;
use crate::identity::{InventoryErrors, Journal};
use crate::pipeline::{BuildError, Pipeline, Stats, Verdict};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

use analyst::{Analyst, Saving};
use cri::Asker;
use deliver::News;
use evidence::Recorder;
use forward::ForwardView;
use health::{Health, Look};
use identity::Follower;
use kubernetes::Watcher;
use ring::{BATCH_BYTES, Batch};
use taps::Taps;
use view::View;

pub use cri::RuntimeSocket;
pub use deliver::Outputs;
pub use forward::{Forwarded, Forwarder, node};
pub use health::{Alarm, Condition, Limits};
pub use identity::{IdentityState, places};
pub use kubernetes::{Access, in_cluster};
pub use privileges::{User, become_user};
pub use setup::{Renew, Renewal, Rules, Setup};
pub use state::State;
pub use taps::{Selection, TapCounts, TapState};

/// Messages on their way to the analysis, besides batches.
const MESSAGES: usize = 64;
/// Deliveries on their way to the sinks; each is what one second brought.
const DELIVERIES: usize = 256;

/// Between two looks at how the run stands.
const LOOK: Duration = Duration::from_secs(5);
/// Between two tellings of an alarm that goes on, before Alertmanager takes it for over.
const REMIND: Duration = Duration::from_mins(2);

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
    /// Metrics and health can't be served there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// What was learned can't be saved.
    #[error(transparent)]
    Save(#[from] StoreError),
    /// The system has no thread or no signal handler for us.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A thread ended by a defect.
    #[error(
        "the {0} thread died of a defect in this program; please report it with what it printed"
    )]
    Died(&'static str),
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
    /// Alerts by each severity that they were told with; these never sink.
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
    /// What to look for, and how, has changed.
    Rules(Rules),
}

/// A live run.
pub struct Engine {
    stop: Arc<AtomicBool>,
    reread: Arc<AtomicBool>,
    orders: SyncSender<Message>,
    news: SyncSender<News>,
    renew: Renew,
    listener: Option<TcpListener>,
    forwarding: Option<ForwardView>,
    view: Arc<View>,
    health: Health,
    ended: Arc<Notify>,
    capture: JoinHandle<()>,
    following: JoinHandle<()>,
    kubernetes: Option<JoinHandle<()>>,
    cri: Option<JoinHandle<()>>,
    analysis: JoinHandle<analyst::Outcome>,
    delivery: JoinHandle<u64>,
    saving: Option<JoinHandle<Result<(), StoreError>>>,
}

/// Rings when its thread ends, however it does.
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Engine {
    /// Opens everything, gives up what rights it needs no more, and starts.
    ///
    /// # Errors
    /// When the interfaces can't be captured, an inventory can't be read, or a signature doesn't fit its detector.
    pub fn start(setup: Setup) -> Result<Self, RuntimeError> {
        let batches = (setup.ring / BATCH_BYTES).max(4);
        let (orders, messages) = sync_channel(batches + MESSAGES);
        let (free, freed) = sync_channel(batches);
        let (news, delivered) = sync_channel(DELIVERIES);
        let view = Arc::new(View::default());
        let stop = Arc::new(AtomicBool::new(false));
        let reread = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(Notify::new());
        let thread = || (Arc::clone(&stop), Bell(Arc::clone(&ended)));

        let listener = setup.listen.map(listen).transpose()?;
        let (selection, live) = (&setup.selection, setup.live);
        let shown = Arc::clone(&view);
        let taps = Taps::open(selection, live, orders.clone(), freed, batches, shown)?;
        let shown = Arc::clone(&view);
        let access = setup.kubernetes;
        let watcher = access
            .map(|access| Watcher::new(access, shown))
            .transpose()?;
        let shown = Arc::clone(&view);
        let asker = setup.cri.map(|socket| Asker::new(socket, shown));
        let asker = asker.transpose()?;
        let follower = Follower::start(
            setup.inventory,
            watcher.as_ref().map(Watcher::known),
            asker.as_ref().map(Asker::known),
            orders.clone(),
            Arc::clone(&view),
            Arc::clone(&reread),
        )?;
        let mut pipeline = Pipeline::new(setup.share, follower.journal(), setup.task)?;
        if setup.outputs.wants_flows() {
            pipeline = pipeline.keeping_flows();
        }
        let mut state = setup.state;
        if let Some(state) = &mut state {
            let found = state.take();
            let n = found.len();
            state::tell(n, &pipeline.recall(found));
        }
        let (to, baselines) = sync_channel(1);
        let took = Arc::new(AtomicU64::new(0));
        let saving = setup.store.is_some().then(|| Saving {
            to,
            took: Arc::clone(&took),
            held: state.is_some(),
        });
        let (folder, memory) = setup.evidence.unzip();
        if memory.is_some() {
            view.count_evidence(|_| ());
        }
        let recorder = memory.map(Recorder::new);
        let shown = Arc::clone(&view);
        let analyst = Analyst::new(pipeline, free, news.clone(), saving, recorder, shown);

        // What a thread starts with, it has from this one.
        complain(privileges::confine(&setup.writable));
        complain(privileges::filter_calls());
        let (halt, bell) = thread();
        let capture = named("capture", move || {
            let _bell: Bell = bell;
            complain(privileges::keep(Some(Capability::CAP_NET_RAW)));
            taps.run(&halt);
        })?;
        complain(privileges::keep(None));
        let (halt, bell) = thread();
        let shown = Arc::clone(&view);
        let outputs = setup.outputs;
        let mut forwarder = setup.forwarder;
        if let Some(forwarder) = &mut forwarder {
            forwarder.start()?;
        }
        let forwarding = forwarder.as_ref().map(Forwarder::view);
        let delivery = named("delivery", move || {
            let _bell: Bell = bell;
            let sender = forwarder.as_ref();
            let failed = outputs.run(&delivered, sender, state, folder, &shown, &halt);
            failed + forwarder.map_or(0, Forwarder::finish)
        })?;
        let (_, bell) = thread();
        let analysis = named("analysis", move || {
            let _bell: Bell = bell;
            analyst.run(&messages)
        })?;
        let (halt, bell) = thread();
        let following = named("identity", move || {
            let _bell: Bell = bell;
            follower.run(&halt);
        })?;
        let kubernetes = watcher.map(|watcher| {
            let (halt, bell) = thread();
            named("kubernetes", move || {
                let _bell: Bell = bell;
                watcher.run(&halt);
            })
        });
        let cri = asker.map(|asker| {
            let (halt, bell) = thread();
            named("cri", move || {
                let _bell: Bell = bell;
                asker.run(&halt);
            })
        });
        let store = setup.store;
        let shown = Arc::clone(&view);
        let saving = store.map(|store| {
            named("baseline", move || {
                save_all(&store, &baselines, &took, &shown)
            })
        });
        Ok(Self {
            stop,
            reread,
            orders,
            news,
            renew: setup.renew,
            listener,
            forwarding,
            view,
            health: Health::new(setup.limits),
            ended,
            capture,
            following,
            kubernetes: kubernetes.transpose()?,
            cri: cri.transpose()?,
            analysis,
            delivery,
            saving: saving.transpose()?,
        })
    }

    /// Runs until SIGTERM or SIGINT, or until nobody takes the results any more; then analyzes what was captured so far.
    ///
    /// # Errors
    /// When a thread died, or what was learned can't be saved.
    pub fn run(mut self) -> Result<Report, RuntimeError> {
        let edge = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = self.listener.take();
        edge.block_on(async {
            if let Some(listener) = listener {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let router = server::router(Arc::clone(&self.view), self.forwarding.clone());
                tokio::spawn(async move { axum::serve(listener, router).await });
            }
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hangup = signal(SignalKind::hangup())?;
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let began = tokio::time::Instant::now();
            let mut reminded = began;
            info!("started");
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = self.ended.notified() => break,
                    _ = hangup.recv() => self.renew(),
                    now = looks.tick() => {
                        let remind = now - reminded >= REMIND;
                        if remind {
                            reminded = now;
                        }
                        self.look(now - began, remind);
                    }
                }
            }
            io::Result::Ok(())
        })?;
        self.finish()
    }

    /// Looks how the run stands, and tells what is wrong, and what is again as it should be.
    fn look(&mut self, at: Duration, remind: bool) {
        let (taps, standing) = (self.view.taps(), self.view.standing());
        let mut identity = self.view.identity();
        let unfollowed = self
            .view
            .kubernetes()
            .into_iter()
            .find_map(|(kind, state)| {
                let problem = state.problem?;
                Some(format!("{} of the Kubernetes API: {problem}", kind.label()))
            });
        let silent = self.view.asking().and_then(|asking| asking.problem);
        identity.problem = identity.problem.or(unfollowed).or(silent);
        let mut failing = self.view.failing();
        let forwarded = self.forwarding.as_ref().map(ForwardView::counts);
        if forwarded.is_some_and(|counts| counts.kept == Some(false)) {
            failing.push("the spool");
        }
        let behind = standing.now.map(|now| clock().since(now));
        let mut alarms = self.health.look(
            at,
            &Look {
                taps: &taps,
                standing: &standing,
                identity: &identity,
                failing: &failing,
                behind: behind.unwrap_or_default(),
            },
        );
        for alarm in &alarms {
            if alarm.raised {
                warn!("alarm: {}", alarm.text);
            } else {
                info!("alarm over: {}", alarm.text);
            }
        }
        let raised: Vec<Alarm> = self.health.raised().collect();
        if remind {
            alarms.retain(|alarm| !alarm.raised);
            alarms.extend(raised.iter().cloned());
        }
        self.view.show_alarms(raised);
        // A delivery that is behind hears of it at the next reminder.
        if !alarms.is_empty() {
            self.news.try_send(News::Alarms(alarms)).ok();
        }
    }

    /// Reads again what may have changed. What is wrong leaves all as it was.
    fn renew(&mut self) {
        self.reread.store(true, Ordering::Relaxed);
        let Renewal { rules, outputs } = (self.renew)();
        match outputs {
            // One second brings one delivery, so there is room; if not, the next SIGHUP does it.
            Ok(outputs) => {
                let anew = News::Reopen(Box::new(outputs));
                if self.news.try_send(anew).is_err() {
                    warn!(
                        "the files of alerts and flows are not opened anew: their sink is behind"
                    );
                }
            }
            Err(problem) => error!("alerts go where they went: {problem}"),
        }
        match rules {
            Ok(rules) => {
                // Gone only if the analysis died, which ends the run.
                self.orders.send(Message::Rules(rules)).ok();
            }
            Err(problem) => warn!("all stays as it was: {problem}"),
        }
    }

    fn finish(self) -> Result<Report, RuntimeError> {
        self.stop.store(true, Ordering::Relaxed);
        let died = |thread| move |_| RuntimeError::Died(thread);
        self.capture.join().map_err(died("capture"))?;
        self.following.join().map_err(died("identity"))?;
        if let Some(kubernetes) = self.kubernetes {
            kubernetes.join().map_err(died("kubernetes"))?;
        }
        if let Some(cri) = self.cri {
            cri.join().map_err(died("cri"))?;
        }
        // The analysis and the delivery go on until nobody can send anything any more.
        drop(self.orders);
        drop(self.news);
        let outcome = self.analysis.join().map_err(died("analysis"))?;
        let failed = self.delivery.join().map_err(died("delivery"))?;
        if let Some(saving) = self.saving {
            saving.join().map_err(died("baseline"))??;
        }
        let mut losses = outcome.losses;
        losses.add_n(Loss::SinkFull, failed);
        Ok(Report {
            verdict: outcome.verdict,
            alerts: outcome.alerts,
            claims: self.view.identity().claims,
            taps: self.view.taps(),
            losses,
        })
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, RuntimeError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| RuntimeError::Listen { address, source })
}

/// Saves each baseline that comes. The last one is the one that counts, so its failure is the run's.
fn save_all(
    store: &Store,
    baselines: &Receiver<(Baseline, Instant)>,
    took: &AtomicU64,
    view: &View,
) -> Result<(), StoreError> {
    let mut last = Ok(());
    for (baseline, began) in baselines {
        last = store.save(&baseline);
        view.show_failure("the baseline", last.is_err());
        took.store(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        match &last {
            Ok(()) => info!("baseline saved in {:.3} s", began.elapsed().as_secs_f64()),
            Err(error) => warn!("{error}"),
        }
    }
    last
}

/// Tells of rights that could not be given up: the run is as good, but less safe than it could be.
fn complain(outcome: Result<(), String>) {
    if let Err(problem) = outcome {
        warn!("not confined as it should be: {problem}");
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
