//! What it must tell, and what not.

use super::super::testing::{Bench, end, nameless, pod};
use super::*;
use crate::dissect::{HttpRequest, TlsClientHello};
use crate::event::Endpoint;
use crate::flow::{Outcome, Protocol, Turn};
use crate::identity::{Source, WorkloadId};

fn get(bench: &mut Bench, secs: f64, ends: (&Endpoint, &Endpoint), path: &str) {
    call(bench, secs, ends, "GET", path);
}

fn call(
    bench: &mut Bench,
    secs: f64,
    ends: (&Endpoint, &Endpoint),
    method: &'static str,
    path: &str,
) {
    let flow = bench.open(secs, ends, Protocol::Tcp, 5000);
    let request = HttpRequest {
        method: method.into(),
        path: path.into(),
        ..HttpRequest::default()
    };
    bench.says(secs, &flow, Transaction::HttpRequest(request));
}

fn hello(bench: &mut Bench, secs: f64, client: &Endpoint, name: &str) {
    let outside = end("203.0.113.20", IdentityKind::External, None);
    let flow = bench.open(secs, (client, &outside), Protocol::Tcp, 443);
    let hello = TlsClientHello {
        sni: Some(name.into()),
        ..TlsClientHello::default()
    };
    bench.says(secs, &flow, Transaction::TlsClient(hello));
}

/// A pod that has asked another `asked` times, and a registry.
fn scene(name: &str, asked: u32) -> (Bench, Endpoint, Endpoint) {
    let mut bench = Bench::new("registry-pull");
    let (client, store) = (pod("10.244.1.7", name), pod("10.244.1.3", "db"));
    for n in 0..asked {
        bench.asks(f64::from(n) * 0.2, (&client, &store), 5432);
    }
    (bench, client, pod("10.244.1.9", "registry"))
}

#[test]
fn a_web_server_that_lists_a_registry_and_fetches_from_it() {
    let (mut bench, web, registry) = scene("web", 40);
    get(&mut bench, 60.0, (&web, &registry), "/v2/");
    assert!(bench.findings.is_empty(), "a look is none");
    get(&mut bench, 61.0, (&web, &registry), "/v2/_catalog");
    assert!(bench.alerts(), "{} bits", bench.bits());
    get(
        &mut bench,
        63.0,
        (&web, &registry),
        "/v2/prod/api/manifests/v1",
    );
    let last = bench.finish(70.0).last().unwrap();
    assert!(last.summary.contains("fetched images of prod/api"));
}

#[test]
fn manifests_of_one_repository_after_another_are_looked_for() {
    let (mut bench, web, registry) = scene("web", 40);
    // Whoever pushes an image looks first whether it is there.
    for (n, tag) in ["v1", "v2", "latest"].iter().enumerate() {
        let path = format!("/v2/prod/api/manifests/{tag}");
        call(
            &mut bench,
            60.0 + n as f64,
            (&web, &registry),
            "HEAD",
            &path,
        );
    }
    bench.finish(65.0);
    assert!(!bench.alerts(), "{} bits", bench.bits());
    for (n, name) in ["prod/web", "tools", "base/alpine"].iter().enumerate() {
        let path = format!("/v2/{name}/manifests/latest");
        call(
            &mut bench,
            70.0 + n as f64,
            (&web, &registry),
            "HEAD",
            &path,
        );
    }
    let last = bench.finish(80.0).last().unwrap();
    assert!(last.summary.contains("looked for images of"));
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn a_slow_pull_by_a_worker_and_one_from_outside() {
    let (mut bench, worker, registry) = scene("worker", 40);
    for n in 0..3 {
        let path = format!("/v2/prod/api/blobs/sha256:{n}");
        get(
            &mut bench,
            60.0 + f64::from(n) * 400.0,
            (&worker, &registry),
            &path,
        );
    }
    assert!(bench.alerts(), "{} bits", bench.bits());

    let (mut bench, worker, _) = scene("worker", 40);
    hello(&mut bench, 60.0, &worker, "registry.hub.example");
    assert!(bench.alerts(), "{} bits", bench.bits());
}

/// An encrypted connection, by a server name if there is one, to a pod that answers with so many bytes.
fn encrypted(bench: &mut Bench, ends: (&Endpoint, &Endpoint), asked: Option<&str>, bytes: u64) {
    let flow = bench.open(60.0, ends, Protocol::Tcp, 5443);
    let hello = TlsClientHello {
        sni: asked.map(Into::into),
        ..TlsClientHello::default()
    };
    bench.says(60.0, &flow, Transaction::TlsClient(hello));
    let turn = Turn {
        direction: Direction::Resp,
        bytes,
        ..Turn::new(Direction::Resp, Timestamp::from_secs(61), 1)
    };
    bench.event(61.0, EventKind::Turn { flow, turn });
}

#[test]
fn layers_of_a_registry_inside_that_speaks_tls() {
    for (client, server, asked, bytes, alerts) in [
        // By the name of who answers, or by the one that was asked for.
        ("web", "registry", None, 900_000, true),
        (
            "web",
            "store",
            Some("docker-registry.ci.svc"),
            900_000,
            true,
        ),
        // Metrics, other registries and other servers, and those who may.
        ("web", "registry", None, 40_000, false),
        ("web", "schema-registry", None, 900_000, false),
        ("web", "store", Some("store.ci.svc"), 900_000, false),
        ("ci-runner", "registry", None, 900_000, false),
    ] {
        let (mut bench, pod_at, _) = scene(client, 40);
        encrypted(
            &mut bench,
            (&pod_at, &pod("10.244.1.9", server)),
            asked,
            bytes,
        );
        let shown = (client, server, asked, bytes, bench.bits());
        assert_eq!(bench.alerts(), alerts, "{shown:?}");
    }
}

#[test]
fn nodes_pull_but_not_just_anything() {
    let node = end("10.244.1.1", IdentityKind::Node, None);
    for (paths, alerts) in [
        (
            &["prod/api", "prod/web", "john/site", "base/jre"][..],
            false,
        ),
        (&["prod/api", "library/xmrig"][..], true),
    ] {
        let (mut bench, _, registry) = scene("web", 0);
        for (path, n) in paths.iter().zip(0..) {
            let path = format!("/v2/{path}/manifests/latest");
            get(&mut bench, f64::from(n), (&node, &registry), &path);
        }
        assert_eq!(bench.alerts(), alerts, "{paths:?}: {} bits", bench.bits());
    }
}

/// Nodes that have pulled from a mirror of theirs and a public registry all day.
fn nodes_that_pull(times: u32) -> (Bench, [Endpoint; 2]) {
    let nodes = ["172.18.0.2", "172.18.0.3"].map(|ip| end(ip, IdentityKind::Node, None));
    let mut bench = Bench::new("registry-pull");
    for n in 0..times {
        let node = &nodes[n as usize % 2];
        let at = f64::from(n) * 600.0;
        hello(&mut bench, at, node, "registry.acme.example");
        hello(&mut bench, at + 60.0, node, "registry.k8s.io");
    }
    (bench.learned("registry-pull"), nodes)
}

#[test]
fn a_node_pulls_from_a_registry_that_no_node_ever_used() {
    for (times, name, alerts) in [
        (60, "registry.evil.example", true),
        // Used before, by whichever node; or public; or they have been watched pulling too seldom.
        (60, "registry.acme.example", false),
        (60, "ghcr.io", false),
        (60, "www.evil.example", false),
        (4, "registry.evil.example", false),
    ] {
        let (mut bench, [one, other]) = nodes_that_pull(times);
        hello(&mut bench, 90_000.0, &one, name);
        let shown = (times, name, bench.bits());
        assert_eq!(bench.alerts(), alerts, "{shown:?}");
        // The other node pulls the same for the next replica.
        let told = bench.findings.len();
        hello(&mut bench, 90_100.0, &other, name);
        assert_eq!(bench.findings.len(), told, "{name}");
    }
}

#[test]
fn a_node_pulls_from_a_strange_registry_in_clear() {
    let outside = end("198.51.100.7", IdentityKind::External, None);
    for (host, bits) in [("198.51.100.7:5000", 16.0), ("registry.acme.example", 0.0)] {
        let (mut bench, [node, _]) = nodes_that_pull(60);
        let flow = bench.open(90_000.0, (&node, &outside), Protocol::Tcp, 5000);
        let request = HttpRequest {
            method: "GET".into(),
            path: "/v2/tools/agent/manifests/latest".into(),
            host: Some(host.into()),
            ..HttpRequest::default()
        };
        bench.says(90_000.0, &flow, Transaction::HttpRequest(request));
        assert!(
            bench.bits() >= bits && bench.alerts() == (bits > 0.0),
            "{host}: {}",
            bench.bits()
        );
    }
}

#[test]
fn a_pod_without_a_name_is_known_by_the_range_of_pods_or_by_what_it_looks_up() {
    for (source, looks_up, alerts) in [
        (Source::Cidr, false, true),
        (Source::None, false, false),
        (Source::None, true, true),
    ] {
        let (mut bench, _, registry) = scene("web", 0);
        let (client, store) = (nameless("10.244.1.7", source), pod("10.244.1.3", "db"));
        if looks_up {
            let (dns, found) = (pod("10.244.1.2", "dns"), Some(store.ip));
            let name = "db.shop.svc.cluster.local";
            bench.dns(0.0, (&client, &dns), name, 1, found);
        }
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&client, &store), 5432);
        }
        get(&mut bench, 60.0, (&client, &registry), "/v2/_catalog");
        assert_eq!(bench.alerts(), alerts, "{source:?}: {} bits", bench.bits());
    }
}

#[test]
fn a_pod_that_somebody_started_by_hand_has_no_images_to_fetch() {
    for (label, alerts) in [("run", true), ("app", false)] {
        let mut bench = Bench::new("registry-pull");
        let workload = WorkloadId {
            namespace: "prod".into(),
            kind: "Pod".into(),
            name: "tmp".into(),
        };
        let mut pod_at = end("10.244.1.7", IdentityKind::Pod, Some(workload));
        let labels = &mut Arc::make_mut(&mut pod_at.who.identity).labels;
        labels.insert(label.into(), "tmp".into());
        let registry = pod("10.244.1.9", "registry");
        get(
            &mut bench,
            1.0,
            (&pod_at, &registry),
            "/v2/prod/api/manifests/v1",
        );
        assert_eq!(bench.alerts(), alerts, "{label}: {} bits", bench.bits());
    }
}

#[test]
fn builders_and_updaters_do_it_all_day() {
    // Asks nobody else.
    let (mut bench, kaniko, registry) = scene("kaniko", 0);
    for n in 0..50 {
        let path = format!("/v2/app{n}/manifests/latest");
        get(&mut bench, f64::from(n) * 60.0, (&kaniko, &registry), &path);
    }
    assert!(!bench.alerts(), "{} bits", bench.bits());
    // Runs tests against services before it builds, and is called a runner.
    let (mut bench, runner, registry) = scene("ci-runner", 200);
    get(
        &mut bench,
        60.0,
        (&runner, &registry),
        "/v2/base/manifests/latest",
    );
    assert!(!bench.alerts(), "{} bits", bench.bits());
    // So it is with a baseline of a few minutes in which nothing was built; of another workload that is strange.
    for (name, alerts) in [("ci-runner", false), ("web", true)] {
        let (mut bench, runner, registry) = scene(name, 0);
        let db = pod("10.244.1.3", "db");
        for n in 0..60 {
            bench.tcp(f64::from(n), (&runner, &db), 5432, Outcome::Answered, 500);
        }
        let mut bench = bench.learned("registry-pull");
        for (n, path) in (0..).zip([
            "/v2/_catalog",
            "/v2/base/manifests/latest",
            "/v2/app/manifests/latest",
        ]) {
            get(&mut bench, 60.0 + f64::from(n), (&runner, &registry), path);
        }
        assert_eq!(bench.alerts(), alerts, "{name}: {} bits", bench.bits());
    }
}

#[test]
fn other_apis_and_other_registries() {
    let (mut bench, web, api) = scene("web", 40);
    get(&mut bench, 60.0, (&web, &api), "/v2/orders/42");
    for name in ["registry.npmjs.org", "api.example.com"] {
        hello(&mut bench, 61.0, &web, name);
    }
    assert!(bench.findings.is_empty());
}
