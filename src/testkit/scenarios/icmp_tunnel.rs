//! `icmp-tunnel`: a stream in pings, both ways, then a file in their filler; its twin pings as much, for good reasons.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::scene::Scene;
use crate::testkit::talk::datagram::{Ping, echo, ping};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const BEGINS: u64 = 22;
const LEAKS: u64 = 60;
const ACTOR: u8 = 11;
const LEAKER: u8 = 12;
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "icmp-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A pod runs a tunnel in pings to a host outside: a header of its own, then the bytes of an encrypted stream, requests up and replies down; between the bursts it polls with headers alone. From another pod a file leaves, sixteen bytes at a time in the pattern of single pings, to which an honest kernel replies.",
                seed: 61,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A monitor pings gateways and hosts outside with the fillers of five programs, restarting them now and then; one host cuts long replies; another pod looks for the path's MTU, with pings of all sizes.",
                seed: 62,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            Expect::new(
                "icmp-tunnel",
                "c2",
                cluster.pod(ACTOR),
                Duration::from_secs(BEGINS),
            )
            .within(30),
            Expect::new(
                "icmp-tunnel",
                "c2",
                cluster.pod(LEAKER),
                Duration::from_secs(LEAKS),
            )
            .within(60),
        ],
    }
}

fn outside_host(last: u8) -> Host {
    outside(Ipv4Addr::new(203, 0, 113, last), Duration::from_millis(18))
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR).host;
    tunnel(&mut scene, actor, outside_host(77), at(BEGINS));
    exfiltration(
        &mut scene,
        cluster.pod(LEAKER).host,
        outside_host(78),
        at(LEAKS),
    );
    scene.finish()
}

/// A connection inside pings: a login's worth of exchanges, then a download, with polls between.
fn tunnel(scene: &mut Scene, actor: Host, far: Host, from: Timestamp) {
    let id = scene.rng.bits() as u16;
    let mut now = from;
    for seq in 0..140_u16 {
        let (up, down) = match seq {
            0..20 => (
                40 + scene.rng.below(400) as usize,
                60 + scene.rng.below(900) as usize,
            ),
            60..100 => (12, 1024),
            _ if scene.rng.chance(20) => (64, 120),
            _ => (0, 0),
        };
        let ask = framed(scene, 1, seq, up);
        let reply = framed(scene, 2, seq, down);
        now = echo(scene, actor, far, (id, seq), &ask, Some(&reply), now);
        now = now.after(scene.rng.about(if up + down == 0 {
            Duration::from_millis(900)
        } else {
            Duration::from_millis(60)
        }));
    }
}

/// What such tools put before the data: a mark, a kind, a number, a length.
fn framed(scene: &mut Scene, kind: u8, seq: u16, data: usize) -> Vec<u8> {
    let mut payload = b"\x7e\x31\x9c\x40".to_vec();
    payload.push(kind);
    payload.extend(seq.to_be_bytes());
    payload.extend((data as u16).to_be_bytes());
    payload.extend((0..data).map(|_| scene.rng.bits() as u8));
    payload
}

/// `ping -c 1 -p`, again and again: sixteen bytes of a file each, repeated to the payload's end.
fn exfiltration(scene: &mut Scene, actor: Host, far: Host, from: Timestamp) {
    let mut now = from;
    for _ in 0..30 {
        let piece = scene.rng.text(BASE64, 16).into_bytes();
        let payload = [&Ping::stamp(now)[..], &piece, &piece, &piece[..8]].concat();
        let id = scene.rng.bits() as u16;
        echo(scene, actor, far, (id, 1), &payload, Some(&payload), now);
        now = now.after(scene.rng.about(Duration::from_millis(1900)));
    }
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    monitor(&mut scene, cluster.pod(14).host);
    path_discovery(&mut scene, cluster.pod(ACTOR).host, outside_host(80));
    scene.finish()
}

/// Five programs' fillers towards six hosts, each host by two of them, for the whole time.
fn monitor(scene: &mut Scene, from: Host) {
    for host in 0..6_u8 {
        let to = outside_host(81 + host);
        for tool in [host, host + 1] {
            let mut now = at(5).after(Duration::from_millis(u64::from(host) * 331));
            let mut run = scene.rng.bits();
            for seq in 0..80_u16 {
                if seq % 20 == 0 {
                    run = scene.rng.bits();
                }
                let numbers = (run as u16, seq % 20 + 1);
                if tool % 5 == 0 {
                    ping(scene, from, to, numbers, true, now);
                } else {
                    let payload = filler(tool % 5, run, now);
                    echo(scene, from, to, numbers, &payload, Some(&payload), now);
                }
                now = now.after(scene.rng.about(Duration::from_secs(2)));
            }
        }
    }
}

fn filler(tool: u8, run: u64, now: Timestamp) -> Vec<u8> {
    let nanos = now.nanos() as u64;
    match tool {
        // BusyBox: microseconds since it started, zeros.
        1 => [&((nanos / 1000) as u32).to_le_bytes()[..], &[0; 52]].concat(),
        // A library of Go: time, an id of the run, ones.
        2 => {
            let id = [run.to_be_bytes(), run.rotate_left(17).to_be_bytes()].concat();
            [&nanos.to_be_bytes()[..], &id, &[1; 32]].concat()
        }
        // Windows.
        3 => b"abcdefghijklmnopqrstuvwabcdefghi".to_vec(),
        // A monitor that says its name.
        _ => b"Prometheus Blackbox Exporter".to_vec(),
    }
}

/// `ping -M do -s`, from small to too large for a while; the far host cuts its replies.
fn path_discovery(scene: &mut Scene, from: Host, to: Host) {
    let mut now = at(20);
    for round in 0..50_u16 {
        let len = 40 + usize::from(round) * 28;
        let mut payload = Ping::stamp(now).to_vec();
        payload.extend((0x10..).take(len).map(|n: usize| n as u8));
        let reply = payload.get(..64).unwrap_or(&payload).to_vec();
        let id = scene.rng.bits() as u16;
        echo(scene, from, to, (id, 1), &payload, Some(&reply), now);
        now = now.after(scene.rng.about(Duration::from_millis(1500)));
    }
}
