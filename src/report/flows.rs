//! The published form of a flow: `spanwatch.flow/1`, one JSON object a line in the flow log.
//!
//! ```json
//! {"schema":"spanwatch.flow/1","community_id":"1:…","start":"RFC 3339","end":"RFC 3339","proto":"tcp","app":"tls",
//!  "src":{"ip":"10.244.1.7","port":40000,"identity":"pod","namespace":"shop","pod":"cart-7d…","workload":"shop/Deployment/cart","attribution":"exact"},
//!  "dst":{…the same…},
//!  "bytes":[out,in],"packets":[out,in],"payload_bytes":[out,in],"retransmitted_bytes":[out,in],"missing_bytes":[out,in],"copies":[out,in],"copied_bytes":[out,in],
//!  "tcp_flags":["APSF","AS"],"state":"SF","reason":"closed","vlan":[100],
//!  "tunnel":{"kind":"vxlan","id":42,"outer":["192.168.50.7","192.168.50.10"],"depth":1},"inspection":"over-budget","gist":"GET shop.example/cart 200 ×3"}
//! ```
//!
//! Where an end was seen under two addresses, `src` and `dst` are its own, and `service` is what was called to reach `dst`, or
//! `masquerade` what `src` was let out as; both have the form of an end.
//!
//! Pairs are `[src to dst, dst to src]`; `src` is the end that began. Whatever isn't known or doesn't apply (ports of a
//! protocol without any, TCP's fields, names of an unnamed end, VLANs of an untagged network) is left out, never `null`.
//! Names and meanings hold still within version 1; new fields may appear.

use serde::{Deserialize, Serialize};

use crate::alert::{ActorV1, EndV1, IdentityV1, UtcTime, flow_community_id};
use crate::decode::Tunnel;
use crate::event::{Endpoint, FlowInfo};
use crate::flow::{FlowRecord, Protocol};

/// A flow that is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FlowRecordV1 {
    /// Always `spanwatch.flow/1`.
    pub schema: String,
    /// Community ID, version 1, seed 0.
    pub community_id: String,
    /// First packet.
    pub start: UtcTime,
    /// Last packet.
    pub end: UtcTime,
    /// Transport: `tcp`, `udp`, `icmp`, …
    pub proto: String,
    /// Application protocol, once recognised by content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The end that began.
    pub src: FlowEndV1,
    /// The end that was addressed.
    pub dst: FlowEndV1,
    /// The service address (or node port) that was called, if `dst` was reached through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FlowEndV1>,
    /// The address by which `src` was let out or passed on, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<FlowEndV1>,
    /// Bytes of whole frames.
    pub bytes: [u64; 2],
    /// Packets.
    pub packets: [u64; 2],
    /// Transport payload; for TCP each byte of the stream once.
    pub payload_bytes: [u64; 2],
    /// TCP payload sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmitted_bytes: Option<[u64; 2]>,
    /// TCP payload that the capture never saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_bytes: Option<[u64; 2]>,
    /// Packets that the capture shows once more, at another tap or by a mirror. Counted here alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<[u64; 2]>,
    /// Bytes of their frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_bytes: Option<[u64; 2]>,
    /// TCP flags seen, by their initials (CWR, ECE, URG, ACK, PSH, RST, SYN, FIN).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<[String; 2]>,
    /// How it went, as Zeek's `conn_state` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why the record was written: `closed`, `idle`, `evicted`, `capture-end`.
    pub reason: String,
    /// VLAN tags, the outer one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u32>,
    /// In what its first wrapped packet came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelV1>,
    /// Why not all of its payload was looked at: `over-budget` (a bound on bytes that nothing comes of) or `lost` (it went
    /// on as something else than its beginning). Left out where nothing was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<String>,
    /// What it was about, in one line for people; its wording is no part of the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gist: Option<String>,
}

/// What a packet was wrapped in: of several wraps, the kind and number of the innermost, the ends of the outermost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TunnelV1 {
    /// `vxlan`, `geneve`, `gre`, `erspan`, `ip-in-ip`, `mpls`, `pppoe`, `gtp`.
    pub kind: String,
    /// Its number: VXLAN or GENEVE network identifier, GRE key, tunnel endpoint of GTP-U, MPLS label, session.
    pub id: u32,
    /// Who wrapped the packet, and for whom; the ends of the link that was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<[std::net::IpAddr; 2]>,
    /// How many wraps there were.
    pub depth: u8,
}

impl From<&Tunnel> for TunnelV1 {
    fn from(tunnel: &Tunnel) -> Self {
        Self {
            kind: tunnel.kind.label().to_owned(),
            id: tunnel.id,
            outer: tunnel.outer.map(|(from, to)| [from, to]),
            depth: tunnel.depth,
        }
    }
}

/// One end of a flow, and who that was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FlowEndV1 {
    /// The address.
    pub ip: std::net::IpAddr,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the address was.
    pub identity: IdentityV1,
    /// Namespace of a pod or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `namespace/kind/name` of the workload; of the service or node itself where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// How sure that is: `exact`, `time`, `ambiguous`, `node`, `unknown-private`, `external`.
    pub attribution: String,
}

impl FlowEndV1 {
    pub(super) fn new(end: &Endpoint, port: Option<u16>) -> Self {
        let actor = ActorV1::from(end);
        Self {
            ip: actor.ip,
            port,
            identity: actor.identity,
            namespace: actor.namespace,
            pod: actor.pod,
            workload: actor.workload,
            attribution: end.who.confidence.label().to_owned(),
        }
    }

    /// An address that was lent to an end.
    pub(super) fn lent((end, port): &(Endpoint, u16)) -> Self {
        Self::new(end, Some(*port).filter(|&port| port != 0))
    }
}

impl From<(&FlowInfo, &FlowRecord)> for FlowRecordV1 {
    fn from((flow, record): (&FlowInfo, &FlowRecord)) -> Self {
        let [src, dst] = EndV1::both(flow);
        let tcp = flow.protocol == Protocol::Tcp;
        let copied = record.copies != [0; 2];
        Self {
            schema: "spanwatch.flow/1".to_owned(),
            community_id: flow_community_id(flow),
            start: UtcTime(flow.start),
            end: UtcTime(record.end),
            proto: flow.protocol.to_string(),
            app: record.app.map(str::to_owned),
            src: FlowEndV1::new(&flow.orig, src.port),
            dst: FlowEndV1::new(&flow.resp, dst.port),
            service: flow.service.as_deref().map(FlowEndV1::lent),
            masquerade: flow.masquerade.as_deref().map(FlowEndV1::lent),
            bytes: record.wire_bytes,
            packets: record.packets,
            payload_bytes: record.payload_bytes,
            retransmitted_bytes: tcp.then_some(record.repeated_bytes),
            missing_bytes: tcp.then_some(record.missing_bytes),
            copies: copied.then_some(record.copies),
            copied_bytes: copied.then_some(record.copied_bytes),
            tcp_flags: tcp.then(|| record.tcp_flags.map(flag_initials)),
            state: tcp.then(|| record.state.label().to_owned()),
            reason: record.reason.label().to_owned(),
            vlan: tags(flow.network.0),
            tunnel: record.tunnel.as_deref().map(TunnelV1::from),
            inspection: record.inspection.label().map(str::to_owned),
            gist: None,
        }
    }
}

/// The flags of RFC 9293 that are set, the highest bit first.
fn flag_initials(flags: u8) -> String {
    "CEUAPRSF"
        .chars()
        .enumerate()
        .filter(|(index, _)| flags & (0x80 >> index) != 0)
        .map(|(_, initial)| initial)
        .collect()
}

/// The tags folded into a network's number, the outer one first.
fn tags(network: u32) -> Vec<u32> {
    let (outer, inner) = (network >> 12, network & 0xfff);
    match (outer, inner) {
        (0, 0) => Vec::new(),
        (0, inner) => vec![inner],
        (outer, inner) => vec![outer, inner],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::NetworkId;
    use crate::alert::testing::{external, flow, pod, record, service, unknown};
    use crate::decode::TunnelKind;
    use crate::flow::Inspection;

    #[test]
    fn a_tcp_flow_looks_as_documented_and_reads_back() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let info = flow(1, &cart, &external("203.0.113.9"), 443);
        let wire = FlowRecordV1::from((info.as_ref(), &record(Some("tls"))));
        let json = serde_json::to_string(&wire).unwrap();
        assert_eq!(serde_json::from_str::<FlowRecordV1>(&json).unwrap(), wire);
        assert!(!json.contains("null"));
        insta::assert_snapshot!(serde_json::to_string_pretty(&wire).unwrap());
    }

    #[test]
    fn what_isnt_tcp_has_nothing_of_tcp() {
        let end = unknown("10.1.2.3");
        let mut info = flow(1, &end, &end, 0).as_ref().clone();
        info.protocol = Protocol::Icmp;
        info.network = NetworkId(100 << 12 | 7);
        let wire = FlowRecordV1::from((&info, &record(None)));
        assert_eq!(wire.vlan, [100, 7]);
        let json = serde_json::to_value(&wire).unwrap();
        for absent in ["tcp_flags", "state", "retransmitted_bytes", "app"] {
            assert_eq!(json.get(absent), None, "{absent}");
        }
        assert_eq!(json["src"].get("port"), None);
        assert_eq!(serde_json::from_value::<FlowRecordV1>(json).unwrap(), wire);
    }

    #[test]
    fn lent_addresses_and_copies_are_told_where_there_are_any() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let mut info = flow(1, &cart, &external("203.0.113.9"), 443)
            .as_ref()
            .clone();
        let bare = serde_json::to_value(FlowRecordV1::from((&info, &record(None)))).unwrap();
        for absent in ["service", "masquerade", "copies", "copied_bytes"] {
            assert_eq!(bare.get(absent), None, "{absent}");
        }
        info.service = Some((service("shop", "pay", "10.96.7.7"), 443).into());
        info.masquerade = Some((unknown("172.18.0.2"), 61_000).into());
        let mut counters = record(None);
        (counters.copies, counters.copied_bytes) = ([2, 1], [120, 60]);
        let wire = FlowRecordV1::from((&info, &counters));
        let json = serde_json::to_value(&wire).unwrap();
        assert_eq!(json["service"]["workload"], "shop/Service/pay");
        assert_eq!(json["service"]["port"], 443);
        assert_eq!(json["masquerade"]["ip"], "172.18.0.2");
        assert_eq!(json["copies"], serde_json::json!([2, 1]));
        assert_eq!(serde_json::from_value::<FlowRecordV1>(json).unwrap(), wire);
    }

    #[test]
    fn tunnels_and_what_was_not_inspected_are_told() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let info = flow(1, &cart, &external("203.0.113.9"), 443);
        let mut counters = record(None);
        counters.inspection = Inspection::OverBudget;
        counters.tunnel = Some(Box::new(Tunnel {
            kind: TunnelKind::Vxlan,
            id: 42,
            outer: Some((
                "192.168.50.7".parse().unwrap(),
                "192.168.50.10".parse().unwrap(),
            )),
            depth: 1,
        }));
        let wire = FlowRecordV1::from((info.as_ref(), &counters));
        let json = serde_json::to_value(&wire).unwrap();
        assert_eq!(
            json["tunnel"],
            serde_json::json!({"kind": "vxlan", "id": 42, "outer": ["192.168.50.7", "192.168.50.10"], "depth": 1})
        );
        assert_eq!(json["inspection"], "over-budget");
        assert_eq!(serde_json::from_value::<FlowRecordV1>(json).unwrap(), wire);
    }

    #[test]
    fn tags_and_flags_are_unfolded() {
        assert!(tags(0).is_empty());
        assert_eq!(tags(42), [42]);
        assert_eq!(tags(u32::MAX), [0xf_ffff, 0xfff]);
        assert_eq!(flag_initials(0x1b), "APSF");
        assert_eq!(flag_initials(0xff), "CEUAPRSF");
        assert_eq!(flag_initials(0), "");
    }
}
