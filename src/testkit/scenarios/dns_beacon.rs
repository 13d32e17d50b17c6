//! `dns-beacon`: implants that ask for orders by DNS in two ways; the twin has what else asks by the clock.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::dns::{self, Answer, Data, Question};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::time::Timestamp;

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Who asks, and from when on: for a new name each time, and for one name of its own.
const BY_NAMES: (u8, u64) = (10, 35);
const BY_TEXT: (u8, u64) = (12, 40);
const ZONE: &str = "ns1.cdn-telemetry.example";
const OTHER_ZONE: &str = "img.static-sync.example";
const FAR: Duration = Duration::from_millis(14);
const END: u64 = 175;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |(actor, begins): (u8, u64), within| {
        let begins = Duration::from_secs(begins);
        Expect::new("dns-beacon", "c2", cluster.pod(actor), begins).within(within)
    };
    Case {
        id: "dns-beacon",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod asks every 8 s ±20 % for the address of a new short name, and is told 0.0.0.0 but once, when it fetches an order in a burst of text records; an api pod asks every 6 s ±50 % for the text record of one name of its own, which may not be kept.",
                seed: 131,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "What else asks by the clock: a health check of a fixed name every 5 s; a proxy that asks for a load balancer's name again whenever it has run out, every 20 s; an agent that sends metrics every 7 s to a name with a new id in it, over a connection that mostly stays; a block list every 3 s; a job that waits for a text record to appear; a search list of the company's, under which nothing is found.",
                seed: 132,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![expect(BY_NAMES, 96), expect(BY_TEXT, 90)],
    }
}

/// About `period`, give or take a share of it in percent.
fn jittered(scene: &mut Scene, period: Duration, percent: u32) -> Duration {
    let off = period * percent / 100;
    scene.rng.between(period.saturating_sub(off), period + off)
}

struct Client<'a> {
    resolver: Resolver,
    pod: &'a Pod,
}

impl Client<'_> {
    fn ask(
        &mut self,
        scene: &mut Scene,
        name: &str,
        kind: u16,
        answer: &Answer,
        at: Timestamp,
    ) -> Timestamp {
        let question = Question {
            name,
            kind,
            edns: None,
        };
        self.resolver
            .ask(scene, self.pod.host, &question, answer, at)
    }

    fn text(scene: &mut Scene, ttl: u32, length: usize) -> Answer {
        let text = scene.rng.text(BASE64, length).into_bytes();
        Answer::Records(ttl, vec![Data::Txt(text)])
    }
}

fn client(cluster: &Cluster, pod: u8) -> Client<'_> {
    Client {
        resolver: Resolver::new(cluster),
        pod: cluster.pod(pod),
    }
}

fn address(ttl: u32, ip: Ipv4Addr) -> Answer {
    Answer::Records(ttl, vec![Data::A(ip)])
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);

    let (actor, begins) = BY_NAMES;
    let mut implant = client(&cluster, actor);
    let id = scene.rng.hex(7);
    let mut now = at(begins);
    let mut asked = 0;
    while now < at(END) {
        let name = format!("{}.{id}.{ZONE}", scene.rng.hex(6));
        let idle = address(1, Ipv4Addr::UNSPECIFIED);
        let order = address(1, Ipv4Addr::new(0, 0, 0, 241));
        let ordered = asked == 11;
        let told = if ordered { order } else { idle };
        now = implant.ask(&mut scene, &name, dns::A, &told, now);
        if ordered {
            for _ in 0..6 {
                let name = format!("{}.{id}.{ZONE}", scene.rng.hex(6));
                let piece = Client::text(&mut scene, 1, 120);
                now = implant.ask(&mut scene, &name, dns::TXT, &piece, now);
                now = now.after(scene.rng.about(Duration::from_millis(90)));
            }
        }
        asked += 1;
        now = now.after(jittered(&mut scene, Duration::from_secs(8), 20));
    }

    let (actor, begins) = BY_TEXT;
    let mut implant = client(&cluster, actor);
    let name = format!("{}.{OTHER_ZONE}", scene.rng.hex(10));
    let mut now = at(begins);
    while now < at(END) {
        let told = Client::text(&mut scene, 0, 24);
        now = implant.ask(&mut scene, &name, dns::TXT, &told, now);
        now = now.after(jittered(&mut scene, Duration::from_secs(6), 50));
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    by_fixed_names(&mut scene, &cluster);
    by_new_names(&mut scene, &cluster);
    scene.finish()
}

/// Names that are asked for again and again.
fn by_fixed_names(scene: &mut Scene, cluster: &Cluster) {
    let mut web = client(cluster, 10);
    let health = address(5, Ipv4Addr::new(198, 51, 100, 90));
    for secs in (31..END).step_by(5) {
        web.ask(scene, "health.partner.example", dns::A, &health, at(secs));
    }

    let mut api = client(cluster, 12);
    let balancer = "k8s-shop-5f1c09ab2e-1184.lb.cloud.example";
    let mut now = at(33);
    while now < at(END) {
        let last = scene.rng.within(91..94) as u8;
        let told = address(20, Ipv4Addr::new(198, 51, 100, last));
        now = api.ask(scene, balancer, dns::A, &told, now);
        now = now.after(
            scene
                .rng
                .between(Duration::from_secs(20), Duration::from_millis(20_900)),
        );
    }

    let mut worker = client(cluster, 14);
    for secs in (37..END).step_by(10) {
        let told = if secs < 150 {
            Answer::NoSuchName
        } else {
            Client::text(scene, 5, 43)
        };
        let name = "_acme-challenge.shop.example";
        worker.ask(scene, name, dns::TXT, &told, at(secs));
    }
}

/// Names that are new each time.
fn by_new_names(scene: &mut Scene, cluster: &Cluster) {
    let mut web = client(cluster, 11);
    let intake = Ipv4Addr::new(198, 51, 100, 95);
    let mut now = at(36);
    let mut sent = 0;
    while now < at(END) {
        let name = format!("{}.in.metricsink.example", scene.rng.hex(12));
        now = web.ask(scene, &name, dns::A, &address(60, intake), now);
        if sent % 6 == 1 {
            let route = Route::direct(web.pod.host, outside(intake, FAR), 443);
            let mut session = Session::open(scene, route, now);
            tls::handshake(scene, &mut session, &tls::GO, &name);
            tls::exchange(scene, &mut session, 1400, 60);
            now = session.close(scene, Side::Client);
        }
        sent += 1;
        now = now.after(jittered(scene, Duration::from_secs(7), 5));
    }

    let mut worker = client(cluster, 14);
    for secs in (32..END).step_by(3) {
        let [a, b] = [scene.rng.below(250), scene.rng.below(250)];
        let name = format!("{a}.{b}.113.203.bl.spamcheck.example");
        let told = if scene.rng.chance(60) {
            address(300, Ipv4Addr::new(127, 0, 0, 4))
        } else {
            Answer::NoSuchName
        };
        worker.ask(scene, &name, dns::A, &told, at(secs));
    }

    let mut api = client(cluster, 12);
    for secs in (34..END).step_by(6) {
        let name = format!("shard{}.store.example.corp.example", scene.rng.hex(4));
        api.ask(scene, &name, dns::A, &Answer::NoSuchName, at(secs));
    }
}
