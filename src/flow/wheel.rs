//! A timer wheel over packet time: one-second ticks, entries checked when they fire.
//!
//! An entry is only a hint to look at a slot. A flow that saw packets meanwhile is put back later, so that a packet costs
//! the wheel nothing. Order is that of scheduling, so that a replay fires alike.

use crate::time::Timestamp;

/// Ticks in one turn; longer waits are clamped to it and looked at again.
const TICKS: i64 = 4096;
/// The furthest tick that can be told from the current one.
const LAST: i64 = TICKS - 1;
const TICK_NANOS: i64 = 1_000_000_000;

/// A slot to look at, valid while its generation is current.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timer {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Debug)]
pub(super) struct Wheel {
    ticks: Vec<Vec<Timer>>,
    /// The tick up to which timers have fired; `None` before the first packet.
    current: Option<i64>,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            ticks: vec![Vec::new(); TICKS as usize],
            current: None,
        }
    }

    /// Asks to be told of `timer` once time has passed `at`.
    pub(super) fn schedule(&mut self, at: Timestamp, timer: Timer) {
        let current = *self.current.get_or_insert(tick(at));
        let last = current.saturating_add(LAST);
        let due = tick(at)
            .saturating_add(1)
            .clamp(current.saturating_add(1), last);
        self.slot(due).push(timer);
    }

    /// Moves on to `now` and appends what fires to `due`.
    pub(super) fn advance(&mut self, now: Timestamp, due: &mut Vec<Timer>) {
        let target = tick(now);
        let current = *self.current.get_or_insert(target);
        if target <= current {
            return;
        }
        // After a jump of more than a turn every tick fires once.
        let first = current.saturating_add(1).max(target.saturating_sub(LAST));
        for at in first..=target {
            // Its room goes, too: every tick of a turn would keep what its busiest moment took.
            due.append(&mut std::mem::take(self.slot(at)));
        }
        self.current = Some(target);
    }

    fn slot(&mut self, tick: i64) -> &mut Vec<Timer> {
        let index = tick.rem_euclid(TICKS) as usize;
        #[expect(clippy::indexing_slicing, reason = "the remainder is below TICKS")]
        &mut self.ticks[index]
    }
}

const fn tick(time: Timestamp) -> i64 {
    time.nanos().div_euclid(TICK_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn timer(slot: u32) -> Timer {
        Timer {
            slot,
            generation: 0,
        }
    }

    fn fired(wheel: &mut Wheel, secs: i64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(Timestamp::from_secs(secs), &mut due);
        due.iter().map(|timer| timer.slot).collect()
    }

    #[test]
    fn fires_after_and_never_before() {
        let mut wheel = Wheel::new();
        assert!(fired(&mut wheel, 100).is_empty());
        wheel.schedule(Timestamp::from_secs(105), timer(1));
        wheel.schedule(Timestamp::from_secs(90), timer(2)); // already past
        assert_eq!(fired(&mut wheel, 101), [2]);
        assert!(fired(&mut wheel, 105).is_empty());
        assert_eq!(fired(&mut wheel, 106), [1]);
    }

    #[test]
    fn what_has_fired_takes_no_room() {
        let mut wheel = Wheel::new();
        for secs in 0..2 * TICKS {
            wheel.schedule(Timestamp::from_secs(secs + 5), timer(1));
            fired(&mut wheel, secs);
        }
        let room: usize = wheel.ticks.iter().map(Vec::capacity).sum();
        assert!(room <= 100, "{room}");
    }

    #[test]
    fn long_waits_are_looked_at_within_a_turn_and_jumps_fire_all() {
        let mut wheel = Wheel::new();
        assert!(fired(&mut wheel, 0).is_empty());
        wheel.schedule(Timestamp::from_secs(1_000_000), timer(1));
        assert_eq!(fired(&mut wheel, 5000), [1]);
        wheel.schedule(Timestamp::from_secs(5100), timer(2));
        assert_eq!(fired(&mut wheel, 50_000_000), [2]);
    }
}
