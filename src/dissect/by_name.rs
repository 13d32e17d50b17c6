//! Protocols that are known by name only: a probe each, and nothing after it. They tell ordinary traffic from unknown.
//!
//! A probe asks for a mark that other protocols don't have in that place. Where a protocol has no mark of its own, its
//! port must agree. The table's order is that of probing: the surest and those with the longest marks first.

mod clusters;
mod datagrams;
mod logins;
mod media;
mod places;
mod streams;
#[cfg(test)]
mod tests;

pub use logins::Login;
pub(super) use logins::TLS_HANDSHAKE;

use super::{Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, Transaction};

/// The table, after the dissectors proper.
pub(super) const PROTOCOLS: &[DissectorSpec] = &[
    tcp("amqp", streams::amqp),
    tcp("bittorrent", streams::bittorrent),
    tcp("rfb", streams::rfb),
    tcp("rsync", streams::rsync),
    tcp("xmpp", streams::xmpp),
    tcp("zabbix", streams::zabbix),
    tcp("fix", streams::fix),
    tcp("hl7", streams::hl7),
    tcp("rmi", streams::rmi),
    tcp("ceph", streams::ceph),
    tcp("gearman", streams::gearman),
    tcp("bgp", streams::bgp),
    tcp("nats", streams::nats),
    tcp("sip", streams::sip),
    tcp("rtsp", streams::rtsp),
    tcp("git", streams::git),
    tcp("irc", streams::irc),
    tcp("syslog", streams::syslog),
    tcp("graphite", streams::graphite),
    reading("smtp", streams::smtp, || {
        Box::new(logins::Text::new("smtp"))
    }),
    reading("ftp", streams::ftp, || Box::new(super::ftp::Ftp::default())),
    reading("imap", streams::imap, || {
        Box::new(logins::Text::new("imap"))
    }),
    reading("pop3", streams::pop3, || {
        Box::new(logins::Text::new("pop3"))
    }),
    tcp("telnet", streams::telnet),
    tcp("smb", streams::smb),
    tcp("netbios-ssn", streams::netbios_session),
    tcp("rdp", streams::rdp),
    tcp("mqtt", streams::mqtt),
    reading("ldap", streams::ldap, || Box::new(logins::Ldap::default())),
    tcp("dcerpc", streams::dcerpc),
    tcp("kerberos", streams::kerberos),
    tcp("stun", streams::stun),
    tcp("tls", streams::tls_midway),
    tcp("rpc", streams::sun_rpc),
    tcp("zookeeper", streams::zookeeper),
    tcp("zookeeper", clusters::zookeeper),
    tcp("dask", clusters::dask),
    tcp("kafka", streams::kafka),
    tcp("modbus", streams::modbus),
    tcp("dnp3", streams::dnp3),
    tcp("ajp13", places::ajp),
    tcp("drda", places::drda),
    tcp("thrift", places::thrift),
    tcp("iec104", places::iec104),
    tcp("nntp", places::nntp),
    tcp("rtmp", places::rtmp),
    tcp("h323", places::h323),
    tcp("synphasor", places::synphasor),
    tcp("hislip", places::hislip),
    super::socks::SOCKS,
    udp("stun", datagrams::stun),
    udp("dtls", datagrams::dtls),
    udp("anyconnect", datagrams::anyconnect),
    udp("dhcp", datagrams::dhcp),
    udp("dhcpv6", datagrams::dhcpv6),
    udp("ntp", datagrams::ntp),
    udp("ssdp", datagrams::ssdp),
    udp("sip", datagrams::sip),
    udp("snmp", datagrams::snmp),
    udp("ldap", datagrams::ldap),
    udp("kerberos", datagrams::kerberos),
    udp("nbns", datagrams::netbios_names),
    udp("netbios-dgm", datagrams::netbios_datagrams),
    udp("radius", datagrams::radius),
    udp("bittorrent", datagrams::bittorrent),
    udp("vxlan", datagrams::vxlan),
    udp("geneve", datagrams::geneve),
    udp("gtp", datagrams::gtp),
    udp("coap", datagrams::coap),
    udp("tftp", datagrams::tftp),
    udp("rpc", datagrams::sun_rpc),
    udp("bacnet", datagrams::bacnet),
    udp("ws-discovery", datagrams::ws_discovery),
    udp("statsd", datagrams::statsd),
    udp("srvloc", places::service_location),
    udp("ethereum", places::ethereum),
    udp("oicq", places::oicq),
    udp("dropbox", places::dropbox),
    udp("collectd", places::collectd),
    udp("ubiquiti", places::ubiquiti),
    udp("hsrp", places::hsrp),
    udp("rip", places::rip),
    udp("babel", places::babel),
    udp("ptp", places::ptp),
    udp("mgcp", places::mgcp),
    udp("netflow", places::netflow),
    udp("raknet", places::raknet),
    udp("synphasor", places::synphasor),
    udp("lisp", places::locator),
    udp("ldp", places::label_distribution),
    udp("dlep", places::dlep),
    udp("dcerpc", places::dcerpc_datagram),
    udp("thrift", places::thrift_datagram),
    udp("syslog", datagrams::syslog),
    udp("rtcp", datagrams::rtcp),
    DissectorSpec {
        name: "rtp",
        carrier: Carrier::Udp,
        probe: datagrams::rtp,
        build: || Box::new(media::Rtp::default()),
    },
];

type ProbeFn = fn(&Segment<'_>) -> Probe;

const fn tcp(name: &'static str, probe: ProbeFn) -> DissectorSpec {
    reading(name, probe, done)
}

const fn reading(
    name: &'static str,
    probe: ProbeFn,
    build: fn() -> Box<dyn Dissector>,
) -> DissectorSpec {
    DissectorSpec {
        name,
        carrier: Carrier::Tcp,
        probe,
        build,
    }
}

const fn udp(name: &'static str, probe: ProbeFn) -> DissectorSpec {
    DissectorSpec {
        name,
        carrier: Carrier::Udp,
        probe,
        build: done,
    }
}

/// The state of a flow of which nothing but its name is wanted.
pub(super) fn done() -> Box<dyn Dissector> {
    Box::new(Done)
}

struct Done;

impl Dissector for Done {
    fn only_names(&self) -> bool {
        true
    }

    fn feed(&mut self, _: &Segment<'_>, _: &mut Vec<Transaction>) -> Progress {
        Progress::Done
    }
}

/// For what is told by bytes that are all here.
const fn sure(is: bool) -> Probe {
    if is { Probe::Certain } else { Probe::NotForUs }
}

/// Whether a stream starts with one of some marks.
fn starts(data: &[u8], marks: &[&[u8]]) -> Probe {
    if marks.iter().any(|mark| data.starts_with(mark)) {
        Probe::Certain
    } else if marks.iter().any(|mark| mark.starts_with(data)) {
        Probe::Unsure
    } else {
        Probe::NotForUs
    }
}

/// Whether a stream's first bytes fit, one check a byte; unsure as long as those that are here do.
fn fits(data: &[u8], checks: &[fn(u8) -> bool]) -> Probe {
    let wrong = data.iter().zip(checks).any(|(byte, check)| !check(*byte));
    if wrong {
        Probe::NotForUs
    } else if data.len() < checks.len() {
        Probe::Unsure
    } else {
        Probe::Certain
    }
}

/// Whether one of the flow's ports is one of some.
fn on(segment: &Segment<'_>, ports: &[u16]) -> bool {
    ports.contains(&segment.orig_port) || ports.contains(&segment.resp_port)
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    let &bytes = data.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(bytes))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    let &bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(bytes))
}

/// A length in ASN.1's basic encoding, and how many bytes tell it.
fn definite_length(data: &[u8]) -> Option<(usize, usize)> {
    let (&first, rest) = data.split_first()?;
    let more = match first {
        0..=0x7f => return Some((first.into(), 1)),
        0x81..=0x84 => usize::from(first & 0x0f),
        _ => return None,
    };
    let bytes = rest.get(..more)?;
    let length = bytes.iter().fold(0_u32, |length, byte| {
        length.wrapping_shl(8) | u32::from(*byte)
    });
    Some((length as usize, more.saturating_add(1)))
}

/// The content of an element with this tag, as far as it is here, and what follows it.
fn element(data: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = data.split_first()?;
    let (length, told) = definite_length(rest)?;
    let rest = rest.get(told..)?;
    (first == tag).then(|| rest.split_at_checked(length).unwrap_or((rest, &[])))
}

/// The tag of an LDAP message's operation (RFC 4511 4.1.1), and the rest of it.
fn ldap_operation(data: &[u8]) -> Option<(u8, &[u8])> {
    let (message, _) = element(data, 0x30)?;
    let (id, rest) = element(message, 2)?;
    let known = |tag: u8| matches!(tag, 0x42 | 0x4a | 0x50 | 0x60..=0x79);
    let tag = *rest.first()?;
    ((1..=4).contains(&id.len()) && known(tag)).then_some((tag, rest))
}

/// The tag of a Kerberos message (RFC 4120 5.10).
fn is_kerberos(data: &[u8]) -> bool {
    matches!(data.first(), Some(0x6a..=0x6f | 0x74..=0x76 | 0x7e))
        && data
            .first()
            .and_then(|tag| element(data, *tag))
            .is_some_and(|(content, _)| {
                element(content, 0x30).is_some_and(|(fields, _)| {
                    // The version, 5, stands first.
                    fields.windows(3).take(8).any(|window| window == [2, 1, 5])
                })
            })
}

/// A call or a reply of Sun's remote procedure calls (RFC 5531 9).
fn is_sun_rpc(data: &[u8]) -> bool {
    match (be32(data, 4), be32(data, 8)) {
        (Some(0), Some(2)) => {
            be32(data, 12).is_some_and(|program| (100_000..0x6000_0000).contains(&program))
        }
        // Accepted, with an empty or small verifier.
        (Some(1), Some(0)) => {
            be32(data, 12).is_some_and(|flavour| flavour <= 6)
                && be32(data, 16).is_some_and(|length| length <= 400)
                && data.len() >= 24
        }
        _ => false,
    }
}

/// A STUN message by its cookie (RFC 8489 5), and the length of its attributes.
fn stun_length(data: &[u8]) -> Option<usize> {
    let length = usize::from(be16(data, 2)?);
    let is = matches!(data.first(), Some(0..=0x3f))
        && be32(data, 4)? == 0x2112_a442
        && length.is_multiple_of(4);
    is.then_some(length)
}

/// A log line's priority (RFC 5424 6.2.1) and some text.
fn is_syslog(data: &[u8]) -> bool {
    let Some(rest) = data.strip_prefix(b"<") else {
        return false;
    };
    let digits = rest
        .iter()
        .take(4)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (1..=3).contains(&digits)
        && rest.get(digits) == Some(&b'>')
        && rest.get(digits.saturating_add(1)..).is_some_and(|text| {
            text.iter()
                .take(16)
                .all(|byte| matches!(byte, b' '..=b'~' | 0xef | 0xbb | 0xbf))
        })
}
