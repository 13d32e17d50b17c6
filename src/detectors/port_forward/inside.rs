//! Ports forwarded into a pod, as its own loopback shows them.
//!
//! Whoever forwards a port dials the server at the loopback, where a pod's own programs speak to it as well. But the client far
//! away calls another port, its own machine's, and HTTP's requests say which: `Host: localhost:28080` at port 8080. Programs of
//! the pod name the port that they dial; a proxy in the pod that leaves the name as it is serves that port itself.

use std::sync::Arc;

use super::super::watch::{Watch, Watched, weigh};
use super::super::{Evidence, Family, Finding, Findings, StateSize, Target};
use super::{MOST_LISTED, SPEC, Thresholds, target};
use crate::address::NetworkId;
use crate::dissect::HttpRequest;
use crate::event::FlowInfo;
use crate::features::Bounded;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// A request at the loopback that names another port of the client's own machine, which nobody serves here: what a forwarded
/// port makes of it, and nothing else that is known.
const BITS_FORWARDED: f64 = 12.0;

/// Requests that came through forwarded ports.
pub(super) struct Inside {
    alert_bits: f64,
    /// Ports of the loopback that somebody serves.
    served: Bounded<(NetworkId, u16), ()>,
    clients: Watch<Forwarded>,
    evicted: u64,
}

#[derive(Default)]
struct Forwarded {
    requests: u64,
    /// As whom the last one asked, and where it came out.
    called: Arc<str>,
    port: u16,
    targets: Vec<Target>,
    flows: Vec<Arc<FlowInfo>>,
}

fn is_inside(flow: &FlowInfo) -> bool {
    flow.orig.ip.is_loopback() && flow.resp.ip.is_loopback() && flow.service.is_none()
}

/// Whether a name means the machine of who uses it.
fn is_own(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

impl Inside {
    pub(super) fn new(alert_bits: f64, thresholds: Thresholds) -> Self {
        Self {
            alert_bits,
            served: Bounded::new(thresholds.max_streams),
            clients: Watch::new(thresholds.max_streams, thresholds.forget_after_secs),
            evicted: 0,
        }
    }

    /// Somebody was answered.
    pub(super) fn answered(&mut self, flow: &FlowInfo) {
        if is_inside(flow) {
            let key = (flow.network, flow.resp_port);
            let evicted = self.served.push(key, ());
            self.evicted += u64::from(evicted.is_some_and(|(other, ())| other != key));
        }
    }

    /// Somebody asks.
    pub(super) fn asked(
        &mut self,
        flow: &Arc<FlowInfo>,
        request: &HttpRequest,
        time: Timestamp,
        out: &mut Findings,
    ) {
        let (Some(host), Some(port)) = (&request.host, request.host_port) else {
            return;
        };
        if !is_inside(flow)
            || port == flow.resp_port
            || !is_own(host)
            || self.served.contains(&(flow.network, port))
        {
            return;
        }
        let client = self.clients.sign(&flow.orig, time);
        let state = &mut client.state;
        state.requests = state.requests.saturating_add(1);
        state.called = format!("{host}:{port}").into();
        state.port = flow.resp_port;
        if state.flows.len() < MOST_LISTED && state.flows.iter().all(|known| known.id != flow.id) {
            let fresh = state
                .targets
                .iter()
                .all(|known| known.port != Some(flow.resp_port));
            state.targets.extend(fresh.then(|| target(flow, "http")));
            state.flows.push(Arc::clone(flow));
        }
        let size = state.requests;
        if weigh(&[state.evidence()]) >= self.alert_bits && client.is_news(size) {
            out.push(finding(client));
        }
    }

    /// The last words of those not heard of for long.
    pub(super) fn stale(&mut self, now: Timestamp) -> Vec<Finding> {
        self.clients.stale(now).iter().map(finding).collect()
    }

    /// The last words of all.
    pub(super) fn all(&mut self) -> Vec<Finding> {
        self.clients.all().iter().map(finding).collect()
    }

    pub(super) fn state_size(&self) -> StateSize {
        let clients = self.clients.state_size();
        StateSize {
            entries: self.served.len() + clients.entries,
            limit: self.served.limit() + clients.limit,
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = self.clients.losses();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

impl Forwarded {
    fn evidence(&self) -> Evidence {
        Evidence {
            feature: "stream.other_port",
            family: Family::Protocol,
            observed: self.requests as f64,
            expected: "0: programs name the port that they dial".into(),
            bits: BITS_FORWARDED,
            signature_grade: false,
            text: format!(
                "asked for {} at port {} of the loopback, where nobody serves that port",
                self.called, self.port
            ),
        }
    }
}

fn finding(client: &Watched<Forwarded>) -> Finding {
    let state = &client.state;
    Finding {
        signature: SPEC.id,
        subject: "on the loopback".into(),
        actor: client.actor.clone(),
        first: client.first,
        last: client.last,
        targets: state.targets.clone(),
        target_count: state.targets.len() as u64,
        evidence: vec![state.evidence()],
        flows: state.flows.clone(),
        summary: format!(
            "reached port {} on the inside as {}: a port of somebody else's machine is forwarded here",
            state.port, state.called
        ),
    }
}
