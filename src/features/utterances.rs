//! Short runs of speech on one connection of a pod, each by itself: what a relay holds back, wraps or mixes with noise is
//! still said, in order, and not much later than it was heard.
//!
//! Noise between them breaks exchanges and spells apart, but leaves most of what is short as it was.

use super::passages::DISORDER;
use super::{Passage, push_tight};
use crate::flow::{Direction, Turn};
use crate::time::Timestamp;

/// Utterances of each connection that are remembered.
const RECENT: usize = 16;
/// Longer ones come in an unknown number of records, so that their lengths tell little.
const LONGEST: u64 = 2048;

/// Something short that was said at one go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Utterance {
    /// Whether the pod heard it, or else said it.
    pub heard: bool,
    /// First packet.
    pub start: Timestamp,
    /// Payload bytes.
    pub bytes: u16,
}

impl Utterance {
    /// Lengths that differ by more are not each other's, were it by two records of 64 bytes more each.
    pub const NEAR: u16 = 128;

    /// What a turn says to the pod at this end, or of it; `None` if it is long.
    pub fn of(turn: &Turn, pod: Direction) -> Option<Self> {
        (turn.bytes <= LONGEST).then_some(Self {
            heard: turn.direction != pod,
            start: turn.start,
            bytes: turn.bytes as u16,
        })
    }

    /// Whether it could be another one passed on, or passed on as that: one was heard, and the other was said within
    /// [`Passage::DELAY`], and differs by no more than a wrapping.
    fn meets(&self, other: &Self) -> bool {
        let (heard, said) = match (self.heard, other.heard) {
            (true, false) => (self, other),
            (false, true) => (other, self),
            _ => return false,
        };
        heard.bytes.abs_diff(said.bytes) <= Self::NEAR
            && heard.start <= said.start.after(DISORDER)
            && said.start.since(heard.start) <= Passage::DELAY
    }

    /// The earliest start of another one that it could have come of, or that could come of it.
    pub fn since(&self) -> Timestamp {
        let back = if self.heard { DISORDER } else { Passage::DELAY };
        self.start.before(back)
    }
}

/// What of one connection's utterances of one way is asked for every one of another's: the last, and how long the others are past.
#[derive(Clone, Copy, Default, Debug)]
pub struct LastUttered {
    last: Option<Utterance>,
    /// The others began at this time at the latest.
    others: Option<Timestamp>,
}

impl LastUttered {
    /// Another one.
    pub fn note(&mut self, utterance: Utterance) {
        match self.last {
            Some(last) if last.start > utterance.start => {
                self.others = self.others.max(Some(utterance.start));
            }
            last => {
                self.others = self.others.max(last.map(|last| last.start));
                self.last = Some(utterance);
            }
        }
    }

    /// Whether one of them may meet an utterance of another connection.
    pub fn may_meet(&self, utterance: Utterance) -> bool {
        self.others >= Some(utterance.since())
            || self.last.is_some_and(|last| last.meets(&utterance))
    }
}

/// The last utterances of one connection, each way each length once, in no order.
#[derive(Clone, Default, Debug)]
pub struct Utterances(Vec<Utterance>);

impl Utterances {
    /// Remembers one. Whether it is worth a comparison: what is said again and again proves nothing.
    pub fn keep(&mut self, utterance: Utterance) -> bool {
        let same = |known: &&mut Utterance| {
            (known.bytes, known.heard) == (utterance.bytes, utterance.heard)
        };
        if let Some(known) = self.0.iter_mut().find(same) {
            *known = utterance;
            return false;
        }
        if self.0.len() < RECENT {
            push_tight(&mut self.0, utterance);
        } else if let Some(oldest) = self.0.iter_mut().min_by_key(|known| known.start) {
            *oldest = utterance;
        }
        true
    }

    /// Another connection in the place of this one.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those that could be another connection's, passed on.
    pub fn meeting(&self, one: Utterance) -> impl Iterator<Item = Utterance> {
        self.0.iter().copied().filter(move |other| one.meets(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utterances(heard: bool) -> impl Strategy<Value = Vec<Utterance>> {
        let one = (0..20_000_i64, 0..400_u16).prop_map(move |(millis, bytes)| Utterance {
            heard,
            start: Timestamp::from_nanos(millis * 1_000_000),
            bytes,
        });
        proptest::collection::vec(one, 1..12)
    }

    proptest! {
        #[test]
        fn the_last_one_tells_whether_any_meets(said in utterances(false), heard in utterances(true)) {
            let (mut all, mut last) = (Utterances::default(), LastUttered::default());
            for utterance in said {
                all.keep(utterance);
                last.note(utterance);
                for one in &heard {
                    prop_assert!(last.may_meet(*one) || all.meeting(*one).count() == 0);
                }
            }
        }
    }
}
