//! First contacts of a source along a line: one host's many ports, one port's many hosts.
//!
//! A scan must touch what it doesn't know, so it shows as first contacts that fail. Each line carries a sequential test of
//! its own over them; a repeated contact says nothing new. A connection that is opened and dropped unused is no success:
//! what it took away from the evidence is given back when it ends, and more where its owner thinks it telling.

#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::Bounded;
use super::SequentialTest;
use super::small::{SortedMap, push_tight};
use super::throng::Throng;
use crate::event::{Endpoint, FlowInfo};
use crate::flow::Outcome;
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::time::Timestamp;

/// Contacts remembered one by one per line; beyond it further ones are only counted.
const MAX_MEMBERS: usize = 512;
/// Lines followed per source; the least suspicious goes first.
const MAX_LINES: usize = 64;
/// Targets kept per line for alerts.
const MAX_TARGETS: usize = 16;
/// What the breadth of a single line is worth at most, so that a sum stays readable: certainty doesn't grow for ever.
const MAX_BITS: f64 = 64.0;
/// Example flows kept per line.
const MAX_SAMPLES: usize = 4;
/// Contacts remembered one by one over all sources; about 25 MB.
const MAX_CONTACTS: usize = 1 << 20;

/// One end of a contact on a line.
pub type Member = (IpAddr, u16);

/// A contact that may be a source's first with that member.
#[derive(Clone, Copy, Debug)]
pub struct FirstContact<'a> {
    /// Whom it touched.
    pub member: Member,
    /// The same, as an alert shows it.
    pub target: &'a Endpoint,
    /// Whether it was answered.
    pub success: bool,
    /// Whether even a success says something, as with a ping.
    pub telling: bool,
    /// How much a failure says, from 0 to 1: less where answers are not promised.
    pub weight: f64,
    /// When that was known.
    pub time: Timestamp,
    /// The flow, if it was one.
    pub flow: Option<&'a Arc<FlowInfo>>,
    /// Whether the source is known to be there: a pod, or somebody who took part in a conversation. Any other address may
    /// be made up.
    pub vouched: bool,
}

impl<'a> FirstContact<'a> {
    /// The contact that a flow makes.
    pub fn of(flow: &'a Arc<FlowInfo>, success: bool, time: Timestamp) -> Self {
        Self {
            member: (flow.resp.ip, flow.resp_port),
            target: &flow.resp,
            success,
            telling: false,
            weight: 1.0,
            time,
            flow: Some(flow),
            vouched: flow.orig.who.identity.kind == IdentityKind::Pod,
        }
    }
}

/// How a first contact stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Failed,
    Answered,
    /// Answered after it had failed, which took the failure away and nothing else.
    Forgiven,
    /// Answered, and made use of.
    Used,
    /// Answered, and dropped without use.
    Unused,
}

/// The first contacts along one line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Sequential test, in bits.
    pub bits: f64,
    /// Different contacts.
    pub attempted: u64,
    /// Those refused, unreachable or silent.
    pub failed: u64,
    /// Those answered and then dropped unused.
    pub unused: u64,
    /// First contact, until one comes to nothing; then the first of those.
    pub first: Timestamp,
    /// Last contact.
    pub last: Timestamp,
    /// Example flows.
    pub samples: Vec<Arc<FlowInfo>>,
    /// Some of the ends contacted, in order of contact.
    pub targets: Vec<(Endpoint, u16)>,
    /// Contacts that were answered, used or not.
    pub answered: u64,
    /// Some of those that were answered.
    pub open: Vec<(Endpoint, u16)>,
    /// Contacts that have another reason.
    pub excused: u64,
    members: SortedMap<Member, Standing>,
}

impl Line {
    const fn new(time: Timestamp) -> Self {
        Self {
            bits: 0.0,
            attempted: 0,
            failed: 0,
            unused: 0,
            first: time,
            last: time,
            samples: Vec::new(),
            targets: Vec::new(),
            answered: 0,
            open: Vec::new(),
            excused: 0,
            members: SortedMap::new(),
        }
    }

    fn contact(&mut self, contact: &FirstContact<'_>, test: SequentialTest) {
        let standing = if contact.success {
            Standing::Answered
        } else {
            Standing::Failed
        };
        if !self.meet(contact, standing) {
            if contact.success {
                self.forgive(contact, test);
            }
            return;
        }
        if !contact.success && self.probed() == 0 {
            self.first = contact.time;
        }
        self.failed += u64::from(!contact.success);
        let weight = if contact.success { 1.0 } else { contact.weight };
        let step = test.step_bits(contact.success) * weight;
        self.bits = (self.bits + step).clamp(0.0, MAX_BITS);
    }

    /// Who answers in the end was no wrong guess: a server that wasn't up yet.
    fn forgive(&mut self, contact: &FirstContact<'_>, test: SequentialTest) {
        let Some(standing) = self.members.get_mut(&contact.member) else {
            return;
        };
        if *standing == Standing::Failed {
            *standing = Standing::Forgiven;
            self.failed -= 1;
            self.bits = (self.bits - test.step_bits(false) * contact.weight).max(0.0);
            self.note_answer(contact);
        }
    }

    fn note_answer(&mut self, contact: &FirstContact<'_>) {
        self.answered += 1;
        if self.open.len() < MAX_TARGETS {
            let (_, port) = contact.member;
            push_tight(&mut self.open, (contact.target.clone(), port));
        }
    }

    /// A conversation with an answered member is over. If it came to nothing, the success is taken back.
    fn over(
        &mut self,
        contact: &FirstContact<'_>,
        unused: bool,
        test: SequentialTest,
        unused_bits: f64,
    ) {
        let before = self.members.get(&contact.member).copied();
        let taken = match before {
            Some(Standing::Answered | Standing::Forgiven) => {
                if let Some(standing) = self.members.get_mut(&contact.member) {
                    *standing = if unused {
                        Standing::Unused
                    } else {
                        Standing::Used
                    };
                }
                if before == Some(Standing::Answered) {
                    -test.step_bits(true)
                } else {
                    0.0
                }
            }
            // Its success came when nothing had failed, and was not remembered. Of so many that not all are remembered, it
            // was counted before.
            None if unused
                && self.members.len() < MAX_MEMBERS
                && self.meet(contact, Standing::Unused) =>
            {
                0.0
            }
            _ => return,
        };
        if unused {
            if self.probed() == 0 {
                self.first = contact.time;
            }
            self.unused += 1;
            self.bits = (self.bits + taken + unused_bits).min(MAX_BITS);
        }
    }

    /// A member is visited for another reason: what was made of it is taken back.
    fn excuse(&mut self, contact: &FirstContact<'_>, test: SequentialTest, unused_bits: f64) {
        let Some(standing) = self.members.get_mut(&contact.member) else {
            return;
        };
        let bits = match *standing {
            Standing::Unused => {
                self.unused -= 1;
                unused_bits
            }
            Standing::Failed => {
                self.failed -= 1;
                test.step_bits(false) * contact.weight
            }
            Standing::Answered | Standing::Forgiven => 0.0,
            Standing::Used => return,
        };
        *standing = Standing::Used;
        self.excused += 1;
        self.bits = (self.bits - bits).max(0.0);
    }

    /// Notes a member. False if it isn't new.
    fn meet(&mut self, contact: &FirstContact<'_>, standing: Standing) -> bool {
        self.last = self.last.max(contact.time);
        if self.members.contains_key(&contact.member) {
            return false;
        }
        if self.members.len() < MAX_MEMBERS {
            self.members.get_or_insert_with(contact.member, || standing);
        }
        self.attempted += 1;
        let (_, port) = contact.member;
        if self.targets.len() < MAX_TARGETS {
            push_tight(&mut self.targets, (contact.target.clone(), port));
        }
        if standing != Standing::Failed {
            self.note_answer(contact);
        }
        if let Some(flow) = contact.flow
            && self.samples.len() < MAX_SAMPLES
        {
            push_tight(&mut self.samples, Arc::clone(flow));
        }
        true
    }

    /// Members without those that are visited for another reason.
    pub const fn unexcused(&self) -> u64 {
        self.attempted.saturating_sub(self.excused)
    }

    /// Members that failed or were left unused.
    pub const fn probed(&self) -> u64 {
        self.failed + self.unused
    }

    /// Whom the source touched on this line.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.members.keys().copied()
    }

    /// Those of them that have no other reason.
    pub fn unexplained(&self) -> impl Iterator<Item = Member> {
        let known = |standing| matches!(standing, Standing::Used);
        self.members
            .iter()
            .filter(move |&(_, &standing)| !known(standing))
            .map(|(&member, _)| member)
    }

    /// Those of them that came to nothing.
    pub fn guesses(&self) -> impl Iterator<Item = Member> {
        let in_vain = |standing| matches!(standing, Standing::Failed | Standing::Unused);
        self.members
            .iter()
            .filter(move |&(_, &standing)| in_vain(standing))
            .map(|(&member, _)| member)
    }
}

/// What a source is remembered by: its address, and who held it, so that a reused address starts afresh.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SourceKey(pub IpAddr, pub Option<Arc<str>>);

impl Hash for SourceKey {
    /// By the address alone: few hold one address in turn, and this is done for every event and detector.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            IpAddr::V4(ip) => state.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => state.write_u128(ip.to_bits()),
        }
    }
}

/// One source with its lines.
#[derive(Debug)]
pub struct Source<K> {
    /// Who it is.
    pub actor: Endpoint,
    /// Its lines.
    pub lines: SortedMap<K, Line>,
    /// A number that the owner of the lines may keep, such as the size at its last report.
    pub mark: u64,
    test: SequentialTest,
}

impl<K> Source<K> {
    /// Contacts remembered one by one.
    fn size(&self) -> usize {
        self.lines.values().map(|line| line.members.len()).sum()
    }
}

/// The lines of many sources: bounded in sources and in contacts, the source heard of least recently goes first. Sources that
/// may be made up have room of their own, for there is no end of them.
#[derive(Debug)]
pub struct ContactLines<K> {
    sources: Bounded<SourceKey, Source<K>>,
    strangers: Bounded<SourceKey, Source<K>>,
    throng: Option<Throng>,
    /// Contacts remembered one by one, and the most of them.
    contacts: usize,
    max_contacts: usize,
    theta1: f64,
    unused_bits: f64,
    evicted: u64,
}

impl<K: Ord + Copy> ContactLines<K> {
    /// Room for `max_sources`; `theta1` is a scanner's success rate, and `unused_bits` what a connection dropped unused
    /// says for a scan.
    pub fn new(max_sources: usize, theta1: f64, unused_bits: f64) -> Self {
        Self {
            sources: Bounded::new(max_sources),
            strangers: Bounded::new(max_sources),
            throng: None,
            contacts: 0,
            max_contacts: MAX_CONTACTS,
            theta1,
            unused_bits,
            evicted: 0,
        }
    }

    /// Remembers no more contacts than a share of memory allows.
    #[must_use]
    pub fn within(self, share: Share) -> Self {
        Self {
            max_contacts: share.part(MAX_CONTACTS),
            ..self
        }
    }

    /// Sources remembered.
    pub fn len(&self) -> usize {
        self.sources.len() + self.strangers.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most sources ever remembered.
    pub fn limit(&self) -> usize {
        self.sources.limit() + self.strangers.limit()
    }

    /// Strangers that came together, if they may be coming yet.
    pub fn throng(&mut self, now: Timestamp) -> Option<&mut Throng> {
        self.throng.as_mut().filter(|throng| throng.is_here(now))
    }

    /// Strangers that came together last, however long ago.
    pub fn last_throng(&mut self) -> Option<&mut Throng> {
        let last = self.throng.as_mut()?;
        last.is_here(last.last).then_some(last)
    }

    /// Whether a source may be made up, as far as is known.
    pub fn is_stranger(&self, key: &SourceKey) -> bool {
        self.strangers.contains(key)
    }

    /// Sources forgotten for want of room.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes a first contact of `actor`, whose contacts normally succeed at a rate of `theta0`.
    ///
    /// A success where nothing has failed leaves the test at zero, so it needs no memory.
    pub fn contact(&mut self, actor: &Endpoint, theta0: f64, line: K, contact: &FirstContact<'_>) {
        let key = source_key(actor);
        if contact.success && !contact.telling && !self.has(&key, &line) {
            return;
        }
        if let Some((line, test)) = self.line(&key, actor, theta0, line, contact) {
            let before = line.members.len();
            line.contact(contact, test);
            let more = line.members.len() - before;
            self.grow(more);
        }
    }

    /// A conversation of `actor` that was answered is over; `unused` says that it came to nothing worth connecting for.
    pub fn over(
        &mut self,
        actor: &Endpoint,
        theta0: f64,
        line: K,
        contact: &FirstContact<'_>,
        unused: bool,
    ) {
        let (key, unused_bits) = (source_key(actor), self.unused_bits);
        let telling = unused && unused_bits > 0.0;
        if !telling && !self.has(&key, &line) {
            return;
        }
        if let Some((line, test)) = self.line(&key, actor, theta0, line, contact) {
            let before = line.members.len();
            line.over(contact, unused, test, unused_bits);
            let more = line.members.len() - before;
            self.grow(more);
        }
    }

    /// What `actor` left unused, or was refused, or asked for nothing but an answer, it has another reason to visit again and again.
    pub fn excuse(&mut self, actor: &Endpoint, line: K, contact: &FirstContact<'_>) {
        let unused_bits = self.unused_bits;
        if let Some(source) = self.source(&source_key(actor))
            && let Some(line) = source.lines.get_mut(&line)
        {
            line.excuse(contact, source.test, unused_bits);
        }
    }

    /// Counts contacts just remembered. Too many, and other sources are forgotten.
    fn grow(&mut self, more: usize) {
        self.contacts += more;
        while self.contacts > self.max_contacts && self.len() > 1 {
            let stranger = self.strangers.pop_oldest();
            let Some((_, oldest)) = stranger.or_else(|| self.sources.pop_oldest()) else {
                return;
            };
            self.contacts -= oldest.size();
            self.evicted += 1;
        }
    }

    fn has(&self, key: &SourceKey, line: &K) -> bool {
        let source = self.sources.peek(key);
        source
            .or_else(|| self.strangers.peek(key))
            .is_some_and(|source| source.lines.contains_key(line))
    }

    /// A line of a source, begun if it is new.
    fn line(
        &mut self,
        key: &SourceKey,
        actor: &Endpoint,
        theta0: f64,
        line: K,
        contact: &FirstContact<'_>,
    ) -> Option<(&mut Line, SequentialTest)> {
        if !self.sources.contains(key) && (contact.vouched || !self.strangers.contains(key)) {
            let known = self.strangers.pop(key);
            let source = known.unwrap_or_else(|| Source {
                actor: actor.clone(),
                lines: SortedMap::new(),
                mark: 0,
                test: SequentialTest::new(theta0, self.theta1),
            });
            let table = if contact.vouched {
                &mut self.sources
            } else {
                let throng = &mut self.throng;
                let known = throng.as_mut().and_then(|throng| throng.join(contact));
                if known.is_none() {
                    let new = throng.insert(Throng::new(actor, contact.time));
                    new.join(contact)?;
                }
                &mut self.strangers
            };
            if let Some((_, oldest)) = table.push(key.clone(), source) {
                self.contacts -= oldest.size();
                self.evicted += 1;
            }
        }
        let known = self.sources.get_mut(key);
        let source = known.or_else(|| self.strangers.get_mut(key))?;
        if !source.lines.contains_key(&line) && source.lines.len() >= MAX_LINES {
            let weakest = source
                .lines
                .iter()
                .min_by(|(_, a), (_, b)| a.bits.total_cmp(&b.bits))
                .map(|(&key, _)| key)?;
            if let Some(gone) = source.lines.remove(&weakest) {
                self.contacts -= gone.members.len();
            }
        }
        let test = source.test;
        let line = source
            .lines
            .get_or_insert_with(line, || Line::new(contact.time));
        Some((line, test))
    }

    /// A source, if it is remembered.
    pub fn source(&mut self, key: &SourceKey) -> Option<&mut Source<K>> {
        let known = self.sources.peek_mut(key);
        known.or_else(|| self.strangers.peek_mut(key))
    }

    /// Sources that were not heard of since `before`, the longest silent first.
    pub fn stale(&self, before: Timestamp) -> impl Iterator<Item = &SourceKey> {
        let silent = move |source: &Source<K>| source.lines.values().all(|line| line.last < before);
        [&self.sources, &self.strangers]
            .into_iter()
            .flat_map(move |table| {
                table
                    .iter()
                    .take_while(move |(_, source)| silent(source))
                    .map(|(key, _)| key)
            })
    }

    /// Forgets the sources that were not heard of since `before`, and says which.
    pub fn forget(&mut self, before: Timestamp) -> Vec<SourceKey> {
        let stale: Vec<SourceKey> = self.stale(before).cloned().collect();
        for key in &stale {
            let known = self.sources.pop(key);
            if let Some(gone) = known.or_else(|| self.strangers.pop(key)) {
                self.contacts -= gone.size();
            }
        }
        stale
    }
}

/// Whether an outcome counts as a success, a failure, or says nothing (`None`): silence means little where answers are
/// not promised.
pub const fn success(outcome: Outcome, answers_promised: bool) -> Option<bool> {
    match outcome {
        Outcome::Answered => Some(true),
        Outcome::Refused | Outcome::Unreachable => Some(false),
        Outcome::Silent if answers_promised => Some(false),
        Outcome::Silent => None,
    }
}

/// The key of a source.
pub fn source_key(source: &Endpoint) -> SourceKey {
    let identity = &source.who.identity;
    let holder = match identity.kind {
        IdentityKind::Pod => identity.uid.clone().or_else(|| identity.name.clone()),
        _ => None,
    };
    SourceKey(source.ip, holder)
}
