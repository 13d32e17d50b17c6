//! A map from address ranges, asked by address.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnetwork::IpNetwork;

use crate::address::canonical;

/// Ranges (and nodes) kept of each sort; what an inventory has beyond is refused and counted.
pub(super) const LIMIT: usize = 65_536;

/// A map from ranges, asked by address. A question costs one lookup per prefix length in use, of which there are few.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<T> {
    /// By family and length, the longest first; inside, by network address.
    levels: BTreeMap<(bool, Reverse<u8>), HashMap<IpAddr, T, RandomState>>,
    len: usize,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self {
            levels: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<T> Prefixes<T> {
    /// Adds or replaces; false when there is no room.
    pub(super) fn insert(&mut self, range: IpNetwork, value: T) -> bool {
        let range = canonical_range(range);
        if self.len >= LIMIT && self.get(range).is_none() {
            return false;
        }
        let level = self
            .levels
            .entry((range.is_ipv6(), Reverse(range.prefix())))
            .or_default();
        self.len += usize::from(level.insert(range.network(), value).is_none());
        true
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, range: IpNetwork) -> Option<&T> {
        let range = canonical_range(range);
        self.levels
            .get(&(range.is_ipv6(), Reverse(range.prefix())))?
            .get(&range.network())
    }

    /// The ranges that hold `ip`, the narrowest first.
    pub(super) fn containing(&self, ip: IpAddr) -> impl Iterator<Item = (IpNetwork, &T)> {
        let family = ip.is_ipv6();
        let levels = self
            .levels
            .range((family, Reverse(u8::MAX))..=(family, Reverse(0)));
        levels.filter_map(move |(&(_, Reverse(len)), level)| {
            let range = IpNetwork::new(ip, len).ok()?;
            let range = IpNetwork::new(range.network(), len).ok()?;
            Some((range, level.get(&range.network())?))
        })
    }

    /// The value of the narrowest range that holds `ip`.
    pub(super) fn narrowest_mut(&mut self, ip: IpAddr) -> Option<&mut T> {
        let (range, _) = self.containing(ip).next()?;
        let level = self
            .levels
            .get_mut(&(range.is_ipv6(), Reverse(range.prefix())))?;
        level.get_mut(&range.network())
    }

    /// Every range, sorted.
    pub(super) fn sorted(&self) -> Vec<(IpNetwork, &T)> {
        let ranges = self.levels.iter().flat_map(|(&(_, Reverse(len)), level)| {
            level
                .iter()
                .filter_map(move |(&ip, value)| Some((IpNetwork::new(ip, len).ok()?, value)))
        });
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|&(range, _)| range);
        ranges
    }
}

/// The address after the network address, which bridges take.
pub(super) fn first_host(range: IpNetwork) -> IpAddr {
    match range.network() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
    }
}

/// An IPv4 range written as IPv4-mapped IPv6 becomes IPv4, as addresses do.
fn canonical_range(range: IpNetwork) -> IpNetwork {
    let mapped = range.prefix().checked_sub(96).and_then(|len| {
        let ip = canonical(range.ip());
        (range.is_ipv6() && ip.is_ipv4()).then(|| IpNetwork::new(ip, len).ok())?
    });
    mapped.unwrap_or(range)
}
