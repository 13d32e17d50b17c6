//! `darknet`: a pod tries a few addresses that nobody ever had, slowly; its twin goes on calling peers that were deleted.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Fate, GATEWAY, START, Workload, on_bridge};
use crate::testkit::talk::datagram;

const ACTOR: u8 = 12;
const BEGINS: u64 = 25;
/// Tried one after the other; nobody ever held them.
const EMPTY: &[u8] = &[101, 142, 203, 77];
/// Time between two of them.
const PAUSE: u64 = 30;
/// Pods that are deleted, and when.
const DELETED: &[u8] = &[50, 51, 52, 53, 54];
const ENDS: u64 = 50;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "darknet",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod tries to connect to four addresses of its node's range that nobody ever held, one every 30 s. On the bridge that is an ARP request, repeated twice, and nothing else.",
                seed: 61,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "Five pods of a search service are deleted at once, and two api pods go on asking for all of them, as does the node. A mistyped address is asked for once.",
                seed: 62,
                record: benign,
                inventory: Inventory::Watch(after_rollout()),
            },
        ],
        expect: vec![
            Expect::new("darknet", "recon", cluster.pod(ACTOR), begins)
                .within(2 * PAUSE + 10)
                .targets(3),
        ],
    }
}

fn after_rollout() -> Cluster {
    let mut cluster = Cluster::default();
    let search = Workload {
        namespace: "shop",
        kind: "Deployment",
        name: "search",
    };
    cluster.deploy(search, "1", START.before(Duration::from_hours(9)), DELETED);
    for &last in DELETED {
        cluster.end(last, at(ENDS), Fate::Deleted);
    }
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR).host;
    for (n, &last) in (0..).zip(EMPTY) {
        let now = at(BEGINS + n * PAUSE);
        datagram::ask_in_vain(&mut scene, actor, on_bridge(last).ip, 3, now);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = after_rollout();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for round in 0..5 {
        for &last in DELETED {
            for asker in [cluster.pod(12).host, cluster.pod(17).host, GATEWAY] {
                // The second api pod starts when the first is evicted.
                let starts = if asker == cluster.pod(17).host {
                    ENDS + 55
                } else {
                    ENDS + 2
                };
                let now = at(starts + round * 12)
                    .after(scene.rng.between(Duration::ZERO, Duration::from_secs(9)));
                datagram::ask_in_vain(&mut scene, asker, on_bridge(last).ip, 3, now);
            }
        }
    }
    let typo = on_bridge(220).ip;
    datagram::ask_in_vain(&mut scene, cluster.pod(14).host, typo, 3, at(70));
    scene.finish()
}
