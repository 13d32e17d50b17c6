//! Who comes back by the clock: what tells those who look after servers from those who look for them.
//!
//! A sweep gains nothing by asking the same again. Kubelets, load balancers, operators and monitors ask for ever, and always
//! the same.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::event::FlowInfo;
use crate::features::{Bounded, Member, SourceKey, push_tight, source_key};
use crate::time::Timestamp;

/// Who comes to the same endpoint again and again, in as many bytes each time, looks whether it is well, as kubelets, load
/// balancers, operators and monitors do: at this many visits, with pauses of this length that are much alike.
const STEADY_VISITS: u32 = 3;
const STEADY_PAUSES: RangeInclusive<Duration> =
    Duration::from_millis(900)..=Duration::from_secs(90);
/// Two clocks (liveness and readiness) may meet; more visits without a pause are none of a clock.
const HURRIED_VISITS: u32 = 1;
/// After a second visit a third one may be this much later than by the clock.
const LATE: Duration = Duration::from_secs(5);
/// So large a share of some endpoints are most of them.
const MOST: f64 = 0.75;
/// Things said again and again at an endpoint.
const MAX_WAYS: usize = 4;

/// Visits to an endpoint in as many bytes each time.
#[derive(Clone, Copy, Debug)]
struct Clock {
    last: Timestamp,
    /// The last two.
    pauses: [Duration; 2],
    steady: u32,
    hurried: u32,
}

impl Clock {
    const fn first(time: Timestamp) -> Self {
        Self {
            last: time,
            pauses: [Duration::ZERO; 2],
            steady: 1,
            hurried: 0,
        }
    }

    fn again(&mut self, time: Timestamp) {
        let pause = time.since(self.last);
        if pause < *STEADY_PAUSES.start() {
            self.hurried = self.hurried.saturating_add(1);
            if self.hurried > HURRIED_VISITS {
                self.steady = 1;
            }
            return;
        }
        // On a busy node a pause may be twice another one, and two clocks take turns.
        let like = |other: &Duration| pause <= *other * 3 && *other <= pause * 3;
        let alike = self
            .pauses
            .iter()
            .any(|other| other.is_zero() || like(other));
        self.steady = if STEADY_PAUSES.contains(&pause) && alike && self.hurried <= HURRIED_VISITS {
            self.steady.saturating_add(1)
        } else {
            1
        };
        let [_, before] = self.pauses;
        *self = Self {
            last: time,
            pauses: [before, pause],
            hurried: 0,
            ..*self
        };
    }

    const fn is_steady(&self) -> bool {
        self.steady >= STEADY_VISITS
    }

    /// When the next visit is overdue.
    fn overdue(&self) -> Timestamp {
        let [one, other] = self.pauses;
        self.last.after(one.max(other).saturating_add(LATE))
    }
}

/// The clocks by which an endpoint is visited, by how many bytes are said.
#[derive(Default)]
struct Ways(Vec<(u64, Clock)>);

impl Ways {
    /// Takes a visit; whether it is one of many.
    fn visit(&mut self, time: Timestamp, words: u64) -> bool {
        if let Some((_, clock)) = self.0.iter_mut().find(|(said, _)| *said == words) {
            clock.again(time);
            return clock.is_steady();
        }
        if self.0.len() >= MAX_WAYS {
            self.0.remove(0);
        }
        push_tight(&mut self.0, (words, Clock::first(time)));
        false
    }

    /// When the third visit of one is overdue that has seen a second.
    fn overdue(&self) -> Option<Timestamp> {
        let again = |(_, clock): &&(u64, Clock)| clock.steady > 1;
        let clocks = self.0.iter().filter(again);
        clocks.map(|(_, clock)| clock.overdue()).max()
    }
}

/// The clocks of many sources, by endpoint.
pub(super) struct Clocks(Bounded<(SourceKey, Member), Ways>);

impl Clocks {
    pub(super) fn new(max: usize) -> Self {
        Self(Bounded::new(max))
    }

    /// Takes a visit in which so many bytes were said; whether it is one of many by the clock.
    pub(super) fn visit(&mut self, flow: &FlowInfo, said: u64) -> bool {
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        let ways = self.0.get_or_insert_with(key, Ways::default);
        ways.visit(flow.start, said)
    }

    /// Whether most of some endpoints were visited so that a clock may show.
    pub(super) fn may_show(&self, key: &SourceKey, members: &[Member]) -> bool {
        let known = |member: &&Member| self.0.peek(&(key.clone(), **member)).is_some();
        is_most(members.iter().filter(known).count(), members.len())
    }

    /// When the third visit of some endpoints is overdue, if most have seen a second one by the clock.
    pub(super) fn third_overdue(&self, key: &SourceKey, members: &[Member]) -> Option<Timestamp> {
        let again: Vec<Timestamp> = members
            .iter()
            .filter_map(|member| self.0.peek(&(key.clone(), *member))?.overdue())
            .collect();
        let overdue = again.iter().max().copied();
        overdue.filter(|_| is_most(again.len(), members.len()))
    }
}

/// Whether so many are most of these.
pub(super) fn is_most(count: usize, of: usize) -> bool {
    count as f64 >= MOST * of as f64
}
