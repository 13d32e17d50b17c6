//! The forwarding thread: alerts to a server that may be slow or down for a while. They wait here in a bounded queue, which a
//! spool keeps over restarts and crashes, and nobody waits for them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::health::Alarm;
use super::{clock, named};
use crate::alert::{Alert, AlertV1, UtcTime};
use crate::sinks::{AlarmV1, Purpose, Records, RecordsError, Refusal, Server};

/// Alerts sent at once.
const BATCH: usize = 64;
/// Waiting between two tries: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long is tried to get rid of what waits when the run ends, where nothing keeps it.
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
    /// Whether those that wait are on disk, where there is a spool.
    pub kept: Option<bool>,
}

/// An alert as it was told, in JSON, with its number in the order of telling.
type Waiting = (u64, Arc<[u8]>);

#[derive(Default, Debug)]
struct Queue {
    /// Those on their way are in it until they are taken.
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many of the first are on their way.
    sending: usize,
    /// The number of the next one.
    next: u64,
    counts: Forwarded,
    /// When the run ends.
    closed: Option<Instant>,
}

impl Queue {
    fn push(&mut self, one: Waiting) {
        self.next = self.next.max(one.0 + 1);
        self.bytes += one.1.len();
        self.waiting.push_back(one);
    }

    /// Makes room: the oldest that aren't on their way go.
    fn limit(&mut self, room: usize) {
        while self.bytes > room {
            let Some((_, oldest)) = self.waiting.remove(self.sending) else {
                break;
            };
            self.bytes -= oldest.len();
            self.counts.lost += 1;
        }
    }

    /// Takes out those that were on their way; how many they were.
    fn done(&mut self) -> u64 {
        let sent = self.waiting.drain(..self.sending);
        self.bytes -= sent.map(|(_, one)| one.len()).sum::<usize>();
        std::mem::take(&mut self.sending) as u64
    }

    /// No number below is needed any more.
    fn floor(&self) -> u64 {
        self.waiting
            .front()
            .map_or(self.next, |(number, _)| *number)
    }
}

/// The queue's copy on disk.
#[derive(Debug)]
struct Disk {
    spool: Records,
    /// The last change failed: it lacks some that wait.
    behind: bool,
}

/// Locked in this order: the disk, then the queue, for a moment only.
#[derive(Default, Debug)]
struct Shared {
    disk: Mutex<Option<Disk>>,
    queue: Mutex<Queue>,
    news: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, Option<Disk>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the copy up to date, with what is about to wait as well.
    fn keep(&self, new: &[Waiting]) {
        let mut disk = self.disk();
        let Some(disk) = disk.as_mut() else { return };
        let mut missing = Vec::new();
        let floor = {
            let queue = self.queue();
            if disk.behind {
                missing.extend(queue.waiting.iter().cloned());
            }
            queue.floor()
        };
        let records = missing.iter().chain(new);
        let records = records.map(|(number, one)| (*number, &**one));
        match disk.spool.change(floor, &[], records) {
            Ok(()) => {
                if std::mem::take(&mut disk.behind) {
                    info!("alerts wait on disk again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut disk.behind, true) {
                    error!("alerts wait in memory only: {error}");
                }
            }
        }
        self.queue().counts.kept = Some(!disk.behind);
    }

    /// Whether what waits is safe on disk.
    fn is_kept(&self) -> bool {
        self.queue().counts.kept == Some(true)
    }
}

/// Hands alerts to a server, by a thread of its own.
#[derive(Debug)]
pub struct Forwarder {
    to: Arc<Server>,
    /// Bytes that wait at most.
    room: usize,
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
    /// Sends to a server, before which no more than `room` bytes of alerts wait.
    pub fn new(to: Server, room: usize) -> Self {
        Self {
            to: Arc::new(to),
            room,
            shared: Arc::default(),
            thread: None,
        }
    }

    /// Keeps what waits in a file too, and sends what an earlier run left there.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn with_spool(self, path: &Path) -> Result<Self, RecordsError> {
        let (spool, waiting) = Records::open(path, Purpose::Spool)?;
        if !waiting.is_empty() {
            info!(
                "{} alerts of an earlier run wait for {}",
                waiting.len(),
                self.to.name()
            );
        }
        let behind = false;
        *self.shared.disk() = Some(Disk { spool, behind });
        {
            let mut queue = self.shared.queue();
            for (number, one) in waiting {
                queue.push((number, one.into()));
            }
            queue.limit(self.room);
        }
        // Whether it can be written shows now, not with the first alert.
        self.shared.keep(&[]);
        Ok(self)
    }

    pub(super) fn view(&self) -> ForwardView {
        ForwardView(Arc::clone(&self.shared))
    }

    /// Starts its thread.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(&mut self) -> std::io::Result<()> {
        let (to, shared) = (Arc::clone(&self.to), Arc::clone(&self.shared));
        self.thread = Some(named("forwarding", move || run(&to, &shared))?);
        Ok(())
    }

    /// Takes alerts. When it returns they are on disk, if there is a spool. Too many push out the oldest that wait.
    pub(super) fn take(&self, alerts: &[Alert]) {
        let encoded = alerts
            .iter()
            .map(|alert| serde_json::to_vec(&AlertV1::from(alert)));
        let encoded: Vec<Vec<u8>> = encoded.filter_map(Result::ok).collect();
        self.shared.queue().counts.lost += (alerts.len() - encoded.len()) as u64;
        self.take_encoded(encoded);
    }

    /// Takes alarms about the run itself, for a server that knows what to do with them.
    pub(super) fn take_alarms(&self, alarms: &[Alarm]) {
        if !self.to.takes_alarms() {
            return;
        }
        let node = node();
        let alarms = alarms.iter().map(|alarm| AlarmV1 {
            condition: alarm.condition.label().to_owned(),
            subject: alarm.subject.clone(),
            node: node.clone(),
            text: alarm.text.clone(),
            ended: (!alarm.raised).then(|| UtcTime(clock())),
        });
        let encoded = alarms.filter_map(|alarm| serde_json::to_vec(&alarm).ok());
        self.take_encoded(encoded.collect());
    }

    fn take_encoded(&self, encoded: Vec<Vec<u8>>) {
        let numbers = self.shared.queue().next..;
        let new: Vec<Waiting> = numbers.zip(encoded.into_iter().map(Into::into)).collect();
        // Kept before it can be sent, so that at any moment it is either kept or taken.
        self.shared.keep(&new);
        let mut queue = self.shared.queue();
        for one in new {
            queue.push(one);
        }
        queue.limit(self.room);
        self.shared.news.notify_one();
    }

    /// Ends it, when all is sent or what waits is kept, or a few seconds were not enough; the number of alerts that nobody
    /// will get.
    pub(super) fn finish(self) -> u64 {
        self.shared.queue().closed = Some(now());
        self.shared.news.notify_one();
        let died = self.thread.is_some_and(|thread| thread.join().is_err());
        let kept = self.shared.is_kept();
        let queue = self.shared.queue();
        let unsent = queue.waiting.len() as u64;
        let server = self.to.name();
        if kept && unsent > 0 {
            warn!("{unsent} alerts wait for {server}: the next run sends them");
            return queue.counts.lost;
        }
        if unsent > 0 || died {
            error!("{unsent} alerts were not taken by {server}");
        }
        unsent + queue.counts.lost
    }
}

/// This machine's name.
pub fn node() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

fn run(to: &Server, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    while let Some(batch) = next(shared) {
        let outcome = to.post(&batch);
        let mut queue = shared.queue();
        match outcome {
            Ok(()) => {
                queue.counts.sent += queue.done();
                drop(queue);
                shared.keep(&[]);
                if std::mem::take(&mut failing) {
                    info!("{} takes alerts again", to.name());
                }
                pause = FIRST_PAUSE;
            }
            Err(Refusal::Never(problem)) => {
                let n = queue.done();
                queue.counts.lost += n;
                drop(queue);
                shared.keep(&[]);
                error!(
                    "{} takes no such alerts, {n} are lost to it: {problem}",
                    to.name()
                );
            }
            Err(Refusal::Later(problem)) => {
                queue.sending = 0;
                drop(queue);
                if !std::mem::replace(&mut failing, true) {
                    warn!("alerts wait for {}: {problem}", to.name());
                }
                if !wait(shared, pause) {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Waits for alerts and marks some as on their way; `None` when the run has ended and nothing waits.
fn next(shared: &Shared) -> Option<Vec<Arc<[u8]>>> {
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
    queue.sending = queue.waiting.len().min(BATCH);
    let batch = queue.waiting.iter().take(queue.sending);
    Some(batch.map(|(_, one)| Arc::clone(one)).collect())
}

/// Waits before the next try; whether there is to be one.
fn wait(shared: &Shared, pause: Duration) -> bool {
    let began = now();
    let mut queue = shared.queue();
    loop {
        let end = match queue.closed {
            // What is kept is for the next run.
            Some(_) if queue.counts.kept == Some(true) => return false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::finding;
    use crate::alert::{Correlator, CorrelatorConfig};
    use crate::signature::SignatureSet;
    use crate::sinks::{Webhook, WebhookForm};
    use crate::telemetry::LossCounts;

    fn forwarder(room: usize) -> Forwarder {
        // Nobody listens there.
        let webhook = Webhook::new("http://127.0.0.1:1", WebhookForm::Alerts, None, None);
        Forwarder::new(Server::Webhook(webhook.unwrap()), room)
    }

    fn alert() -> Alert {
        let set = SignatureSet::builtin().unwrap();
        let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
        correlator.accept(finding(0, 5, 18.0), &LossCounts::default(), 1);
        correlator.finish().remove(0)
    }

    #[test]
    fn the_newest_are_kept_within_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let alert = alert();
        let size = serde_json::to_vec(&AlertV1::from(&alert)).unwrap().len();
        let forwarder = forwarder(10 * size).with_spool(&path).unwrap();
        for _ in 0..25 {
            forwarder.take(std::slice::from_ref(&alert));
        }
        assert_eq!(forwarder.view().counts().lost, 15);
        assert_eq!(forwarder.finish(), 15, "those kept are not lost");
        let (spool, waiting) = Records::open(&path, Purpose::Spool).unwrap();
        let numbers: Vec<u64> = waiting.iter().map(|(number, _)| *number).collect();
        // What was pushed out goes with the next change.
        assert_eq!(numbers, (14..25).collect::<Vec<u64>>());
        drop(spool);
        // Another run goes on behind them, within its own bound.
        let forwarder = self::forwarder(4 * size).with_spool(&path).unwrap();
        assert_eq!(forwarder.shared.queue().waiting.len(), 4);
        assert_eq!(forwarder.shared.queue().next, 25);
    }

    #[test]
    fn a_disk_that_fails_keeps_them_in_memory_until_it_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let forwarder = forwarder(1 << 20).with_spool(&path).unwrap();
        let alert = alert();
        forwarder.take(std::slice::from_ref(&alert));
        assert_eq!(forwarder.view().counts().kept, Some(true));
        // As after a failure: the file has to be opened anew, and can't be.
        let broken = folder.path().join("none/spool");
        if let Some(disk) = &mut *forwarder.shared.disk() {
            disk.spool.lose(&broken);
        }
        forwarder.take(&[alert.clone(), alert.clone()]);
        let counts = forwarder.view().counts();
        assert_eq!(
            (counts.kept, counts.waiting, counts.lost),
            (Some(false), 3, 0)
        );
        std::fs::create_dir(folder.path().join("none")).unwrap();
        forwarder.take(&[alert]);
        assert_eq!(forwarder.view().counts().kept, Some(true));
        drop(forwarder);
        assert_eq!(
            Records::open(&broken, Purpose::Spool).unwrap().1.len(),
            4,
            "all that wait"
        );
    }
}
