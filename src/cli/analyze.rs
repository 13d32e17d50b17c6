//! `spanwatch analyze`: capture files in, alerts out.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use super::options::Input;
use super::{End, output, reading};
use crate::baseline::Store;
use crate::pipeline::{EndedFlow, Task};
use crate::signature::{Severity, SignatureSet};

/// Analyze capture files and print alerts
///
/// Reads packets, follows flows, names the pod behind each address as of that moment, and reports attacks: one alert per
/// attack, with its evidence.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch analyze trace.pcap
  spanwatch analyze node1.pcap node2.pcap.gz --inventory pods.json --inventory ./cni
  tcpdump -i cni0 -w - -c 100000 | spanwatch analyze - --format json -o alerts.jsonl
  spanwatch analyze trace.pcap --inventory pods.json --baseline prod.baseline --fail-on high")]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// The learned normal, made by 'spanwatch learn'
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// Signatures that override the built-in ones, file by file
    #[arg(long, value_name = "DIR")]
    signatures: Option<PathBuf>,
    /// How alerts are written [default: text on a terminal, json otherwise]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where alerts are written [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Also write every flow, one JSON object a line ('-' for standard output)
    #[arg(long, value_name = "PATH")]
    flows: Option<PathBuf>,
    /// End with status 1 if an alert is at least this severe
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line (docs/alert.schema.json).
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FailOn {
    Low,
    Medium,
    High,
    Critical,
}

impl From<FailOn> for Severity {
    fn from(level: FailOn) -> Self {
        match level {
            FailOn::Low => Self::Low,
            FailOn::Medium => Self::Medium,
            FailOn::High => Self::High,
            FailOn::Critical => Self::Critical,
        }
    }
}

pub(super) fn run(args: &Args, quiet: bool) -> anyhow::Result<End> {
    todo!()
}
