//! `spanwatch baseline`: what was learned, to look at, compare, edit and carry about.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{End, output};
use crate::alert::{ActorV1, AlertV1, IdentityV1, TargetV1};
use crate::baseline::{Accepted, Baseline, Store};
use crate::features::{Contact, Role, network_name};
use crate::identity::WorkloadId;
use crate::report::{baseline_diff, baseline_overview, workload_text};

/// Show, compare, merge, edit and carry baselines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch baseline show --baseline prod.baseline
  spanwatch baseline show shop/Deployment/cart --baseline prod.baseline
  spanwatch baseline diff staging.baseline prod.baseline
  spanwatch baseline merge node1.baseline node2.baseline -o cluster.baseline
  spanwatch baseline accept 90d2f40f3e8c5c40 --alerts alerts.jsonl --reason 'new mail relay' --baseline prod.baseline
  spanwatch baseline export --baseline prod.baseline > prod.toml
  spanwatch baseline import prod.toml --baseline prod.baseline")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what is known of each workload, or all that is known of some
    Show {
        /// namespace/kind/name; those that begin with it are shown
        workload: Vec<String>,
        /// The baseline file
        #[arg(long, value_name = "PATH")]
        baseline: PathBuf,
    },
    /// Say what the second knows otherwise than the first
    Diff {
        /// The baseline file to compare with
        old: PathBuf,
        /// The baseline file to compare
        new: PathBuf,
    },
    /// Make one baseline of several: other sensors', other days'
    Merge {
        /// The baseline files
        #[arg(required = true, num_args = 2..)]
        files: Vec<PathBuf>,
        /// The file to write; what it held before is replaced
        #[arg(short, long, value_name = "PATH")]
        output: PathBuf,
    },
    /// Forget workloads
    Forget {
        /// namespace/kind/name
        #[arg(required = true)]
        workload: Vec<String>,
        /// The baseline file
        #[arg(long, value_name = "PATH")]
        baseline: PathBuf,
    },
    /// Make what an alert told normal, with the reason
    Accept {
        /// The alert's id
        id: String,
        /// Alerts as 'analyze --format json' wrote them
        #[arg(long, value_name = "FILE")]
        alerts: PathBuf,
        /// Why it is normal; kept with the baseline
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The baseline file
        #[arg(long, value_name = "PATH")]
        baseline: PathBuf,
    },
    /// Write a baseline as text, to be reviewed and kept under version control
    Export {
        /// The baseline file
        #[arg(long, value_name = "PATH")]
        baseline: PathBuf,
        /// Where to write [default: standard output]
        #[arg(short, long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
    /// Make a baseline of a text, edited or not; what the file held before is replaced
    Import {
        /// The text
        text: PathBuf,
        /// The baseline file
        #[arg(long, value_name = "PATH")]
        baseline: PathBuf,
    },
}

pub(super) fn run(args: &Args, quiet: bool) -> anyhow::Result<End> {
    match &args.command {
        Command::Show { workload, baseline } => show(workload, baseline)?,
        Command::Diff { old, new } => {
            let (old, new) = (Store::read(old)?, Store::read(new)?);
            write(None, &baseline_diff(&old, &new))?;
        }
        Command::Merge { files, output } => merge(files, output, quiet)?,
        Command::Forget { workload, baseline } => {
            change(baseline, |known| {
                for name in workload {
                    let id = find(known, name)?;
                    known.forget(&id);
                }
                Ok(())
            })?;
        }
        Command::Accept {
            id,
            alerts,
            reason,
            baseline,
        } => accept(id, alerts, reason, baseline, quiet)?,
        Command::Export { baseline, output } => {
            write(output.as_deref(), &Store::read(baseline)?.to_text())?;
        }
        Command::Import { text, baseline } => {
            let path = text;
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let read = Baseline::from_text(&text)
                .with_context(|| format!("{} is no baseline", path.display()))?;
            Store::create(baseline)?.save(&read)?;
        }
    }
    Ok(End::Clean)
}

fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let mut out = output::open(path)?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn show(workloads: &[String], path: &Path) -> anyhow::Result<()> {
    let baseline = Store::read(path)?;
    if workloads.is_empty() {
        return write(None, &baseline_overview(&baseline));
    }
    let mut text = String::new();
    for wanted in workloads {
        let mut found = false;
        for (workload, profile) in baseline.profiles() {
            if workload.to_string().starts_with(wanted.as_str()) {
                found = true;
                text += &workload_text(workload, profile, baseline.last());
            }
        }
        if !found {
            bail!("{} knows no workload {wanted}", path.display());
        }
    }
    write(None, &text)
}

fn merge(files: &[PathBuf], output: &Path, quiet: bool) -> anyhow::Result<()> {
    let mut merged = Baseline::default();
    for file in files {
        merged.merge(&Store::read(file)?);
    }
    Store::create(output)?.save(&merged)?;
    if !quiet {
        let workloads = merged.profiles().len();
        output::note(&format!("{workloads} workloads in {}\n", output.display()));
    }
    Ok(())
}

/// Reads a baseline, changes it and writes it back, locked all the while.
fn change(
    path: &Path,
    how: impl FnOnce(&mut Baseline) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // A mistake in the name must not leave an empty file.
    Store::exists(path)?;
    let store = Store::create(path)?;
    let mut baseline = store.load()?;
    how(&mut baseline)?;
    store.save(&baseline)?;
    Ok(())
}

fn find(baseline: &Baseline, name: &str) -> anyhow::Result<WorkloadId> {
    let found = baseline
        .profiles()
        .map(|(id, _)| id)
        .find(|id| id.to_string() == name);
    found
        .cloned()
        .with_context(|| format!("no workload {name}; 'spanwatch baseline show' lists them"))
}

fn accept(id: &str, alerts: &Path, reason: &str, path: &Path, quiet: bool) -> anyhow::Result<()> {
    if reason.trim().is_empty() {
        bail!("say why it is normal: --reason");
    }
    let text = std::fs::read_to_string(alerts)
        .with_context(|| format!("cannot read {}", alerts.display()))?;
    let mut alert: Option<AlertV1> = None;
    for (line, text) in (1..)
        .zip(text.lines())
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let one: AlertV1 = serde_json::from_str(text)
            .with_context(|| format!("{}:{line}: not an alert", alerts.display()))?;
        // The last line of an alert is the whole of it.
        if one.id == id {
            alert = Some(one);
        }
    }
    let alert = alert.with_context(|| format!("no alert {id} in {}", alerts.display()))?;
    let ActorV1 {
        workload: Some(workload),
        identity: IdentityV1::Pod,
        ..
    } = &alert.actor
    else {
        bail!(
            "alert {id} is not by a workload, so no baseline can know it; write an exception (docs/exceptions.md)"
        );
    };
    let contacts = contacts(&alert);
    let accepted = Accepted {
        alert: alert.id.clone(),
        signature: alert.signature.clone(),
        targets: alert.targets.iter().filter_map(target_name).collect(),
        target_count: alert.target_count,
        reason: reason.trim().to_owned(),
        time: alert.time.last.0,
    };
    change(path, |baseline| {
        let id = find(baseline, workload)?;
        baseline.accept(&id, accepted, &contacts, alert.time.last.0);
        Ok(())
    })?;
    if !quiet {
        output::note(&format!(
            "{workload}: accepted {} ({})\n",
            alert.signature, alert.summary
        ));
    }
    Ok(())
}

/// What the actor's workload knows a target by.
fn peer_name(target: &TargetV1) -> Option<String> {
    if let Some(domain) = &target.domain {
        return Some(format!("domain:{domain}"));
    }
    let ip = target.ip?;
    Some(match (target.identity?, &target.workload) {
        (IdentityV1::Pod, Some(workload)) => workload.clone(),
        (IdentityV1::Service, Some(workload)) => {
            // `namespace/Service/name` on an alert.
            let mut parts = workload.split('/');
            let (namespace, name) = (
                parts.next().unwrap_or_default(),
                parts.next_back().unwrap_or("?"),
            );
            format!("service:{namespace}/{name}")
        }
        (IdentityV1::Node, _) => "node".to_owned(),
        (IdentityV1::External, _) => network_name(ip),
        _ => format!("ip:{ip}"),
    })
}

fn target_name(target: &TargetV1) -> Option<String> {
    let port = target
        .port
        .map(|port| format!(" {port}"))
        .unwrap_or_default();
    Some(format!("{}{port}", peer_name(target)?))
}

/// The contacts that an alert's flows and targets show.
fn contacts(alert: &AlertV1) -> Vec<Contact> {
    let mut protocols = BTreeMap::new();
    for flow in &alert.flows {
        let protocol = match flow.proto.as_str() {
            "udp" => 17,
            "sctp" => 132,
            "icmp" => 1,
            "icmpv6" => 58,
            _ => 6,
        };
        protocols.insert((flow.dst.ip, flow.dst.port), protocol);
    }
    let contact = |target: &TargetV1| {
        let protocol = target.ip.and_then(|ip| protocols.get(&(ip, target.port)));
        Some(Contact {
            role: Role::Client,
            peer: peer_name(target)?.into(),
            port: target.port.unwrap_or(0),
            protocol: protocol.copied().unwrap_or(6),
        })
    };
    alert.targets.iter().filter_map(contact).collect()
}
