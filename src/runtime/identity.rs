//! The identity thread: reads the inventories again whenever something in them changes (inotify), and hands the analysis a
//! journal that knows it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tracing::{debug, info, warn};

use super::cri::Residents;
use super::kubernetes::Known;
use super::view::View;
use super::{Message, clock};
use crate::identity::{Apis, InventoryErrors, InventoryReport, LiveInventory};

/// Changes come in bursts: how long one is given to end.
const SETTLE: Duration = Duration::from_millis(30);
/// How long a burst is waited for at most. Whoever comes and goes within it is never seen, and its address, if the next has
/// it at once, could be taken for the next one's.
const BURST: Duration = Duration::from_millis(100);
/// Whatever is not told by inotify (a network file system, an overflow) is seen after this.
const AGAIN: Duration = Duration::from_secs(30);
/// A reading may take one twentieth of the time, but one is made at least this often where something changes.
const SHARE: u32 = 20;
const REST: Duration = Duration::from_secs(5);
/// How soon an inventory that couldn't be read, or wasn't there, is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How deep directories are watched: `/var/lib/cni/networks/NAME`.
const DEPTH: usize = 3;
/// Directories watched at most.
const DIRECTORIES: usize = 4096;

/// Where runtimes keep who has which address, besides the configuration of networks.
const STATE: [&str; 2] = ["/var/lib/cni", "/run/cni-ipam-state"];
/// Where networks are configured, which tells the ranges of addresses.
const CONFIGURATION: [&str; 4] = [
    "/etc/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
    "/etc/kubernetes/cni/net.d",
];

/// The places of this node where identities are kept; empty inside a pod.
pub fn places() -> Vec<PathBuf> {
    let places = STATE.iter().chain(&CONFIGURATION).map(PathBuf::from);
    places.filter(|place| place.is_dir()).collect()
}

/// How well identities are known.
#[derive(Clone, Default, Debug)]
pub struct IdentityState {
    /// Claims on addresses in the journal.
    pub claims: usize,
    /// Readings so far.
    pub readings: u64,
    /// Why the last one failed, if it did.
    pub problem: Option<String>,
}

/// The identity thread's state.
pub(super) struct Follower {
    inventory: LiveInventory,
    /// What the Kubernetes API told, where it is followed.
    kubernetes: Option<Known>,
    /// What the container runtime told, where it is asked.
    residents: Option<Residents>,
    events: Option<OwnedFd>,
    orders: SyncSender<Message>,
    view: Arc<View>,
    readings: u64,
    again: Arc<AtomicBool>,
    told: Option<String>,
}

impl Follower {
    /// Begins to watch, then reads for the first time, so that nothing falls in between.
    ///
    /// # Errors
    /// When an inventory is there and can't be read.
    pub(super) fn start(
        inventory: LiveInventory,
        kubernetes: Option<Known>,
        residents: Option<Residents>,
        orders: SyncSender<Message>,
        view: Arc<View>,
        again: Arc<AtomicBool>,
    ) -> Result<Self, InventoryErrors> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &events {
            warn!(
                "changes of inventories are seen after {} s only: {error}",
                AGAIN.as_secs()
            );
        }
        let mut follower = Self {
            inventory,
            kubernetes,
            residents,
            events: events.ok(),
            orders,
            view,
            readings: 0,
            again,
            told: None,
        };
        follower.watch();
        let report = follower.read()?;
        tell(&report);
        follower.show(None);
        Ok(follower)
    }

    /// What is known by now.
    pub(super) fn journal(&self) -> Arc<crate::identity::Journal> {
        Arc::new(self.inventory.journal().clone())
    }

    /// Follows until `stop`.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        let mut due = now() + AGAIN;
        let (mut rested, mut waiting) = (now(), false);
        while !stop.load(Ordering::Relaxed) {
            waiting |= self.changed();
            let changed = waiting && rested <= now();
            let asked = self.again.swap(false, Ordering::Relaxed);
            if !(changed || asked || due <= now()) {
                continue;
            }
            self.watch();
            let began = now();
            let read = self.read();
            rested = now() + (began.elapsed() * SHARE).min(REST);
            waiting = false;
            let failed = read.is_err();
            self.show(read.err().map(|errors| errors.to_string()));
            if !failed && self.orders.send(Message::Journal(self.journal())).is_err() {
                return;
            }
            due = now() + if failed { RETRY } else { AGAIN };
        }
        // The last frames may be of pods of which nobody has heard yet.
        if self.read().is_ok() {
            self.orders.send(Message::Journal(self.journal())).ok();
        }
    }

    fn read(&mut self) -> Result<InventoryReport, InventoryErrors> {
        let cluster = self.kubernetes.as_ref().map(|known| &known.cluster);
        let cluster = cluster.map(|cluster| cluster.lock().unwrap_or_else(PoisonError::into_inner));
        let residents = self.residents.as_ref().map(|known| &known.sandboxes);
        let sandboxes = residents.map(|all| all.lock().unwrap_or_else(PoisonError::into_inner));
        let apis = Apis {
            cluster: cluster.as_deref(),
            sandboxes: sandboxes.as_deref(),
        };
        self.inventory.read(clock(), apis)
    }

    /// Waits a while for a change, and for its burst to end.
    fn changed(&self) -> bool {
        let mut changed = false;
        let wait = |patience: Duration| {
            let timeout = Timespec {
                tv_sec: patience.as_secs() as i64,
                tv_nsec: i64::from(patience.subsec_nanos()),
            };
            let mut fds: Vec<PollFd<'_>> = self
                .events
                .iter()
                .chain(self.bells())
                .map(|events| PollFd::new(events, PollFlags::IN))
                .collect();
            poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
        };
        let mut patience = RETRY / 4;
        let mut began = None;
        while wait(patience) {
            changed |= self.drain();
            if began.get_or_insert_with(now).elapsed() >= BURST {
                break;
            }
            patience = SETTLE;
        }
        changed
    }

    /// Takes the events that wait; whether any matters.
    fn drain(&self) -> bool {
        let mut matters = self.drain_files();
        for bell in self.bells() {
            matters |= rustix::io::read(bell, &mut [0; 8]).is_ok();
        }
        matters
    }

    /// What rings when an API told something new.
    fn bells(&self) -> impl Iterator<Item = &OwnedFd> {
        let kubernetes = self.kubernetes.iter().map(|known| &*known.bell);
        kubernetes.chain(self.residents.iter().map(|known| &*known.bell))
    }

    fn drain_files(&self) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(events, &mut buffer);
        let mut matters = false;
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            // Written at each allocation, beside what it allocates.
            let bookkeeping =
                name.is_some_and(|name| name == b"lock" || name.starts_with(b"last_reserved_ip"));
            matters |= !bookkeeping;
        }
        matters
    }

    /// Watches every directory of the inventories, and those that hold files. Watching one again changes nothing.
    fn watch(&self) {
        let Some(events) = &self.events else { return };
        let mut directories = BTreeSet::new();
        for path in self.inventory.paths() {
            if path.is_dir() {
                collect(path, DEPTH, &mut directories);
            } else if let Some(parent) = path.parent() {
                let here = parent.as_os_str().is_empty();
                directories.insert(if here {
                    PathBuf::from(".")
                } else {
                    parent.to_owned()
                });
            }
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        for directory in &directories {
            if let Err(error) = add_watch(events, directory, flags) {
                debug!("cannot watch {}: {error}", directory.display());
            }
        }
    }

    /// Shows how well identities are known, and tells of a problem once.
    fn show(&mut self, problem: Option<String>) {
        if problem != self.told {
            if let Some(problem) = &problem {
                warn!("identities stay as they were known: {problem}");
            } else {
                info!("identities can be read again");
            }
            self.told.clone_from(&problem);
        }
        self.readings += 1;
        self.view.show_identity(IdentityState {
            claims: self.inventory.journal().claims_count(),
            readings: self.readings,
            problem,
        });
    }
}

/// Adds a directory and those in it.
fn collect(path: &Path, depth: usize, all: &mut BTreeSet<PathBuf>) {
    if all.len() >= DIRECTORIES || !all.insert(path.to_owned()) || depth == 0 {
        return;
    }
    let entries = fs::read_dir(path).into_iter().flatten();
    for entry in entries.filter_map(io::Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, all);
        }
    }
}

fn tell(report: &InventoryReport) {
    for file in &report.files {
        info!(
            "identities from {}: {}, {} addresses",
            file.path.display(),
            file.format,
            file.bindings
        );
        for note in &file.notes {
            warn!("{}: {note}", file.path.display());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how often to look at files is no matter of packet time"
)]
fn now() -> Instant {
    Instant::now()
}
