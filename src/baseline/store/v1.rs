//! Format 1: a profile as JSON. Read, never written any more.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::Baseline;
use super::super::level::Level;
use super::super::profile::Profile;
use super::super::side::Side;
use super::super::table::{Entry, Names, Table, seconds};
use super::Problem;
use crate::features::{LogHistogram, Rate, Role, Vocabulary};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// A profile as stored. Times are nanoseconds since the epoch.
#[derive(Deserialize)]
struct ProfileV1 {
    first: Option<i64>,
    last: Option<i64>,
    answered: u64,
    failed: u64,
    peers: Vec<PeerV1>,
    domains: Vec<DomainV1>,
    rates: BTreeMap<String, Vec<(u8, u64)>>,
}

#[derive(Deserialize)]
struct PeerV1 {
    role: String,
    peer: String,
    port: u16,
    protocol: u8,
    first: i64,
    last: i64,
    count: u64,
}

#[derive(Deserialize)]
struct DomainV1 {
    domain: String,
    first: i64,
    last: i64,
    count: u64,
}

/// Reads a profile into `baseline`.
pub(super) fn read(
    baseline: &mut Baseline,
    workload: WorkloadId,
    value: &[u8],
) -> Result<(), Problem> {
    let stored: ProfileV1 =
        serde_json::from_slice(value).map_err(|error| Problem(format!("{workload}: {error}")))?;
    let profile = profile(stored, &mut baseline.names);
    baseline.insert(workload, profile);
    Ok(())
}

fn profile(stored: ProfileV1, names: &mut Names) -> Profile {
    let mut peers: BTreeMap<Role, Vec<Entry>> = BTreeMap::new();
    for peer in &stored.peers {
        let role = if peer.role == Role::Server.label() {
            Role::Server
        } else {
            Role::Client
        };
        let name = names.get(&peer.peer);
        let entry = entry(
            name,
            (peer.port, peer.protocol),
            (peer.first, peer.last, peer.count),
        );
        peers.entry(role).or_default().extend(entry);
    }
    let domains = stored.domains.iter().filter_map(|one| {
        let name = names.get(&one.domain);
        entry(name, (0, 0), (one.first, one.last, one.count))
    });
    let domains = Table::new(domains.collect(), 0);
    let mut side = |role| Side {
        peers: Table::new(peers.remove(&role).unwrap_or_default(), 0),
        ..Side::default()
    };
    let (mut client, server) = (side(Role::Client), side(Role::Server));
    client.words = BTreeMap::from([(Vocabulary::Domain, domains)]);
    (client.answered, client.failed) = (stored.answered, stored.failed);
    // It counted a workload's minutes and not its pods', so that rates of several pods were added up.
    let rates = stored.rates.into_iter().filter_map(|(name, counts)| {
        let counts = counts
            .into_iter()
            .map(|(bucket, count)| (bucket, u32::try_from(count).unwrap_or(u32::MAX)));
        let level = Level {
            minutes: LogHistogram::from_counts(counts),
            ..Level::default()
        };
        Some((Rate::from_name(&name)?, level))
    });
    Profile {
        span: stored
            .first
            .zip(stored.last)
            .map(|(first, last)| (Timestamp::from_nanos(first), Timestamp::from_nanos(last))),
        client,
        server,
        rates: rates.collect(),
        ..Profile::default()
    }
}

fn entry(
    name: Option<super::super::table::Name>,
    (port, protocol): (u16, u8),
    (first, last, count): (i64, i64, u64),
) -> Option<Entry> {
    Some(Entry {
        name: name?,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        first: seconds(Timestamp::from_nanos(first)),
        last: seconds(Timestamp::from_nanos(last)),
        port,
        protocol,
    })
}
