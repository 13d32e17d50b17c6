//! What Kubernetes objects declare of traffic: ports of containers, NetworkPolicies, labels of namespaces.

use super::objects::{
    ContainerSpec, LabelSelector, Object, PolicyPeer, PolicyPortSpec, PolicyRule, Spec,
};
use crate::identity::declared::{DeclaredPort, Operator, Peer, Policy, PolicyPort, Rule, Selector};

/// The ports of a pod's containers.
pub(super) fn ports<'a>(containers: impl Iterator<Item = &'a ContainerSpec>) -> Vec<DeclaredPort> {
    let ports = containers.flat_map(|container| &container.ports);
    let mut declared: Vec<DeclaredPort> = ports
        .filter_map(|port| {
            Some(DeclaredPort {
                protocol: protocol(&port.protocol),
                port: u16::try_from(port.number).ok().filter(|&port| port > 0)?,
                name: (!port.name.is_empty()).then(|| port.name.as_str().into()),
            })
        })
        .collect();
    declared.sort();
    declared
}

/// Whether an object is Kubernetes' own NetworkPolicy. Calico has a kind of the same name.
pub(super) fn is_own(object: &Object) -> bool {
    object.api_version.is_empty() || object.api_version.starts_with("networking.k8s.io/")
}

/// A NetworkPolicy.
pub(super) fn policy(object: Object) -> Policy {
    let Spec {
        pod_selector,
        policy_types,
        ingress,
        egress,
        ..
    } = object.spec;
    // Unless it says otherwise, a policy is about what comes in, and about what goes out if it has rules for that.
    let about = |direction: &str, unsaid: bool| {
        policy_types.iter().any(|one| one == direction) || policy_types.is_empty() && unsaid
    };
    let outgoing = about("Egress", !egress.is_empty());
    Policy {
        name: object.metadata.name,
        since: object.metadata.creation_timestamp,
        pods: pod_selector
            .map(|selector| self::selector(*selector))
            .unwrap_or_default(),
        ingress: about("Ingress", true).then(|| rules(ingress)),
        egress: outgoing.then(|| rules(egress)),
    }
}

fn rules(rules: Vec<PolicyRule>) -> Vec<Rule> {
    let rule = |rule: PolicyRule| Rule {
        peers: rule.from.into_iter().chain(rule.to).map(peer).collect(),
        ports: rule.ports.iter().map(port).collect(),
    };
    rules.into_iter().map(rule).collect()
}

fn peer(peer: PolicyPeer) -> Peer {
    let block = peer.ip_block.and_then(|block| {
        let except = block.except.iter().filter_map(|range| range.parse().ok());
        Some((block.cidr.parse().ok()?, except.collect()))
    });
    Peer {
        pods: peer.pod_selector.map(|selector| self::selector(*selector)),
        namespaces: peer
            .namespace_selector
            .map(|selector| self::selector(*selector)),
        block,
    }
}

fn port(port: &PolicyPortSpec) -> PolicyPort {
    let text = &port.port.0;
    PolicyPort {
        protocol: protocol(&port.protocol),
        port: (!text.is_empty()).then(|| text.parse().map_err(|_| text.clone())),
        end: u16::try_from(port.end_port).ok().filter(|&end| end > 0),
    }
}

fn selector(selector: LabelSelector) -> Selector {
    let expressions = selector.match_expressions.into_iter().filter_map(|one| {
        let operator = match &*one.operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        Some((one.key, operator, one.values))
    });
    Selector {
        labels: selector.match_labels,
        expressions: expressions.collect(),
    }
}

/// By IANA's number.
fn protocol(name: &str) -> u8 {
    match name {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    }
}
