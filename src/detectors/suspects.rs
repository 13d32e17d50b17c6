//! When to report a source that has become suspicious: after a pause in which the attack shows its shape, then at each
//! doubling, so that an attack is told once and its numbers stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::features::SourceKey;
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Since when each has been suspicious and unreported.
    waiting: BTreeMap<SourceKey, Timestamp>,
    reported: BTreeSet<SourceKey>,
}

impl Suspects {
    /// A source's evidence is enough, as of `time`.
    pub(super) fn note(&mut self, key: SourceKey, time: Timestamp) {
        self.waiting.entry(key).or_insert(time);
    }

    /// Takes out the sources that have been suspicious for longer than `settle`.
    pub(super) fn due(&mut self, now: Timestamp, settle: Duration) -> Vec<SourceKey> {
        let due: Vec<_> = self
            .waiting
            .iter()
            .filter(|&(_, since)| now >= since.after(settle))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &due {
            self.waiting.remove(key);
            self.reported.insert(key.clone());
        }
        due
    }

    /// Whether a source that is about to be forgotten is owed a last word.
    pub(super) fn closes(&mut self, key: &SourceKey) -> bool {
        self.waiting.remove(key);
        self.reported.remove(key)
    }

    /// Every source that is or was suspicious: their last word is asked for.
    pub(super) fn all(&mut self) -> BTreeSet<SourceKey> {
        let mut all = std::mem::take(&mut self.reported);
        all.extend(std::mem::take(&mut self.waiting).into_keys());
        all
    }
}
