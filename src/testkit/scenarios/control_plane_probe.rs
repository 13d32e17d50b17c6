//! `control-plane-probe`: a pod looks for everything that runs the cluster; its twins are those whose work is with it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, NODE_IP, START, Workload, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{self, Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;
use crate::time::Timestamp;

const ACTOR: u8 = 10;
const BEGINS: u64 = 40;
const OPERATOR: u8 = 50;
/// The node that runs the control plane.
const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 3);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const NEAR: Duration = Duration::from_micros(300);
const ROLE: &str = "/latest/meta-data/iam/security-credentials/worker-node";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let begins = Duration::from_secs(BEGINS);
    Case {
        id: "control-plane-probe",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod calls the API server and the kubelet over TLS, tries the kubelet's read-only port, etcd and Docker in vain, then asks the cloud's metadata service with curl for the node's credentials, and gets them.",
                seed: 71,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "An operator keeps a connection to the API server. Prometheus scrapes the kubelet over TLS and kube-proxy in clear, and is refused by scheduler and controller manager. The worker gets credentials by its cloud's library.",
                seed: 72,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new("control-plane-probe", "recon", cluster.pod(ACTOR), begins)
                .within(30)
                .targets(4),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let operator = Workload {
        namespace: "ops",
        kind: "Deployment",
        name: "operator",
    };
    let start = START.before(Duration::from_hours(70));
    cluster.deploy(operator, "1", start, &[OPERATOR]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let actor = cluster.pod(ACTOR).host;
    let (node, api) = (outside(NODE_IP, NEAR), outside(CONTROL_PLANE, NEAR));
    call(&mut scene, Route::direct(actor, api, 6443), at(BEGINS), 2);
    call(
        &mut scene,
        Route::direct(actor, node, 10250),
        at(BEGINS + 4),
        1,
    );
    tcp::refused(
        &mut scene,
        Route::direct(actor, node, 10255),
        at(BEGINS + 7),
    );
    tcp::silent(
        &mut scene,
        Route::direct(actor, api, 2379),
        at(BEGINS + 9),
        1,
    );
    tcp::refused(
        &mut scene,
        Route::direct(actor, node, 2375),
        at(BEGINS + 15),
    );
    for (n, path) in (0..).zip(["/latest/meta-data/", ROLE]) {
        metadata(
            &mut scene,
            actor,
            ("GET", path),
            "curl/8.11.1",
            at(BEGINS + 20 + n * 3),
        );
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (node, api) = (outside(NODE_IP, NEAR), outside(CONTROL_PLANE, NEAR));
    let operator = cluster.pod(OPERATOR).host;
    call(&mut scene, Route::direct(operator, api, 6443), at(3), 40);
    let prometheus = cluster.pod(30).host;
    for round in 0..5 {
        let now = at(6 + round * 30);
        call(&mut scene, Route::direct(prometheus, node, 10250), now, 1);
        scrape(&mut scene, Route::direct(prometheus, node, 10249), now);
        for port in [10257, 10259] {
            tcp::refused(&mut scene, Route::direct(prometheus, api, port), now);
        }
    }
    let worker = cluster.pod(14).host;
    for (n, asked) in (0..).zip([("PUT", "/latest/api/token"), ("GET", ROLE)]) {
        metadata(
            &mut scene,
            worker,
            asked,
            "aws-sdk-go-v2/1.36.1",
            at(20 + n),
        );
    }
    scene.finish()
}

/// So many exchanges over TLS.
fn call(scene: &mut Scene, route: Route, start: Timestamp, exchanges: u64) {
    let mut session = Session::open(scene, route, start);
    tls::handshake(scene, &mut session, &tls::GO, "kubernetes.default.svc");
    for _ in 0..exchanges {
        let answer = scene.rng.within(300..1200) as usize;
        tls::exchange(scene, &mut session, 140, answer);
        let pause = scene.rng.about(Duration::from_secs(3));
        session.wait(scene, pause);
    }
    session.close(scene, Side::Client);
}

fn scrape(scene: &mut Scene, route: Route, start: Timestamp) {
    let mut session = Session::open(scene, route, start);
    let mut request = Request::get("172.18.0.2:10249", "/metrics", "Prometheus/2.55.1");
    request.close = true;
    let metrics = http::metrics(&mut scene.rng, 600);
    let answer = http::response("200 OK", "kube-proxy", "text/plain", &metrics);
    session.ask(scene, &request.bytes(), Duration::from_millis(2), &answer);
    session.close(scene, Side::Server);
}

fn metadata(
    scene: &mut Scene,
    client: Host,
    (method, path): (&str, &str),
    agent: &str,
    start: Timestamp,
) {
    let route = Route::direct(client, outside(METADATA, NEAR), 80);
    let mut session = Session::open(scene, route, start);
    let request = Request {
        method,
        close: true,
        ..Request::get("169.254.169.254", path, agent)
    };
    let body = if path == ROLE {
        "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"made-up\"}"
    } else {
        "ami-id\nhostname\niam/\ninstance-id\n"
    };
    let answer = http::response("200 OK", "EC2ws", "text/plain", body);
    session.ask(scene, &request.bytes(), Duration::from_millis(1), &answer);
    session.close(scene, Side::Server);
}
