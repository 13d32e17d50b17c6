//! The pcap format (draft-ietf-opsawg-pcap): a file header, then records of one link type. Microsecond and nanosecond
//! stamps in either byte order, and the "modified" format with its longer record header. Knows no file names.
//!
//! pcap-parser reads headers and records; this adds what it leaves to its caller: bounds, and what an incomplete record
//! means.

use pcap_parser::nom::IResult;
use pcap_parser::{
    LegacyPcapBlock, PcapError, PcapHeader, parse_pcap_frame, parse_pcap_frame_be,
    parse_pcap_frame_modified, parse_pcap_header,
};

use super::LinkType;
use super::input::Input;
use super::record::{Fault, MAX_RECORD, Record};
use crate::time::Timestamp;

const FILE_HEADER: usize = 24;
const NANOS_PER_SEC: i64 = 1_000_000_000;

type Parse = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// How the records of one pcap file are read.
pub(super) struct Classic {
    parse: Parse,
    big_endian: bool,
    /// Bytes of header before each record's data.
    header: usize,
    /// Nanoseconds in one unit of a stamp's fraction.
    fraction: i64,
    link: LinkType,
}

/// What a file header says.
pub(super) enum Opened {
    Reader(Classic),
    /// Every record is of this link type, which is not supported.
    LinkType(u32),
    /// The magic number is none of pcap's.
    NotPcap,
}

impl Classic {
    /// Reads the file header.
    pub(super) fn open(input: &mut Input) -> Result<Opened, Fault> {
        let known = input
            .bytes()
            .first_chunk()
            .is_some_and(|&magic: &[u8; 4]| Self::is_magic(magic));
        if !known {
            return Ok(Opened::NotPcap);
        }
        if !input.fill(FILE_HEADER) {
            return Err(input.cut(0, "the file header", FILE_HEADER));
        }
        let Ok((_, header)) = parse_pcap_header(input.bytes()) else {
            return Ok(Opened::NotPcap);
        };
        input.consume(FILE_HEADER);
        // The bits above tell of frame check sequences, which decode has no use for.
        let number = header.network.0.cast_unsigned() & 0x03ff_ffff;
        Ok(match LinkType::from_number(number) {
            Some(link) => Opened::Reader(Self::with_header(&header, link)),
            None => Opened::LinkType(number),
        })
    }

    const fn is_magic(magic: [u8; 4]) -> bool {
        matches!(
            u32::from_le_bytes(magic),
            0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0xa1b2_cd34
        )
    }

    fn with_header(header: &PcapHeader, link: LinkType) -> Self {
        let big_endian = header.is_bigendian();
        let (parse, header_len): (Parse, usize) = if header.is_modified_format() {
            (parse_pcap_frame_modified, 24)
        } else if big_endian {
            (parse_pcap_frame_be, 16)
        } else {
            (parse_pcap_frame, 16)
        };
        Self {
            parse,
            big_endian,
            header: header_len,
            fraction: if header.is_nanosecond_precision() {
                1
            } else {
                1_000
            },
            link,
        }
    }

    /// The next record, or `None` at the file's end.
    #[inline]
    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Record>, Fault> {
        loop {
            if let Ok((_, frame)) = (self.parse)(input.bytes()) {
                let LegacyPcapBlock {
                    ts_sec,
                    ts_usec,
                    caplen,
                    origlen,
                    data,
                } = frame;
                let len = data.len();
                if len > MAX_RECORD {
                    return Err(absurd(input, len));
                }
                if ts_sec | ts_usec | caplen | origlen == 0 {
                    return Err(Fault::bad(
                        input.offset(),
                        "zeros where a record should begin (the disk was full, or the machine \
                         stopped while this was written)",
                    ));
                }
                let at = input.position() + self.header;
                input.consume(self.header + len);
                return Ok(Some(Record {
                    time: Timestamp::from_nanos(
                        i64::from(ts_sec) * NANOS_PER_SEC + i64::from(ts_usec) * self.fraction,
                    ),
                    link: self.link,
                    interface: 0,
                    // Some writers get the order of the two lengths wrong.
                    wire_len: origlen.max(caplen),
                    at,
                    len,
                }));
            }
            if !self.fill(input)? {
                return Ok(None);
            }
        }
    }

    /// Reads until the next record is whole; `false` at the file's end.
    #[cold]
    fn fill(&self, input: &mut Input) -> Result<bool, Fault> {
        let offset = input.offset();
        if !input.fill(self.header) {
            return if input.is_finished() {
                Ok(false)
            } else {
                Err(input.cut(offset, "a record's header", self.header))
            };
        }
        let len = self.captured_len(input.bytes());
        if len > MAX_RECORD {
            return Err(absurd(input, len));
        }
        let whole = self.header + len;
        if input.fill(whole) {
            Ok(true)
        } else {
            Err(input.cut(offset, "a record", whole))
        }
    }

    fn captured_len(&self, header: &[u8]) -> usize {
        let field = header
            .get(8..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default();
        let len = if self.big_endian {
            u32::from_be_bytes(field)
        } else {
            u32::from_le_bytes(field)
        };
        len as usize
    }
}

#[cold]
fn absurd(input: &Input, len: usize) -> Fault {
    Fault::bad(
        input.offset(),
        format!("a record says that it holds {len} bytes (at most {MAX_RECORD} are possible)"),
    )
}
