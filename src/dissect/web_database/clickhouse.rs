//! ClickHouse over HTTP: a statement in the parameters, in the body, or begun in the one and ended in the other.
//!
//! Of a body no more is kept than is read of a statement. Where nothing else of the request speaks of ClickHouse, a body
//! that begins like a statement is believed once the answer does. Compressed bodies and rows to insert aren't read.

use super::{Ask, Parameters, Request, state};
use crate::dissect::sql::{Dialect, MAX_STATEMENT, begins_statement, statement};
use crate::dissect::{DatabaseEvent, Marks, StatementClass, buffer};

/// What a body may add to a request's statement.
pub(super) struct Expected {
    /// Whether the request is to ClickHouse whatever its body says.
    pub(super) certain: bool,
    /// The part of the statement in the parameters.
    before: Vec<u8>,
    /// The body's length, where it was declared.
    declared: Option<u64>,
}

/// What a request asks, as far as that can be told without its body; and what its body may add.
pub(super) fn ask(
    request: &Request<'_>,
    path: &[u8],
    parameters: Parameters<'_>,
) -> Option<(DatabaseEvent, Option<Expected>)> {
    if path != b"/" {
        return None;
    }
    let mut expected = Expected {
        certain: true,
        before: Vec::new(),
        declared: Some(request.content_length).filter(|length| *length > 0),
    };
    // ClickHouse's own compression is asked for by a parameter.
    let readable = request.method == b"POST"
        && !request.compressed
        && parameters
            .get(b"decompress")
            .is_none_or(|value| *value == b"0"[..]);
    let query = parameters.get(b"query");
    if let Some(query) = query.filter(|query| begins(query)) {
        let event = statement(&query, query.len() as u64, Dialect::ClickHouse);
        // What follows an INSERT are rows.
        let goes_on = readable
            && query.len() < MAX_STATEMENT
            && !matches!(event, DatabaseEvent::Statement { verb: "INSERT", .. });
        if goes_on {
            expected.before = [&query, &b"\n"[..]].concat();
        }
        return Some((event, goes_on.then_some(expected)));
    }
    expected.certain = request.clickhouse_user.is_some()
        || parameters.get(b"default_format").is_some() && parameters.get(b"database").is_some();
    if request.method != b"POST" || !expected.certain && !readable {
        return None;
    }
    let other = StatementClass::Other;
    let event = state("OTHER", other, Marks::empty(), &[b"POST"], request);
    Some((event, readable.then_some(expected)))
}

/// Whether a text is a statement is judged by so many first bytes.
const BEGINNING: usize = 64;

fn begins(query: &[u8]) -> bool {
    // A verb alone ends here.
    let whole = [query.get(..BEGINNING).unwrap_or(query), b";"].concat();
    begins_statement(&whole) == Some(true)
}

/// A request whose body is on its way.
pub(super) struct Reading {
    ask: Box<Ask>,
    expected: Expected,
    /// The statement, as far as it has come; at most [`MAX_STATEMENT`] bytes.
    text: Vec<u8>,
}

impl Reading {
    /// Begins, if a body may add something.
    pub(super) fn new(mut ask: Box<Ask>) -> Result<Self, Box<Ask>> {
        let Some(mut expected) = ask.expected.take() else {
            return Err(ask);
        };
        Ok(Self {
            ask,
            text: std::mem::take(&mut expected.before),
            expected,
        })
    }

    /// Takes more of the body; whether still more is wanted.
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
        let room = MAX_STATEMENT.saturating_sub(self.text.len());
        let part = data.get(..room).unwrap_or(data);
        // It fits: there is room for it.
        let _fits = buffer::append(&mut self.text, part, MAX_STATEMENT);
        // Not before all of its beginning is here, so that cuts decide nothing.
        let may_be = self.expected.certain || self.text.len() < BEGINNING || begins(&self.text);
        may_be && self.text.len() < MAX_STATEMENT
    }

    /// The body is over, or enough of it is here. The request with its statement, and whether it is to ClickHouse for certain;
    /// nothing if it isn't.
    pub(super) fn end(self) -> Option<(Box<Ask>, bool)> {
        let Self {
            mut ask,
            expected,
            text,
        } = self;
        if begins(&text) {
            let length = match expected.declared {
                Some(declared) if text.len() >= MAX_STATEMENT => declared,
                _ => text.len() as u64,
            };
            ask.event = statement(&text, length, Dialect::ClickHouse);
        } else if !expected.certain {
            return None;
        }
        Some((ask, expected.certain))
    }
}
