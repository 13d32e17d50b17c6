//! The greeting, the client's answer to it, and what stands before a query's text.

use super::super::DatabaseEvent;
use super::super::text::opt_text;
use super::MAX_NAME;

const COMPRESS: u32 = 1 << 5;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const CONNECT_ATTRS: u32 = 1 << 20;
const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
const DEPRECATE_EOF: u32 = 1 << 24;
const ZSTD: u32 = 1 << 26;
const QUERY_ATTRIBUTES: u32 = 1 << 27;

/// Whether a packet begins as a greeting does: protocol 10, a version that names a number, the rest of it where it
/// belongs. `None` if too little is here.
pub(super) fn greets(body: &[u8]) -> Option<bool> {
    let version = body.get(1..).unwrap_or_default();
    let len = version
        .iter()
        .take_while(|byte| byte.is_ascii_graphic())
        .count();
    if len > MAX_NAME || version.first().is_some_and(|byte| !byte.is_ascii_digit()) {
        return Some(false);
    }
    let end = version.get(len)?;
    Some(*end == 0 && version.get(..len).unwrap_or_default().contains(&b'.'))
}

/// What a server offers.
pub(super) struct Greeting<'a> {
    pub(super) version: &'a [u8],
    pub(super) attributes: bool,
    pub(super) compresses: bool,
    pub(super) deprecates_eof: bool,
}

impl<'a> Greeting<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body.strip_prefix(b"\x0a")?);
        let version = fields.until_zero()?;
        // Thread, half of the nonce, a zero.
        fields.take(13)?;
        let low = fields.take(2)?;
        // Charset and status. Servers of long ago end before.
        let high = fields.take(3).and_then(|_| fields.take(2));
        let capabilities =
            u32::from(super::le16(low)) | u32::from(high.map_or(0, super::le16)) << 16;
        Some(Self {
            version,
            attributes: capabilities & QUERY_ATTRIBUTES != 0,
            compresses: capabilities & (COMPRESS | ZSTD) != 0,
            deprecates_eof: capabilities & DEPRECATE_EOF != 0,
        })
    }
}

/// What a client answers.
pub(super) struct Response {
    pub(super) encrypts: bool,
    pub(super) attributes: bool,
    pub(super) compresses: bool,
    pub(super) deprecates_eof: bool,
    pub(super) login: DatabaseEvent,
}

impl Response {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let low = u32::from(super::le16(fields.take(2)?));
        if low & PROTOCOL_41 == 0 {
            // Before 4.1: the longest packet, then the user.
            fields.take(3)?;
            return Some(Self {
                encrypts: low & SSL != 0 && fields.0.is_empty(),
                attributes: false,
                compresses: low & COMPRESS != 0,
                deprecates_eof: false,
                login: named(fields.until_zero().unwrap_or_default(), None, None),
            });
        }
        let flags = low | u32::from(super::le16(fields.take(2)?)) << 16;
        // The longest packet, charset, zeros.
        fields.take(28)?;
        let encrypts = flags & SSL != 0 && fields.0.is_empty();
        let login = fields.login(flags);
        Some(Self {
            encrypts,
            attributes: flags & QUERY_ATTRIBUTES != 0,
            compresses: flags & (COMPRESS | ZSTD) != 0,
            deprecates_eof: flags & DEPRECATE_EOF != 0,
            login,
        })
    }
}

/// A login on a connection that had another user.
pub(super) fn change_user(rest: &[u8]) -> DatabaseEvent {
    let mut fields = Fields(rest);
    let user = fields.until_zero().unwrap_or_default();
    let password = fields.byte().and_then(|len| fields.take(len.into()));
    named(user, password.and_then(|_| fields.until_zero()), None)
}

fn named(user: &[u8], database: Option<&[u8]>, client: Option<&[u8]>) -> DatabaseEvent {
    let shown = |name: Option<&[u8]>| opt_text(name.unwrap_or_default(), MAX_NAME);
    DatabaseEvent::Login {
        user: shown(Some(user)),
        database: shown(database),
        client: shown(client),
    }
}

/// A query's text after its attributes, unless those are of a form that isn't known.
pub(super) fn without_attributes(rest: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(rest);
    let count = usize::try_from(fields.number()?).ok()?;
    // How many sets of them: always one.
    fields.number()?;
    if count == 0 {
        return Some(fields.0);
    }
    let nulls = fields.take(count.div_ceil(8))?;
    fields.byte()?;
    let mut types = Vec::new();
    for _ in 0..count {
        let kind = fields.take(2)?;
        types.push(*kind.first()?);
        fields.counted()?;
    }
    for (index, kind) in types.into_iter().enumerate() {
        let bits = nulls.get(index / 8)?;
        if bits >> (index % 8) & 1 != 0 {
            continue;
        }
        match kind {
            1 => fields.take(1)?,
            2 | 13 => fields.take(2)?,
            3 | 4 | 9 => fields.take(4)?,
            5 | 8 => fields.take(8)?,
            6 => &[],
            // Times have a length of one byte, everything else one of the general kind; short, they are the same.
            _ => fields.counted()?,
        };
    }
    Some(fields.0)
}

/// What is left of a packet.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Text up to a zero byte, or to the end.
    fn until_zero(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let len = self.0.iter().take_while(|byte| **byte != 0).count();
        let text = self.take(len)?;
        self.0 = self.0.get(1..).unwrap_or_default();
        Some(text)
    }

    /// A number in one byte, or in as many as its first byte says.
    pub(super) fn number(&mut self) -> Option<u64> {
        let len = match self.byte()? {
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            small @ 0..=0xfa => return Some(small.into()),
            _ => return None,
        };
        let bytes = self.take(len)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    /// A string after its length.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).ok()?)
    }

    fn login(&mut self, flags: u32) -> DatabaseEvent {
        let user = self.until_zero().unwrap_or_default();
        let password = if flags & PLUGIN_AUTH_LENENC != 0 {
            self.counted()
        } else if flags & SECURE_CONNECTION != 0 {
            self.byte().and_then(|len| self.take(len.into()))
        } else {
            self.until_zero()
        };
        if password.is_none() {
            return named(user, None, None);
        }
        let database = (flags & CONNECT_WITH_DB != 0).then(|| self.until_zero());
        if flags & PLUGIN_AUTH != 0 {
            self.until_zero();
        }
        let client = (flags & CONNECT_ATTRS != 0).then(|| self.client());
        named(user, database.flatten(), client.flatten())
    }

    /// The program's name among the connection's attributes, else the driver's.
    fn client(&mut self) -> Option<&'a [u8]> {
        self.number()?;
        let mut driver = None;
        while let Some(name) = self.counted() {
            let value = self.counted();
            match name {
                b"program_name" => return value,
                b"_client_name" => driver = value,
                _ => {}
            }
        }
        driver
    }
}
