//! What pods and namespaces declare of their traffic: ports of containers, and NetworkPolicies.
//!
//! Answers whether traffic is covered by what was declared, by the rules of `networking.k8s.io/v1`. Where the inventory
//! can't tell (a namespace whose labels it lacks, a port by a name that no container has, a policy younger than the
//! conversation, policies of other makers that add to these) nothing is denied.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{Identity, IdentityKind};
use crate::time::Timestamp;

/// The label that every namespace has by itself: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// More of each than a cluster has.
const LIMIT: usize = 65_536;
/// A policy is enforced by then.
const IN_FORCE: Duration = Duration::from_mins(1);

/// A port that a container declares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeclaredPort {
    /// IANA protocol number.
    pub protocol: u8,
    /// Number.
    pub port: u16,
    /// Name, if it has one.
    pub name: Option<Arc<str>>,
}

/// Which labels are meant.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selector {
    /// All of these.
    pub labels: BTreeMap<String, String>,
    /// And all of these: key, operator, values.
    pub expressions: Vec<(String, Operator, Vec<String>)>,
}

/// How an expression compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// The value is one of those given.
    In,
    /// It is none of them, or there is no such label.
    NotIn,
    /// There is such a label.
    Exists,
    /// There is none.
    DoesNotExist,
}

/// A NetworkPolicy.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// When it was made, if that is known.
    pub since: Option<Timestamp>,
    /// The pods of its namespace that it is for.
    pub pods: Selector,
    /// What may come in; `None` if it says nothing about that.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out.
    pub egress: Option<Vec<Rule>>,
}

/// Something allowed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    /// With any of these; with anybody if empty.
    pub peers: Vec<Peer>,
    /// At any of these; at any port if empty.
    pub ports: Vec<PolicyPort>,
}

/// Somebody on the other side.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Peer {
    /// Pods with these labels,
    pub pods: Option<Selector>,
    /// in namespaces with these (else in the policy's own).
    pub namespaces: Option<Selector>,
    /// Or addresses, save those of the list.
    pub block: Option<(IpNetwork, Vec<IpNetwork>)>,
}

/// A port in a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyPort {
    /// IANA protocol number.
    pub protocol: u8,
    /// Number or name; `None` for all.
    pub port: Option<Result<u16, String>>,
    /// The last of a range that begins with the number.
    pub end: Option<u16>,
}

/// Namespace and name of a pod.
type PodName = (Arc<str>, Arc<str>);

/// Everything that was declared.
#[derive(Clone, Default, Debug)]
pub struct Declared {
    ports: HashMap<PodName, Vec<DeclaredPort>>,
    policies: HashMap<Arc<str>, Vec<Policy>>,
    namespaces: HashMap<Arc<str>, BTreeMap<String, String>>,
    count: usize,
    foreign: bool,
}

/// One end of a conversation that a policy is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// Who holds it.
    pub identity: &'a Identity,
}

impl Declared {
    /// Adds the ports of a pod's containers.
    pub fn add_ports(&mut self, namespace: Arc<str>, pod: Arc<str>, ports: Vec<DeclaredPort>) {
        if self.ports.len() < LIMIT {
            self.ports.insert((namespace, pod), ports);
        }
    }

    /// Adds a policy, or replaces the one of its name.
    pub fn add_policy(&mut self, namespace: Arc<str>, policy: Policy) {
        let policies = self.policies.entry(namespace).or_default();
        if let Some(known) = policies.iter_mut().find(|known| known.name == policy.name) {
            *known = policy;
        } else if self.count < LIMIT {
            self.count += 1;
            policies.push(policy);
            policies.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }

    /// Takes a policy back that was deleted.
    pub fn remove_policy(&mut self, namespace: &str, name: &str) {
        if let Some(policies) = self.policies.get_mut(namespace) {
            let before = policies.len();
            policies.retain(|policy| policy.name != name);
            self.count -= before - policies.len();
        }
    }

    /// Adds a namespace's labels.
    pub fn add_namespace(&mut self, name: Arc<str>, labels: BTreeMap<String, String>) {
        if self.namespaces.len() < LIMIT {
            self.namespaces.insert(name, labels);
        }
    }

    /// There are policies of other makers, which may allow more.
    pub const fn add_foreign_policy(&mut self) {
        self.foreign = true;
    }

    /// What a pod's containers declare; empty if they declare nothing, or nothing was read.
    pub fn ports(&self, pod: &Identity) -> &[DeclaredPort] {
        let key = pod.namespace.clone().zip(pod.name.clone());
        key.and_then(|key| self.ports.get(&key))
            .map_or(&[], Vec::as_slice)
    }

    /// The name of a policy that stands against a conversation that began at a time, if one surely does.
    pub fn denied(
        &self,
        (from, to): (Party<'_>, Party<'_>),
        protocol: u8,
        port: u16,
        start: Timestamp,
    ) -> Option<&str> {
        // The kubelet may always reach its pods.
        if self.count == 0 || self.foreign || from.identity.kind == IdentityKind::Node {
            return None;
        }
        let named = self.ports(to.identity);
        let at = |rule: &Rule| covers(rule, protocol, port, named);
        self.stands_against((to, from), start, |policy| policy.ingress.as_deref(), &at)
            .or_else(|| {
                self.stands_against((from, to), start, |policy| policy.egress.as_deref(), &at)
            })
    }

    /// The first policy that isolates `me` in a direction, if none allows `other`.
    fn stands_against(
        &self,
        (me, other): (Party<'_>, Party<'_>),
        start: Timestamp,
        direction: fn(&Policy) -> Option<&[Rule]>,
        at: &dyn Fn(&Rule) -> bool,
    ) -> Option<&str> {
        if me.identity.kind != IdentityKind::Pod {
            return None;
        }
        let namespace = me.identity.namespace.as_ref()?;
        let mut first = None;
        for policy in self.policies.get(namespace)? {
            let Some(rules) = direction(policy).filter(|_| policy.pods.selects(me.identity)) else {
                continue;
            };
            let allows = |rule: &Rule| at(rule) && self.means(rule, namespace, other);
            let young = policy
                .since
                .is_some_and(|since| start < since.after(IN_FORCE));
            if young || rules.iter().any(allows) {
                return None;
            }
            first = first.or(Some(policy.name.as_str()));
        }
        first
    }

    /// Whether a rule of a namespace's policy may mean somebody.
    fn means(&self, rule: &Rule, namespace: &str, other: Party<'_>) -> bool {
        rule.peers.is_empty()
            || rule.peers.iter().any(|peer| {
                if let Some((block, except)) = &peer.block {
                    return block.contains(other.ip)
                        && !except.iter().any(|range| range.contains(other.ip));
                }
                // Who isn't known may be anybody's pod.
                match other.identity.kind {
                    IdentityKind::Pod => {}
                    IdentityKind::External => return false,
                    _ => return true,
                }
                let Some(theirs) = other.identity.namespace.as_deref() else {
                    return true;
                };
                let there = match &peer.namespaces {
                    None => theirs == namespace,
                    Some(selector) => self.selects_namespace(selector, theirs),
                };
                there
                    && peer
                        .pods
                        .as_ref()
                        .is_none_or(|pods| pods.selects(other.identity))
            })
    }

    fn selects_namespace(&self, selector: &Selector, namespace: &str) -> bool {
        let Some(labels) = self.namespaces.get(namespace) else {
            // Its name is known in any case; of other labels nothing is.
            let by_name = |key: &str| key == NAMESPACE_NAME;
            let sure = selector.labels.keys().all(|key| by_name(key))
                && selector.expressions.iter().all(|(key, ..)| by_name(key));
            let own = |key: &str| by_name(key).then_some(namespace);
            return !sure || selector.matches(own);
        };
        selector.matches(|key| match labels.get(key) {
            Some(value) => Some(value.as_str()),
            None => (key == NAMESPACE_NAME).then_some(namespace),
        })
    }
}

impl Selector {
    fn selects(&self, pod: &Identity) -> bool {
        self.matches(|key| pod.labels.get(key).map(|value| &**value))
    }

    fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let equal = self
            .labels
            .iter()
            .all(|(key, value)| label(key) == Some(value.as_str()));
        equal
            && self.expressions.iter().all(|(key, operator, values)| {
                let value = label(key);
                let one_of = || values.iter().any(|known| Some(known.as_str()) == value);
                match operator {
                    Operator::In => one_of(),
                    Operator::NotIn => !one_of(),
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// Whether a rule may be about a port of a pod that declares `named`.
fn covers(rule: &Rule, protocol: u8, port: u16, named: &[DeclaredPort]) -> bool {
    rule.ports.is_empty()
        || rule.ports.iter().any(|allowed| {
            allowed.protocol == protocol
                && match &allowed.port {
                    None => true,
                    Some(Ok(number)) => (*number..=allowed.end.unwrap_or(*number)).contains(&port),
                    Some(Err(name)) => {
                        let mut bearers = named
                            .iter()
                            .filter(|one| one.name.as_deref() == Some(name.as_str()))
                            .peekable();
                        bearers.peek().is_none() || bearers.any(|one| one.port == port)
                    }
                }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;

    fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Identity {
        Identity {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            labels: labels
                .iter()
                .map(|&(key, value)| (key.into(), value.into()))
                .collect(),
            ..Identity::bare(IdentityKind::Pod)
        }
    }

    fn selector(labels: &[(&str, &str)]) -> Selector {
        Selector {
            labels: labels
                .iter()
                .map(|&(key, value)| (key.into(), value.into()))
                .collect(),
            expressions: Vec::new(),
        }
    }

    /// Only `app: api` of the same namespace, and the namespace `monitoring` at the port named metrics, may reach the
    /// database; it may reach nobody but 10.9.0.0/16.
    fn declared() -> Declared {
        let mut declared = Declared::default();
        let tcp = |port| PolicyPort {
            protocol: TCP,
            port: Some(port),
            end: None,
        };
        declared.add_policy(
            "shop".into(),
            Policy {
                name: "database".into(),
                since: None,
                pods: selector(&[("app", "db")]),
                ingress: Some(vec![
                    Rule {
                        peers: vec![Peer {
                            pods: Some(selector(&[("app", "api")])),
                            ..Peer::default()
                        }],
                        ports: vec![tcp(Ok(5432))],
                    },
                    Rule {
                        peers: vec![Peer {
                            namespaces: Some(selector(&[(NAMESPACE_NAME, "monitoring")])),
                            ..Peer::default()
                        }],
                        ports: vec![tcp(Err("metrics".into()))],
                    },
                ]),
                egress: Some(vec![Rule {
                    peers: vec![Peer {
                        block: Some((
                            "10.9.0.0/16".parse().unwrap(),
                            vec!["10.9.9.0/24".parse().unwrap()],
                        )),
                        ..Peer::default()
                    }],
                    ports: Vec::new(),
                }]),
            },
        );
        declared.add_ports(
            "shop".into(),
            "db-0".into(),
            vec![DeclaredPort {
                protocol: TCP,
                port: 9187,
                name: Some("metrics".into()),
            }],
        );
        declared
    }

    const NOON: Timestamp = Timestamp::from_secs(1_772_442_000);

    fn denied(
        declared: &Declared,
        from: (&str, &Identity),
        to: (&str, &Identity),
        port: u16,
    ) -> bool {
        let party = |(ip, identity): (&str, _)| Party {
            ip: ip.parse().unwrap(),
            identity,
        };
        declared
            .denied((party(from), party(to)), TCP, port, NOON)
            .is_some()
    }

    #[test]
    fn who_may_reach_whom() {
        let declared = declared();
        let db = pod("shop", "db-0", &[("app", "db")]);
        let api = pod("shop", "api-1", &[("app", "api")]);
        let web = pod("shop", "web-1", &[("app", "web")]);
        let foreign = pod("test", "api-1", &[("app", "api")]);
        let prometheus = pod("monitoring", "prometheus-0", &[]);
        let outside = Identity::bare(IdentityKind::External);
        let unknown = Identity::bare(IdentityKind::Unknown);
        let node = Identity::bare(IdentityKind::Node);
        let reaches_db =
            |who: &Identity, port| !denied(&declared, ("10.1.0.9", who), ("10.1.0.3", &db), port);
        assert!(reaches_db(&api, 5432));
        assert!(!reaches_db(&api, 22));
        assert!(!reaches_db(&web, 5432));
        assert!(!reaches_db(&foreign, 5432), "of another namespace");
        assert!(reaches_db(&prometheus, 9187));
        assert!(!reaches_db(&prometheus, 5432));
        assert!(!reaches_db(&outside, 5432));
        assert!(reaches_db(&unknown, 5432), "may be the api");
        assert!(reaches_db(&node, 22));
        let db_reaches =
            |ip: &str, who: &Identity| !denied(&declared, ("10.1.0.3", &db), (ip, who), 443);
        assert!(db_reaches("10.9.1.1", &outside));
        assert!(!db_reaches("10.9.9.1", &outside));
        assert!(!db_reaches("203.0.113.1", &outside));
        assert!(
            !denied(&declared, ("10.1.0.8", &web), ("10.1.0.9", &api), 80),
            "no policy is for them"
        );
    }

    #[test]
    fn namespaces_whose_labels_are_unknown_are_given_the_benefit() {
        let mut declared = Declared::default();
        let team = Selector {
            labels: BTreeMap::new(),
            expressions: vec![("team".into(), Operator::In, vec!["a".into()])],
        };
        declared.add_policy(
            "shop".into(),
            Policy {
                name: "team-only".into(),
                ingress: Some(vec![Rule {
                    peers: vec![Peer {
                        namespaces: Some(team),
                        ..Peer::default()
                    }],
                    ports: Vec::new(),
                }]),
                ..Policy::default()
            },
        );
        let (web, other) = (pod("shop", "web", &[]), pod("other", "x", &[]));
        let ends = (("10.1.0.2", &other), ("10.1.0.3", &web));
        assert!(!denied(&declared, ends.0, ends.1, 80));
        declared.add_namespace(
            "other".into(),
            BTreeMap::from([("team".into(), "b".into())]),
        );
        assert!(denied(&declared, ends.0, ends.1, 80));
        declared.remove_policy("shop", "team-only");
        assert!(!denied(&declared, ends.0, ends.1, 80));
    }

    #[test]
    fn young_policies_and_those_of_other_makers_leave_it_open() {
        let nobody = |since| Policy {
            name: "nobody".into(),
            since,
            ingress: Some(Vec::new()),
            ..Policy::default()
        };
        let (web, api) = (pod("shop", "web", &[]), pod("shop", "api", &[]));
        let ends = (("10.1.0.2", &web), ("10.1.0.3", &api));
        let mut declared = Declared::default();
        for (since, expected) in [(0, true), (3600, true), (30, false)] {
            let since = NOON.before(Duration::from_secs(since));
            let since = (since != NOON).then_some(since);
            declared.add_policy("shop".into(), nobody(since));
            assert_eq!(denied(&declared, ends.0, ends.1, 80), expected);
        }
        declared.add_policy("shop".into(), nobody(None));
        declared.add_foreign_policy();
        assert!(!denied(&declared, ends.0, ends.1, 80));
    }
}
