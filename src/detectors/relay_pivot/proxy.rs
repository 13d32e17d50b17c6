//! A proxy by which somebody outside reaches what is inside.
//!
//! A client of SOCKS, or of a web proxy, says whom it wants. Proxies of a cluster's own let those inside out; that
//! somebody outside names a private address, or a name that only the cluster knows, is no honest proxy's use. What a
//! scanner from outside asks for in vain is left out: SOCKS must have agreed, and of the web the pod must have asked on.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Endpoint, Evidence, Finding, FlowInfo, SourceKey, Target, source_key};
use crate::address::is_private;
use crate::detectors::Family;
use crate::dissect::HttpRequest;
use crate::features::{Bounded, is_outside, push_tight};
use crate::memory::Share;
use crate::time::Timestamp;

/// By itself enough: no honest use is known.
const BITS_LETS_IN: f64 = 20.0;
const MAX_PROXIES: usize = 1024;
/// Requests for a proxy that wait to be asked on.
const MAX_WAITING: usize = 256;
/// How long one does.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shown on an alert.
const MAX_TARGETS: usize = 8;
const MAX_SAMPLES: usize = 8;
/// Ends of names that mean nothing outside.
const INSIDE: [&str; 4] = [".local", ".internal", ".svc", ".localhost"];

/// Pods that let somebody in.
pub(super) struct Proxies {
    /// By the pod and the port that it serves on.
    seen: Bounded<(SourceKey, u16), LetIn>,
    waiting: VecDeque<Waiting>,
    evicted: u64,
}

struct Waiting {
    flow: Arc<FlowInfo>,
    time: Timestamp,
    host: Arc<str>,
    path: Arc<str>,
}

struct LetIn {
    first: Timestamp,
    last: Timestamp,
    carrier: &'static str,
    targets: Vec<Arc<str>>,
    flows: Vec<Arc<FlowInfo>>,
    count: u64,
    told: u64,
}

/// Whether a host that a proxy is asked for can only be meant from inside.
fn is_inside(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) => is_private(ip),
        Err(_) => !host.contains('.') || INSIDE.iter().any(|end| host.ends_with(end)),
    }
}

impl Proxies {
    pub(super) fn new(share: Share) -> Self {
        Self {
            seen: Bounded::new(share.part(MAX_PROXIES)),
            waiting: VecDeque::new(),
            evicted: 0,
        }
    }

    /// By SOCKS a pod agreed to reach a target (`host:port`).
    pub(super) fn agreed(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        target: &Arc<str>,
    ) -> Option<Finding> {
        let host = target.rsplit_once(':').map_or(&**target, |(host, _)| host);
        if !is_outside(&flow.orig) || is_outside(&flow.resp) || !is_inside(host) {
            return None;
        }
        self.let_in(flow, time, target, "SOCKS")
    }

    /// A request of the web's: one for a proxy, or one that a pod asks on.
    pub(super) fn request(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        request: &HttpRequest,
    ) -> Option<Finding> {
        let host = request.host.as_ref()?;
        let comes_in = is_outside(&flow.orig) && !is_outside(&flow.resp);
        if request.for_proxy && comes_in && is_inside(host) {
            if self.waiting.len() >= MAX_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting {
                flow: Arc::clone(flow),
                time,
                host: Arc::clone(host),
                path: Arc::clone(&request.path),
            });
            return None;
        }
        let at = self.waiting.iter().position(|one| {
            one.flow.resp.ip == flow.orig.ip
                && one.host == *host
                && one.path == request.path
                && time.since(one.time) <= PATIENCE
        })?;
        let asked = self.waiting.remove(at)?;
        self.let_in(&asked.flow, time, &asked.host, "HTTP")
    }

    fn let_in(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        target: &Arc<str>,
        carrier: &'static str,
    ) -> Option<Finding> {
        let key = (source_key(&flow.resp), flow.resp_port);
        let (seen, gone) = self.seen.entry_or_insert_with(key, || LetIn {
            first: flow.start,
            last: time,
            carrier,
            targets: Vec::new(),
            flows: Vec::new(),
            count: 0,
            told: 0,
        });
        self.evicted += u64::from(gone.is_some());
        seen.last = seen.last.max(time);
        seen.count = seen.count.saturating_add(1);
        if seen.targets.len() < MAX_TARGETS && !seen.targets.contains(target) {
            push_tight(&mut seen.targets, Arc::clone(target));
        }
        if seen.flows.len() < MAX_SAMPLES && seen.flows.iter().all(|known| known.id != flow.id) {
            push_tight(&mut seen.flows, Arc::clone(flow));
        }
        if seen.count < seen.told.saturating_mul(2) {
            return None;
        }
        seen.told = seen.count;
        Some(seen.finding(flow))
    }

    /// Remembered at the moment.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.seen.limit()
    }

    /// Forgotten for want of room.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl LetIn {
    fn finding(&self, flow: &FlowInfo) -> Finding {
        let Self {
            carrier, targets, ..
        } = self;
        let client: &Endpoint = &flow.orig;
        let listed: Vec<&str> = targets.iter().map(AsRef::as_ref).collect();
        let listed = listed.join(", ");
        let named = targets.iter().map(|target| Target {
            endpoint: None,
            port: None,
            protocol: Some("tcp"),
            domain: Some(Arc::clone(target)),
        });
        let from = Target {
            endpoint: Some(client.clone()),
            port: None,
            protocol: None,
            domain: None,
        };
        Finding {
            signature: super::SPEC.id,
            subject: format!("port {}", flow.resp_port),
            actor: flow.resp.clone(),
            first: self.first,
            last: self.last,
            targets: named.chain([from]).collect(),
            target_count: targets.len() as u64,
            evidence: vec![Evidence {
                feature: "relay.lets_in",
                family: Family::Protocol,
                observed: self.count as f64,
                expected: "proxies that let out".into(),
                bits: BITS_LETS_IN,
                signature_grade: true,
                text: format!(
                    "{} outside asked it by {carrier}, {} times, for what is inside: {listed}",
                    client.ip, self.count
                ),
            }],
            flows: self.flows.clone(),
            summary: format!(
                "is a proxy on port {} by which {} outside reaches {listed}",
                flow.resp_port, client.ip
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::testing::{Bench, end, pod};
    use crate::dissect::{Transaction, TunnelOpened};
    use crate::flow::Protocol;
    use crate::identity::IdentityKind;

    fn outside() -> Endpoint {
        end("203.0.113.9", IdentityKind::External, None)
    }

    fn socks(client: &Endpoint, target: &str) -> bool {
        let relay = pod("10.244.1.7", "web");
        let mut bench = Bench::new("relay-pivot");
        let flow = bench.begin(1.0, (client, &relay), Protocol::Tcp, 1080);
        let opened = TunnelOpened {
            carrier: "socks",
            target: Some(target.into()),
            ..TunnelOpened::default()
        };
        bench.says(1.1, &flow, Transaction::TunnelOpened(opened));
        if bench.alerts() {
            assert_eq!(bench.findings[0].actor.ip, relay.ip);
            assert_eq!(bench.findings[0].subject, "port 1080");
        }
        bench.alerts()
    }

    #[test]
    fn who_is_let_in_by_socks_is_told() {
        for target in [
            "10.244.1.3:5432",
            "redis:6379",
            "api.shop.svc.cluster.local:80",
            "[fd00::3]:80",
        ] {
            assert!(socks(&outside(), target), "{target}");
        }
        for target in ["198.51.100.7:443", "example.com:443"] {
            assert!(
                !socks(&outside(), target),
                "{target}: that is what they are for"
            );
        }
        assert!(!socks(&pod("10.244.1.9", "client"), "10.244.1.3:80"));
    }

    fn request(host: &str, path: &str, for_proxy: bool) -> Transaction {
        let request = HttpRequest {
            host: Some(host.into()),
            path: path.into(),
            for_proxy,
            ..HttpRequest::default()
        };
        Transaction::HttpRequest(request)
    }

    /// Somebody outside asks a pod for a page of `host`; the pod asks on for `path`.
    fn web(host: &str, path: Option<&str>) -> bool {
        let (relay, target) = (pod("10.244.1.7", "web"), pod("10.244.1.3", "api"));
        let mut bench = Bench::new("relay-pivot");
        let flow = bench.begin(1.0, (&outside(), &relay), Protocol::Tcp, 8080);
        bench.says(1.1, &flow, request(host, "/a", true));
        if let Some(path) = path {
            let flow = bench.begin(1.2, (&relay, &target), Protocol::Tcp, 80);
            bench.says(1.3, &flow, request(host, path, false));
        }
        bench.alerts()
    }

    #[test]
    fn who_is_let_in_by_the_web_is_told_once_it_is_asked_on() {
        assert!(web("10.244.1.3", Some("/a")));
        // Scanners ask everybody so.
        assert!(!web("169.254.169.254", None));
        assert!(!web("10.244.1.3", Some("/healthz")));
        assert!(!web("example.com", Some("/a")));
    }
}
