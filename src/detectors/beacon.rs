//! `beacon`: an implant that reports to its master again and again.
//!
//! An implant must ask for orders, and sleeps in between. So there is a series of contacts with one peer: connections, or
//! exchanges on a connection that stays. Against chance its intervals are too even, whatever the jitter (see
//! [`regularity`]), and what is said without orders is always the same, to the byte: agents that deliver (metrics, logs,
//! spans) have something else to say each time (see [`sizes`]). But a cluster is full of clocks, and no rhythm is evil by
//! itself: it counts only together with a peer that is new or known to nobody else, and never where the baseline knows the
//! contact.

mod sizes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sizes::Sizes;

use super::newness::{BITS_WAS_THERE, bare_address, newness, total_bits};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{HttpRequest, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, Callee, Component, SourceKey, database_product, goes_out, is_monitoring,
    is_session_port, push_tight, regularity, source_key,
};
use crate::flow::{Direction, Exchange, FlowId, Protocol};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "beacon",
    sees: EventKinds::EXCHANGE.and(EventKinds::HTTP),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(Beacon::new(thresholds, signature.alert_bits)))
    },
};

/// Contacts remembered per series.
const RING: usize = 40;
/// What is said within this of the last word belongs to the same contact,
const SAME_CONTACT: Duration = Duration::from_secs(1);
/// and so does all that is said on a connection younger than this: a slow handshake, a transfer in steps.
const YOUNG: Duration = Duration::from_secs(10);
/// Beyond this a clock is a clock; more bits would only drown what matters.
const MOST_BITS_TIMING: f64 = 10.0;
/// Whoever goes the rounds of this many private servers, on one port or by one clock, watches over them.
const ROUNDS: usize = 3;
/// By how much the intervals of one clock differ.
const SAME_CLOCK: f64 = 0.2;
/// Servers of a client of which the interval is remembered.
const MAX_ROUND: usize = 32;
/// The first look at a series is taken at about so many contacts.
const FIRST_LOOK: f64 = 8.0;
/// Less than this is chance.
const FEWEST_BITS_TIMING: f64 = 6.0;
/// The called end asks.
const BITS_INVERTED: f64 = 4.0;
const BITS_NOBODYS_PROTOCOL: f64 = 3.0;
/// What may well be the cluster's own must be new.
const FEWEST_BITS_NEW: f64 = 3.0;
/// Example flows kept, beside the first.
const MAX_SAMPLES: usize = 3;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    min_intervals: usize,
    max_series: usize,
}

/// One contact: when it began, after how long a silence, and what either side said.
#[derive(Clone, Copy, Default, Debug)]
struct Contact {
    flow: FlowId,
    start: Timestamp,
    silence: Duration,
    /// Whether it is a connection of its own.
    opened: bool,
    /// In its first exchange: the question, before any order or outcome.
    first: [u32; 2],
    /// In all.
    said: [u32; 2],
}

struct Series {
    flow: Arc<FlowInfo>,
    contacts: Vec<Contact>,
    /// How many contacts there were in all, and how many the called end began.
    count: u32,
    inverted: u32,
    /// How many were connections on which the client said nothing to the server's greeting.
    greeted: u32,
    /// How many were connections of their own.
    connections: u32,
    /// How many the client began and got no answer to.
    unanswered: u32,
    /// Requests over HTTP, how many of them asked for a page,
    requests: u32,
    pages: u32,
    /// and how many how the server is.
    measurements: u32,
    first: Timestamp,
    last: Timestamp,
    app: Option<&'static str>,
    /// Whether a connection of theirs was seen from its beginning, without which few protocols are known.
    begun: bool,
    /// Further ones.
    samples: Vec<Arc<FlowInfo>>,
    reported: u32,
}

impl Series {
    fn new(flow: &Arc<FlowInfo>, time: Timestamp) -> Self {
        Self {
            flow: Arc::clone(flow),
            contacts: Vec::new(),
            count: 0,
            inverted: 0,
            greeted: 0,
            connections: 0,
            unanswered: 0,
            requests: 0,
            pages: 0,
            measurements: 0,
            first: time,
            last: time,
            app: None,
            begun: false,
            samples: Vec::new(),
            reported: 0,
        }
    }

    /// Takes an exchange. Whether a new contact began with it.
    fn take(&mut self, flow: &Arc<FlowInfo>, exchange: &Exchange) -> bool {
        let silence = exchange.start.since(self.last);
        let young = exchange.number > 0 && exchange.start.since(flow.start) < YOUNG;
        let begins = self.contacts.is_empty() || silence >= SAME_CONTACT && !young;
        if begins {
            if self.contacts.len() >= RING {
                self.contacts.remove(0);
            }
            let contact = Contact {
                flow: flow.id,
                start: exchange.start,
                silence,
                opened: exchange.number == 0,
                ..Contact::default()
            };
            push_tight(&mut self.contacts, contact);
            self.count += 1;
            self.begun |= flow.begun;
            // A server that greets doesn't ask.
            let greeted = exchange.number == 0 && exchange.asker == Direction::Resp;
            self.inverted += u32::from(!greeted && exchange.asker == Direction::Resp);
            self.greeted += u32::from(greeted && !exchange.is_answered());
            self.connections += u32::from(exchange.number == 0);
            self.unanswered +=
                u32::from(exchange.asker == Direction::Orig && !exchange.is_answered());
            let mut told = std::iter::once(&self.flow).chain(&self.samples);
            let known = told.any(|sample| sample.id == flow.id);
            if !known && self.samples.len() < MAX_SAMPLES {
                push_tight(&mut self.samples, Arc::clone(flow));
            }
        }
        // What was said last on a connection is told when it is over, and the next may have begun by then.
        let same = self.contacts.iter().rposition(|one| one.flow == flow.id);
        let last = self.contacts.len().saturating_sub(1);
        if let Some(contact) = self.contacts.get_mut(same.unwrap_or(last)) {
            for end in [Direction::Orig, Direction::Resp] {
                if let Some(said) = contact.said.get_mut(end as usize) {
                    let more = u32::try_from(exchange.said(end)).unwrap_or(u32::MAX);
                    *said = said.saturating_add(more);
                }
            }
            if begins {
                contact.first = contact.said;
            }
        }
        self.last = self.last.max(exchange.end);
        begins
    }

    /// The middle one of the intervals between beginnings; 0 with none.
    fn usual_interval(&self) -> f64 {
        let pairs = self.contacts.iter().zip(self.contacts.iter().skip(1));
        let mut intervals: Vec<f64> = pairs
            .map(|(one, next)| next.start.since(one.start).as_secs_f64())
            .collect();
        intervals.sort_by(f64::total_cmp);
        intervals.get(intervals.len() / 2).copied().unwrap_or(0.0)
    }

    /// The silences between contacts, less what makes two contacts of one: chance leaves exponential ones.
    fn silences(&self) -> Vec<f64> {
        let silences = self.contacts.iter().skip(1);
        silences
            .map(|contact| contact.silence.saturating_sub(SAME_CONTACT).as_secs_f64())
            .collect()
    }

    /// Whether the client said nothing in any contact, but for what opens a connection.
    fn only_listens(&self) -> bool {
        self.contacts.iter().all(|contact| {
            let [said, _] = contact.said;
            contact.opened || said == 0
        })
    }

    /// What both ends said in each contact but the last, which may go on: first, or in all where TLS says hello first.
    fn sizes(&self) -> Sizes {
        let mut sizes = Sizes {
            questions: self.pages > self.requests / 2,
            ..Sizes::default()
        };
        let over = self.contacts.split_last().map_or(&[][..], |(_, over)| over);
        for contact in over {
            let [asked, answered] = if contact.opened && self.app == Some("tls") {
                contact.said
            } else {
                contact.first
            };
            sizes.asked.push(asked);
            sizes.answered.push(answered);
        }
        sizes
    }
}

/// The private servers that a client calls again and again, each with the usual interval in seconds.
#[derive(Default)]
struct Round(Vec<(IpAddr, u16, f64)>);

impl Round {
    fn note(&mut self, flow: &FlowInfo, interval: f64) {
        let server = (flow.resp.ip, flow.resp_port);
        let known = self
            .0
            .iter_mut()
            .find(|(ip, port, _)| (*ip, *port) == server);
        if let Some(known) = known {
            known.2 = interval;
        } else if self.0.len() < MAX_ROUND {
            self.0.push((flow.resp.ip, flow.resp_port, interval));
        }
    }

    /// How many are called about as often.
    fn by_clock(&self, interval: f64) -> usize {
        let alike = |other: f64| (other - interval).abs() <= interval * SAME_CLOCK;
        self.0.iter().filter(|(.., other)| alike(*other)).count()
    }
}

struct Beacon {
    thresholds: Thresholds,
    alert_bits: f64,
    series: Bounded<(SourceKey, Callee), Series>,
    rounds: Bounded<SourceKey, Round>,
    evicted: u64,
}

impl Beacon {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        let max = thresholds.max_series;
        Self {
            thresholds,
            alert_bits,
            series: Bounded::new(max),
            rounds: Bounded::new(max),
            evicted: 0,
        }
    }

    fn exchange(
        &mut self,
        flow: &Arc<FlowInfo>,
        exchange: &Exchange,
        app: Option<&'static str>,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let key = (source_key(&flow.orig), Callee::of(flow, context.peers));
        if !self.series.contains(&key) {
            if context.is_learned(flow) {
                context.remark(SPEC.id, flow, || "the baseline knows this contact".into());
                return;
            }
            let series = Series::new(flow, exchange.start);
            let evicted = self.series.push(key.clone(), series);
            self.evicted += u64::from(evicted.is_some());
        }
        let Some(series) = self.series.get_mut(&key) else {
            return;
        };
        series.app = app.or(series.app);
        if !series.take(flow, exchange) {
            return;
        }
        // In time for the others of a round, which come to be judged at about the same time.
        let private = flow.resp.who.identity.kind == IdentityKind::Unknown;
        if private && series.count.is_power_of_two() && series.count > 2 {
            let round = self
                .rounds
                .get_or_insert_with(key.0.clone(), Round::default);
            round.note(flow, series.usual_interval());
        }
        if series.contacts.len() <= self.thresholds.min_intervals {
            let (seen, least) = (series.contacts.len(), self.thresholds.min_intervals + 1);
            context.remark(SPEC.id, flow, || {
                format!("{seen} contacts of the {least} that a rhythm takes")
            });
            return;
        }
        if series.count < series.reported.saturating_mul(2) {
            return;
        }
        let Some(evidence) = series.evidence(self.rounds.peek(&key.0), context) else {
            context.remark(SPEC.id, flow, || {
                "no rhythm to speak of, or one that belongs there (infrastructure, greetings)"
                    .into()
            });
            return;
        };
        if total_bits(&evidence) >= self.alert_bits {
            series.reported = series.count;
            out.push(series.finding(&key.1, evidence));
        }
    }
}

impl Beacon {
    fn request(&mut self, flow: &FlowInfo, request: &HttpRequest, context: &Context<'_>) {
        let key = (source_key(&flow.orig), Callee::of(flow, context.peers));
        if let Some(series) = self.series.peek_mut(&key) {
            let page = matches!(&*request.method, "GET" | "HEAD");
            series.requests = series.requests.saturating_add(1);
            series.pages = series.pages.saturating_add(page.into());
            let measurements = page && is_monitoring(&request.path);
            series.measurements = series.measurements.saturating_add(measurements.into());
        }
    }
}

impl Series {
    /// Whether this may be part of what runs the cluster: a private peer that no inventory names, called by a pod, such as
    /// the API server; a private store; a private peer that is called anew each time, as health checks do, or asked how it is,
    /// or called by whoever calls others on the same port or as often, such as what scrapes metrics; or anything over UDP,
    /// where everything is kept alive.
    fn is_infrastructure(&self, round: Option<&Round>, context: &Context<'_>) -> bool {
        let flow = &self.flow;
        let kind = |end: &Endpoint| end.who.identity.kind;
        let pod = kind(&flow.orig) == IdentityKind::Pod;
        let rounds = || {
            let interval = self.usual_interval();
            context.debuts.servers(flow.orig.ip, flow.resp_port) >= ROUNDS
                || round.is_some_and(|round| round.by_clock(interval) >= ROUNDS)
        };
        let private = kind(&flow.resp) == IdentityKind::Unknown;
        let store = !matches!(self.app, None | Some("http" | "tls"))
            || database_product(flow.resp_port).is_some();
        let probe = self.connections * 2 > self.count || self.measurements > self.requests / 2;
        flow.protocol == Protocol::Udp || private && (pod || store || probe || rounds())
    }

    /// Whether this is a store among several that the client calls on one port, and says what it is: whoever belongs to a
    /// cluster or watches over it hears of its members later (Redis's Sentinel, of the replicas, from their master).
    fn is_among_stores(&self, context: &Context<'_>) -> bool {
        let flow = &self.flow;
        let spoken = !matches!(self.app, None | Some("http" | "tls"));
        spoken
            && database_product(flow.resp_port).is_some()
            && context.debuts.servers(flow.orig.ip, flow.resp_port) >= ROUNDS
    }

    fn evidence(&self, round: Option<&Round>, context: &Context<'_>) -> Option<Vec<Evidence>> {
        let flow = &self.flow;
        let rhythm = regularity(&self.silences())?;
        // Whoever looks often enough sees a rhythm in chance: each doubling of the looks taken costs a bit.
        let looks = f64::from(self.count) / FIRST_LOOK;
        let timing = rhythm.bits - looks.max(1.0).log2();
        // Whoever connects and says nothing asks whether the server is up.
        if timing < FEWEST_BITS_TIMING || self.greeted * 2 > self.count {
            return None;
        }
        // What speaks unasked or gets no answer over HTTP is a WebSocket or a stream of events: `websocket-tunnel` sees
        // those.
        if self.app == Some("http") && (self.inverted + self.unanswered) * 2 > self.count {
            return None;
        }
        // What was taken up in the middle may be that, or whatever else keeps a connection alive inside TLS.
        if self.app.is_none() && !self.begun {
            return None;
        }
        let usual = self.usual_interval();
        let mut new = newness(flow, Duration::from_secs_f64(usual), context);
        // Inside TLS it shows neither whose it is nor what is asked for: unless a baseline knows better, all that is known
        // speaks for a service's client.
        if !flow.begun && self.app == Some("tls") && context.profile(&flow.orig).is_none() {
            new.bits = new.bits.min(BITS_WAS_THERE);
        }
        let is_new = new.bits >= FEWEST_BITS_NEW && !self.is_among_stores(context);
        if !is_new && self.is_infrastructure(round, context) {
            return None;
        }
        let mut evidence = vec![Evidence {
            feature: "contact.regularity",
            family: Family::Timing,
            observed: rounded(rhythm.index),
            expected: "about 0.5, the Gini index of silences by chance".into(),
            bits: timing.min(MOST_BITS_TIMING),
            signature_grade: false,
            text: format!(
                "{} contacts, one about every {}: the Gini index of the silences between is {:.2}",
                self.count,
                seconds(usual),
                rhythm.index
            ),
        }];
        let inverted = self.inverted * 2 > self.count;
        // Who is only spoken to, in a protocol services speak, hears a heartbeat, as of a stream of events.
        let silent = inverted && self.app.is_some() && self.only_listens();
        evidence.push(self.sizes().evidence(inverted, silent));
        evidence.push(new);
        let bare = bare_address(flow, context);
        // Inside TLS, servers of WebSockets ask whether a client is still there (Socket.IO, Slack's Socket Mode).
        let keeps_open = self.app == Some("tls") && bare.is_none();
        evidence.extend(bare);
        if inverted && !silent && !keeps_open {
            evidence.push(self.protocol(
                "contact.inverted",
                BITS_INVERTED,
                "the called end begins: the client is told when to speak",
            ));
        }
        if self.app.is_none() {
            evidence.push(self.protocol(
                "contact.no_protocol",
                BITS_NOBODYS_PROTOCOL,
                "no known protocol is spoken",
            ));
        }
        Some(evidence)
    }

    fn protocol(&self, feature: &'static str, bits: f64, text: &str) -> Evidence {
        Evidence {
            feature,
            family: Family::Protocol,
            observed: f64::from(self.count),
            expected: "a client that asks in a protocol services speak".into(),
            bits,
            signature_grade: false,
            text: text.into(),
        }
    }

    fn finding(&self, callee: &Callee, evidence: Vec<Evidence>) -> Finding {
        let flow = &self.flow;
        let domain = match callee {
            Callee::Domain(domain, _) => Some(Arc::clone(domain)),
            Callee::Address(..) => None,
        };
        let whom = domain
            .as_deref()
            .map_or_else(|| flow.resp.ip.to_string(), str::to_owned);
        let usual = self.usual_interval();
        Finding {
            signature: SPEC.id,
            subject: format!("{whom}:{}", flow.resp_port),
            actor: flow.orig.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: Some(self.app.unwrap_or(match flow.protocol {
                    Protocol::Udp => "udp",
                    _ => "tcp",
                })),
                domain,
            }],
            target_count: 1,
            evidence,
            flows: std::iter::once(&self.flow)
                .chain(&self.samples)
                .cloned()
                .collect(),
            summary: format!(
                "reports to {whom} (port {}) about every {}, {} times so far",
                flow.resp_port,
                seconds(usual),
                self.count
            ),
        }
    }
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

fn seconds(secs: f64) -> String {
    if secs < 120.0 {
        format!("{secs:.1} s")
    } else {
        format!("{:.1} min", secs / 60.0)
    }
}

/// Whether an unnamed address asks an unnamed kubelet: API server and monitors do so to the clock.
fn is_between_nodes(flow: &FlowInfo) -> bool {
    let unknown = |end: &Endpoint| end.who.identity.kind == IdentityKind::Unknown;
    Component::of_port(flow.protocol, flow.resp_port) == Some(Component::Kubelet)
        && unknown(&flow.orig)
        && unknown(&flow.resp)
}

/// Whose contacts are followed: those of pods, and of whom no inventory knows, with somebody beyond the cluster.
fn is_candidate(flow: &FlowInfo) -> bool {
    let by = |end: &Endpoint| end.who.identity.kind;
    matches!(flow.protocol, Protocol::Tcp | Protocol::Udp)
        && goes_out(flow)
        && flow.orig.ip != flow.resp.ip
        && !matches!(by(&flow.orig), IdentityKind::Node | IdentityKind::Service)
        && (flow.protocol == Protocol::Tcp || by(&flow.orig) == IdentityKind::Pod)
        && !is_session_port(flow.resp_port)
        && !is_between_nodes(flow)
}

impl Detector for Beacon {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Exchange {
                flow,
                exchange,
                app,
            } if is_candidate(flow)
                // A connection of which nobody saw the other half, or that never came about, is no contact.
                && context.acquaintances.met(flow) =>
            {
                self.exchange(flow, exchange, *app, context, out);
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::HttpRequest(request),
            } if is_candidate(flow) => self.request(flow, request, context),
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for (key, series) in self.series.iter() {
            if series.reported > 0
                && series.count > series.reported
                && let Some(evidence) = series.evidence(self.rounds.peek(&key.0), context)
            {
                out.push(series.finding(&key.1, evidence));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.series.len(),
            limit: self.series.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests;
