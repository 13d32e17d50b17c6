//! Any bytes as a conversation with one dissector: it must return, and tell the same of a stream however that is cut.
//!
//! The first byte chooses the dissector by its place in the catalogue, unless `DISSECTOR` names one. Then pieces follow,
//! each with a byte that has the direction in its highest bit and a hole before the piece in the next, and a length.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spanwatch::dissect::{
    Carrier, DISSECTORS, DissectorSpec, PROBE_WINDOW, Progress, Segment, Transaction,
};
use spanwatch::flow::Direction;
use spanwatch::time::Timestamp;

static ONLY: LazyLock<Option<&'static DissectorSpec>> = LazyLock::new(|| {
    let name = std::env::var("DISSECTOR").ok()?;
    let found = DISSECTORS.iter().find(|spec| spec.name == name);
    Some(found.expect("a name in the catalogue"))
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let spec = ONLY.unwrap_or_else(|| DISSECTORS[usize::from(*choice) % DISSECTORS.len()]);
    let pieces = pieces(rest);
    let whole = run(spec, &pieces);
    if spec.carrier == Carrier::Tcp {
        let cut: Vec<Piece<'_>> = pieces.iter().flat_map(|piece| piece.cut()).collect();
        assert_eq!(run(spec, &cut), whole, "{}", spec.name);
    }
});

/// The next bytes of a direction.
#[derive(Clone, Copy)]
struct Piece<'a> {
    direction: Direction,
    gap: u32,
    data: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The same in two, at a place that depends on its content.
    fn cut(self) -> impl Iterator<Item = Self> {
        let sum: usize = self.data.iter().copied().map(usize::from).sum();
        let (head, tail) = self.data.split_at(sum % self.data.len());
        let rest = Self {
            data: tail,
            gap: if head.is_empty() { self.gap } else { 0 },
            ..self
        };
        let head = Self { data: head, ..self };
        [head, rest]
            .into_iter()
            .filter(|piece| !piece.data.is_empty())
    }
}

fn pieces(data: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let [flags, length, after @ ..] = rest {
        let (piece, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        if piece.is_empty() {
            continue;
        }
        pieces.push(Piece {
            direction: if flags & 0x80 == 0 {
                Direction::Orig
            } else {
                Direction::Resp
            },
            gap: if flags & 0x40 == 0 {
                0
            } else {
                1 << (flags & 0x1f)
            },
            data: piece,
        });
    }
    pieces
}

fn run(spec: &DissectorSpec, pieces: &[Piece<'_>]) -> (Vec<Transaction>, Progress) {
    let mut dissector = (spec.build)();
    let mut out = Vec::new();
    for piece in pieces {
        let segment = Segment {
            time: Timestamp::from_nanos(0),
            direction: piece.direction,
            orig_port: 40_000,
            resp_port: 1,
            data: piece.data,
            gap: piece.gap,
        };
        (spec.probe)(&Segment {
            data: &piece.data[..piece.data.len().min(PROBE_WINDOW)],
            ..segment
        });
        let progress = dissector.feed(&segment, &mut out);
        if progress != Progress::More {
            return (out, progress);
        }
    }
    dissector.finish(&mut out);
    (out, Progress::More)
}
