//! TLS 1.3 (RFC 8446) as far as it shows: the two hellos in clear, then opaque records. And the handshake of TLS 1.2
//! (RFC 5246), in which the certificate shows, too.

use std::time::Duration;

use super::certificate::Certificate;
use super::tcp::{Session, Side};
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;

const RECORD_CHANGE_CIPHER: u8 = 20;
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const SERVER_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const TLS_ECDHE_ECDSA_AES_128_GCM_SHA256: u16 = 0xc02b;
const LEGACY: [u8; 2] = [3, 3];
const TLS_AES_128_GCM_SHA256: u16 = 0x1301;
const X25519: u16 = 0x001d;
/// What a record's encryption adds: the inner content type and the tag.
const SEAL: usize = 17;
const MAX_RECORD: usize = 16_384;

/// A TLS library, as its hello gives it away.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    ciphers: &'static [u16],
    groups: &'static [u16],
    signatures: &'static [u16],
    alpn: &'static [&'static str],
    /// Extensions in the order sent.
    extensions: &'static [u16],
}

const SERVER_NAME: u16 = 0;
const STATUS_REQUEST: u16 = 5;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURES: u16 = 13;
const ALPN: u16 = 16;
const SCT: u16 = 18;
const EXTENDED_MASTER_SECRET: u16 = 23;
const TICKET: u16 = 35;
const VERSIONS: u16 = 43;
const PSK_MODES: u16 = 45;
const KEY_SHARE: u16 = 51;
const RENEGOTIATION: u16 = 0xff01;

/// Like the library of Go's clients.
pub const GO: Stack = Stack {
    ciphers: &[
        0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc009, 0xc013, 0xc00a, 0xc014, 0x1301,
        0x1302, 0x1303,
    ],
    groups: &[X25519, 23, 24, 25],
    signatures: &[
        0x0804, 0x0403, 0x0807, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0503, 0x0603,
    ],
    alpn: &["h2", "http/1.1"],
    extensions: &[
        SERVER_NAME,
        STATUS_REQUEST,
        GROUPS,
        POINT_FORMATS,
        SIGNATURES,
        RENEGOTIATION,
        EXTENDED_MASTER_SECRET,
        ALPN,
        SCT,
        VERSIONS,
        KEY_SHARE,
    ],
};

/// The same where the connection is to be upgraded, which HTTP/2 can't be.
pub const GO_HTTP1: Stack = Stack {
    alpn: &["http/1.1"],
    ..GO
};

/// Like OpenSSL under a scripting language.
pub const OPENSSL: Stack = Stack {
    ciphers: &[
        0x1302, 0x1303, 0x1301, 0xc02c, 0xc030, 0x009f, 0xcca9, 0xcca8, 0xc02b, 0xc02f, 0x009e,
        0x00ff,
    ],
    groups: &[X25519, 23, 30, 25, 24],
    signatures: &[
        0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501,
    ],
    alpn: &[],
    extensions: &[
        SERVER_NAME,
        POINT_FORMATS,
        GROUPS,
        TICKET,
        EXTENDED_MASTER_SECRET,
        SIGNATURES,
        VERSIONS,
        PSK_MODES,
        KEY_SHARE,
    ],
};

/// The handshake, seen from the tap. An empty `name` sends no server name.
pub fn handshake(scene: &mut Scene, session: &mut Session, stack: &Stack, name: &str) {
    let session_id: [u8; 32] = scene.rng.array();
    let hello = client_hello(&mut scene.rng, stack, name, session_id);
    session.say(scene, Side::Client, &hello);
    let think = scene.rng.about(Duration::from_millis(2));
    session.wait(scene, think);
    let mut flight = server_hello(&mut scene.rng, session_id);
    flight.extend(record(RECORD_CHANGE_CIPHER, &[1]));
    // Encrypted extensions, certificate, its proof, and the finished message.
    for len in [32, 1100, 286, 53] {
        flight.extend(sealed(&mut scene.rng, len));
    }
    session.say(scene, Side::Server, &flight);
    let mut finished = record(RECORD_CHANGE_CIPHER, &[1]);
    finished.extend(sealed(&mut scene.rng, 36));
    session.say(scene, Side::Client, &finished);
}

/// The handshake of TLS 1.2, in which the server shows its certificate. An empty `name` sends no server name.
pub fn handshake_1_2(
    scene: &mut Scene,
    session: &mut Session,
    stack: &Stack,
    name: &str,
    certificate: &Certificate,
) {
    let session_id: [u8; 32] = scene.rng.array();
    let hello = client_hello(&mut scene.rng, stack, name, session_id);
    session.say(scene, Side::Client, &hello);
    let think = scene.rng.about(Duration::from_millis(2));
    session.wait(scene, think);
    let mut body = LEGACY.to_vec();
    body.extend(scene.rng.array::<32>());
    body.extend(prefixed_u8(&session_id));
    body.extend(TLS_ECDHE_ECDSA_AES_128_GCM_SHA256.to_be_bytes());
    body.push(0);
    let certificate = certificate.bytes(&mut scene.rng);
    let long = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
    let exchange = scene.rng.bytes(140);
    let flight = [
        message(SERVER_HELLO, &body),
        message(CERTIFICATE, &long(&long(&certificate))),
        message(SERVER_KEY_EXCHANGE, &exchange),
        message(SERVER_DONE, &[]),
    ];
    session.say(
        scene,
        Side::Server,
        &record(RECORD_HANDSHAKE, &flight.concat()),
    );
    let share = prefixed_u8(&scene.rng.bytes(65));
    let finished = |rng: &mut Rng| {
        let sealed = record(RECORD_HANDSHAKE, &rng.bytes(40));
        [record(RECORD_CHANGE_CIPHER, &[1]), sealed].concat()
    };
    let mut answer = record(RECORD_HANDSHAKE, &message(CLIENT_KEY_EXCHANGE, &share));
    answer.extend(finished(&mut scene.rng));
    session.say(scene, Side::Client, &answer);
    let end = finished(&mut scene.rng);
    session.say(scene, Side::Server, &end);
}

/// `asked` bytes of application data, and `answered` bytes back.
pub fn exchange(scene: &mut Scene, session: &mut Session, asked: usize, answered: usize) {
    let (question, answer) = (data(&mut scene.rng, asked), data(&mut scene.rng, answered));
    session.ask(scene, &question, Duration::from_millis(4), &answer);
}

/// Application data in as many records as it takes.
pub fn data(rng: &mut Rng, len: usize) -> Vec<u8> {
    let whole = len / MAX_RECORD;
    let sizes = std::iter::repeat_n(MAX_RECORD, whole).chain([len % MAX_RECORD]);
    sizes.flat_map(|size| sealed(rng, size)).collect()
}

fn sealed(rng: &mut Rng, len: usize) -> Vec<u8> {
    let hidden = rng.bytes(len + SEAL);
    record(RECORD_DATA, &hidden)
}

/// A client's first record.
pub fn client_hello(rng: &mut Rng, stack: &Stack, name: &str, session_id: [u8; 32]) -> Vec<u8> {
    let mut body = LEGACY.to_vec();
    body.extend(rng.array::<32>());
    body.extend(prefixed_u8(&session_id));
    body.extend(prefixed(&words(stack.ciphers)));
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    for &kind in stack.extensions {
        let content = match kind {
            SERVER_NAME if name.is_empty() => continue,
            SERVER_NAME => {
                let host = [&[0], prefixed(name.as_bytes()).as_slice()].concat();
                prefixed(&host)
            }
            STATUS_REQUEST => vec![1, 0, 0, 0, 0],
            GROUPS => prefixed(&words(stack.groups)),
            POINT_FORMATS => vec![1, 0],
            SIGNATURES => prefixed(&words(stack.signatures)),
            ALPN => {
                let names = stack.alpn.iter();
                prefixed(
                    &names
                        .flat_map(|name| prefixed_u8(name.as_bytes()))
                        .collect::<Vec<_>>(),
                )
            }
            VERSIONS => vec![4, 3, 4, 3, 3],
            PSK_MODES => vec![1, 1],
            KEY_SHARE => prefixed(&key_share(rng)),
            RENEGOTIATION => vec![0],
            _ => Vec::new(),
        };
        extensions.extend(extension(kind, &content));
    }
    body.extend(prefixed(&extensions));
    record(RECORD_HANDSHAKE, &message(CLIENT_HELLO, &body))
}

fn server_hello(rng: &mut Rng, session_id: [u8; 32]) -> Vec<u8> {
    let mut body = LEGACY.to_vec();
    body.extend(rng.array::<32>());
    body.extend(prefixed_u8(&session_id));
    body.extend(TLS_AES_128_GCM_SHA256.to_be_bytes());
    body.push(0);
    let mut extensions = extension(VERSIONS, &[3, 4]);
    extensions.extend(extension(KEY_SHARE, &key_share(rng)));
    body.extend(prefixed(&extensions));
    record(RECORD_HANDSHAKE, &message(SERVER_HELLO, &body))
}

fn key_share(rng: &mut Rng) -> Vec<u8> {
    let mut share = X25519.to_be_bytes().to_vec();
    share.extend(prefixed(&rng.array::<32>()));
    share
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), prefixed(content).as_slice()].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    // A client's first record names TLS 1.0, for the sake of old middleboxes; nobody looks.
    let version = if body.first() == Some(&CLIENT_HELLO) && kind == RECORD_HANDSHAKE {
        [3, 1]
    } else {
        LEGACY
    };
    [&[kind], version.as_slice(), &prefixed(body)].concat()
}

fn words(values: &[u16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn prefixed_u8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tls_parser::{
        TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
        parse_tls_plaintext,
    };

    #[test]
    fn a_client_hello_reads_back() {
        let bytes = client_hello(&mut Rng::new(1), &GO, "api.partner.example", [7; 32]);
        let (rest, record) = parse_tls_plaintext(&bytes).unwrap();
        assert!(rest.is_empty());
        let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = &record.msg[0] else {
            panic!("no client hello")
        };
        assert_eq!(hello.ciphers.len(), GO.ciphers.len());
        let (rest, extensions) = parse_tls_client_hello_extensions(hello.ext.unwrap()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(extensions.len(), GO.extensions.len());
        assert!(extensions.iter().any(|extension| matches!(
            extension,
            TlsExtension::SNI(names) if names[0].1 == b"api.partner.example"
        )));
    }

    #[test]
    fn large_data_goes_in_several_records() {
        let bytes = data(&mut Rng::new(1), 40_000);
        let mut sizes = Vec::new();
        let mut rest = bytes.as_slice();
        while let [RECORD_DATA, 3, 3, high, low, tail @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            sizes.push(len - SEAL);
            rest = &tail[len..];
        }
        assert_eq!(sizes, [16_384, 16_384, 7_232]);
        assert!(rest.is_empty());
    }
}
