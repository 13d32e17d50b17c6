//! Flows against tshark's conversations: the same ends, the same frames and bytes each way, as many TCP streams.
//!
//! `tests/oracle/*.tsv` were made by `scripts/oracle` with tshark; their first line says with which version.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use serde_json::Value;

use crate::command::{repository, spanwatch};

/// Frames and bytes from the lesser end and from the greater, and the number of streams.
type Row = ([u64; 4], u64);
type Table = BTreeMap<(String, (IpAddr, u64), (IpAddr, u64)), Row>;

fn oracle(text: &str) -> Table {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |at: usize| fields[at].parse::<u64>().unwrap();
            let end = |at: usize| (fields[at].parse().unwrap(), number(at + 1));
            let counts = [number(6), number(7), number(8), number(9)];
            ((fields[0].to_owned(), end(1), end(3)), (counts, number(5)))
        })
        .collect()
}

fn ours(log: &str) -> Table {
    let mut table = Table::new();
    for line in log.lines() {
        let flow: Value = serde_json::from_str(line).unwrap();
        let proto = flow["proto"].as_str().unwrap();
        if !matches!(proto, "tcp" | "udp") {
            continue;
        }
        let end = |name: &str| {
            let ip: IpAddr = flow[name]["ip"].as_str().unwrap().parse().unwrap();
            (ip, flow[name]["port"].as_u64().unwrap())
        };
        // tshark counts frames; we count packets, and beside them the frames that only show one again.
        let both = |once: &str, again: &str| {
            [0, 1]
                .map(|at| flow[once][at].as_u64().unwrap() + flow[again][at].as_u64().unwrap_or(0))
        };
        let [out, back] = both("packets", "copies");
        let [bytes_out, bytes_back] = both("bytes", "copied_bytes");
        let (src, dst) = (end("src"), end("dst"));
        let (low, high, counts) = if src <= dst {
            (src, dst, [out, bytes_out, back, bytes_back])
        } else {
            (dst, src, [back, bytes_back, out, bytes_out])
        };
        let (sums, streams) = table.entry((proto.to_owned(), low, high)).or_default();
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        // tshark never ends a UDP conversation; we do after a minute of silence.
        *streams = if proto == "tcp" { *streams + 1 } else { 1 };
    }
    table
}

#[test]
fn conversations_are_those_of_tshark() {
    let mut captures = 0;
    for entry in fs::read_dir(repository("tests/oracle")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let capture = text.lines().next().unwrap().rsplit(' ').next().unwrap();
        let run = spanwatch(&[
            "analyze",
            capture,
            "--quiet",
            "--output",
            "/dev/null",
            "--flows",
            "-",
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let (theirs, mine) = (oracle(&text), ours(&run.out));
        assert!(!theirs.is_empty(), "{capture}");
        for (key, row) in &theirs {
            assert_eq!(mine.get(key), Some(row), "{capture}: {key:?}");
        }
        assert_eq!(mine.len(), theirs.len(), "{capture}");
        captures += 1;
    }
    assert!(captures >= 10);
}
