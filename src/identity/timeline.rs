//! The holders of one address, laid out in time: at each moment one of them, several (then none is named), or nobody.
//!
//! The rules, in the order of their strength:
//!
//! 1. A holder with times has the address from its start to its end. A later one closes an earlier one when it settles,
//!    for reports of an end come late; nothing opens the earlier one again. But an end that is said to be later by more
//!    than lateness explains ([`LATE_REPORT`]) is a contradiction: until then nobody is named.
//! 2. Two that start at the same moment can't be told apart while both last.
//! 3. Packets trail a holder's end for a while, and may come just before the start that was noted.
//! 4. Holders without times (a copied CNI cache) have what is left; two of them can't be told apart.
//! 5. A lease without a name has what is left then.

use std::sync::Arc;
use std::time::Duration;

use super::claim::Standing;
use super::holder::Holder;
use super::{Attribution, Confidence, Identity, IdentityKind, Source};
use crate::time::Timestamp;

/// Packets come before the start that was noted: duplicate address detection, ARP, the order in which a CNI works.
pub(super) const BEFORE_START: Duration = Duration::from_secs(2);

/// FIN, RST and retransmissions come after the end.
pub(super) const AFTER_END: Duration = Duration::from_mins(1);

/// How much later than a successor's start an end may be reported without contradicting it: deletions are seen when a
/// watch delivers them, after grace periods.
pub(super) const LATE_REPORT: Duration = Duration::from_mins(5);

/// From a moment until the next segment's: the answer, or `None` where nobody claims the address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) from: Timestamp,
    pub(super) answer: Option<Attribution>,
}

/// The index of the segment that holds at `time`; segments begin at [`Timestamp::MIN`].
pub(super) fn index_at(segments: &[Segment], time: Timestamp) -> usize {
    segments
        .partition_point(|segment| segment.from <= time)
        .saturating_sub(1)
}

/// The whole timeline, from [`Timestamp::MIN`] on.
pub(super) fn lay_out(holders: &[Holder]) -> Vec<Segment> {
    let (timed, untimed): (Vec<&Holder>, Vec<&Holder>) = holders
        .iter()
        .partition(|holder| holder.is_named() && !holder.tenure.is_untimed());
    let rest = remainder(&untimed);
    let mut painter = Painter {
        segments: Vec::new(),
    };
    painter.put(Timestamp::MIN, rest.clone());

    let stays = stays(&timed);
    let pieces = pieces(&stays);
    let mut free_from = Timestamp::MIN;
    for (i, piece) in pieces.iter().enumerate() {
        let next_lead = pieces
            .get(i.saturating_add(1))
            .map(|next| next.lead(piece.until));
        let tail = match piece.only {
            None => {
                painter.put(piece.from, Some(ambiguous(piece.all_services)));
                piece.until
            }
            Some(stay) => {
                let contested = |other: &&Holder| other.is_named() && !other.same_name(stay.holder);
                let sure = piece.sure(stay, untimed.iter().any(contested));
                painter.put(piece.lead(free_from), stay.answer(Confidence::Time));
                if let Some((from, to)) = sure {
                    painter.put(from, stay.answer(Confidence::Exact));
                    painter.put(to, stay.answer(Confidence::Time));
                }
                let tail = piece.tail(stay);
                next_lead.map_or(tail, |lead| lead.min(tail))
            }
        };
        painter.put(tail, rest.clone());
        free_from = piece.until;
    }
    painter.segments
}

/// Answers in the order of time.
struct Painter {
    segments: Vec<Segment>,
}

impl Painter {
    /// From `from` on, which is no earlier than any before, the answer is `answer`.
    fn put(&mut self, from: Timestamp, answer: Option<Attribution>) {
        if self.segments.last().is_some_and(|last| last.from == from) {
            self.segments.pop();
        }
        let unchanged = self
            .segments
            .last()
            .is_some_and(|last| last.answer == answer);
        if !unchanged && from < Timestamp::MAX {
            self.segments.push(Segment { from, answer });
        }
    }
}

/// The answer where nobody with times is.
fn remainder(untimed: &[&Holder]) -> Option<Attribution> {
    let named: Vec<_> = untimed
        .iter()
        .copied()
        .filter(|holder| holder.is_named())
        .collect();
    let candidates = if named.is_empty() { untimed } else { &named };
    let best = candidates.iter().max_by_key(|holder| holder.source)?;
    Some(if candidates.iter().all(|holder| holder.same_name(best)) {
        attribution(best, Confidence::Time)
    } else {
        ambiguous(
            candidates
                .iter()
                .all(|holder| holder.identity.kind == IdentityKind::Service),
        )
    })
}

fn attribution(holder: &Holder, confidence: Confidence) -> Attribution {
    Attribution {
        identity: holder.identity.clone(),
        confidence,
        source: holder.source,
    }
}

/// Nobody in particular. Where all that could be meant are services, that much is said.
fn ambiguous(all_services: bool) -> Attribution {
    let kind = if all_services {
        IdentityKind::Service
    } else {
        IdentityKind::Unknown
    };
    Attribution {
        identity: Arc::new(Identity::bare(kind)),
        confidence: Confidence::Ambiguous,
        source: Source::None,
    }
}

/// A holder's time at the address as far as it alone is concerned.
struct Stay<'a> {
    holder: &'a Holder,
    from: Timestamp,
    /// Until when a predecessor that isn't known to have gone keeps the address.
    settled: Timestamp,
    until: Timestamp,
    start_known: bool,
    end_known: bool,
}

impl Stay<'_> {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the form in which a timeline takes its answers"
    )]
    fn answer(&self, confidence: Confidence) -> Option<Attribution> {
        Some(attribution(self.holder, confidence))
    }
}

/// A stretch of time with one answer. Pieces follow one another without overlap.
struct Piece<'a> {
    from: Timestamp,
    until: Timestamp,
    /// The only holder then, or `None` when several can't be told apart.
    only: Option<&'a Stay<'a>>,
    /// Whether every contender is a service.
    all_services: bool,
    /// Whether a successor ended it.
    cut: bool,
}

impl Piece<'_> {
    /// Where packets that come before a start begin to count for it, given that the address is free from a moment on.
    fn lead(&self, free_from: Timestamp) -> Timestamp {
        match self.only {
            Some(stay) if stay.start_known && stay.from == self.from => {
                self.from.before(BEFORE_START).max(free_from).min(self.from)
            }
            _ => self.from,
        }
    }

    /// Until when packets count for the holder although it has gone.
    fn tail(&self, stay: &Stay<'_>) -> Timestamp {
        if stay.end_known && !self.cut {
            self.until.after(AFTER_END)
        } else {
            self.until
        }
    }

    /// The part of the piece in which its holder is beyond doubt. Someone else, of whom no times are known, makes a
    /// holder doubtful from when it was last seen.
    fn sure(&self, stay: &Stay<'_>, contested: bool) -> Option<(Timestamp, Timestamp)> {
        let tenure = &stay.holder.tenure;
        let from = if stay.start_known {
            Some(self.from)
        } else {
            tenure.settled
        };
        let last_seen = tenure
            .last_seen
            .map(|seen| seen.after(Duration::from_nanos(1)));
        let still_there = tenure.standing == Standing::Current && !self.cut && !contested;
        let to = if stay.end_known || still_there {
            Some(self.until)
        } else {
            last_seen
        };
        let (from, to) = (from?.max(self.from), to?.min(self.until));
        (from < to).then_some((from, to))
    }
}

/// The timed holders by start.
fn stays<'a>(timed: &[&'a Holder]) -> Vec<Stay<'a>> {
    let mut ends: Vec<_> = timed
        .iter()
        .filter_map(|holder| holder.tenure.end)
        .collect();
    ends.sort_unstable();
    let mut stays: Vec<_> = timed
        .iter()
        .map(|&holder| {
            let tenure = &holder.tenure;
            // Of one whose end alone is known: it can't have come before those who left before it.
            let earliest = || {
                let own = tenure.end.unwrap_or(Timestamp::MAX);
                let before = ends.partition_point(|&end| end < own);
                before
                    .checked_sub(1)
                    .and_then(|i| ends.get(i).copied())
                    .unwrap_or(Timestamp::MIN)
            };
            let from = tenure.start.unwrap_or_else(earliest);
            Stay {
                holder,
                from,
                settled: tenure.settled.unwrap_or(from).max(from),
                until: tenure.end.unwrap_or(Timestamp::MAX).max(from),
                start_known: tenure.start.is_some(),
                end_known: tenure.end.is_some(),
            }
        })
        .collect();
    // Equal starts: the first to leave first, then the best-trusted last, so that it is the one named among namesakes.
    // The rest only makes the order complete, so that it doesn't follow that of the claims.
    stays.sort_by_key(|stay| {
        let holder = stay.holder;
        let whole = (&holder.tenure, &holder.identity);
        (stay.from, stay.until, holder.source, whole)
    });
    // A settling never reaches past the next start, so that each stay is closed by its own successor alone.
    let mut next_start = Timestamp::MAX;
    let mut group = Timestamp::MAX;
    for stay in stays.iter_mut().rev() {
        if stay.from != group {
            (next_start, group) = (group, stay.from);
        }
        stay.settled = stay.settled.min(next_start);
    }
    stays
}

/// Cuts stays (sorted by start) against one another.
fn pieces<'a>(stays: &'a [Stay<'a>]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::with_capacity(stays.len());
    let mut free_from = Timestamp::MIN;
    let mut groups = stays.chunk_by(|a, b| a.from == b.from).peekable();
    let mut earlier = 0_usize;
    while let Some(group) = groups.next() {
        let settled = |group: &&[Stay<'_>]| group.iter().map(|stay| stay.settled).min();
        let before = stays.get(..earlier).unwrap_or_default();
        earlier = earlier.saturating_add(group.len());
        let cutoff = groups.peek().and_then(settled).unwrap_or(Timestamp::MAX);
        // From the back: who is still there when the others have gone, whether all of those bear one name, and since when
        // one of them had settled.
        let mut settled_since = Timestamp::MAX;
        let mut namesakes = true;
        let mut all_services = true;
        let mut still_there: Vec<_> = group
            .iter()
            .enumerate()
            .rev()
            .map(|(i, stay)| {
                let later = group.get(i.saturating_add(1));
                namesakes &= later.is_none_or(|later| later.holder.same_name(stay.holder));
                all_services &= stay.holder.identity.kind == IdentityKind::Service;
                settled_since = settled_since.min(stay.settled);
                (stay, settled_since, namesakes, all_services)
            })
            .collect();
        still_there.reverse();
        let best = group.last();
        for (stay, settled, namesakes, all_services) in still_there {
            let until = stay.until.min(cutoff);
            let mut from = stay.from.max(free_from);
            if namesakes
                && until > from
                && let Some((disputed, services)) =
                    best.and_then(|best| dispute(before, best, settled))
                && disputed > from
            {
                pieces.push(Piece {
                    from,
                    until: disputed.min(until),
                    only: None,
                    all_services: all_services && services,
                    cut: false,
                });
                from = disputed.min(until);
                if from == until {
                    free_from = free_from.max(until);
                    continue;
                }
            }
            // Even an empty piece has a tail.
            if until > from || group.len() == 1 {
                pieces.push(Piece {
                    from,
                    until,
                    only: if namesakes { best } else { None },
                    all_services,
                    cut: stay.until > cutoff,
                });
            }
            free_from = free_from.max(until);
        }
    }
    pieces
}

/// Until when somebody of another name who came before is said to have stayed, though `best` had settled long before that;
/// and whether that somebody is a service.
fn dispute(earlier: &[Stay<'_>], best: &Stay<'_>, settled: Timestamp) -> Option<(Timestamp, bool)> {
    earlier
        .iter()
        .filter(|stay| {
            stay.end_known
                && stay.until > settled.after(LATE_REPORT)
                && !stay.holder.same_name(best.holder)
        })
        .map(|stay| {
            let service = stay.holder.identity.kind == IdentityKind::Service;
            (stay.until, service)
        })
        .max()
}

#[cfg(test)]
mod tests;
