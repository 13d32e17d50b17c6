//! The catalogue: one file per detector, each named like its signature and its captures.
//!
//! A detector sees [`Event`]s and a read-only [`Context`]; it knows nothing of packets, Kubernetes or sinks. What it
//! finds it reports as a [`Finding`], again and larger while the attack goes on; grouping and severity are not its
//! business.

#[cfg(test)]
mod bounds;
mod channels;
mod clocks;
mod db_deeds;
mod db_session;
mod decoys;
mod finding;
#[cfg(test)]
mod floods;
mod forwards;
mod guessing;
mod newness;
mod registries;
mod spikes;
mod stores;
mod suspects;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_db;
mod trace;
mod watch;

mod arp_spoof;
mod beacon;
mod control_plane_probe;
mod cracking_rig;
mod credential_dump;
mod darknet;
mod db_abuse;
mod db_bruteforce;
mod db_bulk_read;
mod db_enumeration;
mod db_injection;
mod db_novel_client;
mod db_sweep;
mod dns_beacon;
mod dns_tunnel;
mod exfiltration;
mod host_sweep;
mod http_bruteforce;
mod http_tunnel;
mod icmp_tunnel;
mod lateral_login;
mod long_connection;
mod miner;
mod novel_peer;
mod policy_gap;
mod port_forward;
mod port_scan;
mod post_deployment;
mod rate_shift;
mod registry_pull;
mod registry_push;
mod relay_pivot;
mod resource_spike;
mod reverse_shell;
mod service_enumeration;
mod ssh_bruteforce;
mod ssh_tunnel;
mod tls_c2;
mod undeclared_port;
mod unknown_container;
mod vpn_tunnel;
mod web_shell;
mod websocket_tunnel;

use std::sync::Arc;
use std::time::Duration;

use crate::address::is_group;
use crate::baseline::{Baseline, Lineage, Profile, RELEASE_WINDOW};
use crate::event::{Endpoint, Event, EventKinds, FlowInfo};
use crate::features::{Acquaintances, Debuts, Habits, PeerNamer, Releases, Replicas, is_of_pods};
use crate::identity::{Allocation, IdentityKind, Journal};
use crate::signature::Signature;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

pub use finding::{Evidence, Family, Finding, Target};
pub use trace::{Remark, Trace};

/// A program that is started turns to its servers within this time.
const SETTLED: Duration = Duration::from_secs(20);

/// Who has asked other services so often does so for a living.
const BUSY: u64 = 16;

/// What a detector may look at while it judges.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The learned normal, if there is one.
    pub baseline: Option<&'a Baseline>,
    /// Which addresses belong to whom, and which to nobody.
    pub journal: &'a Journal,
    /// Names for the other ends of flows, as the baseline has them.
    pub peers: &'a PeerNamer,
    /// Who has answered whom before in this run.
    pub acquaintances: &'a Acquaintances,
    /// How much pods have spoken.
    pub habits: &'a Habits,
    /// What began while we watched.
    pub debuts: &'a Debuts,
    /// Which releases ran in this run, and since when.
    pub releases: &'a Releases,
    /// What the pods of each workload have done in this run, side by side.
    pub replicas: &'a Replicas,
    /// Where to say why nothing came of something; only while a run is explained.
    pub trace: Option<&'a Trace>,
}

/// A release whose window is open: what is new in it has a cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// Template hash, controller revision or image.
    pub revision: Arc<str>,
    /// When it was first seen, by the baseline or in this run.
    pub since: Timestamp,
}

impl<'a> Context<'a> {
    /// The profile of an endpoint's workload, if one was learned.
    pub fn profile(&self, end: &Endpoint) -> Option<&'a Profile> {
        self.baseline?.profile(end.who.identity.workload.as_ref()?)
    }

    /// The release that a pod runs, if it is younger than a day: one that its workload's baseline didn't begin with, or
    /// that replaced another in this run.
    pub fn release(&self, end: &Endpoint, now: Timestamp) -> Option<Release> {
        let identity = &end.who.identity;
        let (workload, revision) = (identity.workload.as_ref()?, identity.revision.as_ref()?);
        let in_run = self.releases.since(workload, revision);
        let known = self
            .profile(end)
            .filter(|profile| profile.releases().len() > 0);
        let since = match known {
            Some(profile) if profile.began_with(revision) => return None,
            Some(profile) => profile.released(revision).or(in_run)?,
            None => in_run.filter(|_| self.releases.is_later(workload, revision))?,
        };
        (now.since(since) <= RELEASE_WINDOW).then(|| Release {
            revision: Arc::clone(revision),
            since,
        })
    }

    /// An endpoint's workload with its namespace and its cluster, which stand in for what its own history doesn't tell;
    /// `None` without a baseline, or if the end is no workload's.
    pub fn lineage<'b>(&self, end: &'b Endpoint) -> Option<Lineage<'b>>
    where
        'a: 'b,
    {
        let workload = end.who.identity.workload.as_ref()?;
        Some(self.baseline?.lineage(workload))
    }

    /// Whether the flow's originator has had an answer there before: in this run, or in the baseline.
    pub fn is_known(&self, flow: &FlowInfo) -> bool {
        self.acquaintances.met(flow) || self.is_learned(flow)
    }

    /// Whether a contact that came to nothing may have been a guess. It wasn't where somebody has answered before, or where
    /// somebody was only minutes ago: clients are told of those, and after a rollout they are told late.
    pub fn is_guess(&self, flow: &FlowInfo) -> bool {
        !self.acquaintances.served(flow)
            && self
                .journal
                .allocation(flow.network, flow.resp.ip, flow.start)
                != Allocation::Recent
    }

    /// Whether the flow's originator had been there for a while and never spoken to that server: programs that are started
    /// turn to their servers soon.
    pub fn is_stranger(&self, flow: &FlowInfo, now: Timestamp) -> bool {
        let first = self.debuts.seen(flow.orig.ip);
        first.is_some_and(|first| now.since(first) >= SETTLED) && !self.is_known(flow)
    }

    /// Whether a pod has other work than to copy data: it serves others, or asks services inside all the time.
    pub fn has_other_work(&self, pod: &Endpoint) -> bool {
        self.acquaintances.serves(pod.ip) || self.habits.asked(pod) >= BUSY
    }

    /// The same, of a pod that doesn't answer on a port itself.
    pub fn has_other_work_than(&self, pod: &Endpoint, port: u16) -> bool {
        self.acquaintances.serves_else(pod.ip, port)
            || !self.acquaintances.serves(pod.ip) && self.habits.asked(pod) >= BUSY
    }

    /// Whether somebody is known to be at an end: a pod that is named, or who has held a conversation. Any other address may be
    /// made up.
    pub fn is_there(&self, end: &Endpoint) -> bool {
        end.who.identity.kind == IdentityKind::Pod || self.acquaintances.is_there(end.ip)
    }

    /// Whether an end is a pod: so it is called, its address is the pods', or it finds the cluster's services by their names
    /// and nothing else is known of it.
    pub fn is_pod(&self, end: &Endpoint) -> bool {
        let unknown = end.who.identity.kind == IdentityKind::Unknown;
        is_of_pods(end) || unknown && self.peers.finds_services(end.ip)
    }

    /// Whether an end is a pod as far as is known: one of the pods', or any private address while nothing was told of the
    /// cluster.
    pub fn may_be_pod(&self, end: &Endpoint) -> bool {
        let private = end.who.identity.kind == IdentityKind::Unknown && !is_group(end.ip);
        is_of_pods(end) || private && self.journal.is_blank()
    }

    /// Whether the baseline has seen the flow's originator make this very contact.
    pub fn is_learned(&self, flow: &FlowInfo) -> bool {
        self.profile(&flow.orig).is_some_and(|profile| {
            self.peers
                .client_contact(flow)
                .is_some_and(|contact| profile.knows(&contact))
        })
    }
}

/// Where findings go.
pub type Findings = Vec<Finding>;

/// How much a detector remembers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StateSize {
    /// Subjects tracked.
    pub entries: usize,
    /// The most it will ever track.
    pub limit: usize,
}

/// Kinds of events that mean something only in flows that have shown something else before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Follows {
    /// These kinds are shown
    pub kinds: EventKinds,
    /// once the flow has had one of these.
    pub after: EventKinds,
}

impl Follows {
    /// Whether an event is of such a kind, and of a flow that has shown nothing of what it must follow.
    pub const fn passes_over(self, event: &Event) -> bool {
        self.kinds.contains(EventKinds::of(&event.kind)) && !event.before.meets(self.after)
    }
}

/// One detection method with its state.
pub trait Detector: Send {
    /// What it need not be shown of every flow. Most flows are none of a detector's business, and their turns and their ends
    /// are the most frequent events.
    fn follows(&self) -> Follows {
        Follows::default()
    }

    /// Looks at an event.
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings);

    /// Packet time moved on to `now` (about once a second, and once at the end).
    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let _ = (now, context, out);
    }

    /// The input is over: reports the final state of what was reported before.
    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        let _ = (context, out);
    }

    /// How much it remembers.
    fn state_size(&self) -> StateSize;

    /// What it had to forget, by cause.
    fn losses(&self) -> LossCounts {
        LossCounts::default()
    }
}

/// A detector in the catalogue.
#[derive(Clone, Copy)]
pub struct DetectorSpec {
    /// Kebab-case id: the stem of its signature and the name of its folder of captures.
    pub id: &'static str,
    /// The kinds of events it is shown.
    pub sees: EventKinds,
    /// Makes the detector from its signature, all of whose `[thresholds]` must be known and present.
    pub build: fn(&Signature) -> Result<Box<dyn Detector>, toml::de::Error>,
}

impl std::fmt::Debug for DetectorSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DetectorSpec").field(&self.id).finish()
    }
}

/// Every detector, sorted by id.
pub const DETECTORS: &[&DetectorSpec] = &[
    &arp_spoof::SPEC,
    &beacon::SPEC,
    &control_plane_probe::SPEC,
    &cracking_rig::SPEC,
    &credential_dump::SPEC,
    &darknet::SPEC,
    &db_abuse::SPEC,
    &db_bruteforce::SPEC,
    &db_bulk_read::SPEC,
    &db_enumeration::SPEC,
    &db_injection::SPEC,
    &db_novel_client::SPEC,
    &db_sweep::SPEC,
    &dns_beacon::SPEC,
    &dns_tunnel::SPEC,
    &exfiltration::SPEC,
    &host_sweep::SPEC,
    &http_bruteforce::SPEC,
    &http_tunnel::SPEC,
    &icmp_tunnel::SPEC,
    &lateral_login::SPEC,
    &long_connection::SPEC,
    &miner::SPEC,
    &novel_peer::SPEC,
    &policy_gap::SPEC,
    &port_forward::SPEC,
    &port_scan::SPEC,
    &post_deployment::SPEC,
    &rate_shift::SPEC,
    &registry_pull::SPEC,
    &registry_push::SPEC,
    &relay_pivot::SPEC,
    &resource_spike::SPEC,
    &reverse_shell::SPEC,
    &service_enumeration::SPEC,
    &ssh_bruteforce::SPEC,
    &ssh_tunnel::SPEC,
    &tls_c2::SPEC,
    &undeclared_port::SPEC,
    &unknown_container::SPEC,
    &vpn_tunnel::SPEC,
    &web_shell::SPEC,
    &websocket_tunnel::SPEC,
];
