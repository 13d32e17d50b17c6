//! `rate-shift`: a pod does far more of what its workload always did, minute after minute.
//!
//! Only what goes to peers that the workload knows is counted, for whatever goes to strangers is others' business. A rate
//! must be far beyond all that was learned, at this hour too, for several minutes in a row. Whoever is asked more answers
//! more: where what the pod serves has grown as well, and while a release is young, nothing is said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lru::LruCache;
use serde::Deserialize;

use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::baseline::Profile;
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{LogHistogram, Rate, RateWindows, SourceKey, bounded, source_key};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "rate-shift",
    sees: EventKinds::FLOW_OPENED
        .and(EventKinds::DNS)
        .and(EventKinds::HTTP)
        .and(EventKinds::DATABASE)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_sources;
        Ok(Box::new(RateShift {
            runs: bounded(room),
            pods: bounded(room),
            known: RateWindows::default(),
            served: RateWindows::default(),
            minute: i64::MIN,
            thresholds,
            alert_bits: signature.alert_bits,
            evicted: 0,
        }))
    },
};

const MINUTE: i64 = 60_000_000_000;
/// What a client chooses by itself. Failures, look-ups and ports have detectors of their own.
const RATES: [(Rate, &str); 6] = [
    (Rate::BytesOut, "sent far more bytes outside"),
    (Rate::BytesInside, "sent far more bytes to servers inside"),
    (Rate::BytesBack, "fetched far more bytes from outside"),
    (Rate::Flows, "opened far more connections"),
    (Rate::Requests, "made far more HTTP requests"),
    (Rate::Statements, "sent far more statements to databases"),
];
/// What tells that a pod is asked for more.
const DEMAND: [Rate; 2] = [Rate::ServedFlows, Rate::ServedBytes];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Minutes of a rate that must have been learned.
    min_learned_minutes: u64,
    /// Minutes in a row that must be too high.
    min_high_minutes: u64,
    /// How many times what is usual they must be.
    min_ratio: f64,
    max_sources: usize,
}

struct RateShift {
    thresholds: Thresholds,
    alert_bits: f64,
    /// What goes to known peers, and what comes from anybody.
    known: RateWindows,
    served: RateWindows,
    minute: i64,
    /// Who held an address when it last called.
    pods: LruCache<IpAddr, Endpoint>,
    runs: LruCache<(SourceKey, Rate), Run>,
    evicted: u64,
}

/// Minutes in a row that were too high.
#[derive(Clone, Debug)]
struct Run {
    first: Timestamp,
    last: Timestamp,
    minutes: u64,
    /// The least bits and the highest number of them.
    bits: f64,
    most: f64,
    told: u64,
}

impl RateShift {
    /// The minute is over: judges what was counted in it.
    fn settle(&mut self, context: &Context<'_>, out: &mut Findings) {
        let mut demand: BTreeMap<(IpAddr, Rate), f64> = BTreeMap::new();
        self.served.flush(|sample| {
            if DEMAND.contains(&sample.rate) && sample.value > 0.0 {
                demand.insert((sample.pod, sample.rate), sample.value);
            }
        });
        let mut counted = Vec::new();
        self.known.flush(|sample| {
            if RATES.iter().any(|(rate, _)| *rate == sample.rate)
                && sample.value > sample.rate.floor()
            {
                counted.push((sample.pod, sample.rate, sample.value, sample.minute));
            }
        });
        for (ip, rate, value, minute) in counted {
            let Some(pod) = self.pods.get(&ip).cloned() else {
                continue;
            };
            let Some(profile) = context.profile(&pod) else {
                continue;
            };
            let asked_more = DEMAND.iter().any(|&rate| {
                let served = demand.get(&(ip, rate)).copied().unwrap_or(0.0);
                served > rate.floor() && served > 2.0 * usual(profile, rate)
            });
            let bits = profile.rate_bits_at(rate, value, minute);
            let learned = profile.rate(rate).map_or(0, LogHistogram::total);
            let usual = usual(profile, rate).max(rate.floor());
            let high = learned >= self.thresholds.min_learned_minutes
                && bits >= self.alert_bits
                && value >= self.thresholds.min_ratio * usual
                && !asked_more
                && context.release(&pod, minute).is_none();
            if high {
                self.high((&pod, rate, value), minute, bits, profile, out);
            }
        }
    }

    fn high(
        &mut self,
        (pod, rate, value): (&Endpoint, Rate, f64),
        minute: Timestamp,
        bits: f64,
        profile: &Profile,
        out: &mut Findings,
    ) {
        let key = (source_key(pod), rate);
        let fresh = Run {
            first: minute,
            last: minute,
            minutes: 0,
            bits,
            most: value,
            told: 0,
        };
        if !self.runs.contains(&key) {
            let gone = self.runs.push(key.clone(), fresh.clone());
            self.evicted += u64::from(gone.is_some());
        }
        let Some(run) = self.runs.get_mut(&key) else {
            return;
        };
        let gap = minute.nanos().saturating_sub(run.last.nanos());
        if gap > MINUTE {
            *run = fresh;
        }
        run.last = minute;
        run.minutes += 1;
        run.bits = run.bits.min(bits);
        run.most = run.most.max(value);
        let needed = self.thresholds.min_high_minutes.max(run.told * 2);
        if run.minutes < needed {
            return;
        }
        run.told = run.minutes;
        out.push(Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: pod.clone(),
            first: run.first,
            last: run.last,
            targets: Vec::new(),
            target_count: 0,
            evidence: vec![Evidence {
                feature: rate.name(),
                family: Family::Volume,
                observed: run.most,
                expected: profile.rate_expected(rate),
                bits: run.bits,
                signature_grade: false,
                text: format!(
                    "{} minutes in a row, to peers that the workload always had",
                    run.minutes
                ),
            }],
            flows: Vec::new(),
            summary: format!(
                "{} than its workload ever does, for {} minutes",
                RATES
                    .iter()
                    .find(|(one, _)| *one == rate)
                    .map_or("did far more", |(_, what)| what),
                run.minutes
            ),
        });
    }
}

/// The most that was usual of a rate.
fn usual(profile: &Profile, rate: Rate) -> f64 {
    let minutes = profile.rate(rate);
    minutes
        .and_then(|minutes| minutes.quantile(0.99))
        .unwrap_or(0.0)
}

/// Whether an event's flow is one that the workload always had.
fn is_known(flow: &FlowInfo, context: &Context<'_>) -> bool {
    flow.orig.who.identity.workload.is_some() && context.is_learned(flow)
}

impl Detector for RateShift {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let Some(flow) = event.flow().filter(|_| context.baseline.is_some()) else {
            return;
        };
        let minute = event.time.nanos().div_euclid(MINUTE);
        if minute > self.minute {
            self.settle(context, out);
            self.minute = minute;
        }
        self.served.observe(event, |_| {});
        if is_known(flow, context) {
            if matches!(event.kind, EventKind::FlowOpened(_)) || !self.pods.contains(&flow.orig.ip)
            {
                self.pods.put(flow.orig.ip, flow.orig.clone());
            }
            self.known.observe(event, |_| {});
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.settle(context, out);
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.runs.len(),
            limit: self.runs.cap().get(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

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
