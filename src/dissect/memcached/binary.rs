//! Memcached's binary protocol: messages that say their lengths first.

use super::super::StatementClass;
use super::super::frames::Plan;
use StatementClass::{Admin, Catalogue, Other, Read, Write};

pub(super) const HEADER_LEN: usize = 24;
pub(super) const REQUEST: u8 = 0x80;
pub(super) const RESPONSE: u8 = 0x81;

pub(super) const VERSION: u8 = 0x0b;
pub(super) const STAT: u8 = 0x10;
pub(super) const LOGIN: u8 = 0x21;
pub(super) const LOGIN_STEP: u8 = 0x22;

/// Statuses: a key is missing, exists, wasn't stored. Ordinary.
pub(super) const NO_ERRORS: [u16; 4] = [0, 1, 2, 5];
pub(super) const GO_ON: u16 = 0x21;

/// How much of a login, a version or a counter's name is read.
const MAX_FIELDS: usize = 512;
/// No message is longer: the largest value that can be allowed.
const MAX_BODY: u32 = 0x4000_0000;

pub(super) struct Header {
    pub(super) code: u8,
    pub(super) key: u16,
    pub(super) extras: u8,
    /// A response's outcome.
    pub(super) status: u16,
    pub(super) body: u32,
}

/// A message's header, if it makes sense.
pub(super) fn header(bytes: &[u8], magic: u8) -> Option<Header> {
    let bytes = bytes.first_chunk::<HEADER_LEN>()?;
    let [
        first,
        code,
        key_high,
        key_low,
        extras,
        kind,
        status_high,
        status_low,
        rest @ ..,
    ] = *bytes;
    let header = Header {
        code,
        key: u16::from_be_bytes([key_high, key_low]),
        extras,
        status: u16::from_be_bytes([status_high, status_low]),
        body: u32::from_be_bytes(*rest.first_chunk()?),
    };
    let fields = u32::from(header.key).saturating_add(extras.into());
    let sound = first == magic && kind == 0 && header.key <= 250 && extras <= 32;
    (sound && fields <= header.body && header.body <= MAX_BODY).then_some(header)
}

pub(super) fn plan(bytes: &[u8], magic: u8) -> Option<Plan> {
    let header = header(bytes, magic)?;
    let total = (HEADER_LEN as u64).saturating_add(header.body.into());
    let looked_at = matches!(header.code, LOGIN | VERSION | STAT);
    let keep = if looked_at {
        HEADER_LEN.saturating_add(MAX_FIELDS)
    } else {
        HEADER_LEN
    };
    Some(Plan {
        keep: usize::try_from(total).unwrap_or(usize::MAX).min(keep),
        total,
        mass: false,
    })
}

/// What an operation does, in the words of the text protocol.
pub(super) const fn operation(code: u8) -> (&'static str, StatementClass) {
    match code {
        0x00 | 0x09 | 0x0c | 0x0d => ("get", Read),
        0x01 | 0x11 => ("set", Write),
        0x02 | 0x12 => ("add", Write),
        0x03 | 0x13 => ("replace", Write),
        0x04 | 0x14 => ("delete", Write),
        0x05 | 0x15 => ("incr", Write),
        0x06 | 0x16 => ("decr", Write),
        0x07 | 0x17 => ("quit", Other),
        0x08 | 0x18 => ("flush_all", Admin),
        0x0a => ("noop", Other),
        VERSION => ("version", Other),
        0x0e | 0x19 => ("append", Write),
        0x0f | 0x1a => ("prepend", Write),
        STAT => ("stats", Catalogue),
        0x1b => ("verbosity", Admin),
        0x1c => ("touch", Write),
        0x1d | 0x1e | 0x23 | 0x24 => ("gat", Read),
        0x20 => ("sasl_list_mechs", Other),
        _ => ("OTHER", Other),
    }
}

/// The user of a login by name and password; the key names the way.
pub(super) fn user<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    // On whose behalf, the user, the password.
    (key == b"PLAIN")
        .then(|| value.split(|byte| *byte == 0).nth(1))
        .flatten()
}
