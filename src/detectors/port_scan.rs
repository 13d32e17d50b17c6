//! `port-scan`: one source tries many ports of one host, or of several in whatever order.
//!
//! Each (source, host) pair carries a sequential test over first contacts, so a scan is found after the same number of
//! failures however slow it is. One more test per source runs over all of them, for scans that jump from host to host.
//! Contacts that the baseline knows don't count, and where it knows how often the workload's contacts fail anyway, the test
//! uses that. Ports that are all databases' are `db-sweep`'s business.

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
    ContactLines, FirstContact, Line, Source, SourceKey, database_product, source_key,
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

/// Where first contacts are lined up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Along {
    /// All of the source's over TCP, whoever they are with.
    Everything,
    /// Those with one host.
    Host(IpAddr),
}

/// Bits per further port of one host that comes to nothing: a client is thought half as likely to try each further one.
const BITS_PER_PORT: f64 = 1.0;
/// Bits of a connection dropped without a byte: thought twice as likely under a scan as in honest use.
const BITS_PER_UNUSED: f64 = 1.0;
/// Where breadth stops adding: nobody needs more to be sure.
const MAX_BREADTH_BITS: f64 = 32.0;
/// A scan of several hosts that tries no host often enough is called after this many contacts in vain, with at least so many
/// hosts. A client whose servers are all down tries its handful.
const BLOCK_CONTACTS: u64 = 10;
const BLOCK_HOSTS: usize = 3;
const MOST_TARGETS: usize = 16;

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

    /// Marks the source if one of its lines to `host` is evidence enough.
    fn judge(&mut self, actor: &Endpoint, host: IpAddr, time: Timestamp) {
        let (threshold, min_ports) = (self.alert_bits, self.thresholds.min_ports);
        let key = source_key(actor);
        if self.suspects.is_noted(&key) {
            return;
        }
        if let Some(source) = self.suspects.lines.source(&key)
            && [Along::Host(host), Along::Everything].iter().any(|along| {
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
        let mut lines: Vec<&Line> = source
            .lines
            .iter()
            .filter(|(along, line)| is_scan(**along, line, threshold, min_ports))
            .map(|(_, line)| line)
            .collect();
        lines.sort_by(|a, b| b.probed().cmp(&a.probed()).then(a.first.cmp(&b.first)));
        let Some(&widest) = lines.first() else {
            return;
        };
        let mark = widest.probed();
        let mut finding = finding(source, &lines, widest, self.thresholds.theta0);
        source.mark = mark;
        finding.evidence.extend(self.suspects.decoys(key));
        out.push(finding);
    }
}

/// What is told of a source by the lines that suffice, the widest of which is given.
fn finding(source: &Source<Along>, lines: &[&Line], widest: &Line, theta0: f64) -> Finding {
    // What lies along one host lies along everything, too, unless it is UDP or was forgotten.
    let hosts = || {
        let lines = source.lines.iter();
        lines.filter_map(|(along, line)| (*along != Along::Everything).then_some(line))
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
    let ports: BTreeSet<u16> = guesses.map(|(_, port)| port).collect();
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
                "{} different ports came to nothing, {most_ports} of them on one host",
                ports.len()
            ),
        },
    ];
    let mut hosts: Vec<&(Endpoint, u16)> = scanned
        .iter()
        .filter(|line| line.open.is_empty())
        .filter_map(|line| line.targets.first())
        .collect();
    if scanned.is_empty() {
        hosts.extend(&widest.targets);
    }
    let whole = |(endpoint, _): &(Endpoint, u16)| target(&(endpoint.clone(), 0));
    let whole = hosts.into_iter().map(whole);
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
            "tried {attempted} ports on {host_count} {}; {failed} were refused or silent{}",
            if host_count == 1 { "host" } else { "hosts" },
            match answered {
                0 => String::new(),
                count => format!(", {count} answered"),
            },
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
        Along::Host(_) => {
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
        Along::Host(_) => {
            let others = |&(_, port): &(IpAddr, u16)| database_product(port).is_none();
            line.members().filter(others).count() as u64 >= min_ports
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
            EventKind::FlowOutcome { flow, outcome }
                if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp)
                    && !is_group(flow.resp.ip) =>
            {
                let Some(contact) = first_contact(flow, *outcome, event.time, context) else {
                    return;
                };
                let theta0 = context
                    .profile(&flow.orig)
                    .map_or(self.thresholds.theta0, Profile::success_rate);
                let host = Along::Host(flow.resp.ip);
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
                let contact = FirstContact::of(flow, true, event.time);
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
    use crate::flow::{Outcome, Protocol};
    use crate::identity::IdentityKind;

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
    fn a_scan_that_jumps_between_hosts_is_found() {
        for gap in [0.0001, 4.0] {
            let mut bench = Bench::new("port-scan");
            let web = pod("10.244.1.7", "web");
            // As masscan does it: every probe another port of another host, most of them silent.
            for n in 0..3000_u32 {
                let host = format!(
                    "10.244.{}.{}",
                    n % 7,
                    n.wrapping_mul(2_654_435_761) % 250 + 1
                );
                let host = end(&host, IdentityKind::Unknown, None);
                let port = (n.wrapping_mul(40_503) % 60_000) as u16 + 1;
                let at = f64::from(n) * gap;
                bench.tcp(at, (&web, &host), port, Outcome::Silent, 0);
                if n == 20 {
                    bench.finish(at + 10.0);
                    assert!(bench.alerts(), "within 20 contacts");
                }
            }
        }
    }

    #[test]
    fn datagrams_that_nobody_answers_are_probes_too() {
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for (outcome, enough) in [(Outcome::Unreachable, 6), (Outcome::Silent, 9)] {
            let mut bench = Bench::new("port-scan");
            for port in 0..enough {
                let at = f64::from(port);
                bench.flow(at, (&web, &api), Protocol::Udp, 100 + port, outcome, 0);
            }
            bench.finish(60.0);
            assert!(bench.alerts(), "{outcome:?}: {} bits", bench.bits());
        }
        let mut bench = Bench::new("port-scan");
        for port in 33_434..33_524 {
            bench.flow(1.0, (&web, &api), Protocol::Udp, port, Outcome::Silent, 0);
        }
        bench.finish(60.0);
        assert!(bench.findings.is_empty(), "traceroute");
    }

    #[test]
    fn open_ports_are_named_first() {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        for port in 8070..8090 {
            let outcome = if port == 8080 {
                Outcome::Answered
            } else {
                Outcome::Refused
            };
            bench.tcp(f64::from(port), (&web, &api), port, outcome, 0);
        }
        bench.finish(9000.0);
        let last = bench.findings.last().unwrap();
        let ports: Vec<_> = last.targets.iter().map(|target| target.port).collect();
        assert_eq!(ports, [Some(8080)]);
        assert!(
            last.summary
                .contains("19 were refused or silent, 1 answered")
        );
    }

    #[test]
    fn who_visits_everybody_finds_some_of_them_gone() {
        let mut bench = Bench::new("port-scan");
        let prometheus = pod("10.244.1.30", "prometheus");
        // 400 endpoints on ten ports; one in twelve is down, and each host in turn has all its ports down.
        for n in 0..400_u16 {
            let host = end(
                &format!("10.244.2.{}", n / 4 + 1),
                IdentityKind::Unknown,
                None,
            );
            let down = (n / 4) % 12 == 5;
            let (outcome, said) = if down {
                (Outcome::Silent, 0)
            } else {
                (Outcome::Answered, 400)
            };
            bench.tcp(
                f64::from(n) / 20.0,
                (&prometheus, &host),
                9100 + n % 10,
                outcome,
                said,
            );
        }
        // A check that everybody is there: it connects and hangs up.
        let blackbox = pod("10.244.1.31", "blackbox");
        for n in 0..60_u16 {
            let host = end(&format!("10.244.3.{}", n + 1), IdentityKind::Unknown, None);
            bench.tcp(
                100.0,
                (&blackbox, &host),
                8000 + n % 12,
                Outcome::Answered,
                0,
            );
        }
        bench.finish(200.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    #[test]
    fn servers_that_are_not_up_yet_or_no_longer_are_no_guesses() {
        let mut bench = Bench::new("port-scan");
        let gateway = pod("10.244.1.7", "gateway");
        let server = |n: u16| pod(&format!("10.244.2.{}", n + 1), "shop");
        // It starts before its twelve servers do, and finds all of them in the end.
        for round in 0..5 {
            for n in 0..12 {
                let up = round * 3 >= n;
                let (outcome, said) = if up {
                    (Outcome::Answered, 400)
                } else {
                    (Outcome::Refused, 0)
                };
                let at = f64::from(round * 2) + f64::from(n) / 100.0;
                bench.tcp(at, (&gateway, &server(n)), 8000 + n % 9, outcome, said);
            }
        }
        // After a rollout others are late to hear of it.
        let late = pod("10.244.1.8", "late");
        for n in 0..12 {
            bench.tcp(60.0, (&late, &server(n)), 8000 + n % 9, Outcome::Silent, 0);
        }
        bench.finish(100.0);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    #[test]
    fn one_alert_with_true_numbers() {
        let bench = scan(0.1, 200);
        let last = bench.findings.last().unwrap();
        assert_eq!(last.evidence[1].observed as u64, 200);
        assert!(bench.findings.len() < 12, "told anew at doublings only");
    }

    #[test]
    fn a_scan_among_decoys_is_told_once_and_by_the_pod() {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        let stranger = |n: u32| {
            let (net, kind) = if n < 5 {
                ("198.51.100", IdentityKind::External)
            } else {
                ("10.244.1", IdentityKind::Unknown)
            };
            end(&format!("{net}.{}", n + 100), kind, None)
        };
        for port in 0..20_u16 {
            let at = f64::from(port) * 0.01;
            for n in 0..7 {
                // The answers to some of them find no way back, so that silence is known late.
                let outcome = if n < 5 {
                    Outcome::Refused
                } else {
                    Outcome::Silent
                };
                bench.tcp(at, (&stranger(n), &api), 1000 + port, outcome, 0);
            }
            bench.tcp(at, (&web, &api), 1000 + port, Outcome::Refused, 0);
        }
        // Somebody else: other ports, and the same ports later.
        let (other, later) = (stranger(50), stranger(60));
        for port in 0..20_u16 {
            bench.tcp(0.2, (&other, &api), 3000 + port, Outcome::Refused, 0);
        }
        bench.finish(60.0);
        for port in 0..20_u16 {
            bench.tcp(90.0, (&later, &api), 1000 + port, Outcome::Refused, 0);
        }
        // Another pod is no decoy, whatever it does.
        let twin = pod("10.244.1.8", "twin");
        for port in 0..20_u16 {
            bench.tcp(90.0, (&twin, &api), 1000 + port, Outcome::Refused, 0);
        }
        bench.finish(200.0);
        let told: std::collections::BTreeSet<_> = bench
            .findings
            .iter()
            .map(|finding| finding.actor.ip.to_string())
            .collect();
        let expected = ["10.244.1.150", "10.244.1.7", "10.244.1.8"];
        assert_eq!(
            told.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
        let first = &bench.findings[0];
        let decoys = first.evidence.last().unwrap();
        assert_eq!((decoys.feature, decoys.observed as u64), ("scan.decoys", 7));
    }

    #[test]
    fn honest_clients_are_left_alone() {
        let mut bench = Bench::new("port-scan");
        let (web, api) = (pod("10.244.1.7", "web"), pod("10.244.1.9", "api"));
        let outside = end("203.0.113.7", IdentityKind::External, None);
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
