//! Tests of reading, overriding and showing signatures.

use std::path::Path;

use super::*;
use crate::detectors::DETECTORS;

const DNS: &str = include_str!("../../signatures/dns-tunnel.toml");

fn problems(file: &str, text: &str, base: Option<&Signature>) -> String {
    parse(Path::new(file), text, base).unwrap_err().to_string()
}

#[test]
fn the_builtin_signatures_are_without_problem() {
    let set = SignatureSet::builtin().unwrap();
    let ids: Vec<&str> = set.iter().map(|signature| signature.id.as_str()).collect();
    let known: Vec<&str> = DETECTORS.iter().map(|spec| spec.id).collect();
    assert_eq!(ids, known);
    for signature in set.iter() {
        for &section in AdsSection::ALL {
            let text = signature.ads.get(section);
            assert!(text.len() > 80, "{} {section:?}: {text}", signature.id);
        }
        assert!(!signature.related.is_empty(), "{}", signature.id);
        assert!(!signature.thresholds.is_empty(), "{}", signature.id);
    }
}

/// What detectors are built from: names, types and values that they rely on.
#[test]
fn the_builtin_thresholds_are_the_published_ones() {
    let set = SignatureSet::builtin().unwrap();
    let shown: Vec<String> = set
        .iter()
        .map(|signature| {
            let settings: Vec<String> = signature
                .thresholds
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!(
                "{} {} {} {}",
                signature.id,
                signature.severity.label(),
                signature.alert_bits,
                settings.join(" ")
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_repository_signature_is_built_in() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("signatures");
    let mut stems: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    stems.sort();
    let set = SignatureSet::builtin().unwrap();
    let ids: Vec<&str> = set.iter().map(|signature| signature.id.as_str()).collect();
    assert_eq!(stems, ids);
}

#[test]
fn all_problems_of_a_file_are_reported_with_their_lines() {
    let text = r#"
id = "dns-tunel"
title = "A title that is by far too long to be shown in the heading of any alert at all"
category = "c3"
severity = 4
status = "stable"
since = "0.1"
colour = "red"
related = ["T1046", "T12"]
requires = ["pod-side", "luck"]
alert_bits = -1.0
response = ["run {command} on {pod}", ""]

[[attack]]
tactic = "T0011"
technique = "T1071.4"
nmae = "DNS"

[thresholds]
window_secs = [3600]
"esc\u001b" = nan

[ads]
goal = ""
priority = "\u001b[31mred"
scope = "?"
"#;
    insta::assert_snapshot!(problems("signatures/dns-tunnel.toml", text, None));
}

#[test]
fn syntax_errors_are_reported_together_and_alone() {
    let text =
        "id = \"dns-tunnel\"\ntitle = = 1\ncategory = \"c3\"\n[thresholds\nwindow_secs = 1\n";
    insta::assert_snapshot!(problems("x/dns-tunnel.toml", text, None));
}

#[test]
fn an_empty_file_is_all_missing() {
    let error = parse(Path::new("a/dns-tunnel.toml"), "", None).unwrap_err();
    assert_eq!(error.problems.len(), 13);
    assert_eq!(
        error.problems[0].to_string(),
        "a/dns-tunnel.toml: `id` is missing"
    );
}

#[test]
fn a_file_of_nothing_but_mistakes_yields_a_bounded_report() {
    let text: String = (0..5000)
        .map(|n| format!("k{n} = 1"))
        .collect::<Vec<_>>()
        .join("\n");
    let error = parse(Path::new("dns-tunnel.toml"), &text, None).unwrap_err();
    assert_eq!(error.problems.len(), 100);
}

#[test]
fn an_override_inherits_what_it_leaves_out() {
    let base = parse(Path::new("dns-tunnel.toml"), DNS, None).unwrap();
    let text =
        "severity = \"critical\"\n[thresholds]\ntypical_bits = 12\n[ads]\npriority = \"Ours.\"\n";
    let signature = parse(Path::new("etc/dns-tunnel.toml"), text, Some(&base)).unwrap();

    assert_eq!(signature.severity, Severity::Critical);
    assert_eq!(signature.ads.get(AdsSection::Priority), "Ours.");
    assert_eq!(
        signature.thresholds["typical_bits"],
        toml::Value::Float(12.0),
        "an integer where the built-in has a float"
    );
    let mut expected = base.clone();
    expected.severity = signature.severity;
    expected.ads = signature.ads.clone();
    expected.thresholds = signature.thresholds.clone();
    assert_eq!(signature, expected);
    assert_eq!(signature.thresholds.len(), base.thresholds.len());
}

#[test]
fn an_override_can_neither_invent_nor_retype_a_threshold() {
    let base = parse(Path::new("dns-tunnel.toml"), DNS, None).unwrap();
    let text = "[thresholds]\nhalf_life = 5\nmin_distinct_names = 1.5\nmax_domains = \"many\"\n";
    insta::assert_snapshot!(problems("etc/dns-tunnel.toml", text, Some(&base)));
}

#[test]
fn a_directory_overrides_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("port-scan.toml", "[thresholds]\nmin_ports = 50\n");
    write("README.md", "not a signature");

    let set = SignatureSet::load(Some(dir.path())).unwrap();
    let ports = &set.get("port-scan").unwrap().thresholds["min_ports"];
    assert_eq!(ports, &toml::Value::Integer(50));
    let builtin = SignatureSet::builtin().unwrap();
    assert_eq!(set.get("dns-tunnel"), builtin.get("dns-tunnel"));
    assert_eq!(SignatureSet::load(None).unwrap(), builtin);
}

#[test]
fn a_directory_is_refused_for_every_mistake_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let message = |dir: &Path| {
        let error = SignatureSet::load(Some(dir)).unwrap_err().to_string();
        // The list of ids is the catalogue's to keep.
        let builtin = SignatureSet::builtin().unwrap();
        let ids: Vec<&str> = builtin
            .iter()
            .map(|signature| signature.id.as_str())
            .collect();
        let ids = ids.join(", ");
        error
            .replace(dir.to_str().unwrap(), "DIR")
            .replace(&ids, "(all ids)")
    };
    assert_eq!(
        message(dir.path()),
        "DIR: holds no signature (no file named *.toml)"
    );
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("port-scan.toml", b"[thresholds]\nmin_prots = 50\n");
    write("portscan.toml", b"");
    write("db-sweep.toml", b"title = \"\xff\"");
    write("host-sweep.toml", &vec![b'#'; 300 * 1024]);
    insta::assert_snapshot!(message(dir.path()));
    assert!(
        message(&dir.path().join("missing"))
            .starts_with("DIR: reading the directory: No such file or directory")
    );
}

#[test]
fn a_tap_is_told_what_it_cannot_show() {
    let set = SignatureSet::builtin().unwrap();
    assert!(set.blind(Requirement::ALL).is_empty());
    let blind = set.blind(&[Requirement::PodSide, Requirement::BothDirections]);
    let plaintext = |line: &&String| line.ends_with("application data that isn't encrypted");
    let Some(line) = blind.iter().find(plaintext) else {
        panic!("{blind:?}")
    };
    assert!(
        line.contains("dns-tunnel") && !line.contains("port-scan"),
        "{line}"
    );
}

#[test]
fn a_page_fits_a_terminal() {
    let set = SignatureSet::builtin().unwrap();
    for signature in set.iter() {
        for line in page(signature).lines() {
            assert!(line.chars().count() <= 80, "{}: {line}", signature.id);
        }
    }
    insta::assert_snapshot!(page(set.get("port-scan").unwrap()));
}

proptest::proptest! {
    /// However a file was cut or garbled, reading it ends in a signature or in problems.
    #[test]
    fn a_garbled_file_is_read_without_harm(from in 0..7000_usize, length in 0..3000_usize, garbage in ".{0,40}") {
        let head: String = DNS.chars().take(from).collect();
        let tail: String = DNS.chars().skip(from + length).collect();
        let text = format!("{head}{garbage}{tail}");
        if let Err(error) = parse(Path::new("signatures/dns-tunnel.toml"), &text, None) {
            assert!(!error.problems.is_empty());
        }
    }
}

#[test]
fn the_catalogue_in_docs_is_current() {
    let set = SignatureSet::builtin().unwrap();
    golden::assert_generated("docs/detectors.md", &catalogue(&set));
}
