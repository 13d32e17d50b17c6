//! Bytes in: frames with their capture time and link type, from files and from interfaces.
//!
//! A source never interprets what it carries. A damaged file yields every whole record before the damage, then says once
//! what was wrong and where.

mod classic;
mod clock;
mod error;
mod file;
mod filter;
mod gzip;
mod input;
mod live;
mod merge;
mod pcapng;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::time::Timestamp;

pub use error::{CaptureError, Damage};
pub use file::CaptureFile;
pub use filter::Filter;
pub use live::{EVERY_INTERFACE, KernelCounts, Live, LiveError, LiveOptions};
pub use merge::Merged;
pub use record::MAX_RECORD;

/// One captured frame, borrowed from its source.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// How its first bytes are to be read.
    pub link: LinkType,
    /// Its length on the wire in bytes; `data` is shorter when a snap length cut it.
    pub wire_len: u32,
    /// Which of the source's interfaces saw it: 0 where there is but one; with several, different numbers, not
    /// necessarily consecutive. The same interface in several merged files has a number in each.
    pub interface: u32,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// The link layers that decode understands (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkType {
    /// LINKTYPE_ETHERNET (1).
    Ethernet,
    /// LINKTYPE_NULL (0): address family in the capturing host's byte order.
    Null,
    /// LINKTYPE_LOOP (108): address family in network byte order.
    Loop,
    /// LINKTYPE_RAW (101, and the DLT values 12 and 14), LINKTYPE_IPV4 (228), LINKTYPE_IPV6 (229).
    RawIp,
    /// LINKTYPE_LINUX_SLL (113).
    LinuxSll,
    /// LINKTYPE_LINUX_SLL2 (276): carries the interface index.
    LinuxSll2,
}

impl LinkType {
    /// Every link type, in the order of the variants.
    pub const ALL: &[Self] = &[
        Self::Ethernet,
        Self::Null,
        Self::Loop,
        Self::RawIp,
        Self::LinuxSll,
        Self::LinuxSll2,
    ];

    /// The link type for a number in a capture file's header.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }

    /// The number that libpcap calls this link type (its DLT), for compiling filters.
    pub const fn dlt(self) -> i32 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::RawIp => 12,
            Self::Loop => 108,
            Self::LinuxSll => 113,
            Self::LinuxSll2 => 276,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet",
            Self::Null | Self::Loop => "BSD loopback",
            Self::RawIp => "raw IP",
            Self::LinuxSll => "Linux cooked v1",
            Self::LinuxSll2 => "Linux cooked v2",
        })
    }
}

/// How far a source has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Bytes consumed of the input as it lies on disk (compressed bytes for a compressed file).
    pub read: u64,
    /// Bytes there are in all, where that is known (not for standard input).
    pub total: Option<u64>,
}

/// Something that yields frames in the order of their capture.
pub trait PacketSource {
    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// When the source fails as a whole. Damage inside one file is no error: reading ends there and
    /// [`PacketSource::damage`] tells of it.
    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError>;

    /// How far reading has come.
    fn progress(&self) -> Progress;

    /// What was found damaged so far, in the order of the files.
    fn damage(&self) -> Vec<Damage>;

    /// Frames passed over because their interface has a link type that decode can't read.
    fn unsupported_frames(&self) -> u64;
}
