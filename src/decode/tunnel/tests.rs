//! Each wrap written out byte by byte around a packet of etherparse's builder, and what must come of it.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::capture::LinkType;
use crate::decode::decode;
use crate::time::Timestamp;

const UNDERLAY: (&str, &str) = ("192.0.2.1", "192.0.2.2");

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        time: Timestamp::from_secs(1),
        link,
        wire_len: data.len() as u32,
        interface: 0,
        data,
    }
}

fn built(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// 10.244.1.7:40000 → 10.244.2.9:53, "inner", as an Ethernet frame.
fn pods() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 244, 1, 7], [10, 244, 2, 9], 63)
        .udp(40000, 53);
    built(builder, b"inner")
}

/// The same as a bare IP packet.
fn bare() -> Vec<u8> {
    pods()[14..].to_vec()
}

/// fd00::7 port 40000 → fd00::9 port 53, "inner".
fn bare_v6() -> Vec<u8> {
    let mut ends = [[0; 16]; 2];
    for (address, last) in ends.iter_mut().zip([7, 9]) {
        (address[0], address[15]) = (0xfd, last);
    }
    built(
        PacketBuilder::ipv6(ends[0], ends[1], 63).udp(40000, 53),
        b"inner",
    )
}

/// An IPv4 packet of the underlay.
fn over_ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut bytes = vec![0x45, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    bytes.extend(payload);
    bytes
}

/// A datagram of the underlay.
fn over_udp(port: u16, header: &[u8], payload: &[u8]) -> Vec<u8> {
    built(
        PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(54321, port),
        &[header, payload].concat(),
    )
}

fn over_link(ether_type: u16, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(header);
    bytes.extend(payload);
    bytes
}

fn vxlan(payload: &[u8]) -> Vec<u8> {
    over_udp(8472, &[8, 0, 0, 0, 0, 0, 1, 0], payload)
}

fn gre(header: &[u8], payload: &[u8]) -> Vec<u8> {
    over_ip(47, &[header, payload].concat())
}

fn ip<'a, 'p>(packet: &'p Packet<'a>) -> &'p IpPacket<'a> {
    match &packet.content {
        Content::Ip(ip) => ip,
        other => panic!("no IP packet but {other:?}"),
    }
}

/// Demands the pods' packet inside, whole, and returns in what it was.
fn inner(link: LinkType, bytes: &[u8]) -> Tunnel {
    let packet = decode(&frame(link, bytes));
    let ip = ip(&packet);
    let ends = (ip.src.to_string(), ip.dst.to_string());
    match ip.src {
        IpAddr::V4(_) => assert_eq!(ends, ("10.244.1.7".into(), "10.244.2.9".into())),
        IpAddr::V6(_) => assert_eq!(ends, ("fd00::7".into(), "fd00::9".into())),
    }
    let ports = Transport::Ports {
        src_port: 40000,
        dst_port: 53,
    };
    assert_eq!(
        (ip.transport, ip.payload, ip.ttl),
        (ports, &b"inner"[..], 63)
    );
    assert_eq!(ip.payload_len, 5);
    assert!(packet.anomalies.is_empty(), "{:?}", packet.anomalies);
    assert_eq!(packet.wire_len as usize, bytes.len());
    packet.tunnel.expect("a tunnel")
}

/// Demands that the packet is the underlay's.
fn outer(bytes: &[u8]) -> Anomalies {
    let packet = decode(&frame(LinkType::RawIp, bytes));
    assert_eq!(ip(&packet).src.to_string(), UNDERLAY.0);
    assert_eq!(packet.tunnel, None);
    packet.anomalies
}

fn nodes() -> (IpAddr, IpAddr) {
    (UNDERLAY.0.parse().unwrap(), UNDERLAY.1.parse().unwrap())
}

#[test]
fn every_wrap_over_ip_is_opened() {
    use TunnelKind::{Erspan, Geneve, Gre, Gtp, IpInIp, Vxlan};
    let (pods, v4, v6) = (pods(), bare(), bare_v6());
    let erspan_ii = [
        0x10, 0, 0x88, 0xbe, 0, 0, 0, 9, 0x10, 5, 0xe8, 42, 0, 0, 0, 1,
    ];
    let mut erspan_iii = vec![0x10, 0, 0x22, 0xeb, 0, 0, 0, 9];
    erspan_iii.extend([0x20, 5, 0xe8, 42, 1, 2, 3, 4, 0, 0, 0, 0]);
    let mut with_platform = erspan_iii.clone();
    with_platform[19] = 1;
    with_platform.extend([0; 8]);
    let mut of_ip = erspan_iii.clone();
    of_ip[18] = 2 << 2;
    let cases = [
        (Vxlan, 1, vxlan(&pods)),
        (Vxlan, 7, over_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &pods)),
        (
            Vxlan,
            7,
            over_udp(4789, &[0x88, 8, 1, 2, 0, 0, 7, 0], &pods),
        ),
        (
            Vxlan,
            7,
            over_udp(4790, &[0x0c, 0, 0, 3, 0, 0, 7, 0], &pods),
        ),
        (Vxlan, 7, over_udp(4790, &[0x0c, 0, 0, 1, 0, 0, 7, 0], &v4)),
        (Vxlan, 7, over_udp(4790, &[0x0c, 0, 0, 2, 0, 0, 7, 0], &v6)),
        (
            Geneve,
            7,
            over_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &pods),
        ),
        (
            Geneve,
            7,
            over_udp(6081, &[1, 0x40, 8, 0, 0, 0, 7, 0, 1, 2, 3, 4], &v4),
        ),
        (
            Geneve,
            7,
            over_udp(6081, &[0, 0, 0x86, 0xdd, 0, 0, 7, 0], &v6),
        ),
        (Gre, 0, gre(&[0, 0, 8, 0], &v4)),
        (Gre, 0, gre(&[0, 0, 0x86, 0xdd], &v6)),
        (
            Gre,
            77,
            gre(
                &[0xb0, 0, 0x65, 0x58, 9, 9, 0, 0, 0, 0, 0, 77, 0, 0, 0, 1],
                &pods,
            ),
        ),
        (Erspan, 0, gre(&[0, 0, 0x88, 0xbe], &pods)),
        (Erspan, 42, gre(&erspan_ii, &pods)),
        (Erspan, 42, gre(&erspan_iii, &pods)),
        (Erspan, 42, gre(&with_platform, &pods)),
        (Erspan, 42, gre(&of_ip, &v4)),
        (IpInIp, 0, over_ip(4, &v4)),
        (IpInIp, 0, over_ip(41, &v6)),
        (
            Gtp,
            7,
            over_udp(2152, &[0x30, 255, 0, v4.len() as u8, 0, 0, 0, 7], &v4),
        ),
        (
            Gtp,
            7,
            over_udp(
                2152,
                &[
                    0x34,
                    255,
                    0,
                    v6.len() as u8 + 8,
                    0,
                    0,
                    0,
                    7,
                    0,
                    0,
                    0,
                    0x85,
                    1,
                    0,
                    9,
                    0,
                ],
                &v6,
            ),
        ),
    ];
    for (kind, id, bytes) in cases {
        let expected = Tunnel {
            kind,
            id,
            outer: Some(nodes()),
            depth: 1,
        };
        assert_eq!(inner(LinkType::RawIp, &bytes), expected);
    }
}

#[test]
fn ipv6_carries_both_versions() {
    for (protocol, payload) in [(4, bare()), (41, bare_v6())] {
        let mut bytes = vec![0x60, 0, 0, 0, 0, payload.len() as u8, protocol, 64];
        bytes.extend([0x20; 32]);
        bytes.extend(payload);
        assert_eq!(inner(LinkType::RawIp, &bytes).kind, TunnelKind::IpInIp);
    }
}

#[test]
fn labels_and_sessions_below_ip_are_opened() {
    use TunnelKind::{Mpls, Pppoe};
    let (pods, v4, v6) = (pods(), bare(), bare_v6());
    let labels = [0, 1, 0, 64, 0, 2, 0x11, 64]; // 16, then 33 at the bottom
    let mut like_ip = pods.clone();
    like_ip[..4].copy_from_slice(&[0x45, 0x2b, 0xcc, 0x10]);
    let word = [&labels[..], &[0, 0, 0, 1]].concat();
    let session = |len: usize, protocol| [0x11, 0, 0, 33, 0, len as u8 + 2, 0, protocol];
    let cases = [
        (Mpls, over_link(0x8847, &labels, &v4)),
        (Mpls, over_link(0x8848, &labels, &v6)),
        (Mpls, over_link(0x8847, &labels, &pods)),
        (Mpls, over_link(0x8847, &word, &pods)),
        (Mpls, over_link(0x8847, &labels, &like_ip)),
        (Pppoe, over_link(0x8864, &session(v4.len(), 0x21), &v4)),
        (Pppoe, over_link(0x8864, &session(v6.len(), 0x57), &v6)),
        (
            Pppoe,
            over_link(0x8864, &[0x11, 0, 0, 33, 0, v4.len() as u8 + 1, 0x21], &v4),
        ),
    ];
    for (kind, bytes) in cases {
        let expected = Tunnel {
            kind,
            id: 33,
            outer: None,
            depth: 1,
        };
        assert_eq!(inner(LinkType::Ethernet, &bytes), expected);
    }
}

#[test]
fn arp_in_an_overlay_is_heard() {
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([2, 0, 0, 0, 0, 1, 10, 244, 1, 18]);
    arp.extend([0, 0, 0, 0, 0, 0, 10, 244, 1, 99]);
    for bytes in [
        vxlan(&arp),
        gre(&[0, 0, 8, 6], &arp[14..]),
        over_udp(6081, &[0, 0, 8, 6, 0, 0, 7, 0], &arp[14..]),
    ] {
        let packet = decode(&frame(LinkType::RawIp, &bytes));
        assert!(matches!(packet.content, Content::Arp(arp) if !arp.reply));
    }
}

/// Only tags of the frame inside are a network; those of the link that carried the tunnel are not.
#[test]
fn the_innermost_tags_name_the_network() {
    let mut tagged = pods();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let bytes = over_link(0x8100, &[0, 9, 8, 0], &vxlan(&tagged));
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(packet.network, NetworkId(5));

    let bytes = over_link(0x8100, &[0, 9, 8, 0], &over_ip(4, &bare()));
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(packet.network, NetworkId(0));

    let bytes = over_link(0x8100, &[0, 9, 0x88, 0x47, 0, 2, 0x11, 64], &bare());
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(packet.network, NetworkId(9));
}

#[test]
fn a_cut_inside_counts_what_was_on_the_wire() {
    let mut long = Vec::new();
    PacketBuilder::ethernet2([2; 6], [2; 6])
        .ipv4([10, 244, 1, 7], [10, 244, 2, 9], 63)
        .tcp(40000, 443, 1, 1000)
        .write(&mut long, &[7; 1000])
        .unwrap();
    let bytes = vxlan(&long);
    for cut in 100..bytes.len() {
        let packet = decode(&Frame {
            data: &bytes[..cut],
            ..frame(LinkType::RawIp, &bytes)
        });
        let ip = ip(&packet);
        assert_eq!(
            (ip.payload.len(), ip.payload_len),
            (cut.saturating_sub(90), 1000)
        );
        assert!(packet.anomalies.contains(Anomalies::SNAPLEN));
    }
    // Cut within the wrap, the outer packet is what is known.
    let packet = decode(&Frame {
        data: &bytes[..40],
        ..frame(LinkType::RawIp, &bytes)
    });
    assert_eq!(ip(&packet).payload_len as usize, bytes.len() - 28);
    assert_eq!(packet.tunnel, None);
}

/// The trailer of a short outer frame belongs to no inner packet, even one without a length of its own.
#[test]
fn padding_stays_outside() {
    let mut zero_length = bare();
    zero_length[2..4].copy_from_slice(&[0, 0]);
    let mut bytes = over_link(0x0800, &[], &over_ip(4, &zero_length));
    bytes.resize(bytes.len() + 12, 0xee);
    inner(LinkType::Ethernet, &bytes);
}

/// What a mirror cut short before wrapping it is read as far as it is there.
#[test]
fn a_mirror_may_cut_what_it_wraps() {
    let mut cut = pods();
    cut.truncate(cut.len() - 2);
    let bytes = vxlan(&cut);
    let packet = decode(&frame(LinkType::RawIp, &bytes));
    assert_eq!(ip(&packet).payload, b"inn");
    assert_eq!(ip(&packet).payload_len, 3);
    assert!(packet.anomalies.contains(Anomalies::LENGTH));
}

#[test]
fn nested_wraps_keep_the_outermost_nodes_and_the_innermost_id() {
    let bytes = gre(&[0x20, 0, 8, 0, 0, 0, 0, 5], &vxlan(&pods()));
    let expected = Tunnel {
        kind: TunnelKind::Vxlan,
        id: 1,
        outer: Some(nodes()),
        depth: 2,
    };
    assert_eq!(inner(LinkType::RawIp, &bytes), expected);
}

#[test]
fn depth_is_bounded() {
    let mut bytes = bare();
    for _ in 0..MAX_DEPTH {
        bytes = over_ip(4, &bytes);
    }
    assert_eq!(inner(LinkType::RawIp, &bytes).depth, MAX_DEPTH);
    let bytes = over_ip(4, &bytes);
    let packet = decode(&frame(LinkType::RawIp, &bytes));
    assert_eq!(ip(&packet).dst.to_string(), UNDERLAY.1);
    assert_eq!(ip(&packet).protocol, 4);
    assert_eq!(packet.tunnel.map(|tunnel| tunnel.depth), Some(MAX_DEPTH));
    assert!(packet.anomalies.contains(Anomalies::NESTING));
}

#[test]
fn what_is_no_wrap_stays_as_it_is() {
    let (pods, v4, v6) = (pods(), bare(), bare_v6());
    let spanning_tree = over_link(0x0026, &[0x42, 0x42, 3], &[0; 35]);
    let cases = [
        over_udp(8472, b"", b"a datagram to this very port"),
        over_udp(4789, &[0, 0, 0, 0, 0, 0, 7, 0], &pods), // no VNI
        over_udp(4789, &[8, 0, 0, 1, 0, 0, 7, 0], &pods),
        over_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &[0xaa; 60]),
        over_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &pods[..20]),
        over_udp(6081, &[0x40, 0, 0x65, 0x58, 0, 0, 7, 0], &pods), // version 1
        over_udp(6081, &[0x3f, 0, 0x65, 0x58, 0, 0, 7, 0], &pods), // options past the end
        over_udp(2152, &[0x30, 1, 0, 0, 0, 0, 0, 7], &v4),         // echo request
        over_udp(2152, &[0x30, 255, 9, 0, 0, 0, 0, 7], &v4),
        over_udp(2152, &[0x34, 255, 0, 60, 0, 0, 0, 7, 0, 0, 0, 1, 0], &v4),
        over_udp(53, &[8, 0, 0, 0, 0, 0, 7, 0], &pods),
        gre(&[0, 0, 8, 0], &v6),
        gre(&[0, 1, 8, 0], &v4),
        gre(&[0x40, 0, 8, 0], &v4),
        gre(&[0, 0, 0x65, 0x58], &spanning_tree),
        gre(
            &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0],
            &pods,
        ),
        over_ip(4, b"\x00\x01\x02"),
        over_ip(4, b""),
        over_ip(4, &v6),
        over_ip(41, &v4),
        over_ip(41, &[0x60; 12]),
    ];
    for bytes in cases {
        outer(&bytes);
    }
    let unlabelled = over_link(0x8847, &[0; 40], &v4);
    let packet = decode(&frame(LinkType::Ethernet, &unlabelled));
    assert!(matches!(packet.content, Content::Other));
}

#[test]
fn an_outer_fragment_is_not_opened() {
    let mut bytes = vxlan(&pods());
    bytes[6] = 0x20; // more fragments
    assert!(outer(&bytes).is_empty());
}

proptest! {
    #[test]
    fn anything_inside_a_valid_wrap_decodes(
        which in 0usize..9,
        data in prop::collection::vec(any::<u8>(), 0..200),
        extra in 0u32..2000,
    ) {
        let bytes = match which {
            0 => vxlan(&data),
            1 => over_udp(6081, &[], &data),
            2 => over_udp(2152, &[0x34, 255], &data),
            3 => gre(&[], &data),
            4 => gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20], &data),
            5 => over_ip(4, &data),
            6 => over_ip(41, &data),
            7 => data.clone(),
            _ => gre(&[0, 0, 0x88, 0x47], &data),
        };
        let bytes = over_link(if which == 7 { 0x8847 } else { 0x0800 }, &[], &bytes);
        let packet = decode(&Frame { wire_len: bytes.len() as u32 + extra, ..frame(LinkType::Ethernet, &bytes) });
        if let Content::Ip(ip) = &packet.content {
            prop_assert!(ip.payload.len() <= ip.payload_len as usize);
            prop_assert!(ip.payload_len <= packet.wire_len);
        } else {
            prop_assert!(which == 7 || packet.tunnel.is_some());
        }
    }

    /// A byte of a real wrap damaged, or the capture cut: the packet is still one of the wraps' levels.
    #[test]
    fn damaged_wraps_decode(at in 20usize..140, value in any::<u8>(), cut in 20usize..140) {
        let mut bytes = gre(&[0x20, 0, 8, 0, 0, 0, 0, 5], &vxlan(&pods()));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let data = &bytes[..cut.min(bytes.len())];
        let packet = decode(&Frame { data, ..frame(LinkType::RawIp, &bytes) });
        prop_assert!(matches!(packet.content, Content::Ip(_) | Content::Arp(_)));
        if let Content::Ip(ip) = &packet.content {
            prop_assert!(ip.payload.len() <= ip.payload_len as usize);
            prop_assert!(ip.payload_len <= packet.wire_len);
        }
    }
}
