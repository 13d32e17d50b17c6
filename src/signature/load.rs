//! The text of a signature file to a [`Signature`], or everything that is wrong with it.
//!
//! Owns the file's form. Reads no files (`set.rs` does) and judges no threshold beyond its name and type: what a value
//! may be is its detector's to say.

use std::path::Path;

use super::error::{Problem, SignatureError};
use super::read::{Node, Reader, Scope, printable, scalar};
use super::{
    Ads, AdsSection, AttackRef, Category, PLACEHOLDERS, Requirement, Severity, Signature, Status,
};
use crate::memory::Share;

const KEYS: &[&str] = &[
    "id",
    "title",
    "category",
    "severity",
    "escalates_on",
    "status",
    "since",
    "attack",
    "related",
    "part_of",
    "departure",
    "requires",
    "alert_bits",
    "thresholds",
    "response",
    "ads",
];

/// Longer titles and steps don't fit where they are shown.
const LONGEST_TITLE: usize = 60;
const MOST_STEPS: usize = 8;

/// Reads a signature. `file` is what problems are reported under, and its stem must be the id.
///
/// With a `base` (the built-in signature of that name), whatever the text leaves out is the base's: a file of two lines
/// can change one threshold. Arrays are replaced whole, `[thresholds]` and `[ads]` key by key.
///
/// # Errors
/// Every problem of the text, with its line.
pub fn parse(
    file: &Path,
    text: &str,
    base: Option<&Signature>,
) -> Result<Signature, SignatureError> {
    let (mut reader, document) =
        Reader::open(file, text).map_err(|problems| SignatureError { problems })?;
    let top = Scope {
        table: document.get_ref(),
        start: None,
        prefix: "",
    };
    reader.refuse_unknown(top, KEYS);
    let signature = read_all(&mut reader, top, file, base);
    let problems = reader.into_problems();
    match signature {
        Some(signature) if problems.is_empty() => Ok(signature),
        _ if problems.is_empty() => Err(SignatureError {
            problems: vec![Problem::of_file(file, "not a signature")],
        }),
        _ => Err(SignatureError { problems }),
    }
}

/// Reads every key before it gives up on any.
fn read_all(
    r: &mut Reader<'_>,
    top: Scope<'_, '_>,
    file: &Path,
    base: Option<&Signature>,
) -> Option<Signature> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let id = r.field(top, "id", base.map(|b| b.id.clone()), |r, name, node| {
        id(r, name, node, stem)
    });
    let title = r.field(top, "title", base.map(|b| b.title.clone()), title);
    let category = r.field(
        top,
        "category",
        base.map(|b| b.category),
        |r, name, node| r.word(name, node, Category::ALL, Category::label),
    );
    let severity = r.field(
        top,
        "severity",
        base.map(|b| b.severity),
        |r, name, node| r.word(name, node, Severity::ALL, Severity::label),
    );
    let escalates_on = r.field(
        top,
        "escalates_on",
        Some(base.map_or_else(Vec::new, |b| b.escalates_on.clone())),
        |r, name, node| {
            r.list(name, node, |r, name, item| {
                r.line(name, item).map(str::to_owned)
            })
        },
    );
    let status = r.field(top, "status", base.map(|b| b.status), |r, name, node| {
        r.word(name, node, Status::ALL, Status::label)
    });
    let since = r.field(top, "since", base.map(|b| b.since.clone()), release);
    let attack = r.field(
        top,
        "attack",
        base.map(|b| b.attack.clone()),
        |r, name, node| r.list(name, node, |r, _, item| attack(r, item)),
    );
    let related = r.field(
        top,
        "related",
        base.map(|b| b.related.clone()),
        |r, name, node| r.list(name, node, technique),
    );
    let part_of = r.field(
        top,
        "part_of",
        Some(base.map_or_else(Vec::new, |b| b.part_of.clone())),
        |r, name, node| {
            r.list(name, node, |r, name, item| {
                r.line(name, item).map(str::to_owned)
            })
        },
    );
    let departure = r.field(
        top,
        "departure",
        Some(base.map_or(category == Some(Category::Anomaly), |b| b.departure)),
        Reader::flag,
    );
    let requires = r.field(
        top,
        "requires",
        base.map(|b| b.requires.clone()),
        |r, name, node| {
            r.list(name, node, |r, name, item| {
                r.word(name, item, Requirement::ALL, Requirement::label)
            })
        },
    );
    let alert_bits = r.field(top, "alert_bits", base.map(|b| b.alert_bits), bits);
    let response = r.field(top, "response", base.map(|b| b.response.clone()), response);
    let thresholds = r.field(
        top,
        "thresholds",
        base.map(|b| b.thresholds.clone()),
        |r, name, node| thresholds(r, name, node, base.map(|b| &b.thresholds)),
    );
    let ads = r.field(top, "ads", base.map(|b| b.ads.clone()), |r, name, node| {
        ads(r, name, node, base.map(|b| &b.ads))
    });

    let signature = Signature {
        id: id?,
        title: title?,
        category: category?,
        severity: severity?,
        escalates_on: escalates_on?,
        status: status?,
        since: since?,
        attack: attack?,
        related: related?,
        part_of: part_of?,
        departure: departure?,
        requires: requires?,
        alert_bits: alert_bits?,
        thresholds: thresholds?,
        share: Share::WHOLE,
        response: response?,
        ads: ads?,
    };
    if signature.attack.is_empty() && signature.category != Category::Anomaly {
        let at = top.table.get("attack").map(|node| node.span().start);
        r.report(at, "`attack` is empty; only an anomaly may be no technique");
    }
    Some(signature)
}

fn id(r: &mut Reader<'_>, name: &str, node: &Node<'_>, stem: Option<&str>) -> Option<String> {
    let text = r.line(name, node)?;
    if Some(text) != stem {
        let stem = stem.unwrap_or_default();
        r.report(
            Some(node.span().start),
            format!("`{name}` is \"{text}\", but the file is named \"{stem}\""),
        );
        return None;
    }
    let kebab = text.split('-').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    if !kebab {
        r.report(
            Some(node.span().start),
            format!("`{name}` must be lower-case words joined by single hyphens"),
        );
        return None;
    }
    Some(text.to_owned())
}

fn title(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<String> {
    let text = r.line(name, node)?;
    if text.chars().count() > LONGEST_TITLE {
        r.report(
            Some(node.span().start),
            format!("`{name}` is longer than {LONGEST_TITLE} characters"),
        );
        return None;
    }
    Some(text.to_owned())
}

fn release(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<String> {
    let text = r.line(name, node)?;
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 3 || !parts.iter().all(|part| digits(part, 1..=9)) {
        r.report(
            Some(node.span().start),
            format!("`{name}` must be a release such as \"0.1.0\""),
        );
        return None;
    }
    Some(text.to_owned())
}

fn attack(r: &mut Reader<'_>, node: &Node<'_>) -> Option<AttackRef> {
    let scope = r.scope("attack[]", "attack.", node)?;
    r.refuse_unknown(scope, &["tactic", "technique", "name"]);
    let tactic = r.field(scope, "tactic", None, tactic);
    let technique = r.field(scope, "technique", None, technique);
    let title = r.field(scope, "name", None, |r, name, node| {
        r.line(name, node).map(str::to_owned)
    });
    Some(AttackRef {
        tactic: tactic?,
        technique: technique?,
        name: title?,
    })
}

fn tactic(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<String> {
    let text = r.line(name, node)?;
    if !text
        .strip_prefix("TA")
        .is_some_and(|rest| digits(rest, 4..=4))
    {
        r.report(
            Some(node.span().start),
            format!("`{name}` is \"{text}\"; a tactic looks like TA0007"),
        );
        return None;
    }
    Some(text.to_owned())
}

fn technique(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<String> {
    let text = r.line(name, node)?;
    let well_formed = text.strip_prefix('T').is_some_and(|rest| {
        let (parent, sub) = rest
            .split_once('.')
            .map_or((rest, None), |(p, s)| (p, Some(s)));
        digits(parent, 4..=4) && sub.is_none_or(|sub| digits(sub, 3..=3))
    });
    if !well_formed {
        r.report(
            Some(node.span().start),
            format!("`{name}` is \"{text}\"; a technique looks like T1046 or T1071.004"),
        );
        return None;
    }
    Some(text.to_owned())
}

fn bits(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<f64> {
    let bits = r.number(name, node)?;
    if !(bits > 0.0 && bits <= 1000.0) {
        r.report(
            Some(node.span().start),
            format!("`{name}` must be above 0 and at most 1000 bits"),
        );
        return None;
    }
    Some(bits)
}

fn response(r: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<Vec<String>> {
    let steps = r.list(name, node, |r, name, item| {
        let text = r.line(name, item)?;
        for word in placeholders(text) {
            if !PLACEHOLDERS.contains(&word) {
                r.report(
                    Some(item.span().start),
                    format!(
                        "`{name}` has an unknown placeholder {{{word}}}; known are {}",
                        PLACEHOLDERS.join(", ")
                    ),
                );
            }
        }
        Some(text.to_owned())
    })?;
    if steps.is_empty() || steps.len() > MOST_STEPS {
        r.report(
            Some(node.span().start),
            format!("`{name}` must have 1 to {MOST_STEPS} steps"),
        );
        return None;
    }
    Some(steps)
}

/// The words in braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (word, _) = rest.split_once('}')?;
        Some(word)
    })
}

fn thresholds(
    r: &mut Reader<'_>,
    name: &str,
    node: &Node<'_>,
    base: Option<&toml::Table>,
) -> Option<toml::Table> {
    let scope = r.scope(name, "thresholds.", node)?;
    if let Some(base) = base {
        let known: Vec<&str> = base.keys().map(String::as_str).collect();
        r.refuse_unknown(scope, &known);
    }
    let mut values = base.cloned().unwrap_or_default();
    for (key, node) in scope.table {
        let name = format!("{name}.{}", printable(key.get_ref()));
        let Some(value) = scalar(node.get_ref()) else {
            r.wrong_type(
                &name,
                "a finite number, a string, a boolean or a list of strings",
                node,
            );
            continue;
        };
        let key = key.get_ref().as_ref();
        let value = match (base.and_then(|base| base.get(key)), value) {
            // A limit of "6" is as good as "6.0".
            (Some(toml::Value::Float(_)), toml::Value::Integer(number)) => {
                toml::Value::Float(number as f64)
            }
            (Some(known), value) if !known.same_type(&value) => {
                let expected = match known {
                    toml::Value::Integer(_) => "an integer",
                    toml::Value::Float(_) => "a number",
                    toml::Value::Boolean(_) => "true or false",
                    toml::Value::Array(_) => "a list of strings",
                    _ => "a string",
                };
                r.wrong_type(&name, expected, node);
                continue;
            }
            (_, value) => value,
        };
        values.insert(key.to_owned(), value);
    }
    Some(values)
}

fn ads(r: &mut Reader<'_>, name: &str, node: &Node<'_>, base: Option<&Ads>) -> Option<Ads> {
    let scope = r.scope(name, "ads.", node)?;
    let keys = AdsSection::ALL.map(AdsSection::key);
    r.refuse_unknown(scope, &keys);
    let mut ads = Ads::default();
    let mut complete = true;
    for &section in AdsSection::ALL {
        let inherited = base.map(|base| base.get(section));
        let text = r.field(scope, section.key(), inherited, |r, name, node| {
            prose(r, name, node)
        });
        complete &= text.is_some();
        ads.set(section, text.unwrap_or_default());
    }
    complete.then_some(ads)
}

/// Text of several lines that may be shown on a terminal as it is.
fn prose<'d>(r: &mut Reader<'_>, name: &str, node: &'d Node<'_>) -> Option<&'d str> {
    let text = r.text(name, node)?;
    if text.chars().any(|c| c.is_control() && c != '\n') {
        r.report(
            Some(node.span().start),
            format!("`{name}` has control characters (tabs count) in it"),
        );
        return None;
    }
    Some(text)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}
