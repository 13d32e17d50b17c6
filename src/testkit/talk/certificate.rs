//! X.509 certificates (RFC 5280), as far as one who only listens reads them: names and dates. Nobody signed them.

use crate::testkit::rng::Rng;

/// A certificate to be.
#[derive(Clone, Copy, Debug)]
pub struct Certificate {
    /// The subject's common name.
    pub subject: &'static str,
    /// The issuer's.
    pub issuer: &'static str,
    /// Host names it is for.
    pub names: &'static [&'static str],
    /// From when and until when it is valid, as in `260101000000Z`.
    pub valid: (&'static str, &'static str),
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVES: &[u8] = &[0x55, 29, 17];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

impl Certificate {
    /// Its bytes (DER).
    pub fn bytes(&self, rng: &mut Rng) -> Vec<u8> {
        let algorithm = tagged(SEQUENCE, &tagged(OID, ECDSA_SHA256));
        let kind = tagged(SEQUENCE, &[tagged(OID, EC_KEY), tagged(OID, P256)].concat());
        let point = [&[0, 4], rng.bytes(64).as_slice()].concat();
        let key = tagged(SEQUENCE, &[kind, tagged(BITS, &point)].concat());
        let (from, to) = self.valid;
        let validity = [from, to].map(|time| tagged(UTC_TIME, time.as_bytes()));
        let names: Vec<u8> = self
            .names
            .iter()
            .flat_map(|name| tagged(0x82, name.as_bytes()))
            .collect();
        let alternatives = [
            tagged(OID, ALTERNATIVES),
            tagged(OCTETS, &tagged(SEQUENCE, &names)),
        ];
        let mut body = vec![
            tagged(0xa0, &[INTEGER, 1, 2]),
            tagged(INTEGER, &[&[1], rng.bytes(8).as_slice()].concat()),
            algorithm.clone(),
            common_name(self.issuer),
            tagged(SEQUENCE, &validity.concat()),
            common_name(self.subject),
            key,
        ];
        if !self.names.is_empty() {
            let extension = tagged(SEQUENCE, &alternatives.concat());
            body.push(tagged(0xa3, &tagged(SEQUENCE, &extension)));
        }
        let signature = [&[0], rng.bytes(70).as_slice()].concat();
        tagged(
            SEQUENCE,
            &[
                tagged(SEQUENCE, &body.concat()),
                algorithm,
                tagged(BITS, &signature),
            ]
            .concat(),
        )
    }
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = [tagged(OID, COMMON_NAME), tagged(UTF8, name.as_bytes())].concat();
    tagged(SEQUENCE, &tagged(SET, &tagged(SEQUENCE, &attribute)))
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        len @ 0..=127 => bytes.push(len as u8),
        len @ 128..=255 => bytes.extend([0x81, len as u8]),
        len => bytes.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    bytes.extend(content);
    bytes
}
