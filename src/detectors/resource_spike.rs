//! `resource-spike`: a pod uses the network far more than its workload ever does, minute after minute, for strangers.
//!
//! Whoever works for somebody else (a proxy for sale, a crawler, a flood) must open connections, send packets and move bytes
//! that the workload never needed, most of them to places where it has no business. What goes to usual peers alone is
//! `rate-shift`'s. See [`Spikes`] for when it is far more.

use super::DetectorSpec;
use super::spikes::{Scope, Spikes, Watched};
use crate::event::EventKinds;
use crate::features::Rate;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: WATCHED.id,
    sees: EventKinds::FLOW_OPENED
        .and(EventKinds::TURN)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Spikes::new(
            WATCHED,
            thresholds,
            signature.alert_bits,
        )))
    },
};

const WATCHED: Watched = Watched {
    id: "resource-spike",
    scope: Scope::Whole,
    rates: &[
        (Rate::Hosts, "called far more hosts"),
        (Rate::Flows, "opened far more connections"),
        (Rate::Packets, "exchanged far more packets"),
        (Rate::BytesOut, "sent far more bytes outside"),
        (Rate::BytesInside, "sent far more bytes inside"),
        (Rate::BytesBack, "fetched far more bytes from outside"),
    ],
    whom: "most of it with peers that the workload never had",
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Bench, end, pod};
    use crate::event::{Endpoint, EventKind};
    use crate::flow::{Direction, Outcome, Protocol, Turn};
    use crate::identity::IdentityKind;
    use crate::time::Timestamp;

    fn api() -> Endpoint {
        pod("10.244.1.7", "api")
    }

    fn site(n: u32) -> Endpoint {
        let [_, _, high, low] = n.to_be_bytes();
        end(&format!("203.0.{high}.{low}"), IdentityKind::External, None)
    }

    /// Calls to the queue that the pod always had, and to so many sites that it hadn't, a minute.
    fn minutes(bench: &mut Bench, from: u32, minutes: u32, usual: u32, sites: u32, visits: u32) {
        let queue = pod("10.244.1.3", "queue");
        for minute in from..from + minutes {
            let at =
                |n: u32, of: u32| f64::from(minute) * 60.0 + f64::from(n) * 59.0 / f64::from(of);
            for n in 0..usual {
                bench.tcp(at(n, usual), (&api(), &queue), 80, Outcome::Answered, 300);
            }
            for n in 0..sites {
                let ends = (&api(), &site(minute * sites + n));
                bench.tcp(at(n, sites), ends, 443, Outcome::Answered, 300);
            }
            for n in 0..visits {
                bench.tcp(
                    at(n, visits),
                    (&site(9999), &api()),
                    8080,
                    Outcome::Answered,
                    300,
                );
            }
        }
        bench.finish(f64::from(from + minutes) * 60.0);
    }

    fn learned() -> Bench {
        let mut bench = Bench::new("resource-spike");
        minutes(&mut bench, 0, 60, 10, 0, 10);
        bench.learned("resource-spike")
    }

    #[test]
    fn many_strangers_for_minutes_are_told() {
        let mut bench = learned();
        minutes(&mut bench, 100, 3, 10, 200, 10);
        assert!(bench.alerts(), "{}", bench.bits());
        let features: Vec<_> = bench
            .findings
            .iter()
            .map(|one| one.evidence[0].feature)
            .collect();
        assert!(features.contains(&"flow.hosts_per_min"), "{features:?}");
    }

    #[test]
    fn a_flood_over_one_flow_is_told_while_it_lasts() {
        let mut bench = learned();
        let flow = bench.begin(6000.0, (&api(), &site(1)), Protocol::Udp, 9999);
        for n in 0..300_u32 {
            let secs = 6000.0 + f64::from(n);
            let time = Timestamp::from_secs_f64(secs);
            let turn = Turn {
                direction: Direction::Orig,
                start: time,
                end: time,
                packets: 3000,
                bytes: 90_000,
                smallest: 30,
                largest: 30,
            };
            let flow = Arc::clone(&flow);
            bench.event(secs, EventKind::Turn { flow, turn });
        }
        assert!(bench.alerts(), "{}", bench.bits());
        assert_eq!(
            bench.findings[0].evidence[0].feature,
            "flow.packets_per_min"
        );
    }

    #[test]
    fn bursts_usual_peers_demand_and_bare_captures_are_left_alone() {
        for (length, usual, sites, visits) in [
            (1, 10, 400, 10),  // a burst
            (6, 4000, 10, 10), // what rate-shift is for
            (6, 10, 20, 10),   // a few new places
            (6, 10, 400, 400), // visitors for whom it is done
        ] {
            let mut bench = learned();
            minutes(&mut bench, 100, length, usual, sites, visits);
            assert!(
                bench.findings.is_empty(),
                "{length} {usual} {sites} {visits}"
            );
        }
        let mut bare = Bench::new("resource-spike");
        minutes(&mut bare, 100, 6, 10, 400, 10);
        assert!(bare.findings.is_empty());
    }
}
