//! The delivery thread: alerts and flows to their sinks, as slow as those may be.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use tracing::error;

use super::forward::Forwarder;
use super::health::Alarm;
use super::state::State;
use super::view::View;
use crate::alert::{Alert, Kept};
use crate::pipeline::EndedFlow;
use crate::report::FlowRecordV1;
use crate::sinks::{AlertWriter, Delivery, Excerpt, ExcerptFolder, RecordWriter, SinkError};

/// What there is to deliver.
pub(super) enum News {
    /// Alerts that opened, grew or ended.
    Alerts(Vec<Alert>),
    /// Attacks to be kept for another run.
    Keep(Vec<Kept>),
    /// Alarms about the run itself.
    Alarms(Vec<Alarm>),
    /// The packets of alerts.
    Excerpts(Vec<Excerpt>),
    /// Flows that ended.
    Flows(Vec<EndedFlow>),
    /// The files were opened anew: somebody moved the old ones away.
    Reopen(Box<Outputs>),
}

type Out = Box<dyn Write + Send>;

/// Where alerts and flows go.
pub struct Outputs {
    /// Alerts.
    pub alerts: AlertWriter<Out>,
    /// Flows, if they are wanted.
    pub flows: Option<RecordWriter<Out>>,
}

impl Outputs {
    pub(super) const fn wants_flows(&self) -> bool {
        self.flows.is_some()
    }

    /// Delivers until nothing more comes; returns how many records could not be written. Ends the run when its reader has
    /// gone.
    pub(super) fn run(
        mut self,
        news: &Receiver<News>,
        forwarder: Option<&Forwarder>,
        mut state: Option<State>,
        mut folder: Option<ExcerptFolder>,
        view: &View,
        stop: &AtomicBool,
    ) -> u64 {
        let mut failed = 0;
        let mut broken = false;
        loop {
            view.show_failure("the file of alerts or flows", broken);
            let one = match news.try_recv() {
                Ok(one) => one,
                Err(TryRecvError::Disconnected) => return failed,
                Err(TryRecvError::Empty) => {
                    self.settle(&mut broken, stop);
                    match news.recv() {
                        Ok(one) => one,
                        Err(_) => return failed,
                    }
                }
            };
            let wrote = match one {
                News::Reopen(anew) => {
                    self.settle(&mut broken, stop);
                    self = *anew;
                    continue;
                }
                News::Keep(changes) => {
                    if let Some(state) = &mut state {
                        let kept = state.write(changes);
                        view.show_failure("the state file", !kept);
                    }
                    continue;
                }
                News::Excerpts(excerpts) => {
                    if let Some(folder) = &mut folder {
                        self.settle(&mut broken, stop);
                        keep(folder, &excerpts, view);
                    }
                    continue;
                }
                News::Alarms(alarms) => {
                    if let Some(forwarder) = forwarder {
                        forwarder.take_alarms(&alarms);
                    }
                    continue;
                }
                News::Alerts(alerts) => {
                    if let Some(forwarder) = forwarder {
                        forwarder.take(&alerts);
                    }
                    let each = alerts.iter().map(|alert| self.alerts.deliver(alert));
                    each.collect::<Vec<_>>()
                }
                News::Flows(flows) => {
                    let log = self.flows.as_mut();
                    log.map_or_else(Vec::new, |log| {
                        let each = flows.into_iter().map(|ended| {
                            log.json(&FlowRecordV1 {
                                gist: ended.gist,
                                ..FlowRecordV1::from((&*ended.flow, &*ended.record))
                            })
                        });
                        each.collect()
                    })
                }
            };
            for one in wrote {
                failed += u64::from(one.is_err());
                judge(one, &mut broken, stop);
            }
        }
    }

    /// Nothing waits: what was written goes out.
    fn settle(&mut self, broken: &mut bool, stop: &AtomicBool) {
        judge(self.alerts.flush(), broken, stop);
        if let Some(flows) = &mut self.flows {
            judge(flows.flush(), broken, stop);
        }
    }
}

/// Writes the packets of alerts.
fn keep(folder: &mut ExcerptFolder, excerpts: &[Excerpt], view: &View) {
    for excerpt in excerpts {
        let written = folder.write(excerpt);
        view.show_failure("the directory of evidence", written.is_err());
        view.count_evidence(|counts| match written {
            Ok(removed) => {
                counts.written += 1;
                counts.removed += removed;
            }
            Err(_) => counts.dropped += 1,
        });
    }
}

/// Tells of a sink that fails once until it works again.
fn judge(outcome: Result<Delivery, SinkError>, broken: &mut bool, stop: &AtomicBool) {
    match outcome {
        Ok(Delivery::Done) => *broken = false,
        Ok(Delivery::Stop) => stop.store(true, Ordering::Relaxed),
        Err(error) => {
            if !std::mem::replace(broken, true) {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(ToString::to_string).unwrap_or_default();
                error!("{error}: {cause}");
            }
        }
    }
}
