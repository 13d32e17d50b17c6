//! `dns-tunnel`: data carried in DNS names and answers.
//!
//! A tunnel must put what it sends into names that differ, below a domain whose server its other end runs. So the measure
//! is the information in distinct names per (client, registered domain), after Ozery, Nadler and Shabtai,
//! "Information-based heavy hitters for real-time DNS data exfiltration" (arXiv 2307.02614). It does not depend on the
//! encoding, the record type, or the query rate. How much is usual is taken to be Pareto distributed, as per-domain
//! volumes are. Answers that lead nowhere, record types that resolvers never need, and raw bytes in labels add to it.
//!
//! A name that decodes to text or to the beginning of a file is told by itself: nobody names a host so.
//!
//! A query forwarded by a resolver counts for the client that asked it, wherever both are seen.

mod endings;
mod hiding;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use endings::Endings;
use hiding::Hiding;
use serde::Deserialize;

use super::channels::total_bits;
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{DnsAnswer, DnsMessage, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, DomainName, Interner, Lately, Role, SortedMap, SourceKey, information_bits,
    is_listed_address, push_tight, source_key,
};
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "dns-tunnel",
    sees: EventKinds::DNS
        .and(EventKinds::FLOW_OPENED)
        .and(EventKinds::FLOW_OUTCOME),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(DnsTunnel::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Distinct names told apart per domain; beyond it every query counts as new.
const MAX_NAMES: usize = 2048;
/// Names told apart over all domains.
const MAX_NAMES_TOTAL: usize = 1 << 20;
/// Queries remembered to tell a forwarded one: (server, hash of the name).
const MAX_FORWARDS: usize = 1 << 16;
/// Addresses of a domain remembered to see whether the client ever calls one.
const MAX_ADDRESSES: usize = 32;
/// Example flows kept per domain, beside the first.
const MAX_SAMPLES: usize = 3;
/// Record types that a client resolving hosts asks for: A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DS, DNSKEY, SVCB,
/// HTTPS, CAA. NULL, KEY, and private types have no such use.
const USUAL_TYPES: &[u16] = &[1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 48, 64, 65, 257];
const TXT: u16 = 16;
/// What the information of a name counts that asks a block list about an address: mail servers and proxies send many.
const LISTED_ADDRESS_SHARE: f64 = 0.25;
const BITS_UNUSUAL_TYPE: f64 = 10.0;
const BITS_RAW_BYTES: f64 = 10.0;
const BITS_MOSTLY_TEXT: f64 = 4.0;
const BITS_LEADS_NOWHERE: f64 = 6.0;
/// A name that says more than the longest identifiers in names do (a SHA-1 has 160 bits) carries data.
const DENSE_NAME: f64 = 160.0;
/// Few services put digests longer than that into names: reputation of files, by SHA-256.
const BITS_DENSE_NAMES: f64 = 6.0;
/// If most names are so long, so many different ones do.
const MIN_DENSE_NAMES: u32 = 8;
const NO_SUCH_NAME: u16 = 3;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Old names fade: their information halves in this time.
    half_life_secs: f64,
    /// Information that an ordinary domain's names carry in that time.
    typical_bits: f64,
    /// Pareto exponent of the information beyond it.
    tail_exponent: f64,
    /// Fewer different names than this are no tunnel.
    min_distinct_names: u32,
    max_domains: usize,
}

struct DnsTunnel {
    thresholds: Thresholds,
    alert_bits: f64,
    domains: Bounded<(SourceKey, Arc<str>), Domain>,
    /// Which client asked a server for a name, so that the server's own asking is known as forwarding.
    forwards: Lately,
    hasher: RandomState,
    registered: Interner,
    names_total: usize,
    max_names: usize,
    evicted: u64,
    reported: BTreeSet<(SourceKey, Arc<str>)>,
}

struct Domain {
    /// That of the first query.
    flow: Arc<FlowInfo>,
    first: Timestamp,
    last: Timestamp,
    names: SortedMap<u64, ()>,
    distinct: u32,
    /// Of those, how many say more than an identifier.
    dense: u32,
    endings: Endings,
    /// What names turned out to hold.
    hiding: Hiding,
    queries: u32,
    /// Faded information in bits, as of `last`.
    bits: f64,
    unusual_types: u32,
    raw_queries: u32,
    text_queries: u32,
    answers: u32,
    answer_bytes: u64,
    /// Answers that are a block list's verdict, and those that there is no such name.
    verdicts: u32,
    missing: u32,
    addresses: Vec<IpAddr>,
    called: bool,
    /// Flows of further names.
    samples: Vec<Arc<FlowInfo>>,
    /// Evidence at the last report; the next is due a factor of two in information later.
    reported_bits: f64,
}

impl Domain {
    fn new(flow: &Arc<FlowInfo>, time: Timestamp) -> Self {
        Self {
            flow: Arc::clone(flow),
            first: time,
            last: time,
            names: SortedMap::new(),
            distinct: 0,
            dense: 0,
            endings: Endings::default(),
            hiding: Hiding::default(),
            queries: 0,
            bits: 0.0,
            unusual_types: 0,
            raw_queries: 0,
            text_queries: 0,
            answers: 0,
            answer_bytes: 0,
            verdicts: 0,
            missing: 0,
            addresses: Vec::new(),
            called: false,
            samples: Vec::new(),
            reported_bits: 0.0,
        }
    }

    fn actor(&self) -> &Endpoint {
        &self.flow.orig
    }
}

impl DnsTunnel {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            domains: Bounded::new(thresholds.max_domains),
            forwards: Lately::new(share.part(MAX_FORWARDS)),
            hasher: RandomState::new(),
            registered: Interner::default(),
            names_total: 0,
            max_names: share.part(MAX_NAMES_TOTAL),
            evicted: 0,
            reported: BTreeSet::new(),
            thresholds,
            alert_bits,
        }
    }

    fn query(&mut self, flow: &Arc<FlowInfo>, message: &DnsMessage, time: Timestamp) {
        let Some(name) = DomainName::split(&message.name) else {
            return;
        };
        let hash = self.hasher.hash_one(&*message.name);
        self.forwards.put(&(flow.resp.ip, hash), ());
        if self.forwards.contains(&(flow.orig.ip, hash)) || name.left.is_empty() {
            return;
        }
        let key = (
            source_key(&flow.orig),
            self.registered.intern(name.registered),
        );
        let half_life = self.thresholds.half_life_secs;
        let room = self.names_total < self.max_names;
        if !self.domains.contains(&key) {
            let evicted = self.domains.push(key.clone(), Domain::new(flow, time));
            if let Some((_, old)) = evicted {
                self.names_total -= old.names.len();
                self.evicted += 1;
            }
        }
        let Some(domain) = self.domains.get_mut(&key) else {
            return;
        };
        count(&mut domain.queries, true);
        let idle = time.since(domain.last).as_secs_f64();
        domain.bits *= (-idle / half_life).exp2();
        domain.last = domain.last.max(time);
        count(&mut domain.text_queries, message.query_type == TXT);
        count(
            &mut domain.unusual_types,
            !USUAL_TYPES.contains(&message.query_type),
        );
        count(&mut domain.raw_queries, name.left.contains('\\'));
        if domain.names.contains_key(&hash) {
            return;
        }
        if domain.names.len() < MAX_NAMES && room {
            domain.names.get_or_insert_with(hash, || ());
            self.names_total += 1;
        }
        count(&mut domain.distinct, true);
        domain.hiding.note(message.hidden);
        let share = if is_listed_address(name.left) {
            LISTED_ADDRESS_SHARE
        } else {
            1.0
        };
        let new = domain.endings.before(name.left, &self.hasher);
        let bits = information_bits(new) * share;
        domain.bits += bits;
        // A resolver appends the search list to long names as well.
        count(
            &mut domain.dense,
            bits > DENSE_NAME && !has_domain_inside(name.left),
        );
        if domain.distinct > 1 && domain.samples.len() < MAX_SAMPLES {
            push_tight(&mut domain.samples, Arc::clone(flow));
        }
    }

    fn response(&mut self, flow: &FlowInfo, message: &DnsMessage) {
        let Some(name) = DomainName::split(&message.name) else {
            return;
        };
        let key = (
            source_key(&flow.orig),
            self.registered.intern(name.registered),
        );
        if let Some(domain) = self.domains.peek_mut(&key) {
            // Block lists answer with loopback addresses, which are verdicts and lead nowhere by design.
            let verdict = !message.answers.is_empty()
                && message
                    .answers
                    .iter()
                    .all(|answer| matches!(answer, DnsAnswer::Address(ip) if ip.is_loopback()));
            count(&mut domain.answers, message.answer_count > 0 && !verdict);
            count(&mut domain.verdicts, verdict);
            count(&mut domain.missing, message.rcode == NO_SUCH_NAME);
            domain.answer_bytes += u64::from(message.answer_bytes);
            for answer in &message.answers {
                if let DnsAnswer::Address(ip) = answer
                    && domain.addresses.len() < MAX_ADDRESSES
                    && !domain.addresses.contains(ip)
                {
                    push_tight(&mut domain.addresses, *ip);
                }
            }
        }
    }

    fn is_known(name: &str, domain: &Domain, context: &Context<'_>) -> bool {
        context
            .profile(domain.actor())
            .is_some_and(|profile| profile.knows_domain(name))
    }

    /// Whether most names carry more than an identifier, and it isn't what the workload always does, nor a block list.
    fn is_dense(name: &str, domain: &Domain, context: &Context<'_>) -> bool {
        domain.dense > domain.distinct / 2
            && domain.verdicts == 0
            && !Self::is_known(name, domain, context)
    }

    /// A client calls an address: the names that led there were for resolving.
    fn called(&mut self, flow: &FlowInfo, address: IpAddr, context: &Context<'_>) {
        if let Some(name) = context.peers.domain(flow.orig.ip, address)
            && let Some(domain) = self
                .domains
                .peek_mut(&(source_key(&flow.orig), Arc::clone(name)))
        {
            domain.called |= domain.addresses.contains(&address);
        }
    }

    fn evidence(&self, name: &str, domain: &Domain, context: &Context<'_>) -> Vec<Evidence> {
        let Thresholds {
            typical_bits,
            tail_exponent,
            ..
        } = self.thresholds;
        let volume = tail_exponent * (domain.bits / typical_bits).max(1.0).log2();
        let mut evidence = vec![Evidence {
            feature: "dns.subdomain_bits",
            family: Family::Volume,
            observed: domain.bits.round(),
            expected: format!("≤ {typical_bits:.0}"),
            bits: volume,
            signature_grade: false,
            text: format!(
                "{} different names under {name} carry {:.0} bits",
                domain.distinct, domain.bits
            ),
        }];
        let share = |part: u32| f64::from(part) / f64::from(domain.queries.max(1));
        let mut protocol = |feature, observed: f64, expected: &str, bits, text: String| {
            evidence.push(Evidence {
                feature,
                family: Family::Protocol,
                observed,
                expected: expected.into(),
                bits,
                signature_grade: false,
                text,
            });
        };
        if domain.unusual_types > 0 {
            protocol(
                "dns.unusual_record_types",
                f64::from(domain.unusual_types),
                "0: no resolver of hosts needs them",
                BITS_UNUSUAL_TYPE,
                format!(
                    "{} queries for record types such as NULL or KEY",
                    domain.unusual_types
                ),
            );
        }
        if domain.raw_queries > 0 {
            protocol(
                "dns.raw_byte_names",
                f64::from(domain.raw_queries),
                "0: host names are ASCII",
                BITS_RAW_BYTES,
                format!(
                    "{} queries for names with raw bytes in them",
                    domain.raw_queries
                ),
            );
        }
        if share(domain.text_queries) > 0.5 {
            protocol(
                "dns.text_share",
                share(domain.text_queries),
                "less than a half",
                BITS_MOSTLY_TEXT,
                format!(
                    "{} of {} queries ask for TXT records",
                    domain.text_queries, domain.queries
                ),
            );
        }
        let dense = Self::is_dense(name, domain, context);
        if dense {
            protocol(
                "dns.dense_names",
                f64::from(domain.dense),
                "0: identifiers in names say up to 160 bits",
                BITS_DENSE_NAMES,
                format!(
                    "{} names say more than an identifier, {:.0} bits each",
                    domain.dense,
                    domain.bits / f64::from(domain.distinct.max(1))
                ),
            );
        }
        evidence.extend(domain.hiding.evidence(domain.distinct.into()));
        if dense && domain.answers == 0 && domain.missing > 0 {
            evidence.push(Evidence {
                feature: "dns.no_such_names",
                family: Family::Outcome,
                observed: f64::from(domain.missing),
                expected: "names that exist".into(),
                bits: BITS_LEADS_NOWHERE,
                signature_grade: false,
                text: format!("{} times told that there is no such name", domain.missing),
            });
        }
        if domain.answers > 0 && !domain.called {
            evidence.push(Evidence {
                feature: "dns.answers_never_used",
                family: Family::Outcome,
                observed: f64::from(domain.answers),
                expected: "a connection to an answered address".into(),
                bits: BITS_LEADS_NOWHERE,
                signature_grade: false,
                text: format!(
                    "{} answers ({} bytes), and no connection to anything they named",
                    domain.answers, domain.answer_bytes
                ),
            });
        }
        if let Some(profile) = context.profile(domain.actor())
            && !profile.knows_domain(name)
        {
            evidence.push(Evidence {
                feature: "dns.new_domain",
                family: Family::Novelty,
                observed: 1.0,
                expected: format!("one of {} domains known", profile.domains().len()),
                bits: profile.novelty_bits(Role::Client),
                signature_grade: false,
                text: format!("the workload never asked for {name} in its baseline"),
            });
        }
        evidence
    }

    /// Reports the domain if its evidence suffices and has grown, or if this is its last word.
    fn report(
        &mut self,
        key: &(SourceKey, Arc<str>),
        last_word: bool,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let Some(domain) = self.domains.peek(key) else {
            return;
        };
        let (_, name) = key;
        let hides = domain.hiding.is_any() && !Self::is_known(name, domain, context);
        let enough = domain.distinct >= self.thresholds.min_distinct_names
            || hides
            || domain.distinct >= MIN_DENSE_NAMES && Self::is_dense(name, domain, context);
        if !enough {
            return;
        }
        let evidence = self.evidence(name, domain, context);
        if !last_word {
            let grown = domain.bits >= domain.reported_bits * 2.0;
            if !grown || total_bits(&evidence) < self.alert_bits {
                return;
            }
        }
        out.push(Finding {
            signature: SPEC.id,
            subject: name.to_string(),
            actor: domain.actor().clone(),
            first: domain.first,
            last: domain.last,
            targets: vec![Target {
                endpoint: None,
                port: None,
                protocol: Some("dns"),
                domain: Some(Arc::clone(name)),
            }],
            target_count: 1,
            evidence,
            flows: std::iter::once(&domain.flow)
                .chain(&domain.samples)
                .cloned()
                .collect(),
            summary: format!(
                "sent {:.0} bytes of information out in {} under {name}, and got {} bytes back",
                domain.bits / 8.0,
                match domain.distinct {
                    1 => "a single name".to_owned(),
                    n => format!("{n} different names"),
                },
                domain.answer_bytes
            ),
        });
        let bits = domain.bits;
        self.reported.insert(key.clone());
        if let Some(domain) = self.domains.peek_mut(key) {
            domain.reported_bits = bits;
        }
    }
}

fn count(of: &mut u32, one: bool) {
    *of = of.saturating_add(one.into());
}

/// Whether there is a whole name in what is left of a domain, as the search list makes them: `db.rds.amazonaws.com` in
/// `db.rds.amazonaws.com.corp` of `example.net`.
fn has_domain_inside(left: &str) -> bool {
    const MAX_LABELS: usize = 4;
    std::iter::successors(Some(left), |rest| Some(rest.rsplit_once('.')?.0))
        .take(MAX_LABELS)
        .any(|rest| {
            psl::suffix(rest.as_bytes()).is_some_and(|suffix| suffix.is_known())
                && psl::domain_str(rest).is_some()
        })
}

impl Detector for DnsTunnel {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::Dns(message),
            } => {
                if message.response {
                    self.response(flow, message);
                    return;
                }
                self.query(flow, message, event.time);
                if let Some(name) = DomainName::split(&message.name) {
                    let key = (
                        source_key(&flow.orig),
                        self.registered.intern(name.registered),
                    );
                    self.report(&key, false, context, out);
                }
            }
            // By the answer it may turn out which service was called.
            EventKind::FlowOpened(flow) | EventKind::FlowOutcome { flow, .. } => {
                self.called(flow, flow.resp.ip, context);
                if let Some(service) = &flow.service {
                    self.called(flow, service.0.ip, context);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            self.report(&key, true, context, out);
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.domains.len(),
            limit: self.domains.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
