//! What a server's answer amounts to. Its tokens are read until rows begin; how it went after those is told by its last
//! bytes.

use std::sync::Arc;

use super::packets::Message;
use super::{Reader, login};

const COLUMNS: u8 = 0x81;
const STATUS: u8 = 0x79;
const ERROR: u8 = 0xaa;
const LOGIN_ACK: u8 = 0xad;
const FEATURES: u8 = 0xae;
const ENV_CHANGE: u8 = 0xe3;
const SESSION: u8 = 0xe4;
const OLD_ERROR: u8 = 0xe5;
const SSPI: u8 = 0xed;
const FED_AUTH: u8 = 0xee;
const DONE: u8 = 0xfd;
const DONE_PROC: u8 = 0xfe;
const DONE_IN_PROC: u8 = 0xff;

/// Flags of an end: it failed, it has a number of rows.
const FAILED: u16 = 0x02;
const COUNTED: u16 = 0x10;
const KNOWN_FLAGS: u16 = 0x137;

#[derive(Default)]
pub(super) struct Answer {
    /// Whether it lets the client in.
    pub(super) lets_in: Option<bool>,
    /// The server's version, from letting it in.
    pub(super) version: Option<Arc<str>>,
    /// The first error's number.
    pub(super) error: Option<u32>,
    /// Whether it says that it failed.
    pub(super) failed: bool,
    /// Rows, over all its parts.
    pub(super) rows: Option<u64>,
    /// Whether there are any rows in it.
    pub(super) has_rows: bool,
}

impl Answer {
    /// `wide` if numbers of rows have eight bytes, as since version 7.2.
    pub(super) fn read(message: &Message, wide: bool) -> Self {
        let mut answer = Self::default();
        let mut tokens = Reader(&message.head);
        while let Some(kind) = tokens.byte() {
            if answer.token(kind, &mut tokens, wide).is_none() {
                // Rows, or what isn't known; or the end isn't here.
                answer.has_rows |= kind == COLUMNS;
                answer.end(&message.tail, wide);
                break;
            }
        }
        answer
    }

    /// Takes one token; nothing if it can't be passed over.
    fn token(&mut self, kind: u8, tokens: &mut Reader<'_>, wide: bool) -> Option<()> {
        match kind {
            DONE | DONE_PROC | DONE_IN_PROC => {
                let flags = tokens.le16()?;
                tokens.take(2)?;
                let rows = if wide {
                    tokens.le64()?
                } else {
                    tokens.le32()?.into()
                };
                self.done(flags, rows);
            }
            STATUS => drop(tokens.take(4)?),
            FEATURES => {
                while tokens.byte()? != 0xff {
                    let length = tokens.le32()?;
                    tokens.take(length as usize)?;
                }
            }
            SESSION | FED_AUTH => {
                let length = tokens.le32()?;
                tokens.take(length as usize)?;
            }
            // Those with a length of two bytes.
            ERROR | OLD_ERROR | LOGIN_ACK | ENV_CHANGE | SSPI | 0xa4 | 0xa5 | 0xa9 | 0xab
            | 0xe2 => {
                let length = tokens.le16()?;
                let body = tokens.take(length.into())?;
                self.counted(kind, Reader(body));
            }
            _ => return None,
        }
        Some(())
    }

    fn counted(&mut self, kind: u8, mut body: Reader<'_>) {
        match kind {
            LOGIN_ACK => {
                // Sybase also refuses so.
                self.lets_in = body.byte().map(|status| status != 6);
                self.version = ack_version(&mut body);
            }
            ERROR => {
                self.error = self.error.or(body.le32());
            }
            OLD_ERROR => {
                let number = body.le32();
                let class = body.take(1).and_then(|_| body.byte()).unwrap_or_default();
                // Lesser ones inform.
                if class > 10 {
                    self.error = self.error.or(number);
                }
            }
            _ => {}
        }
    }

    fn done(&mut self, flags: u16, rows: u64) {
        self.failed |= flags & FAILED != 0;
        if flags & COUNTED != 0 {
            self.rows = Some(self.rows.unwrap_or_default().saturating_add(rows));
        }
    }

    /// Reads the last tokens from a message's last bytes: an end; for a procedure, what it returns before that and the
    /// end of its last statement.
    fn end(&mut self, tail: &[u8], wide: bool) {
        let length = if wide { 13 } else { 9 };
        let from = |back: usize| {
            let from = tail.len().checked_sub(back)?;
            let mut token = Reader(tail.get(from..)?);
            let kind = token.byte()?;
            let flags = token.le16()?;
            token.take(2)?;
            let rows = if wide {
                token.le64()
            } else {
                token.le32().map(u64::from)
            };
            Some((kind, flags, rows?))
        };
        let Some((kind @ (DONE | DONE_PROC | DONE_IN_PROC), flags, rows)) = from(length) else {
            return;
        };
        if flags & !KNOWN_FLAGS != 0 {
            return;
        }
        self.done(flags, rows);
        let before = length.saturating_add(5);
        if kind == DONE_PROC
            && flags & COUNTED == 0
            && tail.len().checked_sub(before).and_then(|at| tail.get(at)) == Some(&STATUS)
            && let Some((DONE_IN_PROC, flags, rows)) = from(before.saturating_add(length))
            && flags & !KNOWN_FLAGS == 0
        {
            self.done(flags, rows);
        }
    }
}

/// The server's version at the end of what lets a client in.
fn ack_version(body: &mut Reader<'_>) -> Option<Arc<str>> {
    let sybase = body.take(4)?.first() == Some(&5);
    let length = usize::from(body.byte()?);
    body.take(if sybase {
        length
    } else {
        length.saturating_mul(2)
    })?;
    let [major, minor, high, low] = *body.take(4)?.first_chunk::<4>()?;
    Some(login::version(
        major,
        minor,
        u16::from_be_bytes([high, low]),
    ))
}
