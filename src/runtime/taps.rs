//! The capture thread: every tapped interface, read by turns, its frames sent on in batches.
//!
//! It opens interfaces that come (back), accounts for every frame the kernel counted, and tells how far time has come when
//! the wire is quiet. It copies each frame once, into a batch; it allocates nothing, locks nothing and logs nothing per frame.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{info, warn};

use super::links::{links, uplinks};
use super::ring::Batch;
use super::view::View;
use super::{Message, clock};
use crate::capture::{
    EVERY_INTERFACE, Frame, KernelCounts, LinkType, Live, LiveError, LiveOptions,
};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// What to capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// These interfaces, each with a handle of its own.
    Interfaces(Vec<String>),
    /// Whatever leads to pods, now or later: one handle on all interfaces, of which the others' frames are passed over. A
    /// new pod's first packet is in it, and no right is needed later to open anything.
    Pods,
}

impl Selection {
    /// On how many handles the kernel keeps frames for it.
    pub const fn handles(&self) -> usize {
        match self {
            Self::Interfaces(names) => names.len(),
            Self::Pods => 1,
        }
    }

    /// Whether it is bound to show the pods' side alone: bridges, and what leads to pods. An interface that isn't there yet, a
    /// way out (which a pod's own interface is, too) and a loopback may show more.
    pub fn is_pod_side(&self) -> bool {
        let Self::Interfaces(names) = self else {
            return true;
        };
        let (links, uplinks) = (links().unwrap_or_default(), uplinks());
        names.iter().all(|name| {
            let mut known = links.iter().filter(|link| link.name == *name);
            known.any(|link| link.bridge || link.pair) && !uplinks.contains(name)
        })
    }
}

/// How far the analysis is behind the wire, where the ring holds so much: several interfaces are put in order by then, and the
/// names of new pods, which come after their first packets, are known.
const LAG: Duration = Duration::from_secs(1);
/// Frames read of an interface until it is the next one's turn, passed over or not.
const TURN: u32 = 1 << 14;
/// How long a batch waits to be full.
const FILL: Duration = Duration::from_millis(200);
/// Between two attempts to open an interface.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at the kernel's counters.
const ACCOUNT: Duration = Duration::from_secs(1);
/// How long the last frames are waited for at the end, as a multiple of the kernel's patience.
const LAST_WAIT: u32 = 3;

/// What became of the frames of one interface, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TapCounts {
    /// What the kernel counted.
    pub kernel: KernelCounts,
    /// Frames sent on.
    pub taken: u64,
    /// Frames of interfaces that don't lead to pods.
    pub passed_over: u64,
    /// Frames that the kernel counted and nobody read.
    pub unread: u64,
}

impl TapCounts {
    fn add(&mut self, other: Self) {
        self.kernel.received += other.kernel.received;
        self.kernel.dropped += other.kernel.dropped;
        self.kernel.missed += other.kernel.missed;
        self.taken += other.taken;
        self.passed_over += other.passed_over;
        self.unread += other.unread;
    }
}

/// How an interface stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapState {
    /// Its name.
    pub interface: String,
    /// Whether it is captured at the moment.
    pub open: bool,
    /// What became of its frames, former times included.
    pub counts: TapCounts,
}

struct Tap {
    number: u32,
    interface: String,
    live: Option<Live>,
    /// Of the handle that is open.
    counts: TapCounts,
    /// Of those that were.
    past: TapCounts,
    retry: Instant,
    batch: Option<Batch>,
    /// When its first frame came.
    begun: Instant,
    /// The stamp of the frame read last.
    last: Timestamp,
    /// Whether nothing waited when it was last read.
    drained: bool,
}

/// The capture thread's state.
pub(super) struct Taps {
    options: LiveOptions,
    all: Vec<Tap>,
    pods: Option<PodLinks>,
    out: SyncSender<Message>,
    free: Receiver<Batch>,
    /// Batches that may still be made.
    spare: usize,
    view: Arc<View>,
    /// What was told of losses so far.
    told: LossCounts,
}

/// Nobody takes frames any more.
struct Gone;

impl Taps {
    /// Opens what can be opened. `batches` come back by `free`.
    ///
    /// # Errors
    /// When an interface exists and may not be captured, or the filter doesn't fit; one that is not there yet is waited for.
    pub(super) fn open(
        selection: &Selection,
        options: LiveOptions,
        out: SyncSender<Message>,
        free: Receiver<Batch>,
        batches: usize,
        view: Arc<View>,
    ) -> Result<Self, LiveError> {
        let every = [EVERY_INTERFACE.to_owned()];
        let (interfaces, pods) = match selection {
            Selection::Interfaces(names) => (&**names, None),
            Selection::Pods => (&every[..], Some(PodLinks::default())),
        };
        let mut taps = Vec::new();
        for (interface, number) in interfaces.iter().zip(0..) {
            let live = match Live::open(interface, &options) {
                Ok(live) => Some(live),
                Err(error) if is_absent(interface) => {
                    warn!("{error}; waiting for it to appear");
                    None
                }
                Err(error) => return Err(error),
            };
            taps.push(Tap {
                number,
                interface: interface.clone(),
                live,
                counts: TapCounts::default(),
                past: TapCounts::default(),
                retry: now(),
                batch: None,
                begun: now(),
                last: Timestamp::MIN,
                drained: false,
            });
        }
        Ok(Self {
            options,
            all: taps,
            pods,
            out,
            free,
            spare: batches,
            view,
            told: LossCounts::default(),
        })
    }

    /// Captures until `stop`, then reads what the kernel still has.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        // Only the analysis can be gone, and then there is nobody to tell.
        drop(self.capture(stop));
    }

    fn capture(&mut self, stop: &AtomicBool) -> Result<(), Gone> {
        let mut accounted = now();
        while !stop.load(Ordering::Relaxed) {
            self.reopen();
            self.wait();
            self.round()?;
            if accounted.elapsed() >= ACCOUNT {
                accounted = now();
                self.account();
            }
        }
        let patience = Duration::from_millis(self.options.patience.into());
        let end = now();
        // Frames of before now may lie in the kernel until its patience ends; those after are not ours to wait for.
        let last = clock();
        let behind = |tap: &Tap| tap.live.is_some() && tap.last < last;
        while end.elapsed() < patience * LAST_WAIT && self.all.iter().any(behind) {
            self.wait();
            self.round()?;
        }
        for at in 0..self.all.len() {
            self.close(at)?;
        }
        self.account();
        // What still waits for names is released when those have been read once more.
        self.tick(Timestamp::MIN, Timestamp::MIN)
    }

    /// Waits until frames are there, or the kernel's patience is over.
    fn wait(&self) {
        let open = self.all.iter().filter_map(|tap| tap.live.as_ref());
        let mut fds: Vec<PollFd<'_>> = open.map(|live| PollFd::new(live, PollFlags::IN)).collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(self.options.patience) * 1_000_000,
        };
        // Interrupted or not, the round looks at everything.
        poll(&mut fds, Some(&timeout)).ok();
    }

    /// Reads a batch of each interface, and tells how far that goes.
    fn round(&mut self) -> Result<(), Gone> {
        let began = clock();
        for at in 0..self.all.len() {
            if let Err(error) = self.read(at)? {
                warn!("{error}; waiting for it to come back");
                self.close(at)?;
            }
        }
        // Whatever is older than this is here, but for what an interface that is behind still has.
        let due = began.before(LAG);
        let behind = self.all.iter().filter(|tap| !tap.drained);
        let behind = behind.filter(|tap| tap.live.is_some()).map(|tap| tap.last);
        let until = behind.fold(due, Timestamp::min);
        self.tick(until, until)
    }

    /// Reads of one interface what fits into a batch.
    fn read(&mut self, at: usize) -> Result<Result<(), LiveError>, Gone> {
        let batch = match self.all.get_mut(at) {
            Some(tap) if tap.live.is_some() => tap.batch.take(),
            _ => return Ok(Ok(())),
        };
        let mut batch = match batch {
            Some(batch) => batch,
            None => self.batch()?,
        };
        let (Some(tap), pods) = (self.all.get_mut(at), &mut self.pods) else {
            return Ok(Ok(()));
        };
        let Some(live) = &mut tap.live else {
            return Ok(Ok(()));
        };
        if batch.is_empty() {
            batch.begin(tap.number, live.link());
            tap.begun = now();
        }
        tap.drained = false;
        let mut outcome = Ok(());
        let mut turn = 0..TURN;
        // Room for the longest: what was read can't be put back.
        while batch.has_room(self.options.snaplen as usize) && turn.next().is_some() {
            match live.next_frame() {
                Ok(Some(frame)) => {
                    tap.last = frame.time;
                    if pods.as_mut().is_none_or(|pods| pods.lead(&frame)) {
                        batch.push(&frame);
                        tap.counts.taken += 1;
                    } else {
                        tap.counts.passed_over += 1;
                    }
                }
                Ok(None) => {
                    tap.drained = true;
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        // A few frames wait for more, so that batches are worth their way.
        let waits = tap.drained && outcome.is_ok() && tap.begun.elapsed() < FILL;
        if batch.is_empty() || waits {
            tap.batch = Some(batch);
        } else {
            self.out.send(Message::Frames(batch)).map_err(|_| Gone)?;
        }
        Ok(outcome)
    }

    /// An empty batch. When all are under way: says that nothing can be waited for, and waits for one.
    fn batch(&mut self) -> Result<Batch, Gone> {
        if let Ok(batch) = self.free.try_recv() {
            return Ok(batch);
        }
        if self.spare > 0 {
            self.spare -= 1;
            return Ok(Batch::new());
        }
        self.tick(Timestamp::MAX, Timestamp::MIN)?;
        loop {
            match self.free.recv_timeout(ACCOUNT) {
                Ok(batch) => return Ok(batch),
                Err(RecvTimeoutError::Timeout) => self.account(),
                Err(RecvTimeoutError::Disconnected) => return Err(Gone),
            }
        }
    }

    fn tick(&mut self, release: Timestamp, now: Timestamp) -> Result<(), Gone> {
        let total = self.losses();
        let lost = total.since(&self.told);
        self.told = total;
        let tick = Message::Tick { release, now, lost };
        self.out.send(tick).map_err(|_| Gone)
    }

    fn losses(&self) -> LossCounts {
        let mut all = TapCounts::default();
        for tap in &self.all {
            all.add(tap.past);
            all.add(tap.counts);
        }
        let mut losses = LossCounts::default();
        losses.add_n(Loss::Kernel, all.kernel.dropped);
        losses.add_n(Loss::Interface, all.kernel.missed);
        losses.add_n(Loss::Unread, all.unread);
        losses
    }

    /// Asks the kernel for its counters, and shows how all stands.
    fn account(&mut self) {
        let mut states = Vec::with_capacity(self.all.len());
        for tap in &mut self.all {
            if let Some(live) = &mut tap.live {
                tap.counts.kernel = live.counts();
            }
            let mut counts = tap.past;
            counts.add(tap.counts);
            states.push(TapState {
                interface: tap.interface.clone(),
                open: tap.live.is_some(),
                counts,
            });
        }
        self.view.show_taps(states);
    }

    /// Closes an interface's handle and settles its account.
    fn close(&mut self, at: usize) -> Result<(), Gone> {
        let Some(tap) = self.all.get_mut(at) else {
            return Ok(());
        };
        let Some(mut live) = tap.live.take() else {
            return Ok(());
        };
        if let Some(batch) = tap.batch.take_if(|batch| !batch.is_empty()) {
            self.out.send(Message::Frames(batch)).map_err(|_| Gone)?;
        }
        let mut counts = std::mem::take(&mut tap.counts);
        counts.kernel = live.counts();
        let known = counts.kernel.dropped + counts.taken + counts.passed_over;
        counts.unread = counts.kernel.received.saturating_sub(known);
        // Of an interface that is gone the kernel may have forgotten what it counted.
        counts.kernel.received = counts.kernel.received.max(known);
        tap.past.add(counts);
        tap.retry = now() + RETRY;
        Ok(())
    }

    fn reopen(&mut self) {
        for tap in &mut self.all {
            if tap.live.is_some() || tap.retry > now() {
                continue;
            }
            tap.retry = now() + RETRY;
            // One that can't be opened yet is tried again; that was told when it went.
            if let Ok(live) = Live::open(&tap.interface, &self.options) {
                info!("{} is there now: capturing on it", tap.interface);
                (tap.live, tap.last) = (Some(live), Timestamp::MIN);
            }
        }
    }
}

/// Which interfaces lead to pods.
#[derive(Debug, Default)]
struct PodLinks {
    known: HashMap<u32, bool>,
}

impl PodLinks {
    /// Whether a frame of a cooked capture was seen at such an interface.
    fn lead(&mut self, frame: &Frame<'_>) -> bool {
        if frame.link != LinkType::LinuxSll2 {
            return true;
        }
        let index = frame.data.get(4..).and_then(|at| at.first_chunk::<4>());
        let index = index.map_or(0, |&index| u32::from_be_bytes(index));
        match self.known.get(&index) {
            Some(&leads) => leads,
            None => self.learn(index),
        }
    }

    /// Looks all interfaces up, for there is one that wasn't seen before. One that is gone already was a pod's: nothing else
    /// comes and goes like that.
    #[cold]
    fn learn(&mut self, index: u32) -> bool {
        let ways_out: BTreeSet<String> = uplinks().into_iter().collect();
        if let Ok(links) = links() {
            // Indexes of interfaces that are gone aren't given again.
            self.known.clear();
            for link in links {
                let leads = link.pair && !ways_out.contains(&link.name);
                self.known.insert(link.index, leads);
            }
        }
        *self.known.entry(index).or_insert(true)
    }
}

/// Whether there is no such interface at the moment, which is no mistake: it may come.
fn is_absent(interface: &str) -> bool {
    interface != EVERY_INTERFACE
        && links().is_ok_and(|links| !links.iter().any(|link| link.name == interface))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how often to look at counters and interfaces is no matter of packet time"
)]
fn now() -> Instant {
    Instant::now()
}
