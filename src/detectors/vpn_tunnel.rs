//! `vpn-tunnel`: a workload opens a way out that hides all traffic: WireGuard, OpenVPN, Tor, or IP packets in IP packets.
//!
//! The protocols are told by the structure of their handshakes, on any port; an OpenVPN that masks its bytes still has
//! handshakes of its lengths, and what is random bytes from the first on to a bare address that is new is a tunnel whatever
//! its name (OpenVPN with a static key, Shadowsocks). IP packets inside TLS, as SSL VPNs carry them, show in the sizes of
//! records ([`carries_tcp`]). Tor's clients greet relays with a random name that nobody ever looked up. Nodes are left
//! out: network plugins encrypt between them by the same protocols, but no pod has a part in that.

#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use tunnel::{Kind, Tunnel};

use super::channels::total_bits;
use super::newness::bare_address;
use super::{Context, Detector, DetectorSpec, Findings, StateSize};
use crate::dissect::{ByteMix, Opening, TlsRecords, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{
    Bounded, DomainName, Sized, SourceKey, carries_tcp, randomness_bits, source_key,
};
use crate::flow::{Direction, FlowId, Outcome, Protocol};
use crate::identity::IdentityKind;
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "vpn-tunnel",
    sees: EventKinds::FLOW_OUTCOME
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::TLS)
        .and(EventKinds::DNS)
        .and(EventKinds::OPENING)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(VpnTunnel::new(
            thresholds,
            signature.alert_bits,
            signature.share,
        )))
    },
};

/// Applications, as dissectors name them, that are nothing else.
const VPNS: [&str; 3] = ["wireguard", "openvpn", "anyconnect"];
/// What a single random name is worth at most: short ones may be words of some language.
const MAX_BITS_PER_NAME: f64 = 12.0;
/// Names told apart per client.
const MAX_NAMES: usize = 32;
const MAX_SAMPLES: usize = 8;
/// Lengths of OpenVPN's client resets with the HMACs in use, and what the server's is longer.
const RESET_LENGTHS: [u16; 6] = [38, 42, 50, 54, 70, 86];
const RESET_ANSWER: u16 = 12;
/// Cilium's, and Calico's for IPv6; its other one, 51820, is everybody's.
const PLUGIN_PORTS: [u16; 2] = [51871, 51821];
/// Flows whose opening waits for the other end's.
const MAX_OPENINGS: usize = 8192;
const MAX_CLIENTS: usize = 4096;
/// TLS connections whose first records wait for more.
const MAX_SEALED_RECORDS: usize = 1024;
/// Of fewer bytes nobody can say that they are random.
const FEWEST_SEALED: u16 = 48;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// Hosts by which the clients of VPN and tunnel services are recognised: they and all names below them.
    service_hosts: Vec<String>,
    max_tunnels: usize,
}

type Key = (SourceKey, Kind);

struct VpnTunnel {
    thresholds: Thresholds,
    alert_bits: f64,
    tunnels: Bounded<Key, Tunnel>,
    /// Flows of tunnels, and whether each was answered.
    flows: Bounded<FlowId, (Key, bool)>,
    openings: Bounded<FlowId, Opening>,
    /// Flows whose originator's first bytes look sealed.
    sealed: Bounded<FlowId, ()>,
    /// Sizes of the first records of TLS connections, until they are told apart.
    records: Bounded<FlowId, Vec<Sized>>,
    /// Clients whose DNS answers are seen: what they call by a name they must have looked up.
    resolving: Bounded<IpAddr, ()>,
    evicted: u64,
    reported: BTreeSet<Key>,
}

fn is_inside(end: &Endpoint) -> bool {
    matches!(
        end.who.identity.kind,
        IdentityKind::Pod | IdentityKind::Service
    )
}

/// Whose tunnel it is: the workload's, whoever began. Nodes have tunnels of their own.
fn sides(flow: &FlowInfo) -> Option<(&Endpoint, &Endpoint)> {
    let (orig, resp) = (&flow.orig, &flow.resp);
    let is_node = |end: &Endpoint| end.who.identity.kind == IdentityKind::Node;
    if is_inside(orig) {
        Some((orig, resp))
    } else if is_inside(resp) {
        Some((resp, orig))
    } else {
        let nodes = is_node(orig) || is_node(resp) || may_be_nodes(flow);
        (!nodes).then_some((orig, resp))
    }
}

/// Where nobody is known: two hosts of one site on the ports that network plugins took for their own encryption.
fn may_be_nodes(flow: &FlowInfo) -> bool {
    let unknown = |end: &Endpoint| end.who.identity.kind == IdentityKind::Unknown;
    unknown(&flow.orig) && unknown(&flow.resp) && PLUGIN_PORTS.contains(&flow.resp_port)
}

/// Protocols that carry IP packets, or hide them, right inside IP.
fn carrier(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Other(4 | 41) => Some("ip-in-ip"),
        Protocol::Other(47) => Some("gre"),
        Protocol::Other(50) => Some("esp"),
        Protocol::Other(115) => Some("l2tp"),
        _ => None,
    }
}

/// The label of a name as Tor makes them: `www.`, 4 to 25 letters of base32, `.com` or `.net`.
fn tor_label(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("www.")?;
    let label = rest
        .strip_suffix(".com")
        .or_else(|| rest.strip_suffix(".net"))?;
    let fits = (4..=25).contains(&label.len())
        && label
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    fits.then_some(label)
}

impl VpnTunnel {
    fn new(thresholds: Thresholds, alert_bits: f64, share: Share) -> Self {
        Self {
            tunnels: Bounded::new(thresholds.max_tunnels),
            flows: Bounded::new(thresholds.max_tunnels),
            openings: Bounded::new(share.part(MAX_OPENINGS)),
            sealed: Bounded::new(share.part(MAX_OPENINGS)),
            records: Bounded::new(share.part(MAX_SEALED_RECORDS)),
            resolving: Bounded::new(share.part(MAX_CLIENTS)),
            evicted: 0,
            reported: BTreeSet::new(),
            thresholds,
            alert_bits,
        }
    }

    /// The tunnel that a flow belongs to; a new one if need be.
    fn tunnel(
        &mut self,
        flow: &Arc<FlowInfo>,
        kind: Kind,
        time: Timestamp,
    ) -> Option<(Key, &mut Tunnel)> {
        let (actor, peer) = sides(flow)?;
        let key = (source_key(actor), kind);
        if !self.tunnels.contains(&key) {
            let tunnel = Tunnel::new(actor, peer, flow.resp_port, time);
            if let Some((old, _)) = self.tunnels.push(key.clone(), tunnel) {
                self.evicted += 1;
                self.reported.remove(&old);
            }
        }
        let known = self.flows.contains(&flow.id);
        // What is recognised in a stream was accepted before.
        let answered = flow.protocol == Protocol::Tcp;
        if !known {
            self.flows.push(flow.id, (key.clone(), answered));
        }
        let tunnel = self.tunnels.get_mut(&key)?;
        tunnel.last = tunnel.last.max(time);
        if known {
            return Some((key, tunnel));
        }
        tunnel.flows += 1;
        tunnel.answered += u64::from(answered);
        if tunnel.samples.len() < MAX_SAMPLES {
            tunnel.samples.push(Arc::clone(flow));
        }
        Some((key, tunnel))
    }

    /// A flow is a tunnel by this protocol.
    fn recognised(
        &mut self,
        flow: &Arc<FlowInfo>,
        protocol: &'static str,
        masked: bool,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Option<Key> {
        if is_usual(flow, context) {
            return None;
        }
        let (_, peer) = sides(flow)?;
        let kind = Kind::Protocol(protocol, peer.ip);
        let (key, tunnel) = self.tunnel(flow, kind, time)?;
        tunnel.masked = masked;
        Some(key)
    }

    /// A flow of a protocol that carries packets right inside IP has carried something. Headers without anything are those
    /// of somebody who tries which protocols a host knows.
    fn inside_ip(
        &mut self,
        flow: &Arc<FlowInfo>,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Option<Key> {
        let name = carrier(flow.protocol)?;
        let inside = is_inside(&flow.orig) || is_inside(&flow.resp);
        inside.then(|| self.recognised(flow, name, false, time, context))?
    }

    fn answered(&mut self, flow: &FlowInfo, time: Timestamp) -> Option<Key> {
        let (key, answered) = self.flows.get_mut(&flow.id)?;
        if !std::mem::replace(answered, true) {
            let tunnel = self.tunnels.get_mut(key)?;
            tunnel.answered += 1;
            tunnel.last = tunnel.last.max(time);
        }
        Some(key.clone())
    }

    /// A TLS client asks for a server by name.
    fn greeted(
        &mut self,
        flow: &Arc<FlowInfo>,
        name: &Arc<str>,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Option<Key> {
        let is_below = |host: &String| {
            name.strip_suffix(host.as_str())
                .is_some_and(|left| left.is_empty() || left.ends_with('.'))
        };
        let is_service = self.thresholds.service_hosts.iter().any(is_below);
        let label = tor_label(name);
        if label.is_none() && !is_service || is_usual(flow, context) {
            return None;
        }
        if is_service {
            let domain = DomainName::split(name).map_or(&**name, |name| name.registered);
            let (key, tunnel) = self.tunnel(flow, Kind::Service(domain.into()), time)?;
            if tunnel.names.len() < MAX_NAMES {
                tunnel.names.insert(Arc::clone(name));
            }
            return Some(key);
        }
        let label = label?;
        let led = context.peers.domain(flow.orig.ip, flow.resp.ip);
        if led.is_some_and(|led| name.ends_with(&**led)) {
            return None;
        }
        let bits = randomness_bits(label).min(MAX_BITS_PER_NAME);
        let (actor, _) = sides(flow)?;
        let key = (source_key(actor), Kind::Tor);
        // Names that anybody would give a site only take away.
        if bits <= 0.0 {
            if let Some(tunnel) = self.tunnels.peek_mut(&key) {
                tunnel.name_bits = (tunnel.name_bits + bits).max(0.0);
            }
            return None;
        }
        let looks_up = self.resolving.contains(&flow.orig.ip);
        let (key, tunnel) = self.tunnel(flow, Kind::Tor, time)?;
        let room = tunnel.names.len() < MAX_NAMES;
        if room && tunnel.names.insert(Arc::clone(name)) {
            tunnel.name_bits += bits;
        }
        tunnel.not_looked_up += u64::from(looks_up);
        Some(key)
    }

    /// Both ends' first messages are there: are they OpenVPN's, masked?
    fn opened(&mut self, flow: &FlowInfo, opening: &Opening) -> bool {
        match opening.direction {
            Direction::Orig => {
                let may_be = RESET_LENGTHS.contains(&body(opening)) && looks_masked(opening);
                if may_be && flow.protocol == Protocol::Tcp {
                    self.openings.push(flow.id, *opening);
                }
                false
            }
            Direction::Resp => self.openings.pop(&flow.id).is_some_and(|asked| {
                looks_masked(opening) && body(opening) == body(&asked).saturating_add(RESET_ANSWER)
            }),
        }
    }

    /// Both ends' first messages are there: is neither anything but random bytes, with a stranger outside? The flow's tunnel
    /// then.
    fn sealed(
        &mut self,
        flow: &Arc<FlowInfo>,
        opening: &Opening,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Option<Key> {
        let is_sealed = opening.looks_encrypted()
            && opening.mix == ByteMix::Random
            && opening.bytes >= FEWEST_SEALED;
        if opening.direction == Direction::Orig {
            if is_sealed && (is_inside(&flow.orig) || context.is_pod(&flow.orig)) {
                self.sealed.push(flow.id, ());
            }
            return None;
        }
        self.sealed.pop(&flow.id)?;
        // Protocols of programs' own may be sealed, too; but who finds others outside by name finds his own so.
        let by_name = context.peers.asks_outside(flow.orig.ip);
        if !is_sealed
            || !by_name
            || is_usual(flow, context)
            || bare_address(flow, context).is_none()
        {
            return None;
        }
        let kind = Kind::Sealed(flow.resp.ip);
        self.tunnel(flow, kind, time).map(|(key, _)| key)
    }

    /// More sizes of records are there: are they packets of a link? The flow's tunnel then.
    fn carried(
        &mut self,
        flow: &Arc<FlowInfo>,
        more: &TlsRecords,
        time: Timestamp,
        context: &Context<'_>,
    ) -> Option<Key> {
        if is_usual(flow, context) || self.flows.contains(&flow.id) {
            return None;
        }
        let mut sizes = self.records.pop(&flow.id).unwrap_or_default();
        let more = more.records.iter();
        sizes.extend(more.map(|record| (record.direction, u32::from(record.bytes))));
        let Some((acks, _)) = carries_tcp(&sizes) else {
            self.records.push(flow.id, sizes);
            return None;
        };
        let (_, peer) = sides(flow)?;
        let (key, tunnel) = self.tunnel(flow, Kind::Packets(peer.ip), time)?;
        tunnel.acks = tunnel.acks.saturating_add(acks as u64);
        Some(key)
    }

    fn report(&mut self, key: &Key, context: &Context<'_>, out: &mut Findings) {
        let Some(tunnel) = self.tunnels.peek_mut(key) else {
            return;
        };
        if tunnel
            .reported_flows
            .is_some_and(|before| tunnel.flows < before.saturating_mul(2))
        {
            return;
        }
        let evidence = tunnel.evidence(&key.1, context);
        if total_bits(&evidence) >= self.alert_bits {
            tunnel.reported_flows = Some(tunnel.flows);
            out.push(tunnel.finding(&key.1, evidence));
            self.reported.insert(key.clone());
        }
    }
}

/// Whether the workload has done this all along.
fn is_usual(flow: &FlowInfo, context: &Context<'_>) -> bool {
    let serves = || {
        context.profile(&flow.resp).is_some_and(|profile| {
            context
                .peers
                .server_contact(flow)
                .is_some_and(|contact| profile.knows(&contact))
        })
    };
    context.is_learned(flow) || serves()
}

/// Length of a first message without the length before it.
const fn body(opening: &Opening) -> u16 {
    opening.bytes.saturating_sub(2)
}

fn looks_masked(opening: &Opening) -> bool {
    opening.framed && !opening.starts_printable && opening.mix != ByteMix::Text
}

impl Detector for VpnTunnel {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let time = event.time;
        let touched = match &event.kind {
            EventKind::Recognised { flow, app } if VPNS.contains(app) => {
                self.recognised(flow, app, false, time, context)
            }
            EventKind::FlowOutcome {
                flow,
                outcome: Outcome::Answered,
            } if matches!(
                flow.protocol,
                Protocol::Udp | Protocol::Tcp | Protocol::Other(_)
            ) =>
            {
                self.inside_ip(flow, time, context);
                self.answered(flow, time)
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::TlsClient(hello),
            } => hello
                .sni
                .as_ref()
                .and_then(|name| self.greeted(flow, name, time, context)),
            EventKind::Transaction {
                flow,
                transaction: Transaction::Dns(message),
            } => {
                if message.response && !message.answers.is_empty() {
                    self.resolving.put(flow.orig.ip, ());
                }
                None
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Opening(opening),
            } => {
                if self.opened(flow, opening) {
                    self.recognised(flow, "openvpn", true, time, context)
                } else {
                    self.sealed(flow, opening, time, context)
                }
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::TlsRecords(records),
            } => self.carried(flow, records, time, context),
            EventKind::FlowEnded { flow, record } => {
                self.openings.pop(&flow.id);
                self.records.pop(&flow.id);
                self.sealed.pop(&flow.id);
                let [said, _] = record.payload_bytes;
                let unanswered = if said > 0 {
                    self.inside_ip(flow, time, context)
                } else {
                    None
                };
                if let Some((key, _)) = self.flows.pop(&flow.id)
                    && let Some(tunnel) = self.tunnels.peek_mut(&key)
                {
                    let [mut out, mut back] = record.payload_bytes;
                    if flow.orig.ip != tunnel.actor.ip {
                        std::mem::swap(&mut out, &mut back);
                    }
                    let [known_out, known_back] = &mut tunnel.bytes;
                    *known_out = known_out.saturating_add(out);
                    *known_back = known_back.saturating_add(back);
                    tunnel.last = tunnel.last.max(record.end);
                }
                unanswered
            }
            _ => None,
        };
        if let Some(key) = touched {
            self.report(&key, context, out);
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            if let Some(tunnel) = self.tunnels.peek(&key) {
                out.push(tunnel.finding(&key.1, tunnel.evidence(&key.1, context)));
            }
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.tunnels.len()
                + self.flows.len()
                + self.openings.len()
                + self.sealed.len()
                + self.records.len()
                + self.resolving.len(),
            limit: self.tunnels.limit()
                + self.flows.limit()
                + self.openings.limit()
                + self.sealed.limit()
                + self.records.limit()
                + self.resolving.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
