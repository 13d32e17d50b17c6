//! The journal: for each address the claims on it, and the timeline that follows from them.
//!
//! The state is a set of claims, so the order in which they came doesn't matter; timelines are derived anew for an
//! address whose claims changed. Asking costs two hash lookups and a binary search, and allocates nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::claim::Claim;
use super::holder::holders;
use super::timeline::{Segment, index_at, lay_out};
use super::{AddressClass, Attribution, Confidence, Declared, IdentityKind, Networks};
use crate::address::{NetworkId, canonical};
use crate::time::Timestamp;

/// How far from a moment somebody must have held an address for it not to count as nobody's.
const VACANT_FOR: Duration = Duration::from_mins(10);

/// How much the journal may remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// Claims in all; beyond it the oldest go. One takes about 500 B with its identity.
    pub max_claims: usize,
    /// Claims on one address.
    pub max_claims_per_address: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            max_claims: 1_000_000,
            max_claims_per_address: 256,
        }
    }
}

/// Whether somebody held an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// Somebody did, or it is a node's.
    Assigned,
    /// Nobody did then, but somebody did within ten minutes before or after.
    Recent,
    /// Nobody did, by an inventory that would know, though somebody did once: more than ten minutes before or after.
    Vacated,
    /// Nobody ever did, by an inventory that would know.
    Unassigned,
    /// The inventory can't tell.
    Unknown,
}

/// That a source which looked at everybody saw nobody at an address where somebody was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlooked {
    /// Whether the records of whoever gives out the addresses lack it; else a list of pods does, in which nodes' own addresses
    /// are not.
    pub by_leases: bool,
    /// Whether somebody held the address at another time.
    pub once: bool,
}

/// The append-only record of who held which address when.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    config: JournalConfig,
    addresses: HashMap<(NetworkId, IpAddr), Address, RandomState>,
    networks: Networks,
    declared: Arc<Declared>,
    claims: usize,
    evicted: u64,
}

#[derive(Clone, Debug, Default)]
struct Address {
    /// In canonical order, each owner once per source.
    claims: Vec<Claim>,
    segments: Vec<Segment>,
}

impl Journal {
    /// An empty journal.
    pub fn new(config: JournalConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Who held an address at a time.
    ///
    /// A network without claims on the address falls back on the default network, where inventories put what they know:
    /// they don't know the VLAN under which a mirror port shows a pod.
    pub fn resolve(&self, network: NetworkId, ip: IpAddr, time: Timestamp) -> Attribution {
        let ip = canonical(ip);
        let node = self.networks.node(ip);
        let claimed = || {
            let segments = self.segments(network, ip)?;
            segments.get(index_at(segments, time))?.answer.as_ref()
        };
        node.or_else(claimed)
            .unwrap_or_else(|| self.networks.attribution(ip))
            .clone()
    }

    /// The pod that held an address at a time, for whoever only knew that somebody did.
    pub fn better(
        &self,
        network: NetworkId,
        ip: IpAddr,
        time: Timestamp,
        known: &Attribution,
    ) -> Option<Attribution> {
        let nameless = |who: &Attribution| who.identity.name.is_none();
        let inside = matches!(
            known.identity.kind,
            IdentityKind::Pod | IdentityKind::Unknown
        );
        if !(inside && nameless(known)) {
            return None;
        }
        let now = self.resolve(network, ip, time);
        (now.identity.kind == IdentityKind::Pod && !nameless(&now)).then_some(now)
    }

    /// Whether anybody held an address at a time: the exact darknet is where the answer is `Unassigned` or `Vacated`.
    pub fn allocation(&self, network: NetworkId, ip: IpAddr, time: Timestamp) -> Allocation {
        let ip = canonical(ip);
        // Besides nodes' own addresses: bridges and tunnel ends, of which no list speaks.
        if self.networks.classify(ip) == AddressClass::Node {
            return Allocation::Assigned;
        }
        let mut once = false;
        if let Some(segments) = self.segments(network, ip) {
            let held = |i: usize| {
                segments
                    .get(i)
                    .is_some_and(|segment| segment.answer.is_some())
            };
            if held(index_at(segments, time)) {
                return Allocation::Assigned;
            }
            let around = index_at(segments, time.before(VACANT_FOR))
                ..=index_at(segments, time.after(VACANT_FOR));
            if around.into_iter().any(held) {
                return Allocation::Recent;
            }
            once = segments.iter().any(|segment| segment.answer.is_some());
        }
        match (self.networks.is_complete(ip, time), once) {
            (true, true) => Allocation::Vacated,
            (true, false) => Allocation::Unassigned,
            (false, _) => Allocation::Unknown,
        }
    }

    /// Whether somebody who was at an address from `first` to `last` was nobody by a source that looked at everybody then.
    /// Those who came and went without a look, or came after the last, are no such case: the inventory can't tell.
    pub fn overlooked(
        &self,
        network: NetworkId,
        ip: IpAddr,
        first: Timestamp,
        last: Timestamp,
    ) -> Option<Overlooked> {
        let ip = canonical(ip);
        if self.networks.classify(ip) != AddressClass::PodRange {
            return None;
        }
        let by_leases = self.networks.looked(ip, first, last)?;
        let mut once = false;
        if let Some(segments) = self.segments(network, ip) {
            let around = index_at(segments, first.before(VACANT_FOR))
                ..=index_at(segments, last.after(VACANT_FOR));
            let held = |segment: &Segment| segment.answer.is_some();
            if segments.get(around)?.iter().any(held) {
                return None;
            }
            once = segments.iter().any(held);
        }
        Some(Overlooked { by_leases, once })
    }

    /// Whether nothing was told of the cluster: no inventory, no range.
    pub fn is_blank(&self) -> bool {
        self.claims == 0 && self.networks.is_blank()
    }

    /// What pods and namespaces declare of their traffic.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// What they declare now takes the place of what they did.
    pub fn declare(&mut self, declared: Declared) {
        self.declared = Arc::new(declared);
    }

    /// What is known of networks and nodes.
    pub const fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The same, to add to.
    pub const fn networks_mut(&mut self) -> &mut Networks {
        &mut self.networks
    }

    /// Adds claims, in any order. Claims of one source about one owner of an address join.
    pub fn insert(&mut self, claims: impl IntoIterator<Item = Claim>) {
        let mut grown: HashMap<_, Vec<Claim>, RandomState> = HashMap::default();
        for mut claim in claims {
            claim.ip = canonical(claim.ip);
            grown
                .entry((claim.network, claim.ip))
                .or_default()
                .push(claim);
        }
        // Addresses don't influence one another, so their order here doesn't show.
        grown.into_iter().for_each(|(key, claims)| {
            let address = self.addresses.entry(key).or_default();
            self.claims -= address.claims.len();
            self.evicted += address.add(claims, self.config.max_claims_per_address);
            self.claims += address.claims.len();
        });
        if self.claims > self.config.max_claims {
            self.evict();
        }
    }

    /// Claims held.
    pub const fn claims_count(&self) -> usize {
        self.claims
    }

    /// Claims, nodes and ranges forgotten or refused for want of room.
    pub const fn evicted(&self) -> u64 {
        self.evicted.saturating_add(self.networks.refused())
    }

    /// Addresses on which several owners have claims that nothing tells apart, sorted.
    pub fn disputed(&self) -> Vec<(NetworkId, IpAddr)> {
        let ambiguous = |segment: &Segment| {
            segment
                .answer
                .as_ref()
                .is_some_and(|answer| answer.confidence == Confidence::Ambiguous)
        };
        let addresses = self.addresses.iter();
        let mut disputed: Vec<_> = addresses
            .filter(|(_, address)| address.segments.iter().any(ambiguous))
            .map(|(&key, _)| key)
            .collect();
        disputed.sort_unstable();
        disputed
    }

    /// Every claim, in canonical order.
    pub(super) fn claims(&self) -> Vec<&Claim> {
        let mut claims: Vec<_> = self
            .addresses
            .iter()
            .flat_map(|(_, address)| &address.claims)
            .collect();
        claims.sort_unstable();
        claims
    }

    fn segments(&self, network: NetworkId, ip: IpAddr) -> Option<&[Segment]> {
        let of = |network| {
            self.addresses
                .get(&(network, ip))
                .map(|address| &*address.segments)
        };
        of(network).or_else(|| of(NetworkId::default()))
    }

    /// Drops the oldest claims until an eighth of the room is free again, so that this is rare.
    fn evict(&mut self) {
        let keep = self.config.max_claims - self.config.max_claims / 8;
        let mut ages: Vec<_> = self
            .addresses
            .values()
            .flat_map(|address| &address.claims)
            .collect();
        ages.sort_unstable_by_key(|claim| (newest(claim), *claim));
        let drop = ages.len().saturating_sub(keep);
        let Some(last) = drop.checked_sub(1).and_then(|last| ages.get(last)) else {
            return;
        };
        let last = (*last).clone();
        let spared = |claim: &Claim| (newest(claim), claim) > (newest(&last), &last);
        self.addresses.retain(|_, address| {
            let before = address.claims.len();
            address.claims.retain(spared);
            if address.claims.len() < before {
                address.segments = lay_out(&holders(&address.claims));
            }
            !address.claims.is_empty()
        });
        self.claims -= drop;
        self.evicted += drop as u64;
    }
}

impl Address {
    /// Adds claims and derives the timeline anew. Returns how many of the oldest had to go.
    fn add(&mut self, mut new: Vec<Claim>, limit: usize) -> u64 {
        new.append(&mut self.claims);
        new.sort_unstable();
        self.claims = join(new);
        let excess = self.claims.len().saturating_sub(limit);
        if excess > 0 {
            self.claims.sort_by_key(newest);
            self.claims.drain(..excess);
            self.claims.sort_unstable();
        }
        self.segments = lay_out(&holders(&self.claims));
        excess as u64
    }
}

/// Joins claims of one source about one owner.
fn join(claims: Vec<Claim>) -> Vec<Claim> {
    let mut joined: Vec<Claim> = Vec::with_capacity(claims.len());
    let mut index: HashMap<_, usize, RandomState> = HashMap::default();
    for claim in claims {
        let id = claim.uid.clone().map(|uid| (true, uid));
        let id = id.or_else(|| claim.sandbox.clone().map(|sandbox| (false, sandbox)));
        let Some(id) = id else {
            if joined.last() != Some(&claim) {
                joined.push(claim);
            }
            continue;
        };
        let slot = *index
            .entry((claim.source, claim.identity.kind, id))
            .or_insert(joined.len());
        match joined.get_mut(slot) {
            Some(known) => known.join(&claim),
            None => joined.push(claim),
        }
    }
    joined.sort_unstable();
    joined
}

/// The latest moment of which a claim tells; one that may still go on is the newest of all.
fn newest(claim: &Claim) -> Timestamp {
    let tenure = &claim.tenure;
    tenure.end.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
