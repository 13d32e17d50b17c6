//! What the first bytes of a body look like, held against what its head declares it to be. Never the bytes.

use memchr::memmem;

use crate::dissect::opening::ByteMix;
use crate::dissect::tunnel::marks;

/// What a body looks like.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BodyLooks {
    /// There was none, or too little of it to tell.
    #[default]
    Unknown,
    /// Like what it is declared to be: text, a structure, media, something compressed.
    Plain,
    /// Noise, and declared to be nothing but bytes.
    Binary,
    /// Noise, though declared to be text, a form, or nothing at all.
    Hidden,
    /// One long word of letters and digits, as base64 or hexadecimal encoding makes it.
    Encoded,
    /// The beginning of another conversation: `ssh`, `tls`.
    Carries(&'static str),
}

/// What a head says of its body.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Declared {
    /// Text, JSON, a form; or nothing.
    #[default]
    Text,
    /// Bytes.
    Bytes,
    /// Anything else, or something compressed: noise is to be expected.
    Media,
}

impl Declared {
    /// Reads `Content-Type` and `Content-Encoding`.
    pub(super) fn of(content_type: Option<&[u8]>, coding: Option<&[u8]>) -> Self {
        if is_coded(coding) {
            return Self::Media;
        }
        let Some(value) = content_type else {
            return Self::Text;
        };
        let end = value.iter().position(|byte| *byte == b';');
        let kind = end.and_then(|end| value.get(..end)).unwrap_or(value);
        let kind = kind.trim_ascii().to_ascii_lowercase();
        let ends = |with: &[u8]| kind.ends_with(with);
        if kind == b"application/octet-stream" {
            Self::Bytes
        } else if kind.starts_with(b"text/")
            || ends(b"json")
            || ends(b"xml")
            || ends(b"javascript")
            || kind == b"application/x-www-form-urlencoded"
            || kind.is_empty()
        {
            Self::Text
        } else {
            Self::Media
        }
    }
}

/// Whether a `Content-Encoding` hides what a body says.
pub(super) fn is_coded(coding: Option<&[u8]>) -> bool {
    coding.is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// The first bytes of a body.
#[derive(Clone, Debug)]
pub(super) struct First {
    bytes: [u8; Self::MOST],
    have: usize,
}

impl Default for First {
    fn default() -> Self {
        Self {
            bytes: [0; Self::MOST],
            have: 0,
        }
    }
}

impl First {
    const MOST: usize = 128;
    /// A word shorter than this may well be one.
    const LONGEST_WORD: usize = 64;

    /// Takes what is still of interest of a body's next bytes.
    pub(super) fn take(&mut self, data: &[u8]) {
        let room = self.bytes.get_mut(self.have..).unwrap_or_default();
        let len = room.len().min(data.len());
        if let (Some(room), Some(data)) = (room.get_mut(..len), data.get(..len)) {
            room.copy_from_slice(data);
        }
        self.have = self.have.saturating_add(data.len()).min(Self::MOST);
    }

    /// What was taken so far.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.have).unwrap_or_default()
    }

    /// Whether it takes no more.
    pub(super) const fn is_full(&self) -> bool {
        self.have >= Self::MOST
    }

    /// All of a body of so many bytes, if it isn't longer, nor empty.
    pub(super) fn whole(&self, bytes: u64) -> Option<&[u8]> {
        let all = self.bytes.get(..self.have)?;
        (!all.is_empty() && all.len() as u64 == bytes).then_some(all)
    }

    /// Whether there is a field for a password, in a form of whatever coding.
    pub(super) fn has_password(&self) -> bool {
        let mut lower = self.bytes;
        lower.make_ascii_lowercase();
        let lower = lower.get(..self.have).unwrap_or_default();
        PASSWORD_FIELDS.iter().any(|name| {
            memmem::find_iter(lower, name).any(|at| {
                let rest = lower.get(at..).unwrap_or_default();
                let end = rest.iter().find(|byte| !is_of_name(**byte));
                matches!(end, Some(b'=' | b'"'))
            })
        })
    }

    /// What they look like.
    pub(super) fn looks(&self, declared: Declared) -> BodyLooks {
        let data = self.bytes.get(..self.have).unwrap_or_default();
        let printable = data
            .iter()
            .filter(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t'))
            .count();
        let mix = ByteMix::of(data, printable);
        if declared != Declared::Media
            && (mix != ByteMix::Text || is_word(data))
            && let Some(name) = marks::find(data)
        {
            return BodyLooks::Carries(name);
        }
        match (mix, declared) {
            (ByteMix::Few, _) => BodyLooks::Unknown,
            (ByteMix::Random, Declared::Text) => BodyLooks::Hidden,
            (ByteMix::Random, Declared::Bytes) => BodyLooks::Binary,
            (ByteMix::Text, Declared::Text | Declared::Bytes)
                if data.len() >= Self::LONGEST_WORD && is_word(data) =>
            {
                BodyLooks::Encoded
            }
            _ => BodyLooks::Plain,
        }
    }
}

/// How fields for passwords are called, or begin or end.
const PASSWORD_FIELDS: [&[u8]; 2] = [b"pass", b"pwd"];

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']')
}

/// Whether there is nothing but letters, digits, and what encodings use beside them.
fn is_word(data: &[u8]) -> bool {
    data.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(data: &[u8], declared: Declared) -> BodyLooks {
        let mut whole = First::default();
        whole.take(data);
        let mut pieces = First::default();
        data.chunks(7).for_each(|piece| pieces.take(piece));
        assert_eq!(whole.looks(declared), pieces.looks(declared));
        whole.looks(declared)
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn fields_for_passwords() {
        let has = |body: &[u8]| {
            let mut first = First::default();
            first.take(body);
            first.has_password()
        };
        for body in [
            &b"username=admin&password=x"[..],
            b"user=a&pass=x",
            b"log=a&pwd=x&wp-submit=Log+In",
            b"user[password]=x",
            br#"{"user":"a","Passwd":"x"}"#,
            b"--b\r\nContent-Disposition: form-data; name=\"j_password\"\r\n\r\nx",
        ] {
            assert!(has(body), "{}", body.escape_ascii());
        }
        for body in [
            &b"q=compass+reading"[..],
            br#"{"text":"pass the salt"}"#,
            b"",
            b"passenger",
        ] {
            assert!(!has(body), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn looks_beside_what_is_declared() {
        let noise = noise(200);
        assert_eq!(looks(&noise, Declared::Text), BodyLooks::Hidden);
        assert_eq!(looks(&noise, Declared::Bytes), BodyLooks::Binary);
        assert_eq!(looks(&noise, Declared::Media), BodyLooks::Plain);
        assert_eq!(looks(&noise[..9], Declared::Text), BodyLooks::Unknown);
        assert_eq!(looks(b"", Declared::Text), BodyLooks::Unknown);
        let json = b"{\"op\":\"track\",\"user\":17,\"items\":[1,2,3]}";
        assert_eq!(looks(json, Declared::Text), BodyLooks::Plain);
        let form =
            b"name=somebody&comment=hello+there&submit=1&token=abcdefabcdefabcdefabcdefabcdef";
        assert_eq!(looks(form, Declared::Text), BodyLooks::Plain);
        let word = b"TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsuTWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsu";
        assert_eq!(looks(word, Declared::Text), BodyLooks::Encoded);
        assert_eq!(
            looks(
                b"\x02\0\x15SSH-2.0-OpenSSH_9.6\r\n\xff\xfe\0\x81\x07",
                Declared::Bytes
            ),
            BodyLooks::Carries("ssh")
        );
        assert_eq!(
            looks(
                b"the banner was SSH-2.0-OpenSSH_9.6, as expected",
                Declared::Text
            ),
            BodyLooks::Plain
        );
    }

    #[test]
    fn declarations() {
        assert_eq!(Declared::of(None, None), Declared::Text);
        let cases: [(&str, &str, Declared); 7] = [
            ("text/html; charset=utf-8", "", Declared::Text),
            ("application/vnd.api+json", "", Declared::Text),
            ("Application/Octet-Stream", "", Declared::Bytes),
            ("image/png", "", Declared::Media),
            ("application/x-protobuf", "snappy", Declared::Media),
            ("text/plain", "gzip", Declared::Media),
            ("text/plain", "identity", Declared::Text),
        ];
        for (content_type, coding, declared) in cases {
            assert_eq!(
                Declared::of(
                    Some(content_type.as_bytes()),
                    (!coding.is_empty()).then_some(coding.as_bytes())
                ),
                declared,
                "{content_type:?}"
            );
        }
    }
}
