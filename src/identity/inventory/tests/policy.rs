//! What objects declare of traffic, as the API prints it.

use super::*;
use crate::identity::Party;

/// A database with a sidecar, a client, and a policy that lets `app: api` in at the port named `sql`.
fn objects() -> Vec<Value> {
    let labelled = |name: &str, uid: &str, ip: &str, app: &str| {
        let mut pod = pod(name, uid, ip, 1);
        pod["metadata"]["labels"] = json!({"app": app});
        pod
    };
    let mut db = labelled("db-0", "u1", "10.1.0.3", "db");
    db["spec"]["containers"] = json!([
        {"name": "db", "ports": [{"containerPort": 5432, "name": "sql", "protocol": "TCP"}]},
        {"name": "odd", "ports": [{"containerPort": 99_999}, {"containerPort": "x"}, 7]},
    ]);
    db["spec"]["initContainers"] = json!([{"name": "proxy", "ports": [{"containerPort": 15090}]}]);
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": db["metadata"]["namespace"]},
        "spec": {
            "podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [
                    {"podSelector": {"matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["api"]},
                    ]}},
                    {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.9/32"]}},
                ],
                "ports": [{"port": "sql", "protocol": "TCP"}, {"port": 9000, "endPort": 9010}],
            }],
        },
    });
    vec![
        db,
        labelled("api", "u2", "10.1.0.4", "api"),
        labelled("web", "u3", "10.1.0.5", "web"),
        policy,
    ]
}

/// Whether a policy stands against the address's reaching the database.
fn denied(journal: &Journal, from: &str, port: u16) -> bool {
    let now = Timestamp::from_secs(100);
    let who = |ip: &str| ask(journal, ip, 100);
    let (client, db) = (who(from), who("10.1.0.3"));
    let party = |ip: &str, identity| Party {
        ip: ip.parse().unwrap(),
        identity,
    };
    let ends = (
        party(from, &*client.identity),
        party("10.1.0.3", &*db.identity),
    );
    journal.declared().denied(ends, 6, port, now).is_some()
}

#[test]
fn ports_and_policies_are_read() {
    let journal = load_text(list(&objects()));
    let db = ask(&journal, "10.1.0.3", 100);
    let ports: Vec<u16> = journal
        .declared()
        .ports(&db.identity)
        .iter()
        .map(|one| one.port)
        .collect();
    assert_eq!(ports, [5432, 15090]);
    for (from, port, expected) in [
        ("10.1.0.4", 5432, false),
        ("10.1.0.4", 9005, false),
        ("10.1.0.4", 22, true),
        ("10.1.0.5", 5432, true),
        ("192.0.2.1", 5432, false),
        ("192.0.2.9", 5432, true),
        ("203.0.113.1", 5432, true),
    ] {
        assert_eq!(denied(&journal, from, port), expected, "{from}:{port}");
    }
}

#[test]
fn policies_that_were_deleted_or_that_others_made_deny_nothing() {
    let mut objects = objects();
    let policy = objects.last().unwrap().clone();
    let events = |kind: &str| {
        let added: String = objects.iter().map(|one| event("ADDED", 1.0, one)).collect();
        added + &event(kind, 50.0, &policy)
    };
    assert!(denied(&load_text(events("MODIFIED")), "10.1.0.5", 5432));
    assert!(!denied(&load_text(events("DELETED")), "10.1.0.5", 5432));
    let mut calico = policy;
    calico["apiVersion"] = "crd.projectcalico.org/v1".into();
    objects.push(calico);
    assert!(!denied(&load_text(list(&objects)), "10.1.0.5", 5432));
}
