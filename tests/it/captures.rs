//! The bundled captures are what the committed generator makes of their seeds, to the byte.

use std::path::{Path, PathBuf};

use spanwatch::testkit::catalogue::{GENERATOR, README, files, with_table};

/// What the detectors say of a case, which is reviewed rather than generated.
const ALERTS: &str = "expected.jsonl";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

#[test]
fn captures_are_reproducible() {
    let files = files();
    for (path, bytes) in &files {
        let bundled = std::fs::read(root().join(path)).unwrap_or_default();
        assert!(
            bundled == *bytes,
            "captures/{path} is not what its seed gives; run `{GENERATOR}`"
        );
    }
    let page = std::fs::read_to_string(root().join(README)).unwrap();
    let expected = with_table(&page, &files).unwrap();
    assert!(
        page == expected,
        "the table is out of date; run `{GENERATOR}`"
    );
}

#[test]
fn captures_hold_nothing_that_no_generator_made() {
    let mut known: Vec<PathBuf> = files().keys().map(|path| root().join(path)).collect();
    known.push(root().join(README));
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_none_or(|name| name != ALERTS) {
                assert!(known.contains(&path), "{} has no generator", path.display());
            }
        }
    }
}

#[test]
fn captures_are_small() {
    let files = files();
    for (path, bytes) in &files {
        assert!(bytes.len() < 2 << 20, "{path} has {} bytes", bytes.len());
    }
    let total: usize = files.values().map(Vec::len).sum();
    assert!(total <= 80 << 20, "{total} bytes in all");
}
