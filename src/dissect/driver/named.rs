//! A flow of which nothing but a name was read: whether it goes on as a protocol that can be.
//!
//! A name is had for a few bytes of one end, so it must not hide the rest. The other end's first bytes are judged as those
//! of any flow, unless they fit the name. Later turns, up to [`MAX_TURNS`], are asked for the marks that stand
//! nowhere by chance. Where it goes on as TLS, as many a protocol does in its course, it keeps its name.

use super::super::http1::HTTP1;
use super::super::http2::HTTP2;
use super::super::ssh::SSH;
use super::super::tls::TLS;
use super::{DISSECTORS, DissectorSpec, PROBE_WINDOW, Probe, Segment, first};
use crate::flow::Direction;

/// Turns after the one that gave the name.
const MAX_TURNS: u8 = 6;

/// What later turns are asked for.
const UNMISTAKABLE: [&DissectorSpec; 4] = [&TLS, &SSH, &HTTP2, &HTTP1];

/// A named flow.
pub(super) struct Named {
    name: &'static DissectorSpec,
    /// Who speaks.
    turn: Direction,
    /// How many turns there were since the name.
    turns: u8,
    /// The turn's first bytes, at most [`PROBE_WINDOW`].
    head: Vec<u8>,
    /// Whether they were asked what they are.
    judged: bool,
}

/// What came of looking further.
pub(super) enum Further {
    /// Nothing so far.
    Waits,
    /// It goes on as this, with these bytes before the segment.
    As(&'static DissectorSpec, Vec<u8>),
    /// It goes on as TLS, likewise.
    StartTls(Vec<u8>),
}

impl Named {
    /// Named by what `by` has said, that begins with `head`.
    pub(super) const fn new(name: &'static DissectorSpec, by: Direction, head: Vec<u8>) -> Self {
        Self {
            name,
            turn: by,
            turns: 0,
            head,
            judged: true,
        }
    }

    /// Whether the other end hasn't said enough yet to be judged.
    pub(super) const fn is_open(&self) -> bool {
        match self.turns {
            0 => true,
            1 => !self.judged,
            _ => false,
        }
    }

    /// Who speaks, and the first bytes of what is said in this turn.
    pub(super) fn turn(&self) -> (Direction, &[u8]) {
        (self.turn, &self.head)
    }

    /// Begins the turn that a segment belongs to, if it is a new one; false after the last that is looked at.
    pub(super) fn follow_turn(&mut self, segment: &Segment<'_>) -> bool {
        if segment.direction != self.turn {
            self.turn = segment.direction;
            self.turns = self.turns.saturating_add(1);
            self.head.clear();
            self.judged = false;
        } else if segment.gap > 0 {
            self.head.clear();
        }
        self.turns <= MAX_TURNS
    }

    pub(super) fn feed(&mut self, segment: &Segment<'_>) -> Further {
        let earlier = self.head.len();
        let room = PROBE_WINDOW.saturating_sub(earlier);
        self.head.extend_from_slice(first(segment.data, room));
        if self.judged {
            return Further::Waits;
        }
        let window = Segment {
            data: &self.head,
            gap: 0,
            ..*segment
        };
        let last_word = window.data.len() >= PROBE_WINDOW;
        let verdict = if self.turns > 1 {
            among(&UNMISTAKABLE, self.name, &window, last_word)
        } else if (self.name.probe)(&window) == Probe::Certain {
            Ok(None)
        } else {
            among(DISSECTORS, self.name, &window, last_word)
        };
        match verdict {
            Ok(Some(spec)) => {
                let mut before = std::mem::take(&mut self.head);
                before.truncate(earlier);
                if self.turns > 1 && spec.name == TLS.name {
                    Further::StartTls(before)
                } else {
                    Further::As(spec, before)
                }
            }
            Err(Undecided) => Further::Waits,
            Ok(None) => {
                self.judged = true;
                Further::Waits
            }
        }
    }
}

/// Somebody needs more bytes.
struct Undecided;

fn among(
    specs: &[&'static DissectorSpec],
    name: &DissectorSpec,
    window: &Segment<'_>,
    last_word: bool,
) -> Result<Option<&'static DissectorSpec>, Undecided> {
    let fitting = specs.iter().copied();
    for spec in fitting.filter(|spec| spec.carrier == name.carrier) {
        match (spec.probe)(window) {
            Probe::Certain => return Ok(Some(spec)),
            Probe::Unsure if !last_word => return Err(Undecided),
            Probe::Unsure | Probe::NotForUs => {}
        }
    }
    Ok(None)
}
