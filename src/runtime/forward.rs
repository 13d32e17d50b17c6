//! The forwarding thread: alerts to a server that may be slow or down for a while. They wait here in a bounded queue, and
//! nobody waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::named;
use crate::alert::Alert;
use crate::sinks::{Refusal, Webhook};

/// Bytes that wait at most: about ten thousand alerts.
const ROOM: usize = 32 << 20;
/// Alerts sent at once.
const BATCH: usize = 64;
/// Waiting between two tries: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long is tried to get rid of what waits when the run ends.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// What became of the alerts that were to be forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Forwarded {
    /// Taken by the server.
    pub sent: u64,
    /// Waiting for it.
    pub waiting: u64,
    /// Given up: it would not have them, or too many waited.
    pub lost: u64,
}

#[derive(Default, Debug)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    counts: Forwarded,
    /// When the run ends.
    closed: Option<Instant>,
}

#[derive(Default, Debug)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands alerts to a server, by a thread of its own.
#[derive(Debug)]
pub struct Forwarder {
    webhook: Arc<Webhook>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of them, for whoever asks meanwhile.
#[derive(Clone, Debug)]
pub(super) struct ForwardView(Arc<Shared>);

impl ForwardView {
    pub(super) fn counts(&self) -> Forwarded {
        let queue = self.0.queue();
        Forwarded {
            waiting: queue.waiting.len() as u64,
            ..queue.counts
        }
    }
}

impl Forwarder {
    /// Sends to a server.
    pub fn new(webhook: Webhook) -> Self {
        Self {
            webhook: Arc::new(webhook),
            shared: Arc::default(),
            thread: None,
        }
    }

    pub(super) fn view(&self) -> ForwardView {
        ForwardView(Arc::clone(&self.shared))
    }

    /// Starts its thread.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(&mut self) -> std::io::Result<()> {
        let (webhook, shared) = (Arc::clone(&self.webhook), Arc::clone(&self.shared));
        self.thread = Some(named("forwarding", move || run(&webhook, &shared))?);
        Ok(())
    }

    /// Takes an alert. One too many pushes out the oldest that waits.
    pub(super) fn take(&self, alert: &Alert) {
        let encoded = self.webhook.encode(alert);
        let mut queue = self.shared.queue();
        match encoded {
            Ok(one) => {
                queue.bytes += one.len();
                queue.waiting.push_back(one);
            }
            Err(_) => queue.counts.lost += 1,
        }
        while queue.bytes > ROOM {
            let Some(oldest) = queue.waiting.pop_front() else {
                break;
            };
            queue.bytes -= oldest.len();
            queue.counts.lost += 1;
        }
        self.shared.news.notify_one();
    }

    /// Ends it, when all is sent or a few seconds were not enough for that; the number of alerts that nobody got.
    pub(super) fn finish(self) -> u64 {
        self.shared.queue().closed = Some(now());
        self.shared.news.notify_one();
        let died = self.thread.is_some_and(|thread| thread.join().is_err());
        let queue = self.shared.queue();
        let unsent = queue.waiting.len() as u64;
        if unsent > 0 || died {
            error!(
                "{unsent} alerts were not taken by {}",
                self.webhook.server()
            );
        }
        unsent + queue.counts.lost
    }
}

fn run(webhook: &Webhook, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    while let Some(batch) = next(shared) {
        let outcome = webhook.post(&batch);
        let n = batch.len() as u64;
        let mut queue = shared.queue();
        match outcome {
            Ok(()) => {
                queue.counts.sent += n;
                drop(queue);
                if std::mem::take(&mut failing) {
                    info!("{} takes alerts again", webhook.server());
                }
                pause = FIRST_PAUSE;
            }
            Err(Refusal::Never(problem)) => {
                queue.counts.lost += n;
                drop(queue);
                error!(
                    "{} takes no such alerts, {n} are lost to it: {problem}",
                    webhook.server()
                );
            }
            Err(Refusal::Later(problem)) => {
                for one in batch.into_iter().rev() {
                    queue.bytes += one.len();
                    queue.waiting.push_front(one);
                }
                drop(queue);
                if !std::mem::replace(&mut failing, true) {
                    warn!("alerts wait for {}: {problem}", webhook.server());
                }
                if !wait(shared, pause) {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Waits for alerts and takes some; `None` when the run has ended and nothing waits.
fn next(shared: &Shared) -> Option<Vec<Vec<u8>>> {
    let mut queue = shared.queue();
    while queue.waiting.is_empty() {
        if queue.closed.is_some() {
            return None;
        }
        queue = shared
            .news
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let n = queue.waiting.len().min(BATCH);
    let batch: Vec<_> = queue.waiting.drain(..n).collect();
    queue.bytes -= batch.iter().map(Vec::len).sum::<usize>();
    Some(batch)
}

/// Waits before the next try; whether there is to be one.
fn wait(shared: &Shared, pause: Duration) -> bool {
    let began = now();
    let mut queue = shared.queue();
    loop {
        let end = match queue.closed {
            Some(closed) if closed.elapsed() >= LAST_TRIES => return false,
            Some(_) => pause.min(FIRST_PAUSE),
            None => pause,
        };
        let Some(left) = end
            .checked_sub(began.elapsed())
            .filter(|left| !left.is_zero())
        else {
            return true;
        };
        let waited = shared.news.wait_timeout(queue, left);
        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how often a server is tried is no matter of packet time"
)]
fn now() -> Instant {
    Instant::now()
}
