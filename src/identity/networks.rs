//! What an address is by its place alone: a node, in the pods' range, in the services' range, in a network that was
//! given a name, private, public. Answers for addresses that nobody claims.
//!
//! Nothing is guessed from the look of an address: a range counts as the pods' only when a CNI configuration, a `Node`
//! object or the operator says so.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnetwork::IpNetwork;

use super::prefixes::{LIMIT, Prefixes, first_host};
use super::{Attribution, Confidence, Identity, IdentityKind, Source};
use crate::address::{canonical, is_group, is_private};
use crate::time::Timestamp;

/// The place of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressClass {
    /// A node's own address, a bridge gateway, a tunnel end.
    Node,
    /// In a network that was given a name (a CSV row for a whole network).
    Named,
    /// In the pods' range.
    PodRange,
    /// In the services' range.
    ServiceRange,
    /// Multicast or broadcast: no host at all.
    Group,
    /// Private, and in none of the known ranges.
    Private,
    /// On the public internet.
    External,
}

/// The known nodes and ranges.
#[derive(Clone, Debug)]
pub struct Networks {
    nodes: HashMap<IpAddr, Node, RandomState>,
    pods: Prefixes<()>,
    services: Prefixes<()>,
    named: Prefixes<Attribution>,
    /// Pod ranges of a single node each, with the node.
    node_ranges: Prefixes<Attribution>,
    /// Ranges of which the inventory knows every holder, from a moment on.
    complete: Prefixes<Timestamp>,
    /// By range, at most [`MAX_LOOKS`] each.
    looks: Prefixes<Vec<Look>>,
    refused: u64,
    plain: PlainAnswers,
}

/// A time at which a source looked at everybody in a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Look {
    /// The range.
    pub range: IpNetwork,
    /// When it began to look, at the earliest.
    pub from: Timestamp,
    /// When it ended, at the latest.
    pub to: Timestamp,
    /// Whether it was told of every change in between; a list is made at one moment that isn't known better.
    pub follows: bool,
    /// Whether it is the records of whoever gives out the addresses, not a list of pods: those lack what nodes hold.
    pub leases: bool,
}

/// Looks kept of a range.
const MAX_LOOKS: usize = 256;
/// How late a source may be told of somebody.
const NEWS_TAKES: Duration = Duration::from_secs(90);

impl Look {
    /// Whether it must have seen somebody who was there from `first` to `last` and maybe longer.
    fn sees(&self, first: Timestamp, last: Timestamp) -> bool {
        if self.follows {
            last >= self.from && first.after(NEWS_TAKES) <= self.to
        } else {
            first <= self.from && last >= self.to
        }
    }
}

/// Answers that bear no name, made once.
#[derive(Clone, Debug)]
struct PlainAnswers {
    pod_range: Attribution,
    service_range: Attribution,
    private: Attribution,
    external: Attribution,
}

#[derive(Clone, Debug)]
struct Node {
    attribution: Attribution,
    /// Equally trusted sources give it different names, so it has none.
    disputed: bool,
}

impl Default for Networks {
    fn default() -> Self {
        let plain = |kind, confidence, source| Attribution {
            identity: Arc::new(Identity::bare(kind)),
            confidence,
            source,
        };
        Self {
            nodes: HashMap::default(),
            pods: Prefixes::default(),
            services: Prefixes::default(),
            named: Prefixes::default(),
            node_ranges: Prefixes::default(),
            complete: Prefixes::default(),
            looks: Prefixes::default(),
            refused: 0,
            plain: PlainAnswers {
                pod_range: plain(
                    IdentityKind::Unknown,
                    Confidence::UnknownPrivate,
                    Source::Cidr,
                ),
                service_range: plain(IdentityKind::Service, Confidence::Time, Source::Cidr),
                private: plain(
                    IdentityKind::Unknown,
                    Confidence::UnknownPrivate,
                    Source::None,
                ),
                external: plain(IdentityKind::External, Confidence::External, Source::None),
            },
        }
    }
}

impl Networks {
    /// What an address is when nobody claims it.
    pub fn classify(&self, ip: IpAddr) -> AddressClass {
        self.place(canonical(ip)).0
    }

    /// The same as an answer. A group address is nobody: unknown, as every address that no host can hold.
    pub fn attribution(&self, ip: IpAddr) -> &Attribution {
        self.place(canonical(ip)).1
    }

    /// The node that an address belongs to, if it is one's.
    pub fn node(&self, ip: IpAddr) -> Option<&Attribution> {
        self.nodes.get(&canonical(ip)).map(|node| &node.attribution)
    }

    /// Whether no range and no node is known.
    pub fn is_blank(&self) -> bool {
        let Self {
            pods,
            services,
            named,
            ..
        } = self;
        self.nodes.is_empty() && pods.is_empty() && services.is_empty() && named.is_empty()
    }

    /// The pods' ranges, sorted.
    pub fn pod_cidrs(&self) -> Vec<IpNetwork> {
        self.pods
            .sorted()
            .into_iter()
            .map(|(range, ())| range)
            .collect()
    }

    /// The services' ranges, sorted.
    pub fn service_cidrs(&self) -> Vec<IpNetwork> {
        self.services
            .sorted()
            .into_iter()
            .map(|(range, ())| range)
            .collect()
    }

    /// Node addresses with the node's name where it is known, sorted.
    pub fn nodes(&self) -> Vec<(IpAddr, &Attribution)> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(&ip, node)| (ip, &node.attribution))
            .collect();
        nodes.sort_unstable_by_key(|&(ip, _)| ip);
        nodes
    }

    /// Nodes and ranges that found no room.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a range of pod addresses.
    pub fn add_pods(&mut self, range: IpNetwork) {
        self.refused += u64::from(!self.pods.insert(range, ()));
    }

    /// Adds a range of service addresses.
    pub fn add_services(&mut self, range: IpNetwork) {
        self.refused += u64::from(!self.services.insert(range, ()));
    }

    /// Adds the range of one node's pods: its network address and its first one are the node's (tunnel end, bridge),
    /// unless a pod claims them.
    pub fn add_node_range(&mut self, range: IpNetwork, node: Arc<str>) {
        self.add_pods(range);
        let attribution = node_attribution(Some(node), Source::Kubernetes);
        self.refused += u64::from(!self.node_ranges.insert(range, attribution));
    }

    /// Gives a network a name: an office, a VPN, a data centre.
    pub fn add_named(&mut self, range: IpNetwork, identity: Identity) {
        let confidence = match identity.kind {
            IdentityKind::External => Confidence::External,
            IdentityKind::Node => Confidence::Node,
            _ => Confidence::Time,
        };
        let attribution = Attribution {
            identity: Arc::new(identity),
            confidence,
            source: Source::Csv,
        };
        self.refused += u64::from(!self.named.insert(range, attribution));
    }

    /// Adds an address of a node. The better-trusted source with a name counts; equally trusted ones that disagree
    /// leave it nameless.
    pub fn add_node(&mut self, ip: IpAddr, name: Option<Arc<str>>, source: Source) {
        let ip = canonical(ip);
        let Some(node) = self.nodes.get_mut(&ip) else {
            if self.nodes.len() >= LIMIT {
                self.refused += 1;
                return;
            }
            let attribution = node_attribution(name, source);
            self.nodes.insert(
                ip,
                Node {
                    attribution,
                    disputed: false,
                },
            );
            return;
        };
        let known = &node.attribution.identity.name;
        let rank = (known.is_some() || node.disputed, node.attribution.source);
        let disputed = match (name.is_some(), source).cmp(&rank) {
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Equal if *known == name => return,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => false,
        };
        *node = Node {
            attribution: node_attribution(name.filter(|_| !disputed), source),
            disputed,
        };
    }

    /// States that from `since` on the inventory knows of everyone who held an address of the range.
    pub fn add_complete(&mut self, range: IpNetwork, since: Timestamp) {
        let since = self
            .complete
            .get(range)
            .map_or(since, |&known| known.min(since));
        self.refused += u64::from(!self.complete.insert(range, since));
    }

    /// Whether the inventory would know who held the address at `time`, had anybody. Never so of the first and last
    /// address of a range, which are no host's.
    pub fn is_complete(&self, ip: IpAddr, time: Timestamp) -> bool {
        let ip = canonical(ip);
        self.complete.containing(ip).any(|(range, &since)| {
            since <= time && ip != range.network() && !(ip.is_ipv4() && ip == range.broadcast())
        })
    }

    /// Notes that a source looked at everybody in a range.
    pub fn add_look(&mut self, look: Look) {
        let mut looks = self.looks.get(look.range).cloned().unwrap_or_default();
        // Whoever follows and is heard again has followed in between.
        let goes_on = |known: &&mut Look| {
            look.follows && known.follows && (known.from, known.leases) == (look.from, look.leases)
        };
        if let Some(known) = looks.iter_mut().find(goes_on) {
            known.to = known.to.max(look.to);
            self.looks.insert(look.range, looks);
        } else if looks.contains(&look) {
            // Told by two inputs.
        } else if looks.len() < MAX_LOOKS {
            looks.push(look);
            self.refused += u64::from(!self.looks.insert(look.range, looks));
        } else {
            self.refused += 1;
        }
    }

    /// Whether a source looked while somebody was at an address from `first` to `last`, and would have seen a pod there; and
    /// whether that was who gives out the addresses.
    pub(super) fn looked(&self, ip: IpAddr, first: Timestamp, last: Timestamp) -> Option<bool> {
        let ip = canonical(ip);
        let is_host =
            |range: IpNetwork| ip != range.network() && !(ip.is_ipv4() && ip == range.broadcast());
        let looks = self
            .looks
            .containing(ip)
            .filter(|&(range, _)| is_host(range))
            .flat_map(|(_, looks)| looks)
            .filter(|look| look.sees(first, last));
        looks.map(|look| look.leases).max()
    }

    /// The ranges that are known completely, since when, sorted.
    pub(super) fn complete_ranges(&self) -> Vec<(IpNetwork, Timestamp)> {
        self.complete
            .sorted()
            .into_iter()
            .map(|(range, &since)| (range, since))
            .collect()
    }

    /// When sources looked at everybody in a range, sorted.
    pub(super) fn looks(&self) -> Vec<Look> {
        let mut looks: Vec<Look> = self
            .looks
            .sorted()
            .into_iter()
            .flat_map(|(_, looks)| looks.iter().copied())
            .collect();
        looks.sort_unstable();
        looks
    }

    /// The ranges that belong to one node each, sorted.
    pub(super) fn node_ranges(&self) -> Vec<(IpNetwork, &Attribution)> {
        self.node_ranges.sorted()
    }

    /// The networks that have a name, sorted.
    pub(super) fn named_ranges(&self) -> Vec<(IpNetwork, &Attribution)> {
        self.named.sorted()
    }

    fn place(&self, ip: IpAddr) -> (AddressClass, &Attribution) {
        if let Some(node) = self.nodes.get(&ip) {
            return (AddressClass::Node, &node.attribution);
        }
        if is_group(ip) {
            return (AddressClass::Group, &self.plain.private);
        }
        let of_node = |range: IpNetwork| ip == range.network() || ip == first_host(range);
        if let Some((_, node)) = self
            .node_ranges
            .containing(ip)
            .find(|&(range, _)| of_node(range))
        {
            return (AddressClass::Node, node);
        }
        // The most specific range speaks; of equals, the one that someone took the trouble to name.
        let named = self.named.containing(ip).next();
        let pods = self
            .pods
            .containing(ip)
            .next()
            .map(|(range, ())| range.prefix());
        let services = self
            .services
            .containing(ip)
            .next()
            .map(|(range, ())| range.prefix());
        if let Some((range, attribution)) = named
            && Some(range.prefix()) >= pods.max(services)
        {
            (AddressClass::Named, attribution)
        } else if services.is_some() && services >= pods {
            (AddressClass::ServiceRange, &self.plain.service_range)
        } else if pods.is_some() {
            (AddressClass::PodRange, &self.plain.pod_range)
        } else if is_private(ip) {
            (AddressClass::Private, &self.plain.private)
        } else {
            (AddressClass::External, &self.plain.external)
        }
    }
}

fn node_attribution(name: Option<Arc<str>>, source: Source) -> Attribution {
    Attribution {
        identity: Arc::new(Identity {
            node: name.clone(),
            name,
            ..Identity::bare(IdentityKind::Node)
        }),
        confidence: Confidence::Node,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn cluster() -> Networks {
        let mut networks = Networks::default();
        networks.add_pods(range("10.244.0.0/16"));
        networks.add_services(range("10.96.0.0/12"));
        networks.add_node_range(range("10.244.3.0/24"), "n3".into());
        networks.add_node(ip("172.18.0.2"), Some("n1".into()), Source::Kubernetes);
        networks.add_named(
            range("10.0.5.0/24"),
            Identity {
                name: Some("office".into()),
                ..Identity::bare(IdentityKind::External)
            },
        );
        networks
    }

    #[test]
    fn every_address_has_a_place() {
        let networks = cluster();
        for (text, class, kind) in [
            ("172.18.0.2", AddressClass::Node, IdentityKind::Node),
            ("::ffff:172.18.0.2", AddressClass::Node, IdentityKind::Node),
            ("10.244.3.0", AddressClass::Node, IdentityKind::Node),
            ("10.244.3.1", AddressClass::Node, IdentityKind::Node),
            ("10.244.3.2", AddressClass::PodRange, IdentityKind::Unknown),
            (
                "10.244.200.9",
                AddressClass::PodRange,
                IdentityKind::Unknown,
            ),
            (
                "10.96.0.10",
                AddressClass::ServiceRange,
                IdentityKind::Service,
            ),
            ("10.0.5.77", AddressClass::Named, IdentityKind::External),
            ("192.168.1.1", AddressClass::Private, IdentityKind::Unknown),
            ("fd00::1", AddressClass::Private, IdentityKind::Unknown),
            (
                "203.0.113.9",
                AddressClass::External,
                IdentityKind::External,
            ),
            ("224.0.0.251", AddressClass::Group, IdentityKind::Unknown),
            (
                "255.255.255.255",
                AddressClass::Group,
                IdentityKind::Unknown,
            ),
            ("ff02::1", AddressClass::Group, IdentityKind::Unknown),
        ] {
            assert_eq!(networks.classify(ip(text)), class, "{text}");
            assert_eq!(networks.attribution(ip(text)).identity.kind, kind, "{text}");
        }
    }

    #[test]
    fn a_range_inside_another_wins() {
        let mut networks = cluster();
        networks.add_pods(range("10.100.0.0/16"));
        assert_eq!(networks.classify(ip("10.100.1.1")), AddressClass::PodRange);
        networks.add_services(range("10.244.255.0/24"));
        assert_eq!(
            networks.classify(ip("10.244.255.4")),
            AddressClass::ServiceRange
        );
    }

    #[test]
    fn nothing_is_guessed() {
        let networks = Networks::default();
        assert_eq!(networks.classify(ip("10.244.1.5")), AddressClass::Private);
        assert_eq!(networks.classify(ip("10.96.0.1")), AddressClass::Private);
    }

    #[test]
    fn a_disputed_node_has_no_name_in_any_order() {
        let facts = [
            ("a", Source::CniCache),
            ("b", Source::CniCache),
            ("a", Source::CniCache),
        ];
        for skip in 0..3 {
            let mut networks = Networks::default();
            for i in 0..3 {
                let (name, source) = facts[(i + skip) % 3];
                networks.add_node(ip("10.0.0.1"), Some(name.into()), source);
                networks.add_node(ip("10.0.0.1"), None, Source::Watch);
            }
            assert_eq!(networks.node(ip("10.0.0.1")).unwrap().identity.name, None);
            networks.add_node(ip("10.0.0.1"), Some("c".into()), Source::Kubernetes);
            assert_eq!(
                networks
                    .node(ip("10.0.0.1"))
                    .unwrap()
                    .identity
                    .name
                    .as_deref(),
                Some("c")
            );
        }
    }

    #[test]
    fn completeness_excludes_the_ends_of_a_range_and_the_time_before() {
        let mut networks = Networks::default();
        networks.add_complete(range("10.1.2.0/24"), Timestamp::from_secs(100));
        let late = Timestamp::from_secs(100);
        assert!(networks.is_complete(ip("10.1.2.7"), late));
        assert!(!networks.is_complete(ip("10.1.2.7"), Timestamp::from_secs(99)));
        assert!(!networks.is_complete(ip("10.1.2.0"), late));
        assert!(!networks.is_complete(ip("10.1.2.255"), late));
        assert!(!networks.is_complete(ip("10.1.3.7"), late));
    }
}
