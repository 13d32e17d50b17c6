//! Each name by a real first message, through the whole catalogue; logins and their outcome.

use super::super::testing::{any_bytes_return, conversation, probed, segment};
use super::super::{Carrier, FlowDissector, Probe, Progress, Segment};
use super::*;
use crate::flow::Direction::{self, Orig, Resp};

/// What the first message of a flow's end is recognised as, when the other end has begun to speak at the latest.
fn name(
    carrier: Carrier,
    from: Direction,
    (orig_port, resp_port): (u16, u16),
    data: &[u8],
) -> Option<&'static str> {
    let mut flow = FlowDissector::new(carrier);
    for (direction, data) in [(from, data), (from.reverse(), b"\xf0")] {
        let segment = Segment {
            orig_port,
            resp_port,
            ..segment(direction, data)
        };
        flow.feed(&segment, &mut Vec::new());
    }
    flow.app()
}

#[test]
fn streams_are_known_by_their_first_message() {
    let cases: &[(&str, u16, &[u8])] = &[
        ("amqp", 9999, b"AMQP\0\0\x09\x01"),
        ("amqp", 5671, b"AMQP\x03\x01\0\0"),
        ("bittorrent", 51413, b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05"),
        ("rfb", 5901, b"RFB 003.008\n"),
        ("rsync", 873, b"@RSYNCD: 31.0 sha512 md5\n"),
        ("xmpp", 5222, b"<?xml version='1.0'?><stream:stream to='a' xmlns='jabber:client'>"),
        ("zabbix", 10051, b"ZBXD\x01\x1b\0\0\0\0\0\0\0agent.ping"),
        ("nats", 4222, b"CONNECT {\"verbose\":false}\r\nPING\r\n"),
        ("sip", 5060, b"INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/TCP\r\n\r\n"),
        ("rtsp", 554, b"OPTIONS rtsp://camera/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        ("git", 9418, b"0032git-upload-pack /project.git\0host=example.net\0"),
        ("irc", 6667, b"NICK bot\r\nUSER bot 0 * :bot\r\n"),
        ("irc", 7000, b":irc.example.net NOTICE AUTH :*** Looking up your hostname\r\n"),
        ("syslog", 601, b"<34>1 2026-03-02T09:00:00Z host app - - - said something\n"),
        ("syslog", 601, b"60 <34>1 2026-03-02T09:00:00Z host app - - - said something\n"),
        ("graphite", 2003, b"servers.web1.load;dc=a 0.25 1767225600\nservers.web1.free 9 -1\n"),
        ("smtp", 2525, b"220 mail.example.net ESMTP Postfix\r\n"),
        ("smtp", 25, b"220 mail.example.net ready\r\n"),
        ("smtp", 9999, b"EHLO client.example.net\r\n"),
        ("ftp", 2121, b"220 (vsFTPd 3.0.5)\r\n"),
        ("ftp", 21, b"220 Welcome\r\n"),
        ("ftp", 21, b"USER anonymous\r\n"),
        ("imap", 143, b"* OK [CAPABILITY IMAP4rev1] ready\r\n"),
        ("pop3", 110, b"+OK ready\r\n"),
        ("pop3", 9999, b"+OK POP3 server ready <1.2@x>\r\n"),
        ("telnet", 2323, b"\xff\xfd\x18\xff\xfd\x20"),
        ("smb", 445, b"\0\0\0\x45\xffSMB\x72\0\0\0\0"),
        ("smb", 4450, b"\0\0\0\x68\xfeSMB\x40\0\0\0"),
        ("netbios-ssn", 139, b"\x81\0\0\x44\x20CKFDENECFDEFFCFG"),
        ("rdp", 13389, b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0"),
        ("rdp", 3389, b"\x03\0\0\x2c\x27\xe0\0\0\0\0\0Cookie: mstshash=administrator\r\n\x01"),
        ("mqtt", 1883, b"\x10\x16\0\x04MQTT\x04\x02\0\x3c\0\x0aclient-001"),
        ("mqtt", 1883, b"\x10\x94\x01\0\x06MQIsdp\x03\xc2\0\x3c"),
        ("ldap", 3890, b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
        ("dcerpc", 49152, b"\x05\0\x0b\x03\x10\0\0\0\x48\0\0\0\x01\0\0\0"),
        ("rpc", 2049, b"\x80\0\0\x28\x12\x34\x56\x78\0\0\0\0\0\0\0\x02\0\x01\x86\xa3\0\0\0\x04\0\0\0\0\0\0\0\0"),
        ("kafka", 9092, b"\0\0\0\x23\0\x12\0\x03\0\0\0\x01\0\x0aconsumer-1\0\x12apache"),
        ("zookeeper", 2181, b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30\0\0\0\0\0\0\0\0\0\0\0\x10"),
        ("zookeeper", 2888, b"\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\x02\0\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff"),
        ("zookeeper", 3888, b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x01\0\0\0\x11\x31\x30"),
        ("dask", 8786, b"\x3a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0\x83\xabcompression\xc0\xa6python"),
        ("modbus", 502, b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x0a"),
        ("tls", 443, b"\x17\x03\x03\0\x04abcd\x17\x03\x03\0\x40abcd"),
        ("stun", 3478, b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl"),
        ("ajp13", 8009, b"\x12\x34\0\x01\x0a"),
        ("drda", 50000, b"\0\x89\xd0\x41\0\x01\0\x83\x10\x41\0\x39"),
        ("thrift", 9090, b"\x80\x01\0\x01\0\0\0\x08get_cart\0\0\0\x01"),
        ("thrift", 9160, b"\0\0\0\x15\x80\x01\0\x01\0\0\0\x08get_cart\0\0\0\x01"),
        ("iec104", 2404, b"\x68\x04\x07\0\0\0"),
        ("nntp", 119, b"MODE READER\r\n"),
        ("rtmp", 1935, b"\x03\0\0\0\x01\0\0\0\0abcdef"),
        ("synphasor", 4712, b"\xaa\x41\0\x12\0\x01"),
        ("hislip", 4880, b"HS\0\0\0\0\x01\0"),
        ("h323", 1720, b"\x03\0\0\x40\x08\x02\0\x01\x05"),
        ("rtsp", 8554, b"GET_PARAMETER rtsp://camera/1 RTSP/1.0\r\n\r\n"),
    ];
    for (expected, port, data) in cases {
        assert_eq!(
            name(Carrier::Tcp, Orig, (40_000, *port), data),
            Some(*expected),
            "{}",
            data.escape_ascii()
        );
    }
}

#[test]
fn servers_that_speak_first() {
    let cases: &[(&str, u16, &[u8])] = &[
        (
            "nats",
            4222,
            b"INFO {\"server_id\":\"NA\",\"version\":\"2.10.4\"} \r\n",
        ),
        ("pop3", 110, b"+OK ready\r\n"),
        ("pop3", 9999, b"+OK POP3 server ready <1.2@x>\r\n"),
        ("smtp", 2525, b"220 mail.example.net ESMTP Postfix\r\n"),
        ("telnet", 2323, b"\xff\xfd\x18\xff\xfd\x20"),
        ("rfb", 5901, b"RFB 003.008\n"),
        (
            "ldap",
            3890,
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\0\x04\0",
        ),
    ];
    for (expected, port, data) in cases {
        let found = name(Carrier::Tcp, Resp, (40_000, *port), data);
        assert_eq!(found, Some(*expected), "{}", data.escape_ascii());
    }
}

#[test]
fn datagrams_are_known_by_themselves() {
    let mut dhcp = vec![1, 1, 6, 0];
    dhcp.resize(236, 0);
    dhcp.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let ntp = [&[0x23][..], &[0; 47]].concat();
    let ethereum = [&[7; 97][..], &[1, 0xdf], &[0; 30]].concat();
    let ptp = [&[0x0b, 2, 0, 34][..], &[0; 30]].concat();
    let dcerpc = [&[4, 0, 0x20, 0, 0x10, 0, 0][..], &[1; 80]].concat();
    let cases: &[(&str, (u16, u16), &[u8])] = &[
        (
            "stun",
            (40_000, 3478),
            b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl",
        ),
        (
            "dtls",
            (40_000, 4433),
            b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x04abcd",
        ),
        (
            "anyconnect",
            (40_000, 443),
            b"\x16\x01\0\0\0\0\0\0\0\0\0\0\x04abcd",
        ),
        ("dhcp", (68, 67), &dhcp),
        ("dhcpv6", (546, 547), b"\x01\x10\x08\x74\0\x01\0\x0e"),
        ("ntp", (123, 123), &ntp),
        (
            "ssdp",
            (50_000, 1900),
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n",
        ),
        (
            "sip",
            (5060, 5060),
            b"REGISTER sip:example.net SIP/2.0\r\n\r\n",
        ),
        (
            "snmp",
            (40_000, 1161),
            b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x01",
        ),
        (
            "ldap",
            (40_000, 389),
            b"\x30\x25\x02\x01\x01\x63\x20\x04\0\x0a\x01\0",
        ),
        (
            "nbns",
            (137, 137),
            b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x20CKAAAAAA",
        ),
        ("netbios-dgm", (138, 138), b"\x11\x0a\x12\x34\x0a\0\0\x01"),
        ("radius", (40_000, 1812), b"\x01\x05\0\x14abcdefghijklmnop"),
        (
            "bittorrent",
            (6881, 6881),
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping",
        ),
        ("vxlan", (40_000, 4789), b"\x08\0\0\0\0\0\x64\0abcdef"),
        ("coap", (40_000, 5683), b"\x40\x01\x30\x39\xb3rd"),
        ("tftp", (40_000, 69), b"\0\x01pxelinux.0\0octet\0"),
        ("statsd", (40_000, 8125), b"cart.requests:1|c"),
        (
            "ssdp",
            (50_000, 60_000),
            b"HTTP/1.1 200 OK\r\nst: upnp:rootdevice\r\nUSN: uuid:1\r\n\r\n",
        ),
        (
            "srvloc",
            (50_000, 427),
            b"\x02\x09\0\0\x1d\0\0\0\0\0\x9d\xf6\0\x02en\0\0\xff\xff\0\x07DEFAULT",
        ),
        ("ethereum", (30_303, 30_303), &ethereum),
        (
            "oicq",
            (50_000, 8000),
            b"\x02\x3b\x0b\0\x01\0\x17\x56\x1f\x03",
        ),
        (
            "dropbox",
            (50_000, 17_500),
            b"{\"host_int\": 1, \"version\": [2, 0]}",
        ),
        (
            "collectd",
            (50_000, 25_826),
            b"\0\0\0\x09host\0\0\x08\0\x0c",
        ),
        ("ubiquiti", (50_000, 10_001), b"\x01\0\0\x02ab"),
        ("hsrp", (1985, 1985), b"\0\0\x10\x03\x0a\x64\x01\0cisco"),
        ("rip", (520, 520), b"\x02\x02\0\0\0\x02\0\0"),
        ("synphasor", (40_000, 4712), b"\xaa\x01\0\x12\0\x01"),
        ("lisp", (4342, 4342), b"\x31\x10\x02\x01abcdefghijklmno"),
        ("ldp", (646, 646), b"\0\x01\0\x0e\x0a\0\0\x01\0\0"),
        ("dlep", (40_000, 854), b"DLEP\0\x01\0\x04"),
        ("babel", (6696, 6696), b"\x2a\x02\0\x08\x04\x06\0\0"),
        ("ptp", (320, 320), &ptp),
        ("mgcp", (2427, 2427), b"RSIP 1 *@gateway MGCP 1.0\r\n"),
        ("mgcp", (2427, 2427), b"200 1 ok\r\n"),
        ("netflow", (40_000, 2055), b"\0\x09\0\x01abcdefghijklmn"),
        (
            "raknet",
            (40_000, 40_001),
            b"\x05\0\xff\xff\0\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78\x06",
        ),
        ("dcerpc", (49_155, 34_964), &dcerpc),
        ("thrift", (40_000, 6831), b"\x82\x81\x01\x09emitBatch\x1c"),
        (
            "syslog",
            (40_000, 514),
            b"<13>Mar  2 09:00:00 host app: hello",
        ),
        ("rtcp", (5005, 5005), b"\x80\xc9\0\x01\x12\x34\x56\x78"),
        (
            "mdns",
            (5353, 5353),
            b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01",
        ),
        (
            "llmnr",
            (50_000, 5355),
            b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x04host\0\0\x01\0\x01",
        ),
        (
            "dns",
            (50_000, 53),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x01b\0\0\x01\0\x01",
        ),
    ];
    for (expected, ports, data) in cases {
        assert_eq!(
            name(Carrier::Udp, Orig, *ports, data),
            Some(*expected),
            "{}",
            data.escape_ascii()
        );
    }
}

#[test]
fn look_alikes_stay_unknown() {
    let late = [&b":"[..], &[b'a'; 150], b" 001 somebody\r\n"].concat();
    let document = [
        &b"<?xml version='1.0'?>"[..],
        &[b' '; 256],
        b"<stream:stream ",
    ]
    .concat();
    let cases: &[&[u8]] = &[
        b"220 volts\r\n",
        b"$ ",
        b"<html>\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        b"* OK so what\r\n",
        b"\x03\0\0\x16\x11\xe0\0\0\0\x01\0\xc1\x02\x01\0\xc2\x02\x01\x02\xc0\x01\x0a",
        b"\x17\x03\x03\0\x04abcdefgh",
        &late,
        &document,
        b"\x30\x82\x01\x0a\x02\x82\x01\x01\0\xc2\x5f\x11",
        b"\0\0\0\x23\0\x12\0\x03\0\0\0\x01\0\x0a\xff\xfe\xfd\xfc\xfb\xfa",
    ];
    for data in cases {
        assert_eq!(
            name(Carrier::Tcp, Orig, (40_000, 7777), data),
            None,
            "{}",
            data.escape_ascii()
        );
    }
}

#[test]
fn probes_keep_their_word_and_survive_anything() {
    for spec in PROTOCOLS {
        any_bytes_return(spec.build, spec.probe);
    }
    for spec in PROTOCOLS.iter().filter(|spec| spec.carrier == Carrier::Tcp) {
        for data in [
            &b"220-hello\r\n220 ESMTP\r\n"[..],
            b"<?xml version='1.0'?>\n<stream:stream a='b'>",
            b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
            b"\0\0\0\x23\0\x12\0\x03\0\0\0\x01\0\x0aconsumer-1\0\x12apache",
            b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
            b"\x17\x03\x03\0\x04abcd\x17\x03\x03\0\x40abcd",
            b"60 <34>1 2026-03-02T09:00:00Z host app - - - said something",
            b"\x80\0\0\x28\x12\x34\x56\x78\0\0\0\0\0\0\0\x02\0\x01\x86\xa3\0\0\0\x04\0\0\0\0",
            b"\0\0\x01\x02\x6a\x81\xff\x30\x81\xfc\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa3\x81\x01\x02\x03",
        ] {
            probed(spec.probe, Orig, data);
        }
    }
    assert_eq!(
        probed(streams::ftp, Orig, b"220-hello\r\n"),
        Probe::NotForUs
    );
}

fn logins(protocol: &str, turns: &[(Direction, &[u8])]) -> Vec<String> {
    let spec = PROTOCOLS
        .iter()
        .find(|spec| spec.name == protocol && spec.carrier == Carrier::Tcp)
        .unwrap();
    let told = conversation(spec.build, turns);
    assert!(told.iter().all(|line| !line.contains("s3cret")), "{told:?}");
    told
}

#[test]
fn text_logins_and_their_outcome() {
    let told = logins(
        "smtp",
        &[
            (Resp, b"220 mail ESMTP\r\n"),
            (Orig, b"EHLO x\r\n"),
            (Resp, b"250-mail\r\n250 AUTH PLAIN\r\n"),
            (Orig, b"AUTH PLAIN AHVzZXIAczNjcmV0\r\n"),
            (Resp, b"535 5.7.8 Error: authentication failed\r\n"),
        ],
    );
    assert_eq!(
        told,
        ["Login(Login { protocol: \"smtp\", user: None, success: false, code: Some(\"535\") })"]
    );
    let told = logins(
        "imap",
        &[
            (Resp, b"* OK IMAP4 ready\r\n"),
            (Orig, b"a1 LOGIN \"bob\" \"s3cret\"\r\n"),
            (
                Resp,
                b"* CAPABILITY IMAP4\r\na1 NO [AUTHENTICATIONFAILED] no\r\n",
            ),
            (Orig, b"a2 login bob s3cret\r\n"),
            (Resp, b"a2 OK Logged in\r\n"),
        ],
    );
    assert_eq!(told.len(), 3);
    assert!(told[0].contains("\"bob\"") && told[0].contains("success: false"));
    assert!(told[1].contains("success: true"));
    let told = logins(
        "pop3",
        &[
            (Resp, b"+OK POP3\r\n"),
            (Orig, b"USER bob\r\n"),
            (Resp, b"+OK\r\n"),
            (Orig, b"PASS s3cret\r\n"),
            (Resp, b"-ERR [AUTH] failed\r\n"),
        ],
    );
    assert_eq!(
        told,
        [
            "Login(Login { protocol: \"pop3\", user: Some(\"bob\"), success: false, code: Some(\"-ERR\") })"
        ]
    );
}

/// A protocol, and the turns of a conversation.
type Said = (&'static str, &'static [(Direction, &'static [u8])]);

/// The end of what is said in clear, and that it is: agreed on, or begun after it was asked for.
#[test]
fn what_goes_on_as_tls_is_handed_over() {
    let cases: &[Said] = &[
        (
            "smtp",
            &[(Orig, b"STARTTLS\r\n"), (Resp, b"220 Go ahead\r\n")],
        ),
        ("pop3", &[(Orig, b"stls\r\n"), (Resp, b"+OK Begin\r\n")]),
        // What was asked before is answered first.
        (
            "imap",
            &[
                (Orig, b"1 CAPABILITY\r\n2 STARTTLS\r\n"),
                (
                    Resp,
                    b"* CAPABILITY IMAP4rev1\r\n1 OK done\r\n2 OK Begin\r\n",
                ),
            ],
        ),
        (
            "smtp",
            &[
                (Orig, b"EHLO h\r\nSTARTTLS\r\n"),
                (Resp, b"250-h\r\n250 STARTTLS\r\n220 Go ahead\r\n"),
            ],
        ),
        // The answer wasn't seen, or comes later.
        ("imap", &[(Orig, b"1 STARTTLS\r\n"), (Orig, b"\x16")]),
        (
            "ldap",
            &[
                (Orig, START_TLS),
                (Resp, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0"),
                (Orig, b"\x16"),
            ],
        ),
    ];
    for (protocol, turns) in cases {
        assert_eq!(logins(protocol, turns), ["starts tls"], "{protocol}");
    }
    let cases: &[Said] = &[
        (
            "smtp",
            &[(Orig, b"STARTTLS\r\n"), (Resp, b"454 Not now\r\n220 h\r\n")],
        ),
        (
            "pop3",
            &[(Orig, b"STLS\r\n"), (Resp, b"-ERR no\r\n+OK\r\n")],
        ),
        (
            "imap",
            &[(Orig, b"1 STARTTLS\r\n"), (Resp, b"1 BAD no\r\n1 OK\r\n")],
        ),
        ("imap", &[(Orig, b"\x16\x03\x01\r\n")]),
        (
            "ldap",
            &[
                (Orig, START_TLS),
                (
                    Resp,
                    b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\0\x04\0",
                ),
            ],
        ),
    ];
    for (protocol, turns) in cases {
        assert_eq!(logins(protocol, turns), [""; 0], "{protocol}");
    }
}

const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

#[test]
fn directory_logins_and_their_outcome() {
    let bind = b"\x30\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x0ecn=admin,dc=ex\x80\x06s3cret";
    let told = logins(
        "ldap",
        &[
            (Orig, bind),
            (
                Resp,
                b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\0\x04\0",
            ),
            (Orig, bind),
            (
                Resp,
                b"\x30\x84\0\0\0\x10\x02\x01\x02\x61\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0",
            ),
            (Orig, b"\x30\x05\x02\x01\x03\x42\0"),
        ],
    );
    assert_eq!(
        told,
        [
            "Login(Login { protocol: \"ldap\", user: Some(\"cn=admin,dc=ex\"), success: false, code: Some(\"49\") })",
            "Login(Login { protocol: \"ldap\", user: Some(\"cn=admin,dc=ex\"), success: true, code: Some(\"0\") })",
        ]
    );
}

#[test]
fn long_lines_and_long_sessions_stay_bounded() {
    let mut pop3 = logins::Text::new("pop3");
    let line = vec![b'x'; 10_000];
    let mut fed = 0;
    while pop3.feed(&segment(Orig, &line), &mut Vec::new()) == Progress::More {
        fed += 1;
    }
    assert_eq!(fed, 256 * 1024 / 10_000);
}

/// Media packets of one source, by their numbers and times; and what comes of the same without order.
#[test]
fn media_are_known_by_what_follows() {
    let packet = |number: u16, time: u32, source: u32| {
        let mut data = vec![0x80, 0x60];
        data.extend(number.to_be_bytes());
        data.extend(time.to_be_bytes());
        data.extend(source.to_be_bytes());
        data.extend([7; 160]);
        data
    };
    let told = |packets: &[Vec<u8>]| {
        let mut flow = FlowDissector::new(Carrier::Udp);
        let mut out = Vec::new();
        for data in packets {
            let segment = Segment {
                orig_port: 40_000,
                resp_port: 5004,
                ..segment(Orig, data)
            };
            flow.feed(&segment, &mut out);
        }
        let app = flow.app();
        flow.finish(&mut out);
        (app, out.len())
    };
    let call = [packet(65_535, 1, 9), packet(0, 161, 9)];
    assert_eq!(told(&call), (Some("rtp"), 0));
    assert_eq!(told(&call[..1]), (None, 1));
    let noise: Vec<Vec<u8>> = (1..20)
        .map(|n: u16| packet(n * 999, 5, u32::from(n) * 7))
        .collect();
    assert_eq!(told(&noise), (None, 1));
}
