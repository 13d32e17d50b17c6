//! One conversation of two pods, as taps see it that show it wrapped: tagged, labelled, tunnelled, mirrored.
//!
//! Each wrap is written out byte by byte as its document has it; what is inside stays the same.

use std::fmt::Write;
use std::time::Duration;

use super::cluster::{Cluster, NODE, START};
use super::inventory::rfc3339;
use super::pcap::{Recording, records};
use super::scene::{Route, Scene};
use super::talk::postgres::{self, Login};
use super::talk::tcp::Session;

/// The seed of the conversation.
pub const SEED: u64 = 900;

/// A wrap: which way it goes, and the frame.
type Wrap = fn(Way, &[u8]) -> Vec<u8>;

/// Every wrap by its name.
pub const WRAPS: [(&str, Wrap); 17] = [
    ("bare", |_, frame| frame.to_vec()),
    ("vlan", |_, frame| tagged(frame, &[(0x8100, 100)])),
    ("qinq", |_, frame| {
        tagged(frame, &[(0x88a8, 7), (0x8100, 100)])
    }),
    ("mpls", |way, frame| {
        let labels = [17 << 12 | 64, 2000 << 12 | 0x100 | 64];
        way.link(0x8847, &[&words(&labels), packet(frame)])
    }),
    ("pppoe", |way, frame| {
        let length = (packet(frame).len() + 2) as u16;
        let session = [&[0x11, 0, 0, 42][..], &length.to_be_bytes(), &[0, 0x21]].concat();
        way.link(0x8864, &[&session, packet(frame)])
    }),
    ("gre", |way, frame| {
        way.ip(47, &[&[0x20, 0, 8, 0, 0, 0, 0, 42], packet(frame)])
    }),
    ("gre-ethernet", |way, frame| {
        way.ip(47, &[&[0, 0, 0x65, 0x58], frame])
    }),
    ("erspan-1", |way, frame| {
        way.ip(47, &[&[0, 0, 0x88, 0xbe], frame])
    }),
    ("erspan-2", |way, frame| {
        way.ip(
            47,
            &[
                &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 42, 0, 0, 0, 0],
                frame,
            ],
        )
    }),
    ("erspan-3", |way, frame| {
        let head = [
            0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        way.ip(47, &[&head, frame])
    }),
    ("vxlan", |way, frame| way.udp(4789, &[&VXLAN, frame])),
    ("vxlan-8472", |way, frame| way.udp(8472, &[&VXLAN, frame])),
    ("geneve", |way, frame| {
        // One option of four bytes.
        way.udp(
            6081,
            &[
                &[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 1, 0, 0, 0, 7],
                frame,
            ],
        )
    }),
    ("ip-in-ip", |way, frame| way.ip(4, &[packet(frame)])),
    ("6in4", |way, frame| way.ip(41, &[&as_ipv6(packet(frame))])),
    ("gtp-u", |way, frame| {
        let length = (packet(frame).len() as u16).to_be_bytes();
        way.udp(
            2152,
            &[&[0x30, 0xff], &length, &[0, 0, 0, 42], packet(frame)],
        )
    }),
    ("vxlan-in-erspan", |way, frame| {
        way.ip(47, &[&[0, 0, 0x88, 0xbe], &way.udp(8472, &[&VXLAN, frame])])
    }),
];

const VXLAN: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;

/// Which of two nodes sends.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    from: u8,
    to: u8,
}

impl Way {
    fn link(self, ether_type: u16, parts: &[&[u8]]) -> Vec<u8> {
        let head = [2, 0, 0, 0, 1, self.to, 2, 0, 0, 0, 1, self.from];
        [&head[..], &ether_type.to_be_bytes(), &parts.concat()].concat()
    }

    fn ip(self, protocol: u8, parts: &[&[u8]]) -> Vec<u8> {
        let payload = parts.concat();
        let mut head = [
            0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 172, 18, 0, self.from, 172, 18, 0,
            self.to,
        ];
        head[2..4].copy_from_slice(&((IPV4_LEN + payload.len()) as u16).to_be_bytes());
        let mut sum: u32 = head
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
            .sum();
        sum = (sum & 0xffff) + (sum >> 16);
        head[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
        self.link(0x0800, &[&head, &payload])
    }

    fn udp(self, port: u16, parts: &[&[u8]]) -> Vec<u8> {
        let payload = parts.concat();
        let length = (8 + payload.len()) as u16;
        // Without a checksum, as tunnels over IPv4 do it.
        let head = [50_000 + u16::from(self.from), port, length, 0]
            .map(u16::to_be_bytes)
            .concat();
        self.ip(17, &[&head, &payload])
    }
}

/// The conversation, in a wrap: an API pod asks the database.
///
/// # Panics
/// If the cluster lacks them.
pub fn capture(wrap: Wrap) -> Vec<u8> {
    let cluster = Cluster::default();
    let (client, server) = (cluster.pod(12).host, cluster.pod(20).host);
    let mut scene = Scene::new(SEED);
    let route = Route::direct(client, server, postgres::PORT);
    let mut session = Session::open(&mut scene, route, START.after(Duration::from_secs(1)));
    let login = Login {
        user: "shop",
        database: "orders",
        application: "api",
    };
    postgres::log_in(&mut scene, &mut session, &login, true);
    postgres::query(
        &mut scene,
        &mut session,
        "SELECT id, total FROM orders WHERE id = 7",
        1,
        2,
    );
    postgres::leave(&mut scene, session);
    let mut wrapped = Recording::default();
    for (time, frame) in records(&scene.finish()) {
        let way = if frame[6..12] == client.mac {
            Way { from: 2, to: 3 }
        } else {
            Way { from: 3, to: 2 }
        };
        wrapped.push(time, wrap(way, frame));
    }
    wrapped.finish()
}

/// Who is who in it, under the addresses of either version.
pub fn inventory() -> String {
    let cluster = Cluster::default();
    let mut text = String::from("ip,namespace,pod,workload,kind,node,start\n");
    for pod in [cluster.pod(12), cluster.pod(20)] {
        let last = pod.host.mac[5];
        for ip in [
            format!("10.244.1.{last}"),
            format!("fd00:10:244:1::{last:x}"),
        ] {
            writeln!(
                text,
                "{ip},{},{},{},{},{NODE},{}",
                pod.workload.namespace,
                pod.name,
                pod.workload.name,
                pod.workload.kind,
                rfc3339(pod.start)
            )
            .expect("a string takes all");
        }
    }
    text
}

fn packet(frame: &[u8]) -> &[u8] {
    &frame[ETHERNET_LEN..]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let (ends, rest) = frame.split_at(12);
    let tags = tags
        .iter()
        .flat_map(|(kind, tag)| [*kind, *tag])
        .flat_map(u16::to_be_bytes);
    [ends, &tags.collect::<Vec<u8>>(), rest].concat()
}

/// The same segment between the same pods' other addresses. Its checksum is left as it is, as on a host that leaves checksums to
/// the network card.
fn as_ipv6(packet: &[u8]) -> Vec<u8> {
    let (head, segment) = packet.split_at(IPV4_LEN);
    let mut whole = vec![0x60, 0, 0, 0];
    whole.extend((segment.len() as u16).to_be_bytes());
    whole.extend([head[9], head[8]]);
    for last in [head[15], head[19]] {
        whole.extend([0xfd, 0, 0, 0x10, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    whole.extend(segment);
    whole
}
