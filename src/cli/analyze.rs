//! `spanwatch analyze`: capture files in, alerts out.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use tracing::warn;

use super::options::Input;
use super::reading::{self, Listing, Read};
use super::{End, output};
use crate::alert::{Alert, Explanation, Incident, incidents};
use crate::baseline::Store;
use crate::pipeline::{EndedFlow, Selector, Stats, Task};
use crate::report::{
    ExplanationV1, RunSummary, TextOptions, alert_text, explanation_text, incident_text,
};
use crate::signature::{Requirement, Severity, SignatureSet};
use crate::sinks::{AlertFormat, AlertWriter, Delivery, ExcerptFolder, RecordWriter};

/// Analyze capture files and print alerts
///
/// Reads packets, follows flows, names the pod behind each address as of that moment, and reports attacks: one alert per
/// attack, with its evidence.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch analyze trace.pcap
  spanwatch analyze node1.pcap node2.pcap.gz --inventory pods.json --inventory ./cni
  tcpdump -i cni0 -w - -c 100000 | spanwatch analyze - --format json -o alerts.jsonl
  spanwatch analyze trace.pcap --inventory pods.json --baseline prod.baseline --fail-on high
  spanwatch analyze trace.pcap --inventory pods.json --baseline prod.baseline --explain shop/cart,evil.example")]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// The learned normal, made by 'spanwatch learn'
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// What somebody has allowed (docs/exceptions.md): alerts that it covers are counted and not told
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// Also write the alerts that exceptions and acceptances silence, marked so
    #[arg(long)]
    show_suppressed: bool,
    /// Signatures that override the built-in ones, file by file
    #[arg(long, value_name = "DIR")]
    signatures: Option<PathBuf>,
    /// How alerts are written [default: text on a terminal, json otherwise]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where alerts are written [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Instead of alerts, write why something alerted or didn't: what a workload, pod, address or domain did (WHO), with
    /// whom (WHOM), at which port; or an alert's id, or a flow's Community ID. Repeatable
    #[arg(long, value_name = "WHO[,WHOM][,:PORT]", value_parser = Selector::parse)]
    explain: Vec<Selector>,
    /// Also write every flow, one JSON object a line ('-' for standard output)
    #[arg(long, value_name = "PATH")]
    flows: Option<PathBuf>,
    /// Also write the packets of each alert's flows into this directory: ALERT-ID.pcapng. The captures are read once more
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// End with status 1 if an alert is at least this severe
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Format {
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
    // Everything that can be wrong with what was asked is said before a long capture is read.
    let signatures = SignatureSet::load(args.signatures.as_deref())?;
    let exceptions = reading::exceptions(args.exceptions.as_deref(), &signatures)?;
    let baseline = args.baseline.as_deref().map(Store::read).transpose()?;
    let journal = reading::journal(&args.input.inventory)?;
    let captures = reading::captures(&args.input)?;
    let again = journal.clone();
    let folder = args.evidence.as_deref().map(|path| evidence(args, path));
    let folder = folder.transpose()?;
    reading::refuse_to_overwrite(&args.input, args.output.iter().chain(&args.flows))?;
    let text = match args.format {
        Some(format) => format == Format::Text,
        None => output::is_terminal(args.output.as_deref()),
    };
    let out = output::open(args.output.as_deref())?;
    let mut flow_log = match &args.flows {
        Some(path) => Some(RecordWriter::new(
            output::open(Some(path))?,
            path.display().to_string(),
        )),
        None => None,
    };
    let task = Task::Analyze {
        signatures: signatures.clone(),
        baseline,
        exceptions: exceptions.clone(),
    };
    let asked = args.explain.clone();
    let read = match &mut flow_log {
        Some(log) => {
            let mut write = |flows: Vec<EndedFlow>| write_flows(log, &flows);
            let listing = Listing::Flows(&mut write);
            reading::read_explaining(captures, journal, task, asked, quiet, listing)?
        }
        None => reading::read_explaining(captures, journal, task, asked, quiet, Listing::Nothing)?,
    };
    if let Some(log) = &mut flow_log {
        log.flush()?;
    }
    if let Some((_, last)) = read.verdict.stats.span {
        for expired in exceptions.expired(last) {
            warn!("exception expired: {expired}");
        }
    }
    if let Some(folder) = folder {
        reading::excerpts(&args.input, &again, &read.verdict.alerts, folder)?;
    }
    let incidents = incidents(&read.verdict.alerts);
    let told = if args.explain.is_empty() {
        write_alerts(args, &read, &incidents, text, out)?
    } else {
        write_explanations(&read.verdict.explanations, text, out)?
    };
    if !quiet {
        let gap = if text && told > 0 { "\n" } else { "" };
        output::note(&format!("{gap}{}", summary(&read, &signatures)));
    }
    reading::whole(&read)?;
    let own = read.verdict.alerts.iter().map(|alert| alert.severity);
    let worst = own
        .chain(incidents.iter().map(|incident| incident.severity))
        .max();
    let failed = args
        .fail_on
        .is_some_and(|level| worst.is_some_and(|worst| worst >= Severity::from(level)));
    Ok(if failed { End::Alerts } else { End::Clean })
}

/// The directory of packets; opened before a long capture is read.
fn evidence(args: &Args, path: &Path) -> anyhow::Result<ExcerptFolder> {
    if args.input.files.iter().any(|file| file.as_os_str() == "-") {
        bail!("--evidence reads captures twice, which standard input can't be: name a file");
    }
    // As much as all alerts may take.
    let folder = ExcerptFolder::open(path, u64::MAX);
    folder.with_context(|| format!("cannot write to {}", path.display()))
}

/// Writes alerts, and as text the incidents they make; returns how many.
fn write_alerts(
    args: &Args,
    read: &Read,
    incidents: &[Arc<Incident>],
    text: bool,
    out: Box<dyn Write>,
) -> anyhow::Result<usize> {
    let format = if text {
        let options = text_options(args);
        AlertFormat::Text(Box::new(move |alert| alert_text(alert, options)))
    } else {
        AlertFormat::Json
    };
    let path = args.output.as_deref();
    let name = path.map_or("standard output".to_owned(), |path| {
        path.display().to_string()
    });
    let mut writer = AlertWriter::new(out, name, format);
    let shown = args.show_suppressed.then_some(&read.verdict.suppressed);
    let alerts = read.verdict.alerts.iter();
    for alert in alerts.chain(shown.into_iter().flatten()) {
        if writer.deliver(alert)? == Delivery::Stop {
            break;
        }
    }
    for incident in incidents.iter().filter(|_| text) {
        writer.note(&incident_text(incident, text_options(args)))?;
    }
    writer.flush()?;
    Ok(read.verdict.alerts.len() + shown.map_or(0, Vec::len))
}

/// Writes why something alerted or didn't; returns how much was asked.
fn write_explanations(
    explanations: &[Explanation],
    text: bool,
    mut out: Box<dyn Write>,
) -> anyhow::Result<usize> {
    for (n, explanation) in explanations.iter().enumerate() {
        if text {
            let gap = if n > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", explanation_text(explanation))?;
        } else {
            serde_json::to_writer(&mut out, &ExplanationV1::from(explanation))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(explanations.len())
}

fn text_options(args: &Args) -> TextOptions {
    TextOptions {
        colour: output::colour(output::is_terminal(args.output.as_deref())),
    }
}

fn write_flows(log: &mut RecordWriter<Box<dyn Write>>, flows: &[EndedFlow]) -> anyhow::Result<()> {
    for flow in flows {
        if log.json(&reading::flow_record(flow))? == Delivery::Stop {
            break;
        }
    }
    Ok(())
}

fn summary(read: &Read, signatures: &SignatureSet) -> RunSummary {
    let mut alerts = [0; 4];
    for alert in &read.verdict.alerts {
        let level = Severity::ALL
            .iter()
            .position(|&level| level == alert.severity);
        if let Some(count) = level.and_then(|level| alerts.get_mut(level)) {
            *count += 1;
        }
    }
    RunSummary {
        alerts: Some(alerts),
        suppressed: suppressed(&read.verdict.suppressed),
        blind: signatures.blind(&shown(&read.verdict.stats, read.pods_known)),
        ..reading::summary(read)
    }
}

/// What silenced alerts, and how many of each signature.
pub(super) fn suppressed(alerts: &[Alert]) -> Vec<String> {
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for alert in alerts {
        if let Some(suppression) = &alert.suppressed {
            let key = (suppression.to_string(), alert.signature.id.as_str());
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|((why, id), count)| format!("{count} × {id}: {why}"))
        .collect()
}

/// What the tap turned out to show. Nobody told us where the capture was made, so only what is plainly absent counts.
pub(super) fn shown(stats: &Stats, pods_known: bool) -> Vec<Requirement> {
    let mut shown = vec![Requirement::Plaintext, Requirement::Uplink];
    if stats.flows == 0 || stats.answered > 0 {
        shown.push(Requirement::BothDirections);
    }
    if !pods_known || stats.pod_ends > 0 {
        shown.push(Requirement::PodSide);
    }
    shown
}
