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
