//! Contacts, what comes of them, and how they are told apart.

use super::*;
use crate::identity::{Attribution, Confidence, Identity, Source as Told};

fn end(ip: &str) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        who: Attribution {
            identity: Arc::new(Identity::bare(IdentityKind::Unknown)),
            confidence: Confidence::UnknownPrivate,
            source: Told::None,
        },
    }
}

fn contact(lines: &mut ContactLines<u16>, actor: &str, port: u16, success: bool) {
    let (actor, target) = (end(actor), end("10.0.0.2"));
    let contact = FirstContact {
        member: (target.ip, port),
        target: &target,
        success,
        telling: true,
        weight: 1.0,
        time: Timestamp::from_secs(i64::from(port)),
        flow: None,
        vouched: true,
    };
    lines.contact(&actor, 0.8, 0, &contact);
}

fn line<'a>(lines: &'a mut ContactLines<u16>, actor: &str) -> &'a Line {
    lines
        .source(&source_key(&end(actor)))
        .unwrap()
        .lines
        .get(&0)
        .unwrap()
}

#[test]
fn a_repeated_contact_says_nothing_new() {
    let mut lines = ContactLines::new(10, 0.2, 1.0);
    for _ in 0..5 {
        contact(&mut lines, "10.0.0.1", 80, false);
    }
    let line = line(&mut lines, "10.0.0.1");
    assert_eq!((line.attempted, line.failed), (1, 1));
    assert!((line.bits - 2.0).abs() < 1e-9);
}

#[test]
fn an_unused_connection_is_no_success() {
    let mut lines = ContactLines::new(10, 0.2, 1.0);
    for port in 1..=4 {
        contact(&mut lines, "10.0.0.1", port, false);
    }
    contact(&mut lines, "10.0.0.1", 80, true);
    assert!((line(&mut lines, "10.0.0.1").bits - 6.0).abs() < 1e-9);
    let target = end("10.0.0.2");
    let over = FirstContact {
        member: (target.ip, 80),
        target: &target,
        success: true,
        telling: false,
        weight: 1.0,
        time: Timestamp::from_secs(99),
        flow: None,
        vouched: true,
    };
    for _ in 0..2 {
        // Again: counted once.
        lines.over(&end("10.0.0.1"), 0.8, 0, &over, true);
    }
    let line = line(&mut lines, "10.0.0.1");
    assert!((line.bits - 9.0).abs() < 1e-9);
    assert_eq!(line.probed(), 5);
}

#[test]
fn sources_are_bounded_and_forgotten_in_order() {
    let mut lines = ContactLines::new(3, 0.2, 1.0);
    for (port, actor) in (0..).zip(["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5"]) {
        contact(&mut lines, actor, port, false);
    }
    assert_eq!((lines.len(), lines.evicted()), (3, 1));
    assert_eq!(lines.forget(Timestamp::from_secs(3)).len(), 2);
    assert_eq!(lines.len(), 1);
}

#[test]
fn contacts_are_bounded_over_all_sources() {
    let mut lines = ContactLines::new(100_000, 0.2, 1.0);
    // Every source is made up, and fills the lines it may have.
    let target = end("10.0.0.2");
    for source in 0..300_u32 {
        let actor = end(&format!("10.1.{}.{}", source / 250, source % 250));
        for n in 0..4096_u16 {
            let contact = FirstContact {
                member: (target.ip, n),
                target: &target,
                success: false,
                telling: false,
                weight: 1.0,
                time: Timestamp::from_secs(i64::from(source)),
                flow: None,
                vouched: true,
            };
            lines.contact(&actor, 0.8, n % 8, &contact);
        }
    }
    assert!(lines.contacts <= MAX_CONTACTS);
    let counted: usize = lines.sources.iter().map(|(_, source)| source.size()).sum();
    assert_eq!(lines.contacts, counted);
    assert_eq!(lines.evicted(), 300 - MAX_CONTACTS as u64 / 4096);
}
