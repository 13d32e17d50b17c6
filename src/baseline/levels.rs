//! A workload's rates, each with its level: few, so a sorted list, which takes half of what a tree does.

use super::level::Level;
use crate::features::Rate;

/// Levels by rate.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Levels(Vec<(Rate, Level)>);

impl Levels {
    fn find(&self, rate: Rate) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(&rate))
    }

    pub(super) fn get(&self, rate: Rate) -> Option<&Level> {
        let at = self.find(rate).ok()?;
        self.0.get(at).map(|(_, level)| level)
    }

    /// A rate's level, begun if there is none.
    pub(super) fn of(&mut self, rate: Rate) -> &mut Level {
        let at = self.find(rate).unwrap_or_else(|at| {
            self.0.insert(at, (rate, Level::default()));
            at
        });
        &mut self.0[at].1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Rate, &Level)> {
        self.0.iter().map(|(rate, level)| (*rate, level))
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Rate) -> bool) {
        self.0.retain(|(rate, _)| keep(*rate));
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}

impl FromIterator<(Rate, Level)> for Levels {
    fn from_iter<T: IntoIterator<Item = (Rate, Level)>>(levels: T) -> Self {
        let mut all = Self::default();
        for (rate, level) in levels {
            *all.of(rate) = level;
        }
        all.shrink();
        all
    }
}
