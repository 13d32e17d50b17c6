//! `resource-spike`: an api pod fetches pages from a hundred and more sites a minute for somebody who sells its address; its
//! twin fetches as many from the cache that it always used.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, novel_peer, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::redis::{self, Reply};
use crate::testkit::talk::tcp::{Session, Side};

const ACTOR: u8 = 12;
const BEGINS: u64 = 1;
const ENDS: u64 = 178;
/// Sites visited in all.
const SITES: u64 = 400;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    let expect = |signature| Expect::new(signature, "anomaly", cluster.pod(ACTOR), begins);
    Case {
        id: "resource-spike",
        parts: vec![
            Part {
                role: "learn",
                file: "learn.pcap",
                story: "Twelve minutes of the ordinary day before, to learn from.",
                seed: 340,
                record: novel_peer::learn,
                inventory: Inventory::Shared,
            },
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "An api pod fetches a page each from 400 sites outside in three minutes, as a proxy for sale does.",
                seed: 351,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The same pod fetches as many values from the cache it always used, within a minute.",
                seed: 352,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![
            expect("resource-spike").within(130).targets(0),
            expect("novel-peer").within(60),
        ],
    }
}

/// A page is fetched from a site of its own.
fn fetch(scene: &mut Scene, cluster: &Cluster, n: u64, millis: u64) {
    let [_, _, high, low] = (n as u32 * 7).to_be_bytes();
    let site = outside(Ipv4Addr::new(203, 0, high, low), Duration::from_millis(30));
    let route = Route::direct(cluster.pod(ACTOR).host, site, 80);
    let starts = at(BEGINS).after(Duration::from_millis(millis));
    let mut session = Session::open(scene, route, starts);
    let host = format!("www.site{n}.example");
    let request = Request::get(&host, "/", "Mozilla/5.0");
    let page = http::json(&mut scene.rng, 900);
    let answer = http::response("200 OK", "nginx", "text/html", &page);
    session.ask(scene, &request.bytes(), Duration::from_millis(9), &answer);
    session.close(scene, Side::Client);
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for n in 0..SITES {
        fetch(&mut scene, &cluster, n, (ENDS - BEGINS) * 1000 * n / SITES);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let route = Route::service(cluster.pod(ACTOR).host, cluster.pod(21).host, 6379);
    for n in 0..SITES {
        let starts = at(62).after(Duration::from_millis(50_000 * n / SITES));
        let mut session = Session::open(&mut scene, route, starts);
        let key = format!("basket:{}", n * 7 % 900);
        redis::ask(
            &mut scene,
            &mut session,
            &["GET", &key],
            Reply::Bulk("[4711,815]"),
        );
        session.close(&mut scene, Side::Client);
    }
    scene.finish()
}
