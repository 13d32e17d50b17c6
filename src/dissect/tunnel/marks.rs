//! Marks that give a protocol away behind a tunnel's own header or encoding. Knows no stream.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// A tunnel's own header before what it carries isn't longer.
const MAX_HEADER: usize = 320;
/// The longest base64 text decoded.
const MAX_ENCODED: usize = 512;

/// A protocol whose mark stands in the first bytes of a direction, perhaps after a tunnel's own header or in base64.
pub(in crate::dissect) fn find(data: &[u8]) -> Option<&'static str> {
    find_plain(data).or_else(|| find_plain(&decoded(data)?))
}

fn find_plain(data: &[u8]) -> Option<&'static str> {
    let starts: [(&[u8], &str); 5] = [
        (b"RFB 003.", "rfb"),
        // A stream multiplexer's first frame: version 0, data or window, opening stream 1 (client) or 2 (server).
        (b"\0\0\0\x01\0\0\0\x01", "yamux"),
        (b"\0\x01\0\x01\0\0\0\x01", "yamux"),
        // Another's: version 1 or 2, open, no data.
        (b"\x01\0\0\0\x03\0\0\0", "smux"),
        (b"\x02\0\0\0\x03\0\0\0", "smux"),
    ];
    if let Some((_, name)) = starts.iter().find(|(start, _)| data.starts_with(start)) {
        return Some(name);
    }
    if is_rdp(data) {
        return Some("rdp");
    }
    let head = data.get(..MAX_HEADER).unwrap_or(data);
    (0..head.len()).find_map(|at| {
        let rest = data.get(at..)?;
        if rest.starts_with(b"SSH-2.0-") || rest.starts_with(b"SSH-1.99-") {
            Some("ssh")
        } else if is_client_hello(rest) {
            Some("tls")
        } else {
            None
        }
    })
}

/// An X.224 connection request in a TPKT (MS-RDPBCGR 2.2.1.1).
fn is_rdp(data: &[u8]) -> bool {
    matches!(data, [3, 0, 0, length, indicator, 0xe0, 0, 0, ..]
        if usize::from(*length) >= 11 && indicator.checked_add(5) == Some(*length))
}

/// A TLS record with the beginning of a client hello.
fn is_client_hello(data: &[u8]) -> bool {
    matches!(data, [22, 3, 0..=4, high, _, 1, 0, _, _, 3, 0..=4, ..] if *high <= 0x40)
}

/// What a text means that is base64 from its beginning, as far as it goes.
fn decoded(data: &[u8]) -> Option<Vec<u8>> {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let len = data
        .iter()
        .take_while(|byte| base64(byte))
        .count()
        .min(MAX_ENCODED);
    let text = data.get(..len.checked_sub(len % 4)?)?;
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    (text.len() >= 8)
        .then(|| engine.decode(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_at_the_beginning_behind_a_header_and_in_base64() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rest";
        let behind = [&[0; 26][..], hello].concat();
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"RFB 003.008\n", Some("rfb")),
            (
                b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
                Some("rdp"),
            ),
            (b"\0\x01\0\x01\0\0\0\x01\0\0\0\0", Some("yamux")),
            (&behind, Some("tls")),
            (b"\x05hdr:SSH-2.0-x\r\n", Some("ssh")),
            (b"U1NILTIuMC1PcGVuU1NIXzkuNg0K", Some("ssh")),
            (b"U1NILTIuMC1PcGVuU1NIXzkuNg0K=", Some("ssh")),
            (b"aGVsbG8gdGhlcmU", None),
            (b"{\"hello\":1}", None),
        ];
        for (data, mark) in cases {
            assert_eq!(find(data), mark, "{data:?}");
        }
    }
}
