//! Passing over a chunked body (RFC 9112 7.1) without keeping any of it.

/// What became of the bytes given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// All are used, and the body goes on.
    More,
    /// The body ended; what the rest is, is the next message's.
    End,
    /// This is no chunked body.
    Bad,
}

/// Where in a chunked body a direction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a chunk's size, after so many digits.
    Size { digits: u8 },
    /// Between a chunk's size and the end of its line.
    Extension,
    /// In a chunk's data.
    Data,
    /// Between a chunk's data and the line end after it.
    DataEnd,
    /// In the trailer, in a line that has been blank so far or not.
    Trailer { blank: bool },
}

/// The state of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    place: Place,
    /// The chunk's size while that is read, then what is still to come of its data.
    left: u64,
}

/// The most digits of a chunk's size, zeros in front included.
const MAX_DIGITS: u8 = 16;

impl Chunked {
    /// Before a body's first byte.
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Size { digits: 0 },
            left: 0,
        }
    }

    /// Moves over `data`: the verdict, what is left of `data` after the body's end, and how much was passed over unread.
    /// `see` is shown the chunks' own bytes.
    pub(super) fn pass<'a>(
        &mut self,
        data: &'a [u8],
        mut see: impl FnMut(&'a [u8]),
    ) -> (Verdict, &'a [u8], u64) {
        let mut data = data;
        let mut unread = 0_u64;
        while let [byte, rest @ ..] = data {
            if self.place == Place::Data {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
                see(part);
                let part_len = part.len() as u64;
                unread = unread.saturating_add(part_len);
                self.advance(part_len);
                data = rest;
                continue;
            }
            data = rest;
            match self.step(*byte) {
                Verdict::More => {}
                other => return (other, data, unread),
            }
        }
        (Verdict::More, data, unread)
    }

    /// Moves over bytes that the capture lacks; says whether they lay inside one chunk's data.
    pub(super) fn skip_gap(&mut self, gap: u64) -> bool {
        let inside = self.place == Place::Data && gap <= self.left;
        if inside {
            self.advance(gap);
        }
        inside
    }

    fn advance(&mut self, len: u64) {
        self.left = self.left.saturating_sub(len);
        if self.left == 0 {
            self.place = Place::DataEnd;
        }
    }

    /// Takes one byte outside chunk data.
    fn step(&mut self, byte: u8) -> Verdict {
        self.place = match (self.place, byte) {
            (Place::Size { digits: 0 }, _) if !byte.is_ascii_hexdigit() => return Verdict::Bad,
            (Place::Size { .. } | Place::Extension, b'\n') if self.left == 0 => {
                Place::Trailer { blank: true }
            }
            (Place::Size { .. } | Place::Extension, b'\n') => Place::Data,
            (Place::Size { digits }, _) => match char::from(byte).to_digit(16) {
                Some(_) if digits >= MAX_DIGITS => return Verdict::Bad,
                Some(digit) => {
                    self.left = self.left << 4 | u64::from(digit);
                    Place::Size {
                        digits: digits.saturating_add(1),
                    }
                }
                None if matches!(byte, b'\r' | b'\t' | b' ' | b';') => Place::Extension,
                None => return Verdict::Bad,
            },
            (Place::Extension, _) => Place::Extension,
            (Place::DataEnd, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => Place::Size { digits: 0 },
            (Place::Trailer { blank: true }, b'\n') => return Verdict::End,
            (Place::Trailer { .. }, b'\n') => Place::Trailer { blank: true },
            (Place::Trailer { blank }, _) => Place::Trailer {
                blank: blank && byte == b'\r',
            },
            (Place::Data | Place::DataEnd, _) => return Verdict::Bad,
        };
        Verdict::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes over `body` in pieces of `size`; gives the last verdict, what came after the body, and the unread bytes.
    fn pass(body: &[u8], size: usize) -> (Verdict, Vec<u8>, u64) {
        let mut state = Chunked::new();
        let mut unread = 0;
        for (index, piece) in body.chunks(size).enumerate() {
            let (verdict, rest, passed) = state.pass(piece, |_| ());
            unread += passed;
            if verdict != Verdict::More {
                let mut rest = rest.to_vec();
                rest.extend_from_slice(&body[body.len().min((index + 1) * size)..]);
                return (verdict, rest, unread);
            }
        }
        (Verdict::More, Vec::new(), unread)
    }

    #[test]
    fn bodies_end_where_they_end_in_any_pieces() {
        let cases: &[(&[u8], Verdict, &[u8], u64)] = &[
            // RFC 9112 7.1.3's shape, then the next message.
            (
                b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\nHTTP",
                Verdict::End,
                b"HTTP",
                9,
            ),
            // Extensions, upper-case digits, leading zeros, bare line feeds, a trailer.
            (
                b"00A;x=\"y\"\n0123456789\n0 \r\nDigest: a\r\nB: c\r\n\r\n",
                Verdict::End,
                b"",
                10,
            ),
            (b"0\r\n\r\n", Verdict::End, b"", 0),
            (b"10\r\nabc", Verdict::More, b"", 3),
            (b"\r\n", Verdict::Bad, b"\n", 0),
            (b"g\r\n", Verdict::Bad, b"\r\n", 0),
            (b"1\r\nab\r\n", Verdict::Bad, b"\r\n", 1),
            (b"-1\r\n", Verdict::Bad, b"1\r\n", 0),
            // Seventeen digits: more than 64 bits hold.
            (b"11111111111111111\r\n", Verdict::Bad, b"\r\n", 0),
        ];
        for (body, verdict, rest, unread) in cases {
            for size in [1, 2, 3, 7, 1000] {
                let expected = (*verdict, rest.to_vec(), *unread);
                assert_eq!(pass(body, size), expected, "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn a_gap_is_passed_inside_a_chunk_only() {
        let mut state = Chunked::new();
        assert!(!state.skip_gap(1));
        assert_eq!(state.pass(b"a\r\n012", |_| ()).0, Verdict::More);
        assert!(state.skip_gap(5));
        assert!(!state.skip_gap(3));
        assert!(state.skip_gap(2));
        assert_eq!(state.pass(b"\r\n0\r\n\r\n", |_| ()).0, Verdict::End);
    }
}
