//! A directory of excerpts, one file an alert: readable by its owner alone, for packets hold what people said; the oldest go
//! when there is no more room.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Excerpt;

const EXTENSION: &str = "pcapng";
/// Files that are kept at most, however small they are.
const MAX_FILES: usize = 1 << 16;

/// Where excerpts are kept.
#[derive(Debug)]
pub struct ExcerptFolder {
    path: PathBuf,
    limit: u64,
    /// Names and sizes, the oldest first.
    files: VecDeque<(String, u64)>,
    used: u64,
}

impl ExcerptFolder {
    /// A directory, made if there is none, of which excerpts of earlier runs count as well. They take `limit` bytes at most.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Others' files are not ours to remove.
            let id = name.strip_suffix(&format!(".{EXTENSION}"));
            if id
                .is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            {
                let metadata = entry.metadata()?;
                found.push((metadata.modified()?, name, metadata.len()));
            }
        }
        found.sort();
        let used = found.iter().map(|(_, _, size)| size).sum();
        let files = found.into_iter().map(|(_, name, size)| (name, size));
        Ok(Self {
            path: path.to_owned(),
            limit,
            files: files.collect(),
            used,
        })
    }

    /// Writes an excerpt, in place of a former one of the same alert. Returns how many old ones had to go.
    ///
    /// # Errors
    /// When it can't be written; then a former one stays.
    pub fn write(&mut self, excerpt: &Excerpt) -> io::Result<u64> {
        let name = format!("{}.{EXTENSION}", excerpt.alert());
        let file = excerpt.file();
        let partial = self.path.join(format!(".{name}.part"));
        let written = create(&partial)
            .and_then(|mut out| out.write_all(&file))
            .and_then(|()| fs::rename(&partial, self.path.join(&name)));
        if let Err(error) = written {
            fs::remove_file(&partial).ok();
            return Err(error);
        }
        self.files.retain(|(known, size)| {
            let same = *known == name;
            if same {
                self.used -= size;
            }
            !same
        });
        self.used += file.len() as u64;
        self.files.push_back((name, file.len() as u64));
        let mut removed = 0;
        while (self.used > self.limit || self.files.len() > MAX_FILES) && self.files.len() > 1 {
            if let Some((oldest, size)) = self.files.pop_front() {
                // One that somebody took away is gone as well.
                fs::remove_file(self.path.join(oldest)).ok();
                self.used -= size;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Frame, LinkType};
    use crate::flow::FlowId;
    use crate::sinks::excerpt::Followed;
    use crate::time::Timestamp;

    fn excerpt(alert: u64, packets: usize) -> Excerpt {
        let followed = Followed {
            id: FlowId(1),
            comment: "a → b".to_owned(),
            bytes: 0,
        };
        let mut excerpt = Excerpt {
            alert: format!("{alert:016x}"),
            about: "something".to_owned(),
            flows: vec![followed],
            interfaces: Vec::new(),
            blocks: Vec::new(),
            packets: 0,
            left_out: 0,
            searched: 0,
        };
        for _ in 0..packets {
            let frame = Frame {
                time: Timestamp::from_secs(1),
                link: LinkType::Ethernet,
                wire_len: 1000,
                interface: 0,
                data: &[7; 1000],
            };
            excerpt.push(&frame, FlowId(1));
            excerpt.push(&frame, FlowId(2));
        }
        excerpt
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_and_what_is_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evidence");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine.pcapng"), vec![0; 50_000]).unwrap();
        let mut kept = ExcerptFolder::open(&path, 25_000).unwrap();
        for alert in 1..=4 {
            let removed = kept.write(&excerpt(alert, 9)).unwrap();
            assert_eq!(removed, u64::from(alert > 2), "{alert}");
        }
        let expected = [
            "0000000000000003.pcapng",
            "0000000000000004.pcapng",
            "mine.pcapng",
        ];
        assert_eq!(names(&path), expected);
        // Written anew it takes its own place, and what an earlier run left counts.
        let mut kept = ExcerptFolder::open(&path, 25_000).unwrap();
        assert_eq!(kept.write(&excerpt(4, 10)).unwrap(), 0);
        assert_eq!(kept.write(&excerpt(5, 10)).unwrap(), 1);
        assert!(names(&path).contains(&"0000000000000005.pcapng".to_owned()));
        assert_eq!(names(&path).len(), 3);
    }

    #[test]
    fn a_file_has_a_bound_and_says_what_had_no_room() {
        let whole = excerpt(1, 1000);
        assert_eq!((whole.packets(), whole.left_out), (1000, 0));
        let cut = excerpt(1, 5000);
        assert!(cut.left_out > 2000 && cut.packets() > 1000);
        let file = cut.file();
        assert!(file.len() <= (2 << 20) + 1024, "{}", file.len());
        let words = format!("{} more packets had no room", cut.left_out);
        assert!(
            file.windows(words.len())
                .any(|part| part == words.as_bytes())
        );
    }
}
