//! A client's hello in the framing of SSL 2.0 that asks for a later version (RFC 5246 E.2).
//!
//! It is read where it comes whole in its first segment, as it does: it has a few hundred bytes at most. No client may send it any more (RFC 6176, of 2011), and no library in use does: one that does is older, or brought along.

use crate::dissect::TlsClientHello;

const CLIENT_HELLO: u8 = 1;
/// Length, kind, version, and the lengths of what follows.
const FIXED: usize = 11;
/// Bytes that the length counts before the lists.
const COUNTED: usize = FIXED - 2;
/// Bytes of a suite of ciphers.
const SUITE: usize = 3;
/// The longest hello: libraries had some dozens of suites.
const MOST: usize = 1024;

/// What the beginning of a stream is.
pub(super) enum Begin {
    /// Such a hello, of so many bytes.
    Hello(usize, TlsClientHello),
    /// It may become one.
    Maybe,
    /// Something else.
    Other,
}

/// Looks whether a client's first bytes are such a hello, whole.
pub(super) fn begin(data: &[u8]) -> Begin {
    let Some(&[high, low, kind, major, minor, ..]) = data.first_chunk::<FIXED>() else {
        let may_be = data.first().is_none_or(|byte| *byte >= 0x80)
            && data.get(2).is_none_or(|kind| *kind == CLIENT_HELLO)
            && data.get(3).is_none_or(|major| *major == 3);
        return if may_be { Begin::Maybe } else { Begin::Other };
    };
    let be = |at: usize| {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
    };
    let (suites, session, challenge) = (be(5), be(7), be(9));
    let len = usize::from(u16::from_be_bytes([high & 0x7f, low]));
    let sum = COUNTED
        .saturating_add(suites)
        .saturating_add(session)
        .saturating_add(challenge);
    let fits = high >= 0x80
        && kind == CLIENT_HELLO
        && matches!((major, minor), (3, 0..=3))
        && suites > 0
        && suites % SUITE == 0
        && matches!(session, 0 | 16)
        && (16..=32).contains(&challenge)
        && sum == len
        && len <= MOST;
    let whole = len.saturating_add(2);
    match (fits, data.len() >= whole) {
        (true, true) => Begin::Hello(
            whole,
            TlsClientHello {
                version: u16::from_be_bytes([major, minor]),
                ssl2: true,
                ..TlsClientHello::default()
            },
        ),
        (true, false) => Begin::Maybe,
        (false, _) => Begin::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a library of 2009 sends: 29 suites, a challenge of 32 bytes.
    fn sample() -> Vec<u8> {
        let mut data = vec![0x80, 128, 1, 3, 1, 0, 87, 0, 0, 0, 32];
        data.extend([0, 0, 0x39].repeat(29));
        data.extend([0x55; 32]);
        data
    }

    #[test]
    fn a_hello_is_read_whole_or_waited_for() {
        let mut data = sample();
        for cut in 0..data.len() {
            assert!(matches!(begin(&data[..cut]), Begin::Maybe), "{cut}");
        }
        data.push(0x16);
        let Begin::Hello(len, hello) = begin(&data) else {
            panic!("not known");
        };
        assert_eq!((len, hello.version, hello.ssl2), (130, 0x0301, true));
    }

    #[test]
    fn anything_else_is_not_one() {
        for at in 0..11 {
            let mut data = sample();
            data[at] ^= 0x81;
            assert!(matches!(begin(&data), Begin::Other), "{at}");
        }
        assert!(matches!(begin(b"\x16\x03\x01"), Begin::Other));
    }
}
