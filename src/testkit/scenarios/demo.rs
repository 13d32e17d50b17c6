//! The capture that the README shows: four minutes of the cluster, with three attacks by three pods.

use std::time::Duration;

use super::{Case, Expect, Inventory, Part, at, db_sweep, dns_tunnel, ordinary, port_scan};
use crate::testkit::cluster::{Cluster, START};

const LENGTH: Duration = Duration::from_mins(4);
const TUNNEL: (u8, u64) = (10, 30);
const SCAN: (u8, u64) = (14, 80);
const SWEEP: (u8, u64) = (11, 130);

/// The capture and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |signature, category, (last, begins)| {
        Expect::new(
            signature,
            category,
            cluster.pod(last),
            Duration::from_secs(begins),
        )
    };
    Case {
        id: "demo",
        parts: vec![Part {
            role: "attack",
            file: "demo.pcap",
            story: "A web pod tunnels data through DNS; the worker scans the ports of a web pod and of an api pod; the other web pod tries every database's port on everybody. All the while people shop.",
            seed: 60,
            record: demo,
            inventory: Inventory::List(cluster.clone()),
        }],
        expect: vec![
            expect("dns-tunnel", "c2", TUNNEL),
            expect("port-scan", "recon", SCAN).within(60).targets(2),
            expect("db-sweep", "database", SWEEP).targets(20),
        ],
    }
}

/// The demonstration's capture.
pub fn demo(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    dns_tunnel::tunnel(&mut scene, &cluster, cluster.pod(TUNNEL.0), at(TUNNEL.1));
    let scanner = cluster.pod(SCAN.0).host;
    let open = &[8080, 9100];
    let next =
        port_scan::half_open_scan(&mut scene, scanner, cluster.pod(11).host, open, at(SCAN.1));
    port_scan::connect_scan(&mut scene, scanner, cluster.pod(12).host, open, next);
    db_sweep::sweep(&mut scene, &cluster, cluster.pod(SWEEP.0), at(SWEEP.1));
    scene.finish()
}
