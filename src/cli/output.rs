//! Where words go: standard output for results, standard error for everything else; a closed pipe is no failure.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A result file, or standard output for none or `-`.
pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Box<dyn Write>> {
    match path {
        Some(path) if path.as_os_str() != "-" => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Box::new(BufWriter::new(file)))
        }
        _ => Ok(Box::new(BufWriter::new(io::stdout().lock()))),
    }
}

/// Whether a result written to `path` is read by a person at a terminal.
pub(super) fn is_terminal(path: Option<&Path>) -> bool {
    path.is_none_or(|path| path.as_os_str() == "-") && io::stdout().is_terminal()
}

/// Whether colour is welcome there (<https://no-color.org>).
pub(super) fn colour(terminal: bool) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "NO_COLOR is a wish about output, no configuration"
    )]
    let refused = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    terminal && !refused
}

/// Whether an error is only that nobody reads on.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Tells why the command could not run.
#[expect(
    clippy::print_stderr,
    reason = "the one place that says why the program ends"
)]
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("spanwatch: {error:#}");
}

/// Writes a block of text to standard error.
#[expect(
    clippy::print_stderr,
    reason = "the summary is for people, beside the results"
)]
pub(super) fn note(text: &str) {
    eprint!("{text}");
}

/// Log lines as people read them: `warning: …`.
pub(super) fn log_to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .event_format(Plain)
        .init();
}

struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let word = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "note",
        };
        write!(writer, "{word}: ")?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
