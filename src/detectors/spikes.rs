//! What `rate-shift` and `resource-spike` share: a pod does far more, minute after minute, than its workload ever did.
//!
//! A rate must be far beyond all that was learned, at this hour too, for several minutes in a row. Whoever is asked more
//! answers more: where what the pod serves has grown as well, and while a release is young, nothing is said. What has hours of
//! its own, such as a nightly backup, is held against those; where a usual peer is visited by a plan too and this is off it,
//! that counts as well, and one minute is enough.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{Context, Detector, Evidence, Family, Finding, Findings, StateSize};
use crate::baseline::{Profile, Schedule};
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::features::{Bounded, LogHistogram, Rate, RateWindows, SourceKey, source_key};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

const MINUTE: i64 = 60_000_000_000;
/// Which conversations are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Those with peers that the workload always had.
    Usual,
    /// All of them, where those with usual peers are the lesser part.
    Whole,
}

/// What sets the two signatures apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) id: &'static str,
    pub(super) scope: Scope,
    /// What a client chooses by itself, and what it did when there is far more of it.
    pub(super) rates: &'static [(Rate, &'static str)],
    /// After the number of minutes: whom it concerns.
    pub(super) whom: &'static str,
}

/// What a visit off its plan must weigh to count,
const PLAN_BITS: f64 = 3.0;
/// and for how long it goes on.
const VISIT: Duration = Duration::from_hours(1);
/// What tells that a pod is asked for more.
const DEMAND: [Rate; 2] = [Rate::ServedFlows, Rate::ServedBytes];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    /// Minutes of a rate that must have been learned.
    min_learned_minutes: u64,
    /// Minutes in a row that must be too high.
    min_high_minutes: u64,
    /// How many times what is usual they must be.
    min_ratio: f64,
    max_sources: usize,
}

/// A detector of either signature.
pub(super) struct Spikes {
    watched: Watched,
    thresholds: Thresholds,
    alert_bits: f64,
    /// What goes to known peers, and what goes to and comes from anybody.
    known: RateWindows,
    all: RateWindows,
    minute: i64,
    /// Who held an address when it last called.
    pods: Bounded<IpAddr, Endpoint>,
    /// The latest visits off a plan.
    visits: Bounded<IpAddr, Visit>,
    runs: Bounded<(SourceKey, Rate), Run>,
    evicted: u64,
}

/// A visit at a time when the peer is never visited.
#[derive(Clone, Debug)]
struct Visit {
    last: Timestamp,
    bits: f64,
    peer: Arc<str>,
    plan: Schedule,
}

impl Visit {
    /// The flow's, if it is one.
    fn of(flow: &FlowInfo, now: Timestamp, context: &Context<'_>) -> Option<Self> {
        let profile = context.profile(&flow.orig)?;
        let contact = context.peers.client_contact(flow)?;
        let bits = profile.hour_bits(&contact, flow.start);
        let plan = profile.schedule(&contact).filter(|_| bits >= PLAN_BITS)?;
        Some(Self {
            last: now,
            bits,
            peer: contact.peer,
            plan,
        })
    }

    fn evidence(&self) -> Evidence {
        let every = self.plan.every.as_secs_f64() / 3600.0;
        let spread = self.plan.spread.as_secs_f64() / 60.0;
        Evidence {
            feature: "peer.off_plan",
            family: Family::Timing,
            observed: 1.0,
            expected: format!("every {every:.0} h, give or take {spread:.0} min"),
            bits: self.bits,
            signature_grade: false,
            text: format!(
                "{} is visited by a plan ({} visits so far), and this is another time",
                self.peer, self.plan.visits
            ),
        }
    }
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

impl Spikes {
    pub(super) fn new(watched: Watched, thresholds: Thresholds, alert_bits: f64) -> Self {
        let room = thresholds.max_sources;
        Self {
            watched,
            runs: Bounded::new(room),
            pods: Bounded::new(room),
            visits: Bounded::new(room),
            known: RateWindows::default(),
            all: RateWindows::default(),
            minute: i64::MIN,
            thresholds,
            alert_bits,
            evicted: 0,
        }
    }

    /// The minute is over: judges what was counted in it.
    fn settle(&mut self, context: &Context<'_>, out: &mut Findings) {
        let watched = self.watched;
        let mut all: BTreeMap<(IpAddr, Rate), (f64, Timestamp)> = BTreeMap::new();
        let mut usual_peers: BTreeMap<(IpAddr, Rate), (f64, Timestamp)> = BTreeMap::new();
        let is_watched = |rate| watched.rates.iter().any(|(one, _)| *one == rate);
        self.all.flush(|sample| {
            if sample.value > 0.0 && (DEMAND.contains(&sample.rate) || is_watched(sample.rate)) {
                all.insert((sample.pod, sample.rate), (sample.value, sample.minute));
            }
        });
        self.known.flush(|sample| {
            if sample.value > 0.0 && is_watched(sample.rate) {
                usual_peers.insert((sample.pod, sample.rate), (sample.value, sample.minute));
            }
        });
        let counted = match watched.scope {
            Scope::Usual => &usual_peers,
            Scope::Whole => &all,
        };
        let counted: Vec<_> = counted
            .iter()
            .map(|(&(ip, rate), &(value, minute))| (ip, rate, value, minute))
            .filter(|(_, rate, value, _)| is_watched(*rate) && *value > rate.floor())
            .filter(|(ip, rate, value, _)| {
                let usual = usual_peers
                    .get(&(*ip, *rate))
                    .map_or(0.0, |(value, _)| *value);
                watched.scope == Scope::Usual || usual <= value / 2.0
            })
            .collect();
        for (ip, rate, value, minute) in counted {
            let Some(pod) = self.pods.get(&ip).cloned() else {
                continue;
            };
            let Some(profile) = context.profile(&pod) else {
                continue;
            };
            let asked_more = DEMAND.iter().any(|&rate| {
                let served = all.get(&(ip, rate)).map_or(0.0, |(value, _)| *value);
                served > rate.floor() && served > 2.0 * usual(profile, rate)
            });
            let bits = profile.rate_bits_at(rate, value, minute);
            let learned = profile.rate(rate).map_or(0, LogHistogram::total);
            let usual = profile.rate_usual_at(rate, value, minute).max(rate.floor());
            let high = learned >= self.thresholds.min_learned_minutes
                && bits >= self.alert_bits
                && value >= self.thresholds.min_ratio * usual
                && !asked_more
                && context.release(&pod, minute).is_none();
            if high {
                self.high((&pod, rate, value), (minute, bits), context, out);
            } else {
                context.remark_of(self.watched.id, &pod, || {
                    let asked = if asked_more {
                        ", and it was asked for more itself"
                    } else {
                        ""
                    };
                    format!(
                        "{} of {value:.0}: {bits:.1} bits, {:.1} of {} times the usual, {learned} of {} minutes learned{asked}",
                        rate.name(),
                        value / usual,
                        self.thresholds.min_ratio,
                        self.thresholds.min_learned_minutes,
                    )
                });
            }
        }
    }

    fn high(
        &mut self,
        (pod, rate, value): (&Endpoint, Rate, f64),
        (minute, bits): (Timestamp, f64),
        context: &Context<'_>,
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
        let visit = self.visits.peek(&pod.ip);
        let visit = visit.filter(|visit| minute <= visit.last.after(VISIT));
        let least = match visit {
            Some(_) => 1,
            None => self.thresholds.min_high_minutes,
        };
        let needed = least.max(run.told * 2);
        if run.minutes < needed {
            context.remark_of(self.watched.id, pod, || {
                format!("{} of {needed} minutes in a row were too high", run.minutes)
            });
            return;
        }
        run.told = run.minutes;
        let expected = context
            .profile(pod)
            .map(|profile| profile.rate_expected(rate));
        let mut evidence = vec![Evidence {
            feature: rate.name(),
            family: Family::Volume,
            observed: run.most,
            expected: expected.unwrap_or_default(),
            bits: run.bits,
            signature_grade: false,
            text: format!("{} in a row, {}", minutes(run.minutes), self.watched.whom),
        }];
        evidence.extend(visit.map(Visit::evidence));
        let ever = if visit.is_some() {
            "ever does at this hour"
        } else {
            "ever does"
        };
        out.push(Finding {
            signature: self.watched.id,
            subject: String::new(),
            actor: pod.clone(),
            first: run.first,
            last: run.last,
            targets: Vec::new(),
            target_count: 0,
            evidence,
            flows: Vec::new(),
            summary: format!(
                "{} than its workload {ever}, for {}",
                self.watched
                    .rates
                    .iter()
                    .find(|(one, _)| *one == rate)
                    .map_or("did far more", |(_, what)| what),
                minutes(run.minutes)
            ),
        });
    }
}

fn minutes(n: u64) -> String {
    if n == 1 {
        "a minute".to_owned()
    } else {
        format!("{n} minutes")
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

impl Detector for Spikes {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let Some(flow) = event.flow().filter(|_| context.baseline.is_some()) else {
            return;
        };
        let minute = event.time.nanos().div_euclid(MINUTE);
        if minute > self.minute {
            self.settle(context, out);
            self.minute = minute;
        }
        if !self.pods.contains(&flow.orig.ip) || matches!(event.kind, EventKind::FlowOpened(_)) {
            self.pods.put(flow.orig.ip, flow.orig.clone());
        }
        self.all.observe(event, |_| {});
        if is_known(flow, context) {
            let bounds = matches!(
                event.kind,
                EventKind::FlowOpened(_) | EventKind::FlowEnded { .. }
            );
            let planned = self.watched.scope == Scope::Usual && bounds;
            if let Some(visit) = planned
                .then(|| Visit::of(flow, event.time, context))
                .flatten()
            {
                self.visits.put(flow.orig.ip, visit);
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
            limit: self.runs.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
