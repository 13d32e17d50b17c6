//! Tokens of SQL, put together again without literals, comments and case.

use super::watch::Watch;
use super::{Dialect, Marks};

/// `text` in a form that is equal for statements that differ in data and looks only: literals and placeholders are `?`,
/// lists of them one `?`, names unquoted and in lower case, spaces only where two words meet. And what its tokens tell;
/// `whole` unless it goes on after `text`.
pub(super) fn normalise(text: &[u8], dialect: Dialect, whole: bool) -> (String, Marks) {
    let mut lexer = Lexer {
        text,
        rest: text,
        dialect,
        whole,
        out: String::with_capacity(text.len()),
        watch: Watch::new(dialect),
    };
    while let Some(byte) = lexer.rest.first().copied() {
        lexer.token(byte);
    }
    (lexer.out, lexer.watch.finish(whole))
}

struct Lexer<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    dialect: Dialect,
    whole: bool,
    out: String,
    watch: Watch,
}

impl<'a> Lexer<'a> {
    fn token(&mut self, byte: u8) {
        let mysql = self.dialect == Dialect::MySql;
        let backslashes = matches!(self.dialect, Dialect::MySql | Dialect::ClickHouse);
        let dollars = matches!(self.dialect, Dialect::Postgres | Dialect::Cql);
        match byte {
            b'-' if self.rest.starts_with(b"--") && self.dashes_comment() => self.line_comment(),
            b'/' if self.dialect == Dialect::Cql && self.rest.starts_with(b"//") => {
                self.line_comment();
            }
            b'#' if mysql => self.line_comment(),
            // What MySQL runs and others ignore.
            b'/' if mysql && self.rest.starts_with(b"/*!") => {
                self.advance(3);
                let version = count(self.rest, u8::is_ascii_digit);
                self.advance(version);
            }
            b'*' if mysql && self.rest.starts_with(b"*/") => {
                self.advance(2);
            }
            b'/' if self.rest.starts_with(b"/*") => self.block_comment(),
            b'\'' => self.string(byte, backslashes),
            b'"' if mysql => self.string(byte, true),
            b'"' | b'`' => self.name(byte),
            b'[' if self.dialect == Dialect::MsSql => self.name(b']'),
            b'$' if dollars && self.dollar_string() => {}
            b'q' | b'Q' if self.dialect == Dialect::Oracle && self.rest.get(1) == Some(&b'\'') => {
                self.advance(1);
                self.oracle_string();
            }
            b'e' | b'E'
                if self.dialect == Dialect::Postgres && self.rest.get(1) == Some(&b'\'') =>
            {
                self.advance(1);
                self.string(b'\'', true);
            }
            // Bits and hexadecimal; national characters.
            b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if self.rest.get(1) == Some(&b'\'') => {
                self.advance(1);
                self.string(b'\'', backslashes);
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.rest.get(1).is_some_and(u8::is_ascii_digit)
                && !self.out.ends_with(is_word) =>
            {
                self.number();
            }
            b'$' | b'?' => {
                self.advance(1);
                let digits = count(self.rest, u8::is_ascii_digit);
                self.advance(digits);
                self.watch.placeholder();
                self.literal();
            }
            _ if is_word_byte(byte) => {
                let len = count(self.rest, |byte| is_word_byte(*byte) || *byte == b'$');
                let word = self.advance(len).to_ascii_lowercase();
                self.watch.word(&word, false);
                self.word(&word);
            }
            _ => {
                self.advance(1);
                // Everything else is one character of ASCII, or no SQL.
                if byte.is_ascii_graphic() {
                    self.mark(byte);
                }
            }
        }
    }

    fn advance(&mut self, len: usize) -> &'a [u8] {
        let (part, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        part
    }

    /// MySQL wants a space after them; otherwise they subtract a negative number.
    fn dashes_comment(&self) -> bool {
        let after = self.rest.get(2);
        self.dialect != Dialect::MySql || after.is_none_or(|byte| *byte <= b' ')
    }

    fn line_comment(&mut self) {
        let follows_code = self.follows_code();
        let len = count(self.rest, |byte| *byte != b'\n');
        self.advance(len);
        self.end_comment(follows_code);
    }

    /// Whether there is code before this on the same line.
    fn follows_code(&self) -> bool {
        let read = self.text.len().saturating_sub(self.rest.len());
        let before = self.text.get(..read).unwrap_or_default();
        let line = before.rsplit(|byte| *byte == b'\n').next();
        line.is_some_and(|line| !line.trim_ascii().is_empty())
    }

    /// A comment that nothing closed.
    fn end_comment(&mut self, follows_code: bool) {
        if self.rest.is_empty() && self.whole && follows_code {
            self.watch.comment_tail();
        }
    }

    fn block_comment(&mut self) {
        let follows_code = self.follows_code();
        let nests = matches!(self.dialect, Dialect::Postgres | Dialect::MsSql);
        let mut depth = 0_u32;
        while !self.rest.is_empty() {
            if self.rest.starts_with(b"/*") && (nests || depth == 0) {
                depth = depth.saturating_add(1);
                self.advance(2);
            } else if self.rest.starts_with(b"*/") {
                depth = depth.saturating_sub(1);
                self.advance(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.advance(1);
            }
        }
        self.end_comment(follows_code);
    }

    /// A quoted string, or what there is of it.
    fn string(&mut self, quote: u8, escapes: bool) {
        self.advance(1);
        let from = self.rest;
        while let Some(byte) = self.rest.first().copied() {
            self.advance(1);
            if byte == b'\\' && escapes {
                self.advance(1);
            } else if byte == quote {
                // Doubled, it stands for itself.
                if self.rest.first() != Some(&quote) {
                    break;
                }
                self.advance(1);
            }
        }
        let len = from.len().saturating_sub(self.rest.len());
        let raw = from.get(..len).unwrap_or_default();
        self.watch
            .literal(raw.strip_suffix(&[quote]).unwrap_or(raw), true);
        self.literal();
    }

    /// `q'[…]'`, the quote's `q` behind.
    fn oracle_string(&mut self) {
        let open = self.rest.get(1).copied().unwrap_or_default();
        let close = match open {
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            b'(' => b')',
            other => other,
        };
        self.advance(2);
        let end = self.rest.windows(2).position(|pair| pair == [close, b'\'']);
        let raw = self.advance(end.unwrap_or(usize::MAX));
        self.advance(2);
        self.watch.literal(raw, true);
        self.literal();
    }

    /// `$tag$…$tag$`; says whether it was one.
    fn dollar_string(&mut self) -> bool {
        let after = self.rest.get(1..).unwrap_or_default();
        let tag = count(after, |byte| is_word_byte(*byte));
        if after.get(tag) != Some(&b'$') || after.first().is_some_and(u8::is_ascii_digit) {
            return false;
        }
        let len = tag.saturating_add(2);
        let fence = self.advance(len).to_vec();
        // The fence's first byte can't be within it, so that each place is looked at once.
        let end = self
            .rest
            .windows(fence.len())
            .position(|window| window == fence);
        let raw = self.advance(end.unwrap_or(usize::MAX));
        self.advance(fence.len());
        self.watch.literal(raw, true);
        self.literal();
        true
    }

    fn name(&mut self, quote: u8) {
        self.advance(1);
        let len = count(self.rest, |byte| *byte != quote);
        let name = self.advance(len).to_ascii_lowercase();
        self.advance(1);
        self.watch.word(&name, true);
        self.word(&name);
    }

    fn number(&mut self) {
        let len = count(self.rest, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_')
        });
        let number = self.advance(len);
        self.watch.literal(number, false);
        self.literal();
    }

    fn word(&mut self, lower: &[u8]) {
        if self.out.ends_with(is_word) {
            self.out.push(' ');
        }
        self.out.push_str(&String::from_utf8_lossy(lower));
    }

    fn literal(&mut self) {
        if self.out.ends_with(is_word) {
            self.out.push(' ');
        }
        self.out.push('?');
        if self.out.ends_with("?,?") {
            self.shorten(2);
        }
    }

    fn mark(&mut self, mark: u8) {
        self.watch.mark(mark);
        let mark = char::from(mark);
        self.out.push(mark);
        if self.out.ends_with("(?),(?)") {
            self.shorten(4);
        }
    }

    fn shorten(&mut self, by: usize) {
        self.out.truncate(self.out.len().saturating_sub(by));
    }
}

fn count(bytes: &[u8], of: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| of(byte)).count()
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// What may not stand right before a word.
fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '$' | '?') || !char.is_ascii()
}
