//! The analysis thread: batches through the pipeline in order of time, news to the sinks once a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::deliver::News;
use super::evidence::Recorder;
use super::ring::{Batch, Merge};
use super::view::View;
use super::{Message, Rules, Standing};
use crate::alert::{Alert, AlertStatus, Kept};
use crate::baseline::Baseline;
use crate::pipeline::{Pipeline, Verdict};
use crate::signature::Severity;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Nanoseconds of packet time between two looks at the alerts.
const SECOND: i64 = 1_000_000_000;
/// How old the kept form of an alert may be that has grown without being told.
const KEEP: Duration = Duration::from_mins(1);
/// Between two savings of what is learned, at least and at most.
const SAVE_SOONEST: Duration = Duration::from_mins(1);
const SAVE_LATEST: Duration = Duration::from_mins(10);
/// And so many times what the last one took, which makes it one hundredth of a core.
const SAVE_SHARE: u32 = 100;

pub(super) struct Analyst {
    pipeline: Pipeline,
    merge: Merge,
    free: SyncSender<Batch>,
    tally: Tally,
    news: SyncSender<News>,
    saving: Option<Saving>,
    recorder: Option<Recorder>,
    saved: Timestamp,
    kept: Timestamp,
    /// What there is to keep, where the delivery has no room for it yet.
    unkept: Vec<Kept>,
    view: Arc<View>,
    now: Timestamp,
    told: Timestamp,
}

/// Where what is learned is saved.
pub(super) struct Saving {
    /// To the thread that writes it, with when it was begun.
    pub(super) to: SyncSender<(Baseline, Instant)>,
    /// Milliseconds that the last one took, from the beginning.
    pub(super) took: Arc<AtomicU64>,
    /// Whether what is held back is saved too: only where alerts are kept as well, that say what not to learn of it.
    pub(super) held: bool,
}

impl Saving {
    fn cost(&self) -> Duration {
        Duration::from_millis(self.took.load(Ordering::Relaxed))
    }
}

/// What the run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) alerts: [u64; 4],
    pub(super) losses: LossCounts,
}

impl Analyst {
    pub(super) fn new(
        pipeline: Pipeline,
        free: SyncSender<Batch>,
        news: SyncSender<News>,
        saving: Option<Saving>,
        recorder: Option<Recorder>,
        view: Arc<View>,
    ) -> Self {
        Self {
            pipeline,
            merge: Merge::default(),
            free,
            tally: Tally::default(),
            news,
            saving,
            recorder,
            saved: Timestamp::MAX,
            kept: Timestamp::MIN,
            unkept: Vec::new(),
            view,
            now: Timestamp::MIN,
            told: Timestamp::MIN,
        }
    }

    /// Takes messages until nobody sends any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Outcome {
        for message in messages {
            match message {
                Message::Frames(batch) => self.merge.push(batch),
                Message::Tick { release, now, lost } => {
                    for (loss, n) in lost.iter() {
                        self.pipeline.lost(loss, n);
                    }
                    self.release(release);
                    self.advance(now);
                }
                Message::Journal(journal) => self.pipeline.renew(journal),
                Message::Rules(Rules {
                    signatures,
                    exceptions,
                }) => match self.pipeline.reload(&signatures, exceptions) {
                    Ok(changed) => {
                        info!("signatures read again, {changed} changed");
                        self.save();
                    }
                    Err(error) => warn!("all stays as it was: {error}"),
                },
            }
        }
        self.release(Timestamp::MAX);
        self.finish()
    }

    fn release(&mut self, until: Timestamp) {
        let (pipeline, free, now) = (&mut self.pipeline, &self.free, &mut self.now);
        let recorder = &mut self.recorder;
        self.merge.release(
            until,
            |frame| {
                *now = frame.time.max(*now);
                let flow = pipeline.frame(frame);
                if let (Some(recorder), Some(flow)) = (recorder.as_mut(), flow) {
                    recorder.ring.push(frame, flow);
                }
            },
            // There is room for all of them, unless the capture thread is gone.
            |batch| drop(free.try_send(batch)),
        );
    }

    /// Time has come to `now`, or to where the frames are.
    fn advance(&mut self, now: Timestamp) {
        self.pipeline.advance(now);
        self.now = self.now.max(now);
        let second = |time: Timestamp| time.nanos().div_euclid(SECOND);
        if second(self.now) > second(self.told) {
            self.told = self.now;
            self.tell();
        }
    }

    /// Hands news to the sinks and shows how all stands.
    fn tell(&mut self) {
        let alerts = self.pipeline.updates(self.now);
        self.tally.count(&alerts);
        self.keep(!alerts.is_empty());
        let recorder = self.recorder.as_mut();
        let excerpts = recorder.map(|recorder| recorder.excerpts(&alerts, self.now));
        let flows = self.pipeline.take_flows();
        let news = [
            (alerts.len(), News::Alerts(alerts)),
            (flows.len(), News::Flows(flows)),
        ];
        for (n, news) in news {
            // A sink that is behind must not hold up the packets.
            if n > 0 && self.news.try_send(news).is_err() {
                self.pipeline.lost(Loss::SinkFull, n as u64);
            }
        }
        if let Some(excerpts) = excerpts.filter(|excerpts| !excerpts.is_empty()) {
            let n = excerpts.len() as u64;
            if self.news.try_send(News::Excerpts(excerpts)).is_err() {
                self.view.count_evidence(|counts| counts.dropped += n);
            }
        }
        self.view.show_standing(Standing {
            stats: self.pipeline.stats(),
            losses: self.pipeline.losses(),
            alerts: self.tally.reached,
            now: Some(self.now),
        });
        let first = self.saved == Timestamp::MAX;
        if first {
            self.saved = self.now;
        }
        let cost = self.saving.as_ref().map(Saving::cost).unwrap_or_default();
        let interval = (cost * SAVE_SHARE).clamp(SAVE_SOONEST, SAVE_LATEST);
        if self.now.since(self.saved) >= interval {
            self.save();
        }
    }

    /// Hands on what there is to keep of alerts for another run: at once what is told, the rest from time to time.
    fn keep(&mut self, told: bool) {
        if !told && self.now.since(self.kept) < KEEP {
            return;
        }
        self.kept = self.now;
        // While the delivery is behind, the correlator keeps note.
        if self.unkept.is_empty() {
            self.unkept = self.pipeline.to_keep(false);
        }
        if !self.unkept.is_empty() {
            let news = News::Keep(std::mem::take(&mut self.unkept));
            if let Err(TrySendError::Full(News::Keep(unkept))) = self.news.try_send(news) {
                self.unkept = unkept;
            }
        }
    }

    /// Saves what has been learned.
    fn save(&mut self) {
        self.saved = self.now;
        let Some((saving, learner)) = self.saving.as_ref().zip(self.pipeline.learner()) else {
            return;
        };
        let began = stopwatch();
        let learned = if saving.held {
            learner.snapshot()
        } else {
            learner.baseline().clone()
        };
        // If the last one is still being written, the next will do.
        saving.to.try_send((learned, began)).ok();
    }

    fn finish(mut self) -> Outcome {
        let mut unkept = std::mem::take(&mut self.unkept);
        unkept.extend(self.pipeline.to_keep(true));
        let mut tally = self.tally;
        let (mut verdict, flows) = self.pipeline.finish();
        if let Some(saving) = self.saving
            && let Some(baseline) = verdict.baseline.take()
        {
            // Only gone if its thread died, which is told at the end.
            saving.to.send((baseline, stopwatch())).ok();
        }
        tally.count(&verdict.alerts);
        // Now there is time to wait; nobody takes it only if nobody reads any more.
        drop(self.news.send(News::Keep(unkept)));
        drop(self.news.send(News::Flows(flows)));
        drop(self.news.send(News::Alerts(verdict.alerts.clone())));
        if let Some(mut recorder) = self.recorder {
            // What an excerpt waits for will not come.
            let excerpts = recorder.excerpts(&verdict.alerts, Timestamp::MAX);
            drop(self.news.send(News::Excerpts(excerpts)));
        }
        Outcome {
            losses: verdict.losses.clone(),
            alerts: tally.counts,
            verdict,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long saving takes is no matter of packet time"
)]
fn stopwatch() -> Instant {
    Instant::now()
}

/// Alerts by severity.
#[derive(Debug, Default)]
struct Tally {
    /// Each once, as grave as it was told last.
    counts: [u64; 4],
    /// Each by what it was told as first, and once more for each graver severity: these never sink, as a counter mustn't.
    reached: [u64; 4],
    /// How those of which more may come were told last, and as what at most.
    open: HashMap<String, (Severity, Severity)>,
}

impl Tally {
    fn count(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            let closed = alert.status == AlertStatus::Closed;
            self.told(&alert.id, alert.severity, closed);
        }
    }

    fn told(&mut self, id: &str, severity: Severity, closed: bool) {
        let before = self.open.remove(id);
        let most = before.map_or(severity, |(_, most)| most.max(severity));
        if !closed {
            self.open.insert(id.to_owned(), (severity, most));
        }
        if let Some(count) = before.and_then(|(last, _)| of(&mut self.counts, last)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = of(&mut self.counts, severity) {
            *count += 1;
        }
        if before.is_none_or(|(_, before)| most > before)
            && let Some(count) = of(&mut self.reached, most)
        {
            *count += 1;
        }
    }
}

fn of(counts: &mut [u64; 4], severity: Severity) -> Option<&mut u64> {
    let at = Severity::ALL.iter().position(|&level| level == severity)?;
    counts.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_that_grows_is_counted_anew_and_no_counter_sinks() {
        use Severity::{Critical, High, Low, Medium};
        let mut tally = Tally::default();
        for (id, severity, closed, counts, reached) in [
            ("a", Low, false, [1, 0, 0, 0], [1, 0, 0, 0]),
            ("b", High, false, [1, 0, 1, 0], [1, 0, 1, 0]),
            ("a", High, false, [0, 0, 2, 0], [1, 0, 2, 0]),
            ("a", High, false, [0, 0, 2, 0], [1, 0, 2, 0]),
            // What it was before is counted already.
            ("a", Medium, false, [0, 1, 1, 0], [1, 0, 2, 0]),
            ("a", High, true, [0, 0, 2, 0], [1, 0, 2, 0]),
            ("b", Critical, true, [0, 0, 1, 1], [1, 0, 2, 1]),
        ] {
            tally.told(id, severity, closed);
            assert_eq!((tally.counts, tally.reached), (counts, reached));
        }
        assert!(tally.open.is_empty());
    }
}
