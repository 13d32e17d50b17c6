//! Opening an input and telling what it is, by its content.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes looked at to tell what a file is.
const PEEK: usize = 64 << 10;

/// The forms of inventories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Kubernetes,
    Cri,
    Docker,
    Journal,
    Csv,
    /// Nothing at all: a watch during which nothing happened.
    Empty,
    Utf16,
    Unknown,
}

/// An opened file, uncompressed on the way.
pub(super) fn open(path: &Path) -> io::Result<BufReader<Box<dyn Read>>> {
    let mut file = BufReader::with_capacity(PEEK, File::open(path)?);
    let plain: Box<dyn Read> = match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    };
    Ok(BufReader::with_capacity(PEEK, plain))
}

/// What the file is; a byte order mark is consumed. Also returns how the file begins, for an error message.
pub(super) fn recognise(input: &mut impl BufRead) -> io::Result<(Format, String)> {
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    let start = input.fill_buf()?;
    let text = start.trim_ascii_start();
    let begins: String = String::from_utf8_lossy(text.get(..24).unwrap_or(text)).into_owned();
    let format = match text {
        [] => Format::Empty,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Format::Utf16,
        [b'{' | b'[', ..] => json_format(text),
        _ => {
            let mut lines = text.split(|&byte| byte == b'\n');
            let header = lines
                .find(|line| !line.starts_with(b"#"))
                .unwrap_or_default();
            let table = str::from_utf8(header).is_ok_and(super::csv::is_table);
            if table { Format::Csv } else { Format::Unknown }
        }
    };
    Ok((format, format!("{begins:?}")))
}

/// The first key that one form has and no other decides.
fn json_format(text: &[u8]) -> Format {
    let found = Cell::new(None);
    let mut json = serde_json::Deserializer::from_slice(text);
    // Ends in an error as soon as it is decided, or where the peeked part breaks off.
    drop((&mut json).deserialize_any(Probe(&found)));
    found.get().unwrap_or(Format::Unknown)
}

struct Probe<'a>(&'a Cell<Option<Format>>);

impl Probe<'_> {
    fn decide<E: Error>(&self, format: Format) -> E {
        self.0.set(Some(format));
        E::custom("decided")
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let format = match &*key {
                "schema" => Format::Journal,
                "apiVersion" | "kind" | "metadata" | "spec" | "type" | "object" | "observedAt" => {
                    Format::Kubernetes
                }
                "status" | "info" | "id" | "state" | "createdAt" => Format::Cri,
                "items" => {
                    map.next_value_seed(Seed(Probe(self.0)))?;
                    continue;
                }
                _ if key.starts_with(|first: char| first.is_ascii_uppercase()) => Format::Docker,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            return Err(self.decide(format));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        seq.next_element_seed(Seed(Probe(self.0)))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct Seed<'a>(Probe<'a>);

impl<'de> serde::de::DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self.0)
    }
}
