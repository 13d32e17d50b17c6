//! What a name hides: text or a file, spelled in hexadecimal, base32 or base64 (RFC 4648) in one of its labels.
//!
//! Names that say something by design (identifiers, digests, keys) decode to random bytes, words of a language to bytes
//! outside ASCII. What reads as text, or begins as files of a known kind do, was put there to be carried. Looks at labels
//! as they are on the wire: base64 tells capitals apart. Gives away kind and length alone.

use crate::dissect::Hidden;

/// Shorter labels are not looked at.
const FEWEST_CHARS: usize = 16;
/// Decoded bytes of a label at most: the longest label in base64.
const MOST_BYTES: usize = 48;
/// Text from so many bytes on: of sixteen random bytes one in five million reads so.
const FEWEST_TEXT: usize = 16;
/// Digits alone are numbers, though they are hexadecimal as well.
const FEWEST_LETTERS: usize = 2;

/// The first thing found in a name's labels but the last two, which are the domain's at least.
pub(super) fn hidden<'a>(mut labels: impl Iterator<Item = &'a [u8]>) -> Option<Hidden> {
    let mut waiting = [None, None];
    labels.find_map(|label| {
        let [ready, next] = waiting;
        waiting = [next, Some(label)];
        read(ready.filter(|label: &&[u8]| label.len() >= FEWEST_CHARS)?)
    })
}

fn read(label: &[u8]) -> Option<Hidden> {
    let mut bytes = [0; MOST_BYTES];
    [base16 as fn(u8) -> Option<u8>, base32, base64]
        .into_iter()
        .zip([4, 5, 6])
        .find_map(|(value, width)| {
            let decoded = decode(label, value, width, &mut bytes)?;
            kind_of_file(decoded)
                .map(|kind| Hidden::File { kind })
                .or_else(|| text(label, decoded))
        })
}

/// Decodes a label of digits that are worth `width` bits each; what is left over at the end is padding.
fn decode<'a>(
    label: &[u8],
    value: fn(u8) -> Option<u8>,
    width: u32,
    bytes: &'a mut [u8; MOST_BYTES],
) -> Option<&'a [u8]> {
    let (mut bits, mut held, mut len) = (0_u32, 0_u32, 0_usize);
    let padding = |byte: &u8| matches!(byte, b'=' | b'-');
    let end = label.iter().rposition(|byte| !padding(byte))?;
    for &byte in label.get(..=end)? {
        held = held << width | u32::from(value(byte)?);
        bits = bits.saturating_add(width);
        if bits >= 8 {
            bits = bits.saturating_sub(8);
            *bytes.get_mut(len)? = (held >> bits & 0xff) as u8;
            len = len.saturating_add(1);
        }
        // Fewer than eight bits are left.
        held &= 0xff;
    }
    bytes.get(..len)
}

const fn base16(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a' - 10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A' - 10)),
        _ => None,
    }
}

const fn base32(byte: u8) -> Option<u8> {
    match byte {
        b'a'..=b'z' => Some(byte.wrapping_sub(b'a')),
        b'A'..=b'Z' => Some(byte.wrapping_sub(b'A')),
        b'2'..=b'7' => Some(byte.wrapping_sub(b'2' - 26)),
        _ => None,
    }
}

/// The last two digits differ: `+` and `/` have meanings of their own in many places, and tools put others for them.
const fn base64(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(byte.wrapping_sub(b'a' - 26)),
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0').wrapping_add(52)),
        b'+' | b'-' | b'*' => Some(62),
        b'/' | b'_' | b',' | b'~' | b'!' => Some(63),
        _ => None,
    }
}

/// The kind of file that begins so, where its format fixes enough of its first bytes.
fn kind_of_file(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        // RFC 1952 2.3: deflate, flags, time, how hard it was tried, and where.
        [
            0x1f,
            0x8b,
            8,
            0..0x20,
            _,
            _,
            _,
            _,
            0 | 2 | 4,
            0..=13 | 255,
            ..,
        ] => "gzip",
        [b'P', b'K', 3, 4, 0..=63, 0, ..] => "zip",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => "7z",
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => "bzip2",
        [0x28, 0xb5, 0x2f, 0xfd, _, ..] => "zstd",
        [0x7f, b'E', b'L', b'F', 1 | 2, 1 | 2, 1, ..] => "ELF",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', ..] => "PNG",
        [0xff, 0xd8, 0xff, 0xe0 | 0xe1, _, _, b'J' | b'E', ..] => "JPEG",
        _ => return None,
    })
}

fn text(label: &[u8], decoded: &[u8]) -> Option<Hidden> {
    let readable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let letters = label.iter().filter(|byte| byte.is_ascii_alphabetic());
    let fits = decoded.len() >= FEWEST_TEXT
        && letters.count() >= FEWEST_LETTERS
        && decoded.iter().all(readable);
    let bytes = u8::try_from(decoded.len()).ok()?;
    fits.then_some(Hidden::Text { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::rng::Rng;

    fn find(name: &str) -> Option<Hidden> {
        hidden(name.split('.').map(str::as_bytes))
    }

    #[test]
    fn files_and_text_are_read_whatever_the_alphabet() {
        let gzip = Some(Hidden::File { kind: "gzip" });
        // `echo hi | gzip -n` in the three spellings; one as a tool has it that puts other signs for those of base64.
        assert_eq!(
            find("1f8b0800000000000003cbc8e402007a7a6fed03000000.x.example.com"),
            gzip
        );
        assert_eq!(
            find("d6fqqaaaaaaaaaadzpeoiaqapj5g73idaaaaa.x.example.com"),
            gzip
        );
        assert_eq!(
            find("3.H4sIAAAAAAAAA8vI5AIAenpv7QMAAAA=.x.example.com"),
            gzip
        );
        assert_eq!(find("H4sICN03*2QAA3Rlc3QudHh0AAvJyCxW-.test.txt"), gzip);
        // root:x:0:0:root:/root
        let text = Some(Hidden::Text { bytes: 21 });
        assert_eq!(
            find("726f6f743a783a303a303a726f6f743a2f726f6f74.example.com"),
            text
        );
        assert_eq!(find("OJXW65B2PA5DAORQHJZG633UHIXXE33POQ.example.com"), text);
        assert_eq!(find("cm9vdDp4OjA6MDpyb290Oi9yb290.a.example.com"), text);
        assert_eq!(
            find("cm9vdDp4OjA6MDpyb290Oi9yb290"),
            None,
            "a domain hides nothing"
        );
    }

    #[test]
    fn identifiers_digests_and_words_hide_nothing() {
        let mut rng = Rng::new(1);
        for name in [
            "31323334353637383930313233343536373839.example.com",
            "ec2-198-51-100-7.eu-central-1.compute.amazonaws.com",
            "production-static-content-delivery-network.example.com",
            "verylonghostnamewithoutanyhyphensinside.example.com",
            "_acme-challenge.www.example.com",
            "xn--vermgensberatung-vwb.example.com",
            "00000000000000000000000000000000.example.com",
        ] {
            assert_eq!(find(name), None, "{name}");
        }
        let mut draw = |alphabet: &[u8], len: usize| -> String {
            (0..len).map(|_| char::from(rng.pick(alphabet))).collect()
        };
        for _ in 0..100_000 {
            for (alphabet, len) in [
                (&b"0123456789abcdef"[..], 32),
                (b"abcdefghijklmnopqrstuvwxyz234567", 52),
                (
                    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
                    43,
                ),
            ] {
                let name = format!("{}.example.com", draw(alphabet, len));
                assert_eq!(find(&name), None, "{name}");
            }
        }
    }
}
