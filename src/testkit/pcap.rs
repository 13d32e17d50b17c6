//! Frames to the bytes of a classic pcap file: microseconds, Ethernet, little-endian.
//!
//! Frames may come in any order within what has not been written yet; they leave in order of time, and in order of
//! coming where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Timestamp;

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const LINKTYPE_ETHERNET: u32 = 1;
const SNAPLEN: u32 = 262_144;

/// A capture file in the making.
#[derive(Debug)]
pub struct Recording {
    waiting: BinaryHeap<Reverse<(Timestamp, u64, Vec<u8>)>>,
    file: Vec<u8>,
    taken: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Recording {
    /// An empty capture with room for a file of `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut file = Vec::with_capacity(bytes.max(24));
        file.extend_from_slice(&MAGIC_MICROSECONDS.to_le_bytes());
        file.extend_from_slice(&2_u16.to_le_bytes());
        file.extend_from_slice(&4_u16.to_le_bytes());
        // Time zone and accuracy: always zero.
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&SNAPLEN.to_le_bytes());
        file.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        Self {
            waiting: BinaryHeap::new(),
            file,
            taken: 0,
        }
    }

    /// Takes a frame.
    pub fn push(&mut self, time: Timestamp, frame: Vec<u8>) {
        self.waiting.push(Reverse((time, self.taken, frame)));
        self.taken += 1;
    }

    /// Frames taken so far.
    pub const fn frames(&self) -> u64 {
        self.taken
    }

    /// Writes the frames before `time`, after which no earlier frame may come.
    pub fn write_until(&mut self, time: Timestamp) {
        while let Some(Reverse((next, ..))) = self.waiting.peek()
            && *next < time
        {
            self.write_next();
        }
    }

    /// The whole file.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.waiting.is_empty() {
            self.write_next();
        }
        self.file
    }

    fn write_next(&mut self) {
        let Some(Reverse((time, _, frame))) = self.waiting.pop() else {
            return;
        };
        let micros = u64::try_from(time.nanos() / 1_000).expect("captures begin after 1970");
        let (secs, micros) = ((micros / 1_000_000) as u32, (micros % 1_000_000) as u32);
        let len = u32::try_from(frame.len()).expect("a frame is smaller than 4 GiB");
        for word in [secs, micros, len, len] {
            self.file.extend_from_slice(&word.to_le_bytes());
        }
        self.file.extend_from_slice(&frame);
    }
}

/// The records of a capture made here: time and frame.
///
/// # Panics
/// If the bytes are not a whole capture in this module's form.
pub fn records(file: &[u8]) -> impl Iterator<Item = (Timestamp, &[u8])> {
    let mut rest = file.get(24..).expect("a pcap header");
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (head, tail) = rest.split_at(16);
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let time = Timestamp::from_secs_nanos(i64::from(word(0)), word(4) * 1_000);
        let (frame, next) = tail.split_at(word(8) as usize);
        rest = next;
        Some((time, frame))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_by_time_then_by_coming() {
        let mut recording = Recording::default();
        for (secs, byte) in [(5, 1), (3, 2), (5, 3), (4, 4)] {
            recording.push(Timestamp::from_secs(secs), vec![byte]);
        }
        let file = recording.finish();
        let order: Vec<u8> = records(&file).map(|(_, frame)| frame[0]).collect();
        assert_eq!(order, [2, 4, 1, 3]);
    }

    #[test]
    fn writing_early_gives_the_same_file() {
        let (mut at_once, mut early) = (Recording::default(), Recording::default());
        for second in 0..10 {
            for recording in [&mut at_once, &mut early] {
                recording.push(Timestamp::from_secs(second + 5), vec![1; 3]);
                recording.push(Timestamp::from_secs(second), vec![2; 2]);
            }
            early.write_until(Timestamp::from_secs(second));
        }
        assert_eq!(at_once.finish(), early.finish());
    }

    #[test]
    fn header_and_record_have_the_documented_form() {
        let mut recording = Recording::default();
        recording.push(Timestamp::from_secs_nanos(1, 2_999), vec![0xaa]);
        let file = recording.finish();
        let expected = [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0,
            0, // file header
            1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xaa, // one record
        ];
        assert_eq!(file, expected);
    }
}
