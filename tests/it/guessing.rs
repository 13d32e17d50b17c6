//! Guessing in every manner, at every product: how soon it is told, in failures and in seconds.
//!
//! `cargo test --test it guessing -- --nocapture` prints the table. The bounds: ten failures or thirty seconds; where a try is
//! made every six seconds or less often, fifteen failures.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use spanwatch::testkit::background;
use spanwatch::testkit::cluster::{Cluster, Pod, START, Workload};
use spanwatch::testkit::inventory::kubectl_list;
use spanwatch::testkit::scene::{Route, Scene};
use spanwatch::testkit::talk::tcp::{Session, Side};
use spanwatch::testkit::talk::{http, mysql, postgres, redis, ssh};
use spanwatch::time::Timestamp;

use crate::command::{Folder, spanwatch};

const LENGTH: Duration = Duration::from_mins(3);
/// When the guessing begins: the pod has been there for a while.
const BEGINS: Duration = Duration::from_secs(30);
/// Who guesses, and at whom.
const ACTOR: u8 = 12;
const SERVERS: [u8; 12] = [71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82];
const USERS: [&str; 12] = [
    "app", "admin", "backup", "web", "reports", "test", "guest", "bob", "alice", "deploy", "ci",
    "shop",
];

/// What is guessed at.
#[derive(Clone, Copy, Debug)]
enum Product {
    Postgres,
    Mysql,
    Redis,
    Memcached,
    Ssh,
    HttpBasic,
    HttpForm,
    HttpToken,
}

const PRODUCTS: [(Product, &str); 8] = [
    (Product::Postgres, "db-bruteforce"),
    (Product::Mysql, "db-bruteforce"),
    (Product::Redis, "db-bruteforce"),
    (Product::Memcached, "db-bruteforce"),
    (Product::Ssh, "ssh-bruteforce"),
    (Product::HttpBasic, "http-bruteforce"),
    (Product::HttpForm, "http-bruteforce"),
    (Product::HttpToken, "http-bruteforce"),
];

/// In what manner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// The next try as soon as the last one is refused.
    Fast,
    /// Four at a time.
    FourAtATime,
    /// A try every 6 to 9 s.
    Slow,
    /// A try every 7 s, exactly.
    Paced,
    /// One password for each user, every 5 to 9 s.
    OverUsers,
    /// One password for one user at each server, every 2 to 4 s.
    OverServers,
}

const MANNERS: [Manner; 6] = [
    Manner::Fast,
    Manner::FourAtATime,
    Manner::Slow,
    Manner::Paced,
    Manner::OverUsers,
    Manner::OverServers,
];

impl Manner {
    /// Lanes, tries of each, and the pause between two.
    const fn plan(self) -> (usize, usize, [u64; 2]) {
        match self {
            Self::Fast => (1, 40, [5, 30]),
            Self::FourAtATime => (4, 12, [5, 30]),
            Self::Slow => (1, 17, [6000, 9000]),
            Self::Paced => (1, 17, [7000, 7000]),
            Self::OverUsers => (1, USERS.len(), [5000, 9000]),
            Self::OverServers => (1, SERVERS.len(), [2000, 4000]),
        }
    }
}

/// One refused try, by whatever means the product has; when it is over.
fn refused(
    scene: &mut Scene,
    product: Product,
    (actor, server): (&Pod, &Pod),
    (user, number): (&str, usize),
    at: Timestamp,
) -> Timestamp {
    let password = format!("guess-{number}-{}", "x".repeat(number % 5));
    let route = |port| Route::direct(actor.host, server.host, port);
    match product {
        Product::Postgres => {
            let mut session = Session::open(scene, route(postgres::PORT), at);
            let login = postgres::Login {
                user,
                database: "shop",
                application: "psql",
            };
            postgres::log_in(scene, &mut session, &login, false);
            session.close(scene, Side::Server)
        }
        Product::Mysql => {
            let mut session = Session::open(scene, route(mysql::PORT), at);
            mysql::log_in(scene, &mut session, user, "shop", false);
            session.close(scene, Side::Server)
        }
        Product::Redis => {
            let mut session = Session::open(scene, route(redis::PORT), at);
            let reply = redis::Reply::Error(
                "WRONGPASS invalid username-password pair or user is disabled.",
            );
            redis::ask(scene, &mut session, &["AUTH", user, &password], reply);
            session.close(scene, Side::Client)
        }
        Product::Memcached => {
            let mut session = Session::open(scene, route(11_211), at);
            let login = format!("\0{user}\0{password}");
            let question = binary(0x80, "PLAIN", [0; 2], login.as_bytes());
            let answer = binary(0x81, "", [0, 0x20], b"Auth failure.");
            session.ask(scene, &question, Duration::from_millis(2), &answer);
            session.close(scene, Side::Client)
        }
        Product::Ssh => {
            let mut session = Session::open(scene, route(22), at);
            let names = ("SSH-2.0-libssh_0.10.6", "SSH-2.0-OpenSSH_9.2p1");
            let steps = ssh::passwords(&mut scene.rng, names, 1, false, Duration::from_millis(1));
            ssh::play(scene, &mut session, &steps, ssh::bare);
            session.close(scene, Side::Client)
        }
        Product::HttpBasic | Product::HttpForm | Product::HttpToken => {
            let body = format!("{{\"user\":\"{user}\",\"password\":\"{password}\"}}");
            let form = matches!(product, Product::HttpForm);
            let request = http::Request {
                method: if form { "POST" } else { "GET" },
                path: if form { "/login" } else { "/manager/html" },
                host: "admin.shop",
                agent: "python-requests/2.32.3",
                body: if form { &body } else { "" },
                close: false,
            };
            let mut question = request.bytes();
            let page = http::page(&mut scene.rng, 2_400);
            let mut answer = http::response("200 OK", "gunicorn", "text/html", &page);
            if !form {
                let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
                let way = match product {
                    Product::HttpToken => "Bearer",
                    _ => "Basic",
                };
                let text = String::from_utf8(question).unwrap();
                let (first, rest) = text.split_once("\r\n").unwrap();
                question =
                    format!("{first}\r\nAuthorization: {way} {login}\r\n{rest}").into_bytes();
                answer = http::response("401 Unauthorized", "Tomcat", "text/html", &page);
            }
            let mut session = Session::open(scene, route(8080), at);
            session.ask(scene, &question, Duration::from_millis(8), &answer);
            session.close(scene, Side::Client)
        }
    }
}

/// A login of Memcached's binary protocol, or its answer.
fn binary(magic: u8, way: &str, status: [u8; 2], value: &[u8]) -> Vec<u8> {
    let head = [magic, 0x21, 0, way.len() as u8, 0, 0, status[0], status[1]];
    let body = (way.len() + value.len()) as u32;
    let rest = [&[0; 12][..], way.as_bytes(), value].concat();
    [&head[..], &body.to_be_bytes(), &rest].concat()
}

/// The capture, and when each try was refused.
fn capture(product: Product, manner: Manner, cluster: &Cluster) -> (Vec<u8>, Vec<Timestamp>) {
    let mut scene = Scene::new(77);
    background::play(&mut scene, cluster, START, LENGTH);
    let (lanes, tries, [least, most]) = manner.plan();
    let mut failures = Vec::new();
    let mut times: Vec<Timestamp> = (0..lanes as u64)
        .map(|lane| START.after(BEGINS + Duration::from_millis(3 * lane)))
        .collect();
    for number in 0..tries {
        for (lane, time) in times.iter_mut().enumerate() {
            let user = match manner {
                Manner::OverUsers => USERS[number],
                _ => "app",
            };
            let server = match manner {
                Manner::OverServers => SERVERS[number],
                _ => SERVERS[0],
            };
            let ends = (cluster.pod(ACTOR), cluster.pod(server));
            let over = refused(
                &mut scene,
                product,
                ends,
                (user, number * lanes + lane),
                *time,
            );
            failures.push(over);
            let pause = if least == most {
                Duration::from_millis(least)
            } else {
                let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
                scene.rng.between(least, most)
            };
            *time = over.after(pause);
        }
    }
    failures.sort();
    (scene.finish(), failures)
}

/// A day like any other, and servers of all kinds.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, lasts) in [("store", &SERVERS[..6]), ("archive", &SERVERS[6..])] {
        let workload = Workload {
            namespace: "shop",
            kind: "Deployment",
            name,
        };
        cluster.deploy(workload, "1", START.before(Duration::from_hours(60)), lasts);
    }
    cluster
}

#[test]
fn guessing_is_told_in_time_whatever_its_manner() {
    let cluster = cluster();
    let folder = Folder::new();
    let inventory = folder.file("pods.json", kubectl_list(&cluster, START).as_bytes());
    let mut table = String::new();
    let mut late = Vec::new();
    for (product, signature) in PRODUCTS {
        for manner in MANNERS {
            let (bytes, failures) = capture(product, manner, &cluster);
            let file = folder.file("capture.pcap", &bytes);
            let run = spanwatch(&["analyze", &file, "--inventory", &inventory]);
            assert_eq!(run.code, Some(0), "{}", run.err);
            fs::remove_file(&file).unwrap();
            let alerts = run.json();
            let told = alerts.iter().find(|alert| {
                alert["signature"] == signature && alert["actor"]["pod"] == *cluster.pod(ACTOR).name
            });
            let what = format!("{product:?} {manner:?}");
            let Some(told) = told else {
                writeln!(table, "{what:24} not told").unwrap();
                late.push(what);
                continue;
            };
            let raised: jiff::Timestamp = told["time"]["raised"].as_str().unwrap().parse().unwrap();
            let raised =
                Timestamp::from_secs_nanos(raised.as_second(), raised.subsec_nanosecond() as u32);
            let secs = raised.since(START.after(BEGINS)).as_secs_f64();
            let failed = failures.iter().filter(|&&time| time <= raised).count();
            writeln!(table, "{what:24} {secs:6.1} s {failed:3} failures").unwrap();
            let (_, _, [pause, _]) = manner.plan();
            let in_time = if pause < 5000 {
                failed <= 10 || secs <= 30.0
            } else {
                failed <= 15
            };
            if !in_time {
                late.push(format!("{what}: {failed} failures, {secs:.1} s"));
            }
        }
    }
    println!("{table}");
    assert!(late.is_empty(), "late: {late:#?}");
}
