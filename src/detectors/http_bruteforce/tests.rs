//! Guessing at web logins, and clients that are refused honestly.

use super::super::testing::{Bench, end, pod};
use super::*;
use crate::event::Endpoint;
use crate::flow::Protocol;
use crate::identity::IdentityKind;
use crate::testkit::rng::Rng;

struct Answer {
    status: u16,
    media: Option<&'static str>,
}

const UNAUTHORIZED: Answer = Answer {
    status: 401,
    media: None,
};

fn basic(password: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        path: "/manager/html".into(),
        authorization: Some("basic"),
        secret: Some(SecretMark::of(password.as_bytes())),
        ..HttpRequest::default()
    }
}

fn bearer(token: &str) -> HttpRequest {
    HttpRequest {
        authorization: Some("bearer"),
        secret: Some(SecretMark::of(token.as_bytes())),
        ..get("/api/items")
    }
}

fn form(path: &str) -> HttpRequest {
    HttpRequest {
        method: "POST".into(),
        path: path.into(),
        content_length: Some(31),
        ..HttpRequest::default()
    }
}

fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        path: path.into(),
        ..HttpRequest::default()
    }
}

fn ask(
    bench: &mut Bench,
    at: f64,
    ends: (&Endpoint, &Endpoint),
    request: HttpRequest,
    answer: &Answer,
) {
    answered(bench, at, ends, request, answer, None);
}

/// The same, of a form that says something.
fn answered(
    bench: &mut Bench,
    at: f64,
    ends: (&Endpoint, &Endpoint),
    request: HttpRequest,
    answer: &Answer,
    form: Option<&str>,
) {
    let flow = bench.open(at, ends, Protocol::Tcp, 8080);
    bench.says(at, &flow, Transaction::HttpRequest(request));
    let response = HttpResponse {
        status: answer.status,
        content_type: answer.media.map(Into::into),
        asked: form.map(|form| SecretMark::of(form.as_bytes())),
        ..HttpResponse::default()
    };
    bench.says(at + 0.02, &flow, Transaction::HttpResponse(response));
}

fn ends() -> (Endpoint, Endpoint) {
    (pod("10.244.1.7", "web"), pod("10.244.1.9", "tomcat"))
}

#[test]
fn each_password_another_is_guessing_however_slow() {
    for pause in [0.001, 0.2, 8.0, 600.0] {
        let (web, tomcat) = ends();
        let mut bench = Bench::new("http-bruteforce");
        let mut tries = 0;
        while !bench.alerts() {
            tries += 1;
            let at = f64::from(tries) * pause;
            let request = basic(&format!("pw{tries}"));
            ask(&mut bench, at, (&web, &tomcat), request, &UNAUTHORIZED);
            assert!(tries <= 10, "{pause}");
        }
        println!("basic, one every {pause} s: {tries} tries");
    }
}

#[test]
fn tokens_and_keys_are_guessed_fast_and_slowly() {
    for (way, status, pause) in [
        ("bearer", 401, 0.2),
        ("bearer", 403, 7.0),
        ("key", 401, 0.01),
        ("key", 403, 60.0),
    ] {
        let (web, api) = ends();
        let mut bench = Bench::new("http-bruteforce");
        let mut tries = 0;
        while !bench.alerts() {
            tries += 1;
            let request = HttpRequest {
                authorization: Some(way),
                ..bearer(&format!("guess{tries}"))
            };
            let answer = Answer {
                status,
                media: None,
            };
            let at = f64::from(tries) * pause;
            ask(&mut bench, at, (&web, &api), request, &answer);
            assert!(tries <= 10, "{way}, {pause}");
        }
        println!("{way}, one every {pause} s: {tries} tries");
    }
}

#[test]
fn forms_that_answer_with_an_error_the_page_or_a_way_back() {
    let answers = [
        Answer {
            status: 401,
            media: Some("application/json"),
        },
        Answer {
            status: 200,
            media: Some("text/html"),
        },
        Answer {
            status: 302,
            media: None,
        },
    ];
    for answer in &answers {
        let (web, app) = ends();
        let mut bench = Bench::new("http-bruteforce");
        let mut rng = Rng::new(3);
        let mut at = 0.0;
        for _ in 0..16 {
            at += 1.0 + rng.below(4000) as f64 / 1e3;
            ask(&mut bench, at, (&web, &app), form("/account/login"), answer);
        }
        bench.finish(1000.0);
        assert!(bench.alerts(), "{}: {} bits", answer.status, bench.bits());
    }
}

#[test]
fn a_loop_that_waits_is_told_from_a_retry_by_the_lengths_of_its_forms() {
    let at_a_steady_pace = |length: &dyn Fn(u64) -> u64| {
        let (web, app) = ends();
        let mut bench = Bench::new("http-bruteforce");
        for n in 0..25_u64 {
            let request = HttpRequest {
                content_length: Some(length(n)),
                ..form("/api/login")
            };
            let at = n as f64;
            ask(&mut bench, at, (&web, &app), request, &UNAUTHORIZED);
        }
        bench.finish(1000.0);
        bench.alerts()
    };
    assert!(at_a_steady_pace(&|n| 31 + n * 7 % 5), "words of a list");
    assert!(!at_a_steady_pace(&|_| 31), "a program with a stale secret");
}

#[test]
fn a_form_that_says_the_same_again_is_no_guess() {
    let said = |form_of: &dyn Fn(u64) -> String| {
        let (web, app) = ends();
        let mut bench = Bench::new("http-bruteforce");
        let mut rng = Rng::new(5);
        let mut at = 0.0;
        for n in 0..40 {
            at += 0.5 + rng.below(1500) as f64 / 1e3;
            let request = HttpRequest {
                content_length: Some(31),
                ..form("/api/login")
            };
            let said = form_of(n);
            answered(
                &mut bench,
                at,
                (&web, &app),
                request,
                &UNAUTHORIZED,
                Some(&said),
            );
        }
        bench.finish(1000.0);
        bench.alerts()
    };
    assert!(said(&|n| format!("user=svc&password=word{n:03}")));
    assert!(!said(&|_| "user=svc&password=stale".to_owned()));
}

#[test]
fn a_form_with_a_password_is_a_login_wherever_it_goes() {
    let guessed = |to_login: bool, answer: &Answer| {
        let (web, app) = ends();
        let mut bench = Bench::new("http-bruteforce");
        for n in 0..25_u32 {
            let at = f64::from(n);
            let flow = bench.open(at, (&web, &app), Protocol::Tcp, 8080);
            bench.says(at, &flow, Transaction::HttpRequest(form("/form")));
            let response = HttpResponse {
                status: answer.status,
                content_type: answer.media.map(Into::into),
                asked: Some(SecretMark::of(&n.to_le_bytes())),
                to_login,
                ..HttpResponse::default()
            };
            bench.says(at + 0.02, &flow, Transaction::HttpResponse(response));
        }
        bench.finish(1000.0);
        bench.alerts()
    };
    let page = Answer {
        status: 200,
        media: Some("text/html"),
    };
    // A redirection back to the form.
    let back = Answer {
        status: 303,
        media: None,
    };
    assert!(guessed(true, &page) && guessed(true, &UNAUTHORIZED) && guessed(true, &back));
    assert!(!guessed(false, &page));
}

#[test]
fn a_right_guess_is_said() {
    let (web, app) = ends();
    let mut bench = Bench::new("http-bruteforce");
    for n in 0..12 {
        let request = basic(&format!("pw{n}"));
        ask(
            &mut bench,
            f64::from(n),
            (&web, &app),
            request,
            &UNAUTHORIZED,
        );
    }
    let found = Answer {
        status: 200,
        media: None,
    };
    ask(&mut bench, 13.0, (&web, &app), basic("right"), &found);
    let last = bench.findings.last().unwrap();
    assert!(last.summary.contains("then was let in"), "{}", last.summary);
}

#[test]
fn honest_clients_are_left_alone() {
    let (web, app) = ends();
    let mut bench = Bench::new("http-bruteforce");
    let ok = Answer {
        status: 200,
        media: Some("text/html"),
    };
    let away = Answer {
        status: 302,
        media: None,
    };
    let mut rng = Rng::new(4);
    let mut at = 0.0;
    for n in 0..600 {
        at += rng.below(1500) as f64 / 1e3;
        // A browser is asked for a password before it sends one.
        ask(
            &mut bench,
            at,
            (&web, &app),
            get("/manager/html"),
            &UNAUTHORIZED,
        );
        ask(&mut bench, at + 0.1, (&web, &app), basic("right"), &ok);
        // A client with a stale password, as often as it likes.
        let stale = pod("10.244.1.8", "scraper");
        ask(&mut bench, at, (&stale, &app), basic("old"), &UNAUTHORIZED);
        // People log in by a front end, a few of them in vain.
        let front = pod("10.244.1.6", "front");
        ask(&mut bench, at, (&front, &app), get("/login"), &ok);
        let answer = if n % 5 == 0 { &ok } else { &away };
        ask(&mut bench, at + 0.2, (&front, &app), form("/login"), answer);
        ask(&mut bench, at + 0.3, (&front, &app), get("/home"), &ok);
        // An application whose token has run out.
        let worker = pod("10.244.1.5", "worker");
        ask(
            &mut bench,
            at,
            (&worker, &app),
            bearer("old"),
            &UNAUTHORIZED,
        );
        // One that gets a new token when the old one is refused, and is let in by it.
        let renews = pod("10.244.1.4", "renews");
        let (old, new) = (format!("token{n}"), format!("token{}", n + 1));
        ask(&mut bench, at, (&renews, &app), bearer(&old), &UNAUTHORIZED);
        ask(&mut bench, at + 0.1, (&renews, &app), bearer(&new), &ok);
        // A gateway outside the cluster: many people's tokens run out, one after the other in the morning.
        let gateway = end("203.0.113.9", IdentityKind::External, None);
        ask(&mut bench, at, (&gateway, &app), bearer("first"), &ok);
        for m in 0..9 {
            let token = format!("{n} {m}");
            let at = at + 0.2 + f64::from(m) * 0.01;
            ask(
                &mut bench,
                at,
                (&gateway, &app),
                bearer(&token),
                &UNAUTHORIZED,
            );
        }
    }
    bench.finish(1e5);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}
