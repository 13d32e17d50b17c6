//! Hellos in the framing of SSL 2.0: a client's, that asks for a later version (RFC 5246 E.2) or for SSL 2.0 itself, and the
//! server's answer to the latter.
//!
//! What is told stands in the first bytes, however they were cut. No client may greet so any more (RFC 6176, of 2011), and no
//! library in use does: one that does is older, or brought along.

use crate::dissect::{Probe, TlsClientHello, TlsServerHello};
use crate::flow::Direction;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 4;
/// The two bytes before what the length counts.
const LENGTH: usize = 2;
/// Length, kind, version, and the lengths of what follows.
const CLIENT_FIXED: usize = 11;
/// The same, with whether a session goes on, and the kind of the certificate, before the version.
const SERVER_FIXED: usize = 13;
/// The longer of the two.
pub(super) const MOST_FIXED: usize = SERVER_FIXED;
/// Bytes of a suite of ciphers.
const SUITE: usize = 3;
/// The longest hello of a client: libraries had some dozens of suites.
const MOST: usize = 1024;
/// SSL 2.0 as a version on the wire.
const SSL_2: u16 = 0x0002;

/// What a side's first bytes are.
pub(super) enum Begin {
    /// A hello, and so many bytes of it still to come.
    Hello(Hello, u16),
    /// It may become one.
    Maybe,
    /// Something else.
    Other,
}

/// Who says it.
pub(super) enum Hello {
    Client(TlsClientHello),
    Server(TlsServerHello),
}

/// Whether a side's first byte is that of such a hello; no record of TLS begins so.
pub(super) const fn may_begin(byte: u8) -> bool {
    byte >= 0x80
}

/// How sure the first bytes of a side make it.
pub(super) fn probe(by: Direction, data: &[u8]) -> Probe {
    match begin(by, data) {
        Begin::Hello(..) => Probe::Certain,
        Begin::Maybe => Probe::Unsure,
        Begin::Other => Probe::NotForUs,
    }
}

/// Looks whether the first bytes of a side are such a hello.
pub(super) fn begin(by: Direction, data: &[u8]) -> Begin {
    match by {
        Direction::Orig => client(data),
        Direction::Resp => server(data),
    }
}

fn client(data: &[u8]) -> Begin {
    let Some(&[_, _, kind, major, minor, ..]) = data.first_chunk::<CLIENT_FIXED>() else {
        return beginning(
            data,
            &[
                (2, |kind| kind == CLIENT_HELLO),
                (3, |major| matches!(major, 0 | 3)),
            ],
        );
    };
    let version = u16::from_be_bytes([major, minor]);
    let (suites, session, challenge) = (be16(data, 5), be16(data, 7), be16(data, 9));
    let fits = kind == CLIENT_HELLO
        && matches!(version, SSL_2 | 0x0300..=0x0303)
        && suites > 0
        && suites.is_multiple_of(SUITE)
        && matches!(session, 0 | 16)
        && (16..=32).contains(&challenge);
    let hello = TlsClientHello {
        version,
        ssl2: true,
        ..TlsClientHello::default()
    };
    let left = rest(data, CLIENT_FIXED, [suites, session, challenge]);
    match left.filter(|left| fits && *left <= MOST) {
        Some(left) => Begin::Hello(Hello::Client(hello), left as u16),
        None => Begin::Other,
    }
}

fn server(data: &[u8]) -> Begin {
    let Some(&[_, _, kind, hit, _, major, minor, ..]) = data.first_chunk::<SERVER_FIXED>() else {
        return beginning(
            data,
            &[
                (2, |kind| kind == SERVER_HELLO),
                (3, |hit| hit <= 1),
                (5, |major| major == 0),
            ],
        );
    };
    let version = u16::from_be_bytes([major, minor]);
    let (certificate, suites, connection) = (be16(data, 7), be16(data, 9), be16(data, 11));
    // Where a session goes on, neither certificate nor suites are sent again.
    let fits = kind == SERVER_HELLO
        && hit <= 1
        && version == SSL_2
        && (hit == 1) == (certificate == 0)
        && (hit == 1) == (suites == 0)
        && suites.is_multiple_of(SUITE)
        && (16..=32).contains(&connection);
    // The client chooses among the suites.
    let hello = TlsServerHello {
        version,
        ..TlsServerHello::default()
    };
    match rest(data, SERVER_FIXED, [certificate, suites, connection]).filter(|_| fits) {
        Some(left) => Begin::Hello(Hello::Server(hello), left as u16),
        None => Begin::Other,
    }
}

/// What the byte at a place must be.
type Check = (usize, fn(u8) -> bool);

/// What can be said while the fixed part isn't whole.
fn beginning(data: &[u8], checks: &[Check]) -> Begin {
    let length = data.first().is_none_or(|byte| may_begin(*byte));
    let fits = |(at, check): &Check| data.get(*at).is_none_or(|byte| check(*byte));
    if length && checks.iter().all(fits) {
        Begin::Maybe
    } else {
        Begin::Other
    }
}

/// How many bytes come after the fixed part, if the length of the whole agrees with those of its parts.
fn rest(data: &[u8], fixed: usize, parts: [usize; 3]) -> Option<usize> {
    let length = be16(data, 0).checked_sub(0x8000)?;
    let left = parts
        .iter()
        .fold(0, |sum: usize, part| sum.saturating_add(*part));
    let counted = fixed.saturating_sub(LENGTH).saturating_add(left);
    (counted == length).then_some(left)
}

fn be16(data: &[u8], at: usize) -> usize {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::testing::probed;

    use Direction::{Orig, Resp};

    /// What a library of 2009 sends: 29 suites, a challenge of 32 bytes.
    fn sample() -> Vec<u8> {
        let mut data = vec![0x80, 128, 1, 3, 1, 0, 87, 0, 0, 0, 32];
        data.extend([0, 0, 0x39].repeat(29));
        data.extend([0x55; 32]);
        data
    }

    /// A certificate of 900 bytes, six suites.
    fn answer() -> Vec<u8> {
        let mut data = vec![0x83, 0xb1, 4, 0, 1, 0, 2, 3, 0x84, 0, 18, 0, 16];
        data.extend([0x30; 900 + 18 + 16]);
        data
    }

    #[test]
    fn a_hello_is_known_by_its_fixed_part() {
        for (by, data, fixed) in [(Orig, sample(), 11), (Resp, answer(), 13)] {
            for cut in 0..data.len() {
                let sure = matches!(begin(by, &data[..cut]), Begin::Hello(_, left)
                    if usize::from(left) + fixed == data.len());
                let waits = matches!(begin(by, &data[..cut]), Begin::Maybe);
                assert_eq!((sure, waits), (cut >= fixed, cut < fixed), "{by:?} {cut}");
            }
        }
        let Begin::Hello(Hello::Client(hello), _) = begin(Orig, &sample()) else {
            panic!("not known");
        };
        assert_eq!((hello.version, hello.ssl2), (0x0301, true));
    }

    #[test]
    fn anything_else_is_not_one() {
        for at in 0..11 {
            let mut data = sample();
            data[at] ^= 0x81;
            assert_eq!(
                probed(|s| probe(Orig, s.data), Orig, &data),
                Probe::NotForUs,
                "{at}"
            );
        }
        // Of the kind of a certificate there are several.
        for at in (0..13).filter(|at| *at != 4) {
            let mut data = answer();
            data[at] ^= 0x81;
            assert_eq!(
                probed(|s| probe(Resp, s.data), Resp, &data),
                Probe::NotForUs,
                "{at}"
            );
        }
        assert_eq!(probe(Orig, b"\x16\x03\x01"), Probe::NotForUs);
        assert_eq!(probe(Orig, &answer()), Probe::NotForUs);
        assert_eq!(probe(Resp, &sample()), Probe::NotForUs);
    }
}
