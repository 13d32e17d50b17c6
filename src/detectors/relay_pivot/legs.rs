//! A pod's connections, and what of two of them meets in time.

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::FlowInfo;
use crate::features::{Glance, LastUttered, Passage, Passages, Utterance, Utterances, push_tight};
use crate::flow::{Direction, Exchange, FlowId, Turn};
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Connections of one pod that are looked at, the last to speak.
const MAX_LEGS: usize = 24;
/// Ports of one pod of which it is remembered when they first served.
const MAX_SERVED: usize = 16;

/// Which of a pod's connections belong together: those to one of its ports, or those that it made to one peer's port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Side {
    Served(u16),
    Called(IpAddr, u16),
}

impl Side {
    const fn of(flow: &FlowInfo, pod: Direction) -> Self {
        match pod {
            Direction::Orig => Self::Called(flow.resp.ip, flow.resp_port),
            Direction::Resp => Self::Served(flow.resp_port),
        }
    }
}

/// One connection of a pod.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) flow: Arc<FlowInfo>,
    pub(super) app: Option<&'static str>,
    pub(super) side: Side,
    pub(super) passages: Passages,
    utterances: Utterances,
    /// The last exchange with somebody outside whom the pod called.
    last: Option<Exchange>,
    /// By HTTP the pod asked for its own address there: those are another's words.
    pub(super) for_itself: bool,
}

impl Leg {
    /// Another connection in the place of this one.
    fn restart(&mut self, flow: &Arc<FlowInfo>, side: Side, pod: Direction) {
        self.flow = Arc::clone(flow);
        self.app = None;
        self.side = side;
        self.passages.restart(pod);
        self.utterances.clear();
        self.last = None;
        self.for_itself = false;
    }
}

/// What of two legs met, each with the legs' places.
pub(super) type Met<Piece> = Vec<([usize; 2], [Piece; 2])>;

/// Boxed, for they are large, most pods have few, and a list that grows moves what is in it.
pub(super) type Legs = Vec<Box<Leg>>;

/// What legs are known by, and which of them has to go.
#[derive(Debug)]
struct Line {
    id: FlowId,
    /// When it was last heard of.
    last: Timestamp,
}

/// What every leg is asked for every piece.
#[derive(Debug)]
struct Card {
    side: Side,
    /// What there is to compare.
    glance: Glance,
    /// When it last began to ask, and to be asked.
    exchanged: [Timestamp; 2],
    /// What short was last said, and heard.
    uttered: [LastUttered; 2],
}

/// A pod's legs. Their cards lie close together: legs themselves are large, and mostly have nothing to say to a piece.
#[derive(Debug, Default)]
pub(super) struct Pod {
    /// Each keeps its place while it is there.
    lines: Vec<Line>,
    /// In the order of their lines.
    cards: Vec<Card>,
    pub(super) legs: Legs,
    /// The place of the leg that was asked for last.
    spoke: usize,
    /// Places, as bits, of legs with spells, and of those of them that wait for what others know.
    spelled: u64,
    waiting: u64,
    /// Whether there was ever more than one side, so that anything can meet.
    has_sides: bool,
    /// When each of its ports was first used.
    pub(super) served: Vec<(u16, Timestamp)>,
}

/// The places of bits that are set.
fn bits(mut all: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = all.trailing_zeros();
        all &= all.wrapping_sub(1);
        (lowest < u64::BITS).then_some(lowest as usize)
    })
}

impl Card {
    fn of(leg: &Leg) -> Self {
        Self {
            side: leg.side,
            glance: leg.passages.glance(),
            exchanged: [Timestamp::MIN; 2],
            uttered: [LastUttered::default(); 2],
        }
    }
}

impl Pod {
    pub(super) fn place(&self, id: FlowId) -> Option<usize> {
        let is_it = |line: &Line| line.id == id;
        if self.lines.get(self.spoke).is_some_and(is_it) {
            return Some(self.spoke);
        }
        self.lines.iter().position(is_it)
    }

    /// A leg's place; a new one takes that of the leg that was silent the longest, if there is no other.
    pub(super) fn leg(
        &mut self,
        flow: &Arc<FlowInfo>,
        pod: Direction,
        time: Timestamp,
        spare: &mut Legs,
    ) -> usize {
        if let Some(at) = self.place(flow.id) {
            self.spoke = at;
            let last = &mut self.lines[at].last;
            *last = time.max(*last);
            return at;
        }
        let side = Side::of(flow, pod);
        if let Side::Served(port) = side
            && self.served.len() < MAX_SERVED
            && self.served.iter().all(|(known, _)| *known != port)
        {
            push_tight(&mut self.served, (port, flow.start));
        }
        let replaced = (self.legs.len() >= MAX_LEGS).then(|| {
            let all = self.lines.iter().enumerate();
            let oldest = all.min_by_key(|(_, line)| (line.last, line.id));
            oldest.map_or(0, |(at, _)| at)
        });
        let line = Line {
            id: flow.id,
            last: time,
        };
        let at = if let Some(at) = replaced {
            for place in bits(self.spelled) {
                self.cards[place].glance.change(at as u32);
            }
            self.spelled &= !(1 << at);
            let leg = &mut self.legs[at];
            leg.restart(flow, side, pod);
            self.cards[at] = Card::of(leg);
            self.lines[at] = line;
            at
        } else {
            let leg = if let Some(mut leg) = spare.pop() {
                leg.restart(flow, side, pod);
                leg
            } else {
                Box::new(Leg {
                    flow: Arc::clone(flow),
                    app: None,
                    side,
                    passages: Passages::new(pod),
                    utterances: Utterances::default(),
                    last: None,
                    for_itself: false,
                })
            };
            push_tight(&mut self.lines, line);
            push_tight(&mut self.cards, Card::of(&leg));
            push_tight(&mut self.legs, leg);
            self.legs.len() - 1
        };
        // Nothing was compared with this one yet.
        self.waiting = self.spelled;
        let any_other = usize::from(at == 0);
        self.has_sides |= self
            .cards
            .get(any_other)
            .is_some_and(|card| card.side != side);
        self.spoke = at;
        at
    }

    /// A leg has told something: how it is at a glance, by what has changed since.
    fn look_at(&mut self, at: usize) {
        let (passages, card) = (&mut self.legs[at].passages, &mut self.cards[at]);
        passages.recall(&card.glance);
        card.glance = passages.glance();
        self.note_waiting(at);
    }

    fn note_waiting(&mut self, at: usize) {
        let others = ((1 << self.legs.len()) - 1) & !(1 << at);
        let glance = &self.cards[at].glance;
        let (has_spells, waits) = (glance.has_spells(), glance.waits_among(others));
        self.spelled = self.spelled & !(1 << at) | u64::from(has_spells) << at;
        self.waiting = self.waiting & !(1 << at) | u64::from(waits) << at;
    }

    /// Pieces of legs that go together with what a leg has just told, each with the legs' places.
    pub(super) fn spells(&mut self, at: usize) -> Met<Passage> {
        let mut met = Vec::new();
        self.look_at(at);
        if !self.has_sides {
            return met;
        }
        // What it knows by now may be what others' spells have waited for, and the other way round.
        let waits = self.waiting & 1 << at != 0;
        let all = (1 << self.legs.len()) - 1;
        let asked = if waits { all } else { self.waiting };
        for other in bits(asked & !(1 << at)) {
            let Ok([my, other_card]) = self.cards.get_disjoint_mut([at, other]) else {
                continue;
            };
            let (mine, theirs) = (&mut my.glance, &mut other_card.glance);
            let mut here = mine.waits_for(other as u32, theirs);
            let mut there = theirs.waits_for(at as u32, mine);
            let apart = my.side == other_card.side || mine.is_apart(theirs);
            if here && (apart || mine.misses(theirs)) {
                mine.pass_over(other as u32);
                here = false;
            }
            if there && (apart || theirs.misses(mine)) {
                theirs.pass_over(at as u32);
                there = false;
            }
            if !here && !there {
                continue;
            }
            self.look_at(other);
            if let Ok([mine, theirs]) = self.legs.get_disjoint_mut([at, other]) {
                let (mine, theirs) = (&mut mine.passages, &mut theirs.passages);
                theirs.beside(at as u32, mine, |spell, beside| {
                    met.push(([other, at], [spell, beside]));
                });
                mine.beside(other as u32, theirs, |spell, beside| {
                    met.push(([at, other], [spell, beside]));
                });
                self.cards[at].glance = mine.glance();
                self.cards[other].glance = theirs.glance();
            }
            self.note_waiting(other);
        }
        self.note_waiting(at);
        met
    }

    /// What meets an exchange of a leg, as it was and, where the pod called somebody outside, as if he had asked.
    pub(super) fn exchanged(&mut self, at: usize, exchange: &Exchange) -> Met<Passage> {
        let mut met = Vec::new();
        let leg = &mut self.legs[at];
        let pod = leg.passages.pod();
        let outside = leg.flow.resp.who.identity.kind == IdentityKind::External;
        if pod == Direction::Orig && outside {
            let first = leg.last.replace(*exchange);
            if let Some(turned) = first.and_then(|first| Passage::turned(&first, exchange, pod)) {
                met = self.meeting(at, &turned);
                self.legs[at].passages.keep_turned(turned);
                self.note(at, &turned);
            }
        }
        if let Some(passage) = Passage::exchange(exchange, pod) {
            met.extend(self.meeting(at, &passage));
            let passages = &mut self.legs[at].passages;
            passages.keep(passage);
            self.cards[at].glance.lean(passages);
            self.note(at, &passage);
        }
        met
    }

    fn note(&mut self, at: usize, exchange: &Passage) {
        let begun = &mut self.cards[at].exchanged[usize::from(exchange.asked)];
        *begun = exchange.start.max(*begun);
    }

    fn meeting(&self, at: usize, exchange: &Passage) -> Met<Passage> {
        let mut met = Vec::new();
        if !self.has_sides {
            return met;
        }
        let since = exchange.start.before(Passage::DELAY);
        let side = self.cards[at].side;
        for (other, card) in self.cards.iter().enumerate() {
            // Who was asked goes together with who asked.
            let begun = card.exchanged[usize::from(!exchange.asked)];
            if begun >= since && card.side != side {
                let meeting = self.legs[other].passages.meeting(exchange);
                met.extend(meeting.map(|piece| ([at, other], [*exchange, *piece])));
            }
        }
        met
    }

    /// Something short was said on a leg: what on others it may have come of, or what of it.
    pub(super) fn utter(&mut self, at: usize, turn: &Turn) -> Met<Utterance> {
        let mut met = Vec::new();
        let leg = &mut self.legs[at];
        let Some(utterance) = Utterance::of(turn, leg.passages.pod()) else {
            return met;
        };
        let new = leg.utterances.keep(utterance);
        let card = &mut self.cards[at];
        card.uttered[usize::from(utterance.heard)].note(utterance);
        if !new || !self.has_sides {
            return met;
        }
        let side = card.side;
        for (other, card) in self.cards.iter().enumerate() {
            let uttered = &card.uttered[usize::from(!utterance.heard)];
            if card.side != side && uttered.may_meet(utterance) {
                let meeting = self.legs[other].utterances.meeting(utterance);
                met.extend(meeting.map(|theirs| ([at, other], [utterance, theirs])));
            }
        }
        met
    }
}
