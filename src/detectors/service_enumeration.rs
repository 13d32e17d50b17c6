//! `service-enumeration`: a source asks the cluster's DNS, or web servers, what there is, instead of asking for what it needs.
//!
//! Web servers are asked for names out of a list: see [`paths`]. The DNS is asked in four ways: names of services that don't exist, one after the other (a sequential test as for scans); reverse look-ups of
//! address after address; SRV records of service after service; and questions that only make sense to somebody who looks
//! around, such as wildcards and zone transfers. What a resolver makes up by its search list doesn't count, nor does a
//! transfer that the server itself asked for. Nodes and resolvers ask on behalf of others and are left out.

mod invitations;
mod paths;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use invitations::Invitations;
use paths::Paths;
use serde::Deserialize;

use super::watch::{Watch, Watched, weigh};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::address::is_private;
use crate::dissect::{DnsMessage, DnsOperation, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, ClusterName, SequentialTest, reverse_address};
use crate::identity::{AddressClass, Allocation, IdentityKind, Journal};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "service-enumeration",
    sees: EventKinds::DNS.and(EventKinds::HTTP),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(ServiceEnumeration {
            sources: Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
            resolvers: Bounded::new(signature.room(MAX_RESOLVERS)),
            invitations: Invitations::new(),
            paths: Paths::new(
                Watch::new(thresholds.max_sources, thresholds.forget_after_secs),
                signature.room(MAX_REQUESTS),
                signature.alert_bits,
            ),
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
/// Conversations with a request that isn't answered yet.
const MAX_REQUESTS: usize = 8192;
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
    invitations: Invitations,
    paths: Paths,
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
        let transfer = TRANSFERS.contains(&message.query_type)
            && is_internal(flow)
            && !self.invitations.cover(flow, name, time);
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
        let EventKind::Transaction { flow, transaction } = &event.kind else {
            return;
        };
        let message = match transaction {
            Transaction::Dns(message) => message,
            Transaction::HttpRequest(request) => {
                return self.paths.request(flow, request, context);
            }
            Transaction::HttpResponse(response) => {
                return self.paths.response(flow, response, event.time, out);
            }
            _ => return,
        };
        if message.operation != DnsOperation::Query {
            self.invitations.note(flow, message, event.time);
            return;
        }
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
        out.extend(self.paths.stale(now));
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        out.extend(self.sources.all().iter().map(finding));
        out.extend(self.paths.finish());
    }

    fn state_size(&self) -> StateSize {
        let (dns, web) = (self.sources.state_size(), self.paths.sources().state_size());
        StateSize {
            entries: dns.entries + web.entries,
            limit: dns.limit + web.limit,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = self.sources.losses();
        losses.merge(&self.paths.sources().losses());
        losses
    }
}
