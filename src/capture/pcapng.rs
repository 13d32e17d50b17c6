//! The pcapng format (draft-ietf-opsawg-pcapng): sections of blocks, in each of which interfaces are described and
//! packets refer to them. Knows no file names.
//!
//! pcap-parser reads section headers and interface descriptions, which are many things to get right and few in a file.
//! The fixed fields of packet blocks are read here: its packet parsers allocate per packet and cost twice as much, and
//! report a captured length beyond its block as a block that is not yet there.

use pcap_parser::{
    parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le,
    parse_sectionheaderblock,
};

use super::LinkType;
use super::clock::Clock;
use super::input::Input;
use super::record::{Fault, MAX_RECORD, Record};
use crate::time::Timestamp;

/// The longest block that is read as a whole: a packet of the longest kind with 128 KiB of options.
const MAX_BLOCK: usize = MAX_RECORD + 128 * 1024;
/// The longest block that is passed over (names, TLS secrets, statistics); a longer one is garbage read as a length.
const MAX_SKIPPED: usize = 16 << 20;
/// More interfaces than this in one section are damage: each is remembered.
const MAX_INTERFACES: usize = 1 << 16;

/// The same in both byte orders, so that it can be recognised before the order is known.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and total length before a block's body, total length again behind it.
const FRAMING: usize = 12;

/// Where reading stands in a pcapng file.
pub(super) struct PcapNg {
    big_endian: bool,
    /// Those of the present section.
    interfaces: Vec<Interface>,
    /// The last stamp seen, for packets that have none.
    last: Timestamp,
    /// Packets passed over because their interface has a link type that is not supported.
    pub(super) unsupported: u64,
    /// Whether any interface in any section had a supported link type.
    supported_link: bool,
    unsupported_link: Option<u32>,
}

#[derive(Clone, Copy)]
struct Interface {
    link: Option<LinkType>,
    clock: Clock,
    /// Longest capture, in bytes; 0 where there is no limit.
    snaplen: u32,
}

impl PcapNg {
    /// Whether the file begins as pcapng does.
    pub(super) fn is_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(&SECTION_HEADER.to_be_bytes())
    }

    /// Reads the header of the first section.
    pub(super) fn open(input: &mut Input) -> Result<Self, Fault> {
        let mut reader = Self {
            big_endian: false,
            interfaces: Vec::new(),
            last: Timestamp::default(),
            unsupported: 0,
            supported_link: false,
            unsupported_link: None,
        };
        reader.section(input)?;
        Ok(reader)
    }

    /// The link type of the file's first interface, if none of its interfaces has one that is supported.
    pub(super) fn only_link(&self) -> Option<u32> {
        self.unsupported_link.filter(|_| !self.supported_link)
    }

    /// The next packet on an interface with a supported link type, or `None` at the file's end.
    #[inline]
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Fault> {
        loop {
            let Some((kind, len)) = self.framing(input.bytes()) else {
                if input.fill(FRAMING) {
                    continue;
                }
                if input.is_finished() {
                    return Ok(None);
                }
                return Err(input.cut(input.offset(), "a block's header", FRAMING));
            };
            if kind == SECTION_HEADER {
                self.section(input)?;
                continue;
            }
            if !matches!(
                kind,
                ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET | INTERFACE_DESCRIPTION
            ) {
                self.skip(input, len)?;
                continue;
            }
            let Some(block) = input.bytes().get(..len) else {
                read_block(input, len, MAX_BLOCK)?;
                continue;
            };
            let offset = input.offset();
            check_framing(offset, len, MAX_BLOCK)?;
            self.check_trailer(offset, block, len)?;
            let record = match kind {
                ENHANCED_PACKET | OBSOLETE_PACKET => self.packet(kind, offset, block)?,
                SIMPLE_PACKET => self.simple_packet(offset, block)?,
                _ => {
                    self.interface(offset, block)?;
                    None
                }
            };
            let position = input.position();
            input.consume(len);
            if let Some(record) = record {
                return Ok(Some(Record {
                    at: position + record.at,
                    ..record
                }));
            }
        }
    }

    /// Type and total length of the block that begins with `bytes`, once that much is there.
    #[inline]
    fn framing(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        (bytes.len() >= FRAMING).then(|| (self.word(bytes, 0), self.word(bytes, 4) as usize))
    }

    /// An enhanced or obsolete packet block: the same fields at the same places, but for the interface's width. Places
    /// in the record count from the block's beginning.
    #[inline]
    fn packet(&mut self, kind: u32, offset: u64, block: &[u8]) -> Result<Option<Record>, Fault> {
        const DATA: usize = 28;
        let number = if kind == ENHANCED_PACKET {
            self.word(block, 8)
        } else {
            u32::from(self.half(block, 8))
        };
        let interface = self.interface_numbered(number, offset)?;
        let ticks = u64::from(self.word(block, 12)) << 32 | u64::from(self.word(block, 16));
        self.last = interface.clock.stamp(ticks);
        let len = self.word(block, 20) as usize;
        // Behind the data comes at least the length again.
        if len > MAX_RECORD || DATA + len + 4 > block.len() {
            return Err(absurd(offset, len, block.len()));
        }
        Ok(self.record(interface, number, self.word(block, 24), DATA, len))
    }

    /// A simple packet block: on the section's first interface, with no stamp and no captured length of its own.
    fn simple_packet(&mut self, offset: u64, block: &[u8]) -> Result<Option<Record>, Fault> {
        const DATA: usize = 12;
        let interface = self.interface_numbered(0, offset)?;
        let wire_len = self.word(block, 8);
        let snaplen = match interface.snaplen {
            0 => u32::MAX,
            snaplen => snaplen,
        };
        let room = block.len().saturating_sub(DATA + 4);
        let len = room.min(wire_len.min(snaplen) as usize);
        if len > MAX_RECORD || block.len() < DATA + 4 {
            return Err(absurd(offset, len, block.len()));
        }
        Ok(self.record(interface, 0, wire_len, DATA, len))
    }

    #[inline]
    fn record(
        &mut self,
        interface: Interface,
        number: u32,
        wire_len: u32,
        at: usize,
        len: usize,
    ) -> Option<Record> {
        let Some(link) = interface.link else {
            self.unsupported += 1;
            return None;
        };
        Some(Record {
            time: self.last,
            link,
            interface: number,
            wire_len: wire_len.max(len as u32),
            at,
            len,
        })
    }

    #[inline]
    fn interface_numbered(&self, number: u32, offset: u64) -> Result<Interface, Fault> {
        self.interfaces
            .get(number as usize)
            .copied()
            .ok_or_else(|| {
                Fault::bad(
                    offset,
                    format!(
                        "a packet of interface {number}, which its section does not describe \
                         (it describes {})",
                        self.interfaces.len()
                    ),
                )
            })
    }

    #[cold]
    fn interface(&mut self, offset: u64, block: &[u8]) -> Result<(), Fault> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Fault::bad(
                offset,
                format!("more than {MAX_INTERFACES} interfaces in one section"),
            ));
        }
        let parsed = if self.big_endian {
            parse_interfacedescriptionblock_be(block)
        } else {
            parse_interfacedescriptionblock_le(block)
        };
        let Ok((_, description)) = parsed else {
            return Err(Fault::bad(
                offset,
                "an interface description that can't be read",
            ));
        };
        let number = u32::from(description.linktype.0.cast_unsigned() as u16);
        let link = LinkType::from_number(number);
        if link.is_some() {
            self.supported_link = true;
        } else {
            self.unsupported_link.get_or_insert(number);
        }
        // pcap-parser reads it as little-endian in either case.
        let offset_secs = if self.big_endian {
            description.if_tsoffset.swap_bytes()
        } else {
            description.if_tsoffset
        };
        self.interfaces.push(Interface {
            link,
            clock: Clock::new(description.if_tsresol, offset_secs),
            snaplen: description.snaplen,
        });
        Ok(())
    }

    /// A section header: interfaces and byte order begin anew.
    #[cold]
    fn section(&mut self, input: &mut Input) -> Result<(), Fault> {
        let offset = input.offset();
        if !input.fill(FRAMING) {
            return Err(input.cut(offset, "a section header", FRAMING));
        }
        let magic = |big_endian| word(input.bytes(), 8, big_endian) == BYTE_ORDER_MAGIC;
        self.big_endian = match (magic(false), magic(true)) {
            (true, _) => false,
            (_, true) => true,
            _ => {
                return Err(Fault::bad(
                    offset,
                    "a section header without its byte-order magic",
                ));
            }
        };
        let len = self.word(input.bytes(), 4) as usize;
        read_block(input, len, MAX_BLOCK)?;
        let block = input.at(input.position(), len);
        self.check_trailer(offset, block, len)?;
        let version = match parse_sectionheaderblock(block) {
            Ok((_, header)) => header.major_version,
            Err(_) => return Err(Fault::bad(offset, "a section header that can't be read")),
        };
        if version != 1 {
            return Err(Fault::bad(
                offset,
                format!("a section of pcapng version {version} (version 1 is known)"),
            ));
        }
        self.interfaces.clear();
        input.consume(len);
        Ok(())
    }

    /// Passes over a block of a kind that holds no packets.
    #[cold]
    fn skip(&self, input: &mut Input, len: usize) -> Result<(), Fault> {
        let offset = input.offset();
        check_framing(offset, len, MAX_SKIPPED)?;
        if !input.skip(len - 4) || !input.fill(4) {
            return Err(input.cut(offset, "a block", len));
        }
        self.check_trailer(offset, input.at(input.position(), 4), len)?;
        input.consume(4);
        Ok(())
    }

    /// The length at a block's end repeats the one at its beginning.
    #[inline]
    fn check_trailer(&self, offset: u64, block: &[u8], len: usize) -> Result<(), Fault> {
        let trailer = self.word(block, block.len().saturating_sub(4)) as usize;
        if trailer == len {
            return Ok(());
        }
        Err(Fault::bad(
            offset,
            format!("a block's two lengths differ ({len} and {trailer})"),
        ))
    }

    #[inline]
    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        word(bytes, at, self.big_endian)
    }

    fn half(&self, bytes: &[u8], at: usize) -> u16 {
        let word = self.word(bytes, at);
        // The first two bytes of a word are its upper half in one order, its lower in the other.
        if self.big_endian {
            (word >> 16) as u16
        } else {
            word as u16
        }
    }
}

#[inline]
fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let field = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or_default();
    if big_endian {
        u32::from_be_bytes(field)
    } else {
        u32::from_le_bytes(field)
    }
}

/// Checks a block's length and reads the whole of it.
#[cold]
fn read_block(input: &mut Input, len: usize, bound: usize) -> Result<(), Fault> {
    let offset = input.offset();
    check_framing(offset, len, bound)?;
    if input.fill(len) {
        Ok(())
    } else {
        Err(input.cut(offset, "a block", len))
    }
}

#[inline]
fn check_framing(offset: u64, len: usize, bound: usize) -> Result<(), Fault> {
    if (FRAMING..=bound).contains(&len) && len.is_multiple_of(4) {
        return Ok(());
    }
    Err(Fault::bad(
        offset,
        format!("what should be a block says that it is {len} bytes long"),
    ))
}

#[cold]
fn absurd(offset: u64, len: usize, block: usize) -> Fault {
    Fault::bad(
        offset,
        format!("a packet says that it holds {len} bytes, in a block of {block}"),
    )
}
