//! `port-scan`: one pod tries hundreds of ports at once and another one every few seconds; their twins use many ports of
//! one host because that is how their protocols work.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Fate, Pod, START, Workload, outside};
use crate::testkit::rng::Rng;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::tcp::{self, Port, Session, Side};
use crate::testkit::talk::{grpc, http};
use crate::testkit::wire::Host;
use crate::time::Timestamp;

/// A service with a port for each of its parts.
const INVENTORY: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "inventory",
};
const FAST: u8 = 14;
const SLOW: u8 = 10;
const FAST_BEGINS: u64 = 40;
const SLOW_BEGINS: u64 = 50;
/// What listens on the pods that are scanned.
const LISTENING: &[u16] = &[8080, 9100];
/// When the inventory service is rolled out anew.
const ROLLOUT: u64 = 90;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor, begins| {
        let begins = Duration::from_secs(begins);
        Expect::new("port-scan", "recon", cluster.pod(actor), begins)
    };
    Case {
        id: "port-scan",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "The worker tries 200 ports of a web pod with half-open SYNs, 200 of an api pod by connecting, and 200 of the database behind a filter that swallows all but one. Meanwhile a web pod tries 20 ports of Prometheus, one every 4 s.",
                seed: 21,
                record: attack,
                inventory: Inventory::Watch(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker fetches 30 files by passive FTP, each over a data port of its own. The api pods call an inventory service on six ports, again after its rollout, when three ports of the new pod refuse at first.",
                seed: 22,
                record: benign,
                inventory: Inventory::Watch(cluster.clone()),
            },
        ],
        expect: vec![
            expect(FAST, FAST_BEGINS).within(60).targets(2),
            expect(SLOW, SLOW_BEGINS).within(120),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.deploy(
        INVENTORY,
        "1",
        START.before(Duration::from_hours(30)),
        &[50],
    );
    cluster.end(50, at(ROLLOUT), Fate::Deleted);
    cluster.deploy(INVENTORY, "2", at(ROLLOUT), &[51]);
    cluster
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let scanner = cluster.pod(FAST).host;
    let filtered = cluster.pod(20).host;
    let next = half_open_scan(
        &mut scene,
        scanner,
        cluster.pod(11).host,
        LISTENING,
        at(FAST_BEGINS),
    );
    let next = connect_scan(&mut scene, scanner, cluster.pod(12).host, LISTENING, next);
    filtered_scan(&mut scene, scanner, filtered, next);

    let (slow, prometheus) = (cluster.pod(SLOW).host, cluster.pod(30).host);
    for (n, port) in (0..).zip(ports(&mut scene.rng, 20)) {
        let at = at(SLOW_BEGINS + n * 4).after(scene.rng.about(Duration::from_millis(300)));
        tcp::refused(&mut scene, Route::direct(slow, prometheus, port), at);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    passive_ftp(&mut scene, cluster.pod(14), at(30));
    // One of the two api pods is another by the time of the rollout.
    let calls = [
        (12, 50, 32),
        (13, 50, 37),
        (12, 51, ROLLOUT + 15),
        (17, 51, ROLLOUT + 20),
    ];
    for (api, inventory, secs) in calls {
        let (api, inventory) = (cluster.pod(api), cluster.pod(inventory));
        let fresh = inventory.start == at(ROLLOUT);
        call_inventory(&mut scene, api, inventory, at(secs), fresh);
    }
    scene.finish()
}

/// A scan by hand-made SYNs from one source port, about 40 a second. When it is over.
pub fn half_open_scan(
    scene: &mut Scene,
    from: Host,
    to: Host,
    open: &[u16],
    start: Timestamp,
) -> Timestamp {
    let source_port = scene.port(from.ip);
    let mut now = start;
    for port in ports(&mut scene.rng, 200) {
        let state = if open.contains(&port) {
            Port::Open
        } else {
            Port::Closed
        };
        tcp::half_open(
            scene,
            Route::direct(from, to, port),
            source_port,
            state,
            now,
        );
        now = now.after(scene.rng.about(Duration::from_millis(25)));
    }
    now
}

/// A scan by the operating system's own connections. When it is over.
pub fn connect_scan(
    scene: &mut Scene,
    from: Host,
    to: Host,
    open: &[u16],
    start: Timestamp,
) -> Timestamp {
    let mut now = start;
    for port in ports(&mut scene.rng, 200) {
        let route = Route::direct(from, to, port);
        if open.contains(&port) {
            Session::open(scene, route, now).abort(scene, Side::Client);
        } else {
            tcp::refused(scene, route, now);
        }
        now = now.after(scene.rng.about(Duration::from_millis(20)));
    }
    now
}

/// A scan of a host behind a filter, each port tried twice; the database's is open.
fn filtered_scan(scene: &mut Scene, from: Host, to: Host, start: Timestamp) {
    let source_port = scene.port(from.ip);
    let mut now = start;
    for port in ports(&mut scene.rng, 200) {
        let route = Route::direct(from, to, port);
        if port == 5432 {
            tcp::half_open(scene, route, source_port, Port::Open, now);
        } else {
            for (n, pause) in (0..).zip([Duration::ZERO, Duration::from_millis(1100)]) {
                tcp::half_open(
                    scene,
                    route,
                    source_port + n,
                    Port::Filtered,
                    now.after(pause),
                );
            }
        }
        now = now.after(scene.rng.about(Duration::from_millis(20)));
    }
}

/// Different ports in the order a scanner tries them: none. Those that everybody looks for are always among them.
fn ports(rng: &mut Rng, count: usize) -> Vec<u16> {
    let mut ports = vec![
        22, 23, 25, 53, 80, 110, 111, 135, 139, 143, 443, 445, 993, 3306, 3389, 5432, 5900, 6443,
        8080, 9100,
    ];
    ports.truncate(count);
    while ports.len() < count {
        let port = rng.within(1..10_000) as u16;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    for last in (1..ports.len()).rev() {
        ports.swap(last, rng.below(last as u64 + 1) as usize);
    }
    ports
}

/// File after file by FTP (RFC 959), each over a port that the server names.
fn passive_ftp(scene: &mut Scene, worker: &Pod, start: Timestamp) {
    let ip = Ipv4Addr::new(198, 51, 100, 40);
    let server = outside(ip, Duration::from_millis(14));
    let think = Duration::from_millis(2);
    let mut control = Session::open(scene, Route::direct(worker.host, server, 21), start);
    control.say(scene, Side::Server, b"220 files.partner.example ready\r\n");
    for (command, answer) in [
        ("USER shop", "331 password, please"),
        ("PASS hunter2", "230 logged in"),
        ("TYPE I", "200 binary"),
    ] {
        let (command, answer) = (format!("{command}\r\n"), format!("{answer}\r\n"));
        control.ask(scene, command.as_bytes(), think, answer.as_bytes());
    }
    for number in 0..30 {
        let port = scene.rng.within(40_000..60_000) as u16;
        let [a, b, c, d] = ip.octets();
        let passive = format!(
            "227 Entering Passive Mode ({a},{b},{c},{d},{},{})\r\n",
            port >> 8,
            port & 255
        );
        control.ask(scene, b"PASV\r\n", think, passive.as_bytes());
        let mut data = Session::open(
            scene,
            Route::direct(worker.host, server, port),
            control.now(),
        );
        control.wait_until(scene, data.now());
        let fetch = format!("RETR price-list-{number:02}.csv\r\n");
        control.ask(scene, fetch.as_bytes(), think, b"150 here it comes\r\n");
        data.wait_until(scene, control.now());
        let len = scene.rng.within(600..1400) as usize;
        let file = http::prose(&mut scene.rng, len);
        data.say(scene, Side::Server, file.as_bytes());
        let done = data.close(scene, Side::Server);
        control.wait_until(scene, done);
        control.say(scene, Side::Server, b"226 done\r\n");
        let pause = scene.rng.about(Duration::from_secs(3));
        control.wait(scene, pause);
    }
    control.ask(scene, b"QUIT\r\n", think, b"221 bye\r\n");
    control.close(scene, Side::Server);
}

/// Calls on each of the service's ports; a pod that has just started refuses some at first.
fn call_inventory(scene: &mut Scene, api: &Pod, inventory: &Pod, start: Timestamp, fresh: bool) {
    for (n, port) in (0..).zip(50_051..50_057) {
        let mut now = start.after(Duration::from_millis(700) * n);
        let route = Route::direct(api.host, inventory.host, port);
        if fresh && n % 2 == 0 {
            for pause in [200, 900] {
                let refused = tcp::refused(scene, route, now);
                now = refused.after(scene.rng.about(Duration::from_millis(pause)));
            }
        }
        let mut session = Session::open(scene, route, now);
        grpc::begin(scene, &mut session);
        for call in 0..3 {
            grpc::call(scene, &mut session, call, "/shop.Inventory/Check", (40, 90));
            session.wait(scene, Duration::from_millis(400));
        }
        session.close(scene, Side::Client);
    }
}
