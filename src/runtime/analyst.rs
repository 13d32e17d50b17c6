//! The analysis thread: batches through the pipeline in order of time, news to the sinks once a second.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use super::deliver::News;
use super::ring::{Batch, Merge};
use super::{Message, Standing};
use crate::alert::{Alert, AlertStatus};
use crate::pipeline::{Pipeline, Verdict};
use crate::signature::Severity;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Nanoseconds of packet time between two looks at the alerts.
const SECOND: i64 = 1_000_000_000;

pub(super) struct Analyst {
    pipeline: Pipeline,
    merge: Merge,
    free: SyncSender<Batch>,
    tally: Tally,
    news: SyncSender<News>,
    standing: Arc<Mutex<Standing>>,
    now: Timestamp,
    told: Timestamp,
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
        standing: Arc<Mutex<Standing>>,
    ) -> Self {
        Self {
            pipeline,
            merge: Merge::default(),
            free,
            tally: Tally::default(),
            news,
            standing,
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
            }
        }
        self.release(Timestamp::MAX);
        self.finish()
    }

    fn release(&mut self, until: Timestamp) {
        let (pipeline, free, now) = (&mut self.pipeline, &self.free, &mut self.now);
        self.merge.release(
            until,
            |frame| {
                *now = frame.time.max(*now);
                pipeline.frame(frame);
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
        if let Ok(mut standing) = self.standing.lock() {
            *standing = Standing {
                stats: self.pipeline.stats(),
                losses: self.pipeline.losses(),
                alerts: self.tally.counts,
                now: Some(self.now),
            };
        }
    }

    fn finish(self) -> Outcome {
        let mut tally = self.tally;
        let (verdict, flows) = self.pipeline.finish();
        tally.count(&verdict.alerts);
        // Now there is time to wait; nobody takes it only if nobody reads any more.
        drop(self.news.send(News::Flows(flows)));
        drop(self.news.send(News::Alerts(verdict.alerts.clone())));
        Outcome {
            losses: verdict.losses.clone(),
            alerts: tally.counts,
            verdict,
        }
    }
}

/// Alerts by severity, each once, as grave as it was told last.
#[derive(Debug, Default)]
struct Tally {
    counts: [u64; 4],
    /// Those of which more may come.
    open: HashMap<String, Severity>,
}

impl Tally {
    fn count(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            let before = if alert.status == AlertStatus::Closed {
                self.open.remove(&alert.id)
            } else {
                self.open.insert(alert.id.clone(), alert.severity)
            };
            if let Some(count) = before.and_then(|severity| self.of(severity)) {
                *count = count.saturating_sub(1);
            }
            if let Some(count) = self.of(alert.severity) {
                *count += 1;
            }
        }
    }

    fn of(&mut self, severity: Severity) -> Option<&mut u64> {
        let at = Severity::ALL.iter().position(|&level| level == severity)?;
        self.counts.get_mut(at)
    }
}
