//! What can be wrong with a capture, in words for the person who gave it to us.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::LinkType;

/// A capture that can't be read at all, or a filter that can't be applied.
///
/// Each message stands alone, with cause and remedy: where several files can't be read, each has its line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {error}{}", name(.path), io_remedy(.error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said; part of the message, so not a source too.
        error: io::Error,
    },
    /// The file has no bytes.
    #[error(
        "{} is empty (0 bytes): nothing was captured into it, or the copy failed; capture or copy it again",
        name(.path)
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{} is not a capture file: it starts with {magic}, which is neither pcap nor pcapng (either may be compressed with gzip or zstd); {remedy}",
        name(.path)
    )]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// Its first bytes, in hex.
        magic: String,
        /// What to do with such a file.
        remedy: &'static str,
    },
    /// Not even the file's own header could be read.
    #[error(
        "{} is damaged at byte {offset}, before its first packet: {problem}; capture or copy it again",
        name(.path)
    )]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// Offset in the (decompressed) file.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Nothing in the file is of a link type that we decode.
    #[error(
        "{}: link type {number} is not supported (supported: Ethernet, Linux cooked v1/v2, raw IP, BSD loopback); capture again on an Ethernet or 'any' interface",
        name(.path)
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The link type's number in the file.
        number: u32,
    },
    /// A BPF filter did not compile.
    #[error(
        "filter {filter:?} can't be applied to {link} frames: {problem}; pcap-filter(7) has the syntax"
    )]
    Filter {
        /// What the user gave.
        filter: String,
        /// The link type it was compiled for.
        link: LinkType,
        /// libpcap's words.
        problem: String,
    },
}

impl CaptureError {
    /// For a file that begins with these bytes.
    pub(super) fn not_a_capture(path: &Path, bytes: &[u8]) -> Self {
        let first: Vec<_> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Self::NotACapture {
            path: path.to_owned(),
            magic: first.join(" "),
            remedy: remedy_for(bytes),
        }
    }
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
    /// What is wrong, as a fragment: "a record says that it holds 3000000000 bytes …".
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            offset,
            truncated,
            problem,
        } = self;
        let (state, remedy) = if *truncated {
            (
                "cut short",
                "copy the file again, after the capture has been stopped",
            )
        } else {
            ("damaged", "copy the file again, or try to repair it")
        };
        write!(
            f,
            "{} is {state} at byte {offset}: {problem}; everything before was analyzed; for the rest, {remedy}",
            name(path)
        )
    }
}

fn name(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") {
        Path::new("standard input").display()
    } else {
        path.display()
    }
}

fn io_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; check the name",
        io::ErrorKind::PermissionDenied => "; run as a user who may read it",
        io::ErrorKind::IsADirectory => "; name the capture files in it",
        _ => "",
    }
}

fn remedy_for(bytes: &[u8]) -> &'static str {
    const DECOMPRESS: &str = "decompress it first, or pipe it in: '-' reads standard input";
    const KNOWN: &[(&[u8], &str)] = &[
        (b"BZh", DECOMPRESS),
        (b"\xfd7zXZ\0", DECOMPRESS),
        (b"\x04\x22\x4d\x18", DECOMPRESS),
        (
            b"PK\x03\x04",
            "unpack the archive and name the captures in it",
        ),
        (
            b"7z\xbc\xaf\x27\x1c",
            "unpack the archive and name the captures in it",
        ),
        // Compressed twice over.
        (b"\x1f\x8b", DECOMPRESS),
        (b"\x28\xb5\x2f\xfd", DECOMPRESS),
    ];
    KNOWN
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map_or(
            "convert it with 'editcap -F pcapng', if it is a capture of another kind",
            |&(_, remedy)| remedy,
        )
}
