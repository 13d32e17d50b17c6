//! All signatures of a run: the built-in ones, and a directory's over them.
//!
//! Owns which files there are. What is in one is `load.rs`'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Problem, SignatureError};
use super::load::parse;
use super::{Requirement, Signature};

macro_rules! builtin {
    ($($id:literal,)*) => {
        &[$(($id, include_str!(concat!("../../signatures/", $id, ".toml"))),)*]
    };
}

/// The signatures that are compiled in: one line per detector, sorted.
#[rustfmt::skip]
const BUILTIN: &[(&str, &str)] = builtin![
    "arp-spoof",
    "beacon",
    "control-plane-probe",
    "cracking-rig",
    "credential-dump",
    "darknet",
    "db-abuse",
    "db-bruteforce",
    "db-bulk-read",
    "db-enumeration",
    "db-injection",
    "db-novel-client",
    "db-sweep",
    "dns-beacon",
    "dns-tunnel",
    "exfiltration",
    "host-sweep",
    "http-bruteforce",
    "http-tunnel",
    "icmp-tunnel",
    "lateral-login",
    "long-connection",
    "miner",
    "novel-peer",
    "policy-gap",
    "port-forward",
    "port-scan",
    "post-deployment",
    "rate-shift",
    "registry-pull",
    "registry-push",
    "relay-pivot",
    "resource-spike",
    "reverse-shell",
    "service-enumeration",
    "ssh-bruteforce",
    "ssh-tunnel",
    "tls-c2",
    "undeclared-port",
    "unknown-container",
    "vpn-tunnel",
    "web-shell",
    "websocket-tunnel",
];

/// A signature is prose and a few numbers; anything larger is some other file.
const LARGEST_FILE: u64 = 256 * 1024;

/// Signatures by id.
#[derive(Clone, PartialEq, Debug)]
pub struct SignatureSet {
    by_id: BTreeMap<String, Arc<Signature>>,
}

impl SignatureSet {
    /// The signatures that come with the program.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn builtin() -> Result<Self, SignatureError> {
        let mut by_id = BTreeMap::new();
        let mut problems = Vec::new();
        for (id, text) in BUILTIN {
            let file = PathBuf::from(format!("signatures/{id}.toml"));
            match parse(&file, text, None) {
                Ok(signature) => {
                    by_id.insert(signature.id.clone(), Arc::new(signature));
                }
                Err(error) => problems.extend(error.problems),
            }
        }
        finish(by_id, problems)
    }

    /// The same signatures, each raising an alert from any evidence at all: by them a detector tells what it weighed.
    #[must_use]
    pub fn without_bars(&self) -> Self {
        let lift = |(id, signature): (&String, &Arc<Signature>)| {
            let mut lifted = Signature::clone(signature);
            lifted.alert_bits = f64::MIN;
            (id.clone(), Arc::new(lifted))
        };
        Self {
            by_id: self.by_id.iter().map(lift).collect(),
        }
    }

    /// The built-in signatures, overridden by each `<id>.toml` of `dir`. What such a file leaves out stays as built in.
    ///
    /// # Errors
    /// All problems of all files; a directory that can't be read or has no such file; a file named like no signature.
    pub fn load(dir: Option<&Path>) -> Result<Self, SignatureError> {
        let Self { mut by_id } = Self::builtin()?;
        let Some(dir) = dir else {
            return Ok(Self { by_id });
        };
        let mut problems = Vec::new();
        for file in toml_files(dir)? {
            match read(&file, &by_id) {
                Ok(signature) => {
                    by_id.insert(signature.id.clone(), Arc::new(signature));
                }
                Err(error) => problems.extend(error.problems),
            }
        }
        finish(by_id, problems)
    }

    /// The signature with that id.
    pub fn get(&self, id: &str) -> Option<&Arc<Signature>> {
        self.by_id.get(id)
    }

    /// All of them, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Signature>> {
        self.by_id.values()
    }

    /// What a tap that shows only `shown` can't detect, for the start of a run and the summary: a line per thing that is
    /// missing, with the signatures that need it.
    pub fn blind(&self, shown: &[Requirement]) -> Vec<String> {
        Requirement::ALL
            .iter()
            .filter_map(|requirement| {
                let ids: Vec<&str> = self
                    .iter()
                    .filter(|signature| signature.lacks(shown).contains(requirement))
                    .map(|signature| signature.id.as_str())
                    .collect();
                let verb = if ids.len() == 1 { "needs" } else { "need" };
                (!ids.is_empty())
                    .then(|| format!("{} {verb} {}", ids.join(", "), requirement.text()))
            })
            .collect()
    }
}

fn finish(
    by_id: BTreeMap<String, Arc<Signature>>,
    mut problems: Vec<Problem>,
) -> Result<SignatureSet, SignatureError> {
    for signature in by_id.values() {
        let unknown = |id: &&String| !by_id.contains_key(*id);
        for id in signature.part_of.iter().filter(unknown) {
            let file = PathBuf::from(format!("{}.toml", signature.id));
            let message = format!("`part_of[]` is \"{id}\", which is no signature");
            problems.push(Problem::of_file(&file, message));
        }
    }
    if problems.is_empty() {
        Ok(SignatureSet { by_id })
    } else {
        Err(SignatureError { problems })
    }
}

/// The `*.toml` files of a directory, sorted.
fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, SignatureError> {
    let fail = |message: String| SignatureError {
        problems: vec![Problem::of_file(dir, message)],
    };
    let entries =
        std::fs::read_dir(dir).map_err(|error| fail(format!("reading the directory: {error}")))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fail(format!("reading the directory: {error}")))?;
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(fail("holds no signature (no file named *.toml)".to_owned()));
    }
    files.sort();
    Ok(files)
}

fn read(
    file: &Path,
    known: &BTreeMap<String, Arc<Signature>>,
) -> Result<Signature, SignatureError> {
    let fail = |message: String| SignatureError {
        problems: vec![Problem::of_file(file, message)],
    };
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let Some(base) = stem.and_then(|stem| known.get(stem)) else {
        let ids: Vec<&str> = known.keys().map(String::as_str).collect();
        return Err(fail(format!(
            "overrides no signature; there are {}",
            ids.join(", ")
        )));
    };
    let size = std::fs::metadata(file)
        .map_err(|error| fail(format!("reading it: {error}")))?
        .len();
    if size > LARGEST_FILE {
        return Err(fail(format!(
            "is {size} bytes long; a signature has at most {LARGEST_FILE}"
        )));
    }
    let text =
        std::fs::read_to_string(file).map_err(|error| fail(format!("reading it: {error}")))?;
    parse(file, &text, Some(base))
}
