//! The bytes of one TCP direction in order, for those who read them.
//!
//! Policy where copies of a byte differ: as Linux has it (`tcp_data_queue_ofo`), for it is Linux that the pods' programs
//! read through. What was handed on stays. Of segments that wait, one that lies within another is dropped, the earlier or
//! the later; one that begins where another does and is longer takes its place; of those that overlap in part, the one
//! that begins first wins, whenever it came. At most [`MAX_PENDING`] wait, and within the table's budget; when there is no
//! room, or the stream ends, the hole is skipped and reported as a gap.

use crate::decode::{Tcp, TcpFlags};

/// Segments kept waiting per direction.
const MAX_PENDING: usize = 32;
/// See [`super::tcp`]: wider jumps aren't loss.
const MAX_JUMP: u32 = 1 << 30;

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Sequence number of the next byte to hand on; meaningful once `started`.
    next: u32,
    started: bool,
    /// Whether that number is an empty segment's in the middle of a connection, and nothing came since.
    supposed: bool,
    /// Bytes skipped that the next delivery has to tell of.
    gap: u32,
    /// Of most streams nothing ever waits.
    pending: Option<Box<Waiting>>,
}

/// Segments that came too early, sorted by distance from `next`.
#[derive(Debug, Default)]
struct Waiting(Vec<Pending>);

#[derive(Debug)]
struct Pending {
    seq: u32,
    data: Box<[u8]>,
    wire_len: u32,
}

impl Pending {
    /// What it takes to keep it: the bytes, its place in a list that may have grown by half too much, and the allocator's
    /// own (two words, and up to a word of padding).
    const fn cost(&self) -> usize {
        const BESIDES: usize = 2 * size_of::<Pending>() + 3 * size_of::<usize>();
        self.data.len().saturating_add(BESIDES)
    }
}

/// Bytes waiting over all streams of a table with what it takes to keep them, and how many may.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) used: usize,
    pub(super) limit: usize,
}

impl Stream {
    /// Takes a segment and hands every byte that is now in order to `deliver(gap, data)`.
    pub(super) fn push(
        &mut self,
        tcp: &Tcp,
        data: &[u8],
        wire_len: u32,
        budget: &mut Budget,
        deliver: &mut impl FnMut(u32, &[u8]),
    ) {
        let seq = if tcp.flags.any(TcpFlags::SYN) {
            tcp.seq.wrapping_add(1)
        } else {
            tcp.seq
        };
        if !self.started {
            self.started = true;
            self.next = seq;
            self.supposed = wire_len == 0 && !tcp.flags.any(TcpFlags::SYN);
        }
        if tcp.flags.any(TcpFlags::RST) {
            return;
        }
        // A keep-alive bears the number before the next byte's (RFC 1122, 4.2.3.6).
        if self.supposed && seq == self.next.wrapping_add(1) {
            self.next = seq;
        }
        if wire_len == 0 {
            return;
        }
        self.supposed = false;
        let ahead = seq.wrapping_sub(self.next);
        if ahead == 0 || ahead >= MAX_JUMP {
            self.take(seq, data, wire_len, deliver);
            self.drain(budget, deliver);
            return;
        }
        self.hold(seq, data, wire_len, budget);
        while self.waiting().len() > MAX_PENDING || budget.used > budget.limit {
            if !self.skip_hole(budget, deliver) {
                break;
            }
        }
    }

    fn waiting(&self) -> &[Pending] {
        self.pending
            .as_deref()
            .map_or(&[], |Waiting(pending)| pending)
    }

    /// Hands on what still waits; the stream is over.
    pub(super) fn flush(&mut self, budget: &mut Budget, deliver: &mut impl FnMut(u32, &[u8])) {
        while self.skip_hole(budget, deliver) {}
    }

    /// Forgets what waits: nobody reads this stream any more.
    pub(super) fn clear(&mut self, budget: &mut Budget) {
        for segment in self.waiting() {
            budget.used = budget.used.saturating_sub(segment.cost());
        }
        self.pending = None;
    }

    /// A segment that begins at or before `next`.
    fn take(&mut self, seq: u32, data: &[u8], wire_len: u32, deliver: &mut impl FnMut(u32, &[u8])) {
        let old = self.next.wrapping_sub(seq);
        if old >= MAX_JUMP {
            // Far outside: another connection's packet, or a stream that moved on unseen.
            self.next = seq;
        }
        let old = self.next.wrapping_sub(seq);
        if old >= wire_len {
            return;
        }
        self.next = seq.wrapping_add(wire_len);
        if let Some(new) = data.get(old as usize..).filter(|new| !new.is_empty()) {
            deliver(std::mem::take(&mut self.gap), new);
        }
        // Bytes cut off by the snap length.
        let cut = (wire_len as usize).saturating_sub(data.len().max(old as usize));
        self.gap = self.gap.saturating_add(cut as u32);
    }

    fn hold(&mut self, seq: u32, data: &[u8], wire_len: u32, budget: &mut Budget) {
        let next = self.next;
        // From the next byte on, numbers don't wrap: nothing that waits is that far ahead.
        let begin = |seq: u32| u64::from(seq.wrapping_sub(next));
        let span = |segment: &Pending| {
            let from = begin(segment.seq);
            (from, from.saturating_add(segment.wire_len.into()))
        };
        let (from, to) = (begin(seq), begin(seq).saturating_add(wire_len.into()));
        let Waiting(pending) = &mut **self.pending.get_or_insert_default();
        let at = pending.partition_point(|segment| begin(segment.seq) < from);
        let earlier = at.checked_sub(1).and_then(|at| pending.get(at));
        let same = pending.get(at).filter(|other| other.seq == seq);
        let covers = |other: &Pending| span(other).1 >= to;
        if earlier.is_some_and(covers) || same.is_some_and(covers) {
            return;
        }
        let covered = pending
            .iter()
            .skip(at)
            .take_while(|other| span(other).1 <= to)
            .count();
        for gone in pending.drain(at..at.saturating_add(covered)) {
            budget.used = budget.used.saturating_sub(gone.cost());
        }
        let segment = Pending {
            seq,
            data: data.into(),
            wire_len,
        };
        budget.used = budget.used.saturating_add(segment.cost());
        pending.insert(at, segment);
    }

    /// Hands on the waiting segments whose turn has come.
    fn drain(&mut self, budget: &mut Budget, deliver: &mut impl FnMut(u32, &[u8])) {
        let due = |stream: &Self| {
            stream.waiting().first().is_some_and(|first| {
                let ahead = first.seq.wrapping_sub(stream.next);
                ahead == 0 || ahead >= MAX_JUMP
            })
        };
        while due(self) {
            let Some(Waiting(pending)) = self.pending.as_deref_mut() else {
                return;
            };
            let segment = pending.remove(0);
            budget.used = budget.used.saturating_sub(segment.cost());
            self.take(segment.seq, &segment.data, segment.wire_len, deliver);
        }
    }

    /// Gives up the bytes before the first waiting segment. False if none waits.
    fn skip_hole(&mut self, budget: &mut Budget, deliver: &mut impl FnMut(u32, &[u8])) -> bool {
        let Some(&Pending { seq, .. }) = self.waiting().first() else {
            return false;
        };
        self.gap = self.gap.saturating_add(seq.wrapping_sub(self.next));
        self.next = seq;
        self.drain(budget, deliver);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(
        stream: &mut Stream,
        budget: &mut Budget,
        seq: u32,
        data: &[u8],
    ) -> Vec<(u32, Vec<u8>)> {
        let tcp = Tcp {
            src_port: 1,
            dst_port: 2,
            seq,
            ack: 0,
            flags: TcpFlags(TcpFlags::ACK),
            window: 0,
        };
        let mut out = Vec::new();
        stream.push(&tcp, data, data.len() as u32, budget, &mut |gap, data| {
            out.push((gap, data.to_vec()));
        });
        out
    }

    const fn budget() -> Budget {
        Budget {
            used: 0,
            limit: 1 << 20,
        }
    }

    #[test]
    fn reordered_segments_come_out_in_order_once() {
        let (mut stream, mut budget) = (Stream::default(), budget());
        assert_eq!(
            push(&mut stream, &mut budget, 100, b"ab"),
            [(0, b"ab".to_vec())]
        );
        assert!(push(&mut stream, &mut budget, 104, b"ef").is_empty());
        let once = budget.used;
        assert!(once > 2);
        assert!(push(&mut stream, &mut budget, 104, b"ef").is_empty());
        assert_eq!(budget.used, once);
        let out = push(&mut stream, &mut budget, 101, b"bcd");
        assert_eq!(out, [(0, b"cd".to_vec()), (0, b"ef".to_vec())]);
        assert_eq!(budget.used, 0);
    }

    #[test]
    fn a_keep_alive_in_the_middle_leaves_no_hole() {
        // Before its first byte, or before an acknowledgement that has the right number.
        for empty in [&[99][..], &[99, 100], &[100, 99], &[100]] {
            let (mut stream, mut budget) = (Stream::default(), budget());
            for &seq in empty {
                assert!(push(&mut stream, &mut budget, seq, b"").is_empty());
            }
            let out = push(&mut stream, &mut budget, 100, b"GET /");
            assert_eq!(out, [(0, b"GET /".to_vec())], "{empty:?}");
            // From then on a byte that is missing is waited for.
            assert!(push(&mut stream, &mut budget, 106, b"x").is_empty());
            let out = push(&mut stream, &mut budget, 105, b"m");
            assert_eq!(out, [(0, b"m".to_vec()), (0, b"x".to_vec())]);
        }
    }

    #[test]
    fn a_hole_is_skipped_when_too_much_waits_and_told_of() {
        let (mut stream, mut budget) = (Stream::default(), budget());
        push(&mut stream, &mut budget, 0, b"a");
        let mut out = Vec::new();
        for at in 0..=MAX_PENDING as u32 {
            out.extend(push(&mut stream, &mut budget, 11 + at, b"x"));
        }
        assert_eq!(out.len(), MAX_PENDING + 1);
        assert_eq!(out[0], (10, b"x".to_vec()));
        assert_eq!(budget.used, 0);
    }

    /// As Linux has it, whose receive queue was asked with the same segments.
    #[test]
    fn of_waiting_copies_the_one_that_begins_first_wins_or_the_longer() {
        // A hole of one byte, then these, then what fills the hole.
        type Case<'a> = (&'a [(u32, &'a [u8])], &'a [u8]);
        let cases: [Case<'_>; 6] = [
            (&[(3, b"old"), (2, b"new")], b"newd"),
            (&[(2, b"old"), (3, b"new")], b"oldw"),
            (&[(2, b"old"), (2, b"newer")], b"newer"),
            (&[(2, b"older"), (2, b"new")], b"older"),
            (&[(3, b"o"), (2, b"new")], b"new"),
            (&[(2, b"older"), (4, b"n")], b"older"),
        ];
        for (segments, expected) in cases {
            let (mut stream, mut budget) = (Stream::default(), budget());
            push(&mut stream, &mut budget, 0, b"!");
            for (seq, data) in segments {
                assert!(push(&mut stream, &mut budget, *seq, data).is_empty());
            }
            let out = push(&mut stream, &mut budget, 1, b"!");
            let bytes: Vec<u8> = out.iter().flat_map(|(_, data)| data.clone()).collect();
            assert_eq!(&bytes[1..], expected, "{segments:?}");
            assert_eq!(budget.used, 0);
        }
    }

    #[test]
    fn many_small_segments_cost_more_than_their_bytes() {
        let (mut stream, mut budget) = (Stream::default(), budget());
        push(&mut stream, &mut budget, 0, b"a");
        for at in 0..20 {
            push(&mut stream, &mut budget, 10 + 2 * at, b"x");
        }
        assert!(budget.used >= 20 * size_of::<Pending>());
        stream.clear(&mut budget);
        assert_eq!(budget.used, 0);
    }

    proptest! {
        /// Whatever the order and overlap of the pieces, the bytes come out as they are in the stream.
        #[test]
        fn any_order_gives_the_stream(
            start in any::<u32>(),
            pieces in prop::collection::vec((0u32..60, 1u32..20), 1..20),
        ) {
            let content: Vec<u8> = (0..80).collect();
            let (mut stream, mut budget) = (Stream::default(), budget());
            push(&mut stream, &mut budget, start.wrapping_sub(1), b"!");
            let mut at = 0_u32;
            let mut deliver = |out: Vec<(u32, Vec<u8>)>| {
                for (gap, data) in out {
                    at += gap;
                    prop_assert_eq!(&data[..], &content[at as usize..at as usize + data.len()]);
                    at += data.len() as u32;
                }
                Ok(())
            };
            for (offset, len) in pieces {
                let data = &content[offset as usize..(offset + len) as usize];
                deliver(push(&mut stream, &mut budget, start.wrapping_add(offset), data))?;
            }
            let mut rest = Vec::new();
            stream.flush(&mut budget, &mut |gap, data| rest.push((gap, data.to_vec())));
            deliver(rest)?;
            prop_assert_eq!(budget.used, 0);
        }
    }
}
