//! Any bytes as a conversation with one dissector: it must return, and tell the same of a stream however that is cut.
//!
//! The first byte chooses the dissector by its place in the catalogue, or recognition with whatever follows; `DISSECTOR=NAME`
//! narrows the choice to those of that name (`any` to recognition, anything unknown lists the names). Then pieces follow,
//! each with a byte that has the direction in its highest bit and a hole before the piece in the next, and a length.
//! `cargo run --features testkit --example corpus` makes seeds of captures.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spanwatch::dissect::{
    Carrier, DissectorSpec, FlowDissector, PROBE_WINDOW, Progress, Segment, Transaction, catalogue,
};
use spanwatch::flow::Direction;
use spanwatch::time::Timestamp;

/// Who gets the bytes: a dissector, or none for recognition.
type Choice = Option<&'static DissectorSpec>;

static CHOICES: LazyLock<Vec<Choice>> = LazyLock::new(|| {
    let all: Vec<Choice> = catalogue().map(Some).chain([None]).collect();
    let Ok(wanted) = std::env::var("DISSECTOR") else {
        return all;
    };
    let name = |choice: &Choice| choice.map_or("any", |spec| spec.name);
    let names: Vec<&str> = all.iter().map(name).collect();
    let chosen: Vec<Choice> = all
        .iter()
        .copied()
        .filter(|choice| name(choice) == wanted)
        .collect();
    assert!(
        !chosen.is_empty(),
        "DISSECTOR is one of {}",
        names.join(" ")
    );
    chosen
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let choice = CHOICES[usize::from(*choice) % CHOICES.len()];
    let pieces = pieces(rest);
    let whole = run(choice, &pieces);
    if choice.is_none_or(|spec| spec.carrier == Carrier::Tcp) {
        let cut: Vec<Piece<'_>> = pieces.iter().flat_map(|piece| piece.cut()).collect();
        assert_eq!(run(choice, &cut), whole, "{choice:?}");
    }
    if choice.is_none() {
        recognise(Carrier::Udp, &pieces);
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

fn segment<'a>(piece: &Piece<'a>) -> Segment<'a> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction: piece.direction,
        orig_port: 40_000,
        resp_port: 1,
        data: piece.data,
        gap: piece.gap,
    }
}

fn run(choice: Choice, pieces: &[Piece<'_>]) -> (Vec<Transaction>, Progress) {
    let Some(spec) = choice else {
        return recognise(Carrier::Tcp, pieces);
    };
    let mut dissector = (spec.build)();
    let mut out = Vec::new();
    for piece in pieces {
        let segment = segment(piece);
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

fn recognise(carrier: Carrier, pieces: &[Piece<'_>]) -> (Vec<Transaction>, Progress) {
    let mut flow = FlowDissector::new(carrier);
    let mut out = Vec::new();
    for piece in pieces {
        let progress = flow.feed(&segment(piece), &mut out);
        if progress != Progress::More {
            return (out, progress);
        }
    }
    flow.finish(&mut out);
    (out, Progress::More)
}
