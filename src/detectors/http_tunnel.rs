//! `http-tunnel`: a conversation of another kind carried by plain HTTP.
//!
//! HTTP asks and answers, so a tunnel has to bend it, in one of four ways. It asks a proxy for a raw connection (CONNECT)
//! to what no web client goes to, or speaks something else there than it should. It sends and receives at once in one
//! exchange. It holds a request open to trickle data up, and another to trickle them down. Or it polls one address for
//! short, with bodies that hide what they are, or asks it for orders until there is one. Some tools also give themselves away in the request.

mod connects;
mod held;
mod orders;
mod polls;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::channels::{Channel, Channels, Verdict, channel_key};
use super::newness::newness;
use super::{Context, Detector, DetectorSpec, Evidence, Family, Findings, StateSize};
use crate::dissect::{BodyLooks, Content, HttpExchange, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::identity::IdentityKind;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;
use connects::Connects;
use held::Held;
use orders::{Orders, brings};
use polls::Polls;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "http-tunnel",
    sees: EventKinds::HTTP
        .and(EventKinds::TUNNEL)
        .and(EventKinds::OPENING)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(HttpTunnel {
            channels: Channels::new(SPEC.id, signature.alert_bits, thresholds.max_channels),
            thresholds,
        }))
    },
};

/// A tool that gives itself away.
const BITS_TOOL: f64 = 26.0;
/// A body that begins like SSH or TLS: no upload does.
const BITS_CARRIES: f64 = 24.0;
/// That a line began while we watched tells less than that a baseline doesn't know it.
const MOST_BITS_BEGAN: f64 = 5.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_channels: usize,
    /// Fewer exchanges with one address are no polling.
    min_polls: u64,
    /// Exchanges slower than one in so many seconds are no polling.
    slowest_poll_secs: f64,
    /// A request is held open when it has been sending for so long,
    held_secs: f64,
    /// in at least so many bursts.
    held_bursts: u32,
}

struct HttpTunnel {
    channels: Channels<Seen>,
    thresholds: Thresholds,
}

/// What was seen on a line.
#[derive(Debug, Default)]
struct Seen {
    host: Option<Arc<str>>,
    tool: Option<&'static str>,
    carries: Option<&'static str>,
    connects: Connects,
    held: Held,
    polls: Polls,
    orders: Orders,
}

fn judge(
    channel: &Channel<Seen>,
    thresholds: &Thresholds,
    context: &Context<'_>,
) -> Option<Verdict> {
    let seen = &channel.seen;
    let mut evidence = Vec::new();
    let mut stands = |feature, expected: &str, bits, text| {
        evidence.push(Evidence {
            feature,
            family: Family::Protocol,
            observed: 1.0,
            expected: expected.to_owned(),
            bits,
            signature_grade: true,
            text,
        });
    };
    if let Some(tool) = seen.tool {
        let text = format!("the request is that of the tunnel {tool}");
        stands("http.tool", "an application's requests", BITS_TOOL, text);
    }
    if let Some(name) = seen.carries {
        let text = format!("a body that begins like {}", name.to_uppercase());
        stands(
            "http.body_carries",
            "a document, a form, a file",
            BITS_CARRIES,
            text,
        );
    }
    let connects = seen.connects.evidence(channel);
    let held = seen.held.evidence(thresholds);
    let polls = seen.polls.evidence(thresholds);
    let orders = seen.orders.evidence(thresholds);
    let what = match (seen.tool, seen.carries) {
        (Some(tool), _) => format!("what {tool} carries"),
        (None, Some(name)) => name.to_uppercase(),
        _ if !connects.is_empty() => seen.connects.summary(),
        _ if !held.is_empty() => "a stream both ways".to_owned(),
        _ if !polls.is_empty() => "hidden data both ways".to_owned(),
        _ if !orders.is_empty() => "orders, and hidden reports,".to_owned(),
        _ => return None,
    };
    evidence.extend(connects);
    evidence.extend(held);
    evidence.extend(polls);
    evidence.extend(orders);
    evidence.extend(channel.novelty(context).or_else(|| began(channel, context)));
    let other = channel.other_name(seen.host.as_deref());
    let summary = if channel.outward {
        format!("tunnels {what} through HTTP to {other}")
    } else {
        format!(
            "serves a tunnel: {what} through HTTP from {}",
            channel.other.ip
        )
    };
    Some(Verdict {
        evidence,
        protocol: "http",
        summary,
    })
}

/// Whether somebody outside is asked, who may give orders.
fn is_outside(flow: &FlowInfo) -> bool {
    flow.resp.who.identity.kind == IdentityKind::External
}

/// Without a baseline: whether somebody outside was first called long after the client was first seen.
fn began(channel: &Channel<Seen>, context: &Context<'_>) -> Option<Evidence> {
    let flow = channel.flow()?;
    let outside = channel.outward && channel.other.who.identity.kind == IdentityKind::External;
    let mut new = outside.then(|| newness(flow, Duration::ZERO, context))?;
    new.bits = new.bits.min(MOST_BITS_BEGAN);
    (new.bits > 0.0).then_some(new)
}

impl HttpTunnel {
    /// Takes what was seen into the flow's line; says whether it may be news.
    fn take(&mut self, flow: &Arc<FlowInfo>, time: Timestamp, transaction: &Transaction) -> bool {
        match transaction {
            Transaction::HttpRequest(request) if request.tool.is_some() => {
                let seen = &mut self.channels.see(flow, time).seen;
                seen.tool = request.tool;
                seen.host.clone_from(&request.host);
                true
            }
            Transaction::HttpRequest(request) if is_outside(flow) => {
                let brings = brings(&request.method, request.content_length);
                let seen = &mut self.channels.see(flow, time).seen;
                seen.host.clone_from(&request.host);
                seen.orders.request(flow.id, time, brings);
                false
            }
            Transaction::HttpResponse(response) if is_outside(flow) => {
                let seen = &mut self.channels.see(flow, time).seen;
                seen.orders.answer(flow.id, response.content_length);
                false
            }
            Transaction::HttpExchange(exchange) => self.exchange(flow, time, exchange),
            Transaction::TunnelOpened(opened) if opened.carrier == "connect" => {
                let seen = &mut self.channels.see(flow, time).seen;
                seen.connects.opened(flow.id, opened);
                true
            }
            Transaction::Carried(carried) if carried.carrier == "connect" => {
                let seen = &mut self.channels.see(flow, time).seen;
                match &carried.content {
                    Content::Protocol(name) => seen.connects.inside(flow.id, name),
                    Content::Message(message) => match &**message {
                        Transaction::Opening(opening) => seen.connects.unknown(flow.id, opening),
                        _ => return false,
                    },
                }
                true
            }
            _ => false,
        }
    }

    fn exchange(&mut self, flow: &Arc<FlowInfo>, time: Timestamp, exchange: &HttpExchange) -> bool {
        let seen = &mut self.channels.see(flow, time).seen;
        for body in [&exchange.request, &exchange.response] {
            if let BodyLooks::Carries(name) = body.looks {
                seen.carries = Some(name);
            }
        }
        seen.held.take(flow.id, time, exchange);
        seen.polls.take(time, exchange);
        seen.orders.exchange(exchange);
        true
    }
}

impl Detector for HttpTunnel {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction { flow, transaction }
                if self.take(flow, event.time, transaction) =>
            {
                let thresholds = self.thresholds;
                let judge = |channel: &Channel<Seen>| judge(channel, &thresholds, context);
                self.channels
                    .report(&channel_key(flow), context, judge, out);
            }
            EventKind::FlowEnded { flow, record } => self.channels.ended(flow, record),
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        let judge = |channel: &Channel<Seen>| judge(channel, &self.thresholds, context);
        self.channels.finish(context, judge, out);
    }

    fn state_size(&self) -> StateSize {
        self.channels.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.channels.losses()
    }
}
