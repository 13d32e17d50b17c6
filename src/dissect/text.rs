//! Bytes from the wire as text that is safe to store and show. Knows no protocol.

use std::sync::Arc;

/// `bytes` as text of at most `limit` bytes; controls and what isn't UTF-8 become U+FFFD.
pub(super) fn text(bytes: &[u8], limit: usize) -> Arc<str> {
    clean(bytes, limit, false)
}

/// Like [`text`], with ASCII letters in lower case.
pub(super) fn lower_text(bytes: &[u8], limit: usize) -> Arc<str> {
    clean(bytes, limit, true)
}

/// Like [`text`]; `None` for nothing.
pub(super) fn opt_text(bytes: &[u8], limit: usize) -> Option<Arc<str>> {
    (!bytes.is_empty()).then(|| text(bytes, limit))
}

fn clean(bytes: &[u8], limit: usize, lower: bool) -> Arc<str> {
    // Nearly all text is plain ASCII already: one allocation, one copy.
    let head = bytes.get(..limit).unwrap_or(bytes);
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !(lower && byte.is_ascii_uppercase());
    if head.iter().all(plain)
        && let Ok(text) = std::str::from_utf8(head)
    {
        return Arc::from(text);
    }
    let chars = bytes.utf8_chunks().flat_map(|chunk| {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(broken)
    });
    let mut out = String::with_capacity(head.len());
    for char in chars {
        let shown = match char {
            _ if char.is_control() => char::REPLACEMENT_CHARACTER,
            _ if lower => char.to_ascii_lowercase(),
            _ => char,
        };
        if out.len().saturating_add(shown.len_utf8()) > limit {
            break;
        }
        out.push(shown);
    }
    Arc::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_bytes_become_bounded_printable_text() {
        let cases: &[(&[u8], usize, &str, &str)] = &[
            (b"curl/8.5.0", 256, "curl/8.5.0", "curl/8.5.0"),
            (b"Example.COM", 7, "Example", "example"),
            (b"", 4, "", ""),
            ("gr\u{fc}n".as_bytes(), 256, "gr\u{fc}n", "gr\u{fc}n"),
            // A character that would pass the limit is left out whole.
            ("gr\u{fc}n".as_bytes(), 3, "gr", "gr"),
            // An escape sequence must not reach a terminal; 0xFF is never UTF-8.
            (
                b"A\x1b[2J\xff",
                256,
                "A\u{fffd}[2J\u{fffd}",
                "a\u{fffd}[2j\u{fffd}",
            ),
        ];
        for (bytes, limit, as_is, lower) in cases {
            assert_eq!(&*text(bytes, *limit), *as_is);
            assert_eq!(&*lower_text(bytes, *limit), *lower);
        }
    }
}
