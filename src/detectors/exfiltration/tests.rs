//! What it must tell, and what not.

mod ftp;

use super::super::testing::{Bench, end, nameless, pod, record};
use super::*;
use crate::dissect::{HttpRequest, TlsClientHello};
use crate::flow::Outcome;
use crate::identity::{Journal, Source, WorkloadId};

/// A pod that has asked its database `asked` times, then exchanges `(up, down)` bytes with a host outside, in as many
/// portions as there are, `pause` seconds apart.
fn sent(asked: u32, portions: &[(u64, u64)], pause: f64) -> Bench {
    let mut bench = Bench::new("exfiltration");
    let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
    for n in 0..asked {
        bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
    }
    upload(&mut bench, None, portions, pause);
    bench
}

/// The same pod sends, to a host by its name if it has one.
fn upload(bench: &mut Bench, name: Option<&str>, portions: &[(u64, u64)], pause: f64) {
    let api = pod("10.244.1.7", "api");
    let outside = end("203.0.113.20", IdentityKind::External, None);
    if let Some(name) = name {
        let resolver = pod("10.244.1.2", "dns");
        bench.dns(
            99.0,
            (&api, &resolver),
            name,
            1,
            Some("203.0.113.20".parse().unwrap()),
        );
    }
    let flow = bench.open(100.0, (&api, &outside), Protocol::Tcp, 443);
    if let Some(name) = name {
        let hello = TlsClientHello {
            sni: Some(name.into()),
            ..TlsClientHello::default()
        };
        bench.says(100.0, &flow, Transaction::TlsClient(hello));
        turn(bench, 100.0, &flow, Direction::Orig, 517);
        turn(bench, 100.0, &flow, Direction::Resp, 4_000);
    }
    let mut at = 100.0;
    for &(up, down) in portions {
        for (direction, bytes) in [(Direction::Orig, up), (Direction::Resp, down)] {
            turn(bench, at, &flow, direction, bytes);
            at += 0.1;
        }
        at += pause;
    }
    bench.finish(at);
}

fn turn(bench: &mut Bench, at: f64, flow: &Arc<FlowInfo>, direction: Direction, bytes: u64) {
    let time = Timestamp::from_secs_f64(at);
    let turn = Turn {
        direction,
        start: time,
        end: time,
        packets: 10,
        bytes,
        smallest: 100,
        largest: 1400,
    };
    let flow = Arc::clone(flow);
    bench.event(at, EventKind::Turn { flow, turn });
}

/// Somebody asks the pod by HTTP, and brings so many bytes.
fn visited(bench: &mut Bench, times: u32, path: &str, bytes: u64) {
    let (api, web) = (pod("10.244.1.7", "api"), pod("10.244.1.9", "web"));
    for n in 0..times {
        let at = 50.0 + f64::from(n);
        let flow = bench.open(at, (&web, &api), Protocol::Tcp, 8080);
        let request = HttpRequest {
            method: "POST".into(),
            path: path.into(),
            ..HttpRequest::default()
        };
        bench.says(at, &flow, Transaction::HttpRequest(request));
        turn(bench, at, &flow, Direction::Orig, bytes);
    }
}

#[test]
fn stores_are_for_backups_and_for_loot() {
    const STORE: &str = "bucket.s3.eu-west-1.amazonaws.com";
    let two = [(20_000_000, 900); 2];
    for (name, visits, path, bytes, alerts) in [
        // A worker's first backup, one that is watched by a monitor, and what visitors brought.
        (STORE, 0, "/", 0, false),
        (STORE, 40, "/healthz", 100, false),
        (STORE, 40, "/upload", 900_000, false),
        // One that serves pages, and has nothing to bring there.
        (STORE, 8, "/orders", 300, true),
        // Another place, by whomever.
        ("files.drop-box.example", 0, "/", 0, true),
        ("files.drop-box.example", 40, "/upload", 900_000, true),
    ] {
        let mut bench = Bench::new("exfiltration");
        let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
        }
        visited(&mut bench, visits, path, bytes);
        upload(&mut bench, Some(name), &two, 30.0);
        assert_eq!(bench.alerts(), alerts, "{name} {visits} {path}");
    }
}

/// A day and more of a worker that asks its database and copies to its bucket.
fn learned_with(bucket: &str, hours: u32) -> Bench {
    let mut bench = Bench::new("exfiltration");
    let (api, db) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
    let (resolver, store) = (
        pod("10.244.1.2", "dns"),
        end("203.0.113.20", IdentityKind::External, None),
    );
    for n in 0..hours * 10 {
        let at = f64::from(n) * 360.0;
        bench.tcp(at, (&api, &db), 5432, Outcome::Answered, 500);
        let told = Some("203.0.113.20".parse().unwrap());
        bench.dns(at + 1.0, (&api, &resolver), bucket, 1, told);
        bench.tcp(at + 2.0, (&api, &store), 443, Outcome::Answered, 500);
    }
    bench.learned("exfiltration")
}

#[test]
fn the_bucket_of_another_account_once_a_day_was_learned() {
    const OWN: &str = "acme-backup.s3.eu-west-1.amazonaws.com";
    let two = [(20_000_000, 900); 2];
    for (hours, name, alerts) in [
        (30, "loot.s3.eu-west-1.amazonaws.com", true),
        (30, "loot.blob.core.windows.net", true),
        (30, OWN, false),
        // Too young to know all its buckets.
        (4, "exports.s3.eu-west-1.amazonaws.com", false),
    ] {
        let mut bench = learned_with(OWN, hours);
        upload(&mut bench, Some(name), &two, 30.0);
        assert_eq!(
            bench.alerts(),
            alerts,
            "{hours} {name}: {} bits",
            bench.bits()
        );
    }
}

#[test]
fn a_stores_name_for_an_address_that_no_look_up_led_to_excuses_nobody() {
    let mut bench = Bench::new("exfiltration");
    let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
    let resolver = pod("10.244.1.2", "dns");
    bench.dns(
        1.0,
        (&api, &resolver),
        "s3.amazonaws.com",
        1,
        Some("203.0.113.99".parse().unwrap()),
    );
    for n in 0..40 {
        bench.asks(2.0 + f64::from(n) * 0.2, (&api, &store), 5432);
    }
    let outside = end("203.0.113.20", IdentityKind::External, None);
    let flow = bench.open(100.0, (&api, &outside), Protocol::Tcp, 443);
    let hello = TlsClientHello {
        sni: Some("s3.amazonaws.com".into()),
        ..TlsClientHello::default()
    };
    bench.says(100.0, &flow, Transaction::TlsClient(hello));
    turn(&mut bench, 100.0, &flow, Direction::Orig, 517);
    turn(&mut bench, 100.0, &flow, Direction::Resp, 4_000);
    turn(&mut bench, 100.1, &flow, Direction::Orig, 20_000_000);
    turn(&mut bench, 100.2, &flow, Direction::Resp, 900);
    bench.finish(200.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn one_large_upload_and_many_small_ones() {
    let bench = sent(40, &[(2_000_000, 900)], 0.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let drip = vec![(20_000, 300); 200];
    let bench = sent(40, &drip, 60.0);
    assert!(bench.alerts(), "{} bits over three hours", bench.bits());
}

#[test]
fn a_pod_that_says_little_must_send_the_more() {
    for (asked, bytes, alerts) in [
        (20, 600_000, true),
        (12, 600_000, false),
        (6, 300_000, false),
        (6, 2_000_000, true),
        (2, 2_000_000, false),
    ] {
        let bench = sent(asked, &[(bytes, 900)], 0.0);
        assert_eq!(bench.alerts(), alerts, "{asked} {bytes}: {}", bench.bits());
    }
}

#[test]
fn downloads_small_talk_and_newborn_pods() {
    for (asked, portions) in [
        // A download.
        (40, vec![(2_000, 5_000_000)]),
        // An exchange of messages.
        (40, vec![(300_000, 200_000)]),
        // Little.
        (40, vec![(30_000, 300)]),
        // A backup job, or a log shipper, that does nothing else from its first second.
        (0, vec![(5_000_000, 900)]),
    ] {
        let bench = sent(asked, &portions, 0.0);
        assert!(bench.findings.is_empty(), "{asked} {portions:?}");
    }
}

/// A connection that brings a file to an outside host, begun at a time by a pod that has done nothing else.
fn file(bench: &mut Bench, at: f64, pod: &Endpoint, app: Option<&'static str>, bytes: [u64; 2]) {
    let outside = end("203.0.113.20", IdentityKind::External, None);
    let flow = bench.open(at, (pod, &outside), Protocol::Tcp, 9000);
    turn(bench, at + 0.1, &flow, Direction::Orig, bytes[0]);
    if bytes[1] > 0 {
        turn(bench, at + 0.2, &flow, Direction::Resp, bytes[1]);
    }
    let record = FlowRecord {
        payload_bytes: bytes,
        app,
        ..record(at + 0.5, 0)
    };
    let kind = EventKind::FlowEnded {
        flow,
        record: Box::new(record),
    };
    bench.event(at + 0.5, kind);
    bench.finish(at + 10.0);
}

#[test]
fn a_file_sent_as_it_is_to_a_bare_address_by_a_pod_that_was_born_for_it() {
    let resolver = pod("10.244.1.2", "dns");
    for (app, looked_up, bytes, alerts) in [
        (None, false, [1_500_000, 0], true),
        // Some protocol, a name, an answer, or little: so do backups, and those who ship logs.
        (Some("tls"), false, [1_500_000, 0], false),
        (None, true, [1_500_000, 0], false),
        (None, false, [1_500_000, 90], false),
        (None, false, [300_000, 0], false),
    ] {
        let mut bench = Bench::new("exfiltration");
        let job = pod("10.244.1.7", "job");
        if looked_up {
            let found = Some("203.0.113.20".parse().unwrap());
            bench.dns(0.5, (&job, &resolver), "graphite.example", 1, found);
        }
        file(&mut bench, 1.0, &job, app, bytes);
        let shown = (app, looked_up, bytes, bench.bits());
        assert_eq!(bench.alerts(), alerts, "{shown:?}");
    }
}

#[test]
fn a_file_that_goes_where_it_always_has() {
    let mut bench = Bench::new("exfiltration");
    let (job, outside) = (
        pod("10.244.1.7", "job"),
        end("203.0.113.20", IdentityKind::External, None),
    );
    for n in 0..20 {
        let at = f64::from(n) * 60.0;
        bench.tcp(at, (&job, &outside), 9000, Outcome::Answered, 500);
    }
    let mut bench = bench.learned("exfiltration");
    file(&mut bench, 2000.0, &job, None, [1_500_000, 0]);
    assert!(bench.findings.is_empty(), "{} bits", bench.bits());
}

/// A pod that is no controller's, with a label.
fn alone(label: &str, value: &str) -> Endpoint {
    let workload = WorkloadId {
        namespace: "prod".into(),
        kind: "Pod".into(),
        name: "tmp".into(),
    };
    let mut end = end("10.244.1.7", IdentityKind::Pod, Some(workload));
    let labels = &mut Arc::make_mut(&mut end.who.identity).labels;
    labels.insert(label.into(), value.into());
    end
}

#[test]
fn an_upload_by_a_pod_that_somebody_started_by_hand() {
    let job = pod("10.244.1.7", "backup");
    for (name, pod, bytes, alerts) in [
        ("kubectl run", alone("run", "tmp"), [1_500_000, 900], true),
        // It fetches, sends little, or somebody wrote down what it is for.
        ("kubectl run", alone("run", "tmp"), [900, 1_500_000], false),
        ("kubectl run", alone("run", "tmp"), [60_000, 900], false),
        ("a label", alone("app", "tmp"), [1_500_000, 900], false),
        ("another", alone("run", "other"), [1_500_000, 900], false),
        ("a controller", job, [1_500_000, 900], false),
    ] {
        let mut bench = Bench::new("exfiltration");
        file(&mut bench, 1.0, &pod, Some("tls"), bytes);
        assert_eq!(bench.alerts(), alerts, "{name} {bytes:?}: {}", bench.bits());
    }
}

#[test]
fn who_has_always_sent_there_little_by_little_sends_measurements() {
    for (begins, portion, alerts) in [
        (2.0, 20_000, false),
        // Begun later, or all at once.
        (60.0, 20_000, true),
        (2.0, 600_000, true),
    ] {
        let mut bench = Bench::new("exfiltration");
        let (agent, store) = (pod("10.244.1.7", "agent"), pod("10.244.1.3", "api"));
        let first = bench.open(0.0, (&agent, &store), Protocol::Tcp, 8080);
        bench.event(0.0, EventKind::FlowOpened(first));
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.04, (&agent, &store), 8080);
        }
        let outside = end("203.0.113.20", IdentityKind::External, None);
        let times = 1_200_000 / portion;
        for n in 0..times {
            let at = begins + n as f64;
            let flow = bench.open(at, (&agent, &outside), Protocol::Tcp, 443);
            turn(&mut bench, at, &flow, Direction::Orig, portion);
            turn(&mut bench, at + 0.1, &flow, Direction::Resp, 100);
        }
        bench.finish(200.0);
        assert_eq!(
            bench.alerts(),
            alerts,
            "{begins} {portion}: {}",
            bench.bits()
        );
    }
}

#[test]
fn builders_send_what_they_built() {
    for (name, alerts) in [("ci-runner", false), ("gitlab", false), ("web", true)] {
        let mut bench = Bench::new("exfiltration");
        let (builder, store) = (pod("10.244.1.7", name), pod("10.244.1.3", "db"));
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&builder, &store), 5432);
        }
        file(&mut bench, 60.0, &builder, Some("tls"), [2_000_000, 900]);
        assert_eq!(bench.alerts(), alerts, "{name}: {} bits", bench.bits());
    }
}

#[test]
fn a_drip_over_many_connections_isnt_hidden_by_the_certificates_that_come_back() {
    for (up, down, alerts) in [(4_000, 600, true), (900, 700, false), (700, 9_000, false)] {
        let mut bench = Bench::new("exfiltration");
        let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
        }
        let outside = end("203.0.113.20", IdentityKind::External, None);
        for n in 0..300 {
            let at = 100.0 + f64::from(n) * 60.0;
            let flow = bench.open(at, (&api, &outside), Protocol::Tcp, 443);
            let hello = Transaction::TlsClient(TlsClientHello::default());
            bench.says(at, &flow, hello);
            for (direction, bytes) in [
                (Direction::Orig, 517),
                (Direction::Resp, 4_500),
                (Direction::Orig, up),
                (Direction::Resp, down),
            ] {
                turn(&mut bench, at, &flow, direction, bytes);
            }
        }
        bench.finish(20_000.0);
        assert_eq!(bench.alerts(), alerts, "{up} up, {down} down");
    }
}

#[test]
fn a_private_address_that_is_none_of_the_clusters_is_outside() {
    for (source, alerts) in [(Source::None, true), (Source::Cidr, false)] {
        let mut bench = Bench::new("exfiltration");
        let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
        }
        let mut box_of_his = end("192.168.7.9", IdentityKind::Unknown, None);
        box_of_his.who.source = source;
        let flow = bench.open(100.0, (&api, &box_of_his), Protocol::Tcp, 9000);
        turn(&mut bench, 100.1, &flow, Direction::Orig, 2_000_000);
        bench.finish(200.0);
        assert_eq!(bench.alerts(), alerts, "{source:?}");
    }
}

#[test]
fn an_upload_where_no_inventory_was_given() {
    let known = || {
        let mut journal = Journal::default();
        let range = "10.244.0.0/16".parse().unwrap();
        journal.networks_mut().add_pods(range);
        journal
    };
    let outside = end("203.0.113.20", IdentityKind::External, None);
    let office = nameless("192.168.7.9", Source::None);
    for (name, journal, source, to, alerts) in [
        // Nothing is known: it may be a pod, and only what is public is outside.
        ("blank", Journal::default(), Source::None, &outside, true),
        ("blank", Journal::default(), Source::None, &office, false),
        // The pods' range is known.
        ("range", known(), Source::Cidr, &outside, true),
        ("range", known(), Source::Cidr, &office, true),
        // So whoever isn't in it is no pod.
        ("range", known(), Source::None, &outside, false),
    ] {
        let mut bench = Bench::new("exfiltration").knowing(journal);
        let (api, store) = (
            nameless("10.244.1.7", source),
            nameless("10.244.1.3", source),
        );
        for n in 0..40 {
            bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
        }
        let flow = bench.open(100.0, (&api, to), Protocol::Tcp, 9000);
        turn(&mut bench, 100.1, &flow, Direction::Orig, 2_000_000);
        bench.finish(200.0);
        assert_eq!(bench.alerts(), alerts, "{name} {source:?} {}", to.ip);
    }
}

#[test]
fn a_bare_address_by_a_pod_that_goes_by_names_weighs_more() {
    // Somebody who asks for no names may know no other way.
    for (asks, alerts) in [(true, true), (false, false)] {
        let mut bench = Bench::new("exfiltration");
        let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        let resolver = pod("10.244.1.2", "dns");
        if asks {
            let found = Some("203.0.113.99".parse().unwrap());
            bench.dns(0.5, (&api, &resolver), "partner.example", 1, found);
        }
        for n in 0..4 {
            bench.asks(1.0 + f64::from(n) * 0.2, (&api, &store), 5432);
        }
        let outside = end("203.0.113.20", IdentityKind::External, None);
        let flow = bench.open(100.0, (&api, &outside), Protocol::Tcp, 9000);
        turn(&mut bench, 100.1, &flow, Direction::Orig, 400_000);
        bench.finish(200.0);
        assert_eq!(bench.alerts(), alerts, "{asks}: {} bits", bench.bits());
    }
}
