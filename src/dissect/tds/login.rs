//! What both ends settle before and at the login: encryption, versions, who asks to be let in.

use std::sync::Arc;

use super::super::DatabaseEvent;
use super::super::text::{opt_text, text};
use super::{MAX_NAME, Reader, utf16};

/// Where an old login has its names; each is followed by its length.
const OLD_NAME_LEN: usize = 30;
const OLD_USER: usize = 31;
const OLD_CLIENT: usize = 140;

/// What an end says before the login.
#[derive(Default)]
pub(super) struct Prelogin {
    pub(super) version: Option<Arc<str>>,
    pub(super) encryption: Option<Encryption>,
}

/// How an end wants the connection encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encryption {
    /// The login alone.
    Login,
    All,
    None,
}

impl Prelogin {
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut found = Self::default();
        for option in body.chunks_exact(5) {
            let [kind, high, low, length_high, length_low] = *option else {
                break;
            };
            if kind == 0xff {
                break;
            }
            let from = usize::from(u16::from_be_bytes([high, low]));
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            let value = body.get(from..).and_then(|rest| rest.get(..length));
            match (kind, value) {
                (0, Some([major, minor, high, low, ..])) => {
                    let build = u16::from_be_bytes([*high, *low]);
                    found.version = Some(version(*major, *minor, build));
                }
                (1, Some([wish, ..])) => {
                    found.encryption = match wish {
                        0 => Some(Encryption::Login),
                        1 | 3 => Some(Encryption::All),
                        2 => Some(Encryption::None),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        found
    }
}

/// As SQL Server writes it.
pub(super) fn version(major: u8, minor: u8, build: u16) -> Arc<str> {
    text(format!("{major}.{minor}.{build}").as_bytes(), MAX_NAME)
}

/// Whether a message's first bytes are a list of options, the version first, as long as where its values begin says.
pub(super) fn begins_prelogin(body: &[u8]) -> Option<bool> {
    let [kind, high, low] = *body.first_chunk::<3>()?;
    let from = u16::from_be_bytes([high, low]);
    Some(kind == 0 && from % 5 == 1 && (6..=61).contains(&from))
}

/// A login since version 7, and the version that it asks for.
pub(super) fn login7(body: &[u8]) -> Option<(DatabaseEvent, u32)> {
    let mut fields = Reader(body);
    fields.take(4)?;
    let version = fields.le32()?;
    // Numbers, flags, time zone, locale.
    fields.take(28)?;
    let mut names = [None; 9];
    for name in &mut names {
        let from = usize::from(fields.le16()?);
        let chars = usize::from(fields.le16()?);
        let bytes = chars.saturating_mul(2);
        *name = body.get(from..).and_then(|rest| rest.get(..bytes));
    }
    let [
        _host,
        user,
        _password,
        app,
        _server,
        _extension,
        driver,
        _language,
        database,
    ] = names;
    let shown = |name: Option<&[u8]>| {
        let name = utf16(name.unwrap_or_default(), MAX_NAME);
        opt_text(name.as_bytes(), MAX_NAME)
    };
    let event = DatabaseEvent::Login {
        user: shown(user),
        database: shown(database),
        client: shown(app).or_else(|| shown(driver)),
    };
    Some((event, version))
}

/// Whether a message's first bytes are a login since version 7.
pub(super) fn begins_login7(body: &[u8]) -> Option<bool> {
    let [length @ .., _, _, _, newest] = *body.first_chunk::<8>()?;
    let length = u32::from_le_bytes(length);
    Some((86..=128 * 1024).contains(&length) && (0x70..=0x74).contains(&newest))
}

/// A login before version 7, and Sybase's to this day.
pub(super) fn old_login(body: &[u8]) -> Option<DatabaseEvent> {
    let name = |from: usize| {
        let field = body.get(from..)?;
        let length = usize::from(*field.get(OLD_NAME_LEN)?);
        let name = field.get(..length.min(OLD_NAME_LEN))?;
        opt_text(name, MAX_NAME)
    };
    body.get(OLD_USER..)?.get(OLD_NAME_LEN)?;
    Some(DatabaseEvent::Login {
        user: name(OLD_USER),
        database: None,
        client: name(OLD_CLIENT),
    })
}

/// Whether a message's first bytes are such a login: two names and their lengths, padded with zeros.
pub(super) fn begins_old_login(body: &[u8]) -> Option<bool> {
    let field_len = OLD_NAME_LEN.saturating_add(1);
    let names = body.get(..field_len.saturating_mul(2))?;
    Some(names.chunks_exact(field_len).all(|field| {
        let (length, name) = field.split_last().unwrap_or((&0, &[]));
        let padding = name.get(usize::from(*length)..);
        padding.is_some_and(|padding| padding.iter().all(|byte| *byte == 0))
    }))
}
