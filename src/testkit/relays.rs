//! Conversations through relays, and the ordinary business of pods, as sizes and times alone: how often are relays found,
//! and how often is a pair of connections taken for one?
//!
//! Made without packets, so that tens of thousands of pairs take seconds. The conversations go through the same turns,
//! exchanges, passages and coupling as captured ones.

use std::time::Duration;

use super::rng::Rng;
use crate::features::{Coupling, Passage, Passages};
use crate::flow::{Dialogue, Direction, Turn};
use crate::time::Timestamp;

use Direction::{Orig, Resp};

/// What is done through a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Queries to a database, one connection.
    Queries,
    /// Queries over several short connections.
    Sessions,
    /// Somebody types; keys are echoed.
    Typing,
    /// A few large answers.
    Download,
    /// A few large questions.
    Upload,
}

/// What a relay does to what passes.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It holds everything back by up to this; whether always by as much.
    pub delay: (Duration, bool),
    /// It reads and writes in pieces of its own.
    pub rechunk: bool,
    /// It wraps what passes on one leg, as TLS does.
    pub wrap: bool,
    /// Share of noise that it adds to the wrapped leg, in percent.
    pub chaff: u64,
    /// The pod goes on with its own work meanwhile, with the same server too.
    pub load: bool,
}

/// Something said: when, by whom, how many bytes.
type Said = (Duration, Direction, u64);

/// One connection of a pod: which of its sides it belongs to, which end the pod is, and what was said.
struct Line {
    side: usize,
    pod: Direction,
    said: Vec<Said>,
}

/// Bits that sizes tell for each pair of sides of a pod.
struct Judged {
    sides: (usize, usize),
    bits: f64,
}

/// How many pairs of connections were taken for relays, of how many.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rate {
    /// Taken for a relay.
    pub found: u64,
    /// Looked at.
    pub of: u64,
}

impl Rate {
    /// The share.
    pub fn share(&self) -> f64 {
        self.found as f64 / self.of.max(1) as f64
    }

    const fn count(&mut self, found: bool) {
        self.of += 1;
        self.found += found as u64;
    }
}

/// Kinds of work that pods do.
const KINDS: u64 = 6;
const FRONT: usize = 0;
const BACK: usize = 1;

/// One relay at work. Whether it was found, with `bits` as the least that sizes must tell; `benign` counts the other pairs.
pub fn relay(rng: &mut Rng, what: Use, manner: &Manner, bits: f64, benign: &mut Rate) -> bool {
    let mut lines = Vec::new();
    let connections = if what == Use::Sessions { 5 } else { 1 };
    let mut begins = Duration::from_secs(rng.within(5..30));
    for _ in 0..connections {
        let (front, back, ends) = passed_on(rng, what, manner, begins);
        lines.push(Line {
            side: FRONT,
            pod: Resp,
            said: front,
        });
        lines.push(Line {
            side: BACK,
            pod: Orig,
            said: back,
        });
        begins = ends + rng.pause(Duration::from_secs(3));
    }
    if manner.load {
        lines.extend(business(rng, 3));
        // The pod asks the relay's target on its own account.
        let mut own = Vec::new();
        chat(rng, &mut own, Duration::from_secs(2), 25, ORDINARY);
        lines.push(Line {
            side: BACK,
            pod: Orig,
            said: own,
        });
    }
    let mut found = false;
    for judged in judge(lines) {
        if judged.sides == (FRONT, BACK) {
            found |= judged.bits >= bits;
        } else {
            benign.count(judged.bits >= bits);
        }
    }
    found
}

/// A pod's ordinary work: how many of its pairs of connections are taken for a relay.
pub fn ordinary(rng: &mut Rng, bits: f64, benign: &mut Rate) {
    let kind = rng.below(KINDS);
    for judged in judge(business(rng, kind)) {
        benign.count(judged.bits >= bits);
    }
}

/// Sizes of questions and of answers, as least and most of what is spread evenly over their logarithm.
type Sizes = ((u64, u64), (u64, u64));
const ORDINARY: Sizes = ((40, 400), (60, 12_000));

fn spread(rng: &mut Rng, (least, most): (u64, u64)) -> u64 {
    let share = rng.below(1 << 20) as f64 / f64::from(1 << 20);
    let (low, high) = ((least as f64).ln(), (most as f64).ln());
    (low + (high - low) * share).exp() as u64
}

/// Questions and answers in turn. Gives the time of the end.
fn chat(rng: &mut Rng, said: &mut Vec<Said>, from: Duration, times: u64, sizes: Sizes) -> Duration {
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
fn script(rng: &mut Rng, what: Use) -> Vec<(Duration, Direction, u64)> {
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
fn passed_on(
    rng: &mut Rng,
    what: Use,
    manner: &Manner,
    from: Duration,
) -> (Vec<Said>, Vec<Said>, Duration) {
    let (most, fixed) = manner.delay;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    // Nothing overtakes: the time of the last piece, each way.
    let mut last = [Duration::ZERO; 2];
    let mut now = from;
    let wrapped_front = rng.chance(50);
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
        let held = if fixed {
            most
        } else {
            most.mul_f64(rng.below(1001) as f64 / 1000.0)
        } + Duration::from_micros(rng.within(60..900));
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

/// What pods do all day.
fn business(rng: &mut Rng, kind: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |side, pod, said| lines.push(Line { side, pod, said });
    let ms = Duration::from_millis;
    match kind {
        // Asked, it asks a database, and answers from what it got.
        0 | 3 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            let growth = 0.3 + rng.below(300) as f64 / 100.0;
            for _ in 0..rng.within(10..60) {
                asked.push((now, Orig, spread(rng, (150, 900))));
                now += rng.about(ms(2));
                let mut got = 0;
                for _ in 0..rng.within(1..4) {
                    asks.push((now, Orig, spread(rng, (50, 300))));
                    now += rng.about(ms(2));
                    let rows = spread(rng, (80, 9000));
                    got += rows;
                    asks.push((now, Resp, rows));
                    now += rng.about(ms(1));
                }
                asked.push((now, Resp, 180 + (got as f64 * growth) as u64));
                now += rng.pause(ms(900));
            }
            line(2, Resp, asked);
            line(3, Orig, asks);
        }
        // A gateway of services: what it asks is made of what it is asked.
        1 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            for _ in 0..rng.within(10..60) {
                let question = spread(rng, (60, 2000));
                asked.push((now, Orig, question));
                now += rng.about(ms(1));
                let share = 0.2 + rng.below(250) as f64 / 100.0;
                asks.push((now, Orig, 40 + (question as f64 * share) as u64));
                now += rng.about(ms(5));
                let answer = spread(rng, (60, 8000));
                asks.push((now, Resp, answer));
                now += rng.about(ms(1));
                let share = 0.1 + rng.below(400) as f64 / 100.0;
                asked.push((now, Resp, 40 + (answer as f64 * share) as u64));
                now += rng.pause(ms(700));
            }
            line(2, Resp, asked);
            line(3, Orig, asks);
        }
        // It is probed and it probes, always alike.
        2 => {
            let (period, mine) = (rng.within(1..10), rng.within(1..10));
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let sizes = (rng.within(60..200), rng.within(80..300));
            let twins = rng.chance(50);
            let ours = if twins {
                sizes
            } else {
                (rng.within(60..200), rng.within(80..300))
            };
            for n in 0..40 {
                let (at, my) = (
                    Duration::from_secs(n * period),
                    Duration::from_secs(n * mine),
                );
                asked.extend([(at, Orig, sizes.0), (at + ms(1), Resp, sizes.1)]);
                asks.extend([(my, Orig, ours.0), (my + ms(1), Resp, ours.1)]);
            }
            line(2, Resp, asked);
            line(3, Orig, asks);
        }
        // It takes files in and puts them into a store, whole.
        4 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            for _ in 0..rng.within(3..20) {
                let file = spread(rng, (2000, 900_000));
                asked.push((now, Orig, file + spread(rng, (200, 900))));
                now += rng.about(ms(20));
                asks.push((now, Orig, file + spread(rng, (300, 900))));
                now += rng.about(ms(20));
                asks.push((now, Resp, spread(rng, (180, 400))));
                now += rng.about(ms(1));
                asked.push((now, Resp, spread(rng, (120, 900))));
                now += rng.pause(ms(2500));
            }
            line(2, Resp, asked);
            line(3, Orig, asks);
        }
        // Somebody types in it, while it talks to a database and is asked by others.
        _ => {
            let mut typed = Vec::new();
            let mut now = Duration::from_secs(1);
            for (pause, direction, bytes) in script(rng, Use::Typing) {
                now += pause;
                typed.push((now, direction, bytes));
            }
            line(2, Resp, typed);
            for (side, pod) in [(3, Orig), (4, Resp)] {
                let mut said = Vec::new();
                chat(rng, &mut said, Duration::from_secs(1), 40, ORDINARY);
                line(side, pod, said);
            }
        }
    }
    lines
}

/// What happens on a line: somebody has spoken, a question was answered, it is over.
enum Step {
    Turn(Turn),
    Exchange(Passage),
    Over,
}

/// Lays each pair of a pod's sides together, as it happens.
fn judge(lines: Vec<Line>) -> Vec<Judged> {
    let mut steps: Vec<(Timestamp, usize, Step)> = Vec::new();
    let (mut kept, mut sides) = (Vec::new(), Vec::new());
    for (number, mut line) in lines.into_iter().enumerate() {
        line.said.sort_by_key(|(time, ..)| *time);
        steps.extend(told(&line).into_iter().map(|(at, step)| (at, number, step)));
        kept.push(Passages::new(line.pod));
        sides.push(line.side);
    }
    // A line's own steps stay in their order.
    steps.sort_by_key(|(at, number, _)| (*at, *number));
    let mut judged = Pairs {
        sides,
        couplings: Vec::new(),
    };
    for (_, number, step) in steps {
        match step {
            Step::Exchange(exchange) => {
                for (other, theirs) in kept.iter().enumerate() {
                    for met in theirs.meeting(&exchange) {
                        judged.meet((number, &exchange), (other, met));
                    }
                }
                kept[number].keep(exchange);
                continue;
            }
            Step::Turn(turn) => kept[number].turn(&turn),
            Step::Over => kept[number].finish(),
        }
        for other in 0..kept.len() {
            if let Ok([mine, theirs]) = kept.get_disjoint_mut([number, other]) {
                theirs.beside(number as u32, mine, |spell, beside| {
                    judged.meet((other, &spell), (number, &beside));
                });
                mine.beside(other as u32, theirs, |spell, beside| {
                    judged.meet((number, &spell), (other, &beside));
                });
            }
        }
    }
    judged.finish()
}

struct Pairs {
    /// Of each line.
    sides: Vec<usize>,
    couplings: Vec<((usize, usize), Coupling, f64)>,
}

impl Pairs {
    fn meet(&mut self, one: (usize, &Passage), other: (usize, &Passage)) {
        let (mine, theirs) = (self.sides[one.0], self.sides[other.0]);
        let pair = (mine.min(theirs), mine.max(theirs));
        if mine == theirs {
            return;
        }
        if self.couplings.iter().all(|(known, ..)| *known != pair) {
            self.couplings.push((pair, Coupling::default(), 0.0));
        }
        let (first, second) = if mine < theirs {
            (one.1, other.1)
        } else {
            (other.1, one.1)
        };
        for (known, coupling, best) in &mut self.couplings {
            if *known == pair && coupling.add(first, second) {
                *best = best.max(coupling.strength().bits);
            }
        }
    }

    /// Every pair of sides, those that never met too.
    fn finish(self) -> Vec<Judged> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for &one in &self.sides {
            for &other in &self.sides {
                if one < other && !pairs.contains(&(one, other)) {
                    pairs.push((one, other));
                }
            }
        }
        let bits = |pair| {
            let found = self.couplings.iter().find(|(known, ..)| *known == pair);
            found.map_or(0.0, |(.., bits)| *bits)
        };
        pairs
            .into_iter()
            .map(|sides| Judged {
                sides,
                bits: bits(sides),
            })
            .collect()
    }
}

/// What a line tells, each step with when it was known.
fn told(line: &Line) -> Vec<(Timestamp, Step)> {
    let mut all = Vec::new();
    let (mut dialogue, mut turn) = (Dialogue::default(), None::<Turn>);
    let mut end = Timestamp::from_secs(0);
    let mut over = |turn: &Turn, at: Timestamp, all: &mut Vec<_>| {
        all.push((at, Step::Turn(*turn)));
        let exchange = dialogue.take(turn);
        all.extend(
            exchange
                .and_then(|one| Passage::exchange(&one, line.pod))
                .map(|one| (at, Step::Exchange(one))),
        );
    };
    for &(time, direction, bytes) in &line.said {
        let time = Timestamp::from_secs(0).after(time);
        end = end.max(time);
        let mut left = bytes;
        while left > 0 {
            let packet = left.min(64_000) as u32;
            left -= u64::from(packet);
            let goes_on = turn
                .as_mut()
                .is_some_and(|turn| turn.take(direction, time, packet));
            if !goes_on && let Some(turn) = turn.replace(Turn::new(direction, time, packet)) {
                over(&turn, time, &mut all);
            }
        }
    }
    if let Some(turn) = turn {
        over(&turn, end, &mut all);
    }
    let last = dialogue.finish();
    all.extend(
        last.and_then(|one| Passage::exchange(&one, line.pod))
            .map(|one| (end, Step::Exchange(one))),
    );
    all.push((end, Step::Over));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_and_ordinary_work_is_not_taken_for_one() {
        let mut rng = Rng::new(11);
        let (mut benign, mut relays) = (Rate::default(), Rate::default());
        for what in [Use::Queries, Use::Sessions, Use::Typing, Use::Upload] {
            for delay in [Duration::ZERO, Duration::from_secs(2)] {
                let manner = Manner {
                    delay: (delay, true),
                    rechunk: true,
                    wrap: false,
                    chaff: 0,
                    load: true,
                };
                for _ in 0..5 {
                    relays.count(relay(&mut rng, what, &manner, 6.0, &mut benign));
                }
            }
        }
        for _ in 0..200 {
            ordinary(&mut rng, 6.0, &mut benign);
        }
        assert!(relays.share() >= 0.95, "{relays:?}");
        assert!(benign.of > 200 && benign.share() <= 0.02, "{benign:?}");
    }
}
