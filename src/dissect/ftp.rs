//! FTP (RFC 959; EPRT and EPSV by RFC 2428, AUTH by RFC 4217): who logs in, what files go which way, and over which other
//! connections.
//!
//! Only commands and the numbers of replies are read; no password is kept. A session that goes on as TLS is handed over.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::by_name::TLS_HANDSHAKE;
use super::text::opt_text;
use super::{Both, Dissector, Login, Progress, Segment, Transaction, buffer};
use crate::flow::Direction;
use crate::time::Timestamp;

/// A step that moves files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FtpMessage {
    /// The ends agreed on where the next file or list goes over.
    Data {
        /// Which of them waits there to be called.
        listener: Direction,
        /// Its address, where that was said.
        address: Option<IpAddr>,
        /// Its port.
        port: u16,
    },
    /// The client asked to send or fetch a file, and the server said whether it may.
    Transfer {
        /// `STOR`, `STOU` or `APPE` sends it, `RETR` fetches it.
        verb: &'static str,
        /// The file, as it was asked for; at most 128 bytes.
        path: Option<Arc<str>>,
        /// Whether it may.
        accepted: bool,
        /// Whether somebody sits there: who looked round in directories and hesitated before, again and again.
        by_hand: bool,
    },
}

const MAX_USER: usize = 64;
const MAX_PATH: usize = 128;
/// What is kept of a line.
const KEEP: usize = 160;
/// Programs send the next command when the last is answered; people read first.
const HESITATION: Duration = Duration::from_secs(1);
/// Programs may look once where they are, and may wait once for what they are to send.
const OFTEN: u8 = 2;
/// Verbs that show what is there (RFC 959 4.1.3, RFC 3659 7).
const LISTS: &[&[u8]] = &[b"LIST", b"NLST", b"MLSD"];
/// Verbs that move a file.
const TRANSFERS: &[&str] = &["STOR", "STOU", "APPE", "RETR"];

/// A session's control connection.
#[derive(Default)]
pub(super) struct Ftp {
    lines: Both<Line>,
    user: Option<Arc<str>>,
    /// What the client asked for and the server hasn't answered.
    waits: Waits,
    hands: Hands,
    /// Bytes of the last segment that are TLS's already, once it goes on so.
    tls: Option<usize>,
    /// The number of a reply of several lines (RFC 959 4.2), until its last.
    many: Option<[u8; 3]>,
}

/// What tells a person from a program.
#[derive(Default)]
struct Hands {
    answered: Option<Timestamp>,
    hesitated: u8,
    listed: u8,
}

impl Hands {
    fn commands(&mut self, verb: &[u8], time: Timestamp) {
        let answered = self.answered.take();
        let hesitates = answered.is_some_and(|answered| time.since(answered) >= HESITATION);
        self.hesitated = self.hesitated.saturating_add(hesitates.into());
        self.listed = self.listed.saturating_add(LISTS.contains(&verb).into());
    }

    const fn are_there(&self) -> bool {
        self.hesitated >= OFTEN && self.listed >= OFTEN
    }
}

/// A line under way.
#[derive(Default)]
struct Line {
    held: Vec<u8>,
    /// Its beginning is missing.
    torn: bool,
}

#[derive(Default)]
struct Waits {
    login: bool,
    encryption: bool,
    /// Where the client is to be called.
    port: Option<(IpAddr, u16)>,
    transfer: Option<(&'static str, Option<Arc<str>>)>,
}

impl Dissector for Ftp {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let line = self.lines.of(segment.direction);
        if segment.gap > 0 {
            line.held.clear();
            line.torn = true;
        }
        let mut unread = segment.data.len();
        for piece in segment.data.split_inclusive(|byte| *byte == b'\n') {
            let line = self.lines.of(segment.direction);
            if segment.direction == Direction::Orig
                && self.waits.encryption
                && line.held.is_empty()
                && piece.first() == Some(&TLS_HANDSHAKE)
            {
                self.tls = Some(unread);
                return Progress::Done;
            }
            unread = unread.saturating_sub(piece.len());
            let room = KEEP.saturating_sub(line.held.len());
            // There is room for it.
            let _fits = buffer::append(&mut line.held, piece.get(..room).unwrap_or(piece), KEEP);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let held = std::mem::take(&mut line.held);
            if std::mem::take(&mut line.torn) {
                continue;
            }
            match segment.direction {
                Direction::Orig => self.command(held.trim_ascii_end(), segment.time),
                Direction::Resp => {
                    self.hands.answered = Some(segment.time);
                    if self.reply_line(held.trim_ascii_end(), out) {
                        self.tls = Some(unread);
                        return Progress::Done;
                    }
                }
            }
        }
        Progress::More
    }

    fn starts_tls(&self) -> Option<usize> {
        self.tls
    }
}

impl Ftp {
    fn command(&mut self, line: &[u8], time: Timestamp) {
        let end = line.iter().position(|byte| *byte == b' ');
        let (verb, rest) = line
            .split_at_checked(end.unwrap_or(line.len()))
            .unwrap_or((line, &[]));
        let (verb, rest) = (verb.to_ascii_uppercase(), rest.trim_ascii());
        self.hands.commands(&verb, time);
        let transfer = TRANSFERS.iter().find(|known| known.as_bytes() == verb);
        match verb.as_slice() {
            b"USER" => self.user = opt_text(rest, MAX_USER),
            b"PASS" => self.waits.login = true,
            b"AUTH" => self.waits.encryption = true,
            b"PORT" => self.waits.port = port(rest),
            b"EPRT" => self.waits.port = extended_port(rest),
            _ => {}
        }
        if let Some(verb) = transfer {
            self.waits.transfer = Some((verb, opt_text(rest, MAX_PATH)));
        }
    }

    /// Whether the session goes on as TLS.
    fn reply_line(&mut self, line: &[u8], out: &mut Vec<Transaction>) -> bool {
        let Some((code, rest)) = line.split_first_chunk::<3>() else {
            return false;
        };
        let last = matches!(rest.first(), None | Some(b' '));
        if let Some(many) = self.many {
            if !last || many != *code {
                return false;
            }
            self.many = None;
        } else if rest.first() == Some(&b'-') && code.iter().all(u8::is_ascii_digit) {
            self.many = Some(*code);
            return false;
        }
        last && self.reply(*code, rest, out)
    }

    fn reply(&mut self, code: [u8; 3], rest: &[u8], out: &mut Vec<Transaction>) -> bool {
        if std::mem::take(&mut self.waits.encryption) && code == *b"234" {
            return true;
        }
        let refused = matches!(code, [b'4' | b'5', ..]);
        match &code {
            b"227" => {
                let digits = rest.iter().position(u8::is_ascii_digit).unwrap_or_default();
                let said = port(rest.get(digits..).unwrap_or_default());
                out.extend(said.map(|(ip, port)| data(Direction::Resp, Some(ip), port)));
            }
            b"229" => {
                let port = extended_passive(rest);
                out.extend(port.map(|port| data(Direction::Resp, None, port)));
            }
            b"200" => {
                let said = self.waits.port.take();
                out.extend(said.map(|(ip, port)| data(Direction::Orig, Some(ip), port)));
            }
            _ if refused => self.waits.port = None,
            _ => {}
        }
        let success = matches!(&code, b"230" | b"202");
        if self.waits.login && (success || matches!(&code, b"530" | b"430" | b"421")) {
            self.waits.login = false;
            out.push(Transaction::Login(Login {
                protocol: "ftp",
                user: self.user.clone(),
                success,
                code: opt_text(&code, 8),
            }));
            return false;
        }
        if (refused || matches!(&code, b"125" | b"150" | b"226" | b"250"))
            && let Some((verb, path)) = self.waits.transfer.take()
        {
            out.push(Transaction::Ftp(FtpMessage::Transfer {
                verb,
                path,
                accepted: !refused,
                by_hand: self.hands.are_there(),
            }));
        }
        false
    }
}

const fn data(listener: Direction, address: Option<IpAddr>, port: u16) -> Transaction {
    Transaction::Ftp(FtpMessage::Data {
        listener,
        address,
        port,
    })
}

/// `h1,h2,h3,h4,p1,p2` (RFC 959 4.1.2), whatever follows.
fn port(text: &[u8]) -> Option<(IpAddr, u16)> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit() && *byte != b',');
    let text = text.get(..end.unwrap_or(text.len()))?;
    let mut numbers = text.split(|byte| *byte == b',').map(number::<u8>);
    let mut next = || numbers.next().flatten();
    let ip = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    let port = u16::from_be_bytes([next()?, next()?]);
    (port != 0).then_some((ip.into(), port))
}

/// `|1|10.0.0.7|6275|` or `|2|fd00::7|6275|`, with whatever as the bar (RFC 2428 2).
fn extended_port(text: &[u8]) -> Option<(IpAddr, u16)> {
    let (bar, rest) = text.split_first()?;
    let mut parts = rest.split(|byte| byte == bar);
    let _family = parts.next()?;
    let ip = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let port = number::<u16>(parts.next()?)?;
    (port != 0).then_some((ip, port))
}

/// `Entering Extended Passive Mode (|||6446|)` (RFC 2428 3).
fn extended_passive(text: &[u8]) -> Option<u16> {
    let opens = text.iter().position(|byte| *byte == b'(')?;
    let [bar, second, third, rest @ ..] = text.get(opens.saturating_add(1)..)? else {
        return None;
    };
    let port = number::<u16>(rest.split(|byte| byte == bar).next()?)?;
    (bar == second && bar == third && port != 0).then_some(port)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
