//! One source that logs in, with all it tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::campaign::name;
use super::pace::{EAGER_SECS, Pauses, Rounds};
use super::{Attempt, Server, Taken};
use crate::event::{Endpoint, FlowInfo};
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Accounts remembered one by one; further ones only count.
const MAX_ACCOUNTS: usize = 256;
/// Users whose refusals are told apart.
const MAX_USERS: usize = 256;
/// Servers that refused, remembered one by one.
const MAX_SERVERS: usize = 512;
/// Kept for alerts.
const MAX_TARGETS: usize = 16;
const MAX_SAMPLES: usize = 4;
const MAX_CODES: usize = 4;
/// Refusals whose times are kept, to see how soon the next attempt follows.
const MAX_TIMES: usize = 16;
/// Changes of length that one program explains: a secret renewed that is wrong as well.
const MOST_SIZES: u64 = 1;
/// Refusals elsewhere that make a first success a break-in.
const MANY_REFUSALS: u64 = 6;

type User = Option<Arc<str>>;

/// A success that guessing led to.
#[derive(Clone, Debug)]
pub struct Breakin {
    /// The user that was let in, where it is known.
    pub user: User,
    /// Where.
    pub server: Endpoint,
    /// Its port.
    pub port: u16,
    /// When.
    pub time: Timestamp,
    /// Refusals before it.
    pub after: u64,
}

/// One source with its attempts at one product.
#[derive(Debug)]
pub struct Guesser {
    /// Who it is.
    pub actor: Endpoint,
    /// What it logs in to.
    pub service: &'static str,
    /// Refusals, without those that were forgiven.
    pub refused: u64,
    /// Those of them that count as guesses.
    pub counted: u64,
    /// Attempts that followed a refusal at once.
    pub eager: u64,
    /// Attempts that came as tools come.
    pub as_tool: u64,
    /// First refusal, once there is one.
    pub first: Timestamp,
    /// Last refusal or break-in.
    pub last: Timestamp,
    /// When it was last heard of.
    pub heard: Timestamp,
    /// Servers that refused it, as an alert shows them.
    pub targets: Vec<(Endpoint, u16)>,
    /// Example connections.
    pub samples: Vec<Arc<FlowInfo>>,
    /// The servers' words.
    pub codes: BTreeSet<Arc<str>>,
    /// The last success that guessing led to.
    pub breakin: Option<Breakin>,
    /// Break-ins so far.
    pub breakins: u64,
    /// A number that the owner may keep, such as the size at its last report.
    pub mark: u64,
    accounts: BTreeMap<(Server, User), Account>,
    /// Refusals of another secret than the one before.
    others: u64,
    /// Refusals of something of another length than the one before.
    sizes: u64,
    /// When each user's first refusal of the current volley was known.
    users: BTreeMap<User, Timestamp>,
    servers: BTreeSet<Server>,
    refusals: VecDeque<Timestamp>,
    /// Refusals that no attempt has followed at once so far.
    unfollowed: VecDeque<Timestamp>,
    pauses: Pauses,
    rounds: Rounds<Server>,
}

impl Guesser {
    pub(super) fn new(attempt: &Attempt<'_>) -> Self {
        Self {
            actor: attempt.flow.orig.clone(),
            service: attempt.service,
            refused: 0,
            counted: 0,
            eager: 0,
            as_tool: 0,
            first: attempt.began,
            last: attempt.decided,
            heard: attempt.decided,
            targets: Vec::new(),
            samples: Vec::new(),
            codes: BTreeSet::new(),
            breakin: None,
            breakins: 0,
            mark: 0,
            accounts: BTreeMap::new(),
            others: 0,
            sizes: 0,
            users: BTreeMap::new(),
            servers: BTreeSet::new(),
            refusals: VecDeque::new(),
            unfollowed: VecDeque::new(),
            pauses: Pauses::default(),
            rounds: Rounds::default(),
        }
    }

    pub(super) fn refused(&mut self, attempt: &Attempt<'_>) {
        self.hear(attempt);
        if self.refused == 0 {
            self.first = attempt.began;
        }
        self.last = self.last.max(attempt.decided);
        self.refused = self.refused.saturating_add(1);
        self.as_tool = self.as_tool.saturating_add(attempt.as_tool.into());
        self.sample(attempt);

        let informed = self.is_informed(attempt);
        if informed {
            self.note_pause(attempt);
        }
        let server = (attempt.flow.resp.ip, attempt.flow.resp_port);
        self.rounds.add(server, attempt.began, attempt.decided);
        // Behind a node's or an outside address there may be anybody.
        let discount = self.actor.who.identity.kind == IdentityKind::Pod;
        let (mut another, mut size) = (false, false);
        let counts = match self.account(attempt) {
            Some(account) => {
                another = account.is_offered_another(attempt) == Some(true);
                size = account.is_of_another_size(attempt);
                account.refuse(attempt, informed, discount)
            }
            None => true,
        };
        self.others = self.others.saturating_add(another.into());
        self.sizes = self.sizes.saturating_add(size.into());
        if counts {
            self.counted = self.counted.saturating_add(1);
        }
        if self.refusals.len() >= MAX_TIMES {
            self.refusals.pop_front();
        }
        self.refusals.push_back(attempt.decided);
    }

    pub(super) fn let_in(&mut self, attempt: &Attempt<'_>, honest_retries: u64) -> Taken {
        self.hear(attempt);
        let Some(account) = self.account(attempt) else {
            return Taken::Nothing;
        };
        let (refused, counted, worked) = (account.refused, account.counted, account.worked);
        account.settle();
        let elsewhere = self.counted.saturating_sub(counted);
        let guessed = self.mark > 0 && self.counted > honest_retries
            || counted > honest_retries
            || !worked && elsewhere >= MANY_REFUSALS;
        if guessed && !self.is_paced() {
            self.breakin = Some(Breakin {
                user: attempt.user.cloned(),
                server: attempt.flow.resp.clone(),
                port: attempt.flow.resp_port,
                time: attempt.decided,
                after: self.refused,
            });
            self.breakins = self.breakins.saturating_add(1);
            self.last = self.last.max(attempt.decided);
            self.sample_always(attempt);
            return Taken::BrokeIn;
        }
        // Mistyped, or a secret that was put right.
        self.refused = self.refused.saturating_sub(refused);
        self.counted = self.counted.saturating_sub(counted);
        if self.counted == 0 && self.mark == 0 {
            self.users.clear();
            self.servers.clear();
            self.targets.clear();
            self.samples.clear();
            self.codes.clear();
            self.pauses = Pauses::default();
            self.rounds = Rounds::default();
            self.eager = 0;
            self.as_tool = 0;
        }
        Taken::Nothing
    }

    /// Different users that were refused.
    pub fn user_count(&self) -> u64 {
        self.users.len() as u64
    }

    /// The users that were refused, in order of their names.
    pub fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.users.keys().flatten()
    }

    /// Different servers that refused.
    pub fn server_count(&self) -> u64 {
        self.servers.len() as u64
    }

    /// Guesses at one server.
    pub(super) fn counted_at(&self, server: Server) -> u64 {
        self.accounts
            .range((server, None)..)
            .take_while(|((at, _), _)| *at == server)
            .map(|(_, account)| account.counted)
            .sum()
    }

    /// How many different guesses its refusals are at least. The same user at one of a few servers after the other is one
    /// secret that all of them refuse, until the first of them is tried again.
    pub fn guesses(&self) -> u64 {
        if !self.goes_round() {
            return self.counted;
        }
        let each = self.accounts.values().map(|account| account.counted);
        each.max().unwrap_or(self.counted)
    }

    /// Attempts that followed at once the refusal that they can have learned from.
    pub fn hurried(&self) -> u64 {
        if self.goes_round() {
            self.rounds.eager()
        } else {
            self.eager
        }
    }

    /// Whether it tries one user, with one secret for all that is known, at a few servers.
    fn goes_round(&self) -> bool {
        self.users.len() <= 1 && self.others == 0 && self.rounds.are_few()
    }

    /// Whether it tries one user again and again as a program does that waits between retries: at a steady pace, or with
    /// growing pauses; at one server after the other, or at each of a few of its own.
    pub fn is_paced(&self) -> bool {
        let same = self.others == 0 && self.sizes <= MOST_SIZES;
        self.users.len() <= 1 && same && (self.pauses.are_paced() || self.rounds.are_paced())
    }

    /// The accounts that it was refused once and left alone since, by server, or its workload, and user. None if it tried
    /// any of its accounts again, as programs do.
    pub(super) fn tried_once(&self, now: Timestamp) -> BTreeSet<(String, &User)> {
        let mut accounts = BTreeSet::new();
        for (((ip, port), user), account) in &self.accounts {
            match account.is_left_alone(now) {
                Some(true) => {
                    let target = self.targets.iter().find(|(end, _)| end.ip == *ip);
                    let server = target.map_or_else(|| ip.to_string(), |(end, _)| name(end));
                    accounts.insert((format!("{server}:{port}"), user));
                }
                Some(false) if account.counted > 0 => return BTreeSet::new(),
                Some(false) | None => {}
            }
        }
        accounts
    }

    /// Whether a server that refused it as somebody let it in as somebody else before that.
    pub fn works_as_another(&self) -> bool {
        self.accounts.iter().any(|((server, user), account)| {
            let known = user.is_some() && !self.users.contains_key(user);
            known && account.worked && self.servers.contains(server)
        })
    }

    /// How long it usually waits before the next attempt, or the next round.
    pub fn pause(&self) -> Duration {
        let both = [self.pauses.median(), self.rounds.median()];
        let secs = both.into_iter().flatten().fold(0.0, f64::max);
        Duration::try_from_secs_f64(secs).unwrap_or_default()
    }

    fn hear(&mut self, attempt: &Attempt<'_>) {
        self.heard = self.heard.max(attempt.decided);
        // The best that is known of who it is.
        if attempt.flow.orig.who.confidence < self.actor.who.confidence {
            self.actor = attempt.flow.orig.clone();
        }
    }

    /// Whether the client knew of this user's last refusal when it began, and then a new volley begins; or whether it tries
    /// again at once in the place of an attempt that was refused while others go on, as many hands do.
    fn is_informed(&mut self, attempt: &Attempt<'_>) -> bool {
        let at_once = self.follows_at_once(attempt);
        let user = attempt.user.cloned();
        if let Some(known) = self.users.get_mut(&user) {
            let informed = attempt.began >= *known;
            if informed {
                *known = attempt.decided;
            }
            return informed || at_once;
        }
        if self.users.len() < MAX_USERS {
            self.users.insert(user, attempt.decided);
        }
        true
    }

    /// Whether a refusal came just before the attempt began that no other attempt has followed yet.
    fn follows_at_once(&mut self, attempt: &Attempt<'_>) -> bool {
        let began = attempt.began;
        let at_once =
            |time: &Timestamp| *time <= began && began.since(*time).as_secs_f64() < EAGER_SECS;
        let place = self.unfollowed.iter().position(at_once);
        if let Some(place) = place {
            self.unfollowed.remove(place);
        }
        if self.unfollowed.len() >= MAX_TIMES {
            self.unfollowed.pop_front();
        }
        self.unfollowed.push_back(attempt.decided);
        place.is_some()
    }

    /// Notes how long after the last refusal the attempt began.
    fn note_pause(&mut self, attempt: &Attempt<'_>) {
        let before = self.refusals.iter().rev();
        let Some(last) = before.copied().find(|&time| time <= attempt.began) else {
            return;
        };
        let pause = attempt.began.since(last).as_secs_f64();
        self.pauses.add(pause);
        if pause < EAGER_SECS {
            self.eager = self.eager.saturating_add(1);
        }
    }

    /// The account tried, if it is remembered or there is room for it.
    fn account(&mut self, attempt: &Attempt<'_>) -> Option<&mut Account> {
        let server = (attempt.flow.resp.ip, attempt.flow.resp_port);
        let key = (server, attempt.user.cloned());
        if self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains_key(&key) {
            return None;
        }
        Some(self.accounts.entry(key).or_default())
    }

    fn sample(&mut self, attempt: &Attempt<'_>) {
        let flow = attempt.flow;
        let server = (flow.resp.ip, flow.resp_port);
        if self.servers.len() < MAX_SERVERS
            && self.servers.insert(server)
            && self.targets.len() < MAX_TARGETS
        {
            self.targets.push((flow.resp.clone(), flow.resp_port));
        }
        if self.samples.len() < MAX_SAMPLES && self.samples.last().is_none_or(|s| s.id != flow.id) {
            self.samples.push(Arc::clone(flow));
        }
        if let Some(code) = attempt.code
            && self.codes.len() < MAX_CODES
        {
            self.codes.insert(Arc::clone(code));
        }
    }

    /// The connection that was let in is worth more than any refused one.
    fn sample_always(&mut self, attempt: &Attempt<'_>) {
        self.samples.truncate(MAX_SAMPLES - 1);
        self.samples.push(Arc::clone(attempt.flow));
        let flow = attempt.flow;
        if self.targets.len() < MAX_TARGETS && self.servers.insert((flow.resp.ip, flow.resp_port)) {
            self.targets.push((flow.resp.clone(), flow.resp_port));
        }
    }
}
