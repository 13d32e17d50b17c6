//! `registry-pull`: a web server's pod looks through the registry and takes two images, a worker fetches one from outside;
//! the twin is builds, an updater, and calls that only look alike.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary, registry};
use crate::testkit::cluster::{START, WEB, outside};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::talk::tls;
use crate::testkit::wire::Host;

const THIEF: u8 = 10;
const LOOKS: u64 = 60;
const WORKER: u8 = 14;
const FETCHES: u64 = 100;
/// A registry outside.
const ELSEWHERE: (&str, Ipv4Addr) = ("registry.images.example", Ipv4Addr::new(192, 0, 2, 77));
/// A registry of other things.
const PACKAGES: (&str, Ipv4Addr) = ("registry.npmjs.org", Ipv4Addr::new(198, 51, 100, 34));

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = registry::cluster();
    Case {
        id: "registry-pull",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A pod of the shop's front asks the cluster's registry for all repositories and their tags and fetches two images. A worker fetches one from a registry outside, over TLS.",
                seed: 301,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The runner fetches base images and sends what it built, an updater looks at tags once a minute, the front calls an API whose paths begin like a registry's, and a worker fetches a package from npm's registry.",
                seed: 302,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new(
                "registry-pull",
                "implant",
                cluster.pod(THIEF),
                Duration::from_secs(LOOKS),
            )
            .within(15),
            Expect::new(
                "registry-pull",
                "implant",
                cluster.pod(WORKER),
                Duration::from_secs(FETCHES),
            )
            .within(15),
        ],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = registry::cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let thief = cluster.pod(THIEF);
    registry::visit(
        &mut scene,
        &cluster,
        thief,
        "curl/8.11.1",
        LOOKS,
        |scene, session, caller| {
            caller.catalogue(scene, session);
            for repository in ["shop/web", "shop/api", "ci/tools-base"] {
                session.wait(scene, Duration::from_secs(1));
                caller.tags(scene, session, repository);
            }
        },
    );
    for (secs, image) in [
        (8, ("shop/api", "1.4.0")),
        (12, ("ci/tools-base", "latest")),
    ] {
        registry::visit(
            &mut scene,
            &cluster,
            thief,
            "skopeo/1.14.4",
            LOOKS + secs,
            |scene, session, caller| caller.pull(scene, session, image, 30_000),
        );
    }
    let (name, ip) = ELSEWHERE;
    let worker = cluster.pod(WORKER);
    let known = Resolver::new(&cluster).outside(&mut scene, worker, name, &[ip], at(FETCHES));
    for round in 0..3 {
        let far = outside(ip, Duration::from_millis(24));
        let starts = known.after(Duration::from_millis(300 * round));
        encrypted(&mut scene, worker.host, far, name, starts, 40_000);
    }
    scene.finish()
}

fn encrypted(
    scene: &mut Scene,
    from: Host,
    to: Host,
    name: &str,
    starts: crate::time::Timestamp,
    answer: usize,
) {
    let mut session = Session::open(scene, Route::direct(from, to, 443), starts);
    tls::handshake(scene, &mut session, &tls::OPENSSL, name);
    tls::exchange(scene, &mut session, 420, answer);
    session.close(scene, Side::Client);
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = registry::cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    registry::build(&mut scene, &cluster, 130, "1.4.2");
    for web in cluster.alive(WEB, START) {
        let api = cluster.pod(12);
        let mut session =
            Session::open(&mut scene, Route::direct(web.host, api.host, 8080), at(70));
        for path in ["/v2/", "/v2/orders", "/v2/orders/42/tags"] {
            let request = Request::get("api.shop:8080", path, "shop-web/1.4");
            let body = http::json(&mut scene.rng, 300);
            let answer = http::response("200 OK", "uvicorn", "application/json", &body);
            session.ask(
                &mut scene,
                &request.bytes(),
                Duration::from_millis(5),
                &answer,
            );
        }
        session.close(&mut scene, Side::Client);
    }
    let (name, ip) = PACKAGES;
    let worker = cluster.pod(WORKER);
    let known = Resolver::new(&cluster).outside(&mut scene, worker, name, &[ip], at(FETCHES));
    let far = outside(ip, Duration::from_millis(14));
    encrypted(&mut scene, worker.host, far, name, known, 60_000);
    scene.finish()
}
