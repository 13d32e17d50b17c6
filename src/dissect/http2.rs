//! HTTP/2 in clear text (RFC 9113), as gRPC speaks it inside clusters: heads of requests and responses.
//!
//! A request is told with its response, one after the other as over HTTP/1, however the streams were mixed. Bodies are
//! passed over. Once a header block can't be read the compression's state is lost, and the flow is given up.

use super::frames::{Frames, MAX_KEEP, Plan, Step};
use super::{
    Both, Carrier, Dissector, DissectorSpec, HttpRequest, HttpResponse, Probe, Progress, Segment,
    Transaction, buffer, http1,
};
use crate::flow::Direction;

mod hpack;

use hpack::{Decoder, Name};

/// HTTP/2 with prior knowledge, or after an upgrade.
pub(super) const HTTP2: DissectorSpec = DissectorSpec {
    name: "http2",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Http2::default()),
};

/// What a client sends first (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_LEN: usize = 9;
/// The largest frame that a peer may send unasked, and the largest that anybody may ask for within reason.
const MAX_FRAME: u32 = 1 << 20;
/// A block in several frames.
const MAX_BLOCK: usize = 32 * 1024;
/// Requests waiting for their responses.
const MAX_WAITING: usize = 32;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The preface, or the settings with which a server begins.
fn probe(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    if segment.direction == Direction::Orig || data.first() == Some(&b'P') {
        return match data.get(..PREFACE.len()) {
            Some(PREFACE) => Probe::Certain,
            None if PREFACE.starts_with(data) => Probe::Unsure,
            _ => Probe::NotForUs,
        };
    }
    let is: [fn(u8) -> bool; HEADER_LEN] = [
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte.is_multiple_of(6) && byte <= 96,
        |byte| byte == SETTINGS,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 0,
    ];
    if data.iter().zip(is).any(|(byte, is)| !is(*byte)) {
        Probe::NotForUs
    } else if data.len() < HEADER_LEN {
        Probe::Unsure
    } else {
        Probe::Certain
    }
}

#[derive(Default)]
struct Http2 {
    sides: Both<Side>,
    /// Requests without a response so far, by their streams.
    waiting: Vec<(u32, HttpRequest)>,
}

/// One direction.
#[derive(Default)]
struct Side {
    begun: bool,
    /// How much of the preface came.
    preface: usize,
    frames: Frames,
    decoder: Decoder,
    /// A header block that goes on in the next frame, and its stream.
    block: Vec<u8>,
    open: Option<u32>,
}

impl Dissector for Http2 {
    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let side = self.sides.of(segment.direction);
        let mut data = segment.data;
        if segment.gap > 0 && !side.frames.skip_gap(segment.gap.into()) {
            return Progress::Desynced;
        }
        if !side.begun && !side.pass_preface(&mut data) {
            return Progress::More;
        }
        loop {
            let side = self.sides.of(segment.direction);
            let frame = match side.frames.next(&mut data, HEADER_LEN, plan) {
                Step::Message(frame) => frame,
                Step::More => return Progress::More,
                Step::Bad => return Progress::Desynced,
            };
            let Ok(complete) = side.take(&frame) else {
                return Progress::Desynced;
            };
            if let Some(stream) = complete {
                let block = std::mem::take(&mut side.block);
                let Some(head) = Head::read(&mut side.decoder, &block) else {
                    return Progress::Desynced;
                };
                self.tell(stream, &head, out);
            }
        }
    }

    fn held(&self) -> usize {
        let held = |side: &Side| side.block.capacity().saturating_add(side.frames.held());
        held(&self.sides.orig).saturating_add(held(&self.sides.resp))
    }

    fn skipped(&self) -> u64 {
        let (orig, resp) = (
            self.sides.orig.frames.skipped(),
            self.sides.resp.frames.skipped(),
        );
        orig.saturating_add(resp)
    }

    fn finish(&mut self, out: &mut Vec<Transaction>) {
        let unanswered = self.waiting.drain(..);
        out.extend(unanswered.map(|(_, request)| Transaction::HttpRequest(request)));
    }
}

fn plan(header: &[u8]) -> Option<Plan> {
    let &[l0, l1, l2, kind, ..] = header else {
        return None;
    };
    let length = u32::from_be_bytes([0, l0, l1, l2]);
    let total = u64::from(length).saturating_add(HEADER_LEN as u64);
    let wanted = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION);
    (length <= MAX_FRAME).then_some(Plan {
        keep: if wanted {
            usize::try_from(total).unwrap_or(usize::MAX).min(MAX_KEEP)
        } else {
            HEADER_LEN
        },
        total,
        mass: !wanted,
    })
}

/// The state of the compression is lost.
struct Lost;

impl Side {
    /// Whether frames follow now.
    fn pass_preface(&mut self, data: &mut &[u8]) -> bool {
        // No frame begins so: it would be too long.
        while let Some((first, rest)) = data.split_first() {
            if PREFACE.get(self.preface) != Some(first) {
                break;
            }
            self.preface = self.preface.saturating_add(1);
            *data = rest;
        }
        self.begun = !data.is_empty() || self.preface == PREFACE.len();
        self.begun
    }

    /// Takes a frame, and gives the stream whose header block is complete with it.
    fn take(&mut self, frame: &[u8]) -> Result<Option<u32>, Lost> {
        let (Some(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]), Some(mut payload)) =
            (frame.first_chunk(), frame.get(HEADER_LEN..))
        else {
            return Err(Lost);
        };
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        match (kind, self.open) {
            (CONTINUATION, Some(open)) if open == stream => {}
            // Nothing may stand between the frames of a block.
            (_, Some(_)) | (CONTINUATION, None) => return Err(Lost),
            (HEADERS | PUSH_PROMISE, None) => {}
            (_, None) => return Ok(None),
        }
        if payload.len() < length {
            return Err(Lost);
        }
        if kind != CONTINUATION {
            payload = unpadded(kind, flags, payload).ok_or(Lost)?;
        }
        if !buffer::append(&mut self.block, payload, MAX_BLOCK) {
            return Err(Lost);
        }
        let ends = flags & END_HEADERS != 0;
        self.open = (!ends).then_some(stream);
        Ok(ends.then_some(stream))
    }
}

/// The header block's part of a frame (RFC 9113 6.2, 6.6).
fn unpadded(kind: u8, flags: u8, mut payload: &[u8]) -> Option<&[u8]> {
    if flags & PADDED != 0 {
        let (&padding, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub(padding.into())?)?;
    }
    let before = match kind {
        PUSH_PROMISE => 4,
        _ if flags & PRIORITY != 0 => 5,
        _ => 0,
    };
    payload.get(before..)
}

/// What a header block says.
#[derive(Default)]
struct Head {
    method: Vec<u8>,
    path: Vec<u8>,
    status: Vec<u8>,
    /// The other fields, as HTTP/1 has them.
    fields: Vec<u8>,
}

impl Head {
    fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Self> {
        let mut head = Self::default();
        decoder.block(block, |name, value| match name {
            Name::Method => head.method = value.to_vec(),
            Name::Path => head.path = value.to_vec(),
            Name::Status => head.status = value.to_vec(),
            Name::Authority => head.field(b"host", value),
            Name::Protocol => head.field(b"upgrade", value),
            Name::UserAgent => head.field(b"user-agent", value),
            Name::ContentType => head.field(b"content-type", value),
            Name::ContentLength => head.field(b"content-length", value),
            Name::Server => head.field(b"server", value),
            Name::Authorization => head.field(b"authorization", value),
            Name::Forwarded => head.field(b"forwarded", value),
            Name::Other => {}
        })?;
        Some(head)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.fields.len() < MAX_KEEP && !value.iter().any(u8::is_ascii_control) {
            self.fields.extend([name, b": ", value, b"\r\n"].concat());
        }
    }

    /// As HTTP/1 would have said it, so that one reader understands both.
    fn as_http1(&self, line: &[&[u8]]) -> Vec<u8> {
        [&line.concat(), &b"\r\n"[..], &self.fields, b"\r\n"].concat()
    }

    fn request(&self) -> Option<HttpRequest> {
        let target: &[u8] = if self.path.is_empty() {
            b"*"
        } else {
            &self.path
        };
        let line = [&self.method, &b" "[..], target, b" HTTP/1.1"];
        let mut request = http1::request(&self.as_http1(&line))?;
        // Of credentials, nothing but the scheme was given.
        request.secret = None;
        Some(request)
    }

    fn response(&self) -> Option<HttpResponse> {
        let line = [&b"HTTP/1.1 "[..], &self.status, b" "];
        http1::response(&self.as_http1(&line))
    }
}

impl Http2 {
    fn tell(&mut self, stream: u32, head: &Head, out: &mut Vec<Transaction>) {
        if !head.method.is_empty() {
            let Some(request) = head.request() else {
                return;
            };
            if self.waiting.len() >= MAX_WAITING {
                let (_, oldest) = self.waiting.remove(0);
                out.push(Transaction::HttpRequest(oldest));
            }
            self.waiting.push((stream, request));
        } else if let Some(response) = head.response() {
            // Interim ones are followed by another; trailers have no status.
            if response.status < 200 {
                return;
            }
            let asked = self.waiting.iter().position(|(asked, _)| *asked == stream);
            if let Some(at) = asked {
                let (_, request) = self.waiting.remove(at);
                out.push(Transaction::HttpRequest(request));
            }
            out.push(Transaction::HttpResponse(response));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::testing::{any_bytes_return, conversation, probed};
    use Direction::{Orig, Resp};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn field(index: u8, value: &str) -> Vec<u8> {
        let mut bytes = vec![0x40 | index, value.len() as u8];
        bytes.extend(value.as_bytes());
        bytes
    }

    /// `:method POST`, `:scheme http`, then path, authority, and a login.
    fn call(path: &str) -> Vec<u8> {
        [
            vec![0x83, 0x86],
            field(4, path),
            field(1, "orders.shop:50051"),
            field(58, "grpc-go/1.60.1"),
            field(23, "Bearer s3cret"),
        ]
        .concat()
    }

    fn lines(turns: &[(Direction, &[u8])]) -> Vec<String> {
        let lines = conversation(HTTP2.build, turns);
        assert!(!lines.join("").contains("s3cret"));
        lines
    }

    #[test]
    fn a_proxy_says_on_whose_behalf_it_asks() {
        for (field, forwarded) in [(field(60, "1.1 edge"), "true"), (Vec::new(), "false")] {
            let head = [call("/"), field].concat();
            let asked = [PREFACE, &frame(HEADERS, END_HEADERS | 1, 1, &head)].concat();
            let lines = lines(&[(Orig, &asked)]);
            let told = format!("forwarded: {forwarded}");
            assert!(lines.join("").contains(&told), "{lines:?}");
        }
    }

    #[test]
    fn calls_are_told_with_their_answers_however_streams_mix() {
        let asked = [
            PREFACE,
            &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            &frame(HEADERS, END_HEADERS, 1, &call("/shop.Orders/Get")),
            &frame(0, 1, 1, b"\0\0\0\0\x02ab"),
            &frame(HEADERS, END_HEADERS, 3, &call("/shop.Orders/Put")),
        ]
        .concat();
        let ok = [vec![0x88], field(31, "application/grpc")].concat();
        let answered = [
            frame(SETTINGS, 0, 0, &[]),
            frame(SETTINGS, 1, 0, &[]),
            frame(HEADERS, END_HEADERS, 3, &ok),
            frame(HEADERS, END_HEADERS, 1, &[0x8d]),
            frame(HEADERS, END_HEADERS | 1, 3, &[0, 1, b'x', 1, b'0']),
        ]
        .concat();
        let lines = lines(&[(Orig, &asked), (Resp, &answered)]);
        let has = |at: usize, words: &[&str]| {
            let line: &String = &lines[at];
            for word in words {
                assert!(line.contains(word), "{word}: {line}");
            }
        };
        assert_eq!(lines.len(), 4, "{lines:?}");
        has(
            0,
            &[
                "HttpRequest",
                "\"POST\"",
                "\"/shop.Orders/Put\"",
                "\"orders.shop\"",
                "grpc-go",
                "bearer",
            ],
        );
        has(1, &["HttpResponse", "200", "application/grpc"]);
        has(2, &["HttpRequest", "\"/shop.Orders/Get\""]);
        has(3, &["HttpResponse", "404"]);
    }

    #[test]
    fn a_block_may_be_padded_and_go_on_in_other_frames() {
        let block = call("/a");
        let (head, tail) = block.split_at(10);
        let padded = [&[2, 0, 0, 0, 0, 7][..], head, &[0, 0]].concat();
        let asked = [
            PREFACE,
            &frame(HEADERS, PADDED | PRIORITY, 1, &padded),
            &frame(CONTINUATION, END_HEADERS, 1, tail),
        ]
        .concat();
        let lines = lines(&[(Orig, &asked)]);
        assert!(lines[0].contains("\"/a\""), "{lines:?}");
    }

    #[test]
    fn a_block_that_makes_no_sense_ends_it() {
        for frames in [
            frame(HEADERS, END_HEADERS, 1, &[0xbe]),
            frame(CONTINUATION, END_HEADERS, 1, &[0x83]),
            [frame(HEADERS, 0, 1, &[0x83]), frame(0, 0, 1, b"x")].concat(),
            frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 0x83]),
            frame(HEADERS, 0, 1, &vec![0x83; 16_384]),
        ] {
            let asked = [PREFACE, &frames].concat();
            let ended = lines(&[(Orig, &asked)]);
            assert_eq!(ended, ["desynced"]);
        }
    }

    #[test]
    fn a_block_without_an_end_is_given_up() {
        let mut dissector = Http2::default();
        let mut out = Vec::new();
        let segment = crate::dissect::testing::segment;
        dissector.feed(&segment(Orig, PREFACE), &mut out);
        dissector.feed(
            &segment(Orig, &frame(HEADERS, 0, 1, &[0x83; 4000])),
            &mut out,
        );
        let more = frame(CONTINUATION, 0, 1, &[0x83; 4000]);
        let end =
            (0..100).find(|_| dissector.feed(&segment(Orig, &more), &mut out) != Progress::More);
        assert_eq!(end, Some(7));
        assert!(dissector.sides.orig.block.capacity() <= MAX_BLOCK);
    }

    #[test]
    fn it_is_known_by_the_preface_or_the_servers_settings() {
        let probed = |direction, data: &[u8]| probed(probe, direction, data);
        assert_eq!(probed(Orig, PREFACE), Probe::Certain);
        assert_eq!(
            probed(Orig, b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"),
            Probe::NotForUs
        );
        assert_eq!(
            probed(Resp, &frame(SETTINGS, 0, 0, &[0; 18])),
            Probe::Certain
        );
        assert_eq!(
            probed(Resp, &frame(SETTINGS, 0, 0, &[0; 17])),
            Probe::NotForUs
        );
        assert_eq!(
            probed(Orig, &frame(SETTINGS, 0, 0, &[0; 18])),
            Probe::NotForUs
        );
    }

    #[test]
    fn any_bytes() {
        any_bytes_return(HTTP2.build, probe);
    }
}
