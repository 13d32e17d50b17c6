//! What a domain's names hide, and what that weighs.

use super::super::{Evidence, Family};
use crate::dissect::Hidden;

/// Formats of files fix so many of their first bits that no other name begins so by chance.
const BITS_FILE: f64 = 24.0;
/// Of random bytes 98 of 256 read as text.
const BITS_PER_TEXT_BYTE: f64 = 1.4;
/// Names of random letters that are asked for everywhere at a time, in bits: so many had the chance to read so.
const BITS_OF_CHANCES: f64 = 16.0;
/// Text is rarely put into names by accident, but monitoring of one's own may do it.
const MOST_BITS_TEXT: f64 = 20.0;

/// What was found in the names below a domain.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Hiding {
    /// The format of the first file that began.
    file: Option<&'static str>,
    /// Bytes of text.
    text: u32,
    /// Names that hide something.
    names: u32,
}

impl Hiding {
    /// Counts a name that wasn't asked for before.
    pub(super) fn note(&mut self, hidden: Option<Hidden>) {
        let Some(hidden) = hidden else {
            return;
        };
        self.names = self.names.saturating_add(1);
        match hidden {
            Hidden::File { kind } => self.file = self.file.or(Some(kind)),
            Hidden::Text { bytes } => self.text = self.text.saturating_add(bytes.into()),
        }
    }

    pub(super) const fn is_any(&self) -> bool {
        self.names > 0
    }

    /// What it weighs, of so many names in all.
    pub(super) fn evidence(&self, names: u64) -> Option<Evidence> {
        let one = |feature, bits, signature_grade, text| Evidence {
            feature,
            family: Family::Protocol,
            observed: f64::from(self.names),
            expected: "0: names of hosts are for people to read as they stand".into(),
            bits,
            signature_grade,
            text,
        };
        if let Some(kind) = self.file {
            let text = format!("decoded, a name begins as a file does ({kind})");
            return Some(one("dns.file_in_name", BITS_FILE, true, text));
        }
        let chances = BITS_OF_CHANCES + (names.max(1) as f64).log2();
        let bits = (f64::from(self.text) * BITS_PER_TEXT_BYTE - chances).min(MOST_BITS_TEXT);
        self.is_any().then(|| {
            let text = format!(
                "decoded, {} names read as text, {} bytes of it",
                self.names, self.text
            );
            one("dns.text_in_names", bits.max(0.0), false, text)
        })
    }
}
