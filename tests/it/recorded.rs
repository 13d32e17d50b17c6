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

/// `openssl s_client -starttls` against vsftpd, Postfix, Dovecot, slapd, Prosody, PostgreSQL and MariaDB, all of Debian.
#[test]
fn what_servers_agree_on_in_clear_is_read_as_tls() {
    let capture = "tests/it/data/starttls.pcap.gz";
    let said = spanwatch(&["flows", "--quiet", "--messages", capture]).json();
    for app in [
        "ftp",
        "smtp",
        "pop3",
        "imap",
        "ldap",
        "xmpp",
        "postgresql",
        "mysql",
    ] {
        let tls: Vec<_> = said
            .iter()
            .filter(|message| message["app"] == app)
            .filter(|message| message.get("database").is_none())
            .collect();
        let [client, server, certificate] = tls.as_slice() else {
            panic!("{app}: {tls:#?}");
        };
        assert_eq!(client["tls_client"]["sni"], "mail.shop.example", "{app}");
        let ja4 = "t12d280700_d943125447b4_e7e480e5a997";
        assert_eq!(client["tls_client"]["ja4"], ja4, "{app}");
        assert_eq!(server["tls_server"]["version"], "TLS 1.2", "{app}");
        let shown = &certificate["tls_certificate"]["subject"];
        assert_eq!(shown, "mail.shop.example", "{app}");
    }
    assert_eq!(
        spanwatch(&["analyze", capture]).json(),
        [] as [serde_json::Value; 0]
    );
}

/// BIND's primary tells its secondary that a zone has changed, at its start and after nsupdate, and the secondary fetches it;
/// then dig asks for the same, which nobody asked it to.
#[test]
fn a_zone_is_fetched_by_who_was_asked_to_and_by_who_was_not() {
    let capture = "tests/it/data/zone-transfers.pcap.gz";
    let alerts = spanwatch(&["analyze", capture]).json();
    let [alert] = alerts.as_slice() else {
        panic!("{alerts:#?}");
    };
    assert_eq!(alert["signature"], "service-enumeration");
    assert_eq!(alert["actor"]["ip"], "10.244.1.7");
    assert_eq!(alert["targets"][0]["domain"], "shop.example");
}
