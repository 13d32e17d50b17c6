//! Files stored by FTP, by programs and by hand, and by TFTP.

use super::*;

/// A pod that has asked its database for a while opens an FTP session with a server outside, which is told to wait for a
/// file or to call back for it; `caller` then does.
fn by_ftp(verb: &'static str, listener: Direction, caller: &str, bytes: u64) -> Bench {
    let mut bench = Bench::new("exfiltration");
    let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
    for n in 0..6 {
        bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
    }
    let server = end("203.0.113.20", IdentityKind::External, None);
    let control = bench.open(100.0, (&api, &server), Protocol::Tcp, 21);
    let step = |step| Transaction::Ftp(step);
    let agreed = FtpMessage::Data {
        listener,
        address: None,
        port: 50_123,
    };
    bench.says(100.1, &control, step(agreed));
    let transfer = FtpMessage::Transfer {
        verb,
        path: None,
        accepted: true,
        by_hand: false,
    };
    bench.says(100.2, &control, step(transfer));
    let caller = end(caller, IdentityKind::External, None);
    let (ends, up) = match listener {
        Direction::Orig => ((&caller, &api), Direction::Resp),
        Direction::Resp => ((&api, &caller), Direction::Orig),
    };
    let data = bench.open(100.3, ends, Protocol::Tcp, 50_123);
    let way = if verb == "RETR" { up.reverse() } else { up };
    turn(&mut bench, 100.4, &data, way, bytes);
    bench.finish(200.0);
    bench
}

#[test]
fn files_stored_by_ftp_whoever_opens_the_connection_for_them() {
    use Direction::{Orig, Resp};
    const SERVER: &str = "203.0.113.20";
    for (verb, listener, caller, bytes, alerts) in [
        ("STOR", Resp, SERVER, 300_000, true),
        ("STOR", Orig, SERVER, 300_000, true),
        ("APPE", Orig, SERVER, 90_000, true),
        // Fetched, or next to nothing, or by somebody else who happens to call that port.
        ("RETR", Resp, SERVER, 300_000, false),
        ("RETR", Orig, SERVER, 300_000, false),
        ("STOR", Resp, SERVER, 20_000, false),
        ("STOR", Orig, "198.51.100.4", 300_000, false),
    ] {
        let bench = by_ftp(verb, listener, caller, bytes);
        let shown = (verb, listener, caller, bytes, bench.bits());
        assert_eq!(bench.alerts(), alerts, "{shown:?}");
    }
}

/// A pod stores a small file on a server, by hand or not.
fn stores(bench: &mut Bench, secs: f64, server: &Endpoint, by_hand: bool) {
    let api = pod("10.244.1.7", "api");
    let control = bench.begin(secs, (&api, server), Protocol::Tcp, 21);
    let transfer = FtpMessage::Transfer {
        verb: "STOR",
        path: None,
        accepted: true,
        by_hand,
    };
    bench.says(secs + 0.2, &control, Transaction::Ftp(transfer));
    let data = bench.open(secs + 0.3, (&api, server), Protocol::Tcp, 50_123);
    turn(bench, secs + 0.4, &data, Direction::Orig, 20_000);
}

#[test]
fn a_file_that_somebody_stores_by_hand_whatever_its_size() {
    let outside = end("203.0.113.20", IdentityKind::External, None);
    let inside = pod("10.244.2.9", "files");
    let node = end("172.18.0.2", IdentityKind::Node, None);
    for (server, by_hand, alerts) in [
        (&outside, true, true),
        (&inside, true, true),
        (&outside, false, false),
        (&inside, false, false),
        (&node, true, false),
    ] {
        let mut bench = Bench::new("exfiltration");
        stores(&mut bench, 0.0, server, by_hand);
        bench.finish(100.0);
        let shown = (server.ip, by_hand, bench.bits());
        assert_eq!(bench.alerts(), alerts, "{shown:?}");
        if alerts {
            assert!(
                bench.findings[0].summary.contains("20.0 kB"),
                "{:?}",
                bench.findings
            );
        }
    }
    // What was counted only after it was told is told at the end.
    let mut bench = Bench::new("exfiltration");
    let api = pod("10.244.1.7", "api");
    let control = bench.begin(0.0, (&api, &inside), Protocol::Tcp, 21);
    let transfer = FtpMessage::Transfer {
        verb: "STOR",
        path: None,
        accepted: true,
        by_hand: true,
    };
    bench.says(0.2, &control, Transaction::Ftp(transfer));
    let data = bench.open(0.3, (&api, &inside), Protocol::Tcp, 50_123);
    bench.asks(10.0, (&api, &inside), 80);
    turn(&mut bench, 11.0, &data, Direction::Orig, 20_000);
    let last = bench.finish(100.0).last().unwrap();
    assert!(last.summary.contains("20.1 kB"), "{}", last.summary);
    // What passed between the two after somebody fetched by hand is no part of what is stored later.
    let mut bench = Bench::new("exfiltration");
    let control = bench.begin(0.0, (&api, &inside), Protocol::Tcp, 21);
    let transfer = FtpMessage::Transfer {
        verb: "RETR",
        path: None,
        accepted: true,
        by_hand: true,
    };
    for n in 0..20 {
        bench.asks(f64::from(n), (&api, &pod("10.244.1.3", "db")), 5432);
    }
    bench.says(30.0, &control, Transaction::Ftp(transfer));
    let copy = bench.open(40.0, (&api, &inside), Protocol::Tcp, 8080);
    turn(&mut bench, 41.0, &copy, Direction::Orig, 50_000_000);
    stores(&mut bench, 60.0, &inside, true);
    let last = bench.finish(100.0).last().unwrap();
    assert!(last.summary.contains("20.0 kB"), "{}", last.summary);
    // Somebody's habit.
    let mut bench = Bench::new("exfiltration");
    for n in 0..50 {
        stores(&mut bench, f64::from(n) * 1800.0, &inside, true);
    }
    let mut bench = bench.learned("exfiltration");
    stores(&mut bench, 100_000.0, &inside, true);
    bench.finish(100_100.0);
    assert!(!bench.alerts(), "{}", bench.bits());
}

#[test]
fn a_server_of_tftp_answers_from_another_port() {
    let mut bench = Bench::new("exfiltration");
    let (api, store) = (pod("10.244.1.7", "api"), pod("10.244.1.3", "db"));
    for n in 0..40 {
        bench.asks(f64::from(n) * 0.2, (&api, &store), 5432);
    }
    let server = end("203.0.113.20", IdentityKind::External, None);
    let asked = bench.open(100.0, (&api, &server), Protocol::Udp, 69);
    let kind = EventKind::Recognised {
        flow: Arc::clone(&asked),
        app: "tftp",
    };
    bench.event(100.0, kind);
    let port = asked.orig_port;
    let data = bench.open(100.1, (&server, &api), Protocol::Udp, port);
    turn(&mut bench, 100.2, &data, Direction::Resp, 900_000);
    bench.finish(200.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}
