//! `cracking-rig`: the worker joins a server that hands out hashes to crack; the twin polls a program in PHP that is called
//! like it, and pulls what it always pulls.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

const ACTOR: u8 = 14;
const BEGINS: u64 = 40;
const SERVER: [u8; 4] = [203, 0, 113, 77];

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "cracking-rig",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker registers with a job server outside, asks it for work every 5 s, and fetches a list of hashes and a word list in pieces.",
                seed: 405,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker asks an old program in PHP, which is called like a job server, now and then whether there is something to do, and fetches its reports.",
                seed: 406,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("cracking-rig", "hijack", cluster.pod(ACTOR), begins).within(60),
            // It is that, too.
            Expect::new("beacon", "c2", cluster.pod(ACTOR), begins),
        ],
    }
}

/// One request on a connection of its own.
fn fetch(scene: &mut Scene, method: &str, path: &str, body: &str, len: usize, starts: Timestamp) {
    let cluster = Cluster::default();
    let server = outside(SERVER.into(), Duration::from_millis(31));
    let route = Route::direct(cluster.pod(ACTOR).host, server, 80);
    let mut session = Session::open(scene, route, starts);
    let request = Request {
        method,
        path,
        host: "jobs.sync-edge.example",
        agent: "python-requests/2.32.3",
        body,
        close: true,
    };
    let answer = http::prose(&mut scene.rng, len);
    let answer = http::response(
        "200 OK",
        "Apache/2.4.62",
        "application/octet-stream",
        &answer,
    );
    session.ask(scene, &request.bytes(), Duration::from_millis(9), &answer);
    session.close(scene, Side::Server);
}

/// Asks for work at these times.
fn poll(scene: &mut Scene, times: impl IntoIterator<Item = u64>) {
    for secs in times {
        let late = scene.rng.about(Duration::from_millis(80));
        let body = "{\"action\":\"getTask\",\"token\":\"hT4kq9Zw2b\"}";
        fetch(
            scene,
            "POST",
            "/api/server.php",
            body,
            60,
            at(secs).after(late),
        );
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let mut scene = ordinary(seed, &Cluster::default(), START, LENGTH);
    poll(&mut scene, (0..4).map(|n| BEGINS + 5 * n));
    let hashes = "/getHashlist.php?hashlists=12&token=hT4kq9Zw2b";
    fetch(&mut scene, "GET", hashes, "", 4000, at(BEGINS + 21));
    for n in 0..3 {
        let file = format!("/getFile.php?file={n}&token=hT4kq9Zw2b");
        fetch(
            &mut scene,
            "GET",
            &file,
            "",
            60_000,
            at(BEGINS + 23 + 4 * n),
        );
    }
    poll(&mut scene, (12..22).map(|n| BEGINS + 5 * n));
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let mut scene = ordinary(seed, &Cluster::default(), START, LENGTH);
    poll(&mut scene, [20, 31, 58, 96, 121, 160]);
    for n in 0..4 {
        let file = format!("/getFile.php?report={n}");
        fetch(&mut scene, "GET", &file, "", 20_000, at(35 + 30 * n));
    }
    scene.finish()
}
