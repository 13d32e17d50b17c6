//! What stands out in Oracle's unpublished messages, and in the descriptions that listeners read.

use std::sync::Arc;

use super::super::StatementClass;
use super::super::sql::begins_statement;
use StatementClass::{Admin, Catalogue, Other};

/// Calls: to begin a login, to run a statement (several in one), to commit, to roll back.
const CALL: u8 = 0x03;
const PIGGYBACK: u8 = 0x11;
const BEGIN_LOGIN: u8 = 0x76;
const RUN: u8 = 0x5e;
const COMMIT: u8 = 0x0e;
const ROLL_BACK: u8 = 0x0f;
/// How far into a call its statement may begin.
const MAX_BEFORE: usize = 512;
/// The longest name of a user.
const MAX_USER: usize = 128;

/// The value of `NAME=value` in a description; the first of those with that name.
pub(super) fn value<'a>(description: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let wanted = name.len().checked_add(2)?;
    let place = description.windows(wanted).position(|window| {
        window.first() == Some(&b'(')
            && window.last() == Some(&b'=')
            && window
                .get(1..wanted.saturating_sub(1))
                .is_some_and(|word| word.eq_ignore_ascii_case(name))
    })?;
    let rest = description.get(place.saturating_add(wanted)..)?;
    let length = rest
        .iter()
        .take_while(|byte| !matches!(byte, b'(' | b')'))
        .count();
    rest.get(..length)
}

/// What is asked of a listener.
pub(super) fn listener_command(command: &[u8]) -> (&'static str, StatementClass) {
    let known: [(&str, StatementClass); 9] = [
        ("ping", Other),
        ("version", Catalogue),
        ("status", Catalogue),
        ("services", Catalogue),
        ("debug", Catalogue),
        ("reload", Admin),
        ("stop", Admin),
        ("save_config", Admin),
        ("log_file", Admin),
    ];
    known
        .into_iter()
        .find(|(known, _)| command.eq_ignore_ascii_case(known.as_bytes()))
        .unwrap_or(("OTHER", Admin))
}

/// A number in a description, as errors are written elsewhere.
pub(super) fn error_number(digits: &[u8]) -> Option<Arc<str>> {
    let sound = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !sound {
        return None;
    }
    let mut number = [b'0'; 5];
    for (to, from) in number.iter_mut().rev().zip(digits.iter().rev()) {
        *to = *from;
    }
    Some(super::code(&number))
}

/// The first error in an answer.
pub(super) fn error(payload: &[u8]) -> Option<Arc<str>> {
    let mut found = payload.windows(9).filter_map(|window| {
        let number = window.strip_prefix(b"ORA-")?;
        number.iter().all(u8::is_ascii_digit).then_some(number)
    });
    found.next().map(super::code)
}

/// Whether an answer to a login lets the client in: it tells about the session then.
pub(super) fn lets_in(payload: &[u8]) -> bool {
    holds(payload, b"AUTH_SESSION_ID") || holds(payload, b"AUTH_VERSION_NO")
}

fn holds(payload: &[u8], text: &[u8]) -> bool {
    payload.windows(text.len()).any(|window| window == text)
}

/// The user who begins to log in. The name stands before the first of the fields, whose names begin so; between are
/// that name's length, in one of two forms, and once more.
pub(super) fn user(payload: &[u8]) -> Option<&[u8]> {
    if !payload.starts_with(&[CALL, BEGIN_LOGIN]) {
        return None;
    }
    let fields = payload.windows(5).position(|window| window == b"AUTH_")?;
    let before = payload.get(..fields.checked_sub(1)?)?;
    let before = match *before {
        [.., _, 0, 0, 0] => before.get(..before.len().checked_sub(4)?)?,
        [.., 1, _] => before.get(..before.len().checked_sub(2)?)?,
        _ => before,
    };
    let length = before
        .iter()
        .rev()
        .take(MAX_USER)
        .take_while(|byte| byte.is_ascii_graphic())
        .count();
    before.get(before.len().checked_sub(length)?..)
}

/// The statement that a call runs and its length, as far as that is known.
pub(super) fn statement(payload: &[u8]) -> Option<(&[u8], u64)> {
    let runs = match payload {
        [CALL, RUN, ..] => true,
        // Others may come first.
        [PIGGYBACK, ..] => payload
            .get(..128)
            .unwrap_or(payload)
            .windows(2)
            .any(|pair| pair == [CALL, RUN]),
        _ => false,
    };
    if !runs {
        return None;
    }
    let mut before = 0_u8;
    for (at, byte) in payload.iter().enumerate().take(MAX_BEFORE) {
        let rest = payload.get(at..).unwrap_or_default();
        // The length before it may look like a letter.
        let is_length = || {
            rest.get(usize::from(before))
                .is_none_or(|byte| !is_text(*byte))
        };
        let starts = byte.is_ascii_alphabetic() && (!before.is_ascii_alphanumeric() || is_length());
        if starts && begins_statement(rest.get(..16).unwrap_or(rest)) == Some(true) {
            return Some(until_end(rest, before));
        }
        before = *byte;
    }
    None
}

/// A text whose length may be in the byte before it; else up to what can't be part of it.
fn until_end(text: &[u8], before: u8) -> (&[u8], u64) {
    let run = text.iter().take_while(|byte| is_text(**byte)).count();
    let length = usize::from(before);
    let length = if (1..=run).contains(&length) && !before.is_ascii_whitespace() {
        length
    } else {
        run
    };
    (text.get(..length).unwrap_or(text), length as u64)
}

const fn is_text(byte: u8) -> bool {
    byte >= b' ' || byte.is_ascii_whitespace()
}

/// The end of a transaction.
pub(super) fn transaction(payload: &[u8]) -> Option<&'static str> {
    match payload {
        [CALL, COMMIT, ..] => Some("COMMIT"),
        [CALL, ROLL_BACK, ..] => Some("ROLLBACK"),
        _ => None,
    }
}
