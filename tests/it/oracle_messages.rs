//! DNS, TLS and HTTP as tshark reads them: the same names and types, server names and JA4, methods, hosts and statuses, in the
//! same conversations, as many times.
//!
//! `tests/oracle-messages/*.tsv` were made by `scripts/oracle-messages`, which says what is left out and why, and, called
//! with `--compare CAPTURE`, shows every difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::{repository, spanwatch};

/// Both ends in order and the fact; how often.
type Facts = BTreeMap<String, u64>;

/// What was said in a capture, by protocol.
fn ours(capture: &Path) -> BTreeMap<&'static str, Facts> {
    let capture = capture.to_str().unwrap();
    let run = spanwatch(&["flows", "--quiet", "--messages", capture]);
    let mut found: BTreeMap<&'static str, Facts> = BTreeMap::new();
    for message in run.json() {
        let Some((kind, facts)) = facts(&message) else {
            continue;
        };
        let end = |name: &str| {
            let port = message[name]["port"].to_string();
            (message[name]["ip"].as_str().unwrap().to_owned(), port)
        };
        let mut ends = [end("src"), end("dst")];
        ends.sort();
        let [(low, low_port), (high, high_port)] = ends;
        for fact in facts {
            let line = format!("{low} {low_port} {high} {high_port} {fact}");
            *found.entry(kind).or_default().entry(line).or_default() += 1;
        }
    }
    found
}

fn facts(message: &Value) -> Option<(&'static str, Vec<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(dns) = message.get("dns") {
        let asked = format!("{} {}", dns["name"].as_str()?, dns["type"]);
        let fact = if dns["response"].as_bool()? {
            format!("response {asked} rcode {}", dns["rcode"])
        } else {
            format!("query {asked}")
        };
        return Some(("dns", vec![fact]));
    }
    if let Some(hello) = message.get("tls_client") {
        let sni = text(&hello["sni"]).map(|sni| format!("sni {sni}"));
        let ja4 = text(&hello["ja4"]).map(|ja4| format!("ja4 {ja4}"));
        return Some(("tls", sni.into_iter().chain(ja4).collect()));
    }
    if let Some(request) = message.get("http_request") {
        let method = text(&request["method"]).map(|method| format!("method {method}"));
        let host = text(&request["host"]).map(|host| format!("host {host}"));
        return Some(("http", method.into_iter().chain(host).collect()));
    }
    let response = message.get("http_response")?;
    Some(("http", vec![format!("status {}", response["status"])]))
}

fn digest(facts: &Facts) -> (u64, String) {
    let mut lines: Vec<String> = facts
        .iter()
        .map(|(line, count)| format!("{line} {count}\n"))
        .collect();
    lines.sort();
    let mut text = String::new();
    for byte in &Sha256::digest(lines.concat())[..16] {
        write!(text, "{byte:02x}").unwrap();
    }
    (facts.len() as u64, text)
}

/// Compares what is stored with what we read, of captures that are where `find` says; how many those are.
fn compare(stored: &str, find: impl Fn(&str) -> Option<PathBuf>) -> usize {
    let text = fs::read_to_string(repository("tests/oracle-messages").join(stored)).unwrap();
    let mut expected: BTreeMap<&str, BTreeMap<&str, (u64, String)>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [capture, kind, count, digest] = fields[..] else {
            panic!("{line}");
        };
        let known = (count.parse().unwrap(), digest.to_owned());
        expected.entry(capture).or_default().insert(kind, known);
    }
    let mut differing = Vec::new();
    let mut seen = 0;
    for (capture, kinds) in expected {
        let Some(path) = find(capture) else {
            continue;
        };
        seen += 1;
        let mine = ours(&path);
        for (kind, known) in kinds {
            if mine.get(kind).map(digest) != Some(known) {
                differing.push(format!("{capture}: {kind}"));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "scripts/oracle-messages --compare shows what differs in {differing:#?}"
    );
    seen
}

#[test]
fn dns_tls_and_http_are_read_as_tshark_reads_them() {
    let seen = compare("bundled.tsv", |capture| Some(repository(capture)));
    assert!(seen >= 80, "{seen} captures");
}

/// Captures made by others, where there are any: `SPANWATCH_CAPTURES`, or a folder beside the repository.
#[test]
fn others_captures_are_read_as_tshark_reads_them() {
    let folder = std::env::var_os("SPANWATCH_CAPTURES").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| repository("../shared/captures"));
    let mut paths = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                paths.insert(name.to_owned(), path);
            }
        }
    }
    let seen = compare("others.tsv", |capture| paths.get(capture).cloned());
    if seen == 0 {
        eprintln!("skipped: no captures under {}", folder.display());
    }
}
