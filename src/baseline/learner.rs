//! Events into a baseline, in a way that can be taken back.
//!
//! What a pod does is written on sheets of its own, ten minutes each, and joins the baseline two hours later: time for an
//! alert to be raised. What an alert covers is struck out before (see `cover.rs`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Baseline;
use super::cover::{Cover, Withheld};
use super::profile::Profile;
use super::side::key;
use super::table::Name;
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::features::{Bounded, Contact, PeerNamer, RateWindows, Role, Sample, Vocabulary, words};
use crate::flow::{FlowRecord, Outcome};
use crate::identity::{IdentityKind, WorkloadId};
use crate::telemetry::Loss;
use crate::time::Timestamp;

/// How long a sheet is.
const SHEET: i64 = 600_000_000_000;
/// How old a sheet is when it joins the baseline.
const HOLD: Duration = Duration::from_hours(2);
/// Sheets held back; more join early.
const MAX_SHEETS: usize = 20_000;
/// Contacts whose last time is remembered, for the gap to the next.
const MAX_RECENT: usize = 1 << 16;

/// A pod's sheet: when it begins, and whose it is.
pub(super) type SheetKey = (i64, IpAddr, WorkloadId);
/// Sheets that are held back. A snapshot shares those that are written no more.
pub(super) type Sheets = BTreeMap<SheetKey, Arc<Profile>>;

/// Updates a baseline from events, in their order.
#[derive(Debug)]
pub struct Learner {
    baseline: Baseline,
    rates: RateWindows,
    sheets: Sheets,
    /// When a pod last made a contact.
    recent: Bounded<(IpAddr, Contact), Timestamp>,
    /// Sheets that begin before this have joined the baseline.
    settled: i64,
    withheld: BTreeMap<String, Withheld>,
}

impl Default for Learner {
    fn default() -> Self {
        Self::new(Baseline::default())
    }
}

impl Learner {
    /// Goes on from what was learned before; from a snapshot, with what was held back.
    pub fn new(mut baseline: Baseline) -> Self {
        Self {
            sheets: std::mem::take(&mut baseline.held),
            baseline,
            rates: RateWindows::default(),
            recent: Bounded::new(MAX_RECENT),
            settled: i64::MIN,
            withheld: BTreeMap::new(),
        }
    }

    /// What has been learned by now.
    pub const fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// What has been learned by now and what is held back, to go on from. It shares its profiles with the learner.
    pub fn snapshot(&self) -> Baseline {
        Baseline {
            held: self.sheets.clone(),
            ..self.baseline.clone()
        }
    }

    /// Learns from an event. `peers` must have observed the events before it.
    pub fn observe(&mut self, event: &Event, peers: &PeerNamer) {
        let mut samples = Vec::new();
        self.rates
            .observe(event, |sample| samples.push(own(sample)));
        self.write(samples);
        if let Some(flow) = event.flow() {
            for (vocabulary, word) in words(event) {
                let name = self.name(&word);
                for (end, role) in ends(flow) {
                    if role == Role::Server && !vocabulary.is_served() {
                        continue;
                    }
                    let say = |profile: &mut Profile| {
                        let side = profile.side_mut(role);
                        side.say(vocabulary, &word, event.time, || name.clone());
                    };
                    if end.who.identity.kind == IdentityKind::Node {
                        self.pulled(end, (role, vocabulary), event.time, say);
                    } else {
                        self.sheet(end, event.time, say);
                    }
                }
            }
        }
        match &event.kind {
            EventKind::FlowOpened(flow) => {
                for (end, _) in ends(flow) {
                    self.run(end, event.time);
                }
            }
            EventKind::FlowOutcome { flow, outcome } => {
                self.outcome(flow, *outcome, event.time, peers);
            }
            EventKind::FlowEnded { flow, record } => self.ended(flow, record, peers),
            _ => {}
        }
    }

    /// Writes on the nodes' sheet what they pull, and from where: of nodes nothing else is learned.
    fn pulled(
        &mut self,
        node: &Endpoint,
        (role, vocabulary): (Role, Vocabulary),
        time: Timestamp,
        say: impl FnOnce(&mut Profile),
    ) {
        let pulls = matches!(vocabulary, Vocabulary::Registry | Vocabulary::Pulled);
        if role == Role::Client && pulls {
            let sheet = self.entry(time, node.ip, &WorkloadId::nodes());
            sheet.saw(time);
            say(sheet);
        }
    }

    fn outcome(&mut self, flow: &FlowInfo, outcome: Outcome, time: Timestamp, peers: &PeerNamer) {
        let answered = outcome == Outcome::Answered;
        for (end, role) in ends(flow) {
            self.sheet(end, time, |profile| {
                profile.saw(time);
                let side = profile.side_mut(role);
                let count = if answered {
                    &mut side.answered
                } else {
                    &mut side.failed
                };
                *count = count.saturating_add(1);
            });
        }
        // An attempt that nobody answered makes no acquaintance.
        if !answered {
            return;
        }
        for (end, contact) in contacts(flow, peers) {
            let name = self.name(&contact.peer);
            let recent = (end.ip, contact);
            let gap = self.recent.get(&recent).map(|&last| time.since(last));
            self.sheet(end, time, |profile| {
                let side = profile.side_mut(recent.1.role);
                side.meet(&recent.1, time, gap, || name.clone());
            });
            self.recent.put(recent, time);
        }
        if let Some(network) = peers.client_network(flow) {
            let name = self.name(&network.peer);
            self.sheet(&flow.orig, time, |profile| {
                let networks = &mut profile.client.networks;
                networks.see(key(&network), time, super::limits::NETWORKS, || name);
            });
        }
    }

    fn ended(&mut self, flow: &FlowInfo, record: &FlowRecord, peers: &PeerNamer) {
        let [there, back] = record.payload_bytes;
        if there == 0 && back == 0 {
            return;
        }
        let duration = record.end.since(flow.start);
        for (end, contact) in contacts(flow, peers) {
            self.sheet(end, record.end, |profile| {
                let side = profile.side_mut(contact.role);
                side.flow(&contact, there, back, duration);
            });
        }
    }

    /// Notes the release that a pod runs.
    fn run(&mut self, end: &Endpoint, time: Timestamp) {
        if let Some(revision) = &end.who.identity.revision
            && let Some(name) = self.name(revision)
        {
            self.sheet(end, time, |profile| profile.run(&name, time));
        }
    }

    fn name(&mut self, text: &str) -> Option<Name> {
        let name = self.baseline.names.get(text);
        if name.is_none() {
            self.baseline.losses.add(Loss::BaselineFull);
        }
        name
    }

    fn write(&mut self, samples: Vec<Owned>) {
        for (pod, workload, minute, rate, value) in samples {
            let sheet = self.entry(minute, pod, &workload);
            sheet.count(rate, value, minute);
        }
    }

    /// Writes on a pod's sheet, if the end is a workload's.
    fn sheet(&mut self, end: &Endpoint, time: Timestamp, update: impl FnOnce(&mut Profile)) {
        if let Some(workload) = &end.who.identity.workload {
            update(self.entry(time, end.ip, workload));
        }
    }

    fn entry(&mut self, time: Timestamp, pod: IpAddr, workload: &WorkloadId) -> &mut Profile {
        let key = (time.nanos().div_euclid(SHEET), pod, workload.clone());
        if self.sheets.len() >= MAX_SHEETS
            && !self.sheets.contains_key(&key)
            && let Some((key, sheet)) = self.sheets.pop_first()
        {
            self.join(&key, sheet, &[]);
        }
        Arc::make_mut(self.sheets.entry(key).or_default())
    }

    /// Whether sheets are due to join the baseline.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.sheets
            .first_key_value()
            .is_some_and(|((at, ..), _)| *at < due(now))
    }

    /// Lets old sheets join the baseline, but for what alerts cover.
    pub fn settle(&mut self, now: Timestamp, covers: &[Cover]) {
        while let Some(entry) = self.sheets.first_entry() {
            if entry.key().0 >= due(now) {
                break;
            }
            let (key, sheet) = entry.remove_entry();
            self.join(&key, sheet, covers);
        }
        self.recall(covers);
    }

    /// Ends the current minute and gives the baseline back, with what is not in it because of alerts.
    pub fn finish_without(mut self, covers: &[Cover]) -> (Baseline, Vec<Withheld>) {
        let mut samples = Vec::new();
        self.rates.flush(|sample| samples.push(own(sample)));
        self.write(samples);
        for (key, sheet) in std::mem::take(&mut self.sheets) {
            self.join(&key, sheet, covers);
        }
        self.recall(covers);
        self.baseline.age();
        let withheld = self.withheld.into_values().collect();
        (self.baseline, withheld)
    }

    /// Ends the current minute and gives the baseline back.
    pub fn finish(self) -> Baseline {
        self.finish_without(&[]).0
    }

    fn join(&mut self, key: &SheetKey, sheet: Arc<Profile>, covers: &[Cover]) {
        let mut sheet = Arc::unwrap_or_clone(sheet);
        let (at, pod, workload) = key;
        let start = at.saturating_mul(SHEET);
        let time = (
            Timestamp::from_nanos(start),
            Timestamp::from_nanos(start.saturating_add(SHEET)),
        );
        self.settled = self.settled.max(at.saturating_add(1));
        let known = self.baseline.profile(workload);
        let mut minutes = 0;
        for cover in covers {
            let withheld = self.withheld.entry(cover.alert.clone()).or_default();
            withheld.alert.clone_from(&cover.alert);
            if cover.censor(*pod, time, &mut sheet, known, withheld) {
                minutes = sheet.minutes().max(1);
                withheld.minutes += minutes;
            }
        }
        if minutes > 0 {
            sheet = Profile {
                left_out: minutes,
                ..Profile::default()
            };
        }
        self.baseline.learn(workload, &sheet);
    }

    /// Takes back what was learned of attacks that began before what is still held back.
    fn recall(&mut self, covers: &[Cover]) {
        for cover in covers {
            let slow = cover.first.nanos().div_euclid(SHEET) < self.settled;
            if let Some(workload) = &cover.workload
                && slow
                && self.baseline.profile(workload).is_some()
            {
                let mut peers = 0;
                self.baseline
                    .change(workload, |profile, _| peers = cover.recall(profile));
                if let Some(withheld) = self.withheld.get_mut(&cover.alert) {
                    withheld.peers += peers;
                }
            }
        }
    }
}

/// The first sheet that is held back still.
fn due(now: Timestamp) -> i64 {
    now.before(HOLD).nanos().div_euclid(SHEET)
}

/// A sample that is kept: pod, workload, minute, rate, value.
type Owned = (IpAddr, WorkloadId, Timestamp, crate::features::Rate, f64);

fn own(sample: &Sample<'_>) -> Owned {
    (
        sample.pod,
        sample.workload.clone(),
        sample.minute,
        sample.rate,
        sample.value,
    )
}

/// Both ends of a flow with their roles.
fn ends(flow: &FlowInfo) -> [(&Endpoint, Role); 2] {
    [(&flow.orig, Role::Client), (&flow.resp, Role::Server)]
}

/// What the contact is to each end that is a workload's.
fn contacts<'a>(
    flow: &'a FlowInfo,
    peers: &PeerNamer,
) -> impl Iterator<Item = (&'a Endpoint, Contact)> + use<'a> {
    let client = peers
        .client_contact(flow)
        .map(|contact| (&flow.orig, contact));
    let server = peers
        .server_contact(flow)
        .map(|contact| (&flow.resp, contact));
    client.into_iter().chain(server)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::alert::testing::{at, external, flow, pod, unknown};
    use crate::dissect::{TlsClientHello, Transaction};
    use crate::identity::Identity;

    /// `shop/cart` meets so many databases, a minute apart.
    fn meet(learner: &mut Learner, numbers: std::ops::Range<u64>) {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        for n in numbers {
            let name = format!("db{n}");
            let db = pod("shop", &name, "k2l9q", &format!("10.244.2.{n}"));
            let kind = EventKind::FlowOutcome {
                flow: flow(n, &cart, &db, 5432),
                outcome: Outcome::Answered,
            };
            let event = Event::new(at(60 * n as i64), kind);
            learner.observe(&event, &PeerNamer::default());
        }
    }

    #[test]
    fn a_snapshot_goes_on_as_if_nothing_had_happened() {
        let mut whole = Learner::default();
        meet(&mut whole, 0..250);
        whole.settle(at(60 * 250), &[]);
        let mut first = Learner::default();
        meet(&mut first, 0..200);
        first.settle(at(60 * 200), &[]);
        let snapshot = first.snapshot();
        assert!(!snapshot.held.is_empty() && snapshot.profiles().len() > 10);
        // What the first learns from there on is not in the snapshot.
        meet(&mut first, 200..210);
        let mut second = Learner::new(snapshot);
        meet(&mut second, 200..250);
        second.settle(at(60 * 250), &[]);
        assert_eq!(second.finish(), whole.finish());
    }

    #[test]
    fn of_nodes_only_what_they_pull_is_learned() {
        let mut node = unknown("10.244.1.1");
        node.who.identity = Arc::new(Identity::bare(IdentityKind::Node));
        let mut learner = Learner::default();
        let outside = external("203.0.113.20");
        for (n, name) in (0..).zip(["ghcr.io", "www.example.com"]) {
            let hello = TlsClientHello {
                sni: Some(name.into()),
                ..TlsClientHello::default()
            };
            let kind = EventKind::Transaction {
                flow: flow(n as u64, &node, &outside, 443),
                transaction: Transaction::TlsClient(hello),
            };
            let event = Event::new(at(60 * n), kind);
            learner.observe(&event, &PeerNamer::default());
        }
        let baseline = learner.finish();
        let nodes = baseline.profile(&WorkloadId::nodes()).unwrap();
        let registries = nodes.words(Vocabulary::Registry, Role::Client);
        assert_eq!(
            registries.map(|(name, _)| name).collect::<Vec<_>>(),
            ["ghcr.io"]
        );
        assert_eq!(nodes.vocabularies(Role::Client).count(), 1);
    }

    #[test]
    fn what_an_alert_covers_is_left_out_of_what_was_held_back_too() {
        let mut first = Learner::default();
        meet(&mut first, 0..5);
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let cover = Cover {
            alert: "a".to_owned(),
            actor: cart.ip,
            workload: cart.who.identity.workload.clone(),
            first: at(0),
            last: at(300),
            departure: false,
            targets: BTreeSet::new(),
            peers: BTreeSet::new(),
        };
        let second = Learner::new(first.snapshot());
        let (baseline, withheld) = second.finish_without(&[cover]);
        assert_eq!(withheld.len(), 1);
        let workload = cart.who.identity.workload.clone().unwrap();
        let profile = baseline.profile(&workload);
        assert_eq!(profile.map_or(0, |profile| profile.peers().count()), 0);
    }
}
