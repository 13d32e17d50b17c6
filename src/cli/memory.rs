//! What becomes of `--memory-limit`.

use crate::memory::Share;

/// What it may be, in MiB.
pub(super) const LEAST_LIMIT: i64 = 48;
pub(super) const MOST_LIMIT: i64 = 1 << 20;

/// What is left of a limit for what traffic can fill, both in MiB, where other things take `fixed`. A ninth of it is the
/// allocator's: what comes and goes leaves gaps.
pub(super) fn remembered(limit: u32, fixed: u32) -> Share {
    let left = u64::from(limit.saturating_sub(fixed)) << 20;
    Share::of(left / 9 * 8)
}

/// Has the kernel give memory by pages of the usual size from here on. Huge ones hold gaps: a run that is idle takes three times as
/// much with them, and none is faster.
pub(super) fn on_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("huge pages stay: {error}");
    }
}
