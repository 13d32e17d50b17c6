//! The file of exceptions: TOML, all of its problems told at once, each with its line.

use std::fmt;
use std::path::Path;

use super::pattern::{Glob, PeerPattern};
use super::schedule::Schedule;
use super::{Exception, Exceptions};
use crate::signature::{Node, Problem, Reader, Scope};
use crate::time::Timestamp;

const KEYS: &[&str] = &[
    "reason",
    "owner",
    "expires",
    "signatures",
    "workloads",
    "labels",
    "peers",
    "schedule",
];

/// A file of exceptions that can't be used: all its problems.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExceptionError {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ExceptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "{only}"),
            problems => {
                write!(f, "{} problems with exceptions", problems.len())?;
                for problem in problems {
                    write!(f, "\n  {problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ExceptionError {}

impl Exceptions {
    /// Reads the exceptions in a file's text. `signatures` are the ids there are: a pattern that matches none is a mistake.
    ///
    /// # Errors
    /// With every problem of the file.
    pub fn parse(file: &Path, text: &str, signatures: &[&str]) -> Result<Self, ExceptionError> {
        let (mut reader, document) =
            Reader::open(file, text).map_err(|problems| ExceptionError { problems })?;
        let root = Scope {
            table: document.get_ref(),
            start: None,
            prefix: "",
        };
        reader.refuse_unknown(root, &["exception"]);
        let list = root.table.get("exception").and_then(|node| {
            reader.list("exception", node, |reader, _, node| {
                exception(reader, file, text, node, signatures)
            })
        });
        if root.table.get("exception").is_none() {
            reader.report(None, "holds no [[exception]]");
        }
        let problems = reader.into_problems();
        match list {
            Some(list) if problems.is_empty() => Ok(Self(list)),
            _ => Err(ExceptionError { problems }),
        }
    }
}

fn exception(
    reader: &mut Reader<'_>,
    file: &Path,
    text: &str,
    node: &Node<'_>,
    signatures: &[&str],
) -> Option<Exception> {
    let scope = reader.scope("exception", "exception.", node)?;
    reader.refuse_unknown(scope, KEYS);
    let line = |reader: &mut Reader<'_>, name: &str, node: &Node<'_>| {
        reader.line(name, node).map(str::to_owned)
    };
    let reason = reader.field(scope, "reason", None, line);
    let owner = reader.field(scope, "owner", None, line);
    let expires = reader.field(scope, "expires", None, expiry);
    let globs = |reader: &mut Reader<'_>, name: &str, node: &Node<'_>| {
        reader.list(name, node, |reader, name, node| {
            Some(Glob::new(reader.line(name, node)?))
        })
    };
    let ids = reader.field(
        scope,
        "signatures",
        Some(Vec::new()),
        |reader, name, node| {
            reader.list(name, node, |reader, name, node| {
                let pattern = reader.line(name, node)?;
                let glob = Glob::new(pattern);
                if signatures.iter().any(|id| glob.matches(id)) {
                    return Some(glob);
                }
                let message = format!(
                    "no signature is called {pattern:?}; 'spanwatch signatures list' shows them"
                );
                reader.report(Some(node.span().start), message);
                None
            })
        },
    );
    let workloads = reader.field(
        scope,
        "workloads",
        Some(Vec::new()),
        |reader, name, node| globs(reader, name, node),
    );
    let labels = reader.field(scope, "labels", Some(Vec::new()), |reader, name, node| {
        let table = reader.scope(name, "exception.labels.", node)?.table;
        let read: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let value = reader.line(&format!("{name}.{}", key.get_ref()), value)?;
                Some((key.get_ref().as_ref().into(), Glob::new(value)))
            })
            .collect();
        read.into_iter().collect()
    });
    let peers = reader.field(scope, "peers", Some(Vec::new()), |reader, name, node| {
        reader.list(name, node, |reader, name, node| {
            Some(PeerPattern::new(reader.line(name, node)?))
        })
    });
    let schedule = reader.field(
        scope,
        "schedule",
        Some(Schedule::default()),
        |reader, name, node| {
            let mut schedule = Schedule::default();
            let times = reader.list(name, node, |reader, name, node| {
                let added = schedule.add(reader.line(name, node)?);
                added
                    .map_err(|wrong| reader.report(Some(node.span().start), wrong))
                    .ok()
            });
            times.map(|_| schedule)
        },
    );
    let limits = ["signatures", "workloads", "labels", "peers"];
    if limits.iter().all(|key| scope.table.get(*key).is_none()) {
        let message = "an exception must name signatures, workloads, labels or peers: this one would silence everything";
        reader.report(scope.start, message);
        return None;
    }
    // Where the header stands, as an editor has it.
    let start = scope
        .start
        .and_then(|start| text.get(..start))
        .unwrap_or(text);
    let at = start.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let name = file.file_name().map_or_else(
        || file.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    Some(Exception {
        reason: reason?,
        owner: owner?,
        place: format!("{name}:{at}"),
        expires: expires?,
        signatures: ids?,
        workloads: workloads?,
        labels: labels?,
        peers: peers?,
        schedule: schedule?,
    })
}

/// A date (its first moment, UTC), a date and time with its zone, or `never`.
fn expiry(reader: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<Timestamp> {
    let text = match node.get_ref().as_datetime() {
        Some(time) => time.to_string(),
        None => reader.line(name, node)?.to_owned(),
    };
    if text == "never" {
        return Some(Timestamp::MAX);
    }
    let date = text
        .parse::<jiff::civil::Date>()
        .ok()
        .filter(|_| text.len() == 10);
    let moment = match date {
        Some(date) => date
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp()),
        None => text.parse::<jiff::Timestamp>().ok(),
    };
    let Some(moment) = moment else {
        let message = format!(
            "`{name}` must be a date (2026-12-31), a time with its zone (2026-12-31T06:00:00Z), or \"never\""
        );
        reader.report(Some(node.span().start), message);
        return None;
    };
    let nanos = i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX);
    Some(Timestamp::from_nanos(nanos))
}
