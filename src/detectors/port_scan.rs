//! `port-scan`: one source tries many ports of one host, or of several in whatever order.
//!
//! Each (source, host) pair carries a sequential test over first contacts, so a scan is found after the same number of
//! failures however slow it is. One more test per source runs over all of them, for scans that jump from host to host.
//! The protocols of IP that one host is tried for are a line of their own, as if they were ports.
//! Contacts that the baseline knows don't count, and where it knows how often the workload's contacts fail anyway, the test
//! uses that. Ports that are nearly all databases' are `db-sweep`'s business.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use super::suspects::{Suspects, first_contact, target};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::address::is_group;
use crate::baseline::Profile;
use crate::event::{Endpoint, Event, EventKind, EventKinds};
use crate::features::{
    ContactLines, FirstContact, Line, Source, SourceKey, Throng, database_product, source_key,
};
use crate::flow::Protocol;
use crate::memory::Share;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "port-scan",
    sees: EventKinds::FLOW_OUTCOME.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(PortScan::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Where first contacts are lined up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Along {
    /// All of the source's over TCP, whoever they are with.
    Everything,
    /// Those with one host.
    Host(IpAddr),
    /// The protocols right inside IP that one host is tried for; their numbers stand in for ports.
    Protocols(IpAddr),
}

impl Along {
    const fn has_ports(self) -> bool {
        !matches!(self, Self::Protocols(_))
    }
}

/// Bits per further port of one host that comes to nothing: a client is thought half as likely to try each further one.
const BITS_PER_PORT: f64 = 1.0;
/// Bits of a connection dropped without a byte: thought twice as likely under a scan as in honest use.
const BITS_PER_UNUSED: f64 = 1.0;
/// Where breadth stops adding: nobody needs more to be sure.
const MAX_BREADTH_BITS: f64 = 32.0;
/// Ports that aren't databases' from which a scan of one host is no database's alone: who looks for what there is tries a few
/// of either kind.
const MIXED_PORTS: u64 = 3;
/// A scan of several hosts that tries no host often enough is called after this many contacts in vain, with at least so many
/// hosts. A client whose servers are all down tries its handful.
const BLOCK_CONTACTS: u64 = 10;
const BLOCK_HOSTS: usize = 3;
const MOST_TARGETS: usize = 16;
/// Hundreds of strangers within seconds that fail at dozens of ends: no honest cause is known.
const BITS_THRONG: f64 = 20.0;

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
    suspects: Suspects<Along>,
}

impl PortScan {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            alert_bits,
            suspects: Suspects::new(
                ContactLines::new(thresholds.max_sources, thresholds.theta1, BITS_PER_UNUSED)
                    .within(share),
                thresholds.settle_secs,
                thresholds.forget_after_secs,
            ),
            thresholds,
        }
    }

    /// Marks the source if one of its lines to `host` is evidence enough.
    fn judge(&mut self, actor: &Endpoint, host: IpAddr, time: Timestamp) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        let key = source_key(actor);
        if self.suspects.is_noted(&key) {
            return;
        }
        if let Some(source) = self.suspects.lines.source(&key)
            && [Along::Host(host), Along::Protocols(host), Along::Everything]
                .iter()
                .any(|along| {
                    source.lines.get(along).is_some_and(|line| {
                        line.probed() >= source.mark.saturating_mul(2)
                            && is_scan(*along, line, threshold, min_ports)
                    })
                })
        {
            self.suspects.note(key, time);
        }
    }

    fn report(&mut self, key: &SourceKey, out: &mut Findings) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        let Some(source) = self.suspects.lines.source(key) else {
            return;
        };
        let mut scans: Vec<(&Along, &Line)> = source
            .lines
            .iter()
            .filter(|(along, line)| is_scan(**along, line, threshold, min_ports))
            .collect();
        // Who tries ports as well is told of those.
        let ports = scans.iter().any(|(along, _)| along.has_ports());
        scans.retain(|(along, _)| along.has_ports() == ports);
        let mut lines: Vec<&Line> = scans.into_iter().map(|(_, line)| line).collect();
        lines.sort_by(|a, b| b.probed().cmp(&a.probed()).then(a.first.cmp(&b.first)));
        let Some(&widest) = lines.first() else {
            return;
        };
        let mark = widest.probed();
        let mut finding = finding(source, &lines, widest, ports, self.thresholds.theta0);
        source.mark = mark;
        finding.evidence.extend(self.suspects.decoys(key));
        out.push(finding);
    }
}

/// What is told of a source by the lines that suffice, the widest of which is given; they are of ports, or of protocols.
fn finding(
    source: &Source<Along>,
    lines: &[&Line],
    widest: &Line,
    ports: bool,
    theta0: f64,
) -> Finding {
    let what = if ports { "ports" } else { "protocols of IP" };
    // What lies along one host lies along everything, too, unless it isn't TCP or was forgotten.
    let hosts = || {
        let lines = source.lines.iter();
        let of_one = |along: &Along| *along != Along::Everything && along.has_ports() == ports;
        lines.filter_map(move |(along, line)| of_one(along).then_some(line))
    };
    let scanned: Vec<&Line> = hosts().filter(|line| line.probed() > 1).collect();
    // Of a scan so wide that hosts were forgotten, the line along everything tells more.
    let remembered = |line: &Line| line.members().count();
    let whole = hosts().map(remembered).sum::<usize>() >= remembered(widest);
    let count = |of: fn(&Line) -> u64| {
        if whole {
            hosts().map(of).sum()
        } else {
            of(widest)
        }
    };
    let (attempted, failed) = (count(|line| line.attempted), count(|line| line.failed));
    let answered = count(|line| line.answered);
    let host_count = scanned.len().max(
        widest
            .members()
            .map(|(ip, _)| ip)
            .collect::<BTreeSet<_>>()
            .len(),
    );
    let mut open: Vec<&(Endpoint, u16)> = scanned.iter().flat_map(|line| &line.open).collect();
    if open.is_empty() {
        open.extend(&widest.open);
    }
    let most_ports = hosts().map(Line::probed).max().unwrap_or(0);
    let guesses = scanned
        .iter()
        .chain([&widest])
        .flat_map(|line| line.guesses());
    let tried: BTreeSet<u16> = guesses.map(|(_, port)| port).collect();
    let evidence = vec![
        Evidence {
            feature: "scan.failed_first_contacts",
            family: Family::Outcome,
            observed: failed as f64,
            expected: format!("≤ {:.0} % of them", (1.0 - theta0) * 100.0),
            bits: lines.iter().map(|line| line.bits).fold(0.0, f64::max),
            signature_grade: false,
            text: format!(
                "{failed} of {attempted} first contacts were refused or left without answer"
            ),
        },
        Evidence {
            feature: "scan.ports_per_host",
            family: Family::Volume,
            observed: most_ports as f64,
            expected: "≤ 2".into(),
            bits: lines
                .iter()
                .map(|line| breadth_bits(line))
                .fold(0.0, f64::max),
            signature_grade: false,
            text: format!(
                "{} different {what} came to nothing, {most_ports} of them on one host",
                tried.len()
            ),
        },
    ];
    let mut hosts: Vec<&(Endpoint, u16)> = scanned
        .iter()
        .filter(|line| line.open.is_empty() || !ports)
        .filter_map(|line| line.targets.first())
        .collect();
    if scanned.is_empty() {
        hosts.extend(&widest.targets);
    }
    let whole = |(endpoint, _): &(Endpoint, u16)| target(&(endpoint.clone(), 0));
    let whole = hosts.into_iter().map(whole);
    open.retain(|_| ports);
    let mut targets: Vec<Target> = open.into_iter().map(target).chain(whole).collect();
    targets.truncate(MOST_TARGETS);
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: lines
            .iter()
            .map(|line| line.first)
            .min()
            .unwrap_or(widest.first),
        last: lines
            .iter()
            .map(|line| line.last)
            .max()
            .unwrap_or(widest.last),
        targets,
        target_count: host_count as u64,
        evidence,
        flows: lines
            .iter()
            .flat_map(|line| line.samples.iter().cloned())
            .take(16)
            .collect(),
        summary: format!(
            "tried {attempted} {what} on {host_count} {}; {failed} were refused or silent{}",
            if host_count == 1 { "host" } else { "hosts" },
            match answered {
                0 => String::new(),
                count => format!(", {count} answered"),
            },
        ),
    }
}

/// What is told of strangers that come by the hundred.
fn thronged(throng: &Throng) -> Finding {
    let (hosts, ports) = throng.breadth();
    let remembered = throng.ends.len();
    let Throng { sources, .. } = throng;
    Finding {
        signature: SPEC.id,
        subject: "many addresses".into(),
        actor: throng.actor.clone(),
        first: throng.first,
        last: throng.last,
        targets: throng.targets.iter().map(target).collect(),
        target_count: hosts as u64,
        evidence: vec![
            Evidence {
                feature: "scan.strangers",
                family: Family::Deception,
                observed: *sources as f64,
                expected: "clients that hold a conversation now and then".into(),
                bits: BITS_THRONG,
                signature_grade: true,
                text: format!(
                    "{sources} addresses that never held a conversation came to fail, as if made up"
                ),
            },
            Evidence {
                feature: "scan.strangers_ends",
                family: Family::Volume,
                observed: remembered as f64,
                expected: "the few ends that many clients share".into(),
                bits: (remembered as f64).log2(),
                signature_grade: false,
                text: format!(
                    "at {remembered} ends or more, on {hosts} {} and {ports} {}",
                    if hosts == 1 { "host" } else { "hosts" },
                    if ports == 1 { "port" } else { "ports" }
                ),
            },
        ],
        flows: throng.samples.clone(),
        summary: format!(
            "and {} other addresses, made up as it seems, tried ports on {hosts} {} or more; nothing tells who sends in their names",
            sources.saturating_sub(1),
            if hosts == 1 { "host" } else { "hosts" },
        ),
    }
}

fn breadth_bits(line: &Line) -> f64 {
    (line.probed().saturating_sub(1) as f64 * BITS_PER_PORT).min(MAX_BREADTH_BITS)
}

fn is_scan(along: Along, line: &Line, threshold: f64, min_ports: u64) -> bool {
    // Whoever visits hundreds finds some of them down, so breadth over all hosts says nothing, and along one it is no more
    // than the half.
    let enough = match along {
        Along::Everything => line.bits >= threshold,
        Along::Host(_) | Along::Protocols(_) => {
            line.bits >= threshold / 2.0 && line.bits + breadth_bits(line) >= threshold
        }
    };
    if line.probed() < min_ports || !enough {
        return false;
    }
    let guesses = || {
        line.guesses()
            .filter(|&(_, port)| database_product(port).is_none())
    };
    match along {
        Along::Protocols(_) => true,
        Along::Host(_) => {
            let others = |&(_, port): &(IpAddr, u16)| database_product(port).is_none();
            line.members().filter(others).count() as u64 >= min_ports.min(MIXED_PORTS)
        }
        Along::Everything => {
            let hosts: BTreeSet<IpAddr> = guesses().map(|(ip, _)| ip).collect();
            let ports: BTreeSet<u16> = guesses().map(|(_, port)| port).collect();
            line.probed() >= BLOCK_CONTACTS
                && hosts.len() >= BLOCK_HOSTS
                && ports.len() as u64 >= min_ports
        }
    }
}

impl Detector for PortScan {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        match &event.kind {
            EventKind::FlowOutcome { flow, outcome } if !is_group(flow.resp.ip) => {
                let host = match flow.protocol {
                    Protocol::Tcp | Protocol::Udp | Protocol::Sctp => Along::Host(flow.resp.ip),
                    Protocol::Other(_) => Along::Protocols(flow.resp.ip),
                    Protocol::Icmp | Protocol::Icmpv6 => return,
                };
                let Some(mut contact) = first_contact(flow, *outcome, event.time, context) else {
                    return;
                };
                if !host.has_ports() {
                    contact.member = (flow.resp.ip, flow.protocol.number().into());
                }
                let theta0 = context
                    .profile(&flow.orig)
                    .map_or(self.thresholds.theta0, Profile::success_rate);
                let lines = &mut self.suspects.lines;
                lines.contact(&flow.orig, theta0, host, &contact);
                if flow.protocol == Protocol::Tcp {
                    lines.contact(&flow.orig, theta0, Along::Everything, &contact);
                }
                if !contact.success {
                    self.judge(&flow.orig, flow.resp.ip, event.time);
                }
            }
            EventKind::FlowEnded { flow, record }
                if flow.protocol == Protocol::Tcp
                    && record.payload_bytes == [0, 0]
                    && record.packets.iter().all(|&count| count > 0)
                    && context.acquaintances.said(flow) == 0 =>
            {
                let contact = FirstContact {
                    vouched: context.is_there(&flow.orig),
                    ..FirstContact::of(flow, true, event.time)
                };
                let theta0 = self.thresholds.theta0;
                let host = Along::Host(flow.resp.ip);
                let lines = &mut self.suspects.lines;
                // Along one host only: those who check that everybody is there connect to all hosts and hang up.
                lines.over(&flow.orig, theta0, host, &contact, true);
                self.judge(&flow.orig, flow.resp.ip, event.time);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.due(now, context) {
            self.report(&key, out);
        }
        self.suspects.forget(now);
        if let Some(throng) = self.suspects.lines.throng(now)
            && throng.sources >= throng.told.saturating_mul(2)
        {
            throng.told = throng.sources;
            out.push(thronged(throng));
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.all(context) {
            self.report(&key, out);
        }
        out.extend(self.suspects.lines.last_throng().map(|last| thronged(last)));
    }

    fn state_size(&self) -> StateSize {
        self.suspects.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.suspects.losses()
    }
}
