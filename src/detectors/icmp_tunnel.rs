//! `icmp-tunnel`: data carried in ping requests and replies.
//!
//! Ping programs send filler: a time stamp and a pattern that stays the same, and whoever is asked returns it. Data must
//! change the payload, ping after ping, and answers that bear data must differ from what was asked. Neither depends on
//! rate, size or tool. Words of the payload are compared with those the same end sent before, so that several tools, sizes
//! and restarts of an honest monitor count once each. A whole IP packet inside an echo stands on its own.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::channels::total_bits;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{Echo, EchoFill, Returned, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Role, push_tight};
use crate::flow::{Direction, Protocol};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "icmp-tunnel",
    sees: EventKinds::ECHO,
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(IcmpTunnel::new(thresholds, signature.alert_bits)))
    },
};

/// Values remembered of each word: as many tools or sizes may take turns.
const MEMORY: usize = 8;
/// A time stamp and what tools put beside it changes with every ping.
const FREE_WORDS: usize = 3;
/// Each payload more than the first two is a factor of 16: it takes another tool or another version of one.
const BITS_PER_CHANGE: f64 = 4.0;
/// The first payload of either end is no change.
const FIRST_PAYLOADS: f64 = 2.0;
/// A reply that is damaged on the way, or comes from a host that breaks the rule.
const BITS_PER_DIFFERENT_REPLY: f64 = 6.0;
/// Certainty doesn't grow for ever.
const MAX_BITS: f64 = 40.0;
const BITS_PACKET_INSIDE: f64 = 24.0;
const BITS_TEXT: f64 = 6.0;
const BITS_UNASKED: f64 = 6.0;
/// Fewer unasked replies are the end of something that began before the capture did.
const MIN_UNASKED: u64 = 4;
const MAX_SAMPLES: usize = 4;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Old payloads fade: their number halves in this time.
    half_life_secs: f64,
    max_pairs: usize,
}

/// Two hosts, the lesser address first.
type PairKey = (IpAddr, IpAddr);

struct IcmpTunnel {
    thresholds: Thresholds,
    alert_bits: f64,
    pairs: Bounded<PairKey, Pair>,
    evicted: u64,
    reported: BTreeSet<PairKey>,
}

/// What two hosts sent one another.
struct Pair {
    actor: Endpoint,
    peer: Endpoint,
    protocol: Protocol,
    first: Timestamp,
    last: Timestamp,
    from_actor: Side,
    from_peer: Side,
    /// Payloads that bore something new, faded as of `last`.
    changes: f64,
    changes_total: u64,
    texts: u64,
    different: u64,
    unasked: u64,
    packets: u64,
    samples: Vec<Arc<FlowInfo>>,
    /// Bytes carried at the last report; the next is due a factor of two later.
    reported_bytes: Option<u64>,
}

/// What one host sent.
#[derive(Default)]
struct Side {
    words: [[u16; MEMORY]; Echo::WORDS],
    rests: [u32; MEMORY],
    /// Bytes that were new.
    carried: u64,
}

impl Side {
    /// How many bytes of an echo this end had not sent before, and whether so many that it bears something.
    fn take(&mut self, echo: &Echo) -> (u64, bool) {
        let told_apart = echo.word_count();
        let mut new = 0;
        for (known, word) in self.words.iter_mut().zip(echo.words).take(told_apart) {
            new += usize::from(learn(known, word));
        }
        let mut total = told_apart;
        let rest = (echo.len as usize).saturating_sub(Echo::WORDS * Echo::WORD_LEN);
        if rest > 0 {
            let words = rest.div_ceil(Echo::WORD_LEN);
            total += words;
            if learn(&mut self.rests, echo.rest) {
                new += words;
            }
        }
        let bears = total > FREE_WORDS && (new == total || new > FREE_WORDS);
        ((new * Echo::WORD_LEN).min(echo.len as usize) as u64, bears)
    }
}

/// Remembers a value; whether it was new.
fn learn<T: Copy + PartialEq>(known: &mut [T; MEMORY], value: T) -> bool {
    let new = !known.contains(&value);
    if new {
        known.rotate_right(1);
        let [newest, ..] = known;
        *newest = value;
    }
    new
}

impl Pair {
    fn new(flow: &FlowInfo, time: Timestamp) -> Self {
        let (orig, resp) = (&flow.orig, &flow.resp);
        // Who answers pings with something else is under control just as who sends them.
        let (actor, peer) = if !is_inside(orig) && is_inside(resp) {
            (resp, orig)
        } else {
            (orig, resp)
        };
        Self {
            actor: actor.clone(),
            peer: peer.clone(),
            protocol: flow.protocol,
            first: time,
            last: time,
            from_actor: Side::default(),
            from_peer: Side::default(),
            changes: 0.0,
            changes_total: 0,
            texts: 0,
            different: 0,
            unasked: 0,
            packets: 0,
            samples: Vec::new(),
            reported_bytes: None,
        }
    }

    fn carried(&self) -> u64 {
        self.from_actor.carried + self.from_peer.carried
    }

    fn take(&mut self, flow: &Arc<FlowInfo>, echo: &Echo, time: Timestamp, half_life: f64) {
        let idle = time.since(self.last).as_secs_f64();
        self.changes *= (-idle / half_life).exp2();
        self.last = self.last.max(time);
        self.packets += u64::from(echo.fill == EchoFill::IpPacket);
        self.different += u64::from(echo.returned == Returned::Different);
        self.unasked += u64::from(!echo.request && echo.returned == Returned::Unknown);
        let sender = match echo.direction {
            Direction::Orig => flow.orig.ip,
            Direction::Resp => flow.resp.ip,
        };
        // What was returned is the other end's.
        if echo.returned == Returned::Same {
            return;
        }
        let side = if sender == self.actor.ip {
            &mut self.from_actor
        } else {
            &mut self.from_peer
        };
        let (new, bears) = side.take(echo);
        if bears || echo.returned == Returned::Different {
            side.carried += new;
        }
        if bears {
            self.changes += 1.0;
            self.changes_total += 1;
            self.texts += u64::from(echo.fill == EchoFill::Text);
        }
        if self.samples.len() < MAX_SAMPLES
            && self.samples.last().is_none_or(|last| last.id != flow.id)
        {
            push_tight(&mut self.samples, Arc::clone(flow));
        }
    }

    fn evidence(&self, context: &Context<'_>) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: f64, expected: &str, bits, text| {
            evidence.push(Evidence {
                feature,
                family,
                observed,
                expected: expected.into(),
                bits,
                signature_grade: false,
                text,
            });
        };
        let change_bits = (self.changes - FIRST_PAYLOADS) * BITS_PER_CHANGE;
        if change_bits > 0.0 {
            add(
                "icmp.changing_payloads",
                Family::Volume,
                self.changes.round(),
                "≤ 2: a ping's filler stays the same",
                change_bits.min(MAX_BITS),
                format!(
                    "{} pings bore something new, {} bytes in all",
                    self.changes_total,
                    self.carried()
                ),
            );
        }
        if self.different > 0 {
            add(
                "icmp.replies_differ",
                Family::Protocol,
                self.different as f64,
                "0: a reply returns what was asked",
                (self.different as f64 * BITS_PER_DIFFERENT_REPLY).min(MAX_BITS),
                format!(
                    "{} replies bore something else than the request they answer",
                    self.different
                ),
            );
        }
        if self.unasked >= MIN_UNASKED {
            add(
                "icmp.replies_unasked",
                Family::Protocol,
                self.unasked as f64,
                "0",
                BITS_UNASKED,
                format!("{} different replies that answer no request", self.unasked),
            );
        }
        if self.changes_total > 4 && self.texts * 2 > self.changes_total {
            add(
                "icmp.text_payloads",
                Family::Protocol,
                self.texts as f64,
                "0: fillers are patterns",
                BITS_TEXT,
                format!("{} of the payloads are text, each another", self.texts),
            );
        }
        if let Some(profile) = context.profile(&self.actor)
            && let Some(flow) = self.samples.first()
            && flow.orig.ip == self.actor.ip
            && !context.is_learned(flow)
        {
            add(
                "icmp.new_peer",
                Family::Novelty,
                1.0,
                "a peer it has pinged before",
                profile.novelty_bits(Role::Client),
                "the workload never pinged this host in its baseline".into(),
            );
        }
        if self.packets > 0 {
            evidence.push(Evidence {
                feature: "icmp.packet_inside",
                family: Family::Protocol,
                observed: self.packets as f64,
                expected: "0: only errors quote packets".into(),
                bits: BITS_PACKET_INSIDE,
                signature_grade: true,
                text: format!("{} pings hold a whole IP packet", self.packets),
            });
        }
        evidence
    }

    fn finding(&self, evidence: Vec<Evidence>) -> Finding {
        Finding {
            signature: SPEC.id,
            subject: self.peer.ip.to_string(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(self.peer.clone()),
                port: None,
                protocol: Some(if self.protocol == Protocol::Icmpv6 {
                    "icmpv6"
                } else {
                    "icmp"
                }),
                domain: None,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary: format!(
                "sent {} bytes of data in pings to {}, and got {} back",
                self.from_actor.carried, self.peer.ip, self.from_peer.carried
            ),
        }
    }
}

fn is_inside(end: &Endpoint) -> bool {
    !matches!(
        end.who.identity.kind,
        IdentityKind::External | IdentityKind::Unknown
    )
}

impl IcmpTunnel {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        let limit = thresholds.max_pairs;
        Self {
            thresholds,
            alert_bits,
            pairs: Bounded::new(limit),
            evicted: 0,
            reported: BTreeSet::new(),
        }
    }
}

impl Detector for IcmpTunnel {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::Transaction {
            flow,
            transaction: Transaction::Echo(echo),
        } = &event.kind
        else {
            return;
        };
        let (one, other) = (flow.orig.ip, flow.resp.ip);
        let key = (one.min(other), one.max(other));
        if !self.pairs.contains(&key)
            && let Some((old, _)) = self.pairs.push(key, Pair::new(flow, event.time))
        {
            self.evicted += 1;
            self.reported.remove(&old);
        }
        let Some(pair) = self.pairs.get_mut(&key) else {
            return;
        };
        pair.take(flow, echo, event.time, self.thresholds.half_life_secs);
        let carried = pair.carried();
        if pair
            .reported_bytes
            .is_some_and(|before| carried < before.saturating_mul(2))
        {
            return;
        }
        let evidence = pair.evidence(context);
        if total_bits(&evidence) >= self.alert_bits {
            pair.reported_bytes = Some(carried.max(1));
            self.reported.insert(key);
            out.push(pair.finding(evidence));
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            if let Some(pair) = self.pairs.peek(&key) {
                out.push(pair.finding(pair.evidence(context)));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pairs.len(),
            limit: self.thresholds.max_pairs,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
