//! What the tunnel detectors share: lines from one of ours to somebody else, over all connections; when to report one.
//!
//! A line belongs to whoever of its two ends is ours (inside, else the one that began), so that an alert names the pod
//! whichever way a tunnel was opened. It is reported when its evidence suffices, again when that or the number of its
//! connections has grown much, and once more when the input ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Context, Evidence, Family, Finding, Findings, StateSize, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::features::{Bounded, SourceKey, source_key};
use crate::flow::{FlowId, FlowRecord};
use crate::identity::IdentityKind;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Example flows kept per line.
const MAX_SAMPLES: usize = 8;
/// Bits more after which a line is reported again.
const NEWS_BITS: f64 = 4.0;

/// Whose line, with whom, at which port of the server's.
pub(super) type ChannelKey = (SourceKey, IpAddr, u16);

/// One line.
#[derive(Debug)]
pub(super) struct Channel<T> {
    pub(super) actor: Endpoint,
    pub(super) other: Endpoint,
    pub(super) port: u16,
    /// Whether ours began it.
    pub(super) outward: bool,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// Connections that had something to it.
    pub(super) connections: u64,
    /// Payload bytes of those that are over: what ours sent, and what it got.
    pub(super) bytes: [u64; 2],
    newest: FlowId,
    flows: Vec<Arc<FlowInfo>>,
    told: Option<Told>,
    /// What the detector has seen on it.
    pub(super) seen: T,
}

/// How things stood at the last report.
#[derive(Clone, Copy, Debug)]
struct Told {
    bits: f64,
    connections: u64,
}

/// What a detector makes of a line.
pub(super) struct Verdict {
    pub(super) evidence: Vec<Evidence>,
    /// The protocol named for the target.
    pub(super) protocol: &'static str,
    pub(super) summary: String,
}

/// The lines of a detector, the least recently used forgotten first.
#[derive(Debug)]
pub(super) struct Channels<T> {
    signature: &'static str,
    alert_bits: f64,
    lines: Bounded<ChannelKey, Channel<T>>,
    evicted: u64,
}

/// Which end of a flow is ours, and which is the other.
pub(super) fn sides(flow: &FlowInfo) -> (&Endpoint, &Endpoint) {
    let inside = |end: &Endpoint| end.who.identity.kind != IdentityKind::External;
    if !inside(&flow.orig) && inside(&flow.resp) {
        (&flow.resp, &flow.orig)
    } else {
        (&flow.orig, &flow.resp)
    }
}

/// The line that a flow belongs to.
pub(super) fn channel_key(flow: &FlowInfo) -> ChannelKey {
    let (ours, other) = sides(flow);
    (source_key(ours), other.ip, flow.resp_port)
}

impl<T: Default> Channels<T> {
    pub(super) fn new(signature: &'static str, alert_bits: f64, limit: usize) -> Self {
        Self {
            signature,
            alert_bits,
            lines: Bounded::new(limit),
            evicted: 0,
        }
    }

    /// The flow's line, which something was seen on at `time`.
    pub(super) fn see(&mut self, flow: &Arc<FlowInfo>, time: Timestamp) -> &mut Channel<T> {
        let key = channel_key(flow);
        let (channel, gone) = self.lines.entry_or_insert_with(key, || {
            let (ours, other) = sides(flow);
            Channel {
                actor: ours.clone(),
                other: other.clone(),
                port: flow.resp_port,
                outward: std::ptr::eq(ours, &raw const flow.orig),
                first: flow.start,
                last: time,
                connections: 0,
                bytes: [0, 0],
                newest: FlowId::default(),
                flows: Vec::new(),
                told: None,
                seen: T::default(),
            }
        });
        self.evicted += u64::from(gone.is_some());
        channel.last = channel.last.max(time);
        // Flows are numbered in order of opening; one that comes up again after a younger one was counted already.
        if channel.connections == 0 || flow.id > channel.newest {
            channel.newest = flow.id;
            channel.connections += 1;
            if channel.flows.len() < MAX_SAMPLES {
                channel.flows.push(Arc::clone(flow));
            }
        }
        channel
    }

    /// The flow's line, if it is known; something was seen on it at `time`.
    pub(super) fn known(&mut self, flow: &FlowInfo, time: Timestamp) -> Option<&mut Channel<T>> {
        let channel = self.lines.peek_mut(&channel_key(flow))?;
        channel.last = channel.last.max(time);
        Some(channel)
    }

    /// A flow is over: if its line is known, its end and its bytes are the line's.
    pub(super) fn ended(&mut self, flow: &FlowInfo, record: &FlowRecord) {
        if let Some(channel) = self.lines.peek_mut(&channel_key(flow)) {
            channel.last = channel.last.max(record.end);
            let [orig, resp] = record.payload_bytes;
            let (sent, got) = if channel.outward {
                (orig, resp)
            } else {
                (resp, orig)
            };
            let [all_sent, all_got] = &mut channel.bytes;
            *all_sent += sent;
            *all_got += got;
        }
    }

    /// Reports a line if its evidence suffices and is news.
    pub(super) fn report(
        &mut self,
        key: &ChannelKey,
        context: &Context<'_>,
        judge: impl Fn(&Channel<T>) -> Option<Verdict>,
        out: &mut Findings,
    ) {
        let Some(channel) = self.lines.peek_mut(key) else {
            return;
        };
        let Some(verdict) = judge(channel) else {
            return;
        };
        let bits = total_bits(&verdict.evidence);
        let news = channel.told.is_none_or(|told| {
            bits >= told.bits + NEWS_BITS || channel.connections >= told.connections * 2
        });
        if bits < self.alert_bits || !news {
            return;
        }
        channel.told = Some(Told {
            bits,
            connections: channel.connections,
        });
        out.push(finding(self.signature, channel, verdict, context));
    }

    /// The input is over: the last word on every line that was reported.
    pub(super) fn finish(
        &self,
        context: &Context<'_>,
        judge: impl Fn(&Channel<T>) -> Option<Verdict>,
        out: &mut Findings,
    ) {
        let told: BTreeMap<_, _> = self
            .lines
            .iter()
            .filter(|(_, channel)| channel.told.is_some())
            .collect();
        for channel in told.into_values() {
            if let Some(verdict) = judge(channel) {
                out.push(finding(self.signature, channel, verdict, context));
            }
        }
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.lines.len(),
            limit: self.lines.limit(),
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

impl<T> Channel<T> {
    /// The other end in words: `db.example (192.0.2.7:443)`.
    pub(super) fn other_name(&self, name: Option<&str>) -> String {
        match name {
            Some(name) => format!("{name} ({}:{})", self.other.ip, self.port),
            None => format!("{}:{}", self.other.ip, self.port),
        }
    }

    /// The first connection that had something to it.
    pub(super) fn flow(&self) -> Option<&FlowInfo> {
        self.flows.first().map(|flow| &**flow)
    }

    /// What the baseline says of the contact: bits of surprise if the workload never made it, a deduction if it is used to
    /// it, nothing if there is no baseline of the workload.
    pub(super) fn novelty(&self, context: &Context<'_>) -> Option<Evidence> {
        let flow = self.flows.first()?;
        let profile = context.profile(&self.actor)?;
        let (contact, role) = if self.outward {
            (
                context.peers.client_contact(flow)?,
                crate::features::Role::Client,
            )
        } else {
            (
                context.peers.server_contact(flow)?,
                crate::features::Role::Server,
            )
        };
        let known = profile.knows(&contact);
        let bits = if known {
            KNOWN_BITS
        } else {
            profile.novelty_bits(role)
        };
        Some(Evidence {
            feature: "peer.novelty",
            family: Family::Novelty,
            observed: f64::from(u8::from(!known)),
            expected: format!("one of {} peers known", profile.peer_count(role)),
            bits,
            signature_grade: false,
            text: if known {
                format!("the workload's baseline knows {}", contact.peer)
            } else {
                format!("the workload never met {} in its baseline", contact.peer)
            },
        })
    }
}

/// What a workload does as a matter of course is that much less of a sign.
const KNOWN_BITS: f64 = -8.0;

fn finding<T>(
    signature: &'static str,
    channel: &Channel<T>,
    verdict: Verdict,
    context: &Context<'_>,
) -> Finding {
    let domain = context.peers.domain(channel.actor.ip, channel.other.ip);
    Finding {
        signature,
        subject: format!("{}:{}", channel.other.ip, channel.port),
        actor: channel.actor.clone(),
        first: channel.first,
        last: channel.last,
        targets: vec![Target {
            endpoint: Some(channel.other.clone()),
            port: Some(channel.port),
            protocol: Some(verdict.protocol),
            domain: domain.cloned(),
        }],
        target_count: 1,
        evidence: verdict.evidence,
        flows: channel.flows.clone(),
        summary: verdict.summary,
    }
}

/// The strongest of each family, summed.
pub(super) fn total_bits(evidence: &[Evidence]) -> f64 {
    let mut families: BTreeMap<Family, f64> = BTreeMap::new();
    for item in evidence {
        families
            .entry(item.family)
            .and_modify(|best| *best = best.max(item.bits))
            .or_insert(item.bits);
    }
    families.values().sum()
}
