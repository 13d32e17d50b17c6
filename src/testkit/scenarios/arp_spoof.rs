//! `arp-spoof`: a pod tells another that it is the gateway, and the gateway that it is the other; its twin is a day on which
//! an address goes to a new pod, and a virtual one to a standby.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{API, Cluster, Fate, GATEWAY, START, on_bridge};
use crate::testkit::talk::datagram;
use crate::testkit::wire::{self, Host};

const ACTOR: u8 = 14;
const VICTIM: u8 = 12;
/// When it asks where the two are; the lies begin two seconds later.
const BEGINS: u64 = 40;
/// Lies to each of the two, two seconds apart.
const ROUNDS: u64 = 30;
/// The address that is given again.
const REUSED: u8 = 60;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "arp-spoof",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker asks for the Ethernet addresses of an api pod and of the gateway, then tells each of them every two seconds, for a minute, that the other is at its own.",
                seed: 301,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An api pod is deleted and its address given to another, who announces it five times. Two hosts hand a virtual address to and fro. An interface with several addresses announces each of them.",
                seed: 302,
                record: benign,
                inventory: Inventory::Watch(reused()),
            },
        ],
        expect: vec![
            Expect::new("arp-spoof", "credential", cluster.pod(ACTOR), begins)
                .within(20)
                .targets(2),
        ],
    }
}

fn reused() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(API, "1", START.before(Duration::from_hours(2)), &[REUSED]);
    cluster.end(REUSED, at(50), Fate::Deleted);
    cluster.deploy(API, "2", at(70), &[REUSED]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (actor, victim) = (cluster.pod(ACTOR).host, cluster.pod(VICTIM).host);
    for (n, whom) in (0..).zip([victim, GATEWAY]) {
        datagram::resolve(&mut scene, actor, whom, at(BEGINS + n));
    }
    for round in 0..ROUNDS {
        let now = at(BEGINS + 2 + round * 2);
        for (whom, as_whom, late) in [(victim, GATEWAY, 0), (GATEWAY, victim, 1)] {
            let now = now.after(scene.rng.about(Duration::from_millis(20 + late)));
            let liar = Host {
                mac: actor.mac,
                ..as_whom
            };
            scene.show(now, wire::arp_reply(&liar, &whom));
        }
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = reused();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    // Of the heir's own Ethernet address.
    let heir = Host {
        mac: [0x0a, 0x58, 10, 244, 9, REUSED],
        ..on_bridge(REUSED)
    };
    datagram::resolve(&mut scene, on_bridge(REUSED), GATEWAY, at(45));
    datagram::ask_in_vain(&mut scene, heir, heir.ip, 5, at(71));
    datagram::resolve(&mut scene, heir, GATEWAY, at(78));
    // Two hosts with a virtual address.
    let host = |last: u8| Host {
        mac: [0x02, 0x42, 172, 18, 0, last],
        ip: IpAddr::V4(Ipv4Addr::new(172, 18, 0, last)),
        ..GATEWAY
    };
    let virtual_address = host(100).ip;
    for holder in [host(11), host(12)] {
        datagram::resolve(&mut scene, holder, GATEWAY, at(20));
    }
    for (turn, holder) in (0..).zip([host(11), host(12), host(11), host(12)]) {
        let announced = Host {
            ip: virtual_address,
            ..holder
        };
        datagram::ask_in_vain(
            &mut scene,
            announced,
            virtual_address,
            5,
            at(30 + turn * 30),
        );
    }
    // An interface with several addresses, as ipvlan makes them.
    for last in 201..206 {
        let shared = Host {
            mac: on_bridge(14).mac,
            ..on_bridge(last)
        };
        datagram::ask_in_vain(
            &mut scene,
            shared,
            shared.ip,
            3,
            at(60 + u64::from(last - 200)),
        );
    }
    scene.finish()
}
