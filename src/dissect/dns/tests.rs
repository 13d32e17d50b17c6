//! Messages as tools send them, as hostile ones might, and against another reader.

use std::net::IpAddr;

use proptest::prelude::*;
use simple_dns::Packet;

use super::message::Message;
use super::*;
use crate::dissect::{DnsAnswer, DnsMessage, DnsOperation};
use crate::flow::Direction;
use crate::time::Timestamp;

/// Query for `www.Example.com` A, recursion desired, EDNS with 1232 bytes (as dig sends it).
const QUERY: &[u8] = b"\x1a\x2b\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\
    \x03www\x07Example\x03com\x00\x00\x01\x00\x01\
    \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

/// Its response: a CNAME to `cdn.example.com` (its tail compressed), then that name's A and AAAA.
const RESPONSE: &[u8] = b"\x1a\x2b\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00\
    \x03www\x07Example\x03com\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x06\x03cdn\xc0\x10\
    \xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07\
    \xc0\x2d\x00\x1c\x00\x01\x00\x00\x02\x58\x00\x10\
    \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07";

fn segment(data: &[u8], ports: (u16, u16)) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction: Direction::Orig,
        orig_port: ports.0,
        resp_port: ports.1,
        data,
        gap: 0,
    }
}

fn read(data: &[u8]) -> Option<DnsMessage> {
    sane(data).map(|message| message.summary(Direction::Orig))
}

/// What a stream of `frames` (without their lengths) is.
fn framed(frames: &[&[u8]]) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        stream.extend((frame.len() as u16).to_be_bytes());
        stream.extend(*frame);
    }
    stream
}

#[test]
fn query() {
    let message = read(QUERY).unwrap();
    assert_eq!(
        message,
        DnsMessage {
            id: 0x1a2b,
            name: "www.example.com".into(),
            name_len: 16,
            query_type: 1,
            edns_size: Some(1232),
            ..DnsMessage::default()
        }
    );
}

#[test]
fn what_is_no_query_says_so() {
    // As BIND tells that a zone has changed, and as nsupdate begins to change one.
    let about = |flags: u8, section: &[u8]| {
        [
            &[0, 7, flags, 0, 0, 1][..],
            &[0; 6],
            b"\x04shop\x07example\0\0\x06\0\x01",
            section,
        ]
        .concat()
    };
    for (flags, operation, response) in [
        (0x24, DnsOperation::Notify, false),
        (0xa4, DnsOperation::Notify, true),
        (0x28, DnsOperation::Update, false),
        (0xa8, DnsOperation::Update, true),
        (0x01, DnsOperation::Query, false),
        (0x10, DnsOperation::Query, false),
    ] {
        let message = read(&about(flags, &[])).unwrap();
        assert_eq!((message.operation, message.response), (operation, response));
        assert_eq!((&*message.name, message.query_type), ("shop.example", 6));
    }
    let mut out = Vec::new();
    let said = about(0x24, &[]);
    let answers = Segment {
        direction: Direction::Resp,
        ..segment(&said, (40000, 53))
    };
    Datagrams.feed(&answers, &mut out);
    let [Transaction::Dns(message)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(message.direction, Direction::Resp);
}

#[test]
fn response_with_alias_and_addresses() {
    let message = read(RESPONSE).unwrap();
    let address = |text: &str| DnsAnswer::Address(text.parse::<IpAddr>().unwrap());
    assert!(message.response);
    assert_eq!(
        message.answers,
        [
            DnsAnswer::Alias("cdn.example.com".into()),
            address("192.0.2.7"),
            address("2001:db8::7"),
        ]
    );
    assert_eq!(
        (message.answer_count, message.answer_bytes, message.ttl),
        (3, 6 + 4 + 16, Some(60))
    );
}

#[test]
fn extended_response_code() {
    // BADVERS (16): the lower four bits are 0, the OPT record carries the 1 above them.
    let mut message = QUERY.to_vec();
    message[2] |= 0x80;
    let at = message.len() - 6;
    message[at] = 1;
    assert_eq!(read(&message).unwrap().rcode, 16);
}

#[test]
fn labels_of_any_bytes() {
    // A NULL query as iodine sends it: 8-bit labels; here with a dot, a backslash, a space and capitals besides.
    let query = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
        \x08\xbc\xff\x00a.\\ Z\x01t\x04test\x00\x00\x0a\x00\x01";
    let message = read(query).unwrap();
    assert_eq!(&*message.name, r"\188\255\000a\046\092\032z.t.test");
    assert_eq!((message.name_len, message.query_type), (16, 10));
    assert_eq!(probe_datagram(&segment(query, (40000, 53))), Probe::Certain);
    assert_eq!(
        probe_datagram(&segment(query, (40000, 4053))),
        Probe::Certain
    );
}

#[test]
fn longest_name_and_one_too_long() {
    let message = |last: usize| {
        let mut data = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        for len in [63, 63, 63, last] {
            data.push(len as u8);
            data.extend(std::iter::repeat_n(0xff, len));
        }
        data.extend(b"\x00\x00\x10\x00\x01");
        data
    };
    let longest = read(&message(61)).unwrap();
    assert_eq!(longest.name_len, 254);
    assert_eq!(longest.name.len(), 250 * 4 + 3);
    assert_eq!(read(&message(62)), None);
}

#[test]
fn cut_messages_keep_what_is_there() {
    let question_end = 12 + 17 + 4;
    for len in 0..RESPONSE.len() {
        let message = read(&RESPONSE[..len]);
        assert_eq!(message.is_some(), len >= question_end, "{len} bytes");
        if let Some(message) = message {
            assert_eq!(&*message.name, "www.example.com");
            assert_eq!(message.answers.len(), usize::from(message.answer_count));
        }
    }
    // On its port a cut datagram is recognised, elsewhere it isn't enough.
    let cut = &RESPONSE[..question_end + 7];
    assert_eq!(probe_datagram(&segment(cut, (53, 40000))), Probe::Certain);
    assert_eq!(
        probe_datagram(&segment(cut, (4053, 40000))),
        Probe::NotForUs
    );
}

#[test]
fn recognition_of_datagrams() {
    // An mDNS answer (no question): printer.local A 192.0.2.9, cache-flush bit set.
    let mdns: &[u8] = b"\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\
        \x07printer\x05local\x00\x00\x01\x80\x01\x00\x00\x00\x78\x00\x04\xc0\x00\x02\x09";
    // A server's answer to a query it could not read: a bare header with FORMERR.
    let format_error: &[u8] = b"\x12\x34\x81\x01\x00\x00\x00\x00\x00\x00\x00\x00";
    // A NetBIOS name query for `*`, which has DNS's form.
    let netbios: &[u8] = b"\x80\xf0\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00\
        \x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x00\x00\x21\x00\x01";
    // NTP client packet: long, few bits set.
    let ntp: &[u8] = &[&b"\x23\x02\x0a\xec"[..], &[0; 44]].concat();
    let mut trailing = QUERY.to_vec();
    trailing.push(0);
    let cases: &[(&str, &[u8], u16, Probe)] = &[
        ("query", QUERY, 53, Probe::Certain),
        ("query elsewhere", QUERY, 5300, Probe::Certain),
        ("response elsewhere", RESPONSE, 5300, Probe::Certain),
        ("another's port", QUERY, 5355, Probe::NotForUs),
        ("mdns answer", mdns, 5353, Probe::NotForUs),
        ("mdns answer elsewhere", mdns, 5300, Probe::NotForUs),
        ("format error", format_error, 53, Probe::Certain),
        ("netbios", netbios, 137, Probe::NotForUs),
        ("ntp", ntp, 123, Probe::NotForUs),
        ("trailing byte elsewhere", &trailing, 5300, Probe::NotForUs),
        ("trailing byte", &trailing, 53, Probe::Certain),
        ("zeros", &[0; 64], 5300, Probe::NotForUs),
        ("zeros on the port", &[0; 64], 53, Probe::Unsure),
        (
            "text on the port",
            b"hello, is this dns? no.",
            53,
            Probe::Unsure,
        ),
    ];
    for (name, data, port, expected) in cases {
        assert_eq!(
            probe_datagram(&segment(data, (40000, *port))),
            *expected,
            "{name}"
        );
    }
    let on = |spec: &DissectorSpec, port| (spec.probe)(&segment(mdns, (40000, port)));
    assert_eq!(on(&MDNS, 5353), Probe::Certain);
    assert_eq!(on(&MDNS, 5355), Probe::NotForUs);
    assert_eq!(on(&LLMNR, 5355), Probe::Certain);
}

#[test]
fn stream_of_pipelined_messages_in_any_pieces() {
    let stream = framed(&[QUERY, RESPONSE, QUERY]);
    for size in 1..stream.len() {
        let mut state = Stream::default();
        let mut out = Vec::new();
        for piece in stream.chunks(size) {
            assert_eq!(
                state.feed(&segment(piece, (1, 53)), &mut out),
                Progress::More
            );
        }
        assert_eq!(out.len(), 3, "pieces of {size}");
        assert_eq!(state.partial.orig.capacity(), 0, "memory is given back");
    }
}

#[test]
fn stream_that_is_no_dns() {
    let feed = |data: &[u8], gap: u32| {
        let segment = Segment {
            gap,
            ..segment(data, (1, 53))
        };
        Stream::default().feed(&segment, &mut Vec::new())
    };
    // A message too short for a header; a hole in the framing.
    assert_eq!(feed(b"\x00\x0b", 0), Progress::Desynced);
    assert_eq!(feed(&framed(&[QUERY]), 1), Progress::Desynced);

    let probe = |data: &[u8], port| probe_stream(&segment(data, (40000, port)));
    assert_eq!(probe(b"GET / HTTP/1.1\r\n", 53), Probe::NotForUs);
    assert_eq!(probe(b"SSH-2.0-OpenSSH_9.6\r\n", 22), Probe::NotForUs);
    assert_eq!(
        probe(b"\x00\x21\x12\x34\x01\x00", 22),
        Probe::Unsure,
        "all but a whole header"
    );
    let query = framed(&[QUERY]);
    for len in 0..query.len() {
        let on_port = if len < 2 + 33 {
            Probe::Unsure
        } else {
            Probe::Certain
        };
        assert_eq!(probe(&query[..len], 53), on_port, "{len} bytes");
        assert_eq!(probe(&query[..len], 5300), Probe::Unsure, "{len} bytes");
    }
    assert_eq!(probe(&query, 5300), Probe::Certain);
}

#[test]
fn names_that_chase_pointers_end_soon() {
    // 64 KiB: a question, then CNAME answers, each of whose data is a pointer to the one before it: a chain as long as
    // the message, walked anew from every answer.
    let mut data =
        b"\x00\x07\x81\x00\x00\x01\xff\xff\x00\x00\x00\x00\x01a\x00\x00\x05\x00\x01".to_vec();
    let mut target = 12_u16;
    while data.len() < 65_000 {
        data.extend(b"\x00\x00\x05\x00\x01\x00\x00\x00\x00\x00\x02");
        let at = data.len() as u16;
        data.extend((0xc000 | target).to_be_bytes());
        target = if at < 0x3fff { at } else { target };
    }
    let message = read(&data).unwrap();
    assert!(message.answer_count > 4000);
    assert!(message.answers.len() <= 32);
    // A pointer to itself, and two that point at each other.
    let looped = b"\x00\x07\x81\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x05\x00\x01\
        \x00\x00\x05\x00\x01\x00\x00\x00\x00\x00\x02\xc0\x1e";
    let message = read(looped).unwrap();
    assert_eq!((message.answer_count, message.answers.len()), (1, 0));
}

#[test]
fn a_stream_holds_one_message_at_most() {
    // An announced 64 KiB that drips in costs what has come; the next message starts afresh.
    let mut state = Stream::default();
    let mut out = Vec::new();
    let mut message = QUERY.to_vec();
    message.resize(usize::from(u16::MAX), 0);
    let stream = framed(&[&message, &message]);
    for piece in stream.chunks(7) {
        state.feed(&segment(piece, (1, 53)), &mut out);
        assert!(state.partial.orig.capacity() <= MAX_FRAME);
    }
    assert_eq!(out.len(), 2);
}

/// The name that `labels` are in the form of [`DnsMessage::name`], spelled out independently.
fn spelled<'a>(labels: impl Iterator<Item = &'a [u8]>) -> String {
    let spell = |label: &[u8]| -> String {
        let char = |byte: &u8| match char::from(*byte).to_ascii_lowercase() {
            plain @ '!'..='~' if !matches!(plain, '.' | '\\') => plain.to_string(),
            _ => format!("\\{byte:03}"),
        };
        label.iter().map(char).collect()
    };
    labels.map(spell).collect::<Vec<_>>().join(".")
}

/// The lengths of the data of a message's answers, walked independently; the oracle took the message for whole.
fn answer_lengths(data: &[u8], questions: usize, answers: usize) -> Vec<usize> {
    let name_end = |mut at: usize| loop {
        match data[at] {
            0 => break at + 1,
            0xc0.. => break at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let mut at = 12;
    for _ in 0..questions {
        at = name_end(at) + 4;
    }
    let mut lengths = Vec::new();
    for _ in 0..answers {
        at = name_end(at) + 10;
        let length = usize::from(u16::from_be_bytes([data[at - 2], data[at - 1]]));
        lengths.push(length);
        at += length;
    }
    lengths
}

/// Where the other reader understands a whole message, ours must read the same from it, but for one rule: an address record
/// has four or sixteen bytes of data (RFC 1035 3.4.1, RFC 3596 2.2). Of a longer one, the other reads the beginning; ours
/// leaves it out, as no resolver believes it.
fn agrees_with_oracle(data: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(data) else {
        return false;
    };
    let message = Message::parse(data)
        .expect("the oracle parsed it")
        .summary(Direction::Orig);
    assert_eq!(message.id, packet.id());
    if let Some(question) = packet.questions.first() {
        assert_eq!(*message.name, *spelled(question.qname.as_bytes()));
        assert_eq!(message.query_type, u16::from(question.qtype));
    }
    assert_eq!(usize::from(message.answer_count), packet.answers.len());
    let lengths = answer_lengths(data, packet.questions.len(), packet.answers.len());
    let internet = packet
        .answers
        .iter()
        .zip(lengths)
        .filter(|(answer, _)| answer.class == simple_dns::CLASS::IN);
    let answers = internet.filter_map(|(answer, length)| match &answer.rdata {
        simple_dns::rdata::RData::A(a) if length == 4 => {
            Some(DnsAnswer::Address(IpAddr::V4(a.address.into())))
        }
        simple_dns::rdata::RData::AAAA(a) if length == 16 => {
            Some(DnsAnswer::Address(IpAddr::V6(a.address.into())))
        }
        simple_dns::rdata::RData::CNAME(name) => {
            Some(DnsAnswer::Alias(spelled(name.0.as_bytes()).into()))
        }
        _ => None,
    });
    assert_eq!(message.answers, answers.take(32).collect::<Vec<_>>());
    assert_eq!(
        message.edns_size,
        packet.opt().map(|opt| opt.udp_packet_size)
    );
    true
}

#[test]
fn oracle_reads_the_same() {
    assert!(agrees_with_oracle(QUERY));
    assert!(agrees_with_oracle(RESPONSE));
}

proptest! {
    #[test]
    fn oracle_reads_the_same_from_damaged_messages(
        base in prop_oneof![Just(QUERY), Just(RESPONSE)],
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut data = base.to_vec();
        for (at, byte) in damage {
            // Not the counts: the oracle allocates what they announce.
            let at = at.index(data.len());
            if !(4..12).contains(&at) {
                data[at] = byte;
            }
        }
        agrees_with_oracle(&data);
    }

    #[test]
    fn any_labels_come_through(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=63), 1..=3),
        query_type: u16,
    ) {
        let mut data = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        for label in &labels {
            data.push(label.len() as u8);
            data.extend(label);
        }
        data.push(0);
        data.extend(query_type.to_be_bytes());
        data.extend([0, 1]);
        let message = read(&data).unwrap();
        prop_assert_eq!(&*message.name, spelled(labels.iter().map(Vec::as_slice)));
        prop_assert_eq!(usize::from(message.name_len), labels.iter().map(|label| label.len() + 1).sum::<usize>());
        prop_assert_eq!(message.query_type, query_type);
    }

    #[test]
    fn any_datagram_is_survived(data in proptest::collection::vec(any::<u8>(), 1..300)) {
        let mut out = Vec::new();
        probe_datagram(&segment(&data, (53, 53)));
        Datagrams.feed(&segment(&data, (53, 53)), &mut out);
        prop_assert!(out.len() <= 1);
    }
}
