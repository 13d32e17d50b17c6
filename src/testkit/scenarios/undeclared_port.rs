//! `undeclared-port`: a pod serves where its manifest says nothing of it; its twins keep to what they declare, or declare
//! nothing.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, START, WEB};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const SERVER: u8 = 12;
const CLIENT: u8 = 10;
const BEGINS: u64 = 75;
const STRANGE: u16 = 31_337;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "undeclared-port",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "Web and api pods declare the ports they serve. An api pod accepts connections on another port, from a web pod.",
                seed: 121,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The same day without it; the worker, whose manifest declares nothing, serves on that port.",
                seed: 122,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("undeclared-port", "anomaly", cluster.pod(SERVER), begins).within(20),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for pod in &mut cluster.pods {
        if [WEB, API].contains(&pod.workload) {
            pod.ports = vec![8080, 9100];
        }
    }
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (client, server) = (cluster.pod(CLIENT).host, cluster.pod(SERVER).host);
    for round in 0..3 {
        talk(&mut scene, client, server, at(BEGINS + round * 4));
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (client, server) = (cluster.pod(CLIENT).host, cluster.pod(14).host);
    talk(&mut scene, client, server, at(BEGINS));
    scene.finish()
}

fn talk(scene: &mut Scene, client: Host, server: Host, start: Timestamp) {
    let mut session = Session::open(scene, Route::direct(client, server, STRANGE), start);
    let file = scene.rng.bytes(700);
    session.ask(scene, b"get\n", Duration::from_millis(3), &file);
    session.close(scene, Side::Server);
}
