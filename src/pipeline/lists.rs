//! Lists of what there was: flows that ended, and what was said in them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dissect::{Gist, Transaction};
use crate::event::{Event, EventKind, FlowInfo};
use crate::flow::{FlowId, FlowRecord};
use crate::time::Timestamp;

/// A flow that ended.
#[derive(Debug)]
pub struct EndedFlow {
    /// Who, with whom.
    pub flow: Arc<FlowInfo>,
    /// Its counters.
    pub record: Box<FlowRecord>,
    /// What it was about, in one line.
    pub gist: Option<String>,
}

/// Something that was said in a flow.
#[derive(Debug)]
pub struct Said {
    /// When its last byte was seen.
    pub time: Timestamp,
    /// Who, with whom.
    pub flow: Arc<FlowInfo>,
    /// The flow's application protocol, as far as it was known by then.
    pub app: Option<&'static str>,
    /// What.
    pub transaction: Transaction,
}

/// What was said, for whoever lists it, and what the flows that go on speak.
#[derive(Default, Debug)]
pub(super) struct MessageList {
    said: Vec<Said>,
    /// As many as the table has flows, for each of which its end is told.
    apps: HashMap<FlowId, &'static str>,
}

impl MessageList {
    pub(super) fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Recognised { flow, app } => {
                self.apps.insert(flow.id, app);
            }
            EventKind::Transaction { flow, transaction } => self.said.push(Said {
                time: event.time,
                flow: Arc::clone(flow),
                app: self.apps.get(&flow.id).copied(),
                transaction: transaction.clone(),
            }),
            EventKind::FlowEnded { flow, .. } => {
                self.apps.remove(&flow.id);
            }
            _ => {}
        }
    }

    /// What was taken is still to be taken.
    pub(super) fn put_before(&mut self, mut said: Vec<Said>) {
        said.append(&mut self.said);
        self.said = said;
    }

    pub(super) fn take(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }
}

/// Flows that ended, for whoever lists them, and what is known so far of those that didn't.
#[derive(Default, Debug)]
pub(super) struct FlowList {
    ended: Vec<EndedFlow>,
    /// As many as the table has flows, for each of which its end is told.
    live: HashMap<FlowId, Gist>,
}

impl FlowList {
    pub(super) fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Transaction { flow, transaction } => {
                self.live.entry(flow.id).or_default().add(transaction);
            }
            EventKind::FlowEnded { flow, record } => {
                let gist = self.live.remove(&flow.id).and_then(|gist| gist.line());
                let (flow, record) = (Arc::clone(flow), record.clone());
                self.ended.push(EndedFlow { flow, record, gist });
            }
            _ => {}
        }
    }

    /// What was taken is still to be taken.
    pub(super) fn put_before(&mut self, mut flows: Vec<EndedFlow>) {
        flows.append(&mut self.ended);
        self.ended = flows;
    }

    pub(super) fn take(&mut self) -> Vec<EndedFlow> {
        std::mem::take(&mut self.ended)
    }
}
