//! Alarms of the run about itself: that it sees nothing, loses too much, doesn't know who is who, can't write, or is behind.
//!
//! Owns what is one and when it is over. Looks at what the threads show of themselves, and is told the time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use super::{IdentityState, Standing, TapState};

/// Over which losses are counted, and names.
const WINDOW: Duration = Duration::from_mins(5);
/// Fewer packets, or ends of flows, tell nothing.
const FEWEST: u64 = 1000;
const FEWEST_ENDS: u64 = 200;
/// Unknown ends among those inside from which on identities are unknown rather than some.
const UNNAMED_SHARE: f64 = 0.5;
/// How long something must fail to be no hiccup: an inventory, the analysis, a disk.
const PATIENCE: Duration = Duration::from_mins(1);

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Condition {
    /// An interface brings no packets.
    Silence,
    /// Packets are lost.
    Loss,
    /// Addresses inside have no names.
    Names,
    /// An inventory can't be read.
    Inventory,
    /// Something can't be written.
    Disk,
    /// The analysis is far behind the clock.
    Behind,
}

impl Condition {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Silence,
        Self::Loss,
        Self::Names,
        Self::Inventory,
        Self::Disk,
        Self::Behind,
    ];

    /// The word used in metrics and labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Loss => "loss",
            Self::Names => "names",
            Self::Inventory => "inventory",
            Self::Disk => "disk",
            Self::Behind => "behind",
        }
    }
}

/// From when on something is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Percent of packets lost.
    pub loss: u32,
    /// Time without a packet; never, if none.
    pub silence: Option<Duration>,
    /// Whether each interface must bring packets, as a mirror port does, or any of them.
    pub each_interface: bool,
    /// Whether there is an inventory, that should know who is who.
    pub names: bool,
}

/// An alarm that was raised or is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// What is wrong.
    pub condition: Condition,
    /// With what, if there may be several.
    pub subject: String,
    /// In words, with what to do.
    pub text: String,
    /// Whether it still is.
    pub raised: bool,
}

/// What there is to judge, at one moment.
pub(super) struct Look<'a> {
    pub(super) taps: &'a [TapState],
    pub(super) standing: &'a Standing,
    pub(super) identity: &'a IdentityState,
    /// What can't be written, in words.
    pub(super) failing: &'a [&'static str],
    /// How far the analysis is behind.
    pub(super) behind: Duration,
}

/// Counters at a moment.
#[derive(Clone, Copy, Default, Debug)]
struct Mark {
    at: Duration,
    received: u64,
    lost: u64,
    ends: u64,
    named: u64,
}

type Key = (Condition, String);

/// Judges, time and again.
#[derive(Debug)]
pub(super) struct Health {
    limits: Limits,
    marks: VecDeque<Mark>,
    /// When an interface last brought a packet, and how many it had brought.
    heard: BTreeMap<String, (Duration, u64)>,
    /// Since when something has been wrong, that may be a hiccup.
    since: BTreeMap<Key, Duration>,
    raised: BTreeMap<Key, String>,
}

impl Health {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            marks: VecDeque::new(),
            heard: BTreeMap::new(),
            since: BTreeMap::new(),
            raised: BTreeMap::new(),
        }
    }

    /// Looks `at` a time after the start, every few seconds; what changed since the last look.
    pub(super) fn look(&mut self, at: Duration, look: &Look<'_>) -> Vec<Alarm> {
        let mut wrong: BTreeMap<Key, String> = BTreeMap::new();
        self.silence(at, look, &mut wrong);
        self.shares(at, look, &mut wrong);
        let mut lasting = Vec::new();
        if let Some(problem) = &look.identity.problem {
            let text =
                format!("an inventory can't be read, names stay as they were known: {problem}");
            lasting.push(((Condition::Inventory, String::new()), text));
        }
        if look.behind > PATIENCE {
            let text = format!(
                "the analysis is {} s behind: alerts come that late; there is more traffic than this machine can take",
                look.behind.as_secs()
            );
            wrong.insert((Condition::Behind, String::new()), text);
        }
        for what in look.failing {
            let text = format!("{what} can't be written; is the disk full, or gone?");
            lasting.push(((Condition::Disk, (*what).to_owned()), text));
        }
        self.since
            .retain(|key, _| lasting.iter().any(|(still, _)| still == key));
        for (key, text) in lasting {
            let since = *self.since.entry(key.clone()).or_insert(at);
            if at.saturating_sub(since) >= PATIENCE {
                wrong.insert(key, text);
            }
        }
        self.changes(wrong)
    }

    /// What is wrong at the moment.
    pub(super) fn raised(&self) -> impl Iterator<Item = Alarm> {
        let raised = self.raised.iter();
        raised.map(|((condition, subject), text)| Alarm {
            condition: *condition,
            subject: subject.clone(),
            text: text.clone(),
            raised: true,
        })
    }

    fn changes(&mut self, wrong: BTreeMap<Key, String>) -> Vec<Alarm> {
        let before = std::mem::replace(&mut self.raised, wrong);
        let alarm = |((condition, subject), text): (&Key, &String), raised| Alarm {
            condition: *condition,
            subject: subject.clone(),
            text: text.clone(),
            raised,
        };
        let new = self
            .raised
            .iter()
            .filter(|(key, _)| !before.contains_key(key));
        let over = before
            .iter()
            .filter(|(key, _)| !self.raised.contains_key(key));
        let new = new.map(|one| alarm(one, true));
        new.chain(over.map(|one| alarm(one, false))).collect()
    }

    /// Interfaces that bring nothing; one that isn't there brings nothing either.
    fn silence(&mut self, at: Duration, look: &Look<'_>, wrong: &mut BTreeMap<Key, String>) {
        let Some(limit) = self.limits.silence else {
            return;
        };
        let all: u64 = look.taps.iter().map(|tap| tap.counts.kernel.received).sum();
        let mut each: Vec<(String, u64)> = vec![(String::new(), all)];
        if self.limits.each_interface {
            let counts = look.taps.iter();
            each = counts
                .map(|tap| (tap.interface.clone(), tap.counts.kernel.received))
                .collect();
        }
        for (interface, received) in each {
            let heard = self
                .heard
                .entry(interface.clone())
                .or_insert((at, received));
            if received > heard.1 {
                *heard = (at, received);
            }
            let quiet = at.saturating_sub(heard.0);
            if quiet >= limit {
                let mut text = format!("no packet for {} minutes", quiet.as_secs() / 60);
                if !interface.is_empty() {
                    // A string takes everything.
                    write!(text, " on {interface}").ok();
                }
                text.push_str(": nothing is seen; is the mirror set up, the cable in, the interface the right one?");
                wrong.insert((Condition::Silence, interface), text);
            }
        }
    }

    /// Losses and names over the window.
    fn shares(&mut self, at: Duration, look: &Look<'_>, wrong: &mut BTreeMap<Key, String>) {
        let mut now = Mark {
            at,
            ends: look.standing.stats.inside_ends,
            named: look.standing.stats.named_ends,
            ..Mark::default()
        };
        for tap in look.taps {
            now.received += tap.counts.kernel.received;
            now.lost += tap.counts.kernel.dropped + tap.counts.unread;
        }
        let oldest = at.saturating_sub(WINDOW);
        // The last one before the window is where it begins.
        while self.marks.get(1).is_some_and(|second| second.at <= oldest) {
            self.marks.pop_front();
        }
        self.marks.push_back(now);
        let Some(then) = self.marks.front() else {
            return;
        };
        let received = now.received.saturating_sub(then.received);
        let lost = now.lost.saturating_sub(then.lost);
        let percent = 100.0 * lost as f64 / received.max(1) as f64;
        if received >= FEWEST && percent > f64::from(self.limits.loss) {
            let text = format!(
                "{percent:.1} % of packets lost in the last minutes ({lost} of {received}): attacks may be missed; raise --buffer and --ring, narrow it by --filter, or give it more processor time"
            );
            wrong.insert((Condition::Loss, String::new()), text);
        }
        let ends = now.ends.saturating_sub(then.ends);
        let named = now.named.saturating_sub(then.named);
        let unnamed = 1.0 - named as f64 / ends.max(1) as f64;
        if self.limits.names && ends >= FEWEST_ENDS && unnamed > UNNAMED_SHARE {
            let text = format!(
                "{:.0} % of the addresses inside have no name ({} of {ends} ends of flows): alerts bear addresses; is the inventory of this cluster, and up to date?",
                100.0 * unnamed,
                ends - named.min(ends)
            );
            wrong.insert((Condition::Names, String::new()), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::KernelCounts;
    use crate::runtime::TapCounts;

    #[derive(Default)]
    struct Run {
        taps: Vec<TapState>,
        standing: Standing,
        identity: IdentityState,
        failing: Vec<&'static str>,
        behind: Duration,
    }

    impl Run {
        fn with_taps(names: &[&str]) -> Self {
            let tap = |name: &&str| TapState {
                interface: (*name).to_owned(),
                open: true,
                counts: TapCounts::default(),
            };
            Self {
                taps: names.iter().map(tap).collect(),
                ..Self::default()
            }
        }

        fn bring(&mut self, tap: usize, received: u64, dropped: u64, unread: u64) {
            let counts = &mut self.taps[tap].counts;
            let KernelCounts {
                received: all,
                dropped: lost,
                ..
            } = &mut counts.kernel;
            *all += received;
            *lost += dropped;
            counts.unread += unread;
        }

        /// The alarms that change in the seconds up to `until`, looked for each five.
        fn watch(
            &mut self,
            health: &mut Health,
            seconds: std::ops::Range<u64>,
            mut each: impl FnMut(&mut Self),
        ) -> Vec<(u64, Condition, String, bool)> {
            let mut all = Vec::new();
            for second in seconds.step_by(5) {
                each(self);
                let look = Look {
                    taps: &self.taps,
                    standing: &self.standing,
                    identity: &self.identity,
                    failing: &self.failing,
                    behind: self.behind,
                };
                let changes = health.look(Duration::from_secs(second), &look);
                all.extend(
                    changes
                        .into_iter()
                        .map(|one| (second, one.condition, one.subject, one.raised)),
                );
            }
            all
        }
    }

    fn health(each_interface: bool) -> Health {
        Health::new(Limits {
            loss: 1,
            silence: Some(Duration::from_mins(10)),
            each_interface,
            names: true,
        })
    }

    #[test]
    fn a_run_in_good_order_raises_nothing() {
        let mut run = Run::with_taps(&["a", "b"]);
        let told = run.watch(&mut health(true), 0..7200, |run| {
            run.bring(0, 5000, 10, 10);
            run.bring(1, 1, 0, 0);
            run.standing.stats.inside_ends += 50;
            run.standing.stats.named_ends += 40;
            // Hiccups.
            run.failing = if run.failing.is_empty() {
                vec!["x"]
            } else {
                Vec::new()
            };
        });
        assert_eq!(told, []);
    }

    #[test]
    fn a_mirror_port_that_falls_silent_is_told_and_a_quiet_loopback_is_not() {
        use Condition::Silence;
        for each in [true, false] {
            let (mut health, mut run) = (health(each), Run::with_taps(&["a", "b"]));
            let told = run.watch(&mut health, 0..900, |run| run.bring(0, 9, 0, 0));
            let b = (600, Silence, "b".to_owned(), true);
            assert_eq!(told, if each { vec![b] } else { vec![] });
            let told = run.watch(&mut health, 900..2000, |_| ());
            let a = (1495, Silence, if each { "a" } else { "" }.to_owned(), true);
            assert_eq!(told, std::slice::from_ref(&a));
            let told = run.watch(&mut health, 2000..2100, |run| run.bring(0, 1, 0, 0));
            assert_eq!(told, [(2000, a.1, a.2, false)]);
        }
    }

    #[test]
    fn losses_and_unknown_ends_count_over_minutes() {
        let (mut health, mut run) = (health(true), Run::with_taps(&["a"]));
        let told = run.watch(&mut health, 0..600, |run| {
            run.bring(0, 100, 1, 2);
            run.standing.stats.inside_ends += 10;
            run.standing.stats.named_ends += 4;
        });
        let conditions: Vec<_> = told.iter().map(|one| (one.1, one.3)).collect();
        assert_eq!(
            conditions,
            [(Condition::Loss, true), (Condition::Names, true)]
        );
        // Not by the first packets, nor much later.
        assert!(told[0].0 >= 50 && told[1].0 <= 120, "{told:?}");
        assert!(health.raised().count() == 2);
        let told = run.watch(&mut health, 600..1000, |run| {
            run.bring(0, 100, 0, 0);
            run.standing.stats.inside_ends += 10;
            run.standing.stats.named_ends += 10;
        });
        let over: Vec<_> = told.iter().map(|one| (one.1, one.3)).collect();
        assert!(over.contains(&(Condition::Loss, false)), "{told:?}");
        assert!(over.contains(&(Condition::Names, false)), "{told:?}");
    }

    #[test]
    fn what_fails_for_a_minute_is_told_until_it_works() {
        let (mut health, mut run) = (health(false), Run::with_taps(&["a"]));
        run.failing = vec!["the spool"];
        run.identity.problem = Some("broken".to_owned());
        let told = run.watch(&mut health, 0..100, |run| run.bring(0, 1, 0, 0));
        let subject = "the spool".to_owned();
        assert_eq!(
            told,
            [
                (60, Condition::Inventory, String::new(), true),
                (60, Condition::Disk, subject.clone(), true)
            ]
        );
        run.failing.clear();
        run.behind = Duration::from_secs(61);
        let told = run.watch(&mut health, 100..110, |run| run.bring(0, 1, 0, 0));
        assert_eq!(
            told,
            [
                (100, Condition::Behind, String::new(), true),
                (100, Condition::Disk, subject, false)
            ]
        );
        assert!(
            health
                .raised()
                .all(|alarm| alarm.raised && !alarm.text.is_empty())
        );
    }
}
