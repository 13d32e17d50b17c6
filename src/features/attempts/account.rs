//! One account as one source sees it: a user on a server.

use super::Attempt;
use crate::dissect::SecretMark;

/// What came of a source's attempts at one user of one server.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Refusals since it was last let in.
    pub refused: u64,
    /// Those of them that count as guesses.
    pub counted: u64,
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
        let another = self.is_offered_another(attempt);
        self.secret = attempt.secret.or(self.secret);
        self.size = attempt.size.or(self.size);
        let counts = another.unwrap_or(informed) && !(self.worked && discount);
        self.counted = self.counted.saturating_add(counts.into());
        counts
    }

    /// It was let in: what there was before is settled.
    pub(super) const fn settle(&mut self) {
        self.refused = 0;
        self.counted = 0;
        self.worked = true;
    }
}
