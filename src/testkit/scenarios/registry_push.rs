//! `registry-push`: a pod of the shop's back pushes an image under a name that the pipeline owns; the twin is the
//! pipeline's own busy day.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, ordinary, registry};
use crate::testkit::cluster::START;

const IMPLANTER: u8 = 12;
const BEGINS: u64 = 75;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = registry::cluster();
    Case {
        id: "registry-push",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A pod of the shop's back fetches the image of the front, which the runner pushed a minute before, and pushes one of its own under the same name.",
                seed: 303,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "The runner builds and pushes four times; an updater looks at tags.",
                seed: 304,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            Expect::new(
                "registry-pull",
                "implant",
                cluster.pod(IMPLANTER),
                Duration::from_secs(BEGINS),
            )
            .within(15),
            Expect::new(
                "registry-push",
                "implant",
                cluster.pod(IMPLANTER),
                Duration::from_secs(BEGINS),
            )
            .within(30),
        ],
    }
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = registry::cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let implanter = cluster.pod(IMPLANTER);
    registry::visit(
        &mut scene,
        &cluster,
        implanter,
        "crane/0.20.2",
        BEGINS,
        |scene, session, caller| {
            caller.pull(scene, session, ("shop/web", "1.4.0"), 21_000);
            session.wait(scene, Duration::from_secs(5));
            caller.push(scene, session, ("shop/web", "1.4.0"), 6_000);
        },
    );
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = registry::cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for (secs, tag) in [(60, "1.4.2"), (140, "1.5.0")] {
        registry::build(&mut scene, &cluster, secs, tag);
    }
    scene.finish()
}
