//! MySQL's client/server protocol, version 10, with native passwords: greeting, log-in, queries, errors.

use std::time::Duration;

use super::http::prose;
use super::tcp::{Session, Side};
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;

/// The port.
pub const PORT: u16 = 3306;

/// Long password, connect with database, protocol 4.1, transactions, secure connection, plug-in authentication.
const CAPABILITIES: u32 = 0x0008_a209;
const UTF8: u8 = 33;
const AUTOCOMMIT: u16 = 2;
const PLUGIN: &[u8] = b"mysql_native_password\0";
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const TYPE_VAR_STRING: u8 = 0xfd;

/// The server greets; the client logs in. True if it may go on.
pub fn log_in(
    scene: &mut Scene,
    session: &mut Session,
    user: &str,
    database: &str,
    right: bool,
) -> bool {
    greet(scene, session);
    let mut body = CAPABILITIES.to_le_bytes().to_vec();
    body.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    body.push(UTF8);
    body.extend_from_slice(&[0; 23]);
    body.extend_from_slice(user.as_bytes());
    body.push(0);
    body.push(20);
    body.extend(scene.rng.array::<20>());
    body.extend_from_slice(database.as_bytes());
    body.push(0);
    body.extend_from_slice(PLUGIN);
    let answer = if right {
        ok()
    } else {
        let ip = session.route().client.ip;
        error(
            1045,
            "28000",
            &format!("Access denied for user '{user}'@'{ip}' (using password: YES)"),
        )
    };
    session.ask(
        scene,
        &packet(1, &body),
        Duration::from_micros(600),
        &packet(2, &answer),
    );
    right
}

/// The server's greeting, which every client gets to read.
pub fn greet(scene: &mut Scene, session: &mut Session) {
    let mut body = vec![10];
    body.extend_from_slice(b"5.7.44-log\0");
    body.extend_from_slice(&(scene.rng.below(90_000) as u32).to_le_bytes());
    body.extend(salt(&mut scene.rng, 8));
    body.push(0);
    let [a, b, c, d] = CAPABILITIES.to_le_bytes();
    body.extend([a, b, UTF8]);
    body.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
    body.extend([c, d, 21]);
    body.extend_from_slice(&[0; 10]);
    body.extend(salt(&mut scene.rng, 12));
    body.push(0);
    body.extend_from_slice(PLUGIN);
    session.say(scene, Side::Server, &packet(0, &body));
}

/// A query that gives `rows` rows of about `width` bytes.
pub fn query(scene: &mut Scene, session: &mut Session, sql: &str, rows: usize, width: usize) {
    let question = [&[COM_QUERY], sql.as_bytes()].concat();
    let answer = result(&mut scene.rng, rows, width);
    session.ask(
        scene,
        &packet(0, &question),
        Duration::from_millis(1),
        &answer,
    );
}

/// A query that the server refuses with an error.
pub fn fail(scene: &mut Scene, session: &mut Session, sql: &str, code: u16, text: &str) {
    let question = [&[COM_QUERY], sql.as_bytes()].concat();
    let answer = packet(1, &error(code, "42000", text));
    session.ask(
        scene,
        &packet(0, &question),
        Duration::from_millis(1),
        &answer,
    );
}

/// Says goodbye and closes.
pub fn leave(scene: &mut Scene, mut session: Session) -> crate::time::Timestamp {
    session.say(scene, Side::Client, &packet(0, &[COM_QUIT]));
    session.close(scene, Side::Client)
}

fn result(rng: &mut Rng, rows: usize, width: usize) -> Vec<u8> {
    let mut column = Vec::new();
    for text in ["def", "shop", "t", "t", "value", "value"] {
        column.extend(counted(text));
    }
    column.push(0x0c);
    column.extend_from_slice(&u16::from(UTF8).to_le_bytes());
    column.extend_from_slice(&765_u32.to_le_bytes());
    column.extend([TYPE_VAR_STRING, 0, 0, 0, 0, 0]);
    let mut packets = vec![vec![1], column, end()];
    packets.extend((0..rows).map(|_| counted(&prose(rng, width.min(200)))));
    packets.push(end());
    (1_u8..)
        .zip(packets)
        .flat_map(|(number, body)| packet(number, &body))
        .collect()
}

fn ok() -> Vec<u8> {
    vec![0, 0, 0, AUTOCOMMIT as u8, 0, 0, 0]
}

fn end() -> Vec<u8> {
    vec![0xfe, 0, 0, AUTOCOMMIT as u8, 0]
}

fn error(code: u16, state: &str, text: &str) -> Vec<u8> {
    [
        &[0xff],
        code.to_le_bytes().as_slice(),
        b"#",
        state.as_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

/// A string of fewer than 251 bytes with its length.
fn counted(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    [&[a, b, c, number], body].concat()
}

/// Random bytes of a challenge; never zero, for a zero ends them.
fn salt(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.within(1..128) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_a_result_are_numbered() {
        let bytes = result(&mut Rng::new(1), 2, 30);
        let mut numbers = Vec::new();
        let mut rest = bytes.as_slice();
        while let [a, b, c, number, ..] = rest {
            numbers.push(*number);
            rest = &rest[4 + u32::from_le_bytes([*a, *b, *c, 0]) as usize..];
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }
}
