//! Events into a baseline.

use super::Baseline;
use crate::dissect::Transaction;
use crate::event::{Event, EventKind};
use crate::features::{DomainName, PeerNamer, RateWindows};
use crate::flow::Outcome;

/// Updates a baseline from events, in their order.
#[derive(Debug, Default)]
pub struct Learner {
    baseline: Baseline,
    rates: RateWindows,
}

impl Learner {
    /// Goes on from what was learned before.
    pub fn new(baseline: Baseline) -> Self {
        Self {
            baseline,
            rates: RateWindows::default(),
        }
    }

    /// Learns from an event. `peers` must have observed the events before it.
    pub fn observe(&mut self, event: &Event, peers: &PeerNamer) {
        let baseline = &mut self.baseline;
        self.rates.observe(event, |workload, rate, value| {
            baseline.learn(workload, |profile| {
                profile.rates.entry(rate).or_default().add(value);
                true
            });
        });
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome } => {
                let answered = *outcome == Outcome::Answered;
                if let Some(workload) = &flow.orig.who.identity.workload {
                    baseline.learn(workload, |profile| {
                        profile.saw(event.time);
                        let count = if answered {
                            &mut profile.answered
                        } else {
                            &mut profile.failed
                        };
                        *count = count.saturating_add(1);
                        true
                    });
                }
                // An attempt that nobody answered makes no acquaintance.
                if answered {
                    let sides = [
                        (&flow.orig, peers.client_contact(flow)),
                        (&flow.resp, peers.server_contact(flow)),
                    ];
                    for (end, contact) in sides {
                        if let Some(workload) = &end.who.identity.workload
                            && let Some(contact) = contact
                        {
                            baseline.learn(workload, |profile| {
                                profile.saw(event.time);
                                profile.meet(contact, event.time)
                            });
                        }
                    }
                }
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Dns(message),
            } if !message.response => {
                if let Some(workload) = &flow.orig.who.identity.workload
                    && let Some(name) = DomainName::split(&message.name)
                {
                    baseline.learn(workload, |profile| {
                        profile.ask(name.registered.into(), event.time)
                    });
                }
            }
            _ => {}
        }
    }

    /// Ends the current minute and gives the baseline back.
    pub fn finish(mut self) -> Baseline {
        let baseline = &mut self.baseline;
        self.rates.flush(|workload, rate, value| {
            baseline.learn(workload, |profile| {
                profile.rates.entry(rate).or_default().add(value);
                true
            });
        });
        self.baseline
    }
}
