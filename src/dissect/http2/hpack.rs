//! HPACK (RFC 7541): one direction's header blocks to fields. Bounded, and never wrong by a byte: whoever loses the state
//! of the compression is told so, once and for all.
//!
//! Values are kept for the few fields that are wanted. Of all others the table keeps the size alone, which is what the
//! eviction goes by; no cookie or key stays in memory.

use std::collections::VecDeque;

/// Fields that somebody wants to know, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Method,
    Authority,
    Path,
    Status,
    Protocol,
    UserAgent,
    ContentType,
    ContentLength,
    Server,
    /// Only the scheme of its value is ever seen.
    Authorization,
    /// A proxy says on whose behalf it asks; to whom is not kept.
    Forwarded,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            b"user-agent" => Self::UserAgent,
            b"content-type" => Self::ContentType,
            b"content-length" => Self::ContentLength,
            b"server" => Self::Server,
            b"authorization" => Self::Authorization,
            b"x-forwarded-for" | b"forwarded" | b"via" | b"x-real-ip" => Self::Forwarded,
            _ => Self::Other,
        }
    }

    /// What of a value is kept.
    fn part(self, value: &[u8]) -> &[u8] {
        let whole = value.get(..MAX_VALUE).unwrap_or(value);
        match self {
            Self::Forwarded | Self::Other => &[],
            Self::Authorization => whole.split(|byte| *byte == b' ').next().unwrap_or_default(),
            _ => whole,
        }
    }
}

/// Bytes kept of a value.
const MAX_VALUE: usize = 1024;
/// The size of a table until its user changes it (RFC 9113 6.5.2), by HPACK's measure.
const DEFAULT_TABLE: usize = 4096;
/// The largest that is followed: what common servers allow at most.
const MAX_TABLE: usize = 64 * 1024;
/// What HPACK adds to the length of each entry (RFC 7541 4.1). The same bound is ours, for an entry here is smaller.
const ENTRY: usize = 32;

/// The static table (RFC 7541 appendix A): names that are wanted, and the values that go with them.
fn fixed(index: usize) -> Option<(Name, &'static [u8], usize)> {
    let (name, value): (Name, &[u8]) = match index {
        1 => (Name::Authority, b""),
        2 => (Name::Method, b"GET"),
        3 => (Name::Method, b"POST"),
        4 => (Name::Path, b"/"),
        5 => (Name::Path, b"/index.html"),
        8 => (Name::Status, b"200"),
        9 => (Name::Status, b"204"),
        10 => (Name::Status, b"206"),
        11 => (Name::Status, b"304"),
        12 => (Name::Status, b"400"),
        13 => (Name::Status, b"404"),
        14 => (Name::Status, b"500"),
        23 => (Name::Authorization, b""),
        28 => (Name::ContentLength, b""),
        31 => (Name::ContentType, b""),
        54 => (Name::Server, b""),
        58 => (Name::UserAgent, b""),
        60 => (Name::Forwarded, b""),
        0 => return None,
        other if other > STATIC => return None,
        _ => (Name::Other, b""),
    };
    Some((name, value, usize::from(*LENGTHS.get(index)?)))
}

/// Lengths of the static table's names, by index.
const LENGTHS: [u8; 62] = [
    0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16,
    14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6,
    10, 25, 17, 10, 4, 3, 16,
];
const STATIC: usize = 61;

#[derive(Debug)]
struct Entry {
    name: Name,
    name_len: usize,
    value: Box<[u8]>,
    size: usize,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The latest first.
    table: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: DEFAULT_TABLE,
        }
    }
}

impl Decoder {
    /// Reads a whole block. None if it makes no sense; then the state is lost, and no later block can be read.
    pub(super) fn block(
        &mut self,
        mut data: &[u8],
        mut field: impl FnMut(Name, &[u8]),
    ) -> Option<()> {
        let (mut name_text, mut value_text) = (Text::default(), Text::default());
        while let Some(&first) = data.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut data, 7)?;
                if let Some((name, value, _)) = fixed(index) {
                    field(name, value);
                } else {
                    let entry = self.table.get(index.checked_sub(STATIC)?.checked_sub(1)?)?;
                    field(entry.name, &entry.value);
                }
                continue;
            }
            if first & 0xe0 == 0x20 {
                self.limit = integer(&mut data, 5).filter(|limit| *limit <= MAX_TABLE)?;
                self.evict();
                continue;
            }
            let indexed = first & 0x40 != 0;
            let index = integer(&mut data, if indexed { 6 } else { 4 })?;
            let (name, name_len) = if index == 0 {
                let length = name_text.read(&mut data)?;
                (Name::of(&name_text.bytes), length)
            } else if let Some((name, _, length)) = fixed(index) {
                (name, length)
            } else {
                let entry = self.table.get(index.checked_sub(STATIC)?.checked_sub(1)?)?;
                (entry.name, entry.name_len)
            };
            let value_len = value_text.read(&mut data)?;
            let value = name.part(&value_text.bytes);
            field(name, value);
            if indexed {
                let size = name_len.saturating_add(value_len).saturating_add(ENTRY);
                self.size = self.size.saturating_add(size);
                self.table.push_front(Entry {
                    name,
                    name_len,
                    value: value.into(),
                    size,
                });
                self.evict();
            }
        }
        Some(())
    }

    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(oldest) = self.table.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.size);
        }
    }
}

/// An integer whose first byte lends it `bits` bits (RFC 7541 5.1).
fn integer(data: &mut &[u8], bits: u32) -> Option<usize> {
    let (&first, mut rest) = data.split_first()?;
    let mask = 0xff_u8.checked_shr(8_u32.checked_sub(bits)?)?;
    let mut value = u32::from(first & mask);
    if first & mask == mask {
        let mut shift = 0_u32;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            let part = u32::from(byte & 0x7f).checked_mul(1_u32.checked_shl(shift)?)?;
            value = value.checked_add(part)?;
            if byte & 0x80 == 0 {
                break;
            }
            // Nothing that long is in a block.
            shift = shift.checked_add(7).filter(|shift| *shift <= 21)?;
        }
    }
    *data = rest;
    usize::try_from(value).ok()
}

/// A string's first bytes; no more than anybody wants.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
}

impl Text {
    /// Reads the next string (RFC 7541 5.2) and gives the length of all of it.
    fn read(&mut self, data: &mut &[u8]) -> Option<usize> {
        let packed = data.first()? & 0x80 != 0;
        let length = integer(data, 7)?;
        let (text, rest) = data.split_at_checked(length)?;
        *data = rest;
        self.bytes.clear();
        if packed {
            return self.unpack(text);
        }
        self.bytes
            .extend_from_slice(text.get(..MAX_VALUE).unwrap_or(text));
        Some(length)
    }

    /// RFC 7541 appendix B. The code is canonical: its words of one length are consecutive numbers.
    fn unpack(&mut self, packed: &[u8]) -> Option<usize> {
        let (mut word, mut bits, mut length) = (0_u32, 0_usize, 0_usize);
        for byte in packed {
            for place in (0..8).rev() {
                word = word.wrapping_shl(1) | u32::from(byte.wrapping_shr(place) & 1);
                bits = bits.saturating_add(1);
                let &(first, count, at) = CODE.ranks.get(bits)?;
                let rank = word.checked_sub(first).filter(|rank| *rank < count);
                if let Some(rank) = rank {
                    let symbol = *CODE.symbols.get(at.saturating_add(rank as usize))?;
                    if self.bytes.len() < MAX_VALUE {
                        self.bytes.push(symbol);
                    }
                    length = length.saturating_add(1);
                    (word, bits) = (0, 0);
                }
            }
        }
        // The rest of the last byte is filled with ones, the beginning of the word that ends a string and never occurs.
        let ones = 1_u32.wrapping_shl(bits as u32).wrapping_sub(1);
        (bits < 8 && word == ones).then_some(length)
    }
}

/// The code, sorted by the length of its words, then by symbol.
struct Code {
    /// For each length: the first word, how many there are, and where their symbols begin.
    ranks: [(u32, u32, usize); LONGEST + 1],
    symbols: [u8; 256],
}

const LONGEST: usize = 30;

static CODE: Code = Code::new();

impl Code {
    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "runs at compile time"
    )]
    const fn new() -> Self {
        let mut code = Self {
            ranks: [(0, 0, 0); LONGEST + 1],
            symbols: [0; 256],
        };
        let (mut word, mut at, mut bits) = (0_u32, 0_usize, 1_usize);
        while bits <= LONGEST {
            word <<= 1;
            code.ranks[bits] = (word, 0, at);
            let mut symbol = 0;
            while symbol < BITS.len() {
                if BITS[symbol] as usize == bits {
                    code.symbols[at] = symbol as u8;
                    code.ranks[bits].1 += 1;
                    at += 1;
                    word += 1;
                }
                symbol += 1;
            }
            bits += 1;
        }
        code
    }
}

/// The length of each byte's word, in bits.
const BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    fn fields(decoder: &mut Decoder, block: &str) -> Option<Vec<(Name, String)>> {
        let mut out = Vec::new();
        decoder.block(&hex(block), |name, value| {
            if name != Name::Other {
                out.push((name, String::from_utf8(value.to_vec()).unwrap()));
            }
        })?;
        Some(out)
    }

    /// RFC 7541 C.4: requests with Huffman coding, that build on one another.
    #[test]
    fn the_standards_requests() {
        let mut decoder = Decoder::default();
        let host = (Name::Authority, "www.example.com".to_owned());
        for (block, path, size) in [
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", "/", 57),
            ("828684be5886a8eb10649cbf", "/", 110),
            (
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                "/index.html",
                164,
            ),
        ] {
            let expected = [
                (Name::Method, "GET".to_owned()),
                (Name::Path, path.to_owned()),
                host.clone(),
            ];
            assert_eq!(fields(&mut decoder, block).unwrap(), expected);
            assert_eq!(decoder.size, size);
        }
    }

    /// RFC 7541 C.6: responses, in a table of 256 bytes.
    #[test]
    fn the_standards_responses_with_eviction() {
        let mut decoder = Decoder {
            limit: 256,
            ..Decoder::default()
        };
        for (block, status, size) in [
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                "302",
                222,
            ),
            ("4883640effc1c0bf", "307", 222),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "200",
                215,
            ),
        ] {
            assert_eq!(
                fields(&mut decoder, block).unwrap(),
                [(Name::Status, status.to_owned())]
            );
            assert_eq!(decoder.size, size, "{status}");
        }
    }

    /// C.2.3 and its like: what is secret doesn't stay.
    #[test]
    fn of_credentials_the_scheme_alone_is_seen() {
        let mut decoder = Decoder::default();
        let mut block = vec![0x57, 13];
        block.extend(b"Bearer s3cret");
        block.push(0xbe);
        let mut seen = Vec::new();
        decoder
            .block(&block, |name, value| seen.push((name, value.to_vec())))
            .unwrap();
        let expected = (Name::Authorization, b"Bearer".to_vec());
        assert_eq!(seen, [expected.clone(), expected]);
        assert!(!format!("{decoder:?}").contains("s3cret"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for block in [
            "80",             // index 0
            "be",             // beyond the table
            "3fe1ffffff7f",   // a table of a gigabyte
            "ffffffffffff",   // an endless number
            "4285",           // a value that isn't there
            "0081",           // nor a name
            "42 84 ffffffff", // the word that ends a string
            "42 81 00",       // padding of zeros
        ] {
            assert_eq!(fields(&mut Decoder::default(), block), None, "{block}");
        }
        assert_eq!(fields(&mut Decoder::default(), "").unwrap(), []);
    }

    #[test]
    fn the_code_is_whole() {
        assert_eq!(CODE.ranks[5], (0, 10, 0));
        let words: u32 = CODE.ranks.iter().map(|(_, count, _)| count).sum();
        assert_eq!(words, 256);
        assert_eq!(usize::from(LENGTHS[STATIC]), "www-authenticate".len());
    }

    proptest! {
        /// The table never holds more than it may, whatever comes.
        #[test]
        fn the_table_is_bounded(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _whole = decoder.block(&block, |_, value| assert!(value.len() <= MAX_VALUE));
                prop_assert!(decoder.size <= decoder.limit);
                prop_assert_eq!(decoder.size, decoder.table.iter().map(|entry| entry.size).sum::<usize>());
                prop_assert!(decoder.table.len() <= MAX_TABLE / ENTRY);
            }
        }
    }
}
