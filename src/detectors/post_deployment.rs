//! `post-deployment`: what a young release calls outside that its workload never called.
//!
//! An implanted image must reach somebody to be of use, and its first call comes right after it is rolled out. How
//! surprising a place is follows from the workload's history, as in `novel-peer`, which tells all other news; what is new
//! is told once for all pods of the release, with its name. A place that was called by its bare address, by a client that
//! finds others by their names, makes it graver.

use super::DetectorSpec;
use super::novel_peer::NovelPeer;
use crate::event::EventKinds;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "post-deployment",
    sees: EventKinds::FLOW_OUTCOME,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(NovelPeer::new(
            SPEC.id,
            thresholds,
            signature.alert_bits,
        )))
    },
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Bench, end, pod};
    use crate::event::Endpoint;
    use crate::flow::Outcome;
    use crate::identity::IdentityKind;

    fn released(ip: &str, revision: &str) -> Endpoint {
        let mut pod = pod(ip, "api");
        Arc::make_mut(&mut pod.who.identity).revision = Some(revision.into());
        pod
    }

    /// Release v1 called the database and one site for 100 minutes; then these calls are made, by whom and whereto.
    fn run(calls: &[(f64, &Endpoint, &Endpoint)]) -> Bench {
        let mut bench = Bench::new("post-deployment");
        let db = pod("10.244.1.3", "db");
        let site = end("203.0.113.9", IdentityKind::External, None);
        for n in 0..600_u16 {
            let peer = if n % 2 == 0 { &db } else { &site };
            let api = released("10.244.1.7", "v1");
            bench.tcp(
                f64::from(n) * 10.0,
                (&api, peer),
                443,
                Outcome::Answered,
                500,
            );
        }
        let mut bench = bench.learned("post-deployment");
        for &(at, from, to) in calls {
            bench.tcp(at, (from, to), 443, Outcome::Answered, 500);
        }
        bench.finish(9000.0);
        bench
    }

    #[test]
    fn a_stranger_after_a_release_is_told_once_with_its_name() {
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        let pods = [released("10.244.1.50", "v2"), released("10.244.1.51", "v2")];
        let bench = run(&[
            (7000.0, &pods[0], &stranger),
            (7010.0, &pods[1], &stranger),
            (7100.0, &pods[0], &stranger),
        ]);
        assert!(bench.alerts(), "{}", bench.bits());
        assert_eq!(bench.findings.len(), 1);
        assert_eq!(bench.findings[0].subject, "release v2");
    }

    #[test]
    fn known_places_peers_inside_and_strangers_of_no_release_are_not_its_business() {
        let site = end("203.0.113.9", IdentityKind::External, None);
        let stranger = end("198.51.100.9", IdentityKind::External, None);
        let search = pod("10.244.1.40", "search");
        let (new, old) = (released("10.244.1.50", "v2"), released("10.244.1.7", "v1"));
        let unknown = pod("10.244.1.60", "unknown");
        let bench = run(&[
            (7000.0, &new, &site),
            (7010.0, &new, &search),
            (7020.0, &old, &stranger),
            (7030.0, &unknown, &stranger),
        ]);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
