//! `http-bruteforce`: one pod guesses at Tomcat's manager by basic authentication until it is let in, another takes its
//! time with a login form, a third tries keys of an API; their twins are a client with a stale password, a browser, people
//! who log in, and tokens that run out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

const TOMCAT: Workload = Workload {
    namespace: "legacy",
    kind: "Deployment",
    name: "tomcat",
};
const ADMIN: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "admin",
};
const FRONT: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "front",
};
const PORT: u16 = 8080;
/// Who guesses fast, who slowly, and who tries keys.
const FAST: u8 = 11;
const SLOW: u8 = 14;
const KEYS: u8 = 12;
const FAST_BEGINS: u64 = 40;
const SLOW_BEGINS: u64 = 50;
const KEYS_BEGIN: u64 = 70;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8, begins: u64| {
        let begins = Duration::from_secs(begins);
        Expect::new("http-bruteforce", "credential", cluster.pod(actor), begins)
    };
    Case {
        id: "http-bruteforce",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod guesses at the manager of a Tomcat by basic authentication, 20 passwords a second, and is let in at the 41st. The worker tries a login form once every 6 to 9 s, in vain. A third pod tries 30 keys of an API, one after the other.",
                seed: 73,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A client has an old password for the manager and tries it again and again. A browser asks without a password first, each time. People log in through a front end, some mistype. A worker's token runs out, it tries it again and gets a new one; another is given tokens for somebody else, a new one each time.",
                seed: 74,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            expect(FAST, FAST_BEGINS).within(30),
            expect(SLOW, SLOW_BEGINS).within(130),
            expect(KEYS, KEYS_BEGIN).within(30),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(TOMCAT, "1", since, &[26]);
    cluster.deploy(ADMIN, "1", since, &[27]);
    cluster.deploy(FRONT, "1", since, &[28]);
    cluster
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut now = at(FAST_BEGINS);
    let route = Route::direct(cluster.pod(FAST).host, cluster.pod(26).host, PORT);
    for number in 0..=40 {
        let login = basic("tomcat", &format!("guess{number}"));
        now = manager(&mut scene, route, Some(&login), number == 40, now)
            .after(scene.rng.about(Duration::from_millis(45)));
    }
    let mut now = at(SLOW_BEGINS);
    for number in 0..16 {
        let ends = (cluster.pod(SLOW), cluster.pod(27));
        log_in(&mut scene, ends, &format!("word{number:04}"), false, now);
        now = now.after(
            scene
                .rng
                .between(Duration::from_secs(6), Duration::from_secs(9)),
        );
    }
    let mut now = at(KEYS_BEGIN);
    for _ in 0..30 {
        let key = scene.rng.hex(32);
        let pause = scene.rng.about(Duration::from_millis(300));
        let ends = (cluster.pod(KEYS), cluster.pod(27));
        now = call(&mut scene, ends, &format!("Bearer {key}"), false, now).after(pause);
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let (old, right) = (basic("monitor", "of-last-year"), basic("alice", "correct"));
    let mut now = at(10);
    for _ in 0..40 {
        let route = Route::direct(cluster.pod(28).host, cluster.pod(26).host, PORT);
        manager(&mut scene, route, Some(&old), false, now);
        now = now.after(scene.rng.pause(Duration::from_secs(4)));
    }
    for n in 0..12 {
        let route = Route::direct(cluster.pod(10).host, cluster.pod(26).host, PORT);
        let now = at(15 + n * 12);
        let challenged = manager(&mut scene, route, None, false, now);
        manager(&mut scene, route, Some(&right), true, challenged);
    }
    for n in 0..20 {
        let now = at(20 + n * 7);
        // Through the front end: somebody's own password each time, or nearly.
        let (ends, right) = ((cluster.pod(28), cluster.pod(27)), n % 5 != 0);
        log_in(&mut scene, ends, &format!("mine{n:04}"), right, now);
    }
    for n in 0..25 {
        let token = format!("Bearer {}", n / 5);
        let ends = (cluster.pod(14), cluster.pod(27));
        call(&mut scene, ends, &token, n % 5 < 2, at(12 + n * 6));
    }
    for n in 0..25 {
        let (said, signed) = (scene.rng.hex(60), scene.rng.hex(43));
        let token = format!("Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJ{said}.{signed}");
        let ends = (cluster.pod(12), cluster.pod(27));
        call(&mut scene, ends, &token, false, at(13 + n * 5));
    }
    scene.finish()
}

/// The value of an Authorization header.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A request's bytes with an Authorization header.
fn authorized(request: &Request<'_>, value: &str) -> Vec<u8> {
    let text = String::from_utf8(request.bytes()).expect("requests are text");
    let (first, rest) = text.split_once("\r\n").expect("a request has lines");
    format!("{first}\r\nAuthorization: {value}\r\n{rest}").into_bytes()
}

/// Asks for the manager's page, with or without a login. When it is over.
fn manager(
    scene: &mut Scene,
    route: Route,
    login: Option<&str>,
    right: bool,
    at: Timestamp,
) -> Timestamp {
    let request = Request::get("tomcat.legacy", "/manager/html", "curl/8.5.0");
    let question = match login {
        Some(login) => authorized(&request, login),
        None => request.bytes(),
    };
    let body = http::page(&mut scene.rng, if right { 9_000 } else { 2_400 });
    let status = if right { "200 OK" } else { "401 Unauthorized" };
    let answer = http::response(
        status,
        "Apache-Coyote/1.1",
        "text/html;charset=UTF-8",
        &body,
    );
    let mut session = Session::open(scene, route, at);
    session.ask(scene, &question, Duration::from_millis(3), &answer);
    session.close(scene, Side::Client)
}

/// Sends a login form, and goes where the answer leads.
fn log_in(
    scene: &mut Scene,
    (client, server): (&Pod, &Pod),
    password: &str,
    right: bool,
    at: Timestamp,
) {
    let said = format!("{{\"user\":\"admin\",\"password\":\"{password}\"}}");
    let mut session = Session::open(scene, Route::direct(client.host, server.host, PORT), at);
    let form = Request {
        method: "POST",
        path: "/login",
        host: "admin.shop",
        agent: "python-requests/2.32.3",
        body: &said,
        close: false,
    };
    let away = http::response("302 Found", "gunicorn", "text/html", "");
    session.ask(scene, &form.bytes(), Duration::from_millis(80), &away);
    let path = if right { "/orders" } else { "/login?error" };
    let next = Request::get("admin.shop", path, "python-requests/2.32.3");
    let page = http::page(&mut scene.rng, 3_000);
    let page = http::response("200 OK", "gunicorn", "text/html", &page);
    session.ask(scene, &next.bytes(), Duration::from_millis(5), &page);
    session.close(scene, Side::Client);
}

/// Calls an API with a token. When it is over.
fn call(
    scene: &mut Scene,
    (client, server): (&Pod, &Pod),
    login: &str,
    right: bool,
    at: Timestamp,
) -> Timestamp {
    let mut session = Session::open(scene, Route::direct(client.host, server.host, PORT), at);
    let request = Request::get("admin.shop", "/api/orders", "worker/1.4");
    let (status, answer) = if right {
        ("200 OK", "{\"orders\":[]}")
    } else {
        ("401 Unauthorized", "{\"error\":\"invalid token\"}")
    };
    let answer = http::response(status, "gunicorn", "application/json", answer);
    let question = authorized(&request, login);
    session.ask(scene, &question, Duration::from_millis(2), &answer);
    session.close(scene, Side::Client)
}
