//! Turns of a conversation: who spoke, from when to when, and how much.
//!
//! One primitive for everything that is told by timing and size alone: who asks and who answers, keystrokes, polling,
//! bulk, and whether one flow's words come out of another. A turn is a run of payload in one direction; it ends when the
//! other end speaks, after a pause, or when it has grown long, so that a transfer that nobody interrupts is told in
//! pieces while it goes on. The pause is the 0.5 s of Zhang and Paxson, "Detecting Stepping Stones" (USENIX Security
//! 2000).

use std::time::Duration;

use super::Direction;
use crate::time::Timestamp;

/// Silence after which a speaker begins anew.
const PAUSE: Duration = Duration::from_millis(500);
/// A turn is told at the latest when it has lasted this long,
const LONGEST: Duration = Duration::from_secs(5);
/// or carried this many bytes.
const LARGEST: u64 = 1 << 20;

/// A run of payload in one direction. Repeated bytes don't count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Who spoke.
    pub direction: Direction,
    /// First packet with payload.
    pub start: Timestamp,
    /// Last packet with payload.
    pub end: Timestamp,
    /// Packets with payload.
    pub packets: u32,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload bytes of the packet with the fewest (of those with any).
    pub smallest: u32,
    /// Payload bytes of the packet with the most; more than a frame holds where segments were coalesced by the host.
    pub largest: u32,
}

impl Turn {
    /// The turn that a packet with payload begins.
    pub const fn new(direction: Direction, time: Timestamp, bytes: u32) -> Self {
        Self {
            direction,
            start: time,
            end: time,
            packets: 1,
            bytes: bytes as u64,
            smallest: bytes,
            largest: bytes,
        }
    }

    /// Goes on with a packet, or says that it belongs to the next turn.
    pub fn take(&mut self, direction: Direction, time: Timestamp, bytes: u32) -> bool {
        if direction != self.direction
            || time > self.end.after(PAUSE)
            || time > self.start.after(LONGEST)
            || self.bytes >= LARGEST
        {
            return false;
        }
        self.end = self.end.max(time);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
        self.smallest = self.smallest.min(bytes);
        self.largest = self.largest.max(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    #[test]
    fn a_turn_ends_when_the_other_speaks_or_after_a_pause() {
        let mut turn = Turn::new(Direction::Orig, at(1.0), 10);
        assert!(turn.take(Direction::Orig, at(1.4), 30));
        assert!(!turn.take(Direction::Resp, at(1.45), 5));
        assert!(!turn.take(Direction::Orig, at(2.0), 5));
        assert_eq!((turn.packets, turn.bytes), (2, 40));
        assert_eq!((turn.smallest, turn.largest), (10, 30));
        assert_eq!(turn.end, at(1.4));
    }

    #[test]
    fn a_long_or_large_turn_is_told_in_pieces() {
        let mut turn = Turn::new(Direction::Resp, at(0.0), 1);
        let mut secs = 0.0;
        while turn.take(Direction::Resp, at(secs), 1) {
            secs += 0.25;
        }
        assert!(secs > 5.0 && secs < 6.0);

        let mut turn = Turn::new(Direction::Resp, at(0.0), 65_000);
        while turn.take(Direction::Resp, at(0.1), 65_000) {}
        assert!(turn.bytes >= LARGEST && turn.bytes < LARGEST + 65_000);
    }

    #[test]
    fn a_stamp_out_of_order_does_not_shorten_a_turn() {
        let mut turn = Turn::new(Direction::Orig, at(3.0), 1);
        assert!(turn.take(Direction::Orig, at(2.9), 1));
        assert_eq!((turn.start, turn.end), (at(3.0), at(3.0)));
    }
}
