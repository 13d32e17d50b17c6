//! Probes of protocols over TCP.

use super::super::PROBE_WINDOW;
use super::{
    Probe, Segment, be16, be32, fits, is_kerberos, is_sun_rpc, is_syslog, ldap_operation, on,
    starts, stun_length, sure,
};

pub(super) fn amqp(segment: &Segment<'_>) -> Probe {
    starts(
        segment.data,
        &[b"AMQP\0", b"AMQP\x01", b"AMQP\x02", b"AMQP\x03"],
    )
}

pub(super) fn bittorrent(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"\x13BitTorrent protocol"])
}

/// VNC (RFC 6143 7.1.1).
pub(super) fn rfb(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"RFB 00"])
}

pub(super) fn rsync(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"@RSYNCD: "])
}

/// By when a document has shown that it is a stream.
const XMPP_HEAD: usize = 256;

pub(super) fn xmpp(segment: &Segment<'_>) -> Probe {
    match starts(segment.data, &[b"<stream:stream ", b"<?xml "]) {
        Probe::Certain if segment.data.starts_with(b"<?xml") => {
            if has(head(segment.data, XMPP_HEAD), b"<stream:stream") {
                Probe::Certain
            } else if segment.data.len() < XMPP_HEAD {
                Probe::Unsure
            } else {
                Probe::NotForUs
            }
        }
        verdict => verdict,
    }
}

pub(super) fn zabbix(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"ZBXD\x01", b"ZBXD\x03", b"ZBXD\x05"])
}

pub(super) fn fix(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"8=FIX"])
}

pub(super) fn hl7(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"\x0bMSH|"])
}

pub(super) fn rmi(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"JRMI\0"])
}

pub(super) fn ceph(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"ceph v"])
}

pub(super) fn gearman(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"\0REQ\0\0\0", b"\0RES\0\0\0"])
}

/// RFC 4271 4.1.
pub(super) fn bgp(segment: &Segment<'_>) -> Probe {
    let mark = |byte: u8| byte == 0xff;
    let is: [fn(u8) -> bool; 19] = [
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        mark,
        |byte| byte <= 0x10,
        |_| true,
        |byte| (1..=5).contains(&byte),
    ];
    fits(segment.data, &is)
}

pub(super) fn nats(segment: &Segment<'_>) -> Probe {
    starts(segment.data, &[b"INFO {\"", b"CONNECT {\""])
}

/// RFC 3261 7.
pub(super) fn sip(segment: &Segment<'_>) -> Probe {
    starts(segment.data, SIP)
}

pub(super) const SIP: &[&[u8]] = &[
    b"SIP/2.0 ",
    b"INVITE sip",
    b"REGISTER sip",
    b"OPTIONS sip",
    b"ACK sip",
    b"BYE sip",
    b"CANCEL sip",
    b"SUBSCRIBE sip",
    b"NOTIFY sip",
    b"PUBLISH sip",
    b"MESSAGE sip",
    b"INFO sip",
    b"REFER sip",
    b"PRACK sip",
    b"UPDATE sip",
];

pub(super) fn rtsp(segment: &Segment<'_>) -> Probe {
    let marks: &[&[u8]] = &[
        b"RTSP/1.0 ",
        b"OPTIONS rtsp:",
        b"DESCRIBE rtsp:",
        b"ANNOUNCE rtsp:",
        b"SETUP rtsp:",
        b"PLAY rtsp:",
        b"GET_PARAMETER rtsp:",
        b"SET_PARAMETER rtsp:",
        b"TEARDOWN rtsp:",
    ];
    starts(segment.data, marks)
}

pub(super) fn git(segment: &Segment<'_>) -> Probe {
    let hex = |byte: u8| byte.is_ascii_hexdigit();
    let is: [fn(u8) -> bool; 8] = [
        hex,
        hex,
        hex,
        hex,
        |byte| byte == b'g',
        |byte| byte == b'i',
        |byte| byte == b't',
        |byte| byte == b'-',
    ];
    fits(segment.data, &is)
}

/// Where a server's first line has shown what it is: its name takes 63 characters at most (RFC 2812 1.1).
const IRC_HEAD: usize = 128;

pub(super) fn irc(segment: &Segment<'_>) -> Probe {
    let marks: &[&[u8]] = &[b"NICK ", b"CAP LS", b"NOTICE AUTH ", b"NOTICE * :***"];
    match starts(segment.data, marks) {
        Probe::NotForUs if segment.data.starts_with(b":") => {
            let line = first_line(segment.data);
            let begins = head(line, IRC_HEAD);
            if has(begins, b" NOTICE ") || has(begins, b" 001 ") {
                Probe::Certain
            } else if is_open(segment.data) && line.len() < IRC_HEAD {
                Probe::Unsure
            } else {
                Probe::NotForUs
            }
        }
        verdict => verdict,
    }
}

/// RFC 6587: bare, or after its length.
pub(super) fn syslog(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let digits = data
        .iter()
        .take(6)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let counted = (1..=5).contains(&digits) && data.get(digits).is_none_or(|byte| *byte == b' ');
    let line = if counted {
        data.get(digits.saturating_add(1)..).unwrap_or_default()
    } else {
        data
    };
    match line {
        [] => Probe::Unsure,
        [b'<', ..] if line.len() < 22 && is_open(line) => Probe::Unsure,
        _ => sure(is_syslog(line)),
    }
}

/// Where a name, a value and a time have shown what they are.
const GRAPHITE_HEAD: usize = 256;

/// A line of Graphite's plaintext protocol: a path, a value, and when that was, in seconds since 1970 or -1.
pub(super) fn graphite(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[2003, 2013, 2023]) {
        return Probe::NotForUs;
    }
    let data = head(segment.data, GRAPHITE_HEAD);
    let line = first_line(data);
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r')) {
        return Probe::NotForUs;
    }
    if line.len() == data.len() {
        return if data.len() < GRAPHITE_HEAD {
            Probe::Unsure
        } else {
            Probe::NotForUs
        };
    }
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let (Some(path), Some(value), Some(time), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Probe::NotForUs;
    };
    let number = |word: &[u8]| {
        let text = std::str::from_utf8(word).unwrap_or_default();
        text.parse::<f64>().is_ok()
    };
    let seconds = time == b"-1" || (9..=13).contains(&time.len()) && number(time);
    sure(!path.is_empty() && number(value) && seconds)
}

fn first_line(data: &[u8]) -> &[u8] {
    data.split(|byte| *byte == b'\n').next().unwrap_or(data)
}

/// Whether the first line isn't over yet.
fn is_open(data: &[u8]) -> bool {
    !data.contains(&b'\n') && data.len() < PROBE_WINDOW
}

/// So much of the data. What decides must lie in it, lest a name depend on how much of the data came at once.
fn head(data: &[u8], len: usize) -> &[u8] {
    data.get(..len).unwrap_or(data)
}

fn has(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|window| window == needle)
}

fn has_word(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

/// A server's greeting that names itself or stands on the port, or a client's first command.
fn greeting(
    segment: &Segment<'_>,
    marks: &[&[u8]],
    words: &[&[u8]],
    ports: &[u16],
    commands: &[&[u8]],
) -> Probe {
    match starts(segment.data, marks) {
        Probe::Certain => {
            let line = first_line(segment.data);
            if words.iter().any(|word| has_word(line, word)) {
                Probe::Certain
            } else if is_open(segment.data) {
                Probe::Unsure
            } else {
                sure(on(segment, ports))
            }
        }
        Probe::Unsure => Probe::Unsure,
        Probe::NotForUs => starts(segment.data, commands),
    }
}

/// RFC 5321 4.2.
pub(super) fn smtp(segment: &Segment<'_>) -> Probe {
    let commands: &[&[u8]] = &[b"EHLO ", b"HELO ", b"ehlo ", b"helo "];
    greeting(
        segment,
        &[b"220 ", b"220-"],
        &[b"smtp"],
        &[25, 465, 587, 2525],
        commands,
    )
}

/// RFC 959.
pub(super) fn ftp(segment: &Segment<'_>) -> Probe {
    let users: &[&[u8]] = if on(segment, &[21]) {
        &[b"USER ", b"user ", b"AUTH TLS", b"AUTH SSL"]
    } else {
        &[]
    };
    greeting(
        segment,
        &[b"220 ", b"220-"],
        &[b"ftp", b"filezilla"],
        &[21],
        users,
    )
}

/// RFC 3501 7.1.
pub(super) fn imap(segment: &Segment<'_>) -> Probe {
    greeting(
        segment,
        &[b"* OK ", b"* PREAUTH "],
        &[b"imap"],
        &[143, 220],
        &[],
    )
}

/// RFC 1939.
pub(super) fn pop3(segment: &Segment<'_>) -> Probe {
    let users: &[&[u8]] = if on(segment, &[110]) {
        &[b"USER ", b"user ", b"CAPA\r\n", b"APOP ", b"AUTH\r\n"]
    } else {
        &[]
    };
    greeting(segment, &[b"+OK "], &[b"pop"], &[110], users)
}

/// A command with an option (RFC 854, the highest registered is 49, but for 255).
pub(super) fn telnet(segment: &Segment<'_>) -> Probe {
    let is: [fn(u8) -> bool; 3] = [
        |byte| byte == 0xff,
        |byte| (0xfb..=0xfe).contains(&byte),
        |byte| byte <= 49,
    ];
    fits(segment.data, &is)
}

/// A session message with an SMB of version 1, 2 or 3 (MS-SMB2 2.1).
pub(super) fn smb(segment: &Segment<'_>) -> Probe {
    let is: [fn(u8) -> bool; 8] = [
        |byte| byte == 0,
        |byte| byte <= 1,
        |_| true,
        |_| true,
        |byte| byte >= 0xfc,
        |byte| byte == b'S',
        |byte| byte == b'M',
        |byte| byte == b'B',
    ];
    fits(segment.data, &is)
}

/// A session request and its answers (RFC 1002 4.3).
pub(super) fn netbios_session(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[139]) {
        return Probe::NotForUs;
    }
    let is: [fn(u8) -> bool; 3] = [
        |byte| (0x81..=0x85).contains(&byte),
        |byte| byte <= 1,
        |byte| byte == 0,
    ];
    fits(segment.data, &is)
}

/// A connection request or its confirmation (MS-RDPBCGR 2.2.1.1), told from others in the same envelope by its cookie,
/// its negotiation, or its port.
pub(super) fn rdp(segment: &Segment<'_>) -> Probe {
    let is: [fn(u8) -> bool; 6] = [
        |byte| byte == 3,
        |byte| byte == 0,
        |byte| byte <= 1,
        |byte| byte >= 11,
        |byte| byte >= 6,
        |byte| matches!(byte, 0xe0 | 0xd0),
    ];
    let verdict = fits(segment.data, &is);
    if verdict != Probe::Certain {
        return verdict;
    }
    let length = be16(segment.data, 2).map_or(0, usize::from);
    let Some(message) = segment.data.get(..length) else {
        return Probe::Unsure;
    };
    let negotiates = matches!(message.last_chunk::<8>(), Some([1..=3, _, 8, 0, ..]));
    sure(has(message, b"mstshash=") || negotiates || on(segment, &[3389]))
}

/// A client's first packet (MQTT 5.0 3.1).
pub(super) fn mqtt(segment: &Segment<'_>) -> Probe {
    let Some((0x10, rest)) = segment.data.split_first() else {
        return sure(false);
    };
    let more = rest
        .iter()
        .take(3)
        .take_while(|byte| **byte >= 0x80)
        .count();
    let name = rest.get(more.saturating_add(1)..).unwrap_or_default();
    starts(name, &[b"\0\x04MQTT", b"\0\x06MQIsdp"])
}

pub(super) fn ldap(segment: &Segment<'_>) -> Probe {
    match segment.data {
        [0x30, rest @ ..] if rest.len() < 12 => Probe::Unsure,
        [0x30, ..] => sure(ldap_operation(segment.data).is_some()),
        _ => Probe::NotForUs,
    }
}

/// A connection-oriented message of DCE's remote procedure calls, version 5.
pub(super) fn dcerpc(segment: &Segment<'_>) -> Probe {
    let is: [fn(u8) -> bool; 8] = [
        |byte| byte == 5,
        |byte| byte <= 1,
        |byte| byte <= 19,
        |_| true,
        |byte| matches!(byte, 0 | 0x10),
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 0,
    ];
    fits(segment.data, &is)
}

/// After its length (RFC 4120 7.2.2).
pub(super) fn kerberos(segment: &Segment<'_>) -> Probe {
    match segment.data {
        [0, 0, _, _, 0x6a..=0x6f | 0x74..=0x76 | 0x7e, rest @ ..] if rest.len() < 24 => {
            Probe::Unsure
        }
        [0, 0, _, _, message @ ..] if !message.is_empty() => sure(is_kerberos(message)),
        [0] | [0, 0] | [0, 0, _] | [0, 0, _, _] => Probe::Unsure,
        _ => Probe::NotForUs,
    }
}

pub(super) fn stun(segment: &Segment<'_>) -> Probe {
    match segment.data {
        [0..=0x3f, ..] if segment.data.len() < 8 => Probe::Unsure,
        data => sure(stun_length(data).is_some()),
    }
}

/// Records of a connection whose beginning wasn't captured: a header, and where the record ends another one, if that will
/// be seen. A hello is a beginning, whatever is in it: the other end's answer says whether this is TLS.
pub(super) fn tls_midway(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let is: [fn(u8) -> bool; 5] = [
        |byte| (20..=23).contains(&byte),
        |byte| byte == 3,
        |byte| byte <= 4,
        |byte| byte <= 0x48,
        |_| true,
    ];
    let verdict = fits(data, &is);
    let (Probe::Certain, Some(length)) = (verdict, be16(data, 3)) else {
        return verdict;
    };
    let end = usize::from(length).saturating_add(is.len());
    let handshake = data.first() == Some(&22);
    let message = data.get(is.len());
    if handshake && message.is_none() {
        Probe::Unsure
    } else if length == 0 || handshake && matches!(message, Some(1 | 2)) {
        Probe::NotForUs
    } else if end.saturating_add(is.len()) > PROBE_WINDOW {
        Probe::Certain
    } else {
        fits(data.get(end..).unwrap_or_default(), &is)
    }
}

/// After its length, with the mark of the last fragment (RFC 5531 11).
pub(super) fn sun_rpc(segment: &Segment<'_>) -> Probe {
    match segment.data {
        [0x80, 0, _, _, rest @ ..] if rest.len() < 24 => Probe::Unsure,
        [0x80, 0, _, _, message @ ..] => sure(is_sun_rpc(message)),
        [0x80] | [0x80, 0] | [0x80, 0, _] => Probe::Unsure,
        _ => Probe::NotForUs,
    }
}

/// A client's connection request: protocol 0, nothing seen yet, a time-out.
pub(super) fn zookeeper(segment: &Segment<'_>) -> Probe {
    let zero = |byte: u8| byte == 0;
    let is: [fn(u8) -> bool; 16] = [
        zero,
        zero,
        zero,
        |byte| matches!(byte, 44 | 45),
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        |_| true,
        |_| true,
        |_| true,
        |_| true,
        |_| true,
        |_| true,
    ];
    fits(segment.data, &is)
}

/// A request: length, key, version, number, the client's name.
pub(super) fn kafka(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let is: [fn(u8) -> bool; 8] = [
        |byte| byte == 0,
        |_| true,
        |_| true,
        |_| true,
        |byte| byte == 0,
        |byte| byte <= 100,
        |byte| byte == 0,
        |byte| byte <= 20,
    ];
    let verdict = fits(data, &is);
    if verdict != Probe::Certain {
        return verdict;
    }
    let (Some(length), Some(name)) = (be32(data, 0), be16(data, 12)) else {
        return Probe::Unsure;
    };
    if name == 0 || name > 200 || length < u32::from(name).saturating_add(10) {
        return Probe::NotForUs;
    }
    let text = data.get(14..).unwrap_or_default();
    let text = text.get(..usize::from(name)).unwrap_or(text);
    if !text.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
        Probe::NotForUs
    } else if text.len() < usize::from(name) {
        Probe::Unsure
    } else {
        Probe::Certain
    }
}

pub(super) fn modbus(segment: &Segment<'_>) -> Probe {
    if !on(segment, &[502]) {
        return Probe::NotForUs;
    }
    let is: [fn(u8) -> bool; 6] = [
        |_| true,
        |_| true,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte >= 2,
    ];
    fits(segment.data, &is)
}

pub(super) fn dnp3(segment: &Segment<'_>) -> Probe {
    let is: [fn(u8) -> bool; 3] = [|byte| byte == 5, |byte| byte == 0x64, |byte| byte >= 5];
    fits(segment.data, &is)
}
