//! Bytes of one file, decompressed by content, through one read buffer. Knows gzip and zstd, where reading stands on disk
//! and in the decompressed stream, and how it ended; knows nothing of captures.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Progress;
use super::gzip::Gzip;
use super::record::Fault;

/// What one of several open files may use of what all of them share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Bytes of read buffer to begin with; it grows to one record where that is longer.
    buffer: usize,
    /// Base-2 logarithm of the largest zstd window taken.
    zstd_window: u32,
    /// Whether the file stays open between reads.
    hold_open: bool,
    /// Whether a file whose first frame is not due yet gives its buffer back meanwhile.
    pub(super) may_sleep: bool,
}

impl Share {
    /// Measured best on one file: above it the buffer falls out of the cache, below it system calls show.
    const BUFFER: usize = 1 << 20;
    const SMALLEST_BUFFER: usize = 16 << 10;
    const ALL_BUFFERS: usize = 64 << 20;
    /// Where the usual limit of 1024 open files is not yet near.
    const HELD_OPEN: usize = 256;
    /// What `zstd --long` makes, and what its levels up to 19 make.
    const ZSTD_LONG: u32 = 27;
    const ZSTD_USUAL: u32 = 23;

    /// The share of each of `count` files.
    pub(super) fn among(count: usize) -> Self {
        let buffer = Self::ALL_BUFFERS / count.max(1);
        let few = buffer >= Self::BUFFER;
        Self {
            buffer: buffer.clamp(Self::SMALLEST_BUFFER, Self::BUFFER),
            zstd_window: if few {
                Self::ZSTD_LONG
            } else {
                Self::ZSTD_USUAL
            },
            hold_open: count <= Self::HELD_OPEN,
            may_sleep: !few,
        }
    }
}

/// The decompressed bytes of one file.
pub(super) struct Input {
    stream: Stream,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
    /// Offset of `buffer[0]` in the decompressed file.
    base: u64,
    /// No more bytes will come: the file's end, or `failure`.
    ended: bool,
    failure: Option<io::Error>,
    progress: Progress,
}

impl Input {
    pub(super) fn open(path: &Path, share: Share) -> io::Result<Self> {
        let disk = Disk::open(path, share.hold_open)?;
        let progress = disk.progress;
        Ok(Self {
            stream: Stream::open(disk, share)?,
            buffer: vec![0; share.buffer],
            start: 0,
            end: 0,
            base: 0,
            ended: false,
            failure: None,
            progress,
        })
    }

    /// The unread bytes that are in the buffer.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Where the unread bytes begin in the buffer.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// Where the unread bytes begin in the decompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Bytes at a place in the buffer, read or not; valid until the next [`fill`](Self::fill).
    #[inline]
    pub(super) fn at(&self, position: usize, len: usize) -> &[u8] {
        self.buffer
            .get(position..position.saturating_add(len))
            .unwrap_or_default()
    }

    /// Marks `count` of the buffered bytes as read.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Reads until `want` unread bytes are in the buffer; says whether they are. The caller has checked `want`
    /// against a bound.
    #[cold]
    pub(super) fn fill(&mut self, want: usize) -> bool {
        // Less than one record is left here, so moving it costs little, once per buffer.
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < want {
            self.buffer.resize(want, 0);
        }
        while self.end < want && !self.ended {
            let space = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(space) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.failure = Some(error);
                }
            }
        }
        self.end >= want
    }

    /// Passes over `count` bytes without holding more than a buffer of them; says whether there were so many.
    pub(super) fn skip(&mut self, mut count: usize) -> bool {
        loop {
            let here = count.min(self.bytes().len());
            self.consume(here);
            count -= here;
            if count == 0 {
                return true;
            }
            if !self.fill(1) {
                return false;
            }
        }
    }

    /// Whether the bytes stopped coming before the file's end.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether everything was read and nothing was wrong with it.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.failure.is_none() && self.bytes().is_empty()
    }

    /// Why what begins at `offset` is not there whole.
    pub(super) fn cut(&self, offset: u64, what: &str, need: usize) -> Fault {
        let have = (self.base + self.end as u64).saturating_sub(offset);
        match &self.failure {
            None => Fault {
                offset,
                truncated: true,
                problem: format!("the file ends inside {what} ({have} of {need} bytes are there)"),
            },
            Some(error) => Fault {
                offset,
                truncated: error.kind() == io::ErrorKind::UnexpectedEof,
                problem: self.stream.explain(error),
            },
        }
    }

    /// Closes the file and gives the buffer back.
    pub(super) fn close(&mut self) {
        self.progress = self.progress();
        self.stream = Stream::Closed;
        self.buffer = Vec::new();
        self.base = self.offset();
        (self.start, self.end, self.ended) = (0, 0, true);
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stream, Stream::Closed)
    }

    pub(super) fn progress(&self) -> Progress {
        let Some(disk) = self.stream.disk() else {
            return self.progress;
        };
        let Progress { read, total } = disk.progress;
        Progress {
            read,
            // A file that is still being written has grown since it was opened.
            total: total.map(|total| total.max(read)),
        }
    }

    /// Whether the same bytes can be had again by opening the file again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.progress.total.is_some()
    }

    /// The name of the compression, if there is one.
    pub(super) fn compression(&self) -> Option<&'static str> {
        match self.stream {
            Stream::Gzip(_) => Some("gzip"),
            Stream::Zstd(_) => Some("zstd"),
            Stream::Plain(_) | Stream::Closed => None,
        }
    }
}

enum Stream {
    Plain(Disk),
    Gzip(Box<Gzip<BufReader<Disk>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Disk>>>),
    Closed,
}

impl Stream {
    /// Buffer for compressed bytes.
    const COMPRESSED: usize = 32 << 10;
    /// A zstd decoder that fails drops what it had written in that call: small calls lose little.
    const ZSTD_STEP: usize = 4 << 10;

    fn open(mut disk: Disk, share: Share) -> io::Result<Self> {
        let buffer = Self::COMPRESSED.min(share.buffer);
        Ok(match *disk.peek()? {
            [0x1f, 0x8b, ..] => {
                Self::Gzip(Box::new(Gzip::new(BufReader::with_capacity(buffer, disk))))
            }
            // A frame, or a skippable frame before it (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let reader = BufReader::with_capacity(buffer, disk);
                let mut decoder = zstd::Decoder::with_buffer(reader)?;
                decoder.window_log_max(share.zstd_window)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => Self::Plain(disk),
        })
    }

    fn disk(&self) -> Option<&Disk> {
        match self {
            Self::Plain(disk) => Some(disk),
            Self::Gzip(decoder) => Some(decoder.get_ref().get_ref()),
            Self::Zstd(decoder) => Some(decoder.get_ref().get_ref()),
            Self::Closed => None,
        }
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(disk) => disk.read(space),
            Self::Gzip(decoder) => decoder.read(space),
            Self::Zstd(decoder) => {
                let step = Self::ZSTD_STEP.min(space.len());
                decoder.read(space.get_mut(..step).unwrap_or_default())
            }
            Self::Closed => Ok(0),
        }
    }

    /// What a failure to read means, for people.
    fn explain(&self, error: &io::Error) -> String {
        let kind = match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
            Self::Plain(_) | Self::Closed => return format!("reading failed ({error})"),
        };
        if error.kind() == io::ErrorKind::UnexpectedEof {
            format!("the {kind} stream ends early")
        } else {
            format!("the {kind} stream can't be decompressed ({error})")
        }
    }
}

/// A file or standard input as it lies on disk.
struct Disk {
    source: Source,
    /// The first bytes, read to tell what the file is, and how many of them were handed on since.
    first: [u8; 4],
    first_len: usize,
    first_read: usize,
    progress: Progress,
}

enum Source {
    Stdin(io::Stdin),
    File(File),
    /// Opened for each read, at this offset: so that thousands of files need not be open at once.
    Path(PathBuf, u64),
}

impl Disk {
    fn open(path: &Path, hold_open: bool) -> io::Result<Self> {
        let (source, total) = if path == Path::new("-") {
            (Source::Stdin(io::stdin()), None)
        } else {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            // Pipes and devices have no length, and can't be opened twice.
            if !metadata.is_file() {
                (Source::File(file), None)
            } else if hold_open {
                (Source::File(file), Some(metadata.len()))
            } else {
                (Source::Path(path.to_owned(), 0), Some(metadata.len()))
            }
        };
        Ok(Self {
            source,
            first: [0; 4],
            first_len: 0,
            first_read: 0,
            progress: Progress { read: 0, total },
        })
    }

    /// The first four bytes (zeros beyond the end); they are read again afterwards.
    fn peek(&mut self) -> io::Result<&[u8; 4]> {
        while let Some(space) = self.first.get_mut(self.first_len..)
            && !space.is_empty()
        {
            match self.source.read(space) {
                Ok(0) => break,
                Ok(read) => self.first_len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.first)
    }
}

impl Read for Disk {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut first = self
            .first
            .get(self.first_read..self.first_len)
            .unwrap_or_default();
        let read = if first.is_empty() {
            self.source.read(space)?
        } else {
            let read = first.read(space)?;
            self.first_read += read;
            read
        };
        self.progress.read += read as u64;
        Ok(read)
    }
}

impl Read for Source {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin(stdin) => stdin.read(space),
            Self::File(file) => file.read(space),
            Self::Path(path, offset) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                let read = file.read(space)?;
                *offset += read as u64;
                Ok(read)
            }
        }
    }
}
