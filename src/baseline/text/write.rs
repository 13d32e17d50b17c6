//! A baseline to text.

use std::fmt::Write;

use super::super::Baseline;
use super::super::habit::Habit;
use super::super::level::Level;
use super::super::profile::Profile;
use super::super::side::{Side, Volumes};
use super::super::table::{Entry, Table, from_seconds};
use super::FORMAT;
use crate::features::{LogHistogram, PeerClass};
use crate::time::Timestamp;

const HEAD: &str = "\
# What each workload normally does, as Spanwatch learned it. 'spanwatch baseline import' takes it back, edited or not:
# a line removed is forgotten, a line added is known (`port`, `protocol`, `seen`, `first` and `last` may be left out).
# Numbers like \"12:5 13:1\" are histograms: five values in bucket 12, one in bucket 13; bucket n ends at 2^(n/4).
";

impl Baseline {
    /// The baseline as text, workload by workload.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}format = \"{FORMAT}\"\n");
        for (workload, profile) in self.profiles() {
            put(&mut text, "\n[[workload]]\n");
            put(
                &mut text,
                &format!("name = {}\n", quoted(&workload.to_string())),
            );
            write_profile(&mut text, profile);
        }
        text
    }
}

fn put(text: &mut String, more: &str) {
    text.push_str(more);
}

fn write_profile(text: &mut String, profile: &Profile) {
    if let Some((first, last)) = profile.span {
        put(
            text,
            &format!("seen = [\"{}\", \"{}\"]\n", stamp(first), stamp(last)),
        );
    }
    if profile.left_out > 0 {
        put(text, &format!("left_out_minutes = {}\n", profile.left_out));
    }
    if let Some(hours) = &profile.hours {
        put(
            text,
            &format!(
                "hours = \"{}\"\nlast_hour = {}\n",
                sparse(&hours.watched),
                hours.last
            ),
        );
    }
    let releases = profile.releases.iter().map(|release| {
        format!(
            "{{ revision = {}, first = \"{}\", last = \"{}\" }}",
            quoted(&release.revision),
            stamp(from_seconds(release.first)),
            stamp(from_seconds(release.last))
        )
    });
    list(text, "releases", releases);
    let accepted = profile.accepted.iter().map(|accepted| {
        let targets: Vec<String> = accepted.targets.iter().map(|target| quoted(target)).collect();
        format!(
            "{{ alert = {}, signature = {}, reason = {}, time = \"{}\", target_count = {}, targets = [{}] }}",
            quoted(&accepted.alert),
            quoted(&accepted.signature),
            quoted(&accepted.reason),
            stamp(accepted.time),
            accepted.target_count,
            targets.join(", ")
        )
    });
    list(text, "accepted", accepted);
    write_side(text, "client", &profile.client);
    write_side(text, "server", &profile.server);
    if !profile.rates.is_empty() {
        put(text, "[workload.rates]\n");
        for (rate, level) in profile.rates.iter() {
            put(
                text,
                &format!("\"{}\" = {}\n", rate.name(), level_line(level)),
            );
        }
    }
}

fn level_line(level: &Level) -> String {
    let mut line = format!("{{ minutes = \"{}\"", histogram(&level.minutes));
    if let Some(peaks) = &level.peaks {
        put(&mut line, &format!(", peaks = \"{}\"", sparse(&**peaks)));
    }
    if let Some(reference) = level.reference {
        put(
            &mut line,
            &format!(", reference = [{}, {}]", reference.bucket, reference.since),
        );
    }
    if level.withheld > 0 {
        put(&mut line, &format!(", withheld = {}", level.withheld));
    }
    put(&mut line, " }");
    if let (Some(half), Some(most)) = (level.minutes.quantile(0.5), level.minutes.quantile(0.99)) {
        put(
            &mut line,
            &format!("  # half ≤ {half:.0}, 99 % ≤ {most:.0}"),
        );
    }
    line
}

fn write_side(text: &mut String, name: &str, side: &Side) {
    if *side == Side::default() {
        return;
    }
    put(
        text,
        &format!(
            "[workload.{name}]\nanswered = {}\nfailed = {}\n",
            side.answered, side.failed
        ),
    );
    unlisted(text, "peers_unlisted", &side.peers);
    list(text, "peers", side.peers.iter().map(peer));
    unlisted(text, "networks_unlisted", &side.networks);
    list(text, "networks", side.networks.iter().map(peer));
    let habits = side.habits.iter().map(|one| {
        format!(
            "{{ peer = {}, port = {}, protocol = {}, {} }}",
            quoted(&one.name),
            one.port,
            one.protocol,
            habit(&one.habit)
        )
    });
    list(text, "habits", habits);
    let volumes = PeerClass::ALL.iter().filter_map(|&class| {
        let volumes = side.volumes(class);
        (volumes != &Volumes::default()).then(|| {
            format!(
                "{{ with = \"{}\", {} }}",
                class.label(),
                triple([&volumes.out, &volumes.back, &volumes.duration])
            )
        })
    });
    list(text, "volumes", volumes);
    for (vocabulary, table) in &side.words {
        put(
            text,
            &format!(
                "[[workload.{name}.words]]\nkind = \"{}\"\n",
                vocabulary.name()
            ),
        );
        unlisted(text, "unlisted", table);
        list(text, "known", table.iter().map(word));
    }
}

fn unlisted(text: &mut String, name: &str, table: &Table) {
    if table.unlisted() > 0 {
        put(text, &format!("{name} = {}\n", table.unlisted()));
    }
}

fn peer(entry: &Entry) -> String {
    format!(
        "{{ peer = {}, port = {}, protocol = {}, {} }}",
        quoted(&entry.name),
        entry.port,
        entry.protocol,
        seen(entry)
    )
}

fn word(entry: &Entry) -> String {
    format!("{{ word = {}, {} }}", quoted(&entry.name), seen(entry))
}

fn seen(entry: &Entry) -> String {
    format!(
        "seen = {}, first = \"{}\", last = \"{}\"",
        entry.count,
        stamp(from_seconds(entry.first)),
        stamp(from_seconds(entry.last))
    )
}

fn habit(habit: &Habit) -> String {
    let visits: Vec<String> = habit
        .visits
        .iter()
        .map(|&at| format!("\"{}\"", stamp(from_seconds(at))))
        .collect();
    format!(
        "{}, rhythm = [{}, {:?}, {:?}], visits = [{}]",
        triple([&habit.out, &habit.back, &habit.duration]),
        habit.rhythm.n,
        habit.rhythm.mean,
        habit.rhythm.m2,
        visits.join(", ")
    )
}

fn triple([out, back, duration]: [&LogHistogram; 3]) -> String {
    format!(
        "out = \"{}\", back = \"{}\", duration = \"{}\"",
        histogram(out),
        histogram(back),
        histogram(duration)
    )
}

/// `key = [`, a line per item, `]`; nothing for no item.
fn list(text: &mut String, key: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    put(text, &format!("{key} = [\n"));
    for item in items {
        put(text, &format!("  {item},\n"));
    }
    put(text, "]\n");
}

fn histogram(histogram: &LogHistogram) -> String {
    let pairs = histogram
        .counts()
        .iter()
        .map(|(bucket, count)| format!("{bucket}:{count}"));
    pairs.collect::<Vec<_>>().join(" ")
}

/// The places that aren't zero, each with its value.
fn sparse(values: &[u8]) -> String {
    let pairs = values.iter().enumerate().filter(|(_, value)| **value > 0);
    pairs
        .map(|(at, value)| format!("{at}:{value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A text as TOML has it in quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string can't fail.
                let _written = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A time as RFC 3339 has it.
fn stamp(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.nanos()))
        .unwrap_or_default()
        .to_string()
}
