//! `dns-tunnel`: a pod's data leave in names, and come in TXT records; its twin asks as much, for good reasons.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, outside};
use crate::testkit::resolver::{Resolver, reverse_name};
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::dns::{self, Answer, Data, Question};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::time::Timestamp;

/// The zone that the tunnel's far end serves.
const ZONE: &str = "t.cdn-sync.example";
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE36: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const BEGINS: u64 = 35;
const ACTOR: u8 = 10;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    Case {
        id: "dns-tunnel",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod runs a tunnel client through the cluster's DNS: it says hello, polls about once a second for commands, uploads 9 kB in names of three long labels, then downloads 14 kB in TXT records. The cluster's DNS forwards all of it, so each question is seen on both legs.",
                seed: 11,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker asks about as much, honestly: content servers with hashes for names, which it then connects to; telemetry names with ids in them; block list and reverse look-ups of visitors' addresses; SRV records of services; the text records that mail checks need.",
                seed: 12,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![Expect::new(
            "dns-tunnel",
            "c2",
            cluster.pod(ACTOR),
            Duration::from_secs(BEGINS),
        )],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    tunnel(&mut scene, &cluster, cluster.pod(ACTOR), at(BEGINS));
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut chatter = Chatter {
        resolver: Resolver::new(&cluster),
        worker: cluster.pod(14),
        scene: &mut scene,
    };
    chatter.content_servers();
    chatter.telemetry();
    chatter.block_lists();
    chatter.reverse_look_ups();
    chatter.service_discovery();
    chatter.mail_checks();
    scene.finish()
}

/// A tunnel's life of two minutes: hello, polls, an upload, polls, a download, polls.
pub fn tunnel(scene: &mut Scene, cluster: &Cluster, actor: &Pod, from: Timestamp) {
    let mut tunnel = Tunnel {
        resolver: Resolver::new(cluster),
        actor,
        session: scene.rng.hex(4),
        sent: 0,
        now: from,
    };
    tunnel.exchange(scene, "hello", 24, 40);
    tunnel.pause(scene, Duration::from_millis(150));
    tunnel.poll(scene, 25);
    for _ in 0..100 {
        tunnel.exchange(scene, "u", 150, 12);
        tunnel.pause(scene, Duration::from_millis(45));
    }
    tunnel.poll(scene, 25);
    for _ in 0..80 {
        tunnel.exchange(scene, "d", 10, 230);
        tunnel.pause(scene, Duration::from_millis(30));
    }
    tunnel.poll(scene, 40);
}

struct Tunnel<'a> {
    resolver: Resolver,
    actor: &'a Pod,
    session: String,
    sent: u32,
    now: Timestamp,
}

impl Tunnel<'_> {
    /// Nothing to say; is there anything to do?
    fn poll(&mut self, scene: &mut Scene, times: usize) {
        for _ in 0..times {
            let down = if scene.rng.chance(10) { 90 } else { 16 };
            self.exchange(scene, "p", 8, down);
            self.pause(scene, Duration::from_millis(1100));
        }
    }

    /// `up` characters in a name, `down` characters in its text record.
    fn exchange(&mut self, scene: &mut Scene, command: &str, up: usize, down: usize) {
        let data = scene.rng.text(BASE32, up);
        let labels: Vec<&str> = (0..data.len())
            .step_by(50)
            .map(|start| &data[start..data.len().min(start + 50)])
            .collect();
        let name = format!(
            "{}.{command}{:04x}{}.{ZONE}",
            labels.join("."),
            self.sent,
            self.session
        );
        self.sent += 1;
        let text = scene.rng.text(BASE64, down).into_bytes();
        let question = Question {
            name: &name,
            kind: dns::TXT,
            edns: Some(4096),
        };
        let answer = Answer::Records(0, vec![Data::Txt(text)]);
        self.now = self
            .resolver
            .ask(scene, self.actor.host, &question, &answer, self.now);
    }

    fn pause(&mut self, scene: &mut Scene, around: Duration) {
        self.now = self.now.after(scene.rng.about(around));
    }
}

/// An honest pod that asks a lot.
struct Chatter<'a> {
    resolver: Resolver,
    worker: &'a Pod,
    scene: &'a mut Scene,
}

impl Chatter<'_> {
    fn times(&mut self, count: u64, first: u64, last: u64) -> Vec<Timestamp> {
        let span = Duration::from_secs(last - first).as_millis() as u64;
        (0..count)
            .map(|n| {
                at(first).after(Duration::from_millis(
                    n * span / count + self.scene.rng.below(900),
                ))
            })
            .collect()
    }

    fn ask(&mut self, name: &str, kind: u16, answer: &Answer, at: Timestamp) {
        let question = Question {
            name,
            kind,
            edns: None,
        };
        self.resolver
            .ask(self.scene, self.worker.host, &question, answer, at);
    }

    /// Each picture is on a server named by a hash; all are aliases of a few.
    fn content_servers(&mut self) {
        for at in self.times(30, 10, 170) {
            let name = format!("d{}.edgecache.example", self.scene.rng.text(BASE36, 13));
            let pop = self.scene.rng.within(1..4) as u8;
            let ip = Ipv4Addr::new(198, 51, 100, 60 + pop);
            let records = vec![
                Data::Cname(format!("pop{pop}.edgecache.example")),
                Data::A(ip),
            ];
            let answer = Answer::Records(60, records);
            let known = self
                .resolver
                .both(self.scene, self.worker, &name, &answer, at);
            self.fetch(ip, &name, (220, 1400), known);
        }
    }

    /// Metrics go to a name with the sender's ids in it.
    fn telemetry(&mut self) {
        for (number, at) in self.times(24, 12, 172).into_iter().enumerate() {
            let name = format!("{}.eu1.ingest.metricsink.example", self.scene.rng.hex(16));
            let ip = Ipv4Addr::new(198, 51, 100, 80);
            let answer = Answer::Records(60, vec![Data::A(ip)]);
            let known = self
                .resolver
                .both(self.scene, self.worker, &name, &answer, at);
            if number % 3 == 0 {
                self.fetch(ip, &name, (900, 60), known);
            }
        }
    }

    fn fetch(
        &mut self,
        ip: Ipv4Addr,
        name: &str,
        (asked, answered): (usize, usize),
        at: Timestamp,
    ) {
        let server = outside(ip, Duration::from_millis(12));
        let mut session =
            Session::open(self.scene, Route::direct(self.worker.host, server, 443), at);
        tls::handshake(self.scene, &mut session, &tls::GO, name);
        tls::exchange(self.scene, &mut session, asked, answered);
        session.close(self.scene, Side::Client);
    }

    /// Is this visitor on a block list? Most are not; the answer is no place to connect to.
    fn block_lists(&mut self) {
        for at in self.times(60, 8, 174) {
            let [a, b, c, d] = visitor(&mut self.scene.rng).octets();
            let list = self
                .scene
                .rng
                .pick(&["zen.blocklist.example", "bl.spamcheck.example"]);
            let listed = Answer::Records(300, vec![Data::A(Ipv4Addr::new(127, 0, 0, 4))]);
            let answer = if self.scene.rng.chance(12) {
                listed
            } else {
                Answer::NoSuchName
            };
            self.ask(&format!("{d}.{c}.{b}.{a}.{list}"), dns::A, &answer, at);
        }
    }

    fn reverse_look_ups(&mut self) {
        for at in self.times(60, 9, 173) {
            let ip = visitor(&mut self.scene.rng);
            let [a, b, c, d] = ip.octets();
            let host = format!("host-{a}-{b}-{c}-{d}.dyn.access.example");
            let answer = Answer::Records(3600, vec![Data::Ptr(host)]);
            self.ask(&reverse_name(ip.into()), dns::PTR, &answer, at);
        }
    }

    fn service_discovery(&mut self) {
        for at in self.times(36, 7, 175) {
            let (service, port) = self.scene.rng.pick(&[
                ("_postgresql._tcp.postgres", 5432),
                ("_redis._tcp.redis", 6379),
                ("_http._tcp.api", 8080),
            ]);
            let target = service.rsplit('.').next().unwrap_or_default();
            let host = format!("{target}.shop.svc.cluster.local");
            let answer = Answer::Records(5, vec![Data::Srv(0, 100, port, host)]);
            self.ask(
                &format!("{service}.shop.svc.cluster.local"),
                dns::SRV,
                &answer,
                at,
            );
        }
    }

    fn mail_checks(&mut self) {
        for (n, at) in self.times(6, 20, 160).into_iter().enumerate() {
            let name = format!("s{n}._domainkey.partner.example");
            let key = format!("v=DKIM1; k=rsa; p={}", self.scene.rng.text(BASE64, 216));
            let answer = Answer::Records(3600, vec![Data::Txt(key.into_bytes())]);
            self.ask(&name, dns::TXT, &answer, at);
        }
    }
}

fn visitor(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, rng.within(2..240) as u8)
}
