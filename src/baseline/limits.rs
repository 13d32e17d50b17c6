//! How much a baseline remembers: every bound by name. What has no room is counted (`Loss::BaselineFull`), never silent.
//!
//! A workload costs about 3 kB, each peer or word 24 bytes and its name once. The bounds in all hold a baseline below
//! half a gigabyte whatever is learned.

use std::time::Duration;

/// Workloads in a baseline.
pub(super) const WORKLOADS: usize = 50_000;
/// Peers of a workload in a role.
pub(super) const PEERS: usize = 1024;
/// Networks outside by which a workload's named peers are known again.
pub(super) const NETWORKS: usize = 256;
/// Peers of a workload in a role of whom volume, duration and rhythm are kept.
pub(super) const HABITS: usize = 64;
/// The last visits remembered of a peer who isn't always there.
pub(super) const VISITS: usize = 32;
/// Releases remembered of a workload.
pub(super) const RELEASES: usize = 8;
/// Acceptances remembered of a workload.
pub(super) const ACCEPTED: usize = 64;

/// Peers, networks and words in all.
pub(super) const ENTRIES_IN_ALL: usize = 12_000_000;
/// Peers with habits in all.
pub(super) const HABITS_IN_ALL: usize = 150_000;
/// Bytes of names in all, each name counted once.
pub(super) const NAME_BYTES_IN_ALL: usize = 64 << 20;

/// What was not seen for this long is forgotten.
pub(super) const FORGET_AFTER: Duration = Duration::from_hours(90 * 24);
/// Minutes that a rate's histogram holds before it forgets half of them: a month of one pod, or a day of thirty.
pub(super) const MINUTES: u64 = 43_200;
/// Flows that a volume's or a duration's histogram holds before it forgets half of them.
pub(super) const FLOWS: u64 = 1 << 20;
