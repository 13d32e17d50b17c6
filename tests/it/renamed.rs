//! What a network's owner chose, and what chance did, must not matter: the bundled cases with other addresses, domains,
//! days and ports, and with what happened at the same time in another order, are judged as they were. Nor must it matter when
//! the capture began: what was there before makes nobody suspicious.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use spanwatch::testkit::pcap::{Recording, records};
use spanwatch::testkit::rng::Rng;
use spanwatch::time::Timestamp;

use crate::cases::{Case, Part, case, cases};
use crate::command::{Folder, repository, spanwatch};

type Frames = Vec<(Timestamp, Vec<u8>)>;

const IPV4: [u8; 2] = [8, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes that stand for something, and others of the same length that stand for something else.
type Renaming = (&'static [u8], &'static [u8]);

/// The pods' network and the places outside, as bytes, in text, and the wrong way round in names; the domain of everybody
/// outside.
const NAMES: &[Renaming] = &[
    (&[10, 244, 1], &[10, 244, 7]),
    (b"10.244.1.", b"10.244.7."),
    (b"\x011\x03244\x0210", b"\x017\x03244\x0210"),
    (&[192, 0, 2], &[193, 7, 6]),
    (b"192.0.2.", b"193.7.6."),
    (&[198, 51, 100], &[185, 61, 140]),
    (b"198.51.100.", b"185.61.140."),
    (&[203, 0, 113], &[201, 9, 173]),
    (b"203.0.113.", b"201.9.173."),
    (b"example", b"systems"),
];

/// Days in inventories, the latest first, three days later.
const DAYS: &[Renaming] = &[
    (b"2026-03-02T", b"2026-03-05T"),
    (b"2026-03-01T", b"2026-03-04T"),
    (b"2026-02-26T", b"2026-03-01T"),
];
const LATER: Duration = Duration::from_hours(72);

/// Cases whose protocols are known by what is said, with other ports for them.
const PORTS: &[(&str, &[(u16, u16)])] = &[
    ("beacon", &[(8443, 9443), (8080, 8188)]),
    ("credential-dump", &[(5432, 15_432)]),
    ("db-abuse", &[(5432, 15_432), (6379, 16_379)]),
    ("db-bruteforce", &[(5432, 15_432), (3306, 13_306)]),
    ("db-bulk-read", &[(5432, 15_432)]),
    ("db-injection", &[(5432, 15_432), (3306, 13_306)]),
    ("http-bruteforce", &[(8080, 8188)]),
    ("http-tunnel", &[(8080, 8188), (3128, 3228)]),
    ("miner", &[(3333, 14_444)]),
    ("registry-push", &[(5000, 5050)]),
    ("reverse-shell", &[(4444, 5577), (31_337, 17_331)]),
    ("ssh-bruteforce", &[(22, 2022)]),
    ("web-shell", &[(8080, 8188)]),
    ("websocket-tunnel", &[(8080, 8188), (80, 8081)]),
];

fn renamed(bytes: &[u8], names: &[Renaming]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (from, to) in names {
        assert_eq!(from.len(), to.len());
        let mut at = 0;
        while at + from.len() <= out.len() {
            if out[at..].starts_with(from) {
                out[at..at + to.len()].copy_from_slice(to);
                at += from.len();
            } else {
                at += 1;
            }
        }
    }
    out
}

/// A frame's addresses.
fn hosts(frame: &[u8]) -> Option<[&[u8]; 2]> {
    (frame[12..14] == IPV4).then(|| [&frame[26..30], &frame[30..34]])
}

/// How many ports were replaced.
fn with_ports(frame: &mut [u8], ports: &[(u16, u16)]) -> usize {
    let mut replaced = 0;
    if frame[12..14] != IPV4 || !matches!(frame[23], TCP | UDP) {
        return replaced;
    }
    let transport = 14 + usize::from(frame[14] & 15) * 4;
    for at in [transport, transport + 2] {
        let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
        // Both ways, lest two become one.
        let other = ports.iter().find_map(|&(one, other)| match port {
            _ if port == one => Some(other),
            _ if port == other => Some(one),
            _ => None,
        });
        if let Some(other) = other {
            frame[at..at + 2].copy_from_slice(&other.to_be_bytes());
            replaced += 1;
        }
    }
    replaced
}

/// What happens within this may as well have happened the other way round, between hosts that have nothing to do with one
/// another.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Lets neighbouring frames change places.
fn interleaved(frames: &mut Frames, rng: &mut Rng) {
    for _ in 0..8 {
        for at in 1..frames.len() {
            let (before, after) = frames.split_at_mut(at);
            let ((one_at, one), (next_at, next)) = (&mut before[at - 1], &mut after[0]);
            let apart = match (hosts(one), hosts(next)) {
                (Some(ours), Some(theirs)) => ours.iter().all(|host| !theirs.contains(host)),
                _ => false,
            };
            if apart && next_at.since(*one_at) < AT_ONCE && rng.chance(50) {
                std::mem::swap(one, next);
            }
        }
    }
}

/// How a case is changed.
struct Change<'a> {
    frames: &'a dyn Fn(&mut Frames),
    inventory: &'a [Renaming],
}

/// A case, changed, in a folder of its own.
struct Changed<'a> {
    id: &'a str,
    folder: Folder,
    change: &'a Change<'a>,
}

impl Changed<'_> {
    fn capture(&self, part: &Part) -> String {
        let path = repository(&format!("captures/{}/{}", self.id, part.capture));
        let file = fs::read(path).unwrap();
        let mut frames: Frames = records(&file)
            .map(|(time, frame)| (time, frame.to_vec()))
            .collect();
        (self.change.frames)(&mut frames);
        let mut recording = Recording::default();
        for (time, frame) in frames {
            recording.push(time, frame);
        }
        self.folder.file(&part.capture, &recording.finish())
    }

    fn run(
        &self,
        command: &str,
        part: &Part,
        baseline: Option<&str>,
    ) -> BTreeSet<(String, String)> {
        let capture = self.capture(part);
        let mut args = vec![command.to_owned(), capture];
        for inventory in &part.inventory {
            let path = repository(&format!("captures/{}/{inventory}", self.id));
            let list = renamed(&fs::read(path).unwrap(), self.change.inventory);
            let name = inventory.rsplit('/').next().unwrap();
            args.extend(["--inventory".to_owned(), self.folder.file(name, &list)]);
        }
        if let Some(baseline) = baseline {
            args.extend(["--baseline".to_owned(), baseline.to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = spanwatch(&args);
        assert_eq!(run.code, Some(0), "{}: {}", self.id, run.err);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        run.json()
            .iter()
            .map(|alert| (text(&alert["signature"]), text(&alert["actor"]["pod"])))
            .collect()
    }
}

/// What is judged otherwise than before.
fn differences(id: &str, case: &Case, change: &Change<'_>) -> Option<String> {
    let changed = Changed {
        id,
        folder: Folder::new(),
        change,
    };
    let baseline = case.learn.as_ref().map(|part| {
        let path = changed.folder.path("learned.baseline");
        changed.run("learn", part, Some(&path));
        path
    });
    let baseline = baseline.as_deref();
    let expected: BTreeSet<(String, String)> = case
        .expect
        .iter()
        .map(|expect| (expect.signature.clone(), expect.actor_pod.clone()))
        .collect();
    let found = changed.run("analyze", &case.attack, baseline);
    let false_ones = case
        .benign
        .as_ref()
        .map(|part| changed.run("analyze", part, baseline))
        .unwrap_or_default();
    (found != expected || !false_ones.is_empty())
        .then(|| format!("{id}: {expected:?}, now {found:?}, and of the twin {false_ones:?}"))
}

#[test]
fn other_addresses_domains_and_days_change_nothing() {
    let mut different = Vec::new();
    for id in cases() {
        let case = case(&id);
        let parts = [
            Some(&case.attack),
            case.benign.as_ref(),
            case.learn.as_ref(),
        ];
        // Watch events tell times in other ways, too.
        let lists = parts.iter().flatten().all(|part| {
            let mut inventories = part.inventory.iter();
            inventories.all(|path| !path.ends_with("inventory.jsonl"))
        });
        let later = if lists { LATER } else { Duration::ZERO };
        let days = if lists { DAYS } else { &[] };
        let names: Vec<Renaming> = NAMES.iter().chain(days).copied().collect();
        let change = Change {
            frames: &|frames| {
                for (time, frame) in frames {
                    *time = time.after(later);
                    *frame = renamed(frame, NAMES);
                }
            },
            inventory: &names,
        };
        different.extend(differences(&id, &case, &change));
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn the_order_of_what_happens_at_once_changes_nothing() {
    let mut different = Vec::new();
    for id in cases() {
        let change = Change {
            frames: &|frames| interleaved(frames, &mut Rng::new(5)),
            inventory: &[],
        };
        different.extend(differences(&id, &case(&id), &change));
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn other_ports_change_nothing_where_content_tells() {
    let mut different = Vec::new();
    for (id, ports) in PORTS {
        let replaced = Cell::new(0);
        let change = Change {
            frames: &|frames| {
                for (_, frame) in frames {
                    replaced.set(replaced.get() + with_ports(frame, ports));
                }
            },
            inventory: &[],
        };
        different.extend(differences(id, &case(id), &change));
        assert!(replaced.get() > 0, "{id}: none of these ports");
    }
    assert!(different.is_empty(), "{different:#?}");
}

/// Into so many parts a capture is divided, to begin with any but the first.
const PARTS: usize = 4;

#[test]
fn a_capture_that_begins_in_the_middle_blames_nobody() {
    let mut blamed = Vec::new();
    for id in cases() {
        let case = case(&id);
        let Some(benign) = &case.benign else { continue };
        let folder = Folder::new;
        let change = Change {
            frames: &|_| (),
            inventory: &[],
        };
        let whole = Changed {
            id: &id,
            folder: folder(),
            change: &change,
        };
        let baseline = case.learn.as_ref().map(|part| {
            let path = whole.folder.path("learned.baseline");
            whole.run("learn", part, Some(&path));
            path
        });
        let nameless = Part {
            capture: benign.capture.clone(),
            inventory: Vec::new(),
        };
        for begins in 1..PARTS {
            let change = Change {
                frames: &|frames| drop(frames.drain(..frames.len() * begins / PARTS)),
                inventory: &[],
            };
            let cut = Changed {
                id: &id,
                folder: folder(),
                change: &change,
            };
            for (part, known) in [(benign, baseline.as_deref()), (&nameless, None)] {
                let found = cut.run("analyze", part, known);
                if !found.is_empty() {
                    blamed.push(format!("{id}, from {begins}/{PARTS} on: {found:?}"));
                }
            }
        }
    }
    assert!(blamed.is_empty(), "{blamed:#?}");
}
