//! Whether attempts follow one another as a program's retries do.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// Servers whose pauses are told apart: who has one secret for more of them is no program with a few of its own.
const FEW_SERVERS: usize = 3;
/// Pauses remembered.
const MAX_PAUSES: usize = 16;
/// With fewer pauses there is no telling.
const MIN_PAUSES: usize = 4;
/// A retry that comes sooner is not one that waits.
pub(super) const EAGER_SECS: f64 = 0.5;
/// How far a steady pause may be off, as a share of it and in seconds, whichever is more.
const OFF_SHARE: f64 = 0.05;
const OFF_SECS: f64 = 0.1;
/// How much longer the last of growing pauses is than the first, at least: each has what doubles and what doesn't.
const GROWN: f64 = 1.5;
/// The share of pauses that must follow the rule: machines hiccup.
const MOST: f64 = 0.75;

/// The latest pauses between a refusal and the next attempt, in seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses {
    secs: VecDeque<f64>,
}

impl Pauses {
    pub(super) fn add(&mut self, secs: f64) {
        if self.secs.len() >= MAX_PAUSES {
            self.secs.pop_front();
        }
        self.secs.push_back(secs);
    }

    /// The one in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.secs.iter().copied().collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Whether they are enough to tell.
    fn suffice(&self) -> bool {
        self.secs.len() >= MIN_PAUSES
    }

    /// Whether they are those of a program that waits: always as long, or growing, or short ones within a run of the
    /// program and growing ones before it is started again.
    pub(super) fn are_paced(&self) -> bool {
        let all: Vec<f64> = self.secs.iter().copied().collect();
        if !self.suffice() {
            return false;
        }
        let shortest = all.iter().copied().fold(f64::INFINITY, f64::min);
        let (short, long): (Vec<f64>, Vec<f64>) =
            all.iter().partition(|&&pause| pause <= 2.0 * shortest);
        if shortest < EAGER_SECS {
            // Retries without a pause within a run of the program are paced only by its being started again.
            return short.len() <= all.len() / 2 && long.len() >= MIN_PAUSES && grows(&long);
        }
        is_steady(&all) || grows(&all) || is_steady(&short) && (long.len() < 2 || grows(&long))
    }
}

/// What one server was tried with: when the first refusal of a volley was known, the last one, and the pauses between.
#[derive(Clone, Debug)]
struct Round {
    known: Timestamp,
    last: Timestamp,
    pauses: Pauses,
}

/// The pauses at each of a few servers. An exporter or a client of a cluster goes through all its servers at once, or has
/// a loop for each: the next server follows at once, but the next try at the same one waits.
#[derive(Clone, Debug)]
pub(super) struct Rounds<K> {
    servers: Vec<(K, Round)>,
    /// Those of all of them,
    pauses: Pauses,
    /// and how many of these were none.
    eager: u64,
    /// Whether there were more servers.
    many: bool,
}

impl<K> Default for Rounds<K> {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            pauses: Pauses::default(),
            eager: 0,
            many: false,
        }
    }
}

impl<K: PartialEq> Rounds<K> {
    /// A try at a server, and when it was refused.
    pub(super) fn add(&mut self, server: K, began: Timestamp, refused: Timestamp) {
        let Some((_, round)) = self.servers.iter_mut().find(|(known, _)| *known == server) else {
            if self.servers.len() < FEW_SERVERS {
                let round = Round {
                    known: refused,
                    last: refused,
                    pauses: Pauses::default(),
                };
                self.servers.reserve_exact(1);
                self.servers.push((server, round));
            } else {
                self.many = true;
            }
            return;
        };
        // What began before the last refusal was known is of the same volley.
        if began >= round.known {
            let since = if began >= round.last {
                round.last
            } else {
                round.known
            };
            let pause = began.since(since).as_secs_f64();
            round.pauses.add(pause);
            self.pauses.add(pause);
            self.eager = self.eager.saturating_add(u64::from(pause < EAGER_SECS));
            round.known = refused;
        }
        round.last = round.last.max(refused);
    }

    /// Whether each server is tried as a program does that waits: all at one pace, or each at its own. A server that was
    /// tried too rarely for a pace doesn't count as long as another one has its.
    pub(super) fn are_paced(&self) -> bool {
        if !self.are_few() {
            return false;
        }
        let mut known = self
            .servers
            .iter()
            .map(|(_, round)| &round.pauses)
            .filter(|pauses| pauses.suffice())
            .peekable();
        self.pauses.are_paced() || known.peek().is_some() && known.all(Pauses::are_paced)
    }

    /// Whether there are several servers, and no more than a program has of its own.
    pub(super) const fn are_few(&self) -> bool {
        !self.many && self.servers.len() > 1
    }

    /// Tries that followed a refusal by the same server at once.
    pub(super) const fn eager(&self) -> u64 {
        self.eager
    }

    /// The pause in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        self.pauses.median()
    }
}

fn is_steady(pauses: &[f64]) -> bool {
    let mut sorted = pauses.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(&median) = sorted.get(sorted.len() / 2) else {
        return false;
    };
    let off = (median * OFF_SHARE).max(OFF_SECS);
    let near = pauses
        .iter()
        .filter(|&&pause| (pause - median).abs() <= off);
    near.count() as f64 >= MOST * pauses.len() as f64
}

/// Whether hardly any is shorter than the one before it, and in the end they are longer or as long as they get.
fn grows(pauses: &[f64]) -> bool {
    let steps = pauses.windows(2).filter_map(|pair| match pair {
        [before, after] => Some(*after >= before * 0.9),
        _ => None,
    });
    let (mut all, mut up) = (0_usize, 0_usize);
    for step in steps {
        all += 1;
        up += usize::from(step);
    }
    let (Some(first), Some(last)) = (pauses.first(), pauses.last()) else {
        return false;
    };
    up as f64 >= 0.9 * all as f64 && (*last >= GROWN * first || is_steady(pauses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::rng::Rng;

    fn paced(pauses: &[f64]) -> bool {
        let mut all = Pauses::default();
        for &pause in pauses {
            all.add(pause);
        }
        all.are_paced()
    }

    #[test]
    fn programs_that_wait() {
        assert!(paced(&[5.0, 5.02, 5.01, 5.3, 5.0, 5.01, 4.99, 5.02]));
        assert!(
            paced(&[1.0, 2.0, 4.0, 8.1, 16.0, 30.0, 30.1, 30.0]),
            "back-off"
        );
        let restarts = [2.0, 2.0, 10.5, 2.0, 2.0, 21.0, 2.0, 2.0, 41.0, 2.0, 2.0];
        assert!(paced(&restarts), "a container started again and again");
        let mixed = [1.08, 1.07, 2.07, 1.04, 1.12, 3.06, 1.08, 1.04, 5.03];
        assert!(paced(&mixed), "three tries in each run, a second apart");
        assert!(!paced(&[5.0, 5.0]), "too few to tell");
    }

    #[test]
    fn people_and_tools_that_take_their_time() {
        assert!(!paced(&[0.01; 12]), "no pause at all");
        let mut mistaken = 0;
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let pauses: Vec<f64> = (0..9).map(|_| 6.0 + rng.below(3000) as f64 / 1e3).collect();
            mistaken += u32::from(paced(&pauses));
        }
        assert!(mistaken <= 4, "{mistaken} of 200 between 6 and 9 s");
    }
}
