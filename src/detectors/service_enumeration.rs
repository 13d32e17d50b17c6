//! `service-enumeration`: a source asks the cluster's DNS what there is, instead of asking for what it needs.
//!
//! Four ways: names of services that don't exist, one after the other (a sequential test as for scans); reverse look-ups of
//! address after address; SRV records of service after service; and questions that only make sense to somebody who looks
//! around, such as wildcards and zone transfers. What a resolver makes up by its search list doesn't count. Nodes and
//! resolvers ask on behalf of others and are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::watch::{Watch, Watched, weigh};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::address::is_private;
use crate::dissect::{DnsMessage, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, ClusterName, SequentialTest, reverse_address};
use crate::identity::{AddressClass, Allocation, IdentityKind, Journal};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "service-enumeration",
    sees: EventKinds::DNS,
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(ServiceEnumeration {
            sources: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            resolvers: Bounded::new(MAX_RESOLVERS),
            test: SequentialTest::new(thresholds.theta0, thresholds.theta1),
            alert_bits: signature.alert_bits,
        }))
    },
};

/// Record types and response codes (RFC 1035, 1995, 2782).
const SRV: u16 = 33;
const TRANSFERS: [u16; 2] = [251, 252];
const PTR: u16 = 12;
const NO_SUCH_NAME: u16 = 3;

/// A question that only makes sense to somebody who looks around.
const BITS_UNMISTAKABLE: f64 = 24.0;
/// Further reverse look-ups of addresses nearby, by whether the inventory knows a holder: who logs names of visitors asks
/// for those that exist.
const BITS_PER_REVERSE: f64 = 1.0;
const BITS_PER_REVERSE_HELD: f64 = 0.5;
/// A handful is everybody's, and without more to it their number alone never suffices.
const FREE_REVERSES: u64 = 4;
const MAX_REVERSE_BITS: f64 = 12.0;
/// That each is the neighbour of the last.
const BITS_WALK: f64 = 8.0;
const WALK_SHARE: f64 = 0.7;
const SHORTEST_WALK: u64 = 10;
/// Reverse look-ups of addresses that nobody ever held.
const BITS_PER_DARK: f64 = 3.0;
const MAX_DARK_BITS: f64 = 24.0;
/// SRV records of further services.
const BITS_PER_SRV: f64 = 1.5;
const FREE_SRVS: u64 = 5;
const MAX_SRV_BITS: f64 = 24.0;
/// What the sequential test is worth at most.
const MAX_TEST_BITS: f64 = 64.0;

/// Names and addresses remembered one by one, per source and sort.
const MAX_REMEMBERED: usize = 256;
const MAX_RESOLVERS: usize = 4096;
const MOST_LISTED: usize = 16;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    theta0: f64,
    theta1: f64,
    max_sources: usize,
    forget_after_secs: u64,
}

struct ServiceEnumeration {
    sources: Watch<Asked>,
    /// Who was asked, by whom first, and whether by others as well.
    resolvers: Bounded<IpAddr, (IpAddr, bool)>,
    test: SequentialTest,
    alert_bits: f64,
}

/// What a source has asked for.
#[derive(Default)]
struct Asked {
    /// Names of services, and whether there was none of that name.
    names: BTreeMap<Box<str>, bool>,
    test_bits: f64,
    failed: u64,
    services: BTreeSet<Box<str>>,
    reverse: BTreeSet<IpAddr>,
    reverse_bits: f64,
    reverses: u64,
    steps: u64,
    last_reverse: Option<IpAddr>,
    dark: u64,
    /// Wildcards and zones asked for.
    unmistakable: BTreeSet<Box<str>>,
    domains: Vec<Arc<str>>,
    flows: Vec<Arc<FlowInfo>>,
}

impl Asked {
    fn list(&mut self, name: &Arc<str>, flow: &Arc<FlowInfo>) {
        if self.domains.len() < MOST_LISTED && !self.domains.contains(name) {
            self.domains.push(Arc::clone(name));
        }
        if self.flows.len() < MOST_LISTED && self.flows.iter().all(|known| known.id != flow.id) {
            self.flows.push(Arc::clone(flow));
        }
    }

    /// A look-up in reverse. False if it is none of the cluster's, or was made before.
    fn reverse(&mut self, ip: IpAddr, time: Timestamp, flow: &FlowInfo, journal: &Journal) -> bool {
        let class = journal.networks().classify(ip);
        let ours = matches!(class, AddressClass::PodRange | AddressClass::ServiceRange);
        if !(ours || is_private(ip)) || self.reverse.contains(&ip) {
            return false;
        }
        if self.reverse.len() < MAX_REMEMBERED {
            self.reverse.insert(ip);
        }
        self.reverses += 1;
        if self
            .last_reverse
            .is_some_and(|last| are_neighbours(last, ip))
        {
            self.steps += 1;
        }
        self.last_reverse = Some(ip);
        let allocation = journal.allocation(flow.network, ip, time);
        self.dark += u64::from(allocation == Allocation::Unassigned);
        if self.reverses > FREE_REVERSES {
            self.reverse_bits += match allocation {
                Allocation::Assigned | Allocation::Recent => BITS_PER_REVERSE_HELD,
                _ => BITS_PER_REVERSE,
            };
        }
        true
    }

    fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: u64, expected: &str, bits, text| {
            if bits > 0.0 {
                evidence.push(Evidence {
                    feature,
                    family,
                    observed: observed as f64,
                    expected: expected.into(),
                    bits,
                    signature_grade: family == Family::Protocol,
                    text,
                });
            }
        };
        if let Some(first) = self.unmistakable.first() {
            let count = self.unmistakable.len() as u64;
            let text = format!("asked for everything at once: {first}");
            let feature = "dns.questions_for_everything";
            add(
                feature,
                Family::Protocol,
                count,
                "0",
                BITS_UNMISTAKABLE,
                text,
            );
        }
        add(
            "dns.failed_service_names",
            Family::Outcome,
            self.failed,
            "few: names are configured",
            self.test_bits,
            format!(
                "{} of {} names of services don't exist",
                self.failed,
                self.names.len().max(self.failed as usize)
            ),
        );
        let walks = self.reverses >= SHORTEST_WALK
            && self.steps as f64 >= WALK_SHARE * (self.reverses - 1) as f64;
        let (bits, how) = if walks {
            (
                self.reverse_bits.min(MAX_REVERSE_BITS) + BITS_WALK,
                ", one next to the other",
            )
        } else {
            (self.reverse_bits.min(MAX_REVERSE_BITS), "")
        };
        add(
            "dns.reverse_lookups",
            Family::Volume,
            self.reverses,
            "a few",
            bits,
            format!("looked up {} addresses in reverse{how}", self.reverses),
        );
        let srv = self.services.len() as u64;
        add(
            "dns.srv_services",
            Family::Volume,
            srv,
            "≤ 5",
            (srv.saturating_sub(FREE_SRVS) as f64 * BITS_PER_SRV).min(MAX_SRV_BITS),
            format!("asked where {srv} services are by SRV records"),
        );
        add(
            "dns.reverse_unassigned",
            Family::Deception,
            self.dark,
            "0",
            (self.dark as f64 * BITS_PER_DARK).min(MAX_DARK_BITS),
            format!("{} of the addresses were never given to anybody", self.dark),
        );
        evidence
    }

    /// How much there is of it.
    fn size(&self) -> u64 {
        self.failed + self.reverses + (self.services.len() + self.unmistakable.len()) as u64
    }
}

fn are_neighbours(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.to_bits().abs_diff(b.to_bits()) == 1,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits().abs_diff(b.to_bits()) == 1,
        _ => false,
    }
}

impl ServiceEnumeration {
    /// Whether a source asks on behalf of others.
    fn is_proxy(&self, flow: &FlowInfo) -> bool {
        let resolver = self.resolvers.peek(&flow.orig.ip);
        flow.orig.who.identity.kind == IdentityKind::Node || resolver.is_some_and(|(_, many)| *many)
    }

    fn note_resolver(&mut self, flow: &FlowInfo) {
        let client = flow.orig.ip;
        if let Some((first, many)) = self.resolvers.get_mut(&flow.resp.ip) {
            *many |= *first != client;
        } else {
            self.resolvers.put(flow.resp.ip, (client, false));
        }
    }

    fn query(
        &mut self,
        flow: &Arc<FlowInfo>,
        message: &DnsMessage,
        time: Timestamp,
        context: &Context<'_>,
    ) -> bool {
        let name = &message.name;
        let cluster = ClusterName::parse(name);
        let transfer = TRANSFERS.contains(&message.query_type) && is_internal(flow);
        if transfer || cluster.is_some_and(|name| name.wildcard) {
            let asked = &mut self.sources.sign(&flow.orig, time).state;
            if asked.unmistakable.len() < MAX_REMEMBERED {
                let what = if transfer {
                    format!("transfer of zone {name}")
                } else {
                    name.to_string()
                };
                asked.unmistakable.insert(what.into());
            }
            asked.list(name, flow);
            true
        } else if message.query_type == PTR
            && let Some(ip) = reverse_address(name)
        {
            let source = self.sources.sign(&flow.orig, time);
            let news = source.state.reverse(ip, time, flow, context.journal);
            if news {
                source.state.list(name, flow);
            }
            news
        } else if message.query_type == SRV
            && let Some(cluster) = cluster
        {
            let asked = &mut self.sources.sign(&flow.orig, time).state;
            if asked.services.len() < MAX_REMEMBERED {
                asked.services.insert(cluster.service.into());
            }
            asked.list(name, flow);
            true
        } else {
            false
        }
    }

    /// True if it was a name that doesn't exist.
    fn response(&mut self, flow: &Arc<FlowInfo>, message: &DnsMessage, time: Timestamp) -> bool {
        let (test, failed) = (self.test, message.rcode == NO_SUCH_NAME);
        if let Some(cluster) = ClusterName::parse(&message.name)
            && !cluster.wildcard
        {
            // As for contacts: a success where nothing has failed needs no memory.
            if !failed && self.sources.known(&flow.orig).is_none() {
                return false;
            }
            let asked = &mut self.sources.sign(&flow.orig, time).state;
            if asked.names.contains_key(cluster.service) || asked.names.len() >= MAX_REMEMBERED {
                return false;
            }
            asked.names.insert(cluster.service.into(), failed);
            asked.failed += u64::from(failed);
            asked.test_bits = test.step(asked.test_bits, !failed).min(MAX_TEST_BITS);
            if failed {
                asked.list(&message.name, flow);
            }
            return failed;
        }
        if !failed
            && let Some(source) = self.sources.known(&flow.orig)
            && let Some(known) = source.state.names.get_mut(&*message.name)
        {
            // The name as it stands exists: what failed was the search list's.
            if std::mem::take(known) {
                source.state.failed -= 1;
                let bits = source.state.test_bits - test.step_bits(false);
                source.state.test_bits = bits.max(0.0);
            }
        }
        false
    }

    fn judge(&mut self, flow: &FlowInfo, out: &mut Findings) {
        let alert_bits = self.alert_bits;
        if let Some(source) = self.sources.known(&flow.orig)
            && weigh(&source.state.evidence()) >= alert_bits
            && source.is_news(source.state.size())
        {
            out.push(finding(source));
        }
    }
}

/// Whether a flow is between ends that aren't outside.
fn is_internal(flow: &FlowInfo) -> bool {
    let outside = |kind| kind == IdentityKind::External;
    !outside(flow.orig.who.identity.kind) && !outside(flow.resp.who.identity.kind)
}

fn finding(source: &Watched<Asked>) -> Finding {
    let asked = &source.state;
    let mut said = Vec::new();
    if let Some(one) = asked.unmistakable.first() {
        said.push(format!("asked for everything at once ({one})"));
    }
    if asked.failed > 0 {
        said.push(format!(
            "tried {} names of services that don't exist",
            asked.failed
        ));
    }
    if asked.reverses > FREE_REVERSES {
        said.push(format!("looked up {} addresses in reverse", asked.reverses));
    }
    if asked.services.len() as u64 > FREE_SRVS {
        said.push(format!("asked where {} services are", asked.services.len()));
    }
    Finding {
        signature: SPEC.id,
        subject: String::new(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: asked
            .domains
            .iter()
            .map(|domain| Target {
                endpoint: None,
                port: None,
                protocol: Some("dns"),
                domain: Some(Arc::clone(domain)),
            })
            .collect(),
        target_count: asked.size(),
        evidence: asked.evidence(),
        flows: asked.flows.clone(),
        summary: format!("{} through DNS", said.join(", ")),
    }
}

impl Detector for ServiceEnumeration {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let EventKind::Transaction {
            flow,
            transaction: Transaction::Dns(message),
        } = &event.kind
        else {
            return;
        };
        if !message.response {
            self.note_resolver(flow);
        }
        if self.is_proxy(flow) {
            return;
        }
        let news = if message.response {
            self.response(flow, message, event.time)
        } else {
            self.query(flow, message, event.time, context)
        };
        if news {
            self.judge(flow, out);
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.stale(now).iter().map(finding));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.all().iter().map(finding));
    }

    fn state_size(&self) -> StateSize {
        self.sources.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.sources.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use super::*;
    use crate::event::Endpoint;

    fn dns() -> Endpoint {
        pod("10.244.1.2", "coredns")
    }

    const MISSING: [&str; 12] = [
        "mysql", "mongo", "admin", "vault", "jenkins", "gitlab", "grafana", "kafka", "minio",
        "ldap", "backup", "registry",
    ];

    #[test]
    fn names_guessed_one_after_the_other_however_slowly() {
        for gap in [0.05, 900.0] {
            let mut bench = Bench::new("service-enumeration");
            let web = pod("10.244.1.7", "web");
            for (n, name) in MISSING.iter().enumerate() {
                let full = format!("{name}.shop.svc.cluster.local");
                for kind in [1, 28] {
                    bench.no_such_name(n as f64 * gap, (&web, &dns()), &full, kind);
                }
                if n == 3 {
                    let found = Some("10.96.0.9".parse().unwrap());
                    bench.dns(
                        n as f64 * gap,
                        (&web, &dns()),
                        "redis.shop.svc.cluster.local",
                        1,
                        found,
                    );
                }
            }
            bench.finish(1e5);
            assert!(bench.alerts(), "{} bits", bench.bits());
        }
    }

    #[test]
    fn addresses_looked_up_in_a_row() {
        let mut bench = Bench::new("service-enumeration");
        let web = pod("10.244.1.7", "web");
        for last in 1..40 {
            let name = format!("{last}.0.96.10.in-addr.arpa");
            bench.no_such_name(f64::from(last) * 60.0, (&web, &dns()), &name, PTR);
        }
        bench.finish(1e4);
        assert!(bench.alerts(), "{} bits", bench.bits());
        assert!(bench.findings.len() < 5);
    }

    #[test]
    fn questions_for_everything() {
        for (name, kind) in [
            ("any.any.svc.cluster.local", SRV),
            ("any.any.any.svc.cluster.local", 1),
            ("cluster.local", 252),
        ] {
            let mut bench = Bench::new("service-enumeration");
            bench.no_such_name(1.0, (&pod("10.244.1.7", "web"), &dns()), name, kind);
            bench.finish(10.0);
            assert!(bench.alerts(), "{name}");
            assert!(bench.findings[0].evidence[0].signature_grade);
        }
        let mut bench = Bench::new("service-enumeration");
        for n in 0..25 {
            let name = format!("_http._tcp.service-{n}.prod.svc.cluster.local");
            bench.dns(
                f64::from(n),
                (&pod("10.244.1.7", "web"), &dns()),
                &name,
                SRV,
                None,
            );
        }
        bench.finish(100.0);
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn search_lists_and_known_services_are_left_alone() {
        let mut bench = Bench::new("service-enumeration");
        let web = pod("10.244.1.7", "web");
        let found = Some("203.0.113.9".parse().unwrap());
        // Names outside, each by way of the whole search list; some don't exist at all.
        for n in 0..200 {
            let name = match n % 3 {
                0 => format!("site{n}.com"),
                1 => format!("host{n}.corp"),
                _ => format!("www.site{n}.example.org"),
            };
            let at = f64::from(n);
            for search in [
                "shop.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
            ] {
                bench.no_such_name(at, (&web, &dns()), &format!("{name}.{search}"), 1);
            }
            if n % 12 == 0 {
                bench.no_such_name(at, (&web, &dns()), &name, 1);
            } else {
                bench.dns(at, (&web, &dns()), &name, 1, found);
            }
        }
        // A gateway with sixty services, of which two are optional and aren't there.
        let gateway = pod("10.244.1.8", "gateway");
        for n in 0..60 {
            let name = format!("service-{n}.prod.svc.cluster.local");
            if n % 30 == 7 {
                bench.no_such_name(300.0, (&gateway, &dns()), &name, 1);
            } else {
                bench.dns(300.0, (&gateway, &dns()), &name, 1, found);
            }
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }

    #[test]
    fn who_logs_visitors_names_and_who_asks_for_others_is_left_alone() {
        let mut bench = Bench::new("service-enumeration");
        let (ingress, upstream) = (
            pod("10.244.1.9", "ingress"),
            end("172.18.0.1", IdentityKind::Node, None),
        );
        for n in 0..100_u16 {
            // Visitors come in no order.
            let visitor = n * 37 % 251;
            let name = format!("{visitor}.2.244.10.in-addr.arpa");
            let at = f64::from(n);
            bench.no_such_name(at, (&ingress, &dns()), &name, PTR);
            bench.no_such_name(
                at,
                (&pod("10.244.1.10", "mail"), &dns()),
                "1.0.0.10.in-addr.arpa",
                PTR,
            );
            // The resolver passes on what it is asked, and a node's own resolver all the more.
            let walk = format!("{n}.9.244.10.in-addr.arpa");
            bench.no_such_name(at, (&dns(), &upstream), &walk, PTR);
            bench.no_such_name(at, (&upstream, &dns()), &walk, PTR);
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
