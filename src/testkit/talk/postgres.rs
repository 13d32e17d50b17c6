//! PostgreSQL's protocol 3.0: log-in with SCRAM, queries, results, errors.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::http::prose;
use super::tcp::{Session, Side};
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;

/// The port.
pub const PORT: u16 = 5432;

const PROTOCOL_3_0: i32 = 196_608;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;
const TEXT_TYPE: i32 = 25;

/// Who logs in where.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// User.
    pub user: &'a str,
    /// Database.
    pub database: &'a str,
    /// What the client calls itself.
    pub application: &'a str,
}

/// Logs in; with a wrong password the server says so. True if it may go on.
pub fn log_in(scene: &mut Scene, session: &mut Session, login: &Login<'_>, right: bool) -> bool {
    let startup = startup(login);
    let offer = message(b'R', &[&SASL.to_be_bytes(), b"SCRAM-SHA-256\0\0"]);
    session.ask(scene, &startup, Duration::from_micros(400), &offer);

    let (client_nonce, server_nonce) = (token(&mut scene.rng, 18), token(&mut scene.rng, 18));
    let first = format!("n,,n=,r={client_nonce}");
    let len = (first.len() as i32).to_be_bytes();
    let initial = message(b'p', &[b"SCRAM-SHA-256\0", &len, first.as_bytes()]);
    let salt = token(&mut scene.rng, 16);
    let challenge = format!("r={client_nonce}{server_nonce},s={salt},i=4096");
    let challenge = message(b'R', &[&SASL_CONTINUE.to_be_bytes(), challenge.as_bytes()]);
    session.ask(scene, &initial, Duration::from_micros(300), &challenge);

    let proof = token(&mut scene.rng, 32);
    let proof = format!("c=biws,r={client_nonce}{server_nonce},p={proof}");
    let proof = message(b'p', &[proof.as_bytes()]);
    if !right {
        let text = format!("password authentication failed for user \"{}\"", login.user);
        let refusal = error("FATAL", "28P01", &text);
        session.ask(scene, &proof, Duration::from_millis(2), &refusal);
        return false;
    }
    let verifier = format!("v={}", token(&mut scene.rng, 32));
    let mut welcome = message(b'R', &[&SASL_FINAL.to_be_bytes(), verifier.as_bytes()]);
    welcome.extend(message(b'R', &[&0_i32.to_be_bytes()]));
    for (name, value) in [
        ("server_version", "16.4"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "Etc/UTC"),
    ] {
        welcome.extend(message(
            b'S',
            &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"],
        ));
    }
    welcome.extend(message(b'K', &[&scene.rng.array::<8>()]));
    welcome.extend(ready());
    session.ask(scene, &proof, Duration::from_millis(2), &welcome);
    true
}

/// A query that gives `rows` rows of about `width` bytes.
pub fn query(scene: &mut Scene, session: &mut Session, sql: &str, rows: usize, width: usize) {
    let question = message(b'Q', &[sql.as_bytes(), b"\0"]);
    let answer = result(&mut scene.rng, rows, width);
    session.ask(scene, &question, Duration::from_millis(1), &answer);
}

/// A query that the server refuses with an error.
pub fn fail(scene: &mut Scene, session: &mut Session, sql: &str, code: &str, text: &str) {
    let question = message(b'Q', &[sql.as_bytes(), b"\0"]);
    let answer = [error("ERROR", code, text), ready()].concat();
    session.ask(scene, &question, Duration::from_millis(1), &answer);
}

/// Copies a whole table out, `len` bytes of it.
pub fn copy_out(scene: &mut Scene, session: &mut Session, table: &str, len: usize) {
    let sql = format!("COPY {table} TO STDOUT");
    let question = message(b'Q', &[sql.as_bytes(), b"\0"]);
    let mut answer = message(b'H', &[&[0, 0, 1, 0, 0]]);
    let mut rows = 0;
    while answer.len() < len {
        let row = prose(&mut scene.rng, 900);
        answer.extend(message(b'd', &[row.as_bytes(), b"\n"]));
        rows += 1;
    }
    answer.extend(message(b'c', &[]));
    answer.extend(message(b'C', &[format!("COPY {rows}\0").as_bytes()]));
    answer.extend(ready());
    session.ask(scene, &question, Duration::from_millis(3), &answer);
}

/// Says goodbye and closes.
pub fn leave(scene: &mut Scene, mut session: Session) -> crate::time::Timestamp {
    session.say(scene, Side::Client, &message(b'X', &[]));
    session.close(scene, Side::Client)
}

/// The first message of a client.
pub fn startup(login: &Login<'_>) -> Vec<u8> {
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    for (name, value) in [
        ("user", login.user),
        ("database", login.database),
        ("application_name", login.application),
    ] {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    [&length(body.len()), body.as_slice()].concat()
}

/// Rows with an id and a value of about `width` bytes, and that the server is ready.
pub fn result(rng: &mut Rng, rows: usize, width: usize) -> Vec<u8> {
    let columns = ["id", "value"];
    let mut fields = (columns.len() as i16).to_be_bytes().to_vec();
    for name in columns {
        fields.extend_from_slice(name.as_bytes());
        fields.push(0);
        fields.extend_from_slice(&[0; 6]);
        fields.extend_from_slice(&TEXT_TYPE.to_be_bytes());
        fields.extend_from_slice(&(-1_i16).to_be_bytes());
        fields.extend_from_slice(&(-1_i32).to_be_bytes());
        fields.extend_from_slice(&[0; 2]);
    }
    let mut out = message(b'T', &[&fields]);
    for _ in 0..rows {
        let values = [rng.below(1_000_000).to_string(), prose(rng, width)];
        let mut row = (values.len() as i16).to_be_bytes().to_vec();
        for value in values {
            row.extend_from_slice(&(value.len() as i32).to_be_bytes());
            row.extend_from_slice(value.as_bytes());
        }
        out.extend(message(b'D', &[&row]));
    }
    out.extend(message(b'C', &[format!("SELECT {rows}\0").as_bytes()]));
    out.extend(ready());
    out
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0");
    message(b'E', &[body.as_bytes()])
}

/// The server waits for a query.
pub fn ready() -> Vec<u8> {
    message(b'Z', &[b"I"])
}

/// A message of a kind.
pub fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[kind], length(body.len()).as_slice(), &body].concat()
}

/// A length counts itself.
fn length(body: usize) -> [u8; 4] {
    (body as i32 + 4).to_be_bytes()
}

fn token(rng: &mut Rng, len: usize) -> String {
    STANDARD.encode(rng.bytes(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another_without_a_gap() {
        let bytes = result(&mut Rng::new(1), 3, 40);
        let mut kinds = Vec::new();
        let mut rest = bytes.as_slice();
        while let [kind, a, b, c, d, ..] = rest {
            let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            kinds.push(*kind);
            rest = &rest[1 + len..];
        }
        assert_eq!(kinds, b"TDDDCZ");
        assert!(rest.is_empty());
    }

    #[test]
    fn startup_counts_its_own_length() {
        let login = Login {
            user: "shop",
            database: "orders",
            application: "api",
        };
        let bytes = startup(&login);
        assert_eq!(bytes[..4], (bytes.len() as u32).to_be_bytes());
        assert!(bytes.ends_with(b"application_name\0api\0\0"));
    }
}
