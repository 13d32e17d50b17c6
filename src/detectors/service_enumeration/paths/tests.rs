//! Lists of words tried at web servers, and programs that miss something now and then.

use super::super::super::testing::{Bench, end, pod};
use crate::dissect::{HttpRequest, HttpResponse, Transaction};
use crate::event::Endpoint;
use crate::flow::Protocol;
use crate::identity::IdentityKind;

const WORDS: &[&str] = &[
    "admin", "backup", "config", "console", "data", "db", "debug", "docs", "files", "graphql",
    "hidden", "internal", "jobs", "keys", "login", "logs", "manager", "old", "panel", "private",
    "secret", "setup", "status", "temp", "test", "upload", "users", "webmail",
];

fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        path: path.into(),
        ..HttpRequest::default()
    }
}

fn web() -> Endpoint {
    pod("10.244.1.9", "web")
}

struct Client {
    bench: Bench,
    now: f64,
}

impl Client {
    fn new() -> Self {
        Self {
            bench: Bench::new("service-enumeration"),
            now: 10.0,
        }
    }

    fn asks(&mut self, ends: (&Endpoint, &Endpoint), port: u16, request: HttpRequest, status: u16) {
        self.now += 1.0;
        let flow = self.bench.open(self.now, ends, Protocol::Tcp, port);
        let response = HttpResponse {
            status,
            ..HttpResponse::default()
        };
        self.bench
            .says(self.now, &flow, Transaction::HttpRequest(request));
        self.bench
            .says(self.now + 0.01, &flow, Transaction::HttpResponse(response));
    }

    fn alerts(mut self) -> bool {
        self.bench.finish(self.now + 60.0);
        self.bench.alerts()
    }
}

/// A list tried by `from`, at a port, of which `request` makes requests.
fn tries(from: &Endpoint, port: u16, request: impl Fn(&str) -> HttpRequest) -> Client {
    let mut client = Client::new();
    for word in WORDS {
        client.asks((from, &web()), port, request(word), 404);
    }
    client
}

#[test]
fn a_list_of_words_is_found_at_one_server_or_several() {
    let from = pod("10.244.1.7", "shell");
    let client = tries(&from, 80, |word| get(&format!("/{word}")));
    assert!(client.alerts());
    let mut client = Client::new();
    for (n, word) in WORDS.iter().take(20).enumerate() {
        let server = pod(&format!("10.244.2.{}", n % 4), "app");
        client.asks((&from, &server), 8080, get(&format!("/{word}/")), 404);
    }
    assert!(client.alerts());
}

#[test]
fn a_few_places_where_secrets_are_forgotten_suffice() {
    let from = pod("10.244.1.7", "shell");
    let mut client = Client::new();
    for path in [
        "/.git/config",
        "/.env",
        "/admin/",
        "/server-status",
        "/actuator/env",
        "/wp-login.php",
        "/phpmyadmin/",
        "/backup.zip",
    ] {
        client.asks((&from, &web()), 80, get(path), 404);
    }
    assert!(client.alerts());
}

#[test]
fn a_tool_that_names_itself_needs_fewer_words() {
    let from = pod("10.244.1.7", "shell");
    let mut client = Client::new();
    for word in WORDS.iter().take(9) {
        let request = HttpRequest {
            user_agent: Some("gobuster/3.6".into()),
            ..get(&format!("/{word}"))
        };
        client.asks((&from, &web()), 80, request, 404);
    }
    assert!(client.alerts());
}

#[test]
fn who_asks_on_behalf_of_others_or_shows_credentials_is_left_alone() {
    let gateway = pod("10.244.1.7", "gateway");
    let forwarded = |word: &str| HttpRequest {
        forwarded: true,
        ..get(&format!("/{word}"))
    };
    assert!(!tries(&gateway, 80, forwarded).alerts());
    let shown = |word: &str| HttpRequest {
        authorization: Some("aws"),
        ..get(&format!("/{word}"))
    };
    assert!(!tries(&gateway, 9000, shown).alerts(), "buckets");
    let head = |word: &str| HttpRequest {
        method: "HEAD".into(),
        ..get(&format!("/{word}"))
    };
    assert!(!tries(&gateway, 9200, head).alerts(), "indices");
    let outside = end("203.0.113.7", IdentityKind::External, None);
    let client = tries(&outside, 80, |word| get(&format!("/{word}")));
    assert!(!client.alerts(), "the world's noise");
}

#[test]
fn a_proxy_that_says_nothing_of_it_is_known_by_what_it_was_asked() {
    let (world, proxy) = (
        end("203.0.113.7", IdentityKind::External, None),
        pod("10.244.1.7", "proxy"),
    );
    let mut client = Client::new();
    for word in WORDS {
        let path = format!("/{word}");
        client.asks((&proxy, &web()), 80, get(&path), 404);
        client.asks((&world, &proxy), 80, get(&path), 404);
    }
    assert!(!client.alerts());
}

#[test]
fn programs_that_miss_things_are_left_alone() {
    let app = pod("10.244.1.7", "app");
    // Below a place that exists: packages of a mirror, users.
    let client = tries(&app, 80, |word| get(&format!("/simple/{word}/")));
    assert!(!client.alerts(), "packages");
    // A cache is asked for what it doesn't have yet.
    let mut client = Client::new();
    for n in 0..60_u64 {
        let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        client.asks((&app, &web()), 8080, get(&format!("/{hash:016x}")), 404);
    }
    assert!(!client.alerts(), "hashes");
    // A crawler, with dead links among others.
    let mut client = Client::new();
    for (n, word) in WORDS.iter().enumerate() {
        let status = if n % 3 == 0 { 404 } else { 200 };
        client.asks((&app, &web()), 80, get(&format!("/{word}")), status);
    }
    assert!(!client.alerts(), "dead links");
    // A front end that was put where it doesn't belong.
    let mut client = Client::new();
    for place in [
        "",
        "static/app.js",
        "css/site.css",
        "js/app.js",
        "img/logo.png",
        "fonts/a.woff2",
        "favicon.ico",
        "manifest.json",
        "robots.txt",
        "assets/x.js",
        "media/y.png",
        "locales/en.json",
        "service-worker.js",
        "runtime.js",
        "main.css",
    ] {
        let status = if place.is_empty() { 200 } else { 404 };
        client.asks((&app, &web()), 80, get(&format!("/{place}")), status);
    }
    assert!(!client.alerts(), "a broken front end");
}
