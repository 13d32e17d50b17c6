//! Raw connections through a proxy: where they lead, and what is spoken there.
//!
//! Clients of the web ask a proxy for port 443 of a named host and speak TLS to it. What differs is weighed together,
//! for it is all one choice of the client's.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::Seen;
use crate::address::is_private;
use crate::detectors::channels::Channel;
use crate::detectors::{Evidence, Family};
use crate::dissect::{ByteMix, Opening, TunnelOpened};
use crate::flow::FlowId;
use crate::identity::IdentityKind;

/// Connections whose target is remembered until their content is known.
const MAX_OPEN: usize = 64;
/// Odd connections told apart.
const MAX_ODD: usize = 32;

/// What speaks TLS, by custom: HTTPS, mail, IMAP, LDAP, AMQP, Kubernetes.
const TLS_PORTS: &[u16] = &[443, 465, 563, 636, 853, 993, 995, 5671, 6443, 8443, 9443];
/// Ports that clients of the web go to.
const WEB_PORTS: &[u16] = &[80, 443, 8080, 8443];

/// Content that no proxy is there for. Administrators do send SSH through proxies, to fetch sources, say: less than in a
/// WebSocket, which nobody has to take.
const INSIDE: &[(&str, f64)] = &[
    ("socks", 22.0),
    ("rdp", 18.0),
    ("yamux", 18.0),
    ("smux", 18.0),
    ("ssh", 14.0),
    ("rfb", 12.0),
    ("postgresql", 10.0),
    ("mysql", 10.0),
    ("redis", 10.0),
    ("mongodb", 10.0),
];
/// Something else than TLS where TLS is spoken.
const BITS_MISMATCH: f64 = 8.0;
/// Noise from the first byte on.
const BITS_NOISE: f64 = 4.0;
const BITS_ODD_PORT: f64 = 3.0;
const BITS_BARE_ADDRESS: f64 = 3.0;
/// A private address, asked of a proxy beyond us or by somebody there.
const BITS_PRIVATE: f64 = 6.0;
/// A proxy on the public internet: workloads' proxies are their own cluster's or company's.
const BITS_PUBLIC_PROXY: f64 = 6.0;
/// One of ours serves as a proxy to somebody outside.
const BITS_SERVES_OUTSIDE: f64 = 20.0;

/// The raw connections of a line.
#[derive(Debug, Default)]
pub(super) struct Connects {
    open: VecDeque<(FlowId, Arc<str>)>,
    /// By target and content, how often, and the bits for both.
    odd: BTreeMap<(Arc<str>, &'static str), (u64, f64)>,
    all: u64,
}

impl Connects {
    /// A proxy agreed.
    pub(super) fn opened(&mut self, flow: FlowId, opened: &TunnelOpened) {
        let Some(target) = &opened.target else {
            return;
        };
        self.all += 1;
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((flow, Arc::clone(target)));
        self.note(target, "", 0.0);
    }

    /// What is inside was recognised.
    pub(super) fn inside(&mut self, flow: FlowId, name: &'static str) {
        let Some(target) = self.target(flow) else {
            return;
        };
        let known = INSIDE.iter().find(|(inside, _)| *inside == name);
        let mismatch = name != "tls" && TLS_PORTS.contains(&port(&target));
        let bits =
            known.map_or(0.0, |(_, bits)| *bits) + if mismatch { BITS_MISMATCH } else { 0.0 };
        if bits > 0.0 {
            self.note(&target, name, bits);
        }
    }

    /// Nobody knows what is inside.
    pub(super) fn unknown(&mut self, flow: FlowId, opening: &Opening) {
        let Some(target) = self.target(flow) else {
            return;
        };
        let noise = opening.mix == ByteMix::Random;
        // Too little to judge isn't yet something else than TLS.
        if opening.mix == ByteMix::Few && opening.bytes < 8 {
            return;
        }
        let mismatch = TLS_PORTS.contains(&port(&target));
        let bits =
            if mismatch { BITS_MISMATCH } else { 0.0 } + if noise { BITS_NOISE } else { 0.0 };
        if bits > 0.0 {
            self.note(&target, "an unknown protocol", bits);
        }
    }

    fn target(&self, flow: FlowId) -> Option<Arc<str>> {
        let found = self.open.iter().rfind(|(id, _)| *id == flow);
        found.map(|(_, target)| Arc::clone(target))
    }

    fn note(&mut self, target: &Arc<str>, content: &'static str, bits: f64) {
        let place = place_bits(target);
        if place + bits == 0.0 {
            return;
        }
        let key = (Arc::clone(target), content);
        if self.odd.len() < MAX_ODD || self.odd.contains_key(&key) {
            let odd = self.odd.entry(key).or_insert((0, place + bits));
            odd.0 += 1;
        }
    }

    /// The oddest connection.
    fn oddest(&self) -> Option<(&str, &'static str, f64)> {
        self.odd
            .iter()
            .map(|((target, content), (_, bits))| (&**target, *content, *bits))
            .reduce(|best, next| if next.2 > best.2 { next } else { best })
    }

    pub(super) fn evidence(&self, channel: &Channel<Seen>) -> Vec<Evidence> {
        if self.all == 0 {
            return Vec::new();
        }
        let serves = !channel.outward && channel.other.who.identity.kind == IdentityKind::External;
        let public = channel.outward && channel.other.who.identity.kind == IdentityKind::External;
        let (target, content, mut bits) = self.oddest().unwrap_or(("", "", 0.0));
        let mut why = Vec::new();
        if serves {
            bits += BITS_SERVES_OUTSIDE;
            why.push("asked for by somebody outside".to_owned());
        }
        if public {
            bits += BITS_PUBLIC_PROXY;
            why.push("through a proxy outside".to_owned());
        }
        if bits == 0.0 {
            return Vec::new();
        }
        if !target.is_empty() {
            why.insert(0, format!("to {target}"));
        }
        if !content.is_empty() {
            why.push(format!("that carries {}", shown(content)));
        }
        vec![Evidence {
            feature: "http.connect",
            family: Family::Protocol,
            observed: self.all as f64,
            expected: "TLS to port 443 of a named host".into(),
            bits,
            signature_grade: false,
            text: format!("a raw connection {}", why.join(", ")),
        }]
    }

    pub(super) fn summary(&self) -> String {
        match self.oddest() {
            Some((target, "", _)) => format!("a raw connection to {target}"),
            Some((target, content, _)) => format!("{} to {target}", shown(content)),
            None => "raw connections".into(),
        }
    }
}

fn shown(content: &str) -> String {
    if content.contains(' ') {
        content.to_owned()
    } else {
        content.to_uppercase()
    }
}

/// What a target is worth by itself.
fn place_bits(target: &str) -> f64 {
    let port = port(target);
    let odd_port = !WEB_PORTS.contains(&port) && !TLS_PORTS.contains(&port);
    let address: Option<IpAddr> = host(target).parse().ok();
    let mut bits = 0.0;
    if odd_port {
        bits += BITS_ODD_PORT;
    }
    if let Some(address) = address {
        bits += if is_private(address) || address.is_loopback() {
            BITS_PRIVATE
        } else {
            BITS_BARE_ADDRESS
        };
    }
    bits
}

fn port(target: &str) -> u16 {
    target
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or(0)
}

fn host(target: &str) -> &str {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
