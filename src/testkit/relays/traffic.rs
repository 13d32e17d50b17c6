//! What is done through a relay, and what the relay makes of it.

use std::time::Duration;

use super::{Manner, Said, Use};
use crate::flow::Direction;
use crate::testkit::rng::Rng;

use Direction::{Orig, Resp};

/// Sizes of questions and of answers, as least and most of what is spread evenly over their logarithm.
pub(super) type Sizes = ((u64, u64), (u64, u64));
pub(super) const ORDINARY: Sizes = ((40, 400), (60, 12_000));

pub(super) fn spread(rng: &mut Rng, (least, most): (u64, u64)) -> u64 {
    let share = rng.below(1 << 20) as f64 / f64::from(1 << 20);
    let (low, high) = ((least as f64).ln(), (most as f64).ln());
    (low + (high - low) * share).exp() as u64
}

/// Questions and answers in turn. Gives the time of the end.
pub(super) fn chat(
    rng: &mut Rng,
    said: &mut Vec<Said>,
    from: Duration,
    times: u64,
    sizes: Sizes,
) -> Duration {
    let (asks, answers) = sizes;
    let mut now = from;
    for _ in 0..times {
        said.push((now, Orig, spread(rng, asks)));
        now += rng.about(Duration::from_millis(4));
        said.push((now, Resp, spread(rng, answers)));
        now += rng.pause(Duration::from_millis(800));
    }
    now
}

/// What a client does with a server, directly: who speaks, how long after what was said before.
pub(super) fn script(rng: &mut Rng, what: Use) -> Vec<(Duration, Direction, u64)> {
    let mut steps = Vec::new();
    let ms = Duration::from_millis;
    match what {
        Use::Queries | Use::Sessions => {
            let times = if what == Use::Sessions {
                rng.within(2..6)
            } else {
                rng.within(10..40)
            };
            for _ in 0..times {
                steps.push((rng.pause(ms(1200)), Orig, spread(rng, (40, 400))));
                steps.push((rng.about(ms(3)), Resp, spread(rng, (60, 30_000))));
            }
        }
        Use::Typing => {
            for _ in 0..rng.within(15..40) {
                for _ in 0..rng.within(3..16) {
                    steps.push((rng.between(ms(70), ms(350)), Orig, 36));
                    steps.push((rng.about(ms(1)), Resp, 36));
                }
                steps.push((rng.about(ms(20)), Resp, spread(rng, (60, 6000))));
                steps.push((rng.pause(ms(6000)), Orig, 36));
            }
        }
        Use::Download | Use::Upload => {
            let (little, much) = if what == Use::Download {
                (Orig, Resp)
            } else {
                (Resp, Orig)
            };
            for _ in 0..rng.within(4..9) {
                let size = spread(rng, (200_000, 9_000_000));
                let first = (little, spread(rng, (40, 300)));
                if little == Orig {
                    steps.push((rng.pause(ms(2000)), first.0, first.1));
                }
                let mut left = size;
                while left > 0 {
                    let piece = left.min(rng.within(8000..60_000));
                    steps.push((Duration::from_micros(rng.within(200..4000)), much, piece));
                    left -= piece;
                }
                if little == Resp {
                    steps.push((rng.about(ms(4)), first.0, first.1));
                    steps.push((rng.pause(ms(2000)), much, spread(rng, (40, 300))));
                    steps.push((rng.about(ms(4)), little, spread(rng, (40, 300))));
                }
            }
        }
    }
    steps
}

/// A conversation through a relay: what was said on the leg in, what on the leg out, and when it ended.
pub(super) fn passed_on(
    rng: &mut Rng,
    what: Use,
    manner: &Manner,
    wrapped_front: bool,
    from: Duration,
) -> (Vec<Said>, Vec<Said>, Duration) {
    let (most, _) = manner.delay;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    // Nothing overtakes: the time of the last piece, each way.
    let mut last = [Duration::ZERO; 2];
    let mut now = from;
    if manner.wrap {
        let hello = if wrapped_front { &mut front } else { &mut back };
        for (direction, bytes) in [(Orig, 517), (Resp, 2800), (Orig, 80)] {
            hello.push((now, direction, bytes));
            now += rng.about(Duration::from_millis(3));
        }
    }
    let steps = script(rng, what);
    let mut typed = now;
    for (at, &(pause, direction, bytes)) in steps.iter().enumerate() {
        let typing = what == Use::Typing;
        let heard = last[direction.reverse() as usize];
        if typing && direction == Resp {
            // Keys are echoed as they arrive, and meanwhile more are typed.
            now = heard + pause;
        } else if typing {
            let reads = pause > Duration::from_millis(600);
            typed = if reads { typed.max(heard) } else { typed } + pause;
            now = typed;
        } else {
            now += pause;
        }
        let (near, far) = match direction {
            Orig => (&mut front, &mut back),
            Resp => (&mut back, &mut front),
        };
        let held = manner.held(rng) + Duration::from_micros(rng.within(60..900));
        let arrives = (now + held).max(last[direction as usize] + Duration::from_micros(20));
        last[direction as usize] = arrives;
        near.push((now, direction, bytes));
        if manner.rechunk && bytes > 200 {
            let first = rng.within(1..bytes);
            far.push((arrives, direction, first));
            far.push((arrives + Duration::from_millis(2), direction, bytes - first));
        } else {
            far.push((arrives, direction, bytes));
        }
        // Who waits for an answer waits for it to come through; who types doesn't wait.
        let turns = steps.get(at + 1).is_some_and(|next| next.1 != direction);
        if turns && !typing {
            now = arrives;
        }
    }
    if manner.wrap {
        wrap(
            rng,
            if wrapped_front { &mut front } else { &mut back },
            manner.chaff,
        );
    }
    (front, back, now.max(typed) + most)
}

/// Every piece gets a record's header and tag; noise comes between.
fn wrap(rng: &mut Rng, line: &mut Vec<Said>, chaff: u64) {
    let Some((first, _, _)) = line.first().copied() else {
        return;
    };
    for (_, _, bytes) in line.iter_mut().skip(3) {
        *bytes += 22 * bytes.div_ceil(16_384);
    }
    let end = line.iter().map(|(time, ..)| *time).max().unwrap_or(first);
    let span = end.saturating_sub(first).as_millis() as u64 + 1;
    for direction in [Orig, Resp] {
        let all: u64 = line
            .iter()
            .filter(|one| one.1 == direction)
            .map(|one| one.2)
            .sum();
        let mut noise = all * chaff / 100;
        while noise > 0 {
            let piece = noise.min(rng.within(40..1400).max(all / 400));
            let at = first + Duration::from_millis(rng.below(span));
            line.push((at, direction, piece));
            noise -= piece;
        }
    }
}
