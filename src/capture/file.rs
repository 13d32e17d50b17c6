//! One capture file as a source: which format it is, the frame at its head, what was wrong with it.

use std::path::{Path, PathBuf};

use super::classic::{Classic, Opened};
use super::input::{Input, Share};
use super::pcapng::PcapNg;
use super::record::{Fault, Record};
use super::{CaptureError, Damage, Frame, PacketSource, Progress};
use crate::time::Timestamp;

/// A pcap or pcapng file, perhaps compressed with gzip or zstd, or standard input.
pub struct CaptureFile {
    path: PathBuf,
    input: Input,
    format: Format,
    /// The frame that is next, or that was last handed out; none at the end.
    head: Option<Record>,
    handed_out: bool,
    damage: Option<Damage>,
}

enum Format {
    Classic(Classic),
    PcapNg(PcapNg),
}

impl CaptureFile {
    /// Opens a file (`-` is standard input) and reads up to its first frame.
    ///
    /// # Errors
    /// When nothing in the file can be read: it can't be opened, is empty, is no capture, is damaged in its header, or
    /// has no interface of a supported link type.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::open_sharing(path, Share::among(1))
    }

    /// Like [`open`](Self::open), for one of many files.
    pub(super) fn open_sharing(path: &Path, share: Share) -> Result<Self, CaptureError> {
        let mut input = Input::open(path, share).map_err(|error| CaptureError::Io {
            path: path.to_owned(),
            error,
        })?;
        let format = Format::of(&mut input, path)?;
        let mut file = Self {
            path: path.to_owned(),
            input,
            format,
            head: None,
            handed_out: false,
            damage: None,
        };
        file.read();
        match (&file.format, file.head) {
            (Format::PcapNg(reader), None) if let Some(number) = reader.only_link() => {
                Err(CaptureError::LinkType {
                    path: file.path,
                    number,
                })
            }
            _ => Ok(file),
        }
    }

    /// When the frame at the head was captured; `None` at the end.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.head.map(|record| record.time)
    }

    /// The frame at the head.
    #[inline]
    pub(super) fn head(&self) -> Option<Frame<'_>> {
        self.head.map(|record| Frame {
            time: record.time,
            link: record.link,
            wire_len: record.wire_len,
            interface: record.interface,
            data: self.input.at(record.at, record.len),
        })
    }

    /// Brings the next frame to the head.
    #[inline]
    pub(super) fn advance(&mut self) {
        if self.head.is_some() {
            self.read();
        }
    }

    #[inline]
    fn read(&mut self) {
        let read = match &mut self.format {
            Format::Classic(reader) => reader.next(&mut self.input),
            Format::PcapNg(reader) => reader.next(&mut self.input),
        };
        self.head = match read {
            Ok(record) => record,
            Err(fault) => {
                self.damage = Some(fault.in_file(&self.path));
                None
            }
        };
        if self.head.is_none() {
            self.input.close();
        }
    }

    /// Gives back buffer and file until [`wake`](Self::wake); only possible while the first frame is at the head.
    /// Standard input and pipes stay awake.
    pub(super) fn sleep(&mut self) {
        if self.input.is_repeatable() {
            self.input.close();
        }
    }

    /// Opens a sleeping file again.
    pub(super) fn wake(&mut self, share: Share) {
        if !self.input.is_closed() || self.head.is_none() {
            return;
        }
        match Self::open_sharing(&self.path, share) {
            Ok(file) => *self = file,
            Err(error) => {
                let fault = Fault::bad(0, format!("it can't be opened a second time ({error})"));
                self.damage = Some(fault.in_file(&self.path));
                self.head = None;
            }
        }
    }
}

impl Format {
    fn of(input: &mut Input, path: &Path) -> Result<Self, CaptureError> {
        let owned = || path.to_owned();
        // Enough for either magic number, and to name most other kinds of file.
        input.fill(8);
        if PcapNg::is_magic(input.bytes()) {
            let reader = PcapNg::open(input).map_err(|fault| fault.in_header(path))?;
            return Ok(Self::PcapNg(reader));
        }
        if input.is_finished() {
            return Err(match input.compression() {
                None => CaptureError::Empty { path: owned() },
                Some(kind) => {
                    Fault::bad(0, format!("there is nothing in its {kind} stream")).in_header(path)
                }
            });
        }
        if input.has_failed() {
            return Err(input.cut(0, "the file header", 24).in_header(path));
        }
        match Classic::open(input).map_err(|fault| fault.in_header(path))? {
            Opened::Reader(reader) => Ok(Self::Classic(reader)),
            Opened::LinkType(number) => Err(CaptureError::LinkType {
                path: owned(),
                number,
            }),
            Opened::NotPcap => Err(CaptureError::not_a_capture(path, input.bytes())),
        }
    }
}

impl PacketSource for CaptureFile {
    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.handed_out {
            self.advance();
        }
        self.handed_out = true;
        Ok(self.head())
    }

    fn progress(&self) -> Progress {
        self.input.progress()
    }

    fn damage(&self) -> Vec<Damage> {
        self.damage.iter().cloned().collect()
    }

    fn unsupported_frames(&self) -> u64 {
        match &self.format {
            Format::Classic(_) => 0,
            Format::PcapNg(reader) => reader.unsupported,
        }
    }
}
