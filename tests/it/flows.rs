//! `spanwatch flows`: the list of flows, as users ask for it.

use crate::command::{Folder, command, repository, spanwatch};
use crate::tunnels::wrapped;
use spanwatch::testkit::pcap::{Recording, records};

const DEMO: [&str; 4] = [
    "flows",
    "captures/demo/demo.pcap",
    "--inventory",
    "captures/demo/inventory.json",
];

fn demo(more: &[&str]) -> crate::command::Run {
    let run = spanwatch(&[&DEMO[..], more].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run
}

#[test]
fn the_help_has_examples_and_explains_the_columns() {
    let run = spanwatch(&["flows", "--help"]);
    assert_eq!(run.code, Some(0));
    insta::assert_snapshot!(run.out);
}

#[test]
fn flows_of_a_pod_to_a_database_as_a_table() {
    let run = demo(&[
        "--pod",
        "shop/api",
        "--app",
        "postgresql",
        "--until",
        "2026-03-02T09:01:00Z",
    ]);
    insta::assert_snapshot!(run.out);
    assert!(run.err.contains("flows"), "{}", run.err);
    assert!(!run.err.contains("alerts"), "{}", run.err);
}

#[test]
fn every_flow_of_the_flow_log_is_listed_and_no_other() {
    let folder = Folder::new();
    let log = folder.path("flows.jsonl");
    let analyze = [
        "analyze",
        DEMO[1],
        DEMO[2],
        DEMO[3],
        "-q",
        "-o",
        "/dev/null",
        "--flows",
        &log,
    ];
    assert_eq!(spanwatch(&analyze).code, Some(0));
    let listed = demo(&["--format", "json"]);
    assert_eq!(listed.out, std::fs::read_to_string(&log).unwrap());
    let table = demo(&["-q"]);
    assert_eq!(table.out.lines().count(), listed.out.lines().count() + 1);
    assert_eq!(table.err, "");
}

#[test]
fn filters_divide_what_there_is() {
    let all = demo(&["--format", "json"]).json();
    let dns = demo(&["--format", "json", "--app", "dns"]).json();
    assert!(!dns.is_empty() && dns.len() < all.len());
    assert!(dns.iter().all(|flow| flow["app"] == "dns"));
    let kept = |flow: &serde_json::Value| {
        [&flow["src"], &flow["dst"], &flow["service"]]
            .iter()
            .any(|end| end["port"] == 8080)
    };
    let by_port = demo(&["--format", "json", "-p", "8080"]).json();
    assert_eq!(by_port.len(), all.iter().filter(|flow| kept(flow)).count());
}

#[test]
fn what_was_said_is_listed_in_order_and_filtered_as_flows_are() {
    let all = demo(&["--messages"]).json();
    assert!(
        all.iter()
            .all(|message| message["schema"] == "spanwatch.message/1")
    );
    let times: Vec<&str> = all
        .iter()
        .map(|message| message["time"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted());
    let mine = demo(&["--messages", "--pod", "shop/api", "--app", "postgresql"]).json();
    assert!(!mine.is_empty() && mine.len() < all.len());
    assert!(mine.iter().all(|message| {
        message["database"]["product"] == "postgresql"
            && [&message["src"], &message["dst"]].iter().any(|end| {
                let pod = end["pod"].as_str().unwrap_or_default();
                end["namespace"] == "shop" && pod.starts_with("api")
            })
    }));
    // Flows and messages are two lists.
    let both = spanwatch(&[&DEMO[..], &["--messages", "--format", "json"]].concat());
    assert_eq!(both.code, Some(2));
}

/// Which nodes carried it, by which tunnel, and which VLAN.
#[test]
fn a_tunnel_is_told_with_its_number_and_its_ends() {
    let folder = Folder::new();
    let mut uplink = Recording::default();
    for (time, frame) in records(&std::fs::read(repository(DEMO[1])).unwrap()) {
        uplink.push(time, wrapped(frame));
    }
    let uplink = folder.file("uplink.pcap", &uplink.finish());
    let flows = spanwatch(&["flows", &uplink, "--format", "json"]).json();
    let tunnels = flows.iter().filter(|flow| {
        flow["tunnel"]["kind"] == "vxlan"
            && flow["tunnel"]["outer"][0]
                .as_str()
                .unwrap()
                .starts_with("192.168.50.")
    });
    assert_eq!(tunnels.count(), flows.len());
    let table = spanwatch(&["flows", &uplink, "--app", "postgresql"]).out;
    assert!(table.contains("[vxlan "), "{table}");
}

#[test]
fn wrong_filters_are_refused_with_an_example() {
    for (args, said) in [
        (["--since", "yesterday"], "2026-03-02T09:01:20Z"),
        (["--ip", "10.0.0.0/99"], "--ip"),
        (["--port", "http"], "--port"),
    ] {
        let run = spanwatch(&[&DEMO[..], &args].concat());
        assert_eq!(run.code, Some(2));
        assert!(run.err.contains(said), "{}", run.err);
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    use std::io::Read;
    let mut child = command(&[&DEMO[..], &["--format", "json", "-q"]].concat())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
