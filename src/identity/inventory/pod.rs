//! When a pod had its address, from what its object says.

use std::time::Duration;

use super::kubernetes::Sighting;
use super::objects::{ContainerStatus, Metadata, Object, Span, Status};
use crate::identity::claim::{Standing, Tenure, earlier};
use crate::time::Timestamp;

/// The API gives times in whole seconds, cut off: the true moment may be as much later.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The uid under which the node knows the pod: of a static pod's mirror that of the original.
pub(super) fn uid(metadata: &Metadata) -> &str {
    let mirrored = &metadata.annotations.mirror;
    if mirrored.is_empty() {
        &metadata.uid
    } else {
        mirrored
    }
}

/// The newest moment that an object mentions: it was read no earlier. Deletions are announced, so theirs doesn't count.
pub(super) fn latest(object: &Object) -> Option<Timestamp> {
    let status = &object.status;
    let conditions = status
        .conditions
        .iter()
        .map(|condition| condition.last_transition_time);
    let containers = status.container_statuses.iter().flat_map(|container| {
        let state = &container.state;
        [state.running.started_at, state.terminated.finished_at]
    });
    let own = [object.metadata.creation_timestamp, status.start_time];
    own.into_iter()
        .chain(conditions)
        .chain(containers)
        .flatten()
        .max()
}

/// When the pod had the addresses it has now.
pub(super) fn tenure(metadata: &Metadata, status: &Status, sighting: Sighting) -> Tenure {
    let accepted = status.start_time.or(metadata.creation_timestamp);
    let sandbox_ready = status
        .conditions
        .iter()
        .find(|condition| {
            matches!(
                &*condition.name,
                "PodReadyToStartContainers" | "PodHasNetwork"
            ) && condition.status == "True"
        })
        .and_then(|condition| condition.last_transition_time);
    let containers = &status.container_statuses;

    // A sandbox that died is replaced by one with new addresses, and every container starts anew in it.
    let last_lives = || {
        containers
            .iter()
            .map(|container| container.last_state.terminated.finished_at)
    };
    let died = last_lives().try_fold(Timestamp::MIN, |last, end| Some(last.max(end?)));
    let replaced = died
        .filter(|&died| !containers.is_empty() && sandbox_ready.is_some_and(|ready| ready >= died));
    let start = replaced.or(accepted);

    // The condition is often noted only once the containers run; and those that restarted say nothing of the first start.
    let first_lives = containers
        .iter()
        .filter(|container| container.restart_count == 0 || replaced.is_some());
    let running = first_lives.filter_map(started).min();
    let settled = earlier(running, sandbox_ready).or(start).max(start);

    let mut tenure = Tenure {
        settled,
        ..sighting.tenure(start)
    };
    let finished = matches!(&*status.phase, "Succeeded" | "Failed");
    let ended = containers
        .iter()
        .filter_map(|container| container.state.terminated.finished_at)
        .max();
    let all_ended = containers
        .iter()
        .all(|container| is_set(&container.state.terminated));
    if finished {
        // Its addresses were free from then on, though the object goes on showing them.
        let ended = ended
            .map(|ended| ended.after(RESOLUTION))
            .or_else(|| last_change(status));
        tenure.end = earlier(tenure.end, ended.or(settled));
        tenure.standing = Standing::Leaving;
        tenure.last_seen = None;
    } else if sighting.deleted {
        let ended = ended
            .filter(|_| all_ended)
            .map(|ended| ended.after(RESOLUTION));
        tenure.end = tenure.end.or(ended).or(metadata.deletion_timestamp);
    } else if metadata.deletion_timestamp.is_some() {
        tenure.standing = Standing::Leaving;
    }
    tenure
}

fn started(container: &ContainerStatus) -> Option<Timestamp> {
    container
        .state
        .running
        .started_at
        .or(container.state.terminated.started_at)
}

fn is_set(span: &Span) -> bool {
    span.started_at.is_some() || span.finished_at.is_some()
}

/// When the conditions last changed: an evicted pod has no containers that could tell.
fn last_change(status: &Status) -> Option<Timestamp> {
    status
        .conditions
        .iter()
        .filter_map(|condition| condition.last_transition_time)
        .max()
}
