//! `spanwatch sensor` and `spanwatch agent`: packets from interfaces in, alerts out as they come about.

mod division;
mod outputs;
mod prepare;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tracing::{info, warn};

use super::analyze::{Format, shown, suppressed};
use super::config::{self, Source};
use super::learn::left_out;
use super::memory::{LEAST_LIMIT, MOST_LIMIT, on_small_pages};
use super::options::Inventory;
use super::{End, output};
use crate::baseline::Store;
use crate::capture::LiveOptions;
use crate::identity::{InventoryOptions, LiveInventory};
use crate::pipeline::Task;
use crate::report::{RunSummary, counted};
use crate::runtime::{
    Access, Engine, Limits, Report, Rules, RuntimeSocket, Selection, Setup, State, TapCounts,
    TapState, become_user, in_cluster, node, places,
};
use crate::signature::Requirement;
use crate::sinks::ExcerptFolder;

use division::Division;
use outputs::{Sinks, writable};
use prepare::{Renewer, prepare};

pub(super) use prepare::problems;

/// Watch a mirror (SPAN) port
///
/// Captures on interfaces until SIGTERM or SIGINT and reports attacks as they come about. Tunnels that a mirror port shows
/// (VLAN, VXLAN, GENEVE, ERSPAN, …) are opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch sensor -i eth1 --promisc --inventory pods.json
  spanwatch sensor -i eth1 -i eth2 --baseline prod.baseline -o /var/log/spanwatch.jsonl")]
pub(super) struct SensorArgs {
    /// Interface to capture on; repeatable
    #[arg(short, long, value_name = "IF", required = true)]
    interface: Vec<String>,
    #[command(flatten)]
    live: LiveArgs,
}

/// Watch the pods of this node, or of this pod
///
/// Captures on whatever leads to pods, as they come and go, until SIGTERM or SIGINT, and reports attacks as they come about.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch agent                                   (a node: every pod's interface)
  spanwatch agent -i lo -i eth0                     (a sidecar: its pod's interfaces)
  spanwatch agent --baseline /var/lib/spanwatch/baseline --learn --listen 0.0.0.0:9474
  spanwatch agent -o /var/log/spanwatch.jsonl --alertmanager http://alertmanager.monitoring:9093")]
pub(super) struct AgentArgs {
    /// Interface to capture on, instead of those that lead to pods; repeatable
    #[arg(short, long, value_name = "IF")]
    interface: Vec<String>,
    #[command(flatten)]
    live: LiveArgs,
}

impl AgentArgs {
    /// What both commands take.
    pub(super) const fn live(&self) -> &LiveArgs {
        &self.live
    }

    /// The same, where a node's pods are watched.
    fn on_node(&self) -> LiveArgs {
        LiveArgs {
            watch_node: true,
            ..self.live.clone()
        }
    }
}

impl SensorArgs {
    const fn live(&self) -> &LiveArgs {
        &self.live
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LiveArgs {
    /// TOML file with options by the names that they have here, which win over it ('spanwatch config explain')
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    inventory: Inventory,
    /// Follow the Kubernetes API that this file tells of: pods (an agent's node's alone), services, endpointslices, nodes
    /// [default: in a pod without --inventory, its service account's]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The node of which the Kubernetes API is asked for the pods [default: an agent's own, by the machine's name; a sensor
    /// asks for all]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Ask the container runtime that listens at this socket (CRI) for the node's pods [default: an agent's without
    /// --inventory, where containerd or CRI-O listen]
    #[arg(long, value_name = "SOCKET")]
    cri: Option<PathBuf>,
    /// Only packets that match this BPF expression, as tcpdump takes it
    #[arg(short, long, value_name = "BPF")]
    filter: Option<String>,
    /// The learned normal, made by 'spanwatch learn'
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// Also learn what is normal, into the baseline file, which is made if there is none
    #[arg(long, requires = "baseline")]
    learn: bool,
    /// What somebody has allowed (docs/exceptions.md): alerts that it covers are counted and not told
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// Signatures that override the built-in ones, file by file
    #[arg(long, value_name = "DIR")]
    signatures: Option<PathBuf>,
    /// How alerts are written [default: text on a terminal, json otherwise]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File that alerts are added to [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Also add every flow to a file, one JSON object a line
    #[arg(long, value_name = "PATH")]
    flows: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz over HTTP there
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Also send alerts there, each time as a JSON array of alerts (docs/alert.schema.json)
    #[arg(long, value_name = "URL", conflicts_with_all = ["alertmanager", "syslog"])]
    webhook: Option<String>,
    /// Also send alerts to this Alertmanager
    #[arg(long, value_name = "URL", conflicts_with = "syslog")]
    alertmanager: Option<String>,
    /// Also send alerts there as syslog messages (RFC 5424): udp://HOST:514, tcp://HOST:601 or unix:/dev/log
    #[arg(long, value_name = "URL")]
    syslog: Option<String>,
    /// File with a bearer token for --webhook or --alertmanager
    #[arg(long, value_name = "FILE")]
    webhook_token: Option<PathBuf>,
    /// File with the certificates (PEM) to trust there, instead of the public authorities'
    #[arg(long, value_name = "FILE")]
    webhook_ca: Option<PathBuf>,
    /// File that keeps open alerts over restarts and crashes: an attack that goes on stays the same alert
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// File that keeps alerts for --webhook, --alertmanager or --syslog until they are taken, over restarts and crashes
    #[arg(long, value_name = "PATH")]
    spool: Option<PathBuf>,
    /// MiB of alerts that wait for --webhook, --alertmanager or --syslog at most; then the oldest go [default: 32, or a tenth
    /// of --memory-limit if that is less]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    backlog: Option<u32>,
    /// Keep the packets of each alert's flows, from before it and shortly after, in this directory: ALERT-ID.pcapng
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// MiB of the latest packets that are at hand for --evidence [default: 32, or a tenth of --memory-limit if that is less]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=2048))]
    evidence_memory: Option<u32>,
    /// MiB of files in the directory of --evidence at most; then the oldest go
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    evidence_limit: u32,
    /// Percent of packets lost over minutes from which on an alarm about the run itself is raised
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    alarm_loss: u32,
    /// Minutes without a packet after which an alarm about the run itself is raised; 0 for never
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10080))]
    alarm_silence: u32,
    /// Run as this user from before anything is opened but the configuration: a name, UID or UID:GID
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Put interfaces into promiscuous mode, as a mirror port needs
    #[arg(long)]
    promisc: bool,
    /// Bytes kept of each frame
    #[arg(long, value_name = "BYTES", default_value_t = LiveOptions::default().snaplen,
          value_parser = clap::value_parser!(u32).range(96..=1 << 18))]
    snaplen: u32,
    /// MiB of memory to make do with, buffers and all, but for what is learned: what is remembered of flows, peers and attacks is
    /// less or more in proportion [default: an agent's 96, a sensor's what suits some 200,000 open flows; at most three
    /// quarters of what the control group allows]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(LEAST_LIMIT..=MOST_LIMIT))]
    memory_limit: Option<u32>,
    /// MiB that the kernel keeps per interface while packets come faster than they are read [default: 8, or a twentieth of
    /// --memory-limit if that is less]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    buffer: Option<u32>,
    /// MiB on their way from capture to analysis at most [default: 16, or a tenth of --memory-limit if that is less]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(2..=4096))]
    ring: Option<u32>,
    /// Whether a node's pods are watched.
    #[arg(skip)]
    watch_node: bool,
}

pub(super) fn sensor(args: &SensorArgs, source: Source, quiet: bool) -> anyhow::Result<End> {
    let selection = Selection::Interfaces(args.interface.clone());
    run(selection, &args.live, source, quiet)
}

pub(super) fn agent(args: &AgentArgs, source: Source, quiet: bool) -> anyhow::Result<End> {
    let selection = if args.interface.is_empty() {
        Selection::Pods
    } else {
        Selection::Interfaces(args.interface.clone())
    };
    run(selection, &args.on_node(), source, quiet)
}

/// The container runtime that is named; on a node without any inventory, the one that is found there.
fn cri(args: &LiveArgs) -> Option<RuntimeSocket> {
    let socket = match &args.cri {
        Some(path) => RuntimeSocket::named(path.clone()),
        None if args.watch_node && args.inventory.paths.is_empty() => RuntimeSocket::find()?,
        None => return None,
    };
    info!(
        "asking the container runtime at {}",
        socket.path().display()
    );
    Some(socket)
}

/// The inventories that are named; on a node without any, what is found there. `asked` are those that aren't files.
fn inventory(args: &LiveArgs, asked: bool) -> LiveInventory {
    let mut paths = args.inventory.paths.clone();
    if paths.is_empty() && args.watch_node {
        paths = places();
    }
    if paths.is_empty() && !asked {
        warn!("nobody's address is known: alerts will bear addresses (--inventory names pods)");
    }
    let options = InventoryOptions {
        cluster_cidrs: args.inventory.cluster_cidr.clone(),
        service_cidrs: args.inventory.service_cidr.clone(),
    };
    LiveInventory::new(paths, options)
}

/// The API of the cluster, where a file or this pod's service account tells of it.
fn kubernetes(args: &LiveArgs) -> Option<Access> {
    let kubeconfig = args.kubeconfig.clone();
    let found = args.inventory.paths.is_empty() && in_cluster();
    let whose = match &kubeconfig {
        Some(file) => file.display().to_string(),
        None if found => "this pod's service account".to_owned(),
        None => return None,
    };
    info!("following the Kubernetes API by {whose}");
    let own = || args.watch_node.then(node);
    Some(Access {
        kubeconfig,
        node: args.node.clone().or_else(own),
    })
}

fn run(selection: Selection, args: &LiveArgs, source: Source, quiet: bool) -> anyhow::Result<End> {
    on_small_pages();
    let prepared = match prepare(args, &source) {
        Ok(prepared) => prepared,
        Err(problems) => bail!("{}", config::together(&problems)),
    };
    if let Some(user) = prepared.user {
        become_user(user).map_err(|problem| anyhow!("{}: {problem}", source.place("user")))?;
    }
    let signatures = prepared.rules.signatures.clone();
    let (task, store) = task(args, prepared.rules)?;
    let kubernetes = kubernetes(args);
    let cri = cri(args);
    let asked = kubernetes.is_some() || cri.is_some();
    let inventory = inventory(args, asked);
    if args.promisc {
        warn!(
            "promiscuous mode on a bridge that filters by iptables makes the kernel deliver packets to pods twice: use it on mirror ports alone"
        );
    }
    match &selection {
        Selection::Pods => info!("capturing on every interface that leads to a pod"),
        Selection::Interfaces(names) => info!("capturing on {}", names.join(", ")),
    }
    // A mirror port shows whatever the switch copies.
    let pod_side = args.watch_node && selection.is_pod_side();
    if pod_side {
        for blind in signatures.blind(&beside(Requirement::ALL)) {
            info!("blind here: {blind}");
        }
    }
    let limits = Limits {
        loss: args.alarm_loss,
        silence: (args.alarm_silence > 0).then(|| Duration::from_mins(args.alarm_silence.into())),
        // A mirror port brings something all the time; a pod's loopback may not.
        each_interface: !args.watch_node,
        // A runtime that was only found may serve no pods at all.
        names: inventory.paths().next().is_some() || kubernetes.is_some() || args.cri.is_some(),
    };
    let division = Division::of(args, selection.handles())
        .map_err(|problem| anyhow!("{}: {problem}", source.place("memory-limit")))?;
    let mut renewer = Renewer::new(args.clone(), source);
    let engine = Engine::start(Setup {
        selection,
        live: LiveOptions {
            snaplen: args.snaplen,
            buffer: division.buffer << 20,
            promiscuous: args.promisc,
            filter: args.filter.clone(),
            ..LiveOptions::default()
        },
        ring: (division.ring as usize) << 20,
        share: division.share,
        inventory,
        kubernetes,
        cri,
        task,
        outputs: Sinks::of(args).open()?,
        forwarder: match (prepared.forwarder, &args.spool) {
            (Some(forwarder), Some(path)) => Some(forwarder.with_spool(path)?),
            (forwarder, _) => forwarder,
        },
        state: args.state.as_deref().map(State::open).transpose()?,
        store,
        evidence: evidence(args, division.evidence)?,
        limits,
        renew: Box::new(move || renewer.renew()),
        listen: args.listen,
        writable: writable(args),
    })?;
    let report = engine.run()?;
    if args.learn {
        left_out(&report.verdict);
    }
    if !quiet {
        let mut shown = shown(&report.verdict.stats, report.claims > 0);
        if pod_side {
            shown = beside(&shown);
        }
        let summary = summary(&report, signatures.blind(&shown));
        output::note(&format!("{summary}{}", account(&report)));
    }
    Ok(End::Clean)
}

/// Where packets of alerts are kept, and how many bytes of them are at hand.
fn evidence(args: &LiveArgs, memory: u32) -> anyhow::Result<Option<(ExcerptFolder, usize)>> {
    let Some(path) = &args.evidence else {
        return Ok(None);
    };
    let folder = ExcerptFolder::open(path, u64::from(args.evidence_limit) << 20);
    let folder = folder.with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(Some((folder, (memory as usize) << 20)))
}

/// To judge by a baseline, or to update it as well; then with its file, locked.
fn task(args: &LiveArgs, rules: Rules) -> anyhow::Result<(Task, Option<Store>)> {
    let Rules {
        signatures,
        exceptions,
    } = rules;
    if let (Some(path), true) = (&args.baseline, args.learn) {
        let store = Store::create(path)?;
        let task = Task::Learn {
            signatures,
            // What was held back is for whoever knows the alerts of that time.
            baseline: if args.state.is_some() {
                store.resume()?
            } else {
                store.load()?
            },
            exceptions,
        };
        return Ok((task, Some(store)));
    }
    let baseline = args.baseline.as_deref().map(Store::read).transpose()?;
    let task = Task::Analyze {
        signatures,
        baseline,
        exceptions,
    };
    Ok((task, None))
}

/// What is left of it where the node's own interface isn't tapped.
fn beside(shown: &[Requirement]) -> Vec<Requirement> {
    let all = shown.iter().copied();
    all.filter(|&one| one != Requirement::Uplink).collect()
}

fn summary(report: &Report, blind: Vec<String>) -> RunSummary {
    let stats = &report.verdict.stats;
    RunSummary {
        files: 0,
        packets: stats.packets,
        bytes: stats.bytes,
        copies: stats.copies,
        span: stats.span,
        flows: stats.flows,
        private_ends: stats.inside_ends,
        named_ends: stats.named_ends,
        alerts: Some(report.alerts),
        losses: report.losses.clone(),
        suppressed: suppressed(&report.verdict.suppressed),
        blind,
    }
}

/// What became of every packet that the kernel counted, by interface.
fn account(report: &Report) -> String {
    let line = |tap: &TapState| {
        let TapCounts {
            kernel,
            taken,
            passed_over,
            unread,
        } = tap.counts;
        let received = counted(kernel.received, "packet");
        let others = [
            (passed_over, "of no pod"),
            (kernel.dropped, "dropped by the kernel"),
            (unread, "not read"),
        ];
        let others = others.into_iter().filter(|&(n, _)| n > 0);
        let others: Vec<String> = others.map(|(n, what)| format!(" + {n} {what}")).collect();
        let others = others.concat();
        format!(
            "{}: received {received} = processed {taken}{others}\n",
            tap.interface
        )
    };
    report.taps.iter().map(line).collect()
}
