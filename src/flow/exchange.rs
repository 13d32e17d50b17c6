//! Questions and answers: the turns of a conversation in pairs.
//!
//! Whoever speaks after the other was answered, or after a pause, asks; what the other end says next is the answer. From
//! it follow who drives a conversation, how fast it is answered, and how large both parts are.

use std::time::Duration;

use super::{Direction, Turn};
use crate::time::Timestamp;

/// Silence after which the same end, speaking again, begins something new.
const PAUSE: Duration = Duration::from_millis(500);
/// What comes later than this is no answer any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// One end said something, and the other answered, or didn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Its number in the conversation, from 0.
    pub number: u32,
    /// Who asked.
    pub asker: Direction,
    /// First packet of the question.
    pub start: Timestamp,
    /// First packet of the answer.
    pub answer: Option<Timestamp>,
    /// Last packet of either.
    pub end: Timestamp,
    /// Last packet of what was said before, or `start` if it is the first.
    pub before: Timestamp,
    /// Payload bytes of the question.
    pub asked: u64,
    /// Payload bytes of the answer.
    pub answered: u64,
}

impl Exchange {
    const fn new(number: u32, turn: &Turn, before: Timestamp) -> Self {
        Self {
            number,
            asker: turn.direction,
            start: turn.start,
            answer: None,
            end: turn.end,
            before,
            asked: turn.bytes,
            answered: 0,
        }
    }

    /// Silence before it.
    pub fn pause(&self) -> Duration {
        self.start.since(self.before)
    }

    /// Whether there was an answer.
    pub const fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Payload bytes that an end said.
    pub fn said(&self, end: Direction) -> u64 {
        if end == self.asker {
            self.asked
        } else {
            self.answered
        }
    }

    /// Goes on with a turn, or says that it begins another exchange.
    fn take(&mut self, turn: &Turn) -> bool {
        let silence = turn.start.since(self.end);
        let bytes = match (turn.direction == self.asker, self.answer) {
            (true, None) if silence <= PAUSE => &mut self.asked,
            (false, Some(_)) if silence <= PAUSE => &mut self.answered,
            (false, None) if silence <= PATIENCE => {
                self.answer = Some(turn.start);
                &mut self.answered
            }
            _ => return false,
        };
        *bytes = bytes.saturating_add(turn.bytes);
        self.end = self.end.max(turn.end);
        true
    }
}

/// A conversation's exchange that is still going on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Dialogue(Option<Exchange>);

impl Dialogue {
    /// Goes on with a turn. Gives the exchange that it ends, if it ends one.
    pub fn take(&mut self, turn: &Turn) -> Option<Exchange> {
        let Some(current) = &mut self.0 else {
            self.0 = Some(Exchange::new(0, turn, turn.start));
            return None;
        };
        if current.take(turn) {
            return None;
        }
        let next = Exchange::new(current.number.saturating_add(1), turn, current.end);
        self.0.replace(next)
    }

    /// The conversation is over: the exchange that was going on.
    pub const fn finish(&mut self) -> Option<Exchange> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Direction::{Orig, Resp};

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    fn turn(direction: Direction, start: f64, end: f64, bytes: u64) -> Turn {
        Turn {
            direction,
            start: at(start),
            end: at(end),
            packets: 1,
            bytes,
            smallest: bytes as u32,
            largest: bytes as u32,
        }
    }

    fn exchanges(turns: &[Turn]) -> Vec<Exchange> {
        let mut dialogue = Dialogue::default();
        let mut told: Vec<_> = turns
            .iter()
            .filter_map(|turn| dialogue.take(turn))
            .collect();
        told.extend(dialogue.finish());
        told
    }

    #[test]
    fn questions_are_told_with_their_answers() {
        let told = exchanges(&[
            turn(Orig, 0.0, 0.1, 100),
            turn(Resp, 0.2, 0.3, 900),
            // Asked at once, answered late.
            turn(Orig, 0.31, 0.31, 50),
            turn(Resp, 3.0, 3.0, 10),
            // Now the other end asks.
            turn(Resp, 9.0, 9.0, 7),
            turn(Orig, 9.1, 9.1, 70),
        ]);
        let shape: Vec<_> = told
            .iter()
            .map(|one| (one.asker, one.asked, one.answered, one.pause().as_millis()))
            .collect();
        assert_eq!(
            shape,
            [(Orig, 100, 900, 0), (Orig, 50, 10, 10), (Resp, 7, 70, 6000)]
        );
    }

    #[test]
    fn what_is_repeated_without_an_answer_is_asked_anew() {
        let told = exchanges(&[
            turn(Orig, 0.0, 0.0, 9),
            turn(Orig, 10.0, 10.0, 9),
            turn(Orig, 20.0, 20.0, 9),
        ]);
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|one| !one.is_answered()));
    }

    #[test]
    fn a_transfer_told_in_pieces_is_one_question() {
        let told = exchanges(&[
            turn(Orig, 0.0, 5.0, 1 << 20),
            turn(Orig, 5.1, 9.0, 1 << 20),
            turn(Resp, 9.1, 9.1, 5),
        ]);
        assert_eq!((told.len(), told[0].asked), (1, 2 << 20));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(turns in prop::collection::vec((any::<bool>(), 0.0..30.0_f64, 1..5000_u64), 1..60)) {
            let mut now = 0.0;
            let turns: Vec<Turn> = turns.into_iter().map(|(orig, pause, bytes)| {
                now += pause;
                turn(if orig { Orig } else { Resp }, now, now, bytes)
            }).collect();
            let told = exchanges(&turns);
            for end in [Orig, Resp] {
                let said: u64 = turns.iter().filter(|turn| turn.direction == end).map(|turn| turn.bytes).sum();
                prop_assert_eq!(told.iter().map(|one| one.said(end)).sum::<u64>(), said);
            }
            prop_assert!(told.iter().zip(0..).all(|(one, number)| one.number == number));
            prop_assert!(told.is_sorted_by_key(|one| one.start));
        }
    }
}
