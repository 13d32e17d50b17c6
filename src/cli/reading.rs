//! From files on disk through the pipeline: what `analyze` and `learn` have in common.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::{info, warn};

use super::options::{Input, Inventory};
use crate::alert::{Alert, Exceptions};
use crate::capture::{CaptureError, Filter, Merged, PacketSource};
use crate::flow::FlowId;
use crate::identity::{InventoryOptions, Journal, load_inventory};
use crate::memory::Share;
use crate::pipeline::{EndedFlow, Pipeline, Said, Selector, Task, Verdict};
use crate::report::{FlowRecordV1, RunSummary};
use crate::signature::SignatureSet;
use crate::sinks::{Excerpt, ExcerptFolder};
use crate::telemetry::{Loss, LossCounts};

/// Alerts whose packets are looked for at once; each takes 2 MiB at most.
const EXCERPTS: usize = 64;
/// Frames between two looks at the progress.
const STRIDE: u64 = 8192;

/// What reading the files came to.
pub(super) struct Read {
    pub(super) verdict: Verdict,
    /// Files named.
    pub(super) files: usize,
    /// What is wrong with files that weren't read at all.
    pub(super) unreadable: Vec<CaptureError>,
    /// Whether the inventory knows any pod or other holder of an address.
    pub(super) pods_known: bool,
    /// Losses from file to alert.
    pub(super) losses: LossCounts,
}

/// Opens the inventory, so that its mistakes are told before a long capture is read.
pub(super) fn journal(inventory: &Inventory) -> anyhow::Result<Arc<Journal>> {
    let options = InventoryOptions {
        cluster_cidrs: inventory.cluster_cidr.clone(),
        service_cidrs: inventory.service_cidr.clone(),
    };
    let (journal, report) = load_inventory(&inventory.paths, &options)?;
    for file in &report.files {
        info!(
            "{}: {}, {} addresses",
            file.path.display(),
            file.format,
            file.bindings
        );
        for note in &file.notes {
            warn!("{}: {note}", file.path.display());
        }
    }
    if let Some(first) = report.disputed.first() {
        warn!(
            "{} addresses are claimed by several owners for the same time, so nobody is named for them (the first: {first})",
            report.disputed.len()
        );
    }
    Ok(Arc::new(journal))
}

/// The exceptions in a file; none without one.
pub(super) fn exceptions(
    path: Option<&Path>,
    signatures: &SignatureSet,
) -> anyhow::Result<Exceptions> {
    let Some(path) = path else {
        return Ok(Exceptions::default());
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let ids: Vec<&str> = signatures.iter().map(|one| one.id.as_str()).collect();
    Ok(Exceptions::parse(path, &text, &ids)?)
}

/// Capture files opened, and what is wrong with those that can't be.
pub(super) struct Opened {
    source: Merged,
    unreadable: Vec<CaptureError>,
    files: usize,
    threads: usize,
    share: Share,
}

/// Opens every file, before anything is written: a mistake in a name must not cost the results of an earlier run.
pub(super) fn captures(input: &Input) -> anyhow::Result<Opened> {
    let share = input.share();
    let filter = input.filter.as_deref().map(Filter::new).transpose()?;
    let (source, unreadable) = open(&input.files, filter)?;
    for error in &unreadable {
        warn!("{error}");
    }
    Ok(Opened {
        source,
        unreadable,
        files: input.files.len(),
        threads: input.threads.map_or_else(processors, usize::from),
        share,
    })
}

/// What is to be listed while files are read, and where to.
pub(super) enum Listing<'a> {
    Nothing,
    Flows(&'a mut dyn FnMut(Vec<EndedFlow>) -> anyhow::Result<()>),
    Messages(&'a mut dyn FnMut(Vec<Said>) -> anyhow::Result<()>),
}

impl Listing<'_> {
    fn kept_by(&self, pipeline: Pipeline) -> Pipeline {
        match self {
            Self::Nothing => pipeline,
            Self::Flows(_) => pipeline.keeping_flows(),
            Self::Messages(_) => pipeline.keeping_messages(),
        }
    }

    fn write(&mut self, flows: Vec<EndedFlow>, said: Vec<Said>) -> anyhow::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Flows(write) => write(flows),
            Self::Messages(write) => write(said),
        }
    }
}

/// Reads every file through a pipeline.
pub(super) fn read(
    opened: Opened,
    journal: Arc<Journal>,
    task: Task,
    quiet: bool,
    listing: Listing<'_>,
) -> anyhow::Result<Read> {
    read_explaining(opened, journal, task, Vec::new(), quiet, listing)
}

/// The same, explaining what is asked for beside it.
pub(super) fn read_explaining(
    opened: Opened,
    journal: Arc<Journal>,
    task: Task,
    asked: Vec<Selector>,
    quiet: bool,
    mut listing: Listing<'_>,
) -> anyhow::Result<Read> {
    let Opened {
        mut source,
        unreadable,
        files,
        threads,
        share,
    } = opened;
    let pods_known = journal.claims_count() > 0;
    let mut pipeline = listing.kept_by(Pipeline::new(share, journal, task)?);
    if !asked.is_empty() {
        pipeline = pipeline.explaining(asked)?;
    }
    if threads > 1 {
        pipeline = pipeline
            .on_two_threads()
            .context("cannot start a second thread; --threads 1 needs none")?;
    }
    let bar = progress_bar(quiet, source.progress().total);
    let mut frames = 0_u64;
    while let Some(frame) = source.next_frame()? {
        pipeline.frame(&frame);
        frames += 1;
        if frames.is_multiple_of(STRIDE) {
            bar.set_position(source.progress().read);
            listing.write(pipeline.take_flows(), pipeline.take_messages())?;
        }
    }
    bar.finish_and_clear();
    let (mut verdict, ended) = pipeline.finish();
    listing.write(ended, std::mem::take(&mut verdict.messages))?;
    let damage = source.damage();
    for damage in &damage {
        warn!("{damage}");
    }
    let mut losses = verdict.losses.clone();
    losses.add_n(Loss::LinkType, source.unsupported_frames());
    for damage in &damage {
        losses.add(if damage.truncated {
            Loss::FileTruncated
        } else {
            Loss::FileDamaged
        });
    }
    Ok(Read {
        verdict,
        files,
        unreadable,
        pods_known,
        losses,
    })
}

/// Processors that this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Reads the files once more and writes the packets of alerts' flows: the same packets make the same flows. As many alerts at a
/// time as memory is given to.
pub(super) fn excerpts(
    input: &Input,
    journal: &Arc<Journal>,
    alerts: &[Alert],
    mut folder: ExcerptFolder,
) -> anyhow::Result<()> {
    for some in alerts.chunks(EXCERPTS) {
        let mut excerpts: Vec<Excerpt> = some.iter().filter_map(Excerpt::of).collect();
        let mut wanted: HashMap<FlowId, Vec<usize>> = HashMap::new();
        for (at, excerpt) in excerpts.iter().enumerate() {
            for flow in excerpt.flows() {
                wanted.entry(flow).or_default().push(at);
            }
        }
        let (mut source, _) = open(
            &input.files,
            input.filter.as_deref().map(Filter::new).transpose()?,
        )?;
        let share = input.share();
        let mut pipeline = Pipeline::new(share, Arc::clone(journal), Task::List)?;
        while let Some(frame) = source.next_frame()? {
            let Some(flow) = pipeline.frame(&frame) else {
                continue;
            };
            for &at in wanted.get(&flow).into_iter().flatten() {
                if let Some(excerpt) = excerpts.get_mut(at) {
                    excerpt.push(&frame, flow);
                }
            }
        }
        for excerpt in &excerpts {
            let name = excerpt.alert();
            let written = folder.write(excerpt);
            written.with_context(|| format!("cannot write the packets of alert {name}"))?;
        }
    }
    Ok(())
}

fn open(files: &[PathBuf], filter: Option<Filter>) -> anyhow::Result<(Merged, Vec<CaptureError>)> {
    Merged::open(files, filter).map_err(|errors| {
        let mut errors = errors.into_iter();
        match (errors.next(), errors.len()) {
            (None, _) => anyhow!("no capture file given"),
            (Some(only), 0) => only.into(),
            (Some(first), more) => {
                let rest: Vec<String> = errors.map(|error| format!("  {error}")).collect();
                anyhow!(
                    "{first}\n{}\nnone of the {} files can be read",
                    rest.join("\n"),
                    more + 1
                )
            }
        }
    })
}

/// A bar on a terminal, for work that takes longer than a second.
fn progress_bar(quiet: bool, total: Option<u64>) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match total {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// An error if a result is to be written where a capture is to be read.
pub(super) fn refuse_to_overwrite<'a>(
    input: &Input,
    mut outputs: impl Iterator<Item = &'a PathBuf>,
) -> anyhow::Result<()> {
    match outputs.find(|path| input.files.contains(path) && path.as_os_str() != "-") {
        Some(path) => bail!(
            "{} is to be read, so nothing can be written there",
            path.display()
        ),
        None => Ok(()),
    }
}

/// The published form of a flow that ended.
pub(super) fn flow_record(ended: &EndedFlow) -> FlowRecordV1 {
    FlowRecordV1 {
        gist: ended.gist.clone(),
        ..FlowRecordV1::from((&*ended.flow, &*ended.record))
    }
}

/// The figures of a run, without anything about alerts.
pub(super) fn summary(read: &Read) -> RunSummary {
    let stats = &read.verdict.stats;
    RunSummary {
        files: read.files as u64,
        packets: stats.packets,
        bytes: stats.bytes,
        copies: stats.copies,
        span: stats.span,
        flows: stats.flows,
        private_ends: stats.inside_ends,
        named_ends: stats.named_ends,
        losses: read.losses.clone(),
        ..RunSummary::default()
    }
}

/// An error if a file could not be read at all: what was asked for was not done.
pub(super) fn whole(read: &Read) -> anyhow::Result<()> {
    if !read.unreadable.is_empty() {
        bail!(
            "{} of {} files could not be read (see above); the rest was analyzed",
            read.unreadable.len(),
            read.files
        );
    }
    Ok(())
}
