//! Who looks around, and who only seems to.

use super::*;
use crate::detectors::testing::{Bench, end, pod};
use crate::event::Endpoint;

fn dns() -> Endpoint {
    pod("10.244.1.2", "coredns")
}

const MISSING: [&str; 12] = [
    "mysql", "mongo", "admin", "vault", "jenkins", "gitlab", "grafana", "kafka", "minio", "ldap",
    "backup", "registry",
];

#[test]
fn names_guessed_one_after_the_other_however_slowly() {
    for gap in [0.05, 900.0] {
        let mut bench = Bench::new("service-enumeration");
        let web = pod("10.244.1.7", "web");
        for (n, name) in MISSING.iter().enumerate() {
            let full = format!("{name}.shop.svc.cluster.local");
            for kind in [1, 28] {
                bench.no_such_name(n as f64 * gap, (&web, &dns()), &full, kind);
            }
            if n == 3 {
                let found = Some("10.96.0.9".parse().unwrap());
                bench.dns(
                    n as f64 * gap,
                    (&web, &dns()),
                    "redis.shop.svc.cluster.local",
                    1,
                    found,
                );
            }
        }
        bench.finish(1e5);
        assert!(bench.alerts(), "{} bits", bench.bits());
    }
}

#[test]
fn addresses_looked_up_in_a_row() {
    let mut bench = Bench::new("service-enumeration");
    let web = pod("10.244.1.7", "web");
    for last in 1..40 {
        let name = format!("{last}.0.96.10.in-addr.arpa");
        bench.no_such_name(f64::from(last) * 60.0, (&web, &dns()), &name, PTR);
    }
    bench.finish(1e4);
    assert!(bench.alerts(), "{} bits", bench.bits());
    assert!(bench.findings.len() < 5);
}

#[test]
fn questions_for_everything() {
    for (name, kind) in [
        ("any.any.svc.cluster.local", SRV),
        ("any.any.any.svc.cluster.local", 1),
        ("cluster.local", 252),
    ] {
        let mut bench = Bench::new("service-enumeration");
        bench.no_such_name(1.0, (&pod("10.244.1.7", "web"), &dns()), name, kind);
        bench.finish(10.0);
        assert!(bench.alerts(), "{name}");
        assert!(bench.findings[0].evidence[0].signature_grade);
    }
    let mut bench = Bench::new("service-enumeration");
    for n in 0..25 {
        let name = format!("_http._tcp.service-{n}.prod.svc.cluster.local");
        bench.dns(
            f64::from(n),
            (&pod("10.244.1.7", "web"), &dns()),
            &name,
            SRV,
            None,
        );
    }
    bench.finish(100.0);
    assert!(bench.alerts(), "{} bits", bench.bits());
}

/// A zone that its server asks somebody to fetch, and others that ask for it.
#[test]
fn a_transfer_that_the_server_asked_for() {
    use crate::flow::{Direction, Protocol};
    const ZONE: &str = "shop.example";
    let (primary, secondary) = (pod("10.244.1.3", "primary"), pod("10.244.2.4", "secondary"));
    let stranger = pod("10.244.1.7", "web");
    let (notify, update) = (DnsOperation::Notify, DnsOperation::Update);
    let (orig, resp) = (Direction::Orig, Direction::Resp);
    // What is sent before the secondary fetches the zone at 60 s, when, in which direction, by whom to whom.
    let cases = [
        (notify, 59.0, ZONE, orig, (&primary, &secondary), false),
        (
            notify,
            59.0,
            "other.example",
            orig,
            (&primary, &secondary),
            true,
        ),
        (notify, 59.0, ZONE, orig, (&primary, &stranger), true),
        (notify, 59.0, ZONE, orig, (&stranger, &secondary), true),
        // One's own word, and an answer that looks like one.
        (notify, 59.0, ZONE, orig, (&secondary, &primary), true),
        (notify, 59.0, ZONE, resp, (&primary, &secondary), true),
        (notify, -400.0, ZONE, orig, (&primary, &secondary), true),
        (update, 59.0, ZONE, orig, (&primary, &secondary), true),
    ];
    for (operation, at, name, direction, ends, told) in cases {
        let at = at + 1000.0;
        let mut bench = Bench::new("service-enumeration");
        let flow = bench.begin(at, ends, Protocol::Udp, 53);
        let said = DnsMessage {
            operation,
            direction,
            name: name.into(),
            query_type: 6,
            ..DnsMessage::default()
        };
        bench.says(at, &flow, Transaction::Dns(said));
        bench.dns(1060.0, (&secondary, &primary), ZONE, 252, None);
        bench.finish(2000.0);
        assert_eq!(bench.alerts(), told, "{operation:?} at {at} of {name}");
    }
    // Who changes a zone may have named himself as one to be told.
    let mut bench = Bench::new("service-enumeration");
    for (at, operation, ends) in [
        (1.0, update, (&secondary, &primary)),
        (2.0, notify, (&primary, &secondary)),
    ] {
        let flow = bench.begin(at, ends, Protocol::Udp, 53);
        let said = DnsMessage {
            operation,
            name: ZONE.into(),
            query_type: 6,
            ..DnsMessage::default()
        };
        bench.says(at, &flow, Transaction::Dns(said));
    }
    bench.dns(3.0, (&secondary, &primary), ZONE, 251, None);
    bench.finish(100.0);
    assert!(bench.alerts());
}

#[test]
fn search_lists_and_known_services_are_left_alone() {
    let mut bench = Bench::new("service-enumeration");
    let web = pod("10.244.1.7", "web");
    let found = Some("203.0.113.9".parse().unwrap());
    // Names outside, each by way of the whole search list; some don't exist at all.
    for n in 0..200 {
        let name = match n % 3 {
            0 => format!("site{n}.com"),
            1 => format!("host{n}.corp"),
            _ => format!("www.site{n}.example.org"),
        };
        let at = f64::from(n);
        for search in [
            "shop.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
        ] {
            bench.no_such_name(at, (&web, &dns()), &format!("{name}.{search}"), 1);
        }
        if n % 12 == 0 {
            bench.no_such_name(at, (&web, &dns()), &name, 1);
        } else {
            bench.dns(at, (&web, &dns()), &name, 1, found);
        }
    }
    // A gateway with sixty services, of which two are optional and aren't there.
    let gateway = pod("10.244.1.8", "gateway");
    for n in 0..60 {
        let name = format!("service-{n}.prod.svc.cluster.local");
        if n % 30 == 7 {
            bench.no_such_name(300.0, (&gateway, &dns()), &name, 1);
        } else {
            bench.dns(300.0, (&gateway, &dns()), &name, 1, found);
        }
    }
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}

#[test]
fn who_logs_visitors_names_and_who_asks_for_others_is_left_alone() {
    let mut bench = Bench::new("service-enumeration");
    let (ingress, upstream) = (
        pod("10.244.1.9", "ingress"),
        end("172.18.0.1", IdentityKind::Node, None),
    );
    for n in 0..100_u16 {
        // Visitors come in no order.
        let visitor = n * 37 % 251;
        let name = format!("{visitor}.2.244.10.in-addr.arpa");
        let at = f64::from(n);
        bench.no_such_name(at, (&ingress, &dns()), &name, PTR);
        bench.no_such_name(
            at,
            (&pod("10.244.1.10", "mail"), &dns()),
            "1.0.0.10.in-addr.arpa",
            PTR,
        );
        // The resolver passes on what it is asked, and a node's own resolver all the more.
        let walk = format!("{n}.9.244.10.in-addr.arpa");
        bench.no_such_name(at, (&dns(), &upstream), &walk, PTR);
        bench.no_such_name(at, (&upstream, &dns()), &walk, PTR);
    }
    bench.finish(1e4);
    assert!(bench.findings.is_empty(), "{:?}", bench.findings);
}
