//! The other half: events, to alerts or a baseline, and to lists of flows and messages.

use std::sync::Arc;

use super::analysis::{Analysis, Outcome};
use super::batch::Batch;
use super::lists::{EndedFlow, FlowList, MessageList, Said};
use crate::identity::Journal;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// Whatever hears of events, in their order.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) journal: Arc<Journal>,
    pub(super) analysis: Option<Analysis>,
    pub(super) flows: Option<FlowList>,
    pub(super) messages: Option<MessageList>,
}

/// Packet time moved on, when things stood so.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) now: Timestamp,
    pub(super) packets: u64,
    pub(super) losses: LossCounts,
}

impl Back {
    /// Takes all events of a batch, which can then be filled again.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        let Self {
            journal,
            analysis,
            flows,
            messages,
        } = self;
        batch.take(|event, packets, losses| {
            if let Some(analysis) = analysis {
                analysis.observe(event, journal, losses, packets);
            }
            if let Some(messages) = messages {
                messages.observe(event);
            }
            if let Some(flows) = flows {
                flows.observe(event);
            }
        });
    }

    pub(super) fn tick(&mut self, tick: &Tick) {
        if let Some(analysis) = &mut self.analysis {
            analysis.tick(tick.now, &self.journal, &tick.losses, tick.packets);
        }
    }

    /// More is known of who held which address since that time.
    pub(super) fn renew(&mut self, journal: Arc<Journal>, since: Timestamp) {
        if let Some(analysis) = &mut self.analysis {
            analysis.rename(&journal, since);
        }
        self.journal = journal;
    }

    /// Flows that ended since this was last asked.
    pub(super) fn take_flows(&mut self) -> Vec<EndedFlow> {
        let flows = self.flows.as_mut();
        flows.map(FlowList::take).unwrap_or_default()
    }

    /// What was said since this was last asked.
    pub(super) fn take_messages(&mut self) -> Vec<Said> {
        let messages = self.messages.as_mut();
        messages.map(MessageList::take).unwrap_or_default()
    }

    /// No more is to come.
    pub(super) fn finish(self, losses: &LossCounts, packets: u64) -> Outcome {
        self.analysis
            .map(|analysis| analysis.finish(&self.journal, losses, packets))
            .unwrap_or_default()
    }
}
