//! `exfiltration`: two pods send what they can reach to places that nobody knows; the twin has a backup, a download and a
//! shipper of logs.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{BACKUP, Cluster, START, Workload, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::time::Timestamp;

const API: u8 = 12;
const POSTS: u64 = 70;
const WEB: u8 = 11;
const STREAMS: u64 = 110;
const DROP: (&str, Ipv4Addr) = ("files.drop-box.example", Ipv4Addr::new(192, 0, 2, 66));
const LISTENER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 67);
const STORAGE: (&str, Ipv4Addr) = ("backups.storage.example", Ipv4Addr::new(198, 51, 100, 40));
const LOGS: (&str, Ipv4Addr) = ("intake.logs.example", Ipv4Addr::new(198, 51, 100, 41));
const MIRROR: (&str, Ipv4Addr) = ("mirror.packages.example", Ipv4Addr::new(198, 51, 100, 42));
/// What ships logs to a service outside.
const SHIPPER: Workload = Workload {
    namespace: "logging",
    kind: "Deployment",
    name: "log-shipper",
};
const SHIPPER_AT: u8 = 63;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = shipping();
    let expect = |last, secs| {
        Expect::new(
            "exfiltration",
            "exfiltration",
            cluster.pod(last),
            Duration::from_secs(secs),
        )
        .within(30)
    };
    Case {
        id: "exfiltration",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A pod of the shop's back posts 0.6 MB to a file service over TLS, in one go. One of the front streams 0.5 MB to a bare TCP port, in portions.",
                seed: 311,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The nightly backup's pod sends 0.4 MB to storage outside, a shipper sends logs to a service all the time, and the api fetches 0.3 MB from a mirror.",
                seed: 312,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![expect(API, POSTS), expect(WEB, STREAMS)],
    }
}

fn shipping() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(
        SHIPPER,
        "1",
        START.before(Duration::from_secs(3)),
        &[SHIPPER_AT],
    );
    cluster
}

/// A pod looks a name up and exchanges something over TLS, in portions a second apart.
fn encrypted(
    scene: &mut Scene,
    cluster: &Cluster,
    last: u8,
    (name, ip): (&str, Ipv4Addr),
    starts: Timestamp,
    portions: &[(usize, usize)],
) {
    let pod = cluster.pod(last);
    let known = Resolver::new(cluster).outside(scene, pod, name, &[ip], starts);
    let route = Route::direct(pod.host, outside(ip, Duration::from_millis(22)), 443);
    let mut session = Session::open(scene, route, known);
    tls::handshake(scene, &mut session, &tls::OPENSSL, name);
    for &(up, down) in portions {
        tls::exchange(scene, &mut session, up, down);
        session.wait(scene, Duration::from_secs(1));
    }
    session.close(scene, Side::Client);
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = shipping();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    encrypted(
        &mut scene,
        &cluster,
        API,
        DROP,
        at(POSTS),
        &[(600_000, 400)],
    );
    let route = Route::direct(
        cluster.pod(WEB).host,
        outside(LISTENER, Duration::from_millis(41)),
        9000,
    );
    let mut session = Session::open(&mut scene, route, at(STREAMS));
    for _ in 0..5 {
        let portion = scene.rng.bytes(100_000);
        session.say(&mut scene, Side::Client, &portion);
        session.wait(&mut scene, Duration::from_secs(1));
    }
    session.close(&mut scene, Side::Client);
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = shipping();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let upload = [(180_000, 300); 2];
    let backup = cluster.alive(BACKUP, at(65))[0].host.mac[5];
    encrypted(&mut scene, &cluster, backup, STORAGE, at(64), &upload);
    let logs = [(26_000, 120); 11];
    encrypted(&mut scene, &cluster, SHIPPER_AT, LOGS, at(1), &logs);
    encrypted(&mut scene, &cluster, API, MIRROR, at(90), &[(600, 300_000)]);
    scene.finish()
}
