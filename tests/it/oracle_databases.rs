//! Conversations with databases against tshark's reading: the same users, outcomes of logins, commands and errors.
//!
//! `tests/oracle-databases/*.tsv` were made by `scripts/oracle-databases`, which says what is left out and why, compares any
//! other captures, and is to be run again when the bundled captures of databases change.

use std::collections::BTreeMap;
use std::fs;

use spanwatch::dissect::{DatabaseEvent, Transaction};
use spanwatch::testkit::dissected::transactions;

use crate::command::repository;

type End = (String, String);
/// Both ends in order, the product, the fact; how often.
type Facts = BTreeMap<(End, End, String, String), u64>;

fn oracle(text: &str) -> Facts {
    let mut facts = Facts::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [ip, port, other_ip, other_port, product, fact, count] = &fields[..] else {
            panic!("{line}");
        };
        let ends = [
            (ip.clone(), port.clone()),
            (other_ip.clone(), other_port.clone()),
        ];
        let [low, high] = ends;
        let key = (low, high, product.clone(), fact.clone());
        facts.insert(key, count.parse().unwrap());
    }
    facts
}

fn ours(capture: &str) -> Facts {
    let mut facts = Facts::new();
    for dissected in transactions(&repository(capture)).unwrap() {
        let Transaction::Database(message) = dissected.transaction else {
            continue;
        };
        let product = message.product;
        let known: Vec<Option<String>> = match message.event {
            DatabaseEvent::Login { user, .. } => vec![
                user.map(|user| format!("user {user}")),
                (product == "redis").then(|| "command AUTH".to_owned()),
            ],
            DatabaseEvent::LoginResult { success, code } => vec![
                (success && !matches!(product, "redis" | "memcached" | "mongodb"))
                    .then(|| "login ok".to_owned()),
                code.map(|code| format!("error {code}")),
            ],
            DatabaseEvent::Statement { verb, .. } => {
                let word = verb.split(' ').next().unwrap();
                vec![Some(format!("command {word}"))]
            }
            DatabaseEvent::Result { error, .. } => vec![error.map(|code| format!("error {code}"))],
            DatabaseEvent::Hello { .. } | DatabaseEvent::Secret(_) => Vec::new(),
        };
        let end = |(ip, port): (std::net::IpAddr, u16)| (ip.to_string(), port.to_string());
        let mut ends = [end(dissected.orig), end(dissected.resp)];
        ends.sort();
        let [low, high] = ends;
        for fact in known.into_iter().flatten() {
            let key = (low.clone(), high.clone(), product.to_owned(), fact);
            *facts.entry(key).or_default() += 1;
        }
    }
    facts
}

#[test]
fn databases_are_read_as_tshark_reads_them() {
    let mut seen = 0;
    for entry in fs::read_dir(repository("tests/oracle-databases")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let capture = text.lines().next().unwrap().rsplit(' ').next().unwrap();
        let (theirs, mine) = (oracle(&text), ours(capture));
        for (key, count) in &theirs {
            assert_eq!(mine.get(key), Some(count), "{capture}: {key:?}");
        }
        // Conversations that tshark knows have no fact more.
        let known: Vec<_> = theirs.keys().map(|(low, high, ..)| (low, high)).collect();
        for (key, count) in &mine {
            if known.contains(&(&key.0, &key.1)) {
                assert_eq!(theirs.get(key), Some(count), "{capture}: {key:?}");
            }
        }
        seen += theirs.len();
    }
    assert!(seen > 0);
}
