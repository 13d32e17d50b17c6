//! `spanwatch signatures`: what is detected, how it is set, and whether it still works.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};

use super::{End, output};
use crate::signature::{Requirement, Signature, SignatureSet, page, parse};

/// List, show, check and test detections
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch signatures list
  spanwatch signatures list --tap uplink
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
    /// One line per signature: id, category, severity, status, ATT&CK, what a tap must show, title
    List {
        /// Say of each whether it sees or is blind at such a tap
        #[arg(long, value_name = "TAP")]
        tap: Option<Tap>,
    },
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

/// Where packets are taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Tap {
    /// The node's bridge, or its ends of the pods' interfaces
    Bridge,
    /// A pod's own interfaces, as a sidecar sees them
    Pod,
    /// The same between a service mesh's proxies, where everything is encrypted
    Mesh,
    /// The node's own interface, where pods that call outside bear the node's address
    Uplink,
    /// A mirror port at the rack: what leaves nodes
    Mirror,
    /// A mirror port that shows one direction alone
    OneWay,
}

impl Tap {
    /// What it shows.
    const fn shown(self) -> &'static [Requirement] {
        use Requirement::{BothDirections, Plaintext, PodSide, Uplink};
        match self {
            Self::Bridge | Self::Pod => &[PodSide, BothDirections, Plaintext],
            Self::Mesh => &[PodSide, BothDirections],
            Self::Uplink | Self::Mirror => &[Uplink, BothDirections, Plaintext],
            Self::OneWay => &[Uplink, Plaintext],
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<End> {
    let set = SignatureSet::load(args.signatures.as_deref())?;
    match &args.action {
        Action::List { tap } => list(&set, *tap),
        Action::Show { id } => show(&set, id),
        Action::Check { files } => check(files),
        Action::Test { ids, captures } => super::cases::run(&set, ids, captures),
    }
}

fn list(set: &SignatureSet, tap: Option<Tap>) -> anyhow::Result<End> {
    let mut out = output::open(None)?;
    for signature in set.iter() {
        let techniques = signature.attack.iter();
        let techniques: Vec<&str> = techniques.map(|one| one.technique.as_str()).collect();
        let needs = labels(&signature.requires);
        write!(
            out,
            "{:19} {:12} {:8} {:10} ",
            signature.id,
            signature.category.label(),
            signature.severity.label(),
            signature.status.label(),
        )?;
        if let Some(tap) = tap {
            write!(out, "{:33} ", sight(signature, tap))?;
        }
        let techniques = techniques.join(",");
        writeln!(out, "{techniques:29} {needs:34} {}", signature.title)?;
    }
    out.flush()?;
    Ok(End::Clean)
}

/// Whether a signature works at a tap, and what it lacks if it doesn't.
fn sight(signature: &Signature, tap: Tap) -> String {
    let lacks = signature.lacks(tap.shown());
    if lacks.is_empty() {
        "sees".to_owned()
    } else {
        format!("blind:{}", labels(&lacks))
    }
}

/// Requirements by their words, without blanks; a dash for none.
fn labels(requirements: &[Requirement]) -> String {
    let labels: Vec<&str> = requirements.iter().map(|one| one.label()).collect();
    if labels.is_empty() {
        "-".to_owned()
    } else {
        labels.join(",")
    }
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
