//! Cuts one direction of a stream into messages that say their length first. Keeps no more of each than was asked for.

use std::borrow::Cow;

use super::buffer;

/// What a message's header promises.
pub(super) struct Plan {
    /// How many first bytes to hand over in one piece, header included; no more than `total`.
    pub(super) keep: usize,
    /// The message's length, header included.
    pub(super) total: u64,
    /// Whether it is of the kind that comes in masses (rows) and costs next to nothing.
    pub(super) mass: bool,
}

/// What came of looking for the next message.
pub(super) enum Step<'a> {
    /// Its first bytes.
    Message(Cow<'a, [u8]>),
    /// Not enough of it is here.
    More,
    /// The header makes no sense.
    Bad,
}

/// One direction. The rest of a message is passed over after its first bytes were handed over.
#[derive(Default)]
pub(super) struct Frames {
    /// A message's first bytes, if they didn't come in one piece.
    held: Vec<u8>,
    /// Bytes still to pass over.
    left: u64,
    skipped: u64,
}

/// The most that a plan may keep.
pub(super) const MAX_KEEP: usize = 16 * 1024;

impl Frames {
    /// Takes the next message from the front of `data`. `plan` reads a header of `header` bytes.
    pub(super) fn next<'a>(
        &mut self,
        data: &mut &'a [u8],
        header: usize,
        plan: impl Fn(&[u8]) -> Option<Plan>,
    ) -> Step<'a> {
        let over = usize::try_from(self.left).unwrap_or(usize::MAX);
        let passed = take(data, over).len() as u64;
        self.left = self.left.saturating_sub(passed);
        self.skipped = self.skipped.saturating_add(passed);
        loop {
            let at_hand = if self.held.is_empty() {
                *data
            } else {
                &self.held[..]
            };
            let known = match at_hand.get(..header) {
                Some(head) => match plan(head) {
                    Some(plan) => Some(plan),
                    None => return Step::Bad,
                },
                None => None,
            };
            let keep = known.as_ref().map_or(header, |plan| plan.keep.max(header));
            if let Some(plan) = known
                && at_hand.len() >= keep
            {
                let message = if self.held.is_empty() {
                    Cow::Borrowed(take(data, keep))
                } else {
                    Cow::Owned(std::mem::take(&mut self.held))
                };
                let kept = message.len() as u64;
                self.left = plan.total.saturating_sub(kept);
                if plan.mass {
                    self.skipped = self.skipped.saturating_add(kept);
                }
                return Step::Message(message);
            }
            if data.is_empty() {
                return Step::More;
            }
            let part = take(data, keep.saturating_sub(self.held.len()));
            if !buffer::append(&mut self.held, part, MAX_KEEP) {
                return Step::Bad;
            }
        }
    }

    /// The first byte at hand, for protocols whose headers differ.
    pub(super) fn first(&self, data: &[u8]) -> Option<u8> {
        let over = usize::try_from(self.left).unwrap_or(usize::MAX);
        self.held.first().or_else(|| data.get(over)).copied()
    }

    /// Passes over bytes that the capture lacks. Unless they end within a message's unread rest, the next byte is taken
    /// for the first of a message, and the answer is no: if it isn't, that will show.
    pub(super) fn skip_gap(&mut self, gap: u64) -> bool {
        let known = self.held.is_empty() && gap <= self.left;
        self.left = if known {
            self.left.saturating_sub(gap)
        } else {
            0
        };
        if !known {
            self.held = Vec::new();
        }
        known
    }

    /// Bytes kept for later.
    pub(super) const fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Bytes passed over, and those of messages that come in masses.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn take<'a>(data: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
    *data = rest;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length in one byte, then as many; three of them are wanted.
    fn plan(header: &[u8]) -> Option<Plan> {
        let len = *header.first().filter(|len| **len < 200)?;
        let total = u64::from(len) + 1;
        Some(Plan {
            keep: usize::from(len).min(3) + 1,
            total,
            mass: false,
        })
    }

    fn messages(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64, bool) {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        for piece in pieces {
            let mut data = *piece;
            loop {
                match frames.next(&mut data, 1, plan) {
                    Step::Message(message) => out.push(message.into_owned()),
                    Step::More => break,
                    Step::Bad => return (out, frames.skipped(), false),
                }
            }
        }
        (out, frames.skipped(), true)
    }

    #[test]
    fn messages_are_the_same_in_any_pieces() {
        let stream = b"\x05abcde\x00\x02xy\x04wxyz";
        let expected = ["\x05abc", "\0", "\x02xy", "\x04wxy"].map(|text| text.as_bytes().to_vec());
        for size in 1..=stream.len() {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(messages(&pieces), (expected.to_vec(), 3, true));
        }
        assert_eq!(
            messages(&[b"\x01a\xff"]),
            (vec![b"\x01a".to_vec()], 0, false)
        );
    }

    #[test]
    fn a_hole_within_what_is_passed_over_costs_nothing() {
        let mut frames = Frames::default();
        let mut data: &[u8] = b"\x0aabcd";
        assert!(matches!(frames.next(&mut data, 1, plan), Step::Message(_)));
        assert!(matches!(frames.next(&mut data, 1, plan), Step::More));
        assert!(frames.skip_gap(6));
        data = b"\x01";
        assert!(matches!(frames.next(&mut data, 1, plan), Step::More));
        assert!(!frames.skip_gap(1));
        data = b"\x00";
        assert!(matches!(frames.next(&mut data, 1, plan), Step::Message(_)));
    }
}
