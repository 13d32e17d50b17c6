//! What the readers of both file formats hand up: where a record lies in the read buffer, or why there is none. Knows
//! neither format.

use std::path::Path;

use super::{CaptureError, Damage, LinkType};
use crate::time::Timestamp;

/// The longest frame a file may hold, in bytes: libpcap's largest snap length (256 KiB) and slack for writers that add a
/// pseudo-header to it. A record that says more is damage, never an allocation.
pub const MAX_RECORD: usize = 256 * 1024 + 4096;

/// One record, by its place in the read buffer; valid until the buffer is next filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) link: LinkType,
    pub(super) interface: u32,
    pub(super) wire_len: u32,
    /// Index of the first captured byte in the buffer.
    pub(super) at: usize,
    /// Captured bytes.
    pub(super) len: usize,
}

/// Why reading ends before the file does.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where the bad record begins in the decompressed file.
    pub(super) offset: u64,
    /// Whether the file simply ends there.
    pub(super) truncated: bool,
    /// What is wrong, as a fragment.
    pub(super) problem: String,
}

impl Fault {
    /// Bytes at `offset` that can't be what should be there.
    pub(super) fn bad(offset: u64, problem: impl Into<String>) -> Self {
        Self {
            offset,
            truncated: false,
            problem: problem.into(),
        }
    }

    pub(super) fn in_file(self, path: &Path) -> Damage {
        Damage {
            path: path.to_owned(),
            offset: self.offset,
            truncated: self.truncated,
            problem: self.problem,
        }
    }

    pub(super) fn in_header(self, path: &Path) -> CaptureError {
        CaptureError::BadHeader {
            path: path.to_owned(),
            offset: self.offset,
            problem: self.problem,
        }
    }
}
