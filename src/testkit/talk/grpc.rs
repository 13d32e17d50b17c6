//! gRPC over clear-text HTTP/2 (RFC 9113), as much of it as one unary call takes.

use std::time::Duration;

use super::http::prose;
use super::tcp::Session;
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Both ends tell their settings.
pub fn begin(scene: &mut Scene, session: &mut Session) {
    let mine = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let theirs = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
    session.ask(scene, &mine, Duration::from_micros(300), &theirs);
}

/// The `number`-th call of a connection, from 0: `asked` and `answered` bytes of message.
pub fn call(
    scene: &mut Scene,
    session: &mut Session,
    number: u32,
    path: &str,
    (asked, answered): (usize, usize),
) {
    let stream = number * 2 + 1;
    let mut head = vec![0x83, 0x86]; // :method POST, :scheme http
    head.extend(literal(0x44, path)); // :path
    head.extend(literal(0x41, "inventory.shop:50051")); // :authority
    head.extend(literal(0x5f, "application/grpc")); // content-type
    let question = [
        frame(HEADERS, END_HEADERS, stream, &head),
        frame(
            DATA,
            END_STREAM,
            stream,
            &framed(&message(&mut scene.rng, asked)),
        ),
    ]
    .concat();
    let mut head = vec![0x88]; // :status 200
    head.extend(literal(0x5f, "application/grpc"));
    let mut trailer = vec![0x40]; // a name of its own
    trailer.extend(text("grpc-status"));
    trailer.extend(text("0"));
    let answer = [
        frame(HEADERS, END_HEADERS, stream, &head),
        frame(DATA, 0, stream, &framed(&message(&mut scene.rng, answered))),
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailer),
    ]
    .concat();
    session.ask(scene, &question, Duration::from_millis(2), &answer);
}

/// A header whose name is in HPACK's static table, with a value written out (RFC 7541 6.2.1).
fn literal(index: u8, value: &str) -> Vec<u8> {
    [&[index], text(value).as_slice()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

/// A message of about `len` bytes, up to 127: one string, as field 1.
fn message(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut text = prose(rng, len.min(115));
    text.truncate(127);
    [&[0x0a, text.len() as u8], text.as_bytes()].concat()
}

/// gRPC's own prefix: not compressed, length.
fn framed(message: &[u8]) -> Vec<u8> {
    [
        &[0],
        (message.len() as u32).to_be_bytes().as_slice(),
        message,
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}
