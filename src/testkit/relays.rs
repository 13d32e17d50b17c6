//! Conversations through relays, and the ordinary business of pods: how often are relays found, and how often is a pair of
//! connections taken for one?
//!
//! Made without packets, so that tens of thousands of pairs take a minute. Sizes and times become the turns and exchanges of
//! flows as captured ones would, and the detector is shown those.

mod traffic;
mod watch;
mod work;

use std::time::Duration;

use super::rng::Rng;
use crate::flow::Direction;
use traffic::{ORDINARY, chat, passed_on};
use watch::Watch;
use work::{DATABASES, business};

use Direction::{Orig, Resp};

/// What is done through a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Queries to a database, one connection.
    Queries,
    /// Queries over several short connections.
    Sessions,
    /// Somebody types; keys are echoed.
    Typing,
    /// A few large answers.
    Download,
    /// A few large questions.
    Upload,
}

/// What a relay does to what passes.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It holds everything back by up to this; whether always by as much.
    pub delay: (Duration, bool),
    /// It reads and writes in pieces of its own.
    pub rechunk: bool,
    /// It wraps what passes on one leg, as TLS does.
    pub wrap: bool,
    /// Share of noise that it adds to the wrapped leg, in percent.
    pub chaff: u64,
    /// The pod goes on with its own work meanwhile, with the same server too.
    pub load: bool,
}

impl Manner {
    /// For how long it holds something back.
    fn held(&self, rng: &mut Rng) -> Duration {
        match self.delay {
            (always, true) => always,
            (most, false) => most.mul_f64(rng.below(1001) as f64 / 1000.0),
        }
    }
}

/// Something said: when, by whom, how many bytes.
type Said = (Duration, Direction, u64);

/// One side of a pod: all its connections to one of its ports, or to one peer's.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which end the pod is.
    pod: Direction,
    port: u16,
    /// What is recognised there.
    app: Option<&'static str>,
    /// Whether the peer is outside of the cluster.
    outside: bool,
    /// Others that come in there.
    callers: u64,
}

impl Place {
    const fn served(port: u16, app: Option<&'static str>) -> Self {
        Self {
            pod: Resp,
            port,
            app,
            outside: false,
            callers: 0,
        }
    }

    const fn called(port: u16, app: Option<&'static str>) -> Self {
        Self {
            pod: Orig,
            ..Self::served(port, app)
        }
    }
}

/// One connection: which of the pod's sides it belongs to, when it was opened if that was before anything was said, and what
/// was said.
#[derive(Clone, Debug)]
struct Line {
    side: usize,
    opened: Option<Duration>,
    said: Vec<Said>,
}

/// What happens at a pod, from when it was first seen.
#[derive(Clone, Default, Debug)]
struct Pod {
    sides: Vec<Place>,
    lines: Vec<Line>,
}

impl Pod {
    /// A connection on a side of its own.
    fn line(&mut self, place: Place, said: Vec<Said>) {
        self.sides.push(place);
        self.more(self.sides.len() - 1, said);
    }

    /// Another connection on a side.
    fn more(&mut self, side: usize, said: Vec<Said>) {
        self.lines.push(Line {
            side,
            opened: None,
            said,
        });
    }

    /// Everything happens so much later; whether the connections were there by then.
    fn wait(&mut self, by: Duration, opened: bool) {
        for line in &mut self.lines {
            for (time, ..) in &mut line.said {
                *time += by;
            }
            line.opened = if opened {
                Some(Duration::from_secs(1))
            } else {
                line.opened.map(|time| time + by)
            };
        }
    }

    /// It does other things, too.
    fn also(&mut self, other: Self) {
        let before = self.sides.len();
        self.sides.extend(other.sides);
        self.lines.extend(other.lines.into_iter().map(|line| Line {
            side: line.side + before,
            ..line
        }));
    }
}

/// How many pairs of connections were taken for relays, of how many.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rate {
    /// Taken for a relay.
    pub found: u64,
    /// Looked at.
    pub of: u64,
}

impl Rate {
    /// The share.
    pub fn share(&self) -> f64 {
        self.found as f64 / self.of.max(1) as f64
    }

    const fn count(&mut self, found: bool) {
        self.of += 1;
        self.found += found as u64;
    }

    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.of += other.of;
        self.found += other.found;
    }
}

/// The same pairs judged by sizes alone, at the least bits that these must tell, and by all that the detector weighs.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Sizes agree.
    pub sizes: Rate,
    /// An alert is raised.
    pub alerts: Rate,
}

impl Tally {
    const fn count(&mut self, [sizes, alert]: [bool; 2]) {
        self.sizes.count(sizes);
        self.alerts.count(alert);
    }

    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.sizes.add(other.sizes);
        self.alerts.add(other.alerts);
    }
}

/// Kinds of work that pods do.
const KINDS: u64 = 6;
/// Sides of a relay.
const FRONT: usize = 0;
const BACK: usize = 1;
/// A pod has been watched for up to this when somebody comes.
const WATCHED: Duration = Duration::from_mins(10);

/// Pods that are watched, one after the other.
#[derive(Debug)]
pub struct Simulation(Watch);

impl Default for Simulation {
    fn default() -> Self {
        Self(Watch::new())
    }
}

impl Simulation {
    /// One relay at work: a port that is passed on, or a line that the pod called itself and by which it is asked.
    /// `benign` counts the pod's other pairs.
    pub fn relay(
        &mut self,
        rng: &mut Rng,
        what: Use,
        manner: &Manner,
        found: &mut Tally,
        benign: &mut Tally,
    ) {
        let wrapped_front = manner.wrap && rng.chance(50);
        let wrapped_back = manner.wrap && !wrapped_front;
        let (port, app) = target(rng, what);
        let reversed = rng.chance(25);
        let hidden = |wrapped| if wrapped { Some("tls") } else { app };
        let front = Place {
            pod: if reversed { Orig } else { Resp },
            port: way_in(rng, wrapped_front, reversed),
            app: hidden(wrapped_front),
            outside: reversed || rng.chance(30),
            callers: 0,
        };
        // What is wrapped on the way out is unwrapped by another relay.
        let back = Place {
            outside: wrapped_back && rng.chance(50),
            ..Place::called(if wrapped_back { 443 } else { port }, hidden(wrapped_back))
        };
        let mut pod = Pod {
            sides: vec![front, back],
            lines: Vec::new(),
        };
        let connections = if what == Use::Sessions { 5 } else { 1 };
        let mut begins = Duration::from_secs(rng.within(5..30));
        for _ in 0..connections {
            let (mut in_front, behind, ends) = passed_on(rng, what, manner, wrapped_front, begins);
            if reversed {
                // The peer asks; but the handshake is begun by who called.
                let hello = if wrapped_front { 3 } else { 0 };
                for (_, direction, _) in in_front.iter_mut().skip(hello) {
                    *direction = direction.reverse();
                }
            }
            pod.more(FRONT, in_front);
            pod.more(BACK, behind);
            // Whoever takes a connection makes the other one then.
            let held = Duration::from_micros(rng.within(100..900)) + manner.held(rng);
            let opened = [begins, begins + held];
            for (line, opened) in pod.lines.iter_mut().rev().zip(opened.into_iter().rev()) {
                line.opened = Some(opened);
            }
            begins = ends + rng.pause(Duration::from_secs(3));
        }
        let late = WATCHED.mul_f64(rng.below(1000) as f64 / 1000.0);
        pod.wait(late, false);
        if manner.load {
            let mut work = business(rng, 3);
            work.wait(late, true);
            pod.also(work);
            // The pod asks the relay's target on its own account.
            let mut own = Vec::new();
            chat(rng, &mut own, late + Duration::from_secs(2), 25, ORDINARY);
            pod.more(BACK, own);
        }
        self.0.judge(&pod, Some(found), benign);
    }

    /// A pod's ordinary work, which it takes up at once or later.
    pub fn ordinary(&mut self, rng: &mut Rng, benign: &mut Tally) {
        let kind = rng.below(KINDS);
        let mut pod = business(rng, kind);
        if rng.chance(50) {
            let late = WATCHED.mul_f64(rng.below(1000) as f64 / 1000.0);
            pod.wait(late, rng.chance(50));
        }
        self.0.judge(&pod, None, benign);
    }

    /// A relay that is meant to be: a pooler, or a proxy of the web that may take TLS off.
    pub fn designed(&mut self, rng: &mut Rng, found: &mut Tally) {
        let web = rng.chance(60);
        let off = web && rng.chance(50);
        let manner = Manner {
            delay: (Duration::from_millis(2), false),
            rechunk: rng.chance(50),
            wrap: off,
            chaff: 0,
            load: false,
        };
        let sides = if web {
            let (port, app) = if off {
                (rng.pick(&[443, 8443]), "tls")
            } else {
                rng.pick(&[
                    (80, "http"),
                    (8080, "http"),
                    (443, "tls"),
                    (50_051, "http2"),
                ])
            };
            let behind = if off { "http" } else { app };
            [
                Place::served(port, Some(app)),
                Place::called(rng.pick(&[8080, 9000, port]), Some(behind)),
            ]
        } else {
            let (own, port, app) = rng.pick(&[
                (5432, 5432, "postgresql"),
                (6432, 5432, "postgresql"),
                (3306, 3306, "mysql"),
                (6033, 3306, "mysql"),
                (6380, 6379, "redis"),
            ]);
            [
                Place::served(own, Some(app)),
                Place::called(port, Some(app)),
            ]
        };
        let mut pod = Pod {
            sides: sides.to_vec(),
            lines: Vec::new(),
        };
        pod.sides[FRONT].callers = rng.below(5);
        let mut begins = Duration::from_secs(2);
        for _ in 0..5 {
            let (front, back, ends) = passed_on(rng, Use::Sessions, &manner, off, begins);
            pod.more(FRONT, front);
            pod.more(BACK, back);
            begins = ends + rng.pause(Duration::from_secs(3));
        }
        if rng.chance(50) {
            pod.wait(WATCHED.mul_f64(rng.below(1000) as f64 / 1000.0), false);
        }
        self.0.judge(&pod, Some(found), &mut Tally::default());
    }
}

/// What is reached through a relay, by its port and as what it would be recognised.
fn target(rng: &mut Rng, what: Use) -> (u16, Option<&'static str>) {
    match what {
        Use::Typing => rng.pick(&[(22, Some("ssh")), (22, Some("ssh")), (23, Some("telnet"))]),
        Use::Download | Use::Upload if rng.chance(40) => {
            rng.pick(&[(22, Some("ssh")), (445, Some("smb"))])
        }
        _ => {
            let (port, app) = rng.pick(&DATABASES);
            // Some speak TLS from the first byte.
            (port, (!rng.chance(10)).then_some(app))
        }
    }
}

/// A port by which somebody comes in, or that the pod calls outside.
fn way_in(rng: &mut Rng, wrapped: bool, reversed: bool) -> u16 {
    let usual: &[u16] = match (wrapped, reversed) {
        (true, _) => &[443, 8443, 9443],
        (false, true) => &[443, 80, 4444, 22],
        (false, false) => &[1080, 4444, 8000, 9000, 18_080],
    };
    if rng.chance(50) {
        rng.pick(usual)
    } else {
        rng.within(10_000..60_000) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_raise_alerts_and_ordinary_work_does_not() {
        let mut rng = Rng::new(11);
        let mut simulation = Simulation::default();
        let (mut benign, mut found) = (Tally::default(), Tally::default());
        let mut designed = Tally::default();
        for what in [Use::Queries, Use::Sessions, Use::Typing, Use::Upload] {
            for (delay, wrap, chaff) in [(0, false, 0), (2, false, 0), (1, true, 0), (2, true, 20)]
            {
                let manner = Manner {
                    delay: (Duration::from_secs(delay), true),
                    rechunk: true,
                    wrap,
                    chaff,
                    load: true,
                };
                simulation.relay(&mut rng, what, &manner, &mut found, &mut benign);
            }
        }
        for _ in 0..100 {
            simulation.ordinary(&mut rng, &mut benign);
        }
        for _ in 0..12 {
            simulation.designed(&mut rng, &mut designed);
        }
        assert!(found.alerts.share() >= 0.9, "{found:?}");
        assert!(
            benign.alerts.of > 100 && benign.alerts.found == 0,
            "{benign:?}"
        );
        assert!(benign.sizes.share() <= 0.01, "{benign:?}");
        assert_eq!(designed.alerts.found, 0, "{designed:?}");
    }
}
