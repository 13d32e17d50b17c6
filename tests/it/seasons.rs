//! What has a time of its own: usual then, and strange at another.

use std::time::Duration;

use spanwatch::testkit::cluster::{Cluster, START};
use spanwatch::testkit::scene::{Route, Scene};
use spanwatch::testkit::talk::redis::{self, Reply};
use spanwatch::testkit::talk::tcp::{Session, Side};
use spanwatch::time::Timestamp;

use crate::command::{Folder, spanwatch};

const INVENTORY: &str = "captures/cluster.json";
/// Nights that the backup was seen on.
const NIGHTS: u64 = 8;
/// Captures begin at nine in the morning.
const MORNING: u64 = 9;

fn at(day: u64, hour: u64, minute: u64) -> Timestamp {
    START.after(Duration::from_secs(
        (day * 24 + hour - MORNING) * 3600 + minute * 60,
    ))
}

/// An api pod looks into the cache every ten minutes.
fn work(scene: &mut Scene, cluster: &Cluster, from: Timestamp, hours: u64) {
    let route = Route::service(cluster.pod(12).host, cluster.pod(21).host, 6379);
    for n in 0..hours * 6 {
        let time = from.after(Duration::from_secs(n * 600 + 20));
        let mut session = Session::open(scene, route, time);
        redis::ask(
            scene,
            &mut session,
            &["GET", "basket:7"],
            Reply::Bulk("[4711]"),
        );
        session.close(scene, Side::Client);
    }
}

/// And sends what it has gathered to the store, in three minutes.
fn backup(scene: &mut Scene, cluster: &Cluster, from: Timestamp) {
    let route = Route::direct(cluster.pod(12).host, cluster.pod(30).host, 9090);
    let part = vec![b'x'; 2_300_000];
    for minute in 0..3 {
        let time = from.after(Duration::from_secs(minute * 60 + 5));
        let mut session = Session::open(scene, route, time).offloading(60_000);
        session.ask(scene, &part, Duration::from_millis(40), b"stored\n");
        session.close(scene, Side::Client);
    }
}

#[test]
fn a_nightly_backup_is_usual_at_night_and_strange_at_noon() {
    let (folder, cluster) = (Folder::new(), Cluster::default());
    let mut scene = Scene::new(1);
    work(&mut scene, &cluster, START, NIGHTS * 24);
    for night in 1..=NIGHTS {
        // It begins on the hour, more or less.
        backup(&mut scene, &cluster, at(night, 2, night * 7 % 20));
    }
    let learn = folder.file("learn.pcap", &scene.finish());
    let baseline = folder.path("b.baseline");
    let with = ["--inventory", INVENTORY, "--baseline", &baseline];
    let run = spanwatch(&[&["learn", &learn], &with[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let shown = spanwatch(&[
        "baseline",
        "show",
        "shop/Deployment/api",
        "--baseline",
        &baseline,
    ]);
    assert!(shown.out.contains("every 24 h"), "{}", shown.out);

    let day = |hour: u64, minute: u64| {
        let mut scene = Scene::new(2);
        work(&mut scene, &cluster, at(NIGHTS + 1, hour - 1, 0), 2);
        backup(&mut scene, &cluster, at(NIGHTS + 1, hour, minute));
        let name = format!("{hour}-{minute}.pcap");
        folder.file(&name, &scene.finish())
    };
    let shifts = |capture: &str, with: &[&str]| {
        let run = spanwatch(&[&["analyze", capture], with].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        let mut alerts = run.json();
        alerts.retain(|alert| alert["signature"] == "rate-shift");
        alerts
    };
    for (hour, minute) in [(2, 5), (2, 40)] {
        let told = shifts(&day(hour, minute), &with);
        assert!(told.is_empty(), "{hour}:{minute}: {told:?}");
    }
    let noon = day(12, 0);
    let told = shifts(&noon, &with);
    let [alert] = told.as_slice() else {
        panic!("{told:?}");
    };
    let evidence = alert["evidence"].as_array().unwrap();
    let families: Vec<&str> = evidence
        .iter()
        .map(|one| one["family"].as_str().unwrap())
        .collect();
    assert_eq!(families, ["volume", "timing"], "{alert}");
    assert_eq!(evidence[1]["expected"], "every 24 h, give or take 30 min");
    // As much as eight nights are worth: log2 of one more.
    let plan = evidence[1]["bits"].as_f64().unwrap();
    assert!((3.0..=3.6).contains(&plan), "{plan}");
    assert!(
        shifts(&noon, &with[..2]).is_empty(),
        "without a baseline nothing has a time"
    );

    let asked = ["--explain", "shop/api,:9090", "--format", "text"];
    let run = spanwatch(&[&["analyze", &noon], &with[..], &asked].concat());
    assert!(run.out.contains("visited every 24 h"), "{}", run.out);
    assert!(run.out.contains("rate-shift: alert"), "{}", run.out);
}
