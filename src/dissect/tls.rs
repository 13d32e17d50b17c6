//! TLS 1.0 to 1.3 (and SSL 3.0): the two hellos, across records and segments.
//!
//! Owns the record layer up to the hellos and what they say. Nothing after them is looked at, for it is encrypted or
//! about to be. Doesn't follow upgrades from clear text (STARTTLS), nor SSL 2.0's framing.

#[cfg(test)]
mod tests;

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, TlsRecordType, parse_tls_extension_alpn_content,
    parse_tls_extension_signature_algorithms_content, parse_tls_extension_sni_content,
    parse_tls_extension_unknown, parse_tls_handshake_client_hello,
    parse_tls_handshake_server_hello, parse_tls_record_header,
};

use super::ja4::{Ja4, is_grease};
use super::text::{lower_text, text};
use super::{
    Both, Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, TlsClientHello,
    TlsServerHello, Transaction, buffer,
};

/// TLS over TCP.
pub(super) const TLS: DissectorSpec = DissectorSpec {
    name: "tls",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Tls::default()),
};

const RECORD_HEADER_LEN: usize = 5;
/// The longest record: 2^14 bytes, and 2048 for what encryption adds (RFC 5246 6.2.3).
const MAX_RECORD: u16 = 0x4000 + 2048;
const HANDSHAKE_HEADER_LEN: usize = 4;
/// The longest handshake message gathered.
const MAX_HANDSHAKE: usize = 64 * 1024;
/// Bytes of a flow after which a hello still missing isn't waited for: the capture sees one direction alone.
const PATIENCE: u64 = 4 * MAX_HANDSHAKE as u64;

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FATAL: u8 = 2;

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// The random of a server hello that asks for another client hello (RFC 8446 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const MAX_NAME: usize = 255;
const MAX_PROTOCOLS: usize = 16;

fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let fits = |at: usize, accept: fn(u8) -> bool| data.get(at).is_none_or(|byte| accept(*byte));
    // A handshake record of some version 3.x that begins with a hello.
    let may_be = fits(0, |kind| kind == TlsRecordType::Handshake.0)
        && fits(1, |major| major == 3)
        && fits(2, |minor| minor <= 4)
        && fits(3, |length_high| length_high <= (MAX_RECORD >> 8) as u8)
        && fits(5, |kind| matches!(kind, CLIENT_HELLO | SERVER_HELLO));
    match data.get(3..=5) {
        _ if !may_be => Probe::NotForUs,
        None => Probe::Unsure,
        // The hello goes on in another record: nobody but TLS does that.
        Some([0, 1..=5, _]) => Probe::Certain,
        // Its length is below 2^16, and its own version is 3.x, too (drafts of TLS 1.3 had 0x7f).
        Some(_) => match data.get(6..=9) {
            None => Probe::Unsure,
            Some([0, _, _, 3 | 0x7f]) => Probe::Certain,
            Some(_) => Probe::NotForUs,
        },
    }
}

/// Both directions up to their hellos.
#[derive(Default)]
struct Tls {
    sides: Both<Side>,
    seen: u64,
}

impl Dissector for Tls {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let side = self.sides.of(segment.direction);
        if !side.done {
            if segment.gap > 0 {
                return Progress::Desynced;
            }
            let progress = side.read(segment.data, out);
            let begun = side.begun;
            match progress {
                Progress::More => {}
                // A client tried TLS on somebody who answers otherwise, in plain HTTP, say: nothing was missed.
                Progress::Desynced if !begun && self.sides.of(segment.direction.reverse()).done => {
                    return Progress::Done;
                }
                other => return other,
            }
        }
        self.seen = self.seen.saturating_add(segment.data.len() as u64);
        if self.sides.orig.done && self.sides.resp.done || self.seen > PATIENCE {
            return Progress::Done;
        }
        Progress::More
    }
}

/// One direction's records, up to its hello.
#[derive(Default)]
struct Side {
    /// A record's header, and how many bytes of it have come.
    header: [u8; RECORD_HEADER_LEN],
    header_have: usize,
    /// What the record holds, its length, and how much of it is still to come.
    kind: u8,
    length: u16,
    left: u16,
    /// The handshake message, as far as it has come.
    message: Vec<u8>,
    /// Whether there was a record at all.
    begun: bool,
    done: bool,
}

impl Side {
    fn read(&mut self, data: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut data = data;
        while let [first, rest @ ..] = data
            && !self.done
        {
            if self.left == 0 {
                data = rest;
                if !self.read_header(*first) {
                    return Progress::Desynced;
                }
                continue;
            }
            let (part, rest) = data
                .split_at_checked(self.left.into())
                .unwrap_or((data, &[]));
            let fresh = self.left == self.length;
            self.left = self.left.saturating_sub(part.len() as u16);
            data = rest;
            let progress = match TlsRecordType(self.kind) {
                TlsRecordType::Handshake => self.read_handshake(part, out),
                // A warning (an unknown name, say) may come before the hello; after anything worse none will.
                TlsRecordType::Alert if fresh && *first == FATAL => Progress::Done,
                // Taken up in the middle: the hellos are past.
                TlsRecordType::ApplicationData => Progress::Done,
                _ => Progress::More,
            };
            if progress != Progress::More {
                return progress;
            }
        }
        Progress::More
    }

    /// Takes a byte of a record's header; says whether it may still be one.
    fn read_header(&mut self, byte: u8) -> bool {
        if let Some(slot) = self.header.get_mut(self.header_have) {
            *slot = byte;
        }
        self.header_have = self.header_have.saturating_add(1);
        if self.header_have < RECORD_HEADER_LEN {
            return true;
        }
        self.header_have = 0;
        let Ok((_, header)) = parse_tls_record_header(&self.header) else {
            return false;
        };
        self.kind = header.record_type.0;
        self.length = header.len;
        self.left = header.len;
        let kinds = TlsRecordType::ChangeCipherSpec.0..=TlsRecordType::Heartbeat.0;
        let valid =
            kinds.contains(&self.kind) && header.version.0 >> 8 == 3 && header.len <= MAX_RECORD;
        self.begun |= valid;
        valid
    }

    fn read_handshake(&mut self, part: &[u8], out: &mut Vec<Transaction>) -> Progress {
        let mut part = part;
        while !part.is_empty() && !self.done {
            let header = self.message.first_chunk();
            let wanted = header.map_or(HANDSHAKE_HEADER_LEN, |header| message_len(*header));
            let missing = wanted.saturating_sub(self.message.len());
            let (head, rest) = part.split_at_checked(missing).unwrap_or((part, &[]));
            if !buffer::append(&mut self.message, head, MAX_HANDSHAKE) {
                return Progress::Desynced;
            }
            part = rest;
            let progress = match self.message.first_chunk().copied().map(message_len) {
                Some(length) if length > MAX_HANDSHAKE => Progress::Desynced,
                Some(length) if length == self.message.len() => self.read_message(out),
                _ => Progress::More,
            };
            if progress != Progress::More {
                return progress;
            }
        }
        Progress::More
    }

    /// Understands the message that has come whole.
    fn read_message(&mut self, out: &mut Vec<Transaction>) -> Progress {
        let message = std::mem::take(&mut self.message);
        let Some((&[kind, ..], body)) = message.split_first_chunk::<HANDSHAKE_HEADER_LEN>() else {
            return Progress::Desynced;
        };
        match kind {
            HELLO_REQUEST => return Progress::More,
            CLIENT_HELLO => match client_hello(body) {
                Some(hello) => out.push(Transaction::TlsClient(hello)),
                None => return Progress::Desynced,
            },
            SERVER_HELLO => match parse_tls_handshake_server_hello(body) {
                // The real one follows the client's second try, which says nothing new of the client.
                Ok((_, hello)) if hello.random == RETRY_RANDOM => return Progress::More,
                Ok((_, hello)) => out.push(Transaction::TlsServer(server_hello(&hello))),
                Err(_) => return Progress::Desynced,
            },
            // Taken up in the middle of a handshake.
            _ => return Progress::Done,
        }
        self.done = true;
        Progress::More
    }
}

/// Length of a handshake message, its header included.
fn message_len([_, high, middle, low]: [u8; HANDSHAKE_HEADER_LEN]) -> usize {
    let body = u32::from_be_bytes([0, high, middle, low]);
    usize::try_from(body)
        .unwrap_or(usize::MAX)
        .saturating_add(HANDSHAKE_HEADER_LEN)
}

fn client_hello(body: &[u8]) -> Option<TlsClientHello> {
    let (_, hello) = parse_tls_handshake_client_hello(body).ok()?;
    let ciphers: Vec<u16> = hello.ciphers.iter().map(|cipher| cipher.0).collect();
    let mut kinds = Vec::new();
    let mut sni = None;
    let mut alpn = Vec::new();
    let mut signature_algorithms = Vec::new();
    let mut offered = None;
    for (kind, content) in Extensions(hello.ext.unwrap_or_default()) {
        kinds.push(kind);
        match kind {
            SERVER_NAME if sni.is_none() => {
                if let Ok((_, TlsExtension::SNI(names))) = parse_tls_extension_sni_content(content)
                {
                    sni = names
                        .into_iter()
                        .find(|(kind, _)| *kind == SNIType::HostName);
                }
            }
            ALPN if alpn.is_empty() => {
                if let Ok((_, TlsExtension::ALPN(names))) =
                    parse_tls_extension_alpn_content(content)
                {
                    alpn = names;
                }
            }
            SIGNATURE_ALGORITHMS if signature_algorithms.is_empty() => {
                if let Ok((_, TlsExtension::SignatureAlgorithms(algorithms))) =
                    parse_tls_extension_signature_algorithms_content(content)
                {
                    signature_algorithms = algorithms;
                }
            }
            SUPPORTED_VERSIONS => offered = offered.max(highest_version(content)),
            _ => {}
        }
    }
    let version = offered.unwrap_or(hello.version.0);
    let fingerprint = Ja4 {
        version,
        ciphers: &ciphers,
        extensions: &kinds,
        signature_algorithms: &signature_algorithms,
        first_alpn: alpn.first().copied(),
    };
    Some(TlsClientHello {
        sni: sni.map(|(_, name)| lower_text(name, MAX_NAME)),
        alpn: alpn
            .iter()
            .take(MAX_PROTOCOLS)
            .map(|name| text(name, MAX_NAME))
            .collect(),
        version,
        ja4: fingerprint.fingerprint(),
    })
}

fn server_hello(hello: &tls_parser::TlsServerHelloContents<'_>) -> TlsServerHello {
    let mut version = hello.version.0;
    let mut alpn = None;
    for (kind, content) in Extensions(hello.ext.unwrap_or_default()) {
        match (kind, content) {
            (SUPPORTED_VERSIONS, [high, low]) => version = u16::from_be_bytes([*high, *low]),
            (ALPN, _) => {
                if let Ok((_, TlsExtension::ALPN(names))) =
                    parse_tls_extension_alpn_content(content)
                {
                    alpn = names.first().map(|name| text(name, MAX_NAME));
                }
            }
            _ => {}
        }
    }
    TlsServerHello {
        version,
        cipher: hello.cipher.0,
        alpn,
    }
}

/// The highest version in a client's list (RFC 8446 4.2.1), GREASE aside.
fn highest_version(content: &[u8]) -> Option<u16> {
    let (length, list) = content.split_first()?;
    let list = list.get(..usize::from(*length)).unwrap_or(list);
    let versions = list.chunks_exact(2).filter_map(|pair| pair.try_into().ok());
    versions
        .map(u16::from_be_bytes)
        .filter(|version| !is_grease(*version))
        .max()
}

/// Type and content of each extension in a block, up to the first that is cut.
///
/// The contents are left alone: one that is malformed must not hide the extensions after it.
struct Extensions<'a>(&'a [u8]);

impl<'a> Iterator for Extensions<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, extension) = parse_tls_extension_unknown(self.0).ok()?;
        self.0 = rest;
        match extension {
            TlsExtension::Unknown(TlsExtensionType(kind), content) => Some((kind, content)),
            _ => None,
        }
    }
}
