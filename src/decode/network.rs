//! IPv4 and IPv6 with extension headers, and ARP.
//!
//! Lengths: an IP header may promise more bytes than the frame has. If the snap length cut them they are counted as on
//! the wire; if they never were on the wire (a lie), the frame's length wins. A length of zero is what the kernel shows
//! for offloaded segments: the frame's length wins there too.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpNumber, LaxIpPayloadSlice, LaxIpv4Slice, LaxIpv6Slice, LenSource};

use super::fragment::Cut;
use super::{Anomalies, Arp, Content, Input, IpPacket, Packet, Transport, transport, tunnel};
use crate::address::canonical;

/// Reads an IP packet of either version.
pub(super) fn ip<'a>(frame: &Input<'_, 'a>, data: &'a [u8], packet: &mut Packet<'a>) {
    // What the frame had on the wire from the IP header on.
    let link_len = frame.data.len().saturating_sub(data.len());
    let on_wire = (frame.wire_len as usize).saturating_sub(link_len);
    match data.first().map(|byte| byte >> 4) {
        Some(4) => {
            let Ok((slice, _)) = LaxIpv4Slice::from_slice(data) else {
                return;
            };
            let header = slice.header();
            let declared = usize::from(header.total_len());
            let whole = if declared < header.slice().len() {
                on_wire
            } else {
                declared
            };
            let cut = header.is_fragmenting_payload().then(|| Cut {
                id: header.identification().into(),
                protocol: header.protocol().0,
                offset: header.fragments_offset().value(),
                more: header.more_fragments(),
                at: header.slice().len(),
            });
            let addresses = (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
            );
            let (ttl, id) = (header.ttl(), header.identification());
            payload(
                frame,
                data,
                slice.payload(),
                whole,
                on_wire,
                cut,
                addresses,
                (ttl, id),
                packet,
            );
        }
        Some(6) => {
            let Ok((slice, stopped)) = LaxIpv6Slice::from_slice(data) else {
                return;
            };
            if stopped.is_some() {
                packet.anomalies.insert(Anomalies::EXTENSION);
            }
            let header = slice.header();
            let whole = match usize::from(header.payload_length()) {
                0 => on_wire,
                length => length.saturating_add(header.slice().len()),
            };
            let extensions = slice.extensions();
            let cut = extensions
                .first_header()
                .and_then(|first| Cut::find(first, header.slice().len(), extensions.slice()));
            let addresses = (
                canonical(header.source_addr().into()),
                canonical(header.destination_addr().into()),
            );
            let ttl = header.hop_limit();
            payload(
                frame,
                data,
                slice.payload(),
                whole,
                on_wire,
                cut,
                addresses,
                (ttl, 0),
                packet,
            );
        }
        _ => {}
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the two versions' facts, needed once here"
)]
fn payload<'a>(
    frame: &Input<'_, 'a>,
    data: &'a [u8],
    slice: &LaxIpPayloadSlice<'a>,
    whole: usize,
    on_wire: usize,
    cut: Option<Cut>,
    (src, dst): (IpAddr, IpAddr),
    (ttl, id): (u8, u16),
    packet: &mut Packet<'a>,
) {
    if whole > on_wire {
        packet.anomalies.insert(Anomalies::LENGTH);
    }
    let header_len = (slice.payload.as_ptr() as usize).saturating_sub(data.as_ptr() as usize);
    let wire_len = whole.min(on_wire).saturating_sub(header_len);
    // Without a usable length field the slice may still end in Ethernet padding; only the wire length bounds it.
    let bytes = match slice.len_source {
        LenSource::Slice => slice.payload.get(..wire_len).unwrap_or(slice.payload),
        _ => slice.payload,
    };
    let wire_len = wire_len.max(bytes.len());
    let first_fragment = cut.is_none_or(|cut| cut.offset == 0);
    let (transport, header) = if first_fragment {
        transport::decode(slice.ip_number, bytes, wire_len, &mut packet.anomalies)
    } else {
        (Transport::Fragment, 0)
    };
    let IpNumber(protocol) = slice.ip_number;
    let ip = IpPacket {
        src,
        dst,
        ttl,
        id,
        protocol,
        transport,
        header: bytes.get(..header).unwrap_or(bytes),
        fragment: cut.map(|cut| cut.fragment(data, whole.min(on_wire))),
        payload: bytes.get(header..).unwrap_or_default(),
        payload_len: wire_len.saturating_sub(header) as u32,
    };
    let wrap = if cut.is_some() {
        None
    } else {
        tunnel::in_ip(&ip)
    };
    let link_len = (data.as_ptr() as usize).saturating_sub(frame.whole.as_ptr() as usize);
    packet.link = frame.whole.get(..link_len).unwrap_or_default();
    packet.content = Content::Ip(ip);
    if let Some(wrap) = wrap {
        tunnel::open(frame, wrap, Some((src, dst)), packet);
    }
}

/// Reads an ARP message. Others than IPv4 over Ethernet are [`Content::Other`].
pub(super) fn arp(data: &[u8], packet: &mut Packet<'_>) {
    packet.content = Content::Other;
    // RFC 826 for hardware type 1, protocol 0x0800: fixed offsets; 8 bytes header, then sender MAC and IP, target MAC and IP.
    if let Some(&bytes) = data.first_chunk::<28>() {
        let [0, 1, 8, 0, 6, 4, 0, operation @ (1 | 2), ..] = bytes else {
            return;
        };
        let [
            ..,
            h0,
            h1,
            h2,
            h3,
            h4,
            h5,
            s0,
            s1,
            s2,
            s3,
            _,
            _,
            _,
            _,
            _,
            _,
            t0,
            t1,
            t2,
            t3,
        ] = bytes;
        packet.content = Content::Arp(Arp {
            sender: Ipv4Addr::new(s0, s1, s2, s3).into(),
            target: Ipv4Addr::new(t0, t1, t2, t3).into(),
            hardware: [h0, h1, h2, h3, h4, h5],
            reply: operation == 2,
        });
    } else {
        packet.content = Content::Undecodable;
    }
}
