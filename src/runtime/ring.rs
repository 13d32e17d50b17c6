//! From the capture thread to the analysis: frames in batches that go round, and several interfaces put in order of time.
//!
//! A batch is filled, sent, emptied and sent back. There are so many and no more: when all are on their way, the capture
//! thread waits, and the kernel's own buffer takes what comes meanwhile.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;

/// Bytes of a batch, and frames: where filling one costs much less than what is in it.
pub(super) const BATCH_BYTES: usize = 512 << 10;
pub(super) const BATCH_FRAMES: usize = 1024;

/// Frames of one interface, in the order of their capture.
#[derive(Debug)]
pub(super) struct Batch {
    tap: u32,
    link: LinkType,
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    time: Timestamp,
    wire_len: u32,
    start: u32,
    len: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            tap: 0,
            link: LinkType::Ethernet,
            // Grows to what its interface brings, and stays so.
            heads: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// What is pushed from here on is an interface's; the batch must be empty.
    pub(super) fn begin(&mut self, tap: u32, link: LinkType) {
        (self.tap, self.link) = (tap, link);
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }

    /// Whether a frame of that length still fits.
    pub(super) fn has_room(&self, len: usize) -> bool {
        // A frame longer than a batch goes alone.
        self.heads.is_empty()
            || self.heads.len() < BATCH_FRAMES && self.bytes.len() + len <= BATCH_BYTES
    }

    pub(super) fn push(&mut self, frame: &Frame<'_>) {
        self.heads.push(Head {
            time: frame.time,
            wire_len: frame.wire_len,
            start: self.bytes.len() as u32,
            len: frame.data.len() as u32,
        });
        self.bytes.extend_from_slice(frame.data);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    fn frame(&self, at: usize) -> Option<Frame<'_>> {
        let head = self.heads.get(at)?;
        let start = head.start as usize;
        Some(Frame {
            time: head.time,
            link: self.link,
            wire_len: head.wire_len,
            interface: self.tap,
            data: self.bytes.get(start..start + head.len as usize)?,
        })
    }
}

/// Batches that wait for those of other interfaces to be merged with.
#[derive(Debug, Default)]
pub(super) struct Merge {
    taps: Vec<Waiting>,
    /// The time of the first frame that waits, by interface, for each that has one.
    order: BinaryHeap<Reverse<(Timestamp, u32)>>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// The frame of the first batch that is next.
    next: usize,
}

impl Waiting {
    fn head(&self) -> Option<Frame<'_>> {
        self.batches.front()?.frame(self.next)
    }
}

impl Merge {
    /// Takes a batch that isn't empty.
    pub(super) fn push(&mut self, batch: Batch) {
        let (tap, index) = (batch.tap, batch.tap as usize);
        if self.taps.len() <= index {
            self.taps.resize_with(index + 1, Waiting::default);
        }
        if let Some(waiting) = self.taps.get_mut(index) {
            waiting.batches.push_back(batch);
            if waiting.batches.len() == 1
                && let Some(frame) = waiting.head()
            {
                self.order.push(Reverse((frame.time, tap)));
            }
        }
    }

    /// Hands on every frame up to `until`, in order, and gives back the batches that are through.
    pub(super) fn release(
        &mut self,
        until: Timestamp,
        mut frame: impl FnMut(&Frame<'_>),
        mut through: impl FnMut(Batch),
    ) {
        while let Some(&Reverse((time, tap))) = self.order.peek() {
            if time > until {
                return;
            }
            self.order.pop();
            // As many as come before the next interface's.
            let limit = self
                .order
                .peek()
                .map_or(until, |&Reverse((next, _))| next.min(until));
            let Some(waiting) = self.taps.get_mut(tap as usize) else {
                continue;
            };
            while let Some(head) = waiting.head() {
                if head.time > limit {
                    self.order.push(Reverse((head.time, tap)));
                    break;
                }
                frame(&head);
                waiting.next += 1;
                let batch = waiting.batches.front();
                if batch.is_some_and(|batch| waiting.next >= batch.heads.len()) {
                    waiting.next = 0;
                    if let Some(mut batch) = waiting.batches.pop_front() {
                        batch.clear();
                        through(batch);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(tap: u32, times: &[i64]) -> Batch {
        let mut batch = Batch::new();
        batch.begin(tap, LinkType::Ethernet);
        for &time in times {
            let data = [time as u8; 3];
            batch.push(&Frame {
                time: Timestamp::from_nanos(time),
                link: LinkType::Ethernet,
                wire_len: 60,
                interface: 0,
                data: &data,
            });
        }
        batch
    }

    fn released(merge: &mut Merge, until: i64) -> (Vec<(i64, u32)>, usize) {
        let (mut frames, mut free) = (Vec::new(), 0);
        merge.release(
            Timestamp::from_nanos(until),
            |frame| {
                assert_eq!(frame.data, [frame.time.nanos() as u8; 3]);
                frames.push((frame.time.nanos(), frame.interface));
            },
            |_| free += 1,
        );
        (frames, free)
    }

    #[test]
    fn several_interfaces_come_out_in_order_up_to_what_is_known() {
        let mut merge = Merge::default();
        merge.push(batch(0, &[1, 4, 9]));
        merge.push(batch(1, &[2, 3]));
        merge.push(batch(1, &[8]));
        assert_eq!(
            released(&mut merge, 4),
            (vec![(1, 0), (2, 1), (3, 1), (4, 0)], 1)
        );
        merge.push(batch(0, &[10]));
        assert_eq!(
            released(&mut merge, i64::MAX),
            (vec![(8, 1), (9, 0), (10, 0)], 3)
        );
        assert_eq!(released(&mut merge, i64::MAX), (vec![], 0));
    }

    #[test]
    fn stamps_that_go_back_keep_the_order_of_their_interface() {
        let mut merge = Merge::default();
        merge.push(batch(0, &[5, 3, 6]));
        merge.push(batch(1, &[4]));
        assert_eq!(released(&mut merge, 9).0, [(4, 1), (5, 0), (3, 0), (6, 0)]);
    }

    #[test]
    fn a_batch_is_full_by_bytes_or_by_frames_but_takes_any_first_one() {
        let mut one = batch(0, &[]);
        assert!(one.has_room(BATCH_BYTES * 2));
        one = batch(0, &vec![1; BATCH_FRAMES]);
        assert!(!one.has_room(1));
        assert!(!batch(0, &[1]).has_room(BATCH_BYTES));
    }
}
