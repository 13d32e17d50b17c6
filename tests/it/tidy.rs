//! The repository's own rules, checked: the order of the stages, files that stay readable, complete detectors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use spanwatch::detectors::DETECTORS;
use spanwatch::event::EventKinds;
use spanwatch::signature::SignatureSet;

/// A module may use only modules of lower rank (and itself).
const RANKS: &[(u8, &[&str])] = &[
    (0, &["address", "memory", "telemetry", "time"]),
    (1, &["capture", "identity"]),
    (2, &["decode"]),
    (3, &["flow"]),
    (4, &["dissect"]),
    (5, &["event"]),
    (6, &["features"]),
    (7, &["baseline", "signature"]),
    (8, &["detectors"]),
    (9, &["alert"]),
    (10, &["pipeline", "report", "sinks"]),
    (11, &["runtime"]),
    (13, &["cli"]),
];
/// Serves every rank, in tests only.
const EXEMPT: &[&str] = &["testkit", "lib", "main"];
/// Lines of a hand-written file.
const MAX_LINES: usize = 700;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The top-level module a file of `src/` belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn a_module_uses_only_lower_ranks() {
    let ranks: BTreeMap<&str, u8> = RANKS
        .iter()
        .flat_map(|(rank, modules)| modules.iter().map(|module| (*module, *rank)))
        .collect();
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let module = module(&path);
        if EXEMPT.contains(&module.as_str()) {
            continue;
        }
        let Some(&own) = ranks.get(module.as_str()) else {
            wrong.push(format!("{}: module {module} has no rank", shown(&path)));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        // Tests may reach for whatever helps them.
        let code = text.split("#[cfg(test)]").next().unwrap();
        if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
            continue;
        }
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let Some(&rank) = ranks.get(used.as_str())
                    && used != module
                    && rank >= own
                {
                    wrong.push(format!(
                        "{}: {module} (rank {own}) uses {used} (rank {rank})",
                        shown(&path)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_and_stay_readable() {
    let mut wrong = Vec::new();
    for dir in ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"] {
        if !root().join(dir).is_dir() {
            continue;
        }
        for path in rust_files(dir) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//!") {
                wrong.push(format!("{}: does not begin with //!", shown(&path)));
            }
            if text.lines().count() > MAX_LINES {
                wrong.push(format!("{}: more than {MAX_LINES} lines", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_detector_is_a_triple() {
    let signatures = SignatureSet::builtin().unwrap();
    let mut wrong = Vec::new();
    for spec in DETECTORS {
        let id = spec.id;
        let mut needs = vec![
            format!("src/detectors/{}.rs", id.replace('-', "_")),
            format!("signatures/{id}.toml"),
        ];
        for part in ["case.toml", "attack.pcap", "benign.pcap", "expected.jsonl"] {
            needs.push(format!("captures/{id}/{part}"));
        }
        for need in needs {
            if !root().join(&need).is_file() {
                wrong.push(format!("{id} lacks {need}"));
            }
        }
        match signatures.get(id) {
            None => wrong.push(format!("{id} has no built-in signature")),
            Some(signature) => {
                if let Err(error) = (spec.build)(signature) {
                    wrong.push(format!("signatures/{id}.toml: [thresholds]: {error}"));
                }
            }
        }
    }
    assert!(
        DETECTORS.is_sorted_by_key(|spec| spec.id),
        "DETECTORS is sorted by id"
    );
    for signature in signatures.iter() {
        if !DETECTORS.iter().any(|spec| spec.id == signature.id) {
            wrong.push(format!("signature {} has no detector", signature.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever isn't in the catalogue is neither asked nor fuzzed.
/// What a detector matches but isn't shown is dead code, and makes it blind without a word.
#[test]
fn a_detector_is_shown_what_it_looks_at() {
    let kinds: &[(&str, EventKinds)] = &[
        ("EventKind::FlowOpened", EventKinds::FLOW_OPENED),
        ("EventKind::FlowOutcome", EventKinds::FLOW_OUTCOME),
        ("EventKind::Recognised", EventKinds::RECOGNISED),
        ("EventKind::Turn", EventKinds::TURN),
        ("EventKind::Exchange", EventKinds::EXCHANGE),
        ("EventKind::FlowEnded", EventKinds::FLOW_ENDED),
        ("EventKind::Resolution", EventKinds::RESOLUTION),
        ("Transaction::Dns(", EventKinds::DNS),
        ("Transaction::Tls", EventKinds::TLS),
        ("Transaction::Http", EventKinds::HTTP),
        ("Transaction::TunnelOpened", EventKinds::TUNNEL),
        ("Transaction::Carried", EventKinds::TUNNEL),
        ("Transaction::Database", EventKinds::DATABASE),
        ("Transaction::Ssh", EventKinds::SSH),
        ("Transaction::Opening", EventKinds::OPENING),
        ("Transaction::Login", EventKinds::LOGIN),
        ("Transaction::Stratum", EventKinds::STRATUM),
        ("Transaction::Ftp", EventKinds::FTP),
        ("Transaction::Command", EventKinds::COMMAND),
        ("Transaction::Echo", EventKinds::ECHO),
    ];
    let mut wrong = Vec::new();
    for spec in DETECTORS {
        let stem = format!("src/detectors/{}", spec.id.replace('-', "_"));
        let mut files = vec![root().join(format!("{stem}.rs"))];
        if root().join(&stem).is_dir() {
            files.extend(rust_files(&stem));
        }
        files.retain(|file| !file.ends_with("tests.rs"));
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("mod tests {").next().unwrap();
            for (name, kind) in kinds {
                if code.contains(name) && !spec.sees.contains(*kind) {
                    wrong.push(format!("{} isn't shown {name}", shown(&file)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dissector_is_in_the_catalogue() {
    let catalogue = ["src/dissect/mod.rs", "src/dissect/by_name.rs"]
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .concat();
    let mut seen = 0;
    for path in rust_files("src/dissect") {
        let text = fs::read_to_string(&path).unwrap();
        let specs = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub(super) const "))
            .filter_map(|line| line.split_once(": DissectorSpec ="));
        for (name, _) in specs {
            let listed = catalogue.contains(&format!("::{name},"));
            assert!(listed, "{name} of {}", shown(&path));
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn clocks_are_looked_at_only_at_the_edge() {
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let text = fs::read_to_string(&path).unwrap();
        for banned in ["Instant::now", "SystemTime::now"] {
            if text.contains(banned) && !["cli", "runtime"].contains(&module(&path).as_str()) {
                wrong.push(format!("{}: {banned}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_is_compiled() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for path in rust_files("tests/it") {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.parent() == Some(&root().join("tests/it")) && stem != "main" {
            assert!(
                main.contains(&format!("mod {stem};")),
                "tests/it/{stem}.rs is forgotten"
            );
        }
    }
}
