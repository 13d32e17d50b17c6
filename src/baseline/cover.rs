//! What alerts cover, so that it is not learned.
//!
//! An attack with structure (a scan, a tunnel) takes what its actor did meanwhile out of the baseline, and what its targets
//! were asked for: nothing that an intruder does becomes normal by being done while one learns. A mere departure (a new
//! peer) is left out only where the workload's peers are stable; a workload that is still learning learns it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::profile::Profile;
use super::side::Side;
use super::standing::Maturity;
use super::table::{Entry, seconds};
use crate::features::Role;
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// How much longer than its alert an attack is taken to last, either way.
const MARGIN: Duration = Duration::from_mins(1);

/// What one alert covers.
#[derive(Clone, Debug)]
pub struct Cover {
    /// The alert's id.
    pub alert: String,
    /// Who did it.
    pub actor: IpAddr,
    /// The actor's workload, if it is one's.
    pub workload: Option<WorkloadId>,
    /// First sign of it.
    pub first: Timestamp,
    /// Last sign of it.
    pub last: Timestamp,
    /// Whether it is a departure from the baseline and nothing else.
    pub departure: bool,
    /// The targets' addresses.
    pub targets: BTreeSet<IpAddr>,
    /// What the actor's workload knows the targets by, as in `Contact::peer`.
    pub peers: BTreeSet<Arc<str>>,
}

/// How much of what was seen an alert kept out of the baseline.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Withheld {
    /// The alert's id.
    pub alert: String,
    /// Minutes of its actor that were not learned.
    pub minutes: u64,
    /// Peers that were not learned otherwise, or learned before and forgotten.
    pub peers: u64,
}

impl Cover {
    /// Whether it overlaps a time.
    fn during(&self, start: Timestamp, end: Timestamp) -> bool {
        self.first.before(MARGIN) < end && self.last.after(MARGIN) >= start
    }

    /// Takes what it covers off a pod's sheet. `known` is the profile of the pod's workload by now. True if nothing of the
    /// sheet may be learned.
    pub(super) fn censor(
        &self,
        pod: IpAddr,
        (start, end): (Timestamp, Timestamp),
        sheet: &mut Profile,
        known: Option<&Profile>,
        withheld: &mut Withheld,
    ) -> bool {
        if !self.during(start, end) {
            return false;
        }
        if self.actor == pod {
            if !self.departure {
                return true;
            }
            if known.is_some_and(|known| {
                known.maturity() == Maturity::Stable && !known.in_window(start)
            }) {
                withheld.peers += self.forget(&mut sheet.client, |_| true);
            }
            return false;
        }
        if self.departure {
            return false;
        }
        if self.targets.contains(&pod) {
            // What came from the actor can't be told from what came from others.
            withheld.peers += sheet.server.peers.len() as u64;
            sheet.server = Side::default();
            sheet.rates.retain(|rate| rate.role() == Role::Client);
        } else if let Some(workload) = &self.workload {
            // There may be more targets than an alert lists.
            let actor = workload.to_string();
            withheld.peers += sheet.server.forget_peers(|entry| **entry.name == *actor);
        }
        false
    }

    /// Takes back what was learned of the attack before it was known for one: the targets that the actor's workload met
    /// since its beginning.
    pub(super) fn recall(&self, profile: &mut Profile) -> u64 {
        if self.departure {
            return 0;
        }
        let since = seconds(self.first.before(MARGIN));
        self.forget(&mut profile.client, |entry| entry.first >= since)
    }

    fn forget(&self, client: &mut Side, which: impl Fn(&Entry) -> bool) -> u64 {
        client.forget_peers(|entry| which(entry) && self.peers.contains(&**entry.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Making, at, contact, id};
    use super::*;
    use crate::features::{Contact, Rate};

    const POD: &str = "10.244.1.7";
    const VICTIM: &str = "10.244.1.3";

    /// A scan or a departure by `shop/cart`, in the hour's second ten minutes.
    fn cover(departure: bool) -> Cover {
        Cover {
            alert: "a".to_owned(),
            actor: POD.parse().unwrap(),
            workload: Some(id("shop", "cart")),
            first: at(700),
            last: at(800),
            departure,
            targets: BTreeSet::from([VICTIM.parse().unwrap()]),
            peers: BTreeSet::from(["victim".into(), "stranger".into()]),
        }
    }

    /// What a pod did: a usual peer, a strange one, and clients of its own.
    fn sheet() -> Profile {
        let mut making = Making::default();
        let workload = id("shop", "any");
        let served = Contact {
            role: Role::Server,
            ..contact("shop/Deployment/cart")
        };
        for peer in [contact("usual"), contact("stranger"), served] {
            making.meets(&workload, &peer, 750);
        }
        making.minutes(&workload, Rate::ServedFlows, 1, 9.0);
        making.minutes(&workload, Rate::Flows, 1, 9.0);
        making.done().profile(&workload).unwrap().clone()
    }

    /// Shows a sheet of `pod` to a cover: what is left, and whether all was struck out.
    fn censored(cover: &Cover, pod: &str, known: Option<&Profile>) -> (Profile, bool, Withheld) {
        let (mut sheet, mut withheld) = (sheet(), Withheld::default());
        let time = (at(600), at(1200));
        let all = cover.censor(pod.parse().unwrap(), time, &mut sheet, known, &mut withheld);
        (sheet, all, withheld)
    }

    #[test]
    fn nothing_that_an_intruder_does_meanwhile_is_learned() {
        assert!(censored(&cover(false), POD, None).1);
        let mut before = cover(false);
        (before.first, before.last) = (at(100), at(500));
        assert!(!censored(&before, POD, None).1, "a minute later it is over");
    }

    #[test]
    fn its_victims_do_not_learn_it_either() {
        let (victim, all, withheld) = censored(&cover(false), VICTIM, None);
        assert!(!all && withheld.peers == 1);
        assert_eq!(victim.server, Side::default());
        assert!(victim.rate(Rate::ServedFlows).is_none() && victim.rate(Rate::Flows).is_some());
        let (unlisted, ..) = censored(&cover(false), "10.244.1.99", None);
        assert_eq!(unlisted.peer_count(Role::Server), 0);
        assert_eq!(unlisted.peer_count(Role::Client), 2);
    }

    #[test]
    fn a_departure_is_learned_by_who_is_learning_and_not_by_who_is_stable() {
        let (sheet, all, _) = censored(&cover(true), POD, Some(&Profile::default()));
        assert!(!all && sheet.peer_count(Role::Client) == 2);
        let mut making = Making::default();
        let workload = id("shop", "cart");
        for n in 0..400 {
            making.meets(&workload, &contact("usual"), n * 300 - 120_000);
        }
        let baseline = making.done();
        let stable = baseline.profile(&workload).unwrap();
        assert_eq!(stable.maturity(), Maturity::Stable);
        let (sheet, all, withheld) = censored(&cover(true), POD, Some(stable));
        assert!(!all && withheld.peers == 1);
        assert!(sheet.knows(&contact("usual")) && !sheet.knows(&contact("stranger")));
    }

    #[test]
    fn what_was_learned_of_a_slow_attack_is_taken_back() {
        let mut profile = sheet();
        assert_eq!(cover(false).recall(&mut profile), 1);
        assert!(profile.knows(&contact("usual")) && !profile.knows(&contact("stranger")));
        let mut older = sheet();
        let mut late = cover(false);
        late.first = at(5000);
        assert_eq!(late.recall(&mut older), 0, "known before it began");
    }
}
