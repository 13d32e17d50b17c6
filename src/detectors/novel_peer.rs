//! `novel-peer`: a workload meets somebody it never met in its baseline.
//!
//! The general departure, quieter than everything else: without a baseline it is silent, and how much a new peer
//! surprises follows from how often the workload met new ones before (see [`crate::baseline`]). A workload too young to
//! have habits is compared pod by pod with itself: one replica that calls somebody outside whom its siblings never call.
//! What is new while a release is young is told once for all of its pods, as new with this release; peers outside are then
//! `post-deployment`'s.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::newness::bare_address;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Release, StateSize,
    Target,
};
use crate::baseline::Profile;
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Contact, PeerClass, Role, SourceKey, source_key};
use crate::flow::Outcome;
use crate::identity::WorkloadId;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "novel-peer",
    sees: EventKinds::FLOW_OUTCOME,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(NovelPeer::new(
            SPEC.id,
            thresholds,
            signature.alert_bits,
        )))
    },
};

/// New peers listed per source.
const MAX_PEERS: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    min_observed_secs: u64,
    min_contacts: u64,
    max_sources: usize,
}

/// Notes whom workloads meet for the first time, for two signatures that share these between them.
pub(super) struct NovelPeer {
    id: &'static str,
    thresholds: Thresholds,
    alert_bits: f64,
    sources: Bounded<Subject, Newcomer>,
    /// Which subject met somebody first, so that a workload's other pods don't tell it again.
    met: Bounded<(WorkloadId, Contact), Subject>,
    evicted: u64,
}

/// Whose news it is: a pod's own, or that of a release, whichever pods run it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    Pod(SourceKey),
    Release(WorkloadId, Arc<str>),
}

struct Newcomer {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    peers: Vec<(Contact, Target)>,
    more: u64,
    flows: Vec<Arc<FlowInfo>>,
    evidence: Vec<Evidence>,
}

impl NovelPeer {
    pub(super) fn new(id: &'static str, thresholds: Thresholds, alert_bits: f64) -> Self {
        let room = thresholds.max_sources;
        Self {
            sources: Bounded::new(room),
            met: Bounded::new(room),
            evicted: 0,
            id,
            thresholds,
            alert_bits,
        }
    }

    /// Whether a contact is this signature's to tell.
    fn is_ours(&self, flow: &FlowInfo, release: Option<&Release>) -> bool {
        let deployed = release.is_some() && PeerClass::of(&flow.resp) == PeerClass::Outside;
        deployed == (self.id == super::post_deployment::SPEC.id)
    }

    /// How surprising a contact is, by the workload's own history, else by what its pod's siblings do.
    fn weigh(&self, flow: &FlowInfo, contact: &Contact, context: &Context<'_>) -> Option<Evidence> {
        let baseline = context.baseline?;
        let workload = flow.orig.who.identity.workload.as_ref()?;
        let profile = baseline.profile(workload);
        if profile.is_some_and(|profile| profile.knows(contact)) {
            return None;
        }
        let settled = profile.filter(|profile| {
            profile.observed() >= Duration::from_secs(self.thresholds.min_observed_secs)
                && profile.contacts(Role::Client) >= self.thresholds.min_contacts
        });
        if let Some(profile) = settled {
            return Some(Evidence {
                feature: "peer.novelty",
                family: Family::Novelty,
                observed: 1.0,
                expected: format!(
                    "one of {} peers known from {} contacts",
                    profile.peer_count(Role::Client),
                    profile.contacts(Role::Client)
                ),
                bits: baseline.lineage(workload).contact_bits(contact),
                signature_grade: false,
                text: String::new(),
            });
        }
        context.remark(self.id, flow, || self.unsettled(profile));
        // Pods of a StatefulSet have roles, and inside a cluster one replica leads; outside all call the same.
        let comparable = &*workload.kind != "StatefulSet";
        if !comparable || PeerClass::of(&flow.resp) != PeerClass::Outside {
            return None;
        }
        let siblings = context.replicas.siblings(&flow.orig, contact);
        Some(Evidence {
            feature: "peer.siblings",
            family: Family::Novelty,
            observed: 1.0,
            expected: format!(
                "what one of {} siblings did in {} contacts",
                siblings.pods, siblings.contacts
            ),
            bits: siblings.novelty_bits(),
            signature_grade: false,
            text: String::new(),
        })
    }

    /// What a profile lacks to call anything new, in words.
    fn unsettled(&self, profile: Option<&Profile>) -> String {
        let (watched, contacts) = profile.map_or((0, 0), |profile| {
            (profile.observed().as_secs(), profile.contacts(Role::Client))
        });
        format!(
            "the workload was watched for {watched} of {} s and {contacts} of {} contacts, too little to call anything new; its pods are compared with one another",
            self.thresholds.min_observed_secs, self.thresholds.min_contacts
        )
    }

    /// Notes a contact; `None` if it is no news.
    fn meet(
        &mut self,
        subject: &Subject,
        flow: &Arc<FlowInfo>,
        contact: Contact,
        time: Timestamp,
    ) -> Option<&mut Newcomer> {
        let workload = flow.orig.who.identity.workload.clone()?;
        let key = (workload, contact);
        match self.met.get(&key) {
            Some(first) if first != subject => return None,
            Some(_) => {}
            None => {
                self.met.put(key.clone(), subject.clone());
            }
        }
        if !self.sources.contains(subject) {
            let source = Newcomer {
                actor: flow.orig.clone(),
                first: time,
                last: time,
                peers: Vec::new(),
                more: 0,
                flows: Vec::new(),
                evidence: Vec::new(),
            };
            let evicted = self.sources.push(subject.clone(), source);
            self.evicted += u64::from(evicted.is_some());
        }
        let source = self.sources.get_mut(subject)?;
        source.last = source.last.max(time);
        let (_, contact) = key;
        if source.peers.iter().any(|(known, _)| *known == contact) {
            return None;
        }
        if source.peers.len() < MAX_PEERS {
            let target = Target {
                endpoint: Some(flow.resp.clone()),
                port: (contact.port != 0).then_some(contact.port),
                protocol: None,
                domain: contact.peer.strip_prefix("domain:").map(Arc::from),
            };
            source.peers.push((contact, target));
            source.flows.push(Arc::clone(flow));
        } else {
            source.more += 1;
        }
        Some(source)
    }
}

impl Newcomer {
    /// Takes in the evidence of the latest contact: of each feature the strongest stays.
    fn take(&mut self, evidence: Evidence) {
        match self
            .evidence
            .iter_mut()
            .find(|known| known.feature == evidence.feature)
        {
            Some(known) if known.bits >= evidence.bits => {}
            Some(known) => *known = evidence,
            None => self.evidence.push(evidence),
        }
    }

    fn finding(&self, id: &'static str, subject: &Subject) -> Finding {
        let count = self.peers.len() as u64 + self.more;
        let names: Vec<&str> = self
            .peers
            .iter()
            .take(3)
            .map(|(contact, _)| &*contact.peer)
            .collect();
        let more = if count > 3 {
            format!(" and {} more", count - 3)
        } else {
            String::new()
        };
        let names = format!("{}{more}", names.join(", "));
        let (group, summary) = match subject {
            Subject::Pod(_) => (String::new(), format!("met {count} new: {names}")),
            Subject::Release(_, revision) => (
                format!("release {revision}"),
                format!("met {count} new with this release ({revision}): {names}"),
            ),
        };
        let evidence = self.evidence.iter().map(|evidence| {
            if evidence.family != Family::Novelty {
                return evidence.clone();
            }
            Evidence {
                observed: count as f64,
                text: format!("first contact with {names}"),
                ..evidence.clone()
            }
        });
        Finding {
            signature: id,
            subject: group,
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: self
                .peers
                .iter()
                .map(|(_, target)| target.clone())
                .collect(),
            target_count: count,
            evidence: evidence.collect(),
            flows: self.flows.clone(),
            summary,
        }
    }
}

impl Detector for NovelPeer {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::FlowOutcome {
            flow,
            outcome: Outcome::Answered,
        } = &event.kind
        else {
            return;
        };
        let Some(contact) = context.peers.client_contact(flow) else {
            return;
        };
        let Some(evidence) = self.weigh(flow, &contact, context) else {
            return;
        };
        if evidence.bits < self.alert_bits {
            return;
        }
        let workload = flow.orig.who.identity.workload.clone();
        let release = context.release(&flow.orig, event.time);
        if !self.is_ours(flow, release.as_ref()) {
            context.remark(self.id, flow, || match release {
                Some(_) => "new with a release, and told by `post-deployment` if outside".into(),
                None => "no release of the workload is young".into(),
            });
            return;
        }
        let subject = match workload.zip(release) {
            Some((workload, release)) => Subject::Release(workload, release.revision),
            None => Subject::Pod(source_key(&flow.orig)),
        };
        let id = self.id;
        if let Some(source) = self.meet(&subject, flow, contact, event.time) {
            source.take(evidence);
            let bare =
                bare_address(flow, context).filter(|_| matches!(subject, Subject::Release(..)));
            if let Some(bare) = bare {
                source.take(bare);
            }
            out.push(source.finding(id, &subject));
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.sources.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Bench, end, pod};
    use crate::event::Endpoint;
    use crate::flow::Outcome;
    use crate::identity::IdentityKind;

    /// A database client with two peers, and a crawler with a new one each time, watched for an hour.
    fn learned() -> Bench {
        let mut bench = Bench::new("novel-peer");
        let (api, crawler) = (pod("10.244.1.7", "api"), pod("10.244.1.8", "crawler"));
        for n in 0..600_u16 {
            let at = f64::from(n) * 6.0;
            let peer = pod("10.244.1.3", if n % 2 == 0 { "db" } else { "cache" });
            bench.tcp(at, (&api, &peer), 5432, Outcome::Answered, 500);
            let site = end(
                &format!("203.{}.{}.7", n / 200, n % 200),
                IdentityKind::External,
                None,
            );
            bench.tcp(at, (&crawler, &site), 443, Outcome::Answered, 500);
        }
        bench.learned("novel-peer")
    }

    #[test]
    fn a_closed_workload_and_a_crawler_meet_the_same_stranger() {
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        let mut bench = learned();
        bench.tcp(
            9000.0,
            (&pod("10.244.1.7", "api"), &stranger),
            443,
            Outcome::Answered,
            100,
        );
        assert!(
            bench.alerts(),
            "600 contacts with two peers: {} bits",
            bench.bits()
        );
        let mut bench = learned();
        bench.tcp(
            9000.0,
            (&pod("10.244.1.8", "crawler"), &stranger),
            443,
            Outcome::Answered,
            100,
        );
        assert!(bench.findings.is_empty(), "it meets strangers all the time");
    }

    #[test]
    fn rollouts_known_peers_and_bare_captures_are_left_alone() {
        let mut bench = learned();
        // Another pod of the same workload, at another address, to another pod of the known one.
        let (api, db) = (pod("10.244.1.77", "api"), pod("10.244.1.33", "db"));
        bench.tcp(9000.0, (&api, &db), 5432, Outcome::Answered, 100);
        // A workload nobody has seen before.
        bench.tcp(
            9000.0,
            (&pod("10.244.1.50", "new"), &db),
            5432,
            Outcome::Answered,
            100,
        );
        // A stranger that doesn't answer is no acquaintance.
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        bench.tcp(9000.0, (&api, &stranger), 443, Outcome::Refused, 0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    /// A pod of a release.
    fn released(ip: &str, name: &str, revision: &str) -> Endpoint {
        let mut pod = pod(ip, name);
        Arc::make_mut(&mut pod.who.identity).revision = Some(revision.into());
        pod
    }

    #[test]
    fn what_is_new_with_a_release_is_told_once() {
        let mut bench = Bench::new("novel-peer");
        let db = pod("10.244.1.3", "db");
        for n in 0..600_u16 {
            let api = released("10.244.1.7", "api", "v1");
            bench.tcp(
                f64::from(n) * 10.0,
                (&api, &db),
                5432,
                Outcome::Answered,
                500,
            );
        }
        let mut bench = bench.learned("novel-peer");
        let new = [pod("10.244.1.40", "search"), pod("10.244.1.41", "mail")];
        let later = 7000.0;
        for round in 0..3 {
            for replica in 0..3_u8 {
                for peer in &new {
                    let api = released(&format!("10.244.1.{}", 50 + replica), "api", "v2");
                    let at = later + f64::from(round * 60 + replica);
                    bench.tcp(at, (&api, peer), 443, Outcome::Answered, 500);
                }
            }
        }
        assert!(bench.alerts());
        let last = bench.findings.last().unwrap();
        assert_eq!(
            bench.findings.len(),
            2,
            "once per peer, whichever pod meets it"
        );
        assert_eq!(
            (last.subject.as_str(), last.target_count),
            ("release v2", 2)
        );
        assert!(
            last.summary.contains("new with this release (v2)"),
            "{}",
            last.summary
        );
        // Two days later the release explains nothing any more.
        let late = later + 2.0 * 86_400.0;
        let api = released("10.244.1.50", "api", "v2");
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        bench.tcp(late, (&api, &stranger), 443, Outcome::Answered, 500);
        assert_eq!(bench.findings.last().unwrap().subject, "");
    }

    #[test]
    fn one_replica_that_does_what_its_siblings_never_do() {
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        let site = end("203.0.113.9", IdentityKind::External, None);
        let run = |replicas: u8, all: bool| {
            // The workload is in nobody's baseline; another is, for there must be one.
            let mut bench = Bench::new("novel-peer");
            bench.tcp(
                0.0,
                (&pod("10.244.9.9", "other"), &site),
                443,
                Outcome::Answered,
                9,
            );
            let mut bench = bench.learned("novel-peer");
            let pods: Vec<_> = (0..replicas)
                .map(|n| pod(&format!("10.244.1.{n}"), "web"))
                .collect();
            for n in 0..100_u16 {
                for web in &pods {
                    bench.tcp(
                        f64::from(n) * 10.0,
                        (web, &site),
                        443,
                        Outcome::Answered,
                        500,
                    );
                }
            }
            for (n, web) in (0_u8..).zip(&pods).take(if all { 3 } else { 1 }) {
                let at = 2000.0 + f64::from(n);
                bench.tcp(at, (web, &stranger), 4444, Outcome::Answered, 500);
            }
            bench
        };
        let bench = run(4, false);
        assert!(bench.alerts(), "{} bits", bench.bits());
        assert_eq!(bench.findings[0].evidence[0].feature, "peer.siblings");
        assert!(run(2, false).findings.is_empty(), "two are no crowd");
        assert_eq!(
            run(4, true).findings.len(),
            1,
            "the others do it, too, and it is told once"
        );
    }
}
