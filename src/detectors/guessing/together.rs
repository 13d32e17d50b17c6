//! Several who guess, each too little to stand out: what they weigh together, and how it is told.

use super::super::{Evidence, Family, Finding};
use super::target;
use crate::features::{Campaign, Crowd};

/// Per source: a pod, and anybody else.
const BITS_PER_POD: f64 = 1.0;
const BITS_PER_STRANGER: f64 = 2.0;
const MAX_SOURCE_BITS: f64 = 24.0;
/// Per guess of a crowd.
const BITS_PER_CROWD_GUESS: f64 = 0.5;
const MAX_CROWD_GUESS_BITS: f64 = 16.0;
/// Per account that was tried once and left alone, and per one beyond the first of each source: a program has one, and goes
/// on trying it.
const BITS_PER_ACCOUNT: f64 = 1.0;
const BITS_PER_FURTHER: f64 = 1.5;

/// What is told of a crowd at one server.
pub(super) fn of_crowd(signature: &'static str, crowd: Crowd) -> Finding {
    let evidence = crowd_evidence(&crowd);
    Finding {
        signature,
        subject: format!("many to {}:{}", crowd.server.ip, crowd.port),
        actor: crowd.busiest.clone(),
        first: crowd.first,
        last: crowd.last,
        targets: vec![target(&crowd.server, crowd.port, crowd.service)],
        target_count: 1,
        evidence,
        summary: format!(
            "and {} others were refused {} logins to {} at {}:{}, each a few",
            crowd.sources - 1,
            crowd.counted,
            crowd.service,
            crowd.server.ip,
            crowd.port,
        ),
        flows: crowd.samples,
    }
}

/// What is told of a campaign.
pub(super) fn of_campaign(signature: &'static str, campaign: Campaign) -> Finding {
    let evidence = campaign_evidence(&campaign);
    let Campaign { service, .. } = campaign;
    let others: Vec<String> = campaign.others.iter().map(ToString::to_string).collect();
    let targets = campaign.targets.iter();
    Finding {
        signature,
        subject: format!("many to {service}"),
        actor: campaign.busiest.clone(),
        first: campaign.first,
        last: campaign.last,
        targets: targets
            .map(|(end, port)| target(end, *port, service))
            .collect(),
        target_count: campaign.servers,
        evidence,
        summary: format!(
            "and {} others ({}) tried {} accounts of {service} at {} {}, once each, and were refused",
            campaign.sources - 1,
            others.join(", "),
            campaign.accounts,
            campaign.servers,
            if campaign.servers == 1 {
                "server"
            } else {
                "servers"
            },
        ),
        flows: campaign.samples,
    }
}

fn campaign_evidence(campaign: &Campaign) -> Vec<Evidence> {
    let Campaign {
        sources, accounts, ..
    } = *campaign;
    let further = accounts.saturating_sub(sources) as f64 * BITS_PER_FURTHER;
    vec![
        Evidence {
            feature: "login.refused",
            family: Family::Outcome,
            observed: accounts as f64,
            expected: "a program that is refused tries again".into(),
            bits: (accounts as f64 * BITS_PER_ACCOUNT).min(MAX_CROWD_GUESS_BITS),
            signature_grade: false,
            text: format!("{accounts} accounts were tried once, refused, and left alone"),
        },
        Evidence {
            feature: "login.sources",
            family: Family::Volume,
            observed: sources as f64,
            expected: "one account per program".into(),
            bits: (sources as f64 * BITS_PER_POD + further).min(MAX_SOURCE_BITS),
            signature_grade: false,
            text: format!(
                "{sources} sources that have nothing to do with one another, each at several accounts"
            ),
        },
    ]
}

fn crowd_evidence(crowd: &Crowd) -> Vec<Evidence> {
    let pods = crowd.sources - crowd.strangers;
    vec![
        Evidence {
            feature: "login.refused",
            family: Family::Outcome,
            observed: crowd.counted as f64,
            expected: "a mistyped password now and then".into(),
            bits: (crowd.counted as f64 * BITS_PER_CROWD_GUESS).min(MAX_CROWD_GUESS_BITS),
            signature_grade: false,
            text: format!(
                "{} logins of {} users refused",
                crowd.counted,
                crowd.users.max(1)
            ),
        },
        Evidence {
            feature: "login.sources",
            family: Family::Volume,
            observed: crowd.sources as f64,
            expected: "refusals of one or two clients".into(),
            bits: (pods as f64 * BITS_PER_POD + crowd.strangers as f64 * BITS_PER_STRANGER)
                .min(MAX_SOURCE_BITS),
            signature_grade: false,
            text: format!(
                "{} sources that have nothing to do with one another",
                crowd.sources
            ),
        },
    ]
}
