//! A registry in the cluster and those whose job it is to call it, for the cases about registries.

use std::time::Duration;

use super::at;
use crate::testkit::cluster::{Cluster, DAY_BEFORE, Pod, Workload};
use crate::testkit::resolver::Resolver;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::oci::Caller;
use crate::testkit::talk::tcp::{Session, Side};

/// The registry.
const REGISTRY: Workload = Workload {
    namespace: "ci",
    kind: "StatefulSet",
    name: "registry",
};
/// What builds images.
const RUNNER: Workload = Workload {
    namespace: "ci",
    kind: "StatefulSet",
    name: "runner",
};
/// What looks for new tags of images, to roll them out.
const UPDATER: Workload = Workload {
    namespace: "flux-system",
    kind: "Deployment",
    name: "image-reflector",
};
const REGISTRY_AT: u8 = 60;
const RUNNER_AT: u8 = 61;
const UPDATER_AT: u8 = 62;
const HOST: &str = "registry.ci.svc.cluster.local:5000";

/// The usual cluster with a registry, a runner and an updater.
pub(super) fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.add_stateful(REGISTRY, DAY_BEFORE, REGISTRY_AT);
    cluster.add_stateful(RUNNER, DAY_BEFORE, RUNNER_AT);
    cluster.deploy(UPDATER, "1", DAY_BEFORE, &[UPDATER_AT]);
    cluster
}

/// The runner.
pub(super) fn runner(cluster: &Cluster) -> &Pod {
    cluster.pod(RUNNER_AT)
}

/// A connection of a pod to the registry, and what is said on it.
pub(super) fn visit(
    scene: &mut Scene,
    cluster: &Cluster,
    from: &Pod,
    agent: &str,
    secs: u64,
    say: impl FnOnce(&mut Scene, &mut Session, &Caller<'_>),
) {
    let route = Route::direct(from.host, cluster.pod(REGISTRY_AT).host, 5000);
    let mut session = Session::open(scene, route, at(secs));
    let caller = Caller { host: HOST, agent };
    caller.ping(scene, &mut session);
    say(scene, &mut session, &caller);
    session.close(scene, Side::Client);
}

/// A build: the base image is fetched, the result is sent.
pub(super) fn build(scene: &mut Scene, cluster: &Cluster, secs: u64, tag: &str) {
    let runner = runner(cluster);
    visit(
        scene,
        cluster,
        runner,
        "skopeo/1.9.3",
        secs,
        |scene, session, caller| {
            caller.pull(scene, session, ("ci/tools-base", "latest"), 42_000);
            session.wait(scene, Duration::from_secs(4));
            caller.push(scene, session, ("shop/web", tag), 21_000);
        },
    );
}

/// What goes on at the registry on any day, if there is one: builds, and the updater's look at the tags once a minute.
pub(super) fn play(scene: &mut Scene, cluster: &Cluster) {
    if !cluster.pods.iter().any(|pod| pod.workload == REGISTRY) {
        return;
    }
    for (secs, tag) in [(22, "1.4.0"), (96, "1.4.1")] {
        build(scene, cluster, secs, tag);
    }
    let updater = cluster.pod(UPDATER_AT);
    let mut resolver = Resolver::new(cluster);
    for round in 0..3 {
        let secs = 9 + round * 60;
        resolver.outside(
            scene,
            updater,
            "releases.tools.example",
            &["198.51.100.61".parse().expect("an address")],
            at(secs),
        );
        visit(
            scene,
            cluster,
            updater,
            "fluxcd/image-reflector",
            secs + 1,
            |scene, session, caller| {
                for repository in ["shop/web", "shop/api"] {
                    caller.tags(scene, session, repository);
                }
            },
        );
    }
}
