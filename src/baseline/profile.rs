//! One workload's normal, as client and as server: whom it meets, in which words, how much of it a minute, and when.
//!
//! Detectors read it through the functions here. Each says how surprising something is in bits, or what was usual in
//! words; none needs more than the profile. [`super::Lineage`] adds what the workload's namespace and cluster do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::habit::{Period, Schedule};
use super::level::{self, Hours, Level};
use super::levels::Levels;
use super::limits;
use super::side::{self, Change, Room, Side};
use super::standing::{self, Feature, Maturity, Standing};
use super::surprise;
use super::table::{Entry, Key, Name, Names, PeerStat, Table, from_seconds, seconds};
use crate::features::{Contact, LogHistogram, PeerClass, Rate, Role, Vocabulary};
use crate::time::Timestamp;

/// How long a release's window is open: what is new in it is told once, and learned.
pub const RELEASE_WINDOW: Duration = Duration::from_hours(24);

/// What is too little to matter of a flow's bytes, whatever was seen before.
pub(super) const FLOW_BYTES_FLOOR: f64 = 16_384.0;
/// The same of a flow's milliseconds.
const FLOW_MILLIS_FLOOR: f64 = 60_000.0;

/// A peer of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer<'a> {
    /// Which side the workload was.
    pub role: Role,
    /// Who, as in [`Contact::peer`].
    pub name: &'a str,
    /// The server's port.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// How often and when.
    pub stat: PeerStat,
}

impl Peer<'_> {
    /// The peer as a contact.
    pub fn contact(&self) -> Contact {
        Contact {
            role: self.role,
            peer: self.name.into(),
            port: self.port,
            protocol: self.protocol,
        }
    }
}

/// A release that a workload was seen at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Release {
    pub(super) revision: Name,
    pub(super) first: u32,
    pub(super) last: u32,
}

/// What somebody accepted of a workload, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The alert's id.
    pub alert: String,
    /// Its signature.
    pub signature: String,
    /// Its targets, as peers are named, with their ports: `domain:example.com 443`.
    pub targets: Vec<String>,
    /// How many targets there were in all.
    pub target_count: u64,
    /// Why.
    pub reason: String,
    /// When it was accepted.
    pub time: Timestamp,
}

/// What a workload has been seen to do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) rates: Levels,
    pub(super) hours: Option<Box<Hours>>,
    /// When rates were too high to be learned, in hours since the epoch.
    pub(super) steps: BTreeMap<Rate, Vec<u32>>,
    pub(super) releases: Vec<Release>,
    pub(super) accepted: Vec<Accepted>,
    /// Minutes of its pods that were not learned because of alerts.
    pub(super) left_out: u64,
}

impl Profile {
    /// First and last sight of the workload.
    pub const fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.span
    }

    /// Time between first and last sight.
    pub fn observed(&self) -> Duration {
        self.span
            .map(|(first, last)| last.since(first))
            .unwrap_or_default()
    }

    /// How far it can be trusted as a whole: as far as what it says of peers, for the role it has met more in.
    pub fn maturity(&self) -> Maturity {
        if self.span.is_none() {
            return Maturity::None;
        }
        let contacts = self.contacts(Role::Client).max(self.contacts(Role::Server));
        if self.observed() >= standing::SETTLED_AFTER && contacts >= standing::CONTACTS {
            Maturity::Stable
        } else {
            Maturity::Learning
        }
    }

    /// How far what it says of one feature can be trusted at a time, and what is still missing.
    pub fn standing(&self, feature: Feature, now: Timestamp) -> Standing {
        let (samples, span) = match feature {
            Feature::Peers(role) => (self.contacts(role), self.side(role).peers.span()),
            Feature::Words(vocabulary, role) => match self.side(role).words.get(&vocabulary) {
                Some(table) => (table.sightings(), table.span()),
                None => (0, None),
            },
            Feature::Rate(rate) => {
                let minutes = self.rate(rate).map_or(0, LogHistogram::total);
                (minutes, self.span.filter(|_| minutes > 0))
            }
            Feature::Volume(role, class) => {
                let flows = self.side(role).volumes(class).out.total();
                (flows, self.span.filter(|_| flows > 0))
            }
        };
        standing::judge(feature, samples, span, now)
    }

    /// Peers known, with how often each was met: those it called first, then those that called it.
    pub fn peers(&self) -> impl Iterator<Item = Peer<'_>> {
        [Role::Client, Role::Server].into_iter().flat_map(|role| {
            let entries = self.side(role).peers.iter();
            entries.map(move |entry| Peer {
                role,
                name: &entry.name,
                port: entry.port,
                protocol: entry.protocol,
                stat: entry.stat(),
            })
        })
    }

    /// How many peers are known in a role.
    pub fn peer_count(&self, role: Role) -> usize {
        self.side(role).peers.len()
    }

    /// Registered domains known, with how often each was asked for.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = (&str, PeerStat)> {
        self.words(Vocabulary::Domain, Role::Client)
    }

    /// The words of a vocabulary that the workload said (as a client), or was told (as a server).
    pub fn words(
        &self,
        vocabulary: Vocabulary,
        role: Role,
    ) -> impl ExactSizeIterator<Item = (&str, PeerStat)> {
        let table = self.side(role).words.get(&vocabulary);
        let entries = table.map_or_else(std::slice::Iter::default, Table::iter);
        entries.map(|entry| (&**entry.name, entry.stat()))
    }

    /// Vocabularies of which a word is known.
    pub fn vocabularies(&self, role: Role) -> impl Iterator<Item = Vocabulary> {
        self.side(role).words.keys().copied()
    }

    /// The histogram of a rate per pod and minute, if any minute was counted.
    pub fn rate(&self, rate: Rate) -> Option<&LogHistogram> {
        self.rates.get(rate).map(|level| &level.minutes)
    }

    /// What is usual of a rate, in words for evidence: `≤ 84 (99 % of 1440 minutes)`.
    pub fn rate_expected(&self, rate: Rate) -> String {
        self.rates
            .get(rate)
            .map_or_else(|| "unknown".to_owned(), Level::expected)
    }

    /// Minutes of a rate that were too high to be learned.
    pub fn withheld(&self, rate: Rate) -> u64 {
        self.rates.get(rate).map_or(0, |level| level.withheld)
    }

    /// Bits of surprise at a pod's minute of this much or more, by the workload's own history alone: at most log2 of the
    /// minutes watched, and one more for each doubling beyond all that was seen. 0 for what is too little to matter
    /// ([`Rate::floor`]), and where nothing is known.
    pub fn rate_bits(&self, rate: Rate, observed: f64) -> f64 {
        self.rates
            .get(rate)
            .map_or(0.0, |level| surprise::bits(level.tail(rate, observed)))
    }

    /// The same in a given hour: what is usual at this hour of the day, or of the week, is normal; what is usual only at
    /// others is stranger still.
    pub fn rate_bits_at(&self, rate: Rate, observed: f64, time: Timestamp) -> f64 {
        surprise::bits(self.rate_tail(rate, observed, time))
    }

    /// The most that is usual of a rate at a time, 99 times of 100; less where numbers like `observed` have hours of their
    /// own, and this is none of them.
    pub fn rate_usual_at(&self, rate: Rate, observed: f64, time: Timestamp) -> f64 {
        let Some(level) = self.rates.get(rate) else {
            return 0.0;
        };
        let usual = level.minutes.quantile(0.99).unwrap_or(0.0);
        let hours = self.hours.as_deref();
        let here = hours.and_then(|hours| level.most_at(observed, hours, time));
        here.map_or(usual, |here| usual.min(here))
    }

    fn rate_tail(&self, rate: Rate, observed: f64, time: Timestamp) -> f64 {
        let Some(level) = self.rates.get(rate) else {
            return 1.0;
        };
        let any = level.tail(rate, observed);
        let at_hour = self
            .hours
            .as_deref()
            .filter(|_| any < 1.0)
            .and_then(|hours| level.at_hour(observed, hours, time));
        match at_hour {
            Some(usual) if usual > any => usual,
            Some(strange) => strange.min(any),
            None => any,
        }
    }

    /// [`Profile::rate_bits_at`] as a probability, with the minutes it rests on; for mixing with a group's.
    pub(super) fn rate_odds(
        &self,
        rate: Rate,
        observed: f64,
        time: Option<Timestamp>,
    ) -> (f64, u64) {
        let tail = match time {
            Some(time) => self.rate_tail(rate, observed, time),
            None => self
                .rates
                .get(rate)
                .map_or(1.0, |level| level.tail(rate, observed)),
        };
        (tail, self.rate(rate).map_or(0, LogHistogram::total))
    }

    /// Whether this very contact was seen before; one with a network outside also where it was with a peer there that
    /// was better known by a name.
    pub fn knows(&self, contact: &Contact) -> bool {
        let side = self.side(contact.role);
        let key = side::key(contact);
        side.peers.get(key).is_some() || side.networks.get(key).is_some()
    }

    /// How often and when a contact was made.
    pub fn contact(&self, contact: &Contact) -> Option<PeerStat> {
        let side = self.side(contact.role);
        side.peers.get(side::key(contact)).map(Entry::stat)
    }

    /// Whether the domain was asked for before.
    pub fn knows_domain(&self, domain: &str) -> bool {
        self.knows_word(Vocabulary::Domain, Role::Client, domain)
    }

    /// Whether the workload said a word before (as a client), or was told it (as a server).
    pub fn knows_word(&self, vocabulary: Vocabulary, role: Role, word: &str) -> bool {
        let table = self.side(role).words.get(&vocabulary);
        table.is_some_and(|table| table.get(Key::word(word)).is_some())
    }

    /// Bits of surprise at a word never said before: −log2 of the Good–Turing estimate. At most 1 where no word of the
    /// vocabulary was ever seen; more with each sighting of known ones.
    pub fn word_bits(&self, vocabulary: Vocabulary, role: Role) -> f64 {
        let table = self.side(role).words.get(&vocabulary);
        table.map_or_else(|| surprise::novelty_bits(0, 0), Table::novelty_bits)
    }

    /// How many words are known, and how often words were said.
    pub fn word_counts(&self, vocabulary: Vocabulary, role: Role) -> (usize, u64) {
        let table = self.side(role).words.get(&vocabulary);
        table.map_or((0, 0), |table| (table.len(), table.sightings()))
    }

    /// Bits of surprise at meeting a peer never met before in this role: −log2 of the Good–Turing estimate
    /// P(new) = N₁/N (I. J. Good, Biometrika 1953), with N₁ and N each raised a little so that a workload without a single
    /// stranger so far is not thought incapable of one. Contacts within ten seconds of one another count once.
    pub fn novelty_bits(&self, role: Role) -> f64 {
        self.side(role).peers.novelty_bits()
    }

    /// Contacts made in a role, over all peers; those with one peer within ten seconds of one another are one.
    pub fn contacts(&self, role: Role) -> u64 {
        self.side(role).peers.sightings()
    }

    /// Peers met in one moment only.
    pub fn met_once(&self, role: Role) -> u64 {
        self.side(role).peers.once()
    }

    /// Bits of surprise at a flow in which the client sends this many payload bytes or more to this class of peers.
    pub fn volume_bits(&self, role: Role, class: PeerClass, bytes: u64) -> f64 {
        surprise::bits(self.volume_odds(role, class, bytes).0)
    }

    pub(super) fn volume_odds(&self, role: Role, class: PeerClass, bytes: u64) -> (f64, u64) {
        let flows = &self.side(role).volumes(class).out;
        (
            level::tail(flows, bytes as f64, FLOW_BYTES_FLOOR),
            flows.total(),
        )
    }

    /// Bits of surprise at a flow with this very peer in which the client sends this many payload bytes or more; by its
    /// class where the peer has no history of its own.
    pub fn peer_volume_bits(&self, contact: &Contact, bytes: u64) -> f64 {
        let class = side::class_of(&contact.peer);
        let by_class = self.volume_odds(contact.role, class, bytes).0;
        let Some(habit) = self.side(contact.role).habit(contact) else {
            return surprise::bits(by_class);
        };
        let own = level::tail(&habit.out, bytes as f64, FLOW_BYTES_FLOOR);
        surprise::bits(level::mix(own, habit.out.total(), by_class))
    }

    /// Bits of surprise at a flow with this very peer that lasts this long or longer; by its class where the peer has no
    /// history of its own.
    pub fn duration_bits(&self, contact: &Contact, duration: Duration) -> f64 {
        let side = self.side(contact.role);
        let millis = duration.as_secs_f64() * 1000.0;
        let class = &side.volumes(side::class_of(&contact.peer)).duration;
        let by_class = level::tail(class, millis, FLOW_MILLIS_FLOOR);
        let Some(habit) = side.habit(contact) else {
            return surprise::bits(by_class);
        };
        let own = level::tail(&habit.duration, millis, FLOW_MILLIS_FLOOR);
        surprise::bits(level::mix(own, habit.duration.total(), by_class))
    }

    /// Payload bytes per flow to a class of peers, as the client sent them.
    pub fn volumes(&self, role: Role, class: PeerClass) -> &LogHistogram {
        &self.side(role).volumes(class).out
    }

    /// How regularly a peer is contacted, if often enough to tell.
    pub fn period(&self, contact: &Contact) -> Option<Period> {
        self.side(contact.role).habit(contact)?.period()
    }

    /// Bits of surprise at a gap this much longer or shorter than the usual one between contacts of a pod with a peer.
    pub fn gap_bits(&self, contact: &Contact, gap: Duration) -> f64 {
        self.side(contact.role)
            .habit(contact)
            .map_or(0.0, |habit| habit.gap_bits(gap))
    }

    /// The plan by which a peer is visited, where it is by a plan: a nightly backup, a weekly job.
    pub fn schedule(&self, contact: &Contact) -> Option<Schedule> {
        self.side(contact.role).habit(contact)?.schedule()
    }

    /// Bits of surprise at meeting a known peer at this hour, where it is visited by a plan and this is off it.
    pub fn hour_bits(&self, contact: &Contact, time: Timestamp) -> f64 {
        let side = self.side(contact.role);
        let Some(entry) = side.peers.get(side::key(contact)) else {
            return 0.0;
        };
        side.habit(contact)
            .map_or(0.0, |habit| habit.hour_bits(time, entry.last))
    }

    /// The share of begun flows that were answered, drawn towards 0.8 while there are few (a Beta(8, 2) prior, as the
    /// sequential scan test assumes), kept between 0.5 and 0.97.
    pub fn success_rate(&self) -> f64 {
        let (answered, failed) = (self.client.answered as f64, self.client.failed as f64);
        ((answered + 8.0) / (answered + failed + 10.0)).clamp(0.5, 0.97)
    }

    /// Whether a release is the first that was seen of the workload, by which its baseline began.
    pub fn began_with(&self, revision: &str) -> bool {
        let first = self.releases.first();
        first.is_some_and(|release| &**release.revision == revision)
    }

    /// When the release was first seen.
    pub fn released(&self, revision: &str) -> Option<Timestamp> {
        self.release(revision)
            .map(|release| from_seconds(release.first))
    }

    /// Releases known, the latest last, each with first and last sight.
    pub fn releases(&self) -> impl ExactSizeIterator<Item = (&str, Timestamp, Timestamp)> {
        self.releases.iter().map(|release| {
            let (first, last) = (from_seconds(release.first), from_seconds(release.last));
            (&**release.revision, first, last)
        })
    }

    /// Minutes of its pods that were not learned because of alerts.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What was accepted of it.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    fn release(&self, revision: &str) -> Option<&Release> {
        self.releases
            .iter()
            .find(|release| &**release.revision == revision)
    }

    pub(super) const fn side(&self, role: Role) -> &Side {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }

    pub(super) const fn side_mut(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    /// Minutes of pods that were counted.
    pub(super) fn minutes(&self) -> u64 {
        let minutes = self.rates.iter().map(|(_, level)| level.minutes.total());
        minutes.max().unwrap_or(0)
    }

    /// Entries in all its tables, and peers with habits.
    pub(super) fn size(&self) -> Change {
        Change {
            entries: self.client.entries() + self.server.entries(),
            habits: self.client.habits.len() + self.server.habits.len(),
            dropped: 0,
        }
    }

    pub(super) fn saw(&mut self, time: Timestamp) {
        self.span = Some(match self.span {
            Some((first, last)) => (first.min(time), last.max(time)),
            None => (time, time),
        });
    }

    /// A minute's number.
    pub(super) fn count(&mut self, rate: Rate, value: f64, minute: Timestamp) {
        self.hours.get_or_insert_default().watch(minute);
        self.rates.of(rate).add(rate, value, minute);
    }

    /// A pod of this release was seen.
    pub(super) fn run(&mut self, revision: &Name, time: Timestamp) {
        let now = seconds(time);
        self.run_between(&Release {
            revision: Name::clone(revision),
            first: now,
            last: now,
        });
    }

    fn run_between(&mut self, seen: &Release) {
        let known = self
            .releases
            .iter_mut()
            .find(|release| release.revision == seen.revision);
        if let Some(release) = known {
            release.first = release.first.min(seen.first);
            release.last = release.last.max(seen.last);
        } else {
            self.releases.push(seen.clone());
        }
        self.releases
            .sort_by(|a, b| (a.first, &**a.revision).cmp(&(b.first, &**b.revision)));
        let surplus = self.releases.len().saturating_sub(limits::RELEASES);
        self.releases.drain(..surplus);
    }

    /// Whether a release's window is open at a time: it is new, and not for long.
    pub(super) fn in_window(&self, time: Timestamp) -> bool {
        // The first release seen is where the baseline began, and changes nothing.
        self.releases.iter().skip(1).any(|release| {
            let first = from_seconds(release.first);
            first <= time && time.since(first) <= RELEASE_WINDOW
        })
    }

    /// Takes in another's as it is.
    pub(super) fn merge(&mut self, other: &Self, room: &mut Room) -> Change {
        self.join(other, room, |ours, _, theirs| ours.merge(theirs))
    }

    /// Learns what another saw, but for steps of rates outside a release's window.
    pub(super) fn learn(&mut self, other: &Self, room: &mut Room) -> Change {
        let now = other.span.map_or(Timestamp::MIN, |(_, last)| last);
        for release in &other.releases {
            self.run_between(release);
        }
        let free = self.in_window(now);
        let mut steps = std::mem::take(&mut self.steps);
        let change = self.join(other, room, |ours, rate, theirs| {
            let mut known = steps.remove(&rate).unwrap_or_default();
            ours.learn(theirs, rate, now, free, &mut known);
            if !known.is_empty() {
                steps.insert(rate, known);
            }
        });
        self.steps = steps;
        change
    }

    fn join(
        &mut self,
        other: &Self,
        room: &mut Room,
        mut level: impl FnMut(&mut Level, Rate, &Level),
    ) -> Change {
        let change = self.client.merge(&other.client, room);
        let change = change.and(self.server.merge(&other.server, room));
        for (rate, theirs) in other.rates.iter() {
            level(self.rates.of(rate), rate, theirs);
        }
        for (&rate, theirs) in &other.steps {
            let ours = self.steps.entry(rate).or_default();
            ours.extend(theirs);
            ours.sort_unstable();
            ours.dedup();
            let surplus = ours.len().saturating_sub(level::STEPS);
            ours.drain(..surplus);
        }
        if let Some(theirs) = &other.hours {
            match &mut self.hours {
                Some(ours) => ours.merge(theirs),
                None => self.hours = Some(theirs.clone()),
            }
        }
        for release in &other.releases {
            self.run_between(release);
        }
        self.left_out = self.left_out.saturating_add(other.left_out);
        for accepted in &other.accepted {
            self.accept(accepted.clone());
        }
        if let Some((first, last)) = other.span {
            self.saw(first);
            self.saw(last);
        }
        change
    }

    /// Remembers an acceptance; the oldest goes when there are too many.
    pub(super) fn accept(&mut self, accepted: Accepted) {
        if self
            .accepted
            .iter()
            .any(|known| known.alert == accepted.alert)
        {
            return;
        }
        self.accepted.push(accepted);
        self.accepted
            .sort_by(|a, b| (a.time, &a.alert).cmp(&(b.time, &b.alert)));
        let surplus = self.accepted.len().saturating_sub(limits::ACCEPTED);
        self.accepted.drain(..surplus);
    }

    /// Whether it holds what was last seen before `time`.
    pub(super) fn is_older_than(&self, time: Timestamp) -> bool {
        self.client.is_older_than(time) || self.server.is_older_than(time)
    }

    /// Forgets what was last seen before `time`.
    pub(super) fn forget_before(&mut self, time: Timestamp) -> Change {
        let change = self.client.forget_before(time);
        change.and(self.server.forget_before(time))
    }

    /// Takes its names from `names`, where it has room for them.
    pub(super) fn rename(&mut self, names: &mut Names) {
        let mut rename = |name: &mut Name| {
            if let Some(shared) = names.get(name) {
                *name = shared;
            }
        };
        for side in [&mut self.client, &mut self.server] {
            side.names_mut().for_each(&mut rename);
        }
        for release in &mut self.releases {
            rename(&mut release.revision);
        }
    }

    pub(super) fn shrink(&mut self) {
        self.client.shrink();
        self.server.shrink();
        self.rates.shrink();
        self.releases.shrink_to_fit();
    }
}
