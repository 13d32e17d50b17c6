//! A signature's page, for the terminal and as Markdown, and the catalogue of all.

use std::fmt::Write;

use super::wrap::wrap;
use super::{AdsSection, Signature, SignatureSet};

const WIDTH: usize = 80;
const INDENT: &str = "  ";

/// The page for a terminal of 80 columns, without colour.
pub fn page(signature: &Signature) -> String {
    let mut out = format!("{}: {}\n\n", signature.id, signature.title);
    for (name, value) in facts(signature) {
        let mut label = name;
        for line in wrap(&value, WIDTH - 14) {
            put(&mut out, format_args!("{INDENT}{label:<12}{line}\n"));
            label = "";
        }
    }
    for &section in AdsSection::ALL {
        put(
            &mut out,
            format_args!("\n{}\n", section.title().to_uppercase()),
        );
        blocks(&mut out, signature.ads.get(section));
    }
    out.push_str("\nFIRST STEPS\n");
    blocks(&mut out, &numbered_steps(signature));
    out.push_str("\nTHRESHOLDS\n");
    for (key, value) in &signature.thresholds {
        put(
            &mut out,
            format_args!("{INDENT}{key} = {}\n", setting(value, INDENT)),
        );
    }
    out
}

/// The page as Markdown, under a second-level heading.
pub fn markdown(signature: &Signature) -> String {
    let mut out = format!(
        "## {}: {}\n\n| | |\n|---|---|\n",
        signature.id, signature.title
    );
    for (name, value) in facts(signature) {
        put(&mut out, format_args!("| {name} | {value} |\n"));
    }
    for &section in AdsSection::ALL {
        let text = signature.ads.get(section);
        put(
            &mut out,
            format_args!("\n### {}\n\n{text}\n", section.title()),
        );
    }
    put(
        &mut out,
        format_args!("\n### First steps\n\n{}\n", numbered_steps(signature)),
    );
    out.push_str("\n### Thresholds\n\n```toml\n");
    for (key, value) in &signature.thresholds {
        put(&mut out, format_args!("{key} = {}\n", setting(value, "")));
    }
    out.push_str("```\n");
    out
}

/// A threshold as TOML; a long list goes over several lines.
fn setting(value: &toml::Value, indent: &str) -> String {
    let toml::Value::Array(words) = value else {
        return value.to_string();
    };
    let mut lines = String::from("[");
    let mut width = WIDTH;
    for word in words {
        let word = word.to_string();
        if width + word.len() + 2 > WIDTH {
            put(&mut lines, format_args!("\n{indent} "));
            width = indent.len() + 1;
        }
        put(&mut lines, format_args!(" {word},"));
        width += word.len() + 2;
    }
    put(&mut lines, format_args!("\n{indent}]"));
    lines
}

/// The whole of `docs/detectors.md`.
pub fn catalogue(set: &SignatureSet) -> String {
    let mut out = String::from(
        "# Detectors\n\n\
         This page is made from the files in `signatures/`; edit those. `spanwatch signatures show ID` prints the same page.\n\n\
         | signature | detects | category | severity, at most | ATT&CK |\n|---|---|---|---|---|\n",
    );
    for signature in set.iter() {
        let attack: Vec<&str> = signature
            .attack
            .iter()
            .map(|attack| attack.technique.as_str())
            .collect();
        put(
            &mut out,
            format_args!(
                "| [{id}](#{anchor}) | {} | {} | {} | {} |\n",
                signature.title,
                signature.category.label(),
                signature.severity.label(),
                attack.join(", "),
                id = signature.id,
                anchor = anchor(signature),
            ),
        );
    }
    for signature in set.iter() {
        out.push('\n');
        out.push_str(&markdown(signature));
    }
    out
}

/// What stands at the head of a page, as name and value.
fn facts(signature: &Signature) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("category", signature.category.label().to_owned()),
        ("severity", severity(signature)),
        (
            "status",
            format!("{}, since {}", signature.status.label(), signature.since),
        ),
        (
            "raised at",
            format!("{} bits of evidence", signature.alert_bits),
        ),
    ];
    for attack in &signature.attack {
        facts.push((
            "ATT&CK",
            format!("{} {} {}", attack.tactic, attack.technique, attack.name),
        ));
    }
    if !signature.part_of.is_empty() {
        facts.push(("part of", signature.part_of.join(", ")));
    }
    if !signature.related.is_empty() {
        facts.push(("see also", signature.related.join(", ")));
    }
    let requires: Vec<&str> = signature.requires.iter().map(|need| need.text()).collect();
    if !requires.is_empty() {
        facts.push(("tap shows", requires.join("; ")));
    }
    facts
}

fn severity(signature: &Signature) -> String {
    let severity = signature.severity;
    let mut text = format!("{} at most", severity.label());
    if !signature.escalates_on.is_empty() {
        let features = signature.escalates_on.join(", ");
        put(
            &mut text,
            format_args!("; {} with {features}", severity.graver().label()),
        );
    }
    text
}

/// What an alert tells a responder to do, as a Markdown list.
fn numbered_steps(signature: &Signature) -> String {
    let steps = signature.response.iter().enumerate();
    let steps: Vec<String> = steps
        .map(|(index, step)| format!("{}. {step}", index + 1))
        .collect();
    steps.join("\n")
}

/// The anchor that Markdown readers give to a signature's heading.
fn anchor(signature: &Signature) -> String {
    format!("{}: {}", signature.id, signature.title)
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// Sets Markdown for the terminal: paragraphs and list items wrapped, indented code as it is.
fn blocks(out: &mut String, text: &str) {
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        let item = line
            .strip_prefix("- ")
            .map(|rest| ("- ", rest))
            .or_else(|| numbered(line));
        if line.trim().is_empty() {
            close(out, open.take());
            out.push('\n');
        } else if line.starts_with("    ") {
            close(out, open.take());
            put(out, format_args!("{INDENT}{line}\n"));
        } else if let Some((marker, rest)) = item {
            close(out, open.take());
            open = Some((marker, rest.to_owned()));
        } else if let Some((_, words)) = &mut open {
            words.push(' ');
            words.push_str(line);
        } else {
            open = Some(("", line.to_owned()));
        }
    }
    close(out, open);
}

/// The marker and the rest of an item such as `2. Ask`.
fn numbered(line: &str) -> Option<(&str, &str)> {
    let dot = line.find(". ")?;
    let (marker, rest) = line.split_at(dot + 2);
    let number = marker.trim_end_matches(". ");
    ((1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some((marker, rest))
}

fn close(out: &mut String, block: Option<(&str, String)>) {
    let Some((marker, words)) = block else {
        return;
    };
    let hang = " ".repeat(marker.len());
    let mut lead = marker;
    for line in wrap(&words, WIDTH - INDENT.len() - marker.len()) {
        put(out, format_args!("{INDENT}{lead}{line}\n"));
        lead = &hang;
    }
}

/// Appends formatted text. A `String` takes any amount, so the result says nothing.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}
