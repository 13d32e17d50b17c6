//! The first bytes of what was compressed: never more than asked for, and as far as the compressed bytes go, for often
//! only their beginning is here.

use std::io::Read;

/// Base-2 logarithm of the largest window that zstd may ask for.
const ZSTD_WINDOW: u32 = 21;

/// RFC 1950.
pub(super) fn zlib(data: &[u8], limit: usize) -> Vec<u8> {
    read(flate2::bufread::ZlibDecoder::new(data), limit)
}

/// RFC 1951, without a wrapping.
pub(super) fn deflate(data: &[u8], limit: usize) -> Vec<u8> {
    read(flate2::bufread::DeflateDecoder::new(data), limit)
}

/// RFC 8878.
pub(super) fn zstd(data: &[u8], limit: usize) -> Vec<u8> {
    let decoder = zstd::stream::read::Decoder::with_buffer(data);
    let bounded = decoder.and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW)?;
        Ok(decoder)
    });
    bounded.map_or_else(|_| Vec::new(), |decoder| read(decoder, limit))
}

fn read(decoder: impl Read, limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // What came before the end, or before an error, is what there is.
    let _end = decoder.take(limit as u64).read_to_end(&mut out);
    out
}

/// Snappy's block format: a length, then literals and copies of what came before.
pub(super) fn snappy(data: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let prefix = data.iter().take_while(|byte| **byte & 0x80 != 0).count();
    let mut rest = data.get(prefix.saturating_add(1)..).unwrap_or_default();
    while out.len() < limit && snappy_element(&mut rest, &mut out, limit).is_some() {}
    out
}

fn snappy_element(rest: &mut &[u8], out: &mut Vec<u8>, limit: usize) -> Option<()> {
    let tag = *take(rest, 1)?.first()?;
    let short = usize::from(tag >> 2);
    match tag & 3 {
        0 => {
            let length = match short.checked_sub(60) {
                Some(more) => little(take(rest, more.saturating_add(1))?),
                None => short,
            };
            literal(rest, out, length.saturating_add(1), limit)
        }
        1 => {
            let low = usize::from(*take(rest, 1)?.first()?);
            let offset = usize::from(tag >> 5) << 8 | low;
            repeat(out, offset, (short & 7).saturating_add(4), limit)
        }
        kind => {
            let offset = little(take(rest, if kind == 2 { 2 } else { 4 })?);
            repeat(out, offset, short.saturating_add(1), limit)
        }
    }
}

/// LZ4's block format: literals and copies in turn.
pub(super) fn lz4(data: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while out.len() < limit && lz4_sequence(&mut rest, &mut out, limit).is_some() {}
    out
}

fn lz4_sequence(rest: &mut &[u8], out: &mut Vec<u8>, limit: usize) -> Option<()> {
    let token = usize::from(*take(rest, 1)?.first()?);
    let literals = lz4_length(rest, token >> 4)?;
    literal(rest, out, literals, limit)?;
    let offset = little(take(rest, 2)?);
    let length = lz4_length(rest, token & 15)?;
    repeat(out, offset, length.saturating_add(4), limit)
}

/// A length that fills its four bits goes on in bytes, until one isn't full.
fn lz4_length(rest: &mut &[u8], short: usize) -> Option<usize> {
    let mut length = short;
    let mut more = short == 15;
    while more {
        let byte = *take(rest, 1)?.first()?;
        length = length.saturating_add(byte.into());
        more = byte == u8::MAX;
    }
    Some(length)
}

/// Copies what is here of a literal; says whether all of it was.
fn literal(rest: &mut &[u8], out: &mut Vec<u8>, length: usize, limit: usize) -> Option<()> {
    let part = rest.get(..length).unwrap_or(rest);
    let room = limit.saturating_sub(out.len());
    out.extend_from_slice(part.get(..room).unwrap_or(part));
    take(rest, length).map(drop)
}

/// Copies what came before; the copy may reach into itself.
fn repeat(out: &mut Vec<u8>, offset: usize, length: usize, limit: usize) -> Option<()> {
    let room = limit.saturating_sub(out.len());
    for _ in 0..length.min(room) {
        let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
        out.push(*out.get(from)?);
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(part)
}

/// A number, its lowest byte first.
fn little(bytes: &[u8]) -> usize {
    let number = bytes
        .iter()
        .rev()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"abcdefgh abcdefgh abcdefgh xyz";

    fn zlibbed(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    /// `abcdefgh `, a copy of 18 bytes from 9 before, `xyz`.
    const SNAPPY: &[u8] = b"\x1e\x20abcdefgh \x46\x09\x00\x08xyz";
    const LZ4: &[u8] = b"\x9eabcdefgh \x09\x00\x30xyz";

    #[test]
    fn all_of_it_or_its_beginning() {
        type Unpack = fn(&[u8], usize) -> Vec<u8>;
        let zstandard = zstd::stream::encode_all(TEXT, 3).unwrap();
        let cases: [(Unpack, &[u8]); 4] = [
            (zlib, &zlibbed(TEXT)),
            (zstd, &zstandard),
            (snappy, SNAPPY),
            (lz4, LZ4),
        ];
        for (unpack, packed) in cases {
            assert_eq!(unpack(packed, 100), TEXT);
            assert_eq!(unpack(packed, 12), &TEXT[..12]);
            for end in 0..packed.len() {
                assert!(TEXT.starts_with(&unpack(&packed[..end], 100)));
            }
        }
        // Long literals and lengths; copies that make more of themselves.
        let long = [&b"\x80\x02\xf0\x63"[..], &[7; 100], b"\xfe\x01\x00"].concat();
        assert_eq!(snappy(&long, 200), [7; 164]);
        let long = [&b"\xff\x55"[..], &[7; 100], b"\x01\x00\xff\x00"].concat();
        assert_eq!(lz4(&long, 1000), [7; 100 + 15 + 255 + 4]);
    }

    #[test]
    fn a_bomb_is_cut() {
        let bomb = zlibbed(&vec![0; 10_000_000]);
        assert_eq!(zlib(&bomb, 8192).len(), 8192);
        let bomb = zstd::stream::encode_all(&vec![0; 10_000_000][..], 3).unwrap();
        assert_eq!(zstd(&bomb, 8192).len(), 8192);
        assert_eq!(
            lz4(&[&b"\x1fa\x01\x00"[..], &[255; 1000]].concat(), 8192).len(),
            1
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for unpack in [zlib, zstd, snappy, lz4] {
                prop_assert!(unpack(&data, 500).len() <= 500);
            }
        }
    }
}
