//! What pods do all day, and by which doors.

use std::time::Duration;

use super::traffic::{ORDINARY, chat, script, spread};
use super::{Place, Pod, Use};
use crate::flow::Direction;
use crate::testkit::rng::Rng;

use Direction::{Orig, Resp};

/// Databases, by their ports and as what they are recognised.
pub(super) const DATABASES: [(u16, &str); 4] = [
    (5432, "postgresql"),
    (3306, "mysql"),
    (6379, "redis"),
    (27017, "mongodb"),
];

/// By which door a pod is asked: mostly the web's, with TLS or without, or by something of its own.
fn door(rng: &mut Rng) -> Place {
    let place = match rng.below(100) {
        0..40 => Place::served(rng.pick(&[80, 3000, 8000, 8080, 8081]), Some("http")),
        40..60 => Place::served(rng.pick(&[443, 8443, 9443]), Some("tls")),
        60..75 => Place::served(rng.pick(&[50_051, 9090]), Some("http2")),
        _ => Place::served(rng.within(5000..20_000) as u16, None),
    };
    Place {
        callers: rng.below(5),
        ..place
    }
}

/// Whom it asks then.
fn back(rng: &mut Rng, kind: u64, door: &Place) -> Place {
    let share = rng.below(100);
    match kind {
        // A gateway speaks on as it is spoken to, or without TLS.
        1 if share < 40 => Place::called(door.port, door.app),
        1 if share < 70 => Place::called(rng.pick(&[8080, 9000]), door.app.and(Some("http"))),
        1 if share < 85 => Place::called(rng.within(5000..20_000) as u16, None),
        // A store of objects: in the cluster, or outside.
        4 if share < 40 => Place::called(9000, Some("http")),
        _ if share < 15 => Place {
            outside: true,
            ..Place::called(443, Some("tls"))
        },
        _ if share < 25 => Place::called(8080, Some("http")),
        _ => {
            let (port, app) = rng.pick(&DATABASES);
            // Some speak TLS from the first byte.
            Place::called(port, (!rng.chance(15)).then_some(app))
        }
    }
}

/// What pods do all day.
pub(super) fn business(rng: &mut Rng, kind: u64) -> Pod {
    let mut pod = Pod::default();
    let door = door(rng);
    let back = back(rng, kind, &door);
    let mut line = |place, said| pod.line(place, said);
    let ms = Duration::from_millis;
    match kind {
        // Asked, it asks a database, and answers from what it got.
        0 | 3 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            let growth = 0.3 + rng.below(300) as f64 / 100.0;
            for _ in 0..rng.within(10..60) {
                asked.push((now, Orig, spread(rng, (150, 900))));
                now += rng.about(ms(2));
                let mut got = 0;
                for _ in 0..rng.within(1..4) {
                    asks.push((now, Orig, spread(rng, (50, 300))));
                    now += rng.about(ms(2));
                    let rows = spread(rng, (80, 9000));
                    got += rows;
                    asks.push((now, Resp, rows));
                    now += rng.about(ms(1));
                }
                asked.push((now, Resp, 180 + (got as f64 * growth) as u64));
                now += rng.pause(ms(900));
            }
            line(door, asked);
            line(back, asks);
        }
        // A gateway of services: what it asks is made of what it is asked.
        1 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            for _ in 0..rng.within(10..60) {
                let question = spread(rng, (60, 2000));
                asked.push((now, Orig, question));
                now += rng.about(ms(1));
                let share = 0.2 + rng.below(250) as f64 / 100.0;
                asks.push((now, Orig, 40 + (question as f64 * share) as u64));
                now += rng.about(ms(5));
                let answer = spread(rng, (60, 8000));
                asks.push((now, Resp, answer));
                now += rng.about(ms(1));
                let share = 0.1 + rng.below(400) as f64 / 100.0;
                asked.push((now, Resp, 40 + (answer as f64 * share) as u64));
                now += rng.pause(ms(700));
            }
            line(door, asked);
            line(back, asks);
        }
        // It is probed and it probes, always alike.
        2 => {
            let (period, mine) = (rng.within(1..10), rng.within(1..10));
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let sizes = (rng.within(60..200), rng.within(80..300));
            let twins = rng.chance(50);
            let ours = if twins {
                sizes
            } else {
                (rng.within(60..200), rng.within(80..300))
            };
            for n in 0..40 {
                let (at, my) = (
                    Duration::from_secs(n * period),
                    Duration::from_secs(n * mine),
                );
                asked.extend([(at, Orig, sizes.0), (at + ms(1), Resp, sizes.1)]);
                asks.extend([(my, Orig, ours.0), (my + ms(1), Resp, ours.1)]);
            }
            line(door, asked);
            line(back, asks);
        }
        // It takes files in and puts them into a store, whole.
        4 => {
            let (mut asked, mut asks) = (Vec::new(), Vec::new());
            let mut now = Duration::from_secs(1);
            for _ in 0..rng.within(3..20) {
                let file = spread(rng, (2000, 900_000));
                asked.push((now, Orig, file + spread(rng, (200, 900))));
                now += rng.about(ms(20));
                asks.push((now, Orig, file + spread(rng, (300, 900))));
                now += rng.about(ms(20));
                asks.push((now, Resp, spread(rng, (180, 400))));
                now += rng.about(ms(1));
                asked.push((now, Resp, spread(rng, (120, 900))));
                now += rng.pause(ms(2500));
            }
            line(door, asked);
            line(back, asks);
        }
        // Somebody types in it, while it talks to a database and is asked by others.
        _ => {
            let mut typed = Vec::new();
            let mut now = Duration::from_secs(1);
            for (pause, direction, bytes) in script(rng, Use::Typing) {
                now += pause;
                typed.push((now, direction, bytes));
            }
            line(Place::served(22, Some("ssh")), typed);
            for place in [back, door] {
                let mut said = Vec::new();
                chat(rng, &mut said, Duration::from_secs(1), 40, ORDINARY);
                line(place, said);
            }
        }
    }
    pod
}
