//! Which releases of a workload ran in this capture, and since when: a new image or template hash explains what is new.

use std::sync::Arc;

use super::Bounded;
use crate::event::{Endpoint, Event, EventKind};
use crate::identity::WorkloadId;
use crate::memory::Share;
use crate::time::Timestamp;

/// Workloads whose releases are remembered.
const MAX_WORKLOADS: usize = 16_384;
/// Releases remembered of each; a rollout has two.
const MAX_RELEASES: usize = 8;

/// The releases seen of each workload, each with its first sight.
#[derive(Debug)]
pub struct Releases {
    seen: Bounded<WorkloadId, Vec<(Arc<str>, Timestamp)>>,
}

impl Default for Releases {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl Releases {
    /// None seen yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        Self {
            seen: Bounded::new(share.part(MAX_WORKLOADS)),
        }
    }

    /// Notes the releases of a flow's ends.
    pub fn observe(&mut self, event: &Event) {
        if let EventKind::FlowOpened(flow) = &event.kind {
            for end in [&flow.orig, &flow.resp] {
                self.note(end, event.time);
            }
        }
    }

    fn note(&mut self, end: &Endpoint, time: Timestamp) {
        let identity = &end.who.identity;
        let (Some(workload), Some(revision)) = (&identity.workload, &identity.revision) else {
            return;
        };
        if let Some(seen) = self.seen.get_mut(workload) {
            if seen.len() < MAX_RELEASES && !seen.iter().any(|(known, _)| known == revision) {
                seen.push((Arc::clone(revision), time));
            }
        } else {
            let first = vec![(Arc::clone(revision), time)];
            self.seen.put(workload.clone(), first);
        }
    }

    /// When a release was first seen.
    pub fn since(&self, workload: &WorkloadId, revision: &str) -> Option<Timestamp> {
        let seen = self.seen.peek(workload)?;
        let release = seen.iter().find(|(known, _)| **known == *revision)?;
        Some(release.1)
    }

    /// Whether it is not the first that was seen of its workload.
    pub fn is_later(&self, workload: &WorkloadId, revision: &str) -> bool {
        let seen = self.seen.peek(workload);
        seen.and_then(|seen| seen.first())
            .is_some_and(|(first, _)| **first != *revision)
    }
}
