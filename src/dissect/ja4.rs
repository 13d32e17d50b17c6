//! The JA4 fingerprint of a TLS client, as FoxIO defines it (<https://github.com/FoxIO-LLC/ja4>, `technical_details/JA4.md`).
//!
//! JA4 itself is under the BSD 3-Clause licence, copyright 2023 FoxIO. The other methods of that family are not, and
//! have no place here. Knows nothing of how a hello is framed.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// What stands for a list with nothing in it.
const EMPTY: &str = "000000000000";
const SERVER_NAME: u16 = 0x0000;
const ALPN: u16 = 0x0010;

/// The parts of a client hello that JA4 looks at, in wire order, GREASE included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ja4<'a> {
    /// Highest version offered.
    pub(super) version: u16,
    /// Cipher suites.
    pub(super) ciphers: &'a [u16],
    /// Types of the extensions.
    pub(super) extensions: &'a [u16],
    /// Signature algorithms.
    pub(super) signature_algorithms: &'a [u16],
    /// The first protocol offered by ALPN.
    pub(super) first_alpn: Option<&'a [u8]>,
}

impl Ja4<'_> {
    /// The fingerprint of a hello sent over TCP.
    pub(super) fn fingerprint(&self) -> Arc<str> {
        let ciphers = sorted(self.ciphers);
        let mut extensions = sorted(self.extensions);
        let extension_count = extensions.len().min(99);
        let names_server = extensions.contains(&SERVER_NAME);
        // What the fingerprint's first part says already is left out of its last.
        extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));

        let algorithms = self.signature_algorithms.iter().copied();
        let cipher_hash = hash(ciphers.iter().copied(), std::iter::empty());
        let extension_hash = hash(
            extensions.into_iter(),
            algorithms.filter(|value| !is_grease(*value)),
        );
        let [first, last] = alpn_marks(self.first_alpn.unwrap_or_default());
        Arc::from(format!(
            "t{version}{to}{cipher_count:02}{extension_count:02}{first}{last}_{cipher_hash}_{extension_hash}",
            version = version_mark(self.version),
            to = if names_server { 'd' } else { 'i' },
            cipher_count = ciphers.len().min(99),
        ))
    }
}

/// Whether a value is one of those reserved to be ignored (RFC 8701): both bytes alike and ending in `a`.
pub(super) const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn sorted(values: &[u16]) -> Vec<u16> {
    let mut values: Vec<u16> = values
        .iter()
        .copied()
        .filter(|value| !is_grease(*value))
        .collect();
    values.sort_unstable();
    values
}

const fn version_mark(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of a protocol name; of its hex form, if one of the two isn't alphanumeric.
fn alpn_marks(name: &[u8]) -> [char; 2] {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else {
        return ['0', '0'];
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(first), char::from(last)];
    }
    [first >> 4, last].map(|half| char::from(hex_digit(half)))
}

/// The first 12 hex digits of the hash of `list`, then of `_` and `tail` if that has anything.
fn hash(list: impl ExactSizeIterator<Item = u16>, tail: impl Iterator<Item = u16>) -> String {
    // Put together first: a hasher fed in morsels spends more on them than on the hash.
    let mut text = Vec::with_capacity(list.len().saturating_mul(5).saturating_add(128));
    for value in list {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend(hex(value));
    }
    let mut separator = b'_';
    for value in tail {
        text.push(separator);
        text.extend(hex(value));
        separator = b',';
    }
    if text.is_empty() {
        return EMPTY.to_owned();
    }
    let digest = Sha256::digest(&text);
    let digits = digest
        .iter()
        .flat_map(|byte| [hex_digit(byte >> 4), hex_digit(*byte)]);
    digits.take(EMPTY.len()).map(char::from).collect()
}

fn hex(value: u16) -> [u8; 4] {
    [12, 8, 4, 0].map(|shift| hex_digit((value >> shift) as u8))
}

/// The digit for the low half of a byte.
const fn hex_digit(byte: u8) -> u8 {
    match byte & 0x0f {
        low @ 0..=9 => b'0'.saturating_add(low),
        high => b'a'.saturating_add(high.saturating_sub(10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chrome's suites in the order it sends them, GREASE first (the definition's example).
    const CHROME_CIPHERS: [u16; 16] = [
        0x4a4a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    const CHROME_EXTENSIONS: [u16; 18] = [
        0x1a1a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
        0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0xfafa,
    ];
    const CHROME_ALGORITHMS: [u16; 8] = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
    ];

    const CHROME: Ja4<'static> = Ja4 {
        version: 0x0304,
        ciphers: &CHROME_CIPHERS,
        extensions: &CHROME_EXTENSIONS,
        signature_algorithms: &CHROME_ALGORITHMS,
        first_alpn: Some(b"h2"),
    };

    #[test]
    fn published_example() {
        assert_eq!(
            &*CHROME.fingerprint(),
            "t13d1516h2_8daaf6152771_e5627efa2ab1"
        );
    }

    #[test]
    fn without_signature_algorithms_the_hashed_text_ends_with_the_extensions() {
        let hello = Ja4 {
            signature_algorithms: &[],
            ..CHROME
        };
        assert_eq!(
            &*hello.fingerprint(),
            "t13d1516h2_8daaf6152771_6d807ffa2a79"
        );
    }

    #[test]
    fn grease_is_ignored_everywhere() {
        let mut algorithms = CHROME_ALGORITHMS.to_vec();
        algorithms.insert(0, 0xdada);
        let hello = Ja4 {
            signature_algorithms: &algorithms,
            ..CHROME
        };
        assert_eq!(hello.fingerprint(), CHROME.fingerprint());
        // Alike in the low nibbles only: an ordinary value.
        assert!(is_grease(0x0a0a) && is_grease(0xfafa) && !is_grease(0x0a1a) && !is_grease(0x1301));
    }

    #[test]
    fn old_windows_client_without_alpn() {
        // The second hello of FoxIO's latest.pcapng, as its published raw fingerprint spells it out.
        let hello = Ja4 {
            version: 0x0303,
            ciphers: &[
                0xc02c, 0xc02b, 0xc030, 0xc02f, 0xc024, 0xc023, 0xc028, 0xc027, 0xc00a, 0xc009,
                0xc014, 0xc013, 0x009d, 0x009c, 0x003d, 0x003c, 0x0035, 0x002f, 0x000a,
            ],
            extensions: &[
                0x0000, 0x0005, 0x000a, 0x000b, 0x000d, 0x0023, 0x0017, 0xff01,
            ],
            signature_algorithms: &[
                0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0201, 0x0403, 0x0503, 0x0203, 0x0202,
                0x0601, 0x0603,
            ],
            first_alpn: None,
        };
        assert_eq!(
            &*hello.fingerprint(),
            "t12d190800_d83cc789557e_7af1ed941c26"
        );
    }

    #[test]
    fn empty_lists_and_odd_counts() {
        let bare = Ja4 {
            version: 0x7f1c,
            ciphers: &[0x0a0a],
            extensions: &[],
            signature_algorithms: &[],
            first_alpn: None,
        };
        assert_eq!(&*bare.fingerprint(), "t00i000000_000000000000_000000000000");
        let many: Vec<u16> = (1..=120).collect();
        let crowded = Ja4 {
            version: 0x0300,
            ciphers: &many,
            extensions: &many,
            ..bare
        };
        assert!(crowded.fingerprint().starts_with("ts3i999900_"));
    }

    #[test]
    fn alpn_marks_as_the_definition_lists_them() {
        let cases: &[(&[u8], [char; 2])] = &[
            (b"", ['0', '0']),
            (b"h2", ['h', '2']),
            (b"http/1.1", ['h', '1']),
            (b"x", ['x', 'x']),
            (&[0xab], ['a', 'b']),
            (&[0xab, 0xcd], ['a', 'd']),
            (&[0x30, 0xab], ['3', 'b']),
            (&[0x30, 0x31, 0xab, 0xcd], ['3', 'd']),
            (&[0x30, 0xab, 0xcd, 0x31], ['0', '1']),
        ];
        for (name, marks) in cases {
            assert_eq!(alpn_marks(name), *marks, "{name:02x?}");
        }
    }
}
