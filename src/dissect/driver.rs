//! Finds out what a flow speaks, and keeps its dissector for as long as that has something to say.
//!
//! Knows the catalogue, and no protocol.

use std::fmt;

mod named;

use super::{
    Both, Carrier, DISSECTORS, Dissector, DissectorSpec, LOOK_BUDGET, Opening, PATIENCE,
    PROBE_WINDOW, Probe, Progress, Segment, ShellMarks, Transaction, catalogue, tls,
};
use crate::flow::{Direction, Inspection};
use named::{Further, Named};

/// The application side of one flow: recognises the protocol, then runs its dissector.
///
/// Small while nothing is recognised and after the end; between those it holds one dissector's state.
pub struct FlowDissector {
    state: State,
    app: Option<&'static str>,
    /// Payload bytes that have taught nothing: since the flow began, or since the last transaction.
    fruitless: u32,
    carrier: Carrier,
    /// How deep inside other conversations this one is.
    depth: u8,
    /// Directions whose first bytes nobody wanted.
    foreign: Both<bool>,
    gave_up: bool,
    /// Whether the dissector knows that the flow is its own.
    confirmed: bool,
    /// Directions of which it was told that a shell's text shows in spite of the flow's name.
    shown: Both<bool>,
}

enum State {
    /// Nobody is certain yet. The first bytes of a stream's directions are kept meanwhile.
    Probing(Option<Box<Both<Head>>>),
    Following(Box<dyn Dissector>),
    /// Somebody has given it a name, and reads no more of it.
    Named(Box<Named>),
    Over,
}

/// The first bytes of a stream's direction.
#[derive(Default)]
struct Head {
    /// At most [`PROBE_WINDOW`].
    bytes: Vec<u8>,
    /// How many of them were there when the other end first spoke.
    first_turn: Option<usize>,
    /// How many when it last did.
    turned: usize,
    /// What was told of it, if anything was.
    told: Option<ShellMarks>,
}

impl Head {
    fn append(&mut self, data: &[u8]) {
        let room = PROBE_WINDOW.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(first(data, room));
    }

    const fn is_full(&self) -> bool {
        self.bytes.len() >= PROBE_WINDOW
    }

    /// Tells what it looks like, if that is news. The other end speaks now, or no more is wanted.
    fn tell(&mut self, direction: Direction, out: &mut Vec<Transaction>) {
        if self.bytes.is_empty() {
            return;
        }
        let first_turn = *self.first_turn.get_or_insert(self.bytes.len());
        let mut marks = ShellMarks::of(&self.bytes);
        if !self.is_full() {
            let turn = self.bytes.get(self.turned..).unwrap_or_default();
            marks.0 |= ShellMarks::of_message(turn).0;
        }
        self.turned = self.bytes.len();
        let known = self.told.unwrap_or_default();
        if self.told.is_none() || marks.any(!known.0) {
            // A prompt that was answered is no longer at the end.
            let marks = ShellMarks(marks.0 | known.0);
            self.told = Some(marks);
            let turn = first(&self.bytes, first_turn);
            out.push(Transaction::Opening(Opening::new(direction, turn, marks)));
        }
    }
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
        Self::at_depth(carrier, 0)
    }

    /// For a conversation that others carry, of which nothing was seen yet.
    pub(super) const fn at_depth(carrier: Carrier, depth: u8) -> Self {
        Self {
            state: State::Probing(None),
            app: None,
            fruitless: 0,
            carrier,
            depth,
            foreign: Both {
                orig: false,
                resp: false,
            },
            gave_up: false,
            shown: Both {
                orig: false,
                resp: false,
            },
            confirmed: false,
        }
    }

    /// The protocol, once its content showed it. Stays known after the end.
    pub const fn app(&self) -> Option<&'static str> {
        if self.confirmed { self.app } else { None }
    }

    /// Whether a name that was had for one end's first bytes still waits for the other's, which may say better.
    pub(super) const fn is_name_open(&self) -> bool {
        matches!(&self.state, State::Named(named) if named.is_open())
    }

    /// Whether a recognised flow was given up before its end: it went on as something else, or passed a bound.
    pub const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// How far the flow was looked at.
    pub const fn inspection(&self) -> Inspection {
        let bound = match self.app() {
            Some(_) => LOOK_BUDGET,
            None => PATIENCE,
        };
        match self.state {
            State::Over if self.fruitless > bound => Inspection::OverBudget,
            State::Over if self.gave_up => Inspection::Lost,
            _ => Inspection::Whole,
        }
    }

    /// Bytes kept for later, about.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Probing(Some(heads)) => {
                let (orig, resp) = (&heads.orig.bytes, &heads.resp.bytes);
                orig.capacity().saturating_add(resp.capacity())
            }
            State::Following(dissector) => dissector.held(),
            State::Probing(None) | State::Named(_) | State::Over => 0,
        }
    }

    /// Lets go of all that is kept: the rest of the flow is not looked at.
    pub fn give_up(&mut self) {
        self.state = State::Over;
        self.gave_up = true;
    }

    /// Bytes that the dissector has passed over unread; 0 before and after it.
    pub(super) fn skipped(&self) -> u64 {
        match &self.state {
            State::Following(dissector) => dissector.skipped(),
            State::Probing(_) | State::Named(_) | State::Over => 0,
        }
    }

    /// Takes the flow's next payload, and appends what it amounts to.
    ///
    /// Anything but [`Progress::More`] is final: all memory is freed, and further payload is ignored.
    pub fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let progress = match &self.state {
            State::Following(_) => self.follow(segment, out),
            State::Probing(_) => self.probe(segment, out),
            State::Named(_) => self.look_further(segment, out),
            State::Over => return Progress::Done,
        };
        if progress != Progress::More {
            self.tell_openings(out);
            self.state = State::Over;
            self.gave_up = progress == Progress::Desynced;
        }
        progress
    }

    /// The flow is over: tells what waited for more, or what it looked like if nobody recognised it.
    pub fn finish(mut self, out: &mut Vec<Transaction>) {
        if let State::Following(dissector) = &mut self.state {
            dissector.finish(out);
        }
        self.tell_turn(out);
        self.tell_openings(out);
    }

    fn tell_openings(&mut self, out: &mut Vec<Transaction>) {
        if let State::Probing(Some(heads)) = &mut self.state {
            heads.orig.tell(Direction::Orig, out);
            heads.resp.tell(Direction::Resp, out);
        }
    }

    /// A turn of a flow that has a name is over: one end's banner hides no shell.
    fn tell_turn(&mut self, out: &mut Vec<Transaction>) {
        if let State::Named(named) = &self.state
            && self.carrier == Carrier::Tcp
        {
            let (direction, said) = named.turn();
            tell_shell(self.shown.of(direction), direction, said, out);
        }
    }

    fn follow(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let State::Following(dissector) = &mut self.state else {
            return Progress::Done;
        };
        let known = out.len();
        let skipped_before = dissector.skipped();
        let progress = dissector.feed(segment, out);
        self.confirmed = self.confirmed || dissector.confirmed();
        if progress == Progress::Done
            && let Some(unread) = dissector.starts_tls()
        {
            self.start_tls();
            let before = segment.data.len().saturating_sub(unread);
            let data = segment.data.get(before..).unwrap_or_default();
            if data.is_empty() {
                return Progress::More;
            }
            let rest = Segment {
                data,
                gap: 0,
                ..*segment
            };
            return self.follow(&rest, out);
        }
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

    /// The flow goes on as TLS, and keeps its name.
    fn start_tls(&mut self) {
        self.state = State::Following(tls::upgraded());
        self.fruitless = 0;
    }

    fn probe(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        // A stream is judged by the same first bytes however they were cut, so that the cuts decide nothing.
        match self.carrier {
            Carrier::Tcp => self.probe_stream(segment, out),
            Carrier::Udp => self.probe_datagram(segment, out),
        }
    }

    fn probe_datagram(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if *self.foreign.of(segment.direction) {
            return self.wait(segment);
        }
        let mut verdict = judge(self.carrier, segment, false);
        if matches!(verdict, Verdict::Unsure)
            && let Verdict::Certain(spec) = judge(self.carrier, segment, true)
        {
            verdict = Verdict::Certain(spec);
        }
        match verdict {
            Verdict::Certain(spec) => {
                self.begin(spec, segment.direction, Vec::new());
                self.go_on(segment, out)
            }
            Verdict::Unsure => {
                // Whoever owns the port can't read it: that hides no shell either.
                let said = first(segment.data, PROBE_WINDOW);
                let direction = segment.direction;
                tell_shell(self.shown.of(direction), direction, said, out);
                self.wait(segment)
            }
            Verdict::Foreign => {
                let marks = ShellMarks::of(first(segment.data, PROBE_WINDOW));
                let opening = Opening::new(segment.direction, segment.data, marks);
                out.push(Transaction::Opening(opening));
                *self.foreign.of(segment.direction) = true;
                if self.foreign.orig && self.foreign.resp {
                    return Progress::Done;
                }
                self.wait(segment)
            }
        }
    }

    fn probe_stream(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let State::Probing(heads) = &mut self.state else {
            return Progress::Done;
        };
        let direction = segment.direction;
        let other = direction.reverse();
        if let Some(kept) = heads {
            let head = kept.of(other);
            // Who is still unsure of a whole turn was waiting for what never came.
            if head.first_turn.is_none() && !head.bytes.is_empty() && !*self.foreign.of(other) {
                let turn = Segment {
                    direction: other,
                    data: &head.bytes,
                    gap: 0,
                    ..*segment
                };
                if let Verdict::Certain(spec) = judge(self.carrier, &turn, true) {
                    let kept = heads.take();
                    let said = head_of(kept.as_deref(), other);
                    self.begin(spec, other, said);
                    return self.catch_up(spec, kept, segment, out);
                }
            }
            head.tell(other, out);
        }
        if !*self.foreign.of(direction) {
            let kept = heads
                .as_mut()
                .map(|heads| heads.of(direction))
                .filter(|head| !head.bytes.is_empty() && segment.gap == 0);
            let mut earlier = 0;
            let verdict = if let Some(head) = kept {
                earlier = head.bytes.len();
                head.append(segment.data);
                let data = &head.bytes;
                judge(self.carrier, &Segment { data, ..*segment }, false)
            } else {
                let data = first(segment.data, PROBE_WINDOW);
                judge(self.carrier, &Segment { data, ..*segment }, false)
            };
            if let Verdict::Certain(spec) = verdict {
                let mut kept = heads.take();
                if let Some(kept) = &mut kept {
                    kept.of(direction).bytes.truncate(earlier);
                }
                let said = head_of(kept.as_deref(), direction);
                self.begin(spec, direction, said);
                return self.catch_up(spec, kept, segment, out);
            }
            if earlier == 0 {
                let head = heads.get_or_insert_default().of(direction);
                head.bytes.clear();
                head.append(segment.data);
            }
            *self.foreign.of(direction) = matches!(verdict, Verdict::Foreign);
        } else if let Some(heads) = heads {
            heads.of(direction).append(segment.data);
        }
        let mut enough = self.foreign.orig && self.foreign.resp;
        if let Some(heads) = heads {
            let head = heads.of(direction);
            if head.is_full() {
                head.tell(direction, out);
            }
            enough &= heads.orig.is_full() && heads.resp.is_full();
        }
        match self.wait(segment) {
            Progress::More if enough => Progress::Done,
            progress => progress,
        }
    }

    /// Whoever is certain takes the flow, by what `by` says, which begins with `said`.
    fn begin(&mut self, spec: &'static DissectorSpec, by: Direction, said: Vec<u8>) {
        let mut dissector = (spec.build)();
        self.confirmed = self.confirmed || dissector.confirmed();
        self.state = if dissector.only_names() {
            State::Named(Box::new(Named::new(spec, by, said)))
        } else {
            dissector.nest(self.depth);
            State::Following(dissector)
        };
        self.app = Some(spec.name);
        self.fruitless = 0;
    }

    /// Takes what comes after [`FlowDissector::begin`].
    fn go_on(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        match self.state {
            State::Named(_) => self.look_further(segment, out),
            _ => self.follow(segment, out),
        }
    }

    fn look_further(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if let State::Named(named) = &self.state
            && (named.turn().0 != segment.direction || segment.gap > 0)
        {
            self.tell_turn(out);
        }
        let State::Named(named) = &mut self.state else {
            return Progress::Done;
        };
        if !named.follow_turn(segment) {
            return Progress::Done;
        }
        let before = match named.feed(segment) {
            Further::Waits => return self.wait(segment),
            Further::As(spec, before) => {
                self.begin(spec, segment.direction, Vec::new());
                if matches!(self.state, State::Named(_)) {
                    // One name more, and no end of them: enough.
                    return Progress::Done;
                }
                before
            }
            Further::StartTls(before) => {
                self.start_tls();
                before
            }
        };
        let earlier = Segment {
            data: &before,
            gap: 0,
            ..*segment
        };
        if !before.is_empty() {
            let progress = self.follow(&earlier, out);
            if progress != Progress::More {
                return progress;
            }
        }
        self.follow(&Segment { gap: 0, ..*segment }, out)
    }

    /// Gives a new dissector what was kept while nobody was certain, then the segment that decided.
    fn catch_up(
        &mut self,
        spec: &DissectorSpec,
        kept: Option<Box<Both<Head>>>,
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        if matches!(self.state, State::Named(_)) {
            return self.look_further(segment, out);
        }
        let kept = kept.map_or_else(Both::default, |kept| *kept);
        for (direction, head) in [(Direction::Orig, kept.orig), (Direction::Resp, kept.resp)] {
            if *self.foreign.of(direction) {
                continue;
            }
            let data = head.bytes;
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

/// Asks the catalogue, in its order: who comes later must wait for who is unsure, unless these are all the bytes there are.
fn judge(carrier: Carrier, window: &Segment<'_>, whole: bool) -> Verdict {
    let last_word = whole || carrier == Carrier::Tcp && window.data.len() >= PROBE_WINDOW;
    for spec in catalogue().filter(|spec| spec.carrier == carrier) {
        match (spec.probe)(window) {
            Probe::Certain => return Verdict::Certain(spec),
            Probe::Unsure if !last_word => return Verdict::Unsure,
            Probe::Unsure | Probe::NotForUs => {}
        }
    }
    Verdict::Foreign
}

/// Tells once of each end that a shell's text shows in spite of the flow's name.
fn tell_shell(shown: &mut bool, by: Direction, said: &[u8], out: &mut Vec<Transaction>) {
    if *shown {
        return;
    }
    let marks = ShellMarks::of(said);
    if marks.any(ShellMarks::NO_TERMINAL | ShellMarks::OUTPUT | ShellMarks::COMMAND) {
        *shown = true;
        out.push(Transaction::Opening(Opening::new(by, said, marks)));
    }
}

/// What is kept of a direction.
fn head_of(kept: Option<&Both<Head>>, direction: Direction) -> Vec<u8> {
    let head = kept.map(|kept| match direction {
        Direction::Orig => &kept.orig,
        Direction::Resp => &kept.resp,
    });
    head.map(|head| head.bytes.clone()).unwrap_or_default()
}

fn first(data: &[u8], len: usize) -> &[u8] {
    data.get(..len).unwrap_or(data)
}

#[cfg(test)]
mod tests;
