//! `spanwatch config`, as an operator meets it.

use crate::command::{Folder, repository, spanwatch};

#[test]
fn what_a_file_names_is_checked_as_well() {
    let folder = Folder::new();
    let signatures = folder.path("signatures");
    std::fs::create_dir(&signatures).unwrap();
    std::fs::write(
        format!("{signatures}/port-scan.toml"),
        "[thresholds]\nmin_prots = 1\n",
    )
    .unwrap();
    let exceptions = folder.file("exceptions.toml", b"[[exception]]\nreason = \"x\"\n");
    let text = format!(
        "signatures = {signatures:?}\n\nexceptions = {exceptions:?}\nfilter = \"tcp and and\"\n\
         alertmanager = \"am.example\"\noutput = \"/none/alerts.jsonl\"\nbaseline = \"/none/baseline\"\nringg = 4\n"
    );
    let file = folder.file("spanwatch.toml", text.as_bytes());
    let run = spanwatch(&["config", "check", &file]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.starts_with("spanwatch: 7 problems:"), "{}", run.err);
    for (line, words) in [
        (8, "unknown key `ringg`; did you mean `ring`?"),
        (1, "port-scan.toml:2: unknown key `thresholds.min_prots`"),
        (3, "exceptions.toml:1: `exception.owner` is missing"),
        (4, "syntax error"),
        (5, "'am.example' is no http:// or https:// URL"),
        (6, "there is no directory /none"),
        (7, "/none/baseline does not exist"),
    ] {
        let place = format!("{file}:{line}: ");
        assert!(
            run.err.contains(&place) && run.err.contains(words),
            "{place}{words}: {}",
            run.err
        );
    }
    // A run says the same, before it opens anything.
    let started = spanwatch(&["agent", "--config", &file]);
    assert_eq!((started.code, started.err), (Some(2), run.err));
}

#[test]
fn the_example_and_the_default_are_good() {
    let folder = Folder::new();
    let example = std::fs::read_to_string(repository("deploy/systemd/sensor.toml")).unwrap();
    let here = folder.path("x").trim_end_matches("/x").to_owned();
    let example = example
        .replace("/var/lib/spanwatch", &here)
        .replace("/var/log/spanwatch", &here);
    let example = folder.file("example.toml", example.as_bytes());
    let default = folder.file(
        "default.toml",
        spanwatch(&["config", "default"]).out.as_bytes(),
    );
    let run = spanwatch(&["config", "check", &example, &default]);
    assert_eq!(
        (run.code, &*run.out),
        (Some(0), "2 without problem\n"),
        "{}",
        run.err
    );
}

#[test]
fn a_key_is_explained() {
    let run = spanwatch(&["config", "explain", "snaplen"]);
    assert_eq!(
        run.out,
        "snaplen = number, 262144 if not set; taken at start\n  Bytes kept of each frame.\n"
    );
    let run = spanwatch(&["config", "explain", "webhook_token"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("did you mean `webhook-token`?"),
        "{}",
        run.err
    );
}
