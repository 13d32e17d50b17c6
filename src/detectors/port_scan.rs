//! `port-scan`: one source tries many ports of one host.
//!
//! Each (source, host) pair carries a sequential test over first contacts, so a scan is found after the same number of
//! failures however slow it is. Contacts that the baseline knows don't count, and where it knows how often the
//! workload's contacts fail anyway, the test uses that. Ports that are all databases' are `db-sweep`'s business.

use std::net::IpAddr;

use serde::Deserialize;

use super::suspects::Suspects;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::address::is_group;
use crate::baseline::Profile;
use crate::event::{Event, EventKind, EventKinds};
use crate::features::{
    ContactLines, FirstContact, Line, SourceKey, database_product, source_key, success,
};
use crate::flow::Protocol;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "port-scan",
    sees: EventKinds::FLOW_OUTCOME.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(PortScan::new(thresholds, signature.alert_bits)))
    },
};

/// Bits per further port of one host that comes to nothing: a client is thought half as likely to try each further one.
const BITS_PER_PORT: f64 = 1.0;
/// Bits of a connection dropped without a byte: thought twice as likely under a scan as in honest use.
const BITS_PER_UNUSED: f64 = 1.0;
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
    suspects: Suspects<IpAddr>,
}

impl PortScan {
    fn new(thresholds: Thresholds, alert_bits: f64) -> Self {
        Self {
            alert_bits,
            suspects: Suspects::new(
                ContactLines::new(thresholds.max_sources, thresholds.theta1, BITS_PER_UNUSED),
                thresholds.settle_secs,
                thresholds.forget_after_secs,
            ),
            thresholds,
        }
    }

    /// Marks the source if its line to `host` is evidence enough.
    fn judge(&mut self, key: SourceKey, host: IpAddr, time: Timestamp) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        if let Some(source) = self.suspects.lines.source(&key)
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
        let Some(source) = self.suspects.lines.source(key) else {
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
                expected: format!("≤ {:.0} % of them", (1.0 - theta0) * 100.0),
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
                expected: "≤ 2".into(),
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
                let contact = FirstContact::of(flow, success, event.time);
                self.suspects
                    .lines
                    .contact(&flow.orig, theta0, flow.resp.ip, &contact);
                if !success {
                    self.judge(source_key(&flow.orig), flow.resp.ip, event.time);
                }
            }
            EventKind::FlowEnded { flow, record }
                if flow.protocol == Protocol::Tcp
                    && record.payload_bytes == [0, 0]
                    && record.packets.iter().all(|&count| count > 0)
                    && context.acquaintances.said(flow) == 0 =>
            {
                let contact = FirstContact::of(flow, true, event.time);
                let theta0 = self.thresholds.theta0;
                self.suspects
                    .lines
                    .over(&flow.orig, theta0, flow.resp.ip, &contact, true);
                self.judge(source_key(&flow.orig), flow.resp.ip, event.time);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.due(now) {
            self.report(&key, out);
        }
        self.suspects.forget(now);
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.all() {
            self.report(&key, out);
        }
    }

    fn state_size(&self) -> StateSize {
        self.suspects.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.suspects.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use crate::flow::Outcome;

    fn scan(gap: f64, ports: u16) -> Bench {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for port in 0..ports {
            let at = f64::from(port) * gap;
            bench.tcp(at, (&web, &api), 1000 + port, Outcome::Refused, 0);
        }
        bench.finish(f64::from(ports) * gap + 60.0);
        bench
    }

    #[test]
    fn a_scan_is_found_however_slow() {
        for gap in [0.001, 1.0, 600.0] {
            let bench = scan(gap, 12);
            assert!(
                bench.alerts(),
                "one port every {gap} s: {} bits",
                bench.bits()
            );
        }
        assert!(scan(0.01, 6).alerts(), "six refusals in a row suffice");
        assert!(!scan(0.01, 4).alerts(), "four may be a client's bad day");
    }

    #[test]
    fn open_ports_do_not_hide_the_scan_that_found_them() {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for port in 1..=24 {
            // Two of three ports are open: answered, and dropped without a word.
            let outcome = if port % 3 == 0 {
                Outcome::Refused
            } else {
                Outcome::Answered
            };
            bench.tcp(f64::from(port), (&web, &api), port, outcome, 0);
        }
        bench.finish(60.0);
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn one_alert_with_true_numbers() {
        let bench = scan(0.1, 200);
        let last = bench.findings.last().unwrap();
        assert_eq!(last.evidence[1].observed as u64, 200);
        assert!(bench.findings.len() < 12, "told anew at doublings only");
    }

    #[test]
    fn honest_clients_are_left_alone() {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        let outside = end("203.0.113.7", crate::identity::IdentityKind::External, None);
        // Passive FTP: a new port of the same host for every file.
        for port in 0..200 {
            bench.tcp(
                f64::from(port),
                (&web, &outside),
                50_000 + port,
                Outcome::Answered,
                900,
            );
        }
        // A dead upstream, tried again and again.
        for at in 0..500 {
            bench.tcp(
                300.0 + f64::from(at),
                (&web, &api),
                8080,
                Outcome::Silent,
                0,
            );
        }
        // Databases are another detector's business.
        for port in [5432, 3306, 6379, 27017, 11211, 9200, 9042, 1433] {
            bench.tcp(900.0, (&web, &api), port, Outcome::Refused, 0);
        }
        bench.finish(1000.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
