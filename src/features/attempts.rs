//! Logins with their outcomes, per source: what guessing passwords looks like, and what an honest mishap looks like.
//!
//! Honest clients hardly ever fail to log in, so refusals are counted, over all servers and users a source tries. Four
//! honest mishaps are told apart by what guessing can't do:
//!
//! * Somebody mistypes: a few refusals, then the same account is let in. Forgiven.
//! * A pool opens many connections with a wrong password at once. An attempt begun before the last one's refusal was
//!   known says nothing new: it counts only for another user or another secret.
//! * An application goes on with a secret that was changed: the account was let in before, or the secret is seen to be
//!   the same each time. Guessing never offers the same secret twice.
//! * An application was given a wrong secret and retries for ever: one user, at a steady pace or with growing pauses
//!   ([`Guesser::is_paced`]).
//!
//! Bounded everywhere: sources, accounts, users and targets of a source, sources of a server.

mod account;
mod campaign;
mod guesser;
mod pace;
#[cfg(test)]
mod tests;
mod victim;

use std::net::IpAddr;
use std::sync::Arc;

use lru::LruCache;

use super::by_use;
use super::{SourceKey, source_key};
use crate::dissect::SecretMark;
use crate::event::FlowInfo;
use crate::time::Timestamp;

pub use account::Account;
pub use campaign::Campaign;
use campaign::Campaigns;
pub use guesser::{Breakin, Guesser};
pub use victim::Crowd;
use victim::Victims;

/// A server: address and port.
pub type Server = (IpAddr, u16);

/// Who logs in, and to what: an application's trouble with one product says nothing of its logins to another.
pub type GuesserKey = (SourceKey, &'static str);

/// A login that was decided.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The connection.
    pub flow: &'a Arc<FlowInfo>,
    /// What was logged in to: `postgresql`, `ssh`.
    pub service: &'static str,
    /// The user, where it is in clear.
    pub user: Option<&'a Arc<str>>,
    /// A mark of the secret that was offered, where it is in clear.
    pub secret: Option<SecretMark>,
    /// How long what hides user and secret is, where they are not in clear: another length is another user or secret,
    /// the same says nothing.
    pub size: Option<u64>,
    /// The server's word for a refusal.
    pub code: Option<&'a Arc<str>>,
    /// When the client began to log in.
    pub began: Timestamp,
    /// When the server decided.
    pub decided: Timestamp,
    /// Whether it let the client in.
    pub success: bool,
    /// Whether the client came as tools come: as an administrator, with no database of its own.
    pub as_tool: bool,
}

/// What came of taking an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Nothing to think about.
    Nothing,
    /// The source was refused.
    Refused,
    /// The source was let in after more refusals than mistyping explains.
    BrokeIn,
}

/// The sources that log in, by what they log in to, with what came of it; the one heard of least recently goes first.
#[derive(Debug)]
pub struct Attempts {
    sources: LruCache<GuesserKey, Guesser>,
    victims: Victims,
    campaigns: Campaigns,
    honest_retries: u64,
    evicted: u64,
}

impl Attempts {
    /// Room for `max_sources`; `honest_retries` is how often people mistype before they get it right.
    pub fn new(max_sources: usize, honest_retries: u64) -> Self {
        let room = max_sources;
        Self {
            sources: by_use(room),
            victims: Victims::new(room),
            campaigns: Campaigns::default(),
            honest_retries,
            evicted: 0,
        }
    }

    /// Takes an attempt.
    pub fn take(&mut self, attempt: &Attempt<'_>) -> Taken {
        let key = (source_key(&attempt.flow.orig), attempt.service);
        if !self.sources.contains(&key) {
            let fresh = Guesser::new(attempt);
            let evicted = self.sources.push(key.clone(), fresh);
            self.evicted += u64::from(evicted.is_some());
        }
        let Some(source) = self.sources.get_mut(&key) else {
            return Taken::Nothing;
        };
        if attempt.success {
            return source.let_in(attempt, self.honest_retries);
        }
        source.refused(attempt);
        self.campaigns.refused(attempt, &key);
        self.victims.refused(attempt, key);
        Taken::Refused
    }

    /// A source, if it is remembered.
    pub fn source(&mut self, key: &GuesserKey) -> Option<&mut Guesser> {
        self.sources.peek_mut(key)
    }

    /// The sources that a server has refused lately, if they are enough to look at them together, and more than when
    /// this was last asked (or `again`). Those that `known` says are dealt with alone are left out, and the paced ones;
    /// replicas of a workload are one source.
    pub fn crowd(
        &mut self,
        server: Server,
        again: bool,
        known: impl Fn(&Guesser) -> bool,
    ) -> Option<Crowd> {
        let sources = &self.sources;
        self.victims.crowd(server, again, |key| {
            let source = sources.peek(key)?;
            (!known(source) && !source.is_paced()).then_some(source)
        })
    }

    /// The sources refused within an hour of which each tried several accounts once, if they are enough to look at them
    /// together; by what they log in to. Those that `known` says are dealt with alone are left out.
    pub fn campaigns(&mut self, now: Timestamp, known: impl Fn(&Guesser) -> bool) -> Vec<Campaign> {
        let sources = &self.sources;
        self.campaigns.going_on(now, |key| {
            let source = sources.peek(key)?;
            (!known(source)).then_some(source)
        })
    }

    /// Sources that were not heard of since `before`, the longest silent first.
    pub fn stale(&self, before: Timestamp) -> impl Iterator<Item = &GuesserKey> {
        self.sources
            .iter()
            .rev()
            .take_while(move |(_, source)| source.heard < before)
            .map(|(key, _)| key)
    }

    /// Forgets the sources that were not heard of since `before`.
    pub fn forget(&mut self, before: Timestamp) {
        let stale: Vec<GuesserKey> = self.stale(before).cloned().collect();
        for key in &stale {
            self.sources.pop(key);
        }
        self.victims.forget(before);
    }

    /// Sources remembered.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Most sources ever remembered.
    pub fn limit(&self) -> usize {
        self.sources.cap().get()
    }

    /// Sources forgotten for want of room.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}
