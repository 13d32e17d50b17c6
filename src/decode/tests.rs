//! Frames built by etherparse's builder or written out byte by byte, and what must come of them.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::capture::LinkType;

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        time: Timestamp::from_secs(1),
        link,
        wire_len: data.len() as u32,
        interface: 0,
        data,
    }
}

fn tcp_frame(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 244, 1, 7], [10, 96, 0, 10], 64)
        .tcp(40000, 443, 1000, 64240)
        .psh()
        .ack(77);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn ip<'a, 'p>(packet: &'p Packet<'a>) -> &'p IpPacket<'a> {
    match &packet.content {
        Content::Ip(ip) => ip,
        other => panic!("no IP packet but {other:?}"),
    }
}

#[test]
fn tcp_over_ethernet() {
    let bytes = tcp_frame(b"hello");
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    let ip = ip(&packet);
    assert_eq!(ip.src, "10.244.1.7".parse::<IpAddr>().unwrap());
    assert_eq!(ip.payload, b"hello");
    assert_eq!(ip.payload_len, 5);
    let Transport::Tcp(tcp) = ip.transport else {
        panic!("{:?}", ip.transport)
    };
    assert_eq!(
        (tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack),
        (40000, 443, 1000, 77)
    );
    assert_eq!(tcp.flags, TcpFlags(TcpFlags::PSH | TcpFlags::ACK));
    assert!(packet.anomalies.is_empty());
}

#[test]
fn who_sent_a_frame() {
    let plain = tcp_frame(b"x");
    let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat();
    let cooked = [
        &[0, 0, 0, 1, 0, 6][..],
        &[1; 6],
        &[0, 0, 8, 0],
        &plain[14..],
    ]
    .concat();
    let cooked2 = [
        &[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6][..],
        &[1; 6],
        &[0, 0],
        &plain[14..],
    ]
    .concat();
    for (link, data) in [
        (LinkType::Ethernet, &plain),
        (LinkType::Ethernet, &tagged),
        (LinkType::LinuxSll, &cooked),
        (LinkType::LinuxSll2, &cooked2),
    ] {
        let packet = decode(&frame(link, data));
        assert_eq!(ip(&packet).payload, b"x");
        assert_eq!(packet.sender(), Some([1; 6]), "{link:?}");
    }
    let packet = decode(&frame(LinkType::RawIp, &plain[14..]));
    assert_eq!(packet.sender(), None);
}

#[test]
fn vlan_and_qinq_tags_name_the_network() {
    let plain = tcp_frame(b"x");
    let mut tagged = plain[..12].to_vec();
    tagged.extend([0x88, 0xa8, 0x20, 0x64, 0x81, 0x00, 0x00, 0x05]); // S-tag 100 (priority 1), C-tag 5
    tagged.extend(&plain[12..]);
    let packet = decode(&frame(LinkType::Ethernet, &tagged));
    assert_eq!(packet.network, NetworkId((100 << 12) | 5));
    assert_eq!(ip(&packet).payload, b"x");
}

#[test]
fn ethernet_padding_is_not_payload() {
    let mut bytes = tcp_frame(b"");
    bytes.resize(60, 0);
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(ip(&packet).payload_len, 0);
    assert!(ip(&packet).payload.is_empty());
}

#[test]
fn snaplen_keeps_what_is_there_and_counts_what_was() {
    let bytes = tcp_frame(&[7; 1000]);
    let cut = Frame {
        data: &bytes[..96],
        ..frame(LinkType::Ethernet, &bytes)
    };
    let packet = decode(&cut);
    assert!(packet.anomalies.contains(Anomalies::SNAPLEN));
    assert_eq!(ip(&packet).payload.len(), 96 - 54);
    assert_eq!(ip(&packet).payload_len, 1000);
}

#[test]
fn offloaded_segment_without_a_length() {
    let mut bytes = tcp_frame(&[7; 3000]);
    bytes[16..18].copy_from_slice(&[0, 0]);
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(ip(&packet).payload_len, 3000);
    assert!(packet.anomalies.is_empty());
}

#[test]
fn a_lying_length_is_bounded_by_the_wire() {
    let mut bytes = tcp_frame(b"abc");
    bytes[16..18].copy_from_slice(&[0xff, 0xff]);
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    assert_eq!(ip(&packet).payload_len, 3);
    assert!(packet.anomalies.contains(Anomalies::LENGTH));
}

#[test]
fn tcp_options_cut_by_the_snaplen_still_give_flags() {
    let mut bytes = tcp_frame(b"");
    bytes[46] = 0xf0; // data offset 60 bytes, of which 20 are here
    let cut = Frame {
        wire_len: 200,
        ..frame(LinkType::Ethernet, &bytes)
    };
    let packet = decode(&cut);
    let Transport::Tcp(tcp) = ip(&packet).transport else {
        panic!()
    };
    assert!(tcp.flags.any(TcpFlags::ACK));
    assert!(packet.anomalies.contains(Anomalies::TRANSPORT));
}

#[test]
fn cooked_and_raw_and_loopback_lead_to_the_same_packet() {
    let ethernet = tcp_frame(b"same");
    let raw = &ethernet[14..];
    let mut sll = vec![0, 0, 3, 4, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0]; // ARPHRD_LOOPBACK
    sll.extend(raw);
    let mut sll2 = vec![8, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    sll2.extend(raw);
    let mut null = vec![2, 0, 0, 0];
    null.extend(raw);
    for (link, bytes) in [
        (LinkType::RawIp, raw.to_vec()),
        (LinkType::LinuxSll, sll),
        (LinkType::LinuxSll2, sll2),
        (LinkType::Null, null),
    ] {
        let packet = decode(&frame(link, &bytes));
        assert_eq!(ip(&packet).payload, b"same", "{link:?}");
    }
}

#[test]
fn ipv6_extension_headers_and_fragments() {
    // Hop-by-hop (8 bytes), then UDP 5353 → 5353 with payload "q".
    let mut v6 = vec![0x60, 0, 0, 0, 0, 17, 0, 64];
    v6.extend([0xfd; 16]);
    v6.extend([0xfe; 16]);
    v6.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    v6.extend([0x14, 0xe9, 0x14, 0xe9, 0, 9, 0, 0, b'q']);
    let packet = decode(&frame(LinkType::RawIp, &v6));
    assert_eq!(ip(&packet).protocol, 17);
    assert_eq!(ip(&packet).payload, b"q");

    // A later fragment has no ports.
    let mut later = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
    later.extend([0xfd; 16]);
    later.extend([0xfe; 16]);
    later.extend([17, 0, 0x00, 0x11, 0, 0, 0, 9]); // offset 2, more fragments
    later.extend([1; 8]);
    let packet = decode(&frame(LinkType::RawIp, &later));
    assert_eq!(ip(&packet).transport, Transport::Fragment);
}

/// Found by fuzzing: an extension chain cut short after a lax parse. Must neither read on nor panic.
#[test]
fn an_extension_chain_that_is_cut_ends_where_it_is_cut() {
    let mut v6 = vec![0x60, 0, 0, 0, 0, 128, 0, 64];
    v6.extend([0xfd; 32]);
    v6.extend([60, 9, 0, 0, 0, 0, 0, 0]); // claims 80 bytes, has 8
    for cut in 40..=v6.len() {
        let packet = decode(&frame(LinkType::RawIp, &v6[..cut]));
        assert_eq!(ip(&packet).src, IpAddr::from([0xfd; 16]));
    }
    let mut first = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
    first.extend([0xfd; 32]);
    first.extend([44, 0, 1, 4, 0, 0, 0, 0]); // hop-by-hop, then a first fragment of UDP
    first.extend([17, 0, 0, 1, 0, 0, 0, 9]);
    first.extend([0x14, 0xe9, 0x14, 0xe9, 0, 8, 0, 0]);
    let packet = decode(&frame(LinkType::RawIp, &first));
    let ports = Transport::Ports {
        src_port: 5353,
        dst_port: 5353,
    };
    assert_eq!(ip(&packet).transport, ports);
}

/// A neighbour message over Ethernet: what kind, for which target, with which options.
fn neighbour_message(kind: u8, options: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 14, 0x86, 0xdd];
    let length = 24 + options.len() as u8;
    frame.extend([0x60, 0, 0, 0, 0, length, 58, 255]);
    let own = "fd00:1::14".parse::<std::net::Ipv6Addr>().unwrap();
    let all = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap();
    let target = "fd00:1::1".parse::<std::net::Ipv6Addr>().unwrap();
    frame.extend(own.octets());
    frame.extend(all.octets());
    frame.extend([kind, 0, 0, 0, 0x20, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend(options);
    frame
}

#[test]
fn neighbours_of_ipv6_say_where_they_are() {
    let mac = [2, 0, 0, 0, 0, 14];
    let own = [1, 1, 2, 0, 0, 0, 0, 14];
    let of_target = [2, 1, 2, 0, 0, 0, 0, 14];
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let both = [nonce, of_target].concat();
    for (kind, options, expected) in [
        (135, &own[..], Some((Some(mac), false))),
        (136, &both[..], Some((Some(mac), true))),
        (136, &own[..], Some((None, true))),
        (136, &[2, 0, 1, 1, 1, 1, 1, 1][..], Some((None, true))),
        (136, &of_target[..5], Some((None, true))),
        (134, &own[..], None),
    ] {
        let bytes = neighbour_message(kind, options);
        let packet = decode(&frame(LinkType::Ethernet, &bytes));
        let Content::Ip(ip) = packet.content else {
            panic!("{packet:?}")
        };
        let Transport::Icmp(icmp) = ip.transport else {
            panic!("{ip:?}")
        };
        let said = icmp.neighbour.map(|said| (said.hardware, said.reply));
        assert_eq!(said, expected, "{kind} {options:?}");
    }
}

#[test]
fn arp_request() {
    let mut bytes = vec![0xff; 12];
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend([2, 0, 0, 0, 0, 1, 10, 244, 1, 18]);
    bytes.extend([0, 0, 0, 0, 0, 0, 10, 244, 1, 99]);
    let packet = decode(&frame(LinkType::Ethernet, &bytes));
    let Content::Arp(arp) = packet.content else {
        panic!("{:?}", packet.content)
    };
    assert_eq!(arp.sender.to_string(), "10.244.1.18");
    assert_eq!(arp.target.to_string(), "10.244.1.99");
    assert!(!arp.reply);
}

#[test]
fn icmp_error_quotes_the_flow_it_is_about() {
    let inner = &tcp_frame(b"")[14..42]; // IP header and 8 bytes of TCP
    let builder =
        PacketBuilder::ipv4([10, 244, 1, 1], [10, 244, 1, 7], 64).icmpv4_raw(3, 1, [0; 4]);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, inner).unwrap();
    let packet = decode(&frame(LinkType::RawIp, &bytes));
    let Transport::Icmp(icmp) = ip(&packet).transport else {
        panic!()
    };
    let quoted = icmp.quoted.unwrap();
    assert_eq!(
        (quoted.src_port, quoted.dst_port, quoted.protocol),
        (40000, 443, 6)
    );
}

proptest! {
    #[test]
    fn any_bytes_decode(data in prop::collection::vec(any::<u8>(), 0..200), number in 0u32..300, extra in 0u32..2000) {
        if let Some(link) = LinkType::from_number(number) {
            let packet = decode(&Frame { wire_len: data.len() as u32 + extra, ..frame(link, &data) });
            if let Content::Ip(ip) = packet.content {
                prop_assert!(ip.payload.len() <= ip.payload_len as usize);
                prop_assert!(ip.payload_len <= packet.wire_len);
            }
        }
    }

    #[test]
    fn damaged_real_frames_decode(at in 0usize..60, value in any::<u8>(), cut in 0usize..60) {
        let mut bytes = tcp_frame(b"payload");
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut);
        let packet = decode(&frame(LinkType::Ethernet, &bytes));
        if let Content::Ip(ip) = packet.content {
            prop_assert!(ip.payload_len <= packet.wire_len);
        }
    }
}
