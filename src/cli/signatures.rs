//! `spanwatch signatures`: what is detected, how it is set, and whether it still works.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{End, output};
use crate::signature::{SignatureSet, page, parse};

/// List, show, check and test detections
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch signatures list
  spanwatch signatures show dns-tunnel
  spanwatch signatures check my-signatures/dns-tunnel.toml
  spanwatch signatures test --captures captures")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Signatures that override the built-in ones, file by file
    #[arg(long, value_name = "DIR", global = true)]
    signatures: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// One line per signature: id, category, severity, status, title
    List,
    /// A signature's whole page
    Show {
        /// Its id, as 'list' prints it
        id: String,
    },
    /// Check signature files; every problem is told with its line
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Run signatures against their captures: attacks must alert, benign traffic must not
    Test {
        /// Only these
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Where the captures are: a folder per signature, with case.toml
        #[arg(long, value_name = "DIR", default_value = "captures")]
        captures: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<End> {
    let set = SignatureSet::load(args.signatures.as_deref())?;
    match &args.action {
        Action::List => list(&set),
        Action::Show { id } => show(&set, id),
        Action::Check { files } => check(files),
        Action::Test { ids, captures } => super::cases::run(&set, ids, captures),
    }
}

fn list(set: &SignatureSet) -> anyhow::Result<End> {
    let mut out = output::open(None)?;
    for signature in set.iter() {
        writeln!(
            out,
            "{:19} {:12} {:8} {:10} {}",
            signature.id,
            signature.category.label(),
            signature.severity.label(),
            signature.status.label(),
            signature.title
        )?;
    }
    out.flush()?;
    Ok(End::Clean)
}

fn show(set: &SignatureSet, id: &str) -> anyhow::Result<End> {
    let Some(signature) = set.get(id) else {
        let known: Vec<&str> = set.iter().map(|signature| signature.id.as_str()).collect();
        bail!("no signature {id:?}; there are {}", known.join(", "));
    };
    let mut out = output::open(None)?;
    out.write_all(page(signature).as_bytes())?;
    out.flush()?;
    Ok(End::Clean)
}

fn check(files: &[PathBuf]) -> anyhow::Result<End> {
    let builtin = SignatureSet::builtin()?;
    let mut problems = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let base = stem(file).and_then(|id| builtin.get(id));
        if let Err(error) = parse(file, &text, base.map(|base| &**base)) {
            problems.push(error.to_string());
        }
    }
    if problems.is_empty() {
        let mut out = output::open(None)?;
        writeln!(out, "{} without problem", files.len())?;
        out.flush()?;
        Ok(End::Clean)
    } else {
        bail!("{}", problems.join("\n"))
    }
}

fn stem(file: &Path) -> Option<&str> {
    file.file_stem()?.to_str()
}
