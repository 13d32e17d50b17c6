//! Several capture files as one source, in time order: a k-way merge, and the filter over it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::path::Path;

use super::input::Share;
use super::{CaptureError, CaptureFile, Damage, Filter, Frame, PacketSource, Progress};
use crate::time::Timestamp;

/// One or more capture files merged by the stamps of their frames; of equal stamps, the file named first goes first.
///
/// The order of frames within a file is kept, even where their stamps go back.
pub struct Merged {
    files: Vec<CaptureFile>,
    share: Share,
    /// The files that have a frame at their head, the earliest on top.
    order: BinaryHeap<Reverse<(Timestamp, usize)>>,
    filter: Option<Filter>,
    handed_out: bool,
}

impl Merged {
    /// Opens every file (`-` is standard input; the same may be named twice), and returns those that can be read
    /// merged, beside what is wrong with the others.
    ///
    /// # Errors
    /// When none can be read: what is wrong with each.
    pub fn open<P: AsRef<Path>>(
        paths: &[P],
        filter: Option<Filter>,
    ) -> Result<(Self, Vec<CaptureError>), Vec<CaptureError>> {
        let mut merged = Self {
            files: Vec::new(),
            share: Share::among(paths.len()),
            order: BinaryHeap::new(),
            filter,
            handed_out: false,
        };
        let mut errors = Vec::new();
        for path in paths {
            if let Err(error) = merged.add(path.as_ref()) {
                errors.push(error);
            }
        }
        if merged.files.is_empty() {
            Err(errors)
        } else {
            Ok((merged, errors))
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), CaptureError> {
        let mut file = CaptureFile::open_sharing(path, self.share)?;
        if let (Some(filter), Some(frame)) = (&mut self.filter, file.head()) {
            // Said now, not in the middle of the analysis.
            filter.matches(&frame)?;
        }
        if let Some(time) = file.time() {
            self.order.push(Reverse((time, self.files.len())));
        }
        if self.share.may_sleep {
            file.sleep();
        }
        self.files.push(file);
        Ok(())
    }

    /// Moves on behind the frame that was handed out last.
    fn advance(&mut self) {
        let Some(mut top) = self.order.peek_mut() else {
            return;
        };
        let Reverse((time, index)) = &mut *top;
        let next = self.files.get_mut(*index).and_then(|file| {
            file.advance();
            file.time()
        });
        match next {
            Some(next) => *time = next,
            None => {
                PeekMut::pop(top);
            }
        }
    }

    /// The file whose frame is next and wanted.
    fn next_file(&mut self) -> Result<Option<usize>, CaptureError> {
        loop {
            if self.handed_out {
                self.advance();
            }
            self.handed_out = true;
            let Some(&Reverse((_, index))) = self.order.peek() else {
                return Ok(None);
            };
            let Some(file) = self.files.get_mut(index) else {
                return Ok(None);
            };
            file.wake(self.share);
            // None when it could not be woken: it is passed over next.
            if let Some(frame) = file.head() {
                let wanted = match &mut self.filter {
                    Some(filter) => filter.matches(&frame)?,
                    None => true,
                };
                if wanted {
                    return Ok(Some(index));
                }
            }
        }
    }
}

impl PacketSource for Merged {
    /// Numbers interfaces anew: those of the n-th file that could be read (counted from 0) begin at n × 65,536.
    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        let Some(index) = self.next_file()? else {
            return Ok(None);
        };
        let frame = self.files.get(index).and_then(CaptureFile::head);
        Ok(frame.map(|frame| Frame {
            interface: (index as u32) << 16 | frame.interface,
            ..frame
        }))
    }

    fn progress(&self) -> Progress {
        let nothing = Progress {
            read: 0,
            total: Some(0),
        };
        self.files.iter().fold(nothing, |sum, file| {
            let Progress { read, total } = file.progress();
            Progress {
                read: sum.read + read,
                total: sum.total.zip(total).map(|(a, b)| a + b),
            }
        })
    }

    fn damage(&self) -> Vec<Damage> {
        self.files.iter().flat_map(PacketSource::damage).collect()
    }

    fn unsupported_frames(&self) -> u64 {
        self.files
            .iter()
            .map(PacketSource::unsupported_frames)
            .sum()
    }
}
