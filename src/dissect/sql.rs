//! SQL text: what a statement is about, and a fingerprint of it without its literals.
//!
//! No grammar, only tokens: enough to leave out what is data, however it is quoted. Which words mean what is in `words`,
//! which forms in `watch`.

mod lexer;
mod parameters;
#[cfg(test)]
mod tests;
mod watch;
mod words;

use super::{DatabaseEvent, Marks, StatementClass, fingerprint::fingerprint};
pub(super) use parameters::parameter_marks;
use words::{Words, verb_of};

/// How a product quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `"names"`, `$tag$strings$tag$`, nested comments, no backslashes but in `E'strings'`.
    Postgres,
    /// `` `names` ``, `"strings"`, backslashes, `# comments`, `/*! code */`.
    MySql,
    /// `"names"`, `[names]`, nested comments, no backslashes.
    MsSql,
    /// `"names"`, `q'[strings]'`, no backslashes.
    Oracle,
    /// `"names"`, `$$strings$$`, `// comments`, no backslashes.
    Cql,
    /// `` `names` ``, `"names"`, backslashes.
    ClickHouse,
}

/// How much of a statement is read; what comes after has no say in class and fingerprint.
pub(super) const MAX_STATEMENT: usize = 8 * 1024;

/// What the first bytes of a statement of `length` bytes tell of it.
pub(super) fn statement(text: &[u8], length: u64, dialect: Dialect) -> DatabaseEvent {
    let head = text.get(..MAX_STATEMENT).unwrap_or(text);
    let whole = length <= head.len() as u64;
    let (mut normal, mut marks) = lexer::normalise(head, dialect, whole);
    if !whole {
        // Where the list of values is cut depends on how long they are.
        let end = normal.trim_end_matches(['(', ',', '?']).len();
        normal.truncate(end);
    }
    let mut class = StatementClass::Other;
    for part in normal.split(';') {
        class = class.max(words::class_of(part, whole));
    }
    if class == StatementClass::Catalogue {
        marks.remove(Marks::BULK_READ);
    }
    if marks.intersects(Marks::ABUSE) {
        class = StatementClass::Abuse;
    }
    DatabaseEvent::Statement {
        class,
        marks,
        verb: verb_of(&normal),
        fingerprint: fingerprint(normal.as_bytes()),
        length: u32::try_from(length).unwrap_or(u32::MAX),
    }
}

/// Whether `text` begins like a statement: a verb that SQL knows, and then something else. `None` if that can't be told
/// yet.
pub(super) fn begins_statement(text: &[u8]) -> Option<bool> {
    let trimmed = text.trim_ascii_start();
    let word = trimmed
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    let Some(after) = trimmed.get(word) else {
        return (word > words::MAX_VERB || text.len() > 64).then_some(false);
    };
    let head = trimmed.get(..word).unwrap_or_default();
    let lower = String::from_utf8_lossy(head).to_ascii_lowercase();
    let ends = matches!(after, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b'\0');
    let known = Words::new(&lower).next().and_then(words::verb).is_some();
    Some(ends && known)
}
