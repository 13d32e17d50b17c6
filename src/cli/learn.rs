//! `spanwatch learn`: capture files into a baseline.

use std::path::PathBuf;

use tracing::warn;

use super::options::Input;
use super::reading::{self, Listing};
use super::{End, output};
use crate::baseline::Store;
use crate::pipeline::{Task, Verdict};
use crate::report::counted;
use crate::signature::SignatureSet;

/// Learn what each workload normally does
///
/// Updates the baseline file with what the captures show; a file that doesn't exist is begun. What looks like an attack is
/// not learned: it is told on standard error, and 'spanwatch analyze' reports it as ever.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch learn monday.pcap --inventory pods.json --baseline prod.baseline
  spanwatch learn tuesday.pcap --inventory pods.json --baseline prod.baseline   (adds to it)")]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// The baseline file to make or update
    #[arg(long, value_name = "PATH")]
    baseline: PathBuf,
    /// What somebody has allowed (docs/exceptions.md), and so is learned
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// Signatures that override the built-in ones, file by file
    #[arg(long, value_name = "DIR")]
    signatures: Option<PathBuf>,
}

pub(super) fn run(args: &Args, quiet: bool) -> anyhow::Result<End> {
    let signatures = SignatureSet::load(args.signatures.as_deref())?;
    let exceptions = reading::exceptions(args.exceptions.as_deref(), &signatures)?;
    let journal = reading::journal(&args.input.inventory)?;
    let captures = reading::captures(&args.input)?;
    // Locked from here on, so that nobody else's update is lost.
    let store = Store::create(&args.baseline)?;
    let task = Task::Learn {
        signatures,
        baseline: store.load()?,
        exceptions,
    };
    let read = reading::read(captures, journal, task, quiet, Listing::Nothing)?;
    if let Some(baseline) = &read.verdict.baseline {
        store.save(baseline)?;
        left_out(&read.verdict);
        if !quiet {
            output::note(&format!(
                "learned from {} packets: {} workloads in {}\n",
                read.verdict.stats.packets,
                baseline.profiles().len(),
                args.baseline.display()
            ));
        }
    }
    reading::whole(&read)?;
    Ok(End::Clean)
}

/// Tells what was not learned, and why.
pub(super) fn left_out(verdict: &Verdict) {
    for withheld in &verdict.withheld {
        let alert = verdict
            .alerts
            .iter()
            .find(|alert| alert.id == withheld.alert);
        let Some(alert) = alert.filter(|_| withheld.minutes > 0 || withheld.peers > 0) else {
            continue;
        };
        let what = match (withheld.minutes, withheld.peers) {
            (0, peers) => counted(peers, "peer"),
            (minutes, 0) => counted(minutes, "minute"),
            (minutes, peers) => format!(
                "{} and {}",
                counted(minutes, "minute"),
                counted(peers, "peer")
            ),
        };
        warn!(
            "{what} not learned because of {} (alert {}): {}",
            alert.signature.id,
            alert.id,
            alert.sentence()
        );
    }
}
