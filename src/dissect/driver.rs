//! Finds out what a flow speaks, and keeps its dissector for as long as that has something to say.
//!
//! Knows the catalogue, and no protocol.

use std::fmt;

use super::{
    Both, Carrier, DISSECTORS, Dissector, DissectorSpec, LOOK_BUDGET, PATIENCE, PROBE_WINDOW,
    Probe, Progress, Segment, Transaction,
};
use crate::flow::Direction;

/// The application side of one flow: recognises the protocol, then runs its dissector.
///
/// Small while nothing is recognised and after the end; between those it holds one dissector's state.
pub struct FlowDissector {
    state: State,
    app: Option<&'static str>,
    /// Payload bytes that have taught nothing: since the flow began, or since the last transaction.
    fruitless: u32,
    carrier: Carrier,
    /// Directions whose first bytes nobody wanted.
    foreign: Both<bool>,
    gave_up: bool,
}

enum State {
    /// Nobody is certain yet.
    ///
    /// The first bytes of a stream's directions are kept where somebody is unsure of them.
    Probing(Option<Box<Both<Vec<u8>>>>),
    Following(Box<dyn Dissector>),
    Over,
}

/// What the catalogue says of a direction's first bytes.
enum Verdict {
    Certain(&'static DissectorSpec),
    Unsure,
    Foreign,
}

impl FlowDissector {
    /// For a flow of which nothing was seen yet.
    pub const fn new(carrier: Carrier) -> Self {
        Self {
            state: State::Probing(None),
            app: None,
            fruitless: 0,
            carrier,
            foreign: Both {
                orig: false,
                resp: false,
            },
            gave_up: false,
        }
    }

    /// The protocol, once its content showed it. Stays known after the end.
    pub const fn app(&self) -> Option<&'static str> {
        self.app
    }

    /// Whether a recognised flow was given up before its end: it went on as something else, or passed a bound.
    pub const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Takes the flow's next payload, and appends what it amounts to.
    ///
    /// Anything but [`Progress::More`] is final: all memory is freed, and further payload is ignored.
    pub fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let progress = match &self.state {
            State::Following(_) => self.follow(segment, out),
            State::Probing(_) => self.probe(segment, out),
            State::Over => return Progress::Done,
        };
        if progress != Progress::More {
            self.state = State::Over;
            self.gave_up = progress == Progress::Desynced;
        }
        progress
    }

    fn follow(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let State::Following(dissector) = &mut self.state else {
            return Progress::Done;
        };
        let known = out.len();
        let skipped_before = dissector.skipped();
        let progress = dissector.feed(segment, out);
        if out.len() > known {
            self.fruitless = 0;
            return progress;
        }
        let skipped = dissector.skipped().saturating_sub(skipped_before);
        self.add_fruitless((segment.data.len() as u64).saturating_sub(skipped));
        if progress == Progress::More && self.fruitless > LOOK_BUDGET {
            return Progress::Desynced;
        }
        progress
    }

    fn probe(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let State::Probing(prefixes) = &mut self.state else {
            return Progress::Done;
        };
        if *self.foreign.of(segment.direction) {
            return self.wait(segment);
        }
        // A stream is judged by the same first bytes however they were cut, so that the cuts decide nothing.
        let stream = self.carrier == Carrier::Tcp;
        let kept = prefixes
            .as_mut()
            .map(|prefixes| prefixes.of(segment.direction));
        let mut earlier = 0;
        let verdict = match kept {
            Some(prefix) if !prefix.is_empty() && segment.gap == 0 => {
                earlier = prefix.len();
                prefix.extend_from_slice(first(segment.data, PROBE_WINDOW.saturating_sub(earlier)));
                judge(
                    self.carrier,
                    &Segment {
                        data: prefix,
                        ..*segment
                    },
                )
            }
            _ if stream => {
                let data = first(segment.data, PROBE_WINDOW);
                judge(self.carrier, &Segment { data, ..*segment })
            }
            _ => judge(self.carrier, segment),
        };
        match verdict {
            Verdict::Certain(spec) => {
                let mut kept = prefixes.take();
                if let Some(kept) = &mut kept {
                    kept.of(segment.direction).truncate(earlier);
                }
                self.state = State::Following((spec.build)());
                self.app = Some(spec.name);
                self.fruitless = 0;
                self.catch_up(spec, kept, segment, out)
            }
            Verdict::Unsure => {
                if stream && earlier == 0 {
                    let data = first(segment.data, PROBE_WINDOW);
                    *prefixes.get_or_insert_default().of(segment.direction) = data.to_vec();
                }
                self.wait(segment)
            }
            Verdict::Foreign => {
                if let Some(prefixes) = prefixes {
                    *prefixes.of(segment.direction) = Vec::new();
                }
                *self.foreign.of(segment.direction) = true;
                if self.foreign.orig && self.foreign.resp {
                    return Progress::Done;
                }
                self.wait(segment)
            }
        }
    }

    /// Gives a new dissector what was kept while nobody was certain, then the segment that decided.
    fn catch_up(
        &mut self,
        spec: &DissectorSpec,
        kept: Option<Box<Both<Vec<u8>>>>,
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let kept = kept.map_or_else(Both::default, |kept| *kept);
        for (direction, data) in [(Direction::Orig, kept.orig), (Direction::Resp, kept.resp)] {
            let earlier = Segment {
                direction,
                data: &data,
                gap: 0,
                ..*segment
            };
            // Somebody else may have been unsure of the other direction: the end of something that began before the
            // capture did.
            if data.is_empty() || (spec.probe)(&earlier) == Probe::NotForUs {
                continue;
            }
            let progress = self.follow(&earlier, out);
            if progress != Progress::More {
                return progress;
            }
        }
        self.follow(&Segment { gap: 0, ..*segment }, out)
    }

    /// Goes on looking, unless enough was seen of a flow that nobody wants.
    fn wait(&mut self, segment: &Segment<'_>) -> Progress {
        self.add_fruitless(segment.data.len() as u64);
        if self.fruitless > PATIENCE {
            Progress::Done
        } else {
            Progress::More
        }
    }

    fn add_fruitless(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.fruitless = self.fruitless.saturating_add(bytes);
    }
}

impl fmt::Debug for FlowDissector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowDissector")
            .field("carrier", &self.carrier)
            .field("app", &self.app)
            .field("gave_up", &self.gave_up)
            .finish_non_exhaustive()
    }
}

/// Asks the catalogue, in its order: who comes later must wait for who is unsure.
fn judge(carrier: Carrier, window: &Segment<'_>) -> Verdict {
    let last_word = carrier == Carrier::Tcp && window.data.len() >= PROBE_WINDOW;
    for spec in DISSECTORS.iter().filter(|spec| spec.carrier == carrier) {
        match (spec.probe)(window) {
            Probe::Certain => return Verdict::Certain(spec),
            Probe::Unsure if !last_word => return Verdict::Unsure,
            Probe::Unsure | Probe::NotForUs => {}
        }
    }
    Verdict::Foreign
}

fn first(data: &[u8], len: usize) -> &[u8] {
    data.get(..len).unwrap_or(data)
}

#[cfg(test)]
mod tests;
