//! What it takes to learn, to keep and to load a large baseline: ten thousand workloads with a thousand peers each.
//!
//! `cargo bench --bench baseline` learns them through the public interface, saves the store to a temporary file, and loads
//! it in a process of its own, whose peak memory is that of the baseline.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use spanwatch::address::NetworkId;
use spanwatch::baseline::{Baseline, Learner, Store};
use spanwatch::event::{Endpoint, Event, EventKind, FlowInfo};
use spanwatch::features::PeerNamer;
use spanwatch::flow::{FlowId, Outcome, Protocol};
use spanwatch::identity::{Attribution, Confidence, Identity, IdentityKind, Source, WorkloadId};
use spanwatch::telemetry::Loss;
use spanwatch::time::Timestamp;

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKLOADS: u32 = 10_000;
const PEERS: u32 = 1000;
/// Networks that the peers are of: many workloads call the same.
const NETWORKS: u32 = 50_000;
/// 2026-03-02.
const START: i64 = 1_772_409_600;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--load") => load(Path::new(&args.next().unwrap())),
        Some("--bench") => bench(),
        // Tests of all targets have nothing to do here.
        _ => {}
    }
}

fn bench() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.baseline");
    let from = processor_time();
    let baseline = learn();
    let contacts = f64::from(WORKLOADS * PEERS);
    let learned = since(from);
    assert_eq!(baseline.profiles().len(), WORKLOADS as usize);
    println!("{WORKLOADS} workloads, {PEERS} peers each:");
    println!(
        "learn  {:6.2} s, {:.0} ns a contact, {} not listed for want of room",
        learned.as_secs_f64(),
        learned.as_secs_f64() * 1e9 / contacts,
        baseline.losses().get(Loss::BaselineFull)
    );
    // From here on the peak is counted anew.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    let (before, from) = (kib("VmRSS:"), processor_time());
    // As a live run does: what is saved is a clone.
    let snapshot = baseline.clone();
    Store::create(&path).unwrap().save(&snapshot).unwrap();
    println!(
        "save   {:6.2} s, {} MiB on disk, {} MiB of memory besides what is learned",
        since(from).as_secs_f64(),
        std::fs::metadata(&path).unwrap().len() >> 20,
        kib("VmHWM:").saturating_sub(before) >> 10
    );
    drop((snapshot, baseline));
    let own = std::env::current_exe().unwrap();
    let status = Command::new(own).arg("--load").arg(&path).status().unwrap();
    assert!(status.success());
}

/// Runs in a process of its own.
fn load(path: &Path) {
    let from = processor_time();
    let baseline = Store::read(path).unwrap();
    let took = since(from);
    assert_eq!(baseline.profiles().len(), WORKLOADS as usize);
    println!(
        "load   {:6.2} s, {} MiB held, {} MiB at the peak",
        took.as_secs_f64(),
        kib("VmRSS:") >> 10,
        kib("VmHWM:") >> 10
    );
}

/// A figure of this process's memory.
fn kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn learn() -> Baseline {
    let mut learner = Learner::default();
    let peers = PeerNamer::default();
    for workload in 0..WORKLOADS {
        let client = client(workload);
        for peer in 0..PEERS {
            let number = u64::from(workload * PEERS + peer);
            let time = Timestamp::from_secs(START + i64::from(workload * 600 + peer / 2));
            // An odd step spreads a workload's peers over all networks.
            let network = (workload * 7 + peer * 61) % NETWORKS;
            let event = answered(number, time, &client, outside(network));
            learner.observe(&event, &peers);
        }
    }
    learner.finish()
}

fn answered(number: u64, time: Timestamp, orig: &Endpoint, resp: Endpoint) -> Event {
    let flow = Arc::new(FlowInfo {
        id: FlowId(number),
        network: NetworkId::default(),
        protocol: Protocol::Tcp,
        start: time,
        orig: orig.clone(),
        resp,
        orig_port: 40_000,
        resp_port: 443,
        service: None,
        masquerade: None,
        sender: None,
        begun: true,
    });
    let outcome = Outcome::Answered;
    Event::new(time, EventKind::FlowOutcome { flow, outcome })
}

fn client(number: u32) -> Endpoint {
    let workload = WorkloadId {
        namespace: format!("team-{}", number % 100).into(),
        kind: "Deployment".into(),
        name: format!("service-{number}").into(),
    };
    let identity = Identity {
        workload: Some(workload),
        ..Identity::bare(IdentityKind::Pod)
    };
    end(Ipv4Addr::from(0x0a00_0000 + number), identity)
}

fn outside(network: u32) -> Endpoint {
    let ip = Ipv4Addr::from(0x2000_0000 + (network << 8) + 7);
    end(ip, Identity::bare(IdentityKind::External))
}

fn end(ip: Ipv4Addr, identity: Identity) -> Endpoint {
    Endpoint {
        ip: IpAddr::V4(ip),
        who: Attribution {
            identity: Arc::new(identity),
            confidence: Confidence::Exact,
            source: Source::None,
        },
    }
}

fn since(from: Duration) -> Duration {
    processor_time().saturating_sub(from)
}

/// Processor time of this thread, which other programs on the machine disturb less than the time on the wall.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
