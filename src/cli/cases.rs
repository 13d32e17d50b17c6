//! `spanwatch signatures test`: each signature against its own captures.
//!
//! A case is a folder named after the signature with `case.toml`, which names the captures and inventories of an attack, of
//! its benign twin, and of a day to learn from where the signature needs a baseline. The attack must raise the signature;
//! the benign twin must raise nothing.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{End, output};
use crate::alert::{Alert, Exceptions};
use crate::baseline::Baseline;
use crate::capture::{CaptureFile, PacketSource};
use crate::identity::{InventoryOptions, load_inventory};
use crate::memory::Share;
use crate::pipeline::{Pipeline, Task, Verdict};
use crate::signature::SignatureSet;

/// The part of `case.toml` that says what to run; the rest is for readers and the repository's own tests.
#[derive(Debug, Deserialize)]
struct Case {
    learn: Option<Part>,
    attack: Part,
    benign: Part,
}

/// A capture and who is in it, as paths from the case's folder.
#[derive(Debug, Deserialize)]
struct Part {
    capture: String,
    inventory: Vec<String>,
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
    let baseline = match &case.learn {
        Some(part) => {
            let task = Task::Learn {
                signatures: set.clone(),
                baseline: Baseline::default(),
                exceptions: Exceptions::default(),
            };
            verdict(folder, part, task)?.baseline
        }
        None => None,
    };
    let alerts = |part: &Part| -> anyhow::Result<Vec<Alert>> {
        let task = Task::Analyze {
            signatures: set.clone(),
            baseline: baseline.clone(),
            exceptions: Exceptions::default(),
        };
        Ok(verdict(folder, part, task)?.alerts)
    };
    let mut problems = Vec::new();
    let attack = alerts(&case.attack)?;
    if !attack.iter().any(|alert| alert.signature.id == id) {
        problems.push(format!("{} raised no alert", case.attack.capture));
    }
    for alert in alerts(&case.benign)? {
        problems.push(format!(
            "{} raised {}: {}",
            case.benign.capture,
            alert.signature.id,
            alert.sentence()
        ));
    }
    Ok(problems)
}

fn verdict(folder: &Path, part: &Part, task: Task) -> anyhow::Result<Verdict> {
    let inventory: Vec<_> = part
        .inventory
        .iter()
        .map(|name| folder.join(name))
        .collect();
    let (journal, _) = load_inventory(&inventory, &InventoryOptions::default())?;
    let mut source = CaptureFile::open(&folder.join(&part.capture))?;
    let mut pipeline = Pipeline::new(Share::WHOLE, Arc::new(journal), task)?;
    while let Some(frame) = source.next_frame()? {
        pipeline.frame(&frame);
    }
    let (verdict, _) = pipeline.finish();
    Ok(verdict)
}
