//! What the detectors of password guessing share: from refused logins to findings.
//!
//! Bits. An honest client is refused in perhaps one login of fifty, and a guesser nearly always; but honest refusals come
//! in series, so a refusal counts for less than the log2(0.8/0.02) = 5.3 bits that it were worth alone. Breadth
//! (several users, several servers), attempts that follow a refusal at once, and attempts made as tools make them add
//! theirs. A source that retries one account as a program waits is not reported at all, unless it comes as tools come, or
//! was there for long before it ever called that server, or tried that account where another one of its works: a program
//! with a wrong secret tries it from its start. Nor is it left alone if its workload's baseline, when a day old, knows no
//! such server, and it is no new release.

mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::{Context, Evidence, Family, Finding, Findings, SETTLED, StateSize, Target};
use crate::baseline::Maturity;
use crate::event::Endpoint;
use crate::features::{
    Attempt, Attempts, Callee, Guesser, GuesserKey, Role, Server, Taken, source_key,
};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// Where the bits of refusals stop adding up.
const MAX_REFUSAL_BITS: f64 = 24.0;
/// Per further user: an application has one.
const BITS_PER_USER: f64 = 3.0;
const MAX_USER_BITS: f64 = 18.0;
/// Per further server: the nodes of a cluster share their users.
const BITS_PER_SERVER: f64 = 1.5;
const MAX_SERVER_BITS: f64 = 24.0;
/// Per attempt that follows a refusal within half a second, from the third on.
const BITS_PER_EAGER: f64 = 0.8;
const MAX_EAGER_BITS: f64 = 8.0;
/// For attempts as an administrator without a database of its own, from the third on.
const TOOL_BITS: f64 = 4.0;
const MIN_AS_TOOL: u64 = 3;
/// For a server that the source had never called while it was watched for some time.
const BEGAN_LATE_BITS: f64 = 4.0;
/// What being let in after guessing adds to the refusals.
const BREAKIN_BITS: f64 = 6.0;
/// Crowds reported, remembered.
const MAX_CROWDS: usize = 1024;
/// User names shown.
const MAX_NAMES: usize = 5;

/// The settings that all of them have.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    bits_per_refusal: f64,
    honest_retries: u64,
    max_sources: usize,
    forget_after_secs: u64,
}

/// Counts logins, and reports who guesses.
pub(super) struct Guessing {
    signature: &'static str,
    alert_bits: f64,
    thresholds: Thresholds,
    /// How a client comes that comes as tools come.
    tool: &'static str,
    attempts: Attempts,
    reported: BTreeSet<GuesserKey>,
    crowds: BTreeSet<Server>,
    /// Accounts of the campaigns reported, by product; `None` where what is refused once is everyday.
    campaigns: Option<BTreeMap<&'static str, u64>>,
}

impl Guessing {
    pub(super) fn new(
        signature: &'static str,
        thresholds: Thresholds,
        alert_bits: f64,
        tool: &'static str,
    ) -> Self {
        Self {
            tool,
            signature,
            alert_bits,
            thresholds,
            attempts: Attempts::new(thresholds.max_sources, thresholds.honest_retries),
            reported: BTreeSet::new(),
            crowds: BTreeSet::new(),
            campaigns: None,
        }
    }

    /// Looks also at sources together of which each tries several accounts once. Not where what is refused once is
    /// everyday, as on the web.
    pub(super) fn with_campaigns(self) -> Self {
        Self {
            campaigns: Some(BTreeMap::new()),
            ..self
        }
    }

    /// Takes a login, and reports its source if that is enough now, or twice what it was.
    pub(super) fn take(
        &mut self,
        attempt: &Attempt<'_>,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let key = (source_key(&attempt.flow.orig), attempt.service);
        match self.attempts.take(attempt) {
            Taken::Nothing => return,
            Taken::BrokeIn => self.report(&key, context, out),
            Taken::Refused => {
                let grown = self
                    .attempts
                    .source(&key)
                    .is_some_and(|source| source.refused >= source.mark.saturating_mul(2));
                if grown {
                    self.report(&key, context, out);
                }
            }
        }
        let server = (attempt.flow.resp.ip, attempt.flow.resp_port);
        self.report_crowd(server, false, out);
    }

    /// Says the last word on sources not heard of for long, and forgets them.
    pub(super) fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        let before = now.before(Duration::from_secs(self.thresholds.forget_after_secs));
        let stale: Vec<GuesserKey> = self.attempts.stale(before).cloned().collect();
        for key in stale {
            if self.reported.remove(&key) {
                self.report(&key, context, out);
                self.reported.remove(&key);
            }
        }
        self.attempts.forget(before);
        self.report_campaigns(now, out);
    }

    /// Says the last word on everybody reported.
    pub(super) fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        for key in std::mem::take(&mut self.reported) {
            self.report(&key, context, out);
        }
        for server in std::mem::take(&mut self.crowds) {
            self.report_crowd(server, true, out);
        }
    }

    pub(super) fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.attempts.len(),
            limit: self.attempts.limit(),
        }
    }

    pub(super) fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.attempts.evicted());
        losses
    }

    fn report(&mut self, key: &GuesserKey, context: &Context<'_>, out: &mut Findings) {
        let Some(source) = self.attempts.source(key) else {
            return;
        };
        let evidence = evidence(source, self.thresholds.bits_per_refusal, self.tool, context);
        let excused = source.mark == 0
            && source.is_paced()
            && source.as_tool < MIN_AS_TOOL
            && began_late(source, context).is_none()
            && !is_new_business(source, context);
        if excused || sum(&evidence) < self.alert_bits {
            return;
        }
        source.mark = source.refused.max(1);
        let finding = Finding {
            signature: self.signature,
            subject: String::new(),
            actor: source.actor.clone(),
            first: source.first,
            last: source.last,
            targets: source
                .targets
                .iter()
                .map(|(end, port)| target(end, *port, source.service))
                .collect(),
            target_count: source.server_count(),
            evidence,
            flows: source.samples.clone(),
            summary: summary(source),
        };
        out.push(finding);
        self.reported.insert(key.clone());
    }

    /// Reports the sources of a server together, if together they are enough.
    fn report_crowd(&mut self, server: Server, again: bool, out: &mut Findings) {
        let Some(crowd) = self.attempts.crowd(server, again, |source| source.mark > 0) else {
            return;
        };
        let finding = together::of_crowd(self.signature, crowd);
        if sum(&finding.evidence) < self.alert_bits {
            return;
        }
        if self.crowds.len() < MAX_CROWDS {
            self.crowds.insert(server);
        }
        out.push(finding);
    }

    /// Reports sources that try several accounts each, once, if together they are enough, and more than at the last time.
    fn report_campaigns(&mut self, now: Timestamp, out: &mut Findings) {
        let Some(told) = &mut self.campaigns else {
            return;
        };
        for campaign in self.attempts.campaigns(now, |source| source.mark > 0) {
            let told = told.entry(campaign.service).or_default();
            if campaign.accounts < told.saturating_mul(2) {
                continue;
            }
            let accounts = campaign.accounts;
            let finding = together::of_campaign(self.signature, campaign);
            if sum(&finding.evidence) >= self.alert_bits {
                *told = accounts;
                out.push(finding);
            }
        }
    }
}

/// How long a source had been watched when it first called the server that refused it, or first tried the account that it
/// was refused, if that was so long that whatever it does at this pace would have been seen before; and which of the two.
fn began_late(source: &Guesser, context: &Context<'_>) -> Option<(Duration, &'static str)> {
    let flow = source.samples.first()?;
    let late = |watched: &Duration| *watched >= SETTLED.max(source.pause() * 3);
    let callee = Callee::of(flow, context.peers);
    let watched = context.debuts.watched_before(flow.orig.ip, &callee);
    if let Some(watched) = watched.filter(late)
        && !context.is_learned(flow)
    {
        return Some((watched, "first called there"));
    }
    // A program has one account at a server. That another one is tried where the first works is no secret gone stale.
    let seen = context.debuts.seen(flow.orig.ip)?;
    let watched = Some(source.first.since(seen)).filter(late)?;
    let other = source.works_as_another().then_some(watched)?;
    Some((
        other,
        "is let in there as somebody else, and first tried this account",
    ))
}

/// Whether a workload known for a day and more never had business with the server that refuses it, and no new release of
/// it explains that it has now.
fn is_new_business(source: &Guesser, context: &Context<'_>) -> bool {
    let profile = context.profile(&source.actor);
    profile.is_some_and(|profile| profile.maturity() == Maturity::Stable)
        && source.samples.first().is_some_and(|flow| {
            !context.is_learned(flow) && context.release(&flow.orig, source.last).is_none()
        })
}

/// Bits over families, as they will be counted.
fn sum(evidence: &[Evidence]) -> f64 {
    let families: BTreeSet<Family> = evidence.iter().map(|one| one.family).collect();
    families
        .into_iter()
        .filter_map(|family| {
            let of_it = evidence.iter().filter(|one| one.family == family);
            of_it.map(|one| one.bits).max_by(f64::total_cmp)
        })
        .sum()
}

fn target(endpoint: &Endpoint, port: u16, service: &'static str) -> Target {
    Target {
        endpoint: Some(endpoint.clone()),
        port: Some(port),
        protocol: Some(service),
        domain: None,
    }
}

/// The names of the users tried, as far as they are known.
fn names(source: &Guesser) -> Option<String> {
    let shown: Vec<&str> = source.users().take(MAX_NAMES).map(AsRef::as_ref).collect();
    let more = source.user_count().saturating_sub(shown.len() as u64);
    match (shown.as_slice(), more) {
        ([], _) => None,
        (_, 0) => Some(shown.join(", ")),
        _ => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

/// `word` and what follows it, if anything does.
fn phrase(word: &str, what: Option<&str>) -> String {
    what.map_or_else(String::new, |what| format!(" {word} {what}"))
}

fn summary(source: &Guesser) -> String {
    let place = match source.targets.as_slice() {
        [(end, port)] => format!("at {}:{port}", end.ip),
        _ => format!("at {} servers", source.server_count()),
    };
    let then = match &source.breakin {
        Some(breakin) => format!(
            ", then was let in{} at {}:{}",
            phrase("as", breakin.user.as_deref()),
            breakin.server.ip,
            breakin.port
        ),
        None => String::new(),
    };
    format!(
        "was refused {} logins to {} {place}{}{then}",
        source.refused,
        source.service,
        phrase("as", names(source).as_deref()),
    )
}

fn evidence(
    source: &Guesser,
    bits_per_refusal: f64,
    tool: &'static str,
    context: &Context<'_>,
) -> Vec<Evidence> {
    let refusals = (source.guesses() as f64 * bits_per_refusal).min(MAX_REFUSAL_BITS);
    let codes: Vec<&str> = source.codes.iter().map(AsRef::as_ref).collect();
    let codes = match codes.as_slice() {
        [] => String::new(),
        _ => format!(" ({})", codes.join(", ")),
    };
    let mut evidence = vec![Evidence {
        feature: "login.refused",
        family: Family::Outcome,
        observed: source.refused as f64,
        expected: "a mistyped password now and then".into(),
        bits: refusals,
        signature_grade: false,
        text: format!("{} logins refused{codes}", source.refused),
    }];
    let users = source.user_count();
    if users > 1 {
        evidence.push(Evidence {
            feature: "login.users",
            family: Family::Volume,
            observed: users as f64,
            expected: "one user per application".into(),
            bits: ((users - 1) as f64 * BITS_PER_USER).min(MAX_USER_BITS),
            signature_grade: false,
            text: format!(
                "{users} different users{}",
                phrase("such as", names(source).as_deref())
            ),
        });
    }
    let servers = source.server_count();
    if servers > 1 {
        evidence.push(Evidence {
            feature: "login.servers",
            family: Family::Volume,
            observed: servers as f64,
            expected: "1".into(),
            bits: ((servers - 1) as f64 * BITS_PER_SERVER).min(MAX_SERVER_BITS),
            signature_grade: false,
            text: format!("{servers} different servers refused"),
        });
    }
    let eager = source.hurried();
    if eager > 2 {
        evidence.push(Evidence {
            feature: "login.retries_at_once",
            family: Family::Timing,
            observed: eager as f64,
            expected: "a pause after a refusal".into(),
            bits: ((eager - 2) as f64 * BITS_PER_EAGER).min(MAX_EAGER_BITS),
            signature_grade: false,
            text: format!("{eager} attempts came within half a second of a refusal"),
        });
    }
    if source.as_tool >= MIN_AS_TOOL {
        evidence.push(Evidence {
            feature: "login.as_a_tool",
            family: Family::Protocol,
            observed: source.as_tool as f64,
            expected: "clients that come as applications come".into(),
            bits: TOOL_BITS,
            signature_grade: false,
            text: tool.into(),
        });
    }
    if let Some(breakin) = &source.breakin {
        evidence.push(Evidence {
            feature: "login.success_after_refusals",
            family: Family::Outcome,
            observed: breakin.after as f64,
            expected: "at most a few refusals before a login".into(),
            bits: refusals + BREAKIN_BITS,
            signature_grade: false,
            text: format!(
                "let in{} at {}:{} after {} refusals",
                phrase("as", breakin.user.as_deref()),
                breakin.server.ip,
                breakin.port,
                breakin.after
            ),
        });
    }
    // Whoever keeps no steady pace needs no excuse, nor has one taken away.
    if source.is_paced()
        && let Some((watched, what)) = began_late(source, context)
    {
        let secs = watched.as_secs();
        evidence.push(Evidence {
            feature: "login.began_late",
            family: Family::Novelty,
            observed: secs as f64,
            expected: "programs with a wrong secret try it from their start".into(),
            bits: BEGAN_LATE_BITS,
            signature_grade: false,
            text: format!("{what} {secs} s after it was first seen"),
        });
    }
    // Where the workload never had business, it is no stale secret.
    if let Some(flow) = source.samples.first()
        && let Some(profile) = context.profile(&source.actor)
        && !context.is_learned(flow)
    {
        evidence.push(Evidence {
            feature: "login.new_peer",
            family: Family::Novelty,
            observed: servers as f64,
            expected: "servers met in the baseline".into(),
            bits: profile.novelty_bits(Role::Client),
            signature_grade: false,
            text: "the workload never spoke to this server in its baseline".into(),
        });
    }
    evidence
}
