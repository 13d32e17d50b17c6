//! `tls-c2`: channels of orders with certificates of their own; the twin has odd but honest TLS.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::certificate::Certificate;
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls::{self, Stack};

/// Who calls whom, and when: by address, and by a name that isn't the certificate's.
const BY_ADDRESS: (u8, u64) = (12, 50);
const BY_NAME: (u8, u64) = (14, 65);
const MASTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 60);
const SECOND: (&str, Ipv4Addr) = ("cdn.assets-sync.example", Ipv4Addr::new(192, 0, 2, 61));
const OWN: Certificate = Certificate {
    subject: "Server",
    issuer: "Server",
    names: &[],
    valid: ("250301000000Z", "350301000000Z"),
};
const PARTNER: (&str, Ipv4Addr) = ("api.partner.example", Ipv4Addr::new(198, 51, 100, 51));
const ISSUED: Certificate = Certificate {
    subject: "api.partner.example",
    issuer: "Public Authority R3",
    names: &["api.partner.example", "*.partner.example"],
    valid: ("260201000000Z", "260501000000Z"),
};
const TEST: (&str, Ipv4Addr) = ("test.supplier.example", Ipv4Addr::new(198, 51, 100, 52));
const OWN_BUT_NAMED: Certificate = Certificate {
    subject: "test.supplier.example",
    issuer: "test.supplier.example",
    names: &["test.supplier.example"],
    valid: ("260101000000Z", "270101000000Z"),
};
const FAR: Duration = Duration::from_millis(23);

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |signature, (actor, begins): (u8, u64)| {
        let begins = Duration::from_secs(begins);
        Expect::new(signature, "c2", cluster.pod(actor), begins).within(60)
    };
    Case {
        id: "tls-c2",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod holds a TLS connection to a bare address at port 7084, whose server issued its certificate itself for ten years and speaks when it likes; the worker calls a server whose certificate is for nobody's name, at port 4443.",
                seed: 241,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker calls a partner at an odd port, with an authority's certificate; an api pod calls a supplier's test system at port 443, whose certificate is its own but for its name; another calls an address without naming it, with an authority's certificate.",
                seed: 242,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            // Its server asks as somebody at a shell does, which says more than that its TLS is odd.
            expect("reverse-shell", BY_ADDRESS),
            expect("tls-c2", BY_NAME),
        ],
    }
}

/// A connection over TLS 1.2 with some talk in it: who says how much after how long.
fn talk(
    scene: &mut Scene,
    route: Route,
    begins: u64,
    (stack, name, certificate): (&Stack, &str, &Certificate),
    said: &[(Side, usize, u64)],
) {
    let mut session = Session::open(scene, route, at(begins));
    tls::handshake_1_2(scene, &mut session, stack, name, certificate);
    for &(side, len, pause) in said {
        let pause = scene.rng.about(Duration::from_millis(pause));
        session.wait(scene, pause);
        let bytes = tls::data(&mut scene.rng, len);
        session.say(scene, side, &bytes);
    }
    session.close(scene, Side::Client);
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    use Side::{Client, Server};
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);

    let (actor, begins) = BY_ADDRESS;
    let route = Route::direct(cluster.pod(actor).host, outside(MASTER, FAR), 7084);
    let mut said = vec![(Client, 420, 30)];
    for (order, outcome) in [(60, 900), (80, 4200), (40, 300), (75, 12_000), (52, 640)] {
        said.extend([(Server, order, 6000), (Client, outcome, 120)]);
    }
    let how = (&tls::OPENSSL, "", &OWN);
    talk(&mut scene, route, begins, how, &said);

    let (actor, begins) = BY_NAME;
    let (name, ip) = SECOND;
    let worker = cluster.pod(actor);
    resolver.outside(&mut scene, worker, name, &[ip], at(begins - 1));
    let route = Route::direct(worker.host, outside(ip, FAR), 4443);
    let how = (&tls::GO, name, &OWN);
    let said = [(Client, 300, 20), (Server, 90, 40), (Client, 2000, 5000)];
    talk(&mut scene, route, begins, how, &said);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    use Side::{Client, Server};
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);
    let said = [(Client, 300, 20), (Server, 900, 40)];

    let (name, ip) = PARTNER;
    let worker = cluster.pod(14);
    resolver.outside(&mut scene, worker, name, &[ip], at(49));
    let route = Route::direct(worker.host, outside(ip, FAR), 9000);
    let how = (&tls::GO, name, &ISSUED);
    talk(&mut scene, route, 50, how, &said);

    let (name, ip) = TEST;
    let api = cluster.pod(12);
    resolver.outside(&mut scene, api, name, &[ip], at(59));
    let route = Route::direct(api.host, outside(ip, FAR), 443);
    let how = (&tls::OPENSSL, name, &OWN_BUT_NAMED);
    talk(&mut scene, route, 60, how, &said);

    let (_, ip) = PARTNER;
    let api = cluster.pod(13);
    let route = Route::direct(api.host, outside(ip, FAR), 443);
    let how = (&tls::OPENSSL, "", &ISSUED);
    talk(&mut scene, route, 70, how, &said);
    scene.finish()
}
