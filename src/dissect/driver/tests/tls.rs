//! TLS that begins otherwise than with a record of it.

use super::*;

/// SSL 2.0: hellos that ask for no later version, or (the client's) for TLS 1.0, with room for `suites`.
pub(super) fn old_hellos(version: [u8; 2], suites: u8) -> (Vec<u8>, Vec<u8>) {
    let kinds = 3 * u16::from(suites);
    let [high, low] = (9 + kinds + 16).to_be_bytes();
    let client = [
        &[high | 0x80, low, 1, version[0], version[1]][..],
        &kinds.to_be_bytes(),
        &[0, 0, 0, 16],
        &[7, 0, 0xc0].repeat(suites.into()),
        &[0x55; 16],
    ];
    let server = [
        &[0x83, 0x1e, 4, 0, 1, 0, 2, 3, 0, 0, 3, 0, 16][..],
        &[0x30; 768],
        &[1, 0, 0x80],
        &[0x55; 16],
    ];
    (client.concat(), server.concat())
}

#[test]
fn hellos_of_ssl_2_are_recognised_however_they_are_cut() {
    let (_, answer) = hellos();
    let (asks_later, _) = old_hellos([3, 1], 29);
    // Longer than what is looked at to recognise a flow.
    let (long, _) = old_hellos([3, 1], 250);
    let (client, server) = old_hellos([0, 2], 7);
    let cases = [
        (turns(&[(Orig, &asks_later), (Resp, &answer)]), 2),
        (turns(&[(Orig, &long), (Resp, &answer)]), 2),
        (turns(&[(Orig, &client), (Resp, &server)]), 2),
        (turns(&[(Resp, &server)]), 1),
    ];
    for (said, count) in cases {
        let (out, app, _, gave_up) = whole(&said);
        assert_eq!((out.len(), app, gave_up), (count, Some("tls"), false));
        for size in [1, 2, 7, 48, 512] {
            assert_eq!(run(&said, |_, data| data.chunks(size)).0, out, "{size}");
        }
    }
}

/// A protocol, and what is said in clear.
type Said<'a> = (&'static str, &'a [(Direction, &'a [u8])]);

/// Each keeps its name, and none goes on reading; what TLS shows of itself is told.
#[test]
fn what_goes_on_as_tls_is_read_as_such() {
    let start_tls: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    let success: &[u8] = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0";
    let rdp: &[u8] = b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0";
    let agreed: &[u8] = b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\x1f\x08\0\x02\0\0\0";
    let clear: &[Said] = &[
        (
            "smtp",
            &[
                (Resp, b"220 h ESMTP\r\n"),
                (Orig, b"EHLO c\r\n"),
                (Resp, b"250-h\r\n250 STARTTLS\r\n"),
                (Orig, b"STARTTLS\r\n"),
                (Resp, b"220 Go ahead\r\n"),
            ],
        ),
        (
            "ftp",
            &[
                (Resp, b"220 FTP\r\n"),
                (Orig, b"AUTH TLS\r\n"),
                (Resp, b"234 Proceed\r\n"),
            ],
        ),
        ("ldap", &[(Orig, start_tls), (Resp, success)]),
        ("postgresql", &[(Orig, SSL_REQUEST), (Resp, b"S")]),
        (
            "xmpp",
            &[
                (Orig, b"<stream:stream to='h'>"),
                (Resp, b"<?xml version='1.0'?><stream:stream from='h'>"),
                (Resp, b"<stream:features><starttls/></stream:features>"),
                (Orig, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
                (Resp, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            ],
        ),
        ("rdp", &[(Orig, rdp), (Resp, agreed)]),
    ];
    let (client, server) = hellos();
    let hellos = [(Orig, client.clone()), (Resp, server.clone())];
    let mut cases: Vec<(&str, Vec<Turn>)> = clear
        .iter()
        .map(|(app, said)| (*app, [&turns(said)[..], &hellos].concat()))
        .collect();
    // MySQL's greeting that offers TLS, and a client that goes on at once after it wished for it.
    let greeting = b"\x17\0\0\0\x0a8.4.2\0\x01\0\0\0nonces12\0\xff\xff\x08";
    let wish = [&[32, 0, 0, 1, 0, 0x8a, 8, 0][..], &[0; 28], &client].concat();
    let said = vec![(Resp, greeting.to_vec()), (Orig, wish), (Resp, server)];
    cases.push(("mysql", said));
    for (app, said) in cases {
        let (out, found, last, gave_up) = whole(&said);
        let expected = (Some(app), Progress::More, false);
        assert_eq!((found, last, gave_up), expected, "{out:?}");
        let [.., Transaction::TlsClient(hello), Transaction::TlsServer(_)] = &out[..] else {
            panic!("{app}: {out:?}")
        };
        assert!(hello.upgraded && !hello.ja4.is_empty(), "{app}");
        for size in 1..50 {
            let cut = run(&said, |_, data| data.chunks(size));
            assert_eq!(cut.0, out, "{app} in pieces of {size}");
        }
    }
}
