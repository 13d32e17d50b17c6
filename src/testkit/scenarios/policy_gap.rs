//! `policy-gap`: a NetworkPolicy keeps everybody but the api from the database, and isn't enforced; its twin is the day on
//! which it is.

use std::time::Duration;

use serde_json::json;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START};
use crate::testkit::scene::Route;
use crate::testkit::talk::postgres::{self, Login};
use crate::testkit::talk::tcp::{self, Session};

const ACTOR: u8 = 14;
const BEGINS: u64 = 40;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "policy-gap",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A policy allows the api pods, the backup and Prometheus to reach the database. The worker reaches it all the same.",
                seed: 131,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The same day; the worker's attempt is swallowed.",
                seed: 132,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![Expect::new("policy-gap", "anomaly", cluster.pod(ACTOR), begins).within(10)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.objects.push(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "database", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "postgres"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "api"}}}],
                    "ports": [{"port": 5432, "protocol": "TCP"}],
                },
                {
                    "from": [{
                        "namespaceSelector": {
                            "matchExpressions": [{
                                "key": "kubernetes.io/metadata.name",
                                "operator": "In",
                                "values": ["monitoring", "ops"],
                            }],
                        },
                    }],
                },
            ],
        },
    }));
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(ACTOR).host, cluster.pod(20).host, 5432);
    let mut session = Session::open(&mut scene, route, at(BEGINS));
    let login = Login {
        user: "shop",
        database: "shop",
        application: "psql",
    };
    postgres::log_in(&mut scene, &mut session, &login, true);
    postgres::query(&mut scene, &mut session, "SELECT 1", 1, 20);
    postgres::leave(&mut scene, session);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::direct(cluster.pod(ACTOR).host, cluster.pod(20).host, 5432);
    tcp::silent(&mut scene, route, at(BEGINS), 2);
    scene.finish()
}
