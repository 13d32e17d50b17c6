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
