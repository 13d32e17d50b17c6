//! One way out: what was seen of it, what that weighs, and how it is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::newness::newness;
use super::super::{Context, Evidence, Family, Finding, Target};
use super::SPEC;
use crate::event::{Endpoint, FlowInfo};
use crate::features::Role;
use crate::time::Timestamp;

/// A handshake's whole structure, or a protocol whose only use is this.
const BITS_HANDSHAKE: f64 = 18.0;
/// Two messages framed and as long as OpenVPN's, and nothing else to be told from them.
const BITS_MASKED: f64 = 16.0;
/// Random bytes both ways, to an address that no name led to. The rest must come from how new it is.
const BITS_SEALED: f64 = 14.0;
/// A handshake inside, and its acknowledgements over and over, of one size, and nothing larger than a packet.
const BITS_PACKETS: f64 = 22.0;
const BITS_ANSWERED: f64 = 6.0;
const BITS_SERVICE: f64 = 22.0;
/// A name that was never looked up says more than its letters.
const BITS_NOT_LOOKED_UP: f64 = 6.0;
const MAX_BITS: f64 = 40.0;
/// Protocols that carry IP packets, or hide them, right inside IP.
const INSIDE_IP: [&str; 4] = ["ip-in-ip", "gre", "esp", "l2tp"];

/// What kind of way out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// By a protocol with a handshake of its own, towards a host.
    Protocol(&'static str, IpAddr),
    /// By what looks like nothing but a cipher from the first byte on, towards a host.
    Sealed(IpAddr),
    /// By TLS whose records are packets, towards a host.
    Packets(IpAddr),
    Tor,
    /// A service, by its host's registered domain.
    Service(Arc<str>),
}

/// A way out, as far as it was seen.
pub(super) struct Tunnel {
    pub(super) actor: Endpoint,
    pub(super) peer: Endpoint,
    pub(super) port: u16,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) flows: u64,
    pub(super) answered: u64,
    pub(super) masked: bool,
    /// Acknowledgements of connections inside.
    pub(super) acks: u64,
    /// Bytes out and in, of flows that ended.
    pub(super) bytes: [u64; 2],
    pub(super) names: BTreeSet<Arc<str>>,
    /// Evidence of names in bits: it never falls below 0, so that a crawler's many ordinary names count for nothing.
    pub(super) name_bits: f64,
    pub(super) not_looked_up: u64,
    pub(super) samples: Vec<Arc<FlowInfo>>,
    pub(super) reported_flows: Option<u64>,
}

impl Tunnel {
    pub(super) fn new(actor: &Endpoint, peer: &Endpoint, port: u16, time: Timestamp) -> Self {
        Self {
            actor: actor.clone(),
            peer: peer.clone(),
            port,
            first: time,
            last: time,
            flows: 0,
            answered: 0,
            masked: false,
            acks: 0,
            bytes: [0, 0],
            names: BTreeSet::new(),
            name_bits: 0.0,
            not_looked_up: 0,
            samples: Vec::new(),
            reported_flows: None,
        }
    }

    pub(super) fn evidence(&self, kind: &Kind, context: &Context<'_>) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: f64, expected: &str, bits, text| {
            evidence.push(Evidence {
                feature,
                family,
                observed,
                expected: expected.into(),
                bits,
                signature_grade: false,
                text,
            });
        };
        match kind {
            Kind::Protocol(name, _) => {
                let (bits, text) = if INSIDE_IP.contains(name) {
                    (BITS_HANDSHAKE, "by IP's own protocol number")
                } else if self.masked {
                    (
                        BITS_MASKED,
                        "the first messages are framed and as long as OpenVPN's, and masked",
                    )
                } else {
                    (
                        BITS_HANDSHAKE,
                        "the first message has its structure throughout",
                    )
                };
                add(
                    "vpn.handshakes",
                    Family::Protocol,
                    self.flows as f64,
                    "0: workloads leave the cluster in the open",
                    bits,
                    format!("{} flows begin as {name}'s do: {text}", self.flows),
                );
                if self.answered > 0 {
                    add(
                        "vpn.answered",
                        Family::Outcome,
                        self.answered as f64,
                        "0",
                        BITS_ANSWERED,
                        format!("{} of them were answered", self.answered),
                    );
                }
            }
            Kind::Sealed(_) => add(
                "vpn.sealed",
                Family::Protocol,
                self.flows as f64,
                "0: protocols begin with a greeting, a length, a name",
                BITS_SEALED,
                format!(
                    "{} flows to a bare address are random bytes from the first on, both ways",
                    self.flows
                ),
            ),
            Kind::Packets(_) => {
                add(
                    "vpn.packets_in_tls",
                    Family::Protocol,
                    self.acks as f64,
                    "0: TLS itself sees to acknowledgements and lengths",
                    BITS_PACKETS,
                    format!(
                        "what passes inside TLS are packets, by the sizes of records in {} of its flows: a TCP handshake, bare acknowledgements of one size ({} times), and nothing larger than a link takes",
                        self.flows, self.acks
                    ),
                );
                add(
                    "vpn.answered",
                    Family::Outcome,
                    self.acks as f64,
                    "0",
                    BITS_ANSWERED,
                    "both ends acknowledge what comes".into(),
                );
            }
            Kind::Tor => {
                add(
                    "tor.random_names",
                    Family::Protocol,
                    self.names.len() as f64,
                    "0: servers have names that people can read",
                    self.name_bits.min(MAX_BITS),
                    format!(
                        "TLS to {} random names such as {}",
                        self.names.len(),
                        self.names.first().map_or("?", |name| name)
                    ),
                );
                if self.not_looked_up > 0 {
                    add(
                        "tor.names_never_looked_up",
                        Family::Outcome,
                        self.not_looked_up as f64,
                        "0: a name is looked up before it is called",
                        BITS_NOT_LOOKED_UP,
                        format!(
                            "{} connections to a name that no DNS answer led to",
                            self.not_looked_up
                        ),
                    );
                }
            }
            Kind::Service(domain) => add(
                "vpn.service_hosts",
                Family::Protocol,
                self.flows as f64,
                "0",
                BITS_SERVICE,
                format!(
                    "{} connections to hosts of {domain} that its client program calls: {}",
                    self.flows,
                    self.names.iter().next().map_or("?", |name| name)
                ),
            ),
        }
        if let (Kind::Sealed(_), Some(flow)) = (kind, self.samples.first()) {
            evidence.push(newness(flow, Duration::ZERO, context));
        } else if let Some(profile) = context.profile(&self.actor) {
            add(
                "vpn.new_peer",
                Family::Novelty,
                1.0,
                "a peer it has met before",
                profile.novelty_bits(Role::Client),
                "the workload never did this in its baseline".into(),
            );
        }
        evidence
    }

    pub(super) fn finding(&self, kind: &Kind, evidence: Vec<Evidence>) -> Finding {
        let [out, back] = self.bytes;
        let moved = if out.saturating_add(back) > 0 {
            format!("; {out} bytes went out and {back} came back")
        } else {
            String::new()
        };
        let (subject, protocol, domain, summary) = match kind {
            Kind::Protocol(name, ip) => (
                // As other signatures name a peer, so that its beacons and odd TLS are part of it.
                format!("{ip}:{}", self.port),
                *name,
                None,
                format!(
                    "opened a tunnel by {name} to {ip}, port {}{moved}",
                    self.port
                ),
            ),
            Kind::Sealed(ip) => (
                format!("{ip}:{}", self.port),
                "unknown",
                None,
                format!(
                    "opened a tunnel to {ip}, port {}, that is sealed from the first byte on{moved}",
                    self.port
                ),
            ),
            Kind::Packets(ip) => (
                format!("{ip}:{}", self.port),
                "tls",
                None,
                format!(
                    "opened a tunnel inside TLS to {ip}, port {}: what passes are IP packets{moved}",
                    self.port
                ),
            ),
            Kind::Tor => (
                "tor".to_owned(),
                "tor",
                None,
                format!(
                    "called {} hosts as a Tor client does, by random names{moved}",
                    self.flows
                ),
            ),
            Kind::Service(domain) => (
                domain.to_string(),
                "tls",
                Some(Arc::clone(domain)),
                format!("runs the client of the tunnel service {domain}{moved}"),
            ),
        };
        Finding {
            signature: SPEC.id,
            subject,
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(self.peer.clone()),
                port: (self.port != 0).then_some(self.port),
                protocol: Some(protocol),
                domain,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary,
        }
    }
}
