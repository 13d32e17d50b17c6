//! What can be wrong with a capture, in words for the person who gave it to us.

use std::path::PathBuf;

/// A capture that can't be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file has no bytes.
    #[error("{path} is empty (0 bytes): nothing was captured into it, or the copy failed", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is not a capture file: it starts with {magic}, which is neither pcap nor pcapng (also accepted: either of them compressed with gzip or zstd)", path = .path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// Its first bytes, in hex.
        magic: String,
    },
    /// Not even the file's own header could be read.
    #[error("{path}: damaged at byte {offset}, before the first packet: {problem}", path = .path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// Offset in the (decompressed) file.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Nothing in the file is of a link type that we decode.
    #[error("{path}: link type {number} is not supported (supported: Ethernet, Linux cooked v1/v2, raw IP, BSD loopback); capture again on an Ethernet or 'any' interface", path = .path.display())]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The link type's number in the file.
        number: u32,
    },
    /// A BPF filter did not compile.
    #[error("filter {filter:?} is not valid: {problem}")]
    Filter {
        /// What the user gave.
        filter: String,
        /// libpcap's words.
        problem: String,
    },
}

/// One place at which a file could not be read on. Whole records before it have been delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Offset in the (decompressed) file at which the bad record begins.
    pub offset: u64,
    /// Whether the file simply ends there.
    pub truncated: bool,
    /// What is wrong, as a fragment: "record says 3000000000 bytes, …".
    pub problem: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            offset,
            problem,
            ..
        } = self;
        write!(
            f,
            "{}: {problem} at byte {offset}; everything before it was analyzed",
            path.display()
        )
    }
}
