//! `port-scan`: one source tries many ports of one host.
//!
//! Each (source, host) pair carries a sequential test over first contacts, so a scan is found after the same number of
//! failures however slow it is. Contacts that the baseline knows don't count, and where it knows how often the
//! workload's contacts fail anyway, the test uses that. Ports that are all databases' are `db-sweep`'s business.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::suspects::Suspects;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::address::is_group;
use crate::baseline::Profile;
use crate::event::{Event, EventKind};
use crate::features::{
    ContactLines, FirstContact, Line, SourceKey, database_product, source_key, success,
};
use crate::flow::Protocol;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "port-scan",
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(PortScan::new(thresholds, signature.alert_bits)))
    },
};

/// Bits per further port of one host that comes to nothing: a client is thought half as likely to try each further one.
const BITS_PER_PORT: f64 = 1.0;
/// Where breadth stops adding: nobody needs more to be sure.
const MAX_BREADTH_BITS: f64 = 32.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    theta0: f64,
    theta1: f64,
    min_ports: u64,
    max_sources: usize,
    settle_secs: u64,
    forget_after_secs: u64,
}

struct PortScan {
    thresholds: Thresholds,
    alert_bits: f64,
    lines: ContactLines<IpAddr>,
    suspects: Suspects,
}

impl PortScan {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            alert_bits,
            lines: ContactLines::new(thresholds.max_sources, thresholds.theta1),
            suspects: Suspects::default(),
            thresholds,
        }
    }

    /// Marks the source if its line to `host` is evidence enough.
    fn judge(&mut self, key: SourceKey, host: IpAddr, time: Timestamp) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        if let Some(source) = self.lines.source(&key)
            && let Some(line) = source.lines.get(&host)
            && line.probed() >= source.mark.saturating_mul(2)
            && is_scan(line, threshold, min_ports)
        {
            self.suspects.note(key, time);
        }
    }

    fn report(&mut self, key: &SourceKey, out: &mut Findings) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        let theta0 = self.thresholds.theta0;
        let Some(source) = self.lines.source(key) else {
            return;
        };
        let mut hosts: Vec<&Line> = source
            .lines
            .values()
            .filter(|line| is_scan(line, threshold, min_ports))
            .collect();
        hosts.sort_by(|a, b| b.probed().cmp(&a.probed()).then(a.first.cmp(&b.first)));
        let Some(&worst) = hosts.first() else {
            return;
        };
        source.mark = worst.probed();
        let attempted: u64 = hosts.iter().map(|line| line.attempted).sum();
        let failed: u64 = hosts.iter().map(|line| line.failed).sum();
        let evidence = vec![
            Evidence {
                feature: "scan.failed_first_contacts",
                family: Family::Outcome,
                observed: failed as f64,
                expected: format!("{:.0} % of first contacts succeed", theta0 * 100.0),
                bits: worst.bits,
                signature_grade: false,
                text: format!(
                    "{failed} of {attempted} first contacts were refused or left without answer"
                ),
            },
            Evidence {
                feature: "scan.ports_per_host",
                family: Family::Volume,
                observed: worst.probed() as f64,
                expected: "1 or 2 ports of a host".into(),
                bits: breadth_bits(worst),
                signature_grade: false,
                text: format!("{} ports of one host came to nothing", worst.probed()),
            },
        ];
        out.push(Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: source.actor.clone(),
            first: hosts
                .iter()
                .map(|line| line.first)
                .min()
                .unwrap_or(worst.first),
            last: hosts
                .iter()
                .map(|line| line.last)
                .max()
                .unwrap_or(worst.last),
            targets: hosts
                .iter()
                .take(16)
                .filter_map(|line| line.targets.first())
                .map(|(endpoint, _)| Target {
                    endpoint: Some(endpoint.clone()),
                    port: None,
                    protocol: None,
                    domain: None,
                })
                .collect(),
            target_count: hosts.len() as u64,
            evidence,
            flows: hosts
                .iter()
                .flat_map(|line| line.samples.iter().cloned())
                .take(16)
                .collect(),
            summary: format!(
                "tried {attempted} ports on {} {}; {failed} were refused or silent",
                hosts.len(),
                if hosts.len() == 1 { "host" } else { "hosts" },
            ),
        });
    }
}

fn breadth_bits(line: &Line) -> f64 {
    (line.probed().saturating_sub(1) as f64 * BITS_PER_PORT).min(MAX_BREADTH_BITS)
}

fn is_scan(line: &Line, threshold: f64, min_ports: u64) -> bool {
    line.probed() >= min_ports
        && line.bits + breadth_bits(line) >= threshold
        && line
            .members()
            .filter(|&(_, port)| database_product(port).is_none())
            .count() as u64
            >= min_ports
}

impl Detector for PortScan {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome }
                if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp)
                    && !is_group(flow.resp.ip) =>
            {
                let promised = flow.protocol == Protocol::Tcp;
                let Some(success) = success(*outcome, promised) else {
                    return;
                };
                if context.is_known(flow) {
                    return;
                }
                let theta0 = context
                    .profile(&flow.orig)
                    .map_or(self.thresholds.theta0, Profile::success_rate);
                let contact = FirstContact {
                    member: (flow.resp.ip, flow.resp_port),
                    target: &flow.resp,
                    success,
                    time: event.time,
                    flow: Some(flow),
                };
                self.lines
                    .contact(&flow.orig, theta0, flow.resp.ip, &contact);
                self.judge(source_key(&flow.orig), flow.resp.ip, event.time);
            }
            EventKind::FlowEnded { flow, record } if flow.protocol == Protocol::Tcp => {
                let unused = record.payload_bytes == [0, 0];
                let member = (flow.resp.ip, flow.resp_port);
                self.lines.over(&flow.orig, flow.resp.ip, member, unused);
                self.judge(source_key(&flow.orig), flow.resp.ip, event.time);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        let settle = Duration::from_secs(self.thresholds.settle_secs);
        for key in self.suspects.due(now, settle) {
            self.report(&key, out);
        }
        let forget = Duration::from_secs(self.thresholds.forget_after_secs);
        self.lines.forget(now.before(forget));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.all() {
            self.report(&key, out);
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.lines.len(),
            limit: self.lines.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.lines.evicted());
        losses
    }
}
