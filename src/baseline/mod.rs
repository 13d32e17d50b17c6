//! What each workload has been seen to do, and how surprising something else would be.

/// The learned normal of all workloads.
#[derive(Debug, Default)]
pub struct Baseline {}
