//! Web shells of every kind, and pages that look like them.

use super::super::testing::{Bench, end, nameless, pod};
use super::*;
use crate::flow::{Outcome, Protocol};
use crate::identity::{IdentityKind, Source};

const PORT: u16 = 80;

fn outside() -> Endpoint {
    end("192.0.2.90", IdentityKind::External, None)
}

fn web() -> Endpoint {
    pod("10.244.1.7", "web")
}

fn run(asked: Commands, printed: Commands, bare: bool) -> CommandRun {
    CommandRun {
        path: "/up/x.php".into(),
        status: 200,
        asked,
        printed,
        bare,
        answered: 54,
    }
}

fn says(bench: &mut Bench, at: f64, ends: (&Endpoint, &Endpoint), run: CommandRun) {
    let flow = bench.begin(at, ends, Protocol::Tcp, PORT);
    bench.says(at + 0.1, &flow, Transaction::Command(run));
    bench.ends(at + 0.2, &flow);
}

#[test]
fn one_command_that_is_answered_is_enough() {
    let mut bench = Bench::new("web-shell");
    let shell = run(Commands::ID, Commands::ID, true);
    says(&mut bench, 1.0, (&outside(), &web()), shell);
    assert!(bench.alerts(), "{} bits", bench.bits());
    let finding = &bench.findings[0];
    assert_eq!(finding.actor.ip, web().ip);
    assert_eq!(
        finding.summary,
        "runs commands (id) for 192.0.2.90 over HTTP, by /up/x.php on port 80"
    );

    // Whatever else was asked for may print anything.
    let mut bench = Bench::new("web-shell");
    let shell = run(Commands::CODE, Commands::ACCOUNTS, true);
    says(&mut bench, 1.0, (&outside(), &web()), shell);
    assert!(bench.alerts());

    // From another pod, that one is told.
    let mut bench = Bench::new("web-shell");
    let shell = run(Commands::ANY, Commands::ENVIRONMENT, true);
    let runner = pod("10.244.2.9", "runner");
    says(&mut bench, 1.0, (&runner, &web()), shell);
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].actor.ip, runner.ip);
    assert_eq!(
        bench.findings[0].summary,
        "has commands (env) run by /up/x.php on port 80 of 10.244.1.7"
    );
}

#[test]
fn without_an_inventory_the_server_inside_is_told() {
    let server = nameless("10.244.1.7", Source::None);
    let mut bench = Bench::new("web-shell");
    says(
        &mut bench,
        1.0,
        (&outside(), &server),
        run(Commands::ID, Commands::ID, true),
    );
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert_eq!(bench.findings[0].actor.ip, server.ip);

    // From within a page, too.
    let mut bench = Bench::new("web-shell");
    for (at, kind) in [(1.0, Commands::ID), (20.0, Commands::FILES)] {
        says(
            &mut bench,
            at,
            (&outside(), &server),
            run(kind, kind, false),
        );
    }
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn within_pages_it_takes_two_kinds() {
    let mut bench = Bench::new("web-shell");
    for (at, kind) in [(1.0, Commands::ID), (20.0, Commands::ID)] {
        says(&mut bench, at, (&outside(), &web()), run(kind, kind, false));
    }
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    let kind = Commands::FILES;
    says(
        &mut bench,
        40.0,
        (&outside(), &web()),
        run(kind, kind, false),
    );
    assert!(bench.alerts(), "{} bits", bench.bits());
}

#[test]
fn a_page_that_prints_one_thing_and_another() {
    let nothing = Commands::empty();
    let mut bench = Bench::new("web-shell");
    for at in 0..50 {
        let at = f64::from(at) * 10.0;
        says(
            &mut bench,
            at,
            (&outside(), &web()),
            run(nothing, Commands::DISKS, true),
        );
    }
    bench.finish(1000.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    says(
        &mut bench,
        2000.0,
        (&outside(), &web()),
        run(nothing, Commands::ID, true),
    );
    assert!(bench.alerts(), "{} bits", bench.bits());

    // Files of a server that has many.
    let mut bench = Bench::new("web-shell");
    for (at, kind) in [(1.0, Commands::ID), (2.0, Commands::DISKS)] {
        let mut file = run(nothing, kind, true);
        file.path = format!("/logs/{at}.txt").into();
        says(&mut bench, at, (&outside(), &web()), file);
    }
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn code_that_is_answered_differently() {
    let sent = |bench: &mut Bench, at: f64, status: u16, answered: u32| {
        let code = CommandRun {
            status,
            answered,
            ..run(Commands::CODE, Commands::empty(), false)
        };
        says(bench, at, (&outside(), &web()), code);
    };
    let mut bench = Bench::new("web-shell");
    for (at, answered) in [(1.0, 300), (5.0, 90), (9.0, 1200)] {
        sent(&mut bench, at, 200, answered);
    }
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert!(bench.findings[0].summary.starts_with("runs code for"));

    // A scanner gets the same answer, or none, or pages that show what it was looking for.
    for (status, least, step) in [(200, 300, 0), (404, 300, 7), (403, 300, 7), (200, 0, 0)] {
        let mut bench = Bench::new("web-shell");
        for n in 0..50 {
            sent(&mut bench, f64::from(n), status, least + n * step);
        }
        bench.finish(100.0);
        assert!(bench.findings.is_empty(), "{status}: {:?}", bench.findings);
    }
}

#[test]
fn what_was_asked_for_in_vain_is_nothing() {
    let mut bench = Bench::new("web-shell");
    // `?sort=id`, and a list of files that somebody keeps there.
    for n in 0..50 {
        let page = run(Commands::ID, Commands::FILES, true);
        says(&mut bench, f64::from(n), (&outside(), &web()), page);
    }
    bench.finish(100.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn a_page_outside_is_asked_for_its_text() {
    let mut bench = Bench::new("web-shell");
    for (at, kind) in [(1.0, Commands::ID), (2.0, Commands::DISKS)] {
        let page = run(Commands::empty(), kind, true);
        says(&mut bench, at, (&web(), &outside()), page);
        says(&mut bench, at, (&web(), &outside()), run(kind, kind, false));
    }
    bench.finish(10.0);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    // Who works one out there is told.
    let shell = run(Commands::ID, Commands::ID, true);
    says(&mut bench, 20.0, (&web(), &outside()), shell);
    assert!(bench.alerts());
    assert_eq!(bench.findings[0].actor.ip, web().ip);
}

#[test]
fn who_passes_it_on_is_not_told() {
    let mut bench = Bench::new("web-shell");
    let proxy = pod("10.244.3.3", "ingress");
    let shell = run(Commands::ID, Commands::ID, true);
    let ends = (&outside(), &proxy);
    bench.flow(0.5, ends, Protocol::Tcp, PORT, Outcome::Answered, 900);
    let front = bench.begin(1.0, (&outside(), &proxy), Protocol::Tcp, PORT);
    says(&mut bench, 1.1, (&proxy, &web()), shell.clone());
    bench.says(1.4, &front, Transaction::Command(shell));
    assert_eq!(bench.findings.len(), 1);
    assert_eq!(bench.findings[0].actor.ip, web().ip);
}

#[test]
fn nobody_known_is_told_too() {
    let mut bench = Bench::new("web-shell");
    let (client, server) = (
        nameless("10.0.0.5", Source::None),
        nameless("10.0.0.6", Source::None),
    );
    let shell = run(Commands::ID, Commands::ID, true);
    says(&mut bench, 1.0, (&client, &server), shell);
    assert!(bench.alerts());
}
