//! `long-connection`: a connection out that lasts far longer than others do, little by little, to a new and odd peer.
//!
//! A channel worked by hand, or by a program with nothing to do most of the time, has no rhythm to find. But whoever holds
//! one keeps it open, and uses it now and then in both directions. Long connections are ordinary for some: so what counts
//! is how much longer this one lasts than the same workload's others of its kind (without a workload, anybody's), and only
//! together with a peer that is new and was found by no name, speaks first, or speaks no known protocol.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::newness::{bare_address, newness, total_bits};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, goes_out, is_session_port};
use crate::flow::{Direction, Exchange, FlowId, FlowRecord, Protocol};
use crate::identity::{IdentityKind, WorkloadId};
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "long-connection",
    sees: EventKinds::EXCHANGE.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(LongConnection::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Durations of ended connections remembered per kind, and how many tell what is usual.
const RING: usize = 32;
const FEWEST: usize = 5;
/// Long connections to other places remembered per kind.
const MAX_LONG: usize = 8;
/// Kinds remembered: workloads and protocols.
const MAX_KINDS: usize = 4096;
/// For how long a connection is kept open for more, where nothing else is known: servers of the web close after a minute.
const USUAL_SECS: f64 = 60.0;
/// Per doubling of what is usual: durations have heavy tails.
const BITS_PER_DOUBLING: f64 = 1.25;
const MOST_BITS_DURATION: f64 = 10.0;
/// An exchange of at most this many bytes is a word, not a transfer,
const SMALL: u64 = 2048;
/// and of words this share at least is a conversation.
const MOSTLY_SMALL: f64 = 0.75;
const BITS_LITTLE: f64 = 3.0;
/// The called end asks.
const BITS_INVERTED: f64 = 4.0;
const BITS_NO_PROTOCOL: f64 = 2.0;
/// First called so long after the client was first seen, it is new: three times this.
const HABIT: Duration = Duration::from_secs(20);
/// Exchanges this far apart are signs of life of their own.
const A_WHILE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Shorter ones aren't looked at.
    min_secs: u64,
    /// Signs of life, half a minute apart at least.
    min_signs: u64,
    max_connections: usize,
}

/// Whose connections are compared: a workload's, or everybody's; and what they speak.
type Kind = (Option<WorkloadId>, Option<&'static str>);

fn kind(flow: &FlowInfo, app: Option<&'static str>) -> Kind {
    (flow.orig.who.identity.workload.clone(), app)
}

/// How long connections of a kind last.
#[derive(Default)]
struct Usual {
    /// Of those that ended.
    ended: VecDeque<f64>,
    /// Of the longest, by the hash of who called where.
    long: Vec<(u64, f64)>,
}

impl Usual {
    fn ended(&mut self, secs: f64) {
        if self.ended.len() >= RING {
            self.ended.pop_front();
        }
        self.ended.push_back(secs);
    }

    fn lasts(&mut self, who: u64, secs: f64) {
        if let Some((_, longest)) = self.long.iter_mut().find(|(one, _)| *one == who) {
            *longest = longest.max(secs);
        } else if self.long.len() < MAX_LONG {
            self.long.push((who, secs));
        }
    }

    /// How long others than this one last, in seconds: most of them, or another that is long, too.
    fn of_others(&self, who: u64) -> f64 {
        let mut ended: Vec<f64> = self.ended.iter().copied().collect();
        ended.sort_by(f64::total_cmp);
        let most = match ended.get(ended.len() * 9 / 10) {
            Some(secs) if ended.len() >= FEWEST => *secs,
            _ => 0.0,
        };
        let others = self.long.iter().filter(|(one, _)| *one != who);
        others
            .map(|(_, secs)| *secs)
            .fold(most.max(USUAL_SECS), f64::max)
    }
}

/// One connection that is open.
struct Open {
    flow: Arc<FlowInfo>,
    app: Option<&'static str>,
    last: Timestamp,
    /// When there was a sign of life that counted, and how many did.
    sign: Timestamp,
    signs: u64,
    exchanges: u64,
    answered: u64,
    inverted: u64,
    small: u64,
    /// How long it lasted when it was last told.
    told: Duration,
}

impl Open {
    fn new(flow: Arc<FlowInfo>) -> Self {
        let start = flow.start;
        Self {
            flow,
            app: None,
            last: start,
            sign: start,
            signs: 0,
            exchanges: 0,
            answered: 0,
            inverted: 0,
            small: 0,
            told: Duration::ZERO,
        }
    }

    fn take(&mut self, exchange: &Exchange, app: Option<&'static str>) {
        self.app = app.or(self.app);
        self.last = self.last.max(exchange.end);
        self.exchanges += 1;
        self.answered += u64::from(exchange.is_answered());
        self.inverted += u64::from(exchange.number > 0 && exchange.asker == Direction::Resp);
        self.small += u64::from(exchange.asked.saturating_add(exchange.answered) <= SMALL);
        if exchange.start.since(self.sign) >= A_WHILE {
            self.sign = exchange.start;
            self.signs += 1;
        }
    }

    fn lasts(&self) -> Duration {
        self.last.since(self.flow.start)
    }

    /// Whether anybody lives at both ends: what only one of them says is a delivery, or a stream.
    const fn is_two_way(&self) -> bool {
        self.answered * 2 > self.exchanges || self.inverted * 2 > self.exchanges
    }

    /// What speaks for a channel; `None` if this can be none.
    fn evidence(&self, usual: f64, context: &Context<'_>) -> Option<Vec<Evidence>> {
        let flow = &self.flow;
        let secs = self.lasts().as_secs_f64();
        let small = self.small as f64 / self.exchanges.max(1) as f64;
        if !self.is_two_way() || small < MOSTLY_SMALL || context.is_learned(flow) {
            return None;
        }
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: f64, expected: String, bits, text| {
            evidence.push(Evidence {
                feature,
                family,
                observed,
                expected,
                bits,
                signature_grade: false,
                text,
            });
        };
        let beyond = BITS_PER_DOUBLING * (secs / usual).log2().max(0.0);
        let learned = context
            .profile(&flow.orig)
            .zip(context.peers.client_contact(flow))
            .map(|(profile, contact)| profile.duration_bits(&contact, self.lasts()));
        add(
            "connection.duration",
            Family::Timing,
            secs.round(),
            format!("about {usual:.0} s, as others of its kind"),
            learned
                .map_or(beyond, |learned| learned.min(beyond))
                .min(MOST_BITS_DURATION),
            format!(
                "open for {}; about {} is usual for its kind",
                told(secs),
                told(usual)
            ),
        );
        add(
            "connection.little_by_little",
            Family::Volume,
            self.exchanges as f64,
            "transfers, or silence".into(),
            BITS_LITTLE,
            format!(
                "{} exchanges, {:.0} % of them small, {} of them half a minute after the last or more",
                self.exchanges,
                small * 100.0,
                self.signs
            ),
        );
        let bare = bare_address(flow, context);
        if self.app.is_none() && flow.begun {
            let inverted = self.inverted * 2 > self.exchanges;
            let (feature, bits, text) = if inverted {
                let text = "the called end begins: the client is told when to speak";
                ("connection.inverted", BITS_INVERTED, text)
            } else {
                let text = "no known protocol is spoken";
                ("connection.no_protocol", BITS_NO_PROTOCOL, text)
            };
            let expected = "a client that asks in a protocol services speak".into();
            add(
                feature,
                Family::Protocol,
                self.exchanges as f64,
                expected,
                bits,
                text.into(),
            );
        } else if bare.is_none() {
            // TLS to a name is what every service outside looks like, and what was taken up in the middle may be that.
            return None;
        }
        evidence.extend(bare);
        evidence.push(newness(flow, HABIT, context));
        Some(evidence)
    }

    fn finding(&self, evidence: Vec<Evidence>, context: &Context<'_>) -> Finding {
        let flow = &self.flow;
        let domain = context.peers.domain(flow.orig.ip, flow.resp.ip).cloned();
        let whom = domain
            .as_deref()
            .map_or_else(|| flow.resp.ip.to_string(), str::to_owned);
        Finding {
            signature: SPEC.id,
            subject: format!("{whom}:{}", flow.resp_port),
            actor: flow.orig.clone(),
            first: flow.start,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: Some(self.app.unwrap_or("tcp")),
                domain,
            }],
            target_count: 1,
            evidence,
            flows: vec![Arc::clone(flow)],
            summary: format!(
                "has held a connection to {whom} (port {}) for {}, and uses it now and then",
                flow.resp_port,
                told(self.lasts().as_secs_f64())
            ),
        }
    }
}

fn told(secs: f64) -> String {
    if secs < 120.0 {
        format!("{secs:.0} s")
    } else if secs < 7200.0 {
        format!("{:.0} min", secs / 60.0)
    } else {
        format!("{:.1} h", secs / 3600.0)
    }
}

struct LongConnection {
    thresholds: Thresholds,
    alert_bits: f64,
    open: Bounded<FlowId, Open>,
    usual: Bounded<Kind, Usual>,
    hasher: RandomState,
    evicted: u64,
    reported: BTreeSet<FlowId>,
}

/// Whether a connection may be a channel: a pod's or an unknown client's to the world, where sessions aren't the rule.
fn is_candidate(flow: &FlowInfo) -> bool {
    let by = flow.orig.who.identity.kind;
    flow.protocol == Protocol::Tcp
        && goes_out(flow)
        && flow.resp.who.identity.kind == IdentityKind::External
        && !matches!(
            by,
            IdentityKind::External | IdentityKind::Node | IdentityKind::Service
        )
        && !is_session_port(flow.resp_port)
}

impl LongConnection {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            open: Bounded::new(thresholds.max_connections),
            usual: Bounded::new(share.part(MAX_KINDS)),
            hasher: RandomState::new(),
            evicted: 0,
            reported: BTreeSet::new(),
            thresholds,
            alert_bits,
        }
    }

    /// Who calls where, whatever the connection.
    fn who(&self, flow: &FlowInfo) -> u64 {
        let (orig, resp): (IpAddr, IpAddr) = (flow.orig.ip, flow.resp.ip);
        self.hasher.hash_one((orig, resp, flow.resp_port))
    }

    fn exchange(
        &mut self,
        flow: &Arc<FlowInfo>,
        exchange: &Exchange,
        app: Option<&'static str>,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if !self.open.contains(&flow.id)
            && let Some((old, _)) = self.open.push(flow.id, Open::new(Arc::clone(flow)))
        {
            self.evicted += 1;
            self.reported.remove(&old);
        }
        let who = self.who(flow);
        let Some(open) = self.open.get_mut(&flow.id) else {
            return;
        };
        open.take(exchange, app);
        let lasts = open.lasts();
        let least = Duration::from_secs(self.thresholds.min_secs);
        if lasts < least / 2 {
            return;
        }
        let kind = kind(&open.flow, open.app);
        let usual = self.usual.get_or_insert_with(kind, Usual::default);
        usual.lasts(who, lasts.as_secs_f64());
        let due = lasts >= least.max(open.told * 2) && open.signs >= self.thresholds.min_signs;
        // What speaks a protocol of its own is somebody else's to judge.
        if !due || !matches!(open.app, None | Some("tls")) {
            let (signs, app) = (open.signs, open.app);
            context.remark(SPEC.id, flow, || match app {
                None | Some("tls") => format!(
                    "open for {} s of {}, with {signs} of {} signs of life after a silence",
                    lasts.as_secs(),
                    least.as_secs(),
                    self.thresholds.min_signs
                ),
                Some(app) => format!("speaks {app}, which others judge"),
            });
            return;
        }
        let Some(evidence) = open.evidence(usual.of_others(who), context) else {
            context.remark(SPEC.id, flow, || {
                "known to the baseline, no conversation of small steps, or TLS to a name".into()
            });
            return;
        };
        if total_bits(&evidence) >= self.alert_bits {
            open.told = lasts;
            out.push(open.finding(evidence, context));
            self.reported.insert(flow.id);
        }
    }

    /// The last word on a connection that was told.
    fn last_word(&self, id: FlowId, context: &Context<'_>, out: &mut Findings) {
        let Some(open) = self.open.peek(&id) else {
            return;
        };
        let usual = self.usual.peek(&kind(&open.flow, open.app));
        let who = self.who(&open.flow);
        let usual = usual.map_or(USUAL_SECS, |usual| usual.of_others(who));
        if let Some(evidence) = open.evidence(usual, context) {
            out.push(open.finding(evidence, context));
        }
    }

    fn ended(
        &mut self,
        flow: &FlowInfo,
        record: &FlowRecord,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if self.reported.remove(&flow.id) {
            self.last_word(flow.id, context, out);
        }
        self.open.pop(&flow.id);
        // One that nobody answered says nothing.
        if record.payload_bytes.iter().all(|&bytes| bytes > 0) {
            let lasted = record.end.since(flow.start).as_secs_f64();
            let usual = self
                .usual
                .get_or_insert_with(kind(flow, record.app), Usual::default);
            usual.ended(lasted);
        }
    }
}

impl Detector for LongConnection {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Exchange {
                flow,
                exchange,
                app,
            } if is_candidate(flow) => self.exchange(flow, exchange, *app, context, out),
            EventKind::FlowEnded { flow, record } if is_candidate(flow) => {
                self.ended(flow, record, context, out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for id in std::mem::take(&mut self.reported) {
            self.last_word(id, context, out);
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.open.len(),
            limit: self.open.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
