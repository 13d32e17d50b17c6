//! `lateral-login`: a workload logs in to others, which it never did, and somebody types there.
//!
//! SSH and remote desktops are for people and for a few tools. Within a cluster hardly any workload uses them, and one that
//! does goes to the same hosts from its first minute on. So a login counts by whom it is to (containers hardly ever let
//! anybody in), by how many hosts there are, by how new the contact is, and by whether keys are typed: programs don't
//! type. No one of these is enough. What the baseline knows doesn't count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::newness::newness;
use super::ssh_bruteforce::Dialogue;
use super::watch::{Watch, Watched, at_least, weigh};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
    Target,
};
use crate::dissect::{SshMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::Bounded;
use crate::flow::{Direction, Exchange, FlowId, Turn};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "lateral-login",
    sees: EventKinds::SSH
        .and(EventKinds::TURN)
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let max = thresholds.max_sessions;
        Ok(Box::new(LateralLogin {
            sources: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            sessions: Bounded::new(max),
            alert_bits: signature.alert_bits,
            evicted: 0,
        }))
    },
};

/// What a login says by whom it is to: containers run no such servers, save bastions and drop boxes; nodes are
/// administered from elsewhere; what no inventory names may be a machine that a tool looks after.
const BITS_TO_POD: f64 = 6.0;
const BITS_TO_NODE: f64 = 5.0;
const BITS_TO_UNKNOWN: f64 = 4.0;
/// Each further pod or node; each further host beyond.
const BITS_PER_HOST: f64 = 2.0;
const BITS_PER_UNKNOWN: f64 = 1.0;
/// Where a walk stops adding; among hosts of which nothing is known soon, for tools go through them by trade.
const MOST_BITS: f64 = 14.0;
const MOST_BITS_UNKNOWN: f64 = 6.0;
const BITS_TYPED: f64 = 4.0;

/// A key, its echo, and the packets that hide when keys are pressed are single small ones (36 to 76 bytes by cipher).
const MOST_BYTES_PER_KEY: u64 = 76;
const MOST_BYTES_PER_ECHO: u64 = 2 * MOST_BYTES_PER_KEY;
/// Pauses between keys: OpenSSH sends one packet each 20 ms while somebody types; a person takes a second at times.
const KEYSTROKE: Range<Duration> = Duration::from_millis(15)..Duration::from_millis(1500);
/// Keys that show a habit.
const FEWEST_KEYS: u32 = 12;

/// Hosts remembered one by one per source.
const MAX_HOSTS: usize = 256;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
    max_sessions: usize,
    forget_after_secs: u64,
}

struct LateralLogin {
    alert_bits: f64,
    sources: Watch<Logins>,
    /// Connections by SSH that may become logins.
    sessions: Bounded<FlowId, Session>,
    evicted: u64,
}

struct Session {
    dialogue: Dialogue,
    counted: bool,
    keys: u32,
}

/// Where a source logged in.
#[derive(Default)]
struct Logins {
    hosts: BTreeMap<IpAddr, IdentityKind>,
    protocols: BTreeSet<&'static str>,
    newest: Option<Evidence>,
    keys: u32,
    targets: Vec<Target>,
    flows: Vec<Arc<FlowInfo>>,
}

/// Whether a login there would be from one workload to another, or to a machine inside.
fn is_lateral(flow: &FlowInfo) -> bool {
    let (from, to) = (&flow.orig.who.identity, &flow.resp.who.identity);
    // Replicas log in to one another in clusters of their own: MPI, Hadoop.
    let siblings = from.workload.is_some() && from.workload == to.workload;
    from.kind == IdentityKind::Pod && to.kind != IdentityKind::External && !siblings
}

/// What remote desktops and terminals are recognised as.
fn remote(app: &'static str) -> Option<&'static str> {
    match app {
        "rfb" => Some("vnc"),
        "rdp" | "telnet" => Some(app),
        _ => None,
    }
}

impl LateralLogin {
    fn login(
        &mut self,
        flow: &Arc<FlowInfo>,
        protocol: &'static str,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if !is_lateral(flow) || context.is_learned(flow) {
            return;
        }
        let logins = &mut self.sources.sign(&flow.orig, time).state;
        if logins.hosts.len() >= MAX_HOSTS || logins.hosts.contains_key(&flow.resp.ip) {
            return;
        }
        logins
            .hosts
            .insert(flow.resp.ip, flow.resp.who.identity.kind);
        logins.protocols.insert(protocol);
        let new = newness(flow, Duration::ZERO, context);
        if logins
            .newest
            .as_ref()
            .is_none_or(|known| known.bits < new.bits)
        {
            logins.newest = Some(new);
        }
        if logins.targets.len() < MOST_LISTED {
            logins.targets.push(Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: Some(protocol),
                domain: None,
            });
            logins.flows.push(Arc::clone(flow));
        }
        self.judge(&flow.orig, out);
    }

    fn turn(
        &mut self,
        flow: &Arc<FlowInfo>,
        turn: &Turn,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some(session) = self.sessions.get_mut(&flow.id) else {
            return;
        };
        session.dialogue.take(turn);
        if !session.counted && session.dialogue.is_in() {
            session.counted = true;
            self.login(flow, "ssh", turn.start, context, out);
        }
    }

    /// Keys count when they have become a habit, all at once and then one by one.
    fn exchange(&mut self, flow: &FlowInfo, exchange: &Exchange, out: &mut Findings) {
        let Some(session) = self.sessions.get_mut(&flow.id) else {
            return;
        };
        let key = exchange.asker == Direction::Orig
            && exchange.asked <= MOST_BYTES_PER_KEY
            && (1..=MOST_BYTES_PER_ECHO).contains(&exchange.answered)
            && KEYSTROKE.contains(&exchange.pause());
        if !session.counted {
            return;
        }
        // What opens a channel is as small as a key, but what runs a command in it isn't: hands go on with keys.
        let more_than_a_key =
            exchange.asker == Direction::Orig && exchange.asked > MOST_BYTES_PER_KEY;
        if more_than_a_key && session.keys < FEWEST_KEYS {
            session.keys = 0;
        }
        if !key {
            return;
        }
        session.keys = session.keys.saturating_add(1);
        if session.keys < FEWEST_KEYS {
            return;
        }
        let more = if session.keys == FEWEST_KEYS {
            FEWEST_KEYS
        } else {
            1
        };
        // Only where the login counted.
        if let Some(source) = self.sources.known(&flow.orig)
            && source.state.hosts.contains_key(&flow.resp.ip)
        {
            source.last = source.last.max(exchange.end);
            source.state.keys = source.state.keys.saturating_add(more);
            if more > 1 {
                self.judge(&flow.orig, out);
            }
        }
    }

    fn judge(&mut self, actor: &Endpoint, out: &mut Findings) {
        let alert_bits = self.alert_bits;
        if let Some(source) = self.sources.known(actor) {
            let size = source.state.hosts.len() as u64;
            if weigh(&source.state.evidence()) >= alert_bits && source.is_news(size) {
                out.push(finding(source));
            }
        }
    }
}

impl Logins {
    fn host_bits(&self) -> f64 {
        let beyond = |kind: &IdentityKind| !matches!(kind, IdentityKind::Pod | IdentityKind::Node);
        let unknown = self.hosts.values().filter(|kind| beyond(kind)).count();
        let known = self.hosts.len() - unknown;
        let (first, most, known, unknown) = if known == 0 {
            (
                BITS_TO_UNKNOWN,
                MOST_BITS_UNKNOWN,
                0,
                unknown.saturating_sub(1),
            )
        } else if self.hosts.values().any(|kind| *kind == IdentityKind::Pod) {
            (BITS_TO_POD, MOST_BITS, known - 1, unknown)
        } else {
            (BITS_TO_NODE, MOST_BITS, known - 1, unknown)
        };
        let further = BITS_PER_HOST * known as f64 + BITS_PER_UNKNOWN * unknown as f64;
        (first + further).min(most)
    }

    fn protocols(&self) -> String {
        let protocols: Vec<&str> = self.protocols.iter().copied().collect();
        protocols.join(", ")
    }

    fn evidence(&self) -> Vec<Evidence> {
        let count = self.hosts.len();
        let hosts = Evidence {
            feature: "login.hosts",
            family: Family::Volume,
            observed: count as f64,
            expected: "none, or always the same".into(),
            bits: self.host_bits(),
            signature_grade: false,
            text: format!(
                "was let in to {count} {} by {}",
                if count == 1 { "host" } else { "hosts" },
                self.protocols()
            ),
        };
        let typed = (self.keys > 0).then(|| Evidence {
            feature: "login.keys",
            family: Family::Timing,
            observed: f64::from(self.keys),
            expected: "0: programs don't type".into(),
            bits: BITS_TYPED,
            signature_grade: false,
            text: format!(
                "{} packets as keys make them, at the pauses of keys",
                self.keys
            ),
        });
        let mut evidence = vec![hosts];
        evidence.extend(self.newest.clone());
        evidence.extend(typed);
        evidence
    }
}

fn finding(source: &Watched<Logins>) -> Finding {
    let logins = &source.state;
    let count = logins.hosts.len();
    let plural = if count == 1 { "host" } else { "hosts" };
    let typed = if logins.keys > 0 {
        ", and somebody typed there"
    } else {
        ""
    };
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: logins.targets.clone(),
        target_count: count as u64,
        evidence: logins.evidence(),
        flows: logins.flows.clone(),
        summary: format!(
            "logged in to {} {plural} by {}{typed}",
            at_least(count as u64, MAX_HOSTS),
            logins.protocols()
        ),
    }
}

impl Detector for LateralLogin {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::TURN
                .and(EventKinds::EXCHANGE)
                .and(EventKinds::FLOW_ENDED),
            after: EventKinds::SSH,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Ssh(SshMessage::Encrypted),
            } if is_lateral(flow) => {
                let session = Session {
                    dialogue: Dialogue::after_keys(event.time),
                    counted: false,
                    keys: 0,
                };
                let evicted = self.sessions.push(flow.id, session);
                self.evicted += u64::from(evicted.is_some_and(|(id, _)| id != flow.id));
            }
            EventKind::Turn { flow, turn } => self.turn(flow, turn, context, out),
            EventKind::Exchange { flow, exchange, .. } => self.exchange(flow, exchange, out),
            EventKind::Recognised { flow, app } => {
                if let Some(protocol) = remote(app) {
                    self.login(flow, protocol, event.time, context, out);
                }
            }
            EventKind::FlowEnded { flow, .. } => {
                self.sessions.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        let sources = self.sources.state_size();
        StateSize {
            entries: sources.entries + self.sessions.len(),
            limit: sources.limit + self.sessions.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.sources.losses();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
