//! What one source says: somebody held an address, over a time known well or badly.
//!
//! Claims of one source about one owner join into one, whatever their order; how claims of different sources and owners
//! relate is the business of [`super::holder`] and [`super::timeline`].

use std::net::IpAddr;
use std::sync::Arc;

use super::{Identity, IdentityKind, Source};
use crate::address::NetworkId;
use crate::time::Timestamp;

/// Whether a source saw the holder as the current one. Joins by taking the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Standing {
    /// The source can't tell the past from the present.
    #[default]
    Silent,
    /// It held the address when the source was written.
    Current,
    /// It was going, or gone, though the source may not say since when.
    Leaving,
}

/// When an address was held, as far as a source knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Tenure {
    /// The earliest moment at which it may have held the address.
    pub start: Option<Timestamp>,
    /// A moment by which it surely held it. A pod is accepted by its node before it has an address; until it is settled,
    /// a predecessor that isn't known to have gone keeps the address.
    pub settled: Option<Timestamp>,
    /// The latest moment at which it is known to have held it.
    pub last_seen: Option<Timestamp>,
    /// When it let go.
    pub end: Option<Timestamp>,
    /// Whether it was the holder when the source was written.
    pub standing: Standing,
}

impl Tenure {
    /// From a moment on, until something else is heard.
    pub const fn since(start: Timestamp) -> Self {
        Self {
            start: Some(start),
            settled: None,
            last_seen: None,
            end: None,
            standing: Standing::Current,
        }
    }

    /// Between two moments.
    pub const fn between(start: Timestamp, end: Timestamp) -> Self {
        Self {
            start: Some(start),
            settled: None,
            last_seen: None,
            end: Some(end),
            standing: Standing::Leaving,
        }
    }

    /// At the time of writing, whenever that was.
    pub const fn untimed() -> Self {
        Self {
            start: None,
            settled: None,
            last_seen: None,
            end: None,
            standing: Standing::Current,
        }
    }

    /// Whether nothing places it in time.
    pub const fn is_untimed(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }

    /// Both statements in one: the union of what is known. Commutative, associative, idempotent.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            start: earlier(self.start, other.start),
            settled: earlier(self.settled, other.settled),
            last_seen: self.last_seen.max(other.last_seen),
            end: earlier(self.end, other.end),
            standing: self.standing.max(other.standing),
        }
    }

    /// Whether both may be true of one stay: neither is known to end before the other starts.
    pub fn may_overlap(&self, other: &Self) -> bool {
        let before = |a: &Self, b: &Self| matches!((a.end, b.start), (Some(end), Some(start)) if end <= start);
        !before(self, other) && !before(other, self)
    }
}

/// The earlier of two moments, of which either may be unknown.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (known, None) | (None, known) => known,
    }
}

/// One source's statement that somebody held an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// The network the address belongs to; the default network stands for "any that has no claims of its own".
    pub network: NetworkId,
    /// The address, in canonical form.
    pub ip: IpAddr,
    /// Who told.
    pub source: Source,
    /// Kubernetes uid of the holder, where the source gives one.
    pub uid: Option<Arc<str>>,
    /// Id of the pod sandbox (or container), where the source gives one.
    pub sandbox: Option<Arc<str>>,
    /// When.
    pub tenure: Tenure,
    /// Who. Never a node: those are in [`super::Networks`].
    pub identity: Arc<Identity>,
}

impl Claim {
    /// Whether the claim says who the holder is, rather than only that there is one.
    pub fn is_named(&self) -> bool {
        self.identity.name.is_some() || self.identity.kind != IdentityKind::Pod
    }

    /// Joins what the same source says of the same owner. Of two descriptions the one seen later counts, then the fuller
    /// one.
    pub(super) fn join(&mut self, other: &Self) {
        let weight = |claim: &Self| {
            (
                claim.tenure.last_seen,
                claim.identity.labels.len(),
                claim.identity.clone(),
            )
        };
        if weight(other) > weight(self) {
            self.identity = other.identity.clone();
        }
        self.sandbox = self.sandbox.take().max(other.sandbox.clone());
        self.tenure = self.tenure.join(other.tenure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn joining_tenures_keeps_what_either_knows() {
        let list = Tenure {
            settled: Some(at(12)),
            last_seen: Some(at(50)),
            ..Tenure::since(at(10))
        };
        let deletion = Tenure {
            end: Some(at(90)),
            standing: Standing::Leaving,
            ..Tenure::default()
        };
        let both = list.join(deletion);
        assert_eq!(both, deletion.join(list));
        assert_eq!(both, both.join(list));
        assert_eq!((both.start, both.end), (Some(at(10)), Some(at(90))));
        assert_eq!(both.standing, Standing::Leaving);
    }

    #[test]
    fn stays_that_merely_touch_do_not_overlap() {
        let (a, b) = (Tenure::between(at(1), at(2)), Tenure::between(at(2), at(3)));
        assert!(!a.may_overlap(&b) && !b.may_overlap(&a));
        assert!(a.may_overlap(&Tenure::untimed()));
    }
}
