//! The packets around an alert of a live run: a ring of what came lately, searched when an alert opens, and once more shortly
//! after. On the analysis thread, which has the packets; files are written by the delivery thread.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::alert::{Alert, AlertStatus};
use crate::sinks::{Excerpt, PacketRing};
use crate::time::Timestamp;

/// How long what follows an alert is waited for.
const AFTER: Duration = Duration::from_secs(5);
/// Excerpts that wait for it at once; further ones have what came before alone.
const MAX_WAITING: usize = 16;
/// Alerts that are remembered to have their excerpt.
const MAX_KNOWN: usize = 1 << 14;

/// What became of excerpts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct EvidenceCounts {
    /// Files written, or written anew with what followed.
    pub written: u64,
    /// Excerpts that couldn't be: the disk is full or gone, or the delivery behind.
    pub dropped: u64,
    /// Files removed for want of room.
    pub removed: u64,
}

/// Finds the packets of alerts.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) ring: PacketRing,
    waiting: VecDeque<(Timestamp, Excerpt)>,
    known: HashSet<String>,
}

impl Recorder {
    pub(super) fn new(memory: usize) -> Self {
        Self {
            ring: PacketRing::new(memory),
            waiting: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// The excerpts of alerts that are new, and those that are complete by `now`.
    pub(super) fn excerpts(&mut self, alerts: &[Alert], now: Timestamp) -> Vec<Excerpt> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, mut excerpt)) = self.waiting.pop_front() else {
                break;
            };
            let before = excerpt.packets();
            self.ring.search(&mut excerpt);
            if excerpt.packets() > before {
                ready.push(excerpt);
            }
        }
        for alert in alerts {
            if self.known.contains(&alert.id) {
                continue;
            }
            let Some(mut excerpt) = Excerpt::of(alert) else {
                continue;
            };
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(alert.id.clone());
            self.ring.search(&mut excerpt);
            // Of alerts that go on from an earlier run nothing may be there.
            if excerpt.packets() > 0 {
                ready.push(excerpt.clone());
            }
            if alert.status != AlertStatus::Closed && self.waiting.len() < MAX_WAITING {
                self.waiting.push_back((now.after(AFTER), excerpt));
            }
        }
        ready
    }
}
