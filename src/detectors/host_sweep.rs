//! `host-sweep`: one source tries the same thing on many hosts: a port, a ping, an ARP request.
//!
//! Each (source, port) pair carries a sequential test over first contacts, as in `port-scan`; ping and ARP are lines of
//! their own. Addresses that nobody ever held are stronger evidence: no honest client knows them. Nodes are left out,
//! for their health checks and their ARP touch every pod by design; database ports are `db-sweep`'s business, and a
//! source that tries many ports of the same hosts is `port-scan`'s.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::clocks::Clocks;
use super::suspects::{Suspects, first_contact, is_one_workload, target};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize};
use crate::address::{NetworkId, is_group};
use crate::baseline::Profile;
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    ContactLines, FirstContact, Line, Member, Source, SourceKey, database_product, source_key,
};
use crate::flow::{Outcome, Protocol};
use crate::identity::{Allocation, IdentityKind};
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "host-sweep",
    sees: EventKinds::FLOW_OUTCOME
        .and(EventKinds::FLOW_ENDED)
        .and(EventKinds::RESOLUTION),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(HostSweep::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// What is tried on host after host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Arp,
    Ping,
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
}

impl Way {
    fn text(self) -> String {
        match self {
            Self::Arp => "ARP".into(),
            Self::Ping => "ping".into(),
            Self::Tcp(port) => format!("TCP port {port}"),
            Self::Udp(port) => format!("UDP port {port}"),
            Self::Sctp(port) => format!("SCTP port {port}"),
        }
    }

    const fn has_ports(self) -> bool {
        !matches!(self, Self::Arp | Self::Ping)
    }

    /// Bits per further host that comes to nothing. A ping has no other use than to see who is there.
    const fn bits_per_host(self) -> f64 {
        match self {
            Self::Ping => 2.0,
            Self::Arp | Self::Tcp(_) | Self::Udp(_) | Self::Sctp(_) => 0.5,
        }
    }
}

/// Where breadth stops adding.
const MAX_BREADTH_BITS: f64 = 32.0;
/// Bits per address touched that nobody ever held; an honest client reaches one by a stale entry now and then.
const BITS_PER_DARK_HOST: f64 = 6.0;
const MAX_DARK_BITS: f64 = 24.0;
/// An ARP request that nobody answered for this long has failed.
const ARP_PATIENCE: Duration = Duration::from_secs(3);
/// A request repeated after this is a retry.
const ARP_RETRY: Duration = Duration::from_millis(500);
/// ARP requests waiting for an answer, over all sources.
const MAX_PENDING: usize = 65_536;
/// As many different ports tried on one host are a port scan.
const PORT_SCAN_PORTS: usize = 5;
const MOST_TARGETS: usize = 16;
/// Who is refused by as many hosts at most may have them from its configuration, as monitors and load balancers do: it asks
/// them again and again by the clock, which shows in so long.
const FEW: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(45);
/// Who pings this many at most, and hears of all but one in so many, may know them as well.
const MANY: u64 = 64;
const GUESSES_FAIL: u64 = 4;
/// Hosts remembered with their last visits in vain.
const MAX_VISITS: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    theta0: f64,
    theta1: f64,
    min_hosts: u64,
    max_sources: usize,
    settle_secs: u64,
    forget_after_secs: u64,
}

struct HostSweep {
    thresholds: Thresholds,
    alert_bits: f64,
    suspects: Suspects<Way>,
    /// Of those who ping, and who are refused.
    clocks: Clocks,
    /// ARP requests without an answer yet: (asker, asked) → who and when.
    pending: BTreeMap<(IpAddr, IpAddr), (Endpoint, Endpoint, Timestamp)>,
    max_pending: usize,
    dropped: u64,
}

impl HostSweep {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            alert_bits,
            suspects: Suspects::new(
                ContactLines::new(thresholds.max_sources, thresholds.theta1, 0.0).within(share),
                thresholds.settle_secs,
                thresholds.forget_after_secs,
            ),
            clocks: Clocks::new(share.part(MAX_VISITS)),
            pending: BTreeMap::new(),
            max_pending: share.part(MAX_PENDING),
            dropped: 0,
            thresholds,
        }
    }

    fn contact(
        &mut self,
        actor: &Endpoint,
        way: Way,
        contact: &FirstContact<'_>,
        context: &Context<'_>,
    ) {
        let theta0 = context
            .profile(actor)
            .map_or(self.thresholds.theta0, Profile::success_rate);
        self.suspects.lines.contact(actor, theta0, way, contact);
        if !contact.success || contact.telling {
            self.judge(source_key(actor), way, contact.time);
        }
    }

    fn judge(&mut self, key: SourceKey, way: Way, time: Timestamp) {
        let (threshold, min_hosts) = (self.alert_bits, self.thresholds.min_hosts);
        if let Some(source) = self.suspects.lines.source(&key)
            && let Some(line) = source.lines.get(&way)
            && line.attempted >= source.mark.saturating_mul(2)
            && is_sweep(way, line, threshold, min_hosts)
        {
            let settle = Duration::from_secs(self.thresholds.settle_secs);
            let until = patience(&self.clocks, &key, way, line);
            let since = until.map_or(time, |until| time.max(until.before(settle)));
            self.suspects.note(key, since);
        }
    }

    fn resolution(
        &mut self,
        actor: &Endpoint,
        target: &Endpoint,
        reply: bool,
        time: Timestamp,
        context: &Context<'_>,
    ) {
        if reply {
            // The answer comes from the address that was asked for.
            if let Some((asker, asked, _)) = self.pending.remove(&(target.ip, actor.ip)) {
                self.resolved(&asker, &asked, true, time, context);
            }
            return;
        }
        // Announcements and probes for one's own address (RFC 5227) ask about nobody else.
        if actor.ip == target.ip || actor.ip.is_unspecified() || is_node(actor) {
            return;
        }
        if self.pending.len() >= self.max_pending {
            self.dropped += 1;
            return;
        }
        let key = (actor.ip, target.ip);
        match self.pending.get(&key) {
            None => {
                self.pending
                    .insert(key, (actor.clone(), target.clone(), time));
            }
            // Who asks again got no answer; a bridge's second copy of the frame comes sooner.
            Some((_, _, asked)) if time.since(*asked) >= ARP_RETRY => {
                self.pending.remove(&key);
                self.resolved(actor, target, false, time, context);
            }
            Some(_) => {}
        }
    }

    fn resolved(
        &mut self,
        asker: &Endpoint,
        asked: &Endpoint,
        success: bool,
        time: Timestamp,
        context: &Context<'_>,
    ) {
        let recent = || {
            context
                .journal
                .allocation(NetworkId::default(), asked.ip, time)
        };
        if !success && recent() == Allocation::Recent {
            return;
        }
        let contact = FirstContact {
            member: (asked.ip, 0),
            target: asked,
            success,
            telling: false,
            weight: 1.0,
            time,
            flow: None,
            vouched: context.is_there(asker),
        };
        self.contact(asker, Way::Arp, &contact, context);
    }

    /// Until when a source waits that was not told yet.
    fn postponed(&mut self, key: &SourceKey) -> Option<Timestamp> {
        let (threshold, min_hosts) = (self.alert_bits, self.thresholds.min_hosts);
        let source = self.suspects.lines.source(key)?;
        let sweeps = source
            .lines
            .iter()
            .filter(|(way, line)| is_sweep(**way, line, threshold, min_hosts));
        let waits: Option<Vec<Timestamp>> = sweeps
            .map(|(way, line)| patience(&self.clocks, key, *way, line))
            .collect();
        waits?.into_iter().max().filter(|_| source.mark == 0)
    }

    fn report(&mut self, key: &SourceKey, context: &Context<'_>, out: &mut Findings) {
        let (threshold, min_hosts) = (self.alert_bits, self.thresholds.min_hosts);
        let theta0 = self.thresholds.theta0;
        let Some(source) = self.suspects.lines.source(key) else {
            return;
        };
        let mut sweeps: Vec<(Way, &Line)> = source
            .lines
            .iter()
            .filter(|(way, line)| is_sweep(**way, line, threshold, min_hosts))
            .map(|(&way, line)| (way, line))
            .collect();
        let scanned = scanned_hosts(source);
        sweeps.retain(|(way, line)| {
            !way.has_ports()
                || line
                    .members()
                    .filter(|(ip, _)| !scanned.contains(ip))
                    .count() as u64
                    >= min_hosts.max(line.attempted / 2)
        });
        sweeps.sort_by(|(_, a), (_, b)| b.attempted.cmp(&a.attempted).then(a.first.cmp(&b.first)));
        let Some(&(way, widest)) = sweeps.first() else {
            return;
        };
        source.mark = widest.attempted;
        let hosts: BTreeSet<IpAddr> = sweeps
            .iter()
            .flat_map(|(_, line)| line.members().map(|(ip, _)| ip))
            .collect();
        let count = (hosts.len() as u64).max(widest.attempted);
        let dark = hosts
            .iter()
            .filter(|&&ip| {
                context
                    .journal
                    .allocation(NetworkId::default(), ip, widest.first)
                    == Allocation::Unassigned
            })
            .count();
        let strongest = sweeps.iter().map(|(_, line)| line.bits).fold(0.0, f64::max);
        let mut evidence = vec![
            Evidence {
                feature: "sweep.failed_first_contacts",
                family: Family::Outcome,
                observed: widest.failed as f64,
                expected: format!("≤ {:.0} % of them", (1.0 - theta0) * 100.0),
                bits: strongest,
                signature_grade: false,
                text: format!(
                    "{} of {} hosts refused or did not answer ({})",
                    widest.failed,
                    widest.attempted,
                    way.text()
                ),
            },
            Evidence {
                feature: "sweep.hosts_per_port",
                family: Family::Volume,
                observed: widest.attempted as f64,
                expected: "a few".into(),
                bits: breadth_bits(way, widest),
                signature_grade: false,
                text: format!("{} hosts tried by {}", widest.attempted, way.text()),
            },
        ];
        if dark > 0 {
            evidence.push(Evidence {
                feature: "sweep.unassigned_addresses",
                family: Family::Deception,
                observed: dark as f64,
                expected: "0".into(),
                bits: (dark as f64 * BITS_PER_DARK_HOST).min(MAX_DARK_BITS),
                signature_grade: false,
                text: format!("{dark} of the addresses were never given to anybody"),
            });
        }
        // Those that answered first: there it goes next.
        let open = sweeps.iter().flat_map(|(_, line)| &line.open);
        let mut targets: Vec<_> = open.chain(&widest.targets).map(target).collect();
        targets.truncate(MOST_TARGETS);
        // Those that answered before the first was seen not to were not written down: say nothing rather than too little.
        let answers = match (widest.failed, widest.answered) {
            (0, _) => "all answered".to_owned(),
            (failed, 0) => format!("{failed} of {} did not answer", widest.attempted),
            (failed, answered) => {
                format!(
                    "{failed} of {} did not answer, {answered} did",
                    widest.attempted
                )
            }
        };
        let ways: Vec<String> = sweeps.iter().take(4).map(|(way, _)| way.text()).collect();
        let mut finding = Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: source.actor.clone(),
            first: sweeps
                .iter()
                .map(|(_, line)| line.first)
                .min()
                .unwrap_or(widest.first),
            last: sweeps
                .iter()
                .map(|(_, line)| line.last)
                .max()
                .unwrap_or(widest.last),
            targets,
            target_count: count,
            evidence,
            flows: sweeps
                .iter()
                .flat_map(|(_, line)| line.samples.iter().cloned())
                .take(16)
                .collect(),
            summary: format!(
                "went through {count} addresses by {}; {answers}",
                ways.join(", "),
            ),
        };
        finding.evidence.extend(self.suspects.decoys(key));
        out.push(finding);
    }
}

fn is_node(end: &Endpoint) -> bool {
    end.who.identity.kind == IdentityKind::Node
}

/// How a flow tries a host, if that is this detector's business.
fn way(flow: &FlowInfo) -> Option<Way> {
    match flow.protocol {
        Protocol::Tcp if database_product(flow.resp_port).is_none() => {
            Some(Way::Tcp(flow.resp_port))
        }
        Protocol::Udp => Some(Way::Udp(flow.resp_port)),
        Protocol::Sctp => Some(Way::Sctp(flow.resp_port)),
        Protocol::Icmp if flow.orig_port == 8 => Some(Way::Ping),
        Protocol::Icmpv6 if flow.orig_port == 128 => Some(Way::Ping),
        _ => None,
    }
}

fn breadth_bits(way: Way, line: &Line) -> f64 {
    let hosts = match way {
        Way::Ping => line.unexcused(),
        _ => line.failed,
    };
    (hosts.saturating_sub(1) as f64 * way.bits_per_host()).min(MAX_BREADTH_BITS)
}

fn is_sweep(way: Way, line: &Line, threshold: f64, min_hosts: u64) -> bool {
    // Whoever visits hundreds finds some of them down: breadth is no more than the half, except where nobody pings by duty.
    let telling = way == Way::Ping || line.bits >= threshold / 2.0;
    if way.has_ports() && is_one_workload(line) {
        return false;
    }
    telling && line.unexcused() >= min_hosts && line.bits + breadth_bits(way, line) >= threshold
}

/// Until when it may show of a line that it is no sweep.
fn patience(clocks: &Clocks, key: &SourceKey, way: Way, line: &Line) -> Option<Timestamp> {
    let members: Vec<Member> = if way == Way::Ping {
        // Who looks for hosts finds that most aren't there.
        let found = line.failed.saturating_mul(GUESSES_FAIL) <= line.attempted;
        let watched = found && line.attempted <= MANY;
        watched.then(|| line.unexplained().collect())?
    } else {
        (line.probed() <= FEW).then(|| line.guesses().collect())?
    };
    if !clocks.may_show(key, &members) {
        return None;
    }
    let until = line.first.after(PATIENCE);
    let third = clocks.third_overdue(key, &members);
    Some(third.map_or(until, |third| until.max(third)))
}

/// Hosts of which so many ports were tried that these are what the source is after.
fn scanned_hosts(source: &Source<Way>) -> BTreeSet<IpAddr> {
    let mut ports: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (way, line) in source.lines.iter() {
        // Who is there is asked before a sweep as before a scan.
        if way.has_ports() {
            for (ip, _) in line.members() {
                *ports.entry(ip).or_default() += 1;
            }
        }
    }
    ports.retain(|_, count| *count >= PORT_SCAN_PORTS);
    ports.into_keys().collect()
}

impl Detector for HostSweep {
    fn observe(&mut self, event: &Event, context: &Context<'_>, _: &mut Findings) {
        match &event.kind {
            EventKind::Resolution {
                actor,
                target,
                reply,
                ..
            } => self.resolution(actor, target, *reply, event.time, context),
            EventKind::FlowOutcome { flow, outcome } => {
                let Some(way) = way(flow) else { return };
                if is_group(flow.resp.ip) || is_node(&flow.orig) {
                    return;
                }
                // Who was led there by a name knows the host, and looks whether it is well.
                if way == Way::Ping
                    && *outcome == Outcome::Answered
                    && context.peers.domain(flow.orig.ip, flow.resp.ip).is_some()
                {
                    context.remark(SPEC.id, flow, || {
                        "pings a host that it knows by name".into()
                    });
                    return;
                }
                let telling = match way {
                    Way::Tcp(_) => *outcome == Outcome::Refused,
                    Way::Ping => true,
                    Way::Arp | Way::Udp(_) | Way::Sctp(_) => false,
                };
                let by_clock = telling && self.clocks.visit(flow, 0);
                if let Some(mut contact) = first_contact(flow, *outcome, event.time, context) {
                    contact.telling = way == Way::Ping;
                    self.contact(&flow.orig, way, &contact, context);
                }
                if by_clock {
                    let contact = FirstContact::of(flow, telling, event.time);
                    self.suspects.lines.excuse(&flow.orig, way, &contact);
                }
            }
            EventKind::FlowEnded { flow, record }
                if flow.protocol == Protocol::Tcp
                    && record.payload_bytes == [0, 0]
                    && context.acquaintances.said(flow) == 0 =>
            {
                if let Some(way) = way(flow)
                    && !is_node(&flow.orig)
                {
                    let contact = FirstContact {
                        vouched: context.is_there(&flow.orig),
                        ..FirstContact::of(flow, true, event.time)
                    };
                    let theta0 = self.thresholds.theta0;
                    self.suspects
                        .lines
                        .over(&flow.orig, theta0, way, &contact, true);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let overdue = now.before(ARP_PATIENCE);
        let silent: Vec<_> = self
            .pending
            .extract_if(.., |_, (_, _, asked)| *asked < overdue)
            .map(|(_, waiting)| waiting)
            .collect();
        for (asker, asked, time) in silent {
            self.resolved(&asker, &asked, false, time, context);
        }
        let settle = Duration::from_secs(self.thresholds.settle_secs);
        for key in self.suspects.due(now, context) {
            // That it only comes by the clock may have to show yet.
            match self.postponed(&key) {
                Some(until) if until > now => self.suspects.note(key, until.before(settle)),
                _ => self.report(&key, context, out),
            }
        }
        self.suspects.forget(now);
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in self.suspects.all(context) {
            self.report(&key, context, out);
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.suspects.lines.len() + self.pending.len(),
            limit: self.suspects.lines.limit() + self.max_pending,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.suspects.losses();
        losses.add_n(Loss::DetectorEvicted, self.dropped);
        losses
    }
}
