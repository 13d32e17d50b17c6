//! No secret leaves: passwords, tokens, literals, keys and rows, planted in captures wherever protocols carry them in
//! clear, are in no output of any command, in no form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::command::{Folder, spanwatch};

/// Conversations with databases.
mod databases;
/// What the captures hold.
mod planted;

/// So many letters of a secret in a row are not there by chance; of its digests, so many hexadecimal digits.
const LETTERS: usize = 8;
const DIGITS: usize = 16;

/// What to look for: pieces of every secret in every form, with what they are pieces of.
struct Needles {
    letters: BTreeMap<Vec<u8>, String>,
    digits: BTreeMap<Vec<u8>, String>,
}

impl Needles {
    fn of(secrets: &[(String, String)]) -> Self {
        let (mut letters, mut digits) = (BTreeMap::new(), BTreeMap::new());
        for (what, secret) in secrets {
            let reversed: String = secret.chars().rev().collect();
            let wide: Vec<u8> = secret.bytes().flat_map(|byte| [byte, 0]).collect();
            let mut forms = vec![
                ("as it is", secret.clone().into_bytes()),
                ("reversed", reversed.into_bytes()),
                ("in UTF-16", wide),
            ];
            for ahead in 0..3 {
                // What surrounds it decides about the first and the last letters, which are left out.
                let text = STANDARD.encode([&vec![b'x'; ahead], secret.as_bytes()].concat());
                let inner = text.trim_end_matches('=').as_bytes();
                forms.push(("in base64", inner[4..inner.len() - 4].to_vec()));
            }
            put(&mut letters, what, &forms, LETTERS);
            let forms = vec![
                ("in hexadecimal", hex(secret.as_bytes())),
                ("as SHA-1", hex(&Sha1::digest(secret))),
                ("as SHA-256", hex(&Sha256::digest(secret))),
            ];
            put(&mut digits, what, &forms, DIGITS);
        }
        Self { letters, digits }
    }

    /// What of it is in an output.
    fn found(&self, output: &[u8]) -> BTreeSet<&str> {
        let output = output.to_ascii_lowercase();
        let mut found = BTreeSet::new();
        for (needles, length) in [(&self.letters, LETTERS), (&self.digits, DIGITS)] {
            let pieces = output.windows(length);
            found.extend(pieces.filter_map(|piece| needles.get(piece).map(String::as_str)));
        }
        found
    }
}

fn put(
    needles: &mut BTreeMap<Vec<u8>, String>,
    what: &str,
    forms: &[(&str, Vec<u8>)],
    length: usize,
) {
    for (form, bytes) in forms {
        for piece in bytes.to_ascii_lowercase().windows(length) {
            needles.insert(piece.to_vec(), format!("{what}, {form}"));
        }
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text.into_bytes()
}

/// Every form in which alerts can be written, as the command names them.
fn formats() -> Vec<String> {
    let run = spanwatch(&["analyze", "-", "--format", "none"]);
    let (_, rest) = run.err.split_once("possible values: ").unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split(", ").map(str::to_owned).collect()
}

/// Runs everything on both captures; what it says and writes, by name.
fn outputs(folder: &Folder, ordinary: &str, attacks: &str) -> BTreeMap<String, Vec<u8>> {
    let mut outputs = BTreeMap::new();
    let inventory = ["--inventory", "captures/cluster.json"];
    for (name, capture) in [("ordinary", ordinary), ("attacks", attacks)] {
        let baseline = folder.path(&format!("{name}.baseline"));
        let learn = ["learn", capture, "-vv", "--baseline", &baseline];
        let run = spanwatch(&[&learn[..], &inventory].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        outputs.insert(
            format!("learn {name}"),
            [run.out.as_bytes(), run.err.as_bytes()].concat(),
        );
        outputs.insert(format!("{name}.baseline"), fs::read(&baseline).unwrap());
        for shown in ["show", "export"] {
            let run = spanwatch(&["baseline", shown, "--baseline", &baseline]);
            assert_eq!(run.code, Some(0), "{}", run.err);
            outputs.insert(format!("baseline {shown} {name}"), run.out.into_bytes());
        }
        for more in [&[][..], &["--messages"]] {
            let run = spanwatch(&[&["flows", capture][..], more, &inventory].concat());
            assert_eq!(run.code, Some(0), "{}", run.err);
            outputs.insert(format!("flows {name} {more:?}"), run.out.into_bytes());
        }
    }
    for (name, capture) in [("ordinary", ordinary), ("attacks", attacks)] {
        for format in formats() {
            for known in [None, Some("ordinary.baseline")] {
                let flows = folder.path("flows.jsonl");
                let evidence = folder.path("evidence");
                let baseline = known.map(|file| folder.path(file));
                let mut args = vec!["analyze", capture, "-vv", "--format", &format];
                args.extend(["--flows", &flows, "--evidence", &evidence]);
                args.extend(inventory);
                args.extend(baseline.iter().flat_map(|path| ["--baseline", path]));
                let run = spanwatch(&args);
                assert_eq!(run.code, Some(0), "{}", run.err);
                let of = format!("analyze {name} as {format}, {known:?}");
                outputs.insert(format!("{of}: alerts"), run.out.into_bytes());
                outputs.insert(format!("{of}: log"), run.err.into_bytes());
                outputs.insert(format!("{of}: flows"), fs::read(&flows).unwrap());
                outputs.insert(format!("{of}: evidence"), beside_packets(&evidence));
            }
        }
        for who in ["shop/web", "shop/api"] {
            let explain = ["analyze", capture, "-vv", "--explain", who];
            let run = spanwatch(&[&explain[..], &inventory].concat());
            assert_eq!(run.code, Some(0), "{}", run.err);
            let said = [run.out.as_bytes(), run.err.as_bytes()].concat();
            outputs.insert(format!("explain {name} {who}"), said);
        }
    }
    outputs
}

/// What the files of alerts' packets hold beside the packets themselves: those are what was said, which is why nobody but
/// their owner may read them. Then the files are gone.
fn beside_packets(directory: &str) -> Vec<u8> {
    const PACKET: u32 = 6;
    let mut beside = Vec::new();
    let Ok(files) = fs::read_dir(directory) else {
        return beside;
    };
    for file in files {
        let path = file.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read {}", path.display());
        beside.extend(path.to_str().unwrap().as_bytes());
        let bytes = fs::read(&path).unwrap();
        let mut rest = &bytes[..];
        let number = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
        };
        while !rest.is_empty() {
            let (block, after) = rest.split_at(number(rest, 4));
            let packet = number(block, 0) == PACKET as usize;
            let options = if packet {
                28 + number(block, 20).next_multiple_of(4)
            } else {
                0
            };
            beside.extend(&block[options..]);
            rest = after;
        }
    }
    fs::remove_dir_all(directory).unwrap();
    beside
}

#[test]
fn planted_secrets_are_in_no_output() {
    let folder = Folder::new();
    let (ordinary, attacks, secrets) = planted::captures();
    let ordinary = folder.file("ordinary.pcap", &ordinary);
    let attacks = folder.file("attacks.pcap", &attacks);
    let outputs = outputs(&folder, &ordinary, &attacks);

    // There was something to give away: the protocols were understood, and the attacks told.
    let text = |name: &str| String::from_utf8_lossy(&outputs[name]);
    let flows = text("analyze ordinary as json, None: flows");
    for app in planted::PROTOCOLS {
        let app = format!("\"app\":\"{app}\"");
        assert!(flows.contains(&app), "no {app} in\n{flows}");
    }
    let alerts = text("analyze attacks as json, None: alerts");
    for signature in planted::SIGNATURES {
        let signature = format!("\"signature\":\"{signature}\"");
        assert!(alerts.contains(&signature), "no {signature} in\n{alerts}");
    }
    let beside = text("analyze attacks as json, None: evidence");
    assert!(beside.contains(" → "), "no packets of alerts: {beside}");
    let explained = text("explain attacks shop/web");
    assert!(explained.contains("db-bruteforce"), "{explained}");
    let learned = text("baseline export ordinary");
    for word in ["postgresql", planted::USER] {
        assert!(learned.contains(word), "no {word} in\n{learned}");
    }

    let needles = Needles::of(&secrets);
    let mut leaks = String::new();
    for (name, bytes) in &outputs {
        for what in needles.found(bytes) {
            writeln!(leaks, "{name}: {what}").unwrap();
        }
    }
    assert!(leaks.is_empty(), "secrets came out:\n{leaks}");
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = ("a password".to_owned(), "Kv7rTq2wXz9mPb4d".to_owned());
    let needles = Needles::of(std::slice::from_ref(&secret));
    let digest = String::from_utf8(hex(&Sha256::digest(&secret.1))).unwrap();
    for output in [
        "user=a password=kv7rtq2wxz9mpb4d".to_owned(),
        "…q2wXz9mP…".to_owned(),
        STANDARD.encode(format!("admin:{}", secret.1)),
        format!("mark {digest}"),
    ] {
        assert_eq!(needles.found(output.as_bytes()).len(), 1, "{output}");
    }
    assert!(needles.found(b"user=a password=***").is_empty());
}
