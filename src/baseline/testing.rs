//! Baselines made by hand, for tests.

use super::{Baseline, WorkloadId};
use crate::features::{Contact, Rate, Role};
use crate::time::Timestamp;

/// Deployment `namespace/name`.
pub(crate) fn id(namespace: &str, name: &str) -> WorkloadId {
    WorkloadId {
        namespace: namespace.into(),
        kind: "Deployment".into(),
        name: name.into(),
    }
}

/// A client's contact with port 443 of a peer.
pub(crate) fn contact(peer: &str) -> Contact {
    Contact {
        role: Role::Client,
        peer: peer.into(),
        port: 443,
        protocol: 6,
    }
}

/// A baseline in the making. Times are seconds since 2026-11-26.
#[derive(Default)]
pub(crate) struct Making(Baseline);

const START: i64 = 1_795_651_200;

/// A stamp so many seconds after the start.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

impl Making {
    pub(crate) fn meets(&mut self, workload: &WorkloadId, contact: &Contact, seconds: i64) {
        self.0.change(workload, |profile, names| {
            profile.saw(at(seconds));
            profile.side_mut(contact.role).answered += 1;
            profile
                .side_mut(contact.role)
                .meet(contact, at(seconds), None, || names.get(&contact.peer));
        });
    }

    pub(crate) fn minutes(&mut self, workload: &WorkloadId, rate: Rate, minutes: i64, value: f64) {
        self.0.change(workload, |profile, _| {
            for minute in 0..minutes {
                profile.saw(at(minute * 60));
                profile.count(rate, value, at(minute * 60));
            }
        });
    }

    pub(crate) fn done(self) -> Baseline {
        self.0
    }
}
