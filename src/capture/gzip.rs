//! A gzip stream (RFC 1952, several members allowed) that gives up every byte before the point where it breaks.
//!
//! flate2's own reader drops what the failing call had decompressed, up to its whole buffer: for a small capture that is
//! every packet in it. So this drives flate2's inflate itself and keeps what it had written. Knows nothing of captures.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Decompresses what `reader` yields.
pub(super) struct Gzip<R> {
    reader: R,
    inflate: Decompress,
    sum: Crc,
    part: Part,
}

/// What comes next in the compressed stream.
enum Part {
    Header,
    Body,
    Trailer,
    /// Another member, or the end.
    Between,
    Broken,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            inflate: Decompress::new(false),
            sum: Crc::new(),
            part: Part::Header,
        }
    }

    pub(super) fn get_ref(&self) -> &R {
        &self.reader
    }

    fn header(&mut self) -> io::Result<()> {
        // Made to parse the header alone: it stops right behind it.
        let mut member = GzDecoder::new(&mut self.reader);
        if member.header().is_none() {
            member.read_exact(&mut [0])?;
        }
        self.inflate.reset(false);
        self.sum.reset();
        Ok(())
    }

    fn body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let input = self.reader.fill_buf()?;
        let at_end = input.is_empty();
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, FlushDecompress::None);
        let read = (self.inflate.total_in() - read) as usize;
        let written = (self.inflate.total_out() - written) as usize;
        self.reader.consume(read);
        self.sum.update(out.get(..written).unwrap_or_default());
        match status {
            Ok(Status::StreamEnd) => self.part = Part::Trailer,
            Ok(_) if written > 0 || read > 0 => {}
            Ok(_) if at_end => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(_) => self.part = Part::Broken,
        }
        Ok(written)
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.reader.read_exact(&mut trailer)?;
        let [sum, length] = [self.sum.sum(), self.sum.amount()].map(u32::to_le_bytes);
        if trailer[..4] != sum || trailer[4..] != length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum is wrong: something before is not what was written",
            ));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !out.is_empty() {
            match self.part {
                Part::Header => {
                    self.header()?;
                    self.part = Part::Body;
                }
                Part::Body => match self.body(out)? {
                    0 => {}
                    written => return Ok(written),
                },
                Part::Trailer => {
                    self.trailer()?;
                    self.part = Part::Between;
                }
                Part::Between => match self.reader.fill_buf()?.first() {
                    None => break,
                    Some(0x1f) => self.part = Part::Header,
                    Some(_) => {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "something else follows its end",
                        ));
                    }
                },
                Part::Broken => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "corrupt data"));
                }
            }
        }
        Ok(0)
    }
}
