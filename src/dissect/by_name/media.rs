//! Real-time media (RFC 3550): known by packets that follow one another, for the first alone is one of three hundred random
//! datagrams.

use super::super::{
    Both, Dissector, Opening, PROBE_WINDOW, Progress, Segment, ShellMarks, Transaction,
};

/// Packets lost or late that are thought nothing of.
const MAX_STEP: u16 = 32;
/// Datagrams after which it would have shown.
const PATIENCE: u8 = 8;

/// Looks for two packets of one source, one after the other.
#[derive(Default)]
pub(super) struct Rtp {
    latest: Both<Option<Head>>,
    first: Option<Opening>,
    seen: u8,
    sure: bool,
}

#[derive(Clone, Copy)]
struct Head {
    number: u16,
    time: u32,
    source: u32,
}

impl Head {
    fn read(data: &[u8]) -> Option<Self> {
        let &[first, _, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3] = data.first_chunk()?;
        (first >> 6 == 2).then_some(Self {
            number: u16::from_be_bytes([n0, n1]),
            time: u32::from_be_bytes([t0, t1, t2, t3]),
            source: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    const fn follows(self, earlier: Self) -> bool {
        let step = self.number.wrapping_sub(earlier.number);
        let later = self.time.wrapping_sub(earlier.time) < 1 << 31;
        self.source == earlier.source && step >= 1 && step <= MAX_STEP && later
    }
}

impl Dissector for Rtp {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if self.first.is_none() {
            let text = segment.data.get(..PROBE_WINDOW).unwrap_or(segment.data);
            let marks = ShellMarks::of(text);
            self.first = Some(Opening::new(segment.direction, segment.data, marks));
        }
        let head = Head::read(segment.data);
        let earlier = std::mem::replace(self.latest.of(segment.direction), head);
        if let (Some(head), Some(earlier)) = (head, earlier)
            && head.follows(earlier)
        {
            self.sure = true;
            return Progress::Done;
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen >= PATIENCE {
            self.finish(out);
            return Progress::Done;
        }
        Progress::More
    }

    fn confirmed(&self) -> bool {
        self.sure
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        if !self.sure {
            out.extend(self.first.take().map(Transaction::Opening));
        }
    }
}
