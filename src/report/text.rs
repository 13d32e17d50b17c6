//! An alert for the person on call: what happened, to whom, why we think so, what to do. 80 columns, 20 lines at most.
//!
//! What matters most comes first. Words from outside are made harmless before they are shown.

use std::borrow::Cow;

use super::human::{count, counted, measure, printable, span};
use crate::alert::{self, Alert, BaselineState, Incident};
use crate::detectors::{Evidence, Target};
use crate::identity::Confidence;
use crate::signature::{Severity, wrap};

const WIDTH: usize = 80;
const MOST_LINES: usize = 20;
/// Where the text beside the labels begins.
const COLUMN: usize = 11;
/// Where the text beside the bits begins.
const EVIDENCE_COLUMN: usize = 18;

const SENTENCE_LINES: usize = 3;
const MOST_TARGETS: usize = 5;
const TARGET_LINES: usize = 3;
const MOST_EVIDENCE: usize = 3;
const EVIDENCE_LINES: usize = 2;
const FOOT_LINES: usize = 3;

/// How to show text.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TextOptions {
    /// Whether the severity may be coloured by terminal codes. It is always a word too.
    pub colour: bool,
}

/// The alert as text; every line ends with a newline.
pub fn alert_text(alert: &Alert, options: TextOptions) -> String {
    let mut lines = vec![head(alert, options)];
    lines.extend(clipped(
        &printable(&alert.sentence()),
        WIDTH,
        SENTENCE_LINES,
    ));
    labelled(&mut lines, "when", [span(alert.first, alert.last)]);
    let targets = targets(alert);
    if !targets.is_empty() {
        labelled(
            &mut lines,
            "against",
            clipped(&targets, WIDTH - COLUMN, TARGET_LINES),
        );
    }
    if let Some(suppression) = &alert.suppressed {
        let text = printable(&suppression.to_string()).into_owned();
        labelled(&mut lines, "allowed", clipped(&text, WIDTH - COLUMN, 2));
    }
    labelled(&mut lines, "why", why(alert));
    let foot = FOOT_LINES + usize::from(alert.incident.is_some());
    let room = MOST_LINES.saturating_sub(lines.len() + foot);
    labelled(&mut lines, "do now", steps(alert, room));
    labelled(
        &mut lines,
        "what",
        clipped(&techniques(alert), WIDTH - COLUMN, 1),
    );
    labelled(
        &mut lines,
        "trust",
        clipped(&trust(alert), WIDTH - COLUMN, 1),
    );
    if let Some(incident) = &alert.incident {
        labelled(&mut lines, "part of", [place(alert, incident)]);
    }
    labelled(
        &mut lines,
        "id",
        [format!(
            "{}; more: spanwatch signatures show {}",
            alert.id, alert.signature.id
        )],
    );
    lines.join("\n") + "\n"
}

/// The severity, what it asks for, and the title.
fn head(alert: &Alert, options: TextOptions) -> String {
    let word = alert.severity.label();
    let title = &alert.signature.title;
    let urgency = alert.severity.text();
    let used = word.len() + 2 + title.chars().count();
    let right = (WIDTH.checked_sub(used + urgency.len()))
        .filter(|gap| *gap >= 2)
        .map(|gap| format!("{}{urgency}", " ".repeat(gap)))
        .unwrap_or_default();
    let word = coloured(alert.severity, options);
    format!("{word}  {title}{right}")
}

/// A severity's word, in its colour if that may be.
pub(super) fn coloured(severity: Severity, options: TextOptions) -> String {
    let word = severity.label().to_uppercase();
    match (options.colour, severity) {
        (false, _) => word,
        (true, Severity::Critical | Severity::High) => format!("\u{1b}[1;31m{word}\u{1b}[0m"),
        (true, Severity::Medium) => format!("\u{1b}[1;33m{word}\u{1b}[0m"),
        (true, Severity::Low) => format!("\u{1b}[1m{word}\u{1b}[0m"),
    }
}

/// The first targets, those on one host together, and how many more there are.
fn targets(alert: &Alert) -> String {
    let mut text = String::new();
    let mut last = None;
    for target in alert.targets.iter().take(MOST_TARGETS) {
        let ip = target.endpoint.as_ref().map(|end| end.ip);
        let service = service(target);
        if ip.is_some() && ip == last && !service.is_empty() {
            text.push_str(", ");
            text.push_str(&service);
        } else {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&whole_target(target, &service));
        }
        last = ip;
    }
    let shown = alert.targets.len().min(MOST_TARGETS) as u64;
    match alert.target_count.saturating_sub(shown) {
        0 => {}
        more if shown == 0 => text = counted(more, "target"),
        more => {
            text.push_str("; and ");
            text.push_str(&count(more));
            text.push_str(" more");
        }
    }
    text
}

fn whole_target(target: &Target, service: &str) -> String {
    let host = match (&target.endpoint, &target.domain) {
        (Some(end), domain) => {
            let name = domain
                .as_deref()
                .map(str::to_owned)
                .or_else(|| alert::holder(end));
            match name {
                Some(name) => format!("{} ({})", printable(&name), end.ip),
                None => end.ip.to_string(),
            }
        }
        (None, Some(domain)) => printable(domain).into_owned(),
        (None, None) => String::new(),
    };
    format!("{host} {service}").trim().to_owned()
}

/// `tcp/6379`, `dns`, `port 53`.
fn service(target: &Target) -> String {
    match (target.protocol, target.port) {
        (Some(protocol), Some(port)) => format!("{protocol}/{port}"),
        (Some(protocol), None) => protocol.to_owned(),
        (None, Some(port)) => format!("port {port}"),
        (None, None) => String::new(),
    }
}

/// The evidence with its bits, and their sum. What isn't added stands in parentheses.
fn why(alert: &Alert) -> Vec<String> {
    let counts = alert::counted(&alert.evidence);
    let (mut rows, rest): (Vec<_>, Vec<_>) = alert
        .evidence
        .iter()
        .zip(counts)
        .partition(|(_, counts)| *counts);
    rows.extend(rest);
    let mut lines = Vec::new();
    for (evidence, counts) in rows.iter().take(MOST_EVIDENCE) {
        let bits = if *counts {
            format!("{:.1}", evidence.bits)
        } else {
            format!("({:.1})", evidence.bits)
        };
        put_weighed(&mut lines, &bits, &sentence(evidence));
    }
    let more = rows.len().saturating_sub(MOST_EVIDENCE);
    let sum = if more == 0 {
        "bits in all; each halves the odds that this is normal".to_owned()
    } else {
        format!("bits in all, {more} more not shown; each halves the odds of normal")
    };
    put_weighed(&mut lines, &format!("={:.1}", alert.score), &sum);
    lines
}

fn sentence(evidence: &Evidence) -> String {
    let text = evidence.text.trim().trim_end_matches('.');
    let expected = if evidence.expected.is_empty() {
        String::new()
    } else {
        format!(", normally {}", evidence.expected)
    };
    format!("{text} (measured {}{expected})", measure(evidence.observed))
}

/// Text beside a weight.
fn put_weighed(lines: &mut Vec<String>, bits: &str, text: &str) {
    let mut weight = bits;
    let indent = EVIDENCE_COLUMN - COLUMN - 1;
    for line in clipped(&printable(text), WIDTH - EVIDENCE_COLUMN, EVIDENCE_LINES) {
        lines.push(format!("{weight:>indent$} {line}"));
        weight = "";
    }
}

/// As many of the first steps as there is room for, at least one.
fn steps(alert: &Alert, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, step) in alert.response.iter().enumerate() {
        let step = step_lines(&printable(step));
        if index > 0 && lines.len() + step.len() > room {
            break;
        }
        let mut number = format!("{}.", index + 1);
        for line in cut(step, WIDTH - COLUMN - 3, room.max(1)) {
            lines.push(format!("{number:<3}{line}"));
            number.clear();
        }
    }
    lines
}

/// A step's lines: commands, which stand in backticks, on lines of their own, so that they can be copied.
fn step_lines(step: &str) -> Vec<String> {
    let width = WIDTH - COLUMN - 3;
    step.split('`')
        .map(str::trim)
        .filter(|part| part.chars().any(char::is_alphanumeric))
        .flat_map(|part| wrap(part, width))
        .collect()
}

/// What it is: category and techniques.
fn techniques(alert: &Alert) -> String {
    let techniques: Vec<String> = alert
        .signature
        .attack
        .iter()
        .map(|attack| format!("{} {}", attack.technique, attack.name))
        .collect();
    let category = alert.signature.category.label();
    if techniques.is_empty() {
        format!("{category}; no ATT&CK technique by itself")
    } else {
        format!("{category}; ATT&CK {}", techniques.join("; "))
    }
}

/// Where in an incident it stands.
fn place(alert: &Alert, incident: &Incident) -> String {
    let stage = incident
        .stages
        .iter()
        .position(|stage| stage.alert == alert.id);
    let stage = stage.map_or_else(|| "a later".to_owned(), |stage| (stage + 1).to_string());
    let (id, all) = (&incident.id, count(incident.stage_count));
    format!("incident {id}: {stage} of {all} alerts")
}

/// How far to believe it.
fn trust(alert: &Alert) -> String {
    let who = match alert.actor.who.confidence {
        Confidence::Exact => "name certain",
        Confidence::Time => "name likely",
        Confidence::Ambiguous => "name unclear",
        Confidence::Node => "a node's address",
        Confidence::UnknownPrivate => "name unknown",
        Confidence::External => "outside",
    };
    let baseline = match alert.baseline.state {
        BaselineState::None => "no baseline",
        BaselineState::Learning => "baseline learning",
        BaselineState::Stable => "against baseline",
    };
    let lost = alert
        .coverage
        .lost
        .iter()
        .fold(0_u64, |sum, (_, n)| sum.saturating_add(n));
    let lost: Cow<'_, str> = match lost {
        0 => "nothing lost".into(),
        n => format!("losses: {}", count(n)).into(),
    };
    let percent = alert.confidence * 100.0;
    let places = usize::from(percent >= 99.0);
    format!("{percent:.places$} % an attack; {who}; {baseline}; {lost}")
}

/// Text in at most `most` lines; what doesn't fit ends in an ellipsis.
fn clipped(text: &str, width: usize, most: usize) -> Vec<String> {
    cut(wrap(text, width), width, most)
}

fn cut(mut lines: Vec<String>, width: usize, most: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while last.chars().count() > width.saturating_sub(2) {
                last.pop();
            }
            last.push_str(" …");
        }
    }
    lines
}

/// Lines beside a label.
fn labelled(lines: &mut Vec<String>, label: &str, texts: impl IntoIterator<Item = String>) {
    let mut label = label;
    let width = COLUMN - 2;
    for text in texts {
        lines.push(format!("  {label:<width$}{text}").trim_end().to_owned());
        label = "";
    }
}

#[cfg(test)]
mod tests;
