//! Who does it: as a key, in a sentence, and in the commands of a response.

use crate::event::Endpoint;
use crate::identity::{Confidence, IdentityKind};

/// What makes two findings' actors the same one: the pod where it is known, or else the address.
pub(super) fn key(actor: &Endpoint) -> String {
    let identity = &actor.who.identity;
    if identity.kind == IdentityKind::Pod {
        if let Some(uid) = &identity.uid {
            return format!("uid {uid}");
        }
        if let Some(name) = &identity.name {
            let namespace = identity.namespace.as_deref().unwrap_or_default();
            return format!("pod {namespace}/{name}");
        }
    }
    format!("ip {}", actor.ip)
}

/// The name of whoever held an address, with the namespace; `None` where no source names anybody.
pub fn holder(end: &Endpoint) -> Option<String> {
    let identity = &end.who.identity;
    let name = identity.name.as_deref()?;
    Some(match identity.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    })
}

/// Who did it, as the beginning of a sentence: `Pod shop/cart-7d4b9c-x2x9k (10.244.1.7)`.
pub fn subject_of_sentence(actor: &Endpoint) -> String {
    let ip = actor.ip;
    if actor.who.confidence == Confidence::Ambiguous {
        return format!("Somebody at {ip} (several pods claim this address)");
    }
    let kind = match actor.who.identity.kind {
        IdentityKind::Pod => "Pod",
        IdentityKind::Service => "Service",
        IdentityKind::Node => "Node",
        IdentityKind::External => return format!("The outside address {ip}"),
        IdentityKind::Unknown => return format!("The address {ip} (no inventory names it)"),
    };
    match holder(actor) {
        Some(name) => format!("{kind} {name} ({ip})"),
        None => format!("{kind} {ip}"),
    }
}

/// Fills a response step's placeholders with the actor's names. What isn't known stays as `<pod>`, and so does a value
/// with characters that no Kubernetes name has: a responder pastes these lines into a shell.
pub(super) fn fill(step: &str, actor: &Endpoint) -> String {
    let identity = &actor.who.identity;
    let pod = identity
        .name
        .as_deref()
        .filter(|_| identity.kind == IdentityKind::Pod);
    let node = match identity.kind {
        IdentityKind::Node => identity.name.as_deref(),
        _ => identity.node.as_deref(),
    };
    let values = [
        (
            "namespace",
            identity.namespace.as_deref().map(str::to_owned),
        ),
        ("pod", pod.map(str::to_owned)),
        (
            "workload",
            identity.workload.as_ref().map(ToString::to_string),
        ),
        ("node", node.map(str::to_owned)),
        ("ip", Some(actor.ip.to_string())),
    ];
    let mut filled = step.to_owned();
    for (name, value) in values {
        let value = value
            .filter(|value| harmless(value))
            .unwrap_or_else(|| format!("<{name}>"));
        filled = filled.replace(&format!("{{{name}}}"), &value);
    }
    filled
}

/// Whether a value can stand in a shell command as it is.
fn harmless(value: &str) -> bool {
    let mut chars = value.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric() || first == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || "-._:/".contains(c))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::{Attribution, Identity, Source, WorkloadId};

    fn actor(identity: Identity, confidence: Confidence) -> Endpoint {
        Endpoint {
            ip: "10.244.1.7".parse().unwrap(),
            who: Attribution {
                identity: Arc::new(identity),
                confidence,
                source: Source::Kubernetes,
            },
        }
    }

    fn pod(name: &str) -> Identity {
        Identity {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            workload: Some(WorkloadId {
                namespace: "shop".into(),
                kind: "Deployment".into(),
                name: "cart".into(),
            }),
            ..Identity::bare(IdentityKind::Pod)
        }
    }

    #[test]
    fn steps_carry_the_actors_names() {
        let actor = actor(pod("cart-x2x9k"), Confidence::Exact);
        assert_eq!(
            fill(
                "kubectl -n {namespace} logs {pod}; {workload} {ip} {node}",
                &actor
            ),
            "kubectl -n shop logs cart-x2x9k; shop/Deployment/cart 10.244.1.7 <node>"
        );
    }

    #[test]
    fn a_name_that_is_none_never_reaches_a_command() {
        for name in ["x; rm -rf ~", "$(id)", "-rf", "a b", "", "é"] {
            let actor = actor(pod(name), Confidence::Exact);
            assert_eq!(fill("logs {pod}", &actor), "logs <pod>", "{name}");
        }
    }

    #[test]
    fn a_pods_name_is_no_placeholder_for_another_value() {
        let actor = actor(pod("{ip}"), Confidence::Exact);
        assert_eq!(fill("{pod}", &actor), "<pod>");
    }

    #[test]
    fn sentences_claim_no_more_than_is_known() {
        let unnamed = Identity::bare(IdentityKind::Pod);
        let external = Identity::bare(IdentityKind::External);
        let unknown = Identity::bare(IdentityKind::Unknown);
        for (identity, confidence, expected) in [
            (
                pod("cart-1"),
                Confidence::Exact,
                "Pod shop/cart-1 (10.244.1.7)",
            ),
            (unnamed, Confidence::Time, "Pod 10.244.1.7"),
            (
                pod("cart-1"),
                Confidence::Ambiguous,
                "Somebody at 10.244.1.7 (several pods claim this address)",
            ),
            (
                external,
                Confidence::External,
                "The outside address 10.244.1.7",
            ),
            (
                unknown,
                Confidence::UnknownPrivate,
                "The address 10.244.1.7 (no inventory names it)",
            ),
        ] {
            assert_eq!(subject_of_sentence(&actor(identity, confidence)), expected);
        }
    }

    #[test]
    fn a_pod_is_the_same_whatever_its_address() {
        let mut first = actor(pod("cart-1"), Confidence::Exact);
        assert_eq!(key(&first), "pod shop/cart-1");
        let mut identity = pod("cart-1");
        identity.uid = Some("0f3a".into());
        first.who.identity = Arc::new(identity);
        assert_eq!(key(&first), "uid 0f3a");
        let unknown = actor(
            Identity::bare(IdentityKind::Unknown),
            Confidence::UnknownPrivate,
        );
        assert_eq!(key(&unknown), "ip 10.244.1.7");
    }
}
