//! `tls-c2`: a channel of orders inside TLS of its own making.
//!
//! What is said can't be read; how the connection is made can. A server of orders mostly has a certificate that it issued
//! itself, for no name that anybody asks for, and its client doesn't say whom it wants, or says what it never looked up,
//! at a port of its own. Each is odd and none is evil: their bits add up to one piece of evidence, at least two of them are
//! needed, and the peer must be new besides. A server that speaks first after silences backs them: it decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::channels::{Channel, Channels, Verdict, channel_key};
use super::newness::{bare_address, newness};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Findings, StateSize};
use crate::dissect::{TlsCertificate, TlsClientHello, TlsRecords, TlsServerHello, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Role, Vocabulary, begins_tls, database_product, goes_out};
use crate::flow::{Direction, Exchange};
use crate::identity::IdentityKind;
use crate::telemetry::LossCounts;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "tls-c2",
    sees: EventKinds::TLS
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(TlsC2 {
            channels: Channels::new(SPEC.id, signature.alert_bits, thresholds.max_channels),
        }))
    },
};

/// Ports at which TLS is at home, sorted; those of databases are known elsewhere.
const PORTS: [u16; 27] = [
    443, 465, 563, 587, 636, 853, 989, 990, 992, 993, 994, 995, 2376, 4317, 4318, 5061, 5223, 5228,
    5349, 5671, 6443, 6514, 6697, 8443, 8883, 9093, 9443,
];

/// What is odd about a connection, and how many bits it is worth, from how seldom clients and servers of the Internet do
/// it. They are not independent, so that their sum is bounded.
const BITS_SELF_ISSUED: f64 = 4.0;
const BITS_OTHER_NAME: f64 = 3.0;
const BITS_NOT_NOW: f64 = 2.0;
const BITS_FOR_EVER: f64 = 2.0;
const BITS_NAMELESS: f64 = 2.0;
const BITS_NEVER_LOOKED_UP: f64 = 2.0;
const BITS_OFF_PORT: f64 = 2.0;
const BITS_OLD: f64 = 1.0;
const BITS_NESTED: f64 = 6.0;
/// No library in use greets so, and no client may since 2011 (RFC 6176): whoever does brought its own, or is that old.
const BITS_SSL2: f64 = 14.0;
const MOST_BITS_ODD: f64 = 10.0;
/// So many must come together.
const FEWEST_ODD: usize = 2;
/// The server spoke first after silences.
const BITS_DECIDES: f64 = 4.0;
const SILENCE: Duration = Duration::from_secs(1);
const DECISIONS: u32 = 3;
/// No authority of the Internet issues for longer (CA/Browser Forum: 825 days from 2018, less since; 60 months before).
const LONGEST_DAYS: u32 = 1830;
const TLS_1_2: u16 = 0x0303;
const MOST_BITS_NEW_CLIENT: f64 = 8.0;
/// The silence that a habit would leave.
const RHYTHM: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_channels: usize,
}

struct TlsC2 {
    channels: Channels<Seen>,
}

/// What was seen on a line.
#[derive(Debug, Default)]
struct Seen {
    flow: Option<Arc<FlowInfo>>,
    sni: Option<Arc<str>>,
    ja4: Option<Arc<str>>,
    /// What is odd, in words, and its bits.
    odd: BTreeMap<&'static str, f64>,
    decisions: u32,
    /// The client greeted in the framing of SSL 2.0.
    ssl2: bool,
}

impl Seen {
    fn client(&mut self, flow: &FlowInfo, hello: &TlsClientHello, context: &Context<'_>) {
        self.sni.clone_from(&hello.sni);
        self.ja4 = (!hello.ja4.is_empty()).then(|| Arc::clone(&hello.ja4));
        self.ssl2 |= hello.ssl2;
        let looked_up = context.peers.domain(flow.orig.ip, flow.resp.ip).is_some();
        if hello.sni.is_none() {
            self.odd
                .insert("the client doesn't say whom it wants", BITS_NAMELESS);
        } else if context.peers.asks(flow.orig.ip) && !looked_up {
            self.odd.insert(
                "the client names a server that it never looked up",
                BITS_NEVER_LOOKED_UP,
            );
        }
        let port = flow.resp_port;
        if PORTS.binary_search(&port).is_err() && database_product(port).is_none() {
            self.odd.insert("TLS on a port of its own", BITS_OFF_PORT);
        }
    }

    fn server(&mut self, hello: &TlsServerHello) {
        if hello.version < TLS_1_2 {
            self.odd
                .insert("a version of TLS that is out of use", BITS_OLD);
        }
    }

    fn certificate(&mut self, certificate: &TlsCertificate) {
        if certificate.self_issued {
            self.odd
                .insert("the server issued its certificate itself", BITS_SELF_ISSUED);
        }
        if let Some(sni) = &self.sni
            && !certificate.names.is_empty()
            && !certificate.names.iter().any(|name| covers(name, sni))
        {
            self.odd
                .insert("the certificate is for other names", BITS_OTHER_NAME);
        }
        let days = i64::from(certificate.valid_days);
        if !(0..=days).contains(&i64::from(certificate.age_days)) {
            self.odd
                .insert("the certificate isn't valid now", BITS_NOT_NOW);
        } else if certificate.valid_days > LONGEST_DAYS {
            self.odd.insert(
                "the certificate is valid for longer than any authority's",
                BITS_FOR_EVER,
            );
        }
    }

    fn records(&mut self, records: &TlsRecords) {
        let sizes: Vec<_> = records
            .records
            .iter()
            .map(|record| (record.direction, u32::from(record.bytes)))
            .collect();
        if begins_tls(&sizes) {
            self.odd
                .insert("inside it another TLS connection begins", BITS_NESTED);
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        let decides =
            exchange.asker == Direction::Resp && exchange.number > 0 && exchange.pause() >= SILENCE;
        self.decisions = self.decisions.saturating_add(u32::from(decides));
    }
}

/// Whether a certificate's name, maybe with a wildcard for the first label, is that of a server (RFC 6125 6.4.3).
fn covers(name: &str, server: &str) -> bool {
    name == server
        || name.strip_prefix("*.").is_some_and(|domain| {
            server
                .split_once('.')
                .is_some_and(|(_, parent)| parent == domain)
        })
}

fn judge(channel: &Channel<Seen>, context: &Context<'_>) -> Option<Verdict> {
    let seen = &channel.seen;
    let flow = seen.flow.as_ref()?;
    if seen.odd.len() < FEWEST_ODD && !seen.ssl2 {
        return None;
    }
    let new = newness(flow, RHYTHM, context);
    // An old library is odd whenever its peer was first called.
    if new.bits <= 0.0 && !seen.ssl2 || context.is_learned(flow) {
        return None;
    }
    let mut words: Vec<&str> = seen.odd.keys().copied().collect();
    let mut bits = seen.odd.values().sum::<f64>().min(MOST_BITS_ODD);
    if seen.ssl2 {
        words.insert(0, "the client greets in the framing of SSL 2.0");
        bits = bits.max(BITS_SSL2);
    }
    let mut evidence = vec![Evidence {
        feature: "tls.odd",
        family: Family::Protocol,
        observed: words.len() as f64,
        expected: "a named server, with a certificate of an authority's, at a port of TLS".into(),
        bits,
        signature_grade: false,
        text: words.join("; "),
    }];
    if new.bits > 0.0 {
        evidence.push(new);
    }
    if seen.decisions >= DECISIONS {
        evidence.push(Evidence {
            feature: "tls.server_decides",
            family: Family::Volume,
            observed: f64::from(seen.decisions),
            expected: "a client that asks".into(),
            bits: BITS_DECIDES,
            signature_grade: false,
            text: format!(
                "the server spoke first after a silence {} times",
                seen.decisions
            ),
        });
    }
    if let (Some(profile), Some(ja4)) = (context.profile(&flow.orig), &seen.ja4)
        && !profile.knows_word(Vocabulary::Ja4, Role::Client, ja4)
    {
        evidence.push(Evidence {
            feature: "tls.new_client",
            family: Family::Novelty,
            observed: 1.0,
            expected: "a TLS library that the workload is known for".into(),
            bits: profile
                .word_bits(Vocabulary::Ja4, Role::Client)
                .min(MOST_BITS_NEW_CLIENT),
            signature_grade: false,
            text: format!("the workload never used the TLS library {ja4}"),
        });
    }
    evidence.extend(bare_address(flow, context));
    let name = seen.sni.as_deref().map_or_else(
        || {
            context
                .peers
                .domain(flow.orig.ip, flow.resp.ip)
                .map(|name| &**name)
        },
        Some,
    );
    Some(Verdict {
        evidence,
        protocol: "tls",
        summary: format!(
            "speaks TLS to {}, new to it and odd: {}",
            channel.other_name(name),
            words.join("; ")
        ),
    })
}

impl Detector for TlsC2 {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let (flow, transaction) = match &event.kind {
            EventKind::Transaction { flow, transaction } if is_candidate(flow) => {
                (flow, transaction)
            }
            EventKind::Exchange {
                flow,
                exchange,
                app: Some("tls"),
            } if exchange.asker == Direction::Resp && is_candidate(flow) => {
                if let Some(channel) = self.channels.known(flow, event.time) {
                    channel.seen.exchange(exchange);
                    self.report(flow, context, out);
                }
                return;
            }
            EventKind::FlowEnded { flow, record } => {
                self.channels.ended(flow, record);
                return;
            }
            _ => return,
        };
        match transaction {
            // Encryption that was agreed on in clear is there against listeners and mostly proves nobody (RFC 7435): mail is
            // handed to whatever certificate, so that nothing of it is odd but a hello that no library sends.
            Transaction::TlsClient(hello) if hello.upgraded && !hello.ssl2 => {}
            Transaction::TlsClient(hello) => {
                let seen = &mut self.channels.see(flow, event.time).seen;
                seen.flow.get_or_insert_with(|| Arc::clone(flow));
                seen.client(flow, hello, context);
            }
            Transaction::TlsServer(hello) => self.with(flow, event, |seen| seen.server(hello)),
            Transaction::TlsCertificate(one) if one.direction == Direction::Resp => {
                self.with(flow, event, |seen| seen.certificate(one));
                self.report(flow, context, out);
            }
            Transaction::TlsRecords(records) => {
                self.with(flow, event, |seen| seen.records(records));
                self.report(flow, context, out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.channels
            .finish(context, |channel| judge(channel, context), out);
    }

    fn state_size(&self) -> StateSize {
        self.channels.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.channels.losses()
    }
}

impl TlsC2 {
    fn with(&mut self, flow: &Arc<FlowInfo>, event: &Event, note: impl FnOnce(&mut Seen)) {
        if let Some(channel) = self.channels.known(flow, event.time) {
            note(&mut channel.seen);
        }
    }

    fn report(&mut self, flow: &Arc<FlowInfo>, context: &Context<'_>, out: &mut Findings) {
        let judge = |channel: &Channel<Seen>| judge(channel, context);
        self.channels
            .report(&channel_key(flow), context, judge, out);
    }
}

/// Whose connections are looked at: those that go out to the Internet. Servers of one's own issue their own certificates.
fn is_candidate(flow: &FlowInfo) -> bool {
    flow.resp.who.identity.kind == IdentityKind::External
        && goes_out(flow)
        && !matches!(
            flow.orig.who.identity.kind,
            IdentityKind::Node | IdentityKind::Service
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::testing::{Bench, end, pod};
    use crate::flow::{Outcome, Protocol};

    const ID: &str = "tls-c2";

    fn certificate(names: &[&str], self_issued: bool, days: (u32, i32)) -> Transaction {
        Transaction::TlsCertificate(TlsCertificate {
            direction: Direction::Resp,
            subject: None,
            issuer: None,
            self_issued,
            names: names.iter().map(|&name| name.into()).collect(),
            for_addresses: false,
            valid_days: days.0,
            age_days: days.1,
            chain: 1,
        })
    }

    fn hello(sni: Option<&str>) -> Transaction {
        Transaction::TlsClient(TlsClientHello {
            sni: sni.map(Into::into),
            version: TLS_1_2,
            ja4: "t12i190700_d83cc789557e_16bbda4055b2".into(),
            ..TlsClientHello::default()
        })
    }

    /// A pod that has been at work for a minute calls `port` outside.
    fn call(port: u16, said: Vec<Transaction>) -> Bench {
        let (api, db) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
        let server = end("192.0.2.50", IdentityKind::External, None);
        let mut bench = Bench::new(ID);
        for n in 0..20 {
            bench.tcp(
                f64::from(n) * 3.0,
                (&api, &db),
                5432,
                Outcome::Answered,
                500,
            );
        }
        let flow = bench.begin(90.0, (&api, &server), Protocol::Tcp, port);
        for transaction in said {
            bench.says(90.1, &flow, transaction);
        }
        bench
    }

    #[test]
    fn a_server_of_its_own_making_that_is_new_is_found() {
        let said = vec![hello(None), certificate(&["server"], true, (3650, 30))];
        let bench = call(7084, said);
        assert!(bench.alerts(), "{}", bench.bits());
    }

    #[test]
    fn a_library_that_nobody_has_any_more_is_found_from_the_first_call_on() {
        let (api, server) = (
            pod("10.244.1.7", "api"),
            end("192.0.2.50", IdentityKind::External, None),
        );
        let old = || {
            Transaction::TlsClient(TlsClientHello {
                version: 0x0301,
                ssl2: true,
                ..TlsClientHello::default()
            })
        };
        let call = |bench: &mut Bench, secs: f64| {
            let flow = bench.begin(secs, (&api, &server), Protocol::Tcp, 443);
            bench.says(secs, &flow, old());
            bench.says(secs, &flow, certificate(&["shop.example"], false, (90, 3)));
        };
        let mut bench = Bench::new(ID);
        call(&mut bench, 0.0);
        assert!(bench.alerts(), "{}", bench.bits());
        // What it always did is what it is for.
        for n in 0..50 {
            call(&mut bench, f64::from(n) * 600.0);
        }
        let mut bench = bench.learned(ID);
        call(&mut bench, 40_000.0);
        assert!(!bench.alerts(), "{}", bench.bits());
    }

    #[test]
    fn one_oddity_is_none() {
        for (port, said) in [
            (
                443,
                vec![
                    hello(Some("intranet.example")),
                    certificate(&["intranet.example"], true, (365, 3)),
                ],
            ),
            (
                7084,
                vec![
                    hello(Some("api.example")),
                    certificate(&["*.example", "api.example"], false, (90, 3)),
                ],
            ),
            (
                443,
                vec![hello(None), certificate(&["api.example"], false, (90, 3))],
            ),
        ] {
            let bench = call(port, said);
            assert!(!bench.alerts(), "{}", bench.bits());
        }
    }

    #[test]
    fn encryption_agreed_on_in_clear_proves_nobody() {
        let greets = |ssl2| {
            Transaction::TlsClient(TlsClientHello {
                version: TLS_1_2,
                upgraded: true,
                ssl2,
                ..TlsClientHello::default()
            })
        };
        let shown = || certificate(&["mx"], true, (3650, 30));
        let bench = call(25, vec![greets(false), shown()]);
        assert!(!bench.alerts(), "{}", bench.bits());
        let bench = call(25, vec![greets(true), shown()]);
        assert!(bench.alerts(), "{}", bench.bits());
    }

    #[test]
    fn a_habit_is_none_of_our_business() {
        let api = pod("10.244.1.7", "api");
        let server = end("192.0.2.50", IdentityKind::External, None);
        let mut bench = Bench::new(ID);
        let flow = bench.begin(0.0, (&api, &server), Protocol::Tcp, 7084);
        bench.says(0.1, &flow, hello(None));
        bench.says(0.2, &flow, certificate(&["server"], true, (3650, 30)));
        assert!(!bench.alerts());
    }

    #[test]
    fn names_cover_servers() {
        assert!(covers("*.example.com", "www.example.com"));
        assert!(!covers("*.example.com", "a.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(covers("example.com", "example.com"));
    }

    #[test]
    fn many_lines_are_bounded() {
        let api = pod("10.244.1.7", "api");
        let mut bench = Bench::new(ID);
        for n in 0..20_000_u32 {
            let [_, _, c, d] = n.to_be_bytes();
            let peer = end(&format!("198.51.{c}.{d}"), IdentityKind::External, None);
            let flow = bench.open(1.0, (&api, &peer), Protocol::Tcp, 443);
            bench.says(1.0, &flow, hello(None));
        }
        let size = bench.state_size();
        assert!(size.entries <= size.limit);
    }
}
