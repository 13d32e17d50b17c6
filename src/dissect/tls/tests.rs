//! Hellos as clients and servers send them, in every framing, and damaged ones.

use proptest::prelude::*;

use super::*;
use crate::flow::Direction;
use crate::time::Timestamp;

/// A vector with a length of `N` bytes before it.
fn vector<const N: usize>(content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[4 - N..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector::<2>(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(
        SERVER_NAME,
        &vector::<2>(&[&[0], &vector::<2>(name)[..]].concat()),
    )
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| vector::<1>(name)).collect();
    extension(ALPN, &vector::<2>(&names))
}

/// A TLS 1.3 client hello: GREASE among suites, extensions and versions.
fn client_hello_message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[0x03, 0x03][..],
        &[0xaa; 32],
        &vector::<1>(&[0xbb; 32]),
        &vector::<2>(&[0x1a, 0x1a, 0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f]),
        &vector::<1>(&[0]),
        &vector::<2>(&extensions.concat()),
    ]
    .concat();
    [&[CLIENT_HELLO][..], &vector::<3>(&body)].concat()
}

fn usual_extensions() -> Vec<Vec<u8>> {
    vec![
        extension(0x2a2a, &[]),
        server_name(b"API.example.com"),
        alpn(&[b"h2", b"http/1.1"]),
        extension(
            SIGNATURE_ALGORITHMS,
            &vector::<2>(&[0x04, 0x03, 0x08, 0x04]),
        ),
        extension(
            SUPPORTED_VERSIONS,
            &vector::<1>(&[0x3a, 0x3a, 0x03, 0x04, 0x03, 0x03]),
        ),
    ]
}

fn server_hello_message(version: u16, random: [u8; 32], extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &version.to_be_bytes()[..],
        &random,
        &vector::<1>(&[0xbb; 32]),
        &[0x13, 0x02, 0],
        &vector::<2>(&extensions.concat()),
    ]
    .concat();
    [&[SERVER_HELLO][..], &vector::<3>(&body)].concat()
}

/// The records of `kind` that carry `content`, of at most `size` bytes each.
fn records(kind: u8, content: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[kind, 3, 1][..], &vector::<2>(part)].concat();
    content.chunks(size).flat_map(record).collect()
}

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 443,
        data,
        gap: 0,
    }
}

/// What comes of the streams, each given in pieces of `size`.
fn feed(
    tls: &mut Tls,
    streams: &[(Direction, &[u8])],
    size: usize,
) -> (Vec<Transaction>, Progress) {
    let mut out = Vec::new();
    for (direction, data) in streams {
        for piece in data.chunks(size) {
            let progress = tls.feed(&segment(*direction, piece), &mut out);
            if progress != Progress::More {
                return (out, progress);
            }
        }
    }
    (out, Progress::More)
}

fn expected_client() -> Transaction {
    let fingerprint = Ja4 {
        version: 0x0304,
        ciphers: &[0x1301, 0x1302, 0xc02f],
        extensions: &[0, 16, 13, 43],
        signature_algorithms: &[0x0403, 0x0804],
        first_alpn: Some(b"h2"),
    };
    assert!(fingerprint.fingerprint().starts_with("t13d0304h2_"));
    Transaction::TlsClient(TlsClientHello {
        sni: Some("api.example.com".into()),
        alpn: vec!["h2".into(), "http/1.1".into()],
        version: 0x0304,
        ja4: fingerprint.fingerprint(),
        ssl2: false,
        upgraded: false,
    })
}

fn server(version: u16, alpn: Option<&str>) -> Transaction {
    Transaction::TlsServer(TlsServerHello {
        version,
        cipher: 0x1302,
        alpn: alpn.map(Into::into),
    })
}

const CHOSEN_13: &[u8] = &[0x03, 0x04];

#[test]
fn both_hellos_in_every_framing() {
    let client = client_hello_message(&usual_extensions());
    let hello = server_hello_message(0x0303, [1; 32], &[extension(SUPPORTED_VERSIONS, CHOSEN_13)]);
    let expected = vec![expected_client(), server(0x0304, None)];
    for record_size in [1, 3, 7, 100, 16384] {
        let client = records(22, &client, record_size);
        let server = records(22, &hello, record_size);
        assert_eq!(probe(&segment(Direction::Orig, &client)), Probe::Certain);
        for piece in [1, 2, 5, 64, 100_000] {
            let streams = [
                (Direction::Orig, &client[..]),
                (Direction::Resp, &server[..]),
            ];
            let got = feed(&mut Tls::default(), &streams, piece);
            assert_eq!(
                got,
                (expected.clone(), Progress::More),
                "{record_size} {piece}"
            );
        }
    }
}

#[test]
fn who_asks_is_told_by_the_hello_not_the_direction() {
    let client = records(22, &client_hello_message(&usual_extensions()), 500);
    let (out, _) = feed(&mut Tls::default(), &[(Direction::Resp, &client)], 500);
    assert_eq!(out, [expected_client()]);
}

#[test]
fn protocol_chosen_in_clear() {
    // TLS 1.2: the server's answer to ALPN; more of the handshake in the same record.
    let hello = server_hello_message(0x0303, [1; 32], &[alpn(&[b"h2"])]);
    let stream = records(22, &[&hello[..], &[11, 0, 0, 3, 0, 0, 0]].concat(), 16384);
    let (out, progress) = feed(&mut Tls::default(), &[(Direction::Resp, &stream)], 9);
    assert_eq!(
        (out, progress),
        (vec![server(0x0303, Some("h2"))], Progress::More)
    );
    // SSL 3.0 has no extensions.
    let old = [
        &[SERVER_HELLO, 0, 0, 38, 3, 0][..],
        &[1; 32],
        &[0, 0x13, 0x02, 0],
    ]
    .concat();
    let (out, _) = feed(
        &mut Tls::default(),
        &[(Direction::Resp, &records(22, &old, 99))],
        9,
    );
    assert_eq!(out, [server(0x0300, None)]);
}

#[test]
fn hello_retry_is_not_the_answer() {
    let client = records(22, &client_hello_message(&usual_extensions()), 16384);
    let versions = [extension(SUPPORTED_VERSIONS, CHOSEN_13)];
    let retry = records(
        22,
        &server_hello_message(0x0303, RETRY_RANDOM, &versions),
        16384,
    );
    let change_cipher_spec = records(20, &[1], 1);
    let hello = records(22, &server_hello_message(0x0303, [7; 32], &versions), 16384);
    let streams: [(Direction, &[u8]); 5] = [
        (Direction::Orig, &client),
        (Direction::Resp, &retry),
        (Direction::Resp, &change_cipher_spec),
        (Direction::Orig, &client),
        (Direction::Resp, &hello),
    ];
    let (out, progress) = feed(&mut Tls::default(), &streams, 100);
    assert_eq!(out, [expected_client(), server(0x0304, None)]);
    assert_eq!(progress, Progress::More);
}

#[test]
fn a_malformed_extension_hides_no_other() {
    let mut extensions = usual_extensions();
    // An empty list of signature algorithms, a record size limit without a size: both cut short.
    extensions.insert(0, extension(28, &[]));
    extensions.insert(0, extension(SIGNATURE_ALGORITHMS, &[0]));
    let stream = records(22, &client_hello_message(&extensions), 16384);
    let (out, _) = feed(&mut Tls::default(), &[(Direction::Orig, &stream)], 100);
    let [Transaction::TlsClient(hello)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(hello.sni.as_deref(), Some("api.example.com"));
    assert!(hello.ja4.starts_with("t13d0306h2_"));
}

#[test]
fn hello_without_extensions() {
    // TLS 1.0, one suite, nothing after the compression methods.
    let body = [&[3, 1][..], &[0; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let message = [&[CLIENT_HELLO][..], &vector::<3>(&body)].concat();
    let (out, _) = feed(
        &mut Tls::default(),
        &[(Direction::Orig, &records(22, &message, 500))],
        50,
    );
    let [Transaction::TlsClient(hello)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(
        (hello.version, hello.sni.clone(), hello.alpn.len()),
        (0x0301, None, 0)
    );
    assert!(hello.ja4.starts_with("t10i010000_"));
}

#[test]
fn alerts_before_the_hello() {
    let hello = records(22, &server_hello_message(0x0303, [1; 32], &[]), 16384);
    // unrecognized_name as a warning; handshake_failure, fatal.
    for (alert, progress) in [([1, 112], Progress::More), ([2, 40], Progress::Done)] {
        let stream = [records(21, &alert, 2), hello.clone()].concat();
        let (out, got) = feed(&mut Tls::default(), &[(Direction::Resp, &stream)], 1);
        assert_eq!(
            (out.len(), got),
            (usize::from(progress == Progress::More), progress)
        );
    }
}

#[test]
fn what_cannot_be_followed_ends() {
    let ends = |data: &[u8], progress| {
        let got = feed(&mut Tls::default(), &[(Direction::Orig, data)], 4096);
        assert_eq!(got, (vec![], progress), "{data:02x?}");
    };
    ends(&records(23, &[0; 8], 8), Progress::Done);
    ends(&records(22, &[14, 0, 0, 0], 8), Progress::Done);
    ends(b"HTTP/1.1 400 Bad Request\r\n", Progress::Desynced);
    ends(&[22, 3, 3, 0xff, 0xff], Progress::Desynced);
    ends(&[22, 2, 0, 0, 5], Progress::Desynced);
    // A hello of nothing; one of more than 64 KiB.
    ends(
        &records(22, &[CLIENT_HELLO, 0, 0, 1, 0], 8),
        Progress::Desynced,
    );
    ends(
        &records(22, &[CLIENT_HELLO, 1, 0, 0], 8),
        Progress::Desynced,
    );
    // A server that doesn't speak TLS has nothing for us to miss.
    let hello = records(22, &client_hello_message(&usual_extensions()), 16384);
    let turns: [(Direction, &[u8]); 2] = [
        (Direction::Orig, &hello),
        (Direction::Resp, b"HTTP/1.1 400 Bad Request\r\n"),
    ];
    for size in [1, 4096] {
        let got = feed(&mut Tls::default(), &turns, size);
        assert_eq!(got, (vec![expected_client()], Progress::Done));
    }
    // A hole inside the hello is one in what we wait for; after it, nobody cares.
    let mut tls = Tls::default();
    let mut out = Vec::new();
    let late = Segment {
        gap: 9,
        ..segment(Direction::Orig, &hello)
    };
    assert_eq!(Tls::default().feed(&late, &mut out), Progress::Desynced);
    tls.feed(&segment(Direction::Orig, &hello), &mut out);
    assert_eq!(tls.feed(&late, &mut out), Progress::More);
    assert_eq!(out.len(), 1);
}

#[test]
fn memory_and_patience_are_bounded() {
    // The longest message there may be, in records of one byte, none of which completes it.
    let mut tls = Tls::default();
    let mut out = Vec::new();
    let message = [&[CLIENT_HELLO, 0, 0xff, 0xfb][..], &vec![0; 0xffff]].concat();
    for piece in records(22, &message[..60_000], 1).chunks(1400) {
        if tls.feed(&segment(Direction::Orig, piece), &mut out) != Progress::More {
            break;
        }
        assert!(tls.sides.orig.message.capacity() <= MAX_HANDSHAKE);
    }
    // Records of nothing, for ever.
    let mut tls = Tls::default();
    let empty = [22, 3, 3, 0, 0].repeat(300);
    let fed =
        (0..9999).find(|_| tls.feed(&segment(Direction::Orig, &empty), &mut out) != Progress::More);
    assert!(fed.unwrap() as u64 * empty.len() as u64 <= PATIENCE);
}

#[test]
fn recognition() {
    let hello = records(22, &client_hello_message(&usual_extensions()), 16384);
    for len in 0..hello.len() {
        let expected = if len < 10 {
            Probe::Unsure
        } else {
            Probe::Certain
        };
        assert_eq!(
            probe(&segment(Direction::Orig, &hello[..len])),
            expected,
            "{len} bytes"
        );
    }
    let others: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        // Application data; a certificate; a major version of 2; a hello of SSL 2.0 without suites.
        &[23, 3, 3, 0, 10, 0, 0, 0, 0, 0],
        &[22, 3, 3, 0, 10, 11, 0, 0, 6, 3],
        &[22, 2, 0, 0, 10, 1, 0, 0, 6, 3],
        &[0x80, 0x2e, 1, 0, 2, 0, 0, 0, 0, 0, 37],
        // A hello longer than any; of a version that never was.
        &[22, 3, 1, 0, 200, 1, 1, 0, 0, 3],
        &[22, 3, 1, 0, 200, 1, 0, 0, 196, 9],
    ];
    for data in others {
        assert_eq!(
            probe(&segment(Direction::Orig, data)),
            Probe::NotForUs,
            "{data:02x?}"
        );
    }
}

proptest! {
    #[test]
    fn any_hello_body_is_survived(kind in 0_u8..3, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let message = [&[kind][..], &vector::<3>(&body)].concat();
        feed(&mut Tls::default(), &[(Direction::Orig, &records(22, &message, 50))], 7);
    }

    #[test]
    fn damaged_hellos_are_survived(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stream = records(22, &client_hello_message(&usual_extensions()), 16384);
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        feed(&mut Tls::default(), &[(Direction::Orig, &stream)], 50);
    }
}

/// A server's flight in TLS 1.2, with a certificate, and the end of the handshake.
#[test]
fn a_certificate_in_clear_and_the_sizes_after_it() {
    use crate::testkit::rng::Rng;
    use crate::testkit::talk::certificate::Certificate;
    let shown = Certificate {
        subject: "Server",
        issuer: "Server",
        names: &["a.example", "*.b.example"],
        valid: ("700101000000Z", "720101000000Z"),
    };
    let der = shown.bytes(&mut Rng::new(1));
    let list = vector::<3>(&vector::<3>(&der));
    let hello = server_hello_message(0x0303, [1; 32], &[]);
    // A suite of GCM.
    let hello = [&hello[..71], &[0xc0, 0x2f], &hello[73..]].concat();
    let flight = [
        &hello[..],
        &[CERTIFICATE],
        &vector::<3>(&list),
        &[14, 0, 0, 0],
    ]
    .concat();
    let client = records(22, &client_hello_message(&usual_extensions()), 16384);
    let data: Vec<u8> = (0..12)
        .flat_map(|n| records(23, &vec![7; 24 + 100 + n], 16384))
        .collect();
    let sealed = [records(20, &[1], 1), records(22, &[9; 40], 99), data].concat();
    let server = [records(22, &flight, 16384), sealed.clone()].concat();
    for piece in [1, 7, 1460, 100_000] {
        let mut tls = Tls::default();
        let streams = [
            (Direction::Orig, &client[..]),
            (Direction::Resp, &server[..]),
            (Direction::Orig, &sealed[..]),
        ];
        let (mut out, progress) = feed(&mut tls, &streams, piece);
        assert_eq!(progress, Progress::More);
        tls.finish(&mut out);
        let [
            _,
            _,
            Transaction::TlsCertificate(one),
            Transaction::TlsRecords(records),
        ] = &out[..]
        else {
            panic!("{out:?}")
        };
        assert!(one.self_issued && one.chain == 1);
        assert_eq!((one.valid_days, one.age_days), (730, 0));
        assert_eq!(one.subject.as_deref(), Some("Server"));
        assert_eq!(one.names, ["a.example".into(), "*.b.example".into()]);
        assert_eq!((records.from, records.records.len()), (0, 24));
        assert!((100..112).contains(&records.records[3].bytes));
    }
    // Whatever is in a certificate, it is survived.
    for at in 0..der.len() {
        for value in [0, 0x80, 0xff] {
            let mut der = der.clone();
            der[at] = value;
            certificate::read(
                &vector::<3>(&vector::<3>(&der)),
                Direction::Resp,
                Timestamp::from_nanos(0),
            );
        }
        let cut = vector::<3>(&vector::<3>(&der[..at]));
        certificate::read(&cut, Direction::Resp, Timestamp::from_nanos(0));
    }
}

#[test]
fn records_are_bounded() {
    let hellos = [
        records(22, &client_hello_message(&usual_extensions()), 16384),
        records(
            22,
            &server_hello_message(0x0303, [1; 32], &[extension(SUPPORTED_VERSIONS, CHOSEN_13)]),
            16384,
        ),
    ];
    let mut tls = Tls::default();
    let streams = [
        (Direction::Orig, &hellos[0][..]),
        (Direction::Resp, &hellos[1][..]),
    ];
    assert_eq!(feed(&mut tls, &streams, 999).1, Progress::More);
    let data = records(23, &[0; 30], 99).repeat(500);
    let (out, progress) = feed(&mut tls, &[(Direction::Resp, &data)], 1460);
    assert_eq!(progress, Progress::Done);
    let told: usize = out
        .iter()
        .map(|one| match one {
            Transaction::TlsRecords(records) => records.records.len(),
            _ => 0,
        })
        .sum();
    assert_eq!((out.len(), told), (2, 80));
}

/// A client's hello in the framing of SSL 2.0, with seven suites.
fn ssl2_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = vec![0x80, 46, 1, version[0], version[1], 0, 21, 0, 0, 0, 16];
    hello.extend([0, 0, 0x39].repeat(7));
    hello.extend([0x55; 16]);
    hello
}

fn ssl2_client(version: u16) -> Transaction {
    Transaction::TlsClient(TlsClientHello {
        version,
        ssl2: true,
        ..TlsClientHello::default()
    })
}

#[test]
fn a_hello_in_the_framing_of_ssl_2_is_read_and_what_follows_it() {
    let hello = ssl2_hello([3, 1]);
    let answer = records(
        TlsRecordType::Handshake.0,
        &server_hello_message(0x0301, [7; 32], &[]),
        1000,
    );
    let key = records(TlsRecordType::Handshake.0, &[16, 0, 0, 2, 7, 7], 1000);
    let streams = [
        (Direction::Orig, hello.as_slice()),
        (Direction::Resp, answer.as_slice()),
        (Direction::Orig, key.as_slice()),
    ];
    for piece in [1, 2, 7, 10, 40, 1000] {
        let told = feed(&mut Tls::default(), &streams, piece);
        let expected = vec![ssl2_client(0x0301), server(0x0301, None)];
        assert_eq!(told, (expected, Progress::More), "in pieces of {piece}");
    }
}

#[test]
fn nothing_is_read_after_the_hellos_of_ssl_2_itself() {
    let hello = ssl2_hello([0, 2]);
    let mut answer = vec![0x81, 0x18, 4, 0, 1, 0, 2, 0, 250, 0, 3, 0, 16];
    answer.extend([9; 269]);
    let streams = [
        (Direction::Orig, hello.as_slice()),
        (Direction::Resp, answer.as_slice()),
        (Direction::Orig, &[0x80, 3, 2, 7, 0]),
    ];
    for piece in [1, 2, 7, 10, 40, 1000] {
        let told = feed(&mut Tls::default(), &streams, piece);
        let chosen = Transaction::TlsServer(TlsServerHello {
            version: 0x0002,
            ..TlsServerHello::default()
        });
        let expected = vec![ssl2_client(0x0002), chosen];
        assert_eq!(told, (expected, Progress::Done), "in pieces of {piece}");
    }
}
