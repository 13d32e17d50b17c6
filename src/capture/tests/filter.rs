//! Filter expressions.

use super::super::{CaptureError, Filter, Frame, LinkType};
use crate::time::Timestamp;

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        time: Timestamp::default(),
        link,
        wire_len: data.len() as u32,
        interface: 0,
        data,
    }
}

/// An IPv4 UDP datagram from 10.0.0.1 to 10.0.0.2, port 53, behind the header of a link type.
fn datagram(header: &[u8]) -> Vec<u8> {
    let ip = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let udp = [0x30, 0x39, 0, 53, 0, 8, 0, 0];
    [header, &ip, &udp].concat()
}

#[test]
fn link_types_are_listed_in_the_order_of_their_variants() {
    for (i, &link) in LinkType::ALL.iter().enumerate() {
        assert_eq!(link as usize, i);
    }
}

#[test]
fn one_expression_reads_every_link_type_as_it_is() {
    let sll2 = [&[8, 0][..], &[0; 18]].concat();
    let cases: [(LinkType, Vec<u8>); 6] = [
        (LinkType::Ethernet, [&[0; 12][..], &[8, 0]].concat()),
        (LinkType::Null, 2_u32.to_ne_bytes().to_vec()),
        (LinkType::Loop, vec![0, 0, 0, 2]),
        (LinkType::RawIp, vec![]),
        (LinkType::LinuxSll, [&[0; 14][..], &[8, 0]].concat()),
        (LinkType::LinuxSll2, sll2),
    ];
    let mut wanted = Filter::new("udp port 53 and host 10.0.0.2").unwrap();
    let mut unwanted = Filter::new("tcp or host 10.0.0.3").unwrap();
    for (link, header) in cases {
        let bytes = datagram(&header);
        assert!(wanted.matches(&frame(link, &bytes)).unwrap(), "{link}");
        assert!(!unwanted.matches(&frame(link, &bytes)).unwrap(), "{link}");
        // A frame cut short matches nothing that lies beyond the cut.
        assert!(
            !wanted.matches(&frame(link, &bytes[..4])).unwrap(),
            "{link}"
        );
    }
}

#[test]
fn a_bad_expression_is_an_error_in_the_words_of_libpcap() {
    for bad in ["tcp prot 80", "port 99999", "a\0b", "host"] {
        let Err(CaptureError::Filter {
            filter, problem, ..
        }) = Filter::new(bad)
        else {
            panic!("{bad} was taken");
        };
        assert_eq!(filter, bad);
        assert!(!problem.is_empty());
    }
    let text = Filter::new("tcp prot 80").err().unwrap().to_string();
    assert!(text.contains("syntax error"), "{text}");
}

#[test]
fn an_expression_of_some_link_types_is_refused_on_others_alone() {
    let mut filter = Filter::new("ether host 00:00:00:00:00:00").unwrap();
    let bytes = datagram(&[&[0; 12][..], &[8, 0]].concat());
    assert!(filter.matches(&frame(LinkType::Ethernet, &bytes)).unwrap());
    let error = filter
        .matches(&frame(LinkType::RawIp, &bytes[14..]))
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("can't be applied to raw IP frames"), "{text}");
}

#[test]
fn the_empty_expression_wants_everything() {
    let mut filter = Filter::new("").unwrap();
    assert!(filter.matches(&frame(LinkType::RawIp, b"x")).unwrap());
}
