//! The packets of a while, in a block of memory that is taken once: the oldest make room for the newest.

use std::collections::VecDeque;

use super::{Excerpt, SNAPLEN};
use crate::capture::{Frame, LinkType};
use crate::flow::FlowId;
use crate::time::Timestamp;

/// Bytes of memory for each packet's description, so that there are as many as small packets fit.
const BYTES_PER_HEAD: usize = 256;

/// Packets of the last seconds or minutes, as many as fit. Nothing is allocated per packet.
#[derive(Debug)]
pub struct PacketRing {
    bytes: Vec<u8>,
    /// Where the next one goes.
    next: usize,
    heads: VecDeque<Head>,
    most: usize,
    /// The number of the next packet.
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    flow: FlowId,
    time: Timestamp,
    start: u32,
    len: u16,
    link: LinkType,
    wire_len: u32,
    interface: u32,
}

impl PacketRing {
    /// One of so many bytes, descriptions included.
    pub fn new(memory: usize) -> Self {
        let most = (memory / BYTES_PER_HEAD).max(1);
        let room = memory.saturating_sub(most * size_of::<Head>());
        Self {
            bytes: vec![0; room.clamp(SNAPLEN, u32::MAX as usize)],
            next: 0,
            heads: VecDeque::with_capacity(most),
            most,
            number: 0,
        }
    }

    /// Takes a packet, in place of the oldest.
    pub fn push(&mut self, frame: &Frame<'_>, flow: FlowId) {
        let data = frame.data.get(..SNAPLEN).unwrap_or(frame.data);
        if self.next + data.len() > self.bytes.len() {
            // What lies in the rest is the oldest there is.
            self.forget(self.next, self.bytes.len());
            self.next = 0;
        }
        let (start, end) = (self.next, self.next + data.len());
        self.forget(start, end);
        if self.heads.len() >= self.most {
            self.heads.pop_front();
        }
        let Some(place) = self.bytes.get_mut(start..end) else {
            return;
        };
        place.copy_from_slice(data);
        self.next = end;
        self.number += 1;
        self.heads.push_back(Head {
            flow,
            time: frame.time,
            start: start as u32,
            len: data.len() as u16,
            link: frame.link,
            wire_len: frame.wire_len,
            interface: frame.interface,
        });
    }

    /// Gives up the oldest packets as long as they begin there.
    fn forget(&mut self, start: usize, end: usize) {
        let begins = |head: &Head| (start..end).contains(&(head.start as usize));
        while self.heads.front().is_some_and(begins) {
            self.heads.pop_front();
        }
    }

    /// Adds to an excerpt the packets of its flows that came since this was last asked.
    pub fn search(&self, excerpt: &mut Excerpt) {
        let oldest = self.number - self.heads.len() as u64;
        let skip = excerpt.searched.saturating_sub(oldest) as usize;
        for head in self.heads.iter().skip(skip) {
            let start = head.start as usize;
            let data = self.bytes.get(start..start + usize::from(head.len));
            let frame = Frame {
                time: head.time,
                link: head.link,
                wire_len: head.wire_len,
                interface: head.interface,
                data: data.unwrap_or_default(),
            };
            excerpt.push(&frame, head.flow);
        }
        excerpt.searched = self.number;
    }

    #[cfg(test)]
    fn held(&self) -> Vec<(u64, Vec<u8>)> {
        let held = self.heads.iter().map(|head| {
            let start = head.start as usize;
            let end = start + usize::from(head.len);
            (head.flow.0, self.bytes[start..end].to_vec())
        });
        held.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut PacketRing, number: u64, len: usize) {
        let data = vec![number as u8; len];
        let frame = Frame {
            time: Timestamp::from_secs(number as i64),
            link: LinkType::Ethernet,
            wire_len: len as u32,
            interface: 0,
            data: &data,
        };
        ring.push(&frame, FlowId(number));
    }

    #[test]
    fn the_newest_packets_are_whole_whatever_their_lengths() {
        let mut ring = PacketRing::new(1 << 16);
        let (room, heads) = (ring.bytes.len(), ring.heads.capacity());
        // Lengths that don't divide the room, cut ones and empty ones among them.
        for number in 0..5000_u64 {
            push(&mut ring, number, (number * number % 2500) as usize);
            let held = ring.held();
            let newest = held.last().unwrap();
            assert_eq!(newest.0, number);
            for (place, (flow, data)) in held.iter().enumerate() {
                assert_eq!(*flow, number + 1 - (held.len() - place) as u64);
                assert!(data.iter().all(|&byte| byte == *flow as u8), "{flow}");
                assert_eq!(data.len(), SNAPLEN.min((flow * flow % 2500) as usize));
            }
        }
        // Of the memory at most what one packet takes lies idle.
        let used: usize = ring.held().iter().map(|(_, data)| data.len()).sum();
        assert!(used + 3 * SNAPLEN > room, "{used} of {room}");
        assert_eq!((ring.bytes.len(), ring.heads.capacity()), (room, heads));
    }

    #[test]
    fn tiny_packets_are_bounded_too() {
        let mut ring = PacketRing::new(1 << 16);
        for number in 0..10_000 {
            push(&mut ring, number, 1);
        }
        assert_eq!(ring.held().len(), ring.most);
    }
}
