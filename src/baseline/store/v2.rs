//! Format 2: names once for all workloads, profiles that refer to them by number; each piece with its checksum.
//!
//! The values are postcard's (varints, no names of fields). Whatever is enumerated goes by its name, so that a vocabulary or
//! a rate that a later version adds is passed over by this one, and the other way round.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::super::Baseline;
use super::super::habit::{Habit, Rhythm};
use super::super::level::{HOURS, Hours, Level, Reference, STEPS};
use super::super::profile::{Accepted, Profile, Release};
use super::super::side::{PeerHabit, Side, Volumes};
use super::super::table::{Entry, Name, Table};
use super::Problem;
use crate::features::{LogHistogram, Rate, Vocabulary};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// Names in a piece.
const NAMES_A_PIECE: usize = 4096;

/// A value with its checksum before it.
pub(super) fn seal(mut value: Vec<u8>) -> Vec<u8> {
    let mut sealed = crc32fast::hash(&value).to_le_bytes().to_vec();
    sealed.append(&mut value);
    sealed
}

/// A value whose checksum is right.
pub(super) fn open(sealed: &[u8]) -> Result<&[u8], Problem> {
    let (sum, value) = sealed
        .split_first_chunk::<4>()
        .ok_or_else(|| Problem("a piece is cut short".to_owned()))?;
    if crc32fast::hash(value) == u32::from_le_bytes(*sum) {
        Ok(value)
    } else {
        Err(Problem("a checksum is wrong".to_owned()))
    }
}

fn decode<'a, T: Deserialize<'a>>(sealed: &'a [u8]) -> Result<T, Problem> {
    postcard::from_bytes(open(sealed)?).map_err(|error| Problem(error.to_string()))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let bytes = postcard::to_stdvec(value).map_err(|error| Problem(error.to_string()))?;
    Ok(seal(bytes))
}

/// Numbers names in the order in which they are first written.
#[derive(Default)]
pub(super) struct Numbering<'a> {
    /// Names chosen by attackers among them; the hash is seeded.
    numbers: HashMap<&'a str, u32, RandomState>,
    names: Vec<&'a str>,
}

impl<'a> Numbering<'a> {
    fn number(&mut self, name: &'a str) -> u32 {
        let next = self.names.len() as u32;
        let names = &mut self.names;
        *self.numbers.entry(name).or_insert_with(|| {
            names.push(name);
            next
        })
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The names in pieces, to be read in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Result<Vec<u8>, Problem>> {
        self.names.chunks(NAMES_A_PIECE).map(|names| encode(&names))
    }
}

/// The names that profiles refer to.
#[derive(Default)]
pub(super) struct Numbered(Vec<Name>);

impl Numbered {
    /// Takes the next piece.
    pub(super) fn read(&mut self, baseline: &mut Baseline, piece: &[u8]) -> Result<(), Problem> {
        for name in decode::<Vec<&str>>(piece)? {
            let name = baseline.names.get(name);
            self.0
                .push(name.ok_or_else(|| Problem("too many names".to_owned()))?);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, number: u32) -> Result<&Name, Problem> {
        self.0
            .get(number as usize)
            .ok_or_else(|| Problem(format!("name {number} is missing")))
    }
}

/// Name, port, protocol, count, first, seconds from first to last.
type EntryV2 = (u32, u16, u8, u32, u32, u32);
/// Buckets with counts.
type HistogramV2 = Vec<(u8, u32)>;

#[derive(Serialize, Deserialize)]
struct TableV2 {
    entries: Vec<EntryV2>,
    unlisted: u64,
}

#[derive(Serialize, Deserialize)]
struct VolumesV2 {
    out: HistogramV2,
    back: HistogramV2,
    duration: HistogramV2,
}

#[derive(Serialize, Deserialize)]
struct HabitV2 {
    peer: (u32, u16, u8),
    volumes: VolumesV2,
    rhythm: (u32, f64, f64),
    visits: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct SideV2 {
    peers: TableV2,
    networks: TableV2,
    words: Vec<(u32, TableV2)>,
    volumes: Vec<VolumesV2>,
    habits: Vec<HabitV2>,
    answered: u64,
    failed: u64,
}

#[derive(Serialize, Deserialize)]
struct LevelV2 {
    minutes: HistogramV2,
    /// By hour of the week; empty if there are none.
    peaks: Vec<u8>,
    reference: Option<(u8, u32)>,
    withheld: u64,
}

#[derive(Serialize, Deserialize)]
struct AcceptedV2 {
    alert: String,
    signature: String,
    targets: Vec<String>,
    target_count: u64,
    reason: String,
    time: i64,
}

#[derive(Serialize, Deserialize)]
struct ProfileV2 {
    span: Option<(i64, i64)>,
    client: SideV2,
    server: SideV2,
    rates: Vec<(u32, LevelV2)>,
    hours: Option<(Vec<u8>, u32)>,
    releases: Vec<(u32, u32, u32)>,
    accepted: Vec<AcceptedV2>,
    left_out: u64,
}

/// A profile as it is stored.
pub(super) fn write<'a>(
    profile: &'a Profile,
    names: &mut Numbering<'a>,
) -> Result<Vec<u8>, Problem> {
    let rates = profile.rates.iter().map(|(rate, level)| {
        let level = LevelV2 {
            minutes: level.minutes.counts().to_vec(),
            peaks: level
                .peaks
                .as_deref()
                .map(|peaks| peaks.to_vec())
                .unwrap_or_default(),
            reference: level
                .reference
                .map(|reference| (reference.bucket, reference.since)),
            withheld: level.withheld,
        };
        (names.number(rate.name()), level)
    });
    let rates = rates.collect();
    let releases = profile.releases.iter().map(|release| {
        let revision = names.number(&release.revision);
        (revision, release.first, release.last)
    });
    let releases = releases.collect();
    let stored = ProfileV2 {
        span: profile
            .span
            .map(|(first, last)| (first.nanos(), last.nanos())),
        client: write_side(&profile.client, names),
        server: write_side(&profile.server, names),
        rates,
        hours: profile
            .hours
            .as_ref()
            .map(|hours| (hours.watched.to_vec(), hours.last)),
        releases,
        accepted: profile.accepted.iter().map(write_accepted).collect(),
        left_out: profile.left_out,
    };
    encode(&stored)
}

fn write_side<'a>(side: &'a Side, names: &mut Numbering<'a>) -> SideV2 {
    let mut words = Vec::new();
    for (vocabulary, table) in &side.words {
        words.push((names.number(vocabulary.name()), write_table(table, names)));
    }
    let habits = side.habits.iter().map(|peer| {
        let Habit {
            out,
            back,
            duration,
            rhythm,
            visits,
        } = &peer.habit;
        HabitV2 {
            peer: (names.number(&peer.name), peer.port, peer.protocol),
            volumes: write_volumes([out, back, duration]),
            rhythm: (rhythm.n, rhythm.mean, rhythm.m2),
            visits: visits.clone(),
        }
    });
    let habits = habits.collect();
    SideV2 {
        peers: write_table(&side.peers, names),
        networks: write_table(&side.networks, names),
        words,
        volumes: side
            .volumes
            .iter()
            .map(|volumes| write_volumes([&volumes.out, &volumes.back, &volumes.duration]))
            .collect(),
        habits,
        answered: side.answered,
        failed: side.failed,
    }
}

fn write_volumes(volumes: [&LogHistogram; 3]) -> VolumesV2 {
    let [out, back, duration] = volumes.map(|histogram| histogram.counts().to_vec());
    VolumesV2 {
        out,
        back,
        duration,
    }
}

fn write_table<'a>(table: &'a Table, names: &mut Numbering<'a>) -> TableV2 {
    let entries = table.iter().map(|entry| {
        let name = names.number(&entry.name);
        let lasted = entry.last.saturating_sub(entry.first);
        (
            name,
            entry.port,
            entry.protocol,
            entry.count,
            entry.first,
            lasted,
        )
    });
    TableV2 {
        entries: entries.collect(),
        unlisted: table.unlisted(),
    }
}

fn write_accepted(accepted: &Accepted) -> AcceptedV2 {
    AcceptedV2 {
        alert: accepted.alert.clone(),
        signature: accepted.signature.clone(),
        targets: accepted.targets.clone(),
        target_count: accepted.target_count,
        reason: accepted.reason.clone(),
        time: accepted.time.nanos(),
    }
}

/// When rates were too high to be learned, by their names; `None` if none was.
pub(super) fn write_steps(profile: &Profile) -> Option<Result<Vec<u8>, Problem>> {
    let steps = profile.steps.iter();
    let named: Vec<(&str, &Vec<u32>)> = steps.map(|(rate, at)| (rate.name(), at)).collect();
    (!named.is_empty()).then(|| encode(&named))
}

/// What [`write_steps`] wrote.
pub(super) fn read_steps(sealed: &[u8]) -> Result<BTreeMap<Rate, Vec<u32>>, Problem> {
    let named: Vec<(&str, Vec<u32>)> = decode(sealed)?;
    let steps = named.into_iter().filter_map(|(name, mut at)| {
        at.truncate(STEPS);
        Some((Rate::from_name(name)?, at))
    });
    Ok(steps.collect())
}

/// Reads a profile into `baseline`.
pub(super) fn read(
    baseline: &mut Baseline,
    workload: WorkloadId,
    sealed: &[u8],
    names: &Numbered,
) -> Result<(), Problem> {
    let profile = decode(sealed)
        .and_then(|stored| read_profile(stored, names))
        .map_err(|Problem(problem)| Problem(format!("{workload}: {problem}")))?;
    baseline.insert(workload, profile);
    Ok(())
}

/// What was held back of a pod.
pub(super) fn read_sheet(sealed: &[u8], names: &Numbered) -> Result<Profile, Problem> {
    decode(sealed).and_then(|stored| read_profile(stored, names))
}

fn read_profile(stored: ProfileV2, names: &Numbered) -> Result<Profile, Problem> {
    let mut profile = Profile {
        span: stored
            .span
            .map(|(first, last)| (Timestamp::from_nanos(first), Timestamp::from_nanos(last))),
        client: read_side(stored.client, names)?,
        server: read_side(stored.server, names)?,
        left_out: stored.left_out,
        ..Profile::default()
    };
    for (name, level) in stored.rates {
        let level = Level {
            minutes: LogHistogram::from_counts(level.minutes),
            peaks: <[u8; HOURS]>::try_from(level.peaks).ok().map(Box::new),
            reference: level
                .reference
                .map(|(bucket, since)| Reference { bucket, since }),
            withheld: level.withheld,
        };
        if let Some(rate) = Rate::from_name(names.get(name)?) {
            *profile.rates.of(rate) = level;
        }
    }
    profile.rates.shrink();
    if let Some((watched, last)) = stored.hours
        && let Ok(watched) = watched.try_into()
    {
        profile.hours = Some(Box::new(Hours { watched, last }));
    }
    for (revision, first, last) in stored.releases {
        profile.releases.push(Release {
            revision: Name::clone(names.get(revision)?),
            first,
            last,
        });
    }
    for accepted in stored.accepted {
        profile.accept(Accepted {
            alert: accepted.alert,
            signature: accepted.signature,
            targets: accepted.targets,
            target_count: accepted.target_count,
            reason: accepted.reason,
            time: Timestamp::from_nanos(accepted.time),
        });
    }
    Ok(profile)
}

fn read_side(stored: SideV2, names: &Numbered) -> Result<Side, Problem> {
    let mut side = Side {
        peers: read_table(stored.peers, names)?,
        networks: read_table(stored.networks, names)?,
        answered: stored.answered,
        failed: stored.failed,
        ..Side::default()
    };
    for (name, table) in stored.words {
        let table = read_table(table, names)?;
        if let Some(vocabulary) = Vocabulary::from_name(names.get(name)?) {
            side.words.insert(vocabulary, table);
        }
    }
    for (ours, theirs) in side.volumes.iter_mut().zip(stored.volumes) {
        let VolumesV2 {
            out,
            back,
            duration,
        } = theirs;
        *ours = Volumes {
            out: LogHistogram::from_counts(out),
            back: LogHistogram::from_counts(back),
            duration: LogHistogram::from_counts(duration),
        };
    }
    for habit in stored.habits {
        let (name, port, protocol) = habit.peer;
        let (n, mean, m2) = habit.rhythm;
        side.habits.push(PeerHabit {
            name: Name::clone(names.get(name)?),
            port,
            protocol,
            habit: Habit {
                out: LogHistogram::from_counts(habit.volumes.out),
                back: LogHistogram::from_counts(habit.volumes.back),
                duration: LogHistogram::from_counts(habit.volumes.duration),
                rhythm: Rhythm { n, mean, m2 },
                visits: habit.visits,
            },
        });
    }
    if !side.habits.is_sorted_by(|a, b| a.key() < b.key()) {
        return Err(Problem("peers are out of order".to_owned()));
    }
    Ok(side)
}

fn read_table(stored: TableV2, names: &Numbered) -> Result<Table, Problem> {
    let mut entries = Vec::with_capacity(stored.entries.len());
    for (name, port, protocol, count, first, lasted) in stored.entries {
        entries.push(Entry {
            name: Name::clone(names.get(name)?),
            count,
            first,
            last: first.saturating_add(lasted),
            port,
            protocol,
        });
    }
    Ok(Table::new(entries, stored.unlisted))
}
