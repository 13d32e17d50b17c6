//! What the flows on alerts carried, learned when they end.
//!
//! A flow may end before it is known to belong to an attack, so the latest ended ones are remembered for a while.

use std::collections::HashMap;

use crate::flow::{FlowId, FlowRecord};

/// What a flow carried. Pairs are `[originator, responder]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowTotals {
    /// Application protocol, once recognised by content.
    pub app: Option<&'static str>,
    /// Bytes of whole frames as they were on the wire.
    pub bytes: [u64; 2],
    /// Packets.
    pub packets: [u64; 2],
}

impl From<&FlowRecord> for FlowTotals {
    fn from(record: &FlowRecord) -> Self {
        Self {
            app: record.app,
            bytes: record.wire_bytes,
            packets: record.packets,
        }
    }
}

/// Flows that ended lately and are on no alert: about 1 MB. Flow numbers are consecutive, so a number's remainder is its
/// place; a later flow takes it over.
const MOST_RECENT: usize = 16 * 1024;

/// A flow on at least one alert.
#[derive(Debug, Default)]
struct Held {
    alerts: u32,
    totals: Option<FlowTotals>,
}

/// Totals of the flows on alerts (as many as alerts hold), and of those that ended lately.
#[derive(Debug)]
pub(super) struct FlowBook {
    held: HashMap<FlowId, Held>,
    recent: Vec<Option<(FlowId, FlowTotals)>>,
}

impl FlowBook {
    pub(super) fn new() -> Self {
        Self {
            held: HashMap::new(),
            recent: vec![None; MOST_RECENT],
        }
    }

    /// A flow ended.
    pub(super) fn ended(&mut self, id: FlowId, totals: FlowTotals) {
        match self.held.get_mut(&id) {
            Some(held) => held.totals = Some(totals),
            None => *self.place(id) = Some((id, totals)),
        }
    }

    fn place(&mut self, id: FlowId) -> &mut Option<(FlowId, FlowTotals)> {
        &mut self.recent[(id.0 % MOST_RECENT as u64) as usize]
    }

    /// An alert takes the flow up.
    pub(super) fn hold(&mut self, id: FlowId) {
        let totals = self
            .place(id)
            .take_if(|(recent, _)| *recent == id)
            .map(|(_, totals)| totals);
        let held = self.held.entry(id).or_insert(Held { alerts: 0, totals });
        held.alerts = held.alerts.saturating_add(1);
    }

    /// An alert that held the flow is gone.
    pub(super) fn release(&mut self, id: FlowId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.alerts = held.alerts.saturating_sub(1);
            if held.alerts == 0 {
                self.held.remove(&id);
            }
        }
    }

    /// What a held flow carried, if it ended.
    pub(super) fn totals(&self, id: FlowId) -> Option<FlowTotals> {
        self.held.get(&id)?.totals
    }

    /// How many flows are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(bytes: u64) -> FlowTotals {
        FlowTotals {
            app: None,
            bytes: [bytes, 0],
            packets: [1, 0],
        }
    }

    #[test]
    fn totals_are_known_whether_the_flow_ends_before_or_after() {
        let mut book = FlowBook::new();
        book.ended(FlowId(1), totals(1));
        book.hold(FlowId(1));
        book.hold(FlowId(2));
        assert_eq!(book.totals(FlowId(1)), Some(totals(1)));
        assert_eq!(book.totals(FlowId(2)), None);
        book.ended(FlowId(2), totals(2));
        assert_eq!(book.totals(FlowId(2)), Some(totals(2)));
    }

    #[test]
    fn a_flow_is_held_until_its_last_alert_lets_go() {
        let mut book = FlowBook::new();
        book.hold(FlowId(1));
        book.hold(FlowId(1));
        book.ended(FlowId(1), totals(1));
        book.release(FlowId(1));
        assert!(book.totals(FlowId(1)).is_some());
        book.release(FlowId(1));
        assert!(book.held.is_empty());
    }

    #[test]
    fn ended_flows_are_forgotten_at_the_bound() {
        let mut book = FlowBook::new();
        for id in 0..100_000 {
            book.ended(FlowId(id), totals(id));
        }
        assert_eq!(book.recent.len(), MOST_RECENT);
        book.hold(FlowId(0));
        assert_eq!(book.totals(FlowId(0)), None);
    }
}
