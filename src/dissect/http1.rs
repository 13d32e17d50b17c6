//! HTTP/1.0 and 1.1 (RFC 9112): the heads of requests and responses, for as long as a connection lives.
//!
//! Owns where each message ends. Bodies are passed over by their declared length or chunk by chunk, never kept. After an
//! accepted CONNECT or upgrade the connection is somebody else's. Which direction asks and which answers is told by each
//! head, so that a flow taken up in the middle reads as well.

mod chunked;
mod head;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use chunked::{Chunked, Verdict};
use head::{Asks, Body, is_token, trim_blank_lines};

use super::{
    Both, Carrier, Dissector, DissectorSpec, PROBE_WINDOW, Probe, Progress, Segment, Transaction,
    buffer,
};
use crate::flow::Direction;

/// HTTP/1 over TCP.
pub(super) const HTTP1: DissectorSpec = DissectorSpec {
    name: "http",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Http1::default()),
};

/// The longest head read.
const MAX_HEAD: usize = 32 * 1024;
const MAX_METHOD: usize = 32;

fn probe(segment: &Segment<'_>) -> Probe {
    let data = trim_blank_lines(segment.data);
    let response = b"HTTP/1.";
    if data.starts_with(response) {
        return Probe::Certain;
    }
    if response.starts_with(data) {
        return Probe::Unsure;
    }
    let line_end = data.iter().position(u8::is_ascii_control);
    let line = line_end.and_then(|end| data.get(..end)).unwrap_or(data);
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let is_method =
        (1..=MAX_METHOD).contains(&method.len()) && method.iter().copied().all(is_token);
    match parts.next() {
        _ if !is_method => Probe::NotForUs,
        Some(rest) if rest.windows(8).any(|part| part == b" HTTP/1.") => Probe::Certain,
        _ if line_end.is_some() => Probe::NotForUs,
        // A target too long to see its end.
        Some(rest) if segment.data.len() >= PROBE_WINDOW => {
            let known = method.iter().all(u8::is_ascii_uppercase) && method.len() >= 3;
            let target = rest.starts_with(b"/") || rest.starts_with(b"http");
            if known && target {
                Probe::Certain
            } else {
                Probe::NotForUs
            }
        }
        _ => Probe::Unsure,
    }
}

/// Both directions of a connection.
#[derive(Default)]
struct Http1 {
    sides: Both<Side>,
    unanswered: Unanswered,
    skipped: u64,
}

/// One direction.
#[derive(Default)]
struct Side {
    place: Place,
    /// The head, if it didn't come in one piece.
    head: Vec<u8>,
    scan: HeadScan,
}

/// What a direction's next byte belongs to.
#[derive(Clone, Copy, Default, Debug)]
enum Place {
    #[default]
    Head,
    /// A body with so many bytes to come; never 0.
    Body(u64),
    Chunked(Chunked),
    /// What only the connection's end delimits.
    Rest,
    /// What follows a CONNECT, until that is answered.
    Held,
}

impl Dissector for Http1 {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let side = self.sides.of(segment.direction);
        if !side.skip_gap(segment.gap.into()) {
            // Whatever is lost with it: the next message may begin right after the hole. If it doesn't, that will show.
            *side = Side::default();
            self.unanswered = Unanswered::default();
        }
        let mut data = segment.data;
        while !data.is_empty() {
            let side = self.sides.of(segment.direction);
            let mut skipped = 0;
            match &mut side.place {
                Place::Body(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX);
                    let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
                    skipped = part.len() as u64;
                    side.place = Place::body(left.saturating_sub(skipped));
                    data = rest;
                }
                Place::Chunked(chunked) => {
                    let (verdict, rest, unread) = chunked.pass(data);
                    match verdict {
                        Verdict::More => {}
                        Verdict::End => side.place = Place::Head,
                        Verdict::Bad => return Progress::Desynced,
                    }
                    skipped = unread;
                    data = rest;
                }
                Place::Rest | Place::Held => {
                    skipped = data.len() as u64;
                    data = &[];
                }
                Place::Head => match side.gather(data) {
                    Gathered::More => data = &[],
                    Gathered::Head(head, rest) => {
                        data = rest;
                        let progress = self.take_head(segment.direction, &head, out);
                        if progress != Progress::More {
                            return progress;
                        }
                    }
                    Gathered::TooLong => return Progress::Desynced,
                },
            }
            self.skipped = self.skipped.saturating_add(skipped);
        }
        Progress::More
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Http1 {
    fn take_head(
        &mut self,
        direction: Direction,
        head: &[u8],
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let place = if trim_blank_lines(head).starts_with(b"HTTP/") {
            let Some((response, body)) = head::response(head) else {
                return Progress::Desynced;
            };
            let status = response.status;
            out.push(Transaction::HttpResponse(response));
            // RFC 9110 15.2: an interim response answers nothing yet; but 101 hands the connection over.
            let asked = match status {
                101 => return Progress::Done,
                100..=199 => None,
                _ => self.unanswered.pop(),
            };
            if asked == Some(Asks::Connect) {
                if matches!(status, 200..=299) {
                    return Progress::Done;
                }
                self.sides.of(direction.reverse()).release();
            }
            match body {
                _ if asked == Some(Asks::Head) || matches!(status, 100..=199 | 204 | 304) => {
                    Some(Place::Head)
                }
                body => Place::after(body),
            }
        } else {
            let Some((request, asks, body)) = head::request(head) else {
                return Progress::Desynced;
            };
            out.push(Transaction::HttpRequest(request));
            self.unanswered.push(asks);
            if asks == Asks::Connect {
                Some(Place::Held)
            } else {
                Place::after(body)
            }
        };
        let Some(place) = place else {
            return Progress::Desynced;
        };
        self.sides.of(direction).place = place;
        Progress::More
    }
}

/// What came of looking for a head's end.
enum Gathered<'a> {
    More,
    /// The head, and what follows it.
    Head(Cow<'a, [u8]>, &'a [u8]),
    TooLong,
}

impl Side {
    /// Takes bytes up to the end of the head; copies them only if the head comes in several pieces.
    fn gather<'a>(&mut self, data: &'a [u8]) -> Gathered<'a> {
        let end = self.scan.end(data);
        let split = data.split_at_checked(end.unwrap_or(data.len()));
        let (part, rest) = split.unwrap_or((data, &[]));
        let complete = end.is_some();
        if complete && self.head.is_empty() && part.len() <= MAX_HEAD {
            self.scan = HeadScan::default();
            return Gathered::Head(Cow::Borrowed(part), rest);
        }
        if !buffer::append(&mut self.head, part, MAX_HEAD) {
            return Gathered::TooLong;
        }
        if !complete {
            return Gathered::More;
        }
        self.scan = HeadScan::default();
        Gathered::Head(Cow::Owned(std::mem::take(&mut self.head)), rest)
    }

    /// Passes over bytes that the capture lacks; says whether it still knows where it is.
    fn skip_gap(&mut self, gap: u64) -> bool {
        match &mut self.place {
            _ if gap == 0 => true,
            Place::Head => false,
            Place::Body(left) if *left < gap => false,
            Place::Body(left) => {
                self.place = Place::body(left.saturating_sub(gap));
                true
            }
            Place::Chunked(chunked) => chunked.skip_gap(gap),
            Place::Rest | Place::Held => true,
        }
    }

    /// A CONNECT was refused: the next bytes are a request again.
    const fn release(&mut self) {
        if matches!(self.place, Place::Held) {
            self.place = Place::Head;
        }
    }
}

impl Place {
    const fn body(left: u64) -> Self {
        if left == 0 {
            Self::Head
        } else {
            Self::Body(left)
        }
    }

    /// Where a direction is after a head, unless nobody knows.
    const fn after(body: Body) -> Option<Self> {
        match body {
            Body::Length(length) => Some(Self::body(length)),
            Body::Chunked => Some(Self::Chunked(Chunked::new())),
            Body::ToEnd => Some(Self::Rest),
            Body::Unknown => None,
        }
    }
}

/// Looks for the blank line that ends a head, over any number of pieces and each byte once.
#[derive(Clone, Copy, Debug)]
struct HeadScan {
    /// Whether a line with something in it has begun.
    begun: bool,
    /// Whether the line so far is empty but for carriage returns.
    blank: bool,
}

impl Default for HeadScan {
    fn default() -> Self {
        Self {
            begun: false,
            blank: true,
        }
    }
}

impl HeadScan {
    /// Where in `data` the head ends, if it does.
    fn end(&mut self, data: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            at = at.saturating_add(line.len());
            if line.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                self.begun = true;
                self.blank = false;
            }
            if line.last() == Some(&b'\n') {
                if self.begun && self.blank {
                    return Some(at);
                }
                self.blank = true;
            }
        }
        None
    }
}

/// What the requests not yet answered ask for, oldest first; of many pipelined, the last 32.
#[derive(Clone, Copy, Default, Debug)]
struct Unanswered {
    /// Two bits each, the newest lowest.
    kinds: u64,
    count: u32,
}

impl Unanswered {
    const MAX: u32 = u64::BITS / 2;

    fn push(&mut self, asks: Asks) {
        self.kinds = self.kinds << 2 | asks as u64;
        // Only requests are seen, perhaps; forgetting the oldest keeps what is to come in order.
        self.count = self.count.saturating_add(1).min(Self::MAX);
    }

    fn pop(&mut self) -> Option<Asks> {
        self.count = self.count.checked_sub(1)?;
        let oldest = self.kinds >> self.count.saturating_mul(2) & 0b11;
        [Asks::Plain, Asks::Head, Asks::Connect]
            .into_iter()
            .find(|asks| *asks as u64 == oldest)
    }
}
