//! `exfiltration`: a pod sends much to an outside destination that is new for it.
//!
//! Whoever carries data off must send it, whatever the protocol: far more goes up than comes down, to a place where the
//! workload had no business before. Bytes are summed per source and destination (registered domain where a look-up led
//! there, else the address), so that many small portions count like one large one.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use lru::LruCache;
use serde::Deserialize;

use super::registries::is_registry;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Role, SourceKey, bounded, source_key};
use crate::flow::{Direction, Turn};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "exfiltration",
    sees: EventKinds::TURN,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Exfiltration::new(
            thresholds,
            signature.alert_bits,
        )))
    },
};

/// Sources whose destinations are counted.
const MAX_SOURCES: usize = 16 * 1024;
/// Example flows kept per destination.
const MAX_SAMPLES: usize = 4;
/// More surprise, or volume, than this says no more.
const MAX_BITS: f64 = 12.0;
/// That nearly all bytes went up: one conversation with the outside in sixteen.
const BITS_ONE_WAY: f64 = 4.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Bytes up below which nothing is said.
    min_bytes: u64,
    /// How many times the bytes down they must be.
    min_ratio: f64,
    /// What an ordinary destination is sent in a visit.
    typical_bytes: f64,
    /// A destination must be this surprising for the source, in bits.
    min_surprise: f64,
    /// How long an answer is waited for.
    settle_secs: u64,
    /// What was sent fades: it halves in this time.
    half_life_secs: f64,
    max_destinations: usize,
}

struct Exfiltration {
    thresholds: Thresholds,
    alert_bits: f64,
    destinations: LruCache<Key, Destination>,
    /// How many destinations each source has had.
    sources: LruCache<SourceKey, u64>,
    /// Those that have been sent much, since when: an answer may yet make up for it.
    waiting: BTreeMap<Key, Timestamp>,
    /// The same in every run, for what waits is told in the order of its hashes.
    hasher: FixedState,
    evicted: u64,
}

/// A source, and the hash of where it sends to.
type Key = (SourceKey, u64);

struct Destination {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    up: f64,
    down: f64,
    surprise: Evidence,
    domain: Option<Arc<str>>,
    target: Target,
    flows: Vec<Arc<FlowInfo>>,
    /// Bytes up when it was last reported.
    reported: f64,
}

impl Exfiltration {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            destinations: bounded(thresholds.max_destinations),
            sources: bounded(MAX_SOURCES),
            waiting: BTreeMap::new(),
            hasher: FixedState::default(),
            evicted: 0,
            thresholds,
            alert_bits,
        }
    }

    /// Notes that a source has one more destination, and says how many it had.
    fn known(&mut self, source: &SourceKey) -> u64 {
        let count = self.sources.get_or_insert_mut(source.clone(), || 0);
        *count += 1;
        *count - 1
    }

    /// Adds a turn to its destination, and says which that is.
    fn turn(&mut self, flow: &Arc<FlowInfo>, turn: &Turn, context: &Context<'_>) -> Key {
        let domain = context.peers.domain(flow.orig.ip, flow.resp.ip);
        let place = match domain {
            Some(domain) => self.hasher.hash_one(&**domain),
            None => self.hasher.hash_one(flow.resp.ip),
        };
        let key = (source_key(&flow.orig), place);
        if !self.destinations.contains(&key) {
            let known = self.known(&key.0);
            let destination = Destination {
                actor: flow.orig.clone(),
                first: turn.start,
                last: turn.start,
                up: 0.0,
                down: 0.0,
                surprise: surprise(flow, known, context),
                domain: domain.cloned(),
                target: Target {
                    endpoint: Some(flow.resp.clone()),
                    port: Some(flow.resp_port),
                    protocol: None,
                    domain: domain.cloned(),
                },
                flows: Vec::new(),
                reported: 0.0,
            };
            let evicted = self.destinations.push(key.clone(), destination);
            if let Some((old, _)) = evicted {
                self.waiting.remove(&old);
                self.evicted += 1;
            }
        }
        let half_life = self.thresholds.half_life_secs;
        let Some(destination) = self.destinations.get_mut(&key) else {
            return key;
        };
        let fade = (-turn.end.since(destination.last).as_secs_f64() / half_life).exp2();
        destination.up *= fade;
        destination.down *= fade;
        destination.last = destination.last.max(turn.end);
        match turn.direction {
            Direction::Orig => destination.up += turn.bytes as f64,
            Direction::Resp => destination.down += turn.bytes as f64,
        }
        if destination.flows.len() < MAX_SAMPLES
            && destination.flows.iter().all(|known| known.id != flow.id)
        {
            destination.flows.push(Arc::clone(flow));
        }
        key
    }

    fn evidence(&self, destination: &Destination) -> Vec<Evidence> {
        let Thresholds {
            typical_bytes,
            min_ratio,
            ..
        } = self.thresholds;
        let (up, down) = (destination.up, destination.down);
        let volume = (up / typical_bytes).max(1.0).log2().min(MAX_BITS);
        vec![
            destination.surprise.clone(),
            Evidence {
                feature: "exfiltration.bytes_out",
                family: Family::Volume,
                observed: up.round(),
                expected: format!("≤ {} in one visit", size(typical_bytes)),
                bits: volume,
                signature_grade: false,
                text: format!("{} went out", size(up)),
            },
            Evidence {
                feature: "exfiltration.ratio",
                family: Family::Outcome,
                observed: (up / down.max(1.0)).round(),
                expected: format!("< {min_ratio}: most conversations bring more than they send"),
                bits: BITS_ONE_WAY,
                signature_grade: false,
                text: format!("{} came back", size(down)),
            },
        ]
    }

    fn is_told(&self, destination: &Destination) -> bool {
        let Thresholds {
            min_bytes,
            min_ratio,
            min_surprise,
            ..
        } = self.thresholds;
        let (up, down) = (destination.up, destination.down);
        up >= min_bytes as f64
            && up >= min_ratio * down
            && destination.surprise.bits >= min_surprise
            && !destination.domain.as_deref().is_some_and(is_registry)
            && self
                .evidence(destination)
                .iter()
                .map(|one| one.bits)
                .sum::<f64>()
                >= self.alert_bits
    }

    /// Reports a destination that has waited for its answer, if there is something to tell.
    fn judge(&mut self, key: &Key, out: &mut Findings) {
        self.waiting.remove(key);
        let Some(destination) = self.destinations.peek(key) else {
            return;
        };
        if self.is_told(destination) {
            let up = destination.up;
            out.push(self.finding(destination));
            if let Some(destination) = self.destinations.peek_mut(key) {
                destination.reported = up;
            }
        }
    }

    fn finding(&self, destination: &Destination) -> Finding {
        let place = match (&destination.domain, &destination.target.endpoint) {
            (Some(domain), _) => domain.to_string(),
            (None, Some(end)) => end.ip.to_string(),
            (None, None) => String::new(),
        };
        Finding {
            signature: SPEC.id,
            subject: place.clone(),
            actor: destination.actor.clone(),
            first: destination.first,
            last: destination.last,
            targets: vec![destination.target.clone()],
            target_count: 1,
            evidence: self.evidence(destination),
            flows: destination.flows.clone(),
            summary: format!(
                "sent {} to {place}, and got {} back",
                size(destination.up),
                size(destination.down)
            ),
        }
    }
}

/// How unlikely the destination was for this pod, as of its first visit: by the baseline where there is one, else −log2 of
/// the share that first visits to places outside have had in what the pod has said so far, of which there are `known`. A
/// job's pod is made for its errand, so that nothing it does first surprises.
fn surprise(flow: &FlowInfo, known: u64, context: &Context<'_>) -> Evidence {
    let spoken = context.habits.spoken(&flow.orig);
    let workload = &flow.orig.who.identity.workload;
    let job = workload
        .as_ref()
        .is_some_and(|workload| matches!(&*workload.kind, "Job" | "CronJob"));
    let own = if job {
        0.0
    } else {
        -((known as f64 + 0.5) / (spoken as f64 + 1.0))
            .min(1.0)
            .log2()
    };
    let (bits, expected, text) = match context.profile(&flow.orig) {
        Some(_) if context.is_learned(flow) => (
            0.0,
            "known from the baseline".to_owned(),
            "the workload's baseline knows this destination".to_owned(),
        ),
        Some(profile) if profile.novelty_bits(Role::Client) > own => (
            profile.novelty_bits(Role::Client),
            format!("one of {} peers known", profile.peer_count(Role::Client)),
            "the workload's baseline knows no such destination".to_owned(),
        ),
        _ => (
            own,
            format!("one of {known} places outside"),
            format!("none of the {spoken} turns in which the pod had spoken had gone there"),
        ),
    };
    Evidence {
        feature: "exfiltration.new_destination",
        family: Family::Novelty,
        observed: 1.0,
        expected,
        bits: bits.min(MAX_BITS),
        signature_grade: false,
        text,
    }
}

/// Bytes for people, with decimal prefixes.
fn size(bytes: f64) -> String {
    if bytes >= 1e6 {
        format!("{:.1} MB", bytes / 1e6)
    } else if bytes >= 1e3 {
        format!("{:.1} kB", bytes / 1e3)
    } else {
        format!("{bytes:.0} bytes")
    }
}

impl Detector for Exfiltration {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        let EventKind::Turn { flow, turn } = &event.kind else {
            return;
        };
        if flow.resp.who.identity.kind != IdentityKind::External
            || flow.orig.who.identity.kind != IdentityKind::Pod
        {
            return;
        }
        let key = self.turn(flow, turn, context);
        if let Some(destination) = self.destinations.peek(&key)
            && destination.up >= self.thresholds.min_bytes as f64
            && destination.up >= destination.reported * 2.0
        {
            self.waiting.entry(key).or_insert(turn.end);
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        let settle = Duration::from_secs(self.thresholds.settle_secs);
        let due: Vec<Key> = self
            .waiting
            .iter()
            .filter(|&(_, since)| now >= since.after(settle))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.judge(&key, out);
        }
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        for key in self.waiting.keys().cloned().collect::<Vec<_>>() {
            self.judge(&key, out);
        }
        for (_, destination) in self.destinations.iter().rev() {
            if destination.reported > 0.0 {
                out.push(self.finding(destination));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.destinations.len(),
            limit: self.destinations.cap().get(),
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
    use super::*;
    use crate::flow::Protocol;

    /// A pod that has asked its database `asked` times, then exchanges `(up, down)` bytes with a host outside, in as many
    /// portions as there are, `pause` seconds apart.
    fn sent(asked: u32, portions: &[(u64, u64)], pause: f64) -> Bench {
        let mut bench = Bench::new("exfiltration");
        let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        for n in 0..asked {
            bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
        }
        let outside = end("203.0.113.20", IdentityKind::External, None);
        let flow = bench.open(100.0, (&api, &outside), Protocol::Tcp, 443);
        let mut at = 100.0;
        for &(up, down) in portions {
            for (direction, bytes) in [(Direction::Orig, up), (Direction::Resp, down)] {
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
                let flow = Arc::clone(&flow);
                bench.event(at, EventKind::Turn { flow, turn });
                at += 0.1;
            }
            at += pause;
        }
        bench.finish(at);
        bench
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
}
