//! `spanwatch learn`: capture files into a baseline.

use std::path::PathBuf;

use super::options::Input;
use super::{End, output, reading};
use crate::baseline::Store;
use crate::pipeline::Task;

/// Learn what each workload normally does
///
/// Updates the baseline file with what the captures show; a file that doesn't exist is begun. Nothing is reported.
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
}

pub(super) fn run(args: &Args, quiet: bool) -> anyhow::Result<End> {
    let journal = reading::journal(&args.input)?;
    let captures = reading::captures(&args.input)?;
    // Locked from here on, so that nobody else's update is lost.
    let store = Store::create(&args.baseline)?;
    let task = Task::Learn(store.load()?);
    let read = reading::read(captures, journal, task, quiet, None)?;
    if let Some(baseline) = &read.verdict.baseline {
        store.save(baseline)?;
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
