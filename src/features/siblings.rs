//! What the pods of one workload do, side by side: one that does what its siblings never do stands out, however little is
//! known of the workload.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lru::LruCache;

use super::by_use;
use super::{Contact, PeerNamer};
use crate::event::{Endpoint, Event, EventKind};
use crate::flow::Outcome;
use crate::identity::WorkloadId;
use crate::memory::Share;

/// Contacts remembered over all pods; the workload heard of least recently is forgotten for more.
const MAX_CONTACTS: usize = 1 << 17;
/// Pods compared per workload; as many tell what is usual.
const MAX_PODS: usize = 32;
/// Contacts told apart per pod.
const MAX_PEERS: usize = 256;
/// Contacts within this of one another, in seconds, are one.
const SLOT: i64 = 10_000_000_000;

/// One contact of a pod.
#[derive(Clone, Copy, Debug)]
struct Met {
    count: u32,
    slot: i64,
}

#[derive(Debug, Default)]
struct Pod {
    /// Pods of different releases are no siblings.
    revision: Option<Arc<str>>,
    met: BTreeMap<Contact, Met>,
    /// Contacts with those that found no room.
    unlisted: u64,
}

#[derive(Debug, Default)]
struct Workload {
    pods: BTreeMap<IpAddr, Pod>,
    entries: usize,
}

/// What the siblings of a pod do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Siblings {
    /// How many there are.
    pub pods: u64,
    /// How many of them made the contact.
    pub met_by: u64,
    /// Contacts that they made in all; those of one pod with one peer within ten seconds of one another are one.
    pub contacts: u64,
    /// Contacts that one pod made once, of those.
    pub once: u64,
}

impl Siblings {
    /// Bits of surprise at a contact that none of them made, by how often they meet somebody new (Good–Turing over all
    /// their contacts). 0 where there are fewer than two, or one of them made it.
    pub fn novelty_bits(&self) -> f64 {
        if self.pods < 2 || self.met_by > 0 {
            return 0.0;
        }
        -((self.once as f64 + 0.5) / (self.contacts as f64 + 1.0))
            .min(1.0)
            .log2()
    }
}

/// The contacts of the pods of each workload, in this run.
#[derive(Debug)]
pub struct Replicas {
    workloads: LruCache<WorkloadId, Workload>,
    entries: usize,
    /// Most of them.
    max: usize,
}

impl Default for Replicas {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl Replicas {
    /// Nothing seen yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        let max = share.part(MAX_CONTACTS);
        Self {
            workloads: by_use(max),
            entries: 0,
            max,
        }
    }

    /// Learns from an event; to be called when everybody else has judged it.
    pub fn observe(&mut self, event: &Event, peers: &PeerNamer) {
        let EventKind::FlowOutcome {
            flow,
            outcome: Outcome::Answered,
        } = &event.kind
        else {
            return;
        };
        let (Some(workload), Some(contact)) =
            (&flow.orig.who.identity.workload, peers.client_contact(flow))
        else {
            return;
        };
        let slot = event.time.nanos().div_euclid(SLOT);
        let mut added = 0;
        if !self.workloads.contains(workload) {
            self.workloads.put(workload.clone(), Workload::default());
        }
        if let Some(known) = self.workloads.get_mut(workload)
            && (known.pods.len() < MAX_PODS || known.pods.contains_key(&flow.orig.ip))
        {
            let pod = known.pods.entry(flow.orig.ip).or_default();
            pod.revision.clone_from(&flow.orig.who.identity.revision);
            if let Some(met) = pod.met.get_mut(&contact) {
                if met.slot != slot {
                    *met = Met {
                        count: met.count.saturating_add(1),
                        slot,
                    };
                }
            } else if pod.met.len() < MAX_PEERS {
                pod.met.insert(contact, Met { count: 1, slot });
                added = 1;
            } else {
                pod.unlisted += 1;
            }
            known.entries += added;
        }
        self.entries += added;
        while self.entries > self.max
            && let Some((_, gone)) = self.workloads.pop_lru()
        {
            self.entries -= gone.entries;
        }
    }

    /// What the siblings of a pod do, with regard to one contact.
    pub fn siblings(&self, pod: &Endpoint, contact: &Contact) -> Siblings {
        let mut siblings = Siblings::default();
        let workload = pod.who.identity.workload.as_ref();
        let Some(known) = workload.and_then(|workload| self.workloads.peek(workload)) else {
            return siblings;
        };
        let others = known
            .pods
            .iter()
            .filter(|(ip, other)| **ip != pod.ip && other.revision == pod.who.identity.revision);
        for (_, other) in others {
            siblings.pods += 1;
            siblings.met_by += u64::from(other.met.contains_key(contact));
            siblings.contacts += other.unlisted;
            siblings.once += other.unlisted;
            for met in other.met.values() {
                siblings.contacts += u64::from(met.count);
                siblings.once += u64::from(met.count == 1);
            }
        }
        siblings
    }
}
