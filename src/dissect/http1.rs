//! HTTP/1.0 and 1.1 (RFC 9112): the heads of requests and responses, for as long as a connection lives.
//!
//! Owns where each message ends. Bodies are passed over by their declared length or chunk by chunk, never kept. After an
//! accepted CONNECT or upgrade the connection is another conversation's, which is followed in turn. Which direction asks and which answers is told by each
//! head, so that a flow taken up in the middle reads as well.

mod body;
mod chunked;
mod exchange;
mod head;
mod overheard;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

pub use body::BodyLooks;
use chunked::{Chunked, Verdict};
use exchange::Exchange;
pub use exchange::{HttpBody, HttpExchange};
use head::{Asks, Body, is_token, trim_blank_lines};

use super::tunnel::{Inside, TunnelOpened};
use super::web_database::WebDatabases;
use super::websocket::{self, WebSocket};
use super::{
    Both, Carrier, Dissector, DissectorSpec, HttpRequest, HttpResponse, PROBE_WINDOW, Probe,
    Progress, Segment, Transaction, buffer,
};

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
/// What a client may send after a CONNECT before that is answered, and is still read.
const MAX_HELD: usize = 2048;

/// Reads the complete head of a request.
pub(super) fn request(head: &[u8]) -> Option<HttpRequest> {
    head::request(head).map(|head| head.request)
}

/// Reads the complete head of a response.
pub(super) fn response(head: &[u8]) -> Option<HttpResponse> {
    head::response(head).map(|head| head.response)
}

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
    exchange: Exchange,
    databases: WebDatabases,
    skipped: u64,
    depth: u8,
    /// What the last request that asks for it would make of the connection.
    opening: Option<Box<TunnelOpened>>,
    /// What a client sends after a CONNECT before that is answered.
    held: Vec<u8>,
    tunnel: Option<Box<Tunnel>>,
}

/// The conversation that the connection was handed over to.
enum Tunnel {
    Plain(Inside),
    Framed(WebSocket),
}

impl Tunnel {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        match self {
            Self::Plain(inside) => inside.feed(segment, out),
            Self::Framed(websocket) => websocket.feed(segment, out),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Plain(inside) => inside.held(),
            Self::Framed(websocket) => websocket.held(),
        }
    }

    const fn skipped(&self) -> u64 {
        match self {
            Self::Plain(inside) => inside.skipped(),
            Self::Framed(websocket) => websocket.skipped(),
        }
    }
}

/// One direction.
#[derive(Default)]
struct Side {
    place: Place,
    /// The head, if it didn't come in one piece.
    head: Vec<u8>,
    scan: HeadScan,
    /// Whether its last message was a response.
    answers: bool,
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
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.feed(segment, out);
        }
        let side = self.sides.of(segment.direction);
        if !side.skip_gap(segment.gap.into()) {
            // Whatever is lost with it: the next message may begin right after the hole. If it doesn't, that will show.
            *side = Side::default();
            self.unanswered = Unanswered::default();
            self.exchange.lose();
            self.databases.lose();
        }
        if segment.gap > 0 && !self.sides.of(segment.direction).answers {
            // What is missing may be a part of it.
            self.databases.body_ends(out);
        }
        let mut data = segment.data;
        while !data.is_empty() {
            let side = self.sides.of(segment.direction);
            let asks = !side.answers;
            let mut skipped = 0;
            let mut body: &[u8] = &[];
            match &mut side.place {
                Place::Body(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX);
                    let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
                    skipped = part.len() as u64;
                    body = part;
                    if asks {
                        self.databases.body(part, out);
                    }
                    side.place = Place::body(left.saturating_sub(skipped));
                    data = rest;
                }
                Place::Chunked(chunked) => {
                    let (verdict, rest, unread) = chunked.pass(data, |part| {
                        if asks {
                            self.databases.body(part, out);
                        }
                    });
                    match verdict {
                        Verdict::More => {}
                        Verdict::End => side.place = Place::Head,
                        Verdict::Bad => return Progress::Desynced,
                    }
                    skipped = unread;
                    let passed = data.len().saturating_sub(rest.len());
                    body = data.get(..passed).unwrap_or_default();
                    data = rest;
                }
                Place::Rest => {
                    skipped = data.len() as u64;
                    body = data;
                    data = &[];
                }
                Place::Held => {
                    skipped = data.len() as u64;
                    let room = MAX_HELD.saturating_sub(self.held.len());
                    let part = data.get(..room).unwrap_or(data);
                    // It fits: there is room for it.
                    let _fits = buffer::append(&mut self.held, part, MAX_HELD);
                    data = &[];
                }
                Place::Head => match side.gather(data) {
                    Gathered::More => data = &[],
                    Gathered::Head(head, rest) => {
                        data = rest;
                        let progress = self.take_head(segment, &head, out);
                        if progress != Progress::More {
                            return progress;
                        }
                        if self.tunnel.is_some() {
                            return self.hand_over(segment, data, out);
                        }
                        continue;
                    }
                    Gathered::TooLong => return Progress::Desynced,
                },
            }
            self.skipped = self.skipped.saturating_add(skipped);
            if !body.is_empty() {
                self.pass_body(segment, body, out);
            }
        }
        Progress::More
    }

    fn held(&self) -> usize {
        let Both { orig, resp } = &self.sides;
        let inside = self.tunnel.as_ref().map_or(0, |tunnel| tunnel.held());
        let heads = orig.head.capacity().saturating_add(resp.head.capacity());
        heads
            .saturating_add(self.held.capacity())
            .saturating_add(inside)
    }

    fn skipped(&self) -> u64 {
        let inside = self.tunnel.as_ref().map_or(0, |tunnel| tunnel.skipped());
        self.skipped.saturating_add(inside)
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        out.extend(self.exchange.overheard(true).map(Transaction::Command));
    }

    fn nest(&mut self, depth: u8) {
        self.depth = depth;
    }
}

impl Http1 {
    fn take_head(
        &mut self,
        segment: &Segment<'_>,
        head: &[u8],
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let direction = segment.direction;
        let answers = trim_blank_lines(head).starts_with(b"HTTP/");
        let place = if answers {
            let Some(mut head) = head::response(head) else {
                return Progress::Desynced;
            };
            let status = head.response.status;
            head.response.asked = self.exchange.mark();
            head.response.to_login = self.exchange.has_password();
            let length = head.response.content_length;
            out.push(Transaction::HttpResponse(head.response));
            // RFC 9110 15.2: an interim response answers nothing yet; but 101 hands the connection over.
            let asked = match status {
                101 => {
                    let mut opened = self.opening.take().unwrap_or_default();
                    if opened.carrier.is_empty() {
                        // The request was missed.
                        opened.carrier = match head.upgrade.as_deref() {
                            Some(websocket::CARRIER) => websocket::CARRIER,
                            _ => "upgrade",
                        };
                        opened.protocol = head.upgrade;
                    }
                    opened.subprotocol = head.subprotocol.or(opened.subprotocol);
                    return self.open(*opened, out);
                }
                100..=199 => None,
                _ => {
                    self.exchange.answered(status, head.declared);
                    self.databases
                        .answered(status, head.clickhouse, length, out);
                    self.unanswered.pop()
                }
            };
            if asked == Some(Asks::Connect) {
                if matches!(status, 200..=299) {
                    let mut opened = self.opening.take().unwrap_or_default();
                    opened.carrier = "connect";
                    return self.open(*opened, out);
                }
                self.held = Vec::new();
                self.sides.of(direction.reverse()).release();
            }
            match head.body {
                _ if asked == Some(Asks::Head) || matches!(status, 100..=199 | 204 | 304) => {
                    Some(Place::Head)
                }
                body => Place::after(body),
            }
        } else {
            let Some(head) = head::request(head) else {
                return Progress::Desynced;
            };
            let path = Arc::clone(&head.request.path);
            let brings = matches!(&*head.request.method, "POST" | "PUT" | "PATCH");
            out.push(Transaction::HttpRequest(head.request));
            self.databases
                .asked(head.database, self.unanswered.count, out);
            self.unanswered.push(head.asks);
            self.exchange.requested(
                segment.time,
                self.unanswered.count == 1,
                brings,
                &path,
                head.declared,
                head.asked,
            );
            if head.opening.is_some() {
                self.opening = head.opening;
            }
            if head.asks == Asks::Connect {
                Some(Place::Held)
            } else {
                Place::after(head.body)
            }
        };
        let Some(place) = place else {
            return Progress::Desynced;
        };
        let side = self.sides.of(direction);
        side.place = place;
        side.answers = answers;
        self.pass_body(segment, &[], out);
        Progress::More
    }

    /// The connection is another conversation's from here on.
    fn open(&mut self, opened: TunnelOpened, out: &mut Vec<Transaction>) -> Progress {
        let tunnel = match opened.carrier {
            websocket::CARRIER => WebSocket::new(self.depth).map(Tunnel::Framed),
            carrier => Inside::new(carrier, self.depth).map(Tunnel::Plain),
        };
        out.push(Transaction::TunnelOpened(opened));
        self.tunnel = tunnel.map(Box::new);
        if self.tunnel.is_some() {
            Progress::More
        } else {
            Progress::Done
        }
    }

    /// Gives the new conversation what belongs to it already.
    fn hand_over(
        &mut self,
        segment: &Segment<'_>,
        rest: &[u8],
        out: &mut Vec<Transaction>,
    ) -> Progress {
        let Some(tunnel) = &mut self.tunnel else {
            return Progress::Done;
        };
        let held = std::mem::take(&mut self.held);
        for (direction, data) in [
            (segment.direction.reverse(), held.as_slice()),
            (segment.direction, rest),
        ] {
            if data.is_empty() {
                continue;
            }
            let progress = tunnel.feed(
                &Segment {
                    direction,
                    data,
                    gap: 0,
                    ..*segment
                },
                out,
            );
            if progress != Progress::More {
                return progress;
            }
        }
        Progress::More
    }

    /// Bytes of a message's body have passed, perhaps the last.
    fn pass_body(&mut self, segment: &Segment<'_>, data: &[u8], out: &mut Vec<Transaction>) {
        let side = self.sides.of(segment.direction);
        let asks = !side.answers;
        let ended = matches!(side.place, Place::Head);
        if asks && ended {
            self.databases.body_ends(out);
        }
        let mut told = None;
        if !data.is_empty() {
            told = self.exchange.body(asks, data, segment.time);
        }
        if ended {
            told = self.exchange.finished(asks, segment.time).or(told);
        }
        out.extend(told.map(Transaction::HttpExchange));
        if !asks {
            out.extend(self.exchange.overheard(false).map(Transaction::Command));
        }
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
