//! Guessing that is spread over sources and servers so that neither a source nor a server stands out.
//!
//! A program with a wrong secret tries its account again, and it has one, or a few. Somebody who sprays passwords tries an
//! account once and goes on to the next, lest it be locked. So of each source the accounts count that it was refused once
//! and left alone since, if they are several; a source that tried any of its accounts again is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::guesser::Guesser;
use super::{Attempt, GuesserKey};
use crate::event::{Endpoint, FlowInfo};
use crate::time::Timestamp;

/// Sources remembered per product; the first to come go first.
const MAX_SOURCES: usize = 256;
/// With fewer, each is looked at alone.
const MIN_SOURCES: usize = 3;
/// Accounts of a source from which it counts: a program has one.
const MIN_ACCOUNTS: u64 = 2;
/// Sources not refused for so long are no part of it.
const WINDOW: Duration = Duration::from_hours(1);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_secs(10);
const MAX_SAMPLES: usize = 16;
const MAX_TARGETS: usize = 16;
const MAX_OTHERS: usize = 8;

/// Sources of which each was refused at several accounts, once each, taken together.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What they log in to.
    pub service: &'static str,
    /// The one that was refused for most accounts.
    pub busiest: Endpoint,
    /// Different sources: workloads, or addresses that belong to none.
    pub sources: u64,
    /// The others, the first few.
    pub others: Vec<IpAddr>,
    /// Accounts that were refused, summed over the sources: users of servers, where replicas are one server.
    pub accounts: u64,
    /// Different servers.
    pub servers: u64,
    /// First and last refusal.
    pub first: Timestamp,
    /// Last one.
    pub last: Timestamp,
    /// Servers, as an alert shows them.
    pub targets: Vec<(Endpoint, u16)>,
    /// Example connections.
    pub samples: Vec<Arc<FlowInfo>>,
}

/// The sources refused lately, by what they log in to.
#[derive(Debug, Default)]
pub(super) struct Campaigns {
    services: BTreeMap<&'static str, Lately>,
}

#[derive(Debug, Default)]
struct Lately {
    /// By when they were last refused.
    sources: BTreeSet<(Timestamp, GuesserKey)>,
    latest: BTreeMap<GuesserKey, Timestamp>,
    looked: Option<Timestamp>,
    changed: bool,
}

impl Campaigns {
    pub(super) fn refused(&mut self, attempt: &Attempt<'_>, source: &GuesserKey) {
        let lately = self.services.entry(attempt.service).or_default();
        lately.changed = true;
        let time = attempt.decided;
        if let Some(before) = lately.latest.insert(source.clone(), time) {
            lately.sources.remove(&(before, source.clone()));
        }
        lately.sources.insert((time, source.clone()));
        if lately.sources.len() > MAX_SOURCES
            && let Some((_, oldest)) = lately.sources.pop_first()
        {
            lately.latest.remove(&oldest);
        }
    }

    /// The campaigns that there are now, of products at which something happened since this was last asked, not too often.
    pub(super) fn going_on<'a>(
        &mut self,
        now: Timestamp,
        find: impl Fn(&GuesserKey) -> Option<&'a Guesser>,
    ) -> Vec<Campaign> {
        let since = now.before(WINDOW);
        let mut found = Vec::new();
        for (service, lately) in &mut self.services {
            let soon = |looked: Timestamp| now.since(looked) < PAUSE;
            if !lately.changed || lately.looked.is_some_and(soon) {
                continue;
            }
            while let Some((time, source)) = lately.sources.first().cloned()
                && time < since
            {
                lately.sources.pop_first();
                lately.latest.remove(&source);
            }
            lately.looked = Some(now);
            // An account is known to be left alone only somewhat later.
            let settled = |(last, _): &(Timestamp, GuesserKey)| now.since(*last) >= 4 * PAUSE;
            lately.changed = !lately.sources.last().is_none_or(settled);
            let sources = lately.sources.iter().filter_map(|(_, key)| find(key));
            found.extend(campaign(service, sources, now));
        }
        found
    }
}

fn campaign<'a>(
    service: &'static str,
    sources: impl Iterator<Item = &'a Guesser>,
    now: Timestamp,
) -> Option<Campaign> {
    // Replicas fail alike: what one tried, all tried.
    let mut groups: BTreeMap<String, (u64, &Guesser)> = BTreeMap::new();
    let mut servers = BTreeSet::new();
    for source in sources {
        let accounts = source.tried_once(now);
        let count = accounts.len() as u64;
        if count < MIN_ACCOUNTS {
            continue;
        }
        servers.extend(accounts.into_iter().map(|(server, _)| server));
        let group = groups.entry(name(&source.actor)).or_insert((0, source));
        if count > group.0 {
            *group = (count, source);
        }
    }
    if groups.len() < MIN_SOURCES {
        return None;
    }
    let (_, busiest) = *groups.values().max_by_key(|(count, _)| *count)?;
    let members = || groups.values().map(|(_, source)| *source);
    let mut shown: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for (end, port) in members().flat_map(|source| &source.targets) {
        if shown.len() < MAX_TARGETS {
            shown.entry((end.ip, *port)).or_insert_with(|| end.clone());
        }
    }
    let others = members().filter(|one| one.actor.ip != busiest.actor.ip);
    let samples = members().filter_map(|source| source.samples.first());
    Some(Campaign {
        service,
        busiest: busiest.actor.clone(),
        sources: groups.len() as u64,
        others: others
            .map(|source| source.actor.ip)
            .take(MAX_OTHERS)
            .collect(),
        accounts: groups.values().map(|(count, _)| count).sum(),
        servers: servers.len() as u64,
        first: members().map(|source| source.first).min()?,
        last: members().map(|source| source.last).max()?,
        targets: shown
            .into_iter()
            .map(|((_, port), end)| (end, port))
            .collect(),
        samples: samples.take(MAX_SAMPLES).cloned().collect(),
    })
}

/// What an end is counted as: its workload, or itself.
pub(super) fn name(end: &Endpoint) -> String {
    match &end.who.identity.workload {
        Some(workload) => workload.to_string(),
        None => end.ip.to_string(),
    }
}
