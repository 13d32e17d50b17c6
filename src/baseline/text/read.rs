//! Text to a baseline.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::Baseline;
use super::super::habit::{Habit, Rhythm};
use super::super::level::{HOURS, Hours, Level, Reference};
use super::super::profile::{Accepted, Profile, Release};
use super::super::side::{PeerHabit, Side, Volumes};
use super::super::table::{Entry, Name, Names, Table, seconds};
use super::FORMAT;
use crate::features::{LogHistogram, PeerClass, Rate, Vocabulary};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// How often something added by hand counts as seen: not once, for what was seen once makes the next stranger likelier.
const BY_HAND: u32 = 2;
const TCP: u8 = 6;

/// A text that is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It isn't of the form.
    #[error(transparent)]
    Form(#[from] Box<toml::de::Error>),
    /// Something in it makes no sense.
    #[error("{0}")]
    Sense(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    #[serde(default)]
    workload: Vec<WorkloadText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadText {
    name: String,
    seen: Option<[String; 2]>,
    #[serde(default)]
    left_out_minutes: u64,
    hours: Option<String>,
    #[serde(default)]
    last_hour: u32,
    #[serde(default)]
    releases: Vec<ReleaseText>,
    #[serde(default)]
    accepted: Vec<AcceptedText>,
    #[serde(default)]
    client: SideText,
    #[serde(default)]
    server: SideText,
    #[serde(default)]
    rates: BTreeMap<String, LevelText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseText {
    revision: String,
    first: String,
    last: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedText {
    alert: String,
    signature: String,
    reason: String,
    time: String,
    target_count: u64,
    targets: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SideText {
    #[serde(default)]
    answered: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    peers: Vec<PeerText>,
    #[serde(default)]
    peers_unlisted: u64,
    #[serde(default)]
    networks: Vec<PeerText>,
    #[serde(default)]
    networks_unlisted: u64,
    #[serde(default)]
    habits: Vec<HabitText>,
    #[serde(default)]
    volumes: Vec<VolumeText>,
    #[serde(default)]
    words: Vec<WordsText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerText {
    peer: String,
    #[serde(default)]
    port: u16,
    #[serde(default = "tcp")]
    protocol: u8,
    #[serde(default = "by_hand")]
    seen: u32,
    first: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordsText {
    kind: String,
    #[serde(default)]
    unlisted: u64,
    #[serde(default)]
    known: Vec<WordText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordText {
    word: String,
    #[serde(default = "by_hand")]
    seen: u32,
    first: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HabitText {
    peer: String,
    port: u16,
    protocol: u8,
    out: String,
    back: String,
    duration: String,
    rhythm: (u32, f64, f64),
    visits: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeText {
    with: String,
    out: String,
    back: String,
    duration: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelText {
    minutes: String,
    peaks: Option<String>,
    reference: Option<(u8, u32)>,
    #[serde(default)]
    withheld: u64,
}

const fn tcp() -> u8 {
    TCP
}

const fn by_hand() -> u32 {
    BY_HAND
}

impl Baseline {
    /// The baseline that a text says.
    ///
    /// # Errors
    /// With the line of what is wrong.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let document: Document = toml::from_str(text).map_err(Box::new)?;
        if document.format != FORMAT {
            let format = document.format;
            return Err(TextError::Sense(format!(
                "format {format:?} is not {FORMAT:?}"
            )));
        }
        let mut baseline = Self::default();
        for text in document.workload {
            let name = text.name.clone();
            let sense = |problem| TextError::Sense(format!("workload {name:?}: {problem}"));
            let workload = workload(&text.name)
                .ok_or_else(|| sense("must be namespace/kind/name".to_owned()))?;
            let profile = profile(text, &mut baseline.names).map_err(sense)?;
            if baseline.profile(&workload).is_some() {
                return Err(sense("is there twice".to_owned()));
            }
            baseline.insert(workload, profile);
        }
        Ok(baseline)
    }
}

/// The workload of `namespace/kind/name`, or of `kind/name` outside Kubernetes.
fn workload(name: &str) -> Option<WorkloadId> {
    let (rest, name) = name.rsplit_once('/')?;
    let (namespace, kind) = rest.rsplit_once('/').unwrap_or(("", rest));
    (!kind.is_empty() && !name.is_empty()).then(|| WorkloadId {
        namespace: namespace.into(),
        kind: kind.into(),
        name: name.into(),
    })
}

fn profile(text: WorkloadText, names: &mut Names) -> Result<Profile, String> {
    let span = match &text.seen {
        Some([first, last]) => Some((time(first)?, time(last)?)),
        None => None,
    };
    // What was added by hand is as new as the rest.
    let last = span.map_or(0, |(_, last)| seconds(last));
    let mut profile = Profile {
        span,
        client: side(text.client, names, last)?,
        server: side(text.server, names, last)?,
        left_out: text.left_out_minutes,
        ..Profile::default()
    };
    if let Some(hours) = &text.hours {
        profile.hours = Some(Box::new(Hours {
            watched: sparse(hours)?,
            last: text.last_hour,
        }));
    }
    for release in text.releases {
        profile.releases.push(Release {
            revision: name(names, &release.revision)?,
            first: seconds(time(&release.first)?),
            last: seconds(time(&release.last)?),
        });
    }
    for accepted in text.accepted {
        profile.accept(Accepted {
            time: time(&accepted.time)?,
            alert: accepted.alert,
            signature: accepted.signature,
            targets: accepted.targets,
            target_count: accepted.target_count,
            reason: accepted.reason,
        });
    }
    for (name, level) in text.rates {
        let rate = Rate::from_name(&name).ok_or_else(|| format!("there is no rate {name:?}"))?;
        let level = Level {
            minutes: histogram(&level.minutes)?,
            peaks: level
                .peaks
                .as_deref()
                .map(sparse)
                .transpose()?
                .map(Box::new),
            reference: level
                .reference
                .map(|(bucket, since)| Reference { bucket, since }),
            withheld: level.withheld,
        };
        *profile.rates.of(rate) = level;
    }
    Ok(profile)
}

fn side(text: SideText, names: &mut Names, now: u32) -> Result<Side, String> {
    let mut peers = |list: Vec<PeerText>, unlisted| -> Result<Table, String> {
        let entries = list.into_iter().map(|peer| {
            let seen = (peer.seen, peer.first, peer.last);
            entry(
                name(names, &peer.peer)?,
                (peer.port, peer.protocol),
                seen,
                now,
            )
        });
        Ok(Table::new(entries.collect::<Result<_, _>>()?, unlisted))
    };
    let mut side = Side {
        peers: peers(text.peers, text.peers_unlisted)?,
        networks: peers(text.networks, text.networks_unlisted)?,
        answered: text.answered,
        failed: text.failed,
        ..Side::default()
    };
    for words in text.words {
        let kind = &words.kind;
        let vocabulary = Vocabulary::from_name(kind)
            .ok_or_else(|| format!("there is no kind of words {kind:?}"))?;
        let entries = words.known.into_iter().map(|word| {
            let seen = (word.seen, word.first, word.last);
            entry(name(names, &word.word)?, (0, 0), seen, now)
        });
        let table = Table::new(entries.collect::<Result<_, _>>()?, words.unlisted);
        side.words.insert(vocabulary, table);
    }
    for volume in text.volumes {
        let at = PeerClass::ALL
            .iter()
            .position(|class| class.label() == volume.with);
        let place = at.and_then(|at| side.volumes.get_mut(at));
        let place = place.ok_or_else(|| format!("there are no peers {:?}", volume.with))?;
        *place = Volumes {
            out: histogram(&volume.out)?,
            back: histogram(&volume.back)?,
            duration: histogram(&volume.duration)?,
        };
    }
    for habit in text.habits {
        let (n, mean, m2) = habit.rhythm;
        let visits = habit.visits.iter().map(|at| Ok(seconds(time(at)?)));
        side.habits.push(PeerHabit {
            name: name(names, &habit.peer)?,
            port: habit.port,
            protocol: habit.protocol,
            habit: Habit {
                out: histogram(&habit.out)?,
                back: histogram(&habit.back)?,
                duration: histogram(&habit.duration)?,
                rhythm: Rhythm { n, mean, m2 },
                visits: visits.collect::<Result<_, String>>()?,
            },
        });
    }
    side.habits.sort_by(|a, b| a.key().cmp(&b.key()));
    // Whoever takes a peer out takes its habits out with it.
    side.drop_habits();
    Ok(side)
}

fn entry(
    name: Name,
    (port, protocol): (u16, u8),
    (count, first, last): (u32, Option<String>, Option<String>),
    now: u32,
) -> Result<Entry, String> {
    let at = |text: Option<String>| match text {
        Some(text) => Ok(seconds(time(&text)?)),
        None => Ok::<_, String>(now),
    };
    let (first, last) = (at(first)?, at(last)?);
    Ok(Entry {
        name,
        count: count.max(1),
        first: first.min(last),
        last: last.max(first),
        port,
        protocol,
    })
}

fn name(names: &mut Names, text: &str) -> Result<Name, String> {
    names.get(text).ok_or_else(|| "too many names".to_owned())
}

fn time(text: &str) -> Result<Timestamp, String> {
    let stamp: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time"))?;
    let nanos = i64::try_from(stamp.as_nanosecond()).map_err(|_| format!("{text:?} is no time"))?;
    Ok(Timestamp::from_nanos(nanos))
}

/// `3:4 7:1`.
fn pairs<T: std::str::FromStr>(text: &str) -> impl Iterator<Item = Result<(u8, T), String>> {
    text.split_whitespace().map(|pair| {
        let wrong = || format!("{pair:?} is no pair of numbers");
        let (at, value) = pair.split_once(':').ok_or_else(wrong)?;
        Ok((
            at.parse().map_err(|_| wrong())?,
            value.parse().map_err(|_| wrong())?,
        ))
    })
}

fn histogram(text: &str) -> Result<LogHistogram, String> {
    let counts: Vec<(u8, u32)> = pairs(text).collect::<Result<_, _>>()?;
    Ok(LogHistogram::from_counts(counts))
}

fn sparse(text: &str) -> Result<[u8; HOURS], String> {
    let mut values = [0; HOURS];
    for pair in pairs::<u8>(text) {
        let (at, value) = pair?;
        let place = values.get_mut(usize::from(at));
        *place.ok_or_else(|| format!("a week has no hour {at}"))? = value;
    }
    Ok(values)
}
