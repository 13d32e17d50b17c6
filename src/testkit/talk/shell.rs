//! Somebody works a command interpreter through a connection: lines or single keys one way, what programs print the other.

use std::time::Duration;

use super::tcp::{Session, Side};
use super::tls;
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;
use crate::time::Timestamp;

/// What a shell without a terminal says first.
pub const NO_TERMINAL: &str = "bash: cannot set terminal process group (1): Inappropriate ioctl for device\nbash: no job control in this shell\n";
const PROMPT: &str = "root@c:/# ";

/// What somebody asks who has just got in, and what comes back.
const COMMANDS: &[(&str, &str)] = &[
    ("id", "uid=0(root) gid=0(root) groups=0(root)\n"),
    (
        "uname -a",
        "Linux c 6.1.0-31-amd64 #1 SMP PREEMPT_DYNAMIC x86_64 GNU/Linux\n",
    ),
    (
        "ls -la /",
        "total 68\ndrwxr-xr-x 1 root root 4096 app\ndrwxr-xr-x 1 root root 4096 bin\ndrwxr-xr-x 5 root root 360 dev\ndrwxr-xr-x 1 root root 4096 etc\ndrwxr-xr-x 2 root root 4096 home\ndrwxr-xr-x 1 root root 4096 lib\ndrwxr-xr-x 2 root root 4096 mnt\ndrwxr-xr-x 2 root root 4096 opt\ndr-xr-xr-x 311 root root 0 proc\ndrwx------ 1 root root 4096 root\ndrwxr-xr-x 1 root root 4096 run\ndrwxrwxrwt 1 root root 4096 tmp\n",
    ),
    (
        "cat /etc/resolv.conf",
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    ),
    (
        "ls /var/run/secrets/kubernetes.io/serviceaccount",
        "ca.crt\nnamespace\ntoken\n",
    ),
    ("hostname -i", "10.244.1.10\n"),
    (
        "ps aux",
        "USER PID %CPU %MEM COMMAND\nroot 1 0.1 2.0 /app/server --listen :8080\nroot 31 0.0 0.0 bash -i\nroot 40 0.0 0.0 ps aux\n",
    ),
    ("cd /app; ls", "config.yaml\nserver\nstatic\ntemplates\n"),
];

/// How it is typed and wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Whole lines, in the clear.
    Lines,
    /// Each key by itself and echoed, as a pseudo-terminal has it, inside TLS records.
    SealedKeys,
}

/// Somebody at `typist`'s end types commands until `until`, thinking `pause` on the mean before each.
pub fn work(
    scene: &mut Scene,
    session: &mut Session,
    typist: Side,
    form: Form,
    pause: Duration,
    until: Timestamp,
) {
    let shell = other(typist);
    if form == Form::Lines {
        say(
            scene,
            session,
            shell,
            form,
            &format!("{NO_TERMINAL}{PROMPT}"),
        );
    } else {
        say(scene, session, shell, form, PROMPT);
    }
    for (command, printed) in COMMANDS.iter().cycle() {
        let think = Duration::from_millis(900) + scene.rng.pause(pause);
        if session.now().after(think) >= until {
            return;
        }
        session.wait(scene, think);
        if form == Form::Lines {
            say(scene, session, typist, form, &format!("{command}\n"));
        } else {
            for key in command.chars().chain(['\r']) {
                say(scene, session, typist, form, &key.to_string());
                say(scene, session, shell, form, &key.to_string());
                let hand = Duration::from_millis(60) + scene.rng.pause(Duration::from_millis(90));
                session.wait(scene, hand.min(Duration::from_millis(450)));
            }
        }
        let run = scene.rng.about(Duration::from_millis(12));
        session.wait(scene, run);
        say(scene, session, shell, form, &format!("{printed}{PROMPT}"));
    }
}

const fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

fn say(scene: &mut Scene, session: &mut Session, side: Side, form: Form, text: &str) {
    let bytes = match form {
        Form::Lines => text.as_bytes().to_vec(),
        Form::SealedKeys => sealed(&mut scene.rng, text.len()),
    };
    session.say(scene, side, &bytes);
}

fn sealed(rng: &mut Rng, len: usize) -> Vec<u8> {
    tls::data(rng, len)
}
