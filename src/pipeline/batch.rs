//! Events that are analyzed together.
//!
//! Either half of the pipeline is larger than a processor's instruction cache, which going to and fro for every packet would
//! fill anew each time. So events gather for some hundred packets, and the analysis is told of each how things stood then.

use crate::event::Event;
use crate::telemetry::LossCounts;

/// More saves no more: they and what they lead to are to stay in the second cache.
const ENOUGH: usize = 256;

/// How things stood when events came.
#[derive(Debug)]
struct Mark {
    /// Where its events end.
    end: usize,
    packets: u64,
    /// Which of the batch's losses.
    losses: usize,
}

/// Events in their order, and how things stood at each.
#[derive(Default, Debug)]
pub(super) struct Batch {
    /// New events go here; then [`Batch::mark`] is due.
    pub(super) events: Vec<Event>,
    marks: Vec<Mark>,
    /// Mostly one: few batches see a loss.
    losses: Vec<LossCounts>,
}

impl Batch {
    /// All events since the last mark came when things stood so.
    pub(super) fn mark(&mut self, packets: u64, losses: &LossCounts) {
        let end = self.events.len();
        if self.marks.last().is_none_or(|last| last.end < end) && end > 0 {
            if self.losses.last() != Some(losses) {
                self.losses.push(losses.clone());
            }
            self.marks.push(Mark {
                end,
                packets,
                losses: self.losses.len() - 1,
            });
        }
    }

    /// Whether there are enough events.
    pub(super) const fn is_due(&self) -> bool {
        self.events.len() >= ENOUGH
    }

    /// Shows all events, each with the packets and losses there were by then, and forgets them.
    pub(super) fn take(&mut self, mut each: impl FnMut(&Event, u64, &LossCounts)) {
        let mut marks = self.marks.iter().peekable();
        for (at, event) in self.events.iter().enumerate() {
            while marks.next_if(|mark| mark.end <= at).is_some() {}
            if let Some(mark) = marks.peek()
                && let Some(losses) = self.losses.get(mark.losses)
            {
                each(event, mark.packets, losses);
            }
        }
        self.events.clear();
        self.marks.clear();
        self.losses.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::NetworkId;
    use crate::event::{Endpoint, EventKind};
    use crate::identity::{Attribution, Confidence, Identity, IdentityKind, Source};
    use crate::telemetry::Loss;
    use crate::time::Timestamp;
    use std::sync::Arc;

    fn event(secs: i64) -> Event {
        let end = Endpoint {
            ip: [10, 0, 0, 1].into(),
            who: Attribution {
                identity: Arc::new(Identity::bare(IdentityKind::Unknown)),
                confidence: Confidence::Exact,
                source: Source::None,
            },
        };
        let kind = EventKind::Resolution {
            actor: end.clone(),
            target: end,
            network: NetworkId::default(),
            hardware: None,
            reply: false,
        };
        Event::new(Timestamp::from_secs(secs), kind)
    }

    #[test]
    fn each_event_knows_how_things_stood() {
        let mut batch = Batch::default();
        let mut losses = LossCounts::default();
        batch.mark(1, &losses);
        batch.events.extend([event(1), event(2)]);
        batch.mark(2, &losses);
        batch.mark(3, &losses);
        losses.add(Loss::Snaplen);
        batch.events.push(event(3));
        batch.mark(4, &losses);
        let mut told = Vec::new();
        for _ in 0..2 {
            batch.take(|event, packets, losses| {
                told.push((
                    event.time.nanos() / 1_000_000_000,
                    packets,
                    losses.get(Loss::Snaplen),
                ));
            });
        }
        assert_eq!(told, [(1, 2, 0), (2, 2, 0), (3, 4, 1)]);
    }
}
