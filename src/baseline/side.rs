//! What a workload does in one role: whom it meets, in which words, how much and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::habit::{self, Habit};
use super::limits;
use super::table::{Entry, Key, Name, Table, Taken, seconds};
use crate::features::{Contact, LogHistogram, PeerClass, Vocabulary};
use crate::time::Timestamp;

/// Volume and duration of flows with one class of peers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Volumes {
    /// Payload bytes per flow that the client sent.
    pub(super) out: LogHistogram,
    /// Payload bytes per flow that the server sent.
    pub(super) back: LogHistogram,
    /// Milliseconds per flow.
    pub(super) duration: LogHistogram,
}

impl Volumes {
    fn add(&mut self, out: u64, back: u64, duration: Duration) {
        self.out.add(out as f64);
        self.back.add(back as f64);
        self.duration.add(duration.as_secs_f64() * 1000.0);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        habit::merge(&mut self.out, &other.out);
        habit::merge(&mut self.back, &other.back);
        habit::merge(&mut self.duration, &other.duration);
    }
}

/// The habits with one peer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PeerHabit {
    pub(super) name: Name,
    pub(super) port: u16,
    pub(super) protocol: u8,
    pub(super) habit: Habit,
}

impl PeerHabit {
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            name: &self.name,
            port: self.port,
            protocol: self.protocol,
        }
    }
}

/// What a workload does as a client, or as a server.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Side {
    /// Peers that answered, or that it answered.
    pub(super) peers: Table,
    /// Networks of peers that have better names.
    pub(super) networks: Table,
    pub(super) words: BTreeMap<Vocabulary, Table>,
    /// By class of peers, in the order of [`PeerClass::ALL`].
    pub(super) volumes: [Volumes; 3],
    /// Habits with the first peers, sorted by key.
    pub(super) habits: Vec<PeerHabit>,
    /// Flows that were answered, and that failed.
    pub(super) answered: u64,
    pub(super) failed: u64,
}

/// How much a change added, and how much found no room.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Change {
    pub(super) entries: usize,
    pub(super) habits: usize,
    pub(super) dropped: usize,
}

impl Change {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            habits: self.habits + other.habits,
            dropped: self.dropped + other.dropped,
        }
    }
}

/// How much more may be learned, over all workloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) entries: usize,
    pub(super) habits: usize,
}

impl Room {
    fn take(&mut self, change: Change) {
        self.entries = self.entries.saturating_sub(change.entries);
        self.habits = self.habits.saturating_sub(change.habits);
    }
}

/// What a contact is found by in a table of peers.
pub(super) fn key(contact: &Contact) -> Key<'_> {
    Key {
        name: &contact.peer,
        port: contact.port,
        protocol: contact.protocol,
    }
}

/// Where a peer of this name is.
pub(super) fn class_of(peer: &str) -> PeerClass {
    if peer == "node" {
        PeerClass::Node
    } else if peer == "external" || peer.starts_with("domain:") || peer.starts_with("net:") {
        PeerClass::Outside
    } else {
        PeerClass::Inside
    }
}

impl Side {
    pub(super) fn volumes(&self, class: PeerClass) -> &Volumes {
        let [inside, node, outside] = &self.volumes;
        match class {
            PeerClass::Inside => inside,
            PeerClass::Node => node,
            PeerClass::Outside => outside,
        }
    }

    fn volumes_mut(&mut self, class: PeerClass) -> &mut Volumes {
        let [inside, node, outside] = &mut self.volumes;
        match class {
            PeerClass::Inside => inside,
            PeerClass::Node => node,
            PeerClass::Outside => outside,
        }
    }

    /// Entries in its tables.
    pub(super) fn entries(&self) -> usize {
        let words: usize = self.words.values().map(Table::len).sum();
        self.peers.len() + self.networks.len() + words
    }

    /// A peer answered, or was answered; `gap` after the same pod's contact before.
    pub(super) fn meet(
        &mut self,
        contact: &Contact,
        time: Timestamp,
        gap: Option<Duration>,
        mut name: impl FnMut() -> Option<Name>,
    ) -> Taken {
        let key = key(contact);
        let taken = self.peers.see(key, time, limits::PEERS, &mut name);
        if taken != Taken::NoRoom
            && let Some(habit) = self.habit_mut(key)
        {
            habit.contact(time, gap);
        }
        taken
    }

    /// A flow with a peer is over.
    pub(super) fn flow(&mut self, contact: &Contact, out: u64, back: u64, duration: Duration) {
        self.volumes_mut(class_of(&contact.peer))
            .add(out, back, duration);
        if let Some(habit) = self.habit_mut(key(contact)) {
            habit.flow(out, back, duration);
        }
    }

    /// The habit with a peer that is listed, if there is one or room for one.
    fn habit_mut(&mut self, key: Key<'_>) -> Option<&mut Habit> {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => {
                let name = &self.peers.get(key)?.name;
                if self.habits.len() >= limits::HABITS {
                    return None;
                }
                let new = PeerHabit {
                    name: Name::clone(name),
                    port: key.port,
                    protocol: key.protocol,
                    habit: Habit::default(),
                };
                self.habits.insert(at, new);
                at
            }
        };
        self.habits.get_mut(at).map(|peer| &mut peer.habit)
    }

    fn find(&self, key: Key<'_>) -> Result<usize, usize> {
        self.habits.binary_search_by(|peer| peer.key().cmp(&key))
    }

    pub(super) fn habit(&self, contact: &Contact) -> Option<&Habit> {
        let at = self.find(key(contact)).ok()?;
        self.habits.get(at).map(|peer| &peer.habit)
    }

    /// A word was said.
    pub(super) fn say(
        &mut self,
        vocabulary: Vocabulary,
        word: &str,
        time: Timestamp,
        name: impl FnOnce() -> Option<Name>,
    ) -> Taken {
        let table = self.words.entry(vocabulary).or_default();
        table.see(Key::word(word), time, vocabulary.limit(), name)
    }

    /// Takes in another's.
    pub(super) fn merge(&mut self, other: &Self, room: &mut Room) -> Change {
        let mut total = Change::default();
        // Before the tables, for what goes on depends on when each peer was seen.
        let habits = self.merge_habits(other, room.habits);
        room.take(habits);
        total = total.and(habits);
        let mut tables = vec![
            (&mut self.peers, &other.peers, limits::PEERS),
            (&mut self.networks, &other.networks, limits::NETWORKS),
        ];
        for vocabulary in other.words.keys() {
            self.words.entry(*vocabulary).or_default();
        }
        for (vocabulary, ours) in &mut self.words {
            if let Some(theirs) = other.words.get(vocabulary) {
                tables.push((ours, theirs, vocabulary.limit()));
            }
        }
        for (ours, theirs, limit) in tables {
            let limit = limit.min(ours.len().saturating_add(room.entries));
            let (entries, dropped) = ours.merge(theirs, limit);
            let change = Change {
                entries,
                habits: 0,
                dropped,
            };
            room.take(change);
            total = total.and(change);
        }
        for (ours, theirs) in self.volumes.iter_mut().zip(&other.volumes) {
            ours.merge(theirs);
        }
        self.answered = self.answered.saturating_add(other.answered);
        self.failed = self.failed.saturating_add(other.failed);
        total
    }

    fn merge_habits(&mut self, other: &Self, room: usize) -> Change {
        let mut added = 0;
        for theirs in &other.habits {
            let key = theirs.key();
            let seen = |table: &Table| table.get(key).map(|entry| (entry.first, entry.last));
            let Some(their_span) = seen(&other.peers) else {
                continue;
            };
            match self.find(key) {
                Ok(at) => {
                    let span = seen(&self.peers).unwrap_or(their_span);
                    if let Some(ours) = self.habits.get_mut(at) {
                        ours.habit.merge(&theirs.habit, span, their_span);
                    }
                }
                Err(at) if self.habits.len() < limits::HABITS && added < room => {
                    self.habits.insert(at, theirs.clone());
                    added += 1;
                }
                Err(_) => {}
            }
        }
        Change {
            habits: added,
            ..Change::default()
        }
    }

    /// Whether it holds what was last seen before `time`.
    pub(super) fn is_older_than(&self, time: Timestamp) -> bool {
        let least = seconds(time);
        let mut tables = [&self.peers, &self.networks]
            .into_iter()
            .chain(self.words.values());
        tables.any(|table| table.iter().any(|entry| entry.last < least))
    }

    /// Forgets what was last seen before `time`. Entries and habits forgotten.
    pub(super) fn forget_before(&mut self, time: Timestamp) -> Change {
        let least = seconds(time);
        let mut entries = self.peers.retain(|entry| entry.last >= least);
        entries += self.networks.retain(|entry| entry.last >= least);
        for table in self.words.values_mut() {
            entries += table.retain(|entry| entry.last >= least);
        }
        self.words.retain(|_, table| !table.is_empty());
        Change {
            entries,
            habits: self.drop_habits(),
            dropped: 0,
        }
    }

    /// Forgets peers; how many.
    pub(super) fn forget_peers(&mut self, mut which: impl FnMut(&Entry) -> bool) -> u64 {
        let gone = self.peers.retain(|entry| !which(entry));
        if gone > 0 {
            self.drop_habits();
        }
        gone as u64
    }

    /// Drops the habits with peers that are not listed any more.
    pub(super) fn drop_habits(&mut self) -> usize {
        let before = self.habits.len();
        let peers = &self.peers;
        self.habits.retain(|peer| peers.get(peer.key()).is_some());
        before - self.habits.len()
    }

    pub(super) fn names_mut(&mut self) -> impl Iterator<Item = &mut Name> {
        let words = self.words.values_mut().flat_map(Table::names_mut);
        let habits = self.habits.iter_mut().map(|peer| &mut peer.name);
        let peers = self.peers.names_mut().chain(self.networks.names_mut());
        peers.chain(words).chain(habits)
    }

    pub(super) fn shrink(&mut self) {
        self.peers.shrink();
        self.networks.shrink();
        self.words.values_mut().for_each(Table::shrink);
        self.habits.shrink_to_fit();
    }
}
