//! The head of an HTTP/1 message: what it says, and how its body is delimited.
//!
//! Values of headers that carry secrets (`Authorization`, `Cookie`, …) are never copied out of the head. Knows nothing of
//! connections.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::body::{Declared, is_coded};
use httparse::{Header, ParserConfig, Request, Response, Status};

use crate::dissect::Commands;
use crate::dissect::commands::in_query;
use crate::dissect::sql::parameter_marks;
use crate::dissect::text::{lower_text, text};
use crate::dissect::{HttpRequest, HttpResponse, TunnelOpened};
use crate::dissect::{Marks, SecretMark};
use crate::dissect::{web_database, websocket};

const MAX_HEADERS: usize = 128;
/// Headers that carry nothing but a key: of many products, OpenStack, Vault, GitLab.
const KEYS: [&str; 4] = [
    "x-api-key",
    "x-auth-token",
    "x-vault-token",
    "private-token",
];
/// Headers by which proxies say on whose behalf they ask.
const FORWARDS: [&str; 4] = ["x-forwarded-for", "forwarded", "via", "x-real-ip"];
const MAX_METHOD: usize = 32;
const MAX_HOST: usize = 255;
const MAX_TEXT: usize = 256;
const MAX_CODE: usize = 16;
/// Longest subprotocol, run of letters and digits in it, and most digits, that still read like a name.
const MAX_SUBPROTOCOL: usize = 48;
const MAX_RUN: usize = 16;
const MAX_DIGITS: usize = 6;

/// How a body is delimited (RFC 9112 6.3), as far as the head alone tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the connection's end: a response that says nothing, or a coding that we can't follow.
    ToEnd,
    /// The head contradicts itself, so that nobody knows.
    Unknown,
}

/// What a request's method means for its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asks {
    /// A response with a body, if it declares one.
    Plain,
    /// A response that declares a body and has none.
    Head,
    /// A tunnel.
    Connect,
}

/// A request's head.
pub(super) struct RequestHead {
    pub(super) request: HttpRequest,
    pub(super) asks: Asks,
    pub(super) body: Body,
    pub(super) declared: Declared,
    /// The conversation that the connection is to be handed over to, if the request asks for that.
    pub(super) opening: Option<Box<TunnelOpened>>,
    /// What it asks of a database, if it is to one.
    pub(super) database: Option<Box<web_database::Ask>>,
    /// Commands that its parameters ask for.
    pub(super) asked: Commands,
}

/// A response's head.
pub(super) struct ResponseHead {
    pub(super) response: HttpResponse,
    pub(super) body: Body,
    pub(super) declared: Declared,
    /// What the connection becomes, if it does.
    pub(super) upgrade: Option<Arc<str>>,
    /// The WebSocket subprotocol chosen.
    pub(super) subprotocol: Option<Arc<str>>,
    /// What it says if it is ClickHouse's.
    pub(super) clickhouse: Option<web_database::ClickHouseAnswer>,
}

/// Reads a request's head, which must be complete.
pub(super) fn request(head: &[u8]) -> Option<RequestHead> {
    read_request(head, None).or_else(|| {
        let (line, fields) = odd_line(head)?;
        let mended = [b"GET / HTTP/1.1\r\n", fields].concat();
        read_request(&mended, Some(line))
    })
}

/// Reads a head; `line` has method and target, if they aren't to be taken from it.
fn read_request(head: &[u8], line: Option<Line<'_>>) -> Option<RequestHead> {
    let mut request = Request::new(&mut []);
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let parsed = lenient().parse_request_with_uninit_headers(&mut request, head, &mut headers);
    let (Ok(Status::Complete(_)), Some(method), Some(target)) =
        (parsed, request.method, request.path)
    else {
        return None;
    };
    let Line { method, target } = line.unwrap_or(Line {
        method: method.as_bytes(),
        target: target.as_bytes(),
    });
    let fields = Fields::gather(request.headers);
    let asks = match method {
        b"HEAD" => Asks::Head,
        b"CONNECT" => Asks::Connect,
        _ => Asks::Plain,
    };
    let database = web_database::ask(&web_database::Request {
        method,
        target,
        authorization: fields.authorization,
        clickhouse_user: fields.clickhouse_user,
        user_agent: fields.user_agent,
        content_length: fields.length.declared().unwrap_or_default(),
        compressed: is_coded(fields.content_encoding),
    });
    let parameters = web_database::parameters(target);
    let tool = tool(target, fields.command);
    let target = Target::split(target, asks);
    let body = match (fields.coding, fields.length) {
        (Coding::Chunked, _) => Body::Chunked,
        (Coding::Other, _) | (_, Length::Contradictory) => Body::Unknown,
        (Coding::None, Length::Bytes(length)) => Body::Length(length),
        (Coding::None, Length::Undeclared) => Body::Length(0),
    };
    let shown = fields.authorization.or(fields.proxy_login);
    let (way, secret) = match (shown, fields.key) {
        (Some(value), _) => (Some(scheme(value)), mark(value)),
        (None, Some(key)) => (Some(KEY), Some(SecretMark::of(key))),
        (None, None) => (None, None),
    };
    let transaction = HttpRequest {
        method: text(method, MAX_METHOD),
        // RFC 9112 3.2.2: an authority in the target overrides the header.
        host: target.authority.or(fields.host).and_then(host),
        // Such a target is for a proxy, whose own port it doesn't name.
        host_port: fields
            .host
            .filter(|_| target.authority.is_none())
            .and_then(port),
        path: text(target.path, MAX_TEXT),
        target_len: u32::try_from(target.len).unwrap_or(u32::MAX),
        for_proxy: target.authority.is_some() && asks != Asks::Connect,
        user_agent: fields.user_agent.map(|agent| text(agent, MAX_TEXT)),
        content_length: fields.length.declared(),
        upgrade: fields
            .upgrade
            .map(|protocol| lower_text(protocol, MAX_TEXT)),
        authorization: way,
        forwarded: fields.forwarded,
        tool,
        secret,
        injection: if database.as_ref().is_some_and(|ask| ask.is_certain()) {
            Marks::empty()
        } else {
            parameter_marks(parameters, web_database::decoded)
        },
    };
    Some(RequestHead {
        opening: opening(&transaction, asks, &fields),
        database,
        asked: in_query(parameters),
        declared: Declared::of(fields.content_type, fields.content_encoding),
        request: transaction,
        asks,
        body,
    })
}

/// The tunnel that a request gives away: GNU httptunnel's query, reGeorg's commands in query or header.
fn tool(target: &[u8], command: Option<&[u8]>) -> Option<&'static str> {
    let (_, query) = split_at_byte(target, b'?')?;
    let parts = || query.split(|byte| *byte == b'&');
    let number = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if query.strip_prefix(b"crap=").is_some_and(number) {
        return Some("httptunnel");
    }
    let commands: [&[u8]; 4] = [b"connect", b"read", b"forward", b"disconnect"];
    let known = |value: &[u8]| {
        commands
            .iter()
            .any(|command| value.trim_ascii().eq_ignore_ascii_case(command))
    };
    let asked = parts().find_map(|part| part.strip_prefix(b"cmd="));
    (asked.is_some_and(known)
        && (command.is_some_and(known) || parts().any(|part| part.starts_with(b"target="))))
    .then_some("reGeorg")
}

/// What a request would make of the connection, if the server agrees.
fn opening(request: &HttpRequest, asks: Asks, fields: &Fields<'_>) -> Option<Box<TunnelOpened>> {
    let connect = asks == Asks::Connect;
    if !connect && request.upgrade.is_none() {
        return None;
    }
    let offered = fields.subprotocol.unwrap_or_default();
    Some(Box::new(TunnelOpened {
        carrier: match request.upgrade.as_deref() {
            _ if connect => "connect",
            Some(websocket::CARRIER) => websocket::CARRIER,
            _ => "upgrade",
        },
        target: connect.then(|| Arc::clone(&request.path)),
        host: request.host.clone(),
        path: (!connect).then(|| Arc::clone(&request.path)),
        user_agent: request.user_agent.clone(),
        protocol: request.upgrade.clone(),
        subprotocol: offered.split(|byte| *byte == b',').find_map(plain_name),
        bears_token: offered
            .split(|byte| *byte == b',')
            .any(|name| !name.trim_ascii().is_empty() && plain_name(name).is_none()),
        login: fields.proxy_login.is_some() || !connect && fields.authorization.is_some(),
    }))
}

/// A subprotocol that reads like a name. Clients put tokens among them, which have long runs of letters and digits.
fn plain_name(name: &[u8]) -> Option<Arc<str>> {
    let name = name.trim_ascii();
    let token_like = name
        .split(|byte| !byte.is_ascii_alphanumeric())
        .any(|run| run.len() > MAX_RUN);
    let digits = name.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = (1..=MAX_SUBPROTOCOL).contains(&name.len()) && digits <= MAX_DIGITS && !token_like;
    plain.then(|| text(name, MAX_SUBPROTOCOL))
}

/// How one shows who one is by a key that one was given, in whatever header.
const KEY: &str = "key";

/// A mark of what an `Authorization` header shows, where the same comes again from who has no other.
fn mark(value: &[u8]) -> Option<SecretMark> {
    match scheme(value) {
        "basic" | KEY => Some(SecretMark::of(value)),
        "bearer" if value.contains(&b' ') => Some(SecretMark::of(lasting(value))),
        _ => None,
    }
}

/// What of a token stays the same when a program gets a new one: of a signed or encrypted token (JWT, RFC 7519) its header,
/// which names the algorithm and the key; of any other, all there is.
fn lasting(token: &[u8]) -> &[u8] {
    let mut parts = token.split(|byte| *byte == b'.');
    let (header, more) = (parts.next(), parts.count());
    // `{"` in base64.
    let signed =
        |header: &&[u8]| matches!(more, 2 | 4) && header.windows(4).any(|part| part == b" eyJ");
    header.filter(signed).unwrap_or(token)
}

/// The scheme of an `Authorization` header; never what follows it.
fn scheme(value: &[u8]) -> &'static str {
    let name = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known: [(&[u8], &str); 8] = [
        (b"basic", "basic"),
        (b"bearer", "bearer"),
        (b"token", KEY),
        (b"apikey", KEY),
        (b"digest", "digest"),
        (b"negotiate", "negotiate"),
        (b"ntlm", "ntlm"),
        (b"aws4-hmac-sha256", "aws"),
    ];
    known
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map_or("other", |(_, name)| name)
}

/// Reads a response's head, which must be complete.
pub(super) fn response(head: &[u8]) -> Option<ResponseHead> {
    let mut response = Response::new(&mut []);
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let parsed = lenient().parse_response_with_uninit_headers(&mut response, head, &mut headers);
    let (Ok(Status::Complete(_)), Some(status)) = (parsed, response.code) else {
        return None;
    };
    let fields = Fields::gather(response.headers);
    let body = match (fields.coding, fields.length) {
        (Coding::Chunked, _) => Body::Chunked,
        (Coding::Other, _) | (_, Length::Undeclared) => Body::ToEnd,
        (_, Length::Contradictory) => Body::Unknown,
        (_, Length::Bytes(length)) => Body::Length(length),
    };
    let transaction = HttpResponse {
        status,
        server: fields.server.map(|server| text(server, MAX_TEXT)),
        content_length: fields.length.declared(),
        content_type: fields.content_type.map(media_type),
        asked: None,
        to_login: false,
    };
    Some(ResponseHead {
        declared: Declared::of(fields.content_type, fields.content_encoding),
        response: transaction,
        body,
        upgrade: fields
            .upgrade
            .map(|protocol| lower_text(protocol, MAX_TEXT)),
        subprotocol: fields.subprotocol.and_then(plain_name),
        clickhouse: fields.clickhouse.then(|| web_database::ClickHouseAnswer {
            exception: fields.exception.map(|code| text(code, MAX_CODE)),
        }),
    })
}

/// The parts of a request line that matter.
#[derive(Clone, Copy)]
struct Line<'a> {
    method: &'a [u8],
    target: &'a [u8],
}

/// A request line whose target has spaces or stray bytes in it, and the rest of the head. No client should send such a
/// line; exploits do, and servers take it.
fn odd_line(head: &[u8]) -> Option<(Line<'_>, &[u8])> {
    let head = trim_blank_lines(head);
    let (line, fields) = split_at_byte(head, b'\n')?;
    let (method, rest) = split_at_byte(line, b' ')?;
    let version_at = rest.windows(8).rposition(|part| part == b" HTTP/1.")?;
    let target = rest.get(..version_at)?.trim_ascii();
    let whole = !target.is_empty() && method.iter().copied().all(is_token);
    whole.then_some((Line { method, target }, fields))
}

/// What may stand in a method (RFC 9110 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Blank lines before a message are to be ignored (RFC 9112 2.2).
pub(super) fn trim_blank_lines(data: &[u8]) -> &[u8] {
    let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start
        .and_then(|start| data.get(start..))
        .unwrap_or_default()
}

/// What stands before and after the first `byte`.
fn split_at_byte(data: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|other| *other == byte)?;
    let (before, after) = data.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

/// Reads what common clients and servers let pass: what they understand must not blind us.
fn lenient() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// What `Content-Length` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    Undeclared,
    Bytes(u64),
    /// Not a number, or several that differ.
    Contradictory,
}

impl Length {
    /// With one more value of the header; a list of equal values counts as one (RFC 9110 8.6).
    fn and(self, value: &[u8]) -> Self {
        value
            .split(|byte| *byte == b',')
            .fold(self, |so_far, value| {
                let digits = value.trim_ascii();
                let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                match (so_far, number) {
                    (Self::Undeclared, Some(bytes)) if plain => Self::Bytes(bytes),
                    (Self::Bytes(before), Some(bytes)) if plain && before == bytes => so_far,
                    _ => Self::Contradictory,
                }
            })
    }

    const fn declared(self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Undeclared | Self::Contradictory => None,
        }
    }
}

/// What `Transfer-Encoding` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    None,
    /// Chunks are the outermost coding.
    Chunked,
    Other,
}

impl Coding {
    fn of(value: &[u8]) -> Self {
        let last = value
            .rsplit(|byte| *byte == b',')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if last.eq_ignore_ascii_case(b"chunked") {
            Self::Chunked
        } else if last.eq_ignore_ascii_case(b"identity") {
            Self::None
        } else {
            Self::Other
        }
    }
}

/// How ClickHouse's own headers begin.
const CLICKHOUSE: &str = "x-clickhouse-";

/// The headers that matter, the first of each name.
struct Fields<'a> {
    host: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    proxy_login: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    subprotocol: Option<&'a [u8]>,
    clickhouse_user: Option<&'a [u8]>,
    /// Whether any header bears ClickHouse's name.
    clickhouse: bool,
    exception: Option<&'a [u8]>,
    command: Option<&'a [u8]>,
    /// Whether a proxy says on whose behalf it asks.
    forwarded: bool,
    length: Length,
    coding: Coding,
}

impl<'a> Fields<'a> {
    fn gather(headers: &[Header<'a>]) -> Self {
        let mut fields = Self {
            host: None,
            user_agent: None,
            upgrade: None,
            server: None,
            content_type: None,
            content_encoding: None,
            command: None,
            authorization: None,
            proxy_login: None,
            key: None,
            subprotocol: None,
            clickhouse_user: None,
            clickhouse: false,
            exception: None,
            forwarded: false,
            length: Length::Undeclared,
            coding: Coding::None,
        };
        for Header { name, value } in headers {
            let prefix = name.get(..CLICKHOUSE.len());
            fields.clickhouse |= prefix.is_some_and(|of| of.eq_ignore_ascii_case(CLICKHOUSE));
            let first = if name.eq_ignore_ascii_case("host") {
                &mut fields.host
            } else if name.eq_ignore_ascii_case("user-agent") {
                &mut fields.user_agent
            } else if name.eq_ignore_ascii_case("upgrade") {
                &mut fields.upgrade
            } else if name.eq_ignore_ascii_case("server") {
                &mut fields.server
            } else if name.eq_ignore_ascii_case("content-type") {
                &mut fields.content_type
            } else if name.eq_ignore_ascii_case("content-encoding") {
                &mut fields.content_encoding
            } else if name.eq_ignore_ascii_case("x-cmd") {
                &mut fields.command
            } else if name.eq_ignore_ascii_case("authorization") {
                &mut fields.authorization
            } else if name.eq_ignore_ascii_case("proxy-authorization") {
                &mut fields.proxy_login
            } else if KEYS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                &mut fields.key
            } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                &mut fields.subprotocol
            } else if name.eq_ignore_ascii_case("x-clickhouse-user") {
                &mut fields.clickhouse_user
            } else if name.eq_ignore_ascii_case("x-clickhouse-exception-code") {
                &mut fields.exception
            } else {
                if name.eq_ignore_ascii_case("content-length") {
                    fields.length = fields.length.and(value);
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    fields.coding = Coding::of(value);
                } else {
                    let says = |known: &&str| name.eq_ignore_ascii_case(known);
                    fields.forwarded |= FORWARDS.iter().any(says);
                }
                continue;
            };
            first.get_or_insert(value);
        }
        fields
    }
}

/// A request target (RFC 9112 3.2) in its parts.
struct Target<'a> {
    authority: Option<&'a [u8]>,
    /// Without the query; what CONNECT asks for stands here whole, for its port matters.
    path: &'a [u8],
    len: usize,
}

impl<'a> Target<'a> {
    fn split(target: &'a [u8], asks: Asks) -> Self {
        let scheme_end = target.windows(3).position(|part| part == b"://");
        let scheme = scheme_end.and_then(|end| target.get(..end));
        let rest = scheme_end.and_then(|end| target.get(end.saturating_add(3)..));
        let (authority, path) = match (scheme, rest) {
            _ if asks == Asks::Connect => (Some(target), without_userinfo(target)),
            (Some(scheme), Some(rest)) if scheme.iter().all(u8::is_ascii_alphanumeric) => {
                let end = rest.iter().position(|byte| b"/?#".contains(byte));
                let end = end.unwrap_or(rest.len());
                let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, b""));
                let path = if path.starts_with(b"/") { path } else { b"/" };
                (Some(authority), path)
            }
            _ => (None, target),
        };
        Self {
            authority,
            path: path.split(|byte| *byte == b'?').next().unwrap_or_default(),
            len: target.len(),
        }
    }
}

/// An authority without the name and password that may stand before it.
fn without_userinfo(authority: &[u8]) -> &[u8] {
    authority
        .rsplit(|byte| *byte == b'@')
        .next()
        .unwrap_or_default()
}

/// The host of an authority: lower-case, without port, userinfo, and an IPv6 address's brackets.
fn host(authority: &[u8]) -> Option<Arc<str>> {
    let authority = without_userinfo(authority).trim_ascii();
    let host = match authority.strip_prefix(b"[") {
        Some(address) => address.split(|byte| *byte == b']').next()?,
        None => authority.split(|byte| *byte == b':').next()?,
    };
    (!host.is_empty()).then(|| lower_text(host, MAX_HOST))
}

/// The port of an authority, if it names one.
fn port(authority: &[u8]) -> Option<u16> {
    let at = authority.iter().rposition(|byte| *byte == b':')?;
    let port = authority.get(at.saturating_add(1)..)?;
    std::str::from_utf8(port.trim_ascii()).ok()?.parse().ok()
}

fn media_type(value: &[u8]) -> Arc<str> {
    let end = value.iter().position(|byte| matches!(byte, b';' | b','));
    let value = end.and_then(|end| value.get(..end)).unwrap_or(value);
    lower_text(value.trim_ascii(), MAX_TEXT)
}
