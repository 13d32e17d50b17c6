//! A baseline for people: what is known of each workload, how far that can be trusted, and what is still missing.

use std::fmt::Write;

use super::human::{bytes, count, counted, duration, measure, printable, span};
use crate::baseline::{Baseline, Feature, Maturity, Peer, Profile};
use crate::features::{PeerClass, Rate, Role, Vocabulary};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// Peers and words listed of each kind.
const MOST: usize = 20;

/// A line per workload.
pub fn baseline_overview(baseline: &Baseline) -> String {
    let mut text = format!(
        "{}\n",
        counted(baseline.profiles().len() as u64, "workload")
    );
    for (workload, profile) in baseline.profiles() {
        let peers = profile.peer_count(Role::Client) + profile.peer_count(Role::Server);
        let missing = missing(profile, baseline.last());
        line(
            &mut text,
            &format!(
                "{workload}: {}, watched for {}, {}{missing}",
                profile.maturity().label(),
                duration(profile.observed()),
                counted(peers as u64, "peer"),
            ),
        );
    }
    text
}

/// What the peers of a workload wait for, in the role in which it knows more.
fn missing(profile: &Profile, last: Option<Timestamp>) -> String {
    let role = if profile.contacts(Role::Client) >= profile.contacts(Role::Server) {
        Role::Client
    } else {
        Role::Server
    };
    let standing = profile.standing(Feature::Peers(role), last.unwrap_or(Timestamp::MIN));
    match standing.missing() {
        missing if missing.is_empty() => missing,
        missing => format!("; waits for {missing}"),
    }
}

/// All that is known of a workload. `last` is the time to judge by.
pub fn workload_text(workload: &WorkloadId, profile: &Profile, last: Option<Timestamp>) -> String {
    let now = last.unwrap_or(Timestamp::MIN);
    let mut text = String::new();
    line(&mut text, &workload.to_string());
    if let Some((first, last)) = profile.span() {
        line(&mut text, &format!("  watched {}", span(first, last)));
    }
    for (revision, first, last) in profile.releases() {
        line(
            &mut text,
            &format!("  release {revision}: {}", span(first, last)),
        );
    }
    if profile.left_out() > 0 {
        line(
            &mut text,
            &format!(
                "  {} not learned because of alerts",
                counted(profile.left_out(), "minute")
            ),
        );
    }
    for accepted in profile.accepted() {
        line(
            &mut text,
            &format!(
                "  accepted {} ({}): {}",
                accepted.signature, accepted.alert, accepted.reason
            ),
        );
    }
    for role in [Role::Client, Role::Server] {
        of_role(&mut text, profile, role, now);
    }
    for rate in Rate::all() {
        let Some(minutes) = profile.rate(rate).filter(|minutes| minutes.most() > 0.0) else {
            continue;
        };
        let withheld = match profile.withheld(rate) {
            0 => String::new(),
            n => format!(", {} too high to learn", counted(n, "minute")),
        };
        let usual = minutes.quantile(0.5).unwrap_or_default();
        let detail = format!(
            "usually ≤ {}, {}, at most {}{withheld}",
            measure(usual),
            profile.rate_expected(rate),
            measure(minutes.most())
        );
        feature(&mut text, profile, Feature::Rate(rate), now, &detail);
    }
    text
}

fn of_role(text: &mut String, profile: &Profile, role: Role, now: Timestamp) {
    if profile.peer_count(role) > 0 {
        let detail = format!(
            "{}; a new one costs {:.1} bits",
            counted(profile.peer_count(role) as u64, "peer"),
            profile.novelty_bits(role)
        );
        feature(text, profile, Feature::Peers(role), now, &detail);
        let mut peers: Vec<Peer<'_>> = profile.peers().filter(|peer| peer.role == role).collect();
        peers.sort_by(|a, b| {
            b.stat
                .count
                .cmp(&a.stat.count)
                .then_with(|| (a.name, a.port).cmp(&(b.name, b.port)))
        });
        for peer in peers.iter().take(MOST) {
            line(text, &format!("      {}", peer_text(profile, peer)));
        }
        more(text, peers.len());
    }
    for class in PeerClass::ALL {
        let flows = profile.volumes(role, class);
        if let Some(most) = flows.quantile(0.99) {
            let detail = format!("99 % of flows send ≤ {}", bytes(most as u64));
            feature(text, profile, Feature::Volume(role, class), now, &detail);
        }
    }
    for vocabulary in Vocabulary::all() {
        let (known, _) = profile.word_counts(vocabulary, role);
        if known == 0 {
            continue;
        }
        let detail = format!(
            "{}; a new one costs {:.1} bits",
            counted(known as u64, "word"),
            profile.word_bits(vocabulary, role)
        );
        feature(
            text,
            profile,
            Feature::Words(vocabulary, role),
            now,
            &detail,
        );
        let mut words: Vec<_> = profile.words(vocabulary, role).collect();
        words.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
        for (word, stat) in words.iter().take(MOST) {
            line(text, &format!("      {word}  {}×", count(stat.count)));
        }
        more(text, words.len());
    }
}

fn more(text: &mut String, all: usize) {
    if all > MOST {
        line(
            text,
            &format!("      and {} more", count((all - MOST) as u64)),
        );
    }
}

fn peer_text(profile: &Profile, peer: &Peer<'_>) -> String {
    let contact = peer.contact();
    let mut text = format!(
        "{} {}/{}  {}×",
        peer.name,
        peer.port,
        peer.protocol,
        count(peer.stat.count)
    );
    if let Some(plan) = profile.schedule(&contact) {
        let (every, spread) = (duration(plan.every), duration(plan.spread));
        text.push_str(&[", every ", &every, " (± ", &spread, ")"].concat());
    } else if let Some(period) = profile
        .period(&contact)
        .filter(|period| period.spread < 0.3)
    {
        let spread = format!("{:.0} %", period.spread * 100.0);
        text.push_str(&[", every ", &duration(period.gap), " (± ", &spread, ")"].concat());
    }
    text
}

fn feature(text: &mut String, profile: &Profile, feature: Feature, now: Timestamp, detail: &str) {
    let standing = profile.standing(feature, now);
    let missing = match (standing.state, standing.missing()) {
        (Maturity::Stable, _) => String::new(),
        (_, missing) => format!(" (waits for {missing})"),
    };
    line(
        text,
        &format!("  {feature}: {}, {detail}{missing}", standing.state.label()),
    );
}

fn line(text: &mut String, more: &str) {
    text.push_str(&printable(more));
    text.push('\n');
}

/// What `new` knows otherwise than `old`, a line each.
pub fn baseline_diff(old: &Baseline, new: &Baseline) -> String {
    let mut text = String::new();
    for (workload, _) in old.profiles().filter(|(id, _)| new.profile(id).is_none()) {
        line(&mut text, &format!("- {workload}"));
    }
    let none = Profile::default();
    for (workload, now) in new.profiles() {
        let before = old.profile(workload);
        if before.is_none() {
            line(&mut text, &format!("+ {workload}"));
        }
        let mut changes = String::new();
        differences(&mut changes, before.unwrap_or(&none), now);
        for change in changes.lines() {
            // Written above as printable text.
            let _written = writeln!(text, "{} {workload} {}", &change[..1], &change[2..]);
        }
    }
    text
}

fn differences(text: &mut String, old: &Profile, new: &Profile) {
    for (mark, one, other) in [("-", old, new), ("+", new, old)] {
        for peer in one.peers() {
            if other.contact(&peer.contact()).is_none() {
                let role = peer.role.label();
                line(
                    text,
                    &format!(
                        "{mark} {role} peer {} {}/{}",
                        peer.name, peer.port, peer.protocol
                    ),
                );
            }
        }
        for role in [Role::Client, Role::Server] {
            for vocabulary in one.vocabularies(role) {
                for (word, _) in one.words(vocabulary, role) {
                    if !other.knows_word(vocabulary, role, word) {
                        line(
                            text,
                            &format!("{mark} {} {} {word}", role.label(), vocabulary.noun()),
                        );
                    }
                }
            }
        }
    }
    for rate in Rate::all() {
        let most = |profile: &Profile| {
            profile
                .rate(rate)
                .and_then(|minutes| minutes.quantile(0.99))
                .unwrap_or(0.0)
        };
        let (before, now) = (most(old), most(new));
        // Less than a doubling is no difference.
        if (before.max(now) > rate.floor()) && (now > before * 2.0 || before > now * 2.0) {
            line(
                text,
                &format!(
                    "~ {}: 99 % ≤ {} → {}",
                    rate.name(),
                    measure(before),
                    measure(now)
                ),
            );
        }
    }
}
