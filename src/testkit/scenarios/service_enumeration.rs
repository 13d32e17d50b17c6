//! `service-enumeration`: pods ask the cluster's DNS what there is; their twins ask for a lot, too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, Pod, START, Workload};
use crate::testkit::resolver::{Resolver, reverse_name};
use crate::testkit::scene::Scene;
use crate::testkit::talk::dns::{A, Answer, Data, PTR, Question, SRV};
use crate::time::Timestamp;

const GUESSER: u8 = 11;
const GUESSES_BEGIN: u64 = 20;
const WALKER: u8 = 14;
const WALK_BEGINS: u64 = 60;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |actor, begins| {
        let begins = Duration::from_secs(begins);
        Expect::new("service-enumeration", "recon", cluster.pod(actor), begins)
    };
    Case {
        id: "service-enumeration",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod guesses names of services, one every 4 s, of which two of 20 exist. The worker looks up one service address after the other in reverse, then asks for all services at once.",
                seed: 81,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The worker looks up 40 names outside by way of the search list; some don't exist. A web pod logs the names of its visitors among the pods, in no order. An api pod asks for services, of which two optional ones aren't there, and for the SRV records of two.",
                seed: 82,
                record: benign,
                inventory: Inventory::List(visited()),
            },
        ],
        expect: vec![
            expect(GUESSER, GUESSES_BEGIN).targets(8),
            expect(WALKER, WALK_BEGINS).within(60).targets(20),
        ],
    }
}

/// Pods that visit a web pod, which logs their names.
const VISITORS: &[u8] = &[
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73,
    74, 75, 76, 77, 78, 79,
];

fn visited() -> Cluster {
    let mut cluster = Cluster::default();
    let client = Workload {
        namespace: "shop",
        kind: "Deployment",
        name: "kiosk",
    };
    cluster.deploy(
        client,
        "1",
        START.before(Duration::from_hours(60)),
        VISITORS,
    );
    cluster
}

/// Asked by a pod, from a port of its own.
fn ask(
    scene: &mut Scene,
    resolver: &mut Resolver,
    pod: &Pod,
    asked: (&str, u16),
    answer: &Answer,
    at: Timestamp,
) {
    let (name, kind) = asked;
    let question = Question {
        name,
        kind,
        edns: None,
    };
    resolver.ask(scene, pod.host, &question, answer, at);
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    const GUESSES: &[&str] = &[
        "mysql", "mongo", "vault", "redis", "admin", "jenkins", "kafka", "minio", "ldap", "gitlab",
        "postgres", "nexus", "grafana", "elastic", "consul", "etcd", "rabbitmq", "backup", "auth",
        "billing",
    ];
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);
    let guesser = cluster.pod(GUESSER);
    for (n, guess) in (0..).zip(GUESSES) {
        let known = cluster
            .services
            .iter()
            .find(|service| service.name == *guess);
        let answer = known.map_or(Answer::NoSuchName, |service| {
            Answer::Records(5, vec![Data::A(service.ip)])
        });
        let name = format!("{guess}.shop.svc.cluster.local");
        let now = at(GUESSES_BEGIN + n * 4).after(scene.rng.about(Duration::from_millis(200)));
        resolver.both(&mut scene, guesser, &name, &answer, now);
    }
    let walker = cluster.pod(WALKER);
    let mut now = at(WALK_BEGINS);
    for last in 1..60 {
        let ip = Ipv4Addr::new(10, 96, 0, last);
        let known = cluster.services.iter().find(|service| service.ip == ip);
        let answer = known.map_or(Answer::NoSuchName, |service| {
            let name = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
            Answer::Records(5, vec![Data::Ptr(name)])
        });
        let name = reverse_name(IpAddr::V4(ip));
        ask(
            &mut scene,
            &mut resolver,
            walker,
            (&name, PTR),
            &answer,
            now,
        );
        now = now.after(scene.rng.about(Duration::from_millis(150)));
    }
    let everything = ("any.any.svc.cluster.local", SRV);
    ask(
        &mut scene,
        &mut resolver,
        walker,
        everything,
        &Answer::NoSuchName,
        now,
    );
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = visited();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut resolver = Resolver::new(&cluster);
    let (worker, web, api) = (cluster.pod(14), cluster.pod(10), cluster.pod(12));
    for n in 0..40 {
        let now = at(10 + n * 4);
        let name = format!("shard{n}.content.example");
        let ip = Ipv4Addr::new(198, 51, 100, 60 + n as u8);
        if n % 6 == 4 {
            for search in [
                ".shop.svc.cluster.local",
                ".svc.cluster.local",
                ".cluster.local",
                "",
            ] {
                let full = format!("{name}{search}");
                ask(
                    &mut scene,
                    &mut resolver,
                    worker,
                    (&full, A),
                    &Answer::NoSuchName,
                    now,
                );
            }
        } else {
            resolver.outside(&mut scene, worker, &name, &[ip], now);
        }
    }
    for n in 0..VISITORS.len() {
        // Visitors come in no order.
        let visitor = cluster.pod(VISITORS[n * 7 % VISITORS.len()]);
        let name = reverse_name(visitor.host.ip);
        let now = at(15 + n as u64 * 5);
        ask(
            &mut scene,
            &mut resolver,
            web,
            (&name, PTR),
            &Answer::NoSuchName,
            now,
        );
    }
    for (n, service) in (0..).zip(&cluster.services) {
        resolver.service(&mut scene, api, service, at(30 + n));
    }
    for (n, missing) in (0..).zip(["tracing", "featureflags"]) {
        let name = format!("{missing}.shop.svc.cluster.local");
        for round in 0..6 {
            let now = at(40 + n + round * 20);
            resolver.both(&mut scene, api, &name, &Answer::NoSuchName, now);
        }
    }
    for (n, service) in (0..).zip(["redis", "postgres"]) {
        let name = format!("_{service}._tcp.{service}.shop.svc.cluster.local");
        let target = format!("{service}-0.{service}.shop.svc.cluster.local");
        let answer = Answer::Records(5, vec![Data::Srv(0, 100, 6379, target)]);
        ask(
            &mut scene,
            &mut resolver,
            api,
            (&name, SRV),
            &answer,
            at(50 + n),
        );
    }
    scene.finish()
}
