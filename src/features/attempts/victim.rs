//! One server that many sources try: guessing that is spread so that no source stands out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lru::LruCache;

use super::campaign::name;
use super::guesser::Guesser;
use super::{Attempt, GuesserKey, Server};
use crate::event::{Endpoint, FlowInfo};
use crate::features::by_use;
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Sources remembered per server.
const MAX_SOURCES: usize = 256;
/// With fewer, each is looked at alone.
const MIN_SOURCES: usize = 5;
/// Users counted.
const MAX_USERS: usize = 256;
const MAX_SAMPLES: usize = 16;

/// Sources that were refused by one server, taken together.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The server.
    pub server: Endpoint,
    /// Its port.
    pub port: u16,
    /// What listens there.
    pub service: &'static str,
    /// The one that tried most.
    pub busiest: Endpoint,
    /// Different sources: workloads, or addresses that belong to none.
    pub sources: u64,
    /// Those of them that are no pods.
    pub strangers: u64,
    /// Guesses of all of them.
    pub counted: u64,
    /// Different users tried.
    pub users: u64,
    /// First guess of the crowd.
    pub first: Timestamp,
    /// Last one.
    pub last: Timestamp,
    /// Example connections.
    pub samples: Vec<Arc<FlowInfo>>,
}

#[derive(Debug)]
struct Victim {
    server: Endpoint,
    service: &'static str,
    sources: BTreeSet<GuesserKey>,
    refused: u64,
    /// How many refusals it takes to look at it again.
    look_at: u64,
    heard: Timestamp,
}

/// The servers that refuse.
#[derive(Debug)]
pub(super) struct Victims {
    servers: LruCache<Server, Victim>,
}

impl Victims {
    pub(super) fn new(room: usize) -> Self {
        Self {
            servers: by_use(room),
        }
    }

    pub(super) fn refused(&mut self, attempt: &Attempt<'_>, source: GuesserKey) {
        let flow = attempt.flow;
        let victim = self
            .servers
            .get_or_insert_mut((flow.resp.ip, flow.resp_port), || Victim {
                server: flow.resp.clone(),
                service: attempt.service,
                sources: BTreeSet::new(),
                refused: 0,
                look_at: 0,
                heard: attempt.decided,
            });
        victim.refused = victim.refused.saturating_add(1);
        victim.heard = victim.heard.max(attempt.decided);
        if victim.sources.len() < MAX_SOURCES {
            victim.sources.insert(source);
        }
    }

    pub(super) fn crowd<'a>(
        &mut self,
        server: Server,
        again: bool,
        find: impl Fn(&GuesserKey) -> Option<&'a Guesser>,
    ) -> Option<Crowd> {
        let victim = self.servers.peek_mut(&server)?;
        if victim.sources.len() < MIN_SOURCES || !again && victim.refused < victim.look_at {
            return None;
        }
        // Looked at again only when a tenth more has come, so that a flood costs no more than its logarithm.
        victim.look_at = victim.refused + 1 + victim.refused / 10;
        let (_, port) = server;
        let mut groups: BTreeMap<String, u64> = BTreeMap::new();
        let mut users = BTreeSet::new();
        let mut crowd = Crowd {
            server: victim.server.clone(),
            port,
            service: victim.service,
            busiest: victim.server.clone(),
            sources: 0,
            strangers: 0,
            counted: 0,
            users: 0,
            first: victim.heard,
            last: victim.heard,
            samples: Vec::new(),
        };
        let mut most = 0;
        for source in victim.sources.iter().filter_map(find) {
            let counted = source.counted_at(server);
            if counted == 0 {
                continue;
            }
            let identity = &source.actor.who.identity;
            let group = groups.entry(name(&source.actor)).or_default();
            if *group == 0 {
                crowd.sources += 1;
                crowd.strangers += u64::from(identity.kind != IdentityKind::Pod);
            }
            // Replicas fail alike: what one tried, all tried.
            crowd.counted += counted.saturating_sub(*group);
            *group = counted.max(*group);
            users.extend(source.users().take(MAX_USERS).cloned());
            if counted > most {
                most = counted;
                crowd.busiest = source.actor.clone();
            }
            crowd.first = crowd.first.min(source.first);
            if crowd.samples.len() < MAX_SAMPLES {
                crowd.samples.extend(source.samples.first().cloned());
            }
        }
        crowd.users = users.len() as u64;
        (crowd.sources >= MIN_SOURCES as u64).then_some(crowd)
    }

    pub(super) fn forget(&mut self, before: Timestamp) {
        while self
            .servers
            .peek_lru()
            .is_some_and(|(_, victim)| victim.heard < before)
        {
            self.servers.pop_lru();
        }
    }
}
