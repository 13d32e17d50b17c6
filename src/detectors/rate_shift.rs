//! `rate-shift`: a pod does far more of what its workload always did, minute after minute.
//!
//! Only what goes to peers that the workload knows is counted, for whatever goes to strangers is others' business. See
//! [`Spikes`] for when that is far more.

use super::DetectorSpec;
use super::spikes::{Scope, Spikes, Watched};
use crate::event::EventKinds;
use crate::features::Rate;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: WATCHED.id,
    sees: EventKinds::FLOW_OPENED
        .and(EventKinds::DNS)
        .and(EventKinds::HTTP)
        .and(EventKinds::DATABASE)
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

/// Failures, look-ups and ports have detectors of their own.
const WATCHED: Watched = Watched {
    id: "rate-shift",
    scope: Scope::Usual,
    rates: &[
        (Rate::BytesOut, "sent far more bytes outside"),
        (Rate::BytesInside, "sent far more bytes to servers inside"),
        (Rate::BytesBack, "fetched far more bytes from outside"),
        (Rate::Flows, "opened far more connections"),
        (Rate::Packets, "exchanged far more packets with its servers"),
        (Rate::Requests, "made far more HTTP requests"),
        (Rate::Statements, "sent far more statements to databases"),
    ],
    whom: "to peers that the workload always had",
};

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use crate::flow::Outcome;
    use crate::identity::IdentityKind;

    /// An hour in which a pod calls a queue ten times a minute, and is called as often.
    fn learned() -> Bench {
        let mut bench = Bench::new("rate-shift");
        calls(&mut bench, 0, 60, 10, 10);
        bench.learned("rate-shift")
    }

    /// So many calls and visits a minute, for so many minutes.
    fn calls(bench: &mut Bench, from: u32, minutes: u32, calls: u32, visits: u32) {
        let (api, queue) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "queue"));
        let visitor = end("203.0.113.5", IdentityKind::External, None);
        for minute in from..from + minutes {
            for n in 0..calls.max(visits) {
                let at =
                    f64::from(minute) * 60.0 + f64::from(n) * 59.0 / f64::from(calls.max(visits));
                if n < calls {
                    bench.tcp(at, (&api, &queue), 80, Outcome::Answered, 300);
                }
                if n < visits {
                    bench.tcp(at, (&visitor, &api), 8080, Outcome::Answered, 300);
                }
            }
        }
        bench.finish(f64::from(from + minutes) * 60.0);
    }

    #[test]
    fn far_more_for_minutes_is_told() {
        let mut bench = learned();
        calls(&mut bench, 100, 4, 1000, 10);
        assert!(bench.alerts(), "{}", bench.bits());
        assert_eq!(bench.findings[0].evidence[0].feature, "flow.count_per_min");
    }

    #[test]
    fn bursts_demand_drifts_and_bare_captures_are_left_alone() {
        for (minutes, rate, visits) in [
            (1, 1000, 10),   // a burst
            (2, 1000, 10),   // a longer one
            (6, 40, 10),     // a drift
            (6, 1000, 1000), // visitors
            (6, 10, 1000),   // who cause nothing
        ] {
            let mut bench = learned();
            calls(&mut bench, 100, minutes, rate, visits);
            assert!(bench.findings.is_empty(), "{minutes} {rate} {visits}");
        }
        let mut bare = Bench::new("rate-shift");
        calls(&mut bare, 100, 6, 1000, 10);
        assert!(bare.findings.is_empty());
        // Minutes that don't follow one another.
        let mut bench = learned();
        for start in [100, 110, 120, 130] {
            calls(&mut bench, start, 1, 1000, 10);
        }
        assert!(bench.findings.is_empty());
    }
}
