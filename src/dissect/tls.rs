//! TLS 1.0 to 1.3 (and SSL 3.0): the two hellos, what follows them in clear, and the sizes of the first records after.
//!
//! Owns the record layer, across segments. In clear is a certificate (TLS 1.2 and
//! before); of what is encrypted, sizes and order are all there is. Hellos may come in SSL 2.0's framing, and
//! after an agreement in clear (STARTTLS), which the dissectors of the protocols that have one look for.

mod certificate;
mod records;
mod ssl2;

#[cfg(test)]
mod tests;

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, TlsRecordType, parse_tls_extension_alpn_content,
    parse_tls_extension_signature_algorithms_content, parse_tls_extension_sni_content,
    parse_tls_extension_unknown, parse_tls_handshake_client_hello,
    parse_tls_handshake_server_hello, parse_tls_record_header,
};

pub use certificate::TlsCertificate;
use records::Records;
pub use records::{TlsRecord, TlsRecords};
use ssl2::{Begin, Hello};

use super::ja4::{Ja4, is_grease};
use super::text::{lower_text, text};
use super::{
    Both, Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, TlsClientHello,
    TlsServerHello, Transaction, buffer,
};
use crate::flow::Direction;

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
const CERTIFICATE: u8 = 11;
const FATAL: u8 = 2;
const TLS_1_3: u16 = 0x0304;

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
    if data.first().is_some_and(|byte| ssl2::may_begin(*byte)) {
        return ssl2::probe(segment.direction, data);
    }
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

/// What another protocol goes on as.
pub(super) fn upgraded() -> Box<dyn Dissector> {
    Box::new(Tls {
        upgraded: true,
        ..Tls::default()
    })
}

/// Both directions of a connection.
#[derive(Default)]
struct Tls {
    /// Whether the ends agreed on it in clear.
    upgraded: bool,
    sides: Both<Side>,
    records: Records,
    seen: u64,
    skipped: u64,
    /// The version that the server chose, once it has.
    version: Option<u16>,
    /// What encryption adds to a record, if that is always as much.
    seal: Option<u16>,
}

impl Dissector for Tls {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let before = out.len();
        let progress = self.take(segment, out);
        if self.upgraded {
            for one in out.iter_mut().skip(before) {
                if let Transaction::TlsClient(hello) = one {
                    hello.upgraded = true;
                }
            }
        }
        if progress != Progress::More {
            self.records.flush(out);
        }
        progress
    }

    fn held(&self) -> usize {
        let Both { orig, resp } = &self.sides;
        orig.message
            .capacity()
            .saturating_add(resp.message.capacity())
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        self.records.flush(out);
    }
}

impl Tls {
    fn take(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let answered = self.other(segment).greeted;
        let side = self.sides.of(segment.direction);
        if segment.gap > 0 && !side.skip_gap(segment.gap.into()) {
            // Once both have said hello, sizes are all that is lost.
            if side.greeted && answered {
                return Progress::Done;
            }
            if !side.greeted {
                return Progress::Desynced;
            }
            side.lost = true;
        }
        let mut data = if side.lost { &[] } else { segment.data };
        while let [first, rest @ ..] = data {
            let answered = self.other(segment).greeted;
            let side = self.sides.of(segment.direction);
            if side.left == 0 {
                data = rest;
                match side.read_header(*first, segment.direction) {
                    Header::More => {}
                    Header::Greets(Hello::Client(hello)) => out.push(Transaction::TlsClient(hello)),
                    // Its answer to a client that asks for nothing later: no records of TLS follow.
                    Header::Greets(Hello::Server(hello)) => {
                        out.push(Transaction::TlsServer(hello));
                        return Progress::Done;
                    }
                    Header::Complete => {
                        let (kind, length) = (side.kind, side.length);
                        self.begin_record(segment, kind, length, out);
                    }
                    // A client tried TLS on somebody who answers otherwise, in plain HTTP, say: nothing was missed.
                    Header::Bad if !side.begun && answered => {
                        return Progress::Done;
                    }
                    // Both hellos were seen, and what the rest was doesn't matter.
                    Header::Bad if side.greeted => return Progress::Done,
                    Header::Bad => return Progress::Desynced,
                }
                if self.records.enough() {
                    return Progress::Done;
                }
                continue;
            }
            let (part, rest) = data
                .split_at_checked(side.left.into())
                .unwrap_or((data, &[]));
            let fresh = side.left == side.length;
            side.left = side.left.saturating_sub(part.len() as u16);
            data = rest;
            let progress = self.read_part(segment, part, fresh, out);
            if progress != Progress::More {
                return progress;
            }
        }
        self.seen = self.seen.saturating_add(segment.data.len() as u64);
        let Both { orig, resp } = &self.sides;
        let sealed = orig.sealed && resp.sealed && self.seal.is_none();
        let lost = orig.lost || resp.lost;
        if self.seen > PATIENCE || orig.greeted && resp.greeted && (sealed || lost) {
            return Progress::Done;
        }
        Progress::More
    }

    fn other(&mut self, segment: &Segment<'_>) -> &Side {
        self.sides.of(segment.direction.reverse())
    }

    /// A record's header is complete.
    fn begin_record(
        &mut self,
        segment: &Segment<'_>,
        kind: u8,
        length: u16,
        out: &mut Vec<Transaction>,
    ) {
        let side = self.sides.of(segment.direction);
        match TlsRecordType(kind) {
            // One after a server's wish for another hello changes nothing yet.
            TlsRecordType::ChangeCipherSpec => side.sealed = side.greeted,
            TlsRecordType::ApplicationData => {
                side.sealed = true;
                if let Some(seal) = self.seal {
                    let plain = length.saturating_sub(seal);
                    self.records.note(segment.direction, plain, out);
                }
            }
            _ => {}
        }
    }

    /// A part of a record's content.
    fn read_part(
        &mut self,
        segment: &Segment<'_>,
        part: &[u8],
        fresh: bool,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let version = self.version;
        let side = self.sides.of(segment.direction);
        match TlsRecordType(side.kind) {
            TlsRecordType::Handshake if !side.sealed => {
                let read = side.read_handshake(part, segment, out);
                match read {
                    Ok(None) => Progress::More,
                    Ok(Some(chosen)) => {
                        self.version = Some(chosen.version);
                        self.seal = seal(chosen);
                        side.sealed = chosen.version >= TLS_1_3;
                        Progress::More
                    }
                    Err(progress) => progress,
                }
            }
            TlsRecordType::Alert if !side.sealed && fresh => {
                // A warning (an unknown name, say) may come before the hello; after anything worse none will.
                if part.first() == Some(&FATAL) {
                    return Progress::Done;
                }
                Progress::More
            }
            // Taken up in the middle: the hellos are past.
            TlsRecordType::ApplicationData if !side.greeted && version.is_none() => Progress::Done,
            _ => {
                self.skipped = self.skipped.saturating_add(part.len() as u64);
                Progress::More
            }
        }
    }
}

/// What a server chose.
#[derive(Clone, Copy)]
struct Chosen {
    version: u16,
    cipher: u16,
}

/// What encryption adds to each record: in TLS 1.3 the kind of its content and a tag; before, a tag, and a nonce unless it
/// follows from the number of the record (RFC 7905). Block ciphers add what fills a block, so that nothing can be said.
const fn seal(chosen: Chosen) -> Option<u16> {
    match (chosen.version, chosen.cipher) {
        (TLS_1_3.., 0x1305) => Some(1 + 8),
        (TLS_1_3.., _) => Some(1 + 16),
        (_, 0xcca8..=0xccae) => Some(16),
        // GCM, by key exchange: RSA to DH, then elliptic curves; and CCM.
        (_, 0x009c..=0x00ad | 0xc02b..=0xc032 | 0xc09c..=0xc09f | 0xc0ac | 0xc0ad) => Some(8 + 16),
        _ => None,
    }
}

/// What came of a record header's next byte.
enum Header {
    More,
    Complete,
    /// It was no record's: a hello in the framing of SSL 2.0.
    Greets(Hello),
    Bad,
}

/// One direction's records.
#[derive(Default)]
struct Side {
    /// A record's header (or the fixed part of a hello of SSL 2.0), and how many bytes of it have come.
    header: [u8; ssl2::MOST_FIXED],
    header_have: usize,
    /// What the record holds, its length, and how much of it is still to come.
    kind: u8,
    length: u16,
    left: u16,
    /// The handshake message, as far as it has come.
    message: Vec<u8>,
    /// Bytes of a message to come that nobody wants.
    unwanted: u32,
    /// Whether there was a record at all.
    begun: bool,
    /// Whether it has said hello.
    greeted: bool,
    /// Whether what follows is encrypted.
    sealed: bool,
    /// Whether it is unknown where its records begin.
    lost: bool,
}

impl Side {
    /// Takes a byte of a record's header.
    fn read_header(&mut self, byte: u8, by: Direction) -> Header {
        if let Some(slot) = self.header.get_mut(self.header_have) {
            *slot = byte;
        }
        self.header_have = self.header_have.saturating_add(1);
        let [first, ..] = self.header;
        if !self.begun && ssl2::may_begin(first) {
            return self.read_ssl2(by);
        }
        if self.header_have < RECORD_HEADER_LEN {
            return Header::More;
        }
        self.header_have = 0;
        let Ok((_, header)) = parse_tls_record_header(&self.header) else {
            return Header::Bad;
        };
        self.kind = header.record_type.0;
        self.length = header.len;
        self.left = header.len;
        let kinds = TlsRecordType::ChangeCipherSpec.0..=TlsRecordType::Heartbeat.0;
        let valid =
            kinds.contains(&self.kind) && header.version.0 >> 8 == 3 && header.len <= MAX_RECORD;
        self.begun |= valid;
        if valid { Header::Complete } else { Header::Bad }
    }

    /// The same of a hello of SSL 2.0; the rest of it is passed over as that of a record that nobody reads.
    fn read_ssl2(&mut self, by: Direction) -> Header {
        let have = self.header.get(..self.header_have).unwrap_or(&self.header);
        match ssl2::begin(by, have) {
            Begin::Maybe => Header::More,
            Begin::Other => Header::Bad,
            Begin::Hello(hello, left) => {
                self.header_have = 0;
                self.length = left;
                self.left = left;
                self.begun = true;
                self.greeted = true;
                Header::Greets(hello)
            }
        }
    }

    /// Passes over bytes that the capture lacks; says whether it still knows where it is.
    fn skip_gap(&mut self, gap: u64) -> bool {
        let in_clear = !self.sealed && TlsRecordType(self.kind) == TlsRecordType::Handshake;
        if in_clear || gap > u64::from(self.left) {
            return false;
        }
        self.left = self.left.saturating_sub(gap as u16);
        true
    }

    /// Reads handshake messages. What a server chose, if it did; or how the reading ends.
    fn read_handshake(
        &mut self,
        part: &[u8],
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Result<Option<Chosen>, Progress> {
        let mut part = part;
        let mut chosen = None;
        while !part.is_empty() && chosen.is_none_or(|chosen: Chosen| chosen.version < TLS_1_3) {
            if self.unwanted > 0 {
                let len = usize::try_from(self.unwanted).unwrap_or(usize::MAX);
                let (passed, rest) = part.split_at_checked(len).unwrap_or((part, &[]));
                self.unwanted = self.unwanted.saturating_sub(passed.len() as u32);
                part = rest;
                continue;
            }
            let header = self.message.first_chunk();
            let wanted = header.map_or(HANDSHAKE_HEADER_LEN, |header| message_len(*header));
            let missing = wanted.saturating_sub(self.message.len());
            let (head, rest) = part.split_at_checked(missing).unwrap_or((part, &[]));
            if !buffer::append(&mut self.message, head, MAX_HANDSHAKE) {
                return Err(self.lost());
            }
            part = rest;
            let Some(header) = self.message.first_chunk::<HANDSHAKE_HEADER_LEN>().copied() else {
                continue;
            };
            let length = message_len(header);
            let [kind, ..] = header;
            if self.greeted && kind != CERTIFICATE {
                // After the hello only certificates are of interest.
                self.message.clear();
                self.unwanted = length.saturating_sub(HANDSHAKE_HEADER_LEN) as u32;
            } else if length > MAX_HANDSHAKE {
                return Err(self.lost());
            } else if length == self.message.len() {
                chosen = self.read_message(segment, out)?.or(chosen);
            }
        }
        Ok(chosen)
    }

    /// The messages make no sense, which is a loss only before the hello.
    const fn lost(&self) -> Progress {
        if self.greeted {
            Progress::Done
        } else {
            Progress::Desynced
        }
    }

    /// Understands the message that has come whole.
    fn read_message(
        &mut self,
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Result<Option<Chosen>, Progress> {
        let message = std::mem::take(&mut self.message);
        let Some((&[kind, ..], body)) = message.split_first_chunk::<HANDSHAKE_HEADER_LEN>() else {
            return Err(Progress::Desynced);
        };
        match kind {
            HELLO_REQUEST => return Ok(None),
            CERTIFICATE if self.greeted => {
                let found = certificate::read(body, segment.direction, segment.time);
                out.extend(found.map(Transaction::TlsCertificate));
                return Ok(None);
            }
            CLIENT_HELLO => match client_hello(body) {
                Some(hello) => out.push(Transaction::TlsClient(hello)),
                None => return Err(Progress::Desynced),
            },
            SERVER_HELLO => match parse_tls_handshake_server_hello(body) {
                // The real one follows the client's second try, which says nothing new of the client.
                Ok((_, hello)) if hello.random == RETRY_RANDOM => return Ok(None),
                Ok((_, hello)) => {
                    let hello = server_hello(&hello);
                    let chosen = Chosen {
                        version: hello.version,
                        cipher: hello.cipher,
                    };
                    out.push(Transaction::TlsServer(hello));
                    self.greeted = true;
                    return Ok(Some(chosen));
                }
                Err(_) => return Err(Progress::Desynced),
            },
            // Taken up in the middle of a handshake.
            _ => return Err(Progress::Done),
        }
        self.greeted = true;
        Ok(None)
    }
}

/// Length of a handshake message, its header included.
fn message_len([_, high, middle, low]: [u8; HANDSHAKE_HEADER_LEN]) -> usize {
    let body = u32::from_be_bytes([0, high, middle, low]);
    usize::try_from(body)
        .unwrap_or(usize::MAX)
        .saturating_add(HANDSHAKE_HEADER_LEN)
}

pub(super) fn client_hello(body: &[u8]) -> Option<TlsClientHello> {
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
        ..TlsClientHello::default()
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
