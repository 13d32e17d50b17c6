//! SOCKS 4, 4a and 5 (RFC 1928, RFC 1929): whom a client asks a proxy to reach, who it says it is, and then the
//! conversation that the proxy carries.
//!
//! A greeting is three bytes that anybody may send, so nobody is called a proxy before the server has answered as one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::text::{lower_text, opt_text};
use super::tunnel::{Inside, TunnelOpened};
use super::{
    Both, Carrier, Dissector, DissectorSpec, Login, Opening, PROBE_WINDOW, Probe, Progress,
    Segment, ShellMarks, Transaction, buffer,
};
use crate::flow::Direction;

/// SOCKS over TCP. Asked last: others have longer marks.
pub(super) const SOCKS: DissectorSpec = DissectorSpec {
    name: "socks",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Socks::default()),
};

const CARRIER: &str = "socks";
/// What is kept of either end until the proxy has let the client through.
const MAX_HELD: usize = 16 * 1024;
const MAX_USER: usize = 64;
const MAX_TARGET: usize = 256;
/// Ways to log in that a client offers at most.
const MAX_METHODS: u8 = 10;
const WITH_PASSWORD: u8 = 2;
const NONE_FITS: u8 = 0xff;

/// A client's first words. What they are worth, the server's answer shows.
fn probe(segment: &Segment<'_>) -> Probe {
    if segment.direction == Direction::Resp {
        return Probe::NotForUs;
    }
    match segment.data {
        [4 | 5] => Probe::Unsure,
        [5, count @ 1..=MAX_METHODS, methods @ ..] => {
            let count = usize::from(*count);
            let offered = methods.get(..count).unwrap_or(methods);
            if !offered.iter().all(|method| is_method(*method)) {
                Probe::NotForUs
            } else if methods.len() < count {
                Probe::Unsure
            } else {
                Probe::Certain
            }
        }
        [4, 1 | 2, rest @ ..] if rest.len() < 7 => Probe::Unsure,
        [4, 1 | 2, rest @ ..] => match rest.get(6..).unwrap_or_default() {
            user if user.iter().take(MAX_USER).any(|byte| *byte == 0) => Probe::Certain,
            user if user.len() >= MAX_USER => Probe::NotForUs,
            _ => Probe::Unsure,
        },
        _ => Probe::NotForUs,
    }
}

/// Registered, or for private use.
const fn is_method(method: u8) -> bool {
    matches!(method, 0..=9 | 0x80..=0xfe)
}

#[derive(Default)]
struct Socks {
    held: Both<Vec<u8>>,
    answered: bool,
    told_login: bool,
    inside: Option<Box<Inside>>,
    /// It was no proxy, as this end showed, who may yet go on.
    stranger: Option<Direction>,
    depth: u8,
}

/// What both ends' words come to so far.
enum Standing {
    /// There is more to come.
    More,
    /// This isn't SOCKS.
    Other,
    /// The proxy refuses, or something else than a connection was asked for.
    Over,
    /// The connection is the other conversation's from these places on.
    Open {
        target: Arc<str>,
        after: (usize, usize),
    },
}

/// Reads one end's words in turn.
struct Words<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.all.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A length, and as many bytes.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }

    /// Up to a zero byte.
    fn text(&mut self) -> Option<&'a [u8]> {
        let rest = self.all.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        self.at = self.at.checked_add(length)?.checked_add(1)?;
        rest.get(..length)
    }
}

impl Dissector for Socks {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        if let Some(inside) = &mut self.inside {
            return inside.feed(segment, out);
        }
        if let Some(speaker) = self.stranger {
            return self.hear_out(speaker, segment, out);
        }
        if segment.gap > 0 {
            return self.end(out);
        }
        let held = self.held.of(segment.direction);
        let room = MAX_HELD.saturating_sub(held.len()).min(segment.data.len());
        let (part, rest) = segment.data.split_at(room);
        let _fits = buffer::append(held, part, MAX_HELD);
        let (client, server) = (
            std::mem::take(&mut self.held.orig),
            std::mem::take(&mut self.held.resp),
        );
        let standing = self.judge(&client, &server, out);
        (self.held.orig, self.held.resp) = (client, server);
        match standing {
            Standing::More if rest.is_empty() => Progress::More,
            Standing::More => self.end(out),
            Standing::Over => Progress::Done,
            Standing::Other => {
                self.stranger = Some(segment.direction);
                self.hear_out(
                    segment.direction,
                    &Segment {
                        data: rest,
                        ..*segment
                    },
                    out,
                )
            }
            Standing::Open { target, after } => {
                let progress = self.open(target, after, segment, out);
                match &mut self.inside {
                    Some(inside) if progress == Progress::More && !rest.is_empty() => inside.feed(
                        &Segment {
                            data: rest,
                            ..*segment
                        },
                        out,
                    ),
                    _ => progress,
                }
            }
        }
    }

    fn confirmed(&self) -> bool {
        self.answered
    }

    fn held(&self) -> usize {
        let Both { orig, resp } = &self.held;
        let inside = self.inside.as_ref().map_or(0, |inside| inside.held());
        orig.capacity()
            .saturating_add(resp.capacity())
            .saturating_add(inside)
    }

    fn skipped(&self) -> u64 {
        self.inside.as_ref().map_or(0, |inside| inside.skipped())
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        if !self.answered {
            self.end(out);
        }
    }

    fn nest(&mut self, depth: u8) {
        self.depth = depth;
    }
}

impl Socks {
    fn judge(&mut self, client: &[u8], server: &[u8], out: &mut Vec<Transaction>) -> Standing {
        let mut client = Words { all: client, at: 0 };
        let mut server = Words { all: server, at: 0 };
        let standing = if client.all.first() == Some(&4) {
            self.version4(&mut client, &mut server)
        } else {
            self.version5(&mut client, &mut server, out)
        };
        standing.unwrap_or(Standing::More)
    }

    /// Ends at the first word that isn't there yet.
    fn version5(
        &mut self,
        client: &mut Words<'_>,
        server: &mut Words<'_>,
        out: &mut Vec<Transaction>,
    ) -> Option<Standing> {
        let [_] = client.array()?;
        let methods = client.counted()?;
        let [5] = server.array()? else {
            return Some(Standing::Other);
        };
        let [method] = server.array()?;
        if method != NONE_FITS && !methods.contains(&method) {
            return Some(Standing::Other);
        }
        self.answered = true;
        match method {
            0 => {}
            WITH_PASSWORD => {
                let [_] = client.array()?;
                let user = client.counted()?;
                // The password.
                client.counted()?;
                let [_, status] = server.array()?;
                if !std::mem::replace(&mut self.told_login, true) {
                    out.push(Transaction::Login(Login {
                        protocol: CARRIER,
                        user: opt_text(user, MAX_USER),
                        success: status == 0,
                        code: opt_text(status.to_string().as_bytes(), 8),
                    }));
                }
                if status != 0 {
                    return Some(Standing::Over);
                }
            }
            _ => return Some(Standing::Over),
        }
        let [version, command, _] = client.array()?;
        let target = address(client)?;
        let [_, reply, _] = server.array()?;
        address(server)?;
        Some(if version == 5 && command == 1 && reply == 0 {
            Standing::Open {
                target: lower_text(target.as_bytes(), MAX_TARGET),
                after: (client.at, server.at),
            }
        } else {
            Standing::Over
        })
    }

    fn version4(&mut self, client: &mut Words<'_>, server: &mut Words<'_>) -> Option<Standing> {
        let [_, command, p0, p1, a, b, c, d] = client.array()?;
        // Who asks, as it says itself.
        client.text()?;
        let port = u16::from_be_bytes([p0, p1]);
        let host = match [a, b, c, d] {
            [0, 0, 0, 1..=255] => String::from_utf8_lossy(client.text()?).into_owned(),
            address => Ipv4Addr::from(address).to_string(),
        };
        let [0, reply @ 0x5a..=0x5d] = server.array()? else {
            return Some(Standing::Other);
        };
        self.answered = true;
        server.take(6)?;
        Some(if command == 1 && reply == 0x5a {
            Standing::Open {
                target: lower_text(format!("{host}:{port}").as_bytes(), MAX_TARGET),
                after: (client.at, server.at),
            }
        } else {
            Standing::Over
        })
    }

    fn open(
        &mut self,
        target: Arc<str>,
        (client_at, server_at): (usize, usize),
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        out.push(Transaction::TunnelOpened(TunnelOpened {
            carrier: CARRIER,
            target: Some(target),
            login: self.told_login,
            ..TunnelOpened::default()
        }));
        let Some(mut inside) = Inside::new(CARRIER, self.depth) else {
            return Progress::Done;
        };
        let held = std::mem::take(&mut self.held);
        let mut beyond = [
            (Direction::Orig, held.orig, client_at),
            (Direction::Resp, held.resp, server_at),
        ];
        // Whoever has just said the last word that was missing had said nothing beyond it before; the other may have.
        if segment.direction == Direction::Orig {
            beyond.reverse();
        }
        for (direction, data, at) in beyond {
            let data = data.get(at..).unwrap_or_default();
            if data.is_empty() {
                continue;
            }
            let progress = inside.feed(
                &Segment {
                    direction,
                    data,
                    ..*segment
                },
                out,
            );
            if progress != Progress::More {
                return progress;
            }
        }
        self.inside = Some(Box::new(inside));
        Progress::More
    }

    /// It is no proxy. What either end looks like is told once this one has finished its turn, however that is cut.
    fn hear_out(
        &mut self,
        speaker: Direction,
        segment: &Segment<'_>,
        out: &mut Vec<Transaction>,
    ) -> Progress {
        if segment.direction != speaker || segment.gap > 0 {
            return self.end(out);
        }
        let held = self.held.of(speaker);
        let room = PROBE_WINDOW.saturating_sub(held.len());
        let part = segment.data.get(..room).unwrap_or(segment.data);
        let _fits = buffer::append(held, part, MAX_HELD);
        if held.len() >= PROBE_WINDOW {
            return self.end(out);
        }
        Progress::More
    }

    /// Nothing more will come of it. If it was no proxy, what it looked like is told as of any other stranger.
    fn end(&mut self, out: &mut Vec<Transaction>) -> Progress {
        if self.answered {
            return Progress::Desynced;
        }
        let held = std::mem::take(&mut self.held);
        for (direction, data) in [(Direction::Orig, held.orig), (Direction::Resp, held.resp)] {
            let data = data.get(..PROBE_WINDOW).unwrap_or(&data);
            if !data.is_empty() {
                let marks = ShellMarks::of(data);
                out.push(Transaction::Opening(Opening::new(direction, data, marks)));
            }
        }
        Progress::Done
    }
}

/// An address of version 5 with its port.
fn address(words: &mut Words<'_>) -> Option<String> {
    let [kind] = words.array()?;
    let host = match kind {
        1 => Ipv4Addr::from(words.array::<4>()?).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(words.array::<16>()?)),
        _ => String::from_utf8_lossy(words.counted()?).into_owned(),
    };
    let port = u16::from_be_bytes(words.array()?);
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::testing::{any_bytes_return, conversation, probed};
    use Direction::{Orig, Resp};

    const ASK: &[u8] = b"\x05\x01\0\x03\x0cExample.test\x00\x50";
    const GRANTED: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";

    fn lines(turns: &[(Direction, &[u8])]) -> String {
        conversation(SOCKS.build, turns).join("\n")
    }

    #[test]
    fn whom_the_proxy_reaches_and_what_it_carries() {
        let get = b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n";
        let told = lines(&[
            (Orig, b"\x05\x02\0\x02"),
            (Resp, b"\x05\0"),
            (Orig, ASK),
            (Resp, GRANTED),
            (Orig, get),
        ]);
        assert!(told.contains("carrier: \"socks\""), "{told}");
        assert!(told.contains("example.test:80"), "{told}");
        assert!(told.contains("Protocol(\"http\")"), "{told}");
    }

    #[test]
    fn who_logs_in_and_no_password() {
        let login = |status: &'static [u8]| {
            lines(&[
                (Orig, b"\x05\x01\x02"),
                (Resp, b"\x05\x02"),
                (Orig, b"\x01\x03bob\x06s3cret"),
                (Resp, status),
            ])
        };
        let refused = login(b"\x01\x01");
        assert!(
            refused.contains("bob") && refused.contains("success: false"),
            "{refused}"
        );
        assert!(login(b"\x01\0").contains("success: true"));
        assert!(!refused.contains("s3cret"));
    }

    #[test]
    fn version_4_by_address_or_name() {
        let granted: &[u8] = b"\0\x5a\0\0\0\0\0\0";
        let told = lines(&[(Orig, b"\x04\x01\0\x50\xcb\0\x71\x09me\0"), (Resp, granted)]);
        assert!(told.contains("203.0.113.9:80"), "{told}");
        let told = lines(&[
            (Orig, b"\x04\x01\0\x50\0\0\0\x01\0example.test\0"),
            (Resp, granted),
        ]);
        assert!(told.contains("example.test:80"), "{told}");
        let told = lines(&[
            (Orig, b"\x04\x01\0\x50\xcb\0\x71\x09me\0"),
            (Resp, b"\0\x5b\0\0\0\0\0\0"),
        ]);
        assert_eq!(told, "done");
    }

    /// A hostile pair: the proxy's answers and what follows them come before the client has asked.
    #[test]
    fn who_speaks_ahead_is_heard_in_order() {
        let ahead: Vec<u8> = [b"\x05\0", GRANTED, &[0xb4; 40]].concat();
        let ask: Vec<u8> = [ASK, b"\xaa\x01\0\x13\x69 \x09\x09ahead"].concat();
        let told = lines(&[
            (Orig, b"\x05\x01\0"),
            (Resp, &ahead),
            (Orig, &ask),
            (Resp, b"\x01\0\x3b"),
        ]);
        assert!(told.contains("example.test:80"), "{told}");
    }

    #[test]
    fn who_is_answered_otherwise_spoke_to_no_proxy() {
        let mut socks = Socks::default();
        let mut out = Vec::new();
        let segment = crate::dissect::testing::segment;
        assert_eq!(
            socks.feed(&segment(Orig, b"\x05\x01\0"), &mut out),
            Progress::More
        );
        assert!(!socks.confirmed());
        assert_eq!(socks.feed(&segment(Resp, b"$ "), &mut out), Progress::More);
        assert_eq!(socks.feed(&segment(Orig, b"id"), &mut out), Progress::Done);
        assert!(!socks.confirmed());
        let openings = out
            .iter()
            .filter(|told| matches!(told, Transaction::Opening(_)));
        assert_eq!(openings.count(), 2);
    }

    #[test]
    fn a_stranger_is_told_of_however_it_is_cut() {
        let long = vec![b'x'; MAX_HELD + 9];
        for answer in [&b"220 welcome"[..], &[4; 700], &long] {
            let told = lines(&[(Orig, b"\x05\x01\0"), (Resp, answer), (Orig, b"USER me")]);
            assert_eq!(told.matches("Opening {").count(), 2, "{told}");
        }
        lines(&[(
            Orig,
            &[&b"\x04\x01\0\x50\xcb\0\x71\x09"[..], &long].concat(),
        )]);
    }

    #[test]
    fn greetings_are_plausible() {
        let probed = |data: &[u8]| probed(probe, Orig, data);
        assert_eq!(probed(b"\x05\x01\0"), Probe::Certain);
        assert_eq!(probed(b"\x05\x03\0\x01\x02"), Probe::Certain);
        assert_eq!(probed(b"\x05\x02\0"), Probe::Unsure);
        assert_eq!(probed(b"\x05\x01\x40"), Probe::NotForUs);
        assert_eq!(probed(b"\x05\0\x0b\x03\x10\0\0\0"), Probe::NotForUs);
        assert_eq!(probed(b"\x04\x01\0\x50\xcb\0\x71\x09\0"), Probe::Certain);
    }

    #[test]
    fn any_bytes() {
        any_bytes_return(SOCKS.build, probe);
    }
}
