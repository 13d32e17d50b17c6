//! What passes between a pod and one of its peers, in pieces that can be laid beside those of another connection.
//!
//! Two kinds of piece. An *exchange* is one question with its answer, for conversations in which one end waits for the
//! other. A *spell* is all that passes between two silences, for those in which both speak at once (keys typed ahead of
//! their echo), or one alone. A relay that holds bytes back for up to [`Passage::DELAY`] keeps the order and the sums of
//! both, however it cuts them anew. Exchanges are compared with exchanges. A spell is compared with whatever passed on the
//! other connection at the time, for noise on that may leave no silence there; so each connection keeps a curve of its
//! sums over time.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::{push_back_tight, push_tight};
use crate::flow::{Direction, Exchange, Turn};
use crate::time::Timestamp;

/// Exchanges and spells of each connection that are remembered, of either kind.
const RECENT: usize = 12;
/// Packets may be recorded out of order by as much.
pub(super) const DISORDER: Duration = Duration::from_millis(2);
/// Bursts of a curve; when there are more, two of the older ones become one.
const MOST_BURSTS: usize = 64;
/// Turns that follow one another so soon are one burst, unless it has lasted for long.
const BURST: Duration = Duration::from_millis(200);
const LONGEST_BURST: Duration = Duration::from_millis(250);
/// Silences that end a spell, and how long a relay may hold back what passes in it: no longer, so that of two spells neither
/// way runs into the other.
const SPELLS: [(Span, Duration, Duration); 2] = [
    (
        Span::Spell,
        Duration::from_millis(800),
        Duration::from_millis(500),
    ),
    (Span::LongSpell, LONGEST_SILENCE, Passage::DELAY),
];
const LONGEST_SILENCE: Duration = Duration::from_millis(2800);
/// A relay never says anything before it heard it, but for how packets are stamped.
const AT_MOST_BEFORE: Duration = Duration::from_millis(20);
/// Nothing that a connection says meets what another says by so much later.
const APART: Duration = Duration::from_secs(3);
/// Who is answered so soon has asked, for sure.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How often it must be seen who asks.
const FEWEST_ASKED: u32 = 4;

/// What a piece spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// A question and its answer.
    Exchange,
    /// All that passes between two short silences.
    Spell,
    /// All that passes between two silences in which whatever was held back has passed, too.
    LongSpell,
}

impl Span {
    /// How many there are.
    pub const ALL: usize = 3;
}

/// One piece, as the pod at one end saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// What it spans.
    pub span: Span,
    /// Whether the peer spoke first.
    pub asked: bool,
    /// First packet.
    pub start: Timestamp,
    /// First packet of the answer; of a spell, its last packet.
    pub answer: Timestamp,
    /// Payload bytes that the pod heard, and that it said.
    pub bytes: [u64; 2],
    /// Packets that these came in; 1 each for an exchange.
    pub packets: [u32; 2],
}

impl Passage {
    /// The longest that a relay holds something back.
    pub const DELAY: Duration = Duration::from_millis(2500);

    /// An exchange in which the pod was this end; `None` if nobody answered.
    pub fn exchange(exchange: &Exchange, pod: Direction) -> Option<Self> {
        Some(Self {
            span: Span::Exchange,
            asked: exchange.asker != pod,
            start: exchange.start,
            answer: exchange.answer?,
            bytes: [exchange.said(pod.reverse()), exchange.said(pod)],
            packets: [1, 1],
        })
    }

    /// The same the other way round: what the peer answered is taken for a question, and what the pod said next for the answer
    /// to it. So speaks who calls his master and greets him first, before he is asked; `None` if it isn't the pod that began
    /// both.
    pub fn turned(first: &Exchange, then: &Exchange, pod: Direction) -> Option<Self> {
        (first.asker == pod && then.asker == pod).then_some(())?;
        Some(Self {
            span: Span::Exchange,
            asked: true,
            start: first.answer?,
            answer: then.start,
            bytes: [first.answered, then.asked],
            packets: [1, 1],
        })
    }

    /// Whether an exchange could be the cause or the effect of another, on a different connection of the pod: it was
    /// asked, asked somebody else, was answered and answered, each within [`Passage::DELAY`].
    fn meets(&self, other: &Self) -> bool {
        let (outer, inner) = match (self.asked, other.asked) {
            (true, false) => (self, other),
            (false, true) => (other, self),
            _ => return false,
        };
        let follows = |first: Timestamp, then: Timestamp| {
            first <= then.after(DISORDER) && then.since(first) <= Self::DELAY
        };
        follows(outer.start, inner.start) && follows(inner.answer, outer.answer)
    }

    fn add(&mut self, turn: &Turn, pod: Direction) {
        count(&mut self.bytes, &mut self.packets, turn, pod);
        self.answer = self.answer.max(turn.end);
    }
}

/// A turn adds to what the pod heard, or to what it said.
fn count(bytes: &mut [u64; 2], packets: &mut [u32; 2], turn: &Turn, pod: Direction) {
    let way = usize::from(turn.direction == pod);
    if let (Some(bytes), Some(packets)) = (bytes.get_mut(way), packets.get_mut(way)) {
        *bytes = bytes.saturating_add(turn.bytes);
        *packets = packets.saturating_add(turn.packets);
    }
}

/// A stretch without a pause, and how much had passed by its end.
#[derive(Clone, Copy, Debug)]
struct Burst {
    start: Timestamp,
    end: Timestamp,
    bytes: [u64; 2],
    packets: [u32; 2],
}

/// A spell that is over, and with which other connections it was compared.
#[derive(Clone, Copy, Debug)]
struct Spell {
    piece: Passage,
    hold: Duration,
    /// Once another connection has been heard after this, it is known what passed there meanwhile.
    until: Timestamp,
    compared: u64,
}

impl Spell {
    /// Between when and when another connection would have heard what was said in it.
    fn heard(&self) -> (Timestamp, Timestamp) {
        (
            self.piece.start.before(self.hold + AT_MOST_BEFORE),
            self.piece.answer.after(LONGEST_BURST),
        )
    }

    /// Between when and when another connection would have said what was heard in it.
    fn said(&self) -> (Timestamp, Timestamp) {
        (self.piece.start.before(AT_MOST_BEFORE), self.until)
    }
}

/// What tells at a glance whether two connections have anything to compare.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// With which other connections all spells were compared.
    compared: u64,
    /// The earliest time from which on another connection must be known for one of them.
    soonest: Timestamp,
    /// Up to when it is known what passed.
    known: Timestamp,
    /// When somebody first spoke, and last.
    spoken: [Timestamp; 2],
    /// The last silence of some length between.
    silence: [Timestamp; 2],
    /// From when to when anything could have passed elsewhere that belongs to one of the spells.
    window: [Timestamp; 2],
    /// Slots that hold other connections than those that spells were compared with.
    changed: u64,
    /// Slots of connections with which there was nothing to compare.
    passed: u64,
    /// Who nearly always asks: the peer, or else the pod.
    leans: Option<bool>,
}

impl Glance {
    /// A slot (of 64) holds another connection now. The spells are told ([`Passages::recall`]) once they are looked at.
    pub const fn change(&mut self, slot: u32) {
        // Without spells nothing was compared with anything.
        if self.compared != u64::MAX {
            self.compared &= !bit(slot);
            self.changed |= bit(slot);
            self.passed &= !bit(slot);
        }
    }

    /// Whether there are spells at all.
    pub const fn has_spells(&self) -> bool {
        self.compared != u64::MAX
    }

    /// Whether there are spells that were not compared yet with all connections in these slots (as bits).
    pub const fn waits_among(&self, slots: u64) -> bool {
        self.compared & slots != slots
    }

    /// There is nothing to compare with the connection in a slot (of 64).
    pub const fn pass_over(&mut self, slot: u32) {
        self.compared |= bit(slot);
        self.passed |= bit(slot);
    }

    /// Whether nothing of one connection can come of the other: it was silent before that began, for longer than anything is
    /// held back; or the pod asks on both, or is asked on both.
    pub fn is_apart(&self, other: &Self) -> bool {
        let ([begun, last], [other_begun, other_last]) = (self.spoken, other.spoken);
        let alike = self.leans.is_some() && self.leans == other.leans;
        alike || begun.since(other_last) > APART || other_begun.since(last) > APART
    }

    /// Who asks on that connection, by the exchanges so far.
    pub const fn lean(&mut self, passages: &Passages) {
        self.leans = passages.leans();
    }

    /// Whether another connection was silent all the while that anything could have passed there that belongs to a spell.
    pub fn misses(&self, other: &Self) -> bool {
        let ([from, until], [begun, last]) = (self.window, other.spoken);
        let [fell_silent, spoke_again] = other.silence;
        until <= begun || last <= from || fell_silent <= from && until <= spoke_again
    }

    /// Whether spells wait for what another connection, in a slot (of 64), knows by now.
    pub fn waits_for(&self, slot: u32, other: &Self) -> bool {
        self.compared & bit(slot) == 0 && other.known > self.soonest
    }
}

const fn bit(slot: u32) -> u64 {
    match 1_u64.checked_shl(slot) {
        Some(bit) => bit,
        None => 0,
    }
}

/// The last pieces of one connection.
#[derive(Clone, Debug)]
pub struct Passages {
    pod: Direction,
    open: [Option<Passage>; SPELLS.len()],
    spells: VecDeque<Spell>,
    /// With which other connections all of them were compared.
    compared: u64,
    /// The earliest `until` of any.
    soonest: Timestamp,
    window: [Timestamp; 2],
    silence: [Timestamp; 2],
    exchanges: VecDeque<Passage>,
    curve: Vec<Burst>,
    /// Questions answered at once: the peer's, and the pod's.
    asked: [u32; 2],
    /// When the spell began of whose beginning nothing may be known.
    cut: Option<Timestamp>,
    over: bool,
}

impl Passages {
    /// Of a connection at whose one end the pod is.
    pub const fn new(pod: Direction) -> Self {
        Self {
            pod,
            open: [None; SPELLS.len()],
            spells: VecDeque::new(),
            compared: u64::MAX,
            soonest: Timestamp::MIN,
            window: [Timestamp::MIN; 2],
            silence: [Timestamp::MIN; 2],
            exchanges: VecDeque::new(),
            curve: Vec::new(),
            asked: [0, 0],
            cut: None,
            over: false,
        }
    }

    /// Another connection in the place of this one, whose room it takes over.
    pub fn restart(&mut self, pod: Direction) {
        self.spells.clear();
        self.exchanges.clear();
        self.curve.clear();
        // In place, for it is large and happens with every connection.
        let Self {
            pod: end,
            open,
            spells: _,
            compared,
            soonest,
            window,
            silence,
            exchanges: _,
            curve: _,
            asked,
            cut,
            over,
        } = self;
        *end = pod;
        *open = [None; SPELLS.len()];
        *compared = u64::MAX;
        *soonest = Timestamp::MIN;
        *window = [Timestamp::MIN; 2];
        *silence = [Timestamp::MIN; 2];
        *asked = [0, 0];
        *cut = None;
        *over = false;
    }

    /// Which end the pod is.
    pub const fn pod(&self) -> Direction {
        self.pod
    }

    /// Somebody has spoken; `begun` is when the connection began. Of one that is taken up later it isn't known what was said just
    /// before, so that its first spell tells nothing.
    pub fn turn(&mut self, turn: &Turn, begun: Timestamp) {
        if self.curve.is_empty() && turn.start.since(begun) > LONGEST_SILENCE {
            self.cut = Some(turn.start);
        }
        let mut closed = [None; SPELLS.len()];
        for ((open, (span, silence, hold)), closed) in
            self.open.iter_mut().zip(SPELLS).zip(&mut closed)
        {
            match open {
                Some(spell) if turn.start.since(spell.answer) <= silence => {
                    spell.add(turn, self.pod);
                }
                open => {
                    let mut spell = Passage {
                        span,
                        asked: turn.direction != self.pod,
                        start: turn.start,
                        answer: turn.end,
                        bytes: [0, 0],
                        packets: [0, 0],
                    };
                    spell.add(turn, self.pod);
                    *closed = open.replace(spell).map(|piece| (piece, hold));
                }
            }
        }
        for (piece, hold) in closed.into_iter().flatten() {
            self.close(piece, hold);
        }
        self.rise(turn);
    }

    /// The curve goes on.
    fn rise(&mut self, turn: &Turn) {
        let last = self.curve.last();
        let mut burst = Burst {
            start: turn.start,
            // In order, whatever the stamps.
            end: turn.end.max(self.known()),
            bytes: last.map_or([0, 0], |last| last.bytes),
            packets: last.map_or([0, 0], |last| last.packets),
        };
        count(&mut burst.bytes, &mut burst.packets, turn, self.pod);
        match self.curve.last_mut() {
            Some(last)
                if turn.start.since(last.end) <= BURST
                    && turn.end.since(last.start) <= LONGEST_BURST =>
            {
                *last = Burst {
                    start: last.start,
                    end: last.end.max(burst.end),
                    ..burst
                };
            }
            _ => {
                let fell_silent = self.known();
                if burst.start.since(fell_silent) > APART {
                    self.silence = [fell_silent, burst.start];
                }
                push_tight(&mut self.curve, burst);
            }
        }
        if self.curve.len() > MOST_BURSTS {
            // What lies far back may be coarse; a silence stays as long as it can.
            let nanos =
                |one: Timestamp, other: Timestamp| one.nanos().saturating_sub(other.nanos());
            let cost = |at: &usize| {
                let (one, next) = (&self.curve[*at], &self.curve[at + 1]);
                let age = nanos(burst.end, next.end).max(0) / 1_000_000;
                nanos(next.end, one.start).max(0) / (age + LONGEST_BURST.as_millis() as i64)
            };
            if let Some(at) = (0..MOST_BURSTS).min_by_key(cost) {
                let first = self.curve.remove(at);
                let joined = &mut self.curve[at];
                joined.start = first.start;
            }
        }
    }

    /// The connection is over.
    pub fn finish(&mut self) {
        self.over = true;
        for (open, (.., hold)) in std::mem::take(&mut self.open).into_iter().zip(SPELLS) {
            if let Some(piece) = open {
                self.close(piece, hold);
            }
        }
    }

    fn close(&mut self, piece: Passage, hold: Duration) {
        if self.cut == Some(piece.start) {
            return;
        }
        if self.spells.len() >= RECENT {
            self.spells.pop_front();
        }
        let spell = Spell {
            piece,
            hold,
            until: piece.answer.after(hold + LONGEST_BURST),
            compared: 0,
        };
        push_back_tight(&mut self.spells, spell);
        self.compared = 0;
        let until = || self.spells.iter().map(|spell| spell.until);
        self.soonest = until().min().unwrap_or(Timestamp::MIN);
        let from = self.spells.iter().map(|spell| spell.heard().0);
        self.window = [
            from.min().unwrap_or(Timestamp::MIN),
            until().max().unwrap_or(Timestamp::MAX),
        ];
    }

    /// Remembers an exchange.
    pub fn keep(&mut self, exchange: Passage) {
        if exchange.answer.since(exchange.start) <= AT_ONCE {
            let [by_peer, by_pod] = &mut self.asked;
            let whose = if exchange.asked { by_peer } else { by_pod };
            *whose = whose.saturating_add(1);
        }
        self.keep_turned(exchange);
    }

    /// Remembers one that says nothing of who asks.
    pub fn keep_turned(&mut self, exchange: Passage) {
        if self.exchanges.len() >= RECENT {
            self.exchanges.pop_front();
        }
        push_back_tight(&mut self.exchanges, exchange);
    }

    /// Exchanges remembered that meet another connection's.
    pub fn meeting(&self, exchange: &Passage) -> impl Iterator<Item = &Passage> {
        self.exchanges.iter().filter(|one| one.meets(exchange))
    }

    /// What tells at a glance whether there is anything to compare.
    pub fn glance(&self) -> Glance {
        let begun = self.curve.first();
        Glance {
            changed: 0,
            passed: 0,
            compared: self.compared,
            leans: self.leans(),
            silence: self.silence,
            window: self.window,
            soonest: self.soonest,
            spoken: [
                begun.map_or(Timestamp::MIN, |first| first.start),
                self.known(),
            ],
            known: if self.over {
                Timestamp::MAX
            } else {
                self.known()
            },
        }
    }

    /// Tells spells that were not compared yet with the pod's connection in a slot (of 64), and of which that knows by now
    /// what passed there meanwhile: each with that.
    pub fn beside(&mut self, slot: u32, other: &Self, mut tell: impl FnMut(Passage, Passage)) {
        let there = other.glance();
        if !self.glance().waits_for(slot, &there) {
            return;
        }
        let (bit, known) = (bit(slot), there.known);
        let mut compared = bit;
        for spell in &mut self.spells {
            if spell.compared & bit != 0 {
                continue;
            }
            if known <= spell.until {
                compared = 0;
                continue;
            }
            spell.compared |= bit;
            if let Some(meanwhile) = other.during(spell) {
                tell(spell.piece, meanwhile);
            }
        }
        self.compared |= compared;
    }

    /// Who nearly always asks: the peer, or else the pod.
    const fn leans(&self) -> Option<bool> {
        const fn much(one: u32, other: u32) -> bool {
            one >= FEWEST_ASKED && one / 4 >= other
        }
        let [by_peer, by_pod] = self.asked;
        match (much(by_peer, by_pod), much(by_pod, by_peer)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// What has changed of other connections since, and which were passed over, as a glance at this one has it.
    pub fn recall(&mut self, glance: &Glance) {
        if glance.changed != 0 {
            for spell in &mut self.spells {
                spell.compared &= !glance.changed;
            }
        }
        // With a spell that ended since, nothing was compared.
        if self.compared != 0 && !self.spells.is_empty() {
            self.compared = self.compared & !glance.changed | glance.passed;
        }
    }

    /// Up to when it is known what passed.
    fn known(&self) -> Timestamp {
        self.curve.last().map_or(Timestamp::MIN, |last| last.end)
    }

    /// What passed while a spell of another connection lasted, if its like, the other way round, could be in it. What was
    /// heard there is said here by so much later, and what is said there was heard here by so much sooner.
    fn during(&self, spell: &Spell) -> Option<Passage> {
        let (begun, last) = (self.curve.first()?, self.curve.last()?);
        let (heard, said, piece) = (spell.heard(), spell.said(), &spell.piece);
        // Mostly the one was over before the other began.
        if last.end <= heard.0 || begun.end > said.1 {
            return None;
        }
        let mut bytes = [0; 2];
        let mut packets = [0; 2];
        for (way, (from, until)) in [heard, said].into_iter().enumerate() {
            let (before, after) = (self.sums(from), self.sums(until));
            *bytes.get_mut(way)? = after.bytes.get(way)? - before.bytes.get(way)?;
            *packets.get_mut(way)? = after.packets.get(way)? - before.packets.get(way)?;
        }
        let first = self.curve.get(self.place(heard.0))?;
        if bytes.iter().all(|bytes| *bytes == 0) {
            return None;
        }
        Some(Passage {
            span: piece.span,
            asked: !piece.asked,
            start: first.start.max(heard.0),
            answer: said.1,
            bytes,
            packets,
        })
    }

    /// The place of the first burst that ends later.
    fn place(&self, time: Timestamp) -> usize {
        self.curve.partition_point(|burst| burst.end <= time)
    }

    /// How much had passed by then.
    fn sums(&self, time: Timestamp) -> Passage {
        let last = self
            .place(time)
            .checked_sub(1)
            .and_then(|at| self.curve.get(at));
        Passage {
            span: Span::Spell,
            asked: false,
            start: time,
            answer: Timestamp::MIN,
            bytes: last.map_or([0, 0], |burst| burst.bytes),
            packets: last.map_or([0, 0], |burst| burst.packets),
        }
    }
}
