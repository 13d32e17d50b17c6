//! What holds for every capture, whatever it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::*;
use crate::capture::{Frame, LinkType};
use crate::decode::{Anomalies, Content, decode};
use crate::testkit::cluster::{DAY_BEFORE, DNS, GATEWAY, NODE_IP, START, on_bridge};
use crate::testkit::pcap::records;

/// Who sends, to whom, and how much payload.
fn ends(bytes: &[u8], time: Timestamp) -> (IpAddr, IpAddr, u32) {
    let packet = decode(&Frame {
        time,
        link: LinkType::Ethernet,
        wire_len: bytes.len() as u32,
        interface: 0,
        data: bytes,
    });
    assert_eq!(packet.anomalies, Anomalies::default());
    match packet.content {
        Content::Ip(ip) => (ip.src, ip.dst, ip.payload_len),
        Content::Arp(arp) => (arp.sender, arp.target, 0),
        other => panic!("{other:?}"),
    }
}

fn cluster(part: &Part) -> Cluster {
    match &part.inventory {
        Inventory::Shared => Cluster::default(),
        Inventory::List(cluster) | Inventory::Watch(cluster) => cluster.clone(),
    }
}

fn is_on_bridge(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == [10, 244, 1])
}

#[test]
fn captures_decode_and_fill_their_time() {
    for case in all() {
        for part in &case.parts {
            let file = (part.record)(part.seed);
            let times: Vec<Timestamp> = records(&file).map(|(time, _)| time).collect();
            assert!(times.is_sorted());
            let (first, last) = (times[0], times[times.len() - 1]);
            let start = if part.role == "learn" {
                DAY_BEFORE
            } else {
                START
            };
            let span = last.since(first).as_secs();
            assert!(
                first.since(start) < Duration::from_secs(10),
                "{} {}",
                case.id,
                part.role
            );
            assert!(
                (170..750).contains(&span),
                "{} {}: {span} s",
                case.id,
                part.role
            );
        }
    }
}

/// Who runs beside the cluster, or is newer than what its inventory knows.
fn stray() -> IpAddr {
    super::unknown_container::STRAY.ip
}

#[test]
fn nobody_speaks_who_is_not_there() {
    for case in all() {
        for part in &case.parts {
            let cluster = cluster(part);
            let file = (part.record)(part.seed);
            for (time, frame) in records(&file) {
                let (from, _, said) = ends(frame, time);
                if said == 0 || !is_on_bridge(from) || from == GATEWAY.ip {
                    continue;
                }
                // What was begun in a pod's time may outlast it by a little.
                let stray = case.id == "unknown-container" && from == stray();
                let there = stray
                    || cluster
                        .pods
                        .iter()
                        .filter(|pod| pod.host.ip == from)
                        .any(|pod| {
                            pod.is_alive(time) || pod.is_alive(time.before(Duration::from_secs(8)))
                        });
                assert!(there, "{} {}: {from} at {time:?}", case.id, part.role);
            }
        }
    }
}

#[test]
fn an_attack_is_all_that_differs_from_the_ordinary_day() {
    for case in all() {
        let part = case
            .parts
            .iter()
            .find(|part| part.role == "attack")
            .unwrap();
        let cluster = cluster(part);
        let length = if case.id == "demo" {
            Duration::from_mins(4)
        } else {
            LENGTH
        };
        let day = ordinary(part.seed, &cluster, START, length).finish();
        let mut usual: BTreeMap<(Timestamp, &[u8]), u32> = BTreeMap::new();
        for record in records(&day) {
            *usual.entry(record).or_default() += 1;
        }
        let file = (part.record)(part.seed);
        let mut begun = None;
        let actors: BTreeSet<IpAddr> = case
            .expect
            .iter()
            .flat_map(|expect| cluster.pods.iter().filter(|pod| pod.name == expect.pod))
            .map(|pod| pod.host.ip)
            .collect();
        let mut actors = actors;
        if case.id == "unknown-container" {
            actors.insert(stray());
        }
        if case.id == "port-forward" {
            // What somebody outside asks for passes the node's own agent.
            actors.insert(NODE_IP.into());
        }
        assert!(!actors.is_empty(), "{}: nobody does it", case.id);
        // Who lies about addresses is known by the frame's own.
        let actor_frames: BTreeSet<_> = cluster
            .pods
            .iter()
            .filter(|pod| actors.contains(&pod.host.ip))
            .map(|pod| pod.host.mac)
            .collect();
        let helpers = cluster.pods.iter().filter(|pod| pod.workload == DNS);
        let helpers: BTreeSet<IpAddr> = helpers.map(|pod| pod.host.ip).collect();
        for (time, frame) in records(&file) {
            if let Some(count @ 1..) = usual.get_mut(&(time, frame)) {
                *count -= 1;
                continue;
            }
            begun = begun.or(Some(time));
            let (from, to, _) = ends(frame, time);
            let theirs = actors.contains(&from)
                || actors.contains(&to)
                || actor_frames.iter().any(|mac| frame.get(6..12) == Some(mac));
            assert!(
                theirs || helpers.contains(&from) || helpers.contains(&to),
                "{}: {from} to {to}",
                case.id
            );
        }
        let first = case
            .expect
            .iter()
            .map(|expect| expect.begins)
            .min()
            .unwrap();
        let late = begun.unwrap().since(START).abs_diff(first);
        assert!(
            late < Duration::from_secs(1),
            "{}: begins {late:?} off",
            case.id
        );
    }
}

#[test]
fn twins_are_about_as_busy_as_their_attacks() {
    for case in all() {
        let frames = |role: &str| {
            let part = case.parts.iter().find(|part| part.role == role)?;
            Some(records(&(part.record)(part.seed)).count())
        };
        if let (Some(attack), Some(benign)) = (frames("attack"), frames("benign")) {
            let ratio = attack as f64 / benign as f64;
            assert!(
                (0.5..2.0).contains(&ratio),
                "{}: {attack} to {benign}",
                case.id
            );
        }
    }
}

#[test]
fn pods_that_sweep_find_nobody_at_free_addresses() {
    // Addresses that scenarios treat as free must not belong to a pod of the shared cluster.
    let cluster = Cluster::default();
    for free in [70, 71, 84, 85, 86] {
        assert!(cluster.pods.iter().all(|pod| pod.host != on_bridge(free)));
    }
}
