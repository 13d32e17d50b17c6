//! What of an answer is of interest: whether it went well, how many rows, the server's version.

use std::sync::Arc;

use super::super::text::text;
use super::bson::{Document, Value};

#[derive(Default)]
pub(super) struct Reply<'a> {
    /// Whether the command worked; `None` if that part isn't here.
    pub(super) ok: Option<bool>,
    /// The error's number.
    pub(super) code: Option<Arc<str>>,
    pub(super) rows: Option<u64>,
    /// Whether a login is over.
    pub(super) done: Option<bool>,
    /// Whether the server took up the login that came with a greeting.
    pub(super) early_login: bool,
    pub(super) version: Option<&'a [u8]>,
    /// The newest revision of the protocol that it speaks.
    pub(super) wire: Option<i64>,
}

impl<'a> Reply<'a> {
    /// `whole` if all of the document is here.
    pub(super) fn new(document: Document<'a>, whole: bool) -> Self {
        let mut reply = Self::default();
        for (name, value) in document.fields() {
            match (name, value) {
                (b"ok", value) => reply.ok = value.number().map(|ok| ok != 0),
                (b"code", value) => reply.code = value.number().map(code),
                (b"writeErrors", Value::Array(errors)) => {
                    let first = errors
                        .fields()
                        .next()
                        .and_then(|(_, error)| error.document());
                    let number = first.and_then(|error| error.get(b"code")?.number());
                    reply.code = number.map(code);
                }
                (b"done", value) => reply.done = value.number().map(|done| done != 0),
                (b"speculativeAuthenticate", Value::Document(step)) => {
                    reply.early_login = true;
                    let done = step.get(b"done").and_then(Value::number);
                    reply.done = done.map(|done| done != 0);
                }
                (b"version", Value::Text(version)) => reply.version = Some(version),
                (b"maxWireVersion", value) => reply.wire = value.number(),
                (b"n", value) => {
                    reply.rows = value.number().and_then(|rows| u64::try_from(rows).ok());
                }
                (b"cursor", Value::Document(cursor)) if whole => {
                    let batch = cursor
                        .get(b"firstBatch")
                        .or_else(|| cursor.get(b"nextBatch"));
                    reply.rows = batch.and_then(Value::array).map(count);
                }
                (b"databases" | b"users" | b"values", Value::Array(rows)) if whole => {
                    reply.rows = Some(count(rows));
                }
                _ => {}
            }
        }
        reply
    }
}

fn count(array: Document<'_>) -> u64 {
    array.fields().fold(0, |sum: u64, _| sum.saturating_add(1))
}

fn code(number: i64) -> Arc<str> {
    text(number.to_string().as_bytes(), 16)
}
