//! One account as one source sees it: a user on a server.

use std::time::Duration;

use super::Attempt;
use crate::dissect::SecretMark;
use crate::time::Timestamp;

/// What follows a refusal so soon is the same try.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Who tries again does so within this.
const SETTLED: Duration = Duration::from_secs(30);

/// What came of a source's attempts at one user of one server.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Refusals since it was last let in.
    pub refused: u64,
    /// Those of them that count as guesses.
    pub counted: u64,
    /// First and last refusal since then.
    refusals: Option<(Timestamp, Timestamp)>,
    /// Whether it was ever let in.
    pub worked: bool,
    /// The mark of the secret last offered.
    secret: Option<SecretMark>,
    /// How long the last one was, where only that is known.
    size: Option<u64>,
}

impl Account {
    /// Whether another secret is offered than the last time, as far as is known.
    pub(super) fn is_offered_another(&self, attempt: &Attempt<'_>) -> Option<bool> {
        Some(self.secret? != attempt.secret?)
    }

    /// Whether what is offered is of another length than the last time.
    pub(super) fn is_of_another_size(&self, attempt: &Attempt<'_>) -> bool {
        matches!((self.size, attempt.size), (Some(last), Some(size)) if last != size)
    }

    /// Takes a refusal; `informed` says that the client knew of the last one when it began, and `discount` that an
    /// account that once worked is rather one whose secret was changed. Whether it counts as a guess.
    pub(super) fn refuse(&mut self, attempt: &Attempt<'_>, informed: bool, discount: bool) -> bool {
        self.refused = self.refused.saturating_add(1);
        let (first, _) = *self
            .refusals
            .get_or_insert((attempt.decided, attempt.decided));
        self.refusals = Some((first, attempt.decided));
        let another = self.is_offered_another(attempt);
        self.secret = attempt.secret.or(self.secret);
        self.size = attempt.size.or(self.size);
        let counts = another.unwrap_or(informed) && !(self.worked && discount);
        self.counted = self.counted.saturating_add(counts.into());
        counts
    }

    /// Whether it was refused, and not tried again but at once, as some clients do in another way. `None` while that can't
    /// be told yet.
    pub(super) fn is_left_alone(&self, now: Timestamp) -> Option<bool> {
        let Some((first, last)) = self.refusals.filter(|_| self.counted > 0) else {
            return Some(false);
        };
        if last.since(first) > AT_ONCE {
            return Some(false);
        }
        (now.since(last) >= SETTLED).then_some(true)
    }

    /// It was let in: what there was before is settled.
    pub(super) const fn settle(&mut self) {
        self.refused = 0;
        self.counted = 0;
        self.refusals = None;
        self.worked = true;
    }
}
