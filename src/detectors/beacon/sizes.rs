//! How much is said in each contact, and by whom: what tells an implant that asks for orders from an agent that delivers.
//!
//! Both are regular, both may be new. But who has no orders is told so in the same few bytes each time, and asks in the
//! same few bytes; an order and its outcome are the exception. Whoever delivers (metrics, lines of a log, spans) brings
//! something else each time, and all it gets is that it was received, or nothing. Whoever fetches (rates, a feed) asks
//! alike and gets something else each time. Whether a size comes again to the byte tells a question from a report of a few
//! numbers, which is nearly always as long, but not quite. An implant that pads each question by chance looks like an agent
//! that delivers: what else is odd about it must tell.

use super::super::{Evidence, Family};

/// What sizes that are always the same are worth, in each direction.
const BITS_SAME_SIZE: f64 = 2.5;
/// How often a question is to the byte as long as one before, of those that were about as long: where somebody asks for
/// orders, for implants have few ways to ask,
const ASKS_AGAIN: f64 = 0.98;
/// and where somebody reports a few numbers, or lines.
const BRINGS_AGAIN: f64 = 0.6;
/// How often it is of quite another length: an outcome,
const ASKS_OTHERWISE: f64 = 0.1;
/// and something else to report.
const BRINGS_OTHERWISE: f64 = 0.2;
/// Lengths that are free: kinds of messages.
const FREE: usize = 4;
/// So many questions count: among more of them numbers have been as long as once before, too.
const LATELY: usize = 20;
/// From so many bits on it is asking.
const FEWEST_BITS_ASKING: f64 = 4.0;
const MOST_BITS_ASKING: f64 = 10.0;
/// Sizes are about alike: names, numbers and padding differ.
const ALIKE_PART: u32 = 50;
const ALIKE_BYTES: u32 = 12;
/// From this share on they are the same as a rule; by chance less than that are,
const RULE: f64 = 0.6;
/// and this much more makes it certain.
const CERTAIN: f64 = 0.35;
/// A client that brings something else each time, and gets nothing for it: hardly one channel of orders in a thousand.
const BITS_BRINGS: f64 = -10.0;
/// What it gets differs each time, or both do: an application at work.
const BITS_WORKS: f64 = -5.0;

/// Payload bytes that a client and a server said in each contact.
#[derive(Default, Debug)]
pub(super) struct Sizes {
    /// What the client says is known to be questions: it asks for pages.
    pub(super) questions: bool,
    pub(super) asked: Vec<u32>,
    pub(super) answered: Vec<u32>,
}

/// Bits for asking in a few ways again and again, against bringing something, from the sizes of questions in their order.
fn asking_bits(sizes: &[u32]) -> f64 {
    let sizes = sizes.split_at(sizes.len().saturating_sub(LATELY)).1;
    let (mut again, mut nearly, mut otherwise) = (0_usize, 0_usize, 0_usize);
    for (at, &size) in sizes.iter().enumerate() {
        let before = || sizes.iter().take(at);
        if before().any(|&one| one == size) {
            again += 1;
        } else if before().any(|&one| one.abs_diff(size) <= alike(size)) {
            nearly += usize::from(!counts_up(sizes, size));
        } else {
            otherwise += 1;
        }
    }
    again as f64 * (ASKS_AGAIN / BRINGS_AGAIN).log2()
        + nearly as f64 * ((1.0 - ASKS_AGAIN) / (1.0 - BRINGS_AGAIN)).log2()
        + otherwise.saturating_sub(FREE) as f64 * (ASKS_OTHERWISE / BRINGS_OTHERWISE).log2()
}

/// Whether sizes about as large only grow, and seldom: by a digit of a counter.
fn counts_up(sizes: &[u32], size: u32) -> bool {
    const MOST_DIGITS: usize = 3;
    let mut near: Vec<u32> = sizes.to_vec();
    near.retain(|&one| one.abs_diff(size) <= alike(size));
    let grows = near.is_sorted();
    near.dedup();
    grows && (2..=MOST_DIGITS).contains(&near.len())
}

/// The share of sizes that are about one of the two usual ones (without orders, and with one), less the two that always
/// are; and the more usual one.
fn two_usual(sizes: &[u32]) -> (f64, u32) {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    let all = sizes.len();
    let most: Vec<u32> = sizes.drain(densest(&sizes)).collect();
    let left = sizes.len() - densest(&sizes).len();
    let share = (all - left).saturating_sub(2) as f64 / all.saturating_sub(2).max(1) as f64;
    (share, most.get(most.len() / 2).copied().unwrap_or(0))
}

fn alike(size: u32) -> u32 {
    ALIKE_BYTES.max(size / ALIKE_PART)
}

fn worth(share: f64) -> f64 {
    BITS_SAME_SIZE * ((share - RULE) / CERTAIN).clamp(0.0, 1.0)
}

impl Sizes {
    /// What they say. `inverted`: the server asks, so that what the client says are answers; `silent`: it gives none.
    pub(super) fn evidence(&self, inverted: bool, silent: bool) -> Evidence {
        let (asked, question) = two_usual(&self.asked);
        let (answered, answer) = two_usual(&self.answered);
        // Where the server began, the client may have had nothing to say.
        let questions: Vec<u32> = self.asked.iter().copied().filter(|&one| one > 0).collect();
        let asking = if self.questions && asked >= RULE {
            MOST_BITS_ASKING
        } else if questions.is_empty() {
            0.0
        } else {
            asking_bits(&questions)
        };
        let asks = asking >= FEWEST_BITS_ASKING;
        let (bits, what) = if silent {
            (0.0, "the called end speaks, the client never does")
        } else if inverted {
            (worth(asked) + worth(answered), "the called end asks")
        } else if answered < RULE && asks {
            (BITS_WORKS, "it fetches something else each time")
        } else if answered < RULE {
            (BITS_WORKS, "both say something else each time")
        } else if asks {
            let what = "it asks to the byte alike, and mostly there is nothing for it";
            (asking.min(BITS_SAME_SIZE) + worth(answered), what)
        } else {
            let what = "it brings something, and gets nothing for it";
            (BITS_BRINGS, what)
        };
        let percent = |share: f64| (share * 100.0).round();
        Evidence {
            feature: "contact.same_size",
            family: Family::Volume,
            observed: (asked * 1000.0).round() / 1000.0,
            expected: "requests of different lengths, or answers".into(),
            bits,
            signature_grade: false,
            text: format!(
                "{} % of the contacts send about one of two lengths (mostly {question} bytes), {} % get about one of two (mostly {answer}): {what}",
                percent(asked),
                percent(answered),
            ),
        }
    }
}

/// Where most of some sorted sizes lie together.
fn densest(sizes: &[u32]) -> std::ops::Range<usize> {
    let mut best = 0..0;
    let mut low = 0;
    for (high, &size) in sizes.iter().enumerate() {
        while sizes
            .get(low)
            .is_some_and(|&least| size - least > alike(size))
        {
            low += 1;
        }
        if high + 1 - low > best.len() {
            best = low..high + 1;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::rng::Rng;

    fn sizes(
        contacts: usize,
        rng: &mut Rng,
        mut contact: impl FnMut(&mut Rng) -> (u64, u64),
    ) -> Sizes {
        let mut sizes = Sizes::default();
        for _ in 0..contacts {
            let (asked, answered) = contact(rng);
            sizes.asked.push(asked as u32);
            sizes.answered.push(answered as u32);
        }
        sizes
    }

    fn bits(contact: impl FnMut(&mut Rng) -> (u64, u64)) -> f64 {
        sizes(24, &mut Rng::new(5), contact)
            .evidence(false, false)
            .bits
    }

    #[test]
    fn asking_is_told_from_bringing_and_fetching() {
        assert_eq!(bits(|_| (310, 147)), 5.0);
        assert_eq!(bits(|_| (12, 0)), 5.0, "heartbeats");
        // An order now and then, and its outcome.
        let tasked = bits(|rng| {
            if rng.chance(10) {
                (4000, 900)
            } else {
                (310, 147)
            }
        });
        assert!(tasked >= 2.0, "{tasked}");
        assert_eq!(bits(|rng| (rng.within(900..4000), 120)), BITS_BRINGS);
        assert_eq!(bits(|rng| (rng.within(180..300), 0)), BITS_BRINGS);
        assert_eq!(bits(|rng| (160, rng.within(900..9000))), BITS_WORKS);
        assert_eq!(
            bits(|rng| (rng.within(200..900), rng.within(900..9000))),
            BITS_WORKS
        );
    }

    #[test]
    fn a_few_gauges_are_seldom_taken_for_a_question() {
        let mut rng = Rng::new(7);
        for contacts in [7, 12, 24, 31] {
            let taken = (0..1000)
                .filter(|_| {
                    let gauges = sizes(contacts, &mut rng, |rng| {
                        let numbers =
                            [100, 1_100_000, 200, 20_000, 150, 1500].map(|most| rng.below(most));
                        let digits: usize = numbers.iter().map(|n| n.to_string().len()).sum();
                        (300 + digits as u64, 160)
                    });
                    gauges.evidence(false, false).bits > 0.0
                })
                .count();
            assert!(taken < 30, "{contacts}: {taken} of 1000");
        }
    }

    #[test]
    fn a_counter_in_a_question_makes_no_report_of_it() {
        let polls = |sizes: &[u32]| asking_bits(sizes) >= FEWEST_BITS_ASKING;
        let counter = [852, 852, 852, 2836, 852, 852, 853, 4492, 853, 853];
        assert!(polls(&counter));
        let numbers = [852, 853, 852, 852, 854, 852, 853, 853, 853, 853];
        assert!(!polls(&numbers));
    }

    #[test]
    fn sizes_lie_together_or_dont() {
        assert_eq!(densest(&[]), 0..0);
        assert_eq!(densest(&[10, 500, 510, 512, 900]), 1..4);
        assert_eq!(densest(&[0, 0, 12, 13]), 0..3);
        assert_eq!(two_usual(&[]).0, 0.0);
        assert_eq!(two_usual(&[7, 9000]).0, 0.0);
    }
}
