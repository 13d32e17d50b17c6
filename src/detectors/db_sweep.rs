//! `db-sweep`: one source goes from database to database.
//!
//! First contacts with database ports form one line per source, with a sequential test as in `port-scan`. Besides
//! refusals, a session that says next to nothing counts as a probe: a greeting read, a version asked, a login tried and
//! given up. A client that really uses a database says more, and who looks after one (a kubelet, a load balancer, an
//! operator) comes back by the clock and says the same. A source that tries more other ports than database ones is
//! `port-scan`'s or `host-sweep`'s business.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::clocks::{Clocks, is_most};
use super::suspects::{Suspects, is_one_workload};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, ContactLines, DatabaseProduct, FirstContact, Line, Member, Role, Source, SourceKey,
    database_product, source_key, success,
};
use crate::flow::{ConnState, Outcome, Protocol};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "db-sweep",
    sees: EventKinds::FLOW_OUTCOME.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(DbSweep::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// What a source's contacts are sorted into.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Aim {
    Databases,
    Others,
}

/// Bits of a session that comes to nothing: thought twice as likely under a sweep as in honest use.
const BITS_PER_PROBE: f64 = 1.0;
/// Bits per further database endpoint that was only probed.
const BITS_PER_ENDPOINT: f64 = 1.0;
/// Bits per further database product probed: a workload speaks one or two, a scan all it knows.
const BITS_PER_PRODUCT: f64 = 2.0;
/// Where breadth stops adding.
const MAX_BREADTH_BITS: f64 = 32.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    theta0: f64,
    theta1: f64,
    min_endpoints: u64,
    probe_bytes: u64,
    max_sources: usize,
    settle_secs: u64,
    forget_after_secs: u64,
}

/// So long it takes to see rounds, where nothing else speaks for a sweep.
const PATIENCE: Duration = Duration::from_secs(45);
/// Who guesses at servers fails at more of them than one in so many.
const GUESSES_FAIL: u64 = 4;
/// More than these nobody is told to look after before he has shown it.
const MANY: u64 = 32;
/// Who comes back to a few endpoints, round after round, has them from its configuration: a client whose cluster is down, a
/// probe of health. A sweep goes on to others.
const FEW: u64 = 8;
/// As many visits in vain are rounds, if they are so far apart: scanners and TCP repeat themselves sooner.
const ROUNDS: u32 = 3;
const ROUND_TAKES: Duration = Duration::from_millis(1500);
/// In rounds nothing is said, or a word: a line's end, `PING`, `ruok`.
const A_WORD: u64 = 8;
/// Endpoints remembered with their last visits.
const MAX_VISITS: usize = 16 * 1024;

/// Visits to an endpoint in which no more than a word was said, or in vain.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    last: Timestamp,
    /// Those that aren't repetitions.
    count: u32,
}

impl Rounds {
    fn again(&mut self, time: Timestamp) {
        self.count = self
            .count
            .saturating_add((time.since(self.last) >= ROUND_TAKES).into());
        self.last = self.last.max(time);
    }
}

struct DbSweep {
    thresholds: Thresholds,
    alert_bits: f64,
    suspects: Suspects<Aim>,
    rounds: Bounded<(SourceKey, Member), Rounds>,
    clocks: Clocks,
}

impl DbSweep {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            alert_bits,
            suspects: Suspects::new(
                ContactLines::new(thresholds.max_sources, thresholds.theta1, BITS_PER_PROBE)
                    .within(share),
                thresholds.settle_secs,
                thresholds.forget_after_secs,
            ),
            rounds: Bounded::new(share.part(MAX_VISITS)),
            clocks: Clocks::new(share.part(MAX_VISITS)),
            thresholds,
        }
    }

    /// Notes a visit in which no more than a word was said, or in vain; whether there were rounds of them.
    fn note_round(&mut self, flow: &FlowInfo) -> bool {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        if let Some(rounds) = self.rounds.get_mut(&key) {
            rounds.again(flow.start);
            return rounds.count >= ROUNDS;
        }
        let (last, count) = (flow.start, 1);
        self.rounds.put(key, Rounds { last, count });
        false
    }

    fn judge(&mut self, actor: &Endpoint, time: Timestamp, context: &Context<'_>) {
        let (threshold, min) = (self.alert_bits, self.thresholds.min_endpoints);
        let key = source_key(actor);
        if let Some(source) = self.suspects.lines.source(&key)
            && let Some(line) = databases(source, min)
            && line.probed() >= source.mark.saturating_mul(2)
            && line.bits + breadth_bits(line) + novelty_bits(actor, context) >= threshold
        {
            let settle = Duration::from_secs(self.thresholds.settle_secs);
            let until = patience(&self.rounds, &self.clocks, &key, line);
            let since = until.map_or(time, |until| time.max(until.before(settle)));
            self.suspects.note(key, since);
        }
    }

    /// Until when a source waits that was not told yet.
    fn postponed(&mut self, key: &SourceKey) -> Option<Timestamp> {
        let source = self.suspects.lines.source(key)?;
        let line = source.lines.get(&Aim::Databases)?;
        let until = patience(&self.rounds, &self.clocks, key, line);
        until.filter(|_| source.mark == 0)
    }

    fn report(&mut self, key: &SourceKey, context: &Context<'_>, out: &mut Findings) {
        let (theta0, min) = (self.thresholds.theta0, self.thresholds.min_endpoints);
        let Some(source) = self.suspects.lines.source(key) else {
            return;
        };
        let Some(line) = databases(source, min) else {
            return;
        };
        let bits = line.bits + breadth_bits(line) + novelty_bits(&source.actor, context);
        // What looked like probes may have turned out to be visits.
        let returns = returns(&self.rounds, key, line) == Some(true);
        if source.mark == 0 && (bits < self.alert_bits || returns) {
            return;
        }
        let (probed, products) = (line.probed(), products(line));
        let mut evidence = vec![
            Evidence {
                feature: "db.probed_endpoints",
                family: Family::Outcome,
                observed: probed as f64,
                expected: format!("≤ {:.0} % of them", (1.0 - theta0) * 100.0),
                bits: line.bits,
                signature_grade: false,
                text: format!(
                    "of {} database endpoints, {} refused or did not answer and {} were only probed",
                    line.attempted, line.failed, line.unused
                ),
            },
            Evidence {
                feature: "db.endpoints_and_products",
                family: Family::Volume,
                observed: line.attempted as f64,
                expected: "≤ 2".into(),
                bits: breadth_bits(line),
                signature_grade: false,
                text: format!("{} endpoints: {}", line.attempted, products.join(", ")),
            },
        ];
        let novelty = novelty_bits(&source.actor, context);
        if novelty > 0.0 {
            evidence.push(Evidence {
                feature: "db.new_peers",
                family: Family::Novelty,
                observed: line.attempted as f64,
                expected: "only peers met before".into(),
                bits: novelty,
                signature_grade: false,
                text: "the workload never spoke to them in its baseline".into(),
            });
        }
        let mut finding = Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: source.actor.clone(),
            first: line.first,
            last: line.last,
            targets: line
                .targets
                .iter()
                .map(|(endpoint, port)| Target {
                    endpoint: Some(endpoint.clone()),
                    port: Some(*port),
                    protocol: database_product(*port).map(|DatabaseProduct(name)| name),
                    domain: None,
                })
                .collect(),
            target_count: line.attempted,
            evidence,
            flows: line.samples.clone(),
            summary: format!(
                "tried {} database endpoints ({}); {probed} refused, stayed silent or were left after a probe",
                line.attempted,
                products.join(", "),
            ),
        };
        source.mark = probed;
        finding.evidence.extend(self.suspects.decoys(key));
        out.push(finding);
    }
}

/// Whether next to nothing was ever said to the few endpoints that came to nothing, so that rounds will show what the source
/// is; and whether they do.
fn returns(
    rounds: &Bounded<(SourceKey, Member), Rounds>,
    key: &SourceKey,
    line: &Line,
) -> Option<bool> {
    if line.probed() > FEW {
        return None;
    }
    let guesses: Vec<Member> = line.guesses().collect();
    let rounds: Vec<u32> = guesses
        .iter()
        .filter_map(|&guess| Some(rounds.peek(&(key.clone(), guess))?.count))
        .collect();
    let returned = rounds.iter().filter(|count| **count >= ROUNDS).count();
    is_most(rounds.len(), guesses.len()).then(|| is_most(returned, guesses.len()))
}

/// Until when it may show of a line that it is no sweep.
fn patience(
    rounds: &Bounded<(SourceKey, Member), Rounds>,
    clocks: &Clocks,
    key: &SourceKey,
    line: &Line,
) -> Option<Timestamp> {
    let guesses = line.failed.saturating_mul(GUESSES_FAIL) > line.attempted;
    let looks_after = line.probed() <= MANY && !guesses;
    if !looks_after && returns(rounds, key, line).is_none() {
        return None;
    }
    let until = line.first.after(PATIENCE);
    if !looks_after {
        return Some(until);
    }
    let guesses: Vec<Member> = line.guesses().collect();
    let third = clocks.third_overdue(key, &guesses);
    Some(third.map_or(until, |third| until.max(third)))
}

/// The source's line over databases, if databases are what it is after.
fn databases(source: &Source<Aim>, min_endpoints: u64) -> Option<&Line> {
    let line = source.lines.get(&Aim::Databases)?;
    let others = source.lines.get(&Aim::Others).map_or(0, Line::probed);
    (line.attempted >= min_endpoints && line.probed() >= others && !is_one_workload(line))
        .then_some(line)
}

fn products(line: &Line) -> Vec<&'static str> {
    let products: BTreeSet<DatabaseProduct> = line
        .members()
        .filter_map(|(_, port)| database_product(port))
        .collect();
    products
        .into_iter()
        .map(|DatabaseProduct(name)| name)
        .collect()
}

fn breadth_bits(line: &Line) -> f64 {
    let endpoints = line.probed().saturating_sub(1) as f64 * BITS_PER_ENDPOINT;
    let further_products = products(line).len().saturating_sub(1) as f64;
    // Products widen a sweep only as far as endpoints were probed at all.
    let products = further_products.min(line.probed() as f64) * BITS_PER_PRODUCT;
    (endpoints + products).min(MAX_BREADTH_BITS)
}

/// What the baseline adds: how unlikely the workload is to meet strangers. Known contacts never get this far.
fn novelty_bits(actor: &Endpoint, context: &Context<'_>) -> f64 {
    context
        .profile(actor)
        .map_or(0.0, |profile| profile.novelty_bits(Role::Client))
}

fn aim(flow: &FlowInfo) -> Option<Aim> {
    if flow.protocol != Protocol::Tcp || flow.orig.who.identity.kind == IdentityKind::Node {
        None
    } else if database_product(flow.resp_port).is_some() {
        Some(Aim::Databases)
    } else {
        Some(Aim::Others)
    }
}

impl Detector for DbSweep {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome } => {
                let Some(aim) = aim(flow) else { return };
                let Some(success) = success(*outcome, true) else {
                    return;
                };
                if context.is_known(flow) {
                    return;
                }
                let contact = FirstContact {
                    vouched: context.is_there(&flow.orig),
                    ..FirstContact::of(flow, success, event.time)
                };
                let theta0 = self.thresholds.theta0;
                self.suspects
                    .lines
                    .contact(&flow.orig, theta0, aim, &contact);
                if !success {
                    if aim == Aim::Databases {
                        let (rounds, clock) = (self.note_round(flow), self.clocks.visit(flow, 0));
                        // What is refused for certain, no scanner tries again and again.
                        if *outcome == Outcome::Refused && rounds && clock {
                            self.suspects.lines.excuse(&flow.orig, aim, &contact);
                        }
                    }
                    self.judge(&flow.orig, event.time, context);
                }
            }
            EventKind::FlowEnded { flow, record } => {
                let Some(aim) = aim(flow) else { return };
                let [said, _] = record.payload_bytes;
                let limit = match aim {
                    Aim::Databases => self.thresholds.probe_bytes,
                    Aim::Others => return,
                };
                let [_, answers] = record.packets;
                let unused = said <= limit && context.acquaintances.said(flow) <= limit;
                if answers == 0 || record.state == ConnState::Rej || context.is_learned(flow) {
                    return;
                }
                let contact = FirstContact {
                    vouched: context.is_there(&flow.orig),
                    ..FirstContact::of(flow, true, event.time)
                };
                let theta0 = self.thresholds.theta0;
                if said > A_WORD {
                    let member = (flow.resp.ip, flow.resp_port);
                    self.rounds.pop(&(source_key(&flow.orig), member));
                } else {
                    self.note_round(flow);
                }
                if unused && self.clocks.visit(flow, said) {
                    self.suspects.lines.excuse(&flow.orig, aim, &contact);
                    return;
                }
                self.suspects
                    .lines
                    .over(&flow.orig, theta0, aim, &contact, unused);
                if unused {
                    self.judge(&flow.orig, event.time, context);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let settle = Duration::from_secs(self.thresholds.settle_secs);
        for key in self.suspects.due(now, context) {
            // That it serves others may have shown since.
            match self.postponed(&key) {
                Some(until) if until > now => self.suspects.note(key, until.before(settle)),
                _ => self.report(&key, context, out),
            }
        }
        self.suspects.forget(now);
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.all(context) {
            self.report(&key, context, out);
        }
    }

    fn state_size(&self) -> StateSize {
        self.suspects.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.suspects.losses()
    }
}
