//! Link layers down to an EtherType: Ethernet with VLAN tags, Linux cooked, BSD loopback, raw IP.

use etherparse::{EtherType, Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::{Anomalies, Content, Input, Packet, network, tunnel};
use crate::address::NetworkId;
use crate::capture::LinkType;

/// VLAN tags read at most: one service tag, one customer tag, and one spare.
const MAX_VLAN_TAGS: usize = 3;
/// Bits of a VLAN id (IEEE 802.1Q).
const VLAN_ID_BITS: u32 = 12;

/// Strips the link layer and hands the rest on.
pub(super) fn decode<'a>(frame: &Input<'_, 'a>, packet: &mut Packet<'a>) {
    match frame.link {
        LinkType::Ethernet => ethernet(frame, packet),
        LinkType::RawIp => network::ip(frame, frame.data, packet),
        LinkType::Null | LinkType::Loop => loopback(frame, packet),
        LinkType::LinuxSll => cooked(frame, 14, 16, packet),
        LinkType::LinuxSll2 => {
            // Protocol, reserved, then the interface's index.
            let index = frame.data.get(4..).and_then(|at| at.first_chunk::<4>());
            packet.interface |= index.map_or(0, |&index| u32::from_be_bytes(index).into());
            cooked(frame, 0, 20, packet);
        }
    }
}

/// An Ethernet frame: the captured one, or one inside a tunnel.
pub(super) fn ethernet<'a>(frame: &Input<'_, 'a>, packet: &mut Packet<'a>) {
    if let Ok(header) = Ethernet2HeaderSlice::from_slice(frame.data) {
        let rest = frame.data.get(header.slice().len()..).unwrap_or_default();
        ether_payload(frame, header.ether_type(), rest, packet);
    }
}

/// BSD loopback: four bytes of address family. Its values differ between systems, so the IP version decides.
fn loopback<'a>(frame: &Input<'_, 'a>, packet: &mut Packet<'a>) {
    if let Some(rest) = frame.data.get(4..) {
        network::ip(frame, rest, packet);
    }
}

/// Linux cooked captures: an EtherType at `protocol_at`, the payload at `header_len`. Where the hardware type says that
/// the field means something else (netlink, 802.11), its value is no EtherType that we follow either.
fn cooked<'a>(
    frame: &Input<'_, 'a>,
    protocol_at: usize,
    header_len: usize,
    packet: &mut Packet<'a>,
) {
    let protocol = frame
        .data
        .get(protocol_at..)
        .and_then(|at| at.first_chunk::<2>())
        .map(|&bytes| u16::from_be_bytes(bytes));
    if let (Some(protocol), Some(rest)) = (protocol, frame.data.get(header_len..)) {
        ether_payload(frame, EtherType(protocol), rest, packet);
    }
}

/// What follows an EtherType; `rest` is the end of the frame's data.
pub(super) fn ether_payload<'a>(
    frame: &Input<'_, 'a>,
    mut ether_type: EtherType,
    mut rest: &'a [u8],
    packet: &mut Packet<'a>,
) {
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ether_type) {
            break;
        }
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(rest) else {
            return;
        };
        let id = u32::from(tag.vlan_identifier().value());
        packet.network = NetworkId((packet.network.0 << VLAN_ID_BITS) | id);
        ether_type = tag.ether_type();
        rest = rest.get(tag.slice().len()..).unwrap_or_default();
    }
    match ether_type {
        EtherType::IPV4 | EtherType::IPV6 => network::ip(frame, rest, packet),
        EtherType::ARP => network::arp(rest, packet),
        other if is_vlan(other) => {
            packet.anomalies.insert(Anomalies::NESTING);
            packet.content = Content::Other;
        }
        other => {
            packet.content = Content::Other;
            if let Some(wrap) = tunnel::in_link(frame, other, rest) {
                tunnel::open(frame, wrap, None, packet);
            }
        }
    }
}

const fn is_vlan(ether_type: EtherType) -> bool {
    matches!(
        ether_type,
        EtherType::VLAN_TAGGED_FRAME
            | EtherType::PROVIDER_BRIDGING
            | EtherType::VLAN_DOUBLE_TAGGED_FRAME
    )
}
