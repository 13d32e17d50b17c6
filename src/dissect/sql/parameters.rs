//! Whether the parameters of a web request look like pieces of SQL that want to get out of where they are put.
//!
//! An application puts a parameter into a statement as a number or between quotes. The statement is made up for both,
//! and read like any other: what breaks out leaves its marks. Nothing of the parameters is kept.

use std::borrow::Cow;

use super::{DatabaseEvent, Dialect, Marks, statement};

/// Parameters looked at in a request, and bytes of each.
const MAX_PARAMETERS: usize = 32;
const MAX_VALUE: usize = 1024;
/// A shorter value can't do anything.
const MIN_VALUE: usize = 5;

/// Without one of these no value is worth a closer look.
const TELLING: [&[u8]; 12] = [
    b"select",
    b"union",
    b" or ",
    b" and ",
    b"||",
    b"sleep",
    b"waitfor",
    b"benchmark",
    b"--",
    b"/*",
    b"#",
    b";",
];

/// The signs of injection in a request's parameters (`name=value&name=value`), each undone by `decode`.
pub(in crate::dissect) fn parameter_marks(
    parameters: &[u8],
    decode: impl Fn(&[u8]) -> Cow<'_, [u8]>,
) -> Marks {
    let values = parameters
        .split(|byte| *byte == b'&')
        .take(MAX_PARAMETERS)
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            pair.get(at.saturating_add(1)..)
        });
    let mut marks = Marks::empty();
    for value in values {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if value.len() < MIN_VALUE || value.iter().all(plain) {
            continue;
        }
        let value = decode(value.get(..MAX_VALUE).unwrap_or(value));
        let lower = value.to_ascii_lowercase();
        let telling = |word: &&[u8]| lower.windows(word.len()).any(|part| part == *word);
        if TELLING.iter().any(telling) {
            for (before, after) in [(&b""[..], &b""[..]), (b"'", b"'"), (b"\"", b"\"")] {
                let start = b"SELECT a FROM t WHERE b=";
                let text = [start, before, &value, after].concat();
                marks |= marks_of(&text);
            }
        }
    }
    marks & Marks::INJECTION
}

fn marks_of(text: &[u8]) -> Marks {
    match statement(text, text.len() as u64, Dialect::MySql) {
        DatabaseEvent::Statement { marks, .. } => marks,
        _ => Marks::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(value: &str) -> Marks {
        let query = format!("page=2&id={value}&Submit=Submit");
        parameter_marks(query.as_bytes(), |value| Cow::Borrowed(value))
    }

    #[test]
    fn what_breaks_out_is_seen() {
        for (value, least) in [
            ("%' or '0'='0", Marks::TAUTOLOGY),
            ("1 OR 7=7", Marks::TAUTOLOGY),
            ("1) AND 4120=4120 AND (77=77", Marks::TAUTOLOGY),
            (
                "' union select null, version() #",
                Marks::UNION_CONSTANTS | Marks::COMMENT_TAIL,
            ),
            (
                "-1 UNION ALL SELECT NULL,NULL,NULL-- -",
                Marks::UNION_CONSTANTS,
            ),
            (
                "1' AND SLEEP(5)-- x",
                Marks::TIME_DELAY | Marks::COMMENT_TAIL,
            ),
            (
                "1; SELECT pg_sleep(5)--",
                Marks::STACKED | Marks::TIME_DELAY,
            ),
            (
                "1 AND EXTRACTVALUE(1,CONCAT(0x5c,(SELECT 1)))",
                Marks::ERROR_BASED,
            ),
            ("1 AND ORD(MID((SELECT 1),1,1))>64", Marks::CHAR_PROBE),
        ] {
            let found = marks(value);
            assert!(found.contains(least), "{value}: {found:?}");
        }
    }

    #[test]
    fn what_people_write_is_not() {
        for value in [
            "Procter and Gamble",
            "black or white",
            "rock'n'roll",
            "select a gift",
            "2024-01-01--2024-02-01",
            "color:#fff; width:10px",
            "a=1;b=2",
            "union square (sf)",
            "SELECT name FROM users WHERE id=3",
        ] {
            let strong = Marks::INJECTION - Marks::COMMENT_TAIL;
            assert!(
                !marks(value).intersects(strong),
                "{value}: {:?}",
                marks(value)
            );
        }
    }
}
