//! Where a live run's alerts and flows go: files that are added to, or standard output.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::LiveArgs;
use crate::cli::analyze::Format;
use crate::cli::output;
use crate::report::{TextOptions, alert_text};
use crate::runtime::Outputs;
use crate::sinks::{AlertFormat, AlertWriter, RecordWriter};

/// Where alerts and flows go, and how.
#[derive(Clone)]
pub(super) struct Sinks {
    pub(super) output: Option<PathBuf>,
    pub(super) flows: Option<PathBuf>,
    text: bool,
}

impl Sinks {
    pub(super) fn of(args: &LiveArgs) -> Self {
        Self {
            output: args.output.clone(),
            flows: args.flows.clone(),
            text: match args.format {
                Some(format) => format == Format::Text,
                None => output::is_terminal(args.output.as_deref()),
            },
        }
    }

    pub(super) fn open(&self) -> anyhow::Result<Outputs> {
        let path = self.output.as_deref();
        let format = if self.text {
            let options = TextOptions {
                colour: output::colour(output::is_terminal(path)),
            };
            AlertFormat::Text(Box::new(move |alert| alert_text(alert, options)))
        } else {
            AlertFormat::Json
        };
        let name = |path: Option<&Path>| {
            path.map_or("standard output".to_owned(), |path| {
                path.display().to_string()
            })
        };
        let flows = self.flows.as_deref();
        Ok(Outputs {
            alerts: AlertWriter::new(open(path)?, name(path), format),
            flows: match flows {
                Some(_) => Some(RecordWriter::new(open(flows)?, name(flows))),
                None => None,
            },
        })
    }
}

/// A file to add to, for a run of months is started more than once; or standard output.
fn open(path: Option<&Path>) -> anyhow::Result<Box<dyn Write + Send>> {
    match path {
        Some(path) if path.as_os_str() != "-" => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Box::new(BufWriter::new(file)))
        }
        _ => Ok(Box::new(BufWriter::new(io::stdout()))),
    }
}

/// The directories of everything that is written.
pub(super) fn writable(args: &LiveArgs) -> Vec<PathBuf> {
    let baseline = args.baseline.iter().filter(|_| args.learn);
    let files = args
        .output
        .iter()
        .chain(&args.flows)
        .chain(&args.spool)
        .chain(&args.state);
    let files = files.chain(baseline);
    let parents = files.filter_map(|file| std::path::absolute(file).ok());
    let mut all: Vec<PathBuf> = parents
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    all.extend(args.evidence.clone());
    all
}
