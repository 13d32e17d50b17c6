//! Capture files built in code, and what is read from them.

mod classic;
mod compressed;
mod filter;
mod hostile;
mod merge;
mod pcapng;

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{CaptureError, CaptureFile, Damage, LinkType, PacketSource};

pub(super) const MICROS: u32 = 0xa1b2_c3d4;
pub(super) const NANOS: u32 = 0xa1b2_3c4d;
pub(super) const MODIFIED: u32 = 0xa1b2_cd34;
pub(super) const ETHERNET: u32 = 1;
pub(super) const USB: u32 = 220;

/// The byte order of a file's writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Little,
    Big,
}
pub(super) use Order::{Big, Little};

impl Order {
    pub(super) fn half(self, value: u16) -> [u8; 2] {
        match self {
            Little => value.to_le_bytes(),
            Big => value.to_be_bytes(),
        }
    }

    pub(super) fn words(self, values: &[u32]) -> Vec<u8> {
        let bytes = |value: &u32| match self {
            Little => value.to_le_bytes(),
            Big => value.to_be_bytes(),
        };
        values.iter().flat_map(bytes).collect()
    }

    pub(super) fn long(self, value: i64) -> [u8; 8] {
        match self {
            Little => value.to_le_bytes(),
            Big => value.to_be_bytes(),
        }
    }
}

/// A pcap file header: version 2.4, snap length 65535.
pub(super) fn pcap(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let mut bytes = order.words(&[magic]);
    bytes.extend(order.half(2));
    bytes.extend(order.half(4));
    bytes.extend(order.words(&[0, 0, 65_535, link]));
    bytes
}

/// A pcap record.
pub(super) fn record(order: Order, secs: u32, fraction: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    let mut bytes = order.words(&[secs, fraction, len, len]);
    bytes.extend(data);
    bytes
}

/// A pcap file of frames of these lengths, one a second from 1000 on, and where each of its records ends.
pub(super) fn pcap_of(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = pcap(Little, MICROS, ETHERNET);
    let mut ends = Vec::new();
    for (i, &len) in lengths.iter().enumerate() {
        bytes.extend(record(Little, 1_000 + i as u32, 0, &vec![i as u8; len]));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// A pcapng block around a body, padded.
pub(super) fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let total = padded as u32 + 12;
    let mut bytes = order.words(&[kind, total]);
    bytes.extend(body);
    bytes.resize(8 + padded, 0);
    bytes.extend(order.words(&[total]));
    bytes
}

pub(super) fn section(order: Order) -> Vec<u8> {
    let mut body = order.words(&[0x1a2b_3c4d]);
    body.extend(order.half(1));
    body.extend(order.half(0));
    body.extend(order.long(-1));
    block(order, 0x0a0d_0d0a, &body)
}

/// An interface description with options (code and value).
pub(super) fn interface(
    order: Order,
    link: u16,
    snaplen: u32,
    options: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut body = order.half(link).to_vec();
    body.extend([0, 0]);
    body.extend(order.words(&[snaplen]));
    body.extend(with_options(order, options));
    block(order, 1, &body)
}

pub(super) fn with_options(order: Order, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, value) in options {
        bytes.extend(order.half(*code));
        bytes.extend(order.half(value.len() as u16));
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if !options.is_empty() {
        bytes.extend([0; 4]);
    }
    bytes
}

/// An enhanced packet block.
pub(super) fn packet(order: Order, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    let mut body = order.words(&[interface, (ticks >> 32) as u32, ticks as u32, len, len]);
    body.extend(data);
    block(order, 6, &body)
}

/// What came out of a file.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    pub(super) frames: Vec<Seen>,
    pub(super) damage: Option<Damage>,
    pub(super) unsupported: u64,
}

/// An owned frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) nanos: i64,
    pub(super) link: LinkType,
    pub(super) wire_len: u32,
    pub(super) interface: u32,
    pub(super) data: Vec<u8>,
}

impl Outcome {
    /// Offset and words of the damage.
    pub(super) fn damaged(&self) -> (u64, bool, &str) {
        let damage = self.damage.as_ref().expect("damage");
        (damage.offset, damage.truncated, &damage.problem)
    }
}

pub(super) fn on_disk(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(super) fn drain(source: &mut dyn PacketSource) -> Vec<Seen> {
    let mut frames = Vec::new();
    while let Some(frame) = source.next_frame().unwrap() {
        frames.push(Seen {
            nanos: frame.time.nanos(),
            link: frame.link,
            wire_len: frame.wire_len,
            interface: frame.interface,
            data: frame.data.to_vec(),
        });
    }
    assert!(source.next_frame().unwrap().is_none(), "the end is final");
    frames
}

/// Reads a file with these bytes to its end.
pub(super) fn read(bytes: &[u8]) -> Result<Outcome, CaptureError> {
    let file = on_disk(bytes);
    let mut source = CaptureFile::open(file.path())?;
    let frames = drain(&mut source);
    let damage = source.damage();
    assert!(damage.len() <= 1, "damage is told once");
    let progress = source.progress();
    assert_eq!(progress.total, Some(bytes.len() as u64));
    Ok(Outcome {
        frames,
        damage: damage.into_iter().next().map(|damage| {
            assert_eq!(damage.path, file.path());
            Damage {
                path: PathBuf::new(),
                ..damage
            }
        }),
        unsupported: source.unsupported_frames(),
    })
}

pub(super) fn open_error(bytes: &[u8]) -> CaptureError {
    let file = on_disk(bytes);
    CaptureFile::open(file.path()).err().expect("an error")
}

#[test]
fn a_missing_file_and_a_folder_are_errors_with_a_remedy() {
    let text = |path: &Path| CaptureFile::open(path).err().unwrap().to_string();
    let missing = text(Path::new("/no/such/file.pcap"));
    assert!(
        missing.starts_with("cannot read /no/such/file.pcap: "),
        "{missing}"
    );
    assert!(missing.ends_with("; check the name"), "{missing}");
    let folder = text(Path::new("/"));
    assert!(
        folder.ends_with("; name the capture files in it"),
        "{folder}"
    );
}

#[test]
fn an_empty_file_and_a_foreign_one_are_told_apart() {
    assert!(matches!(open_error(b""), CaptureError::Empty { .. }));
    let text = open_error(b"BZh91AY&SY").to_string();
    assert!(
        text.contains("starts with 42 5a 68 39 31 41 59 26,"),
        "{text}"
    );
    assert!(text.contains("decompress it first"), "{text}");
    assert!(matches!(
        open_error(b"\xd4"),
        CaptureError::NotACapture { .. }
    ));
}

#[test]
fn sources_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<CaptureFile>();
    is_send::<super::Merged>();
}
