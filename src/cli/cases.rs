//! `spanwatch signatures test`: each signature against its own captures.
//!
//! A case is a folder named after the signature with `case.toml` (which names the inventory, and a capture to learn from
//! where the signature needs a baseline), `attack.pcap` and `benign.pcap`. The attack must raise the signature; the
//! benign twin must raise nothing.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{End, output};
use crate::alert::Alert;
use crate::baseline::Baseline;
use crate::capture::{CaptureFile, PacketSource};
use crate::flow::FlowConfig;
use crate::identity::{InventoryOptions, Journal, load_inventory};
use crate::pipeline::{Pipeline, Task, Verdict};
use crate::signature::SignatureSet;

/// The part of `case.toml` that says what to run; the rest is for readers and the repository's own tests.
#[derive(Debug, Deserialize)]
struct Case {
    /// Inventory file, relative to the case.
    inventory: Option<String>,
    /// Capture to learn a baseline from, relative to the case.
    learn: Option<String>,
}

pub(super) fn run(set: &SignatureSet, ids: &[String], captures: &Path) -> anyhow::Result<End> {
    for id in ids {
        if set.get(id).is_none() {
            bail!("no signature {id:?}; 'spanwatch signatures list' shows them");
        }
    }
    let mut out = output::open(None)?;
    let (mut passed, mut failed) = (0, 0);
    for signature in set.iter() {
        let id = &signature.id;
        if !ids.is_empty() && !ids.contains(id) {
            continue;
        }
        let problems = case(set, id, &captures.join(id))?;
        if problems.is_empty() {
            passed += 1;
            writeln!(out, "ok    {id}")?;
        } else {
            failed += 1;
            for problem in problems {
                writeln!(out, "FAIL  {id}: {problem}")?;
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    out.flush()?;
    Ok(if failed > 0 { End::Alerts } else { End::Clean })
}

fn case(set: &SignatureSet, id: &str, folder: &Path) -> anyhow::Result<Vec<String>> {
    let path = folder.join("case.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}: run in the repository, or name the captures with --captures",
            path.display()
        )
    })?;
    let case: Case = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let inventory: Vec<_> = case
        .inventory
        .iter()
        .map(|name| folder.join(name))
        .collect();
    let (journal, _) = load_inventory(&inventory, &InventoryOptions::default())?;
    let journal = Arc::new(journal);
    let baseline = match &case.learn {
        Some(name) => {
            let task = Task::Learn(Baseline::default());
            analyze(&folder.join(name), &journal, task)?.baseline
        }
        None => None,
    };
    let alerts = |name: &str| -> anyhow::Result<Vec<Alert>> {
        let task = Task::Analyze {
            signatures: set.clone(),
            baseline: baseline.clone(),
        };
        Ok(analyze(&folder.join(name), &journal, task)?.alerts)
    };
    let mut problems = Vec::new();
    if !alerts("attack.pcap")?
        .iter()
        .any(|alert| alert.signature.id == id)
    {
        problems.push("attack.pcap raised no alert".to_owned());
    }
    for alert in alerts("benign.pcap")? {
        problems.push(format!(
            "benign.pcap raised {}: {}",
            alert.signature.id,
            alert.sentence()
        ));
    }
    Ok(problems)
}

fn analyze(path: &Path, journal: &Arc<Journal>, task: Task) -> anyhow::Result<Verdict> {
    let mut source = CaptureFile::open(path)?;
    let mut pipeline = Pipeline::new(FlowConfig::default(), Arc::clone(journal), task)?;
    while let Some(frame) = source.next_frame()? {
        pipeline.frame(&frame);
    }
    let (verdict, _) = pipeline.finish();
    Ok(verdict)
}
