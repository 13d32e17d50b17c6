//! Reading a TOML document key by key, noting every problem with its line and going on.
//!
//! Owns places and wording. Knows nothing of signatures.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// More than this many problems of one file help nobody, and keep the work linear in the file.
const MOST_PROBLEMS: usize = 100;

/// A value with its place in the text.
pub(crate) type Node<'t> = Spanned<DeValue<'t>>;

/// A table, with the place to name when something is missing from it.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'d, 't> {
    pub(crate) table: &'d DeTable<'t>,
    /// Byte offset of its header; `None` for the document itself.
    pub(crate) start: Option<usize>,
    /// What to put before its keys: `ads.`; empty for the document itself.
    pub(crate) prefix: &'d str,
}

/// Collects the problems of one file.
pub(crate) struct Reader<'t> {
    file: PathBuf,
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// Parses the document, or reports every error of syntax. With those, nothing else can be said for certain.
    pub(crate) fn open(
        file: &Path,
        text: &'t str,
    ) -> Result<(Self, Spanned<DeTable<'t>>), Vec<Problem>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self {
            file: file.to_owned(),
            text,
            problems: Vec::new(),
        };
        for error in &errors {
            let at = error.span().map(|span| span.start);
            reader.report(at, error.message().replace('\n', " "));
        }
        if errors.is_empty() {
            Ok((reader, document))
        } else {
            Err(reader.into_problems())
        }
    }

    /// The problems, in the order of the text.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    pub(crate) fn report(&mut self, at: Option<usize>, message: impl Into<String>) {
        if self.problems.len() >= MOST_PROBLEMS {
            return;
        }
        let line = at.map_or(0, |offset| {
            let before = self.text.get(..offset).unwrap_or(self.text);
            before.bytes().filter(|&byte| byte == b'\n').count() + 1
        });
        self.problems.push(Problem {
            file: self.file.clone(),
            line,
            message: message.into(),
        });
    }

    /// Reads `key` of a table by `read`, which reports what it dislikes; falls back on `inherited` where there is no such
    /// key, and reports it missing where there is nothing to fall back on.
    pub(crate) fn field<'d, 'n, T>(
        &mut self,
        scope: Scope<'d, 'n>,
        key: &str,
        inherited: Option<T>,
        read: impl FnOnce(&mut Self, &str, &'d Node<'n>) -> Option<T>,
    ) -> Option<T> {
        let name = format!("{}{key}", scope.prefix);
        match scope.table.get(key) {
            Some(node) => read(self, &name, node),
            None if inherited.is_some() => inherited,
            None => {
                self.report(scope.start, format!("`{name}` is missing"));
                None
            }
        }
    }

    /// Reports keys that aren't in `known`.
    pub(crate) fn refuse_unknown(&mut self, scope: Scope<'_, '_>, known: &[&str]) {
        for key in scope.table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let message = format!(
                    "unknown key `{}{}`; known are {}",
                    scope.prefix,
                    printable(key.get_ref()),
                    known.join(", ")
                );
                self.report(Some(key.span().start), message);
            }
        }
    }

    /// A text with something in it.
    pub(crate) fn text<'d>(&mut self, name: &str, node: &'d Node<'_>) -> Option<&'d str> {
        let Some(text) = node.get_ref().as_str() else {
            self.wrong_type(name, "a string", node);
            return None;
        };
        if text.trim().is_empty() {
            self.report(Some(node.span().start), format!("`{name}` is empty"));
            return None;
        }
        Some(text)
    }

    /// A text of one line, fit for a heading or a step.
    pub(crate) fn line<'d>(&mut self, name: &str, node: &'d Node<'_>) -> Option<&'d str> {
        let text = self.text(name, node)?;
        if text.chars().any(char::is_control) {
            self.report(
                Some(node.span().start),
                format!("`{name}` must be one line without control characters"),
            );
            return None;
        }
        Some(text)
    }

    /// A number, written with or without a point.
    pub(crate) fn number(&mut self, name: &str, node: &Node<'_>) -> Option<f64> {
        let number = match scalar(node.get_ref()) {
            Some(toml::Value::Integer(number)) => Some(number as f64),
            Some(toml::Value::Float(number)) => Some(number),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(name, "a number", node);
        }
        number
    }

    /// A yes or no.
    pub(crate) fn flag(&mut self, name: &str, node: &Node<'_>) -> Option<bool> {
        if let DeValue::Boolean(flag) = node.get_ref() {
            return Some(*flag);
        }
        self.wrong_type(name, "true or false", node);
        None
    }

    /// One of a closed list of words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &str,
        node: &Node<'_>,
        all: &[T],
        label: fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text(name, node)?;
        let found = all.iter().copied().find(|&one| label(one) == text);
        if found.is_none() {
            let words: Vec<_> = all.iter().map(|&one| label(one)).collect();
            self.report(
                Some(node.span().start),
                format!(
                    "`{name}` is \"{}\"; it may be {}",
                    printable(text),
                    words.join(", ")
                ),
            );
        }
        found
    }

    /// The items of an array, each read by `read`; `None` if one of them was no good.
    pub(crate) fn list<'d, 'n, T>(
        &mut self,
        name: &str,
        node: &'d Node<'n>,
        mut read: impl FnMut(&mut Self, &str, &'d Node<'n>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(items) = node.get_ref().as_array() else {
            self.wrong_type(name, "an array", node);
            return None;
        };
        // All are read, so that all problems are found.
        let read: Vec<Option<T>> = items
            .iter()
            .map(|item| read(self, &format!("{name}[]"), item))
            .collect();
        read.into_iter().collect()
    }

    /// A table as a scope of its own.
    pub(crate) fn scope<'d, 'n>(
        &mut self,
        name: &str,
        prefix: &'d str,
        node: &'d Node<'n>,
    ) -> Option<Scope<'d, 'n>> {
        let Some(table) = node.get_ref().as_table() else {
            self.wrong_type(name, "a table", node);
            return None;
        };
        Some(Scope {
            table,
            start: Some(node.span().start),
            prefix,
        })
    }

    pub(crate) fn wrong_type(&mut self, name: &str, expected: &str, node: &Node<'_>) {
        let Range { start, .. } = node.span();
        let found = node.get_ref().type_str();
        self.report(
            Some(start),
            format!(
                "`{name}` must be {expected}, not {} {found}",
                article(found)
            ),
        );
    }
}

/// Most words in a list of a threshold.
const MOST_WORDS: usize = 1024;

/// A boolean, number, string or list of strings as an owned value; `None` for anything else, and for numbers out of range.
pub(crate) fn scalar(value: &DeValue<'_>) -> Option<toml::Value> {
    Some(match value {
        DeValue::Boolean(value) => toml::Value::Boolean(*value),
        DeValue::String(value) => toml::Value::String(value.to_string()),
        DeValue::Integer(value) => {
            toml::Value::Integer(i64::from_str_radix(value.as_str(), value.radix()).ok()?)
        }
        DeValue::Float(value) => {
            let number: f64 = value.as_str().parse().ok()?;
            toml::Value::Float(number.is_finite().then_some(number)?)
        }
        DeValue::Array(items) if items.len() <= MOST_WORDS => {
            let word = |item: &Node<'_>| match item.get_ref() {
                DeValue::String(word) => Some(toml::Value::String(word.to_string())),
                _ => None,
            };
            toml::Value::Array(items.iter().map(word).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// A word from a file as it may be shown on a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}
