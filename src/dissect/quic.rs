//! QUIC (RFC 9000, RFC 9369): the client's hello, which its first packets hide from nobody.
//!
//! Initial packets are encrypted with keys that follow from the connection's id (RFC 9001 5.2), so whoever sees the first
//! can open them; that they open also proves that this is QUIC. Versions 1 and 2 and the later drafts are read, Google's own
//! is known by name. After the hello all else is hidden.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey, quic};
use ring::hkdf;

use super::{
    Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, TlsClientHello, Transaction, tls,
};

/// QUIC, which is HTTP/3 mostly.
pub(super) const QUIC: DissectorSpec = DissectorSpec {
    name: "quic",
    carrier: Carrier::Udp,
    probe,
    build: || Box::new(Quic::default()),
};

/// Packets that are tried to be opened; a hello takes one to three.
const MAX_TRIES: u8 = 8;
/// Datagrams after which a hello still missing isn't waited for.
const MAX_DATAGRAMS: u8 = 16;
/// The longest hello, post-quantum keys included.
const MAX_HELLO: usize = 8 * 1024;
/// Pieces that a hello may come in.
const MAX_PIECES: usize = 64;
const MAX_ID: usize = 20;
/// Packets in one datagram.
const MAX_COALESCED: usize = 4;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;

/// What differs between versions.
struct Version {
    salt: [u8; 20],
    /// Bits 4 and 5 of the first byte of an Initial packet.
    initial: u8,
    labels: [&'static [u8]; 3],
}

const LABELS: [&[u8]; 3] = [b"quic key", b"quic iv", b"quic hp"];

/// The versions whose first packets can be opened.
fn version(number: u32) -> Option<Version> {
    let salt = match number {
        // RFC 9001 5.2, as in drafts since 33.
        1 | 0xff00_0021..=0xff00_0022 => [
            0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
            0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
        ],
        0xff00_001d..=0xff00_0020 => [
            0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61,
            0x11, 0xe0, 0x43, 0x90, 0xa8, 0x99,
        ],
        0xff00_0017..=0xff00_001c => [
            0xc3, 0xee, 0xf7, 0x12, 0xc7, 0x2e, 0xbb, 0x5a, 0x11, 0xa7, 0xd2, 0x43, 0x2b, 0xb4,
            0x63, 0x65, 0xbe, 0xf9, 0xf5, 0x02,
        ],
        // RFC 9369 3.3.
        0x6b33_43cf => {
            return Some(Version {
                salt: [
                    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e,
                    0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
                ],
                initial: 0x10,
                labels: [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
            });
        }
        _ => return None,
    };
    Some(Version {
        salt,
        initial: 0,
        labels: LABELS,
    })
}

/// Versions that are known: those above, older drafts, others' own, those made up to keep servers honest, and the
/// negotiation.
const fn is_version(number: u32) -> bool {
    matches!(number, 0 | 1 | 0x6b33_43cf | 0xff00_0001..=0xff00_0022 | 0xface_b000..=0xface_b00f)
        || number & 0x0f0f_0f0f == 0x0a0a_0a0a
        || is_googles(number.to_be_bytes())
}

/// `Q043`, `T051`.
const fn is_googles(version: [u8; 4]) -> bool {
    matches!(version, [b'Q' | b'T', b'0', b'2'..=b'5', b'0'..=b'9'])
}

/// A long header (RFC 8999 5.1), or one of Google's before that.
fn probe(segment: &Segment<'_>) -> Probe {
    let is = match segment.data {
        // Public flags with a version and an eight-byte id.
        [
            0x09 | 0x0d | 0x19 | 0x1d,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            v0,
            v1,
            v2,
            v3,
            ..,
        ] => is_googles([*v0, *v1, *v2, *v3]),
        data => Header::read(data).is_some_and(|header| {
            is_version(header.version) && (header.version == 0 || header.first & FIXED != 0)
        }),
    };
    if is { Probe::Certain } else { Probe::NotForUs }
}

/// The part of a long header that is the same in all versions.
struct Header<'a> {
    first: u8,
    version: u32,
    destination: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let (&[first, v0, v1, v2, v3], rest) = data.split_first_chunk()?;
        let (destination, rest) = id(rest)?;
        let (_, rest) = id(rest)?;
        (first & LONG != 0).then_some(Self {
            first,
            version: u32::from_be_bytes([v0, v1, v2, v3]),
            destination,
            rest,
        })
    }
}

fn id(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = data.split_first()?;
    let length = usize::from(length);
    if length > MAX_ID {
        return None;
    }
    rest.split_at_checked(length)
}

/// A number of one, two, four or eight bytes (RFC 9000 16).
fn number(data: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = data.split_first()?;
    let more = 1_usize.wrapping_shl(u32::from(first >> 6)).checked_sub(1)?;
    let (bytes, rest) = rest.split_at_checked(more)?;
    *data = rest;
    let start = u64::from(first & 0x3f);
    Some(bytes.iter().fold(start, |value, byte| {
        value.wrapping_shl(8) | u64::from(*byte)
    }))
}

#[derive(Default)]
struct Quic {
    keys: Option<Keys>,
    pieces: Pieces,
    tries: u8,
    datagrams: u8,
}

impl Dissector for Quic {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let mut data = segment.data;
        for _ in 0..MAX_COALESCED {
            let Some(rest) = self.packet(data) else {
                break;
            };
            data = rest;
        }
        if let Some(hello) = self.pieces.hello() {
            out.push(Transaction::TlsClient(hello));
            return Progress::Done;
        }
        self.datagrams = self.datagrams.saturating_add(1);
        if self.tries >= MAX_TRIES || self.datagrams >= MAX_DATAGRAMS {
            return Progress::Done;
        }
        Progress::More
    }
}

impl Quic {
    /// Takes the packet at the beginning, and gives what follows it in the datagram.
    fn packet<'a>(&mut self, data: &'a [u8]) -> Option<&'a [u8]> {
        let header = Header::read(data)?;
        let version = version(header.version)?;
        let mut rest = header.rest;
        let initial = header.first & 0x30 == version.initial;
        if initial {
            let token = usize::try_from(number(&mut rest)?).ok()?;
            rest = rest.get(token..)?;
        }
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let number_at = data.len().checked_sub(rest.len())?;
        let end = number_at.checked_add(length)?;
        let packet = data.get(..end)?;
        if initial && self.tries < MAX_TRIES {
            self.tries = self.tries.saturating_add(1);
            if let Some(payload) = self.open(packet, number_at, header.destination, &version) {
                self.frames(&payload);
            }
        }
        data.get(end..)
    }

    /// The keys follow from the first id that the client chose, or, after a server's Retry, from the one it was given.
    fn open(
        &mut self,
        packet: &[u8],
        number_at: usize,
        destination: &[u8],
        version: &Version,
    ) -> Option<Vec<u8>> {
        if let Some(keys) = &self.keys
            && let Some(payload) = keys.open(packet, number_at)
        {
            return Some(payload);
        }
        let keys = Keys::of_client(destination, version)?;
        let payload = keys.open(packet, number_at)?;
        self.keys = Some(keys);
        Some(payload)
    }

    /// The frames that an Initial packet may hold (RFC 9000 17.2.2).
    fn frames(&mut self, payload: &[u8]) -> Option<()> {
        let mut rest = payload;
        loop {
            match number(&mut rest)? {
                // Padding and ping.
                0 | 1 => {}
                kind @ (2 | 3) => {
                    number(&mut rest)?;
                    number(&mut rest)?;
                    let ranges = number(&mut rest)?;
                    number(&mut rest)?;
                    // Each takes two bytes or more, so this ends with the packet.
                    for _ in 0..ranges {
                        number(&mut rest)?;
                        number(&mut rest)?;
                    }
                    for _ in 0..(if kind == 3 { 3 } else { 0 }) {
                        number(&mut rest)?;
                    }
                }
                6 => {
                    let offset = usize::try_from(number(&mut rest)?).ok()?;
                    let length = usize::try_from(number(&mut rest)?).ok()?;
                    let (piece, after) = rest.split_at_checked(length)?;
                    rest = after;
                    self.pieces.add(offset, piece);
                }
                _ => return None,
            }
        }
    }
}

/// The handshake's bytes, as far as they have come, in any order.
#[derive(Default)]
struct Pieces {
    list: Vec<(usize, Vec<u8>)>,
    held: usize,
}

impl Pieces {
    fn add(&mut self, offset: usize, bytes: &[u8]) {
        let held = self.held.saturating_add(bytes.len());
        let known = self
            .list
            .iter()
            .any(|(at, piece)| *at == offset && piece.len() >= bytes.len());
        if !known && held <= MAX_HELLO && offset < MAX_HELLO && self.list.len() < MAX_PIECES {
            self.held = held;
            self.list.push((offset, bytes.to_vec()));
            self.list.sort_by_key(|(at, _)| *at);
        }
    }

    /// The client's hello, once it is whole.
    fn hello(&self) -> Option<TlsClientHello> {
        const CLIENT_HELLO: u8 = 1;
        let mut message: Vec<u8> = Vec::new();
        for (offset, piece) in &self.list {
            let known = message.len().checked_sub(*offset)?;
            message.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        let (&[CLIENT_HELLO, l0, l1, l2], rest) = message.split_first_chunk()? else {
            return None;
        };
        let body = rest.get(..u32::from_be_bytes([0, l0, l1, l2]) as usize)?;
        let hello = tls::client_hello(body)?;
        // The same fingerprint as over TCP, but for its first letter.
        let ja4 = format!("q{}", hello.ja4.get(1..)?).into();
        Some(TlsClientHello { ja4, ..hello })
    }
}

/// What opens the client's Initial packets.
struct Keys {
    payload: LessSafeKey,
    iv: [u8; NONCE_LEN],
    header: quic::HeaderProtectionKey,
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 7.1).
fn expand<const N: usize>(secret: &hkdf::Prk, label: &[u8]) -> Option<[u8; N]> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_length = u8::try_from(PREFIX.len().saturating_add(label.len())).ok()?;
    let info = [&length[..], &[label_length], PREFIX, label, &[0]];
    let mut key = [0; N];
    secret.expand(&info, Length(N)).ok()?.fill(&mut key).ok()?;
    Some(key)
}

impl Keys {
    /// RFC 9001 5.1, 5.2.
    fn of_client(destination: &[u8], version: &Version) -> Option<Self> {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &version.salt).extract(destination);
        let secret: [u8; 32] = expand(&initial, b"client in")?;
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
        let [key, iv, header] = version.labels;
        let key: [u8; 16] = expand(&secret, key)?;
        let header: [u8; 16] = expand(&secret, header)?;
        Some(Self {
            payload: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?),
            iv: expand(&secret, iv)?,
            header: quic::HeaderProtectionKey::new(&quic::AES_128, &header).ok()?,
        })
    }

    /// The frames of a packet whose number begins at `number_at`; none if it was made with other keys.
    fn open(&self, packet: &[u8], number_at: usize) -> Option<Vec<u8>> {
        // RFC 9001 5.4: the sample is taken as if the number had four bytes.
        let sample_at = number_at.checked_add(4)?;
        let sample = packet.get(sample_at..sample_at.checked_add(16)?)?;
        let [mask, number_mask @ ..] = self.header.new_mask(sample).ok()?;
        let first = *packet.first()? ^ (mask & 0x0f);
        let number_len = usize::from(first & 3).checked_add(1)?;
        let (header, payload) = packet.split_at_checked(number_at.checked_add(number_len)?)?;
        let mut header = header.to_vec();
        *header.first_mut()? = first;
        let mut nonce = self.iv;
        let number = header.get_mut(number_at..)?;
        for (byte, mask) in number.iter_mut().zip(number_mask) {
            *byte ^= mask;
        }
        // The number stands at the nonce's end.
        for (byte, number) in nonce.iter_mut().rev().zip(number.iter().rev()) {
            *byte ^= number;
        }
        let mut payload = payload.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self
            .payload
            .open_in_place(nonce, Aad::from(&header), &mut payload)
            .ok()?
            .len();
        payload.truncate(opened);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::testing::{any_bytes_return, segment};
    use crate::flow::Direction::{Orig, Resp};

    /// RFC 9001 A.1.
    const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// A client's hello that names a server and a protocol.
    fn hello() -> Vec<u8> {
        let name = b"\0\0\0\x11\0\x0f\0\0\x0cexample.test";
        let alpn = b"\0\x10\0\x05\0\x03\x02h3";
        let versions = b"\0\x2b\0\x03\x02\x03\x04";
        let extensions = [&name[..], alpn, versions].concat();
        let mut body = b"\x03\x03".to_vec();
        body.extend([7; 32]);
        body.extend(b"\0\0\x02\x13\x01\x01\0");
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = (body.len() as u32).to_be_bytes().to_vec();
        message[0] = 1;
        message.extend(body);
        message
    }

    /// An Initial packet with crypto frames (offset and bytes), padded, and protected as a client does it.
    fn initial(number: u32, id: &[u8], frames: &[(usize, &[u8])], code: u32) -> Vec<u8> {
        let version = version(code).unwrap();
        let keys = Keys::of_client(id, &version).unwrap();
        let mut payload = vec![0, 1];
        for (offset, bytes) in frames {
            payload.push(6);
            payload.extend((*offset as u16 | 0x4000).to_be_bytes());
            payload.extend((bytes.len() as u16 | 0x4000).to_be_bytes());
            payload.extend(*bytes);
        }
        payload.resize(1162, 0);
        let mut packet = vec![LONG | FIXED | version.initial | 3];
        packet.extend(code.to_be_bytes());
        packet.push(id.len() as u8);
        packet.extend(id);
        packet.extend([0, 0]);
        packet.extend(((4 + payload.len() as u16 + 16) | 0x4000).to_be_bytes());
        let number_at = packet.len();
        packet.extend(number.to_be_bytes());
        let mut nonce = keys.iv;
        for (byte, number) in nonce
            .iter_mut()
            .rev()
            .zip(number.to_be_bytes().iter().rev())
        {
            *byte ^= number;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        keys.payload
            .seal_in_place_append_tag(nonce, Aad::from(&packet), &mut payload)
            .unwrap();
        packet.extend(payload);
        let mask = keys
            .header
            .new_mask(&packet[number_at + 4..number_at + 20])
            .unwrap();
        packet[0] ^= mask[0] & 0x0f;
        for (byte, mask) in packet[number_at..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        packet
    }

    fn told(datagrams: &[Vec<u8>]) -> Vec<TlsClientHello> {
        let mut quic = Quic::default();
        let mut out = Vec::new();
        for datagram in datagrams {
            assert_eq!(probe(&segment(Orig, datagram)), Probe::Certain);
            if quic.feed(&segment(Orig, datagram), &mut out) != Progress::More {
                break;
            }
        }
        let hellos = out.into_iter().map(|transaction| match transaction {
            Transaction::TlsClient(hello) => hello,
            other => panic!("{other:?}"),
        });
        hellos.collect()
    }

    #[test]
    fn keys_are_the_standards() {
        let version = version(1).unwrap();
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &version.salt).extract(&ID);
        let secret: [u8; 32] = expand(&initial, b"client in").unwrap();
        assert_eq!(secret[..4], [0xc0, 0x0c, 0xf1, 0x51]);
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
        let key: [u8; 16] = expand(&secret, b"quic key").unwrap();
        assert_eq!(key[..4], [0x1f, 0x36, 0x96, 0x13]);
        let iv: [u8; 12] = expand(&secret, b"quic iv").unwrap();
        assert_eq!(iv[..4], [0xfa, 0x04, 0x4b, 0x2f]);
        let header: [u8; 16] = expand(&secret, b"quic hp").unwrap();
        assert_eq!(header[..4], [0x9f, 0x50, 0x44, 0x9e]);
    }

    #[test]
    fn the_hello_is_read_in_either_version_and_in_any_pieces() {
        let hello = hello();
        let (a, b) = hello.split_at(30);
        let cases = [
            vec![initial(0, &ID, &[(0, &hello)], 1)],
            vec![initial(0, &ID, &[(0, &hello)], 0x6b33_43cf)],
            vec![initial(1, &ID, &[(0, &hello)], 0xff00_001d)],
            vec![initial(0, &ID, &[(30, b), (0, a)], 1)],
            vec![
                initial(1, &ID, &[(30, b)], 1),
                initial(0, &ID, &[(0, a), (10, &hello[10..30])], 1),
            ],
        ];
        for datagrams in cases {
            let told = told(&datagrams);
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].sni.as_deref(), Some("example.test"));
            assert_eq!(*told[0].alpn[0], *"h3");
            assert!(told[0].ja4.starts_with("q13d0103h3_"), "{}", told[0].ja4);
        }
    }

    #[test]
    fn after_a_retry_the_keys_are_others() {
        let hello = hello();
        let first = initial(0, &ID, &[(0, &hello[..20])], 1);
        let again = initial(1, b"anew", &[(0, &hello)], 1);
        assert_eq!(told(&[first, again]).len(), 1);
    }

    #[test]
    fn what_only_looks_like_it_is_given_up() {
        let mut packet = initial(0, &ID, &[(0, &hello())], 1);
        packet[40] ^= 1;
        let mut quic = Quic::default();
        let mut out = Vec::new();
        let end = (1..100).find(|_| quic.feed(&segment(Orig, &packet), &mut out) != Progress::More);
        assert_eq!((end, out.len()), (Some(usize::from(MAX_TRIES)), 0));
    }

    #[test]
    fn pieces_are_bounded() {
        let mut pieces = Pieces::default();
        for at in 0..10_000 {
            pieces.add(at, &[0; 100]);
            pieces.add(usize::MAX, &[0; 100]);
        }
        assert!(pieces.held <= MAX_HELLO && pieces.list.len() <= MAX_PIECES);
    }

    #[test]
    fn it_is_known_by_its_versions() {
        let probed = |data: &[u8]| probe(&segment(Resp, data));
        assert_eq!(probed(b"\xc0\0\0\0\x01\0\x04abcd\0"), Probe::Certain);
        assert_eq!(probed(b"\x80\0\0\0\0\0\x04abcd\0\0\0\x01"), Probe::Certain);
        assert_eq!(probed(b"\x0d12345678Q043\x01"), Probe::Certain);
        assert_eq!(probed(b"\xc0\0\0\0\x03\0\x04abcd\0"), Probe::NotForUs);
        assert_eq!(
            probed(b"\xc0\0\0\0\x01\x15abcdabcdabcdabcdabcdabcd\0"),
            Probe::NotForUs
        );
        assert_eq!(probed(b"\x40\0\0\0\x01\0\0"), Probe::NotForUs);
    }

    #[test]
    fn any_bytes() {
        any_bytes_return(QUIC.build, probe);
    }
}
