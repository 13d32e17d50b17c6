//! What real tools did, recorded in network namespaces of our own.

use crate::command::spanwatch;

/// OpenConnect against ocserv, both of Debian, over TLS alone, and curl through it; the last request is a larger file.
#[test]
fn an_ssl_vpn_is_known_by_the_packets_inside() {
    let alerts = spanwatch(&["analyze", "tests/it/data/openconnect.pcap"]).json();
    let [alert] = alerts.as_slice() else {
        panic!("{alerts:#?}");
    };
    assert_eq!(alert["signature"], "vpn-tunnel");
    assert_eq!(alert["severity"], "high");
    assert_eq!(alert["actor"]["ip"], "10.244.1.7");
    assert_eq!(alert["targets"][0]["ip"], "198.51.100.20");
}

/// Servers of Debian as they start: a third member joins two of Galera; six of Redis make a cluster; HAProxy asks nine databases
/// every second or two how they are, each product in its own words, and passes sessions on to them.
#[test]
fn clusters_that_form_and_a_load_balancer_are_left_alone() {
    for capture in ["galera", "redis-cluster", "haproxy"] {
        let capture = format!("tests/it/data/{capture}.pcap.gz");
        let run = spanwatch(&[
            "analyze",
            &capture,
            "--inventory",
            "tests/it/data/servers.csv",
        ]);
        assert!(
            run.err.contains("100 % of their private ends named"),
            "{}",
            run.err
        );
        assert_eq!(run.json(), [] as [serde_json::Value; 0], "{capture}");
        let nameless = spanwatch(&["analyze", &capture]).json();
        assert_eq!(nameless, [] as [serde_json::Value; 0], "{capture}");
    }
}
