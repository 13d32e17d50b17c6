//! `ssh-bruteforce`: one pod guesses at a bastion, four connections at a time, until it is let in; another takes its time, a third guesses
//! at a server that refuses at once. Their twins are a deployment tool that visits often, a person who mistypes, and a mirror
//! whose key was withdrawn.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::ssh;
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

const BASTION: Workload = Workload {
    namespace: "ops",
    kind: "Deployment",
    name: "bastion",
};
const DEPLOY: Workload = Workload {
    namespace: "ci",
    kind: "Deployment",
    name: "deploy",
};
const MIRROR: Workload = Workload {
    namespace: "ci",
    kind: "Deployment",
    name: "git-mirror",
};
const PORT: u16 = 22;
const SERVER: &str = "OpenSSH_9.2p1 Debian-2+deb12u5";
const OPENSSH: &str = "OpenSSH_9.6p1 Ubuntu-3ubuntu13.5";
/// Who guesses fast, and who slowly.
const FAST: u8 = 11;
const SLOW: u8 = 14;
/// Who is refused at once.
const HASTY: u8 = 12;
const FAST_BEGINS: u64 = 40;
const SLOW_BEGINS: u64 = 20;
const HASTY_BEGINS: u64 = 70;
/// What requests take: a key, a dialogue, and passwords as OpenSSH pads them.
const KEY: usize = 112;
const DIALOGUE: usize = 61;
const PASSWORD: usize = 55;
const LONG_PASSWORD: usize = 119;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8, begins: u64| {
        let begins = Duration::from_secs(begins);
        Expect::new("ssh-bruteforce", "credential", cluster.pod(actor), begins)
    };
    Case {
        id: "ssh-bruteforce",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "A web pod guesses at the bastion by a library, four connections at a time, and is let in at last. The worker tries once every 6 to 9 s with an ordinary client, in vain. Another pod tries every 1 to 3 s, and is refused at once.",
                seed: 83,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "A deployment tool visits the bastion every 5 s with its key. Somebody gets the password right at the third try. A mirror whose key was withdrawn comes every 3 to 15 s, and where nobody can type sends empty passwords, too.",
                seed: 84,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![
            expect(FAST, FAST_BEGINS).within(35),
            expect(SLOW, SLOW_BEGINS).within(150),
            expect(HASTY, HASTY_BEGINS).within(60),
        ],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.deploy(BASTION, "1", since, &[26]);
    cluster.deploy(DEPLOY, "1", since, &[31]);
    cluster.deploy(MIRROR, "1", since, &[32]);
    cluster
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut lanes = [0, 3, 5, 8].map(|late| at(FAST_BEGINS).after(Duration::from_millis(late)));
    for _ in 0..12 {
        for lane in &mut lanes {
            *lane = visit(&mut scene, &cluster, FAST, *lane, |scene| {
                let names = ("libssh_0.10.6", SERVER);
                ssh::passwords(&mut scene.rng, names, 1, false, Duration::from_millis(1))
            })
            .after(scene.rng.about(Duration::from_millis(20)));
        }
    }
    let last = lanes.into_iter().max().unwrap_or(START);
    visit(&mut scene, &cluster, FAST, last, |scene| {
        let names = ("libssh_0.10.6", SERVER);
        ssh::passwords(&mut scene.rng, names, 1, true, Duration::from_millis(1))
    });
    let mut now = at(SLOW_BEGINS);
    for _ in 0..15 {
        now = visit(&mut scene, &cluster, SLOW, now, |scene| {
            let names = (OPENSSH, SERVER);
            ssh::passwords(&mut scene.rng, names, 1, false, Duration::from_millis(4))
        })
        .after(
            scene
                .rng
                .between(Duration::from_secs(6), Duration::from_secs(9)),
        );
    }
    let mut now = at(HASTY_BEGINS);
    for n in 0..18 {
        now = visit(&mut scene, &cluster, HASTY, now, |scene| {
            let password = if n % 4 == 1 { LONG_PASSWORD } else { PASSWORD };
            ssh::refused(&mut scene.rng, (OPENSSH, SERVER), &[password])
        })
        .after(
            scene
                .rng
                .between(Duration::from_secs(1), Duration::from_secs(3)),
        );
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    for n in 0..30 {
        visit(&mut scene, &cluster, 31, at(8 + n * 5), |scene| {
            let mut steps = ssh::login(&mut scene.rng, OPENSSH, SERVER);
            steps.extend(ssh::shell(&mut scene.rng));
            steps
        });
    }
    visit(&mut scene, &cluster, 10, at(50), |scene| {
        let typing = Duration::from_secs(3);
        let mut steps = ssh::passwords(&mut scene.rng, (OPENSSH, SERVER), 3, true, typing);
        steps.extend(ssh::shell(&mut scene.rng));
        steps.extend(ssh::typing(&mut scene.rng, 4));
        steps
    });
    let mut now = at(10);
    for n in 0..18 {
        let requests: &[usize] = match n % 3 {
            // The methods are asked for, and none will do.
            0 => &[],
            1 => &[KEY],
            _ => &[KEY, DIALOGUE, PASSWORD, PASSWORD, PASSWORD],
        };
        now = visit(&mut scene, &cluster, 32, now, |scene| {
            ssh::refused(&mut scene.rng, (OPENSSH, SERVER), requests)
        })
        .after(
            scene
                .rng
                .between(Duration::from_secs(3), Duration::from_secs(15)),
        );
    }
    scene.finish()
}

/// A connection to the bastion. When it is over.
fn visit(
    scene: &mut Scene,
    cluster: &Cluster,
    client: u8,
    start: Timestamp,
    steps: impl FnOnce(&mut Scene) -> Vec<ssh::Step>,
) -> Timestamp {
    let route = Route::direct(cluster.pod(client).host, cluster.pod(26).host, PORT);
    let steps = steps(scene);
    let mut session = Session::open(scene, route, start);
    ssh::play(scene, &mut session, &steps, ssh::bare);
    session.close(scene, Side::Client)
}
